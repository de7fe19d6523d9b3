//! What a commit group has accepted so far, laid over what is committed.
//!
//! INVARIANT: the only way to change anything is `apply(entry)`, and what it changes depends on nothing but the entry
//! and the state before it. So the state is a fold of the changelog by construction, not by care.

use super::changelog::{LogEntry, SEAL};
use super::db::{Db, Families};
use super::delegations::{
    DelegationsBy, Idempotency, Idempotent, decode_record, decode_suspension, encode_record, encode_suspension, id_key,
    idempotency_key, lasting_keys, live_key, number_of, record_key, suspension_key,
};
use super::dictionary::Dictionary;
use super::error::Error;
use super::keys::{RowKey, after_prefix, expiry_key, log_key, numbered, read_u64};
use super::names::{Names, NewName};
use super::row::RowValue;
use super::snapshot::Snapshot;
use super::suspended::Suspended;
use crate::model::{
    Delegation, DelegationId, Limits, MemberNum, ObjectId, ObjectNum, ObjectRef, Revision, SubjectKind, Suspension,
    Timestamp, TypeNum,
};
use aws_lc_rs::digest::{Context, SHA256};
use hashbrown::{Equivalent, HashMap};
use rocksdb::{ColumnFamily, WriteBatch};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

/// A relation and one form of subject in it, of which the live tuples are counted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FormKey {
    pub relation: MemberNum,
    pub kind: SubjectKind,
    pub subject: MemberNum,
    /// 0 is none, else the caveat's number plus one.
    pub caveat: u32,
    pub expires: bool,
}

impl FormKey {
    /// The form a row stands in.
    #[must_use]
    pub fn of(key: &RowKey, value: &RowValue) -> FormKey {
        FormKey {
            relation: key.relation,
            kind: key.subject.kind,
            subject: key.subject.member,
            caveat: value.caveat.as_ref().map_or(0, |caveat| caveat.caveat.0.saturating_add(1)),
            expires: value.expires_at.is_some(),
        }
    }

    /// Its key in `meta`, after the counters' prefix.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut key = self.relation.0.to_be_bytes().to_vec();
        key.push(self.kind as u8);
        key.extend_from_slice(&self.subject.0.to_be_bytes());
        key.extend_from_slice(&self.caveat.to_be_bytes());
        key.push(u8::from(self.expires));
        key
    }

    pub(super) fn decode(key: &[u8]) -> Result<FormKey, Error> {
        let corrupt = || Error::Corrupt("a counter's key".to_owned());
        let kind = key.get(4).and_then(|byte| SubjectKind::from_byte(*byte)).ok_or_else(corrupt)?;
        Ok(FormKey {
            relation: MemberNum(super::keys::read_u32(key, 0)?),
            kind,
            subject: MemberNum(super::keys::read_u32(key, 5)?),
            caveat: super::keys::read_u32(key, 9)?,
            expires: *key.get(13).ok_or_else(corrupt)? != 0,
        })
    }
}

/// Where the committed state ends: what the next group builds on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    pub revision: Revision,
    pub schema_revision: Revision,
    pub at: Timestamp,
    /// Hash over all of the changelog so far.
    pub seal: [u8; 32],
}

impl Head {
    /// Before anything was written.
    pub const EMPTY: Head =
        Head { revision: Revision(0), schema_revision: Revision(0), at: Timestamp::MIN, seal: [0; 32] };

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.revision.0.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.schema_revision.0.to_be_bytes());
        bytes.extend_from_slice(&self.at.seconds().to_be_bytes());
        bytes.extend_from_slice(&self.at.nanos().to_be_bytes());
        bytes.extend_from_slice(&self.seal);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Head, Error> {
        let corrupt = || Error::Corrupt("the head".to_owned());
        let seconds = super::keys::read_u64(bytes, 16)?.cast_signed();
        Ok(Head {
            revision: Revision(super::keys::read_u64(bytes, 0)?),
            schema_revision: Revision(super::keys::read_u64(bytes, 8)?),
            at: Timestamp::new(seconds, super::keys::read_u32(bytes, 24)?).ok_or_else(corrupt)?,
            seal: bytes.get(28..60).and_then(|seal| seal.try_into().ok()).ok_or_else(corrupt)?,
        })
    }
}

