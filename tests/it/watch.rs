//! Watch, over real sockets and in process: nothing lost, repeated or reordered, whatever happens in between.
//!
//! What always holds: a reader that keeps what came before a `through`, drops what came after the last one, and goes on
//! after it, has the state; it is woken by a publication and not by a timer.

use crate::engines::{refused, schema_request, tuple, update, write_request};
use crate::worlds::{Rng, seed};
use procura::api::client::{Client, ClientError, WatchOptions, WatchStart, Watched};
use procura::api::{Running, ServeOptions, serve_in_background};
use procura::engine::{
    DeleteTuples, Engine, Kind, Metadata, Options, Watch, WatchChange, WatchFrom, WatchPart, WatchWrite, Watcher,
};
use procura::model::{ConsistencyToken, Limits, Revision, TupleFilter, TupleUpdate, UpdateKind};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use tonic::transport::Endpoint;
use tonic_types::StatusExt;
use wire::watch_service_client::WatchServiceClient;

/// The messages as generated for anybody.
#[allow(clippy::all, clippy::pedantic, dead_code, reason = "generated")]
mod wire {
    tonic::include_proto!("procura.v1");
}

pub const SCHEMA: &str = "definition user {}

definition group {
  relation member: user | group#member
}

definition doc {
  relation owner: user
  relation viewer: user | user:* | group#member
  permission view = viewer + owner
}
";

/// An engine behind a server, and both ways to talk to it. Fields drop in this order.
pub struct Live {
    pub client: Client,
    pub running: Running,
    pub engine: Arc<Engine>,
}

impl Live {
    pub fn open(folder: &Path, limits: Limits) -> Live {
        let engine = Engine::open(Options { limits: limits.clone(), ..Options::at(folder) }).unwrap();
        let engine = Arc::new(engine);
        let options = ServeOptions { listen: "127.0.0.1:0".parse().unwrap(), limits };
        let running = serve_in_background(engine.clone(), options).unwrap();
        let client = Client::connect(&running.address().to_string()).unwrap();
        Live { client, running, engine }
    }

    pub fn with_schema(folder: &Path, limits: Limits) -> Live {
        let live = Live::open(folder, limits);
        live.engine.write_schema(schema_request(SCHEMA)).unwrap();
        live
    }

    pub fn touch(&self, texts: &[&str]) -> Revision {
        let updates = texts.iter().map(|text| update(UpdateKind::Touch, text)).collect();
        self.engine.write_tuples(write_request(updates)).unwrap()
    }

    /// Everything stored.
    pub fn everything(&self) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        self.client
            .export_tuples(&TupleFilter::default(), &Default::default(), None, &mut |_, tuples, _| {
                for tuple in tuples {
                    assert!(all.insert(tuple.to_string()), "exported twice: {tuple}");
                }
                true
            })
            .unwrap();
        all
    }

    pub fn another_client(&self) -> Client {
        Client::connect(&self.running.address().to_string()).unwrap()
    }
}

fn revision(token: &str) -> Revision {
    token.parse::<ConsistencyToken>().unwrap().revision
}

fn told(write: &WatchWrite) -> Vec<String> {
    let change = |change: &WatchChange| match change {
        WatchChange::Tuple(TupleUpdate { kind, tuple }) => format!("{kind:?} {tuple}"),
        WatchChange::Schema { text, .. } => format!("Schema of {} bytes", text.len()),
        other @ (WatchChange::Delegation { .. } | WatchChange::Suspended(_) | WatchChange::Reinstated { .. }) => {
            format!("{other:?}")
        }
    };
    write.changes.iter().map(change).collect()
}

/// What a reader knows: whole revisions only.
#[derive(Default)]
struct Reader {
    through: Option<String>,
    /// Of a revision that is not whole yet.
    open: Vec<WatchWrite>,
    /// By revision, in the order told.
    revisions: Vec<(Revision, Vec<WatchWrite>)>,
    /// Checkpoints in a row that say nothing new.
    beats: usize,
}

