//! What a write of tuples or of a schema does, and that one which is refused does nothing.
//!
//! What always holds: all or nothing, judged inside the commit; an error leaves tuples, schema and revision alone.

use crate::engines::{TestEngine, question, refused, schema_request, told, tuple, update, write_request};
use procura::engine::{CheckOptions, DeleteTuples, Kind, Metadata, ReadTuples, Situation, WriteSchema, WriteTuples};
use procura::model::{
    Cancel, Consistency, Decision, Limits, ObjectId, Precondition, RelationName, Revision, SubjectFilter,
    SubjectRelationFilter, TupleFilter, TypeName, UpdateKind,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, mpsc};

const SCHEMA: &str = "definition user {}
definition group {
  relation member: user | group#member
}
definition doc {
  relation viewer: user | user:* | group#member
  relation parent: doc
  permission view = viewer + parent->view
}";

fn standing() -> TestEngine {
    let engine = TestEngine::with_schema(SCHEMA);
    engine.touch(["doc:1#viewer@user:rita", "group:eng#member@user:dana"]);
    engine
}

/// Runs what must fail, and looks that nothing came of it.
#[track_caller]
fn nothing_comes_of<V>(
    engine: &TestEngine,
    kinds: &[Kind],
    run: impl FnOnce() -> Result<V, procura::engine::Error>,
) -> procura::engine::Error {
    let before = (engine.everything(), engine.info().revision, engine.info().schema_digest);
    let error = refused(run(), kinds);
    let after = (engine.everything(), engine.info().revision, engine.info().schema_digest);
    assert_eq!(before, after, "{}", told(&error));
    error
}

fn of_type(name: &str) -> TupleFilter {
    TupleFilter { object_type: Some(TypeName::new(name).unwrap()), ..TupleFilter::default() }
}

#[test]
fn create_touch_and_delete() {
    let engine = standing();
    let text = "doc:2#viewer@user:tom";
    engine.try_update(UpdateKind::Create, text).unwrap();
    nothing_comes_of(&engine, &[Kind::AlreadyExists], || engine.try_update(UpdateKind::Create, text));
    engine.try_update(UpdateKind::Touch, text).unwrap();
    engine.try_update(UpdateKind::Touch, text).unwrap();
    assert_eq!(engine.everything().iter().filter(|there| *there == text).count(), 1);
    engine.try_update(UpdateKind::Delete, text).unwrap();
    engine.assert_denies("doc:2#view@user:tom");
    engine.try_update(UpdateKind::Delete, text).unwrap();
    engine.try_update(UpdateKind::Delete, "doc:never#viewer@user:nobody").unwrap();
    engine.try_update(UpdateKind::Create, text).unwrap();
    engine.assert_allows("doc:2#view@user:tom");
}

#[test]
fn one_bad_update_refuses_all() {
    let engine = standing();
    let both = [Kind::FailedPrecondition, Kind::InvalidArgument];
    for (bad, kinds) in [
        ("nodoc:1#viewer@user:x", &both[..1]),
        ("doc:1#nothing@user:x", &both[..1]),
        ("doc:1#viewer@nobody:x", &both[..1]),
        ("doc:1#viewer@group:x#nothing", &both[..1]),
        ("doc:1#view@user:x", &both),
        ("doc:1#viewer@doc:2", &both),
        ("doc:1#viewer@group:x", &both),
        ("doc:1#viewer@group:*", &both),
        ("doc:1#parent@user:*", &both),
        ("doc:1#viewer@doc:2#viewer", &both),
        ("doc:1#viewer@user:x[is_weekday]", &both),
        ("doc:1#viewer@user:x[expiration:2999-01-01T00:00:00Z]", &both),
    ] {
        for kind in [UpdateKind::Touch, UpdateKind::Create] {
            let mut updates = vec![
                update(UpdateKind::Touch, "doc:3#viewer@user:new"),
                update(UpdateKind::Delete, "doc:1#viewer@user:rita"),
                update(kind, bad),
                update(UpdateKind::Touch, "doc:4#viewer@user:new"),
            ];
            nothing_comes_of(&engine, kinds, || engine.write_tuples(write_request(updates.clone())));
            updates.remove(2);
            updates.push(update(UpdateKind::Create, "doc:1#viewer@user:rita"));
            updates.remove(1);
            nothing_comes_of(&engine, &[Kind::AlreadyExists], || engine.write_tuples(write_request(updates)));
        }
    }
    engine.assert_denies("doc:3#view@user:new");
}

