//! Where a validation file runs: an engine of its own in this process, a server of its own, or a running one.
//!
//! INVARIANT: every file starts in an empty store, and what was started for it is gone when its world is dropped.

use super::assertion::Assertion;
use super::delegated::{Delegated, Deputed};
use super::file::ValidationFile;
use crate::api::client::{
    Ask, At, Checked, Client, ClientError, ListPage, NewDelegation, Said, Saying, SubjectsOf, Under,
};
use crate::cli::exit::{Exit, Failure};
use crate::cli::input::Parsed;
use crate::cli::reach::connect;
use crate::cli::spawned::Spawned;
use crate::engine::{
    self, Answer, CheckOptions, Clock as _, Collector, CreateDelegation, DelegationEnd, Engine, GetDelegation,
    ListSubjects, Metadata, Options, RevokeDelegation, SchemaDiagnostic, Situation, SubjectRow, SuspendPrincipal,
    SystemClock, WriteSchema, WriteTuples,
};
use crate::model::{
    Acting, Cancel, Consistency, Decision, DelegationId, Denial, ExplainStep, Limits, ObjectRef, Question,
    RelationTuple, SubjectRef, Timestamp, TupleUpdate, UpdateKind,
};
use std::collections::HashMap;
use tempfile::TempDir;

/// Which kind of world is wanted.
pub enum Where {
    InProcess,
    Spawn,
    Running(String),
}

/// An empty store, a way to ask it, and its clock.
pub struct World {
    /// The file's delegations, by what it calls them. One that was refused is not there.
    ids: HashMap<String, DelegationId>,
    /// By which everything is judged that names no time of its own; `None` leaves it to a running server.
    now: Option<Timestamp>,
    asked: Asked,
}

enum Asked {
    // The engine closes before its folder is removed: fields drop in order.
    InProcess { engine: Box<Engine>, _data: TempDir },
    Spawned { client: Client, _server: Spawned, _data: TempDir },
    Running { client: Client },
}

/// An answer, as far as assertions are about it.
#[derive(Clone, Copy, Debug)]
pub struct Decided {
    pub decision: Decision,
    pub denial: Option<Denial>,
}

/// Why something was not done.
#[derive(Clone)]
pub struct Refusal {
    pub message: String,
    /// Stable, in upper case.
    pub reason: Box<str>,
    pub hint: Option<String>,
    pub diagnostics: Vec<SchemaDiagnostic>,
    /// The field the refusal names, as the API writes it.
    field: Option<Box<str>>,
}

impl From<engine::Error> for Refusal {
    fn from(error: engine::Error) -> Refusal {
        Refusal {
            message: error.message.clone(),
            reason: error.reason.into(),
            hint: error.hint.clone(),
            diagnostics: error.diagnostics.clone(),
            field: error.facts.iter().find(|(key, _)| *key == "field").map(|(_, field)| field.as_str().into()),
        }
    }
}

impl From<ClientError> for Refusal {
    fn from(error: ClientError) -> Refusal {
        let fact = |wanted: &str| error.facts.iter().find(|(key, _)| key == wanted).map(|(_, value)| value.clone());
        let (hint, field) = (fact("hint"), fact("field").map(Into::into));
        Refusal { hint, field, message: error.message, reason: error.reason.into(), diagnostics: error.diagnostics }
    }
}

impl World {
    /// An empty one, whose clock stands at `now` or at the present, read once. A running server that already has a
    /// schema is refused, and one that lets nobody set the time where the file does so.
    pub fn open(place: &Where, file: &ValidationFile) -> Result<World, Failure> {
        let (now, sets_time) = (file.now, file.sets_time());
        let asked = Asked::open(place, &file.delegated)?;
        let stands = now.unwrap_or_else(|| SystemClock.now());
        let now = match &asked {
            Asked::InProcess { .. } | Asked::Spawned { .. } => Some(stands),
            Asked::Running { client } if sets_time => {
                may_set_time(client, stands)?;
                Some(stands)
            }
            Asked::Running { .. } => None,
        };
        Ok(World { ids: HashMap::new(), now, asked })
    }

    /// What everything is asked under that names nothing of its own.
    fn situation(&self) -> Situation {
        Situation { clock: self.now, ..Situation::default() }
    }

    fn under(&self) -> Under {
        Under { clock: self.now, ..Under::default() }
    }

