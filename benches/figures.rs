//! What a figure needs to say something, and where criterion leaves it.

use procura::cli::bench::place::Place;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The machine, the commit and the seed: without them a figure says nothing.
pub fn print_where(seed: u64) {
    println!("machine: {} · seed: {seed}", Place::here().line());
}

/// Where criterion leaves its estimates.
pub fn output_folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    target.join("criterion")
}

/// Mean and its interval in microseconds, if it was measured in this run.
pub fn measured(output: &Path, group: &str, road: &str, size: usize, began: SystemTime) -> Option<(f64, f64, f64)> {
    let path = output.join(group).join(road).join(size.to_string()).join("new/estimates.json");
    if std::fs::metadata(&path).ok()?.modified().ok()? < began {
        return None;
    }
    let estimates: serde_json::Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    let mean = &estimates["mean"];
    let micros = |value: &serde_json::Value| value.as_f64().map(|nanos| nanos / 1_000.0);
    let interval = &mean["confidence_interval"];
    Some((micros(&mean["point_estimate"])?, micros(&interval["lower_bound"])?, micros(&interval["upper_bound"])?))
}
