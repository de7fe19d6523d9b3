//! `procura test`: runs validation files and says, line by line, what does not hold.
//!
//! INVARIANT: nothing is claimed that was not asked. What a file holds and this version cannot check is an error with
//! its place, or is named in the output as not checked.

mod file;
mod scalar;
mod assertion;
mod delegated;
mod expected;
mod record;
mod world;

use super::acting::denial_text;
use super::exit::{Exit, Failure};
use super::input::{Wrong, read_file, read_schema};
use super::output::{Output, decision as coloured};
use super::{explain, witness};
use crate::api::client::{Said, SubjectsOf};
use crate::engine::SchemaDiagnostic;
use crate::model::{Decision, Limits, ObjectRef, RefusalReason, RelationName, TypeName};
use crate::schema::{AllowedSubject, Composed, Member, Placed, Schema, SubjectForm, compile};
use assertion::Assertion;
use clap::Args;
use delegated::Deputed;
use expected::{ExpectedSubject, Mismatch};
use file::{Asked, Expectation, SchemaSource, ValidationFile};
use owo_colors::OwoColorize;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use world::{Decided, Refusal, Where, World};

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
      - 'document:plan#view@user:tom with {\"user_ip\": \"10.2.3.4\"} at 2027-05-01T00:00:00Z'
      - {check: 'invoice:10#read@agent:bot via d1', reason: OUT_OF_SCOPE, hop: 1}
  now: 2027-01-01T00:00:00Z            # the world's clock (default: the present)
  delegations:                         # in this order; `refused: REASON` where it must be
    - {id: d1, from: user:rita, to: agent:bot, permissions: [read], within: [invoice:9],
       expires: 2030-01-01T00:00:00Z, redelegate: 1}
  suspended: [agent:rogue]

  validation:                          # all who have it, and by which tuples
    document:plan#view:
      - '[user:rita] is <document:plan#viewer>'

After a question may stand `via ID`, `for ROOT`, `with {JSON}` and `at TIME`.
SpiceDB's validation files are taken as they are. A `validation` block names
every subject of every type; `[user:* - {user:tom}]` is everybody but tom, and
`[user:rita[...]]` hangs on a condition. `--record` writes what holds now into
the block, for the keys that stand there; where none does, for every permission
of every object that a tuple is about. Comments inside the block are lost.
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
    /// Rewrite the `validation` block of each file with what holds now; assertions are still judged
    #[arg(long)]
    record: bool,
}

/// What became of one file.
#[derive(Default)]
struct Report {
    assertions: usize,
    /// Subjects that the `validation` block names.
    expected: usize,
    /// How the `validation` block and what holds differ.
    mismatches: Vec<Mismatch>,
    /// How many expected relations were written into the file.
    recorded: Option<usize>,
    failures: Vec<Unmet>,
    /// Why the file could not be run, or not wholly.
    wrongs: Vec<Wrong>,
}

/// An expectation that does not hold.
struct Unmet {
    asked: Asked,
    /// With the reason of an error.
    got: Result<Decision, (String, Box<str>)>,
    /// All that is said of the answer.
    said: Option<Said>,
    /// Of a deny: what takes the permission away, if it is that.
    taken_away: Vec<(String, Vec<String>)>,
}

impl Report {
    fn passed(&self) -> bool {
        self.failures.is_empty() && self.mismatches.is_empty() && self.wrongs.is_empty()
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
        for path in &self.files {
            let report = run_file(path, &place, self.record)?;
            if report.passed() {
                passed += 1;
            } else {
                failed += 1;
            }
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
            output.line(format_args!("{passed} passed, {failed} failed"))?;
        }
        Ok(if failed == 0 { Exit::Success } else { Exit::Negative })
    }
}

