//! The resource hierarchy as a commit sees it: no object is its own ancestor; and what is beneath an object.
//!
//! INVARIANT: over the rows of `parent` relations there is no cycle. A write that would close one is refused inside
//! the commit, where alone all of the data is known; so is a schema that makes `parent` of relations that have one.

use super::error::Error;
use super::judge::each_row;
use super::keys::{ROW_KEY_BYTES, RowKey};
use super::overlay::{FormKey, Overlay};
use super::row::RowValue;
use super::scan::forward_prefix;
use super::snapshot::Direction;
use crate::model::{MemberNum, ObjectNum, SubjectKind, Timestamp, TypeNum};
use hashbrown::{HashMap, HashSet};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Children read at a time.
const CHILDREN: usize = 1_024;

type Object = (TypeNum, ObjectNum);

/// Rows as they would be after a request, as far as `parent` relations go.
///
/// INVARIANT: whatever is asked, each object is climbed from once: what a climb has shown, the next need not climb again.
pub struct Parents<'o, 's> {
    overlay: &'o Overlay<'s>,
    /// Of each type, its `parent` relations.
    relations: HashMap<TypeNum, Vec<MemberNum>>,
    /// The request's own changes: whether the row is there after it.
    changed: BTreeMap<RowKey, bool>,
    climbed: HashMap<Object, Climbed>,
    visited: usize,
}

/// What is known of an object that a climb has come to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Climbed {
    /// The climb is above it now.
    UnderWay,
    /// It is in the subtree that is asked about.
    Within,
    /// It is not, nor is any of its ancestors.
    Apart,
}

