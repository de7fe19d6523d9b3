//! Object ids ↔ their numbers. A question looks ids up and never adds one; only the committer adds.
//!
//! The truth is in `dict` and `undict`, which never change an entry once written. Of each type the ids with the numbers
//! below some length are in memory too: all of them, once they are loaded and while they fit. Then a miss is a "no";
//! otherwise the store is asked.
//!
//! INVARIANT: what is in memory of a type is what `undict` holds of it up to some number, without a gap. So whether an
//! id is in memory changes how fast an answer is, and never the answer.

use super::db::Db;
use super::error::Error;
use super::keys::{numbered, read_u32};
use super::memory::Memory;
use crate::model::{ObjectId, ObjectNum, TypeNum};
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;

/// Ids of all types.
pub struct Dictionary {
    db: Arc<Db>,
    hasher: RandomState,
    resident: RwLock<Resident>,
    is_closing: AtomicBool,
    loader: Mutex<Option<JoinHandle<()>>>,
}

/// What is in memory.
struct Resident {
    /// By type number. A type that is not here has no id.
    types: Vec<OfType>,
    bytes: u64,
    memory: Arc<Memory>,
}

/// Ids of one type, in memory.
#[derive(Default)]
struct OfType {
    ids: Ids,
    numbers: Numbers,
    state: Residence,
}

/// How much of a type is in memory.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Residence {
    /// All that is committed.
    #[default]
    Whole,
    /// The numbers below some length, until the loader is through.
    Loading,
    /// The numbers below some length; there is no room for the others.
    Part,
}

/// Ids read from the store before they are taken in, under one lock.
const LOADED_AT_ONCE: usize = 256;

/// Ids in the order of their numbers.
type NextIds = Vec<(u32, Vec<u8>)>;

impl Dictionary {
    /// Of the types that have ids in the store nothing is in memory yet: `load` begins that.
    pub(super) fn new(db: Arc<Db>, memory: Arc<Memory>) -> Result<Dictionary, Error> {
        let types = match db.last_key(db.families().undict, &[])? {
            Some(key) => TypeNum(read_u32(&key, 0)?).index() + 1,
            None => 0,
        };
        let mut resident = Resident { types: Vec::new(), bytes: 0, memory };
        resident.types.resize_with(types, || OfType { state: Residence::Loading, ..OfType::default() });
        Ok(Dictionary {
            db,
            hasher: RandomState::default(),
            resident: RwLock::new(resident),
            is_closing: AtomicBool::new(false),
            loader: Mutex::new(None),
        })
    }

    /// The number of an id, if any tuple ever named it.
    pub fn number(&self, of: TypeNum, id: &str) -> Result<Option<ObjectNum>, Error> {
        if let Some(known) = self.number_in_memory(of, id) {
            return Ok(known);
        }
        let found = self.db.get(self.db.families().dict, &numbered(of.0, id.as_bytes()))?;
        found.map(|bytes| read_u32(&bytes, 0).map(ObjectNum)).transpose()
    }

    /// The same, if the store need not be asked for it.
    #[must_use]
    pub fn number_in_memory(&self, of: TypeNum, id: &str) -> Option<Option<ObjectNum>> {
        let hash = self.hasher.hash_one(id.as_bytes());
        let resident = self.read();
        let Some(of_type) = resident.types.get(of.index()) else { return Some(None) };
        match of_type.numbers.find(hash, |number| of_type.ids.get(number) == Some(id.as_bytes())) {
            Some(number) => Some(Some(ObjectNum(number))),
            None if of_type.state == Residence::Whole => Some(None),
            None => None,
        }
    }

    /// The id that has this number.
    pub fn id(&self, of: TypeNum, number: ObjectNum) -> Result<ObjectId, Error> {
        let corrupt = || Error::Corrupt(format!("the id of number {} is missing", number.0));
        let known = {
            let resident = self.read();
            let known = resident.types.get(of.index()).and_then(|of_type| of_type.ids.get(number.0));
            known.map(<[u8]>::to_vec)
        };
        let bytes = match known {
            Some(bytes) => bytes,
            None => {
                let found = self.db.get(self.db.families().undict, &numbered(of.0, &number.0.to_be_bytes()))?;
                found.ok_or_else(corrupt)?
            }
        };
        String::from_utf8(bytes).ok().and_then(|text| ObjectId::new(text).ok()).ok_or_else(corrupt)
    }