    /// Writes the file's schema.
    pub fn write_schema(&self, text: &str) -> Result<(), Refusal> {
        match &self.asked {
            Asked::InProcess { engine, .. } => {
                let request = WriteSchema {
                    text: text.to_owned(),
                    expected_digest: None,
                    dry_run: false,
                    metadata: Metadata::new(),
                };
                engine.write_schema(request).map(drop).map_err(Refusal::from)
            }
            Asked::Spawned { client, .. } | Asked::Running { client } => {
                client.write_schema(text, None, false, &Metadata::new()).map(drop).map_err(Refusal::from)
            }
        }
    }

    /// Writes the file's tuples, in as many calls as they need. A refusal names the tuple where it can.
    pub fn write(&self, tuples: &[RelationTuple]) -> Result<(), (Option<usize>, Refusal)> {
        let chunk_len = Limits::default().updates_max;
        for (chunk, tuples) in tuples.chunks(chunk_len).enumerate() {
            let updates: Vec<TupleUpdate> =
                tuples.iter().map(|tuple| TupleUpdate { kind: UpdateKind::Touch, tuple: tuple.clone() }).collect();
            let written = match &self.asked {
                Asked::InProcess { engine, .. } => engine
                    .write_tuples(WriteTuples { updates, preconditions: Vec::new(), metadata: Metadata::new() })
                    .map(drop)
                    .map_err(Refusal::from),
                Asked::Spawned { client, .. } | Asked::Running { client } => {
                    client.write_tuples(&updates, &[], &Metadata::new()).map(drop).map_err(Refusal::from)
                }
            };
            if let Err(refusal) = written {
                let at = refusal.field.as_deref().and_then(update_index).map(|index| chunk * chunk_len + index);
                return Err((at, refusal));
            }
        }
        Ok(())
    }

    /// Makes a delegation of the file, or sees it refused as it must be.
    pub fn delegate(&mut self, deputed: &Deputed) -> Result<(), Refusal> {
        let Deputed { name, parent, from, to, items, not_before, expires, redelegate, revoked: _, refused } = deputed;
        let unknown = |what: String| Refusal {
            hint: None,
            field: None,
            message: what,
            reason: "NO_DELEGATION".into(),
            diagnostics: Vec::new(),
        };
        let parent = match parent {
            None => None,
            Some(parent) => Some(*self.ids.get(parent).ok_or_else(|| unknown(format!("`{parent}` was refused")))?),
        };
        let delegator = match (from, parent) {
            (Some(from), _) => from.clone(),
            (None, Some(parent)) => self.delegate_of(&parent)?,
            (None, None) => return Err(unknown("nobody gives it".to_owned())),
        };
        let new = NewDelegation {
            parent,
            not_before: *not_before,
            redelegate: *redelegate,
            clock: self.now,
            ..NewDelegation::of(delegator, to.clone(), items.clone(), DelegationEnd::At(*expires))
        };
        let id = match (self.create(&new), refused) {
            (Ok(id), None) => id,
            (Ok(_), Some(reason)) => {
                return Err(unknown(format!("it had to be refused with {}, and was made", reason.as_str())));
            }
            (Err(refusal), Some(reason)) if *refusal.reason == *reason.as_str() => return Ok(()),
            (Err(refusal), Some(reason)) => {
                let Refusal { message, reason: found, .. } = refusal;
                return Err(unknown(format!("it had to be refused with {}, not {found}: {message}", reason.as_str())));
            }
            (Err(refusal), None) => return Err(refusal),
        };
        self.ids.insert(name.clone(), id);
        Ok(())
    }

    fn create(&self, new: &NewDelegation) -> Result<DelegationId, Refusal> {
        match &self.asked {
            Asked::InProcess { engine, .. } => {
                let NewDelegation {
                    delegator,
                    delegate,
                    items,
                    parent,
                    not_before,
                    end,
                    redelegate,
                    purpose,
                    strict,
                    idempotency_key: _,
                    preconditions,
                    metadata,
                    clock,
                } = new.clone();
                let request = CreateDelegation {
                    delegator,
                    delegate,
                    items,
                    parent,
                    not_before,
                    end,
                    redelegate,
                    purpose,
                    issued_by: String::new(),
                    metadata,
                    strict,
                    idempotency_key: None,
                    preconditions,
                    clock,
                };
                Ok(engine.create_delegation(request, &Cancel::default())?.delegation.id)
            }
            Asked::Spawned { client, .. } | Asked::Running { client } => {
                Ok(client.create_delegation(new)?.delegation.id)
            }
        }
    }

