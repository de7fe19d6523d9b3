//! Is a permission on an object within a scope?
//!
//! ```text
//! scope(d) = min over clauses of max over items of min(a frozen pair is asked, an anchor is the object or above it, caveat)
//! ```
//! INVARIANT: the frozen pairs decide, never the names an issuer wrote. A scope without clauses, or a clause without
//! items, covers nothing. The order of items and clauses is never visible in the value.

use crate::model::{Clause, DenyReason, Membership, ObjectRef, RelationName, ScopeItem, TupleCaveat, TypeName};

/// An item by its place: of which clause, and which of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct ItemAt {
    pub clause: usize,
    pub item: usize,
}

/// What a scope says to a question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Scoped {
    /// Covered: of each clause, the first item that covers it.
    Within { items: Vec<usize> },
    /// It hangs on context that was not given: of each clause, the first item of the highest value; and every item whose
    /// caveat could still decide it, in order.
    Conditional { items: Vec<usize>, open: Vec<ItemAt> },
    /// In this clause, the first such, no item is of this permission at or above this object.
    OutOfScope { clause: usize },
    /// Every clause has items of this permission above this object, but the caveats of all those in this clause, the
    /// first such, are false.
    ConditionFalse { clause: usize },
}

impl Scoped {
    /// As a value to be combined with the rest.
    #[must_use]
    pub fn membership(&self) -> Membership {
        match self {
            Scoped::Within { .. } => Membership::Member,
            Scoped::Conditional { .. } => Membership::Conditional,
            Scoped::OutOfScope { .. } | Scoped::ConditionFalse { .. } => Membership::Not,
        }
    }

    /// Why it denies, if it does.
    #[must_use]
    pub fn reason(&self) -> Option<DenyReason> {
        match self {
            Scoped::Within { .. } | Scoped::Conditional { .. } => None,
            Scoped::OutOfScope { .. } => Some(DenyReason::OutOfScope),
            Scoped::ConditionFalse { .. } => Some(DenyReason::ConditionFalse),
        }
    }
}

/// What the clauses say to `asked` on an object. `is_within` tells whether an anchor is that object or one of its
/// ancestors; `caveat` what a caveat is worth.
///
/// Cheap first: anchors are asked about only when every clause names the permission, caveats only when every clause has
/// an anchor above the object. A fault of `is_within` ends it. A fault of `caveat` counts as unknown while combining: if
/// the rest decides, that stands, and otherwise the first one is passed on.
pub fn scope<E>(
    clauses: &[Clause],
    asked: &(TypeName, RelationName),
    mut is_within: impl FnMut(&ObjectRef) -> Result<bool, E>,
    mut caveat: impl FnMut(&TupleCaveat) -> Result<Membership, E>,
) -> Result<Scoped, E> {
    if clauses.is_empty() {
        return Ok(Scoped::OutOfScope { clause: 0 });
    }
    let names_it = |clause: &Clause| clause.items.iter().any(|item| item.frozen.contains(asked));
    if let Some(clause) = clauses.iter().position(|clause| !names_it(clause)) {
        return Ok(Scoped::OutOfScope { clause });
    }
    let mut matching = Vec::with_capacity(clauses.len());
    for (clause, Clause { items }) in clauses.iter().enumerate() {
        let mut found = Vec::new();
        for (at, item) in items.iter().enumerate() {
            if item.frozen.contains(asked) && any_within(item, &mut is_within)? {
                found.push((at, item));
            }
        }
        if found.is_empty() {
            return Ok(Scoped::OutOfScope { clause });
        }
        matching.push(found);
    }
    let mut items = Vec::with_capacity(matching.len());
    let mut open = Vec::new();
    let mut fault = None;
    for (clause, found) in matching.iter().enumerate() {
        match best(found, &mut caveat) {
            Best::Member(item) => items.push(item),
            Best::Conditional { item, open: of_clause } => {
                items.push(item);
                open.extend(of_clause.into_iter().map(|item| ItemAt { clause, item }));
            }
            Best::Not => return Ok(Scoped::ConditionFalse { clause }),
            Best::Unknown(error) => fault = fault.or(Some(error)),
        }
    }
    match fault {
        Some(error) => Err(error),
        None if open.is_empty() => Ok(Scoped::Within { items }),
        None => Ok(Scoped::Conditional { items, open }),
    }
}

