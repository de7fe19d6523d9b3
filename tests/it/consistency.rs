//! At which state a question is answered: tokens, exact snapshots, freshness, and what a restart leaves of them.
//!
//! What always holds: a token that cannot be honoured is refused, never ignored, and no answer is of another state than
//! the one asked for.

use crate::engines::{TestEngine, question, refused, told};
use procura::engine::{CheckOptions, Error, Kind, ReadTuples, Situation};
use procura::model::{Cancel, Consistency, ConsistencyToken, Decision, Limits, Revision, TupleFilter, UpdateKind};

const SCHEMA: &str = "definition user {}
definition doc {
  relation viewer: user
  relation banned: user
  permission view = viewer - banned
}";
const ASKED: &str = "doc:1#view@user:rita";
const GRANT: &str = "doc:1#viewer@user:rita";

/// Asks by every verb that takes a consistency.
fn everywhere(engine: &TestEngine, consistency: Consistency) -> Vec<(&'static str, Result<(), Error>)> {
    let options = CheckOptions { situation: Situation::at(consistency), ..CheckOptions::default() };
    let read = ReadTuples { filter: TupleFilter::default(), consistency, cursor: None };
    vec![
        ("check", engine.check(&question(ASKED), &options).map(drop)),
        ("check_bulk", engine.check_bulk(&[question(ASKED)], &options).map(drop)),
        (
            "read_tuples",
            engine
                .read_tuples(read, &Cancel::default())
                .and_then(|mut reader| reader.next_page(1, &Cancel::default()))
                .map(drop),
        ),
        ("read_schema", engine.read_schema(consistency).map(drop)),
    ]
}

fn refused_everywhere(engine: &TestEngine, token: ConsistencyToken, why: &str) {
    for consistency in [Consistency::AtLeastAsFresh(token), Consistency::AtExactSnapshot(token)] {
        for (verb, result) in everywhere(engine, consistency) {
            assert!(result.is_err(), "{verb} ignored a token {why}: {consistency:?}");
            refused(result, &[Kind::InvalidArgument, Kind::OutOfRange]);
        }
    }
}

#[test]
fn foreign_and_future_tokens_are_refused() {
    let (mine, other) = (TestEngine::with_schema(SCHEMA), TestEngine::with_schema(SCHEMA));
    mine.touch([GRANT]);
    mine.touch(["doc:2#viewer@user:rita"]);
    other.touch([GRANT]);
    let good = mine.token_now();
    refused_everywhere(&mine, other.token_now(), "of another database");
    refused_everywhere(
        &mine,
        ConsistencyToken { incarnation: good.incarnation.wrapping_add(1), ..good },
        "of another incarnation",
    );
    for ahead in [1, 1_000, u64::MAX - good.revision.0] {
        let revision = Revision(good.revision.0 + ahead);
        refused_everywhere(&mine, ConsistencyToken { revision, ..good }, "of the future");
    }
    for consistency in [Consistency::Newest, Consistency::AtLeastAsFresh(good), Consistency::AtExactSnapshot(good)] {
        for (verb, result) in everywhere(&mine, consistency) {
            assert!(result.is_ok(), "{verb} at {consistency:?}: {}", told(&result.unwrap_err()));
        }
    }
}

#[test]
fn damaged_tokens_are_no_tokens() {
    let engine = TestEngine::with_schema(SCHEMA);
    let text = engine.token_now().to_string();
    assert_eq!(text.parse::<ConsistencyToken>().unwrap(), engine.token_now());
    for at in 0..text.len() {
        for with in ['A', 'b', '0', '_'] {
            let mut damaged = text.clone();
            damaged.replace_range(at..=at, &with.to_string());
            assert!(damaged == text || damaged.parse::<ConsistencyToken>().is_err(), "{damaged}");
        }
    }
}

