//! RocksDB: opened as the design demands, its column families at hand, and the one wrapper for iterators.
//!
//! INVARIANT: every scan ends by asking the iterator for its status. An iterator that meets a bad block just ends;
//! whoever forgets to ask loses the row that would have denied.

use super::error::Error;
use super::keys::after_prefix;
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBRecoveryMode,
};
use rocksdb::{DBRawIterator, Options, ReadOptions};
use self_cell::self_cell;
use std::ops::ControlFlow;
use std::path::Path;

const FWD: &str = "fwd";
const REV: &str = "rev";
const LOG: &str = "log";
const DICT: &str = "dict";
const EXPIRY: &str = "expiry";
const UNDICT: &str = "undict";
const META: &str = "meta";
const SCHEMA: &str = "schema";
const DELEGATION: &str = "delegation";
const DELEGATION_INDEX: &str = "delegation_index";
const SUSPENSION: &str = "suspension";
const FAMILIES: [&str; 11] =
    [FWD, REV, EXPIRY, LOG, DICT, UNDICT, META, SCHEMA, DELEGATION, DELEGATION_INDEX, SUSPENSION];

/// Memory for blocks of all families together.
const BLOCK_CACHE_BYTES: usize = 256 << 20;
/// Memory for the newest writes of one family.
const WRITE_BUFFER_BYTES: usize = 64 << 20;
/// Log bytes after which the oldest family is flushed, which bounds what a restart replays.
const WAL_BYTES_MAX: u64 = 128 << 20;

/// The column families.
pub struct Families<'a> {
    pub fwd: &'a ColumnFamily,
    pub rev: &'a ColumnFamily,
    pub expiry: &'a ColumnFamily,
    pub log: &'a ColumnFamily,
    pub dict: &'a ColumnFamily,
    pub undict: &'a ColumnFamily,
    pub meta: &'a ColumnFamily,
    pub schema: &'a ColumnFamily,
    pub delegation: &'a ColumnFamily,
    pub delegation_index: &'a ColumnFamily,
    pub suspension: &'a ColumnFamily,
}

self_cell!(
    /// An open database with its families looked up once.
    pub struct Db {
        owner: DB,
        #[covariant]
        dependent: Families,
    }
);

impl Db {
    /// Opens or makes the database in the folder, which must exist. Keeps families it does not know, so that the
    /// format can be judged afterwards.
    pub fn open_at(folder: &Path) -> Result<Db, Error> {
        let cache = Cache::new_lru_cache(BLOCK_CACHE_BYTES);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        // A flipped bit must be an error or a refusal to open, never a row that is silently not there.
        options.set_paranoid_checks(true);
        options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
        options.set_track_and_verify_wals_in_manifest(true);
        options.set_max_background_jobs(2);
        options.set_max_total_wal_size(WAL_BYTES_MAX);
        options.set_bytes_per_sync(1 << 20);
        options.set_keep_log_file_num(4);
        options.set_max_open_files(1_024);

        let mut names: Vec<String> = FAMILIES.map(str::to_owned).to_vec();
        if folder.join("CURRENT").exists() {
            let known = DB::list_cf(&options, folder).map_err(|error| opening(folder, error))?;
            names.extend(known.into_iter().filter(|name| !FAMILIES.contains(&name.as_str()) && name != "default"));
        }
        let families = names.iter().map(|name| ColumnFamilyDescriptor::new(name, family_options(name, &cache)));
        let db = DB::open_cf_descriptors(&options, folder, families).map_err(|error| opening(folder, error))?;
        Db::try_new(db, |db| {
            let family = |name: &str| {
                db.cf_handle(name).ok_or_else(|| Error::Corrupt(format!("the column family `{name}` is missing")))
            };
            Ok(Families {
                fwd: family(FWD)?,
                rev: family(REV)?,
                expiry: family(EXPIRY)?,
                log: family(LOG)?,
                dict: family(DICT)?,
                undict: family(UNDICT)?,
                meta: family(META)?,
                schema: family(SCHEMA)?,
                delegation: family(DELEGATION)?,
                delegation_index: family(DELEGATION_INDEX)?,
                suspension: family(SUSPENSION)?,
            })
        })
    }

