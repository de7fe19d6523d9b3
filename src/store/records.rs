//! Records of delegations, kept decoded: each use of a chain reads all of its own.
//!
//! INVARIANT: a record that was read at revision S is given at revision R exactly if no commit has touched its delegation
//! since the earlier of both. So a revocation is seen by the very next reader, as if nothing were kept.

use super::error::Error;
use super::memory::Memory;
use super::snapshot::Snapshot;
use crate::model::{DELEGATIONS_IN_MEMORY_BYTES_MAX, Delegation, DelegationId, Revision};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use std::sync::Arc;

/// Bytes that a record is taken to hold beside its text, and how often the text as stored: names stand there one by one,
/// each an allocation of its own.
const RECORD_BYTES: u64 = 512;
const TEXT_TIMES: u64 = 4;

/// The part of all memory that records may have.
const SHARE: u64 = 16;

/// Decoded records, the least used of which go when there are too many.
#[derive(Default)]
pub struct Records {
    kept: Option<Caches>,
}

struct Caches {
    records: Cache<u64, Kept, ByBytes>,
    /// Of each id. It never changes.
    numbers: Cache<DelegationId, u64>,
}

#[derive(Clone)]
struct Kept {
    record: Arc<Delegation>,
    read_at: Revision,
    bytes: u64,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<u64, Kept> for ByBytes {
    fn weight(&self, _: &u64, kept: &Kept) -> u64 {
        kept.bytes
    }
}

impl Records {
    /// As many as a part of the memory holds, which is taken for good. None at all where there is not that much left.
    #[must_use]
    pub fn within(memory: &Memory) -> Records {
        let bytes = (memory.bytes_max() / SHARE).min(DELEGATIONS_IN_MEMORY_BYTES_MAX);
        let items = usize::try_from(bytes / (2 * RECORD_BYTES)).unwrap_or(0);
        if items == 0 || !memory.take(bytes) {
            return Records { kept: None };
        }
        let records = Cache::with_weighter(items, bytes, ByBytes);
        Records { kept: Some(Caches { records, numbers: Cache::new(items) }) }
    }

    /// The record of a number, if what is kept is what the snapshot holds.
    pub(super) fn of_number(&self, number: u64, at: &Snapshot) -> Option<Arc<Delegation>> {
        let Kept { record, read_at, bytes: _ } = self.kept.as_ref()?.records.get(&number)?;
        let stamps = at.stamps();
        let touched = stamps.touched(stamps.of_delegation(&record.id));
        (touched <= at.revision().min(read_at)).then_some(record)
    }

    /// The same of an id.
    pub(super) fn of_id(&self, id: &DelegationId, at: &Snapshot) -> Option<Arc<Delegation>> {
        // Whether it was there at the snapshot, the record's own revision says.
        self.of_number(self.kept.as_ref()?.numbers.get(id)?, at)
    }

    /// Keeps what was read from a snapshot, decoded from so many bytes.
    pub(super) fn keep(&self, record: &Arc<Delegation>, bytes: usize, at: &Snapshot) {
        let Some(Caches { records, numbers }) = &self.kept else { return };
        let stamps = at.stamps();
        // What an older snapshot holds must not drive out what the newest does.
        if stamps.touched(stamps.of_delegation(&record.id)) > at.revision() {
            return;
        }
        let bytes = RECORD_BYTES + TEXT_TIMES * bytes as u64;
        numbers.insert(record.id, record.number);
        records.insert(record.number, Kept { record: record.clone(), read_at: at.revision(), bytes });
    }
}

/// What is kept stands behind what the snapshot reads; see `delegations`.
impl Snapshot {
    /// The delegation of this id, if it is kept: read without the store.
    #[must_use]
    pub fn delegation_at_hand(&self, id: &DelegationId) -> Option<Arc<Delegation>> {
        self.records().of_id(id, self)
    }

    /// The delegation of this number, read where it is not kept.
    pub(super) fn record(
        &self,
        number: u64,
        read: impl FnOnce() -> Result<Option<(Delegation, usize)>, Error>,
    ) -> Result<Option<Arc<Delegation>>, Error> {
        if let Some(kept) = self.records().of_number(number, self) {
            return Ok(Some(kept));
        }
        let Some((record, bytes)) = read()? else { return Ok(None) };
        let record = Arc::new(record);
        self.records().keep(&record, bytes, self);
        Ok(Some(record))
    }
}
