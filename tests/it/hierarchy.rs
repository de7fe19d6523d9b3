//! The hierarchy: ancestors and subtrees, reading, deleting and listing by subtree, against a model that only knows
//! the tuples' text.
//!
//! INVARIANT: the model walks `parent` tuples one by one over all tuples there are; it shares nothing with the engine.

use crate::engines::{TestEngine, tuple};
use crate::worlds::{Rng, number, seed};
use procura::graph::View;
use procura::model::{Cancel, Limits, ObjectNum, RelationTuple, SubjectRef, TypeNum};
use procura::schema::{Plan, compile};
use procura::store::{Collector, Store};
use procura::walk::{Beneath, Budget, ancestors, subtree};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

const SCHEMA: &str = "use hierarchy
definition user {}
definition group { relation member: user }
definition org { relation viewer: user | group#member; permission view = viewer }
definition folder {
  parent up: folder | org
  relation near: folder
  relation viewer: user | user:* | group#member
  permission view = viewer + up->view
}
definition doc {
  parent home: folder | org
  parent also: folder
  relation near: folder | doc
  relation viewer: user | user:* | group#member
  permission view = viewer + home->view + also->view
}";

/// Which relations are `parent`, written a second time.
const PARENTS: &[&str] = &["folder#up", "doc#home", "doc#also"];

/// Orgs, folders in folders with now and then two parents, and docs; viewers, and relations that are no `parent`.
fn tree(rng: &mut Rng) -> Vec<RelationTuple> {
    let mut texts = BTreeSet::new();
    let (folders, docs) = (4 + rng.below(12), 4 + rng.below(14));
    for n in 0..folders {
        for _ in 0..1 + usize::from(rng.chance(25)) {
            // A folder's parents were before it, so there is no cycle; some have none.
            match rng.below(n + 3) {
                up if up < n => texts.insert(format!("folder:f{n}#up@folder:f{up}")),
                up if up < n + 2 => texts.insert(format!("folder:f{n}#up@org:o{}", up - n)),
                _ => texts.insert(format!("folder:f{n}#near@folder:f{}", rng.below(folders))),
            };
        }
    }
    for n in 0..docs {
        for _ in 0..1 + rng.below(2) {
            let folder = rng.below(folders);
            texts.insert(match rng.below(6) {
                0 => format!("doc:d{n}#home@org:o{}", rng.below(2)),
                1 | 2 => format!("doc:d{n}#also@folder:f{folder}"),
                3 => format!("doc:d{n}#near@doc:d{}", rng.below(docs)),
                _ => format!("doc:d{n}#home@folder:f{folder}"),
            });
        }
    }
    for _ in 0..folders + docs {
        let object = match rng.below(5) {
            0 => format!("org:o{}", rng.below(2)),
            1 | 2 => format!("folder:f{}", rng.below(folders)),
            _ => format!("doc:d{}", rng.below(docs)),
        };
        let subject = match rng.below(5) {
            0 => format!("group:g{}#member", rng.below(2)),
            1 if !object.starts_with("org") => "user:*".to_owned(),
            _ => format!("user:u{}", rng.below(4)),
        };
        texts.insert(format!("{object}#viewer@{subject}"));
    }
    texts.extend((0..2).map(|n| format!("group:g{n}#member@user:u{n}")));
    let mut tuples: Vec<RelationTuple> = texts.iter().map(|text| tuple(text)).collect();
    // So that numbers say nothing of the tree.
    rng.shuffle(&mut tuples);
    tuples
}

fn objects(tuples: &[RelationTuple]) -> BTreeSet<String> {
    let mut objects = BTreeSet::new();
    for tuple in tuples {
        objects.insert(tuple.key.object.to_string());
        if let SubjectRef::Object(object) | SubjectRef::Userset(object, _) = &tuple.key.subject {
            objects.insert(object.to_string());
        }
    }
    objects
}

/// The object and what it reaches upwards, each with its distance.
fn above(tuples: &[RelationTuple], object: &str) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::from([(object.to_owned(), 0)]);
    for distance in 0.. {
        let before = found.len();
        for tuple in tuples {
            let relation = format!("{}#{}", tuple.key.object.object_type, tuple.key.relation);
            let from = found.get(&tuple.key.object.to_string());
            if PARENTS.contains(&relation.as_str()) && from == Some(&distance) {
                found.entry(tuple.key.subject.to_string()).or_insert(distance + 1);
            }
        }
        if found.len() == before && found.values().all(|found| *found <= distance) {
            break;
        }
    }
    found
}

