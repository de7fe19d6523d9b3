//! The engine against the oracle: at least a million decisions over random worlds, however they are asked.
//!
//! What always holds: an answer depends on schema, tuples and question only. Not on batching, order, a restart, other
//! threads, writes elsewhere, or on the witness being asked for. `PROCURA_DECISIONS` sets how many, `PROCURA_SEED`
//! replays; a disagreement prints seed, schema, tuples, question and both answers.

use crate::caveats::{Given, Names, names_of, names_told};
use crate::engines::{Held, schema_request, told, write_request};
use crate::oracle::{Flip, Truth};
use crate::worlds::{
    Asked, Due, Fails, Instant, Rng, SECOND, START, Trouble, World, context, decision, number, random_given, seed,
    timestamp,
};
use procura::engine::{Answer, CheckOptions, Clock, Collector, Engine, Error, Explain, Explained, Options, Situation};
use procura::model::{
    Acting, Cancel, Consistency, ConsistencyToken, Decision, ObjectRef, Question, RelationName, Step, Timestamp,
    TupleUpdate, UpdateKind, Witness,
};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Worlds that share one engine (opening one costs more than a world), each under a prefix of its own.
const WORLDS_PER_BATCH: usize = 20;
const SUBJECTS_PER_WORLD: usize = 12;
const NOISE: &str = "definition noise/user {}\n\
    definition noise/doc {\n  relation viewer: noise/user | noise/doc#viewer\n  permission view = viewer\n}\n";

/// Contexts that the questions of one round are asked under.
const CONTEXTS_PER_ROUND: usize = 3;

/// A question, what the oracle says, and whose world it is of.
struct Expected {
    world: usize,
    asked: Asked,
    question: Question,
    due: Due,
    /// The first later instant at which the oracle says something else.
    changes_at: Option<Instant>,
    given: Arc<Given>,
    /// What was said first: however it is asked again, that stands, to the names that are missing.
    said: OnceLock<Said>,
}

/// A decision and what is missing; `None` where the question failed.
type Said = Option<(Decision, Names)>;

/// A clock that stands where it is set.
struct Dial(AtomicI64);

impl Clock for Dial {
    fn now(&self) -> Timestamp {
        timestamp(self.0.load(Ordering::SeqCst))
    }
}

/// An engine whose time is set by the test. What has ended stays stored: it must not matter.
pub struct Timed {
    // Declared before the folder: it closes first.
    engine: Option<Engine>,
    dial: Arc<Dial>,
    held: Held,
    folder: tempfile::TempDir,
}

impl Timed {
    pub fn with_schema(text: &str) -> Timed {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut timed =
            Timed { engine: None, dial: Arc::new(Dial(AtomicI64::new(START))), held: Held::of(text), folder };
        timed.reopen();
        if let Err(error) = timed.write_schema(schema_request(text)) {
            panic!("{}\n{text}", told(&error));
        }
        timed
    }

    fn reopen(&mut self) {
        if let Some(engine) = self.engine.take() {
            engine.close();
        }
        let clock = self.dial.clone();
        let beside = self.held.options(self.folder.path());
        let options = Options { clock, collector: Collector::Off, test_clock: true, ..beside };
        self.engine = Some(Engine::open(options).unwrap_or_else(|error| panic!("{}", told(&error))));
    }

    pub fn update(&self, updates: Vec<TupleUpdate>) {
        for part in updates.chunks(10_000) {
            if let Err(error) = self.write_tuples(write_request(part.to_vec())) {
                panic!("{}", told(&error));
            }
        }
    }

    pub fn token_now(&self) -> ConsistencyToken {
        self.token(self.info().expect("what it is").revision)
    }

    pub fn set(&self, now: Instant) {
        self.dial.0.store(now, Ordering::SeqCst);
    }

    fn now(&self) -> Instant {
        self.dial.0.load(Ordering::SeqCst)
    }
}

impl std::ops::Deref for Timed {
    type Target = Engine;
    fn deref(&self) -> &Engine {
        self.engine.as_ref().expect("it is open")
    }
}

