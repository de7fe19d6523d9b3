//! What a schema is once it has been understood: definitions with their relations and permissions, names resolved.
//!
//! INVARIANT: every name in an expression is a member of its definition, every arrow's left side is a relation, and no
//! cycle passes through a right operand of `-`. `compile` is the only place a `Schema` is made.

use crate::condition::{self, ParameterType};
use crate::model::{CaveatName, RelationName, TypeName};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// A whole schema. Immutable; named by the digest of its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    pub(super) text: String,
    pub(super) digest: String,
    pub(super) definitions: Vec<Definition>,
    pub(super) by_name: HashMap<TypeName, usize>,
    pub(super) caveats: Vec<CaveatDefinition>,
    pub(super) caveats_by_name: HashMap<CaveatName, usize>,
}

/// A named condition that tuples may carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaveatDefinition {
    pub name: CaveatName,
    /// The doc comment above it, as of a definition.
    pub doc: String,
    /// As declared, in their order.
    pub parameters: Vec<(String, ParameterType)>,
    /// CEL, the indentation that its lines share removed.
    pub body: String,
    /// Ready to be evaluated.
    pub compiled: Arc<condition::Caveat>,
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
    /// Declared with `parent`: its subjects are the object's place in the resource hierarchy, and plain objects only.
    pub is_parent: bool,
}

/// One form of subject that a relation takes. `user`, `user with c`, `user with expiration` and
/// `user with c and expiration` are four forms: a tuple stands in the one that has its caveat, or none, and whether it
/// expires.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AllowedSubject {
    pub subject_type: TypeName,
    pub form: SubjectForm,
    /// The caveat that every tuple of the form has.
    pub caveat: Option<CaveatName>,
    /// Every tuple of the form has an expiry; otherwise none has.
    pub expires: bool,
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
    /// Types of subject that it may hold for, as annotated under `use typechecking`: found to be all there can be.
    pub subject_types: Option<Vec<TypeName>>,
    pub expr: Expr,
}

/// A permission's meaning. Kleene: union is max, intersection min, exclusion `min(base, not subtracted)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expr {
    /// Nobody.
    Nil,
    /// `self`: the plain object itself, never a userset of it.
    Itself,
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

    /// All caveats, in source order.
    #[must_use]
    pub fn caveats(&self) -> &[CaveatDefinition] {
        &self.caveats
    }

    /// The caveat of that name.
    #[must_use]
    pub fn caveat(&self, name: &str) -> Option<&CaveatDefinition> {
        self.caveats_by_name.get(name).and_then(|index| self.caveats.get(*index))
    }

    /// The relations of a type that place its objects in the resource hierarchy, in source order.
    pub fn parents(&self, object_type: &TypeName) -> impl Iterator<Item = &Relation> {
        let members = self.definition(object_type.as_str()).map_or(&[][..], |definition| &definition.members);
        members.iter().filter_map(|member| match member {
            Member::Relation(relation) if relation.is_parent => Some(relation),
            Member::Relation(_) | Member::Permission(_) => None,
        })
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

/// `user`, `group#member`, `user:* with c and expiration`
impl fmt::Display for AllowedSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.form {
            SubjectForm::Object => write!(f, "{}", self.subject_type)?,
            SubjectForm::Userset(relation) => write!(f, "{}#{relation}", self.subject_type)?,
            SubjectForm::Wildcard => write!(f, "{}:*", self.subject_type)?,
        }
        match (&self.caveat, self.expires) {
            (None, false) => Ok(()),
            (None, true) => f.write_str(" with expiration"),
            (Some(caveat), false) => write!(f, " with {caveat}"),
            (Some(caveat), true) => write!(f, " with {caveat} and expiration"),
        }
    }
}

/// In the language, with parentheses around every operation within another: nobody must know what binds tighter.
impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expr::Nil => f.write_str("nil"),
            Expr::Itself => f.write_str("self"),
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
            Expr::Nil | Expr::Itself | Expr::Member(_) | Expr::Arrow { .. } => write!(f, "{operand}")?,
            Expr::Union(_) | Expr::Intersection(_) | Expr::Exclusion(..) => write!(f, "({operand})")?,
        }
    }
    Ok(())
}
