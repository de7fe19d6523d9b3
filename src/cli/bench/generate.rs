//! `procura bench generate`: a world as plain text, so that any engine can be fed the same.

use super::worlds::draw::Draw;
use super::{Which, table_of_worlds};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Output;
use clap::Args;
use serde_json::json;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  procura bench generate deep --output deep
  procura bench generate drive --scale 10M --output /mnt/drive
  procura bench generate saas --scale small --seed 7 --output saas

Writes schema.zed, tuples.txt (what `procura tuple import` reads), queries.txt
and, for `delegated`, delegations.jsonl. A query is a line
  object permission subject [via DELEGATION] [CONTEXT] = allow|deny|conditional
such as
  document:x7 edit user:u3 {\"level\":2} = allow
The same world, scale and seed give the same bytes on every machine.";

fn after_help() -> String {
    format!("{}\n{EXAMPLES}", table_of_worlds())
}

/// Write a world's schema, tuples and queries with their answers as text files
#[derive(Args)]
#[command(after_help = after_help())]
pub struct Generate {
    #[command(flatten)]
    which: Which,
    /// The folder to write into; made when it is not there (default: named like the world)
    #[arg(long, visible_alias = "out", value_name = "DIR")]
    output: Option<PathBuf>,
    /// How many queries
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    queries: u64,
}

impl Generate {
    /// Writes the files.
    pub fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let world = self.which.open();
        let folder = self.output.unwrap_or_else(|| PathBuf::from(self.which.world.as_str()));
        std::fs::create_dir_all(&folder).map_err(|error| Failure::file(&folder, &error))?;

        write(&folder.join("schema.zed"), &mut |file| file.write_all(world.schema().as_bytes()))?;
        let mut tuples = 0_u64;
        write(&folder.join("tuples.txt"), &mut |file| {
            world.tuples(&mut |line| {
                tuples += 1;
                writeln!(file, "{line}")
            })
        })?;
        let mut draw = Draw::new(self.which.seed);
        write(&folder.join("queries.txt"), &mut |file| {
            (0..self.queries).try_for_each(|_| writeln!(file, "{}", world.ask(&mut draw, None)))
        })?;
        let deputies = world.deputies();
        if !deputies.is_empty() {
            write(&folder.join("delegations.jsonl"), &mut |file| {
                deputies.iter().try_for_each(|deputy| writeln!(file, "{}", deputy.to_json()))
            })?;
        }

        let (name, scale, seed) = (self.which.world.as_str(), self.which.count(), self.which.seed);
        let shown = folder.display();
        if output.is_json() {
            output.value(&json!({
                "world": name, "scale": scale, "seed": seed, "folder": shown.to_string(), "tuples": tuples,
                "queries": self.queries, "delegations": deputies.len(),
            }))?;
        } else {
            let unit = self.which.world.sizes().unit;
            output.line(format_args!("wrote {shown}: {name} of {scale} {unit}, seed {seed}"))?;
            output.line(format_args!("tuples       {tuples}"))?;
            output.line(format_args!("queries      {}", self.queries))?;
            if !deputies.is_empty() {
                output.line(format_args!("delegations  {}", deputies.len()))?;
            }
        }
        Ok(Exit::Success)
    }
}

fn write(path: &Path, content: &mut dyn FnMut(&mut BufWriter<File>) -> io::Result<()>) -> Result<(), Failure> {
    let written = File::create(path).and_then(|file| {
        let mut file = BufWriter::with_capacity(1 << 20, file);
        content(&mut file)?;
        file.flush()
    });
    written.map_err(|error| Failure::file(path, &error))
}
