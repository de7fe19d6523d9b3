//! Whole relations in memory: every row of them, forwards and backwards, as of the newest group that was applied.
//!
//! INVARIANT: a group is applied here after it is on disk and before its revision is published. So whoever reads at a
//! published revision, under the lock, sees no less than that revision; and sees no more where nothing has been applied
//! beyond it, or no later commit has touched what is read (`store/stamps.rs`). Where neither can be said, or a relation is
//! not here, the store is asked at the reader's own snapshot.
//!
//! A relation is loaded from a snapshot while commits go on: from before that snapshot is taken they are noted, and made up
//! for at the end. One that was made after the folder was opened is whole from its first row on.

use super::cached::Cached;
use super::postings::{Few, Postings};
use crate::model::{MemberNum, ObjectNum, Revision, SubjectKind};
use crate::store::{
    Beside, Direction, Error, Memory, RowKey, RowValue, Snapshot, Stamps, Store, SubjectKey, forward_prefix,
};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Rows that one hold of the lock applies: readers wait meanwhile.
const APPLIED_AT_ONCE: usize = 256;
/// Noted changes that are made up for under the lock.
const MADE_UP_AT_ONCE: usize = 256;
/// Changes noted while a relation is loaded: with more of them it is not loaded, and read from the store.
const NOTED_MAX: usize = 1 << 20;
/// Rows loaded between two looks at the memory that is left, and at who wants an end.
const LOADED_AT_ONCE: u64 = 1 << 14;
/// Bytes that a row with a caveat or an end takes beside the text of its context, about.
const VALUE_BYTES: u64 = 128;

/// The relations that are held.
pub struct Resident {
    memory: Arc<Memory>,
    inner: RwLock<Inner>,
    /// For the relations that are not.
    cached: Option<Cached>,
}

struct Inner {
    /// The newest group whose application has begun.
    applied: Revision,
    /// By number. Those beyond were made since the folder was opened and have no rows yet.
    relations: Vec<Class>,
    /// Which are given up last: the hierarchy, and who is in which group.
    kept_longest: Vec<bool>,
    /// A relation without rows.
    empty: Relation,
}

enum Class {
    Absent,
    /// Changes since before the snapshot that it is loaded from.
    Loading(Vec<Noted>),
    Whole(Box<Relation>),
}

type Noted = (RowKey, Option<RowValue>);

/// All rows of one relation.
#[derive(Default)]
pub struct Relation {
    /// By kind and member, ascending, as the keys of the store are.
    forms: Vec<Form>,
    /// Of rows that have a caveat or an end.
    values: HashMap<(ObjectNum, SubjectKey), RowValue, RandomState>,
    value_bytes: u64,
}

struct Form {
    kind: SubjectKind,
    member: MemberNum,
    forward: Postings,
    reverse: Postings,
}

/// How much of the rows is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Residency {
    /// Relations and permissions all of whose rows are held, of those that were there when the folder was opened.
    pub whole: u64,
    pub loading: u64,
    pub absent: u64,
    /// What was read from the store for the others, and is kept.
    pub kept: u64,
    /// Bytes of all that is held, about.
    pub bytes: u64,
}

impl Relation {
    fn form_mut(&mut self, kind: SubjectKind, member: MemberNum) -> Option<&mut Form> {
        let at = match self.forms.binary_search_by_key(&(kind, member), |form| (form.kind, form.member)) {
            Ok(at) => at,
            Err(at) => {
                let form = Form { kind, member, forward: Postings::default(), reverse: Postings::default() };
                self.forms.insert(at, form);
                at
            }
        };
        self.forms.get_mut(at)
    }

    fn form(&self, kind: SubjectKind, member: MemberNum) -> Option<&Form> {
        let at = self.forms.binary_search_by_key(&(kind, member), |form| (form.kind, form.member)).ok()?;
        self.forms.get(at)
    }

    fn put(&mut self, key: &RowKey, value: RowValue) {
        let RowKey { relation: _, object, subject } = *key;
        if let Some(form) = self.form_mut(subject.kind, subject.member) {
            form.forward.insert(object.0, subject.object.0);
            form.reverse.insert(subject.object.0, object.0);
        }
        self.forget_value(object, subject);
        if value != RowValue::default() {
            self.value_bytes += value_bytes(&value);
            self.values.insert((object, subject), value);
        }
    }

    fn remove(&mut self, key: &RowKey) {
        let RowKey { relation: _, object, subject } = *key;
        if let Some(form) = self.form_mut(subject.kind, subject.member) {
            form.forward.remove(object.0, subject.object.0);
            form.reverse.remove(subject.object.0, object.0);
        }
        self.forget_value(object, subject);
    }

