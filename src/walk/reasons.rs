//! What a row's condition is worth, and what a conditional answer hangs on.

use super::budget::{Budget, Error};
use super::memo::Node;
use crate::condition::Outcome;
use crate::graph::{RowCaveat, RowKey};
use crate::model::{CaveatNum, Context, Membership};
use crate::schema::Plan;
use foldhash::fast::RandomState;
use hashbrown::HashMap;

/// Conditions under one request's context. Each (caveat, stored context) is evaluated once a question.
pub(super) struct Conditions<'a> {
    request: &'a Context,
    known: HashMap<(CaveatNum, Box<[u8]>), Known, RandomState>,
    unknown: Vec<Unknown>,
}

#[derive(Clone, Copy)]
enum Known {
    Holds,
    Fails,
    /// The index of why not.
    Unknown(usize),
}

/// Why it cannot be said whether a condition holds.
#[derive(Clone)]
pub(super) enum Unknown {
    /// These fields were not given.
    Missing(Box<[String]>),
    /// Its caveat could not be evaluated.
    Failed(CaveatNum, Box<str>),
}

/// Edges that one evaluation costs: it may take a hundred thousand steps.
const EVALUATION_EDGES: u64 = 256;

impl<'a> Conditions<'a> {
    /// None evaluated yet.
    pub(super) fn new(request: &'a Context) -> Conditions<'a> {
        Conditions { request, known: HashMap::default(), unknown: Vec::new() }
    }

    /// What a row with this caveat is worth. A caveat that fails is unknown while combining, like one that lacks a
    /// field.
    pub(super) fn judge(
        &mut self,
        plan: &Plan,
        budget: &mut Budget,
        reasons: &mut Reasons,
        row: RowKey,
        caveat: &RowCaveat,
    ) -> Result<Membership, Error> {
        let key = (caveat.caveat, caveat.context.clone());
        let known = match self.known.get(&key) {
            Some(known) => *known,
            None => {
                budget.spend(EVALUATION_EDGES)?;
                let known = self.evaluate(plan, caveat)?;
                self.known.insert(key, known);
                known
            }
        };
        Ok(match known {
            Known::Holds => Membership::Member,
            Known::Fails => Membership::Not,
            Known::Unknown(condition) => {
                reasons.note(Formula::Condition { condition, row });
                Membership::Conditional
            }
        })
    }

    /// Why the condition of a formula is not known.
    pub(super) fn unknown(&self, condition: usize) -> Option<&Unknown> {
        self.unknown.get(condition)
    }

    fn evaluate(&mut self, plan: &Plan, row: &RowCaveat) -> Result<Known, Error> {
        let unplanned = || Error::UnplannedCaveat(row.caveat.0);
        let caveat = plan.caveat(row.caveat).ok_or_else(unplanned)?;
        let stored = if row.context.is_empty() {
            Context::new()
        } else {
            serde_json::from_slice(&row.context).map_err(|_| unplanned())?
        };
        let unknown = match caveat.evaluate(&stored, self.request) {
            Outcome::True => return Ok(Known::Holds),
            Outcome::False => return Ok(Known::Fails),
            Outcome::Missing(fields) => Unknown::Missing(fields.into()),
            Outcome::Failed(text) => Unknown::Failed(row.caveat, text.into()),
        };
        self.unknown.push(unknown);
        Ok(Known::Unknown(self.unknown.len() - 1))
    }
}

/// What a conditional value is made of: what is certain has been left out.
#[derive(Clone, Debug)]
pub(super) enum Formula {
    /// A node that is conditional itself.
    Node(Node),
    /// A condition that is not known, and the row it stands on.
    Condition {
        condition: usize,
        row: RowKey,
    },
    Any(Box<[Formula]>),
    All(Box<[Formula]>),
    Not(Box<Formula>),
}

/// How parts make a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Joined {
    Any,
    All,
}

/// Formulas of what is being worked out, noted only while a conditional answer is told. Costs nothing when it is off.
///
/// INVARIANT: what stands behind a mark is of parts that came to a conditional value, all of them once they are settled.
#[derive(Default)]
pub(super) struct Reasons {
    on: bool,
    found: Vec<Formula>,
}

impl Reasons {
    /// Notes from now on, or not; says whether it did before.
    pub(super) fn turn(&mut self, on: bool) -> bool {
        std::mem::replace(&mut self.on, on)
    }

    /// Whether it notes.
    pub(super) fn is_on(&self) -> bool {
        self.on
    }

    /// Notes one part.
    pub(super) fn note(&mut self, formula: Formula) {
        if self.on {
            self.found.push(formula);
        }
    }

    /// Where the list is now.
    pub(super) fn mark(&self) -> usize {
        self.found.len()
    }

    /// The parts since the mark make a whole of this value: one formula if it is conditional, else none.
    pub(super) fn settle(&mut self, mark: usize, value: Membership, joined: Joined) {
        if value != Membership::Conditional {
            self.found.truncate(mark);
        } else if self.found.len() > mark + 1 {
            let parts = self.found.drain(mark..).collect();
            self.found.push(match joined {
                Joined::Any => Formula::Any(parts),
                Joined::All => Formula::All(parts),
            });
        }
    }

    /// What was settled since the mark is subtracted.
    pub(super) fn subtract(&mut self, mark: usize) {
        if self.found.len() > mark
            && let Some(part) = self.found.pop()
        {
            self.found.push(Formula::Not(Box::new(part)));
        }
    }

    /// What was settled last, taken off the list.
    pub(super) fn take(&mut self) -> Option<Formula> {
        self.found.pop()
    }
}