impl Reader {
    fn take(&mut self, watched: Watched) {
        let is_empty = watched.writes.is_empty();
        assert!(!is_empty || watched.through.is_some(), "a message that says nothing");
        for write in watched.writes {
            match self.open.last_mut() {
                Some(last) if write.continues => last.changes.extend(write.changes),
                Some(_) | None => {
                    assert!(!write.continues, "it goes on with nothing");
                    self.open.push(write);
                }
            }
        }
        let Some(token) = watched.through else { return };
        let at = revision(&token);
        let before = self.through.as_deref().map(revision);
        if self.open.is_empty() {
            // A heartbeat each 10 s: what is waited for will not come any more.
            self.beats = if before == Some(at) { self.beats + 1 } else { 0 };
            assert!(self.beats < 6, "nothing more comes after {at:?}");
            assert!(before.is_none_or(|before| before <= at), "a checkpoint goes back from {before:?} to {at:?}");
        } else {
            assert!(before.is_none_or(|before| before < at), "{at:?} after {before:?}");
            self.revisions.push((at, std::mem::take(&mut self.open)));
        }
        self.through = Some(token);
    }

    /// Watches until `enough`, or until the watch ends; goes on where it stood.
    fn watch(&mut self, client: &Client, enough: impl Fn(&Reader) -> bool) -> Result<(), ClientError> {
        self.open.clear();
        let from = self.through.clone().map_or(WatchStart::Start, WatchStart::After);
        let options = WatchOptions { from, ..WatchOptions::default() };
        client.watch(&options, &mut |watched| {
            self.take(watched);
            !enough(self)
        })
    }

    fn state(&self) -> BTreeSet<String> {
        let mut state = BTreeSet::new();
        for change in self.revisions.iter().flat_map(|(_, writes)| writes).flat_map(|write| &write.changes) {
            if let WatchChange::Tuple(TupleUpdate { kind, tuple }) = change {
                let changed = match kind {
                    UpdateKind::Create => state.insert(tuple.to_string()),
                    UpdateKind::Touch => !state.insert(tuple.to_string()),
                    UpdateKind::Delete => state.remove(&tuple.to_string()),
                };
                assert!(changed, "{kind:?} {tuple} does not follow from what was told before");
            }
        }
        state
    }
}

/// What one writer did: by the id in its metadata, the revision and what a Watch must tell of it.
type Deeds = BTreeMap<String, (Revision, Vec<String>)>;

/// Writes over and over to a few tuples of its own, and notes what each write comes to.
fn write_much(client: &Client, writer: usize, phase: usize, rng: &mut Rng, there: &mut BTreeSet<String>) -> Deeds {
    let mut deeds = Deeds::new();
    for n in 0..60 {
        let id = format!("{phase}-{writer}-{n}");
        let mut keys = BTreeSet::new();
        for _ in 0..rng.between(1, 9) {
            keys.insert(format!("doc:w{writer}-{}#viewer@user:u{}", rng.below(4), rng.below(6)));
        }
        let mut due = Vec::new();
        let mut updates = Vec::new();
        for text in keys {
            let kind = if rng.chance(60) { UpdateKind::Touch } else { UpdateKind::Delete };
            updates.push(update(kind, &text));
            match (kind, there.contains(&text)) {
                (UpdateKind::Delete, true) => {
                    there.remove(&text);
                    due.push(format!("Delete {text}"));
                }
                (UpdateKind::Delete, false) => {}
                (UpdateKind::Create | UpdateKind::Touch, true) => due.push(format!("Touch {text}")),
                (UpdateKind::Create | UpdateKind::Touch, false) => {
                    due.push(format!("Create {text}"));
                    there.insert(text);
                }
            }
        }
        let metadata = [("id".to_owned(), id.clone().into())].into_iter().collect();
        let written = client.write_tuples(&updates, &[], &metadata).unwrap();
        deeds.insert(id, (revision(&written.token), due));
    }
    deeds
}