#[test]
fn the_same_key_twice_is_refused() {
    let engine = standing();
    let kinds = [UpdateKind::Create, UpdateKind::Touch, UpdateKind::Delete];
    for first in kinds {
        for second in kinds {
            let text = "doc:9#viewer@user:tom";
            let updates =
                vec![update(first, text), update(UpdateKind::Touch, "doc:8#viewer@user:tom"), update(second, text)];
            nothing_comes_of(&engine, &[Kind::InvalidArgument], || engine.write_tuples(write_request(updates)));
        }
    }
}

#[test]
fn limits_refuse_before_anything_is_written() {
    let limits = Limits {
        updates_max: 3,
        preconditions_max: 2,
        metadata_bytes_max: 64,
        delete_tuples_max: 2,
        ..Limits::default()
    };
    let engine = TestEngine::with_limits(limits);
    engine.schema(SCHEMA);
    engine.touch((0..3).map(|n| format!("doc:{n}#viewer@user:rita")));
    let kinds = [Kind::InvalidArgument, Kind::ResourceExhausted];
    let updates: Vec<_> = (10..14).map(|n| update(UpdateKind::Touch, &format!("doc:{n}#viewer@user:rita"))).collect();
    nothing_comes_of(&engine, &kinds, || engine.write_tuples(write_request(updates.clone())));
    let preconditions = vec![Precondition::MustMatch(of_type("doc")); 3];
    let request = WriteTuples { preconditions, ..write_request(updates[..1].to_vec()) };
    nothing_comes_of(&engine, &kinds, || engine.write_tuples(request));
    let metadata: Metadata = [("ticket".to_owned(), "x".repeat(100).into())].into_iter().collect();
    let request = WriteTuples { metadata, ..write_request(updates[..1].to_vec()) };
    nothing_comes_of(&engine, &kinds, || engine.write_tuples(request));
    let delete = DeleteTuples { filter: of_type("doc"), ..DeleteTuples::default() };
    nothing_comes_of(&engine, &[Kind::ResourceExhausted], || engine.delete_tuples(delete));
    engine.update(updates[..3].to_vec());
}

#[test]
fn preconditions_are_judged_with_the_write() {
    let engine = standing();
    let there = TupleFilter::exactly(&tuple("doc:1#viewer@user:rita").key);
    let absent = TupleFilter::exactly(&tuple("doc:1#viewer@user:tom").key);
    let matching = [there, of_type("doc"), of_type("group")];
    let missing = [
        absent,
        of_type("user"),
        TupleFilter { object_id: Some(ObjectId::new("2").unwrap()), ..of_type("doc") },
        TupleFilter { relation: Some(RelationName::new("parent").unwrap()), ..of_type("doc") },
    ];
    let with = |precondition: Precondition| WriteTuples {
        preconditions: vec![Precondition::MustMatch(of_type("doc")), precondition],
        ..write_request(vec![update(UpdateKind::Touch, "doc:7#viewer@user:tom")])
    };
    let failed = [Kind::FailedPrecondition];
    for filter in &matching {
        nothing_comes_of(&engine, &failed, || engine.write_tuples(with(Precondition::MustNotMatch(filter.clone()))));
    }
    for filter in &missing {
        nothing_comes_of(&engine, &failed, || engine.write_tuples(with(Precondition::MustMatch(filter.clone()))));
    }
    for precondition in matching.map(Precondition::MustMatch).into_iter().chain(missing.map(Precondition::MustNotMatch))
    {
        engine.write_tuples(with(precondition)).unwrap_or_else(|error| panic!("{}", told(&error)));
    }
    engine.assert_allows("doc:7#view@user:tom");
}

