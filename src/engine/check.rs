//! Check and CheckBulk: at which revision? what does it mean? is it so?

use super::resolve::Resolver;
use super::situation::{Situation, Standing};
use super::{Engine, Error, Kind};
use crate::model::{Cancel, Decision, Membership, Question, Revision, Timestamp, Witness};
use crate::walk::{self, Budget};

/// How a question is asked.
#[derive(Clone, Debug, Default)]
pub struct CheckOptions {
    pub situation: Situation,
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
    /// Of a conditional decision: the context fields that could still decide it, sorted.
    pub missing: Vec<String>,
    /// Time alone does not change the decision before it. `None`: it never does.
    pub valid_until: Option<Timestamp>,
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
        let standing = self.stand(&options.situation, &options.cancel)?;
        let answer = self.answer(&standing, question, options)?;
        Ok(CheckAnswer { answer, revision: standing.revision(), historical: standing.historical })
    }

    /// Many questions at one revision and one clock reading; each has an answer or an error of its own.
    pub fn check_bulk(&self, questions: &[Question], options: &CheckOptions) -> Result<BulkAnswer, Error> {
        let most = self.limits.bulk_items_max;
        if questions.len() > most {
            let message = format!("{} questions; one call takes at most {most}", questions.len());
            let error = Error::new(Kind::ResourceExhausted, "TOO_MANY_ITEMS", message);
            return Err(error.with_fact("field", "items").with_fact("limit", most.to_string()));
        }
        let standing = self.stand(&options.situation, &options.cancel)?;
        let mut answers = Vec::with_capacity(questions.len());
        for question in questions {
            if options.cancel.is_set() {
                return Err(Error::new(Kind::Cancelled, "CANCELLED", "cancelled"));
            }
            answers.push(self.answer(&standing, question, options));
        }
        Ok(BulkAnswer { answers, revision: standing.revision(), historical: standing.historical })
    }

    fn answer(&self, standing: &Standing, question: &Question, options: &CheckOptions) -> Result<Answer, Error> {
        let Standing { in_force, view, historical: _, transient } = standing;
        let mut resolver = Resolver::again(&self.store, in_force, transient);
        let asked = resolver.question(question)?;
        let mut budget = Budget::new(&self.limits, options.cancel.clone());
        let context = &options.situation.context;
        let found = walk::check(&in_force.plan, view, asked, context, &mut budget, options.explain)
            .map_err(|error| resolver.told(error))?;
        let decision = decided(found.membership);
        let witness = match decision {
            Decision::Allow => options.explain.then(|| resolver.witness(view, &found.trail)).transpose()?,
            Decision::Conditional | Decision::Deny => None,
        };
        let (missing, valid_until) = (found.missing, found.valid_until);
        Ok(Answer { decision, witness, missing, valid_until, edges: budget.edges() })
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
