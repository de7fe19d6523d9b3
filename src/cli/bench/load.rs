//! What is asked of a server, and what is counted of its answers.
//!
//! INVARIANT: every answer is compared with what the world says. A write is asked about over another connection as soon as
//! it is acknowledged; an answer from before it is stale.

use super::fill::unfit;
use super::ready::{Ids, Ready, ReadyList, parsed, tuple};
use super::worlds::World;
use super::worlds::draw::Draw;
use crate::api::client::{
    Ask, Asker, BulkCall, Call, CheckCall, ClientError, FilterCall, FilterOf, Heard, ListCall, ListPage, ResourcesOf,
    Under, WriteCall,
};
use crate::cli::exit::Failure;
use crate::model::{Decision, ObjectId, ObjectRef, Question, TupleUpdate, UpdateKind};
use hdrhistogram::Histogram;
use std::collections::{HashMap, HashSet, VecDeque};
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Batches and lists that are made ready.
const BULKS: u64 = 32;
const LISTS: u64 = 64;
/// Tuples that are granted and revoked in turn, at least: the same is not written again at once.
const GRANTS_MIN: usize = 4_096;
/// Places in which what is counted is kept: few workers wait for each other.
const TALLIES: usize = 16;
/// After so many errors it is over: the server is away.
const ERRORS_MAX: u64 = 1_000;
/// Messages kept of what was wrong.
const SAID_MAX: usize = 5;
/// Digits of a latency that are kept.
const DIGITS: u8 = 3;

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    Check,
    Bulk,
    Filter,
    List,
    Write,
}

impl Operation {
    /// In the order in which they are told.
    pub const ALL: [Operation; 5] =
        [Operation::Check, Operation::Bulk, Operation::Filter, Operation::List, Operation::Write];

    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Check => "check",
            Operation::Bulk => "bulk",
            Operation::Filter => "filter",
            Operation::List => "list",
            Operation::Write => "write",
        }
    }
}

/// How often each kind is asked, by weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mix(Vec<(Operation, u32)>);

impl Mix {
    /// This kind alone.
    pub fn only(operation: Operation) -> Mix {
        Mix(vec![(operation, 1)])
    }

    pub fn has(&self, operation: Operation) -> bool {
        self.0.iter().any(|(one, _)| *one == operation)
    }

    fn draw(&self, draw: &mut Draw) -> Operation {
        let mut at = draw.below(self.0.iter().map(|(_, weight)| u64::from(*weight)).sum());
        for (operation, weight) in &self.0 {
            match at.checked_sub(u64::from(*weight)) {
                None => return *operation,
                Some(rest) => at = rest,
            }
        }
        Operation::Check
    }
}

impl FromStr for Mix {
    type Err = String;

    /// `check=90,write=10`.
    fn from_str(text: &str) -> Result<Mix, String> {
        let mut mix = Vec::new();
        for part in text.split(',') {
            let (name, weight) = part.trim().split_once('=').ok_or_else(|| format!("`{part}` is not KIND=WEIGHT"))?;
            let operation = Operation::ALL.into_iter().find(|operation| operation.as_str() == name);
            let operation = operation.ok_or_else(|| format!("`{name}` is not check, bulk, filter, list or write"))?;
            if mix.iter().any(|(one, _)| *one == operation) {
                return Err(format!("`{name}` stands twice"));
            }
            let weight = weight.parse::<u32>().map_err(|_| format!("`{weight}` is not a weight, such as 90"))?;
            if weight > 0 {
                mix.push((operation, weight));
            }
        }
        if mix.is_empty() { Err("every weight is 0".to_owned()) } else { Ok(Mix(mix)) }
    }
}

impl std::fmt::Display for Mix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (place, (operation, weight)) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(f, "{comma}{}={weight}", operation.as_str())?;
        }
        Ok(())
    }
}

/// What of a world is asked.
pub struct Wanted {
    pub mix: Mix,
    pub part: Option<usize>,
    pub questions: u64,
    pub bulk_items: usize,
    /// Calls that may be in flight at once.
    pub in_flight: usize,
    pub seed: u64,
}

