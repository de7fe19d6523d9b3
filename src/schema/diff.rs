//! What changes in meaning from one schema to the next. Comments, order and form are not meaning.

use super::types::{AllowedSubject, Definition, Member, Permission, Relation, Schema};
use crate::model::{RelationName, TypeName};
use std::collections::{HashMap, HashSet};
use std::fmt;

/// One difference. `Display` is one line: `added permission project#archive`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A type, with all it has.
    AddedDefinition {
        definition: TypeName,
    },
    RemovedDefinition {
        definition: TypeName,
    },
    AddedRelation {
        definition: TypeName,
        relation: RelationName,
    },
    RemovedRelation {
        definition: TypeName,
        relation: RelationName,
    },
    AddedSubject {
        definition: TypeName,
        relation: RelationName,
        form: AllowedSubject,
    },
    RemovedSubject {
        definition: TypeName,
        relation: RelationName,
        form: AllowedSubject,
    },
    AddedPermission {
        definition: TypeName,
        permission: RelationName,
    },
    RemovedPermission {
        definition: TypeName,
        permission: RelationName,
    },
    /// Both meanings, on one line each.
    ChangedPermission {
        definition: TypeName,
        permission: RelationName,
        from: String,
        to: String,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::AddedDefinition { definition } => write!(f, "added definition {definition}"),
            Change::RemovedDefinition { definition } => write!(f, "removed definition {definition}"),
            Change::AddedRelation { definition, relation } => write!(f, "added relation {definition}#{relation}"),
            Change::RemovedRelation { definition, relation } => write!(f, "removed relation {definition}#{relation}"),
            Change::AddedSubject { definition, relation, form } => {
                write!(f, "added subject form {form} to {definition}#{relation}")
            }
            Change::RemovedSubject { definition, relation, form } => {
                write!(f, "removed subject form {form} of {definition}#{relation}")
            }
            Change::AddedPermission { definition, permission } => {
                write!(f, "added permission {definition}#{permission}")
            }
            Change::RemovedPermission { definition, permission } => {
                write!(f, "removed permission {definition}#{permission}")
            }
            Change::ChangedPermission { definition, permission, from, to } => {
                write!(f, "changed permission {definition}#{permission}: `{from}` → `{to}`")
            }
        }
    }
}

/// What changes, in the old schema's order and then in the new one's. Without an old one, everything is added.
#[must_use]
pub fn diff(old: Option<&Schema>, new: &Schema) -> Vec<Change> {
    let mut changes = Vec::new();
    for before in old.map(Schema::definitions).unwrap_or_default() {
        match new.definition(before.name.as_str()) {
            Some(after) => definition(before, after, &mut changes),
            None => changes.push(Change::RemovedDefinition { definition: before.name.clone() }),
        }
    }
    for after in new.definitions() {
        if old.and_then(|old| old.definition(after.name.as_str())).is_none() {
            changes.push(Change::AddedDefinition { definition: after.name.clone() });
        }
    }
    changes
}

fn by_name(definition: &Definition) -> HashMap<&str, &Member> {
    definition.members.iter().map(|member| (member.name().as_str(), member)).collect()
}

fn definition(before: &Definition, after: &Definition, changes: &mut Vec<Change>) {
    let (olds, news) = (by_name(before), by_name(after));
    let name = &before.name;
    for old in &before.members {
        match (old, news.get(old.name().as_str())) {
            (Member::Relation(old), Some(Member::Relation(new))) => relation(name, old, new, changes),
            (Member::Permission(old), Some(Member::Permission(new))) => permission(name, old, new, changes),
            (Member::Relation(old), Some(Member::Permission(_)) | None) => {
                changes.push(Change::RemovedRelation { definition: name.clone(), relation: old.name.clone() });
            }
            (Member::Permission(old), Some(Member::Relation(_)) | None) => {
                changes.push(Change::RemovedPermission { definition: name.clone(), permission: old.name.clone() });
            }
        }
    }
    for new in &after.members {
        match (olds.get(new.name().as_str()), new) {
            (Some(Member::Relation(_)), Member::Relation(_)) => {}
            (Some(Member::Permission(_)), Member::Permission(_)) => {}
            (Some(Member::Permission(_)) | None, Member::Relation(new)) => {
                changes.push(Change::AddedRelation { definition: name.clone(), relation: new.name.clone() });
            }
            (Some(Member::Relation(_)) | None, Member::Permission(new)) => {
                changes.push(Change::AddedPermission { definition: name.clone(), permission: new.name.clone() });
            }
        }
    }
}

