//! The chain of a delegation: its verified links, from the root to whoever calls.
//!
//! ```text
//! d1 … dn        the delegations, d1 without parent
//! x0 … x(n-1)    the delegators: xi gave d(i+1); x0 is the root
//! xn             the caller
//! ```
//! INVARIANT: a `Chain` can only be made by verifying that each link's parent is the link before it, that all have one
//! root, and that depths count up from 1. So it has at least one link. Whether it is live, whether each actor is a
//! delegate now, and what it covers are questions that are asked of it each time.

use crate::model::{Delegation, DelegationState, DenyReason, ObjectRef};
use std::sync::Arc;

/// Links of which each follows from the one before.
#[derive(Clone, PartialEq, Debug)]
pub struct Chain {
    first: Arc<Delegation>,
    rest: Vec<Arc<Delegation>>,
}

/// One delegation of a chain, and who has to be its delegate for the chain to hold.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Link<'a> {
    /// From 1 on; hop 0 is the root.
    pub hop: usize,
    pub delegation: &'a Delegation,
    /// Must be the delegate, or in it, now.
    pub actor: &'a ObjectRef,
}

/// Records that are no chain. They were written so by no version, which is a fault and not a denial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// There is not one delegation.
    #[error("a chain without a delegation")]
    Empty,
    /// Its parent is not the one before it, or the first has a parent.
    #[error("hop {hop} does not follow from the one before it")]
    Parent { hop: usize },
    /// Its root is not the first one's delegator.
    #[error("hop {hop} has another root than the chain")]
    Root { hop: usize },
    /// It says to be at another place in a chain.
    #[error("hop {hop} says to be at depth {depth}")]
    Depth { hop: usize, depth: u32 },
}

impl Chain {
    /// The chain of these records, root first, or what is wrong with them.
    pub fn verify(links: Vec<Arc<Delegation>>) -> Result<Chain, Broken> {
        let mut links = links.into_iter();
        let first = links.next().ok_or(Broken::Empty)?;
        let chain = Chain { first, rest: links.collect() };
        let mut parent = None;
        for (before, delegation) in chain.delegations().enumerate() {
            let hop = before + 1;
            if delegation.parent != parent {
                return Err(Broken::Parent { hop });
            }
            if delegation.root != chain.first.delegator {
                return Err(Broken::Root { hop });
            }
            if usize::try_from(delegation.depth) != Ok(hop) {
                return Err(Broken::Depth { hop, depth: delegation.depth });
            }
            parent = Some(delegation.id);
        }
        Ok(chain)
    }

    /// d1 … dn.
    pub fn delegations(&self) -> impl DoubleEndedIterator<Item = &Delegation> + Clone {
        std::iter::once(&*self.first).chain(self.rest.iter().map(|link| &**link))
    }

    /// dn: the delegation whose chain it is.
    #[must_use]
    pub fn last(&self) -> &Delegation {
        self.rest.last().map_or(&self.first, |last| last)
    }

    /// Whom it begins at.
    #[must_use]
    pub fn root(&self) -> &ObjectRef {
        &self.first.root
    }

    /// x0 … x(n-1): everybody but the caller who must have a permission for the caller to have it.
    pub fn delegators(&self) -> impl DoubleEndedIterator<Item = &ObjectRef> + Clone {
        self.delegations().map(|delegation| &delegation.delegator)
    }

    /// x0 … xn.
    pub fn actors<'a>(&'a self, caller: &'a ObjectRef) -> impl DoubleEndedIterator<Item = &'a ObjectRef> + Clone {
        self.delegators().chain(std::iter::once(caller))
    }

    /// Each delegation with whoever has to be its delegate: the next one's delegator, and of the last the caller.
    pub fn links<'a>(&'a self, caller: &'a ObjectRef) -> impl Iterator<Item = Link<'a>> + Clone {
        let actors = self.actors(caller).skip(1);
        self.delegations().zip(actors).enumerate().map(|(before, (delegation, actor))| Link {
            hop: before + 1,
            delegation,
            actor,
        })
    }

    /// The caller expects to act for this root.
    pub fn expect_root(&self, expected: &ObjectRef) -> Result<(), DenyReason> {
        if self.root() == expected { Ok(()) } else { Err(DenyReason::RootMismatch) }
    }

    /// The caller presents whom it acts through, root first. The caller itself may stand at the end or be left out;
    /// nothing else may differ.
    pub fn presented_actors(&self, presented: &[ObjectRef], caller: &ObjectRef) -> Result<(), DenyReason> {
        let is_it = self.delegators().eq(presented) || self.actors(caller).eq(presented);
        if is_it { Ok(()) } else { Err(DenyReason::ChainMismatch) }
    }
}

