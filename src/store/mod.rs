//! Floor 1: RocksDB, the only floor that knows bytes.
//!
//! INVARIANT: all changes go through the committer, in order, each with a revision; the state is a pure fold of the
//! changelog. A reader takes the published snapshot once and reads everything at it.

mod error;
mod keys;
mod row;
mod names;
mod db;
mod snapshot;
mod log_reader;
mod listeners;
mod stamps;
mod memory;
mod suspended;
mod records;
mod dictionary;
mod scan;
mod delegations;
mod changelog;
mod overlay;
mod judge;
mod found;
mod hierarchy;
mod judge_delegation;
mod committer;
mod high_water;
mod formats;
mod verify;
#[cfg(test)]
mod delegation_tests;
#[cfg(test)]
mod dictionary_tests;

pub use changelog::LogEntry;
pub use committer::{Beside, Committed, Hear, Now, Tally};
pub use delegations::{DelegationsBy, Idempotency, Idempotent};
pub use dictionary::Dictionary;
pub use error::{Error, FormCount};
pub use judge::{Beyond, Change, Commit, Form, NewSchema, tuple_key};
pub use judge_delegation::NewDelegation;
pub use keys::{ROW_KEY_BYTES, RowKey, SubjectKey};
pub use listeners::{Listener, Listening};
pub use log_reader::LogPosition;
pub use memory::Memory;
pub use names::Names;
pub use row::{RowCaveat, RowValue};
pub use scan::{Fit, RowScan, Within, forward_prefix};
pub use snapshot::{Direction, Snapshot};
pub use stamps::{Stamp, Stamps};
pub use verify::Verified;

use crate::model::{
    Limits, ObjectNum, RelationTuple, Revision, Timestamp, TupleCaveat, TupleFilter, TupleKey, TypeNum,
};
use arc_swap::ArcSwap;
use committer::{CLOSED, Committer, Message, Reply};
use db::Db;
use found::Found;
use hashbrown::HashMap;
use high_water::HighWater;
use listeners::Listeners;
use overlay::{Bounds, FormKey, Head, Overlay, State};
use records::Records;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use suspended::Suspended;

/// The format of the data folder that this build writes. Raised when bytes change their meaning.
pub const FORMAT: u32 = 2;

const META_FORMAT: &[u8] = b"format";
const META_DATABASE: &[u8] = b"database";
const META_INCARNATION: &[u8] = b"incarnation";

/// What readers and the committer share.
struct Shared {
    published: ArcSwap<Snapshot>,
    recent: Mutex<VecDeque<(Instant, Arc<Snapshot>)>>,
    names: ArcSwap<Names>,
    stamps: Arc<Stamps>,
    records: Arc<Records>,
    stopped: AtomicBool,
    listeners: Listeners,
    snapshots_max: usize,
    snapshot_age_max: Duration,
}

impl Shared {
    fn publish(&self, snapshot: Arc<Snapshot>) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.push_back((Instant::now(), snapshot.clone()));
        self.drop_old(&mut recent);
        drop(recent);
        let revision = snapshot.revision();
        self.published.store(snapshot);
        // Who is woken finds the revision published already.
        self.listeners.tell(revision);
    }

    fn forget_old_snapshots(&self) {
        self.drop_old(&mut self.recent.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The newest always stays.
    fn drop_old(&self, recent: &mut VecDeque<(Instant, Arc<Snapshot>)>) {
        while recent.len() > 1
            && (recent.len() > self.snapshots_max
                || recent.front().is_some_and(|(at, _)| at.elapsed() > self.snapshot_age_max))
        {
            recent.pop_front();
        }
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }
}

/// Whether tuples that have ended are removed in the background.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Collector {
    On,
    /// Under a clock that may be set back, so that what has ended can live again.
    Off,
}

/// What is held in memory of an open data folder, beside what RocksDB keeps.
#[derive(Clone)]
pub struct InMemory {
    pub memory: Arc<Memory>,
    /// Who is told of each group's rows.
    pub beside: Option<Arc<dyn Beside>>,
}

impl InMemory {
    /// As much as there is, and nobody is told.
    #[must_use]
    pub fn alone() -> InMemory {
        InMemory { memory: Arc::new(Memory::of(u64::MAX)), beside: None }
    }
}

/// An open data folder.
pub struct Store {
    shared: Arc<Shared>,
    dictionary: Arc<Dictionary>,
    queue: SyncSender<Message>,
    committer: Mutex<Option<JoinHandle<()>>>,
    database: [u8; 16],
    incarnation: u64,
    db: Arc<Db>,
    now: Now,
    bounds: Bounds,
}

