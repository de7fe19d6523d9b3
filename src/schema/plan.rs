//! A schema in numbers: what each member means, ready to be walked.
//!
//! INVARIANT: a plan says exactly what its schema says. Operands of a union and of an intersection are put cheapest
//! first, which no answer can show.

use super::types::{Expr, Member, Quantifier, Schema, SubjectForm};
use crate::model::{MemberNum, SubjectKind, TypeName, TypeNum};

/// The numbers of names, as the store gave them.
pub trait Numbers {
    /// Of a definition.
    fn type_number(&self, name: &str) -> Option<TypeNum>;
    /// Of a relation or permission.
    fn member_number(&self, of: TypeNum, name: &str) -> Option<MemberNum>;
    /// Of a definition's `...`.
    fn itself(&self, of: TypeNum) -> Option<MemberNum>;
}

/// A name of the schema that has no number: the store and the schema do not belong together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` has no number")]
pub struct Unnumbered(pub String);

/// What every member of a schema means.
#[derive(Debug, Default)]
pub struct Plan {
    members: Vec<Option<MemberPlan>>,
    types: Vec<Option<TypeNum>>,
}

/// What one member means.
#[derive(Debug)]
pub enum MemberPlan {
    Relation(RelationPlan),
    Permission(PlanExpr),
}

/// Which rows a relation may have.
#[derive(Debug)]
pub struct RelationPlan {
    /// Subject forms, ascending.
    forms: Vec<(SubjectKind, MemberNum)>,
    /// Whether any form is a userset, so that memberships must be followed.
    pub has_usersets: bool,
}

/// A permission's expression in numbers. Kleene: union is max, intersection min, exclusion `min(base, not subtracted)`.
#[derive(Debug)]
pub enum PlanExpr {
    Nil,
    Member(MemberNum),
    Arrow { relation: MemberNum, targets: Targets, quantifier: Quantifier },
    Union(Vec<PlanExpr>),
    Intersection(Vec<PlanExpr>),
    Exclusion(Box<PlanExpr>, Box<PlanExpr>),
}

/// What an arrow asks of an object of each type; nothing of a type that lacks the target.
#[derive(Debug)]
pub struct Targets(Vec<(TypeNum, MemberNum)>);

impl Targets {
    /// The member asked of objects of this type.
    #[must_use]
    pub fn of(&self, object_type: TypeNum) -> Option<MemberNum> {
        self.0.iter().find(|(of, _)| *of == object_type).map(|(_, member)| *member)
    }
}

impl RelationPlan {
    /// Whether a row with such a subject may exist.
    #[must_use]
    pub fn admits(&self, kind: SubjectKind, member: MemberNum) -> bool {
        self.forms.binary_search(&(kind, member)).is_ok()
    }
}

impl Plan {
    /// Numbers a schema. Every name in it must have a number.
    pub fn new(schema: &Schema, numbers: &dyn Numbers) -> Result<Plan, Unnumbered> {
        let mut plan = Plan::default();
        for definition in schema.definitions() {
            let of = type_number(numbers, &definition.name)?;
            let itself = numbers.itself(of).ok_or_else(|| Unnumbered(definition.name.to_string()))?;
            plan.put(itself, of, None);
            for member in &definition.members {
                let number = member_number(numbers, of, member.name().as_str())?;
                let meaning = match member {
                    Member::Relation(relation) => {
                        let mut forms = Vec::with_capacity(relation.subjects.len());
                        for subject in &relation.subjects {
                            forms.push(form_numbers(numbers, &subject.subject_type, &subject.form)?);
                        }
                        forms.sort_unstable();
                        let has_usersets = forms.iter().any(|(kind, _)| *kind == SubjectKind::Userset);
                        MemberPlan::Relation(RelationPlan { forms, has_usersets })
                    }
                    Member::Permission(permission) => {
                        let context = Context { schema, numbers, of, name: &definition.name };
                        MemberPlan::Permission(context.expr(&permission.expr)?)
                    }
                };
                plan.put(number, of, Some(meaning));
            }
        }
        Ok(plan)
    }

    fn put(&mut self, member: MemberNum, of: TypeNum, meaning: Option<MemberPlan>) {
        let length = self.members.len().max(member.index() + 1);
        self.members.resize_with(length, || None);
        self.types.resize(length, None);
        if let (Some(slot), Some(owner)) = (self.members.get_mut(member.index()), self.types.get_mut(member.index())) {
            *slot = meaning;
            *owner = Some(of);
        }
    }

