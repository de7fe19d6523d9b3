//! What commits have touched, without saying what: of each of many shards, the newest revision that changed a key in it.
//!
//! INVARIANT: a commit stamps what it changes after its batch is on disk and before its revision is published. So who
//! reads at revision R may use what was read from a snapshot of revision S exactly if nothing has touched its shard since
//! the earlier of both. Two keys that share a shard only cost a read too many.

use super::keys::SubjectKey;
use crate::model::{DelegationId, MemberNum, ObjectNum, Revision};
use foldhash::fast::RandomState;
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicU64, Ordering};

/// How many shards there are; a power of two. Half a megabyte, and a commit of a hundred rows touches two of a thousand.
const SHARDS: usize = 1 << 16;

/// The shard of something that can change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp(usize);

/// The newest change of each shard.
pub struct Stamps {
    hasher: RandomState,
    shards: Box<[AtomicU64]>,
}

impl Default for Stamps {
    fn default() -> Stamps {
        Stamps { hasher: RandomState::default(), shards: (0..SHARDS).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Stamps {
    fn stamp(&self, of: impl Hash) -> Stamp {
        // SHARDS is a power of two.
        Stamp(usize::try_from(self.hasher.hash_one(of) % SHARDS as u64).unwrap_or(0))
    }

    /// The rows of one relation on one object.
    #[must_use]
    pub fn of_object(&self, relation: MemberNum, object: ObjectNum) -> Stamp {
        self.stamp((0_u8, relation, object))
    }

    /// The rows that name one subject.
    #[must_use]
    pub fn of_subject(&self, subject: SubjectKey) -> Stamp {
        self.stamp((1_u8, subject))
    }

    /// The record of one delegation.
    #[must_use]
    pub fn of_delegation(&self, id: &DelegationId) -> Stamp {
        self.stamp((2_u8, id))
    }

    /// Notes a change.
    pub(super) fn touch(&self, stamp: Stamp, revision: Revision) {
        if let Some(shard) = self.shards.get(stamp.0) {
            shard.store(revision.0, Ordering::Release);
        }
    }

    /// The newest revision that changed anything in the shard.
    #[must_use]
    pub fn touched(&self, stamp: Stamp) -> Revision {
        // A shard that is not there cannot be told apart from one that changes all the time.
        self.shards.get(stamp.0).map_or(Revision(u64::MAX), |shard| Revision(shard.load(Ordering::Acquire)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SubjectKind;

    #[test]
    fn what_was_touched_is_known_by_its_revision() {
        let stamps = Stamps::default();
        let object = stamps.of_object(MemberNum(3), ObjectNum(7));
        let subject =
            stamps.of_subject(SubjectKey { kind: SubjectKind::Plain, member: MemberNum(3), object: ObjectNum(7) });
        assert_eq!((stamps.touched(object), stamps.touched(subject)), (Revision(0), Revision(0)));
        stamps.touch(object, Revision(5));
        assert_eq!(stamps.touched(object), Revision(5));
        assert_eq!(stamps.of_object(MemberNum(3), ObjectNum(7)), object);
    }
}
