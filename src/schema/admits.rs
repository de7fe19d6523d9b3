//! May this tuple exist; may this be asked: what a schema says about references.
//!
//! INVARIANT: a tuple that a schema admits has a relation of it, one of that relation's subject forms with exactly its
//! caveat and with an expiry or without one as the form says, and a context that its caveat can be evaluated with.

use super::diagnostic::Suggester;
use super::types::{AllowedSubject, CaveatDefinition, Definition, Member, Relation, Schema, SubjectForm};
use crate::condition::StoredError;
use crate::model::{CaveatName, RelationName, RelationTuple, SubjectRef, TypeName};
use std::fmt;

/// Names looked through for "did you mean": a batch of unknown names must not cost a batch of whole schemas.
const CANDIDATES_MAX: usize = 256;

/// The side of a tuple or question that a name stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Object,
    Subject,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Object => "object",
            Side::Subject => "subject",
        })
    }
}

/// Why a schema does not admit a tuple, or does not know what is asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No definition has that name.
    #[error("unknown type `{name}` of the {side}")]
    UnknownType { side: Side, name: TypeName, meant: Option<String> },
    /// The definition has no such relation or permission.
    #[error("unknown relation or permission `{name}` of type `{definition}`")]
    UnknownRelation { side: Side, definition: TypeName, name: RelationName, meant: Option<String> },
    /// A tuple on a permission.
    #[error("`{definition}#{name}` is a permission; tuples stand on relations only")]
    NotARelation { definition: TypeName, name: RelationName },
    /// The relation takes other forms of subject.
    #[error("relation `{definition}#{relation}` does not take `{form}`")]
    SubjectNotAllowed {
        definition: TypeName,
        relation: RelationName,
        form: AllowedSubject,
        /// In source order.
        allowed: Vec<AllowedSubject>,
    },
    /// No caveat has that name.
    #[error("unknown caveat `{name}`")]
    UnknownCaveat { name: CaveatName, meant: Option<String> },
    /// The values stored with the caveat are not such as it declares.
    #[error("caveat `{caveat}`: {error}")]
    ContextNotAllowed { caveat: CaveatName, error: StoredError },
    /// A question about a permission, asked of a relation.
    #[error("`{definition}#{name}` is a relation; permissions are made of others")]
    NotAPermission { definition: TypeName, name: RelationName },
}

impl Refusal {
    /// A likely fix, where there is one.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Refusal::UnknownType { meant, .. }
            | Refusal::UnknownRelation { meant, .. }
            | Refusal::UnknownCaveat { meant, .. } => meant.as_ref().map(|meant| format!("did you mean `{meant}`?")),
            Refusal::SubjectNotAllowed { allowed, .. } => {
                const SHOWN_MAX: usize = 12;
                let shown: Vec<String> = allowed.iter().take(SHOWN_MAX).map(|form| format!("`{form}`")).collect();
                let more = if allowed.len() > SHOWN_MAX { ", …" } else { "" };
                Some(format!("it takes {}{more}", shown.join(", ")))
            }
            Refusal::ContextNotAllowed { error, .. } => error.hint(),
            Refusal::NotARelation { .. } | Refusal::NotAPermission { .. } => None,
        }
    }

    /// The side of the tuple or question that is at fault.
    #[must_use]
    pub fn side(&self) -> Side {
        match self {
            Refusal::UnknownType { side, .. } | Refusal::UnknownRelation { side, .. } => *side,
            Refusal::NotARelation { .. } | Refusal::NotAPermission { .. } => Side::Object,
            Refusal::SubjectNotAllowed { .. } | Refusal::UnknownCaveat { .. } | Refusal::ContextNotAllowed { .. } => {
                Side::Subject
            }
        }
    }
}

impl Schema {
    /// Whether the tuple may exist: its relation is one, takes the subject's form with the tuple's caveat and expiry, and
    /// the caveat takes the context stored with it.
    pub fn admits(&self, tuple: &RelationTuple) -> Result<(), Refusal> {
        let definition = self.resolve_type(Side::Object, &tuple.key.object.object_type)?;
        let relation = known_relation(definition, &tuple.key.relation)?;
        self.resolve_subject(&tuple.key.subject)?;
        let stored = match &tuple.caveat {
            Some(caveat) => Some((caveat, self.resolve_caveat(&caveat.name)?)),
            None => None,
        };
        let form = AllowedSubject::of(tuple);
        if !relation.takes(&form) {
            return Err(Refusal::SubjectNotAllowed {
                definition: definition.name.clone(),
                relation: relation.name.clone(),
                form,
                allowed: relation.subjects.clone(),
            });
        }
        if let Some((stored, caveat)) = stored {
            let not_allowed = |error| Refusal::ContextNotAllowed { caveat: caveat.name.clone(), error };
            caveat.compiled.judge_stored(&stored.context).map_err(not_allowed)?;
        }
        Ok(())
    }

