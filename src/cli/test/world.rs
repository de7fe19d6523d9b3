//! Where a validation file runs: an engine of its own in this process, a server of its own, or a running one.
//!
//! INVARIANT: every file starts in an empty store, and what was started for it is gone when its world is dropped.

use crate::api::client::{At, Client, ClientError, ListPage, SubjectsOf};
use crate::cli::exit::{Exit, Failure};
use crate::cli::reach::connect;
use crate::engine::{
    self, CheckOptions, Engine, ListSubjects, Metadata, Options, SchemaDiagnostic, Situation, SubjectRow, WriteSchema,
    WriteTuples,
};
use crate::model::{Cancel, Consistency, Decision, Limits, Question, RelationTuple, TupleUpdate, UpdateKind, Witness};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// Which kind of world is wanted.
pub enum Where {
    InProcess,
    Spawn,
    Running(String),
}

/// An empty store and a way to ask it.
pub enum World {
    // The engine closes before its folder is removed: fields drop in order.
    InProcess { engine: Box<Engine>, _data: TempDir },
    Spawned { client: Client, _server: Server, _data: TempDir },
    Running { client: Client },
}

/// A server of our own; ended when dropped.
pub struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // Its data goes with it, so there is nothing to close in order.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Why something was not done.
pub struct Refusal {
    pub message: String,
    pub hint: Option<String>,
    pub diagnostics: Vec<SchemaDiagnostic>,
    /// The field the refusal names, as the API writes it.
    field: Option<String>,
}

impl From<engine::Error> for Refusal {
    fn from(error: engine::Error) -> Refusal {
        Refusal {
            message: error.message.clone(),
            hint: error.hint.clone(),
            diagnostics: error.diagnostics.clone(),
            field: error.facts.iter().find(|(key, _)| *key == "field").map(|(_, field)| field.clone()),
        }
    }
}

impl From<ClientError> for Refusal {
    fn from(error: ClientError) -> Refusal {
        let fact = |wanted: &str| error.facts.iter().find(|(key, _)| key == wanted).map(|(_, value)| value.clone());
        Refusal { hint: fact("hint"), field: fact("field"), message: error.message, diagnostics: error.diagnostics }
    }
}

impl World {
    /// An empty one. A running server that already has a schema is refused.
    pub fn open(place: &Where) -> Result<World, Failure> {
        match place {
            Where::InProcess => {
                let data = folder()?;
                let engine = Box::new(Engine::open(Options::at(data.path()))?);
                Ok(World::InProcess { engine, _data: data })
            }
            Where::Spawn => {
                let data = folder()?;
                let (server, address) = spawn(&data)?;
                Ok(World::Spawned { client: connect(&address)?, _server: server, _data: data })
            }
            Where::Running(address) => {
                let client = connect(address)?;
                if client.server_info()?.schema_digest.is_some() {
                    return Err(Failure::new(Exit::Refused, format!("the server at `{address}` is not empty"))
                        .with_hint("each file needs an empty one: start it on a fresh folder, or use --server spawn"));
                }
                Ok(World::Running { client })
            }
        }
    }

