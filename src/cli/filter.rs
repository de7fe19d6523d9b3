//! `procura filter`: which of these objects may a subject?
//!
//! What always holds: an id is printed only if Check allows it. What hangs on context, or could not be answered, is told
//! beside the list, never in it.

use super::acting::ActingFor;
use super::delegation::parsed;
use super::exit::{Exit, Failure};
use super::input::{Item, read_texts};
use super::output::Output;
use super::reach::{Given, Server, When, note_context};
use crate::api::client::{FilterOf, Filtered};
use crate::model::{Decision, Limits, ObjectId};
use clap::Args;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  procura filter project edit user:dana alpha beta gamma
  procura filter project edit user:dana --ids found.txt
  search 'roadmap' | procura filter doc view user:dana -
  procura filter invoice read agent:support_bot 9 10 --for user:rita
  procura filter project edit user:dana alpha beta --json

Prints the ids that are allowed, in the order given, all at one revision. A file
has one id per line; blank lines and lines that start with // are not ids. With
--json one value with the columns `ids` and `decisions`; `missing_context` and
`errors` name the index of what they tell of.
Exit codes: 0 all were answered, 4 some could not be.";

/// Ids that could not be answered which are told one by one.
const SHOWN_MAX: usize = 20;

/// Which of these objects a subject has a permission on
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Filter {
    /// The objects' type
    #[arg(value_name = "TYPE")]
    object_type: String,
    /// A permission or relation of the type
    #[arg(value_name = "PERMISSION")]
    permission: String,
    /// TYPE:ID, or TYPE:ID#RELATION
    #[arg(value_name = "SUBJECT")]
    subject: String,
    /// The objects' ids, or `-` for standard input
    #[arg(value_name = "ID", required_unless_present = "file")]
    ids: Vec<String>,
    /// A file with one id per line, `-` for standard input
    #[arg(id = "file", long = "ids", value_name = "FILE", conflicts_with = "ids")]
    file: Option<PathBuf>,
    #[command(flatten)]
    acting: ActingFor,
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    when: When,
    #[command(flatten)]
    server: Server,
}

impl Filter {
    /// Asks once, and prints what is allowed.
    pub fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let items: Vec<Item<ObjectId>> = match (self.ids.as_slice(), self.file.as_deref()) {
            ([dash], None) if dash == "-" => read_texts(&[], Some(Path::new("-")))?,
            (ids, file) => read_texts(ids, file)?,
        };
        let ids_max = Limits::default().filter_ids_max;
        if items.len() > ids_max {
            let message = format!("{} ids, but one call answers at most {ids_max}, all at one revision", items.len());
            return Err(Failure::usage(message)
                .with_hint("split the file; give the token of the first part as --at-exact-snapshot to the others"));
        }
        let ids: Vec<ObjectId> = items.into_iter().map(|item| item.value).collect();
        let asked = FilterOf {
            object_type: parsed("TYPE", &self.object_type)?,
            permission: parsed("PERMISSION", &self.permission)?,
            subject: parsed("SUBJECT", &self.subject)?,
            acting: self.acting.acting()?,
        };
        let under = self.given.under(&self.when)?;
        let client = self.server.connect()?;
        note_context(&client, &under, output);
        let filtered = client.filter_resources(&asked, &ids, &under)?;
        if output.is_json() {
            output.value(&json_of(&ids, &filtered))?;
        } else {
            print(&ids, &filtered, output)?;
        }
        Ok(if filtered.errors.is_empty() { Exit::Success } else { Exit::Refused })
    }
}

fn print(ids: &[ObjectId], filtered: &Filtered, output: &mut Output) -> Result<(), Failure> {
    let Filtered { token: _, historical, decisions, missing, errors } = filtered;
    for (id, decision) in ids.iter().zip(decisions) {
        if *decision == Some(Decision::Allow) {
            output.line(id)?;
        }
    }
    output.flush()?;
    if !missing.is_empty() {
        let fields: BTreeSet<&str> = missing.iter().flat_map(|(_, fields)| fields).map(String::as_str).collect();
        let fields: Vec<&str> = fields.into_iter().collect();
        output.note(format_args!(
            "{} of {} ids hang on context that was not given: --context with {}",
            missing.len(),
            ids.len(),
            fields.join(", ")
        ));
    }
    for (at, error) in errors.iter().take(SHOWN_MAX) {
        let id = ids.get(*at).map_or("", ObjectId::as_str);
        output.note(format_args!("ERROR {id}: {} [{} {}]", error.message, error.code, error.reason));
    }
    if errors.len() > SHOWN_MAX {
        output.note(format_args!("{} further ids could not be answered", errors.len() - SHOWN_MAX));
    }
    if *historical {
        output.note("this answer is historical: newer revisions exist");
    }
    Ok(())
}

fn json_of(ids: &[ObjectId], filtered: &Filtered) -> Value {
    let Filtered { token, historical, decisions, missing, errors } = filtered;
    let missing = missing.iter().map(|(index, fields)| json!({"index": index, "fields": fields}));
    let errors = errors.iter().map(|(index, error)| {
        json!({
            "index": index,
            "error": {
                "code": error.code,
                "reason": error.reason,
                "message": error.message,
                "hint": error.fact("hint"),
            },
        })
    });
    json!({
        "ids": ids.iter().map(ObjectId::as_str).collect::<Vec<&str>>(),
        "decisions": decisions.iter().map(|decision| decision.map(Decision::as_str)).collect::<Vec<_>>(),
        "missing_context": missing.collect::<Vec<Value>>(),
        "errors": errors.collect::<Vec<Value>>(),
        "token": token,
        "historical": historical,
    })
}
