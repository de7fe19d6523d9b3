//! Delegations and suspensions in a store: what is judged inside the commit, what a reader finds, and that the state is
//! what its changelog says.
#![cfg(test)]

use super::changelog::LogEntry;
use super::delegations::{DelegationsBy, Idempotency};
use super::dictionary::Dictionary;
use super::judge::judge;
use super::overlay::Overlay;
use super::{
    Change, Collector, Commit, Committed, Db, Error, InMemory, LogPosition, Memory, NewDelegation, Snapshot, Store,
    load_state,
};
use crate::model::{
    AskedPermissions, Clause, Context, Delegation, DelegationChange, DelegationId, Limits, ObjectRef, Precondition,
    RelationName, Revision, Revoked, ScopeItem, SubjectRef, Suspension, Timestamp, TupleFilter, TypeName,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tempfile::TempDir;

struct World {
    folder: TempDir,
    store: Store,
    clock: Arc<AtomicI64>,
}

fn open(folder: &TempDir, clock: &Arc<AtomicI64>) -> Store {
    let clock = clock.clone();
    let now = Arc::new(move || at(clock.load(Ordering::Relaxed)));
    Store::open(folder.path(), &Limits::default(), now, Collector::Off, InMemory::alone()).unwrap()
}

/// A store whose clock stands at 100.
fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicI64::new(100));
    World { store: open(&folder, &clock), folder, clock }
}

impl World {
    fn set(&self, seconds: i64) {
        self.clock.store(seconds, Ordering::Relaxed);
    }

    fn reopened(self) -> World {
        let World { folder, store, clock } = self;
        drop(store);
        World { store: open(&folder, &clock), folder, clock }
    }

    fn now(&self) -> Arc<Snapshot> {
        self.store.published()
    }

    fn commit(&self, change: Change) -> Result<Committed, Error> {
        self.store.commit(commit(change))
    }

    fn create(&self, record: Delegation) -> Arc<Delegation> {
        self.commit(created(record)).unwrap().delegation.unwrap()
    }

    /// Below a delegation, which is read now.
    fn create_below(&self, parent: &Delegation, record: Delegation) -> Result<Arc<Delegation>, Error> {
        let record =
            Delegation { parent: Some(parent.id), root: parent.root.clone(), depth: parent.depth + 1, ..record };
        let new = NewDelegation { record, chain: vec![(parent.id, parent.version)], idempotency: None, clock: None };
        Ok(self.commit(Change::CreateDelegation(Box::new(new)))?.delegation.unwrap())
    }

    fn revoke(&self, id: DelegationId) -> Result<Committed, Error> {
        self.commit(Change::RevokeDelegation { id, reason: "done".to_owned() })
    }

    fn revoke_all(&self, principal: &str, limit: usize) -> Result<u64, Error> {
        let (principal, reason) = (principal.parse().unwrap(), "all".to_owned());
        Ok(self.commit(Change::RevokeAllFor { principal, reason, limit })?.changed)
    }

    fn suspend(&self, principal: &str) -> Committed {
        self.commit(Change::Suspend { principal: object(principal), reason: "why".to_owned() }).unwrap()
    }

    fn reinstate(&self, principal: &str) -> Committed {
        self.commit(Change::Reinstate { principal: object(principal) }).unwrap()
    }

    fn verify(&self) {
        self.store.verify(tempfile::tempdir().unwrap().path()).unwrap();
    }
}

fn commit(change: Change) -> Commit {
    Commit {
        schema_revision: Revision(0),
        preconditions: Vec::new(),
        precondition_rows_max: 0,
        change,
        parents: Arc::default(),
        metadata: Box::default(),
        only_judge: false,
    }
}

fn created(record: Delegation) -> Change {
    Change::CreateDelegation(Box::new(NewDelegation { record, chain: Vec::new(), idempotency: None, clock: None }))
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::new(seconds, 0).unwrap()
}

fn object(text: &str) -> ObjectRef {
    text.parse().unwrap()
}

fn subject(text: &str) -> SubjectRef {
    text.parse().unwrap()
}

fn clause(within: &[&str]) -> Clause {
    let read = (TypeName::new("invoice").unwrap(), RelationName::new("read").unwrap());
    let within = within.iter().map(|text| object(text)).collect();
    Clause { items: vec![ScopeItem { asked: AskedPermissions::All, frozen: [read].into(), within, caveat: None }] }
}

/// From 0 to 1,000, of invoice 9.
fn delegation(id: u8, delegator: &str, delegate: &str) -> Delegation {
    Delegation {
        id: DelegationId([id; 16]),
        number: 0,
        parent: None,
        root: object(delegator),
        delegator: object(delegator),
        delegate: subject(delegate),
        clauses: vec![clause(&["invoice:9"])],
        created_at: at(100),
        not_before: at(0),
        expires_at: at(1_000),
        redelegate: 3,
        depth: 1,
        revoked: None,
        purpose: "to answer tickets".to_owned(),
        issued_by: String::new(),
        metadata: Context::new(),
        version: 0,
    }
}

/// With a further clause and an earlier end.
fn narrowed(record: &Delegation, within: &[&str], expires_at: i64) -> Delegation {
    let mut record = record.clone();
    record.clauses.push(clause(within));
    record.expires_at = at(expires_at);
    record.version += 1;
    record
}

fn numbers(found: &[Arc<Delegation>]) -> Vec<u64> {
    found.iter().map(|record| record.number).collect()
}

