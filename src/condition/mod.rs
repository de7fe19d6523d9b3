//! Floor 1: caveats. A condition on a tuple, written in CEL: compiled once, evaluated three-valued, at a bounded cost.
//!
//! The parser, the type check and the evaluator are ours: no crate has unknowns, cost limits or exact places (a
//! 608-byte expression ran for 8 seconds in the one tried, and 50 parentheses ended the process).
//!
//! What always holds:
//! - A [`Caveat`] is immutable, `Send + Sync`, and holds everything it needs: no global state, no clock, no machine's
//!   time zones. The same contexts give the same outcome.
//! - What is decided wins over what is missing, and what is missing wins over what failed. `&&`, `||`, `? :`, `all`,
//!   `exists`, `exists_one` and `in [a, b]` absorb a missing parameter or an error where the rest decides; everything
//!   else passes it on. The order of operands is never visible, except in which of two errors is told.
//! - Source, depth, parameters, patterns, contexts and steps are bounded, by the constants below. A spent budget is
//!   [`Outcome::Failed`], never a decision.

mod ast;
mod lexer;
mod parser;
mod check;
mod program;
mod evaluate;
mod value;
mod calendar;
mod duration;
mod pattern;
mod fault;
#[cfg(test)]
mod tests;

use crate::model::Context;
use crate::model::{
    CAVEAT_BYTES_MAX as SOURCE_BYTES_MAX, CAVEAT_COMPREHENSION_DEPTH_MAX as COMPREHENSION_DEPTH_MAX,
    CAVEAT_DEPTH_MAX as DEPTH_MAX, CAVEAT_PARAMETERS_MAX as PARAMETERS_MAX, CAVEAT_STEPS_MAX as STEPS_MAX,
    CONTEXT_DEPTH_MAX, STORED_CONTEXT_BYTES_MAX,
};
use ast::Span;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Steps of looking whether a stored context can be used at all, once for each tuple of a write.
const JUDGED_STEPS_MAX: u32 = 20_000;

/// The type of a caveat's parameter. Printed as a schema writes it: `list<string>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ParameterType {
    Any,
    Bool,
    String,
    Int,
    Uint,
    Double,
    Bytes,
    Duration,
    Timestamp,
    IpAddress,
    List(Box<ParameterType>),
    Map(Box<ParameterType>),
}

impl ParameterType {
    /// The names of the types that take no other in `<>`.
    pub const SIMPLE: [&'static str; 10] =
        ["any", "bool", "string", "int", "uint", "double", "bytes", "duration", "timestamp", "ipaddress"];

    /// The type of that name, where it takes no other in `<>`.
    #[must_use]
    pub fn simple(name: &str) -> Option<ParameterType> {
        match name {
            "any" => Some(ParameterType::Any),
            "bool" => Some(ParameterType::Bool),
            "string" => Some(ParameterType::String),
            "int" => Some(ParameterType::Int),
            "uint" => Some(ParameterType::Uint),
            "double" => Some(ParameterType::Double),
            "bytes" => Some(ParameterType::Bytes),
            "duration" => Some(ParameterType::Duration),
            "timestamp" => Some(ParameterType::Timestamp),
            "ipaddress" => Some(ParameterType::IpAddress),
            _ => None,
        }
    }

    /// How many types it is made of, one inside the other.
    fn depth(&self) -> usize {
        let mut depth = 1;
        let mut at = self;
        while let ParameterType::List(item) | ParameterType::Map(item) = at {
            depth += 1;
            at = item;
        }
        depth
    }
}

impl fmt::Display for ParameterType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParameterType::Any => f.write_str("any"),
            ParameterType::Bool => f.write_str("bool"),
            ParameterType::String => f.write_str("string"),
            ParameterType::Int => f.write_str("int"),
            ParameterType::Uint => f.write_str("uint"),
            ParameterType::Double => f.write_str("double"),
            ParameterType::Bytes => f.write_str("bytes"),
            ParameterType::Duration => f.write_str("duration"),
            ParameterType::Timestamp => f.write_str("timestamp"),
            ParameterType::IpAddress => f.write_str("ipaddress"),
            ParameterType::List(item) => write!(f, "list<{item}>"),
            ParameterType::Map(item) => write!(f, "map<{item}>"),
        }
    }
}

