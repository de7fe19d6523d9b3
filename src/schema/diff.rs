//! What changes in meaning from one schema to the next. Comments, order and form are not meaning; nor are partials,
//! whose members are their definitions', and annotations, which change no answer. A caveat's condition is compared as
//! text, its indentation aside.

use super::types::{AllowedSubject, CaveatDefinition, Definition, Member, Permission, Relation, Schema};
use crate::condition::ParameterType;
use crate::model::{CaveatName, RelationName, TypeName};
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
    /// A relation became a `parent`: its live tuples are to be judged as a hierarchy.
    BecameParent {
        definition: TypeName,
        relation: RelationName,
    },
    /// A `parent` became a relation like any other.
    BecameRelation {
        definition: TypeName,
        relation: RelationName,
    },
    AddedCaveat {
        caveat: CaveatName,
    },
    RemovedCaveat {
        caveat: CaveatName,
    },
    /// Parameters, as declared: `a int, b list<string>`.
    ChangedParameters {
        caveat: CaveatName,
        from: String,
        to: String,
    },
    /// Both conditions, on one line each.
    ChangedCondition {
        caveat: CaveatName,
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
            Change::BecameParent { definition, relation } => {
                write!(f, "changed relation {definition}#{relation}: to a parent")
            }
            Change::BecameRelation { definition, relation } => {
                write!(f, "changed relation {definition}#{relation}: no longer a parent")
            }
            Change::AddedCaveat { caveat } => write!(f, "added caveat {caveat}"),
            Change::RemovedCaveat { caveat } => write!(f, "removed caveat {caveat}"),
            Change::ChangedParameters { caveat, from, to } => {
                write!(f, "changed parameters of caveat {caveat}: `{from}` → `{to}`")
            }
            Change::ChangedCondition { caveat, from, to } => {
                write!(f, "changed condition of caveat {caveat}: `{from}` → `{to}`")
            }
        }
    }
}

