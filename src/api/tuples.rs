//! `TupleService`: WriteTuples, ReadTuples, DeleteTuples, DeleteSubtree, ReplaceSubjects, ImportTuples, ExportTuples.

use super::convert::{self, Place, Refusal};
use super::desk::{Desk, Lane};
use super::door::{CallersDeadline, Deadline};
use super::limits::{
    EXPORT_ROW_BYTES, EXPORT_ROWS, IMPORT_ACKS, IMPORT_IDLE_MAX, PAGE_ROWS, STREAM_BATCHES, STREAM_ROWS,
};
use super::status::{self, Failure};
use super::stream::{Told, told, within};
use super::wire::{self, tuple_service_server::TupleService};
use crate::engine::{
    DeleteSubtree, DeleteTuples, Deleted, Engine, ExportBatch, ExportTuples, ImportBatch, ImportMode, Imported,
    Metadata, ReadTuples, Replaced, TupleExporter, TupleReader, TupleRow, WriteTuples, Written,
};
use crate::model::{Cancel, Limits, RelationTuple};
use prost::Message as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::Stream;
use tonic::{Code, Request, Response, Status, Streaming};

pub(super) struct Tuples(pub(super) Arc<Desk>);

#[tonic::async_trait]
impl TupleService for Tuples {
    async fn write_tuples(
        &self,
        request: Request<wire::WriteTuplesRequest>,
    ) -> Result<Response<wire::WriteTuplesResponse>, Status> {
        let limits = self.0.limits().clone();
        let message = request.into_inner();
        let Written { revision, created, replaced, deleted } = if message.encoded_len() > WRITE_AT_ONCE_BYTES {
            let work = move |engine: &Engine, _: &Cancel| Ok(engine.write_tuples_counted(writing(message, &limits)?)?);
            self.0.run(Lane::Write, work).await?
        } else {
            // It is read here and now, and no thread waits for its commit.
            let writing = writing(message, &limits)?;
            let begun = writing.clone();
            match self.0.begin(|engine, done| engine.write_tuples_then(begun, done)).await? {
                Err(error) if error.is_to_begin_anew() => {
                    self.0.run(Lane::Write, move |engine, _| Ok(engine.write_tuples_counted(writing)?)).await?
                }
                outcome => outcome.map_err(Failure::from)?,
            }
        };
        Ok(Response::new(wire::WriteTuplesResponse {
            written_at: Some(self.0.token(revision).into()),
            created_count: created,
            replaced_count: replaced,
            deleted_count: deleted,
        }))
    }

    async fn delete_tuples(
        &self,
        request: Request<wire::DeleteTuplesRequest>,
    ) -> Result<Response<wire::DeleteTuplesResponse>, Status> {
        let limits = self.0.limits().clone();
        let wire::DeleteTuplesRequest { filter, preconditions, metadata, dry_run, limit } = request.into_inner();
        let deleted = self.0.run(deleting(dry_run), move |engine, _| {
            let Deleted { revision, count, more } = engine.delete_tuples(DeleteTuples {
                filter: convert::deleting_filter(convert::field("filter"), filter)?,
                preconditions: convert::preconditions(preconditions, &limits)?,
                metadata: convert::metadata(metadata, &limits)?,
                dry_run,
                limit: limit.map(|limit| limit as usize),
            })?;
            let deleted_at = Some(engine.token(revision).into());
            Ok(wire::DeleteTuplesResponse { deleted_at, deleted_count: count, more })
        });
        Ok(Response::new(deleted.await?))
    }

    async fn delete_subtree(
        &self,
        request: Request<wire::DeleteSubtreeRequest>,
    ) -> Result<Response<wire::DeleteSubtreeResponse>, Status> {
        let limits = self.0.limits().clone();
        let wire::DeleteSubtreeRequest { root, preconditions, metadata, dry_run, limit } = request.into_inner();
        let deleted = self.0.run(deleting(dry_run), move |engine, _| {
            let Deleted { revision, count, more } = engine.delete_subtree(DeleteSubtree {
                root: convert::object(convert::field("root"), root)?,
                preconditions: convert::preconditions(preconditions, &limits)?,
                metadata: convert::metadata(metadata, &limits)?,
                dry_run,
                limit: limit.map(|limit| limit as usize),
            })?;
            let deleted_at = Some(engine.token(revision).into());
            Ok(wire::DeleteSubtreeResponse { deleted_at, deleted_count: count, more })
        });
        Ok(Response::new(deleted.await?))
    }

