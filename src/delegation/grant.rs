//! May this delegation be made, and what is stored then?
//!
//! INVARIANT: when it is made, a child ends no later than its parent and may be delegated on less often; a parent that is
//! narrowed afterwards may end before it, which each use sees. A refusal comes out of a closed list, the first that applies
//! in its order. Authority is not judged here: it is the intersection at each use.

use super::Chain;
use crate::model::{
    AskedPermissions, Clause, Context, Delegation, DelegationId, DelegationState, Membership, ObjectRef,
    PermissionName, RefusalReason, ScopeItem, SubjectRef, Timestamp,
};
use std::collections::HashSet;
use std::time::Duration;

/// What is asked for. The delegate is no wildcard, and each item's permissions are frozen already.
#[derive(Clone, PartialEq, Debug)]
pub struct Grant {
    /// Drawn anew, never one that was used.
    pub id: DelegationId,
    pub delegator: ObjectRef,
    pub delegate: SubjectRef,
    pub items: Vec<ScopeItem>,
    pub not_before: Timestamp,
    pub expires_at: Timestamp,
    /// How many further delegations may follow one another below it.
    pub redelegate: u32,
    pub purpose: String,
    pub issued_by: String,
    pub metadata: Context,
}

/// By what the delegator acts for another.
#[derive(Clone, Copy, Debug)]
pub struct Parent<'a> {
    /// Of the parent.
    pub chain: &'a Chain,
    /// Whether the delegator is the parent's delegate, or in it, now.
    pub membership: Membership,
}

/// What bounds every delegation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GrantLimits {
    /// Most delegations in a chain.
    pub depth_max: u32,
    /// The longest from its creation to its end; `None`: as long as there is time.
    pub lifetime_max: Option<Duration>,
}

impl Default for GrantLimits {
    fn default() -> GrantLimits {
        GrantLimits { depth_max: 5, lifetime_max: Some(Duration::from_secs(30 * 24 * 60 * 60)) }
    }
}

/// Why not, and about what.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Refusal {
    pub reason: RefusalReason,
    /// Of the request, such as `items[2].within`.
    pub field: String,
    /// What stood there.
    pub value: String,
    pub message: String,
    /// What would probably mend it.
    pub hint: Option<&'static str>,
}

impl Refusal {
    /// For this reason, about a field.
    #[must_use]
    pub fn new(
        reason: RefusalReason,
        field: impl Into<String>,
        value: impl ToString,
        message: impl Into<String>,
    ) -> Refusal {
        Refusal { reason, field: field.into(), value: value.to_string(), message: message.into(), hint: None }
    }

    /// Adds what would probably mend it.
    #[must_use]
    pub fn with_hint(self, hint: &'static str) -> Refusal {
        Refusal { hint: Some(hint), ..self }
    }
}

impl Grant {
    /// The record to be stored, or the refusal. The commit gives it its number.
    pub fn judge(self, parent: Option<Parent<'_>>, now: Timestamp, limits: GrantLimits) -> Result<Delegation, Refusal> {
        let mut record = Delegation {
            id: self.id,
            number: 0,
            parent: parent.map(|parent| parent.chain.last().id),
            root: parent.map_or(&self.delegator, |parent| parent.chain.root()).clone(),
            delegator: self.delegator,
            delegate: self.delegate,
            clauses: Vec::new(),
            created_at: now,
            not_before: self.not_before,
            expires_at: self.expires_at,
            redelegate: self.redelegate,
            depth: parent.map_or(1, |parent| parent.chain.last().depth.saturating_add(1)),
            revoked: None,
            purpose: self.purpose,
            issued_by: self.issued_by,
            metadata: self.metadata,
            version: 0,
        };
        if let Some(parent) = &parent {
            refuse_cycle(&record, parent.chain)?;
        }
        if record.depth > limits.depth_max {
            let message =
                format!("the chain would have {} delegations; at most {} are allowed", record.depth, limits.depth_max);
            let value = record.parent.map(|id| id.to_string()).unwrap_or_default();
            return Err(Refusal::new(RefusalReason::TooDeep, "parent", value, message));
        }
        if let Some(parent) = &parent {
            record.redelegate = record.redelegate.min(budget_left(parent.chain.last())?);
            refuse_stranger(&record, parent)?;
            refuse_dead(parent.chain, now)?;
            record.expires_at = record.expires_at.min(parent.chain.last().expires_at);
        }
        refuse_bad_interval(&record)?;
        if record.expires_at <= now {
            let message = format!("it would end at {}, which is over already", record.expires_at);
            return Err(Refusal::new(RefusalReason::BadInterval, "expires_at", record.expires_at, message));
        }
        if let Some(most) = limits.lifetime_max
            && record.expires_at.since(now) > most
        {
            let message =
                format!("it would end more than {} after now, the longest that a delegation may last", told(most));
            return Err(Refusal::new(RefusalReason::BeyondMaxLifetime, "expires_at", record.expires_at, message)
                .with_hint("give an earlier end, and delegate again when it comes"));
        }
        record.clauses.push(clause_of(self.items)?);
        Ok(record)
    }
}

