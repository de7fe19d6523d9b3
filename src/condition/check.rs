//! From what was written to what is evaluated: names become places, functions become known, types are inferred.
//!
//! Refused is only what could never work: an operator or function that takes its operands under no values. What depends
//! on the values (anything out of `any`) is left to the evaluation. All mistakes are reported, not the first.
//!
//! INVARIANT: recursion follows the tree, which the parser bounds.

#![expect(clippy::wildcard_enum_match_arm, reason = "what is not named as taken is refused, new types too")]

use super::ast::{BinaryOp, Expr, ExprKind, Link as Written, LinkKind, Literal, Span};
use super::calendar::{Part, Zone};
use super::parser::RESERVED;
use super::pattern::Pattern;
use super::program::{Fold, FoldKind, Function, Link, LinkOp, Network, Node, Op};
use super::value::Value;
use super::{COMPREHENSION_DEPTH_MAX, CONTEXT_DEPTH_MAX, CompileError, PARAMETERS_MAX, ParameterType, duration};
use std::fmt;
use std::sync::Arc;

/// Most patterns written in one caveat: bounds the time compiling takes and the memory of what comes out.
const PATTERNS_MAX: usize = 8;

/// What is wrong with the declarations themselves.
pub(super) fn parameters(parameters: &[(String, ParameterType)]) -> Vec<CompileError> {
    let mut errors = Vec::new();
    if parameters.len() > PARAMETERS_MAX {
        let message = format!("the caveat has {} parameters; at most {PARAMETERS_MAX} are allowed", parameters.len());
        errors.push(CompileError::about(PARAMETERS_MAX, message, Some("gather related values in one `map`")));
        return errors;
    }
    for (index, (name, declared)) in parameters.iter().enumerate() {
        let mut letters = name.chars();
        let starts = letters.next().is_some_and(|c| c == '_' || c.is_ascii_alphabetic());
        if !starts || !letters.all(|c| c == '_' || c.is_ascii_alphanumeric()) {
            let hint = "a parameter is letters, digits and `_`, and does not begin with a digit";
            errors.push(CompileError::about(index, format!("`{name}` is not a name for a parameter"), Some(hint)));
        } else if RESERVED.contains(&name.as_str()) {
            errors.push(CompileError::about(index, format!("`{name}` is a reserved word"), None));
        } else if parameters.iter().take(index).any(|(earlier, _)| earlier == name) {
            errors.push(CompileError::about(index, format!("parameter `{name}` is declared twice"), None));
        }
        if declared.depth() > CONTEXT_DEPTH_MAX {
            let message = format!("the type of `{name}` is nested more than {CONTEXT_DEPTH_MAX} deep");
            errors.push(CompileError::about(index, message, None));
        }
    }
    errors
}

/// The program of a tree over parameters that [`parameters`] found nothing wrong with.
pub(super) fn check(parameters: &[(String, ParameterType)], expr: &Expr) -> Result<Node, Vec<CompileError>> {
    let mut checker =
        Checker { parameters, errors: Vec::new(), locals: Vec::new(), folds: 0, used: 0, patterns: 0, misspelt: false };
    let (program, result) = checker.expr(expr);
    if checker.errors.is_empty() && !result.may_be(&Type::Bool) {
        let message = format!("the expression is {result}; a caveat must be true or false");
        checker.errors.push(CompileError::at(expr.span, message, Some("compare it with something")));
    }
    for (index, (name, _)) in parameters.iter().enumerate() {
        // One that is never used may be the one that was misspelt, which is told already.
        if checker.used & bit(index) == 0 && !checker.misspelt {
            let hint = "use it in the expression, or remove it";
            checker.errors.push(CompileError::about(index, format!("parameter `{name}` is never used"), Some(hint)));
        }
    }
    if checker.errors.is_empty() { Ok(program) } else { Err(checker.errors) }
}

/// The name closest to a misspelt one, if any is close.
pub(super) fn nearest<'n>(wrong: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let distance_max = 1 + wrong.chars().count() / 4;
    names
        .map(|name| (strsim::osa_distance(wrong, name), name))
        .filter(|(distance, _)| *distance <= distance_max)
        .min()
        .map(|(_, name)| name)
}

fn did_you_mean<'n>(wrong: &str, names: impl Iterator<Item = &'n str>) -> Option<String> {
    nearest(wrong, names).map(|name| format!("did you mean `{name}`?"))
}