/// What was compared, over all batches.
#[derive(Default)]
struct Tally {
    conditional: AtomicU64,
    failed: AtomicU64,
    /// Conditional answers of which no condition decides by itself: only there may a parameter too many be named.
    undecided: AtomicU64,
    /// Errors alike.
    undecided_failed: AtomicU64,
    with_an_end: AtomicU64,
}

struct Batch<'a> {
    number: u64,
    seed: u64,
    rng: Rng,
    worlds: Vec<World>,
    engine: Timed,
    tally: &'a Tally,
}

#[test]
fn the_engine_agrees_with_the_oracle() {
    let seed = seed("the_engine_agrees_with_the_oracle");
    let wanted = number("PROCURA_DECISIONS", 1_000_000);
    let (decided, next, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let tally = Tally::default();
    let workers = std::thread::available_parallelism().map_or(2, usize::from).min(4);
    let troubles: Vec<Trouble> = std::thread::scope(|scope| {
        let work = || {
            let mut trouble = Trouble::default();
            // Bounded: each batch decides something, and a failed one ends the others.
            while decided.load(Ordering::Relaxed) < wanted && !stop.load(Ordering::Relaxed) {
                let ends_all = StopUnlessDone { stop: &stop, done: false };
                let batch = Batch::draw(seed, next.fetch_add(1, Ordering::Relaxed), &tally);
                decided.fetch_add(batch.run(&mut trouble), Ordering::Relaxed);
                ends_all.done();
            }
            trouble
        };
        let running: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        running
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let batches = next.load(Ordering::Relaxed);
    println!("{} decisions agree, in {batches} batches of {WORLDS_PER_BATCH} worlds", decided.load(Ordering::Relaxed));
    let told = |count: &AtomicU64| count.load(Ordering::Relaxed);
    println!(
        "{} conditional (of {} no condition decides by itself), {} errors (nor of {}), {} with an end",
        told(&tally.conditional),
        told(&tally.undecided),
        told(&tally.failed),
        told(&tally.undecided_failed),
        told(&tally.with_an_end)
    );
    for trouble in &troubles {
        println!("of the worlds measured: {}", trouble.told());
    }
    assert!(decided.load(Ordering::Relaxed) >= wanted);
}

/// Tells the other workers when this one panics.
struct StopUnlessDone<'a> {
    stop: &'a AtomicBool,
    done: bool,
}

impl StopUnlessDone<'_> {
    fn done(mut self) {
        self.done = true;
    }
}

impl Drop for StopUnlessDone<'_> {
    fn drop(&mut self) {
        self.stop.fetch_or(!self.done, Ordering::Relaxed);
    }
}