/// How often a deletion's rows are looked for beside the committer before it is held for the looking.
const LOOKED_FOR_MAX: usize = 3;

impl Store {
    /// Opens the folder, making it when it is not there. Refused when another has it open, when its format is from
    /// the future, or when it lacks what was acknowledged once.
    pub fn open(
        folder: &Path,
        limits: &Limits,
        now: Now,
        collector: Collector,
        in_memory: InMemory,
    ) -> Result<Store, Error> {
        let InMemory { memory, beside } = in_memory;
        std::fs::create_dir_all(folder)?;
        let db = Arc::new(Db::open_at(folder)?);
        formats::check_format(&db)?;
        let (database, incarnation) = identify(&db)?;
        let dictionary = Arc::new(Dictionary::new(db.clone(), memory.clone())?);
        let bounds = Bounds::of(limits);
        let state = State { bounds, ..load_state(db.clone(), dictionary.clone())? };
        check_high_water(&db, folder, state.head)?;

        dictionary.load()?;
        let head = state.head;
        let stamps = Arc::new(Stamps::default());
        if let Some(beside) = &beside {
            beside.opened(state.names.member_count());
        }
        let records = Arc::new(Records::within(&memory));
        let snapshot =
            Arc::new(Snapshot::pin(db.clone(), &head, state.suspended.clone(), (stamps.clone(), records.clone())));
        let shared = Arc::new(Shared {
            published: ArcSwap::new(snapshot.clone()),
            recent: Mutex::new(VecDeque::from([(Instant::now(), snapshot)])),
            names: ArcSwap::new(state.names.clone()),
            stamps,
            records,
            stopped: AtomicBool::new(false),
            listeners: Listeners::default(),
            snapshots_max: limits.snapshots_max.max(1),
            snapshot_age_max: Duration::from_secs(limits.snapshot_age_max_s),
        });
        let (queue, receiver) = sync_channel(limits.commit_queue_max.max(1));
        let committer = Committer {
            state,
            shared: shared.clone(),
            beside,
            queue: receiver,
            now: now.clone(),
            folder: folder.to_owned(),
            requests_max: limits.commit_requests_max.max(1),
            bytes_max: limits.commit_bytes_max,
            stopped: None,
            marked: Revision(0),
            marked_at: Instant::now(),
            collects: collector == Collector::On,
            collected_at: Instant::now(),
        };
        let thread = std::thread::Builder::new().name("committer".to_owned()).spawn(move || committer.run())?;
        let committer = Mutex::new(Some(thread));
        Ok(Store { shared, dictionary, queue, committer, database, incarnation, db, now, bounds })
    }

    /// The newest published state.
    #[must_use]
    pub fn published(&self) -> Arc<Snapshot> {
        self.shared.published.load_full()
    }

    /// The state of exactly this revision, while it is kept.
    #[must_use]
    pub fn at(&self, revision: Revision) -> Option<Arc<Snapshot>> {
        let recent = self.shared.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let at = recent.binary_search_by_key(&revision, |(_, snapshot)| snapshot.revision()).ok()?;
        recent.get(at).map(|(_, snapshot)| snapshot.clone())
    }

    /// All names ever used by a schema.
    #[must_use]
    pub fn names(&self) -> Arc<Names> {
        self.shared.names.load_full()
    }

    /// Ids and their numbers.
    #[must_use]
    pub fn dictionary(&self) -> &Dictionary {
        &self.dictionary
    }

    /// Drawn at random when the database was made.
    #[must_use]
    pub fn database(&self) -> [u8; 16] {
        self.database
    }

    /// Drawn at random when the database was made or restored.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Waits until the request is synced and published, or refused. Every read after it sees it.
    pub fn commit(&self, commit: Commit) -> Result<Committed, Error> {
        if self.shared.stopped.load(Ordering::Acquire) {
            return Err(Error::Stopped("a write to disk failed; check the disk, then restart"));
        }
        match &commit.change {
            Change::DeleteMatching { filter, limit, beyond } => self.delete(&commit, filter, (*limit, *beyond)),
            Change::Tuples(_)
            | Change::DeleteFound(_)
            | Change::ReplaceSubjects { .. }
            | Change::Schema(_)
            | Change::CollectExpired { .. }
            | Change::ImportDelegations(_)
            | Change::CreateDelegation(_)
            | Change::NarrowDelegation(_)
            | Change::RevokeDelegation { .. }
            | Change::RevokeAllFor { .. }
            | Change::Suspend { .. }
            | Change::Reinstate { .. } => self.send(commit),
        }
    }