    async fn replace_subjects(
        &self,
        request: Request<wire::ReplaceSubjectsRequest>,
    ) -> Result<Response<wire::ReplaceSubjectsResponse>, Status> {
        let limits = self.0.limits().clone();
        let replaced = self.0.run(Lane::Write, move |engine, _| {
            let request = convert::replacement(request.into_inner(), &limits)?;
            let Replaced { revision, added, replaced, removed, unchanged } = engine.replace_subjects(request)?;
            Ok(wire::ReplaceSubjectsResponse {
                written_at: Some(engine.token(revision).into()),
                added_count: added,
                replaced_count: replaced,
                removed_count: removed,
                unchanged_count: unchanged,
            })
        });
        Ok(Response::new(replaced.await?))
    }

    type ImportTuplesStream = Told<wire::ImportTuplesResponse>;

    async fn import_tuples(
        &self,
        request: Request<Streaming<wire::ImportTuplesRequest>>,
    ) -> Result<Response<Self::ImportTuplesStream>, Status> {
        let deadline = request.extensions().get::<CallersDeadline>().and_then(|deadline| deadline.0);
        let importing = Importing { desk: Arc::clone(&self.0), messages: request.into_inner(), next: 0 };
        Ok(Response::new(told(IMPORT_ACKS, |acks| within(deadline, importing.run(acks)))))
    }

    type ExportTuplesStream = Told<wire::ExportTuplesResponse>;