/// Writers at work, readers resuming, the server restarted under them: every write is told once, whole, at its revision
/// and in order; and what was told is the state.
#[test]
fn folding_a_watch_gives_the_state_under_writers_and_restarts() {
    const WRITERS: usize = 4;
    const PHASES: usize = 4;
    let seed = seed("folding_a_watch_gives_the_state_under_writers_and_restarts");
    let folder = tempfile::tempdir().unwrap();
    let mut rngs: Vec<Rng> = (0..WRITERS as u64).map(|writer| Rng::part(seed, writer)).collect();
    let mut there = vec![BTreeSet::new(); WRITERS];
    let mut reader = Reader::default();
    let mut deeds = Deeds::new();
    let mut ends = Vec::new();
    for phase in 0..PHASES {
        let live = Live::open(folder.path(), Limits::default());
        if phase == 0 {
            live.engine.write_schema(schema_request(SCHEMA)).unwrap();
        }
        let watching = live.another_client();
        std::thread::scope(|scope| {
            let reading = scope.spawn(|| {
                // Until the server goes.
                reader.watch(&watching, |_| false).unwrap_err()
            });
            let writing: Vec<_> = rngs
                .iter_mut()
                .zip(there.iter_mut())
                .enumerate()
                .map(|(writer, (rng, there))| {
                    let client = live.another_client();
                    scope.spawn(move || write_much(&client, writer, phase, rng, there))
                })
                .collect();
            for writer in writing {
                deeds.extend(writer.join().unwrap());
            }
            // The reader may be anywhere.
            drop(live);
            ends.push(reading.join().unwrap());
        });
        let end = ends.last().unwrap();
        assert_eq!((end.code, end.reason.as_str()), ("UNAVAILABLE", "DRAINING"), "{end:?}");
        assert!(end.fact("token").is_some_and(|token| Some(token) == reader.through.as_deref()), "{end:?}");
    }
    let live = Live::open(folder.path(), Limits::default());
    let newest = live.engine.info().unwrap().revision;
    reader
        .watch(&live.client, |reader| reader.through.as_deref().is_some_and(|token| revision(token) == newest))
        .unwrap();

    assert_eq!(reader.state(), live.everything(), "seed {seed}");
    let mut told_ids = BTreeSet::new();
    for (at, write) in reader.revisions.iter().flat_map(|(at, writes)| writes.iter().map(move |write| (*at, write))) {
        let Some(id) = write.metadata.get("id").and_then(|id| id.as_str()) else { continue };
        assert!(told_ids.insert(id.to_owned()), "seed {seed}: {id} was told twice");
        let (due_at, due) = &deeds[id];
        assert_eq!((at, told(write)), (*due_at, due.clone()), "seed {seed}: {id}");
    }
    let due_ids: BTreeSet<String> =
        deeds.iter().filter(|(_, (_, due))| !due.is_empty()).map(|(id, _)| id.clone()).collect();
    assert_eq!(told_ids, due_ids, "seed {seed}");
    assert!(matches!(&reader.revisions[0].1[0].changes[0], WatchChange::Schema { text, .. } if text == SCHEMA));
    println!("{} revisions, {} writes told once each over {PHASES} restarts", reader.revisions.len(), due_ids.len());
}

fn everything_of(watcher: &mut Watcher) -> Vec<WatchPart> {
    let mut parts = Vec::new();
    loop {
        let page = watcher.next_page().unwrap();
        parts.extend(page.parts);
        if page.caught_up {
            return parts;
        }
    }
}

fn from_start(object_types: &[&str], relations: &[&str]) -> Watch {
    Watch {
        from: WatchFrom::Start,
        object_types: object_types.iter().map(|name| name.parse().unwrap()).collect(),
        relations: relations.iter().map(|name| name.parse().unwrap()).collect(),
        kinds: Vec::new(),
    }
}

fn changes(parts: &[WatchPart]) -> Vec<String> {
    parts.iter().flat_map(|part| &part.writes).flat_map(told).collect()
}