    /// Who acts by a delegation, when that is one principal.
    fn delegate_of(&self, id: &DelegationId) -> Result<ObjectRef, Refusal> {
        let delegate = match &self.asked {
            Asked::InProcess { engine, .. } => {
                let request = GetDelegation { id: *id, consistency: Consistency::Newest, clock: self.now };
                let read = engine.get_delegation(request, &Cancel::default())?;
                read.chain.last().map(|seen| seen.delegation.delegate.clone())
            }
            Asked::Spawned { client, .. } | Asked::Running { client } => {
                let read = client.get_delegation(id, &At::Newest, self.now)?;
                read.chain.last().map(|seen| seen.delegation.delegate.clone())
            }
        };
        match delegate {
            Some(SubjectRef::Object(object)) => Ok(object),
            Some(SubjectRef::Userset(..) | SubjectRef::Wildcard(_)) | None => Err(Refusal {
                hint: Some("say with `from` who gives it on".to_owned()),
                field: None,
                message: "the parent was given to a group, so `from` cannot be left out".to_owned(),
                reason: "NO_DELEGATOR".into(),
                diagnostics: Vec::new(),
            }),
        }
    }

    /// Revokes a delegation of the file, if it says so and was made.
    pub fn revoke(&self, deputed: &Deputed) -> Result<(), Refusal> {
        let Some(id) = self.ids.get(&deputed.name).filter(|_| deputed.revoked) else { return Ok(()) };
        match &self.asked {
            Asked::InProcess { engine, .. } => {
                let request = RevokeDelegation {
                    id: *id,
                    reason: String::new(),
                    preconditions: Vec::new(),
                    metadata: Metadata::new(),
                };
                engine.revoke_delegation(request).map(drop).map_err(Refusal::from)
            }
            Asked::Spawned { client, .. } | Asked::Running { client } => {
                client.revoke_delegation(id, &Saying::default()).map(drop).map_err(Refusal::from)
            }
        }
    }

    /// Suspends a principal of the file.
    pub fn suspend(&self, principal: &ObjectRef) -> Result<(), Refusal> {
        match &self.asked {
            Asked::InProcess { engine, .. } => {
                let request = SuspendPrincipal {
                    principal: principal.clone(),
                    reason: String::new(),
                    preconditions: Vec::new(),
                    metadata: Metadata::new(),
                };
                engine.suspend_principal(request).map(drop).map_err(Refusal::from)
            }
            Asked::Spawned { client, .. } | Asked::Running { client } => {
                client.suspend_principal(principal, &Saying::default()).map(drop).map_err(Refusal::from)
            }
        }
    }

    /// For whom an assertion asks. One by a delegation that was refused, or is of no file, asks by one that nobody made.
    fn acting(&self, assertion: &Assertion) -> Acting {
        const NOBODYS: DelegationId = DelegationId([0; 16]);
        match (&assertion.via, &assertion.root) {
            (None, None) => Acting::default(),
            (None, Some(root)) => Acting::on_behalf_of(root.clone()),
            (Some(name), root) => {
                Acting { expect_root: root.clone(), ..Acting::via(self.ids.get(name).copied().unwrap_or(NOBODYS)) }
            }
        }
    }

    /// One answer for each assertion, in order. Those of the same context, time and chain are asked together.
    pub fn check(&self, assertions: &[&Assertion]) -> Vec<Result<Decided, Refusal>> {
        let mut alike: Vec<Vec<usize>> = Vec::new();
        for (at, one) in assertions.iter().enumerate() {
            let same = |group: &&mut Vec<usize>| {
                let first = group.first().and_then(|first| assertions.get(*first));
                first.is_some_and(|first| Assertion { question: one.question.clone(), ..(*first).clone() } == **one)
            };
            match alike.iter_mut().find(same) {
                Some(group) => group.push(at),
                None => alike.push(vec![at]),
            }
        }
        let mut answers: Vec<(usize, Result<Decided, Refusal>)> = Vec::with_capacity(assertions.len());
        for group in alike {
            for places in group.chunks(Limits::default().bulk_items_max) {
                let together: Vec<&Assertion> = places.iter().filter_map(|at| assertions.get(*at).copied()).collect();
                answers.extend(places.iter().copied().zip(self.check_together(&together)));
            }
        }
        answers.sort_by_key(|(at, _)| *at);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }

