//! The hierarchy: ancestors and subtrees, reading, deleting and listing by subtree, against a model that only knows
//! the tuples' text.
//!
//! INVARIANT: the model walks `parent` tuples one by one over all tuples there are; it shares nothing with the engine.

use crate::engines::{TestEngine, refused, told, tuple, update, write_request};
use crate::lists;
use crate::worlds::{Rng, number, seed};
use procura::engine::{
    DeleteSubtree, DeleteTuples, Deleted, ExportTuples, Kind, ListResources, ListSubjects, Metadata, ReadTuples,
    ReflectSchema, Reflection, Situation, SubjectRow, WriteTuples,
};
use procura::graph::View;
use procura::model::{
    Acting, Cancel, Consistency, Limits, ObjectNum, ObjectRef, Precondition, RelationTuple, SubjectFilter, SubjectRef,
    TupleFilter, TypeNum, UpdateKind,
};
use procura::schema::{Plan, compile};
use procura::store::{Collector, InMemory, Store};
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
    let store =
        Store::open(engine.folder(), &Limits::default(), now, Collector::Off, InMemory::alone()).expect("a store");
    let snapshot = store.published();
    let in_force = snapshot.schema_text().expect("read").expect("a schema");
    let schema = compile(schema.unwrap_or(&in_force), &Limits::default()).expect("it compiles").schema;
    let plan = Plan::new(&schema, &*store.names()).expect("a plan");
    let view = View::new(snapshot, None, procura::model::Timestamp::MIN);
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

fn object(text: &str) -> ObjectRef {
    text.parse().expect("an object")
}

fn within(root: &str) -> TupleFilter {
    TupleFilter { within: Some(object(root)), ..TupleFilter::default() }
}

/// A filter of a subtree, often with further parts taken from some tuple.
fn random_filter(rng: &mut Rng, tuples: &[RelationTuple], all: &[String]) -> TupleFilter {
    let exactly = TupleFilter::exactly(&rng.pick(tuples).key);
    let mut filter = within(rng.pick::<String>(all));
    if rng.chance(35) {
        filter.object_type = exactly.object_type;
        filter.object_id = exactly.object_id.filter(|_| rng.chance(40));
    }
    if rng.chance(35) {
        filter.relation = exactly.relation;
    }
    if rng.chance(40) {
        filter.subject = exactly.subject.map(|mut subject| {
            subject.id = subject.id.filter(|_| rng.chance(70));
            subject
        });
    }
    filter
}

/// What of the tuples a filter means: its other parts by the engine, of which other tests tell; `within` by the model.
fn meant(engine: &TestEngine, tuples: &[RelationTuple], filter: &TupleFilter) -> BTreeSet<String> {
    let root = filter.within.as_ref().expect("a subtree").to_string();
    let others = engine.read(TupleFilter { within: None, ..filter.clone() });
    let is_within = |text: &String| is_beneath(tuples, &tuple(text).key.object.to_string(), &root);
    others.into_iter().filter(is_within).collect()
}

/// One page after the other, each by a new reader from the last row's cursor.
fn paged(engine: &TestEngine, filter: &TupleFilter, size: usize) -> Vec<String> {
    let (mut rows, mut cursor) = (Vec::new(), None);
    loop {
        let request = ReadTuples { filter: filter.clone(), consistency: Consistency::Newest, cursor: cursor.clone() };
        let page = engine
            .read_tuples(request, &Cancel::default())
            .expect("a reader")
            .next_page(size, &Cancel::default())
            .expect("a page");
        let Some(last) = page.last() else { return rows };
        cursor = Some(last.cursor.clone());
        rows.extend(page.into_iter().map(|row| row.tuple.to_string()));
    }
}

fn world(rng: &mut Rng) -> (TestEngine, Vec<RelationTuple>, Vec<String>) {
    let tuples = tree(rng);
    let engine = TestEngine::with_schema(SCHEMA);
    engine.touch_parsed(tuples.iter().cloned());
    let all = objects(&tuples).into_iter().collect();
    (engine, tuples, all)
}

