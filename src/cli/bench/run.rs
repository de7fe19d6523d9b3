//! `procura bench run`: brings a world into a server, drives it over gRPC, says what it did.

use super::fill::{Filled, fill, known};
use super::load::{Load, Mix, Operation, Wanted};
use super::place::Place;
use super::process::Process;
use super::report::{Disk, Figures, Memory};
use super::worlds::{World, WorldName};
use super::{Which, plot, table_of_worlds};
use crate::api::client::{Client, Driver, Pace, Until};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Output;
use crate::cli::reach::connect;
use crate::cli::spawned::Spawned;
use crate::engine::{Engine, Options};
use clap::Args;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const EXAMPLES: &str = "\
Examples:
  procura bench run deep
  procura bench run deep --part 64 --mix check=100 --concurrency 64 --connections 4 --seconds 10
  procura bench run drive --scale 1M --mix check=90,bulk=5,list=4,write=1 --json
  procura bench run saas --open-loop 20000 --plot latency.svg
  procura bench run groups --freshness --operations 1000000
  procura bench run large --scale full --server-arg=--memory-limit=2000000000
  procura bench run drive --data ./drive && procura bench run drive --data ./drive --loaded --mix list=1

Without --server it starts one of its own on a free port, over a temporary
folder unless --data names one. PROCURA_SERVER is not read: a load is for no
server by accident.

In a closed loop, --concurrency calls are in flight at any time. With
--open-loop RATE they are made by the clock, and a call's time runs from the
instant at which it was due, also where the server was still busy then.

Every answer is compared with what the world expects. Every write is a grant or
a revocation, and as soon as it is acknowledged it is asked about over another
connection: what does not show it is counted as stale. Exit code 0 only if there
was no error, nothing stale and nothing wrong, 1 otherwise.";

fn after_help() -> String {
    format!("{}\n{EXAMPLES}", table_of_worlds())
}

/// Drive a server over gRPC with a world, and report what it did
#[derive(Args)]
#[command(after_help = after_help())]
pub struct Run {
    #[command(flatten)]
    which: Which,
    /// Ask only this kind of question, such as the depth `64` of `deep` or `chain-8` of `delegated`
    #[arg(long, value_name = "NAME")]
    part: Option<String>,
    /// What is asked how often: KIND=WEIGHT of check, bulk, filter, list, write
    #[arg(long, value_name = "MIX", default_value = "check=100", conflicts_with = "freshness")]
    mix: Mix,
    /// Only writes: is each seen by the very next check over another connection?
    #[arg(long)]
    freshness: bool,
    /// Calls in flight
    #[arg(long, value_name = "COUNT", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=16_384))]
    concurrency: u32,
    /// Connections they are spread over
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    connections: u32,
    /// By the clock: so many calls a second, whatever becomes of those before
    #[arg(long, value_name = "RATE", value_parser = rate, conflicts_with = "concurrency")]
    open_loop: Option<f64>,
    /// How long is measured (default: 10, without --operations)
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    seconds: Option<Duration>,
    /// Ends after so many calls
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    operations: Option<u64>,
    /// How long it is driven before it is measured
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    warm_up: Duration,
    /// Questions in one bulk call, ids in one filter
    #[arg(long, value_name = "COUNT", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    bulk_items: u32,
    /// Different questions that are asked in turn
    #[arg(long, value_name = "COUNT", default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    questions: u64,
    /// A running server instead of one's own: HOST:PORT. It must be empty
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["data", "server_arg"])]
    server: Option<String>,
    /// Its process, if it runs on this machine: processor time and memory are read from it
    #[arg(long, value_name = "PID", requires = "server")]
    server_pid: Option<u32>,
    /// The data folder of one's own server, kept afterwards (default: a temporary one)
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// One more argument for one's own server: --server-arg=--memory-limit=1000000000. May be given several times
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    server_arg: Vec<String>,
    /// The data folder or the server holds this world already
    #[arg(long)]
    loaded: bool,
    /// Draw how long the calls took, as an SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

/// More than nothing, and less than a month.
fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.parse::<f64>().ok().filter(|number| (0.0..=2_592_000.0).contains(number));
    number.map(Duration::from_secs_f64).ok_or_else(|| "not a number of seconds, such as 10 or 0.5".to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| (0.001..=10_000_000.0).contains(number));
    number.ok_or_else(|| "not a number of calls a second, such as 20000".to_owned())
}

/// The server that is driven.
enum Driven {
    Own { server: Spawned, data: PathBuf, _temporary: Option<TempDir> },
    Given { address: String, process: Option<Process> },
}

impl Driven {
    fn address(&self) -> &str {
        match self {
            Driven::Own { server, .. } => server.address(),
            Driven::Given { address, .. } => address,
        }
    }

    fn process(&self) -> Option<Process> {
        match self {
            Driven::Own { server, .. } => Some(Process(server.id())),
            Driven::Given { process, .. } => *process,
        }
    }
}

impl Run {
    /// All of it; ends in 1 where anything was wrong.
    pub fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let world = self.which.open();
        let part = self.part_of(&*world)?;
        let place = Place::here();
        let (name, scale) = (self.which.world.as_str(), self.which.count());
        let unit = self.which.world.sizes().unit;
        output.note(format_args!("{} · seed {}", place.line(), self.which.seed));

        let driven = self.start()?;
        let client = connect(driven.address())?;
        let process = driven.process();
        let empty_bytes = process.and_then(Process::memory_bytes);
        let filled = self.filled(&client, &*world, (name, scale, unit), output)?;
        let loaded_bytes = process.and_then(Process::memory_bytes);

