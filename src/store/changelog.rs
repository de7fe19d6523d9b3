//! The changelog: everything that ever changed, in order, from which the state is a pure fold.
//!
//! ```text
//! key    revision u64 · n u32
//! value  tag u8 · payload          a delegation's and a suspension's are JSON; the last entry of a revision (n = u32::MAX) is its seal
//! ```

use super::delegations::{Idempotency, decode_record, decode_suspension, encode_record, encode_suspension};
use super::error::Error;
use super::keys::{ROW_KEY_BYTES, RowKey, numbered, read_u32, read_u64};
use super::names::NewName;
use super::row::RowValue;
use crate::model::{Delegation, DelegationChange, ObjectId, ObjectNum, ObjectRef, Suspension, Timestamp, TypeNum};
use std::sync::Arc;

/// One entry.
#[derive(Clone, PartialEq, Debug)]
pub enum LogEntry {
    /// Opens the slice of one request: when it was judged, and the caller's metadata as JSON.
    Mark { at: Timestamp, metadata: Box<[u8]> },
    /// A tuple was written; `created` when none was live under its key.
    Put { key: RowKey, value: RowValue, created: bool },
    /// A tuple was removed; `value` is what stood beside its key, for those who watch.
    Remove { key: RowKey, value: RowValue },
    /// A tuple that had ended was collected; `value` is what stood beside its key.
    Expire { key: RowKey, value: RowValue },
    /// An id got its number.
    Id { of: TypeNum, number: ObjectNum, id: ObjectId },
    /// A name got its number.
    Name(NewName),
    /// This schema is in force from here.
    Schema { text: String },
    /// A delegation was made, narrowed or revoked: the whole record after it, and under which idempotency key it was made.
    Delegation { record: Arc<Delegation>, change: DelegationChange, idempotency: Option<Idempotency> },
    /// A principal is suspended from here.
    Suspended(Suspension),
    /// A principal is suspended no more.
    Reinstated { principal: ObjectRef },
}

/// The `n` of a revision's seal: the hash over the seal before it and this revision's entries.
pub const SEAL: u32 = u32::MAX;

const MARK: u8 = 1;
const PUT: u8 = 2;
const CREATE: u8 = 3;
const REMOVE: u8 = 4;
const ID: u8 = 5;
const NAME: u8 = 6;
const SCHEMA: u8 = 7;
const EXPIRE: u8 = 8;
const DELEGATION_CREATED: u8 = 9;
const DELEGATION_NARROWED: u8 = 10;
const DELEGATION_REVOKED: u8 = 11;
const SUSPENDED: u8 = 12;
const REINSTATED: u8 = 13;

impl LogEntry {
    /// The id that got its number, if that is what it says.
    pub fn as_id(&self) -> Option<(TypeNum, ObjectNum, &str)> {
        match self {
            LogEntry::Id { of, number, id } => Some((*of, *number, id.as_str())),
            LogEntry::Mark { .. }
            | LogEntry::Put { .. }
            | LogEntry::Remove { .. }
            | LogEntry::Expire { .. }
            | LogEntry::Name(_)
            | LogEntry::Schema { .. }
            | LogEntry::Delegation { .. }
            | LogEntry::Suspended(_)
            | LogEntry::Reinstated { .. } => None,
        }
    }

