//! `procura delegation`: who may act for whom, within what, until when.
//!
//! INVARIANT: one invocation of `create`, `narrow`, `revoke` or `revoke-all` is one call, all or nothing. Warnings go to
//! standard error: the delegation is made all the same.

use super::exit::{Exit, Failure};
use super::input::{read_file, read_stdin};
use super::output::Output;
use super::reach::{Beside, Provided, Server, When};
use crate::api::client::{
    At, Client, DelegationCreated, DelegationRead, DelegationsOf, NewDelegation, Page, PageAt, Saying, WarningSaid,
};
use crate::engine::{AskedItem, DelegationEnd, DelegationSeen};
use crate::model::{
    AskedPermissions, Clause, Context, Delegation, DelegationState, NameError, ObjectRef, PermissionName, Revoked,
    ScopeItem, SubjectRef, Suspension, Timestamp, TupleCaveat,
};
use clap::{Args, Subcommand, ValueEnum};
use serde::Deserialize;
use serde_json::{Value, json};
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// Let somebody act for another: create, narrow, revoke, list and show delegations
#[derive(Subcommand)]
pub enum Delegate {
    Create(Box<Create>),
    Narrow(Narrow),
    Revoke(Revoke),
    RevokeAll(RevokeAll),
    List(Box<List>),
    Show(Show),
    Export(Export),
    Import(Import),
}

const CREATE_EXAMPLES: &str = "\
Examples:
  procura delegation create --from user:rita --to agent:bot \\
      --permission read,refund --within invoice:9 --for 15m --purpose 'ticket 7'
  procura delegation create --from user:dana --to 'group:triage#member' \\
      --all --within workspace:engineering --until 2030-01-01T00:00:00Z --redelegate 1
  procura delegation create --from agent:bot --to agent:sub --parent dlg_… \\
      --permission read --within invoice:9 --for 5m --strict
  procura delegation create --from user:rita --to agent:bot --for 1h \\
      --item '{\"permissions\": [\"read\"], \"within\": [\"workspace:support\"]}' \\
      --item '{\"permissions\": \"all\", \"within\": [\"ticket:1\"]}'

A delegation adds no right. What the delegate may do through it is what all of
these allow at that moment: its own role, the scope given here, and what
everybody above it may do. So nobody can give more than it has, and an agent
without a role of its own can do nothing.
An object stands for itself and all beneath it, by the schema's `parent`
relations. Every delegation ends; there is none for ever.";

/// Let a delegate act for a delegator, within a scope and a time
#[derive(Args)]
#[command(after_help = CREATE_EXAMPLES)]
pub struct Create {
    /// TYPE:ID: who delegates. You vouch for its consent
    #[arg(long, value_name = "OBJECT")]
    from: String,
    /// TYPE:ID, or TYPE:ID#RELATION for whoever is in it at each use
    #[arg(long, value_name = "SUBJECT")]
    to: String,
    #[command(flatten)]
    scope: Scope,
    /// How long it lasts from now, or from --not-before: such as 15m, 2h, 30d or 1h30m
    #[arg(long = "for", value_name = "DURATION", value_parser = duration, required_unless_present = "until")]
    lasts: Option<Duration>,
    /// When it ends, such as 2030-01-01T00:00:00Z: from then on it is over
    #[arg(long, value_name = "TIME", conflicts_with = "lasts")]
    until: Option<Timestamp>,
    /// When it begins to hold (default: now)
    #[arg(long, value_name = "TIME")]
    not_before: Option<Timestamp>,
    /// How many further delegations may follow one another below it
    #[arg(long, value_name = "N", default_value_t = 0)]
    redelegate: u32,
    /// The delegation by which the delegator itself acts for another
    #[arg(long, value_name = "ID")]
    parent: Option<String>,
    /// Why, for whoever reads it later
    #[arg(long, value_name = "TEXT", default_value = "")]
    purpose: String,
    /// Refuse what is wider than the parent or than what the delegator has now, instead of warning of it
    #[arg(long)]
    strict: bool,
    /// The same request under the same key makes one delegation, for 24 hours
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// As if it were made at this time; only by a server with --test-clock
    #[arg(long, value_name = "TIME", hide_short_help = true)]
    clock: Option<Timestamp>,
    #[command(flatten)]
    provided: Provided,
    #[command(flatten)]
    beside: Beside,
    #[command(flatten)]
    server: Server,
}