#[test]
fn filters_hold_back_tuples_and_never_schemas() {
    let folder = tempfile::tempdir().unwrap();
    let live = Live::with_schema(folder.path(), Limits::default());
    live.touch(&["doc:1#viewer@user:rita", "group:eng#member@user:dana", "doc:1#owner@user:rita"]);
    let second = format!("// again\n{SCHEMA}");
    live.engine.write_schema(schema_request(&second)).unwrap();
    let last = live.touch(&["group:ops#member@user:dana"]);
    let schemas = [format!("Schema of {} bytes", SCHEMA.len()), format!("Schema of {} bytes", second.len())];
    let [first, second] = &schemas;
    let (viewer, member) = ("Create doc:1#viewer@user:rita", "Create group:eng#member@user:dana");
    let (owner, ops) = ("Create doc:1#owner@user:rita", "Create group:ops#member@user:dana");
    for (types, relations, due) in [
        (&[][..], &[][..], vec![first.as_str(), viewer, member, owner, second, ops]),
        (&["doc"], &[], vec![first, viewer, owner, second]),
        (&[], &["viewer", "member"], vec![first, viewer, member, second, ops]),
        (&["doc", "group"], &["owner"], vec![first, owner, second]),
        (&["user"], &[], vec![first, second]),
    ] {
        let mut watcher = live.engine.watch(from_start(types, relations)).unwrap();
        let parts = everything_of(&mut watcher);
        assert_eq!(changes(&parts), due, "{types:?} {relations:?}");
        // The token moves on though nothing matched.
        assert_eq!(parts.last().unwrap().through, Some(last));
        assert_eq!(watcher.told(), last);
    }
    assert_eq!(
        refused(live.engine.watch(from_start(&["dok"], &[])).map(drop), &[Kind::FailedPrecondition]).reason,
        "UNKNOWN_TYPE"
    );
    for (types, relation) in [(&["doc"][..], "member"), (&[], "viewr")] {
        let error = refused(live.engine.watch(from_start(types, &[relation])).map(drop), &[Kind::FailedPrecondition]);
        assert_eq!(error.reason, "UNKNOWN_RELATION");
    }
}

/// One revision of 3,500 removals: its parts come one after the other, only the last with a token; and a write next to
/// it in the same revision is told apart.
#[test]
fn a_great_revision_comes_in_parts_that_nothing_splits() {
    let folder = tempfile::tempdir().unwrap();
    let live = Live::with_schema(folder.path(), Limits::default());
    let tuples: Vec<String> = (0..3_500).map(|n| format!("doc:n{n}#viewer@user:rita")).collect();
    let before = live.touch(&tuples.iter().map(String::as_str).collect::<Vec<_>>());
    let metadata: Metadata = [("why".to_owned(), "spring".into())].into_iter().collect();
    let filter = TupleFilter { object_type: Some("doc".parse().unwrap()), ..TupleFilter::default() };
    let deleted = live
        .engine
        .delete_tuples(DeleteTuples { filter, metadata: metadata.clone(), ..DeleteTuples::default() })
        .unwrap();
    assert_eq!(deleted.count, 3_500);

    let mut messages = Vec::new();
    let options = WatchOptions { from: WatchStart::After(live.engine.token(before).to_string()), ..Default::default() };
    live.client
        .watch(&options, &mut |watched| {
            messages.push(watched);
            messages.iter().filter(|message| message.through.is_some()).count() < 2
        })
        .unwrap();
    let start = messages.remove(0);
    assert!(start.writes.is_empty());
    assert_eq!(revision(start.through.as_deref().unwrap()), before);
    let (last, parts) = messages.split_last().unwrap();
    assert!(parts.len() >= 3 && parts.iter().all(|part| part.through.is_none() && !part.writes.is_empty()));
    assert_eq!(revision(last.through.as_deref().unwrap()), deleted.revision);
    let writes: Vec<&WatchWrite> = messages.iter().flat_map(|message| &message.writes).collect();
    assert_eq!(writes.iter().map(|write| write.continues).collect::<Vec<_>>()[..2], [false, true]);
    assert!(writes.iter().all(|write| write.metadata == metadata));
    let mut gone: Vec<String> = writes.iter().flat_map(|write| told(write)).collect();
    gone.sort();
    let mut due: Vec<String> = tuples.iter().map(|text| format!("Delete {text}")).collect();
    due.sort();
    assert_eq!(gone, due);

    // Left in the middle, it comes again as a whole.
    let mut watcher =
        live.engine.watch(Watch { from: WatchFrom::After(live.engine.token(before)), ..Watch::default() }).unwrap();
    assert_eq!(changes(&everything_of(&mut watcher)).len(), 3_500);
}