fn any_within<E>(item: &ScopeItem, is_within: &mut impl FnMut(&ObjectRef) -> Result<bool, E>) -> Result<bool, E> {
    for anchor in &item.within {
        if is_within(anchor)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The greatest value of a clause's matching items.
enum Best<E> {
    Member(usize),
    Conditional {
        item: usize,
        open: Vec<usize>,
    },
    Not,
    /// No item is worth more than the fault of one: nobody can say.
    Unknown(E),
}

fn best<E>(found: &[(usize, &ScopeItem)], caveat: &mut impl FnMut(&TupleCaveat) -> Result<Membership, E>) -> Best<E> {
    // What nothing qualifies needs no evaluation.
    if let Some((item, _)) = found.iter().find(|(_, item)| item.caveat.is_none()) {
        return Best::Member(*item);
    }
    let mut open = Vec::new();
    let mut fault = None;
    for (at, item) in found {
        match item.caveat.as_ref().map_or(Ok(Membership::Member), &mut *caveat) {
            Ok(Membership::Member) => return Best::Member(*at),
            Ok(Membership::Conditional) => open.push(*at),
            Ok(Membership::Not) => {}
            Err(error) => fault = fault.or(Some(error)),
        }
    }
    match (fault, open.first()) {
        (Some(error), _) => Best::Unknown(error),
        (None, Some(item)) => Best::Conditional { item: *item, open },
        (None, None) => Best::Not,
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{caveated, clause, item, pair};
    use super::*;
    use proptest::prelude::*;
    use std::cell::RefCell;

    /// The object asked about is `invoice:9`, beneath `workspace:support`.
    fn is_within(anchor: &ObjectRef) -> Result<bool, String> {
        Ok(["invoice:9", "workspace:support"].contains(&anchor.to_string().as_str()))
    }

    /// Caveats are worth what they are called.
    fn worth(caveat: &TupleCaveat) -> Result<Membership, String> {
        match caveat.name.as_str() {
            "holds" => Ok(Membership::Member),
            "unknown" => Ok(Membership::Conditional),
            "fails" => Err("it fails".to_owned()),
            _ => Ok(Membership::Not),
        }
    }

    #[track_caller]
    fn says(clauses: &[Clause], due: Result<Scoped, &str>) {
        let read = pair("invoice", "read");
        assert_eq!(scope(clauses, &read, is_within, worth), due.map_err(str::to_owned));
    }

    #[test]
    fn some_item_of_every_clause_must_match() {
        let nine = || item(&["invoice#read"], &["invoice:9"]);
        let ten = || item(&["invoice#read"], &["invoice:10"]);
        let refund = || item(&["invoice#refund"], &["invoice:9"]);
        let support = || item(&["invoice#read", "ticket#read"], &["org:globex", "workspace:support"]);
        says(&[clause([nine()])], Ok(Scoped::Within { items: vec![0] }));
        says(&[clause([ten(), refund(), support()])], Ok(Scoped::Within { items: vec![2] }));
        says(&[clause([ten(), nine()]), clause([support()])], Ok(Scoped::Within { items: vec![1, 0] }));
        says(&[clause([ten(), refund()])], Ok(Scoped::OutOfScope { clause: 0 }));
        says(&[clause([nine()]), clause([ten()])], Ok(Scoped::OutOfScope { clause: 1 }));
        says(&[clause([nine()]), clause([refund()])], Ok(Scoped::OutOfScope { clause: 1 }));
    }

    #[test]
    fn nothing_is_covered_by_nothing() {
        says(&[], Ok(Scoped::OutOfScope { clause: 0 }));
        says(&[clause([])], Ok(Scoped::OutOfScope { clause: 0 }));
        says(&[clause([item(&["invoice#read"], &[])])], Ok(Scoped::OutOfScope { clause: 0 }));
        says(&[clause([item(&[], &["invoice:9"])])], Ok(Scoped::OutOfScope { clause: 0 }));
    }

    #[test]
    fn the_same_name_of_another_type_is_another_permission() {
        says(&[clause([item(&["ticket#read"], &["invoice:9"])])], Ok(Scoped::OutOfScope { clause: 0 }));
    }

    #[test]
    fn what_was_asked_for_decides_nothing() {
        let mut wide = item(&["invoice#refund"], &["invoice:9"]);
        wide.asked = crate::model::AskedPermissions::All;
        says(&[clause([wide])], Ok(Scoped::OutOfScope { clause: 0 }));
    }

    #[test]
    fn a_false_condition_is_another_reason_than_no_match_and_no_match_wins() {
        let of = |caveat| caveated(&["invoice#read"], &["invoice:9"], caveat);
        let elsewhere = || item(&["invoice#read"], &["invoice:10"]);
        says(&[clause([of("false"), elsewhere()])], Ok(Scoped::ConditionFalse { clause: 0 }));
        says(&[clause([of("holds")]), clause([of("false")])], Ok(Scoped::ConditionFalse { clause: 1 }));
        says(&[clause([of("false")]), clause([elsewhere()])], Ok(Scoped::OutOfScope { clause: 1 }));
        says(&[clause([of("unknown")]), clause([of("false")])], Ok(Scoped::ConditionFalse { clause: 1 }));
    }

    #[test]
    fn open_is_what_could_still_decide_and_only_that() {
        let of = |caveat| caveated(&["invoice#read"], &["invoice:9"], caveat);
        let open = vec![ItemAt { clause: 1, item: 1 }, ItemAt { clause: 1, item: 2 }];
        says(
            &[clause([of("unknown"), of("holds")]), clause([of("false"), of("unknown"), of("unknown")])],
            Ok(Scoped::Conditional { items: vec![1, 1], open }),
        );
    }

    #[test]
    fn a_failed_condition_is_an_error_unless_the_rest_decides() {
        let of = |caveat| caveated(&["invoice#read"], &["invoice:9"], caveat);
        says(&[clause([of("fails"), of("holds")])], Ok(Scoped::Within { items: vec![1] }));
        says(&[clause([of("fails")]), clause([of("false")])], Ok(Scoped::ConditionFalse { clause: 1 }));
        says(&[clause([of("fails"), of("unknown")])], Err("it fails"));
        says(&[clause([of("false"), of("fails")])], Err("it fails"));
        says(&[clause([of("holds")]), clause([of("fails")])], Err("it fails"));
    }

    #[test]
    fn a_fault_among_the_ancestors_is_no_answer() {
        let clauses = [clause([item(&["invoice#read"], &["invoice:9"])])];
        let fault = |_: &ObjectRef| Err("the disk".to_owned());
        assert_eq!(scope(&clauses, &pair("invoice", "read"), fault, worth), Err("the disk".to_owned()));
    }

    #[test]
    fn nothing_is_looked_up_that_cannot_matter() {
        let asked = RefCell::new(Vec::new());
        let look = |anchor: &ObjectRef| {
            asked.borrow_mut().push(anchor.to_string());
            is_within(anchor)
        };
        let evaluate = |caveat: &TupleCaveat| {
            asked.borrow_mut().push(caveat.name.to_string());
            worth(caveat)
        };
        let read = pair("invoice", "read");
        let nine = || caveated(&["invoice#read"], &["invoice:9"], "holds");
        // The second clause does not name the permission, so no anchor of the first is asked about.
        let refund = item(&["invoice#refund"], &["invoice:9"]);
        assert!(scope(&[clause([nine()]), clause([refund])], &read, look, evaluate).is_ok());
        assert!(asked.borrow().is_empty());
        // The second clause has no anchor above, so the caveat of the first is not evaluated.
        let ten = item(&["invoice#read"], &["invoice:10"]);
        assert!(scope(&[clause([nine()]), clause([ten])], &read, look, evaluate).is_ok());
        assert_eq!(asked.take(), ["invoice:9", "invoice:10"]);
    }

    const TYPES: [&str; 2] = ["invoice#read", "invoice#refund"];
    const ANCHORS: [&str; 4] = ["invoice:9", "invoice:10", "workspace:support", "org:globex"];
    const CAVEATS: [&str; 4] = ["holds", "unknown", "false", "fails"];

    fn any_item() -> impl Strategy<Value = ScopeItem> {
        let pairs = proptest::sample::subsequence(TYPES.to_vec(), 0..=2);
        let anchors = proptest::sample::subsequence(ANCHORS.to_vec(), 0..=3);
        let caveat = proptest::option::of(proptest::sample::select(CAVEATS.to_vec()));
        (pairs, anchors, caveat).prop_map(|(pairs, anchors, caveat)| match caveat {
            Some(caveat) => caveated(&pairs, &anchors, caveat),
            None => item(&pairs, &anchors),
        })
    }

    fn any_clauses() -> impl Strategy<Value = Vec<Clause>> {
        let clause = proptest::collection::vec(any_item(), 0..4).prop_map(|items| Clause { items });
        proptest::collection::vec(clause, 1..4)
    }

    /// The formula, with what a fault leaves possible: the least and the greatest value it can have.
    fn brute_force(clauses: &[Clause]) -> (Membership, Membership) {
        let asked = pair("invoice", "read");
        let value = |item: &ScopeItem, fault: Membership| {
            let matches = item.frozen.contains(&asked) && item.within.iter().any(|anchor| is_within(anchor).unwrap());
            let caveat = item.caveat.as_ref().map_or(Membership::Member, |caveat| worth(caveat).unwrap_or(fault));
            if matches { caveat } else { Membership::Not }
        };
        let of = |fault| {
            let clause = |clause: &Clause| clause.items.iter().map(|item| value(item, fault)).max();
            clauses.iter().map(|each| clause(each).unwrap_or(Membership::Not)).min().unwrap_or(Membership::Not)
        };
        (of(Membership::Not), of(Membership::Member))
    }

    proptest! {
        #[test]
        fn a_scope_is_its_formula(clauses in any_clauses()) {
            let (least, greatest) = brute_force(&clauses);
            match scope(&clauses, &pair("invoice", "read"), is_within, worth) {
                Ok(scoped) => {
                    prop_assert_eq!((scoped.membership(), scoped.membership()), (least, greatest));
                    prop_assert_eq!(scoped.reason().is_some(), least == Membership::Not);
                    if let Scoped::Within { items } | Scoped::Conditional { items, .. } = &scoped {
                        // Each named item alone is worth at least the whole.
                        let alone: Vec<Clause> = clauses.iter().zip(items)
                            .map(|(each, at)| clause([each.items[*at].clone()])).collect();
                        prop_assert_eq!(alone.len(), clauses.len());
                        prop_assert_eq!(brute_force(&alone).0, scoped.membership());
                    }
                }
                // Conditional decides nothing.
                Err(_) => prop_assert!(least < greatest || least == Membership::Conditional),
            }
        }

        #[test]
        fn order_is_never_visible(clauses in any_clauses()) {
            let read = pair("invoice", "read");
            let mut turned = clauses.clone();
            turned.reverse();
            turned.iter_mut().for_each(|clause| clause.items.reverse());
            let value = |clauses: &[Clause]| {
                scope(clauses, &read, is_within, worth).map(|scoped| (scoped.membership(), scoped.reason()))
            };
            prop_assert_eq!(value(&clauses), value(&turned));
        }

        #[test]
        fn a_further_clause_never_lets_more_through(clauses in any_clauses(), more in any_clauses()) {
            let read = pair("invoice", "read");
            let value = |clauses: &[Clause]| {
                scope(clauses, &read, is_within, worth).map(|scoped| scoped.membership())
            };
            let narrowed = [clauses.clone(), more].concat();
            // An original that cannot be told is no bound; the formula's is.
            if let Ok(narrowed) = value(&narrowed) {
                prop_assert!(narrowed <= brute_force(&clauses).1);
                if let Ok(original) = value(&clauses) {
                    prop_assert!(narrowed <= original);
                }
            }
        }
    }
}
