//! What a scope means under a schema: its names, frozen to (definition, name) pairs of whatever can lie at or beneath its
//! anchors.
//!
//! INVARIANT: every pair is a relation or permission of this schema, of a definition that is an anchor's or from which
//! `parent` relations lead to one. A name of `all` is never a relation. Nothing is looked up in data.

use super::admits::{Refusal, Side};
use super::diagnostic::Suggester;
use super::types::{Definition, Member, Schema};
use crate::model::{AskedPermissions, PermissionName, RelationName, TypeName};
use std::collections::{BTreeSet, HashMap, HashSet};

/// Names looked through for "did you mean".
const CANDIDATES_MAX: usize = 256;

/// A frozen pair: a definition, and a relation or permission of it.
pub type Pair = (TypeName, RelationName);

/// Why names cannot be frozen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfrozen {
    /// No definition has that name; of a name, its place among those asked for, or of an anchor.
    #[error("{refusal}")]
    UnknownType { at: Option<usize>, refusal: Refusal },
    /// No definition has such a relation or permission, or not the one that is named with it.
    #[error("unknown relation or permission `{name}`")]
    UnknownPermission { at: usize, name: PermissionName, meant: Option<String> },
    /// Some definition has it, but none that can lie at or beneath the anchors.
    #[error("`{name}` is of nothing that can lie at or beneath these objects, only of {}", quoted(.of))]
    Elsewhere {
        at: usize,
        name: PermissionName,
        /// In source order, never empty.
        of: Vec<TypeName>,
    },
}

fn quoted(types: &[TypeName]) -> String {
    const SHOWN_MAX: usize = 5;
    let shown: Vec<String> = types.iter().take(SHOWN_MAX).map(|of| format!("`{of}`")).collect();
    format!("{}{}", shown.join(", "), if types.len() > SHOWN_MAX { ", …" } else { "" })
}

impl Unfrozen {
    /// A likely fix, where there is one.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Unfrozen::UnknownType { refusal, .. } => refusal.hint(),
            Unfrozen::UnknownPermission { meant, .. } => meant.as_ref().map(|meant| format!("did you mean `{meant}`?")),
            Unfrozen::Elsewhere { of, .. } => {
                let of = of.first().map(|of| format!("an object of `{of}`, or one above it"));
                of.map(|of| format!("name {of} that it is within"))
            }
        }
    }
}

