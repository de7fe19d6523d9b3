//! The one writer. Drains its queue without a timer: one group, one revision, one batch, one sync.
//!
//! INVARIANT: sync, then apply, then publish, then acknowledge. Published after the sync: nothing observed can be lost.
//! Published before the acknowledgement: every later read sees it.

use super::Shared;
use super::changelog::LogEntry;
use super::delegations::encode_record;
use super::error::Error;
use super::high_water::HighWater;
use super::judge::{Change, Commit, Verdict, judge};
use super::keys::RowKey;
use super::overlay::{Overlay, Sealed, State};
use super::row::RowValue;
use super::snapshot::Snapshot;
use crate::model::{Delegation, Revision, Timestamp};
use rocksdb::WriteOptions;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// What a request came to.
#[derive(Clone, PartialEq, Debug)]
pub struct Committed {
    pub revision: Revision,
    /// Tuples written or removed; delegations made, narrowed or revoked; suspensions begun or ended.
    pub changed: u64,
    /// Of tuples, the same by what became of them.
    pub tally: Tally,
    /// Of a request about one delegation: its record after it.
    pub delegation: Option<Arc<Delegation>>,
    /// Of a deletion that may leave some: whether it did.
    pub more: bool,
}

/// Tuples that a request changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Written where none was live.
    pub created: u64,
    /// Written over a live one.
    pub replaced: u64,
    pub removed: u64,
}

impl Tally {
    fn of(entries: &[LogEntry]) -> Tally {
        let mut tally = Tally::default();
        for entry in entries {
            match entry {
                LogEntry::Put { created: true, .. } => tally.created += 1,
                LogEntry::Put { created: false, .. } => tally.replaced += 1,
                LogEntry::Remove { .. } | LogEntry::Expire { .. } => tally.removed += 1,
                LogEntry::Mark { .. }
                | LogEntry::Id { .. }
                | LogEntry::Name(_)
                | LogEntry::Schema { .. }
                | LogEntry::Delegation { .. }
                | LogEntry::Suspended(_)
                | LogEntry::Reinstated { .. } => {}
            }
        }
        tally
    }
}

/// Who holds rows in memory beside the store.
pub trait Beside: Send + Sync {
    /// Told once, before anything else: how many relations and permissions have numbers, and so may have rows already.
    fn opened(&self, members: usize);

    /// Takes what a group has made of the rows it names: `None` where one was removed. Called on the writing thread, after
    /// the group is on disk and before its revision is published; it must not block, and cannot refuse.
    fn apply(&self, revision: Revision, rows: &BTreeMap<RowKey, Option<RowValue>>);
}

/// How the clock is read: once a group.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Hears what a request came to. It is called on the writing thread: it must be quick, and neither block nor panic.
pub type Hear = Box<dyn FnOnce(Result<Committed, Error>) + Send>;

/// INVARIANT: it is told exactly once, also of a request that nobody looks at any more because the store is closed.
pub(super) struct Reply(Option<Hear>);

pub(super) const CLOSED: &str = "the store is closed";

impl Reply {
    pub(super) fn to(hear: Hear) -> Reply {
        Reply(Some(hear))
    }

