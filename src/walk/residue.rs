//! What is left of a conditional answer: the formulas of all nodes it hangs on, and which unknown conditions decide it.
//!
//! The law: a condition that is not known decides if, some way the others may turn out, the answer hangs on it alone. So
//! neither a derivation that only leads back to where it came from counts, nor one that is never needed. Rows that share
//! caveat and stored context share one condition. Up to [`TRIED_MAX`] of them every way is tried; of more, and where none
//! decides alone (`a - a`), all that the answer's unknown parts lead to count: never one too few.
//!
//! INVARIANT: formulas are made of settled values alone, which are the least fixpoint, so nothing here hangs on the order
//! in which tuples were written or nodes were asked.

use super::budget::{Budget, Error};
use super::memo::Node;
use super::reasons::Formula;
use crate::graph::RowKey;
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};
use std::collections::VecDeque;

/// How many distinct conditions are tried each way: one bit of a word for every way that they may turn out.
const TRIED_MAX: usize = 6;

/// In which ways the condition of each place holds.
const WAYS: [u64; TRIED_MAX] = [
    0xaaaa_aaaa_aaaa_aaaa,
    0xcccc_cccc_cccc_cccc,
    0xf0f0_f0f0_f0f0_f0f0,
    0xff00_ff00_ff00_ff00,
    0xffff_0000_ffff_0000,
    0xffff_ffff_0000_0000,
];

/// The formulas of what an answer hangs on; its own is the first, then those of the nodes it names, as they are met.
pub(super) struct Residue {
    /// Where the formula of a node stands.
    places: HashMap<Node, usize, RandomState>,
    /// By place, without the first.
    nodes: Vec<Node>,
    cells: Vec<Cell>,
    /// Distinct conditions, each with the first row it was met on.
    conditions: Vec<(usize, RowKey)>,
    met: HashSet<usize, RandomState>,
    subtracts: bool,
}

struct Cell {
    formula: Formula,
    /// Parts of the formula: what it costs to work it out.
    parts: u64,
    /// Whose formulas name this node other than to subtract it.
    askers: Vec<usize>,
}

impl Residue {
    /// Of an answer of this formula; nothing is learnt yet of the nodes it names.
    pub(super) fn of(whole: Formula) -> Residue {
        let mut residue = Residue {
            places: HashMap::default(),
            nodes: Vec::new(),
            cells: Vec::new(),
            conditions: Vec::new(),
            met: HashSet::default(),
            subtracts: false,
        };
        residue.learn(whole);
        residue
    }

    /// A node whose formula is to be learnt next.
    pub(super) fn next(&self) -> Option<Node> {
        self.nodes.get(self.cells.len().checked_sub(1)?).copied()
    }

    /// The formula of the next node.
    pub(super) fn learn(&mut self, formula: Formula) {
        let parts = self.meet(&formula);
        self.cells.push(Cell { formula, parts, askers: Vec::new() });
    }

    /// Meets the nodes and conditions of a formula; how many parts it has. Recursion is bounded by the depth the schema's
    /// parser allows.
    fn meet(&mut self, formula: &Formula) -> u64 {
        match formula {
            Formula::Node(node) => {
                let next = self.nodes.len() + 1;
                if *self.places.entry(*node).or_insert(next) == next {
                    self.nodes.push(*node);
                }
                1
            }
            Formula::Condition { condition, row } => {
                if self.met.insert(*condition) {
                    self.conditions.push((*condition, *row));
                }
                1
            }
            Formula::Any(parts) | Formula::All(parts) => parts.iter().fold(1, |total, part| total + self.meet(part)),
            Formula::Not(part) => {
                self.subtracts = true;
                1 + self.meet(part)
            }
        }
    }

