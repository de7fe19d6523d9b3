//! Permissions that only ask for a way: unions, memberships and arrows, unfolded once into the places a walk can stand at
//! and the rows that lead from one to the next.
//!
//! ```text
//! permission view = viewer + edit + parent->view      {view, edit, viewer, editor} of folder
//! permission edit = editor + parent->edit                 named by a row of viewer or editor?
//!                                                         a group in such a row  → {member} of group
//!                                                         a row of parent        → {view, edit, viewer, editor} of folder
//! ```
//! INVARIANT: it says what the expressions say and nothing else: putting a member's expression in the place of its name does
//! not change the least fixpoint. So all that a union asks of an object is asked at once, and the rows that lead from it are
//! followed once, however many of its parts follow them. What is no union stands apart (`others`), as the expression it is.

use super::plan::{MemberPlan, Plan, PlanExpr};
use super::types::Quantifier;
use crate::model::{MemberNum, SubjectKind};
use std::collections::{BTreeMap, BTreeSet};

/// Places of one climb: beyond, the permission is walked as it is written.
const PLACES_MAX: usize = 64;
/// Parts looked at for one climb.
const PARTS_MAX: usize = 4_096;

/// All that a member asks for, if that is no more than a way to a row.
#[derive(Debug)]
pub struct Climb {
    /// The first is where it begins.
    places: Vec<Place>,
    /// The relations whose rows may name the subject, each once.
    relations: Vec<Probe>,
    has_others: bool,
}

/// What is asked of one object.
#[derive(Debug)]
pub struct Place {
    /// The members that are asked at once, ascending.
    members: Vec<MemberNum>,
    /// The one whose expression it is.
    pub whole: Option<MemberNum>,
    /// The definition's `...`, if the plain object itself has it.
    pub itself: Option<MemberNum>,
    /// Indexes into the climb's relations.
    pub probes: Vec<usize>,
    pub steps: Vec<Step>,
    /// Expressions that say more than a union does.
    pub others: Vec<PlanExpr>,
}

/// A relation whose rows may name the subject.
#[derive(Debug)]
pub struct Probe {
    pub relation: MemberNum,
    forms: Vec<(SubjectKind, MemberNum)>,
}

/// Rows that lead from one place to another: whoever has what is asked there has it here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step {
    pub relation: MemberNum,
    pub kind: SubjectKind,
    pub member: MemberNum,
    /// The place it leads to.
    pub to: usize,
}

impl Probe {
    /// Whether its rows may name such a subject.
    #[must_use]
    pub fn admits(&self, kind: SubjectKind, member: MemberNum) -> bool {
        self.forms.binary_search(&(kind, member)).is_ok()
    }
}

impl Place {
    /// Whether a member is among those asked here.
    #[must_use]
    pub fn asks(&self, member: MemberNum) -> bool {
        self.members.binary_search(&member).is_ok()
    }
}

impl Climb {
    /// What a member of the plan asks for; `None` if its own expression says more than a union does, or it is too wide.
    pub(super) fn of(plan: &Plan, member: MemberNum) -> Option<Climb> {
        let mut unfolding = Unfolding { plan, parts: 0, known: BTreeMap::new(), places: Vec::new() };
        unfolding.place(BTreeSet::from([member]))?;
        let mut climb = Climb { places: Vec::new(), relations: Vec::new(), has_others: false };
        let mut at = 0;
        // Bounded by PLACES_MAX.
        while let Some(parts) = unfolding.places.get(at).cloned() {
            let place = unfolding.unfold(&parts, &mut climb)?;
            climb.places.push(place);
            at += 1;
        }
        // One that asks only itself would be asked for ever.
        let begins = climb.places.first()?;
        let is_more = !begins.probes.is_empty() || !begins.steps.is_empty() || begins.itself.is_some();
        let asks_itself = begins.others.iter().any(|other| matches!(other, PlanExpr::Member(own) if *own == member));
        climb.has_others = climb.places.iter().any(|place| !place.others.is_empty());
        (is_more && !asks_itself).then_some(climb)
    }

    /// A place by its number, the first of which is 0.
    #[must_use]
    pub fn place(&self, at: usize) -> Option<&Place> {
        self.places.get(at)
    }

    /// All places.
    #[must_use]
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// The relations whose rows may name the subject.
    #[must_use]
    pub fn relations(&self) -> &[Probe] {
        &self.relations
    }

    /// Whether any place has an expression that says more than a union does.
    #[must_use]
    pub fn has_others(&self) -> bool {
        self.has_others
    }
}

/// The members that one place asks, as they are asked for: those that they ask of the same object come with unfolding.
type Asked = BTreeSet<MemberNum>;

struct Unfolding<'a> {
    plan: &'a Plan,
    parts: usize,
    known: BTreeMap<Asked, usize>,
    places: Vec<Asked>,
}

