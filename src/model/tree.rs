//! Trees a person reads: what a permission is made of, and why an answer is what it is.
//!
//! INVARIANT: a tree is a list of its steps in reading order. What a step is made of follows it, one deeper; the first
//! step, at depth 0, is what was asked.

use super::{Decision, ObjectRef, RelationName, RelationTuple, SubjectRef};
use std::fmt;

/// A relation or permission on an object. Printed as `document:plan#view`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberOf {
    pub object: ObjectRef,
    pub member: RelationName,
}

/// What combines the parts of an expression.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operator {
    /// `+`: any part.
    Union,
    /// `&`: every part.
    Intersection,
    /// `-`: the first part, and not the second.
    Exclusion,
}

/// What is asked of the object of every subject of a relation. Printed as `parent->view`, or `parent.all(view)`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Arrow {
    /// Whose relation it is.
    pub object: ObjectRef,
    pub relation: RelationName,
    pub target: RelationName,
    /// Every one must have the target, and not just any.
    pub every: bool,
}

/// One step of what a permission is made of.
#[derive(Clone, PartialEq, Debug)]
pub struct ExpandStep {
    pub depth: u32,
    pub part: ExpandPart,
}

/// What a permission is made of.
#[derive(Clone, PartialEq, Debug)]
pub enum ExpandPart {
    /// A relation, with the tuples that stand in it below; or a permission, with its expression below.
    Member(MemberOf),
    /// One that is deeper than asked: nothing of it is shown.
    Beyond(MemberOf),
    /// One that is shown elsewhere in the tree.
    Repeated(MemberOf),
    /// Its parts stand below.
    Operator(Operator),
    /// The tuples of its relation stand below, and below each of them the target on the tuple's subject.
    Arrow(Arrow),
    /// A tuple that stands; if it names a userset, that stands below.
    Tuple(RelationTuple),
    /// `self`: the object itself.
    Itself(ObjectRef),
    /// Nobody: `nil`, or the target of an arrow that a subject's type does not have.
    Nil,
}

/// One step of why an answer is what it is.
#[derive(Clone, PartialEq, Debug)]
pub struct ExplainStep {
    pub depth: u32,
    /// What the part says by itself; `None` of those that say nothing, or whose question fails.
    pub value: Option<Decision>,
    /// Of a part with parts of its own: why its question fails, because the caveat of a tuple cannot be evaluated. What
    /// it is a part of may be decided all the same.
    pub failed: Option<String>,
    /// It stands at the right of a `-`: what it allows is taken away.
    pub subtracted: bool,
    pub part: ExplainPart,
}

/// What was asked on the way to an answer. A part without parts of its own does not decide, or has none.
#[derive(Clone, PartialEq, Debug)]
pub enum ExplainPart {
    /// A relation or permission.
    Member(MemberOf),
    /// One that is shown elsewhere in the tree.
    Repeated(MemberOf),
    /// Its parts stand below.
    Operator(Operator),
    /// Tuples of its relation stand below, and below each of them the target on the tuple's subject.
    Arrow(Arrow),
    /// A live tuple. Its value is its caveat's; of a conditional one, the fields that are missing. One whose caveat cannot
    /// be evaluated has no value, and says why.
    Tuple { tuple: RelationTuple, missing: Vec<String>, failed: Option<String> },
    /// A tuple that is stored and has ended at its expiry: it counts for nothing.
    Ended(RelationTuple),
    /// No live tuple of the relation above names the subject, or the relation takes no such subject.
    Unnamed { subject: SubjectRef, admitted: bool },
    /// No live tuple stands in the relation of the arrow above.
    Empty,
    /// The subject asked about is this userset itself.
    Userset(SubjectRef),
    /// `self`: the object itself.
    Itself(ObjectRef),
    /// Nobody: `nil`, or the target of an arrow that a subject's type does not have.
    Nil,
    /// What is subtracted here does not hold. It names the permission that subtracts where what it subtracts has no name.
    Excluded(MemberOf),
    /// So many further tuples of the relation above are not shown. None of them decides more than those that are.
    More { tuples: u64 },
    /// What stands here is not shown, because the tree has as many steps as it may have, or cost as much.
    Cut,
}

/// A change of one tuple.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum NearMissKind {
    /// Were the tuple written, in the place of one with the same key if there is one.
    Add,
    /// Were the tuple deleted.
    Remove,
}

/// One tuple that alone would make an answer an allow.
#[derive(Clone, PartialEq, Debug)]
pub struct NearMiss {
    pub kind: NearMissKind,
    pub tuple: RelationTuple,
}

impl fmt::Display for MemberOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.object, self.member)
    }
}

impl fmt::Display for Arrow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Arrow { object: _, relation, target, every } = self;
        if *every { write!(f, "{relation}.all({target})") } else { write!(f, "{relation}->{target}") }
    }
}

impl Operator {
    /// The word used in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Operator::Union => "union",
            Operator::Intersection => "intersection",
            Operator::Exclusion => "exclusion",
        }
    }
}

impl NearMissKind {
    /// The word used in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            NearMissKind::Add => "add",
            NearMissKind::Remove => "remove",
        }
    }
}