    /// The caveat that a tuple names.
    pub fn resolve_caveat(&self, name: &CaveatName) -> Result<&CaveatDefinition, Refusal> {
        self.caveat(name.as_str()).ok_or_else(|| {
            let names = self.caveats().iter().take(CANDIDATES_MAX).map(|caveat| caveat.name.as_str());
            let meant = Suggester::new().closest(name.as_str(), names).map(str::to_owned);
            Refusal::UnknownCaveat { name: name.clone(), meant }
        })
    }

    /// The parameter of a caveat that a context's key was probably meant for.
    #[must_use]
    pub fn parameter_meant(&self, key: &str) -> Option<&str> {
        let names = self.caveats().iter().take(CANDIDATES_MAX).flat_map(|caveat| &caveat.parameters);
        Suggester::new().closest(key, names.map(|(name, _)| name.as_str()))
    }

    /// The relation or permission that a question or filter names on an object.
    pub fn resolve_member(&self, object_type: &TypeName, name: &RelationName) -> Result<&Member, Refusal> {
        known_member(Side::Object, self.resolve_type(Side::Object, object_type)?, name)
    }

    /// The relation that a tuple or filter names on an object; a permission is refused.
    pub fn resolve_relation(&self, object_type: &TypeName, name: &RelationName) -> Result<&Relation, Refusal> {
        known_relation(self.resolve_type(Side::Object, object_type)?, name)
    }

    /// Whether a subject's type exists, and for a userset its relation or permission.
    pub fn resolve_subject(&self, subject: &SubjectRef) -> Result<(), Refusal> {
        let definition = self.resolve_type(Side::Subject, subject.subject_type())?;
        match subject {
            SubjectRef::Object(_) | SubjectRef::Wildcard(_) => Ok(()),
            SubjectRef::Userset(_, name) => known_member(Side::Subject, definition, name).map(drop),
        }
    }

    /// The definition that a question, filter or tuple names on one of its sides.
    pub fn resolve_type(&self, side: Side, name: &TypeName) -> Result<&Definition, Refusal> {
        self.definition(name.as_str()).ok_or_else(|| {
            let names = self.definitions().iter().take(CANDIDATES_MAX).map(|definition| definition.name.as_str());
            let meant = Suggester::new().closest(name.as_str(), names).map(str::to_owned);
            Refusal::UnknownType { side, name: name.clone(), meant }
        })
    }
}

fn known_member<'s>(side: Side, definition: &'s Definition, name: &RelationName) -> Result<&'s Member, Refusal> {
    definition.member(name.as_str()).ok_or_else(|| {
        let names = definition.members.iter().take(CANDIDATES_MAX).map(|member| member.name().as_str());
        let meant = Suggester::new().closest(name.as_str(), names).map(str::to_owned);
        Refusal::UnknownRelation { side, definition: definition.name.clone(), name: name.clone(), meant }
    })
}

fn known_relation<'s>(definition: &'s Definition, name: &RelationName) -> Result<&'s Relation, Refusal> {
    match known_member(Side::Object, definition, name)? {
        Member::Relation(relation) => Ok(relation),
        Member::Permission(permission) => {
            Err(Refusal::NotARelation { definition: definition.name.clone(), name: permission.name.clone() })
        }
    }
}

impl Relation {
    /// Whether tuples may have a subject of that form.
    #[must_use]
    pub fn takes(&self, form: &AllowedSubject) -> bool {
        self.subjects.contains(form)
    }
}

