//! ImportTuples: many tuples in batches, each its own commit.
//!
//! INVARIANT: what an import comes to does not depend on where its batches are cut: a tuple that comes twice is treated
//! alike within a batch and across two.

use super::resolve::refused;
use super::{Engine, Error, Kind, Metadata};
use crate::model::{RelationTuple, Revision, TupleUpdate, UpdateKind};
use crate::store::{self, Change, Commit};
use hashbrown::HashMap;
use std::sync::Arc;

/// How an import treats a tuple that is there already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ImportMode {
    /// Writes it again.
    Touch,
    /// Refuses the batch.
    Create,
}

/// Tuples that are written together, or not at all.
#[derive(Debug, Clone)]
pub struct ImportBatch {
    pub mode: ImportMode,
    /// 1 to `updates_max`. Of two with the same key the later counts when touching; creating, they refuse the batch.
    pub tuples: Vec<RelationTuple>,
    pub metadata: Metadata,
}

/// What a batch came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    pub revision: Revision,
    /// Tuples that were not there.
    pub created: u64,
    /// Tuples that were there and are written again.
    pub replaced: u64,
}

impl Engine {
    /// Writes one batch; when it returns, it is on disk and every later read sees it. Nothing is written on any error.
    pub fn import_batch(&self, batch: ImportBatch) -> Result<Imported, Error> {
        let ImportBatch { mode, tuples, metadata } = batch;
        let most = self.limits.updates_max;
        if tuples.is_empty() {
            return Err(Error::invalid("tuples", "", "there is nothing to import"));
        }
        if tuples.len() > most {
            let message = format!("{} tuples; one batch takes at most {most}", tuples.len());
            let error = Error::new(Kind::ResourceExhausted, "TOO_MANY_UPDATES", message);
            return Err(error.with_fact("field", "tuples").with_fact("limit", most.to_string()));
        }
        let metadata = self.metadata(&metadata)?;
        let (places, updates) = updates(mode, tuples)?;
        let committed = self.commit(|in_force| {
            for (update, place) in updates.iter().zip(&places) {
                in_force
                    .schema
                    .admits(&update.tuple)
                    .map_err(|refusal| refused(&refusal, format!("tuples[{place}]")))?;
            }
            Ok(Commit {
                schema_revision: in_force.revision,
                parents: in_force.parents.clone(),
                preconditions: Vec::new(),
                precondition_rows_max: self.limits.precondition_rows_max,
                change: Change::Tuples(updates.clone()),
                metadata: metadata.clone(),
                only_judge: false,
            })
        });
        let committed = committed.map_err(|error| placed(error, &places, &updates))?;
        let store::Tally { created, replaced, removed: _ } = committed.tally;
        Ok(Imported { revision: committed.revision, created, replaced })
    }
}

/// The committer names the tuple that is there already; its place in the batch is what a caller looks for.
fn placed(error: Error, places: &[usize], updates: &[TupleUpdate]) -> Error {
    let named = error.facts.iter().find(|(key, _)| *key == "tuple").map(|(_, tuple)| tuple);
    let mut placed = updates.iter().zip(places);
    let found = named.and_then(|tuple| placed.find(|(update, _)| update.tuple.key.to_string() == *tuple));
    match found.map(|(_, place)| *place) {
        Some(place) => error.with_fact("field", format!("tuples[{place}]")),
        None => error,
    }
}

/// The updates, each key once, and beside them the place in the batch of the tuple that each came from.
fn updates(mode: ImportMode, tuples: Vec<RelationTuple>) -> Result<(Vec<usize>, Arc<[TupleUpdate]>), Error> {
    let mut last = HashMap::with_capacity(tuples.len());
    for (index, tuple) in tuples.iter().enumerate() {
        let before = last.insert(&tuple.key, index);
        if mode == ImportMode::Create && before.is_some() {
            let error = store::Error::AlreadyExists(tuple.key.clone());
            return Err(Error::from(error).with_fact("field", format!("tuples[{index}]")));
        }
    }
    let mut is_kept = vec![false; tuples.len()];
    for index in last.into_values() {
        if let Some(kept) = is_kept.get_mut(index) {
            *kept = true;
        }
    }
    let kind = match mode {
        ImportMode::Touch => UpdateKind::Touch,
        ImportMode::Create => UpdateKind::Create,
    };
    let places = is_kept.iter().enumerate().filter(|(_, kept)| **kept).map(|(place, _)| place).collect();
    let kept = tuples.into_iter().zip(is_kept).filter(|(_, kept)| *kept);
    Ok((places, kept.map(|(tuple, _)| TupleUpdate { kind, tuple }).collect()))
}
