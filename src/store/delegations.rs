//! Delegations and suspensions as bytes, and how a reader finds them.
//!
//! The keys are drawn at the head of `keys.rs`. A record is JSON. What an index says follows from the record alone, and
//! of that only the end and whether it is revoked ever change, so only the keys of live ones move.
//!
//! The names of permissions, the anchors and the principals stay text: nothing here asks a schema what they are.

use super::error::Error;
use super::keys::{after_prefix, instant_key, read_instant, read_u64};
use super::snapshot::Snapshot;
use crate::model::{Delegation, DelegationId, ObjectRef, SubjectRef, Suspension, Timestamp};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

/// An index of delegations: the first byte of its keys.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
enum Index {
    Id = 0,
    Root = 1,
    Delegate = 2,
    Delegator = 3,
    Anchor = 4,
    Parent = 5,
    Idempotency = 7,
    /// By root and delegate, which is an object, then by end; those that are not revoked only. (6 was the same by root
    /// alone, until format 2.)
    LiveObject = 8,
    /// By root, then by end, those given to a userset: who is in it, no key tells.
    LiveUserset = 9,
}

/// Which delegations are looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DelegationsBy<'a> {
    /// Whose chain begins at it.
    Root(&'a ObjectRef),
    /// Given to it, as written: a group is not its members.
    Delegate(&'a SubjectRef),
    Delegator(&'a ObjectRef),
    /// With it among the anchors of a clause.
    Anchor(&'a ObjectRef),
    /// Made under it.
    Parent(&'a DelegationId),
}

/// An idempotency key as given with a request that makes a delegation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Idempotency {
    /// Not empty.
    pub key: Box<[u8]>,
    /// Of the request as it came: the same key with another is refused.
    pub digest: [u8; 32],
}

/// What was made under an idempotency key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Idempotent {
    /// The delegation's.
    pub number: u64,
    pub digest: [u8; 32],
    /// When it was made.
    pub at: Timestamp,
}

impl DelegationsBy<'_> {
    pub(super) fn prefix(&self) -> Vec<u8> {
        match self {
            DelegationsBy::Root(object) => texted(Index::Root, object.to_string().as_bytes()),
            DelegationsBy::Delegate(subject) => texted(Index::Delegate, subject.to_string().as_bytes()),
            DelegationsBy::Delegator(object) => texted(Index::Delegator, object.to_string().as_bytes()),
            DelegationsBy::Anchor(object) => texted(Index::Anchor, object.to_string().as_bytes()),
            DelegationsBy::Parent(id) => texted(Index::Parent, id.to_string().as_bytes()),
        }
    }
}

/// `kind · text · 0x00`. References hold no zero byte, so no text is the start of another's keys.
fn texted(index: Index, text: &[u8]) -> Vec<u8> {
    [&[index as u8], text, &[0]].concat()
}

/// The key in `delegation`.
pub(super) fn record_key(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// The record as stored.
pub(super) fn encode_record(record: &Delegation) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(record).map_err(|error| Error::Corrupt(format!("a delegation that is not JSON: {error}")))
}

/// Reads what `encode_record` wrote.
pub(super) fn decode_record(bytes: &[u8]) -> Result<Delegation, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::Corrupt(format!("a delegation's record: {error}")))
}

/// The suspension as stored.
pub(super) fn encode_suspension(suspension: &Suspension) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(suspension).map_err(|error| Error::Corrupt(format!("a suspension that is not JSON: {error}")))
}

/// Reads what `encode_suspension` wrote.
pub(super) fn decode_suspension(bytes: &[u8]) -> Result<Suspension, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::Corrupt(format!("a suspension's record: {error}")))
}

/// The key in `suspension`.
pub(super) fn suspension_key(principal: &ObjectRef) -> Vec<u8> {
    principal.to_string().into_bytes()
}

/// The key in `delegation_index` under which an id's number stands.
pub(super) fn id_key(id: &DelegationId) -> Vec<u8> {
    texted(Index::Id, id.to_string().as_bytes())
}

/// The key in `delegation_index` of an idempotency key, which may be any bytes: it is only ever asked for whole.
pub(super) fn idempotency_key(key: &[u8]) -> Vec<u8> {
    texted(Index::Idempotency, key)
}

