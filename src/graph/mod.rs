//! Floor 2: who stands where, exact at one revision and one clock reading.
//!
//! For now every read goes to the store at a snapshot; resident adjacency comes above the same face.

mod laid;

pub use laid::Laid;

use crate::model::{MemberNum, ObjectNum, SubjectKind, Timestamp};
use crate::store::{Direction, ROW_KEY_BYTES, forward_prefix};
pub use crate::store::{Error, RowCaveat, RowKey, RowValue, Snapshot, SubjectKey};
use smallvec::SmallVec;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Rows of one relation of one object, few of which is the common case.
pub type Rows = SmallVec<[(SubjectKey, RowValue); 4]>;

/// The graph of one request: one revision, one clock reading, and what the request lays over it. A row that has expired
/// by that clock does not exist.
#[derive(Clone, Debug)]
pub struct View {
    snapshot: Arc<Snapshot>,
    now: Timestamp,
    laid: Option<Arc<Laid>>,
}

impl View {
    /// The graph as of a snapshot, read at `now`.
    #[must_use]
    pub fn new(snapshot: Arc<Snapshot>, now: Timestamp) -> View {
        View { snapshot, now, laid: None }
    }

    /// The same with these rows laid over the state, instead of any that were.
    #[must_use]
    pub fn under(&self, laid: Laid) -> View {
        View { laid: Some(Arc::new(laid)), ..self.clone() }
    }

    /// The same with what has ended beside what is live. Only to tell of it: no answer comes of this.
    #[must_use]
    pub fn with_ended(&self) -> View {
        View { now: Timestamp::MIN, ..self.clone() }
    }

    /// What is laid over the state.
    #[must_use]
    pub fn laid(&self) -> Laid {
        self.laid.as_deref().cloned().unwrap_or_default()
    }

    /// The state that is read.
    #[must_use]
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// The clock reading by which expiry is judged.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The value of this very row, if it is live.
    pub fn row(&self, key: &RowKey) -> Result<Option<RowValue>, Error> {
        let found = match self.laid.as_ref().and_then(|laid| laid.row(key)) {
            Some(laid) => laid.cloned(),
            None => self.snapshot.row(key)?,
        };
        Ok(found.filter(|value| value.is_live(self.now)))
    }

    /// Up to `rows_max` live usersets of a relation on an object, after `after` in key order. The second value is
    /// where to go on; `None` at the end.
    pub fn usersets(
        &self,
        relation: MemberNum,
        object: ObjectNum,
        after: Option<RowKey>,
        rows_max: usize,
    ) -> Result<(Rows, Option<RowKey>), Error> {
        let mut prefix = forward_prefix(relation, Some(object));
        prefix.push(SubjectKind::Userset as u8);
        self.page(&prefix, after, rows_max)
    }

    /// Up to `rows_max` live subjects of any kind of a relation on an object, as `usersets` does.
    pub fn subjects(
        &self,
        relation: MemberNum,
        object: ObjectNum,
        after: Option<RowKey>,
        rows_max: usize,
    ) -> Result<(Rows, Option<RowKey>), Error> {
        self.page(&forward_prefix(relation, Some(object)), after, rows_max)
    }

    /// Up to `rows_max` live subjects of one form of a relation on an object, as `usersets` does.
    pub fn subjects_of_form(
        &self,
        relation: MemberNum,
        object: ObjectNum,
        (kind, member): (SubjectKind, MemberNum),
        after: Option<RowKey>,
        rows_max: usize,
    ) -> Result<(Rows, Option<RowKey>), Error> {
        let mut prefix = forward_prefix(relation, Some(object));
        prefix.push(kind as u8);
        prefix.extend_from_slice(&member.0.to_be_bytes());
        self.page(&prefix, after, rows_max)
    }

    /// Up to `rows_max` objects on which a live row of `relation` names exactly this subject, ascending, after `after`
    /// in key order. The second value is where to go on; `None` at the end.
    pub fn objects(
        &self,
        subject: SubjectKey,
        relation: MemberNum,
        after: Option<RowKey>,
        rows_max: usize,
    ) -> Result<(Vec<ObjectNum>, Option<RowKey>), Error> {
        let mut prefix = forward_prefix(subject.member, Some(subject.object));
        prefix.push(subject.kind as u8);
        prefix.extend_from_slice(&relation.0.to_be_bytes());
        let mut objects = Vec::new();
        let next = self.scan(Direction::Reverse, &prefix, after.map(|key| key.reverse()), |key, _| {
            objects.push(key.object);
            objects.len() < rows_max
        })?;
        Ok((objects, next))
    }

    fn page(&self, prefix: &[u8], after: Option<RowKey>, rows_max: usize) -> Result<(Rows, Option<RowKey>), Error> {
        let mut rows = Rows::new();
        let next = self.scan(Direction::Forward, prefix, after.map(|key| key.forward()), |key, value| {
            rows.push((key.subject, value));
            rows.len() < rows_max
        })?;
        Ok((rows, next))
    }

    /// Gives each live row to `more` until it has enough; returns where to go on, `None` at the end.
    fn scan(
        &self,
        direction: Direction,
        prefix: &[u8],
        after: Option<[u8; ROW_KEY_BYTES]>,
        mut more: impl FnMut(RowKey, RowValue) -> bool,
    ) -> Result<Option<RowKey>, Error> {
        let mut next = None;
        let mut give = |key, value| {
            let wants_more = more(key, value);
            if !wants_more {
                next = Some(key);
            }
            wants_more
        };
        let going_on = |more| if more { ControlFlow::Continue(()) } else { ControlFlow::Break(()) };
        let Some(laid) = &self.laid else {
            self.snapshot.rows(direction, prefix, after.as_ref(), |key, value| {
                Ok(going_on(!value.is_live(self.now) || give(key, value)))
            })?;
            return Ok(next);
        };
        let mut merge = laid.merge(direction, prefix, after.as_ref(), self.now);
        let mut wants_more = true;
        self.snapshot.rows(direction, prefix, after.as_ref(), |key, value| {
            wants_more = merge.stored(key, value, &mut give);
            Ok(going_on(wants_more))
        })?;
        if wants_more {
            merge.rest(&mut give);
        }
        Ok(next)
    }
}