    /// As stored.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        self.encode_into(&mut bytes)?;
        Ok(bytes)
    }

    /// The same behind what stands there.
    pub fn encode_into(&self, bytes: &mut Vec<u8>) -> Result<(), Error> {
        match self {
            LogEntry::Mark { at, metadata } => {
                bytes.push(MARK);
                bytes.extend_from_slice(&at.seconds().to_be_bytes());
                bytes.extend_from_slice(&at.nanos().to_be_bytes());
                bytes.extend_from_slice(metadata);
            }
            LogEntry::Put { key, value, created } => {
                encode_row(if *created { CREATE } else { PUT }, key, value, bytes);
            }
            LogEntry::Remove { key, value } => encode_row(REMOVE, key, value, bytes),
            LogEntry::Expire { key, value } => encode_row(EXPIRE, key, value, bytes),
            LogEntry::Id { of, number, id } => {
                bytes.push(ID);
                bytes.extend_from_slice(&of.0.to_be_bytes());
                bytes.extend_from_slice(&number.0.to_be_bytes());
                bytes.extend_from_slice(id.as_str().as_bytes());
            }
            LogEntry::Name(new) => {
                let (key, value) = new.encode();
                bytes.push(NAME);
                bytes.extend_from_slice(&key);
                bytes.extend_from_slice(&value);
            }
            LogEntry::Schema { text } => {
                bytes.push(SCHEMA);
                bytes.extend_from_slice(text.as_bytes());
            }
            LogEntry::Delegation { record, change, idempotency } => {
                bytes.push(match change {
                    DelegationChange::Created => DELEGATION_CREATED,
                    DelegationChange::Narrowed => DELEGATION_NARROWED,
                    DelegationChange::Revoked => DELEGATION_REVOKED,
                });
                encode_idempotency(idempotency.as_ref(), bytes)?;
                bytes.extend_from_slice(&encode_record(record)?);
            }
            LogEntry::Suspended(suspension) => {
                bytes.push(SUSPENDED);
                bytes.extend_from_slice(&encode_suspension(suspension)?);
            }
            LogEntry::Reinstated { principal } => {
                bytes.push(REINSTATED);
                bytes.extend_from_slice(principal.to_string().as_bytes());
            }
        }
        Ok(())
    }

    /// Reads what `encode` wrote.
    pub fn decode(bytes: &[u8]) -> Result<LogEntry, Error> {
        let corrupt = || Error::Corrupt("an entry of the changelog".to_owned());
        let (tag, rest) = bytes.split_first().ok_or_else(corrupt)?;
        let row = || rest.split_at_checked(ROW_KEY_BYTES).ok_or_else(corrupt);
        match *tag {
            MARK => {
                let seconds = read_u64(rest, 0)?.cast_signed();
                let at = Timestamp::new(seconds, read_u32(rest, 8)?).ok_or_else(corrupt)?;
                Ok(LogEntry::Mark { at, metadata: rest.get(12..).ok_or_else(corrupt)?.into() })
            }
            PUT | CREATE => {
                let (key, value) = row()?;
                let (key, value) = (RowKey::from_forward(key)?, RowValue::decode(value)?);
                Ok(LogEntry::Put { key, value, created: *tag == CREATE })
            }
            REMOVE => {
                let (key, value) = row()?;
                Ok(LogEntry::Remove { key: RowKey::from_forward(key)?, value: RowValue::decode(value)? })
            }
            EXPIRE => {
                let (key, value) = row()?;
                Ok(LogEntry::Expire { key: RowKey::from_forward(key)?, value: RowValue::decode(value)? })
            }
            ID => {
                let id = rest.get(8..).and_then(|bytes| std::str::from_utf8(bytes).ok()).ok_or_else(corrupt)?;
                let id = ObjectId::new(id).map_err(|_| corrupt())?;
                Ok(LogEntry::Id { of: TypeNum(read_u32(rest, 0)?), number: ObjectNum(read_u32(rest, 4)?), id })
            }
            NAME => {
                let (key, value) = rest.split_at_checked(5).ok_or_else(corrupt)?;
                Ok(LogEntry::Name(NewName::decode(key, value)?))
            }
            SCHEMA => {
                let text = String::from_utf8(rest.to_vec()).map_err(|_| corrupt())?;
                Ok(LogEntry::Schema { text })
            }
            DELEGATION_CREATED | DELEGATION_NARROWED | DELEGATION_REVOKED => {
                let change = match *tag {
                    DELEGATION_CREATED => DelegationChange::Created,
                    DELEGATION_NARROWED => DelegationChange::Narrowed,
                    _ => DelegationChange::Revoked,
                };
                let (idempotency, record) = decode_idempotency(rest)?;
                Ok(LogEntry::Delegation { record: Arc::new(decode_record(record)?), change, idempotency })
            }
            SUSPENDED => Ok(LogEntry::Suspended(decode_suspension(rest)?)),
            REINSTATED => {
                let text = std::str::from_utf8(rest).map_err(|_| corrupt())?;
                Ok(LogEntry::Reinstated { principal: text.parse().map_err(|_| corrupt())? })
            }
            _ => Err(corrupt()),
        }
    }
}

fn encode_row(tag: u8, key: &RowKey, value: &RowValue, bytes: &mut Vec<u8>) {
    bytes.push(tag);
    bytes.extend_from_slice(&key.forward());
    bytes.extend_from_slice(&value.encode());
}

/// `length u32 · key · digest 32 bytes`, or a length of 0: without any.
fn encode_idempotency(idempotency: Option<&Idempotency>, bytes: &mut Vec<u8>) -> Result<(), Error> {
    let Some(Idempotency { key, digest }) = idempotency else {
        bytes.extend_from_slice(&[0; 4]);
        return Ok(());
    };
    let length = u32::try_from(key.len()).ok().filter(|length| *length > 0);
    let length = length.ok_or_else(|| Error::Corrupt("an idempotency key without a length".to_owned()))?;
    bytes.extend_from_slice(&numbered(length, key));
    bytes.extend_from_slice(digest);
    Ok(())
}

fn decode_idempotency(bytes: &[u8]) -> Result<(Option<Idempotency>, &[u8]), Error> {
    let corrupt = || Error::Corrupt("an idempotency key in the changelog".to_owned());
    let length = read_u32(bytes, 0)? as usize;
    let rest = bytes.get(4..).ok_or_else(corrupt)?;
    if length == 0 {
        return Ok((None, rest));
    }
    let (key, rest) = rest.split_at_checked(length).ok_or_else(corrupt)?;
    let (digest, rest) = rest.split_first_chunk::<32>().ok_or_else(corrupt)?;
    Ok((Some(Idempotency { key: key.into(), digest: *digest }), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{MemberNum, SubjectKind, TypeName};
    use crate::store::keys::SubjectKey;

    #[test]
    fn entries_survive_bytes() {
        let subject = SubjectKey { kind: SubjectKind::Plain, member: MemberNum(2), object: ObjectNum(9) };
        let key = RowKey { relation: MemberNum(1), object: ObjectNum(2), subject };
        for entry in [
            LogEntry::Mark { at: Timestamp::MAX, metadata: (*b"{}").into() },
            LogEntry::Put { key, value: RowValue::default(), created: true },
            LogEntry::Put { key, value: RowValue { caveat: None, expires_at: Some(Timestamp::MIN) }, created: false },
            LogEntry::Remove { key, value: RowValue::default() },
            LogEntry::Remove { key, value: RowValue { caveat: None, expires_at: Some(Timestamp::MAX) } },
            LogEntry::Expire { key, value: RowValue { caveat: None, expires_at: Some(Timestamp::MIN) } },
            LogEntry::Id { of: TypeNum(1), number: ObjectNum(2), id: ObjectId::new("a:b").unwrap() },
            LogEntry::Name(NewName::Type { number: TypeNum(4), name: TypeName::new("doc").unwrap() }),
            LogEntry::Schema { text: "definition user {}".to_owned() },
        ] {
            assert_eq!(LogEntry::decode(&entry.encode().unwrap()).unwrap(), entry);
        }
        assert!(LogEntry::decode(&[]).is_err());
        assert!(LogEntry::decode(&[99]).is_err());
    }
}