    /// What a member means; `None` if this schema has no such relation or permission.
    #[must_use]
    pub fn member(&self, member: MemberNum) -> Option<&MemberPlan> {
        self.members.get(member.index())?.as_ref()
    }

    /// The definition a member, or a `...`, belongs to.
    #[must_use]
    pub fn type_of(&self, member: MemberNum) -> Option<TypeNum> {
        self.types.get(member.index()).copied().flatten()
    }
}

fn type_number(numbers: &dyn Numbers, name: &TypeName) -> Result<TypeNum, Unnumbered> {
    numbers.type_number(name.as_str()).ok_or_else(|| Unnumbered(name.to_string()))
}

fn member_number(numbers: &dyn Numbers, of: TypeNum, name: &str) -> Result<MemberNum, Unnumbered> {
    numbers.member_number(of, name).ok_or_else(|| Unnumbered(name.to_owned()))
}

fn form_numbers(
    numbers: &dyn Numbers,
    subject_type: &TypeName,
    form: &SubjectForm,
) -> Result<(SubjectKind, MemberNum), Unnumbered> {
    let of = type_number(numbers, subject_type)?;
    let itself = || numbers.itself(of).ok_or_else(|| Unnumbered(subject_type.to_string()));
    Ok(match form {
        SubjectForm::Object => (SubjectKind::Plain, itself()?),
        SubjectForm::Wildcard => (SubjectKind::Wildcard, itself()?),
        SubjectForm::Userset(relation) => (SubjectKind::Userset, member_number(numbers, of, relation.as_str())?),
    })
}

struct Context<'a> {
    schema: &'a Schema,
    numbers: &'a dyn Numbers,
    of: TypeNum,
    name: &'a TypeName,
}

impl Context<'_> {
    /// Recursion is bounded by the depth the parser allows.
    fn expr(&self, expr: &Expr) -> Result<PlanExpr, Unnumbered> {
        Ok(match expr {
            Expr::Nil => PlanExpr::Nil,
            Expr::Member(name) => PlanExpr::Member(member_number(self.numbers, self.of, name.as_str())?),
            Expr::Arrow { relation, target, quantifier } => PlanExpr::Arrow {
                relation: member_number(self.numbers, self.of, relation.as_str())?,
                targets: self.targets(relation.as_str(), target.as_str())?,
                quantifier: *quantifier,
            },
            Expr::Union(operands) => PlanExpr::Union(self.cheapest_first(operands)?),
            Expr::Intersection(operands) => PlanExpr::Intersection(self.cheapest_first(operands)?),
            Expr::Exclusion(base, subtracted) => {
                PlanExpr::Exclusion(Box::new(self.expr(base)?), Box::new(self.expr(subtracted)?))
            }
        })
    }

    fn cheapest_first(&self, operands: &[Expr]) -> Result<Vec<PlanExpr>, Unnumbered> {
        let mut ordered: Vec<&Expr> = operands.iter().collect();
        ordered.sort_by_key(|operand| self.cost_rank(operand));
        ordered.into_iter().map(|operand| self.expr(operand)).collect()
    }

    /// Cheap before dear: one probe, then memberships, then what computes, then what visits other objects.
    fn cost_rank(&self, operand: &Expr) -> u8 {
        match operand {
            Expr::Nil => 0,
            Expr::Member(name) => {
                match self.schema.definition(self.name.as_str()).and_then(|d| d.member(name.as_str())) {
                    Some(Member::Relation(relation)) => {
                        let follows = |form: &SubjectForm| matches!(form, SubjectForm::Userset(_));
                        if relation.subjects.iter().any(|subject| follows(&subject.form)) { 2 } else { 1 }
                    }
                    Some(Member::Permission(_)) | None => 3,
                }
            }
            Expr::Union(_) | Expr::Intersection(_) | Expr::Exclusion(..) => 4,
            Expr::Arrow { .. } => 5,
        }
    }

    fn targets(&self, relation: &str, target: &str) -> Result<Targets, Unnumbered> {
        let mut targets = Vec::new();
        let definition = self.schema.definition(self.name.as_str());
        let subjects = definition.and_then(|d| d.relation(relation)).map_or(&[][..], |relation| &relation.subjects);
        for subject in subjects {
            let has_target =
                self.schema.definition(subject.subject_type.as_str()).is_some_and(|d| d.member(target).is_some());
            let of = type_number(self.numbers, &subject.subject_type)?;
            if has_target && !targets.iter().any(|(known, _)| *known == of) {
                targets.push((of, member_number(self.numbers, of, target)?));
            }
        }
        Ok(Targets(targets))
    }
}
