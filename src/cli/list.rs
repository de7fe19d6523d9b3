//! `procura list`: where may a subject, who may here, what may a subject here.
//!
//! What always holds: a line is printed only for what Check would not deny, and a list that could not be finished ends
//! with an error, never as if it were whole.

use super::acting::{ActingFor, add_json, chain_text, denial_text};
use super::exit::{Exit, Failure};
use super::output::{Output, decision as coloured};
use super::reach::{Given, Server, When, note_context, note_within};
use crate::api::client::{Client, ListPage, Listed, ResourcesOf, SubjectsOf, Under};
use crate::engine::{DelegateRow, ExcludedSubject, PermissionRow, ResourceRow, SubjectRow};
use crate::model::{Decision, Limits, ObjectRef, RelationName, SubjectRef, TypeName};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::io;

/// List where a subject may, who may here, and what a subject may here
#[derive(Subcommand)]
pub enum List {
    Resources(Resources),
    Subjects(Subjects),
    Permissions(Permissions),
}

const RESOURCES_EXAMPLES: &str = "\
Examples:
  procura list resources project edit user:dana
  procura list resources 'project#edit@user:dana'          the same
  procura list resources project edit user:dana --limit 100
  procura list resources project edit user:dana --limit 100 --cursor CURSOR
  procura list resources project view 'group:board#member' --json
  procura list resources project edit user:dana --within workspace:lab

Objects stand in the order of their creation, each once. What hangs on context
that was not given is marked CONDITIONAL: it is not allowed. With --json, a list
that was cut ends with {\"more\": true, \"cursor\": …}.";

/// The objects of a type on which a subject has a permission
#[derive(Args)]
#[command(
    after_help = RESOURCES_EXAMPLES,
    override_usage = "procura list resources [OPTIONS] TYPE PERMISSION SUBJECT\n       \
                      procura list resources [OPTIONS] TYPE#PERMISSION@SUBJECT"
)]
pub struct Resources {
    /// The objects' type, a permission or relation of it, and TYPE:ID or TYPE:ID#RELATION
    #[arg(value_names = ["TYPE", "PERMISSION", "SUBJECT"], num_args = 1..=3, required = true)]
    asked: Vec<String>,
    /// TYPE:ID: only this object and those beneath it, by the schema's `parent` relations
    #[arg(long, value_name = "OBJECT")]
    within: Option<String>,
    #[command(flatten)]
    part: Part,
    #[command(flatten)]
    acting: ActingFor,
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    when: When,
    #[command(flatten)]
    server: Server,
}

const SUBJECTS_EXAMPLES: &str = "\
Examples:
  procura list subjects project:alpha edit user
  procura list subjects 'project:alpha#edit@user'          the same
  procura list subjects project:alpha edit 'group#member'
  procura list subjects project:alpha edit user --relations
  procura list subjects project:alpha edit user --within org:acme
  procura list subjects invoice:9 read agent --through-delegations
  procura list subjects project:alpha edit user --json

`user:* - {user:tom}` is everybody but tom. It stands first; subjects that a
tuple names are listed by themselves too.";

/// The subjects of a type that have a permission on an object
#[derive(Args)]
#[command(
    after_help = SUBJECTS_EXAMPLES,
    override_usage = "procura list subjects [OPTIONS] OBJECT PERMISSION SUBJECT_TYPE\n       \
                      procura list subjects [OPTIONS] OBJECT#PERMISSION@SUBJECT_TYPE"
)]
pub struct Subjects {
    /// TYPE:ID, a permission or relation of it, and TYPE, or TYPE#RELATION for usersets
    #[arg(value_names = ["OBJECT", "PERMISSION", "SUBJECT_TYPE"], num_args = 1..=3, required = true)]
    asked: Vec<String>,
    /// Name the relations whose tuples name each subject
    #[arg(long)]
    relations: bool,
    /// TYPE:ID: only subjects that are this object or beneath it, by the schema's `parent` relations
    #[arg(long, value_name = "OBJECT")]
    within: Option<String>,
    /// Who may do it for another, each with the delegation, instead of who may do it directly
    #[arg(long, conflicts_with_all = ["relations", "within"])]
    through_delegations: bool,
    #[command(flatten)]
    part: Part,
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    when: When,
    #[command(flatten)]
    server: Server,
}

