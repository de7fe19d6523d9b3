//! kill -9 of a real server during writes: what it acknowledged is there afterwards, and nothing else is.
//!
//! Each client thread owns some objects and remembers in a ledger what was acknowledged and what was in flight when the
//! connection broke. After the kill the folder is opened in process: the state must be the fold of what was
//! acknowledged, with each write in flight there as a whole or not at all. `PROCURA_KILLS` sets the rounds.

use crate::engines::{open, schema_request, told, tuple};
use crate::worlds::{Rng, number, seed};
use procura::api::client::{At, Client};
use procura::engine::{Engine, Metadata, ReadTuples};
use procura::model::{Cancel, Consistency, ConsistencyToken, Limits, Revision, TupleFilter, TupleUpdate, UpdateKind};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};

const SCHEMA: &str = "definition user {}\ndefinition doc {\n  relation viewer: user\n  permission view = viewer\n}\n";
const CLIENTS: usize = 4;
/// Objects a client owns: few, so that they are written over and over.
const OBJECTS: usize = 6;
const USERS: usize = 8;

/// Changes of one write: tuple, and whether it stands afterwards.
type Changes = Vec<(String, bool)>;

/// What one client knows.
#[derive(Clone, Debug, Default)]
struct Ledger {
    acknowledged: BTreeSet<String>,
    newest: Revision,
    /// Sent, and never answered.
    in_flight: Option<Changes>,
    /// Acknowledged since the server started.
    writes: u64,
}

fn fold(state: &mut BTreeSet<String>, changes: &Changes) {
    for (text, stands) in changes {
        if *stands {
            state.insert(text.clone());
        } else {
            state.remove(text);
        }
    }
}

fn owner(text: &str) -> Option<usize> {
    text.strip_prefix("doc:c")?.split('-').next()?.parse().ok()
}

/// Compares a state with the ledgers; says which client lost or gained what.
fn verify(state: &BTreeSet<String>, newest: Revision, ledgers: &[Ledger]) -> Result<(), String> {
    for text in state {
        if owner(text).is_none_or(|owner| owner >= ledgers.len()) {
            return Err(format!("`{text}` was never written"));
        }
    }
    for (client, ledger) in ledgers.iter().enumerate() {
        let there: BTreeSet<String> = state.iter().filter(|text| owner(text) == Some(client)).cloned().collect();
        let mut with_flight = ledger.acknowledged.clone();
        if let Some(changes) = &ledger.in_flight {
            fold(&mut with_flight, changes);
        }
        if there != ledger.acknowledged && there != with_flight {
            let lost: Vec<&String> = ledger.acknowledged.difference(&there).collect();
            let gained: Vec<&String> = there.difference(&ledger.acknowledged).collect();
            return Err(format!("client {client}: lost {lost:?}, gained {gained:?}, in flight {:?}", ledger.in_flight));
        }
        if ledger.newest > newest {
            return Err(format!("client {client}: {} was acknowledged, the newest is {newest}", ledger.newest));
        }
    }
    Ok(())
}

struct Server {
    child: Child,
    address: String,
    /// Held open, so that a later line to stdout does not fail.
    _output: Option<BufReader<std::process::ChildStdout>>,
}