/// Whether a record that comes from elsewhere could have been made under its parent, its clauses in order. Who was a
/// delegate, and what was over, when it was made is not judged again: it may be over, or revoked. `now` is `None` under a
/// clock that may be set, by which nothing is too late.
pub fn judge_record(
    record: Delegation,
    parent: Option<&Chain>,
    limits: GrantLimits,
    now: Option<Timestamp>,
) -> Result<Delegation, Refusal> {
    if let Some(parent) = parent {
        refuse_cycle(&record, parent)?;
        let left = budget_left(parent.last())?;
        if record.redelegate > left {
            let message = format!("at most {left} may follow it under `{}`", parent.last().id);
            return Err(Refusal::new(RefusalReason::NoBudget, "redelegate", record.redelegate, message));
        }
    }
    if record.depth > limits.depth_max {
        let message = format!("its chain has {} delegations; at most {} are allowed", record.depth, limits.depth_max);
        return Err(Refusal::new(RefusalReason::TooDeep, "depth", record.depth, message));
    }
    refuse_bad_interval(&record)?;
    if let Some(now) = now.filter(|now| record.created_at > *now) {
        let message = format!("it was made at {}, and it is {now} now", record.created_at);
        return Err(Refusal::new(RefusalReason::BadInterval, "created_at", record.created_at, message)
            .with_hint("set the clock of this server, or of the one that made it"));
    }
    if let Some(parent) = parent {
        refuse_later_end(&record, parent)?;
    }
    if let Some(most) = limits.lifetime_max
        && record.expires_at.since(record.created_at) > most
    {
        let message =
            format!("it ends more than {} after its creation, the longest that a delegation may last", told(most));
        return Err(Refusal::new(RefusalReason::BeyondMaxLifetime, "expires_at", record.expires_at, message)
            .with_hint("let this server's delegations live as long as the other's"));
    }
    if record.clauses.is_empty() {
        return Err(Refusal::new(RefusalReason::EmptyScope, "clauses", "", "it would cover nothing"));
    }
    let mut clauses = Vec::with_capacity(record.clauses.len());
    for (index, clause) in record.clauses.into_iter().enumerate() {
        let judged = clause_of(clause.items).and_then(|clause| refuse_foreign_pairs(&clause).map(|()| clause));
        clauses.push(
            judged.map_err(|refusal| Refusal { field: format!("clauses[{index}].{}", refusal.field), ..refusal })?,
        );
    }
    Ok(Delegation { clauses, ..record })
}

/// Whoever was never narrowed still has the end under which its children were made.
fn refuse_later_end(record: &Delegation, parent: &Chain) -> Result<(), Refusal> {
    for above in parent.delegations() {
        let is_narrowed = above.version > u32::from(above.revoked.is_some());
        if !is_narrowed && record.expires_at > above.expires_at {
            let message = format!("it ends after `{}` above it, which ends at {}", above.id, above.expires_at);
            return Err(Refusal::new(RefusalReason::BadInterval, "expires_at", record.expires_at, message));
        }
    }
    Ok(())
}

