//! Bulk reading and writing, over real sockets and through the real binary: ReplaceSubjects, ImportTuples, ExportTuples,
//! `procura verify`.
//!
//! What always holds: an acknowledged batch is there, a refused one is not, not even in part; an export is of one
//! revision; what was exported imports to the same state.

use crate::engines::{refused, told, tuple};
use crate::watch::Live;
use crate::worlds::{Rng, seed};
use procura::api::client::{At, Client, ClientError, ImportAck};
use procura::engine::{
    ImportMode, Kind, Metadata, ReplaceSubjects, Replaced, TupleSubject, Watch, WatchChange, WatchFrom,
};
use procura::model::{Cancel, Limits, Precondition, RelationTuple, Revision, TupleFilter};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};
use tonic::transport::Endpoint;
use tonic_types::StatusExt;
use wire::tuple_service_client::TupleServiceClient;

/// The messages as generated for anybody.
#[allow(clippy::all, clippy::pedantic, dead_code, reason = "generated")]
mod wire {
    tonic::include_proto!("procura.v1");
}

fn live() -> (Live, tempfile::TempDir) {
    live_with(Limits::default())
}

fn live_with(limits: Limits) -> (Live, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Live::with_schema(folder.path(), limits), folder)
}

fn assert_verified(live: &Live) {
    let scratch = tempfile::tempdir().unwrap();
    if let Err(error) = live.engine.verify(scratch.path()) {
        panic!("{}", told(&error));
    }
}

fn set<I: AsRef<str>>(texts: impl IntoIterator<Item = I>) -> BTreeSet<String> {
    texts.into_iter().map(|text| text.as_ref().to_owned()).collect()
}

// ---- ReplaceSubjects ----

fn subjects(texts: &[&str]) -> Vec<TupleSubject> {
    let subject = |text: &&str| TupleSubject { subject: text.parse().unwrap(), caveat: None, expires_at: None };
    texts.iter().map(subject).collect()
}

fn replacement(object: &str, relation: &str, texts: &[&str]) -> ReplaceSubjects {
    ReplaceSubjects {
        object: object.parse().unwrap(),
        relation: relation.parse().unwrap(),
        subjects: subjects(texts),
        preconditions: Vec::new(),
        metadata: Metadata::new(),
    }
}

/// What a Watch tells after a revision.
fn told_after(live: &Live, revision: Revision) -> Vec<String> {
    let from = WatchFrom::After(live.engine.token(revision));
    let mut watcher = live.engine.watch(Watch { from, ..Watch::default() }).unwrap();
    let page = watcher.next_page().unwrap();
    assert!(page.caught_up);
    let changes = page.parts.into_iter().flat_map(|part| part.writes).flat_map(|write| write.changes);
    changes
        .map(|change| match change {
            WatchChange::Tuple(update) => format!("{:?} {}", update.kind, update.tuple),
            WatchChange::Schema { .. } => "Schema".to_owned(),
            other @ (WatchChange::Delegation { .. } | WatchChange::Suspended(_) | WatchChange::Reinstated { .. }) => {
                format!("{other:?}")
            }
        })
        .collect()
}

#[test]
fn a_replacement_leaves_exactly_these_and_tells_only_what_changed() {
    let (live, _folder) = live();
    let before = live.touch(&[
        "doc:1#viewer@user:rita",
        "doc:1#viewer@group:eng#member",
        "doc:1#viewer@user:*",
        "doc:1#owner@user:rita",
        "doc:10#viewer@user:rita",
    ]);
    let (object, relation) = ("doc:1".parse().unwrap(), "viewer".parse().unwrap());
    let replace = |texts: &[&str]| {
        live.client.replace_subjects(&object, &relation, &subjects(texts), &[], &Metadata::new()).unwrap()
    };
    let replaced = replace(&["user:dana", "user:rita", "group:new#member"]);
    assert_eq!((replaced.added, replaced.replaced, replaced.removed, replaced.unchanged), (2, 0, 2, 1));
    let due = [
        "doc:1#viewer@user:rita",
        "doc:1#viewer@user:dana",
        "doc:1#viewer@group:new#member",
        "doc:1#owner@user:rita",
        "doc:10#viewer@user:rita",
    ];
    assert_eq!(live.everything(), set(due));
    let mut changes = told_after(&live, before);
    changes.sort();
    assert_eq!(
        changes,
        [
            "Create doc:1#viewer@group:new#member",
            "Create doc:1#viewer@user:dana",
            "Delete doc:1#viewer@group:eng#member",
            "Delete doc:1#viewer@user:*",
        ]
    );
    // Once more the same: nothing to tell.
    let last = live.engine.info().unwrap().revision;
    let again = replace(&["group:new#member", "user:rita", "user:dana"]);
    assert_eq!((again.added, again.replaced, again.removed, again.unchanged), (0, 0, 0, 3));
    assert_eq!(told_after(&live, last), [""; 0]);
    let none = replace(&[]);
    assert_eq!((none.added, none.removed, none.unchanged), (0, 3, 0));
    assert_eq!(live.everything(), set(&due[3..]));
    // An object that no tuple ever named.
    let object = "doc:new".parse().unwrap();
    let first = live.client.replace_subjects(&object, &relation, &subjects(&["user:tom"]), &[], &Metadata::new());
    assert_eq!(first.unwrap().added, 1);
    assert_verified(&live);
}

