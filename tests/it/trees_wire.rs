//! Explain and Expand as a client in any language meets them, and as the command line prints them.

use crate::cli::{Server, code, json_lines, stderr, stdout};
use procura::api::client::{Client, Under};
use procura::api::{Running, ServeOptions, serve_in_background};
use procura::engine::{Engine, Metadata, Options};
use procura::model::{
    Acting, Decision, ExpandPart, ExplainPart, Limits, NearMissKind, Question, RelationName, RelationTuple, TupleKey,
    TupleUpdate, UpdateKind,
};
use std::path::Path;
use std::sync::Arc;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use wire::permission_service_client::PermissionServiceClient;

/// The messages as generated for anybody.
#[allow(clippy::all, clippy::pedantic, dead_code, reason = "generated")]
mod wire {
    tonic::include_proto!("procura.v1");
}

const SCHEMA: &str = "use expiration
use self
caveat c(x bool) { x }
definition user { permission me = self }
definition group { relation member: user | group#member }
definition folder {
  relation parent: folder | user
  relation viewer: user | user:* | group#member
  permission view = viewer + parent->view + parent->me
  permission every = parent.all(view)
}
definition doc {
  relation folder: folder
  relation owner: user with c | user with expiration
  relation banned: user
  permission edit = owner & folder->view
  permission view = (owner + folder->view) - banned
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
    let tuples = [
        "doc:1#folder@folder:a",
        "doc:1#owner@user:rita[c]",
        "folder:a#viewer@group:g#member",
        "group:g#member@user:dana",
        "folder:a#parent@folder:b",
        "folder:b#parent@folder:a",
        "folder:a#parent@user:zoe",
        "doc:1#banned@user:dana",
    ];
    write(&client, &tuples.map(str::to_owned));
    (client, running, folder)
}

fn write(client: &Client, tuples: &[String]) {
    let touch =
        |text: &String| TupleUpdate { kind: UpdateKind::Touch, tuple: text.parse::<RelationTuple>().expect("a tuple") };
    let updates: Vec<TupleUpdate> = tuples.iter().map(touch).collect();
    client.write_tuples(&updates, &[], &Metadata::new()).expect("written");
}

fn question(text: &str) -> Question {
    let TupleKey { object, relation, subject } = text.parse().expect("a question");
    Question { object, permission: relation, subject }
}

#[test]
fn an_answer_comes_over_the_wire_with_its_reasons() {
    let (client, _running, _folder) = world(Limits::default());
    let denied = client
        .explain(&question("doc:1#view@user:dana"), &Acting::default(), &Under::default())
        .expect("an explanation");
    assert_eq!((denied.decision, denied.historical, denied.truncated), (Decision::Deny, false, false));
    assert!(!denied.token.is_empty());
    let near: Vec<(NearMissKind, String)> =
        denied.near_misses.iter().map(|near| (near.kind, near.tuple.to_string())).collect();
    assert_eq!(near, [(NearMissKind::Remove, "doc:1#banned@user:dana".to_owned())]);
    let taken: Vec<String> = denied
        .steps
        .iter()
        .filter_map(|step| match &step.part {
            ExplainPart::Member(member) if step.subtracted => Some(member.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(taken, ["doc:1#banned"]);

    // Its condition travels with the tuple, and the context with the question.
    let asked = question("doc:1#view@user:rita");
    let conditional = client.explain(&asked, &Acting::default(), &Under::default()).expect("an explanation");
    assert_eq!((conditional.decision, conditional.missing.as_slice()), (Decision::Conditional, &["x".to_owned()][..]));
    let context = serde_json::from_str(r#"{"x":true}"#).expect("a context");
    let allowed =
        client.explain(&asked, &Acting::default(), &Under { context, ..Under::default() }).expect("an explanation");
    assert_eq!(allowed.decision, Decision::Allow);
    assert!(allowed.near_misses.is_empty());
    let tuple = allowed.steps.iter().find_map(|step| match &step.part {
        ExplainPart::Tuple { tuple, .. } => Some(tuple.to_string()),
        _ => None,
    });
    assert_eq!(tuple.as_deref(), Some("doc:1#owner@user:rita[c]"));

    // Every kind of step is understood by the client: an unknown one would be an error.
    for asked in ["doc:1#view@user:tom", "doc:1#edit@user:zoe", "folder:b#every@user:tom", "folder:a#view@user:zoe"] {
        let found = client.explain(&question(asked), &Acting::default(), &Under::default()).expect("an explanation");
        let checked = client.check(&question(asked), &procura::api::client::At::Newest, false).expect("an answer");
        assert_eq!((found.decision, found.token), (checked.decision, checked.token), "{asked}");
    }
    let itself =
        client.explain(&question("group:g#member@group:g#member"), &Acting::default(), &Under::default()).expect("it");
    assert!(matches!(itself.steps[0].part, ExplainPart::Userset(_)));
}

#[test]
fn a_structure_comes_over_the_wire() {
    let (client, _running, _folder) = world(Limits::default());
    let object = "doc:1".parse().expect("an object");
    let view = RelationName::new("view").expect("a name");
    let by_default = client.expand(&object, &view, 0, &Under::default()).expect("an expansion");
    assert!(!by_default.token.is_empty() && !by_default.historical);
    assert_eq!(by_default, client.expand(&object, &view, 1, &Under::default()).expect("an expansion"));
    assert!(by_default.steps.iter().any(|step| matches!(step.part, ExpandPart::Beyond(_))));
    let all = client.expand(&object, &view, 9, &Under::default()).expect("an expansion");
    assert!(!all.steps.iter().any(|step| matches!(step.part, ExpandPart::Beyond(_))));
    assert!(all.steps.iter().any(|step| matches!(step.part, ExpandPart::Repeated(_))));
    assert!(all.steps.iter().any(|step| matches!(step.part, ExpandPart::Itself(_))));
    assert!(all.steps.iter().any(|step| matches!(step.part, ExpandPart::Nil)));
}

/// The code, the field or limit that is named, and the reason.
fn facts(status: &Status) -> (Code, String, String) {
    let details = status.get_error_details();
    let info = details.error_info().expect("an ErrorInfo");
    assert_eq!(info.domain, "procura");
    let named = info.metadata.get("field").or_else(|| info.metadata.get("limit")).cloned();
    (status.code(), named.unwrap_or_default(), info.reason.clone())
}

/// What is done to a request, and the code and the field or limit that are then due.
type Spoilt<'a, M> = (&'a dyn Fn(&mut M), Code, &'a str);

#[test]
fn every_field_is_named_when_it_is_wrong() {
    let (_client, running, _folder) = world(Limits { expand_steps_max: 5, ..Limits::default() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let address = format!("http://{}", running.address());
    let mut service = runtime.block_on(PermissionServiceClient::connect(address)).expect("a connection");
    let object = |of: &str, id: &str| Some(wire::ObjectRef { r#type: of.to_owned(), id: id.to_owned() });
    let subject = |id: &str| Some(wire::SubjectRef { object: object("user", id), relation: String::new() });
    let good = wire::ExplainRequest {
        object: object("doc", "1"),
        permission: "view".to_owned(),
        subject: subject("rita"),
        ..Default::default()
    };
    let time = prost_types::Timestamp { seconds: 1, nanos: 0 };
    let spoilt: [Spoilt<'_, wire::ExplainRequest>; 8] = [
        (&|r| r.object = None, Code::InvalidArgument, "object"),
        (&|r| r.permission = "View".into(), Code::InvalidArgument, "permission"),
        (&|r| r.permission = "fly".into(), Code::FailedPrecondition, "permission"),
        (&|r| r.subject = None, Code::InvalidArgument, "subject"),
        (&|r| r.subject = subject("*"), Code::InvalidArgument, "subject.object.id"),
        (&|r| r.clock = Some(time), Code::InvalidArgument, "clock"),
        (&|r| r.contextual_tuples = vec![Default::default()], Code::InvalidArgument, "contextual_tuples[0].object"),
        (&|r| r.consistency = Some(wire::Consistency { requirement: None }), Code::InvalidArgument, "consistency"),
    ];
    for (spoil, code, field) in spoilt {
        let mut request = good.clone();
        spoil(&mut request);
        let status = runtime.block_on(service.explain(request)).expect_err("refused");
        let (found, named, _) = facts(&status);
        assert_eq!((found, named.as_str()), (code, field), "{status:?}");
    }
    let good = wire::ExpandRequest { object: object("doc", "1"), permission: "view".to_owned(), ..Default::default() };
    let spoilt: [Spoilt<'_, wire::ExpandRequest>; 5] = [
        (&|r| r.object = object("doc", ""), Code::InvalidArgument, "object.id"),
        (&|r| r.object = object("dok", "1"), Code::FailedPrecondition, "object.type"),
        (&|r| r.permission = String::new(), Code::InvalidArgument, "permission"),
        (&|r| r.clock = Some(time), Code::InvalidArgument, "clock"),
        (&|_| (), Code::ResourceExhausted, "5"),
    ];
    for (spoil, code, field) in spoilt {
        let mut request = good.clone();
        spoil(&mut request);
        let status = runtime.block_on(service.expand(request)).expect_err("refused");
        let (found, named, reason) = facts(&status);
        assert_eq!((found, named.as_str()), (code, field), "{status:?}");
        assert_eq!(reason == "EXPANSION_TOO_LARGE", code == Code::ResourceExhausted, "{status:?}");
    }
}

#[test]
fn the_command_line_draws_trees() {
    let server = Server::start();
    let saas = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema-examples/saas.zed");
    assert_eq!(code(&server.ask(["schema", "write", saas.to_str().expect("UTF-8")])), 0);
    let tuples = "org:acme#admin@user:rita\nworkspace:lab#org@org:acme\nproject:alpha#workspace@workspace:lab\n\
                  project:alpha#editor@user:dana\nproject:alpha#suspended@user:dana\n";
    assert_eq!(code(&server.ask_with_stdin(&["tuple", "write", "-"], tuples)), 0);

    let denied = server.ask(["explain", "project:alpha#delete@user:dana"]);
    assert_eq!(code(&denied), 1, "{}", stderr(&denied));
    assert_eq!(
        stdout(&denied),
        "\
DENY project:alpha#delete@user:dana
└─ project:alpha#delete  DENY
   └─ project:alpha#manage  DENY  any of
      ├─ project:alpha#owner  DENY  no live tuple names user:dana
      └─ workspace->manage  DENY
         └─ project:alpha#workspace@workspace:lab
            └─ workspace:lab#manage  DENY  any of
               ├─ workspace:lab#admin  DENY  no live tuple names user:dana
               └─ org->manage  DENY
                  └─ workspace:lab#org@org:acme
                     └─ org:acme#manage  DENY
                        └─ org:acme#admin  DENY  no live tuple names user:dana
would be ALLOW with one of these
  + project:alpha#owner@user:dana
  + workspace:lab#admin@user:dana
  + org:acme#admin@user:dana
"
    );
    let allowed = server.ask(["explain", "project:alpha#edit@user:rita"]);
    assert_eq!(code(&allowed), 0, "{}", stderr(&allowed));
    assert!(stdout(&allowed).starts_with("ALLOW project:alpha#edit@user:rita\n└─ project:alpha#edit\n"));
    assert!(!stdout(&allowed).contains("would be"), "{}", stdout(&allowed));
    let suspended = stdout(&server.ask(["explain", "project:alpha#edit@user:dana"]));
    assert!(suspended.contains("but not project:alpha#suspended  ALLOW\n"), "{suspended}");
    assert!(suspended.contains("\n  - project:alpha#suspended@user:dana\n"), "{suspended}");
    // As if it were written.
    let laid = ["explain", "project:alpha#delete@user:dana", "--contextual-tuple", "org:acme#admin@user:dana"];
    assert_eq!(code(&server.ask(laid)), 0);

    let json = server.ask(["--json", "explain", "project:alpha#delete@user:dana"]);
    assert_eq!(code(&json), 1);
    let lines = json_lines(&stdout(&json));
    assert_eq!((lines.len(), &lines[0]["decision"]), (1, &"DENY".into()));
    assert_eq!(
        lines[0]["near_misses"][0],
        serde_json::json!({"kind": "add", "tuple": "project:alpha#owner@user:dana"})
    );
    let first = serde_json::json!({
        "depth": 0, "step": "member", "member": "project:alpha#delete", "value": "DENY", "subtracted": false,
    });
    assert_eq!(lines[0]["steps"][0], first);
    let unknown = server.ask(["explain", "project:alpha#fly@user:dana"]);
    assert_eq!(code(&unknown), 4);
    assert_eq!(code(&server.ask(["explain", "project:alpha"])), 2);

    let expanded = server.ask(["expand", "project:alpha", "manage"]);
    assert_eq!(code(&expanded), 0, "{}", stderr(&expanded));
    assert_eq!(
        stdout(&expanded),
        "\
project:alpha#manage  any of
├─ project:alpha#owner  no tuple
└─ workspace->manage
   └─ project:alpha#workspace@workspace:lab
      └─ workspace:lab#manage  …
"
    );
    let deep = stdout(&server.ask(["expand", "project:alpha#manage", "--depth", "3"]));
    assert!(deep.contains("└─ org:acme#admin@user:rita"), "{deep}");
    let json = json_lines(&stdout(&server.ask(["--json", "expand", "project:alpha#manage"])));
    assert_eq!(json[0]["steps"][1], serde_json::json!({"depth": 1, "step": "operator", "operator": "union"}));
    assert_eq!(code(&server.ask(["expand", "project:alpha", "fly"])), 4);
    assert_eq!(code(&server.ask(["expand", "project:alpha", "manage", "--depth", "0"])), 2);
}

#[test]
fn the_command_line_tells_what_fails_and_what_has_ended() {
    let server = Server::start();
    let schema = "use expiration
caveat divides(by int) { 10 / by > 1 }
definition user {}
definition doc {
  relation owner: user
  relation net: user with divides
  relation brief: user with expiration
  permission both = owner & net
}
";
    assert_eq!(code(&server.ask_with_stdin(&["schema", "write", "-"], schema)), 0);
    let tuples = "doc:1#net@user:rita[divides:{\"by\":0}]\ndoc:1#brief@user:rita[expiration:2001-01-01T00:00:00Z]\n";
    assert_eq!(code(&server.ask_with_stdin(&["tuple", "write", "-"], tuples)), 0);
    let failed = stdout(&server.ask(["explain", "doc:1#both@user:rita"]));
    let why = "the caveat `divides` of `doc:1#net@user:rita` cannot be evaluated: division by zero in `10 / by`";
    assert!(failed.contains(&format!("doc:1#net  UNKNOWN ({why})\n")), "{failed}");
    assert!(
        failed.ends_with("no single tuple that was tried would make it ALLOW; all that name user:rita were\n"),
        "{failed}"
    );
    let json = json_lines(&stdout(&server.ask(["--json", "explain", "doc:1#both@user:rita"])));
    let net = json[0]["steps"].as_array().unwrap().iter().find(|step| step["member"] == "doc:1#net").unwrap();
    assert_eq!((&net["value"], &net["failed"]), (&serde_json::Value::Null, &why.into()));
    let ended = stdout(&server.ask(["explain", "doc:1#brief@user:rita"]));
    let shown = "doc:1#brief@user:rita[expiration:2001-01-01T00:00:00Z]  DENY (ended at 2001-01-01T00:00:00Z)";
    assert!(ended.contains(shown) && ended.contains("\n  + doc:1#brief@user:rita[expiration:20"), "{ended}");
}
