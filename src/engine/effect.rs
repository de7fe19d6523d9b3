//! What may be done by an authority: the subject's own, or the intersection over a chain, or the most of several chains.
//!
//! ```text
//! EFF = for every hop i: link, state, scope;  then nobody suspended;  then own(caller), own(root), own(those between)
//! ```
//! INVARIANT: the value is the least of all factors, whatever their order; the order only says which one is named when
//! several deny, and spares work. Each `own` is the ordinary check. A caveat that cannot be evaluated counts as unknown:
//! if another factor denies, that stands, and otherwise its error is the answer.

use super::acting::{Authority, Form, Taken, Value, earliest};
use super::resolve::Resolver;
use super::schemas::InForce;
use super::{Error, Kind};
use crate::condition::Outcome;
use crate::delegation::{Scoped, denied_by, scope};
use crate::graph::View;
use crate::model::{
    ACTING_CHAINS_MAX, ChainLink, Clause, Context, Delegation, Denial, DenyReason, Membership, ObjectNum, RelationName,
    Timestamp, TupleCaveat, TypeName,
};
use crate::store::SubjectKey;
use crate::walk::{self, Asked, Asker, Budget, Node, Together, TrailStep};
use std::cell::RefCell;

/// Edges that one evaluation of an item's caveat costs, as a tuple's does.
const EVALUATION_EDGES: u64 = 256;

/// Where a question is asked.
#[derive(Clone, Copy)]
pub(super) struct Here<'a> {
    pub(super) in_force: &'a InForce,
    pub(super) view: &'a View,
    pub(super) resolver: &'a Resolver<'a>,
    /// The request's.
    pub(super) context: &'a Context,
}

/// What was found for one question.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) membership: Membership,
    /// Of a conditional answer: the context fields that could still decide it, sorted.
    pub(super) missing: Vec<String>,
    pub(super) valid_until: Option<Timestamp>,
    pub(super) denial: Option<Denial>,
    /// Which of the chains it was found by; `None` when the subject asked for itself, or there is none. See
    /// `Authority::shown`.
    pub(super) by: Option<usize>,
    /// How the caller itself comes to have it, if that was wanted and it has.
    pub(super) trail: Vec<(u32, TrailStep)>,
}

/// What one chain comes to.
struct Effect {
    value: Value,
    denial: Option<Denial>,
    /// How many tests were passed before the one that denies, by their kind, hop by hop.
    passed: (usize, usize),
    trail: Vec<(u32, TrailStep)>,
}

/// One test of a chain. A delegation's hop is from 1 on; an actor's is its place in the chain, the root's 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    /// The chain is what the caller believes.
    Expected,
    /// Whoever acts by a delegation is its delegate, or in it.
    Link(usize),
    /// The delegation is live.
    State(usize),
    /// The delegation covers what is asked.
    Scope(usize),
    /// The actor is not suspended.
    Active(usize),
    /// The actor has the permission itself.
    Own(usize),
}

/// What a test says, and the reason to be named if it denies.
pub(super) struct Tested {
    pub(super) value: Value,
    pub(super) reason: DenyReason,
    trail: Vec<(u32, TrailStep)>,
}

impl Test {
    /// Where it is made.
    pub(super) fn hop(self) -> Option<usize> {
        match self {
            Test::Expected => None,
            Test::Link(hop) | Test::State(hop) | Test::Scope(hop) | Test::Active(hop) | Test::Own(hop) => Some(hop),
        }
    }
}

/// All tests of a chain of `links` delegations, in the order that says which is named. Actors in the order of asking: the
/// caller, the root, those between.
pub(super) fn tests(links: usize) -> impl Iterator<Item = Test> {
    let actors = move || [links, 0].into_iter().chain(1..links);
    std::iter::once(Test::Expected)
        .chain((1..=links).flat_map(|hop| [Test::Link(hop), Test::State(hop), Test::Scope(hop)]))
        .chain(actors().map(Test::Active))
        .chain(actors().map(Test::Own))
}

