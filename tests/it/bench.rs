//! `procura bench`: worlds as text, the same each time; a load over a real server, every answer of which is right.

use crate::cli::{Server, code, json_lines, procura, run, stderr, stdout};
use procura::api::client::{Ask, Asker, Call, CheckCall, ClientError, Driver, Heard, Pace, Until};
use procura::model::Question;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// Each world with a scale at which it is made in no time.
const WORLDS: [(&str, &str); 10] = [
    ("deep", "3"),
    ("groups", "60"),
    ("github", "60"),
    ("drive", "300"),
    ("saas", "3"),
    ("delegated", "7"),
    ("boolean", "60"),
    ("roles", "60"),
    ("cyclic", "20"),
    ("large", "300"),
];

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries
        .map(|entry| entry.expect("an entry").path())
        .map(|path| {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, std::fs::read(&path).expect("a file"))
        })
        .collect()
}

fn generate(world: &str, scale: &str, folder: &Path, more: &[&str]) {
    let folder = folder.to_str().expect("UTF-8");
    let mut arguments = vec!["bench", "generate", world, "--scale", scale, "--output", folder, "--queries", "200"];
    arguments.extend(more);
    let output = run(arguments);
    assert_eq!(code(&output), 0, "{world}: {}", stderr(&output));
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_does_not() {
    let folder = tempfile::tempdir().expect("a folder");
    for (world, scale) in WORLDS {
        let of = |name: &str| folder.path().join(format!("{world}-{name}"));
        generate(world, scale, &of("one"), &[]);
        generate(world, scale, &of("two"), &[]);
        generate(world, scale, &of("other"), &["--seed", "8"]);
        let (one, two, other) = (files(&of("one")), files(&of("two")), files(&of("other")));
        assert!(one == two, "{world} is not the same twice");
        assert_ne!(one["queries.txt"], other["queries.txt"], "{world}");
        let names: Vec<&str> = one.keys().map(String::as_str).collect();
        let delegations: &[&str] = if world == "delegated" { &["delegations.jsonl"] } else { &[] };
        assert_eq!(names, [delegations, &["queries.txt", "schema.zed", "tuples.txt"]].concat(), "{world}");
        let schema = of("one").join("schema.zed");
        let checked = run(["schema", "check", schema.to_str().expect("UTF-8")]);
        assert_eq!(code(&checked), 0, "{world}: {}{}", stdout(&checked), stderr(&checked));
    }
}

/// What is written down is what `tuple import` and `check` take, and the answers are those of the file.
#[test]
fn a_world_as_text_can_be_fed_to_a_server() {
    let folder = tempfile::tempdir().expect("a folder");
    for (world, scale) in [("github", "60"), ("boolean", "60")] {
        let of = |name: &str| folder.path().join(world).join(name).to_str().expect("UTF-8").to_owned();
        generate(world, scale, &folder.path().join(world), &[]);
        let server = Server::start();
        for arguments in [["schema", "write", &of("schema.zed")], ["tuple", "import", &of("tuples.txt")]] {
            let output = server.ask(arguments);
            assert_eq!(code(&output), 0, "{world}: {}", stderr(&output));
        }
        let queries = std::fs::read_to_string(of("queries.txt")).expect("the queries");
        assert_eq!(queries.lines().count(), 200);
        let mut asked: BTreeMap<&str, Vec<(String, &str)>> = BTreeMap::new();
        for line in queries.lines() {
            let (question, expected) = line.split_once(" = ").expect("an answer");
            let mut words = question.splitn(4, ' ');
            let mut word = || words.next().expect("a word");
            let key = format!("{}#{}@{}", word(), word(), word());
            asked.entry(words.next().unwrap_or("{}")).or_default().push((key, expected));
        }
        for (context, questions) in asked {
            let mut arguments = vec!["--json", "check", "--context", context];
            arguments.extend(questions.iter().map(|(key, _)| key.as_str()));
            let answers = json_lines(&stdout(&server.ask(arguments)));
            assert_eq!(answers.len(), questions.len(), "{world} {context}");
            for ((key, expected), answer) in questions.iter().zip(answers) {
                let decision = answer["decision"].as_str().expect("a decision").to_lowercase();
                assert_eq!(decision, *expected, "{world}: {key} {context}");
            }
        }
    }
}

/// Runs a load and returns what it says of itself.
fn load(arguments: &[&str]) -> Value {
    let output = procura().args(["--json", "bench", "run"]).args(arguments).output().expect("the binary runs");
    let said = json_lines(&stdout(&output));
    assert_eq!((code(&output), said.len()), (0, 1), "{arguments:?}: {}{}", stdout(&output), stderr(&output));
    said.into_iter().next().expect("one value")
}

#[test]
fn every_world_is_answered_rightly() {
    for (world, scale) in WORLDS {
        let mix = "check=4,bulk=1,filter=1,list=1,write=2";
        let said = load(&[
            world,
            "--scale",
            scale,
            "--mix",
            mix,
            "--bulk-items",
            "20",
            "--questions",
            "500",
            "--operations",
            "300",
            "--warm-up",
            "0",
        ]);
        for key in ["errors", "stale", "mismatches", "not_compared"] {
            assert_eq!(said[key], 0, "{world}: {key} in {said}");
        }
        assert_eq!((&said["operations"], &said["world"]), (&300.into(), &world.into()), "{said}");
        for kind in ["check", "bulk", "filter", "list", "write"] {
            assert!(said["by_operation"][kind]["operations"].as_u64() > Some(0), "{world}: {kind} in {said}");
        }
        assert_eq!(said["writes_asked_about"], said["by_operation"]["write"]["operations"], "{said}");
        for key in ["operations_per_s", "server_cpu_us_per_operation", "p50_us", "p99_us", "p999_us", "disk_bytes"] {
            assert!(said[key].as_f64() > Some(0.0), "{world}: {key} in {said}");
        }
        for key in ["machine", "commit", "seed", "build", "disk_bytes_per_tuple"] {
            assert!(!said[key].is_null(), "{world}: {key} in {said}");
        }
    }
}

#[test]
fn a_server_that_runs_is_driven_and_only_an_empty_one_is_filled() {
    let server = Server::start_with(&["--delegation-depth-max", "8"]);
    let folder = tempfile::tempdir().expect("a folder");
    let plot = folder.path().join("latency.svg");
    let plot = plot.to_str().expect("UTF-8");
    let base = ["delegated", "--scale", "7", "--server", server.address(), "--warm-up", "0", "--operations", "50"];
    let said = load(&base);
    assert!(said["server_cpu_us_per_operation"].is_null() && said["disk_bytes"].is_null(), "{said}");
    assert_eq!(said["delegations"], 7 * 15);

    let again = procura().args(["bench", "run"]).args(base).output().expect("the binary runs");
    assert_eq!(code(&again), 4, "{}", stderr(&again));
    assert!(stderr(&again).contains("--loaded"), "{}", stderr(&again));
    let more = ["--loaded", "--part", "chain-8", "--open-loop", "500", "--plot", plot];
    let said = load(&[&base[..], &more].concat());
    assert_eq!((&said["loop"], &said["part"], &said["operations"]), (&"open".into(), &"chain-8".into(), &50.into()));
    assert!(std::fs::read_to_string(plot).expect("a plot").contains("<svg"));

    let other = ["deep", "--loaded", "--server", server.address()];
    let refused = procura().args(["bench", "run"]).args(other).output().expect("the binary runs");
    assert_eq!(code(&refused), 4, "another world: {}", stderr(&refused));
    let unknown = procura().args(["bench", "run", "deep", "--part", "3"]).output().expect("the binary runs");
    assert_eq!(code(&unknown), 2, "{}", stderr(&unknown));
    assert!(stderr(&unknown).contains("1, 2, 4, 8, 16, 32, 64"), "{}", stderr(&unknown));
}

#[test]
fn every_write_is_seen_by_the_next_check() {
    let said = load(&["groups", "--scale", "10", "--freshness", "--operations", "1000", "--warm-up", "0"]);
    assert_eq!(
        (&said["writes_asked_about"], &said["operations"], &said["stale"]),
        (&1_000.into(), &1_000.into(), &0.into())
    );
}

/// Stands in the way of all calls until the last of them was due.
struct Stalled {
    check: CheckCall,
    first: OnceLock<Instant>,
    /// Of each call: its place in the schedule, when it was made, and what its time was.
    took: Mutex<Vec<(u32, Instant, Duration)>>,
}

const CALLS: u32 = 20;
const RATE: f64 = 500.0;

fn after(calls: u32) -> Duration {
    Duration::from_secs_f64(f64::from(calls) / RATE)
}

impl Asker for Stalled {
    type Mark = (u32, Instant);

    /// By the clock the worker is the place in the schedule.
    fn next(&self, worker: usize) -> Option<(Call, (u32, Instant))> {
        let place = u32::try_from(worker).expect("a small number");
        let first = *self.first.get_or_init(Instant::now);
        std::thread::sleep((first + after(CALLS)).saturating_duration_since(Instant::now()));
        Some((Call::Check(self.check.clone()), (place, Instant::now())))
    }

    fn heard(&self, _worker: usize, mark: (u32, Instant), took: Duration, heard: Result<Heard, ClientError>) -> bool {
        // There is no schema: what is answered does not matter here.
        assert!(heard.is_err());
        self.took.lock().expect("no panic").push((mark.0, mark.1, took));
        true
    }
}

/// By the clock, a call's time runs from when it was due, though it was made much later.
#[test]
fn a_stall_counts_as_time_of_all_calls_that_were_due_in_it() {
    let server = Server::start();
    let question = Question {
        object: "doc:1".parse().expect("an object"),
        permission: "view".parse().expect("a name"),
        subject: "user:rita".parse().expect("a subject"),
    };
    let stalled = Arc::new(Stalled {
        check: CheckCall::new(&question, &Ask::default()),
        first: OnceLock::new(),
        took: Mutex::default(),
    });
    let driver = Driver::connect(server.address(), 1).expect("a connection");
    driver.drive(&stalled, Pace::Open(RATE), Until { time: None, calls: Some(CALLS.into()) }).expect("driven");
    let first = *stalled.first.get().expect("a call");
    let took = stalled.took.lock().expect("no panic");
    assert_eq!(took.len(), CALLS as usize);
    for (place, made, took) in took.iter() {
        // The schedule began before the first call was asked for, so call `place` was due by then.
        let due = first + after(*place);
        assert!(*took >= made.saturating_duration_since(due), "call {place} took {took:?}");
        assert!(*took >= after(CALLS - place), "call {place} took {took:?}");
    }
}
