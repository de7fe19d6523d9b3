//! THE definition: what it means for a subject to have a permission. One `match` over the compiled expression; every
//! other question is this one asked in another way.
//!
//! Answers are the least fixpoint, at any depth and over any cycle in the data. The walk goes depth first and
//! remembers as `memo` says. Should a component make it forget too much, the same definition is run by worklist over
//! the component instead: each value only rises, so the cost stays bounded.
//!
//! A caveat that lacks fields or fails is unknown while combining. If the rest decides, that stands. Otherwise the answer
//! hangs on the unknown conditions that could decide it, as `residue` says: if one of them failed, the question fails,
//! and else it is conditional and names the fields they lack. Neither ever hangs on the order of anything.

use super::budget::{Budget, Error, Failure};
use super::climb::Lane;
use super::memo::{Memo, Node};
use super::reasons::{Conditions, Formula, Joined, Reasons, Unknown};
use super::residue::Residue;
use super::trail::{Trail, TrailStep};
use crate::graph::{RowKey, RowValue, Rows, SubjectKey, View};
use crate::model::{Context, MemberNum, Membership, ObjectNum, SubjectKind, Timestamp};
use crate::schema::{Climb, MemberPlan, Plan, PlanExpr, Quantifier, RelationPlan, Targets};
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};
use std::collections::BTreeSet;

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
    /// Of a conditional answer: the context fields that could still decide it, sorted.
    pub missing: Vec<String>,
    /// Time alone changes nothing before it: the earliest end of a row that was read.
    pub valid_until: Option<Timestamp>,
}

/// Answers one question at one view, under the context given. `noting` keeps the path to a member.
pub fn check(
    plan: &Plan,
    view: &View,
    asked: Asked,
    context: &Context,
    budget: &mut Budget,
    noting: bool,
) -> Result<Found, Error> {
    let mut walk = Walk::of(plan, view, asked.subject, (context, Memo::default()), budget);
    if noting {
        walk.trail = Trail::noting();
        walk.climbs = false;
    }
    let membership = walk.solve(asked.node)?;
    let (trail, missing) = match membership {
        Membership::Member => (walk.trail.tell(asked.node), Vec::new()),
        Membership::Conditional => (Vec::new(), walk.hangs_on(Formula::Node(asked.node))?),
        Membership::Not => (Vec::new(), Vec::new()),
    };
    Ok(Found { membership, trail, missing, valid_until: walk.valid_until })
}

/// What several subjects have, as far as one climb tells.
#[derive(Debug, Default)]
pub struct Together {
    /// In the order of the subjects: what [`check`] finds for each; `None` if it is to be asked.
    pub values: Vec<Option<Membership>>,
    /// Time alone changes none of them before it.
    pub valid_until: Option<Timestamp>,
}

/// Answers for several subjects at once, where the node only asks for a way: each row on it is followed once for all.
pub fn check_together(
    plan: &Plan,
    view: &View,
    (node, subjects): (Node, &[SubjectKey]),
    context: &Context,
    budget: &mut Budget,
) -> Result<Together, Error> {
    let unknown = || Together { values: vec![None; subjects.len()], valid_until: None };
    let Some(climb) = plan.climb(node.member).filter(|climb| !climb.has_others()) else { return Ok(unknown()) };
    let Some(first) = subjects.first() else { return Ok(unknown()) };
    let mut walk = Walk::of(plan, view, *first, (context, Memo::default()), budget);
    let mut lanes: Vec<Lane> = subjects.iter().copied().map(Lane::of).collect();
    let is_sure = match walk.climb_together(climb, node, &mut lanes) {
        Ok(Some(is_sure)) => is_sure,
        Ok(None) => return Ok(unknown()),
        Err(Stop::Failed(error)) => return Err(error),
        // Only a descent thrashes.
        Err(Stop::Thrashing) => return Ok(unknown()),
    };
    let otherwise = is_sure.then_some(Membership::Not);
    let value = |lane: &Lane| if lane.is_found() { Some(Membership::Member) } else { otherwise };
    Ok(Together { values: lanes.iter().map(value).collect(), valid_until: walk.valid_until })
}