/// A load: calls made ready, and what is counted.
pub struct Load {
    mix: Mix,
    checks: Vec<(CheckCall, Decision, Question)>,
    bulks: Vec<(BulkCall, Vec<(Decision, Question)>)>,
    filters: Vec<(FilterCall, Option<Vec<bool>>, String)>,
    lists: Vec<(ListCall, Option<HashSet<ObjectRef>>, String)>,
    grants: Mutex<VecDeque<Grants>>,
    tallies: Vec<Mutex<Tally>>,
}

/// A tuple that is granted and revoked in turn.
pub struct Grants {
    grant: WriteCall,
    revoke: WriteCall,
    check: CheckCall,
    question: Question,
    /// What the last write that was acknowledged left.
    is_granted: bool,
}

/// Which call was made.
pub enum Mark {
    Check(usize),
    Bulk(usize),
    Filter(usize),
    List(usize),
    Write(Box<Grants>),
}

/// What came of one kind of call.
pub struct Counted {
    /// In nanoseconds.
    pub took: Histogram<u64>,
    /// Questions answered, objects listed, tuples written.
    pub items: u64,
}

/// What was counted.
pub struct Tally {
    draw: Draw,
    counted: HashMap<Operation, Counted>,
    pub errors: u64,
    pub stale: u64,
    pub mismatches: u64,
    /// Lists and filters of which nobody could tell beforehand what had to come.
    pub unjudged: u64,
    /// Of what was wrong, the first.
    pub said: Vec<String>,
}

impl Tally {
    fn new(draw: Draw) -> Tally {
        Tally { draw, counted: HashMap::new(), errors: 0, stale: 0, mismatches: 0, unjudged: 0, said: Vec::new() }
    }

    /// What came of this kind, if it was asked.
    pub fn of(&self, operation: Operation) -> Option<&Counted> {
        self.counted.get(&operation)
    }

    fn count(&mut self, operation: Operation, took: Duration, items: usize) {
        if !self.counted.contains_key(&operation)
            && let Ok(took) = Histogram::new(DIGITS)
        {
            self.counted.insert(operation, Counted { took, items: 0 });
        }
        // There always is one: so many digits can be had.
        let Some(counted) = self.counted.get_mut(&operation) else { return };
        // It grows as it needs to.
        let _ = counted.took.record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        counted.items += items as u64;
    }

    fn say(&mut self, what: impl FnOnce() -> String) {
        if self.said.len() < SAID_MAX {
            self.said.push(what());
        }
    }

    fn fail(&mut self, error: &ClientError) {
        self.errors += 1;
        let ClientError { code, reason, message, facts: _, diagnostics: _ } = error;
        self.say(|| format!("error: {message} [{code} {reason}]"));
    }

    fn compare(&mut self, question: &Question, expected: Decision, found: Decision) {
        if found != expected {
            self.mismatches += 1;
            let Question { object, permission, subject } = question;
            let (expected, found) = (expected.as_str(), found.as_str());
            self.say(|| format!("mismatch: {object}#{permission}@{subject} is {found}, must be {expected}"));
        }
    }

    /// Counts what another found wrong, and nothing else of it.
    pub fn add_wrongs(&mut self, other: &Tally) {
        let Tally { draw: _, counted: _, errors, stale, mismatches, unjudged: _, said } = other;
        self.errors += errors;
        self.stale += stale;
        self.mismatches += mismatches;
        self.said.extend(said.iter().take(SAID_MAX.saturating_sub(self.said.len())).cloned());
    }

    fn add(&mut self, other: &Tally) {
        let Tally { draw: _, counted, errors: _, stale: _, mismatches: _, unjudged, said: _ } = other;
        self.add_wrongs(other);
        for (operation, Counted { took, items }) in counted {
            match self.counted.get_mut(operation) {
                Some(own) => {
                    // Both grow as they need to.
                    let _ = own.took.add(took);
                    own.items += items;
                }
                None => {
                    self.counted.insert(*operation, Counted { took: took.clone(), items: *items });
                }
            }
        }
        self.unjudged += unjudged;
    }
}