fn by(snapshot: &Snapshot, by: DelegationsBy<'_>) -> Vec<u64> {
    numbers(&snapshot.delegations_by(by, 0, 1_000).unwrap())
}

fn left(snapshot: &Snapshot, root: &str, now: i64) -> Vec<u64> {
    left_to(snapshot, (root, "agent:bot"), now)
}

fn left_to(snapshot: &Snapshot, (root, delegate): (&str, &str), now: i64) -> Vec<u64> {
    let mut found = Vec::new();
    let each = |record: Arc<Delegation>| {
        found.push(record.number);
        ControlFlow::Continue(())
    };
    snapshot.delegations_left(&object(root), &object(delegate), at(now), each).unwrap();
    found
}

#[test]
fn a_delegation_is_found_by_everything_it_names() {
    let world = world();
    let one = world.create(delegation(7, "user:rita", "agent:bot"));
    let two = world.create_below(&one, delegation(3, "agent:bot", "group:triage#member")).unwrap();
    let three = world.create(delegation(5, "user:ritas", "agent:bot"));
    assert_eq!([one.number, two.number, three.number], [1, 2, 3]);
    let world = world.reopened();
    let now = world.now();
    assert_eq!(now.delegation(&one.id).unwrap(), Some(one.clone()));
    assert_eq!(now.delegation(&DelegationId([9; 16])).unwrap(), None);
    assert_eq!(now.delegation_by_number(2).unwrap(), Some(two.clone()));
    assert_eq!(now.delegation_by_number(4).unwrap(), None);
    assert_eq!(by(&now, DelegationsBy::Root(&object("user:rita"))), [1, 2]);
    assert_eq!(by(&now, DelegationsBy::Delegator(&object("user:rita"))), [1]);
    assert_eq!(by(&now, DelegationsBy::Delegator(&object("agent:bot"))), [2]);
    assert_eq!(by(&now, DelegationsBy::Delegate(&subject("agent:bot"))), [1, 3]);
    assert_eq!(by(&now, DelegationsBy::Delegate(&subject("group:triage#member"))), [2]);
    assert_eq!(by(&now, DelegationsBy::Delegate(&subject("group:triage"))), [0; 0]);
    assert_eq!(by(&now, DelegationsBy::Parent(&one.id)), [2]);
    assert_eq!(by(&now, DelegationsBy::Anchor(&object("invoice:9"))), [1, 2, 3]);
    assert_eq!(by(&now, DelegationsBy::Anchor(&object("invoice:90"))), [0; 0]);
    // The next number is one that was never given.
    assert_eq!(world.create(delegation(6, "user:rita", "agent:bot")).number, 4);
    world.verify();
}

#[test]
fn pages_follow_one_another_without_a_gap() {
    let world = world();
    for id in 1..=7 {
        world.create(delegation(id, if id % 2 == 0 { "user:rita" } else { "user:dana" }, "agent:bot"));
    }
    let now = world.now();
    let dana = object("user:dana");
    for max in 1..=4 {
        let (mut all, mut of_dana) = (Vec::new(), Vec::new());
        while let [page @ .., last] =
            numbers(&now.delegations(all.last().copied().unwrap_or(0), max).unwrap()).as_slice()
        {
            assert!(page.len() < max);
            all.extend_from_slice(page);
            all.push(*last);
        }
        let after = |found: &[u64]| found.last().copied().unwrap_or(0);
        loop {
            let page = now.delegations_by(DelegationsBy::Root(&dana), after(&of_dana), max).unwrap();
            if page.is_empty() {
                break;
            }
            assert!(page.len() <= max);
            of_dana.extend(numbers(&page));
        }
        assert_eq!((all, of_dana), (vec![1, 2, 3, 4, 5, 6, 7], vec![1, 3, 5, 7]));
    }
    assert!(now.delegations(u64::MAX, 9).unwrap().is_empty());
    assert!(now.delegations_by(DelegationsBy::Root(&dana), u64::MAX, 9).unwrap().is_empty());
}

#[test]
fn a_reader_sees_its_revision_and_nothing_later() {
    let world = world();
    let one = world.create(delegation(1, "user:rita", "agent:bot"));
    let before = world.now();
    let after = narrowed(&one, &["invoice:8"], 500);
    world.commit(Change::NarrowDelegation(Box::new(after.clone()))).unwrap();
    world.suspend("agent:bot");
    world.create(delegation(2, "user:rita", "agent:bot"));
    assert_eq!(before.delegation(&one.id).unwrap(), Some(one.clone()));
    assert_eq!(numbers(&before.delegations(0, 9).unwrap()), [1]);
    assert_eq!(by(&before, DelegationsBy::Anchor(&object("invoice:8"))), [0; 0]);
    assert_eq!(left(&before, "user:rita", 600), [1]);
    assert!(!before.any_suspensions());
    assert_eq!(before.suspension(&object("agent:bot")).unwrap(), None);
    let now = world.now();
    assert_eq!(now.delegation(&one.id).unwrap().as_deref(), Some(&after));
    assert_eq!(by(&now, DelegationsBy::Anchor(&object("invoice:8"))), [1]);
    assert_eq!(left(&now, "user:rita", 600), [2]);
    assert!(now.any_suspensions());
}

