//! What is asked, what the walk finds, and what the engine says.

use super::{Delegation, DelegationId, DenyReason, ObjectRef, RelationName, RelationTuple, SubjectRef};

/// Does `subject` have `permission` on `object`?
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct Question {
    pub object: ObjectRef,
    pub permission: RelationName,
    pub subject: SubjectRef,
}

/// For whom a subject asks. The forms are never mixed, and none falls back to another.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Mandate {
    /// For itself: what it may do of its own. No delegation is consulted.
    #[default]
    Own,
    /// For whoever stands at the root of this delegation's chain: what the whole chain and each in it may do.
    Delegation(DelegationId),
    /// For this root: the most that any live delegation allows which begins at it and was given to the subject.
    OnBehalfOf(ObjectRef),
}

/// For whom a subject asks, and what it believes of that.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Acting {
    pub mandate: Mandate,
    /// Denied with `ROOT_MISMATCH` when the chain begins at another. Only with a delegation or a root.
    pub expect_root: Option<ObjectRef>,
    /// Denied with `CHAIN_MISMATCH` when these are not the chain's actors, root first; the subject itself may stand at
    /// the end. Empty: nothing is expected. Only with a delegation or a root.
    pub presented_actors: Vec<ObjectRef>,
}

/// One delegation of the chain that an answer was found by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChainLink {
    pub delegation: DelegationId,
    pub delegator: ObjectRef,
    /// As written: perhaps a userset, in which whoever acted has to be.
    pub delegate: SubjectRef,
}

/// Why an answer is no allow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Denial {
    pub reason: DenyReason,
    /// Where: 0 is the root, i is delegation i and whoever acts by it. `None`: the question was asked for nobody else,
    /// or there is no chain.
    pub hop: Option<usize>,
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

impl From<&Delegation> for ChainLink {
    fn from(of: &Delegation) -> ChainLink {
        ChainLink { delegation: of.id, delegator: of.delegator.clone(), delegate: of.delegate.clone() }
    }
}

impl Acting {
    /// Acts by this delegation.
    #[must_use]
    pub fn via(delegation: DelegationId) -> Acting {
        Acting { mandate: Mandate::Delegation(delegation), ..Acting::default() }
    }

    /// Acts for this root.
    #[must_use]
    pub fn on_behalf_of(root: ObjectRef) -> Acting {
        Acting { mandate: Mandate::OnBehalfOf(root), ..Acting::default() }
    }
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