const PERMISSIONS_EXAMPLES: &str = "\
Examples:
  procura list permissions project:alpha user:dana
  procura list permissions project:alpha user:dana --allowed
  procura list permissions project:alpha user:dana --allowed --conditional";

/// Every relation and permission of an object, each with the decision for a subject
#[derive(Args)]
#[command(after_help = PERMISSIONS_EXAMPLES)]
pub struct Permissions {
    /// TYPE:ID
    #[arg(value_name = "OBJECT")]
    object: String,
    /// TYPE:ID, or TYPE:ID#RELATION
    #[arg(value_name = "SUBJECT")]
    subject: String,
    /// Show only what is allowed
    #[arg(long)]
    allowed: bool,
    /// Show only what hangs on context that was not given; with --allowed, both
    #[arg(long)]
    conditional: bool,
    #[command(flatten)]
    acting: ActingFor,
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    when: When,
    #[command(flatten)]
    server: Server,
}

/// Which part of a list.
#[derive(Args)]
struct Part {
    /// Stop after this many (default: all)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Go on where an earlier list of the same stopped, as it said
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

impl List {
    /// Runs the subcommand.
    pub fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        match self {
            List::Resources(resources) => resources.run(output),
            List::Subjects(subjects) => subjects.run(output),
            List::Permissions(permissions) => permissions.run(output),
        }
    }
}

impl Resources {
    fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let under = self.given.under(&self.when)?;
        let [object_type, permission, subject] = three(&self.asked, "TYPE#PERMISSION@SUBJECT")?;
        let asked = ResourcesOf {
            object_type: type_name("TYPE", object_type)?,
            permission: relation("PERMISSION", permission)?,
            subject: parsed("SUBJECT", subject)?,
            acting: self.acting.acting()?,
            within: self.within.as_deref().map(|root| parsed("--within", root)).transpose()?,
        };
        let client = self.server.connect()?;
        if let Some(root) = &asked.within {
            note_within(&client, &under.at, root, Some(&asked.object_type), output);
        }
        note_context(&client, &under, output);
        let mut printing = Printing::new(output, self.part.limit);
        let page = self.part.page(under);
        let listed = client.list_resources(&asked, page, &mut |row| {
            let ResourceRow { object, decision, missing_fields, denial, chain, cursor } = row;
            printing.row(&cursor, |output| {
                if output.is_json() {
                    let mut json = json!({
                        "object": object.to_string(),
                        "decision": decision.as_str(),
                        "missing_context": missing_fields,
                        "cursor": &cursor,
                    });
                    add_json(&mut json, denial.as_ref(), &chain);
                    output.value(&json)
                } else {
                    let chain = if chain.is_empty() { String::new() } else { format!("  for {}", chain_text(&chain)) };
                    output.line(format_args!("{object}{}{chain}", condition(decision, &missing_fields)))
                }
            })
        })?;
        historical(&listed, printing.end()?);
        Ok(Exit::Success)
    }
}