#[test]
fn an_exact_snapshot_sees_the_old_state() {
    let engine = TestEngine::with_schema(SCHEMA);
    let mut past = vec![(engine.token_now(), Decision::Deny, engine.everything())];
    let steps = [
        (UpdateKind::Touch, GRANT, Decision::Allow),
        (UpdateKind::Touch, "doc:1#banned@user:rita", Decision::Deny),
        (UpdateKind::Delete, "doc:1#banned@user:rita", Decision::Allow),
        (UpdateKind::Touch, "doc:2#viewer@user:rita", Decision::Allow),
        (UpdateKind::Delete, GRANT, Decision::Deny),
        (UpdateKind::Create, GRANT, Decision::Allow),
    ];
    for (kind, text, decision) in steps {
        let revision = engine.try_update(kind, text).unwrap();
        engine.assert_decides(ASKED, decision);
        past.push((engine.token(revision), decision, engine.everything()));
    }
    let newest = past.len() - 1;
    for (n, (token, decision, everything)) in past.iter().enumerate() {
        let consistency = Consistency::AtExactSnapshot(*token);
        let options = CheckOptions { situation: Situation::at(consistency), ..CheckOptions::default() };
        let found = engine.check(&question(ASKED), &options).unwrap();
        assert_eq!((found.answer.decision, found.revision), (*decision, token.revision), "state {n}");
        assert_eq!(found.historical, n != newest, "state {n}");
        let bulk = engine.check_bulk(&[question(ASKED)], &options).unwrap();
        assert_eq!((bulk.historical, bulk.revision), (n != newest, token.revision));
        let read = ReadTuples { filter: TupleFilter::default(), consistency, cursor: None };
        let mut reader = engine.read_tuples(read, &Cancel::default()).unwrap();
        assert_eq!(reader.revision(), token.revision);
        let mut rows: Vec<String> =
            reader.next_page(100, &Cancel::default()).unwrap().iter().map(|row| row.tuple.to_string()).collect();
        rows.sort();
        assert_eq!(rows, *everything, "state {n}");
        // The same token as a lower bound gives the newest.
        let fresh = engine.decide_at(ASKED, Consistency::AtLeastAsFresh(*token)).unwrap();
        assert_eq!(fresh, past[newest].1);
    }
}

#[test]
fn an_exact_snapshot_sees_the_old_schema() {
    let engine = TestEngine::with_schema(SCHEMA);
    let before = engine.token(engine.touch([GRANT, "doc:1#banned@user:rita"]));
    engine.schema(&SCHEMA.replace("viewer - banned", "viewer + banned"));
    let after = engine.token_now();
    engine.assert_allows(ASKED);
    assert_eq!(engine.decide_at(ASKED, Consistency::AtExactSnapshot(before)).unwrap(), Decision::Deny);
    assert_eq!(engine.decide_at(ASKED, Consistency::AtExactSnapshot(after)).unwrap(), Decision::Allow);
    engine.schema(&SCHEMA.replace("permission view", "permission see"));
    refused(engine.decide(ASKED), &[Kind::FailedPrecondition]);
    assert_eq!(engine.decide_at(ASKED, Consistency::AtExactSnapshot(before)).unwrap(), Decision::Deny);
    assert_eq!(engine.read_schema(Consistency::AtExactSnapshot(before)).unwrap().text, SCHEMA);
    assert_ne!(engine.read_schema(Consistency::Newest).unwrap().text, SCHEMA);
}

#[test]
fn a_snapshot_out_of_the_ring_is_out_of_range_and_never_another_state() {
    let engine = TestEngine::with_limits(Limits { snapshots_max: 4, ..Limits::default() });
    engine.schema(SCHEMA);
    let mut past = Vec::new();
    for n in 0..20 {
        let kind = if n % 2 == 0 { UpdateKind::Touch } else { UpdateKind::Delete };
        let decision = if n % 2 == 0 { Decision::Allow } else { Decision::Deny };
        past.push((engine.token(engine.try_update(kind, GRANT).unwrap()), decision));
    }
    let mut kept = 0;
    for (token, decision) in &past {
        match engine.decide_at(ASKED, Consistency::AtExactSnapshot(*token)) {
            Ok(said) => {
                assert_eq!(said, *decision);
                kept += 1;
            }
            Err(error) => assert_eq!(error.kind, Kind::OutOfRange, "{}", told(&error)),
        }
    }
    assert!((1..=5).contains(&kept), "{kept} of 20 states are kept");
    assert!(engine.decide_at(ASKED, Consistency::AtExactSnapshot(past[19].0)).is_ok());
    refused(engine.decide_at(ASKED, Consistency::AtExactSnapshot(past[0].0)), &[Kind::OutOfRange]);
}

#[test]
fn after_a_restart_only_the_newest_is_exact() {
    let mut engine = TestEngine::with_schema(SCHEMA);
    let older = engine.token(engine.touch([GRANT]));
    let newest = engine.token(engine.touch(["doc:2#viewer@user:rita"]));
    let everything = engine.everything();
    engine.reopen();
    assert_eq!(engine.token_now(), newest, "a restart is no write, and the same database");
    assert_eq!(engine.everything(), everything);
    assert_eq!(engine.decide_at(ASKED, Consistency::AtExactSnapshot(newest)).unwrap(), Decision::Allow);
    assert_eq!(engine.decide_at(ASKED, Consistency::AtLeastAsFresh(older)).unwrap(), Decision::Allow);
    refused(engine.decide_at(ASKED, Consistency::AtExactSnapshot(older)), &[Kind::OutOfRange]);
    // Revisions go on from where they were.
    assert!(engine.touch(["doc:3#viewer@user:rita"]) > newest.revision);
}

