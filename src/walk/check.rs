//! THE definition: what it means for a subject to have a permission. One `match` over the compiled expression; every
//! other question is this one asked in another way.
//!
//! Answers are the least fixpoint, at any depth and over any cycle in the data. The walk goes depth first and
//! remembers as `memo` says. Should a component make it forget too much, the same definition is run by worklist over
//! the component instead: each value only rises, so the cost stays bounded.

use super::budget::{Budget, Error};
use super::memo::{Memo, Node};
use super::trail::{Trail, TrailStep};
use crate::graph::{RowKey, Rows, SubjectKey, View};
use crate::model::{MemberNum, Membership, ObjectNum, SubjectKind};
use crate::schema::{MemberPlan, Plan, PlanExpr, Quantifier, RelationPlan, Targets};
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};

/// Rows read at a time: the first page is small, because the first row often decides.
const ROWS_FIRST: usize = 32;
const ROWS_MORE: usize = 1_024;

/// A question in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked {
    pub node: Node,
    /// A plain object or a userset; never a wildcard, which nobody is.
    pub subject: SubjectKey,
}

/// What was found.
#[derive(Debug)]
pub struct Found {
    pub membership: Membership,
    /// How a member came to be one, each step with its depth, if that was to be noted.
    pub trail: Vec<(u32, TrailStep)>,
}

/// Answers one question at one view. `noting` keeps the path to a member.
pub fn check(plan: &Plan, view: &View, asked: Asked, budget: &mut Budget, noting: bool) -> Result<Found, Error> {
    let trail = if noting { Trail::noting() } else { Trail::default() };
    let mut walk =
        Walk { plan, view, subject: asked.subject, budget, memo: Memo::default(), trail, table: None, subtracted: 0 };
    let membership = walk.solve(asked.node)?;
    let trail = if membership == Membership::Member { walk.trail.tell(asked.node) } else { Vec::new() };
    Ok(Found { membership, trail })
}

/// Why a descent ended without an answer.
enum Stop {
    /// Too much was forgotten: to be done again by worklist.
    Thrashing,
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Stop {
    fn from(error: E) -> Stop {
        Stop::Failed(error.into())
    }
}

struct Walk<'a> {
    plan: &'a Plan,
    view: &'a View,
    subject: SubjectKey,
    budget: &'a mut Budget,
    memo: Memo,
    trail: Trail,
    /// Present while a component is solved by worklist.
    table: Option<Table>,
    /// How many right operands of `-` are being evaluated. What they ask is below this component, so it is final.
    subtracted: usize,
}

/// Values of a component's nodes, which only rise, and who asked for them.
#[derive(Default)]
struct Table {
    cells: HashMap<Node, Cell, RandomState>,
    asked_by: HashSet<(Node, Node), RandomState>,
    current: Option<Node>,
    queue: Vec<Node>,
}

struct Cell {
    value: Membership,
    askers: Vec<Node>,
    queued: bool,
}