/// Names freeze to pairs that carry one of them. What `all` was frozen to hangs on the schema of that day.
fn refuse_foreign_pairs(clause: &Clause) -> Result<(), Refusal> {
    for (index, ScopeItem { asked, frozen, within: _, caveat: _ }) in clause.items.iter().enumerate() {
        let AskedPermissions::Named(names) = asked else { continue };
        let names: HashSet<&PermissionName> = names.iter().collect();
        for (of, name) in frozen {
            let [anywhere, there] =
                [None, Some(of.clone())].map(|object_type| PermissionName { object_type, name: name.clone() });
            if !names.contains(&anywhere) && !names.contains(&there) {
                let message = format!("`{of}#{name}` has none of the names that were asked for");
                let field = format!("items[{index}].frozen");
                return Err(Refusal::new(RefusalReason::Widens, field, format!("{of}#{name}"), message));
            }
        }
    }
    Ok(())
}

/// In days where it is whole days, in seconds otherwise.
fn told(duration: Duration) -> String {
    const DAY: u64 = 24 * 60 * 60;
    match duration.as_secs() {
        seconds if seconds >= DAY && seconds % DAY == 0 => format!("{} days", seconds / DAY),
        seconds => format!("{seconds} s"),
    }
}

/// A delegate, as written, differs from all earlier delegators of its chain. Its own may narrow for itself.
fn refuse_cycle(record: &Delegation, parent: &Chain) -> Result<(), Refusal> {
    let SubjectRef::Object(delegate) = &record.delegate else { return Ok(()) };
    if *delegate != record.delegator && parent.delegators().any(|delegator| delegator == delegate) {
        let message = format!("`{delegate}` is a delegator earlier in the chain, so it would act for itself");
        return Err(Refusal::new(RefusalReason::Cycle, "delegate", delegate, message));
    }
    Ok(())
}

fn budget_left(parent: &Delegation) -> Result<u32, Refusal> {
    parent.redelegate.checked_sub(1).ok_or_else(|| {
        let message = format!("`{}` may not be delegated further", parent.id);
        Refusal::new(RefusalReason::NoBudget, "parent", parent.id, message)
            .with_hint("whoever gives the parent says with `redelegate` how many may follow")
    })
}

/// That somebody may be the delegate, given more context, is not enough.
fn refuse_stranger(record: &Delegation, parent: &Parent<'_>) -> Result<(), Refusal> {
    if parent.membership == Membership::Member {
        return Ok(());
    }
    let Delegation { id, delegate, .. } = parent.chain.last();
    let message = format!("`{}` is not `{delegate}` now, to whom `{id}` was given", record.delegator);
    Err(Refusal::new(RefusalReason::NotDelegateOfParent, "delegator", &record.delegator, message))
}

/// Under what is over nothing is given. What has not begun yet may be delegated on.
fn refuse_dead(parent: &Chain, now: Timestamp) -> Result<(), Refusal> {
    for delegation in parent.delegations() {
        let what = match delegation.state(now) {
            DelegationState::Live | DelegationState::NotYetValid => continue,
            DelegationState::Expired => "is expired",
            DelegationState::Revoked => "is revoked",
        };
        let message = format!("`{}` {what}", delegation.id);
        return Err(Refusal::new(RefusalReason::ParentNotLive, "parent", parent.last().id, message));
    }
    Ok(())
}

/// Of a child after its end is its parent's at the latest.
pub(super) fn refuse_bad_interval(record: &Delegation) -> Result<(), Refusal> {
    if record.not_before < record.expires_at {
        return Ok(());
    }
    let Delegation { not_before, expires_at, .. } = record;
    let message = format!("it would end at {expires_at}, which is not after {not_before}, when it would begin");
    Err(Refusal::new(RefusalReason::BadInterval, "expires_at", expires_at, message))
}

/// The items as a clause: names and anchors sorted, each once; no item twice.
pub(super) fn clause_of(mut items: Vec<ScopeItem>) -> Result<Clause, Refusal> {
    let empty = |field: String, what: &str| Err(Refusal::new(RefusalReason::EmptyScope, field, "", what));
    if items.is_empty() {
        return empty("items".to_owned(), "nothing would be covered; give at least one item");
    }
    for (index, ScopeItem { asked, frozen, within, caveat: _ }) in items.iter_mut().enumerate() {
        within.sort_unstable();
        within.dedup();
        if within.is_empty() {
            return empty(format!("items[{index}].within"), "give at least one object that it is within");
        }
        if let AskedPermissions::Named(names) = asked {
            names.sort_unstable();
            names.dedup();
            if names.is_empty() {
                return empty(format!("items[{index}].permissions"), "give at least one permission, or all");
            }
        }
        if frozen.is_empty() {
            let field = format!("items[{index}].permissions");
            return empty(field, "nothing at or beneath these objects has such a permission");
        }
    }
    for (index, item) in items.iter().enumerate() {
        if let Some(before) = items.iter().take(index).position(|other| other == item) {
            let message = format!("the same as items[{before}]");
            return Err(Refusal::new(RefusalReason::DuplicateItem, format!("items[{index}]"), "", message));
        }
    }
    Ok(Clause { items })
}

