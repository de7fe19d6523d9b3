//! `procura tuple`: write, read, delete and replace relation tuples; import, export and watch stand in their own files.
//!
//! INVARIANT: one invocation of `write`, `delete` or `replace` is one call, all or nothing; it is never cut into several.

use super::exit::{Exit, Failure};
use super::export::Export;
use super::import::Import;
use super::input::{Item, read_items, read_texts, refuse_repeated};
use super::list::{Printing, asked_for};
use super::output::Output;
use super::reach::{Beside, Provided, Server, When, note_within};
use super::watch::Watch;
use crate::api::client::{At, Deletion};
use crate::engine::TupleSubject;
use crate::model::{
    Limits, ObjectId, ObjectRef, RelationName, RelationTuple, SubjectFilter, SubjectIdFilter, SubjectRef,
    SubjectRelationFilter, TupleFilter, TupleUpdate, TypeName, UpdateKind,
};
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::PathBuf;

/// Write, read, delete, replace, import, export and watch relation tuples
#[derive(Subcommand)]
pub enum Tuple {
    Write(Write),
    Read(Read),
    Delete(Delete),
    Replace(Replace),
    Import(Import),
    Export(Export),
    Watch(Watch),
}

const WRITE_EXAMPLES: &str = "\
Examples:
  procura tuple write 'document:plan#viewer@user:rita'
  procura tuple write 'group:board#member@user:dana' 'group:board#member@user:tom'
  procura tuple write 'document:plan#viewer@group:board#member'
  procura tuple write --file tuples.txt        one per line, // comments
  generate-tuples | procura tuple write -
  procura tuple write --create 'lock:deploy#holder@user:rita'

A tuple is OBJECT#RELATION@SUBJECT; a subject is `user:rita`,
`group:board#member` (all its members) or `user:*` (everybody).
All tuples of one invocation are written in one step, or none is.";

/// Write tuples: all or none
#[derive(Args)]
#[command(after_help = WRITE_EXAMPLES)]
pub struct Write {
    /// TYPE:ID#RELATION@SUBJECT; or a file of tuples (an argument without `#`), or `-`
    #[arg(value_name = "TUPLE", required_unless_present = "file")]
    tuples: Vec<String>,
    /// A file with one tuple per line, `-` for standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Refuse when one of the tuples exists already, instead of writing it again
    #[arg(long)]
    create: bool,
    #[command(flatten)]
    provided: Provided,
    #[command(flatten)]
    beside: Beside,
    #[command(flatten)]
    server: Server,
}

const READ_EXAMPLES: &str = "\
Examples:
  procura tuple read                              all of them
  procura tuple read --object document:plan       about one object
  procura tuple read --subject user:rita          where one subject stands
  procura tuple read --object document --relation viewer --limit 100
  procura tuple read --within folder:plans        of a folder and all beneath it

The lines printed can be written again, as with `procura tuple write -`.";

/// Read tuples that match, in key order, at one revision
#[derive(Args)]
#[command(after_help = READ_EXAMPLES)]
pub struct Read {
    #[command(flatten)]
    filter: Filter,
    /// Stop after this many (default: all)
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Go on after the row that gave this cursor
    #[arg(long)]
    cursor: Option<String>,
    #[command(flatten)]
    when: When,
    #[command(flatten)]
    server: Server,
}

const DELETE_EXAMPLES: &str = "\
Examples:
  procura tuple delete 'document:plan#viewer@user:rita'
  procura tuple delete --file gone.txt
  procura tuple delete --object document:plan     all about one object
  procura tuple delete --subject user:rita        all where a subject stands
  procura tuple delete --within folder:plans --dry-run
  procura tuple delete --within folder:plans      a folder and all beneath it
  procura tuple delete --within org:acme --limit 10000

What is beneath an object, the `parent` relations of the schema say. Tuples of
other objects in which the deleted ones are subjects stay.
Deleting a tuple that is not there is no error.";

/// Delete tuples, named one by one or by filter: all or none
#[derive(Args)]
#[command(after_help = DELETE_EXAMPLES)]
pub struct Delete {
    /// TYPE:ID#RELATION@SUBJECT; or a file of tuples (an argument without `#`), or `-`
    #[arg(value_name = "TUPLE", conflicts_with_all = ["object", "object_type", "relation", "subject", "within", "dry_run", "limit"])]
    tuples: Vec<String>,
    /// A file with one tuple per line, `-` for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["object", "object_type", "relation", "subject", "within", "dry_run", "limit"])]
    file: Option<PathBuf>,
    #[command(flatten)]
    filter: Filter,
    /// Count what would be deleted, and delete nothing
    #[arg(long)]
    dry_run: bool,
    /// Delete at most so many in this step, of a subtree the deepest first (default: all, or none)
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    #[command(flatten)]
    provided: Provided,
    #[command(flatten)]
    beside: Beside,
    #[command(flatten)]
    server: Server,
}

