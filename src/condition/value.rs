//! What an expression can be worth, how values compare, and how they are written in JSON.
//!
//! CEL's three number types compare with one another by their mathematical value, exactly, also as keys of a map. A
//! number inside `any` is a `double`, as JSON has it; an integer no double holds exactly stays whole, so that two ids
//! that differ never compare equal.

#![expect(clippy::wildcard_enum_match_arm, reason = "a type that is not named as a number is none")]

use super::fault::Fault;
use super::{CONTEXT_DEPTH_MAX, ParameterType, duration};
use crate::model::Timestamp;
use base64::Engine as _;
use serde_json::Value as Json;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Arc<str>),
    Bytes(Arc<[u8]>),
    List(Arc<[Value]>),
    Map(Arc<BTreeMap<Key, Value>>),
    /// In nanoseconds: 292 years either way, as in cel-go.
    Duration(i64),
    Timestamp(Timestamp),
    Ip(IpAddr),
    Type(&'static str),
}

/// A key of a map. Sorted, so that no answer and no message depends on the order of a hash table.
#[derive(Debug, Clone)]
pub(super) enum Key {
    Bool(bool),
    Int(i64),
    Uint(u64),
    String(Arc<str>),
}

impl Key {
    /// As a rank and, for numbers, the value: `1` and `1u` are one key.
    fn number(&self) -> Option<i128> {
        match self {
            Key::Int(value) => Some(i128::from(*value)),
            Key::Uint(value) => Some(i128::from(*value)),
            Key::Bool(_) | Key::String(_) => None,
        }
    }

    pub fn value(&self) -> Value {
        match self {
            Key::Bool(value) => Value::Bool(*value),
            Key::Int(value) => Value::Int(*value),
            Key::Uint(value) => Value::Uint(*value),
            Key::String(text) => Value::String(text.clone()),
        }
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Key) -> Ordering {
        match (self, other) {
            (Key::Bool(a), Key::Bool(b)) => a.cmp(b),
            (Key::String(a), Key::String(b)) => a.cmp(b),
            (Key::Bool(_), _) | (_, Key::String(_)) => Ordering::Less,
            (_, Key::Bool(_)) | (Key::String(_), _) => Ordering::Greater,
            (Key::Int(_) | Key::Uint(_), Key::Int(_) | Key::Uint(_)) => self.number().cmp(&other.number()),
        }
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Key) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Key {}

impl Value {
    pub fn string(text: &str) -> Value {
        Value::String(Arc::from(text))
    }

    /// The type's name, as `type()` gives it for CEL's own and as the schema writes it for the rest.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Uint(_) => "uint",
            Value::Double(_) => "double",
            Value::String(_) => "string",
            Value::Bytes(_) => "bytes",
            Value::List(_) => "list",
            Value::Map(_) => "map",
            Value::Duration(_) => "duration",
            Value::Timestamp(_) => "timestamp",
            Value::Ip(_) => "ipaddress",
            Value::Type(_) => "type",
        }
    }

    /// What `type()` gives.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Null => "null_type",
            Value::Duration(_) => "google.protobuf.Duration",
            Value::Timestamp(_) => "google.protobuf.Timestamp",
            other => other.kind(),
        }
    }

    /// As the key it looks up in a map: a whole double finds the integer. `None` where no key can be equal to it.
    pub fn as_key(&self) -> Option<Key> {
        match self {
            Value::Bool(value) => Some(Key::Bool(*value)),
            Value::Int(value) => Some(Key::Int(*value)),
            Value::Uint(value) => Some(Key::Uint(*value)),
            Value::String(text) => Some(Key::String(text.clone())),
            Value::Double(value) => match whole_of_double(*value) {
                Some(whole) => i64::try_from(whole).map(Key::Int).or_else(|_| u64::try_from(whole).map(Key::Uint)).ok(),
                None => None,
            },
            Value::Null
            | Value::Bytes(_)
            | Value::List(_)
            | Value::Map(_)
            | Value::Duration(_)
            | Value::Timestamp(_)
            | Value::Ip(_)
            | Value::Type(_) => None,
        }
    }

    /// How much work it is to read it once, in steps; what lies inside lists and maps is charged when it is reached.
    pub fn size_steps(&self) -> u32 {
        let bytes = match self {
            Value::String(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            Value::Null
            | Value::Bool(_)
            | Value::Int(_)
            | Value::Uint(_)
            | Value::Double(_)
            | Value::List(_)
            | Value::Map(_)
            | Value::Duration(_)
            | Value::Timestamp(_)
            | Value::Ip(_)
            | Value::Type(_) => 0,
        };
        steps_of_bytes(bytes)
    }
}

