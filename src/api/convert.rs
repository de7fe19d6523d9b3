//! Wire ↔ model: the last place where a raw string exists.
//!
//! INVARIANT: what comes out is well formed, and what is refused is named by its field's path and its value. Messages
//! are taken apart without `..`, so that a field added in proto/ breaks the build instead of being ignored. Nothing is
//! guessed: a missing message, an enum value of a newer client and an empty string are errors, never a default.

use super::convert_delegation;
use super::wire;
use crate::engine::{
    ImportMode, MemberRef, Metadata, ReplaceSubjects, SchemaDiagnostic, Situation, TupleSubject, Watch, WatchChange,
    WatchFrom, WatchKind, WatchWrite,
};
use crate::model::{
    CONTEXT_DEPTH_MAX, CaveatName, Consistency, ConsistencyToken, Context, Decision, ITEM_ID_BYTES_MAX, Limits,
    ObjectId, ObjectRef, Precondition, Question, REQUEST_CONTEXT_BYTES_MAX, RelationName, RelationTuple,
    STORED_CONTEXT_BYTES_MAX, Step, SubjectFilter, SubjectIdFilter, SubjectRef, SubjectRelationFilter, Timestamp,
    TupleCaveat, TupleFilter, TupleKey, TupleUpdate, TypeName, UpdateKind, WATCH_NAMES_MAX, Witness,
};
use prost_types::value::Kind as ValueKind;
use serde_json::Value;
use std::fmt;
use std::time::Duration;

/// Integers up to here are exact in the doubles that `google.protobuf.Struct` carries.
const EXACT_INTEGER_MAX: u64 = 1 << 53;
/// The relation that stands for none, and the id that stands for all.
const ELLIPSIS: &str = "...";
const WILDCARD: &str = "*";

/// Why a message is refused before the engine sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) kind: RefusalKind,
    /// The path of the field, such as `updates[3].tuple.subject.object.id`.
    pub(super) field: String,
    /// What stood there, truncated; `None` where nothing stood.
    pub(super) value: Option<String>,
    /// Lower case, no full stop; names the field.
    pub(super) message: String,
    pub(super) hint: Option<&'static str>,
}

/// What a caller can do about a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RefusalKind {
    /// The field is wrong.
    Invalid,
    /// There is more of it than the limit of this name allows.
    Limit { name: &'static str, max: u64 },
}

