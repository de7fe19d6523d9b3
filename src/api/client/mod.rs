//! A client for the command line, benches and tests: blocking, model types in and out, no protobuf to be seen.
//!
//! INVARIANT: an error of the server comes back with its reason and facts as they were; an answer that this build does
//! not understand is an error, never a decision. Nothing is retried or split behind the caller's back.

mod bulk;
mod error;
mod filter;
mod watch;
mod lists;
mod trees;
mod reflect;
mod delegations;
mod drive;

pub use bulk::{ImportAck, SubjectsReplaced};
pub use delegations::{
    DelegationChanged, DelegationCreated, DelegationRead, DelegationsImported, DelegationsOf, NewDelegation, Page,
    PageAt, Saying, SuspensionChanged, WarningSaid,
};
pub use drive::{Asker, BulkCall, Call, CheckCall, Driver, FilterCall, Heard, ListCall, Pace, Until, WriteCall};
pub use error::ClientError;
pub use filter::{FilterOf, Filtered};
pub use lists::{ListPage, Listed, ResourcesOf, SubjectsOf};
pub use reflect::Reflected;
pub use trees::{Expanded, Explained};
pub use watch::{WatchOptions, WatchStart, Watched};

use super::convert::{self, Place};
use super::convert_acting::{self, to_acting};
use super::wire;
use super::wire::permission_service_client::PermissionServiceClient;
use super::wire::schema_service_client::SchemaServiceClient;
use super::wire::server_service_client::ServerServiceClient;
use super::wire::tuple_service_client::TupleServiceClient;
use crate::engine::{Metadata, SchemaDiagnostic};
use crate::model::{
    Acting, ChainLink, Context, Decision, Denial, Limits, ObjectRef, Precondition, Question, RelationTuple, Timestamp,
    TupleFilter, TupleUpdate, Witness,
};
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

/// How long a connection may take to come about.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// A silent server is asked whether it is there.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// A server that does not answer in this time is gone.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest header list taken: an error's details travel there.
const HEADER_BYTES_MAX: u32 = 64 << 10;
/// After so long without a call the connection is looked after before the next.
const IDLE: Duration = Duration::from_secs(1);
/// The time a stream asks for: the most a server grants by default.
const STREAM_TIME: Duration = Duration::from_secs(60);

/// Which state is asked; tokens are the text that a reply gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum At {
    /// The newest revision.
    #[default]
    Newest,
    /// The newest, which must not be older than the token.
    AtLeastAsFresh(String),
    /// Exactly the token's revision.
    AtExactSnapshot(String),
}

/// The answer to one question.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    pub decision: Decision,
    /// The revision the answer is exact at.
    pub token: String,
    /// Whether a newer revision existed.
    pub historical: bool,
    /// One path, when asked for and allowed.
    pub witness: Option<Witness>,
    /// Of a conditional decision: the context fields that could still decide it.
    pub missing: Vec<String>,
    /// Time alone does not change the decision before it.
    pub valid_until: Option<Timestamp>,
    /// Why it is no allow: of a suspended subject, and of a question asked for another.
    pub denial: Option<Denial>,
    /// The chain by which it was found, root first, when asked for another.
    pub chain: Vec<ChainLink>,
}

/// What every question is asked under.
#[derive(Clone, Debug, Default)]
pub struct Under {
    pub at: At,
    /// Values for the parameters of caveats.
    pub context: Context,
    /// Tuples that count for this request alone, as if they had been written.
    pub contextual_tuples: Vec<RelationTuple>,
    /// The time by which expiry is judged; only for a server with `--test-clock`.
    pub clock: Option<Timestamp>,
}

impl Under {
    /// A state, and nothing given.
    #[must_use]
    pub fn at(at: &At) -> Under {
        Under { at: at.clone(), ..Under::default() }
    }

    fn wire_tuples(&self) -> Vec<wire::RelationTuple> {
        self.contextual_tuples.iter().map(Into::into).collect()
    }
}

