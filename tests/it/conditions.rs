//! Caveats, expiry and the hierarchy: what a tuple's own conditions do to an answer, by hand.

use crate::engines::{TestEngine, question, told, tuple, update, write_request};
use procura::engine::{CheckOptions, Clock, Collector, Engine, Kind, Options, Situation};
use procura::model::{Cancel, Context, Decision, Timestamp, TupleFilter, UpdateKind};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const CAVEATED: &str = "
caveat on_net(ip ipaddress, cidr string) { ip.in_cidr(cidr) }
caveat level(have int, need int) { have >= need }
caveat divides(by int) { 10 / by > 1 }
definition user {}
definition group { relation member: user | user with level }
definition folder { relation viewer: user with level }
definition doc {
  relation viewer: user | user with on_net | user:* with level | group#member | group#member with on_net
  relation banned: user with level | user with divides
  relation folder: folder | folder with on_net
  permission view = viewer - banned
  permission both = viewer & banned
  permission up = folder->viewer
  permission every = folder.all(viewer)
}";

fn context(json: &str) -> Context {
    serde_json::from_str(json).expect("a JSON object")
}

/// The decision, and the fields missing.
fn ask(engine: &Engine, asked: &str, given: &str) -> (Decision, String) {
    let options = CheckOptions {
        situation: Situation { context: context(given), ..Situation::default() },
        ..CheckOptions::default()
    };
    match engine.check(&question(asked), &options) {
        Ok(found) => (found.answer.decision, found.answer.missing.join(",")),
        Err(error) => panic!("{asked} {given}: {}", told(&error)),
    }
}