/// The bit that stands for a parameter in a set of them.
pub(super) fn bit(parameter: usize) -> u32 {
    // INVARIANT: there are at most PARAMETERS_MAX.
    1_u32.checked_shl(u32::try_from(parameter).unwrap_or(u32::MAX)).unwrap_or(0)
}

/// What is known of a value before there is one.
#[derive(Debug, Clone, PartialEq)]
enum Type {
    /// Anything.
    Dyn,
    Null,
    Bool,
    Int,
    Uint,
    /// A `uint` parameter. SpiceDB checks it as an int and gives it a uint's value, so it goes with both here.
    Whole,
    Double,
    String,
    Bytes,
    Duration,
    Timestamp,
    Ip,
    /// The type of a type.
    Kind,
    List(Box<Type>),
    Map(Box<Type>, Box<Type>),
}

impl Type {
    fn of(declared: &ParameterType) -> Type {
        match declared {
            ParameterType::Any => Type::Dyn,
            ParameterType::Bool => Type::Bool,
            ParameterType::String => Type::String,
            ParameterType::Int => Type::Int,
            ParameterType::Uint => Type::Whole,
            ParameterType::Double => Type::Double,
            ParameterType::Bytes => Type::Bytes,
            ParameterType::Duration => Type::Duration,
            ParameterType::Timestamp => Type::Timestamp,
            ParameterType::IpAddress => Type::Ip,
            ParameterType::List(item) => Type::List(Box::new(Type::of(item))),
            ParameterType::Map(item) => Type::Map(Box::new(Type::String), Box::new(Type::of(item))),
        }
    }

    fn is_number(&self) -> bool {
        matches!(self, Type::Int | Type::Uint | Type::Whole | Type::Double)
    }

    /// Whether a value of this type can be one of the other, as far as is known.
    fn may_be(&self, other: &Type) -> bool {
        match (self, other) {
            (Type::Dyn, _) | (_, Type::Dyn) => true,
            (Type::Whole, Type::Int | Type::Uint) | (Type::Int | Type::Uint, Type::Whole) => true,
            (Type::List(a), Type::List(b)) => a.may_be(b),
            (Type::Map(key_a, a), Type::Map(key_b, b)) => key_a.may_be(key_b) && a.may_be(b),
            (a, b) => a == b,
        }
    }

    /// Whether `==` between them can ever be true. Numbers of all types compare; anything may be compared with null.
    fn comparable(&self, other: &Type) -> bool {
        match (self, other) {
            (Type::Dyn | Type::Null, _) | (_, Type::Dyn | Type::Null) => true,
            (Type::List(a), Type::List(b)) => a.comparable(b),
            (Type::Map(key_a, a), Type::Map(key_b, b)) => key_a.comparable(key_b) && a.comparable(b),
            (a, b) => a == b || (a.is_number() && b.is_number()),
        }
    }

    /// Whether there is an order between them.
    fn ordered(&self, other: &Type) -> bool {
        let one = |of: &Type| {
            of.is_number()
                || matches!(of, Type::Dyn | Type::Bool | Type::String | Type::Bytes | Type::Duration | Type::Timestamp)
        };
        one(self) && one(other) && self.comparable(other)
    }

    /// What both are.
    fn join(self, other: &Type) -> Type {
        if self == *other { self } else { Type::Dyn }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Dyn => f.write_str("any"),
            Type::Null => f.write_str("null"),
            Type::Bool => f.write_str("bool"),
            Type::Int => f.write_str("int"),
            Type::Uint | Type::Whole => f.write_str("uint"),
            Type::Double => f.write_str("double"),
            Type::String => f.write_str("string"),
            Type::Bytes => f.write_str("bytes"),
            Type::Duration => f.write_str("duration"),
            Type::Timestamp => f.write_str("timestamp"),
            Type::Ip => f.write_str("ipaddress"),
            Type::Kind => f.write_str("type"),
            Type::List(item) => write!(f, "list<{item}>"),
            Type::Map(_, item) => write!(f, "map<{item}>"),
        }
    }
}

struct Checker<'c> {
    parameters: &'c [(String, ParameterType)],
    errors: Vec<CompileError>,
    /// The variables of the comprehensions around, outermost first.
    locals: Vec<(String, Type)>,
    /// How many comprehensions' bodies are around.
    folds: usize,
    used: u32,
    patterns: usize,
    /// A name was unknown.
    misspelt: bool,
}

