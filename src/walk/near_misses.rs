//! Which single row would make an answer an allow? Searched breadth first from the question, so the nearest come first.
//!
//! Tried are rows that name the subject, also in the groups that stand on the way; rows that have ended, as if they were
//! renewed; and last, rows that put an object beneath another on which the subject already has what an arrow asks for.
//! `type:*` is tried only where no row may name the subject itself: the narrowest grant that helps is the one to offer.
//!
//! A row whose caveat is false is not offered with a context that would make it true: no condition can be solved for its
//! fields in general, and one that is made up would be no honest offer.
//!
//! INVARIANT: a row is told only after the whole question was asked again with it, by the one definition, and allowed.
//! Where the search looks is a matter of cost alone. It leaves out what cannot help: a member that holds needs nothing,
//! and so does one that does not hold at the right of a `-`. All of it costs at most one question's budget and asks the
//! question again at most `tried_max` times.

use super::budget::{Budget, Error};
use super::check::{Asked, Asker, check};
use super::explain::everybody;
use super::list_resources::some_resources;
use super::memo::Node;
use crate::graph::{self, Laid, RowKey, RowValue, SubjectKey, View};
use crate::model::{Context, MemberNum, Membership, NearMissKind, ObjectNum, SubjectKind};
use crate::schema::{MemberPlan, Plan, PlanExpr, Quantifier, Targets};
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};
use std::collections::VecDeque;

/// Rows read at a time.
const ROWS: usize = 1_024;
/// Places tried beneath one arrow, for each type that may stand there.
const PLACES_MAX: usize = 3;
/// Memberships that are followed from the subject to find such places.
const REACHED_MAX: usize = 256;

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
    /// The value with which a row may be written, or with which one that has ended may be renewed; `None` if it may not.
    pub admitted: &'a Admitted<'a>,
}

/// Says for a row, and one that has ended if it is to be renewed, with which value it may be written.
pub type Admitted<'a> = dyn Fn(&RowKey, Option<&RowValue>) -> Result<Option<RowValue>, graph::Error> + 'a;

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
        with_ended: view.with_ended(),
        laid: view.laid(),
        asked,
        context,
        asker,
        search,
        budget,
        visited: HashSet::default(),
        ahead: VecDeque::new(),
        considered: HashSet::default(),
        arrows: Vec::new(),
        places: HashMap::default(),
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
    match searching.places() {
        Ok(()) => Ok((searching.found, false)),
        Err(Stop::Enough) => Ok((searching.found, true)),
        Err(Stop::Failed(error)) => Err(error),
    }
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
    /// To find what has ended.
    with_ended: View,
    laid: Laid,
    asked: Asked,
    context: &'a Context,
    asker: &'a mut Asker,
    search: &'a Search<'a>,
    budget: &'a mut Budget,
    visited: HashSet<(Node, Side), RandomState>,
    ahead: VecDeque<(Node, Side)>,
    considered: HashSet<(RowKey, Considered), RandomState>,
    /// Arrows met on the way to an allow: the relation, and a type it takes with what is asked of it.
    arrows: Vec<(Node, MemberNum, MemberNum)>,
    /// Objects on which the subject has a member.
    places: HashMap<MemberNum, Vec<ObjectNum>, RandomState>,
    tried: usize,
    found: Vec<Nearby>,
}

