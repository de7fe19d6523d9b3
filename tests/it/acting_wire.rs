//! Acting for another as clients meet it, over the real socket: once a revocation or a suspension is acknowledged, nobody
//! is allowed any more, on no connection and in no form of question; and who may act for whom can be listed.
//! `PROCURA_REVOCATIONS` sets how many delegations are revoked while others ask.

use crate::cli::{Server, code, stdout};
use crate::worlds::number;
use procura::api::client::{Ask, Client, ListPage, NewDelegation, ResourcesOf, Saying, SubjectsOf, Under};
use procura::api::{Running, ServeOptions, serve_in_background};
use procura::engine::{AskedItem, DelegateRow, DelegationEnd, Engine, Metadata, Options, ReachedRow, ResourceRow};
use procura::model::{
    Acting, AskedPermissions, Decision, DelegationId, DenyReason, Mandate, ObjectRef, Question, RelationName,
    RelationTuple, TupleKey, TupleUpdate, TypeName, UpdateKind,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const SCHEMA: &str = "use hierarchy
definition user {}
definition agent {}
definition group { relation member: agent | agent:* }
definition org { relation admin: user }
definition workspace {
  parent org: org
  relation editor: user | agent
  permission edit = editor + org->admin
}
definition project {
  parent workspace: workspace
  relation editor: user | agent | agent:* | user:*
  permission edit = editor + workspace->edit
  permission view = edit
}
";

struct World {
    running: Running,
    address: String,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let engine = Arc::new(Engine::open(Options::at(folder.path())).expect("open"));
        let limits = procura::model::Limits::default();
        let options = ServeOptions { listen: "127.0.0.1:0".parse().expect("an address"), limits };
        let running = serve_in_background(engine, options).expect("a server");
        let address = running.address().to_string();
        let world = World { running, address, _folder: folder };
        world.client().write_schema(SCHEMA, None, false, &Metadata::new()).expect("a schema");
        world
    }

    fn client(&self) -> Client {
        Client::connect(&self.address).expect("a connection")
    }

    fn touch(&self, tuples: &[&str]) {
        let updates: Vec<TupleUpdate> = tuples
            .iter()
            .map(|tuple| TupleUpdate {
                kind: UpdateKind::Touch,
                tuple: tuple.parse::<RelationTuple>().expect("a tuple"),
            })
            .collect();
        self.client().write_tuples(&updates, &[], &Metadata::new()).expect("written");
    }

    fn delegate(&self, from: &str, to: &str, permissions: &[&str], within: &str) -> DelegationId {
        delegate(&self.client(), from, to, permissions, within)
    }
}

fn delegate(client: &Client, from: &str, to: &str, permissions: &[&str], within: &str) -> DelegationId {
    let item = AskedItem {
        permissions: match permissions {
            [] => AskedPermissions::All,
            names => AskedPermissions::Named(names.iter().map(|name| name.parse().expect("a name")).collect()),
        },
        within: vec![object(within)],
        caveat: None,
    };
    let end = DelegationEnd::After(Duration::from_secs(3_600));
    let new = NewDelegation::of(object(from), to.parse().expect("a delegate"), vec![item], end);
    client.create_delegation(&new).expect("a delegation").delegation.id
}

fn object(text: &str) -> ObjectRef {
    text.parse().expect("an object")
}

fn question(text: &str) -> Question {
    let TupleKey { object, relation, subject } = text.parse().expect("a question");
    Question { object, permission: relation, subject }
}

fn ask(mandate: Mandate) -> Ask {
    Ask { acting: Acting { mandate, ..Acting::default() }, ..Ask::default() }
}

fn resources(client: &Client, mandate: Mandate) -> Vec<ResourceRow> {
    let asked = ResourcesOf {
        object_type: TypeName::new("project").expect("a type"),
        permission: RelationName::new("edit").expect("a permission"),
        subject: "agent:coder".parse().expect("a subject"),
        acting: Acting { mandate, ..Acting::default() },
        within: None,
    };
    let mut rows = Vec::new();
    client
        .list_resources(&asked, ListPage::default(), &mut |row| {
            rows.push(row);
            true
        })
        .expect("a list");
    rows
}

