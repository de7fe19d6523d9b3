//! Check and CheckBulk: at which revision? what does it mean? is it so?

use super::acting::{Authority, Keep, judge_acting};
use super::effect::{Here, Judged};
use super::resolve::{Resolver, Transient};
use super::situation::{Situation, Standing};
use super::{Engine, Error, Kind};
use crate::model::{
    Acting, Cancel, ChainLink, Decision, Denial, Mandate, Membership, Question, Revision, SubjectRef, Timestamp,
    Witness,
};
use crate::walk::Budget;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

/// How a question is asked.
#[derive(Clone, Debug, Default)]
pub struct CheckOptions {
    pub situation: Situation,
    /// For whom the subject asks, of every question of a batch.
    pub acting: Acting,
    /// Whether an allowed question's path is wanted: the subject's own, also when it acts for another.
    pub explain: bool,
    pub cancel: Cancel,
}

/// What was found for one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub decision: Decision,
    /// One path by which it is allowed, if it is and that was wanted.
    pub witness: Option<Witness>,
    /// Of a conditional decision: the context fields that could still decide it, sorted.
    pub missing: Vec<String>,
    /// Time alone does not change the decision before it. `None`: it never does.
    pub valid_until: Option<Timestamp>,
    /// Why it is no allow: of a suspended subject, and of a question asked for another.
    pub denial: Option<Denial>,
    /// The chain by which it was found, root first. Empty when the subject asked for itself, or there is no chain.
    pub chain: Vec<ChainLink>,
    /// Edges visited: tuples probed or read, and memberships asked.
    pub edges: u64,
}

/// The answer to one question, and the revision it holds at.
#[derive(Debug, Clone)]
pub struct CheckAnswer {
    pub answer: Answer,
    pub revision: Revision,
    /// Asked for by an exact token, and not the newest revision.
    pub historical: bool,
}

/// Answers in the order of the questions, all at one revision.
#[derive(Debug, Clone)]
pub struct BulkAnswer {
    pub answers: Vec<Result<Answer, Error>>,
    pub revision: Revision,
    /// Asked for by an exact token, and not the newest revision.
    pub historical: bool,
}

impl Engine {
    /// Does the subject have the permission on the object? Errors are errors, never a decision.
    pub fn check(&self, question: &Question, options: &CheckOptions) -> Result<CheckAnswer, Error> {
        judge_acting(&options.acting, &options.situation)?;
        let standing = self.stand(&options.situation, &options.cancel)?;
        let budget = Budget::new(&self.limits, options.cancel.clone());
        let answer = self.answer(&standing, question, options, budget, &mut HashMap::new())?;
        Ok(CheckAnswer { answer, revision: standing.revision(), historical: standing.historical })
    }