impl Authority {
    /// The chain of an answer, root first, as it is shown.
    pub(super) fn shown(&self, by: Option<usize>) -> Vec<ChainLink> {
        match &self.form {
            Form::Own { .. } => Vec::new(),
            Form::Chains { chains, others_until: _ } => {
                by.and_then(|by| chains.get(by)).map_or_else(Vec::new, Taken::shown)
            }
        }
    }

    /// Answers one question. Too many chains that could allow it, or too much work, is an error.
    pub(super) fn judge(
        &mut self,
        here: Here<'_>,
        node: Node,
        budget: &mut Budget,
        noting: bool,
    ) -> Result<Judged, Error> {
        let form = std::mem::replace(&mut self.form, Form::Chains { chains: Vec::new(), others_until: None });
        let judged = match &form {
            Form::Own { is_suspended } => {
                let denial = is_suspended.then_some(Denial { reason: DenyReason::Suspended, hop: None });
                if denial.is_some() {
                    Ok(denied(denial, None))
                } else {
                    self.own(here, Asked { node, subject: self.caller }, budget, noting).and_then(|(value, trail)| {
                        let Value { membership, missing, valid_until, fault } = value;
                        match fault {
                            Some(error) => Err(error),
                            None => Ok(Judged { membership, missing, valid_until, denial, by: None, trail }),
                        }
                    })
                }
            }
            Form::Chains { chains, others_until } => self.most(here, node, (chains, *others_until), budget, noting),
        };
        self.form = form;
        judged
    }

    /// The most that any of the chains allows.
    fn most(
        &mut self,
        here: Here<'_>,
        node: Node,
        (chains, others_until): (&[Taken], Option<Timestamp>),
        budget: &mut Budget,
        noting: bool,
    ) -> Result<Judged, Error> {
        if chains.is_empty() {
            return Ok(denied(Some(Denial { reason: DenyReason::NoDelegation, hop: None }), others_until));
        }
        let mut in_scope = 0;
        for taken in chains {
            budget.spend(1)?;
            let scope = self.test(here, node, taken, Test::Scope(taken.links.len()), budget, false)?;
            in_scope += usize::from(scope.reason != DenyReason::OutOfScope);
        }
        if in_scope > ACTING_CHAINS_MAX {
            let message =
                format!("{in_scope} live delegations of this root cover it; at most {ACTING_CHAINS_MAX} are asked");
            return Err(Error::new(Kind::ResourceExhausted, "TOO_MANY_DELEGATIONS", message)
                .with_fact("limit", ACTING_CHAINS_MAX.to_string())
                .with_hint("name the one delegation to act by"));
        }
        let mut best: Option<(usize, Effect)> = None;
        let mut until = others_until;
        let mut fault = None;
        for (at, taken) in chains.iter().enumerate() {
            let effect = self.effect(here, node, taken, budget, noting)?;
            if effect.value.fault.is_some() {
                fault = fault.or(effect.value.fault);
                continue;
            }
            if effect.value.membership == Membership::Member {
                return Ok(told(at, effect, None));
            }
            until = earliest(until, effect.value.valid_until);
            let is_better = best.as_ref().is_none_or(|(_, best)| {
                (effect.value.membership, effect.passed) > (best.value.membership, best.passed)
            });
            if is_better {
                best = Some((at, effect));
            }
        }
        if let Some(error) = fault {
            return Err(error);
        }
        match best {
            Some((at, effect)) => Ok(told(at, effect, Some(until))),
            None => Ok(denied(Some(Denial { reason: DenyReason::NoDelegation, hop: None }), until)),
        }
    }