/// The committed state, as the one writer knows it.
pub struct State {
    pub db: Arc<Db>,
    pub dictionary: Arc<Dictionary>,
    pub names: Arc<Names>,
    pub counters: HashMap<FormKey, u64>,
    pub next_numbers: HashMap<TypeNum, u32>,
    /// The number of the next delegation.
    pub next_delegation: u64,
    pub suspended: Suspended,
    pub head: Head,
    pub bounds: Bounds,
}

/// What one request may look through while others wait for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    pub ancestors_max: usize,
    pub subtree_objects_max: usize,
}

impl Bounds {
    /// Those of a table of limits.
    pub fn of(limits: &Limits) -> Bounds {
        Bounds { ancestors_max: limits.ancestors_max, subtree_objects_max: limits.subtree_objects_max }
    }
}

impl State {
    /// The state at a snapshot, for whoever looks and changes nothing: no number can be given by it.
    pub fn at(
        snapshot: &Snapshot,
        db: Arc<Db>,
        dictionary: Arc<Dictionary>,
        names: Arc<Names>,
        bounds: Bounds,
    ) -> Result<State, Error> {
        let mut counters = HashMap::new();
        snapshot.range(snapshot.families().meta, COUNT_PREFIX, &after_prefix(COUNT_PREFIX), |key, value| {
            counters.insert(FormKey::decode(key.get(COUNT_PREFIX.len()..).unwrap_or_default())?, read_u64(value, 0)?);
            Ok(ControlFlow::Continue(()))
        })?;
        let head = Head {
            revision: snapshot.revision(),
            schema_revision: snapshot.schema_revision(),
            at: snapshot.committed_at(),
            ..Head::EMPTY
        };
        let (next_numbers, next_delegation) = (HashMap::new(), 0);
        let suspended = snapshot.suspended().clone();
        Ok(State { db, dictionary, names, counters, next_numbers, next_delegation, suspended, head, bounds })
    }
}

/// An id of a type, to be looked up without a copy of it.
#[derive(Hash)]
pub(super) struct IdOf<'i>(pub(super) TypeNum, pub(super) &'i ObjectId);

impl Equivalent<(TypeNum, ObjectId)> for IdOf<'_> {
    fn equivalent(&self, (of, id): &(TypeNum, ObjectId)) -> bool {
        self.0 == *of && self.1 == id
    }
}

/// A group in the making.
pub struct Overlay<'a> {
    state: &'a State,
    /// What is read beneath the group; `None`: what is committed, which is the newest.
    snapshot: Option<&'a Snapshot>,
    pub revision: Revision,
    rows: BTreeMap<RowKey, Option<RowValue>>,
    /// Committed rows that were looked up to be changed: they are asked for once more when they are.
    looked_up: RefCell<HashMap<RowKey, Option<RowValue>>>,
    /// Keys of `expiry` that are to be there, or not.
    ends: BTreeMap<Vec<u8>, bool>,
    ids: HashMap<(TypeNum, ObjectId), ObjectNum>,
    names: Option<Names>,
    counters: HashMap<FormKey, u64>,
    next_numbers: HashMap<TypeNum, u32>,
    schema: Option<String>,
    /// The group's own delegations as they are after it, by number, and their numbers.
    delegations: BTreeMap<u64, Arc<Delegation>>,
    delegation_numbers: HashMap<DelegationId, u64>,
    /// Keys of `delegation_index` of delegations that are not revoked: to be there, or not.
    lives: BTreeMap<Vec<u8>, bool>,
    idempotent: BTreeMap<Box<[u8]>, Idempotent>,
    next_delegation: u64,
    suspensions: BTreeMap<ObjectRef, Option<Suspension>>,
    suspension_count: u64,
    at: Timestamp,
    entries: Vec<LogEntry>,
}

/// A finished group: the bytes to write and what becomes of the state once they are down.
pub struct Sealed {
    pub batch: WriteBatch,
    /// The rows that are there, or not, after it.
    pub rows: BTreeMap<RowKey, Option<RowValue>>,
    /// Of each delegation that it changes.
    pub delegations: Vec<DelegationId>,
    head: Head,
    names: Option<Names>,
    counters: HashMap<FormKey, u64>,
    next_numbers: HashMap<TypeNum, u32>,
    next_delegation: u64,
    suspension_count: u64,
    suspensions: BTreeMap<ObjectRef, Option<Suspension>>,
    entries: Vec<LogEntry>,
}