    /// All asked under the same, and no more than one call takes.
    fn check_together(&self, assertions: &[&Assertion]) -> Vec<Result<Decided, Refusal>> {
        let Some(first) = assertions.first() else { return Vec::new() };
        let questions: Vec<Question> = assertions.iter().map(|one| one.question.clone()).collect();
        let each = |refusal: Refusal| questions.iter().map(|_| Err(refusal.clone())).collect();
        match &self.asked {
            Asked::InProcess { engine, .. } => match engine.check_bulk(&questions, &self.options(first, false)) {
                Ok(bulk) => {
                    let decided = |answer: Answer| Decided { decision: answer.decision, denial: answer.denial };
                    bulk.answers.into_iter().map(|answer| answer.map(decided).map_err(Refusal::from)).collect()
                }
                Err(error) => each(error.into()),
            },
            Asked::Spawned { client, .. } | Asked::Running { client } => {
                match client.check_bulk_under(&questions, &self.ask(first, false)) {
                    Ok(bulk) => {
                        let decided = |said: Said| Decided { decision: said.decision, denial: said.denial };
                        bulk.answers.into_iter().map(|answer| answer.map(decided).map_err(Refusal::from)).collect()
                    }
                    Err(error) => each(error.into()),
                }
            }
        }
    }

    fn options(&self, assertion: &Assertion, explain: bool) -> CheckOptions {
        let Assertion { question: _, via: _, root: _, context, at } = assertion;
        let situation = Situation { context: context.clone(), clock: at.or(self.now), ..Situation::default() };
        CheckOptions { situation, acting: self.acting(assertion), explain, cancel: Cancel::default() }
    }

    fn ask(&self, assertion: &Assertion, explain: bool) -> Ask {
        let Assertion { question: _, via: _, root: _, context, at } = assertion;
        let under = Under { context: context.clone(), clock: at.or(self.now), ..Under::default() };
        Ask { under, acting: self.acting(assertion), explain }
    }

    /// The schema as it stands, whole.
    pub fn schema(&self) -> Result<String, Refusal> {
        Ok(match &self.asked {
            Asked::InProcess { engine, .. } => engine.read_schema(Consistency::Newest)?.text,
            Asked::Spawned { client, .. } | Asked::Running { client } => client.read_schema(&At::Newest)?.text,
        })
    }

    /// Every subject of a kind that has a permission.
    pub fn subjects(&self, asked: &SubjectsOf) -> Result<Vec<SubjectRow>, Refusal> {
        let mut rows = Vec::new();
        match &self.asked {
            Asked::InProcess { engine, .. } => {
                let SubjectsOf { object, permission, subject_type, subject_relation, with_relations, within } =
                    asked.clone();
                let request = ListSubjects {
                    object,
                    permission,
                    subject_type,
                    subject_relation,
                    with_relations,
                    within,
                    situation: self.situation(),
                    cursor: None,
                };
                let cancel = Cancel::default();
                let mut lister = engine.list_subjects(request, &cancel)?;
                // Bounded: each page has rows, or is the last.
                loop {
                    let page = lister.next_page(Limits::default().page_tuples_max, &cancel)?;
                    if page.is_empty() {
                        break;
                    }
                    rows.extend(page);
                }
            }
            Asked::Spawned { client, .. } | Asked::Running { client } => {
                let page = ListPage { under: self.under(), ..ListPage::default() };
                client.list_subjects(asked, page, &mut |row| {
                    rows.push(row);
                    true
                })?;
            }
        }
        Ok(rows)
    }

    /// One answer with all that is said of it; `None` where it cannot be had again.
    pub fn said(&self, assertion: &Assertion) -> Option<Said> {
        let question = &assertion.question;
        match &self.asked {
            Asked::InProcess { engine, .. } => {
                let answer = engine.check(question, &self.options(assertion, true)).ok()?.answer;
                let Answer { decision, witness, missing, valid_until, denial, chain, edges: _ } = answer;
                Some(Said { decision, witness, missing, valid_until, denial, chain })
            }
            Asked::Spawned { client, .. } | Asked::Running { client } => {
                let checked = client.check_under(question, &self.ask(assertion, true)).ok()?;
                let Checked { decision, token: _, historical: _, witness, missing, valid_until, denial, chain } =
                    checked;
                Some(Said { decision, witness, missing, valid_until, denial, chain })
            }
        }
    }

    /// What was tried for an answer that is no allow; `None` where it cannot be told whole.
    pub fn tried(&self, assertion: &Assertion) -> Option<Vec<ExplainStep>> {
        let question = &assertion.question;
        let (steps, truncated) = match &self.asked {
            Asked::InProcess { engine, .. } => {
                let situation = self.options(assertion, false).situation;
                let request = engine::Explain { question: question.clone(), acting: self.acting(assertion), situation };
                let explained = engine.explain(&request, &Cancel::default()).ok()?;
                (explained.steps, explained.truncated)
            }
            Asked::Spawned { client, .. } | Asked::Running { client } => {
                let explained =
                    client.explain(question, &self.acting(assertion), &self.ask(assertion, false).under).ok()?;
                (explained.steps, explained.truncated)
            }
        };
        (!truncated).then_some(steps)
    }
}