#[cfg(test)]
mod tests {
    use super::super::samples::{at, below, caveated, chain, first, id, item, object};
    use super::*;
    use crate::model::Revoked;

    fn grant(delegator: &str, delegate: &str) -> Grant {
        Grant {
            id: id(9),
            delegator: object(delegator),
            delegate: delegate.parse().unwrap(),
            items: vec![item(&["invoice#read"], &["invoice:9"])],
            not_before: at(100),
            expires_at: at(200),
            redelegate: 0,
            purpose: "to answer tickets".to_owned(),
            issued_by: "console".to_owned(),
            metadata: Context::new(),
        }
    }

    const DAY: i64 = 24 * 60 * 60;

    fn alone(grant: Grant) -> Result<Delegation, RefusalReason> {
        grant.judge(None, at(100), GrantLimits::default()).map_err(|refusal| refusal.reason)
    }

    fn under(grant: Grant, links: &[Delegation]) -> Result<Delegation, RefusalReason> {
        let chain = chain(links);
        let parent = Parent { chain: &chain, membership: Membership::Member };
        grant.judge(Some(parent), at(100), GrantLimits::default()).map_err(|refusal| refusal.reason)
    }

    #[test]
    fn the_first_of_a_chain_is_what_was_asked_for() {
        let asked = Grant { redelegate: 3, ..grant("user:rita", "group:bots#member") };
        let made = alone(asked.clone()).unwrap();
        assert_eq!((made.parent, made.depth, made.redelegate, made.version), (None, 1, 3, 0));
        assert_eq!((&made.root, &made.delegator), (&asked.delegator, &asked.delegator));
        assert_eq!((made.created_at, made.not_before, made.expires_at), (at(100), at(100), at(200)));
        assert_eq!(made.clauses, [Clause { items: asked.items }]);
        assert_eq!((made.delegate, made.purpose, made.issued_by), (asked.delegate, asked.purpose, asked.issued_by));
    }

    #[test]
    fn a_child_is_clamped_to_its_parent() {
        let parent = Delegation { expires_at: at(150), not_before: at(120), ..first(1, "user:rita", "agent:bot", 3) };
        let made =
            under(Grant { redelegate: 7, ..grant("agent:bot", "agent:sub") }, std::slice::from_ref(&parent)).unwrap();
        assert_eq!((made.parent, &made.root, made.depth), (Some(parent.id), &parent.root, 2));
        assert_eq!((made.expires_at, made.redelegate), (at(150), 2));
        // It may begin before its parent; the chain does not.
        assert_eq!(made.not_before, at(100));
        let parent = Delegation { redelegate: 1, ..parent };
        assert_eq!(under(Grant { redelegate: 7, ..grant("agent:bot", "agent:sub") }, &[parent]).unwrap().redelegate, 0);
    }

    #[test]
    fn a_record_from_elsewhere_is_one_that_could_have_been_made() {
        let parent = first(1, "user:rita", "agent:bot", 3);
        let above = chain(std::slice::from_ref(&parent));
        let made = under(Grant { redelegate: 2, ..grant("agent:bot", "agent:sub") }, &[parent]).unwrap();
        let judged = |record: Delegation| {
            judge_record(record, Some(&above), GrantLimits::default(), Some(at(100))).map_err(|refusal| refusal.reason)
        };
        assert_eq!(judged(made.clone()).as_ref(), Ok(&made));
        // It may be over.
        let over = Delegation { revoked: Some(Revoked { at: at(5), reason: String::new() }), ..made.clone() };
        assert_eq!(judged(over.clone()), Ok(over));
        assert_eq!(judged(Delegation { redelegate: 3, ..made.clone() }), Err(RefusalReason::NoBudget));
        assert_eq!(judged(Delegation { depth: 6, ..made.clone() }), Err(RefusalReason::TooDeep));
        assert_eq!(judged(Delegation { not_before: at(200), ..made.clone() }), Err(RefusalReason::BadInterval));
        assert_eq!(judged(Delegation { clauses: Vec::new(), ..made.clone() }), Err(RefusalReason::EmptyScope));
        let empty = Clause { items: Vec::new() };
        assert_eq!(judged(Delegation { clauses: vec![empty], ..made.clone() }), Err(RefusalReason::EmptyScope));
        assert_eq!(judged(Delegation { delegate: "user:rita".parse().unwrap(), ..made }), Err(RefusalReason::Cycle));
    }

