//! Keys as bytes, drawn before they are coded. All numbers are big-endian, so that byte order is number order.
//!
//! ```text
//! fwd   relation u32 · object u32 · kind u8 · subject member u32 · subject u32          17 bytes
//! expiry  instant u64 · nanos u32 · the forward key                                     29 bytes
//! rev   subject member u32 · subject u32 · kind u8 · relation u32 · object u32          17 bytes
//!
//! delegation        number u64                                                     → record
//! delegation_index  kind u8 · text · 0x00 · number u64                             → nothing
//!                     by root, delegate, delegator, anchor, parent
//!                   kind u8 · root · 0x00 · delegate · 0x00 · end (instant u64 · nanos u32) · number u64 → nothing
//!                     of those that are not revoked and given to an object
//!                   kind u8 · root · 0x00 · end · number u64                       → nothing
//!                     of those that are not revoked and given to a userset
//!                   kind u8 · id · 0x00                                            → number u64
//!                   kind u8 · idempotency key · 0x00         → number u64 · digest of the request 32 bytes · instant
//! suspension        principal as text                                              → record
//! ```
//! `relation` is the number of (definition, relation). `subject member` is the number of (definition, relation) for a
//! userset and of (definition, `...`) for a plain object or a wildcard; a wildcard's `subject` is 0.

use super::error::Error;
use crate::model::{MemberNum, ObjectNum, SubjectKind, Timestamp};

/// Bytes of a row's key, in either direction.
pub const ROW_KEY_BYTES: usize = 17;

/// Who stands at the right of a row.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SubjectKey {
    pub kind: SubjectKind,
    pub member: MemberNum,
    pub object: ObjectNum,
}

/// A row of the relation table. Ordered as its forward key is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct RowKey {
    pub relation: MemberNum,
    pub object: ObjectNum,
    pub subject: SubjectKey,
}

impl RowKey {
    /// The key in `fwd`.
    #[must_use]
    pub fn forward(&self) -> [u8; ROW_KEY_BYTES] {
        let mut key = [0; ROW_KEY_BYTES];
        key[0..4].copy_from_slice(&self.relation.0.to_be_bytes());
        key[4..8].copy_from_slice(&self.object.0.to_be_bytes());
        key[8] = self.subject.kind as u8;
        key[9..13].copy_from_slice(&self.subject.member.0.to_be_bytes());
        key[13..17].copy_from_slice(&self.subject.object.0.to_be_bytes());
        key
    }

    /// The key in `rev`.
    #[must_use]
    pub fn reverse(&self) -> [u8; ROW_KEY_BYTES] {
        let mut key = [0; ROW_KEY_BYTES];
        key[0..4].copy_from_slice(&self.subject.member.0.to_be_bytes());
        key[4..8].copy_from_slice(&self.subject.object.0.to_be_bytes());
        key[8] = self.subject.kind as u8;
        key[9..13].copy_from_slice(&self.relation.0.to_be_bytes());
        key[13..17].copy_from_slice(&self.object.0.to_be_bytes());
        key
    }

    /// Reads a key of `fwd`.
    pub fn from_forward(key: &[u8]) -> Result<RowKey, Error> {
        let (relation, object, kind, member, subject) = split(key)?;
        Ok(RowKey {
            relation: MemberNum(relation),
            object: ObjectNum(object),
            subject: SubjectKey { kind, member: MemberNum(member), object: ObjectNum(subject) },
        })
    }

    /// Reads a key of `rev`.
    pub fn from_reverse(key: &[u8]) -> Result<RowKey, Error> {
        let (member, subject, kind, relation, object) = split(key)?;
        Ok(RowKey {
            relation: MemberNum(relation),
            object: ObjectNum(object),
            subject: SubjectKey { kind, member: MemberNum(member), object: ObjectNum(subject) },
        })
    }
}

fn split(key: &[u8]) -> Result<(u32, u32, SubjectKind, u32, u32), Error> {
    let bad = || Error::Corrupt(format!("a row key of {} bytes or unknown kind", key.len()));
    let key: &[u8; ROW_KEY_BYTES] = key.try_into().map_err(|_| bad())?;
    let kind = SubjectKind::from_byte(key[8]).ok_or_else(bad)?;
    Ok((read_u32(key, 0)?, read_u32(key, 4)?, kind, read_u32(key, 9)?, read_u32(key, 13)?))
}

/// An instant within a key. Byte order is time order, before 1970 too.
#[must_use]
pub fn instant_key(at: Timestamp) -> [u8; 12] {
    let mut key = [0; 12];
    let seconds = at.seconds().cast_unsigned() ^ (1 << 63);
    key[0..8].copy_from_slice(&seconds.to_be_bytes());
    key[8..12].copy_from_slice(&at.nanos().to_be_bytes());
    key
}

