//! For whom is it asked? The chains that count for a caller, each with what is the same for every question of a request:
//! whether it is as the caller believes, its links, and who of its actors is suspended.
//!
//! INVARIANT: a question names for whom, and then only that chain or that root counts; or it names nobody, and then no
//! delegation is looked at. What a chain allows is worked out in `effect`.

use super::Error;
use super::chains::{chain_in, chain_of};
use super::resolve::{Resolver, refused};
use super::situation::{Situation, Standing};
use crate::delegation::Chain;
use crate::graph::View;
use crate::model::{
    Acting, ChainLink, Consistency, Context, Delegation, DelegationState, DenyReason, Mandate, MemberNum, Membership,
    ObjectNum, ObjectRef, RelationName, SubjectRef, Timestamp, TupleCaveat, TypeName, TypeNum,
};
use crate::schema::{Plan, Side};
use crate::store::{Snapshot, SubjectKey};
use crate::walk::{self, Asked, Asker, Budget, Heights, Node};
use hashbrown::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Edges that reading one delegation's record costs.
const RECORD_EDGES: u64 = 16;

/// What one test says: Kleene's value, and what it hangs on.
#[derive(Debug, Clone)]
pub(super) struct Value {
    pub(super) membership: Membership,
    /// Of a conditional one: the context fields that could still decide it.
    pub(super) missing: Vec<String>,
    /// Time alone does not change it before.
    pub(super) valid_until: Option<Timestamp>,
    /// Why nobody can say: a caveat that could not be evaluated. It counts as unknown while combining, like a conditional
    /// one, and ends the question unless the rest decides it.
    pub(super) fault: Option<Error>,
}

/// A principal that an answer hangs on.
#[derive(Debug, Clone)]
pub(super) struct Actor {
    pub(super) object: ObjectRef,
    /// `None`: its type is not of the schema in force, so it has nothing.
    pub(super) key: Option<SubjectKey>,
    pub(super) is_suspended: bool,
}

/// A chain that counts, and what was judged of it once for all questions.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) chain: Chain,
    /// It is not what the caller believes.
    pub(super) mismatch: Option<DenyReason>,
    /// x0 … xn, the caller last.
    pub(super) actors: Vec<Actor>,
    /// Of each delegation: whether its actor is the delegate, or in it.
    pub(super) links: Vec<Value>,
}

/// Whose authority counts.
#[derive(Debug)]
pub(super) enum Form {
    /// The subject's own. Only a plain object can be suspended.
    Own { is_suspended: bool },
    /// What these chains allow, in the order of their creation.
    Chains {
        chains: Vec<Taken>,
        /// The first instant at which a further chain could count, or one that does not could.
        others_until: Option<Timestamp>,
    },
}

/// For whom a caller asks, at one view and under one context; and what was found out for that, kept for the next
/// question.
pub(super) struct Authority {
    /// The subject that asks.
    pub(super) caller: SubjectKey,
    pub(super) form: Form,
    pub(super) heights: Heights,
    /// Anchors by their numbers, if questions follow one another; `None` for one that nothing mentions, which is at most the
    /// object asked about itself.
    pub(super) anchors: HashMap<ObjectRef, Option<(TypeNum, ObjectNum)>>,
    pub(super) conditions: Vec<(TupleCaveat, Value)>,
    /// What one walk has found of several actors, for the node it was asked of.
    pub(super) together: Option<(Node, Vec<(SubjectKey, Value)>)>,
    /// Of each subject asked about, if questions follow one another: what was found for it.
    pub(super) askers: Option<HashMap<SubjectKey, Asker>>,
    /// The permission that a scope was asked about last, as scopes name it.
    pub(super) asked: Option<(MemberNum, (TypeName, RelationName))>,
}

/// Whether what is found for one question is kept for the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// Each question stands alone, and says until when it holds.
    Nothing,
    /// Many questions about few subjects follow one another, and none says until when it holds.
    Answers,
}