/// About what an entry comes to in the batch, over all families.
const BATCH_BYTES_AN_ENTRY: usize = 128;

pub(super) const HEAD: &[u8] = b"head";
pub(super) const NAME_PREFIX: &[u8] = b"name/";
pub(super) const COUNT_PREFIX: &[u8] = b"count/";

fn prefixed(prefix: &[u8], rest: &[u8]) -> Vec<u8> {
    [prefix, rest].concat()
}

impl<'a> Overlay<'a> {
    /// An empty group after the committed state.
    #[must_use]
    pub fn new(state: &'a State) -> Overlay<'a> {
        Overlay {
            state,
            snapshot: None,
            revision: Revision(state.head.revision.0 + 1),
            rows: BTreeMap::new(),
            looked_up: RefCell::default(),
            ends: BTreeMap::new(),
            ids: HashMap::new(),
            names: None,
            counters: HashMap::new(),
            next_numbers: HashMap::new(),
            schema: None,
            delegations: BTreeMap::new(),
            delegation_numbers: HashMap::new(),
            lives: BTreeMap::new(),
            idempotent: BTreeMap::new(),
            next_delegation: state.next_delegation,
            suspensions: BTreeMap::new(),
            suspension_count: state.suspended.count(),
            at: state.head.at,
            entries: Vec::new(),
        }
    }

    /// An empty group after the state at a snapshot, which is judged by and never committed.
    #[must_use]
    pub fn at(state: &'a State, snapshot: &'a Snapshot) -> Overlay<'a> {
        Overlay { snapshot: Some(snapshot), ..Overlay::new(state) }
    }

    fn get(&self, family: &ColumnFamily, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        match self.snapshot {
            None => self.state.db.get(family, key),
            Some(snapshot) => Ok(snapshot.get(family, key)?.map(|bytes| bytes.to_vec())),
        }
    }

    /// Everything under a prefix that stands beneath the group.
    pub fn scan(
        &self,
        family: &ColumnFamily,
        prefix: &[u8],
        each: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, Error>,
    ) -> Result<(), Error> {
        self.scan_after(family, prefix, None, each)
    }

    /// The same after a key.
    pub fn scan_after(
        &self,
        family: &ColumnFamily,
        prefix: &[u8],
        after: Option<&[u8]>,
        each: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, Error>,
    ) -> Result<(), Error> {
        let Some(snapshot) = self.snapshot else { return self.state.db.scan_after(family, prefix, after, each) };
        let from = after.map_or_else(|| prefix.to_vec(), |after| [after, &[0]].concat());
        snapshot.range(family, &from, &after_prefix(prefix), each)
    }

    /// The column families.
    #[must_use]
    pub fn families(&self) -> &'a Families<'a> {
        self.state.db.families()
    }