/// The keys in `delegation_index` of a record that stay for as long as it is there, which is for ever.
pub(super) fn lasting_keys(record: &Delegation) -> BTreeSet<Vec<u8>> {
    let mut prefixes: BTreeSet<Vec<u8>> = BTreeSet::from([
        DelegationsBy::Root(&record.root).prefix(),
        DelegationsBy::Delegate(&record.delegate).prefix(),
        DelegationsBy::Delegator(&record.delegator).prefix(),
    ]);
    prefixes.extend(record.parent.as_ref().map(|id| DelegationsBy::Parent(id).prefix()));
    prefixes.extend(record.anchors().into_iter().map(|anchor| DelegationsBy::Anchor(anchor).prefix()));
    prefixes.into_iter().map(|prefix| [prefix.as_slice(), &record_key(record.number)].concat()).collect()
}

/// The keys of format 1 in `delegation_index` of those that are not revoked.
pub(super) const LIVE_BY_ROOT: [u8; 1] = [6];

/// The key in `delegation_index` by which it is found while it lives; `None` once it is revoked.
pub(super) fn live_key(record: &Delegation) -> Option<Vec<u8>> {
    let prefix = match &record.delegate {
        SubjectRef::Object(delegate) => live_of_object(&record.root, delegate),
        SubjectRef::Userset(..) | SubjectRef::Wildcard(_) => live_of_usersets(&record.root),
    };
    let rest = [instant_key(record.expires_at).as_slice(), &record_key(record.number)].concat();
    record.revoked.is_none().then(|| [prefix, rest].concat())
}

fn live_of_object(root: &ObjectRef, delegate: &ObjectRef) -> Vec<u8> {
    [texted(Index::LiveObject, root.to_string().as_bytes()), delegate.to_string().into_bytes(), vec![0]].concat()
}

fn live_of_usersets(root: &ObjectRef) -> Vec<u8> {
    texted(Index::LiveUserset, root.to_string().as_bytes())
}

/// The number at the end of a key in `delegation_index`.
pub(super) fn number_of(key: &[u8]) -> Result<u64, Error> {
    let number = key.last_chunk::<8>().ok_or_else(|| Error::Corrupt("a key of a delegation's index".to_owned()))?;
    Ok(u64::from_be_bytes(*number))
}

impl Idempotent {
    /// As stored.
    pub(super) fn encode(&self) -> Vec<u8> {
        [self.number.to_be_bytes().as_slice(), &self.digest, &instant_key(self.at)].concat()
    }

    /// Reads what `encode` wrote.
    pub(super) fn decode(bytes: &[u8]) -> Result<Idempotent, Error> {
        let digest = bytes.get(8..40).and_then(|digest| digest.try_into().ok());
        let digest = digest.ok_or_else(|| Error::Corrupt("an idempotency key's value".to_owned()))?;
        Ok(Idempotent { number: read_u64(bytes, 0)?, digest, at: read_instant(bytes, 40)? })
    }
}

impl Snapshot {
    /// The delegation of this id.
    pub fn delegation(&self, id: &DelegationId) -> Result<Option<Arc<Delegation>>, Error> {
        if let Some(kept) = self.records().of_id(id, self) {
            return Ok(Some(kept));
        }
        match self.get(self.families().delegation_index, &id_key(id))? {
            Some(number) => self.delegation_by_number(read_u64(&number, 0)?),
            None => Ok(None),
        }
    }

    /// The delegation of this number.
    pub fn delegation_by_number(&self, number: u64) -> Result<Option<Arc<Delegation>>, Error> {
        self.record(number, || {
            let record = self.get(self.families().delegation, &record_key(number))?;
            record.map(|bytes| Ok((decode_record(&bytes)?, bytes.len()))).transpose()
        })
    }