    /// The handles of the column families.
    #[must_use]
    pub fn families(&self) -> &Families<'_> {
        self.borrow_dependent()
    }

    /// The newest value of a key, published or not: for the committer, and for what never changes once written.
    pub fn get(&self, family: &ColumnFamily, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.borrow_owner().get_cf(family, key)?)
    }

    /// Everything under a prefix, newest state: for the committer and for opening.
    pub fn scan(
        &self,
        family: &ColumnFamily,
        prefix: &[u8],
        each: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, Error>,
    ) -> Result<(), Error> {
        let from = prefix.to_vec();
        scan_range(self.borrow_owner(), family, ReadOptions::default(), &from, &after_prefix(prefix), each)
    }

    /// Everything under a prefix after a key, newest state.
    pub fn scan_after(
        &self,
        family: &ColumnFamily,
        prefix: &[u8],
        after: Option<&[u8]>,
        each: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, Error>,
    ) -> Result<(), Error> {
        let from = after.map_or_else(|| prefix.to_vec(), |after| [after, &[0]].concat());
        scan_range(self.borrow_owner(), family, ReadOptions::default(), &from, &after_prefix(prefix), each)
    }

    /// What stands under a prefix from a key on, newest state, for whoever reads it once: nothing is kept in the cache.
    pub fn scan_once(
        &self,
        family: &ColumnFamily,
        prefix: &[u8],
        from: &[u8],
        each: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, Error>,
    ) -> Result<(), Error> {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        scan_range(self.borrow_owner(), family, options, from, &after_prefix(prefix), each)
    }

    /// Bytes in sorted files, by family. What was written since the last flush is not among them.
    pub fn disk_bytes(&self) -> Result<Vec<(&'static str, u64)>, Error> {
        let db = self.borrow_owner();
        let bytes = |name: &'static str| {
            let family = db.cf_handle(name);
            let family = family.ok_or_else(|| Error::Corrupt(format!("the column family `{name}` is missing")))?;
            let bytes = db.property_int_value_cf(family, rocksdb::properties::TOTAL_SST_FILES_SIZE)?;
            Ok((name, bytes.unwrap_or(0)))
        };
        FAMILIES.into_iter().map(bytes).collect()
    }

    /// The last key under a prefix, newest state.
    pub fn last_key(&self, family: &ColumnFamily, prefix: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        last_key(self.borrow_owner(), family, ReadOptions::default(), prefix)
    }
}

/// The last key under a prefix.
pub fn last_key(
    db: &DB,
    family: &ColumnFamily,
    mut options: ReadOptions,
    prefix: &[u8],
) -> Result<Option<Vec<u8>>, Error> {
    options.set_total_order_seek(true);
    options.set_iterate_lower_bound(prefix.to_vec());
    let end = after_prefix(prefix);
    if !end.is_empty() {
        options.set_iterate_upper_bound(end);
    }
    let mut rows = db.raw_iterator_cf_opt(family, options);
    rows.seek_to_last();
    let key = rows.key().map(<[u8]>::to_vec);
    rows.status()?;
    Ok(key)
}

/// Walks keys from `from` (inclusive) to `end` (exclusive; empty means no end) in order until `each` breaks.
///
/// The one place an iterator is made and its status asked.
pub fn scan_range(
    db: &DB,
    family: &ColumnFamily,
    mut options: ReadOptions,
    from: &[u8],
    end: &[u8],
    mut each: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, Error>,
) -> Result<(), Error> {
    options.set_total_order_seek(true);
    if !end.is_empty() {
        options.set_iterate_upper_bound(end);
    }
    let mut rows: DBRawIterator<'_> = db.raw_iterator_cf_opt(family, options);
    rows.seek(from);
    // Bounded by the range's end.
    while let Some((key, value)) = rows.item() {
        if each(key, value)?.is_break() {
            return Ok(());
        }
        rows.next();
    }
    rows.status()?;
    Ok(())
}

fn family_options(name: &str, cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_format_version(5);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    // Whole, the filter or index of a large table is larger than what the cache takes in one piece: each probe would
    // read megabytes. In parts, a probe reads one block of it.
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_partition_filters(true);
    table.set_pin_top_level_index_and_filter(true);
    // Probes for a row, an id or a suspension that is not there are the common case; a filter answers most without a block.
    if matches!(name, FWD | DICT | SUSPENSION) {
        table.set_bloom_filter(10.0, false);
    }
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options.set_level_compaction_dynamic_level_bytes(true);
    options
}

fn opening(folder: &Path, error: rocksdb::Error) -> Error {
    let text = error.to_string();
    if text.contains("lock hold by current process") || text.contains("Resource temporarily unavailable") {
        return Error::InUse(folder.to_owned());
    }
    error.into()
}