fn is_beneath(tuples: &[RelationTuple], object: &str, root: &str) -> bool {
    above(tuples, object).contains_key(root)
}

/// A store that is read below the engine.
struct Opened {
    store: Store,
    plan: Plan,
    view: View,
}

fn opened(engine: &mut TestEngine) -> Opened {
    opened_under(engine, None)
}

/// Under another schema than the one in force, if one is given.
fn opened_under(engine: &mut TestEngine, schema: Option<&str>) -> Opened {
    engine.close();
    let now = Arc::new(|| procura::model::Timestamp::MIN);
    let store = Store::open(engine.folder(), &Limits::default(), now, Collector::Off).expect("a store");
    let snapshot = store.published();
    let in_force = snapshot.schema_text().expect("read").expect("a schema");
    let schema = compile(schema.unwrap_or(&in_force), &Limits::default()).expect("it compiles").schema;
    let plan = Plan::new(&schema, &*store.names()).expect("a plan");
    let view = View::new(snapshot, procura::model::Timestamp::MIN);
    Opened { store, plan, view }
}

impl Opened {
    fn number(&self, object: &str) -> (TypeNum, ObjectNum) {
        let (of, id) = object.split_once(':').expect("an object");
        let of = self.store.names().type_number(of).expect("a type");
        (of, self.store.dictionary().number(of, id).expect("read").expect("a number"))
    }

    fn name(&self, of: TypeNum, object: ObjectNum) -> String {
        let names = self.store.names();
        let id = self.store.dictionary().id(of, object).expect("an id");
        format!("{}:{id}", names.type_name(of).expect("a type"))
    }

    fn ancestors(&self, object: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut budget = Budget::new(&Limits::default(), Cancel::default());
        let walked = ancestors(&self.plan, &self.view, self.number(object), &mut budget, |of, number| {
            found.push(self.name(of, number));
            ControlFlow::Continue(())
        });
        assert!(walked.expect("walked").is_continue());
        found
    }

    fn subtree(&self, root: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut budget = Budget::new(&Limits::default(), Cancel::default());
        let walked = subtree(&self.plan, &self.view, self.number(root), &mut budget, |of, number| {
            found.push(self.name(of, number));
            ControlFlow::Continue(())
        });
        assert!(walked.expect("walked").is_continue());
        found
    }
}

#[test]
fn ancestors_and_subtrees_are_what_the_parent_tuples_say() {
    let seed = seed("ancestors_and_subtrees_are_what_the_parent_tuples_say");
    for n in 0..number("PROCURA_TREES", 12) {
        let mut rng = Rng::part(seed, n);
        let tuples = tree(&mut rng);
        let mut engine = TestEngine::with_schema(SCHEMA);
        engine.touch_parsed(tuples.iter().cloned());
        let opened = opened(&mut engine);
        let all = objects(&tuples);
        for object in &all {
            let due = above(&tuples, object);
            let found = opened.ancestors(object);
            let distances: Vec<usize> = found.iter().map(|name| due[name]).collect();
            assert!(distances.is_sorted(), "seed {seed} part {n}: {object} not nearest first: {found:?}");
            let once: BTreeSet<&String> = found.iter().collect();
            assert_eq!(once.len(), found.len(), "seed {seed} part {n}: {object} repeats: {found:?}");
            assert!(once.into_iter().eq(due.keys()), "seed {seed} part {n}: {object}: {found:?} not {due:?}");
        }
        let mut budget = Budget::new(&Limits::default(), Cancel::default());
        for root in &all {
            let due: BTreeSet<String> =
                all.iter().filter(|object| is_beneath(&tuples, object, root)).cloned().collect();
            let found = opened.subtree(root);
            let distances: Vec<usize> = found.iter().map(|name| above(&tuples, name)[root]).collect();
            assert!(distances.is_sorted(), "seed {seed} part {n}: {root} not nearest first: {found:?}");
            assert_eq!(found.len(), due.len(), "seed {seed} part {n}: {root}: {found:?}");
            assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), due, "seed {seed} part {n}: {root}");
            // One climber asked about all, in an order that lets it learn from any.
            let mut beneath = Beneath::of(opened.number(root));
            let mut asked: Vec<&String> = all.iter().collect();
            rng.shuffle(&mut asked);
            for object in asked {
                let found = beneath.has(&opened.plan, &opened.view, opened.number(object), &mut budget);
                assert_eq!(found.expect("climbed"), due.contains(object), "seed {seed} part {n}: {object} in {root}");
            }
        }
    }
}