    fn forget_value(&mut self, object: ObjectNum, subject: SubjectKey) {
        if self.values.is_empty() {
            return;
        }
        if let Some(old) = self.values.remove(&(object, subject)) {
            self.value_bytes = self.value_bytes.saturating_sub(value_bytes(&old));
        }
    }

    fn take(&mut self, (key, value): Noted) {
        match value {
            Some(value) => self.put(&key, value),
            None => self.remove(&key),
        }
    }

    fn bytes(&self) -> u64 {
        let postings = self.forms.iter().map(|form| form.forward.bytes() + form.reverse.bytes()).sum::<u64>();
        postings + self.value_bytes
    }

    /// Whether every row is no more than its key.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.values.is_empty()
    }

    /// What a row says beside its key.
    #[must_use]
    pub fn value(&self, object: ObjectNum, subject: SubjectKey) -> Option<&RowValue> {
        if self.is_plain() {
            return None;
        }
        self.values.get(&(object, subject))
    }

    /// The subjects of one form, by object; `None` if there is none.
    #[must_use]
    pub fn subjects_by_object(&self, kind: SubjectKind, member: MemberNum) -> Option<&Postings> {
        self.form(kind, member).map(|form| &form.forward)
    }

    /// The subjects of one form on an object.
    #[must_use]
    pub fn subjects(&self, object: ObjectNum, kind: SubjectKind, member: MemberNum) -> Few<'_> {
        self.form(kind, member).map_or(Few::None, |form| form.forward.of(object.0))
    }

    /// The objects whose rows name a subject.
    #[must_use]
    pub fn objects(&self, subject: SubjectKey) -> Few<'_> {
        self.form(subject.kind, subject.member).map_or(Few::None, |form| form.reverse.of(subject.object.0))
    }

    /// Whether any object has a subject of this form.
    #[must_use]
    pub fn has_form(&self, kind: SubjectKind, member: MemberNum) -> bool {
        self.form(kind, member).is_some_and(|form| form.forward.keys() > 0)
    }

    /// Whether there is such a row.
    #[must_use]
    pub fn has(&self, object: ObjectNum, subject: SubjectKey) -> bool {
        self.subjects(object, subject.kind, subject.member).contains(subject.object.0)
    }

    /// The rows of an object whose subjects have one of the forms, in key order and behind `after`, until `each` has enough.
    pub(super) fn each_subject(
        &self,
        object: ObjectNum,
        is_meant: impl Fn(SubjectKind, MemberNum) -> bool,
        after: Option<SubjectKey>,
        mut each: impl FnMut(SubjectKey, RowValue) -> bool,
    ) {
        for form in &self.forms {
            let Form { kind, member, forward, reverse: _ } = form;
            if !is_meant(*kind, *member) {
                continue;
            }
            let behind = match after {
                Some(after) if (after.kind, after.member) > (*kind, *member) => continue,
                Some(after) if (after.kind, after.member) == (*kind, *member) => Some(after.object.0),
                Some(_) | None => None,
            };
            for number in forward.of(object.0).after(behind) {
                let subject = SubjectKey { kind: *kind, member: *member, object: ObjectNum(number) };
                let value = if self.is_plain() { None } else { self.value(object, subject) };
                if !each(subject, value.cloned().unwrap_or_default()) {
                    return;
                }
            }
        }
    }

    /// The objects whose rows name a subject, ascending and behind `after`, until `each` has enough.
    pub(super) fn each_object(
        &self,
        subject: SubjectKey,
        after: Option<ObjectNum>,
        mut each: impl FnMut(ObjectNum, RowValue) -> bool,
    ) {
        for number in self.objects(subject).after(after.map(|after| after.0)) {
            let object = ObjectNum(number);
            let value = if self.is_plain() { None } else { self.value(object, subject) };
            if !each(object, value.cloned().unwrap_or_default()) {
                return;
            }
        }
    }
}

fn value_bytes(value: &RowValue) -> u64 {
    VALUE_BYTES + value.caveat.as_ref().map_or(0, |caveat| caveat.context.len() as u64)
}

impl Resident {
    /// Nothing yet.
    #[must_use]
    pub fn new(memory: Arc<Memory>) -> Resident {
        let relations = Vec::new();
        let inner = Inner { applied: Revision(0), relations, kept_longest: Vec::new(), empty: Relation::default() };
        Resident { cached: Cached::new(&memory), memory, inner: RwLock::new(inner) }
    }

    /// What is kept of relations that are not here, if anything is.
    pub(super) fn cached(&self) -> Option<&Cached> {
        self.cached.as_ref()
    }

