//! The wire, over real sockets: what a client in any language meets. Happy paths through the blocking client; the error
//! contract through messages as another program would send them.

use procura::api::client::{At, Client, ClientError, FilterOf, Under};
use procura::api::{Running, ServeOptions, serve_in_background};
use procura::engine::{Engine, Metadata, Options};
use procura::model::{
    Acting, Decision, Limits, ObjectId, Precondition, Question, RelationTuple, Step, TupleFilter, TupleKey,
    TupleUpdate, UpdateKind,
};
use prost::Message;
use std::sync::Arc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_types::{StatusExt, pb};
use wire::permission_service_client::PermissionServiceClient;
use wire::schema_service_client::SchemaServiceClient;
use wire::tuple_service_client::TupleServiceClient;

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

/// A server with the schema and a few tuples, and both ways to talk to it. Fields drop in this order.
struct World {
    client: Client,
    channel: Channel,
    runtime: tokio::runtime::Runtime,
    running: Running,
    _folder: tempfile::TempDir,
}

/// An engine in a folder of its own, behind a server with these limits.
fn serving(limits: Limits) -> (Running, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let engine = Arc::new(Engine::open(Options::at(folder.path())).unwrap());
    let options = ServeOptions { listen: "127.0.0.1:0".parse().unwrap(), limits };
    (serve_in_background(engine, options).unwrap(), folder)
}

fn empty_world(limits: Limits) -> World {
    let (running, folder) = serving(limits);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let endpoint = Endpoint::from_shared(format!("http://{}", running.address())).unwrap();
    let endpoint = endpoint.http2_max_header_list_size(64 << 10);
    let channel = runtime.block_on(endpoint.connect()).unwrap();
    let client = Client::connect(&running.address().to_string()).unwrap();
    World { client, channel, runtime, running, _folder: folder }
}

fn world() -> World {
    let world = empty_world(Limits::default());
    world.client.write_schema(SCHEMA, None, false, &Metadata::new()).unwrap();
    world.write(&["doc:1#viewer@group:eng#member", "group:eng#member@user:rita", "doc:2#owner@user:dana"]);
    world
}

impl World {
    fn write(&self, tuples: &[&str]) -> String {
        let updates: Vec<_> = tuples.iter().map(|text| touch(text)).collect();
        self.client.write_tuples(&updates, &[], &Metadata::new()).unwrap().token
    }

    fn read(&self, filter: &TupleFilter) -> Vec<String> {
        let mut rows = Vec::new();
        self.client
            .read_tuples(filter, &At::Newest, None, None, &mut |tuple, _| {
                rows.push(tuple.to_string());
                true
            })
            .unwrap();
        rows
    }

    fn decide(&self, text: &str) -> Decision {
        self.client.check(&question(text), &At::Newest, false).unwrap().decision
    }

    fn check(&self, request: wire::CheckRequest) -> Result<wire::CheckResponse, Status> {
        let mut service = PermissionServiceClient::new(self.channel.clone());
        self.runtime.block_on(service.check(request)).map(tonic::Response::into_inner)
    }

    fn check_bulk(&self, request: wire::CheckBulkRequest) -> Result<wire::CheckBulkResponse, Status> {
        let mut service = PermissionServiceClient::new(self.channel.clone());
        self.runtime.block_on(service.check_bulk(request)).map(tonic::Response::into_inner)
    }

    fn filter(&self, request: wire::FilterResourcesRequest) -> Result<wire::FilterResourcesResponse, Status> {
        let mut service = PermissionServiceClient::new(self.channel.clone());
        self.runtime.block_on(service.filter_resources(request)).map(tonic::Response::into_inner)
    }

    fn write_wire(&self, request: wire::WriteTuplesRequest) -> Result<wire::WriteTuplesResponse, Status> {
        let mut service = TupleServiceClient::new(self.channel.clone());
        self.runtime.block_on(service.write_tuples(request)).map(tonic::Response::into_inner)
    }

    fn delete_wire(&self, request: wire::DeleteTuplesRequest) -> Result<wire::DeleteTuplesResponse, Status> {
        let mut service = TupleServiceClient::new(self.channel.clone());
        self.runtime.block_on(service.delete_tuples(request)).map(tonic::Response::into_inner)
    }

    fn read_wire(&self, request: wire::ReadTuplesRequest) -> Result<Vec<wire::ReadTuplesResponse>, Status> {
        let mut service = TupleServiceClient::new(self.channel.clone());
        self.runtime.block_on(async {
            let mut stream = service.read_tuples(request).await?.into_inner();
            let mut messages = Vec::new();
            while let Some(message) = stream.message().await? {
                messages.push(message);
            }
            Ok(messages)
        })
    }

    fn write_schema_wire(&self, request: wire::WriteSchemaRequest) -> Result<wire::WriteSchemaResponse, Status> {
        let mut service = SchemaServiceClient::new(self.channel.clone());
        self.runtime.block_on(service.write_schema(request)).map(tonic::Response::into_inner)
    }

