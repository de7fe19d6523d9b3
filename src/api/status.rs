//! Errors as the wire carries them: `google.rpc.Status` with an `ErrorInfo`, and for a schema its diagnostics.
//!
//! INVARIANT: every error has the domain `procura`, a stable reason and its facts as metadata; the code is never UNKNOWN
//! and nothing here makes a decision of an error. What is for the log only (`detail`) goes to the log under an id that
//! the caller is told, and never to the caller. What is sent fits the header list that any client takes (8 KiB).

use super::convert::{Refusal, RefusalKind, shown};
use super::wire;
use crate::engine::{Error, ErrorFacts, Kind};
use prost::Message;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use tonic::{Code, Status};
use tonic_types::pb;

/// `ErrorInfo.domain` of every error of this server.
pub(super) const DOMAIN: &str = "procura";
/// The fact that carries the hint.
pub(super) const HINT: &str = "hint";
/// What the details of an error may weigh. Base64 adds a third, and some clients refuse more than 8 KiB of headers.
const DETAILS_BYTES_MAX: usize = 4 << 10;
/// Longest message; what is not ASCII weighs three times as much on the wire.
const MESSAGE_CHARS_MAX: usize = 300;
/// Longest fact.
const FACT_CHARS_MAX: usize = 256;
const TYPE_URL: &str = "type.googleapis.com/";

/// An error on its way out: the same facts make the status of an RPC and of one item of a bulk.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Failure {
    code: Code,
    reason: &'static str,
    message: String,
    facts: Vec<(String, String)>,
    diagnostics: Vec<wire::SchemaDiagnostic>,
}

impl Failure {
    /// An error with a stable upper-case reason and a lower-case message.
    pub(super) fn new(code: Code, reason: &'static str, message: impl Into<String>) -> Failure {
        Failure { code, reason, message: message.into(), facts: Vec::new(), diagnostics: Vec::new() }
    }

    pub(super) fn with_fact(mut self, key: &str, value: impl Into<String>) -> Failure {
        self.facts.push((key.to_owned(), value.into()));
        self
    }

    /// The field it names is one of this part of the request.
    pub(super) fn within(mut self, part: &str) -> Failure {
        for (_, field) in self.facts.iter_mut().filter(|(key, _)| key == "field") {
            *field = format!("{part}.{field}");
        }
        self
    }

    /// What went wrong inside: logged under an id, of which the caller is told nothing else.
    pub(super) fn internal(what: &str) -> Failure {
        let id = error_id();
        tracing::error!(error_id = %id, detail = %what, "internal error");
        Failure::new(Code::Internal, "INTERNAL", "internal error").with_fact("error_id", id)
    }

    /// The request's time is over; whether a write took place is not known.
    pub(super) fn deadline() -> Failure {
        Failure::new(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "the deadline passed before the answer was there")
    }

    /// The server is going away.
    pub(super) fn draining() -> Failure {
        Failure::new(Code::Unavailable, "DRAINING", "the server is shutting down")
    }

    /// As it travels in a bulk and in the details of a status.
    pub(super) fn into_proto(self) -> pb::Status {
        let Failure { code, reason, message, facts, diagnostics } = self;
        let message = cut(&message, MESSAGE_CHARS_MAX);
        let mut info = pb::ErrorInfo {
            reason: reason.to_owned(),
            domain: DOMAIN.to_owned(),
            metadata: facts.into_iter().map(|(key, value)| (key, cut(&value, FACT_CHARS_MAX))).collect(),
        };
        let budget = DETAILS_BYTES_MAX.saturating_sub(info.encoded_len());
        let (diagnostics, omitted) = fitting(diagnostics, budget);
        if omitted > 0 {
            info.metadata.insert("diagnostics_omitted".to_owned(), omitted.to_string());
        }
        let mut details = vec![any("google.rpc.ErrorInfo", &info)];
        if !diagnostics.is_empty() {
            details.push(any("procura.v1.SchemaDiagnostics", &wire::SchemaDiagnostics { diagnostics }));
        }
        pb::Status { code: code.into(), message, details }
    }
}

/// As many diagnostics as fit, from the first on, and how many do not. When not all fit, only those in the first half of
/// the room keep their rendered form: place, message and hint of more say more than the source lines of a few.
fn fitting(diagnostics: Vec<wire::SchemaDiagnostic>, budget: usize) -> (Vec<wire::SchemaDiagnostic>, usize) {
    /// Tag and length of one item.
    const FRAME: usize = 4;
    let count = diagnostics.len();
    let mut kept = Vec::new();
    let mut left = budget;
    let all: usize = diagnostics.iter().map(|diagnostic| diagnostic.encoded_len() + FRAME).sum();
    let rendered_until = if all <= budget { 0 } else { budget / 2 };
    for mut diagnostic in diagnostics {
        if left.saturating_sub(diagnostic.encoded_len() + FRAME) < rendered_until {
            diagnostic.rendered.clear();
            diagnostic.message = cut(&diagnostic.message, MESSAGE_CHARS_MAX);
            diagnostic.hint = cut(&diagnostic.hint, MESSAGE_CHARS_MAX);
        }
        let bytes = diagnostic.encoded_len() + FRAME;
        if bytes > left {
            break;
        }
        left -= bytes;
        kept.push(diagnostic);
    }
    let omitted = count - kept.len();
    (kept, omitted)
}

