//! ReadTuples: live tuples that match, in key order, at one revision, with a cursor after each.

use super::cursor::CursorSeal;
use super::resolve::judge_filter;
use super::schemas::no_schema;
use super::within::{Climber, confine};
use super::{Engine, Error};
use crate::graph::View;
use crate::model::{Cancel, Consistency, RelationTuple, Revision, Timestamp, TupleFilter};
use crate::store::{Fit, ROW_KEY_BYTES, RowScan, Snapshot, Store};
use crate::walk;
use std::ops::ControlFlow;
use std::sync::Arc;

/// What is to be read.
#[derive(Debug, Clone, Default)]
pub struct ReadTuples {
    /// The empty filter reads everything.
    pub filter: TupleFilter,
    pub consistency: Consistency,
    /// From a row of an earlier read with the same filter: resumes after it, at a revision not older than its own.
    pub cursor: Option<String>,
}

/// One tuple, and the cursor that resumes after it.
#[derive(Debug, Clone, PartialEq)]
pub struct TupleRow {
    pub tuple: RelationTuple,
    pub cursor: String,
}

/// Rows looked at before it is looked whether anybody still waits: few of many may match.
const LOOK_EVERY: usize = 256;

/// Stored contexts read at once, about: ids are short, but a context may have 32 KiB.
const PAGE_CONTEXT_BYTES: usize = 1 << 20;

/// Reads on at the revision it was opened at.
pub struct TupleReader {
    store: Arc<Store>,
    snapshot: Arc<Snapshot>,
    now: Timestamp,
    /// `None` when nothing can match.
    scan: Option<RowScan>,
    /// Whom the filter's `within` takes asking.
    within: Option<Climber>,
    /// The range being read.
    range: usize,
    after: Option<[u8; ROW_KEY_BYTES]>,
    seal: CursorSeal,
}

/// Why reading a range stopped.
enum RangeEnd {
    /// It has no more.
    Over,
    /// It has none that match up to this key.
    GoOnAfter([u8; ROW_KEY_BYTES]),
    /// There is enough for a page.
    Full,
    Failed(Error),
}

impl Engine {
    /// Opens a reader. The cursor of another filter, another database or a later revision is refused; `EDGES_SPENT` when
    /// the subtree of the filter's `within` is too large to be looked up.
    pub fn read_tuples(&self, request: ReadTuples, cancel: &Cancel) -> Result<TupleReader, Error> {
        let pinned = self.pin(&request.consistency)?;
        let snapshot = pinned.snapshot;
        let in_force = self.schemas.of(&self.store, &snapshot, &self.limits)?.ok_or_else(no_schema)?;
        judge_filter(&in_force, &request.filter, "filter")?;
        let dictionary = self.store.dictionary();
        let mut scan = RowScan::new(&request.filter, &self.store.names(), |of, id| dictionary.number(of, id))?;
        let seal = CursorSeal::new(self.token(snapshot.revision()), &format!("{:?}", request.filter));
        let after = match &request.cursor {
            None => None,
            Some(text) => Some(seal.open(text, snapshot.revision())?),
        };
        let now = self.clock.now();
        let within = match &mut scan {
            Some(scan) => {
                let view = View::new(snapshot.clone(), Some(self.residency.resident().clone()), now);
                confine(scan, &in_force, &view, &self.limits, cancel)?
            }
            None => None,
        };
        Ok(TupleReader { store: self.store.clone(), snapshot, now, scan, within, range: 0, after, seal })
    }
}

impl TupleReader {
    /// The revision that is read.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.snapshot.revision()
    }

    /// Up to `rows_max` further rows; none at the end.
    pub fn next_page(&mut self, rows_max: usize, cancel: &Cancel) -> Result<Vec<TupleRow>, Error> {
        let rows = self.next_rows(rows_max, cancel)?;
        let row = |(tuple, key)| TupleRow { tuple, cursor: self.cursor(key) };
        Ok(rows.into_iter().map(row).collect())
    }

    /// The cursor that resumes after a row.
    pub(super) fn cursor(&self, key: [u8; ROW_KEY_BYTES]) -> String {
        self.seal.close(self.snapshot.revision(), &key)
    }

    /// Up to `rows_max` further rows with their keys, fewer when their contexts are long; none at the end.
    pub(super) fn next_rows(
        &mut self,
        rows_max: usize,
        cancel: &Cancel,
    ) -> Result<Vec<(RelationTuple, [u8; ROW_KEY_BYTES])>, Error> {
        let mut page = Vec::new();
        if let Some(within) = &mut self.within {
            within.on_behalf_of(cancel.clone());
        }
        let Some(scan) = &self.scan else { return Ok(page) };
        let (mut context_bytes, mut looked_at) = (0, 0_usize);
        let mut keys = Vec::new();
        let mut after = self.after;
        while let Some(prefix) = scan.prefixes.get(self.range)
            && keys.len() < rows_max
        {
            // A cursor may stand behind the whole range.
            if self.after.is_some_and(|after| !after.starts_with(prefix) && after.as_slice() > prefix.as_slice()) {
                self.range += 1;
                continue;
            }
            let mut end = RangeEnd::Over;
            self.snapshot.rows(scan.direction, prefix, after.as_ref(), |key, value| {
                if looked_at.is_multiple_of(LOOK_EVERY) && cancel.is_set() {
                    end = RangeEnd::Failed(walk::Error::Cancelled.into());
                    return Ok(ControlFlow::Break(()));
                }
                looked_at += 1;
                match scan.fit(&key) {
                    Fit::Yes if value.is_live(self.now) => {}
                    Fit::Yes | Fit::No => return Ok(ControlFlow::Continue(())),
                    Fit::NotUpTo(last) => {
                        end = RangeEnd::GoOnAfter(last);
                        return Ok(ControlFlow::Break(()));
                    }
                    Fit::NoMore => return Ok(ControlFlow::Break(())),
                }
                match self.within.as_mut().map_or(Ok(true), |within| within.has(&key)) {
                    Ok(true) => {}
                    Ok(false) => return Ok(ControlFlow::Continue(())),
                    Err(error) => {
                        end = RangeEnd::Failed(error);
                        return Ok(ControlFlow::Break(()));
                    }
                }
                context_bytes += value.caveat.as_ref().map_or(0, |caveat| caveat.context.len());
                keys.push((key, value));
                if keys.len() >= rows_max || context_bytes >= PAGE_CONTEXT_BYTES {
                    end = RangeEnd::Full;
                    return Ok(ControlFlow::Break(()));
                }
                Ok(ControlFlow::Continue(()))
            })?;
            match end {
                RangeEnd::Over => self.range += 1,
                RangeEnd::GoOnAfter(last) => after = Some(last),
                RangeEnd::Full => break,
                RangeEnd::Failed(error) => return Err(error),
            }
        }
        for (key, value) in keys {
            let bytes = match scan.direction {
                crate::store::Direction::Forward => key.forward(),
                crate::store::Direction::Reverse => key.reverse(),
            };
            page.push((self.store.tuple(&key, &value)?, bytes));
            self.after = Some(bytes);
        }
        Ok(page)
    }
}