/// More entries than one page holds, few of which match.
#[test]
fn pages_end_anywhere_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let live = Live::with_schema(folder.path(), Limits { updates_max: 60_000, ..Limits::default() });
    let mut due = BTreeSet::new();
    let updates = (0..45_000).map(|n| {
        let text = if n % 9_000 == 0 { format!("group:n{n}#member@user:u") } else { format!("doc:n{n}#viewer@user:u") };
        if n % 9_000 == 0 {
            due.insert(format!("Create {text}"));
        }
        update(UpdateKind::Touch, &text)
    });
    let revision = live.engine.write_tuples(write_request(updates.collect())).unwrap();
    for (types, count) in [(&["group"][..], 5), (&[], 45_000)] {
        let mut watcher = live.engine.watch(from_start(types, &[])).unwrap();
        let (mut pages, mut parts) = (0, Vec::new());
        loop {
            let page = watcher.next_page().unwrap();
            pages += 1;
            parts.extend(page.parts);
            if page.caught_up {
                break;
            }
        }
        assert!(pages > 2, "{pages}");
        let told = changes(&parts);
        assert_eq!(told.len(), count + 1, "with the schema");
        assert_eq!(told.iter().filter(|text| due.contains(*text)).count(), 5);
        assert_eq!(told.iter().collect::<BTreeSet<_>>().len(), count + 1);
        // One token for the schema, one for the write: none in between.
        let tokens: Vec<Revision> = parts.iter().filter_map(|part| part.through).collect();
        assert_eq!(tokens.last(), Some(&revision));
        assert_eq!(tokens.len(), 2, "{tokens:?}");
    }
}

/// In process one waits as one likes: here on a condition, which the listener signals.
#[test]
fn an_embedded_watch_is_woken_by_the_publication() {
    let folder = tempfile::tempdir().unwrap();
    let live = Live::with_schema(folder.path(), Limits::default());
    let heard = Arc::new((Mutex::new((Revision(0), Revision(0))), Condvar::new()));
    let (hear, engine) = (heard.clone(), live.engine.clone());
    let listening = live.engine.listen(Arc::new(move |revision| {
        // Who is woken finds it published: it would else go to sleep again, and miss it.
        let published = engine.read_schema(procura::model::Consistency::Newest).unwrap().revision;
        *hear.0.lock().unwrap() = (revision, published);
        hear.1.notify_all();
    }));
    let mut watcher = live.engine.watch(Watch::default()).unwrap();
    assert!(watcher.next_page().unwrap().parts.is_empty());
    std::thread::scope(|scope| {
        scope.spawn(|| live.touch(&["doc:1#viewer@user:rita"]));
        let mut newest = heard.0.lock().unwrap();
        while newest.0 == Revision(0) {
            newest = heard.1.wait(newest).unwrap();
        }
        let (revision, published) = *newest;
        assert_eq!(revision, published);
        let page = watcher.next_page().unwrap();
        assert_eq!(page.parts[0].through, Some(revision));
    });
    drop(listening);
    let before = *heard.0.lock().unwrap();
    live.touch(&["doc:2#viewer@user:rita"]);
    assert_eq!(*heard.0.lock().unwrap(), before);
}