/// The steps that reading or copying so many bytes costs.
pub(super) fn steps_of_bytes(bytes: usize) -> u32 {
    u32::try_from(bytes / 32).unwrap_or(u32::MAX)
}

/// Takes steps from what an evaluation may still spend; the whole of one evaluation shares it.
#[derive(Debug)]
pub(super) struct Steps {
    left: u32,
}

/// There are no steps left.
#[derive(Debug)]
pub(super) struct Exhausted;

impl Steps {
    pub fn new(budget: u32) -> Steps {
        Steps { left: budget }
    }

    pub fn left(&self) -> u32 {
        self.left
    }

    pub fn spend(&mut self, steps: u32) -> Result<(), Exhausted> {
        match self.left.checked_sub(steps) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.left = 0;
                Err(Exhausted)
            }
        }
    }
}

/// CEL's `==`: values of different types are unequal, numbers compare by value, NaN equals nothing.
/// The recursion is as deep as the values, which contexts and expressions bound.
pub(super) fn equal(a: &Value, b: &Value, steps: &mut Steps) -> Result<bool, Exhausted> {
    steps.spend(1)?;
    let same = match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::String(a), Value::String(b)) => {
            steps.spend(steps_of_bytes(a.len().min(b.len())))?;
            a == b
        }
        (Value::Bytes(a), Value::Bytes(b)) => {
            steps.spend(steps_of_bytes(a.len().min(b.len())))?;
            a == b
        }
        (Value::List(a), Value::List(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            for (a, b) in a.iter().zip(b.iter()) {
                if !equal(a, b, steps)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Map(a), Value::Map(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            for ((key_a, a), (key_b, b)) in a.iter().zip(b.iter()) {
                // Both are sorted: equal maps have equal keys in the same places.
                steps.spend(key_steps(key_a))?;
                if key_a != key_b || !equal(a, b, steps)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Duration(a), Value::Duration(b)) => a == b,
        (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
        (Value::Ip(a), Value::Ip(b)) => a == b,
        (Value::Type(a), Value::Type(b)) => a == b,
        (a, b) => compare_numbers(a, b) == Some(Ordering::Equal),
    };
    Ok(same)
}

pub(super) fn key_steps(key: &Key) -> u32 {
    match key {
        Key::String(text) => 1 + steps_of_bytes(text.len()),
        Key::Bool(_) | Key::Int(_) | Key::Uint(_) => 1,
    }
}

/// Two numbers by their exact value; `None` where one is no number, or NaN.
pub(super) fn compare_numbers(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Double(a), b) => compare_whole_with_double(whole(b)?, *a).map(Ordering::reverse),
        (a, Value::Double(b)) => compare_whole_with_double(whole(a)?, *b),
        (a, b) => Some(whole(a)?.cmp(&whole(b)?)),
    }
}

fn whole(value: &Value) -> Option<i128> {
    match value {
        Value::Int(value) => Some(i128::from(*value)),
        Value::Uint(value) => Some(i128::from(*value)),
        _ => None,
    }
}

fn compare_whole_with_double(whole: i128, double: f64) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    // Beyond 2^64 every double is larger in size than every int and uint.
    if double.abs() >= 18_446_744_073_709_551_616.0 {
        return Some(if double > 0.0 { Ordering::Less } else { Ordering::Greater });
    }
    let floor = double.floor();
    Some(whole.cmp(&(floor as i128)).then(if double > floor { Ordering::Less } else { Ordering::Equal }))
}

/// The integer a double is exactly, within 64 bits signed or unsigned.
fn whole_of_double(double: f64) -> Option<i128> {
    let in_range = (-9_223_372_036_854_775_808.0..18_446_744_073_709_551_616.0).contains(&double);
    (in_range && double.fract() == 0.0).then_some(double as i128)
}

/// A context's value as a parameter of that type has it. Costs a step an element and one for every 32 bytes of text.
pub(super) fn from_json(json: &Json, wanted: &ParameterType, steps: &mut Steps) -> Result<Value, Unfit> {
    convert(json, wanted, 0, steps)
}