/// What changes, caveats first, in the old schema's order and then in the new one's. Without an old one, everything is
/// added.
#[must_use]
pub fn diff(old: Option<&Schema>, new: &Schema) -> Vec<Change> {
    let mut changes = Vec::new();
    for before in old.map(Schema::caveats).unwrap_or_default() {
        match new.caveat(before.name.as_str()) {
            Some(after) => caveat(before, after, &mut changes),
            None => changes.push(Change::RemovedCaveat { caveat: before.name.clone() }),
        }
    }
    for after in new.caveats() {
        if old.and_then(|old| old.caveat(after.name.as_str())).is_none() {
            changes.push(Change::AddedCaveat { caveat: after.name.clone() });
        }
    }
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

fn caveat(before: &CaveatDefinition, after: &CaveatDefinition, changes: &mut Vec<Change>) {
    let caveat = &before.name;
    // Contexts name parameters, so their order is no meaning.
    let sorted = |of: &CaveatDefinition| {
        let mut parameters: Vec<String> = of.parameters.iter().map(|(name, kind)| format!("{name} {kind}")).collect();
        parameters.sort_unstable();
        parameters.join(", ")
    };
    let (from, to) = (sorted(before), sorted(after));
    if from != to {
        changes.push(Change::ChangedParameters { caveat: caveat.clone(), from, to });
    }
    if before.body != after.body {
        let line = |body: &str| body.split_whitespace().collect::<Vec<_>>().join(" ");
        let (from, to) = (line(&before.body), line(&after.body));
        changes.push(Change::ChangedCondition { caveat: caveat.clone(), from, to });
    }
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
    let (definition_name, relation_name) = (definition.clone(), old.name.clone());
    match (old.is_parent, new.is_parent) {
        (false, true) => {
            changes.push(Change::BecameParent { definition: definition_name, relation: relation_name });
        }
        (true, false) => {
            changes.push(Change::BecameRelation { definition: definition_name, relation: relation_name });
        }
        (true, true) | (false, false) => {}
    }
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

/// The relations that are a `parent` and were none before, with their definitions: new ones have no tuples, and those of
/// the others have yet to be judged as a hierarchy.
#[must_use]
pub fn new_parents(old: &Schema, new: &Schema) -> Vec<(TypeName, RelationName)> {
    let was_parent = |definition: &TypeName, name: &RelationName| {
        let before = old.definition(definition.as_str());
        before.and_then(|before| before.relation(name.as_str())).is_some_and(|before| before.is_parent)
    };
    let parents = new.definitions().iter().flat_map(|definition| {
        new.parents(&definition.name).map(|relation| (definition.name.clone(), relation.name.clone()))
    });
    parents.filter(|(definition, name)| !was_parent(definition, name)).collect()
}

/// The caveats, in the old schema and the new, that no longer take every context they took: a parameter is gone, or has
/// another type. Contexts stored with live tuples may be such.
#[must_use]
pub fn narrowed_caveats(old: &Schema, new: &Schema) -> Vec<CaveatName> {
    let narrowed = old.caveats().iter().filter(|before| {
        new.caveat(before.name.as_str()).is_some_and(|after| {
            let after: HashMap<&str, &ParameterType> =
                after.parameters.iter().map(|(name, kind)| (name.as_str(), kind)).collect();
            before.parameters.iter().any(|(name, kind)| after.get(name.as_str()) != Some(&kind))
        })
    });
    narrowed.map(|caveat| caveat.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Limits;
    use crate::schema::compile;

    fn schema(text: &str) -> Schema {
        let text = format!("{text}\ndefinition user {{}}\ndefinition group {{ relation member: user }}\n");
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
    fn caveats_and_their_forms() {
        let old = "use expiration
            caveat c(a int, b string) { a > 1 && b == 'x' }\ncaveat gone(a int) { a > 1 }
            definition d { relation r: user | user with c | user with expiration; relation s: user with gone }";
        let new = "use expiration
            // New.\ncaveat c(b string, a uint) {\n  a > 1 &&\n  b == 'y'\n}\ncaveat fresh(a int) { a > 1 }
            definition d { relation r: user | user with c and expiration; relation s: user }";
        check(
            old,
            new,
            &[
                "changed parameters of caveat c: `a int, b string` → `a uint, b string`",
                "changed condition of caveat c: `a > 1 && b == 'x'` → `a > 1 && b == 'y'`",
                "removed caveat gone",
                "added caveat fresh",
                "removed subject form user with c of d#r",
                "removed subject form user with expiration of d#r",
                "added subject form user with c and expiration to d#r",
                "removed subject form user with gone of d#s",
                "added subject form user to d#s",
            ],
            &["d#r@user with c", "d#r@user with expiration", "d#s@user with gone"],
        );
        let names = |old: &str, new: &str| {
            let found = narrowed_caveats(&schema(old), &schema(new));
            found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names(old, new), "c");
        assert_eq!(names("caveat c(a int) { a > 1 }", "caveat c(a int, b int) { a > b }"), "");
        assert_eq!(names("caveat c(a int, b int) { a > b }", "caveat c(a int) { a > 1 }"), "c");
        let moved = "caveat c(b string, a int) {\n\n   a > 1 && b == 'x' }";
        check("caveat c(a int, b string) {\n  a > 1 && b == 'x'\n}", moved, &[], &[]);
    }

    #[test]
    fn relations_become_parents_and_back() {
        let relation = "use hierarchy\ndefinition f { relation p: f }";
        let parent = "use hierarchy\ndefinition f { parent p: f }";
        check(relation, parent, &["changed relation f#p: to a parent"], &[]);
        check(parent, relation, &["changed relation f#p: no longer a parent"], &[]);
        let names = |old: &str, new: &str| {
            let found = new_parents(&schema(old), &schema(new));
            found.iter().map(|(definition, name)| format!("{definition}#{name}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names(relation, parent), "f#p");
        assert_eq!(names(parent, relation), "");
        assert_eq!(names(parent, "use hierarchy\ndefinition f { parent p: f; parent q: f }"), "f#q");
    }

    #[test]
    fn partials_are_no_meaning() {
        let spliced = "use partial\npartial p { relation r: user; permission v = r }\ndefinition d { ...p }";
        check(spliced, "definition d { relation r: user; permission v = r }", &[], &[]);
    }

    #[test]
    fn the_first_schema_adds_everything() {
        let all: Vec<String> = diff(None, &schema("")).iter().map(ToString::to_string).collect();
        assert_eq!(all, ["added definition user", "added definition group"]);
    }
}
