//! The dictionary: whatever of it is in memory, it answers alike; and what is added while it is being loaded is not lost.
#![cfg(test)]

use super::db::Db;
use super::dictionary::Dictionary;
use super::keys::numbered;
use super::{Change, Collector, Commit, Error, InMemory, Memory, NewSchema, Store};
use crate::model::{
    Limits, ObjectId, ObjectNum, RelationName, Revision, Timestamp, TupleUpdate, TypeName, TypeNum, UpdateKind,
};
use proptest::prelude::*;
use rocksdb::WriteBatch;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;

const USER: TypeNum = TypeNum(0);
const DOC: TypeNum = TypeNum(2);
/// Enough for parts, and not a multiple of what is loaded at once.
const IDS: u32 = 40_123;

/// Of every length up to a hundred, and a few of the longest.
fn id_of(number: u32) -> String {
    let length = if number % 5_000 == 7 { 1_024 } else { number as usize % 100 };
    format!("{number:-<length$}")
}

fn empty() -> (TempDir, Arc<Db>) {
    let folder = tempfile::tempdir().unwrap();
    let db = Arc::new(Db::open_at(folder.path()).unwrap());
    (folder, db)
}

/// Memory of which ids take half.
fn room(bytes: u64) -> Arc<Memory> {
    Arc::new(Memory::of(bytes))
}

fn ample() -> Arc<Memory> {
    room(u64::MAX)
}

/// As a commit puts them down.
fn put(db: &Db, of: TypeNum, numbers: impl Iterator<Item = u32>) {
    let mut batch = WriteBatch::default();
    for number in numbers {
        let id = id_of(number);
        batch.put_cf(db.families().dict, numbered(of.0, id.as_bytes()), number.to_be_bytes());
        batch.put_cf(db.families().undict, numbered(of.0, &number.to_be_bytes()), id);
    }
    db.borrow_owner().write(batch).unwrap();
}

fn add(dictionary: &Dictionary, of: TypeNum, numbers: impl Iterator<Item = u32>) {
    let ids: Vec<(u32, String)> = numbers.map(|number| (number, id_of(number))).collect();
    dictionary.add(ids.iter().map(|(number, id)| (of, ObjectNum(*number), id.as_str())));
}

/// Every id is found both ways, and nothing else is.
fn assert_holds(dictionary: &Dictionary, of: TypeNum, count: u32) {
    for number in 0..count {
        let id = id_of(number);
        assert_eq!(dictionary.number(of, &id).unwrap(), Some(ObjectNum(number)));
        assert_eq!(dictionary.id(of, ObjectNum(number)).unwrap().as_str(), id);
    }
    for absent in count..count + 100 {
        assert_eq!(dictionary.number(of, &id_of(absent)).unwrap(), None);
        assert!(matches!(dictionary.id(of, ObjectNum(absent)), Err(Error::Corrupt(_))));
    }
    assert_eq!(dictionary.number(of, "").unwrap(), None);
}

/// Of the numbers below `count`, how many are in memory.
fn in_memory(dictionary: &Dictionary, of: TypeNum, count: u32) -> u32 {
    let is_known = |number: &u32| dictionary.number_in_memory(of, &id_of(*number)).is_some();
    (0..count).filter(is_known).count().try_into().unwrap()
}

#[test]
fn answers_do_not_hang_on_what_is_in_memory() {
    let (_folder, db) = empty();
    put(&db, USER, 0..IDS);
    put(&db, DOC, 0..100);
    for (bytes_max, users, knows_absent) in
        [(0, 0, false), (40, 1, false), (2_000_000, 20_000, false), (u64::MAX, IDS, true)]
    {
        let memory = room(bytes_max);
        let dictionary = Arc::new(Dictionary::new(db.clone(), memory.clone()).unwrap());
        assert_eq!(in_memory(&dictionary, USER, IDS), 0, "nothing is in memory unless it is loaded");
        assert_holds(&dictionary, DOC, 100);
        dictionary.load().unwrap();
        dictionary.wait_until_loaded();
        assert_holds(&dictionary, USER, IDS);
        assert_holds(&dictionary, DOC, 100);
        let found = in_memory(&dictionary, USER, IDS);
        assert!(memory.held() <= bytes_max / 2);
        assert!(found >= users.min(14_000) && found <= users, "{found} ids within {bytes_max} bytes");
        assert_eq!(dictionary.number_in_memory(USER, "nobody"), knows_absent.then_some(None));
        // A type without ids is whole from the start, and so is one that nobody has named yet.
        for of in [TypeNum(1), TypeNum(9)] {
            assert_eq!(dictionary.number_in_memory(of, "nobody"), Some(None));
            assert_holds(&dictionary, of, 0);
        }
    }
}