/// An object that a climb is above.
struct Rung {
    object: Object,
    /// The row by which the climb came to it.
    by: Option<RowKey>,
    /// Rows that name parents not climbed to yet.
    rows: Vec<RowKey>,
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
        Ok(Parents { overlay, relations: of_type, changed, climbed: HashMap::new(), visited: 0 })
    }

    /// Of these relations, to be asked who is in the subtree of a root.
    pub fn beneath(overlay: &'o Overlay<'s>, relations: &[MemberNum], root: Object) -> Result<Parents<'o, 's>, Error> {
        let mut parents = Parents::new(overlay, relations, BTreeMap::new())?;
        parents.climbed.insert(root, Climbed::Within);
        Ok(parents)
    }

    /// A changed row that makes its object an ancestor of itself.
    pub fn closing(&mut self) -> Result<Option<RowKey>, Error> {
        let added: Vec<RowKey> = self.changed.iter().filter(|(_, is_there)| **is_there).map(|(key, _)| *key).collect();
        let mut are_parents: HashMap<TypeNum, bool> = HashMap::new();
        for key in &added {
            are_parents.insert(self.overlay.names().member(key.subject.member)?.of, true);
        }
        for key in added {
            let of = self.overlay.names().member(key.relation)?.of;
            if !self.relations.get(&of).is_some_and(|relations| relations.contains(&key.relation)) {
                continue;
            }
            // Whoever is on a cycle is somebody's parent, so a type of which nobody is need not be climbed from.
            let is_parent = *are_parents.entry(of).or_insert_with(|| self.names_parents(of));
            if !is_parent {
                continue;
            }
            // Without the changed rows there is no cycle: each has one of them, and is met from its object.
            if let Some(cycle) = self.climb((of, key.object))? {
                let closing = cycle.iter().filter(|key| self.changed.contains_key(*key)).min();
                return Ok(Some(*closing.unwrap_or(&key)));
            }
        }
        Ok(None)
    }

    /// Whether a row, committed or of the group, names an object of the type as a parent.
    fn names_parents(&self, of: TypeNum) -> bool {
        let Some(subject) = self.overlay.names().itself(of) else { return false };
        let count = |relation: MemberNum| {
            self.overlay.count(&FormKey { relation, kind: SubjectKind::Plain, subject, caveat: 0, expires: false })
        };
        self.relations.values().flatten().any(|relation| count(*relation) > 0)
    }

    /// Whether an object is the root, or beneath it.
    pub fn has(&mut self, object: Object) -> Result<bool, Error> {
        // A cycle, which committed data never has, leads nowhere.
        self.climb(object)?;
        Ok(self.climbed.get(&object) == Some(&Climbed::Within))
    }

    /// Climbs from an object, depth first, until it comes to the root or all its ancestors are known. Returns the rows
    /// of a cycle, if it comes round one.
    fn climb(&mut self, from: Object) -> Result<Option<Vec<RowKey>>, Error> {
        let mut path: Vec<Rung> = Vec::new();
        let mut next = Some((from, None));
        // Bounded by `ancestors_max`: each turn enters an object for the first time, takes a row of one, or leaves one.
        loop {
            if let Some((object, by)) = next.take() {
                match self.climbed.get(&object) {
                    Some(Climbed::Within) => {
                        self.climbed.extend(path.iter().map(|rung| (rung.object, Climbed::Within)));
                        return Ok(None);
                    }
                    Some(Climbed::Apart) => {}
                    Some(Climbed::UnderWay) => {
                        let round = path.iter().rev().take_while(|rung| rung.object != object);
                        return Ok(Some(round.filter_map(|rung| rung.by).chain(by).collect()));
                    }
                    None => {
                        self.visited += 1;
                        let limit = self.overlay.state().bounds.ancestors_max;
                        if self.visited > limit {
                            return Err(Error::TooManyAncestors { limit });
                        }
                        self.climbed.insert(object, Climbed::UnderWay);
                        path.push(Rung { object, by, rows: self.rows(object)? });
                    }
                }
            }
            let Some(rung) = path.last_mut() else { return Ok(None) };
            match rung.rows.pop() {
                Some(row) => next = Some((self.subject(&row)?, Some(row))),
                None => {
                    self.climbed.insert(rung.object, Climbed::Apart);
                    path.pop();
                }
            }
        }
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

    /// Objects visited so far.
    pub fn visited(&self) -> usize {
        self.visited
    }

    fn subject(&self, key: &RowKey) -> Result<Object, Error> {
        Ok((self.overlay.names().member(key.subject.member)?.of, key.subject.object))
    }

    /// The rows that name an object's parents, after the request.
    fn rows(&self, (of, object): Object) -> Result<Vec<RowKey>, Error> {
        let mut rows = Vec::new();
        for relation in self.relations.get(&of).into_iter().flatten() {
            let prefix = forward_prefix(*relation, Some(object));
            each_row(self.overlay, Direction::Forward, &prefix, |key| {
                if !self.changed.contains_key(&key) && self.overlay.row(&key)?.is_some() {
                    rows.push(key);
                }
                Ok(ControlFlow::Continue(()))
            })?;
            let mut first = [0; ROW_KEY_BYTES];
            first.iter_mut().zip(&prefix).for_each(|(byte, given)| *byte = *given);
            let changed = self.changed.range(RowKey::from_forward(&first)?..);
            let here = changed.take_while(|(key, _)| key.relation == *relation && key.object == object);
            rows.extend(here.filter(|(_, is_there)| **is_there).map(|(key, _)| *key));
        }
        Ok(rows)
    }
}

/// The objects of a subtree, each after all that are beneath it, with the group's own rows counted in.
///
/// INVARIANT: when it is left early, every object not yet given hangs beneath the root by objects not yet given.
pub struct Descent<'o, 's> {
    overlay: &'o Overlay<'s>,
    now: Timestamp,
    parents: &'o [MemberNum],
    /// Of each type, the relations in which rows name it as a parent.
    naming: HashMap<TypeNum, Vec<MemberNum>>,
    objects_max: usize,
    /// Children by the group's own rows.
    added: HashMap<Object, Vec<Object>>,
    seen: HashSet<Object>,
    /// From the root down to where the walk is.
    path: Vec<Level>,
}

struct Level {
    object: Object,
    /// Relations whose rows are yet to be read; of the last, those after the key.
    relations: Vec<MemberNum>,
    after: Option<[u8; ROW_KEY_BYTES]>,
    /// Children that were read and not gone down to.
    children: Vec<Object>,
}