const REPLACE_EXAMPLES: &str = "\
Examples:
  procura tuple replace 'document:plan#viewer' user:rita 'group:board#member'
  procura tuple replace 'document:plan#viewer' --file viewers.txt
  procura tuple replace 'document:plan#viewer' --none     nobody is left

Afterwards exactly these subjects stand there. Those who did already are left
alone; all of it is one step.";

/// Leave exactly these subjects in one relation of one object
#[derive(Args)]
#[command(after_help = REPLACE_EXAMPLES)]
pub struct Replace {
    /// TYPE:ID#RELATION
    #[arg(value_name = "OBJECT#RELATION")]
    target: String,
    /// TYPE:ID, TYPE:ID#RELATION or TYPE:*
    #[arg(value_name = "SUBJECT", required_unless_present_any = ["file", "none"])]
    subjects: Vec<String>,
    /// A file with one subject per line, `-` for standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Leave nobody
    #[arg(long, conflicts_with_all = ["subjects", "file"])]
    none: bool,
    #[command(flatten)]
    provided: Provided,
    #[command(flatten)]
    beside: Beside,
    #[command(flatten)]
    server: Server,
}

/// Which tuples are meant; a part not given matches all.
#[derive(Args)]
pub struct Filter {
    /// TYPE or TYPE:ID
    #[arg(long)]
    object: Option<String>,
    /// TYPE: the same as --object TYPE
    #[arg(long, value_name = "TYPE", conflicts_with = "object")]
    object_type: Option<String>,
    /// The relation's name
    #[arg(long)]
    relation: Option<String>,
    /// TYPE, TYPE:ID or TYPE:*; then optionally #RELATION, or #... for none
    #[arg(long)]
    subject: Option<String>,
    /// TYPE:ID: only of this object and of those beneath it, by the schema's `parent` relations
    #[arg(long, value_name = "OBJECT")]
    within: Option<String>,
}

impl Tuple {
    /// Runs the subcommand.
    pub fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        match self {
            Tuple::Write(write) => write.run(output),
            Tuple::Read(read) => read.run(output),
            Tuple::Delete(delete) => delete.run(output),
            Tuple::Replace(replace) => replace.run(output),
            Tuple::Import(import) => import.run(output),
            Tuple::Export(export) => export.run(output),
            Tuple::Watch(watch) => watch.run(output),
        }
    }
}

impl Write {
    fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let kind = if self.create { UpdateKind::Create } else { UpdateKind::Touch };
        let updates = updates(read_items(&self.tuples, self.file.as_deref())?, kind)?;
        let preconditions = self.provided.preconditions()?;
        let metadata = self.beside.metadata()?;
        let written = self.server.connect()?.write_tuples(&updates, &preconditions, &metadata)?;
        if output.is_json() {
            output.value(&json!({
                "written": updates.len(),
                "created": written.created,
                "replaced": written.replaced,
                "token": written.token,
            }))?;
        } else {
            output.line(format_args!("written {}", counted(updates.len() as u64)))?;
            output.line(format_args!("token   {}", written.token))?;
        }
        Ok(Exit::Success)
    }
}

impl Read {
    fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let filter = self.filter.parsed()?;
        let client = self.server.connect()?;
        let at = self.when.at();
        if let Some(root) = &filter.within {
            note_within(&client, &at, root, filter.object_type.as_ref(), output);
        }
        let mut printing = Printing::new(output, self.limit);
        client.read_tuples(&filter, &at, self.cursor, asked_for(self.limit), &mut |tuple, cursor| {
            printing.row(&cursor, |output| {
                if output.is_json() {
                    output.value(&json!({"tuple": tuple.to_string(), "cursor": &cursor}))
                } else {
                    output.line(&tuple)
                }
            })
        })?;
        printing.end()?;
        Ok(Exit::Success)
    }
}

