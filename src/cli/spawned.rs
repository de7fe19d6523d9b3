//! A server of one's own: this very binary, started on a free port and ended when it is no longer wanted.

use super::exit::{Exit, Failure};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A server of our own; ended when dropped.
pub struct Spawned {
    child: Child,
    address: String,
}

impl Drop for Spawned {
    fn drop(&mut self) {
        // What it acknowledged is on the disk, so there is nothing to close in order.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Spawned {
    /// Starts `procura serve` over a data folder, with these arguments too, and waits until it says that it is ready.
    pub fn start<S: AsRef<OsStr>>(data: &Path, more: impl IntoIterator<Item = S>) -> Result<Spawned, Failure> {
        let cannot =
            |what: &dyn std::fmt::Display| Failure::new(Exit::Refused, format!("cannot start a server: {what}"));
        let binary = std::env::current_exe().map_err(|error| cannot(&error))?;
        let mut command = Command::new(binary);
        command.args(["--json", "serve", "--listen", "127.0.0.1:0", "--data"]).arg(data).args(more);
        // Not that whoever reaches it may do anything: it is ours alone.
        command.env("PROCURA_LOG", "error").stdin(Stdio::null()).stdout(Stdio::piped());
        let child = command.spawn().map_err(|error| cannot(&error))?;
        let mut spawned = Spawned { child, address: String::new() };
        let stdout = spawned.child.stdout.take().ok_or_else(|| cannot(&"no pipe from it"))?;
        let mut line = String::new();
        // Ends when the server says so or dies; it says nothing else on its standard output.
        BufReader::new(stdout).read_line(&mut line).map_err(|error| cannot(&error))?;
        spawned.address = ready_address(&line).ok_or_else(|| cannot(&"it ended before it was ready"))?;
        Ok(spawned)
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

fn ready_address(line: &str) -> Option<String> {
    let said: serde_json::Value = serde_json::from_str(line).ok()?;
    said.get("address")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_names_the_address() {
        let line = "{\"address\":\"127.0.0.1:4711\",\"data\":\"d\",\"ready\":true}\n";
        assert_eq!(ready_address(line).as_deref(), Some("127.0.0.1:4711"));
        assert_eq!(ready_address(""), None);
        assert_eq!(ready_address("ready"), None);
    }
}
