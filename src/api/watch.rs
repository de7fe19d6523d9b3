//! `WatchService`: the changelog as a stream, woken by what is published.
//!
//! INVARIANT: a Watch never ends well, and its end says with which token to go on: the last `through` that was queued for
//! the reader. No thread is held while it waits; it waits for a publication, not for a timer.

use super::convert;
use super::desk::{Desk, Lane};
use super::door::CallersDeadline;
use super::limits::STREAM_BATCHES;
use super::status::{Failure, HINT};
use super::stream::{Told, told};
use super::wire::{self, watch_service_server::WatchService};
use crate::engine::{WatchFrom, WatchPage, WatchPart, Watcher};
use crate::model::{ConsistencyToken, Revision};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::Instant;
use tokio_stream::Stream;
use tonic::{Code, Request, Response, Status};

pub(super) struct Watches(pub(super) Arc<Desk>);

/// What a Watch tells; holds its place among the open ones until its reader is gone.
pub(super) struct Events {
    told: Told<wire::WatchResponse>,
    _place: OwnedSemaphorePermit,
}

impl Stream for Events {
    type Item = Result<wire::WatchResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.told).poll_next(cx)
    }
}

#[tonic::async_trait]
impl WatchService for Watches {
    type WatchStream = Events;

    async fn watch(&self, request: Request<wire::WatchRequest>) -> Result<Response<Events>, Status> {
        let deadline = request.extensions().get::<CallersDeadline>().and_then(|deadline| deadline.0);
        let (asked, heartbeat) = convert::watch(request.into_inner(), self.0.limits())?;
        let place = self.0.watch_place()?;
        let is_live = asked.from == WatchFrom::Now;
        let published = self.0.published();
        let opened = self.0.run(Lane::Read, move |engine, _| {
            let watcher = engine.watch(asked)?;
            let token = engine.token(watcher.told());
            Ok((watcher, token))
        });
        let (watcher, token) = opened.await?;
        let telling = Telling { desk: Arc::clone(&self.0), published, token, heartbeat, is_live };
        let told = told(STREAM_BATCHES, |parts| telling.run(watcher, parts, deadline));
        Ok(Response::new(Events { told, _place: place }))
    }
}

/// A Watch under way.
struct Telling {
    desk: Arc<Desk>,
    published: watch::Receiver<Revision>,
    /// Of the last revision that is queued whole.
    token: ConsistencyToken,
    heartbeat: Duration,
    /// Whether it was up to date once, as one from now is from its start: only from then on is lagging behind the reader's doing.
    is_live: bool,
}

/// Why a Watch ends.
enum End {
    /// The reader is gone.
    Gone,
    Failed(Failure),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> End {
        End::Failed(failure)
    }
}

impl Telling {
    async fn run(
        mut self,
        watcher: Watcher,
        parts: mpsc::Sender<wire::WatchResponse>,
        deadline: Option<Instant>,
    ) -> Result<(), Failure> {
        let end = match deadline {
            Some(deadline) => tokio::time::timeout_at(deadline, self.tell(watcher, &parts))
                .await
                .unwrap_or_else(|_| End::Failed(Failure::deadline())),
            None => self.tell(watcher, &parts).await,
        };
        match end {
            End::Gone => Ok(()),
            End::Failed(failure) => Err(failure.with_fact("token", self.token.to_string())),
        }
    }

    /// Tells until there is a reason to end.
    async fn tell(&mut self, mut watcher: Watcher, parts: &mpsc::Sender<wire::WatchResponse>) -> End {
        // Where it starts, so that a reader can go on even if nothing ever changes.
        if let Err(end) = self.send(self.checkpoint(), parts).await {
            return end;
        }
        // Ends with the reader, the server or an error.
        loop {
            // Marked as seen before it is read: what is published meanwhile wakes us again.
            self.published.borrow_and_update();
            watcher = match self.tell_page(watcher, parts).await {
                Ok(watcher) => watcher,
                Err(end) => return end,
            };
        }
    }

    /// Sends what there is; when that is all, waits until there is more, or until it is time to say that there is not.
    async fn tell_page(
        &mut self,
        mut watcher: Watcher,
        parts: &mpsc::Sender<wire::WatchResponse>,
    ) -> Result<Watcher, End> {
        let (watcher, WatchPage { parts: page, caught_up }) = self
            .desk
            .run(Lane::Read, move |_, _| {
                let page = watcher.next_page()?;
                Ok((watcher, page))
            })
            .await?;
        let is_silent = page.is_empty();
        for WatchPart { writes, through } in page {
            let token = through.map(|revision| ConsistencyToken { revision, ..self.token });
            let message = wire::WatchResponse {
                through: token.map(Into::into),
                writes: writes.into_iter().map(Into::into).collect(),
            };
            self.send(message, parts).await?;
            // Only now is it on its way: an end names what the reader will have got.
            self.token = token.unwrap_or(self.token);
        }
        // After something was said there may be more already; silence is measured from here.
        if !caught_up || !is_silent {
            return Ok(watcher);
        }
        self.is_live = true;
        let desk = Arc::clone(&self.desk);
        let heartbeat = tokio::select! {
            published = self.published.changed() => {
                published.map_err(|_| Failure::draining())?;
                false
            }
            () = tokio::time::sleep(self.heartbeat) => true,
            () = parts.closed() => return Err(End::Gone),
            () = desk.drained() => return Err(Failure::draining().into()),
        };
        if heartbeat {
            self.send(self.checkpoint(), parts).await?;
        }
        Ok(watcher)
    }

    fn checkpoint(&self) -> wire::WatchResponse {
        wire::WatchResponse { through: Some(self.token.into()), writes: Vec::new() }
    }

    /// Waits for a place in the reader's queue: this is the back-pressure. Not for ever, and not while the log runs away.
    async fn send(
        &mut self,
        message: wire::WatchResponse,
        parts: &mpsc::Sender<wire::WatchResponse>,
    ) -> Result<(), End> {
        let stall = Duration::from_millis(self.desk.limits().watch_stall_max_ms);
        let lag_max = self.desk.limits().watch_lag_max;
        let latest = Instant::now() + stall;
        let desk = Arc::clone(&self.desk);
        // Bounded by `latest`.
        loop {
            let behind = self.published.borrow_and_update().0.saturating_sub(self.token.revision.0);
            if self.is_live && behind > lag_max {
                let why = format!("the reader is {behind} revisions behind; at most {lag_max} are waited for");
                return Err(too_slow(&why).into());
            }
            tokio::select! {
                place = parts.reserve() => {
                    place.map_err(|_| End::Gone)?.send(message);
                    return Ok(());
                }
                published = self.published.changed() => published.map_err(|_| Failure::draining())?,
                () = tokio::time::sleep_until(latest) => {
                    return Err(too_slow(&format!("the reader took nothing for {} ms", stall.as_millis())).into());
                }
                () = desk.drained() => return Err(Failure::draining().into()),
            }
        }
    }
}

fn too_slow(why: &str) -> Failure {
    Failure::new(Code::ResourceExhausted, "WATCH_TOO_SLOW", why)
        .with_fact(HINT, "watch again `after` the fact `token`, and read faster than it is written")
}
