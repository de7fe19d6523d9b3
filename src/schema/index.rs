//! A schema's names, to be looked up: who has a member, and where an arrow leads.
//!
//! INVARIANT: time and memory are linear in the schema, and a lookup of an arrow walks the shorter of two lists: many
//! arrows over many types must not cost their product.

use super::types::{Definition, Member, Relation, Schema};
use std::collections::{HashMap, HashSet};

pub(super) struct Index<'s> {
    schema: &'s Schema,
    /// By the definition's index; the value is the member's.
    members: HashMap<(usize, &'s str), usize>,
    /// Which definitions have a member of that name, in order.
    holders: HashMap<&'s str, Vec<usize>>,
    /// The types of each relation's subjects, made when first asked for.
    reaches: HashMap<(usize, &'s str), Reach>,
}

#[derive(Default)]
struct Reach {
    /// Each once, in order.
    definitions: Vec<usize>,
    set: HashSet<usize>,
}

impl<'s> Index<'s> {
    pub(super) fn of(schema: &'s Schema) -> Index<'s> {
        let mut members = HashMap::new();
        let mut holders: HashMap<&str, Vec<usize>> = HashMap::new();
        for (of, definition) in schema.definitions().iter().enumerate() {
            for (at, member) in definition.members.iter().enumerate() {
                members.insert((of, member.name().as_str()), at);
                holders.entry(member.name().as_str()).or_default().push(of);
            }
        }
        Index { schema, members, holders, reaches: HashMap::new() }
    }

    pub(super) fn definition(&self, of: usize) -> Option<&'s Definition> {
        self.schema.definitions().get(of)
    }

    /// The place of a member among those of its definition.
    pub(super) fn place(&self, of: usize, name: &str) -> Option<usize> {
        self.members.get(&(of, name)).copied()
    }

    pub(super) fn member(&self, of: usize, name: &str) -> Option<&'s Member> {
        self.definition(of)?.members.get(self.place(of, name)?)
    }

    pub(super) fn relation(&self, of: usize, name: &str) -> Option<&'s Relation> {
        match self.member(of, name)? {
            Member::Relation(relation) => Some(relation),
            Member::Permission(_) => None,
        }
    }

    /// The definitions that an arrow over that relation leads to and that have its target.
    pub(super) fn targets(&mut self, of: usize, relation: &'s str, target: &str) -> Vec<usize> {
        if !self.reaches.contains_key(&(of, relation)) {
            let mut reach = Reach::default();
            for subject in self.relation(of, relation).map_or(&[][..], |relation| &relation.subjects) {
                if let Some(to) = self.schema.by_name.get(subject.subject_type.as_str())
                    && reach.set.insert(*to)
                {
                    reach.definitions.push(*to);
                }
            }
            self.reaches.insert((of, relation), reach);
        }
        let holders = self.holders.get(target).map(Vec::as_slice).unwrap_or_default();
        let Some(reach) = self.reaches.get(&(of, relation)) else {
            return Vec::new();
        };
        if holders.len() < reach.definitions.len() {
            return holders.iter().copied().filter(|to| reach.set.contains(to)).collect();
        }
        reach.definitions.iter().copied().filter(|to| self.members.contains_key(&(*to, target))).collect()
    }
}
