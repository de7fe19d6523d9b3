//! `TupleService`: WriteTuples, ReadTuples, DeleteTuples.

use super::convert::{self, Place};
use super::desk::{Desk, Lane};
use super::door::Deadline;
use super::limits::{PAGE_ROWS, STREAM_ROWS};
use super::status::Failure;
use super::wire::{self, tuple_service_server::TupleService};
use crate::engine::{DeleteTuples, Deleted, ReadTuples, TupleReader, TupleRow, WriteTuples};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

pub(super) struct Tuples(pub(super) Arc<Desk>);

#[tonic::async_trait]
impl TupleService for Tuples {
    async fn write_tuples(
        &self,
        request: Request<wire::WriteTuplesRequest>,
    ) -> Result<Response<wire::WriteTuplesResponse>, Status> {
        let limits = self.0.limits().clone();
        let written = self.0.run(Lane::Write, move |engine, _| {
            let wire::WriteTuplesRequest { updates, preconditions, metadata } = request.into_inner();
            let revision = engine.write_tuples(WriteTuples {
                updates: convert::updates(updates, &limits)?,
                preconditions: convert::preconditions(preconditions, &limits)?,
                metadata: convert::metadata(metadata, &limits)?,
            })?;
            Ok(wire::WriteTuplesResponse { written_at: Some(engine.token(revision).into()) })
        });
        Ok(Response::new(written.await?))
    }

    async fn delete_tuples(
        &self,
        request: Request<wire::DeleteTuplesRequest>,
    ) -> Result<Response<wire::DeleteTuplesResponse>, Status> {
        let limits = self.0.limits().clone();
        let deleted = self.0.run(Lane::Write, move |engine, _| {
            let wire::DeleteTuplesRequest { filter, preconditions, metadata } = request.into_inner();
            let Deleted { revision, count } = engine.delete_tuples(DeleteTuples {
                filter: convert::deleting_filter(convert::field("filter"), filter)?,
                preconditions: convert::preconditions(preconditions, &limits)?,
                metadata: convert::metadata(metadata, &limits)?,
            })?;
            Ok(wire::DeleteTuplesResponse { deleted_at: Some(engine.token(revision).into()), deleted_count: count })
        });
        Ok(Response::new(deleted.await?))
    }

    type ReadTuplesStream = Rows;

    async fn read_tuples(&self, request: Request<wire::ReadTuplesRequest>) -> Result<Response<Rows>, Status> {
        let deadline = request.extensions().get::<Deadline>().map(|deadline| deadline.0);
        let deadline = deadline.ok_or_else(|| Failure::internal("a request without a deadline"))?;
        let wire::ReadTuplesRequest { consistency, filter, cursor, limit } = request.into_inner();
        let limit = convert::row_limit(limit, self.0.limits())?;
        let read = ReadTuples {
            filter: convert::filter(Place::Field(&Place::Message, "filter"), filter)?,
            consistency: convert::consistency(consistency)?,
            cursor: convert::not_empty("cursor", cursor)?,
        };
        let opened = self.0.run(Lane::Read, move |engine, _| {
            let reader = engine.read_tuples(read)?;
            let read_at = engine.token(reader.revision());
            Ok((reader, read_at))
        });
        let (reader, read_at) = opened.await?;
        let (rows, stream) = mpsc::channel(STREAM_ROWS);
        let first = wire::ReadTuplesResponse { read_at: Some(read_at.into()), tuple: None, cursor: String::new() };
        let desk = Arc::clone(&self.0);
        tokio::spawn(async move {
            let sending = async {
                if rows.send(Row::Message(first)).await.is_ok() {
                    let end = send_rows(&desk, reader, limit, &rows).await;
                    // Nobody hears it when the caller is gone.
                    let _ = rows.send(Row::End(end)).await;
                }
            };
            // Past the deadline the channel closes without an end, and the stream says so.
            let _ = tokio::time::timeout_at(deadline, sending).await;
        });
        Ok(Response::new(Rows { rows: stream, deadline, ended: false }))
    }
}

/// Sends all rows, or as many as asked for; stops early when the caller is gone. No thread is held while a slow caller
/// reads: the reader goes to one and comes back for each page.
async fn send_rows(
    desk: &Desk,
    mut reader: TupleReader,
    limit: Option<usize>,
    rows: &mpsc::Sender<Row>,
) -> Result<(), Failure> {
    let mut left = limit.unwrap_or(usize::MAX);
    // Bounded: each page has rows, or is the last.
    while left > 0 {
        let count = left.min(PAGE_ROWS);
        let (back, page) = desk
            .run(Lane::Read, move |_, _| {
                let page = reader.next_page(count)?;
                Ok((reader, page))
            })
            .await?;
        reader = back;
        if page.is_empty() {
            return Ok(());
        }
        for TupleRow { tuple, cursor } in page.into_iter().take(left) {
            left -= 1;
            let message = wire::ReadTuplesResponse { read_at: None, tuple: Some((&tuple).into()), cursor };
            if rows.send(Row::Message(message)).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// What goes through the channel of a stream.
enum Row {
    Message(wire::ReadTuplesResponse),
    /// There is no more, or there was an error.
    End(Result<(), Failure>),
}

/// The rows of a stream.
///
/// INVARIANT: it ends well only after `Row::End(Ok)`: a stream that was cut off is never taken for a whole one.
pub(super) struct Rows {
    rows: mpsc::Receiver<Row>,
    deadline: Instant,
    ended: bool,
}

impl Stream for Rows {
    type Item = Result<wire::ReadTuplesResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let end = match ready!(self.rows.poll_recv(cx)) {
            Some(Row::Message(message)) => return Poll::Ready(Some(Ok(message))),
            Some(Row::End(end)) => end,
            None if Instant::now() >= self.deadline => Err(Failure::deadline()),
            None => Err(Failure::internal("a stream was cut off")),
        };
        self.ended = true;
        Poll::Ready(end.err().map(|failure| Err(failure.into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio_stream::StreamExt;
    use tonic::Code;

    /// The codes of a stream fed with these rows whose sender is then gone.
    async fn heard(sent: Vec<Row>, deadline: Instant) -> Vec<Code> {
        let (rows, stream) = mpsc::channel(8);
        for row in sent {
            assert!(rows.send(row).await.is_ok());
        }
        drop(rows);
        let stream = Rows { rows: stream, deadline, ended: false };
        stream.map(|item| item.err().map_or(Code::Ok, |status| status.code())).collect().await
    }

    #[tokio::test]
    async fn a_stream_that_was_cut_off_is_never_taken_for_a_whole_one() {
        let row = || Row::Message(wire::ReadTuplesResponse::default());
        let (past, later) = (Instant::now(), Instant::now() + Duration::from_secs(60));
        assert_eq!(heard(vec![row(), Row::End(Ok(()))], later).await, [Code::Ok]);
        assert_eq!(heard(vec![row(), Row::End(Err(Failure::draining()))], later).await, [Code::Ok, Code::Unavailable]);
        assert_eq!(heard(vec![row()], past).await, [Code::Ok, Code::DeadlineExceeded]);
        assert_eq!(heard(vec![], later).await, [Code::Internal]);
    }
}