#[test]
fn a_narrowing_of_what_is_not_so_any_more_is_to_be_judged_again() {
    let world = world();
    let one = world.create(delegation(1, "user:rita", "agent:bot"));
    let first = narrowed(&one, &["invoice:8"], 900);
    let second = narrowed(&one, &["invoice:9"], 800);
    let committed = world.commit(Change::NarrowDelegation(Box::new(first.clone()))).unwrap();
    assert_eq!((committed.changed, committed.delegation.as_deref()), (1, Some(&first)));
    let changed =
        |outcome: Result<Committed, Error>| matches!(outcome, Err(Error::DelegationChanged(id)) if id == one.id);
    assert!(changed(world.commit(Change::NarrowDelegation(Box::new(second)))));
    let elsewhere = Delegation { number: 2, ..narrowed(&first, &["invoice:9"], 700) };
    assert!(changed(world.commit(Change::NarrowDelegation(Box::new(elsewhere)))));
    let of_version = Delegation { version: 0, ..first.clone() };
    assert!(changed(world.commit(Change::NarrowDelegation(Box::new(of_version)))));
    world.revoke(one.id).unwrap();
    let revoked = world.now().delegation(&one.id).unwrap().unwrap();
    assert!(changed(world.commit(Change::NarrowDelegation(Box::new(narrowed(&revoked, &["invoice:9"], 700))))));
    let unknown = Delegation { id: DelegationId([9; 16]), ..first };
    let outcome = world.commit(Change::NarrowDelegation(Box::new(unknown)));
    assert!(matches!(outcome, Err(Error::NoDelegation(_))), "{outcome:?}");
    assert_eq!(world.now().delegation(&one.id).unwrap(), Some(revoked));
    world.verify();
}

#[test]
fn revoking_is_final_and_again_changes_nothing() {
    let world = world();
    let one = world.create(delegation(1, "user:rita", "agent:bot"));
    let first = world.revoke(one.id).unwrap();
    let record = first.delegation.clone().unwrap();
    assert_eq!(record.revoked, Some(Revoked { at: at(100), reason: "done".to_owned() }));
    assert_eq!((first.changed, record.version), (1, 1));
    world.set(200);
    let again = world.commit(Change::RevokeDelegation { id: one.id, reason: "again".to_owned() }).unwrap();
    assert_eq!(again, Committed { changed: 0, ..first.clone() });
    assert_eq!(world.now().revision(), first.revision);
    assert_eq!(left(&world.now(), "user:rita", 0), [0; 0]);
    assert_eq!(by(&world.now(), DelegationsBy::Root(&object("user:rita"))), [1]);
    let unknown = world.revoke(DelegationId([9; 16]));
    assert!(matches!(unknown, Err(Error::NoDelegation(_))), "{unknown:?}");
    world.verify();
}

#[test]
fn everything_that_names_a_principal_is_revoked_at_once_or_nothing() {
    let world = world();
    let one = world.create(delegation(1, "user:rita", "agent:bot"));
    world.create_below(&one, delegation(2, "agent:bot", "agent:sub")).unwrap();
    world.create(delegation(3, "user:rita", "group:bots#member"));
    world.create(delegation(4, "user:dana", "agent:bot"));
    world.create(delegation(5, "agent:bot", "agent:bot"));
    world.create(delegation(6, "agent:bots", "agent:b"));
    world.revoke(DelegationId([4; 16])).unwrap();
    let before = world.now().revision();
    let refused = world.revoke_all("agent:bot", 2);
    assert!(matches!(refused, Err(Error::TooManyDelegations { limit: 2 })), "{refused:?}");
    assert_eq!(world.now().revision(), before);
    assert_eq!(world.revoke_all("agent:bot", 3).unwrap(), 3);
    assert_eq!(world.now().revision().0, before.0 + 1);
    let revoked = || -> Vec<u64> {
        let all = world.now().delegations(0, 99).unwrap();
        all.iter().filter(|record| record.revoked.is_some()).map(|record| record.number).collect()
    };
    assert_eq!(revoked(), [1, 2, 4, 5]);
    assert_eq!(world.revoke_all("agent:bot", 3).unwrap(), 0);
    assert_eq!(world.now().revision().0, before.0 + 1);
    // As written: not the groups it is in, and of a group those given to it.
    assert_eq!(world.revoke_all("group:bots", 9).unwrap(), 0);
    assert_eq!(world.revoke_all("group:bots#member", 9).unwrap(), 1);
    assert_eq!(revoked(), [1, 2, 3, 4, 5]);
    world.verify();
}

#[test]
fn what_is_expired_takes_no_place_among_those_that_are_revoked() {
    let world = world();
    for id in 1..=3 {
        world.create(delegation(id, "user:rita", "agent:bot"));
    }
    world.create(Delegation { expires_at: at(1_001), ..delegation(4, "user:rita", "agent:bot") });
    world.create(Delegation {
        not_before: at(1_500),
        expires_at: at(2_000),
        ..delegation(5, "user:dana", "agent:bot")
    });
    world.set(1_000);
    assert_eq!(world.revoke_all("agent:bot", 2).unwrap(), 2);
    let all = world.now().delegations(0, 99).unwrap();
    assert_eq!(
        all.iter().map(|record| record.revoked.is_some()).collect::<Vec<_>>(),
        [false, false, false, true, true]
    );
    world.verify();
}

