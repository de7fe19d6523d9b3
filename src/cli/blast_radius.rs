//! `procura blast-radius`: all that a principal can reach now, by each authority.

use super::acting::{add_json, chain_text};
use super::exit::{Exit, Failure};
use super::output::{Output, decision as coloured};
use super::reach::{Given, Server, When};
use crate::engine::ReachedRow;
use crate::model::{ChainLink, ObjectRef};
use clap::Args;
use serde_json::json;
use std::io;

const EXAMPLES: &str = "\
Examples:
  procura blast-radius agent:coder
  procura blast-radius agent:coder --json

What the principal may do on its own stands first, then what it may do by each
live delegation, whole chains judged now. A suspended principal reaches nothing:
`procura principal suspend agent:coder` is the kill switch.";

/// All that a principal can reach: on its own, and through each live delegation
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct BlastRadius {
    /// TYPE:ID, such as an agent that may be compromised
    #[arg(value_name = "PRINCIPAL")]
    principal: String,
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    when: When,
    #[command(flatten)]
    server: Server,
}

/// By whom and with what the row before was reached.
type Heading = (Vec<ChainLink>, String, String);

impl BlastRadius {
    /// Asks, and prints each row as it comes.
    pub fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let principal: ObjectRef = self
            .principal
            .parse()
            .map_err(|error| Failure::usage(format!("PRINCIPAL `{}`: {error}", self.principal)))?;
        let under = self.given.under(&self.when)?;
        let client = self.server.connect()?;
        let mut broken: Option<io::Error> = None;
        let (mut last, mut count): (Option<Heading>, u64) = (None, 0);
        let (_, is_suspended) = client.blast_radius(&principal, &under, &mut |row| {
            count += 1;
            broken = print(output, &row, &mut last).err();
            broken.is_none()
        })?;
        if let Some(error) = broken {
            return Err(error.into());
        }
        if is_suspended {
            output.note(format!("{principal} is suspended: it reaches nothing until it is reinstated"));
        } else if count == 0 {
            output.note(format!("{principal} reaches nothing"));
        }
        Ok(Exit::Success)
    }
}

fn print(output: &mut Output, row: &ReachedRow, last: &mut Option<Heading>) -> io::Result<()> {
    let ReachedRow { chain, permission, object, decision, missing } = row;
    if output.is_json() {
        let mut json = json!({
            "permission": permission.to_string(),
            "object": object.to_string(),
            "decision": decision.as_str(),
            "missing_context": missing,
        });
        add_json(&mut json, None, chain);
        return output.value(&json);
    }
    let heading = (chain.clone(), object.object_type.to_string(), permission.to_string());
    if last.as_ref().is_none_or(|last| last.0 != heading.0) {
        match chain.as_slice() {
            [] => output.line("on its own")?,
            chain => output.line(format_args!("for {}", chain_text(chain)))?,
        }
    }
    if last.as_ref() != Some(&heading) {
        output.line(format_args!("  {}#{permission}", object.object_type))?;
    }
    *last = Some(heading);
    let needs = if missing.is_empty() {
        String::new()
    } else {
        format!("  {} needs {}", coloured(*decision), missing.join(", "))
    };
    output.line(format_args!("    {object}{needs}"))
}