    /// A deletion looks for its rows at the published state, while others commit, and the commit takes them if they
    /// still stand. A refusal needs no commit, nor does a dry run.
    fn delete(&self, commit: &Commit, filter: &TupleFilter, most: (usize, Beyond)) -> Result<Committed, Error> {
        let with = |change: Change| Commit {
            schema_revision: commit.schema_revision,
            preconditions: commit.preconditions.clone(),
            precondition_rows_max: commit.precondition_rows_max,
            change,
            parents: commit.parents.clone(),
            metadata: commit.metadata.clone(),
            only_judge: false,
        };
        for _ in 0..LOOKED_FOR_MAX {
            let found = self.look_for(commit, filter, most)?;
            if commit.only_judge {
                let Found { revision, at: _, scan: _, objects: _, rows, more } = found;
                let removed = rows.len() as u64;
                let tally = Tally { removed, ..Tally::default() };
                return Ok(Committed { revision, changed: removed, tally, delegation: None, more });
            }
            match self.send(with(Change::DeleteFound(Box::new(found)))) {
                Err(Error::FoundOvertaken) => {}
                outcome => return outcome,
            }
        }
        // Where others write all the time it is looked for inside the commit, once.
        let (limit, beyond) = most;
        self.send(with(Change::DeleteMatching { filter: filter.clone(), limit, beyond }))
    }

    fn look_for(&self, commit: &Commit, filter: &TupleFilter, most: (usize, Beyond)) -> Result<Found, Error> {
        let snapshot = self.published();
        let now = (self.now)().max(snapshot.committed_at());
        let state = State::at(&snapshot, self.db.clone(), self.dictionary.clone(), self.names(), self.bounds)?;
        judge::look_for(&Overlay::at(&state, &snapshot), commit, filter, most, now)
    }

    /// The same without waiting. A deletion that is to look for its rows first is looked for by the committer.
    pub fn commit_then(&self, commit: Commit, hear: Hear) {
        let reply = Reply::to(hear);
        if self.shared.stopped.load(Ordering::Acquire) {
            return reply.tell(Err(Error::Stopped("a write to disk failed; check the disk, then restart")));
        }
        match self.queue.try_send(Message::Commit(Box::new(commit), reply)) {
            Err(TrySendError::Full(Message::Commit(_, reply))) => reply.tell(Err(Error::QueueFull)),
            // Whoever waits hears of a queue without a reader as the message is dropped.
            Ok(()) | Err(TrySendError::Full(Message::Close) | TrySendError::Disconnected(_)) => {}
        }
    }

    fn send(&self, commit: Commit) -> Result<Committed, Error> {
        let (sender, outcome) = sync_channel(1);
        // Whoever waits here waits to the end.
        self.commit_then(commit, Box::new(move |told| drop(sender.send(told))));
        outcome.recv().unwrap_or(Err(Error::Stopped(CLOSED)))
    }

    /// Bytes on the disk in sorted files, by column family. All that was written before it was opened is among them.
    pub fn disk_bytes(&self) -> Result<Vec<(&'static str, u64)>, Error> {
        self.db.disk_bytes()
    }

    /// Whether a failed sync has ended writing.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.shared.stopped.load(Ordering::Acquire)
    }

    /// The clock reading of the newest commit.
    #[must_use]
    pub fn committed_at(&self) -> Timestamp {
        self.published().committed_at()
    }

    /// A row's key as names and ids.
    pub fn tuple_key(&self, key: &RowKey) -> Result<TupleKey, Error> {
        judge::tuple_key(&self.names(), key, |of: TypeNum, number: ObjectNum| self.dictionary.id(of, number))
    }

    /// A row as a tuple.
    pub fn tuple(&self, key: &RowKey, value: &RowValue) -> Result<RelationTuple, Error> {
        let caveat = match &value.caveat {
            None => None,
            Some(caveat) => {
                let name = self.names().caveat_name(caveat.caveat)?.clone();
                let context = if caveat.context.is_empty() {
                    crate::model::Context::new()
                } else {
                    serde_json::from_slice(&caveat.context)
                        .map_err(|_| Error::Corrupt("a stored context that is not JSON".to_owned()))?
                };
                Some(TupleCaveat { name, context })
            }
        };
        Ok(RelationTuple { key: self.tuple_key(key)?, caveat, expires_at: value.expires_at })
    }

    /// Calls `hear` after each revision is published, until what is returned is dropped. It is called on the writing
    /// thread: it must be quick, and neither block nor panic.
    pub fn listen(&self, hear: Listener) -> Listening {
        self.shared.listeners.add(hear)
    }

    /// Lets the committer finish what it has accepted, then stops it. Later commits are refused.
    pub fn close(&self) {
        let thread = self.committer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A full queue drains, so this send ends.
            let _ = self.queue.send(Message::Close);
            if thread.join().is_err() {
                tracing::error!("the committer had panicked");
            }
        }
        self.dictionary.close();
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