#[test]
fn a_revocation_is_seen_by_the_next_question_on_every_connection() {
    let rounds = number("PROCURA_REVOCATIONS", 5_000);
    let world = World::new();
    world.touch(&[
        "workspace:eng#editor@user:dana",
        "workspace:eng#editor@agent:coder",
        "project:alpha#workspace@workspace:eng",
    ]);
    const WORKERS: u64 = 8;
    let (allowed, denied) = (AtomicU64::new(0), AtomicU64::new(0));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let world = &world;
        let (allowed, denied, over) = (&allowed, &denied, &over);
        // Others write meanwhile, so that revocations share their commits with something.
        scope.spawn(move || {
            let client = world.client();
            let tuple: RelationTuple = "project:beta#editor@user:tom".parse().expect("a tuple");
            let mut turn = 0;
            while !over.load(Ordering::Relaxed) {
                turn += 1;
                let kind = if turn % 2 == 0 { UpdateKind::Delete } else { UpdateKind::Touch };
                let update = TupleUpdate { kind, tuple: tuple.clone() };
                client.write_tuples(&[update], &[], &Metadata::new()).expect("written");
            }
        });
        let work = move |worker: u64| {
            let (writer, readers) = (world.client(), [world.client(), world.client()]);
            let asked = question("project:alpha#edit@agent:coder");
            for round in (worker..rounds).step_by(WORKERS as usize) {
                let id = delegate(&writer, "user:dana", "agent:coder", &["edit"], "workspace:eng");
                let via = ask(Mandate::Delegation(id));
                let before = readers[0].check_under(&asked, &via).expect("an answer");
                assert_eq!(before.decision, Decision::Allow, "{:?}", before.denial);
                allowed.fetch_add(1, Ordering::Relaxed);
                writer.revoke_delegation(&id, &Saying::default()).expect("revoked");
                for reader in &readers {
                    let after = reader.check_under(&asked, &via).expect("an answer");
                    let reason = after.denial.map(|denial| (denial.reason, denial.hop));
                    assert_eq!(after.decision, Decision::Deny);
                    assert_eq!(reason, Some((DenyReason::DelegationRevoked, Some(1))));
                }
                match round % 3 {
                    0 => {
                        let bulk = readers[1].check_bulk_under(&[asked.clone(), asked.clone()], &via).expect("answers");
                        for said in bulk.answers {
                            assert_eq!(said.expect("an answer").decision, Decision::Deny);
                        }
                    }
                    1 => assert_eq!(resources(&readers[1], Mandate::Delegation(id)), []),
                    _ => {
                        let named = resources(&readers[0], Mandate::OnBehalfOf(object("user:dana")));
                        let by: Vec<DelegationId> =
                            named.iter().flat_map(|row| row.chain.iter().map(|link| link.delegation)).collect();
                        assert!(!by.contains(&id), "a revoked delegation is listed by");
                    }
                }
                denied.fetch_add(1, Ordering::Relaxed);
            }
        };
        let running: Vec<_> = (0..WORKERS).map(|worker| scope.spawn(move || work(worker))).collect();
        let ended: Vec<_> = running.into_iter().map(|worker| worker.join()).collect();
        over.store(true, Ordering::Relaxed);
        if let Some(panic) = ended.into_iter().find_map(Result::err) {
            std::panic::resume_unwind(panic);
        }
    });
    println!("{} allowed, then {} revoked and denied", allowed.into_inner(), denied.load(Ordering::Relaxed));
    assert_eq!(denied.into_inner(), rounds);
    drop(world.running);
}