/// Why a caveat was refused when the schema was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CompileError {
    /// Where, in bytes of the source; empty at 0 when it is about a parameter.
    pub span: Range<usize>,
    pub message: String,
    pub hint: Option<String>,
    /// The index of the declared parameter it is about, where its place is the declaration and not the source.
    pub parameter: Option<usize>,
}

impl CompileError {
    fn at(span: Span, message: impl Into<String>, hint: Option<&str>) -> CompileError {
        CompileError { span: span.range(), message: message.into(), hint: hint.map(str::to_owned), parameter: None }
    }

    fn about(parameter: usize, message: impl Into<String>, hint: Option<&str>) -> CompileError {
        CompileError { span: 0..0, message: message.into(), hint: hint.map(str::to_owned), parameter: Some(parameter) }
    }
}

/// What a caveat says under the contexts given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    True,
    False,
    /// The absent parameters that could still decide it, sorted, at least one.
    Missing(Vec<String>),
    /// Why it cannot be said: a value of the wrong type, a missing key, division by zero, a spent budget. For the
    /// caller to read; it quotes the schema and never a value of a context.
    Failed(String),
}

/// Why a context cannot be stored on a tuple.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoredError {
    #[error("the caveat has no parameter `{key}`")]
    UnknownKey {
        key: String,
        /// The parameter that was probably meant.
        nearest: Option<String>,
    },
    #[error("the value of `{parameter}` is no {declared}: {reason}")]
    WrongType { parameter: String, declared: String, reason: String },
    /// A text stored for a network, a pattern or a time zone is none, and nothing a request gives could decide without it.
    #[error("the condition fails with these values whatever is asked: {reason}")]
    Unusable { reason: String },
    #[error("the context has {bytes} bytes of JSON; at most {STORED_CONTEXT_BYTES_MAX} are stored")]
    TooLarge { bytes: usize },
}

impl StoredError {
    /// A likely fix, for a line of its own.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            StoredError::UnknownKey { nearest, .. } => nearest.as_ref().map(|name| format!("did you mean `{name}`?")),
            StoredError::WrongType { .. } | StoredError::Unusable { .. } | StoredError::TooLarge { .. } => None,
        }
    }
}

/// A compiled condition. Cheap to clone; equal when its parameters and its source are.
#[derive(Clone)]
pub struct Caveat {
    compiled: Arc<Compiled>,
}

struct Compiled {
    parameters: Vec<(String, ParameterType)>,
    source: String,
    program: program::Node,
}

impl Caveat {
    /// Reads and checks a condition over declared parameters.
    ///
    /// # Errors
    /// All that is wrong, in the order of the source, then of the parameters: a mistake of syntax (the first one),
    /// unknown names, operators and functions that do not take their operands, a result that is not a bool, parameters
    /// never used, and what exceeds the bounds of this module.
    pub fn compile(parameters: &[(String, ParameterType)], source: &str) -> Result<Caveat, Vec<CompileError>> {
        let mut errors = check::parameters(parameters);
        if source.len() > SOURCE_BYTES_MAX {
            let message = format!("the expression has {} bytes; at most {SOURCE_BYTES_MAX} are allowed", source.len());
            let span = Span { start: 0, end: u32::try_from(source.len()).unwrap_or(u32::MAX) };
            errors.push(CompileError::at(span, message, Some("split the condition into several caveats")));
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let expr = parser::parse(source).map_err(|error| vec![error])?;
        let program = check::check(parameters, &expr)?;
        let compiled = Compiled { parameters: parameters.to_vec(), source: source.to_owned(), program };
        Ok(Caveat { compiled: Arc::new(compiled) })
    }

    /// As declared, in their order.
    #[must_use]
    pub fn parameters(&self) -> &[(String, ParameterType)] {
        &self.compiled.parameters
    }

    /// As written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.compiled.source
    }

    /// What it says under what is stored on a tuple and what came with the request; the stored value of a key wins.
    /// Other keys are ignored. Costs at most [`STEPS_MAX`] steps.
    #[must_use]
    pub fn evaluate(&self, stored: &Context, request: &Context) -> Outcome {
        self.evaluate_within(stored, request, STEPS_MAX).0
    }

