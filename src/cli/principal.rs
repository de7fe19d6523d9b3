//! `procura principal`: the kill switch, and who it is thrown for.

use super::delegation::{Because, in_pages, parsed, saying};
use super::exit::{Exit, Failure};
use super::output::Output;
use super::reach::{Beside, Provided, Server, When};
use crate::api::client::{Page, PageAt};
use crate::model::{ObjectRef, Suspension};
use clap::{Args, Subcommand};
use serde_json::json;

/// Suspend and reinstate principals: one switch that denies in every part
#[derive(Subcommand)]
pub enum Principal {
    Suspend(Suspend),
    Reinstate(Reinstate),
    List(List),
}

const SUSPEND_EXAMPLES: &str = "\
Examples:
  procura principal suspend agent:bot --reason 'leaked key'
  procura principal suspend user:rita --must-match 'org:acme#leaver@user:rita'

From the reply on it is denied: asked about alone, and as root, link or caller
of any delegation. Nobody else is touched, and nothing else is written, so
reinstating it restores all. Suspending a group does not touch its members.";

/// Deny a principal everything, until it is reinstated
#[derive(Args)]
#[command(after_help = SUSPEND_EXAMPLES)]
pub struct Suspend {
    /// TYPE:ID
    #[arg(value_name = "PRINCIPAL")]
    principal: String,
    #[command(flatten)]
    because: Because,
    #[command(flatten)]
    provided: Provided,
    #[command(flatten)]
    beside: Beside,
    #[command(flatten)]
    server: Server,
}

/// End a suspension: what the principal had, it has again
#[derive(Args)]
pub struct Reinstate {
    /// TYPE:ID
    #[arg(value_name = "PRINCIPAL")]
    principal: String,
    #[command(flatten)]
    provided: Provided,
    #[command(flatten)]
    beside: Beside,
    #[command(flatten)]
    server: Server,
}

/// List who is suspended, since when and why
#[derive(Args)]
pub struct List {
    /// Stop after this many (default: all)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Go on where an earlier list stopped, as it said
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
    #[command(flatten)]
    when: When,
    #[command(flatten)]
    server: Server,
}

impl Principal {
    /// Runs the subcommand.
    pub fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        match self {
            Principal::Suspend(suspend) => suspend.run(output),
            Principal::Reinstate(reinstate) => reinstate.run(output),
            Principal::List(list) => list.run(output),
        }
    }
}

impl Suspend {
    fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let principal: ObjectRef = parsed("PRINCIPAL", &self.principal)?;
        let saying = saying(self.because.reason, &self.provided, &self.beside)?;
        let done = self.server.connect()?.suspend_principal(&principal, &saying)?;
        let (now, before) = ("suspended", "was suspended already");
        tell(output, &principal, if done.changed { now } else { before }, done.changed, &done.token)
    }
}

impl Reinstate {
    fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let principal: ObjectRef = parsed("PRINCIPAL", &self.principal)?;
        let saying = saying(String::new(), &self.provided, &self.beside)?;
        let done = self.server.connect()?.reinstate_principal(&principal, &saying)?;
        let (now, before) = ("reinstated", "was not suspended");
        tell(output, &principal, if done.changed { now } else { before }, done.changed, &done.token)
    }
}

fn tell(output: &mut Output, principal: &ObjectRef, what: &str, changed: bool, token: &str) -> Result<Exit, Failure> {
    if output.is_json() {
        output.value(&json!({"principal": principal, "changed": changed, "token": token}))?;
    } else {
        output.line(format_args!("{principal} {what}"))?;
        output.line(format_args!("token   {token}"))?;
    }
    Ok(Exit::Success)
}

impl List {
    fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let client = self.server.connect()?;
        let at = self.when.at();
        in_pages(output, self.limit, self.cursor, "suspended", |size, cursor, output| {
            let page = PageAt { at: at.clone(), size, cursor, clock: None };
            let Page { rows, next_cursor, token: _ } = client.list_suspended(&page)?;
            for suspension in &rows {
                if output.is_json() {
                    output.value(&json!(suspension))?;
                } else {
                    let Suspension { principal, since, reason } = suspension;
                    let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
                    output.line(format_args!("{principal} since {since}{reason}"))?;
                }
            }
            Ok((rows.len() as u64, next_cursor))
        })?;
        Ok(Exit::Success)
    }
}