impl Value {
    /// Decided, for as long as nothing is written.
    pub(super) fn of(membership: Membership) -> Value {
        Value { membership, missing: Vec::new(), valid_until: None, fault: None }
    }

    /// Nobody can say.
    pub(super) fn failed(error: Error) -> Value {
        Value { fault: Some(error), ..Value::of(Membership::Conditional) }
    }
}

impl Actor {
    fn new(object: &ObjectRef, resolver: &mut Resolver<'_>, newest: &Snapshot) -> Result<Actor, Error> {
        let is_suspended = newest.is_suspended(object)?;
        Ok(Actor { object: object.clone(), key: resolver.known_principal(object)?, is_suspended })
    }
}

impl Taken {
    /// The chain as answers show it.
    pub(super) fn shown(&self) -> Vec<ChainLink> {
        self.chain.delegations().map(ChainLink::from).collect()
    }
}

/// Acting for another is judged at the newest revision, and only then does it mean anything to expect a root.
pub(super) fn judge_acting(acting: &Acting, situation: &Situation) -> Result<(), Error> {
    let Acting { mandate, expect_root, presented_actors } = acting;
    let is_own = match mandate {
        Mandate::Own => true,
        Mandate::Delegation(_) | Mandate::OnBehalfOf(_) => false,
    };
    if is_own {
        let idle = if expect_root.is_some() { Some("expect_root") } else { None };
        if let Some(field) = idle.or((!presented_actors.is_empty()).then_some("presented_actors")) {
            return Err(Error::invalid(field, "", "means nothing without `delegation` or `on_behalf_of`"));
        }
        return Ok(());
    }
    refuse_exact(situation)
}

/// Acting for another is judged at the newest revision.
pub(super) fn refuse_exact(situation: &Situation) -> Result<(), Error> {
    match situation.consistency {
        Consistency::Newest | Consistency::AtLeastAsFresh(_) => Ok(()),
        Consistency::AtExactSnapshot(_) => {
            let message = "acting for another is judged at the newest revision, never at an older one";
            Err(Error::invalid("consistency", "at_exact_snapshot", message)
                .with_hint("leave `consistency` out, or ask at_least_as_fresh"))
        }
    }
}

/// What a cursor of a list must be resumed with, beside the rest.
pub(super) fn scope(acting: &Acting) -> String {
    let Acting { mandate, expect_root, presented_actors } = acting;
    let mut scope = match mandate {
        Mandate::Own => String::new(),
        Mandate::Delegation(id) => format!(" via {id}"),
        Mandate::OnBehalfOf(root) => format!(" for {root}"),
    };
    if let Some(root) = expect_root {
        scope.push_str(&format!(" expecting {root}"));
    }
    for actor in presented_actors {
        scope.push_str(&format!(" through {actor}"));
    }
    scope
}