impl Server {
    fn start(folder: &Path) -> Server {
        let mut command = Command::new(env!("CARGO_BIN_EXE_procura"));
        command.arg("serve").arg("--data").arg(folder).args(["--listen", "127.0.0.1:0"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let child = command.spawn().expect("the server starts");
        let mut server = Server { child, address: String::new(), _output: None };
        let mut output = BufReader::new(server.child.stdout.take().expect("its stdout"));
        let mut line = String::new();
        // Bounded by the child: its output ends when it does.
        while server.address.is_empty() {
            line.clear();
            if output.read_line(&mut line).expect("its output") == 0 {
                panic!("the server ended without `listening on`: {:?}", server.child.wait());
            }
            if let Some((_, after)) = line.split_once("listening on ") {
                let address = after.split_whitespace().next().expect("an address");
                server.address = address.trim_start_matches("http://").trim_end_matches([',', '.', ')']).to_owned();
            }
        }
        server._output = Some(output);
        server
    }

    fn kill(mut self) {
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("its end");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A test that fails leaves no server behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A few changes of a client's own objects, no key twice.
fn changes(rng: &mut Rng, client: usize) -> Changes {
    let mut keys = BTreeSet::new();
    for _ in 0..rng.between(1, 12) {
        keys.insert(format!("doc:c{client}-{}#viewer@user:u{}", rng.below(OBJECTS), rng.below(USERS)));
    }
    keys.into_iter().map(|text| (text, rng.chance(65))).collect()
}

/// Writes until the connection breaks. Tells of each acknowledgement.
fn write_until_killed(address: &str, client: usize, rng: &mut Rng, ledger: &mut Ledger, told: &Sender<()>) {
    let connection = Client::connect(address).unwrap_or_else(|error| panic!("client {client}: {error}"));
    // Bounded by the kill.
    loop {
        let changes = changes(rng, client);
        let update = |(text, stands): &(String, bool)| TupleUpdate {
            kind: if *stands { UpdateKind::Touch } else { UpdateKind::Delete },
            tuple: tuple(text),
        };
        let updates: Vec<TupleUpdate> = changes.iter().map(update).collect();
        ledger.in_flight = Some(changes);
        match connection.write_tuples(&updates, &[], &Metadata::new()) {
            Ok(written) => {
                let acknowledged = ledger.in_flight.take().expect("just put there");
                fold(&mut ledger.acknowledged, &acknowledged);
                let token: ConsistencyToken = written.token.parse().expect("a token");
                assert!(token.revision > ledger.newest, "revisions grow");
                ledger.newest = token.revision;
                ledger.writes += 1;
                let _ = told.send(());
            }
            Err(error) => {
                let broken = ["UNAVAILABLE", "UNKNOWN", "INTERNAL", "CANCELLED", "ABORTED", "DEADLINE_EXCEEDED"];
                assert!(broken.contains(&error.code), "client {client}: {}: {error}", error.code);
                return;
            }
        }
    }
}

/// One life of the server: starts, is written to by all clients, and is killed after `kill_after` acknowledgements.
fn live_and_die(folder: &Path, rngs: &mut [Rng], ledgers: &mut [Ledger], kill_after: usize) {
    let server = Server::start(folder);
    let address = server.address.clone();
    let (sender, acknowledgements): (Sender<()>, Receiver<()>) = channel();
    std::thread::scope(|scope| {
        for (client, (rng, ledger)) in rngs.iter_mut().zip(ledgers.iter_mut()).enumerate() {
            let (address, sender) = (&address, sender.clone());
            scope.spawn(move || write_until_killed(address, client, rng, ledger, &sender));
        }
        drop(sender);
        for _ in 0..kill_after {
            acknowledgements.recv().expect("an acknowledgement while clients write");
        }
        server.kill();
    });
}

fn state_of(engine: &Engine) -> BTreeSet<String> {
    let request = ReadTuples { filter: TupleFilter::default(), consistency: Consistency::Newest, cursor: None };
    let mut reader = engine.read_tuples(request, &Cancel::default()).expect("a reader");
    let mut state = BTreeSet::new();
    loop {
        let page = reader.next_page(1_000, &Cancel::default()).expect("a page");
        if page.is_empty() {
            return state;
        }
        for row in page {
            assert!(state.insert(row.tuple.to_string()), "{:?} was read twice", row.tuple);
        }
    }
}

#[test]
fn kill_nine_during_writes_loses_nothing_acknowledged() {
    let seed = seed("kill_nine_during_writes_loses_nothing_acknowledged");
    let kills = number("PROCURA_KILLS", 20);
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    open(&data, Limits::default()).unwrap().write_schema(schema_request(SCHEMA)).unwrap();
    let mut rng = Rng::new(seed);
    let mut rngs: Vec<Rng> = (0..CLIENTS as u64).map(|client| Rng::part(seed, 1 + client)).collect();
    let mut ledgers = vec![Ledger::default(); CLIENTS];
    let mut unanswered_but_there = 0;
    for round in 0..kills {
        live_and_die(&data, &mut rngs, &mut ledgers, rng.between(1, 120));
        let engine = open(&data, Limits::default()).unwrap_or_else(|error| panic!("round {round}: {}", told(&error)));
        let (state, newest) = (state_of(&engine), engine.info().unwrap().revision);
        if let Err(wrong) = verify(&state, newest, &ledgers) {
            panic!("seed {seed} round {round}: {wrong}");
        }
        assert_eq!(engine.read_schema(Consistency::Newest).unwrap().text, SCHEMA);
        let scratch = folder.path().join(format!("fold{round}"));
        if let Err(error) = engine.verify(&scratch) {
            panic!("seed {seed} round {round}: the state is not the fold of the changelog: {}", told(&error));
        }
        for (client, ledger) in ledgers.iter_mut().enumerate() {
            let there: BTreeSet<String> = state.iter().filter(|text| owner(text) == Some(client)).cloned().collect();
            // What was in flight is decided now: it is the base of the next round.
            unanswered_but_there += u64::from(there != ledger.acknowledged);
            ledger.acknowledged = there;
            ledger.in_flight = None;
        }
    }
    let writes: u64 = ledgers.iter().map(|ledger| ledger.writes).sum();
    println!(
        "{kills} kills, {writes} writes acknowledged, none lost; {unanswered_but_there} unanswered ones were there"
    );
    assert!(writes >= kills);
}

/// Over the wire this time: one write, one kill, and the next server allows because of it.
#[test]
fn the_next_server_answers_from_what_the_killed_one_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    open(&data, Limits::default()).unwrap().write_schema(schema_request(SCHEMA)).unwrap();
    let server = Server::start(&data);
    let client = Client::connect(&server.address).unwrap();
    let update = TupleUpdate { kind: UpdateKind::Create, tuple: tuple("doc:1#viewer@user:rita") };
    let token = client.write_tuples(&[update], &[], &Metadata::new()).unwrap().token;
    server.kill();
    let server = Server::start(&data);
    let client = Client::connect(&server.address).unwrap();
    let asked = crate::engines::question("doc:1#view@user:rita");
    let found = client.check(&asked, &At::AtLeastAsFresh(token), false).unwrap();
    assert_eq!(found.decision, procura::model::Decision::Allow);
}

/// The check itself can fail: each kind of wrong state is found.
#[test]
fn the_verifier_sees_what_is_wrong() {
    let (a, b, c) = ("doc:c0-1#viewer@user:u1", "doc:c1-1#viewer@user:u1", "doc:c0-2#viewer@user:u2");
    let set = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<BTreeSet<String>>();
    let mut ledgers = vec![Ledger::default(); 2];
    ledgers[0].acknowledged = set(&[a]);
    ledgers[0].newest = Revision(7);
    ledgers[1].acknowledged = set(&[b]);
    assert_eq!(verify(&set(&[a, b]), Revision(7), &ledgers), Ok(()));
    // One acknowledged tuple is gone, one is there that nobody wrote, one was deleted, a revision is missing.
    assert!(verify(&set(&[b]), Revision(7), &ledgers).unwrap_err().contains(a));
    assert!(verify(&set(&[a]), Revision(7), &ledgers).is_err());
    assert!(verify(&set(&[a, b, c]), Revision(7), &ledgers).is_err());
    assert!(verify(&set(&[a, b, "doc:x#viewer@user:y"]), Revision(7), &ledgers).is_err());
    assert!(verify(&set(&[a, b, "doc:c9-1#viewer@user:u1"]), Revision(7), &ledgers).is_err());
    assert!(verify(&set(&[a, b]), Revision(6), &ledgers).is_err());
    // A write in flight is there as a whole, or not at all.
    ledgers[0].in_flight = Some(vec![(a.to_owned(), false), (c.to_owned(), true)]);
    assert_eq!(verify(&set(&[a, b]), Revision(7), &ledgers), Ok(()));
    assert_eq!(verify(&set(&[c, b]), Revision(8), &ledgers), Ok(()));
    assert!(verify(&set(&[a, c, b]), Revision(8), &ledgers).is_err());
    assert!(verify(&set(&[b]), Revision(8), &ledgers).is_err());
}

/// And it sees it on a real engine too: an acknowledged tuple removed behind the ledger's back.
#[test]
fn the_verifier_sees_a_lost_tuple_in_a_real_folder() {
    let engine = crate::engines::TestEngine::with_schema(SCHEMA);
    let mut ledger = Ledger::default();
    let written = vec![("doc:c0-1#viewer@user:u1".to_owned(), true), ("doc:c0-2#viewer@user:u2".to_owned(), true)];
    ledger.newest = engine.touch(written.iter().map(|(text, _)| text));
    fold(&mut ledger.acknowledged, &written);
    let ledgers = [ledger];
    assert_eq!(verify(&state_of(&engine), engine.info().revision, &ledgers), Ok(()));
    engine.try_update(UpdateKind::Delete, &written[1].0).unwrap();
    let wrong = verify(&state_of(&engine), engine.info().revision, &ledgers).unwrap_err();
    assert!(wrong.contains(&written[1].0), "{wrong}");
}
