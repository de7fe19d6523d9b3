//! Acting for another: delegations as they are stored, and the closed lists of reasons.
//!
//! A delegation adds no edge to the graph: it narrows a question. Names of permissions are frozen when it is created to
//! (definition, name) pairs, so that a later schema cannot widen a consent.

use super::{Context, NameError, ObjectRef, RelationName, SubjectRef, Timestamp, TupleCaveat, TypeName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// The id of a delegation: 16 random bytes, written `dlg_` and 32 hexadecimal digits. Never used again for another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DelegationId(pub [u8; 16]);

/// What an id's text begins with.
const ID_PREFIX: &str = "dlg_";

/// Grants a delegate to act for its delegator, at most within its scope and time.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Delegation {
    pub id: DelegationId,
    /// Place in the order of creation, from 1 on. The commit gives it: before, it is 0.
    pub number: u64,
    /// The delegation by which the delegator itself acts for another; `None`: it acts for nobody.
    pub parent: Option<DelegationId>,
    /// Whom the chain begins at: the delegator of the first.
    pub root: ObjectRef,
    pub delegator: ObjectRef,
    /// A plain object, or a userset whose members may act. Never a wildcard.
    pub delegate: SubjectRef,
    /// What it covers must be in every clause. The first is of its creation, each later one of a narrowing.
    pub clauses: Vec<Clause>,
    pub created_at: Timestamp,
    pub not_before: Timestamp,
    /// From this instant on it is over.
    pub expires_at: Timestamp,
    /// How many further delegations may follow one another below it.
    pub redelegate: u32,
    /// How many delegations the chain has up to this one, itself included.
    pub depth: u32,
    pub revoked: Option<Revoked>,
    /// Why it was given, in the words of whoever gave it.
    pub purpose: String,
    /// The authenticated caller that vouched for the delegator's consent; empty where callers are not authenticated.
    pub issued_by: String,
    /// The issuer's own facts.
    pub metadata: Context,
    /// How often it was changed since it was created: narrowed or revoked.
    pub version: u32,
}

/// A non-empty list of items of which one must match.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Clause {
    pub items: Vec<ScopeItem>,
}

/// Permissions at or beneath objects, perhaps under a condition.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ScopeItem {
    /// As the issuer named them: sorted, each once.
    pub asked: AskedPermissions,
    /// What was meant by that under the schema of the creation, over every definition that can lie at or beneath the
    /// anchors. A pair that a later schema lacks matches nothing.
    pub frozen: BTreeSet<(TypeName, RelationName)>,
    /// The anchors: a non-empty list of objects, sorted, each once.
    pub within: Vec<ObjectRef>,
    pub caveat: Option<TupleCaveat>,
}

/// Which permissions an item was asked to cover.
#[derive(Clone, PartialEq, Eq, Debug, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AskedPermissions {
    /// Every permission (no relations).
    All,
    /// These, which is never an empty list.
    Named(Vec<PermissionName>),
}

/// A permission or relation as named in a scope: `read`, or of one definition only, `project#read`.
#[derive(Clone, PartialEq, Eq, Debug, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PermissionName {
    pub object_type: Option<TypeName>,
    pub name: RelationName,
}

/// When and why a delegation was revoked. Terminal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Revoked {
    pub at: Timestamp,
    /// In the words of whoever revoked it; may be empty.
    pub reason: String,
}

/// A principal that is denied as root, link and caller until it is reinstated.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Suspension {
    pub principal: ObjectRef,
    pub since: Timestamp,
    /// In the words of whoever suspended it; may be empty.
    pub reason: String,
}

/// How a delegation came to be what it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum DelegationChange {
    Created,
    Narrowed,
    Revoked,
}

/// What has become of a delegation by itself, at an instant. Its parents have states of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum DelegationState {
    Live,
    NotYetValid,
    Expired,
    Revoked,
}

