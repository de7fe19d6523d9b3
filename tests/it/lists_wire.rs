//! Lists as a client in any language meets them, and as the command line prints them.

use crate::cli::{Server, code, json_lines, procura, stderr, stdout};
use procura::api::client::{Client, ListPage, ResourcesOf, SubjectsOf, Under};
use procura::api::{Running, ServeOptions, serve_in_background};
use procura::engine::{Engine, Metadata, Options, ResourceRow, SubjectRow};
use procura::model::{Acting, Decision, Limits, RelationName, RelationTuple, TupleUpdate, TypeName, UpdateKind};
use std::sync::Arc;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use wire::permission_service_client::PermissionServiceClient;

/// The messages as generated for anybody.
#[allow(clippy::all, clippy::pedantic, dead_code, reason = "generated")]
mod wire {
    tonic::include_proto!("procura.v1");
}

const SCHEMA: &str = "definition user {}
definition group {
  relation member: user | group#member
}
definition doc {
  relation owner: user
  relation viewer: user | user:* | group#member
  relation banned: user
  permission view = (viewer + owner) - banned
}
";

fn world(limits: Limits) -> (Client, Running, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let engine =
        Arc::new(Engine::open(Options { limits: limits.clone(), ..Options::at(folder.path()) }).expect("open"));
    let options = ServeOptions { listen: "127.0.0.1:0".parse().expect("an address"), limits };
    let running = serve_in_background(engine, options).expect("a server");
    let client = Client::connect(&running.address().to_string()).expect("a connection");
    client.write_schema(SCHEMA, None, false, &Metadata::new()).expect("a schema");
    (client, running, folder)
}

fn write(client: &Client, tuples: impl IntoIterator<Item = String>) {
    let touch =
        |text: String| TupleUpdate { kind: UpdateKind::Touch, tuple: text.parse::<RelationTuple>().expect("a tuple") };
    let updates: Vec<TupleUpdate> = tuples.into_iter().map(touch).collect();
    for part in updates.chunks(10_000) {
        client.write_tuples(part, &[], &Metadata::new()).expect("written");
    }
}

fn docs_of(subject: &str) -> ResourcesOf {
    ResourcesOf {
        acting: Acting::default(),
        object_type: TypeName::new("doc").expect("a name"),
        permission: RelationName::new("view").expect("a name"),
        subject: subject.parse().expect("a subject"),
        within: None,
    }
}

fn resources(client: &Client, subject: &str, page: ListPage) -> Vec<ResourceRow> {
    let mut rows = Vec::new();
    let listed = client.list_resources(&docs_of(subject), page, &mut |row| {
        rows.push(row);
        true
    });
    assert!(!listed.expect("a list").token.is_empty());
    rows
}

fn subjects(client: &Client, object: &str, relation: Option<&str>) -> Vec<SubjectRow> {
    let asked = SubjectsOf {
        object: object.parse().expect("an object"),
        permission: RelationName::new("view").expect("a name"),
        subject_type: TypeName::new(if relation.is_some() { "group" } else { "user" }).expect("a name"),
        subject_relation: relation.map(|name| RelationName::new(name).expect("a name")),
        with_relations: true,
        within: None,
    };
    let mut rows = Vec::new();
    let listed = client.list_subjects(&asked, ListPage::default(), &mut |row| {
        rows.push(row);
        true
    });
    assert!(!listed.expect("a list").token.is_empty());
    rows
}

#[test]
fn lists_come_over_the_wire_whole_and_in_pages() {
    let (client, _running, _folder) = world(Limits::default());
    write(&client, (0..2_000).map(|n| format!("doc:d{n}#viewer@user:ann")));
    write(&client, (0..2_000).step_by(3).map(|n| format!("doc:d{n}#banned@user:ann")));
    let all = resources(&client, "user:ann", ListPage::default());
    let due: Vec<String> = (0..2_000).filter(|n| n % 3 != 0).map(|n| format!("doc:d{n}")).collect();
    assert_eq!(all.iter().map(|row| row.object.to_string()).collect::<Vec<_>>(), due);
    let mut paged: Vec<ResourceRow> = Vec::new();
    // Bounded: each page has rows, or is the last.
    loop {
        let cursor = paged.last().map(|row| row.cursor.clone());
        let page = resources(&client, "user:ann", ListPage { cursor, limit: Some(700), ..ListPage::default() });
        assert!(page.len() <= 700 && paged.len() <= all.len());
        if page.is_empty() {
            break;
        }
        paged.extend(page);
    }
    assert_eq!(paged, all);
}

