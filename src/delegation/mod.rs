//! Floor 1: the law of acting for another, pure: what a scope covers, what makes a chain, what may be granted.
//!
//! INVARIANT: nothing here looks anything up. Ancestors, values of caveats and memberships are handed in by the caller,
//! and a fault of theirs is passed on, never read as an answer.

mod scope;
mod chain;
mod grant;
mod narrowing;
mod wider;
#[cfg(test)]
mod samples;

pub use chain::{Broken, Chain, Link, denied_by};
pub use grant::{Grant, GrantLimits, Parent, Refusal, judge_record};
pub use narrowing::Narrowing;
pub use scope::{ItemAt, Scoped, scope};
pub use wider::wider_items;
