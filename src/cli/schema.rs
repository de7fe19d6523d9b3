//! `procura schema`: check and format files, write to and read from a server, compare, and ask what leans on what.

use super::exit::{Exit, Failure};
use super::input::{read_file, read_schema, read_stdin};
use super::output::Output;
use super::reach::{Beside, Server, When};
use crate::api::client::{At, Client, SchemaWritten};
use crate::model::{Limits, RelationName, TypeName};
use crate::schema::{self, Colour, Composed, Diagnostic, MemberRef, Placed, Refusal, Severity, Source};
use clap::{Args, Subcommand};
use owo_colors::OwoColorize;
use serde_json::{Value, json};
use similar::TextDiff;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Check, format, write, read, compare and reflect on schemas
#[derive(Subcommand)]
pub enum Schema {
    Check(Check),
    Fmt(Fmt),
    Write(Write),
    Read(Read),
    Diff(Diff),
    #[command(subcommand)]
    Reflect(Reflect),
}

/// Check schema files: every error of each, with its place
#[derive(Args)]
#[command(after_help = "\
Examples:
  procura schema check schema-examples/*.zed
  generate-schema | procura schema check -

A comment silences a warning on what follows it: // procura-ignore: NAME
Imports (`use import`) are read from the schema's folder and below.
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

Comments are kept. When one of the files has errors, all are left as they are;
standard input needs only to parse. Imported files are not touched: name them
too.
Exit codes: 0 all is in that form, or now is; 1 with --check, something is not;
2 a file has errors.")]
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

Imported files are sent along, as one text, which `schema read` gives back.
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

/// What leans on what in a schema
#[derive(Subcommand)]
pub enum Reflect {
    ComputablePermissions(ComputablePermissions),
    DependentRelations(DependentRelations),
}

/// The permissions whose answer a change of some relations can change
#[derive(Args)]
#[command(
    visible_alias = "computable",
    after_help = "\
Examples:
  procura schema reflect computable-permissions 'project#editor'
  procura schema reflect computable-permissions 'project#editor' 'group#member' --file schema.zed
  procura --json schema reflect computable 'project#editor'

Those asked about are not printed themselves."
)]
pub struct ComputablePermissions {
    /// DEFINITION#RELATION
    #[arg(value_name = "RELATION", required = true)]
    relations: Vec<String>,
    #[command(flatten)]
    of: Reflected,
}

/// The relations and permissions that a permission is made of
#[derive(Args)]
#[command(
    visible_alias = "dependent",
    after_help = "\
Examples:
  procura schema reflect dependent-relations 'project#edit'
  procura schema reflect dependent-relations 'project#edit' --file schema.zed

Permissions on the way are printed too."
)]
pub struct DependentRelations {
    /// DEFINITION#PERMISSION
    #[arg(value_name = "PERMISSION")]
    permission: String,
    #[command(flatten)]
    of: Reflected,
}

/// Whose schema is asked.
#[derive(Args)]
struct Reflected {
    /// Ask this schema file, `-` for standard input, and no server
    #[arg(long, value_name = "FILE", conflicts_with_all = ["at_least_as_fresh", "at_exact_snapshot"])]
    file: Option<PathBuf>,
    #[command(flatten)]
    when: When,
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
            Schema::Reflect(reflect) => reflect.run(output),
        }
    }
}

/// One file as it is.
fn read(path: &Path) -> Result<Source, Failure> {
    if path == Path::new("-") {
        return Ok(Source { name: "<stdin>".to_owned(), text: read_stdin()? });
    }
    Ok(Source { name: path.display().to_string(), text: read_file(path)? })
}

fn name_of(path: &Path) -> String {
    if path == Path::new("-") { "<stdin>".to_owned() } else { path.display().to_string() }
}

/// A schema over its files, compiled, with its warnings; the failure shows what is wrong in each.
fn compiled(path: &Path) -> Result<(Composed, schema::Schema, Vec<Placed>), Failure> {
    let refuse = |found: Vec<Placed>| refuse(&found, &name_of(path));
    let composed = read_schema(path)?.map_err(refuse)?;
    let (schema, warnings) = composed.compile(&Limits::default()).map_err(refuse)?;
    Ok((composed, schema, warnings))
}

impl Check {
    fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let mut errors = 0;
        let mut warnings = 0;
        for path in &self.files {
            let found = match read_schema(path)?.and_then(|composed| composed.compile(&Limits::default())) {
                Ok((_, warnings)) => warnings,
                Err(found) => found,
            };
            let is_error = |placed: &&Placed| placed.diagnostic.severity == Severity::Error;
            let wrong = found.iter().filter(is_error).count();
            errors += wrong;
            warnings += found.len() - wrong;
            for placed in &found {
                show(placed, output)?;
            }
            if wrong == 0 && !output.is_json() {
                output.line(format_args!("{} {}", "ok".green(), name_of(path)))?;
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

fn show(placed: &Placed, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        output.value(&json_of(placed))?;
    } else {
        output.line(placed.render(Colour::Ansi).trim_end())?;
        output.line("")?;
    }
    Ok(())
}

fn json_of(placed: &Placed) -> Value {
    let (line, column) = placed.line_column();
    let diagnostic = &placed.diagnostic;
    let severity = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    json!({
        "file": placed.source.name,
        "severity": severity,
        "name": diagnostic.name,
        "message": diagnostic.message,
        "hint": diagnostic.hint,
        "line": line,
        "column": column,
    })
}

/// The failure for a file that is not a schema.
fn refuse(found: &[Placed], name: &str) -> Failure {
    let errors = found.iter().filter(|placed| placed.diagnostic.severity == Severity::Error).count();
    Failure::usage(format!("`{name}` has {}", counted(errors, "error")))
        .with_pointed(found.iter().map(|placed| placed.render(Colour::Ansi)).collect())
}

/// The diagnostics of one text, in it.
fn placed_in(found: Vec<Diagnostic>, source: &Source) -> Vec<Placed> {
    let source = Arc::new(source.clone());
    found.into_iter().map(|diagnostic| Placed { source: Arc::clone(&source), diagnostic }).collect()
}

impl Fmt {
    /// Every file is judged before the first is rewritten.
    fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let sources = self.files.iter().map(|path| read(path)).collect::<Result<Vec<Source>, Failure>>()?;
        self.refuse_errors(&sources)?;
        let mut differing = 0;
        for (path, source) in self.files.iter().zip(&sources) {
            let formatted =
                schema::format(&source.text).map_err(|found| refuse(&placed_in(found, source), &source.name))?;
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

    /// Refuses a file that is no schema, unless another one that is given makes it one by importing it. Standard input
    /// needs only to parse: an editor's text may be unfinished, and no file is rewritten.
    fn refuse_errors(&self, sources: &[Source]) -> Result<(), Failure> {
        let mut sound: HashSet<String> = HashSet::new();
        let mut failures: Vec<(&Source, Failure)> = Vec::new();
        for (path, source) in self.files.iter().zip(sources).filter(|(path, _)| path.as_path() != Path::new("-")) {
            match compiled(path) {
                Ok((composed, ..)) => sound.extend(composed.sources().map(|source| source.text.clone())),
                Err(failure) => failures.push((source, failure)),
            }
        }
        match failures.into_iter().find(|(source, _)| !sound.contains(&source.text)) {
            None => Ok(()),
            Some((_, failure)) => Err(failure.with_hint(
                "nothing was rewritten; a file that is only a part is formatted together with the one that imports it",
            )),
        }
    }
}

impl Write {
    fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        // Judged here first, so that errors name the file; the server judges again, and has no other files.
        let (composed, _, warnings) = compiled(&self.file)?;
        let metadata = self.beside.metadata()?;
        let client = self.server.connect()?;
        let written = client.write_schema(composed.text(), self.expected_digest.as_deref(), self.dry_run, &metadata)?;
        if output.is_json() {
            output.value(&self.json_of(&written, &warnings))?;
        } else {
            for warning in &warnings {
                output.note(warning.render(Colour::Ansi).trim_end());
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

    fn json_of(&self, written: &SchemaWritten, warnings: &[Placed]) -> Value {
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
            "warnings": warnings.iter().map(json_of).collect::<Vec<_>>(),
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
            [old, new] => (Some(compiled(old)?.1), new),
            [new] => (in_force(&self.server.connect()?)?, new),
            _ => return Err(Failure::usage("one or two files are compared")),
        };
        let (_, new, _) = compiled(new)?;
        let changes = schema::diff(old.as_ref(), &new);
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

impl Reflect {
    fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let members = match self {
            Reflect::ComputablePermissions(ComputablePermissions { relations, of }) => {
                let relations: Vec<_> = relations.iter().map(|text| member_name(text)).collect::<Result<_, _>>()?;
                match &of.file {
                    Some(path) => {
                        let (_, schema, _) = compiled(path)?;
                        schema.computable_permissions(&relations).map_err(|refused| lacking(&refused.1, path))?
                    }
                    None => of.server.connect()?.computable_permissions(&relations, &of.when.at())?.members,
                }
            }
            Reflect::DependentRelations(DependentRelations { permission, of }) => {
                let (definition, name) = member_name(&permission)?;
                match &of.file {
                    Some(path) => {
                        let (_, schema, _) = compiled(path)?;
                        schema.dependent_relations(&definition, &name).map_err(|refusal| lacking(&refusal, path))?
                    }
                    None => of.server.connect()?.dependent_relations(&(definition, name), &of.when.at())?.members,
                }
            }
        };
        for MemberRef { definition, member, is_permission } in &members {
            let kind = if *is_permission { "permission" } else { "relation" };
            if output.is_json() {
                output.value(&json!({"definition": definition.as_str(), "name": member.as_str(), "kind": kind}))?;
            } else {
                output.line(format_args!("{kind:10}  {definition}#{member}"))?;
            }
        }
        if members.is_empty() {
            output.note("none");
        }
        Ok(Exit::Success)
    }
}

/// `definition#name`
fn member_name(text: &str) -> Result<(TypeName, RelationName), Failure> {
    let wrong =
        |why: &dyn std::fmt::Display| Failure::usage(format!("`{text}`: {why}")).with_hint("such as `project#editor`");
    let (definition, name) = text.split_once('#').ok_or_else(|| wrong(&"not DEFINITION#NAME"))?;
    let definition = TypeName::new(definition).map_err(|error| wrong(&error))?;
    Ok((definition, RelationName::new(name).map_err(|error| wrong(&error))?))
}

/// A name that the file lacks.
fn lacking(refusal: &Refusal, path: &Path) -> Failure {
    let failure = Failure::usage(format!("{}: {refusal}", name_of(path)));
    match refusal.hint() {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}

/// The server's schema; `None` before the first.
fn in_force(client: &Client) -> Result<Option<schema::Schema>, Failure> {
    match client.read_schema(&At::Newest) {
        Ok(read) => {
            let source = Source { name: "the server's schema".to_owned(), text: read.text };
            let compiled = schema::compile(&source.text, &Limits::default())
                .map_err(|found| refuse(&placed_in(found, &source), &source.name))?;
            Ok(Some(compiled.schema))
        }
        Err(error) if error.reason == "NO_SCHEMA" => Ok(None),
        Err(error) => Err(error.into()),
    }
}
