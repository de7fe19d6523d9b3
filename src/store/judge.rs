//! Is a request accepted, and what does it change? Judged against the group so far; pure until applied.
//!
//! INVARIANT: `judge` changes nothing, so a refused request leaves no trace, not even a number given to an id.

use super::changelog::LogEntry;
use super::error::{Error, FormCount};
use super::hierarchy::Parents;
use super::judge_delegation::{
    NewDelegation, judge_narrowing, judge_reinstatement, judge_revocation, judge_revocation_of_all, judge_suspension,
};
use super::keys::{RowKey, SubjectKey, after_prefix, expiring_row, expiry_prefix};
use super::names::Names;
use super::overlay::{FormKey, Overlay};
use super::row::{RowCaveat, RowValue};
use super::scan::{RowScan, forward_prefix};
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
    Tuples(Vec<TupleUpdate>),
    /// Removes every live tuple that matches, or none if more than `limit` do.
    DeleteMatching { filter: TupleFilter, limit: usize },
    /// Leaves exactly these tuples live in the object's relation, or changes nothing if more than `limit` would change.
    /// No two tuples have the same key, and all are of this object and relation.
    ReplaceSubjects { object: ObjectRef, relation: RelationName, tuples: Vec<RelationTuple>, limit: usize },
    /// Replaces the schema.
    Schema(NewSchema),
    /// Removes up to `limit` tuples that have ended.
    CollectExpired { limit: usize },
    /// Makes a delegation.
    CreateDelegation(Box<NewDelegation>),
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
}

impl Verdict {
    /// Accepted, and nothing is written.
    pub(super) const NOTHING: Verdict = Verdict { entries: Vec::new(), changed: 0, delegation: None };
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
    let mut rows_left = commit.precondition_rows_max;
    for (index, precondition) in commit.preconditions.iter().enumerate() {
        let (Precondition::MustMatch(filter) | Precondition::MustNotMatch(filter)) = precondition;
        let matches = !matching(overlay, filter, now, 1, &mut rows_left)?.is_empty();
        let holds = match precondition {
            Precondition::MustMatch(_) => matches,
            Precondition::MustNotMatch(_) => !matches,
        };
        if !holds {
            return Err(Error::PreconditionFailed { index });
        }
    }
    let mark = LogEntry::Mark { at: now, metadata: commit.metadata.clone() };
    match &commit.change {
        Change::Tuples(updates) => judge_tuples(overlay, updates, &commit.parents, now, mark),
        Change::DeleteMatching { filter, limit } => {
            // What matches is bounded by `limit`; what does not is passed over.
            let mut rows_left = usize::MAX;
            let rows = matching(overlay, filter, now, limit.saturating_add(1), &mut rows_left)?;
            if rows.len() > *limit {
                return Err(Error::TooManyTuples { limit: *limit });
            }
            let changed = rows.len() as u64;
            let removals = rows.into_iter().map(|(key, value)| LogEntry::Remove { key, value });
            Ok(Verdict { entries: std::iter::once(mark).chain(removals).collect(), changed, delegation: None })
        }
        Change::ReplaceSubjects { object, relation, tuples, limit } => {
            let wanted = Replacement { object, relation, tuples, limit: *limit };
            judge_replacement(overlay, &wanted, &commit.parents, now, mark)
        }
        Change::Schema(new) => judge_schema(overlay, new, now, mark),
        Change::CollectExpired { limit } => {
            let ended = expired(overlay, now, *limit)?;
            let changed = ended.len() as u64;
            let ends = ended.into_iter().map(|(key, value)| LogEntry::Expire { key, value });
            Ok(Verdict { entries: std::iter::once(mark).chain(ends).collect(), changed, delegation: None })
        }
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
                let live = overlay.row(&key)?.is_some_and(|value| value.is_live(now));
                if live && update.kind == UpdateKind::Create {
                    return Err(Error::AlreadyExists(update.tuple.key.clone()));
                }
                rows.push(LogEntry::Put { key, value: row_value(overlay.names(), &update.tuple)?, created: !live });
                written.push((key, &update.tuple.key));
            }
            UpdateKind::Delete => {
                let Some(key) = find_key(overlay, &update.tuple.key)? else { continue };
                if let Some(value) = overlay.row(&key)? {
                    rows.push(LogEntry::Remove { key, value });
                }
            }
        }
    }
    refuse_parent_cycles(overlay, parents, &written, &rows)?;
    let changed = rows.len() as u64;
    let mut entries = numbering.entries;
    entries.append(&mut rows);
    Ok(Verdict { entries, changed, delegation: None })
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
            LogEntry::Put { key, .. } => changed.insert(*key, true),
            LogEntry::Remove { key, .. } => changed.insert(*key, false),
            LogEntry::Mark { .. }
            | LogEntry::Expire { .. }
            | LogEntry::Id { .. }
            | LogEntry::Name(_)
            | LogEntry::Schema { .. }
            | LogEntry::Delegation { .. }
            | LogEntry::Suspended(_)
            | LogEntry::Reinstated { .. } => None,
        };
    }
    if !changed.keys().any(|key| parents.contains(&key.relation)) {
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
    Ok(Verdict { entries, changed, delegation: None })
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
    let db = &overlay.state().db;
    let mut keys = Vec::new();
    db.scan(db.families().expiry, &[], |key, _| {
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
    Ok(Verdict { entries, changed: 0, delegation: None })
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

/// Up to `limit` live rows that match.
fn matching(
    overlay: &Overlay<'_>,
    filter: &TupleFilter,
    now: Timestamp,
    limit: usize,
    rows_left: &mut usize,
) -> Result<Vec<(RowKey, RowValue)>, Error> {
    let number = |of: TypeNum, id: &str| match ObjectId::new(id) {
        Ok(id) => overlay.number(of, &id),
        Err(_) => Ok(None),
    };
    let Some(scan) = RowScan::new(filter, overlay.names(), number)? else { return Ok(Vec::new()) };
    let mut rows = Vec::new();
    for prefix in &scan.prefixes {
        if rows.len() >= limit {
            break;
        }
        each_row(overlay, scan.direction, prefix, |key| {
            *rows_left = rows_left.checked_sub(1).ok_or(Error::PreconditionsTooWide)?;
            if scan.matches(&key)
                && let Some(value) = overlay.row(&key)?.filter(|value| value.is_live(now))
            {
                rows.push((key, value));
            }
            Ok(if rows.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
    }
    Ok(rows)
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
    for key in overlay.rows().keys().filter(|key| in_range(key)) {
        if each(*key)?.is_break() {
            return Ok(());
        }
    }
    let db = &overlay.state().db;
    let family = match direction {
        Direction::Forward => db.families().fwd,
        Direction::Reverse => db.families().rev,
    };
    db.scan(family, prefix, |key, _| {
        let key = match direction {
            Direction::Forward => RowKey::from_forward(key)?,
            Direction::Reverse => RowKey::from_reverse(key)?,
        };
        if overlay.rows().contains_key(&key) { Ok(ControlFlow::Continue(())) } else { each(key) }
    })
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
        if let Some(number) = self.new.get(&(of, id.clone())) {
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