    /// As [`Caveat::evaluate`] within another budget; with the steps it took.
    fn evaluate_within(&self, stored: &Context, request: &Context, budget: u32) -> (Outcome, u32) {
        evaluate::evaluate(&self.compiled, stored, request, budget)
    }

    /// Why it fails under what is stored whatever a request gives, if that can be told.
    #[must_use]
    pub fn always_fails(&self, stored: &Context) -> Option<String> {
        evaluate::failing(&self.compiled, stored, STEPS_MAX).map(|(reason, _)| reason)
    }

    /// Whether a context may be stored on a tuple under this caveat.
    ///
    /// # Errors
    /// The first key, in the order of the alphabet, that is no parameter or whose value is not of its type; a text for a
    /// network, a pattern or a time zone that is none, where no request could decide without it; or a context that is
    /// too large.
    pub fn judge_stored(&self, stored: &Context) -> Result<(), StoredError> {
        let bytes = context_bytes(stored);
        if bytes > STORED_CONTEXT_BYTES_MAX {
            return Err(StoredError::TooLarge { bytes });
        }
        let mut keys: Vec<&String> = stored.keys().collect();
        keys.sort();
        for key in keys {
            let Some((_, declared)) = self.parameters().iter().find(|(name, _)| name == key) else {
                let nearest = check::nearest(key, self.parameters().iter().map(|(name, _)| name.as_str()));
                return Err(StoredError::UnknownKey { key: key.clone(), nearest: nearest.map(str::to_owned) });
            };
            let Some(json) = stored.get(key) else { continue };
            // The size bound above bounds the steps, so they need no budget of their own.
            let mut steps = value::Steps::new(u32::MAX);
            if let Err(value::Unfit::Fault(fault)) = value::from_json(json, declared, &mut steps) {
                return Err(StoredError::WrongType {
                    parameter: key.clone(),
                    declared: declared.to_string(),
                    reason: fault.to_string(),
                });
            }
        }
        match evaluate::failing(&self.compiled, stored, JUDGED_STEPS_MAX) {
            // Other failures may be meant: they count as unknown, as the language says.
            Some((reason, true)) if !stored.is_empty() => Err(StoredError::Unusable { reason }),
            Some(_) | None => Ok(()),
        }
    }
}

/// How many bytes of `text` are a caveat's body, where `text` begins right after the body's `{`: up to the `}` that
/// closes it, not one in a string, a comment or a map. `None` where nothing closes it.
#[must_use]
pub fn body_bytes(text: &str) -> Option<usize> {
    lexer::body_bytes(text)
}

/// Whether a context is nested no deeper than `CONTEXT_DEPTH_MAX`.
#[must_use]
pub fn is_shallow(context: &Context) -> bool {
    /// Recursion is bounded by `levels`, which falls by one each time.
    fn fits(value: &serde_json::Value, levels: usize) -> bool {
        use serde_json::Value;
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
            Value::Array(items) => levels > 0 && items.iter().all(|item| fits(item, levels - 1)),
            Value::Object(fields) => levels > 0 && fields.values().all(|field| fits(field, levels - 1)),
        }
    }
    context.values().all(|value| fits(value, CONTEXT_DEPTH_MAX - 1))
}

/// The size of a context as JSON, in bytes.
#[must_use]
pub fn context_bytes(context: &Context) -> usize {
    struct Counter(usize);
    impl std::io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    match serde_json::to_writer(&mut counter, context) {
        Ok(()) => counter.0,
        // Writing into a counter does not fail; were it to, the context is refused as too large.
        Err(_) => usize::MAX,
    }
}

impl fmt::Debug for Caveat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caveat")
            .field("parameters", &self.compiled.parameters)
            .field("source", &self.compiled.source)
            .finish_non_exhaustive()
    }
}

impl PartialEq for Caveat {
    fn eq(&self, other: &Caveat) -> bool {
        self.compiled.parameters == other.compiled.parameters && self.compiled.source == other.compiled.source
    }
}

impl Eq for Caveat {}
