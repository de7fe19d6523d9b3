//! Delegations and suspensions as a client meets them: every verb, every refusal, and nothing half written.

use procura::api::client::{
    At, Client, ClientError, DelegationCreated, DelegationsOf, NewDelegation, Page, PageAt, Saying, WatchOptions,
    WatchStart,
};
use procura::api::{Running, ServeOptions, serve_in_background};
use procura::engine::{AskedItem, DelegationEnd, DelegationSeen, Engine, Metadata, Options, WatchChange, WatchKind};
use procura::model::{
    AskedPermissions, Delegation, DelegationChange, DelegationId, DelegationState, ObjectRef, Precondition,
    RelationTuple, SubjectRef, Timestamp, TupleFilter, TupleKey, TupleUpdate, UpdateKind,
};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const SCHEMA: &str = "use hierarchy

caveat in_office(place string) { place == \"office\" }
definition user {}
definition agent {}
definition group { relation member: user | agent | group#member }
definition org {
  relation admin: user
  permission manage = admin
}
definition workspace {
  parent org: org
  relation lead: user | agent
  permission read = lead
  permission manage = org->manage
}
definition invoice {
  parent workspace: workspace
  relation clerk: user | agent | user with in_office
  permission read = clerk + workspace->read
  permission refund = clerk
}
definition ticket {
  parent workspace: workspace
  relation agent: agent
  permission read = agent + workspace->read
  permission write = agent
}
";

/// Rita leads support, with invoices 8 and 9; 7 is of sales. Nobody may write tickets but agents.
const TUPLES: [&str; 9] = [
    "workspace:support#org@org:acme",
    "workspace:sales#org@org:acme",
    "workspace:support#lead@user:rita",
    "invoice:7#workspace@workspace:sales",
    "invoice:8#workspace@workspace:support",
    "invoice:9#workspace@workspace:support",
    "ticket:1#workspace@workspace:support",
    "invoice:9#clerk@user:rita",
    "group:triage#member@agent:one",
];

struct World {
    engine: Arc<Engine>,
    client: Client,
    running: Option<Running>,
    folder: tempfile::TempDir,
}

/// So many seconds after the worlds begin.
fn at(seconds: i64) -> Timestamp {
    Timestamp::new(1_893_456_000 + seconds, 0).expect("an instant")
}

fn object(text: &str) -> ObjectRef {
    text.parse().expect("an object")
}

fn subject(text: &str) -> SubjectRef {
    text.parse().expect("a subject")
}

/// Of `read,refund` or `all`, within these.
fn item(permissions: &str, within: &[&str]) -> AskedItem {
    let permissions = match permissions {
        "all" => AskedPermissions::All,
        "" => AskedPermissions::Named(Vec::new()),
        names => AskedPermissions::Named(names.split(',').map(|name| name.parse().expect("a name")).collect()),
    };
    AskedItem { permissions, within: within.iter().map(|text| object(text)).collect(), caveat: None }
}

/// From 0 to 900 s, asked for at 0.
fn new(delegator: &str, delegate: &str, items: Vec<AskedItem>) -> NewDelegation {
    let end = DelegationEnd::At(at(900));
    NewDelegation { clock: Some(at(0)), ..NewDelegation::of(object(delegator), subject(delegate), items, end) }
}

fn under(parent: &Delegation, delegator: &str, delegate: &str, items: Vec<AskedItem>) -> NewDelegation {
    NewDelegation { parent: Some(parent.id), ..new(delegator, delegate, items) }
}

fn one_invoice() -> Vec<AskedItem> {
    vec![item("read", &["invoice:9"])]
}

impl World {
    /// Under a test clock.
    fn new() -> World {
        World::with(|_| {})
    }

    fn with(set: impl Fn(&mut Options)) -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let (engine, client, running) = serve(folder.path(), &set);
        client.write_schema(SCHEMA, None, false, &Metadata::new()).expect("a schema");
        let world = World { engine, client, running: Some(running), folder };
        world.write(UpdateKind::Touch, &TUPLES);
        world
    }

    /// The server ends, and another opens the folder.
    fn restart(&mut self) {
        self.running = None;
        // Nobody but this test holds it now; the folder is free once it is dropped.
        let folder = tempfile::tempdir().expect("a folder");
        let other = Engine::open(Options::at(folder.path())).expect("open");
        drop(std::mem::replace(&mut self.engine, Arc::new(other)));
        let (engine, client, running) = serve(self.folder.path(), &|_| {});
        (self.engine, self.client, self.running) = (engine, client, Some(running));
    }

    fn write(&self, kind: UpdateKind, tuples: &[&str]) {
        let update = |text: &&str| TupleUpdate { kind, tuple: text.parse::<RelationTuple>().expect("a tuple") };
        let updates: Vec<TupleUpdate> = tuples.iter().map(update).collect();
        self.client.write_tuples(&updates, &[], &Metadata::new()).expect("written");
    }

    fn create(&self, new: &NewDelegation) -> DelegationCreated {
        self.client.create_delegation(new).unwrap_or_else(|error| panic!("{error:?}"))
    }

    /// Created without a warning.
    fn made(&self, new: &NewDelegation) -> Delegation {
        let created = self.create(new);
        assert_eq!(created.warnings, []);
        created.delegation
    }

    fn list(&self, of: &DelegationsOf) -> Vec<DelegationSeen> {
        let page = PageAt { clock: Some(at(0)), ..PageAt::default() };
        let Page { rows, next_cursor, token: _ } = self.client.list_delegations(of, &page).expect("a page");
        assert_eq!(next_cursor, None);
        rows
    }

    /// Refused with this reason about this field, and nothing is written.
    #[track_caller]
    fn refuses<T: std::fmt::Debug>(
        &self,
        call: impl FnOnce(&Client) -> Result<T, ClientError>,
        (code, reason, field): (&str, &str, &str),
    ) -> ClientError {
        let state = || (self.engine.info().expect("info").revision, self.list(&DelegationsOf::default()).len());
        let before = state();
        let error = call(&self.client).expect_err("refused");
        assert_eq!((error.code, error.reason.as_str(), error.fact("field")), (code, reason, Some(field)), "{error:?}");
        assert_eq!(state(), before);
        error
    }

    #[track_caller]
    fn refuses_to_create(&self, new: &NewDelegation, due: (&str, &str, &str)) -> ClientError {
        self.refuses(|client| client.create_delegation(new), due)
    }
}

fn serve(folder: &Path, set: &dyn Fn(&mut Options)) -> (Arc<Engine>, Client, Running) {
    let mut options = Options { test_clock: true, ..Options::at(folder) };
    set(&mut options);
    let limits = options.limits.clone();
    let engine = Arc::new(Engine::open(options).expect("open"));
    let options = ServeOptions { listen: "127.0.0.1:0".parse().expect("an address"), limits };
    let running = serve_in_background(engine.clone(), options).expect("a server");
    let client = Client::connect(&running.address().to_string()).expect("a connection");
    (engine, client, running)
}

const STATE: &str = "FAILED_PRECONDITION";
const ARGUMENT: &str = "INVALID_ARGUMENT";

#[test]
fn a_delegation_is_what_was_asked_for_and_stays_so() {
    let mut world = World::new();
    let metadata: Metadata = [("ticket".to_owned(), 7.into())].into_iter().collect();
    let made = world.made(&NewDelegation {
        not_before: Some(at(10)),
        redelegate: 2,
        purpose: "to answer tickets".to_owned(),
        metadata: metadata.clone(),
        ..new("user:rita", "agent:bot", vec![item("refund,read,read", &["invoice:9", "invoice:9"])])
    });
    assert_eq!((made.number, made.depth, made.redelegate, made.version), (1, 1, 2, 0));
    assert_eq!((made.root.clone(), made.delegator.clone()), (object("user:rita"), object("user:rita")));
    assert_eq!((made.parent, made.delegate.clone()), (None, subject("agent:bot")));
    assert_eq!((made.created_at, made.not_before, made.expires_at), (at(0), at(10), at(900)));
    assert_eq!((made.purpose.as_str(), &made.metadata), ("to answer tickets", &metadata));
    let [clause] = made.clauses.as_slice() else { panic!("{made:?}") };
    let [stored] = clause.items.as_slice() else { panic!("{clause:?}") };
    assert_eq!(stored.within, [object("invoice:9")]);
    let frozen: Vec<String> = stored.frozen.iter().map(|(of, name)| format!("{of}#{name}")).collect();
    assert_eq!(frozen, ["invoice#read", "invoice#refund"]);
    let child = world.create(&under(&made, "agent:bot", "agent:sub", one_invoice())).delegation;
    assert_eq!((child.parent, child.root.clone(), child.depth), (Some(made.id), object("user:rita"), 2));
    let read =
        |world: &World, id: &DelegationId, clock| world.client.get_delegation(id, &At::Newest, Some(clock)).unwrap();
    let states = |world: &World, clock| {
        read(world, &child.id, clock).chain.iter().map(|seen| (seen.delegation.id, seen.state)).collect::<Vec<_>>()
    };
    use DelegationState::{Expired, Live, NotYetValid};
    assert_eq!(states(&world, at(9)), [(made.id, NotYetValid), (child.id, Live)]);
    assert_eq!(states(&world, at(899)), [(made.id, Live), (child.id, Live)]);
    assert_eq!(states(&world, at(900)), [(made.id, Expired), (child.id, Expired)]);
    let before = (world.engine.info().unwrap().revision, world.list(&DelegationsOf::default()));
    world.restart();
    assert_eq!((world.engine.info().unwrap().revision, world.list(&DelegationsOf::default())), before);
    assert_eq!(*read(&world, &made.id, at(0)).chain[0].delegation, made);
    let scratch = tempfile::tempdir().unwrap();
    world.engine.verify(scratch.path()).expect("the log folds to the state");
}

/// To change one field of a request in place.
trait Tap: Sized {
    fn tap(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}
impl Tap for NewDelegation {}

#[test]
fn all_is_frozen_to_the_permissions_of_its_day() {
    let world = World::new();
    let made = world.create(&new("user:rita", "agent:bot", vec![item("all", &["workspace:support"])])).delegation;
    let frozen = |record: &Delegation| -> Vec<String> {
        record.clauses[0].items[0].frozen.iter().map(|(of, name)| format!("{of}#{name}")).collect()
    };
    let due = ["invoice#read", "invoice#refund", "ticket#read", "ticket#write", "workspace#manage", "workspace#read"];
    assert_eq!(frozen(&made), due);
    let wider = SCHEMA.replace("permission write = agent", "permission write = agent\n  permission close = agent");
    world.client.write_schema(&wider, None, false, &Metadata::new()).expect("a schema");
    let read = world.client.get_delegation(&made.id, &At::Newest, None).expect("a delegation");
    assert_eq!(frozen(&read.chain[0].delegation), due);
    let later = world.create(&new("user:rita", "agent:bot", vec![item("all", &["workspace:support"])])).delegation;
    assert!(frozen(&later).contains(&"ticket#close".to_owned()));
}

// ---- refusals ----

#[test]
fn nobody_delegates_to_who_delegated_to_it() {
    let world = World::new();
    let first = world.made(&new("user:rita", "agent:a", one_invoice()).tap(|new| new.redelegate = 3));
    let second = world.create(&under(&first, "agent:a", "agent:b", one_invoice()).tap(|new| new.redelegate = 2));
    let second = second.delegation;
    for delegate in ["user:rita", "agent:a"] {
        let error =
            world.refuses_to_create(&under(&second, "agent:b", delegate, one_invoice()), (STATE, "CYCLE", "delegate"));
        assert_eq!(error.fact("value"), Some(delegate));
    }
    // Its own is no cycle: it narrows for itself.
    world.create(&under(&second, "agent:b", "agent:b", one_invoice()));
}

#[test]
fn a_chain_is_only_so_long() {
    let world = World::with(|options| options.limits.delegation_depth_max = 3);
    let mut last = world.made(&new("user:rita", "agent:a1", one_invoice()).tap(|new| new.redelegate = 9));
    for n in 1..3 {
        let new = under(&last, &format!("agent:a{n}"), &format!("agent:a{}", n + 1), one_invoice());
        last = world.create(&new.tap(|new| new.redelegate = 1)).delegation;
        last.redelegate = 9;
    }
    assert_eq!(last.depth, 3);
    world.refuses_to_create(&under(&last, "agent:a3", "agent:a4", one_invoice()), (STATE, "TOO_DEEP", "parent"));
}

#[test]
fn what_may_not_be_delegated_on_is_not() {
    let world = World::new();
    let first = world.made(&new("user:rita", "agent:a", one_invoice()));
    let error =
        world.refuses_to_create(&under(&first, "agent:a", "agent:b", one_invoice()), (STATE, "NO_BUDGET", "parent"));
    assert_eq!(error.fact("value"), Some(first.id.to_string().as_str()));
    assert!(error.fact("hint").is_some());
}

#[test]
fn only_a_delegate_of_now_delegates_on() {
    let world = World::new();
    let due = (STATE, "NOT_DELEGATE_OF_PARENT", "delegator");
    let plain = world.made(&new("user:rita", "agent:a", one_invoice()).tap(|new| new.redelegate = 1));
    world.refuses_to_create(&under(&plain, "agent:other", "agent:b", one_invoice()), due);
    let group = world.made(&new("user:rita", "group:triage#member", one_invoice()).tap(|new| new.redelegate = 1));
    world.refuses_to_create(&under(&group, "agent:two", "agent:b", one_invoice()), due);
    world.create(&under(&group, "agent:one", "agent:b", one_invoice()));
    // Nested groups count, and who has left does not.
    world.write(UpdateKind::Touch, &["group:triage#member@group:night#member", "group:night#member@agent:two"]);
    world.create(&under(&group, "agent:two", "agent:b", one_invoice()));
    world.write(UpdateKind::Delete, &["group:triage#member@agent:one"]);
    world.refuses_to_create(&under(&group, "agent:one", "agent:b", one_invoice()), due);
}

#[test]
fn nothing_is_delegated_under_what_is_over() {
    let world = World::new();
    let due = (STATE, "PARENT_NOT_LIVE", "parent");
    let first = world.made(&new("user:rita", "agent:a", one_invoice()).tap(|new| new.redelegate = 3));
    let second = under(&first, "agent:a", "agent:b", one_invoice()).tap(|new| new.redelegate = 2);
    let second = world.create(&second).delegation;
    let child = |clock| under(&second, "agent:b", "agent:c", one_invoice()).tap(|new| new.clock = Some(at(clock)));
    world.create(&child(899));
    world.refuses_to_create(&child(900), due);
    world.client.revoke_delegation(&first.id, &Saying::default()).expect("revoked");
    let error = world.refuses_to_create(&child(0), due);
    assert!(error.message.contains(&first.id.to_string()), "{error:?}");
    // One that has not begun is fine.
    let later = new("user:rita", "agent:a", one_invoice()).tap(|new| {
        new.redelegate = 1;
        new.not_before = Some(at(500));
    });
    let later = world.made(&later);
    world.create(&under(&later, "agent:a", "agent:b", one_invoice()));
}

#[test]
fn an_end_is_after_the_beginning_and_after_now() {
    let world = World::new();
    let ends = |seconds| new("user:rita", "agent:a", one_invoice()).tap(|new| new.end = DelegationEnd::At(at(seconds)));
    for seconds in [-5, 0] {
        world.refuses_to_create(&ends(seconds), (ARGUMENT, "BAD_INTERVAL", "expires_at"));
    }
    let begins = |from, to| ends(to).tap(|new| new.not_before = Some(at(from)));
    world.refuses_to_create(&begins(10, 10), (ARGUMENT, "BAD_INTERVAL", "expires_at"));
    world.refuses_to_create(&begins(-10, 0), (ARGUMENT, "BAD_INTERVAL", "expires_at"));
    let lasts = |duration| ends(0).tap(|new| new.end = DelegationEnd::After(duration));
    world.refuses_to_create(&lasts(Duration::ZERO), (ARGUMENT, "BAD_INTERVAL", "expires_after"));
    assert_eq!(world.made(&lasts(Duration::from_secs(60))).expires_at, at(60));
    let later = lasts(Duration::from_secs(60)).tap(|new| new.not_before = Some(at(30)));
    assert_eq!(world.made(&later).expires_at, at(90));
    assert_eq!(world.made(&begins(-10, 1)).not_before, at(-10));
}

#[test]
fn nothing_lives_longer_than_it_may() {
    let day = Duration::from_secs(24 * 60 * 60);
    let lasts =
        |duration| new("user:rita", "agent:a", one_invoice()).tap(|new| new.end = DelegationEnd::After(duration));
    // Thirty days, where nothing else is said; a test clock lifts that.
    let world = World::with(|options| options.test_clock = false);
    let now = |duration| lasts(duration).tap(|new| new.clock = None);
    let due = (ARGUMENT, "BEYOND_MAX_LIFETIME", "expires_after");
    let before = world.engine.info().unwrap().revision;
    let error = world.client.create_delegation(&now(30 * day + Duration::from_secs(1))).expect_err("refused");
    assert_eq!((error.code, error.reason.as_str(), error.fact("field").unwrap()), due);
    assert_eq!(world.engine.info().unwrap().revision, before);
    world.made(&now(30 * day));
    World::new().made(&lasts(365 * 30 * day));
    // Set, it holds under a test clock too.
    let world = World::with(|options| options.delegation_lifetime_max = Some(Duration::from_secs(60)));
    world.refuses_to_create(&lasts(Duration::from_secs(61)), due);
    world.made(&lasts(Duration::from_secs(60)));
}

#[test]
fn a_scope_covers_something() {
    let world = World::new();
    let empty =
        |items, field| world.refuses_to_create(&new("user:rita", "agent:a", items), (ARGUMENT, "EMPTY_SCOPE", field));
    empty(vec![], "items");
    empty(vec![item("read", &[])], "items[0].within");
    empty(vec![item("read", &["invoice:9"]), item("", &["invoice:9"])], "items[1].permissions");
    empty(vec![item("all", &["agent:a"])], "items[0].permissions");
    let error = empty(vec![item("read,manage", &["invoice:9"])], "items[0].permissions[1]");
    assert!(error.message.contains("`org`") && error.fact("hint").is_some(), "{error:?}");
}

#[test]
fn no_item_stands_twice() {
    let world = World::new();
    let due = (ARGUMENT, "DUPLICATE_ITEM", "items[2]");
    let twice =
        vec![item("read,refund", &["invoice:9"]), item("read", &["invoice:9"]), item("refund,read", &["invoice:9"])];
    world.refuses_to_create(&new("user:rita", "agent:a", twice), due);
    // Anchors that overlap are none.
    let overlapping = vec![item("read", &["workspace:support"]), item("read", &["invoice:9"])];
    world.made(&new("user:rita", "agent:a", overlapping));
}

#[test]
fn every_type_is_one_of_the_schema() {
    let world = World::new();
    let due = |field| (STATE, "UNKNOWN_TYPE", field);
    let error = world.refuses_to_create(&new("usr:rita", "agent:a", one_invoice()), due("delegator.type"));
    assert_eq!(error.fact("hint"), Some("did you mean `user`?"));
    world.refuses_to_create(&new("user:rita", "robot:a", one_invoice()), due("delegate.object.type"));
    let items = vec![item("read", &["invoice:9", "invoce:9"])];
    world.refuses_to_create(&new("user:rita", "agent:a", items), due("items[0].within[1].type"));
    let items = vec![item("invoce#read", &["invoice:9"])];
    world.refuses_to_create(&new("user:rita", "agent:a", items), due("items[0].permissions[0]"));
    // An id that no tuple mentions is fine.
    world.create(&new("user:nobody", "agent:unheard", vec![item("read", &["invoice:none"])]));
}

#[test]
fn every_permission_is_one_of_the_schema() {
    let world = World::new();
    let due = |field| (STATE, "UNKNOWN_PERMISSION", field);
    let items = vec![item("read,refnd", &["invoice:9"])];
    let error = world.refuses_to_create(&new("user:rita", "agent:a", items), due("items[0].permissions[1]"));
    assert_eq!((error.fact("value"), error.fact("hint")), (Some("refnd"), Some("did you mean `refund`?")));
    let items = vec![item("ticket#refund", &["workspace:support"])];
    world.refuses_to_create(&new("user:rita", "agent:a", items), due("items[0].permissions[0]"));
    world.refuses_to_create(&new("user:rita", "group:triage#membr", one_invoice()), due("delegate.relation"));
}

#[test]
fn a_narrowing_never_widens() {
    let world = World::new();
    let made = world.made(&new("user:rita", "agent:a", vec![item("read", &["workspace:support"])]));
    let narrow = |items: &[AskedItem], end: Option<i64>| {
        world.client.narrow_delegation(&made.id, items, end.map(at), &Saying::default())
    };
    world.refuses(|_| narrow(&[], Some(901)), (STATE, "WIDENS", "expires_at"));
    world.refuses(|_| narrow(&[], Some(900)), (ARGUMENT, "EMPTY_SCOPE", "items"));
    world.refuses(|_| narrow(&[], None), (ARGUMENT, "EMPTY_SCOPE", "items"));
    world.refuses(|_| narrow(&[], Some(0)), (ARGUMENT, "BAD_INTERVAL", "expires_at"));
    world.refuses(
        |_| narrow(&[item("raed", &["invoice:9"])], None),
        (STATE, "UNKNOWN_PERMISSION", "items[0].permissions[0]"),
    );
    let double = [item("read", &["invoice:9"]), item("read", &["invoice:9"])];
    world.refuses(|_| narrow(&double, None), (ARGUMENT, "DUPLICATE_ITEM", "items[1]"));
    // Another clause, which whatever is covered must be in too.
    let narrowed = narrow(&[item("read,refund", &["invoice:9"])], None).expect("narrowed").delegation;
    assert_eq!((narrowed.clauses.len(), narrowed.version, narrowed.expires_at), (2, 1, at(900)));
    assert_eq!(narrowed.clauses[0], made.clauses[0]);
    let narrowed = narrow(&[], Some(100)).expect("narrowed").delegation;
    assert_eq!((narrowed.clauses.len(), narrowed.version, narrowed.expires_at), (2, 2, at(100)));
    assert_eq!(*world.list(&DelegationsOf::default())[0].delegation, narrowed);
    let unknown = DelegationId([7; 16]);
    let none = ("NOT_FOUND", "DELEGATION_NOT_FOUND", "id");
    world.refuses(|client| client.narrow_delegation(&unknown, &[], Some(at(1)), &Saying::default()), none);
    world.client.revoke_delegation(&made.id, &Saying::default()).expect("revoked");
    world.refuses(|_| narrow(&[], Some(50)), (STATE, "PARENT_NOT_LIVE", "id"));
}

#[test]
fn what_is_over_broad_is_warned_of_or_refused() {
    let world = World::new();
    let kinds = |created: &DelegationCreated| -> Vec<(String, String)> {
        created.warnings.iter().map(|warning| (warning.kind.clone(), warning.field.clone())).collect()
    };
    let due = |kind: &str, field: &str| (kind.to_owned(), field.to_owned());
    let more = "MORE_THAN_DELEGATOR_HAS";
    // On the anchor itself; beneath it; where there is nothing beneath, nobody can say.
    let items = vec![
        item("read", &["invoice:9"]),
        item("refund", &["invoice:9", "invoice:8"]),
        item("invoice#read,invoice#refund", &["workspace:support"]),
        item("ticket#write", &["workspace:support"]),
        item("ticket#write", &["workspace:sales"]),
    ];
    let broad = new("user:rita", "agent:a", items);
    let created = world.create(&broad);
    assert_eq!(kinds(&created), [due(more, "items[1]"), due(more, "items[3]")]);
    assert!(created.warnings[0].message.contains("`invoice#refund` on `invoice:8`"), "{:?}", created.warnings);
    assert!(!created.warnings[0].message.contains("invoice:9") && !created.warnings[0].hint.is_empty());
    let error = world.refuses_to_create(&broad.clone().tap(|new| new.strict = true), (STATE, "OVER_BROAD", "items[1]"));
    assert!(error.message.contains("invoice:8"), "{error:?}");
    // What it has elsewhere does not count.
    world.write(UpdateKind::Touch, &["invoice:7#clerk@user:tom"]);
    let elsewhere = new("user:tom", "agent:a", vec![item("refund", &["workspace:support"])]);
    assert_eq!(kinds(&world.create(&elsewhere)), [due(more, "items[0]")]);
    world.made(&elsewhere.tap(|new| new.items = vec![item("refund", &["workspace:sales"])]));
    // What hangs on context is not lacking.
    world.write(UpdateKind::Touch, &["invoice:8#clerk@user:dana[in_office]"]);
    world.made(&new("user:dana", "agent:a", vec![item("refund", &["invoice:8"])]).tap(|new| new.strict = true));
    // Who is suspended has nothing.
    world.client.suspend_principal(&object("user:rita"), &Saying::default()).expect("suspended");
    assert_eq!(kinds(&world.create(&new("user:rita", "agent:a", one_invoice()))), [due(more, "items[0]")]);
    world.client.reinstate_principal(&object("user:rita"), &Saying::default()).expect("reinstated");

    // Wider than the parent: another permission, another place; beneath it is not wider.
    let parent = new("user:rita", "agent:one", vec![item("read", &["workspace:support"])]);
    let parent = world.made(&parent.tap(|new| new.redelegate = 1));
    world.write(UpdateKind::Touch, &["workspace:support#lead@agent:one", "invoice:7#clerk@agent:one"]);
    let items = vec![
        item("invoice#read", &["invoice:9"]),
        item("invoice#read", &["invoice:7"]),
        item("workspace#read", &["workspace:support"]),
    ];
    let child = under(&parent, "agent:one", "agent:two", items);
    assert_eq!(kinds(&world.create(&child)), [due("WIDER_THAN_PARENT", "items[1]")]);
    world.refuses_to_create(&child.tap(|new| new.strict = true), (STATE, "OVER_BROAD", "items[1]"));
}

#[test]
fn what_cannot_be_told_is_said_and_no_strict_request_is_taken_on_trust() {
    let world = World::with(|options| options.limits.over_broad_edges_max = 1);
    let wide = new("user:rita", "agent:a", vec![item("ticket#write", &["workspace:support"])]);
    let created = world.create(&wide);
    let said: Vec<(&str, &str)> =
        created.warnings.iter().map(|warning| (warning.kind.as_str(), warning.field.as_str())).collect();
    assert_eq!(said, [("NOT_ALL_LOOKED_AT", "items[0]")]);
    let error = world.refuses_to_create(&wide.tap(|new| new.strict = true), (STATE, "OVER_BROAD", "items[0]"));
    assert!(error.message.contains("cannot tell within 1 edges"), "{error:?}");
}

#[test]
fn a_child_is_clamped_to_its_parent_and_told() {
    let world = World::new();
    let first = world.made(&new("user:rita", "agent:one", one_invoice()).tap(|new| new.redelegate = 2));
    world.write(UpdateKind::Touch, &["invoice:9#clerk@agent:one"]);
    let child = under(&first, "agent:one", "agent:two", one_invoice()).tap(|new| {
        new.redelegate = 5;
        new.end = DelegationEnd::At(at(1_000));
        // What is clamped is never refused.
        new.strict = true;
    });
    let created = world.create(&child);
    assert_eq!((created.delegation.expires_at, created.delegation.redelegate), (at(900), 1));
    let told: Vec<(&str, &str)> =
        created.warnings.iter().map(|warning| (warning.kind.as_str(), warning.field.as_str())).collect();
    assert_eq!(told, [("EXPIRY_CLAMPED", "expires_at"), ("BUDGET_CLAMPED", "redelegate")]);
    let exact = child.tap(|new| {
        new.redelegate = 1;
        new.end = DelegationEnd::After(Duration::from_secs(900));
    });
    world.made(&exact);
}

#[test]
fn what_is_malformed_is_refused_by_its_field() {
    let world = World::new();
    let invalid = |field| (ARGUMENT, "INVALID_ARGUMENT", field);
    world.refuses_to_create(&new("user:rita", "agent:*", one_invoice()), invalid("delegate"));
    let empty_key = new("user:rita", "agent:a", one_invoice()).tap(|new| new.idempotency_key = Some(String::new()));
    world.refuses_to_create(&empty_key, invalid("idempotency_key"));
    let missing = new("user:rita", "agent:a", one_invoice()).tap(|new| new.parent = Some(DelegationId([7; 16])));
    world.refuses_to_create(&missing, ("NOT_FOUND", "DELEGATION_NOT_FOUND", "parent"));
    let mut caveated = item("read", &["invoice:9"]);
    caveated.caveat = Some(serde_json::from_str(r#"{"name": "in_ofice", "context": {}}"#).unwrap());
    world.refuses_to_create(
        &new("user:rita", "agent:a", vec![caveated.clone()]),
        (STATE, "UNKNOWN_CAVEAT", "items[0].caveat"),
    );
    caveated.caveat = Some(serde_json::from_str(r#"{"name": "in_office", "context": {"plaice": "x"}}"#).unwrap());
    let wrong = (STATE, "CAVEAT_CONTEXT_NOT_ALLOWED", "items[0].caveat.context");
    world.refuses_to_create(&new("user:rita", "agent:a", vec![caveated]), wrong);
    let over = |field| ("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED", field);
    let many = (0..101).map(|n| item("read", &[format!("invoice:{n}").as_str()])).collect();
    world.refuses_to_create(&new("user:rita", "agent:a", many), over("items"));
    let long = new("user:rita", "agent:a", one_invoice()).tap(|new| new.purpose = "x".repeat(4 << 10 | 1));
    world.refuses_to_create(&long, over("purpose"));
    let wide: Vec<String> = (0..1_000).map(|n| format!("invoice:{n}{}", "x".repeat(500))).collect();
    let wide = item("read", &wide.iter().map(String::as_str).collect::<Vec<_>>());
    world.refuses_to_create(&new("user:rita", "agent:a", vec![wide]), over("items"));
    world.refuses(
        |client| client.suspend_principal(&object("usr:rita"), &Saying::default()),
        (STATE, "UNKNOWN_TYPE", "principal.type"),
    );
    world.refuses(
        |client| client.reinstate_principal(&object("usr:rita"), &Saying::default()),
        (STATE, "UNKNOWN_TYPE", "principal.type"),
    );
    world.refuses(
        |client| client.revoke_all_for(&subject("agnt:a"), &Saying::default()),
        (STATE, "UNKNOWN_TYPE", "principal.object.type"),
    );
    world.refuses(|client| client.revoke_all_for(&subject("agent:*"), &Saying::default()), invalid("principal"));
    let long = Saying { reason: "x".repeat(4 << 10 | 1), ..Saying::default() };
    world.refuses(|client| client.suspend_principal(&object("user:rita"), &long), over("reason"));
    let none = ("NOT_FOUND", "DELEGATION_NOT_FOUND", "id");
    world.refuses(|client| client.revoke_delegation(&DelegationId([7; 16]), &Saying::default()), none);
    world.refuses(|client| client.get_delegation(&DelegationId([7; 16]), &At::Newest, None), none);
    let page = |size| PageAt { size: Some(size), ..PageAt::default() };
    for size in [0, 1_001] {
        world.refuses(|client| client.list_delegations(&DelegationsOf::default(), &page(size)), invalid("page_size"));
        world.refuses(|client| client.list_suspended(&page(size)), invalid("page_size"));
    }
    // Time is the server's, unless it has a test clock.
    let world = World::with(|options| options.test_clock = false);
    let error = world.client.create_delegation(&new("user:rita", "agent:a", one_invoice())).expect_err("refused");
    assert_eq!((error.reason.as_str(), error.fact("field")), ("INVALID_ARGUMENT", Some("clock")));
}

// ---- what holds while it is done ----

#[test]
fn preconditions_are_judged_in_the_commit() {
    let world = World::new();
    let key: TupleKey = "invoice:9#clerk@user:rita".parse().unwrap();
    let due = [Precondition::MustNotMatch(TupleFilter::exactly(&key))];
    let saying = Saying { preconditions: due.to_vec(), ..Saying::default() };
    let failed = (STATE, "PRECONDITION_FAILED", "preconditions[0]");
    let made = world.made(&new("user:rita", "agent:a", vec![item("read", &["workspace:support"])]));
    let guarded = new("user:rita", "agent:a", one_invoice()).tap(|new| new.preconditions = due.to_vec());
    world.refuses_to_create(&guarded, failed);
    world.refuses(|client| client.narrow_delegation(&made.id, &one_invoice(), None, &saying), failed);
    // The tuple is named, whatever is written.
    let unmet = world.client.create_delegation(&guarded).expect_err("unmet");
    assert!(unmet.message.contains("clerk") && unmet.message.contains("user:rita"), "{}", unmet.message);
    world.refuses(|client| client.revoke_delegation(&made.id, &saying), failed);
    world.refuses(|client| client.revoke_all_for(&subject("agent:a"), &saying), failed);
    world.refuses(|client| client.suspend_principal(&object("user:rita"), &saying), failed);
    world.client.suspend_principal(&object("user:rita"), &Saying::default()).expect("suspended");
    world.refuses(|client| client.reinstate_principal(&object("user:rita"), &saying), failed);
    world.write(UpdateKind::Delete, &["invoice:9#clerk@user:rita"]);
    world.create(&guarded);
}

#[test]
fn the_same_request_again_is_the_same_delegation() {
    let world = World::new();
    const DAY: i64 = 24 * 60 * 60;
    let keyed = new("user:rita", "agent:a", vec![item("read,refund", &["invoice:9"])]).tap(|new| {
        new.idempotency_key = Some("k1".to_owned());
        new.end = DelegationEnd::After(Duration::from_secs(3_600));
    });
    let first = world.create(&keyed);
    let revision = world.engine.info().unwrap().revision;
    let again = world.create(&keyed.clone().tap(|new| new.clock = Some(at(60))));
    assert_eq!(again.delegation, first.delegation);
    assert_eq!(world.engine.info().unwrap().revision, revision);
    // Whatever differs makes it another request, which the key is not for.
    let other = |change: fn(&mut NewDelegation)| {
        let due = (STATE, "IDEMPOTENCY_KEY_USED", "idempotency_key");
        world.refuses_to_create(&keyed.clone().tap(change), due);
    };
    other(|new| new.purpose = "another".to_owned());
    other(|new| new.redelegate = 1);
    other(|new| new.strict = true);
    other(|new| new.end = DelegationEnd::After(Duration::from_secs(3_601)));
    other(|new| new.end = DelegationEnd::At(at(3_600)));
    other(|new| new.items = vec![item("read", &["invoice:8"])]);
    other(|new| new.delegate = subject("agent:b"));
    other(|new| new.metadata = [("a".to_owned(), 1.into())].into_iter().collect());
    other(|new| new.not_before = Some(at(0)));
    let filter = TupleFilter { object_type: Some("invoice".parse().unwrap()), ..TupleFilter::default() };
    let guarded = keyed.clone().tap(|new| new.preconditions = vec![Precondition::MustMatch(filter)]);
    world.refuses_to_create(&guarded, (STATE, "IDEMPOTENCY_KEY_USED", "idempotency_key"));
    // It answers so also when the request would be refused by now: revoked, and what it names gone from the schema.
    world.client.revoke_delegation(&first.delegation.id, &Saying::default()).expect("revoked");
    world
        .client
        .write_schema(&SCHEMA.replace("permission refund = clerk", ""), None, false, &Metadata::new())
        .expect("a schema");
    let again = world.create(&keyed.clone().tap(|new| new.clock = Some(at(DAY - 1))));
    assert_eq!(again.delegation.id, first.delegation.id);
    assert!(again.delegation.revoked.is_some());
    world.client.write_schema(SCHEMA, None, false, &Metadata::new()).expect("a schema");
    // After a day the key is free.
    let next = world.create(&keyed.clone().tap(|new| new.clock = Some(at(DAY))));
    assert_ne!(next.delegation.id, first.delegation.id);
    assert_eq!(world.list(&DelegationsOf::default()).len(), 2);
}

#[test]
fn a_key_makes_one_delegation_however_many_ask_at_once() {
    let world = World::new();
    let keyed = new("user:rita", "agent:a", one_invoice()).tap(|new| new.idempotency_key = Some("k".to_owned()));
    let address = world.running.as_ref().unwrap().address().to_string();
    let mut ids: Vec<DelegationId> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| Client::connect(&address).unwrap().create_delegation(&keyed).unwrap().delegation.id)
            })
            .collect();
        asking.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    ids.dedup();
    assert_eq!(ids.len(), 1);
    assert_eq!(world.list(&DelegationsOf::default()).len(), 1);
}

#[test]
fn a_revocation_is_final_and_repeatable() {
    let world = World::new();
    let made = world.made(&new("user:rita", "agent:a", one_invoice()));
    let saying = |reason: &str| Saying { reason: reason.to_owned(), ..Saying::default() };
    let revoked = world.client.revoke_delegation(&made.id, &saying("leaked")).expect("revoked").delegation;
    assert_eq!(revoked.revoked.as_ref().map(|revoked| revoked.reason.as_str()), Some("leaked"));
    let revision = world.engine.info().unwrap().revision;
    assert_eq!(world.client.revoke_delegation(&made.id, &saying("again")).expect("revoked").delegation, revoked);
    assert_eq!(world.engine.info().unwrap().revision, revision);
    assert_eq!(world.list(&DelegationsOf::default())[0].state, DelegationState::Revoked);
}

#[test]
fn all_of_a_principal_are_revoked_at_once() {
    let world = World::new();
    let given = world.create(&new("user:rita", "agent:one", one_invoice()).tap(|new| new.redelegate = 1)).delegation;
    let taken = world.create(&under(&given, "agent:one", "agent:b", one_invoice())).delegation;
    let group = world.create(&new("user:rita", "group:triage#member", one_invoice())).delegation;
    let other = world.create(&new("user:dana", "agent:b", one_invoice())).delegation;
    let before = world.engine.info().unwrap().revision;
    let (count, _) = world.client.revoke_all_for(&subject("agent:one"), &Saying::default()).expect("revoked");
    assert_eq!((count, world.engine.info().unwrap().revision.0), (2, before.0 + 1));
    let revoked = || -> Vec<DelegationId> {
        let of = DelegationsOf { state: Some(DelegationState::Revoked), ..DelegationsOf::default() };
        world.list(&of).iter().map(|seen| seen.delegation.id).collect()
    };
    assert_eq!(revoked(), [given.id, taken.id]);
    assert_eq!(world.client.revoke_all_for(&subject("agent:one"), &Saying::default()).expect("revoked").0, 0);
    // A group is named as it stands in the record.
    assert_eq!(world.client.revoke_all_for(&subject("group:triage#member"), &Saying::default()).expect("revoked").0, 1);
    assert_eq!(revoked(), [given.id, taken.id, group.id]);
    assert_eq!(other.number, 4);
}

#[test]
fn suspending_is_one_switch_and_is_listed() {
    let mut world = World::new();
    let saying = Saying { reason: "compromised".to_owned(), ..Saying::default() };
    for name in ["agent:a", "agent:b", "agent:c", "user:rita"] {
        assert!(world.client.suspend_principal(&object(name), &saying).expect("suspended").changed);
    }
    assert!(!world.client.suspend_principal(&object("agent:b"), &Saying::default()).expect("suspended").changed);
    assert!(world.client.reinstate_principal(&object("agent:c"), &Saying::default()).expect("reinstated").changed);
    assert!(!world.client.reinstate_principal(&object("agent:c"), &Saying::default()).expect("reinstated").changed);
    let names = |world: &World, size| {
        let (mut names, mut cursor) = (Vec::new(), None);
        loop {
            let page = PageAt { size: Some(size), cursor, ..PageAt::default() };
            let page = world.client.list_suspended(&page).expect("a page");
            assert!(page.rows.len() <= size as usize);
            names.extend(page.rows.iter().map(|one| (one.principal.to_string(), one.reason.clone())));
            cursor = page.next_cursor;
            if cursor.is_none() {
                return names;
            }
        }
    };
    let due: Vec<(String, String)> =
        ["agent:a", "agent:b", "user:rita"].iter().map(|name| ((*name).to_owned(), "compromised".to_owned())).collect();
    for size in 1..5 {
        assert_eq!(names(&world, size), due);
    }
    // A page that ends with the last says so.
    let page = |size| world.client.list_suspended(&PageAt { size: Some(size), ..PageAt::default() }).expect("a page");
    assert!(page(3).next_cursor.is_none() && page(2).next_cursor.is_some());
    world.restart();
    assert_eq!(names(&world, 2), due);
    let forged = PageAt { cursor: Some("AAAA".to_owned()), ..PageAt::default() };
    let error = world.client.list_suspended(&forged).expect_err("refused");
    assert_eq!((error.reason.as_str(), error.fact("field")), ("INVALID_ARGUMENT", Some("cursor")));
}

#[test]
fn delegations_are_listed_by_whatever_is_given() {
    let world = World::new();
    let made = |new: NewDelegation| world.create(&new).delegation;
    let d1 =
        made(new("user:rita", "agent:one", vec![item("read", &["workspace:support"])]).tap(|new| new.redelegate = 2));
    let d2 =
        made(under(&d1, "agent:one", "agent:two", vec![item("read", &["invoice:9"])]).tap(|new| new.redelegate = 1));
    let d3 = made(
        under(&d2, "agent:two", "agent:one", vec![item("read", &["invoice:9"])])
            .tap(|new| new.delegate = subject("agent:three")),
    );
    let d4 = made(
        new("user:dana", "agent:one", vec![item("read", &["invoice:9", "invoice:8"])])
            .tap(|new| new.not_before = Some(at(100))),
    );
    let d5 = made(
        new("user:dana", "group:triage#member", vec![item("read", &["invoice:8"])])
            .tap(|new| new.end = DelegationEnd::At(at(50))),
    );
    world.client.revoke_delegation(&d2.id, &Saying::default()).expect("revoked");
    let numbers = |of: DelegationsOf, clock: i64| -> Vec<u64> {
        let whole =
            world.client.list_delegations(&of, &PageAt { clock: Some(at(clock)), ..PageAt::default() }).unwrap();
        let whole: Vec<u64> = whole.rows.iter().map(|seen| seen.delegation.number).collect();
        // The same in pages of any size.
        for size in 1..4 {
            let (mut paged, mut cursor) = (Vec::new(), None);
            loop {
                let page = PageAt { size: Some(size), cursor, clock: Some(at(clock)), ..PageAt::default() };
                let page = world.client.list_delegations(&of, &page).expect("a page");
                paged.extend(page.rows.iter().map(|seen| seen.delegation.number));
                cursor = page.next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!(paged, whole);
        }
        whole
    };
    let every = DelegationsOf::default;
    assert_eq!(numbers(every(), 0), [1, 2, 3, 4, 5]);
    let root = |name: &str| DelegationsOf { root: Some(object(name)), ..every() };
    assert_eq!(numbers(root("user:rita"), 0), [1, 2, 3]);
    assert_eq!(numbers(root("agent:one"), 0), [0; 0]);
    let delegate = |name: &str| DelegationsOf { delegate: Some(subject(name)), ..every() };
    assert_eq!(numbers(delegate("agent:one"), 0), [1, 4]);
    assert_eq!(numbers(delegate("group:triage#member"), 0), [5]);
    assert_eq!(numbers(DelegationsOf { delegator: Some(object("agent:two")), ..every() }, 0), [3]);
    let anchor = |name: &str| DelegationsOf { anchor: Some(object(name)), ..every() };
    assert_eq!(numbers(anchor("invoice:9"), 0), [2, 3, 4]);
    assert_eq!(numbers(anchor("workspace:support"), 0), [1]);
    assert_eq!(numbers(DelegationsOf { parent: Some(d1.id), ..every() }, 0), [2]);
    assert_eq!(numbers(DelegationsOf { parent: Some(d3.id), ..every() }, 0), [0; 0]);
    let state = |state| DelegationsOf { state: Some(state), ..every() };
    assert_eq!(numbers(state(DelegationState::Live), 0), [1, 3, 5]);
    assert_eq!(numbers(state(DelegationState::NotYetValid), 99), [4]);
    assert_eq!(numbers(state(DelegationState::Expired), 50), [5]);
    assert_eq!(numbers(state(DelegationState::Revoked), 0), [2]);
    let both =
        DelegationsOf { root: Some(object("user:dana")), anchor: Some(object("invoice:8")), ..delegate("agent:one") };
    assert_eq!(numbers(both.clone(), 0), [4]);
    assert_eq!(numbers(DelegationsOf { state: Some(DelegationState::Live), ..both }, 0), [0; 0]);
    let none = DelegationsOf {
        root: Some(object("user:rita")),
        parent: Some(d1.id),
        delegator: Some(object("agent:two")),
        ..every()
    };
    assert_eq!(numbers(none, 0), [0; 0]);
    assert_eq!((d4.number, d5.number), (4, 5));
    // A cursor is of what it was asked for.
    let first = PageAt { size: Some(1), ..PageAt::default() };
    let cursor = world.client.list_delegations(&root("user:rita"), &first).expect("a page").next_cursor;
    let error = world.client.list_delegations(&every(), &PageAt { cursor, ..first }).expect_err("refused");
    assert_eq!((error.reason.as_str(), error.fact("field")), ("INVALID_ARGUMENT", Some("cursor")));
}

#[test]
fn a_page_that_looked_at_too_many_says_where_to_go_on() {
    let world = World::with(|options| options.limits.delegations_looked_at_max = 3);
    for n in 0..8 {
        world.made(&new("user:rita", &format!("agent:a{n}"), one_invoice()));
    }
    let of = DelegationsOf {
        root: Some(object("user:rita")),
        delegate: Some(subject("agent:a7")),
        ..DelegationsOf::default()
    };
    let (mut found, mut pages, mut cursor) = (Vec::new(), 0, None);
    loop {
        let page = PageAt { cursor, clock: Some(at(0)), ..PageAt::default() };
        let page = world.client.list_delegations(&of, &page).expect("a page");
        found.extend(page.rows.iter().map(|seen| seen.delegation.number));
        pages += 1;
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!((found, pages), (vec![8], 3));
}

#[test]
fn an_anchor_that_no_live_tuple_mentions_is_dangling() {
    let world = World::new();
    let anchors = ["invoice:9", "invoice:none", "workspace:sales", "org:acme", "ticket:1", "group:night"];
    let anchors: Vec<AskedItem> = anchors
        .iter()
        .map(|anchor| item(if anchor.starts_with("group") { "member" } else { "all" }, &[anchor]))
        .collect();
    world.write(UpdateKind::Touch, &["group:triage#member@group:night#member"]);
    let made = world.create(&new("user:rita", "agent:a", anchors)).delegation;
    let dangling = || -> Vec<String> {
        let read = world.client.get_delegation(&made.id, &At::Newest, None).expect("a delegation");
        read.dangling.iter().map(ToString::to_string).collect()
    };
    assert_eq!(dangling(), ["invoice:none"]);
    world.write(UpdateKind::Delete, &["ticket:1#workspace@workspace:support", "workspace:sales#org@org:acme"]);
    // As a parent of an invoice it is still there, and a userset names its object.
    assert_eq!(dangling(), ["invoice:none", "ticket:1"]);
    world.write(UpdateKind::Delete, &["invoice:7#workspace@workspace:sales", "group:triage#member@group:night#member"]);
    assert_eq!(dangling(), ["group:night", "invoice:none", "ticket:1", "workspace:sales"]);
    world.write(UpdateKind::Touch, &["ticket:1#workspace@workspace:support"]);
    assert_eq!(dangling(), ["group:night", "invoice:none", "workspace:sales"]);
}

/// Whoever is told that a parent is revoked finds no child that was made after it.
#[test]
fn no_child_is_made_under_a_revoked_parent() {
    let world = World::new();
    let address = world.running.as_ref().unwrap().address().to_string();
    let mut late = 0;
    for round in 0..20 {
        let parent =
            world.create(&new("user:rita", "agent:one", one_invoice()).tap(|new| new.redelegate = 1)).delegation;
        std::thread::scope(|scope| {
            let makers: Vec<_> = (0..3)
                .map(|maker| {
                    let (parent, address) = (&parent, &address);
                    scope.spawn(move || {
                        let client = Client::connect(address).unwrap();
                        // Bounded: the parent is revoked meanwhile.
                        for n in 0.. {
                            let child =
                                under(parent, "agent:one", &format!("agent:c{round}_{maker}_{n}"), one_invoice());
                            match client.create_delegation(&child) {
                                Ok(_) => {}
                                Err(error) => {
                                    assert_eq!(error.reason, "PARENT_NOT_LIVE", "{error:?}");
                                    return n;
                                }
                            }
                        }
                        0
                    })
                })
                .collect();
            // Only once some are made.
            let of = DelegationsOf { parent: Some(parent.id), ..DelegationsOf::default() };
            while world.list(&of).len() < 3 {}
            world.client.revoke_delegation(&parent.id, &Saying::default()).expect("revoked");
            let told = world.list(&of).len();
            let made: i32 = makers.into_iter().map(|thread| thread.join().unwrap()).sum();
            assert_eq!(world.list(&of).len(), told, "none after the revocation was acknowledged");
            late += i32::from(made > 3);
        });
    }
    assert!(late > 0, "no round made children while the parent was revoked");
    let mut revoked = std::collections::BTreeSet::new();
    for change in changes(&world, &[]) {
        let WatchChange::Delegation { record, change } = change else { continue };
        match change {
            DelegationChange::Created => assert!(record.parent.is_none_or(|parent| !revoked.contains(&parent))),
            DelegationChange::Revoked => assert!(revoked.insert(record.id)),
            DelegationChange::Narrowed => {}
        }
    }
    assert_eq!(revoked.len(), 20);
}

/// Everything that was told of these kinds up to now, over the wire.
fn changes(world: &World, kinds: &[WatchKind]) -> Vec<WatchChange> {
    let newest = world.client.server_info().expect("info").revision_token;
    let options = WatchOptions { from: WatchStart::Start, kinds: kinds.to_vec(), ..WatchOptions::default() };
    let mut told = Vec::new();
    let watched = Client::connect(&world.running.as_ref().unwrap().address().to_string()).unwrap();
    watched
        .watch(&options, &mut |watched| {
            told.extend(watched.writes.into_iter().flat_map(|write| write.changes));
            watched.through.as_deref() != Some(&newest)
        })
        .expect("watched");
    told
}

#[test]
fn every_change_is_told_to_who_watches() {
    let world = World::new();
    let made = world.made(&new("user:rita", "agent:a", vec![item("all", &["invoice:9"])]).tap(|new| {
        new.metadata = [("ticket".to_owned(), 7.into())].into_iter().collect();
        new.items[0].caveat =
            Some(serde_json::from_str(r#"{"name": "in_office", "context": {"place": "office"}}"#).unwrap());
    }));
    let narrowed = world.client.narrow_delegation(&made.id, &one_invoice(), Some(at(100)), &Saying::default());
    let narrowed = narrowed.expect("narrowed").delegation;
    let saying = Saying { reason: "leaked".to_owned(), ..Saying::default() };
    let revoked = world.client.revoke_delegation(&made.id, &saying).expect("revoked").delegation;
    world.client.suspend_principal(&object("agent:a"), &saying).expect("suspended");
    world.client.reinstate_principal(&object("agent:a"), &saying).expect("reinstated");
    let delegation = |record: &Delegation, change| WatchChange::Delegation { record: Arc::new(record.clone()), change };
    let due = [
        delegation(&made, DelegationChange::Created),
        delegation(&narrowed, DelegationChange::Narrowed),
        delegation(&revoked, DelegationChange::Revoked),
    ];
    assert_eq!(changes(&world, &[WatchKind::Delegations]), due);
    let suspensions = changes(&world, &[WatchKind::Suspensions]);
    let [WatchChange::Suspended(suspended), WatchChange::Reinstated { principal }] = suspensions.as_slice() else {
        panic!("{suspensions:?}")
    };
    assert_eq!(
        (&suspended.principal, suspended.reason.as_str(), principal),
        (&object("agent:a"), "leaked", &object("agent:a"))
    );
    assert!(matches!(changes(&world, &[WatchKind::Schemas]).as_slice(), [WatchChange::Schema { .. }]));
    assert_eq!(changes(&world, &[WatchKind::Tuples]).len(), TUPLES.len());
    let both = changes(&world, &[WatchKind::Tuples, WatchKind::Suspensions]);
    assert_eq!(both.len(), TUPLES.len() + 2);
    assert_eq!(changes(&world, &[]).len(), TUPLES.len() + 6);
}

#[test]
fn delegations_move_to_another_database_with_their_ids() {
    let world = World::new();
    let d1 = new("user:rita", "group:triage#member", vec![item("all", &["workspace:support"])])
        .tap(|new| new.redelegate = 2);
    let d1 = world.create(&d1).delegation;
    let d2 = under(&d1, "agent:one", "agent:two", one_invoice()).tap(|new| new.redelegate = 1);
    let d2 = world.create(&d2).delegation;
    let d3 = world.create(&under(&d2, "agent:two", "agent:three", one_invoice())).delegation;
    world.create(&new("user:dana", "agent:one", one_invoice()));
    let d3 =
        world.client.narrow_delegation(&d3.id, &one_invoice(), Some(at(100)), &Saying::default()).unwrap().delegation;
    let d2 = world
        .client
        .revoke_delegation(&d2.id, &Saying { reason: "leaked".to_owned(), ..Saying::default() })
        .unwrap()
        .delegation;
    let records = |world: &World| -> Vec<Delegation> {
        world.list(&DelegationsOf::default()).iter().map(|seen| (*seen.delegation).clone()).collect()
    };
    let exported = records(&world);
    assert_eq!(exported[..3], [d1.clone(), d2.clone(), d3.clone()]);

    let other = World::new();
    let elsewhere = other.create(&new("user:dana", "agent:two", one_invoice())).delegation;
    let import = |records: &[Delegation]| other.client.import_delegations(records, &Metadata::new());
    let done = import(&exported[..2]).expect("imported");
    assert_eq!((done.created, done.unchanged), (2, 0));
    let done = import(&exported).expect("imported");
    assert_eq!((done.created, done.unchanged), (2, 2));
    let found = records(&other);
    assert_eq!(found.iter().map(|record| record.number).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    let renumbered: Vec<Delegation> =
        exported.iter().map(|record| Delegation { number: record.number + 1, ..record.clone() }).collect();
    assert_eq!(found[1..], renumbered);
    let read = other.client.get_delegation(&d3.id, &At::Newest, Some(at(0))).expect("a delegation");
    assert_eq!(read.chain[1].state, DelegationState::Revoked);
    // Nothing more is made under what was revoked there.
    let child = under(&d2, "agent:two", "agent:four", one_invoice());
    other.refuses_to_create(&child, (STATE, "PARENT_NOT_LIVE", "parent"));
    let revision = other.engine.info().unwrap().revision;
    assert_eq!(import(&exported).expect("imported").unchanged, 4);
    assert_eq!(other.engine.info().unwrap().revision, revision);

    // What is refused is refused whole: a good record before a bad one is not taken.
    let fresh = Delegation { id: DelegationId([9; 16]), ..elsewhere.clone() };
    let bad = |record: Delegation, due| {
        other.refuses(|client| client.import_delegations(&[fresh.clone(), record], &Metadata::new()), due);
    };
    let exists = |field| ("ALREADY_EXISTS", "DELEGATION_EXISTS", field);
    bad(Delegation { revoked: None, ..d2.clone() }, exists("delegations[1].id"));
    bad(Delegation { delegate: subject("agent:other"), ..elsewhere.clone() }, exists("delegations[1].id"));
    bad(fresh.clone(), (ARGUMENT, "INVALID_ARGUMENT", "delegations[1].id"));
    let id = DelegationId([8; 16]);
    let orphan = Delegation { id, parent: Some(DelegationId([7; 16])), ..d2.clone() };
    bad(orphan, ("NOT_FOUND", "DELEGATION_NOT_FOUND", "delegations[1].parent"));
    let broken = (ARGUMENT, "CHAIN_BROKEN", "delegations[1]");
    bad(Delegation { id, root: object("user:dana"), ..d2.clone() }, broken);
    bad(Delegation { id, depth: 1, ..d2.clone() }, broken);
    bad(Delegation { id, parent: None, ..d2.clone() }, broken);
    bad(Delegation { id, redelegate: 2, ..d2.clone() }, (STATE, "NO_BUDGET", "delegations[1].redelegate"));
    bad(Delegation { id, delegate: subject("user:rita"), ..d2.clone() }, (STATE, "CYCLE", "delegations[1].delegate"));
    bad(Delegation { id, clauses: Vec::new(), ..d2.clone() }, (ARGUMENT, "EMPTY_SCOPE", "delegations[1].clauses"));
    let never = Delegation { id, not_before: d2.expires_at, ..d2.clone() };
    bad(never, (ARGUMENT, "BAD_INTERVAL", "delegations[1].expires_at"));
    let late = Delegation { id, expires_at: at(901), ..d2.clone() };
    bad(late, (ARGUMENT, "BAD_INTERVAL", "delegations[1].expires_at"));
    let mut wide = Delegation { id, ..d2.clone() };
    let more = ("invoice".parse().unwrap(), "refund".parse().unwrap());
    wide.clauses[0].items[0].frozen.insert(more);
    bad(wide, (STATE, "WIDENS", "delegations[1].clauses[0].items[0].frozen"));
    let changed = Delegation { id, version: u32::MAX, ..d2.clone() };
    bad(changed, (ARGUMENT, "INVALID_ARGUMENT", "delegations[1].version"));
    let everybody = Delegation { id, delegate: subject("agent:*"), ..d2.clone() };
    bad(everybody, (ARGUMENT, "INVALID_ARGUMENT", "delegations[1].delegate"));
    let long = Delegation { id, purpose: "x".repeat(4 << 10 | 1), ..d2 };
    bad(long, ("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED", "delegations[1].purpose"));
    other.refuses(
        |client| client.import_delegations(&[], &Metadata::new()),
        (ARGUMENT, "INVALID_ARGUMENT", "delegations"),
    );
    assert_eq!(import(&[fresh]).expect("imported").created, 1);
    let scratch = tempfile::tempdir().unwrap();
    other.engine.verify(scratch.path()).expect("the log folds to the state");
    // Where no clock may be set, none was made later than now.
    let timed = World::with(|options| options.test_clock = false);
    let error = timed.client.import_delegations(&exported, &Metadata::new()).expect_err("refused");
    assert_eq!((error.reason.as_str(), error.fact("field")), ("BAD_INTERVAL", Some("delegations[0].created_at")));
}

// ---- the command line ----

fn asked(server: &crate::cli::Server, arguments: &[&str]) -> (i32, String, String) {
    let output = server.ask(arguments.iter().copied());
    (crate::cli::code(&output), crate::cli::stdout(&output), crate::cli::stderr(&output))
}

#[test]
fn a_person_delegates_narrows_and_revokes() {
    let server = crate::cli::Server::start();
    let folder = tempfile::tempdir().expect("a folder");
    let schema = folder.path().join("schema.zed");
    std::fs::write(&schema, SCHEMA).expect("written");
    assert_eq!(asked(&server, &["schema", "write", schema.to_str().unwrap()]).0, 0);
    assert_eq!(asked(&server, &[&["tuple", "write"][..], &TUPLES].concat()).0, 0);
    let create = ["delegation", "create", "--from", "user:rita", "--to", "agent:one"];
    let scope = ["--permission", "read,refund", "--within", "invoice:9", "--within", "invoice:8", "--for", "15m"];
    let told = [&create[..], &scope, &["--redelegate", "1", "--purpose", "ticket 7"]].concat();
    let (code, text, warned) = asked(&server, &told);
    assert_eq!(code, 0, "{warned}");
    let id = text.lines().next().and_then(|line| line.strip_prefix("created ")).expect("an id").to_owned();
    assert!(text.contains("  user:rita => agent:one\n  may read, refund within invoice:8, invoice:9\n"), "{text}");
    assert!(text.contains("purpose: ticket 7"), "{text}");
    assert!(warned.contains("warning: items[0]:") && warned.contains("[MORE_THAN_DELEGATOR_HAS]"), "{warned}");
    let (code, text, refused) = asked(&server, &[&told[..], &["--strict"]].concat());
    assert_eq!((code, text.as_str()), (4, ""));
    assert!(refused.contains("OVER_BROAD"), "{refused}");
    // What stands on the line alone is refused before anything is sent.
    for wrong in [
        &["--permission", "read", "--for", "15m"][..],
        &["--within", "invoice:9", "--for", "15m"],
        &["--permission", "read", "--within", "invoice:9"],
        &["--permission", "read", "--within", "invoice:9", "--for", "15"],
        &["--permission", "read", "--within", "invoice:9", "--for", "15m", "--until", "2030-01-01T00:00:00Z"],
        &["--permission", "read", "--all", "--within", "invoice:9", "--for", "15m"],
        &["--permission", "read", "--within", "invoice:9", "--for", "15m", "--parent", "dlg_7"],
        &["--item", "{}", "--for", "15m"],
    ] {
        let (code, _, said) = asked(&server, &[&create[..], wrong].concat());
        assert_eq!(code, 2, "{wrong:?}: {said}");
    }
    // Two items from a file, as JSON, under the first.
    let items = folder.path().join("items");
    let lines = "{\"permissions\": [\"read\"], \"within\": [\"invoice:9\"]}\n\n\
                 {\"permissions\": \"all\", \"within\": [\"ticket:1\"], \"caveat\": {\"name\": \"in_office\"}}\n";
    std::fs::write(&items, lines).expect("written");
    let child = [
        &["--json", "delegation", "create", "--from", "agent:one", "--to", "agent:two", "--parent", &id][..],
        &["--file", items.to_str().unwrap(), "--for", "20m", "--idempotency-key", "k", "--metadata", "ticket=7"],
    ]
    .concat();
    let made = crate::cli::json_lines(&asked(&server, &child).1).remove(0);
    assert_eq!(made["delegation"]["parent"], id.as_str());
    assert_eq!(made["delegation"]["metadata"]["ticket"], "7");
    assert_eq!(made["delegation"]["clauses"][0]["items"].as_array().unwrap().len(), 2);
    let kinds: Vec<&str> =
        made["warnings"].as_array().unwrap().iter().map(|one| one["kind"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"WIDER_THAN_PARENT") && kinds.contains(&"EXPIRY_CLAMPED"), "{kinds:?}");
    let child_id = made["delegation"]["id"].as_str().unwrap().to_owned();
    let again = crate::cli::json_lines(&asked(&server, &child).1).remove(0);
    assert_eq!(again["delegation"]["id"], child_id.as_str());

    let (code, text, _) =
        asked(&server, &["delegation", "narrow", &child_id, "--permission", "read", "--within", "invoice:9"]);
    assert_eq!(code, 0);
    assert!(text.contains("  and only read within invoice:9\n"), "{text}");
    assert_eq!(asked(&server, &["delegation", "narrow", &child_id]).0, 2);
    let (code, text, _) = asked(&server, &["delegation", "revoke", &id, "--reason", "done"]);
    assert_eq!(code, 0);
    assert!(text.lines().any(|line| line.starts_with("  revoked at ") && line.ends_with(": done")), "{text}");
    let (code, text, _) = asked(&server, &["delegation", "show", &child_id]);
    assert_eq!(code, 0);
    assert!(text.starts_with(&format!("1 of 2  {id}  REVOKED\n")), "{text}");
    assert!(text.contains(&format!("2 of 2  {child_id}  LIVE\n")), "{text}");
    assert!(text.contains("it denies now, because of 1 of 2\n"), "{text}");
    let shown = crate::cli::json_lines(&asked(&server, &["--json", "delegation", "show", &child_id]).1).remove(0);
    assert_eq!((shown["chain"].as_array().unwrap().len(), &shown["chain"][0]["state"]), (2, &"REVOKED".into()));
    let (code, _, said) = asked(&server, &["delegation", "show", "dlg_07070707070707070707070707070707"]);
    assert!(code == 4 && said.contains("DELEGATION_NOT_FOUND"), "{said}");

    let (_, text, _) = asked(&server, &["delegation", "list"]);
    assert_eq!(text.lines().count(), 2);
    assert!(text.lines().nth(1).unwrap().contains("or all within ticket:1 if in_office, narrowed 1×"), "{text}");
    let (_, text, note) = asked(&server, &["delegation", "list", "--limit", "1"]);
    let cursor = note.split_whitespace().last().unwrap().to_owned();
    assert!(text.starts_with(&id) && text.lines().count() == 1, "{text}");
    let (_, text, note) = asked(&server, &["delegation", "list", "--limit", "1", "--cursor", &cursor]);
    assert!(text.starts_with(&child_id) && note.is_empty(), "{text}{note}");
    let rows = crate::cli::json_lines(
        &asked(&server, &["--json", "delegation", "list", "--state", "live", "--delegator", "agent:one"]).1,
    );
    assert_eq!((rows.len(), rows[0]["state"].as_str()), (1, Some("LIVE")));
    let (code, text, _) = asked(&server, &["delegation", "revoke-all", "agent:two"]);
    assert!(code == 0 && text.starts_with("revoked 1 delegation of agent:two\n"), "{text}");

    let (_, exported, _) = asked(&server, &["delegation", "export"]);
    assert_eq!(exported.lines().count(), 2);
    let other = crate::cli::Server::start();
    assert_eq!(asked(&other, &["schema", "write", schema.to_str().unwrap()]).0, 0);
    let imported = other.ask_with_stdin(&["delegation", "import", "-"], &exported);
    assert!(crate::cli::stdout(&imported).starts_with("imported 2, 0 were there already\n"), "{imported:?}");
    assert_eq!(asked(&other, &["delegation", "export"]).1, exported);
    let changed = exported.replace("ticket 7", "ticket 8");
    let refused = other.ask_with_stdin(&["delegation", "import", "-"], &changed);
    assert_eq!(crate::cli::code(&refused), 4);
    let said = crate::cli::stderr(&refused);
    assert!(said.contains("DELEGATION_EXISTS") && said.contains("line: 1"), "{said}");
    assert_eq!(crate::cli::code(&other.ask_with_stdin(&["delegation", "import", "-"], "{}\n")), 2);
    // Who is suspended there is suspended here, before anything else is taken.
    assert_eq!(asked(&server, &["principal", "suspend", "agent:three", "--reason", "stolen"]).0, 0);
    let (_, exported, said) = asked(&server, &["delegation", "export"]);
    assert!(exported.starts_with("{\"suspended\":") && exported.lines().count() == 3 && said.is_empty(), "{exported}");
    let third = crate::cli::Server::start();
    assert_eq!(asked(&third, &["schema", "write", schema.to_str().unwrap()]).0, 0);
    let turned: Vec<&str> = exported.lines().rev().collect();
    let refused = third.ask_with_stdin(&["delegation", "import", "-"], &turned.join("\n"));
    assert_eq!(crate::cli::code(&refused), 4, "{refused:?}");
    assert!(asked(&third, &["principal", "list"]).1.ends_with(": stolen\n"));
    let imported = third.ask_with_stdin(&["delegation", "import", "-"], &exported);
    let told = crate::cli::stdout(&imported);
    assert!(told.starts_with("imported 2, 0 were there already\nsuspended 0 of 1\n"), "{imported:?}");
    assert_eq!(asked(&third, &["delegation", "export"]).1.lines().count(), 3);
    let wrong = third.ask_with_stdin(&["delegation", "import", "-"], "{\"suspended\": \"agent:three\"}\n");
    assert!(crate::cli::code(&wrong) == 2 && crate::cli::stderr(&wrong).contains("no suspension"), "{wrong:?}");
    assert_eq!(asked(&server, &["principal", "reinstate", "agent:three"]).0, 0);

    let (code, text, _) = asked(&server, &["principal", "suspend", "agent:one", "--reason", "leaked key"]);
    assert!(code == 0 && text.starts_with("agent:one suspended\n"), "{text}");
    assert!(asked(&server, &["principal", "suspend", "agent:one"]).1.starts_with("agent:one was suspended already\n"));
    assert!(asked(&server, &["principal", "list"]).1.ends_with(": leaked key\n"));
    assert_eq!(asked(&server, &["principal", "suspend", "agent:*"]).0, 2);
    assert!(asked(&server, &["principal", "reinstate", "agent:one"]).1.starts_with("agent:one reinstated\n"));
    assert_eq!(asked(&server, &["principal", "list"]), (0, String::new(), String::new()));
    let watch = ["tuple", "watch", "--from-start", "--kind", "delegations", "--kind", "suspensions", "--limit", "9"];
    let (code, text, said) = asked(&server, &watch);
    assert_eq!(code, 0, "{said}");
    let words: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("through"))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let due = ["created", "created", "narrowed", "revoked", "revoked", "suspend", "reinstate", "suspend", "reinstate"];
    assert_eq!(words, due);
}