    /// Poisoned, it is never read again, so it does not matter what is written.
    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a reader at a snapshot may use. While it is held nothing is applied: it must not be held for long. `None` once
    /// an application was broken off by a panic: nobody can say what is here then.
    pub(super) fn read<'a>(&'a self, snapshot: &'a Snapshot) -> Option<Reader<'a>> {
        let inner = self.inner.read().ok()?;
        let is_newest = inner.applied <= snapshot.revision();
        Some(Reader { inner, stamps: snapshot.stamps(), revision: snapshot.revision(), is_newest })
    }

    /// Loads relations that are not here, in this order, as far as memory goes; those of `kept_longest` are given up last.
    /// Returns early when `stop` says so. May run beside everything else.
    pub fn load(
        &self,
        store: &Store,
        order: &[MemberNum],
        kept_longest: &[MemberNum],
        stop: &dyn Fn() -> bool,
    ) -> Result<(), Error> {
        {
            let mut inner = self.write();
            for member in kept_longest {
                if inner.kept_longest.len() <= member.index() {
                    inner.kept_longest.resize(member.index() + 1, false);
                }
                if let Some(kept) = inner.kept_longest.get_mut(member.index()) {
                    *kept = true;
                }
            }
        }
        for relation in order {
            if stop() {
                return Ok(());
            }
            self.load_one(store, *relation, stop)?;
        }
        Ok(())
    }

    fn load_one(&self, store: &Store, number: MemberNum, stop: &dyn Fn() -> bool) -> Result<(), Error> {
        let applied = {
            let mut inner = self.write();
            let applied = inner.applied;
            match inner.relations.get_mut(number.index()) {
                Some(class @ Class::Absent) => *class = Class::Loading(Vec::new()),
                Some(Class::Loading(_) | Class::Whole(_)) | None => return Ok(()),
            }
            applied
        };
        // What was applied before the noting began is in the snapshot, once it is published: a moment later at most.
        let snapshot = loop {
            let snapshot = store.published();
            if snapshot.revision() >= applied {
                break snapshot;
            }
            if stop() {
                self.give_up(number);
                return Ok(());
            }
            std::thread::yield_now();
        };
        let loaded = self.rows_of(&snapshot, number, stop);
        let mut relation = match loaded {
            Ok(Some(relation)) => relation,
            Ok(None) => {
                self.give_up(number);
                return Ok(());
            }
            Err(error) => {
                self.give_up(number);
                return Err(error);
            }
        };
        let counted = relation.bytes();
        // Bounded in practice: making up is faster than committing, which waits for the disk.
        loop {
            let mut inner = self.write();
            let class = inner.relations.get_mut(number.index());
            let Some(class @ Class::Loading(_)) = class else {
                // More was noted than may be.
                drop(inner);
                self.memory.give_back(counted);
                return Ok(());
            };
            let Class::Loading(noted) = class else { return Ok(()) };
            if noted.len() <= MADE_UP_AT_ONCE {
                for change in std::mem::take(noted) {
                    relation.take(change);
                }
                self.memory.grow(relation.bytes().saturating_sub(counted));
                self.memory.give_back(counted.saturating_sub(relation.bytes()));
                *class = Class::Whole(relation);
                return Ok(());
            }
            let noted = std::mem::take(noted);
            drop(inner);
            for change in noted {
                relation.take(change);
            }
        }
    }

