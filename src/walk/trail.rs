//! How a member came to be one: noted while walking, told afterwards. A trace is a parameter of the walk, not a copy.
//!
//! INVARIANT: the steps of a node name only nodes that were found to be members before it, so following them ends.

use super::memo::Node;
use crate::graph::RowKey;
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};

/// One reason, within a node, why its subject is a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TrailStep {
    /// This row is live.
    Row(RowKey),
    /// The subject has this, whose own reasons stand deeper.
    Member(Node),
    /// The subject asked about is this userset itself.
    Itself(Node),
    /// What is subtracted here does not hold.
    Excluded(Node),
}

/// Steps of the node being answered, and those of each member found. Costs nothing when it is off.
#[derive(Debug, Default)]
pub(super) struct Trail {
    on: bool,
    steps: Vec<TrailStep>,
    members: HashMap<Node, Box<[TrailStep]>, RandomState>,
}

impl Trail {
    /// A trail that notes.
    pub(super) fn noting() -> Trail {
        Trail { on: true, ..Trail::default() }
    }

    /// Notes one step.
    pub(super) fn note(&mut self, step: TrailStep) {
        if self.on {
            self.steps.push(step);
        }
    }

    /// Where the trail is, to come back to when what was tried does not hold.
    pub(super) fn mark(&self) -> usize {
        self.steps.len()
    }

    /// What was tried since the mark did not hold.
    pub(super) fn back_to(&mut self, mark: usize) {
        self.steps.truncate(mark);
    }

    /// The steps since the mark are why this node is a member.
    pub(super) fn member(&mut self, node: Node, mark: usize) {
        if self.on && !self.members.contains_key(&node) {
            self.members.insert(node, self.steps.get(mark..).unwrap_or_default().into());
        }
        self.steps.truncate(mark);
    }

    /// The path to a member in reading order, each step with its depth. A part told once is not told again.
    pub(super) fn tell(&self, root: Node) -> Vec<(u32, TrailStep)> {
        let mut told = Vec::new();
        let mut seen: HashSet<Node, RandomState> = HashSet::default();
        let first = if self.members.contains_key(&root) { TrailStep::Member(root) } else { TrailStep::Itself(root) };
        let mut stack = vec![(0, first)];
        // Bounded: each member's steps are told once.
        while let Some((depth, step)) = stack.pop() {
            told.push((depth, step));
            match step {
                TrailStep::Member(node) if seen.insert(node) => {
                    let steps = self.members.get(&node).map_or(&[][..], |steps| steps);
                    stack.extend(steps.iter().rev().map(|step| (depth + 1, *step)));
                }
                TrailStep::Member(_) | TrailStep::Row(_) | TrailStep::Itself(_) | TrailStep::Excluded(_) => {}
            }
        }
        told
    }
}