    /// Writes the file's schema.
    pub fn write_schema(&self, text: &str) -> Result<(), Refusal> {
        match self {
            World::InProcess { engine, .. } => {
                let request = WriteSchema {
                    text: text.to_owned(),
                    expected_digest: None,
                    dry_run: false,
                    metadata: Metadata::new(),
                };
                engine.write_schema(request).map(drop).map_err(Refusal::from)
            }
            World::Spawned { client, .. } | World::Running { client } => {
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
            let written = match self {
                World::InProcess { engine, .. } => engine
                    .write_tuples(WriteTuples { updates, preconditions: Vec::new(), metadata: Metadata::new() })
                    .map(drop)
                    .map_err(Refusal::from),
                World::Spawned { client, .. } | World::Running { client } => {
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

    /// One answer for each question, in order.
    pub fn check(&self, questions: &[Question]) -> Vec<Result<Decision, Refusal>> {
        let mut answers = Vec::with_capacity(questions.len());
        for questions in questions.chunks(Limits::default().bulk_items_max) {
            match self {
                World::InProcess { engine, .. } => match engine.check_bulk(questions, &CheckOptions::default()) {
                    Ok(bulk) => answers.extend(
                        bulk.answers.into_iter().map(|answer| answer.map(|a| a.decision).map_err(Refusal::from)),
                    ),
                    Err(error) => answers.extend(questions.iter().map(|_| Err(Refusal::from(error.clone())))),
                },
                World::Spawned { client, .. } | World::Running { client } => {
                    match client.check_bulk(questions, &At::Newest, false) {
                        Ok(bulk) => answers.extend(
                            bulk.answers
                                .into_iter()
                                .map(|answer| answer.map(|said| said.decision).map_err(Refusal::from)),
                        ),
                        Err(error) => answers.extend(questions.iter().map(|_| Err(Refusal::from(error.clone())))),
                    }
                }
            }
        }
        answers
    }

    /// The schema as it stands, whole.
    pub fn schema(&self) -> Result<String, Refusal> {
        Ok(match self {
            World::InProcess { engine, .. } => engine.read_schema(Consistency::Newest)?.text,
            World::Spawned { client, .. } | World::Running { client } => client.read_schema(&At::Newest)?.text,
        })
    }

    /// Every subject of a kind that has a permission.
    pub fn subjects(&self, asked: &SubjectsOf) -> Result<Vec<SubjectRow>, Refusal> {
        let mut rows = Vec::new();
        match self {
            World::InProcess { engine, .. } => {
                let SubjectsOf { object, permission, subject_type, subject_relation, with_relations } = asked.clone();
                let request = ListSubjects {
                    object,
                    permission,
                    subject_type,
                    subject_relation,
                    with_relations,
                    situation: Situation::default(),
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
            World::Spawned { client, .. } | World::Running { client } => {
                client.list_subjects(asked, ListPage::default(), &mut |row| {
                    rows.push(row);
                    true
                })?;
            }
        }
        Ok(rows)
    }

    /// The path of an allow; `None` where there is none to show.
    pub fn witness(&self, question: &Question) -> Option<Witness> {
        match self {
            World::InProcess { engine, .. } => {
                let options = CheckOptions { explain: true, ..CheckOptions::default() };
                engine.check(question, &options).ok().and_then(|answered| answered.answer.witness)
            }
            World::Spawned { client, .. } | World::Running { client } => {
                client.check(question, &At::Newest, true).ok().and_then(|checked| checked.witness)
            }
        }
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

/// Starts this very binary as a server on a free port and waits until it says that it is ready.
fn spawn(data: &TempDir) -> Result<(Server, String), Failure> {
    let cannot = |what: &dyn std::fmt::Display| Failure::new(Exit::Refused, format!("cannot start a server: {what}"));
    let binary = std::env::current_exe().map_err(|error| cannot(&error))?;
    let mut command = Command::new(binary);
    command.args(["--json", "serve", "--listen", "127.0.0.1:0", "--data"]).arg(data.path().join("data"));
    command.env("PROCURA_LOG", "warn").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut server = Server(command.spawn().map_err(|error| cannot(&error))?);
    let stdout = server.0.stdout.take().ok_or_else(|| cannot(&"no pipe from it"))?;
    let mut line = String::new();
    // Ends when the server says so or dies; it says nothing else on its standard output.
    BufReader::new(stdout).read_line(&mut line).map_err(|error| cannot(&error))?;
    let address = ready_address(&line).ok_or_else(|| cannot(&"it ended before it was ready"))?;
    Ok((server, address))
}

fn ready_address(line: &str) -> Option<String> {
    let said: serde_json::Value = serde_json::from_str(line).ok()?;
    said.get("address")?.as_str().map(str::to_owned)
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

    #[test]
    fn the_ready_line_names_the_address() {
        let line = "{\"address\":\"127.0.0.1:4711\",\"data\":\"d\",\"ready\":true}\n";
        assert_eq!(ready_address(line).as_deref(), Some("127.0.0.1:4711"));
        assert_eq!(ready_address(""), None);
        assert_eq!(ready_address("ready"), None);
    }
}