impl Checker<'_> {
    fn error(&mut self, span: Span, message: impl Into<String>, hint: Option<&str>) {
        self.errors.push(CompileError::at(span, message, hint));
    }

    /// What stands for an expression that is wrong: it fits everywhere, so that one mistake is told once.
    fn wrong(&mut self, span: Span, message: impl Into<String>, hint: Option<&str>) -> (Op, Type) {
        self.error(span, message, hint);
        (Op::Literal(Value::Null), Type::Dyn)
    }

    fn expr(&mut self, expr: &Expr) -> (Node, Type) {
        let span = expr.span;
        let (op, of) = match &expr.kind {
            ExprKind::Literal(literal) => literal_op(literal),
            ExprKind::Name(name) => self.name(name, span),
            ExprKind::List(items) => self.list(items),
            ExprKind::Map(entries) => self.map(entries),
            ExprKind::And(operands) => (Op::And(self.bools(operands)), Type::Bool),
            ExprKind::Or(operands) => (Op::Or(self.bools(operands)), Type::Bool),
            ExprKind::Conditional(arms, otherwise) => self.conditional(arms, otherwise),
            ExprKind::Not { operand, twice } => {
                (Op::Not { operand: Box::new(self.bool(operand)), twice: *twice }, Type::Bool)
            }
            ExprKind::Negate { operand, twice } => {
                let (node, of) = self.expr(operand);
                if !matches!(of, Type::Int | Type::Double | Type::Duration | Type::Whole | Type::Dyn) {
                    self.error(span, format!("`-` does not take {of}"), None);
                }
                (Op::Negate { operand: Box::new(node), twice: *twice }, of)
            }
            ExprKind::Chain(first, rest) => self.chain(first, rest),
            ExprKind::Path(first, links) => self.path(first, links),
            ExprKind::Call { name, name_span, arguments } => self.call(name, *name_span, span, arguments),
        };
        (Node { span, op }, of)
    }

    fn bool(&mut self, expr: &Expr) -> Node {
        let (node, of) = self.expr(expr);
        if !of.may_be(&Type::Bool) {
            self.error(expr.span, format!("expected a bool, found {of}"), None);
        }
        node
    }

    fn bools(&mut self, operands: &[Expr]) -> Vec<Node> {
        operands.iter().map(|operand| self.bool(operand)).collect()
    }

    fn name(&mut self, name: &str, span: Span) -> (Op, Type) {
        if let Some(index) = self.locals.iter().rposition(|(local, _)| local == name) {
            let of = self.locals.get(index).map_or(Type::Dyn, |(_, of)| of.clone());
            return (Op::Local(index), of);
        }
        if let Some(index) = self.parameters.iter().position(|(parameter, _)| parameter == name) {
            self.used |= bit(index);
            let of = self.parameters.get(index).map_or(Type::Dyn, |(_, declared)| Type::of(declared));
            return (Op::Parameter(index), of);
        }
        if let Some(name) = type_constant(name) {
            return (Op::Literal(Value::Type(name)), Type::Kind);
        }
        self.misspelt = true;
        let names = self.parameters.iter().map(|(name, _)| name.as_str());
        let hint = did_you_mean(name, names.chain(self.locals.iter().map(|(name, _)| name.as_str())));
        self.wrong(span, format!("unknown parameter `{name}`"), hint.as_deref())
    }

    fn list(&mut self, items: &[Expr]) -> (Op, Type) {
        let mut of: Option<Type> = None;
        let mut nodes = Vec::new();
        for item in items {
            let (node, item) = self.expr(item);
            nodes.push(node);
            of = Some(match of {
                Some(of) => of.join(&item),
                None => item,
            });
        }
        (Op::List(nodes), Type::List(Box::new(of.unwrap_or(Type::Dyn))))
    }

    fn map(&mut self, entries: &[(Expr, Expr)]) -> (Op, Type) {
        let mut of: Option<(Type, Type)> = None;
        let mut nodes = Vec::new();
        for (key, value) in entries {
            let (key_node, key_type) = self.expr(key);
            if !matches!(key_type, Type::Int | Type::Uint | Type::Whole | Type::Bool | Type::String | Type::Dyn) {
                self.error(key.span, format!("{key_type} cannot be a key of a map"), None);
            }
            let (value_node, value_type) = self.expr(value);
            nodes.push((key_node, value_node));
            of = Some(match of {
                Some((key, value)) => (key.join(&key_type), value.join(&value_type)),
                None => (key_type, value_type),
            });
        }
        let (key, value) = of.unwrap_or((Type::Dyn, Type::Dyn));
        (Op::Map(nodes), Type::Map(Box::new(key), Box::new(value)))
    }

    fn conditional(&mut self, arms: &[(Expr, Expr)], otherwise: &Expr) -> (Op, Type) {
        let mut nodes = Vec::new();
        let mut of: Option<Type> = None;
        for (condition, value) in arms {
            let condition = self.bool(condition);
            let (value, value_type) = self.expr(value);
            nodes.push((condition, value));
            of = Some(match of {
                Some(of) => of.join(&value_type),
                None => value_type,
            });
        }
        let (last, last_type) = self.expr(otherwise);
        let of = of.map_or(Type::Dyn, |of| of.join(&last_type));
        (Op::Conditional(nodes, Box::new(last)), of)
    }

    fn chain(&mut self, first: &Expr, rest: &[(BinaryOp, Expr)]) -> (Op, Type) {
        let (first_node, mut left) = self.expr(first);
        let mut nodes = Vec::new();
        for (op, operand) in rest {
            let (node, right) = self.expr(operand);
            left = match binary(*op, &left, &right) {
                Some(result) => result,
                None => {
                    let span = first.span.to(operand.span);
                    let message = format!("`{}` does not take {left} and {right}", op.sign());
                    self.error(span, message, mixed_hint(*op, &left, &right));
                    Type::Dyn
                }
            };
            nodes.push((*op, node));
        }
        (Op::Chain(Box::new(first_node), nodes), left)
    }

    fn path(&mut self, first: &Expr, links: &[Written]) -> (Op, Type) {
        if let Some(constant) = self.message_type(first, links) {
            return (Op::Literal(Value::Type(constant)), Type::Kind);
        }
        let (first_node, mut of) = self.expr(first);
        let mut nodes = Vec::new();
        for link in links {
            let span = first.span.to(link.span);
            let op = match &link.kind {
                LinkKind::Select(name) => {
                    of = self.select(&of, span);
                    LinkOp::Select(Arc::from(name.as_str()))
                }
                LinkKind::Index(index) => {
                    let (node, index_type) = self.expr(index);
                    of = self.index(&of, &index_type, span);
                    LinkOp::Index(node)
                }
                LinkKind::Call { name, name_span, arguments } => {
                    let (op, result) = self.method(name, *name_span, span, &of, arguments);
                    of = result;
                    op
                }
            };
            nodes.push(Link { span, op });
        }
        (Op::Path(Box::new(first_node), nodes), of)
    }

    /// `google.protobuf.Timestamp` and `.Duration`, as `type()` is compared with.
    fn message_type(&self, first: &Expr, links: &[Written]) -> Option<&'static str> {
        let ExprKind::Name(name) = &first.kind else { return None };
        let [Written { kind: LinkKind::Select(package), .. }, Written { kind: LinkKind::Select(message), .. }] = links
        else {
            return None;
        };
        let taken = self.parameters.iter().any(|(parameter, _)| parameter == name);
        if taken || name != "google" || package != "protobuf" {
            return None;
        }
        match message.as_str() {
            "Timestamp" => Some("google.protobuf.Timestamp"),
            "Duration" => Some("google.protobuf.Duration"),
            _ => None,
        }
    }

    fn select(&mut self, of: &Type, span: Span) -> Type {
        match of {
            Type::Dyn => Type::Dyn,
            Type::Map(key, value) if key.may_be(&Type::String) => (**value).clone(),
            _ => {
                self.error(span, format!("{of} has no fields"), None);
                Type::Dyn
            }
        }
    }

    fn index(&mut self, of: &Type, index: &Type, span: Span) -> Type {
        match of {
            Type::Dyn => return Type::Dyn,
            Type::List(item) if index.is_number() || *index == Type::Dyn => return (**item).clone(),
            Type::Map(key, value) if *index != Type::Null && key.comparable(index) => return (**value).clone(),
            _ => {}
        }
        self.error(span, format!("{of} cannot be indexed with {index}"), None);
        Type::Dyn
    }

    fn method(
        &mut self,
        name: &str,
        name_span: Span,
        span: Span,
        receiver: &Type,
        arguments: &[Expr],
    ) -> (LinkOp, Type) {
        let fold = match (name, arguments.len()) {
            ("all", 2) => Some(FoldKind::All),
            ("exists", 2) => Some(FoldKind::Exists),
            ("exists_one" | "existsOne", 2) => Some(FoldKind::ExistsOne),
            ("map", 2 | 3) => Some(FoldKind::Map),
            ("filter", 2) => Some(FoldKind::Filter),
            _ => None,
        };
        if let Some(kind) = fold {
            return self.fold(kind, span, receiver, arguments);
        }
        let Some(function) = METHODS.iter().find(|(known, _)| *known == name).map(|(_, function)| function.clone())
        else {
            let hint = if GLOBALS.iter().any(|(known, _)| *known == name) {
                Some(format!("it is called `{name}(…)`"))
            } else {
                did_you_mean(name, METHODS.iter().map(|(name, _)| *name).chain(MACROS))
            };
            let message = if MACROS.contains(&name) {
                format!("`{name}` takes a variable and what is asked of it, such as `list.{name}(x, x > 0)`")
            } else {
                format!("unknown function `{name}`")
            };
            self.error(name_span, message, hint.as_deref());
            for argument in arguments {
                self.expr(argument);
            }
            return (LinkOp::Call(Function::Same, Vec::new()), Type::Dyn);
        };
        let mut nodes = Vec::new();
        let mut types = vec![receiver.clone()];
        for argument in arguments {
            let (node, of) = self.expr(argument);
            nodes.push(node);
            types.push(of);
        }
        let result = self.signature(&function, &types, name_span);
        let function = self.with_constant(function, &mut nodes);
        (LinkOp::Call(function, nodes), result)
    }

    fn fold(&mut self, kind: FoldKind, span: Span, range: &Type, arguments: &[Expr]) -> (LinkOp, Type) {
        let item = match range {
            Type::List(item) => (**item).clone(),
            Type::Map(key, _) => (**key).clone(),
            Type::Dyn => Type::Dyn,
            _ => {
                self.error(span, format!("expected a list or a map, found {range}"), None);
                Type::Dyn
            }
        };
        let variable = match arguments.first().map(|variable| (&variable.kind, variable.span)) {
            Some((ExprKind::Name(name), _)) => name.clone(),
            Some((_, at)) => {
                self.error(at, "expected the name of a variable", Some("write `list.all(x, x > 0)`"));
                String::new()
            }
            None => String::new(),
        };
        if self.folds >= COMPREHENSION_DEPTH_MAX {
            let message = format!("comprehensions are nested more than {COMPREHENSION_DEPTH_MAX} deep");
            self.error(span, message, Some("each level multiplies the work; split the condition"));
        }
        let used_before = std::mem::take(&mut self.used);
        self.locals.push((variable, item.clone()));
        self.folds += 1;
        let (predicate, transform, result) = match (kind, arguments) {
            (FoldKind::Map, [_, transform]) => {
                let (node, of) = self.expr(transform);
                (None, Some(Box::new(node)), Type::List(Box::new(of)))
            }
            (FoldKind::Map, [_, predicate, transform]) => {
                let predicate = self.bool(predicate);
                let (node, of) = self.expr(transform);
                (Some(Box::new(predicate)), Some(Box::new(node)), Type::List(Box::new(of)))
            }
            (FoldKind::Filter, [_, predicate, ..]) => {
                (Some(Box::new(self.bool(predicate))), None, Type::List(Box::new(item)))
            }
            (FoldKind::All | FoldKind::Exists | FoldKind::ExistsOne, [_, predicate, ..]) => {
                (Some(Box::new(self.bool(predicate))), None, Type::Bool)
            }
            (_, _) => (None, None, Type::Dyn),
        };
        self.folds -= 1;
        self.locals.pop();
        let parameters = self.used;
        self.used |= used_before;
        (LinkOp::Fold(Fold { kind, predicate, transform, parameters }), result)
    }

    fn call(&mut self, name: &str, name_span: Span, span: Span, arguments: &[Expr]) -> (Op, Type) {
        if name == "has" {
            return self.has(span, arguments);
        }
        let Some(function) = GLOBALS.iter().find(|(known, _)| *known == name).map(|(_, function)| function.clone())
        else {
            let hint = if METHODS.iter().any(|(known, _)| *known == name) || MACROS.contains(&name) {
                Some(format!("it is called on a value: `value.{name}(…)`"))
            } else {
                did_you_mean(name, GLOBALS.iter().map(|(name, _)| *name).chain(["has"]))
            };
            for argument in arguments {
                self.expr(argument);
            }
            return self.wrong(name_span, format!("unknown function `{name}`"), hint.as_deref());
        };
        let mut nodes = Vec::new();
        let mut types = Vec::new();
        for argument in arguments {
            let (node, of) = self.expr(argument);
            nodes.push(node);
            types.push(of);
        }
        let result = self.signature(&function, &types, name_span);
        // A constant instant or duration is read now, so that a misspelt one is refused now.
        if let (Function::ToTimestamp | Function::ToDuration, [Node { op: Op::Literal(Value::String(text)), .. }]) =
            (&function, nodes.as_slice())
        {
            let (value, example) = match function {
                Function::ToTimestamp => (text.parse().ok().map(Value::Timestamp), "2030-01-01T00:00:00Z"),
                _ => (duration::parse(text).map(Value::Duration), "1h30m"),
            };
            return match value {
                Some(value) => (Op::Literal(value), result),
                None => self.wrong(span, format!("`{text}` is no {result}"), Some(&format!("write it as `{example}`"))),
            };
        }
        let function = self.with_constant(function, &mut nodes);
        (Op::Call(function, nodes), result)
    }

    fn has(&mut self, span: Span, arguments: &[Expr]) -> (Op, Type) {
        let hint = "write `has(map.key)`";
        let [Expr { kind: ExprKind::Path(first, links), .. }] = arguments else {
            return self.wrong(span, "`has` takes one field of a map", Some(hint));
        };
        let Some((Written { kind: LinkKind::Select(field), .. }, before)) = links.split_last() else {
            return self.wrong(span, "`has` takes one field of a map", Some(hint));
        };
        let (operand, of) = if before.is_empty() {
            self.expr(first)
        } else {
            let (op, of) = self.path(first, before);
            let end = before.last().map_or(first.span, |link| link.span);
            (Node { span: first.span.to(end), op }, of)
        };
        self.select(&of, span);
        (Op::Has(Box::new(operand), Arc::from(field.as_str())), Type::Bool)
    }

    /// The result of a function on arguments of these types; an error where it can take none of their values.
    fn signature(&mut self, function: &Function, types: &[Type], span: Span) -> Type {
        let wanted = match function {
            Function::Size
            | Function::ToBool
            | Function::ToInt
            | Function::ToUint
            | Function::ToDouble
            | Function::ToString
            | Function::ToBytes
            | Function::ToDuration
            | Function::ToTimestamp
            | Function::TypeOf
            | Function::Same => 1..=1,
            Function::Contains
            | Function::StartsWith
            | Function::EndsWith
            | Function::Matches
            | Function::MatchesPattern(_)
            | Function::InCidr
            | Function::InNetwork(_)
            | Function::IsSubtreeOf => 2..=2,
            Function::Part(_) | Function::PartIn(_, _) => 1..=2,
        };
        let name = function.name();
        if !wanted.contains(&types.len()) {
            let expected = wanted.end();
            let message =
                format!("`{name}` takes {expected} values, the one it is called on included; found {}", types.len());
            self.error(span, message, None);
            return Type::Dyn;
        }
        let first = types.first().unwrap_or(&Type::Dyn);
        let second = types.get(1).unwrap_or(&Type::Dyn);
        let fits = |of: &Type, allowed: &[Type]| *of == Type::Dyn || allowed.iter().any(|allowed| of.may_be(allowed));
        let any_list = Type::List(Box::new(Type::Dyn));
        let any_map = Type::Map(Box::new(Type::Dyn), Box::new(Type::Dyn));
        use Type as T;
        let (first_fits, second_fits, result) = match function {
            Function::Size => (fits(first, &[T::String, T::Bytes, any_list, any_map]), true, T::Int),
            Function::Contains | Function::StartsWith | Function::EndsWith => {
                (fits(first, &[T::String]), fits(second, &[T::String]), T::Bool)
            }
            Function::Matches | Function::MatchesPattern(_) => {
                (fits(first, &[T::String]), fits(second, &[T::String]), T::Bool)
            }
            Function::ToBool => (fits(first, &[T::Bool, T::String]), true, T::Bool),
            Function::ToInt => {
                let from = [T::Int, T::Uint, T::Double, T::String, T::Timestamp, T::Duration];
                (fits(first, &from), true, T::Int)
            }
            Function::ToUint => (fits(first, &[T::Int, T::Uint, T::Double, T::String]), true, T::Uint),
            Function::ToDouble => (fits(first, &[T::Int, T::Uint, T::Double, T::String]), true, T::Double),
            Function::ToString => {
                let from = [T::String, T::Bool, T::Int, T::Uint, T::Double, T::Bytes, T::Duration, T::Timestamp];
                (fits(first, &from), true, T::String)
            }
            Function::ToBytes => (fits(first, &[T::String, T::Bytes]), true, T::Bytes),
            Function::ToDuration => (fits(first, &[T::String, T::Duration, T::Int]), true, T::Duration),
            Function::ToTimestamp => (fits(first, &[T::String, T::Timestamp, T::Int]), true, T::Timestamp),
            Function::TypeOf => (true, true, T::Kind),
            Function::Same => (true, true, T::Dyn),
            Function::Part(part) | Function::PartIn(part, _) => {
                let of_duration = part.of_duration(0).is_some() && types.len() == 1;
                let from: &[Type] = if of_duration { &[T::Timestamp, T::Duration] } else { &[T::Timestamp] };
                (fits(first, from), fits(second, &[T::String]), T::Int)
            }
            Function::InCidr | Function::InNetwork(_) => (fits(first, &[T::Ip]), fits(second, &[T::String]), T::Bool),
            Function::IsSubtreeOf => (fits(first, std::slice::from_ref(&any_map)), fits(second, &[any_map]), T::Bool),
        };
        if !first_fits {
            self.error(span, format!("`{name}` does not take {first}"), None);
        } else if !second_fits {
            self.error(span, format!("`{name}` does not take {second} as its argument"), None);
        }
        result
    }

    /// The function with its last argument built in, where that is a constant of the source.
    fn with_constant(&mut self, function: Function, nodes: &mut Vec<Node>) -> Function {
        let Some(Node { span, op: Op::Literal(Value::String(text)) }) = nodes.last() else { return function };
        let (span, text) = (*span, text.clone());
        let built = match &function {
            Function::Matches => {
                self.patterns += 1;
                if self.patterns > PATTERNS_MAX {
                    let message = format!("the caveat has more than {PATTERNS_MAX} patterns");
                    self.error(span, message, Some("join them with `|`"));
                    return function;
                }
                match Pattern::new(&text) {
                    Ok(pattern) => Some(Function::MatchesPattern(Arc::new(pattern))),
                    Err(message) => {
                        self.error(span, format!("the pattern cannot be used: {message}"), None);
                        None
                    }
                }
            }
            Function::InCidr => match Network::parse(&text) {
                Some(network) => Some(Function::InNetwork(network)),
                None => {
                    let hint = "write it as `10.0.0.0/8` or `2001:db8::/32`";
                    self.error(span, format!("`{text}` is no network"), Some(hint));
                    None
                }
            },
            Function::Part(part) => match Zone::parse(&text) {
                Some(zone) => Some(Function::PartIn(*part, Arc::new(zone))),
                None => {
                    let hint = "write it as `Europe/Rome` or `+02:00`";
                    self.error(span, format!("`{text}` is no time zone"), Some(hint));
                    None
                }
            },
            _ => return function,
        };
        match built {
            Some(built) => {
                nodes.pop();
                built
            }
            None => function,
        }
    }
}