#[test]
fn a_filter_by_subtree_reads_what_is_beneath_its_root() {
    let seed = seed("a_filter_by_subtree_reads_what_is_beneath_its_root");
    let (mut some, mut asked) = (0, 0);
    for n in 0..number("PROCURA_TREES", 12) {
        let mut rng = Rng::part(seed, n);
        let (engine, tuples, all) = world(&mut rng);
        for _ in 0..60 {
            let filter = random_filter(&mut rng, &tuples, &all);
            let due = meant(&engine, &tuples, &filter);
            let told = || format!("seed {seed} part {n}: {filter:?}");
            let found = engine.read(filter.clone());
            assert_eq!(found.len(), due.len(), "{}: {found:?} not {due:?}", told());
            assert!(found.iter().cloned().collect::<BTreeSet<_>>() == due, "{}: {found:?} not {due:?}", told());
            assert_eq!(paged(&engine, &filter, 1 + rng.below(4)), found, "{}: by pages", told());
            let request = ExportTuples { filter: filter.clone(), ..ExportTuples::default() };
            let batch = engine
                .export_tuples(request, &Cancel::default())
                .expect("an export")
                .next_batch(10_000, &Cancel::default())
                .expect("a batch");
            let exported = batch.map(|batch| batch.tuples.iter().map(ToString::to_string).collect::<Vec<_>>());
            assert_eq!(exported.unwrap_or_default(), found, "{}: exported", told());
            let guarded = |precondition: Precondition| {
                let updates = vec![update(UpdateKind::Touch, "org:guard#viewer@user:u0")];
                let (preconditions, metadata) = (vec![precondition], Metadata::new());
                engine.write_tuples(WriteTuples { updates, preconditions, metadata }).is_ok()
            };
            assert_eq!(guarded(Precondition::MustMatch(filter.clone())), !due.is_empty(), "{}", told());
            assert_eq!(guarded(Precondition::MustNotMatch(filter.clone())), due.is_empty(), "{}", told());
            some += usize::from(!due.is_empty());
            asked += 1;
        }
    }
    assert!(some * 3 > asked && some < asked, "{some} of {asked} filters matched something");
}

#[test]
fn a_deletion_by_subtree_removes_what_is_beneath_its_root() {
    let seed = seed("a_deletion_by_subtree_removes_what_is_beneath_its_root");
    for n in 0..number("PROCURA_TREES", 12) {
        let mut rng = Rng::part(seed, n);
        let (engine, mut tuples, all) = world(&mut rng);
        // Bounded: each turn deletes, or is one of few.
        for _ in 0..12 {
            if tuples.is_empty() {
                break;
            }
            let filter =
                if rng.chance(40) { within(rng.pick::<String>(&all)) } else { random_filter(&mut rng, &tuples, &all) };
            let due = meant(&engine, &tuples, &filter);
            let told = || format!("seed {seed} part {n}: {filter:?}");
            let (before, revision) = (engine.everything(), engine.info().revision);
            let request = DeleteTuples { filter: filter.clone(), ..DeleteTuples::default() };
            let dry = DeleteTuples { dry_run: true, ..request.clone() };
            let counted = engine.delete_tuples(dry).expect("judged");
            assert_eq!(counted, Deleted { revision, count: due.len() as u64, more: false }, "{}", told());
            assert_eq!(engine.everything(), before, "{}: a dry run removes nothing", told());
            let only_within = filter == within(&filter.within.as_ref().expect("a subtree").to_string());
            let deleted = if only_within {
                engine.delete_subtree(subtree_of(&filter.within.clone().expect("a subtree").to_string()))
            } else {
                engine.delete_tuples(request)
            };
            let deleted = deleted.expect("deleted");
            assert_eq!((deleted.count, deleted.revision.0), (due.len() as u64, revision.0 + 1), "{}", told());
            let left: Vec<String> = before.into_iter().filter(|text| !due.contains(text)).collect();
            assert_eq!(engine.everything(), left, "{}", told());
            tuples.retain(|tuple| !due.contains(&tuple.to_string()));
        }
        engine.assert_verified();
    }
}

fn subtree_of(root: &str) -> DeleteSubtree {
    let (preconditions, metadata) = (Vec::new(), Metadata::new());
    DeleteSubtree { root: object(root), preconditions, metadata, dry_run: false, limit: None }
}

fn acme(limits: Limits) -> TestEngine {
    let engine = TestEngine::with_limits(limits);
    engine.schema(SCHEMA);
    engine.touch(["folder:plans#up@org:acme", "folder:old#up@folder:plans", "folder:else#up@org:acme"]);
    engine.touch([
        "doc:a#home@folder:plans",
        "doc:b#home@folder:old",
        "doc:b#also@folder:else",
        "doc:c#home@folder:else",
    ]);
    engine.touch(["doc:a#viewer@user:rita", "doc:b#viewer@user:rita", "doc:c#viewer@user:rita", "doc:c#near@doc:a"]);
    engine.touch(["folder:else#near@folder:plans", "org:acme#viewer@user:dana"]);
    engine
}

