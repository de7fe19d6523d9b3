//! The changelog read in order, at a snapshot: what is not published is not there to be read.

use super::changelog::{LogEntry, SEAL};
use super::error::Error;
use super::keys::{log_key, read_u32, read_u64};
use super::snapshot::Snapshot;
use crate::model::Revision;
use std::ops::ControlFlow;

/// A place between two entries of the changelog: everything before it was read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LogPosition {
    revision: Revision,
    /// The next entry within the revision.
    n: u32,
}

impl LogPosition {
    /// Right after the whole of a revision; 0 is the start of everything.
    #[must_use]
    pub fn after(revision: Revision) -> LogPosition {
        LogPosition { revision: Revision(revision.0.saturating_add(1)), n: 0 }
    }
}

impl Snapshot {
    /// Entries from a position on, in order, with the revision of each, until `each` breaks or the snapshot ends. A
    /// revision ends with a `None`. Returns the position after the last entry given.
    pub fn log(
        &self,
        from: LogPosition,
        mut each: impl FnMut(Revision, Option<LogEntry>) -> Result<ControlFlow<()>, Error>,
    ) -> Result<LogPosition, Error> {
        let mut position = from;
        self.log_range(&log_key(from.revision.0, from.n), |key, value| {
            let (revision, n) = (Revision(read_u64(key, 0)?), read_u32(key, 8)?);
            // The log has no gaps: one would be a change that nobody hears of.
            if revision != position.revision || (n != position.n && n != SEAL) {
                return Err(Error::Corrupt(format!("the changelog lacks what stood before entry {n} of {revision:?}")));
            }
            if n == SEAL {
                position = LogPosition::after(revision);
                return each(revision, None);
            }
            position.n = n + 1;
            each(revision, Some(LogEntry::decode(value)?))
        })?;
        Ok(position)
    }
}
