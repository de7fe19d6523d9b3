//! `procura schema`: check and format files, write to and read from a server, compare.

use super::exit::{Exit, Failure};
use super::input::{read_file, read_stdin};
use super::output::Output;
use super::reach::{Beside, Server, When};
use crate::api::client::{At, Client, SchemaWritten};
use crate::model::Limits;
use crate::schema::{self, Colour, Compiled, Diagnostic, Severity};
use clap::{Args, Subcommand};
use owo_colors::OwoColorize;
use serde_json::{Value, json};
use similar::TextDiff;
use std::path::{Path, PathBuf};

/// Check, format, write, read and compare schemas
#[derive(Subcommand)]
pub enum Schema {
    Check(Check),
    Fmt(Fmt),
    Write(Write),
    Read(Read),
    Diff(Diff),
}

/// Check schema files: every error of each, with its place
#[derive(Args)]
#[command(after_help = "\
Examples:
  procura schema check schema-examples/*.zed
  generate-schema | procura schema check -

A comment silences a warning on what follows it: // procura-ignore: NAME
Exit codes: 0 no errors (warnings may stand), 1 otherwise.")]
pub struct Check {
    /// Schema files, `-` for standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Take warnings for errors
    #[arg(long)]
    deny_warnings: bool,
}

/// Rewrite schema files in the one canonical form
#[derive(Args)]
#[command(after_help = "\
Examples:
  procura schema fmt schema.zed                 rewritten in place
  procura schema fmt --check schema-examples/*.zed
  procura schema fmt - < schema.zed             printed

Comments are kept. A file with errors is left as it is.
Exit codes: 0 all is in that form, or now is; 1 with --check, something is not.")]
pub struct Fmt {
    /// Schema files, `-` for standard input to standard output
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Change nothing; print what would change and exit with 1
    #[arg(long)]
    check: bool,
}

/// Write a schema to a server; refused when tuples there would become impossible
#[derive(Args)]
#[command(after_help = "\
Examples:
  procura schema write schema.zed
  procura schema write --dry-run schema.zed
  procura schema write --expected-digest \"$DIGEST\" schema.zed

A dry run says what would change and which tuples stand against it.
The digest is that of the schema you edited: nobody's change is overwritten.

Exit codes: 0 written, or could be; 1 for a dry run with tuples against it;
2 the file has errors; 4 the server refused.")]
pub struct Write {
    /// The schema file, `-` for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Judge the change and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Write only if the schema in force has this digest
    #[arg(long, value_name = "DIGEST")]
    expected_digest: Option<String>,
    #[command(flatten)]
    beside: Beside,
    #[command(flatten)]
    server: Server,
}

/// Print the schema in force on a server, as it was written
#[derive(Args)]
#[command(after_help = "Example:\n  procura schema read > schema.zed")]
pub struct Read {
    #[command(flatten)]
    when: When,
    #[command(flatten)]
    server: Server,
}

/// What changes in meaning from one schema to another
#[derive(Args)]
#[command(after_help = "\
Examples:
  procura schema diff old.zed new.zed
  procura schema diff new.zed                   from the schema in force on the server

Formatting and comments are no change. Exit code 0 whether or not something changes.")]
pub struct Diff {
    /// NEW; or OLD and NEW. One file is compared with the server's schema
    #[arg(value_name = "FILE", required = true, num_args = 1..=2)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    server: Server,
}

impl Schema {
    /// Runs the subcommand.
    pub fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        match self {
            Schema::Check(check) => check.run(output),
            Schema::Fmt(fmt) => fmt.run(output),
            Schema::Write(write) => write.run(output),
            Schema::Read(read) => read.run(output),
            Schema::Diff(diff) => diff.run(output),
        }
    }
}

/// A schema text and the name a person knows it by.
struct Text {
    name: String,
    text: String,
}

fn read(path: &Path) -> Result<Text, Failure> {
    if path == Path::new("-") {
        return Ok(Text { name: "<stdin>".to_owned(), text: read_stdin()? });
    }
    Ok(Text { name: path.display().to_string(), text: read_file(path)? })
}

impl Check {
    fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let mut errors = 0;
        let mut warnings = 0;
        for path in &self.files {
            let source = read(path)?;
            let found = match schema::compile(&source.text, &Limits::default()) {
                Ok(compiled) => compiled.warnings,
                Err(found) => found,
            };
            let wrong = found.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count();
            errors += wrong;
            warnings += found.len() - wrong;
            for diagnostic in &found {
                show(diagnostic, &source, output)?;
            }
            if wrong == 0 && !output.is_json() {
                output.line(format_args!("{} {}", "ok".green(), source.name))?;
            }
        }
        if !output.is_json() && errors + warnings > 0 {
            output.line(format_args!("{}, {}", counted(errors, "error"), counted(warnings, "warning")))?;
        }
        let failed = errors > 0 || (self.deny_warnings && warnings > 0);
        Ok(if failed { Exit::Negative } else { Exit::Success })
    }
}

fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

fn show(diagnostic: &Diagnostic, source: &Text, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        output.value(&json_of(diagnostic, source))?;
    } else {
        output.line(diagnostic.render(&source.name, &source.text, Colour::Ansi).trim_end())?;
        output.line("")?;
    }
    Ok(())
}

fn json_of(diagnostic: &Diagnostic, source: &Text) -> Value {
    let (line, column) = diagnostic.line_column(&source.text);
    let severity = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    json!({
        "file": source.name,
        "severity": severity,
        "name": diagnostic.name,
        "message": diagnostic.message,
        "hint": diagnostic.hint,
        "line": line,
        "column": column,
    })
}

/// The failure for a file that is not a schema.
fn refuse(found: &[Diagnostic], source: &Text) -> Failure {
    let errors = found.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count();
    Failure::usage(format!("`{}` has {}", source.name, counted(errors, "error"))).with_pointed(
        found.iter().map(|diagnostic| diagnostic.render(&source.name, &source.text, Colour::Ansi)).collect(),
    )
}

impl Fmt {
    fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let mut differing = 0;
        for path in &self.files {
            let source = read(path)?;
            let formatted = schema::format(&source.text).map_err(|found| refuse(&found, &source))?;
            if path == Path::new("-") && !self.check {
                output.verbatim(&formatted)?;
                continue;
            }
            let changed = formatted != source.text;
            if changed {
                differing += 1;
            }
            if changed && !self.check {
                std::fs::write(path, &formatted).map_err(|error| Failure::file(path, &error))?;
            }
            if output.is_json() {
                output
                    .value(&json!({"file": source.name, "canonical": !changed, "rewritten": changed && !self.check}))?;
            } else if changed && self.check {
                let lines = TextDiff::from_lines(&source.text, &formatted);
                let header = (source.name.as_str(), "canonical form");
                output.line(lines.unified_diff().header(header.0, header.1))?;
            } else if changed {
                output.line(format_args!("rewritten {}", source.name))?;
            }
        }
        Ok(if self.check && differing > 0 { Exit::Negative } else { Exit::Success })
    }
}

impl Write {
    fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let source = read(&self.file)?;
        // Judged here first, so that errors name the file; the server judges again.
        let Compiled { warnings, .. } =
            schema::compile(&source.text, &Limits::default()).map_err(|found| refuse(&found, &source))?;
        let metadata = self.beside.metadata()?;
        let client = self.server.connect()?;
        let written = client.write_schema(&source.text, self.expected_digest.as_deref(), self.dry_run, &metadata)?;
        if output.is_json() {
            output.value(&self.json_of(&written, &warnings, &source))?;
        } else {
            for warning in &warnings {
                output.note(warning.render(&source.name, &source.text, Colour::Ansi).trim_end());
            }
            self.print(&written, output)?;
        }
        let breaks = written.impact.iter().any(|(_, _, count, _)| *count > 0);
        Ok(if self.dry_run && breaks { Exit::Negative } else { Exit::Success })
    }

    fn print(&self, written: &SchemaWritten, output: &mut Output) -> Result<(), Failure> {
        for change in &written.changes {
            output.line(format_args!("  {change}"))?;
        }
        if written.changes.is_empty() {
            output.line("  no change in meaning")?;
        }
        for (relation, form, count, sample) in &written.impact {
            let sample = sample.as_ref().map(|sample| format!(", such as {sample}")).unwrap_or_default();
            output.line(format_args!(
                "{} {count} of {relation} with `{form}` would become impossible{sample}",
                "stands against it:".red()
            ))?;
        }
        let verb = if self.dry_run { "not written (dry run)" } else { "written" };
        output.line(format_args!("schema {verb}"))?;
        output.line(format_args!("digest {}", written.digest))?;
        if !self.dry_run {
            output.line(format_args!("token  {}", written.token))?;
        }
        Ok(())
    }

    fn json_of(&self, written: &SchemaWritten, warnings: &[Diagnostic], source: &Text) -> Value {
        let impact: Vec<Value> = written
            .impact
            .iter()
            .map(|(relation, form, count, sample)| {
                json!({"relation": relation, "form": form, "count": count, "sample": sample})
            })
            .collect();
        json!({
            "dry_run": self.dry_run,
            "digest": written.digest,
            "token": written.token,
            "changes": written.changes,
            "impact": impact,
            "warnings": warnings.iter().map(|warning| json_of(warning, source)).collect::<Vec<_>>(),
        })
    }
}

impl Read {
    fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let schema = self.server.connect()?.read_schema(&self.when.at())?;
        if output.is_json() {
            output.value(&json!({"schema": schema.text, "digest": schema.digest, "token": schema.token}))?;
        } else {
            output.verbatim(&schema.text)?;
        }
        Ok(Exit::Success)
    }
}

impl Diff {
    fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let (old, new) = match self.files.as_slice() {
            [old, new] => (Some(read(old)?), read(new)?),
            [new] => (in_force(&self.server.connect()?)?, read(new)?),
            _ => return Err(Failure::usage("one or two files are compared")),
        };
        let compile =
            |source: &Text| schema::compile(&source.text, &Limits::default()).map_err(|found| refuse(&found, source));
        let old = old.as_ref().map(compile).transpose()?;
        let new = compile(&new)?;
        let changes = schema::diff(old.as_ref().map(|compiled| &compiled.schema), &new.schema);
        for change in &changes {
            if output.is_json() {
                output.value(&json!({"change": change.to_string()}))?;
            } else {
                output.line(change)?;
            }
        }
        if changes.is_empty() {
            output.note("no change in meaning");
        }
        Ok(Exit::Success)
    }
}

/// The server's schema; `None` before the first.
fn in_force(client: &Client) -> Result<Option<Text>, Failure> {
    match client.read_schema(&At::Newest) {
        Ok(schema) => Ok(Some(Text { name: "the server's schema".to_owned(), text: schema.text })),
        Err(error) if error.reason == "NO_SCHEMA" => Ok(None),
        Err(error) => Err(error.into()),
    }
}
