//! Which subjects could have a permission on an object? Walked forwards over the rows that an answer could lean on.
//!
//! INVARIANT: what is gathered here is a superset, never an answer: every subject is asked about with the one definition
//! afterwards. Both sides of `-` are walked: a subject that only the right side names is no member, but may be missing
//! from a wildcard. Whoever no row names is as good as anybody else whom no row names.

use super::budget::{Budget, Error};
use super::check::Asker;
use super::memo::Node;
use crate::graph::{RowKey, Rows, SubjectKey, View};
use crate::model::{MemberNum, Membership, ObjectNum, SubjectKind};
use crate::schema::{MemberPlan, Plan, PlanExpr, Targets};
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};

/// Rows read at a time.
const ROWS: usize = 1_024;

/// Which subjects are meant: plain objects or usersets, never wildcards; of this `...` or relation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SubjectForm {
    pub kind: SubjectKind,
    pub member: MemberNum,
}

/// A subject that some row, or the walk itself, names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Mentioned {
    pub object: ObjectNum,
    /// Whether it is named other than at the right of a `-`.
    pub grants: bool,
}

/// The subjects of a form on which an answer about `root` could hang, ascending.
pub fn subjects_mentioned(
    plan: &Plan,
    view: &View,
    root: Node,
    form: SubjectForm,
    budget: &mut Budget,
) -> Result<Vec<Mentioned>, Error> {
    let mut gather =
        Gather { plan, view, form, budget, visited: HashSet::default(), ahead: Vec::new(), found: HashMap::default() };
    gather.visit(root, Side::Grants);
    // Bounded: each node is taken once for each side, and each costs an edge.
    while let Some((node, side)) = gather.ahead.pop() {
        gather.node(node, side)?;
    }
    let mut found: Vec<Mentioned> =
        gather.found.into_iter().map(|(object, grants)| Mentioned { object, grants }).collect();
    found.sort_unstable();
    Ok(found)
}

/// On which side of the `-` above it a node was met.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Side {
    Grants,
    TakesAway,
}

struct Gather<'a> {
    plan: &'a Plan,
    view: &'a View,
    form: SubjectForm,
    budget: &'a mut Budget,
    visited: HashSet<(Node, Side), RandomState>,
    ahead: Vec<(Node, Side)>,
    found: HashMap<ObjectNum, bool, RandomState>,
}

impl Gather<'_> {
    fn visit(&mut self, node: Node, side: Side) {
        if self.visited.insert((node, side)) {
            self.ahead.push((node, side));
        }
    }

    fn find(&mut self, object: ObjectNum, side: Side) {
        *self.found.entry(object).or_insert(false) |= side == Side::Grants;
    }

    fn node(&mut self, node: Node, side: Side) -> Result<(), Error> {
        self.budget.spend(1)?;
        // A userset is its own member.
        if self.form.kind == SubjectKind::Userset && self.form.member == node.member {
            self.find(node.object, side);
        }
        match self.plan.member(node.member) {
            None => Err(Error::Unplanned(node.member.0)),
            Some(MemberPlan::Relation(relation)) => {
                // A userset on a row is found by its own node.
                if self.form.kind == SubjectKind::Plain && relation.admits(self.form.kind, self.form.member) {
                    let form = (self.form.kind, self.form.member);
                    self.rows(
                        |gather, from| gather.view.subjects_of_form(node.member, node.object, form, from, ROWS),
                        |gather, subject| gather.find(subject.object, side),
                    )?;
                }
                if relation.has_usersets {
                    self.rows(
                        |gather, from| gather.view.usersets(node.member, node.object, from, ROWS),
                        |gather, userset| gather.visit(Node { member: userset.member, object: userset.object }, side),
                    )?;
                }
                Ok(())
            }
            Some(MemberPlan::Permission(expr)) => self.expr(expr, node, side),
        }
    }

    /// Recursion is bounded by the depth the schema's parser allows.
    fn expr(&mut self, expr: &PlanExpr, here: Node, side: Side) -> Result<(), Error> {
        match expr {
            PlanExpr::Nil => Ok(()),
            PlanExpr::Itself(itself) => {
                if self.form.kind == SubjectKind::Plain && self.form.member == *itself {
                    self.find(here.object, side);
                }
                Ok(())
            }
            PlanExpr::Member(member) => {
                self.visit(Node { member: *member, object: here.object }, side);
                Ok(())
            }
            PlanExpr::Arrow { relation, targets, quantifier: _ } => {
                self.rows(|gather, from| gather.view.subjects(*relation, here.object, from, ROWS), {
                    |gather, subject| {
                        if let Some(node) = target(gather.plan, targets, subject) {
                            gather.visit(node, side);
                        }
                    }
                })
            }
            PlanExpr::Union(operands) | PlanExpr::Intersection(operands) => {
                operands.iter().try_for_each(|operand| self.expr(operand, here, side))
            }
            PlanExpr::Exclusion(base, subtracted) => {
                self.expr(base, here, side)?;
                self.expr(subtracted, here, Side::TakesAway)
            }
        }
    }

    /// Every row that `read` pages through.
    fn rows(
        &mut self,
        read: impl Fn(&Self, Option<RowKey>) -> Result<(Rows, Option<RowKey>), crate::graph::Error>,
        mut each: impl FnMut(&mut Self, SubjectKey),
    ) -> Result<(), Error> {
        let mut from = None;
        // Bounded: each page goes on after the one before, and each row costs an edge.
        loop {
            let (rows, next) = read(self, from)?;
            self.budget.spend(1 + rows.len() as u64)?;
            for (subject, _) in rows {
                each(self, subject);
            }
            if next.is_none() {
                return Ok(());
            }
            from = next;
        }
    }
}

