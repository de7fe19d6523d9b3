//! What is a permission made of? Its expression, and the tuples that stand in it. Nobody is asked about, and nothing is
//! worked out.
//!
//! INVARIANT: every live row of a relation that is opened is shown, or the expansion fails: it is never silently short. A
//! member is opened once, where it is nearest to what was asked, and elsewhere named only: so a cycle in the data ends, and
//! what the levels leave out does not hang on the order of the rows.

use super::budget::{Budget, Error};
use super::memo::Node;
use crate::graph::{RowKey, RowValue, View};
use crate::model::{MemberNum, ObjectNum, Operator, SubjectKind};
use crate::schema::{MemberPlan, Plan, PlanExpr, Quantifier, Targets};
use foldhash::fast::RandomState;
use hashbrown::HashSet;
use std::collections::VecDeque;

/// Rows read at a time.
const ROWS: usize = 1_024;

/// One step of an expansion.
#[derive(Clone, Debug)]
pub enum Structure<'a> {
    /// Its rows or its expression stand below.
    Member(Node),
    /// Deeper than asked.
    Beyond(Node),
    /// Shown elsewhere.
    Repeated(Node),
    Operator(Operator),
    Arrow {
        relation: MemberNum,
        object: ObjectNum,
        targets: &'a Targets,
        quantifier: Quantifier,
    },
    Row(RowKey, RowValue),
    /// `self`, on this object; the number is of its definition's `...`.
    Itself(Node),
    Nil,
}

/// How much is shown.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// How many levels of objects: at 1, members of the object asked about; at 2, also what its usersets and arrows lead
    /// to; and so on.
    pub levels: u32,
    pub steps_max: usize,
}

/// The structure of a member, as steps with their depth. More steps than allowed are an error.
pub fn expand<'a>(
    plan: &'a Plan,
    view: &View,
    root: Node,
    extent: Extent,
    budget: &mut Budget,
) -> Result<Vec<(u32, Structure<'a>)>, Error> {
    let mut expanding =
        Expanding { plan, view, extent, budget, twigs: Vec::new(), ahead: VecDeque::new(), opened: HashSet::default() };
    let at = expanding.twig(None, Structure::Beyond(root))?;
    expanding.ahead.push_back(Ahead { at, level: 1, what: What::Node(root) });
    // Bounded: each turn opens a twig, each once, and there are only so many.
    while let Some(ahead) = expanding.ahead.pop_front() {
        expanding.open(ahead)?;
    }
    Ok(expanding.told())
}

struct Expanding<'a, 'w> {
    plan: &'a Plan,
    view: &'w View,
    extent: Extent,
    budget: &'w mut Budget,
    /// The tree; the first is the root.
    twigs: Vec<Twig<'a>>,
    /// What is still to be opened. INVARIANT: lower levels stand before higher ones.
    ahead: VecDeque<Ahead<'a>>,
    opened: HashSet<Node, RandomState>,
}

struct Twig<'a> {
    step: Structure<'a>,
    below: Vec<usize>,
}

struct Ahead<'a> {
    at: usize,
    level: u32,
    what: What<'a>,
}

#[derive(Clone, Copy)]
enum What<'a> {
    /// Shown as beyond the levels until it is opened.
    Node(Node),
    Expr(&'a PlanExpr, ObjectNum),
}

/// Where a row leads.
#[derive(Clone, Copy)]
enum Leads<'a> {
    /// To its userset, if it names one.
    ToUserset,
    /// To these targets on its subject.
    ToTarget(&'a Targets),
}