impl Load {
    /// Makes ready what the mix asks for.
    pub fn new(world: &dyn World, ids: &Ids, wanted: &Wanted) -> Result<Load, Failure> {
        let Wanted { mix, part, questions, bulk_items, in_flight, seed } = wanted;
        let mut draw = Draw::new(*seed);
        let mut ready = Vec::new();
        if mix.has(Operation::Check) || mix.has(Operation::Bulk) {
            for _ in 0..(*questions).max(1) {
                ready.push(world.ask(&mut draw, *part).ready(ids).map_err(unfit)?);
            }
        }
        let bulks = if mix.has(Operation::Bulk) { bulks(&ready, *bulk_items, &mut draw) } else { Vec::new() };
        let check = |ready: Ready| (CheckCall::new(&ready.question, &ask(&ready)), ready.expected, ready.question);
        let mut lists = Vec::new();
        if mix.has(Operation::List) {
            for _ in 0..LISTS {
                lists.push(list(world.list(&mut draw, *part).ready(ids).map_err(unfit)?)?);
            }
        }
        let mut filters = Vec::new();
        if mix.has(Operation::Filter) {
            for _ in 0..BULKS {
                let ready = world.list(&mut draw, *part).ready(ids).map_err(unfit)?;
                let asked = (0..*bulk_items).map(|_| world.ask(&mut draw, *part).object).collect();
                filters.push(filter(ready, asked)?);
            }
        }
        let mut grants = VecDeque::new();
        if mix.has(Operation::Write) {
            // So many that one is always free.
            for number in 0..(*in_flight).max(GRANTS_MIN) as u64 {
                grants.push_back(granting(world, number)?);
            }
        }
        let tally = |place: usize| Mutex::new(Tally::new(Draw::new(seed ^ (1 + place as u64))));
        Ok(Load {
            mix: mix.clone(),
            checks: ready.into_iter().map(check).collect(),
            bulks,
            filters,
            lists,
            grants: Mutex::new(grants),
            tallies: (0..TALLIES).map(tally).collect(),
        })
    }

    /// All that was counted since it was last taken.
    pub fn take(&self) -> Tally {
        let mut all = Tally::new(Draw::new(0));
        for tally in &self.tallies {
            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            let fresh = Tally::new(tally.draw.clone());
            all.add(&std::mem::replace(&mut *tally, fresh));
        }
        all
    }

    fn tally(&self, worker: usize) -> Option<MutexGuard<'_, Tally>> {
        let tally = self.tallies.get(worker % TALLIES)?;
        Some(tally.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The tuples that are not being written just now.
    fn free(&self) -> MutexGuard<'_, VecDeque<Grants>> {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> Option<(Call, Mark)> {
        let grants = self.free().pop_front()?;
        let write = if grants.is_granted { &grants.revoke } else { &grants.grant };
        Some((Call::Write(write.clone(), grants.check.clone()), Mark::Write(Box::new(grants))))
    }
}

fn ask(ready: &Ready) -> Ask {
    let under = Under { context: ready.context.clone(), ..Under::default() };
    Ask { under, acting: ready.acting.clone(), explain: false }
}

/// A call asks all under the same circumstances, so each batch is filled from the questions that share them.
fn bulks(ready: &[Ready], items: usize, draw: &mut Draw) -> Vec<(BulkCall, Vec<(Decision, Question)>)> {
    let circumstances = |one: &Ready| format!("{:?} {:?}", one.acting, one.context);
    let mut alike: HashMap<String, Vec<&Ready>> = HashMap::new();
    for one in ready {
        alike.entry(circumstances(one)).or_default().push(one);
    }
    let mut batches = Vec::new();
    for _ in 0..BULKS {
        let Some(first) = ready.get(draw.below(ready.len() as u64) as usize) else { continue };
        let Some(others) = alike.get(&circumstances(first)) else { continue };
        let from = draw.below(others.len() as u64) as usize;
        let chosen: Vec<&Ready> = others.iter().cycle().skip(from).take(items).copied().collect();
        let questions: Vec<Question> = chosen.iter().map(|one| one.question.clone()).collect();
        let expected = chosen.iter().map(|one| (one.expected, one.question.clone())).collect();
        batches.push((BulkCall::new(&questions, &ask(first)), expected));
    }
    batches
}