/// What a row's own condition says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Worth {
    pub membership: Membership,
    /// The context fields that could still decide it.
    pub missing: Vec<String>,
    /// Why it cannot be said.
    pub failed: Option<String>,
}

/// Asks many questions about one subject at one view, and keeps what was found for the next: what a list does. The
/// plan and the view of every question must be the same.
pub struct Asker {
    subject: SubjectKey,
    context: Context,
    memo: Memo,
}

impl Asker {
    /// Nothing asked yet.
    #[must_use]
    pub fn new(subject: SubjectKey, context: Context) -> Asker {
        Asker { subject, context, memo: Memo::default() }
    }

    /// What [`check`] would find for this subject, its work taken from `budget`.
    pub fn ask(&mut self, plan: &Plan, view: &View, node: Node, budget: &mut Budget) -> Result<Membership, Error> {
        self.walking(plan, view, budget, |walk| walk.solve(node))
    }

    /// What [`check`] would find for this subject, with the context fields that could still decide a conditional answer,
    /// sorted.
    pub fn ask_why(
        &mut self,
        plan: &Plan,
        view: &View,
        node: Node,
        budget: &mut Budget,
    ) -> Result<(Membership, Vec<String>), Error> {
        self.walking(plan, view, budget, |walk| match walk.solve(node)? {
            Membership::Conditional => Ok((Membership::Conditional, walk.hangs_on(Formula::Node(node))?)),
            value @ (Membership::Member | Membership::Not) => Ok((value, Vec::new())),
        })
    }

    /// What a part of a permission's expression says by itself on an object.
    pub(super) fn ask_part(
        &mut self,
        plan: &Plan,
        view: &View,
        (part, here): (&PlanExpr, Node),
        budget: &mut Budget,
    ) -> Result<Membership, Error> {
        self.walking(plan, view, budget, |walk| {
            walk.asks = Asks::Part;
            loop {
                match walk.expr(part, here) {
                    Ok(value) => return Ok(value),
                    Err(Stop::Failed(error)) => return Err(error),
                    // Only a descent thrashes, and below a part `solve` catches it.
                    Err(Stop::Thrashing) => walk.memo.keep_final_only(),
                }
            }
        })
    }

    /// Why [`check`] of a conditional part would fail, if it would.
    pub(super) fn ask_failure(
        &mut self,
        plan: &Plan,
        view: &View,
        (part, here): (&PlanExpr, Node),
        budget: &mut Budget,
    ) -> Result<Option<Failure>, Error> {
        self.walking(plan, view, budget, |walk| {
            let whole = match part {
                PlanExpr::Member(member) => Formula::Node(Node { member: *member, object: here.object }),
                PlanExpr::Nil
                | PlanExpr::Itself(_)
                | PlanExpr::Arrow { .. }
                | PlanExpr::Union(_)
                | PlanExpr::Intersection(_)
                | PlanExpr::Exclusion(..) => walk.formula(|walk| walk.expr(part, here))?,
            };
            match walk.hangs_on(whole) {
                Ok(_) => Ok(None),
                Err(Error::CaveatFailed(failure)) => Ok(Some(failure)),
                Err(error) => Err(error),
            }
        })
    }

    /// What a live row's own condition says, wherever the row leads.
    pub(super) fn ask_row(
        &mut self,
        plan: &Plan,
        view: &View,
        (key, value): (RowKey, &RowValue),
        budget: &mut Budget,
    ) -> Result<Worth, Error> {
        self.walking(plan, view, budget, |walk| {
            walk.reasons.turn(true);
            let mut worth = Worth { membership: walk.condition(key, value)?, missing: Vec::new(), failed: None };
            if let Some(Formula::Condition { condition, .. }) = walk.reasons.take() {
                match walk.conditions.unknown(condition) {
                    Some(Unknown::Missing(fields)) => worth.missing = fields.to_vec(),
                    Some(Unknown::Failed(_, text)) => worth.failed = Some(text.to_string()),
                    None => {}
                }
            }
            Ok(worth)
        })
    }

