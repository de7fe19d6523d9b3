//! The worlds of `procura bench`, asked in process: a check, a batch of a thousand, and a list, of each world, and of the parts
//! of those that have them.
//!
//! Each answer is compared with what the world says, once, before it is timed. At the start it prints machine, commit and
//! seed; at the end one table, in microseconds. `cargo bench --bench questions -- drive` runs a part.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench that cannot go on ends by panicking"
)]

mod figures;

use criterion::{BenchmarkId, Criterion};
use procura::cli::bench::ready::{Ids, Ready, ReadyList, tuple};
use procura::cli::bench::worlds::draw::Draw;
use procura::cli::bench::worlds::{Scale, World, WorldName};
use procura::engine::{
    CheckOptions, CreateDelegation, DelegationEnd, Engine, ListResources, Metadata, Options, Situation, WriteSchema,
    WriteTuples,
};
use procura::model::{Cancel, Limits, ObjectRef, Question, TupleUpdate, UpdateKind};
use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, SystemTime};

const SEED: u64 = 20_261_125;
const QUESTIONS: usize = 512;
const BATCH: usize = 1_000;
const LISTS: usize = 16;
const WORLDS: [WorldName; 10] = [
    WorldName::Deep,
    WorldName::Groups,
    WorldName::Github,
    WorldName::Drive,
    WorldName::Saas,
    WorldName::Delegated,
    WorldName::Boolean,
    WorldName::Roles,
    WorldName::Cyclic,
    WorldName::Large,
];
const KINDS: [&str; 3] = ["check", "bulk", "list"];

fn main() {
    figures::print_where(SEED);
    let began = SystemTime::now();
    let output = figures::output_folder();
    let mut criterion = Criterion::default()
        .output_directory(&output)
        .without_plots()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(900))
        .configure_from_args();
    let mut rows = Vec::new();
    for name in WORLDS {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let world = name.at(Scale::Small.of(name), SEED);
        let (engine, ids) = filled(folder.path(), &*world);
        let parts = world.parts();
        for part in std::iter::once(None).chain((0..parts.len()).map(Some)) {
            let label = match part {
                None => name.as_str().to_owned(),
                Some(part) => format!("{} {}", name.as_str(), parts[part]),
            };
            bench(&mut criterion, (&engine, &ids), (&*world, part), &label);
            rows.push(label);
        }
    }
    criterion.final_summary();
    println!("\nµs a call, mean");
    println!("{:<24} {:>14} {:>14} {:>14}", "world", "check", "bulk of 1000", "list");
    for label in &rows {
        let cells = KINDS.map(|kind| {
            let measured = figures::measured(&output, label, kind, 1, began);
            measured.map_or_else(|| "–".to_owned(), |(mean, _, _)| format!("{mean:.2}"))
        });
        println!("{label:<24} {:>14} {:>14} {:>14}", cells[0], cells[1], cells[2]);
    }
}

fn filled(folder: &Path, world: &dyn World) -> (Engine, Ids) {
    let limits = Limits { delegation_depth_max: 8, ..Limits::default() };
    let engine = Engine::open(Options { limits, ..Options::at(folder) }).expect("an engine");
    let (text, metadata) = (world.schema().to_owned(), Metadata::new());
    engine.write_schema(WriteSchema { text, expected_digest: None, dry_run: false, metadata }).expect("a schema");
    let mut updates = Vec::new();
    world
        .tuples(&mut |line| {
            let tuple = tuple(&line.to_string()).expect("a tuple");
            updates.push(TupleUpdate { kind: UpdateKind::Touch, tuple });
            Ok(())
        })
        .expect("tuples");
    for part in updates.chunks(10_000) {
        let request = WriteTuples { updates: part.to_vec(), preconditions: Vec::new(), metadata: Metadata::new() };
        engine.write_tuples(request).expect("a write");
    }
    let mut ids = Ids::new();
    for deputy in world.deputies() {
        let ready = deputy.ready(&ids).expect("a delegation");
        let request = CreateDelegation {
            delegator: ready.from,
            delegate: ready.to,
            items: vec![ready.item],
            parent: ready.parent,
            not_before: None,
            end: DelegationEnd::After(Duration::from_secs(86_400)),
            redelegate: deputy.redelegate,
            purpose: String::new(),
            issued_by: String::new(),
            metadata: Metadata::new(),
            strict: false,
            idempotency_key: None,
            preconditions: Vec::new(),
            clock: None,
        };
        let made = engine.create_delegation(request, &Cancel::default()).expect("a delegation");
        ids.insert(deputy.name, made.delegation.id);
    }
    (engine, ids)
}

fn options(ready: &Ready) -> CheckOptions {
    let situation = Situation { context: ready.context.clone(), ..Situation::default() };
    CheckOptions { situation, acting: ready.acting.clone(), ..CheckOptions::default() }
}

fn bench(
    criterion: &mut Criterion,
    (engine, ids): (&Engine, &Ids),
    (world, part): (&dyn World, Option<usize>),
    label: &str,
) {
    let mut draw = Draw::new(SEED);
    let asked: Vec<(Ready, CheckOptions)> = (0..QUESTIONS)
        .map(|_| {
            let ready = world.ask(&mut draw, part).ready(ids).expect("a question");
            let options = options(&ready);
            (ready, options)
        })
        .collect();
    let check =
        |(ready, options): &(Ready, CheckOptions)| engine.check(&ready.question, options).expect("an answer").answer;
    for one in &asked {
        assert_eq!(check(one).decision, one.0.expected, "{:?}", one.0.question);
    }
    let mut group = criterion.benchmark_group(label);
    let mut turn = asked.iter().cycle();
    group.bench_function(BenchmarkId::new("check", 1), |bencher| bencher.iter(|| turn.next().map(check)));

    // A call asks all under the same circumstances: those of the first question.
    let (first, under) = &asked[0];
    let alike = |(ready, _): &&(Ready, CheckOptions)| ready.acting == first.acting && ready.context == first.context;
    let questions: Vec<Question> =
        asked.iter().filter(alike).cycle().take(BATCH).map(|(ready, _)| ready.question.clone()).collect();
    group.bench_function(BenchmarkId::new("bulk", 1), |bencher| {
        bencher.iter(|| engine.check_bulk(&questions, under).expect("answers").answers.len());
    });

    let lists: Vec<ReadyList> = (0..LISTS).map(|_| world.list(&mut draw, part).ready(ids).expect("a list")).collect();
    let list = |ready: &ReadyList| rows(engine, ready);
    for ready in &lists {
        if let Some(expected) = &ready.expected {
            let found = list(ready);
            assert_eq!(found.iter().cloned().collect::<HashSet<_>>(), *expected, "{ready:?}");
            assert_eq!(found.len(), expected.len(), "{ready:?}");
        }
    }
    let mut turn = lists.iter().cycle();
    group.bench_function(BenchmarkId::new("list", 1), |bencher| bencher.iter(|| turn.next().map(list)));
    group.finish();
}

fn rows(engine: &Engine, ready: &ReadyList) -> Vec<ObjectRef> {
    let request = ListResources {
        object_type: ready.object_type.clone(),
        permission: ready.permission.clone(),
        subject: ready.subject.clone(),
        acting: ready.acting.clone(),
        within: None,
        situation: Situation::default(),
        cursor: None,
    };
    let cancel = Cancel::default();
    let mut lister = engine.list_resources(request, &cancel).expect("a list");
    let mut found = Vec::new();
    loop {
        let page = lister.next_page(BATCH, &cancel).expect("a page");
        if page.is_empty() {
            return found;
        }
        found.extend(page.into_iter().map(|row| row.object));
    }
}