fn list(ready: ReadyList) -> Result<(ListCall, Option<HashSet<ObjectRef>>, String), Failure> {
    let ReadyList { object_type, permission, subject, acting, expected } = ready;
    let said = format!("{object_type} {permission} {subject}");
    let asked = ResourcesOf { object_type, permission, subject, acting, within: None };
    Ok((ListCall::new(&asked, ListPage::default())?, expected, said))
}

/// Of these objects, and of those that the subject is known to have: every other is one of them, as far as they go.
fn filter(ready: ReadyList, asked: Vec<String>) -> Result<(FilterCall, Option<Vec<bool>>, String), Failure> {
    let ReadyList { object_type, permission, subject, acting, expected } = ready;
    let objects = asked.iter().map(|object| parsed(object)).collect::<Result<Vec<ObjectRef>, _>>().map_err(unfit)?;
    let mut has = expected.iter().flatten();
    let choose = |(place, object): (usize, ObjectRef)| match has.next() {
        Some(own) if place % 2 == 0 => own.clone(),
        Some(_) | None => object,
    };
    let objects: Vec<ObjectRef> = objects.into_iter().enumerate().map(choose).collect();
    let due = expected.as_ref().map(|expected| objects.iter().map(|object| expected.contains(object)).collect());
    let said = format!("{object_type} {permission} {subject}");
    let ids: Vec<ObjectId> = objects.into_iter().map(|object| object.id).collect();
    let asked = FilterOf { object_type, permission, subject, acting };
    Ok((FilterCall::new(&asked, &ids, &Under::default()), due, said))
}

fn granting(world: &dyn World, number: u64) -> Result<Grants, Failure> {
    let grant = world.grant(number);
    let tuple = tuple(&grant.tuple).map_err(unfit)?;
    let ready = grant.asked.ready(&Ids::new()).map_err(unfit)?;
    let write = |kind| WriteCall::new(&[TupleUpdate { kind, tuple: tuple.clone() }]);
    Ok(Grants {
        grant: write(UpdateKind::Touch),
        revoke: write(UpdateKind::Delete),
        check: CheckCall::new(&ready.question, &ask(&ready)),
        question: ready.question,
        is_granted: false,
    })
}

impl Asker for Load {
    type Mark = Mark;

    fn next(&self, worker: usize) -> Option<(Call, Mark)> {
        let (operation, drawn) = {
            let mut tally = self.tally(worker)?;
            (self.mix.draw(&mut tally.draw), tally.draw.below(u64::MAX))
        };
        let place = |of: usize| (drawn % of.max(1) as u64) as usize;
        match operation {
            Operation::Check => {
                let place = place(self.checks.len());
                self.checks.get(place).map(|(call, ..)| (Call::Check(call.clone()), Mark::Check(place)))
            }
            Operation::Bulk => {
                let place = place(self.bulks.len());
                self.bulks.get(place).map(|(call, _)| (Call::Bulk(call.clone()), Mark::Bulk(place)))
            }
            Operation::Filter => {
                let place = place(self.filters.len());
                self.filters.get(place).map(|(call, ..)| (Call::Filter(call.clone()), Mark::Filter(place)))
            }
            Operation::List => {
                let place = place(self.lists.len());
                self.lists.get(place).map(|(call, ..)| (Call::List(call.clone()), Mark::List(place)))
            }
            Operation::Write => self.write(),
        }
    }

