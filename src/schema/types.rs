//! What a schema is once it has been understood: definitions with their relations and permissions, names resolved.
//!
//! INVARIANT: every name in an expression is a member of its definition, every arrow's left side is a relation, and no
//! cycle passes through a right operand of `-`. `compile` is the only place a `Schema` is made.

use crate::model::{RelationName, TypeName};
use std::collections::HashMap;
use std::fmt;

/// A whole schema. Immutable; named by the digest of its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    pub(super) text: String,
    pub(super) digest: String,
    pub(super) definitions: Vec<Definition>,
    pub(super) by_name: HashMap<TypeName, usize>,
}

/// A type of object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    pub name: TypeName,
    /// The doc comment above it, as written, without its markers; empty when there is none.
    pub doc: String,
    /// In source order.
    pub members: Vec<Member>,
}

/// A relation or a permission of a definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Member {
    Relation(Relation),
    Permission(Permission),
}

/// What tuples may be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    pub name: RelationName,
    pub doc: String,
    pub subjects: Vec<AllowedSubject>,
}

/// One form of subject that a relation takes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AllowedSubject {
    pub subject_type: TypeName,
    pub form: SubjectForm,
}

/// `T` (also written `T#...`), `T#relation`, `T:*`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SubjectForm {
    Object,
    Userset(RelationName),
    Wildcard,
}

/// What is computed from tuples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permission {
    pub name: RelationName,
    pub doc: String,
    pub expr: Expr,
}

/// A permission's meaning. Kleene: union is max, intersection min, exclusion `min(base, not subtracted)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expr {
    /// Nobody.
    Nil,
    /// A relation or permission of the same object.
    Member(RelationName),
    /// `relation->target`: the target on the object of every subject of the relation. Types without it contribute
    /// nothing to `any`, and count as Not under `all`.
    Arrow {
        relation: RelationName,
        target: RelationName,
        quantifier: Quantifier,
    },
    Union(Vec<Expr>),
    Intersection(Vec<Expr>),
    Exclusion(Box<Expr>, Box<Expr>),
}

/// How many of an arrow's objects must have the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Quantifier {
    /// `->` and `.any`
    Any,
    /// `.all`: every one, and there is at least one.
    All,
}

impl Schema {
    /// The text as it was written, byte for byte.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// SHA-256 of the text, in lower-case hex.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// All definitions, in source order.
    #[must_use]
    pub fn definitions(&self) -> &[Definition] {
        &self.definitions
    }

    /// The definition of that name.
    #[must_use]
    pub fn definition(&self, name: &str) -> Option<&Definition> {
        self.by_name.get(name).and_then(|index| self.definitions.get(*index))
    }
}

impl Definition {
    /// The relation or permission of that name.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name().as_str() == name)
    }

    /// The relation of that name; `None` for a permission.
    #[must_use]
    pub fn relation(&self, name: &str) -> Option<&Relation> {
        match self.member(name) {
            Some(Member::Relation(relation)) => Some(relation),
            Some(Member::Permission(_)) | None => None,
        }
    }
}

impl Member {
    /// The member's name.
    #[must_use]
    pub fn name(&self) -> &RelationName {
        match self {
            Member::Relation(relation) => &relation.name,
            Member::Permission(permission) => &permission.name,
        }
    }
}

/// `user`, `group#member`, `user:*`
impl fmt::Display for AllowedSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.form {
            SubjectForm::Object => write!(f, "{}", self.subject_type),
            SubjectForm::Userset(relation) => write!(f, "{}#{relation}", self.subject_type),
            SubjectForm::Wildcard => write!(f, "{}:*", self.subject_type),
        }
    }
}

/// In the language, with parentheses around every operation within another: nobody must know what binds tighter.
impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expr::Nil => f.write_str("nil"),
            Expr::Member(name) => write!(f, "{name}"),
            Expr::Arrow { relation, target, quantifier: Quantifier::Any } => write!(f, "{relation}->{target}"),
            Expr::Arrow { relation, target, quantifier: Quantifier::All } => write!(f, "{relation}.all({target})"),
            Expr::Union(operands) => joined(f, " + ", operands.iter()),
            Expr::Intersection(operands) => joined(f, " & ", operands.iter()),
            Expr::Exclusion(base, subtracted) => joined(f, " - ", [base.as_ref(), subtracted.as_ref()].into_iter()),
        }
    }
}

/// Recursion is bounded by the depth of an expression.
fn joined<'e>(f: &mut fmt::Formatter<'_>, sign: &str, operands: impl Iterator<Item = &'e Expr>) -> fmt::Result {
    for (index, operand) in operands.enumerate() {
        if index > 0 {
            f.write_str(sign)?;
        }
        match operand {
            Expr::Nil | Expr::Member(_) | Expr::Arrow { .. } => write!(f, "{operand}")?,
            Expr::Union(_) | Expr::Intersection(_) | Expr::Exclusion(..) => write!(f, "({operand})")?,
        }
    }
    Ok(())
}