/// What a union says of one object.
#[derive(Default)]
struct Union<'a> {
    members: BTreeSet<MemberNum>,
    itself: Option<MemberNum>,
    relations: Vec<MemberNum>,
    arrows: Vec<(MemberNum, &'a super::plan::Targets)>,
    others: Vec<PlanExpr>,
}

impl<'a> Unfolding<'a> {
    /// The place where these members, and all that they ask of the same object, are asked.
    fn place(&mut self, asked: Asked) -> Option<usize> {
        let mut union = Union::default();
        for member in asked {
            self.member(member, &mut union)?;
        }
        let members = union.members;
        if let Some(known) = self.known.get(&members) {
            return Some(*known);
        }
        let at = self.places.len();
        if at >= PLACES_MAX {
            return None;
        }
        self.known.insert(members.clone(), at);
        self.places.push(members);
        Some(at)
    }

    fn unfold(&mut self, members: &Asked, climb: &mut Climb) -> Option<Place> {
        let mut union = Union::default();
        for member in members {
            self.member(*member, &mut union)?;
        }
        let Union { members, itself, relations, arrows, others } = union;
        let (mut probes, mut steps) = (Vec::new(), BTreeSet::new());
        for relation in relations {
            let Some(MemberPlan::Relation(plan)) = self.plan.member(relation) else { return None };
            probes.push(known_or_new(
                &mut climb.relations,
                |probe| probe.relation == relation,
                || Probe { relation, forms: plan.forms().to_vec() },
            ));
            for (kind, member) in plan.forms() {
                if *kind == SubjectKind::Userset {
                    let to = self.place(BTreeSet::from([*member]))?;
                    steps.insert(Step { relation, kind: *kind, member: *member, to });
                }
            }
        }
        // What all arrows over one relation ask of an object of one type, they ask at once.
        let mut asked: BTreeMap<(MemberNum, SubjectKind, MemberNum), Asked> = BTreeMap::new();
        for (relation, targets) in arrows {
            let Some(MemberPlan::Relation(plan)) = self.plan.member(relation) else { return None };
            for (kind, member) in plan.forms() {
                if *kind == SubjectKind::Wildcard {
                    return None;
                }
                if let Some(target) = self.plan.type_of(*member).and_then(|of| targets.of(of)) {
                    asked.entry((relation, *kind, *member)).or_default().insert(target);
                }
            }
        }
        for ((relation, kind, member), asked) in asked {
            let to = self.place(asked)?;
            steps.insert(Step { relation, kind, member, to });
        }
        // The member that asks all of them, if there is one.
        let whole = members.iter().copied().find(|member| {
            let mut union = Union::default();
            self.member(*member, &mut union).is_some() && union.members == members
        });
        let (members, steps) = (members.into_iter().collect(), steps.into_iter().collect());
        Some(Place { members, whole, itself, probes, steps, others })
    }

    /// Adds what a member asks of the object it is asked of. `None` when that is too much.
    fn member(&mut self, member: MemberNum, union: &mut Union<'a>) -> Option<()> {
        self.parts += 1;
        if self.parts > PARTS_MAX {
            return None;
        }
        if !union.members.insert(member) {
            return Some(());
        }
        match self.plan.member(member)? {
            MemberPlan::Relation(_) => union.relations.push(member),
            MemberPlan::Permission(expr) => match expr {
                PlanExpr::Intersection(_)
                | PlanExpr::Exclusion(..)
                | PlanExpr::Arrow { quantifier: Quantifier::All, .. } => union.others.push(PlanExpr::Member(member)),
                PlanExpr::Nil
                | PlanExpr::Itself(_)
                | PlanExpr::Member(_)
                | PlanExpr::Union(_)
                | PlanExpr::Arrow { quantifier: Quantifier::Any, .. } => self.part(expr, union)?,
            },
        }
        Some(())
    }

    /// Recursion is bounded by the depth the parser allows.
    fn part(&mut self, expr: &'a PlanExpr, union: &mut Union<'a>) -> Option<()> {
        self.parts += 1;
        if self.parts > PARTS_MAX {
            return None;
        }
        match expr {
            PlanExpr::Nil => {}
            PlanExpr::Itself(itself) => union.itself = Some(*itself),
            PlanExpr::Member(member) => self.member(*member, union)?,
            PlanExpr::Union(operands) => {
                for operand in operands {
                    self.part(operand, union)?;
                }
            }
            PlanExpr::Arrow { relation, targets, quantifier: Quantifier::Any } => {
                union.arrows.push((*relation, targets));
            }
            PlanExpr::Arrow { quantifier: Quantifier::All, .. }
            | PlanExpr::Intersection(_)
            | PlanExpr::Exclusion(..) => union.others.push(expr.clone()),
        }
        Some(())
    }
}

fn known_or_new<T>(known: &mut Vec<T>, is: impl Fn(&T) -> bool, new: impl FnOnce() -> T) -> usize {
    match known.iter().position(is) {
        Some(at) => at,
        None => {
            known.push(new());
            known.len() - 1
        }
    }
}