/// Why a delegation in this state denies, if it does.
#[must_use]
pub fn denied_by(state: DelegationState) -> Option<DenyReason> {
    match state {
        DelegationState::Live => None,
        DelegationState::NotYetValid => Some(DenyReason::DelegationNotYetValid),
        DelegationState::Expired => Some(DenyReason::DelegationExpired),
        DelegationState::Revoked => Some(DenyReason::DelegationRevoked),
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{below, chain, first, id, object};
    use super::*;

    fn verified(links: &[Delegation]) -> Result<Chain, Broken> {
        Chain::verify(links.iter().cloned().map(Arc::new).collect())
    }

    /// user:fay ⇒ agent:a ⇒ group:b#member, re-delegated by the member agent:b to agent:c.
    fn three() -> [Delegation; 3] {
        let first = first(1, "user:fay", "agent:a", 2);
        let second = below(&first, "agent:a", "group:b#member");
        let third = below(&second, "agent:b", "agent:c");
        [first, second, third]
    }

    #[test]
    fn a_chain_names_its_actors_and_who_has_to_be_whose_delegate() {
        let chain = chain(&three());
        let caller = object("agent:c");
        let actors: Vec<String> = chain.actors(&caller).map(ToString::to_string).collect();
        assert_eq!(actors, ["user:fay", "agent:a", "agent:b", "agent:c"]);
        let links: Vec<String> = chain
            .links(&caller)
            .map(|Link { hop, delegation, actor }| format!("{hop}: {actor} in {}", delegation.delegate))
            .collect();
        assert_eq!(links, ["1: agent:a in agent:a", "2: agent:b in group:b#member", "3: agent:c in agent:c"]);
        assert_eq!((chain.root(), chain.last().id), (&object("user:fay"), id(3)));
    }

    #[test]
    fn what_does_not_hang_together_is_no_chain() {
        let links = three();
        let with = |at: usize, change: fn(&mut Delegation)| {
            let mut links = links.clone();
            change(&mut links[at]);
            verified(&links)
        };
        assert_eq!(verified(&[]), Err(Broken::Empty));
        assert_eq!(verified(&links[1..]), Err(Broken::Parent { hop: 1 }));
        assert_eq!(verified(&[links[0].clone(), links[2].clone()]), Err(Broken::Parent { hop: 2 }));
        assert_eq!(verified(&[links[0].clone(), links[0].clone()]), Err(Broken::Parent { hop: 2 }));
        assert_eq!(with(1, |link| link.parent = None), Err(Broken::Parent { hop: 2 }));
        assert_eq!(with(0, |link| link.root = object("user:eve")), Err(Broken::Root { hop: 1 }));
        assert_eq!(with(2, |link| link.root = object("user:eve")), Err(Broken::Root { hop: 3 }));
        assert_eq!(with(0, |link| link.depth = 0), Err(Broken::Depth { hop: 1, depth: 0 }));
        assert_eq!(with(2, |link| link.depth = 2), Err(Broken::Depth { hop: 3, depth: 2 }));
    }

    #[test]
    fn what_the_caller_expects_must_be_what_is_stored() {
        let chain = chain(&three());
        let caller = object("agent:c");
        let objects = |texts: &[&str]| texts.iter().map(|text| object(text)).collect::<Vec<_>>();
        assert_eq!(chain.expect_root(&object("user:fay")), Ok(()));
        assert_eq!(chain.expect_root(&object("agent:a")), Err(DenyReason::RootMismatch));
        for good in
            [&["user:fay", "agent:a", "agent:b"] as &[&str], &["user:fay", "agent:a", "agent:b", "agent:c"] as &[&str]]
        {
            assert_eq!(chain.presented_actors(&objects(good), &caller), Ok(()), "{good:?}");
        }
        for wrong in [
            &[] as &[&str],
            &["user:fay"],
            &["user:fay", "agent:a"],
            &["agent:a", "user:fay", "agent:b"],
            &["user:eve", "agent:a", "agent:b"],
            &["user:fay", "agent:a", "agent:b", "agent:d"],
            &["user:fay", "agent:a", "agent:b", "agent:c", "agent:c"],
        ] {
            assert_eq!(chain.presented_actors(&objects(wrong), &caller), Err(DenyReason::ChainMismatch), "{wrong:?}");
        }
    }
}
