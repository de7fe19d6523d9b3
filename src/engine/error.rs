//! One error for callers, made of facts and sorted by what they can do: fix the request, retry, ask an operator.
//!
//! What the caller sees and what the log keeps are separate fields, so that no path or internal text gets out.

use crate::model::NameError;
use crate::schema::{Colour, Diagnostic, Severity};
use crate::{store, walk};

/// The reason of what was to be answered from memory alone, and cannot.
pub(super) const NOT_IN_MEMORY: &str = "NOT_IN_MEMORY";

/// What a caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Fix the request.
    InvalidArgument,
    /// Fix the request, or the state it meets.
    FailedPrecondition,
    /// It is there already.
    AlreadyExists,
    /// It is not there.
    NotFound,
    /// The revision is gone, or not reached.
    OutOfRange,
    /// Ask for less.
    ResourceExhausted,
    /// Nobody waited for the answer.
    Cancelled,
    /// Try again later.
    Unavailable,
    /// Ask an operator.
    Internal,
    /// Ask an operator: stored data is damaged.
    DataLoss,
}

/// Why there is no answer. Never a decision.
#[derive(Debug, Clone)]
pub struct Error(Box<ErrorFacts>);

/// What is known of an error.
#[derive(Debug, Clone)]
pub struct ErrorFacts {
    pub kind: Kind,
    /// Stable, in upper case: what programs switch on.
    pub reason: &'static str,
    /// For the caller: lower case, no full stop, the caller's own text in backticks.
    pub message: String,
    /// What would probably mend it.
    pub hint: Option<String>,
    /// Facts by name, such as `field` and `value`.
    pub facts: Vec<(&'static str, String)>,
    /// Of a schema that does not compile.
    pub diagnostics: Vec<SchemaDiagnostic>,
    /// For the log only.
    pub detail: Option<String>,
}

/// One thing said about a schema's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaDiagnostic {
    pub is_error: bool,
    /// Stable: `unknown-relation`, or the name that `procura-ignore` takes.
    pub name: &'static str,
    pub message: String,
    pub hint: Option<String>,
    /// Counted from 1.
    pub line: u32,
    /// Counted from 1, in characters.
    pub column: u32,
    /// With the source line and a caret, without colour.
    pub rendered: String,
}

impl SchemaDiagnostic {
    /// What the language floor said, with its place in the text.
    #[must_use]
    pub fn of(diagnostic: &Diagnostic, text: &str) -> SchemaDiagnostic {
        let (line, column) = diagnostic.line_column(text);
        SchemaDiagnostic {
            is_error: diagnostic.severity == Severity::Error,
            name: diagnostic.name,
            message: diagnostic.message.clone(),
            hint: diagnostic.hint.clone(),
            line,
            column,
            rendered: diagnostic.render("schema", text, Colour::Plain),
        }
    }
}

/// Most characters of the caller's own text that are shown back.
const SHOWN_MAX: usize = 128;

fn shown(value: &str) -> String {
    match value.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", value.get(..end).unwrap_or_default()),
        None => value.to_owned(),
    }
}

impl Error {
    /// Whether only the disk, or more work, could tell: of what was to be answered at once.
    pub(super) fn is_for_want_of_time(&self) -> bool {
        [NOT_IN_MEMORY, "EDGES_SPENT", "STACK_SPENT"].contains(&self.reason)
    }

    /// Whether nothing is wrong with the write itself: it was judged by another schema than is in force by now.
    #[must_use]
    pub fn is_to_begin_anew(&self) -> bool {
        self.reason == "SCHEMA_CHANGED"
    }

    /// An error of a kind, with its stable reason.
    #[must_use]
    pub fn new(kind: Kind, reason: &'static str, message: impl Into<String>) -> Error {
        Error(Box::new(ErrorFacts {
            kind,
            reason,
            message: message.into(),
            hint: None,
            facts: Vec::new(),
            diagnostics: Vec::new(),
            detail: None,
        }))
    }

    /// `INVALID_ARGUMENT`, naming the field and the offending value (cut to 128 characters).
    #[must_use]
    pub fn invalid(field: impl Into<String>, value: &str, message: impl Into<String>) -> Error {
        let field = field.into();
        Error::new(Kind::InvalidArgument, "INVALID_ARGUMENT", format!("{field}: {}", message.into()))
            .with_fact("field", field)
            .with_fact("value", shown(value))
    }

    /// `INVALID_ARGUMENT` for a name or id that is none.
    #[must_use]
    pub fn invalid_name(field: impl Into<String>, value: &str, error: &NameError) -> Error {
        Error::invalid(field, value, error.to_string())
    }