#[test]
fn every_thread_reads_its_own_writes() {
    let engine = TestEngine::with_schema(SCHEMA);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let engine = &engine;
            scope.spawn(move || {
                let mut last = Revision(0);
                for n in 0..100 {
                    let text = format!("doc:{thread}#viewer@user:u{}", n % 10);
                    let asked = format!("doc:{thread}#view@user:u{}", n % 10);
                    for (kind, due) in [(UpdateKind::Create, Decision::Allow), (UpdateKind::Delete, Decision::Deny)] {
                        let revision = engine.try_update(kind, &text).unwrap();
                        assert!(revision > last, "revisions grow");
                        last = revision;
                        let found = engine.check(&question(&asked), &CheckOptions::default()).unwrap();
                        assert!(found.revision >= revision, "published before it is acknowledged");
                        assert_eq!(found.answer.decision, due, "{asked}");
                    }
                }
            });
        }
    });
}

/// Two tuples always change together; nobody may ever see one without the other.
#[test]
fn a_batch_is_answered_at_one_revision() {
    let engine = TestEngine::with_schema(SCHEMA);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..200 {
                let kind = if n % 2 == 0 { UpdateKind::Touch } else { UpdateKind::Delete };
                let updates = ["doc:1#viewer@user:rita", "doc:2#viewer@user:rita"];
                engine.update(updates.iter().map(|text| crate::engines::update(kind, text)).collect());
            }
            done.store(true, std::sync::atomic::Ordering::Release);
        });
        let asked = [question("doc:1#view@user:rita"), question("doc:2#view@user:rita")];
        // Bounded by the writer, which ends.
        loop {
            let was_done = done.load(std::sync::atomic::Ordering::Acquire);
            let bulk = engine.check_bulk(&asked, &CheckOptions::default()).unwrap();
            let said: Vec<Decision> = bulk.answers.into_iter().map(|answer| answer.unwrap().decision).collect();
            assert_eq!(said[0], said[1], "at {:?}", bulk.revision);
            if was_done {
                break;
            }
        }
    });
}

#[test]
fn what_a_question_names_must_exist_in_the_schema() {
    let engine = TestEngine::with_schema(SCHEMA);
    engine.touch([GRANT]);
    for asked in
        ["nodoc:1#view@user:rita", "doc:1#nothing@user:rita", "doc:1#view@nobody:rita", "doc:1#view@doc:1#nothing"]
    {
        refused(engine.decide(asked), &[Kind::FailedPrecondition]);
        // In a batch it is that item's error, and the others are answered.
        let bulk =
            engine.check_bulk(&[question(ASKED), question(asked), question(ASKED)], &CheckOptions::default()).unwrap();
        let [first, second, third]: [_; 3] = bulk.answers.try_into().unwrap();
        assert_eq!((first.unwrap().decision, third.unwrap().decision), (Decision::Allow, Decision::Allow));
        refused(second, &[Kind::FailedPrecondition]);
    }
    refused(engine.decide("doc:1#view@user:*"), &[Kind::InvalidArgument]);
    // An id nobody mentioned is no error.
    engine.assert_denies("doc:never#view@user:rita");
    engine.assert_denies("doc:1#view@user:never");
    engine.assert_allows("doc:never#view@doc:never#view");
}

#[test]
fn before_the_first_schema_everything_says_so() {
    let engine = TestEngine::new();
    assert_eq!(engine.info().schema_digest, None);
    for result in [
        engine.decide(ASKED).map(drop),
        engine.read_schema(Consistency::Newest).map(drop),
        engine.try_update(UpdateKind::Touch, GRANT).map(drop),
    ] {
        assert_eq!(refused(result, &[Kind::FailedPrecondition]).reason, "NO_SCHEMA");
    }
}

#[test]
fn a_cancelled_question_is_an_error_and_no_decision() {
    let engine =
        TestEngine::with_schema("definition user {} definition group { relation member: user | group#member }");
    engine.touch((0..20_000).map(|n| format!("group:root#member@group:g{n}#member")));
    // So that the groups may lead on, and each must be looked at.
    engine.touch(["group:aside#member@user:rita", "group:g0#member@group:other#member"]);
    let options = CheckOptions::default();
    options.cancel.set();
    refused(engine.check(&question("group:root#member@user:rita"), &options), &[Kind::Cancelled]);
}

#[test]
fn a_batch_beyond_the_limit_is_refused() {
    let engine = TestEngine::with_limits(Limits { bulk_items_max: 3, ..Limits::default() });
    engine.schema(SCHEMA);
    let asked = vec![question(ASKED); 4];
    assert_eq!(engine.check_bulk(&asked[..3], &CheckOptions::default()).unwrap().answers.len(), 3);
    refused(engine.check_bulk(&asked, &CheckOptions::default()), &[Kind::InvalidArgument, Kind::ResourceExhausted]);
}