    pub(super) fn tell(mut self, outcome: Result<Committed, Error>) {
        if let Some(hear) = self.0.take() {
            hear(outcome);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(hear) = self.0.take() {
            hear(Err(Error::Stopped(CLOSED)));
        }
    }
}

pub(super) enum Message {
    Commit(Box<Commit>, Reply),
    Close,
}

pub(super) struct Committer {
    pub(super) state: State,
    pub(super) shared: Arc<Shared>,
    pub(super) beside: Option<Arc<dyn Beside>>,
    pub(super) queue: Receiver<Message>,
    pub(super) now: Now,
    pub(super) folder: PathBuf,
    pub(super) requests_max: usize,
    pub(super) bytes_max: usize,
    /// Set by a failed sync: from then on nothing is accepted.
    pub(super) stopped: Option<&'static str>,
    pub(super) marked: Revision,
    pub(super) marked_at: Instant,
    /// Whether tuples that have ended are removed. A test clock, which goes both ways, turns it off.
    pub(super) collects: bool,
    pub(super) collected_at: Instant,
}

/// How often the high-water mark follows.
const MARK_EVERY: Duration = Duration::from_millis(100);
/// How often tuples that have ended are looked for.
const COLLECT_EVERY: Duration = Duration::from_secs(1);
/// Most that are removed at a time, so that writers do not wait for it.
const COLLECTED_MAX: usize = 1_000;

/// What was accepted, but for the revision.
struct Accepted {
    changed: u64,
    tally: Tally,
    delegation: Option<Arc<Delegation>>,
    more: bool,
}

type Waiting = (Reply, Result<Accepted, Error>);

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
            if self.collects && self.stopped.is_none() && self.collected_at.elapsed() >= COLLECT_EVERY {
                self.collect();
            }
        }
    }

    /// Commits the request and what waits behind it; false when a close was among it.
    fn commit_group(&mut self, first: Box<Commit>, reply: Reply) -> bool {
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
                Ok(verdict) if commit.only_judge => Ok(Accepted::of(&verdict)),
                Ok(verdict) => match accept(&mut overlay, verdict, &mut bytes) {
                    Ok(accepted) => Ok(accepted),
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

    fn write_and_publish(&mut self, mut sealed: Sealed, waiting: Vec<Waiting>) {
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
        let (rows, delegations) = (std::mem::take(&mut sealed.rows), std::mem::take(&mut sealed.delegations));
        if sealed.settle(&mut self.state) {
            self.shared.names.store(self.state.names.clone());
        }
        let head = self.state.head;
        let stamps = &self.shared.stamps;
        for key in rows.keys() {
            stamps.touch(stamps.of_object(key.relation, key.object), head.revision);
            stamps.touch(stamps.of_subject(key.subject), head.revision);
        }
        for id in &delegations {
            stamps.touch(stamps.of_delegation(id), head.revision);
        }
        if let Some(beside) = &self.beside {
            beside.apply(head.revision, &rows);
        }
        let snapshot = Snapshot::pin(
            self.state.db.clone(),
            &head,
            self.state.suspended.clone(),
            (stamps.clone(), self.shared.records.clone()),
        );
        self.shared.publish(Arc::new(snapshot));
        answer(waiting, head.revision);
    }

    /// Removes tuples that have ended, as a commit like any other: it stands in the changelog.
    fn collect(&mut self) {
        self.collected_at = Instant::now();
        let now = (self.now)().max(self.state.head.at);
        let mut overlay = Overlay::new(&self.state);
        let commit = Commit {
            schema_revision: self.state.head.schema_revision,
            preconditions: Vec::new(),
            precondition_rows_max: 0,
            parents: Arc::default(),
            change: Change::CollectExpired { limit: COLLECTED_MAX },
            metadata: Box::default(),
            only_judge: false,
        };
        let sealed = judge(&overlay, &commit, now).and_then(|verdict| {
            if verdict.changed == 0 {
                return Ok(None);
            }
            accept(&mut overlay, verdict, &mut 0)?;
            overlay.seal().map(Some)
        });
        match sealed {
            Ok(Some(sealed)) => self.write_and_publish(sealed, Vec::new()),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "tuples that have ended could not be collected; it is tried again"),
        }
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

impl Accepted {
    fn of(verdict: &Verdict) -> Accepted {
        let Verdict { entries, changed, delegation, more } = verdict;
        Accepted { changed: *changed, tally: Tally::of(entries), delegation: delegation.clone(), more: *more }
    }
}

fn accept(overlay: &mut Overlay<'_>, verdict: Verdict, bytes: &mut usize) -> Result<Accepted, Error> {
    let accepted = Accepted::of(&verdict);
    for entry in verdict.entries {
        *bytes += entry_bytes(&entry);
        overlay.apply(entry)?;
    }
    Ok(accepted)
}

/// About how much an entry adds to the batch.
fn entry_bytes(entry: &LogEntry) -> usize {
    match entry {
        LogEntry::Put { value, .. } => 128 + 2 * value.caveat.as_ref().map_or(0, |caveat| caveat.context.len()),
        LogEntry::Remove { .. } | LogEntry::Expire { .. } | LogEntry::Id { .. } | LogEntry::Name(_) => 128,
        LogEntry::Mark { metadata, .. } => 64 + metadata.len(),
        LogEntry::Schema { text } => 64 + 2 * text.len(),
        LogEntry::Delegation { record, .. } => {
            1_024 + record.anchors().len() * 256 + 2 * encode_record(record).map_or(0, |bytes| bytes.len())
        }
        LogEntry::Suspended(suspension) => 256 + 2 * suspension.reason.len(),
        LogEntry::Reinstated { .. } => 128,
    }
}

fn answer(waiting: Vec<Waiting>, revision: Revision) {
    for (reply, outcome) in waiting {
        // Whoever asked may have gone; the commit stands all the same.
        reply.tell(outcome.map(|Accepted { changed, tally, delegation, more }| Committed {
            revision,
            changed,
            tally,
            delegation,
            more,
        }));
    }
}

/// The group came to nothing: who was refused keeps the reason, all others get this one.
fn refuse(waiting: Vec<Waiting>, error: &Error) {
    for (reply, outcome) in waiting {
        reply.tell(Err(outcome.err().unwrap_or_else(|| error.clone())));
    }
}

#[cfg(test)]
mod tests {
    use crate::model::{Limits, Timestamp};
    use crate::store::{Change, Collector, Commit, Error, InMemory, Store};
    use std::sync::Arc;
    use std::sync::mpsc::channel;

    fn nothing() -> Commit {
        Commit {
            schema_revision: crate::model::Revision(0),
            preconditions: Vec::new(),
            precondition_rows_max: 0,
            change: Change::Tuples(Arc::default()),
            parents: Arc::default(),
            metadata: Box::default(),
            only_judge: false,
        }
    }

    #[test]
    fn whoever_waits_is_told_once_whatever_becomes_of_the_store() {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits { commit_queue_max: 4, ..Limits::default() };
        let now = Arc::new(|| Timestamp::MIN);
        let store = Store::open(folder.path(), &limits, now, Collector::Off, InMemory::alone()).unwrap();
        let (told, heard) = channel();
        let begin = |n: u32| {
            let told = told.clone();
            store.commit_then(nothing(), Box::new(move |outcome| told.send((n, outcome.map(drop))).unwrap()));
        };
        std::thread::scope(|scope| {
            scope.spawn(|| (0..200).for_each(begin));
            store.close();
        });
        (200..204).for_each(begin);
        drop(store);
        drop(told);
        let mut who: Vec<u32> = heard
            .iter()
            .map(|(n, outcome)| {
                assert!(matches!(outcome, Ok(()) | Err(Error::QueueFull | Error::Stopped(_))), "{outcome:?}");
                assert!(n < 200 || outcome.is_err());
                n
            })
            .collect();
        who.sort_unstable();
        assert_eq!(who, Vec::from_iter(0..204));
    }
}
