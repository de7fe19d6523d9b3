//! Why is an answer what it is? The proof of an allow, and for any other answer what was tried.
//!
//! INVARIANT: every value shown was asked for with the one definition (`check`); nothing is worked out here. What is
//! chosen here is only what to show: the parts that decide, nearest to the question first, each once. What is left out
//! is said to be left out.

use super::budget::{Budget, Error, Failure};
use super::check::{Asked, Asker, Worth, check};
use super::memo::Node;
use super::trail::TrailStep;
use crate::graph::{RowKey, RowValue, SubjectKey, View};
use crate::model::{Context, MemberNum, Membership, ObjectNum, Operator, SubjectKind};
use crate::schema::{MemberPlan, Plan, PlanExpr, Quantifier, RelationPlan, Targets};
use foldhash::fast::RandomState;
use hashbrown::HashSet;
use std::collections::VecDeque;

/// Rows read at a time.
const ROWS: usize = 1_024;

/// One step of an explanation; what it is made of follows it, one deeper.
#[derive(Clone, Debug)]
pub struct Reasoned<'a> {
    pub depth: u32,
    pub value: Option<Membership>,
    /// Why there is no value: the question about this part alone fails.
    pub failed: Option<Failure>,
    /// At the right of a `-`.
    pub subtracted: bool,
    pub part: Part<'a>,
}

/// What was asked on the way.
#[derive(Clone, Debug)]
pub enum Part<'a> {
    Member(Node),
    /// Shown elsewhere.
    Repeated(Node),
    Operator(Operator),
    Arrow {
        relation: MemberNum,
        object: ObjectNum,
        targets: &'a Targets,
        quantifier: Quantifier,
    },
    /// A live row, and what its condition says.
    Row(RowKey, RowValue, Worth),
    /// A row that has ended, and so counts for nothing.
    Ended(RowKey, RowValue),
    /// No live row of the relation above names the subject; or the relation takes no such subject.
    Unnamed {
        admitted: bool,
    },
    /// No live row stands in the relation of the arrow above.
    Empty,
    /// The subject is this userset itself.
    Userset(Node),
    /// `self`, on this object; the number is of its definition's `...`.
    Itself(Node),
    Nil,
    /// What is subtracted here does not hold.
    Excluded(Node),
    /// So many rows more.
    More(u64),
    /// Not shown: there is no room, or no budget, for it.
    Cut,
}

/// An explanation, and whether it is all there is.
#[derive(Clone, Debug)]
pub struct Explanation<'a> {
    pub steps: Vec<Reasoned<'a>>,
    pub is_whole: bool,
}

/// How much is shown.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    pub steps_max: usize,
    /// Of one relation.
    pub rows_max: usize,
}

/// The path by which a question is allowed, with the values of its rows.
pub fn proof<'a>(view: &View, trail: &[(u32, TrailStep)], steps_max: usize) -> Result<Explanation<'a>, Error> {
    let mut steps = Vec::with_capacity(trail.len().min(steps_max));
    let mut told = Told::default();
    for (depth, step) in trail.iter().take(steps_max) {
        let (part, value) = proven(view, *step, &mut told)?;
        steps.push(Reasoned { depth: *depth, value: Some(value), failed: None, subtracted: is_excluded(&part), part });
    }
    if let Some((depth, _)) = trail.get(steps_max) {
        steps.push(Reasoned { depth: *depth, value: None, failed: None, subtracted: false, part: Part::Cut });
    }
    Ok(Explanation { steps, is_whole: trail.len() <= steps_max })
}

/// Members of a path that have been told: a trail tells each of them once.
type Told = HashSet<Node, RandomState>;