/// How a question is asked.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    pub under: Under,
    /// For whom the subject asks.
    pub acting: Acting,
    /// Whether one path to an allow is wanted.
    pub explain: bool,
}

/// What was found for one question of many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub decision: Decision,
    /// One path, when asked for and allowed.
    pub witness: Option<Witness>,
    /// Of a conditional decision: the context fields that could still decide it.
    pub missing: Vec<String>,
    /// Time alone does not change the decision before it.
    pub valid_until: Option<Timestamp>,
    /// Why it is no allow: of a suspended subject, and of a question asked for another.
    pub denial: Option<Denial>,
    /// The chain by which it was found, root first, when asked for another.
    pub chain: Vec<ChainLink>,
}

/// The answers to many questions, in their order and as many.
#[derive(Clone, Debug)]
pub struct BulkChecked {
    /// The one revision all answers are exact at.
    pub token: String,
    /// Whether a newer revision existed.
    pub historical: bool,
    pub answers: Vec<Result<Said, ClientError>>,
}

/// A durable write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub token: String,
    /// Tuples that were not there.
    pub created: u64,
    /// Tuples that were there and are written again.
    pub replaced: u64,
    /// Tuples that were there and are no longer.
    pub deleted: u64,
}

/// A durable deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    pub token: String,
    /// How many tuples were deleted, or would be.
    pub count: u64,
    /// Whether a limit left some that match.
    pub more: bool,
}

/// How a deletion is done.
#[derive(Clone, Debug, Default)]
pub struct Deletion {
    pub preconditions: Vec<Precondition>,
    pub metadata: Metadata,
    /// Judges and counts, and deletes nothing.
    pub dry_run: bool,
    /// Deletes at most so many and leaves the others, 1 to 1,000,000: again, while there are more. `None`: all, or none.
    pub limit: Option<u64>,
}

/// A schema that was written, or judged by a dry run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaWritten {
    pub token: String,
    pub digest: String,
    /// What is different, one line each.
    pub changes: Vec<String>,
    /// Of a dry run: relation, subject form, count of live tuples that would become impossible, and one of them.
    pub impact: Vec<(String, String, u64, Option<String>)>,
    pub warnings: Vec<SchemaDiagnostic>,
}

/// The schema in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaRead {
    pub text: String,
    pub digest: String,
    pub token: String,
}

/// What the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInfo {
    pub version: String,
    /// The newest revision.
    pub revision_token: String,
    /// `None` before the first schema.
    pub schema_digest: Option<String>,
    /// Name, value in force and unit of each limit.
    pub limits: Vec<(String, u64, String)>,
    /// Whether a failed write to disk has ended writing; reads go on.
    pub writes_stopped: bool,
}

/// A connection to a server. Calls block; threads may share it.
#[derive(Debug)]
pub struct Client {
    server: String,
    channel: Channel,
    runtime: Runtime,
    used: Mutex<Instant>,
}

impl Client {
    /// Connects to `host:port` or `http://host:port`.
    ///
    /// # Errors
    /// UNAVAILABLE when nobody answers there, INVALID_ARGUMENT when the text is no such address.
    pub fn connect(server: &str) -> Result<Client, ClientError> {
        let endpoint = endpoint(server)?;
        // One thread, the caller's: a call in flight is answered without waking another.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| ClientError::local("NO_RUNTIME", error.to_string()))?;
        let connected = runtime.block_on(endpoint.connect());
        let channel = connected.map_err(|error| ClientError::unreachable(server, &error))?;
        Ok(Client { server: server.to_owned(), channel, runtime, used: Mutex::new(Instant::now()) })
    }

    /// Does the subject have the permission on the object?
    ///
    /// # Errors
    /// What the server said, or the road to it; never a decision.
    pub fn check(&self, question: &Question, at: &At, explain: bool) -> Result<Checked, ClientError> {
        self.check_under(question, &Ask { under: Under::at(at), explain, ..Ask::default() })
    }

