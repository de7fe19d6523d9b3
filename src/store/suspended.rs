//! Who is suspended, in memory: every question asks it of everybody in it.
//!
//! INVARIANT: a snapshot's set is the one of its revision, whole; or there is none, and the store is asked.

use super::delegations::suspension_key;
use super::error::Error;
use super::snapshot::Snapshot;
use crate::model::{ObjectRef, SUSPENDED_IN_MEMORY_MAX, Suspension};
use hashbrown::HashSet;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Who is suspended at one revision.
#[derive(Clone, Debug)]
pub enum Suspended {
    /// These and nobody else.
    These(Arc<HashSet<Arc<ObjectRef>>>),
    /// So many that they are not kept in memory; it stays so until the next start.
    Many(u64),
}

impl Default for Suspended {
    /// Nobody.
    fn default() -> Suspended {
        Suspended::These(Arc::default())
    }
}

impl Suspended {
    /// How many.
    #[must_use]
    pub fn count(&self) -> u64 {
        match self {
            Suspended::These(all) => all.len() as u64,
            Suspended::Many(count) => *count,
        }
    }

    /// One more, who was not suspended.
    pub fn add(&mut self, principal: ObjectRef) {
        match self {
            Suspended::These(all) if all.len() < SUSPENDED_IN_MEMORY_MAX => {
                Arc::make_mut(all).insert(Arc::new(principal));
            }
            Suspended::These(all) => *self = Suspended::Many(all.len() as u64 + 1),
            Suspended::Many(count) => *count += 1,
        }
    }

    /// What a group has made of it: `None` where a suspension ended, and how many there are now.
    pub fn settle(&mut self, changed: BTreeMap<ObjectRef, Option<Suspension>>, count: u64) {
        let Suspended::These(all) = self else {
            *self = Suspended::Many(count);
            return;
        };
        if changed.is_empty() {
            return;
        }
        if count > SUSPENDED_IN_MEMORY_MAX as u64 {
            *self = Suspended::Many(count);
            return;
        }
        // Copied: a snapshot that is still read has the one before.
        let all = Arc::make_mut(all);
        for (principal, suspension) in changed {
            match suspension {
                Some(_) => all.insert(Arc::new(principal)),
                None => all.remove(&principal),
            };
        }
    }
}

impl Snapshot {
    /// Whether anybody is suspended. Costs nothing.
    #[must_use]
    pub fn any_suspensions(&self) -> bool {
        self.suspended().count() > 0
    }

    /// Whether the principal is suspended. Costs no reading of the store, unless a great many are.
    pub fn is_suspended(&self, principal: &ObjectRef) -> Result<bool, Error> {
        match self.suspended() {
            Suspended::These(all) => Ok(all.contains(principal)),
            Suspended::Many(_) => Ok(self.get(self.families().suspension, &suspension_key(principal))?.is_some()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    fn agent(n: usize) -> ObjectRef {
        format!("agent:{n}").parse().unwrap()
    }

    fn suspension(principal: ObjectRef) -> Suspension {
        Suspension { principal, since: Timestamp::MIN, reason: String::new() }
    }

    #[test]
    fn a_set_that_is_read_stays_as_it_was() {
        let mut now = Suspended::default();
        now.add(agent(1));
        let before = now.clone();
        let changed = BTreeMap::from([(agent(1), None), (agent(2), Some(suspension(agent(2))))]);
        now.settle(changed, 1);
        let has = |of: &Suspended, n| matches!(of, Suspended::These(all) if all.contains(&agent(n)));
        assert!(has(&before, 1) && !has(&before, 2) && has(&now, 2) && !has(&now, 1));
        assert_eq!((before.count(), now.count()), (1, 1));
    }

    #[test]
    fn beyond_the_limit_they_are_only_counted() {
        let mut loaded = Suspended::default();
        for n in 0..=SUSPENDED_IN_MEMORY_MAX {
            loaded.add(agent(n));
        }
        assert!(matches!(loaded, Suspended::Many(count) if count == SUSPENDED_IN_MEMORY_MAX as u64 + 1));
        let mut full = Suspended::default();
        for n in 0..SUSPENDED_IN_MEMORY_MAX {
            full.add(agent(n));
        }
        assert!(matches!(full, Suspended::These(_)));
        let one_more = BTreeMap::from([(agent(usize::MAX), Some(suspension(agent(usize::MAX))))]);
        full.settle(one_more, SUSPENDED_IN_MEMORY_MAX as u64 + 1);
        assert!(matches!(full, Suspended::Many(_)));
        full.settle(BTreeMap::from([(agent(3), None)]), SUSPENDED_IN_MEMORY_MAX as u64);
        assert_eq!(full.count(), SUSPENDED_IN_MEMORY_MAX as u64);
    }
}