    async fn export_tuples(
        &self,
        request: Request<wire::ExportTuplesRequest>,
    ) -> Result<Response<Self::ExportTuplesStream>, Status> {
        let latest = Instant::now() + Duration::from_secs(self.0.limits().export_time_max_s);
        let deadline = request.extensions().get::<CallersDeadline>().and_then(|deadline| deadline.0);
        let deadline = deadline.map_or(latest, |deadline| deadline.min(latest));
        let wire::ExportTuplesRequest { consistency, filter, cursor } = request.into_inner();
        let export = ExportTuples {
            filter: convert::filter(Place::Field(&Place::Message, "filter"), filter)?,
            consistency: convert::consistency(consistency)?,
            cursor: convert::not_empty("cursor", cursor)?,
        };
        let opened = self.0.run(Lane::Read, move |engine, cancel| {
            let exporter = engine.export_tuples(export, cancel)?;
            let exported_at = engine.token(exporter.revision());
            Ok((exporter, exported_at))
        });
        let (exporter, exported_at) = opened.await?;
        let first = wire::ExportTuplesResponse {
            exported_at: Some(exported_at.into()),
            tuples: Vec::new(),
            cursor: String::new(),
        };
        let desk = Arc::clone(&self.0);
        Ok(Response::new(told(STREAM_BATCHES, |batches| {
            within(Some(deadline), async move {
                if batches.send(first).await.is_err() {
                    return Ok(());
                }
                send_batches(&desk, exporter, &batches).await
            })
        })))
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
        let opened = self.0.run(Lane::Read, move |engine, cancel| {
            let reader = engine.read_tuples(read, cancel)?;
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

/// The longest write that is read between two other requests: some 20 µs of work.
const WRITE_AT_ONCE_BYTES: usize = 4 << 10;

fn writing(message: wire::WriteTuplesRequest, limits: &Limits) -> Result<WriteTuples, Refusal> {
    let wire::WriteTuplesRequest { updates, preconditions, metadata } = message;
    Ok(WriteTuples {
        updates: convert::updates(updates, limits)?,
        preconditions: convert::preconditions(preconditions, limits)?,
        metadata: convert::metadata(metadata, limits)?,
    })
}

/// A dry run does not wait for the committer.
fn deleting(dry_run: bool) -> Lane {
    if dry_run { Lane::Read } else { Lane::Write }
}

/// Sends all rows, or as many as asked for; stops when the caller is gone, in the middle of a page too: few of many rows
/// may match. No thread is held while a slow caller reads: the reader goes to one and comes back for each page.
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
        let working = desk.run(Lane::Read, move |_, cancel| {
            let page = reader.next_page(count, cancel)?;
            Ok((reader, page))
        });
        let (back, page) = tokio::select! {
            done = working => done?,
            () = rows.closed() => return Ok(()),
        };
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

/// Sends all batches; stops when the caller is gone, in the middle of a batch too.
async fn send_batches(
    desk: &Desk,
    mut exporter: TupleExporter,
    batches: &mpsc::Sender<wire::ExportTuplesResponse>,
) -> Result<(), Failure> {
    let rows_max = (desk.limits().message_bytes_max / EXPORT_ROW_BYTES).clamp(1, EXPORT_ROWS);
    // Bounded: each batch has tuples, or there is none.
    loop {
        let working = desk.run(Lane::Read, move |_, cancel| {
            let batch = exporter.next_batch(rows_max, cancel)?;
            let message = batch.map(|ExportBatch { tuples, cursor }| wire::ExportTuplesResponse {
                exported_at: None,
                tuples: tuples.iter().map(Into::into).collect(),
                cursor,
            });
            Ok((exporter, message))
        });
        let (back, message) = tokio::select! {
            done = working => done?,
            () = batches.closed() => return Ok(()),
        };
        exporter = back;
        let Some(message) = message else { return Ok(()) };
        if batches.send(message).await.is_err() {
            return Ok(());
        }
    }
}

/// An import under way. While one batch is committed the next is received and converted; commits keep the order.
struct Importing {
    desk: Arc<Desk>,
    messages: Streaming<wire::ImportTuplesRequest>,
    /// The batch that is received next.
    next: u64,
}

/// How every batch is written.
#[derive(Clone)]
struct How {
    mode: ImportMode,
    metadata: Metadata,
}

impl Importing {
    async fn run(mut self, acks: mpsc::Sender<wire::ImportTuplesResponse>) -> Result<(), Failure> {
        let desk = Arc::clone(&self.desk);
        let Some(how) = self.start().await? else { return Ok(()) };
        let mut received = self.batch().await;
        // Bounded by the caller, who ends the stream; each turn is one batch.
        while let Some((index, tuples)) = received? {
            let written = write_batch(&desk, how.clone(), index, tuples, &acks);
            // A batch that is refused must not stop the one before it from being acknowledged; a commit that fails must
            // not wait for a batch that may never come.
            let next = async { Ok(self.batch().await) };
            received = tokio::try_join!(written, next)?.1;
        }
        Ok(())
    }

    /// How the import is to be done, if the caller says anything at all.
    async fn start(&mut self) -> Result<Option<How>, Failure> {
        let Some(message) = self.message().await? else { return Ok(None) };
        let (mode, metadata) = convert::import_start(message, self.desk.limits())?;
        Ok(Some(How { mode, metadata }))
    }

    /// The next batch with its number; `None` after the last.
    async fn batch(&mut self) -> Result<Option<(u64, Vec<RelationTuple>)>, Failure> {
        let index = self.next;
        let of_batch = |failure: Failure| failure.with_fact("batch", index.to_string());
        let Some(message) = self.message().await.map_err(of_batch)? else { return Ok(None) };
        self.next += 1;
        let limits = self.desk.limits().clone();
        let converted = self.desk.run(Lane::Read, move |_, _| Ok(convert::import_batch(message, &limits)?));
        Ok(Some((index, converted.await.map_err(of_batch)?)))
    }

    async fn message(&mut self) -> Result<Option<wire::ImportTuplesRequest>, Failure> {
        let max = self.desk.limits().message_bytes_max;
        tokio::select! {
            message = self.messages.message() => message.map_err(|said| {
                status::of_library(said.code(), said.message(), "/procura.v1.TupleService/ImportTuples", max)
            }),
            () = self.desk.drained() => Err(Failure::draining()),
            () = tokio::time::sleep(IMPORT_IDLE_MAX) => Err(idle("no batch came")),
        }
    }
}

/// Commits one batch and acknowledges it: never before it is durable.
async fn write_batch(
    desk: &Desk,
    How { mode, metadata }: How,
    index: u64,
    tuples: Vec<RelationTuple>,
    acks: &mpsc::Sender<wire::ImportTuplesResponse>,
) -> Result<(), Failure> {
    let written = desk.run(Lane::Write, move |engine, _| {
        let Imported { revision, created, replaced } = engine.import_batch(ImportBatch { mode, tuples, metadata })?;
        Ok(wire::ImportTuplesResponse {
            batch: index,
            written_at: Some(engine.token(revision).into()),
            created_count: created,
            replaced_count: replaced,
        })
    });
    let ack = written.await.map_err(|failure| failure.with_fact("batch", index.to_string()))?;
    match tokio::time::timeout(IMPORT_IDLE_MAX, acks.send(ack)).await {
        // The next receive ends it when the caller is gone.
        Ok(_) => Ok(()),
        Err(_) => Err(idle("no acknowledgement was taken")),
    }
}

fn idle(what: &str) -> Failure {
    let message = format!("{what} for {} s", IMPORT_IDLE_MAX.as_secs());
    Failure::new(Code::DeadlineExceeded, "IMPORT_IDLE", message)
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
    use tokio_stream::StreamExt;

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