#[test]
fn ids_that_no_longer_fit_are_found_in_the_store() {
    let (_folder, db) = empty();
    let dictionary = Arc::new(Dictionary::new(db.clone(), room(200_000)).unwrap());
    dictionary.load().unwrap();
    for from in (0..10_000).step_by(1_000) {
        put(&db, DOC, from..from + 1_000);
        add(&dictionary, DOC, from..from + 1_000);
        assert_holds(&dictionary, DOC, from + 1_000);
    }
    let found = in_memory(&dictionary, DOC, 10_000);
    assert!((500..3_000).contains(&found), "{found}");
    assert_eq!(dictionary.number_in_memory(DOC, "nobody"), None);
}

#[test]
fn nothing_added_while_loading_is_missed() {
    let (_folder, db) = empty();
    let before = 10_000;
    for round in 0..8 {
        // Each round a type of its own, loaded while a writer adds to it and a reader asks for what was acknowledged.
        let of = TypeNum(round);
        put(&db, of, 0..before);
        let dictionary = Arc::new(Dictionary::new(db.clone(), ample()).unwrap());
        let published = AtomicU32::new(before);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in before..before + 3_000 {
                    put(&db, of, number..number + 1);
                    add(&dictionary, of, number..number + 1);
                    published.store(number + 1, Ordering::Release);
                }
            });
            scope.spawn(|| {
                let mut newest = 0;
                while newest < before + 3_000 {
                    newest = published.load(Ordering::Acquire);
                    for number in [newest - 1, newest / 2, newest - before] {
                        assert_eq!(dictionary.number(of, &id_of(number)).unwrap(), Some(ObjectNum(number)));
                        assert_eq!(dictionary.id(of, ObjectNum(number)).unwrap().as_str(), id_of(number));
                    }
                }
            });
            dictionary.load().unwrap();
            dictionary.wait_until_loaded();
        });
        assert_eq!(in_memory(&dictionary, of, before + 3_100), before + 3_100, "the absent are known to be absent");
        assert_holds(&dictionary, of, before + 3_000);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Sync(u32),
    Add,
    Look,
    TakeIn,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![(1..300_u32).prop_map(Step::Sync), Just(Step::Add), Just(Step::Look), Just(Step::TakeIn)];
    prop::collection::vec(step, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn a_commit_may_fall_between_any_steps_of_the_loader(before in 0..600_u32, steps in steps()) {
        let (_folder, db) = empty();
        let (mut synced, mut added, mut found) = (before, before, None);
        put(&db, DOC, 0..before);
        let dictionary = Dictionary::new(db.clone(), ample()).unwrap();
        for step in steps {
            match step {
                Step::Sync(count) if synced == added => {
                    synced += count;
                    put(&db, DOC, added..synced);
                }
                Step::Sync(_) | Step::Add => {
                    add(&dictionary, DOC, added..synced);
                    added = synced;
                }
                Step::Look => found = dictionary.next_ids(DOC).unwrap(),
                Step::TakeIn => found.take().into_iter().for_each(|found| dictionary.take_in(DOC, &found)),
            }
            for number in [0, added / 2, added.saturating_sub(1), added, added + 300] {
                let known = dictionary.number(DOC, &id_of(number)).unwrap();
                let due = (number < synced).then_some(ObjectNum(number));
                // Whether what is not added yet is known is all one: no published row names it.
                prop_assert!(known == due || (known.is_none() && number >= added), "{} is {:?}", number, known);
            }
        }
        add(&dictionary, DOC, added..synced);
        while let Some(found) = dictionary.next_ids(DOC).unwrap() {
            dictionary.take_in(DOC, &found);
        }
        prop_assert_eq!(in_memory(&dictionary, DOC, synced + 100), synced + 100);
        assert_holds(&dictionary, DOC, synced);
    }
}