#[test]
fn random_replacements_come_to_what_a_set_comes_to() {
    let seed = seed("random_replacements_come_to_what_a_set_comes_to");
    let mut rng = Rng::new(seed);
    let (live, _folder) = live();
    let pool = ["user:a", "user:b", "user:c", "user:*", "group:a#member", "group:b#member"];
    let mut model: Vec<BTreeSet<&str>> = vec![BTreeSet::new(); 3];
    for round in 0..150 {
        let at = rng.below(model.len());
        let wanted: BTreeSet<&str> = pool.iter().copied().filter(|_| rng.chance(40)).collect();
        let request = replacement(&format!("doc:{at}"), "viewer", &wanted.iter().copied().collect::<Vec<_>>());
        let Replaced { added, replaced, removed, unchanged, .. } = live.engine.replace_subjects(request).unwrap();
        let there = &model[at];
        let due = (
            wanted.difference(there).count(),
            0,
            there.difference(&wanted).count(),
            wanted.intersection(there).count(),
        );
        let found = [added, replaced, removed, unchanged].map(|count| usize::try_from(count).unwrap());
        assert_eq!((found[0], found[1], found[2], found[3]), due, "seed {seed} round {round}");
        model[at] = wanted;
    }
    let due =
        model.iter().enumerate().flat_map(|(at, there)| there.iter().map(move |who| format!("doc:{at}#viewer@{who}")));
    assert_eq!(live.everything(), due.collect());
    assert_verified(&live);
}

#[test]
fn a_replacement_that_is_refused_changes_nothing() {
    let (live, _folder) = live_with(Limits { updates_max: 3, ..Limits::default() });
    live.touch(&["doc:1#viewer@user:a", "doc:1#viewer@user:b"]);
    live.touch(&["doc:1#viewer@user:c", "doc:1#viewer@user:d"]);
    let before = (live.everything(), live.engine.info().unwrap().revision);
    let refuse = |request: ReplaceSubjects, kind: Kind| refused(live.engine.replace_subjects(request), &[kind]).reason;
    assert_eq!(refuse(replacement("doc:1", "viewer", &[]), Kind::ResourceExhausted), "TOO_MANY_UPDATES");
    assert_eq!(refuse(replacement("doc:1", "viewer", &["user:x"]), Kind::ResourceExhausted), "TOO_MANY_UPDATES");
    let many = ["user:1", "user:2", "user:3", "user:4"];
    assert_eq!(refuse(replacement("doc:2", "viewer", &many), Kind::ResourceExhausted), "TOO_MANY_UPDATES");
    let twice = replacement("doc:1", "viewer", &["user:a", "user:a#..."]);
    assert_eq!(refuse(twice, Kind::InvalidArgument), "DUPLICATE_UPDATE");
    assert_eq!(refuse(replacement("doc:1", "view", &[]), Kind::FailedPrecondition), "NOT_A_RELATION");
    assert_eq!(refuse(replacement("doc:1", "viewer", &["doc:2"]), Kind::FailedPrecondition), "SUBJECT_NOT_ALLOWED");
    let there = Precondition::MustMatch(TupleFilter::exactly(&tuple("doc:9#viewer@user:a").key));
    let guarded = ReplaceSubjects { preconditions: vec![there], ..replacement("doc:1", "viewer", &["user:a"]) };
    assert_eq!(refuse(guarded, Kind::FailedPrecondition), "PRECONDITION_FAILED");
    assert_eq!((live.everything(), live.engine.info().unwrap().revision), before);
    // Three of four go: as many as may.
    live.engine.replace_subjects(replacement("doc:1", "viewer", &["user:a"])).unwrap();
    assert_eq!(live.everything(), set(["doc:1#viewer@user:a"]));
}