    /// The conditions that decide, each with a row it stands on.
    pub(super) fn deciding(mut self, budget: &mut Budget) -> Result<Vec<(usize, RowKey)>, Error> {
        // One condition decides alone, or none does.
        if !(2..=TRIED_MAX).contains(&self.conditions.len()) {
            return Ok(self.conditions);
        }
        let truth = self.truth(budget)?;
        let decides = |(at, ways): (usize, &u64)| (truth & ways) >> (1_u32 << at) != truth & !ways;
        let decides: Vec<bool> = WAYS.iter().enumerate().map(decides).collect();
        let all = self.conditions;
        let those: Vec<_> = all.iter().zip(decides).filter(|(_, decides)| *decides).map(|(one, _)| *one).collect();
        Ok(if those.is_empty() { all } else { those })
    }

    /// In which ways the answer is yes. The schema has no cycle through `-`: each round settles one more level of it, and
    /// a round that changes nothing has settled all.
    fn truth(&mut self, budget: &mut Budget) -> Result<u64, Error> {
        self.introduce();
        let mut settled = vec![0; self.cells.len()];
        // Bounded: there are only so many levels of subtraction in a schema.
        loop {
            let holds = self.least(&settled, budget)?;
            if !self.subtracts || holds == settled {
                return Ok(holds.first().copied().unwrap_or(0));
            }
            settled = holds;
        }
    }

    fn introduce(&mut self) {
        for at in 0..self.cells.len() {
            let mut named = Vec::new();
            if let Some(cell) = self.cells.get(at) {
                self.name(&cell.formula, &mut named);
            }
            for place in named {
                if let Some(cell) = self.cells.get_mut(place) {
                    cell.askers.push(at);
                }
            }
        }
    }

    fn name(&self, formula: &Formula, named: &mut Vec<usize>) {
        match formula {
            Formula::Node(node) => named.extend(self.places.get(node)),
            Formula::Condition { .. } | Formula::Not(_) => {}
            Formula::Any(parts) | Formula::All(parts) => parts.iter().for_each(|part| self.name(part, named)),
        }
    }

    /// The least fixpoint, in every way at once, over what is settled of the nodes that are subtracted.
    fn least(&self, settled: &[u64], budget: &mut Budget) -> Result<Vec<u64>, Error> {
        let mut holds = vec![0; self.cells.len()];
        // What was met last first: it stands beneath the others, mostly.
        let mut queue: VecDeque<usize> = (0..self.cells.len()).rev().collect();
        let mut queued = vec![true; self.cells.len()];
        // Bounded: a node is queued again when one it names comes to hold in more ways, of which there are 64.
        while let Some(at) = queue.pop_front() {
            let (Some(cell), Some(is_queued)) = (self.cells.get(at), queued.get_mut(at)) else { continue };
            *is_queued = false;
            budget.spend(cell.parts)?;
            let now = self.ways(&cell.formula, &holds, settled);
            let Some(before) = holds.get_mut(at) else { continue };
            if now == *before {
                continue;
            }
            *before = now;
            for asker in &cell.askers {
                if let Some(is_queued) = queued.get_mut(*asker)
                    && !std::mem::replace(is_queued, true)
                {
                    queue.push_back(*asker);
                }
            }
        }
        Ok(holds)
    }

    /// In which ways a formula holds. Every node it names has a place, and so a value.
    fn ways(&self, formula: &Formula, holds: &[u64], settled: &[u64]) -> u64 {
        match formula {
            Formula::Node(node) => self.places.get(node).and_then(|at| holds.get(*at)).copied().unwrap_or(0),
            Formula::Condition { condition, .. } => {
                let here = self.conditions.iter().zip(WAYS).find(|((met, _), _)| met == condition);
                here.map_or(0, |(_, ways)| ways)
            }
            Formula::Any(parts) => parts.iter().fold(0, |ways, part| ways | self.ways(part, holds, settled)),
            Formula::All(parts) => parts.iter().fold(u64::MAX, |ways, part| ways & self.ways(part, holds, settled)),
            Formula::Not(part) => !self.ways(part, settled, settled),
        }
    }
}