/// What a write is about to do does not count for its own preconditions.
#[test]
fn a_precondition_sees_the_state_before_its_write() {
    let engine = standing();
    let key = tuple("doc:7#viewer@user:tom").key;
    let request = |precondition| WriteTuples {
        preconditions: vec![precondition],
        ..write_request(vec![update(UpdateKind::Touch, "doc:7#viewer@user:tom")])
    };
    let must = request(Precondition::MustMatch(TupleFilter::exactly(&key)));
    nothing_comes_of(&engine, &[Kind::FailedPrecondition], || engine.write_tuples(must));
    engine.write_tuples(request(Precondition::MustNotMatch(TupleFilter::exactly(&key)))).unwrap();
}

/// Eight threads race for a lock; a precondition checked outside the commit would let two in.
#[test]
fn a_lock_made_of_a_precondition_has_one_holder() {
    let engine = TestEngine::with_schema(SCHEMA);
    for round in 0..50 {
        let held = TupleFilter { object_id: Some(ObjectId::new(format!("lock{round}")).unwrap()), ..of_type("doc") };
        let winners = std::thread::scope(|scope| {
            let racing: Vec<_> = (0..8)
                .map(|thread| {
                    let request = WriteTuples {
                        preconditions: vec![Precondition::MustNotMatch(held.clone())],
                        ..write_request(vec![update(
                            UpdateKind::Touch,
                            &format!("doc:lock{round}#viewer@user:t{thread}"),
                        )])
                    };
                    let engine = &engine;
                    scope.spawn(move || match engine.write_tuples(request) {
                        Ok(_) => 1,
                        Err(error) => {
                            assert_eq!(error.kind, Kind::FailedPrecondition, "{}", told(&error));
                            0
                        }
                    })
                })
                .collect();
            racing.into_iter().map(|racer| racer.join().unwrap()).sum::<u32>()
        });
        assert_eq!(winners, 1, "round {round}");
        assert_eq!(engine.read(held).len(), 1);
    }
}

/// The same for CREATE alone.
#[test]
fn of_racing_creates_one_wins() {
    let engine = TestEngine::with_schema(SCHEMA);
    for round in 0..50 {
        let text = format!("doc:{round}#viewer@user:rita");
        let won = std::thread::scope(|scope| {
            let create = || engine.try_update(UpdateKind::Create, &text).is_ok();
            let racing: Vec<_> = (0..4).map(|_| scope.spawn(create)).collect();
            racing.into_iter().map(|racer| racer.join().unwrap()).filter(|won| *won).count()
        });
        assert_eq!(won, 1, "round {round}");
    }
}

#[test]
fn delete_by_filter_takes_exactly_what_matches() {
    let engine = TestEngine::with_schema(SCHEMA);
    let all: Vec<String> = (0..40)
        .map(|n| match n % 4 {
            0 => format!("doc:{n}#viewer@user:rita"),
            1 => format!("doc:{n}#viewer@group:eng#member"),
            2 => format!("doc:{n}#parent@doc:0"),
            _ => format!("group:g{n}#member@user:rita"),
        })
        .collect();
    engine.touch(&all);
    let usersets = SubjectFilter {
        subject_type: TypeName::new("group").unwrap(),
        id: None,
        relation: SubjectRelationFilter::Relation(RelationName::new("member").unwrap()),
    };
    let delete =
        |filter, preconditions| engine.delete_tuples(DeleteTuples { filter, preconditions, ..DeleteTuples::default() });
    let filter = TupleFilter { subject: Some(usersets), ..of_type("doc") };
    let unmet = vec![Precondition::MustMatch(of_type("user"))];
    nothing_comes_of(&engine, &[Kind::FailedPrecondition], || delete(filter.clone(), unmet));
    let deleted = delete(filter.clone(), Vec::new()).unwrap();
    assert_eq!(deleted.count, 10);
    let mut left: Vec<String> = all.iter().filter(|text| !text.contains("@group:eng")).cloned().collect();
    left.sort();
    assert_eq!(engine.everything(), left);
    assert_eq!(delete(filter, Vec::new()).unwrap().count, 0, "nothing is left to delete");
    assert_eq!(delete(of_type("group"), Vec::new()).unwrap().count, 10);
    assert_eq!(engine.everything().len(), 20);
    engine.assert_denies("group:g3#member@user:rita");
    engine.assert_allows("doc:2#view@user:rita");
}