    /// The intersection over one chain.
    fn effect(
        &mut self,
        here: Here<'_>,
        node: Node,
        taken: &Taken,
        budget: &mut Budget,
        noting: bool,
    ) -> Result<Effect, Error> {
        let mut least = Value::of(Membership::Member);
        let mut open = None;
        let mut trail = Vec::new();
        for (passed, test) in tests(taken.links.len()).enumerate() {
            if test == Test::Own(taken.links.len()) && !noting {
                self.ask_together(here, node, taken, budget)?;
            }
            let Tested { value, reason, trail: path } = self.test(here, node, taken, test, budget, noting)?;
            let Value { membership, missing, valid_until, fault } = value;
            match membership {
                Membership::Not => {
                    let value = Value { valid_until, ..Value::of(Membership::Not) };
                    let denial = Some(Denial { reason, hop: test.hop() });
                    let stage = match test {
                        Test::Expected | Test::Link(_) | Test::State(_) | Test::Scope(_) => 0,
                        Test::Active(_) => 1,
                        Test::Own(_) => 2,
                    };
                    return Ok(Effect { value, denial, passed: (stage, passed), trail: Vec::new() });
                }
                Membership::Conditional if fault.is_none() && open.is_none() => {
                    open = Some(Denial { reason: DenyReason::ContextMissing, hop: test.hop() });
                }
                Membership::Conditional | Membership::Member => {}
            }
            least.membership = least.membership.min(membership);
            least.missing.extend(missing);
            least.valid_until = earliest(least.valid_until, valid_until);
            least.fault = least.fault.or(fault);
            if test == Test::Own(taken.links.len()) {
                trail = path;
            }
        }
        least.missing.sort_unstable();
        least.missing.dedup();
        Ok(Effect { value: least, denial: open, passed: (usize::MAX, 0), trail })
    }

    /// What one test of a chain says.
    pub(super) fn test(
        &mut self,
        here: Here<'_>,
        node: Node,
        taken: &Taken,
        test: Test,
        budget: &mut Budget,
        noting: bool,
    ) -> Result<Tested, Error> {
        let caller = taken.links.len();
        let broken = || Error::new(Kind::Internal, "INTERNAL", "an internal error").with_detail("a test of no hop");
        let denies = |denies: bool| Value::of(if denies { Membership::Not } else { Membership::Member });
        let delegation = |hop: usize| taken.chain.delegations().nth(hop.wrapping_sub(1)).ok_or_else(broken);
        let actor = |hop: usize| taken.actors.get(hop).ok_or_else(broken);
        let (value, reason) = match test {
            Test::Expected => {
                let reason = taken.mismatch.unwrap_or(DenyReason::ChainMismatch);
                (denies(taken.mismatch.is_some()), reason)
            }
            Test::Link(hop) => {
                let link = taken.links.get(hop.wrapping_sub(1)).ok_or_else(broken)?;
                let reason = if hop == caller { DenyReason::NotTheDelegate } else { DenyReason::LinkBroken };
                (link.clone(), reason)
            }
            Test::State(hop) => {
                let delegation = delegation(hop)?;
                let denied = denied_by(delegation.state(here.view.now()));
                let valid_until = match denied {
                    None => Some(delegation.expires_at),
                    Some(DenyReason::DelegationNotYetValid) => Some(delegation.not_before),
                    // What is over or revoked stays so.
                    Some(_) => None,
                };
                let reason = denied.unwrap_or(DenyReason::DelegationExpired);
                (Value { valid_until, ..denies(denied.is_some()) }, reason)
            }
            Test::Scope(hop) => self.scoped(here, node, delegation(hop)?, budget)?,
            Test::Active(hop) => (denies(actor(hop)?.is_suspended), DenyReason::Suspended),
            Test::Own(hop) => {
                let reason = match hop {
                    _ if hop == caller => DenyReason::ActorLacksPermission,
                    0 => DenyReason::RootLacksPermission,
                    _ => DenyReason::IntermediateLacksPermission,
                };
                // A principal whose type the schema lacks has nothing.
                let Some(subject) = actor(hop)?.key else {
                    return Ok(Tested { value: denies(true), reason, trail: Vec::new() });
                };
                let asked = Asked { node, subject };
                let (value, trail) = self.own(here, asked, budget, noting && hop == caller)?;
                return Ok(Tested { value, reason, trail });
            }
        };
        Ok(Tested { value, reason, trail: Vec::new() })
    }