fn target(plan: &Plan, targets: &Targets, subject: SubjectKey) -> Option<Node> {
    let member = targets.of(plan.type_of(subject.member)?)?;
    Some(Node { member, object: subject.object })
}

/// The relations whose rows name `named` exactly and so make it a member of `root`; only where it does hold, on every
/// branch on the way. `asker` asks about the named subject, or about anybody else if a wildcard is named.
pub fn naming_relations(
    plan: &Plan,
    view: &View,
    root: Node,
    named: SubjectKey,
    asker: &mut Asker,
    budget: &mut Budget,
) -> Result<Vec<Node>, Error> {
    let mut naming = Naming { plan, view, asker, budget, visited: HashSet::default(), ahead: Vec::new() };
    naming.visit(root);
    let mut found = Vec::new();
    // Bounded: each node is taken once, and each costs an edge.
    while let Some(node) = naming.ahead.pop() {
        if naming.asker.ask(plan, view, node, naming.budget)? == Membership::Not {
            continue;
        }
        match plan.member(node.member) {
            None => return Err(Error::Unplanned(node.member.0)),
            Some(MemberPlan::Relation(relation)) => {
                naming.budget.spend(1)?;
                if view.row(&RowKey { relation: node.member, object: node.object, subject: named })?.is_some() {
                    found.push(node);
                }
                if relation.has_usersets {
                    naming.usersets(node)?;
                }
            }
            Some(MemberPlan::Permission(expr)) => naming.expr(expr, node)?,
        }
    }
    found.sort_unstable_by_key(|node| (node.member, node.object));
    Ok(found)
}

struct Naming<'a> {
    plan: &'a Plan,
    view: &'a View,
    asker: &'a mut Asker,
    budget: &'a mut Budget,
    visited: HashSet<Node, RandomState>,
    ahead: Vec<Node>,
}

impl Naming<'_> {
    fn visit(&mut self, node: Node) {
        if self.visited.insert(node) {
            self.ahead.push(node);
        }
    }

    fn usersets(&mut self, node: Node) -> Result<(), Error> {
        let mut from = None;
        loop {
            let (rows, next) = self.view.usersets(node.member, node.object, from, ROWS)?;
            self.budget.spend(1 + rows.len() as u64)?;
            for (userset, _) in rows {
                self.visit(Node { member: userset.member, object: userset.object });
            }
            if next.is_none() {
                return Ok(());
            }
            from = next;
        }
    }

    /// Visits the nodes of every part that holds by itself. What subtracts only conditionally is named too: the
    /// condition is part of why. Recursion is bounded by the depth the schema's parser allows.
    fn expr(&mut self, expr: &PlanExpr, here: Node) -> Result<(), Error> {
        let value = self.asker.ask_part(self.plan, self.view, (expr, here), self.budget)?;
        if value == Membership::Not {
            return Ok(());
        }
        match expr {
            PlanExpr::Nil | PlanExpr::Itself(_) => Ok(()),
            PlanExpr::Member(member) => {
                self.visit(Node { member: *member, object: here.object });
                Ok(())
            }
            PlanExpr::Arrow { relation, targets, quantifier: _ } => {
                let mut from = None;
                loop {
                    let (rows, next) = self.view.subjects(*relation, here.object, from, ROWS)?;
                    self.budget.spend(1 + rows.len() as u64)?;
                    for (subject, _) in rows {
                        if let Some(node) = target(self.plan, targets, subject) {
                            self.visit(node);
                        }
                    }
                    if next.is_none() {
                        return Ok(());
                    }
                    from = next;
                }
            }
            PlanExpr::Union(operands) | PlanExpr::Intersection(operands) => {
                operands.iter().try_for_each(|operand| self.expr(operand, here))
            }
            PlanExpr::Exclusion(base, subtracted) => {
                self.expr(base, here)?;
                let part = (&**subtracted, here);
                match self.asker.ask_part(self.plan, self.view, part, self.budget)? {
                    Membership::Conditional => self.expr(subtracted, here),
                    Membership::Not | Membership::Member => Ok(()),
                }
            }
        }
    }
}