    fn heard(&self, worker: usize, mark: Mark, took: Duration, heard: Result<Heard, ClientError>) -> bool {
        let Some(mut tally) = self.tally(worker) else { return false };
        match (mark, heard) {
            // Of a write that failed it is not known whether it took place, so its tuple is not used again.
            (_, Err(error)) => tally.fail(&error),
            (Mark::Check(place), Ok(Heard::Decision(found))) => {
                tally.count(Operation::Check, took, 1);
                if let Some((_, expected, question)) = self.checks.get(place) {
                    tally.compare(question, *expected, found);
                }
            }
            (Mark::Bulk(place), Ok(Heard::Decisions(answers))) => {
                tally.count(Operation::Bulk, took, answers.len());
                let expected = self.bulks.get(place).map_or(&[][..], |(_, expected)| expected);
                for ((expected, question), found) in expected.iter().zip(answers) {
                    match found {
                        Ok(found) => tally.compare(question, *expected, found),
                        Err(error) => tally.fail(&error),
                    }
                }
            }
            (Mark::Filter(place), Ok(Heard::Decisions(answers))) => {
                tally.count(Operation::Filter, took, answers.len());
                match self.filters.get(place) {
                    Some((_, Some(due), asked)) => {
                        for (due, found) in due.iter().zip(answers) {
                            match found {
                                Ok(found) if (found != Decision::Deny) == *due => {}
                                Ok(found) => {
                                    tally.mismatches += 1;
                                    tally
                                        .say(|| format!("mismatch: the filter {asked} says {} of one", found.as_str()));
                                }
                                Err(error) => tally.fail(&error),
                            }
                        }
                    }
                    Some((_, None, _)) | None => tally.unjudged += 1,
                }
            }
            (Mark::List(place), Ok(Heard::Objects(rows))) => {
                tally.count(Operation::List, took, rows.len());
                match self.lists.get(place) {
                    Some((_, Some(expected), asked)) => {
                        let found: HashSet<ObjectRef> = rows.iter().map(|(object, _)| object.clone()).collect();
                        if found != *expected || found.len() != rows.len() {
                            tally.mismatches += 1;
                            let (rows, due) = (rows.len(), expected.len());
                            tally.say(|| format!("mismatch: the list {asked} has {rows} rows, must have {due}"));
                        }
                    }
                    Some((_, None, _)) | None => tally.unjudged += 1,
                }
            }
            (Mark::Write(mut grants), Ok(Heard::Written(seen))) => {
                tally.count(Operation::Write, took, 1);
                grants.is_granted = !grants.is_granted;
                let expected = if grants.is_granted { Decision::Allow } else { Decision::Deny };
                if seen != expected {
                    tally.stale += 1;
                    let Question { object, permission, subject } = &grants.question;
                    let what = if grants.is_granted { "granted" } else { "revoked" };
                    tally.say(|| format!("stale: {object}#{permission}@{subject} was {what}, is {}", seen.as_str()));
                }
                drop(tally);
                self.free().push_back(*grants);
                return true;
            }
            (
                Mark::Check(_) | Mark::Bulk(_) | Mark::Filter(_) | Mark::List(_) | Mark::Write(_),
                Ok(Heard::Decision(_) | Heard::Decisions(_) | Heard::Objects(_) | Heard::Written(_)),
            ) => {
                tally.errors += 1;
                tally.say(|| "error: an answer came to another kind of call".to_owned());
            }
        }
        tally.errors < ERRORS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::worlds::WorldName;

    fn load(mix: &str) -> Load {
        let world = WorldName::Deep.at(8, 7);
        let wanted =
            Wanted { mix: mix.parse().unwrap(), part: None, questions: 100, bulk_items: 10, in_flight: 4, seed: 1 };
        Load::new(&*world, &Ids::new(), &wanted).unwrap_or_else(|_| panic!("it does not fit"))
    }

    fn other(decision: Decision) -> Decision {
        if decision == Decision::Allow { Decision::Deny } else { Decision::Allow }
    }

    const TOOK: Duration = Duration::from_micros(250);

    #[test]
    fn a_mix_is_kinds_and_weights() {
        let mix: Mix = "check=90,bulk=0,write=10".parse().unwrap();
        assert_eq!(mix.to_string(), "check=90,write=10");
        let mut draw = Draw::new(1);
        let writes = (0..10_000).filter(|_| mix.draw(&mut draw) == Operation::Write).count();
        assert!((800..1_200).contains(&writes), "{writes}");
        for wrong in ["", "check", "check=x", "check=-1", "cheque=1", "check=1,check=2", "check=0"] {
            assert!(wrong.parse::<Mix>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_wrong_answer_is_a_mismatch() {
        let load = load("check=1");
        for is_right in [true, false] {
            let (_, mark) = load.next(0).unwrap();
            let Mark::Check(place) = mark else { panic!("not a check") };
            let expected = load.checks[place].1;
            let found = if is_right { expected } else { other(expected) };
            assert!(load.heard(0, mark, TOOK, Ok(Heard::Decision(found))));
        }
        let tally = load.take();
        assert_eq!((tally.mismatches, tally.errors, tally.stale), (1, 0, 0));
        let checks = tally.of(Operation::Check).unwrap();
        assert_eq!((checks.took.len(), checks.items), (2, 2));
        assert!((249_000..=251_000).contains(&checks.took.max()));
        assert!(tally.said[0].starts_with("mismatch: folder:"), "{:?}", tally.said);
        assert_eq!(load.take().mismatches, 0);
    }

    #[test]
    fn each_answer_of_a_batch_is_compared() {
        let load = load("bulk=1");
        let (_, mark) = load.next(0).unwrap();
        let Mark::Bulk(place) = mark else { panic!("not a batch") };
        let mut answers: Vec<_> = load.bulks[place].1.iter().map(|(expected, _)| Ok(*expected)).collect();
        answers[3] = Ok(other(load.bulks[place].1[3].0));
        load.heard(0, mark, TOOK, Ok(Heard::Decisions(answers)));
        let tally = load.take();
        assert_eq!((tally.mismatches, tally.of(Operation::Bulk).unwrap().items), (1, 10));
    }

    #[test]
    fn each_id_of_a_filter_is_compared() {
        let load = load("filter=1");
        for (wrong, mismatches) in [(0, 0), (1, 1), (10, 10)] {
            let (_, mark) = load.next(0).unwrap();
            let Mark::Filter(place) = mark else { panic!("not a filter") };
            let due = load.filters[place].1.as_ref().unwrap();
            assert!(due[0], "the first is the subject's own");
            let say = |(at, due): (usize, &bool)| if *due == (at >= wrong) { Decision::Allow } else { Decision::Deny };
            let answers = due.iter().enumerate().map(|one| Ok(say(one))).collect();
            load.heard(0, mark, TOOK, Ok(Heard::Decisions(answers)));
            assert_eq!(load.take().mismatches, mismatches);
        }
    }

    #[test]
    fn a_list_has_each_row_once_and_no_other() {
        let load = load("list=1");
        type Rows = Vec<(ObjectRef, Decision)>;
        let ask = |change: &dyn Fn(&mut Rows)| {
            let (_, mark) = load.next(0).unwrap();
            let Mark::List(place) = mark else { panic!("not a list") };
            let expected = load.lists[place].1.as_ref().unwrap();
            let mut rows: Vec<_> = expected.iter().map(|object| (object.clone(), Decision::Allow)).collect();
            change(&mut rows);
            load.heard(0, mark, TOOK, Ok(Heard::Objects(rows)));
            load.take().mismatches
        };
        assert_eq!(ask(&|_| {}), 0);
        assert_eq!(ask(&|rows| drop(rows.pop())), 1);
        assert_eq!(ask(&|rows| rows.push(rows[0].clone())), 1);
        assert_eq!(ask(&|rows| rows[0] = rows[1].clone()), 1);
    }

    /// A tuple is granted, then revoked; whoever sees it otherwise afterwards has a stale answer.
    #[test]
    fn an_answer_from_before_a_write_is_stale() {
        let load = load("write=1");
        load.free().truncate(1);
        for (seen, stale) in
            [(Decision::Allow, 0), (Decision::Deny, 0), (Decision::Deny, 1), (Decision::Allow, 1), (Decision::Allow, 0)]
        {
            let (_, mark) = load.next(0).unwrap();
            load.heard(0, mark, TOOK, Ok(Heard::Written(seen)));
            assert_eq!(load.take().stale, stale, "{seen:?}");
        }
        // While it is being written nobody else writes it.
        let (_, mark) = load.next(0).unwrap();
        assert!(load.next(1).is_none());
        load.heard(0, mark, TOOK, Ok(Heard::Written(Decision::Deny)));
        assert!(load.next(1).is_some());
    }
}