const MACROS: [&str; 5] = ["all", "exists", "exists_one", "map", "filter"];

const GLOBALS: [(&str, Function); 12] = [
    ("size", Function::Size),
    ("matches", Function::Matches),
    ("bool", Function::ToBool),
    ("int", Function::ToInt),
    ("uint", Function::ToUint),
    ("double", Function::ToDouble),
    ("string", Function::ToString),
    ("bytes", Function::ToBytes),
    ("duration", Function::ToDuration),
    ("timestamp", Function::ToTimestamp),
    ("type", Function::TypeOf),
    ("dyn", Function::Same),
];

const METHODS: [(&str, Function); 17] = [
    ("size", Function::Size),
    ("contains", Function::Contains),
    ("startsWith", Function::StartsWith),
    ("endsWith", Function::EndsWith),
    ("matches", Function::Matches),
    ("in_cidr", Function::InCidr),
    ("isSubtreeOf", Function::IsSubtreeOf),
    (Part::FullYear.function(), Function::Part(Part::FullYear)),
    (Part::Month.function(), Function::Part(Part::Month)),
    (Part::Date.function(), Function::Part(Part::Date)),
    (Part::DayOfMonth.function(), Function::Part(Part::DayOfMonth)),
    (Part::DayOfWeek.function(), Function::Part(Part::DayOfWeek)),
    (Part::DayOfYear.function(), Function::Part(Part::DayOfYear)),
    (Part::Hours.function(), Function::Part(Part::Hours)),
    (Part::Minutes.function(), Function::Part(Part::Minutes)),
    (Part::Seconds.function(), Function::Part(Part::Seconds)),
    (Part::Milliseconds.function(), Function::Part(Part::Milliseconds)),
];