/// Reads what `instant_key` wrote, at `at`.
pub fn read_instant(bytes: &[u8], at: usize) -> Result<Timestamp, Error> {
    let seconds = (read_u64(bytes, at)? ^ (1 << 63)).cast_signed();
    Timestamp::new(seconds, read_u32(bytes, at + 8)?).ok_or_else(|| Error::Corrupt("an instant".to_owned()))
}

/// The start of every key in `expiry` of rows that end at this instant.
#[must_use]
pub fn expiry_prefix(end: Timestamp) -> [u8; 12] {
    instant_key(end)
}

/// The key in `expiry` of a row.
#[must_use]
pub fn expiry_key(end: Timestamp, key: &RowKey) -> Vec<u8> {
    [expiry_prefix(end).as_slice(), key.forward().as_slice()].concat()
}

/// The row that a key in `expiry` names.
pub fn expiring_row(key: &[u8]) -> Result<RowKey, Error> {
    RowKey::from_forward(key.get(12..).unwrap_or_default())
}

/// The first key after all that start with `prefix`; empty when there is none.
#[must_use]
pub fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.last_mut() {
        if *last < u8::MAX {
            *last += 1;
            return end;
        }
        end.pop();
    }
    end
}

/// `u32 · bytes`, the key of `dict`; and `u32 · u32`, the key of `undict`, share this shape.
#[must_use]
pub fn numbered(number: u32, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(4 + rest.len());
    key.extend_from_slice(&number.to_be_bytes());
    key.extend_from_slice(rest);
    key
}

/// The key of `log`: revision u64 · n u32.
#[must_use]
pub fn log_key(revision: u64, n: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[0..8].copy_from_slice(&revision.to_be_bytes());
    key[8..12].copy_from_slice(&n.to_be_bytes());
    key
}

/// A big-endian u32 at `at`, or corruption.
pub fn read_u32(bytes: &[u8], at: usize) -> Result<u32, Error> {
    bytes
        .get(at..at + 4)
        .and_then(|slice| slice.try_into().ok())
        .map(u32::from_be_bytes)
        .ok_or_else(|| Error::Corrupt("a number cut short".to_owned()))
}

/// A big-endian u64 at `at`, or corruption.
pub fn read_u64(bytes: &[u8], at: usize) -> Result<u64, Error> {
    bytes
        .get(at..at + 8)
        .and_then(|slice| slice.try_into().ok())
        .map(u64::from_be_bytes)
        .ok_or_else(|| Error::Corrupt("a number cut short".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn row_keys_survive_bytes_and_keep_their_order(a in any::<(u32, u32, u8, u32, u32)>(), b in any::<(u32, u32, u8, u32, u32)>()) {
            let make = |(relation, object, kind, member, subject): (u32, u32, u8, u32, u32)| RowKey {
                relation: MemberNum(relation),
                object: ObjectNum(object),
                subject: SubjectKey {
                    kind: SubjectKind::from_byte(kind % 3).unwrap(),
                    member: MemberNum(member),
                    object: ObjectNum(subject),
                },
            };
            let (a, b) = (make(a), make(b));
            prop_assert_eq!(RowKey::from_forward(&a.forward()).unwrap(), a);
            prop_assert_eq!(RowKey::from_reverse(&a.reverse()).unwrap(), a);
            prop_assert_eq!(a.cmp(&b), a.forward().cmp(&b.forward()));
        }
    }

    #[test]
    fn the_order_of_ends_is_the_order_of_their_keys() {
        let ends = [(i64::MIN >> 30, 0), (-1, 999_999_999), (0, 0), (0, 1), (7, 0)];
        let ends = ends.map(|(seconds, nanos)| Timestamp::new(seconds, nanos).unwrap());
        let keys = ends.map(expiry_prefix);
        assert!(keys.is_sorted());
        assert_eq!(keys.map(|key| read_instant(&key, 0).unwrap()), ends);
    }

    #[test]
    fn the_end_of_a_prefix_is_the_next_key_that_lacks_it() {
        assert_eq!(after_prefix(&[1, 2]), [1, 3]);
        assert_eq!(after_prefix(&[1, 255]), [2]);
        assert!(after_prefix(&[255, 255]).is_empty());
    }

    #[test]
    fn damaged_keys_are_corruption() {
        assert!(RowKey::from_forward(&[0; 16]).is_err());
        assert!(RowKey::from_forward(&[3; 17]).is_err());
    }
}