impl Delete {
    fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let preconditions = self.provided.preconditions()?;
        let metadata = self.beside.metadata()?;
        if !self.tuples.is_empty() || self.file.is_some() {
            let updates = updates(read_items(&self.tuples, self.file.as_deref())?, UpdateKind::Delete)?;
            let written = self.server.connect()?.write_tuples(&updates, &preconditions, &metadata)?;
            let absent = (updates.len() as u64).saturating_sub(written.deleted);
            if output.is_json() {
                output.value(&json!({"deleted": written.deleted, "absent": absent, "token": written.token}))?;
            } else {
                let others = if absent > 0 { format!("; {} not there", were(absent)) } else { String::new() };
                output.line(format_args!("deleted {}{others}", counted(written.deleted)))?;
                output.line(format_args!("token   {}", written.token))?;
            }
            return Ok(Exit::Success);
        }
        let filter = self.filter.parsed()?;
        if filter == TupleFilter::default() {
            return Err(Failure::usage("nothing names what to delete")
                .with_hint("name tuples, or give --object, --relation, --subject or --within"));
        }
        let (dry_run, limit) = (self.dry_run, self.limit);
        let deletion = Deletion { preconditions, metadata, dry_run, limit };
        let client = self.server.connect()?;
        if let Some(root) = &filter.within {
            note_within(&client, &At::Newest, root, filter.object_type.as_ref(), output);
        }
        let deleted = client.delete_tuples_under(&filter, &deletion)?;
        let may_be_more = deleted.more;
        if output.is_json() {
            output.value(&json!({
                "deleted": deleted.count,
                "dry_run": dry_run,
                "more": may_be_more,
                "token": deleted.token,
            }))?;
        } else if dry_run {
            output.line(format_args!("would delete {} (dry run)", counted(deleted.count)))?;
        } else {
            output.line(format_args!("deleted {}", counted(deleted.count)))?;
            output.line(format_args!("token   {}", deleted.token))?;
        }
        if may_be_more {
            output.note("stopped at the limit; more may be left: run it again");
        }
        Ok(Exit::Success)
    }
}

impl Replace {
    fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let (object, relation) = self.target.split_once('#').ok_or_else(|| {
            Failure::usage(format!("`{}` is not `TYPE:ID#RELATION`", self.target))
                .with_hint("such as `document:plan#viewer`")
        })?;
        let object: ObjectRef = object.parse().map_err(|error| wrong("OBJECT#RELATION", &self.target, &error))?;
        let relation = RelationName::new(relation).map_err(|error| wrong("OBJECT#RELATION", &self.target, &error))?;
        let items = read_texts::<TupleSubject>(&self.subjects, self.file.as_deref())?;
        if items.is_empty() && !self.none {
            // An empty file is rather a mistake than a wish.
            return Err(Failure::usage("no subject: the input holds only blank lines and comments")
                .with_hint("say --none to leave nobody"));
        }
        let subjects: Vec<TupleSubject> = items.into_iter().map(|item| item.value).collect();
        let (preconditions, metadata) = (self.provided.preconditions()?, self.beside.metadata()?);
        let replaced =
            self.server.connect()?.replace_subjects(&object, &relation, &subjects, &preconditions, &metadata)?;
        if output.is_json() {
            output.value(&json!({
                "added": replaced.added,
                "replaced": replaced.replaced,
                "removed": replaced.removed,
                "unchanged": replaced.unchanged,
                "token": replaced.token,
            }))?;
        } else {
            output.line(format_args!(
                "{} added, {} removed, {} with another caveat or expiry, {} unchanged",
                replaced.added, replaced.removed, replaced.replaced, replaced.unchanged
            ))?;
            output.line(format_args!("token   {}", replaced.token))?;
        }
        Ok(Exit::Success)
    }
}

fn were(count: u64) -> String {
    if count == 1 { "1 was".to_owned() } else { format!("{count} were") }
}

/// `1 tuple`, `2 tuples`
pub fn counted(count: u64) -> String {
    if count == 1 { "1 tuple".to_owned() } else { format!("{count} tuples") }
}

/// The updates of one call, which must fit one call.
fn updates(items: Vec<Item<RelationTuple>>, kind: UpdateKind) -> Result<Vec<TupleUpdate>, Failure> {
    let updates_max = Limits::default().updates_max;
    if items.len() > updates_max {
        return Err(Failure::usage(format!(
            "{} tuples, but one write changes at most {updates_max}, all or none; nothing was written",
            items.len()
        ))
        .with_hint("split the input; the parts are then written one after the other, each all or none"));
    }
    if items.is_empty() {
        return Err(Failure::usage("no tuple: the input holds only blank lines and comments"));
    }
    refuse_repeated(&items)?;
    Ok(items.into_iter().map(|item| TupleUpdate { kind, tuple: item.value }).collect())
}

