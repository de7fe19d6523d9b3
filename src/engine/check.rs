//! Check and CheckBulk: at which revision? what does it mean? is it so?

use super::resolve::Resolver;
use super::schemas::{InForce, no_schema};
use super::{Engine, Error, Kind};
use crate::graph::View;
use crate::model::{Cancel, Consistency, Decision, Membership, Question, Revision, Witness};
use crate::walk::{self, Budget};

/// How a question is asked.
#[derive(Clone, Debug, Default)]
pub struct CheckOptions {
    pub consistency: Consistency,
    /// Whether an allowed question's path is wanted.
    pub explain: bool,
    pub cancel: Cancel,
}

/// What was found for one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub decision: Decision,
    /// One path by which it is allowed, if it is and that was wanted.
    pub witness: Option<Witness>,
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
        let pinned = self.pin(&options.consistency)?;
        let in_force = self.schemas.of(&self.store, &pinned.snapshot, &self.limits)?.ok_or_else(no_schema)?;
        let revision = pinned.snapshot.revision();
        let view = View::new(pinned.snapshot, self.clock.now());
        let answer = self.answer(&view, &in_force, question, options)?;
        Ok(CheckAnswer { answer, revision, historical: pinned.historical })
    }

    /// Many questions at one revision and one clock reading; each has an answer or an error of its own.
    pub fn check_bulk(&self, questions: &[Question], options: &CheckOptions) -> Result<BulkAnswer, Error> {
        let most = self.limits.bulk_items_max;
        if questions.len() > most {
            let message = format!("{} questions; one call takes at most {most}", questions.len());
            let error = Error::new(Kind::ResourceExhausted, "TOO_MANY_ITEMS", message);
            return Err(error.with_fact("field", "items").with_fact("limit", most.to_string()));
        }
        let pinned = self.pin(&options.consistency)?;
        let in_force = self.schemas.of(&self.store, &pinned.snapshot, &self.limits)?.ok_or_else(no_schema)?;
        let revision = pinned.snapshot.revision();
        let view = View::new(pinned.snapshot, self.clock.now());
        let mut answers = Vec::with_capacity(questions.len());
        for question in questions {
            if options.cancel.is_set() {
                return Err(Error::new(Kind::Cancelled, "CANCELLED", "cancelled"));
            }
            answers.push(self.answer(&view, &in_force, question, options));
        }
        Ok(BulkAnswer { answers, revision, historical: pinned.historical })
    }

    fn answer(
        &self,
        view: &View,
        in_force: &InForce,
        question: &Question,
        options: &CheckOptions,
    ) -> Result<Answer, Error> {
        let mut resolver = Resolver::new(&self.store, in_force);
        let asked = resolver.question(question)?;
        let mut budget = Budget::new(&self.limits, options.cancel.clone());
        let found = walk::check(&in_force.plan, view, asked, &mut budget, options.explain)?;
        let (decision, witness) = match found.membership {
            // The one place an Allow is made.
            Membership::Member => {
                let witness = options.explain.then(|| resolver.witness(&found.trail)).transpose()?;
                (Decision::Allow, witness)
            }
            Membership::Conditional => (Decision::Conditional, None),
            Membership::Not => (Decision::Deny, None),
        };
        Ok(Answer { decision, witness, edges: budget.edges() })
    }
}