/// What is covered: one item of --permission or --all, or several by --item or --file.
#[derive(Args)]
struct Scope {
    /// PERMISSION, or TYPE#PERMISSION of one definition only; several with commas, or given several times
    #[arg(long, value_name = "NAME", value_delimiter = ',', conflicts_with = "all")]
    permission: Vec<String>,
    /// Every permission that the schema has now; later ones are not covered
    #[arg(long)]
    all: bool,
    /// TYPE:ID: of this object and all beneath it; may be given several times
    #[arg(long, value_name = "OBJECT")]
    within: Vec<String>,
    /// Only under this condition: NAME, or NAME:{JSON} with values stored for its parameters
    #[arg(long, value_name = "NAME:{JSON}")]
    caveat: Option<String>,
    /// One item as JSON: {"permissions": [..] or "all", "within": [..], "caveat": {"name": .., "context": {..}}}
    #[arg(long, value_name = "JSON", conflicts_with_all = ["permission", "all", "within", "caveat"])]
    item: Vec<String>,
    /// A file with one such item per line, `-` for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["permission", "all", "within", "caveat"])]
    file: Option<PathBuf>,
}

const NARROW_EXAMPLES: &str = "\
Examples:
  procura delegation narrow dlg_… --permission read --within invoice:9
  procura delegation narrow dlg_… --until 2030-01-01T00:00:00Z

Whatever it covers must be in the old scope and in the new one, also when data
moves later. There is no way back: to widen, make a new delegation.";

/// Cover less, or end earlier
#[derive(Args)]
#[command(after_help = NARROW_EXAMPLES)]
pub struct Narrow {
    /// The delegation
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    scope: Scope,
    /// An earlier end
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    #[command(flatten)]
    provided: Provided,
    #[command(flatten)]
    beside: Beside,
    #[command(flatten)]
    server: Server,
}

/// End a delegation now, for ever; all below it deny with it
#[derive(Args)]
pub struct Revoke {
    /// The delegation
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    because: Because,
    #[command(flatten)]
    provided: Provided,
    #[command(flatten)]
    beside: Beside,
    #[command(flatten)]
    server: Server,
}

/// Why something is ended.
#[derive(Args)]
pub struct Because {
    /// Why; kept with the record
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
}

const REVOKE_ALL_EXAMPLES: &str = "\
Examples:
  procura delegation revoke-all agent:bot --reason 'leaked key'
  procura delegation revoke-all 'group:triage#member'

A group is not its members. To stop a principal in every part it plays, also
through its groups: procura principal suspend";

/// End every delegation that names a principal as delegator or delegate
#[derive(Args)]
#[command(after_help = REVOKE_ALL_EXAMPLES)]
pub struct RevokeAll {
    /// TYPE:ID, or TYPE:ID#RELATION
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

const LIST_EXAMPLES: &str = "\
Examples:
  procura delegation list                              all there ever were
  procura delegation list --root user:rita --state live
  procura delegation list --delegate agent:bot         what it was given
  procura delegation list --anchor invoice:9 --json    with this very object
  procura delegation list --parent dlg_…               made right under one

They stand in the order of creation. A state is a delegation's own: one that is
LIVE denies all the same when one above it is revoked; see `show`.";

/// List delegations
#[derive(Args)]
#[command(after_help = LIST_EXAMPLES)]
pub struct List {
    /// TYPE:ID: for whom the chain acts in the end
    #[arg(long, value_name = "OBJECT")]
    root: Option<String>,
    /// TYPE:ID, or TYPE:ID#RELATION: whom they were given to, as written
    #[arg(long, value_name = "SUBJECT")]
    delegate: Option<String>,
    /// TYPE:ID: who gave them
    #[arg(long, value_name = "OBJECT")]
    delegator: Option<String>,
    /// TYPE:ID: with exactly this object among those they are within
    #[arg(long, value_name = "OBJECT")]
    anchor: Option<String>,
    /// Made right under this one
    #[arg(long, value_name = "ID")]
    parent: Option<String>,
    /// In this state by themselves
    #[arg(long, value_enum)]
    state: Option<State>,
    /// Stop after this many (default: all)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Go on where an earlier list of the same stopped, as it said
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
    /// States as of this time; only from a server with --test-clock
    #[arg(long, value_name = "TIME", hide_short_help = true)]
    clock: Option<Timestamp>,
    #[command(flatten)]
    when: When,
    #[command(flatten)]
    server: Server,
}

/// What has become of a delegation by itself.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum State {
    Live,
    NotYetValid,
    Expired,
    Revoked,
}