    /// One message to one method, both as given: the way to say what no generated client would.
    fn raw(
        &self,
        path: &'static str,
        message: Vec<u8>,
        headers: &[(&'static str, &'static str)],
    ) -> Result<(), Status> {
        self.runtime.block_on(async {
            let mut grpc = tonic::client::Grpc::new(self.channel.clone());
            grpc.ready().await.unwrap();
            let mut request = Request::new(message);
            for (name, value) in headers {
                request.metadata_mut().insert(*name, value.parse().unwrap());
            }
            let path = http::uri::PathAndQuery::from_static(path);
            grpc.unary(request, path, Bytes).await.map(drop)
        })
    }
}

/// A codec that sends the bytes it is given.
#[derive(Clone, Copy)]
struct Bytes;

impl tonic::codec::Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = ();
    type Encoder = Bytes;
    type Decoder = Bytes;
    fn encoder(&mut self) -> Bytes {
        Bytes
    }
    fn decoder(&mut self) -> Bytes {
        Bytes
    }
}

impl tonic::codec::Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;
    fn encode(&mut self, item: Vec<u8>, buffer: &mut tonic::codec::EncodeBuf<'_>) -> Result<(), Status> {
        prost::bytes::BufMut::put_slice(buffer, &item);
        Ok(())
    }
}

impl tonic::codec::Decoder for Bytes {
    type Item = ();
    type Error = Status;
    fn decode(&mut self, buffer: &mut tonic::codec::DecodeBuf<'_>) -> Result<Option<()>, Status> {
        let length = prost::bytes::Buf::remaining(buffer);
        prost::bytes::Buf::advance(buffer, length);
        Ok(Some(()))
    }
}

fn tuple(text: &str) -> RelationTuple {
    text.parse().unwrap()
}

fn touch(text: &str) -> TupleUpdate {
    TupleUpdate { kind: UpdateKind::Touch, tuple: tuple(text) }
}

/// `object#permission@subject`
fn question(text: &str) -> Question {
    let TupleKey { object, relation, subject } = text.parse().unwrap();
    Question { object, permission: relation, subject }
}

fn of_type(name: &str) -> TupleFilter {
    TupleFilter { object_type: Some(name.parse().unwrap()), ..TupleFilter::default() }
}

fn object(object_type: &str, id: &str) -> wire::ObjectRef {
    wire::ObjectRef { r#type: object_type.into(), id: id.into() }
}

fn subject(subject_type: &str, id: &str) -> wire::SubjectRef {
    wire::SubjectRef { object: Some(object(subject_type, id)), relation: String::new() }
}

fn check_request() -> wire::CheckRequest {
    wire::CheckRequest {
        acting: None,
        consistency: None,
        object: Some(object("doc", "1")),
        permission: "view".into(),
        subject: Some(subject("user", "rita")),
        explain: false,
        context: None,
        contextual_tuples: Vec::new(),
        clock: None,
    }
}

fn wire_tuple() -> wire::RelationTuple {
    wire::RelationTuple {
        object: Some(object("doc", "1")),
        relation: "viewer".into(),
        subject: Some(subject("user", "rita")),
        caveat: None,
        expires_at: None,
    }
}

fn write_request() -> wire::WriteTuplesRequest {
    let update =
        wire::TupleUpdate { operation: wire::tuple_update::Operation::Touch.into(), tuple: Some(wire_tuple()) };
    let filter = wire::TupleFilter { object_type: Some("doc".into()), ..Default::default() };
    let operation = wire::precondition::Operation::MustMatch.into();
    wire::WriteTuplesRequest {
        updates: vec![update],
        preconditions: vec![wire::Precondition { operation, filter: Some(filter) }],
        metadata: None,
    }
}

/// The contract: the code, the domain, a reason that is not empty; returns the facts.
#[track_caller]
fn contract<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code) -> std::collections::HashMap<String, String> {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), code, "{status:?}");
    assert!(!status.message().is_empty() && !status.message().ends_with('.'), "{status:?}");
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"));
    assert_eq!(info.domain, "procura");
    assert!(info.reason.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'), "{info:?}");
    assert!(!info.reason.is_empty());
    info.metadata
}

/// INVALID_ARGUMENT that names the field.
#[track_caller]
fn invalid<T: std::fmt::Debug>(answer: Result<T, Status>, field: &str) {
    let facts = contract(answer, Code::InvalidArgument);
    assert_eq!(facts.get("field").map(String::as_str), Some(field), "{facts:?}");
}

// ---- what works ----