    /// Takes in what a commit added, in the order of its numbers. The commit is synced and not yet published.
    pub(super) fn add<'i>(&self, added: impl IntoIterator<Item = (TypeNum, ObjectNum, &'i str)>) {
        let mut added = added.into_iter().peekable();
        // Bounded by what was added; readers come in between.
        while added.peek().is_some() {
            let mut resident = self.write();
            for (of, number, id) in added.by_ref().take(LOADED_AT_ONCE) {
                if resident.types.len() <= of.index() {
                    resident.types.resize_with(of.index() + 1, OfType::default);
                }
                resident.append(&self.hasher, of, number.0, id.as_bytes());
            }
        }
    }

    /// The first number never given out in a type.
    pub(super) fn next_number(&self, of: TypeNum) -> Result<u32, Error> {
        match self.db.last_key(self.db.families().undict, &of.0.to_be_bytes())? {
            Some(key) => Ok(read_u32(&key, 4)?.saturating_add(1)),
            None => Ok(0),
        }
    }

    /// Begins to take in all ids, on a thread of its own.
    pub(super) fn load(self: &Arc<Self>) -> Result<(), Error> {
        let dictionary = self.clone();
        let loading = std::thread::Builder::new().name("dictionary".to_owned()).spawn(move || {
            if let Err(error) = dictionary.load_all() {
                tracing::warn!(%error, "the ids could not be loaded into memory; the store is asked for them");
            }
        })?;
        *self.loader.lock().unwrap_or_else(PoisonError::into_inner) = Some(loading);
        Ok(())
    }

    /// Waits until all ids that fit are in memory.
    #[cfg(test)]
    pub(super) fn wait_until_loaded(&self) {
        let loader = self.loader.lock().unwrap().take();
        loader.into_iter().for_each(|loader| loader.join().unwrap());
    }

    /// Stops the loading, so that nothing holds the database.
    pub(super) fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
        let loader = self.loader.lock().unwrap_or_else(PoisonError::into_inner).take();
        if loader.is_some_and(|loader| loader.join().is_err()) {
            tracing::error!("the loading of the ids had panicked");
        }
    }

    fn load_all(&self) -> Result<(), Error> {
        let types = self.read().types.len();
        for of in (0..types).filter_map(|at| u32::try_from(at).ok()).map(TypeNum) {
            // Bounded by the type's ids: each turn takes in some, or is the last.
            while !self.is_closing.load(Ordering::Acquire) {
                let Some(found) = self.next_ids(of)? else { break };
                self.take_in(of, &found);
            }
        }
        Ok(())
    }

    /// The ids of a type that the loader comes to next, as stored; `None` if it is done with the type.
    pub(super) fn next_ids(&self, of: TypeNum) -> Result<Option<NextIds>, Error> {
        let Some(from) = self.read().loading_from(of) else { return Ok(None) };
        let mut found = Vec::with_capacity(LOADED_AT_ONCE);
        let start = numbered(of.0, &from.to_be_bytes());
        self.db.scan_once(self.db.families().undict, &of.0.to_be_bytes(), &start, |key, id| {
            found.push((read_u32(key, 4)?, id.to_vec()));
            Ok(if found.len() < LOADED_AT_ONCE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        Ok(Some(found))
    }

    /// Takes in what the loader has found; the type is whole if that is nothing. Nothing found means that nothing at or
    /// above the length was synced by then. What has been since came through `add` with the next number, and was taken.
    pub(super) fn take_in(&self, of: TypeNum, found: &NextIds) {
        let mut resident = self.write();
        for (number, id) in found {
            resident.append(&self.hasher, of, *number, id);
        }
        if found.is_empty() {
            resident.finish(of);
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Resident> {
        self.resident.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Resident> {
        self.resident.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resident {
    /// The number that the loader of a type goes on from, while it has something to do.
    fn loading_from(&self, of: TypeNum) -> Option<u32> {
        let of_type = self.types.get(of.index())?;
        (of_type.state == Residence::Loading).then_some(of_type.ids.count)
    }

    /// Takes in the id if its number is the next. A smaller one the loader has read already; a larger one it will read,
    /// or there was no room for one before it.
    fn append(&mut self, hasher: &RandomState, of: TypeNum, number: u32, id: &[u8]) {
        let Some(of_type) = self.types.get_mut(of.index()) else { return };
        if number != of_type.ids.count || of_type.state == Residence::Part {
            return;
        }
        let bytes = (id.len() + BYTES_BESIDE_AN_ID) as u64;
        if self.bytes + bytes > self.memory.bytes_max() / SHARE || !self.memory.take(bytes) {
            of_type.state = Residence::Part;
            return;
        }
        self.bytes += bytes;
        let hash = hasher.hash_one(id);
        of_type.ids.push(id);
        let ids = &of_type.ids;
        of_type.numbers.insert(hash, number, |number| hasher.hash_one(ids.get(number).unwrap_or_default()));
    }

    fn finish(&mut self, of: TypeNum) {
        if let Some(of_type) = self.types.get_mut(of.index()).filter(|found| found.state == Residence::Loading) {
            of_type.state = Residence::Whole;
        }
    }
}

/// What an id costs beside its own bytes, about: 3 to find them by number, 6 to 12 to find the number.
const BYTES_BESIDE_AN_ID: usize = 12;
/// Ids take at most one part in so many of the memory: they come first and stay, and rows need the rest.
const SHARE: u64 = 2;

/// Ids by number, in blocks that are not moved once they are full.
///
/// ```text
/// block   start u16 of each of 64 ids, counted from the first · the ids      one ends where the next begins
/// ```
#[derive(Default)]
struct Ids {
    count: u32,
    blocks: Vec<Vec<u8>>,
}

/// Ids in one block. Of 64 ids of 1,024 bytes the last begins at 64,512, which fits 16 bits.
const BLOCK_IDS: usize = 64;
const STARTS_BYTES: usize = 2 * BLOCK_IDS;

impl Ids {
    fn get(&self, number: u32) -> Option<&[u8]> {
        if number >= self.count {
            return None;
        }
        let at = number as usize % BLOCK_IDS;
        let (starts, ids) = self.blocks.get(number as usize / BLOCK_IDS)?.split_first_chunk::<STARTS_BYTES>()?;
        let (starts, _) = starts.as_chunks::<2>();
        let start = |at: usize| starts.get(at).map(|start| usize::from(u16::from_ne_bytes(*start)));
        let is_last = at + 1 == BLOCK_IDS || number + 1 == self.count;
        let end = if is_last { ids.len() } else { start(at + 1)? };
        ids.get(start(at)?..end)
    }

    fn push(&mut self, id: &[u8]) {
        let at = self.count as usize % BLOCK_IDS;
        if at == 0 {
            self.blocks.push(vec![0; STARTS_BYTES]);
        }
        let Some(block) = self.blocks.last_mut() else { return };
        // Ids are bounded, so that it always fits.
        let start = u16::try_from(block.len() - STARTS_BYTES).unwrap_or(u16::MAX);
        if let Some(place) = block.get_mut(2 * at..2 * at + 2) {
            place.copy_from_slice(&start.to_ne_bytes());
        }
        block.extend_from_slice(id);
        if at + 1 == BLOCK_IDS {
            block.shrink_to_fit();
        }
        self.count += 1;
    }
}

/// Numbers by the hash of their id, in one table and, once they are many, in parts of unequal size.
///
/// A table doubles when it is full, and hashes all that is in it while readers wait. Parts do so one at a time, and
/// because their sizes are spread over a factor of two, never all of them in a row: neither the wait nor the memory
/// that is empty comes in one step.
struct Numbers {
    parts: Vec<HashTable<u32>>,
    /// In all parts.
    count: usize,
}

/// Parts of a large table.
const PARTS: usize = 256;
/// Ids above which a table is put into parts.
const UNPARTED_MAX: usize = 1 << 15;

impl Default for Numbers {
    fn default() -> Numbers {
        Numbers { parts: vec![HashTable::new()], count: 0 }
    }
}

impl Numbers {
    fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        self.parts.get(self.part(hash))?.find(hash, |number| is_it(*number)).copied()
    }

    fn insert(&mut self, hash: u64, number: u32, hash_of: impl Fn(u32) -> u64) {
        if self.count == UNPARTED_MAX && self.parts.len() == 1 {
            let numbers = std::mem::take(&mut self.parts);
            self.parts.resize_with(PARTS, HashTable::new);
            for number in numbers.into_iter().flatten() {
                self.put(hash_of(number), number, &hash_of);
            }
        }
        self.put(hash, number, &hash_of);
        self.count += 1;
    }

    fn put(&mut self, hash: u64, number: u32, hash_of: impl Fn(u32) -> u64) {
        let part = self.part(hash);
        if let Some(part) = self.parts.get_mut(part) {
            part.insert_unique(hash, number, |number| hash_of(*number));
        }
    }

    /// The part of a hash: the last takes twice the share of the first, those between in proportion. The table itself
    /// uses the lowest and the highest bits.
    fn part(&self, hash: u64) -> usize {
        if self.parts.len() == 1 {
            return 0;
        }
        let bits = (hash >> 24) as u32;
        // Of all hashes up to `x`, scaled to 0..1, the parts up to `place` have their share: 3 x = 2 place + place².
        let place = (1.0 + 3.0 * (f64::from(bits) / 4_294_967_296.0)).sqrt() - 1.0;
        ((place * PARTS as f64) as usize).min(PARTS - 1)
    }
}
