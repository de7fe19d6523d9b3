//! What the issuer of a delegation probably did not mean: a scope wider than the parent's or than what the delegator has,
//! an end or a budget that was clamped.
//!
//! INVARIANT: it warns, and decides nothing about any check. Where it cannot tell within its budget it says so, and who is
//! strict is refused.

use super::resolve::Resolver;
use super::situation::Standing;
use super::{CreateDelegation, Engine, Error, Kind};
use crate::delegation::{Chain, wider_items};
use crate::model::{
    Cancel, Clause, Context, Delegation, Limits, Membership, ObjectRef, RelationName, ScopeItem, SubjectRef, TypeName,
    TypeNum,
};
use crate::schema::Side;
use crate::walk::{Asker, Beneath, Budget, resources_reached, subtree};
use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;

/// Said with a delegation that is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelegationWarning {
    pub kind: WarningKind,
    /// Of the request, such as `items[2]`.
    pub field: String,
    pub message: String,
    /// What to do about it.
    pub hint: &'static str,
}

/// What a warning is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WarningKind {
    /// The item covers something that the parent, or one further up, does not.
    WiderThanParent,
    /// The item covers something that the delegator itself does not have now.
    MoreThanDelegatorHas,
    /// Whether it covers more than the parent does, or the delegator has, cannot be told within the budget.
    NotAllLookedAt,
    /// The parent ends before what was asked for.
    ExpiryClamped,
    /// The parent may be delegated on less often than was asked for.
    BudgetClamped,
}

impl WarningKind {
    /// The word used on the wire, in logs and in files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            WarningKind::WiderThanParent => "WIDER_THAN_PARENT",
            WarningKind::MoreThanDelegatorHas => "MORE_THAN_DELEGATOR_HAS",
            WarningKind::NotAllLookedAt => "NOT_ALL_LOOKED_AT",
            WarningKind::ExpiryClamped => "EXPIRY_CLAMPED",
            WarningKind::BudgetClamped => "BUDGET_CLAMPED",
        }
    }

    /// Whether a request that is `strict` is refused for it.
    #[must_use]
    pub fn is_over_broad(self) -> bool {
        match self {
            WarningKind::WiderThanParent | WarningKind::MoreThanDelegatorHas | WarningKind::NotAllLookedAt => true,
            WarningKind::ExpiryClamped | WarningKind::BudgetClamped => false,
        }
    }
}

/// Most pairs that one warning names; the others are counted.
const NAMED_MAX: usize = 5;

type Object = (TypeNum, crate::model::ObjectNum);

impl Engine {
    /// The warnings about a record that was asked for so, item by item. `chain` is its parent's.
    pub(super) fn warnings(
        &self,
        standing: &Standing,
        request: &CreateDelegation,
        record: &Delegation,
        chain: Option<&Chain>,
        cancel: &Cancel,
    ) -> Result<Vec<DelegationWarning>, Error> {
        let mut warnings = Vec::new();
        // The first clause is what was asked for; later ones are narrowings.
        let Some(clause) = record.clauses.first() else { return Ok(warnings) };
        let edges_max = self.limits.edges_max.min(self.limits.over_broad_edges_max);
        let limits = Limits { edges_max, ..self.limits.clone() };
        // Where it first could not tell.
        let mut untold: Option<String> = None;
        let mut look = Look {
            standing,
            resolver: Resolver::again(&self.store, &standing.in_force, &standing.transient),
            budget: Budget::new(&limits, cancel.clone()),
            beneath: HashMap::new(),
            types_beneath: HashMap::new(),
        };
        if let Some(chain) = chain {
            let above: Vec<Clause> = chain.delegations().flat_map(|link| &link.clauses).cloned().collect();
            let wider = wider_items(clause, &above, |object, anchor| look.is_within(object, anchor));
            let wider = told_or_nothing(wider)?;
            if wider.is_none() {
                untold = Some("items".to_owned());
            }
            for index in wider.unwrap_or_default() {
                warnings.push(DelegationWarning {
                    kind: WarningKind::WiderThanParent,
                    field: format!("items[{index}]"),
                    message: "covers something that its parent, or a delegation further up, does not".to_owned(),
                    hint: "name only what the parent covers; the rest will be denied at each use",
                });
            }
        }
        for (index, item) in clause.items.iter().enumerate() {
            let (message, all_told) = look.more_than_it_has(&record.delegator, item)?;
            if !all_told {
                untold.get_or_insert_with(|| format!("items[{index}]"));
            }
            if let Some(message) = message {
                warnings.push(DelegationWarning {
                    kind: WarningKind::MoreThanDelegatorHas,
                    field: format!("items[{index}]"),
                    message,
                    hint: "leave it out; it is denied now, and would be covered as soon as the delegator gains it",
                });
            }
        }
        if let Some(field) = untold {
            warnings.push(DelegationWarning {
                kind: WarningKind::NotAllLookedAt,
                field,
                message: format!("cannot tell within {edges_max} edges whether more is covered than the giver has"),
                hint: "name objects further down, or fewer; what the giver lacks is denied at each use",
            });
        }
        warnings.extend(clamped(request, record));
        Ok(warnings)
    }
}

