//! `procura bench table`: several runs side by side, as one table and one picture.

use super::plot;
use crate::cli::exit::{Exit, Failure};
use crate::cli::input::read_file;
use crate::cli::output::Output;
use clap::Args;
use comfy_table::{CellAlignment, presets};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  procura bench run deep --json >>runs.jsonl
  procura bench run drive --scale 1M --json >>runs.jsonl
  procura bench table runs.jsonl --plot runs.svg

The picture has a bar for each run: processor time of the server for a call.";

/// Put the figures of several runs side by side
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Table {
    /// What `procura bench run --json` printed, a line for each run
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Draw them too, as an SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

/// What of a run is shown. Other fields are not looked at.
#[derive(Deserialize)]
pub struct RunFigures {
    pub world: String,
    pub scale: u64,
    pub part: Option<String>,
    pub mix: String,
    pub commit: String,
    pub build: String,
    pub operations_per_s: f64,
    pub items_per_s: f64,
    pub server_cpu_us_per_operation: Option<f64>,
    pub server_cpu_us_per_item: Option<f64>,
    pub p50_us: Option<f64>,
    pub p99_us: Option<f64>,
    pub p999_us: Option<f64>,
    pub memory_bytes_per_tuple: Option<f64>,
    pub disk_bytes_per_tuple: Option<f64>,
    pub errors: u64,
    pub stale: u64,
    pub mismatches: u64,
}

impl RunFigures {
    /// Its world and scale, and the part that was asked.
    pub fn name(&self) -> String {
        let part = self.part.as_ref().map(|part| format!(" {part}")).unwrap_or_default();
        format!("{} {}{part}", self.world, super::short(self.scale))
    }

    /// Errors, stale and wrong answers.
    fn wrongs(&self) -> u64 {
        self.errors + self.stale + self.mismatches
    }
}

const HEADER: [&str; 12] = [
    "",
    "mix",
    "calls/s",
    "items/s",
    "cpu µs/call",
    "cpu µs/item",
    "p50 µs",
    "p99 µs",
    "p99.9 µs",
    "mem B/tuple",
    "disk B/tuple",
    "wrong",
];

impl Table {
    /// Prints the table; ends in 1 where a run had something wrong.
    pub fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let mut runs = Vec::new();
        for path in &self.files {
            for (at, line) in read_file(path)?.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
                runs.push(figures(path, at + 1, line)?);
            }
        }
        let whole = |number: Option<f64>| number.map_or_else(|| "–".to_owned(), |number| format!("{number:.0}"));
        let exact = |number: Option<f64>| number.map_or_else(|| "–".to_owned(), |number| number.to_string());
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(HEADER);
        for run in &runs {
            table.add_row([
                run.name(),
                run.mix.clone(),
                whole(Some(run.operations_per_s)),
                whole(Some(run.items_per_s)),
                exact(run.server_cpu_us_per_operation),
                exact(run.server_cpu_us_per_item),
                whole(run.p50_us),
                whole(run.p99_us),
                whole(run.p999_us),
                whole(run.memory_bytes_per_tuple),
                whole(run.disk_bytes_per_tuple),
                run.wrongs().to_string(),
            ]);
        }
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        output.line(table.trim_fmt())?;
        let builds: BTreeSet<_> = runs.iter().map(|run| format!("{} ({})", run.commit, run.build)).collect();
        output.line(format_args!("\ncommit  {}", builds.into_iter().collect::<Vec<_>>().join(", ")))?;
        if let Some(path) = &self.plot {
            std::fs::write(path, plot::bars(&runs)?).map_err(|error| Failure::file(path, &error))?;
            output.note(format_args!("drawn: {}", path.display()));
        }
        Ok(if runs.iter().all(|run| run.wrongs() == 0) { Exit::Success } else { Exit::Negative })
    }
}

fn figures(path: &Path, line: usize, text: &str) -> Result<RunFigures, Failure> {
    serde_json::from_str(text).map_err(|error| {
        Failure::usage(format!("{}:{line}: not the figures of a run: {error}", path.display()))
            .with_hint("a line is what `procura bench run --json` prints")
    })
}
