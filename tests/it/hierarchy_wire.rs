//! The hierarchy and what leans on what, as a client in any language meets them and as the command line prints them.

use crate::cli::{Server, code, json_lines, procura, stderr, stdout};
use procura::api::client::{At, Client, Deletion, ListPage, ResourcesOf, SubjectsOf};
use procura::api::{Running, ServeOptions, serve_in_background};
use procura::engine::{Engine, Metadata, Options};
use procura::model::{
    Acting, Limits, ObjectRef, Precondition, RelationName, TupleFilter, TupleUpdate, TypeName, UpdateKind,
};
use std::sync::Arc;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use wire::permission_service_client::PermissionServiceClient;
use wire::schema_service_client::SchemaServiceClient;
use wire::tuple_service_client::TupleServiceClient;

/// The messages as generated for anybody.
#[allow(clippy::all, clippy::pedantic, dead_code, reason = "generated")]
mod wire {
    tonic::include_proto!("procura.v1");
}

const SCHEMA: &str = "use hierarchy

definition user {}

definition org {
  relation viewer: user

  permission view = viewer
}

definition folder {
  parent up: folder | org

  relation viewer: user

  permission view = viewer + up->view
}

definition doc {
  parent home: folder

  relation viewer: user

  permission view = viewer + home->view
}
";

const TUPLES: [&str; 7] = [
    "folder:plans#up@org:acme",
    "folder:else#up@org:acme",
    "doc:a#home@folder:plans",
    "doc:a#viewer@user:rita",
    "doc:b#home@folder:plans",
    "doc:c#home@folder:else",
    "org:acme#viewer@user:dana",
];

fn world() -> (Client, Running, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Arc::new(Engine::open(Options::at(folder.path())).expect("open"));
    let options = ServeOptions { listen: "127.0.0.1:0".parse().expect("an address"), limits: Limits::default() };
    let running = serve_in_background(engine, options).expect("a server");
    let client = Client::connect(&running.address().to_string()).expect("a connection");
    client.write_schema(SCHEMA, None, false, &Metadata::new()).expect("a schema");
    let touch = |text: &&str| TupleUpdate { kind: UpdateKind::Touch, tuple: text.parse().expect("a tuple") };
    let updates: Vec<TupleUpdate> = TUPLES.iter().map(touch).collect();
    client.write_tuples(&updates, &[], &Metadata::new()).expect("written");
    (client, running, folder)
}

fn object(text: &str) -> ObjectRef {
    text.parse().expect("an object")
}

fn within(root: &str) -> TupleFilter {
    TupleFilter { within: Some(object(root)), ..TupleFilter::default() }
}

fn read(client: &Client, filter: &TupleFilter) -> Vec<String> {
    let mut rows = Vec::new();
    let all = &mut |tuple: procura::model::RelationTuple, _| {
        rows.push(tuple.to_string());
        true
    };
    client.read_tuples(filter, &At::Newest, None, None, all).expect("read");
    rows.sort();
    rows
}

