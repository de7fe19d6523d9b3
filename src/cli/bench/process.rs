//! What a server's process has used, read from `/proc`. Where that cannot be had, nothing is claimed.

use super::place::kilobytes;
use std::time::Duration;

/// How many of its ticks the kernel tells for a second, on every architecture it runs on.
const TICKS_PER_SECOND: u64 = 100;

/// A process by its number.
#[derive(Clone, Copy, Debug)]
pub struct Process(pub u32);

impl Process {
    /// Processor time used so far, by itself and by the kernel for it, in steps of 10 ms.
    pub fn cpu(self) -> Option<Duration> {
        cpu_of(&std::fs::read_to_string(format!("/proc/{}/stat", self.0)).ok()?)
    }

    /// Memory it holds now, in bytes.
    pub fn memory_bytes(self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0)).ok()?;
        status.lines().find_map(|line| kilobytes(line, "VmRSS:"))
    }
}

/// The 14th and 15th field; the second is a name in parentheses, which may hold anything.
fn cpu_of(stat: &str) -> Option<Duration> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let spent = ticks()?.checked_add(ticks()?)?;
    Some(Duration::from_millis(spent * 1_000 / TICKS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_behind_any_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 8 0 1";
        assert_eq!(cpu_of(stat), Some(Duration::from_secs(3)));
        assert_eq!(cpu_of("42 (a) S 1"), None);
    }

    #[test]
    fn this_process_uses_some() {
        let own = Process(std::process::id());
        assert!(own.memory_bytes().is_some_and(|bytes| bytes > 100_000));
        assert!(own.cpu().is_some());
    }
}
