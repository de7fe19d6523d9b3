//! Floor 1: the language. A schema's text, what it means, and what may be written under it.
//!
//! In the order of reading: what a schema is, how its text becomes one, and what is asked of it.

mod types;
mod plan;
mod climb;
mod index;
mod leads;
mod compile;
mod caveats;
mod partials;
mod typecheck;
mod cycles;
mod lint;
mod parser;
mod lexer;
mod ast;
mod print;
mod diagnostic;
mod admits;
mod beneath;
mod diff;
mod reflect;
mod imports;
#[cfg(test)]
mod worlds;

pub use admits::{Refusal, Side};
pub use beneath::{Pair, Unfrozen};
pub use climb::{Climb, Place, Probe, Step};
pub use compile::{Compiled, compile, digest};
pub use diagnostic::{Colour, Diagnostic, Severity, line_column};
pub use diff::{Change, diff, narrowed_caveats, new_parents, removed_forms};
pub use imports::{Composed, Loader, Placed, Source, compose};
pub use leads::{BackArrow, Leads};
pub use plan::{MemberPlan, Numbers, ParentLink, Plan, PlanExpr, RelationPlan, Targets, Unnumbered};
pub use print::format;
pub use reflect::MemberRef;
pub use types::{
    AllowedSubject, CaveatDefinition, Definition, Expr, Member, Permission, Quantifier, Relation, Schema, SubjectForm,
};