#[test]
fn an_idempotency_key_returns_what_was_made_for_a_day() {
    let world = world();
    let ask = |id: u8, digest: u8| {
        let idempotency = Some(Idempotency { key: b"k\0ey".as_slice().into(), digest: [digest; 32] });
        let record = Delegation {
            created_at: world.now().committed_at().max(at(100)),
            ..delegation(id, "user:rita", "agent:bot")
        };
        Commit {
            // It is answered before anything else is judged, or a repetition could not be told from another request.
            preconditions: if id == 1 { Vec::new() } else { vec![Precondition::MustMatch(TupleFilter::default())] },
            precondition_rows_max: 10,
            ..commit(Change::CreateDelegation(Box::new(NewDelegation {
                record,
                chain: Vec::new(),
                idempotency,
                clock: None,
            })))
        }
    };
    let first = world.store.commit(ask(1, 1)).unwrap();
    let made = world.now().idempotent(b"k\0ey").unwrap().unwrap();
    assert_eq!((made.number, made.digest, made.at), (1, [1; 32], at(100)));
    assert_eq!(world.now().idempotent(b"k").unwrap(), None);
    let day = 24 * 60 * 60;
    for seconds in [100, 99 + day] {
        world.set(seconds);
        let again = world.store.commit(ask(2, 1)).unwrap();
        assert_eq!(again, Committed { changed: 0, ..first.clone() });
        let other = world.store.commit(ask(3, 2));
        assert!(matches!(other, Err(Error::IdempotencyKeyUsed)), "{other:?}");
    }
    // What it was since is what is returned.
    world.revoke(DelegationId([1; 16])).unwrap();
    assert!(world.store.commit(ask(2, 1)).unwrap().delegation.unwrap().revoked.is_some());
    let world = world.reopened();
    world.set(100 + day);
    let record = Delegation { created_at: at(100 + day), ..delegation(4, "user:rita", "agent:bot") };
    let idempotency = Some(Idempotency { key: b"k\0ey".as_slice().into(), digest: [2; 32] });
    let new = NewDelegation { record, chain: Vec::new(), idempotency, clock: None };
    assert_eq!(world.commit(Change::CreateDelegation(Box::new(new))).unwrap().delegation.unwrap().number, 2);
    assert_eq!(world.now().idempotent(b"k\0ey").unwrap().unwrap().number, 2);
    world.verify();
}

#[test]
fn a_child_of_what_changed_or_ended_meanwhile_is_to_be_judged_again() {
    let world = world();
    let one = world.create(delegation(1, "user:rita", "agent:bot"));
    let two = world.create_below(&one, delegation(2, "agent:bot", "agent:two")).unwrap();
    let child = |id: u8, chain: &[&Delegation], clock: Option<i64>| {
        let record = Delegation { parent: Some(two.id), depth: 3, ..delegation(id, "agent:two", "agent:three") };
        let chain = chain.iter().map(|record| (record.id, record.version)).collect();
        let new = NewDelegation { record, chain, idempotency: None, clock: clock.map(at) };
        world.commit(Change::CreateDelegation(Box::new(new)))
    };
    #[track_caller]
    fn refused(outcome: Result<Committed, Error>, by: &Delegation) {
        assert!(matches!(&outcome, Err(Error::DelegationChanged(id)) if *id == by.id), "{outcome:?}");
    }
    assert!(child(11, &[&one, &two], None).is_ok());
    // The id is another's.
    refused(child(2, &[&one, &two], None), &two);
    let after = narrowed(&one, &["invoice:9"], 900);
    world.commit(Change::NarrowDelegation(Box::new(after.clone()))).unwrap();
    refused(child(12, &[&one, &two], None), &one);
    world.set(899);
    assert!(child(13, &[&after, &two], None).is_ok());
    world.set(900);
    refused(child(14, &[&after, &two], None), &after);
    // Under a clock that the request set, that one counts.
    assert!(child(15, &[&after, &two], Some(899)).is_ok());
    refused(child(16, &[&after, &two], Some(900)), &after);
    // Not yet valid is no obstacle.
    assert!(child(17, &[&after, &two], Some(-1)).is_ok());
    world.revoke(one.id).unwrap();
    let gone = world.now().delegation(&one.id).unwrap().unwrap();
    refused(child(18, &[&after, &two], Some(100)), &after);
    refused(child(19, &[&gone, &two], Some(100)), &gone);
    // Nobody revoked the parent itself: the whole chain counts.
    assert!(world.now().delegation(&two.id).unwrap().unwrap().revoked.is_none());
    let unknown = child(20, &[&delegation(99, "user:eve", "agent:bot")], None);
    assert!(matches!(unknown, Err(Error::NoDelegation(_))), "{unknown:?}");
    world.verify();
}

#[test]
fn preconditions_and_dry_runs_are_as_for_tuples() {
    let world = world();
    let refused = world.store.commit(Commit {
        preconditions: vec![Precondition::MustMatch(TupleFilter::default())],
        precondition_rows_max: 10,
        ..commit(created(delegation(1, "user:rita", "agent:bot")))
    });
    assert!(matches!(refused, Err(Error::PreconditionFailed { index: 0 })), "{refused:?}");
    let dry = Commit { only_judge: true, ..commit(created(delegation(1, "user:rita", "agent:bot"))) };
    let judged = world.store.commit(dry).unwrap();
    assert_eq!((judged.changed, judged.delegation.map(|record| record.number)), (1, Some(1)));
    assert_eq!(world.now().revision(), Revision(0));
    assert_eq!(world.now().delegation(&DelegationId([1; 16])).unwrap(), None);
    let other_schema =
        Commit { schema_revision: Revision(7), ..commit(created(delegation(1, "user:rita", "agent:bot"))) };
    assert!(matches!(world.store.commit(other_schema), Err(Error::SchemaChanged)));
}