    /// What [`Engine::check`] says, for who must not wait: from memory alone and with little work. `None` where that is not
    /// enough, and the question is to be asked in earnest.
    #[must_use]
    pub fn check_at_once(&self, question: &Question, options: &CheckOptions) -> Option<Result<CheckAnswer, Error>> {
        let CheckOptions { situation, acting, explain, cancel } = options;
        if *explain || !situation.contextual_tuples.is_empty() || !self.store.dictionary().is_whole() {
            return None;
        }
        if let Err(error) = judge_acting(acting, situation) {
            return Some(Err(error));
        }
        let standing = match self.stand_at_once(situation, cancel)? {
            Ok(standing) => standing,
            Err(error) => return Some(Err(error)),
        };
        let is_at_hand = match &acting.mandate {
            Mandate::Own | Mandate::Delegation(_) => standing.newest.knows_suspended(),
            // Which delegations a root has is read in an index.
            Mandate::OnBehalfOf(_) => false,
        };
        if !is_at_hand {
            return None;
        }
        let budget = Budget::at_once(&self.limits, cancel.clone());
        match self.answer(&standing, question, options, budget, &mut HashMap::new()) {
            Ok(answer) => {
                Some(Ok(CheckAnswer { answer, revision: standing.revision(), historical: standing.historical }))
            }
            Err(error) if error.is_for_want_of_time() => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// Many questions at one revision and one clock reading; each has an answer or an error of its own.
    pub fn check_bulk(&self, questions: &[Question], options: &CheckOptions) -> Result<BulkAnswer, Error> {
        let most = self.limits.bulk_items_max;
        if questions.len() > most {
            let message = format!("{} questions; one call takes at most {most}", questions.len());
            let error = Error::new(Kind::ResourceExhausted, "TOO_MANY_ITEMS", message);
            return Err(error.with_fact("field", "items").with_fact("limit", most.to_string()));
        }
        judge_acting(&options.acting, &options.situation)?;
        let standing = self.stand(&options.situation, &options.cancel)?;
        let mut authorities = HashMap::new();
        let mut answers = Vec::with_capacity(questions.len());
        for question in questions {
            if options.cancel.is_set() {
                return Err(Error::new(Kind::Cancelled, "CANCELLED", "cancelled"));
            }
            let budget = Budget::new(&self.limits, options.cancel.clone());
            answers.push(self.answer(&standing, question, options, budget, &mut authorities));
        }
        Ok(BulkAnswer { answers, revision: standing.revision(), historical: standing.historical })
    }

    /// `taken` keeps what was found about callers that act for another, for the next question of a batch.
    fn answer(
        &self,
        standing: &Standing,
        question: &Question,
        options: &CheckOptions,
        mut budget: Budget,
        taken: &mut HashMap<SubjectRef, (Authority, Transient)>,
    ) -> Result<Answer, Error> {
        let CheckOptions { situation, acting, explain, cancel: _ } = options;
        let Standing { in_force, view, transient, .. } = standing;
        let (subject, context) = (&question.subject, &situation.context);
        let (judged, resolver) = match acting.mandate {
            Mandate::Own => {
                let mut resolver = Resolver::again(&self.store, in_force, transient);
                let node = resolver.asked_node(&question.object, &question.permission)?;
                let asking = (subject, acting);
                let keeping = (context, Keep::Nothing);
                let mut authority = Authority::of(standing, &mut resolver, asking, keeping, &mut budget)?;
                let here = Here { in_force, view, resolver: &resolver, context };
                (authority.judge(here, node, &mut budget, *explain)?, resolver)
            }
            Mandate::Delegation(_) | Mandate::OnBehalfOf(_) => {
                let (authority, transient) = match taken.entry(subject.clone()) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(unknown) => {
                        let mut resolver = Resolver::again(&self.store, in_force, transient);
                        let asking = (subject, acting);
                        let keeping = (context, Keep::Nothing);
                        let authority = Authority::of(standing, &mut resolver, asking, keeping, &mut budget)?;
                        unknown.insert((authority, resolver.into_transient()))
                    }
                };
                let mut resolver = Resolver::again(&self.store, in_force, transient);
                let node = resolver.asked_node(&question.object, &question.permission)?;
                let here = Here { in_force, view, resolver: &resolver, context };
                (authority.judge(here, node, &mut budget, *explain)?, resolver)
            }
        };
        let Judged { membership, missing, valid_until, denial, chain, trail } = judged;
        let decision = decided(membership);
        let witness = match decision {
            Decision::Allow => explain.then(|| resolver.witness(view, &trail)).transpose()?,
            Decision::Conditional | Decision::Deny => None,
        };
        Ok(Answer { decision, witness, missing, valid_until, denial, chain, edges: budget.edges() })
    }
}

/// What the engine says of what the walk found. The one place an Allow is made.
pub(super) fn decided(membership: Membership) -> Decision {
    match membership {
        Membership::Member => Decision::Allow,
        Membership::Conditional => Decision::Conditional,
        Membership::Not => Decision::Deny,
    }
}
