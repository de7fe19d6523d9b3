//! Names and ids of a request → numbers. A question looks ids up and never adds one.

use super::schemas::InForce;
use super::{Error, Kind};
use crate::model::{
    MemberNum, ObjectId, ObjectNum, ObjectRef, Question, RelationName, Step, SubjectKind, SubjectRef,
    SubjectRelationFilter, TupleFilter, TupleKey, TypeNum, Witness,
};
use crate::schema::{Refusal, Side};
use crate::store::{self, RowKey, Store, SubjectKey};
use crate::walk::{self, Asked, Node, TrailStep};
use smallvec::SmallVec;

/// Numbers of one request: those the store gave, and transient ones for ids that no tuple mentions. Such an id has no
/// rows, but wildcards and self-membership still answer for it.
pub(super) struct Resolver<'a> {
    store: &'a Store,
    in_force: &'a InForce,
    transient: SmallVec<[(TypeNum, ObjectId); 2]>,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(store: &'a Store, in_force: &'a InForce) -> Resolver<'a> {
        Resolver { store, in_force, transient: SmallVec::new() }
    }

    /// The question in numbers. Unknown types and relations are `FAILED_PRECONDITION`; a wildcard as the subject is
    /// `INVALID_ARGUMENT`, because nobody is everybody.
    pub(super) fn question(&mut self, question: &Question) -> Result<Asked, Error> {
        let schema = &self.in_force.schema;
        schema
            .resolve_type(Side::Object, &question.object.object_type)
            .map_err(|refusal| refused(&refusal, "object.type"))?;
        schema
            .resolve_member(&question.object.object_type, &question.permission)
            .map_err(|refusal| refused(&refusal, "permission"))?;
        let (of, member) = self.member(&question.object, &question.permission)?;
        let object = self.number(of, &question.object.id)?;
        let subject_type = question.subject.subject_type();
        schema.resolve_type(Side::Subject, subject_type).map_err(|refusal| refused(&refusal, "subject.object.type"))?;
        schema.resolve_subject(&question.subject).map_err(|refusal| refused(&refusal, "subject.optional_relation"))?;
        let subject = match &question.subject {
            SubjectRef::Object(object) => {
                let names = &self.in_force.names;
                let of = names.type_number(subject_type.as_str()).ok_or_else(|| unnumbered(subject_type.as_str()))?;
                let member = names.itself(of).ok_or_else(|| unnumbered(subject_type.as_str()))?;
                SubjectKey { kind: SubjectKind::Plain, member, object: self.number(of, &object.id)? }
            }
            SubjectRef::Userset(object, relation) => {
                let (of, member) = self.member(object, relation)?;
                SubjectKey { kind: SubjectKind::Userset, member, object: self.number(of, &object.id)? }
            }
            SubjectRef::Wildcard(_) => {
                let message = "a wildcard cannot ask; name one subject";
                return Err(Error::invalid("subject.object.id", "*", message));
            }
        };
        Ok(Asked { node: Node { member, object }, subject })
    }

    fn member(&self, object: &ObjectRef, name: &RelationName) -> Result<(TypeNum, MemberNum), Error> {
        let names = &self.in_force.names;
        let object_type = object.object_type.as_str();
        let of = names.type_number(object_type).ok_or_else(|| unnumbered(object_type))?;
        let member = names.member_number(of, name.as_str()).ok_or_else(|| unnumbered(name.as_str()))?;
        Ok((of, member))
    }

    fn number(&mut self, of: TypeNum, id: &ObjectId) -> Result<ObjectNum, Error> {
        if let Some(number) = self.store.dictionary().number(of, id.as_str())? {
            return Ok(number);
        }
        let known = self.transient.iter().position(|(known_of, known)| *known_of == of && known == id);
        let index = known.unwrap_or_else(|| {
            self.transient.push((of, id.clone()));
            self.transient.len() - 1
        });
        let index = u32::try_from(index).unwrap_or(0);
        Ok(ObjectNum(ObjectNum::TRANSIENT_FIRST.saturating_add(index)))
    }

    fn id(&self, of: TypeNum, number: ObjectNum) -> Result<ObjectId, store::Error> {
        let transient = number.0.checked_sub(ObjectNum::TRANSIENT_FIRST);
        match transient.and_then(|index| self.transient.get(index as usize)) {
            Some((_, id)) => Ok(id.clone()),
            None => self.store.dictionary().id(of, number),
        }
    }

    /// A walk's error, with tuple and caveat by their names.
    pub(super) fn told(&self, error: walk::Error) -> Error {
        let walk::Error::CaveatFailed { row, caveat, text } = error else { return error.into() };
        let named = self.tuple_key(&row).and_then(|key| Ok((key, self.in_force.names.caveat_name(caveat)?)));
        match named {
            Ok((key, caveat)) => {
                let message = format!("the caveat `{caveat}` of `{key}` cannot be evaluated: {text}");
                Error::new(Kind::InvalidArgument, "CAVEAT_FAILED", message)
                    .with_fact("tuple", key.to_string())
                    .with_fact("caveat", caveat.as_str())
            }
            Err(error) => error,
        }
    }

    /// The path in names.
    pub(super) fn witness(&self, trail: &[(u32, TrailStep)]) -> Result<Witness, Error> {
        let mut steps = Vec::with_capacity(trail.len());
        for (depth, step) in trail {
            let depth = *depth;
            steps.push(match step {
                TrailStep::Row(key) => Step::Tuple { depth, tuple: self.tuple_key(key)? },
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

    fn node(&self, node: Node) -> Result<(ObjectRef, RelationName), Error> {
        let member = self.in_force.names.member(node.member)?;
        let name = member.name.clone().ok_or_else(internal)?;
        let object_type = self.in_force.names.type_name(member.of)?.clone();
        Ok((ObjectRef { object_type, id: self.id(member.of, node.object)? }, name))
    }

    fn tuple_key(&self, key: &RowKey) -> Result<TupleKey, Error> {
        Ok(store::tuple_key(&self.in_force.names, key, |of, number| self.id(of, number))?)
    }
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
    let field = field.into();
    Error::new(Kind::FailedPrecondition, reason, format!("{field}: {refusal}"))
        .with_fact("field", field)
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
        }
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