fn proven<'a>(view: &View, step: TrailStep, told: &mut Told) -> Result<(Part<'a>, Membership), Error> {
    Ok(match step {
        TrailStep::Row(key) => {
            // The view is the one that was walked, so the row is there.
            let value = view.row(&key)?.unwrap_or_default();
            let holds = Worth { membership: Membership::Member, missing: Vec::new(), failed: None };
            (Part::Row(key, value, holds), Membership::Member)
        }
        TrailStep::Member(node) if told.insert(node) => (Part::Member(node), Membership::Member),
        TrailStep::Member(node) => (Part::Repeated(node), Membership::Member),
        TrailStep::Itself(node) => (Part::Userset(node), Membership::Member),
        TrailStep::Excluded(node) => (Part::Excluded(node), Membership::Not),
    })
}

fn is_excluded(part: &Part<'_>) -> bool {
    matches!(part, Part::Excluded(_))
}

/// The wildcard that stands for a plain object among all of its type.
pub(super) fn everybody(subject: SubjectKey) -> Option<SubjectKey> {
    match subject.kind {
        SubjectKind::Plain => Some(SubjectKey { kind: SubjectKind::Wildcard, object: ObjectNum(0), ..subject }),
        SubjectKind::Userset | SubjectKind::Wildcard => None,
    }
}

/// What was tried for a question that is not allowed. `asker` asks about the subject of `asked` under `context`. Where
/// the budget ends, the explanation does.
pub fn tried<'a>(
    plan: &'a Plan,
    view: &View,
    asked: Asked,
    context: &Context,
    asker: &mut Asker,
    room: Room,
    budget: &mut Budget,
) -> Result<Explanation<'a>, Error> {
    let mut trying = Trying {
        plan,
        view,
        with_ended: view.with_ended(),
        asked,
        context,
        asker,
        room,
        budget,
        twigs: Vec::new(),
        shown: HashSet::default(),
        ahead: VecDeque::new(),
        is_whole: true,
    };
    match trying.root() {
        Ok(()) => {}
        Err(Stop::Failed(error)) => return Err(error),
        Err(Stop::NoRoom) => trying.cut(None),
    }
    // Bounded: what is opened is a twig that was shown, each once, and there are only so many.
    while let Some((at, open)) = trying.ahead.pop_front() {
        if !trying.is_whole {
            trying.cut(Some(at));
            continue;
        }
        match trying.open(at, open) {
            Ok(()) => {}
            Err(Stop::Failed(error)) => return Err(error),
            Err(Stop::NoRoom) => trying.cut(Some(at)),
        }
    }
    Ok(Explanation { is_whole: trying.is_whole, steps: trying.told() })
}

/// Why no more is shown.
enum Stop {
    /// As many steps as there may be, or a spent budget.
    NoRoom,
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Stop {
    fn from(error: E) -> Stop {
        let error = error.into();
        if error.is_spent() { Stop::NoRoom } else { Stop::Failed(error) }
    }
}

struct Trying<'a, 'w> {
    plan: &'a Plan,
    view: &'w View,
    /// To tell of what has ended.
    with_ended: View,
    asked: Asked,
    context: &'w Context,
    asker: &'w mut Asker,
    room: Room,
    budget: &'w mut Budget,
    /// The tree; the first is the root.
    twigs: Vec<Twig<'a>>,
    /// Members that are opened somewhere.
    shown: HashSet<Node, RandomState>,
    /// What is still to be opened, nearest to the root first, so that what has no room is far from it.
    ahead: VecDeque<(usize, Open<'a>)>,
    is_whole: bool,
}

struct Twig<'a> {
    value: Option<Membership>,
    failed: Option<Failure>,
    subtracted: bool,
    part: Part<'a>,
    below: Vec<usize>,
}

#[derive(Clone, Copy)]
enum Open<'a> {
    Node(Node, Membership),
    Expr(&'a PlanExpr, Node, Membership),
}

/// Whether a part decides what stands above it, and so is opened.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Weight {
    Decides,
    Beside,
}