#[test]
fn a_schema_that_would_make_tuples_impossible_is_refused() {
    let engine = TestEngine::with_schema(SCHEMA);
    engine.touch([
        "doc:1#viewer@group:a#member",
        "doc:2#viewer@group:a#member",
        "doc:3#viewer@group:b#member",
        "doc:1#viewer@user:*",
    ]);
    let narrower =
        SCHEMA.replace("user | user:* | group#member\n  relation parent", "user | user:*\n  relation parent");
    assert_ne!(narrower, SCHEMA);
    let error =
        nothing_comes_of(&engine, &[Kind::FailedPrecondition], || engine.write_schema(schema_request(&narrower)));
    assert_eq!(error.reason, "SCHEMA_BREAKS_TUPLES", "{}", told(&error));
    let said = format!("{} {:?} {:?}", error.message, error.hint, error.facts);
    assert!(
        said.contains('3') && said.contains("#viewer@group:") && said.contains("group#member"),
        "no count, form or sample: {said}"
    );

    let dry = || engine.write_schema(WriteSchema { dry_run: true, ..schema_request(&narrower) });
    let before = (engine.info().revision, engine.info().schema_digest);
    let impact = dry().unwrap().impact;
    assert_eq!((engine.info().revision, engine.info().schema_digest), before, "a dry run writes nothing");
    assert_eq!(impact.len(), 1);
    assert_eq!(
        (impact[0].relation.as_str(), impact[0].form.as_str(), impact[0].count),
        ("doc#viewer", "group#member", 3)
    );
    let sample = impact[0].sample.as_ref().expect("a sample").to_string();
    assert!(engine.everything().contains(&sample), "{sample}");

    for (old, new, form) in [
        ("  relation viewer: user | user:* | group#member\n", "  relation viewer: user | group#member\n", "user:*"),
        ("relation viewer: user | user:* | group#member", "relation viewer: user", "group#member"),
        ("relation viewer: user |", "relation readers: user |", "group#member"),
    ] {
        let text = SCHEMA
            .replace(old, new)
            .replace("view = viewer", if new.contains("readers") { "view = readers" } else { "view = viewer" });
        let error =
            nothing_comes_of(&engine, &[Kind::FailedPrecondition], || engine.write_schema(schema_request(&text)));
        assert_eq!(error.reason, "SCHEMA_BREAKS_TUPLES");
        let impact = engine.write_schema(WriteSchema { dry_run: true, ..schema_request(&text) }).unwrap().impact;
        assert!(impact.iter().any(|one| one.form == form), "{form}");
    }
    let error = nothing_comes_of(&engine, &[Kind::FailedPrecondition], || {
        engine.write_schema(schema_request("definition user {}"))
    });
    assert_eq!(error.reason, "SCHEMA_BREAKS_TUPLES");

    // Once they are gone it is accepted.
    let filter = of_type("doc");
    engine.delete_tuples(DeleteTuples { filter, ..DeleteTuples::default() }).unwrap();
    engine.schema(&narrower);
    refused(
        engine.try_update(UpdateKind::Touch, "doc:1#viewer@group:a#member"),
        &[Kind::FailedPrecondition, Kind::InvalidArgument],
    );
}

