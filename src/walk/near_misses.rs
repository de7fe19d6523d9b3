//! Which single row would make an answer an allow? Searched breadth first from the question, so the nearest come first.
//!
//! INVARIANT: a row is told only after the whole question was asked again with it, by the one definition, and allowed.
//! Where the search looks is a matter of cost alone. It leaves out what cannot help: a member that holds needs nothing,
//! and so does one that does not hold at the right of a `-`.

use super::budget::{Budget, Error};
use super::check::{Asked, Asker, check};
use super::explain::everybody;
use super::memo::Node;
use crate::graph::{self, Laid, RowKey, RowValue, SubjectKey, View};
use crate::model::{Context, Membership, NearMissKind};
use crate::schema::{MemberPlan, Plan, PlanExpr, Quantifier, Targets};
use foldhash::fast::RandomState;
use hashbrown::HashSet;
use std::collections::VecDeque;

/// Rows read at a time.
const ROWS: usize = 1_024;

/// A row that alone would allow.
#[derive(Clone, PartialEq, Debug)]
pub struct Nearby {
    pub kind: NearMissKind,
    pub key: RowKey,
    pub value: RowValue,
}

/// How far is searched, and what for.
pub struct Search<'a> {
    pub found_max: usize,
    pub tried_max: usize,
    /// The value with which a row may be written; `None` if it may not.
    pub admitted: &'a dyn Fn(&RowKey) -> Result<Option<RowValue>, graph::Error>,
}

/// The rows found, nearest first, and whether the search was ended before it was through. `asker` asks about the
/// subject of `asked` under `context`. Where the budget ends, the search does.
pub fn near_misses(
    plan: &Plan,
    view: &View,
    asked: Asked,
    context: &Context,
    asker: &mut Asker,
    search: &Search<'_>,
    budget: &mut Budget,
) -> Result<(Vec<Nearby>, bool), Error> {
    let mut searching = Searching {
        plan,
        view,
        laid: view.laid(),
        asked,
        context,
        asker,
        search,
        budget,
        visited: HashSet::default(),
        ahead: VecDeque::new(),
        considered: HashSet::default(),
        tried: 0,
        found: Vec::new(),
    };
    searching.visit(asked.node, Side::Grants);
    // Bounded: each node is taken once for each side, and each costs an edge.
    while let Some((node, side)) = searching.ahead.pop_front() {
        match searching.node(node, side) {
            Ok(()) => {}
            Err(Stop::Enough) => return Ok((searching.found, true)),
            Err(Stop::Failed(error)) => return Err(error),
        }
    }
    Ok((searching.found, false))
}

/// Why the search ends early.
enum Stop {
    /// As many as are told, or tried; or a spent budget.
    Enough,
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Stop {
    fn from(error: E) -> Stop {
        let error = error.into();
        if error.is_spent() { Stop::Enough } else { Stop::Failed(error) }
    }
}

/// What a member must become for the question to be allowed: right of a `-` the other way round, and within that again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Side {
    Grants,
    TakesAway,
}

impl Side {
    fn other(self) -> Side {
        match self {
            Side::Grants => Side::TakesAway,
            Side::TakesAway => Side::Grants,
        }
    }
}

struct Searching<'a> {
    plan: &'a Plan,
    view: &'a View,
    laid: Laid,
    asked: Asked,
    context: &'a Context,
    asker: &'a mut Asker,
    search: &'a Search<'a>,
    budget: &'a mut Budget,
    visited: HashSet<(Node, Side), RandomState>,
    ahead: VecDeque<(Node, Side)>,
    considered: HashSet<(RowKey, NearMissKind), RandomState>,
    tried: usize,
    found: Vec<Nearby>,
}