fn type_constant(name: &str) -> Option<&'static str> {
    ["bool", "int", "uint", "double", "string", "bytes", "list", "map", "null_type", "type"]
        .into_iter()
        .find(|constant| *constant == name)
}

fn literal_op(literal: &Literal) -> (Op, Type) {
    let (value, of) = match literal {
        Literal::Null => (Value::Null, Type::Null),
        Literal::Bool(value) => (Value::Bool(*value), Type::Bool),
        Literal::Int(value) => (Value::Int(*value), Type::Int),
        Literal::Uint(value) => (Value::Uint(*value), Type::Uint),
        Literal::Double(value) => (Value::Double(*value), Type::Double),
        Literal::String(text) => (Value::string(text), Type::String),
        Literal::Bytes(bytes) => (Value::Bytes(Arc::from(bytes.as_slice())), Type::Bytes),
    };
    (Op::Literal(value), of)
}

/// The result of an operator on operands of these types; `None` where it takes none of their values.
fn binary(op: BinaryOp, left: &Type, right: &Type) -> Option<Type> {
    match op {
        BinaryOp::Equal | BinaryOp::NotEqual => left.comparable(right).then_some(Type::Bool),
        BinaryOp::Less | BinaryOp::LessOrEqual | BinaryOp::Greater | BinaryOp::GreaterOrEqual => {
            left.ordered(right).then_some(Type::Bool)
        }
        BinaryOp::In => match right {
            Type::Dyn => Some(Type::Bool),
            Type::List(item) => left.comparable(item).then_some(Type::Bool),
            Type::Map(key, _) => left.comparable(key).then_some(Type::Bool),
            _ => None,
        },
        BinaryOp::Add => match (left, right) {
            (Type::Timestamp, Type::Duration | Type::Dyn) | (Type::Duration | Type::Dyn, Type::Timestamp) => {
                Some(Type::Timestamp)
            }
            (Type::Duration, Type::Dyn) | (Type::Dyn, Type::Duration) => Some(Type::Dyn),
            (Type::List(a), Type::List(b)) => Some(Type::List(Box::new((**a).clone().join(b)))),
            _ => same_operands(left, right, |of| {
                of.is_number() || matches!(of, Type::String | Type::Bytes | Type::Duration | Type::List(_))
            }),
        },
        BinaryOp::Subtract => match (left, right) {
            (Type::Timestamp, Type::Timestamp) => Some(Type::Duration),
            (Type::Timestamp, Type::Duration) => Some(Type::Timestamp),
            (Type::Timestamp, Type::Dyn) | (Type::Dyn, Type::Timestamp | Type::Duration) => Some(Type::Dyn),
            _ => same_operands(left, right, |of| of.is_number() || *of == Type::Duration),
        },
        BinaryOp::Multiply | BinaryOp::Divide => same_operands(left, right, Type::is_number),
        BinaryOp::Remainder => same_operands(left, right, |of| of.is_number() && *of != Type::Double),
    }
}