#[test]
fn a_suspension_is_one_write_that_stops_everything() {
    let world = World::new();
    world.touch(&[
        "workspace:eng#editor@user:dana",
        "workspace:eng#editor@agent:coder",
        "project:alpha#workspace@workspace:eng",
        "project:open#editor@agent:*",
    ]);
    let id = world.delegate("user:dana", "agent:coder", &[], "workspace:eng");
    let client = world.client();
    let asked = question("project:alpha#edit@agent:coder");
    let decisions = |client: &Client| {
        [Mandate::Own, Mandate::Delegation(id), Mandate::OnBehalfOf(object("user:dana"))].map(|mandate| {
            let checked = client.check_under(&asked, &ask(mandate)).expect("an answer");
            (checked.decision, checked.denial.map(|denial| (denial.reason, denial.hop)))
        })
    };
    assert_eq!(decisions(&client), [(Decision::Allow, None); 3]);
    let subjects = |client: &Client| {
        let asked = SubjectsOf {
            object: object("project:open"),
            permission: RelationName::new("edit").expect("a permission"),
            subject_type: TypeName::new("agent").expect("a type"),
            subject_relation: None,
            with_relations: false,
            within: None,
        };
        let mut rows = Vec::new();
        client
            .list_subjects(&asked, ListPage::default(), &mut |row| {
                rows.push(row);
                true
            })
            .expect("a list");
        rows
    };
    client.suspend_principal(&object("agent:coder"), &Saying::default()).expect("suspended");
    let suspended = |hop| (Decision::Deny, Some((DenyReason::Suspended, hop)));
    assert_eq!(decisions(&client), [suspended(None), suspended(Some(1)), suspended(Some(1))]);
    assert_eq!(resources(&client, Mandate::Own), []);
    let [everybody] = subjects(&client).try_into().expect("one row");
    let excluded: Vec<String> = everybody.exclusions.iter().map(|one| one.subject.to_string()).collect();
    assert_eq!((everybody.subject.to_string(), excluded), ("agent:*".to_owned(), vec!["agent:coder".to_owned()]));
    client.reinstate_principal(&object("agent:coder"), &Saying::default()).expect("reinstated");
    assert_eq!(decisions(&client), [(Decision::Allow, None); 3]);
    assert!(subjects(&client).iter().all(|row| row.exclusions.is_empty()));
    // The root, too.
    client.suspend_principal(&object("user:dana"), &Saying::default()).expect("suspended");
    assert_eq!(decisions(&client), [(Decision::Allow, None), suspended(Some(0)), suspended(Some(0))]);
}

#[test]
fn what_is_expected_of_a_chain_must_be_so() {
    let world = World::new();
    world.touch(&["workspace:eng#editor@user:dana", "workspace:eng#editor@agent:coder"]);
    let id = world.delegate("user:dana", "agent:coder", &[], "workspace:eng");
    let client = world.client();
    let asked = question("workspace:eng#edit@agent:coder");
    let reason = |acting: Acting| {
        let checked = client.check_under(&asked, &Ask { acting, ..Ask::default() }).expect("an answer");
        checked.denial.map(|denial| denial.reason)
    };
    let via = Acting::via(id);
    assert_eq!(reason(via.clone()), None);
    let expecting = |root: &str| Acting { expect_root: Some(object(root)), ..via.clone() };
    assert_eq!(reason(expecting("user:dana")), None);
    assert_eq!(reason(expecting("user:tom")), Some(DenyReason::RootMismatch));
    let presenting = |actors: &[&str]| Acting {
        presented_actors: actors.iter().map(|actor| object(actor)).collect(),
        ..via.clone()
    };
    assert_eq!(reason(presenting(&["user:dana"])), None);
    assert_eq!(reason(presenting(&["user:dana", "agent:coder"])), None);
    assert_eq!(reason(presenting(&["agent:coder"])), Some(DenyReason::ChainMismatch));
    assert_eq!(reason(Acting::via(DelegationId([7; 16]))), Some(DenyReason::NoDelegation));
    assert_eq!(reason(Acting::on_behalf_of(object("user:tom"))), Some(DenyReason::NoDelegation));
    // Nothing falls back to the subject's own authority: what is half said is refused.
    let half = Acting { expect_root: Some(object("user:dana")), ..Acting::default() };
    let error = client.check_under(&asked, &Ask { acting: half, ..Ask::default() }).expect_err("refused");
    assert_eq!(error.code, "INVALID_ARGUMENT", "{error:?}");
    let group = question("workspace:eng#edit@group:g#member");
    let error = client.check_under(&group, &Ask { acting: via.clone(), ..Ask::default() }).expect_err("refused");
    assert_eq!(error.code, "INVALID_ARGUMENT", "{error:?}");
    let token = client.check_under(&asked, &Ask::default()).expect("an answer").token;
    let under = Under { at: procura::api::client::At::AtExactSnapshot(token), ..Under::default() };
    let error = client.check_under(&asked, &Ask { under, acting: via, explain: false }).expect_err("refused");
    assert_eq!(error.code, "INVALID_ARGUMENT", "{error:?}");
}