impl Walk<'_> {
    /// Depth first; by worklist if that forgets too much.
    fn solve(&mut self, root: Node) -> Result<Membership, Error> {
        match self.ask(root) {
            Ok(value) => Ok(value),
            Err(Stop::Failed(error)) => Err(error),
            Err(Stop::Thrashing) => {
                self.memo.keep_final_only();
                self.tabulate(root)
            }
        }
    }

    /// Whether the subject has a member of an object.
    fn ask(&mut self, node: Node) -> Result<Membership, Stop> {
        let subject = self.subject;
        if subject.kind == SubjectKind::Userset && subject.member == node.member && subject.object == node.object {
            self.trail.note(TrailStep::Itself(node));
            return Ok(Membership::Member);
        }
        let value = match self.table.as_mut() {
            Some(_) if self.subtracted > 0 => self.ask_below(node)?,
            Some(table) => match self.memo.final_answer(node) {
                Some(value) => value,
                None => table.ask(node),
            },
            None => match self.memo.answer(node) {
                Some(value) => value,
                None => self.descend(node)?,
            },
        };
        if value == Membership::Member {
            self.trail.note(TrailStep::Member(node));
        }
        Ok(value)
    }

    /// Answers a node that has no answer yet, depth first.
    fn descend(&mut self, node: Node) -> Result<Membership, Stop> {
        if self.memo.is_thrashing() {
            return Err(Stop::Thrashing);
        }
        self.budget.spend(1)?;
        self.memo.open(node);
        let mark = self.trail.mark();
        let room = self.budget.enter()?;
        let value = room.run(|| self.member(node));
        self.budget.leave(room);
        let value = value?;
        match value {
            Membership::Member => self.trail.member(node, mark),
            Membership::Not | Membership::Conditional => self.trail.back_to(mark),
        }
        self.memo.close(node, value);
        Ok(value)
    }

    /// Answers a node from under a right operand while a worklist runs: the schema has no cycle through `-`, so the
    /// node does not lean on the component, and is solved by itself.
    fn ask_below(&mut self, node: Node) -> Result<Membership, Stop> {
        let table = self.table.take();
        let subtracted = std::mem::take(&mut self.subtracted);
        let value = self.solve(node);
        self.table = table;
        self.subtracted = subtracted;
        Ok(value?)
    }

    /// Solves the component of a node by worklist.
    fn tabulate(&mut self, root: Node) -> Result<Membership, Error> {
        let mut table = Table::default();
        table.ask(root);
        self.table = Some(table);
        // Bounded: a node is queued when it is found and when something it asked rises, which happens twice at most.
        while let Some(node) = self.table.as_mut().and_then(Table::next) {
            self.budget.spend(1)?;
            let mark = self.trail.mark();
            let value = match self.member(node) {
                Ok(value) => value,
                Err(Stop::Failed(error)) => return Err(error),
                // Only a descent thrashes, and under a worklist `solve` catches it.
                Err(Stop::Thrashing) => continue,
            };
            match value {
                Membership::Member => self.trail.member(node, mark),
                Membership::Not | Membership::Conditional => self.trail.back_to(mark),
            }
            if let Some(table) = self.table.as_mut() {
                table.rise(node, value);
            }
        }
        let table = self.table.take().unwrap_or_default();
        for (node, cell) in &table.cells {
            self.memo.settle(*node, cell.value);
        }
        Ok(table.cells.get(&root).map_or(Membership::Not, |cell| cell.value))
    }

    fn member(&mut self, node: Node) -> Result<Membership, Stop> {
        match self.plan.member(node.member) {
            Some(MemberPlan::Relation(relation)) => self.relation(relation, node),
            Some(MemberPlan::Permission(expr)) => self.expr(expr, node),
            None => Err(Error::Unplanned(node.member.0).into()),
        }
    }

    /// A relation holds for a subject that a live row names; or, if it is a plain object, whose type's wildcard a row
    /// names; or that has a userset which a row names.
    fn relation(&mut self, relation: &RelationPlan, node: Node) -> Result<Membership, Stop> {
        let subject = self.subject;
        if relation.admits(subject.kind, subject.member) && self.has(node, subject)? {
            return Ok(Membership::Member);
        }
        if subject.kind == SubjectKind::Plain && relation.admits(SubjectKind::Wildcard, subject.member) {
            let everybody = SubjectKey { kind: SubjectKind::Wildcard, member: subject.member, object: ObjectNum(0) };
            if self.has(node, everybody)? {
                return Ok(Membership::Member);
            }
        }
        if !relation.has_usersets {
            return Ok(Membership::Not);
        }
        self.any_row(node.member, node.object, Kinds::Usersets, |walk, userset| {
            walk.ask(Node { member: userset.member, object: userset.object }).map(Some)
        })
    }

    fn has(&mut self, node: Node, subject: SubjectKey) -> Result<bool, Stop> {
        self.budget.spend(1)?;
        let key = RowKey { relation: node.member, object: node.object, subject };
        let found = self.view.has(&key)?;
        if found {
            self.trail.note(TrailStep::Row(key));
        }
        Ok(found)
    }

    /// Kleene's three values over the expression: union is max, intersection min, exclusion `min(base, not b)`.
    /// Recursion is bounded by the depth the schema's parser allows.
    fn expr(&mut self, expr: &PlanExpr, here: Node) -> Result<Membership, Stop> {
        match expr {
            PlanExpr::Nil => Ok(Membership::Not),
            PlanExpr::Member(member) => self.ask(Node { member: *member, object: here.object }),
            PlanExpr::Arrow { relation, targets, quantifier } => {
                self.arrow(*relation, here.object, targets, *quantifier)
            }
            PlanExpr::Union(operands) => {
                let mut most = Membership::Not;
                let mark = self.trail.mark();
                for operand in operands {
                    let value = self.expr(operand, here)?;
                    if value == Membership::Member {
                        return Ok(value);
                    }
                    self.trail.back_to(mark);
                    most = most.max(value);
                }
                Ok(most)
            }
            PlanExpr::Intersection(operands) => {
                let mut least = Membership::Member;
                for operand in operands {
                    least = least.min(self.expr(operand, here)?);
                    if least == Membership::Not {
                        return Ok(least);
                    }
                }
                Ok(least)
            }
            PlanExpr::Exclusion(base, subtracted) => {
                let value = self.expr(base, here)?;
                if value == Membership::Not {
                    return Ok(value);
                }
                let mark = self.trail.mark();
                self.subtracted += 1;
                let without = self.expr(subtracted, here);
                self.subtracted -= 1;
                let without = without?.negated();
                self.trail.back_to(mark);
                let excluded = match **subtracted {
                    PlanExpr::Member(member) => Node { member, object: here.object },
                    PlanExpr::Nil
                    | PlanExpr::Arrow { .. }
                    | PlanExpr::Union(_)
                    | PlanExpr::Intersection(_)
                    | PlanExpr::Exclusion(..) => here,
                };
                self.trail.note(TrailStep::Excluded(excluded));
                Ok(value.min(without))
            }
        }
    }

    /// `rel->x`: the object of every row's subject is asked for `x`, its own relation ignored.
    fn arrow(
        &mut self,
        relation: MemberNum,
        object: ObjectNum,
        targets: &Targets,
        quantifier: Quantifier,
    ) -> Result<Membership, Stop> {
        let target = |walk: &Walk<'_>, subject: SubjectKey| -> Option<Node> {
            let member = targets.of(walk.plan.type_of(subject.member)?)?;
            Some(Node { member, object: subject.object })
        };
        match quantifier {
            Quantifier::Any => self.any_row(relation, object, Kinds::All, |walk, subject| {
                target(walk, subject).map(|node| walk.ask(node)).transpose()
            }),
            Quantifier::All => self.all_rows(relation, object, |walk, subject| match target(walk, subject) {
                Some(node) => walk.ask(node),
                None => Ok(Membership::Not),
            }),
        }
    }

    /// The greatest value over the rows; `None` is a row that has nothing to say.
    fn any_row(
        &mut self,
        relation: MemberNum,
        object: ObjectNum,
        kinds: Kinds,
        mut each: impl FnMut(&mut Self, SubjectKey) -> Result<Option<Membership>, Stop>,
    ) -> Result<Membership, Stop> {
        let mut most = Membership::Not;
        let mut from = None;
        let mark = self.trail.mark();
        loop {
            let (rows, next) = self.rows(relation, object, kinds, from)?;
            for subject in rows {
                self.trail.note(TrailStep::Row(RowKey { relation, object, subject }));
                let value = each(self, subject)?.unwrap_or(Membership::Not);
                if value == Membership::Member {
                    return Ok(value);
                }
                self.trail.back_to(mark);
                most = most.max(value);
            }
            if next.is_none() {
                return Ok(most);
            }
            from = next;
        }
    }

    /// The least value over the rows; Not when there is none.
    fn all_rows(
        &mut self,
        relation: MemberNum,
        object: ObjectNum,
        mut each: impl FnMut(&mut Self, SubjectKey) -> Result<Membership, Stop>,
    ) -> Result<Membership, Stop> {
        let mut least = None;
        let mut from = None;
        loop {
            let (rows, next) = self.rows(relation, object, Kinds::All, from)?;
            for subject in rows {
                self.trail.note(TrailStep::Row(RowKey { relation, object, subject }));
                let value = least.unwrap_or(Membership::Member).min(each(self, subject)?);
                if value == Membership::Not {
                    return Ok(value);
                }
                least = Some(value);
            }
            if next.is_none() {
                return Ok(least.unwrap_or(Membership::Not));
            }
            from = next;
        }
    }

    fn rows(
        &mut self,
        relation: MemberNum,
        object: ObjectNum,
        kinds: Kinds,
        from: Option<RowKey>,
    ) -> Result<(Rows, Option<RowKey>), Stop> {
        let rows_max = if from.is_none() { ROWS_FIRST } else { ROWS_MORE };
        let (rows, next) = match kinds {
            Kinds::Usersets => self.view.usersets(relation, object, from, rows_max)?,
            Kinds::All => self.view.subjects(relation, object, from, rows_max)?,
        };
        self.budget.spend(rows.len() as u64)?;
        Ok((rows, next))
    }
}

