//! NarrowDelegation: a further clause, an earlier end, or both. What is widened is a new delegation.

use super::asked_scope::{AskedItem, freeze, refused_by_law};
use super::create_delegation::{again, without_record};
use super::schemas::no_schema;
use super::{Engine, Error, Metadata};
use crate::delegation::Narrowing;
use crate::model::{Delegation, DelegationId, Precondition, Revision, Timestamp};
use crate::store::{self, Change, Commit};
use std::sync::Arc;

/// What a delegation is to be narrowed to, beside what it says already.
#[derive(Debug, Clone)]
pub struct NarrowDelegation {
    pub id: DelegationId,
    /// Of a further clause: whatever it covers must be in it, too. Empty: only the end changes.
    pub items: Vec<AskedItem>,
    /// Not after the end it has. `None`: that stays.
    pub expires_at: Option<Timestamp>,
    /// Judged inside the commit.
    pub preconditions: Vec<Precondition>,
    /// Of the commit; the record keeps its own.
    pub metadata: Metadata,
}

/// A delegation that was narrowed or revoked.
#[derive(Debug, Clone)]
pub struct ChangedDelegation {
    /// As it is now.
    pub delegation: Arc<Delegation>,
    pub revision: Revision,
}

impl Engine {
    /// Narrows a delegation. `WIDENS` when the end would move back, `EMPTY_SCOPE` when nothing would change,
    /// `PARENT_NOT_LIVE` when it is revoked, `DELEGATION_NOT_FOUND` when there is none of that id.
    pub fn narrow_delegation(&self, request: NarrowDelegation) -> Result<ChangedDelegation, Error> {
        self.bound_items(&request.items)?;
        let metadata = self.metadata(&request.metadata)?;
        again(|| self.judge_and_narrow(&request, &metadata))
    }

    fn judge_and_narrow(&self, request: &NarrowDelegation, metadata: &[u8]) -> Result<ChangedDelegation, Error> {
        let snapshot = self.store.published();
        let in_force = self.schemas.of(&self.store, &snapshot, &self.limits)?.ok_or_else(no_schema)?;
        let before = snapshot.delegation(&request.id)?;
        let before = before.ok_or_else(|| not_found(request.id))?;
        let items = freeze(&in_force, &request.items)?;
        self.judge_preconditions(&in_force, &request.preconditions)?;
        let narrowing = Narrowing { items, expires_at: request.expires_at };
        let record = narrowing.judge(&before).map_err(|refusal| refused_by_law(&refusal))?;
        self.bound_record(&record)?;
        let committed = self.commit_once(Commit {
            schema_revision: in_force.revision,
            parents: in_force.parents.clone(),
            preconditions: request.preconditions.clone(),
            precondition_rows_max: self.limits.precondition_rows_max,
            change: Change::NarrowDelegation(Box::new(record)),
            metadata: metadata.into(),
            only_judge: false,
        })?;
        let delegation = committed.delegation.ok_or_else(without_record)?;
        Ok(ChangedDelegation { delegation, revision: committed.revision })
    }
}

/// That there is no delegation of an id that the request names.
pub(super) fn not_found(id: DelegationId) -> Error {
    Error::from(store::Error::NoDelegation(id)).with_fact("field", "id")
}