/// For operators that take two of one type and give that type.
fn same_operands(left: &Type, right: &Type, takes: impl Fn(&Type) -> bool) -> Option<Type> {
    match (left, right) {
        (Type::Dyn, Type::Dyn) => Some(Type::Dyn),
        (Type::Dyn, known) | (known, Type::Dyn) => takes(known).then(|| known.clone()),
        (Type::Whole, other) | (other, Type::Whole) if takes(other) && other.may_be(&Type::Whole) => Some(Type::Whole),
        (left, right) => (left == right && takes(left)).then(|| left.clone()),
    }
}

fn mixed_hint(op: BinaryOp, left: &Type, right: &Type) -> Option<&'static str> {
    match op {
        BinaryOp::Add | BinaryOp::Subtract | BinaryOp::Multiply | BinaryOp::Divide | BinaryOp::Remainder => {
            (left.is_number() && right.is_number()).then_some("convert one of them, such as with `double(…)`")
        }
        BinaryOp::In => {
            (!matches!(right, Type::List(_) | Type::Map(_, _))).then_some("`in` looks into a list or a map")
        }
        BinaryOp::Equal
        | BinaryOp::NotEqual
        | BinaryOp::Less
        | BinaryOp::LessOrEqual
        | BinaryOp::Greater
        | BinaryOp::GreaterOrEqual => match (left, right) {
            (Type::Timestamp, Type::String) | (Type::String, Type::Timestamp) => Some("convert it: `timestamp(…)`"),
            (Type::Duration, Type::String) | (Type::String, Type::Duration) => Some("convert it: `duration(…)`"),
            _ => None,
        },
    }
}
