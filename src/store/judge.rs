//! Is a request accepted, and what does it change? Judged against the group so far; pure until applied.
//!
//! INVARIANT: `judge` changes nothing, so a refused request leaves no trace, not even a number given to an id.

use super::changelog::LogEntry;
use super::error::{Error, FormCount};
use super::found::Found;
use super::hierarchy::{Descent, Parents};
use super::judge_delegation::{
    NewDelegation, judge_import, judge_narrowing, judge_reinstatement, judge_revocation, judge_revocation_of_all,
    judge_suspension,
};
use super::keys::{ROW_KEY_BYTES, RowKey, SubjectKey, after_prefix, expiring_row, expiry_prefix, read_u32};
use super::names::Names;
use super::overlay::{FormKey, IdOf, Overlay};
use super::row::{RowCaveat, RowValue};
use super::scan::{RowScan, Within, forward_prefix};
use super::snapshot::Direction;
use crate::model::{
    CaveatName, Delegation, DelegationId, MemberNum, ObjectId, ObjectNum, ObjectRef, Precondition, RelationName,
    RelationTuple, Revision, SubjectKind, SubjectRef, Timestamp, TupleFilter, TupleKey, TupleUpdate, TypeName, TypeNum,
    UpdateKind,
};
use hashbrown::{HashMap, HashSet};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

/// A request for the committer.
#[derive(Debug)]
pub struct Commit {
    /// The schema by which the engine judged it; another one in force refuses it, to be judged again.
    pub schema_revision: Revision,
    pub preconditions: Vec<Precondition>,
    /// Most rows that they may look through, all together.
    pub precondition_rows_max: usize,
    pub change: Change,
    /// The `parent` relations of that schema.
    pub parents: Arc<[MemberNum]>,
    /// The caller's metadata as a JSON object.
    pub metadata: Box<[u8]>,
    /// A dry run: judged like any other, and then forgotten.
    pub only_judge: bool,
}

/// What a request changes.
#[derive(Debug)]
pub enum Change {
    /// At most one update a key.
    Tuples(Arc<[TupleUpdate]>),
    /// Removes every live tuple that matches; what becomes of it if more than `limit` do, `beyond` says. Within a
    /// subtree the deepest objects come first, so that what is left is still in it.
    DeleteMatching { filter: TupleFilter, limit: usize, beyond: Beyond },
    /// The same with its rows looked for already; refused if what they hang on has changed since.
    DeleteFound(Box<Found>),
    /// Leaves exactly these tuples live in the object's relation, or changes nothing if more than `limit` would change.
    /// No two tuples have the same key, and all are of this object and relation.
    ReplaceSubjects { object: ObjectRef, relation: RelationName, tuples: Vec<RelationTuple>, limit: usize },
    /// Replaces the schema.
    Schema(NewSchema),
    /// Removes up to `limit` tuples that have ended.
    CollectExpired { limit: usize },
    /// Makes a delegation.
    CreateDelegation(Box<NewDelegation>),
    /// Takes records of another database, each with a number of its own, or none of them. One that is here already just
    /// so is left alone.
    ImportDelegations(Vec<Delegation>),
    /// Puts this record in the place of the one of the version before it.
    NarrowDelegation(Box<Delegation>),
    /// Revokes a delegation. Again, it changes nothing.
    RevokeDelegation { id: DelegationId, reason: String },
    /// Revokes every delegation that names the principal as delegator or delegate, as written, or none if more than
    /// `limit` do.
    RevokeAllFor { principal: SubjectRef, reason: String, limit: usize },
    /// Suspends a principal. Again, it changes nothing.
    Suspend { principal: ObjectRef, reason: String },
    /// Ends a suspension. Again, it changes nothing.
    Reinstate { principal: ObjectRef },
}

/// What is done when more tuples match than may be removed at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beyond {
    /// Nothing: the request is refused.
    Refused,
    /// As many as may be are removed, and the others left.
    Left,
}

/// A schema to be put in force.
#[derive(Debug)]
pub struct NewSchema {
    pub text: String,
    /// Every definition with all its relations and permissions.
    pub names: Vec<(TypeName, Vec<RelationName>)>,
    pub caveats: Vec<CaveatName>,
    /// Forms the new schema lacks: no tuple may stand in one.
    pub must_be_empty: Vec<Form>,
    /// Its `parent` relations, if any is one that was none before.
    pub new_parents: Vec<(TypeName, RelationName)>,
}

/// A relation and one form of subject in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    pub object_type: TypeName,
    pub relation: RelationName,
    pub kind: SubjectKind,
    pub subject_type: TypeName,
    /// Only of a userset.
    pub subject_relation: Option<RelationName>,
    pub caveat: Option<CaveatName>,
    pub expires: bool,
}

/// What a request comes to.
pub struct Verdict {
    pub entries: Vec<LogEntry>,
    /// Tuples written or removed; delegations made, narrowed or revoked; suspensions begun or ended.
    pub changed: u64,
    /// Of a request about one delegation: its record after it.
    pub delegation: Option<Arc<Delegation>>,
    /// Of a deletion that may leave some: whether it did.
    pub more: bool,
}

impl Verdict {
    /// Accepted, and nothing is written.
    pub(super) const NOTHING: Verdict = Verdict { entries: Vec::new(), changed: 0, delegation: None, more: false };
}

/// Accepts or refuses.
pub fn judge(overlay: &Overlay<'_>, commit: &Commit, now: Timestamp) -> Result<Verdict, Error> {
    if commit.schema_revision != overlay.schema_revision() {
        return Err(Error::SchemaChanged);
    }
    if let Change::CreateDelegation(new) = &commit.change
        && let Some(verdict) = new.made_before(overlay, now)?
    {
        return Ok(verdict);
    }
    judge_preconditions(overlay, commit, now)?;
    let mark = LogEntry::Mark { at: now, metadata: commit.metadata.clone() };
    match &commit.change {
        Change::Tuples(updates) => judge_tuples(overlay, updates, &commit.parents, now, mark),
        Change::DeleteMatching { filter, limit, beyond } => {
            let found = find(overlay, filter, &commit.parents, now, (*limit, *beyond))?;
            Ok(removal(mark, found.rows.into_iter(), found.more))
        }
        Change::DeleteFound(found) if found.stands(overlay, &commit.parents, now)? => {
            Ok(removal(mark, found.rows.iter().cloned(), found.more))
        }
        Change::DeleteFound(_) => Err(Error::FoundOvertaken),
        Change::ReplaceSubjects { object, relation, tuples, limit } => {
            let wanted = Replacement { object, relation, tuples, limit: *limit };
            judge_replacement(overlay, &wanted, &commit.parents, now, mark)
        }
        Change::Schema(new) => judge_schema(overlay, new, now, mark),
        Change::CollectExpired { limit } => {
            let ended = expired(overlay, now, *limit)?;
            let changed = ended.len() as u64;
            let ends = ended.into_iter().map(|(key, value)| LogEntry::Expire { key, value });
            Ok(Verdict { entries: std::iter::once(mark).chain(ends).collect(), changed, ..Verdict::NOTHING })
        }
        Change::ImportDelegations(records) => judge_import(overlay, records, mark),
        Change::CreateDelegation(new) => new.judge(overlay, now, mark),
        Change::NarrowDelegation(record) => judge_narrowing(overlay, record, mark),
        Change::RevokeDelegation { id, reason } => judge_revocation(overlay, *id, reason, now, mark),
        Change::RevokeAllFor { principal, reason, limit } => {
            judge_revocation_of_all(overlay, principal, reason, *limit, now, mark)
        }
        Change::Suspend { principal, reason } => judge_suspension(overlay, principal, reason, now, mark),
        Change::Reinstate { principal } => judge_reinstatement(overlay, principal, mark),
    }
}

