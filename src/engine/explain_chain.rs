//! Explain of a question asked for another: every chain that counts, and what each of its tests says.
//!
//! INVARIANT: the tests are those by which the answer is found, made one by one and none left out; a test that the answer
//! did not need is made here too, and changes nothing of it.

use super::acting::{Authority, Form, Taken, Value};
use super::check::decided;
use super::effect::{Here, Test, Tested, tests};
use super::situation::Standing;
use super::{Engine, Error, Explained};
use crate::model::{
    ACTING_CHAINS_MAX, AskedPermissions, Cancel, ChainLink, Clause, Decision, Delegation, DelegationState, Denial,
    DenyReason, ExplainStep, Membership, NearMiss, ObjectRef, PermissionName, Question, ScopeItem, SubjectRef,
    Timestamp,
};
use crate::walk::{Asked, Budget, Node};

/// One chain, and every test of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ExplainedChain {
    /// Root first.
    pub links: Vec<ChainLink>,
    pub decision: Decision,
    pub denial: Option<Denial>,
    /// In the order that says which is named, those after the first that denies too.
    pub tests: Vec<ChainTest>,
}

/// What a test of a chain is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainTestKind {
    /// The chain is as the request expects and presents it.
    Expected,
    /// Whoever acts by the delegation is its delegate, or in it.
    Link,
    /// The delegation is live.
    State,
    /// The delegation covers what is asked.
    Scope,
    /// The principal is not suspended.
    Active,
    /// The principal has the permission itself.
    Own,
}

/// One test of a chain.
#[derive(Debug, Clone, PartialEq)]
pub struct ChainTest {
    pub kind: ChainTestKind,
    /// 0 is the root, i is delegation i and whoever acts by it; `None`: the chain as a whole.
    pub hop: Option<usize>,
    /// Of a link, and of what is tested of a principal.
    pub actor: Option<ObjectRef>,
    /// Conditional too where `failed` says why nobody can tell.
    pub decision: Decision,
    /// What is named if this is the first that denies.
    pub reason: DenyReason,
    pub missing: Vec<String>,
    /// What was found, for a person.
    pub found: String,
    pub failed: Option<String>,
    /// Of `Own`, in the chain by which the answer was found: the explanation of the actor's own answer.
    pub steps: Vec<ExplainStep>,
    pub truncated: bool,
    pub near_misses: Vec<NearMiss>,
    pub near_misses_cut: bool,
}

impl Engine {
    /// Every test of every chain that counts for an authority. `answered` is the chain by which the answer was found: of
    /// it, the actors' own answers are explained too. The second value is false where chains are left out.
    pub(super) fn explain_chains(
        &self,
        standing: &Standing,
        here: Here<'_>,
        authority: &mut Authority,
        (question, node): (&Question, Node),
        answered: &[ChainLink],
        cancel: &Cancel,
    ) -> Result<(Vec<ExplainedChain>, bool), Error> {
        let form = std::mem::replace(&mut authority.form, Form::Own { is_suspended: false });
        let chains = match &form {
            Form::Own { .. } => &[],
            Form::Chains { chains, others_until: _ } => chains.as_slice(),
        };
        let mut explained = Vec::with_capacity(chains.len());
        // The one by which it was answered in any case, and of the others the first.
        let mut others_left = ACTING_CHAINS_MAX - 1;
        let mut is_whole = true;
        for taken in chains {
            let links = taken.shown();
            let explain = links == answered;
            if !explain {
                if others_left == 0 {
                    is_whole = false;
                    continue;
                }
                others_left -= 1;
            }
            let mut chain = ExplainedChain { links, decision: Decision::Allow, denial: None, tests: Vec::new() };
            for test in tests(taken.links.len()) {
                let mut budget = Budget::new(&self.limits, cancel.clone());
                let tested = authority.test(here, node, taken, test, &mut budget, false)?;
                let mut shown = told(here, taken, test, tested);
                if let (true, Test::Own(hop)) = (explain, test)
                    && let Some(actor) = taken.actors.get(hop)
                    && let Some(subject) = actor.key
                    && shown.failed.is_none()
                {
                    let of = SubjectRef::Object(actor.object.clone());
                    let own = Question { subject: of, ..question.clone() };
                    let asked = (&own, Asked { node, subject });
                    let Explained { steps, truncated, near_misses, near_misses_cut, .. } =
                        self.explain_at(standing, here.resolver, asked, here.context, cancel)?;
                    shown = ChainTest { steps, truncated, near_misses, near_misses_cut, ..shown };
                }
                chain.take(&shown);
                chain.tests.push(shown);
            }
            explained.push(chain);
        }
        authority.form = form;
        Ok((explained, is_whole))
    }
}