    /// After an error nothing is kept: the memo may hold nodes that were still open.
    fn walking<T>(
        &mut self,
        plan: &Plan,
        view: &View,
        budget: &mut Budget,
        work: impl FnOnce(&mut Walk<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let memo = std::mem::take(&mut self.memo);
        let mut walk = Walk::of(plan, view, self.subject, (&self.context, memo), budget);
        walk.is_asked_again = true;
        let done = work(&mut walk)?;
        self.memo = walk.memo;
        Ok(done)
    }
}

/// Why a descent ended without an answer.
pub(super) enum Stop {
    /// Too much was forgotten: to be done again by worklist.
    Thrashing,
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Stop {
    fn from(error: E) -> Stop {
        Stop::Failed(error.into())
    }
}

pub(super) struct Walk<'a> {
    plan: &'a Plan,
    pub(super) view: &'a View,
    pub(super) subject: SubjectKey,
    pub(super) budget: &'a mut Budget,
    pub(super) memo: Memo,
    trail: Trail,
    conditions: Conditions<'a>,
    /// Noted only once a conditional answer is found.
    reasons: Reasons,
    valid_until: Option<Timestamp>,
    /// Present while a component is solved by worklist.
    table: Option<Table>,
    asks: Asks,
    /// How many right operands of `-` are being evaluated. What they ask is below this component, so it is final.
    subtracted: usize,
    /// Whether what only asks for a way may be climbed.
    pub(super) climbs: bool,
    /// Whether further questions follow under the same memo.
    is_asked_again: bool,
}

/// What a walk was asked for, and so who stands above a node that is asked now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asks {
    /// A node: others are open above it, or it is the root.
    Node,
    /// A part of an expression, with no node above it.
    Part,
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

impl<'a> Walk<'a> {
    fn of(
        plan: &'a Plan,
        view: &'a View,
        subject: SubjectKey,
        (context, memo): (&'a Context, Memo),
        budget: &'a mut Budget,
    ) -> Walk<'a> {
        Walk {
            plan,
            view,
            subject,
            budget,
            memo,
            trail: Trail::default(),
            conditions: Conditions::new(context),
            reasons: Reasons::default(),
            valid_until: None,
            table: None,
            asks: Asks::Node,
            subtracted: 0,
            climbs: true,
            is_asked_again: false,
        }
    }

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
                None => match self.asks {
                    Asks::Node => self.descend(node)?,
                    Asks::Part => self.ask_for_part(node)?,
                },
            },
        };
        match value {
            Membership::Member => self.trail.note(TrailStep::Member(node)),
            Membership::Conditional => self.reasons.note(Formula::Node(node)),
            Membership::Not => {}
        }
        Ok(value)
    }

    /// Answers a node that has no answer yet, depth first.
    fn descend(&mut self, node: Node) -> Result<Membership, Stop> {
        if self.memo.is_thrashing() {
            return Err(Stop::Thrashing);
        }
        self.budget.spend(1)?;
        if let Some(climb) = self.climb_of(node)
            && !climb.has_others()
            && let Some(value) = self.climb(climb, node, false)?
        {
            if self.keeps_ways() {
                self.memo.learn(node, value);
            }
            return Ok(value);
        }
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
        let value = match self.memo.final_answer(node) {
            Some(value) => Ok(value),
            None => self.solve(node),
        };
        self.table = table;
        self.subtracted = subtracted;
        Ok(value?)
    }

    /// Answers a node that a part asks. Nothing is open above it, so it is solved by itself: to begin the part again when
    /// too much was forgotten would forget as much again.
    fn ask_for_part(&mut self, node: Node) -> Result<Membership, Error> {
        self.asks = Asks::Node;
        let subtracted = std::mem::take(&mut self.subtracted);
        let noting = self.reasons.turn(false);
        let value = self.solve(node);
        self.reasons.turn(noting);
        self.subtracted = subtracted;
        self.asks = Asks::Part;
        value
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

    /// The fields that could still decide a conditional answer, sorted; or an error, if a caveat that failed could.
    fn hangs_on(&mut self, whole: Formula) -> Result<Vec<String>, Error> {
        self.trail = Trail::default();
        let mut residue = Residue::of(whole);
        // Bounded: each conditional node is learnt once.
        while let Some(node) = residue.next() {
            self.budget.spend(1)?;
            residue.learn(self.formula(|walk| walk.member(node))?);
        }
        let mut missing = BTreeSet::new();
        for (condition, row) in residue.deciding(self.budget)? {
            match self.conditions.unknown(condition) {
                Some(Unknown::Missing(fields)) => missing.extend(fields.iter().cloned()),
                Some(Unknown::Failed(caveat, text)) => {
                    return Err(Failure { row, caveat: *caveat, text: text.to_string() }.into());
                }
                None => {}
            }
        }
        Ok(missing.into_iter().collect())
    }

    /// What a conditional value is made of, over final values: a node it asks is solved by itself, if it is not known.
    fn formula(&mut self, work: impl FnOnce(&mut Self) -> Result<Membership, Stop>) -> Result<Formula, Error> {
        self.asks = Asks::Part;
        self.reasons.turn(true);
        let value = work(self);
        self.reasons.turn(false);
        self.asks = Asks::Node;
        match value {
            // A conditional value has one.
            Ok(_) => Ok(self.reasons.take().unwrap_or(Formula::Any(Box::default()))),
            Err(Stop::Failed(error)) => Err(error),
            // Only a descent thrashes, and below a part `solve` catches it.
            Err(Stop::Thrashing) => Ok(Formula::Any(Box::default())),
        }
    }

    /// What a row is worth: its caveat's value under what is stored with it and the request's context.
    pub(super) fn condition(&mut self, key: RowKey, value: &RowValue) -> Result<Membership, Error> {
        self.valid_until = match (self.valid_until, value.expires_at) {
            (Some(known), Some(end)) => Some(known.min(end)),
            (known, end) => known.or(end),
        };
        match &value.caveat {
            None => Ok(Membership::Member),
            Some(caveat) => self.conditions.judge(self.plan, self.budget, &mut self.reasons, key, caveat),
        }
    }

    /// What a node asks for, if it may be climbed: a path is not told by it, nor what a conditional answer hangs on.
    fn climb_of(&self, node: Node) -> Option<&'a Climb> {
        if self.climbs && !self.reasons.is_on() { self.plan.climb(node.member) } else { None }
    }

    /// Whether what a climb passes is kept: others may ask for it.
    pub(super) fn keeps_ways(&self) -> bool {
        self.table.is_none() && (self.is_asked_again || !self.memo.is_empty())
    }

    fn member(&mut self, node: Node) -> Result<Membership, Stop> {
        if let Some(climb) = self.climb_of(node)
            && climb.has_others()
            && self.table.is_none()
            // Only the question itself: what it asks on its way would each go all of that way again.
            && self.memo.has_one_open()
            && let Some(value) = self.climb(climb, node, true)?
        {
            return Ok(value);
        }
        match self.plan.member(node.member) {
            Some(MemberPlan::Relation(relation)) => self.relation(relation, node),
            Some(MemberPlan::Permission(expr)) => self.expr(expr, node),
            None => Err(Error::Unplanned(node.member.0).into()),
        }
    }

    /// A relation holds for a subject that a live row names; or, if it is a plain object, whose type's wildcard a row
    /// names; or that has a userset which a row names. Each as far as the row's caveat says.
    fn relation(&mut self, relation: &RelationPlan, node: Node) -> Result<Membership, Stop> {
        let reasons = self.reasons.mark();
        let most = self.named(relation, node)?;
        self.reasons.settle(reasons, most, Joined::Any);
        Ok(most)
    }

    fn named(&mut self, relation: &RelationPlan, node: Node) -> Result<Membership, Stop> {
        let subject = self.subject;
        let mut most = Membership::Not;
        if relation.admits(subject.kind, subject.member) {
            most = self.row(node, subject)?;
        }
        if most < Membership::Member
            && subject.kind == SubjectKind::Plain
            && relation.admits(SubjectKind::Wildcard, subject.member)
        {
            let everybody = SubjectKey { kind: SubjectKind::Wildcard, member: subject.member, object: ObjectNum(0) };
            most = most.max(self.row(node, everybody)?);
        }
        if most == Membership::Member || !relation.has_usersets {
            return Ok(most);
        }
        let members = self.any_row(node.member, node.object, Kinds::Usersets, |walk, userset| {
            walk.ask(Node { member: userset.member, object: userset.object }).map(Some)
        })?;
        Ok(most.max(members))
    }

    /// The worth of one very row; Not if it is not live.
    fn row(&mut self, node: Node, subject: SubjectKey) -> Result<Membership, Stop> {
        self.budget.spend(1)?;
        let key = RowKey { relation: node.member, object: node.object, subject };
        let Some(value) = self.view.row(&key)? else { return Ok(Membership::Not) };
        let worth = self.condition(key, &value)?;
        if worth == Membership::Member {
            self.trail.note(TrailStep::Row(key));
        }
        Ok(worth)
    }

    /// Kleene's three values over the expression: union is max, intersection min, exclusion `min(base, not b)`.
    /// Recursion is bounded by the depth the schema's parser allows.
    pub(super) fn expr(&mut self, expr: &PlanExpr, here: Node) -> Result<Membership, Stop> {
        let mark = self.reasons.mark();
        let value = self.combine(expr, here)?;
        let joined = match expr {
            PlanExpr::Union(_) => Joined::Any,
            PlanExpr::Intersection(_) | PlanExpr::Exclusion(..) => Joined::All,
            // One part, if any.
            PlanExpr::Nil | PlanExpr::Itself(_) | PlanExpr::Member(_) | PlanExpr::Arrow { .. } => Joined::Any,
        };
        self.reasons.settle(mark, value, joined);
        Ok(value)
    }

    fn combine(&mut self, expr: &PlanExpr, here: Node) -> Result<Membership, Stop> {
        match expr {
            PlanExpr::Nil => Ok(Membership::Not),
            PlanExpr::Itself(itself) => {
                // A wildcard never asks, and a userset of this very object is not the object.
                let is_itself = self.subject.kind == SubjectKind::Plain
                    && self.subject.member == *itself
                    && self.subject.object == here.object;
                Ok(if is_itself { Membership::Member } else { Membership::Not })
            }
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
                let reasons = self.reasons.mark();
                self.subtracted += 1;
                let without = self.expr(subtracted, here);
                self.subtracted -= 1;
                let without = without?.negated();
                self.reasons.subtract(reasons);
                self.trail.back_to(mark);
                let excluded = match **subtracted {
                    PlanExpr::Member(member) => Node { member, object: here.object },
                    PlanExpr::Nil
                    | PlanExpr::Itself(_)
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
        let all = self.reasons.mark();
        loop {
            let (rows, next) = self.rows(relation, object, kinds, from)?;
            for (subject, value) in rows {
                let key = RowKey { relation, object, subject };
                self.trail.note(TrailStep::Row(key));
                let reasons = self.reasons.mark();
                let mut worth = self.condition(key, &value)?;
                if worth > Membership::Not {
                    worth = worth.min(each(self, subject)?.unwrap_or(Membership::Not));
                }
                self.reasons.settle(reasons, worth, Joined::All);
                if worth == Membership::Member {
                    self.reasons.settle(all, worth, Joined::Any);
                    return Ok(worth);
                }
                self.trail.back_to(mark);
                most = most.max(worth);
            }
            if next.is_none() {
                self.reasons.settle(all, most, Joined::Any);
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
        let all = self.reasons.mark();
        loop {
            let (rows, next) = self.rows(relation, object, Kinds::All, from)?;
            for (subject, value) in rows {
                let key = RowKey { relation, object, subject };
                self.trail.note(TrailStep::Row(key));
                let mut worth = self.condition(key, &value)?;
                if worth > Membership::Not {
                    worth = worth.min(each(self, subject)?);
                }
                if worth == Membership::Not {
                    self.reasons.settle(all, worth, Joined::All);
                    return Ok(worth);
                }
                least = Some(least.unwrap_or(Membership::Member).min(worth));
            }
            if next.is_none() {
                let least = least.unwrap_or(Membership::Not);
                self.reasons.settle(all, least, Joined::All);
                return Ok(least);
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
