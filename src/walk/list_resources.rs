//! Which objects could a subject have a permission on? Walked backwards from the subject over the reverse rows.
//!
//! INVARIANT: what is gathered here is a superset, never an answer: every object is asked about with the one definition
//! afterwards. An object that could be a member and is missing here would be missing from the list, so conjunctions
//! are read as if each operand were enough (`schema/leads.rs` says what leads where).

use super::budget::{Budget, Error};
use super::memo::Node;
use crate::graph::{RowKey, SubjectKey, View};
use crate::model::{MemberNum, ObjectNum, SubjectKind};
use crate::schema::{Leads, Plan};
use foldhash::fast::RandomState;
use hashbrown::HashSet;
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

/// Rows read at a time: of containers, and of each of many lists of objects that are merged.
const ROWS: usize = 1_024;
const ROWS_MERGED: usize = 64;

/// The objects after `after` on which the subject could have `target`, ascending and each once.
///
/// What leads no further than to the target itself, as a document's viewers do, is not gathered: it is merged out of the
/// rows while the list is read, so the first object costs what leads to it and not all that come behind.
pub fn resources_reached(
    plan: &Plan,
    view: &View,
    target: MemberNum,
    subject: SubjectKey,
    after: Option<ObjectNum>,
    budget: &mut Budget,
) -> Result<Reached, Error> {
    let leads = plan.leads_to(target);
    let mut reach = Reach::new(leads, view, budget, usize::MAX);
    reach.last = last_members(plan, &reach.leads, target);
    reach.gather(subject)?;
    let Reach { reached, rows, last, .. } = reach;
    let is_last = |member: MemberNum| member == target || last.contains(&member);
    let found = reached.into_iter().filter(|node| is_last(node.member)).map(|node| node.object);
    let mut gathered: Vec<ObjectNum> = found.filter(|object| after.is_none_or(|after| *object > after)).collect();
    gathered.sort_unstable_by(|one, other| other.cmp(one));
    gathered.dedup();
    let mut merged = Reached { gathered, sources: Vec::new(), ahead: BinaryHeap::new() };
    for (subject, relation) in rows {
        let from = after.map(|object| RowKey { relation, object, subject });
        let at = merged.sources.len();
        merged.sources.push(Source { subject, relation, read: Vec::new(), from, is_over: false });
        merged.read_on(view, at, budget)?;
    }
    Ok(merged)
}

/// Objects that a list asks about, one after the other.
#[derive(Debug)]
pub struct Reached {
    /// Descending.
    gathered: Vec<ObjectNum>,
    sources: Vec<Source>,
    /// The next object of each source that has one, with its index.
    ahead: BinaryHeap<Reverse<(ObjectNum, usize)>>,
}

/// The objects whose rows of one relation name one subject.
#[derive(Debug)]
struct Source {
    subject: SubjectKey,
    relation: MemberNum,
    /// Those read and not yet given, descending.
    read: Vec<ObjectNum>,
    from: Option<RowKey>,
    is_over: bool,
}

impl Reached {
    /// The next object; `None` at the end. The view must be the one it was reached at.
    pub fn next(&mut self, view: &View, budget: &mut Budget) -> Result<Option<ObjectNum>, Error> {
        let merged = self.ahead.peek().map(|Reverse((object, _))| *object);
        let gathered = self.gathered.last().copied();
        let next = match (merged, gathered) {
            (Some(merged), Some(gathered)) => merged.min(gathered),
            (one, other) => match one.or(other) {
                Some(next) => next,
                None => return Ok(None),
            },
        };
        if gathered == Some(next) {
            self.gathered.pop();
        }
        // Bounded: each source gives an object once.
        while let Some(Reverse((object, at))) = self.ahead.peek().copied()
            && object == next
        {
            self.ahead.pop();
            self.read_on(view, at, budget)?;
        }
        Ok(Some(next))
    }

    /// Takes the next object of a source, reading on where it must.
    fn read_on(&mut self, view: &View, at: usize, budget: &mut Budget) -> Result<(), Error> {
        let Some(source) = self.sources.get_mut(at) else { return Ok(()) };
        if source.read.is_empty() && !source.is_over {
            let (mut objects, from) = view.objects(source.subject, source.relation, source.from, ROWS_MERGED)?;
            budget.spend(1 + objects.len() as u64)?;
            objects.reverse();
            (source.read, source.is_over) = (objects, from.is_none());
            source.from = from;
        }
        if let Some(object) = source.read.pop() {
            self.ahead.push(Reverse((object, at)));
        }
        Ok(())
    }
}

