//! Is the state what its changelog says? Folds the changelog into an empty database and compares, byte for byte.

use super::changelog::{LogEntry, SEAL};
use super::db::{Db, scan_range};
use super::dictionary::Dictionary;
use super::error::Error;
use super::keys::{read_u32, read_u64};
use super::memory::Memory;
use super::overlay::{Overlay, State};
use super::{Store, load_state};
use crate::model::Revision;
use rocksdb::{ColumnFamily, ReadOptions};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// What a verification has seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verified {
    pub revision: Revision,
    pub log_entries: u64,
    /// Keys compared over all column families.
    pub keys: u64,
}

impl Store {
    /// Folds the whole changelog into an empty database in `scratch` and compares every column family with the state.
    /// Call it when nothing is being written. A difference is `Corrupt`, naming the family.
    pub fn verify(&self, scratch: &Path) -> Result<Verified, Error> {
        std::fs::create_dir_all(scratch)?;
        let db = Arc::new(Db::open_at(scratch)?);
        let dictionary = Arc::new(Dictionary::new(db.clone(), Arc::new(Memory::of(0)))?);
        let mut state = load_state(db.clone(), dictionary)?;
        let mut log_entries = 0;
        let mut pending: Vec<LogEntry> = Vec::new();
        self.db.scan(self.db.families().log, &[], |key, value| {
            log_entries += 1;
            let revision = read_u64(key, 0)?;
            if read_u32(key, 8)? != SEAL {
                pending.push(LogEntry::decode(value)?);
                return Ok(ControlFlow::Continue(()));
            }
            fold(&mut state, Revision(revision), std::mem::take(&mut pending))?;
            if state.head.seal != value {
                return Err(Error::Corrupt(format!("the seal of revision {revision} does not fit its entries")));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        let keys = self.compare(&db)?;
        Ok(Verified { revision: state.head.revision, log_entries, keys })
    }

    fn compare(&self, other: &Db) -> Result<u64, Error> {
        let (ours, theirs) = (self.db.families(), other.families());
        let mut keys = 0;
        for (name, our, their) in [
            ("fwd", ours.fwd, theirs.fwd),
            ("rev", ours.rev, theirs.rev),
            ("expiry", ours.expiry, theirs.expiry),
            ("dict", ours.dict, theirs.dict),
            ("undict", ours.undict, theirs.undict),
            ("schema", ours.schema, theirs.schema),
            ("delegation", ours.delegation, theirs.delegation),
            ("delegation_index", ours.delegation_index, theirs.delegation_index),
            ("suspension", ours.suspension, theirs.suspension),
            ("log", ours.log, theirs.log),
            ("meta", ours.meta, theirs.meta),
        ] {
            let differs = |at: &str| Error::Corrupt(format!("`{name}` differs from what the changelog gives: {at}"));
            let counted = each_key(&self.db, our, |key, value| {
                // What a database is called is not in its changelog.
                let own = matches!(key, super::META_FORMAT | super::META_DATABASE | super::META_INCARNATION);
                let same = own || other.get(their, key)?.is_some_and(|found| found == value);
                if same { Ok(u64::from(!own)) } else { Err(differs(&format!("the value of key {}", hex(key)))) }
            })?;
            // All of ours are among theirs, so with other counts theirs has more; the first of those is named.
            let mut missing = None;
            let due = each_key(other, their, |key, _| {
                if missing.is_none() && self.db.get(our, key)?.is_none() {
                    missing = Some(hex(key));
                }
                Ok(1)
            })?;
            if due != counted {
                return Err(differs(&format!("key {} is missing", missing.unwrap_or_default())));
            }
            keys += counted;
        }
        Ok(keys)
    }
}

/// Writes one revision as the committer would, from its entries alone.
fn fold(state: &mut State, revision: Revision, entries: Vec<LogEntry>) -> Result<(), Error> {
    let mut overlay = Overlay::new(state);
    if overlay.revision != revision {
        return Err(Error::Corrupt(format!("the changelog lacks revision {}", overlay.revision)));
    }
    for (n, entry) in entries.into_iter().enumerate() {
        overlay.apply(entry).map_err(|error| Error::Corrupt(format!("entry {n} of {revision:?}: {error}")))?;
    }
    let mut sealed = overlay.seal()?;
    state.db.borrow_owner().write(sealed.take_batch())?;
    sealed.settle(state);
    Ok(())
}

fn hex(key: &[u8]) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn each_key(
    db: &Db,
    family: &ColumnFamily,
    mut counts: impl FnMut(&[u8], &[u8]) -> Result<u64, Error>,
) -> Result<u64, Error> {
    let mut counted = 0;
    scan_range(db.borrow_owner(), family, ReadOptions::default(), &[], &[], |key, value| {
        counted += counts(key, value)?;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(counted)
}
