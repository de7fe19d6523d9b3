//! What goes wrong inside an evaluation, as facts; the words are made once, for the fault that is reported.
//!
//! INVARIANT: a fault holds no value of a context: only names of types, and text that stands in the schema.

use std::fmt;
use std::sync::Arc;

/// Cheap to make: a comprehension may meet thousands and absorb them all.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// A context's value is not what its parameter wants.
    NotOfType {
        wanted: &'static str,
        found: &'static str,
    },
    ContextTooDeep,
    /// Two operands an operator does not take together.
    NoOperator {
        sign: &'static str,
        left: &'static str,
        right: &'static str,
    },
    /// An operand or argument of the wrong type.
    NoFunction {
        name: &'static str,
        found: &'static str,
    },
    NotABool {
        found: &'static str,
    },
    DivisionByZero,
    Overflow {
        result: &'static str,
    },
    /// The key where the schema writes it; `None` where it was computed.
    NoKey(Option<Arc<str>>),
    OutOfRange,
    NoFields {
        found: &'static str,
    },
    NotIndexable {
        found: &'static str,
        index: &'static str,
    },
    NoRange {
        found: &'static str,
    },
    NotAKey {
        found: &'static str,
    },
    KeyTwice,
    NotConvertible {
        from: &'static str,
        to: &'static str,
    },
    BadPattern,
    BadNetwork,
    BadZone,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::NotOfType { wanted, found } => write!(f, "expected {wanted}, found {found}"),
            Fault::ContextTooDeep => write!(f, "the value is nested more than {} deep", super::CONTEXT_DEPTH_MAX),
            Fault::NoOperator { sign, left, right } => {
                write!(f, "`{sign}` does not take {left} and {right}")?;
                match (*left, *right) {
                    ("double", "int" | "uint") | ("int" | "uint", "double") => {
                        f.write_str(" (a number inside `any` is a double: write `1.0`, or convert with `int(…)`)")
                    }
                    ("uint", "int") | ("int", "uint") => f.write_str(" (write `1u`, or convert with `int(…)`)"),
                    _ => Ok(()),
                }
            }
            Fault::NoFunction { name, found } => write!(f, "`{name}` does not take {found}"),
            Fault::NotABool { found } => write!(f, "expected a bool, found {found}"),
            Fault::DivisionByZero => f.write_str("division by zero"),
            Fault::Overflow { result } => write!(f, "the result is out of the range of {result}"),
            Fault::NoKey(Some(key)) => write!(f, "the map has no key `{key}`"),
            Fault::NoKey(None) => f.write_str("the map has no such key"),
            Fault::OutOfRange => f.write_str("the index is out of range"),
            Fault::NoFields { found } => write!(f, "{found} has no fields"),
            Fault::NotIndexable { found, index } => write!(f, "{found} cannot be indexed with {index}"),
            Fault::NoRange { found } => write!(f, "expected a list or a map, found {found}"),
            Fault::NotAKey { found } => write!(f, "{found} cannot be a key of a map"),
            Fault::KeyTwice => f.write_str("the map has a key twice"),
            Fault::NotConvertible { from, to } => write!(f, "the {from} cannot be converted to {to}"),
            Fault::BadPattern => f.write_str("the pattern is not a regular expression this can run"),
            Fault::BadNetwork => f.write_str("the network is not written as `address/bits`"),
            Fault::BadZone => f.write_str("the time zone is not known"),
        }
    }
}
