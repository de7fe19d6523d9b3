//! Shapes of data that break a walk: deep, wide, diamond, knotted. Answered exactly on a small stack, or an error.
//!
//! What always holds: there is no depth or width at which an answer changes; a spent budget is RESOURCE_EXHAUSTED,
//! never a decision.

use crate::engines::{TestEngine, question, refused, told};
use crate::worlds::{Rng, World, seed};
use crate::zed;
use procura::engine::{Answer, CheckOptions, Kind};
use procura::model::{Decision, Limits, RelationTuple, Step};

const FOLDERS: &str = "definition user {}
definition folder {
  relation parent: folder
  relation viewer: user
  relation banned: user
  permission view = viewer + parent->view
  permission barred = banned + parent->barred
  permission open = view - barred
}";
const GROUPS: &str = "definition user {}
definition group {
  relation member: user | group#member
}
definition doc {
  relation viewer: user | group#member
  relation banned: user | group#member
  permission view = viewer - banned
}";

/// Asks in a thread whose stack is as small as a server's worker's.
fn on_a_small_stack<V: Send>(run: impl FnOnce() -> V + Send) -> V {
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().stack_size(2 << 20);
        let thread = builder.spawn_scoped(scope, run).expect("a thread");
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[track_caller]
fn answer(engine: &TestEngine, asked: &str) -> Answer {
    match engine.check(&question(asked), &CheckOptions::default()) {
        Ok(found) => found.answer,
        Err(error) => panic!("{asked}: {}", told(&error)),
    }
}

#[test]
fn a_hundred_thousand_parents_are_answered() {
    const DEPTH: usize = 100_000;
    let engine = TestEngine::with_schema(FOLDERS);
    engine.touch((0..DEPTH).map(|n| format!("folder:f{n}#parent@folder:f{}", n + 1)));
    engine.touch([
        format!("folder:f{DEPTH}#viewer@user:rita"),
        format!("folder:f{DEPTH}#viewer@user:tom"),
        format!("folder:f{DEPTH}#banned@user:tom"),
    ]);
    on_a_small_stack(|| {
        engine.assert_allows("folder:f0#view@user:rita");
        engine.assert_denies("folder:f0#view@user:dana");
        engine.assert_allows("folder:f0#open@user:rita");
        engine.assert_denies("folder:f0#open@user:tom");
        engine.assert_denies("folder:f0#open@user:dana");
        // The end that closes the cycle adds nothing, and ends.
        engine.touch([format!("folder:f{DEPTH}#parent@folder:f0")]);
        engine.assert_denies("folder:f7#view@user:dana");
        engine.assert_allows("folder:f7#view@user:rita");
        let explained = CheckOptions { explain: true, ..CheckOptions::default() };
        // A witness may be cut short where it is too long to read; a path of 200 is told to its end.
        let found = engine.check(&question("folder:f0#view@user:rita"), &explained).unwrap();
        assert!(found.answer.witness.is_some_and(|witness| !witness.steps.is_empty()));
        let near = format!("folder:f{}#view@user:rita", DEPTH - 200);
        let found = engine.check(&question(&near), &explained).unwrap();
        assert_eq!(found.answer.decision, Decision::Allow);
        let grant = crate::engines::tuple(&format!("folder:f{DEPTH}#viewer@user:rita")).key;
        let is_grant = |step: &Step| matches!(step, Step::Tuple { tuple, .. } if tuple.key == grant);
        assert!(found.answer.witness.is_some_and(|witness| witness.steps.iter().any(is_grant)));
    });
}

#[test]
fn a_hundred_thousand_nested_groups_are_answered() {
    const DEPTH: usize = 100_000;
    let engine = TestEngine::with_schema(GROUPS);
    engine.touch((0..DEPTH).map(|n| format!("group:g{n}#member@group:g{}#member", n + 1)));
    engine.touch([
        format!("group:g{DEPTH}#member@user:rita"),
        "doc:1#viewer@group:g0#member".to_owned(),
        "doc:2#viewer@user:rita".to_owned(),
        "doc:2#banned@group:g0#member".to_owned(),
    ]);
    on_a_small_stack(|| {
        engine.assert_allows("doc:1#view@user:rita");
        engine.assert_denies("doc:1#view@user:dana");
        engine.assert_allows(&format!("doc:1#view@group:g{DEPTH}#member"));
        // Below a subtraction a depth that ended in Deny would allow.
        engine.assert_denies("doc:2#view@user:rita");
    });
}

#[test]
fn wide_groups_are_answered() {
    const WIDTH: usize = 100_000;
    let engine = TestEngine::new();
    engine.schema(GROUPS);
    engine.touch((0..WIDTH).map(|n| format!("doc:direct#viewer@user:u{n}")));
    engine.touch((0..WIDTH).map(|n| format!("doc:groups#viewer@group:g{n}#member")));
    engine.touch([format!("group:g{}#member@user:rita", WIDTH - 1)]);
    let last = answer(&engine, &format!("doc:direct#view@user:u{}", WIDTH - 1));
    let absent = answer(&engine, "doc:direct#view@user:rita");
    assert_eq!((last.decision, absent.decision), (Decision::Allow, Decision::Deny));
    // Direct subjects cost one look-up, however many stand beside.
    assert!(last.edges < 100 && absent.edges < 100, "{} and {} edges", last.edges, absent.edges);
    engine.assert_allows("doc:groups#view@user:rita");
    let all = answer(&engine, "doc:groups#view@user:dana");
    assert_eq!(all.decision, Decision::Deny);
    // She is in no group, so none is looked at; in one that is not among them, it is looked for from her side.
    assert!(all.edges < 100, "{} edges", all.edges);
    engine.touch(["group:aside#member@user:dana"]);
    let aside = answer(&engine, "doc:groups#view@user:dana");
    assert!(aside.decision == Decision::Deny && aside.edges < 100, "{} edges", aside.edges);
    // Where groups lead on, each is looked at once.
    engine.touch(["group:g0#member@group:other#member"]);
    let all = answer(&engine, "doc:groups#view@user:dana");
    assert_eq!(all.decision, Decision::Deny);
    let enough = WIDTH as u64 / 2..=WIDTH as u64 * 10;
    assert!(enough.contains(&all.edges), "{} edges for {WIDTH} groups", all.edges);
}

#[test]
fn diamonds_cost_their_objects_not_their_paths() {
    const LAYERS: usize = 200;
    let engine = TestEngine::with_schema(GROUPS);
    let sides = ["a", "b", "c"];
    let mut tuples = vec![format!("group:l{LAYERS}a#member@user:rita"), "doc:1#viewer@group:l0b#member".to_owned()];
    for layer in 0..LAYERS {
        for from in sides {
            tuples.extend(sides.map(|to| format!("group:l{layer}{from}#member@group:l{}{to}#member", layer + 1)));
        }
    }
    engine.touch(&tuples);
    on_a_small_stack(|| {
        for (asked, due) in [("doc:1#view@user:rita", Decision::Allow), ("doc:1#view@user:dana", Decision::Deny)] {
            let found = answer(&engine, asked);
            assert_eq!(found.decision, due, "{asked}");
            assert!(found.edges < 20 * tuples.len() as u64, "{} edges for {} tuples", found.edges, tuples.len());
        }
    });
}

const CLIQUE: &str = "definition user {}
definition group {
  relation member: user | group#active
  relation cleared: user | group#cleared
  relation barred: user
  permission active = (member & cleared) - barred
}";

/// Every group has every other's active members as its own, and activity is an intersection: what a walk learns
/// inside is provisional almost everywhere, and a walk that tries each path again never ends.
fn clique(n: usize) -> Vec<String> {
    let mut tuples = Vec::new();
    for a in 0..n {
        for b in (0..n).filter(|b| *b != a) {
            tuples.push(format!("group:g{a}#member@group:g{b}#active"));
        }
        // rita is cleared nearly everywhere, through a ring; dana is a member everywhere and cleared nowhere.
        tuples.push(format!("group:g{a}#member@user:dana"));
        if a % 7 != 3 {
            tuples.push(format!("group:g{a}#cleared@group:g{}#cleared", (a + 1) % n));
        }
        if a % 5 == 4 {
            tuples.push(format!("group:g{a}#barred@user:rita"));
        }
    }
    tuples.push(format!("group:g{}#member@user:rita", n - 1));
    tuples.push(format!("group:g{}#cleared@user:rita", n - 1));
    tuples.push("group:g0#cleared@user:tom".to_owned());
    tuples.push("group:g0#member@user:tom".to_owned());
    tuples
}

#[test]
fn mutual_cliques_with_intersections_are_answered_exactly() {
    let parsed = |text: &String| text.parse::<RelationTuple>().expect("a tuple");
    for n in [30, 45, 60] {
        let texts = clique(n);
        let tuples: Vec<RelationTuple> = texts.iter().map(parsed).collect();
        let asked = ["user:rita", "user:dana", "user:tom", "user:nobody"].map(|text| text.parse().unwrap());
        let world = World::from_tuples(zed::read(CLIQUE).unwrap(), &tuples, &asked).unwrap();
        let engine = TestEngine::with_schema(CLIQUE);
        engine.touch(&texts);
        let mut most = 0;
        let mut allowed = 0;
        for subject in world.subjects() {
            let is_user = matches!(subject, crate::oracle::Subject::Object(o) if world.objects[o].of == 0);
            let is_one_userset = matches!(subject, crate::oracle::Subject::Userset(o, _) if o % 20 == 5);
            if !is_user && !is_one_userset {
                continue;
            }
            for (asked, due) in world.answers(subject) {
                let question = world.question(asked);
                let found = on_a_small_stack(|| engine.check(&question, &CheckOptions::default()));
                let found = found.unwrap_or_else(|error| panic!("{n}: {question:?}: {}", told(&error))).answer;
                assert_eq!(found.decision, due, "clique of {n}: {question:?}");
                most = most.max(found.edges);
                allowed += u32::from(due == Decision::Allow);
            }
        }
        println!("clique of {n}: {} tuples, at most {most} edges a question, {allowed} allowed", tuples.len());
        assert!(allowed > 0);
        // A small multiple of the data, far from the budget.
        assert!(most <= 200 * tuples.len() as u64, "{most} edges for {} tuples", tuples.len());
    }
}

/// Groups that are each other's members, in a tangle of cycles, with plain unions: one member is everybody's.
#[test]
fn mutual_groups_share_their_members() {
    let engine = TestEngine::with_schema(GROUPS);
    let n = 300;
    engine.touch(
        (0..n).flat_map(|a| [1, 7, 31, 100].map(|step| format!("group:g{a}#member@group:g{}#member", (a + step) % n))),
    );
    engine.touch(["group:g13#member@user:rita", "doc:1#viewer@group:g0#member", "doc:1#banned@group:lonely#member"]);
    on_a_small_stack(|| {
        for group in 0..n {
            engine.assert_allows(&format!("group:g{group}#member@user:rita"));
            engine.assert_denies(&format!("group:g{group}#member@user:dana"));
        }
        engine.assert_allows("doc:1#view@user:rita");
        engine.assert_denies("doc:1#view@user:dana");
    });
}

#[test]
fn a_spent_budget_is_an_error_and_never_a_decision() {
    let mut engine = TestEngine::with_schema(GROUPS);
    engine.touch((0..1_000).map(|n| format!("group:g{n}#member@group:g{}#member", n + 1)));
    engine.touch([
        "group:g1000#member@user:rita",
        "group:short#member@user:rita",
        "doc:deep#viewer@group:g0#member",
        "doc:short#viewer@group:short#member",
        "doc:excluded#viewer@user:rita",
        "doc:excluded#banned@group:g0#member",
        "doc:allowed#viewer@user:dana",
        "doc:allowed#banned@group:g0#member",
        // So that groups may lead to her, and must be followed.
        "group:aside#member@user:dana",
    ]);
    let asked = [
        "doc:deep#view@user:rita",
        "doc:deep#view@user:dana",
        "doc:excluded#view@user:rita",
        "doc:allowed#view@user:dana",
    ];
    let truth = [Decision::Allow, Decision::Deny, Decision::Deny, Decision::Allow];
    for (asked, due) in asked.iter().zip(truth) {
        engine.assert_decides(asked, due);
    }
    let spent_by = answer(&engine, asked[1]).edges;
    assert!(spent_by >= 1_000, "{spent_by} edges");
    for edges_max in [1, 10, 100, 500] {
        engine.reopen_with(Limits { edges_max, ..Limits::default() });
        for asked in asked {
            refused(engine.decide(asked), &[Kind::ResourceExhausted]);
        }
        // In a batch each question has its own budget; the spent ones are their own errors.
        let questions: Vec<_> =
            ["doc:short#view@user:rita", asked[2], "doc:short#view@user:rita"].map(question).to_vec();
        let bulk = engine.check_bulk(&questions, &CheckOptions::default()).unwrap();
        let [first, second, third]: [_; 3] = bulk.answers.try_into().unwrap();
        refused(second, &[Kind::ResourceExhausted]);
        if edges_max >= 100 {
            assert_eq!((first.unwrap().decision, third.unwrap().decision), (Decision::Allow, Decision::Allow));
        }
    }
    // Whatever the budget, an answer is the true one.
    for edges_max in (900..4_200).step_by(150) {
        engine.reopen_with(Limits { edges_max, ..Limits::default() });
        for (asked, due) in asked.iter().zip(truth) {
            match engine.decide(asked) {
                Ok(said) => assert_eq!(said, due, "{asked} with {edges_max} edges"),
                Err(error) => assert_eq!(error.kind, Kind::ResourceExhausted, "{}", told(&error)),
            }
        }
    }
}

/// What makes a member by itself stands behind an arrow, and last: an order that takes the cheap first finds it late.
const TANGLE: &str = "definition user {}
definition club {
  relation member: user
}
definition group {
  relation every: group
  relation next: group
  relation home: club
  relation barred: user
  permission active = every.all(active) + next->active + home->member
  permission strict = (next->strict & every->active) + (home->member - barred)
}";

/// A ladder: on each rung a group learns a long "no" that leans on the root, and then is a member by itself. So the
/// "no" must be forgotten (the root holds in the end, and so does the whole chain), and to learn it again on every rung
/// would cost their product.
#[test]
fn an_interim_no_that_is_forgotten_again_and_again_stays_cheap() {
    const MANY: usize = 300;
    let engine = TestEngine::with_schema(TANGLE);
    let rung = |n: usize| if n == 0 { "root".to_owned() } else { format!("rung{n}") };
    let mut tuples = Vec::new();
    for n in 0..MANY {
        tuples.push(format!("group:{}#every@group:late{n}", rung(n)));
        tuples.push(format!("group:{}#every@group:{}", rung(n), rung(n + 1)));
        tuples.push(format!("group:late{n}#next@group:chain0"));
        tuples.push(format!("group:late{n}#home@club:c{n}"));
        tuples.push(format!("club:c{n}#member@user:rita"));
        tuples.push(format!("club:c{n}#member@user:dana"));
        let after = if n + 1 < MANY { format!("chain{}", n + 1) } else { "root".to_owned() };
        tuples.push(format!("group:chain{n}#next@group:{after}"));
    }
    // Only rita stands at the ladder's end.
    tuples.push(format!("group:{}#home@club:end", rung(MANY)));
    tuples.push("club:end#member@user:rita".to_owned());
    engine.touch(&tuples);
    on_a_small_stack(|| {
        for (asked, due) in [
            ("group:root#active@user:rita", Decision::Allow),
            ("group:chain0#active@user:rita", Decision::Allow),
            ("group:root#active@user:dana", Decision::Deny),
            ("group:chain7#active@user:dana", Decision::Deny),
            ("group:late1#active@user:dana", Decision::Allow),
        ] {
            let found = answer(&engine, asked);
            assert_eq!(found.decision, due, "{asked}");
            println!("{asked}: {} edges for {} tuples", found.edges, tuples.len());
            assert!(found.edges <= 25 * tuples.len() as u64, "{asked}: {} edges for {}", found.edges, tuples.len());
        }
    });
}

/// The same on one object with many rows, all of which must hold: one that holds only through the object itself adds
/// nothing.
#[test]
fn all_of_many_rows_hold_or_lean_on_the_whole() {
    const MANY: usize = 300;
    let engine = TestEngine::with_schema(TANGLE);
    let mut tuples = Vec::new();
    for n in 0..MANY {
        tuples.push(format!("group:root#every@group:late{n}"));
        tuples.push(format!("group:late{n}#next@group:chain{}", n % 10));
        tuples.push(format!("group:late{n}#home@club:c{n}"));
        tuples.push(format!("club:c{n}#member@user:rita"));
        if n > 0 {
            tuples.push(format!("club:c{n}#member@user:dana"));
        }
    }
    tuples.extend((0..10).map(|n| format!("group:chain{n}#next@group:root")));
    engine.touch(&tuples);
    on_a_small_stack(|| {
        for (asked, due) in [
            ("group:root#active@user:rita", Decision::Allow),
            ("group:chain0#active@user:rita", Decision::Allow),
            ("group:root#active@user:dana", Decision::Deny),
            ("group:chain7#active@user:dana", Decision::Deny),
            ("group:late0#active@user:dana", Decision::Deny),
            ("group:late1#active@user:dana", Decision::Allow),
        ] {
            assert_eq!(answer(&engine, asked).decision, due, "{asked}");
        }
    });
}

/// Random knots of one component, larger than the random worlds have them, where most of what is learnt is interim.
#[test]
fn tangles_are_answered_exactly() {
    let seed = seed("tangles_are_answered_exactly");
    let (mut allowed, mut asked_in_all) = (0_u32, 0_u32);
    for n in 0..40 {
        let mut rng = Rng::part(seed, n);
        let groups = rng.between(8, 40);
        let mut texts = std::collections::BTreeSet::new();
        for group in 0..groups {
            for _ in 0..rng.between(0, 3) {
                texts.insert(format!("group:g{group}#next@group:g{}", rng.below(groups)));
            }
            for _ in 0..rng.between(0, 4) {
                texts.insert(format!("group:g{group}#every@group:g{}", rng.below(groups)));
            }
            if rng.chance(40) {
                texts.insert(format!("group:g{group}#home@club:c{}", rng.below(6)));
            }
            if rng.chance(20) {
                texts.insert(format!("group:g{group}#barred@user:u{}", rng.below(2)));
            }
        }
        texts.extend((0..6).map(|club| format!("club:c{club}#member@user:u{}", club % 2)));
        let tuples: Vec<RelationTuple> = texts.iter().map(|text| text.parse().expect("a tuple")).collect();
        let named = ["user:u0", "user:u1"].map(|text| text.parse().expect("a subject"));
        let world = World::from_tuples(zed::read(TANGLE).expect("a schema"), &tuples, &named).expect("a world");
        let engine = TestEngine::with_schema(TANGLE);
        engine.touch(&texts);
        for subject in world.some_subjects(&mut rng, 6) {
            for (asked, due) in world.answers(subject) {
                let question = world.question(asked);
                let found = engine.check(&question, &CheckOptions { explain: true, ..CheckOptions::default() });
                let found = found.unwrap_or_else(|error| panic!("{}", told(&error))).answer;
                assert_eq!(found.decision, due, "seed {seed} tangle {n}: {question:?}\n{}", world.told());
                allowed += u32::from(due == Decision::Allow);
                asked_in_all += 1;
            }
        }
    }
    println!("tangles: {asked_in_all} answers, {allowed} allowed");
    assert!(allowed * 20 > asked_in_all);
}

/// Two permissions that ask each other beneath an intersection, all the way up: what is climbed once is not climbed again from
/// every level.
#[test]
fn intersections_along_a_line_cost_the_line() {
    const DEPTH: usize = 5_000;
    let engine = TestEngine::new();
    engine.schema(
        "definition user {}
         definition folder {
           relation parent: folder
           relation viewer: user; relation editor: user; relation a: user; relation b: user
           permission view = viewer + parent->view + (a & parent->edit)
           permission edit = editor + parent->edit + (b & parent->view)
         }",
    );
    engine.touch((0..DEPTH).map(|n| format!("folder:f{n}#parent@folder:f{}", n + 1)));
    engine.touch((0..DEPTH).flat_map(|n| ["a", "b"].map(|side| format!("folder:f{n}#{side}@user:dana"))));
    // So that she may be found.
    engine.touch(["folder:aside#viewer@user:dana", "folder:aside#editor@user:dana"]);
    on_a_small_stack(|| {
        let denied = answer(&engine, "folder:f0#view@user:dana");
        assert_eq!(denied.decision, Decision::Deny);
        assert!(denied.edges < 40 * DEPTH as u64, "{} edges", denied.edges);
    });
    engine.touch([format!("folder:f{DEPTH}#editor@user:dana")]);
    on_a_small_stack(|| {
        let allowed = answer(&engine, "folder:f0#view@user:dana");
        assert_eq!(allowed.decision, Decision::Allow);
        assert!(allowed.edges < 40 * DEPTH as u64, "{} edges", allowed.edges);
    });
}
