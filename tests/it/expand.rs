//! Expand: the structure of a permission, with the tuples that stand in it.
//!
//! What always holds: a relation that is opened shows every live tuple of it as it is stored; a member is opened once,
//! however the data loops; more steps than allowed are an error and not a part.

use crate::agrees::Timed;
use crate::engines::{TestEngine, question, refused, told, tuple, update};
use crate::worlds::{Rng, START, World, seed, timestamp};
use procura::engine::{Engine, Expand, Kind, Situation};
use procura::model::{
    Cancel, Consistency, ExpandPart, ExpandStep, Limits, MemberOf, RelationTuple, TupleUpdate, UpdateKind,
};
use std::collections::BTreeMap;

fn request(asked: &str, levels: u32) -> Expand {
    let asked = question(&format!("{asked}@x:x"));
    Expand { object: asked.object, permission: asked.permission, levels, situation: Situation::default() }
}

fn expand(engine: &Engine, request: &Expand) -> Vec<ExpandStep> {
    let found = engine.expand(request, &Cancel::default());
    found.unwrap_or_else(|error| panic!("{request:?}: {}", told(&error))).steps
}

fn line(step: &ExpandStep) -> String {
    let text = match &step.part {
        ExpandPart::Member(member) => member.to_string(),
        ExpandPart::Beyond(member) => format!("beyond {member}"),
        ExpandPart::Repeated(member) => format!("again {member}"),
        ExpandPart::Operator(operator) => operator.as_str().to_owned(),
        ExpandPart::Arrow(arrow) => arrow.to_string(),
        ExpandPart::Tuple(tuple) => tuple.to_string(),
        ExpandPart::Itself(object) => format!("self {object}"),
        ExpandPart::Nil => "nil".to_owned(),
    };
    format!("{}{text}", "  ".repeat(step.depth as usize))
}

