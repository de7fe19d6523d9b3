//! Rows laid over the state for one request: contextual tuples, and what-if. Never stored, never kept.

use crate::model::Timestamp;
use crate::store::{Direction, ROW_KEY_BYTES, RowKey, RowValue};
use std::collections::BTreeMap;
use std::ops::Bound;

type Bytes = [u8; ROW_KEY_BYTES];
type Entry = (RowKey, Option<RowValue>);

/// Rows that are there, or not, whatever the state says. Of a key the latest counts.
#[derive(Clone, Debug, Default)]
pub struct Laid {
    forward: BTreeMap<Bytes, Entry>,
    reverse: BTreeMap<Bytes, Entry>,
}

impl Laid {
    /// The row is there with this value.
    pub fn put(&mut self, key: RowKey, value: RowValue) {
        self.set(key, Some(value));
    }

    /// The row is not there.
    pub fn remove(&mut self, key: RowKey) {
        self.set(key, None);
    }

    /// Whether something is laid over the row: then it does not matter what the state says of it.
    #[must_use]
    pub fn covers(&self, key: &RowKey) -> bool {
        self.forward.contains_key(&key.forward())
    }

    fn set(&mut self, key: RowKey, value: Option<RowValue>) {
        self.reverse.insert(key.reverse(), (key, value.clone()));
        self.forward.insert(key.forward(), (key, value));
    }

    /// What is laid over a row: `None` if nothing is, `Some(None)` if it is not there.
    pub(super) fn row(&self, key: &RowKey) -> Option<Option<&RowValue>> {
        self.forward.get(&key.forward()).map(|(_, value)| value.as_ref())
    }

    /// What is laid under a prefix in key order, after `after` when given.
    fn range<'a>(
        &'a self,
        direction: Direction,
        prefix: &'a [u8],
        after: Option<&Bytes>,
    ) -> impl Iterator<Item = (&'a Bytes, &'a Entry)> {
        let mut first = [0; ROW_KEY_BYTES];
        for (at, byte) in first.iter_mut().zip(prefix) {
            *at = *byte;
        }
        let from = match after {
            Some(after) if *after >= first => Bound::Excluded(*after),
            Some(_) | None => Bound::Included(first),
        };
        let rows = match direction {
            Direction::Forward => &self.forward,
            Direction::Reverse => &self.reverse,
        };
        rows.range((from, Bound::Unbounded)).take_while(move |(key, _)| key.starts_with(prefix))
    }

    /// Merges what is laid into stored rows that come in key order.
    pub(super) fn merge<'a>(
        &'a self,
        direction: Direction,
        prefix: &'a [u8],
        after: Option<&Bytes>,
        now: Timestamp,
    ) -> Merge<'a, impl Iterator<Item = (&'a Bytes, &'a Entry)>> {
        Merge { direction, now, laid: self.range(direction, prefix, after).peekable() }
    }
}

/// A merge under way.
pub(super) struct Merge<'a, I: Iterator<Item = (&'a Bytes, &'a Entry)>> {
    direction: Direction,
    now: Timestamp,
    laid: std::iter::Peekable<I>,
}

impl<'a, I: Iterator<Item = (&'a Bytes, &'a Entry)>> Merge<'a, I> {
    /// Gives the live rows laid before a stored one, then that one unless it is covered. False when `give` has enough.
    pub(super) fn stored(
        &mut self,
        key: RowKey,
        value: RowValue,
        give: &mut impl FnMut(RowKey, RowValue) -> bool,
    ) -> bool {
        let at = match self.direction {
            Direction::Forward => key.forward(),
            Direction::Reverse => key.reverse(),
        };
        while let Some((_, entry)) = self.laid.next_if(|(bytes, _)| **bytes < at) {
            if !live(entry, self.now, give) {
                return false;
            }
        }
        match self.laid.next_if(|(bytes, _)| **bytes == at) {
            Some((_, entry)) => live(entry, self.now, give),
            None => !value.is_live(self.now) || give(key, value),
        }
    }

    /// Gives what is laid behind the last stored row.
    pub(super) fn rest(&mut self, give: &mut impl FnMut(RowKey, RowValue) -> bool) {
        for (_, entry) in self.laid.by_ref() {
            if !live(entry, self.now, give) {
                return;
            }
        }
    }
}

fn live((key, value): &Entry, now: Timestamp, give: &mut impl FnMut(RowKey, RowValue) -> bool) -> bool {
    match value {
        Some(value) if value.is_live(now) => give(*key, value.clone()),
        Some(_) | None => true,
    }
}