#[test]
fn deleting_a_subtree_leaves_those_beside_it_and_what_names_it_elsewhere() {
    let engine = acme(Limits::default());
    let deleted = engine.delete_subtree(subtree_of("folder:plans")).expect("deleted");
    // A doc beneath it goes as a whole, though another folder holds it too.
    assert_eq!(deleted.count, 7);
    let left = [
        "doc:c#home@folder:else",
        "doc:c#near@doc:a",
        "doc:c#viewer@user:rita",
        "folder:else#near@folder:plans",
        "folder:else#up@org:acme",
        "org:acme#viewer@user:dana",
    ];
    assert_eq!(engine.everything(), left);
    // A type that nothing has as a parent is a subtree by itself, and so is an object that no tuple mentions.
    let count = |root: &str| engine.delete_subtree(subtree_of(root)).map(|deleted| deleted.count);
    assert_eq!(count("doc:c").expect("deleted"), 3);
    assert_eq!(count("folder:nowhere").expect("deleted"), 0);
    assert_eq!(count("user:rita").expect("deleted"), 0);
    let error = refused(engine.delete_subtree(subtree_of("drawer:a")), &[Kind::FailedPrecondition]);
    assert_eq!(error.reason, "UNKNOWN_TYPE");
    assert!(error.facts.contains(&("field", "root.type".to_owned())), "{}", told(&error));
    let unknown = DeleteTuples { filter: within("drawer:a"), ..DeleteTuples::default() };
    let error = refused(engine.delete_tuples(unknown), &[Kind::FailedPrecondition]);
    assert!(error.facts.contains(&("field", "filter.within.type".to_owned())), "{}", told(&error));
}

#[test]
fn without_a_hierarchy_a_subtree_is_its_root() {
    let plain = SCHEMA.replace("use hierarchy\n", "").replace("parent ", "relation ");
    let engine = TestEngine::with_schema(&plain);
    engine.touch(["folder:a#up@org:acme", "folder:b#up@folder:a", "folder:a#viewer@user:rita"]);
    assert_eq!(engine.read(within("folder:a")), ["folder:a#up@org:acme", "folder:a#viewer@user:rita"]);
    assert_eq!(engine.delete_subtree(subtree_of("folder:a")).expect("deleted").count, 2);
    assert_eq!(engine.everything(), ["folder:b#up@folder:a"]);
}

#[test]
fn too_large_a_subtree_is_left_whole_or_removed_in_parts_from_below() {
    let engine = acme(Limits { delete_tuples_max: 6, ..Limits::default() });
    let before = engine.everything();
    let error = refused(engine.delete_subtree(subtree_of("folder:plans")), &[Kind::ResourceExhausted]);
    assert_eq!(error.reason, "TOO_MANY_TUPLES");
    assert!(error.hint.as_ref().is_some_and(|hint| hint.contains("`limit`")), "{}", told(&error));
    let dry = DeleteSubtree { dry_run: true, ..subtree_of("folder:plans") };
    refused(engine.delete_subtree(dry), &[Kind::ResourceExhausted]);
    assert_eq!(engine.everything(), before, "nothing was removed");
    for limit in [0, 7] {
        let request = DeleteSubtree { limit: Some(limit), ..subtree_of("folder:plans") };
        let error = refused(engine.delete_subtree(request), &[Kind::InvalidArgument]);
        assert!(error.message.contains("between 1 and 6"), "{}", told(&error));
    }
    let part = DeleteSubtree { limit: Some(2), ..subtree_of("folder:plans") };
    let delete = || engine.delete_subtree(part.clone()).map(|deleted| (deleted.count, deleted.more)).expect("deleted");
    let counts: Vec<(u64, bool)> = (0..5).map(|_| delete()).collect();
    assert_eq!(counts, [(2, true), (2, true), (2, true), (1, false), (0, false)]);
    assert_eq!(engine.everything().len(), before.len() - 7);
    // By a filter without a subtree too.
    let of_rita = TupleFilter::exactly(&tuple("doc:c#viewer@user:rita").key);
    let request = DeleteTuples { filter: of_rita, limit: Some(1), ..DeleteTuples::default() };
    assert_eq!(engine.delete_tuples(request).expect("deleted").count, 1);
    engine.assert_verified();
}

