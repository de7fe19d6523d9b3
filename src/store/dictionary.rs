//! Object ids ↔ their numbers. A question looks ids up and never adds one; only the committer adds.
//!
//! The truth is in `dict` and `undict`, which never change an entry once written. What has been asked for is kept in
//! memory, positive answers only, so that asking for unknown ids costs no memory.

use super::db::Db;
use super::error::Error;
use super::keys::{numbered, read_u32};
use crate::model::{ObjectId, ObjectNum, TypeNum};
use arc_swap::ArcSwap;
use dashmap::DashMap;
use foldhash::fast::RandomState;
use std::sync::Arc;

#[derive(Default)]
struct OfType {
    numbers: DashMap<Arc<str>, ObjectNum, RandomState>,
    ids: DashMap<ObjectNum, ObjectId, RandomState>,
}

/// Ids of all types.
pub struct Dictionary {
    db: Arc<Db>,
    /// By type number; grows when a schema adds types.
    types: ArcSwap<Vec<Arc<OfType>>>,
}

impl Dictionary {
    pub(super) fn new(db: Arc<Db>) -> Dictionary {
        Dictionary { db, types: ArcSwap::default() }
    }

    fn of_type(&self, of: TypeNum) -> Arc<OfType> {
        if let Some(found) = self.types.load().get(of.index()) {
            return found.clone();
        }
        self.types.rcu(|types| {
            let mut types = Vec::clone(types);
            types.resize_with(types.len().max(of.index() + 1), Arc::default);
            types
        });
        self.types.load().get(of.index()).cloned().unwrap_or_default()
    }

    /// The number of an id, if any tuple ever named it.
    pub fn number(&self, of: TypeNum, id: &str) -> Result<Option<ObjectNum>, Error> {
        let of_type = self.of_type(of);
        if let Some(found) = of_type.numbers.get(id) {
            return Ok(Some(*found));
        }
        let Some(bytes) = self.db.get(self.db.families().dict, &numbered(of.0, id.as_bytes()))? else {
            return Ok(None);
        };
        let number = ObjectNum(read_u32(&bytes, 0)?);
        of_type.numbers.insert(id.into(), number);
        Ok(Some(number))
    }

    /// The id that has this number.
    pub fn id(&self, of: TypeNum, number: ObjectNum) -> Result<ObjectId, Error> {
        let of_type = self.of_type(of);
        if let Some(found) = of_type.ids.get(&number) {
            return Ok(found.clone());
        }
        let corrupt = || Error::Corrupt(format!("the id of number {} is missing", number.0));
        let bytes = self.db.get(self.db.families().undict, &numbered(of.0, &number.0.to_be_bytes()))?;
        let text = String::from_utf8(bytes.ok_or_else(corrupt)?).map_err(|_| corrupt())?;
        let id = ObjectId::new(text).map_err(|_| corrupt())?;
        of_type.ids.insert(number, id.clone());
        Ok(id)
    }

    /// The first number never given out in a type.
    pub(super) fn next_number(&self, of: TypeNum) -> Result<u32, Error> {
        match self.db.last_key(self.db.families().undict, &of.0.to_be_bytes())? {
            Some(key) => Ok(read_u32(&key, 4)?.saturating_add(1)),
            None => Ok(0),
        }
    }
}