impl<'a> Trying<'a, '_> {
    fn root(&mut self) -> Result<(), Stop> {
        let node = self.asked.node;
        let value = self.asker.ask(self.plan, self.view, node, self.budget)?;
        self.node(None, node, value, Weight::Decides, false)
    }

    /// Shows one twig below another.
    fn twig(
        &mut self,
        above: Option<usize>,
        part: Part<'a>,
        value: Option<Membership>,
        subtracted: bool,
    ) -> Result<usize, Stop> {
        if self.twigs.len() >= self.room.steps_max {
            return Err(Stop::NoRoom);
        }
        Ok(self.push(above, Twig { value, failed: None, subtracted, part, below: Vec::new() }))
    }

    /// A part that is conditional while combining may have no value by itself, because a caveat of its rows fails.
    fn tell_failure(&mut self, at: usize, value: Membership, part: (&PlanExpr, Node)) -> Result<(), Stop> {
        if value == Membership::Conditional
            && let Some(failure) = self.asker.ask_failure(self.plan, self.view, part, self.budget)?
            && let Some(twig) = self.twigs.get_mut(at)
        {
            twig.value = None;
            twig.failed = Some(failure);
        }
        Ok(())
    }

    fn push(&mut self, above: Option<usize>, twig: Twig<'a>) -> usize {
        let at = self.twigs.len();
        self.twigs.push(twig);
        if let Some(above) = above.and_then(|above| self.twigs.get_mut(above)) {
            above.below.push(at);
        }
        at
    }

    /// Says that what stands there is not shown. Every twig says so at most once, so there are at most as many of these.
    fn cut(&mut self, above: Option<usize>) {
        self.is_whole = false;
        self.push(above, Twig { value: None, failed: None, subtracted: false, part: Part::Cut, below: Vec::new() });
    }

    fn node(
        &mut self,
        above: Option<usize>,
        node: Node,
        value: Membership,
        weight: Weight,
        subtracted: bool,
    ) -> Result<(), Stop> {
        let itself = PlanExpr::Member(node.member);
        if weight == Weight::Decides && self.shown.contains(&node) {
            let at = self.twig(above, Part::Repeated(node), Some(value), subtracted)?;
            return self.tell_failure(at, value, (&itself, node));
        }
        let at = self.twig(above, Part::Member(node), Some(value), subtracted)?;
        self.tell_failure(at, value, (&itself, node))?;
        if weight == Weight::Decides {
            self.shown.insert(node);
            self.ahead.push_back((at, Open::Node(node, value)));
        }
        Ok(())
    }

    fn open(&mut self, at: usize, open: Open<'a>) -> Result<(), Stop> {
        match open {
            Open::Node(node, Membership::Member) => self.prove(at, node),
            Open::Node(node, value) => match self.plan.member(node.member) {
                None => Err(Error::Unplanned(node.member.0).into()),
                Some(MemberPlan::Relation(relation)) => self.relation(at, relation, node, value),
                Some(MemberPlan::Permission(expr)) => self.part(at, expr, node, value, Weight::Decides, false),
            },
            Open::Expr(expr, here, value) => self.expr(at, expr, here, value),
        }
    }

    fn value_of(&mut self, expr: &PlanExpr, here: Node) -> Result<Membership, Stop> {
        match expr {
            PlanExpr::Member(member) => {
                let node = Node { member: *member, object: here.object };
                Ok(self.asker.ask(self.plan, self.view, node, self.budget)?)
            }
            PlanExpr::Nil
            | PlanExpr::Itself(_)
            | PlanExpr::Arrow { .. }
            | PlanExpr::Union(_)
            | PlanExpr::Intersection(_)
            | PlanExpr::Exclusion(..) => Ok(self.asker.ask_part(self.plan, self.view, (expr, here), self.budget)?),
        }
    }

    /// Shows a part of an expression, whose value is known.
    fn part(
        &mut self,
        above: usize,
        expr: &'a PlanExpr,
        here: Node,
        value: Membership,
        weight: Weight,
        subtracted: bool,
    ) -> Result<(), Stop> {
        let object = here.object;
        let part = match expr {
            PlanExpr::Member(member) => {
                return self.node(Some(above), Node { member: *member, object }, value, weight, subtracted);
            }
            PlanExpr::Nil => Part::Nil,
            PlanExpr::Itself(member) => Part::Itself(Node { member: *member, object }),
            PlanExpr::Arrow { relation, targets, quantifier } => {
                Part::Arrow { relation: *relation, object, targets, quantifier: *quantifier }
            }
            PlanExpr::Union(_) => Part::Operator(Operator::Union),
            PlanExpr::Intersection(_) => Part::Operator(Operator::Intersection),
            PlanExpr::Exclusion(..) => Part::Operator(Operator::Exclusion),
        };
        let has_parts = !matches!(part, Part::Nil | Part::Itself(_));
        let at = self.twig(Some(above), part, Some(value), subtracted)?;
        self.tell_failure(at, value, (expr, here))?;
        if has_parts && weight == Weight::Decides {
            self.ahead.push_back((at, Open::Expr(expr, here, value)));
        }
        Ok(())
    }

    /// Shows what an expression of this value is made of: the parts that make it so first.
    fn expr(&mut self, at: usize, expr: &'a PlanExpr, here: Node, value: Membership) -> Result<(), Stop> {
        match expr {
            // Told by the twig itself.
            PlanExpr::Nil | PlanExpr::Itself(_) | PlanExpr::Member(_) => Ok(()),
            PlanExpr::Arrow { relation, targets, quantifier } => {
                let of = Node { member: *relation, object: here.object };
                let chosen = self.choose(of, Leads::ToTarget(targets), *quantifier, value)?;
                if chosen.total == 0 {
                    self.twig(Some(at), Part::Empty, Some(Membership::Not), false)?;
                }
                self.rows(at, chosen, value)
            }
            PlanExpr::Union(operands) if value == Membership::Member => {
                for operand in operands {
                    // One is enough, and shown alone.
                    if self.value_of(operand, here)? == Membership::Member {
                        return self.part(at, operand, here, value, Weight::Decides, false);
                    }
                }
                Ok(())
            }
            PlanExpr::Union(operands) | PlanExpr::Intersection(operands) => {
                let mut beside = Vec::new();
                for operand in operands {
                    let part = self.value_of(operand, here)?;
                    if part == value {
                        self.part(at, operand, here, part, Weight::Decides, false)?;
                    } else {
                        beside.push((operand, part));
                    }
                }
                for (operand, part) in beside {
                    self.part(at, operand, here, part, Weight::Beside, false)?;
                }
                Ok(())
            }
            PlanExpr::Exclusion(base, subtracted) => {
                // What would be granted is worth knowing also where it is taken away.
                let granted = self.value_of(base, here)?;
                self.part(at, base, here, granted, Weight::Decides, false)?;
                let taken = self.value_of(subtracted, here)?;
                let decides = taken.negated() == value && value != Membership::Member;
                let weight = if decides { Weight::Decides } else { Weight::Beside };
                self.part(at, subtracted, here, taken, weight, true)
            }
        }
    }

    /// Shows the rows of a relation that is not allowed: whether one names the subject or everybody, and those that name
    /// usersets.
    fn relation(&mut self, at: usize, relation: &'a RelationPlan, node: Node, value: Membership) -> Result<(), Stop> {
        let subject = self.asked.subject;
        let admitted = relation.admits(subject.kind, subject.member);
        let everybody = everybody(subject).filter(|everybody| relation.admits(everybody.kind, everybody.member));
        let mut is_named = false;
        let mut ended = Vec::new();
        for named in [admitted.then_some(subject), everybody].into_iter().flatten() {
            self.budget.spend(1)?;
            let key = RowKey { relation: node.member, object: node.object, subject: named };
            match self.with_ended.row(&key)? {
                Some(found) if found.is_live(self.view.now()) => {
                    is_named = true;
                    self.row(at, key, found)?;
                }
                Some(found) => ended.push((key, found)),
                None => {}
            }
        }
        let chosen = if relation.has_usersets {
            self.choose(node, Leads::ToUserset, Quantifier::Any, value)?
        } else {
            Chosen::default()
        };
        if !is_named && (admitted || everybody.is_some() || chosen.total == 0) {
            let part = Part::Unnamed { admitted: admitted || everybody.is_some() };
            self.twig(Some(at), part, Some(Membership::Not), false)?;
        }
        self.ended(at, ended)?;
        self.rows(at, chosen, value)
    }

    /// Shows rows that would be there, had they not ended.
    fn ended(&mut self, at: usize, rows: Vec<(RowKey, RowValue)>) -> Result<(), Stop> {
        for (key, value) in rows {
            self.twig(Some(at), Part::Ended(key, value), Some(Membership::Not), false)?;
        }
        Ok(())
    }

    fn row(&mut self, above: usize, key: RowKey, value: RowValue) -> Result<usize, Stop> {
        let worth = self.asker.ask_row(self.plan, self.view, (key, &value), self.budget)?;
        let says = says(&worth);
        self.twig(Some(above), Part::Row(key, value, worth), says, false)
    }

    /// Chooses the rows of a relation that are worth showing, out of all of them.
    fn choose(
        &mut self,
        of: Node,
        leads: Leads<'a>,
        quantifier: Quantifier,
        value: Membership,
    ) -> Result<Chosen, Stop> {
        let mut of_rank: [Vec<Row>; 3] = Default::default();
        let (mut total, mut ended) = (0, Ended::default());
        let mut from = None;
        let one_is_enough = quantifier == Quantifier::Any && value == Membership::Member;
        // Bounded: each page goes on after the one before, and each row costs an edge.
        'pages: loop {
            let (rows, next) = match leads {
                Leads::ToUserset => self.with_ended.usersets(of.member, of.object, from, ROWS)?,
                Leads::ToTarget(_) => self.with_ended.subjects(of.member, of.object, from, ROWS)?,
            };
            self.budget.spend(1 + rows.len() as u64)?;
            for (subject, stored) in rows {
                let key = RowKey { relation: of.member, object: of.object, subject };
                let is_shown_before = matches!(leads, Leads::ToUserset) && subject == self.asked.subject;
                if !stored.is_live(self.view.now()) {
                    if !is_shown_before {
                        ended.total += 1;
                        if ended.rows.len() < self.room.rows_max {
                            ended.rows.push((key, stored));
                        }
                    }
                    continue;
                }
                let target = match leads {
                    // The row that names the subject itself.
                    Leads::ToUserset if is_shown_before => continue,
                    Leads::ToUserset => Some(subject.member),
                    Leads::ToTarget(targets) => self.plan.type_of(subject.member).and_then(|of| targets.of(of)),
                };
                let target = target.map(|member| Node { member, object: subject.object });
                let worth = self.asker.ask_row(self.plan, self.view, (key, &stored), self.budget)?;
                let led = match target {
                    Some(node) if worth.membership > Membership::Not => {
                        let says = self.asker.ask(self.plan, self.view, node, self.budget)?;
                        Led::To(node, says)
                    }
                    Some(_) => Led::NotAsked,
                    None => Led::Nowhere,
                };
                // Only which rows are shown hangs on it; what the whole says was asked for.
                let rank = match led {
                    Led::To(_, says) => says.min(worth.membership),
                    Led::NotAsked | Led::Nowhere => Membership::Not,
                };
                total += 1;
                let [not, conditional, member] = &mut of_rank;
                let ranked = match rank {
                    Membership::Not => not,
                    Membership::Conditional => conditional,
                    Membership::Member => member,
                };
                if ranked.len() < self.room.rows_max {
                    ranked.push(Row { key, stored, worth, led, rank });
                }
                if one_is_enough && rank == Membership::Member {
                    break 'pages;
                }
            }
            if next.is_none() {
                break;
            }
            from = next;
        }
        let [not, conditional, member] = of_rank;
        let ordered = match quantifier {
            Quantifier::Any => [member, conditional, not],
            Quantifier::All => [not, conditional, member],
        };
        let rows_max = if one_is_enough { 1 } else { self.room.rows_max };
        let rows: Vec<Row> = ordered.into_iter().flatten().take(rows_max).collect();
        if one_is_enough {
            return Ok(Chosen { total: rows.len() as u64, rows, ended: Ended::default() });
        }
        Ok(Chosen { rows, total, ended })
    }

    /// Shows the chosen rows, what each leads to below it, and how many there are besides.
    fn rows(&mut self, at: usize, chosen: Chosen, value: Membership) -> Result<(), Stop> {
        let Chosen { rows, total, ended } = chosen;
        let more = total - rows.len() as u64 + (ended.total - ended.rows.len() as u64);
        for Row { key, stored, worth, led, rank } in rows {
            let says = says(&worth);
            let row = self.twig(Some(at), Part::Row(key, stored, worth), says, false)?;
            match led {
                Led::To(node, says) => {
                    let decides = rank == value && says == value;
                    let weight = if decides { Weight::Decides } else { Weight::Beside };
                    self.node(Some(row), node, says, weight, false)?;
                }
                Led::Nowhere => {
                    self.twig(Some(row), Part::Nil, Some(Membership::Not), false)?;
                }
                Led::NotAsked => {}
            }
        }
        self.ended(at, ended.rows)?;
        if more > 0 {
            self.twig(Some(at), Part::More(more), None, false)?;
        }
        Ok(())
    }

    /// Shows why a member is one.
    fn prove(&mut self, at: usize, node: Node) -> Result<(), Stop> {
        let asked = Asked { node, ..self.asked };
        let found = check(self.plan, self.view, asked, self.context, self.budget, true)?;
        // The twig at each depth of the path that leads to the step being shown.
        let mut above = vec![at];
        let mut told = Told::from_iter([node]);
        for (depth, step) in found.trail {
            let depth = depth as usize;
            if depth == 0 && step == TrailStep::Member(node) {
                continue;
            }
            above.truncate(depth.max(1));
            let (part, value) = proven(self.view, step, &mut told)?;
            let subtracted = is_excluded(&part);
            let twig = self.twig(above.last().copied(), part, Some(value), subtracted)?;
            above.push(twig);
        }
        Ok(())
    }

    /// The tree as steps in reading order.
    fn told(self) -> Vec<Reasoned<'a>> {
        let mut below: Vec<Vec<usize>> = Vec::with_capacity(self.twigs.len());
        let mut bare: Vec<Option<Reasoned<'a>>> = Vec::with_capacity(self.twigs.len());
        for twig in self.twigs {
            let Twig { value, failed, subtracted, part, below: twigs } = twig;
            below.push(twigs);
            bare.push(Some(Reasoned { depth: 0, value, failed, subtracted, part }));
        }
        let mut steps = Vec::with_capacity(bare.len());
        let mut stack = vec![(0, 0)];
        // Bounded: each twig stands below one other.
        while let Some((depth, at)) = stack.pop() {
            if let Some(step) = bare.get_mut(at).and_then(Option::take) {
                steps.push(Reasoned { depth, ..step });
            }
            let below = below.get(at).map_or(&[][..], Vec::as_slice);
            stack.extend(below.iter().rev().map(|at| (depth + 1, *at)));
        }
        steps
    }
}

/// Where a row leads.
#[derive(Clone, Copy)]
enum Leads<'a> {
    ToUserset,
    ToTarget(&'a Targets),
}

/// What a row led to.
enum Led {
    To(Node, Membership),
    /// The subject's type lacks the target.
    Nowhere,
    /// The row does not count, wherever it leads.
    NotAsked,
}

struct Row {
    key: RowKey,
    stored: RowValue,
    worth: Worth,
    led: Led,
    /// What the row says with what it leads to.
    rank: Membership,
}

/// Rows to be shown, out of so many live ones.
#[derive(Default)]
struct Chosen {
    rows: Vec<Row>,
    total: u64,
    ended: Ended,
}

/// Rows that have ended, out of so many.
#[derive(Default)]
struct Ended {
    rows: Vec<(RowKey, RowValue)>,
    total: u64,
}

/// A row's value by itself; none if its caveat fails.
fn says(worth: &Worth) -> Option<Membership> {
    if worth.failed.is_some() { None } else { Some(worth.membership) }
}