/// Counters, not a scan, decide: so they must not drift, whatever was written how often, and over restarts.
#[test]
fn counts_of_live_tuples_do_not_drift() {
    let mut engine = TestEngine::with_schema(SCHEMA);
    let narrower = SCHEMA.replace(" | user:*", "");
    let text = "doc:1#viewer@user:*";
    for _ in 0..3 {
        engine.try_update(UpdateKind::Touch, text).unwrap();
        let _ = engine.try_update(UpdateKind::Create, text);
    }
    engine.reopen();
    let impact = engine.write_schema(WriteSchema { dry_run: true, ..schema_request(&narrower) }).unwrap().impact;
    assert_eq!(impact.iter().map(|one| one.count).sum::<u64>(), 1);
    for _ in 0..3 {
        engine.try_update(UpdateKind::Delete, text).unwrap();
    }
    engine.try_update(UpdateKind::Touch, "doc:2#viewer@user:*").unwrap();
    engine.reopen();
    nothing_comes_of(&engine, &[Kind::FailedPrecondition], || engine.write_schema(schema_request(&narrower)));
    engine.try_update(UpdateKind::Delete, "doc:2#viewer@user:*").unwrap();
    engine.schema(&narrower);
}

#[test]
fn a_digest_guards_against_another_writer() {
    let engine = TestEngine::with_schema(SCHEMA);
    let mine = engine.read_schema(Consistency::Newest).unwrap().digest;
    assert_eq!(engine.info().schema_digest.as_deref(), Some(mine.as_str()));
    let with =
        |text: &str, digest: &str| WriteSchema { expected_digest: Some(digest.to_owned()), ..schema_request(text) };
    let wider = format!("{SCHEMA}\ndefinition org {{}}");
    let written = engine.write_schema(with(&wider, &mine)).unwrap();
    assert_ne!(written.digest, mine);
    assert!(!written.changes.is_empty(), "what changed is told");
    let error = nothing_comes_of(&engine, &[Kind::FailedPrecondition], || engine.write_schema(with(SCHEMA, &mine)));
    assert!(!error.message.is_empty());
    engine.write_schema(with(SCHEMA, &written.digest)).unwrap();
    assert_eq!(engine.read_schema(Consistency::Newest).unwrap().text, SCHEMA, "byte for byte");
}

#[test]
fn a_schema_that_does_not_compile_leaves_the_old_one() {
    let engine = standing();
    for bad in [
        "definition user {",
        "definition user {} definition doc { permission view = viwer }",
        "definition user {} definition doc { relation viewer: usr permission view = viewr }",
        "definition user {} definition user {}",
        "definition d { permission a = b permission b = a }",
        "definition user {} definition d { relation r: user | d#p permission p = r - p }",
        "",
    ] {
        let kinds = [Kind::InvalidArgument, Kind::FailedPrecondition];
        let error = nothing_comes_of(&engine, &kinds, || engine.write_schema(schema_request(bad)));
        if !bad.is_empty() {
            assert!(error.diagnostics.iter().any(|one| one.is_error && one.line >= 1 && one.column >= 1), "{bad}");
        }
        engine.assert_allows("doc:1#view@user:rita");
    }
}

/// A type removed and added again must not bring old tuples or ids back to life.
#[test]
fn a_type_that_comes_back_is_empty() {
    let engine = TestEngine::with_schema(SCHEMA);
    engine.touch(["doc:1#viewer@user:rita"]);
    engine.try_update(UpdateKind::Delete, "doc:1#viewer@user:rita").unwrap();
    engine.schema("definition user {}");
    engine.schema(SCHEMA);
    engine.assert_denies("doc:1#view@user:rita");
    assert_eq!(engine.everything(), Vec::<String>::new());
    engine.touch(["doc:1#viewer@user:rita"]);
    engine.assert_allows("doc:1#view@user:rita");
}

