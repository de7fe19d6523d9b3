//! Delegations for the tests of this floor.
#![cfg(test)]

use super::Chain;
use crate::model::{
    AskedPermissions, CaveatName, Clause, Context, Delegation, DelegationId, ObjectRef, PermissionName, RelationName,
    ScopeItem, Timestamp, TupleCaveat, TypeName,
};
use std::sync::Arc;

pub fn object(text: &str) -> ObjectRef {
    text.parse().unwrap()
}

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::new(seconds, 0).unwrap()
}

pub fn id(number: u8) -> DelegationId {
    DelegationId([number; 16])
}

pub fn pair(object_type: &str, name: &str) -> (TypeName, RelationName) {
    (TypeName::new(object_type).unwrap(), RelationName::new(name).unwrap())
}

/// Of pairs such as `invoice#read`.
pub fn item(pairs: &[&str], within: &[&str]) -> ScopeItem {
    let frozen = pairs.iter().map(|text| text.split_once('#').unwrap());
    let frozen: std::collections::BTreeSet<_> = frozen.map(|(of, name)| pair(of, name)).collect();
    let named =
        |(of, name): &(TypeName, RelationName)| PermissionName { object_type: Some(of.clone()), name: name.clone() };
    ScopeItem {
        asked: AskedPermissions::Named(frozen.iter().map(named).collect()),
        frozen,
        within: within.iter().map(|text| object(text)).collect(),
        caveat: None,
    }
}

pub fn caveated(pairs: &[&str], within: &[&str], caveat: &str) -> ScopeItem {
    let caveat = TupleCaveat { name: CaveatName::new(caveat).unwrap(), context: Context::new() };
    ScopeItem { caveat: Some(caveat), ..item(pairs, within) }
}

pub fn clause<const N: usize>(items: [ScopeItem; N]) -> Clause {
    Clause { items: items.into() }
}

/// The first of a chain, of reading invoice 9 from 0 to 1,000.
pub fn first(number: u8, delegator: &str, delegate: &str, redelegate: u32) -> Delegation {
    Delegation {
        id: id(number),
        number: u64::from(number),
        parent: None,
        root: object(delegator),
        delegator: object(delegator),
        delegate: delegate.parse().unwrap(),
        clauses: vec![clause([item(&["invoice#read"], &["invoice:9"])])],
        created_at: at(0),
        not_before: at(0),
        expires_at: at(1_000),
        redelegate,
        depth: 1,
        revoked: None,
        purpose: String::new(),
        issued_by: String::new(),
        metadata: Context::new(),
        version: 0,
    }
}

/// The next below a delegation.
pub fn below(parent: &Delegation, delegator: &str, delegate: &str) -> Delegation {
    Delegation {
        parent: Some(parent.id),
        root: parent.root.clone(),
        depth: parent.depth + 1,
        ..first(u8::try_from(parent.number).unwrap() + 1, delegator, delegate, parent.redelegate.saturating_sub(1))
    }
}

pub fn chain(links: &[Delegation]) -> Chain {
    Chain::verify(links.iter().cloned().map(Arc::new).collect()).unwrap()
}