#[test]
fn a_client_reads_exports_lists_and_deletes_by_subtree() {
    let (client, _running, _folder) = world();
    let beneath =
        ["doc:a#home@folder:plans", "doc:a#viewer@user:rita", "doc:b#home@folder:plans", "folder:plans#up@org:acme"];
    assert_eq!(read(&client, &within("folder:plans")), beneath);
    let mut exported = Vec::new();
    client
        .export_tuples(&within("folder:plans"), &At::Newest, None, &mut |_, tuples, _| {
            exported.extend(tuples.iter().map(ToString::to_string));
            true
        })
        .expect("exported");
    exported.sort();
    assert_eq!(exported, beneath);
    let listed = |root: Option<&ObjectRef>| {
        let mut rows = Vec::new();
        let asked = ResourcesOf {
            acting: Acting::default(),
            object_type: TypeName::new("doc").expect("a name"),
            permission: RelationName::new("view").expect("a name"),
            subject: "user:dana".parse().expect("a subject"),
            within: root.cloned(),
        };
        let each = &mut |row: procura::engine::ResourceRow| {
            rows.push(row.object.to_string());
            true
        };
        client.list_resources(&asked, ListPage::default(), each).expect("listed");
        rows
    };
    assert_eq!(listed(None), ["doc:a", "doc:b", "doc:c"]);
    assert_eq!(listed(Some(&object("folder:plans"))), ["doc:a", "doc:b"]);
    let parents = |root: Option<&str>| {
        let mut rows = Vec::new();
        let asked = SubjectsOf {
            object: object("doc:a"),
            permission: RelationName::new("home").expect("a name"),
            subject_type: TypeName::new("folder").expect("a name"),
            subject_relation: None,
            with_relations: false,
            within: root.map(object),
        };
        let each = &mut |row: procura::engine::SubjectRow| {
            rows.push(row.subject.to_string());
            true
        };
        client.list_subjects(&asked, ListPage::default(), each).expect("listed");
        rows
    };
    assert_eq!(parents(None), ["folder:plans"]);
    assert_eq!(parents(Some("org:acme")), ["folder:plans"]);
    assert!(parents(Some("folder:else")).is_empty());

    let counted = |deletion: &Deletion| client.delete_subtree(&object("folder:plans"), deletion).map(|done| done.count);
    let dry = Deletion { dry_run: true, ..Deletion::default() };
    assert_eq!(counted(&dry).expect("judged"), 4);
    assert_eq!(client.delete_tuples_under(&within("folder:plans"), &dry).expect("judged").count, 4);
    let refused = Deletion { preconditions: vec![Precondition::MustNotMatch(within("doc:a"))], ..Deletion::default() };
    assert_eq!(counted(&refused).expect_err("refused").reason, "PRECONDITION_FAILED");
    assert_eq!(read(&client, &TupleFilter::default()).len(), TUPLES.len(), "nothing was deleted");
    assert_eq!(counted(&Deletion { limit: Some(3), ..Deletion::default() }).expect("deleted"), 3);
    assert_eq!(read(&client, &within("folder:plans")), ["folder:plans#up@org:acme"], "the top is left last");
    assert_eq!(counted(&Deletion::default()).expect("deleted"), 1);
    let left = ["doc:c#home@folder:else", "folder:else#up@org:acme", "org:acme#viewer@user:dana"];
    assert_eq!(read(&client, &TupleFilter::default()), left);
}

