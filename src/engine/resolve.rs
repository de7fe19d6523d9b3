//! Names and ids of a request → numbers. A question looks ids up and never adds one.

use super::schemas::InForce;
use super::{Error, Kind};
use crate::graph::View;
use crate::model::{
    Arrow, CaveatName, CaveatNum, Context, MemberNum, MemberOf, ObjectId, ObjectNum, ObjectRef, RelationName,
    RelationTuple, Step, SubjectKind, SubjectRef, SubjectRelationFilter, TupleCaveat, TupleFilter, TupleKey, TypeName,
    TypeNum, Witness,
};
use crate::schema::{Quantifier, Refusal, Side, Targets};
use crate::store::{self, RowCaveat, RowKey, RowValue, Store, SubjectKey};
use crate::walk::{self, Failure, Node, TrailStep};
use smallvec::SmallVec;
use std::borrow::Cow;

/// Numbers of one request: those the store gave, and transient ones for ids that no tuple mentions. Such an id has no
/// rows, but wildcards and self-membership still answer for it.
pub(super) struct Resolver<'a> {
    store: &'a Store,
    in_force: &'a InForce,
    transient: Cow<'a, Transient>,
}

/// Most ids without a number of the store in one request.
const PLACES_MAX: usize = (ObjectNum::ANYBODY_ELSE.0 - ObjectNum::TRANSIENT_FIRST) as usize;

/// The transient numbers of a request that goes on after its question was resolved: place by place, the ids that got one.
/// An id that a contextual tuple names, or that a list could hold because it is asked about, takes a place though the
/// store may know it, so that the places of the others do not hang on that.
pub(super) type Transient = SmallVec<[Place; 2]>;