        let mix = if self.freshness { Mix::only(Operation::Write) } else { self.mix.clone() };
        let (pace, in_flight) = match self.open_loop {
            Some(rate) => (Pace::Open(rate), Driver::IN_FLIGHT_MAX as usize),
            None => (Pace::Closed(self.concurrency as usize), self.concurrency as usize),
        };
        let wanted = Wanted {
            mix: mix.clone(),
            part,
            questions: self.questions,
            bulk_items: self.bulk_items as usize,
            in_flight,
            seed: self.which.seed,
        };
        let load = Arc::new(Load::new(&*world, &filled.ids, &wanted)?);
        let driver = Driver::connect(driven.address(), self.connections as usize)?;
        let seconds = match (self.seconds, self.operations) {
            (None, None) => Some(Duration::from_secs(10)),
            (seconds, _) => seconds,
        };
        if !self.warm_up.is_zero() {
            driver.drive(&load, pace, Until { time: Some(self.warm_up), calls: None })?;
        }
        let warm = load.take();
        output.note(format_args!("asking {mix}"));
        let cpu_before = process.and_then(Process::cpu);
        let took = driver.drive(&load, pace, Until { time: seconds, calls: self.operations })?;
        let cpu_after = process.and_then(Process::cpu);
        let mut tally = load.take();
        // What was wrong in the warm-up is as wrong.
        tally.add_wrongs(&warm);
        let end_bytes = process.and_then(Process::memory_bytes);
        drop((driver, client));
        let disk = stop(driven, output)?;

        let figures = Figures {
            world: name,
            scale,
            unit,
            seed: self.which.seed,
            part: self.part.clone(),
            mix: mix.to_string(),
            freshness: self.freshness,
            pace,
            connections: self.connections,
            bulk_items: self.bulk_items,
            place,
            server_arguments: self.server_arg.clone(),
            tuples: filled.tuples,
            filling: (!self.loaded).then_some(filled.took),
            delegations: filled.ids.len(),
            took,
            cpu: cpu_before.zip(cpu_after).map(|(before, after)| after.saturating_sub(before)),
            memory: Memory { empty_bytes, loaded_bytes, end_bytes },
            disk,
            tally,
        };
        if let Some(path) = &self.plot {
            std::fs::write(path, plot::latencies(&figures)?).map_err(|error| Failure::file(path, &error))?;
            output.note(format_args!("drawn: {}", path.display()));
        }
        figures.tell(output)?;
        Ok(if figures.is_right() { Exit::Success } else { Exit::Negative })
    }

    fn part_of(&self, world: &dyn World) -> Result<Option<usize>, Failure> {
        let Some(name) = &self.part else { return Ok(None) };
        let parts = world.parts();
        let known = if parts.is_empty() { "it has none".to_owned() } else { format!("it has {}", parts.join(", ")) };
        parts.iter().position(|part| part == name).map(Some).ok_or_else(|| {
            Failure::usage(format!("`--part {name}`: `{}` has no such part", self.which.world.as_str()))
                .with_hint(known)
        })
    }

    fn start(&self) -> Result<Driven, Failure> {
        if let Some(address) = &self.server {
            return Ok(Driven::Given { address: address.clone(), process: self.server_pid.map(Process) });
        }
        let (data, temporary) = match &self.data {
            Some(data) => (data.clone(), None),
            None => {
                let folder = tempfile::Builder::new().prefix("procura-bench-").tempdir();
                let folder = folder
                    .map_err(|error| Failure::new(Exit::Refused, format!("cannot make a temporary folder: {error}")))?;
                (folder.path().join("data"), Some(folder))
            }
        };
        let mut arguments = self.server_arg.clone();
        let is_given = arguments.iter().any(|argument| argument.starts_with("--delegation-depth-max"));
        if self.which.world == WorldName::Delegated && !is_given {
            arguments.push("--delegation-depth-max=8".to_owned());
        }
        let server = Spawned::start(&data, &arguments)?;
        Ok(Driven::Own { server, data, _temporary: temporary })
    }

    fn filled(
        &self,
        client: &Client,
        world: &dyn World,
        (name, scale, unit): (&str, u64, &str),
        output: &mut Output,
    ) -> Result<Filled, Failure> {
        if self.loaded {
            let ids = known(client, world)?;
            let mut tuples = 0;
            // Counting writes nothing, so nothing fails.
            world.tuples(&mut |_| {
                tuples += 1;
                Ok(())
            })?;
            return Ok(Filled { tuples, took: Duration::ZERO, ids });
        }
        output.note(format_args!("loading {name}: {scale} {unit}"));
        let filled = fill(client, world, output)?;
        let seconds = filled.took.as_secs_f64();
        let rate = filled.tuples as f64 / seconds;
        output.note(format_args!("  {} tuples in {seconds:.1} s, {rate:.0} a second", filled.tuples));
        Ok(filled)
    }
}

/// Ends one's own server and weighs what it left.
fn stop(driven: Driven, output: &mut Output) -> Result<Option<Disk>, Failure> {
    match driven {
        Driven::Given { .. } => Ok(None),
        Driven::Own { server, data, _temporary: temporary } => {
            drop(server);
            output.note("weighing what is on the disk");
            let families = Engine::open(Options::at(&data))?.disk_bytes()?;
            let folder_bytes = folder_bytes(&data).map_err(|error| Failure::file(&data, &error))?;
            drop(temporary);
            Ok(Some(Disk { families, folder_bytes }))
        }
    }
}

/// Of all files in a folder, which has none beneath it.
fn folder_bytes(folder: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let found = entry?.metadata()?;
        if found.is_file() {
            bytes += found.len();
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_make_no_sense_are_refused() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(rate("20000"), Ok(20_000.0));
        for wrong in ["", "x", "-1", "NaN", "inf", "1e30"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
            assert!(rate(wrong).is_err(), "{wrong}");
        }
        assert!(rate("0").is_err());
    }
}
