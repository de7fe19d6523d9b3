//! Who wants to be woken when a revision is published: functions, so that nothing here knows how its caller waits.

use crate::model::Revision;
use arc_swap::ArcSwap;
use std::sync::Arc;

/// Called with each revision once it is published, on the writing thread.
pub type Listener = Arc<dyn Fn(Revision) + Send + Sync>;

/// The functions registered. Read at every commit without a lock, so that none can hold up another's registering.
#[derive(Default)]
pub(super) struct Listeners(Arc<ArcSwap<Vec<Listener>>>);

/// A registration, which ends when this is dropped.
#[must_use]
pub struct Listening {
    all: Arc<ArcSwap<Vec<Listener>>>,
    own: Listener,
}

impl Listeners {
    pub(super) fn add(&self, hear: Listener) -> Listening {
        self.0.rcu(|all| {
            let mut all = Vec::clone(all);
            all.push(hear.clone());
            all
        });
        Listening { all: self.0.clone(), own: hear }
    }

    pub(super) fn tell(&self, revision: Revision) {
        for hear in self.0.load().iter() {
            hear(revision);
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.all.rcu(|all| {
            let mut all = Vec::clone(all);
            if let Some(at) = all.iter().position(|other| Arc::ptr_eq(other, &self.own)) {
                all.swap_remove(at);
            }
            all
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn each_is_told_until_it_goes() {
        let listeners = Listeners::default();
        let heard = Arc::new(AtomicU64::new(0));
        let hear = |weight: u64| -> Listener {
            let heard = heard.clone();
            Arc::new(move |revision| {
                heard.fetch_add(weight * revision.0, Ordering::Relaxed);
            })
        };
        let first = listeners.add(hear(1));
        let second = listeners.add(hear(100));
        listeners.tell(Revision(2));
        assert_eq!(heard.load(Ordering::Relaxed), 202);
        drop(first);
        listeners.tell(Revision(3));
        assert_eq!(heard.load(Ordering::Relaxed), 502);
        drop(second);
        listeners.tell(Revision(4));
        assert_eq!(heard.load(Ordering::Relaxed), 502);
    }
}