#[test]
fn what_is_over_is_passed_by_and_an_end_is_exclusive() {
    let world = world();
    for (id, end) in [(1, 300), (2, 200), (3, 300), (4, 400)] {
        let record = Delegation { expires_at: at(end), ..delegation(id, "user:rita", "agent:bot") };
        world.create(record);
    }
    world.create(delegation(5, "user:ritas", "agent:bot"));
    let now = world.now();
    assert_eq!(left(&now, "user:rita", 199), [2, 1, 3, 4]);
    assert_eq!(left(&now, "user:rita", 200), [1, 3, 4]);
    assert_eq!(left(&now, "user:rita", 300), [4]);
    assert_eq!(left(&now, "user:rita", 400), [0; 0]);
    world.create(delegation(6, "user:rita", "group:triage#member"));
    let mut seen = 0;
    world
        .now()
        .delegations_left(&object("user:rita"), &object("agent:bot"), at(0), |_| {
            seen += 1;
            ControlFlow::Break(())
        })
        .unwrap();
    assert_eq!(seen, 1);
}

#[test]
fn what_was_given_to_other_objects_is_passed_by() {
    let world = world();
    for (id, delegate) in [(1, "agent:bot"), (2, "agent:bots"), (3, "group:triage#member"), (4, "agent:bo")] {
        world.create(delegation(id, "user:rita", delegate));
    }
    world.create(delegation(5, "user:dana", "agent:bot"));
    let now = world.now();
    assert_eq!(left_to(&now, ("user:rita", "agent:bot"), 0), [1, 3]);
    assert_eq!(left_to(&now, ("user:rita", "agent:bots"), 0), [2, 3]);
    assert_eq!(left_to(&now, ("user:rita", "agent:b"), 0), [3]);
    assert_eq!(left_to(&now, ("user:rita", "group:triage"), 0), [3]);
    assert_eq!(left_to(&now, ("user:rit", "agent:bot"), 0), [0; 0]);
}

/// As format 1 had it: live ones by root alone, and no others.
fn in_format_1(world: &World) {
    let (db, families) = (world.store.db.borrow_owner(), world.store.db.families());
    for index in [8_u8, 9] {
        db.delete_range_cf(families.delegation_index, [index], [index + 1]).unwrap();
    }
    for record in world.now().delegations(0, usize::MAX).unwrap() {
        let end = crate::store::keys::instant_key(record.expires_at);
        let key = [&[6], record.root.to_string().as_bytes(), &[0], &end, &record.number.to_be_bytes()].concat();
        if record.revoked.is_none() {
            db.put_cf(families.delegation_index, key, []).unwrap();
        }
    }
    db.put_cf(families.meta, crate::store::META_FORMAT, 1_u32.to_be_bytes()).unwrap();
}

#[test]
fn a_folder_of_format_1_is_brought_up() {
    let world = world();
    for (id, delegate) in [(1, "agent:bot"), (2, "agent:other"), (3, "group:triage#member"), (4, "agent:bot")] {
        world.create(Delegation { expires_at: at(300 + i64::from(id)), ..delegation(id, "user:rita", delegate) });
    }
    world.revoke(DelegationId([1; 16])).unwrap();
    in_format_1(&world);
    let world = world.reopened();
    assert_eq!(left(&world.now(), "user:rita", 0), [4, 3]);
    assert_eq!(left(&world.now(), "user:rita", 303), [4]);
    world.verify();
    // Once is enough, and what is made since stays.
    world.create(delegation(5, "user:rita", "agent:bot"));
    let world = world.reopened();
    assert_eq!(left(&world.now(), "user:rita", 0), [4, 5, 3]);
    world.verify();
    let db = world.store.db.borrow_owner();
    db.put_cf(world.store.db.families().meta, crate::store::META_FORMAT, 3_u32.to_be_bytes()).unwrap();
    let World { folder, store, clock: _ } = world;
    drop(store);
    let outcome = Store::open(folder.path(), &Limits::default(), Arc::new(|| at(0)), Collector::Off, InMemory::alone());
    assert!(matches!(outcome.err(), Some(Error::FormatNewer { found: 3, known: 2 })));
}

/// Kept in memory or not, and whatever is read beside it.
#[test]
fn what_is_kept_of_a_record_is_never_told_at_another_revision() {
    let world = world();
    let one = world.create(delegation(1, "user:rita", "agent:bot"));
    let mut held: Vec<(Arc<Snapshot>, Arc<Delegation>)> = vec![(world.now(), one.clone())];
    for step in 0..20 {
        let (newest, record) = held.last().cloned().unwrap();
        assert!(Arc::ptr_eq(
            &newest.delegation(&one.id).unwrap().unwrap(),
            &newest.delegation_by_number(one.number).unwrap().unwrap()
        ));
        let next = narrowed(&record, &["invoice:9"], 900 - step);
        world.commit(Change::NarrowDelegation(Box::new(next.clone()))).unwrap();
        held.push((world.now(), Arc::new(next)));
        // The older ones are read before the newest, after it, and again.
        for (snapshot, due) in held.iter().chain(held.iter().rev()).chain(&held) {
            assert_eq!(snapshot.delegation(&one.id).unwrap().as_ref(), Some(due), "at {:?}", snapshot.revision());
            assert_eq!(snapshot.delegation_by_number(1).unwrap().as_ref(), Some(due));
        }
    }
    world.revoke(one.id).unwrap();
    assert!(world.now().delegation(&one.id).unwrap().unwrap().revoked.is_some());
    let later = world.create(delegation(2, "user:rita", "agent:bot"));
    assert!(world.now().delegation(&later.id).unwrap().is_some());
    for (snapshot, _) in &held {
        assert_eq!(snapshot.delegation(&later.id).unwrap(), None);
    }
}

