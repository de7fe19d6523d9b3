//! Floor 2: who stands where, exact at one revision and one clock reading.
//!
//! Relations are held in memory as far as the memory limit goes (`resident`), and what is read from the store beside them is
//! kept while nothing touches it (`cached`). RocksDB stays the truth: what memory cannot answer is read there, at the
//! reader's snapshot, and every answer is the same.

mod laid;
mod postings;
mod resident;
mod cached;

pub use laid::Laid;
pub use postings::{Few, Postings};
pub use resident::{Reader, Relation, Residency, Resident};

use crate::model::{MemberNum, ObjectNum, SubjectKind, Timestamp};
use crate::store::{Direction, ROW_KEY_BYTES, forward_prefix};
pub use crate::store::{Error, RowCaveat, RowKey, RowValue, Snapshot, SubjectKey};
use cached::Wanted;
use smallvec::SmallVec;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Rows of one relation of one object, few of which is the common case.
pub type Rows = SmallVec<[(SubjectKey, RowValue); 4]>;

/// The graph of one request: one revision, one clock reading, and what the request lays over it. A row that has expired
/// by that clock does not exist.
#[derive(Clone, Debug)]
pub struct View {
    snapshot: Arc<Snapshot>,
    now: Timestamp,
    laid: Option<Arc<Laid>>,
    resident: Option<Arc<Resident>>,
    reach: Reach,
}

/// How far a reader goes for a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// What is not in memory is an error: who asks must not wait for a disk.
    Memory,
    Store,
}

/// Which subjects of a relation are meant.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Subjects {
    All,
    Usersets,
    OfForm(SubjectKind, MemberNum),
}

impl Subjects {
    fn have(self, kind: SubjectKind, member: MemberNum) -> bool {
        match self {
            Subjects::All => true,
            Subjects::Usersets => kind == SubjectKind::Userset,
            Subjects::OfForm(of, only) => (kind, member) == (of, only),
        }
    }
}

/// Rows that are read together.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Read {
    /// Of a relation on an object.
    Forward(MemberNum, ObjectNum, Subjects),
    /// Of a relation, those that name a subject.
    Reverse(SubjectKey, MemberNum),
}

impl Read {
    fn direction(self) -> Direction {
        match self {
            Read::Forward(..) => Direction::Forward,
            Read::Reverse(..) => Direction::Reverse,
        }
    }

    /// What their keys begin with.
    fn prefix(self) -> Vec<u8> {
        match self {
            Read::Forward(relation, object, subjects) => {
                let mut prefix = forward_prefix(relation, Some(object));
                match subjects {
                    Subjects::All => {}
                    Subjects::Usersets => prefix.push(SubjectKind::Userset as u8),
                    Subjects::OfForm(kind, member) => {
                        prefix.push(kind as u8);
                        prefix.extend_from_slice(&member.0.to_be_bytes());
                    }
                }
                prefix
            }
            Read::Reverse(subject, relation) => {
                let mut prefix = forward_prefix(subject.member, Some(subject.object));
                prefix.push(subject.kind as u8);
                prefix.extend_from_slice(&relation.0.to_be_bytes());
                prefix
            }
        }
    }

    fn key(self, after: RowKey) -> [u8; ROW_KEY_BYTES] {
        match self {
            Read::Forward(..) => after.forward(),
            Read::Reverse(..) => after.reverse(),
        }
    }
}

impl View {
    /// The graph as of a snapshot, read at `now`: from memory as far as it is there.
    #[must_use]
    pub fn new(snapshot: Arc<Snapshot>, resident: Option<Arc<Resident>>, now: Timestamp) -> View {
        View { snapshot, now, laid: None, resident, reach: Reach::Store }
    }

    /// The same, going for a row only so far.
    #[must_use]
    pub fn reaching(self, reach: Reach) -> View {
        View { reach, ..self }
    }

    /// How far it goes for a row.
    #[must_use]
    pub fn reach(&self) -> Reach {
        self.reach
    }