#[test]
fn a_forgotten_list_of_subjects_empties_nothing() {
    let (live, _folder) = live();
    live.touch(&["doc:1#viewer@user:a"]);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let endpoint = Endpoint::from_shared(format!("http://{}", live.running.address())).unwrap();
    let mut service = TupleServiceClient::new(runtime.block_on(endpoint.connect()).unwrap());
    let object = wire::ObjectRef { r#type: "doc".into(), id: "1".into() };
    let subject = |id: &str| wire::TupleSubject {
        subject: Some(wire::SubjectRef {
            object: Some(wire::ObjectRef { r#type: "user".into(), id: id.into() }),
            relation: String::new(),
        }),
        ..Default::default()
    };
    let request = |subjects: Vec<wire::TupleSubject>, remove_all| wire::ReplaceSubjectsRequest {
        object: Some(object.clone()),
        relation: "viewer".into(),
        subjects,
        remove_all,
        ..Default::default()
    };
    for (request, field) in [
        (request(vec![], false), "remove_all"),
        (request(vec![subject("a")], true), "remove_all"),
        (request(vec![subject("a"), subject("")], false), "subjects[1].subject.object.id"),
        (wire::ReplaceSubjectsRequest { object: None, ..request(vec![], true) }, "object"),
        (wire::ReplaceSubjectsRequest { relation: "-".into(), ..request(vec![], true) }, "relation"),
    ] {
        let status = runtime.block_on(service.replace_subjects(request)).unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        let info = status.get_details_error_info().unwrap();
        assert_eq!(info.metadata.get("field").map(String::as_str), Some(field));
    }
    assert_eq!(live.everything().len(), 1);
    let done = runtime.block_on(service.replace_subjects(request(vec![], true))).unwrap().into_inner();
    assert_eq!((done.removed_count, live.everything().len()), (1, 0));
}

// ---- ImportTuples ----

fn parsed(texts: &[String]) -> Vec<RelationTuple> {
    texts.iter().map(|text| tuple(text)).collect()
}

/// Imports in batches of this size; the acknowledgements, and how it ended.
fn import(
    client: &Client,
    mode: ImportMode,
    texts: &[String],
    size: usize,
    each: &mut dyn FnMut(&ImportAck),
) -> (Vec<ImportAck>, Result<(), ClientError>) {
    let mut batches = texts.chunks(size);
    let mut acks = Vec::new();
    let outcome = client.import_tuples(mode, &Metadata::new(), &mut || batches.next().map(parsed), &mut |ack| {
        each(&ack);
        acks.push(ack);
    });
    (acks, outcome)
}

#[test]
fn an_acknowledged_batch_is_there() {
    let (live, _folder) = live();
    let texts: Vec<String> = (0..900).map(|n| format!("doc:{n}#viewer@user:u{}", n % 7)).collect();
    let mut revisions = Vec::new();
    let (acks, outcome) = import(&live.client, ImportMode::Create, &texts, 100, &mut |ack| {
        // In process, at this very moment: each tuple of this batch and of every one before.
        let at = usize::try_from(ack.batch).unwrap();
        for text in &texts[..100 * (at + 1)] {
            let filter = TupleFilter::exactly(&tuple(text).key);
            let request = procura::engine::ReadTuples { filter, ..Default::default() };
            let found =
                live.engine.read_tuples(request, &Cancel::default()).unwrap().next_page(2, &Cancel::default()).unwrap();
            assert_eq!(found.len(), 1, "batch {at} is acknowledged, and `{text}` is not there");
        }
        revisions.push(ack.token.parse::<procura::model::ConsistencyToken>().unwrap().revision);
    });
    outcome.unwrap();
    assert!(revisions.is_sorted() && revisions.len() == 9);
    assert_eq!(
        acks.iter().map(|ack| (ack.batch, ack.created)).collect::<Vec<_>>(),
        (0..9).map(|n| (n, 100)).collect::<Vec<_>>()
    );
    assert_eq!(live.everything(), set(&texts));
    // Again: all of it stands there.
    let (acks, outcome) = import(&live.client, ImportMode::Touch, &texts, 400, &mut |_| {});
    outcome.unwrap();
    assert_eq!(acks.iter().map(|ack| (ack.created, ack.replaced)).collect::<Vec<_>>(), [(0, 400), (0, 400), (0, 100)]);
    // An import of nothing is none.
    let (acks, outcome) = import(&live.client, ImportMode::Touch, &[], 400, &mut |_| {});
    outcome.unwrap();
    assert!(acks.is_empty());
    assert_verified(&live);
}

#[test]
fn a_refused_batch_ends_an_import_and_leaves_what_was_before_it() {
    let (live, _folder) = live();
    live.touch(&["doc:45#viewer@user:u"]);
    let mut texts: Vec<String> = (0..100).map(|n| format!("doc:{n}#viewer@user:u")).collect();
    // Creating: the sixth tuple of the fifth batch exists.
    let (acks, outcome) = import(&live.client, ImportMode::Create, &texts, 10, &mut |_| {});
    let error = outcome.unwrap_err();
    assert_eq!((error.code, error.reason.as_str()), ("ALREADY_EXISTS", "TUPLE_EXISTS"), "{error:?}");
    assert_eq!((error.fact("batch"), error.fact("field")), (Some("4"), Some("tuples[5]")), "{error:?}");
    assert_eq!(acks.len(), 4);
    let mut due = set(&texts[..40]);
    due.insert(texts[45].clone());
    assert_eq!(live.everything(), due);
    // Touching: one that the schema has no place for, in the eighth batch; found before its turn, told in its turn.
    texts[72] = "doc:72#nothing@user:u".to_owned();
    let (acks, outcome) = import(&live.client, ImportMode::Touch, &texts, 10, &mut |_| {});
    let error = outcome.unwrap_err();
    assert_eq!((error.code, error.reason.as_str()), ("FAILED_PRECONDITION", "UNKNOWN_RELATION"), "{error:?}");
    assert_eq!((error.fact("batch"), error.fact("field")), (Some("7"), Some("tuples[2]")), "{error:?}");
    assert_eq!((acks.len(), live.everything()), (7, set(&texts[..70])));
    assert_verified(&live);
}

/// The same tuples, some of them twice, cut into batches of every kind.
#[test]
fn what_an_import_comes_to_does_not_depend_on_its_batches() {
    let texts: Vec<String> = (0..60).map(|n| format!("doc:{}#viewer@user:u", n % 37)).collect();
    for size in [1, 7, 60] {
        let (live, _folder) = live();
        import(&live.client, ImportMode::Touch, &texts, size, &mut |_| {}).1.unwrap();
        assert_eq!(live.everything(), set(&texts));
        let (other, _folder) = self::live();
        let error = import(&other.client, ImportMode::Create, &texts, size, &mut |_| {}).1.unwrap_err();
        assert_eq!((error.code, error.reason.as_str()), ("ALREADY_EXISTS", "TUPLE_EXISTS"), "{error:?}");
        let index = error.fact("field").unwrap().strip_prefix("tuples[").unwrap().strip_suffix(']').unwrap();
        let at: usize = error.fact("batch").unwrap().parse::<usize>().unwrap() * size + index.parse::<usize>().unwrap();
        assert_eq!(at, 37, "the first that comes twice");
    }
}

/// As another program would send them.
#[test]
fn messages_of_an_import_that_are_out_of_order_are_named() {
    use wire::import_tuples_request::Part;
    let (live, _folder) = live_with(Limits { updates_max: 2, ..Limits::default() });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let endpoint = Endpoint::from_shared(format!("http://{}", live.running.address())).unwrap();
    let mut service = TupleServiceClient::new(runtime.block_on(endpoint.connect()).unwrap());
    let start = |mode| Some(Part::Start(wire::ImportStart { mode, metadata: None }));
    let batch = |count| Some(Part::Batch(wire::ImportBatch { tuples: vec![wire::RelationTuple::default(); count] }));
    for (parts, code, field) in [
        (vec![batch(1)], tonic::Code::InvalidArgument, "start"),
        (vec![None], tonic::Code::InvalidArgument, "start"),
        (vec![start(0)], tonic::Code::InvalidArgument, "start.mode"),
        (vec![start(9)], tonic::Code::InvalidArgument, "start.mode"),
        (vec![start(1), start(1)], tonic::Code::InvalidArgument, "batch"),
        (vec![start(1), batch(0)], tonic::Code::InvalidArgument, "tuples"),
        (vec![start(1), batch(3)], tonic::Code::ResourceExhausted, "tuples"),
        (vec![start(1), batch(1)], tonic::Code::InvalidArgument, "tuples[0].object"),
    ] {
        let requests = tokio_stream::iter(parts.into_iter().map(|part| wire::ImportTuplesRequest { part }));
        let status = runtime.block_on(async {
            let mut replies = service.import_tuples(requests).await?.into_inner();
            replies.message().await.map(drop)
        });
        let status = status.unwrap_err();
        assert_eq!(status.code(), code, "{status:?}");
        let info = status.get_details_error_info().unwrap();
        assert_eq!(info.metadata.get("field").map(String::as_str), Some(field), "{info:?}");
    }
    assert!(live.everything().is_empty());
}

// ---- ExportTuples ----

#[test]
fn an_export_is_of_one_revision_and_resumes_after_any_batch() {
    let (live, _folder) = live();
    let texts: Vec<String> = (0..4_500).map(|n| format!("doc:n{n}#viewer@user:u{}", n % 5)).collect();
    import(&live.client, ImportMode::Touch, &texts, 5_000, &mut |_| {}).1.unwrap();
    let mut cursors = Vec::new();
    let mut firsts = Vec::new();
    let token = live
        .client
        .export_tuples(&TupleFilter::default(), &At::Newest, None, &mut |_, tuples, cursor| {
            // Written while it is read: it is not seen.
            live.touch(&["doc:late#owner@user:rita", "doc:a#owner@user:rita"]);
            firsts.extend(tuples.iter().map(ToString::to_string));
            cursors.push((firsts.len(), cursor));
            true
        })
        .unwrap();
    assert_eq!(set(&firsts), set(&texts));
    assert_eq!(firsts.len(), texts.len());
    assert!(cursors.len() > 3, "{}", cursors.len());
    for (count, cursor) in cursors {
        let mut rest = Vec::new();
        let at = At::AtExactSnapshot(token.clone());
        live.client
            .export_tuples(&TupleFilter::default(), &at, Some(cursor), &mut |_, tuples, _| {
                rest.extend(tuples.iter().map(ToString::to_string));
                true
            })
            .unwrap();
        assert_eq!(rest, firsts[count..], "after {count}");
    }
    let owners = TupleFilter { relation: Some("owner".parse().unwrap()), ..TupleFilter::default() };
    let mut found = 0;
    live.client
        .export_tuples(&owners, &At::Newest, None, &mut |_, tuples, _| {
            found += tuples.len();
            true
        })
        .unwrap();
    assert_eq!(found, 2);
    let none = TupleFilter { object_type: Some("group".parse().unwrap()), ..TupleFilter::default() };
    let empty = live.client.export_tuples(&none, &At::Newest, None, &mut |_, _, _| panic!("nothing matches"));
    assert!(!empty.unwrap().is_empty());
    let wrong = live.client.export_tuples(&owners, &At::Newest, Some("x".into()), &mut |_, _, _| true).unwrap_err();
    assert_eq!((wrong.code, wrong.fact("field")), ("INVALID_ARGUMENT", Some("cursor")));
}

// ---- the command line ----

fn procura(live: &Live, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_procura"));
    command.env("PROCURA_SERVER", live.running.address().to_string()).env("NO_COLOR", "1");
    command.args(arguments).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

#[track_caller]
fn well(output: &Output) -> serde_json::Value {
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
    let last = text(&output.stdout).lines().last().unwrap_or("null");
    serde_json::from_str(last).unwrap_or(serde_json::Value::Null)
}

#[track_caller]
fn failed(output: &Output, code: i32) -> serde_json::Value {
    assert_eq!(output.status.code(), Some(code), "{}{}", text(&output.stdout), text(&output.stderr));
    serde_json::from_str::<serde_json::Value>(text(&output.stderr)).unwrap()["error"].take()
}

#[test]
fn an_import_names_the_line_and_goes_on_at_the_byte() {
    let (live, _folder) = live();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tuples.txt");
    let path = path.to_str().unwrap();
    let mut lines: Vec<String> = vec!["// acme".to_owned(), String::new()];
    lines.extend((0..2_000).map(|n| format!("doc:{n}#viewer@user:u{}", n % 9)));
    let whole = lines.join("\n") + "\n";
    // One the server refuses, and one that is no tuple.
    let mut spoilt = lines.clone();
    spoilt[749] = "doc:747#nothing@user:u".to_owned();
    spoilt[1_300] = "doc:1298#Viewer@user:u".to_owned();
    let mend = |lines: &mut Vec<String>, at: usize| lines[at] = format!("doc:{}#viewer@user:u{}", at - 2, (at - 2) % 9);

    std::fs::write(path, spoilt.join("\n") + "\n").unwrap();
    let error = failed(&procura(&live, &["--json", "tuple", "import", path, "--batch", "100"]), 4);
    assert_eq!((error["reason"].as_str(), error["facts"]["line"].as_str()), (Some("UNKNOWN_RELATION"), Some("750")));
    assert!(error["message"].as_str().unwrap().contains("tuples.txt:750: "), "{error}");
    assert_eq!(live.everything().len(), 700);
    let offset = error["facts"]["offset"].as_str().unwrap().to_owned();
    let on_disk = std::fs::read_to_string(path).unwrap();
    assert!(on_disk[offset.parse::<usize>().unwrap()..].starts_with("doc:700#viewer@"), "{offset}");

    mend(&mut spoilt, 749);
    std::fs::write(path, spoilt.join("\n") + "\n").unwrap();
    // What is imported already would be refused: it goes on exactly there.
    let resumed = ["--json", "tuple", "import", path, "--create", "--batch", "100", "--offset", &offset];
    let error = failed(&procura(&live, &resumed), 2);
    assert!(error["pointed"][0].as_str().unwrap().contains("tuples.txt:1301:10"), "{error}");
    assert_eq!(live.everything().len(), 1_298);
    let offset = error["facts"]["offset"].as_str().unwrap().to_owned();

    mend(&mut spoilt, 1_300);
    std::fs::write(path, &whole).unwrap();
    assert_eq!(spoilt, lines);
    let done = well(&procura(&live, &["--json", "tuple", "import", path, "--create", "--offset", &offset]));
    assert_eq!((done["imported"].as_u64(), done["created"].as_u64()), (Some(702), Some(702)), "{done}");
    assert_eq!(done["offset"].as_u64(), Some(whole.len() as u64));
    assert_eq!(live.everything(), set(&lines[2..]));

    let inside = failed(&procura(&live, &["--json", "tuple", "import", path, "--offset", "1"]), 2);
    assert!(inside["message"].as_str().unwrap().contains("inside line 1"), "{inside}");
    let said = procura(&live, &["tuple", "import", path]);
    well(&said);
    assert!(
        text(&said.stdout).starts_with("imported 2000 tuples (0 new, 2000 written again)"),
        "{}",
        text(&said.stdout)
    );
}

#[test]
fn what_is_exported_imports_to_the_same_state() {
    let (live, _folder) = live();
    live.touch(&["doc:a:b@c#viewer@user:*", "doc:1#viewer@group:eng#member", "group:eng#member@user:rita@acme.com"]);
    let texts: Vec<String> = (0..3_000).map(|n| format!("doc:n{n}#owner@user:u{}", n % 5)).collect();
    import(&live.client, ImportMode::Touch, &texts, 1_000, &mut |_| {}).1.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.txt");
    let path = path.to_str().unwrap();
    std::fs::write(path, "what was there before").unwrap();
    let exported = well(&procura(&live, &["--json", "tuple", "export", path]));
    assert_eq!(exported["exported"], 3_003);
    let written = std::fs::read_to_string(path).unwrap();
    let token = exported["token"].as_str().unwrap();
    assert!(written.starts_with(&format!("// procura tuple export, as of {token}\n")));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let (other, _other_folder) = self::live();
    let imported = well(&procura(&other, &["--json", "tuple", "import", path, "--create", "--batch", "700"]));
    assert_eq!(imported["created"], 3_003);
    assert_eq!(other.everything(), live.everything());

    let docs = procura(&live, &["tuple", "export", "--object", "group"]);
    well(&docs);
    assert_eq!(text(&docs.stdout).lines().nth(1), Some("group:eng#member@user:rita@acme.com"));
    // Refused: the file stays as it was.
    failed(&procura(&live, &["--json", "tuple", "export", path, "--object", "nothing"]), 4);
    assert_eq!(std::fs::read_to_string(path).unwrap(), written);
}

#[test]
fn replacing_and_watching_from_the_command_line() {
    let (live, _folder) = live();
    live.touch(&["doc:1#viewer@user:rita", "doc:1#viewer@user:dana"]);
    let replaced =
        ["--json", "tuple", "replace", "doc:1#viewer", "user:dana", "group:eng#member", "--metadata", "why=x"];
    let replaced = well(&procura(&live, &replaced));
    assert_eq!((&replaced["added"], &replaced["removed"], &replaced["unchanged"]), (&1.into(), &1.into(), &1.into()));
    assert_eq!(procura(&live, &["tuple", "replace", "doc:1#viewer"]).status.code(), Some(2));
    let wrong = failed(&procura(&live, &["--json", "tuple", "replace", "doc:1#viewer", "user:dana", "User:x"]), 2);
    assert!(wrong["pointed"][0].as_str().unwrap().contains("argument:2:1"), "{wrong}");
    well(&procura(&live, &["--json", "tuple", "replace", "doc:1#viewer", "--none"]));
    assert!(live.everything().is_empty());

    let shown = procura(&live, &["tuple", "watch", "--from-start", "--limit", "7"]);
    well(&shown);
    let kinds: Vec<&str> = text(&shown.stdout).lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    let due = "schema through create create through create delete through delete delete through";
    assert_eq!(kinds.join(" "), due, "{}", text(&shown.stdout));
    let tokens: Vec<&str> = text(&shown.stdout).lines().filter_map(|line| line.strip_prefix("through ")).collect();
    let rest = ["--json", "tuple", "watch", "--after", tokens[1], "--relation", "viewer", "--limit", "1"];
    let rest = procura(&live, &rest);
    well(&rest);
    let rest: Vec<serde_json::Value> =
        text(&rest.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rest[0]["through"], tokens[1]);
    assert_eq!((&rest[1]["operation"], &rest[1]["metadata"]["why"]), (&"create".into(), &"x".into()));
    assert_eq!(rest[2]["tuple"], "doc:1#viewer@user:rita");
    assert_eq!(rest[3]["through"], tokens[2]);
    let foreign = failed(&procura(&live, &["--json", "tuple", "watch", "--after", "x"]), 4);
    assert_eq!(foreign["code"], "INVALID_ARGUMENT");
}

fn verify(data: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_procura"));
    command.env("NO_COLOR", "1").args(["verify", "--data"]).arg(data).output().expect("the binary runs")
}

#[test]
fn verify_says_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let live = Live::with_schema(&data, Limits::default());
    live.touch(&["doc:1#viewer@user:rita", "doc:2#viewer@user:rita"]);
    // A folder that is open is not touched.
    assert_eq!(verify(&data).status.code(), Some(4));
    drop(live);
    let output = verify(&data);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("revision     2\nlog entries  "), "{}", text(&output.stdout));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "the scratch is gone");
    // A row lost behind the log's back.
    {
        let options = rocksdb::Options::default();
        let families = rocksdb::DB::list_cf(&options, &data).unwrap();
        let db = rocksdb::DB::open_cf(&options, &data, &families).unwrap();
        let fwd = db.cf_handle("fwd").unwrap();
        let key = db.iterator_cf(&fwd, rocksdb::IteratorMode::Start).next().unwrap().unwrap().0;
        db.delete_cf(&fwd, &key).unwrap();
    }
    let output = verify(&data);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    assert!(
        said.contains("`fwd` differs from what the changelog gives: key 00") && said.contains("is missing"),
        "{said}"
    );
    // A folder that is not there is not made.
    let nowhere = folder.path().join("nowhere");
    assert_eq!(verify(&nowhere).status.code(), Some(2));
    assert!(!nowhere.exists());
}
