//! What a run came to: one object for machines, a table for people.

use super::load::{Counted, Operation, Tally};
use super::place::Place;
use crate::api::client::Pace;
use crate::cli::exit::Failure;
use crate::cli::output::Output;
use comfy_table::{CellAlignment, Table, presets};
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// All of it.
pub struct Figures {
    pub world: &'static str,
    pub scale: u64,
    pub unit: &'static str,
    pub seed: u64,
    pub part: Option<String>,
    pub mix: String,
    pub freshness: bool,
    pub pace: Pace,
    pub connections: u32,
    pub bulk_items: u32,
    pub place: Place,
    pub server_arguments: Vec<String>,
    pub tuples: u64,
    /// How long it took to bring the world in.
    pub filling: Option<Duration>,
    pub delegations: usize,
    pub took: Duration,
    /// Of the server, while it was measured.
    pub cpu: Option<Duration>,
    pub memory: Memory,
    pub disk: Option<Disk>,
    pub tally: Tally,
}

/// Of the server's process.
pub struct Memory {
    pub empty_bytes: Option<u64>,
    pub loaded_bytes: Option<u64>,
    pub end_bytes: Option<u64>,
}

/// Of the data folder, after the server has ended.
pub struct Disk {
    /// In sorted files, by column family.
    pub families: Vec<(&'static str, u64)>,
    /// All files, the log of what was not sorted yet among them.
    pub folder_bytes: u64,
}

impl Disk {
    /// Without the changelog.
    fn without_log(&self) -> u64 {
        self.families.iter().filter(|(name, _)| *name != "log").map(|(_, bytes)| bytes).sum()
    }
}

fn micros(took: &Histogram<u64>, quantile: f64) -> f64 {
    rounded(took.value_at_quantile(quantile) as f64 / 1_000.0)
}

/// To a thousandth.
fn seconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 1_000.0).round() / 1_000.0
}