impl Batch<'_> {
    fn draw(seed: u64, number: u64, tally: &Tally) -> Batch<'_> {
        let mut rng = Rng::part(seed, number);
        let worlds: Vec<World> = (0..WORLDS_PER_BATCH).map(|n| World::random(&mut rng, &format!("w{n}"))).collect();
        let schema: String = worlds.iter().map(|world| world.schema.print_body()).collect();
        let engine = Timed::with_schema(&format!("use expiration\nuse self\n{schema}{NOISE}"));
        Batch { number, seed, rng, worlds, engine, tally }
    }

    /// Every way to ask; how many decisions were compared.
    fn run(mut self, trouble: &mut Trouble) -> u64 {
        let mut decided = 0;
        let touch = |tuple| TupleUpdate { kind: UpdateKind::Touch, tuple };
        self.engine.update(self.worlds.iter().flat_map(World::relation_tuples).map(touch).collect());
        let first = self.engine.token_now();
        let at_first = self.expected(WORLDS_PER_BATCH);
        decided += self.ask_in_bulk(&at_first, Consistency::Newest);
        decided += self.ask_one_by_one(&at_first, 24);

        let before = self.worlds.clone();
        self.write_changes();
        // The old state is still there for who asks for it; what has ended since has ended there too.
        decided += self.ask_in_bulk(&at_first[..at_first.len() / 8], Consistency::AtExactSnapshot(first));
        self.engine.set(START + 10 * SECOND);
        let now = std::mem::replace(&mut self.worlds, before);
        let at_first = self.expected(3);
        decided += self.ask_in_bulk(&at_first, Consistency::AtExactSnapshot(first));
        self.worlds = now;

        let second = self.engine.token_now();
        let at_second = self.expected(WORLDS_PER_BATCH);
        decided += self.ask_in_bulk(&at_second, Consistency::AtLeastAsFresh(second));
        decided += self.ask_one_by_one(&at_second, 24);

        self.engine.set(START + 20 * SECOND);
        self.write_changes();
        let at_third = self.expected(WORLDS_PER_BATCH);
        decided += self.ask_in_bulk(&at_third, Consistency::Newest);
        decided += self.ask_beside_a_writer(&at_third);

        if self.number.is_multiple_of(4) {
            let scratch = tempfile::tempdir().expect("a temporary folder");
            self.engine.verify(scratch.path()).unwrap_or_else(|error| panic!("{}", told(&error)));
            self.engine.reopen();
            decided += self.ask_in_bulk(&at_third, Consistency::Newest);
            decided += self.ask_one_by_one(&at_third, 48);
        }
        if self.number < 2 {
            for world in &self.worlds {
                let subjects = world.some_subjects(&mut self.rng, SUBJECTS_PER_WORLD);
                trouble.measure(world, &subjects, &random_given(&mut self.rng), self.engine.now());
            }
        }
        // Nothing but time passes, to each instant before an end and to the end itself.
        for later in [25 * SECOND - 1, 25 * SECOND, 30 * SECOND, 30 * SECOND + 1, 1_000 * SECOND] {
            self.engine.set(START + later);
            let at_later = self.expected(2);
            decided += self.ask_in_bulk(&at_later, Consistency::Newest);
        }
        decided
    }

    /// All questions of the first worlds about some subjects, shuffled, each under one of a few contexts.
    fn expected(&mut self, worlds: usize) -> Vec<Expected> {
        let now = self.engine.now();
        let contexts: Vec<Arc<Given>> =
            (0..CONTEXTS_PER_ROUND).map(|_| Arc::new(random_given(&mut self.rng))).collect();
        let mut all = Vec::new();
        for (n, world) in self.worlds.iter().enumerate().take(worlds) {
            for subject in world.some_subjects(&mut self.rng, SUBJECTS_PER_WORLD) {
                let given = self.rng.pick(&contexts).clone();
                let later: Vec<(Instant, Vec<Vec<Truth>>)> = world
                    .ends_after(now)
                    .into_iter()
                    .map(|end| (end, world.held(&world.rows(&given, end, Flip::None), subject)))
                    .collect();
                all.extend(world.due(subject, &given, now).into_iter().map(|(asked, due)| {
                    Expected {
                        world: n,
                        asked,
                        question: world.question(asked),
                        due,
                        changes_at: later
                            .iter()
                            .find(|(_, held)| held[asked.object][asked.member] != due.truth)
                            .map(|(end, _)| *end),
                        given: given.clone(),
                        said: OnceLock::new(),
                    }
                }));
            }
        }
        self.rng.shuffle(&mut all);
        all
    }

    fn write_changes(&mut self) {
        let now = self.engine.now();
        let mut updates: Vec<TupleUpdate> =
            self.worlds.iter_mut().flat_map(|world| world.random_changes(&mut self.rng, now)).collect();
        self.rng.shuffle(&mut updates);
        self.engine.update(updates);
    }

    fn ask_in_bulk(&self, expected: &[Expected], consistency: Consistency) -> u64 {
        let mut contexts: Vec<&Arc<Given>> = Vec::new();
        for one in expected {
            if !contexts.iter().any(|known| Arc::ptr_eq(known, &one.given)) {
                contexts.push(&one.given);
            }
        }
        for given in contexts {
            let under: Vec<&Expected> = expected.iter().filter(|one| Arc::ptr_eq(&one.given, given)).collect();
            let options = CheckOptions {
                situation: Situation { consistency, context: context(given), ..Situation::default() },
                ..CheckOptions::default()
            };
            for part in under.chunks(5_000) {
                let questions: Vec<Question> = part.iter().map(|one| one.question.clone()).collect();
                let bulk = match self.engine.check_bulk(&questions, &options) {
                    Ok(bulk) => bulk,
                    Err(error) => panic!("seed {} batch {}: {}", self.seed, self.number, told(&error)),
                };
                assert_eq!(bulk.answers.len(), part.len(), "one answer a question");
                for (one, answer) in part.iter().zip(bulk.answers) {
                    self.compare(one, &answer, "in bulk", consistency);
                }
            }
        }
        expected.len() as u64
    }

    /// Each `every`-th by itself, and half of those with a witness, which must consist of standing tuples.
    fn ask_one_by_one(&self, expected: &[Expected], every: usize) -> u64 {
        let mut decided = 0;
        for (n, one) in expected.iter().step_by(every).enumerate() {
            let explain = n % 2 == 0;
            let options = CheckOptions {
                situation: Situation { context: context(&one.given), ..Situation::default() },
                explain,
                ..CheckOptions::default()
            };
            let found = self.engine.check(&one.question, &options);
            assert!(!found.as_ref().is_ok_and(|found| found.historical), "newest is not historical");
            let answer = found.map(|found| found.answer);
            self.compare(one, &answer, "alone", Consistency::Newest);
            if let Ok(Answer { witness, .. }) = answer {
                let is_due = explain && one.due.truth == Truth::Allow;
                assert_eq!(witness.is_some(), is_due, "{:?}", one.question);
                if let Some(witness) = witness {
                    self.follow(one, &witness);
                }
            }
            if n % 8 == 3 {
                self.explain(one);
            }
            decided += 1;
        }
        decided
    }

    /// Explained, the answer is the same to the field; and so it is where the question fails.
    fn explain(&self, one: &Expected) {
        let situation = Situation { context: context(&one.given), ..Situation::default() };
        let request = Explain { acting: Acting::default(), question: one.question.clone(), situation };
        let found = self.engine.explain(&request, &Cancel::default());
        let answer = found.map(|found| {
            let Explained { decision, missing, valid_until, steps, historical, truncated, .. } = found;
            assert!(!historical && !steps.is_empty(), "{:?}", one.question);
            assert!(!truncated || steps.len() > 500, "{:?} {}", one.question, steps.len());
            Answer { denial: None, chain: Vec::new(), decision, witness: None, missing, valid_until, edges: 0 }
        });
        self.compare(one, &answer, "to be explained", Consistency::Newest);
    }

    /// A witness may show any path, but each of its steps must be so.
    fn follow(&self, one: &Expected, witness: &Witness) {
        let world = &self.worlds[one.world];
        let rows = world.rows(&one.given, self.engine.now(), Flip::None);
        let held = world.held(&rows, one.asked.subject);
        let is_so = |object: &ObjectRef, member: &RelationName| {
            let question =
                Question { object: object.clone(), permission: member.clone(), subject: one.question.subject.clone() };
            let asked = world.asked(one.asked.subject).find(|asked| world.question(*asked) == question)?;
            Some(held[asked.object][asked.member])
        };
        assert!(!witness.steps.is_empty(), "{:?} is allowed by nothing", one.question);
        for step in &witness.steps {
            let holds = match step {
                Step::Tuple { tuple, .. } => rows.iter().any(|(there, worth)| {
                    *worth == Truth::Allow && world.relation_tuple(there, &Default::default()).key == tuple.key
                }),
                Step::Itself { subject, .. } => *subject == one.question.subject,
                Step::Member { object, member, .. } => is_so(object, member) == Some(Truth::Allow),
                // It names the permission that subtracts; what it subtracts may have no name of its own.
                Step::Excluded { object, permission, .. } => is_so(object, permission).is_some(),
            };
            assert!(
                holds,
                "seed {} batch {}: {:?} leans on {step:?}, which is not so\n{witness:?}\n{}",
                self.seed,
                self.number,
                one.question,
                world.told()
            );
        }
    }

    /// Four threads ask while a fifth writes tuples that have nothing to do with it.
    fn ask_beside_a_writer(&self, expected: &[Expected]) -> u64 {
        let part = &expected[..expected.len() / 4];
        let asking = AtomicU64::new(4);
        std::thread::scope(|scope| {
            let askers: Vec<_> = (0..4)
                .map(|n| {
                    let asking = &asking;
                    scope.spawn(move || {
                        // Counts down even when it panics: the writer must end.
                        let _leaves = Leaves(asking);
                        self.ask_in_bulk(&part[n * part.len() / 4..(n + 1) * part.len() / 4], Consistency::Newest);
                        self.ask_one_by_one(part, 100 + n);
                    })
                })
                .collect();
            let mut round = 0;
            // Bounded by the askers, which end.
            while asking.load(Ordering::Acquire) > 0 {
                let kind = if round % 3 == 2 { UpdateKind::Delete } else { UpdateKind::Touch };
                let text = format!("noise/doc:d{}#viewer@noise/user:u{}", round % 7, round % 5);
                let update = TupleUpdate { kind, tuple: crate::engines::tuple(&text) };
                if let Err(error) = self.engine.write_tuples(write_request(vec![update])) {
                    panic!("{}", told(&error));
                }
                round += 1;
            }
            for asker in askers {
                asker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            }
        });
        part.len() as u64
    }

    fn compare(&self, one: &Expected, answer: &Result<Answer, Error>, how: &str, consistency: Consistency) {
        let said: Said = match answer {
            Ok(answer) => Some((answer.decision, names_of(answer.missing.iter().map(String::as_str)))),
            Err(error) if error.reason == "CAVEAT_FAILED" => None,
            Err(error) => self.disagree(one, &told(error), how, consistency),
        };
        let shown = || match answer {
            Ok(answer) => {
                format!("{} missing {:?} until {:?}", answer.decision.as_str(), answer.missing, answer.valid_until)
            }
            Err(error) => told(error),
        };
        let count = |count: &AtomicU64| {
            count.fetch_add(1, Ordering::Relaxed);
        };
        let Due { truth, fails, least, most } = one.due;
        let agrees = match said {
            None => truth == Truth::Conditional && fails != Fails::Never,
            Some((said, names)) => {
                let names_right = names & !most == 0 && least & !names == 0 && (names == 0) == (most == 0);
                said == decision(truth) && fails != Fails::Always && names_right
            }
        };
        if !agrees || *one.said.get_or_init(|| said) != said {
            self.disagree(one, &shown(), how, consistency);
        }
        match said {
            None => {
                count(&self.tally.failed);
                if fails == Fails::Perhaps {
                    count(&self.tally.undecided_failed);
                }
            }
            Some((Decision::Conditional, names)) => {
                count(&self.tally.conditional);
                if names != least {
                    count(&self.tally.undecided);
                }
            }
            Some((Decision::Allow | Decision::Deny, _)) => {}
        }
        // Before `valid_until` time alone changes nothing: the oracle was asked at every instant something ends.
        if let Ok(answer) = answer {
            if answer.valid_until.is_some() {
                count(&self.tally.with_an_end);
            }
            let too_late = |until: Timestamp, changes_at: Instant| until > timestamp(changes_at);
            let is_sound = one.changes_at.is_none_or(|at| answer.valid_until.is_some_and(|until| !too_late(until, at)));
            let is_ahead = answer.valid_until.is_none_or(|until| until > timestamp(self.engine.now()));
            if !(is_sound && is_ahead) {
                self.disagree(one, &shown(), how, consistency);
            }
        }
    }

    fn disagree(&self, one: &Expected, said: &str, how: &str, consistency: Consistency) -> ! {
        let Due { truth, fails, least, most } = one.due;
        panic!(
            "DISAGREEMENT seed {} batch {} world {} (asked {how}, {consistency:?}, at {})\n{}\n\n{:?}\n\
             question: {}#{}@{} under {}\noracle: {truth:?}, fails {fails:?}, missing at least {}, at most {}, changes \
             at {:?}\nengine: {said}; at first {:?}\n(at an older snapshot the tuples printed may be newer)",
            self.seed,
            self.number,
            one.world,
            timestamp(self.engine.now()),
            self.worlds[one.world].told(),
            one.asked,
            one.question.object,
            one.question.permission,
            one.question.subject,
            serde_json::Value::Object(context(&one.given)),
            names_told(least),
            names_told(most),
            one.changes_at.map(timestamp),
            one.said.get(),
        );
    }
}

struct Leaves<'a>(&'a AtomicU64);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}