fn relation(definition: &TypeName, old: &Relation, new: &Relation, changes: &mut Vec<Change>) {
    let of = |form: &AllowedSubject| (definition.clone(), old.name.clone(), form.clone());
    for form in forms_without(old, new) {
        let (definition, relation, form) = of(form);
        changes.push(Change::RemovedSubject { definition, relation, form });
    }
    for form in forms_without(new, old) {
        let (definition, relation, form) = of(form);
        changes.push(Change::AddedSubject { definition, relation, form });
    }
}

/// The forms that one relation takes and the other does not.
fn forms_without<'r>(one: &'r Relation, other: &Relation) -> Vec<&'r AllowedSubject> {
    let others: HashSet<&AllowedSubject> = other.subjects.iter().collect();
    one.subjects.iter().filter(|form| !others.contains(form)).collect()
}

fn permission(definition: &TypeName, old: &Permission, new: &Permission, changes: &mut Vec<Change>) {
    if old.expr == new.expr {
        return;
    }
    changes.push(Change::ChangedPermission {
        definition: definition.clone(),
        permission: old.name.clone(),
        from: old.expr.to_string(),
        to: new.expr.to_string(),
    });
}

/// The subject forms that tuples could have and can have no more, with their definition and relation: also all forms
/// of relations and definitions that are gone, or became permissions. A live tuple of one would be impossible.
#[must_use]
pub fn removed_forms(old: &Schema, new: &Schema) -> Vec<(TypeName, RelationName, AllowedSubject)> {
    let mut removed = Vec::new();
    for before in old.definitions() {
        let news = new.definition(before.name.as_str()).map(by_name).unwrap_or_default();
        for member in &before.members {
            let Member::Relation(old) = member else {
                continue;
            };
            let forms = match news.get(old.name.as_str()) {
                Some(Member::Relation(new)) => forms_without(old, new),
                Some(Member::Permission(_)) | None => old.subjects.iter().collect(),
            };
            removed.extend(forms.into_iter().map(|form| (before.name.clone(), old.name.clone(), form.clone())));
        }
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Limits;
    use crate::schema::compile;

    fn schema(text: &str) -> Schema {
        let text = format!("definition user {{}}\ndefinition group {{ relation member: user }}\n{text}");
        compile(&text, &Limits::default()).unwrap_or_else(|errors| panic!("{text}\n{errors:#?}")).schema
    }

    /// The changes, and the forms that are gone.
    fn check(old: &str, new: &str, changes: &[&str], removed: &[&str]) {
        let (old, new) = (schema(old), schema(new));
        let found: Vec<String> = diff(Some(&old), &new).iter().map(ToString::to_string).collect();
        assert_eq!(found, changes);
        let gone = removed_forms(&old, &new).into_iter();
        let gone: Vec<String> =
            gone.map(|(definition, relation, form)| format!("{definition}#{relation}@{form}")).collect();
        assert_eq!(gone, removed);
    }

    #[test]
    fn form_is_not_meaning() {
        check(
            "definition d { relation a: user | group#member; permission b = (a + a) + a }",
            "// New.\ndefinition d {\n permission b = a + a + a\n relation a: group#member | user#... }",
            &[],
            &[],
        );
    }

    #[test]
    fn changes_are_told_one_by_one() {
        check(
            "definition d { relation a: user | user:*; relation b: user; permission c = a; permission e = a }
             definition x {}",
            "definition d { relation a: user | group#member; permission b = a; permission c = a + b - a }
             definition y {}",
            &[
                "removed subject form user:* of d#a",
                "added subject form group#member to d#a",
                "removed relation d#b",
                "changed permission d#c: `a` → `(a + b) - a`",
                "removed permission d#e",
                "added permission d#b",
                "removed definition x",
                "added definition y",
            ],
            &["d#a@user:*", "d#b@user"],
        );
    }

    #[test]
    fn what_is_gone_takes_its_forms_along() {
        let gone = ["d#a@user", "d#a@group#member", "d#a@d:*"];
        check("definition d { relation a: user | group#member | d:* }", "", &["removed definition d"], &gone);
        check("", "definition d { relation a: user }", &["added definition d"], &[]);
    }

    #[test]
    fn the_first_schema_adds_everything() {
        let all: Vec<String> = diff(None, &schema("")).iter().map(ToString::to_string).collect();
        assert_eq!(all, ["added definition user", "added definition group"]);
    }
}
