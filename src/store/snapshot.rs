//! One published revision, to be read for as long as it is held.

use super::db::{Db, Families, last_key, scan_range};
use super::error::Error;
use super::keys::{ROW_KEY_BYTES, RowKey, after_prefix, read_u32};
use super::overlay::Head;
use super::records::Records;
use super::row::RowValue;
use super::stamps::Stamps;
use super::suspended::Suspended;
use crate::model::{ObjectNum, Revision, Timestamp, TypeNum};
use rocksdb::{ColumnFamily, DBPinnableSlice, ReadOptions, Snapshot as RocksSnapshot};
use self_cell::self_cell;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

struct Pinned<'a> {
    snapshot: RocksSnapshot<'a>,
    read: ReadOptions,
}

self_cell!(
    struct PinnedDb {
        owner: Arc<Db>,
        #[covariant]
        dependent: Pinned,
    }
);

/// The state as of one revision. Every read of it sees exactly that revision.
pub struct Snapshot {
    revision: Revision,
    schema_revision: Revision,
    committed_at: Timestamp,
    suspended: Suspended,
    stamps: Arc<Stamps>,
    records: Arc<Records>,
    pinned: PinnedDb,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snapshot({:?})", self.revision)
    }
}

/// Which of the two tables of rows a scan reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    Forward,
    Reverse,
}

impl Snapshot {
    /// Pins what the database holds now, which the caller knows to be this.
    pub(super) fn pin(
        db: Arc<Db>,
        head: &Head,
        suspended: Suspended,
        (stamps, records): (Arc<Stamps>, Arc<Records>),
    ) -> Snapshot {
        let pinned = PinnedDb::new(db, |db| {
            let snapshot = db.borrow_owner().snapshot();
            let mut read = ReadOptions::default();
            read.set_snapshot(&snapshot);
            Pinned { snapshot, read }
        });
        Snapshot {
            revision: head.revision,
            schema_revision: head.schema_revision,
            committed_at: head.at,
            suspended,
            stamps,
            records,
            pinned,
        }
    }

    /// The revision every read sees.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The revision that wrote the schema in force; 0 before the first.
    #[must_use]
    pub fn schema_revision(&self) -> Revision {
        self.schema_revision
    }

    /// What commits have touched, up to now.
    #[must_use]
    pub fn stamps(&self) -> &Stamps {
        &self.stamps
    }

    /// The clock reading of the commit.
    #[must_use]
    pub fn committed_at(&self) -> Timestamp {
        self.committed_at
    }

    /// Who is suspended.
    pub(super) fn suspended(&self) -> &Suspended {
        &self.suspended
    }

    /// Records that were read before.
    pub(super) fn records(&self) -> &Records {
        &self.records
    }

    fn db(&self) -> &Db {
        self.pinned.borrow_owner()
    }

    pub(super) fn families(&self) -> &Families<'_> {
        self.db().families()
    }

    /// The value of a key at this revision.
    pub(super) fn get(&self, family: &ColumnFamily, key: &[u8]) -> Result<Option<DBPinnableSlice<'_>>, Error> {
        let read = &self.pinned.borrow_dependent().read;
        Ok(self.db().borrow_owner().get_pinned_cf_opt(family, key, read)?)
    }

    /// Keys from `from` (inclusive) to `end` (exclusive; empty means no end) at this revision, until `each` breaks.
    pub(super) fn range(
        &self,
        family: &ColumnFamily,
        from: &[u8],
        end: &[u8],
        each: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, Error>,
    ) -> Result<(), Error> {
        let mut options = ReadOptions::default();
        options.set_snapshot(&self.pinned.borrow_dependent().snapshot);
        scan_range(self.db().borrow_owner(), family, options, from, end, each)
    }

    /// The first number that no id of a type had at this revision: all that are given later are not below it.
    pub fn next_number(&self, of: TypeNum) -> Result<ObjectNum, Error> {
        let mut options = ReadOptions::default();
        options.set_snapshot(&self.pinned.borrow_dependent().snapshot);
        let last = last_key(self.db().borrow_owner(), self.families().undict, options, &of.0.to_be_bytes())?;
        let next = last.map(|key| Ok::<u32, Error>(read_u32(&key, 4)?.saturating_add(1))).transpose()?;
        Ok(ObjectNum(next.unwrap_or(0)))
    }

    /// The value of one row, if the row is there (live or expired).
    pub fn row(&self, key: &RowKey) -> Result<Option<RowValue>, Error> {
        self.get(self.families().fwd, &key.forward())?.map(|bytes| RowValue::decode(&bytes)).transpose()
    }

    /// Rows under a key prefix in key order, after `after` when given, until `each` breaks. Live or expired.
    pub fn rows(
        &self,
        direction: Direction,
        prefix: &[u8],
        after: Option<&[u8; ROW_KEY_BYTES]>,
        mut each: impl FnMut(RowKey, RowValue) -> Result<ControlFlow<()>, Error>,
    ) -> Result<(), Error> {
        let mut from = prefix.to_vec();
        if let Some(after) = after
            && after.as_slice() >= prefix
        {
            from = after.to_vec();
            from.push(0);
        }
        let families = self.families();
        let family = match direction {
            Direction::Forward => families.fwd,
            Direction::Reverse => families.rev,
        };
        self.range(family, &from, &after_prefix(prefix), |key, value| {
            let key = match direction {
                Direction::Forward => RowKey::from_forward(key)?,
                Direction::Reverse => RowKey::from_reverse(key)?,
            };
            each(key, RowValue::decode(value)?)
        })
    }

    /// The stored changelog from a key on.
    pub(super) fn log_range(
        &self,
        from: &[u8],
        each: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, Error>,
    ) -> Result<(), Error> {
        self.range(self.families().log, from, &[], each)
    }

    /// The text of the schema in force; `None` before the first.
    pub fn schema_text(&self) -> Result<Option<String>, Error> {
        if self.schema_revision == Revision(0) {
            return Ok(None);
        }
        let key = self.schema_revision.0.to_be_bytes();
        let text = self.db().get(self.db().families().schema, &key)?;
        let text =
            text.ok_or_else(|| Error::Corrupt(format!("the schema of {:?} is missing", self.schema_revision)))?;
        String::from_utf8(text).map(Some).map_err(|_| Error::Corrupt("a schema that is not text".to_owned()))
    }
}
