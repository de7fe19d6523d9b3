//! `procura tuple watch`: every change as a line, for as long as one listens.

use super::exit::{Exit, Failure};
use super::output::Output;
use super::reach::Server;
use crate::api::client::{WatchOptions, WatchStart, Watched};
use crate::engine::{WatchChange, WatchKind, WatchWrite};
use crate::model::{Delegation, NameError, RelationName, TypeName, UpdateKind};
use clap::{Args, ValueEnum};
use serde_json::json;
use std::io;

const EXAMPLES: &str = "\
Examples:
  procura tuple watch                                from now on
  procura tuple watch --from-start --json            everything there ever was
  procura tuple watch --object-type document --relation viewer
  procura tuple watch --kind delegations --kind suspensions
  procura tuple watch --after TOKEN                  go on where it stopped

A `through` line follows each revision: what stands before it is complete, and
--after goes on from its token. Changes below the last one come again.";

/// Watch every change as it is made, or from a token on
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Watch {
    /// Begin right after this token, which an earlier watch or reply gave
    #[arg(long, value_name = "TOKEN", conflicts_with = "from_start")]
    after: Option<String>,
    /// Begin with the first change there ever was
    #[arg(long)]
    from_start: bool,
    /// Only tuples of this type; may be given several times. Other kinds of change show all the same
    #[arg(long, value_name = "TYPE")]
    object_type: Vec<String>,
    /// Only tuples of this relation; may be given several times. Other kinds of change show all the same
    #[arg(long, value_name = "RELATION")]
    relation: Vec<String>,
    /// Only changes of this kind; may be given several times
    #[arg(long, value_enum, value_name = "KIND")]
    kind: Vec<Kind>,
    /// Have the server say something at least this often; shown with --json
    #[arg(long, value_name = "SECONDS")]
    heartbeat: Option<u32>,
    /// Stop once this many changes were shown, at the end of a revision
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    #[command(flatten)]
    server: Server,
}

/// What kinds of change there are.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Tuples,
    Schemas,
    Delegations,
    Suspensions,
}

impl Watch {
    /// Shows changes until the limit, or until the watch ends.
    pub fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let options = self.options()?;
        let client = self.server.connect()?;
        let (mut shown, mut last, mut broken) = (0, None, None);
        let outcome = client.watch(&options, &mut |watched| {
            match show(output, &watched) {
                Ok(changes) => shown += changes,
                Err(error) => broken = Some(error),
            }
            let is_whole = watched.through.is_some();
            last = watched.through.or(last.take());
            broken.is_none() && !(is_whole && self.limit.is_some_and(|limit| shown >= limit))
        });
        if let Some(error) = broken {
            return Err(error.into());
        }
        if let Err(error) = outcome {
            let token = error.fact("token").map(str::to_owned).or(last);
            let failure = Failure::from(error);
            return Err(match token {
                Some(token) => failure.with_hint(format!("go on with --after {token}")),
                None => failure,
            });
        }
        Ok(Exit::Success)
    }

    fn options(&self) -> Result<WatchOptions, Failure> {
        let wrong = |option: &str, text: &str, error: &NameError| Failure::usage(format!("`{option} {text}`: {error}"));
        let types = self
            .object_type
            .iter()
            .map(|text| TypeName::new(text.as_str()).map_err(|error| wrong("--object-type", text, &error)));
        let relations = self
            .relation
            .iter()
            .map(|text| RelationName::new(text.as_str()).map_err(|error| wrong("--relation", text, &error)));
        Ok(WatchOptions {
            from: match &self.after {
                Some(token) => WatchStart::After(token.clone()),
                None if self.from_start => WatchStart::Start,
                None => WatchStart::Now,
            },
            object_types: types.collect::<Result<_, _>>()?,
            relations: relations.collect::<Result<_, _>>()?,
            kinds: self.kind.iter().map(|kind| kind.meant()).collect(),
            heartbeat_s: self.heartbeat,
        })
    }
}

impl Kind {
    fn meant(self) -> WatchKind {
        match self {
            Kind::Tuples => WatchKind::Tuples,
            Kind::Schemas => WatchKind::Schemas,
            Kind::Delegations => WatchKind::Delegations,
            Kind::Suspensions => WatchKind::Suspensions,
        }
    }
}

/// Prints one message; returns the number of changes in it. Nothing waits in a buffer: somebody looks on.
fn show(output: &mut Output, watched: &Watched) -> io::Result<u64> {
    let mut changes = 0;
    for write in &watched.writes {
        changes += write.changes.len() as u64;
        for change in &write.changes {
            show_change(output, write, change)?;
        }
    }
    if let Some(token) = &watched.through {
        if output.is_json() {
            output.value(&json!({"through": token}))?;
        } else if changes > 0 {
            output.line(format_args!("through {token}"))?;
        }
    }
    output.flush()?;
    Ok(changes)
}

fn show_change(output: &mut Output, write: &WatchWrite, change: &WatchChange) -> io::Result<()> {
    let (at, metadata) = (write.at.to_string(), &write.metadata);
    match change {
        WatchChange::Tuple(update) => {
            let operation = match update.kind {
                UpdateKind::Create => "create",
                UpdateKind::Touch => "touch",
                UpdateKind::Delete => "delete",
            };
            if output.is_json() {
                let tuple = update.tuple.to_string();
                output.value(&json!({"operation": operation, "tuple": tuple, "at": at, "metadata": metadata}))
            } else {
                output.line(format_args!("{operation:7} {}", update.tuple))
            }
        }
        WatchChange::Schema { text, digest } => {
            if output.is_json() {
                output.value(&json!({"schema": text, "digest": digest, "at": at, "metadata": metadata}))
            } else {
                output.line(format_args!("schema  {digest}"))
            }
        }
        WatchChange::Delegation { record, change } => {
            if output.is_json() {
                let change = change.as_str();
                output.value(&json!({"delegation": **record, "change": change, "at": at, "metadata": metadata}))
            } else {
                let Delegation { id, delegator, delegate, .. } = &**record;
                output.line(format_args!("{:8} {id} {delegator} => {delegate}", change.as_str().to_ascii_lowercase()))
            }
        }
        WatchChange::Suspended(suspension) => {
            if output.is_json() {
                output.value(&json!({"suspended": suspension, "at": at, "metadata": metadata}))
            } else {
                output.line(format_args!("suspend  {}", suspension.principal))
            }
        }
        WatchChange::Reinstated { principal } => {
            if output.is_json() {
                output.value(&json!({"reinstated": principal, "at": at, "metadata": metadata}))
            } else {
                output.line(format_args!("reinstate {principal}"))
            }
        }
    }
}