fn any(name: &str, message: &impl Message) -> prost_types::Any {
    prost_types::Any { type_url: format!("{TYPE_URL}{name}"), value: message.encode_to_vec() }
}

/// The message of this type in an error's details, if it is there and whole.
pub(super) fn detail<M: Message + Default>(details: &[prost_types::Any], name: &str) -> Option<M> {
    let is_named = |any: &&prost_types::Any| any.type_url.rsplit('/').next() == Some(name);
    details.iter().find(is_named).and_then(|any| M::decode(any.value.as_slice()).ok())
}

fn cut(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Unique in this process, and unlikely to be seen in another: a number drawn at its start, and a count.
fn error_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    static START: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    let start = START.get_or_init(|| RandomState::new().build_hasher().finish());
    format!("{start:x}-{:x}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn code_of(kind: Kind) -> Code {
    match kind {
        Kind::InvalidArgument => Code::InvalidArgument,
        Kind::FailedPrecondition => Code::FailedPrecondition,
        Kind::AlreadyExists => Code::AlreadyExists,
        Kind::NotFound => Code::NotFound,
        Kind::OutOfRange => Code::OutOfRange,
        Kind::ResourceExhausted => Code::ResourceExhausted,
        Kind::Cancelled => Code::Cancelled,
        Kind::Unavailable => Code::Unavailable,
        Kind::Internal => Code::Internal,
        Kind::DataLoss => Code::DataLoss,
    }
}

impl From<&ErrorFacts> for Failure {
    fn from(error: &ErrorFacts) -> Failure {
        let ErrorFacts { kind, reason, message, hint, facts, diagnostics, detail } = error;
        let mut failure = Failure {
            code: code_of(*kind),
            reason,
            message: message.clone(),
            facts: facts.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
            diagnostics: diagnostics.iter().map(Into::into).collect(),
        };
        if let Some(hint) = hint {
            failure = failure.with_fact(HINT, hint);
        }
        // Even without a detail an internal fault is logged: somebody has to look.
        if detail.is_some() || matches!(kind, Kind::Internal | Kind::DataLoss) {
            let id = error_id();
            tracing::error!(error_id = %id, %reason, %message, detail = detail.as_deref().unwrap_or(""), "engine error");
            failure = failure.with_fact("error_id", id);
        }
        failure
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let facts: &ErrorFacts = &error;
        facts.into()
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        let Refusal { kind, field, value, message, hint } = refusal;
        let mut failure = match kind {
            RefusalKind::Invalid => Failure::new(Code::InvalidArgument, "INVALID_ARGUMENT", message),
            RefusalKind::Limit { name, max } => Failure::new(Code::ResourceExhausted, "LIMIT_EXCEEDED", message)
                .with_fact("limit", name)
                .with_fact("max", max.to_string()),
        };
        failure = failure.with_fact("field", field);
        if let Some(value) = value {
            failure = failure.with_fact("value", value);
        }
        if let Some(hint) = hint {
            failure = failure.with_fact(HINT, hint);
        }
        failure
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Status {
        let proto = failure.into_proto();
        let code = Code::from(proto.code);
        Status::with_details(code, proto.message.clone(), proto.encode_to_vec().into())
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Status {
        Failure::from(refusal).into()
    }
}

/// What the library itself answers, before or around our services, in the terms of our contract. `method` is the path
/// of the request.
pub(super) fn of_library(code: Code, message: &str, method: &str, message_bytes_max: usize) -> Failure {
    match code {
        Code::Unimplemented if message.is_empty() => {
            Failure::new(code, "UNKNOWN_METHOD", format!("this server has no method `{}`", shown(method)))
                .with_fact("method", shown(method))
        }
        Code::Unimplemented => Failure::new(code, "COMPRESSION_UNSUPPORTED", "compressed messages are not supported"),
        // The library says so of a request that is longer than the decoder may take.
        Code::OutOfRange | Code::ResourceExhausted => Failure::new(
            Code::ResourceExhausted,
            "LIMIT_EXCEEDED",
            format!("a message may have at most {message_bytes_max} bytes"),
        )
        .with_fact("limit", "message_bytes_max")
        .with_fact("max", message_bytes_max.to_string()),
        // Our own INTERNAL carries details; without them it is the decoder's word on the request.
        Code::Internal => {
            Failure::new(Code::InvalidArgument, "MALFORMED_MESSAGE", "the request is not a message of this method")
                .with_fact("method", shown(method))
        }
        Code::Cancelled => Failure::new(code, "CANCELLED", "the request was cancelled"),
        Code::NotFound => Failure::new(code, "NOT_FOUND", message),
        Code::Unavailable => Failure::new(code, "UNAVAILABLE", message),
        Code::DeadlineExceeded => Failure::deadline(),
        Code::InvalidArgument => Failure::new(code, "INVALID_ARGUMENT", message),
        Code::Ok
        | Code::Unknown
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::DataLoss
        | Code::Unauthenticated => Failure::internal(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::SchemaDiagnostic;

    fn facts(kind: Kind) -> ErrorFacts {
        ErrorFacts {
            kind,
            reason: "PRECONDITION_FAILED",
            message: "no tuple matches `doc:1#viewer`".to_owned(),
            hint: Some("write it first".to_owned()),
            facts: vec![("precondition", "0".to_owned())],
            diagnostics: Vec::new(),
            detail: Some("the row at /secret was odd".to_owned()),
        }
    }

    #[test]
    fn an_engine_error_keeps_its_facts_and_hides_its_detail() {
        let status = Status::from(Failure::from(&facts(Kind::FailedPrecondition)));
        assert_eq!(status.code(), Code::FailedPrecondition);
        let proto = pb::Status::decode(status.details()).unwrap();
        assert_eq!((proto.code, proto.message.as_str()), (9, status.message()));
        let info: pb::ErrorInfo = detail(&proto.details, "google.rpc.ErrorInfo").unwrap();
        assert_eq!((info.domain.as_str(), info.reason.as_str()), ("procura", "PRECONDITION_FAILED"));
        assert_eq!(info.metadata["precondition"], "0");
        assert_eq!(info.metadata["hint"], "write it first");
        assert!(info.metadata.contains_key("error_id"));
        assert!(!format!("{status:?} {proto:?}").contains("secret"));
    }

    #[test]
    fn every_kind_has_its_code_and_none_is_unknown_or_ok() {
        use Kind::*;
        let kinds = [
            InvalidArgument,
            FailedPrecondition,
            AlreadyExists,
            NotFound,
            OutOfRange,
            ResourceExhausted,
            Cancelled,
            Unavailable,
            Internal,
            DataLoss,
        ];
        for kind in kinds {
            assert!(!matches!(code_of(kind), Code::Ok | Code::Unknown), "{kind:?}");
        }
        let codes: std::collections::HashSet<_> = kinds.map(|kind| i32::from(code_of(kind))).into();
        assert_eq!(codes.len(), kinds.len());
    }

    #[test]
    fn a_schema_with_a_thousand_errors_still_fits_the_headers() {
        let diagnostic = |line: u32| SchemaDiagnostic {
            is_error: true,
            name: "unknown-relation",
            message: format!("unknown relation `r{line}`"),
            hint: Some("did you mean `viewer`?".to_owned()),
            line,
            column: 3,
            rendered: "| permission view = r\n".repeat(20),
        };
        let mut error = facts(Kind::InvalidArgument);
        error.facts.push(("value", "ü".repeat(5_000)));
        error.message = "ü".repeat(5_000);
        error.diagnostics = (1..=1000).map(diagnostic).collect();
        let proto = Failure::from(&error).into_proto();
        assert!(proto.encoded_len() < 11 << 9, "{}", proto.encoded_len());
        let info: pb::ErrorInfo = detail(&proto.details, "google.rpc.ErrorInfo").unwrap();
        let kept: wire::SchemaDiagnostics = detail(&proto.details, "procura.v1.SchemaDiagnostics").unwrap();
        let omitted: usize = info.metadata["diagnostics_omitted"].parse().unwrap();
        assert_eq!(kept.diagnostics.len() + omitted, 1000);
        assert!(kept.diagnostics.len() > 20, "{}", kept.diagnostics.len());
        assert_eq!(kept.diagnostics[0].line, 1);
        assert!(!kept.diagnostics[0].rendered.is_empty());
    }

    #[test]
    fn what_the_library_says_is_put_in_our_terms() {
        let code = |code, message: &str| {
            let proto = of_library(code, message, "/procura.v1.X/Y", 9).into_proto();
            let info: pb::ErrorInfo = detail(&proto.details, "google.rpc.ErrorInfo").unwrap();
            (Code::from(proto.code), info.reason)
        };
        assert_eq!(code(Code::Unimplemented, ""), (Code::Unimplemented, "UNKNOWN_METHOD".to_owned()));
        assert_eq!(code(Code::OutOfRange, "too large"), (Code::ResourceExhausted, "LIMIT_EXCEEDED".to_owned()));
        assert_eq!(code(Code::Internal, "decode"), (Code::InvalidArgument, "MALFORMED_MESSAGE".to_owned()));
        assert_eq!(code(Code::Unknown, "?"), (Code::Internal, "INTERNAL".to_owned()));
    }
}
