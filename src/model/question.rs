//! What is asked, what the walk finds, and what the engine says.

use super::{ObjectRef, RelationName, RelationTuple, SubjectRef};

/// Does `subject` have `permission` on `object`?
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct Question {
    pub object: ObjectRef,
    pub permission: RelationName,
    pub subject: SubjectRef,
}

/// What the walk finds. Kleene's three values in their order: union is the greater, intersection the lesser.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Membership {
    /// The subject does not have it.
    Not,
    /// It hangs on context that was not given.
    Conditional,
    /// The subject has it.
    Member,
}

impl Membership {
    /// Kleene's negation.
    #[must_use]
    pub fn negated(self) -> Membership {
        match self {
            Membership::Not => Membership::Member,
            Membership::Conditional => Membership::Conditional,
            Membership::Member => Membership::Not,
        }
    }
}

/// What the engine says. Only `Allow` may be enforced as allow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Decision {
    Allow,
    Deny,
    /// Context that was not given could still decide it either way.
    Conditional,
}

impl Decision {
    /// The word used on the wire, in logs and in files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Decision::Allow => "ALLOW",
            Decision::Deny => "DENY",
            Decision::Conditional => "CONDITIONAL",
        }
    }
}

/// One path by which a question is allowed, in the order a reader follows it. Any valid path may be shown.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Witness {
    pub steps: Vec<Step>,
}

/// One step of a witness; `depth` is how far it is nested below the question (0).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// The permission or relation holds on the object because of the deeper steps that follow.
    Member { depth: u32, object: ObjectRef, member: RelationName },
    /// This tuple is live and leads on, or ends the path. With its caveat and its end.
    Tuple { depth: u32, tuple: RelationTuple },
    /// The subject asked about is this userset itself.
    Itself { depth: u32, subject: SubjectRef },
    /// The right side of an exclusion does not hold here.
    Excluded { depth: u32, object: ObjectRef, permission: RelationName },
}
