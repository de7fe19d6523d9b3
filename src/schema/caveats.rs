//! Caveats of a tree → caveats that can be evaluated. What is wrong within a condition is told where it stands in the
//! schema's text.

use super::ast;
use super::diagnostic::{Diagnostic, Suggester, quoted};
use super::types::CaveatDefinition;
use crate::condition::{self, ParameterType};
use crate::model::CaveatName;
use std::ops::Range;
use std::sync::Arc;

/// Types that take another, in `<>`.
const GENERIC: [&str; 2] = ["list", "map"];

/// One caveat, ready to be evaluated; `None` when something is wrong with it, which then was told.
pub(super) fn caveat(
    text: &str,
    caveat: &ast::Caveat,
    doc: String,
    suggester: &mut Suggester,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<CaveatDefinition> {
    let told = diagnostics.len();
    let parameters: Vec<(String, ParameterType)> = caveat
        .parameters
        .iter()
        .map(|parameter| {
            // Of an unknown type anything may be meant, and the rest of the condition is still looked at.
            let kind = parameter_type(&parameter.kind, suggester, diagnostics).unwrap_or(ParameterType::Any);
            (parameter.name.text.clone(), kind)
        })
        .collect();
    if caveat.body.is_empty() {
        return None; // the parser told of it
    }
    // Compiled as it was written, so that places in the condition are places in the text.
    let raw = text.get(caveat.body_span.0.clone()).unwrap_or_default();
    let start = caveat.body_span.0.start + (raw.len() - raw.trim_start().len());
    let compiled = match condition::Caveat::compile(&parameters, raw.trim()) {
        Ok(compiled) => compiled,
        Err(errors) => {
            diagnostics.extend(errors.into_iter().map(|error| placed(error, caveat, start)));
            return None;
        }
    };
    let name = CaveatName::new(caveat.name.text.as_str()).ok()?;
    (diagnostics.len() == told).then(|| CaveatDefinition {
        name,
        doc,
        parameters,
        body: caveat.body.clone(),
        compiled: Arc::new(compiled),
    })
}

/// An error of a condition, in the text whose byte `start` is the condition's first.
fn placed(error: condition::CompileError, caveat: &ast::Caveat, start: usize) -> Diagnostic {
    let parameter = error.parameter.and_then(|index| caveat.parameters.get(index));
    let (name, span) = match (error.parameter, parameter) {
        (Some(_), Some(parameter)) => ("caveat-parameter", parameter.name.span.0.clone()),
        (Some(_), None) => ("caveat-parameter", caveat.name.span.0.clone()),
        (None, _) => ("caveat-expression", shifted(&error.span, start, caveat.body_span.0.end)),
    };
    Diagnostic::error(name, span, error.message).with_hint_if(error.hint)
}

fn shifted(span: &Range<usize>, by: usize, end: usize) -> Range<usize> {
    let start = (span.start + by).min(end);
    start..(span.end + by).clamp(start, end)
}

/// Recursion is bounded by the parser.
fn parameter_type(
    kind: &ast::ParameterType,
    suggester: &mut Suggester,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<ParameterType> {
    let name = kind.name.text.as_str();
    let mut refuse = |message: String, hint: Option<String>| {
        diagnostics.push(Diagnostic::error("unknown-type", kind.name.span.0.clone(), message).with_hint_if(hint));
    };
    let simple = ParameterType::simple(name);
    if simple.is_none() && !GENERIC.contains(&name) {
        let hint = suggester.hint(name, ParameterType::SIMPLE.into_iter().chain(GENERIC));
        refuse(format!("unknown parameter type {}", quoted(name)), hint);
        return None;
    }
    let wanted = usize::from(simple.is_none());
    if kind.arguments.len() != wanted {
        let hint = (wanted == 1).then(|| format!("write `{name}<any>`, or the type of its values"));
        let types = if wanted == 1 { "one type" } else { "no type" };
        refuse(format!("`{name}` takes {types} in `<>`, found {}", kind.arguments.len()), hint);
        return None;
    }
    match (simple, kind.arguments.first()) {
        (Some(simple), _) => Some(simple),
        (None, Some(item)) => {
            let item = Box::new(parameter_type(item, suggester, diagnostics)?);
            Some(if name == "list" { ParameterType::List(item) } else { ParameterType::Map(item) })
        }
        (None, None) => None,
    }
}