    /// As [`Client::check`], with all that may be said about how it is asked.
    ///
    /// # Errors
    /// As [`Client::check`]; `CAVEAT_FAILED` where a value does not fit its caveat.
    pub fn check_under(&self, question: &Question, ask: &Ask) -> Result<Checked, ClientError> {
        let request = check_request(question, ask);
        let mut service = self.permissions();
        let wire::CheckResponse {
            decision,
            checked_at,
            historical,
            witness,
            missing_context,
            valid_until,
            reason,
            hop,
            chain,
        } = self.call(async { service.check(request).await })?;
        Ok(Checked {
            decision: convert::decision(convert::field("decision"), decision)?,
            token: convert::token_text(convert::field("checked_at"), checked_at)?,
            historical,
            witness: convert::witness(convert::field("witness"), witness)?,
            missing: missing_context,
            valid_until: convert::instant(convert::field("valid_until"), valid_until)?,
            denial: convert_acting::denial(Place::Message, (reason, hop))?,
            chain: convert_acting::chain(convert::field("chain"), chain)?,
        })
    }

    /// Many questions at one revision, at most 10,000: more are refused by the server, not split here.
    ///
    /// # Errors
    /// As [`Client::check`]; what is wrong with one question stands in its place among the answers.
    pub fn check_bulk(&self, questions: &[Question], at: &At, explain: bool) -> Result<BulkChecked, ClientError> {
        self.check_bulk_under(questions, &Ask { under: Under::at(at), explain, ..Ask::default() })
    }

    /// As [`Client::check_bulk`], with all that may be said about how they are asked.
    ///
    /// # Errors
    /// As [`Client::check_bulk`].
    pub fn check_bulk_under(&self, questions: &[Question], ask: &Ask) -> Result<BulkChecked, ClientError> {
        let request = check_bulk_request(questions, ask);
        let mut service = self.permissions();
        let wire::CheckBulkResponse { checked_at, historical, results } =
            self.call(async { service.check_bulk(request).await })?;
        if results.len() != questions.len() {
            let message = format!("{} answers came to {} questions", results.len(), questions.len());
            return Err(ClientError::reply(message));
        }
        Ok(BulkChecked {
            token: convert::token_text(convert::field("checked_at"), checked_at)?,
            historical,
            answers: results.into_iter().map(bulk_answer).collect(),
        })
    }

    /// Applies all updates, or none.
    ///
    /// # Errors
    /// As [`Client::check`]. After a lost connection or a deadline the write may have taken place.
    pub fn write_tuples(
        &self,
        updates: &[TupleUpdate],
        preconditions: &[Precondition],
        metadata: &Metadata,
    ) -> Result<Written, ClientError> {
        let request = wire::WriteTuplesRequest {
            updates: updates.iter().map(Into::into).collect(),
            preconditions: preconditions.iter().map(Into::into).collect(),
            metadata: notes(metadata),
        };
        let mut service = self.tuples();
        let wire::WriteTuplesResponse { written_at, created_count, replaced_count, deleted_count } =
            self.call(async { service.write_tuples(request).await })?;
        Ok(Written {
            token: convert::token_text(convert::field("written_at"), written_at)?,
            created: created_count,
            replaced: replaced_count,
            deleted: deleted_count,
        })
    }

    /// Deletes every tuple that matches, or none.
    ///
    /// # Errors
    /// As [`Client::write_tuples`].
    pub fn delete_tuples(
        &self,
        filter: &TupleFilter,
        preconditions: &[Precondition],
        metadata: &Metadata,
    ) -> Result<Deleted, ClientError> {
        let (preconditions, metadata) = (preconditions.to_vec(), metadata.clone());
        self.delete_tuples_under(filter, &Deletion { preconditions, metadata, ..Deletion::default() })
    }