/// At most 64 characters of what was given.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(64) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Where in a message a value stands. Costs nothing until something is wrong there.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    /// The message itself.
    Message,
    /// A field of what stands at the place.
    Field(&'a Place<'a>, &'static str),
    /// An item of the repeated field at the place.
    Item(&'a Place<'a>, usize),
    /// An entry of the map at the place.
    Key(&'a Place<'a>, &'a str),
}

impl Place<'_> {
    pub(super) fn field(&self, name: &'static str) -> Place<'_> {
        Place::Field(self, name)
    }

    pub(super) fn item(&self, index: usize) -> Place<'_> {
        Place::Item(self, index)
    }

    pub(super) fn missing(&self) -> Refusal {
        Refusal {
            kind: RefusalKind::Invalid,
            field: self.to_string(),
            value: None,
            message: format!("`{self}` is missing"),
            hint: None,
        }
    }

    pub(super) fn invalid(&self, value: impl AsRef<str>, why: impl fmt::Display) -> Refusal {
        Refusal {
            kind: RefusalKind::Invalid,
            field: self.to_string(),
            value: Some(shown(value.as_ref())),
            message: format!("`{self}`: {why}"),
            hint: None,
        }
    }

    fn over(&self, name: &'static str, found: usize, max: usize, unit: &str) -> Refusal {
        Refusal {
            kind: RefusalKind::Limit { name, max: max as u64 },
            field: self.to_string(),
            value: Some(found.to_string()),
            message: format!("`{self}` holds {found} {unit}; at most {max} are allowed"),
            hint: None,
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Bounded: a place is as deep as the message it is in, and contexts are cut at 16 levels.
        match self {
            Place::Message => Ok(()),
            Place::Field(Place::Message, name) => f.write_str(name),
            Place::Field(within, name) => write!(f, "{within}.{name}"),
            Place::Item(within, index) => write!(f, "{within}[{index}]"),
            Place::Key(within, key) => write!(f, "{within}.{}", shown(key)),
        }
    }
}

impl Refusal {
    pub(super) fn with_hint(self, hint: &'static str) -> Refusal {
        Refusal { hint: Some(hint), ..self }
    }
}

// ---- names, objects, subjects ----

pub(super) fn type_name(place: Place<'_>, text: String) -> Result<TypeName, Refusal> {
    TypeName::take(text).map_err(|(text, error)| place.invalid(text, error))
}

pub(super) fn relation_name(place: Place<'_>, text: String) -> Result<RelationName, Refusal> {
    RelationName::take(text).map_err(|(text, error)| place.invalid(text, error))
}

fn object_id(place: Place<'_>, text: String) -> Result<ObjectId, Refusal> {
    ObjectId::take(text).map_err(|(text, error)| place.invalid(text, error))
}

pub(super) fn object(place: Place<'_>, message: Option<wire::ObjectRef>) -> Result<ObjectRef, Refusal> {
    let wire::ObjectRef { r#type, id } = message.ok_or_else(|| place.missing())?;
    Ok(ObjectRef { object_type: type_name(place.field("type"), r#type)?, id: object_id(place.field("id"), id)? })
}

/// A relation after a subject's `#`; empty, or `...`, is none.
pub(super) fn optional_relation(place: Place<'_>, text: String) -> Result<Option<RelationName>, Refusal> {
    match text.as_str() {
        "" | ELLIPSIS => Ok(None),
        _ => Ok(Some(relation_name(place, text)?)),
    }
}

pub(super) fn subject(place: Place<'_>, message: Option<wire::SubjectRef>) -> Result<SubjectRef, Refusal> {
    let wire::SubjectRef { object: named, relation } = message.ok_or_else(|| place.missing())?;
    let relation = optional_relation(place.field("relation"), relation)?;
    if let Some(wire::ObjectRef { r#type, id }) = &named
        && id == WILDCARD
    {
        let within = place.field("object");
        let subject_type = type_name(within.field("type"), r#type.clone())?;
        return match relation {
            None => Ok(SubjectRef::Wildcard(subject_type)),
            Some(relation) => Err(place.field("relation").invalid(relation.as_str(), "a wildcard takes no relation")),
        };
    }
    let object = object(place.field("object"), named)?;
    Ok(match relation {
        None => SubjectRef::Object(object),
        Some(relation) => SubjectRef::Userset(object, relation),
    })
}

/// The parts of a question, as Check and each item of CheckBulk carry them.
pub(super) fn question(
    place: Place<'_>,
    asked: Option<wire::ObjectRef>,
    permission: String,
    who: Option<wire::SubjectRef>,
) -> Result<Question, Refusal> {
    Ok(Question {
        object: object(place.field("object"), asked)?,
        permission: relation_name(place.field("permission"), permission)?,
        subject: subject(place.field("subject"), who)?,
    })
}

/// One item of a bulk: its mark, which is given back in any case, and its question.
pub(super) fn item(place: Place<'_>, message: wire::CheckBulkItem) -> (String, Result<Question, Refusal>) {
    let wire::CheckBulkItem { object, permission, subject, id } = message;
    if id.len() > ITEM_ID_BYTES_MAX {
        let why = format!("{} bytes long; at most {ITEM_ID_BYTES_MAX} are allowed", id.len());
        return (shown(&id), Err(place.field("id").invalid(&id, why)));
    }
    (id, question(place, object, permission, subject))
}

/// Where an item of a bulk stands, and the question or what is wrong with it.
pub(super) type PlacedItem = (String, Result<Question, Refusal>);

/// The items of a bulk with their places.
pub(super) fn items(messages: Vec<wire::CheckBulkItem>, limits: &Limits) -> Result<Vec<PlacedItem>, Refusal> {
    let place = Place::Field(&Place::Message, "items");
    at_most(place, "bulk_items_max", messages.len(), limits.bulk_items_max, "questions")?;
    Ok(messages.into_iter().enumerate().map(|(index, message)| item(place.item(index), message)).collect())
}

/// The ids of a filter that are ids, and where the others stand, in order, with what is wrong with them.
pub(super) type PlacedIds = (Vec<ObjectId>, Vec<(usize, Refusal)>);

/// The ids of a filter.
pub(super) fn filter_ids(texts: Vec<String>, limits: &Limits) -> Result<PlacedIds, Refusal> {
    let place = Place::Field(&Place::Message, "ids");
    at_most(place, "filter_ids_max", texts.len(), limits.filter_ids_max, "ids")?;
    let mut ids = Vec::with_capacity(texts.len());
    let mut refused = Vec::new();
    for (at, text) in texts.into_iter().enumerate() {
        match ObjectId::take(text) {
            Ok(id) => ids.push(id),
            Err((text, error)) => refused.push((at, place.item(at).invalid(text, error))),
        }
    }
    Ok((ids, refused))
}

fn at_most(place: Place<'_>, name: &'static str, found: usize, max: usize, unit: &str) -> Result<(), Refusal> {
    if found > max { Err(place.over(name, found, max, unit)) } else { Ok(()) }
}

// ---- tuples ----

pub(super) fn tuple(place: Place<'_>, message: Option<wire::RelationTuple>) -> Result<RelationTuple, Refusal> {
    let wire::RelationTuple { object: about, relation, subject: who, caveat, expires_at } =
        message.ok_or_else(|| place.missing())?;
    Ok(RelationTuple {
        key: TupleKey {
            object: object(place.field("object"), about)?,
            relation: relation_name(place.field("relation"), relation)?,
            subject: subject(place.field("subject"), who)?,
        },
        caveat: caveat.map(|caveat| tuple_caveat(place.field("caveat"), caveat)).transpose()?,
        expires_at: expires_at.map(|at| timestamp(place.field("expires_at"), at)).transpose()?,
    })
}

pub(super) fn tuple_caveat(place: Place<'_>, message: wire::TupleCaveat) -> Result<TupleCaveat, Refusal> {
    let wire::TupleCaveat { name, context } = message;
    Ok(TupleCaveat {
        name: CaveatName::new(name.as_str()).map_err(|error| place.field("name").invalid(&name, error))?,
        context: match context {
            Some(values) => {
                bounded_json(place.field("context"), values, "stored_context_bytes_max", STORED_CONTEXT_BYTES_MAX)?
            }
            None => Context::new(),
        },
    })
}

pub(super) fn timestamp(place: Place<'_>, message: prost_types::Timestamp) -> Result<Timestamp, Refusal> {
    let prost_types::Timestamp { seconds, nanos } = message;
    u32::try_from(nanos).ok().and_then(|nanos| Timestamp::new(seconds, nanos)).ok_or_else(|| {
        let value = format!("{seconds} s, {nanos} ns");
        place.invalid(value, "not an instant of the years 1 to 9999 with 0 to 999,999,999 nanoseconds")
    })
}

pub(super) fn updates(messages: Vec<wire::TupleUpdate>, limits: &Limits) -> Result<Vec<TupleUpdate>, Refusal> {
    let place = Place::Field(&Place::Message, "updates");
    if messages.is_empty() {
        return Err(place.missing());
    }
    at_most(place, "updates_max", messages.len(), limits.updates_max, "updates")?;
    messages.into_iter().enumerate().map(|(index, message)| update(place.item(index), message)).collect()
}

fn update(place: Place<'_>, message: wire::TupleUpdate) -> Result<TupleUpdate, Refusal> {
    use wire::tuple_update::Operation;
    let wire::TupleUpdate { operation, tuple: changed } = message;
    let kind = match Operation::try_from(operation) {
        Ok(Operation::Create) => UpdateKind::Create,
        Ok(Operation::Touch) => UpdateKind::Touch,
        Ok(Operation::Delete) => UpdateKind::Delete,
        Ok(Operation::Unspecified) => return Err(place.field("operation").missing()),
        Err(_) => return Err(unknown_enum(place.field("operation"), operation)),
    };
    Ok(TupleUpdate { kind, tuple: tuple(place.field("tuple"), changed)? })
}

pub(super) fn unknown_enum(place: Place<'_>, value: i32) -> Refusal {
    place.invalid(value.to_string(), format_args!("`{value}` is no value this server knows"))
}

pub(super) fn preconditions(messages: Vec<wire::Precondition>, limits: &Limits) -> Result<Vec<Precondition>, Refusal> {
    let place = Place::Field(&Place::Message, "preconditions");
    at_most(place, "preconditions_max", messages.len(), limits.preconditions_max, "preconditions")?;
    messages.into_iter().enumerate().map(|(index, message)| precondition(place.item(index), message)).collect()
}

fn precondition(place: Place<'_>, message: wire::Precondition) -> Result<Precondition, Refusal> {
    use wire::precondition::Operation;
    let wire::Precondition { operation, filter: which } = message;
    let made: fn(TupleFilter) -> Precondition = match Operation::try_from(operation) {
        Ok(Operation::MustMatch) => Precondition::MustMatch,
        Ok(Operation::MustNotMatch) => Precondition::MustNotMatch,
        Ok(Operation::Unspecified) => return Err(place.field("operation").missing()),
        Err(_) => return Err(unknown_enum(place.field("operation"), operation)),
    };
    Ok(made(filter(place.field("filter"), which)?))
}

pub(super) fn filter(place: Place<'_>, message: Option<wire::TupleFilter>) -> Result<TupleFilter, Refusal> {
    let wire::TupleFilter { object_type, object_id: id, relation, subject, within } =
        message.ok_or_else(|| place.missing())?;
    if let (None, Some(id)) = (&object_type, &id) {
        return Err(place.field("object_id").invalid(id, "an id says nothing without `object_type`"));
    }
    Ok(TupleFilter {
        object_type: object_type.map(|name| type_name(place.field("object_type"), name)).transpose()?,
        object_id: id.map(|id| object_id(place.field("object_id"), id)).transpose()?,
        relation: relation.map(|name| relation_name(place.field("relation"), name)).transpose()?,
        subject: subject.map(|subject| subject_filter(place.field("subject"), subject)).transpose()?,
        within: within.map(|root| object(place.field("within"), Some(root))).transpose()?,
    })
}

/// A filter that deletes: at least one part is given.
pub(super) fn deleting_filter(place: Place<'_>, message: Option<wire::TupleFilter>) -> Result<TupleFilter, Refusal> {
    let filter = filter(place, message)?;
    if filter == TupleFilter::default() {
        let hint = "give at least one of `object_type`, `relation`, `subject` and `within`";
        return Err(place.invalid("", "an empty filter would delete every tuple").with_hint(hint));
    }
    Ok(filter)
}

fn subject_filter(place: Place<'_>, message: wire::SubjectFilter) -> Result<SubjectFilter, Refusal> {
    let wire::SubjectFilter { r#type, id, relation } = message;
    let id = match id {
        None => None,
        Some(id) if id == WILDCARD => Some(SubjectIdFilter::Wildcard),
        Some(id) => Some(SubjectIdFilter::Id(object_id(place.field("id"), id)?)),
    };
    let relation = match relation {
        None => SubjectRelationFilter::Any,
        Some(relation) if relation == ELLIPSIS => SubjectRelationFilter::Plain,
        Some(relation) => {
            let hint = "leave it out to match any relation or none, or give `...` for subjects without one";
            let name = relation_name(place.field("relation"), relation).map_err(|refusal| refusal.with_hint(hint))?;
            SubjectRelationFilter::Relation(name)
        }
    };
    Ok(SubjectFilter { subject_type: type_name(place.field("type"), r#type)?, id, relation })
}

// ---- in bulk ----

pub(super) fn replacement(message: wire::ReplaceSubjectsRequest, limits: &Limits) -> Result<ReplaceSubjects, Refusal> {
    let wire::ReplaceSubjectsRequest {
        object: about,
        relation,
        subjects,
        remove_all,
        preconditions: due,
        metadata: notes,
    } = message;
    let place = field("subjects");
    at_most(place, "updates_max", subjects.len(), limits.updates_max, "subjects")?;
    if remove_all != subjects.is_empty() {
        let hint = "set it when no subject is to stand there, and only then";
        let why = if remove_all { "subjects are given too" } else { "no subject is given" };
        return Err(field("remove_all").invalid(remove_all.to_string(), why).with_hint(hint));
    }
    let subjects = subjects.into_iter().enumerate();
    Ok(ReplaceSubjects {
        object: object(field("object"), about)?,
        relation: relation_name(field("relation"), relation)?,
        subjects: subjects.map(|(index, given)| tuple_subject(place.item(index), given)).collect::<Result<_, _>>()?,
        preconditions: preconditions(due, limits)?,
        metadata: metadata(notes, limits)?,
    })
}

fn tuple_subject(place: Place<'_>, message: wire::TupleSubject) -> Result<TupleSubject, Refusal> {
    let wire::TupleSubject { subject: who, caveat, expires_at } = message;
    Ok(TupleSubject {
        subject: subject(place.field("subject"), who)?,
        caveat: caveat.map(|caveat| tuple_caveat(place.field("caveat"), caveat)).transpose()?,
        expires_at: expires_at.map(|at| timestamp(place.field("expires_at"), at)).transpose()?,
    })
}

/// The first message of an import.
pub(super) fn import_start(
    message: wire::ImportTuplesRequest,
    limits: &Limits,
) -> Result<(ImportMode, Metadata), Refusal> {
    use wire::import_start::Mode;
    use wire::import_tuples_request::Part;
    let wire::ImportTuplesRequest { part } = message;
    let place = field("start");
    let Some(Part::Start(wire::ImportStart { mode, metadata: notes })) = part else {
        return Err(place.missing().with_hint("the first message of an import is its start"));
    };
    let mode = match Mode::try_from(mode) {
        Ok(Mode::Touch) => ImportMode::Touch,
        Ok(Mode::Create) => ImportMode::Create,
        Ok(Mode::Unspecified) => return Err(place.field("mode").missing()),
        Err(_) => return Err(unknown_enum(place.field("mode"), mode)),
    };
    Ok((mode, metadata(notes, limits)?))
}

/// A later message of an import.
pub(super) fn import_batch(message: wire::ImportTuplesRequest, limits: &Limits) -> Result<Vec<RelationTuple>, Refusal> {
    use wire::import_tuples_request::Part;
    let wire::ImportTuplesRequest { part } = message;
    let Some(Part::Batch(wire::ImportBatch { tuples })) = part else {
        return Err(field("batch").missing().with_hint("every message after the first is a batch"));
    };
    let place = field("tuples");
    if tuples.is_empty() {
        return Err(place.missing());
    }
    at_most(place, "updates_max", tuples.len(), limits.updates_max, "tuples")?;
    tuples.into_iter().enumerate().map(|(index, message)| tuple(place.item(index), Some(message))).collect()
}

/// How often a Watch says something when it is not asked otherwise.
const HEARTBEAT_DEFAULT: Duration = Duration::from_secs(10);

/// A Watch, and its heartbeat.
pub(super) fn watch(message: wire::WatchRequest, limits: &Limits) -> Result<(Watch, Duration), Refusal> {
    use wire::watch_request::Start;
    let wire::WatchRequest { object_types, relations, heartbeat_s, start, kinds } = message;
    let from = match start {
        None => WatchFrom::Now,
        Some(Start::After(given)) => WatchFrom::After(token(field("after"), given)?),
        Some(Start::FromStart(true)) => WatchFrom::Start,
        Some(Start::FromStart(false)) => {
            let hint = "leave it out to watch from now on";
            return Err(field("from_start").invalid("false", "only `true` may be given").with_hint(hint));
        }
    };
    let (types_at, relations_at, heartbeat_at) = (field("object_types"), field("relations"), field("heartbeat_s"));
    at_most(types_at, "watch_names_max", object_types.len(), WATCH_NAMES_MAX, "names")?;
    at_most(relations_at, "watch_names_max", relations.len(), WATCH_NAMES_MAX, "names")?;
    let object_types = object_types.into_iter().enumerate();
    let relations = relations.into_iter().enumerate();
    let heartbeat = match heartbeat_s.map(u64::from) {
        None => HEARTBEAT_DEFAULT,
        Some(seconds) if (1..=limits.heartbeat_max_s).contains(&seconds) => Duration::from_secs(seconds),
        Some(seconds) => {
            let why = format!("1 to {} seconds", limits.heartbeat_max_s);
            return Err(heartbeat_at.invalid(seconds.to_string(), why));
        }
    };
    let watch = Watch {
        from,
        object_types: object_types.map(|(at, name)| type_name(types_at.item(at), name)).collect::<Result<_, _>>()?,
        relations: relations.map(|(at, name)| relation_name(relations_at.item(at), name)).collect::<Result<_, _>>()?,
        kinds: watch_kinds(kinds)?,
    };
    Ok((watch, heartbeat))
}

fn watch_kinds(given: Vec<i32>) -> Result<Vec<WatchKind>, Refusal> {
    let place = field("kinds");
    at_most(place, "watch_names_max", given.len(), WATCH_NAMES_MAX, "kinds")?;
    let kind = |(at, kind)| match wire::WatchKind::try_from(kind) {
        Ok(wire::WatchKind::Tuples) => Ok(WatchKind::Tuples),
        Ok(wire::WatchKind::Schemas) => Ok(WatchKind::Schemas),
        Ok(wire::WatchKind::Delegations) => Ok(WatchKind::Delegations),
        Ok(wire::WatchKind::Suspensions) => Ok(WatchKind::Suspensions),
        Ok(wire::WatchKind::Unspecified) => Err(place.item(at).missing()),
        Err(_) => Err(unknown_enum(place.item(at), kind)),
    };
    given.into_iter().enumerate().map(kind).collect()
}

impl From<WatchKind> for wire::WatchKind {
    fn from(kind: WatchKind) -> wire::WatchKind {
        match kind {
            WatchKind::Tuples => wire::WatchKind::Tuples,
            WatchKind::Schemas => wire::WatchKind::Schemas,
            WatchKind::Delegations => wire::WatchKind::Delegations,
            WatchKind::Suspensions => wire::WatchKind::Suspensions,
        }
    }
}

impl From<WatchWrite> for wire::WatchWrite {
    fn from(write: WatchWrite) -> wire::WatchWrite {
        let WatchWrite { at, metadata, changes, continues } = write;
        wire::WatchWrite {
            written_at: Some(to_timestamp(at)),
            metadata: (!metadata.is_empty()).then(|| to_struct(&metadata)),
            changes: changes.into_iter().map(Into::into).collect(),
            continues,
        }
    }
}

impl From<WatchChange> for wire::WatchChange {
    fn from(change: WatchChange) -> wire::WatchChange {
        use wire::watch_change::Change;
        let change = match change {
            WatchChange::Tuple(update) => Change::Tuple((&update).into()),
            WatchChange::Schema { text, digest } => Change::Schema(wire::SchemaChange { schema: text, digest }),
            WatchChange::Delegation { record, change } => Change::Delegation(wire::DelegationChange {
                kind: convert_delegation::to_change(change).into(),
                delegation: Some((&*record).into()),
            }),
            WatchChange::Suspended(suspension) => Change::Suspended((&suspension).into()),
            WatchChange::Reinstated { principal } => Change::Reinstated((&principal).into()),
        };
        wire::WatchChange { change: Some(change) }
    }
}

/// A write that a Watch told.
pub(super) fn watch_write(place: Place<'_>, message: wire::WatchWrite) -> Result<WatchWrite, Refusal> {
    let wire::WatchWrite { written_at, metadata: notes, changes, continues } = message;
    let at = place.field("written_at");
    let notes_at = place.field("metadata");
    let changes_at = place.field("changes");
    let changes = changes.into_iter().enumerate();
    Ok(WatchWrite {
        at: timestamp(at, written_at.ok_or_else(|| at.missing())?)?,
        metadata: match notes {
            Some(values) => json_object(notes_at, values, 1)?,
            None => Metadata::new(),
        },
        changes: changes
            .map(|(index, change)| watch_change(changes_at.item(index), change))
            .collect::<Result<_, _>>()?,
        continues,
    })
}

fn watch_change(place: Place<'_>, message: wire::WatchChange) -> Result<WatchChange, Refusal> {
    use wire::watch_change::Change;
    let wire::WatchChange { change } = message;
    match change {
        // A change that is not understood is not passed over: the reader's state would be wrong without a word.
        None => Err(place.missing()),
        Some(Change::Tuple(message)) => Ok(WatchChange::Tuple(update(place.field("tuple"), message)?)),
        Some(Change::Schema(wire::SchemaChange { schema, digest })) => Ok(WatchChange::Schema { text: schema, digest }),
        Some(Change::Delegation(message)) => convert_delegation::changed(place.field("delegation"), message),
        Some(Change::Suspended(message)) => {
            Ok(WatchChange::Suspended(convert_delegation::suspension(place.field("suspended"), message)?))
        }
        Some(Change::Reinstated(message)) => {
            Ok(WatchChange::Reinstated { principal: object(place.field("reinstated"), Some(message))? })
        }
    }
}

impl From<&TupleSubject> for wire::TupleSubject {
    fn from(given: &TupleSubject) -> wire::TupleSubject {
        let TupleSubject { subject, caveat, expires_at } = given;
        wire::TupleSubject {
            subject: Some(subject.into()),
            caveat: caveat.as_ref().map(to_caveat),
            expires_at: expires_at.map(to_timestamp),
        }
    }
}

pub(super) fn to_caveat(caveat: &TupleCaveat) -> wire::TupleCaveat {
    let TupleCaveat { name, context } = caveat;
    wire::TupleCaveat { name: name.to_string(), context: (!context.is_empty()).then(|| to_struct(context)) }
}

// ---- consistency ----

pub(super) fn consistency(message: Option<wire::Consistency>) -> Result<Consistency, Refusal> {
    use wire::consistency::Requirement;
    let place = Place::Field(&Place::Message, "consistency");
    let Some(wire::Consistency { requirement }) = message else {
        return Ok(Consistency::Newest);
    };
    match requirement {
        // An option of a newer client arrives as none at all: answering from the newest would be a guess.
        None => Err(place.missing().with_hint("leave `consistency` out for the newest revision")),
        Some(Requirement::Newest(true)) => Ok(Consistency::Newest),
        Some(Requirement::Newest(false)) => Err(place.field("newest").invalid("false", "only `true` may be given")),
        Some(Requirement::AtLeastAsFresh(given)) => {
            Ok(Consistency::AtLeastAsFresh(token(place.field("at_least_as_fresh"), given)?))
        }
        Some(Requirement::AtExactSnapshot(given)) => {
            Ok(Consistency::AtExactSnapshot(token(place.field("at_exact_snapshot"), given)?))
        }
    }
}

fn token(place: Place<'_>, message: wire::ConsistencyToken) -> Result<ConsistencyToken, Refusal> {
    let wire::ConsistencyToken { token } = message;
    token.parse().map_err(|error| {
        let hint = "give a token exactly as a reply of this database gave it";
        place.field("token").invalid(&token, error).with_hint(hint)
    })
}

// ---- JSON ----

pub(super) fn metadata(message: Option<prost_types::Struct>, limits: &Limits) -> Result<Metadata, Refusal> {
    let place = Place::Field(&Place::Message, "metadata");
    match message {
        Some(values) => bounded_json(place, values, "metadata_bytes_max", limits.metadata_bytes_max),
        None => Ok(Metadata::new()),
    }
}

/// What every question is asked under.
pub(super) fn situation(
    consistency: Option<wire::Consistency>,
    context: Option<prost_types::Struct>,
    contextual_tuples: Vec<wire::RelationTuple>,
    clock: Option<prost_types::Timestamp>,
    limits: &Limits,
) -> Result<Situation, Refusal> {
    let place = Place::Field(&Place::Message, "contextual_tuples");
    at_most(place, "contextual_tuples_max", contextual_tuples.len(), limits.contextual_tuples_max, "tuples")?;
    let placed = contextual_tuples.into_iter().enumerate();
    Ok(Situation {
        consistency: self::consistency(consistency)?,
        context: self::context(context)?,
        contextual_tuples: placed.map(|(at, one)| tuple(place.item(at), Some(one))).collect::<Result<_, _>>()?,
        clock: instant(Place::Field(&Place::Message, "clock"), clock)?,
    })
}

fn context(message: Option<prost_types::Struct>) -> Result<Context, Refusal> {
    let place = Place::Field(&Place::Message, "context");
    match message {
        Some(values) => bounded_json(place, values, "context_bytes_max", REQUEST_CONTEXT_BYTES_MAX),
        None => Ok(Context::new()),
    }
}

fn bounded_json(
    place: Place<'_>,
    message: prost_types::Struct,
    name: &'static str,
    bytes_max: usize,
) -> Result<serde_json::Map<String, Value>, Refusal> {
    let values = json_object(place, message, 1)?;
    let bytes = serde_json::to_string(&values).map_err(|error| place.invalid("", error))?.len();
    at_most(place, name, bytes, bytes_max, "bytes of JSON")?;
    Ok(values)
}

pub(super) fn json_object(
    place: Place<'_>,
    message: prost_types::Struct,
    depth: usize,
) -> Result<serde_json::Map<String, Value>, Refusal> {
    // Bounded: each level goes one deeper, and 16 are allowed.
    if depth > CONTEXT_DEPTH_MAX {
        return Err(place.over("context_depth_max", depth, CONTEXT_DEPTH_MAX, "levels"));
    }
    let prost_types::Struct { fields } = message;
    let mut values = serde_json::Map::new();
    for (key, value) in fields {
        let value = json_value(Place::Key(&place, &key), value, depth)?;
        values.insert(key, value);
    }
    Ok(values)
}

fn json_value(place: Place<'_>, message: prost_types::Value, depth: usize) -> Result<Value, Refusal> {
    let prost_types::Value { kind } = message;
    Ok(match kind {
        None => return Err(place.missing()),
        Some(ValueKind::NullValue(_)) => Value::Null,
        Some(ValueKind::BoolValue(given)) => Value::Bool(given),
        Some(ValueKind::StringValue(given)) => Value::String(given),
        Some(ValueKind::NumberValue(given)) => json_number(place, given)?,
        Some(ValueKind::StructValue(given)) => Value::Object(json_object(place, given, depth + 1)?),
        Some(ValueKind::ListValue(prost_types::ListValue { values })) => {
            if depth >= CONTEXT_DEPTH_MAX {
                return Err(place.over("context_depth_max", depth + 1, CONTEXT_DEPTH_MAX, "levels"));
            }
            let values = values.into_iter().enumerate();
            Value::Array(
                values
                    .map(|(index, value)| json_value(place.item(index), value, depth + 1))
                    .collect::<Result<_, _>>()?,
            )
        }
    })
}

/// A whole number stays one: `5` is `5` and not `5.0`, as it was before it became a double on the wire.
fn json_number(place: Place<'_>, given: f64) -> Result<Value, Refusal> {
    // The cast saturates, so a number beyond 2^53 stays beyond.
    let whole = given as i64;
    if given.fract() == 0.0 && whole.unsigned_abs() <= EXACT_INTEGER_MAX {
        return Ok(Value::from(whole));
    }
    match serde_json::Number::from_f64(given) {
        Some(number) => Ok(Value::Number(number)),
        None => Err(place.invalid(given.to_string(), "not a finite number")),
    }
}

/// JSON as the wire carries it. An integer beyond 2^53, which a double would round, travels as its digits: a caveat
/// takes numbers and numeric strings alike.
pub(super) fn to_struct(values: &serde_json::Map<String, Value>) -> prost_types::Struct {
    prost_types::Struct { fields: values.iter().map(|(key, value)| (key.clone(), to_value(value))).collect() }
}

fn to_value(value: &Value) -> prost_types::Value {
    // Bounded: stored contexts are at most 16 levels deep.
    let kind = match value {
        Value::Null => ValueKind::NullValue(0),
        Value::Bool(given) => ValueKind::BoolValue(*given),
        Value::String(given) => ValueKind::StringValue(given.clone()),
        Value::Number(given) => match given.as_f64() {
            Some(number) if given.is_f64() || is_exact(given) => ValueKind::NumberValue(number),
            Some(_) | None => ValueKind::StringValue(given.to_string()),
        },
        Value::Array(given) => {
            ValueKind::ListValue(prost_types::ListValue { values: given.iter().map(to_value).collect() })
        }
        Value::Object(given) => ValueKind::StructValue(to_struct(given)),
    };
    prost_types::Value { kind: Some(kind) }
}

/// Whether a double holds this whole number as it is.
fn is_exact(given: &serde_json::Number) -> bool {
    given.as_i64().is_some_and(|whole| whole.unsigned_abs() <= EXACT_INTEGER_MAX)
}

// ---- model → wire: always possible ----

impl From<&ObjectRef> for wire::ObjectRef {
    fn from(object: &ObjectRef) -> wire::ObjectRef {
        let ObjectRef { object_type, id } = object;
        wire::ObjectRef { r#type: object_type.to_string(), id: id.to_string() }
    }
}

impl From<&SubjectRef> for wire::SubjectRef {
    fn from(subject: &SubjectRef) -> wire::SubjectRef {
        let (object, relation) = match subject {
            SubjectRef::Object(object) => (object.into(), String::new()),
            SubjectRef::Userset(object, relation) => (object.into(), relation.to_string()),
            SubjectRef::Wildcard(subject_type) => {
                (wire::ObjectRef { r#type: subject_type.to_string(), id: WILDCARD.to_owned() }, String::new())
            }
        };
        wire::SubjectRef { object: Some(object), relation }
    }
}

impl From<&TupleKey> for wire::RelationTuple {
    fn from(key: &TupleKey) -> wire::RelationTuple {
        let TupleKey { object, relation, subject } = key;
        wire::RelationTuple {
            object: Some(object.into()),
            relation: relation.to_string(),
            subject: Some(subject.into()),
            caveat: None,
            expires_at: None,
        }
    }
}

pub(super) fn to_timestamp(at: Timestamp) -> prost_types::Timestamp {
    // Nanoseconds are below 1,000,000,000, so they fit.
    prost_types::Timestamp { seconds: at.seconds(), nanos: at.nanos().cast_signed() }
}

pub(super) fn instant(place: Place<'_>, message: Option<prost_types::Timestamp>) -> Result<Option<Timestamp>, Refusal> {
    message.map(|at| timestamp(place, at)).transpose()
}

impl From<&RelationTuple> for wire::RelationTuple {
    fn from(tuple: &RelationTuple) -> wire::RelationTuple {
        let RelationTuple { key, caveat, expires_at } = tuple;
        wire::RelationTuple {
            caveat: caveat.as_ref().map(to_caveat),
            expires_at: expires_at.map(to_timestamp),
            ..key.into()
        }
    }
}

impl From<&TupleUpdate> for wire::TupleUpdate {
    fn from(update: &TupleUpdate) -> wire::TupleUpdate {
        use wire::tuple_update::Operation;
        let TupleUpdate { kind, tuple } = update;
        let operation = match kind {
            UpdateKind::Create => Operation::Create,
            UpdateKind::Touch => Operation::Touch,
            UpdateKind::Delete => Operation::Delete,
        };
        wire::TupleUpdate { operation: operation.into(), tuple: Some(tuple.into()) }
    }
}

impl From<&TupleFilter> for wire::TupleFilter {
    fn from(filter: &TupleFilter) -> wire::TupleFilter {
        let TupleFilter { object_type, object_id, relation, subject, within } = filter;
        wire::TupleFilter {
            object_type: object_type.as_ref().map(TypeName::to_string),
            object_id: object_id.as_ref().map(ObjectId::to_string),
            relation: relation.as_ref().map(RelationName::to_string),
            subject: subject.as_ref().map(|SubjectFilter { subject_type, id, relation }| wire::SubjectFilter {
                r#type: subject_type.to_string(),
                id: id.as_ref().map(|id| match id {
                    SubjectIdFilter::Id(id) => id.to_string(),
                    SubjectIdFilter::Wildcard => WILDCARD.to_owned(),
                }),
                relation: match relation {
                    SubjectRelationFilter::Any => None,
                    SubjectRelationFilter::Plain => Some(ELLIPSIS.to_owned()),
                    SubjectRelationFilter::Relation(relation) => Some(relation.to_string()),
                },
            }),
            within: within.as_ref().map(Into::into),
        }
    }
}

impl From<&Precondition> for wire::Precondition {
    fn from(precondition: &Precondition) -> wire::Precondition {
        use wire::precondition::Operation;
        let (operation, filter) = match precondition {
            Precondition::MustMatch(filter) => (Operation::MustMatch, filter),
            Precondition::MustNotMatch(filter) => (Operation::MustNotMatch, filter),
        };
        wire::Precondition { operation: operation.into(), filter: Some(filter.into()) }
    }
}

impl From<Decision> for wire::Decision {
    fn from(decision: Decision) -> wire::Decision {
        match decision {
            Decision::Allow => wire::Decision::Allow,
            Decision::Deny => wire::Decision::Deny,
            Decision::Conditional => wire::Decision::Conditional,
        }
    }
}

impl From<ConsistencyToken> for wire::ConsistencyToken {
    fn from(token: ConsistencyToken) -> wire::ConsistencyToken {
        wire::ConsistencyToken { token: token.to_string() }
    }
}

impl From<&SchemaDiagnostic> for wire::SchemaDiagnostic {
    fn from(diagnostic: &SchemaDiagnostic) -> wire::SchemaDiagnostic {
        use wire::schema_diagnostic::Severity;
        let SchemaDiagnostic { is_error, name, message, hint, line, column, rendered } = diagnostic;
        let severity = if *is_error { Severity::Error } else { Severity::Warning };
        wire::SchemaDiagnostic {
            severity: severity.into(),
            name: (*name).to_owned(),
            message: message.clone(),
            hint: hint.clone().unwrap_or_default(),
            line: *line,
            column: *column,
            rendered: rendered.clone(),
        }
    }
}

/// A witness as the wire carries it; none is no steps.
pub(super) fn to_steps(witness: Option<Witness>) -> Vec<wire::WitnessStep> {
    use wire::witness_step::Step as Said;
    let steps = witness.map(|Witness { steps }| steps).unwrap_or_default();
    let to_step = |step: Step| {
        let (depth, said) = match step {
            Step::Member { depth, object, member } => (
                depth,
                Said::Member(wire::WitnessMember { object: Some((&object).into()), member: member.to_string() }),
            ),
            Step::Tuple { depth, tuple } => (depth, Said::Tuple((&tuple).into())),
            Step::Itself { depth, subject } => (depth, Said::Itself((&subject).into())),
            Step::Excluded { depth, object, permission } => (
                depth,
                Said::Excluded(wire::WitnessMember { object: Some((&object).into()), member: permission.to_string() }),
            ),
        };
        wire::WitnessStep { depth, step: Some(said) }
    };
    steps.into_iter().map(to_step).collect()
}

// ---- replies, as the client reads them ----

/// The decision of a reply. One that this build does not know is refused: it is never taken for an allow or a deny.
pub(super) fn decision(place: Place<'_>, given: i32) -> Result<Decision, Refusal> {
    match wire::Decision::try_from(given) {
        Ok(wire::Decision::Allow) => Ok(Decision::Allow),
        Ok(wire::Decision::Deny) => Ok(Decision::Deny),
        Ok(wire::Decision::Conditional) => Ok(Decision::Conditional),
        Ok(wire::Decision::Unspecified) => Err(place.missing()),
        Err(_) => Err(unknown_enum(place, given)),
    }
}

/// The witness of a reply; `None` when it has no steps.
pub(super) fn witness(place: Place<'_>, messages: Vec<wire::WitnessStep>) -> Result<Option<Witness>, Refusal> {
    if messages.is_empty() {
        return Ok(None);
    }
    let steps = messages.into_iter().enumerate().map(|(index, message)| step(place.item(index), message));
    Ok(Some(Witness { steps: steps.collect::<Result<_, _>>()? }))
}

fn step(place: Place<'_>, message: wire::WitnessStep) -> Result<Step, Refusal> {
    use wire::witness_step::Step as Said;
    let wire::WitnessStep { depth, step } = message;
    Ok(match step {
        None => return Err(place.field("step").missing()),
        Some(Said::Member(wire::WitnessMember { object: on, member })) => {
            let place = place.field("member");
            let member = relation_name(place.field("member"), member)?;
            Step::Member { depth, object: object(place.field("object"), on)?, member }
        }
        Some(Said::Tuple(message)) => Step::Tuple { depth, tuple: tuple(place.field("tuple"), Some(message))? },
        Some(Said::Itself(who)) => Step::Itself { depth, subject: subject(place.field("itself"), Some(who))? },
        Some(Said::Excluded(wire::WitnessMember { object: on, member })) => {
            let place = place.field("excluded");
            let permission = relation_name(place.field("member"), member)?;
            Step::Excluded { depth, object: object(place.field("object"), on)?, permission }
        }
    })
}

/// The token a reply must carry.
pub(super) fn token_text(place: Place<'_>, message: Option<wire::ConsistencyToken>) -> Result<String, Refusal> {
    let wire::ConsistencyToken { token } = message.ok_or_else(|| place.missing())?;
    Ok(token)
}

/// A relation or permission on an object, as a reply names it.
pub(super) fn member(place: Place<'_>, message: wire::WitnessMember) -> Result<(ObjectRef, RelationName), Refusal> {
    let wire::WitnessMember { object: on, member } = message;
    Ok((object(place.field("object"), on)?, relation_name(place.field("member"), member)?))
}

/// A relation or permission of the schema, by its name.
pub(super) fn schema_member(
    place: Place<'_>,
    message: Option<wire::SchemaMemberName>,
) -> Result<(TypeName, RelationName), Refusal> {
    let wire::SchemaMemberName { definition, name } = message.ok_or_else(|| place.missing())?;
    Ok((type_name(place.field("definition"), definition)?, relation_name(place.field("name"), name)?))
}

/// Those that a question about several names.
pub(super) fn schema_members(messages: Vec<wire::SchemaMemberName>) -> Result<Vec<(TypeName, RelationName)>, Refusal> {
    let place = field("relations");
    let named = messages.into_iter().enumerate();
    named.map(|(index, message)| schema_member(place.item(index), Some(message))).collect()
}

impl From<MemberRef> for wire::SchemaMember {
    fn from(member: MemberRef) -> wire::SchemaMember {
        let MemberRef { definition, member, is_permission } = member;
        wire::SchemaMember { definition: definition.to_string(), name: member.to_string(), is_permission }
    }
}

/// A member that a reply names.
pub(super) fn member_ref(place: Place<'_>, message: wire::SchemaMember) -> Result<MemberRef, Refusal> {
    let wire::SchemaMember { definition, name, is_permission } = message;
    let (definition, member) = schema_member(place, Some(wire::SchemaMemberName { definition, name }))?;
    Ok(MemberRef { definition, member, is_permission })
}

// ---- limits of single fields ----

/// A field of a reply or request by name, for what has no message of its own.
pub(super) fn field(name: &'static str) -> Place<'static> {
    const MESSAGE: Place<'static> = Place::Message;
    Place::Field(&MESSAGE, name)
}

/// How many rows a read may return: 1 to the limit, or all.
pub(super) fn row_limit(given: Option<u32>, limits: &Limits) -> Result<Option<usize>, Refusal> {
    let place = field("limit");
    match given.map(|rows| rows as usize) {
        None => Ok(None),
        Some(0) => Err(place.invalid("0", "at least one row is read").with_hint("leave `limit` out to read all rows")),
        Some(rows) if rows > limits.page_tuples_max => {
            let refusal = place.over("page_tuples_max", rows, limits.page_tuples_max, "tuples");
            let message = format!("`limit` is {rows}; at most {} are allowed", limits.page_tuples_max);
            Err(Refusal { message, ..refusal }.with_hint("leave `limit` out to read all rows"))
        }
        Some(rows) => Ok(Some(rows)),
    }
}

/// Text that may be left out but not be empty.
pub(super) fn not_empty(name: &'static str, given: Option<String>) -> Result<Option<String>, Refusal> {
    match given {
        Some(text) if text.is_empty() => Err(field(name).invalid("", "empty").with_hint("leave it out instead")),
        Some(_) | None => Ok(given),
    }
}

/// The text of a schema: bounded here, before anything reads it.
pub(super) fn schema_text(text: String, limits: &Limits) -> Result<String, Refusal> {
    at_most(field("schema"), "schema_bytes_max", text.len(), limits.schema_bytes_max, "bytes")?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn object_ref(text: &str) -> wire::ObjectRef {
        (&text.parse::<ObjectRef>().unwrap()).into()
    }

    fn good_tuple() -> wire::RelationTuple {
        let text = r#"doc:1#viewer@group:eng#member[on_net:{"cidr":"10.0.0.0/8"}][expiration:2030-01-01T00:00:00Z]"#;
        (&text.parse::<RelationTuple>().unwrap()).into()
    }

    fn number(given: f64) -> prost_types::Value {
        prost_types::Value { kind: Some(ValueKind::NumberValue(given)) }
    }

    fn nested(levels: usize) -> prost_types::Struct {
        let leaf = prost_types::Struct::default();
        (1..levels).fold(leaf, |inner, _| prost_types::Struct {
            fields: [("k".to_owned(), prost_types::Value { kind: Some(ValueKind::StructValue(inner)) })].into(),
        })
    }

    /// One update whose only field out of order is the one `spoil` touches: refused, naming the field and the value.
    fn refused(spoil: impl FnOnce(&mut wire::TupleUpdate), field: &str, value: Option<&str>) {
        let mut message = wire::TupleUpdate { operation: 2, tuple: Some(good_tuple()) };
        assert!(updates(vec![message.clone()], &Limits::default()).is_ok());
        spoil(&mut message);
        let refusal = updates(vec![message], &Limits::default()).unwrap_err();
        assert_eq!((refusal.field.as_str(), refusal.value.as_deref()), (field, value), "{refusal:?}");
        assert!(refusal.message.contains(field), "{refusal:?}");
    }

    #[test]
    fn every_field_of_an_update_is_named_when_it_is_wrong() {
        refused(|u| u.operation = 0, "updates[0].operation", None);
        refused(|u| u.operation = 9, "updates[0].operation", Some("9"));
        refused(|u| u.tuple = None, "updates[0].tuple", None);
        let spoil =
            |change: fn(&mut wire::RelationTuple)| move |u: &mut wire::TupleUpdate| change(u.tuple.as_mut().unwrap());
        let at = |path: &str| format!("updates[0].tuple.{path}");
        refused(spoil(|t| t.object = None), &at("object"), None);
        refused(spoil(|t| t.object.as_mut().unwrap().r#type = "Doc".into()), &at("object.type"), Some("Doc"));
        refused(spoil(|t| t.object.as_mut().unwrap().id = "*".into()), &at("object.id"), Some("*"));
        refused(spoil(|t| t.object.as_mut().unwrap().id = String::new()), &at("object.id"), Some(""));
        refused(spoil(|t| t.relation = "a b".into()), &at("relation"), Some("a b"));
        refused(spoil(|t| t.subject = None), &at("subject"), None);
        refused(spoil(|t| t.subject.as_mut().unwrap().object = None), &at("subject.object"), None);
        refused(spoil(|t| t.subject.as_mut().unwrap().relation = "é".into()), &at("subject.relation"), Some("é"));
        refused(
            spoil(|t| t.subject.as_mut().unwrap().object.as_mut().unwrap().id = "a#b".into()),
            &at("subject.object.id"),
            Some("a#b"),
        );
        refused(
            spoil(|t| t.subject.as_mut().unwrap().object.as_mut().unwrap().id = WILDCARD.into()),
            &at("subject.relation"),
            Some("member"),
        );
        refused(spoil(|t| t.caveat.as_mut().unwrap().name = "-".into()), &at("caveat.name"), Some("-"));
        let nanos = Some("1893456000 s, -1 ns");
        refused(spoil(|t| t.expires_at.as_mut().unwrap().nanos = -1), &at("expires_at"), nanos);
        let year = Some("253402300800 s, 0 ns");
        refused(spoil(|t| t.expires_at.as_mut().unwrap().seconds = 253_402_300_800), &at("expires_at"), year);
    }

    #[test]
    fn a_context_is_bounded_and_finite() {
        let with = |context: prost_types::Struct| {
            move |u: &mut wire::TupleUpdate| u.tuple.as_mut().unwrap().caveat.as_mut().unwrap().context = Some(context)
        };
        let of = |value: prost_types::Value| prost_types::Struct { fields: [("k".to_owned(), value)].into() };
        let at = "updates[0].tuple.caveat.context";
        refused(with(of(number(f64::NAN))), &format!("{at}.k"), Some("NaN"));
        refused(with(of(number(f64::NEG_INFINITY))), &format!("{at}.k"), Some("-inf"));
        refused(with(of(prost_types::Value { kind: None })), &format!("{at}.k"), None);
        refused(with(nested(17)), &format!("{at}{}", ".k".repeat(16)), Some("17"));
        let long = prost_types::Value { kind: Some(ValueKind::StringValue("x".repeat(STORED_CONTEXT_BYTES_MAX - 7))) };
        refused(with(of(long)), at, Some("32769"));
        let mut list = number(1.0);
        for _ in 0..16 {
            list =
                prost_types::Value { kind: Some(ValueKind::ListValue(prost_types::ListValue { values: vec![list] })) };
        }
        refused(with(of(list)), &format!("{at}.k{}", "[0]".repeat(15)), Some("17"));
        assert!(bounded_json(field("x"), nested(16), "x", 1000).is_ok());
    }

    #[test]
    fn whole_numbers_stay_whole_and_great_ones_travel_as_digits() {
        let json: serde_json::Map<String, Value> =
            serde_json::from_str(r#"{"a":5,"b":5.5,"c":-9007199254740992,"d":9007199254740993,"e":1e300}"#).unwrap();
        let back = bounded_json(field("x"), to_struct(&json), "x", 1000).unwrap();
        let text = serde_json::to_string(&back).unwrap();
        assert_eq!(text, r#"{"a":5,"b":5.5,"c":-9007199254740992,"d":"9007199254740993","e":1e+300}"#);
    }

    #[test]
    fn a_question_names_what_is_missing_and_leaves_wildcards_to_the_engine() {
        let who = |id: &str| wire::SubjectRef {
            object: Some(wire::ObjectRef { r#type: "user".into(), id: id.into() }),
            relation: "...".into(),
        };
        let asked = question(Place::Message, Some(object_ref("doc:1")), "view".into(), Some(who("*"))).unwrap();
        assert_eq!(asked.subject.to_string(), "user:*");
        let plain = question(Place::Message, Some(object_ref("doc:1")), "view".into(), Some(who("rita"))).unwrap();
        assert_eq!(plain.subject.to_string(), "user:rita");
        let fields = [
            question(Place::Message, None, "view".into(), Some(who("a"))).unwrap_err().field,
            question(Place::Message, Some(object_ref("doc:1")), String::new(), Some(who("a"))).unwrap_err().field,
            question(Place::Message, Some(object_ref("doc:1")), "view".into(), None).unwrap_err().field,
        ];
        assert_eq!(fields, ["object", "permission", "subject"]);
    }

    #[test]
    fn a_filter_never_widens_by_an_empty_string() {
        let refused = |message: wire::TupleFilter| filter(field("filter"), Some(message)).unwrap_err().field;
        let empty = || Some(String::new());
        assert_eq!(refused(wire::TupleFilter { object_type: empty(), ..Default::default() }), "filter.object_type");
        assert_eq!(refused(wire::TupleFilter { relation: empty(), ..Default::default() }), "filter.relation");
        let id = wire::TupleFilter { object_id: Some("1".into()), ..Default::default() };
        assert_eq!(refused(id), "filter.object_id");
        let of = |id, relation| wire::TupleFilter {
            subject: Some(wire::SubjectFilter { r#type: "user".into(), id, relation }),
            ..Default::default()
        };
        assert_eq!(refused(of(empty(), None)), "filter.subject.id");
        assert_eq!(refused(of(None, empty())), "filter.subject.relation");
        let untyped = wire::TupleFilter { subject: Some(wire::SubjectFilter::default()), ..Default::default() };
        assert_eq!(refused(untyped), "filter.subject.type");
        assert_eq!(filter(field("filter"), None).unwrap_err().field, "filter");
        assert!(filter(field("filter"), Some(wire::TupleFilter::default())).is_ok());
        assert_eq!(deleting_filter(field("filter"), Some(wire::TupleFilter::default())).unwrap_err().field, "filter");
    }

    #[test]
    fn consistency_is_never_guessed() {
        use wire::consistency::Requirement;
        let of = |requirement| consistency(Some(wire::Consistency { requirement }));
        let garbled = || wire::ConsistencyToken { token: "nonsense".into() };
        assert_eq!(consistency(None), Ok(Consistency::Newest));
        assert_eq!(of(Some(Requirement::Newest(true))), Ok(Consistency::Newest));
        assert_eq!(of(None).unwrap_err().field, "consistency");
        assert_eq!(of(Some(Requirement::Newest(false))).unwrap_err().field, "consistency.newest");
        let fresh = of(Some(Requirement::AtLeastAsFresh(garbled()))).unwrap_err();
        assert_eq!(fresh.field, "consistency.at_least_as_fresh.token");
        assert_eq!(fresh.value.as_deref(), Some("nonsense"));
        let exact = of(Some(Requirement::AtExactSnapshot(garbled()))).unwrap_err();
        assert_eq!(exact.field, "consistency.at_exact_snapshot.token");
    }

    #[test]
    fn more_than_the_limit_names_the_limit() {
        let limits = Limits {
            updates_max: 1,
            bulk_items_max: 1,
            preconditions_max: 0,
            page_tuples_max: 2,
            schema_bytes_max: 1,
            metadata_bytes_max: 4,
            ..Limits::default()
        };
        let limit = |refusal: Refusal| match refusal.kind {
            RefusalKind::Limit { name, .. } => name,
            RefusalKind::Invalid => "none",
        };
        let update = wire::TupleUpdate { operation: 2, tuple: Some(good_tuple()) };
        assert_eq!(limit(updates(vec![update.clone(), update], &limits).unwrap_err()), "updates_max");
        assert_eq!(updates(vec![], &limits).unwrap_err().field, "updates");
        let item = wire::CheckBulkItem::default();
        assert_eq!(limit(items(vec![item.clone(), item], &limits).unwrap_err()), "bulk_items_max");
        let precondition = wire::Precondition::default();
        assert_eq!(limit(preconditions(vec![precondition], &limits).unwrap_err()), "preconditions_max");
        assert_eq!(limit(row_limit(Some(3), &limits).unwrap_err()), "page_tuples_max");
        assert_eq!(row_limit(Some(0), &limits).unwrap_err().field, "limit");
        assert_eq!(limit(schema_text("ab".into(), &limits).unwrap_err()), "schema_bytes_max");
        let notes = prost_types::Struct { fields: [("k".to_owned(), number(1.0))].into() };
        assert_eq!(limit(metadata(Some(notes), &limits).unwrap_err()), "metadata_bytes_max");
    }

    #[test]
    fn an_item_keeps_its_mark_and_its_own_error() {
        let message = wire::CheckBulkItem { id: "row 7".into(), permission: "view".into(), ..Default::default() };
        let (id, asked) = items(vec![message.clone(), message], &Limits::default()).unwrap().pop().unwrap();
        assert_eq!(id, "row 7");
        assert_eq!(asked.unwrap_err().field, "items[1].object");
        let (id, asked) = item(field("item"), wire::CheckBulkItem { id: "x".repeat(257), ..Default::default() });
        assert_eq!((id.chars().count(), asked.unwrap_err().field.as_str()), (65, "item.id"));
    }

    #[test]
    fn what_was_given_is_cut() {
        let refusal = object_id(field("id"), "ü".repeat(2000)).unwrap_err();
        assert_eq!(refusal.value.unwrap().chars().count(), 65);
    }

    fn json(levels: u32) -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-9_007_199_254_740_992i64..=9_007_199_254_740_992).prop_map(Value::from),
            // Whole doubles come back as integers, so only others are drawn.
            (-1e9..1e9f64).prop_filter("a fraction", |given| given.fract() != 0.0).prop_map(Value::from),
            "\\PC{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(levels, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map("[a-z]{0,3}", inner, 0..4)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect())),
            ]
        })
    }

    fn name() -> impl Strategy<Value = RelationName> {
        "[a-z]([a-z0-9_]{0,6}[a-z0-9])?".prop_map(|text| RelationName::new(text).unwrap())
    }

    fn type_of() -> impl Strategy<Value = TypeName> {
        (proptest::option::of(name()), name()).prop_map(|(prefix, name)| {
            TypeName::new(prefix.map_or(name.to_string(), |prefix| format!("{prefix}/{name}"))).unwrap()
        })
    }

    fn any_object() -> impl Strategy<Value = ObjectRef> {
        (type_of(), r"[a-zA-Z0-9/_|\-=+.@:~%!,]{1,12}")
            .prop_map(|(object_type, id)| ObjectRef { object_type, id: ObjectId::new(id).unwrap() })
    }

    fn any_subject() -> impl Strategy<Value = SubjectRef> {
        prop_oneof![
            any_object().prop_map(SubjectRef::Object),
            (any_object(), name()).prop_map(|(object, relation)| SubjectRef::Userset(object, relation)),
            type_of().prop_map(SubjectRef::Wildcard),
        ]
    }

    fn any_key() -> impl Strategy<Value = TupleKey> {
        (any_object(), name(), any_subject()).prop_map(|(object, relation, subject)| TupleKey {
            object,
            relation,
            subject,
        })
    }

    fn any_tuple() -> impl Strategy<Value = RelationTuple> {
        let context = prop::collection::hash_map("[a-z]{1,3}", json(3), 0..3);
        let caveat = proptest::option::of(("[a-zA-Z0-9_]{1,5}", context).prop_map(|(name, context)| TupleCaveat {
            name: CaveatName::new(name).unwrap(),
            context: context.into_iter().collect(),
        }));
        let expiry = proptest::option::of((-62_135_596_800i64..=253_402_300_799, 0..1_000_000_000u32));
        (any_key(), caveat, expiry).prop_map(|(key, caveat, expiry)| RelationTuple {
            key,
            caveat,
            expires_at: expiry.map(|(seconds, nanos)| Timestamp::new(seconds, nanos).unwrap()),
        })
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..9u32, any_object(), name()).prop_map(|(depth, object, member)| Step::Member { depth, object, member }),
            (0..9u32, any_tuple()).prop_map(|(depth, tuple)| Step::Tuple { depth, tuple }),
            (0..9u32, any_subject()).prop_map(|(depth, subject)| Step::Itself { depth, subject }),
            (0..9u32, any_object(), name()).prop_map(|(depth, object, permission)| Step::Excluded {
                depth,
                object,
                permission
            }),
        ]
    }

    proptest! {
        #[test]
        fn a_tuple_survives_the_wire(given in any_tuple()) {
            prop_assert_eq!(tuple(field("tuple"), Some((&given).into())), Ok(given));
        }

        #[test]
        fn a_filter_survives_the_wire(key in any_key(), parts in 0..16u8) {
            let whole = TupleFilter::exactly(&key);
            let mut given = whole.clone();
            if parts & 1 == 0 { given.object_id = None; }
            if parts & 3 == 0 { given.object_type = None; }
            if parts & 4 == 0 { given.relation = None; }
            if parts & 8 == 0 { given.subject = None; }
            for given in [given, whole] {
                prop_assert_eq!(filter(field("filter"), Some((&given).into())), Ok(given));
            }
        }

        #[test]
        fn a_witness_survives_the_wire(steps in prop::collection::vec(any_step(), 1..6)) {
            let given = Some(Witness { steps });
            prop_assert_eq!(witness(field("witness"), to_steps(given.clone())), Ok(given));
        }

        #[test]
        fn no_strings_panic(r#type in "\\PC{0,12}", id in "\\PC{0,12}", relation in "\\PC{0,12}") {
            let named = wire::ObjectRef { r#type, id };
            let who = wire::SubjectRef { object: Some(named.clone()), relation: relation.clone() };
            let _ = question(Place::Message, Some(named), relation, Some(who));
        }
    }
}
