//! Floor 1: the language. A schema's text, what it means, and what may be written under it.
//!
//! In the order of reading: what a schema is, how its text becomes one, and what is asked of it.

mod types;
mod plan;
mod compile;
mod cycles;
mod lint;
mod parser;
mod lexer;
mod ast;
mod print;
mod diagnostic;
mod admits;
mod diff;
#[cfg(test)]
mod worlds;

pub use admits::{Refusal, Side};
pub use compile::{Compiled, compile};
pub use diagnostic::{Colour, Diagnostic, Severity, line_column};
pub use diff::{Change, diff, removed_forms};
pub use plan::{MemberPlan, Numbers, Plan, PlanExpr, RelationPlan, Targets, Unnumbered};
pub use print::format;
pub use types::{AllowedSubject, Definition, Expr, Member, Permission, Quantifier, Relation, Schema, SubjectForm};