/// An id's place among the transient numbers, and whether that number is in use.
#[derive(Clone)]
pub(super) struct Place {
    of: TypeNum,
    id: ObjectId,
    used: bool,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(store: &'a Store, in_force: &'a InForce) -> Resolver<'a> {
        Resolver { store, in_force, transient: Cow::Owned(Transient::new()) }
    }

    /// One that knows the numbers an earlier one gave, and copies them when it gives one itself.
    pub(super) fn again(store: &'a Store, in_force: &'a InForce, transient: &'a Transient) -> Resolver<'a> {
        Resolver { store, in_force, transient: Cow::Borrowed(transient) }
    }

    /// The numbers given.
    pub(super) fn into_transient(self) -> Transient {
        self.transient.into_owned()
    }

    /// What is asked of an object.
    pub(super) fn asked_node(&mut self, object: &ObjectRef, permission: &RelationName) -> Result<Node, Error> {
        let (of, member) = self.asked_member(&object.object_type, "object.type", permission, "permission")?;
        self.node_of(of, member, &object.id)
    }

    /// What is asked of an object of a type.
    pub(super) fn node_of(&mut self, of: TypeNum, member: MemberNum, id: &ObjectId) -> Result<Node, Error> {
        Ok(Node { member, object: self.number(of, id)? })
    }

    /// An object that a field of the request names.
    pub(super) fn object(&mut self, object: &ObjectRef, type_field: &str) -> Result<(TypeNum, ObjectNum), Error> {
        let known = self.in_force.schema.resolve_type(Side::Object, &object.object_type);
        known.map_err(|refusal| refused(&refusal, type_field))?;
        let (of, _) = self.itself(&object.object_type)?;
        Ok((of, self.number(of, &object.id)?))
    }

    /// A relation or permission of a definition, each named by a field of the request.
    pub(super) fn asked_member(
        &self,
        object_type: &TypeName,
        type_field: &str,
        name: &RelationName,
        name_field: &str,
    ) -> Result<(TypeNum, MemberNum), Error> {
        let schema = &self.in_force.schema;
        schema.resolve_type(Side::Object, object_type).map_err(|refusal| refused(&refusal, type_field))?;
        schema.resolve_member(object_type, name).map_err(|refusal| refused(&refusal, name_field))?;
        self.member(object_type, name)
    }

    /// Who is asked about.
    pub(super) fn asked_subject(&mut self, subject: &SubjectRef) -> Result<SubjectKey, Error> {
        let schema = &self.in_force.schema;
        let subject_type = subject.subject_type();
        schema.resolve_type(Side::Subject, subject_type).map_err(|refusal| refused(&refusal, "subject.object.type"))?;
        schema.resolve_subject(subject).map_err(|refusal| refused(&refusal, "subject.relation"))?;
        Ok(match subject {
            SubjectRef::Object(object) => {
                let (of, member) = self.itself(subject_type)?;
                SubjectKey { kind: SubjectKind::Plain, member, object: self.number(of, &object.id)? }
            }
            SubjectRef::Userset(object, relation) => {
                let (of, member) = self.member(&object.object_type, relation)?;
                SubjectKey { kind: SubjectKind::Userset, member, object: self.number(of, &object.id)? }
            }
            SubjectRef::Wildcard(_) => {
                let message = "a wildcard cannot ask; name one subject";
                return Err(Error::invalid("subject.object.id", "*", message));
            }
        })
    }

    /// A principal that a record names; `None` when the schema in force lacks its type.
    pub(super) fn known_principal(&mut self, principal: &ObjectRef) -> Result<Option<SubjectKey>, Error> {
        if self.in_force.schema.definition(principal.object_type.as_str()).is_none() {
            return Ok(None);
        }
        let (of, member) = self.itself(&principal.object_type)?;
        Ok(Some(SubjectKey { kind: SubjectKind::Plain, member, object: self.number(of, &principal.id)? }))
    }

    /// An object that a record names, if it has a number here or in the store: it gets none for being named there.
    pub(super) fn numbered(&self, object: &ObjectRef) -> Result<Option<(TypeNum, ObjectNum)>, Error> {
        if self.in_force.schema.definition(object.object_type.as_str()).is_none() {
            return Ok(None);
        }
        let (of, _) = self.itself(&object.object_type)?;
        Ok(self.number_of(of, &object.id)?.map(|number| (of, number)))
    }

    /// The number of an id, if it has one here or in the store.
    pub(super) fn number_of(&self, of: TypeNum, id: &ObjectId) -> Result<Option<ObjectNum>, Error> {
        let place = self.transient.iter().position(|place| place.used && place.of == of && place.id == *id);
        match place {
            Some(at) => Ok(Some(transient(at))),
            None => Ok(self.store.dictionary().number(of, id.as_str())?),
        }
    }

    /// A relation or permission on an object, as a record names it; `None` when the schema in force lacks either.
    pub(super) fn known_node(&mut self, object: &ObjectRef, name: &RelationName) -> Result<Option<Node>, Error> {
        let definition = self.in_force.schema.definition(object.object_type.as_str());
        if definition.and_then(|definition| definition.member(name.as_str())).is_none() {
            return Ok(None);
        }
        let (of, member) = self.member(&object.object_type, name)?;
        Ok(Some(Node { member, object: self.number(of, &object.id)? }))
    }

    /// A definition's `...`, which stands for its plain objects.
    pub(super) fn itself(&self, of: &TypeName) -> Result<(TypeNum, MemberNum), Error> {
        let names = &self.in_force.names;
        let number = names.type_number(of.as_str()).ok_or_else(|| unnumbered(of.as_str()))?;
        Ok((number, names.itself(number).ok_or_else(|| unnumbered(of.as_str()))?))
    }

    fn member(&self, object_type: &TypeName, name: &RelationName) -> Result<(TypeNum, MemberNum), Error> {
        let names = &self.in_force.names;
        let object_type = object_type.as_str();
        let of = names.type_number(object_type).ok_or_else(|| unnumbered(object_type))?;
        let member = names.member_number(of, name.as_str()).ok_or_else(|| unnumbered(name.as_str()))?;
        Ok((of, member))
    }

    /// The number of an id: the one it has in this request, in the store, or else a transient one.
    fn number(&mut self, of: TypeNum, id: &ObjectId) -> Result<ObjectNum, Error> {
        let place = self.transient.iter().position(|place| place.of == of && place.id == *id);
        if let Some(place) = place.and_then(|at| self.transient.get(at).filter(|place| place.used).map(|_| at)) {
            return Ok(transient(place));
        }
        if let Some(number) = self.store.dictionary().number(of, id.as_str())? {
            return Ok(number);
        }
        let at = place.unwrap_or(self.transient.len());
        if at >= PLACES_MAX {
            // The last number stands for everybody else, so it is nobody's.
            let message = format!("the request needs numbers for more than {PLACES_MAX} ids that no tuple mentions");
            return Err(Error::new(Kind::ResourceExhausted, "TOO_MANY_UNKNOWN_IDS", message)
                .with_fact("limit", PLACES_MAX.to_string()));
        }
        let places = self.transient.to_mut();
        match places.get_mut(at) {
            Some(place) => place.used = true,
            None => places.push(Place { of, id: id.clone(), used: true }),
        }
        Ok(transient(at))
    }

    /// As `number`, of an id that keeps a place in any case.
    fn placed(&mut self, of: TypeNum, id: &ObjectId) -> Result<ObjectNum, Error> {
        self.keep_place(of, id);
        self.number(of, id)
    }

    /// Keeps a place for an id of the question, for whose place in a list it must not matter whether the store knows it.
    pub(super) fn keep_place(&mut self, of: TypeNum, id: &ObjectId) {
        if !self.transient.iter().any(|place| place.of == of && place.id == *id) {
            self.transient.to_mut().push(Place { of, id: id.clone(), used: false });
        }
    }

    /// Ids of a type that have a place here and a number of the store that is not below `bound`: with that number, and
    /// the one of their place.
    pub(super) fn numbered_since(
        &self,
        of: TypeNum,
        bound: ObjectNum,
    ) -> Result<Vec<(ObjectNum, ObjectNum)>, store::Error> {
        let mut since = Vec::new();
        for (at, place) in self.transient.iter().enumerate().filter(|(_, place)| place.of == of && !place.used) {
            let number = self.store.dictionary().number(of, place.id.as_str())?;
            since.extend(number.filter(|number| *number >= bound).map(|number| (number, transient(at))));
        }
        Ok(since)
    }

    /// The row of a tuple that the schema admits, laid over the state by a request.
    pub(super) fn row_key(&mut self, key: &TupleKey) -> Result<RowKey, Error> {
        let (of, relation) = self.member(&key.object.object_type, &key.relation)?;
        let object = self.placed(of, &key.object.id)?;
        let subject = match &key.subject {
            SubjectRef::Object(subject) => {
                let (of, member) = self.itself(&subject.object_type)?;
                SubjectKey { kind: SubjectKind::Plain, member, object: self.placed(of, &subject.id)? }
            }
            SubjectRef::Userset(subject, relation) => {
                let (of, member) = self.member(&subject.object_type, relation)?;
                SubjectKey { kind: SubjectKind::Userset, member, object: self.placed(of, &subject.id)? }
            }
            SubjectRef::Wildcard(of) => {
                let (_, member) = self.itself(of)?;
                SubjectKey { kind: SubjectKind::Wildcard, member, object: ObjectNum(0) }
            }
        };
        Ok(RowKey { relation, object, subject })
    }

    /// The number of a caveat of the schema in force.
    pub(super) fn caveat(&self, name: &CaveatName) -> Result<CaveatNum, Error> {
        self.in_force.names.caveat_number(name.as_str()).ok_or_else(|| unnumbered(name.as_str()))
    }

    /// The id behind a number of this request or of the store.
    pub(super) fn id(&self, of: TypeNum, number: ObjectNum) -> Result<ObjectId, store::Error> {
        let place = number.0.checked_sub(ObjectNum::TRANSIENT_FIRST);
        match place.and_then(|at| self.transient.get(at as usize)) {
            Some(place) => Ok(place.id.clone()),
            None => self.store.dictionary().id(of, number),
        }
    }

    /// A walk's error, with tuple and caveat by their names. Where what is stored on the tuple is at fault, the caller's
    /// request is not.
    pub(super) fn told(&self, error: walk::Error) -> Error {
        let walk::Error::CaveatFailed(Failure { row, caveat, text }) = error else { return error.into() };
        let named = self.tuple_key(&row).and_then(|key| Ok((key, self.in_force.names.caveat_name(caveat)?)));
        match named {
            Ok((key, caveat)) => {
                let (kind, hint) = if self.fails_by_itself(&row, caveat) {
                    (Kind::FailedPrecondition, "write the tuple again with values its caveat can use, or delete it")
                } else {
                    (Kind::InvalidArgument, "give the caveat's parameters other values, or rewrite or delete the tuple")
                };
                let message = format!("the caveat `{caveat}` of `{key}` cannot be evaluated: {text}");
                Error::new(kind, "CAVEAT_FAILED", message)
                    .with_fact("tuple", key.to_string())
                    .with_fact("caveat", caveat.as_str())
                    .with_hint(hint)
            }
            Err(error) => error,
        }
    }

    /// Whether a row's caveat fails whatever a request gives. Read as the tuple stands now, for that is what could be
    /// mended; one that only the request names is the request's own.
    fn fails_by_itself(&self, row: &RowKey, caveat: &CaveatName) -> bool {
        let Ok(Some(RowValue { caveat: Some(stored), .. })) = self.store.published().row(row) else { return false };
        let context = serde_json::from_slice::<Context>(&stored.context).unwrap_or_default();
        let known = self.in_force.schema.caveat(caveat.as_str());
        known.is_some_and(|caveat| caveat.compiled.always_fails(&context).is_some())
    }

    /// The path in names; the view is the one that was walked.
    pub(super) fn witness(&self, view: &View, trail: &[(u32, TrailStep)]) -> Result<Witness, Error> {
        let mut steps = Vec::with_capacity(trail.len());
        for (depth, step) in trail {
            let depth = *depth;
            steps.push(match step {
                TrailStep::Row(key) => {
                    let value = view.row(key)?.unwrap_or_default();
                    Step::Tuple { depth, tuple: self.tuple(key, &value)? }
                }
                TrailStep::Member(node) => {
                    let (object, member) = self.node(*node)?;
                    Step::Member { depth, object, member }
                }
                TrailStep::Itself(node) => {
                    let (object, member) = self.node(*node)?;
                    Step::Itself { depth, subject: SubjectRef::Userset(object, member) }
                }
                TrailStep::Excluded(node) => {
                    let (object, permission) = self.node(*node)?;
                    Step::Excluded { depth, object, permission }
                }
            });
        }
        Ok(Witness { steps })
    }

    /// A node in names.
    pub(super) fn node(&self, node: Node) -> Result<(ObjectRef, RelationName), Error> {
        let member = self.in_force.names.member(node.member)?;
        let name = member.name.clone().ok_or_else(internal)?;
        let object_type = self.in_force.names.type_name(member.of)?.clone();
        Ok((ObjectRef { object_type, id: self.id(member.of, node.object)? }, name))
    }

    fn tuple_key(&self, key: &RowKey) -> Result<TupleKey, Error> {
        Ok(self.stored_key(key)?)
    }

    /// A row's key in names, for who speaks the store's errors.
    pub(super) fn stored_key(&self, key: &RowKey) -> Result<TupleKey, store::Error> {
        store::tuple_key(&self.in_force.names, key, |of, number| self.id(of, number))
    }

    /// A row in names, with its caveat and expiry.
    pub(super) fn tuple(&self, key: &RowKey, value: &RowValue) -> Result<RelationTuple, Error> {
        Ok(self.stored_tuple(key, value)?)
    }

    /// The same for who speaks the store's errors.
    pub(super) fn stored_tuple(&self, key: &RowKey, value: &RowValue) -> Result<RelationTuple, store::Error> {
        let RowValue { caveat, expires_at } = value;
        let caveat = match caveat {
            None => None,
            Some(RowCaveat { caveat, context }) => {
                let corrupt = |_| store::Error::Corrupt("a stored context that is not JSON".to_owned());
                let context = if context.is_empty() { Ok(Context::new()) } else { serde_json::from_slice(context) };
                let name = self.in_force.names.caveat_name(*caveat)?.clone();
                Some(TupleCaveat { name, context: context.map_err(corrupt)? })
            }
        };
        Ok(RelationTuple { key: self.stored_key(key)?, caveat, expires_at: *expires_at })
    }

    /// A node in names, as trees have it.
    pub(super) fn member_of(&self, node: Node) -> Result<MemberOf, Error> {
        let (object, member) = self.node(node)?;
        Ok(MemberOf { object, member })
    }

    /// The object of a node, whose member may be its definition's `...`.
    pub(super) fn object_of(&self, node: Node) -> Result<ObjectRef, Error> {
        let of = self.in_force.names.member(node.member)?.of;
        let object_type = self.in_force.names.type_name(of)?.clone();
        Ok(ObjectRef { object_type, id: self.id(of, node.object)? })
    }

    /// An arrow in names.
    pub(super) fn arrow(&self, from: Node, targets: &Targets, quantifier: Quantifier) -> Result<Arrow, Error> {
        let (object, relation) = self.node(from)?;
        let every = match quantifier {
            Quantifier::Any => false,
            Quantifier::All => true,
        };
        Ok(Arrow { object, relation, target: targets.name().clone(), every })
    }
}

