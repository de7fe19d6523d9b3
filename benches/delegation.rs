//! What acting for another costs: chains of 1, 2, 4 and 8 delegations beside the plain check, on deep hierarchies; a root
//! with 1 and with 32 live delegations; and how soon a revocation is durable and seen.
//!
//! Each answer is compared with what it must be, once, before it is timed. At the start it prints machine, commit and seed;
//! at the end one table, in microseconds, and each chain as a multiple of the plain check of the same depth.
//! `cargo bench --bench delegation -- revoke` runs a part.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench that cannot go on ends by panicking"
)]

mod figures;

use criterion::{BenchmarkId, Criterion};
use procura::engine::{
    AskedItem, CheckOptions, CreateDelegation, DelegationEnd, Engine, Metadata, Options, RevokeDelegation, WriteSchema,
    WriteTuples,
};
use procura::model::{
    Acting, AskedPermissions, Cancel, Decision, DelegationId, Limits, Question, RelationTuple, SubjectRef, TupleKey,
    TupleUpdate, UpdateKind,
};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// Nothing is drawn: the worlds are the same each time.
const SEED: u64 = 0;
const DEPTHS: [usize; 3] = [1, 8, 64];
const CHAINS: [usize; 4] = [1, 2, 4, 8];
const SCHEMA: &str = "use hierarchy
definition user {}
definition agent {}
definition folder {
  parent parent: folder
  relation viewer: user | agent
  permission view = viewer + parent->view
}
";

fn main() {
    figures::print_where(SEED);
    let began = SystemTime::now();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let engine = filled(folder.path());
    let output = figures::output_folder();
    let mut criterion = Criterion::default()
        .output_directory(&output)
        .without_plots()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(900))
        .configure_from_args();
    let chain = chain_of(&engine, 8);
    for depth in DEPTHS {
        let object = format!("folder:d{depth}l{depth}");
        time(&mut criterion, &engine, ("plain", depth), &format!("{object}#view@user:rita"), &Acting::default());
        for links in CHAINS {
            let (caller, via) = (format!("agent:a{links}"), Acting::via(chain[links - 1]));
            let asked = format!("{object}#view@{caller}");
            time(&mut criterion, &engine, (&format!("chain of {links}"), depth), &asked, &via);
        }
        let lone = Acting::on_behalf_of("user:one".parse().expect("a root"));
        time(&mut criterion, &engine, ("for a root with 1", depth), &format!("{object}#view@agent:hand"), &lone);
        let busy = Acting::on_behalf_of("user:many".parse().expect("a root"));
        time(&mut criterion, &engine, ("for a root with 32", depth), &format!("{object}#view@agent:hand"), &busy);
    }
    revoke(&mut criterion, &engine);
    criterion.final_summary();
    print_table(&output, began);
}

/// Hierarchies of each depth below `folder:top`, which all principals may view.
fn filled(folder: &Path) -> Engine {
    let limits = Limits { delegation_depth_max: 8, ..Limits::default() };
    let engine = Engine::open(Options { limits, ..Options::at(folder) }).expect("an engine");
    let (text, metadata) = (SCHEMA.to_owned(), Metadata::new());
    engine.write_schema(WriteSchema { text, expected_digest: None, dry_run: false, metadata }).expect("a schema");
    let mut tuples: Vec<String> = ["user:rita", "user:one", "user:many", "agent:hand"]
        .iter()
        .map(|who| format!("folder:top#viewer@{who}"))
        .collect();
    tuples.extend((1..=8).map(|agent| format!("folder:top#viewer@agent:a{agent}")));
    for depth in DEPTHS {
        tuples.push(format!("folder:d{depth}l1#parent@folder:top"));
        let below = (2..=depth).map(|level| format!("folder:d{depth}l{level}#parent@folder:d{depth}l{}", level - 1));
        tuples.extend(below);
    }
    let touch =
        |text: &String| TupleUpdate { kind: UpdateKind::Touch, tuple: text.parse::<RelationTuple>().expect("a tuple") };
    let updates = tuples.iter().map(touch).collect();
    engine
        .write_tuples(WriteTuples { updates, preconditions: Vec::new(), metadata: Metadata::new() })
        .expect("a write");
    delegate(&engine, "user:one", "agent:hand", None, 0);
    for _ in 0..32 {
        delegate(&engine, "user:many", "agent:hand", None, 0);
    }
    engine
}

