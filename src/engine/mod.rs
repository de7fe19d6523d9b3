//! Floor 4: the library's face, one file a verb. Synchronous; embeddable; knows no wire.
//!
//! INVARIANT: a request takes one published revision and one clock reading, and answers everything at them. Nothing
//! here turns an error into a decision.

mod error;
mod clock;
mod consistency;
mod schemas;
mod resolve;
mod check;
mod write_tuples;
mod read_tuples;
mod write_schema;

pub use check::{Answer, BulkAnswer, CheckAnswer, CheckOptions};
pub use clock::{Clock, SystemClock};
pub use error::{Error, ErrorFacts, Kind, SchemaDiagnostic};
pub use read_tuples::{ReadTuples, TupleReader, TupleRow};
pub use write_schema::{Impact, SchemaRead, SchemaWritten, WriteSchema};
pub use write_tuples::{DeleteTuples, Deleted, Metadata, WriteTuples};

use crate::model::{ConsistencyToken, Limits, Revision};
use crate::store::Store;
use clock::SteadyClock;
use schemas::Schemas;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How an engine is opened.
pub struct Options {
    /// The data folder; made when it is not there.
    pub data: PathBuf,
    pub limits: Limits,
    pub clock: Arc<dyn Clock>,
}

impl Options {
    /// The defaults, at a data folder.
    #[must_use]
    pub fn at(data: impl Into<PathBuf>) -> Options {
        Options { data: data.into(), limits: Limits::default(), clock: Arc::new(SystemClock) }
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
pub use crate::store::Verified;

/// An open engine. Its verbs may block on the disk. Cheap to share behind an `Arc`.
pub struct Engine {
    store: Arc<Store>,
    schemas: Schemas,
    clock: Arc<SteadyClock>,
    limits: Limits,
}

impl Engine {
    /// Opens a data folder. Refused with `DATA_IN_USE` when another has it open, `FORMAT_NEWER` when a later version
    /// wrote it, `BELOW_HIGH_WATER` when it lacks what was acknowledged once.
    pub fn open(options: Options) -> Result<Engine, Error> {
        let clock = Arc::new(SteadyClock::new(options.clock));
        let committer_clock = clock.clone();
        let store = Store::open(&options.data, &options.limits, Arc::new(move || committer_clock.now()))?;
        clock.not_before(store.committed_at());
        Ok(Engine { store: Arc::new(store), schemas: Schemas::default(), clock, limits: options.limits })
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

    /// Folds the changelog into an empty database in `scratch` and compares it with the state, byte for byte.
    pub fn verify(&self, scratch: &Path) -> Result<Verified, Error> {
        Ok(self.store.verify(scratch)?)
    }

    /// Finishes the writes that were accepted and refuses later ones. Reads go on. Also done on drop.
    pub fn close(&self) {
        self.store.close();
    }
}
