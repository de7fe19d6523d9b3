//! `procura bench`: worlds to measure with, and what a server makes of them.
//!
//! INVARIANT: a figure comes with the machine, the commit and the seed it was measured at, and is worth nothing where an
//! answer was wrong: every answer is compared with what the world says, and a run with a wrong one does not end in 0.

pub mod worlds;
pub mod place;
pub mod ready;
mod generate;
mod run;
mod fill;
mod load;
mod process;
mod report;
mod plot;
mod table;

use super::exit::{Exit, Failure};
use super::output::Output;
use clap::{Args, Subcommand, ValueEnum};
use std::fmt::Write as _;
use worlds::{Scale, Sizes, World, WorldName};

/// Make worlds of any size, and measure a server with them
#[derive(Subcommand)]
pub enum Bench {
    Generate(generate::Generate),
    Run(Box<run::Run>),
    Table(table::Table),
}

impl Bench {
    /// Runs the command of them that was named.
    pub fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        match self {
            Bench::Generate(generate) => generate.run(output),
            Bench::Run(run) => run.run(output),
            Bench::Table(table) => table.run(output),
        }
    }
}

/// Which world, how large, from which seed.
#[derive(Args, Clone, Copy)]
struct Which {
    /// The world
    #[arg(value_name = "WORLD")]
    world: WorldName,
    /// How large: `small`, `medium`, `full`, or a number of what the world counts, such as 20k or 10M
    #[arg(long, value_name = "SCALE", default_value = "medium")]
    scale: Scale,
    /// What everything is drawn from: the same seed, the same world and the same questions
    #[arg(long, value_name = "N", default_value_t = 20_261_125)]
    seed: u64,
}

impl Which {
    fn count(&self) -> u64 {
        self.scale.of(self.world)
    }

    fn open(&self) -> Box<dyn World> {
        self.world.at(self.count(), self.seed)
    }
}

/// The worlds with what their scales count, for a help text.
fn table_of_worlds() -> String {
    let mut text = String::from("Worlds, and what --scale small, medium (the default) and full are of them:\n");
    for name in WorldName::value_variants() {
        let Sizes { unit, small, medium, full } = name.sizes();
        let counts = [small, medium, full].map(short).join(", ");
        // A string takes whatever is written.
        let _ = writeln!(text, "  {:<10} {counts:<18} {unit}", name.as_str());
    }
    text
}

/// 20k, 10M.
fn short(count: u64) -> String {
    match count {
        0..1_000 => count.to_string(),
        _ if count.is_multiple_of(1_000_000) => format!("{}M", count / 1_000_000),
        _ if count.is_multiple_of(1_000) => format!("{}k", count / 1_000),
        _ => count.to_string(),
    }
}
