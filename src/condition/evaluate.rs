//! The meaning of a condition: one function over its tree, three-valued, counted.
//!
//! A parameter that is absent and an error are values here: they travel to where something decides without them, or to
//! the top. Where both meet and neither decides, the absent parameter is told: with it given, the rest may decide.
//!
//! INVARIANT: every node, element and 32 bytes of text costs a step, and a search of a pattern its size; when the steps
//! are spent the evaluation ends at once with [`Stop::Exhausted`], which nothing absorbs.

#![expect(clippy::wildcard_enum_match_arm, reason = "a type an operation does not name is one it does not take")]

use super::ast::{BinaryOp, Span};
use super::calendar::{Part, Zone};
use super::check::bit;
use super::fault::Fault;
use super::pattern::{PATTERN_BYTES_MAX, Pattern};
use super::program::{Fold, FoldKind, Function, Link, LinkOp, Network, Node, Op};
use super::value::{Exhausted, Key, Steps, Unfit, Value, compare_numbers, equal, from_json, key_steps, steps_of_bytes};
use super::{Compiled, Outcome, duration};
use crate::model::{Context, Timestamp};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What reading a computed pattern costs, and each of its bytes, and each state of what is built from it; a pattern
/// that cannot be used is charged as a large one. About the time of as many steps.
const PATTERN_STEPS: u32 = 2_000;
const PATTERN_BYTE_STEPS: usize = 32;
const PATTERN_STATE_STEPS: usize = 8;
const PATTERN_REFUSED_STEPS: usize = 8_000;
/// What reading a computed time zone's rules costs.
const ZONE_STEPS: u32 = 500;
/// How much of the source a message quotes, in characters.
const QUOTE_MAX: usize = 60;

/// Why the caveat fails whatever a request gives, if it does: in words, and whether the fault is in a text that stands
/// for something else: a network, a pattern, a time zone. `None` too where `budget` steps do not tell.
pub(super) fn failing(compiled: &Compiled, stored: &Context, budget: u32) -> Option<(String, bool)> {
    let nothing = Context::new();
    let mut evaluation = Evaluation::new(compiled, stored, &nothing, budget);
    evaluation.foresees = true;
    match evaluation.bool(&compiled.program) {
        Err(Stop::Error(error)) => {
            let is_text = matches!(error.fault, Fault::BadNetwork | Fault::BadPattern | Fault::BadZone);
            Some((evaluation.describe(&error), is_text))
        }
        Ok(_) | Err(Stop::Missing(_) | Stop::Exhausted) => None,
    }
}

/// What the caveat says, and the steps that took.
pub(super) fn evaluate(compiled: &Compiled, stored: &Context, request: &Context, budget: u32) -> (Outcome, u32) {
    let mut evaluation = Evaluation::new(compiled, stored, request, budget);
    let result = evaluation.bool(&compiled.program);
    let spent = budget - evaluation.steps.left();
    let outcome = match result {
        Ok(true) => Outcome::True,
        Ok(false) => Outcome::False,
        Err(Stop::Missing(absent)) => Outcome::Missing(evaluation.names(absent)),
        Err(Stop::Error(error)) => Outcome::Failed(evaluation.describe(&error)),
        Err(Stop::Exhausted) => Outcome::Failed(format!("the caveat spent its budget of {budget} steps")),
    };
    (outcome, spent)
}

/// Why there is no value.
#[derive(Debug, Clone)]
enum Stop {
    /// The absent parameters that could give one, as a set of bits; never empty.
    Missing(u32),
    Error(Error),
    Exhausted,
}

#[derive(Debug, Clone)]
struct Error {
    span: Span,
    fault: Fault,
}

impl From<Exhausted> for Stop {
    fn from(_: Exhausted) -> Stop {
        Stop::Exhausted
    }
}

impl Stop {
    /// Of two of them, neither decided: what is absent wins over what failed, the first error over the second.
    fn merge(self, other: Stop) -> Stop {
        match (self, other) {
            (Stop::Exhausted, _) | (_, Stop::Exhausted) => Stop::Exhausted,
            (Stop::Missing(a), Stop::Missing(b)) => Stop::Missing(a | b),
            (Stop::Missing(absent), Stop::Error(_)) | (Stop::Error(_), Stop::Missing(absent)) => Stop::Missing(absent),
            (Stop::Error(first), Stop::Error(_)) => Stop::Error(first),
        }
    }

    fn after(self, earlier: Option<Stop>) -> Stop {
        match earlier {
            Some(earlier) => earlier.merge(self),
            None => self,
        }
    }
}

type Evaluated = Result<Value, Stop>;

struct Evaluation<'e> {
    compiled: &'e Compiled,
    stored: &'e Context,
    request: &'e Context,
    /// By index of the parameter; `None` until it is first read. Each is converted once.
    parameters: Vec<Option<Evaluated>>,
    locals: Vec<Value>,
    /// The computed patterns so far; `None` for one that cannot be used. What they cost bounds how many there are.
    patterns: BTreeMap<Arc<str>, Option<Arc<Pattern>>>,
    /// Whether a call fails already where its receiver is absent, if its argument can be used with none.
    foresees: bool,
    steps: Steps,
}

