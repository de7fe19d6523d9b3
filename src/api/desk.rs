//! Where the engine's synchronous verbs run: on threads of their own, a bounded number at once, and no longer than
//! somebody waits for them.
//!
//! Questions may read the store, which may wait for the disk, so none runs on a worker of the async runtime: 19 µs a round
//! trip is the price of never stopping the other connections. Only a Check that needs neither the disk nor much work is
//! answered by the worker that received it (`at_once`).

use super::door::panic_text;
use super::status::{Failure, HINT};
use crate::engine::{Engine, Listening};
use crate::model::{Cancel, ConsistencyToken, Limits, READS_PER_CORE, Revision, WAITING_MAX, WRITES_MAX};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tonic::Code;

/// The engine with its lanes. Shared by all services.
pub(super) struct Desk {
    engine: Arc<Engine>,
    limits: Limits,
    reads: Arc<Semaphore>,
    writes: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    watches: Arc<Semaphore>,
    published: watch::Receiver<Revision>,
    draining: watch::Sender<bool>,
    _listening: Listening,
}

/// What a request does, which says how many may run beside it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lane {
    /// Uses a core.
    Read,
    /// Waits for the committer.
    Write,
}

/// Tells the work that nobody waits for it any more, whichever way the waiting ended.
struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.set();
    }
}

impl Desk {
    pub(super) fn new(engine: Arc<Engine>, limits: Limits) -> Desk {
        let (publish, published) = watch::channel(Revision(0));
        let _listening = engine.listen(Arc::new(move |revision| {
            publish.send_replace(revision);
        }));
        Desk {
            watches: Arc::new(Semaphore::new(limits.watches_max)),
            published,
            draining: watch::Sender::new(false),
            _listening,
            engine,
            limits,
            reads: Arc::new(Semaphore::new(reads_max())),
            writes: Arc::new(Semaphore::new(WRITES_MAX)),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
        }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Hears of each revision once it is published; revisions in quick succession are heard of once.
    pub(super) fn published(&self) -> watch::Receiver<Revision> {
        self.published.clone()
    }

    /// Asks streams without an end of their own to end.
    pub(super) fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Returns once the server drains.
    pub(super) async fn drained(&self) {
        // The sender lives as long as the desk.
        let _ = self.draining.subscribe().wait_for(|draining| *draining).await;
    }

    /// A place among the open Watch streams, held until it is dropped.
    pub(super) fn watch_place(&self) -> Result<OwnedSemaphorePermit, Failure> {
        Arc::clone(&self.watches).try_acquire_owned().map_err(|_| {
            Failure::new(Code::ResourceExhausted, "LIMIT_EXCEEDED", "too many Watch streams are open")
                .with_fact("limit", "watches_max")
                .with_fact("max", self.limits.watches_max.to_string())
        })
    }

    /// What proves to a later request that it sees a revision.
    pub(super) fn token(&self, revision: Revision) -> ConsistencyToken {
        self.engine.token(revision)
    }

    /// Does what takes neither the disk nor long, here and now; `None` if it would take either.
    pub(super) fn at_once<T>(&self, work: impl FnOnce(&Engine) -> Option<T>) -> Option<T> {
        work(&self.engine)
    }

    /// Begins a write that says when it is done, when there is a place for it, and waits for that without a thread. The
    /// write keeps its place until it is done, whether somebody still waits or not.
    pub(super) async fn begin<T: Send + 'static>(&self, begin: impl FnOnce(&Engine, Done<T>)) -> Result<T, Failure> {
        let waiting = self.waiting.try_acquire().map_err(|_| overloaded())?;
        let place = Arc::clone(&self.writes).acquire_owned().await.map_err(|_| Failure::draining())?;
        drop(waiting);
        let (sender, done) = oneshot::channel();
        let hear = move |ended| {
            drop(place);
            // Nobody hears it when the caller is gone.
            let _ = sender.send(ended);
        };
        begin(&self.engine, Box::new(hear));
        done.await.map_err(|_| Failure::draining())
    }

    /// Does the work when its lane has a place. Dropping the future sets the `Cancel` that the work is handed; it keeps
    /// its place until it ends, so that abandoned work does not pile up.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        lane: Lane,
        work: impl FnOnce(&Engine, &Cancel) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let waiting = self.waiting.try_acquire().map_err(|_| overloaded())?;
        let lane = match lane {
            Lane::Read => &self.reads,
            Lane::Write => &self.writes,
        };
        let place = Arc::clone(lane).acquire_owned().await.map_err(|_| Failure::draining())?;
        drop(waiting);
        let cancel = Cancel::default();
        let _guard = CancelOnDrop(cancel.clone());
        let engine = Arc::clone(&self.engine);
        let done = tokio::task::spawn_blocking(move || {
            let _place = place;
            work(&engine, &cancel)
        });
        match done.await {
            Ok(done) => done,
            Err(stopped) => match stopped.try_into_panic() {
                Ok(panicked) => Err(Failure::internal(&panic_text(panicked.as_ref()))),
                Err(_) => Err(Failure::draining()),
            },
        }
    }
}

/// Hears how work that was begun has ended.
pub(super) type Done<T> = Box<dyn FnOnce(T) + Send>;

/// Threads that all lanes together may use.
pub(super) fn threads_max() -> usize {
    reads_max() + WRITES_MAX + 4
}

fn reads_max() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from) * READS_PER_CORE
}

fn overloaded() -> Failure {
    Failure::new(Code::Unavailable, "OVERLOADED", "too many requests are waiting")
        .with_fact(HINT, "try again, later each time")
}
