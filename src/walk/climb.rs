//! Answers what only asks for a way, in one loop over what is in memory: no recursion, no page, no allocation a level.
//!
//! INVARIANT: this is `check`'s definition with the names of members replaced by their expressions (`schema/climb.rs`), and
//! every part that is no union is asked of `check` itself. It says Member or Not, or nothing: where a row's condition is
//! unknown, or something is not in memory, the expressions are walked as they are written.

use super::check::{Stop, Walk};
use super::memo::Node;
use crate::graph::{Few, Reader, Relation, RowKey, RowValue, SubjectKey};
use crate::model::{MemberNum, Membership, ObjectNum, SubjectKind};
use crate::schema::{Climb, Place, Step};
use foldhash::fast::RandomState;
use hashbrown::HashSet;
use smallvec::SmallVec;

/// Steps between two looks at whether somebody wants to write: the lock is let go of for a moment.
const STEPS_AT_ONCE: usize = 1_024;
/// Steps along a line after which it could be a circle.
const LINE_MAX: usize = 256;

/// Objects that are worth being looked for from the subject's side.
const LOOK_BEHIND: usize = 16;

/// An object to be asked, at a place of the climb.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Stand {
    place: u32,
    object: ObjectNum,
}

/// A climb under way.
struct Way {
    ahead: SmallVec<[(Stand, u32); 32]>,
    /// Where it has been, if that is to be remembered: with the index of where it came from.
    been: Vec<(Stand, u32)>,
    /// Where it has been, once there was more than one way to go.
    seen: Option<HashSet<Stand, RandomState>>,
    /// Where something is to be asked that is no union.
    others: SmallVec<[(Stand, u32); 8]>,
    steps: usize,
    /// A row's condition is unknown, so the answer may be conditional.
    is_unsure: bool,
}

/// What one stretch of a climb came to.
enum Stretch {
    /// Found: the index of where.
    Member(u32),
    /// Nowhere left to go.
    Done,
    /// To be gone on with, after letting go of the lock.
    Pause,
    /// Something is not in memory.
    Unknown,
}

/// Where a relation names the subject.
struct Named<'r> {
    rows: &'r Relation,
    relation: MemberNum,
    subject: Few<'r>,
    everybody: Few<'r>,
}

/// Whether any row of the relation is such a step.
fn may_be_taken(reader: &Reader<'_>, step: &Step) -> bool {
    reader.may_have_form(step.relation, step.kind, step.member)
}

/// No index.
const NOWHERE: u32 = u32::MAX;