#[test]
fn a_caveat_names_what_it_lacks_and_decides_when_it_has_it() {
    let engine = TestEngine::with_schema(CAVEATED);
    engine.touch([
        r#"doc:1#viewer@user:rita[on_net:{"cidr":"10.0.0.0/8"}]"#,
        r#"doc:1#viewer@user:*[level:{"need":3}]"#,
        r#"doc:2#viewer@group:g#member[on_net:{"cidr":"10.0.0.0/8"}]"#,
        r#"group:g#member@user:dana[level:{"need":1}]"#,
        "group:g#member@user:tom",
    ]);
    for (asked, given, decision, missing) in [
        ("doc:1#view@user:rita", "{}", Decision::Conditional, "have,ip"),
        ("doc:1#view@user:rita", r#"{"ip":"10.1.1.1"}"#, Decision::Allow, ""),
        ("doc:1#view@user:rita", r#"{"ip":"11.1.1.1"}"#, Decision::Conditional, "have"),
        ("doc:1#view@user:rita", r#"{"ip":"11.1.1.1","have":2}"#, Decision::Deny, ""),
        ("doc:1#view@user:rita", r#"{"have":3}"#, Decision::Allow, ""),
        // What is stored wins over what is sent along.
        ("doc:1#view@user:dana", r#"{"have":2,"need":1}"#, Decision::Deny, ""),
        ("doc:2#view@user:dana", "{}", Decision::Conditional, "have,ip"),
        ("doc:2#view@user:dana", r#"{"have":0}"#, Decision::Deny, ""),
        ("doc:2#view@user:tom", "{}", Decision::Conditional, "ip"),
        ("doc:2#view@user:tom", r#"{"ip":"10.0.0.1","unknown":[1]}"#, Decision::Allow, ""),
        ("doc:2#view@user:nobody", "{}", Decision::Deny, ""),
    ] {
        assert_eq!(ask(&engine, asked, given), (decision, missing.to_owned()), "{asked} {given}");
    }
}

#[test]
fn operators_combine_three_values() {
    let engine = TestEngine::with_schema(CAVEATED);
    engine.touch([
        "doc:1#viewer@user:rita",
        r#"doc:1#banned@user:rita[level:{"need":3}]"#,
        r#"doc:1#folder@folder:a[on_net:{"cidr":"10.0.0.0/8"}]"#,
        "doc:1#folder@folder:b",
        r#"folder:a#viewer@user:rita[level:{"need":1}]"#,
        r#"folder:b#viewer@user:rita[level:{"need":5}]"#,
    ]);
    for (asked, given, decision, missing) in [
        ("doc:1#view@user:rita", "{}", Decision::Conditional, "have"),
        ("doc:1#view@user:rita", r#"{"have":3}"#, Decision::Deny, ""),
        ("doc:1#view@user:rita", r#"{"have":2}"#, Decision::Allow, ""),
        ("doc:1#both@user:rita", "{}", Decision::Conditional, "have"),
        ("doc:1#both@user:rita", r#"{"have":2}"#, Decision::Deny, ""),
        ("doc:1#both@user:dana", "{}", Decision::Deny, ""),
        ("doc:1#up@user:rita", "{}", Decision::Conditional, "have,ip"),
        ("doc:1#up@user:rita", r#"{"have":1}"#, Decision::Conditional, "ip"),
        ("doc:1#up@user:rita", r#"{"have":5}"#, Decision::Allow, ""),
        // A row whose caveat fails counts as Not under `.all`.
        ("doc:1#every@user:rita", r#"{"have":5,"ip":"10.0.0.1"}"#, Decision::Allow, ""),
        ("doc:1#every@user:rita", r#"{"have":5,"ip":"11.0.0.1"}"#, Decision::Deny, ""),
        ("doc:1#every@user:rita", r#"{"have":5}"#, Decision::Conditional, "ip"),
        ("doc:1#every@user:rita", r#"{"have":1}"#, Decision::Deny, ""),
    ] {
        assert_eq!(ask(&engine, asked, given), (decision, missing.to_owned()), "{asked} {given}");
    }
}

#[test]
fn conditional_cycles_name_every_field_that_matters() {
    let engine = TestEngine::with_schema(
        "caveat c1(a bool) { a } caveat c2(b bool) { b } caveat c3(c bool) { c }
        definition user {}
        definition group { relation member: user with c1 | group#member with c2 | group#member | user with c3 }",
    );
    engine.touch([
        "group:x#member@group:y#member",
        "group:y#member@group:z#member[c2]",
        "group:z#member@group:x#member",
        "group:z#member@user:rita[c1]",
        "group:y#member@user:tom[c3]",
    ]);
    assert_eq!(ask(&engine, "group:x#member@user:rita", "{}"), (Decision::Conditional, "a,b".to_owned()));
    assert_eq!(ask(&engine, "group:z#member@user:rita", "{}"), (Decision::Conditional, "a".to_owned()));
    assert_eq!(ask(&engine, "group:z#member@user:tom", "{}"), (Decision::Conditional, "c".to_owned()));
    assert_eq!(ask(&engine, "group:x#member@user:rita", r#"{"a":true}"#), (Decision::Conditional, "b".to_owned()));
    assert_eq!(ask(&engine, "group:x#member@user:rita", r#"{"a":true,"b":true}"#).0, Decision::Allow);
    assert_eq!(ask(&engine, "group:x#member@user:rita", r#"{"b":false}"#).0, Decision::Deny);
}

#[test]
fn a_caveat_that_fails_is_unknown_and_never_a_no_on_the_right_of_an_exclusion() {
    let engine = TestEngine::with_schema(CAVEATED);
    engine.touch([
        "doc:1#viewer@user:rita",
        r#"doc:1#banned@user:rita[divides:{"by":0}]"#,
        r#"doc:2#banned@user:rita[divides:{"by":0}]"#,
        "doc:3#viewer@user:rita",
        r#"doc:3#viewer@user:*[level]"#,
    ]);
    let error = engine.decide("doc:1#view@user:rita").expect_err("the ban cannot be judged");
    assert_eq!((error.kind, error.reason), (Kind::FailedPrecondition, "CAVEAT_FAILED"), "{}", told(&error));
    assert!(error.hint.as_deref().is_some_and(|hint| hint.contains("delete it")), "{:?}", error.hint);
    assert!(error.message.contains("divides") && error.message.contains("doc:1#banned@user:rita"), "{error}");
    // Where the rest decides, that stands.
    engine.assert_denies("doc:2#view@user:rita");
    let options = CheckOptions {
        situation: Situation { context: context(r#"{"have":"no number","need":1}"#), ..Situation::default() },
        ..CheckOptions::default()
    };
    let found = engine.check(&question("doc:3#view@user:rita"), &options).expect("a plain tuple decides");
    assert_eq!(found.answer.decision, Decision::Allow);
    // Here what was asked with is at fault, and so it is where a tuple is given that was not written.
    let error = engine.check(&question("doc:3#view@user:dana"), &options).expect_err("`have` is no number");
    assert_eq!((error.kind, error.reason), (Kind::InvalidArgument, "CAVEAT_FAILED"), "{}", told(&error));
    let contextual_tuples = vec![tuple("doc:1#viewer@user:tom"), tuple(r#"doc:1#banned@user:tom[divides:{"by":0}]"#)];
    let situation = Situation { contextual_tuples, ..Situation::default() };
    let options = CheckOptions { situation, ..CheckOptions::default() };
    let error = engine.check(&question("doc:1#view@user:tom"), &options).expect_err("the given ban cannot be judged");
    assert_eq!(error.kind, Kind::InvalidArgument, "{}", told(&error));
}

#[test]
fn a_stored_context_that_its_caveat_cannot_use_is_refused_by_the_write() {
    let engine = TestEngine::with_schema(CAVEATED);
    for (written, said) in [
        (r#"doc:1#viewer@user:rita[on_net:{"cidr":"junk"}]"#, "not written as `address/bits` in `ip.in_cidr(cidr)`"),
        (r#"doc:1#viewer@user:rita[on_net:{"ip":"junk"}]"#, "no ipaddress"),
    ] {
        let request = write_request(vec![update(UpdateKind::Touch, written)]);
        let error = engine.write_tuples(request).expect_err("it can never be used");
        assert_eq!((error.kind, error.reason), (Kind::FailedPrecondition, "CAVEAT_CONTEXT_NOT_ALLOWED"));
        assert!(error.message.contains(said) && error.message.starts_with("updates[0].tuple"), "{error}");
    }
}

#[test]
fn what_a_relation_does_not_take_is_refused_at_write() {
    let engine = TestEngine::with_schema(CAVEATED);
    for (text, reason) in [
        ("doc:1#viewer@user:rita[level]", "SUBJECT_NOT_ALLOWED"),
        ("doc:1#banned@user:rita", "SUBJECT_NOT_ALLOWED"),
        ("doc:1#viewer@user:rita[nothing]", "UNKNOWN_CAVEAT"),
        (r#"doc:1#viewer@user:rita[on_net:{"cidr":1}]"#, "CAVEAT_CONTEXT_NOT_ALLOWED"),
        (r#"doc:1#viewer@user:rita[on_net:{"extra":1}]"#, "CAVEAT_CONTEXT_NOT_ALLOWED"),
        ("doc:1#viewer@user:rita[expiration:2030-01-01T00:00:00Z]", "SUBJECT_NOT_ALLOWED"),
    ] {
        let error = engine.try_update(UpdateKind::Touch, text).expect_err(text);
        assert_eq!((error.kind, error.reason), (Kind::FailedPrecondition, reason), "{text}: {}", told(&error));
    }
    assert!(engine.everything().is_empty());
    let stored = r#"doc:1#viewer@user:rita[on_net:{"cidr":"10.0.0.0/8"}]"#;
    engine.touch([stored]);
    assert_eq!(engine.everything(), [stored]);
    // A schema without the form is refused while a tuple stands in it; without another form it is not.
    let without = CAVEATED.replace("user | user with on_net |", "user |");
    let error = engine.try_schema(&without).expect_err("a tuple stands in the way");
    assert_eq!(error.reason, "SCHEMA_BREAKS_TUPLES");
    assert!(error.message.contains("user with on_net"), "{error}");
    engine.schema(&CAVEATED.replace("relation viewer: user | user with on_net", "relation viewer: user with on_net"));
    engine.assert_verified();
}

/// A clock that says what the test says.
#[derive(Default)]
struct SetClock(Mutex<i64>);

impl SetClock {
    fn set(&self, seconds: i64) {
        *self.0.lock().expect("no panic holds it") = seconds;
    }
}

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp::new(*self.0.lock().expect("no panic holds it"), 0).expect("an instant")
    }
}

fn at(seconds: i64) -> String {
    Timestamp::new(seconds, 0).expect("an instant").to_string()
}

const EXPIRING: &str = "use expiration
definition user {}
definition group { relation member: user with expiration }
definition doc {
  relation viewer: user | user with expiration | group#member with expiration
  relation banned: user with expiration
  permission view = viewer - banned
}";

fn expiring(collector: Collector) -> (Arc<SetClock>, tempfile::TempDir, Engine) {
    let clock = Arc::new(SetClock::default());
    clock.set(1_000);
    let folder = tempfile::tempdir().expect("a folder");
    let options = Options { clock: clock.clone(), collector, ..Options::at(folder.path()) };
    let engine = Engine::open(options).expect("it opens");
    engine.write_schema(crate::engines::schema_request(EXPIRING)).expect("a schema");
    (clock, folder, engine)
}

fn write(engine: &Engine, kind: UpdateKind, tuples: &[String]) -> Result<(), procura::engine::Error> {
    engine.write_tuples(write_request(tuples.iter().map(|text| update(kind, text)).collect())).map(drop)
}

#[test]
fn an_end_is_exclusive_everywhere() {
    let (clock, _folder, engine) = expiring(Collector::Off);
    write(
        &engine,
        UpdateKind::Create,
        &[
            format!("doc:1#viewer@user:rita[expiration:{}]", at(2_000)),
            format!("doc:1#viewer@group:g#member[expiration:{}]", at(3_000)),
            format!("group:g#member@user:tom[expiration:{}]", at(2_500)),
            "doc:2#viewer@user:rita".to_owned(),
            format!("doc:2#banned@user:rita[expiration:{}]", at(2_000)),
        ],
    )
    .expect("written");
    let decide = |asked: &str| {
        let found = engine.check(&question(asked), &CheckOptions::default()).expect("an answer").answer;
        (found.decision, found.valid_until.map(Timestamp::seconds))
    };
    let count = || {
        let request = procura::engine::ReadTuples { filter: TupleFilter::default(), ..Default::default() };
        engine
            .read_tuples(request, &Cancel::default())
            .expect("a reader")
            .next_page(100, &Cancel::default())
            .expect("a page")
            .len()
    };
    clock.set(1_999);
    assert_eq!(decide("doc:1#view@user:rita"), (Decision::Allow, Some(2_000)));
    assert_eq!(decide("doc:1#view@user:tom").0, Decision::Allow);
    assert_eq!(decide("doc:2#view@user:rita"), (Decision::Deny, Some(2_000)));
    assert_eq!(count(), 5);
    let again = write(&engine, UpdateKind::Create, &[format!("doc:1#viewer@user:rita[expiration:{}]", at(4_000))]);
    assert_eq!(again.expect_err("it is live").kind, Kind::AlreadyExists);
    clock.set(2_000);
    assert_eq!(decide("doc:1#view@user:rita").0, Decision::Deny);
    assert_eq!(decide("doc:2#view@user:rita"), (Decision::Allow, None), "the ban has ended");
    let (decision, until) = decide("doc:1#view@user:tom");
    assert_eq!(decision, Decision::Allow);
    assert!(until.is_some_and(|until| until <= 2_500), "{until:?} is no lower bound");
    assert_eq!(count(), 3);
    write(&engine, UpdateKind::Create, &[format!("doc:1#viewer@user:rita[expiration:{}]", at(4_000))])
        .expect("CREATE over a tuple that has ended");
    assert_eq!(decide("doc:1#view@user:rita").0, Decision::Allow);
    // The clock never goes back: what has ended once stays so.
    clock.set(1_500);
    assert_eq!(decide("doc:2#view@user:rita").0, Decision::Allow);
    clock.set(2_500);
    assert_eq!(decide("doc:1#view@user:tom").0, Decision::Deny);
    // Tuples that have ended do not stand in the way of a schema.
    let without = EXPIRING.replace("  relation banned: user with expiration\n", "").replace(" - banned", "");
    engine.write_schema(crate::engines::schema_request(&without)).expect("only a tuple that has ended stood there");
}

#[test]
fn what_has_ended_is_collected_and_the_log_says_so() {
    let (clock, _folder, engine) = expiring(Collector::On);
    let tuples: Vec<String> =
        (0..50).map(|n| format!("doc:{n}#viewer@user:rita[expiration:{}]", at(1_000 + n))).collect();
    write(&engine, UpdateKind::Touch, &tuples).expect("written");
    // Prolonged: its first end must not take it away.
    write(&engine, UpdateKind::Touch, &[format!("doc:3#viewer@user:rita[expiration:{}]", at(9_000))]).expect("written");
    let before = engine.info().expect("what it is").revision;
    clock.set(1_025);
    let patience = Instant::now() + Duration::from_secs(20);
    while engine.info().expect("what it is").revision == before {
        assert!(Instant::now() < patience, "nothing was collected in 20 s");
        std::thread::yield_now();
    }
    let found = engine.check(&question("doc:3#view@user:rita"), &CheckOptions::default()).expect("an answer");
    assert_eq!(found.answer.decision, Decision::Allow);
    let scratch = tempfile::tempdir().expect("a folder");
    let verified = engine.verify(scratch.path()).expect("the fold of the log is the state");
    assert!(verified.log_entries > 75, "{verified:?}");
    assert_eq!(tuple(&tuples[0]).to_string(), tuples[0]);
}

const HIERARCHY: &str = "use hierarchy
definition user {}
definition org { relation admin: user }
definition folder {
  parent up: folder | org
  relation note: folder
}";

#[test]
fn no_object_becomes_its_own_ancestor() {
    let engine = TestEngine::with_schema(HIERARCHY);
    engine.touch(["folder:a#up@folder:b", "folder:b#up@folder:c", "folder:c#up@org:o", "folder:c#note@folder:a"]);
    let refused = |tuples: &[&str]| {
        let updates = tuples.iter().map(|text| update(UpdateKind::Touch, text)).collect();
        let error = engine.write_tuples(write_request(updates)).expect_err("a cycle");
        assert_eq!((error.kind, error.reason), (Kind::FailedPrecondition, "PARENT_CYCLE"), "{}", told(&error));
        error.facts.iter().find(|(key, _)| *key == "tuple").map(|(_, tuple)| tuple.clone()).expect("the tuple")
    };
    let before = engine.everything();
    assert_eq!(refused(&["folder:c#up@folder:a"]), "folder:c#up@folder:a");
    assert_eq!(refused(&["folder:z#up@folder:z"]), "folder:z#up@folder:z");
    refused(&["folder:x#up@folder:y", "folder:y#up@folder:x"]);
    refused(&["folder:c#up@folder:new", "folder:new#up@folder:a"]);
    assert_eq!(engine.everything(), before, "nothing was written");
    // Moving a link in the same call is no cycle; a diamond is none either.
    engine
        .write_tuples(write_request(vec![
            update(UpdateKind::Delete, "folder:b#up@folder:c"),
            update(UpdateKind::Touch, "folder:c#up@folder:a"),
        ]))
        .expect("the old link is gone");
    engine.touch(["folder:c#up@folder:b", "folder:c#note@folder:c"]);
    engine.assert_verified();
}

#[test]
fn a_relation_becomes_a_parent_only_over_data_without_a_cycle() {
    let relation = HIERARCHY.replace("parent up", "relation up");
    let engine = TestEngine::with_schema(&relation);
    engine.touch(["folder:a#up@folder:b", "folder:b#up@folder:a", "folder:x#up@folder:a", "folder:a#up@org:o"]);
    let error = engine.try_schema(HIERARCHY).expect_err("live data has a cycle");
    assert_eq!(error.reason, "SCHEMA_BREAKS_TUPLES", "{}", told(&error));
    engine.try_update(UpdateKind::Delete, "folder:b#up@folder:a").expect("deleted");
    engine.schema(HIERARCHY);
}
