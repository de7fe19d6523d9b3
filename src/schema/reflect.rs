//! Who leans on whom in a schema: what a relation can decide, and what a permission is made of.
//!
//! INVARIANT: both questions walk the same edges, one way and the other, so `p` is among what `r` can decide exactly
//! when `r` is among what `p` is made of.

use super::admits::Refusal;
use super::index::Index;
use super::types::{Expr, Member, Schema, SubjectForm};
use crate::model::{RelationName, TypeName};
use std::collections::{HashMap, HashSet};

/// A relation or permission of a definition.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberRef {
    pub definition: TypeName,
    pub member: RelationName,
    pub is_permission: bool,
}

impl Schema {
    /// The permissions, of any definition, whose answer any of some relations or permissions can change: through
    /// expressions, arrows, and usersets that relations take. In source order, without those asked about. What is
    /// refused is named by its place.
    pub fn computable_permissions(
        &self,
        members: &[(TypeName, RelationName)],
    ) -> Result<Vec<MemberRef>, Box<(usize, Refusal)>> {
        for (index, (of, member)) in members.iter().enumerate() {
            self.resolve_member(of, member).map_err(|refusal| Box::new((index, refusal)))?;
        }
        let mut found = self.reached(members, Direction::Users);
        found.retain(|member| member.is_permission);
        Ok(found)
    }

    /// The relations and permissions, of any definition, that can change a permission's answer. In source order,
    /// without itself. A relation is refused.
    pub fn dependent_relations(&self, of: &TypeName, permission: &RelationName) -> Result<Vec<MemberRef>, Refusal> {
        match self.resolve_member(of, permission)? {
            Member::Permission(_) => Ok(self.reached(&[(of.clone(), permission.clone())], Direction::Used)),
            Member::Relation(_) => Err(Refusal::NotAPermission { definition: of.clone(), name: permission.clone() }),
        }
    }

    fn reached(&self, from: &[(TypeName, RelationName)], direction: Direction) -> Vec<MemberRef> {
        let edges = Edges::of(self);
        let mut seen = vec![false; edges.used.len()];
        let lists = match direction {
            Direction::Used => &edges.used,
            Direction::Users => &edges.users,
        };
        let number = |(of, member): &(TypeName, RelationName)| {
            self.by_name.get(of).and_then(|of| edges.numbers.get(&(*of, member.as_str()))).copied()
        };
        let start: HashSet<usize> = from.iter().filter_map(number).collect();
        let mut queue: Vec<usize> = start.iter().copied().collect();
        // Bounded: every member is queued once.
        while let Some(at) = queue.pop() {
            for next in lists.get(at).into_iter().flatten() {
                if let Some(seen) = seen.get_mut(*next)
                    && !std::mem::replace(seen, true)
                {
                    queue.push(*next);
                }
            }
        }
        let members = self.definitions().iter().flat_map(|definition| {
            definition.members.iter().map(move |member| MemberRef {
                definition: definition.name.clone(),
                member: member.name().clone(),
                is_permission: matches!(member, Member::Permission(_)),
            })
        });
        // In source order, as the numbers are.
        let found = members.zip(seen).enumerate().filter(|(number, (_, seen))| *seen && !start.contains(number));
        found.map(|(_, (found, _))| found).collect()
    }
}

enum Direction {
    /// To what it is made of.
    Used,
    /// To what is made of it.
    Users,
}

/// Members are numbered in source order.
struct Edges<'s> {
    numbers: HashMap<(usize, &'s str), usize>,
    used: Vec<Vec<usize>>,
    users: Vec<Vec<usize>>,
}