#[test]
fn a_write_is_seen_by_the_next_check_and_the_path_is_named() {
    let world = world();
    assert_eq!(world.decide("doc:1#view@user:rita"), Decision::Allow);
    assert_eq!(world.decide("doc:1#view@user:dana"), Decision::Deny);
    let token = world.write(&["doc:1#viewer@user:dana"]);
    let checked =
        world.client.check(&question("doc:1#view@user:dana"), &At::AtLeastAsFresh(token.clone()), true).unwrap();
    assert_eq!((checked.decision, checked.historical), (Decision::Allow, false));
    let steps = checked.witness.unwrap().steps;
    let key: TupleKey = "doc:1#viewer@user:dana".parse().unwrap();
    assert!(steps.iter().any(|step| matches!(step, Step::Tuple { tuple, .. } if tuple.key == key)), "{steps:?}");
    world.write(&["doc:1#banned@user:dana"]);
    let denied = world.client.check(&question("doc:1#view@user:dana"), &At::Newest, true).unwrap();
    assert_eq!((denied.decision, denied.witness), (Decision::Deny, None));
    let then = world.client.check(&question("doc:1#view@user:dana"), &At::AtExactSnapshot(token), false).unwrap();
    assert_eq!((then.decision, then.historical), (Decision::Allow, true));
}

#[test]
fn a_bulk_answers_in_order_at_one_revision_and_each_error_stays_with_its_item() {
    let world = world();
    let item = |id: &str, permission: &str, who: &str| wire::CheckBulkItem {
        object: Some(object("doc", "1")),
        permission: permission.into(),
        subject: Some(subject("user", who)),
        id: id.into(),
    };
    let items = vec![
        item("a", "view", "rita"),
        item("b", "view", "a#b"),
        item("c", "view", "dana"),
        item("d", "fly", "rita"),
        item("e", "view", "*"),
    ];
    let reply = world
        .check_bulk(wire::CheckBulkRequest {
            acting: None,
            consistency: None,
            items,
            explain: false,
            context: None,
            contextual_tuples: Vec::new(),
            clock: None,
        })
        .unwrap();
    assert!(!reply.historical && reply.checked_at.is_some());
    let ids: String = reply.results.iter().map(|result| result.id.as_str()).collect();
    assert_eq!(ids, "abcde");
    let said: Vec<_> = reply.results.into_iter().map(|result| result.result.unwrap()).collect();
    use wire::check_bulk_result::Result as Said;
    let decision = |said: &Said| match said {
        Said::Answer(answer) => Ok(answer.decision()),
        Said::Error(error) => Err(Code::from(error.code)),
    };
    assert_eq!(decision(&said[0]), Ok(wire::Decision::Allow));
    assert_eq!(decision(&said[1]), Err(Code::InvalidArgument));
    assert_eq!(decision(&said[2]), Ok(wire::Decision::Deny));
    assert_eq!(decision(&said[3]), Err(Code::FailedPrecondition));
    assert_eq!(decision(&said[4]), Err(Code::InvalidArgument));
    let Said::Error(error) = &said[1] else { panic!("{said:?}") };
    let info = pb::ErrorInfo::decode(error.details[0].value.as_slice()).unwrap();
    assert_eq!(info.metadata["field"], "items[1].subject.object.id");
    // What the schema does not know, the engine finds; it is told in the same way.
    let Said::Error(error) = &said[3] else { panic!("{said:?}") };
    let info = pb::ErrorInfo::decode(error.details[0].value.as_slice()).unwrap();
    assert_eq!(info.metadata["field"], "items[3].permission");

    let questions = ["doc:1#view@user:rita", "doc:1#view@user:dana", "nothing:1#view@user:dana"].map(question);
    let bulk = world.client.check_bulk(&questions, &At::Newest, true).unwrap();
    assert_eq!(bulk.answers[0].as_ref().unwrap().decision, Decision::Allow);
    assert!(bulk.answers[0].as_ref().unwrap().witness.is_some());
    assert_eq!(bulk.answers[1].as_ref().unwrap().decision, Decision::Deny);
    assert_eq!(bulk.answers[2].as_ref().unwrap_err().code, "FAILED_PRECONDITION");
}