impl AllowedSubject {
    /// The form that a tuple has.
    #[must_use]
    pub fn of(tuple: &RelationTuple) -> AllowedSubject {
        let subject = &tuple.key.subject;
        let form = match subject {
            SubjectRef::Object(_) => SubjectForm::Object,
            SubjectRef::Userset(_, relation) => SubjectForm::Userset(relation.clone()),
            SubjectRef::Wildcard(_) => SubjectForm::Wildcard,
        };
        let caveat = tuple.caveat.as_ref().map(|caveat| caveat.name.clone());
        let expires = tuple.expires_at.is_some();
        AllowedSubject { subject_type: subject.subject_type().clone(), form, caveat, expires }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Limits;
    use crate::schema::compile;

    fn world() -> Schema {
        let text = "use expiration
            caveat at_work(hour int) { hour > 8 }
            caveat elsewhere(city string) { city != 'Rome' }
            definition user {}
            definition group { relation member: user | group#member }
            definition doc {
              relation viewer: user | group#member
              relation public: user:*
              relation guest: user with at_work | user with at_work and expiration
              relation brief: user with expiration
              permission view = viewer + public
            }";
        compile(text, &Limits::default()).unwrap().schema
    }

    /// The refusal and its hint, in words; empty when the tuple may exist.
    fn check(tuple: &str, expected: &str) {
        let tuple: RelationTuple = tuple.parse().unwrap();
        let found = match world().admits(&tuple) {
            Ok(()) => String::new(),
            Err(refusal) => format!("{refusal} / {}", refusal.hint().unwrap_or_default()),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn tuples_have_the_forms_of_their_relation() {
        check("doc:1#viewer@user:rita", "");
        check("doc:1#viewer@user:rita#...", "");
        check("doc:1#viewer@group:g#member", "");
        check("doc:1#public@user:*", "");
        let takes = "it takes `user`, `group#member`";
        check("doc:1#viewer@user:*", &format!("relation `doc#viewer` does not take `user:*` / {takes}"));
        check("doc:1#viewer@group:g", &format!("relation `doc#viewer` does not take `group` / {takes}"));
        check("doc:1#viewer@doc:2#view", &format!("relation `doc#viewer` does not take `doc#view` / {takes}"));
        check("doc:1#public@user:rita", "relation `doc#public` does not take `user` / it takes `user:*`");
    }

    #[test]
    fn names_are_known() {
        check("dok:1#viewer@user:rita", "unknown type `dok` of the object / did you mean `doc`?");
        check("doc:1#viewer@usr:rita", "unknown type `usr` of the subject / did you mean `user`?");
        let unknown = "unknown relation or permission";
        check("doc:1#viewr@user:rita", &format!("{unknown} `viewr` of type `doc` / did you mean `viewer`?"));
        check("doc:1#viewer@group:g#zzz", &format!("{unknown} `zzz` of type `group` / "));
        check("doc:1#view@user:rita", "`doc#view` is a permission; tuples stand on relations only / ");
    }

    #[test]
    fn caveat_and_expiry_are_of_the_form() {
        let ends = "[expiration:2030-01-01T00:00:00Z]";
        check("doc:1#guest@user:rita[at_work]", "");
        check("doc:1#guest@user:rita[at_work:{\"hour\": 9}]", "");
        check(&format!("doc:1#guest@user:rita[at_work]{ends}"), "");
        check(&format!("doc:1#brief@user:rita{ends}"), "");
        let takes = "it takes `user with at_work`, `user with at_work and expiration`";
        let refused = |form: &str| format!("relation `doc#guest` does not take `{form}` / {takes}");
        check("doc:1#guest@user:rita", &refused("user"));
        check("doc:1#guest@user:rita[elsewhere]", &refused("user with elsewhere"));
        check(&format!("doc:1#guest@user:rita{ends}"), &refused("user with expiration"));
        check("doc:1#brief@user:rita", "relation `doc#brief` does not take `user` / it takes `user with expiration`");
        check(
            &format!("doc:1#viewer@user:rita{ends}"),
            "relation `doc#viewer` does not take `user with expiration` / it takes `user`, `group#member`",
        );
        check("doc:1#guest@user:rita[at_wrk]", "unknown caveat `at_wrk` / did you mean `at_work`?");
        check(
            "doc:1#guest@user:rita[at_work:{\"houre\": 9}]",
            "caveat `at_work`: the caveat has no parameter `houre` / did you mean `hour`?",
        );
        let tuple: RelationTuple = "doc:1#guest@user:rita[at_work:{\"hour\": \"late\"}]".parse().unwrap();
        let refusal = world().admits(&tuple).unwrap_err().to_string();
        assert!(refusal.starts_with("caveat `at_work`: the value of `hour` is no int"), "{refusal}");
    }

    #[test]
    fn questions_name_relations_and_permissions() {
        let (world, doc) = (world(), TypeName::new("doc").unwrap());
        for (name, known) in [("view", true), ("viewer", true), ("edit", false)] {
            assert_eq!(world.resolve_member(&doc, &RelationName::new(name).unwrap()).is_ok(), known, "{name}");
        }
        for (tuple, known) in [("doc:1#view", true), ("doc:1#viewer", true), ("doc:1#edit", false), ("x:1#view", false)]
        {
            let tuple: RelationTuple = format!("doc:1#viewer@{tuple}").parse().unwrap();
            assert_eq!(world.resolve_subject(&tuple.key.subject).is_ok(), known, "{tuple:?}");
        }
    }
}