impl<'a> Expanding<'a, '_> {
    fn twig(&mut self, above: Option<usize>, step: Structure<'a>) -> Result<usize, Error> {
        let (at, steps_max) = (self.twigs.len(), self.extent.steps_max);
        if at >= steps_max {
            return Err(Error::ExpansionTooLarge { steps_max });
        }
        self.twigs.push(Twig { step, below: Vec::new() });
        if let Some(above) = above.and_then(|above| self.twigs.get_mut(above)) {
            above.below.push(at);
        }
        Ok(at)
    }

    fn set(&mut self, at: usize, step: Structure<'a>) {
        if let Some(twig) = self.twigs.get_mut(at) {
            twig.step = step;
        }
    }

    fn open(&mut self, Ahead { at, level, what }: Ahead<'a>) -> Result<(), Error> {
        self.budget.spend(1)?;
        match what {
            What::Expr(expr, object) => self.expr(at, level, expr, object),
            What::Node(node) => {
                let meaning = self.plan.member(node.member).ok_or(Error::Unplanned(node.member.0))?;
                // Whatever opens it nearer was taken before.
                if self.opened.contains(&node) {
                    self.set(at, Structure::Repeated(node));
                    return Ok(());
                }
                if level > self.extent.levels {
                    return Ok(());
                }
                self.opened.insert(node);
                self.set(at, Structure::Member(node));
                match meaning {
                    MemberPlan::Permission(expr) => self.parts(at, level, [expr], node.object),
                    MemberPlan::Relation(_) => self.rows(at, level, node, Leads::ToUserset),
                }
            }
        }
    }

    /// Shows parts of an expression. They are opened next, in their order: they are of the same level.
    fn parts(
        &mut self,
        above: usize,
        level: u32,
        parts: impl IntoIterator<Item = &'a PlanExpr>,
        object: ObjectNum,
    ) -> Result<(), Error> {
        let mut next = Vec::new();
        for expr in parts {
            let (step, what) = match expr {
                PlanExpr::Nil => (Structure::Nil, None),
                PlanExpr::Itself(member) => (Structure::Itself(Node { member: *member, object }), None),
                PlanExpr::Member(member) => {
                    let node = Node { member: *member, object };
                    (Structure::Beyond(node), Some(What::Node(node)))
                }
                PlanExpr::Arrow { relation, targets, quantifier } => {
                    let (relation, quantifier) = (*relation, *quantifier);
                    (Structure::Arrow { relation, object, targets, quantifier }, Some(What::Expr(expr, object)))
                }
                PlanExpr::Union(_) => (Structure::Operator(Operator::Union), Some(What::Expr(expr, object))),
                PlanExpr::Intersection(_) => {
                    (Structure::Operator(Operator::Intersection), Some(What::Expr(expr, object)))
                }
                PlanExpr::Exclusion(..) => (Structure::Operator(Operator::Exclusion), Some(What::Expr(expr, object))),
            };
            let at = self.twig(Some(above), step)?;
            next.extend(what.map(|what| Ahead { at, level, what }));
        }
        next.into_iter().rev().for_each(|ahead| self.ahead.push_front(ahead));
        Ok(())
    }

    fn expr(&mut self, at: usize, level: u32, expr: &'a PlanExpr, object: ObjectNum) -> Result<(), Error> {
        match expr {
            PlanExpr::Nil | PlanExpr::Itself(_) | PlanExpr::Member(_) => Ok(()),
            PlanExpr::Arrow { relation, targets, quantifier: _ } => {
                self.rows(at, level, Node { member: *relation, object }, Leads::ToTarget(targets))
            }
            PlanExpr::Union(operands) | PlanExpr::Intersection(operands) => self.parts(at, level, operands, object),
            PlanExpr::Exclusion(base, subtracted) => {
                self.parts(at, level, [base.as_ref(), subtracted.as_ref()], object)
            }
        }
    }

    /// Shows all rows of a relation on an object, in the order of their keys. What they lead to is of the next level, and
    /// opened after all of this one.
    fn rows(&mut self, above: usize, level: u32, of: Node, leads: Leads<'a>) -> Result<(), Error> {
        let level = level.saturating_add(1);
        let mut from = None;
        // Bounded: each row is a twig.
        loop {
            let (rows, next) = self.view.subjects(of.member, of.object, from, ROWS)?;
            self.budget.spend(1 + rows.len() as u64)?;
            for (subject, value) in rows {
                let key = RowKey { relation: of.member, object: of.object, subject };
                let row = self.twig(Some(above), Structure::Row(key, value))?;
                let member = match (leads, subject.kind) {
                    (Leads::ToUserset, SubjectKind::Userset) => Some(subject.member),
                    (Leads::ToUserset, SubjectKind::Plain | SubjectKind::Wildcard) => continue,
                    (Leads::ToTarget(targets), _) => self.plan.type_of(subject.member).and_then(|of| targets.of(of)),
                };
                match member.map(|member| Node { member, object: subject.object }) {
                    None => {
                        self.twig(Some(row), Structure::Nil)?;
                    }
                    Some(node) => {
                        let at = self.twig(Some(row), Structure::Beyond(node))?;
                        self.ahead.push_back(Ahead { at, level, what: What::Node(node) });
                    }
                }
            }
            if next.is_none() {
                return Ok(());
            }
            from = next;
        }
    }

    /// The tree as steps in reading order.
    fn told(mut self) -> Vec<(u32, Structure<'a>)> {
        let mut steps = Vec::with_capacity(self.twigs.len());
        let mut stack = vec![(0, 0)];
        // Bounded: each twig stands below one other.
        while let Some((depth, at)) = stack.pop() {
            if let Some(Twig { step, below }) = self.twigs.get_mut(at) {
                steps.push((depth, std::mem::replace(step, Structure::Nil)));
                stack.extend(below.iter().rev().map(|at| (depth + 1, *at)));
            }
        }
        steps
    }
}
