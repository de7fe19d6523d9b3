//! Floor 4: the library's face, one file a verb. Synchronous; embeddable; knows no wire.
//!
//! INVARIANT: a request takes one published revision and one clock reading, and answers everything at them. Nothing
//! here turns an error into a decision.

mod error;
mod clock;
mod consistency;
mod chains;
mod schemas;
mod situation;
mod residency;
mod resolve;
mod acting;
mod effect;
mod check;
mod filter_resources;
mod within;
mod cursor;
mod list_order;
mod list_resources;
mod list_subjects;
mod list_permissions;
mod expand;
mod explain;
mod explain_chain;
mod blast_radius;
mod list_delegates;
mod write_tuples;
mod replace_subjects;
mod import_tuples;
mod read_tuples;
mod export_tuples;
mod watch;
mod write_schema;
mod reflect_schema;
mod asked_scope;
mod create_delegation;
mod over_broad;
mod narrow_delegation;
mod revoke_delegations;
mod suspensions;
mod read_delegations;
mod import_delegations;

pub use asked_scope::AskedItem;
pub use blast_radius::{BlastRadius, RadiusLister, ReachedRow};
pub use check::{Answer, BulkAnswer, CheckAnswer, CheckOptions};
pub use clock::{Clock, SystemClock};
pub use create_delegation::{CreateDelegation, CreatedDelegation, DelegationEnd};
pub use error::{Error, ErrorFacts, Kind, SchemaDiagnostic};
pub use expand::{Expand, Expanded};
pub use explain::{Explain, Explained};
pub use explain_chain::{ChainTest, ChainTestKind, ExplainedChain};
pub use export_tuples::{ExportBatch, ExportTuples, TupleExporter};
pub use filter_resources::{FilterResources, Filtered};
pub use import_delegations::{ImportDelegations, ImportedDelegations};
pub use import_tuples::{ImportBatch, ImportMode, Imported};
pub use list_delegates::{DelegateLister, DelegateRow, ListDelegates};
pub use list_permissions::{ListPermissions, PermissionRow, PermissionsListed};
pub use list_resources::{ListResources, ResourceLister, ResourceRow};
pub use list_subjects::{ExcludedSubject, ListSubjects, SubjectLister, SubjectRow};
pub use narrow_delegation::{ChangedDelegation, NarrowDelegation};
pub use over_broad::{DelegationWarning, WarningKind};
pub use read_delegations::{DelegationRead, DelegationSeen, DelegationsPage, GetDelegation, ListDelegations};
pub use read_tuples::{ReadTuples, TupleReader, TupleRow};
pub use reflect_schema::{ReflectSchema, Reflected, Reflection};
pub use replace_subjects::{ReplaceSubjects, Replaced, TupleSubject};
pub use revoke_delegations::{RevokeAllFor, RevokeDelegation, RevokedAll};
pub use situation::Situation;
pub use suspensions::{ListSuspended, ReinstatePrincipal, SuspendPrincipal, SuspendedPage, SuspensionChanged};
pub use watch::{Watch, WatchChange, WatchFrom, WatchKind, WatchPage, WatchPart, WatchWrite, Watcher};
pub use write_schema::{Impact, SchemaRead, SchemaWritten, WriteSchema};
pub use write_tuples::{DeleteSubtree, DeleteTuples, Deleted, Metadata, WriteTuples, Written};

use crate::graph::Resident;
use crate::model::{Cancel, ConsistencyToken, Limits, Revision, Timestamp};
use crate::store::{InMemory, Memory, Store};
use clock::SteadyClock;
use residency::Loading;
use schemas::Schemas;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How an engine is opened.
pub struct Options {
    /// The data folder; made when it is not there.
    pub data: PathBuf,
    pub limits: Limits,
    /// Bytes that may be held in memory of what is on disk, beside RocksDB's own caches. With 0 everything is read there.
    pub memory_bytes_max: u64,
    /// Whether permissions are unfolded where they only ask for a way. Off, every answer is the same, and slower.
    pub unfolds: bool,
    pub clock: Arc<dyn Clock>,
    /// Whether tuples that have ended are removed in the background.
    pub collector: Collector,
    /// Whether a request may set the time.
    pub test_clock: bool,
    /// The longest from a delegation's creation to its end. `None`: what `limits` says, and no such bound under a test
    /// clock.
    pub delegation_lifetime_max: Option<Duration>,
}

impl Options {
    /// The defaults, at a data folder.
    #[must_use]
    pub fn at(data: impl Into<PathBuf>) -> Options {
        Options {
            data: data.into(),
            limits: Limits::default(),
            memory_bytes_max: residency::half_of_the_machine(),
            unfolds: true,
            clock: Arc::new(SystemClock),
            collector: Collector::On,
            test_clock: false,
            delegation_lifetime_max: None,
        }
    }
}

