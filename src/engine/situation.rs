//! Under which circumstances? What every question shares: at which revision, by which clock, under which facts, and with
//! which tuples laid over the state.
//!
//! INVARIANT: a request stands at one revision and one clock reading, under one schema. What it lays over them is judged
//! as a write would be, seen by this request alone, and gone with its answer.

use super::resolve::{Resolver, Transient, refused};
use super::schemas::{InForce, no_schema};
use super::{Engine, Error, Kind};
use crate::condition;
use crate::graph::{Laid, Reach, RowCaveat, RowValue, View};
use crate::model::{
    CONTEXT_DEPTH_MAX, Cancel, Consistency, Context, REQUEST_CONTEXT_BYTES_MAX, RelationTuple, Revision, Timestamp,
};
use crate::store::Snapshot;
use crate::walk::{Budget, ancestors};
use hashbrown::HashSet;
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::sync::Arc;

/// What every question is asked under.
#[derive(Clone, Debug, Default)]
pub struct Situation {
    pub consistency: Consistency,
    /// Values for the parameters of caveats; a value stored on a tuple wins over one of the same name.
    pub context: Context,
    /// Tuples that count for this request as if they had been written, each over a stored one of the same key.
    pub contextual_tuples: Vec<RelationTuple>,
    /// The time by which expiry is judged, instead of the clock's. Refused unless the engine has a test clock.
    pub clock: Option<Timestamp>,
}

/// Where a request stands.
pub(super) struct Standing {
    pub(super) in_force: Arc<InForce>,
    pub(super) view: View,
    /// The newest state, which alone says who is suspended.
    pub(super) newest: Arc<Snapshot>,
    /// Asked for by an exact token, and not the newest revision.
    pub(super) historical: bool,
    /// Numbers of ids that only the request names.
    pub(super) transient: Transient,
}

impl Standing {
    /// The revision that is asked.
    pub(super) fn revision(&self) -> Revision {
        self.view.snapshot().revision()
    }
}

impl Situation {
    /// The newest revision, nothing given.
    #[must_use]
    pub fn at(consistency: Consistency) -> Situation {
        Situation { consistency, ..Situation::default() }
    }

    /// What a cursor must be resumed under: text that differs where the facts do. The revision and the time go on.
    pub(super) fn scope(&self) -> String {
        let Situation { consistency: _, context, contextual_tuples, clock: _ } = self;
        let mut scope = String::new();
        if !context.is_empty() {
            // Writing to a string cannot fail.
            let _ = write!(scope, " with {}", serde_json::Value::Object(context.clone()));
        }
        let mut tuples: Vec<String> = contextual_tuples.iter().map(ToString::to_string).collect();
        tuples.sort_unstable();
        for tuple in tuples {
            let _ = write!(scope, " and {tuple}");
        }
        scope
    }
}

impl Engine {
    /// The same as `stand` for who must not wait, with nothing laid over the state. `None` where the schema is not at hand.
    pub(super) fn stand_at_once(&self, situation: &Situation, cancel: &Cancel) -> Option<Result<Standing, Error>> {
        let is_older = match situation.consistency {
            Consistency::Newest | Consistency::AtLeastAsFresh(_) => false,
            // Its schema may have to be compiled.
            Consistency::AtExactSnapshot(_) => true,
        };
        if is_older || !self.schemas.has_newest(&self.store.published()) {
            return None;
        }
        let standing = self.stand(situation, cancel);
        Some(standing.map(|standing| Standing { view: standing.view.reaching(Reach::Memory), ..standing }))
    }

    /// Takes the state, the clock reading and the schema a request is answered at, once.
    pub(super) fn stand(&self, situation: &Situation, cancel: &Cancel) -> Result<Standing, Error> {
        let Situation { consistency, context, contextual_tuples, clock } = situation;
        judge_context(context)?;
        // Before the schema: who sets a time that may not be set is told so by an empty server too.
        let now = self.now(*clock)?;
        let pinned = self.pin(consistency)?;
        let in_force = self.schemas.of(&self.store, &pinned.snapshot, &self.limits)?.ok_or_else(no_schema)?;
        let view = View::new(pinned.snapshot, Some(self.residency.resident().clone()), now);
        let (historical, newest) = (pinned.historical, pinned.newest);
        if contextual_tuples.is_empty() {
            return Ok(Standing { in_force, view, newest, historical, transient: Transient::new() });
        }
        let (laid, transient) = self.lay(&in_force, contextual_tuples)?;
        let view = view.under(laid);
        let standing = Standing { in_force, view, newest, historical, transient };
        self.refuse_parent_cycles(&standing, contextual_tuples, cancel)?;
        Ok(standing)
    }

