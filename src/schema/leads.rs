//! A plan read backwards from one member: which memberships and rows may lead to it. What a list walks to gather its
//! candidates.
//!
//! INVARIANT: nothing that can make a subject a member is missing here. Conjunctions are read as if each operand alone
//! were enough, and the right operand of `-` leads nowhere, because it only takes away: so what is reached backwards
//! is a superset of the members, and never the answer.

use super::plan::{MemberPlan, Plan, PlanExpr};
use crate::model::{MemberNum, SubjectKind};
use std::collections::{HashMap, HashSet};

/// What may lead to one member.
#[derive(Debug, Default)]
pub struct Leads {
    members: HashSet<MemberNum>,
    rows: HashMap<(SubjectKind, MemberNum), Vec<MemberNum>>,
    within: HashMap<MemberNum, Vec<MemberNum>>,
    arrows: HashMap<MemberNum, Vec<BackArrow>>,
}

/// An arrow walked against its direction: from an object that has the target, over the rows of `relation` whose subject
/// is that object in this form, to `permission` on the objects at their left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BackArrow {
    pub relation: MemberNum,
    pub kind: SubjectKind,
    pub subject: MemberNum,
    pub permission: MemberNum,
}

impl Leads {
    /// Whether holding this member may lead to the one asked for.
    #[must_use]
    pub fn has(&self, member: MemberNum) -> bool {
        self.members.contains(&member)
    }

    /// All members that holding may lead to the one asked for.
    pub fn members(&self) -> impl Iterator<Item = MemberNum> {
        self.members.iter().copied()
    }

    /// Relations that may have a row with such a subject.
    #[must_use]
    pub fn relations_of(&self, kind: SubjectKind, member: MemberNum) -> &[MemberNum] {
        self.rows.get(&(kind, member)).map_or(&[], Vec::as_slice)
    }

    /// Permissions of the same definition whose expression names the member.
    #[must_use]
    pub fn permissions_of(&self, member: MemberNum) -> &[MemberNum] {
        self.within.get(&member).map_or(&[], Vec::as_slice)
    }

    /// Arrows that ask for the member.
    #[must_use]
    pub fn arrows_of(&self, member: MemberNum) -> &[BackArrow] {
        self.arrows.get(&member).map_or(&[], Vec::as_slice)
    }
}

impl Plan {
    /// What may lead to `target`. Costs as much as the part of the schema that `target` leans on.
    #[must_use]
    pub fn leads_to(&self, target: MemberNum) -> Leads {
        let mut leads = Leads::default();
        let mut ahead = vec![target];
        leads.members.insert(target);
        // Bounded: each member of the schema is taken once.
        while let Some(member) = ahead.pop() {
            let mut leans_on = Vec::new();
            match self.member(member) {
                None => {}
                Some(MemberPlan::Relation(relation)) => {
                    for (kind, subject) in relation.forms() {
                        leads.rows.entry((*kind, *subject)).or_default().push(member);
                        match kind {
                            SubjectKind::Userset => leans_on.push(*subject),
                            SubjectKind::Wildcard | SubjectKind::Plain => {}
                        }
                    }
                }
                Some(MemberPlan::Permission(expr)) => self.lead(expr, member, &mut leads, &mut leans_on),
            }
            for member in leans_on {
                if leads.members.insert(member) {
                    ahead.push(member);
                }
            }
        }
        leads
    }

    /// Recursion is bounded by the depth the schema's parser allows.
    fn lead(&self, expr: &PlanExpr, permission: MemberNum, leads: &mut Leads, leans_on: &mut Vec<MemberNum>) {
        match expr {
            PlanExpr::Nil => {}
            PlanExpr::Itself(itself) => put_once(leads.within.entry(*itself).or_default(), permission),
            PlanExpr::Member(member) => {
                put_once(leads.within.entry(*member).or_default(), permission);
                leans_on.push(*member);
            }
            PlanExpr::Arrow { relation, targets, quantifier: _ } => {
                let forms = match self.member(*relation) {
                    Some(MemberPlan::Relation(relation)) => relation.forms(),
                    Some(MemberPlan::Permission(_)) | None => &[],
                };
                for (of, target) in targets.all() {
                    leans_on.push(target);
                    for (kind, subject) in forms.iter().filter(|(_, subject)| self.type_of(*subject) == Some(of)) {
                        let arrow = BackArrow { relation: *relation, kind: *kind, subject: *subject, permission };
                        put_once(leads.arrows.entry(target).or_default(), arrow);
                    }
                }
            }
            PlanExpr::Union(operands) | PlanExpr::Intersection(operands) => {
                for operand in operands {
                    self.lead(operand, permission, leads, leans_on);
                }
            }
            PlanExpr::Exclusion(base, _) => self.lead(base, permission, leads, leans_on),
        }
    }
}

/// An expression may say the same twice.
fn put_once<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}
