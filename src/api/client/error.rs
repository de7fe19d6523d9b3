//! What the server, or the road to it, said.

use super::super::convert::Refusal;
use super::super::status::{HINT, detail};
use super::super::wire;
use crate::engine::SchemaDiagnostic;
use prost::Message;
use std::collections::HashSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use tonic::{Code, Status};
use tonic_types::pb;

/// Most names of diagnostics remembered, and the longest: a server decides what stands there.
const NAMES_MAX: usize = 256;
const NAME_BYTES_MAX: usize = 64;

/// What the server said, or the road to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientError {
    /// The gRPC code, such as `FAILED_PRECONDITION`.
    pub code: &'static str,
    /// The stable reason (`ErrorInfo.reason`); empty when there is none.
    pub reason: String,
    pub message: String,
    /// By key.
    pub facts: Vec<(String, String)>,
    /// Of a schema that does not compile. With many, the fact `diagnostics_omitted` counts those that did not fit.
    pub diagnostics: Vec<SchemaDiagnostic>,
}

impl ClientError {
    /// The fact with this key.
    #[must_use]
    pub fn fact(&self, key: &str) -> Option<&str> {
        self.facts.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    fn new(code: Code, reason: &str, message: String) -> ClientError {
        ClientError { code: name(code), reason: reason.to_owned(), message, facts: Vec::new(), diagnostics: Vec::new() }
    }

    fn with_fact(mut self, key: &str, value: &str) -> ClientError {
        self.facts.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Refused before anything was sent.
    pub(super) fn local(reason: &str, message: String) -> ClientError {
        ClientError::new(Code::InvalidArgument, reason, message)
    }

    /// A number that the wire has no room for.
    pub(super) fn beyond(field: &str, value: u64) -> ClientError {
        let value = value.to_string();
        ClientError::local("INVALID_ARGUMENT", format!("`{field}` is {value}; that is beyond any limit"))
            .with_fact("field", field)
            .with_fact("value", &value)
    }

    /// A reply that this build does not understand.
    pub(super) fn reply(message: String) -> ClientError {
        ClientError::new(Code::Internal, "MALFORMED_REPLY", message)
            .with_fact(HINT, "the server may be of another version than this client")
    }

    pub(super) fn unreachable(server: &str, error: &dyn std::error::Error) -> ClientError {
        let message = format!("cannot reach `{server}`: {}", innermost(error));
        ClientError::new(Code::Unavailable, "UNREACHABLE", message).with_fact(HINT, "is `procura serve` running?")
    }

    pub(super) fn from_status(server: &str, status: &Status) -> ClientError {
        if let Ok(proto) = pb::Status::decode(status.details())
            && !proto.details.is_empty()
        {
            return ClientError::from_proto(&proto);
        }
        // Without details it is not our server that speaks, but the transport.
        let source = std::error::Error::source(status).map(innermost);
        let said = source.filter(|text| !text.is_empty()).unwrap_or_else(|| status.message().to_owned());
        let message = format!("no answer from `{server}`: {said}");
        let error = ClientError::new(status.code(), "", message);
        if status.code() == Code::Unavailable { error.with_fact(HINT, "is `procura serve` running?") } else { error }
    }

    pub(super) fn from_proto(proto: &pb::Status) -> ClientError {
        let pb::Status { code, message, details } = proto;
        let mut error = ClientError::new(Code::from(*code), "", message.clone());
        if let Some(pb::ErrorInfo { reason, domain: _, metadata }) = detail(details, "google.rpc.ErrorInfo") {
            error.reason = reason;
            error.facts = metadata.into_iter().collect();
            error.facts.sort();
        }
        if let Some(wire::SchemaDiagnostics { diagnostics }) = detail(details, "procura.v1.SchemaDiagnostics") {
            error.diagnostics = diagnostics.into_iter().map(diagnostic).collect();
        }
        error
    }
}

/// A reply's field is not what it must be.
impl From<Refusal> for ClientError {
    fn from(refusal: Refusal) -> ClientError {
        ClientError::reply(format!("a reply is not understood: {}", refusal.message)).with_fact("field", &refusal.field)
    }
}

/// The message, and on a line of its own the hint.
impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match self.fact(HINT) {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ClientError {}

/// A diagnostic as the engine gave it.
pub(super) fn diagnostic(message: wire::SchemaDiagnostic) -> SchemaDiagnostic {
    use wire::schema_diagnostic::Severity;
    let wire::SchemaDiagnostic { severity, name, message, hint, line, column, rendered } = message;
    SchemaDiagnostic {
        // A severity this build does not know is taken for the graver one.
        is_error: severity != i32::from(Severity::Warning),
        name: remembered(name),
        message,
        hint: (!hint.is_empty()).then_some(hint),
        line,
        column,
        rendered,
    }
}

/// A diagnostic's name lives as long as the process, as the compiler's own do; what a server sends is kept once, and
/// only so much of it.
fn remembered(name: String) -> &'static str {
    static NAMES: Mutex<Option<HashSet<&'static str>>> = Mutex::new(None);
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    let names = names.get_or_insert_default();
    if let Some(known) = names.get(name.as_str()) {
        return known;
    }
    if names.len() >= NAMES_MAX || name.len() > NAME_BYTES_MAX {
        return "unknown";
    }
    let kept: &'static str = Box::leak(name.into_boxed_str());
    names.insert(kept);
    kept
}

/// What lies at the bottom of an error: `connection refused`, not `transport error`.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut bottom = error;
    // Bounded: an error's sources are a list that ends.
    while let Some(source) = bottom.source() {
        bottom = source;
    }
    let text = bottom.to_string();
    // Lower case, and without the operating system's number.
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => String::new(),
    }
}

fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