#[test]
fn subjects_and_permissions_come_over_the_wire() {
    let (client, _running, _folder) = world(Limits::default());
    let tuples =
        ["doc:1#viewer@user:*", "doc:1#banned@user:tom", "doc:1#owner@user:dana", "doc:1#viewer@group:g#member"];
    write(&client, tuples.map(str::to_owned));
    let rows = subjects(&client, "doc:1", None);
    let said: Vec<String> = rows.iter().map(|row| row.subject.to_string()).collect();
    assert_eq!(said, ["user:*", "user:dana"]);
    assert_eq!(rows[0].exclusions[0].subject.to_string(), "user:tom");
    assert_eq!(rows[0].exclusions[0].decision, Decision::Deny);
    assert_eq!(rows[1].relations[0].1.as_str(), "owner");
    let usersets = subjects(&client, "doc:1", Some("member"));
    assert_eq!(usersets[0].subject.to_string(), "group:g#member");
    let (object, subject) = ("doc:1".parse().expect("an object"), "user:dana".parse().expect("a subject"));
    let (rows, _) = client.list_permissions(&object, &subject, &Acting::default(), &Under::default()).expect("a list");
    let said: Vec<(&str, bool, &str)> =
        rows.iter().map(|row| (row.name.as_str(), row.is_relation, row.decision.as_str())).collect();
    let due = [("owner", true, "ALLOW"), ("viewer", true, "ALLOW"), ("banned", true, "DENY"), ("view", false, "ALLOW")];
    assert_eq!(said, due);
}