#[test]
fn a_walk_over_a_cycle_ends_with_each_object_once() {
    // No commit lets a `parent` close a cycle, so the data is written as a plain relation and read as a parent.
    let mut engine = TestEngine::with_schema(&SCHEMA.replace("parent up", "relation up"));
    engine.touch(["folder:a#up@folder:b", "folder:b#up@folder:c", "folder:c#up@folder:a", "folder:c#up@org:o"]);
    engine.touch(["folder:x#up@folder:x", "org:p#viewer@user:u"]);
    let opened = opened_under(&mut engine, Some(SCHEMA));
    assert_eq!(opened.ancestors("folder:b"), ["folder:b", "folder:c", "folder:a", "org:o"]);
    assert_eq!(opened.subtree("folder:b"), ["folder:b", "folder:a", "folder:c"]);
    assert_eq!(opened.subtree("folder:x"), ["folder:x"]);
    let mut budget = Budget::new(&Limits::default(), Cancel::default());
    let (mut beneath, mut elsewhere) = (Beneath::of(opened.number("org:o")), Beneath::of(opened.number("org:p")));
    for object in ["folder:a", "folder:b", "folder:c", "folder:a"] {
        let mut has = |beneath: &mut Beneath| {
            beneath.has(&opened.plan, &opened.view, opened.number(object), &mut budget).expect("climbed")
        };
        assert!(has(&mut beneath) && !has(&mut elsewhere), "{object}");
    }
}

#[test]
fn a_walk_ends_where_it_is_told_to_and_where_its_budget_does() {
    let mut engine = TestEngine::with_schema(SCHEMA);
    engine.touch((1..50).map(|n| format!("folder:f{n}#up@folder:f{}", n - 1)));
    engine.touch(["folder:f0#up@org:o0"]);
    let opened = opened(&mut engine);
    let whole = Limits::default();
    let mut seen = 0;
    let mut budget = Budget::new(&whole, Cancel::default());
    let walked = ancestors(&opened.plan, &opened.view, opened.number("folder:f49"), &mut budget, |_, _| {
        seen += 1;
        if seen == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(walked.expect("walked").is_break() && seen == 3, "{seen}");
    let edges = budget.edges();
    assert!(edges < 20, "{edges} edges for three objects");
    let few = Limits { edges_max: 40, ..Limits::default() };
    let broke = |of: &str, down: bool| {
        let mut budget = Budget::new(&few, Cancel::default());
        let go_on = |_, _| ControlFlow::Continue(());
        let start = opened.number(of);
        if down {
            subtree(&opened.plan, &opened.view, start, &mut budget, go_on).is_err()
        } else {
            ancestors(&opened.plan, &opened.view, start, &mut budget, go_on).is_err()
        }
    };
    assert!(broke("folder:f49", false) && broke("org:o0", true));
    assert!(!broke("folder:f2", false) && !broke("folder:f49", true));
    let mut budget = Budget::new(&few, Cancel::default());
    let climbed =
        Beneath::of(opened.number("org:o0")).has(&opened.plan, &opened.view, opened.number("folder:f49"), &mut budget);
    assert!(climbed.is_err(), "no answer is guessed when the budget is spent");
}