/// Show a delegation with the whole chain above it
#[derive(Args)]
pub struct Show {
    /// The delegation
    #[arg(value_name = "ID")]
    id: String,
    /// States as of this time; only from a server with --test-clock
    #[arg(long, value_name = "TIME", hide_short_help = true)]
    clock: Option<Timestamp>,
    #[command(flatten)]
    when: When,
    #[command(flatten)]
    server: Server,
}

const EXPORT_EXAMPLES: &str = "\
Examples:
  procura delegation export > delegations.jsonl

Whoever is suspended stands first, then one record a line, in the order of
creation, with all that became of it: what `procura delegation import` takes.
All is of one revision. What is revoked or suspended after it is not in it, so
let nobody write here any more before the other database takes over.";

/// Write out every suspension and delegation, one JSON record a line
#[derive(Args)]
#[command(after_help = EXPORT_EXAMPLES)]
pub struct Export {
    #[command(flatten)]
    server: Server,
}

const IMPORT_EXAMPLES: &str = "\
Examples:
  procura delegation import delegations.jsonl
  procura delegation export --server A | procura delegation import - --server B

Ids are kept, so that one in an old record means the same. What is there already
just so is left alone: an import that broke off may be run again. Whoever was
suspended is suspended from now on, before any delegation is made. Batches of
1,000 are committed one by one, each all or nothing.";

/// Take suspensions and delegations that were exported from another database
#[derive(Args)]
#[command(after_help = IMPORT_EXAMPLES)]
pub struct Import {
    /// A file as `export` writes it, `-` for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    beside: Beside,
    #[command(flatten)]
    server: Server,
}

impl Delegate {
    /// Runs the subcommand.
    pub fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        match self {
            Delegate::Create(create) => create.run(output),
            Delegate::Narrow(narrow) => narrow.run(output),
            Delegate::Revoke(revoke) => revoke.run(output),
            Delegate::RevokeAll(revoke) => revoke.run(output),
            Delegate::List(list) => list.run(output),
            Delegate::Show(show) => show.run(output),
            Delegate::Export(export) => export.run(output),
            Delegate::Import(import) => import.run(output),
        }
    }
}

impl Create {
    fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let items = self.scope.items()?;
        if items.is_empty() {
            return Err(Failure::usage("nothing is covered")
                .with_hint("give --permission or --all, and --within; or --item, or --file"));
        }
        let new = NewDelegation {
            delegator: parsed("--from", &self.from)?,
            delegate: parsed("--to", &self.to)?,
            items,
            parent: self.parent.as_deref().map(|id| parsed("--parent", id)).transpose()?,
            not_before: self.not_before,
            end: match (self.until, self.lasts) {
                (Some(at), _) => DelegationEnd::At(at),
                (None, Some(duration)) => DelegationEnd::After(duration),
                (None, None) => return Err(Failure::usage("give --for or --until: no delegation is for ever")),
            },
            redelegate: self.redelegate,
            purpose: self.purpose,
            strict: self.strict,
            idempotency_key: self.idempotency_key,
            preconditions: self.provided.preconditions()?,
            metadata: self.beside.metadata()?,
            clock: self.clock,
        };
        let DelegationCreated { delegation, warnings, token } = self.server.connect()?.create_delegation(&new)?;
        if output.is_json() {
            let warnings: Vec<Value> = warnings.iter().map(json_of_warning).collect();
            output.value(&json!({"delegation": delegation, "warnings": warnings, "token": token}))?;
            return Ok(Exit::Success);
        }
        output.line(format_args!("created {}", delegation.id))?;
        describe(output, &delegation)?;
        output.line(format_args!("token   {token}"))?;
        output.flush()?;
        for WarningSaid { kind, field, message, hint } in &warnings {
            output.note(format_args!("warning: {field}: {message} [{kind}]\n  {hint}"));
        }
        Ok(Exit::Success)
    }
}

