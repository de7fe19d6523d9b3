//! BlastRadius: all that a principal can reach now, on its own and through each delegation that it could act by.
//!
//! INVARIANT: what is listed is what ListResources lists, by each authority alone: its own, then each live delegation that
//! was given to it or to a userset that it is in, in the order of their creation. Nothing is united.

use super::acting::{delegate_has, refuse_exact};
use super::chains::chain_of;
use super::list_resources::{ListResources, ResourceLister, ResourceRow};
use super::resolve::{Resolver, refused};
use super::situation::{Situation, Standing};
use super::{Engine, Error};
use crate::model::{
    Acting, Cancel, ChainLink, Decision, Delegation, DelegationState, Limits, Membership, ObjectRef, RelationName,
    Revision, SubjectRef, TypeName,
};
use crate::schema::{Member, Side};
use crate::store::{DelegationsBy, Store};
use crate::walk::Budget;
use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Whose reach is asked for.
#[derive(Debug, Clone)]
pub struct BlastRadius {
    pub principal: ObjectRef,
    pub situation: Situation,
}

/// One object that the principal reaches, with which permission and by whose authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReachedRow {
    /// Root first; empty: on its own.
    pub chain: Vec<ChainLink>,
    pub permission: RelationName,
    pub object: ObjectRef,
    /// What Check says: never a deny.
    pub decision: Decision,
    /// Context fields that could still decide a conditional answer.
    pub missing: Vec<String>,
}

/// One authority with one permission of one type: a list of its own.
#[derive(Debug, Clone)]
struct Part {
    acting: Acting,
    chain: Vec<ChainLink>,
    object_type: TypeName,
    permission: RelationName,
}

/// Lists on at the revision it was opened at. The work of each list within is bounded as one question's is.
pub struct RadiusLister {
    store: Arc<Store>,
    limits: Limits,
    standing: Standing,
    principal: SubjectRef,
    situation: Situation,
    /// What is listed next: first on its own, then by one delegation after the other.
    ahead: VecDeque<Part>,
    held: BTreeMap<u64, Arc<Delegation>>,
    is_suspended: bool,
    open: Option<(Part, ResourceLister)>,
}

/// Records read at a time.
const RECORDS: usize = 256;

impl Engine {
    /// Opens the list. All permissions of every definition on its own; through a delegation, what its scope names.
    pub fn blast_radius(&self, request: BlastRadius, cancel: &Cancel) -> Result<RadiusLister, Error> {
        let BlastRadius { principal, situation } = request;
        refuse_exact(&situation)?;
        let standing = self.stand(&situation, cancel)?;
        let schema = &standing.in_force.schema;
        let known = schema.resolve_type(Side::Subject, &principal.object_type);
        known.map_err(|refusal| refused(&refusal, "principal.type"))?;
        let mut ahead = VecDeque::new();
        for definition in schema.definitions() {
            for member in &definition.members {
                if let Member::Permission(permission) = member {
                    ahead.push_back(Part {
                        acting: Acting::default(),
                        chain: Vec::new(),
                        object_type: definition.name.clone(),
                        permission: permission.name.clone(),
                    });
                }
            }
        }
        let is_suspended = standing.newest.is_suspended(&principal)?;
        let held = self.held_by(&standing, &principal, &situation, cancel)?;
        Ok(RadiusLister {
            store: self.store.clone(),
            limits: self.limits.clone(),
            standing,
            principal: SubjectRef::Object(principal),
            situation,
            ahead,
            held,
            is_suspended,
            open: None,
        })
    }

