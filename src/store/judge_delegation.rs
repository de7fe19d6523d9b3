//! Is a delegation made, narrowed or revoked, a principal suspended? Judged inside the commit, where nothing changes
//! meanwhile: what the engine read must still be so, or it reads again.
//!
//! INVARIANT: revoked is final, and a number is given once, in the order of creation.

use super::changelog::LogEntry;
use super::delegations::{DelegationsBy, Idempotency, Idempotent};
use super::error::Error;
use super::judge::Verdict;
use super::overlay::Overlay;
use crate::model::{
    Delegation, DelegationChange, DelegationId, DelegationState, ObjectRef, Revoked, SubjectRef, Suspension, Timestamp,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How long an idempotency key holds.
const IDEMPOTENCY_HOLDS: Duration = Duration::from_secs(24 * 60 * 60);

/// A delegation to be made.
#[derive(Debug)]
pub struct NewDelegation {
    /// As the engine judged it; the commit gives it its number.
    pub record: Delegation,
    /// Every delegation of the parent's chain, with the version the engine read. One that was changed or ended
    /// meanwhile refuses it, to be judged again.
    pub chain: Vec<(DelegationId, u32)>,
    pub idempotency: Option<Idempotency>,
    /// The time that the request set, under a clock that may be set back; `None`: the commit's own.
    pub clock: Option<Timestamp>,
}

impl Idempotent {
    /// Whether the key still stands for what was made under it.
    #[must_use]
    pub fn holds(&self, now: Timestamp) -> bool {
        now.since(self.at) < IDEMPOTENCY_HOLDS
    }
}

/// The record of an id, which must be of the version that the engine read.
fn unchanged(overlay: &Overlay<'_>, id: DelegationId, version: u32) -> Result<Arc<Delegation>, Error> {
    let record = overlay.delegation_of(&id)?.ok_or(Error::NoDelegation(id))?;
    if record.version == version { Ok(record) } else { Err(Error::DelegationChanged(id)) }
}

impl NewDelegation {
    /// What was made under the request's key, as the verdict that changes nothing. Asked before anything else is judged:
    /// a repetition is answered with what it came to the first time.
    pub(super) fn made_before(&self, overlay: &Overlay<'_>, now: Timestamp) -> Result<Option<Verdict>, Error> {
        let now = self.clock.unwrap_or(now);
        let Some(Idempotency { key, digest }) = &self.idempotency else { return Ok(None) };
        let Some(before) = overlay.idempotent(key)?.filter(|before| before.holds(now)) else { return Ok(None) };
        if before.digest != *digest {
            return Err(Error::IdempotencyKeyUsed);
        }
        let record = overlay.delegation(before.number)?;
        let record = record.ok_or_else(|| Error::Corrupt(format!("delegation {} is missing", before.number)))?;
        Ok(Some(Verdict { delegation: Some(record), ..Verdict::NOTHING }))
    }

    pub(super) fn judge(&self, overlay: &Overlay<'_>, now: Timestamp, mark: LogEntry) -> Result<Verdict, Error> {
        let now = self.clock.unwrap_or(now);
        for (id, version) in &self.chain {
            match unchanged(overlay, *id, *version)?.state(now) {
                DelegationState::Live | DelegationState::NotYetValid => {}
                DelegationState::Expired | DelegationState::Revoked => return Err(Error::DelegationChanged(*id)),
            }
        }
        let number = overlay.next_delegation();
        let record = Arc::new(Delegation { number, ..self.record.clone() });
        // Drawn again, it will be another.
        if overlay.delegation_of(&record.id)?.is_some() {
            return Err(Error::DelegationChanged(record.id));
        }
        let idempotency = self.idempotency.clone();
        Ok(one(mark, LogEntry::Delegation { record, change: DelegationChange::Created, idempotency }))
    }
}

/// No two records have the same id, and whatever is above one is here, or before it among them.
pub(super) fn judge_import(overlay: &Overlay<'_>, records: &[Delegation], mark: LogEntry) -> Result<Verdict, Error> {
    let mut entries = vec![mark];
    let mut number = overlay.next_delegation();
    for record in records {
        if let Some(before) = overlay.delegation_of(&record.id)? {
            if (Delegation { number: before.number, ..record.clone() }) != *before {
                return Err(Error::DelegationExists(record.id));
            }
            continue;
        }
        entries.push(entry(Arc::new(Delegation { number, ..record.clone() }), DelegationChange::Created));
        number = number.saturating_add(1);
    }
    let changed = (entries.len() - 1) as u64;
    Ok(if changed == 0 { Verdict::NOTHING } else { Verdict { entries, changed, ..Verdict::NOTHING } })
}

/// `record` is the one after it, of the version after the one that was read.
pub(super) fn judge_narrowing(overlay: &Overlay<'_>, record: &Delegation, mark: LogEntry) -> Result<Verdict, Error> {
    let changed = || Error::DelegationChanged(record.id);
    let before = unchanged(overlay, record.id, record.version.checked_sub(1).ok_or_else(changed)?)?;
    if before.revoked.is_some() || before.number != record.number {
        return Err(changed());
    }
    Ok(one(mark, entry(Arc::new(record.clone()), DelegationChange::Narrowed)))
}

/// Revoking again changes nothing: the first time and reason stand.
pub(super) fn judge_revocation(
    overlay: &Overlay<'_>,
    id: DelegationId,
    reason: &str,
    now: Timestamp,
    mark: LogEntry,
) -> Result<Verdict, Error> {
    let before = overlay.delegation_of(&id)?.ok_or(Error::NoDelegation(id))?;
    if before.revoked.is_some() {
        return Ok(Verdict { delegation: Some(before), ..Verdict::NOTHING });
    }
    Ok(one(mark, revoked(&before, reason, now)))
}

/// Every delegation that names the principal as delegator or delegate, as written, and is not over yet. One that is expired
/// cannot come back, so history never fills the limit.
pub(super) fn judge_revocation_of_all(
    overlay: &Overlay<'_>,
    principal: &SubjectRef,
    reason: &str,
    limit: usize,
    now: Timestamp,
    mark: LogEntry,
) -> Result<Verdict, Error> {
    let mut numbers: BTreeSet<u64> = overlay.own_delegations().collect();
    overlay.indexed(DelegationsBy::Delegate(principal), &mut numbers)?;
    if let SubjectRef::Object(object) = principal {
        overlay.indexed(DelegationsBy::Delegator(object), &mut numbers)?;
    }
    let mut entries = vec![mark];
    for number in numbers {
        let missing = || Error::Corrupt(format!("delegation {number} is in an index and not there"));
        let record = overlay.delegation(number)?.ok_or_else(missing)?;
        let is_over = match record.state(now) {
            DelegationState::Live | DelegationState::NotYetValid => false,
            DelegationState::Expired | DelegationState::Revoked => true,
        };
        if is_over || !names(&record, principal) {
            continue;
        }
        if entries.len() > limit {
            return Err(Error::TooManyDelegations { limit });
        }
        entries.push(revoked(&record, reason, now));
    }
    let changed = (entries.len() - 1) as u64;
    Ok(if changed == 0 { Verdict::NOTHING } else { Verdict { entries, changed, ..Verdict::NOTHING } })
}

fn names(record: &Delegation, principal: &SubjectRef) -> bool {
    let as_delegator = match principal {
        SubjectRef::Object(object) => record.delegator == *object,
        SubjectRef::Userset(..) | SubjectRef::Wildcard(_) => false,
    };
    as_delegator || record.delegate == *principal
}

/// Who is suspended already stays so since then and for that reason.
pub(super) fn judge_suspension(
    overlay: &Overlay<'_>,
    principal: &ObjectRef,
    reason: &str,
    now: Timestamp,
    mark: LogEntry,
) -> Result<Verdict, Error> {
    if overlay.suspension(principal)?.is_some() {
        return Ok(Verdict::NOTHING);
    }
    let suspension = Suspension { principal: principal.clone(), since: now, reason: reason.to_owned() };
    Ok(one(mark, LogEntry::Suspended(suspension)))
}

/// Who is not suspended stays so.
pub(super) fn judge_reinstatement(
    overlay: &Overlay<'_>,
    principal: &ObjectRef,
    mark: LogEntry,
) -> Result<Verdict, Error> {
    if overlay.suspension(principal)?.is_none() {
        return Ok(Verdict::NOTHING);
    }
    Ok(one(mark, LogEntry::Reinstated { principal: principal.clone() }))
}

fn revoked(before: &Delegation, reason: &str, at: Timestamp) -> LogEntry {
    let record = Delegation {
        revoked: Some(Revoked { at, reason: reason.to_owned() }),
        version: before.version.saturating_add(1),
        ..before.clone()
    };
    entry(Arc::new(record), DelegationChange::Revoked)
}

fn entry(record: Arc<Delegation>, change: DelegationChange) -> LogEntry {
    LogEntry::Delegation { record, change, idempotency: None }
}

fn one(mark: LogEntry, entry: LogEntry) -> Verdict {
    let delegation = match &entry {
        LogEntry::Delegation { record, .. } => Some(record.clone()),
        LogEntry::Mark { .. }
        | LogEntry::Put { .. }
        | LogEntry::Remove { .. }
        | LogEntry::Expire { .. }
        | LogEntry::Id { .. }
        | LogEntry::Name(_)
        | LogEntry::Schema { .. }
        | LogEntry::Suspended(_)
        | LogEntry::Reinstated { .. } => None,
    };
    Verdict { entries: vec![mark, entry], changed: 1, delegation, ..Verdict::NOTHING }
}
