//! Explain: why is an answer what it is? For an allow its proof; for any other answer what was tried, what has ended, and
//! which one tuple would make it an allow.
//!
//! INVARIANT: the decision is Check's, found by the same call, and it fails where Check fails. What comes after it may be
//! cut short, and says so, but changes nothing of it.

use super::acting::{Authority, Form, Keep, judge_acting};
use super::check::decided;
use super::effect::{Here, Judged};
use super::explain_chain::ExplainedChain;
use super::resolve::Resolver;
use super::situation::{Situation, Standing};
use super::{Engine, Error};
use crate::graph::{self, RowKey, RowValue};
use crate::model::{
    Acting, Cancel, ChainLink, Context, Decision, Denial, ExplainPart, ExplainStep, NearMiss, Question, RelationTuple,
    Revision, SubjectRef, Timestamp,
};
use crate::walk::{
    self, Asked, Asker, Budget, Explanation, Nearby, Node, Part, Reasoned, Room, Search, Worth, near_misses, proof,
    tried,
};

/// How long a proposed tuple lasts whose relation takes none without an end.
const PROPOSED_LASTS_S: i64 = 3_600;

/// What is explained.
#[derive(Debug, Clone)]
pub struct Explain {
    pub question: Question,
    /// For whom the subject asks.
    pub acting: Acting,
    pub situation: Situation,
}

/// An answer and its reasons.
#[derive(Debug, Clone, PartialEq)]
pub struct Explained {
    pub decision: Decision,
    /// Of a conditional decision: the context fields that could still decide it, sorted.
    pub missing: Vec<String>,
    /// Time alone does not change the decision before it. `None`: it never does.
    pub valid_until: Option<Timestamp>,
    /// The proof of an allow; or what was tried.
    pub steps: Vec<ExplainStep>,
    /// Parts of the tree are cut.
    pub truncated: bool,
    /// Tuples each of which alone would make it an allow: those that name the subject or renew what has ended, nearest to the
    /// question first, then a few that put an object beneath another which the subject reaches. None for an allow.
    pub near_misses: Vec<NearMiss>,
    /// The search for them was ended before it was through: there may be more of the first kind.
    pub near_misses_cut: bool,
    /// Why it is no allow: of a suspended subject, and of a question asked for another.
    pub denial: Option<Denial>,
    /// The chain by which the answer was found, root first, when asked for another.
    pub chain: Vec<ChainLink>,
    /// When asked for another: every chain that counts, with every test of it. Steps and near misses stand with those.
    pub chains: Vec<ExplainedChain>,
    pub revision: Revision,
    /// Asked for by an exact token, and not the newest revision.
    pub historical: bool,
}

impl Engine {
    /// Explains the answer to a question. Errors are Check's. The decision may cost as much as one question, and the tree
    /// and the search for near misses as much again, each.
    pub fn explain(&self, request: &Explain, cancel: &Cancel) -> Result<Explained, Error> {
        let Explain { question, acting, situation } = request;
        judge_acting(acting, situation)?;
        let standing = self.stand(situation, cancel)?;
        let mut resolver = Resolver::again(&self.store, &standing.in_force, &standing.transient);
        let context = &situation.context;
        let mut budget = Budget::new(&self.limits, cancel.clone());
        let node = resolver.asked_node(&question.object, &question.permission)?;
        let asking = (&question.subject, acting);
        let keeping = (context, Keep::Nothing);
        let mut authority = Authority::of(&standing, &mut resolver, asking, keeping, &mut budget)?;
        if let Form::Own { is_suspended: false } = authority.form {
            let asked = Asked { node, subject: authority.caller };
            return self.explain_at(&standing, &resolver, (question, asked), context, cancel);
        }
        let here = Here { in_force: &standing.in_force, view: &standing.view, resolver: &resolver, context };
        let Judged { membership, missing, valid_until, denial, by, trail: _ } =
            authority.judge(here, node, &mut budget, false)?;
        let chain = authority.shown(by);
        let (chains, is_whole) =
            self.explain_chains(&standing, here, &mut authority, (question, node), &chain, cancel)?;
        Ok(Explained {
            decision: decided(membership),
            missing,
            valid_until,
            steps: Vec::new(),
            truncated: !is_whole,
            near_misses: Vec::new(),
            near_misses_cut: false,
            denial,
            chain,
            chains,
            revision: standing.revision(),
            historical: standing.historical,
        })
    }

