//! In which order a list stands: by number, which is the order of creation, and behind those the ids that only the request
//! names, by their place in it.
//!
//! INVARIANT: nobody changes sides while a list is paged through. A write may give a number to an id of the request while
//! the cursor stands among such ids; then it keeps its place there. So a cursor tells, besides where it stands, which
//! numbers were given when the list came to the ids of the request; all numbers given since are not below that bound.

use super::Error;
use super::resolve::Resolver;
use crate::graph::Snapshot;
use crate::model::{ObjectNum, TypeNum};
use hashbrown::HashMap;

/// The order of one list.
pub(super) struct ListOrder {
    /// The first number that no id had when the list came, or will come, to the ids of the request.
    bound: ObjectNum,
    /// Ids of the request whose numbers were given since, with the place they keep.
    since: HashMap<ObjectNum, ObjectNum>,
    /// Where the list goes on.
    after: Option<ObjectNum>,
}

/// A place in a list as a cursor holds it: where it stands, and the bound.
pub(super) const POSITION_BYTES: usize = 4 + 4;

impl ListOrder {
    /// The order of a list of ids of a type, read at a snapshot, that goes on behind a place. `resolver` has the ids of
    /// the request, each that could be listed with its place.
    pub(super) fn new(
        resolver: &Resolver<'_>,
        snapshot: &Snapshot,
        of: TypeNum,
        after: Option<[u8; POSITION_BYTES]>,
    ) -> Result<ListOrder, Error> {
        let after = after.map(|[a, b, c, d, bound @ ..]| {
            (ObjectNum(u32::from_be_bytes([a, b, c, d])), ObjectNum(u32::from_be_bytes(bound)))
        });
        let bound = match after {
            Some((place, bound)) if is_of_request(place) => bound,
            Some(_) | None => snapshot.next_number(of)?,
        };
        let since = resolver.numbered_since(of, bound)?.into_iter().collect();
        Ok(ListOrder { bound, since, after: after.map(|(place, _)| place) })
    }

    /// Where an id stands: by its number, or by the place it keeps.
    pub(super) fn place(&self, number: ObjectNum) -> ObjectNum {
        self.since.get(&number).copied().unwrap_or(number)
    }

    /// Whether an id stands behind the place where the list goes on.
    pub(super) fn is_ahead(&self, number: ObjectNum) -> bool {
        self.after.is_none_or(|after| self.place(number) > after)
    }

    /// Whether an id stands by its number, before all that stand by their place in the request.
    pub(super) fn is_by_number(&self, number: ObjectNum) -> bool {
        !is_of_request(self.place(number))
    }

    /// Nobody is ahead whose number is not greater than this one.
    pub(super) fn passed(&self) -> Option<ObjectNum> {
        match self.after {
            Some(place) if is_of_request(place) => self.bound.0.checked_sub(1).map(ObjectNum),
            after => after,
        }
    }

    /// The place of an id as a cursor holds it.
    pub(super) fn position(&self, number: ObjectNum) -> [u8; POSITION_BYTES] {
        let position = (u64::from(self.place(number).0) << 32) | u64::from(self.bound.0);
        position.to_be_bytes()
    }
}

fn is_of_request(place: ObjectNum) -> bool {
    place.0 >= ObjectNum::TRANSIENT_FIRST
}