/// `Err` only where no file could be run at all: a server that is away.
fn run_file(path: &Path, place: &Where, record: bool) -> Result<Report, Failure> {
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
    let mut world = World::open(place, &file)?;
    let wrongs = match load(&mut world, &schema, &name, &text, &file) {
        Ok(()) => {
            let mut report = ask(&world, &file)?;
            let outcome = if record {
                rewrite(&world, path, &text, &file, &mut report)
            } else {
                compare(&world, &name, &text, &file, &mut report)
            };
            if let Err(wrong) = outcome {
                report.wrongs.push(wrong);
            }
            return Ok(report);
        }
        Err(wrongs) => wrongs,
    };
    Ok(Report { wrongs, ..Report::default() })
}

/// Which subjects a schema's tuples can name: a type, and for usersets the relation.
type Forms = BTreeSet<(TypeName, Option<RelationName>)>;

fn forms(schema: &Schema) -> Forms {
    let relations = schema.definitions().iter().flat_map(|definition| &definition.members);
    let subjects = relations.flat_map(|member| match member {
        Member::Relation(relation) => relation.subjects.as_slice(),
        Member::Permission(_) => &[],
    });
    let form = |subject: &AllowedSubject| match &subject.form {
        SubjectForm::Object | SubjectForm::Wildcard => (subject.subject_type.clone(), None),
        SubjectForm::Userset(relation) => (subject.subject_type.clone(), Some(relation.clone())),
    };
    subjects.map(form).collect()
}

/// The schema in force, which one has after it was written.
fn in_force(world: &World) -> Result<Schema, String> {
    let text = world.schema().map_err(|refusal| refusal.message)?;
    let compiled = compile(&text, &Limits::default());
    Ok(compiled.map_err(|_| "the schema in force does not compile here".to_owned())?.schema)
}

/// Every subject that has a permission and that a tuple names.
fn holders(
    world: &World,
    forms: &Forms,
    object: &ObjectRef,
    permission: &RelationName,
) -> Result<Vec<ExpectedSubject>, String> {
    let mut all = Vec::new();
    for (subject_type, subject_relation) in forms {
        let asked = SubjectsOf {
            object: object.clone(),
            permission: permission.clone(),
            subject_type: subject_type.clone(),
            subject_relation: subject_relation.clone(),
            with_relations: true,
            within: None,
        };
        all.extend(expected::found(world.subjects(&asked).map_err(|refusal| refusal.message)?));
    }
    Ok(all)
}

/// Compares each expected relation with what holds.
fn compare(world: &World, name: &str, yaml: &str, file: &ValidationFile, report: &mut Report) -> Result<(), Wrong> {
    let Some(first) = file.expected.first() else { return Ok(()) };
    let at = |line: usize, message: String| {
        let shown = yaml.lines().nth(line.saturating_sub(1)).unwrap_or("");
        wrong(name, line, shown, 0, message, None)
    };
    let schema = in_force(world).map_err(|message| at(first.line, message))?;
    let forms = forms(&schema);
    for relation in &file.expected {
        report.expected += relation.subjects.len();
        let found = holders(world, &forms, &relation.object, &relation.permission);
        let found = found.map_err(|message| at(relation.line, message))?;
        report.mismatches.extend(relation.compare(&found));
    }
    Ok(())
}

/// Writes what holds into the file, unless something else in it is wrong.
fn rewrite(world: &World, path: &Path, yaml: &str, file: &ValidationFile, report: &mut Report) -> Result<(), Wrong> {
    let at = |message: String| wrong(&path.display().to_string(), 1, "", 0, message, None);
    let schema = in_force(world).map_err(at)?;
    let forms = forms(&schema);
    let mut keys: Vec<(ObjectRef, RelationName)> =
        file.expected.iter().map(|one| (one.object.clone(), one.permission.clone())).collect();
    if keys.is_empty() {
        let mut objects: Vec<&ObjectRef> = Vec::new();
        for placed in &file.relationships {
            if !objects.contains(&&placed.value.key.object) {
                objects.push(&placed.value.key.object);
            }
        }
        keys = objects.into_iter().flat_map(|object| permissions(&schema, object)).collect();
    }
    let mut block = Vec::new();
    for (object, permission) in keys {
        let found = holders(world, &forms, &object, &permission).map_err(at)?;
        block.push((format!("{object}#{permission}"), found));
    }
    let text = record::rewritten(yaml, &block).map_err(at)?;
    if text != yaml {
        record::replace(path, &text).map_err(|error| at(format!("cannot be written: {error}")))?;
    }
    report.recorded = Some(block.len());
    Ok(())
}