impl Schema {
    /// The definitions of these types, and those whose objects can lie beneath one of theirs, in source order.
    #[must_use]
    pub fn at_or_beneath<'s>(&'s self, tops: &[&'s TypeName]) -> Vec<&'s Definition> {
        let mut children: HashMap<&TypeName, Vec<&TypeName>> = HashMap::new();
        for definition in &self.definitions {
            for parent in self.parents(&definition.name) {
                for subject in &parent.subjects {
                    children.entry(&subject.subject_type).or_default().push(&definition.name);
                }
            }
        }
        let mut found: BTreeSet<&TypeName> = tops.iter().copied().collect();
        let mut ahead: Vec<&TypeName> = tops.to_vec();
        // Bounded: each type is put here once.
        while let Some(of) = ahead.pop() {
            for child in children.get(of).into_iter().flatten() {
                if found.insert(child) {
                    ahead.push(child);
                }
            }
        }
        self.definitions.iter().filter(|definition| found.contains(&definition.name)).collect()
    }

    /// What is meant by these names within objects of these types, which must be of the schema. `all` may come to
    /// nothing; a list of names never does.
    pub fn frozen(&self, asked: &AskedPermissions, tops: &[&TypeName]) -> Result<BTreeSet<Pair>, Box<Unfrozen>> {
        let mut known = Vec::with_capacity(tops.len());
        for top in tops {
            let unknown = |refusal| Box::new(Unfrozen::UnknownType { at: None, refusal });
            known.push(&self.resolve_type(Side::Object, top).map_err(unknown)?.name);
        }
        let covered = self.at_or_beneath(&known);
        let mut pairs = BTreeSet::new();
        match asked {
            AskedPermissions::All => {
                for definition in &covered {
                    pairs.extend(definition.members.iter().filter_map(|member| match member {
                        Member::Permission(permission) => Some((definition.name.clone(), permission.name.clone())),
                        Member::Relation(_) => None,
                    }));
                }
            }
            AskedPermissions::Named(names) => {
                let covered: HashSet<&TypeName> = covered.iter().map(|definition| &definition.name).collect();
                let is_covered = |of: &&TypeName| covered.contains(of);
                let having = self.having(names);
                let mut seen = HashSet::new();
                for (at, name) in names.iter().enumerate().filter(|(_, name)| seen.insert(*name)) {
                    let of = self.definitions_with(at, name, &having)?;
                    if !of.iter().any(is_covered) {
                        let of = of.into_iter().cloned().collect();
                        return Err(Box::new(Unfrozen::Elsewhere { at, name: name.clone(), of }));
                    }
                    pairs.extend(of.into_iter().filter(is_covered).map(|of| (of.clone(), name.name.clone())));
                }
            }
        }
        Ok(pairs)
    }

    /// By each name that is asked for of any definition, those that have it, in source order: one look at the schema for
    /// all names.
    fn having<'s, 'n>(&'s self, names: &'n [PermissionName]) -> HashMap<&'n str, Vec<&'s TypeName>> {
        let of_any = names.iter().filter(|name| name.object_type.is_none());
        let mut having: HashMap<&str, Vec<&TypeName>> = of_any.map(|name| (name.name.as_str(), Vec::new())).collect();
        for definition in &self.definitions {
            for member in &definition.members {
                if let Some(with) = having.get_mut(member.name().as_str()) {
                    with.push(&definition.name);
                }
            }
        }
        having
    }

    /// The definitions that have what is named, which is at least one.
    fn definitions_with<'s>(
        &'s self,
        at: usize,
        name: &PermissionName,
        having: &HashMap<&str, Vec<&'s TypeName>>,
    ) -> Result<Vec<&'s TypeName>, Box<Unfrozen>> {
        let unknown = |candidates: &mut dyn Iterator<Item = &Definition>| {
            let members = candidates.flat_map(|definition| &definition.members).map(|member| member.name().as_str());
            let closest = Suggester::new().closest(name.name.as_str(), members.take(CANDIDATES_MAX)).map(str::to_owned);
            let meant = closest.map(|closest| match &name.object_type {
                Some(of) => format!("{of}#{closest}"),
                None => closest,
            });
            Err(Box::new(Unfrozen::UnknownPermission { at, name: name.clone(), meant }))
        };
        if let Some(of) = &name.object_type {
            let resolved = self.resolve_type(Side::Object, of);
            let definition = resolved.map_err(|refusal| Box::new(Unfrozen::UnknownType { at: Some(at), refusal }))?;
            return match definition.member(name.name.as_str()) {
                Some(_) => Ok(vec![&definition.name]),
                None => unknown(&mut std::iter::once(definition)),
            };
        }
        match having.get(name.name.as_str()) {
            Some(with) if !with.is_empty() => Ok(with.clone()),
            Some(_) | None => unknown(&mut self.definitions.iter()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Limits;
    use crate::schema::compile;

    const SCHEMA: &str = "use hierarchy
        definition user {}
        definition agent { relation owner: user\npermission run = owner }
        definition org { relation admin: user\npermission manage = admin }
        definition workspace { parent org: org\npermission manage = org->manage }
        definition folder { parent up: workspace | folder\nrelation viewer: user\npermission read = viewer + up->read }
        definition invoice { parent home: folder\nrelation clerk: user\npermission read = clerk + home->read
                             permission refund = clerk }";

    fn schema() -> Schema {
        compile(SCHEMA, &Limits::default()).unwrap().schema
    }

    fn named(names: &[&str]) -> AskedPermissions {
        let name = |text: &&str| match text.split_once('#') {
            Some((of, name)) => {
                PermissionName { object_type: Some(of.parse().unwrap()), name: RelationName::new(name).unwrap() }
            }
            None => PermissionName { object_type: None, name: RelationName::new(*text).unwrap() },
        };
        AskedPermissions::Named(names.iter().map(name).collect())
    }

    fn frozen(asked: &AskedPermissions, tops: &[&str]) -> Result<Vec<String>, Box<Unfrozen>> {
        let tops: Vec<TypeName> = tops.iter().map(|top| top.parse().unwrap()).collect();
        let tops: Vec<&TypeName> = tops.iter().collect();
        let schema = schema();
        schema.frozen(asked, &tops).map(|pairs| pairs.iter().map(|(of, name)| format!("{of}#{name}")).collect())
    }

    #[test]
    fn all_is_every_permission_and_no_relation_at_or_beneath() {
        assert_eq!(
            frozen(&AskedPermissions::All, &["folder"]).unwrap(),
            ["folder#read", "invoice#read", "invoice#refund"]
        );
        assert_eq!(frozen(&AskedPermissions::All, &["invoice"]).unwrap(), ["invoice#read", "invoice#refund"]);
        let all = ["folder#read", "invoice#read", "invoice#refund", "org#manage", "workspace#manage"];
        assert_eq!(frozen(&AskedPermissions::All, &["org"]).unwrap(), all);
        assert_eq!(
            frozen(&AskedPermissions::All, &["agent", "invoice"]).unwrap(),
            ["agent#run", "invoice#read", "invoice#refund"]
        );
        assert_eq!(frozen(&AskedPermissions::All, &["user"]).unwrap(), [""; 0]);
    }

    #[test]
    fn a_name_is_every_relation_or_permission_so_named() {
        assert_eq!(frozen(&named(&["read"]), &["workspace"]).unwrap(), ["folder#read", "invoice#read"]);
        assert_eq!(frozen(&named(&["read"]), &["invoice"]).unwrap(), ["invoice#read"]);
        assert_eq!(frozen(&named(&["clerk", "viewer"]), &["org"]).unwrap(), ["folder#viewer", "invoice#clerk"]);
        assert_eq!(frozen(&named(&["folder#read"]), &["org"]).unwrap(), ["folder#read"]);
        let again = ["read", "read", "folder#read", "read"];
        assert_eq!(frozen(&named(&again), &["workspace"]).unwrap(), ["folder#read", "invoice#read"]);
    }

    #[test]
    fn a_name_that_nothing_has_is_told_from_one_of_something_elsewhere() {
        let meant = |result: Result<Vec<String>, Box<Unfrozen>>| {
            let Unfrozen::UnknownPermission { at, meant, .. } = *result.unwrap_err() else { panic!("another refusal") };
            (at, meant)
        };
        assert_eq!(meant(frozen(&named(&["read", "refnd"]), &["org"])), (1, Some("refund".to_owned())));
        // A name that stands twice moves none behind it.
        assert_eq!(meant(frozen(&named(&["read", "read", "refnd"]), &["org"])), (2, Some("refund".to_owned())));
        assert_eq!(meant(frozen(&named(&["folder#raed"]), &["org"])), (0, Some("folder#read".to_owned())));
        assert_eq!(meant(frozen(&named(&["folder#manage"]), &["org"])), (0, None));
        let elsewhere = |result: Result<Vec<String>, Box<Unfrozen>>| {
            let Unfrozen::Elsewhere { at, of, .. } = *result.unwrap_err() else { panic!("another refusal") };
            (at, of.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(
            elsewhere(frozen(&named(&["read", "manage"]), &["folder"])),
            (1, vec!["org".into(), "workspace".into()])
        );
        assert_eq!(elsewhere(frozen(&named(&["org#manage"]), &["workspace"])), (0, vec!["org".into()]));
        let unknown = frozen(&named(&["project#read"]), &["org"]).unwrap_err();
        assert!(matches!(*unknown, Unfrozen::UnknownType { at: Some(0), .. }));
        let unknown = frozen(&AskedPermissions::All, &["orgg"]).unwrap_err();
        assert!(matches!(*unknown, Unfrozen::UnknownType { at: None, .. }));
        assert_eq!(unknown.hint().unwrap(), "did you mean `org`?");
    }
}