#[test]
fn a_watch_hears_at_once_and_says_so_when_there_is_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let live = Live::with_schema(folder.path(), Limits::default());
    let watching = live.another_client();
    // So long a heartbeat that only the publication can have woken it.
    let options =
        WatchOptions { object_types: vec!["doc".parse().unwrap()], heartbeat_s: Some(300), ..WatchOptions::default() };
    let started = Instant::now();
    let mut messages: Vec<Watched> = Vec::new();
    watching
        .watch(&options, &mut |watched| {
            match messages.len() {
                // The start; then a write that does not match, and one that does.
                0 => drop(live.touch(&["group:eng#member@user:rita"])),
                1 => drop(live.touch(&["doc:1#viewer@user:rita"])),
                _ => {}
            }
            messages.push(watched);
            messages.len() < 3
        })
        .unwrap();
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    let revisions: Vec<u64> = messages.iter().map(|message| revision(message.through.as_deref().unwrap()).0).collect();
    assert_eq!(revisions, [1, 2, 3]);
    assert!(messages[0].writes.is_empty() && messages[1].writes.is_empty());
    assert_eq!(told(&messages[2].writes[0]), ["Create doc:1#viewer@user:rita"]);

    // A heartbeat when nothing happens, with the same token.
    let options = WatchOptions { heartbeat_s: Some(1), ..WatchOptions::default() };
    let mut beats = Vec::new();
    watching
        .watch(&options, &mut |watched| {
            beats.push(watched);
            beats.len() < 3
        })
        .unwrap();
    assert!(beats.iter().all(|beat| beat.writes.is_empty() && beat.through == beats[0].through));
}

#[test]
fn a_watch_from_nowhere_is_refused() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let live = Live::with_schema(folder.path(), Limits::default());
    let foreign = Live::with_schema(other.path(), Limits::default());
    let newest = live.engine.info().unwrap().revision;
    let ahead = live.engine.token(Revision(newest.0 + 1)).to_string();
    let refused =
        |options: WatchOptions| live.client.watch(&options, &mut |_| panic!("it told something")).unwrap_err();
    for (token, code, reason) in [
        ("nonsense".to_owned(), "INVALID_ARGUMENT", "INVALID_ARGUMENT"),
        (foreign.engine.token(newest).to_string(), "INVALID_ARGUMENT", "TOKEN_FOREIGN"),
        (ahead, "OUT_OF_RANGE", "TOKEN_AHEAD"),
    ] {
        let error = refused(WatchOptions { from: WatchStart::After(token), ..WatchOptions::default() });
        assert_eq!((error.code, error.reason.as_str()), (code, reason), "{error:?}");
        assert!(error.fact("field").is_some_and(|field| field.starts_with("after")), "{error:?}");
    }
    for seconds in [0, 301] {
        let error = refused(WatchOptions { heartbeat_s: Some(seconds), ..WatchOptions::default() });
        assert_eq!((error.code, error.fact("field")), ("INVALID_ARGUMENT", Some("heartbeat_s")));
    }
    let many = vec!["viewer".parse().unwrap(); 101];
    let error = refused(WatchOptions { relations: many, ..WatchOptions::default() });
    assert_eq!((error.code, error.fact("field")), ("RESOURCE_EXHAUSTED", Some("relations")));
}

/// A client that opens a Watch and reads nothing of it until `written` is done.
fn read_late(live: &Live, written: impl FnOnce()) -> (Vec<wire::WatchResponse>, tonic::Status) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let endpoint = Endpoint::from_shared(format!("http://{}", live.running.address())).unwrap();
        let channel = endpoint.http2_max_header_list_size(64 << 10).connect().await.unwrap();
        let mut service = WatchServiceClient::new(channel);
        let mut stream = service.watch(wire::WatchRequest::default()).await.unwrap().into_inner();
        let mut messages = vec![stream.message().await.unwrap().unwrap()];
        tokio::task::block_in_place(written);
        let end = loop {
            match stream.message().await {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => panic!("a watch that ended well"),
                Err(status) => break status,
            }
        };
        (messages, end)
    })
}