impl Narrow {
    fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let id = parsed("ID", &self.id)?;
        let items = self.scope.items()?;
        if items.is_empty() && self.until.is_none() {
            return Err(
                Failure::usage("nothing would be narrowed").with_hint("give --permission and --within, or --until")
            );
        }
        let saying = saying(String::new(), &self.provided, &self.beside)?;
        let changed = self.server.connect()?.narrow_delegation(&id, &items, self.until, &saying)?;
        if output.is_json() {
            output.value(&json!({"delegation": changed.delegation, "token": changed.token}))?;
        } else {
            output.line(format_args!("narrowed {}", changed.delegation.id))?;
            describe(output, &changed.delegation)?;
            output.line(format_args!("token   {}", changed.token))?;
        }
        Ok(Exit::Success)
    }
}

impl Revoke {
    fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let id = parsed("ID", &self.id)?;
        let saying = saying(self.because.reason, &self.provided, &self.beside)?;
        let changed = self.server.connect()?.revoke_delegation(&id, &saying)?;
        if output.is_json() {
            output.value(&json!({"delegation": changed.delegation, "token": changed.token}))?;
        } else {
            output.line(format_args!("revoked {}", changed.delegation.id))?;
            describe(output, &changed.delegation)?;
            output.line(format_args!("token   {}", changed.token))?;
        }
        Ok(Exit::Success)
    }
}

impl RevokeAll {
    fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let principal: SubjectRef = parsed("PRINCIPAL", &self.principal)?;
        let saying = saying(self.because.reason, &self.provided, &self.beside)?;
        let (count, token) = self.server.connect()?.revoke_all_for(&principal, &saying)?;
        if output.is_json() {
            output.value(&json!({"revoked": count, "token": token}))?;
        } else {
            let noun = if count == 1 { "delegation" } else { "delegations" };
            output.line(format_args!("revoked {count} {noun} of {principal}"))?;
            output.line(format_args!("token   {token}"))?;
        }
        Ok(Exit::Success)
    }
}

impl List {
    fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let of = DelegationsOf {
            root: self.root.as_deref().map(|text| parsed("--root", text)).transpose()?,
            delegate: self.delegate.as_deref().map(|text| parsed("--delegate", text)).transpose()?,
            delegator: self.delegator.as_deref().map(|text| parsed("--delegator", text)).transpose()?,
            anchor: self.anchor.as_deref().map(|text| parsed("--anchor", text)).transpose()?,
            parent: self.parent.as_deref().map(|text| parsed("--parent", text)).transpose()?,
            state: self.state.map(State::meant),
        };
        let client = self.server.connect()?;
        let (at, clock) = (self.when.at(), self.clock);
        in_pages(output, self.limit, self.cursor, "delegations", |size, cursor, output| {
            let page = PageAt { at: at.clone(), size, cursor, clock };
            let Page { rows, next_cursor, token: _ } = client.list_delegations(&of, &page)?;
            for DelegationSeen { delegation, state } in &rows {
                if output.is_json() {
                    output.value(&json!({"delegation": **delegation, "state": state.as_str()}))?;
                } else {
                    output.line(line_of(delegation, *state))?;
                }
            }
            Ok((rows.len() as u64, next_cursor))
        })?;
        Ok(Exit::Success)
    }
}

impl Export {
    fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let client = self.server.connect()?;
        let (mut lines, mut token) = picture(&client)?;
        let mut is_newest = false;
        for _ in 1..PICTURES_MAX {
            let newest = client.list_suspended(&PageAt { size: Some(1), ..PageAt::default() })?.token;
            is_newest = newest == token;
            if is_newest {
                break;
            }
            let later = picture(&client)?;
            is_newest = later.0 == lines;
            (lines, token) = later;
            if is_newest {
                break;
            }
        }
        for line in &lines {
            output.value(line)?;
        }
        output.flush()?;
        if !is_newest {
            output.note(format_args!(
                "the database changes while it is read; this is its state at {token}\n  \
                 let nobody write and export again, lest something revoked or suspended since lands live"
            ));
        }
        Ok(Exit::Success)
    }
}

/// How often an export reads all, as long as it finds something else each time.
const PICTURES_MAX: usize = 4;