#[test]
fn a_filter_answers_in_columns_and_an_id_that_is_none_has_an_error_of_its_own() {
    let world = world();
    let request = |ids: &[&str]| wire::FilterResourcesRequest {
        consistency: None,
        object_type: "doc".into(),
        permission: "view".into(),
        subject: Some(subject("user", "rita")),
        ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        context: None,
        contextual_tuples: Vec::new(),
        acting: None,
        clock: None,
    };
    let reply = world.filter(request(&["a#b", "1", "", "2", "never", "1", "*"])).unwrap();
    assert!(!reply.historical && reply.checked_at.is_some() && reply.conditionals.is_empty());
    use wire::Decision as Said;
    let decisions: Vec<Said> = reply.decisions().collect();
    let none = Said::Unspecified;
    assert_eq!(decisions, [none, Said::Allow, none, Said::Deny, Said::Deny, Said::Allow, none]);
    let errors: Vec<(u32, Code, String)> = reply
        .errors
        .into_iter()
        .map(|wire::FilterError { index, error }| {
            let error = error.unwrap();
            let info = pb::ErrorInfo::decode(error.details[0].value.as_slice()).unwrap();
            (index, Code::from(error.code), info.metadata["field"].clone())
        })
        .collect();
    let due = |index: u32| (index, Code::InvalidArgument, format!("ids[{index}]"));
    assert_eq!(errors, [due(0), due(2), due(6)]);
    // Of the request as a whole.
    let fly = wire::FilterResourcesRequest { permission: "fly".into(), ..request(&["1"]) };
    assert_eq!(contract(world.filter(fly), Code::FailedPrecondition)["field"], "permission");
    let nobody = wire::FilterResourcesRequest { subject: None, ..request(&["1"]) };
    assert_eq!(contract(world.filter(nobody), Code::InvalidArgument)["field"], "subject");

    let of = FilterOf {
        object_type: "doc".parse().unwrap(),
        permission: "view".parse().unwrap(),
        subject: "user:rita".parse().unwrap(),
        acting: Acting::default(),
    };
    let ids: Vec<ObjectId> = ["2", "1", "9"].iter().map(|id| id.parse().unwrap()).collect();
    let filtered = world.client.filter_resources(&of, &ids, &Under::default()).unwrap();
    assert_eq!(filtered.decisions, [Some(Decision::Deny), Some(Decision::Allow), Some(Decision::Deny)]);
    let then = Under::at(&At::AtExactSnapshot(filtered.token));
    world.write(&["doc:2#viewer@user:*"]);
    assert_eq!(world.client.filter_resources(&of, &ids, &then).unwrap().decisions, filtered.decisions);
    let now = world.client.filter_resources(&of, &ids, &Under::default()).unwrap();
    assert_eq!(now.decisions, [Some(Decision::Allow), Some(Decision::Allow), Some(Decision::Deny)]);
}

#[test]
fn a_filter_is_bounded_by_its_ids_and_by_its_reply() {
    let world = empty_world(Limits { filter_ids_max: 40, message_bytes_max: 8 << 10, ..Limits::default() });
    world.client.write_schema(SCHEMA, None, false, &Metadata::new()).unwrap();
    let request = |ids: Vec<String>| wire::FilterResourcesRequest {
        object_type: "doc".into(),
        permission: "view".into(),
        subject: Some(subject("user", "rita")),
        ids,
        ..Default::default()
    };
    assert_eq!(world.filter(request(vec!["1".to_owned(); 40])).unwrap().decisions.len(), 40);
    let facts = contract(world.filter(request(vec!["1".to_owned(); 41])), Code::ResourceExhausted);
    assert_eq!((facts["limit"].as_str(), facts["max"].as_str()), ("filter_ids_max", "40"));
    // Errors weigh more than answers.
    let facts = contract(world.filter(request(vec!["a b".to_owned(); 40])), Code::ResourceExhausted);
    assert_eq!((facts["limit"].as_str(), facts["hint"].as_str()), ("message_bytes_max", "filter fewer ids at once"));
}

#[test]
fn a_read_gives_its_token_first_and_resumes_after_any_row() {
    let world = world();
    let many: Vec<String> = (0..1300).map(|number| format!("doc:n{number}#viewer@user:rita")).collect();
    world.write(&many.iter().map(String::as_str).collect::<Vec<_>>());
    let whole = world.read(&of_type("doc"));
    assert_eq!(whole.len(), 1302);
    let filter = wire::TupleFilter { object_type: Some("doc".into()), ..Default::default() };
    let request = |cursor: Option<String>, limit| wire::ReadTuplesRequest {
        consistency: None,
        filter: Some(filter.clone()),
        cursor,
        limit,
    };
    let mut messages = world.read_wire(request(None, Some(700))).unwrap();
    let first = messages.remove(0);
    assert!(first.read_at.is_some() && first.tuple.is_none());
    assert_eq!(messages.len(), 700);
    let cursor = messages.pop().unwrap().cursor;
    let mut resumed = Vec::new();
    world
        .client
        .read_tuples(&of_type("doc"), &At::Newest, Some(cursor), None, &mut |tuple, _| {
            resumed.push(tuple.to_string());
            true
        })
        .unwrap();
    assert_eq!(resumed, whole[700..]);

    let mut seen = 0;
    let stopped = world.client.read_tuples(&of_type("doc"), &At::Newest, None, None, &mut |_, _| {
        seen += 1;
        seen < 3
    });
    assert!(stopped.is_ok() && seen == 3);
    let mut none = 0;
    let token = world.client.read_tuples(&of_type("group"), &At::Newest, None, Some(1), &mut |_, _| {
        none += 1;
        true
    });
    assert!(!token.unwrap().is_empty() && none == 1);
}

