//! The engine against the oracle: at least a million decisions over random worlds, however they are asked.
//!
//! What always holds: an answer depends on schema, tuples and question only. Not on batching, order, a restart, other
//! threads, writes elsewhere, or on the witness being asked for. `PROCURA_DECISIONS` sets how many, `PROCURA_SEED`
//! replays; a disagreement prints seed, schema, tuples, question and both answers.

use crate::engines::{TestEngine, told, write_request};
use crate::worlds::{Asked, Rng, Trouble, World, number, seed};
use procura::engine::CheckOptions;
use procura::model::{
    Consistency, Decision, ObjectRef, Question, RelationName, Step, TupleUpdate, UpdateKind, Witness,
};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Worlds that share one engine (opening one costs more than a world), each under a prefix of its own.
const WORLDS_PER_BATCH: usize = 20;
const SUBJECTS_PER_WORLD: usize = 12;
const NOISE: &str = "definition noise/user {}\n\
    definition noise/doc {\n  relation viewer: noise/user | noise/doc#viewer\n  permission view = viewer\n}\n";

/// A question, what the oracle says, and whose world it is of.
struct Expected {
    world: usize,
    asked: Asked,
    question: Question,
    decision: Decision,
}

struct Batch {
    number: u64,
    seed: u64,
    rng: Rng,
    worlds: Vec<World>,
    engine: TestEngine,
}