impl Subjects {
    fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let [object, permission, subject_type] = three(&self.asked, "OBJECT#PERMISSION@SUBJECT_TYPE")?;
        let (subject_type, subject_relation) = match subject_type.split_once('#') {
            None => (type_name("SUBJECT_TYPE", subject_type)?, None),
            Some((subject_type, "...")) => (type_name("SUBJECT_TYPE", subject_type)?, None),
            Some((subject_type, name)) => {
                (type_name("SUBJECT_TYPE", subject_type)?, Some(relation("SUBJECT_TYPE", name)?))
            }
        };
        let (object, permission) = (parsed("OBJECT", object)?, relation("PERMISSION", permission)?);
        let within = self.within.as_deref().map(|root| parsed("--within", root)).transpose()?;
        let under = self.given.under(&self.when)?;
        let client = self.server.connect()?;
        note_context(&client, &under, output);
        let mut printing = Printing::new(output, self.part.limit);
        let page = self.part.page(under);
        if self.through_delegations {
            if subject_relation.is_some() {
                return Err(Failure::usage("who acts by a delegation is a plain object: give its type alone"));
            }
            let listed = client.list_delegates((&object, &permission, &subject_type), page, &mut |row| {
                printing.row(&row.cursor, |output| {
                    if output.is_json() {
                        output.value(&json_of_delegate(&row))
                    } else {
                        output.line(delegate_line(&row))
                    }
                })
            })?;
            historical(&listed, printing.end()?);
            return Ok(Exit::Success);
        }
        let asked =
            SubjectsOf { object, permission, subject_type, subject_relation, with_relations: self.relations, within };
        let listed = client.list_subjects(&asked, page, &mut |row| {
            printing.row(&row.cursor, |output| {
                if output.is_json() { output.value(&json_of_subject(&row)) } else { output.line(subject_line(&row)) }
            })
        })?;
        historical(&listed, printing.end()?);
        Ok(Exit::Success)
    }
}

impl Permissions {
    fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let object: ObjectRef = parsed("OBJECT", &self.object)?;
        let subject: SubjectRef = parsed("SUBJECT", &self.subject)?;
        let under = self.given.under(&self.when)?;
        let client: Client = self.server.connect()?;
        note_context(&client, &under, output);
        let (mut rows, listed) = client.list_permissions(&object, &subject, &self.acting.acting()?, &under)?;
        let is_wanted = |decision: Decision| match decision {
            Decision::Allow => self.allowed || !self.conditional,
            Decision::Conditional => self.conditional || !self.allowed,
            Decision::Deny => !self.allowed && !self.conditional,
        };
        rows.retain(|row| is_wanted(row.decision));
        let width = rows.iter().map(|row| row.name.as_str().len()).max().unwrap_or(0);
        for PermissionRow { name, is_relation, decision, missing_fields, denial, chain } in rows {
            let kind = if is_relation { "relation" } else { "permission" };
            if output.is_json() {
                let mut json = json!({
                    "name": name.to_string(),
                    "kind": kind,
                    "decision": decision.as_str(),
                    "missing_context": missing_fields,
                    "token": &listed.token,
                });
                add_json(&mut json, denial.as_ref(), &chain);
                output.value(&json)?;
            } else {
                let needs = needs(&missing_fields);
                let why = denial.map(|denial| format!("  {}", denial_text(&denial))).unwrap_or_default();
                output.line(format_args!("{:width$}  {kind:10}  {}{needs}{why}", name.as_str(), coloured(decision)))?;
            }
        }
        historical(&listed, output);
        Ok(Exit::Success)
    }
}

impl Part {
    fn page(&self, under: Under) -> ListPage {
        ListPage { under, cursor: self.cursor.clone(), limit: asked_for(self.limit) }
    }
}

/// How many rows to ask for, to print so many: one more, which tells whether there are more. A server ends a stream by
/// itself only within its page; beyond that we stop reading.
pub fn asked_for(limit: Option<u64>) -> Option<u64> {
    let page_max = Limits::default().page_tuples_max as u64;
    limit.map(|limit| limit.saturating_add(1)).filter(|asked| *asked <= page_max)
}

/// Prints rows as they come, up to the limit.
pub struct Printing<'a> {
    output: &'a mut Output,
    limit: Option<u64>,
    printed: u64,
    last: String,
    /// A row came that is beyond the limit.
    is_cut: bool,
    broken: Option<io::Error>,
}

