//! Older folders, brought up to the format that this build writes.
//!
//! INVARIANT: what is rewritten follows from records that stay as they are, so that whoever is cut off in the middle
//! begins again. The format number comes last: from then on an older build refuses the folder.

use super::db::Db;
use super::delegations::{LIVE_BY_ROOT, decode_record, live_key};
use super::error::Error;
use super::keys;
use super::{FORMAT, META_FORMAT};
use rocksdb::{WriteBatch, WriteOptions};
use std::ops::ControlFlow;

/// Keys written at a time.
const KEYS_MAX: usize = 10_000;

/// Refuses a folder of a later format, and brings an older one up.
pub(super) fn check_format(db: &Db) -> Result<(), Error> {
    let meta = db.families().meta;
    match db.get(meta, META_FORMAT)? {
        None => Ok(db.borrow_owner().put_cf(meta, META_FORMAT, FORMAT.to_be_bytes())?),
        Some(bytes) => match keys::read_u32(&bytes, 0)? {
            found if found > FORMAT => Err(Error::FormatNewer { found, known: FORMAT }),
            FORMAT => Ok(()),
            _ => index_by_delegate(db),
        },
    }
}

/// Format 1 found live delegations by their root alone; since format 2 it is by root and delegate.
fn index_by_delegate(db: &Db) -> Result<(), Error> {
    let families = db.families();
    let mut batch = WriteBatch::default();
    let write = |batch: &mut WriteBatch, keys_max: usize| -> Result<(), Error> {
        if batch.len() > keys_max {
            db.borrow_owner().write(std::mem::take(batch))?;
        }
        Ok(())
    };
    db.scan(families.delegation, &[], |_, record| {
        if let Some(key) = live_key(&decode_record(record)?) {
            batch.put_cf(families.delegation_index, key, []);
        }
        write(&mut batch, KEYS_MAX)?;
        Ok(ControlFlow::Continue(()))
    })?;
    db.scan(families.delegation_index, &LIVE_BY_ROOT, |key, _| {
        batch.delete_cf(families.delegation_index, key);
        write(&mut batch, KEYS_MAX)?;
        Ok(ControlFlow::Continue(()))
    })?;
    batch.put_cf(families.meta, META_FORMAT, FORMAT.to_be_bytes());
    let mut options = WriteOptions::default();
    options.set_sync(true);
    Ok(db.borrow_owner().write_opt(batch, &options)?)
}