impl<'s> Edges<'s> {
    fn of(schema: &'s Schema) -> Edges<'s> {
        let mut numbers = HashMap::new();
        for (of, definition) in schema.definitions().iter().enumerate() {
            for member in &definition.members {
                numbers.insert((of, member.name().as_str()), numbers.len());
            }
        }
        let lists = || vec![Vec::new(); numbers.len()];
        let mut edges = Edges { used: lists(), users: lists(), numbers };
        let mut index = Index::of(schema);
        for (of, definition) in schema.definitions().iter().enumerate() {
            for member in &definition.members {
                let mut used = Vec::new();
                match member {
                    Member::Relation(relation) => {
                        for subject in &relation.subjects {
                            if let SubjectForm::Userset(name) = &subject.form {
                                let to = schema.by_name.get(&subject.subject_type).copied();
                                used.extend(to.map(|to| (to, name.as_str())));
                            }
                        }
                    }
                    Member::Permission(permission) => parts(&mut index, of, &permission.expr, &mut used),
                }
                let from = edges.numbers.get(&(of, member.name().as_str())).copied();
                for to in used {
                    if let (Some(from), Some(to)) = (from, edges.numbers.get(&to).copied()) {
                        edges.link(from, to);
                    }
                }
            }
        }
        edges
    }

    fn link(&mut self, from: usize, to: usize) {
        if let (Some(used), Some(users)) = (self.used.get_mut(from), self.users.get_mut(to)) {
            used.push(to);
            users.push(from);
        }
    }
}

/// What an expression names. Recursion is bounded by the depth the parser allows.
fn parts<'s>(index: &mut Index<'s>, of: usize, expr: &'s Expr, used: &mut Vec<(usize, &'s str)>) {
    match expr {
        Expr::Nil | Expr::Itself => {}
        Expr::Member(name) => used.push((of, name.as_str())),
        Expr::Arrow { relation, target, .. } => {
            used.push((of, relation.as_str()));
            let targets = index.targets(of, relation.as_str(), target.as_str());
            used.extend(targets.into_iter().map(|to| (to, target.as_str())));
        }
        Expr::Union(operands) | Expr::Intersection(operands) => {
            operands.iter().for_each(|operand| parts(index, of, operand, used));
        }
        Expr::Exclusion(base, subtracted) => {
            parts(index, of, base, used);
            parts(index, of, subtracted, used);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Limits;
    use crate::schema::compile;

    const WORLD: &str = "use self
        definition user { relation banned: user; permission me = self }
        definition group { relation member: user | group#all; permission all = member - excluded
          relation excluded: user }
        definition folder { relation viewer: group#all; permission view = viewer }
        definition doc { relation parent: folder | user; relation owner: user
          permission view = (owner & owner) + parent->view; permission edit = owner; permission none = nil }";

    fn names(found: &[MemberRef]) -> String {
        let name = |found: &MemberRef| {
            format!("{}{}#{}", if found.is_permission { "" } else { "." }, found.definition, found.member)
        };
        found.iter().map(name).collect::<Vec<_>>().join(" ")
    }

    fn asked(name: &str) -> (TypeName, RelationName) {
        let (of, member) = name.split_once('#').unwrap();
        (TypeName::new(of).unwrap(), RelationName::new(member).unwrap())
    }

    #[test]
    fn what_a_relation_can_decide() {
        let schema = compile(WORLD, &Limits::default()).unwrap().schema;
        for (name, expected) in [
            ("group#excluded", "group#all folder#view doc#view"),
            ("group#all", "folder#view doc#view"),
            ("doc#owner", "doc#view doc#edit"),
            ("doc#parent", "doc#view"),
            ("user#banned", ""),
            ("doc#view", ""),
        ] {
            let (of, member) = asked(name);
            assert_eq!(names(&schema.computable_permissions(&[(of, member)]).unwrap()), expected, "{name}");
        }
        let (index, refusal) = *schema.computable_permissions(&[asked("doc#owner"), asked("doc#nothing")]).unwrap_err();
        assert_eq!((index, refusal.to_string().contains("nothing")), (1, true), "{refusal}");
        // Of several all that any can change, save for those that were asked about.
        let several = [asked("group#excluded"), asked("doc#owner"), asked("folder#view"), asked("doc#owner")];
        let found = schema.computable_permissions(&several).unwrap();
        assert_eq!(names(&found), "group#all doc#view doc#edit");
        assert_eq!(names(&schema.computable_permissions(&[]).unwrap()), "");
    }

    #[test]
    fn what_a_permission_is_made_of() {
        let schema = compile(WORLD, &Limits::default()).unwrap().schema;
        for (name, expected) in [
            ("doc#view", ".group#member group#all .group#excluded .folder#viewer folder#view .doc#parent .doc#owner"),
            ("doc#edit", ".doc#owner"),
            ("doc#none", ""),
            ("user#me", ""),
            ("group#all", ".group#member .group#excluded"),
        ] {
            let (of, member) = asked(name);
            assert_eq!(names(&schema.dependent_relations(&of, &member).unwrap()), expected, "{name}");
        }
        let (of, member) = asked("doc#owner");
        let refused = schema.dependent_relations(&of, &member).unwrap_err();
        assert_eq!(refused.to_string(), "`doc#owner` is a relation; permissions are made of others");
    }

    #[test]
    fn both_ways_agree() {
        let schema = compile(WORLD, &Limits::default()).unwrap().schema;
        let all = schema
            .definitions()
            .iter()
            .flat_map(|definition| definition.members.iter().map(|member| (definition.name.clone(), member.clone())));
        let all: Vec<(TypeName, Member)> = all.collect();
        for (of, member) in &all {
            let users = schema.computable_permissions(&[(of.clone(), member.name().clone())]).unwrap();
            for (other_of, other) in &all {
                if let Member::Permission(permission) = other {
                    let used = schema.dependent_relations(other_of, &permission.name).unwrap();
                    let uses = used.iter().any(|used| used.definition == *of && used.member == *member.name());
                    let is_used =
                        users.iter().any(|user| user.definition == *other_of && user.member == permission.name);
                    assert_eq!(uses, is_used, "{of}#{} {other_of}#{}", member.name(), permission.name);
                }
            }
        }
    }
}