    #[test]
    fn a_record_from_elsewhere_lives_and_covers_no_more_than_one_that_is_made() {
        let parent = Delegation { expires_at: at(500), ..first(1, "user:rita", "agent:bot", 3) };
        let made = under(grant("agent:bot", "agent:sub"), std::slice::from_ref(&parent)).unwrap();
        let below = |parent: &Delegation, record: &Delegation, now: Option<i64>| {
            let above = chain(std::slice::from_ref(parent));
            let judged = judge_record(record.clone(), Some(&above), GrantLimits::default(), now.map(at));
            judged.map(|_| ()).map_err(|refusal| (refusal.reason, refusal.field))
        };
        let refused = |reason, field: &str| Err((reason, field.to_owned()));
        // Made at 100, and no later than now, unless the clock may be set.
        assert_eq!(below(&parent, &made, Some(100)), Ok(()));
        assert_eq!(below(&parent, &made, Some(99)), refused(RefusalReason::BadInterval, "created_at"));
        assert_eq!(below(&parent, &made, None), Ok(()));
        // No later end than the parent's, as long as that is the one it was made with.
        let late = Delegation { expires_at: at(501), ..made.clone() };
        assert_eq!(below(&parent, &Delegation { expires_at: at(500), ..made.clone() }, Some(100)), Ok(()));
        assert_eq!(below(&parent, &late, Some(100)), refused(RefusalReason::BadInterval, "expires_at"));
        let revoked = Some(Revoked { at: at(5), reason: String::new() });
        let over = Delegation { revoked, version: 1, ..parent.clone() };
        assert_eq!(below(&over, &late, Some(100)), refused(RefusalReason::BadInterval, "expires_at"));
        assert_eq!(below(&Delegation { version: 1, ..parent.clone() }, &late, Some(100)), Ok(()));
        assert_eq!(below(&Delegation { version: 2, ..over }, &late, Some(100)), Ok(()));
        // No longer than any may live.
        let alone = |expires_at| {
            let record = Delegation { expires_at: at(expires_at), ..first(1, "user:rita", "agent:bot", 0) };
            judge_record(record, None, GrantLimits::default(), Some(at(100))).map_err(|refusal| refusal.reason)
        };
        assert!(alone(30 * DAY).is_ok());
        assert_eq!(alone(30 * DAY + 1), Err(RefusalReason::BeyondMaxLifetime));
        // Nothing but what was asked for.
        let frozen = |names: &[(Option<&str>, &str)]| {
            let name = |(of, name): &(Option<&str>, &str)| PermissionName {
                object_type: of.map(|of| of.parse().unwrap()),
                name: crate::model::RelationName::new(*name).unwrap(),
            };
            let asked = AskedPermissions::Named(names.iter().map(name).collect());
            let read = item(&["invoice#read"], &["invoice:9"]);
            let second = ScopeItem { asked, ..read.clone() };
            let clauses = vec![Clause { items: vec![read] }, Clause { items: vec![second] }];
            below(&parent, &Delegation { clauses, ..made.clone() }, Some(100))
        };
        assert_eq!(frozen(&[(None, "edit"), (None, "read")]), Ok(()));
        assert_eq!(frozen(&[(Some("invoice"), "read")]), Ok(()));
        let widens = refused(RefusalReason::Widens, "clauses[1].items[0].frozen");
        assert_eq!(frozen(&[(None, "edit")]), widens);
        assert_eq!(frozen(&[(Some("ticket"), "read")]), widens);
    }

    #[test]
    fn only_a_parent_without_budget_refuses() {
        let parent = first(1, "user:rita", "agent:bot", 0);
        assert_eq!(under(grant("agent:bot", "agent:sub"), &[parent]), Err(RefusalReason::NoBudget));
    }