/// Everything that is exported, of one revision, and the token of that.
fn picture(client: &Client) -> Result<(Vec<Value>, String), Failure> {
    let mut lines = Vec::new();
    let mut next = PageAt::default();
    // Bounded: each page goes on after the one before.
    let token = loop {
        let Page { rows, next_cursor, token } = client.list_suspended(&next)?;
        lines.extend(rows.iter().map(|suspension| json!({"suspended": suspension})));
        next = PageAt { at: At::AtExactSnapshot(token.clone()), cursor: next_cursor, ..PageAt::default() };
        if next.cursor.is_none() {
            break token;
        }
    };
    let of = DelegationsOf::default();
    // Bounded likewise.
    loop {
        let Page { rows, next_cursor, token: _ } = client.list_delegations(&of, &next)?;
        lines.extend(rows.iter().map(|seen| json!(*seen.delegation)));
        next.cursor = next_cursor;
        if next.cursor.is_none() {
            return Ok((lines, token));
        }
    }
}

/// Records of one batch of an import.
const BATCH_RECORDS: usize = 1_000;

impl Import {
    fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let text = if self.file == Path::new("-") { read_stdin()? } else { read_file(&self.file)? };
        let mut records: Vec<(usize, Delegation)> = Vec::new();
        let mut suspensions: Vec<(usize, Suspension)> = Vec::new();
        for (before, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let wrong = |what: &str, error: serde_json::Error| {
                Failure::usage(format!("{}:{}: no {what}: {error}", self.file.display(), before + 1))
            };
            if serde_json::from_str::<Value>(line).is_ok_and(|value| value.get("suspended").is_some()) {
                let SuspendedLine { suspended } =
                    serde_json::from_str(line).map_err(|error| wrong("suspension", error))?;
                suspensions.push((before + 1, suspended));
            } else {
                records.push((before + 1, serde_json::from_str(line).map_err(|error| wrong("delegation", error))?));
            }
        }
        let metadata = self.beside.metadata()?;
        let client = self.server.connect()?;
        let (mut created, mut unchanged, mut token) = (0, 0, None);
        // Before any delegation is made: nobody acts here meanwhile who was denied there.
        let mut suspended = 0_u64;
        for (line, Suspension { principal, since: _, reason }) in &suspensions {
            let saying = Saying { reason: reason.clone(), preconditions: Vec::new(), metadata: metadata.clone() };
            let done = client.suspend_principal(principal, &saying);
            let done = done.map_err(|error| Failure::from(error).with_fact("line", line.to_string()))?;
            suspended += u64::from(done.changed);
            token = Some(done.token);
        }
        for batch in records.chunks(BATCH_RECORDS) {
            let given: Vec<Delegation> = batch.iter().map(|(_, record)| record.clone()).collect();
            let done = client.import_delegations(&given, &metadata).map_err(|error| {
                let field = error.fact("field").unwrap_or_default().to_owned();
                let failure = Failure::from(error).with_fact("imported", (created + unchanged).to_string());
                match line_named(&field, batch) {
                    Some(line) => failure.with_fact("line", line.to_string()),
                    None => failure,
                }
            })?;
            created += done.created;
            unchanged += done.unchanged;
            token = Some(done.token);
        }
        if output.is_json() {
            let told = json!({"created": created, "unchanged": unchanged, "suspended": suspended, "token": token});
            output.value(&told)?;
        } else {
            output.line(format_args!("imported {created}, {unchanged} were there already"))?;
            if !suspensions.is_empty() {
                output.line(format_args!("suspended {suspended} of {}", suspensions.len()))?;
            }
            if let Some(token) = token {
                output.line(format_args!("token   {token}"))?;
            }
        }
        Ok(Exit::Success)
    }
}

/// A suspension as it is exported.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SuspendedLine {
    suspended: Suspension,
}

/// The line of the record that a field such as `delegations[17].parent` is of.
fn line_named(field: &str, batch: &[(usize, Delegation)]) -> Option<usize> {
    let (index, _) = field.strip_prefix("delegations[")?.split_once(']')?;
    batch.get(index.parse::<usize>().ok()?).map(|(line, _)| *line)
}

/// Most rows that are asked for at once.
const PAGE_ROWS: u64 = 1_000;

