//! What stands beside a row's key: nothing, or a caveat with stored context, and an expiry.
//!
//! ```text
//! empty                                                        neither
//! flags u8 [· caveat u32 · length u32 · context JSON] [· seconds i64 · nanos u32]
//! ```

use super::error::Error;
use super::keys::{read_u32, read_u64};
use crate::model::{CaveatNum, Timestamp};

const HAS_CAVEAT: u8 = 1;
const HAS_EXPIRY: u8 = 2;

/// The value of a row. Most are empty.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RowValue {
    pub caveat: Option<RowCaveat>,
    pub expires_at: Option<Timestamp>,
}

/// A caveat and the JSON object stored with it, as bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RowCaveat {
    pub caveat: CaveatNum,
    pub context: Box<[u8]>,
}

impl RowValue {
    /// Whether the row exists for a reader whose clock says `now`: an expiry is exclusive.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }

    /// As stored.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        if self.caveat.is_none() && self.expires_at.is_none() {
            return Vec::new();
        }
        let caveat_flag = if self.caveat.is_some() { HAS_CAVEAT } else { 0 };
        let expiry_flag = if self.expires_at.is_some() { HAS_EXPIRY } else { 0 };
        let mut bytes = vec![caveat_flag | expiry_flag];
        if let Some(caveat) = &self.caveat {
            bytes.extend_from_slice(&caveat.caveat.0.to_be_bytes());
            let length = u32::try_from(caveat.context.len()).unwrap_or(u32::MAX);
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(&caveat.context);
        }
        if let Some(end) = self.expires_at {
            bytes.extend_from_slice(&end.seconds().to_be_bytes());
            bytes.extend_from_slice(&end.nanos().to_be_bytes());
        }
        bytes
    }

    /// Reads what `encode` wrote; anything else is corruption.
    pub fn decode(bytes: &[u8]) -> Result<RowValue, Error> {
        let Some((flags, _)) = bytes.split_first() else {
            return Ok(RowValue::default());
        };
        let corrupt = || Error::Corrupt("a row's value".to_owned());
        let mut at = 1;
        let mut value = RowValue::default();
        if flags & HAS_CAVEAT != 0 {
            let caveat = CaveatNum(read_u32(bytes, at)?);
            let length = read_u32(bytes, at + 4)? as usize;
            let context = bytes.get(at + 8..at + 8 + length).ok_or_else(corrupt)?;
            value.caveat = Some(RowCaveat { caveat, context: context.into() });
            at += 8 + length;
        }
        if flags & HAS_EXPIRY != 0 {
            let seconds = read_u64(bytes, at)?.cast_signed();
            value.expires_at = Some(Timestamp::new(seconds, read_u32(bytes, at + 8)?).ok_or_else(corrupt)?);
            at += 12;
        }
        if at == bytes.len() && flags & !(HAS_CAVEAT | HAS_EXPIRY) == 0 { Ok(value) } else { Err(corrupt()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_bytes_and_damage_is_seen() {
        let end = Timestamp::new(-5, 7);
        let caveat = Some(RowCaveat { caveat: CaveatNum(3), context: (*b"{}").into() });
        for value in [
            RowValue::default(),
            RowValue { caveat: caveat.clone(), expires_at: None },
            RowValue { caveat: None, expires_at: end },
            RowValue { caveat, expires_at: end },
        ] {
            let bytes = value.encode();
            assert_eq!(RowValue::decode(&bytes).unwrap(), value);
            for cut in 1..bytes.len() {
                assert!(RowValue::decode(&bytes[..cut]).is_err());
            }
        }
        assert!(RowValue::decode(&[4]).is_err());
        assert!(RowValue::decode(&[0, 0]).is_err());
    }

    #[test]
    fn an_expiry_is_exclusive() {
        let at = |seconds| Timestamp::new(seconds, 0).unwrap();
        let value = RowValue { caveat: None, expires_at: Some(at(10)) };
        assert!(value.is_live(at(9)));
        assert!(!value.is_live(at(10)));
    }
}