impl Authority {
    /// Finds out for whom `subject` asks. Reading delegations and judging their links is taken from `budget`.
    pub(super) fn of(
        standing: &Standing,
        resolver: &mut Resolver<'_>,
        (subject, acting): (&SubjectRef, &Acting),
        (context, keep): (&Context, Keep),
        budget: &mut Budget,
    ) -> Result<Authority, Error> {
        let caller = resolver.asked_subject(subject)?;
        if keep == Keep::Answers
            && let SubjectRef::Object(object) | SubjectRef::Userset(object, _) = subject
        {
            // A list may have it as a row, and goes on where it was.
            resolver.keep_place(standing.in_force.names.member(caller.member)?.of, &object.id);
        }
        let mut authority = Authority::itself(caller, false, keep);
        let id = match &acting.mandate {
            Mandate::Own => {
                let is_suspended = match subject {
                    SubjectRef::Object(principal) => standing.newest.is_suspended(principal)?,
                    SubjectRef::Userset(..) | SubjectRef::Wildcard(_) => false,
                };
                authority.form = Form::Own { is_suspended };
                return Ok(authority);
            }
            Mandate::Delegation(id) => Some(id),
            Mandate::OnBehalfOf(_) => None,
        };
        let SubjectRef::Object(principal) = subject else {
            let message = "who acts for another is a plain object, never a userset";
            return Err(Error::invalid("subject", &subject.to_string(), message));
        };
        let mut taking = Taking { standing, acting, caller: principal, context, links: HashMap::new() };
        let (chains, others_until) = match (id, &acting.mandate) {
            (Some(id), _) => {
                let chain = chain_in(&standing.view, id)?;
                let taken = chain.map(|chain| taking.take(chain, resolver, budget)).transpose()?;
                (taken.into_iter().collect(), None)
            }
            (None, Mandate::OnBehalfOf(root)) => taking.all_of(root, resolver, budget)?,
            (None, Mandate::Own | Mandate::Delegation(_)) => (Vec::new(), None),
        };
        // One question alone looks up those it comes to.
        for Taken { chain, .. } in chains.iter().filter(|_| authority.askers.is_some()) {
            for anchor in chain.delegations().flat_map(Delegation::anchors) {
                budget.spend(1)?;
                if !authority.anchors.contains_key(anchor) {
                    authority.anchors.insert(anchor.clone(), resolver.numbered(anchor)?);
                }
            }
        }
        authority.form = Form::Chains { chains, others_until };
        Ok(authority)
    }

    /// A subject that asks for itself.
    pub(super) fn itself(caller: SubjectKey, is_suspended: bool, keep: Keep) -> Authority {
        Authority {
            caller,
            form: Form::Own { is_suspended },
            heights: Heights::default(),
            anchors: HashMap::new(),
            conditions: Vec::new(),
            together: None,
            askers: match keep {
                Keep::Nothing => None,
                Keep::Answers => Some(HashMap::new()),
            },
            asked: None,
        }
    }

    /// Forgets what was found for earlier questions, and for whom is asked not.
    pub(super) fn forget(&mut self) {
        self.heights = Heights::default();
        if let Some(askers) = &mut self.askers {
            askers.clear();
        }
    }
}

/// Taking the chains that count.
struct Taking<'a> {
    standing: &'a Standing,
    acting: &'a Acting,
    caller: &'a ObjectRef,
    context: &'a Context,
    /// Whether somebody is in a userset: many delegations are given to the same one.
    links: HashMap<(ObjectRef, SubjectRef), Value>,
}