fn radius(client: &Client, principal: &str) -> Vec<String> {
    let mut rows = Vec::new();
    client
        .blast_radius(&object(principal), &Under::default(), &mut |row: ReachedRow| {
            let by = row.chain.last().map_or("own".to_owned(), |link| link.delegator.to_string());
            rows.push(format!("{by} {}#{} {}", row.object, row.permission, row.decision.as_str()));
            true
        })
        .expect("a list");
    rows
}

#[test]
fn a_blast_radius_is_all_that_a_principal_reaches_by_each_authority() {
    let world = World::new();
    world.touch(&[
        "workspace:eng#editor@user:dana",
        "workspace:eng#editor@agent:coder",
        "workspace:ops#editor@user:ann",
        "project:alpha#workspace@workspace:eng",
        "project:beta#workspace@workspace:ops",
        "project:beta#editor@agent:coder",
        "group:crew#member@agent:coder",
    ]);
    world.delegate("user:dana", "agent:coder", &["edit"], "project:alpha");
    world.delegate("user:ann", "group:crew#member", &["view"], "workspace:ops");
    let gone = world.delegate("user:ann", "agent:coder", &[], "workspace:ops");
    world.delegate("user:ann", "agent:other", &[], "workspace:ops");
    let client = world.client();
    client.revoke_delegation(&gone, &Saying::default()).expect("revoked");
    assert_eq!(
        radius(&client, "agent:coder"),
        [
            "own workspace:eng#edit ALLOW",
            "own project:alpha#edit ALLOW",
            "own project:beta#edit ALLOW",
            "own project:alpha#view ALLOW",
            "own project:beta#view ALLOW",
            "user:dana project:alpha#edit ALLOW",
            "user:ann project:beta#view ALLOW",
        ]
    );
    client.suspend_principal(&object("agent:coder"), &Saying::default()).expect("suspended");
    assert_eq!(radius(&client, "agent:coder"), [] as [String; 0]);
    let error = client.blast_radius(&object("robot:x"), &Under::default(), &mut |_| true).expect_err("refused");
    assert_eq!(error.reason, "UNKNOWN_TYPE");
}

#[test]
fn a_list_of_who_may_act_goes_on_behind_whom_it_named_whoever_has_left() {
    let world = World::new();
    world.touch(&[
        "project:alpha#editor@user:dana",
        "project:alpha#editor@agent:*",
        "group:crew#member@agent:one",
        "group:crew#member@agent:two",
        "group:crew#member@agent:three",
    ]);
    let client = world.client();
    world.delegate("user:dana", "group:crew#member", &["edit"], "project:alpha");
    let permission = RelationName::new("edit").expect("a permission");
    let agent = TypeName::new("agent").expect("a type");
    let list = |cursor: Option<String>, limit: u64| {
        let mut rows: Vec<DelegateRow> = Vec::new();
        let page = ListPage { cursor, limit: Some(limit), ..ListPage::default() };
        client
            .list_delegates((&object("project:alpha"), &permission, &agent), page, &mut |row| {
                rows.push(row);
                true
            })
            .expect("a list");
        rows
    };
    let first = list(None, 2);
    let named = |rows: &[DelegateRow]| rows.iter().map(|row| row.subject.to_string()).collect::<Vec<String>>();
    assert_eq!(named(&first), ["agent:one", "agent:two"]);
    let tuple: RelationTuple = "group:crew#member@agent:one".parse().expect("a tuple");
    let update = TupleUpdate { kind: UpdateKind::Delete, tuple };
    client.write_tuples(&[update], &[], &Metadata::new()).expect("written");
    let cursor = first.last().map(|row| row.cursor.clone());
    assert_eq!(named(&list(cursor, 10)), ["agent:three"]);
}