/// What an engine says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// This build's version.
    pub version: &'static str,
    /// The newest published revision.
    pub revision: Revision,
    /// SHA-256 of the schema in force, in hex; `None` before the first.
    pub schema_digest: Option<String>,
    /// The database's id, in hex.
    pub database: String,
    pub limits: Limits,
    /// Whether a failed sync has ended writing; reads go on.
    pub writes_stopped: bool,
}

/// What a verification of a data folder has seen.
pub use crate::store::{Collector, Verified};

/// A relation or permission of the schema.
pub use crate::schema::MemberRef;

/// How much of the rows is held in memory.
pub use crate::graph::Residency;

/// How one is woken when a revision is published.
pub use crate::store::{Listener, Listening};

/// An open engine. Its verbs may block on the disk. Cheap to share behind an `Arc`.
pub struct Engine {
    store: Arc<Store>,
    residency: Loading,
    schemas: Schemas,
    clock: Arc<SteadyClock>,
    limits: Limits,
    test_clock: bool,
}

impl Engine {
    /// Opens a data folder. Refused with `DATA_IN_USE` when another has it open, `FORMAT_NEWER` when a later version
    /// wrote it, `BELOW_HIGH_WATER` when it lacks what was acknowledged once.
    pub fn open(options: Options) -> Result<Engine, Error> {
        let clock = Arc::new(SteadyClock::new(options.clock));
        let committer_clock = clock.clone();
        let now = Arc::new(move || committer_clock.now());
        let memory = Arc::new(Memory::of(options.memory_bytes_max));
        let resident = Arc::new(Resident::new(memory.clone()));
        let in_memory = InMemory { memory, beside: Some(resident.clone()) };
        let store = Arc::new(Store::open(&options.data, &options.limits, now, options.collector, in_memory)?);
        clock.not_before(store.committed_at());
        let mut limits = options.limits;
        limits.delegation_lifetime_max_s = match options.delegation_lifetime_max {
            Some(set) => set.as_secs(),
            None if options.test_clock => u64::MAX,
            None => limits.delegation_lifetime_max_s,
        };
        let schemas = Schemas::new(options.unfolds);
        let in_force = schemas.of(&store, &store.published(), &limits)?;
        let residency = Loading::start(resident, &store, in_force)?;
        Ok(Engine { store, residency, schemas, clock, limits, test_clock: options.test_clock })
    }

    /// What this engine is.
    pub fn info(&self) -> Result<Info, Error> {
        let snapshot = self.store.published();
        let schema = self.schemas.of(&self.store, &snapshot, &self.limits)?;
        Ok(Info {
            version: env!("CARGO_PKG_VERSION"),
            revision: snapshot.revision(),
            schema_digest: schema.map(|schema| schema.schema.digest().to_owned()),
            database: self.store.database().iter().map(|byte| format!("{byte:02x}")).collect(),
            limits: self.limits.clone(),
            writes_stopped: self.store.is_stopped(),
        })
    }

    /// The one clock reading of a request, or the time it set.
    fn now(&self, set: Option<Timestamp>) -> Result<Timestamp, Error> {
        match set {
            None => Ok(self.clock.now()),
            Some(at) if self.test_clock => Ok(at),
            Some(at) => Err(Error::invalid(
                "clock",
                &at.to_string(),
                "only a server with --test-clock lets a request set the time",
            )),
        }
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The token of a revision of this database.
    #[must_use]
    pub fn token(&self, revision: Revision) -> ConsistencyToken {
        ConsistencyToken { database: self.store.database(), incarnation: self.store.incarnation(), revision }
    }

    /// How much of the rows is held in memory by now.
    #[must_use]
    pub fn residency(&self) -> Residency {
        self.residency.resident().residency()
    }

    /// Calls `hear` after each revision is published, until what is returned is dropped. It is called on the writing
    /// thread: it must be quick, and neither block nor panic.
    pub fn listen(&self, hear: Listener) -> Listening {
        self.store.listen(hear)
    }

    /// Bytes on the disk in sorted files, by column family: `fwd`, `rev`, `log` and so on. All that was written before this
    /// engine was opened is among them.
    pub fn disk_bytes(&self) -> Result<Vec<(&'static str, u64)>, Error> {
        Ok(self.store.disk_bytes()?)
    }

    /// Folds the changelog into an empty database in `scratch` and compares it with the state, byte for byte.
    pub fn verify(&self, scratch: &Path) -> Result<Verified, Error> {
        Ok(self.store.verify(scratch)?)
    }

    /// Finishes the writes that were accepted and refuses later ones. Reads go on. Also done on drop.
    pub fn close(&self) {
        self.residency.stop();
        self.store.close();
    }
}

/// Ends work that nobody waits for.
fn refuse_cancelled(cancel: &Cancel) -> Result<(), Error> {
    if cancel.is_set() { Err(Error::new(Kind::Cancelled, "CANCELLED", "cancelled")) } else { Ok(()) }
}