impl Taking<'_> {
    fn take(&mut self, chain: Chain, resolver: &mut Resolver<'_>, budget: &mut Budget) -> Result<Taken, Error> {
        let Acting { mandate: _, expect_root, presented_actors } = self.acting;
        let expected = expect_root.as_ref().map_or(Ok(()), |root| chain.expect_root(root));
        let presented = match presented_actors.as_slice() {
            [] => Ok(()),
            presented => chain.presented_actors(presented, self.caller),
        };
        let newest = &self.standing.newest;
        let actors = chain
            .actors(self.caller)
            .map(|actor| Actor::new(actor, resolver, newest))
            .collect::<Result<Vec<Actor>, Error>>()?;
        let links = chain
            .links(self.caller)
            .map(|link| self.membership(link.actor, &link.delegation.delegate, resolver, budget))
            .collect::<Result<Vec<Value>, Error>>()?;
        Ok(Taken { mismatch: expected.and(presented).err(), actors, links, chain })
    }

    /// Every chain that begins at a root, lives as far as its last delegation goes, and was given to the caller, or to a
    /// userset that it is in; and the first instant at which that could be another.
    fn all_of(
        &mut self,
        root: &ObjectRef,
        resolver: &mut Resolver<'_>,
        budget: &mut Budget,
    ) -> Result<(Vec<Taken>, Option<Timestamp>), Error> {
        let known = self.standing.in_force.schema.resolve_type(Side::Subject, &root.object_type);
        known.map_err(|refusal| refused(&refusal, "on_behalf_of.type"))?;
        let view = &self.standing.view;
        let mut left: Vec<Arc<Delegation>> = Vec::new();
        let mut others_until = None;
        let mut spent = Ok(());
        view.snapshot().delegations_left(root, self.caller, view.now(), |delegation| {
            spent = budget.spend(RECORD_EDGES);
            match delegation.state(view.now()) {
                DelegationState::Live => left.push(delegation),
                DelegationState::NotYetValid => others_until = earliest(others_until, Some(delegation.not_before)),
                DelegationState::Expired | DelegationState::Revoked => {}
            }
            if spent.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        spent?;
        left.sort_unstable_by_key(|delegation| delegation.number);
        let mut chains = Vec::new();
        for delegation in left {
            let link = self.membership(self.caller, &delegation.delegate, resolver, budget)?;
            if link.membership == Membership::Not {
                others_until = earliest(others_until, link.valid_until);
                continue;
            }
            if let Some(chain) = chain_of(view.snapshot(), &delegation.id)? {
                budget.spend(RECORD_EDGES * u64::from(delegation.depth))?;
                chains.push(self.take(chain, resolver, budget)?);
            }
        }
        Ok((chains, others_until))
    }

    /// Whether a principal is a delegate, or in it, now: a question like any other, for a userset.
    fn membership(
        &mut self,
        actor: &ObjectRef,
        delegate: &SubjectRef,
        resolver: &mut Resolver<'_>,
        budget: &mut Budget,
    ) -> Result<Value, Error> {
        if let SubjectRef::Object(_) = delegate {
            return delegate_has(self.standing, resolver, (actor, delegate), self.context, budget);
        }
        let key = (actor.clone(), delegate.clone());
        if let Some(known) = self.links.get(&key) {
            return Ok(known.clone());
        }
        let value = delegate_has(self.standing, resolver, (actor, delegate), self.context, budget)?;
        self.links.insert(key, value.clone());
        Ok(value)
    }
}

/// Whether a principal is this delegate, or in it, at the state a request stands at.
pub(super) fn delegate_has(
    standing: &Standing,
    resolver: &mut Resolver<'_>,
    (actor, delegate): (&ObjectRef, &SubjectRef),
    context: &Context,
    budget: &mut Budget,
) -> Result<Value, Error> {
    let (group, relation) = match delegate {
        SubjectRef::Object(object) => {
            return Ok(Value::of(if actor == object { Membership::Member } else { Membership::Not }));
        }
        SubjectRef::Userset(group, relation) => (group, relation),
        SubjectRef::Wildcard(_) => return Ok(Value::of(Membership::Not)),
    };
    // What the schema lacks has no members.
    let (Some(subject), Some(node)) = (resolver.known_principal(actor)?, resolver.known_node(group, relation)?) else {
        return Ok(Value::of(Membership::Not));
    };
    let Standing { in_force, view, .. } = standing;
    own(&in_force.plan, view, Asked { node, subject }, context, resolver, budget)
}

/// The ordinary check, as a value to be combined.
pub(super) fn own(
    plan: &Plan,
    view: &View,
    asked: Asked,
    context: &Context,
    resolver: &Resolver<'_>,
    budget: &mut Budget,
) -> Result<Value, Error> {
    match walk::check(plan, view, asked, context, budget, false) {
        Ok(found) => Ok(Value {
            membership: found.membership,
            missing: found.missing,
            valid_until: found.valid_until,
            fault: None,
        }),
        Err(error @ walk::Error::CaveatFailed { .. }) => Ok(Value::failed(resolver.told(error))),
        Err(error) => Err(error.into()),
    }
}

/// The earlier of two instants, where there is one.
pub(super) fn earliest(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