#[test]
fn a_deletion_by_filter_counts_and_its_preconditions_hold_it_back() {
    let world = world();
    let there = Precondition::MustMatch(of_type("folder"));
    let refused = world.client.delete_tuples(&of_type("doc"), std::slice::from_ref(&there), &Metadata::new());
    assert_eq!(refused.unwrap_err().code, "FAILED_PRECONDITION");
    assert_eq!(world.read(&of_type("doc")).len(), 2);
    let gone = Precondition::MustNotMatch(TupleFilter::exactly(&"doc:9#owner@user:rita".parse().unwrap()));
    let deleted = world.client.delete_tuples(&of_type("doc"), &[gone], &Metadata::new()).unwrap();
    assert_eq!(deleted.count, 2);
    assert_eq!(world.read(&of_type("doc")).len(), 0);
    assert_eq!(world.decide("doc:1#view@user:rita"), Decision::Deny);
}

#[test]
fn a_schema_is_written_read_tried_and_guarded_by_its_digest() {
    let world = world();
    let read = world.client.read_schema(&At::Newest).unwrap();
    assert_eq!(read.text, SCHEMA);
    let without_viewer =
        SCHEMA.replace("  relation viewer: user | user:* | group#member\n", "").replace("(viewer + owner)", "owner");
    let tried = world.client.write_schema(&without_viewer, Some(&read.digest), true, &Metadata::new()).unwrap();
    assert!(!tried.changes.is_empty());
    let (relation, form, count, sample) = tried.impact[0].clone();
    assert_eq!((relation.as_str(), form.as_str(), count), ("doc#viewer", "group#member", 1));
    assert_eq!(sample.as_deref(), Some("doc:1#viewer@group:eng#member"));
    let refused = world.client.write_schema(&without_viewer, None, false, &Metadata::new()).unwrap_err();
    assert_eq!((refused.code, refused.reason.as_str()), ("FAILED_PRECONDITION", "SCHEMA_BREAKS_TUPLES"));
    let stale = world.client.write_schema(SCHEMA, Some("0000"), false, &Metadata::new()).unwrap_err();
    assert_eq!(stale.code, "FAILED_PRECONDITION");
    assert_eq!(world.client.read_schema(&At::Newest).unwrap().digest, read.digest);
}

#[test]
fn a_schema_that_does_not_compile_comes_back_with_every_place() {
    let world = world();
    let text = "definition doc {\n  relation viewer: usr\n  permission view = viwer\n}\n";
    let error = world.client.write_schema(text, None, false, &Metadata::new()).unwrap_err();
    assert_eq!(error.code, "INVALID_ARGUMENT");
    let lines: Vec<u32> = error.diagnostics.iter().filter(|one| one.is_error).map(|one| one.line).collect();
    assert_eq!(lines, [2, 3]);
    assert!(error.diagnostics.iter().all(|one| !one.name.is_empty() && one.rendered.contains('^')), "{error:?}");
}