#[test]
fn anchors_that_nothing_mentions_cover_themselves_and_nothing_else() {
    let world = World::new();
    world.touch(&["workspace:eng#editor@user:dana", "project:open#editor@agent:*", "project:open#editor@user:*"]);
    let client = world.client();
    // More than a request has numbers for ids that no tuple mentions.
    let within = |item: usize| (0..1_000).map(|at| object(&format!("project:none{item}x{at}"))).collect::<Vec<_>>();
    let item = |at: usize| AskedItem { permissions: AskedPermissions::All, within: within(at), caveat: None };
    let items: Vec<AskedItem> = (0..5).map(item).collect();
    let end = DelegationEnd::After(Duration::from_secs(60));
    let new = NewDelegation::of(object("user:dana"), "agent:coder".parse().expect("a delegate"), items, end);
    let id = client.create_delegation(&new).expect("a delegation").delegation.id;
    let reason = |asked: &str| {
        let checked = client.check_under(&question(asked), &ask(Mandate::Delegation(id))).expect("an answer");
        checked.denial.map(|denial| denial.reason)
    };
    assert_eq!(reason("project:open#edit@agent:coder"), Some(DenyReason::OutOfScope));
    assert_eq!(reason("project:other#edit@agent:coder"), Some(DenyReason::OutOfScope));
    assert_eq!(reason("project:none4x999#edit@agent:coder"), Some(DenyReason::ActorLacksPermission));
    // Written, it is mentioned, and still the anchor it was.
    world.touch(&["project:none4x999#editor@agent:coder", "project:none4x999#editor@user:dana"]);
    assert_eq!(reason("project:none4x999#edit@agent:coder"), None);
}

fn delegates(client: &Client, page: u64) -> Vec<String> {
    let permission = RelationName::new("edit").expect("a permission");
    let agent = TypeName::new("agent").expect("a type");
    let mut all: Vec<DelegateRow> = Vec::new();
    loop {
        let cursor = all.last().map(|row| row.cursor.clone());
        let before = all.len();
        let page = ListPage { cursor, limit: Some(page), ..ListPage::default() };
        client
            .list_delegates((&object("project:alpha"), &permission, &agent), page, &mut |row| {
                all.push(row);
                true
            })
            .expect("a list");
        if all.len() == before {
            break;
        }
        assert!(all.len() < 100, "a list that does not end");
    }
    all.iter()
        .map(|row| {
            let root = row.chain.first().expect("a chain").delegator.to_string();
            let minus: Vec<String> = row.exclusions.iter().map(|one| one.subject.to_string()).collect();
            format!("{} for {root}, {} links, minus {minus:?}", row.subject, row.chain.len())
        })
        .collect()
}

#[test]
fn who_may_act_on_an_object_is_listed_with_whom_for() {
    let world = World::new();
    world.touch(&[
        "workspace:eng#editor@user:dana",
        "workspace:eng#editor@agent:coder",
        "workspace:eng#editor@agent:second",
        "project:alpha#workspace@workspace:eng",
        "group:crew#member@agent:coder",
        "group:crew#member@agent:idle",
        "group:all#member@agent:*",
    ]);
    let client = world.client();
    world.delegate("user:dana", "agent:coder", &["edit"], "workspace:eng");
    // Without a role, without a right to give, out of scope, or of another type: in no row.
    world.delegate("user:dana", "agent:idle", &["edit"], "workspace:eng");
    world.delegate("user:tom", "agent:coder", &["edit"], "workspace:eng");
    world.delegate("user:dana", "agent:coder", &["view"], "workspace:eng");
    world.delegate("user:dana", "user:ann", &["edit"], "workspace:eng");
    world.delegate("user:dana", "group:crew#member", &["edit"], "project:alpha");
    world.delegate("user:dana", "group:all#member", &["edit"], "project:alpha");
    let due = [
        "agent:coder for user:dana, 1 links, minus []",
        "agent:coder for user:dana, 1 links, minus []",
        "agent:coder for user:dana, 1 links, minus []",
        "agent:second for user:dana, 1 links, minus []",
    ];
    for page in [1, 2, 3, 100] {
        assert_eq!(delegates(&client, page), due, "pages of {page}");
    }
    // Everybody of a type, but who is suspended.
    world.touch(&["project:alpha#editor@agent:*"]);
    client.suspend_principal(&object("agent:idle"), &Saying::default()).expect("suspended");
    let found: BTreeSet<String> = delegates(&client, 2).into_iter().collect();
    let everybody = "agent:* for user:dana, 1 links, minus [\"agent:idle\"]";
    assert!(found.contains(everybody), "{found:?}");
}