/// To a tenth.
fn rounded(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

impl Figures {
    /// Whether nothing failed, nothing was stale, nothing was wrong; and something was asked.
    pub fn is_right(&self) -> bool {
        let Tally { errors, stale, mismatches, .. } = self.tally;
        errors == 0 && stale == 0 && mismatches == 0 && self.operations() > 0
    }

    /// What was asked, in the order in which it is told.
    pub fn counted(&self) -> impl Iterator<Item = (Operation, &Counted)> {
        Operation::ALL.into_iter().filter_map(|operation| Some((operation, self.tally.of(operation)?)))
    }

    fn operations(&self) -> u64 {
        self.counted().map(|(_, counted)| counted.took.len()).sum()
    }

    fn items(&self) -> u64 {
        self.counted().map(|(_, counted)| counted.items).sum()
    }

    fn per_second(&self, count: u64) -> f64 {
        let seconds = self.took.as_secs_f64();
        if seconds > 0.0 { rounded(count as f64 / seconds) } else { 0.0 }
    }

    fn cpu_us_of(&self, count: u64) -> Option<f64> {
        let cpu = self.cpu.filter(|_| count > 0)?;
        // To a hundredth: an item of a batch costs less than one.
        Some((cpu.as_secs_f64() * 1e8 / count as f64).round() / 100.0)
    }

    /// What memory has grown by, for each tuple.
    fn memory_bytes_per_tuple(&self, now: Option<u64>) -> Option<f64> {
        let grown = now?.saturating_sub(self.memory.empty_bytes?);
        (self.tuples > 0).then(|| rounded(grown as f64 / self.tuples as f64))
    }

    fn disk_bytes_per_tuple(&self) -> Option<f64> {
        let disk = self.disk.as_ref().filter(|_| self.tuples > 0)?;
        Some(rounded(disk.without_log() as f64 / self.tuples as f64))
    }

    /// Of all kinds of call together.
    fn all(&self) -> Option<Histogram<u64>> {
        let mut kinds = self.counted();
        let mut all = kinds.next()?.1.took.clone();
        for (_, counted) in kinds {
            all.add(&counted.took).ok()?;
        }
        Some(all)
    }

    /// Prints it.
    pub fn tell(&self, output: &mut Output) -> Result<(), Failure> {
        for said in &self.tally.said {
            output.note(said);
        }
        if output.is_json() {
            output.value(&self.to_json())?;
        } else {
            output.line(self.table().trim_fmt())?;
            output.line(self.summary())?;
        }
        Ok(())
    }

    fn to_json(&self) -> Value {
        let parts = [self.asked_json(), self.heard_json(), self.size_json()];
        let fields = |part: Value| match part {
            Value::Object(fields) => fields,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
        };
        Value::Object(parts.into_iter().flat_map(fields).collect())
    }

    /// What was asked, of what, where.
    fn asked_json(&self) -> Value {
        let Place { processor, cores, memory_bytes, commit, build } = &self.place;
        let (loop_kind, concurrency, rate) = match self.pace {
            Pace::Closed(concurrency) => ("closed", Some(concurrency), None),
            Pace::Open(rate) => ("open", None, Some(rate)),
        };
        json!({
            "world": self.world,
            "scale": self.scale,
            "scale_unit": self.unit,
            "part": self.part,
            "seed": self.seed,
            "machine": {"processor": processor, "cores": cores, "memory_bytes": memory_bytes},
            "commit": commit,
            "build": build,
            "server_arguments": self.server_arguments,
            "mix": self.mix,
            "freshness": self.freshness,
            "loop": loop_kind,
            "concurrency": concurrency,
            "rate_per_s": rate,
            "connections": self.connections,
            "bulk_items": self.bulk_items,
            "seconds": seconds(self.took),
        })
    }

    /// What came of it.
    fn heard_json(&self) -> Value {
        let all = self.all();
        let quantile = |of: f64| all.as_ref().map(|all| micros(all, of));
        let by_operation: Map<String, Value> = self
            .counted()
            .map(|(operation, Counted { took, items })| {
                let value = json!({
                    "operations": took.len(),
                    "operations_per_s": self.per_second(took.len()),
                    "items": items,
                    "items_per_s": self.per_second(*items),
                    "p50_us": micros(took, 0.5),
                    "p99_us": micros(took, 0.99),
                    "p999_us": micros(took, 0.999),
                    "max_us": micros(took, 1.0),
                });
                (operation.as_str().to_owned(), value)
            })
            .collect();
        json!({
            "operations": self.operations(),
            "items": self.items(),
            "errors": self.tally.errors,
            "stale": self.tally.stale,
            "mismatches": self.tally.mismatches,
            "wrong": self.tally.said,
            "writes_asked_about": self.writes(),
            "not_compared": self.tally.unjudged,
            "operations_per_s": self.per_second(self.operations()),
            "items_per_s": self.per_second(self.items()),
            "server_cpu_us_per_operation": self.cpu_us_of(self.operations()),
            "server_cpu_us_per_item": self.cpu_us_of(self.items()),
            "p50_us": quantile(0.5),
            "p99_us": quantile(0.99),
            "p999_us": quantile(0.999),
            "max_us": quantile(1.0),
            "by_operation": by_operation,
        })
    }

    /// How large the world is, in memory and on the disk.
    fn size_json(&self) -> Value {
        let families = self.disk.as_ref().map(|disk| {
            disk.families.iter().map(|(name, bytes)| ((*name).to_owned(), json!(bytes))).collect::<Map<_, _>>()
        });
        json!({
            "tuples": self.tuples,
            "delegations": self.delegations,
            "load_seconds": self.filling.map(seconds),
            "memory_bytes_empty": self.memory.empty_bytes,
            "memory_bytes_loaded": self.memory.loaded_bytes,
            "memory_bytes_end": self.memory.end_bytes,
            "memory_bytes_per_tuple": self.memory_bytes_per_tuple(self.memory.loaded_bytes),
            "memory_bytes_per_tuple_end": self.memory_bytes_per_tuple(self.memory.end_bytes),
            "disk_bytes": self.disk.as_ref().map(|disk| disk.folder_bytes),
            "disk_bytes_without_log": self.disk.as_ref().map(Disk::without_log),
            "disk_bytes_per_tuple": self.disk_bytes_per_tuple(),
            "disk_bytes_by_family": families,
        })
    }

    /// Writes, each of which the next check was held against.
    fn writes(&self) -> u64 {
        self.tally.of(Operation::Write).map_or(0, |counted| counted.items)
    }

    /// A row for each kind of call.
    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["", "calls", "calls/s", "items/s", "p50 µs", "p99 µs", "p99.9 µs", "max µs"]);
        for (operation, Counted { took, items }) in self.counted() {
            table.add_row([
                operation.as_str().to_owned(),
                took.len().to_string(),
                format!("{:.0}", self.per_second(took.len())),
                format!("{:.0}", self.per_second(*items)),
                format!("{:.0}", micros(took, 0.5)),
                format!("{:.0}", micros(took, 0.99)),
                format!("{:.0}", micros(took, 0.999)),
                format!("{:.0}", took.max() as f64 / 1_000.0),
            ]);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    fn summary(&self) -> String {
        let shown = |number: Option<f64>, unit: &str| number.map_or("unknown".to_owned(), |it| format!("{it} {unit}"));
        let part = self.part.as_ref().map(|part| format!(", {part} alone")).unwrap_or_default();
        let pace = match self.pace {
            Pace::Closed(concurrency) => format!("{concurrency} in flight"),
            Pace::Open(rate) => format!("{rate} due a second"),
        };
        let Tally { errors, stale, mismatches, unjudged, .. } = &self.tally;
        let writes = self.writes();
        let mut lines = vec![
            String::new(),
            format!("world        {}: {} {}{part}; {} tuples", self.world, self.scale, self.unit, self.tuples),
            format!("machine      {}", self.place.line()),
            format!("seed         {}", self.seed),
            format!(
                "load         {}, {pace}, {} connections, {:.1} s",
                self.mix,
                self.connections,
                self.took.as_secs_f64()
            ),
            format!(
                "server cpu   {} an operation, {} an item",
                shown(self.cpu_us_of(self.operations()), "µs"),
                shown(self.cpu_us_of(self.items()), "µs")
            ),
            format!(
                "memory       {} a tuple, {} at the end",
                shown(self.memory_bytes_per_tuple(self.memory.loaded_bytes), "bytes"),
                shown(self.memory_bytes_per_tuple(self.memory.end_bytes), "bytes")
            ),
        ];
        if self.disk.is_some() {
            let shown = shown(self.disk_bytes_per_tuple(), "bytes");
            lines.push(format!("disk         {shown} a tuple, without the changelog"));
        }
        lines.push(format!("errors       {errors}"));
        lines
            .push(format!("stale        {stale} of {writes} writes, each asked about at once over another connection"));
        let beside = if *unjudged > 0 { format!("; {unjudged} lists and filters not compared") } else { String::new() };
        lines.push(format!("mismatches   {mismatches}{beside}"));
        lines.join("\n")
    }
}