impl<'e> Evaluation<'e> {
    fn new(compiled: &'e Compiled, stored: &'e Context, request: &'e Context, budget: u32) -> Evaluation<'e> {
        Evaluation {
            compiled,
            stored,
            request,
            parameters: vec![None; compiled.parameters.len()],
            locals: Vec::new(),
            patterns: BTreeMap::new(),
            foresees: false,
            steps: Steps::new(budget),
        }
    }
    fn node(&mut self, node: &Node) -> Evaluated {
        self.steps.spend(1)?;
        match &node.op {
            Op::Literal(value) => Ok(value.clone()),
            Op::Parameter(index) => self.parameter(*index, node.span),
            Op::Local(index) => match self.locals.get(*index) {
                Some(value) => Ok(value.clone()),
                // INVARIANT: `check` resolved it, so there is one.
                None => fail(node.span, Fault::OutOfRange),
            },
            Op::List(items) => self.all_of(items).map(|values| Value::List(Arc::from(values))),
            Op::Map(entries) => self.map(entries, node.span),
            Op::And(operands) => self.decide(operands, false).map(Value::Bool),
            Op::Or(operands) => self.decide(operands, true).map(Value::Bool),
            Op::Conditional(arms, otherwise) => self.conditional(arms, otherwise),
            Op::Not { operand, twice } => self.bool(operand).map(|value| Value::Bool(value == *twice)),
            Op::Negate { operand, twice } => self.negate(operand, *twice, node.span),
            Op::Chain(first, rest) => self.chain(first, rest),
            Op::Path(first, links) => self.path(first, links),
            Op::Has(operand, field) => self.has(operand, field, node.span),
            Op::Call(function, arguments) => {
                let values = self.all_of(arguments)?;
                self.apply(function, &values, node.span)
            }
        }
    }

    /// The fault of a call whose argument is a text that the function can use with no receiver.
    fn unusable(&mut self, function: &Function, arguments: &[Value]) -> Result<Option<Fault>, Stop> {
        let [Value::String(text)] = arguments else { return Ok(None) };
        Ok(match function {
            Function::InCidr => Network::parse(text).is_none().then_some(Fault::BadNetwork),
            Function::Matches => self.computed_pattern(text)?.is_none().then_some(Fault::BadPattern),
            Function::Part(_) => {
                self.steps.spend(ZONE_STEPS)?;
                Zone::parse(text).is_none().then_some(Fault::BadZone)
            }
            _ => None,
        })
    }

    fn bool(&mut self, node: &Node) -> Result<bool, Stop> {
        match self.node(node)? {
            Value::Bool(value) => Ok(value),
            other => fail(node.span, Fault::NotABool { found: other.kind() }),
        }
    }

    fn parameter(&mut self, index: usize, span: Span) -> Evaluated {
        if let Some(Some(known)) = self.parameters.get(index) {
            return known.clone();
        }
        let Some((name, declared)) = self.compiled.parameters.get(index) else {
            return fail(span, Fault::OutOfRange);
        };
        let read = match self.stored.get(name).or_else(|| self.request.get(name)) {
            None => Err(Stop::Missing(bit(index))),
            Some(json) => match from_json(json, declared, &mut self.steps) {
                Ok(value) => Ok(value),
                Err(Unfit::Fault(fault)) => fail(span, fault),
                Err(Unfit::Exhausted) => Err(Stop::Exhausted),
            },
        };
        if let Some(slot) = self.parameters.get_mut(index) {
            *slot = Some(read.clone());
        }
        read
    }

    /// Those of a set of parameters that neither context has.
    fn absent(&self, parameters: u32) -> u32 {
        let mut absent = 0;
        for (index, (name, _)) in self.compiled.parameters.iter().enumerate() {
            if !self.stored.contains_key(name) && !self.request.contains_key(name) {
                absent |= bit(index);
            }
        }
        absent & parameters
    }

    /// `||` where `decisive` is true, `&&` where it is false: one decisive operand decides, whatever the others are.
    fn decide(&mut self, operands: &[Node], decisive: bool) -> Result<bool, Stop> {
        let mut stopped = None;
        for operand in operands {
            match self.bool(operand) {
                Ok(value) if value == decisive => return Ok(decisive),
                Ok(_) => {}
                Err(Stop::Exhausted) => return Err(Stop::Exhausted),
                Err(stop) => stopped = Some(stop.after(stopped)),
            }
        }
        match stopped {
            Some(stop) => Err(stop),
            None => Ok(!decisive),
        }
    }

    /// Once a condition cannot be said, every value it chooses between may be the result: if all are the same bool,
    /// that is the result.
    fn conditional(&mut self, arms: &[(Node, Node)], otherwise: &Node) -> Evaluated {
        let mut stopped: Option<Stop> = None;
        let mut agreed: Option<bool> = None;
        let mut agree = true;
        let mut last = otherwise;
        for (condition, value) in arms {
            match self.bool(condition) {
                Ok(true) => {
                    last = value;
                    break;
                }
                Ok(false) => continue,
                Err(Stop::Exhausted) => return Err(Stop::Exhausted),
                Err(stop) => stopped = Some(stop.after(stopped)),
            }
            match self.node(value) {
                Ok(Value::Bool(value)) if agreed.is_none_or(|agreed| agreed == value) => agreed = Some(value),
                Ok(_) => agree = false,
                Err(stop) => {
                    agree = false;
                    stopped = Some(stop.after(stopped));
                }
            }
        }
        let result = self.node(last);
        let Some(stop) = stopped else { return result };
        match result {
            Ok(Value::Bool(value)) if agree && agreed == Some(value) => Ok(Value::Bool(value)),
            Ok(_) => Err(stop),
            Err(other) => Err(stop.merge(other)),
        }
    }

    /// All values, in order; where some have none, why.
    fn all_of(&mut self, nodes: &[Node]) -> Result<Vec<Value>, Stop> {
        let mut values = Vec::with_capacity(nodes.len());
        let mut stopped = None;
        for node in nodes {
            match self.node(node) {
                Ok(value) => values.push(value),
                Err(Stop::Exhausted) => return Err(Stop::Exhausted),
                Err(stop) => stopped = Some(stop.after(stopped)),
            }
        }
        match stopped {
            Some(stop) => Err(stop),
            None => Ok(values),
        }
    }

    fn map(&mut self, entries: &[(Node, Node)], span: Span) -> Evaluated {
        let mut map = BTreeMap::new();
        let mut stopped = None;
        for (key_node, value_node) in entries {
            let key = self.node(key_node).and_then(|key| match (&key, key.as_key()) {
                (Value::Double(_), _) | (_, None) => fail(key_node.span, Fault::NotAKey { found: key.kind() }),
                (_, Some(key)) => Ok(key),
            });
            match both(key, self.node(value_node)) {
                Ok((key, value)) => {
                    self.steps.spend(key_steps(&key))?;
                    if map.insert(key, value).is_some() {
                        let stop = Stop::Error(Error { span, fault: Fault::KeyTwice });
                        stopped = Some(stop.after(stopped));
                    }
                }
                Err(Stop::Exhausted) => return Err(Stop::Exhausted),
                Err(stop) => stopped = Some(stop.after(stopped)),
            }
        }
        match stopped {
            Some(stop) => Err(stop),
            None => Ok(Value::Map(Arc::new(map))),
        }
    }

    fn negate(&mut self, operand: &Node, twice: bool, span: Span) -> Evaluated {
        let overflow = |result| fail(span, Fault::Overflow { result });
        match self.node(operand)? {
            Value::Int(value) if twice => {
                value.checked_neg().map_or_else(|| overflow("int"), |_| Ok(Value::Int(value)))
            }
            Value::Int(value) => value.checked_neg().map_or_else(|| overflow("int"), |value| Ok(Value::Int(value))),
            Value::Double(value) => Ok(Value::Double(if twice { value } else { -value })),
            Value::Duration(value) if twice => {
                value.checked_neg().map_or_else(|| overflow("duration"), |_| Ok(Value::Duration(value)))
            }
            Value::Duration(value) => {
                value.checked_neg().map_or_else(|| overflow("duration"), |value| Ok(Value::Duration(value)))
            }
            other => fail(span, Fault::NoFunction { name: "-", found: other.kind() }),
        }
    }

    fn chain(&mut self, first: &Node, rest: &[(BinaryOp, Node)]) -> Evaluated {
        let mut left = self.node(first);
        for (op, operand) in rest {
            let span = first.span.to(operand.span);
            left = match (op, &operand.op) {
                // Being in a list that is written out is being equal to one of its items, so one that is equal decides.
                (BinaryOp::In, Op::List(items)) => self.in_items(left, items),
                (op, _) => {
                    let right = self.node(operand);
                    match both(left, right) {
                        Ok((left, right)) => self.binary(*op, &left, &right, span),
                        Err(stop) => Err(stop),
                    }
                }
            };
            if let Err(Stop::Exhausted) = left {
                return left;
            }
        }
        left
    }

    fn in_items(&mut self, wanted: Evaluated, items: &[Node]) -> Evaluated {
        let mut stopped = None;
        self.steps.spend(1)?;
        for item in items {
            match (self.node(item), &wanted) {
                (Ok(item), Ok(wanted)) => {
                    if equal(&item, wanted, &mut self.steps)? {
                        return Ok(Value::Bool(true));
                    }
                }
                (Ok(_), Err(_)) => {}
                (Err(Stop::Exhausted), _) => return Err(Stop::Exhausted),
                (Err(stop), _) => stopped = Some(stop.after(stopped)),
            }
        }
        match (wanted, stopped) {
            // In an empty list is nothing, whatever it may be.
            (Err(Stop::Missing(_)), None) if items.is_empty() => Ok(Value::Bool(false)),
            (Err(stop), Some(other)) => Err(stop.merge(other)),
            (Err(stop), None) | (Ok(_), Some(stop)) => Err(stop),
            (Ok(_), None) => Ok(Value::Bool(false)),
        }
    }

    fn path(&mut self, first: &Node, links: &[Link]) -> Evaluated {
        let mut at = self.node(first);
        for link in links {
            self.steps.spend(1)?;
            at = match &link.op {
                LinkOp::Select(field) => at.and_then(|of| self.select(&of, field, link.span)),
                LinkOp::Index(index) => {
                    let by_literal = matches!(index.op, Op::Literal(_));
                    let index = self.node(index);
                    both(at, index).and_then(|(of, index)| self.index(&of, &index, by_literal, link.span))
                }
                LinkOp::Call(function, arguments) => {
                    let arguments = self.all_of(arguments);
                    let unusable = match (&at, &arguments) {
                        (Err(Stop::Missing(_)), Ok(values)) if self.foresees => self.unusable(function, values)?,
                        _ => None,
                    };
                    match (unusable, both(at, arguments)) {
                        (Some(fault), _) => fail(link.span, fault),
                        (None, Ok((receiver, mut values))) => {
                            values.insert(0, receiver);
                            self.apply(function, &values, link.span)
                        }
                        (None, Err(stop)) => Err(stop),
                    }
                }
                LinkOp::Fold(fold) => match at {
                    Ok(range) => self.fold(fold, &range, link.span),
                    Err(Stop::Missing(absent)) => Err(Stop::Missing(absent | self.absent(fold.parameters))),
                    Err(stop) => Err(stop),
                },
            };
            if let Err(Stop::Exhausted) = at {
                return at;
            }
        }
        at
    }

    fn select(&mut self, of: &Value, field: &Arc<str>, span: Span) -> Evaluated {
        let Value::Map(map) = of else { return fail(span, Fault::NoFields { found: of.kind() }) };
        self.steps.spend(steps_of_bytes(field.len()))?;
        match map.get(&Key::String(field.clone())) {
            Some(value) => Ok(value.clone()),
            None => fail(span, Fault::NoKey(Some(field.clone()))),
        }
    }

    fn has(&mut self, operand: &Node, field: &Arc<str>, span: Span) -> Evaluated {
        match self.node(operand)? {
            Value::Map(map) => Ok(Value::Bool(map.contains_key(&Key::String(field.clone())))),
            other => fail(span, Fault::NoFields { found: other.kind() }),
        }
    }

    fn index(&mut self, of: &Value, index: &Value, by_literal: bool, span: Span) -> Evaluated {
        match of {
            Value::List(items) => {
                let place = match index.as_key() {
                    Some(Key::Int(place)) => usize::try_from(place).ok(),
                    Some(Key::Uint(place)) => usize::try_from(place).ok(),
                    Some(Key::Bool(_) | Key::String(_)) | None => {
                        return fail(span, Fault::NotIndexable { found: "list", index: index.kind() });
                    }
                };
                match place.and_then(|place| items.get(place)) {
                    Some(value) => Ok(value.clone()),
                    None => fail(span, Fault::OutOfRange),
                }
            }
            Value::Map(map) => {
                let Some(key) = index.as_key() else {
                    return fail(span, Fault::NotIndexable { found: "map", index: index.kind() });
                };
                self.steps.spend(key_steps(&key))?;
                match (map.get(&key), key) {
                    (Some(value), _) => Ok(value.clone()),
                    // A key that was computed may be a context's value; only one of the schema is quoted.
                    (None, Key::String(text)) if by_literal => fail(span, Fault::NoKey(Some(text))),
                    (None, _) => fail(span, Fault::NoKey(None)),
                }
            }
            other => fail(span, Fault::NotIndexable { found: other.kind(), index: index.kind() }),
        }
    }

    fn binary(&mut self, op: BinaryOp, left: &Value, right: &Value, span: Span) -> Evaluated {
        let ordered =
            |wanted: fn(Ordering) -> bool, order: Option<Ordering>| Ok(Value::Bool(order.is_some_and(wanted)));
        match op {
            BinaryOp::Equal => Ok(Value::Bool(equal(left, right, &mut self.steps)?)),
            BinaryOp::NotEqual => Ok(Value::Bool(!equal(left, right, &mut self.steps)?)),
            BinaryOp::Less => ordered(Ordering::is_lt, self.order(op, left, right, span)?),
            BinaryOp::LessOrEqual => ordered(Ordering::is_le, self.order(op, left, right, span)?),
            BinaryOp::Greater => ordered(Ordering::is_gt, self.order(op, left, right, span)?),
            BinaryOp::GreaterOrEqual => ordered(Ordering::is_ge, self.order(op, left, right, span)?),
            BinaryOp::In => self.contained(left, right, span),
            BinaryOp::Add | BinaryOp::Subtract | BinaryOp::Multiply | BinaryOp::Divide | BinaryOp::Remainder => {
                self.steps.spend(left.size_steps().saturating_add(right.size_steps()))?;
                if let (BinaryOp::Add, Value::List(left), Value::List(right)) = (op, left, right) {
                    self.steps.spend(steps(left.len() + right.len()))?;
                    return Ok(Value::List(left.iter().chain(right.iter()).cloned().collect()));
                }
                arithmetic(op, left, right).or_else(|fault| fail(span, fault))
            }
        }
    }

    /// `None` is an order that does not exist: one of two numbers is NaN.
    fn order(&mut self, op: BinaryOp, left: &Value, right: &Value, span: Span) -> Result<Option<Ordering>, Stop> {
        self.steps.spend(left.size_steps().min(right.size_steps()))?;
        match (left, right) {
            (Value::Bool(a), Value::Bool(b)) => Ok(Some(a.cmp(b))),
            (Value::String(a), Value::String(b)) => Ok(Some(a.cmp(b))),
            (Value::Bytes(a), Value::Bytes(b)) => Ok(Some(a.cmp(b))),
            (Value::Duration(a), Value::Duration(b)) => Ok(Some(a.cmp(b))),
            (Value::Timestamp(a), Value::Timestamp(b)) => Ok(Some(a.cmp(b))),
            (Value::Int(_) | Value::Uint(_) | Value::Double(_), Value::Int(_) | Value::Uint(_) | Value::Double(_)) => {
                Ok(compare_numbers(left, right))
            }
            (left, right) => fail(span, Fault::NoOperator { sign: op.sign(), left: left.kind(), right: right.kind() }),
        }
    }

    fn contained(&mut self, wanted: &Value, range: &Value, span: Span) -> Evaluated {
        match range {
            Value::List(items) => {
                for item in items.iter() {
                    if equal(item, wanted, &mut self.steps)? {
                        return Ok(Value::Bool(true));
                    }
                }
                Ok(Value::Bool(false))
            }
            Value::Map(map) => {
                let Some(key) = wanted.as_key() else { return Ok(Value::Bool(false)) };
                self.steps.spend(key_steps(&key))?;
                Ok(Value::Bool(map.contains_key(&key)))
            }
            other => fail(span, Fault::NoOperator { sign: "in", left: wanted.kind(), right: other.kind() }),
        }
    }

    fn fold(&mut self, fold: &Fold, range: &Value, span: Span) -> Evaluated {
        let items: Arc<[Value]> = match range {
            Value::List(items) => items.clone(),
            Value::Map(map) => {
                self.steps.spend(steps(map.len()))?;
                map.keys().map(Key::value).collect()
            }
            other => return fail(span, Fault::NoRange { found: other.kind() }),
        };
        let mut stopped = None;
        let mut found = 0_usize;
        let mut results = Vec::new();
        for item in items.iter() {
            self.steps.spend(1)?;
            self.locals.push(item.clone());
            let element = self.element(fold);
            self.locals.pop();
            let holds = match element {
                Ok(Some(value)) => {
                    if matches!(fold.kind, FoldKind::Map | FoldKind::Filter) {
                        results.push(value.unwrap_or_else(|| item.clone()));
                    }
                    true
                }
                Ok(None) => false,
                Err(Stop::Exhausted) => return Err(Stop::Exhausted),
                Err(stop) => {
                    stopped = Some(stop.after(stopped));
                    continue;
                }
            };
            found += usize::from(holds);
            match fold.kind {
                FoldKind::All if !holds => return Ok(Value::Bool(false)),
                FoldKind::Exists if holds => return Ok(Value::Bool(true)),
                // A second one decides, whatever the others are.
                FoldKind::ExistsOne if found > 1 => return Ok(Value::Bool(false)),
                FoldKind::All | FoldKind::Exists | FoldKind::ExistsOne | FoldKind::Map | FoldKind::Filter => {}
            }
        }
        if let Some(stop) = stopped {
            return Err(stop);
        }
        Ok(match fold.kind {
            FoldKind::All => Value::Bool(true),
            FoldKind::Exists => Value::Bool(false),
            FoldKind::ExistsOne => Value::Bool(found == 1),
            FoldKind::Map | FoldKind::Filter => Value::List(Arc::from(results)),
        })
    }

    /// Whether the element pushed last holds, and if so what it becomes, where it becomes something else.
    fn element(&mut self, fold: &Fold) -> Result<Option<Option<Value>>, Stop> {
        let holds = match &fold.predicate {
            Some(predicate) => self.bool(predicate),
            None => Ok(true),
        };
        match (holds, &fold.transform) {
            (Ok(false), _) => Ok(None),
            (Ok(true), None) => Ok(Some(None)),
            (Ok(true), Some(transform)) => self.node(transform).map(|value| Some(Some(value))),
            (Err(stop), None) => Err(stop),
            // What it would become may matter too, once it is known whether it holds.
            (Err(stop), Some(transform)) => match self.node(transform) {
                Ok(_) => Err(stop),
                Err(other) => Err(stop.merge(other)),
            },
        }
    }

    fn apply(&mut self, function: &Function, values: &[Value], span: Span) -> Evaluated {
        for value in values {
            self.steps.spend(value.size_steps())?;
        }
        let wrong = |found: &Value| fail(span, Fault::NoFunction { name: function.name(), found: found.kind() });
        let (Some(first), second) = (values.first(), values.get(1)) else {
            return fail(span, Fault::NoFunction { name: function.name(), found: "nothing" });
        };
        match (function, first, second) {
            (Function::Size, Value::String(text), None) => Ok(size(text.chars().count())),
            (Function::Size, Value::Bytes(bytes), None) => Ok(size(bytes.len())),
            (Function::Size, Value::List(items), None) => Ok(size(items.len())),
            (Function::Size, Value::Map(map), None) => Ok(size(map.len())),
            (Function::Contains, Value::String(text), Some(Value::String(part))) => {
                Ok(Value::Bool(text.contains(&**part)))
            }
            (Function::StartsWith, Value::String(text), Some(Value::String(part))) => {
                Ok(Value::Bool(text.starts_with(&**part)))
            }
            (Function::EndsWith, Value::String(text), Some(Value::String(part))) => {
                Ok(Value::Bool(text.ends_with(&**part)))
            }
            (Function::MatchesPattern(pattern), Value::String(text), None) => self.search(pattern, text),
            (Function::Matches, Value::String(text), Some(Value::String(pattern))) => {
                match self.computed_pattern(pattern)? {
                    Some(pattern) => self.search(&pattern, text),
                    None => fail(span, Fault::BadPattern),
                }
            }
            (Function::InNetwork(network), Value::Ip(address), None) => Ok(Value::Bool(network.contains(*address))),
            (Function::InCidr, Value::Ip(address), Some(Value::String(network))) => match Network::parse(network) {
                Some(network) => Ok(Value::Bool(network.contains(*address))),
                None => fail(span, Fault::BadNetwork),
            },
            (Function::IsSubtreeOf, Value::Map(inner), Some(Value::Map(outer))) => {
                Ok(Value::Bool(is_subtree(inner, outer, &mut self.steps)?))
            }
            (Function::Part(part), Value::Timestamp(at), None) => Ok(Value::Int(part.of_instant(*at, &Zone::UTC))),
            (Function::PartIn(part, zone), Value::Timestamp(at), None) => Ok(Value::Int(part.of_instant(*at, zone))),
            (Function::Part(part), Value::Timestamp(at), Some(Value::String(zone))) => {
                self.in_computed_zone(*part, *at, zone, span)
            }
            (Function::Part(part), Value::Duration(nanos), None) => match part.of_duration(*nanos) {
                Some(value) => Ok(Value::Int(value)),
                None => wrong(first),
            },
            (
                Function::ToBool
                | Function::ToInt
                | Function::ToUint
                | Function::ToDouble
                | Function::ToString
                | Function::ToBytes
                | Function::ToDuration
                | Function::ToTimestamp,
                value,
                None,
            ) => convert(function, value).or_else(|fault| fail(span, fault)),
            (Function::TypeOf, value, None) => Ok(Value::Type(value.type_name())),
            (Function::Same, value, None) => Ok(value.clone()),
            (
                Function::Contains | Function::StartsWith | Function::EndsWith | Function::Matches,
                Value::String(_),
                Some(second),
            )
            | (Function::InCidr, Value::Ip(_), Some(second))
            | (Function::IsSubtreeOf, Value::Map(_), Some(second))
            | (Function::Part(_), Value::Timestamp(_), Some(second)) => wrong(second),
            (_, first, _) => wrong(first),
        }
    }

    fn search(&mut self, pattern: &Pattern, text: &str) -> Evaluated {
        self.steps.spend(pattern.steps(text.len()))?;
        match pattern.matches(text) {
            Some(found) => Ok(Value::Bool(found)),
            None => Err(Stop::Exhausted),
        }
    }

    fn computed_pattern(&mut self, text: &Arc<str>) -> Result<Option<Arc<Pattern>>, Stop> {
        if let Some(known) = self.patterns.get(text) {
            return Ok(known.clone());
        }
        let bytes = text.len().min(PATTERN_BYTES_MAX);
        self.steps.spend(PATTERN_STEPS.saturating_add(steps(bytes * PATTERN_BYTE_STEPS)))?;
        let built = Pattern::new(text).ok().map(Arc::new);
        let work = built.as_ref().map_or(PATTERN_REFUSED_STEPS, |pattern| pattern.states() * PATTERN_STATE_STEPS);
        self.steps.spend(steps(work))?;
        self.patterns.insert(text.clone(), built.clone());
        Ok(built)
    }

    fn in_computed_zone(&mut self, part: Part, at: Timestamp, zone: &str, span: Span) -> Evaluated {
        self.steps.spend(ZONE_STEPS)?;
        match Zone::parse(zone) {
            Some(zone) => Ok(Value::Int(part.of_instant(at, &zone))),
            None => fail(span, Fault::BadZone),
        }
    }

    fn names(&self, parameters: u32) -> Vec<String> {
        let named = self.compiled.parameters.iter().enumerate().filter(|(index, _)| parameters & bit(*index) != 0);
        let mut names: Vec<String> = named.map(|(_, (name, _))| name.clone()).collect();
        names.sort();
        names
    }

    /// The fault in words, with the piece of the schema it happened in.
    fn describe(&self, error: &Error) -> String {
        let piece = self.compiled.source.get(error.span.range()).unwrap_or_default();
        let mut quoted = String::new();
        for word in piece.split_whitespace() {
            if !quoted.is_empty() {
                quoted.push(' ');
            }
            quoted.push_str(word);
        }
        if quoted.chars().count() > QUOTE_MAX {
            quoted = quoted.chars().take(QUOTE_MAX).chain(['…']).collect();
        }
        if matches!(error.fault, Fault::NotOfType { .. } | Fault::ContextTooDeep) {
            return format!("parameter `{quoted}`: {}", error.fault);
        }
        format!("{} in `{quoted}`", error.fault)
    }
}

fn fail<T>(span: Span, fault: Fault) -> Result<T, Stop> {
    Err(Stop::Error(Error { span, fault }))
}

/// Both values, or why not.
fn both<A, B>(a: Result<A, Stop>, b: Result<B, Stop>) -> Result<(A, B), Stop> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (Err(a), Err(b)) => Err(a.merge(b)),
        (Err(stop), Ok(_)) | (Ok(_), Err(stop)) => Err(stop),
    }
}