    /// What memory has, for who reads many rows of it at once; `None` where something is laid over the state. It holds a
    /// lock: nothing else of the view may be read meanwhile, and not for long.
    #[must_use]
    pub fn reader(&self) -> Option<Reader<'_>> {
        match (&self.resident, &self.laid) {
            (Some(resident), None) => resident.read(&self.snapshot),
            _ => None,
        }
    }

    /// The same with these rows laid over the state, instead of any that were.
    #[must_use]
    pub fn under(&self, laid: Laid) -> View {
        View { laid: Some(Arc::new(laid)), ..self.clone() }
    }

    /// The same with what has ended beside what is live. Only to tell of it: no answer comes of this.
    #[must_use]
    pub fn with_ended(&self) -> View {
        View { now: Timestamp::MIN, ..self.clone() }
    }

    /// What is laid over the state.
    #[must_use]
    pub fn laid(&self) -> Laid {
        self.laid.as_deref().cloned().unwrap_or_default()
    }

    /// The state that is read.
    #[must_use]
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// The clock reading by which expiry is judged.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The value of this very row, if it is live.
    pub fn row(&self, key: &RowKey) -> Result<Option<RowValue>, Error> {
        let found = match self.laid.as_ref().and_then(|laid| laid.row(key)) {
            Some(laid) => laid.cloned(),
            None => self.stored_row(key)?,
        };
        Ok(found.filter(|value| value.is_live(self.now)))
    }

    /// Up to `rows_max` live usersets of a relation on an object, after `after` in key order. The second value is
    /// where to go on; `None` at the end.
    pub fn usersets(
        &self,
        relation: MemberNum,
        object: ObjectNum,
        after: Option<RowKey>,
        rows_max: usize,
    ) -> Result<(Rows, Option<RowKey>), Error> {
        self.page(Read::Forward(relation, object, Subjects::Usersets), after, rows_max)
    }

    /// Up to `rows_max` live subjects of any kind of a relation on an object, as `usersets` does.
    pub fn subjects(
        &self,
        relation: MemberNum,
        object: ObjectNum,
        after: Option<RowKey>,
        rows_max: usize,
    ) -> Result<(Rows, Option<RowKey>), Error> {
        self.page(Read::Forward(relation, object, Subjects::All), after, rows_max)
    }

    /// Up to `rows_max` live subjects of one form of a relation on an object, as `usersets` does.
    pub fn subjects_of_form(
        &self,
        relation: MemberNum,
        object: ObjectNum,
        (kind, member): (SubjectKind, MemberNum),
        after: Option<RowKey>,
        rows_max: usize,
    ) -> Result<(Rows, Option<RowKey>), Error> {
        self.page(Read::Forward(relation, object, Subjects::OfForm(kind, member)), after, rows_max)
    }

    /// Up to `rows_max` objects on which a live row of `relation` names exactly this subject, ascending, after `after`
    /// in key order. The second value is where to go on; `None` at the end.
    pub fn objects(
        &self,
        subject: SubjectKey,
        relation: MemberNum,
        after: Option<RowKey>,
        rows_max: usize,
    ) -> Result<(Vec<ObjectNum>, Option<RowKey>), Error> {
        let mut objects = Vec::new();
        let next = self.scan(Read::Reverse(subject, relation), after, |key, _| {
            objects.push(key.object);
            objects.len() < rows_max
        })?;
        Ok((objects, next))
    }

    fn page(&self, read: Read, after: Option<RowKey>, rows_max: usize) -> Result<(Rows, Option<RowKey>), Error> {
        let mut rows = Rows::new();
        let next = self.scan(read, after, |key, value| {
            rows.push((key.subject, value));
            rows.len() < rows_max
        })?;
        Ok((rows, next))
    }

    /// Gives each live row to `more` until it has enough; returns where to go on, `None` at the end.
    fn scan(
        &self,
        read: Read,
        after: Option<RowKey>,
        mut more: impl FnMut(RowKey, RowValue) -> bool,
    ) -> Result<Option<RowKey>, Error> {
        let mut next = None;
        let mut give = |key, value| {
            let wants_more = more(key, value);
            if !wants_more {
                next = Some(key);
            }
            wants_more
        };
        let Some(laid) = &self.laid else {
            self.stored(read, after, |key, value| !value.is_live(self.now) || give(key, value))?;
            return Ok(next);
        };
        let (prefix, behind) = (read.prefix(), after.map(|after| read.key(after)));
        let mut merge = laid.merge(read.direction(), &prefix, behind.as_ref(), self.now);
        let mut wants_more = true;
        self.stored(read, after, |key, value| {
            wants_more = merge.stored(key, value, &mut give);
            wants_more
        })?;
        if wants_more {
            merge.rest(&mut give);
        }
        Ok(next)
    }

    /// Gives the rows of the state in key order, live or ended, until `each` has enough: from memory if they are there.
    fn stored(
        &self,
        read: Read,
        after: Option<RowKey>,
        mut each: impl FnMut(RowKey, RowValue) -> bool,
    ) -> Result<(), Error> {
        if let Some(reader) = self.resident.as_ref().and_then(|resident| resident.read(&self.snapshot)) {
            match read {
                Read::Forward(relation, object, subjects) => {
                    if let Some(rows) = reader.relation(relation)
                        && reader.knows_object(relation, object)
                    {
                        let is_meant = |kind, member| subjects.have(kind, member);
                        rows.each_subject(object, is_meant, after.map(|after| after.subject), |subject, value| {
                            each(RowKey { relation, object, subject }, value)
                        });
                        return Ok(());
                    }
                }
                Read::Reverse(subject, relation) => {
                    if let Some(rows) = reader.relation(relation)
                        && reader.knows_subject(subject)
                    {
                        rows.each_object(subject, after.map(|after| after.object), |object, value| {
                            each(RowKey { relation, object, subject }, value)
                        });
                        return Ok(());
                    }
                }
            }
        }
        let wanted = Wanted::Rows(read);
        if let Some(rows) = self.kept(wanted) {
            let behind = rows.iter().filter(|(key, _)| after.is_none_or(|after| read.key(*key) > read.key(after)));
            for (key, value) in behind {
                if !each(*key, value.clone()) {
                    break;
                }
            }
            return Ok(());
        }
        self.reaching_store()?;
        let (prefix, behind) = (read.prefix(), after.map(|after| read.key(after)));
        // All of it is worth keeping, if it is little.
        let mut all = after.is_none().then(Vec::new);
        self.snapshot.rows(read.direction(), &prefix, behind.as_ref(), |key, value| {
            if all.as_ref().is_some_and(|rows| rows.len() >= cached::ROWS_MAX) {
                all = None;
            }
            if let Some(rows) = &mut all {
                rows.push((key, value.clone()));
            }
            if each(key, value) {
                return Ok(ControlFlow::Continue(()));
            }
            all = None;
            Ok(ControlFlow::Break(()))
        })?;
        self.keep(wanted, all);
        Ok(())
    }

    fn kept(&self, wanted: Wanted) -> Option<Arc<[(RowKey, RowValue)]>> {
        let cached = self.resident.as_ref()?.cached()?;
        cached.get(wanted, self.snapshot.revision(), self.snapshot.stamps())
    }

    fn keep(&self, wanted: Wanted, rows: Option<Vec<(RowKey, RowValue)>>) {
        if let Some(rows) = rows
            && let Some(cached) = self.resident.as_ref().and_then(|resident| resident.cached())
        {
            cached.put(wanted, rows, self.snapshot.revision());
        }
    }

    fn stored_row(&self, key: &RowKey) -> Result<Option<RowValue>, Error> {
        if let Some(reader) = self.resident.as_ref().and_then(|resident| resident.read(&self.snapshot))
            && let Some(rows) = reader.relation(key.relation)
            && reader.knows_object(key.relation, key.object)
        {
            let is_there = rows.has(key.object, key.subject);
            return Ok(is_there.then(|| rows.value(key.object, key.subject).cloned().unwrap_or_default()));
        }
        let wanted = Wanted::Row(*key);
        if let Some(rows) = self.kept(wanted) {
            return Ok(rows.first().map(|(_, value)| value.clone()));
        }
        self.reaching_store()?;
        let found = self.snapshot.row(key)?;
        self.keep(wanted, Some(found.iter().map(|value| (*key, value.clone())).collect()));
        Ok(found)
    }

    fn reaching_store(&self) -> Result<(), Error> {
        match self.reach {
            Reach::Memory => Err(Error::NotInMemory),
            Reach::Store => Ok(()),
        }
    }
}