/// Why acting for another was denied, or a check by a suspended principal. Hop 0 is the root, hop i delegation i.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum DenyReason {
    NoDelegation,
    RootMismatch,
    ChainMismatch,
    NotTheDelegate,
    LinkBroken,
    Suspended,
    DelegationRevoked,
    DelegationNotYetValid,
    DelegationExpired,
    OutOfScope,
    /// The condition of an item of the scope does not hold.
    ConditionFalse,
    ActorLacksPermission,
    RootLacksPermission,
    IntermediateLacksPermission,
    /// Nothing denies, but context that was not given could: the decision is conditional.
    ContextMissing,
}

/// Why a delegation is not made, or not narrowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum RefusalReason {
    /// The delegate is a delegator earlier in the chain.
    Cycle,
    TooDeep,
    /// The parent lets nobody delegate further.
    NoBudget,
    /// The delegator is not now a delegate of the parent.
    NotDelegateOfParent,
    /// The parent, or one further up, is revoked or expired.
    ParentNotLive,
    /// It would begin when it is over already.
    BadInterval,
    BeyondMaxLifetime,
    /// Nothing would be covered; of a narrowing: nothing would be narrowed.
    EmptyScope,
    /// The same item twice in one clause.
    DuplicateItem,
    UnknownType,
    UnknownPermission,
    /// A narrowing that would let more through, or a record from elsewhere that lets through what was not asked for.
    Widens,
    /// Wider than its parent or than what the delegator has, where that is refused.
    OverBroad,
}

impl Delegation {
    /// What has become of it by `now`, revocation first.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> DelegationState {
        if self.revoked.is_some() {
            DelegationState::Revoked
        } else if now < self.not_before {
            DelegationState::NotYetValid
        } else if now >= self.expires_at {
            DelegationState::Expired
        } else {
            DelegationState::Live
        }
    }

    /// Every anchor of every clause, each once.
    #[must_use]
    pub fn anchors(&self) -> BTreeSet<&ObjectRef> {
        self.clauses.iter().flat_map(|clause| &clause.items).flat_map(|item| &item.within).collect()
    }
}

impl DelegationChange {
    /// The word used on the wire, in logs and in files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            DelegationChange::Created => "CREATED",
            DelegationChange::Narrowed => "NARROWED",
            DelegationChange::Revoked => "REVOKED",
        }
    }
}

impl DelegationState {
    /// The word used on the wire, in logs and in files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            DelegationState::Live => "LIVE",
            DelegationState::NotYetValid => "NOT_YET_VALID",
            DelegationState::Expired => "EXPIRED",
            DelegationState::Revoked => "REVOKED",
        }
    }
}

impl DenyReason {
    /// All of them.
    pub const ALL: [DenyReason; 15] = [
        DenyReason::NoDelegation,
        DenyReason::RootMismatch,
        DenyReason::ChainMismatch,
        DenyReason::NotTheDelegate,
        DenyReason::LinkBroken,
        DenyReason::Suspended,
        DenyReason::DelegationRevoked,
        DenyReason::DelegationNotYetValid,
        DenyReason::DelegationExpired,
        DenyReason::OutOfScope,
        DenyReason::ConditionFalse,
        DenyReason::ActorLacksPermission,
        DenyReason::RootLacksPermission,
        DenyReason::IntermediateLacksPermission,
        DenyReason::ContextMissing,
    ];

    /// The word used on the wire, in logs and in files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            DenyReason::NoDelegation => "NO_DELEGATION",
            DenyReason::RootMismatch => "ROOT_MISMATCH",
            DenyReason::ChainMismatch => "CHAIN_MISMATCH",
            DenyReason::NotTheDelegate => "NOT_THE_DELEGATE",
            DenyReason::LinkBroken => "LINK_BROKEN",
            DenyReason::Suspended => "SUSPENDED",
            DenyReason::DelegationRevoked => "DELEGATION_REVOKED",
            DenyReason::DelegationNotYetValid => "DELEGATION_NOT_YET_VALID",
            DenyReason::DelegationExpired => "DELEGATION_EXPIRED",
            DenyReason::OutOfScope => "OUT_OF_SCOPE",
            DenyReason::ConditionFalse => "CONDITION_FALSE",
            DenyReason::ActorLacksPermission => "ACTOR_LACKS_PERMISSION",
            DenyReason::RootLacksPermission => "ROOT_LACKS_PERMISSION",
            DenyReason::IntermediateLacksPermission => "INTERMEDIATE_LACKS_PERMISSION",
            DenyReason::ContextMissing => "CONTEXT_MISSING",
        }
    }
}