    #[test]
    fn a_chain_is_at_most_so_deep() {
        let next = |depth: u32| Grant {
            id: DelegationId([u8::try_from(depth).unwrap(); 16]),
            redelegate: 9,
            ..grant(&format!("agent:a{}", depth - 1), &format!("agent:a{depth}"))
        };
        let mut links = vec![first(1, "user:rita", "agent:a1", 9)];
        for depth in 2..=5 {
            let made = under(next(depth), &links).unwrap();
            assert_eq!(made.depth, depth);
            links.push(made);
        }
        assert_eq!(under(next(6), &links), Err(RefusalReason::TooDeep));
        let none = GrantLimits { depth_max: 0, lifetime_max: None };
        assert!(grant("user:rita", "agent:bot").judge(None, at(100), none).is_err());
    }

    #[test]
    fn no_delegate_is_an_earlier_delegator_but_its_own() {
        let one = first(1, "user:rita", "agent:a", 9);
        let two = below(&one, "agent:a", "agent:b");
        let links = [one.clone(), two];
        assert_eq!(under(grant("agent:b", "agent:a"), &links), Err(RefusalReason::Cycle));
        assert_eq!(under(grant("agent:b", "user:rita"), &links), Err(RefusalReason::Cycle));
        assert!(under(grant("agent:b", "agent:b"), &links).is_ok());
        assert!(under(grant("agent:b", "agent:c"), &links).is_ok());
        // As written: a group is another than its members.
        assert!(under(grant("agent:b", "user:rita#friend"), &links).is_ok());
        // Narrowing for oneself, twice.
        let own = below(&one, "agent:a", "agent:a");
        assert!(under(grant("agent:a", "agent:a"), &[one, own]).is_ok());
        assert!(alone(grant("user:rita", "user:rita")).is_ok());
    }

    #[test]
    fn the_delegator_must_be_the_parents_delegate_beyond_doubt() {
        let chain = chain(&[first(1, "user:rita", "group:bots#member", 1)]);
        for (membership, due) in [
            (Membership::Member, None),
            (Membership::Conditional, Some(RefusalReason::NotDelegateOfParent)),
            (Membership::Not, Some(RefusalReason::NotDelegateOfParent)),
        ] {
            let parent = Parent { chain: &chain, membership };
            let made = grant("agent:bot", "agent:sub").judge(Some(parent), at(100), GrantLimits::default());
            assert_eq!(made.err().map(|refusal| refusal.reason), due, "{membership:?}");
        }
    }

    #[test]
    fn what_is_over_cannot_be_delegated_on_but_what_has_not_begun_can() {
        let live = first(1, "user:rita", "agent:bot", 2);
        let revoked = Delegation { revoked: Some(Revoked { at: at(50), reason: String::new() }), ..live.clone() };
        let expired = Delegation { expires_at: at(100), ..live.clone() };
        let later = Delegation { not_before: at(150), ..live.clone() };
        let sub = || grant("agent:bot", "agent:sub");
        assert_eq!(under(sub(), std::slice::from_ref(&revoked)), Err(RefusalReason::ParentNotLive));
        assert_eq!(under(sub(), &[expired]), Err(RefusalReason::ParentNotLive));
        assert!(under(sub(), &[later]).is_ok());
        let second = below(&live, "agent:bot", "agent:two");
        assert!(under(grant("agent:two", "agent:sub"), &[live, second.clone()]).is_ok());
        assert_eq!(under(grant("agent:two", "agent:sub"), &[revoked, second]), Err(RefusalReason::ParentNotLive));
    }

    #[test]
    fn an_end_is_after_the_beginning_also_when_clamped() {
        let ends = |expires_at| alone(Grant { expires_at: at(expires_at), ..grant("user:rita", "agent:bot") });
        assert_eq!(ends(99), Err(RefusalReason::BadInterval));
        assert_eq!(ends(100), Err(RefusalReason::BadInterval));
        assert!(ends(101).is_ok());
        // What began before and is over already.
        let past = Grant { not_before: at(50), expires_at: at(100), ..grant("user:rita", "agent:bot") };
        assert_eq!(alone(past.clone()), Err(RefusalReason::BadInterval));
        assert!(alone(Grant { expires_at: at(101), ..past }).is_ok());
        let parent = Delegation { expires_at: at(150), ..first(1, "user:rita", "agent:bot", 1) };
        let late = Grant { not_before: at(150), ..grant("agent:bot", "agent:sub") };
        assert_eq!(under(late, &[parent]), Err(RefusalReason::BadInterval));
    }