impl<'o, 's> Descent<'o, 's> {
    /// From a root down, by these relations. More objects than `objects_max` are an error.
    pub fn new(
        overlay: &'o Overlay<'s>,
        parents: &'o [MemberNum],
        root: Object,
        now: Timestamp,
        objects_max: usize,
    ) -> Result<Descent<'o, 's>, Error> {
        let mut added: HashMap<Object, Vec<Object>> = HashMap::new();
        for (key, value) in overlay.rows() {
            if parents.contains(&key.relation) && value.as_ref().is_some_and(|value| value.is_live(now)) {
                let names = overlay.names();
                let parent = (names.member(key.subject.member)?.of, key.subject.object);
                added.entry(parent).or_default().push((names.member(key.relation)?.of, key.object));
            }
        }
        let (naming, seen, path) = (HashMap::new(), HashSet::new(), Vec::new());
        let mut descent = Descent { overlay, now, parents, naming, objects_max, added, seen, path };
        descent.enter(root)?;
        Ok(descent)
    }

    /// The next object, with one that it is a child of; `None` after the root, which has none. Takes what it looks through from `rows_left`.
    pub fn next(&mut self, rows_left: &mut usize) -> Result<Option<(Object, Option<Object>)>, Error> {
        // Bounded by `objects_max`: each turn enters an object, leaves one, or reads children that are entered next.
        while let Some(level) = self.path.last_mut() {
            if let Some(child) = level.children.pop() {
                self.enter(child)?;
            } else if let Some(relation) = level.relations.last().copied() {
                level.read(relation, self.overlay, self.now, rows_left)?;
            } else {
                let left = self.path.pop();
                let parent = self.path.last().map(|level| level.object);
                return Ok(left.map(|level| (level.object, parent)));
            }
        }
        Ok(None)
    }

    /// The objects entered so far. What was given hangs on no others.
    pub fn into_seen(self) -> HashSet<Object> {
        self.seen
    }

    fn enter(&mut self, object: Object) -> Result<(), Error> {
        if !self.seen.insert(object) {
            return Ok(());
        }
        if self.seen.len() > self.objects_max {
            return Err(Error::SubtreeTooLarge { limit: self.objects_max });
        }
        let relations = self.naming(object.0)?;
        let children = self.added.remove(&object).unwrap_or_default();
        self.path.push(Level { object, relations, after: None, children });
        Ok(())
    }

    /// The counters know in which relations a type stands: where it never does, nothing is read.
    fn naming(&mut self, of: TypeNum) -> Result<Vec<MemberNum>, Error> {
        if let Some(relations) = self.naming.get(&of) {
            return Ok(relations.clone());
        }
        let unnamed = || Error::Corrupt(format!("type number {} has no `...`", of.0));
        let subject = self.overlay.names().itself(of).ok_or_else(unnamed)?;
        let count = |relation: &MemberNum| {
            let form = FormKey { relation: *relation, kind: SubjectKind::Plain, subject, caveat: 0, expires: false };
            self.overlay.count(&form)
        };
        let relations: Vec<MemberNum> = self.parents.iter().copied().filter(|relation| count(relation) > 0).collect();
        self.naming.insert(of, relations.clone());
        Ok(relations)
    }
}

impl Level {
    /// Reads the next committed children by the relation that is last in line.
    fn read(
        &mut self,
        relation: MemberNum,
        overlay: &Overlay<'_>,
        now: Timestamp,
        rows_left: &mut usize,
    ) -> Result<(), Error> {
        let names = overlay.names();
        let unnamed = || Error::Corrupt(format!("type number {} has no `...`", self.object.0.0));
        let mut prefix = forward_prefix(names.itself(self.object.0).ok_or_else(unnamed)?, Some(self.object.1));
        prefix.push(SubjectKind::Plain as u8);
        prefix.extend_from_slice(&relation.0.to_be_bytes());
        let child_type = names.member(relation)?.of;
        let mut last = None;
        let after = self.after.as_ref().map(<[u8; ROW_KEY_BYTES]>::as_slice);
        let children = &mut self.children;
        overlay.scan_after(overlay.families().rev, &prefix, after, |key, value| {
            *rows_left = rows_left.checked_sub(1).ok_or(Error::PreconditionsTooWide)?;
            let key = RowKey::from_reverse(key)?;
            // What the group says of a row counts, and was counted on entering.
            if !overlay.rows().contains_key(&key) && RowValue::decode(value)?.is_live(now) {
                children.push((child_type, key.object));
            }
            let full = children.len() >= CHILDREN;
            last = full.then(|| key.reverse());
            Ok(if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        if last.is_none() {
            self.relations.pop();
        }
        self.after = last;
        Ok(())
    }
}
