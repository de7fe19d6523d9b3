//! What a walk remembers: final answers, and interim ones that live and die with their component.
//!
//! A node that is asked while it is still being answered counts as Not, provisionally, at its depth on the stack.
//! INVARIANT: Member is final at once. Not and Conditional are final only if they leaned on nothing still open above
//! them. An interim Not stays usable while everything it leaned on is open or interim itself; as soon as an open node
//! below which it was found ends as anything but Not, it is forgotten, because it may have leaned on a "no" that was
//! none. When a component's root ends Not, its members keep Not, final: all of them together are consistent with it.
//! (Why a conditional answer is forgotten too: its own value could still rise when it is asked again.)

use crate::model::{MemberNum, Membership, ObjectNum};
use foldhash::fast::RandomState;
use hashbrown::HashMap;

/// A relation or permission on an object: what a walk asks of its subject.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Node {
    pub member: MemberNum,
    pub object: ObjectNum,
}

#[derive(Clone, Copy, Debug)]
enum Entry {
    /// Being answered, at this depth.
    Open(u32),
    /// Not, provisionally; the index into `interim`.
    Interim(usize),
    Final(Membership),
}

/// One open node.
#[derive(Debug)]
struct Frame {
    /// Length of `interim` when the node was opened.
    mark: usize,
    /// The smallest depth that anything asked below leaned on.
    low: u32,
}

/// Nothing was leaned on.
const NOTHING: u32 = u32::MAX;

#[derive(Debug, Default)]
pub(super) struct Memo {
    entries: HashMap<Node, Entry, RandomState>,
    frames: Vec<Frame>,
    interim: Vec<Node>,
    /// Answers that were forgotten and may be worked out again.
    forgotten: usize,
}

impl Memo {
    /// The answer to a node if it has one now, final or provisional; the open node then leans on what that leans on.
    pub(super) fn answer(&mut self, node: Node) -> Option<Membership> {
        let low = match *self.entries.get(&node)? {
            Entry::Final(value) => return Some(value),
            Entry::Open(depth) => depth,
            Entry::Interim(index) => {
                // The deepest open node that was open when this answer was found: what it leaned on has been noted
                // there, whether it is still open or has become interim since.
                let above = self.frames.partition_point(|frame| frame.mark <= index);
                above.checked_sub(1).and_then(|depth| self.frames.get(depth)).map_or(0, |frame| frame.low)
            }
        };
        self.lean(low);
        Some(Membership::Not)
    }

    /// A final answer, if the node has one.
    pub(super) fn final_answer(&self, node: Node) -> Option<Membership> {
        match self.entries.get(&node)? {
            Entry::Final(value) => Some(*value),
            Entry::Open(_) | Entry::Interim(_) => None,
        }
    }

    /// Takes a final answer that was found beside the nodes that are open, if the node has none and is not open itself.
    pub(super) fn learn(&mut self, node: Node, value: Membership) {
        self.entries.entry(node).or_insert(Entry::Final(value));
    }

    /// Whether nothing is known or open.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether one node is open, and no other above it.
    pub(super) fn has_one_open(&self) -> bool {
        self.frames.len() == 1
    }

    fn lean(&mut self, low: u32) {
        if let Some(frame) = self.frames.last_mut() {
            frame.low = frame.low.min(low);
        }
    }

    /// Opens a node that has no answer.
    pub(super) fn open(&mut self, node: Node) {
        let depth = u32::try_from(self.frames.len()).unwrap_or(NOTHING - 1);
        self.entries.insert(node, Entry::Open(depth));
        self.frames.push(Frame { mark: self.interim.len(), low: NOTHING });
    }

    /// Closes the node opened last with what was found, and settles what may now be settled.
    pub(super) fn close(&mut self, node: Node, value: Membership) {
        let Some(frame) = self.frames.pop() else { return };
        let depth = u32::try_from(self.frames.len()).unwrap_or(NOTHING - 1);
        let leans_above = frame.low < depth;
        match value {
            Membership::Member => {
                self.forget_interim(frame.mark);
                self.entries.insert(node, Entry::Final(value));
            }
            Membership::Not if leans_above => {
                self.entries.insert(node, Entry::Interim(self.interim.len()));
                self.interim.push(node);
                self.lean(frame.low);
            }
            Membership::Not => {
                for member in self.interim.drain(frame.mark..) {
                    self.entries.insert(member, Entry::Final(Membership::Not));
                }
                self.entries.insert(node, Entry::Final(value));
            }
            Membership::Conditional if leans_above => {
                self.forget_interim(frame.mark);
                self.entries.remove(&node);
                self.forgotten += 1;
                self.lean(frame.low);
            }
            Membership::Conditional => {
                self.forget_interim(frame.mark);
                self.entries.insert(node, Entry::Final(value));
            }
        }
    }

    fn forget_interim(&mut self, mark: usize) {
        for member in self.interim.drain(mark..) {
            self.entries.remove(&member);
            self.forgotten += 1;
        }
    }

    /// Whether so much was forgotten that working it out again could cost more than a worklist over the component.
    pub(super) fn is_thrashing(&self) -> bool {
        self.forgotten > 64 + 2 * self.entries.len()
    }

    /// Drops everything that is not final, and with it the open nodes: the question starts over by worklist.
    pub(super) fn keep_final_only(&mut self) {
        self.frames.clear();
        self.interim.clear();
        self.entries.retain(|_, entry| match entry {
            Entry::Final(_) => true,
            Entry::Open(_) | Entry::Interim(_) => false,
        });
        self.forgotten = 0;
    }

    /// Takes a final answer found by worklist.
    pub(super) fn settle(&mut self, node: Node, value: Membership) {
        self.entries.insert(node, Entry::Final(value));
    }
}