/// With a limit it goes piece by piece, each from below, and the reply says when there is no more.
#[test]
fn a_subtree_of_more_objects_than_one_call_goes_down_to_is_removed_in_parts() {
    let engine = TestEngine::with_limits(Limits { subtree_objects_max: 5, ..Limits::default() });
    engine.schema(SCHEMA);
    engine.touch((0..6).map(|n| format!("folder:f{n}#up@folder:root")));
    engine.touch((0..18).map(|n| format!("doc:d{n}#home@folder:f{}", n % 6)));
    engine.touch((0..18).map(|n| format!("doc:d{n}#viewer@user:rita")));
    engine.touch(["folder:root#up@org:acme", "folder:else#up@org:acme"]);
    let before = engine.everything().len();
    let error = refused(engine.delete_subtree(subtree_of("folder:root")), &[Kind::ResourceExhausted]);
    assert_eq!(error.reason, "SUBTREE_TOO_LARGE");
    assert!(error.hint.as_ref().is_some_and(|hint| hint.contains("`limit`")), "{}", told(&error));
    assert_eq!(engine.everything().len(), before, "nothing was removed");
    let part = DeleteSubtree { limit: Some(1_000), ..subtree_of("folder:root") };
    let (mut removed, mut more) = (0, true);
    // Bounded: each call removes something.
    while more {
        let dry = engine.delete_subtree(DeleteSubtree { dry_run: true, ..part.clone() }).expect("judged");
        let deleted = engine.delete_subtree(part.clone()).expect("deleted");
        assert!(deleted.count > 0, "a call that removes nothing and says that there is more");
        assert_eq!((dry.count, dry.more), (deleted.count, deleted.more));
        (removed, more) = (removed + deleted.count, deleted.more);
    }
    assert_eq!(removed, 6 + 18 + 18 + 1);
    assert_eq!(engine.everything(), ["folder:else#up@org:acme"]);
    engine.assert_verified();
}

#[test]
fn a_guard_and_a_read_by_subtree_are_bounded() {
    let engine = TestEngine::with_limits(Limits { precondition_rows_max: 100, edges_max: 100, ..Limits::default() });
    engine.schema(SCHEMA);
    engine.touch((0..200).map(|n| format!("doc:d{n}#home@folder:wide")));
    engine.touch(["folder:narrow#up@org:acme", "doc:d0#viewer@user:rita"]);
    let guarded = |filter: TupleFilter| {
        let request = write_request(vec![update(UpdateKind::Touch, "org:acme#viewer@user:dana")]);
        let preconditions = vec![Precondition::MustNotMatch(filter)];
        engine.write_tuples(WriteTuples { preconditions, ..request })
    };
    let near = |root: &str| TupleFilter { relation: Some("near".parse().expect("a name")), ..within(root) };
    let error = refused(guarded(near("folder:wide")), &[Kind::ResourceExhausted]);
    assert_eq!(error.reason, "PRECONDITIONS_TOO_WIDE");
    guarded(near("folder:narrow")).expect("it is small");
    let read = |filter: TupleFilter| {
        let request = ReadTuples { filter, consistency: Consistency::Newest, cursor: None };
        engine
            .read_tuples(request, &Cancel::default())
            .map(|mut reader| reader.next_page(10, &Cancel::default()).expect("a page").len())
    };
    let error = refused(read(within("folder:wide")), &[Kind::ResourceExhausted]);
    assert_eq!(error.reason, "EDGES_SPENT");
    assert_eq!(read(within("folder:narrow")).expect("a page"), 1);
    // Whoever names a subject asks its few rows for their ancestors.
    let subject = TupleFilter::exactly(&tuple("doc:d0#viewer@user:rita").key).subject;
    assert_eq!(read(TupleFilter { subject, ..within("folder:wide") }).expect("a page"), 1);
}

#[test]
fn a_cursor_of_a_subtree_goes_on_where_the_tree_has_changed() {
    let engine = acme(Limits::default());
    let filter = within("folder:plans");
    let request = |cursor| ReadTuples { filter: filter.clone(), consistency: Consistency::Newest, cursor };
    let all = engine.read(filter.clone());
    let first = engine
        .read_tuples(request(None), &Cancel::default())
        .expect("a reader")
        .next_page(2, &Cancel::default())
        .expect("a page");
    let cursor = first.last().map(|row| row.cursor.clone());
    // One that was read leaves, another comes: nothing is repeated, and what stayed is not missed.
    engine.touch(["folder:new#up@folder:plans"]);
    engine.try_update(UpdateKind::Delete, all.last().expect("a tuple")).expect("deleted");
    let rest = engine
        .read_tuples(request(cursor.clone()), &Cancel::default())
        .expect("a reader")
        .next_page(100, &Cancel::default())
        .expect("a page");
    let rest: Vec<String> = rest.into_iter().map(|row| row.tuple.to_string()).collect();
    assert!(all[2..all.len() - 1].iter().all(|text| rest.contains(text)), "{rest:?} of {all:?}");
    assert!(all[..2].iter().all(|text| !rest.contains(text)), "{rest:?} of {all:?}");
    let other = ReadTuples { filter: within("folder:else"), consistency: Consistency::Newest, cursor };
    let error = refused(engine.read_tuples(other, &Cancel::default()).map(drop), &[Kind::InvalidArgument]);
    assert!(error.message.contains("cursor"), "{}", told(&error));
}