#[test]
fn loading_ends_when_it_is_told_to() {
    let (_folder, db) = empty();
    put(&db, USER, 0..IDS);
    let dictionary = Arc::new(Dictionary::new(db.clone(), ample()).unwrap());
    dictionary.load().unwrap();
    dictionary.close();
    assert_eq!(Arc::strong_count(&dictionary), 1);
    assert_holds(&dictionary, USER, IDS);
    drop(dictionary);
    assert_eq!(Arc::strong_count(&db), 1, "somebody holds the database");
}

fn commit(store: &Store, change: Change) -> Result<Revision, Error> {
    let schema_revision = store.published().schema_revision();
    let (parents, metadata) = (Arc::default(), Box::default());
    let commit = Commit {
        schema_revision,
        preconditions: Vec::new(),
        precondition_rows_max: 0,
        change,
        parents,
        metadata,
        only_judge: false,
    };
    store.commit(commit).map(|committed| committed.revision)
}

fn touch(tuples: &[&str]) -> Change {
    let update = |text: &&str| TupleUpdate { kind: UpdateKind::Touch, tuple: text.parse().unwrap() };
    Change::Tuples(tuples.iter().map(update).collect())
}

fn open(folder: &TempDir) -> Store {
    Store::open(folder.path(), &Limits::default(), Arc::new(|| Timestamp::MIN), Collector::Off, InMemory::alone())
        .unwrap()
}

#[test]
fn the_ids_of_a_refused_request_are_never_known() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder);
    let names = vec![
        (TypeName::new("user").unwrap(), Vec::new()),
        (TypeName::new("doc").unwrap(), vec![RelationName::new("viewer").unwrap()]),
    ];
    let (caveats, must_be_empty, new_parents) = (Vec::new(), Vec::new(), Vec::new());
    let schema = NewSchema { text: "a schema".to_owned(), names, caveats, must_be_empty, new_parents };
    commit(&store, Change::Schema(schema)).unwrap();
    let user = store.names().type_number("user").unwrap();
    commit(&store, touch(&["doc:1#viewer@user:rita"])).unwrap();
    for _ in 0..3 {
        // Refused by the last of its tuples, when the ids before it have had their numbers drawn.
        let there = TupleUpdate { kind: UpdateKind::Create, tuple: "doc:1#viewer@user:rita".parse().unwrap() };
        let Change::Tuples(new) = touch(&["doc:2#viewer@user:dana"]) else { unreachable!() };
        let refused = commit(&store, Change::Tuples(new.iter().cloned().chain([there]).collect()));
        assert!(matches!(refused, Err(Error::AlreadyExists(_))), "{refused:?}");
        for _ in 0..2 {
            let dictionary = store.dictionary();
            assert_eq!(dictionary.number(user, "dana").unwrap(), None);
            assert_eq!(dictionary.number(user, "rita").unwrap(), Some(ObjectNum(0)));
            assert_eq!(dictionary.id(user, ObjectNum(0)).unwrap(), ObjectId::new("rita").unwrap());
            drop(store);
            store = open(&folder);
        }
        store.dictionary().wait_until_loaded();
        assert_eq!(store.dictionary().number_in_memory(user, "dana"), Some(None));
        assert_eq!(store.dictionary().number_in_memory(user, "rita"), Some(Some(ObjectNum(0))));
    }
    // What was refused gave no number away.
    commit(&store, touch(&["doc:2#viewer@user:dana"])).unwrap();
    assert_eq!(store.dictionary().number_in_memory(user, "dana"), Some(Some(ObjectNum(1))));
}