/// Prints page after page, up to `limit` rows; `print` says how many it printed and where to go on.
pub fn in_pages(
    output: &mut Output,
    limit: Option<u64>,
    mut cursor: Option<String>,
    rows: &str,
    mut print: impl FnMut(Option<u32>, Option<String>, &mut Output) -> Result<(u64, Option<String>), Failure>,
) -> Result<(), Failure> {
    let mut left = limit;
    // Bounded: each page goes on after the one before.
    loop {
        let size = left.map(|left| u32::try_from(left.min(PAGE_ROWS)).unwrap_or(u32::MAX));
        let (printed, next) = print(size, cursor, output)?;
        left = left.map(|left| left.saturating_sub(printed));
        match next {
            None => return Ok(()),
            Some(next) if left == Some(0) => {
                output.flush()?;
                output.note(format_args!("there may be more {rows}; go on with --cursor {next}"));
                return Ok(());
            }
            Some(next) => cursor = Some(next),
        }
    }
}

impl Show {
    fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let id = parsed("ID", &self.id)?;
        let read = self.server.connect()?.get_delegation(&id, &self.when.at(), self.clock)?;
        let DelegationRead { chain, dangling, token, historical } = read;
        if output.is_json() {
            let chain: Vec<Value> = chain
                .iter()
                .map(|seen| json!({"delegation": *seen.delegation, "state": seen.state.as_str()}))
                .collect();
            output.value(&json!({"chain": chain, "dangling": dangling, "token": token, "historical": historical}))?;
            return Ok(Exit::Success);
        }
        let count = chain.len();
        for (before, DelegationSeen { delegation, state }) in chain.iter().enumerate() {
            output.line(format_args!("{} of {count}  {}  {}", before + 1, delegation.id, state.as_str()))?;
            describe(output, delegation)?;
        }
        for anchor in &dangling {
            output.line(format_args!("dangling {anchor}: no tuple mentions it now"))?;
        }
        let stopped = chain.iter().position(|seen| seen.state != DelegationState::Live);
        if let Some(before) = stopped.filter(|before| before + 1 < count) {
            output.line(format_args!("it denies now, because of {} of {count}", before + 1))?;
        }
        if historical {
            output.note(format_args!("this is an older state; a newer one exists"));
        }
        Ok(Exit::Success)
    }
}

impl State {
    fn meant(self) -> DelegationState {
        match self {
            State::Live => DelegationState::Live,
            State::NotYetValid => DelegationState::NotYetValid,
            State::Expired => DelegationState::Expired,
            State::Revoked => DelegationState::Revoked,
        }
    }
}

/// What goes with a change.
pub fn saying(reason: String, provided: &Provided, beside: &Beside) -> Result<Saying, Failure> {
    Ok(Saying { reason, preconditions: provided.preconditions()?, metadata: beside.metadata()? })
}

// ---- what is given ----

/// An argument or option as what it names.
pub fn parsed<T: FromStr<Err: Display>>(name: &str, text: &str) -> Result<T, Failure> {
    text.parse().map_err(|error| Failure::usage(format!("`{name} {text}`: {error}")))
}

/// `15m`, `1h30m`, `30d`: whole numbers of days, hours, minutes and seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration: whole numbers with d, h, m or s, such as 15m, 30d or 1h30m");
    let (mut seconds, mut number): (u64, Option<u64>) = (0, None);
    for byte in text.bytes() {
        let unit = match byte {
            b'0'..=b'9' => {
                let digit = u64::from(byte - b'0');
                let longer = number.unwrap_or(0).checked_mul(10).and_then(|number| number.checked_add(digit));
                number = Some(longer.ok_or_else(wrong)?);
                continue;
            }
            b'd' => 24 * 60 * 60,
            b'h' => 60 * 60,
            b'm' => 60,
            b's' => 1,
            _ => return Err(wrong()),
        };
        let part = number.take().and_then(|number| number.checked_mul(unit)).ok_or_else(wrong)?;
        seconds = seconds.checked_add(part).ok_or_else(wrong)?;
    }
    if text.is_empty() || number.is_some() { Err(wrong()) } else { Ok(Duration::from_secs(seconds)) }
}

