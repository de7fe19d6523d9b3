//! Answers what only asks for a way, in one loop over what is in memory: no recursion, no page, no allocation a level.
//!
//! INVARIANT: this is `check`'s definition with the names of members replaced by their expressions (`schema/climb.rs`), and
//! every part that is no union is asked of `check` itself. It says Member or Not, or nothing: where a row's condition is
//! unknown, or something is not in memory, the expressions are walked as they are written.

use super::check::{Stop, Walk};
use super::memo::Node;
use crate::graph::{Few, Postings, Reader, Relation, RowKey, RowValue, SubjectKey};
use crate::model::{MemberNum, Membership, ObjectNum, SubjectKind};
use crate::schema::{Climb, Place, Step};
use foldhash::fast::RandomState;
use hashbrown::HashSet;
use smallvec::SmallVec;

/// Steps between two looks at whether somebody wants to write: the lock is let go of for a moment.
const STEPS_AT_ONCE: usize = 1_024;
/// Steps along a line after which it could be a circle.
const LINE_MAX: usize = 256;

/// Rows of one object whose conditions may be evaluated in one hold of the lock, and what each counts in steps.
const CONDITIONS_AT_ONCE: usize = 64;
const CONDITION_STEPS: usize = 16;

/// Objects that are worth being looked for from the subject's side.
const LOOK_BEHIND: usize = 16;

/// An object to be asked, at a place of the climb.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Stand {
    place: u32,
    object: ObjectNum,
}

/// Who is looked for. Several are, where each of a chain must have what is asked.
pub(super) struct Lane {
    subject: SubjectKey,
    /// The index of where it was found.
    found: Option<u32>,
}

impl Lane {
    /// Not found yet.
    pub(super) fn of(subject: SubjectKey) -> Lane {
        Lane { subject, found: None }
    }

    /// Whether it was found.
    pub(super) fn is_found(&self) -> bool {
        self.found.is_some()
    }

    fn everybody(&self) -> SubjectKey {
        SubjectKey { kind: SubjectKind::Wildcard, member: self.subject.member, object: ObjectNum(0) }
    }
}

/// A climb under way.
pub(super) struct Way {
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
    /// All that are looked for were found.
    Found,
    /// Nowhere left to go.
    Done,
    /// To be gone on with, after letting go of the lock.
    Pause,
    /// Something is not in memory.
    Unknown,
}

/// Where a relation names one who is looked for.
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

/// Where each relation of a climb names one of the lanes.
type NamedIn<'r> = SmallVec<[Named<'r>; 8]>;

/// What does not change during a stretch.
struct Ground<'r> {
    climb: &'r Climb,
    reader: &'r Reader<'r>,
    /// By lane.
    named: SmallVec<[NamedIn<'r>; 1]>,
    /// From which places something could still be found, as bits.
    leads: u64,
    /// The steps that are worth being taken, of one place after the other, and where those of each place end.
    tracks: SmallVec<[Track<'r>; 8]>,
    ends: SmallVec<[usize; 8]>,
}

/// A step with its rows at hand.
struct Track<'r> {
    step: Step,
    rows: &'r Relation,
    subjects: &'r Postings,
    /// Nothing more than the key is to be looked at.
    is_plain: bool,
}

/// No index.
const NOWHERE: u32 = u32::MAX;

