//! Check and CheckBulk: at which revision? what does it mean? is it so?

use super::acting::{Authority, Form, Keep, judge_acting};
use super::effect::{Here, Judged};
use super::resolve::{Resolver, Transient};
use super::situation::{Situation, Standing};
use super::{Engine, Error, Kind};
use crate::model::{
    Acting, Cancel, ChainLink, Decision, Denial, Mandate, MemberNum, Membership, ObjectNum, Question, RelationName,
    Revision, SubjectRef, Timestamp, TypeName, TypeNum, Witness,
};
use crate::store::SubjectKey;
use crate::walk::{Budget, Node};
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

/// A permission of a type, by its names and by its numbers.
type Permission<'a> = (&'a TypeName, &'a RelationName, (TypeNum, MemberNum));

/// What the questions of a batch share: many ask for one permission of one type, or for one subject.
#[derive(Default)]
struct Known<'a> {
    /// The one asked for last.
    permission: Option<Permission<'a>>,
    /// Who asked last, for itself: its number, and whether it is suspended.
    own: Option<(&'a SubjectRef, SubjectKey, bool)>,
    /// What was found about callers that act for another, with the numbers that it speaks in.
    callers: HashMap<&'a SubjectRef, (Authority, Transient)>,
}

impl Engine {
    /// Does the subject have the permission on the object? Errors are errors, never a decision.
    pub fn check(&self, question: &Question, options: &CheckOptions) -> Result<CheckAnswer, Error> {
        judge_acting(&options.acting, &options.situation)?;
        let standing = self.stand(&options.situation, &options.cancel)?;
        let budget = Budget::new(&self.limits, options.cancel.clone());
        let answer = self.answer(&standing, question, options, budget, &mut Known::default())?;
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
        match self.answer(&standing, question, options, budget, &mut Known::default()) {
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
        let mut known = Known::default();
        let mut answers = Vec::with_capacity(questions.len());
        for question in questions {
            if options.cancel.is_set() {
                return Err(Error::new(Kind::Cancelled, "CANCELLED", "cancelled"));
            }
            let budget = Budget::new(&self.limits, options.cancel.clone());
            answers.push(self.answer(&standing, question, options, budget, &mut known));
        }
        Ok(BulkAnswer { answers, revision: standing.revision(), historical: standing.historical })
    }

    /// `known` keeps what the next question of a batch may share.
    fn answer<'a>(
        &self,
        standing: &Standing,
        question: &'a Question,
        options: &CheckOptions,
        mut budget: Budget,
        known: &mut Known<'a>,
    ) -> Result<Answer, Error> {
        let CheckOptions { situation, acting, explain, cancel: _ } = options;
        let Standing { in_force, view, transient, .. } = standing;
        let (subject, context) = (&question.subject, &situation.context);
        let Known { permission, own, callers } = known;
        let keeping = (context, Keep::Nothing);
        let (judged, chain, resolver) = match acting.mandate {
            Mandate::Own => {
                let mut resolver = Resolver::again(&self.store, in_force, transient);
                let node = asked_node(&mut resolver, question, permission)?;
                let mut authority = match own {
                    Some((of, caller, is_suspended)) if *of == subject => {
                        Authority::itself(*caller, *is_suspended, Keep::Nothing)
                    }
                    Some(_) | None => Authority::of(standing, &mut resolver, (subject, acting), keeping, &mut budget)?,
                };
                // A number that is this question's alone may be another id's in the next.
                if let Form::Own { is_suspended } = authority.form
                    && authority.caller.object.0 < ObjectNum::TRANSIENT_FIRST
                {
                    *own = Some((subject, authority.caller, is_suspended));
                }
                let here = Here { in_force, view, resolver: &resolver, context };
                let judged = authority.judge(here, node, &mut budget, *explain)?;
                let chain = authority.shown(judged.by);
                (judged, chain, resolver)
            }
            Mandate::Delegation(_) | Mandate::OnBehalfOf(_) => {
                let (authority, transient) = match callers.entry(subject) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(unknown) => {
                        let mut resolver = Resolver::again(&self.store, in_force, transient);
                        let authority =
                            Authority::of(standing, &mut resolver, (subject, acting), keeping, &mut budget)?;
                        unknown.insert((authority, resolver.into_transient()))
                    }
                };
                let mut resolver = Resolver::again(&self.store, in_force, transient);
                let node = asked_node(&mut resolver, question, permission)?;
                let here = Here { in_force, view, resolver: &resolver, context };
                let judged = authority.judge(here, node, &mut budget, *explain)?;
                let chain = authority.shown(judged.by);
                (judged, chain, resolver)
            }
        };
        let Judged { membership, missing, valid_until, denial, by: _, trail } = judged;
        let decision = decided(membership);
        let witness = match decision {
            Decision::Allow => explain.then(|| resolver.witness(view, &trail)).transpose()?,
            Decision::Conditional | Decision::Deny => None,
        };
        Ok(Answer { decision, witness, missing, valid_until, denial, chain, edges: budget.edges() })
    }
}

/// What is asked, in numbers: those of the permission are the last question's, if it asked for the same.
fn asked_node<'a>(
    resolver: &mut Resolver<'_>,
    question: &'a Question,
    known: &mut Option<Permission<'a>>,
) -> Result<Node, Error> {
    let Question { object, permission, subject: _ } = question;
    let (of, member) = match known {
        Some((object_type, name, numbers)) if **object_type == object.object_type && *name == permission => *numbers,
        Some(_) | None => {
            let numbers = resolver.asked_member(&object.object_type, "object.type", permission, "permission")?;
            *known = Some((&object.object_type, permission, numbers));
            numbers
        }
    };
    resolver.node_of(of, member, &object.id)
}

/// What the engine says of what the walk found. The one place an Allow is made.
pub(super) fn decided(membership: Membership) -> Decision {
    match membership {
        Membership::Member => Decision::Allow,
        Membership::Conditional => Decision::Conditional,
        Membership::Not => Decision::Deny,
    }
}