impl Searching<'_> {
    fn visit(&mut self, node: Node, side: Side) {
        if self.visited.insert((node, side)) {
            self.ahead.push_back((node, side));
        }
    }

    fn node(&mut self, node: Node, side: Side) -> Result<(), Stop> {
        self.budget.spend(1)?;
        let value = self.asker.ask(self.plan, self.view, node, self.budget)?;
        let is_as_wanted = match side {
            Side::Grants => value == Membership::Member,
            Side::TakesAway => value == Membership::Not,
        };
        if is_as_wanted {
            return Ok(());
        }
        match self.plan.member(node.member) {
            None => Err(Error::Unplanned(node.member.0).into()),
            Some(MemberPlan::Permission(expr)) => self.expr(expr, node, side),
            Some(MemberPlan::Relation(relation)) => {
                self.rows_of_the_subject(node, side)?;
                if relation.has_usersets { self.rows(node, None, side) } else { Ok(()) }
            }
        }
    }

    /// Recursion is bounded by the depth the schema's parser allows.
    fn expr(&mut self, expr: &PlanExpr, here: Node, side: Side) -> Result<(), Stop> {
        match expr {
            PlanExpr::Nil | PlanExpr::Itself(_) => Ok(()),
            PlanExpr::Member(member) => {
                self.visit(Node { member: *member, object: here.object }, side);
                Ok(())
            }
            PlanExpr::Arrow { relation, targets, quantifier } => {
                let of = Node { member: *relation, object: here.object };
                // The arrow may lead to the subject itself. Of `all`, a row more or less may help either way.
                self.rows_of_the_subject(of, side)?;
                match quantifier {
                    Quantifier::Any => {}
                    Quantifier::All => self.rows_of_the_subject(of, side.other())?,
                }
                self.rows(of, Some(targets), side)
            }
            PlanExpr::Union(operands) | PlanExpr::Intersection(operands) => {
                operands.iter().try_for_each(|operand| self.expr(operand, here, side))
            }
            PlanExpr::Exclusion(base, subtracted) => {
                self.expr(base, here, side)?;
                self.expr(subtracted, here, side.other())
            }
        }
    }

    /// Visits what the rows of a relation lead to, where it can matter: on the way to an allow every row must hold for
    /// certain; to take one away, it must not be without effect already.
    fn rows(&mut self, of: Node, targets: Option<&Targets>, side: Side) -> Result<(), Stop> {
        let mut from = None;
        // Bounded: each page goes on after the one before, and each row costs an edge.
        loop {
            let (rows, next) = match targets {
                None => self.view.usersets(of.member, of.object, from, ROWS)?,
                Some(_) => self.view.subjects(of.member, of.object, from, ROWS)?,
            };
            self.budget.spend(1 + rows.len() as u64)?;
            for (subject, value) in rows {
                let key = RowKey { relation: of.member, object: of.object, subject };
                let worth = self.asker.ask_row(self.plan, self.view, (key, &value), self.budget)?.membership;
                let matters = match side {
                    Side::Grants => worth == Membership::Member,
                    Side::TakesAway => worth > Membership::Not,
                };
                let member = match targets {
                    None => Some(subject.member),
                    Some(targets) => self.plan.type_of(subject.member).and_then(|of| targets.of(of)),
                };
                if let Some(member) = member.filter(|_| matters) {
                    self.visit(Node { member, object: subject.object }, side);
                }
            }
            if next.is_none() {
                return Ok(());
            }
            from = next;
        }
    }

    /// Tries the row that names the subject, or those that do and are there.
    fn rows_of_the_subject(&mut self, of: Node, side: Side) -> Result<(), Stop> {
        let subject = self.asked.subject;
        let key = |subject: SubjectKey| RowKey { relation: of.member, object: of.object, subject };
        match side {
            Side::Grants => {
                let key = key(subject);
                if !self.admits(key) {
                    return Ok(());
                }
                match (self.search.admitted)(&key)? {
                    Some(value) => self.consider(Nearby { kind: NearMissKind::Add, key, value }),
                    None => Ok(()),
                }
            }
            Side::TakesAway => {
                for key in [Some(subject), everybody(subject)].into_iter().flatten().map(key) {
                    self.budget.spend(1)?;
                    if let Some(value) = self.view.row(&key)? {
                        self.consider(Nearby { kind: NearMissKind::Remove, key, value })?;
                    }
                }
                Ok(())
            }
        }
    }

    fn admits(&self, key: RowKey) -> bool {
        match self.plan.member(key.relation) {
            Some(MemberPlan::Relation(relation)) => relation.admits(key.subject.kind, key.subject.member),
            Some(MemberPlan::Permission(_)) | None => false,
        }
    }

    /// Asks the whole question again with the row there, or not there.
    fn consider(&mut self, nearby: Nearby) -> Result<(), Stop> {
        // What the request lays over the row counts, whatever is written.
        if self.laid.covers(&nearby.key) || !self.considered.insert((nearby.key, nearby.kind)) {
            return Ok(());
        }
        if self.tried >= self.search.tried_max || self.found.len() >= self.search.found_max {
            return Err(Stop::Enough);
        }
        self.tried += 1;
        let mut laid = self.laid.clone();
        match nearby.kind {
            NearMissKind::Add => laid.put(nearby.key, nearby.value.clone()),
            NearMissKind::Remove => laid.remove(nearby.key),
        }
        match check(self.plan, &self.view.under(laid), self.asked, self.context, self.budget, false) {
            Ok(found) => {
                if found.membership == Membership::Member {
                    self.found.push(nearby);
                }
                Ok(())
            }
            // With the row the question has no answer, so it is not allowed.
            Err(Error::CaveatFailed(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
