//! Points in the write order, how a caller asks for one, and their opaque wire form.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt;

/// A point in the write order: 0 is the empty store, and each commit group adds one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

/// Which state a question is asked of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Consistency {
    /// The newest published revision.
    #[default]
    Newest,
    /// The newest, which must not be older than the token.
    AtLeastAsFresh(ConsistencyToken),
    /// Exactly the token's revision, while its snapshot is kept.
    AtExactSnapshot(ConsistencyToken),
}

/// A revision of one database in one incarnation. Its text is opaque to callers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConsistencyToken {
    /// Drawn at random when the database was made.
    pub database: [u8; 16],
    /// Drawn at random when the database was made or restored, so that a token from a discarded future is refused.
    pub incarnation: u64,
    pub revision: Revision,
}

/// Why a text is not a token of this engine at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not base64url, not the length of a token, or of a version this build does not know.
    #[error("not a consistency token")]
    Malformed,
    /// The check bytes do not fit: mistyped or cut.
    #[error("a damaged consistency token")]
    Damaged,
}

const VERSION: u8 = 1;
/// version, database, incarnation, revision, check
const BYTES: usize = 1 + 16 + 8 + 8 + 4;

/// FNV-1a over the payload: tells a damaged token from a foreign one. It is no secret and keeps nobody out.
fn check_bytes(payload: &[u8]) -> [u8; 4] {
    let mut hash: u32 = 0x811c_9dc5;
    for byte in payload {
        hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    }
    hash.to_be_bytes()
}

impl fmt::Display for ConsistencyToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.database);
        bytes.extend_from_slice(&self.incarnation.to_be_bytes());
        bytes.extend_from_slice(&self.revision.0.to_be_bytes());
        let check = check_bytes(&bytes);
        bytes.extend_from_slice(&check);
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl std::str::FromStr for ConsistencyToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<ConsistencyToken, TokenError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Malformed)?;
        let bytes: [u8; BYTES] = bytes.try_into().map_err(|_| TokenError::Malformed)?;
        let (payload, check) = bytes.split_last_chunk::<4>().ok_or(TokenError::Malformed)?;
        let (version, rest) = payload.split_first().ok_or(TokenError::Malformed)?;
        if *version != VERSION {
            return Err(TokenError::Malformed);
        }
        if check_bytes(payload) != *check {
            return Err(TokenError::Damaged);
        }
        let (database, rest) = rest.split_first_chunk::<16>().ok_or(TokenError::Malformed)?;
        let (incarnation, rest) = rest.split_first_chunk::<8>().ok_or(TokenError::Malformed)?;
        let revision = rest.first_chunk::<8>().ok_or(TokenError::Malformed)?;
        Ok(ConsistencyToken {
            database: *database,
            incarnation: u64::from_be_bytes(*incarnation),
            revision: Revision(u64::from_be_bytes(*revision)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_text_and_damage_is_seen() {
        let token = ConsistencyToken { database: [7; 16], incarnation: 9, revision: Revision(u64::MAX) };
        let text = token.to_string();
        assert_eq!(text.parse::<ConsistencyToken>().unwrap(), token);
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert!(String::from_utf8(bytes).unwrap().parse::<ConsistencyToken>().is_err(), "byte {at}");
        }
        for bad in ["", "x", "é", &text[1..], &format!("{text}A")] {
            assert!(bad.parse::<ConsistencyToken>().is_err());
        }
    }
}