#[test]
fn the_engine_agrees_with_the_oracle() {
    let seed = seed("the_engine_agrees_with_the_oracle");
    let wanted = number("PROCURA_DECISIONS", 1_000_000);
    let (decided, next, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let workers = std::thread::available_parallelism().map_or(2, usize::from).min(4);
    let troubles: Vec<Trouble> = std::thread::scope(|scope| {
        let work = || {
            let mut trouble = Trouble::default();
            // Bounded: each batch decides something, and a failed one ends the others.
            while decided.load(Ordering::Relaxed) < wanted && !stop.load(Ordering::Relaxed) {
                let ends_all = StopUnlessDone { stop: &stop, done: false };
                let batch = Batch::draw(seed, next.fetch_add(1, Ordering::Relaxed));
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

impl Batch {
    fn draw(seed: u64, number: u64) -> Batch {
        let mut rng = Rng::part(seed, number);
        let worlds: Vec<World> = (0..WORLDS_PER_BATCH).map(|n| World::random(&mut rng, &format!("w{n}"))).collect();
        let schema: String = worlds.iter().map(|world| world.schema.print()).collect();
        let engine = TestEngine::with_schema(&format!("{schema}{NOISE}"));
        Batch { number, seed, rng, worlds, engine }
    }

    /// Every way to ask; how many decisions were compared.
    fn run(mut self, trouble: &mut Trouble) -> u64 {
        let mut decided = 0;
        let tuples = self.worlds.iter().flat_map(|world| world.tuples.iter().map(|tuple| world.relation_tuple(tuple)));
        self.engine.touch_parsed(tuples);
        let first = self.engine.token_now();
        let at_first = self.expected();
        decided += self.ask_in_bulk(&at_first, Consistency::Newest);
        decided += self.ask_one_by_one(&at_first, 24);

        self.write_changes();
        // The old state is still there for who asks for it.
        decided += self.ask_in_bulk(&at_first[..at_first.len() / 8], Consistency::AtExactSnapshot(first));
        let second = self.engine.token_now();
        let at_second = self.expected();
        decided += self.ask_in_bulk(&at_second, Consistency::AtLeastAsFresh(second));
        decided += self.ask_one_by_one(&at_second, 24);

        self.write_changes();
        let at_third = self.expected();
        decided += self.ask_in_bulk(&at_third, Consistency::Newest);
        decided += self.ask_beside_a_writer(&at_third);

        if self.number.is_multiple_of(4) {
            self.engine.assert_verified();
            self.engine.reopen();
            decided += self.ask_in_bulk(&at_third, Consistency::Newest);
            decided += self.ask_one_by_one(&at_third, 48);
        }
        if self.number < 2 {
            for world in &self.worlds {
                let subjects = world.some_subjects(&mut self.rng, SUBJECTS_PER_WORLD);
                trouble.measure(world, &subjects);
            }
        }
        decided
    }

    /// All questions of all worlds about some subjects, shuffled.
    fn expected(&mut self) -> Vec<Expected> {
        let mut all = Vec::new();
        for (n, world) in self.worlds.iter().enumerate() {
            for subject in world.some_subjects(&mut self.rng, SUBJECTS_PER_WORLD) {
                all.extend(world.answers(subject).into_iter().map(|(asked, decision)| Expected {
                    world: n,
                    asked,
                    question: world.question(asked),
                    decision,
                }));
            }
        }
        self.rng.shuffle(&mut all);
        all
    }

    fn write_changes(&mut self) {
        let mut updates = Vec::new();
        for world in &mut self.worlds {
            let (touched, deleted) = world.random_changes(&mut self.rng);
            let update = |kind, tuple| TupleUpdate { kind, tuple: world.relation_tuple(tuple) };
            updates.extend(touched.iter().map(|tuple| update(UpdateKind::Touch, tuple)));
            updates.extend(deleted.iter().map(|tuple| update(UpdateKind::Delete, tuple)));
        }
        self.rng.shuffle(&mut updates);
        self.engine.update(updates);
    }

    fn ask_in_bulk(&self, expected: &[Expected], consistency: Consistency) -> u64 {
        let options = CheckOptions { consistency, ..CheckOptions::default() };
        for part in expected.chunks(5_000) {
            let questions: Vec<Question> = part.iter().map(|one| one.question.clone()).collect();
            let bulk = match self.engine.check_bulk(&questions, &options) {
                Ok(bulk) => bulk,
                Err(error) => panic!("seed {} batch {}: {}", self.seed, self.number, told(&error)),
            };
            assert_eq!(bulk.answers.len(), part.len(), "one answer a question");
            for (one, answer) in part.iter().zip(bulk.answers) {
                match answer {
                    Ok(answer) => self.compare(one, answer.decision, "in bulk", consistency),
                    Err(error) => self.disagree(one, &told(&error), "in bulk", consistency),
                }
            }
        }
        expected.len() as u64
    }

    /// Each `every`-th by itself, and half of those with a witness, which must consist of standing tuples.
    fn ask_one_by_one(&self, expected: &[Expected], every: usize) -> u64 {
        let mut decided = 0;
        for (n, one) in expected.iter().step_by(every).enumerate() {
            let options = CheckOptions { explain: n % 2 == 0, ..CheckOptions::default() };
            match self.engine.check(&one.question, &options) {
                Ok(found) => {
                    self.compare(one, found.answer.decision, "alone", Consistency::Newest);
                    assert!(!found.historical, "newest is not historical");
                    let witness = found.answer.witness;
                    assert_eq!(
                        witness.is_some(),
                        options.explain && one.decision == Decision::Allow,
                        "{:?}",
                        one.question
                    );
                    if let Some(witness) = witness {
                        self.follow(one, &witness);
                    }
                }
                Err(error) => self.disagree(one, &told(&error), "alone", Consistency::Newest),
            }
            decided += 1;
        }
        decided
    }

    /// A witness may show any path, but each of its steps must be so.
    fn follow(&self, one: &Expected, witness: &Witness) {
        let world = &self.worlds[one.world];
        let answers = world.answers(one.asked.subject);
        let is_so = |object: &ObjectRef, member: &RelationName| {
            let question =
                Question { object: object.clone(), permission: member.clone(), subject: one.question.subject.clone() };
            answers.iter().find(|(asked, _)| world.question(*asked) == question).map(|(_, decision)| *decision)
        };
        assert!(!witness.steps.is_empty(), "{:?} is allowed by nothing", one.question);
        for step in &witness.steps {
            let holds = match step {
                Step::Tuple { tuple, .. } => world.tuples.iter().any(|there| world.relation_tuple(there).key == *tuple),
                Step::Itself { subject, .. } => *subject == one.question.subject,
                Step::Member { object, member, .. } => is_so(object, member) == Some(Decision::Allow),
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

    fn compare(&self, one: &Expected, said: Decision, how: &str, consistency: Consistency) {
        if said != one.decision {
            self.disagree(one, said.as_str(), how, consistency);
        }
    }

    fn disagree(&self, one: &Expected, said: &str, how: &str, consistency: Consistency) -> ! {
        panic!(
            "DISAGREEMENT seed {} batch {} world {} (asked {how}, {consistency:?})\n{}\n\n{:?}\nquestion: {}#{}@{}\n\
             oracle: {}\nengine: {said}\n(at an older snapshot the tuples printed may be newer)",
            self.seed,
            self.number,
            one.world,
            self.worlds[one.world].told(),
            one.asked,
            one.question.object,
            one.question.permission,
            one.question.subject,
            one.decision.as_str(),
        );
    }
}

struct Leaves<'a>(&'a AtomicU64);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}