#[test]
fn what_is_wrong_with_a_subtree_is_named_by_its_field() {
    let (_client, running, _folder) = world();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let channel = runtime
        .block_on(
            tonic::transport::Endpoint::from_shared(format!("http://{}", running.address())).expect("a uri").connect(),
        )
        .expect("a connection");
    let (mut tuples, mut permissions, mut schemas) = (
        TupleServiceClient::new(channel.clone()),
        PermissionServiceClient::new(channel.clone()),
        SchemaServiceClient::new(channel),
    );
    let object = |of: &str, id: &str| Some(wire::ObjectRef { r#type: of.into(), id: id.into() });
    let judge = |status: Status, code: Code, field: &str| {
        let details = status.get_error_details();
        let facts = &details.error_info().expect("ErrorInfo").metadata;
        assert_eq!((status.code(), facts.get("field").map(String::as_str)), (code, Some(field)), "{status:?}");
    };
    let mut deleting = |root, limit| {
        let request = wire::DeleteSubtreeRequest { root, limit, ..Default::default() };
        runtime.block_on(tuples.delete_subtree(request)).expect_err("refused")
    };
    judge(deleting(None, None), Code::InvalidArgument, "root");
    judge(deleting(object("folder", ""), None), Code::InvalidArgument, "root.id");
    judge(deleting(object("drawer", "a"), None), Code::FailedPrecondition, "root.type");
    judge(deleting(object("folder", "plans"), Some(0)), Code::InvalidArgument, "limit");
    judge(deleting(object("folder", "plans"), Some(1_000_001)), Code::InvalidArgument, "limit");
    let filter = |of, id| Some(wire::TupleFilter { within: object(of, id), ..Default::default() });
    let mut filtering = |filter| {
        let request = wire::DeleteTuplesRequest { filter, dry_run: true, ..Default::default() };
        runtime.block_on(tuples.delete_tuples(request))
    };
    judge(filtering(filter("folder", "*")).expect_err("refused"), Code::InvalidArgument, "filter.within.id");
    judge(filtering(filter("drawer", "a")).expect_err("refused"), Code::FailedPrecondition, "filter.within.type");
    assert_eq!(filtering(filter("folder", "plans")).expect("judged").into_inner().deleted_count, 4);
    let mut listing = |of, id| {
        let subject = Some(wire::SubjectRef { object: object("user", "dana"), relation: String::new() });
        let (object_type, permission) = ("doc".into(), "view".into());
        let within = object(of, id);
        let request = wire::ListResourcesRequest { object_type, permission, subject, within, ..Default::default() };
        runtime.block_on(permissions.list_resources(request)).expect_err("refused")
    };
    judge(listing("folder", ""), Code::InvalidArgument, "within.id");
    judge(listing("drawer", "a"), Code::FailedPrecondition, "within.type");
    let mut listing = |of, id| {
        let (permission, subject_type, within) = ("home".into(), "folder".into(), object(of, id));
        let asked = object("doc", "a");
        let request =
            wire::ListSubjectsRequest { object: asked, permission, subject_type, within, ..Default::default() };
        runtime.block_on(permissions.list_subjects(request)).expect_err("refused")
    };
    judge(listing("folder", ""), Code::InvalidArgument, "within.id");
    judge(listing("drawer", "a"), Code::FailedPrecondition, "within.type");

    let member = |of: &str, name: &str| wire::SchemaMemberName { definition: of.into(), name: name.into() };
    let mut computable = |relations| {
        let request = wire::ComputablePermissionsRequest { relations, ..Default::default() };
        runtime.block_on(schemas.computable_permissions(request)).map(tonic::Response::into_inner)
    };
    judge(computable(vec![]).expect_err("refused"), Code::InvalidArgument, "relations");
    let wrong = vec![member("doc", "home"), member("doc", "Home")];
    judge(computable(wrong).expect_err("refused"), Code::InvalidArgument, "relations[1].name");
    let unknown = vec![member("drawer", "home")];
    judge(computable(unknown).expect_err("refused"), Code::FailedPrecondition, "relations[0].definition");
    let found = computable(vec![member("org", "viewer")]).expect("an answer");
    let due = ["org", "folder", "doc"].map(|of| wire::SchemaMember {
        definition: of.into(),
        name: "view".into(),
        is_permission: true,
    });
    assert_eq!(found.permissions, due);
    assert!(found.read_at.is_some());
    let mut dependent = |permission| {
        let request = wire::DependentRelationsRequest { permission, ..Default::default() };
        runtime.block_on(schemas.dependent_relations(request)).map(tonic::Response::into_inner)
    };
    judge(dependent(None).expect_err("refused"), Code::InvalidArgument, "permission");
    judge(dependent(Some(member("doc", "home"))).expect_err("refused"), Code::FailedPrecondition, "permission.name");
    let found = dependent(Some(member("org", "view"))).expect("an answer");
    let due = wire::SchemaMember { definition: "org".into(), name: "viewer".into(), is_permission: false };
    assert_eq!(found.members, [due]);
}

#[test]
fn the_command_line_reads_lists_and_deletes_by_subtree() {
    let server = Server::start();
    assert_eq!(code(&server.ask_with_stdin(&["schema", "write", "-"], SCHEMA)), 0);
    assert_eq!(code(&server.ask_with_stdin(&["tuple", "write", "-"], &TUPLES.join("\n"))), 0);
    let said = |arguments: &[&str]| {
        let output = server.ask(arguments.iter().copied());
        assert_eq!(code(&output), 0, "{arguments:?}: {}", stderr(&output));
        stdout(&output)
    };
    assert_eq!(said(&["tuple", "read", "--within", "folder:else"]).lines().count(), 2);
    assert_eq!(said(&["tuple", "read", "--within", "folder:plans", "--object", "doc"]).lines().count(), 3);
    let exported = said(&["tuple", "export", "--within", "folder:plans"]);
    assert_eq!(exported.lines().filter(|line| !line.starts_with("//")).count(), 4, "{exported}");
    let listed = said(&["list", "resources", "doc", "view", "user:dana", "--within", "folder:plans"]);
    assert_eq!(listed, "doc:a\ndoc:b\n");
    assert_eq!(
        said(&["tuple", "delete", "--within", "folder:plans", "--dry-run"]),
        "would delete 4 tuples (dry run)\n"
    );
    let counted = json_lines(&said(&["--json", "tuple", "delete", "--within", "folder:plans", "--dry-run"]));
    assert_eq!((&counted[0]["deleted"], &counted[0]["dry_run"]), (&4.into(), &true.into()));
    let output = server.ask(["tuple", "delete", "--within", "folder:plans", "--limit", "3"]);
    assert!(stdout(&output).starts_with("deleted 3 tuples\n"), "{}", stdout(&output));
    assert!(stderr(&output).contains("more may be left"), "{}", stderr(&output));
    assert!(said(&["tuple", "delete", "--within", "folder:plans"]).starts_with("deleted 1 tuple\n"));
    assert_eq!(said(&["tuple", "read"]).lines().count(), 3);
    for wrong in [
        &["tuple", "read", "--within", "folder"][..],
        &["tuple", "delete", "--within", "folder:*"],
        &["tuple", "delete", "doc:c#home@folder:else", "--within", "folder:else"],
        &["tuple", "delete", "doc:c#home@folder:else", "--dry-run"],
        &["tuple", "delete", "--within", "folder:else", "--limit", "0"],
        &["list", "resources", "doc", "view", "user:dana", "--within", "folder"],
    ] {
        let output = server.ask(wrong.iter().copied());
        assert_eq!(code(&output), 2, "{wrong:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("--"), "{wrong:?} names no option: {}", stderr(&output));
    }
    assert_eq!(said(&["tuple", "read"]).lines().count(), 3, "nothing was deleted by a wrong call");
}

#[test]
fn the_command_line_reflects_on_a_file_and_on_a_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("schema.zed");
    std::fs::write(&path, SCHEMA).expect("written");
    let file = path.to_str().expect("UTF-8");
    let server = Server::start();
    assert_eq!(code(&server.ask_with_stdin(&["schema", "write", "-"], SCHEMA)), 0);
    for (arguments, due) in [
        (
            &["computable-permissions", "org#viewer"][..],
            "permission  org#view\npermission  folder#view\npermission  doc#view\n",
        ),
        (&["computable", "doc#home", "folder#viewer"], "permission  folder#view\npermission  doc#view\n"),
        (&["dependent-relations", "org#view"], "relation    org#viewer\n"),
        (
            &["dependent", "folder#view"],
            "relation    org#viewer\npermission  org#view\nrelation    folder#up\nrelation    folder#viewer\n",
        ),
    ] {
        let asked: Vec<&str> = ["schema", "reflect"].iter().chain(arguments).copied().collect();
        let of_server = server.ask(asked.iter().copied());
        let of_file = procura().args(&asked).args(["--file", file]).output().expect("the binary runs");
        assert_eq!(stdout(&of_server), due, "{arguments:?}: {}", stderr(&of_server));
        assert_eq!(stdout(&of_file), due, "{arguments:?}: {}", stderr(&of_file));
    }
    let json = procura().args(["--json", "schema", "reflect", "dependent", "org#view", "--file", file]).output();
    let due = serde_json::json!({"definition": "org", "name": "viewer", "kind": "relation"});
    assert_eq!(json_lines(&stdout(&json.expect("the binary runs"))), [due]);
    for (arguments, file_says, server_says, word) in [
        (["computable", "doc#hom"], 2, 4, "home"),
        (["dependent", "doc#viewer"], 2, 4, "is a relation"),
        (["dependent", "drawer#view"], 2, 4, "drawer"),
        (["dependent", "doc"], 2, 2, "DEFINITION#NAME"),
    ] {
        let asked: Vec<&str> = ["schema", "reflect"].iter().chain(&arguments).copied().collect();
        let of_server = server.ask(asked.iter().copied());
        let of_file = procura().args(&asked).args(["--file", file]).output().expect("the binary runs");
        assert_eq!((code(&of_file), code(&of_server)), (file_says, server_says), "{arguments:?}");
        assert!(stderr(&of_file).contains(word) && stderr(&of_server).contains(word), "{}", stderr(&of_file));
    }
}