    /// Whether nothing was accepted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The committed state below.
    #[must_use]
    pub fn state(&self) -> &'a State {
        self.state
    }

    /// All names, this group's included.
    #[must_use]
    pub fn names(&self) -> &Names {
        self.names.as_ref().unwrap_or(&self.state.names)
    }

    /// The revision of the schema in force.
    #[must_use]
    pub fn schema_revision(&self) -> Revision {
        if self.schema.is_some() { self.revision } else { self.state.head.schema_revision }
    }

    /// The number of an id, if it has one.
    pub fn number(&self, of: TypeNum, id: &ObjectId) -> Result<Option<ObjectNum>, Error> {
        match self.ids.get(&IdOf(of, id)) {
            Some(number) => Ok(Some(*number)),
            None => self.state.dictionary.number(of, id.as_str()),
        }
    }

    /// Whether no committed row can name the number, because it was not given yet.
    #[must_use]
    pub fn is_new(&self, of: TypeNum, number: ObjectNum) -> bool {
        // At a snapshot it is not known which were.
        self.snapshot.is_none() && self.state.next_numbers.get(&of).is_none_or(|next| number.0 >= *next)
    }

    fn is_new_row(&self, key: &RowKey) -> Result<bool, Error> {
        let names = self.names();
        Ok(self.is_new(names.member(key.relation)?.of, key.object)
            || (key.subject.kind != SubjectKind::Wildcard
                && self.is_new(names.member(key.subject.member)?.of, key.subject.object)))
    }

    /// The next number of a type that is free.
    #[must_use]
    pub fn next_number(&self, of: TypeNum) -> u32 {
        let known = self.next_numbers.get(&of).or_else(|| self.state.next_numbers.get(&of));
        known.copied().unwrap_or(0)
    }

    /// A row, live or expired.
    pub fn row(&self, key: &RowKey) -> Result<Option<RowValue>, Error> {
        if let Some(value) = self.rows.get(key) {
            return Ok(value.clone());
        }
        if self.is_new_row(key)? {
            return Ok(None);
        }
        let found = self.get(self.families().fwd, &key.forward())?;
        found.map(|bytes| RowValue::decode(&bytes)).transpose()
    }

    /// The same, of a row that the request is about to change.
    pub fn row_to_change(&self, key: &RowKey) -> Result<Option<RowValue>, Error> {
        let found = self.row(key)?;
        if !self.rows.contains_key(key) {
            self.looked_up.borrow_mut().insert(*key, found.clone());
        }
        Ok(found)
    }

    /// The group's own rows: `None` where it removed one.
    #[must_use]
    pub fn rows(&self) -> &BTreeMap<RowKey, Option<RowValue>> {
        &self.rows
    }

    /// Tuples in a form, expired ones that are not collected yet included.
    #[must_use]
    pub fn count(&self, form: &FormKey) -> u64 {
        self.counters.get(form).or_else(|| self.state.counters.get(form)).copied().unwrap_or(0)
    }

    /// A delegation by its number.
    pub fn delegation(&self, number: u64) -> Result<Option<Arc<Delegation>>, Error> {
        if let Some(record) = self.delegations.get(&number) {
            return Ok(Some(record.clone()));
        }
        let found = self.get(self.families().delegation, &record_key(number))?;
        found.map(|bytes| decode_record(&bytes).map(Arc::new)).transpose()
    }

    /// A delegation by its id.
    pub fn delegation_of(&self, id: &DelegationId) -> Result<Option<Arc<Delegation>>, Error> {
        if let Some(number) = self.delegation_numbers.get(id) {
            return self.delegation(*number);
        }
        match self.get(self.families().delegation_index, &id_key(id))? {
            Some(number) => self.delegation(read_u64(&number, 0)?),
            None => Ok(None),
        }
    }

    /// Adds the numbers of committed delegations that an index names. The group's own are `own_delegations`.
    pub fn indexed(&self, by: DelegationsBy<'_>, numbers: &mut BTreeSet<u64>) -> Result<(), Error> {
        self.scan(self.families().delegation_index, &by.prefix(), |key, _| {
            numbers.insert(number_of(key)?);
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Numbers of the delegations that the group made or changed.
    pub fn own_delegations(&self) -> impl Iterator<Item = u64> {
        self.delegations.keys().copied()
    }

    /// The number of the next delegation.
    #[must_use]
    pub fn next_delegation(&self) -> u64 {
        self.next_delegation
    }

    /// What was made under an idempotency key.
    pub fn idempotent(&self, key: &[u8]) -> Result<Option<Idempotent>, Error> {
        if let Some(found) = self.idempotent.get(key) {
            return Ok(Some(*found));
        }
        let found = self.get(self.families().delegation_index, &idempotency_key(key))?;
        found.map(|bytes| Idempotent::decode(&bytes)).transpose()
    }

    /// The principal's suspension.
    pub fn suspension(&self, principal: &ObjectRef) -> Result<Option<Suspension>, Error> {
        if let Some(found) = self.suspensions.get(principal) {
            return Ok(found.clone());
        }
        let found = self.get(self.families().suspension, &suspension_key(principal))?;
        found.map(|bytes| decode_suspension(&bytes)).transpose()
    }

    /// Takes one entry of the changelog.
    pub fn apply(&mut self, entry: LogEntry) -> Result<(), Error> {
        match &entry {
            LogEntry::Mark { at, metadata: _ } => self.at = self.at.max(*at),
            LogEntry::Put { key, value, created: _ } => {
                self.forget(key)?;
                let form = FormKey::of(key, value);
                let count = self.count(&form);
                self.counters.insert(form, count + 1);
                if let Some(end) = value.expires_at {
                    self.ends.insert(expiry_key(end, key), true);
                }
                self.rows.insert(*key, Some(value.clone()));
            }
            LogEntry::Remove { key, value: _ } | LogEntry::Expire { key, value: _ } => {
                self.forget(key)?;
                self.rows.insert(*key, None);
            }
            LogEntry::Id { of, number, id } => {
                self.ids.insert((*of, id.clone()), *number);
                let next = number.0.checked_add(1);
                self.next_numbers.insert(*of, next.unwrap_or(u32::MAX));
            }
            LogEntry::Name(new) => {
                let state = self.state;
                self.names.get_or_insert_with(|| Names::clone(&state.names)).add(new)?;
            }
            LogEntry::Schema { text } => self.schema = Some(text.clone()),
            LogEntry::Delegation { record, change: _, idempotency } => {
                self.take_delegation(record, idempotency.as_ref())?;
            }
            LogEntry::Suspended(suspension) => {
                if self.suspension(&suspension.principal)?.is_none() {
                    self.suspension_count += 1;
                }
                self.suspensions.insert(suspension.principal.clone(), Some(suspension.clone()));
            }
            LogEntry::Reinstated { principal } => {
                if self.suspension(principal)?.is_some() {
                    self.suspension_count = self.suspension_count.saturating_sub(1);
                }
                self.suspensions.insert(principal.clone(), None);
            }
        }
        self.entries.push(entry);
        Ok(())
    }

    fn take_delegation(&mut self, record: &Arc<Delegation>, idempotency: Option<&Idempotency>) -> Result<(), Error> {
        let number = record.number;
        if let Some(key) = self.delegation(number)?.and_then(|before| live_key(&before)) {
            self.lives.insert(key, false);
        }
        if let Some(key) = live_key(record) {
            self.lives.insert(key, true);
        }
        if let Some(Idempotency { key, digest }) = idempotency {
            let made = Idempotent { number, digest: *digest, at: record.created_at };
            self.idempotent.insert(key.clone(), made);
        }
        self.next_delegation = self.next_delegation.max(number.saturating_add(1));
        self.delegation_numbers.insert(record.id, number);
        self.delegations.insert(number, record.clone());
        Ok(())
    }

    /// Takes a row out of its form's count, if it is there.
    fn forget(&mut self, key: &RowKey) -> Result<(), Error> {
        let looked_up = self.looked_up.borrow_mut().remove(key).filter(|_| !self.rows.contains_key(key));
        let old = looked_up.map_or_else(|| self.row(key), Ok)?;
        if let Some(old) = old {
            let form = FormKey::of(key, &old);
            let count = self.count(&form).checked_sub(1);
            let count = count.ok_or_else(|| Error::Corrupt("a counter below its rows".to_owned()))?;
            self.counters.insert(form, count);
            if let Some(end) = old.expires_at {
                self.ends.insert(expiry_key(end, key), false);
            }
        }
        Ok(())
    }

    /// The whole group as one batch.
    pub fn seal(self) -> Result<Sealed, Error> {
        let families = self.families();
        let mut batch = WriteBatch::with_capacity_bytes(BATCH_BYTES_AN_ENTRY * self.entries.len());
        // Family by family, each in the order of its keys: neighbours stand near each other in memory too.
        for (key, value) in &self.rows {
            match value {
                Some(value) => batch.put_cf(families.fwd, key.forward(), value.encode()),
                None => batch.delete_cf(families.fwd, key.forward()),
            }
        }
        let mut reverse: Vec<_> = self.rows.iter().map(|(key, value)| (key.reverse(), value)).collect();
        reverse.sort_unstable_by_key(|(key, _)| *key);
        for (key, value) in reverse {
            match value {
                Some(value) => batch.put_cf(families.rev, key, value.encode()),
                None => batch.delete_cf(families.rev, key),
            }
        }
        for (key, is_there) in &self.ends {
            if *is_there {
                batch.put_cf(families.expiry, key, []);
            } else {
                batch.delete_cf(families.expiry, key);
            }
        }
        let mut ids: Vec<_> = self.ids.iter().map(|((of, id), number)| (*of, id.as_str(), *number)).collect();
        ids.sort_unstable_by_key(|(of, id, _)| (*of, *id));
        for (of, id, number) in &ids {
            batch.put_cf(families.dict, numbered(of.0, id.as_bytes()), number.0.to_be_bytes());
        }
        ids.sort_unstable_by_key(|(of, _, number)| (*of, *number));
        for (of, id, number) in &ids {
            batch.put_cf(families.undict, numbered(of.0, &number.0.to_be_bytes()), id);
        }
        for (form, count) in &self.counters {
            batch.put_cf(families.meta, prefixed(COUNT_PREFIX, &form.encode()), count.to_be_bytes());
        }
        if let Some(text) = &self.schema {
            batch.put_cf(families.schema, self.revision.0.to_be_bytes(), text);
        }
        self.seal_delegations(&mut batch)?;
        let mut hash = Context::new(&SHA256);
        hash.update(&self.state.head.seal);
        let mut bytes = Vec::new();
        for (n, entry) in self.entries.iter().enumerate() {
            let n = u32::try_from(n).map_err(|_| Error::Corrupt("a revision of 2^32 entries".to_owned()))?;
            bytes.clear();
            entry.encode_into(&mut bytes)?;
            hash.update(&n.to_be_bytes());
            hash.update(&(bytes.len() as u64).to_be_bytes());
            hash.update(&bytes);
            batch.put_cf(families.log, log_key(self.revision.0, n), &bytes);
            if let LogEntry::Name(new) = entry {
                let (key, value) = NewName::encode(new);
                batch.put_cf(families.meta, prefixed(NAME_PREFIX, &key), value);
            }
        }
        let mut seal = [0; 32];
        seal.copy_from_slice(hash.finish().as_ref());
        batch.put_cf(families.log, log_key(self.revision.0, SEAL), seal);
        let head = Head { revision: self.revision, schema_revision: self.schema_revision(), at: self.at, seal };
        batch.put_cf(families.meta, HEAD, head.encode());
        Ok(Sealed {
            batch,
            delegations: self.delegations.values().map(|record| record.id).collect(),
            rows: self.rows,
            head,
            names: self.names,
            counters: self.counters,
            next_numbers: self.next_numbers,
            next_delegation: self.next_delegation,
            suspension_count: self.suspension_count,
            suspensions: self.suspensions,
            entries: self.entries,
        })
    }

    fn seal_delegations(&self, batch: &mut WriteBatch) -> Result<(), Error> {
        let families = self.families();
        for (number, record) in &self.delegations {
            batch.put_cf(families.delegation, record_key(*number), encode_record(record)?);
            batch.put_cf(families.delegation_index, id_key(&record.id), number.to_be_bytes());
            for key in lasting_keys(record) {
                batch.put_cf(families.delegation_index, key, []);
            }
        }
        for (key, is_there) in &self.lives {
            if *is_there {
                batch.put_cf(families.delegation_index, key, []);
            } else {
                batch.delete_cf(families.delegation_index, key);
            }
        }
        for (key, made) in &self.idempotent {
            batch.put_cf(families.delegation_index, idempotency_key(key), made.encode());
        }
        for (principal, suspension) in &self.suspensions {
            let key = suspension_key(principal);
            match suspension {
                Some(suspension) => batch.put_cf(families.suspension, key, encode_suspension(suspension)?),
                None => batch.delete_cf(families.suspension, key),
            }
        }
        Ok(())
    }
}

impl Sealed {
    /// After the batch is down: the state moves on. Returns whether names were added.
    pub fn settle(self, state: &mut State) -> bool {
        state.dictionary.add(self.entries.iter().filter_map(LogEntry::as_id));
        state.head = self.head;
        state.counters.extend(self.counters);
        state.next_numbers.extend(self.next_numbers);
        state.next_delegation = self.next_delegation;
        state.suspended.settle(self.suspensions, self.suspension_count);
        let named = self.names.is_some();
        if let Some(names) = self.names {
            state.names = Arc::new(names);
        }
        named
    }

    /// The batch, to be written before `settle`.
    pub fn take_batch(&mut self) -> WriteBatch {
        std::mem::take(&mut self.batch)
    }
}