    /// As [`Client::delete_tuples`], with all that may be said about how it is done.
    ///
    /// # Errors
    /// As [`Client::write_tuples`].
    pub fn delete_tuples_under(&self, filter: &TupleFilter, deletion: &Deletion) -> Result<Deleted, ClientError> {
        let Deletion { preconditions, metadata, dry_run, limit } = deletion;
        let request = wire::DeleteTuplesRequest {
            filter: Some(filter.into()),
            preconditions: preconditions.iter().map(Into::into).collect(),
            metadata: notes(metadata),
            dry_run: *dry_run,
            limit: lists::wire_limit(*limit)?,
        };
        let mut service = self.tuples();
        let wire::DeleteTuplesResponse { deleted_at, deleted_count, more } =
            self.call(async { service.delete_tuples(request).await })?;
        let token = convert::token_text(convert::field("deleted_at"), deleted_at)?;
        Ok(Deleted { token, count: deleted_count, more })
    }

    /// Deletes the tuples of an object and of all beneath it by `parent` relations, or none.
    ///
    /// # Errors
    /// As [`Client::write_tuples`].
    pub fn delete_subtree(&self, root: &ObjectRef, deletion: &Deletion) -> Result<Deleted, ClientError> {
        let Deletion { preconditions, metadata, dry_run, limit } = deletion;
        let request = wire::DeleteSubtreeRequest {
            root: Some(root.into()),
            preconditions: preconditions.iter().map(Into::into).collect(),
            metadata: notes(metadata),
            dry_run: *dry_run,
            limit: lists::wire_limit(*limit)?,
        };
        let mut service = self.tuples();
        let wire::DeleteSubtreeResponse { deleted_at, deleted_count, more } =
            self.call(async { service.delete_subtree(request).await })?;
        let token = convert::token_text(convert::field("deleted_at"), deleted_at)?;
        Ok(Deleted { token, count: deleted_count, more })
    }

    /// Reads the tuples that match, in a stable order and all at one revision, whose token is returned. `each` is given
    /// every row and the cursor that resumes after it, and says whether to go on. `limit` is 1 to 10,000 rows.
    ///
    /// # Errors
    /// As [`Client::check`]; rows given before the error are right, and the last cursor resumes after them.
    pub fn read_tuples(
        &self,
        filter: &TupleFilter,
        at: &At,
        cursor: Option<String>,
        limit: Option<u64>,
        each: &mut dyn FnMut(RelationTuple, String) -> bool,
    ) -> Result<String, ClientError> {
        let limit =
            limit.map(|rows| u32::try_from(rows).map_err(|_| ClientError::beyond("limit", rows))).transpose()?;
        let message = wire::ReadTuplesRequest { consistency: at.to_wire(), filter: Some(filter.into()), cursor, limit };
        let mut request = tonic::Request::new(message);
        request.set_timeout(STREAM_TIME);
        let mut service = self.tuples();
        let mut token = None;
        self.block_on(async {
            let mut stream = service.read_tuples(request).await.map_err(|status| self.failed(&status))?.into_inner();
            while let Some(message) = stream.message().await.map_err(|status| self.failed(&status))? {
                let wire::ReadTuplesResponse { read_at, tuple, cursor } = message;
                if read_at.is_some() {
                    token = read_at;
                }
                // The first message has the token only.
                if tuple.is_some() && !each(convert::tuple(convert::field("tuple"), tuple)?, cursor) {
                    break;
                }
            }
            Ok::<(), ClientError>(())
        })?;
        Ok(convert::token_text(convert::field("read_at"), token)?)
    }