    /// Says it in other words.
    #[must_use]
    pub(super) fn with_message(mut self, message: String) -> Error {
        self.0.message = message;
        self
    }

    /// Adds a fact.
    #[must_use]
    pub fn with_fact(mut self, key: &'static str, value: impl Into<String>) -> Error {
        self.0.facts.push((key, value.into()));
        self
    }

    /// Adds what would probably mend it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Error {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds what only the log may keep.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Error {
        self.0.detail = Some(detail.into());
        self
    }

    /// Adds what was said about a schema's text.
    #[must_use]
    pub fn with_diagnostics(mut self, diagnostics: Vec<SchemaDiagnostic>) -> Error {
        self.0.diagnostics = diagnostics;
        self
    }

    pub(super) fn hint_if(self, hint: Option<String>) -> Error {
        match hint {
            Some(hint) => self.with_hint(hint),
            None => self,
        }
    }
}

impl std::ops::Deref for Error {
    type Target = ErrorFacts;
    fn deref(&self) -> &ErrorFacts {
        &self.0
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Error {
        let text = error.to_string();
        match error {
            store::Error::AlreadyExists(key) => {
                Error::new(Kind::AlreadyExists, "TUPLE_EXISTS", text).with_fact("tuple", key.to_string())
            }
            store::Error::PreconditionFailed { index } => Error::new(
                Kind::FailedPrecondition,
                "PRECONDITION_FAILED",
                format!("preconditions[{index}] does not hold"),
            )
            .with_fact("field", format!("preconditions[{index}]"))
            .with_fact("index", index.to_string()),
            store::Error::PreconditionsTooWide => Error::new(Kind::ResourceExhausted, "PRECONDITIONS_TOO_WIDE", text)
                .with_fact("field", "preconditions")
                .with_hint("name type and relation, or one subject, so that fewer tuples are looked through"),
            // The store looks again by itself.
            store::Error::FoundOvertaken => Error::new(Kind::Unavailable, "OVERTAKEN", text).with_hint("try again"),
            store::Error::SchemaChanged => Error::new(Kind::Unavailable, "SCHEMA_CHANGED", text).with_hint("try again"),
            store::Error::TuplesInTheWay(forms) => tuples_in_the_way(&forms),
            store::Error::TooManyTuples { limit } => Error::new(Kind::ResourceExhausted, "TOO_MANY_TUPLES", text)
                .with_fact("limit", limit.to_string())
                .with_hint(
                    "give a `limit` and call again while there are more, or narrow the filter; nothing was removed",
                ),
            store::Error::ParentCycle(key) => {
                Error::new(Kind::FailedPrecondition, "PARENT_CYCLE", text).with_fact("tuple", key.to_string())
            }
            store::Error::CycleInTheWay(key) => Error::new(Kind::FailedPrecondition, "SCHEMA_BREAKS_TUPLES", text)
                .with_fact("sample", key.to_string())
                .with_hint("delete a tuple of the cycle first"),
            store::Error::TooManyAncestors { limit } => {
                Error::new(Kind::ResourceExhausted, "TOO_MANY_ANCESTORS", text).with_fact("limit", limit.to_string())
            }
            store::Error::SubtreeTooLarge { limit } => Error::new(Kind::ResourceExhausted, "SUBTREE_TOO_LARGE", text)
                .with_fact("limit", limit.to_string())
                .with_hint(
                    "name a smaller subtree, or a subject too; a deletion may be given a `limit` and go on in parts",
                ),
            store::Error::TooManyChanges { limit } => Error::new(Kind::ResourceExhausted, "TOO_MANY_UPDATES", text)
                .with_fact("limit", limit.to_string())
                .with_hint("change them in several calls; nothing was written"),
            store::Error::NumbersUsedUp { object_type } => {
                Error::new(Kind::ResourceExhausted, "IDS_USED_UP", text).with_fact("type", object_type)
            }
            store::Error::NoDelegation(id) => {
                Error::new(Kind::NotFound, "DELEGATION_NOT_FOUND", text).with_fact("value", id.to_string())
            }
            store::Error::IdempotencyKeyUsed => Error::new(Kind::FailedPrecondition, "IDEMPOTENCY_KEY_USED", text)
                .with_fact("field", "idempotency_key")
                .with_hint("take a new key for a new request; the same one only repeats the same request"),
            store::Error::DelegationExists(id) => Error::new(Kind::AlreadyExists, "DELEGATION_EXISTS", text)
                .with_fact("value", id.to_string())
                .with_hint("an id always means the same delegation; leave it out, or import into another database"),
            store::Error::TooManyDelegations { limit } => {
                Error::new(Kind::ResourceExhausted, "TOO_MANY_DELEGATIONS", text)
                    .with_fact("limit", limit.to_string())
                    .with_hint("suspend the principal, which denies at once; nothing was revoked")
            }
            store::Error::DelegationChanged(id) => Error::new(Kind::Unavailable, "DELEGATION_CHANGED", text)
                .with_fact("value", id.to_string())
                .with_hint("try again"),
            store::Error::QueueFull => {
                Error::new(Kind::Unavailable, "WRITE_QUEUE_FULL", text).with_hint("try again after a moment")
            }
            store::Error::Stopped(_) => Error::new(Kind::Unavailable, "WRITES_STOPPED", text),
            store::Error::OutcomeUnknown(detail) => {
                let message = "the write's outcome is unknown: it may or may not be there after a restart";
                Error::new(Kind::Internal, "OUTCOME_UNKNOWN", message).with_detail(detail)
            }
            // Whoever asks so asks again.
            store::Error::NotInMemory => Error::new(Kind::Unavailable, NOT_IN_MEMORY, text),
            store::Error::InUse(_) => Error::new(Kind::FailedPrecondition, "DATA_IN_USE", text)
                .with_hint("stop the other one, or give this one another --data"),
            store::Error::FormatNewer { .. } => Error::new(Kind::FailedPrecondition, "FORMAT_NEWER", text)
                .with_hint("use the version that wrote it, or a later one"),
            store::Error::BelowHighWater { .. } => Error::new(Kind::DataLoss, "BELOW_HIGH_WATER", text)
                .with_hint("restore a backup; acknowledged writes are missing from this folder"),
            store::Error::Corrupt(detail) => {
                Error::new(Kind::DataLoss, "CORRUPT", "stored data is damaged").with_detail(detail)
            }
            store::Error::Storage(detail) => {
                Error::new(Kind::Internal, "STORAGE", "the storage failed").with_detail(detail)
            }
        }
    }
}

fn tuples_in_the_way(forms: &[store::FormCount]) -> Error {
    const SHOWN_FORMS: usize = 5;
    let total: u64 = forms.iter().map(|form| form.count).sum();
    let mut parts: Vec<String> = Vec::new();
    for form in forms.iter().take(SHOWN_FORMS) {
        let sample = form.sample.as_ref().map(|key| format!(", such as `{key}`")).unwrap_or_default();
        parts.push(format!("{} of `{}` on `{}`{sample}", form.count, form.form, form.relation));
    }
    if forms.len() > SHOWN_FORMS {
        parts.push(format!("{} further forms", forms.len() - SHOWN_FORMS));
    }
    let message = format!("{total} live tuples would become impossible: {}", parts.join("; "));
    let mut error = Error::new(Kind::FailedPrecondition, "SCHEMA_BREAKS_TUPLES", message)
        .with_fact("count", total.to_string())
        .with_hint("delete or move these tuples first; a dry run shows all of it");
    if let Some(sample) = forms.iter().find_map(|form| form.sample.as_ref()) {
        error = error.with_fact("sample", sample.to_string());
    }
    error
}

impl From<walk::Error> for Error {
    fn from(error: walk::Error) -> Error {
        let text = error.to_string();
        match error {
            walk::Error::EdgesSpent { edges_max } => {
                Error::new(Kind::ResourceExhausted, "EDGES_SPENT", text).with_fact("limit", edges_max.to_string())
            }
            walk::Error::StackSpent { bytes_max } => {
                Error::new(Kind::ResourceExhausted, "STACK_SPENT", text).with_fact("limit", bytes_max.to_string())
            }
            walk::Error::ExpansionTooLarge { steps_max } => {
                Error::new(Kind::ResourceExhausted, "EXPANSION_TOO_LARGE", text)
                    .with_fact("limit", steps_max.to_string())
                    .with_hint("expand fewer levels, or read the tuples of one relation")
            }
            walk::Error::Cancelled => Error::new(Kind::Cancelled, "CANCELLED", text),
            walk::Error::Graph(error) => error.into(),
            walk::Error::CaveatFailed(_) => Error::new(Kind::InvalidArgument, "CAVEAT_FAILED", text),
            walk::Error::Unplanned(_) | walk::Error::UnplannedCaveat(_) => {
                Error::new(Kind::Internal, "INTERNAL", "an internal error").with_detail(text)
            }
        }
    }
}