    /// No object may be its own ancestor, here as in a write.
    fn refuse_parent_cycles(
        &self,
        standing: &Standing,
        tuples: &[RelationTuple],
        cancel: &Cancel,
    ) -> Result<(), Error> {
        let Standing { in_force, view, newest: _, historical: _, transient } = standing;
        let mut resolver = Resolver::again(&self.store, in_force, transient);
        let mut budget = Budget::new(&self.limits, cancel.clone());
        for (index, tuple) in tuples.iter().enumerate() {
            let row = resolver.row_key(&tuple.key)?;
            if !in_force.parents.contains(&row.relation) {
                continue;
            }
            let child = (in_force.names.member(row.relation)?.of, row.object);
            let parent = (in_force.names.member(row.subject.member)?.of, row.subject.object);
            let found = ancestors(&in_force.plan, view, parent, &mut budget, |of, object| {
                if (of, object) == child { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            if found.is_break() {
                let field = format!("contextual_tuples[{index}]");
                let message = format!("{field}: `{}` would make `{}` its own ancestor", tuple.key, tuple.key.object);
                let error = Error::new(Kind::FailedPrecondition, "PARENT_CYCLE", message);
                return Err(error.with_fact("field", field).with_fact("value", tuple.key.to_string()));
            }
        }
        Ok(())
    }

    /// The rows of contextual tuples, judged like a write of them.
    fn lay(&self, in_force: &InForce, tuples: &[RelationTuple]) -> Result<(Laid, Transient), Error> {
        let most = self.limits.contextual_tuples_max;
        if tuples.len() > most {
            let message = format!("{} contextual tuples; one request takes at most {most}", tuples.len());
            return Err(Error::new(Kind::ResourceExhausted, "LIMIT_EXCEEDED", message)
                .with_fact("field", "contextual_tuples")
                .with_fact("limit", "contextual_tuples_max")
                .with_fact("max", most.to_string()));
        }
        let mut seen = HashSet::new();
        for (index, tuple) in tuples.iter().enumerate() {
            let field = format!("contextual_tuples[{index}]");
            if !seen.insert(&tuple.key) {
                let message = format!("{field}: `{}` stands in this request already", tuple.key);
                let error = Error::new(Kind::InvalidArgument, "DUPLICATE_TUPLE", message);
                return Err(error.with_fact("field", field).with_fact("value", tuple.key.to_string()));
            }
            in_force.schema.admits(tuple).map_err(|refusal| refused(&refusal, field))?;
        }
        // In the order of their keys, so that the same tuples get the same numbers in the next request.
        let mut sorted: Vec<&RelationTuple> = tuples.iter().collect();
        sorted.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        let mut resolver = Resolver::new(&self.store, in_force);
        let mut laid = Laid::default();
        for tuple in sorted {
            let key = resolver.row_key(&tuple.key)?;
            let caveat = match &tuple.caveat {
                None => None,
                Some(caveat) => Some(RowCaveat {
                    caveat: resolver.caveat(&caveat.name)?,
                    context: if caveat.context.is_empty() {
                        Box::default()
                    } else {
                        serde_json::Value::Object(caveat.context.clone()).to_string().into_bytes().into()
                    },
                }),
            };
            laid.put(key, RowValue { caveat, expires_at: tuple.expires_at });
        }
        Ok((laid, resolver.into_transient()))
    }
}

/// Whether a request's context is within its bounds. Depth first: the size is found by walking all of it.
fn judge_context(context: &Context) -> Result<(), Error> {
    let beyond = |message: String, limit: &'static str, max: usize| {
        Error::invalid("context", "", message).with_fact("limit", limit).with_fact("max", max.to_string())
    };
    if !condition::is_shallow(context) {
        let message = format!("nested more than {CONTEXT_DEPTH_MAX} deep");
        return Err(beyond(message, "context_depth_max", CONTEXT_DEPTH_MAX));
    }
    let (bytes, most) = (condition::context_bytes(context), REQUEST_CONTEXT_BYTES_MAX);
    if bytes > most {
        let message = format!("{bytes} bytes as JSON; at most {most} are allowed");
        return Err(beyond(message, "context_bytes_max", most));
    }
    Ok(())
}