fn transient(place: usize) -> ObjectNum {
    let place = u32::try_from(place).unwrap_or(0);
    ObjectNum(ObjectNum::TRANSIENT_FIRST.saturating_add(place))
}

fn internal() -> Error {
    Error::new(Kind::Internal, "INTERNAL", "an internal error")
}

fn unnumbered(name: &str) -> Error {
    internal().with_detail(format!("`{name}` is of the schema in force and has no number"))
}

/// What the schema has no place for, as an error that names the field.
pub(super) fn refused(refusal: &Refusal, field: impl Into<String>) -> Error {
    let reason = match refusal {
        Refusal::UnknownType { .. } => "UNKNOWN_TYPE",
        Refusal::UnknownRelation { .. } => "UNKNOWN_RELATION",
        Refusal::NotARelation { .. } => "NOT_A_RELATION",
        Refusal::SubjectNotAllowed { .. } => "SUBJECT_NOT_ALLOWED",
        Refusal::UnknownCaveat { .. } => "UNKNOWN_CAVEAT",
        Refusal::ContextNotAllowed { .. } => "CAVEAT_CONTEXT_NOT_ALLOWED",
        Refusal::NotAPermission { .. } => "NOT_A_PERMISSION",
    };
    let value = match refusal {
        Refusal::UnknownType { name, .. } => name.to_string(),
        Refusal::UnknownRelation { name, .. }
        | Refusal::NotARelation { name, .. }
        | Refusal::NotAPermission { name, .. } => name.to_string(),
        Refusal::SubjectNotAllowed { form, .. } => form.to_string(),
        Refusal::UnknownCaveat { name, .. } | Refusal::ContextNotAllowed { caveat: name, .. } => name.to_string(),
    };
    let field = field.into();
    Error::new(Kind::FailedPrecondition, reason, format!("{field}: {refusal}"))
        .with_fact("field", field)
        .with_fact("value", value)
        .hint_if(refusal.hint())
}

