//! Names and object ids, each checked where a string enters and nowhere else.
//!
//! INVARIANT: a `TypeName`, `RelationName`, `CaveatName` or `ObjectId` matches its alphabet and length. Bytes are
//! kept exactly as given: nothing is folded or normalised.

use super::limits::{CAVEAT_NAME_BYTES_MAX, NAME_SEGMENT_BYTES_MAX, OBJECT_ID_BYTES_MAX, TYPE_NAME_BYTES_MAX};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a string is not the name or id it was offered as. `at` is the byte offset of what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("{what} is empty")]
    Empty { what: &'static str },
    /// More bytes than the kind of name may have.
    #[error("{what} is {bytes} bytes long; at most {bytes_max} are allowed")]
    TooLong { what: &'static str, bytes: usize, bytes_max: usize },
    /// A character outside the alphabet.
    #[error("{what} holds {found:?} at byte {at}; allowed are {allowed}")]
    Character { what: &'static str, at: usize, found: char, allowed: &'static str },
}

impl NameError {
    /// The byte offset, within the offered string, where it stops being a name.
    #[must_use]
    pub fn at(&self) -> usize {
        match self {
            NameError::Empty { .. } => 0,
            NameError::TooLong { bytes_max, .. } => *bytes_max,
            NameError::Character { at, .. } => *at,
        }
    }
}

const SEGMENT_ALLOWED: &str = "a lower-case letter first, then a-z, 0-9 and _, not ending in _";

/// `^[a-z]([a-z0-9_]{0,62}[a-z0-9])?$`; `offset` is where the segment starts in the whole name.
fn check_segment(what: &'static str, segment: &str, offset: usize) -> Result<(), NameError> {
    let bytes = segment.as_bytes();
    let Some(last) = bytes.len().checked_sub(1) else {
        return Err(NameError::Empty { what });
    };
    if bytes.len() > NAME_SEGMENT_BYTES_MAX {
        return Err(NameError::TooLong { what, bytes: bytes.len(), bytes_max: NAME_SEGMENT_BYTES_MAX });
    }
    for (at, found) in segment.char_indices() {
        let fits = match found {
            'a'..='z' => true,
            '0'..='9' => at > 0,
            '_' => at > 0 && at < last,
            _ => false,
        };
        if !fits {
            return Err(NameError::Character { what, at: offset + at, found, allowed: SEGMENT_ALLOWED });
        }
    }
    Ok(())
}

fn check_type(name: &str) -> Result<(), NameError> {
    let what = "type name";
    if name.len() > TYPE_NAME_BYTES_MAX {
        return Err(NameError::TooLong { what, bytes: name.len(), bytes_max: TYPE_NAME_BYTES_MAX });
    }
    let mut offset = 0;
    for segment in name.split('/') {
        check_segment(what, segment, offset)?;
        offset += segment.len() + 1;
    }
    Ok(())
}

fn check_relation(name: &str) -> Result<(), NameError> {
    check_segment("relation name", name, 0)
}

/// `^[a-zA-Z0-9_][a-zA-Z0-9/_|-]{0,127}$`, after an optional prefix which that alphabet covers as well.
fn check_caveat(name: &str) -> Result<(), NameError> {
    let what = "caveat name";
    if name.is_empty() {
        return Err(NameError::Empty { what });
    }
    if name.len() > CAVEAT_NAME_BYTES_MAX {
        return Err(NameError::TooLong { what, bytes: name.len(), bytes_max: CAVEAT_NAME_BYTES_MAX });
    }
    for (at, found) in name.char_indices() {
        let fits = found.is_ascii_alphanumeric() || found == '_' || (at > 0 && matches!(found, '/' | '|' | '-'));
        if !fits {
            let allowed = "letters, digits and _, then also / | -";
            return Err(NameError::Character { what, at, found, allowed });
        }
    }
    Ok(())
}

fn check_object_id(id: &str) -> Result<(), NameError> {
    let what = "object id";
    if id.is_empty() {
        return Err(NameError::Empty { what });
    }
    if id.len() > OBJECT_ID_BYTES_MAX {
        return Err(NameError::TooLong { what, bytes: id.len(), bytes_max: OBJECT_ID_BYTES_MAX });
    }
    for (at, found) in id.char_indices() {
        if !is_object_id_char(found) {
            let allowed = "a-z A-Z 0-9 and / _ | - = + . @ : ~ % ! ,";
            return Err(NameError::Character { what, at, found, allowed });
        }
    }
    Ok(())
}

fn is_object_id_char(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || matches!(c, '/' | '_' | '|' | '-' | '=' | '+' | '.' | '@' | ':' | '~' | '%' | '!' | ',')
}

macro_rules! checked_string {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// Takes the string as it is, or says what is wrong with it.
            pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
                Self::take(text.into()).map_err(|(_, error)| error)
            }

            /// The same of a string that is not copied, and given back if it is none.
            pub fn take(text: String) -> Result<Self, (String, NameError)> {
                match $check(&text) {
                    Ok(()) => Ok(Self(text.into_boxed_str())),
                    Err(error) => Err((text, error)),
                }
            }

            /// The exact bytes given.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.into_string()
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

checked_string! {
    /// A definition's name, `[prefix/]name`, at most 128 bytes; each segment `^[a-z]([a-z0-9_]{0,62}[a-z0-9])?$`.
    TypeName, check_type
}
checked_string! {
    /// A relation's or permission's name, `^[a-z]([a-z0-9_]{0,62}[a-z0-9])?$`.
    RelationName, check_relation
}
checked_string! {
    /// A caveat's name, `^[a-zA-Z0-9_][a-zA-Z0-9/_|-]{0,127}$`.
    CaveatName, check_caveat
}
checked_string! {
    /// An object's id within its type: 1 to 1024 bytes of `[a-zA-Z0-9/_|\-=+.@:~%!,]`.
    ObjectId, check_object_id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_their_alphabet() {
        for good in ["a", "doc", "acme/doc", "a1", "a_b", &"a".repeat(64), "x/y/z"] {
            assert!(TypeName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "A", "1a", "_a", "a_", "a-b", "a/", "/a", "a//b", "é", &"a".repeat(65), &"a/".repeat(70)] {
            assert!(TypeName::new(bad).is_err(), "{bad}");
        }
        assert!(RelationName::new("a/b").is_err());
        assert!(CaveatName::new("Is_Weekday|x-1").is_ok());
        assert!(CaveatName::new("-x").is_err());
    }

    #[test]
    fn object_ids_hold_their_alphabet() {
        for good in ["1", "a@b.com", "urn:x:y", "*not".trim_start_matches('*'), "~%!,", &"x".repeat(1024)] {
            assert!(ObjectId::new(good).is_ok(), "{good}");
        }
        for bad in ["", "*", "a b", "a#b", "a[b", "ü", "a\n", &"x".repeat(1025)] {
            assert!(ObjectId::new(bad).is_err(), "{bad}");
        }
        assert_eq!(ObjectId::new("ab#").unwrap_err().at(), 2);
    }
}