    /// Asks of all actors of a chain at once what each of them must have. What that does not tell is asked one by one.
    fn ask_together(&mut self, here: Here<'_>, node: Node, taken: &Taken, budget: &mut Budget) -> Result<(), Error> {
        if self.askers.is_some() {
            return Ok(());
        }
        let (of, mut known) = self.together.take().unwrap_or((node, Vec::new()));
        if of != node {
            known.clear();
        }
        let mut subjects: Vec<SubjectKey> = taken.actors.iter().filter_map(|actor| actor.key).collect();
        subjects.retain(|subject| known.iter().all(|(other, _)| other != subject));
        subjects.sort_unstable();
        subjects.dedup();
        let Here { in_force, view, resolver: _, context } = here;
        let Together { values, valid_until } =
            walk::check_together(&in_force.plan, view, (node, &subjects), context, budget)?;
        let found = subjects.into_iter().zip(values);
        known.extend(found.filter_map(|(subject, value)| Some((subject, Value { valid_until, ..Value::of(value?) }))));
        self.together = Some((node, known));
        Ok(())
    }

    /// The ordinary check of one actor, with its path if that is wanted.
    fn own(
        &mut self,
        here: Here<'_>,
        asked: Asked,
        budget: &mut Budget,
        noting: bool,
    ) -> Result<(Value, Vec<(u32, TrailStep)>), Error> {
        let Here { in_force, view, resolver, context } = here;
        if !noting
            && let Some((of, known)) = &self.together
            && *of == asked.node
            && let Some((_, value)) = known.iter().find(|(subject, _)| *subject == asked.subject)
        {
            return Ok((value.clone(), Vec::new()));
        }
        let found = match &mut self.askers {
            None => walk::check(&in_force.plan, view, asked, context, budget, noting)
                .map(|found| (found.membership, found.missing, found.valid_until, found.trail)),
            Some(askers) => {
                let asker = askers.entry(asked.subject).or_insert_with(|| Asker::new(asked.subject, context.clone()));
                let found = asker.ask_why(&in_force.plan, view, asked.node, budget);
                found.map(|(membership, missing)| (membership, missing, None, Vec::new()))
            }
        };
        match found {
            Ok((membership, missing, valid_until, trail)) => {
                Ok((Value { membership, missing, valid_until, fault: None }, trail))
            }
            Err(error @ walk::Error::CaveatFailed { .. }) => Ok((Value::failed(resolver.told(error)), Vec::new())),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether what is asked is in a delegation's scope, and the reason if it is not.
    fn scoped(
        &mut self,
        here: Here<'_>,
        node: Node,
        delegation: &Delegation,
        budget: &mut Budget,
    ) -> Result<(Value, DenyReason), Error> {
        let object = (here.in_force.names.member(node.member)?.of, node.object);
        let Authority { caller: _, form: _, heights, anchors, conditions, together: _, askers, asked } = self;
        let follows = askers.is_some();
        // The same for every object of a filter or a list.
        let (_, pair) = match asked.take() {
            Some(known) if known.0 == node.member => asked.insert(known),
            Some(_) | None => asked.insert((node.member, pair(here.in_force, node)?)),
        };
        // What nothing mentions has no place in the hierarchy, and is told by its name.
        let is_unknown = node.object.0 >= ObjectNum::TRANSIENT_FIRST;
        let unknown = is_unknown.then(|| here.resolver.object_of(node)).transpose()?;
        let budget = RefCell::new(budget);
        let scoped = scope(
            &delegation.clauses,
            pair,
            |anchor| {
                let number = if follows {
                    anchors.get(anchor).copied().flatten()
                } else {
                    here.resolver.numbered(anchor).map_err(Failure::Whole)?
                };
                let Some(number) = number else { return Ok(unknown.as_ref() == Some(anchor)) };
                Ok(heights.is_within(&here.in_force.plan, here.view, (object, number), &mut budget.borrow_mut())?)
            },
            |caveat| {
                let value = condition(here, (delegation, caveat), conditions, &mut budget.borrow_mut())?;
                match value.fault {
                    Some(error) => Err(Failure::Caveat(error)),
                    None => Ok(value.membership),
                }
            },
        );
        let scoped = match scoped {
            Ok(scoped) => scoped,
            Err(Failure::Caveat(error)) => return Ok((Value::failed(error), DenyReason::ConditionFalse)),
            Err(Failure::Whole(error)) => return Err(error),
        };
        let mut value = Value::of(scoped.membership());
        let reason = scoped.reason().unwrap_or(DenyReason::ConditionFalse);
        let open = match scoped {
            Scoped::Conditional { items: _, open } => open,
            Scoped::Within { .. } | Scoped::OutOfScope { .. } | Scoped::ConditionFalse { .. } => Vec::new(),
        };
        for at in open {
            let clause = delegation.clauses.get(at.clause);
            let item = clause.and_then(|Clause { items }| items.get(at.item));
            if let Some(caveat) = item.and_then(|item| item.caveat.as_ref()) {
                let budget = &mut budget.borrow_mut();
                value.missing.extend(condition(here, (delegation, caveat), conditions, budget)?.missing);
            }
        }
        Ok((value, reason))
    }
}

/// Why a scope could not be judged.
enum Failure {
    /// A caveat of an item could not be evaluated, which the rest may make up for.
    Caveat(Error),
    Whole(Error),
}

impl From<walk::Error> for Failure {
    fn from(error: walk::Error) -> Failure {
        Failure::Whole(error.into())
    }
}

/// What the caveat of an item is worth under a request's context; a value stored with it wins.
fn condition(
    here: Here<'_>,
    (delegation, caveat): (&Delegation, &TupleCaveat),
    conditions: &mut Vec<(TupleCaveat, Value)>,
    budget: &mut Budget,
) -> Result<Value, walk::Error> {
    if let Some((_, known)) = conditions.iter().find(|(of, _)| of == caveat) {
        return Ok(known.clone());
    }
    budget.spend(EVALUATION_EDGES)?;
    let number = here.in_force.names.caveat_number(caveat.name.as_str());
    let value = match number.and_then(|number| here.in_force.plan.caveat(number)) {
        // A condition that no longer exists does not hold.
        None => Value::of(Membership::Not),
        Some(compiled) => match compiled.evaluate(&caveat.context, here.context) {
            Outcome::True => Value::of(Membership::Member),
            Outcome::False => Value::of(Membership::Not),
            Outcome::Missing(missing) => Value { missing, ..Value::of(Membership::Conditional) },
            Outcome::Failed(text) => {
                let message =
                    format!("the caveat `{}` of `{}` cannot be evaluated: {text}", caveat.name, delegation.id);
                Value::failed(
                    Error::new(Kind::InvalidArgument, "CAVEAT_FAILED", message)
                        .with_fact("delegation", delegation.id.to_string())
                        .with_fact("caveat", caveat.name.as_str()),
                )
            }
        },
    };
    conditions.push((caveat.clone(), value.clone()));
    Ok(value)
}

/// The definition and name that a scope has to have.
fn pair(in_force: &InForce, node: Node) -> Result<(TypeName, RelationName), Error> {
    let member = in_force.names.member(node.member)?;
    let name = member.name.clone().ok_or_else(|| Error::new(Kind::Internal, "INTERNAL", "an internal error"))?;
    Ok((in_force.names.type_name(member.of)?.clone(), name))
}

fn denied(denial: Option<Denial>, valid_until: Option<Timestamp>) -> Judged {
    Judged { membership: Membership::Not, missing: Vec::new(), valid_until, denial, by: None, trail: Vec::new() }
}

/// The effect of a chain as an answer, which holds `until` then if that is given, or as long as the effect does.
fn told(by: usize, effect: Effect, until: Option<Option<Timestamp>>) -> Judged {
    let Effect { value, denial, passed: _, trail } = effect;
    let Value { membership, missing, valid_until, fault: _ } = value;
    Judged { membership, missing, valid_until: until.unwrap_or(valid_until), denial, by: Some(by), trail }
}
