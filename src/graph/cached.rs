//! What was read from the store for want of memory for all of it: kept by what it was read for, and given up by use and size.
//!
//! INVARIANT: an entry says what a snapshot held, and at which revision. It is used exactly when no commit has touched its
//! shard since (`store/stamps.rs`), neither before that revision's reader nor after it was read; so nobody need ever take
//! one out, and one that is put in late does no harm. That nothing was there is kept like anything else.

use super::Read;
use crate::model::Revision;
use crate::store::{Memory, RowKey, RowValue, Stamp, Stamps};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use std::sync::Arc;

/// Of all memory, one part in so many.
const SHARE: u64 = 8;
/// With fewer bytes nothing is kept.
const BYTES_MIN: u64 = 4 << 10;
/// Rows of one entry: what has more is read page by page.
pub(super) const ROWS_MAX: usize = 1_024;
/// Bytes of an entry without rows, about, with its place in the table.
const ENTRY_BYTES: u64 = 128;

/// Entries, as many as there is room for.
pub(super) struct Cached(Cache<Wanted, Entry, BySize>);

/// What was read.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Wanted {
    Rows(Read),
    Row(RowKey),
}

impl Wanted {
    fn stamp(self, stamps: &Stamps) -> Stamp {
        match self {
            Wanted::Rows(Read::Forward(relation, object, _)) => stamps.of_object(relation, object),
            Wanted::Rows(Read::Reverse(subject, _)) => stamps.of_subject(subject),
            Wanted::Row(key) => stamps.of_object(key.relation, key.object),
        }
    }
}

#[derive(Clone)]
struct Entry {
    read_at: Revision,
    rows: Arc<[(RowKey, RowValue)]>,
}

#[derive(Clone)]
struct BySize;

impl Weighter<Wanted, Entry> for BySize {
    fn weight(&self, _: &Wanted, entry: &Entry) -> u64 {
        let context = |value: &RowValue| value.caveat.as_ref().map_or(0, |caveat| caveat.context.len());
        let rows = entry.rows.iter().map(|(_, value)| size_of::<(RowKey, RowValue)>() + context(value)).sum::<usize>();
        ENTRY_BYTES + rows as u64
    }
}

impl Cached {
    /// None yet; its bytes are taken from memory at once. `None` where there is too little of it.
    pub(super) fn new(memory: &Memory) -> Option<Cached> {
        let bytes = memory.bytes_max() / SHARE;
        if bytes < BYTES_MIN || !memory.take(bytes) {
            return None;
        }
        let entries = usize::try_from(bytes / (2 * ENTRY_BYTES)).unwrap_or(usize::MAX);
        Some(Cached(Cache::with_weighter(entries.min(1 << 20), bytes, BySize)))
    }

    /// How many there are.
    pub(super) fn len(&self) -> u64 {
        self.0.len() as u64
    }

    /// What a reader at a revision would find, if that is known.
    pub(super) fn get(&self, wanted: Wanted, revision: Revision, stamps: &Stamps) -> Option<Arc<[(RowKey, RowValue)]>> {
        let entry = self.0.get(&wanted)?;
        let touched = stamps.touched(wanted.stamp(stamps));
        (touched <= entry.read_at.min(revision)).then_some(entry.rows)
    }

    /// Keeps all that a snapshot of this revision held of it.
    pub(super) fn put(&self, wanted: Wanted, rows: Vec<(RowKey, RowValue)>, read_at: Revision) {
        self.0.insert(wanted, Entry { read_at, rows: rows.into() });
    }
}