    /// Replaces the schema, or with `dry_run` says what would change.
    ///
    /// # Errors
    /// As [`Client::write_tuples`]; when the schema does not compile, with its diagnostics.
    pub fn write_schema(
        &self,
        text: &str,
        expected_digest: Option<&str>,
        dry_run: bool,
        metadata: &Metadata,
    ) -> Result<SchemaWritten, ClientError> {
        let request = wire::WriteSchemaRequest {
            schema: text.to_owned(),
            expected_digest: expected_digest.map(str::to_owned),
            dry_run,
            metadata: notes(metadata),
        };
        let mut service = self.schemas();
        let wire::WriteSchemaResponse { written_at, digest, changes, impact, warnings } =
            self.call(async { service.write_schema(request).await })?;
        let from_impact = |impact: wire::SchemaImpact| {
            let wire::SchemaImpact { relation, form, count, sample } = impact;
            let sample = match sample {
                Some(sample) => Some(convert::tuple(convert::field("sample"), Some(sample))?.to_string()),
                None => None,
            };
            Ok::<_, ClientError>((relation, form, count, sample))
        };
        Ok(SchemaWritten {
            token: convert::token_text(convert::field("written_at"), written_at)?,
            digest,
            changes,
            impact: impact.into_iter().map(from_impact).collect::<Result<_, _>>()?,
            warnings: warnings.into_iter().map(error::diagnostic).collect(),
        })
    }

    /// The schema in force.
    ///
    /// # Errors
    /// As [`Client::check`]; FAILED_PRECONDITION with the reason NO_SCHEMA before the first.
    pub fn read_schema(&self, at: &At) -> Result<SchemaRead, ClientError> {
        let request = wire::ReadSchemaRequest { consistency: at.to_wire() };
        let mut service = self.schemas();
        let wire::ReadSchemaResponse { schema, digest, read_at } =
            self.call(async { service.read_schema(request).await })?;
        Ok(SchemaRead { text: schema, digest, token: convert::token_text(convert::field("read_at"), read_at)? })
    }

    /// Version, newest revision, schema and limits.
    ///
    /// # Errors
    /// As [`Client::check`].
    pub fn server_info(&self) -> Result<ServerInfo, ClientError> {
        let mut service = ServerServiceClient::new(self.channel.clone());
        let wire::ServerInfoResponse { version, revision, schema_digest, limits, database: _, writes_stopped } =
            self.call(async { service.server_info(wire::ServerInfoRequest {}).await })?;
        let from_limit = |limit: wire::Limit| {
            let wire::Limit { name, value, unit, reason: _ } = limit;
            (name, value, unit)
        };
        Ok(ServerInfo {
            version,
            revision_token: convert::token_text(convert::field("revision"), revision)?,
            schema_digest,
            limits: limits.into_iter().map(from_limit).collect(),
            writes_stopped,
        })
    }

    fn permissions(&self) -> PermissionServiceClient<Channel> {
        PermissionServiceClient::new(self.channel.clone()).max_decoding_message_size(reply_bytes_max())
    }

    fn tuples(&self) -> TupleServiceClient<Channel> {
        TupleServiceClient::new(self.channel.clone()).max_decoding_message_size(reply_bytes_max())
    }

    fn schemas(&self) -> SchemaServiceClient<Channel> {
        SchemaServiceClient::new(self.channel.clone()).max_decoding_message_size(reply_bytes_max())
    }

