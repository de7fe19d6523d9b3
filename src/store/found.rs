//! What a deletion would remove, looked for at a snapshot, so that the committer need not be held for the looking.
//!
//! INVARIANT: it is taken only if nothing that it hangs on has changed since, which the commit alone can tell; so what is
//! removed is what would have been found inside it.

use super::changelog::{LogEntry, SEAL};
use super::error::Error;
use super::keys::{RowKey, log_key};
use super::overlay::Overlay;
use super::row::RowValue;
use super::scan::RowScan;
use crate::model::{MemberNum, ObjectNum, Revision, Timestamp, TypeNum};
use hashbrown::HashSet;
use std::ops::ControlFlow;

/// Log entries that are looked through to see whether what was found still stands: few beside looking again.
const ENTRIES_MAX: usize = 100_000;

/// The rows that a deletion removes.
#[derive(Debug)]
pub struct Found {
    /// Where it was looked for, and by which clock reading.
    pub(super) revision: Revision,
    pub(super) at: Timestamp,
    /// `None` when nothing could match, because no tuple had used one of the filter's ids.
    pub(super) scan: Option<RowScan>,
    /// The objects of the subtree that were come to, where it was looked up.
    pub(super) objects: Option<HashSet<(TypeNum, ObjectNum)>>,
    pub(super) rows: Vec<(RowKey, RowValue)>,
    /// Whether some that match are left.
    pub(super) more: bool,
}

impl Found {
    /// Whether the same would be found now.
    pub fn stands(&self, overlay: &Overlay<'_>, parents: &[MemberNum], now: Timestamp) -> Result<bool, Error> {
        if now < self.at || self.rows.iter().any(|(_, value)| !value.is_live(now)) {
            return Ok(false);
        }
        let mut stands = true;
        for key in overlay.rows().keys() {
            stands &= !self.hangs_on(key, overlay, parents)?;
        }
        let mut looked_at = 0;
        let from = log_key(self.revision.0, SEAL);
        overlay.scan_after(overlay.families().log, &[], Some(&from), |key, value| {
            looked_at += 1;
            stands &= looked_at <= ENTRIES_MAX;
            if stands
                && !key.ends_with(&SEAL.to_be_bytes())
                && let LogEntry::Put { key, .. } | LogEntry::Remove { key, .. } = LogEntry::decode(value)?
            {
                stands &= !self.hangs_on(&key, overlay, parents)?;
            }
            Ok(if stands { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        Ok(stands)
    }

    /// Whether a change of the row could be a change of what is found. A row that ended is known by its end.
    fn hangs_on(&self, key: &RowKey, overlay: &Overlay<'_>, parents: &[MemberNum]) -> Result<bool, Error> {
        let Some(scan) = &self.scan else { return Ok(true) };
        let names = overlay.names();
        let moves = parents.contains(&key.relation);
        match &self.objects {
            None => Ok(scan.matches(key) || (moves && scan.within().is_some())),
            Some(objects) => {
                let object = (names.member(key.relation)?.of, key.object);
                let subject = (names.member(key.subject.member)?.of, key.subject.object);
                Ok(objects.contains(&object) || (moves && objects.contains(&subject)))
            }
        }
    }
}