fn steps(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn size(count: usize) -> Value {
    Value::Int(i64::try_from(count).unwrap_or(i64::MAX))
}

/// Every key of the first is in the second, with an equal value or, for maps, a subtree of it.
fn is_subtree(
    inner: &BTreeMap<Key, Value>,
    outer: &BTreeMap<Key, Value>,
    steps: &mut Steps,
) -> Result<bool, Exhausted> {
    for (key, value) in inner {
        steps.spend(key_steps(key))?;
        let same = match (value, outer.get(key)) {
            (_, None) => false,
            (Value::Map(inner), Some(Value::Map(outer))) => is_subtree(inner, outer, steps)?,
            (inner, Some(outer)) => equal(inner, outer, steps)?,
        };
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

fn arithmetic(op: BinaryOp, left: &Value, right: &Value) -> Result<Value, Fault> {
    let checked = |value: Option<i64>| value.map(Value::Int).ok_or(Fault::Overflow { result: "int" });
    let checked_uint = |value: Option<u64>| value.map(Value::Uint).ok_or(Fault::Overflow { result: "uint" });
    let span = |value: Option<i64>| value.map(Value::Duration).ok_or(Fault::Overflow { result: "duration" });
    match (op, left, right) {
        (BinaryOp::Divide | BinaryOp::Remainder, Value::Int(_), Value::Int(0))
        | (BinaryOp::Divide | BinaryOp::Remainder, Value::Uint(_), Value::Uint(0)) => Err(Fault::DivisionByZero),
        (BinaryOp::Add, Value::Int(a), Value::Int(b)) => checked(a.checked_add(*b)),
        (BinaryOp::Subtract, Value::Int(a), Value::Int(b)) => checked(a.checked_sub(*b)),
        (BinaryOp::Multiply, Value::Int(a), Value::Int(b)) => checked(a.checked_mul(*b)),
        (BinaryOp::Divide, Value::Int(a), Value::Int(b)) => checked(a.checked_div(*b)),
        (BinaryOp::Remainder, Value::Int(a), Value::Int(b)) => checked(a.checked_rem(*b)),
        (BinaryOp::Add, Value::Uint(a), Value::Uint(b)) => checked_uint(a.checked_add(*b)),
        (BinaryOp::Subtract, Value::Uint(a), Value::Uint(b)) => checked_uint(a.checked_sub(*b)),
        (BinaryOp::Multiply, Value::Uint(a), Value::Uint(b)) => checked_uint(a.checked_mul(*b)),
        (BinaryOp::Divide, Value::Uint(a), Value::Uint(b)) => checked_uint(a.checked_div(*b)),
        (BinaryOp::Remainder, Value::Uint(a), Value::Uint(b)) => checked_uint(a.checked_rem(*b)),
        (BinaryOp::Add, Value::Double(a), Value::Double(b)) => Ok(Value::Double(a + b)),
        (BinaryOp::Subtract, Value::Double(a), Value::Double(b)) => Ok(Value::Double(a - b)),
        (BinaryOp::Multiply, Value::Double(a), Value::Double(b)) => Ok(Value::Double(a * b)),
        (BinaryOp::Divide, Value::Double(a), Value::Double(b)) => Ok(Value::Double(a / b)),
        (BinaryOp::Add, Value::String(a), Value::String(b)) => Ok(Value::string(&format!("{a}{b}"))),
        (BinaryOp::Add, Value::Bytes(a), Value::Bytes(b)) => Ok(Value::Bytes([&**a, &**b].concat().into())),
        (BinaryOp::Add, Value::Duration(a), Value::Duration(b)) => span(a.checked_add(*b)),
        (BinaryOp::Subtract, Value::Duration(a), Value::Duration(b)) => span(a.checked_sub(*b)),
        (BinaryOp::Add, Value::Timestamp(at), Value::Duration(by))
        | (BinaryOp::Add, Value::Duration(by), Value::Timestamp(at)) => moved(*at, i128::from(*by)),
        (BinaryOp::Subtract, Value::Timestamp(at), Value::Duration(by)) => moved(*at, -i128::from(*by)),
        (BinaryOp::Subtract, Value::Timestamp(a), Value::Timestamp(b)) => {
            span(i64::try_from(instant_nanos(*a) - instant_nanos(*b)).ok())
        }
        (op, left, right) => Err(Fault::NoOperator { sign: op.sign(), left: left.kind(), right: right.kind() }),
    }
}

fn instant_nanos(at: Timestamp) -> i128 {
    i128::from(at.seconds()) * 1_000_000_000 + i128::from(at.nanos())
}

fn moved(at: Timestamp, by: i128) -> Result<Value, Fault> {
    let nanos = instant_nanos(at) + by;
    let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).ok();
    let within = u32::try_from(nanos.rem_euclid(1_000_000_000)).ok();
    let moved = seconds.zip(within).and_then(|(seconds, nanos)| Timestamp::new(seconds, nanos));
    moved.map(Value::Timestamp).ok_or(Fault::Overflow { result: "timestamp" })
}

fn convert(function: &Function, value: &Value) -> Result<Value, Fault> {
    let unfit = || Fault::NotConvertible { from: value.kind(), to: function.name() };
    let converted = match (function, value) {
        (Function::ToBool, Value::Bool(_))
        | (Function::ToInt, Value::Int(_))
        | (Function::ToUint, Value::Uint(_))
        | (Function::ToDouble, Value::Double(_))
        | (Function::ToString, Value::String(_))
        | (Function::ToBytes, Value::Bytes(_))
        | (Function::ToDuration, Value::Duration(_))
        | (Function::ToTimestamp, Value::Timestamp(_)) => Some(value.clone()),
        (Function::ToBool, Value::String(text)) => match &**text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(Value::Bool(false)),
            _ => None,
        },
        (Function::ToInt, Value::Uint(value)) => i64::try_from(*value).ok().map(Value::Int),
        (Function::ToInt, Value::Double(value)) => {
            // The bounds are open: both are doubles just outside what an int holds.
            let fits = *value > -9_223_372_036_854_775_808.0 && *value < 9_223_372_036_854_775_808.0;
            fits.then_some(Value::Int(*value as i64))
        }
        (Function::ToInt, Value::String(text)) => text.parse().ok().map(Value::Int),
        (Function::ToInt, Value::Timestamp(at)) => Some(Value::Int(at.seconds())),
        (Function::ToInt, Value::Duration(nanos)) => Some(Value::Int(*nanos)),
        (Function::ToUint, Value::Int(value)) => u64::try_from(*value).ok().map(Value::Uint),
        (Function::ToUint, Value::Double(value)) => {
            let fits = *value >= 0.0 && *value < 18_446_744_073_709_551_616.0;
            fits.then_some(Value::Uint(*value as u64))
        }
        (Function::ToUint, Value::String(text)) => {
            text.parse().ok().filter(|_| !text.starts_with('+')).map(Value::Uint)
        }
        (Function::ToDouble, Value::Int(value)) => Some(Value::Double(*value as f64)),
        (Function::ToDouble, Value::Uint(value)) => Some(Value::Double(*value as f64)),
        (Function::ToDouble, Value::String(text)) => {
            let named = text.bytes().any(|byte| matches!(byte, b'n' | b'N'));
            text.parse::<f64>().ok().filter(|value| value.is_finite() || named).map(Value::Double)
        }
        (Function::ToString, Value::Bool(value)) => Some(Value::string(if *value { "true" } else { "false" })),
        (Function::ToString, Value::Int(value)) => Some(Value::string(&value.to_string())),
        (Function::ToString, Value::Uint(value)) => Some(Value::string(&value.to_string())),
        (Function::ToString, Value::Double(value)) => Some(Value::string(&double_text(*value))),
        (Function::ToString, Value::Bytes(bytes)) => std::str::from_utf8(bytes).ok().map(Value::string),
        (Function::ToString, Value::Duration(nanos)) => Some(Value::string(&duration::print(*nanos))),
        (Function::ToString, Value::Timestamp(at)) => Some(Value::string(&at.to_string())),
        (Function::ToBytes, Value::String(text)) => Some(Value::Bytes(Arc::from(text.as_bytes()))),
        (Function::ToDuration, Value::String(text)) => duration::parse(text).map(Value::Duration),
        (Function::ToDuration, Value::Int(nanos)) => Some(Value::Duration(*nanos)),
        (Function::ToTimestamp, Value::String(text)) => text.parse().ok().map(Value::Timestamp),
        (Function::ToTimestamp, Value::Int(seconds)) => Timestamp::new(*seconds, 0).map(Value::Timestamp),
        (function, value) => return Err(Fault::NoFunction { name: function.name(), found: value.kind() }),
    };
    converted.ok_or_else(unfit)
}

/// As Go's `FormatFloat(value, 'g', -1, 64)`: the fewest digits that say it, with an exponent from a million up.
fn double_text(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) || value == 0.0 {
        return value.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
}