#[test]
fn the_command_line_says_for_whom_and_why_not() {
    let server = Server::start();
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), SCHEMA).expect("written");
    let schema = file.path().to_str().expect("a path");
    assert_eq!(code(&server.ask(["schema", "write", schema])), 0);
    let tuples =
        ["workspace:eng#editor@user:dana", "workspace:eng#editor@agent:coder", "project:alpha#workspace@workspace:eng"];
    assert_eq!(code(&server.ask(["tuple", "write", tuples[0], tuples[1], tuples[2]])), 0);
    let client = Client::connect(server.address()).expect("a connection");
    let id = delegate(&client, "user:dana", "agent:coder", &["view"], "project:alpha").to_string();
    let said = server.ask(["check", "project:alpha#view@agent:coder", "--via", &id]);
    assert_eq!((code(&said), stdout(&said).lines().count() >= 2), (0, true), "{}", stdout(&said));
    assert!(stdout(&said).contains(&format!("for user:dana → agent:coder ({id})")), "{}", stdout(&said));
    let denied = server.ask(["check", "project:alpha#edit@agent:coder", "--via", &id]);
    assert_eq!(code(&denied), 1);
    assert!(stdout(&denied).contains("OUT_OF_SCOPE at hop 1"), "{}", stdout(&denied));
    let other = server.ask(["check", "project:alpha#view@agent:coder", "--via", &id, "--for", "user:tom"]);
    assert!(stdout(&other).contains("ROOT_MISMATCH"), "{}", stdout(&other));
    let nobody = server.ask(["check", "project:alpha#view@agent:coder", "--for", "user:tom"]);
    assert!(stdout(&nobody).contains("NO_DELEGATION"), "{}", stdout(&nobody));
    let explained = server.ask(["explain", "project:alpha#edit@agent:coder", "--via", &id]);
    let text = stdout(&explained);
    assert_eq!(code(&explained), 1);
    for part in ["✗ hop 1   scope", "OUT_OF_SCOPE", "✓ hop 0   own", "view within project:alpha"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let listed = server.ask(["list", "resources", "project", "view", "agent:coder", "--for", "user:dana"]);
    assert!(stdout(&listed).starts_with("project:alpha  for user:dana"), "{}", stdout(&listed));
    let radius = server.ask(["blast-radius", "agent:coder"]);
    assert!(stdout(&radius).starts_with("on its own\n  workspace#edit\n    workspace:eng\n"), "{}", stdout(&radius));
    let through = server.ask(["list", "subjects", "project:alpha", "view", "agent", "--through-delegations"]);
    assert!(stdout(&through).starts_with("agent:coder  for user:dana"), "{}", stdout(&through));
}

#[test]
fn a_root_with_too_many_delegations_is_an_error_and_no_decision() {
    let world = World::new();
    world.touch(&["workspace:eng#editor@user:dana", "workspace:eng#editor@agent:coder"]);
    for _ in 0..32 {
        world.delegate("user:dana", "agent:coder", &["edit"], "workspace:eng");
    }
    let client = world.client();
    let dana = ask(Mandate::OnBehalfOf(object("user:dana")));
    let asked = question("workspace:eng#edit@agent:coder");
    assert_eq!(client.check_under(&asked, &dana).expect("an answer").decision, Decision::Allow);
    // One to another agent, and one of something else, do not count.
    world.delegate("user:dana", "agent:other", &["edit"], "workspace:eng");
    world.delegate("user:dana", "agent:coder", &["edit"], "workspace:ops");
    assert_eq!(client.check_under(&asked, &dana).expect("an answer").decision, Decision::Allow);
    world.delegate("user:dana", "agent:coder", &["edit"], "workspace:eng");
    let error = client.check_under(&asked, &dana).expect_err("too many");
    assert_eq!((error.code, error.reason.as_str()), ("RESOURCE_EXHAUSTED", "TOO_MANY_DELEGATIONS"));
    let elsewhere = client.check_under(&question("workspace:ops#edit@agent:coder"), &dana).expect("an answer");
    assert_eq!(elsewhere.denial.map(|denial| denial.reason), Some(DenyReason::ActorLacksPermission));
}

