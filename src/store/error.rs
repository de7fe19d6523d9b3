//! What can go wrong on this floor, as facts.

use crate::model::{DelegationId, Revision, TupleKey};
use std::path::PathBuf;

/// Facts; the engine sorts them by what the caller can do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    // --- refusals: nothing was written ---
    /// CREATE of a live tuple.
    #[error("tuple `{0}` exists already")]
    AlreadyExists(TupleKey),
    /// The precondition at this index does not hold.
    #[error("precondition {index} does not hold")]
    PreconditionFailed { index: usize },
    /// The preconditions would look through more rows than one write may hold the committer for.
    #[error("the preconditions look through too many tuples")]
    PreconditionsTooWide,
    /// Another schema than the one the request was judged by is in force.
    #[error("the schema changed meanwhile")]
    SchemaChanged,
    /// Live tuples that the new schema has no place for.
    #[error("live tuples would become impossible")]
    TuplesInTheWay(Vec<FormCount>),
    /// One call would change more tuples than it may.
    #[error("more than {limit} tuples match")]
    TooManyTuples { limit: usize },
    /// The tuple would make its object its own ancestor.
    #[error("`{0}` would make its object an ancestor of itself")]
    ParentCycle(TupleKey),
    /// Live tuples of a relation that is to be a `parent` have a cycle.
    #[error("`{0}` is on a cycle, which a `parent` relation may not have")]
    CycleInTheWay(TupleKey),
    /// A write whose ancestors are too many to look through.
    #[error("more than {limit} ancestors would have to be visited")]
    TooManyAncestors { limit: usize },
    /// A subtree with more objects than a commit may visit.
    #[error("the subtree has more than {limit} objects")]
    SubtreeTooLarge { limit: usize },
    /// One replacement would change more tuples than it may.
    #[error("more than {limit} tuples would change")]
    TooManyChanges { limit: usize },
    /// 2^32 ids of one type are used up.
    #[error("no number is left for a new id of type `{object_type}`")]
    NumbersUsedUp { object_type: String },

    /// No delegation has this id.
    #[error("there is no delegation `{0}`")]
    NoDelegation(DelegationId),
    /// Another request came under the same idempotency key.
    #[error("the idempotency key was used with another request")]
    IdempotencyKeyUsed,
    /// Another record has this id.
    #[error("`{0}` is here already, and is not the same")]
    DelegationExists(DelegationId),
    /// One call would revoke more delegations than it may.
    #[error("more than {limit} delegations would be revoked")]
    TooManyDelegations { limit: usize },

    // --- retry ---
    /// A delegation that the request was judged by was changed, or has ended, since it was read; or the id drawn for a
    /// new one is another's.
    #[error("the delegation `{0}` changed meanwhile")]
    DelegationChanged(DelegationId),
    /// What a deletion hangs on changed since its rows were looked for.
    #[error("what was to be deleted changed meanwhile")]
    FoundOvertaken,
    /// The committer has more waiting than it may.
    #[error("too many writes are waiting")]
    QueueFull,
    /// Closed, or stopped after a failed sync.
    #[error("writes are stopped: {0}")]
    Stopped(&'static str),
    /// The batch may or may not be on disk.
    #[error("the write's outcome is unknown: {0}")]
    OutcomeUnknown(String),

    /// Who asked for it wanted it only from memory.
    #[error("not in memory")]
    NotInMemory,

    // --- an operator ---
    /// Another process, or this one, has the folder open.
    #[error("the data folder `{0}` is in use by another process or engine")]
    InUse(PathBuf),
    /// Written by a later version.
    #[error("the data folder has format {found}; this build knows formats up to {known}")]
    FormatNewer { found: u32, known: u32 },
    /// The folder is behind what was once acknowledged, or differs from it.
    #[error("the data folder is at revision {found} and does not hold revision {mark}, which was acknowledged once")]
    BelowHighWater { found: Revision, mark: Revision },
    /// Bytes that no version wrote.
    #[error("corrupt data: {0}")]
    Corrupt(String),
    /// From the file system or RocksDB.
    #[error("storage: {0}")]
    Storage(String),
}

/// How many live tuples stand in a form that the new schema lacks, and one of them.
#[derive(Debug, Clone, PartialEq)]
pub struct FormCount {
    pub relation: String,
    pub form: String,
    pub count: u64,
    pub sample: Option<TupleKey>,
}

impl From<rocksdb::Error> for Error {
    fn from(error: rocksdb::Error) -> Error {
        if error.kind() == rocksdb::ErrorKind::Corruption {
            return Error::Corrupt(error.into_string());
        }
        Error::Storage(error.into_string())
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Error {
        Error::Storage(error.to_string())
    }
}
