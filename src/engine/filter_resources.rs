//! FilterResources: on which of these objects of one type does a subject have a permission?
//!
//! INVARIANT: of each id it says what Check says at the same revision and clock reading. What was found for one id is kept
//! for the next, and decides nothing that Check would not. An id that cannot be answered has an error of its own.

use super::acting::{Authority, Keep, judge_acting};
use super::check::decided;
use super::effect::{Here, Judged};
use super::resolve::{Resolver, Transient};
use super::situation::{Situation, Standing};
use super::{Engine, Error, Kind, refuse_cancelled};
use crate::model::{
    Acting, Cancel, Decision, MemberNum, ObjectId, ObjectRef, RelationName, Revision, SubjectRef, TypeName, TypeNum,
};
use crate::walk::{Budget, Node};

/// What is asked of which ids.
#[derive(Debug, Clone)]
pub struct FilterResources {
    pub object_type: TypeName,
    /// A permission or relation of the type.
    pub permission: RelationName,
    /// Never a wildcard.
    pub subject: SubjectRef,
    /// For whom the subject asks.
    pub acting: Acting,
    /// Any of the type, whether a tuple names them or not.
    pub ids: Vec<ObjectId>,
    pub situation: Situation,
}

/// The answers in columns, all at one revision.
#[derive(Debug, Clone)]
pub struct Filtered {
    /// In the order of the ids and as many; `None` where `errors` says why there is none.
    pub decisions: Vec<Option<Decision>>,
    /// Of each conditional decision, in order: its place among the ids, and the context fields that could still decide it.
    pub missing: Vec<(usize, Vec<String>)>,
    /// In order: the place among the ids, and why it has no decision.
    pub errors: Vec<(usize, Error)>,
    pub revision: Revision,
    /// Asked for by an exact token, and not the newest revision.
    pub historical: bool,
}

/// What is said of one id: the decision, and of a conditional one the context fields that could still decide it.
type Said = Result<(Decision, Vec<String>), Error>;

impl Engine {
    /// Answers for each id. The work is bounded for each by itself, as one question's is.
    pub fn filter_resources(&self, request: &FilterResources, cancel: &Cancel) -> Result<Filtered, Error> {
        let FilterResources { object_type, permission, subject, acting, ids, situation } = request;
        let most = self.limits.filter_ids_max;
        if ids.len() > most {
            let message = format!("{} ids; one call takes at most {most}", ids.len());
            let error = Error::new(Kind::ResourceExhausted, "TOO_MANY_ITEMS", message);
            return Err(error.with_fact("field", "ids").with_fact("limit", most.to_string()));
        }
        judge_acting(acting, situation)?;
        let standing = self.stand(situation, cancel)?;
        let mut resolver = Resolver::again(&self.store, &standing.in_force, &standing.transient);
        let (of, member) = resolver.asked_member(object_type, "object_type", permission, "permission")?;
        let mut budget = Budget::new(&self.limits, cancel.clone());
        let keeping = (&situation.context, Keep::Answers);
        let authority = Authority::of(&standing, &mut resolver, (subject, acting), keeping, &mut budget)?;
        let mut filter = Filter {
            engine: self,
            request,
            standing: &standing,
            of,
            member,
            authority,
            named: resolver.into_transient(),
            stranger: None,
            edges_kept: budget.edges(),
        };
        let mut filtered = Filtered {
            decisions: Vec::with_capacity(ids.len()),
            missing: Vec::new(),
            errors: Vec::new(),
            revision: standing.revision(),
            historical: standing.historical,
        };
        filter.all(cancel, &mut filtered)?;
        Ok(filtered)
    }
}

/// One request under way.
struct Filter<'a> {
    engine: &'a Engine,
    request: &'a FilterResources,
    standing: &'a Standing,
    of: TypeNum,
    member: MemberNum,
    authority: Authority,
    /// Numbers of ids that the request names elsewhere, or a chain does.
    named: Transient,
    /// What was said of an id that nothing mentions: the same of all.
    stranger: Option<Said>,
    /// Work whose findings are kept.
    edges_kept: u64,
}

impl Filter<'_> {
    fn all(&mut self, cancel: &Cancel, filtered: &mut Filtered) -> Result<(), Error> {
        let (request, standing) = (self.request, self.standing);
        let named = self.named.clone();
        let resolver = Resolver::again(&self.engine.store, &standing.in_force, &named);
        for (at, id) in request.ids.iter().enumerate() {
            refuse_cancelled(cancel)?;
            let said = match resolver.number_of(self.of, id) {
                Ok(Some(number)) => self.ask(&resolver, Node { member: self.member, object: number }, cancel),
                Ok(None) => self.ask_stranger(id, cancel),
                Err(error) => Err(error),
            };
            let decision = match said {
                Ok((decision, missing)) => {
                    if decision == Decision::Conditional {
                        filtered.missing.push((at, missing));
                    }
                    Some(decision)
                }
                Err(error) => {
                    filtered.errors.push((at, error));
                    None
                }
            };
            filtered.decisions.push(decision);
        }
        Ok(())
    }

    fn ask(&mut self, resolver: &Resolver<'_>, node: Node, cancel: &Cancel) -> Said {
        let Standing { in_force, view, newest: _, historical: _, transient: _ } = self.standing;
        let here = Here { in_force, view, resolver, context: &self.request.situation.context };
        let mut budget = Budget::new(&self.engine.limits, cancel.clone());
        let judged = self.authority.judge(here, node, &mut budget, false);
        self.edges_kept = self.edges_kept.saturating_add(budget.edges());
        if self.edges_kept > self.engine.limits.edges_max {
            // What is kept takes no more memory than one question may.
            self.authority.forget();
            self.edges_kept = 0;
        }
        let Judged { membership, missing, valid_until: _, denial: _, by: _, trail: _ } = judged?;
        Ok((decided(membership), missing))
    }

    /// No row names such an id, so they may all have one number. Only the scope of a delegation can tell them apart, which
    /// goes by names where it is about one that nothing mentions.
    fn ask_stranger(&mut self, id: &ObjectId, cancel: &Cancel) -> Said {
        let object = ObjectRef { object_type: self.request.object_type.clone(), id: id.clone() };
        let is_anchor = self.authority.anchors.contains_key(&object);
        if !is_anchor && let Some(said) = &self.stranger {
            return said.clone();
        }
        let named = self.named.clone();
        let mut resolver = Resolver::again(&self.engine.store, &self.standing.in_force, &named);
        let node = resolver.node_of(self.of, self.member, id)?;
        let said = self.ask(&resolver, node, cancel);
        if !is_anchor {
            self.stranger = Some(said.clone());
        }
        said
    }
}
