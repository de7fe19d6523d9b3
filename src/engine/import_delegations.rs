//! ImportDelegations: records of another database, ids and all, so that an id in an old record means the same.
//!
//! INVARIANT: a batch is taken whole or not at all. Every record of it is of a chain that could have been made here by its
//! own record: no later than now, to live no longer than any may, frozen to nothing but the names that were asked for. What
//! `all` stood for, and who was a delegate, is as the other database says.

use super::asked_scope::{bounded, refused_by_law};
use super::chains::chain_of;
use super::{Engine, Error, Kind, Metadata};
use crate::delegation::{Chain, judge_record};
use crate::model::{Delegation, DelegationId, Revision, SubjectRef};
use crate::store::{self, Change, Snapshot};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The highest version that is taken: there is room for as many changes here. No record is changed so often.
const VERSION_MAX: u32 = u32::MAX / 2;

/// Delegations of another database.
#[derive(Debug, Clone)]
pub struct ImportDelegations {
    /// A parent before what is below it, each id once; 1 to `page_delegations_max`. Their numbers are given anew.
    pub records: Vec<Delegation>,
    pub metadata: Metadata,
}

/// What an import came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportedDelegations {
    pub created: u64,
    /// There already, just so.
    pub unchanged: u64,
    pub revision: Revision,
}

impl Engine {
    /// Takes records as they are: revoked ones stay revoked. Refused with `DELEGATION_EXISTS` when another record has the
    /// id of one, with `CHAIN_BROKEN` when one does not follow from its parent, and with the law's own reasons.
    pub fn import_delegations(&self, request: ImportDelegations) -> Result<ImportedDelegations, Error> {
        let ImportDelegations { records, metadata } = request;
        if records.is_empty() {
            return Err(Error::invalid("delegations", "", "there is nothing to import"));
        }
        let most = self.limits.page_delegations_max;
        bounded("delegations", records.len(), "page_delegations_max", most, "delegations")?;
        let metadata = self.metadata(&metadata)?;
        let snapshot = self.store.published();
        let count = records.len() as u64;
        let mut known: BTreeMap<DelegationId, Arc<Delegation>> = BTreeMap::new();
        let mut judged = Vec::with_capacity(records.len());
        for (index, record) in records.into_iter().enumerate() {
            let field = format!("delegations[{index}]");
            if known.contains_key(&record.id) {
                let message = "stands in this batch already";
                return Err(Error::invalid(format!("{field}.id"), &record.id.to_string(), message));
            }
            let record = self.judge_imported(&snapshot, &known, record, &field)?;
            known.insert(record.id, Arc::new(record.clone()));
            judged.push(record);
        }
        let committed =
            self.commit(|in_force| self.commit_of(in_force, &[], &metadata, Change::ImportDelegations(judged.clone())));
        let committed = committed.map_err(|error| {
            let id = error.facts.iter().find(|(name, _)| *name == "value").map(|(_, id)| id.clone());
            let at = judged.iter().position(|record| id.as_deref() == Some(record.id.to_string().as_str()));
            match (error.reason, at) {
                ("DELEGATION_EXISTS", Some(at)) => error.with_fact("field", format!("delegations[{at}].id")),
                _ => error,
            }
        })?;
        let (created, revision) = (committed.changed, committed.revision);
        Ok(ImportedDelegations { created, unchanged: count.saturating_sub(created), revision })
    }

    /// The record with its clauses in order, if it could have been made where it stands.
    fn judge_imported(
        &self,
        snapshot: &Snapshot,
        known: &BTreeMap<DelegationId, Arc<Delegation>>,
        record: Delegation,
        field: &str,
    ) -> Result<Delegation, Error> {
        let within = |name: &str| format!("{field}.{name}");
        if let SubjectRef::Wildcard(_) = &record.delegate {
            let message = "nothing is delegated to a wildcard";
            return Err(Error::invalid(within("delegate"), &record.delegate.to_string(), message));
        }
        if record.version > VERSION_MAX {
            let message = format!("at most {VERSION_MAX}; no record is changed so often");
            return Err(Error::invalid(within("version"), &record.version.to_string(), &message));
        }
        let most = self.limits.purpose_bytes_max;
        bounded(&within("purpose"), record.purpose.len(), "purpose_bytes_max", most, "bytes")?;
        self.metadata(&record.metadata)?;
        let parent = match record.parent {
            None => None,
            Some(id) => {
                let missing = || Error::from(store::Error::NoDelegation(id)).with_fact("field", within("parent"));
                Some(chain_above(snapshot, known, id)?.ok_or_else(missing)?)
            }
        };
        let limits = self.grant_limits();
        let now = if self.test_clock { None } else { Some(self.now(None)?) };
        let record = judge_record(record, parent.as_ref(), limits, now).map_err(|mut refusal| {
            refusal.field = within(&refusal.field);
            refused_by_law(&refusal)
        })?;
        self.bound_record(&record)?;
        let mut links: Vec<Arc<Delegation>> =
            parent.iter().flat_map(Chain::delegations).map(|link| Arc::new(link.clone())).collect();
        links.push(Arc::new(record.clone()));
        Chain::verify(links).map_err(|broken| {
            Error::new(Kind::InvalidArgument, "CHAIN_BROKEN", format!("{field}: {broken}"))
                .with_fact("field", field)
                .with_fact("value", record.id.to_string())
        })?;
        Ok(record)
    }
}

/// The chain that ends in a delegation of the batch, or of the database.
fn chain_above(
    snapshot: &Snapshot,
    known: &BTreeMap<DelegationId, Arc<Delegation>>,
    id: DelegationId,
) -> Result<Option<Chain>, Error> {
    let mut below = Vec::new();
    let mut next = Some(id);
    // Bounded: each of the batch has its parent before it.
    while let Some(record) = next.and_then(|id| known.get(&id)) {
        below.push(record.clone());
        next = record.parent;
    }
    let above = match next {
        None => None,
        Some(id) => match chain_of(snapshot, &id)? {
            None => return Ok(None),
            above @ Some(_) => above,
        },
    };
    below.reverse();
    let mut links: Vec<Arc<Delegation>> =
        above.iter().flat_map(Chain::delegations).map(|link| Arc::new(link.clone())).collect();
    links.extend(below);
    // Every one of the batch was verified when it was judged.
    let corrupt = |detail: String| Error::new(Kind::DataLoss, "CORRUPT", "stored data is damaged").with_detail(detail);
    Chain::verify(links).map(Some).map_err(|broken| corrupt(format!("the chain of {id}: {broken}")))
}