/// What was considered of a row.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Considered {
    Written,
    Renewed,
    Removed,
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
                if side == Side::Grants {
                    self.meet_arrow(of, targets);
                }
                self.rows(of, Some((targets, *quantifier)), side)
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
    fn rows(&mut self, of: Node, arrow: Option<(&Targets, Quantifier)>, side: Side) -> Result<(), Stop> {
        let targets = arrow.map(|(targets, _)| targets);
        let mut from = None;
        // Bounded: each page goes on after the one before, and each row costs an edge.
        loop {
            let (rows, next) = match targets {
                None => self.with_ended.usersets(of.member, of.object, from, ROWS)?,
                Some(_) => self.with_ended.subjects(of.member, of.object, from, ROWS)?,
            };
            self.budget.spend(1 + rows.len() as u64)?;
            for (subject, value) in rows {
                let key = RowKey { relation: of.member, object: of.object, subject };
                let member = match targets {
                    None => Some(subject.member),
                    Some(targets) => self.plan.type_of(subject.member).and_then(|of| targets.of(of)),
                };
                let node = member.map(|member| Node { member, object: subject.object });
                if !value.is_live(self.view.now()) {
                    self.renewal(key, &value, node, (side, arrow.map(|(_, quantifier)| quantifier)))?;
                    continue;
                }
                let worth = self.asker.ask_row(self.plan, self.view, (key, &value), self.budget)?.membership;
                let matters = match side {
                    Side::Grants => worth == Membership::Member,
                    Side::TakesAway => worth > Membership::Not,
                };
                if let Some(node) = node.filter(|_| matters) {
                    self.visit(node, side);
                }
            }
            if next.is_none() {
                return Ok(());
            }
            from = next;
        }
    }

    /// Tries a row that has ended as if it were renewed, where that can matter: what it leads to must be certain. Of `all`, a
    /// row more may help either way.
    fn renewal(
        &mut self,
        key: RowKey,
        ended: &RowValue,
        leads_to: Option<Node>,
        (side, quantifier): (Side, Option<Quantifier>),
    ) -> Result<(), Stop> {
        let one_is_enough = matches!(quantifier, None | Some(Quantifier::Any));
        if one_is_enough {
            let Some(node) = leads_to.filter(|_| side == Side::Grants) else { return Ok(()) };
            if self.asker.ask(self.plan, self.view, node, self.budget)? != Membership::Member {
                return Ok(());
            }
        }
        if let Some(value) = (self.search.admitted)(&key, Some(ended))? {
            self.consider(Nearby { kind: NearMissKind::Add, key, value }, Considered::Renewed)?;
        }
        Ok(())
    }

    /// Remembers an arrow, to look for a place beneath it when all that names the subject has been tried.
    fn meet_arrow(&mut self, of: Node, targets: &Targets) {
        let Some(MemberPlan::Relation(relation)) = self.plan.member(of.member) else { return };
        for (kind, itself) in relation.forms() {
            let target = self.plan.type_of(*itself).and_then(|of| targets.of(of));
            if let Some(target) = target.filter(|_| *kind == SubjectKind::Plain) {
                self.arrows.push((of, *itself, target));
            }
        }
    }

    /// Tries, for each arrow, a few rows that put its object beneath another on which the subject has what the arrow asks.
    fn places(&mut self) -> Result<(), Stop> {
        for (of, itself, target) in std::mem::take(&mut self.arrows) {
            let mut tried = 0;
            for object in self.places_with(target)? {
                let subject = SubjectKey { kind: SubjectKind::Plain, member: itself, object };
                let key = RowKey { relation: of.member, object: of.object, subject };
                // One that stands has been looked at, and one that names the subject tried.
                if subject == self.asked.subject || self.with_ended.row(&key)?.is_some() {
                    continue;
                }
                if tried == PLACES_MAX {
                    break;
                }
                if let Some(value) = (self.search.admitted)(&key, None)? {
                    tried += 1;
                    self.consider(Nearby { kind: NearMissKind::Add, key, value }, Considered::Written)?;
                }
            }
        }
        Ok(())
    }

    /// Objects on which the subject certainly has a member, as far as they are looked for.
    fn places_with(&mut self, member: MemberNum) -> Result<Vec<ObjectNum>, Stop> {
        if let Some(known) = self.places.get(&member) {
            return Ok(known.clone());
        }
        let mut places = Vec::new();
        for object in some_resources(self.plan, self.view, member, self.asked.subject, REACHED_MAX, self.budget)? {
            let node = Node { member, object };
            if self.asker.ask(self.plan, self.view, node, self.budget)? == Membership::Member {
                places.push(object);
            }
        }
        self.places.insert(member, places.clone());
        Ok(places)
    }

    /// Tries the row that names the subject, or those that do and are there.
    fn rows_of_the_subject(&mut self, of: Node, side: Side) -> Result<(), Stop> {
        let subject = self.asked.subject;
        let key = |subject: SubjectKey| RowKey { relation: of.member, object: of.object, subject };
        match side {
            Side::Grants => {
                // Everybody only where the subject itself may not be written.
                for key in [Some(subject), everybody(subject)].into_iter().flatten().map(key) {
                    if self.admits(key) && self.write(key)? {
                        break;
                    }
                }
                Ok(())
            }
            Side::TakesAway => {
                for key in [Some(subject), everybody(subject)].into_iter().flatten().map(key) {
                    self.budget.spend(1)?;
                    if let Some(value) = self.view.row(&key)? {
                        self.consider(Nearby { kind: NearMissKind::Remove, key, value }, Considered::Removed)?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Tries a row that names the subject: renewed if it has ended, or else written. Whether it may be written, or helps.
    fn write(&mut self, key: RowKey) -> Result<bool, Stop> {
        self.budget.spend(1)?;
        let ended = self.with_ended.row(&key)?.filter(|value| !value.is_live(self.view.now()));
        if let Some(ended) = ended
            && let Some(value) = (self.search.admitted)(&key, Some(&ended))?
            && self.consider(Nearby { kind: NearMissKind::Add, key, value }, Considered::Renewed)?
        {
            return Ok(true);
        }
        let Some(value) = (self.search.admitted)(&key, None)? else { return Ok(false) };
        self.consider(Nearby { kind: NearMissKind::Add, key, value }, Considered::Written)?;
        Ok(true)
    }

    fn admits(&self, key: RowKey) -> bool {
        match self.plan.member(key.relation) {
            Some(MemberPlan::Relation(relation)) => relation.admits(key.subject.kind, key.subject.member),
            Some(MemberPlan::Permission(_)) | None => false,
        }
    }

    /// Asks the whole question again with the row there, or not there; whether that alone allows.
    fn consider(&mut self, nearby: Nearby, what: Considered) -> Result<bool, Stop> {
        // What the request lays over the row counts, whatever is written.
        if self.laid.covers(&nearby.key) || !self.considered.insert((nearby.key, what)) {
            return Ok(false);
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
                let helps = found.membership == Membership::Member;
                if helps {
                    self.found.push(nearby);
                }
                Ok(helps)
            }
            // With the row the question has no answer, so it is not allowed.
            Err(Error::CaveatFailed(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