    /// The live delegations that were given to a principal, or to a userset that it is or may be in, by number.
    fn held_by(
        &self,
        standing: &Standing,
        principal: &ObjectRef,
        situation: &Situation,
        cancel: &Cancel,
    ) -> Result<BTreeMap<u64, Arc<Delegation>>, Error> {
        let view = &standing.view;
        let mut budget = Budget::new(&self.limits, cancel.clone());
        let mut delegates = vec![SubjectRef::Object(principal.clone())];
        let mut usersets = Vec::new();
        view.snapshot().userset_delegates(|delegate| {
            usersets.push(delegate);
            Ok(ControlFlow::Continue(()))
        })?;
        let mut resolver = Resolver::again(&self.store, &standing.in_force, &standing.transient);
        for userset in usersets {
            let found = delegate_has(standing, &mut resolver, (principal, &userset), &situation.context, &mut budget)?;
            // One that cannot be told may be in it: what is listed by it is asked about all the same.
            if found.membership != Membership::Not {
                delegates.push(userset);
            }
        }
        let mut held = BTreeMap::new();
        for delegate in &delegates {
            let mut after = 0;
            // Bounded: each page goes on after the one before, and each record costs edges.
            loop {
                let page = view.snapshot().delegations_by(DelegationsBy::Delegate(delegate), after, RECORDS)?;
                budget.spend(1 + page.len() as u64)?;
                let Some(last) = page.last() else { break };
                after = last.number;
                let live = page.into_iter().filter(|delegation| delegation.state(view.now()) == DelegationState::Live);
                held.extend(live.map(|delegation| (delegation.number, delegation)));
            }
        }
        Ok(held)
    }
}

impl RadiusLister {
    /// Whether the principal is suspended, and therefore reaches nothing.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        self.is_suspended
    }

    /// The revision that is asked.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.standing.revision()
    }

    /// Up to `rows_max` further rows; none at the end.
    pub fn next_page(&mut self, rows_max: usize, cancel: &Cancel) -> Result<Vec<ReachedRow>, Error> {
        let mut page = Vec::new();
        // Bounded: each turn fills the page, or ends one of the lists ahead.
        while page.len() < rows_max {
            let (part, mut lister) = match self.open.take() {
                Some(open) => open,
                None => match self.ahead.pop_front() {
                    None => match self.held.pop_first() {
                        None => break,
                        Some((_, delegation)) => {
                            // Bounded: each delegation is taken once.
                            self.ahead = self.parts(&delegation)?;
                            continue;
                        }
                    },
                    Some(part) => {
                        let lister = self.list(&part, cancel)?;
                        (part, lister)
                    }
                },
            };
            let rows = lister.next_page(rows_max - page.len(), cancel)?;
            if rows.is_empty() {
                continue;
            }
            page.extend(rows.into_iter().map(|row| {
                let ResourceRow { object, decision, missing_fields, denial: _, chain: _, cursor: _ } = row;
                let (chain, permission) = (part.chain.clone(), part.permission.clone());
                ReachedRow { chain, permission, object, decision, missing: missing_fields }
            }));
            self.open = Some((part, lister));
        }
        Ok(page)
    }

    /// One for each permission or relation that a delegation's scope names and the schema still has.
    fn parts(&self, delegation: &Delegation) -> Result<VecDeque<Part>, Error> {
        let mut parts = VecDeque::new();
        let Some(chain) = chain_of(self.standing.view.snapshot(), &delegation.id)? else { return Ok(parts) };
        let chain: Vec<ChainLink> = chain.delegations().map(ChainLink::from).collect();
        // What is covered is in every clause, so in the first.
        let items = delegation.clauses.first().map(|clause| clause.items.as_slice()).unwrap_or_default();
        for definition in self.standing.in_force.schema.definitions() {
            for member in &definition.members {
                let pair = (definition.name.clone(), member.name().clone());
                if items.iter().any(|item| item.frozen.contains(&pair)) {
                    let (acting, chain) = (Acting::via(delegation.id), chain.clone());
                    parts.push_back(Part { acting, chain, object_type: pair.0, permission: pair.1 });
                }
            }
        }
        Ok(parts)
    }

    fn list(&self, part: &Part, cancel: &Cancel) -> Result<ResourceLister, Error> {
        let request = ListResources {
            object_type: part.object_type.clone(),
            permission: part.permission.clone(),
            subject: self.principal.clone(),
            acting: part.acting.clone(),
            within: None,
            situation: self.situation.clone(),
            cursor: None,
        };
        ResourceLister::open((&self.store, &self.limits), &self.standing, request, cancel)
    }
}
