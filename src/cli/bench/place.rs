//! Where a figure was measured: without the machine and the commit it says nothing.

use std::process::Command;

/// The machine and the build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The processor, as it calls itself.
    pub processor: String,
    pub cores: usize,
    pub memory_bytes: Option<u64>,
    /// Of the sources this was built from, where they are still there; `-dirty` if they were changed since.
    pub commit: String,
    /// `release` or `debug`.
    pub build: &'static str,
}

impl Place {
    /// This one.
    #[must_use]
    pub fn here() -> Place {
        let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Place {
            processor: processor.map_or("unknown processor", |(_, name)| name.trim()).to_owned(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_bytes: memory.lines().find_map(|line| kilobytes(line, "MemTotal:")),
            commit: commit(),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
        }
    }

    /// One line for a person.
    #[must_use]
    pub fn line(&self) -> String {
        let Place { processor, cores, memory_bytes, commit, build } = self;
        let memory = memory_bytes.map(|bytes| format!(", {} GiB", bytes.div_ceil(1 << 30))).unwrap_or_default();
        format!("{processor}, {cores} cores{memory} · commit {commit} ({build})")
    }
}

/// A line of `/proc` such as `VmRSS:   1234 kB`, in bytes.
pub fn kilobytes(line: &str, name: &str) -> Option<u64> {
    let count = line.strip_prefix(name)?.trim().strip_suffix("kB")?;
    count.trim().parse::<u64>().ok()?.checked_mul(1_024)
}

fn commit() -> String {
    let git = Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"])
        .output();
    match git {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Ok(_) | Err(_) => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_proc_is_read() {
        assert_eq!(kilobytes("VmRSS:\t    2048 kB", "VmRSS:"), Some(2 << 20));
        assert_eq!(kilobytes("VmSize:\t    2048 kB", "VmRSS:"), None);
        assert_eq!(kilobytes("VmRSS:\t    many kB", "VmRSS:"), None);
    }
}