/// A deletion judged without the committer: what it would remove.
pub fn look_for(
    overlay: &Overlay<'_>,
    commit: &Commit,
    filter: &TupleFilter,
    most: (usize, Beyond),
    now: Timestamp,
) -> Result<Found, Error> {
    if commit.schema_revision != overlay.schema_revision() {
        return Err(Error::SchemaChanged);
    }
    judge_preconditions(overlay, commit, now)?;
    find(overlay, filter, &commit.parents, now, most)
}

fn judge_preconditions(overlay: &Overlay<'_>, commit: &Commit, now: Timestamp) -> Result<(), Error> {
    let mut rows_left = commit.precondition_rows_max;
    for (index, precondition) in commit.preconditions.iter().enumerate() {
        let (Precondition::MustMatch(filter) | Precondition::MustNotMatch(filter)) = precondition;
        let matches = !matching(overlay, filter, &commit.parents, now, 1, &mut rows_left)?.is_empty();
        let holds = match precondition {
            Precondition::MustMatch(_) => matches,
            Precondition::MustNotMatch(_) => !matches,
        };
        if !holds {
            return Err(Error::PreconditionFailed { index });
        }
    }
    Ok(())
}

fn removal(mark: LogEntry, rows: impl ExactSizeIterator<Item = (RowKey, RowValue)>, more: bool) -> Verdict {
    let changed = rows.len() as u64;
    let removals = rows.map(|(key, value)| LogEntry::Remove { key, value });
    Verdict { entries: std::iter::once(mark).chain(removals).collect(), changed, more, ..Verdict::NOTHING }
}

/// The rows that a deletion removes, with what they hang on.
fn find(
    overlay: &Overlay<'_>,
    filter: &TupleFilter,
    parents: &[MemberNum],
    now: Timestamp,
    (limit, beyond): (usize, Beyond),
) -> Result<Found, Error> {
    let revision = overlay.state().head.revision;
    let Some(scan) = row_scan(overlay, filter)? else {
        return Ok(Found { revision, at: now, scan: None, objects: None, rows: Vec::new(), more: false });
    };
    // What matches is bounded by `limit`; what does not is passed over.
    let mut rows_left = usize::MAX;
    let mut matching = Matching::new(overlay, &scan, parents, now, limit.saturating_add(1), &mut rows_left);
    matching.look(beyond)?;
    let Matching { mut rows, objects, mut more, .. } = matching;
    if rows.len() > limit {
        match beyond {
            Beyond::Refused => return Err(Error::TooManyTuples { limit }),
            Beyond::Left => rows.truncate(limit),
        }
        more = true;
    }
    Ok(Found { revision, at: now, scan: Some(scan), objects, rows, more })
}

fn judge_tuples(
    overlay: &Overlay<'_>,
    updates: &[TupleUpdate],
    parents: &[MemberNum],
    now: Timestamp,
    mark: LogEntry,
) -> Result<Verdict, Error> {
    let mut numbering = Numbering { overlay, new: HashMap::new(), next: HashMap::new(), entries: vec![mark] };
    let mut rows = Vec::with_capacity(updates.len());
    let mut written = Vec::with_capacity(updates.len());
    for update in updates {
        match update.kind {
            UpdateKind::Create | UpdateKind::Touch => {
                let key = numbering.give(&update.tuple.key)?;
                let live = overlay.row_to_change(&key)?.is_some_and(|value| value.is_live(now));
                if live && update.kind == UpdateKind::Create {
                    return Err(Error::AlreadyExists(update.tuple.key.clone()));
                }
                rows.push(LogEntry::Put { key, value: row_value(overlay.names(), &update.tuple)?, created: !live });
                written.push((key, &update.tuple.key));
            }
            UpdateKind::Delete => {
                let Some(key) = find_key(overlay, &update.tuple.key)? else { continue };
                if let Some(value) = overlay.row_to_change(&key)? {
                    rows.push(LogEntry::Remove { key, value });
                }
            }
        }
    }
    refuse_parent_cycles(overlay, parents, &written, &rows)?;
    let changed = rows.len() as u64;
    let mut entries = numbering.entries;
    entries.append(&mut rows);
    Ok(Verdict { entries, changed, ..Verdict::NOTHING })
}

/// `written` are the rows put, with their tuples as the caller wrote them: ids among them may be new.
fn refuse_parent_cycles(
    overlay: &Overlay<'_>,
    parents: &[MemberNum],
    written: &[(RowKey, &TupleKey)],
    rows: &[LogEntry],
) -> Result<(), Error> {
    let mut changed = BTreeMap::new();
    for row in rows {
        match row {
            LogEntry::Put { key, .. } if parents.contains(&key.relation) => changed.insert(*key, true),
            LogEntry::Remove { key, .. } if parents.contains(&key.relation) => changed.insert(*key, false),
            LogEntry::Put { .. }
            | LogEntry::Remove { .. }
            | LogEntry::Mark { .. }
            | LogEntry::Expire { .. }
            | LogEntry::Id { .. }
            | LogEntry::Name(_)
            | LogEntry::Schema { .. }
            | LogEntry::Delegation { .. }
            | LogEntry::Suspended(_)
            | LogEntry::Reinstated { .. } => None,
        };
    }
    if changed.is_empty() {
        return Ok(());
    }
    let Some(closing) = Parents::new(overlay, parents, changed)?.closing()? else { return Ok(()) };
    match written.iter().find(|(key, _)| *key == closing) {
        Some((_, tuple)) => Err(Error::ParentCycle(TupleKey::clone(tuple))),
        None => Err(Error::Corrupt("a row that no update wrote".to_owned())),
    }
}

/// Exactly these tuples are to stand on a relation of an object.
struct Replacement<'a> {
    object: &'a ObjectRef,
    relation: &'a RelationName,
    tuples: &'a [RelationTuple],
    limit: usize,
}