fn clamped(request: &CreateDelegation, record: &Delegation) -> Vec<DelegationWarning> {
    let mut warnings = Vec::new();
    let asked = request.end.of(record.not_before, record.created_at);
    if record.parent.is_some() && record.expires_at < asked {
        warnings.push(DelegationWarning {
            kind: WarningKind::ExpiryClamped,
            field: request.end.field().to_owned(),
            message: format!("ends at {} and not at {asked}: no later than its parent", record.expires_at),
            hint: "a delegation never outlives its parent; have the parent's root delegate for longer",
        });
    }
    if record.redelegate < request.redelegate {
        warnings.push(DelegationWarning {
            kind: WarningKind::BudgetClamped,
            field: "redelegate".to_owned(),
            message: format!(
                "{} may follow it and not {}: one less than its parent",
                record.redelegate, request.redelegate
            ),
            hint: "whoever gives the parent says with `redelegate` how many may follow",
        });
    }
    warnings
}

/// What was found, or nothing where the budget did not suffice to find it.
fn told_or_nothing<T>(found: Result<T, Error>) -> Result<Option<T>, Error> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind == Kind::ResourceExhausted => Ok(None),
        Err(error) => Err(error),
    }
}

/// What is looked through for the warnings of one request, within one budget.
struct Look<'a> {
    standing: &'a Standing,
    resolver: Resolver<'a>,
    budget: Budget,
    beneath: HashMap<Object, Beneath>,
    types_beneath: HashMap<Object, BTreeSet<TypeNum>>,
}

