//! Objects, subjects and relation tuples.
//!
//! A tuple's key is (object, relation, subject); its caveat and expiry are the key's value.

use super::{CaveatName, ObjectId, RelationName, Timestamp, TypeName};
use serde::{Deserialize, Serialize};

/// Context values by parameter name, as JSON.
pub type Context = serde_json::Map<String, serde_json::Value>;

/// `type:id`
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectRef {
    pub object_type: TypeName,
    pub id: ObjectId,
}

/// Who may stand at the right of a tuple, or ask.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SubjectRef {
    /// `type:id` (also written `type:id#...`): the object itself.
    Object(ObjectRef),
    /// `type:id#relation`: everybody who has the relation or permission on the object.
    Userset(ObjectRef, RelationName),
    /// `type:*`: every plain object of the type.
    Wildcard(TypeName),
}

impl SubjectRef {
    /// The type of the object named, or of all objects meant.
    #[must_use]
    pub fn subject_type(&self) -> &TypeName {
        match self {
            SubjectRef::Object(object) | SubjectRef::Userset(object, _) => &object.object_type,
            SubjectRef::Wildcard(object_type) => object_type,
        }
    }
}

/// What makes two tuples the same one.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TupleKey {
    pub object: ObjectRef,
    pub relation: RelationName,
    pub subject: SubjectRef,
}

/// The condition on a tuple, and the context values stored with it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TupleCaveat {
    pub name: CaveatName,
    pub context: Context,
}

/// `object#relation@subject`, with an optional caveat and expiry. A tuple whose expiry is not after the request's
/// clock does not exist.
#[derive(Clone, PartialEq, Eq)]
pub struct RelationTuple {
    pub key: TupleKey,
    pub caveat: Option<TupleCaveat>,
    pub expires_at: Option<Timestamp>,
}

impl RelationTuple {
    /// A tuple without condition or end.
    #[must_use]
    pub fn plain(object: ObjectRef, relation: RelationName, subject: SubjectRef) -> RelationTuple {
        RelationTuple { key: TupleKey { object, relation, subject }, caveat: None, expires_at: None }
    }
}