#[test]
fn without_memory_everything_is_read_and_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let memory = Arc::new(crate::store::Memory::of(0));
    let in_memory = InMemory { memory, beside: None };
    let store =
        Store::open(folder.path(), &Limits::default(), Arc::new(|| at(100)), Collector::Off, in_memory).unwrap();
    let world = World { folder, store, clock: Arc::default() };
    let one = world.create(delegation(1, "user:rita", "agent:bot"));
    let read = || world.now().delegation(&one.id).unwrap().unwrap();
    assert!(read() == one && !Arc::ptr_eq(&read(), &read()));
}

#[test]
fn a_suspension_holds_until_it_is_ended() {
    let world = world();
    assert!(!world.now().any_suspensions());
    let first = world.suspend("agent:bot");
    world.set(200);
    assert_eq!(world.suspend("agent:bot"), Committed { changed: 0, ..first });
    world.suspend("agent:a");
    world.suspend("user:rita");
    let world = world.reopened();
    let now = world.now();
    let due = Suspension { principal: object("agent:bot"), since: at(100), reason: "why".to_owned() };
    assert_eq!(now.suspension(&object("agent:bot")).unwrap(), Some(due));
    assert_eq!(now.suspension(&object("agent:bots")).unwrap(), None);
    let page = |after: Option<&str>, max| -> Vec<String> {
        let found = now.suspensions(after.map(object).as_ref(), max).unwrap();
        found.iter().map(|suspension| suspension.principal.to_string()).collect()
    };
    assert_eq!(page(None, 2), ["agent:a", "agent:bot"]);
    assert_eq!(page(Some("agent:bot"), 2), ["user:rita"]);
    assert_eq!(page(Some("user:rita"), 2), [""; 0]);
    drop(now);
    for principal in ["agent:bot", "agent:a", "agent:nobody", "user:rita"] {
        assert!(world.now().any_suspensions());
        let changed = u64::from(principal != "agent:nobody");
        assert_eq!(world.reinstate(principal).changed, changed);
    }
    assert!(!world.now().any_suspensions());
    assert!(!world.reopened().now().any_suspensions());
}

#[test]
fn a_group_sees_what_it_has_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let db = Arc::new(Db::open_at(folder.path()).unwrap());
    let state = load_state(db.clone(), Arc::new(Dictionary::new(db, Arc::new(Memory::of(0))).unwrap())).unwrap();
    let mut overlay = Overlay::new(&state);
    let accept = |overlay: &mut Overlay<'_>, change: Change| {
        let verdict = judge(overlay, &commit(change), at(100)).unwrap();
        verdict.entries.iter().for_each(|entry| overlay.apply(entry.clone()).unwrap());
        verdict
    };
    let one = accept(&mut overlay, created(delegation(1, "user:rita", "agent:bot"))).delegation.unwrap();
    let child = Delegation { parent: Some(one.id), depth: 2, ..delegation(2, "agent:bot", "agent:sub") };
    let below = |id, version| {
        let record = Delegation { id: DelegationId([id; 16]), ..child.clone() };
        let idempotency = Some(Idempotency { key: (*b"key").into(), digest: [0; 32] });
        let new = NewDelegation { record, chain: vec![(one.id, version)], idempotency, clock: None };
        Change::CreateDelegation(Box::new(new))
    };
    let two = accept(&mut overlay, below(2, 0)).delegation.unwrap();
    assert_eq!((one.number, two.number), (1, 2));
    assert_eq!(accept(&mut overlay, below(3, 0)).delegation, Some(two));
    assert_eq!(
        accept(&mut overlay, Change::NarrowDelegation(Box::new(narrowed(&one, &["invoice:8"], 500)))).changed,
        1
    );
    let stale =
        judge(&overlay, &commit(Change::NarrowDelegation(Box::new(narrowed(&one, &["invoice:8"], 400)))), at(100));
    assert!(matches!(stale.err(), Some(Error::DelegationChanged(_))));
    let revoke_all = || Change::RevokeAllFor { principal: subject("agent:bot"), reason: String::new(), limit: 9 };
    assert_eq!(accept(&mut overlay, revoke_all()).changed, 2);
    assert_eq!(accept(&mut overlay, revoke_all()).changed, 0);
    let suspend = || Change::Suspend { principal: object("agent:bot"), reason: String::new() };
    let changed = [suspend(), suspend(), Change::Reinstate { principal: object("agent:bot") }, suspend()]
        .map(|change| accept(&mut overlay, change).changed);
    assert_eq!(changed, [1, 0, 1, 1]);
}

#[test]
fn the_changelog_tells_each_change_with_its_whole_record() {
    let world = world();
    let one = world.create(delegation(1, "user:rita", "agent:bot"));
    let two = narrowed(&one, &["invoice:8"], 500);
    world.commit(Change::NarrowDelegation(Box::new(two.clone()))).unwrap();
    let three = world.revoke(one.id).unwrap().delegation.unwrap();
    world.suspend("agent:bot");
    world.reinstate("agent:bot");
    let mut told = Vec::new();
    let each = |_, entry: Option<LogEntry>| {
        told.extend(entry.filter(|entry| !matches!(entry, LogEntry::Mark { .. })));
        Ok(ControlFlow::Continue(()))
    };
    world.now().log(LogPosition::after(Revision(0)), each).unwrap();
    let entry = |record: Arc<Delegation>, change| LogEntry::Delegation { record, change, idempotency: None };
    let suspension = Suspension { principal: object("agent:bot"), since: at(100), reason: "why".to_owned() };
    let due = [
        entry(one, DelegationChange::Created),
        entry(Arc::new(two), DelegationChange::Narrowed),
        entry(three, DelegationChange::Revoked),
        LogEntry::Suspended(suspension),
        LogEntry::Reinstated { principal: object("agent:bot") },
    ];
    assert_eq!(told, due);
}