/// Every question takes them, and none of it is there afterwards.
#[test]
fn contextual_tuples_come_over_the_wire() {
    let (client, running, _folder) = world(Limits::default());
    write(&client, ["doc:1#viewer@user:ann", "doc:2#viewer@user:ann"].map(str::to_owned));
    let laid = ["doc:new#viewer@group:made#member", "group:made#member@user:ann", "doc:2#banned@user:ann"];
    let tuple = |text: &str| text.parse::<RelationTuple>().expect("a tuple");
    let under =
        |laid: &[&str]| Under { contextual_tuples: laid.iter().map(|text| tuple(text)).collect(), ..Under::default() };
    let ids = |rows: Vec<ResourceRow>| rows.iter().map(|row| row.object.to_string()).collect::<Vec<_>>();
    let listed = |under| ids(resources(&client, "user:ann", ListPage { under, ..ListPage::default() }));
    assert_eq!(listed(under(&laid)), ["doc:1", "doc:new"]);
    assert_eq!(listed(Under::default()), ["doc:1", "doc:2"]);
    let asked = SubjectsOf {
        object: "doc:new".parse().expect("an object"),
        permission: RelationName::new("view").expect("a name"),
        subject_type: TypeName::new("user").expect("a name"),
        subject_relation: None,
        with_relations: true,
        within: None,
    };
    let mut rows = Vec::new();
    let page = ListPage { under: under(&laid), ..ListPage::default() };
    let listed = client.list_subjects(&asked, page, &mut |row| {
        rows.push(row);
        true
    });
    assert!(listed.is_ok() && rows.len() == 1);
    assert_eq!(
        (rows[0].subject.to_string().as_str(), rows[0].relations[0].0.to_string().as_str()),
        ("user:ann", "group:made")
    );
    let (object, subject) = ("doc:2".parse().expect("an object"), "user:ann".parse().expect("a subject"));
    let decisions = |under: &Under| -> Vec<Decision> {
        let (rows, _) = client.list_permissions(&object, &subject, &Acting::default(), under).expect("a list");
        rows.iter().map(|row| row.decision).collect()
    };
    assert_eq!(decisions(&under(&laid)), [Decision::Deny, Decision::Allow, Decision::Allow, Decision::Deny]);
    assert_eq!(decisions(&Under::default()), [Decision::Deny, Decision::Allow, Decision::Deny, Decision::Allow]);

    // Refused by their place, where the text is read and where the schema has no place for it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let address = format!("http://{}", running.address());
    let mut service = runtime.block_on(PermissionServiceClient::connect(address)).expect("a connection");
    let object = |of: &str, id: &str| Some(wire::ObjectRef { r#type: of.to_owned(), id: id.to_owned() });
    let user = || Some(wire::SubjectRef { object: object("user", "ann"), relation: String::new() });
    let good = |n: usize| wire::RelationTuple {
        object: object("doc", &n.to_string()),
        relation: "viewer".to_owned(),
        subject: user(),
        ..Default::default()
    };
    let mut refused = |tuples: Vec<wire::RelationTuple>, code: Code, field: &str| {
        let request = wire::ListResourcesRequest {
            object_type: "doc".to_owned(),
            permission: "view".to_owned(),
            subject: user(),
            contextual_tuples: tuples,
            ..Default::default()
        };
        let status = runtime.block_on(service.list_resources(request)).expect_err("refused");
        let (found, named, reason) = facts(&status);
        assert_eq!((found, named.as_str()), (code, field), "{reason}: {}", status.message());
    };
    let spoilt = wire::RelationTuple { relation: "É".to_owned(), ..good(1) };
    refused(vec![good(0), spoilt], Code::InvalidArgument, "contextual_tuples[1].relation");
    let unknown = wire::RelationTuple { relation: "fly".to_owned(), ..good(1) };
    refused(vec![good(0), unknown], Code::FailedPrecondition, "contextual_tuples[1]");
    refused(vec![good(0), good(0)], Code::InvalidArgument, "contextual_tuples[1]");
    refused((0..101).map(good).collect(), Code::ResourceExhausted, "contextual_tuples");
}

/// The field an INVALID_ARGUMENT names, or another code's reason.
fn facts(status: &Status) -> (Code, String, String) {
    let details = status.get_error_details();
    let info = details.error_info().expect("an ErrorInfo");
    assert_eq!(info.domain, "procura");
    (status.code(), info.metadata.get("field").cloned().unwrap_or_default(), info.reason.clone())
}

#[test]
fn every_field_of_a_list_is_named_when_it_is_wrong() {
    let (_client, running, _folder) = world(Limits { page_tuples_max: 5, ..Limits::default() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let address = format!("http://{}", running.address());
    let mut service = runtime.block_on(PermissionServiceClient::connect(address)).expect("a connection");
    let object = |of: &str, id: &str| Some(wire::ObjectRef { r#type: of.to_owned(), id: id.to_owned() });
    let subject = |id: &str| Some(wire::SubjectRef { object: object("user", id), relation: String::new() });
    let good = wire::ListResourcesRequest {
        object_type: "doc".to_owned(),
        permission: "view".to_owned(),
        subject: subject("ann"),
        ..Default::default()
    };
    let mut refused = |spoil: &dyn Fn(&mut wire::ListResourcesRequest), code: Code, field: &str| {
        let mut request = good.clone();
        spoil(&mut request);
        let status = runtime.block_on(service.list_resources(request)).expect_err("refused");
        let (found, named, reason) = facts(&status);
        assert_eq!((found, named.as_str()), (code, field), "{reason}: {}", status.message());
    };
    refused(&|r| r.object_type = "Doc".to_owned(), Code::InvalidArgument, "object_type");
    refused(&|r| r.object_type = "nothing".to_owned(), Code::FailedPrecondition, "object_type");
    refused(&|r| r.permission = String::new(), Code::InvalidArgument, "permission");
    refused(&|r| r.permission = "fly".to_owned(), Code::FailedPrecondition, "permission");
    refused(&|r| r.subject = None, Code::InvalidArgument, "subject");
    refused(&|r| r.subject = subject("*"), Code::InvalidArgument, "subject.object.id");
    refused(&|r| r.cursor = Some(String::new()), Code::InvalidArgument, "cursor");
    refused(&|r| r.cursor = Some("A".repeat(64)), Code::InvalidArgument, "cursor");
    refused(&|r| r.limit = Some(0), Code::InvalidArgument, "limit");
    refused(&|r| r.limit = Some(6), Code::ResourceExhausted, "limit");
    refused(&|r| r.consistency = Some(wire::Consistency::default()), Code::InvalidArgument, "consistency");

    let good = wire::ListSubjectsRequest {
        object: object("doc", "1"),
        permission: "view".to_owned(),
        subject_type: "user".to_owned(),
        ..Default::default()
    };
    let mut service = service.clone();
    let mut refused = |spoil: &dyn Fn(&mut wire::ListSubjectsRequest), code: Code, field: &str| {
        let mut request = good.clone();
        spoil(&mut request);
        let status = runtime.block_on(service.list_subjects(request)).expect_err("refused");
        let (found, named, reason) = facts(&status);
        assert_eq!((found, named.as_str()), (code, field), "{reason}: {}", status.message());
    };
    refused(&|r| r.object = None, Code::InvalidArgument, "object");
    refused(&|r| r.object = object("doc", "*"), Code::InvalidArgument, "object.id");
    refused(&|r| r.permission = "a b".to_owned(), Code::InvalidArgument, "permission");
    refused(&|r| r.subject_type = String::new(), Code::InvalidArgument, "subject_type");
    refused(&|r| r.subject_type = "nobody".to_owned(), Code::FailedPrecondition, "subject_type");
    refused(&|r| r.subject_relation = "É".to_owned(), Code::InvalidArgument, "subject_relation");
    refused(&|r| r.subject_relation = "fly".to_owned(), Code::FailedPrecondition, "subject_relation");
    refused(&|r| r.cursor = Some("x".repeat(1_000_000)), Code::InvalidArgument, "cursor");
    refused(&|r| r.limit = Some(6), Code::ResourceExhausted, "limit");
}

/// Whoever lists and goes away leaves nothing working behind: other questions are answered at once.
#[test]
fn a_list_that_is_dropped_stops_and_one_that_costs_too_much_says_so() {
    let (client, _running, _folder) = world(Limits { edges_max: 3_000, ..Limits::default() });
    write(&client, (0..2_000).map(|n| format!("doc:d{n}#viewer@user:ann")));
    let mut rows: Vec<ResourceRow> = Vec::new();
    let error = client.list_resources(&docs_of("user:ann"), ListPage::default(), &mut |row| {
        rows.push(row);
        true
    });
    let error = error.expect_err("too much for one list");
    assert_eq!(error.code, "RESOURCE_EXHAUSTED");
    // What came before the error is right, but says nothing of the rest.
    assert!(rows.len() < 2_000);
    let mut seen = 0;
    let stopped = client.list_resources(&docs_of("user:ann"), ListPage::default(), &mut |_| {
        seen += 1;
        false
    });
    assert!(stopped.is_ok() || seen == 0);
}

#[test]
fn the_command_line_lists() {
    let server = Server::start();
    let folder = tempfile::tempdir().expect("a folder");
    let schema = folder.path().join("s.zed");
    std::fs::write(&schema, SCHEMA).expect("written");
    assert_eq!(code(&server.ask(["schema", "write", schema.to_str().expect("UTF-8")])), 0);
    let tuples = "doc:1#viewer@user:*\ndoc:1#banned@user:tom\ndoc:2#owner@user:dana\ndoc:3#viewer@group:g#member\n\
        group:g#member@user:dana\n";
    assert_eq!(code(&server.ask_with_stdin(&["tuple", "write", "-"], tuples)), 0);
    let listed = server.ask(["list", "resources", "doc", "view", "user:dana"]);
    assert_eq!((code(&listed), stdout(&listed).as_str()), (0, "doc:1\ndoc:2\ndoc:3\n"), "{}", stderr(&listed));
    let page = server.ask(["--json", "list", "resources", "doc#view@user:dana", "--limit", "2"]);
    let page = json_lines(&stdout(&page));
    assert_eq!((page.len(), &page[1]["object"], &page[1]["decision"]), (3, &"doc:2".into(), &"ALLOW".into()));
    assert_eq!((&page[2]["more"], &page[2]["cursor"]), (&true.into(), &page[1]["cursor"]));
    let cursor = page[1]["cursor"].as_str().expect("a cursor");
    let rest = server.ask(["list", "resources", "doc", "view", "user:dana", "--cursor", cursor]);
    assert_eq!(stdout(&rest), "doc:3\n");
    let who = server.ask(["list", "subjects", "doc:1", "view", "user", "--relations"]);
    assert_eq!(stdout(&who), "user:* - {user:tom}  by doc:1#viewer\n");
    let who = server.ask(["list", "subjects", "doc:3#view@group#member"]);
    assert_eq!(stdout(&who), "group:g#member\n");
    let what = server.ask(["list", "permissions", "doc:2", "user:dana", "--allowed"]);
    assert_eq!(stdout(&what), "owner  relation    ALLOW\nview   permission  ALLOW\n");
    let what = json_lines(&stdout(&server.ask(["--json", "list", "permissions", "doc:2", "user:tom"])));
    assert_eq!((what.len(), &what[3]["decision"]), (4, &"DENY".into()));
    assert_eq!(code(&server.ask(["list", "resources", "Doc", "view", "user:dana"])), 2);
    assert_eq!(code(&server.ask(["list", "resources", "doc", "fly", "user:dana"])), 4);
}

const WORLD: &str = "schema: |-
  definition user {}
  definition group { relation member: user }
  definition doc {
    relation viewer: user | user:* | group#member
    relation banned: user
    permission view = viewer - banned
  }
relationships: |-
  doc:1#viewer@user:*
  doc:1#banned@user:tom
  doc:1#viewer@user:dana
  doc:1#viewer@group:g#member
  group:g#member@user:rita
  doc:2#viewer@user:rita
";

const EXPECTED: &str = "validation:
  \"doc:1#view\":
    - \"[group:g#member] is <doc:1#viewer>\"
    - \"[user:* - {user:tom}] is <doc:1#viewer>\"
    - \"[user:dana] is <doc:1#viewer>\"
    - \"[user:rita] is <group:g#member>\"
  \"doc:2#view\":
    - \"[user:rita] is <doc:2#viewer>\"
";

#[test]
fn expected_relations_are_complete_or_the_file_fails() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("world.yaml");
    let test = |text: &str, more: &[&str]| {
        std::fs::write(&path, text).expect("written");
        procura().args(["--json", "test"]).args(more).arg(&path).output().expect("the binary runs")
    };
    let whole = format!("{WORLD}{EXPECTED}");
    for more in [&[][..], &["--server", "spawn"]] {
        let output = test(&whole, more);
        assert_eq!(code(&output), 0, "{}{}", stdout(&output), stderr(&output));
    }
    let fails = |from: &str, to: &str, line: u64, said: &str| {
        assert!(whole.contains(from), "{from}");
        let output = test(&whole.replacen(from, to, 1), &[]);
        assert_eq!(code(&output), 1, "{from} → {to}");
        let report = &json_lines(&stdout(&output))[0];
        let mismatches = report["mismatches"].as_array().expect("a list");
        let found =
            mismatches.iter().any(|one| one["line"] == line && one["message"].as_str().expect("text").contains(said));
        assert!(found, "{from} → {to}: {report}");
    };
    // Forgotten, invented, excluded wrongly, by the wrong relation, conditional when it is not.
    fails("    - \"[user:rita] is <group:g#member>\"\n", "", 17, "`[user:rita] is <group:g#member>` has it");
    fails("    - \"[group:g#member] is <doc:1#viewer>\"\n", "", 17, "group:g#member");
    fails("[user:dana] is", "[user:eve] is", 20, "`user:eve` was expected");
    fails(" - {user:tom}", "", 19, "got without {user:tom}");
    fails(" - {user:tom}", " - {user:tom[...]}", 19, "got without {user:tom}");
    fails("[user:dana] is <doc:1#viewer>", "[user:dana] is <doc:1#banned>", 20, "got by <doc:1#viewer>");
    fails("[user:dana]", "[user:dana[...]]", 20, "got ALLOW");
    fails("\"doc:2#view\":\n    - \"[user:rita] is <doc:2#viewer>\"", "doc:2#view: []", 22, "[user:rita]");
}

#[test]
fn recording_writes_what_holds() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("world.yaml");
    let record = |text: &str| {
        std::fs::write(&path, text).expect("written");
        let output = procura().args(["test", "--record"]).arg(&path).output().expect("the binary runs");
        assert_eq!(code(&output), 0, "{}{}", stdout(&output), stderr(&output));
        std::fs::read_to_string(&path).expect("read")
    };
    let whole = format!("{WORLD}{EXPECTED}");
    assert_eq!(record(WORLD), whole);
    assert_eq!(record(&whole), whole);
    let stale = format!("{WORLD}validation:\n  doc:2#view:\n    - '[user:eve]'\n# kept\nassertions: {{}}\n");
    let only = EXPECTED.split_once("  \"doc:2#view\"").expect("there").1;
    assert_eq!(record(&stale), format!("{WORLD}validation:\n  \"doc:2#view\"{only}# kept\nassertions: {{}}\n"));
}