    /// Delegations in order of creation, those after the number `after`, at most `max`. The last one's number goes on.
    pub fn delegations(&self, after: u64, max: usize) -> Result<Vec<Arc<Delegation>>, Error> {
        let mut found = Vec::new();
        let Some(from) = after.checked_add(1) else { return Ok(found) };
        self.range(self.families().delegation, &record_key(from), &[], |_, record| {
            if found.len() >= max {
                return Ok(ControlFlow::Break(()));
            }
            found.push(Arc::new(decode_record(record)?));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    /// The same of those that an index names.
    pub fn delegations_by(&self, by: DelegationsBy<'_>, after: u64, max: usize) -> Result<Vec<Arc<Delegation>>, Error> {
        let mut found = Vec::new();
        let Some(from) = after.checked_add(1) else { return Ok(found) };
        let prefix = by.prefix();
        let from = [prefix.as_slice(), &record_key(from)].concat();
        self.range(self.families().delegation_index, &from, &after_prefix(&prefix), |key, _| {
            if found.len() >= max {
                return Ok(ControlFlow::Break(()));
            }
            found.push(self.indexed(key)?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    /// Delegations whose chain begins at `root`, that were given to `delegate` or to any userset, and that, by themselves,
    /// are neither revoked nor over at `now`, until `each` breaks; of either kind the earliest end first. What is over
    /// long since costs nothing, nor what was given to other objects.
    pub fn delegations_left(
        &self,
        root: &ObjectRef,
        delegate: &ObjectRef,
        now: Timestamp,
        mut each: impl FnMut(Arc<Delegation>) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let mut going_on = ControlFlow::Continue(());
        for prefix in [live_of_object(root, delegate), live_of_usersets(root)] {
            if going_on.is_break() {
                break;
            }
            // An end is exclusive: what ends now is over.
            let from = [prefix.as_slice(), &after_prefix(&instant_key(now))].concat();
            self.range(self.families().delegation_index, &from, &after_prefix(&prefix), |key, _| {
                going_on = each(self.indexed(key)?);
                Ok(going_on)
            })?;
        }
        Ok(())
    }

    /// Every userset that anything was ever delegated to, each once, in the order of its text.
    pub fn userset_delegates(
        &self,
        mut each: impl FnMut(SubjectRef) -> Result<ControlFlow<()>, Error>,
    ) -> Result<(), Error> {
        let end = after_prefix(&[Index::Delegate as u8]);
        let mut from = vec![Index::Delegate as u8];
        // Bounded: each turn goes on behind the delegate it found.
        loop {
            let mut found = None;
            self.range(self.families().delegation_index, &from, &end, |key, _| {
                found = Some(key.to_vec());
                Ok(ControlFlow::Break(()))
            })?;
            let Some(key) = found else { return Ok(()) };
            let text = key.get(1..).and_then(|rest| rest.split(|byte| *byte == 0).next()).unwrap_or_default();
            let delegate = std::str::from_utf8(text).ok().and_then(|text| text.parse::<SubjectRef>().ok());
            let delegate = delegate.ok_or_else(|| Error::Corrupt("a delegate in an index".to_owned()))?;
            from = after_prefix(&DelegationsBy::Delegate(&delegate).prefix());
            if let SubjectRef::Userset(..) = &delegate
                && each(delegate)?.is_break()
            {
                return Ok(());
            }
        }
    }

    fn indexed(&self, key: &[u8]) -> Result<Arc<Delegation>, Error> {
        let number = number_of(key)?;
        let record = self.delegation_by_number(number)?;
        record.ok_or_else(|| Error::Corrupt(format!("delegation {number} is in an index and not there")))
    }

    /// What was made under an idempotency key. Whether it still holds is the caller's to judge: `Idempotent::holds`.
    pub fn idempotent(&self, key: &[u8]) -> Result<Option<Idempotent>, Error> {
        let value = self.get(self.families().delegation_index, &idempotency_key(key))?;
        value.map(|bytes| Idempotent::decode(&bytes)).transpose()
    }

    /// The principal's suspension, if it is suspended.
    pub fn suspension(&self, principal: &ObjectRef) -> Result<Option<Suspension>, Error> {
        if !self.is_suspended(principal)? {
            return Ok(None);
        }
        let record = self.get(self.families().suspension, &suspension_key(principal))?;
        record.map(|bytes| decode_suspension(&bytes)).transpose()
    }

    /// Suspensions in the order of their principals' text, those after `after`, at most `max`.
    pub fn suspensions(&self, after: Option<&ObjectRef>, max: usize) -> Result<Vec<Suspension>, Error> {
        let from = after.map(|principal| [suspension_key(principal).as_slice(), &[0]].concat()).unwrap_or_default();
        let mut found = Vec::new();
        self.range(self.families().suspension, &from, &[], |_, record| {
            if found.len() >= max {
                return Ok(ControlFlow::Break(()));
            }
            found.push(decode_suspension(record)?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }
}