impl ExplainedChain {
    /// The least of all tests, and the first that denies; if none does, the first that is open.
    fn take(&mut self, test: &ChainTest) {
        let denial = |reason| Some(Denial { reason, hop: test.hop });
        match (test.decision, self.decision) {
            (Decision::Allow, _) | (_, Decision::Deny) | (Decision::Conditional, Decision::Conditional) => {}
            (Decision::Deny, Decision::Allow | Decision::Conditional) => {
                self.decision = Decision::Deny;
                self.denial = denial(test.reason);
            }
            (Decision::Conditional, Decision::Allow) => {
                self.decision = Decision::Conditional;
                // Of one that nobody can make, context would not help.
                self.denial = if test.failed.is_none() { denial(DenyReason::ContextMissing) } else { None };
            }
        }
    }
}

fn told(here: Here<'_>, taken: &Taken, test: Test, tested: Tested) -> ChainTest {
    let Tested { value, reason, .. } = tested;
    let Value { membership, mut missing, valid_until: _, fault } = value;
    missing.sort_unstable();
    missing.dedup();
    let delegation = |hop: usize| taken.chain.delegations().nth(hop.wrapping_sub(1));
    let actor = |hop: usize| taken.actors.get(hop).map(|actor| actor.object.clone());
    let holds = membership == Membership::Member;
    let (kind, actor, found) = match test {
        Test::Expected => {
            let whole: Vec<String> = taken.actors.iter().map(|actor| actor.object.to_string()).collect();
            (ChainTestKind::Expected, None, whole.join(" → "))
        }
        Test::Link(hop) => {
            let delegate = delegation(hop).map(|delegation| delegation.delegate.to_string()).unwrap_or_default();
            (ChainTestKind::Link, actor(hop), format!("given to {delegate}"))
        }
        Test::State(hop) => {
            let now = here.view.now();
            (ChainTestKind::State, None, delegation(hop).map(|of| state(of, now)).unwrap_or_default())
        }
        Test::Scope(hop) => (ChainTestKind::Scope, None, delegation(hop).map(scope).unwrap_or_default()),
        Test::Active(hop) => {
            let found = if holds { "not suspended" } else { "suspended" };
            (ChainTestKind::Active, actor(hop), found.to_owned())
        }
        Test::Own(hop) => {
            let found = if holds { "has it" } else { "does not have it" };
            (ChainTestKind::Own, actor(hop), found.to_owned())
        }
    };
    ChainTest {
        kind,
        hop: test.hop(),
        actor,
        decision: decided(membership),
        reason,
        missing,
        found,
        failed: fault.map(|error| error.message.clone()),
        steps: Vec::new(),
        truncated: false,
        near_misses: Vec::new(),
        near_misses_cut: false,
    }
}

fn state(of: &Delegation, now: Timestamp) -> String {
    match of.state(now) {
        DelegationState::Live => format!("live until {}", of.expires_at),
        DelegationState::NotYetValid => format!("begins at {}", of.not_before),
        DelegationState::Expired => format!("ended at {}", of.expires_at),
        DelegationState::Revoked => match &of.revoked {
            Some(revoked) if revoked.reason.is_empty() => format!("revoked at {}", revoked.at),
            Some(revoked) => format!("revoked at {}: {}", revoked.at, revoked.reason),
            None => "revoked".to_owned(),
        },
    }
}

/// What a delegation covers, in a line: each clause has to.
fn scope(of: &Delegation) -> String {
    let clauses: Vec<String> = of.clauses.iter().map(clause).collect();
    clauses.join(", and ")
}

fn clause(Clause { items }: &Clause) -> String {
    let items: Vec<String> = items.iter().map(item).collect();
    items.join(" or ")
}

fn item(ScopeItem { asked, frozen: _, within, caveat }: &ScopeItem) -> String {
    let permissions = match asked {
        AskedPermissions::All => "all that there was".to_owned(),
        AskedPermissions::Named(names) => {
            names.iter().map(PermissionName::to_string).collect::<Vec<String>>().join(", ")
        }
    };
    let within: Vec<String> = within.iter().map(ObjectRef::to_string).collect();
    let caveat = caveat.as_ref().map(|caveat| format!(" if {}", caveat.name)).unwrap_or_default();
    format!("{permissions} within {}{caveat}", within.join(", "))
}