/// A tuple that stands as it is wanted makes no entry: who watches hears of what changed and of nothing else.
fn judge_replacement(
    overlay: &Overlay<'_>,
    wanted: &Replacement<'_>,
    parents: &[MemberNum],
    now: Timestamp,
    mark: LogEntry,
) -> Result<Verdict, Error> {
    let Replacement { object, relation, tuples, limit } = *wanted;
    let mut numbering = Numbering { overlay, new: HashMap::new(), next: HashMap::new(), entries: vec![mark] };
    let mut wanted = HashSet::with_capacity(tuples.len());
    let mut rows = Vec::new();
    let mut written = Vec::with_capacity(tuples.len());
    for tuple in tuples {
        let key = numbering.give(&tuple.key)?;
        wanted.insert(key);
        written.push((key, &tuple.key));
        let value = row_value(overlay.names(), tuple)?;
        let live = overlay.row(&key)?.filter(|value| value.is_live(now));
        if live.as_ref() != Some(&value) {
            rows.push(LogEntry::Put { key, value, created: live.is_none() });
        }
    }
    let names = overlay.names();
    let of = names.type_number(object.object_type.as_str()).ok_or_else(|| unnamed(object.object_type.as_str()))?;
    let member = names.member_number(of, relation.as_str()).ok_or_else(|| unnamed(relation.as_str()))?;
    // An object that never had a tuple has none to remove.
    if let Some(number) = overlay.number(of, &object.id)? {
        each_row(overlay, Direction::Forward, &forward_prefix(member, Some(number)), |key| {
            if !wanted.contains(&key)
                && let Some(value) = overlay.row(&key)?.filter(|value| value.is_live(now))
            {
                rows.push(LogEntry::Remove { key, value });
            }
            Ok(if rows.len() > limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
    }
    if rows.len() > limit {
        return Err(Error::TooManyChanges { limit });
    }
    refuse_parent_cycles(overlay, parents, &written, &rows)?;
    let changed = rows.len() as u64;
    let mut entries = numbering.entries;
    entries.append(&mut rows);
    Ok(Verdict { entries, changed, ..Verdict::NOTHING })
}

fn row_value(names: &Names, tuple: &RelationTuple) -> Result<RowValue, Error> {
    let mut value = RowValue { caveat: None, expires_at: tuple.expires_at };
    if let Some(caveat) = &tuple.caveat {
        let number = names.caveat_number(caveat.name.as_str()).ok_or_else(|| unnamed(caveat.name.as_str()))?;
        let context = if caveat.context.is_empty() {
            Vec::new()
        } else {
            serde_json::to_vec(&caveat.context).map_err(|error| Error::Corrupt(format!("a context: {error}")))?
        };
        value.caveat = Some(RowCaveat { caveat: number, context: context.into() });
    }
    Ok(value)
}

/// Rows that have ended by now, the earliest first.
fn expired(overlay: &Overlay<'_>, now: Timestamp, limit: usize) -> Result<Vec<(RowKey, RowValue)>, Error> {
    let mut keys = Vec::new();
    overlay.scan(overlay.families().expiry, &[], |key, _| {
        if key >= after_prefix(&expiry_prefix(now)).as_slice() || keys.len() >= limit {
            return Ok(ControlFlow::Break(()));
        }
        let row = expiring_row(key)?;
        // A write of the same group may have prolonged or removed it.
        if let Some(value) = overlay.row(&row)?.filter(|value| !value.is_live(now)) {
            keys.push((row, value));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(keys)
}

fn judge_schema(overlay: &Overlay<'_>, new: &NewSchema, now: Timestamp, mark: LogEntry) -> Result<Verdict, Error> {
    let in_the_way = tuples_in_forms(overlay, &new.must_be_empty, now)?;
    if !in_the_way.is_empty() {
        return Err(Error::TuplesInTheWay(in_the_way));
    }
    let parents: Vec<MemberNum> = new
        .new_parents
        .iter()
        .filter_map(|(of, name)| {
            overlay.names().member_number(overlay.names().type_number(of.as_str())?, name.as_str())
        })
        .collect();
    if let Some(key) = Parents::new(overlay, &parents, BTreeMap::new())?.any_cycle()? {
        let key = tuple_key(overlay.names(), &key, |of, number| overlay.state().dictionary.id(of, number))?;
        return Err(Error::CycleInTheWay(key));
    }
    let mut entries = vec![mark];
    entries.extend(overlay.names().missing(&new.names, &new.caveats)?.into_iter().map(LogEntry::Name));
    entries.push(LogEntry::Schema { text: new.text.clone() });
    Ok(Verdict { entries, ..Verdict::NOTHING })
}

/// Counts, with one sample each, of the forms in which live tuples stand. Counters are kept, so nothing is scanned but
/// the way to a sample; in forms that end, where tuples that have ended may wait to be collected, the live are counted.
fn tuples_in_forms(overlay: &Overlay<'_>, forms: &[Form], now: Timestamp) -> Result<Vec<FormCount>, Error> {
    let names = overlay.names();
    let mut found = Vec::new();
    for form in forms {
        let Some(key) = form_key(names, form) else { continue };
        let mut count = overlay.count(&key);
        if count == 0 {
            continue;
        }
        // The shorter way to one: a userset or wildcard by its own postings, a plain subject by the relation's rows.
        let (direction, prefix) = match form.kind {
            SubjectKind::Plain => (Direction::Forward, forward_prefix(key.relation, None)),
            SubjectKind::Userset => (Direction::Reverse, forward_prefix(key.subject, None)),
            SubjectKind::Wildcard => (Direction::Reverse, forward_prefix(key.subject, Some(ObjectNum(0)))),
        };
        let mut live = 0;
        let mut sample = None;
        each_row(overlay, direction, &prefix, |row| {
            let Some(value) = overlay.row(&row)? else { return Ok(ControlFlow::Continue(())) };
            if FormKey::of(&row, &value) == key && value.is_live(now) {
                live += 1;
                sample.get_or_insert(row);
            }
            Ok(if live > 0 && !form.expires { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        if form.expires {
            count = live;
        }
        if count == 0 {
            continue;
        }
        let sample = sample.map(|key| tuple_key(names, &key, |of, number| overlay.state().dictionary.id(of, number)));
        found.push(FormCount {
            relation: format!("{}#{}", form.object_type, form.relation),
            form: form.to_string(),
            count,
            // A row of this very group is not in the dictionary yet; the count still stands.
            sample: sample.and_then(Result::ok),
        });
    }
    Ok(found)
}

impl std::fmt::Display for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.subject_relation, self.kind) {
            (Some(relation), _) => write!(f, "{}#{relation}", self.subject_type),
            (None, SubjectKind::Wildcard) => write!(f, "{}:*", self.subject_type),
            (None, SubjectKind::Plain | SubjectKind::Userset) => write!(f, "{}", self.subject_type),
        }?;
        match (&self.caveat, self.expires) {
            (Some(caveat), true) => write!(f, " with {caveat} and expiration"),
            (Some(caveat), false) => write!(f, " with {caveat}"),
            (None, true) => write!(f, " with expiration"),
            (None, false) => Ok(()),
        }
    }
}

/// `None` if one of the names never had a number, so that no tuple can stand in the form.
fn form_key(names: &Names, form: &Form) -> Option<FormKey> {
    let relation = names.member_number(names.type_number(form.object_type.as_str())?, form.relation.as_str())?;
    let subject_type = names.type_number(form.subject_type.as_str())?;
    let subject = match &form.subject_relation {
        Some(name) => names.member_number(subject_type, name.as_str())?,
        None => names.itself(subject_type)?,
    };
    let caveat = match &form.caveat {
        Some(name) => names.caveat_number(name.as_str())?.0.saturating_add(1),
        None => 0,
    };
    Some(FormKey { relation, kind: form.kind, subject, caveat, expires: form.expires })
}

fn row_scan(overlay: &Overlay<'_>, filter: &TupleFilter) -> Result<Option<RowScan>, Error> {
    RowScan::new(filter, overlay.names(), |of: TypeNum, id: &str| match ObjectId::new(id) {
        Ok(id) => overlay.number(of, &id),
        Err(_) => Ok(None),
    })
}

/// Up to `limit` live rows that match.
fn matching(
    overlay: &Overlay<'_>,
    filter: &TupleFilter,
    parents: &[MemberNum],
    now: Timestamp,
    limit: usize,
    rows_left: &mut usize,
) -> Result<Vec<(RowKey, RowValue)>, Error> {
    let Some(scan) = row_scan(overlay, filter)? else { return Ok(Vec::new()) };
    let mut matching = Matching::new(overlay, &scan, parents, now, limit, rows_left);
    matching.look(Beyond::Refused)?;
    Ok(matching.rows)
}

/// Rows that match, up to `limit`.
struct Matching<'a, 's> {
    overlay: &'a Overlay<'s>,
    scan: &'a RowScan,
    parents: &'a [MemberNum],
    /// The subtree that each row's object must be in.
    above: Option<Parents<'a, 's>>,
    /// The objects of the subtree that were come to, where it was looked up.
    objects: Option<HashSet<(TypeNum, ObjectNum)>>,
    place: Place,
    now: Timestamp,
    limit: usize,
    rows_left: &'a mut usize,
    rows: Vec<(RowKey, RowValue)>,
    /// Whether the subtree has more objects than may be come to, and those rows were left.
    more: bool,
}

/// A row that puts an object into the subtree is taken after all others of the object: were the work cut before it, the
/// others would have to be found again.
#[derive(Default)]
struct Place {
    /// A parent of the object, in the subtree.
    parent: Option<(TypeNum, ObjectNum)>,
    /// The first row that names it as such.
    row: Option<(RowKey, RowValue)>,
}

impl Place {
    fn is_by(&self, key: &RowKey, parents: &[MemberNum], names: &Names) -> Result<bool, Error> {
        let Some(parent) = self.parent else { return Ok(false) };
        let named = (names.member(key.subject.member)?.of, key.subject.object);
        Ok(named == parent && parents.contains(&key.relation))
    }
}

impl<'a, 's> Matching<'a, 's> {
    fn new(
        overlay: &'a Overlay<'s>,
        scan: &'a RowScan,
        parents: &'a [MemberNum],
        now: Timestamp,
        limit: usize,
        rows_left: &'a mut usize,
    ) -> Matching<'a, 's> {
        let (above, objects, place) = (None, None, Place::default());
        let (rows, more) = (Vec::new(), false);
        Matching { overlay, scan, parents, above, objects, place, now, limit, rows_left, rows, more }
    }

    fn look(&mut self, beyond: Beyond) -> Result<(), Error> {
        match self.scan.within() {
            Some(Within::Subtree(root)) => self.beneath(root, beyond),
            Some(Within::Ancestors(root)) => {
                self.above = Some(Parents::beneath(self.overlay, self.parents, root)?);
                self.ranges()
            }
            None => self.ranges(),
        }
    }

    fn ranges(&mut self) -> Result<(), Error> {
        let scan = self.scan;
        for prefix in &scan.prefixes {
            self.range(scan.direction, prefix)?;
        }
        Ok(())
    }

    /// Object by object, the deepest first.
    fn beneath(&mut self, root: (TypeNum, ObjectNum), beyond: Beyond) -> Result<(), Error> {
        let objects_max = self.overlay.state().bounds.subtree_objects_max;
        let mut descent = Descent::new(self.overlay, self.parents, root, self.now, objects_max)?;
        let mut relations_of: HashMap<TypeNum, Vec<MemberNum>> = HashMap::new();
        while self.rows.len() < self.limit {
            let ((of, object), parent) = match descent.next(self.rows_left) {
                Ok(Some(next)) => next,
                Ok(None) => break,
                // What was found is a part that can go; with it gone, the next call comes further.
                Err(Error::SubtreeTooLarge { .. }) if beyond == Beyond::Left && !self.rows.is_empty() => {
                    self.more = true;
                    break;
                }
                Err(error) => return Err(error),
            };
            self.place = Place { parent, row: None };
            let meant = || self.scan.relations_of(of, self.overlay.names());
            for relation in relations_of.entry(of).or_insert_with(meant).iter() {
                self.range(Direction::Forward, &forward_prefix(*relation, Some(object)))?;
            }
            if self.rows.len() < self.limit {
                self.rows.extend(self.place.row.take());
            }
        }
        self.objects = Some(descent.into_seen());
        Ok(())
    }

    fn range(&mut self, direction: Direction, prefix: &[u8]) -> Result<(), Error> {
        let Matching { overlay, scan, parents, above, objects: _, place, now, limit, rows_left, rows, more: _ } = self;
        if rows.len() >= *limit {
            return Ok(());
        }
        let mut spend = |count: usize| -> Result<(), Error> {
            **rows_left = rows_left.checked_sub(count).ok_or(Error::PreconditionsTooWide)?;
            Ok(())
        };
        each_row(overlay, direction, prefix, |key| {
            spend(1)?;
            if scan.matches(&key)
                && let Some(value) = overlay.row(&key)?.filter(|value| value.is_live(*now))
            {
                let is_within = match above {
                    None => true,
                    Some(above) => {
                        let before = above.visited();
                        let is_beneath = above.has((overlay.names().member(key.relation)?.of, key.object))?;
                        spend(above.visited() - before)?;
                        is_beneath
                    }
                };
                if is_within && place.row.is_none() && place.is_by(&key, parents, overlay.names())? {
                    place.row = Some((key, value));
                } else if is_within {
                    rows.push((key, value));
                }
            }
            Ok(if rows.len() < *limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })
    }
}

/// Every row under a prefix that is committed or of this group, each once, in no promised order. A row that the group
/// removed may be named; `Overlay::row` knows.
pub(super) fn each_row(
    overlay: &Overlay<'_>,
    direction: Direction,
    prefix: &[u8],
    mut each: impl FnMut(RowKey) -> Result<ControlFlow<()>, Error>,
) -> Result<(), Error> {
    let in_range = |key: &RowKey| match direction {
        Direction::Forward => key.forward().starts_with(prefix),
        Direction::Reverse => key.reverse().starts_with(prefix),
    };
    let mut first = [0; ROW_KEY_BYTES];
    if direction == Direction::Forward {
        first.iter_mut().zip(prefix).for_each(|(byte, given)| *byte = *given);
    }
    for (key, _) in overlay.rows().range(RowKey::from_forward(&first)?..) {
        if in_range(key) {
            if each(*key)?.is_break() {
                return Ok(());
            }
        } else if direction == Direction::Forward {
            // They stand in this order, so the range is over.
            break;
        }
    }
    if direction == Direction::Forward && names_new_object(overlay, prefix)? {
        return Ok(());
    }
    let family = match direction {
        Direction::Forward => overlay.families().fwd,
        Direction::Reverse => overlay.families().rev,
    };
    overlay.scan(family, prefix, |key, _| {
        let key = match direction {
            Direction::Forward => RowKey::from_forward(key)?,
            Direction::Reverse => RowKey::from_reverse(key)?,
        };
        if overlay.rows().contains_key(&key) { Ok(ControlFlow::Continue(())) } else { each(key) }
    })
}

/// Whether the start of a forward key is of an object that no committed row is of.
fn names_new_object(overlay: &Overlay<'_>, prefix: &[u8]) -> Result<bool, Error> {
    if prefix.len() < forward_prefix(MemberNum(0), Some(ObjectNum(0))).len() {
        return Ok(false);
    }
    let of = overlay.names().member(MemberNum(read_u32(prefix, 0)?))?.of;
    Ok(overlay.is_new(of, ObjectNum(read_u32(prefix, 4)?)))
}

/// Gives numbers to ids that have none, for one request.
struct Numbering<'o, 's> {
    overlay: &'o Overlay<'s>,
    new: HashMap<(TypeNum, ObjectId), ObjectNum>,
    next: HashMap<TypeNum, u32>,
    entries: Vec<LogEntry>,
}

impl Numbering<'_, '_> {
    fn give(&mut self, key: &TupleKey) -> Result<RowKey, Error> {
        let (of, relation) = relation_number(self.overlay.names(), key)?;
        let object = self.number(of, &key.object.id)?;
        let (of, member, kind) = subject_numbers(self.overlay.names(), &key.subject)?;
        let number = match &key.subject {
            SubjectRef::Object(ObjectRef { id, .. }) | SubjectRef::Userset(ObjectRef { id, .. }, _) => {
                self.number(of, id)?
            }
            SubjectRef::Wildcard(_) => ObjectNum(0),
        };
        Ok(RowKey { relation, object, subject: SubjectKey { kind, member, object: number } })
    }

    fn number(&mut self, of: TypeNum, id: &ObjectId) -> Result<ObjectNum, Error> {
        if let Some(number) = self.overlay.number(of, id)? {
            return Ok(number);
        }
        if let Some(number) = self.new.get(&IdOf(of, id)) {
            return Ok(*number);
        }
        let next = self.next.get(&of).copied().unwrap_or_else(|| self.overlay.next_number(of));
        if next >= ObjectNum::TRANSIENT_FIRST {
            let object_type = self.overlay.names().type_name(of)?.to_string();
            return Err(Error::NumbersUsedUp { object_type });
        }
        self.next.insert(of, next + 1);
        let number = ObjectNum(next);
        self.new.insert((of, id.clone()), number);
        self.entries.push(LogEntry::Id { of, number, id: id.clone() });
        Ok(number)
    }
}

fn unnamed(name: &str) -> Error {
    Error::Corrupt(format!("`{name}` has no number, though the schema in force was to have given it one"))
}

fn relation_number(names: &Names, key: &TupleKey) -> Result<(TypeNum, MemberNum), Error> {
    let of = names.type_number(key.object.object_type.as_str());
    let of = of.ok_or_else(|| unnamed(key.object.object_type.as_str()))?;
    let relation = names.member_number(of, key.relation.as_str()).ok_or_else(|| unnamed(key.relation.as_str()))?;
    Ok((of, relation))
}

fn subject_numbers(names: &Names, subject: &SubjectRef) -> Result<(TypeNum, MemberNum, SubjectKind), Error> {
    let subject_type = subject.subject_type().as_str();
    let of = names.type_number(subject_type).ok_or_else(|| unnamed(subject_type))?;
    let itself = || names.itself(of).ok_or_else(|| unnamed(subject_type));
    match subject {
        SubjectRef::Object(_) => Ok((of, itself()?, SubjectKind::Plain)),
        SubjectRef::Wildcard(_) => Ok((of, itself()?, SubjectKind::Wildcard)),
        SubjectRef::Userset(_, relation) => {
            let member = names.member_number(of, relation.as_str()).ok_or_else(|| unnamed(relation.as_str()))?;
            Ok((of, member, SubjectKind::Userset))
        }
    }
}

/// The row key of a tuple whose ids all have numbers.
fn find_key(overlay: &Overlay<'_>, key: &TupleKey) -> Result<Option<RowKey>, Error> {
    let (of, relation) = relation_number(overlay.names(), key)?;
    let Some(object) = overlay.number(of, &key.object.id)? else { return Ok(None) };
    let (of, member, kind) = subject_numbers(overlay.names(), &key.subject)?;
    let number = match &key.subject {
        SubjectRef::Object(ObjectRef { id, .. }) | SubjectRef::Userset(ObjectRef { id, .. }, _) => {
            let Some(number) = overlay.number(of, id)? else { return Ok(None) };
            number
        }
        SubjectRef::Wildcard(_) => ObjectNum(0),
    };
    Ok(Some(RowKey { relation, object, subject: SubjectKey { kind, member, object: number } }))
}

/// A row's key as names and ids.
pub fn tuple_key(
    names: &Names,
    key: &RowKey,
    id: impl Fn(TypeNum, ObjectNum) -> Result<ObjectId, Error>,
) -> Result<TupleKey, Error> {
    let relation = names.member(key.relation)?;
    let corrupt = || Error::Corrupt("a row whose relation is `...`".to_owned());
    let object = ObjectRef { object_type: names.type_name(relation.of)?.clone(), id: id(relation.of, key.object)? };
    let subject_member = names.member(key.subject.member)?;
    let subject_type = names.type_name(subject_member.of)?.clone();
    let subject_object = || -> Result<ObjectRef, Error> {
        let id = id(subject_member.of, key.subject.object)?;
        Ok(ObjectRef { object_type: subject_type.clone(), id })
    };
    let subject = match (key.subject.kind, &subject_member.name) {
        (SubjectKind::Plain, None) => SubjectRef::Object(subject_object()?),
        (SubjectKind::Userset, Some(name)) => SubjectRef::Userset(subject_object()?, name.clone()),
        (SubjectKind::Wildcard, None) => SubjectRef::Wildcard(subject_type),
        (SubjectKind::Plain | SubjectKind::Wildcard, Some(_)) | (SubjectKind::Userset, None) => return Err(corrupt()),
    };
    Ok(TupleKey { object, relation: relation.name.clone().ok_or_else(corrupt)?, subject })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Db, Dictionary, Memory, load_state, overlay::State, snapshot::Snapshot};
    use std::collections::BTreeSet;

    const NODES: usize = 12;

    /// A state on the disk, to be read under a group in the making.
    struct World {
        state: State,
        parents: Arc<[MemberNum]>,
        _folder: tempfile::TempDir,
    }

    impl World {
        fn new() -> World {
            let folder = tempfile::tempdir().unwrap();
            let db = Arc::new(Db::open_at(folder.path()).unwrap());
            let state =
                load_state(db.clone(), Arc::new(Dictionary::new(db, Arc::new(Memory::of(0))).unwrap())).unwrap();
            let mut world = World { state, parents: Arc::default(), _folder: folder };
            let names = |names: &[&str]| names.iter().map(|name| RelationName::new(*name).unwrap()).collect();
            let node = TypeName::new("node").unwrap();
            world.commit(Change::Schema(NewSchema {
                text: "a schema".to_owned(),
                names: vec![
                    (TypeName::new("user").unwrap(), Vec::new()),
                    (node.clone(), names(&["viewer", "up", "near", "also"])),
                ],
                caveats: Vec::new(),
                must_be_empty: Vec::new(),
                new_parents: Vec::new(),
            }));
            let of = world.state.names.type_number("node").unwrap();
            let number = |name: &str| world.state.names.member_number(of, name).unwrap();
            world.parents = Arc::new([number("up"), number("also")]);
            world
        }

        fn request(&self, overlay: &Overlay<'_>, change: Change) -> Commit {
            Commit {
                schema_revision: overlay.schema_revision(),
                preconditions: Vec::new(),
                precondition_rows_max: 0,
                change,
                parents: self.parents.clone(),
                metadata: Box::default(),
                only_judge: false,
            }
        }

        fn commit(&mut self, change: Change) {
            let mut overlay = Overlay::new(&self.state);
            let request = self.request(&overlay, change);
            for entry in judge(&overlay, &request, Timestamp::MIN).unwrap_or_else(|error| panic!("{error}")).entries {
                overlay.apply(entry).unwrap();
            }
            let mut sealed = overlay.seal().unwrap();
            self.state.db.borrow_owner().write(sealed.take_batch()).unwrap();
            sealed.settle(&mut self.state);
        }

        /// Takes a change into the group; the keys of the rows it removed.
        fn take(&self, overlay: &mut Overlay<'_>, change: Change) -> Vec<RowKey> {
            let request = self.request(overlay, change);
            let verdict = judge(overlay, &request, Timestamp::MIN).unwrap_or_else(|error| panic!("{error}"));
            let mut removed = Vec::new();
            for entry in verdict.entries {
                if let LogEntry::Remove { key, .. } = &entry {
                    removed.push(*key);
                }
                overlay.apply(entry).unwrap();
            }
            removed
        }
    }

    fn parsed(text: &str) -> RelationTuple {
        text.parse().unwrap()
    }

    /// Tuples as text whose object is the root or reaches it by `up` and `also`, the naive way.
    fn beneath(tuples: &BTreeSet<String>, root: &str) -> BTreeSet<String> {
        let mut within = BTreeSet::from([root.to_owned()]);
        // Bounded: ends when nothing is added.
        loop {
            let keys = tuples.iter().map(|text| parsed(text).key);
            let parents = keys.filter(|key| ["up", "also"].contains(&key.relation.as_str()));
            let next: BTreeSet<String> = parents
                .filter(|key| within.contains(&key.subject.to_string()))
                .map(|key| key.object.to_string())
                .filter(|child| !within.contains(child))
                .collect();
            if next.is_empty() {
                return tuples
                    .iter()
                    .filter(|text| within.contains(&parsed(text).key.object.to_string()))
                    .cloned()
                    .collect();
            }
            within.extend(next);
        }
    }

    fn within(root: &str) -> TupleFilter {
        TupleFilter { within: Some(root.parse().unwrap()), ..TupleFilter::default() }
    }

    /// Random tuples, some on the disk and some, with removals, in the group.
    fn grown(world: &mut World, random: &mut dyn FnMut(usize) -> usize) -> (Vec<TupleUpdate>, BTreeSet<String>) {
        let mut tuples = BTreeSet::new();
        let mut of_group = Vec::new();
        for step in 0..8 {
            let mut updates = BTreeMap::new();
            for _ in 0..NODES {
                let child = 1 + random(NODES - 1);
                let text = match random(6) {
                    0 | 1 => format!("node:n{child}#up@node:n{}", random(child)),
                    2 => format!("node:n{child}#also@node:n{}", random(child)),
                    3 => format!("node:n{child}#near@node:n{}", random(NODES)),
                    _ => format!("node:n{}#viewer@user:u{}", random(NODES), random(2)),
                };
                let kind = if random(4) == 0 { UpdateKind::Delete } else { UpdateKind::Touch };
                updates.insert(text, kind);
            }
            for (text, kind) in &updates {
                match kind {
                    UpdateKind::Delete => tuples.remove(text),
                    UpdateKind::Create | UpdateKind::Touch => tuples.insert(text.clone()),
                };
            }
            let updates: Vec<TupleUpdate> =
                updates.into_iter().map(|(text, kind)| TupleUpdate { kind, tuple: parsed(&text) }).collect();
            if step < 4 {
                world.commit(Change::Tuples(updates.into()));
            } else {
                of_group.push(updates);
            }
        }
        (of_group.concat(), tuples)
    }

    fn each_world(mut each: impl FnMut(&World, &mut Overlay<'_>, BTreeSet<String>, u64)) {
        for seed in 1..=12_u64 {
            let mut state = seed;
            let mut random = move |below: usize| {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                (state >> 33) as usize % below
            };
            let mut world = World::new();
            let (of_group, tuples) = grown(&mut world, &mut random);
            let mut overlay = Overlay::new(&world.state);
            for update in of_group {
                world.take(&mut overlay, Change::Tuples([update].into()));
            }
            each(&world, &mut overlay, tuples, seed);
        }
    }

    fn keys(overlay: &Overlay<'_>, tuples: &BTreeSet<String>) -> BTreeSet<RowKey> {
        tuples.iter().map(|text| find_key(overlay, &parsed(text).key).unwrap().unwrap()).collect()
    }

    #[test]
    fn a_committed_row_is_found_whatever_has_a_number() {
        let mut world = World::new();
        let text = "node:n0#viewer@user:*";
        for created in [true, false] {
            let change = Change::Tuples([TupleUpdate { kind: UpdateKind::Touch, tuple: parsed(text) }].into());
            let overlay = Overlay::new(&world.state);
            let verdict = judge(&overlay, &world.request(&overlay, change), Timestamp::MIN).unwrap();
            assert!(matches!(verdict.entries.last(), Some(LogEntry::Put { created: found, .. }) if *found == created));
            let change = Change::Tuples([TupleUpdate { kind: UpdateKind::Touch, tuple: parsed(text) }].into());
            world.commit(change);
        }
        each_world(|world, _, _, seed| {
            let overlay = Overlay::new(&world.state);
            overlay
                .scan(overlay.families().fwd, &[], |key, _| {
                    let key = RowKey::from_forward(key)?;
                    assert!(overlay.row(&key)?.is_some(), "seed {seed} {key:?}");
                    Ok(ControlFlow::Continue(()))
                })
                .unwrap();
        });
    }

    #[test]
    fn a_cycle_through_two_types_is_refused_whichever_row_comes_last() {
        let rows = ["node:n0#up@leaf:l0", "leaf:l0#up@node:n0"];
        for (committed, last) in [(rows[0], rows[1]), (rows[1], rows[0])] {
            for is_of_group in [false, true] {
                let mut world = World::new();
                world.commit(Change::Schema(NewSchema {
                    text: "a schema".to_owned(),
                    names: vec![(TypeName::new("leaf").unwrap(), vec![RelationName::new("up").unwrap()])],
                    caveats: Vec::new(),
                    must_be_empty: Vec::new(),
                    new_parents: Vec::new(),
                }));
                let of = world.state.names.type_number("leaf").unwrap();
                let up = world.state.names.member_number(of, "up").unwrap();
                world.parents = world.parents.iter().copied().chain([up]).collect();
                let touch =
                    |text| Change::Tuples([TupleUpdate { kind: UpdateKind::Touch, tuple: parsed(text) }].into());
                if !is_of_group {
                    world.commit(touch(committed));
                }
                let mut overlay = Overlay::new(&world.state);
                if is_of_group {
                    world.take(&mut overlay, touch(committed));
                }
                let judged = judge(&overlay, &world.request(&overlay, touch(last)), Timestamp::MIN).map(drop);
                assert!(matches!(judged, Err(Error::ParentCycle(_))), "{last} after {committed}: {judged:?}");
            }
        }
    }

    #[test]
    fn a_row_that_a_group_changes_again_and_again_is_counted_once() {
        let mut world = World::new();
        let update = |kind| Change::Tuples([TupleUpdate { kind, tuple: parsed("node:n0#viewer@user:u0") }].into());
        world.commit(update(UpdateKind::Touch));
        let key = find_key(&Overlay::new(&world.state), &parsed("node:n0#viewer@user:u0").key).unwrap().unwrap();
        let form = FormKey::of(&key, &RowValue::default());
        let mut overlay = Overlay::new(&world.state);
        for (kind, due) in [
            (UpdateKind::Touch, 1),
            (UpdateKind::Delete, 0),
            (UpdateKind::Delete, 0),
            (UpdateKind::Create, 1),
            (UpdateKind::Touch, 1),
            (UpdateKind::Delete, 0),
        ] {
            // One that is judged and then forgotten leaves nothing behind.
            judge(&overlay, &world.request(&overlay, update(UpdateKind::Touch)), Timestamp::MIN).map(drop).unwrap();
            world.take(&mut overlay, update(kind));
            assert_eq!(overlay.count(&form), due, "{kind:?}");
        }
    }

    #[test]
    fn a_subtree_is_judged_over_what_the_group_has_accepted() {
        each_world(|world, overlay, tuples, seed| {
            for root in (0..NODES).map(|n| format!("node:n{n}")) {
                let due = keys(overlay, &beneath(&tuples, &root));
                let change = Change::DeleteMatching { filter: within(&root), limit: 1_000, beyond: Beyond::Refused };
                let verdict = judge(overlay, &world.request(overlay, change), Timestamp::MIN).unwrap();
                let removed = verdict.entries.iter().filter_map(|entry| match entry {
                    LogEntry::Remove { key, .. } => Some(*key),
                    LogEntry::Mark { .. }
                    | LogEntry::Put { .. }
                    | LogEntry::Expire { .. }
                    | LogEntry::Id { .. }
                    | LogEntry::Name(_)
                    | LogEntry::Schema { .. }
                    | LogEntry::Delegation { .. }
                    | LogEntry::Suspended(_)
                    | LogEntry::Reinstated { .. } => None,
                });
                let removed: Vec<RowKey> = removed.collect();
                assert_eq!(removed.len(), due.len(), "seed {seed} {root}");
                assert_eq!(BTreeSet::from_iter(removed), due, "seed {seed} {root}");
                // By a subject, whose rows ask for their ancestors.
                let subject = TupleFilter::exactly(&parsed("node:n0#viewer@user:u0").key).subject;
                let due: BTreeSet<String> = beneath(&tuples, &root);
                let due = keys(overlay, &due.into_iter().filter(|text| text.ends_with("@user:u0")).collect());
                let (mut rows_left, filter) = (usize::MAX, TupleFilter { subject, ..within(&root) });
                let rows = matching(overlay, &filter, &world.parents, Timestamp::MIN, 1_000, &mut rows_left).unwrap();
                assert_eq!(rows.into_iter().map(|(key, _)| key).collect::<BTreeSet<_>>(), due, "seed {seed} {root}");
            }
        });
    }

    /// A batch is refused if and only if a cycle is there after it, however it gets there; and the row named is on one.
    #[test]
    fn a_batch_that_would_close_a_cycle_is_refused_and_no_other() {
        let (mut refused, mut taken) = (0, 0);
        each_world(|world, overlay, tuples, seed| {
            let mut state = seed;
            let mut random = move |below: usize| {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                (state >> 33) as usize % below
            };
            for _ in 0..40 {
                let mut updates = BTreeMap::new();
                for _ in 0..=random(6) {
                    let by = ["up", "also"][random(2)];
                    let (child, parent) = (random(NODES), random(NODES));
                    // Most go the way the others do, so that not every batch closes one.
                    let (low, high) = (child.min(parent), child.max(parent));
                    let (child, parent) = if random(5) == 0 { (low, high) } else { (high, low) };
                    let kind = if random(3) == 0 { UpdateKind::Delete } else { UpdateKind::Touch };
                    updates.insert(format!("node:n{child}#{by}@node:n{parent}"), kind);
                }
                let mut after = tuples.clone();
                for (text, kind) in &updates {
                    match kind {
                        UpdateKind::Delete => after.remove(text),
                        UpdateKind::Create | UpdateKind::Touch => after.insert(text.clone()),
                    };
                }
                let on_cycle = |key: &TupleKey| {
                    let ancestors = beneath(&after, &key.object.to_string());
                    let is_parent = ["up", "also"].contains(&key.relation.as_str());
                    is_parent
                        && (key.subject.to_string() == key.object.to_string()
                            || ancestors
                                .iter()
                                .any(|text| parsed(text).key.object.to_string() == key.subject.to_string()))
                };
                let due = after.iter().any(|text| on_cycle(&parsed(text).key));
                let updates = updates.into_iter().map(|(text, kind)| TupleUpdate { kind, tuple: parsed(&text) });
                let change = Change::Tuples(updates.collect());
                match judge(overlay, &world.request(overlay, change), Timestamp::MIN) {
                    Ok(_) => {
                        assert!(!due, "seed {seed}: taken, with a cycle in {after:?}");
                        taken += 1;
                    }
                    Err(Error::ParentCycle(named)) => {
                        assert!(due && on_cycle(&named), "seed {seed}: {named} refused in {after:?}");
                        refused += 1;
                    }
                    Err(error) => panic!("seed {seed}: {error}"),
                }
            }
        });
        assert!(refused > 100 && taken > 100, "{refused} refused, {taken} taken");
    }

    /// What a deletion has found is taken only if the same would be found after all that was committed, and accepted into
    /// the group, since.
    #[test]
    fn what_was_found_stands_only_if_the_same_would_be_found_again() {
        let (mut stood, mut fell) = (0, 0);
        for seed in 1..=6_u64 {
            let mut state = seed;
            let mut random = move |below: usize| {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                (state >> 33) as usize % below
            };
            let mut world = World::new();
            grown(&mut world, &mut random);
            for _ in 0..250 {
                let root = format!("node:n{}", random(NODES));
                let subject = TupleFilter::exactly(&parsed("node:n0#viewer@user:u0").key).subject;
                let filter = match random(4) {
                    0 => TupleFilter { subject, ..within(&root) },
                    1 => TupleFilter { subject, ..TupleFilter::default() },
                    _ => within(&root),
                };
                let most = [(1_000, Beyond::Refused), (1 + random(4), Beyond::Left)][random(2)];
                let look =
                    |overlay: &Overlay<'_>| find(overlay, &filter, &world.parents, Timestamp::MIN, most).unwrap();
                let found = look(&Overlay::new(&world.state));
                let mut changes = Vec::new();
                for _ in 0..2 {
                    let child = 1 + random(NODES - 1);
                    let text = match random(4) {
                        0 => format!("node:n{child}#up@node:n{}", random(child)),
                        1 => format!("node:n{child}#near@node:n{}", random(NODES)),
                        2 => format!("node:n{}#viewer@user:u0", random(NODES)),
                        _ => format!("node:n{}#viewer@user:u1", random(NODES)),
                    };
                    let kind = if random(2) == 0 { UpdateKind::Delete } else { UpdateKind::Touch };
                    changes.push(Change::Tuples([TupleUpdate { kind, tuple: parsed(&text) }].into()));
                }
                // One of them committed, the other in the group.
                let (in_group, committed) = (changes.pop().unwrap(), changes.pop().unwrap());
                if random(2) == 0 {
                    world.commit(committed);
                }
                let mut overlay = Overlay::new(&world.state);
                if random(2) == 0 {
                    world.take(&mut overlay, in_group);
                }
                if found.stands(&overlay, &world.parents, Timestamp::MIN).unwrap() {
                    let again = find(&overlay, &filter, &world.parents, Timestamp::MIN, most).unwrap();
                    let rows = |found: Found| found.rows.into_iter().map(|(key, _)| key).collect::<BTreeSet<_>>();
                    assert_eq!((again.more, rows(again)), (found.more, rows(found)), "seed {seed} {filter:?} {most:?}");
                    stood += 1;
                } else {
                    fell += 1;
                }
            }
        }
        assert!(stood > 60 && fell > 60, "{stood} stood, {fell} fell");
    }

    #[test]
    fn what_is_judged_at_a_snapshot_sees_nothing_later() {
        let mut world = World::new();
        let touch = |text: &str| TupleUpdate { kind: UpdateKind::Touch, tuple: parsed(text) };
        world.commit(Change::Tuples(["node:n1#up@node:n0", "node:n1#viewer@user:u0"].map(touch).into()));
        let snapshot = Snapshot::pin(world.state.db.clone(), &world.state.head, Default::default(), Default::default());
        world.commit(Change::Tuples(["node:n2#up@node:n1", "node:n1#viewer@user:u1"].map(touch).into()));
        let remove = TupleUpdate { kind: UpdateKind::Delete, ..touch("node:n1#viewer@user:u0") };
        world.commit(Change::Tuples([remove].into()));
        let State { db, dictionary, names, bounds, .. } = &world.state;
        let state = State::at(&snapshot, db.clone(), dictionary.clone(), names.clone(), *bounds).unwrap();
        let overlay = Overlay::at(&state, &snapshot);
        let due = ["node:n1#up@node:n0", "node:n1#viewer@user:u0"].map(str::to_owned);
        let most = (100, Beyond::Refused);
        let found = find(&overlay, &within("node:n0"), &world.parents, Timestamp::MIN, most).unwrap();
        let rows: BTreeSet<RowKey> = found.rows.iter().map(|(key, _)| *key).collect();
        assert_eq!(rows, keys(&overlay, &BTreeSet::from(due)));
        assert!(!found.stands(&Overlay::new(&world.state), &world.parents, Timestamp::MIN).unwrap());
    }

    #[test]
    fn what_a_cut_deletion_leaves_is_still_in_the_subtree() {
        each_world(|world, overlay, mut tuples, seed| {
            let root = "node:n0";
            let all = beneath(&tuples, root).len();
            let mut removed = 0;
            // Bounded: each turn removes three, or is the last.
            loop {
                let within_before = beneath(&tuples, root);
                let by_key: BTreeMap<RowKey, String> = tuples
                    .iter()
                    .map(|text| (find_key(overlay, &parsed(text).key).unwrap().unwrap(), text.clone()))
                    .collect();
                let change = Change::DeleteMatching { filter: within(root), limit: 3, beyond: Beyond::Left };
                let gone = world.take(overlay, change);
                removed += gone.len();
                let gone: BTreeSet<String> = gone.iter().map(|key| by_key[key].clone()).collect();
                tuples = &tuples - &gone;
                assert_eq!(beneath(&tuples, root), &within_before - &gone, "seed {seed}");
                if gone.len() < 3 {
                    break;
                }
            }
            assert!(beneath(&tuples, root).is_empty(), "seed {seed}");
            assert_eq!(removed, all, "seed {seed}");
        });
    }

    #[test]
    fn a_subtree_is_bounded_in_objects_and_a_precondition_in_rows() {
        let mut world = World::new();
        let updates = (1..20).map(|n| format!("node:n{n}#up@node:n{}", n / 2));
        let touch = |text: String| TupleUpdate { kind: UpdateKind::Touch, tuple: parsed(&text) };
        world.commit(Change::Tuples(updates.map(touch).collect()));
        let overlay = Overlay::new(&world.state);
        let of = world.state.names.type_number("node").unwrap();
        let root = (of, overlay.number(of, &ObjectId::new("n0").unwrap()).unwrap().unwrap());
        let visited = |objects_max: usize, mut rows_left: usize| {
            let mut descent = Descent::new(&overlay, &world.parents, root, Timestamp::MIN, objects_max)?;
            let mut count = 0;
            while descent.next(&mut rows_left)?.is_some() {
                count += 1;
            }
            Ok::<usize, Error>(count)
        };
        assert_eq!(visited(20, usize::MAX).unwrap(), 20);
        assert!(matches!(visited(19, usize::MAX), Err(Error::SubtreeTooLarge { limit: 19 })));
        assert_eq!(visited(20, 19).unwrap(), 20);
        assert!(matches!(visited(20, 18), Err(Error::PreconditionsTooWide)));
        let matches = |rows_max: usize, filter: TupleFilter| {
            let mut rows_left = rows_max;
            matching(&overlay, &filter, &world.parents, Timestamp::MIN, 1, &mut rows_left).map(|rows| rows.len())
        };
        // Nothing matches, so all of the subtree is looked through: each child, and each row.
        let none = TupleFilter { relation: Some(RelationName::new("near").unwrap()), ..within("node:n0") };
        assert_eq!(matches(38, none.clone()).unwrap(), 0);
        assert!(matches!(matches(10, none), Err(Error::PreconditionsTooWide)));
        // A named subject's row costs itself and its ancestors.
        let subject = TupleFilter::exactly(&parsed("node:n19#up@node:n9").key).subject;
        let named = |root: &str| TupleFilter { subject: subject.clone(), ..within(root) };
        assert_eq!(matches(100, named("node:n0")).unwrap(), 1);
        assert_eq!(matches(100, named("node:n3")).unwrap(), 0);
        assert!(matches!(matches(4, named("node:n0")), Err(Error::PreconditionsTooWide)));
    }
}