/// A new order of definitions and members changes no meaning of what is stored.
#[test]
fn numbers_of_names_do_not_come_from_the_schemas_order() {
    let mut engine =
        TestEngine::with_schema("definition user {}\ndefinition doc {\n relation a: user\n relation b: user\n}");
    engine.touch(["doc:1#a@user:rita"]);
    engine
        .schema("definition doc {\n relation zero: user\n relation b: user\n relation a: user\n}\ndefinition user {}");
    for _ in 0..2 {
        engine.assert_allows("doc:1#a@user:rita");
        engine.assert_denies("doc:1#b@user:rita");
        engine.assert_denies("doc:1#zero@user:rita");
        engine.reopen();
    }
}

/// A guard over a relation that nothing has would always hold: the misspelling is told instead.
#[test]
fn a_misspelt_relation_guards_nothing_and_deletes_nothing() {
    let engine = standing();
    let filter =
        TupleFilter { relation: Some("viewr".parse::<RelationName>().expect("a name")), ..TupleFilter::default() };
    let before = engine.everything();
    let deletion = DeleteTuples { filter: filter.clone(), ..DeleteTuples::default() };
    let error = engine.delete_tuples(deletion).expect_err("no type has it");
    assert_eq!((error.kind, error.reason), (Kind::FailedPrecondition, "UNKNOWN_RELATION"), "{}", told(&error));
    let guarded = WriteTuples {
        preconditions: vec![Precondition::MustNotMatch(filter)],
        ..write_request(vec![update(UpdateKind::Touch, "doc:2#viewer@user:rita")])
    };
    let error = engine.write_tuples(guarded).expect_err("no type has it");
    assert_eq!(error.reason, "UNKNOWN_RELATION", "{}", told(&error));
    assert_eq!(engine.everything(), before);
}

/// The committer waits while preconditions look through tuples, so how many is bounded for all of them together.
#[test]
fn preconditions_look_through_so_many_tuples_and_no_more() {
    let engine = TestEngine::with_limits(Limits { precondition_rows_max: 10, ..Limits::default() });
    engine.schema(SCHEMA);
    engine.touch((0..8).map(|n| format!("doc:{n}#viewer@user:rita")));
    let nobody = || {
        let mut filter = TupleFilter::exactly(&tuple("doc:0#viewer@group:eng#member").key);
        filter.object_id = None;
        if let Some(subject) = &mut filter.subject {
            subject.id = None;
        }
        Precondition::MustNotMatch(filter)
    };
    let guarded = |times: usize| WriteTuples {
        preconditions: (0..times).map(|_| nobody()).collect(),
        ..write_request(vec![update(UpdateKind::Touch, "doc:9#viewer@user:dana")])
    };
    let before = engine.everything();
    let error = engine.write_tuples(guarded(2)).expect_err("16 tuples are more than 10");
    assert_eq!((error.kind, error.reason), (Kind::ResourceExhausted, "PRECONDITIONS_TOO_WIDE"), "{}", told(&error));
    assert_eq!(engine.everything(), before);
    engine.write_tuples(guarded(1)).expect("eight are within it");
}

/// A request that forgot its schema must not take away the one in force.
#[test]
fn an_empty_schema_replaces_nothing() {
    let engine = standing();
    let before = engine.info().schema_digest;
    let error = engine.write_schema(schema_request("")).expect_err("there is none");
    assert_eq!((error.kind, error.reason), (Kind::InvalidArgument, "INVALID_ARGUMENT"), "{}", told(&error));
    assert_eq!(engine.info().schema_digest, before);
}