fn asked(object_type: &str, subject: &str, root: Option<&str>) -> ListResources {
    ListResources {
        acting: Acting::default(),
        object_type: object_type.parse().expect("a name"),
        permission: "view".parse().expect("a name"),
        subject: subject.parse().expect("a subject"),
        within: root.map(object),
        situation: Situation::default(),
        cursor: None,
    }
}

/// Objects with their decision, page by page, each page by a new list from the last row's cursor.
fn listed(engine: &TestEngine, request: &ListResources, size: usize) -> Vec<String> {
    let cancel = Cancel::default();
    let (mut rows, mut cursor) = (Vec::new(), None);
    loop {
        let request = ListResources { cursor: cursor.clone(), ..request.clone() };
        let page = engine.list_resources(request, &cancel).expect("a list").next_page(size, &cancel).expect("a page");
        let Some(last) = page.last() else { return rows };
        cursor = Some(last.cursor.clone());
        rows.extend(page.into_iter().map(|row| row.object.to_string()));
    }
}

#[test]
fn a_list_by_subtree_is_the_list_of_what_is_beneath_its_root() {
    let seed = seed("a_list_by_subtree_is_the_list_of_what_is_beneath_its_root");
    let (mut some, mut fewer) = (0, 0);
    for n in 0..number("PROCURA_TREES", 12) {
        let mut rng = Rng::part(seed, n);
        let (engine, tuples, all) = world(&mut rng);
        for root in &all {
            for object_type in ["doc", "folder", "org"] {
                let subject = format!("user:u{}", rng.below(4));
                let whole = listed(&engine, &asked(object_type, &subject, None), 100);
                let due: Vec<String> =
                    whole.iter().filter(|object| is_beneath(&tuples, object, root)).cloned().collect();
                let request = asked(object_type, &subject, Some(root));
                let found = listed(&engine, &request, 1 + rng.below(5));
                assert_eq!(found, due, "seed {seed} part {n}: {object_type} of {subject} within {root}");
                some += usize::from(!due.is_empty());
                fewer += usize::from(!due.is_empty() && due.len() < whole.len());
            }
        }
    }
    assert!(some > 20 && fewer > 20, "{some} lists had rows, {fewer} fewer than without a root");
}

/// Subjects page by page, each page by a new list from the last row's cursor.
fn subjects_listed(engine: &TestEngine, request: &ListSubjects, size: usize) -> Vec<SubjectRow> {
    let cancel = Cancel::default();
    let (mut rows, mut cursor) = (Vec::new(), None);
    loop {
        let request = ListSubjects { cursor: cursor.clone(), ..request.clone() };
        let page = engine.list_subjects(request, &cancel).expect("a list").next_page(size, &cancel).expect("a page");
        let Some(last) = page.last() else { return rows };
        cursor = Some(last.cursor.clone());
        rows.extend(page);
    }
}

fn subjects_asked(asked: &str, subject_type: &str, root: Option<&str>) -> ListSubjects {
    ListSubjects { within: root.map(object), ..lists::subjects_asked(&format!("{asked}@{subject_type}")) }
}