    fn call<T>(&self, calling: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, ClientError> {
        self.block_on(calling).map(Response::into_inner).map_err(|status| self.failed(&status))
    }

    fn failed(&self, status: &Status) -> ClientError {
        ClientError::from_status(&self.server, status)
    }

    /// Runs the future on this thread. The connection lives on the runtime too and only moves while a call is made: one
    /// that the server closed meanwhile must notice so before the next request is given to it.
    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        let idle = std::mem::replace(&mut *self.used.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
        let done = self.runtime.block_on(async {
            if idle.elapsed() > IDLE {
                for _ in 0..8 {
                    tokio::task::yield_now().await;
                }
            }
            future.await
        });
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        done
    }
}

impl At {
    fn to_wire(&self) -> Option<wire::Consistency> {
        use wire::consistency::Requirement;
        let token = |token: &String| wire::ConsistencyToken { token: token.clone() };
        let requirement = match self {
            At::Newest => return None,
            At::AtLeastAsFresh(text) => Requirement::AtLeastAsFresh(token(text)),
            At::AtExactSnapshot(text) => Requirement::AtExactSnapshot(token(text)),
        };
        Some(wire::Consistency { requirement: Some(requirement) })
    }
}

/// Where the server is, and how a connection to it is kept.
fn endpoint(server: &str) -> Result<Endpoint, ClientError> {
    let uri = if server.contains("://") { server.to_owned() } else { format!("http://{server}") };
    if !uri.starts_with("http://") {
        return Err(ClientError::local(
            "BAD_ADDRESS",
            format!("cannot connect to `{server}`: only http:// is supported"),
        ));
    }
    let endpoint =
        Endpoint::from_shared(uri).ok().filter(|endpoint| endpoint.uri().port().is_some()).ok_or_else(|| {
            ClientError::local("BAD_ADDRESS", format!("`{server}` is not `host:port` or `http://host:port`"))
        })?;
    Ok(endpoint
        .connect_timeout(CONNECT_MAX)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .http2_max_header_list_size(HEADER_BYTES_MAX))
}

fn check_request(question: &Question, ask: &Ask) -> wire::CheckRequest {
    let Ask { under, acting, explain } = ask;
    let Question { object, permission, subject } = question;
    wire::CheckRequest {
        consistency: under.at.to_wire(),
        object: Some(object.into()),
        permission: permission.to_string(),
        subject: Some(subject.into()),
        explain: *explain,
        context: notes(&under.context),
        contextual_tuples: under.wire_tuples(),
        acting: to_acting(acting),
        clock: under.clock.map(convert::to_timestamp),
    }
}

fn check_bulk_request(questions: &[Question], ask: &Ask) -> wire::CheckBulkRequest {
    let Ask { under, acting, explain } = ask;
    let to_item = |question: &Question| {
        let Question { object, permission, subject } = question;
        wire::CheckBulkItem {
            object: Some(object.into()),
            permission: permission.to_string(),
            subject: Some(subject.into()),
            // The answers come in order, so no mark is needed.
            id: String::new(),
        }
    };
    let items = questions.iter().map(to_item).collect();
    wire::CheckBulkRequest {
        consistency: under.at.to_wire(),
        items,
        explain: *explain,
        context: notes(&under.context),
        contextual_tuples: under.wire_tuples(),
        acting: to_acting(acting),
        clock: under.clock.map(convert::to_timestamp),
    }
}

/// A server's replies keep to its own limit, which may be set higher than ours by default.
fn reply_bytes_max() -> usize {
    Limits::default().message_bytes_max.saturating_mul(4)
}

fn notes(metadata: &Metadata) -> Option<prost_types::Struct> {
    (!metadata.is_empty()).then(|| convert::to_struct(metadata))
}

fn bulk_answer(result: wire::CheckBulkResult) -> Result<Said, ClientError> {
    use wire::check_bulk_result::Result as Wire;
    let wire::CheckBulkResult { id: _, result } = result;
    match result {
        Some(Wire::Answer(answer)) => said(answer),
        Some(Wire::Error(error)) => Err(ClientError::from_proto(&error)),
        None => Err(ClientError::reply("an item came back without an answer".to_owned())),
    }
}

fn said(answer: wire::CheckBulkAnswer) -> Result<Said, ClientError> {
    let wire::CheckBulkAnswer { decision, witness, missing_context, valid_until, reason, hop, chain } = answer;
    Ok(Said {
        decision: convert::decision(convert::field("decision"), decision)?,
        witness: convert::witness(convert::field("witness"), witness)?,
        missing: missing_context,
        valid_until: convert::instant(convert::field("valid_until"), valid_until)?,
        denial: convert_acting::denial(Place::Message, (reason, hop))?,
        chain: convert_acting::chain(convert::field("chain"), chain)?,
    })
}