impl Asked {
    fn open(place: &Where, delegated: &Delegated) -> Result<Asked, Failure> {
        let Delegated { lifetime_max, depth_max, .. } = delegated;
        match place {
            Where::InProcess => {
                let data = folder()?;
                // As `serve --test-clock`: the world's clock is not this machine's.
                let mut options = Options { test_clock: true, collector: Collector::Off, ..Options::at(data.path()) };
                options.delegation_lifetime_max = *lifetime_max;
                if let Some(depth_max) = depth_max {
                    options.limits.delegation_depth_max = *depth_max;
                }
                let engine = Box::new(Engine::open(options)?);
                Ok(Asked::InProcess { engine, _data: data })
            }
            Where::Spawn => {
                let data = folder()?;
                let server = spawn(&data, delegated)?;
                Ok(Asked::Spawned { client: connect(server.address())?, _server: server, _data: data })
            }
            Where::Running(address) => {
                let client = connect(address)?;
                if client.server_info()?.schema_digest.is_some() {
                    return Err(Failure::new(Exit::Refused, format!("the server at `{address}` is not empty"))
                        .with_hint("each file needs an empty one: start it on a fresh folder, or use --server spawn"));
                }
                bounded_alike(&client, delegated)?;
                Ok(Asked::Running { client })
            }
        }
    }
}

/// Refuses a running server whose bounds of delegations are not those that the file asks for.
fn bounded_alike(client: &Client, delegated: &Delegated) -> Result<(), Failure> {
    let Delegated { lifetime_max, depth_max, .. } = delegated;
    let wanted = [
        ("delegation_depth_max", depth_max.map(u64::from)),
        ("delegation_lifetime_max_s", lifetime_max.map(|most| most.as_secs())),
    ];
    let limits = client.server_info()?.limits;
    for (name, wanted) in wanted {
        let found = limits.iter().find(|(limit, ..)| limit == name).map(|(_, value, _)| *value);
        if wanted.is_some() && wanted != found {
            let found = found.map_or_else(|| "none".to_owned(), |value| value.to_string());
            let wanted = wanted.unwrap_or_default();
            return Err(Failure::new(Exit::Refused, format!("the file needs {name} {wanted}, the server has {found}"))
                .with_hint(
                    "start it with --delegation-depth-max and --delegation-lifetime-max, or use --server spawn",
                ));
        }
    }
    Ok(())
}

/// Refuses a server that would refuse every question of a file, before anything is written to it. An empty one has no
/// answer yet, but it tells whether the time was the reason.
fn may_set_time(client: &Client, at: Timestamp) -> Result<(), Failure> {
    let question = Question::parsed("x:x#x@x:x").map_err(|error| Failure::usage(error.message))?;
    let ask = Ask { under: Under { clock: Some(at), ..Under::default() }, ..Ask::default() };
    match client.check_under(&question, &ask) {
        Err(error) if error.facts.iter().any(|(key, value)| key == "field" && value == "clock") => Err(Failure::new(
            Exit::Refused,
            "the file sets the time (`now:` or `at`), and the server lets nobody set it",
        )
        .with_hint("start it with --test-clock on a fresh folder, or use --server spawn")),
        Err(error) if error.reason == "NO_SCHEMA" => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => Ok(()),
    }
}

/// The N of `updates[N]…`.
fn update_index(field: &str) -> Option<usize> {
    field.strip_prefix("updates[")?.split(']').next()?.parse().ok()
}

fn folder() -> Result<TempDir, Failure> {
    tempfile::Builder::new()
        .prefix("procura-test-")
        .tempdir()
        .map_err(|error| Failure::new(Exit::Refused, format!("cannot make a temporary folder: {error}")))
}

/// A server bounded as the file asks, whose clock is one for tests.
fn spawn(data: &TempDir, delegated: &Delegated) -> Result<Spawned, Failure> {
    let mut arguments = vec!["--test-clock".to_owned()];
    if let Some(depth_max) = delegated.depth_max {
        arguments.extend(["--delegation-depth-max".to_owned(), depth_max.to_string()]);
    }
    if let Some(lifetime_max) = delegated.lifetime_max {
        arguments.extend(["--delegation-lifetime-max".to_owned(), format!("{}s", lifetime_max.as_secs())]);
    }
    Spawned::start(&data.path().join("data"), arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_finds_its_tuple() {
        assert_eq!(update_index("updates[17].tuple.object.type"), Some(17));
        assert_eq!(update_index("updates[17]"), Some(17));
        assert_eq!(update_index("preconditions[1]"), None);
        assert_eq!(update_index("updates[x]"), None);
    }
}
