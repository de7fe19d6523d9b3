//! Which items of a child ask for more than its parent covers, as far as can be told from what was written.
//!
//! Being wider is allowed: nothing is stored as authority, and a use is within every scope of the chain. But whoever asks
//! for it probably believes to get more, so it is told.

use crate::model::{Clause, ObjectRef, ScopeItem};

/// The places of the child's items of which some pair at some anchor is in no item of one of the parent's clauses.
///
/// `is_beneath(a, b)` tells whether the child's anchor `a` is the parent's `b` or beneath it. A parent's item under a
/// condition covers only an item under the same one.
pub fn wider_items<E>(
    child: &Clause,
    parent: &[Clause],
    mut is_beneath: impl FnMut(&ObjectRef, &ObjectRef) -> Result<bool, E>,
) -> Result<Vec<usize>, E> {
    let mut wider = Vec::new();
    for (at, item) in child.items.iter().enumerate() {
        for clause in parent {
            if !covers(clause, item, &mut is_beneath)? {
                wider.push(at);
                break;
            }
        }
    }
    Ok(wider)
}

/// Each anchor alone: the parent's items at or above it must together have all the pairs.
fn covers<E>(
    clause: &Clause,
    item: &ScopeItem,
    is_beneath: &mut impl FnMut(&ObjectRef, &ObjectRef) -> Result<bool, E>,
) -> Result<bool, E> {
    for anchor in &item.within {
        let mut above = Vec::new();
        for other in &clause.items {
            if (other.caveat.is_none() || other.caveat == item.caveat)
                && any(&other.within, |of| is_beneath(anchor, of))?
            {
                above.push(other);
            }
        }
        if !item.frozen.iter().all(|pair| above.iter().any(|other| other.frozen.contains(pair))) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn any<E>(objects: &[ObjectRef], mut test: impl FnMut(&ObjectRef) -> Result<bool, E>) -> Result<bool, E> {
    for object in objects {
        if test(object)? {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::super::samples::{caveated, clause, item};
    use super::*;
    use proptest::prelude::*;
    use std::convert::Infallible;

    /// Invoices 1 to 3 are beneath workspace:support.
    fn is_beneath(a: &ObjectRef, b: &ObjectRef) -> Result<bool, Infallible> {
        let beneath = b.to_string() == "workspace:support" && a.object_type.as_str() == "invoice";
        Ok(a == b || beneath)
    }

    #[track_caller]
    fn wider(child: Clause, parent: &[Clause], due: &[usize]) {
        let Ok(found) = wider_items(&child, parent, is_beneath);
        assert_eq!(found, due);
    }

    #[test]
    fn an_item_is_wider_when_some_clause_lacks_part_of_it() {
        let parent = [clause([
            item(&["invoice#read", "invoice#refund"], &["workspace:support"]),
            item(&["ticket#read"], &["ticket:1"]),
            item(&["ticket#write"], &["ticket:1", "ticket:2"]),
        ])];
        let child = clause([
            item(&["invoice#read"], &["invoice:1", "invoice:2"]),
            item(&["invoice#void"], &["invoice:1"]),
            item(&["ticket#read", "ticket#write"], &["ticket:1"]),
            item(&["ticket#read", "ticket#write"], &["ticket:1", "ticket:2"]),
            item(&["invoice#read"], &["workspace:other"]),
        ]);
        wider(child, &parent, &[1, 3, 4]);
        let narrowed = [parent[0].clone(), clause([item(&["invoice#read"], &["invoice:1"])])];
        let child = clause([item(&["invoice#read"], &["invoice:1"]), item(&["invoice#read"], &["invoice:2"])]);
        wider(child, &narrowed, &[1]);
    }

    #[test]
    fn a_condition_of_the_parent_must_be_the_childs_too() {
        let parent = [clause([caveated(&["invoice#read"], &["invoice:1"], "in_hours")])];
        let child = clause([
            item(&["invoice#read"], &["invoice:1"]),
            caveated(&["invoice#read"], &["invoice:1"], "in_hours"),
            caveated(&["invoice#read"], &["invoice:1"], "from_office"),
        ]);
        wider(child, &parent, &[0, 2]);
        let free = [clause([item(&["invoice#read"], &["invoice:1"])])];
        wider(clause([caveated(&["invoice#read"], &["invoice:1"], "in_hours")]), &free, &[]);
    }

    fn any_clause() -> impl Strategy<Value = Clause> {
        let pairs = proptest::sample::subsequence(vec!["invoice#read", "invoice#refund"], 1..=2);
        let anchors = proptest::sample::subsequence(vec!["invoice:1", "invoice:2", "workspace:support"], 1..=3);
        let one = (pairs, anchors).prop_map(|(pairs, anchors)| item(&pairs, &anchors));
        proptest::collection::vec(one, 1..4).prop_map(|items| Clause { items })
    }

    proptest! {
        /// What is not wider covers nothing that the parent does not.
        #[test]
        fn what_is_not_wider_is_within_the_parent(child in any_clause(), parent in proptest::collection::vec(any_clause(), 1..3)) {
            let Ok(wider) = wider_items(&child, &parent, is_beneath);
            let covered = |clause: &Clause, object: &ObjectRef, pair| clause.items.iter().any(|item| {
                item.frozen.contains(pair) && item.within.iter().any(|anchor| is_beneath(object, anchor).unwrap())
            });
            for (at, item) in child.items.iter().enumerate() {
                let mut inside = true;
                for object in ["invoice:1", "invoice:2", "invoice:3", "workspace:support"].map(|text| text.parse().unwrap()) {
                    for pair in &item.frozen {
                        let alone = Clause { items: vec![item.clone()] };
                        inside &= !covered(&alone, &object, pair) || parent.iter().all(|clause| covered(clause, &object, pair));
                    }
                }
                prop_assert_eq!(wider.contains(&at), !inside);
            }
        }
    }
}