#[test]
fn entries_of_the_changelog_survive_bytes_and_damage_is_seen() {
    let record = Arc::new(delegation(1, "user:rita", "group:bots#member"));
    let idempotency = Some(Idempotency { key: (*b"k\0").into(), digest: [7; 32] });
    let suspension = Suspension { principal: object("agent:bot"), since: at(1), reason: "why".to_owned() };
    for entry in [
        LogEntry::Delegation { record: record.clone(), change: DelegationChange::Created, idempotency },
        LogEntry::Delegation { record: record.clone(), change: DelegationChange::Created, idempotency: None },
        LogEntry::Delegation { record: record.clone(), change: DelegationChange::Narrowed, idempotency: None },
        LogEntry::Delegation { record: record.clone(), change: DelegationChange::Revoked, idempotency: None },
        LogEntry::Suspended(suspension),
        LogEntry::Reinstated { principal: object("agent:bot") },
    ] {
        let bytes = entry.encode().unwrap();
        assert_eq!(LogEntry::decode(&bytes).unwrap(), entry);
        assert!(LogEntry::decode(&bytes[..1]).is_err());
        if !matches!(entry, LogEntry::Reinstated { .. }) {
            assert!((1..bytes.len()).all(|cut| LogEntry::decode(&bytes[..cut]).is_err()), "{entry:?}");
        }
    }
    let empty = Some(Idempotency { key: (*b"").into(), digest: [7; 32] });
    assert!(LogEntry::Delegation { record, change: DelegationChange::Created, idempotency: empty }.encode().is_err());
}

#[test]
fn a_folder_from_before_there_were_delegations_opens() {
    let World { folder, store, clock } = world();
    store.commit(commit(Change::Tuples(Vec::new()))).unwrap();
    drop(store);
    let options = rocksdb::Options::default();
    let families = rocksdb::DB::list_cf(&options, folder.path()).unwrap();
    let mut db = rocksdb::DB::open_cf(&options, folder.path(), &families).unwrap();
    for family in ["delegation", "delegation_index", "suspension"] {
        db.drop_cf(family).unwrap();
    }
    drop(db);
    let world = World { store: open(&folder, &clock), folder, clock };
    assert_eq!(world.now().revision(), Revision(1));
    assert!(world.now().delegations(0, 9).unwrap().is_empty());
    assert_eq!(world.create(delegation(1, "user:rita", "agent:bot")).number, 1);
    world.suspend("agent:bot");
    world.verify();
}

#[test]
fn a_state_that_is_not_what_its_changelog_says_is_seen() {
    for family in ["delegation", "delegation_index", "suspension"] {
        let world = world();
        world.create(delegation(1, "user:rita", "agent:bot"));
        world.suspend("agent:bot");
        world.verify();
        let families = world.store.db.families();
        let family_handle = match family {
            "delegation" => families.delegation,
            "delegation_index" => families.delegation_index,
            _ => families.suspension,
        };
        world.store.db.borrow_owner().put_cf(family_handle, b"x", b"y").unwrap();
        let outcome = world.store.verify(tempfile::tempdir().unwrap().path());
        assert!(matches!(&outcome, Err(Error::Corrupt(text)) if text.contains(&format!("`{family}`"))), "{outcome:?}");
    }
}

#[test]
fn numbers_that_are_no_short_decimals_are_written_again_as_the_same_bytes() {
    let world = world();
    let mut record = delegation(1, "user:rita", "agent:bot");
    // Read by an inexact parser, these come out one bit off.
    for (at, number) in
        [1.1e-7, 0.3, 9.5e-308, 5.708_990_770_823_839e-7, 1.797_693_134_862_315_7e308].into_iter().enumerate()
    {
        record.metadata.insert(format!("n{at}"), number.into());
    }
    let one = world.create(record);
    for version in 0..3 {
        let read = world.now().delegation(&one.id).unwrap().unwrap();
        assert_eq!((&read.metadata, read.version), (&one.metadata, version));
        world.commit(Change::NarrowDelegation(Box::new(narrowed(&read, &["invoice:9"], 900)))).unwrap();
    }
    world.verify();
}

const PRINCIPALS: [&str; 5] = ["user:rita", "user:dana", "agent:bot", "agent:sub", "group:bots#member"];
const ANCHORS: [&str; 4] = ["invoice:8", "invoice:9", "workspace:support", "org:acme"];

#[derive(Clone, Default)]
struct Model {
    records: Vec<Delegation>,
    suspended: BTreeMap<ObjectRef, Suspension>,
}