fn write_heavily(live: &Live, revisions: usize) {
    let long = "x".repeat(900);
    for n in 0..revisions {
        let tuples: Vec<String> = (0..200).map(|m| format!("doc:{n}-{m}-{long}#viewer@user:{long}")).collect();
        live.touch(&tuples.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

/// 200 tuples of 2 KB a revision fill every queue and window on the way soon; then there is back-pressure, then an end.
#[test]
fn a_reader_that_takes_nothing_is_held_back_then_ended_with_its_token() {
    let stalling = Limits { watch_stall_max_ms: 200, ..Limits::default() };
    let lagging = Limits { watch_lag_max: 5, ..Limits::default() };
    for (limits, says) in [(stalling, "took nothing"), (lagging, "revisions behind")] {
        let folder = tempfile::tempdir().unwrap();
        let live = Live::with_schema(folder.path(), limits);
        let (messages, end) = read_late(&live, || {
            write_heavily(&live, 40);
            // The story itself: a reader that takes nothing for longer than is waited for.
            std::thread::sleep(Duration::from_secs(1));
        });
        assert_eq!(end.code(), tonic::Code::ResourceExhausted, "{end:?}");
        assert!(end.message().contains(says), "{end:?}");
        let info = end.get_details_error_info().unwrap();
        assert_eq!((info.domain.as_str(), info.reason.as_str()), ("procura", "WATCH_TOO_SLOW"));
        // Held back: most of it was never sent.
        let through = messages.iter().rev().find_map(|message| message.through.clone()).unwrap().token;
        assert_eq!(info.metadata.get("token"), Some(&through), "the last one that came");
        assert!(messages.len() < 35, "{} messages", messages.len());
        // Going on after it, nothing is missing.
        let mut reader = Reader { through: Some(through), ..Reader::default() };
        let newest = live.engine.info().unwrap().revision;
        reader.watch(&live.client, |reader| revision(reader.through.as_deref().unwrap()) == newest).unwrap();
        let told: usize = messages.iter().flat_map(|message| &message.writes).map(|write| write.changes.len()).sum();
        let rest: usize = reader.revisions.iter().flat_map(|(_, writes)| writes).map(|write| write.changes.len()).sum();
        assert_eq!(told + rest, 40 * 200);
    }
}

#[test]
fn open_watches_are_counted_and_a_drain_ends_them() {
    let folder = tempfile::tempdir().unwrap();
    let live = Live::with_schema(folder.path(), Limits { watches_max: 1, ..Limits::default() });
    let (first, second) = (live.another_client(), live.another_client());
    let now = WatchOptions::default();
    first
        .watch(&now, &mut |_| {
            // On a thread of its own: calls of one thread do not nest.
            let refused = || second.watch(&now, &mut |_| true).unwrap_err();
            let error = std::thread::scope(|scope| scope.spawn(refused).join().unwrap());
            assert_eq!((error.code, error.fact("limit")), ("RESOURCE_EXHAUSTED", Some("watches_max")));
            false
        })
        .unwrap();
    // The place is free again once the server hears that the reader is gone; the first client is gone for good.
    drop(first);
    let started = Instant::now();
    let mut opened = false;
    while !opened {
        assert!(started.elapsed() < Duration::from_secs(20));
        opened = second.watch(&now, &mut |_| false).is_ok();
    }
    drop(second);

    let other = tempfile::tempdir().unwrap();
    let Live { client, running, engine: _ } = Live::with_schema(other.path(), Limits::default());
    let mut running = Some(running);
    let started = Instant::now();
    let mut draining = None;
    let error = client
        .watch(&now, &mut |_| {
            if let Some(running) = running.take() {
                draining = Some(std::thread::spawn(move || drop(running)));
            }
            true
        })
        .unwrap_err();
    assert_eq!((error.code, error.reason.as_str()), ("UNAVAILABLE", "DRAINING"), "{error:?}");
    assert!(error.fact("token").is_some());
    drop(client);
    draining.unwrap().join().unwrap();
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
}

/// A tuple that is written again as it was is told as a touch; one that was not there to be deleted is not told.
#[test]
fn what_is_told_is_what_became_of_each_tuple() {
    let folder = tempfile::tempdir().unwrap();
    let live = Live::with_schema(folder.path(), Limits::default());
    let text = "doc:1#viewer@user:rita";
    let kinds = [UpdateKind::Delete, UpdateKind::Create, UpdateKind::Touch, UpdateKind::Delete, UpdateKind::Touch];
    for kind in kinds {
        live.engine.write_tuples(write_request(vec![update(kind, text)])).unwrap();
    }
    let parts = everything_of(&mut live.engine.watch(from_start(&["doc"], &[])).unwrap());
    let due: Vec<String> = ["Create", "Touch", "Delete", "Create"].map(|kind| format!("{kind} {}", tuple(text))).into();
    assert_eq!(changes(&parts)[1..], due);
}