    /// Explains a resolved question where a request stands.
    pub(super) fn explain_at(
        &self,
        standing: &Standing,
        resolver: &Resolver<'_>,
        (question, asked): (&Question, Asked),
        context: &Context,
        cancel: &Cancel,
    ) -> Result<Explained, Error> {
        let Standing { in_force, view, newest: _, historical, transient: _ } = standing;
        let (plan, limits) = (&in_force.plan, &self.limits);
        let told = |error: walk::Error| resolver.told(error);
        let budget = || Budget::new(limits, cancel.clone());
        let found = walk::check(plan, view, asked, context, &mut budget(), false).map_err(told)?;
        let decision = decided(found.membership);
        let (explanation, nearby, near_misses_cut) = match decision {
            Decision::Allow => {
                // Asked as it is written, which leaves a trail.
                let noted = walk::check(plan, view, asked, context, &mut budget(), true).map_err(told)?;
                (proof(view, &noted.trail, limits.proof_steps_max).map_err(told)?, Vec::new(), false)
            }
            Decision::Deny | Decision::Conditional => {
                let mut asker = Asker::new(asked.subject, context.clone());
                let room = Room { steps_max: limits.explain_steps_max, rows_max: limits.explain_rows_max };
                let explanation = tried(plan, view, asked, context, &mut asker, room, &mut budget()).map_err(told)?;
                let admitted = |key: &RowKey, ended: Option<&RowValue>| self.admitted(standing, resolver, key, ended);
                let search = Search {
                    found_max: limits.near_misses_max,
                    tried_max: limits.near_misses_tried_max,
                    admitted: &admitted,
                };
                let (nearby, cut) =
                    near_misses(plan, view, asked, context, &mut asker, &search, &mut budget()).map_err(told)?;
                (explanation, nearby, cut)
            }
        };
        let Explanation { steps, is_whole } = explanation;
        let steps = steps.into_iter().map(|step| named(resolver, &question.subject, step));
        let near_misses = nearby
            .into_iter()
            .map(|Nearby { kind, key, value }| Ok(NearMiss { kind, tuple: resolver.tuple(&key, &value)? }));
        Ok(Explained {
            decision,
            missing: found.missing,
            valid_until: found.valid_until,
            steps: steps.collect::<Result<_, Error>>()?,
            truncated: !is_whole,
            near_misses: near_misses.collect::<Result<_, Error>>()?,
            near_misses_cut,
            denial: None,
            chain: Vec::new(),
            chains: Vec::new(),
            revision: standing.revision(),
            historical: *historical,
        })
    }

    /// With which value a row may be written, without a caveat: lasting, or else for an hour; one that has ended may be
    /// renewed for an hour, as it was. A place in the hierarchy is never proposed, because it could close a cycle.
    fn admitted(
        &self,
        standing: &Standing,
        resolver: &Resolver<'_>,
        key: &RowKey,
        ended: Option<&RowValue>,
    ) -> Result<Option<RowValue>, graph::Error> {
        if standing.in_force.parents.contains(&key.relation) {
            return Ok(None);
        }
        let mut tuple = match ended {
            Some(ended) => resolver.stored_tuple(key, ended)?,
            None => RelationTuple { key: resolver.stored_key(key)?, caveat: None, expires_at: None },
        };
        let now = standing.view.now();
        // In whole seconds, for who reads it.
        let end = Timestamp::new(now.seconds().saturating_add(PROPOSED_LASTS_S), 0);
        for expires_at in [None, end].into_iter().skip(usize::from(ended.is_some())) {
            tuple.expires_at = expires_at;
            if standing.in_force.schema.admits(&tuple).is_ok() {
                return Ok(Some(RowValue { caveat: ended.and_then(|ended| ended.caveat.clone()), expires_at }));
            }
        }
        Ok(None)
    }
}

fn named(resolver: &Resolver<'_>, subject: &SubjectRef, step: Reasoned<'_>) -> Result<ExplainStep, Error> {
    let Reasoned { depth, value, failed, subtracted, part } = step;
    let failed = failed.map(|failure| resolver.told(failure.into()).message.clone());
    let part = match part {
        Part::Member(node) => ExplainPart::Member(resolver.member_of(node)?),
        Part::Repeated(node) => ExplainPart::Repeated(resolver.member_of(node)?),
        Part::Operator(operator) => ExplainPart::Operator(operator),
        Part::Arrow { relation, object, targets, quantifier } => {
            ExplainPart::Arrow(resolver.arrow(Node { member: relation, object }, targets, quantifier)?)
        }
        Part::Row(key, value, Worth { membership: _, missing, failed }) => {
            ExplainPart::Tuple { tuple: resolver.tuple(&key, &value)?, missing, failed }
        }
        Part::Ended(key, value) => ExplainPart::Ended(resolver.tuple(&key, &value)?),
        Part::Unnamed { admitted } => ExplainPart::Unnamed { subject: subject.clone(), admitted },
        Part::Empty => ExplainPart::Empty,
        Part::Userset(_) => ExplainPart::Userset(subject.clone()),
        Part::Itself(node) => ExplainPart::Itself(resolver.object_of(node)?),
        Part::Nil => ExplainPart::Nil,
        Part::Excluded(node) => ExplainPart::Excluded(resolver.member_of(node)?),
        Part::More(tuples) => ExplainPart::More { tuples },
        Part::Cut => ExplainPart::Cut,
    };
    Ok(ExplainStep { depth, value: value.map(decided), failed, subtracted, part })
}