/// Members of the target's own definition that lead to the target on the same object, and nowhere else: no row names them as
/// a userset, and no arrow asks for them. None if the target itself leads on.
fn last_members(plan: &Plan, leads: &Leads, target: MemberNum) -> HashSet<MemberNum, RandomState> {
    let leads_on = |member: MemberNum| {
        !leads.relations_of(SubjectKind::Userset, member).is_empty() || !leads.arrows_of(member).is_empty()
    };
    let of = plan.type_of(target);
    let mut last = HashSet::default();
    if leads_on(target) || !leads.permissions_of(target).is_empty() {
        return last;
    }
    last.insert(target);
    let members = leads.members().filter(|member| plan.type_of(*member) == of && !leads_on(*member));
    let candidates: Vec<MemberNum> = members.collect();
    // Bounded: each turn but the last adds one of them.
    loop {
        let before = last.len();
        for member in &candidates {
            let onward = leads.permissions_of(*member);
            if !onward.is_empty() && onward.iter().all(|permission| last.contains(permission)) {
                last.insert(*member);
            }
        }
        if last.len() == before {
            return last;
        }
    }
}

/// The same for who needs only some of them: no more memberships than `reached_max` are followed.
pub(super) fn some_resources(
    plan: &Plan,
    view: &View,
    target: MemberNum,
    subject: SubjectKey,
    reached_max: usize,
    budget: &mut Budget,
) -> Result<Vec<ObjectNum>, Error> {
    let mut reach = Reach::new(plan.leads_to(target), view, budget, reached_max);
    reach.gather(subject)?;
    let found = reach.reached.into_iter().filter(|node| node.member == target).map(|node| node.object);
    let mut objects: Vec<ObjectNum> = found.collect();
    objects.sort_unstable();
    Ok(objects)
}

struct Reach<'a> {
    leads: Leads,
    view: &'a View,
    budget: &'a mut Budget,
    reached: HashSet<Node, RandomState>,
    reached_max: usize,
    ahead: Vec<Node>,
    /// Members that lead no further, whose rows are left to be merged.
    last: HashSet<MemberNum, RandomState>,
    rows: BTreeSet<(SubjectKey, MemberNum)>,
}

impl<'a> Reach<'a> {
    fn new(leads: Leads, view: &'a View, budget: &'a mut Budget, reached_max: usize) -> Reach<'a> {
        Reach {
            leads,
            view,
            budget,
            reached: HashSet::default(),
            reached_max,
            ahead: Vec::new(),
            last: HashSet::default(),
            rows: BTreeSet::new(),
        }
    }

    fn gather(&mut self, subject: SubjectKey) -> Result<(), Error> {
        self.start(subject)?;
        // Bounded: each node is taken once, and each costs an edge.
        while let Some(node) = self.ahead.pop() {
            self.follow(node)?;
        }
        Ok(())
    }

    /// The rows that name the subject; those of everybody, if it is a plain object; and itself, if it is a userset.
    fn start(&mut self, subject: SubjectKey) -> Result<(), Error> {
        self.rows_naming(subject)?;
        match subject.kind {
            SubjectKind::Plain => {
                self.rows_naming(SubjectKey { kind: SubjectKind::Wildcard, object: ObjectNum(0), ..subject })?;
                // An expression that names the plain object itself.
                for permission in self.leads.permissions_of(subject.member).to_vec() {
                    self.reach(Node { member: permission, object: subject.object });
                }
            }
            SubjectKind::Userset => self.reach(Node { member: subject.member, object: subject.object }),
            SubjectKind::Wildcard => {}
        }
        Ok(())
    }

    fn reach(&mut self, node: Node) {
        if self.leads.has(node.member) && self.reached.len() < self.reached_max && self.reached.insert(node) {
            self.ahead.push(node);
        }
    }

    /// What may follow from a membership: rows that name it as a userset, permissions whose expression names it, and
    /// arrows that ask for it.
    fn follow(&mut self, node: Node) -> Result<(), Error> {
        self.budget.spend(1)?;
        self.rows_naming(SubjectKey { kind: SubjectKind::Userset, member: node.member, object: node.object })?;
        for permission in self.leads.permissions_of(node.member).to_vec() {
            self.reach(Node { member: permission, object: node.object });
        }
        for arrow in self.leads.arrows_of(node.member).to_vec() {
            let subject = SubjectKey { kind: arrow.kind, member: arrow.subject, object: node.object };
            self.objects(subject, arrow.relation, arrow.permission)?;
        }
        Ok(())
    }

    fn rows_naming(&mut self, subject: SubjectKey) -> Result<(), Error> {
        for relation in self.leads.relations_of(subject.kind, subject.member).to_vec() {
            self.objects(subject, relation, relation)?;
        }
        Ok(())
    }

    /// Reaches `member` on every object at the left of a row of `relation` that names the subject.
    fn objects(&mut self, subject: SubjectKey, relation: MemberNum, member: MemberNum) -> Result<(), Error> {
        if self.last.contains(&member) {
            self.rows.insert((subject, relation));
            return Ok(());
        }
        let mut from = None;
        // Bounded: each page goes on after the one before, and each row costs an edge.
        loop {
            let (objects, next) = self.view.objects(subject, relation, from, ROWS)?;
            self.budget.spend(1 + objects.len() as u64)?;
            for object in objects {
                self.reach(Node { member, object });
            }
            if next.is_none() || self.reached.len() >= self.reached_max {
                return Ok(());
            }
            from = next;
        }
    }
}
