//! Which tuples are meant: filters, preconditions over them, and updates.

use super::{ObjectId, ObjectRef, RelationName, RelationTuple, SubjectRef, TupleKey, TypeName};
use std::fmt;

/// Matches tuples whose parts equal every part given; a part not given matches all.
#[derive(Clone, PartialEq, Eq, Debug, Default, Hash)]
pub struct TupleFilter {
    pub object_type: Option<TypeName>,
    /// Only with `object_type`.
    pub object_id: Option<ObjectId>,
    pub relation: Option<RelationName>,
    pub subject: Option<SubjectFilter>,
    /// Tuples whose object is this one or beneath it, by `parent` relations.
    pub within: Option<ObjectRef>,
}

/// As a tuple is written, with `…` for what is not given. What matches one key alone reads as that key.
impl fmt::Display for TupleFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TupleFilter { object_type, object_id, relation, subject, within } = self;
        match (object_type, object_id) {
            (Some(object_type), Some(id)) => write!(f, "{object_type}:{id}")?,
            (Some(object_type), None) => write!(f, "{object_type}:…")?,
            (None, _) => f.write_str("…")?,
        }
        match relation {
            Some(relation) => write!(f, "#{relation}")?,
            None => f.write_str("#…")?,
        }
        match subject {
            Some(subject) => write!(f, "@{subject}")?,
            None => f.write_str("@…")?,
        }
        match within {
            Some(root) => write!(f, " within {root}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for SubjectFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SubjectFilter { subject_type, id, relation } = self;
        match id {
            Some(SubjectIdFilter::Id(id)) => write!(f, "{subject_type}:{id}")?,
            Some(SubjectIdFilter::Wildcard) => write!(f, "{subject_type}:*")?,
            None => write!(f, "{subject_type}:…")?,
        }
        match (relation, id) {
            (SubjectRelationFilter::Relation(relation), _) => write!(f, "#{relation}"),
            // A subject that is wholly known needs no sign that nothing follows.
            (SubjectRelationFilter::Plain, Some(_)) => Ok(()),
            (SubjectRelationFilter::Plain, None) => f.write_str("#..."),
            (SubjectRelationFilter::Any, _) => f.write_str("#…"),
        }
    }
}

/// Matches the subjects of a type.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct SubjectFilter {
    pub subject_type: TypeName,
    /// `None` matches every id, and `type:*`.
    pub id: Option<SubjectIdFilter>,
    pub relation: SubjectRelationFilter,
}

/// An id, or the wildcard itself.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub enum SubjectIdFilter {
    Id(ObjectId),
    Wildcard,
}

/// What may follow the subject's `#`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Hash)]
pub enum SubjectRelationFilter {
    /// Anything, or nothing.
    #[default]
    Any,
    /// Nothing: `type:id` or `type:*`.
    Plain,
    /// Exactly this relation.
    Relation(RelationName),
}

impl TupleFilter {
    /// The filter that matches exactly one key.
    #[must_use]
    pub fn exactly(key: &TupleKey) -> TupleFilter {
        let subject = match &key.subject {
            SubjectRef::Object(object) => SubjectFilter {
                subject_type: object.object_type.clone(),
                id: Some(SubjectIdFilter::Id(object.id.clone())),
                relation: SubjectRelationFilter::Plain,
            },
            SubjectRef::Userset(object, relation) => SubjectFilter {
                subject_type: object.object_type.clone(),
                id: Some(SubjectIdFilter::Id(object.id.clone())),
                relation: SubjectRelationFilter::Relation(relation.clone()),
            },
            SubjectRef::Wildcard(subject_type) => SubjectFilter {
                subject_type: subject_type.clone(),
                id: Some(SubjectIdFilter::Wildcard),
                relation: SubjectRelationFilter::Plain,
            },
        };
        TupleFilter {
            object_type: Some(key.object.object_type.clone()),
            object_id: Some(key.object.id.clone()),
            relation: Some(key.relation.clone()),
            subject: Some(subject),
            within: None,
        }
    }
}

/// Judged inside the commit, before its updates: any failing refuses the whole commit.
#[derive(Clone, PartialEq, Debug)]
pub enum Precondition {
    /// At least one live tuple matches.
    MustMatch(TupleFilter),
    /// No live tuple matches.
    MustNotMatch(TupleFilter),
}

/// One change of one tuple.
#[derive(Clone, PartialEq, Debug)]
pub struct TupleUpdate {
    pub kind: UpdateKind,
    pub tuple: RelationTuple,
}

/// How an update treats a tuple that is, or is not, there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UpdateKind {
    /// Refused when a live tuple with the key exists.
    Create,
    /// Writes the tuple, replacing one with the same key.
    Touch,
    /// Removes the tuple with the key; succeeds when there is none. Caveat and expiry are not compared.
    Delete,
}