#[test]
fn a_cursor_goes_on_for_whom_it_was_given_and_a_suspension_counts_for_older_revisions_too() {
    let world = World::new();
    world.touch(&[
        "workspace:eng#editor@user:dana",
        "workspace:eng#editor@agent:coder",
        "project:alpha#workspace@workspace:eng",
        "project:beta#workspace@workspace:eng",
    ]);
    let id = world.delegate("user:dana", "agent:coder", &["edit"], "workspace:eng");
    let client = world.client();
    let list = |mandate: Mandate, cursor: Option<String>| {
        let asked = ResourcesOf {
            object_type: TypeName::new("project").expect("a type"),
            permission: RelationName::new("edit").expect("a permission"),
            subject: "agent:coder".parse().expect("a subject"),
            acting: Acting { mandate, ..Acting::default() },
            within: None,
        };
        let mut rows = Vec::new();
        let page = ListPage { cursor, limit: Some(1), ..ListPage::default() };
        let listed = client.list_resources(&asked, page, &mut |row| {
            rows.push(row);
            true
        });
        listed.map(|_| rows)
    };
    let first = list(Mandate::Delegation(id), None).expect("a list");
    let cursor = first.first().map(|row| row.cursor.clone());
    let next = list(Mandate::Delegation(id), cursor.clone()).expect("a list");
    assert_eq!(next.iter().map(|row| row.object.to_string()).collect::<Vec<_>>(), ["project:beta"]);
    for other in [Mandate::Own, Mandate::OnBehalfOf(object("user:dana"))] {
        let error = list(other, cursor.clone()).expect_err("another list's");
        assert_eq!(error.code, "INVALID_ARGUMENT", "{error:?}");
    }
    let asked = question("project:alpha#edit@agent:coder");
    let token = client.check_under(&asked, &Ask::default()).expect("an answer").token;
    client.suspend_principal(&object("agent:coder"), &Saying::default()).expect("suspended");
    let under = Under { at: procura::api::client::At::AtExactSnapshot(token), ..Under::default() };
    let checked = client.check_under(&asked, &Ask { under, ..Ask::default() }).expect("an answer");
    assert_eq!((checked.decision, checked.historical), (Decision::Deny, true));
    assert_eq!(checked.denial.map(|denial| denial.reason), Some(DenyReason::Suspended));
}

#[test]
fn an_answer_says_how_long_time_alone_leaves_it_as_it_is() {
    let world = World::new();
    world.touch(&["workspace:eng#editor@user:dana", "workspace:eng#editor@agent:coder"]);
    let client = world.client();
    let first = world.delegate("user:dana", "agent:coder", &["edit"], "workspace:eng");
    let ends = |id: DelegationId| {
        let read = client.get_delegation(&id, &procura::api::client::At::Newest, None).expect("it is there");
        read.chain.last().expect("itself").delegation.expires_at
    };
    let asked = question("workspace:eng#edit@agent:coder");
    let until = |mandate: Mandate| client.check_under(&asked, &ask(mandate)).expect("an answer").valid_until;
    assert_eq!(until(Mandate::Own), None);
    assert_eq!(until(Mandate::Delegation(first)), Some(ends(first)));
    assert_eq!(until(Mandate::OnBehalfOf(object("user:dana"))), Some(ends(first)));
    // Before it begins, until it does; revoked, for ever.
    let item = AskedItem { permissions: AskedPermissions::All, within: vec![object("workspace:eng")], caveat: None };
    let later = ends(first);
    let new = NewDelegation {
        not_before: Some(later),
        ..NewDelegation::of(
            object("user:dana"),
            "agent:coder".parse().expect("a delegate"),
            vec![item],
            DelegationEnd::After(Duration::from_secs(60)),
        )
    };
    let second = client.create_delegation(&new).expect("a delegation").delegation.id;
    assert_eq!(until(Mandate::Delegation(second)), Some(later));
    client.revoke_delegation(&first, &Saying::default()).expect("revoked");
    assert_eq!(until(Mandate::Delegation(first)), None);
    // Nobody acts for dana now, but somebody will.
    assert_eq!(until(Mandate::OnBehalfOf(object("user:dana"))), Some(later));
}

