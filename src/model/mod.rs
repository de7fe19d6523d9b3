//! Floor 0: the nouns. Values only: names and ids, tuples, revisions, questions and decisions.
//!
//! INVARIANT: a value of a type here is well formed. Strings are judged once, where they enter, and carried as proof
//! from then on; nothing below parses a reference again.

mod name;
mod time;
mod number;
mod tuple;
mod tuple_text;
mod filter;
mod revision;
mod question;
mod tree;
mod delegation;
mod cancel;
mod limits;

pub use cancel::Cancel;
pub use delegation::{
    AskedPermissions, Clause, Delegation, DelegationChange, DelegationId, DelegationState, DenyReason, PermissionName,
    RefusalReason, Revoked, ScopeItem, Suspension,
};
pub use filter::{
    Precondition, SubjectFilter, SubjectIdFilter, SubjectRelationFilter, TupleFilter, TupleUpdate, UpdateKind,
};
pub use limits::{
    ACTING_CHAINS_MAX, CAVEAT_BYTES_MAX, CAVEAT_COMPREHENSION_DEPTH_MAX, CAVEAT_DEPTH_MAX, CAVEAT_PARAMETERS_MAX,
    CAVEAT_STEPS_MAX, CONTEXT_DEPTH_MAX, DELEGATIONS_IN_MEMORY_BYTES_MAX, FIXED_LIMITS, ITEM_ID_BYTES_MAX, LIMITS,
    Limit, Limits, READS_PER_CORE, REQUEST_CONTEXT_BYTES_MAX, STORED_CONTEXT_BYTES_MAX, SUSPENDED_IN_MEMORY_MAX,
    WAITING_MAX, WATCH_NAMES_MAX, WRITES_MAX,
};
pub use name::{CaveatName, NameError, ObjectId, RelationName, TypeName};
pub use number::{CaveatNum, MemberNum, ObjectNum, SubjectKind, TypeNum};
pub use question::{Acting, ChainLink, Decision, Denial, Mandate, Membership, Question, Step, Witness};
pub use revision::{Consistency, ConsistencyToken, Revision, TokenError};
pub use time::Timestamp;
pub use tree::{Arrow, ExpandPart, ExpandStep, ExplainPart, ExplainStep, MemberOf, NearMiss, NearMissKind, Operator};
pub use tuple::{Context, ObjectRef, RelationTuple, SubjectRef, TupleCaveat, TupleKey};
pub use tuple_text::TupleTextError;