/// The database's id and incarnation, drawn now if it has none.
fn identify(db: &Db) -> Result<([u8; 16], u64), Error> {
    let meta = db.families().meta;
    if let (Some(database), Some(incarnation)) = (db.get(meta, META_DATABASE)?, db.get(meta, META_INCARNATION)?) {
        let database = database.try_into().map_err(|_| Error::Corrupt("the database's id".to_owned()))?;
        return Ok((database, keys::read_u64(&incarnation, 0)?));
    }
    let mut random = [0; 24];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| Error::Storage("no random numbers to be had".to_owned()))?;
    let (database, incarnation) = random.split_at(16);
    let mut batch = rocksdb::WriteBatch::default();
    batch.put_cf(meta, META_DATABASE, database);
    batch.put_cf(meta, META_INCARNATION, incarnation);
    let mut options = rocksdb::WriteOptions::default();
    options.set_sync(true);
    db.borrow_owner().write_opt(batch, &options)?;
    let mut id = [0; 16];
    id.copy_from_slice(database);
    Ok((id, keys::read_u64(incarnation, 0)?))
}

/// What the committer needs to know of the committed state.
fn load_state(db: Arc<Db>, dictionary: Arc<Dictionary>) -> Result<State, Error> {
    let meta = db.families().meta;
    let head = db.get(meta, overlay::HEAD)?.map_or(Ok(Head::EMPTY), |bytes| Head::decode(&bytes))?;
    let mut added = Vec::new();
    db.scan(meta, overlay::NAME_PREFIX, |key, value| {
        added.push(names::NewName::decode(key.get(overlay::NAME_PREFIX.len()..).unwrap_or_default(), value)?);
        Ok(ControlFlow::Continue(()))
    })?;
    // Types before members, each ascending: a member names its type.
    added.sort_by_key(|new| match new {
        names::NewName::Type { number, .. } => (0, number.0),
        names::NewName::Member { number, .. } => (1, number.0),
        names::NewName::Caveat { number, .. } => (2, number.0),
    });
    let mut names = Names::default();
    for new in &added {
        names.add(new)?;
    }
    let mut counters = HashMap::new();
    db.scan(meta, overlay::COUNT_PREFIX, |key, value| {
        let form = FormKey::decode(key.get(overlay::COUNT_PREFIX.len()..).unwrap_or_default())?;
        counters.insert(form, keys::read_u64(value, 0)?);
        Ok(ControlFlow::Continue(()))
    })?;
    let mut next_numbers = HashMap::new();
    for of in (0..names.type_count()).filter_map(|at| u32::try_from(at).ok()).map(TypeNum) {
        next_numbers.insert(of, dictionary.next_number(of)?);
    }
    let last = db.last_key(db.families().delegation, &[])?;
    let next_delegation = last.map_or(Ok(1), |key| keys::read_u64(&key, 0).map(|last| last.saturating_add(1)))?;
    let mut suspended = Suspended::default();
    db.scan(db.families().suspension, &[], |_, record| {
        suspended.add(delegations::decode_suspension(record)?.principal);
        Ok(ControlFlow::Continue(()))
    })?;
    let names = Arc::new(names);
    let bounds = Bounds::of(&Limits::default());
    Ok(State { db, dictionary, names, counters, next_numbers, next_delegation, suspended, head, bounds })
}

fn check_high_water(db: &Db, folder: &Path, head: Head) -> Result<(), Error> {
    let Some(mark) = HighWater::read(folder)? else {
        if head.revision > Revision(0) {
            tracing::warn!("the high-water mark is missing: whether acknowledged writes were lost cannot be told");
        }
        return Ok(());
    };
    let missing = Error::BelowHighWater { found: head.revision, mark: mark.revision };
    if mark.revision > head.revision {
        return Err(missing);
    }
    match db.get(db.families().log, &keys::log_key(mark.revision.0, changelog::SEAL))? {
        Some(seal) if seal == mark.seal => Ok(()),
        Some(_) | None => Err(missing),
    }
}
