//! What a figure needs to say something, and where criterion leaves it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// The machine, the commit and the seed: without them a figure says nothing.
pub fn print_where(seed: u64) {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("unknown processor", |(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let revision = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
    let commit = match revision {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Ok(_) | Err(_) => "unknown".to_owned(),
    };
    println!("machine: {model}, {cores} cores · commit: {commit} · seed: {seed}");
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
