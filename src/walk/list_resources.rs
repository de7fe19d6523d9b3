//! Which objects could a subject have a permission on? Walked backwards from the subject over the reverse rows.
//!
//! INVARIANT: what is gathered here is a superset, never an answer: every object is asked about with the one definition
//! afterwards. An object that could be a member and is missing here would be missing from the list, so conjunctions
//! are read as if each operand were enough (`schema/leads.rs` says what leads where).

use super::budget::{Budget, Error};
use super::memo::Node;
use crate::graph::{SubjectKey, View};
use crate::model::{MemberNum, ObjectNum, SubjectKind};
use crate::schema::{Leads, Plan};
use foldhash::fast::RandomState;
use hashbrown::HashSet;

/// Rows read at a time.
const ROWS: usize = 1_024;

/// The objects after `after` on which the subject could have `target`, ascending.
pub fn resources_reached(
    plan: &Plan,
    view: &View,
    target: MemberNum,
    subject: SubjectKey,
    after: Option<ObjectNum>,
    budget: &mut Budget,
) -> Result<Vec<ObjectNum>, Error> {
    let mut objects = some_resources(plan, view, target, subject, usize::MAX, budget)?;
    objects.retain(|object| after.is_none_or(|after| *object > after));
    Ok(objects)
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
    let leads = plan.leads_to(target);
    let mut reach = Reach { leads, view, budget, reached: HashSet::default(), reached_max, ahead: Vec::new() };
    reach.start(subject)?;
    // Bounded: each node is taken once, and each costs an edge.
    while let Some(node) = reach.ahead.pop() {
        reach.follow(node)?;
    }
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
}

impl Reach<'_> {
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