impl Look<'_> {
    /// In numbers, if the schema still has its type.
    fn object(&mut self, object: &ObjectRef) -> Result<Option<Object>, Error> {
        if self.standing.in_force.schema.resolve_type(Side::Object, &object.object_type).is_err() {
            return Ok(None);
        }
        self.resolver.object(object, "within").map(Some)
    }

    /// Whether an object is the anchor or beneath it now.
    fn is_within(&mut self, object: &ObjectRef, anchor: &ObjectRef) -> Result<bool, Error> {
        if object == anchor {
            return Ok(true);
        }
        match (self.object(object)?, self.object(anchor)?) {
            (Some(object), Some(anchor)) => self.has(anchor, object),
            (None, _) | (_, None) => Ok(false),
        }
    }

    fn has(&mut self, anchor: Object, object: Object) -> Result<bool, Error> {
        let Standing { in_force, view, newest: _, historical: _, transient: _ } = self.standing;
        let beneath = self.beneath.entry(anchor).or_insert_with(|| Beneath::of(anchor));
        Ok(beneath.has(&in_force.plan, view, object, &mut self.budget)?)
    }

    /// Whether anything of a type is at or beneath the anchor now.
    fn any_beneath(&mut self, anchor: Object, of: TypeNum) -> Result<bool, Error> {
        let Standing { in_force, view, newest: _, historical: _, transient: _ } = self.standing;
        if !self.types_beneath.contains_key(&anchor) {
            let mut types = BTreeSet::new();
            let walked = subtree(&in_force.plan, view, anchor, &mut self.budget, |of, _| {
                types.insert(of);
                ControlFlow::Continue(())
            })?;
            debug_assert!(walked.is_continue());
            self.types_beneath.insert(anchor, types);
        }
        Ok(self.types_beneath.get(&anchor).is_some_and(|types| types.contains(&of)))
    }

    /// What an item covers and its delegator has not, as a sentence; `None` when nothing of that kind is found. And whether
    /// the budget sufficed to look at all.
    fn more_than_it_has(&mut self, delegator: &ObjectRef, item: &ScopeItem) -> Result<(Option<String>, bool), Error> {
        if self.standing.view.snapshot().is_suspended(delegator)? {
            return Ok((Some(format!("`{delegator}` is suspended, so it has nothing to delegate now")), true));
        }
        let mut lacking = Vec::new();
        // What was found before the budget was spent is so all the same.
        let all_told = told_or_nothing(self.lacking(delegator, item, &mut lacking))?.is_some();
        if lacking.is_empty() {
            return Ok((None, all_told));
        }
        let more = match lacking.len().saturating_sub(NAMED_MAX) {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        lacking.truncate(NAMED_MAX);
        Ok((Some(format!("`{delegator}` itself does not have {}{more} now", lacking.join(", "))), all_told))
    }

    fn lacking(&mut self, delegator: &ObjectRef, item: &ScopeItem, lacking: &mut Vec<String>) -> Result<(), Error> {
        let in_force = &self.standing.in_force;
        let subject = self.resolver.asked_subject(&SubjectRef::Object(delegator.clone()))?;
        let mut asker = Asker::new(subject, Context::new());
        for anchor in &item.within {
            let Some(placed) = self.object(anchor)? else { continue };
            let covered = in_force.schema.at_or_beneath(&[&anchor.object_type]);
            for (of, name) in &item.frozen {
                // A pair that the schema lacks by now matches nothing.
                if in_force.schema.resolve_member(of, name).is_err() {
                    continue;
                }
                if *of == anchor.object_type {
                    let node = self.resolver.asked_node(anchor, name)?;
                    if self.denies(&mut asker, node)? {
                        lacking.push(format!("`{of}#{name}` on `{anchor}`"));
                    }
                } else if covered.iter().any(|definition| definition.name == *of)
                    && self.has_nowhere(&mut asker, subject, placed, (of, name))?
                {
                    lacking.push(format!("`{of}#{name}` on anything beneath `{anchor}`"));
                }
            }
        }
        Ok(())
    }

    /// Whether the answer is a plain Deny. One that cannot be worked out is none.
    fn denies(&mut self, asker: &mut Asker, node: crate::walk::Node) -> Result<bool, Error> {
        let Standing { in_force, view, newest: _, historical: _, transient: _ } = self.standing;
        match asker.ask(&in_force.plan, view, node, &mut self.budget) {
            Ok(membership) => Ok(membership == Membership::Not),
            Err(crate::walk::Error::CaveatFailed { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether there are objects of the type beneath the anchor, and the permission is denied on each of them.
    fn has_nowhere(
        &mut self,
        asker: &mut Asker,
        subject: crate::graph::SubjectKey,
        anchor: Object,
        (of, name): (&TypeName, &RelationName),
    ) -> Result<bool, Error> {
        let Standing { in_force, view, newest: _, historical: _, transient: _ } = self.standing;
        let (of, member) = self.resolver.asked_member(of, "within", name, "permissions")?;
        let mut reached = resources_reached(&in_force.plan, view, member, subject, None, &mut self.budget)?;
        while let Some(object) = reached.next(view, &mut self.budget)? {
            let node = crate::walk::Node { member, object };
            if self.has(anchor, (of, object))? && !self.denies(asker, node)? {
                return Ok(false);
            }
        }
        self.any_beneath(anchor, of)
    }
}