#[test]
fn a_list_of_subjects_by_subtree_is_the_list_of_those_beneath_its_root() {
    let seed = seed("a_list_of_subjects_by_subtree_is_the_list_of_those_beneath_its_root");
    let (mut some, mut fewer) = (0, 0);
    for n in 0..number("PROCURA_TREES", 12) {
        let mut rng = Rng::part(seed, n);
        let (engine, tuples, all) = world(&mut rng);
        for of in tuples.iter().filter(|tuple| tuple.key.relation.as_str() == "near") {
            let subject_type = of.key.subject.subject_type().to_string();
            let asked = |root| subjects_asked(&format!("{}#near", of.key.object), &subject_type, root);
            let names = |rows: Vec<SubjectRow>| rows.iter().map(|row| row.subject.to_string()).collect::<Vec<_>>();
            let whole = names(subjects_listed(&engine, &asked(None), 100));
            for root in &all {
                let due: Vec<String> = whole.iter().filter(|one| is_beneath(&tuples, one, root)).cloned().collect();
                let found = names(subjects_listed(&engine, &asked(Some(root)), 1 + rng.below(3)));
                assert_eq!(found, due, "seed {seed} part {n}: {} within {root}", of.key.object);
                some += usize::from(!due.is_empty());
                fewer += usize::from(due.len() < whole.len());
            }
        }
    }
    assert!(some > 20 && fewer > 20, "{some} lists had rows, {fewer} fewer than without a root");
}

/// A wildcard stands for those in the subtree whom no row names, and leaves out whom it leaves out there.
#[test]
fn a_list_of_subjects_by_subtree_decides_about_those_in_it() {
    let engine = TestEngine::with_schema(
        "use hierarchy
definition user {}
definition team { parent up: team; relation member: user }
definition doc {
  relation viewer: team | team:* | team#member
  relation banned: team
  permission view = viewer - banned
}",
    );
    engine.touch(["team:a#up@team:top", "team:b#up@team:a", "team:c#up@team:else"]);
    engine.touch(["doc:all#viewer@team:*", "doc:all#viewer@team:a", "doc:all#banned@team:b", "doc:all#banned@team:c"]);
    engine.touch(["doc:some#viewer@team:b#member", "doc:some#viewer@team:c#member", "doc:some#viewer@team:c"]);
    let told = |asked: &str, subject_type: &str, root: &str| -> Vec<String> {
        let rows = subjects_listed(&engine, &subjects_asked(asked, subject_type, Some(root)), 1);
        let excluded =
            |row: &SubjectRow| row.exclusions.iter().map(|one| format!(" - {}", one.subject)).collect::<String>();
        rows.iter().map(|row| format!("{}{}", row.subject, excluded(row))).collect()
    };
    assert_eq!(told("doc:all#view", "team", "team:top"), ["team:* - team:b", "team:a"]);
    assert_eq!(told("doc:all#view", "team", "team:else"), ["team:* - team:c"]);
    assert_eq!(told("doc:all#view", "team", "team:nowhere"), ["team:*"]);
    assert_eq!(told("doc:some#view", "team#member", "team:top"), ["team:b#member"]);
    assert_eq!(told("doc:some#view", "team", "team:c"), ["team:c"]);
    assert!(told("doc:some#view", "team", "team:top").is_empty());
    assert!(told("doc:some#view", "team", "user:rita").is_empty(), "a type without `parent` matches only itself");
    // What a request brings along counts for where a subject stands, too.
    let laid = Situation { contextual_tuples: vec![tuple("team:else#up@team:top")], ..Situation::default() };
    let request = ListSubjects { situation: laid, ..subjects_asked("doc:some#view", "team", Some("team:top")) };
    assert_eq!(subjects_listed(&engine, &request, 1)[0].subject.to_string(), "team:c");
    // A cursor is of one root.
    let cancel = Cancel::default();
    let cursor =
        Some(subjects_listed(&engine, &subjects_asked("doc:all#view", "team", Some("team:top")), 9)[0].cursor.clone());
    let other = ListSubjects { cursor, ..subjects_asked("doc:all#view", "team", Some("team:else")) };
    refused(engine.list_subjects(other, &cancel).map(drop), &[Kind::InvalidArgument]);
    let unknown = subjects_asked("doc:all#view", "team", Some("drawer:a"));
    let error = refused(engine.list_subjects(unknown, &cancel).map(drop), &[Kind::FailedPrecondition]);
    assert!(error.facts.contains(&("field", "within.type".to_owned())), "{}", self::told(&error));
}

