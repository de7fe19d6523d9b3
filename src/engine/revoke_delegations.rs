//! RevokeDelegation and RevokeAllFor. Revoked is final; whatever hangs below denies by evaluation, and nothing is written
//! about it.

use super::create_delegation::without_record;
use super::schemas::InForce;
use super::{ChangedDelegation, Engine, Error, Kind, Metadata};
use crate::model::{DelegationId, Precondition, Revision, SubjectRef, TypeName};
use crate::store::{Change, Commit};

/// Which delegation to revoke.
#[derive(Debug, Clone)]
pub struct RevokeDelegation {
    pub id: DelegationId,
    /// Why, in the words of whoever revokes it; kept with the record.
    pub reason: String,
    /// Judged inside the commit.
    pub preconditions: Vec<Precondition>,
    pub metadata: Metadata,
}

/// Whose delegations to revoke.
#[derive(Debug, Clone)]
pub struct RevokeAllFor {
    /// As the records name it: a group is not its members. Never a wildcard.
    pub principal: SubjectRef,
    pub reason: String,
    /// Judged inside the commit.
    pub preconditions: Vec<Precondition>,
    pub metadata: Metadata,
}

/// How many were revoked, in one revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevokedAll {
    pub count: u64,
    pub revision: Revision,
}

impl Engine {
    /// Revokes a delegation: no check that begins after it returns allows by it, or by one below it. Again, it changes
    /// nothing and answers the same. `DELEGATION_NOT_FOUND` when there is none of that id.
    pub fn revoke_delegation(&self, request: RevokeDelegation) -> Result<ChangedDelegation, Error> {
        let RevokeDelegation { id, reason, preconditions, metadata } = request;
        self.bound_text("reason", &reason)?;
        let metadata = self.metadata(&metadata)?;
        let committed = self.commit(|in_force| {
            let change = Change::RevokeDelegation { id, reason: reason.clone() };
            self.commit_of(in_force, &preconditions, &metadata, change)
        });
        let committed = committed.map_err(|error| match error.reason {
            "DELEGATION_NOT_FOUND" => error.with_fact("field", "id"),
            _ => error,
        })?;
        let delegation = committed.delegation.ok_or_else(without_record)?;
        Ok(ChangedDelegation { delegation, revision: committed.revision })
    }

    /// Revokes every delegation that names the principal as delegator or delegate, in one revision.
    pub fn revoke_all_for(&self, request: RevokeAllFor) -> Result<RevokedAll, Error> {
        let RevokeAllFor { principal, reason, preconditions, metadata } = request;
        self.bound_text("reason", &reason)?;
        if let SubjectRef::Wildcard(_) = &principal {
            let message = "nothing is delegated to a wildcard; name one principal";
            return Err(Error::invalid("principal", &principal.to_string(), message));
        }
        self.judge_ever_known(principal.subject_type(), "principal.object.type")?;
        let metadata = self.metadata(&metadata)?;
        let limit = self.limits.delegations_revoked_max;
        let committed = self.commit(|in_force| {
            let change = Change::RevokeAllFor { principal: principal.clone(), reason: reason.clone(), limit };
            self.commit_of(in_force, &preconditions, &metadata, change)
        })?;
        Ok(RevokedAll { count: committed.changed, revision: committed.revision })
    }

    /// A misspelt type would name nobody, and nobody would notice. One that only an earlier schema had is fine: what is to
    /// be ended may be of that time.
    pub(super) fn judge_ever_known(&self, of: &TypeName, field: &'static str) -> Result<(), Error> {
        if self.store.names().type_number(of.as_str()).is_some() {
            return Ok(());
        }
        let message = format!("{field}: no schema ever had a type `{of}`");
        Err(Error::new(Kind::FailedPrecondition, "UNKNOWN_TYPE", message)
            .with_fact("field", field)
            .with_fact("value", of.as_str()))
    }

    /// A commit of a change that no schema has a say in, but for the preconditions.
    pub(super) fn commit_of(
        &self,
        in_force: &InForce,
        preconditions: &[Precondition],
        metadata: &[u8],
        change: Change,
    ) -> Result<Commit, Error> {
        self.judge_preconditions(in_force, preconditions)?;
        Ok(Commit {
            schema_revision: in_force.revision,
            parents: in_force.parents.clone(),
            preconditions: preconditions.to_vec(),
            precondition_rows_max: self.limits.precondition_rows_max,
            change,
            metadata: metadata.into(),
            only_judge: false,
        })
    }
}