fn permissions(schema: &Schema, object: &ObjectRef) -> Vec<(ObjectRef, RelationName)> {
    let members = schema.definition(object.object_type.as_str()).map_or(&[][..], |definition| &definition.members);
    let permission = |member: &Member| match member {
        Member::Permission(permission) => Some((object.clone(), permission.name.clone())),
        Member::Relation(_) => None,
    };
    members.iter().filter_map(permission).collect()
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

fn load(
    world: &mut World,
    schema: &SchemaText,
    name: &str,
    yaml: &str,
    file: &ValidationFile,
) -> Result<(), Vec<Wrong>> {
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
    let refused = |line: usize, at: usize, Refusal { message, hint, .. }: Refusal| {
        vec![wrong(name, line, line_text(line), at.min(line_text(line).len()), message, hint)]
    };
    // Made in the order written, then revoked; only what must be refused because its parent is revoked comes after that.
    let waits = |deputed: &Deputed| deputed.refused == Some(RefusalReason::ParentNotLive);
    let made = |waiting: bool| file.delegated.delegations.iter().filter(move |placed| waits(&placed.value) == waiting);
    for file::Placed { value, line, at } in made(false) {
        world.delegate(value).map_err(|refusal| refused(*line, *at, refusal))?;
    }
    for file::Placed { value, line, at } in &file.delegated.delegations {
        world.revoke(value).map_err(|refusal| refused(*line, *at, refusal))?;
    }
    for file::Placed { value, line, at } in made(true) {
        world.delegate(value).map_err(|refusal| refused(*line, *at, refusal))?;
    }
    for file::Placed { value, line, at } in &file.delegated.suspended {
        if let Err(refusal) = world.suspend(value) {
            return Err(refused(*line, *at, refusal));
        }
    }
    Ok(())
}

/// Asks everything at once, and what is not as expected once more, for its reasons.
fn ask(world: &World, file: &ValidationFile) -> Result<Report, Failure> {
    let assertions: Vec<&Assertion> = file.asked.iter().map(|asked| &asked.assertion).collect();
    let answers = world.check(&assertions);
    let mut report = Report { assertions: file.asked.len(), ..Report::default() };
    if answers.len() != assertions.len() {
        return Err(Failure::new(
            Exit::Refused,
            format!("the server answered {} of {} questions", answers.len(), assertions.len()),
        ));
    }
    for (asked, answer) in file.asked.iter().zip(answers) {
        let got = answer.map_err(|refusal| (refusal.message, refusal.reason));
        if got.as_ref().is_ok_and(|got| asked.met_by(got)) {
            continue;
        }
        let got = got.map(|Decided { decision, denial: _ }| decision);
        let said = got.as_ref().ok().and_then(|_| world.said(&asked.assertion));
        let tried = match got {
            Ok(Decision::Deny) => world.tried(&asked.assertion),
            Ok(Decision::Allow | Decision::Conditional) | Err(_) => None,
        };
        let taken_away = tried.map(|steps| explain::taken_away(&steps)).unwrap_or_default();
        report.failures.push(Unmet { asked: asked.clone(), got, said, taken_away });
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
    let mut counts = held(report.assertions, "assertion", report.failures.len());
    if report.expected > 0 || !report.mismatches.is_empty() {
        let plural = if report.expected == 1 { "" } else { "s" };
        counts.push_str(&format!(", {} expected subject{plural}", report.expected));
    }
    if let Some(recorded) = report.recorded {
        counts.push_str(&format!(", recorded {recorded} expected relation{}", if recorded == 1 { "" } else { "s" }));
    }
    let file = path.display();
    if report.passed() {
        output.line(format_args!("{}      {file}  {counts}", "ok".green().bold()))?;
        return Ok(());
    }
    if report.wrongs.is_empty() && report.mismatches.is_empty() {
        output.line(format_args!("{}  {file}  {counts} hold", "FAILED".red().bold()))?;
    } else if report.wrongs.is_empty() {
        let count = report.mismatches.len();
        let noun = if count == 1 { "mismatch" } else { "mismatches" };
        output.line(format_args!("{}  {file}  {counts}, {count} {noun}", "FAILED".red().bold()))?;
    } else {
        output.line(format_args!("{}  {file}  not run", "FAILED".red().bold()))?;
    }
    for wrong in &report.wrongs {
        output.line(wrong.rendered())?;
    }
    for unmet in &report.failures {
        let Asked { line, text, expectation, named, .. } = &unmet.asked;
        output.line(format_args!("  {file}:{line}: {text}"))?;
        let got = match &unmet.got {
            Ok(decision) => coloured(*decision),
            Err((message, reason)) => format!("{} {message} [{reason}]", "an error:".red()),
        };
        let (found, missing, denial) = match &unmet.said {
            Some(Said { decision: _, witness, missing, valid_until: _, denial, chain: _ }) => {
                (witness.as_ref(), missing.as_slice(), denial.as_ref())
            }
            None => (None, [].as_slice(), None),
        };
        let denied = denial.map(|denial| format!(" {}", denial_text(denial))).unwrap_or_default();
        let because = match (found, missing) {
            (Some(_), _) => ", because".to_owned(),
            (None, []) => denied,
            (None, missing) => format!("{denied} (needs {})", missing.join(", ")),
        };
        output.line(format_args!("    expected {}{}, got {got}{because}", expectation.words(), named.words()))?;
        if let Some(found) = found {
            output.line(witness::tree(found, "      "))?;
        }
        for line in explain::taken_away_lines(&unmet.taken_away) {
            output.line(format_args!("      {line}"))?;
        }
    }
    for Mismatch { line, text, message } in &report.mismatches {
        output.line(format_args!("  {file}:{line}: {text}"))?;
        output.line(format_args!("    {message}"))?;
    }
    Ok(())
}

fn json_of(path: &Path, report: &Report) -> Value {
    let failures: Vec<Value> = report
        .failures
        .iter()
        .map(|unmet| {
            let (got, error, reason) = match &unmet.got {
                Ok(decision) => (Some(decision.as_str()), None, None),
                Err((message, reason)) => (None, Some(message), Some(reason)),
            };
            let said = unmet.said.as_ref();
            json!({
                "line": unmet.asked.line,
                "assertion": unmet.asked.text,
                "block": "assertions",
                "expected": unmet.asked.expectation.words(),
                "got": got,
                "error": error,
                "reason": reason,
                "missing_context": said.map_or(&[][..], |said| &said.missing),
                "taken_away": explain::taken_away_json(&unmet.taken_away),
                "witness": said.and_then(|said| said.witness.as_ref()).map(witness::json),
            })
        })
        .collect();
    let mismatches: Vec<Value> = report
        .mismatches
        .iter()
        .map(|Mismatch { line, text, message }| {
            json!({"line": line, "expected": text, "block": "validation", "message": message})
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
        "recorded": report.recorded,
        "mismatches": mismatches,
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
        }
    }

    fn words(self) -> &'static str {
        match self {
            Expectation::Allow => "ALLOW",
            Expectation::Deny => "DENY",
            Expectation::Conditional => "CONDITIONAL",
        }
    }
}