impl<'a> Printing<'a> {
    /// Nothing printed yet.
    pub fn new(output: &'a mut Output, limit: Option<u64>) -> Printing<'a> {
        Printing { output, limit, printed: 0, last: String::new(), is_cut: false, broken: None }
    }

    /// Prints one row; whether to go on.
    pub fn row(&mut self, cursor: &str, print: impl FnOnce(&mut Output) -> io::Result<()>) -> bool {
        if self.limit == Some(self.printed) {
            self.is_cut = true;
            return false;
        }
        self.broken = print(self.output).err();
        self.printed += 1;
        cursor.clone_into(&mut self.last);
        self.broken.is_none()
    }

    /// Says where to go on, if there is more.
    pub fn end(self) -> Result<&'a mut Output, Failure> {
        let Printing { output, limit: _, printed, last, is_cut, broken } = self;
        if let Some(error) = broken {
            return Err(error.into());
        }
        if is_cut && output.is_json() {
            output.value(&json!({"more": true, "cursor": last}))?;
        } else if is_cut {
            output.flush()?;
            output.note(format_args!("stopped after {printed}; go on with --cursor {last}"));
        }
        Ok(output)
    }
}

fn historical(listed: &Listed, output: &mut Output) {
    if listed.historical {
        output.note("this list is historical: newer revisions exist");
    }
}

/// What a conditional row hangs on; nothing behind an allowed one.
fn condition(decision: Decision, missing_fields: &[String]) -> String {
    match decision {
        Decision::Allow => String::new(),
        Decision::Conditional | Decision::Deny => format!("  {}{}", coloured(decision), needs(missing_fields)),
    }
}

fn needs(missing_fields: &[String]) -> String {
    if missing_fields.is_empty() { String::new() } else { format!(" (needs {})", missing_fields.join(", ")) }
}

fn subject_line(row: &SubjectRow) -> String {
    let SubjectRow { subject, decision, missing_fields, exclusions, relations, cursor: _ } = row;
    let mut line = subject.to_string();
    if !exclusions.is_empty() {
        let one = |excluded: &ExcludedSubject| {
            let ExcludedSubject { subject, decision, missing_fields } = excluded;
            match decision {
                Decision::Deny => subject.to_string(),
                Decision::Conditional | Decision::Allow => {
                    format!("{subject}{}", condition(*decision, missing_fields))
                }
            }
        };
        let exclusions: Vec<String> = exclusions.iter().map(one).collect();
        line.push_str(&format!(" - {{{}}}", exclusions.join(", ")));
    }
    line.push_str(&condition(*decision, missing_fields));
    if !relations.is_empty() {
        let by: Vec<String> = relations.iter().map(|(object, name)| format!("{object}#{name}")).collect();
        line.push_str(&format!("  by {}", by.join(", ")));
    }
    line
}

fn json_of_subject(row: &SubjectRow) -> Value {
    let SubjectRow { subject, decision, missing_fields, exclusions, relations, cursor } = row;
    let exclusions: Vec<Value> = exclusions.iter().map(json_of_excluded).collect();
    let relations: Vec<String> = relations.iter().map(|(object, name)| format!("{object}#{name}")).collect();
    json!({
        "subject": subject.to_string(),
        "decision": decision.as_str(),
        "missing_context": missing_fields,
        "exclusions": exclusions,
        "relations": relations,
        "cursor": cursor,
    })
}

fn delegate_line(row: &DelegateRow) -> String {
    let DelegateRow { subject, chain, decision, missing, exclusions, cursor: _ } = row;
    let excluded: Vec<String> = exclusions.iter().map(|one| one.subject.to_string()).collect();
    let minus = if excluded.is_empty() { String::new() } else { format!(" - {{{}}}", excluded.join(", ")) };
    format!("{subject}{minus}{}  for {}", condition(*decision, missing), chain_text(chain))
}