impl Walk<'_> {
    /// The answer to a node, if it only asks for a way and all of that is in memory. With `is_open` the node is open in the
    /// memo, so that what is no union may be asked; without, there must be none.
    pub(super) fn climb(&mut self, climb: &Climb, node: Node, is_open: bool) -> Result<Option<Membership>, Stop> {
        let keeps = self.keeps_ways();
        let mut way = Way {
            ahead: SmallVec::new(),
            been: Vec::new(),
            seen: None,
            others: SmallVec::new(),
            steps: 0,
            is_unsure: false,
        };
        way.ahead.push((Stand { place: 0, object: node.object }, NOWHERE));
        // Bounded: each stretch takes a thousand steps, and each step costs an edge.
        loop {
            match self.stretch(climb, &mut way, keeps)? {
                Stretch::Member(at) => {
                    self.remember_way(climb, &way, at);
                    return Ok(Some(Membership::Member));
                }
                Stretch::Done => break,
                Stretch::Pause => {}
                Stretch::Unknown => {
                    self.climbs = false;
                    return Ok(None);
                }
            }
        }
        if is_open && let Some(at) = self.ask_others(climb, &mut way)? {
            self.remember_way(climb, &way, at);
            return Ok(Some(Membership::Member));
        }
        if way.is_unsure {
            // Walked as it is written from here on, or each node on the way would be climbed from.
            self.climbs = false;
            return Ok(None);
        }
        if keeps && !(is_open && self.memo.leans_above()) {
            for (stand, _) in &way.been {
                self.remember(climb, *stand, Membership::Not);
            }
        }
        Ok(Some(Membership::Not))
    }

    /// What is no union, where the way has led.
    fn ask_others(&mut self, climb: &Climb, way: &mut Way) -> Result<Option<u32>, Stop> {
        for (stand, at) in std::mem::take(&mut way.others) {
            let Some(place) = climb.place(stand.place as usize) else { continue };
            for other in &place.others {
                // Only the object of `here` counts in an expression.
                let member = place.whole.unwrap_or(MemberNum(u32::MAX));
                match self.expr(other, Node { member, object: stand.object })? {
                    Membership::Member => return Ok(Some(at)),
                    Membership::Conditional => way.is_unsure = true,
                    Membership::Not => {}
                }
            }
        }
        Ok(None)
    }

    /// Those from where a member was found back to where the climb began are members.
    fn remember_way(&mut self, climb: &Climb, way: &Way, found: u32) {
        let mut at = found;
        // Bounded: each came from one before it.
        while let Some((stand, from)) = way.been.get(at as usize) {
            self.remember(climb, *stand, Membership::Member);
            at = *from;
        }
    }

    fn remember(&mut self, climb: &Climb, stand: Stand, value: Membership) {
        if let Some(member) = climb.place(stand.place as usize).and_then(|place| place.whole) {
            self.memo.learn(Node { member, object: stand.object }, value);
        }
    }

    /// Goes on until there is an answer, or a pause is due. The lock is held meanwhile, so nothing else reads the view.
    fn stretch(&mut self, climb: &Climb, way: &mut Way, keeps: bool) -> Result<Stretch, Stop> {
        let view = self.view;
        let Some(reader) = view.reader() else { return Ok(Stretch::Unknown) };
        let Some(named) = self.named_in(climb, &reader) else { return Ok(Stretch::Unknown) };
        let Some(leads) = self.leads(climb, &named, &reader) else { return Ok(Stretch::Unknown) };
        let pause = way.steps + STEPS_AT_ONCE;
        while let Some((stand, from)) = way.ahead.pop() {
            if way.steps >= pause {
                way.ahead.push((stand, from));
                return Ok(Stretch::Pause);
            }
            way.steps += 1;
            if let Some(seen) = &mut way.seen
                && !seen.insert(stand)
            {
                continue;
            }
            self.budget.spend(1)?;
            let Some(place) = climb.place(stand.place as usize) else { continue };
            let mut at = NOWHERE;
            if keeps {
                if let Some(known) =
                    place.whole.and_then(|member| self.memo.final_answer(Node { member, object: stand.object }))
                {
                    match known {
                        Membership::Member => return Ok(Stretch::Member(from)),
                        Membership::Conditional => way.is_unsure = true,
                        Membership::Not => {}
                    }
                    continue;
                }
                at = u32::try_from(way.been.len()).unwrap_or(NOWHERE);
                way.been.push((stand, from));
            }
            match self.probe(place, stand.object, &named, &reader, way)? {
                Some(true) => return Ok(Stretch::Member(at)),
                Some(false) => {}
                None => return Ok(Stretch::Unknown),
            }
            if !place.others.is_empty() {
                way.others.push((stand, at));
            }
            match self.step(climb, place, (stand.object, at), (leads, &named, &reader), way)? {
                Some(true) => return Ok(Stretch::Member(at)),
                Some(false) => {}
                None => return Ok(Stretch::Unknown),
            }
        }
        Ok(Stretch::Done)
    }

    /// Where each relation names the subject; `None` if that is not in memory.
    fn named_in<'r>(&self, climb: &Climb, reader: &'r Reader<'_>) -> Option<SmallVec<[Named<'r>; 8]>> {
        let subject = self.subject;
        let everybody = SubjectKey { kind: SubjectKind::Wildcard, member: subject.member, object: ObjectNum(0) };
        if !reader.knows_subject(subject) || !reader.knows_subject(everybody) {
            return None;
        }
        let mut named = SmallVec::new();
        for probe in climb.relations() {
            let rows = reader.relation(probe.relation)?;
            let of = |subject: SubjectKey| {
                if probe.admits(subject.kind, subject.member) { rows.objects(subject) } else { Few::None }
            };
            let everybody = if subject.kind == SubjectKind::Plain { of(everybody) } else { Few::None };
            named.push(Named { rows, relation: probe.relation, subject: of(subject), everybody });
        }
        Some(named)
    }

    /// From which places something could still be found: what leads nowhere is not followed. `None` if rows that would be
    /// followed are not in memory.
    fn leads(&self, climb: &Climb, named: &[Named<'_>], reader: &Reader<'_>) -> Option<u64> {
        let subject = self.subject;
        let names = |place: &Place| {
            let is_named = |probe: &usize| {
                named.get(*probe).is_none_or(|named| !named.subject.is_empty() || !named.everybody.is_empty())
            };
            !place.others.is_empty()
                || place.itself.is_some_and(|itself| subject.kind == SubjectKind::Plain && itself == subject.member)
                || (subject.kind == SubjectKind::Userset && place.asks(subject.member))
                || place.probes.iter().any(is_named)
        };
        let mut leads = 0_u64;
        for (at, place) in climb.places().iter().enumerate() {
            if names(place) {
                leads |= 1 << at;
            }
        }
        // Bounded: each turn but the last adds a place, of which there are 64 at most.
        loop {
            let before = leads;
            for (at, place) in climb.places().iter().enumerate() {
                let leads_on = |step: &Step| leads & 1 << step.to != 0 && may_be_taken(reader, step);
                if leads & 1 << at == 0 && place.steps.iter().any(leads_on) {
                    leads |= 1 << at;
                }
            }
            if leads == before {
                break;
            }
        }
        for (at, place) in climb.places().iter().enumerate() {
            if leads & 1 << at == 0 {
                continue;
            }
            for step in &place.steps {
                if leads & 1 << step.to != 0 {
                    reader.relation(step.relation)?;
                }
            }
        }
        Some(leads)
    }

    /// Whether the object names the subject, or is it. `None` if that is not in memory.
    fn probe(
        &mut self,
        place: &Place,
        object: ObjectNum,
        named: &[Named<'_>],
        reader: &Reader<'_>,
        way: &mut Way,
    ) -> Result<Option<bool>, Stop> {
        let subject = self.subject;
        if subject.object == object {
            let is_it = match subject.kind {
                SubjectKind::Plain => place.itself == Some(subject.member),
                SubjectKind::Userset => place.asks(subject.member),
                SubjectKind::Wildcard => false,
            };
            if is_it {
                return Ok(Some(true));
            }
        }
        for named in place.probes.iter().filter_map(|probe| named.get(*probe)) {
            let Named { rows, relation, subject: own, everybody } = named;
            for (who, row_subject) in [
                (own, subject),
                (everybody, SubjectKey { kind: SubjectKind::Wildcard, member: subject.member, object: ObjectNum(0) }),
            ] {
                if !who.contains(object.0) {
                    continue;
                }
                if !reader.knows_object(*relation, object) {
                    return Ok(None);
                }
                if self.row_is_worth(rows, (*relation, object, row_subject), way)? {
                    return Ok(Some(true));
                }
            }
        }
        Ok(Some(false))
    }

    /// Goes along the rows that lead from an object. True if that finds the subject at once; `None` if they are not in
    /// memory.
    fn step(
        &mut self,
        climb: &Climb,
        place: &Place,
        (object, at): (ObjectNum, u32),
        (leads, named, reader): (u64, &[Named<'_>], &Reader<'_>),
        way: &mut Way,
    ) -> Result<Option<bool>, Stop> {
        let before = way.ahead.len();
        for step in &place.steps {
            if leads & 1 << step.to == 0 {
                continue;
            }
            let Some(rows) = reader.relation(step.relation) else { return Ok(None) };
            let there = rows.subjects(object, step.kind, step.member);
            if !reader.knows_object(step.relation, object) {
                return Ok(None);
            }
            if there.is_empty() {
                continue;
            }
            if there.len() > LOOK_BEHIND
                && rows.is_plain()
                && let Some(to) = climb.place(step.to)
                && let Some(found) = self.look_behind(to, (there, leads, named, reader), way)?
            {
                if found {
                    return Ok(Some(true));
                }
                continue;
            }
            self.budget.spend(there.len() as u64)?;
            let place = u32::try_from(step.to).unwrap_or(NOWHERE);
            for number in there.after(None) {
                let subject = SubjectKey { kind: step.kind, member: step.member, object: ObjectNum(number) };
                if self.row_is_worth(rows, (step.relation, object, subject), way)? {
                    way.ahead.push((Stand { place, object: ObjectNum(number) }, at));
                }
            }
        }
        if way.seen.is_none() && (way.ahead.len() > before + 1 || way.steps > LINE_MAX) {
            way.seen = Some(HashSet::default());
        }
        Ok(Some(false))
    }

    /// Whether one of many objects names the subject, looked for from the subject's side because that has fewer: where
    /// nothing leads on from there. `None` if it must be looked for object by object.
    fn look_behind(
        &mut self,
        to: &Place,
        (there, leads, named, reader): (Few<'_>, u64, &[Named<'_>], &Reader<'_>),
        way: &mut Way,
    ) -> Result<Option<bool>, Stop> {
        let subject = self.subject;
        let everybody = SubjectKey { kind: SubjectKind::Wildcard, member: subject.member, object: ObjectNum(0) };
        let leads_on = to.steps.iter().any(|step| leads & 1 << step.to != 0 && may_be_taken(reader, step));
        let is_it = subject.kind == SubjectKind::Userset && to.asks(subject.member);
        if leads_on || is_it || to.itself.is_some() || !to.others.is_empty() {
            return Ok(None);
        }
        let probes = || to.probes.iter().filter_map(|probe| named.get(*probe));
        if probes().map(|named| named.subject.len() + named.everybody.len()).sum::<usize>() >= there.len() {
            return Ok(None);
        }
        for Named { rows, relation, subject: own, everybody: all } in probes() {
            for (who, row_subject) in [(own, subject), (all, everybody)] {
                self.budget.spend(who.len() as u64)?;
                for object in who.after(None).filter(|object| there.contains(*object)).map(ObjectNum) {
                    if !reader.knows_object(*relation, object) {
                        return Ok(None);
                    }
                    if self.row_is_worth(rows, (*relation, object, row_subject), way)? {
                        return Ok(Some(true));
                    }
                }
            }
        }
        Ok(Some(false))
    }

    /// Whether a row is live and its condition holds.
    fn row_is_worth(
        &mut self,
        rows: &Relation,
        (relation, object, subject): (MemberNum, ObjectNum, SubjectKey),
        way: &mut Way,
    ) -> Result<bool, Stop> {
        if rows.is_plain() {
            return Ok(true);
        }
        let Some(value) = rows.value(object, subject).filter(|value| **value != RowValue::default()) else {
            return Ok(true);
        };
        if !value.is_live(self.view.now()) {
            return Ok(false);
        }
        match self.condition(RowKey { relation, object, subject }, value)? {
            Membership::Member => Ok(true),
            Membership::Not => Ok(false),
            Membership::Conditional => {
                way.is_unsure = true;
                Ok(false)
            }
        }
    }
}