#[test]
fn a_list_by_subtree_keeps_its_cursor_to_itself_and_names_a_wrong_root() {
    let engine = acme(Limits::default());
    let cancel = Cancel::default();
    let of = |root: Option<&str>| asked("doc", "user:rita", root);
    assert_eq!(listed(&engine, &of(Some("folder:plans")), 100), ["doc:a", "doc:b"]);
    assert_eq!(listed(&engine, &of(Some("doc:c")), 100), ["doc:c"]);
    assert!(listed(&engine, &of(Some("folder:nowhere")), 100).is_empty());
    let mut lister = engine.list_resources(of(Some("folder:plans")), &cancel).expect("a list");
    let cursor = lister.next_page(1, &cancel).expect("a page").pop().map(|row| row.cursor);
    for root in [None, Some("folder:else"), Some("org:acme")] {
        let request = ListResources { cursor: cursor.clone(), ..of(root) };
        refused(engine.list_resources(request, &cancel).map(drop), &[Kind::InvalidArgument]);
    }
    let error = refused(engine.list_resources(of(Some("drawer:a")), &cancel).map(drop), &[Kind::FailedPrecondition]);
    assert_eq!(error.reason, "UNKNOWN_TYPE");
    assert!(error.facts.contains(&("field", "within.type".to_owned())), "{}", told(&error));
    // The root itself, though no tuple mentions it, where the answer does not hang on tuples.
    let userset =
        |root| ListResources { permission: "viewer".parse().expect("a name"), ..asked("doc", "doc:new#viewer", root) };
    assert_eq!(listed(&engine, &userset(None), 100), ["doc:new"]);
    assert_eq!(listed(&engine, &userset(Some("doc:new")), 100), ["doc:new"]);
    assert!(listed(&engine, &userset(Some("folder:plans")), 100).is_empty());
}

#[test]
fn the_schema_in_force_says_what_leans_on_what() {
    let engine = TestEngine::new();
    let ask =
        |question: Reflection| engine.reflect_schema(ReflectSchema { question, consistency: Consistency::Newest });
    let member = |text: &str| {
        let (of, name) = text.split_once('#').expect("a member");
        (of.parse().expect("a name"), name.parse().expect("a name"))
    };
    let computable =
        |texts: &[&str]| ask(Reflection::ComputablePermissions(texts.iter().map(|text| member(text)).collect()));
    let dependent = |text: &str| {
        let (of, name) = member(text);
        ask(Reflection::DependentRelations(of, name))
    };
    let names = |reflected: procura::engine::Reflected| -> Vec<String> {
        let name = |member: &procura::engine::MemberRef| format!("{}#{}", member.definition, member.member);
        reflected.members.iter().map(name).collect()
    };
    assert_eq!(refused(computable(&["doc#home"]), &[Kind::FailedPrecondition]).reason, "NO_SCHEMA");
    let revision = engine.schema(SCHEMA);
    let found = computable(&["org#viewer"]).expect("an answer");
    assert_eq!(found.revision, revision);
    assert_eq!(names(found), ["org#view", "folder#view", "doc#view"]);
    assert_eq!(
        names(computable(&["doc#near", "doc#home", "folder#up"]).expect("an answer")),
        ["folder#view", "doc#view"]
    );
    let due = ["group#member", "org#viewer", "org#view", "folder#up", "folder#viewer"];
    assert_eq!(names(dependent("folder#view").expect("an answer")), due);
    for (found, reason, field) in [
        (computable(&[]), "INVALID_ARGUMENT", "relations"),
        (computable(&["doc#home", "doc#hom"]), "UNKNOWN_RELATION", "relations[1].name"),
        (computable(&["drawer#home"]), "UNKNOWN_TYPE", "relations[0].definition"),
        (dependent("doc#vieww"), "UNKNOWN_RELATION", "permission.name"),
        (dependent("drawer#view"), "UNKNOWN_TYPE", "permission.definition"),
        (dependent("doc#viewer"), "NOT_A_PERMISSION", "permission.name"),
    ] {
        let error = refused(found, &[Kind::FailedPrecondition, Kind::InvalidArgument]);
        assert_eq!(error.reason, reason, "{}", told(&error));
        assert!(error.facts.contains(&("field", field.to_owned())), "{field}: {:?}", error.facts);
    }
}

#[test]
fn more_children_and_parents_than_are_read_at_once() {
    let engine = TestEngine::with_schema(SCHEMA);
    engine.touch((0..2_500).map(|n| format!("doc:d{n}#home@folder:wide")));
    engine.touch((0..1_500).map(|n| format!("doc:deep#also@folder:f{n}")));
    engine.touch(["folder:f1499#up@folder:wide", "folder:wide#up@org:acme"]);
    let whole = 2_500 + 1_500 + 2;
    assert_eq!(engine.read(within("folder:wide")).len(), whole);
    // Up from the doc, by its last parent.
    let of_deep = TupleFilter { object_id: Some("deep".parse().expect("an id")), ..within("folder:wide") };
    let of_deep = TupleFilter { object_type: Some("doc".parse().expect("a name")), ..of_deep };
    assert_eq!(engine.read(of_deep).len(), 1_500);
    let part = DeleteSubtree { limit: Some(3_000), ..subtree_of("org:acme") };
    assert_eq!(engine.delete_subtree(part).expect("deleted").count, 3_000);
    assert_eq!(engine.delete_subtree(subtree_of("org:acme")).expect("deleted").count, whole as u64 - 3_000);
    assert!(engine.everything().is_empty());
}