/// Why a context's value cannot be used.
#[derive(Debug)]
pub(super) enum Unfit {
    Fault(Fault),
    Exhausted,
}

impl From<Exhausted> for Unfit {
    fn from(_: Exhausted) -> Unfit {
        Unfit::Exhausted
    }
}

fn convert(json: &Json, wanted: &ParameterType, depth: usize, steps: &mut Steps) -> Result<Value, Unfit> {
    steps.spend(1)?;
    if let Json::String(text) = json {
        steps.spend(steps_of_bytes(text.len()))?;
    }
    if depth >= CONTEXT_DEPTH_MAX {
        return Err(Unfit::Fault(Fault::ContextTooDeep));
    }
    let unfit = || Unfit::Fault(Fault::NotOfType { wanted: kind_of_type(wanted), found: kind_of_json(json) });
    match wanted {
        ParameterType::Any => match json {
            Json::Null => Ok(Value::Null),
            Json::Bool(value) => Ok(Value::Bool(*value)),
            Json::Number(number) => Ok(any_number(number)),
            Json::String(text) => Ok(Value::string(text)),
            Json::Array(_) => list(json, wanted, depth, steps),
            Json::Object(_) => map(json, wanted, depth, steps),
        },
        ParameterType::Bool => json.as_bool().map(Value::Bool).ok_or_else(unfit),
        ParameterType::String => json.as_str().map(Value::string).ok_or_else(unfit),
        ParameterType::Int => {
            whole_of_json(json).and_then(|whole| i64::try_from(whole).ok()).map(Value::Int).ok_or_else(unfit)
        }
        ParameterType::Uint => {
            whole_of_json(json).and_then(|whole| u64::try_from(whole).ok()).map(Value::Uint).ok_or_else(unfit)
        }
        ParameterType::Double => double_of_json(json).map(Value::Double).ok_or_else(unfit),
        ParameterType::Bytes => json
            .as_str()
            .and_then(|text| base64::engine::general_purpose::STANDARD.decode(text).ok())
            .map(|bytes| Value::Bytes(Arc::from(bytes)))
            .ok_or_else(unfit),
        ParameterType::Duration => json.as_str().and_then(duration::parse).map(Value::Duration).ok_or_else(unfit),
        ParameterType::Timestamp => {
            json.as_str().and_then(|text| text.parse().ok()).map(Value::Timestamp).ok_or_else(unfit)
        }
        ParameterType::IpAddress => json.as_str().and_then(|text| text.parse().ok()).map(Value::Ip).ok_or_else(unfit),
        ParameterType::List(item) => list(json, item, depth, steps),
        ParameterType::Map(item) => map(json, item, depth, steps),
    }
}

fn list(json: &Json, item: &ParameterType, depth: usize, steps: &mut Steps) -> Result<Value, Unfit> {
    let Json::Array(items) = json else {
        return Err(Unfit::Fault(Fault::NotOfType { wanted: "list", found: kind_of_json(json) }));
    };
    let mut values = Vec::new();
    for json in items {
        values.push(convert(json, item, depth + 1, steps)?);
    }
    Ok(Value::List(Arc::from(values)))
}

fn map(json: &Json, item: &ParameterType, depth: usize, steps: &mut Steps) -> Result<Value, Unfit> {
    let Json::Object(entries) = json else {
        return Err(Unfit::Fault(Fault::NotOfType { wanted: "map", found: kind_of_json(json) }));
    };
    let mut values = BTreeMap::new();
    for (key, json) in entries {
        steps.spend(1 + steps_of_bytes(key.len()))?;
        values.insert(Key::String(Arc::from(key.as_str())), convert(json, item, depth + 1, steps)?);
    }
    Ok(Value::Map(Arc::new(values)))
}

fn any_number(number: &serde_json::Number) -> Value {
    const EXACT_MAX: u64 = 1 << 53;
    if let Some(value) = number.as_i64() {
        return if value.unsigned_abs() <= EXACT_MAX { Value::Double(value as f64) } else { Value::Int(value) };
    }
    if let Some(value) = number.as_u64() {
        return Value::Uint(value);
    }
    Value::Double(number.as_f64().unwrap_or(f64::NAN))
}

fn whole_of_json(json: &Json) -> Option<i128> {
    match json {
        Json::Number(number) => number
            .as_i64()
            .map(i128::from)
            .or_else(|| number.as_u64().map(i128::from))
            .or_else(|| number.as_f64().and_then(whole_of_double)),
        Json::String(text) => whole_of_text(text),
        Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => None,
    }
}