#[test]
fn a_server_says_what_it_is() {
    let world = empty_world(Limits { updates_max: 7, ..Limits::default() });
    let info = world.client.server_info().unwrap();
    assert_eq!(info.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(info.schema_digest, None);
    assert!(!info.revision_token.is_empty());
    assert!(info.limits.iter().any(|(name, _, unit)| name == "bulk_items_max" && unit == "questions"));
    let before = world.client.read_schema(&At::Newest).unwrap_err();
    assert_eq!((before.code, before.reason.as_str()), ("FAILED_PRECONDITION", "NO_SCHEMA"));
}

// ---- what is refused ----

#[test]
fn every_field_of_a_check_is_named_when_it_is_wrong() {
    let world = world();
    let spoilt = |spoil: &dyn Fn(&mut wire::CheckRequest)| {
        let mut request = check_request();
        spoil(&mut request);
        world.check(request)
    };
    type Spoil = fn(&mut wire::CheckRequest);
    let table: &[(&str, Spoil)] = &[
        ("object", |r| r.object = None),
        ("object.type", |r| r.object = Some(object("", "1"))),
        ("object.type", |r| r.object = Some(object("Doc", "1"))),
        ("object.type", |r| r.object = Some(object(&"d".repeat(200), "1"))),
        ("object.id", |r| r.object = Some(object("doc", ""))),
        ("object.id", |r| r.object = Some(object("doc", "a b"))),
        ("object.id", |r| r.object = Some(object("doc", "*"))),
        ("object.id", |r| r.object = Some(object("doc", &"x".repeat(1025)))),
        ("permission", |r| r.permission = String::new()),
        ("permission", |r| r.permission = "View".into()),
        ("subject", |r| r.subject = None),
        ("subject.object", |r| r.subject.as_mut().unwrap().object = None),
        ("subject.object.type", |r| r.subject = Some(subject("us er", "rita"))),
        ("subject.object.id", |r| r.subject = Some(subject("user", "\u{e9}"))),
        ("subject.relation", |r| r.subject.as_mut().unwrap().relation = "a/b".into()),
        ("consistency", |r| r.consistency = Some(wire::Consistency { requirement: None })),
        ("consistency.newest", |r| {
            let requirement = Some(wire::consistency::Requirement::Newest(false));
            r.consistency = Some(wire::Consistency { requirement });
        }),
        ("consistency.at_least_as_fresh.token", |r| {
            let token = wire::ConsistencyToken { token: "x".into() };
            let requirement = Some(wire::consistency::Requirement::AtLeastAsFresh(token));
            r.consistency = Some(wire::Consistency { requirement });
        }),
        ("consistency.at_exact_snapshot.token", |r| {
            let token = wire::ConsistencyToken::default();
            let requirement = Some(wire::consistency::Requirement::AtExactSnapshot(token));
            r.consistency = Some(wire::Consistency { requirement });
        }),
    ];
    assert!(spoilt(&|_| {}).is_ok());
    for (field, spoil) in table {
        invalid(spoilt(spoil), field);
    }
}

#[test]
fn every_field_of_a_write_is_named_when_it_is_wrong_and_nothing_is_written() {
    let world = world();
    let before = world.read(&TupleFilter::default());
    type Spoil = fn(&mut wire::WriteTuplesRequest);
    let table: &[(&str, Spoil)] = &[
        ("updates", |r| r.updates.clear()),
        ("updates[1].operation", |r| r.updates[1].operation = 0),
        ("updates[1].operation", |r| r.updates[1].operation = 4),
        ("updates[1].tuple", |r| r.updates[1].tuple = None),
        ("updates[1].tuple.object.id", |r| r.updates[1].tuple.as_mut().unwrap().object = Some(object("doc", "#"))),
        ("updates[1].tuple.relation", |r| r.updates[1].tuple.as_mut().unwrap().relation = "-".into()),
        ("updates[1].tuple.subject", |r| r.updates[1].tuple.as_mut().unwrap().subject = None),
        ("updates[1].tuple.caveat.name", |r| {
            r.updates[1].tuple.as_mut().unwrap().caveat = Some(wire::TupleCaveat { name: "a b".into(), context: None });
        }),
        ("updates[1].tuple.expires_at", |r| {
            let at = prost_types::Timestamp { seconds: i64::MAX, nanos: 0 };
            r.updates[1].tuple.as_mut().unwrap().expires_at = Some(at);
        }),
        ("preconditions[0].operation", |r| r.preconditions[0].operation = 0),
        ("preconditions[0].filter", |r| r.preconditions[0].filter = None),
        ("preconditions[0].filter.object_type", |r| {
            r.preconditions[0].filter.as_mut().unwrap().object_type = Some(String::new());
        }),
        ("metadata.k", |r| {
            let value = prost_types::Value { kind: Some(prost_types::value::Kind::NumberValue(f64::NAN)) };
            r.metadata = Some(prost_types::Struct { fields: [("k".to_owned(), value)].into() });
        }),
    ];
    for (field, spoil) in table {
        let mut request = write_request();
        let mut second = request.updates[0].clone();
        second.tuple.as_mut().unwrap().object = Some(object("doc", "2"));
        request.updates.push(second);
        spoil(&mut request);
        invalid(world.write_wire(request), field);
    }
    assert_eq!(world.read(&TupleFilter::default()), before);
    assert!(world.write_wire(write_request()).is_ok());
}

#[test]
fn every_field_of_a_read_a_deletion_and_a_schema_is_named_when_it_is_wrong() {
    let world = world();
    let read = wire::ReadTuplesRequest { filter: Some(wire::TupleFilter::default()), ..Default::default() };
    invalid(world.read_wire(wire::ReadTuplesRequest { filter: None, ..read.clone() }), "filter");
    invalid(world.read_wire(wire::ReadTuplesRequest { limit: Some(0), ..read.clone() }), "limit");
    invalid(world.read_wire(wire::ReadTuplesRequest { cursor: Some(String::new()), ..read.clone() }), "cursor");
    contract(
        world.read_wire(wire::ReadTuplesRequest { cursor: Some("nonsense".into()), ..read.clone() }),
        Code::InvalidArgument,
    );
    let id_alone = wire::TupleFilter { object_id: Some("1".into()), ..Default::default() };
    invalid(world.read_wire(wire::ReadTuplesRequest { filter: Some(id_alone), ..read.clone() }), "filter.object_id");
    let facts =
        contract(world.read_wire(wire::ReadTuplesRequest { limit: Some(10_001), ..read }), Code::ResourceExhausted);
    assert_eq!(facts["limit"], "page_tuples_max");

    invalid(world.delete_wire(wire::DeleteTuplesRequest::default()), "filter");
    let all = wire::DeleteTuplesRequest { filter: Some(wire::TupleFilter::default()), ..Default::default() };
    invalid(world.delete_wire(all), "filter");
    assert_eq!(world.read(&TupleFilter::default()).len(), 3);

    let schema = wire::WriteSchemaRequest { schema: SCHEMA.into(), ..Default::default() };
    let empty = Some(String::new());
    invalid(world.write_schema_wire(wire::WriteSchemaRequest { expected_digest: empty, ..schema }), "expected_digest");
    let long = wire::WriteSchemaRequest { schema: " ".repeat((1 << 20) + 1), ..Default::default() };
    assert_eq!(contract(world.write_schema_wire(long), Code::ResourceExhausted)["limit"], "schema_bytes_max");
}

#[test]
fn what_the_schema_does_not_know_is_a_failed_precondition() {
    let world = world();
    let unknown_type = wire::CheckRequest { object: Some(object("folder", "1")), ..check_request() };
    contract(world.check(unknown_type), Code::FailedPrecondition);
    let unknown_permission = wire::CheckRequest { permission: "fly".into(), ..check_request() };
    contract(world.check(unknown_permission), Code::FailedPrecondition);
    let unknown_subject = wire::CheckRequest { subject: Some(subject("robot", "1")), ..check_request() };
    contract(world.check(unknown_subject), Code::FailedPrecondition);
    let mut write = write_request();
    write.updates[0].tuple.as_mut().unwrap().relation = "friend".into();
    contract(world.write_wire(write), Code::FailedPrecondition);
}

#[test]
fn a_wildcard_asks_nothing_and_a_tuple_is_created_once() {
    let world = world();
    let anybody = wire::CheckRequest { subject: Some(subject("user", "*")), ..check_request() };
    contract(world.check(anybody), Code::InvalidArgument);
    let mut create = write_request();
    create.updates[0].operation = wire::tuple_update::Operation::Create.into();
    assert!(world.write_wire(create.clone()).is_ok());
    contract(world.write_wire(create.clone()), Code::AlreadyExists);
    create.updates.push(create.updates[0].clone());
    contract(world.write_wire(create), Code::InvalidArgument);
}

#[test]
fn a_token_of_another_database_is_refused() {
    let (here, there) = (world(), world());
    let token = there.write(&["doc:7#owner@user:dana"]);
    let error = here.client.check(&question("doc:1#view@user:rita"), &At::AtLeastAsFresh(token), false).unwrap_err();
    assert!(matches!(error.code, "INVALID_ARGUMENT" | "OUT_OF_RANGE" | "FAILED_PRECONDITION"), "{error:?}");
    assert!(!error.reason.is_empty());
}

#[test]
fn more_than_the_limit_is_exhausted_and_names_the_limit() {
    let limits = Limits { bulk_items_max: 2, updates_max: 2, message_bytes_max: 64 << 10, ..Limits::default() };
    let world = empty_world(limits);
    let items = vec![wire::CheckBulkItem::default(); 3];
    let bulk = wire::CheckBulkRequest { items, ..Default::default() };
    assert_eq!(contract(world.check_bulk(bulk), Code::ResourceExhausted)["limit"], "bulk_items_max");
    let update = write_request().updates[0].clone();
    let write = wire::WriteTuplesRequest { updates: vec![update; 3], ..Default::default() };
    assert_eq!(contract(world.write_wire(write), Code::ResourceExhausted)["limit"], "updates_max");
    let long = wire::WriteSchemaRequest { schema: " ".repeat(65 << 10), ..Default::default() };
    assert_eq!(contract(world.write_schema_wire(long), Code::ResourceExhausted)["limit"], "message_bytes_max");
}

#[test]
fn what_is_no_message_of_ours_is_answered_in_our_terms() {
    let world = empty_world(Limits::default());
    let facts = contract(world.raw("/procura.v1.PermissionService/Chekc", Vec::new(), &[]), Code::Unimplemented);
    assert_eq!(facts["method"], "/procura.v1.PermissionService/Chekc");
    contract(world.raw("/procura.v2.Nothing/Check", Vec::new(), &[]), Code::Unimplemented);
    contract(world.raw("/procura.v1.PermissionService/Check", vec![0xff; 9], &[]), Code::InvalidArgument);
    contract(world.raw("/procura.v1.PermissionService/Check", Vec::new(), &[]), Code::InvalidArgument);
    let late = [("grpc-timeout", "soon")];
    invalid(world.raw("/procura.v1.ServerService/ServerInfo", Vec::new(), &late), "grpc-timeout");
    let zipped = [("grpc-encoding", "gzip")];
    contract(world.raw("/procura.v1.ServerService/ServerInfo", Vec::new(), &zipped), Code::Unimplemented);
    // Nested deeper than any message: the decoder gives up, the server does not.
    let mut nest = Vec::new();
    for _ in 0..10_000 {
        let mut outer = vec![0x1a];
        prost::encoding::encode_varint(nest.len() as u64, &mut outer);
        outer.extend_from_slice(&nest);
        nest = outer;
    }
    contract(world.raw("/procura.v1.TupleService/WriteTuples", nest, &[]), Code::InvalidArgument);
    assert!(world.client.server_info().is_ok());
}

#[test]
fn a_request_past_its_deadline_is_an_error_and_never_a_decision() {
    let world = empty_world(Limits { deadline_default_ms: 0, ..Limits::default() });
    let item = wire::CheckBulkItem {
        object: Some(object("doc", "1")),
        permission: "view".into(),
        subject: Some(subject("user", "rita")),
        id: String::new(),
    };
    let bulk = wire::CheckBulkRequest { items: vec![item; 10_000], ..Default::default() };
    contract(world.check_bulk(bulk), Code::DeadlineExceeded);
}

// ---- the server as such ----

#[test]
fn reflection_lists_every_service() {
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let world = empty_world(Limits::default());
    let ask = |question: MessageRequest| {
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
        world.runtime.block_on(async {
            let mut service = ServerReflectionClient::new(world.channel.clone());
            let mut replies = service.server_reflection_info(tokio_stream::iter([request])).await.unwrap().into_inner();
            replies.message().await.unwrap().unwrap().message_response.unwrap()
        })
    };
    let MessageResponse::ListServicesResponse(list) = ask(MessageRequest::ListServices(String::new())) else {
        panic!("no list");
    };
    let mut names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    names.sort();
    assert_eq!(
        names,
        [
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "procura.v1.DelegationService",
            "procura.v1.PermissionService",
            "procura.v1.SchemaService",
            "procura.v1.ServerService",
            "procura.v1.TupleService",
            "procura.v1.WatchService",
        ]
    );
    // What a message imports is served too, or grpcurl could not print it.
    for symbol in ["procura.v1.CheckResponse", "google.rpc.Status", "google.rpc.ErrorInfo", "google.protobuf.Struct"] {
        let reply = ask(MessageRequest::FileContainingSymbol(symbol.to_owned()));
        assert!(matches!(reply, MessageResponse::FileDescriptorResponse(_)), "{symbol}: {reply:?}");
    }
}

#[test]
fn health_says_serving_and_while_draining_not_serving() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::health_client::HealthClient;
    let World { client, channel, runtime, running, _folder } = empty_world(Limits::default());
    let address = running.address();
    let mut health = HealthClient::new(channel);
    for service in [
        "",
        "procura.v1.PermissionService",
        "procura.v1.TupleService",
        "procura.v1.SchemaService",
        "procura.v1.WatchService",
    ] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let status = runtime.block_on(health.check(request)).unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{service}");
    }
    let unknown = HealthCheckRequest { service: "nothing".to_owned() };
    contract(runtime.block_on(health.check(unknown)), Code::NotFound);

    let mut watch = runtime.block_on(health.watch(HealthCheckRequest::default())).unwrap().into_inner();
    let mut next = || runtime.block_on(watch.message()).unwrap().map(|message| message.status());
    assert_eq!(next(), Some(ServingStatus::Serving));
    let draining = std::thread::spawn(move || drop(running));
    assert_eq!(next(), Some(ServingStatus::NotServing));
    assert_eq!(next(), None);
    draining.join().unwrap();
    drop(client);
    let gone = Client::connect(&address.to_string()).unwrap_err();
    assert_eq!((gone.code, gone.reason.as_str()), ("UNAVAILABLE", "UNREACHABLE"));
    assert!(gone.message.contains(&address.to_string()) && gone.to_string().contains("procura serve"), "{gone}");
}

