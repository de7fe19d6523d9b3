//! How long a check takes: deep hierarchies and wide groups, allowed and denied, over the engine and over gRPC.
//!
//! Each answer is compared with what the case says, once, before it is timed. At the start it prints machine, commit
//! and seed; at the end one table of all, in microseconds. `cargo bench --bench check -- deep` runs a part.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench that cannot go on ends by panicking"
)]

mod figures;
mod worlds;

use criterion::{BenchmarkId, Criterion, Throughput};
use procura::api::client::{At, Client, FilterOf, Under};
use procura::api::{ServeOptions, serve_in_background};
use procura::engine::{CheckOptions, Engine, FilterResources, Metadata, Options, Situation, WriteSchema, WriteTuples};
use procura::model::{Acting, Cancel, Decision, Limits, Question, TupleUpdate, UpdateKind};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use worlds::Case;

const ROADS: [&str; 2] = ["engine", "grpc"];

fn main() {
    figures::print_where(worlds::SEED);
    let began = SystemTime::now();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let engine = Arc::new(filled(folder.path()));
    let options = ServeOptions { listen: "127.0.0.1:0".parse().expect("an address"), limits: Limits::default() };
    let running = serve_in_background(Arc::clone(&engine), options).expect("a server");
    let client = Client::connect(&running.address().to_string()).expect("a client");

    let output = figures::output_folder();
    let mut criterion = Criterion::default()
        .output_directory(&output)
        .without_plots()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(900))
        .configure_from_args();
    let cases = worlds::cases();
    let check_engine =
        |question: &Question| engine.check(question, &CheckOptions::default()).expect("an answer").answer.decision;
    let check_grpc = |question: &Question| client.check(question, &At::Newest, false).expect("an answer").decision;
    for case in &cases {
        bench(&mut criterion, case, "engine", &check_engine);
        bench(&mut criterion, case, "grpc", &check_grpc);
    }
    bench_batch(&mut criterion, &engine, &client);
    bench_filter(&mut criterion, &engine, &client);
    criterion.final_summary();
    print_table(&cases, &output, began);
}

fn filled(folder: &Path) -> Engine {
    let engine = Engine::open(Options::at(folder)).expect("an engine");
    let (text, metadata) = (worlds::SCHEMA.to_owned(), Metadata::new());
    engine.write_schema(WriteSchema { text, expected_digest: None, dry_run: false, metadata }).expect("a schema");
    let updates: Vec<TupleUpdate> =
        worlds::tuples().into_iter().map(|tuple| TupleUpdate { kind: UpdateKind::Touch, tuple }).collect();
    for part in updates.chunks(10_000) {
        let request = WriteTuples { updates: part.to_vec(), preconditions: Vec::new(), metadata: Metadata::new() };
        engine.write_tuples(request).expect("a write");
    }
    println!("{} tuples", updates.len());
    engine
}

fn name(case: &Case) -> String {
    let decision = if case.decision == Decision::Allow { "allow" } else { "deny" };
    format!("{} {decision}", case.group)
}

fn bench(criterion: &mut Criterion, case: &Case, road: &str, check: &dyn Fn(&Question) -> Decision) {
    for question in &case.questions {
        assert_eq!(check(question), case.decision, "{question:?} by {road}");
    }
    let mut group = criterion.benchmark_group(name(case));
    let mut questions = case.questions.iter().cycle();
    group.bench_function(BenchmarkId::new(road, case.size), |bencher| {
        bencher.iter(|| questions.next().map(check));
    });
    group.finish();
}

fn bench_batch(criterion: &mut Criterion, engine: &Engine, client: &Client) {
    let batch = worlds::batch();
    let mut group = criterion.benchmark_group("batch");
    group.throughput(Throughput::Elements(batch.len() as u64));
    group.bench_function(BenchmarkId::new("engine", batch.len()), |bencher| {
        bencher.iter(|| engine.check_bulk(&batch, &CheckOptions::default()).expect("answers").answers.len());
    });
    group.bench_function(BenchmarkId::new("grpc", batch.len()), |bencher| {
        bencher.iter(|| client.check_bulk(&batch, &At::Newest, false).expect("answers").answers.len());
    });
    group.finish();
}

fn bench_filter(criterion: &mut Criterion, engine: &Engine, client: &Client) {
    let (subject, ids) = worlds::filter();
    let (object_type, permission) = ("folder".parse().expect("a type"), "view".parse().expect("a permission"));
    let (acting, situation) = (Acting::default(), Situation::default());
    let request = FilterResources { object_type, permission, subject, acting, ids, situation };
    let FilterResources { object_type, permission, subject, acting, ids, situation: _ } = request.clone();
    let of = FilterOf { object_type, permission, subject, acting };
    let found = engine.filter_resources(&request, &Cancel::default()).expect("answers");
    let allowed = found.decisions.iter().filter(|decision| **decision == Some(Decision::Allow)).count();
    assert!(allowed > 0 && allowed < ids.len() && found.errors.is_empty(), "{allowed} are allowed");
    let mut group = criterion.benchmark_group("filter");
    group.throughput(Throughput::Elements(ids.len() as u64));
    group.bench_function(BenchmarkId::new("engine", ids.len()), |bencher| {
        bencher.iter(|| engine.filter_resources(&request, &Cancel::default()).expect("answers").decisions.len());
    });
    group.bench_function(BenchmarkId::new("grpc", ids.len()), |bencher| {
        bencher.iter(|| client.filter_resources(&of, &ids, &Under::default()).expect("answers").decisions.len());
    });
    group.finish();
}

fn print_table(cases: &[Case], output: &Path, began: SystemTime) {
    let mut table = String::new();
    let mut rows: Vec<(String, usize)> = cases.iter().map(|case| (name(case), case.size)).collect();
    rows.push(("batch".to_owned(), 1_000));
    rows.push(("filter".to_owned(), 1_000));
    for (group, size) in rows {
        let cells = ROADS.map(|road| match figures::measured(output, &group, road, size, began) {
            Some((mean, lower, upper)) => format!("{mean:>10.2} ({lower:.2} – {upper:.2})"),
            None => format!("{:>10}", "–"),
        });
        // Columns are padded by characters, not bytes: the format counts them.
        let _ = writeln!(table, "{group:<20} {size:>6}  {:<32} {:<32}", cells[0], cells[1]);
    }
    println!("\nµs a call (95 % interval of the mean)");
    println!("{:<20} {:>6}  {:<32} {:<32}\n{table}", "case", "size", "engine", "gRPC");
    for road in ROADS {
        for group in ["deep allow", "deep deny"] {
            let mean = |depth| figures::measured(output, group, road, depth, began).map(|(mean, _, _)| mean);
            if let (Some(one), Some(deepest)) = (mean(1), mean(64)) {
                println!("{group}, {road}: depth 64 over depth 1 = {:.2}", deepest / one);
            }
        }
    }
}