/// As many levels as one write may make: each is climbed from once, not once for every level beneath it.
#[test]
fn a_chain_of_thousands_is_written_at_once_and_deleted_by_a_subject_within() {
    const LEVELS: usize = 4_999;
    let engine = TestEngine::with_schema(SCHEMA);
    engine.update((0..LEVELS).map(|n| update(UpdateKind::Touch, &chained(n + 1, n))).collect());
    engine.touch((0..=LEVELS).map(|n| format!("folder:c{n}#viewer@user:rita")));
    // The other end of the same chain would be its own ancestor.
    let error = refused(engine.try_update(UpdateKind::Touch, &chained(0, LEVELS)), &[Kind::FailedPrecondition]);
    assert_eq!(error.reason, "PARENT_CYCLE");
    let rita = TupleFilter::exactly(&tuple("folder:c0#viewer@user:rita").key).subject;
    let of = |root: &str| TupleFilter { subject: rita.clone(), ..within(root) };
    let delete = |root: &str| engine.delete_tuples(DeleteTuples { filter: of(root), ..DeleteTuples::default() });
    let read = |root: &str| engine.read(of(root)).len();
    for (root, due) in [("folder:c4000", LEVELS + 1 - 4_000), ("folder:c0", 4_000)] {
        assert_eq!(read(root), due, "{root}");
        assert_eq!(delete(root).unwrap_or_else(|error| panic!("{}", told(&error))).count, due as u64, "{root}");
        assert_eq!(read(root), 0, "{root}");
    }
}

/// Whoever reads or exports and goes away stops the work: looking up a subtree, asking rows for their ancestors, and
/// passing over rows that do not match. Who waits again misses nothing.
#[test]
fn a_read_nobody_waits_for_stops() {
    const LEVELS: usize = 600;
    let engine = TestEngine::with_schema(SCHEMA);
    engine.update((0..LEVELS).map(|n| update(UpdateKind::Touch, &chained(n + 1, n))).collect());
    engine.touch((0..=LEVELS).map(|n| format!("folder:c{n}#viewer@user:rita")));
    engine.touch(["folder:c0#near@folder:c1"]);
    let (waiting, gone) = (Cancel::default(), Cancel::default());
    gone.set();
    let read = |filter: &TupleFilter| ReadTuples { filter: filter.clone(), ..ReadTuples::default() };
    let export = |filter: &TupleFilter| ExportTuples { filter: filter.clone(), ..ExportTuples::default() };
    let everything = within("folder:c0");
    refused(engine.read_tuples(read(&everything), &gone).map(drop), &[Kind::Cancelled]);
    refused(engine.export_tuples(export(&everything), &gone).map(drop), &[Kind::Cancelled]);
    let rita = TupleFilter::exactly(&tuple("folder:c0#viewer@user:rita").key).subject;
    let users = rita.clone().map(|one| SubjectFilter { id: None, ..one });
    let climbing = TupleFilter { subject: rita, ..within("folder:c0") };
    let passing = TupleFilter { subject: users, ..TupleFilter::default() };
    for (filter, due) in [(everything, 2 * LEVELS + 2), (climbing, LEVELS + 1), (passing, LEVELS + 1)] {
        // Whoever opened it waits no more, once it is open.
        let opening = Cancel::default();
        let mut reader = engine.read_tuples(read(&filter), &opening).expect("a reader");
        let mut exporter = engine.export_tuples(export(&filter), &opening).expect("an export");
        opening.set();
        refused(reader.next_page(10_000, &gone).map(drop), &[Kind::Cancelled]);
        refused(exporter.next_batch(10_000, &gone).map(drop), &[Kind::Cancelled]);
        assert_eq!(reader.next_page(10_000, &waiting).expect("a page").len(), due, "{filter:?}");
        let batch = exporter.next_batch(10_000, &waiting).expect("a batch").expect("tuples");
        assert_eq!(batch.tuples.len(), due, "{filter:?}");
    }
}

fn chained(child: usize, parent: usize) -> String {
    format!("folder:c{child}#up@folder:c{parent}")
}
