//! Floor 6: the command line. One file per command; what several share stands beside them.
//!
//! What always holds: standard output carries results and nothing else, standard error carries what a person should
//! know about them; `--json` makes both machine-readable; the exit code alone tells the outcome (see `exit`).

mod acting;
pub mod bench;
mod blast_radius;
mod check;
mod delegation;
mod exit;
mod expand;
mod explain;
mod export;
mod filter;
mod import;
mod info;
mod input;
mod list;
mod output;
mod principal;
mod reach;
mod schema;
mod serve;
mod spawned;
mod test;
mod tree;
mod tuple;
mod verify;
mod watch;
mod witness;

use clap::{Parser, Subcommand};
use exit::{Exit, Failure};
use output::Output;
use std::ffi::OsString;
use std::process::ExitCode;

const ABOUT_LONG: &str = "\
Procura answers one question: may this subject do that to this object? It answers from relation tuples \
(`document:plan#viewer@user:rita`) and a schema that says what follows from them, over gRPC, from an embedded RocksDB.";

const EXAMPLES: &str = "\
A first session, in one terminal:
  procura serve --data ./data
and, when that says that it is ready, in another:
  procura schema write schema-examples/saas.zed
  procura tuple write 'org:acme#admin@user:rita' 'workspace:lab#org@org:acme'
  procura tuple write 'project:alpha#workspace@workspace:lab'
  procura check 'project:alpha#edit@user:rita' --explain

Exit codes:
  0    success; for `check` and `explain`, every answer is ALLOW
  1    check, explain: an answer is DENY; test: a file failed;
       schema check, schema fmt --check, schema write --dry-run: findings;
       verify: the data is not what its log says;
       bench run: an error, or an answer that is stale or wrong
  2    the arguments or an input file are wrong; nothing was sent
       (tuple import: nothing from the wrong line on)
  3    check, explain: an answer is CONDITIONAL and none is DENY
  4    the server refused, or failed
  5    the server cannot be reached, or is shutting down: try again
  141  whoever read the output went away";

/// Relationship-based authorization: ask, write, test, serve.
#[derive(Parser)]
#[command(name = "procura", version, long_about = ABOUT_LONG, after_help = EXAMPLES, propagate_version = true)]
struct Arguments {
    /// Print JSON, one value per line; errors too, on standard error
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::Serve),
    #[command(subcommand)]
    Schema(schema::Schema),
    #[command(subcommand)]
    Tuple(tuple::Tuple),
    Check(check::Check),
    Filter(filter::Filter),
    Explain(explain::Explain),
    Expand(expand::Expand),
    #[command(subcommand)]
    List(list::List),
    #[command(subcommand)]
    Delegation(delegation::Delegate),
    #[command(subcommand)]
    Principal(principal::Principal),
    BlastRadius(blast_radius::BlastRadius),
    Test(test::Test),
    #[command(subcommand)]
    Bench(bench::Bench),
    Info(info::Info),
    Verify(verify::Verify),
}

/// Runs the command named by the process's arguments; returns the code to exit with.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(asked) if asked.use_stderr() && wants_json(std::env::args_os()) => {
            let Failure::Said(complaint) = misused(&asked) else { return Exit::Usage.into() };
            Output::new(true).complain(&complaint);
            return complaint.exit.into();
        }
        Err(asked) => {
            // Help and version come this way too; clap knows which stream and code each has. A closed pipe is no news.
            let _ = asked.print();
            return if asked.use_stderr() { Exit::Usage.into() } else { Exit::Success.into() };
        }
    };
    let mut output = Output::new(arguments.json);
    let outcome = dispatch(arguments.command, &mut output).and_then(|exit| {
        output.flush()?;
        Ok(exit)
    });
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => report(failure, &mut output),
    }
}

/// Whether `--json` stands among arguments that could not be read.
fn wants_json(arguments: impl Iterator<Item = OsString>) -> bool {
    arguments.take_while(|argument| argument != "--").any(|argument| argument == "--json")
}

/// What clap says of arguments that are wrong: its first paragraph, its tip, and the usage.
fn misused(error: &clap::Error) -> Failure {
    let said = error.render().to_string();
    let paragraphs: Vec<String> =
        said.split("\n\n").map(|part| part.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let after = |mark: &str| paragraphs.iter().find_map(|part| part.strip_prefix(mark));
    // Where a command of several has none named, clap shows the help in the place of an error.
    let message = after("error: ").unwrap_or("a command is missing");
    let mut failure = Failure::usage(message);
    if let Some(tip) = after("tip: ") {
        failure = failure.with_hint(tip);
    }
    match after("Usage: ") {
        Some(usage) => failure.with_fact("usage", usage),
        None => failure,
    }
}

fn dispatch(command: Command, output: &mut Output) -> Result<Exit, Failure> {
    match command {
        Command::Serve(serve) => serve.run(output),
        Command::Schema(schema) => schema.run(output),
        Command::Tuple(tuple) => tuple.run(output),
        Command::Check(check) => check.run(output),
        Command::Filter(filter) => filter.run(output),
        Command::Explain(explain) => explain.run(output),
        Command::Expand(expand) => expand.run(output),
        Command::List(list) => list.run(output),
        Command::BlastRadius(radius) => radius.run(output),
        Command::Delegation(delegation) => delegation.run(output),
        Command::Principal(principal) => principal.run(output),
        Command::Test(test) => test.run(output),
        Command::Bench(bench) => bench.run(output),
        Command::Info(info) => info.run(output),
        Command::Verify(verify) => verify.run(output),
    }
}

/// Says what went wrong, after what was already printed.
fn report(failure: Failure, output: &mut Output) -> ExitCode {
    // Results printed before the failure still hold; if they cannot be delivered, the failure is the news.
    let _ = output.flush();
    match failure {
        Failure::ReaderGone => Exit::ReaderGone.into(),
        Failure::Said(complaint) => {
            output.complain(&complaint);
            complaint.exit.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn what_clap_says_is_told_as_any_failure() {
        let said = |arguments: &[&str]| {
            let Err(error) = Arguments::try_parse_from(arguments) else { panic!("accepted {arguments:?}") };
            let Failure::Said(complaint) = misused(&error) else { panic!("said nothing") };
            complaint
        };
        let unknown = said(&["procura", "check", "--explian", "doc:ä#view@user:rita"]);
        assert_eq!(unknown.message, "unexpected argument '--explian' found");
        assert_eq!(unknown.hint.as_deref(), Some("a similar argument exists: '--explain'"));
        assert!(unknown.facts[0].1.starts_with("procura check"), "{:?}", unknown.facts);
        let invalid = said(&["procura", "list", "resources", "--limit", "zwölf", "a#b@c:d"]);
        assert_eq!(invalid.message, "invalid value 'zwölf' for '--limit <N>': invalid digit found in string");
        assert_eq!(said(&["procura", "list"]).message, "a command is missing");
        assert!(said(&["procura", "schema", "check"]).message.contains("<FILE>..."));
        let wants = |arguments: &[&str]| wants_json(arguments.iter().map(OsString::from));
        assert!(wants(&["procura", "check", "--json", "--x"]));
        assert!(!wants(&["procura", "check", "--", "--json"]));
    }

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
