//! What is allowed but probably not meant. Each has a name, and is silenced on a node by a comment above it:
//! `// procura-ignore: NAME`, or SpiceDB's `// spicedb-ignore-warning: NAME` with its name for the same.

use super::ast::{self, ExprKind, MemberKind, Operator};
use super::compile::Scopes;
use super::diagnostic::Diagnostic;
use super::print::print_expr;
use std::collections::HashSet;

/// Operators are mixed without parentheses, and bind in an order few expect.
const MIXED_OPERATORS: Lint = Lint { name: "mixed-operators", theirs: "mixed-operators-without-parentheses" };
/// Some or all types that an arrow reaches lack its target.
const ARROW_TARGET_MISSING: Lint =
    Lint { name: "arrow-target-missing", theirs: "arrow-references-unreachable-relation" };
/// An arrow starts at a relation that takes usersets, of which it sees the object only.
const ARROW_IGNORES_USERSET: Lint = Lint { name: "arrow-ignores-userset", theirs: "arrow-walks-subject-relation" };

struct Lint {
    name: &'static str,
    /// What SpiceDB calls it.
    theirs: &'static str,
}

/// Everything doubtful in a tree that compiles.
pub(super) fn lint(scopes: &Scopes<'_>) -> Vec<Diagnostic> {
    let mut warnings = Vec::new();
    for (index, scope) in scopes.definitions.iter().enumerate() {
        for member in &scope.block.members {
            let MemberKind::Permission { expr, .. } = &member.kind else {
                continue;
            };
            let ignored: HashSet<&str> = scope.trivia.ignored().chain(member.trivia.ignored()).collect();
            let mut linter = Linter { scopes, definition: index, ignored, warnings: Vec::new() };
            linter.expr(expr);
            warnings.append(&mut linter.warnings);
        }
    }
    warnings
}

struct Linter<'a, 's> {
    scopes: &'s Scopes<'a>,
    definition: usize,
    ignored: HashSet<&'s str>,
    warnings: Vec<Diagnostic>,
}

impl Linter<'_, '_> {
    fn warn(&mut self, lint: &Lint, expr: &ast::Expr, message: String, hint: Option<String>) {
        if !self.ignored.contains(lint.name) && !self.ignored.contains(lint.theirs) {
            self.warnings.push(Diagnostic::warning(lint.name, expr.span.0.clone(), message).with_hint_if(hint));
        }
    }

    /// Recursion is bounded by the parser.
    fn expr(&mut self, expr: &ast::Expr) {
        match &expr.kind {
            ExprKind::Nil | ExprKind::SelfSubject | ExprKind::Name(_) => {}
            ExprKind::Arrow { relation, target, .. } => self.arrow(expr, relation, target),
            ExprKind::Paren(inner) => self.expr(inner),
            ExprKind::Chain { operator, operands } => {
                if operands.iter().any(|operand| matches!(operand.kind, ExprKind::Chain { .. })) {
                    self.mixed(expr, *operator);
                }
                operands.iter().for_each(|operand| self.operand(operand));
            }
        }
    }

    /// An operand that is a chain was told of with the chain it stands in.
    fn operand(&mut self, operand: &ast::Expr) {
        match &operand.kind {
            ExprKind::Chain { operands, .. } => operands.iter().for_each(|inner| self.operand(inner)),
            ExprKind::Nil | ExprKind::SelfSubject | ExprKind::Name(_) | ExprKind::Arrow { .. } | ExprKind::Paren(_) => {
                self.expr(operand)
            }
        }
    }

    fn mixed(&mut self, expr: &ast::Expr, operator: Operator) {
        const SHOWN_BYTES_MAX: usize = 200;
        let message = match operator {
            Operator::Exclusion => "`-` is mixed with other operators, and binds loosest",
            Operator::Intersection | Operator::Union => "`&` is mixed with `+`, and `+` binds tighter",
        };
        let read = if expr.span.0.len() > SHOWN_BYTES_MAX {
            "write parentheses to say what is meant".to_owned()
        } else {
            format!("it is read as `{}`; write the parentheses that are meant", print_expr(&parenthesised(expr)))
        };
        self.warn(&MIXED_OPERATORS, expr, message.to_owned(), Some(read));
    }

    fn arrow(&mut self, expr: &ast::Expr, relation: &ast::Name, target: &ast::Name) {
        let scopes = self.scopes;
        let Some(reach) = scopes.reach(self.definition, &relation.text) else {
            return;
        };
        let present = scopes.targets(self.definition, &relation.text, &target.text);
        // The first that is missing is found after at most one more than are present.
        let present: HashSet<usize> = present.into_iter().collect();
        let missing = reach.definitions.iter().find(|index| !present.contains(index));
        if let Some(missing) = missing.and_then(|index| scopes.definitions.get(*index)) {
            let message = if present.is_empty() {
                format!("no type of relation `{}` has `{}`: this is always empty", relation.text, target.text)
            } else {
                let missing = &missing.block.name.text;
                format!("type `{missing}` of relation `{}` has no `{}`", relation.text, target.text)
            };
            self.warn(&ARROW_TARGET_MISSING, expr, message, None);
        }
        let userset = reach.usersets.iter().flatten().find(|(_, name)| name.text != target.text);
        if let Some((subject_type, name)) = userset {
            let (subject_type, name) = (&subject_type.text, &name.text);
            let message = format!(
                "relation `{}` takes `{subject_type}#{name}`, of which this arrow visits the `{subject_type}` alone",
                relation.text
            );
            self.warn(&ARROW_IGNORES_USERSET, expr, message, None);
        }
    }
}

/// The same expression with parentheses around every chain within a chain. Recursion is bounded by the parser.
fn parenthesised(expr: &ast::Expr) -> ast::Expr {
    let kind = match &expr.kind {
        ExprKind::Chain { operator, operands } => {
            let operands = operands.iter().map(|operand| {
                let inner = parenthesised(operand);
                if !matches!(inner.kind, ExprKind::Chain { .. }) {
                    return inner;
                }
                let span = inner.span.clone();
                ast::Expr { comments: Vec::new(), kind: ExprKind::Paren(Box::new(inner)), span }
            });
            ExprKind::Chain { operator: *operator, operands: operands.collect() }
        }
        ExprKind::Paren(inner) => ExprKind::Paren(Box::new(parenthesised(inner))),
        ExprKind::Nil | ExprKind::SelfSubject | ExprKind::Name(_) | ExprKind::Arrow { .. } => expr.kind.clone(),
    };
    ast::Expr { comments: Vec::new(), kind, span: expr.span.clone() }
}
