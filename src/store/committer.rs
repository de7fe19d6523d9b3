//! The one writer. Drains its queue without a timer: one group, one revision, one batch, one sync.
//!
//! INVARIANT: sync, then apply, then publish, then acknowledge. Published after the sync: nothing observed can be lost.
//! Published before the acknowledgement: every later read sees it.

use super::Shared;
use super::error::Error;
use super::high_water::HighWater;
use super::judge::{Commit, Verdict, judge};
use super::overlay::{Overlay, State};
use super::snapshot::Snapshot;
use crate::model::{Revision, Timestamp};
use rocksdb::WriteOptions;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

/// What a request came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Committed {
    pub revision: Revision,
    /// Tuples written or removed.
    pub changed: u64,
}

/// How the clock is read: once a group.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

pub(super) enum Message {
    Commit(Commit, SyncSender<Result<Committed, Error>>),
    Close,
}

pub(super) struct Committer {
    pub(super) state: State,
    pub(super) shared: Arc<Shared>,
    pub(super) queue: Receiver<Message>,
    pub(super) now: Now,
    pub(super) folder: PathBuf,
    pub(super) requests_max: usize,
    pub(super) bytes_max: usize,
    /// Set by a failed sync: from then on nothing is accepted.
    pub(super) stopped: Option<&'static str>,
    pub(super) marked: Revision,
    pub(super) marked_at: Instant,
}

/// How often the high-water mark follows.
const MARK_EVERY: Duration = Duration::from_millis(100);

type Waiting = (SyncSender<Result<Committed, Error>>, Result<u64, Error>);

impl Committer {
    /// Runs until closed.
    pub(super) fn run(mut self) {
        loop {
            let mut open = true;
            match self.queue.recv_timeout(MARK_EVERY) {
                Ok(Message::Commit(first, reply)) => open = self.commit_group(first, reply),
                Ok(Message::Close) | Err(RecvTimeoutError::Disconnected) => open = false,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if !open || self.marked_at.elapsed() >= MARK_EVERY {
                self.mark();
                self.shared.forget_old_snapshots();
            }
            if !open {
                return;
            }
        }
    }

    /// Commits the request and what waits behind it; false when a close was among it.
    fn commit_group(&mut self, first: Commit, reply: SyncSender<Result<Committed, Error>>) -> bool {
        let mut open = true;
        let now = (self.now)().max(self.state.head.at);
        let mut overlay = Overlay::new(&self.state);
        let mut waiting: Vec<Waiting> = Vec::new();
        let mut bytes = 0;
        let mut next = Some((first, reply));
        // Bounded by requests_max and bytes_max.
        while let Some((commit, reply)) = next.take() {
            let outcome = match self.stopped {
                Some(why) => Err(Error::Stopped(why)),
                None => judge(&overlay, &commit, now),
            };
            let outcome = match outcome {
                Ok(verdict) if commit.only_judge => Ok(verdict.changed),
                Ok(verdict) => match accept(&mut overlay, verdict, &mut bytes) {
                    Ok(changed) => Ok(changed),
                    Err(error) => {
                        // Applying what was judged fits cannot fail; if it does, the group is unusable.
                        waiting.push((reply, Err(error.clone())));
                        refuse(waiting, &error);
                        return open;
                    }
                },
                Err(error) => Err(error),
            };
            waiting.push((reply, outcome));
            if waiting.len() >= self.requests_max || bytes >= self.bytes_max {
                break;
            }
            match self.queue.try_recv() {
                Ok(Message::Commit(commit, reply)) => next = Some((commit, reply)),
                Ok(Message::Close) => open = false,
                Err(_) => {}
            }
        }
        if overlay.is_empty() {
            answer(waiting, self.state.head.revision);
            return open;
        }
        let sealed = match overlay.seal() {
            Ok(sealed) => sealed,
            Err(error) => {
                refuse(waiting, &error);
                return open;
            }
        };
        self.write_and_publish(sealed, waiting);
        open
    }

    fn write_and_publish(&mut self, mut sealed: super::overlay::Sealed, waiting: Vec<Waiting>) {
        let mut options = WriteOptions::default();
        options.set_sync(true);
        if let Err(error) = self.state.db.borrow_owner().write_opt(sealed.take_batch(), &options) {
            // The row may be on disk after all: nobody can say, so nothing more is accepted on top of it.
            self.stopped = Some("a write to disk failed; check the disk, then restart");
            self.shared.stop();
            tracing::error!(%error, "a commit could not be synced; writes are stopped");
            refuse(waiting, &Error::OutcomeUnknown(error.into_string()));
            return;
        }
        if sealed.settle(&mut self.state) {
            self.shared.names.store(self.state.names.clone());
        }
        let head = self.state.head;
        let snapshot = Snapshot::pin(self.state.db.clone(), head.revision, head.schema_revision, head.at);
        self.shared.publish(Arc::new(snapshot));
        answer(waiting, head.revision);
    }

    fn mark(&mut self) {
        self.marked_at = Instant::now();
        let head = self.state.head;
        if head.revision == self.marked {
            return;
        }
        let mark = HighWater { revision: head.revision, seal: head.seal };
        match mark.write(&self.folder) {
            Ok(()) => self.marked = head.revision,
            Err(error) => tracing::warn!(%error, "the high-water mark could not be written; it is tried again"),
        }
    }
}

fn accept(overlay: &mut Overlay<'_>, verdict: Verdict, bytes: &mut usize) -> Result<u64, Error> {
    for entry in verdict.entries {
        *bytes += entry_bytes(&entry);
        overlay.apply(entry)?;
    }
    Ok(verdict.changed)
}

/// About how much an entry adds to the batch.
fn entry_bytes(entry: &super::changelog::LogEntry) -> usize {
    use super::changelog::LogEntry;
    match entry {
        LogEntry::Put { .. } | LogEntry::Remove { .. } | LogEntry::Id { .. } | LogEntry::Name(_) => 128,
        LogEntry::Mark { metadata, .. } => 64 + metadata.len(),
        LogEntry::Schema { text } => 64 + 2 * text.len(),
    }
}

fn answer(waiting: Vec<Waiting>, revision: Revision) {
    for (reply, outcome) in waiting {
        // Whoever asked may have gone; the commit stands all the same.
        let _ = reply.send(outcome.map(|changed| Committed { revision, changed }));
    }
}

/// The group came to nothing: who was refused keeps the reason, all others get this one.
fn refuse(waiting: Vec<Waiting>, error: &Error) {
    for (reply, outcome) in waiting {
        let _ = reply.send(Err(outcome.err().unwrap_or_else(|| error.clone())));
    }
}