impl Walk<'_> {
    /// The answer to a node, if it only asks for a way and all of that is in memory. With `is_open` the node is open in the
    /// memo, so that what is no union may be asked; without, there must be none.
    pub(super) fn climb(&mut self, climb: &Climb, node: Node, is_open: bool) -> Result<Option<Membership>, Stop> {
        let keeps = self.keeps_ways();
        let mut lane = [Lane::of(self.subject)];
        let Some(mut way) = self.climb_for(climb, node, &mut lane, keeps)? else { return Ok(None) };
        let [Lane { found, .. }] = lane;
        if let Some(at) = found {
            self.remember_way(climb, &way, at);
            return Ok(Some(Membership::Member));
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
        // If it was open, it is the only one: what leaned on it leaned on the no that it is.
        if keeps {
            for (stand, _) in &way.been {
                self.remember(climb, *stand, Membership::Not);
            }
        }
        Ok(Some(Membership::Not))
    }

    /// Who of several has what a node asks for, by one climb; `None` if something is not in memory. Who was not found has it
    /// not, unless the way is unsure.
    pub(super) fn climb_together(
        &mut self,
        climb: &Climb,
        node: Node,
        lanes: &mut [Lane],
    ) -> Result<Option<bool>, Stop> {
        let way = self.climb_for(climb, node, lanes, false)?;
        Ok(way.map(|way| !way.is_unsure))
    }

    /// Goes wherever a lane could be found, until all were or there is nowhere left to go; `None` if something is not in
    /// memory.
    fn climb_for(&mut self, climb: &Climb, node: Node, lanes: &mut [Lane], keeps: bool) -> Result<Option<Way>, Stop> {
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
            match self.stretch(climb, &mut way, lanes, keeps)? {
                Stretch::Found | Stretch::Done => return Ok(Some(way)),
                Stretch::Pause => {}
                Stretch::Unknown => {
                    self.climbs = false;
                    return Ok(None);
                }
            }
        }
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
    fn stretch(&mut self, climb: &Climb, way: &mut Way, lanes: &mut [Lane], keeps: bool) -> Result<Stretch, Stop> {
        let view = self.view;
        let Some(reader) = view.reader() else { return Ok(Stretch::Unknown) };
        let Some(ground) = Ground::of(climb, &reader, lanes) else { return Ok(Stretch::Unknown) };
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
                let known =
                    place.whole.and_then(|member| self.memo.final_answer(Node { member, object: stand.object }));
                match known {
                    // There is one lane where answers are kept.
                    Some(Membership::Member) => {
                        lanes.iter_mut().for_each(|lane| lane.found = Some(from));
                        return Ok(Stretch::Found);
                    }
                    Some(Membership::Conditional) => {
                        way.is_unsure = true;
                        continue;
                    }
                    Some(Membership::Not) => continue,
                    None => {}
                }
                at = u32::try_from(way.been.len()).unwrap_or(NOWHERE);
                way.been.push((stand, from));
            }
            let mut is_over = true;
            for (lane, named) in lanes.iter_mut().zip(&ground.named).filter(|(lane, _)| lane.found.is_none()) {
                match self.probe(place, stand.object, (lane.subject, named), &reader, way)? {
                    Some(true) => lane.found = Some(at),
                    Some(false) => is_over = false,
                    None => return Ok(Stretch::Unknown),
                }
            }
            if is_over {
                return Ok(Stretch::Found);
            }
            if !place.others.is_empty() {
                way.others.push((stand, at));
            }
            if !self.step(stand.place, (stand.object, at), (&ground, lanes), way)? {
                return Ok(Stretch::Unknown);
            }
            if lanes.iter().all(Lane::is_found) {
                return Ok(Stretch::Found);
            }
        }
        Ok(Stretch::Done)
    }

    /// Whether the object names the subject, or is it. `None` if that is not in memory.
    fn probe(
        &mut self,
        place: &Place,
        object: ObjectNum,
        (subject, named): (SubjectKey, &NamedIn<'_>),
        reader: &Reader<'_>,
        way: &mut Way,
    ) -> Result<Option<bool>, Stop> {
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
        let everybody = Lane::of(subject).everybody();
        for named in place.probes.iter().filter_map(|probe| named.get(*probe)) {
            let Named { rows, relation, subject: own, everybody: all } = named;
            for (who, row_subject) in [(own, subject), (all, everybody)] {
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

    /// Goes along the rows that lead from an object. False if they are not in memory.
    fn step(
        &mut self,
        place: u32,
        (object, at): (ObjectNum, u32),
        (ground, lanes): (&Ground<'_>, &mut [Lane]),
        way: &mut Way,
    ) -> Result<bool, Stop> {
        let Ground { climb, reader, .. } = ground;
        let before = way.ahead.len();
        for Track { step, rows, subjects, is_plain } in ground.tracks_of(place) {
            if !reader.knows_object(step.relation, object) {
                return Ok(false);
            }
            let there = subjects.of(object.0);
            let place = u32::try_from(step.to).unwrap_or(NOWHERE);
            match there {
                Few::None => continue,
                // Most have one, such as a folder's parent.
                Few::One(number) if *is_plain => {
                    self.budget.spend(1)?;
                    way.ahead.push((Stand { place, object: ObjectNum(number) }, at));
                    continue;
                }
                Few::One(_) | Few::Two(..) | Few::Sorted(_) | Few::Tree(_) => {}
            }
            if there.len() > LOOK_BEHIND
                && *is_plain
                && let Some(to) = climb.place(step.to)
                && self.look_behind(to, (there, at), (ground, lanes), way)?
            {
                continue;
            }
            if !is_plain && there.len() > CONDITIONS_AT_ONCE {
                return Ok(false);
            }
            self.budget.spend(there.len() as u64)?;
            way.steps += there.len() / CONDITION_STEPS;
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
        Ok(true)
    }

    /// Looks from the side of those who are looked for whether one of many objects names them, because that has fewer: where
    /// nothing leads on from there. False if it must be looked for object by object.
    fn look_behind(
        &mut self,
        to: &Place,
        (there, at): (Few<'_>, u32),
        (ground, lanes): (&Ground<'_>, &mut [Lane]),
        way: &mut Way,
    ) -> Result<bool, Stop> {
        let Ground { climb: _, reader, named, leads, .. } = ground;
        let leads_on = to.steps.iter().any(|step| leads & 1 << step.to != 0 && may_be_taken(reader, step));
        if leads_on || to.itself.is_some() || !to.others.is_empty() {
            return Ok(false);
        }
        for (lane, named) in lanes.iter_mut().zip(named).filter(|(lane, _)| lane.found.is_none()) {
            let subject = lane.subject;
            let probes = || to.probes.iter().filter_map(|probe| named.get(*probe));
            let fewer = probes().map(|named| named.subject.len() + named.everybody.len()).sum::<usize>() < there.len();
            if !fewer || (subject.kind == SubjectKind::Userset && to.asks(subject.member)) {
                return Ok(false);
            }
            for Named { rows, relation, subject: own, everybody: all } in probes() {
                for (who, row_subject) in [(own, subject), (all, lane.everybody())] {
                    self.budget.spend(who.len() as u64)?;
                    for object in who.after(None).filter(|object| there.contains(*object)).map(ObjectNum) {
                        if !reader.knows_object(*relation, object) {
                            return Ok(false);
                        }
                        if lane.found.is_none() && self.row_is_worth(rows, (*relation, object, row_subject), way)? {
                            lane.found = Some(at);
                        }
                    }
                }
            }
        }
        Ok(true)
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
        way.steps += CONDITION_STEPS;
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

impl<'r> Ground<'r> {
    /// `None` if something that would be looked at is not in memory.
    fn of(climb: &'r Climb, reader: &'r Reader<'r>, lanes: &[Lane]) -> Option<Ground<'r>> {
        let named = lanes.iter().map(|lane| named_in(climb, reader, lane)).collect::<Option<SmallVec<_>>>()?;
        let (tracks, ends) = (SmallVec::new(), SmallVec::new());
        let mut ground = Ground { climb, reader, named, leads: 0, tracks, ends };
        ground.leads = ground.leads(lanes);
        for (at, place) in climb.places().iter().enumerate() {
            let is_worth = |step: &&Step| ground.leads & 1 << at != 0 && ground.leads & 1 << step.to != 0;
            for step in place.steps.iter().filter(is_worth) {
                let rows = reader.relation(step.relation)?;
                let Some(subjects) = rows.subjects_by_object(step.kind, step.member) else {
                    // What is not here now may have been at the reader's revision.
                    if may_be_taken(reader, step) {
                        return None;
                    }
                    continue;
                };
                ground.tracks.push(Track { step: *step, rows, subjects, is_plain: rows.is_plain() });
            }
            ground.ends.push(ground.tracks.len());
        }
        Some(ground)
    }

    /// The steps of a place that are worth being taken.
    fn tracks_of(&self, place: u32) -> &[Track<'r>] {
        let place = place as usize;
        let from = place.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let end = self.ends.get(place).copied().unwrap_or(from);
        self.tracks.get(from..end).unwrap_or_default()
    }

    /// From which places one could still be found: what leads nowhere is not followed.
    fn leads(&self, lanes: &[Lane]) -> u64 {
        let places = self.climb.places();
        let mut leads = 0_u64;
        for (at, place) in places.iter().enumerate() {
            let names = |(lane, named): (&Lane, &NamedIn<'_>)| {
                let Lane { subject, found } = lane;
                let is_named = |probe: &usize| {
                    named.get(*probe).is_none_or(|named| !named.subject.is_empty() || !named.everybody.is_empty())
                };
                let may_be_it = match subject.kind {
                    SubjectKind::Plain => place.itself == Some(subject.member),
                    SubjectKind::Userset => place.asks(subject.member),
                    SubjectKind::Wildcard => false,
                };
                found.is_none() && (may_be_it || place.probes.iter().any(is_named))
            };
            if !place.others.is_empty() || lanes.iter().zip(&self.named).any(names) {
                leads |= 1 << at;
            }
        }
        // Bounded: each turn but the last adds a place, of which there are 64 at most.
        loop {
            let before = leads;
            for (at, place) in places.iter().enumerate() {
                let leads_on = |step: &Step| leads & 1 << step.to != 0 && may_be_taken(self.reader, step);
                if leads & 1 << at == 0 && place.steps.iter().any(leads_on) {
                    leads |= 1 << at;
                }
            }
            if leads == before {
                break;
            }
        }
        leads
    }
}

/// Where each relation names one who is looked for; `None` if that is not in memory.
fn named_in<'r>(climb: &Climb, reader: &'r Reader<'_>, lane: &Lane) -> Option<NamedIn<'r>> {
    let (subject, everybody) = (lane.subject, lane.everybody());
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