impl Filter {
    /// The filter meant, or which option is wrong.
    pub fn parsed(&self) -> Result<TupleFilter, Failure> {
        let (object_type, object_id) = match &self.object {
            None => (self.object_type.as_deref().map(|text| type_name("--object-type", text)).transpose()?, None),
            Some(text) => match text.split_once(':') {
                None => (Some(type_name("--object", text)?), None),
                Some(_) => {
                    let object: ObjectRef = text.parse().map_err(|error| wrong("--object", text, &error))?;
                    (Some(object.object_type), Some(object.id))
                }
            },
        };
        let relation = match &self.relation {
            None => None,
            Some(text) => Some(RelationName::new(text.as_str()).map_err(|error| wrong("--relation", text, &error))?),
        };
        let subject = self.subject.as_deref().map(subject_filter).transpose()?;
        let root = |text: &str| text.parse::<ObjectRef>().map_err(|error| wrong("--within", text, &error));
        let within = self.within.as_deref().map(root).transpose()?;
        Ok(TupleFilter { object_type, object_id, relation, subject, within })
    }
}

/// `type`, `type:id`, `type:*`, and then `#relation` or `#...`.
fn subject_filter(text: &str) -> Result<SubjectFilter, Failure> {
    let (named, relation) = match text.split_once('#') {
        None => (text, SubjectRelationFilter::Any),
        Some((named, "...")) => (named, SubjectRelationFilter::Plain),
        Some((named, relation)) => {
            let relation = RelationName::new(relation).map_err(|error| wrong("--subject", text, &error))?;
            (named, SubjectRelationFilter::Relation(relation))
        }
    };
    if !named.contains(':') {
        return Ok(SubjectFilter { subject_type: type_name("--subject", named)?, id: None, relation });
    }
    let subject: SubjectRef = named.parse().map_err(|error| wrong("--subject", text, &error))?;
    let (subject_type, id): (TypeName, Option<ObjectId>) = match subject {
        SubjectRef::Object(object) | SubjectRef::Userset(object, _) => (object.object_type, Some(object.id)),
        SubjectRef::Wildcard(subject_type) => (subject_type, None),
    };
    let id = id.map_or(SubjectIdFilter::Wildcard, SubjectIdFilter::Id);
    Ok(SubjectFilter { subject_type, id: Some(id), relation })
}

fn type_name(option: &str, text: &str) -> Result<TypeName, Failure> {
    TypeName::new(text).map_err(|error| wrong(option, text, &error))
}

fn wrong(option: &str, text: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::usage(format!("`{option} {text}`: {error}"))
        .with_hint("such as `--object document:plan`, `--relation viewer`, `--subject group:board#member`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(object: Option<&str>, relation: Option<&str>, subject: Option<&str>) -> Result<TupleFilter, Failure> {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let (object, relation, subject) = (owned(object), owned(relation), owned(subject));
        Filter { object, object_type: None, relation, subject, within: None }.parsed()
    }

    #[test]
    fn a_subtree_is_named_by_one_object() {
        let within = |text: &str| Filter {
            object: None,
            object_type: None,
            relation: None,
            subject: None,
            within: Some(text.into()),
        };
        assert_eq!(within("folder:a").parsed().unwrap().within.unwrap().to_string(), "folder:a");
        for wrong in ["folder", "folder:", "folder:a#up", "folder:*"] {
            let Err(Failure::Said(complaint)) = within(wrong).parsed() else { panic!("accepted {wrong}") };
            assert!(complaint.message.contains("--within"), "{}", complaint.message);
        }
    }

    #[test]
    fn a_filter_takes_each_part_alone() {
        assert_eq!(filter(None, None, None).unwrap(), TupleFilter::default());
        let by_type = filter(Some("document"), None, None).unwrap();
        assert!(by_type.object_type.is_some() && by_type.object_id.is_none());
        let all = filter(Some("document:a:b"), Some("viewer"), Some("group:board#member")).unwrap();
        assert_eq!(all.object_id.unwrap().as_str(), "a:b");
        assert!(matches!(all.subject.unwrap().relation, SubjectRelationFilter::Relation(_)));
    }

    #[test]
    fn a_subject_may_be_a_type_an_object_a_userset_or_everybody() {
        let subject = |text| filter(None, None, Some(text)).unwrap().subject.unwrap();
        assert_eq!(subject("user").id, None);
        assert_eq!(subject("user:*").id, Some(SubjectIdFilter::Wildcard));
        assert_eq!(subject("user:rita").relation, SubjectRelationFilter::Any);
        assert_eq!(subject("user:rita#...").relation, SubjectRelationFilter::Plain);
        assert_eq!(subject("group#member").id, None);
    }

    #[test]
    fn a_wrong_part_is_refused() {
        for (object, relation, subject) in [
            (Some("Document"), None, None),
            (Some("document:"), None, None),
            (None, Some("view er"), None),
            (None, None, Some("user:")),
            (None, None, Some("group:board#")),
        ] {
            assert!(filter(object, relation, subject).is_err(), "{object:?} {relation:?} {subject:?}");
        }
    }
}