impl Model {
    fn check(&self, snapshot: &Snapshot) {
        let all = snapshot.delegations(0, usize::MAX).unwrap();
        assert_eq!(all.iter().map(|record| &**record).collect::<Vec<_>>(), self.records.iter().collect::<Vec<_>>());
        let due = |test: &dyn Fn(&Delegation) -> bool| -> Vec<u64> {
            self.records.iter().filter(|record| test(record)).map(|record| record.number).collect()
        };
        for record in &self.records {
            assert_eq!(snapshot.delegation(&record.id).unwrap().as_deref(), Some(record));
            assert_eq!(by(snapshot, DelegationsBy::Parent(&record.id)), due(&|other| other.parent == Some(record.id)));
        }
        for text in PRINCIPALS {
            let delegate = subject(text);
            assert_eq!(by(snapshot, DelegationsBy::Delegate(&delegate)), due(&|record| record.delegate == delegate));
            let SubjectRef::Object(object) = delegate else { continue };
            assert_eq!(by(snapshot, DelegationsBy::Delegator(&object)), due(&|record| record.delegator == object));
            assert_eq!(by(snapshot, DelegationsBy::Root(&object)), due(&|record| record.root == object));
            for (now, to) in [0, 400, 700, 1_000].into_iter().zip(PRINCIPALS.into_iter().cycle().skip(text.len())) {
                let Ok(to) = to.parse::<ObjectRef>() else { continue };
                let is_left = |record: &Delegation| {
                    let may_be = match &record.delegate {
                        SubjectRef::Object(delegate) => *delegate == to,
                        SubjectRef::Userset(..) | SubjectRef::Wildcard(_) => true,
                    };
                    may_be && record.root == object && record.revoked.is_none() && at(now) < record.expires_at
                };
                let mut found = left_to(snapshot, (text, &to.to_string()), now);
                found.sort_unstable();
                assert_eq!(found, due(&is_left), "{text} to {to} at {now}");
            }
            assert_eq!(snapshot.suspension(&object).unwrap().as_ref(), self.suspended.get(&object));
            assert_eq!(snapshot.is_suspended(&object).unwrap(), self.suspended.contains_key(&object));
        }
        for text in ANCHORS {
            let anchor = object(text);
            assert_eq!(by(snapshot, DelegationsBy::Anchor(&anchor)), due(&|record| record.anchors().contains(&anchor)));
        }
        assert_eq!(snapshot.any_suspensions(), !self.suspended.is_empty());
        let listed = snapshot.suspensions(None, usize::MAX).unwrap();
        assert_eq!(listed.iter().collect::<Vec<_>>(), self.suspended.values().collect::<Vec<_>>());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// After any history, what is read is what a simple model says, and the state is what its changelog says.
    #[test]
    fn histories_end_in_what_they_say(steps in proptest::collection::vec(any::<(u8, u8, u8)>(), 1..40)) {
        let world = world();
        let mut model = Model::default();
        let mut held = Vec::new();
        for (step, (what, a, b)) in steps.iter().enumerate() {
            let pick = |of: &[&'static str], by: u8| of[usize::from(by) % of.len()];
            let chosen = model.records.get(usize::from(*b) % model.records.len().max(1)).cloned();
            match (what % 8, chosen) {
                (0..=2, parent) | (3..=5, parent @ None) => {
                    let parent = parent.filter(|parent| what % 2 == 0 && parent.revoked.is_none());
                    let id = u8::try_from(step).unwrap();
                    let record = Delegation {
                        clauses: vec![clause(&[pick(&ANCHORS, *a), pick(&ANCHORS, *b)])],
                        expires_at: at(300 + 100 * i64::from(a % 8)),
                        ..delegation(id, pick(&PRINCIPALS[..4], *a), pick(&PRINCIPALS, *b))
                    };
                    let made = match parent {
                        Some(parent) => world.create_below(&parent, record).unwrap(),
                        None => world.create(record),
                    };
                    model.records.push(Delegation::clone(&made));
                    prop_assert_eq!(made.number, model.records.len() as u64);
                }
                (3, Some(before)) => {
                    let after = narrowed(&before, &[pick(&ANCHORS, *a)], before.expires_at.seconds() - 1);
                    let outcome = world.commit(Change::NarrowDelegation(Box::new(after.clone())));
                    prop_assert_eq!(outcome.is_ok(), before.revoked.is_none());
                    if before.revoked.is_none() {
                        model.records[usize::try_from(before.number).unwrap() - 1] = after;
                    }
                }
                (4, Some(before)) => {
                    let after = world.revoke(before.id).unwrap().delegation.unwrap();
                    prop_assert!(after.revoked.is_some());
                    model.records[usize::try_from(before.number).unwrap() - 1] = Delegation::clone(&after);
                }
                (5, Some(_)) => {
                    let principal = pick(&PRINCIPALS, *a);
                    let mut count = 0;
                    for record in &mut model.records {
                        let named = record.delegator.to_string() == principal || record.delegate.to_string() == principal;
                        if named && record.revoked.is_none() {
                            record.revoked = Some(Revoked { at: at(100), reason: "all".to_owned() });
                            record.version += 1;
                            count += 1;
                        }
                    }
                    prop_assert_eq!(world.revoke_all(principal, 99).unwrap(), count);
                }
                (6, _) => {
                    let principal = pick(&PRINCIPALS[..4], *a);
                    world.suspend(principal);
                    let suspension = Suspension { principal: object(principal), since: at(100), reason: "why".to_owned() };
                    model.suspended.entry(object(principal)).or_insert(suspension);
                }
                _ => {
                    let principal = pick(&PRINCIPALS[..4], *a);
                    world.reinstate(principal);
                    model.suspended.remove(&object(principal));
                }
            }
            // Read once while it is the newest, and again at the end.
            model.check(&world.now());
            held.push((world.now(), model.clone()));
        }
        for (snapshot, model) in &held {
            model.check(snapshot);
        }
        drop(held);
        model.check(&world.now());
        world.verify();
        let world = world.reopened();
        model.check(&world.now());
    }
}
