//! What is in memory, what is being loaded and what was given up give the same answers, while others write and at older
//! revisions too.

use crate::engines::{Held, TestEngine, question};
use procura::engine::{CheckOptions, Engine, Residency, Situation};
use procura::model::{Consistency, Decision, Limits, UpdateKind};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

const SCHEMA: &str = "use expiration
definition user {}
definition group { relation member: user | group#member }
definition folder { relation parent: folder relation viewer: user | group#member | user with expiration
  permission view = viewer + parent->view }
definition doc { relation parent: folder relation viewer: user | user:* permission view = viewer + parent->view }";

/// A small generator, so that each run does the same.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

fn decide(engine: &Engine, asked: &str, consistency: Consistency) -> Decision {
    let options = CheckOptions { situation: Situation::at(consistency), ..CheckOptions::default() };
    engine.check(&question(asked), &options).expect("an answer").answer.decision
}

fn due(granted: bool) -> Decision {
    if granted { Decision::Allow } else { Decision::Deny }
}

/// Folders 0 to 99 in a line, each document in one of them, and who views which document.
fn world(engine: &TestEngine, docs: u64) -> BTreeSet<(u64, u64)> {
    engine.schema(SCHEMA);
    engine.touch((0..100).map(|n| format!("folder:f{n}#parent@folder:f{}", n + 1)));
    engine.touch(["folder:f100#viewer@group:g0#member", "group:g0#member@group:g1#member", "group:g1#member@user:far"]);
    engine.touch((0..docs).map(|n| format!("doc:d{n}#parent@folder:f{}", n % 100)));
    let granted: BTreeSet<(u64, u64)> = (0..docs).map(|n| (n, n % 7)).collect();
    engine.touch(granted.iter().map(|(doc, user)| format!("doc:d{doc}#viewer@user:u{user}")));
    granted
}

#[test]
fn loading_beside_a_writer_misses_nothing() {
    const DOCS: u64 = 40_000;
    let mut engine = TestEngine::holding(Held::All, Limits::default());
    let mut granted = world(&engine, DOCS);
    let mut random = Random(7);
    let mut seen_loading = false;
    for turn in 0..4 {
        engine.reopen();
        let mut loaded_for = 0;
        // Bounded: loading ends by itself, and a hundred writes come after it.
        while loaded_for < 100 {
            let Residency { loading, absent, .. } = engine.residency();
            seen_loading |= loading > 0;
            loaded_for += u64::from(loading == 0 && absent == 0);
            let (doc, user) = (random.below(DOCS), random.below(7));
            let is_granted = granted.contains(&(doc, user));
            let kind = if is_granted { UpdateKind::Delete } else { UpdateKind::Touch };
            engine.try_update(kind, &format!("doc:d{doc}#viewer@user:u{user}")).expect("a write");
            if is_granted {
                granted.remove(&(doc, user))
            } else {
                granted.insert((doc, user))
            };
            assert_eq!(
                decide(&engine, &format!("doc:d{doc}#view@user:u{user}"), Consistency::Newest),
                due(!is_granted)
            );
            assert_eq!(decide(&engine, &format!("doc:d{doc}#view@user:far"), Consistency::Newest), Decision::Allow);
        }
        for n in 0..5_000 {
            let (doc, user) = ((n * 8 + turn) % DOCS, n % 7);
            let asked = format!("doc:d{doc}#view@user:u{user}");
            assert_eq!(decide(&engine, &asked, Consistency::Newest), due(granted.contains(&(doc, user))), "{asked}");
        }
    }
    assert!(seen_loading, "no answer was given while it was loading");
}

#[test]
fn an_older_revision_is_answered_as_it_was() {
    const DOCS: u64 = 500;
    for held in [Held::All, Held::Little, Held::AsWritten, Held::Nothing] {
        let engine = TestEngine::holding(held, Limits::default());
        let mut granted = world(&engine, DOCS);
        let mut random = Random(11);
        let (token, then) = (engine.token_now(), granted.clone());
        for _ in 0..150 {
            let (doc, user) = (random.below(DOCS), random.below(7));
            let kind = if granted.remove(&(doc, user)) { UpdateKind::Delete } else { UpdateKind::Touch };
            if kind == UpdateKind::Touch {
                granted.insert((doc, user));
            }
            engine.try_update(kind, &format!("doc:d{doc}#viewer@user:u{user}")).expect("a write");
            let asked = format!("doc:d{doc}#view@user:u{user}");
            let at_token = decide(&engine, &asked, Consistency::AtExactSnapshot(token));
            assert_eq!(at_token, due(then.contains(&(doc, user))), "{asked} then, {held:?}");
            assert_eq!(decide(&engine, &asked, Consistency::Newest), due(granted.contains(&(doc, user))), "{held:?}");
        }
        // The hierarchy is another, and was as it was.
        engine.try_update(UpdateKind::Delete, "folder:f50#parent@folder:f51").expect("a write");
        let asked = "doc:d3#view@user:far";
        assert_eq!(decide(&engine, asked, Consistency::AtExactSnapshot(token)), Decision::Allow, "{held:?}");
        assert_eq!(decide(&engine, asked, Consistency::Newest), Decision::Deny, "{held:?}");
    }
}

#[test]
fn what_does_not_fit_is_given_up_and_answered_all_the_same() {
    const DOCS: u64 = 4_000;
    let mut engine = TestEngine::holding(Held::Little, Limits::default());
    let granted = world(&engine, DOCS);
    for _ in 0..2 {
        let Residency { absent, bytes, .. } = engine.residency();
        assert!(absent > 0 && bytes <= 64 << 10, "{absent} given up, {bytes} bytes");
        for n in 0..2_000 {
            let (doc, user) = (n * 2 % DOCS, n % 7);
            let asked = format!("doc:d{doc}#view@user:u{user}");
            assert_eq!(decide(&engine, &asked, Consistency::Newest), due(granted.contains(&(doc, user))), "{asked}");
        }
        // And so it is when it does not fit from the start.
        engine.reopen();
        while engine.residency().loading > 0 {
            std::thread::yield_now();
        }
    }
}

/// A question is answered as of one revision, whatever is applied while it is walked: two tuples that are always written
/// together are never seen apart.
#[test]
fn what_is_written_together_is_seen_together() {
    let engine = TestEngine::holding(Held::All, Limits::default());
    engine.schema(
        "definition user {} definition doc { relation a: user relation b: user
         permission both = a & b permission only = a - b permission none = b - a }",
    );
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asker = |asked: &'static str| {
            let (engine, over) = (&engine, &over);
            move || {
                let mut asked_so_often = 0_u64;
                while !over.load(Ordering::Relaxed) || asked_so_often == 0 {
                    assert_eq!(decide(engine, asked, Consistency::Newest), Decision::Deny, "{asked}");
                    asked_so_often += 1;
                }
                asked_so_often
            }
        };
        let askers = ["doc:1#only@user:rita", "doc:1#none@user:rita"].map(|asked| scope.spawn(asker(asked)));
        for turn in 0..400 {
            let kind = if turn % 2 == 0 { UpdateKind::Touch } else { UpdateKind::Delete };
            let both = ["doc:1#a@user:rita", "doc:1#b@user:rita"].map(|text| crate::engines::update(kind, text));
            engine.update(both.to_vec());
            assert_eq!(decide(&engine, "doc:1#both@user:rita", Consistency::Newest), due(turn % 2 == 0));
        }
        over.store(true, Ordering::Relaxed);
        for asker in askers {
            println!("asked {} times", asker.join().expect("no asker panics"));
        }
    });
}
