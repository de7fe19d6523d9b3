//! Where an object stands in the hierarchy: what is above it, what is beneath it, and whether it is in a subtree.
//!
//! INVARIANT: only rows of `parent` relations are followed, each object is visited once, and every step costs an edge:
//! data of any depth is walked, and a cycle (which committed data never has) ends. A walk is whole or an error.

use super::budget::{Budget, Error};
use crate::graph::{RowKey, SubjectKey, View};
use crate::model::{ObjectNum, SubjectKind, TypeNum};
use crate::schema::Plan;
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::ops::ControlFlow;

/// Rows read at a time.
const ROWS: usize = 1_024;

type Object = (TypeNum, ObjectNum);
type Seen = HashSet<Object, RandomState>;

/// The object and all it reaches along `parent` relations, nearest first and each once, until `visit` breaks.
pub fn ancestors(
    plan: &Plan,
    view: &View,
    object: Object,
    budget: &mut Budget,
    mut visit: impl FnMut(TypeNum, ObjectNum) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, Error> {
    breadth_first(object, budget, &mut visit, |here, budget, next| each_parent(plan, view, here, budget, next))
}

/// The object and all beneath it, nearest first and each once, until `visit` breaks.
pub fn subtree(
    plan: &Plan,
    view: &View,
    root: Object,
    budget: &mut Budget,
    mut visit: impl FnMut(TypeNum, ObjectNum) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, Error> {
    breadth_first(root, budget, &mut visit, |here, budget, next| each_child(plan, view, here, budget, next))
}

fn breadth_first(
    start: Object,
    budget: &mut Budget,
    visit: &mut dyn FnMut(TypeNum, ObjectNum) -> ControlFlow<()>,
    mut follow: impl FnMut(Object, &mut Budget, &mut dyn FnMut(Object)) -> Result<(), Error>,
) -> Result<ControlFlow<()>, Error> {
    let mut seen = Seen::default();
    seen.insert(start);
    let mut ahead = VecDeque::from([start]);
    // Bounded: each object is queued once, and each costs an edge.
    while let Some(here) = ahead.pop_front() {
        budget.spend(1)?;
        if visit(here.0, here.1).is_break() {
            return Ok(ControlFlow::Break(()));
        }
        follow(here, budget, &mut |next| {
            if seen.insert(next) {
                ahead.push_back(next);
            }
        })?;
    }
    Ok(ControlFlow::Continue(()))
}

/// A subtree that many objects are asked about, at one view. What one climb has shown, the next need not climb again.
#[derive(Debug)]
pub struct Beneath {
    /// Whether the root is among an object's ancestors; of the root itself it is.
    known: HashMap<Object, bool, RandomState>,
}

impl Beneath {
    /// The subtree of an object.
    #[must_use]
    pub fn of(root: Object) -> Beneath {
        Beneath { known: HashMap::from_iter([(root, true)]) }
    }

    /// Whether an object is the root, or beneath it.
    pub fn has(&mut self, plan: &Plan, view: &View, object: Object, budget: &mut Budget) -> Result<bool, Error> {
        // Whom the climb has reached, each with the place of the one it is a parent of.
        let mut climbed: Vec<(Object, usize)> = vec![(object, 0)];
        let mut seen = Seen::default();
        seen.insert(object);
        let mut at = 0;
        // Bounded: each object is climbed from once, and each costs an edge.
        while let Some((here, _)) = climbed.get(at).copied() {
            match self.known.get(&here) {
                Some(true) => {
                    self.learn_path(&climbed, at);
                    return Ok(true);
                }
                Some(false) => {}
                None => {
                    budget.spend(1)?;
                    each_parent(plan, view, here, budget, &mut |parent| {
                        if seen.insert(parent) {
                            climbed.push((parent, at));
                        }
                    })?;
                }
            }
            at += 1;
        }
        // All their ancestors were climbed, and none is the root.
        self.known.extend(climbed.into_iter().map(|(object, _)| (object, false)));
        Ok(false)
    }

    /// Those on the way from where it began to the place are in the subtree. Of the others nothing is known yet.
    fn learn_path(&mut self, climbed: &[(Object, usize)], place: usize) {
        let mut at = place;
        // Bounded: each one's place is after that of the one it is a parent of.
        while let Some((object, child)) = climbed.get(at).copied() {
            self.known.insert(object, true);
            if at == 0 {
                return;
            }
            at = child;
        }
    }
}

/// What stands above objects, at one view. Parents that one climb has read, the next need not read again.
#[derive(Debug, Default)]
pub struct Heights {
    parents: HashMap<Object, Box<[Object]>, RandomState>,
    /// Of whom `above` is known.
    climbed: Option<Object>,
    /// It and all above it.
    above: Above,
}

/// Objects, each once: most have so few above them that looking through all is the quickest.
#[derive(Debug, Default)]
struct Above {
    all: Vec<Object>,
    /// The same, once they are many.
    seen: Seen,
}

impl Above {
    fn clear(&mut self) {
        self.all.clear();
        self.seen.clear();
    }

    fn contains(&self, object: Object) -> bool {
        if self.seen.is_empty() { self.all.contains(&object) } else { self.seen.contains(&object) }
    }

    /// False if it was there already.
    fn insert(&mut self, object: Object) -> bool {
        const FEW: usize = 64;
        if self.all.len() < FEW {
            let is_new = !self.all.contains(&object);
            if is_new {
                self.all.push(object);
            }
            return is_new;
        }
        if self.seen.is_empty() {
            self.seen.extend(self.all.iter().copied());
        }
        self.seen.insert(object)
    }
}

impl Heights {
    /// Whether `anchor` is the object, or above it.
    pub fn is_within(
        &mut self,
        plan: &Plan,
        view: &View,
        (object, anchor): (Object, Object),
        budget: &mut Budget,
    ) -> Result<bool, Error> {
        if object == anchor {
            return Ok(true);
        }
        if self.climbed != Some(object) {
            self.climbed = None;
            self.climb(plan, view, object, budget)?;
            self.climbed = Some(object);
        }
        Ok(self.above.contains(anchor))
    }

    fn climb(&mut self, plan: &Plan, view: &View, object: Object, budget: &mut Budget) -> Result<(), Error> {
        self.above.clear();
        self.above.insert(object);
        if self.climb_in_memory(plan, view, object, budget)? {
            return Ok(());
        }
        self.above.clear();
        self.above.insert(object);
        let mut ahead = vec![object];
        // Bounded: each object is climbed from once, and each costs an edge.
        while let Some(here) = ahead.pop() {
            budget.spend(1)?;
            if !self.parents.contains_key(&here) {
                let mut parents = Vec::new();
                each_parent(plan, view, here, budget, &mut |parent| parents.push(parent))?;
                self.parents.insert(here, parents.into_boxed_slice());
            }
            for parent in self.parents.get(&here).into_iter().flatten() {
                if self.above.insert(*parent) {
                    ahead.push(*parent);
                }
            }
        }
        Ok(())
    }
}

impl Heights {
    /// The same over what is in memory, in one hold of it. False if that is not all, or more than one hold is for.
    fn climb_in_memory(
        &mut self,
        plan: &Plan,
        view: &View,
        object: Object,
        budget: &mut Budget,
    ) -> Result<bool, Error> {
        const STEPS_MAX: usize = 1_024;
        let Some(reader) = view.reader() else { return Ok(false) };
        let mut ahead: SmallVec<[Object; 16]> = SmallVec::from_slice(&[object]);
        // Bounded: each object is climbed from once, and each costs an edge.
        let mut steps = 0;
        while let Some((of, here)) = ahead.pop() {
            budget.spend(1)?;
            for link in plan.links_above(of) {
                let Some(rows) = reader.relation(link.relation) else { return Ok(false) };
                let parents = rows.subjects(here, SubjectKind::Plain, link.itself);
                steps += 1 + parents.len();
                if !reader.knows_object(link.relation, here) || steps > STEPS_MAX {
                    return Ok(false);
                }
                budget.spend(parents.len() as u64)?;
                for parent in parents.after(None).map(ObjectNum) {
                    let subject = SubjectKey { kind: SubjectKind::Plain, member: link.itself, object: parent };
                    let is_live = rows.value(here, subject).is_none_or(|value| value.is_live(view.now()));
                    if is_live && self.above.insert((link.parent, parent)) {
                        ahead.push((link.parent, parent));
                    }
                }
            }
        }
        Ok(true)
    }
}

fn each_parent(
    plan: &Plan,
    view: &View,
    (of, object): Object,
    budget: &mut Budget,
    next: &mut dyn FnMut(Object),
) -> Result<(), Error> {
    for link in plan.links_above(of) {
        each_page(budget, |from| {
            let form = (SubjectKind::Plain, link.itself);
            let (rows, more) = view.subjects_of_form(link.relation, object, form, from, ROWS)?;
            rows.iter().for_each(|(subject, _)| next((link.parent, subject.object)));
            Ok((rows.len(), more))
        })?;
    }
    Ok(())
}

fn each_child(
    plan: &Plan,
    view: &View,
    (of, object): Object,
    budget: &mut Budget,
    next: &mut dyn FnMut(Object),
) -> Result<(), Error> {
    for link in plan.links_beneath(of) {
        let subject = SubjectKey { kind: SubjectKind::Plain, member: link.itself, object };
        each_page(budget, |from| {
            let (children, more) = view.objects(subject, link.relation, from, ROWS)?;
            children.iter().for_each(|child| next((link.child, *child)));
            Ok((children.len(), more))
        })?;
    }
    Ok(())
}

/// Reads page after page; `read` says how many rows one had, and where to go on.
fn each_page(
    budget: &mut Budget,
    mut read: impl FnMut(Option<RowKey>) -> Result<(usize, Option<RowKey>), Error>,
) -> Result<(), Error> {
    let mut from = None;
    // Bounded: each page goes on after the one before, and each row costs an edge.
    loop {
        let (rows, more) = read(from)?;
        budget.spend(1 + rows as u64)?;
        if more.is_none() {
            return Ok(());
        }
        from = more;
    }
}