/// rita, then agents a1 to a`links`, each by the one before.
fn chain_of(engine: &Engine, links: usize) -> Vec<DelegationId> {
    let mut ids: Vec<DelegationId> = Vec::new();
    for link in 1..=links {
        let from = if link == 1 { "user:rita".to_owned() } else { format!("agent:a{}", link - 1) };
        let budget = u32::try_from(links - link).expect("a small number");
        ids.push(delegate(engine, &from, &format!("agent:a{link}"), ids.last().copied(), budget));
    }
    ids
}

fn delegate(engine: &Engine, from: &str, to: &str, parent: Option<DelegationId>, redelegate: u32) -> DelegationId {
    let item = AskedItem {
        permissions: AskedPermissions::Named(vec!["view".parse().expect("a name")]),
        within: vec!["folder:top".parse().expect("an object")],
        caveat: None,
    };
    let request = CreateDelegation {
        delegator: from.parse().expect("an object"),
        delegate: to.parse::<SubjectRef>().expect("a subject"),
        items: vec![item],
        parent,
        not_before: None,
        end: DelegationEnd::After(Duration::from_secs(86_400)),
        redelegate,
        purpose: String::new(),
        issued_by: String::new(),
        metadata: Metadata::new(),
        strict: false,
        idempotency_key: None,
        preconditions: Vec::new(),
        clock: None,
    };
    engine.create_delegation(request, &Cancel::default()).expect("a delegation").delegation.id
}

fn question(text: &str) -> Question {
    let TupleKey { object, relation, subject } = text.parse().expect("a question");
    Question { object, permission: relation, subject }
}

fn time(criterion: &mut Criterion, engine: &Engine, (name, depth): (&str, usize), asked: &str, acting: &Acting) {
    let options = CheckOptions { acting: acting.clone(), ..CheckOptions::default() };
    let question = question(asked);
    let check = || engine.check(&question, &options).expect("an answer").answer;
    assert_eq!(check().decision, Decision::Allow, "{asked}: {:?}", check().denial);
    let mut group = criterion.benchmark_group(name);
    group.bench_function(BenchmarkId::new("engine", depth), |bencher| bencher.iter(check));
    group.finish();
}

/// From the call that revokes to the first answer after it, which denies.
fn revoke(criterion: &mut Criterion, engine: &Engine) {
    let question = question("folder:d8l8#view@agent:hand");
    let mut group = criterion.benchmark_group("revoke, then check");
    group.sample_size(10);
    group.bench_function(BenchmarkId::new("engine", 8), |bencher| {
        bencher.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            for _ in 0..rounds {
                let id = delegate(engine, "user:rita", "agent:hand", None, 0);
                let options = CheckOptions { acting: Acting::via(id), ..CheckOptions::default() };
                let request = RevokeDelegation {
                    id,
                    reason: String::new(),
                    preconditions: Vec::new(),
                    metadata: Metadata::new(),
                };
                let from = Instant::now();
                engine.revoke_delegation(request).expect("revoked");
                let decision = engine.check(&question, &options).expect("an answer").answer.decision;
                spent += from.elapsed();
                assert_eq!(decision, Decision::Deny);
            }
            spent
        });
    });
    group.finish();
}

fn print_table(output: &Path, began: SystemTime) {
    let names: Vec<String> = std::iter::once("plain".to_owned())
        .chain(CHAINS.map(|links| format!("chain of {links}")))
        .chain([1, 32].map(|live| format!("for a root with {live}")))
        .collect();
    println!("\nµs a call, mean (over the plain check of the same depth)");
    println!("{:<22} {:>20} {:>20} {:>20}", "depth", DEPTHS[0], DEPTHS[1], DEPTHS[2]);
    for name in &names {
        let cells = DEPTHS.map(|depth| {
            let mean = |name: &str| figures::measured(output, name, "engine", depth, began).map(|(mean, _, _)| mean);
            match (mean(name), mean("plain")) {
                (Some(mean), Some(plain)) => format!("{mean:>11.2} ({:>5.2})", mean / plain),
                _ => format!("{:>20}", "–"),
            }
        });
        println!("{name:<22} {:>20} {:>20} {:>20}", cells[0], cells[1], cells[2]);
    }
    if let Some((mean, lower, upper)) = figures::measured(output, "revoke, then check", "engine", 8, began) {
        println!("revoke, then check: {mean:.0} ({lower:.0} – {upper:.0})");
    }
}
