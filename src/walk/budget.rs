//! How much one question may cost. Exceeding it is an error, never a decision.

use crate::graph::{self, RowKey};
use crate::model::{AT_ONCE_EDGES_MAX, Cancel, CaveatNum, Limits};

/// Why a question has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// More edges than one question may visit.
    #[error("the question needs more than {edges_max} edges")]
    EdgesSpent { edges_max: u64 },
    /// Nesting that needs more memory than one question may use.
    #[error("the question needs more than {bytes_max} bytes of nesting")]
    StackSpent { bytes_max: usize },
    /// More steps than one expansion may have.
    #[error("the expansion has more than {steps_max} steps")]
    ExpansionTooLarge { steps_max: usize },
    /// Nobody waits for the answer any more.
    #[error("cancelled")]
    Cancelled,
    /// A caveat that could decide the question could not be evaluated.
    #[error("the caveat of a tuple failed: {}", .0.text)]
    CaveatFailed(Failure),
    /// The store could not be read.
    #[error(transparent)]
    Graph(#[from] graph::Error),
    /// The plan lacks a member that data or the plan names.
    #[error("the schema has no member number {0}")]
    Unplanned(u32),
    /// A row carries a caveat that the plan lacks, or a context that is not JSON.
    #[error("a row's caveat, number {0}, is not of the schema")]
    UnplannedCaveat(u32),
}

/// A row's caveat that could not be evaluated.
#[derive(Debug, Clone)]
pub struct Failure {
    pub row: RowKey,
    pub caveat: CaveatNum,
    pub text: String,
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        Error::CaveatFailed(failure)
    }
}

impl Error {
    /// Whether only the budget was too small. Whoever may leave something out, and says so, can go on without it.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        match self {
            Error::EdgesSpent { .. } | Error::StackSpent { .. } => true,
            Error::ExpansionTooLarge { .. }
            | Error::Cancelled
            | Error::CaveatFailed(_)
            | Error::Graph(_)
            | Error::Unplanned(_)
            | Error::UnplannedCaveat(_) => false,
        }
    }
}

/// What is left of a question's budget.
#[derive(Debug)]
pub struct Budget {
    edges: u64,
    edges_max: u64,
    segments: usize,
    segments_max: usize,
    cancel: Cancel,
}

/// Bytes by which the stack grows at a time, on the heap.
const SEGMENT_BYTES: usize = 4 << 20;
/// Bytes that must be left for one level: the deepest expression, and a read that reaches the disk.
const RED_ZONE_BYTES: usize = 256 << 10;

impl Budget {
    /// A whole budget.
    #[must_use]
    pub fn new(limits: &Limits, cancel: Cancel) -> Budget {
        let segments_max = limits.walk_stack_bytes_max / SEGMENT_BYTES;
        Budget { edges: 0, edges_max: limits.edges_max, segments: 0, segments_max, cancel }
    }

    /// What may be spent by who must not wait.
    #[must_use]
    pub fn at_once(limits: &Limits, cancel: Cancel) -> Budget {
        Budget { edges_max: limits.edges_max.min(AT_ONCE_EDGES_MAX), ..Budget::new(limits, cancel) }
    }

    /// Goes on with what is left, on behalf of whoever waits now.
    pub fn on_behalf_of(&mut self, cancel: Cancel) {
        self.cancel = cancel;
    }

    /// Edges visited so far.
    #[must_use]
    pub fn edges(&self) -> u64 {
        self.edges
    }

    /// How many more edges may be visited.
    #[must_use]
    pub fn edges_left(&self) -> u64 {
        self.edges_max - self.edges
    }

    /// Takes `edges` from the budget.
    pub fn spend(&mut self, edges: u64) -> Result<(), Error> {
        const LOOK_EVERY: u64 = 256;
        let before = self.edges / LOOK_EVERY;
        self.edges = self.edges.saturating_add(edges);
        if self.edges > self.edges_max {
            return Err(Error::EdgesSpent { edges_max: self.edges_max });
        }
        if self.edges / LOOK_EVERY != before && self.cancel.is_set() {
            return Err(Error::Cancelled);
        }
        Ok(())
    }

    /// Counts a new stack segment, if this level needs one: data of any depth is answered, and no depth crashes.
    pub(super) fn enter(&mut self) -> Result<Room, Error> {
        if stacker::remaining_stack().is_some_and(|left| left >= RED_ZONE_BYTES) {
            return Ok(Room::Here);
        }
        if self.segments >= self.segments_max {
            return Err(Error::StackSpent { bytes_max: self.segments_max * SEGMENT_BYTES });
        }
        self.segments += 1;
        Ok(Room::NewSegment)
    }

    /// A segment was given back.
    pub(super) fn leave(&mut self, room: Room) {
        match room {
            Room::Here => {}
            Room::NewSegment => self.segments -= 1,
        }
    }
}

/// Where the next level runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Room {
    Here,
    NewSegment,
}

impl Room {
    /// Runs one level.
    pub(super) fn run<T>(self, level: impl FnOnce() -> T) -> T {
        match self {
            Room::Here => level(),
            Room::NewSegment => stacker::grow(SEGMENT_BYTES, level),
        }
    }
}
