//! `procura verify`: is a data folder what its log says? Offline: no server may have it open.

use super::exit::{Exit, Failure};
use super::output::Output;
use crate::engine::{Engine, Error, Kind, Options, Verified};
use clap::Args;
use serde_json::json;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  procura verify --data ./data
  procura verify --data /var/lib/procura --scratch /mnt/space

Everything that ever changed is replayed from the log into an empty store, which
is then compared with the data, byte for byte. It needs about as much room as
the data itself, beside the folder or in --scratch, and removes it again.";

/// Verify a data folder against its own log; no server may have it open
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Verify {
    /// The folder of the embedded store
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Where the replay may take room (default: beside the folder)
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
}

impl Verify {
    /// Replays and compares; a difference is exit code 1.
    pub fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        // Opening makes a folder that is not there: a misspelt path would verify well.
        let mut entries = std::fs::read_dir(&self.data).map_err(|error| Failure::file(&self.data, &error))?;
        if entries.next().is_none() {
            return Err(Failure::usage(format!("`{}` is empty", self.data.display())));
        }
        let beside = self.data.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let room = self.scratch.as_deref().unwrap_or(beside);
        let scratch = tempfile::Builder::new().prefix("procura-verify-").tempdir_in(room);
        let scratch = scratch.map_err(|error| Failure::file(room, &error))?;
        let verified = Engine::open(Options::at(&self.data)).and_then(|engine| engine.verify(scratch.path()));
        match verified {
            Ok(Verified { revision, log_entries, keys }) => {
                if output.is_json() {
                    let value =
                        json!({"verified": true, "revision": revision.0, "log_entries": log_entries, "keys": keys});
                    output.value(&value)?;
                } else {
                    output.line(format_args!("the data is what its log says"))?;
                    output.line(format_args!("revision     {revision}"))?;
                    output.line(format_args!("log entries  {log_entries}"))?;
                    output.line(format_args!("keys         {keys}"))?;
                }
                Ok(Exit::Success)
            }
            Err(error) if error.kind == Kind::DataLoss => {
                let what = difference(&error);
                if output.is_json() {
                    output.value(&json!({"verified": false, "difference": what}))?;
                } else {
                    output.line(format_args!("the data is not what its log says: {what}"))?;
                }
                Ok(Exit::Negative)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Whoever may read the folder may read what a server would only log.
fn difference(error: &Error) -> String {
    error.detail.clone().unwrap_or_else(|| error.message.clone())
}