#[test]
fn a_drain_finishes_what_is_in_flight_and_does_not_wait_for_who_does_not_listen() {
    let World { client, channel, runtime, running, _folder } = world();
    let updates: Vec<_> = (0..2_000).map(|number| touch(&format!("doc:n{number}#viewer@user:rita"))).collect();
    client.write_tuples(&updates, &[], &Metadata::new()).unwrap();
    let request = wire::ReadTuplesRequest { filter: Some(wire::TupleFilter::default()), ..Default::default() };
    let mut service = TupleServiceClient::new(channel);
    let mut stream = runtime.block_on(service.read_tuples(request)).unwrap().into_inner();
    assert!(runtime.block_on(stream.message()).unwrap().unwrap().read_at.is_some());
    let started = std::time::Instant::now();
    let draining = std::thread::spawn(move || drop(running));
    let mut rows = 0;
    while runtime.block_on(stream.message()).unwrap().is_some() {
        rows += 1;
    }
    assert_eq!(rows, 2_003);
    draining.join().unwrap();
    // `client` runs only within its calls, so it never hears that the server goes.
    assert!(started.elapsed() < std::time::Duration::from_secs(8), "{:?}", started.elapsed());
    drop(client);
}

#[test]
fn an_address_that_is_none_is_refused_before_anything_is_sent() {
    for address in ["", "nowhere", "https://localhost:1", "ftp://localhost:1", "http://", "a b:1"] {
        let error: ClientError = Client::connect(address).unwrap_err();
        assert_eq!((error.code, error.reason.as_str()), ("INVALID_ARGUMENT", "BAD_ADDRESS"), "{address}");
    }
}

#[test]
fn several_threads_share_one_client() {
    let world = world();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    assert_eq!(world.decide("doc:1#view@user:rita"), Decision::Allow);
                }
            });
        }
    });
}
