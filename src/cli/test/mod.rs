//! `procura test`: runs validation files and says, line by line, what does not hold.
//!
//! INVARIANT: nothing is claimed that was not asked. What a file holds and this version cannot check is an error with
//! its place, or is named in the output as not checked.

mod file;
mod world;

use super::exit::{Exit, Failure};
use super::input::{Wrong, read_file, read_schema};
use super::output::{Output, decision as coloured};
use super::witness;
use crate::engine::SchemaDiagnostic;
use crate::model::{Decision, Question, Witness};
use crate::schema::{Composed, Placed};
use clap::Args;
use file::{Asked, Expectation, SchemaSource, ValidationFile};
use owo_colors::OwoColorize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use world::{Refusal, Where, World};

const EXAMPLES: &str = "\
Examples:
  procura test schema-examples/*.yaml
  procura test --server spawn schema-examples/*.yaml
  procura test --server 127.0.0.1:50051 world.yaml

`spawn` starts a server for each file and asks it over gRPC. A running server
must be empty, and takes one file.

A validation file:
  schemaFile: documents.zed            # relative to this file; or `schema: |-` and the text
  relationships: |-
    // who may do what
    document:plan#viewer@user:rita
  assertions:
    assertTrue:
      - document:plan#view@user:rita
    assertFalse:
      - document:plan#edit@user:rita

SpiceDB's validation files are taken as they are. Of `validation` blocks, each
listed subject is checked; that none is missing comes with lists.
Exit codes: 0 every file passed, 1 otherwise.";

/// Run validation files: a schema, tuples, and what must follow
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Test {
    /// Validation files (YAML)
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Over gRPC: `spawn` starts a server per file, an address names one that is empty (default: in process)
    #[arg(long, value_name = "ADDRESS|spawn")]
    server: Option<String>,
}

/// What became of one file.
#[derive(Default)]
struct Report {
    assertions: usize,
    /// Subjects of `validation` blocks that were asked about.
    expected: usize,
    /// Wildcards of `validation` blocks: no question can be asked about them.
    wildcards: usize,
    failures: Vec<Unmet>,
    /// Why the file could not be run, or not wholly.
    wrongs: Vec<Wrong>,
}

/// An expectation that does not hold.
struct Unmet {
    asked: Asked,
    got: Result<Decision, String>,
    witness: Option<Witness>,
}

impl Report {
    fn passed(&self) -> bool {
        self.failures.is_empty() && self.wrongs.is_empty()
    }
}

impl Test {
    /// Runs every file, whatever became of those before it.
    pub fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let place = match self.server.as_deref() {
            None => Where::InProcess,
            Some("spawn") => Where::Spawn,
            Some(address) => Where::Running(address.to_owned()),
        };
        if matches!(place, Where::Running(_)) && self.files.len() > 1 {
            return Err(Failure::usage("a running server takes one file: each needs an empty store")
                .with_hint("run them one by one, or with --server spawn"));
        }
        let mut passed = 0;
        let mut failed = 0;
        let mut expected = 0;
        for path in &self.files {
            let report = run_file(path, &place)?;
            if report.passed() {
                passed += 1;
            } else {
                failed += 1;
            }
            expected += report.expected + report.wildcards;
            if output.is_json() {
                output.value(&json_of(path, &report))?;
            } else {
                print(path, &report, output)?;
            }
            output.flush()?;
        }
        if output.is_json() {
            output.value(&json!({"passed": passed, "failed": failed}))?;
        } else {
            if expected > 0 {
                output.line(
                    "expected relations: checked that each listed subject holds; completeness comes with lists",
                )?;
            }
            output.line(format_args!("{passed} passed, {failed} failed"))?;
        }
        Ok(if failed == 0 { Exit::Success } else { Exit::Negative })
    }
}

/// `Err` only where no file could be run at all: a server that is away.
fn run_file(path: &Path, place: &Where) -> Result<Report, Failure> {
    let name = path.display().to_string();
    let alone = |message: String| Report { wrongs: vec![wrong(&name, 1, "", 0, message, None)], ..Report::default() };
    let text = match read_file(path) {
        Ok(text) => text,
        Err(Failure::Said(complaint)) => return Ok(alone(complaint.message)),
        Err(gone) => return Err(gone),
    };
    let file = match file::parse(&name, &text) {
        Ok(file) => file,
        Err(wrongs) => return Ok(Report { wrongs, ..Report::default() }),
    };
    let schema = match schema_of(path, &name, &text, &file) {
        Ok(schema) => schema,
        Err(wrongs) => return Ok(Report { wrongs, ..Report::default() }),
    };
    let world = World::open(place)?;
    let wrongs = match load(&world, &schema, &name, &text, &file) {
        Ok(()) => return ask(&world, file),
        Err(wrongs) => wrongs,
    };
    Ok(Report { wrongs, ..Report::default() })
}

fn wrong(source: &str, line: usize, text: &str, at: usize, message: String, hint: Option<String>) -> Wrong {
    Wrong { source: source.to_owned(), line, text: text.to_owned(), at, message, hint }
}

/// A schema's text, and where its lines stand.
struct SchemaText {
    name: String,
    text: String,
    /// The line of the file where each line of the text stands, and how far it is indented there (bytes, may be
    /// negative where the text's own indent is deeper); empty for a file of its own, where all is as it is.
    inline: Vec<(usize, isize)>,
    /// Of a file of its own: it, and what it imports.
    composed: Option<Composed>,
}

fn schema_of(path: &Path, name: &str, text: &str, file: &ValidationFile) -> Result<SchemaText, Vec<Wrong>> {
    match &file.schema {
        SchemaSource::Inline { text: schema, line } => Ok(SchemaText {
            name: name.to_owned(),
            text: schema.clone(),
            inline: file::places(text, *line, schema),
            composed: None,
        }),
        SchemaSource::File { path: relative, line } => {
            let schema_path = path.parent().unwrap_or(Path::new("")).join(relative);
            match read_schema(&schema_path) {
                Ok(Ok(composed)) => Ok(SchemaText {
                    name: schema_path.display().to_string(),
                    text: composed.text().to_owned(),
                    inline: Vec::new(),
                    composed: Some(composed),
                }),
                Ok(Err(found)) => Err(found.iter().map(imported).collect()),
                Err(failure) => {
                    let message = match failure {
                        Failure::Said(complaint) => complaint.message,
                        Failure::ReaderGone => "cannot be read".to_owned(),
                    };
                    let shown = text.lines().nth(line.saturating_sub(1)).unwrap_or("");
                    let hint = Some("`schemaFile` is relative to this file".to_owned());
                    Err(vec![wrong(name, *line, shown, 0, message, hint)])
                }
            }
        }
    }
}

/// What is wrong in a file that a schema is made of.
fn imported(placed: &Placed) -> Wrong {
    let (line, column) = placed.line_column();
    let line = line as usize;
    let text = placed.source.text.lines().nth(line.saturating_sub(1)).unwrap_or("");
    let at = text.char_indices().nth((column as usize).saturating_sub(1)).map_or(text.len(), |(at, _)| at);
    let Placed { source, diagnostic } = placed;
    wrong(&source.name, line, text, at, diagnostic.message.clone(), diagnostic.hint.clone())
}

/// Points a diagnostic at the file a person edits, also where the schema stands inside the YAML.
fn placed(diagnostic: &SchemaDiagnostic, schema: &SchemaText, yaml: &str) -> Wrong {
    let line = diagnostic.line as usize;
    let text = schema.text.lines().nth(line.saturating_sub(1)).unwrap_or("");
    let column = (diagnostic.column as usize).saturating_sub(1);
    let at = text.char_indices().nth(column).map_or(text.len(), |(at, _)| at);
    if let Some((Some(source), line)) = schema.composed.as_ref().map(|composed| composed.line(diagnostic.line)) {
        return wrong(&source.name, line as usize, text, at, diagnostic.message.clone(), diagnostic.hint.clone());
    }
    let (line, text, at) = match schema.inline.get(line.saturating_sub(1)) {
        None => (line, text, at),
        Some((line, shift)) => {
            let shown = yaml.lines().nth(line.saturating_sub(1)).unwrap_or(text);
            (*line, shown, at.checked_add_signed(*shift).unwrap_or(0).min(shown.len()))
        }
    };
    wrong(&schema.name, line, text, at, diagnostic.message.clone(), diagnostic.hint.clone())
}

fn load(world: &World, schema: &SchemaText, name: &str, yaml: &str, file: &ValidationFile) -> Result<(), Vec<Wrong>> {
    let line_text = |line: usize| yaml.lines().nth(line.saturating_sub(1)).unwrap_or("");
    if let Err(refusal) = world.write_schema(&schema.text) {
        let errors: Vec<Wrong> = refusal
            .diagnostics
            .iter()
            .filter(|diagnostic| diagnostic.is_error)
            .map(|diagnostic| placed(diagnostic, schema, yaml))
            .collect();
        if !errors.is_empty() {
            return Err(errors);
        }
        let line = file.schema.line();
        return Err(vec![wrong(name, line, line_text(line), 0, refusal.message, refusal.hint)]);
    }
    let tuples: Vec<_> = file.relationships.iter().map(|placed| placed.value.clone()).collect();
    if let Err((at, Refusal { message, hint, .. })) = world.write(&tuples) {
        let placed = at.and_then(|index| file.relationships.get(index));
        let (line, column) = placed.map_or((file.relationships_line, 0), |placed| (placed.line, placed.at));
        return Err(vec![wrong(name, line, line_text(line), column.min(line_text(line).len()), message, hint)]);
    }
    Ok(())
}

/// Asks everything at once, and for each unexpected allow once more, for its path.
fn ask(world: &World, file: ValidationFile) -> Result<Report, Failure> {
    let questions: Vec<Question> = file.asked.iter().map(|asked| asked.question.clone()).collect();
    let answers = world.check(&questions);
    let mut report = Report {
        assertions: file.asked.iter().filter(|asked| asked.is_assertion()).count(),
        wildcards: file.wildcards,
        ..Report::default()
    };
    report.expected = file.asked.len() - report.assertions;
    if answers.len() != questions.len() {
        return Err(Failure::new(
            Exit::Refused,
            format!("the server answered {} of {} questions", answers.len(), questions.len()),
        ));
    }
    for (asked, answer) in file.asked.into_iter().zip(answers) {
        let got = answer.map_err(|refusal| refusal.message);
        if got.as_ref().is_ok_and(|decision| asked.expectation.met_by(*decision)) {
            continue;
        }
        let witness = match got {
            Ok(Decision::Allow) => world.witness(&asked.question),
            Ok(Decision::Deny | Decision::Conditional) | Err(_) => None,
        };
        report.failures.push(Unmet { asked, got, witness });
    }
    Ok(report)
}

fn print(path: &Path, report: &Report, output: &mut Output) -> Result<(), Failure> {
    let held = |total: usize, noun: &str, failed: usize| {
        let plural = if total == 1 { "" } else { "s" };
        if failed == 0 {
            format!("{total} {noun}{plural}")
        } else {
            format!("{} of {total} {noun}{plural}", total - failed)
        }
    };
    let unmet_assertions = report.failures.iter().filter(|unmet| unmet.asked.is_assertion()).count();
    let mut counts = held(report.assertions, "assertion", unmet_assertions);
    if report.expected + report.wildcards > 0 {
        let unmet = report.failures.len() - unmet_assertions;
        counts.push_str(&format!(", {}", held(report.expected, "expected subject", unmet)));
    }
    if report.wildcards > 0 {
        counts.push_str(&format!(", {} `:*` not checked", report.wildcards));
    }
    let file = path.display();
    if report.passed() {
        output.line(format_args!("{}      {file}  {counts}", "ok".green().bold()))?;
        return Ok(());
    }
    if report.wrongs.is_empty() {
        output.line(format_args!("{}  {file}  {counts} hold", "FAILED".red().bold()))?;
    } else {
        output.line(format_args!("{}  {file}  not run", "FAILED".red().bold()))?;
    }
    for wrong in &report.wrongs {
        output.line(wrong.rendered())?;
    }
    for unmet in &report.failures {
        let Asked { line, text, expectation, .. } = &unmet.asked;
        output.line(format_args!("  {file}:{line}: {text}"))?;
        let got = match &unmet.got {
            Ok(decision) => coloured(*decision),
            Err(message) => format!("{} {message}", "an error:".red()),
        };
        let because = if unmet.witness.is_some() { ", because" } else { "" };
        output.line(format_args!("    expected {}, got {got}{because}", expectation.words()))?;
        if let Some(found) = &unmet.witness {
            output.line(witness::tree(found, "      "))?;
        }
    }
    Ok(())
}

fn json_of(path: &Path, report: &Report) -> Value {
    let failures: Vec<Value> = report
        .failures
        .iter()
        .map(|unmet| {
            let (got, error) = match &unmet.got {
                Ok(decision) => (Some(decision.as_str()), None),
                Err(message) => (None, Some(message)),
            };
            json!({
                "line": unmet.asked.line,
                "assertion": unmet.asked.text,
                "block": if unmet.asked.is_assertion() { "assertions" } else { "validation" },
                "expected": unmet.asked.expectation.words(),
                "got": got,
                "error": error,
                "witness": unmet.witness.as_ref().map(witness::json),
            })
        })
        .collect();
    let errors: Vec<Value> = report
        .wrongs
        .iter()
        .map(|wrong| {
            json!({
                "file": wrong.source,
                "line": wrong.line,
                "column": wrong.column(),
                "message": wrong.message,
                "hint": wrong.hint,
            })
        })
        .collect();
    json!({
        "file": path.display().to_string(),
        "passed": report.passed(),
        "assertions": report.assertions,
        "expected_subjects": report.expected,
        "wildcards_not_checked": report.wildcards,
        "failures": failures,
        "errors": errors,
    })
}

impl Expectation {
    fn met_by(self, got: Decision) -> bool {
        match self {
            Expectation::Allow => got == Decision::Allow,
            Expectation::Deny => got == Decision::Deny,
            Expectation::Conditional => got == Decision::Conditional,
            Expectation::DenyOrConditional => got != Decision::Allow,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Expectation::Allow => "ALLOW",
            Expectation::Deny => "DENY",
            Expectation::Conditional => "CONDITIONAL",
            Expectation::DenyOrConditional => "DENY or CONDITIONAL",
        }
    }
}