#[test]
fn a_later_schema_never_widens_a_consent() {
    const BEFORE: &str = "use hierarchy
caveat in_office(place string) { place == \"office\" }
definition user {}
definition agent {}
definition doc {
  relation owner: user | agent
  permission view = owner
}
";
    let world = World::new();
    let client = world.client();
    client.write_schema(BEFORE, None, false, &Metadata::new()).expect("a schema");
    world.touch(&["doc:1#owner@user:dana", "doc:1#owner@agent:coder"]);
    let all = world.delegate("user:dana", "agent:coder", &[], "doc:1");
    let item = AskedItem {
        permissions: AskedPermissions::Named(vec!["view".parse().expect("a name")]),
        within: vec![object("doc:1")],
        caveat: Some(procura::model::TupleCaveat {
            name: procura::model::CaveatName::new("in_office").expect("a name"),
            context: procura::model::Context::new(),
        }),
    };
    let end = DelegationEnd::After(Duration::from_secs(60));
    let new = NewDelegation::of(object("user:dana"), "agent:coder".parse().expect("a delegate"), vec![item], end);
    let conditional = client.create_delegation(&new).expect("a delegation").delegation.id;
    let decided = |asked: &str, id: DelegationId, place: Option<&str>| {
        let context = place.map(|place| ("place".to_owned(), place.into())).into_iter().collect();
        let under = Under { context, ..Under::default() };
        let checked = client.check_under(&question(asked), &Ask { under, acting: Acting::via(id), explain: false });
        let checked = checked.expect("an answer");
        (checked.decision, checked.denial.map(|denial| denial.reason), checked.missing)
    };
    let allowed = (Decision::Allow, None, Vec::new());
    let view = "doc:1#view@agent:coder";
    assert_eq!(decided(view, all, None), allowed);
    assert_eq!(decided(view, conditional, Some("office")), allowed);
    let open = (Decision::Conditional, Some(DenyReason::ContextMissing), vec!["place".to_owned()]);
    assert_eq!(decided(view, conditional, None), open);
    let denied = |reason| (Decision::Deny, Some(reason), Vec::new());
    assert_eq!(decided(view, conditional, Some("home")), denied(DenyReason::ConditionFalse));
    // `all` was all there was; and a condition that is gone holds for nobody.
    let after = BEFORE
        .replace("caveat in_office(place string) { place == \"office\" }\n", "")
        .replace("  permission view = owner\n", "  permission view = owner\n  permission share = owner\n");
    client.write_schema(&after, None, false, &Metadata::new()).expect("a schema");
    assert_eq!(decided("doc:1#share@agent:coder", all, None), denied(DenyReason::OutOfScope));
    assert_eq!(decided(view, all, None), allowed);
    assert_eq!(decided(view, conditional, Some("office")), denied(DenyReason::ConditionFalse));
}

#[test]
fn a_validation_file_holds_an_answer_to_its_reason_and_hop() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |assertion: &str| {
        let path = folder.path().join("world.yaml");
        let text = format!(
            "schema: |-\n  definition user {{}}\n  definition agent {{}}\n  definition doc {{\n    relation owner: user | agent\n    \
             permission view = owner\n    permission edit = owner\n  }}\nrelationships: |-\n  doc:1#owner@user:dana\n  \
             doc:1#owner@agent:coder\ndelegations:\n  - {{id: d1, from: user:dana, to: agent:coder, permissions: [view], within: \
             [doc:1], expires: 2999-01-01T00:00:00Z}}\nassertions:\n  {assertion}\n"
        );
        std::fs::write(&path, text).expect("written");
        let said = crate::cli::run(["test", path.to_str().expect("a path")]);
        (code(&said), stdout(&said))
    };
    for (assertion, passes) in [
        ("assertTrue: ['doc:1#view@agent:coder via d1']", true),
        // By itself it may, and by the delegation not.
        ("assertTrue: ['doc:1#edit@agent:coder via d1']", false),
        ("assertFalse: ['doc:1#edit@agent:coder via d1']", true),
        ("assertFalse: [{check: 'doc:1#edit@agent:coder via d1', reason: OUT_OF_SCOPE, hop: 1}]", true),
        ("assertFalse: [{check: 'doc:1#edit@agent:coder via d1', reason: SUSPENDED}]", false),
        ("assertFalse: [{check: 'doc:1#edit@agent:coder via d1', reason: OUT_OF_SCOPE, hop: 2}]", false),
        ("assertFalse: [{check: 'doc:1#view@agent:coder for user:tom', reason: NO_DELEGATION}]", true),
    ] {
        let (code, text) = run(assertion);
        assert_eq!(code == 0, passes, "{assertion}\n{text}");
    }
    let (_, text) = run("assertFalse: [{check: 'doc:1#edit@agent:coder via d1', reason: SUSPENDED}]");
    assert!(text.contains("expected DENY SUSPENDED, got DENY OUT_OF_SCOPE at hop 1"), "{text}");
}