#[test]
fn what_a_write_would_refuse_a_request_may_not_take_for_given() {
    let engine = TestEngine::with_schema(
        "use hierarchy\ndefinition user {}\ndefinition folder { relation viewer: user; parent up: folder; permission view = viewer + up->view }",
    );
    engine.touch(["folder:b#up@folder:a", "folder:c#up@folder:b", "folder:a#viewer@user:rita"]);
    let under = |tuples: &[&str]| {
        let contextual_tuples = tuples.iter().map(|text| tuple(text)).collect();
        let situation = Situation { contextual_tuples, ..Situation::default() };
        let options = CheckOptions { situation, ..CheckOptions::default() };
        engine.check(&question("folder:d#view@user:rita"), &options).map(|found| found.answer.decision)
    };
    assert_eq!(under(&["folder:d#up@folder:c"]).unwrap(), Decision::Allow);
    // One that closes a cycle with what is stored, and two that do so by themselves.
    for (closing, field) in [
        (&["folder:d#up@folder:c", "folder:a#up@folder:d"] as &[&str], "contextual_tuples[0]"),
        (&["folder:d#viewer@user:dana", "folder:a#up@folder:c"], "contextual_tuples[1]"),
        (&["folder:x#up@folder:y", "folder:y#up@folder:x"], "contextual_tuples[0]"),
        (&["folder:x#up@folder:x"], "contextual_tuples[0]"),
    ] {
        let error = refused(under(closing), &[Kind::FailedPrecondition]);
        assert_eq!(error.reason, "PARENT_CYCLE");
        assert!(error.facts.contains(&("field", field.to_owned())), "{error:?}");
    }
    // A write of it is refused alike, by its place.
    let closing = ["folder:d#viewer@user:dana", "folder:a#up@folder:c"].map(|text| update(UpdateKind::Touch, text));
    let error = refused(engine.write_tuples(write_request(closing.into())), &[Kind::FailedPrecondition]);
    assert_eq!(error.reason, "PARENT_CYCLE");
    assert!(error.facts.contains(&("field", "updates[1].tuple".to_owned())), "{error:?}");
    for (wrong, reason) in [
        (&["folder:d#up@user:rita"] as &[&str], "SUBJECT_NOT_ALLOWED"),
        (&["folder:d#view@user:rita"], "NOT_A_RELATION"),
        (&["cabinet:d#view@user:rita"], "UNKNOWN_TYPE"),
        (&["folder:d#viewer@user:rita", "folder:d#viewer@user:rita"], "DUPLICATE_TUPLE"),
    ] {
        let error = refused(under(wrong), &[Kind::FailedPrecondition, Kind::InvalidArgument]);
        assert_eq!(error.reason, reason);
    }
    assert_eq!(engine.everything().len(), 3);
}

#[test]
fn what_is_there_already_and_what_does_not_hold_are_named_by_their_place() {
    let engine = standing();
    let create = |text: &str| update(UpdateKind::Create, text);
    let updates = vec![create("doc:2#viewer@user:rita"), create("doc:1#viewer@user:rita")];
    let error = refused(engine.write_tuples(write_request(updates)), &[Kind::AlreadyExists]);
    assert!(error.facts.contains(&("field", "updates[1].tuple".to_owned())), "{error:?}");
    let there = |text: &str| Precondition::MustMatch(TupleFilter::exactly(&tuple(text).key));
    let request = WriteTuples {
        updates: vec![create("doc:2#viewer@user:rita")],
        preconditions: vec![there("doc:1#viewer@user:rita"), there("doc:9#viewer@user:rita")],
        metadata: Metadata::new(),
    };
    let error = refused(engine.write_tuples(request), &[Kind::FailedPrecondition]);
    assert!(error.facts.contains(&("field", "preconditions[1]".to_owned())), "{error:?}");
}