fn double_of_json(json: &Json) -> Option<f64> {
    match json {
        Json::Number(number) => number.as_f64(),
        // The text is judged first: Rust's own reading would also take `nan`.
        Json::String(text) => decimal(text).and_then(|_| text.parse::<f64>().ok()).filter(|value| value.is_finite()),
        Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => None,
    }
}

/// `[+-]digits[.digits][e[+-]digits]` taken apart: (negative, digits, digits after the point, exponent).
fn decimal(text: &str) -> Option<(bool, String, i64)> {
    let negative = text.starts_with('-');
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (unsigned, 0),
    };
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{before}{after}");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let scale = i64::from(exponent) - i64::try_from(after.len()).ok()?;
    Some((negative, digits, scale))
}

/// The integer a numeric string is exactly, however it is written: `42`, `42.0`, `4.2e1`.
fn whole_of_text(text: &str) -> Option<i128> {
    let (negative, digits, scale) = decimal(text)?;
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() {
        return Some(0);
    }
    let scale = scale + i64::try_from(digits.len() - digits.trim_end_matches('0').len()).ok()?;
    // 20 digits hold every 64-bit integer; longer ones are out of range whatever they are.
    let zeros = usize::try_from(scale).ok().filter(|zeros| significant.len() + zeros <= 20)?;
    let size: i128 = format!("{significant}{}", "0".repeat(zeros)).parse().ok()?;
    Some(if negative { -size } else { size })
}

fn kind_of_json(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "bool",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(_) => "list",
        Json::Object(_) => "map",
    }
}

/// With what a value of the type must look like in JSON, where the type alone does not say it.
fn kind_of_type(wanted: &ParameterType) -> &'static str {
    match wanted {
        ParameterType::Any => "any",
        ParameterType::Bool => "bool",
        ParameterType::String => "string",
        ParameterType::Int => "int (a whole number of 64 bits, or a string of one)",
        ParameterType::Uint => "uint (a whole number from 0 to 2^64-1, or a string of one)",
        ParameterType::Double => "double (a number, or a string of one)",
        ParameterType::Bytes => "bytes (a base64 string)",
        ParameterType::Duration => "duration (a string such as `1h30m`)",
        ParameterType::Timestamp => "timestamp (an RFC 3339 string such as `2030-01-01T00:00:00Z`)",
        ParameterType::IpAddress => "ipaddress (a string such as `10.1.2.3` or `2001:db8::1`)",
        ParameterType::List(_) => "list",
        ParameterType::Map(_) => "map",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_compare_by_their_exact_value() {
        let big = 9_007_199_254_740_993_i64;
        assert_eq!(compare_numbers(&Value::Int(big), &Value::Double(9_007_199_254_740_992.0)), Some(Ordering::Greater));
        assert_eq!(
            compare_numbers(&Value::Uint(u64::MAX), &Value::Double(1.8446744073709552e19)),
            Some(Ordering::Less)
        );
        assert_eq!(compare_numbers(&Value::Int(-1), &Value::Uint(u64::MAX)), Some(Ordering::Less));
        assert_eq!(compare_numbers(&Value::Int(-1), &Value::Double(-1.5)), Some(Ordering::Greater));
        assert_eq!(compare_numbers(&Value::Int(0), &Value::Double(f64::NAN)), None);
        assert_eq!(compare_numbers(&Value::Int(i64::MIN), &Value::Double(f64::NEG_INFINITY)), Some(Ordering::Greater));
    }

    #[test]
    fn whole_numbers_are_read_from_every_spelling() {
        for (text, value) in [
            ("42", Some(42)),
            ("-42.0", Some(-42)),
            ("4.2e1", Some(42)),
            ("420e-1", Some(42)),
            ("0e999999999", Some(0)),
            ("9007199254740993.0", Some(9_007_199_254_740_993)),
            ("18446744073709551615", Some(18_446_744_073_709_551_615)),
            ("4.5", None),
            ("1e999999999", None),
            ("1e-1", None),
            ("", None),
            (".", None),
            ("-", None),
            ("abc", None),
            ("1 ", None),
            ("0x10", None),
            ("1_000", None),
        ] {
            assert_eq!(whole_of_text(text), value, "{text}");
        }
    }
}