    #[test]
    fn no_delegation_lives_longer_than_it_may() {
        let ends = |expires_at| Grant { expires_at: at(expires_at), ..grant("user:rita", "agent:bot") };
        assert!(alone(ends(100 + 30 * DAY)).is_ok());
        assert_eq!(alone(ends(101 + 30 * DAY)), Err(RefusalReason::BeyondMaxLifetime));
        // Counted from now on: a later beginning is no way round it.
        let later = Grant { not_before: at(100 + 29 * DAY), ..ends(101 + 30 * DAY) };
        assert_eq!(alone(later), Err(RefusalReason::BeyondMaxLifetime));
        let unlimited = GrantLimits { lifetime_max: None, ..GrantLimits::default() };
        let ever = Grant { expires_at: Timestamp::MAX, ..grant("user:rita", "agent:bot") };
        assert!(ever.clone().judge(None, at(100), unlimited).is_ok());
        // A child that asks for longer is clamped before it is judged.
        let sub = Grant { delegator: object("agent:bot"), ..ever };
        assert!(under(sub, &[first(1, "user:rita", "agent:bot", 1)]).is_ok());
    }

    #[test]
    fn a_scope_is_never_empty_and_no_item_stands_twice() {
        let of = |items: Vec<ScopeItem>| alone(Grant { items, ..grant("user:rita", "agent:bot") });
        let read = || item(&["invoice#read"], &["invoice:9"]);
        assert_eq!(of(vec![]), Err(RefusalReason::EmptyScope));
        assert_eq!(of(vec![read(), item(&["invoice#read"], &[])]), Err(RefusalReason::EmptyScope));
        assert_eq!(of(vec![item(&[], &["invoice:9"])]), Err(RefusalReason::EmptyScope));
        let nothing = ScopeItem { asked: AskedPermissions::All, ..item(&[], &["invoice:9"]) };
        assert_eq!(of(vec![nothing]), Err(RefusalReason::EmptyScope));
        assert_eq!(of(vec![read(), read()]), Err(RefusalReason::DuplicateItem));
        // In another order it is the same.
        let two = |within: &[&str]| item(&["invoice#read"], within);
        let turned = vec![two(&["invoice:8", "invoice:9"]), two(&["invoice:9", "invoice:8", "invoice:9"])];
        assert_eq!(of(turned), Err(RefusalReason::DuplicateItem));
        // Overlapping is no duplicate, and neither is another condition.
        let overlapping =
            vec![read(), two(&["invoice:8", "invoice:9"]), caveated(&["invoice#read"], &["invoice:9"], "in_hours")];
        assert_eq!(of(overlapping).map(|made| made.clauses[0].items.len()), Ok(3));
    }

    #[test]
    fn names_and_anchors_are_stored_sorted_and_once() {
        let mut asked = item(&["invoice#refund", "invoice#read"], &["invoice:9", "invoice:8", "invoice:9"]);
        if let AskedPermissions::Named(names) = &mut asked.asked {
            names.reverse();
            names.push(names[0].clone());
        }
        let made = alone(Grant { items: vec![asked], ..grant("user:rita", "agent:bot") }).unwrap();
        assert_eq!(made.clauses[0].items, [item(&["invoice#read", "invoice#refund"], &["invoice:8", "invoice:9"])]);
    }

    #[test]
    fn the_first_refusal_of_the_list_is_told() {
        let dead = Delegation { expires_at: at(50), ..first(1, "user:rita", "agent:bot", 0) };
        let chain = chain(&[dead]);
        let parent = Parent { chain: &chain, membership: Membership::Not };
        let all = Grant { expires_at: at(0), items: Vec::new(), ..grant("agent:bot", "user:rita") };
        let limits = GrantLimits { depth_max: 1, lifetime_max: None };
        let refusal = all.judge(Some(parent), at(100), limits).unwrap_err();
        assert_eq!((refusal.reason, refusal.field.as_str()), (RefusalReason::Cycle, "delegate"));
        assert_eq!(refusal.value, "user:rita");
    }
}