/// Whether every name of a filter is one the schema knows.
pub(super) fn judge_filter(in_force: &InForce, filter: &TupleFilter, field: &str) -> Result<(), Error> {
    let schema = &in_force.schema;
    let at = |part: &str| if field.is_empty() { part.to_owned() } else { format!("{field}.{part}") };
    match &filter.object_type {
        Some(object_type) => {
            schema.resolve_type(Side::Object, object_type).map_err(|refusal| refused(&refusal, at("object_type")))?;
            if let Some(relation) = &filter.relation {
                schema.resolve_relation(object_type, relation).map_err(|refusal| refused(&refusal, at("relation")))?;
            }
        }
        None => {
            if let Some(id) = &filter.object_id {
                let message = "an object id means nothing without `object_type`";
                return Err(Error::invalid(at("object_id"), id.as_str(), message));
            }
            // A misspelt relation would match nothing, so a guard over it would always hold.
            if let Some(relation) = &filter.relation
                && !schema.definitions().iter().any(|of| of.relation(relation.as_str()).is_some())
            {
                let message = format!("{}: no type has a relation `{relation}`", at("relation"));
                return Err(Error::new(Kind::FailedPrecondition, "UNKNOWN_RELATION", message)
                    .with_fact("field", at("relation"))
                    .with_fact("value", relation.as_str()));
            }
        }
    }
    if let Some(root) = &filter.within {
        let field = at("within.type");
        schema.resolve_type(Side::Object, &root.object_type).map_err(|refusal| refused(&refusal, field))?;
    }
    if let Some(subject) = &filter.subject {
        schema
            .resolve_type(Side::Subject, &subject.subject_type)
            .map_err(|refusal| refused(&refusal, at("subject.type")))?;
        match &subject.relation {
            SubjectRelationFilter::Relation(relation) => {
                schema
                    .resolve_member(&subject.subject_type, relation)
                    .map_err(|refusal| refused(&refusal, at("subject.relation")))?;
            }
            SubjectRelationFilter::Any | SubjectRelationFilter::Plain => {}
        }
    }
    Ok(())
}