    /// All rows at a snapshot, their bytes taken from memory; `None` if there is no room for them, or an end is wanted.
    fn rows_of(
        &self,
        snapshot: &Snapshot,
        number: MemberNum,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Box<Relation>>, Error> {
        let mut relation = Box::<Relation>::default();
        let (mut rows, mut taken) = (0_u64, 0_u64);
        let mut fits = true;
        let mut more_fit = |relation: &Relation| {
            let bytes = relation.bytes();
            let fits = self.memory.take(bytes.saturating_sub(taken));
            if fits {
                taken = taken.max(bytes);
            }
            fits && !stop()
        };
        snapshot.rows(Direction::Forward, &forward_prefix(number, None), None, |key, value| {
            relation.put(&key, value);
            rows += 1;
            if rows.is_multiple_of(LOADED_AT_ONCE) {
                fits = more_fit(&relation);
            }
            Ok(if fits { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        if fits && more_fit(&relation) {
            return Ok(Some(relation));
        }
        self.memory.give_back(taken);
        Ok(None)
    }

    fn give_up(&self, number: MemberNum) {
        if let Some(class) = self.write().relations.get_mut(number.index()) {
            *class = Class::Absent;
        }
    }

    /// What is held.
    #[must_use]
    pub fn residency(&self) -> Residency {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let kept = self.cached.as_ref().map_or(0, Cached::len);
        let mut residency = Residency { bytes: self.memory.held(), kept, ..Residency::default() };
        for class in &inner.relations {
            match class {
                Class::Absent => residency.absent += 1,
                Class::Loading(_) => residency.loading += 1,
                Class::Whole(_) => residency.whole += 1,
            }
        }
        residency
    }

    /// Gives up relations until no more is held than may be: the largest first, and those to be kept longest last.
    fn make_room(&self) {
        while self.memory.is_exceeded() {
            let mut inner = self.write();
            let Inner { relations, kept_longest, .. } = &mut *inner;
            let largest = relations
                .iter_mut()
                .enumerate()
                .filter_map(|(at, class)| match class {
                    Class::Whole(relation) if relation.bytes() > 0 => {
                        let is_kept = kept_longest.get(at).copied().unwrap_or(false);
                        Some(((!is_kept, relation.bytes()), class))
                    }
                    Class::Whole(_) | Class::Loading(_) | Class::Absent => None,
                })
                .max_by_key(|(weight, _)| *weight);
            let Some(((_, bytes), class)) = largest else { return };
            let given_up = std::mem::replace(class, Class::Absent);
            drop(inner);
            self.memory.give_back(bytes);
            // Freeing millions of rows takes a while; nobody waits for it here.
            drop(given_up);
        }
    }
}

impl Beside for Resident {
    fn opened(&self, members: usize) {
        self.write().relations.resize_with(members, || Class::Absent);
    }

    fn apply(&self, revision: Revision, rows: &BTreeMap<RowKey, Option<RowValue>>) {
        let mut rows = rows.iter();
        loop {
            let mut inner = self.write();
            inner.applied = revision;
            let (mut grown, mut shrunk) = (0, 0);
            for (key, value) in rows.by_ref().take(APPLIED_AT_ONCE) {
                let at = key.relation.index();
                if inner.relations.len() <= at {
                    inner.relations.resize_with(at + 1, || Class::Whole(Box::default()));
                }
                match inner.relations.get_mut(at) {
                    Some(Class::Whole(relation)) => {
                        let before = relation.bytes();
                        relation.take((*key, value.clone()));
                        let after = relation.bytes();
                        grown += after.saturating_sub(before);
                        shrunk += before.saturating_sub(after);
                    }
                    Some(class @ Class::Loading(_)) => {
                        if let Class::Loading(noted) = class {
                            noted.push((*key, value.clone()));
                            if noted.len() > NOTED_MAX {
                                *class = Class::Absent;
                            }
                        }
                    }
                    Some(Class::Absent) | None => {}
                }
            }
            drop(inner);
            self.memory.grow(grown);
            self.memory.give_back(shrunk);
            if rows.len() == 0 {
                break;
            }
        }
        self.make_room();
    }
}

impl fmt::Debug for Resident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Resident({:?})", self.residency())
    }
}

/// What a reader at one revision may use, while it holds the lock.
pub struct Reader<'a> {
    inner: RwLockReadGuard<'a, Inner>,
    stamps: &'a Stamps,
    revision: Revision,
    /// Nothing was applied beyond the revision: all that is here is of it.
    is_newest: bool,
}

impl Reader<'_> {
    /// A relation all of whose rows are here, as of the reader's revision where `knows_…` says so.
    #[must_use]
    pub fn relation(&self, number: MemberNum) -> Option<&Relation> {
        match self.inner.relations.get(number.index()) {
            Some(Class::Whole(relation)) => Some(relation),
            Some(Class::Loading(_) | Class::Absent) => None,
            None => Some(&self.inner.empty),
        }
    }

    /// Whether what is here of the rows of an object is as of the reader's revision.
    #[must_use]
    pub fn knows_object(&self, relation: MemberNum, object: ObjectNum) -> bool {
        self.is_newest || self.stamps.touched(self.stamps.of_object(relation, object)) <= self.revision
    }

    /// Whether what is here of the rows that name a subject is as of the reader's revision.
    #[must_use]
    pub fn knows_subject(&self, subject: SubjectKey) -> bool {
        self.is_newest || self.stamps.touched(self.stamps.of_subject(subject)) <= self.revision
    }

    /// Whether a relation could have a subject of this form on any object, at the reader's revision.
    #[must_use]
    pub fn may_have_form(&self, relation: MemberNum, kind: SubjectKind, member: MemberNum) -> bool {
        // What is no more may have been then.
        !self.is_newest || self.relation(relation).is_none_or(|rows| rows.has_form(kind, member))
    }
}