/// Which rows of a relation are visited.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kinds {
    Usersets,
    All,
}

impl Table {
    /// A node's value so far, on behalf of the node being worked out.
    fn ask(&mut self, node: Node) -> Membership {
        let cell = self.cells.entry(node).or_insert_with(|| {
            self.queue.push(node);
            Cell { value: Membership::Not, askers: Vec::new(), queued: true }
        });
        if let Some(asker) = self.current
            && self.asked_by.insert((node, asker))
        {
            cell.askers.push(asker);
        }
        cell.value
    }

    fn next(&mut self) -> Option<Node> {
        let node = self.queue.pop()?;
        if let Some(cell) = self.cells.get_mut(&node) {
            cell.queued = false;
        }
        self.current = Some(node);
        Some(node)
    }

    /// Takes a node's new value, and queues who asked for it if it rose.
    fn rise(&mut self, node: Node, value: Membership) {
        let Some(cell) = self.cells.get_mut(&node) else { return };
        if value <= cell.value {
            return;
        }
        cell.value = value;
        for asker in cell.askers.clone() {
            if let Some(cell) = self.cells.get_mut(&asker)
                && !cell.queued
                && cell.value < Membership::Member
            {
                cell.queued = true;
                self.queue.push(asker);
            }
        }
    }
}