/// The committer stands, and its queue is full. Whoever only wants to know what a deletion would remove is told, and so is
/// whoever may not remove so much.
#[test]
fn a_deletion_is_looked_for_without_the_committer() {
    let engine = TestEngine::with_limits(Limits { commit_queue_max: 1, delete_tuples_max: 2, ..Limits::default() });
    engine.schema(SCHEMA);
    engine.touch(["doc:1#viewer@user:rita", "doc:2#viewer@user:rita"]);
    let ((heard, standing), (go_on, waiting)) = (mpsc::channel(), mpsc::channel::<()>());
    let waiting = Mutex::new(waiting);
    // It is called on the committing thread, and returns when there is nobody left to say anything.
    let listening = engine.listen(Arc::new(move |_| {
        let _ = heard.send(());
        let _ = waiting.lock().map(|waiting| waiting.recv());
    }));
    let (dry, refusal, full) = std::thread::scope(|scope| {
        let (outcome, outcomes) = mpsc::channel();
        let write = |id: &str| engine.try_update(UpdateKind::Touch, &format!("doc:{id}#viewer@user:dana"));
        scope.spawn(move || write("3"));
        let _ = standing.recv();
        for id in ["4", "5"] {
            let outcome = outcome.clone();
            scope.spawn(move || outcome.send(write(id)));
        }
        // Of the two one waits in the queue, and the other finds it full.
        let full = outcomes.recv();
        let delete = |subject: &str, dry_run| {
            let filter = TupleFilter {
                subject: TupleFilter::exactly(&tuple(&format!("doc:1#viewer@user:{subject}")).key).subject,
                ..TupleFilter::default()
            };
            engine.delete_tuples(DeleteTuples { filter, dry_run, ..DeleteTuples::default() })
        };
        let dry = delete("rita", true);
        let everything = DeleteTuples { filter: of_type("doc"), ..DeleteTuples::default() };
        let refusal = engine.delete_tuples(everything);
        drop(go_on);
        (dry, refusal, full)
    });
    drop(listening);
    assert_eq!(refused(full.expect("an outcome"), &[Kind::Unavailable]).reason, "WRITE_QUEUE_FULL");
    assert_eq!(dry.unwrap_or_else(|error| panic!("{}", told(&error))).count, 2);
    assert_eq!(refused(refusal, &[Kind::ResourceExhausted]).reason, "TOO_MANY_TUPLES");
}

/// Beside writers of the same objects, what was written before a deletion's revision is gone at it. Only what was committed
/// together with the deletion may stand there.
#[test]
fn a_deletion_beside_writes_removes_all_that_was_there_at_its_revision() {
    let engine = TestEngine::with_schema(SCHEMA);
    let (written, left, removed) = std::thread::scope(|scope| {
        let write = |writer: usize| {
            let touch = |n: usize| {
                let text = format!("doc:d{}#viewer@user:w{writer}x{n}", n % 2);
                (text.clone(), engine.touch([text]))
            };
            (0..300).map(touch).collect::<Vec<(String, Revision)>>()
        };
        let writers = [0, 1, 2].map(|writer| scope.spawn(move || write(writer)));
        let (mut left, mut removed) = (Vec::new(), 0);
        for n in 0..150 {
            let filter = TupleFilter { object_id: ObjectId::new(format!("d{}", n % 2)).ok(), ..of_type("doc") };
            let deleted = engine.delete_tuples(DeleteTuples { filter: filter.clone(), ..DeleteTuples::default() });
            let deleted = deleted.unwrap_or_else(|error| panic!("{}", told(&error)));
            removed += deleted.count;
            let consistency = Consistency::AtExactSnapshot(engine.token(deleted.revision));
            let request = ReadTuples { filter, consistency, cursor: None };
            let page =
                engine.read_tuples(request, &Cancel::default()).expect("a reader").next_page(1_000, &Cancel::default());
            left.extend(page.expect("a page").into_iter().map(|row| (row.tuple.to_string(), deleted.revision)));
        }
        let written = writers.map(|writer| writer.join().expect("what it wrote")).concat();
        (written.into_iter().collect::<BTreeMap<String, Revision>>(), left, removed)
    });
    for (text, revision) in left {
        assert_eq!(written.get(&text), Some(&revision), "{text} was left at {revision:?}");
    }
    assert_eq!(removed + engine.everything().len() as u64, 900);
    engine.assert_verified();
}
