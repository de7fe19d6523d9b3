//! What is in memory, what is being loaded and what was given up give the same answers, while others write and at older
//! revisions too.

use crate::engines::{Held, TestEngine, question};
use crate::lists::resources_asked;
use procura::engine::{CheckOptions, Engine, ListResources, Residency, Situation};
use procura::model::{Cancel, Consistency, Decision, Limits, UpdateKind};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

const SCHEMA: &str = "use expiration
definition user {}
definition group {
  relation member: user | group#member
}
definition folder {
  relation parent: folder
  relation viewer: user | group#member | user with expiration
  permission view = viewer + parent->view
}
definition doc {
  relation parent: folder
  relation viewer: user | user:*
  permission view = viewer + parent->view
}";

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
        let mut written = Vec::new();
        // Bounded: loading ends by itself, and a hundred writes come after it.
        while loaded_for < 100 {
            let Residency { loading, absent, .. } = engine.residency();
            seen_loading |= loading > 0;
            loaded_for += u64::from(loading == 0 && absent == 0);
            let (doc, user) = (random.below(DOCS), random.below(7));
            written.push((doc, user));
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
        // What was written while it was loaded, and what was not.
        for (doc, user) in written.into_iter().chain((0..5_000).map(|n| ((n * 8 + turn) % DOCS, n % 7))) {
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
        // Of one group alone some folder had its viewers, and has no more: no other row has that form.
        engine.try_update(UpdateKind::Delete, "folder:f100#viewer@group:g0#member").expect("a write");
        let asked = "doc:d3#view@user:far";
        assert_eq!(decide(&engine, asked, Consistency::AtExactSnapshot(token)), Decision::Allow, "{held:?}");
        assert_eq!(decide(&engine, asked, Consistency::Newest), Decision::Deny, "{held:?}");
        engine.try_update(UpdateKind::Touch, "folder:f100#viewer@group:g0#member").expect("a write");
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
        "definition user {} definition doc { relation a: user; relation b: user
         permission both = a & b; permission only = a - b; permission none = b - a }",
    );
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Whatever becomes of the writer, nobody goes on asking.
        let writing = Over(&over);
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
        drop(writing);
        for asker in askers {
            println!("asked {} times", asker.join().expect("no asker panics"));
        }
    });
}

/// Says that it is over when it goes.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn what_is_kept_of_the_store_is_used_only_while_nothing_touches_it() {
    let engine = TestEngine::holding(Held::Little, Limits::default());
    let mut granted = world(&engine, 4_000);
    let (token, then) = (engine.token_now(), granted.clone());
    let mut random = Random(13);
    for _ in 0..300 {
        // Few, so that what was read is asked for again.
        let (doc, user) = (random.below(3), random.below(2));
        let asked = format!("doc:d{doc}#view@user:u{user}");
        let now = |granted: &BTreeSet<(u64, u64)>| due(granted.contains(&(doc, user)));
        assert_eq!(decide(&engine, &asked, Consistency::Newest), now(&granted), "{asked}");
        let kind = if granted.remove(&(doc, user)) { UpdateKind::Delete } else { UpdateKind::Touch };
        if kind == UpdateKind::Touch {
            granted.insert((doc, user));
        }
        engine.try_update(kind, &format!("doc:d{doc}#viewer@user:u{user}")).expect("a write");
        assert_eq!(decide(&engine, &asked, Consistency::Newest), now(&granted), "{asked} after a write");
        let at_token = decide(&engine, &asked, Consistency::AtExactSnapshot(token));
        assert_eq!(at_token, now(&then), "{asked} then");
        assert_eq!(decide(&engine, &asked, Consistency::Newest), now(&granted), "{asked} again");
    }
    let Residency { absent, kept, .. } = engine.residency();
    assert!(absent > 0 && kept > 0, "{absent} given up, {kept} kept");
}

#[test]
fn a_list_merges_all_that_each_container_holds() {
    const DOCS: u64 = 1_000;
    for held in [Held::All, Held::Little, Held::Nothing] {
        let engine = TestEngine::holding(held, Limits::default());
        engine.schema(SCHEMA);
        // Four folders, each with hundreds of documents; some documents stand in two, and are granted too.
        engine.touch((0..DOCS).map(|n| format!("doc:d{n}#parent@folder:f{}", n % 4)));
        engine.touch(
            (0..DOCS).filter(|n| n.is_multiple_of(10)).map(|n| format!("doc:d{n}#parent@folder:f{}", (n + 1) % 4)),
        );
        engine.touch((0..DOCS).filter(|n| n.is_multiple_of(9)).map(|n| format!("doc:d{n}#viewer@user:rita")));
        engine.touch((0..3).map(|n| format!("folder:f{n}#viewer@user:rita")));
        let may = |n: &u64| n % 4 < 3 || n.is_multiple_of(9) || n.is_multiple_of(10) && (n + 1) % 4 < 3;
        let due: Vec<String> = (0..DOCS).filter(may).map(|n| format!("d{n}")).collect();
        let mut listed = Vec::new();
        let mut cursor = None;
        // Bounded: each list goes on behind the one before.
        loop {
            let asked = ListResources { cursor, ..resources_asked("doc#view@user:rita") };
            let mut lister = engine.list_resources(asked, &Cancel::default()).expect("a list");
            let page = lister.next_page(170, &Cancel::default()).expect("a page");
            cursor = page.last().map(|row| row.cursor.clone());
            listed.extend(page.into_iter().map(|row| row.object.id.to_string()));
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(listed, due, "{held:?}");
    }
}

#[test]
fn everybody_in_one_of_many_teams_is_found_from_their_side() {
    let engine = TestEngine::holding(Held::All, Limits::default());
    engine.schema(
        "definition user {}
         definition team { relation member: user | user:* }
         definition doc { relation team: team; permission view = team->member }",
    );
    engine.touch((0..40).map(|n| format!("doc:1#team@team:g{n}")));
    engine.touch(["team:g7#member@user:rita", "team:other#member@user:*", "team:other#member@user:tom"]);
    for (user, due) in [("rita", Decision::Allow), ("dana", Decision::Deny), ("tom", Decision::Deny)] {
        assert_eq!(decide(&engine, &format!("doc:1#view@user:{user}"), Consistency::Newest), due, "{user}");
    }
    engine.touch(["team:g30#member@user:*"]);
    for user in ["rita", "dana", "tom", "unheard"] {
        let asked = format!("doc:1#view@user:{user}");
        assert_eq!(decide(&engine, &asked, Consistency::Newest), Decision::Allow, "{user}");
    }
}