impl RefusalReason {
    /// All of them.
    pub const ALL: [RefusalReason; 13] = [
        RefusalReason::Cycle,
        RefusalReason::TooDeep,
        RefusalReason::NoBudget,
        RefusalReason::NotDelegateOfParent,
        RefusalReason::ParentNotLive,
        RefusalReason::BadInterval,
        RefusalReason::BeyondMaxLifetime,
        RefusalReason::EmptyScope,
        RefusalReason::DuplicateItem,
        RefusalReason::UnknownType,
        RefusalReason::UnknownPermission,
        RefusalReason::Widens,
        RefusalReason::OverBroad,
    ];

    /// The word used on the wire, in logs and in files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            RefusalReason::Cycle => "CYCLE",
            RefusalReason::TooDeep => "TOO_DEEP",
            RefusalReason::NoBudget => "NO_BUDGET",
            RefusalReason::NotDelegateOfParent => "NOT_DELEGATE_OF_PARENT",
            RefusalReason::ParentNotLive => "PARENT_NOT_LIVE",
            RefusalReason::BadInterval => "BAD_INTERVAL",
            RefusalReason::BeyondMaxLifetime => "BEYOND_MAX_LIFETIME",
            RefusalReason::EmptyScope => "EMPTY_SCOPE",
            RefusalReason::DuplicateItem => "DUPLICATE_ITEM",
            RefusalReason::UnknownType => "UNKNOWN_TYPE",
            RefusalReason::UnknownPermission => "UNKNOWN_PERMISSION",
            RefusalReason::Widens => "WIDENS",
            RefusalReason::OverBroad => "OVER_BROAD",
        }
    }
}

impl fmt::Display for DelegationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ID_PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for DelegationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for DelegationId {
    type Err = String;

    fn from_str(text: &str) -> Result<DelegationId, String> {
        let wrong = || format!("`{text}` is not the id of a delegation: `{ID_PREFIX}` and 32 hexadecimal digits");
        let digits = text.strip_prefix(ID_PREFIX).ok_or_else(wrong)?;
        let is_lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if digits.len() != 32 || !digits.bytes().all(is_lower_hex) {
            return Err(wrong());
        }
        u128::from_str_radix(digits, 16).map(|number| DelegationId(number.to_be_bytes())).map_err(|_| wrong())
    }
}

impl TryFrom<String> for DelegationId {
    type Error = String;

    fn try_from(text: String) -> Result<DelegationId, String> {
        text.parse()
    }
}

impl From<DelegationId> for String {
    fn from(id: DelegationId) -> String {
        id.to_string()
    }
}

impl fmt::Display for PermissionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.object_type {
            Some(object_type) => write!(f, "{object_type}#{}", self.name),
            None => write!(f, "{}", self.name),
        }
    }
}

impl std::str::FromStr for PermissionName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<PermissionName, NameError> {
        let (object_type, name) = match text.split_once('#') {
            Some((object_type, name)) => (Some(TypeName::new(object_type)?), name),
            None => (None, text),
        };
        Ok(PermissionName { object_type, name: RelationName::new(name)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_permissions_survive_text() {
        for text in ["read", "project#read", "acme/project#read"] {
            assert_eq!(text.parse::<PermissionName>().unwrap().to_string(), text);
        }
        for wrong in ["", "#read", "project#", "project#read#", "a b"] {
            assert!(wrong.parse::<PermissionName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn ids_survive_text_and_only_their_own() {
        let id = DelegationId([7; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in ["", "dlg_", "07", &id.to_string().to_uppercase(), "dlg_+0000000000000000000000000000000"] {
            assert!(wrong.parse::<DelegationId>().is_err(), "{wrong}");
        }
    }
}
