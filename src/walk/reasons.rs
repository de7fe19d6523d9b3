//! What a row's condition is worth, and why a conditional answer is one.

use super::budget::{Budget, Error};
use super::memo::Node;
use crate::condition::Outcome;
use crate::graph::{RowCaveat, RowKey};
use crate::model::{CaveatNum, Context, Membership};
use crate::schema::Plan;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::sync::Arc;

/// Conditions under one request's context. Each (caveat, stored context) is evaluated once a question.
pub(super) struct Conditions<'a> {
    request: &'a Context,
    known: HashMap<(CaveatNum, Box<[u8]>), Known, RandomState>,
}

#[derive(Clone)]
enum Known {
    Holds,
    Fails,
    Missing(Arc<[String]>),
    Failed(Arc<str>),
}

/// Edges that one evaluation costs: it may take a hundred thousand steps.
const EVALUATION_EDGES: u64 = 256;

impl<'a> Conditions<'a> {
    /// None evaluated yet.
    pub(super) fn new(request: &'a Context) -> Conditions<'a> {
        Conditions { request, known: HashMap::default() }
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
            Some(known) => known.clone(),
            None => {
                budget.spend(EVALUATION_EDGES)?;
                let known = self.evaluate(plan, caveat)?;
                self.known.insert(key, known.clone());
                known
            }
        };
        Ok(match known {
            Known::Holds => Membership::Member,
            Known::Fails => Membership::Not,
            Known::Missing(fields) => {
                reasons.note(Reason::Missing(fields));
                Membership::Conditional
            }
            Known::Failed(text) => {
                reasons.note(Reason::Failed(row, caveat.caveat, text));
                Membership::Conditional
            }
        })
    }

    fn evaluate(&self, plan: &Plan, row: &RowCaveat) -> Result<Known, Error> {
        let unplanned = || Error::UnplannedCaveat(row.caveat.0);
        let caveat = plan.caveat(row.caveat).ok_or_else(unplanned)?;
        let stored = if row.context.is_empty() {
            Context::new()
        } else {
            serde_json::from_slice(&row.context).map_err(|_| unplanned())?
        };
        Ok(match caveat.evaluate(&stored, self.request) {
            Outcome::True => Known::Holds,
            Outcome::False => Known::Fails,
            Outcome::Missing(fields) => Known::Missing(fields.into()),
            Outcome::Failed(text) => Known::Failed(text.into()),
        })
    }
}

/// Why something is conditional.
#[derive(Clone)]
pub(super) enum Reason {
    /// Because this node is, whose own reasons are kept.
    Node(Node),
    /// Because these fields were not given.
    Missing(Arc<[String]>),
    /// Because this row's caveat could not be evaluated.
    Failed(RowKey, CaveatNum, Arc<str>),
}

/// Reasons found so far, and those of each conditional node.
///
/// INVARIANT: a node's reasons are of derivations that do not lead through the node itself, for those add nothing: they
/// are kept only with a final answer. Those of an answer that leaned on an open node belong to whoever asked.
#[derive(Default)]
pub(super) struct Reasons {
    found: Vec<Reason>,
    of_node: HashMap<Node, Box<[Reason]>, RandomState>,
}

impl Reasons {
    /// Notes one.
    pub(super) fn note(&mut self, reason: Reason) {
        self.found.push(reason);
    }

    /// Where the list is now.
    pub(super) fn mark(&self) -> usize {
        self.found.len()
    }

    /// What was found since the mark matters only if it came to a conditional value.
    pub(super) fn settle(&mut self, mark: usize, value: Membership) {
        if value != Membership::Conditional {
            self.found.truncate(mark);
        }
    }

    /// A node came to a value: what was found since the mark is its own, if that value is final.
    pub(super) fn settle_node(&mut self, mark: usize, node: Node, value: Membership, is_final: bool) {
        self.settle(mark, value);
        if value == Membership::Conditional && is_final {
            self.of_node.insert(node, self.found.drain(mark..).collect());
            self.found.push(Reason::Node(node));
        }
    }

    /// Why a node is conditional, if that was noted.
    pub(super) fn of(&self, node: Node) -> Option<&[Reason]> {
        self.of_node.get(&node).map(|reasons| &**reasons)
    }

    /// What was found since the mark, taken off the list.
    pub(super) fn take_since(&mut self, mark: usize) -> Vec<Reason> {
        self.found.drain(mark..).collect()
    }
}
