//! The resource hierarchy: no object is its own ancestor.
//!
//! INVARIANT: over the rows of `parent` relations there is no cycle. A write that would close one is refused inside
//! the commit, where alone all of the data is known; so is a schema that makes `parent` of relations that have one.

use super::error::Error;
use super::judge::each_row;
use super::keys::RowKey;
use super::overlay::Overlay;
use super::scan::forward_prefix;
use super::snapshot::Direction;
use crate::model::{MemberNum, ObjectNum, TypeNum};
use hashbrown::{HashMap, HashSet};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Ancestors that one commit may visit: bounds how long it holds the committer.
const ANCESTORS_MAX: usize = 1_000_000;

type Object = (TypeNum, ObjectNum);

/// Rows as they would be after a request, as far as `parent` relations go.
pub struct Parents<'o, 's> {
    overlay: &'o Overlay<'s>,
    /// Of each type, its `parent` relations.
    relations: HashMap<TypeNum, Vec<MemberNum>>,
    /// The request's own changes: whether the row is there after it.
    changed: BTreeMap<RowKey, bool>,
    visited: usize,
}

impl<'o, 's> Parents<'o, 's> {
    /// Of these relations, under these changes.
    pub fn new(
        overlay: &'o Overlay<'s>,
        relations: &[MemberNum],
        changed: BTreeMap<RowKey, bool>,
    ) -> Result<Parents<'o, 's>, Error> {
        let mut of_type: HashMap<TypeNum, Vec<MemberNum>> = HashMap::new();
        for relation in relations {
            of_type.entry(overlay.names().member(*relation)?.of).or_default().push(*relation);
        }
        Ok(Parents { overlay, relations: of_type, changed, visited: 0 })
    }

    /// The first changed row that makes its object an ancestor of itself.
    pub fn closing(&mut self) -> Result<Option<RowKey>, Error> {
        let added: Vec<RowKey> = self.changed.iter().filter(|(_, is_there)| **is_there).map(|(key, _)| *key).collect();
        for key in added {
            let of = self.overlay.names().member(key.relation)?.of;
            if !self.relations.get(&of).is_some_and(|relations| relations.contains(&key.relation)) {
                continue;
            }
            let parent = self.subject(&key)?;
            if self.reaches(parent, (of, key.object))? {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    /// A row on a cycle among all rows of these relations.
    pub fn any_cycle(&mut self) -> Result<Option<RowKey>, Error> {
        let relations: Vec<MemberNum> = self.relations.values().flatten().copied().collect();
        let mut rows = Vec::new();
        for relation in relations {
            each_row(self.overlay, Direction::Forward, &forward_prefix(relation, None), |key| {
                rows.push(key);
                Ok(ControlFlow::Continue(()))
            })?;
        }
        // Whoever has no parent left is taken away, until nobody is left, or only what is on or below a cycle.
        let mut parents_left: HashMap<Object, usize> = HashMap::new();
        let mut children: HashMap<Object, Vec<(Object, RowKey)>> = HashMap::new();
        for key in rows {
            if self.overlay.row(&key)?.is_none() {
                continue;
            }
            let child = (self.overlay.names().member(key.relation)?.of, key.object);
            *parents_left.entry(child).or_default() += 1;
            let parent = self.subject(&key)?;
            parents_left.entry(parent).or_default();
            children.entry(parent).or_default().push((child, key));
        }
        let mut free: Vec<Object> =
            parents_left.iter().filter(|(_, left)| **left == 0).map(|(object, _)| *object).collect();
        // Bounded: each object is freed once.
        while let Some(object) = free.pop() {
            for (child, _) in children.remove(&object).unwrap_or_default() {
                if let Some(left) = parents_left.get_mut(&child) {
                    *left -= 1;
                    if *left == 0 {
                        free.push(child);
                    }
                }
            }
        }
        Ok(children.values().flatten().map(|(_, key)| *key).min())
    }

    fn subject(&self, key: &RowKey) -> Result<Object, Error> {
        Ok((self.overlay.names().member(key.subject.member)?.of, key.subject.object))
    }

    fn reaches(&mut self, from: Object, to: Object) -> Result<bool, Error> {
        let mut seen = HashSet::new();
        let mut stack = vec![from];
        // Bounded by ANCESTORS_MAX.
        while let Some(object) = stack.pop() {
            if object == to {
                return Ok(true);
            }
            if !seen.insert(object) {
                continue;
            }
            self.visited += 1;
            if self.visited > ANCESTORS_MAX {
                return Err(Error::TooManyAncestors { limit: ANCESTORS_MAX });
            }
            for relation in self.relations.get(&object.0).cloned().unwrap_or_default() {
                for key in self.rows(relation, object.1)? {
                    stack.push(self.subject(&key)?);
                }
            }
        }
        Ok(false)
    }

    /// The rows of one relation of one object, after the request.
    fn rows(&self, relation: MemberNum, object: ObjectNum) -> Result<Vec<RowKey>, Error> {
        let mut rows = Vec::new();
        each_row(self.overlay, Direction::Forward, &forward_prefix(relation, Some(object)), |key| {
            if !self.changed.contains_key(&key) && self.overlay.row(&key)?.is_some() {
                rows.push(key);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        let is_here = |key: &RowKey| key.relation == relation && key.object == object;
        rows.extend(self.changed.iter().filter(|(key, is_there)| **is_there && is_here(key)).map(|(key, _)| *key));
        Ok(rows)
    }
}