fn json_of_delegate(row: &DelegateRow) -> Value {
    let DelegateRow { subject, chain, decision, missing, exclusions, cursor } = row;
    let mut json = json!({
        "subject": subject.to_string(),
        "decision": decision.as_str(),
        "missing_context": missing,
        "exclusions": exclusions.iter().map(json_of_excluded).collect::<Vec<Value>>(),
        "cursor": cursor,
    });
    add_json(&mut json, None, chain);
    json
}

fn json_of_excluded(one: &ExcludedSubject) -> Value {
    let ExcludedSubject { subject, decision, missing_fields } = one;
    json!({"subject": subject.to_string(), "decision": decision.as_str(), "missing_context": missing_fields})
}

/// Three arguments, or the same in one as a question is written. It is unambiguous: ids hold `@` but never `#`.
fn three<'a>(asked: &'a [String], form: &str) -> Result<[&'a str; 3], Failure> {
    match asked {
        [first, permission, last] => Ok([first, permission, last]),
        [one] => {
            let parts = one
                .split_once('#')
                .and_then(|(first, rest)| rest.split_once('@').map(|(permission, last)| [first, permission, last]));
            parts.ok_or_else(|| {
                Failure::usage(format!("`{one}` is not {form}")).with_hint("or give its three parts as three arguments")
            })
        }
        _ => Err(Failure::usage(format!("three arguments, or one of the form {form}, are needed"))),
    }
}

fn type_name(argument: &str, text: &str) -> Result<TypeName, Failure> {
    TypeName::new(text).map_err(|error| wrong(argument, text, &error))
}

fn relation(argument: &str, text: &str) -> Result<RelationName, Failure> {
    RelationName::new(text).map_err(|error| wrong(argument, text, &error))
}

fn parsed<V: std::str::FromStr>(argument: &str, text: &str) -> Result<V, Failure>
where
    V::Err: std::fmt::Display,
{
    text.parse().map_err(|error| wrong(argument, text, &error))
}

fn wrong(argument: &str, text: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::usage(format!("{argument} `{text}`: {error}"))
        .with_hint("such as `list resources document view user:rita` or `list subjects document:plan view user`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_shows_whom_it_leaves_out() {
        let subject = |text: &str| text.parse::<SubjectRef>().unwrap();
        let excluded =
            |text, decision| ExcludedSubject { subject: subject(text), decision, missing_fields: vec!["ip".into()] };
        let row = SubjectRow {
            subject: subject("user:*"),
            decision: Decision::Allow,
            missing_fields: Vec::new(),
            exclusions: vec![excluded("user:a", Decision::Deny), excluded("user:b", Decision::Conditional)],
            relations: vec![("doc:1".parse().unwrap(), RelationName::new("viewer").unwrap())],
            cursor: "c".into(),
        };
        let line = anstream::adapter::strip_str(&subject_line(&row)).to_string();
        assert_eq!(line, "user:* - {user:a, user:b  CONDITIONAL (needs ip)}  by doc:1#viewer");
        let value = json_of_subject(&row);
        assert_eq!(value["exclusions"][1]["decision"], "CONDITIONAL");
        assert_eq!(value["relations"][0], "doc:1#viewer");
    }

    #[test]
    fn a_question_may_stand_in_one_argument() {
        let asked = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let (one, all) = (asked(&["doc:a@b#view@group#member"]), asked(&["doc:a@b", "view", "group#member"]));
        assert_eq!(three(&one, "F").unwrap(), three(&all, "F").unwrap());
        assert!(three(&asked(&["doc:a", "view"]), "F").is_err());
        assert!(three(&asked(&["doc:a"]), "F").is_err());
    }

    #[test]
    fn a_wrong_argument_is_named() {
        for (argument, text) in [("TYPE", "Document"), ("TYPE", "")] {
            let Err(Failure::Said(complaint)) = type_name(argument, text) else { panic!("accepted {text}") };
            assert!(complaint.message.contains(argument));
        }
        assert!(relation("PERMISSION", "a b").is_err());
        assert!(parsed::<SubjectRef>("SUBJECT", "rita").is_err());
    }
}