fn tree(steps: &[ExpandStep]) -> String {
    steps.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn check(engine: &Engine, asked: &str, levels: u32, due: &str) {
    assert_eq!(tree(&expand(engine, &request(asked, levels))), due.trim_matches('\n'), "{asked} {levels}");
}

const WORLD: &str = "use self
use expiration
caveat c(x bool) { x }
definition user { permission me = self }
definition group { relation member: user | group#member }
definition folder {
  relation parent: folder
  relation viewer: user | user:* | group#member | user with c
  permission view = viewer + parent->view
}
definition doc {
  relation folder: folder | user
  relation owner: user with expiration
  relation banned: user
  permission view = (owner & folder->view) - (banned + nil)
  permission every = folder.all(me)
}";

fn world() -> TestEngine {
    let engine = TestEngine::with_schema(WORLD);
    engine.touch([
        "doc:1#folder@folder:a",
        "doc:1#folder@user:zoe",
        "doc:1#owner@user:rita[expiration:2999-01-01T00:00:00Z]",
        "doc:1#owner@user:old[expiration:2001-01-01T00:00:00Z]",
        "folder:a#viewer@user:dana[c:{\"x\":false}]",
        "folder:a#viewer@user:*",
        "folder:a#viewer@group:g#member",
        "group:g#member@group:h#member",
        "group:h#member@group:g#member",
        "folder:a#parent@folder:a",
    ]);
    engine
}

#[test]
fn each_level_opens_what_the_one_before_names() {
    let engine = world();
    check(
        &engine,
        "doc:1#view",
        1,
        "
doc:1#view
  exclusion
    intersection
      doc:1#owner
        doc:1#owner@user:rita[expiration:2999-01-01T00:00:00Z]
      folder->view
        doc:1#folder@user:zoe
          nil
        doc:1#folder@folder:a
          beyond folder:a#view
    union
      nil
      doc:1#banned",
    );
    check(
        &engine,
        "folder:a#view",
        1,
        "
folder:a#view
  union
    folder:a#viewer
      folder:a#viewer@group:g#member
        beyond group:g#member
      folder:a#viewer@user:*
      folder:a#viewer@user:dana[c:{\"x\":false}]
    parent->view
      folder:a#parent@folder:a
        again folder:a#view",
    );
    check(
        &engine,
        "folder:a#viewer",
        9,
        "
folder:a#viewer
  folder:a#viewer@group:g#member
    group:g#member
      group:g#member@group:h#member
        group:h#member
          group:h#member@group:g#member
            again group:g#member
  folder:a#viewer@user:*
  folder:a#viewer@user:dana[c:{\"x\":false}]",
    );
    check(
        &engine,
        "doc:1#every",
        2,
        "
doc:1#every
  folder.all(me)
    doc:1#folder@user:zoe
      user:zoe#me
        self user:zoe
    doc:1#folder@folder:a
      nil",
    );
    check(&engine, "doc:unknown#banned", 1, "doc:unknown#banned");
}

/// What is met far away first and then near is opened where it is near, as far as that lets it.
#[test]
fn nearness_counts_and_not_the_order() {
    let engine = TestEngine::with_schema(
        "definition user {} definition group { relation member: user | group#member }
        definition doc { relation a: group#member; relation b: group#member; permission p = a + b }",
    );
    engine.touch(["doc:1#a@group:x#member", "group:x#member@group:y#member", "group:y#member@group:z#member"]);
    engine.touch(["doc:1#b@group:y#member", "group:z#member@user:rita"]);
    check(
        &engine,
        "doc:1#p",
        3,
        "
doc:1#p
  union
    doc:1#a
      doc:1#a@group:x#member
        group:x#member
          group:x#member@group:y#member
            again group:y#member
    doc:1#b
      doc:1#b@group:y#member
        group:y#member
          group:y#member@group:z#member
            group:z#member
              group:z#member@user:rita",
    );
}

#[test]
fn the_situation_counts() {
    let engine = world();
    let with = Situation { contextual_tuples: vec![tuple("doc:new#banned@user:rita")], ..Situation::default() };
    let asked = Expand { situation: with, ..request("doc:new#banned", 1) };
    assert_eq!(tree(&expand(&engine, &asked)), "doc:new#banned\n  doc:new#banned@user:rita");
    let then = engine.token_now();
    engine.update(vec![update(UpdateKind::Delete, "folder:a#parent@folder:a")]);
    let past = Expand { situation: Situation::at(Consistency::AtExactSnapshot(then)), ..request("folder:a#parent", 1) };
    let found = engine.expand(&past, &Cancel::default()).unwrap_or_else(|error| panic!("{}", told(&error)));
    assert_eq!((found.steps.len(), found.historical, found.revision), (2, true, then.revision));
    assert_eq!(expand(&engine, &request("folder:a#parent", 1)).len(), 1);
}

#[test]
fn too_much_is_an_error_and_never_a_part() {
    const WIDTH: usize = 10_000;
    let engine = TestEngine::with_schema(WORLD);
    engine.touch((0..WIDTH - 1).map(|n| format!("folder:w#viewer@user:u{n}")));
    assert_eq!(expand(&engine, &request("folder:w#viewer", 1)).len(), WIDTH);
    engine.touch(["folder:w#viewer@user:one"]);
    let error = refused(engine.expand(&request("folder:w#viewer", 1), &Cancel::default()), &[Kind::ResourceExhausted]);
    assert_eq!(error.reason, "EXPANSION_TOO_LARGE");
    assert!(error.hint.is_some());
    let limits = Limits { expand_steps_max: 3, ..Limits::default() };
    let engine = TestEngine::with_limits(limits);
    engine.schema(WORLD);
    engine.touch(["folder:w#viewer@user:a", "folder:w#viewer@user:b"]);
    assert_eq!(expand(&engine, &request("folder:w#viewer", 1)).len(), 3);
    refused(engine.expand(&request("folder:w#view", 1), &Cancel::default()), &[Kind::ResourceExhausted]);
    let unknown = refused(engine.expand(&request("folder:w#fly", 1), &Cancel::default()), &[Kind::FailedPrecondition]);
    assert_eq!(unknown.reason, "UNKNOWN_RELATION");
}

#[test]
fn a_deep_hierarchy_is_expanded_on_a_small_stack() {
    const DEPTH: usize = 1_500;
    let engine = TestEngine::with_schema(WORLD);
    engine.touch((0..DEPTH).map(|n| format!("folder:f{n}#parent@folder:f{}", n + 1)));
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().stack_size(2 << 20);
        let expand_all = || {
            let steps = expand(&engine, &request("folder:f0#view", u32::MAX));
            let deepest = steps.iter().map(|step| step.depth).max();
            assert_eq!((steps.len(), deepest), (5 * DEPTH + 4, Some(4 * DEPTH as u32 + 2)));
        };
        let thread = builder.spawn_scoped(scope, expand_all).expect("a thread");
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// In every world, all that stands in a relation that is opened is shown, as it is stored, and nothing else.
#[test]
fn every_live_tuple_is_shown_in_every_world() {
    let seed = seed("every_live_tuple_is_shown_in_every_world");
    let mut shown = 0;
    for n in 0..8 {
        let mut rng = Rng::part(seed, n);
        let worlds: Vec<World> = (0..10).map(|w| World::random(&mut rng, &format!("w{w}"))).collect();
        let schema: String = worlds.iter().map(|world| world.schema.print_body()).collect();
        let engine = Timed::with_schema(&format!("use expiration\nuse self\n{schema}"));
        let touch = |tuple| TupleUpdate { kind: UpdateKind::Touch, tuple };
        engine.update(worlds.iter().flat_map(World::relation_tuples).map(touch).collect());
        for world in &worlds {
            let mut live: BTreeMap<String, Vec<RelationTuple>> = BTreeMap::new();
            for tuple in
                world.relation_tuples().filter(|tuple| tuple.expires_at.is_none_or(|end| end > timestamp(START)))
            {
                live.entry(format!("{}#{}", tuple.key.object, tuple.key.relation)).or_default().push(tuple);
            }
            for asked in world.asked(world.subjects()[0]) {
                let asked = world.question(asked);
                let levels = [1, 2, u32::MAX][rng.below(3)];
                let Expand { situation, .. } = request("x:x#x", 1);
                let asked = Expand { object: asked.object, permission: asked.permission, levels, situation };
                shown += complete(&expand(&engine, &asked), &live, levels);
            }
        }
    }
    println!("{shown} tuples are shown");
    assert!(shown > 10_000);
}

/// How many tuples are shown; below each relation that is opened exactly its own.
fn complete(steps: &[ExpandStep], live: &BTreeMap<String, Vec<RelationTuple>>, levels: u32) -> usize {
    let key = |tuple: &RelationTuple| tuple.to_string();
    let mut opened: BTreeMap<String, usize> = BTreeMap::new();
    let mut shown = 0;
    for (at, step) in steps.iter().enumerate() {
        let below = || steps[at + 1..].iter().take_while(|other| other.depth > step.depth);
        let children: Vec<&ExpandStep> = below().filter(|other| other.depth == step.depth + 1).collect();
        let of = match &step.part {
            ExpandPart::Member(MemberOf { object, member }) => {
                *opened.entry(format!("{object}#{member}")).or_default() += 1;
                // A permission has its expression below, a relation its tuples or nothing.
                match children.first().map(|child| &child.part) {
                    Some(ExpandPart::Tuple(_)) | None => format!("{object}#{member}"),
                    Some(_) => continue,
                }
            }
            ExpandPart::Arrow(arrow) => format!("{}#{}", arrow.object, arrow.relation),
            _ => continue,
        };
        let mut found: Vec<String> = Vec::new();
        for child in children {
            let ExpandPart::Tuple(tuple) = &child.part else { panic!("{of} has\n{}", tree(steps)) };
            found.push(key(tuple));
        }
        found.sort();
        let mut due: Vec<String> = live.get(&of).into_iter().flatten().map(key).collect();
        due.sort();
        assert_eq!(found, due, "{of}\n{}", tree(steps));
        shown += found.len();
    }
    assert!(opened.values().all(|times| *times == 1), "{opened:?}\n{}", tree(steps));
    // With every level open nothing is named only.
    if levels == u32::MAX {
        assert!(!steps.iter().any(|step| matches!(step.part, ExpandPart::Beyond(_))), "{}", tree(steps));
    }
    shown
}