/// One item as JSON says it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GivenItem {
    permissions: GivenPermissions,
    within: Vec<ObjectRef>,
    caveat: Option<GivenCaveat>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum GivenPermissions {
    Word(String),
    Names(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GivenCaveat {
    name: String,
    #[serde(default)]
    context: Context,
}

impl Scope {
    /// The items; none when nothing is given.
    fn items(&self) -> Result<Vec<AskedItem>, Failure> {
        let mut items = Vec::new();
        for (index, text) in self.item.iter().enumerate() {
            items.push(item_of(text, &format!("--item {}", index + 1))?);
        }
        if let Some(path) = &self.file {
            let text = if path == Path::new("-") { read_stdin()? } else { read_file(path)? };
            let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
            for (before, line) in lines {
                items.push(item_of(line, &format!("{}:{}", path.display(), before + 1))?);
            }
        }
        if self.permission.is_empty() && !self.all && self.within.is_empty() && self.caveat.is_none() {
            return Ok(items);
        }
        if self.permission.is_empty() && !self.all {
            return Err(Failure::usage("which permissions?").with_hint("give --permission NAME, or --all"));
        }
        if self.within.is_empty() {
            return Err(Failure::usage("within what?").with_hint("give --within TYPE:ID, the object or one above it"));
        }
        let permissions = if self.all { AskedPermissions::All } else { named(&self.permission, "--permission")? };
        let within = self.within.iter().map(|text| parsed("--within", text)).collect::<Result<_, _>>()?;
        items.push(AskedItem { permissions, within, caveat: self.caveat.as_deref().map(caveat_of).transpose()? });
        Ok(items)
    }
}

fn named(names: &[String], place: &str) -> Result<AskedPermissions, Failure> {
    let name = |text: &String| {
        text.parse::<PermissionName>().map_err(|error: NameError| {
            Failure::usage(format!("{place}: `{text}`: {error}"))
                .with_hint("`read`, or `project#read` of one definition")
        })
    };
    Ok(AskedPermissions::Named(names.iter().map(name).collect::<Result<_, _>>()?))
}

fn item_of(text: &str, place: &str) -> Result<AskedItem, Failure> {
    const HINT: &str = "such as {\"permissions\": [\"read\"], \"within\": [\"invoice:9\"]}";
    let GivenItem { permissions, within, caveat } =
        serde_json::from_str(text).map_err(|error| Failure::usage(format!("{place}: {error}")).with_hint(HINT))?;
    let permissions = match permissions {
        GivenPermissions::Word(word) if word == "all" => AskedPermissions::All,
        GivenPermissions::Word(word) => {
            return Err(Failure::usage(format!("{place}: `permissions` is `{word}`; a list of names, or \"all\"")));
        }
        GivenPermissions::Names(names) => named(&names, place)?,
    };
    let caveat = match caveat {
        None => None,
        Some(GivenCaveat { name, context }) => Some(TupleCaveat { name: parsed(place, &name)?, context }),
    };
    Ok(AskedItem { permissions, within, caveat })
}

/// `name`, or `name:{json}`.
fn caveat_of(text: &str) -> Result<TupleCaveat, Failure> {
    let (name, context) = match text.split_once(':') {
        None => (text, Context::new()),
        Some((name, context)) => {
            let wrong = |error| {
                Failure::usage(format!("`--caveat {text}`: not a JSON object: {error}"))
                    .with_hint("such as --caveat 'in_office:{\"place\": \"Rome\"}'")
            };
            (name, serde_json::from_str(context).map_err(wrong)?)
        }
    };
    Ok(TupleCaveat { name: parsed("--caveat", name)?, context })
}

// ---- what is shown ----

/// One delegation as indented lines.
fn describe(output: &mut Output, delegation: &Delegation) -> Result<(), Failure> {
    let Delegation { delegator, delegate, clauses, not_before, expires_at, redelegate, revoked, purpose, .. } =
        delegation;
    output.line(format_args!("  {delegator} => {delegate}"))?;
    for (index, Clause { items }) in clauses.iter().enumerate() {
        for (nth, item) in items.iter().enumerate() {
            let word = match (index, nth) {
                (0, 0) => "may",
                (_, 0) => "and only",
                (_, _) => "or",
            };
            output.line(format_args!("  {word} {}", words_of(item)))?;
        }
    }
    output.line(format_args!("  from {not_before} until {expires_at}"))?;
    if *redelegate > 0 {
        output.line(format_args!("  may be delegated on, {redelegate} deep"))?;
    }
    if !purpose.is_empty() {
        output.line(format_args!("  purpose: {purpose}"))?;
    }
    if let Some(Revoked { at, reason }) = revoked {
        let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        output.line(format_args!("  revoked at {at}{reason}"))?;
    }
    Ok(())
}

/// One delegation on one line.
fn line_of(delegation: &Delegation, state: DelegationState) -> String {
    let Delegation { id, delegator, delegate, clauses, expires_at, .. } = delegation;
    let first = clauses.first().map(|clause| clause.items.iter().map(words_of).collect::<Vec<_>>().join(" or "));
    let narrowed = match clauses.len().saturating_sub(1) {
        0 => String::new(),
        count => format!(", narrowed {count}×"),
    };
    let state = state.as_str();
    format!("{id}  {state:13}  {delegator} => {delegate}  {}{narrowed}  until {expires_at}", first.unwrap_or_default())
}

fn words_of(item: &ScopeItem) -> String {
    let ScopeItem { asked, frozen: _, within, caveat } = item;
    let permissions = match asked {
        AskedPermissions::All => "all".to_owned(),
        AskedPermissions::Named(names) => names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    let within: Vec<String> = within.iter().map(ToString::to_string).collect();
    let condition = match caveat {
        None => String::new(),
        Some(TupleCaveat { name, context }) if context.is_empty() => format!(" if {name}"),
        Some(TupleCaveat { name, context }) => format!(" if {name} {}", Value::Object(context.clone())),
    };
    format!("{permissions} within {}{condition}", within.join(", "))
}

fn json_of_warning(warning: &WarningSaid) -> Value {
    let WarningSaid { kind, field, message, hint } = warning;
    json!({"kind": kind, "field": field, "message": message, "hint": hint})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_whole_numbers_with_units() {
        for (text, seconds) in
            [("15m", 900), ("2h", 7_200), ("30d", 2_592_000), ("1h30m", 5_400), ("90s", 90), ("0s", 0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in ["", "15", "m", "1.5h", "-1m", "1w", "15m3", "99999999999999999999s", "999999999999999999d", "1 h"]
        {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn items_are_named_by_options_or_as_json() {
        let scope = |permission: &[&str], within: &[&str], caveat: Option<&str>, item: &[&str]| Scope {
            permission: permission.iter().map(|text| (*text).to_owned()).collect(),
            all: false,
            within: within.iter().map(|text| (*text).to_owned()).collect(),
            caveat: caveat.map(str::to_owned),
            item: item.iter().map(|text| (*text).to_owned()).collect(),
            file: None,
        };
        let one = scope(&["read", "ticket#write"], &["invoice:9"], Some("c:{\"a\": 1}"), &[]).items().unwrap();
        let json = r#"{"permissions": ["read", "ticket#write"], "within": ["invoice:9"], "caveat": {"name": "c", "context": {"a": 1}}}"#;
        assert_eq!(scope(&[], &[], None, &[json]).items().unwrap(), one);
        let all = scope(&[], &[], None, &[r#"{"permissions": "all", "within": ["invoice:9"]}"#]).items().unwrap();
        assert_eq!(all[0].permissions, AskedPermissions::All);
        assert!(scope(&[], &[], None, &[]).items().unwrap().is_empty());
        let wrong_items = [
            r#"{"permissions": "some", "within": ["invoice:9"]}"#,
            r#"{"permissions": ["read"], "within": ["invoice"]}"#,
            r#"{"permissions": ["read"], "within": ["invoice:9"], "until": 1}"#,
            r#"{"within": ["invoice:9"]}"#,
            "read",
        ];
        for wrong in wrong_items {
            assert!(scope(&[], &[], None, &[wrong]).items().is_err(), "{wrong}");
        }
        assert!(scope(&["read"], &[], None, &[]).items().is_err());
        assert!(scope(&[], &["invoice:9"], None, &[]).items().is_err());
        assert!(scope(&["read"], &["invoice:9"], Some("c:1"), &[]).items().is_err());
        assert!(scope(&["a b"], &["invoice:9"], None, &[]).items().is_err());
    }
}
