//! The text of objects, subjects and tuples: one `Display`, one `FromStr`, one law (parse ∘ print is the identity).
//!
//! `type:id#rel@type:id[#rel|#...][caveat:{json}][expiration:RFC3339]`. It is unambiguous though ids may hold `:` and
//! `@`: the first `:` ends a type, the first `#` ends the object, the next `@` ends the relation; ids never hold `#`,
//! `[` or white space.

use super::{
    CaveatName, Context, NameError, ObjectId, ObjectRef, RelationName, RelationTuple, SubjectRef, Timestamp,
    TupleCaveat, TupleKey, TypeName,
};
use std::fmt;
use std::str::FromStr;

/// Why a text is not an object, subject or tuple. `at` is a byte offset into the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TupleTextError {
    pub at: usize,
    pub message: String,
    pub hint: &'static str,
}

const TUPLE_HINT: &str = "a tuple is `type:id#relation@type:id`, such as `doc:1#viewer@user:rita`";
const OBJECT_HINT: &str = "an object is `type:id`, such as `doc:1`";
const SUBJECT_HINT: &str = "a subject is `type:id`, `type:id#relation` or `type:*`";
const TRAIT_HINT: &str =
    "what may follow is `[caveat]` or `[caveat:{\"key\": value}]`, then `[expiration:2030-01-01T00:00:00Z]`";

fn wrong(at: usize, message: impl Into<String>, hint: &'static str) -> TupleTextError {
    TupleTextError { at, message: message.into(), hint }
}

fn named(at: usize, hint: &'static str) -> impl Fn(NameError) -> TupleTextError {
    move |error| wrong(at + error.at(), error.to_string(), hint)
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.object_type, self.id)
    }
}

impl fmt::Display for SubjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SubjectRef::Object(object) => write!(f, "{object}"),
            SubjectRef::Userset(object, relation) => write!(f, "{object}#{relation}"),
            SubjectRef::Wildcard(subject_type) => write!(f, "{subject_type}:*"),
        }
    }
}

impl fmt::Display for TupleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}@{}", self.object, self.relation, self.subject)
    }
}

impl fmt::Display for RelationTuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.key)?;
        if let Some(caveat) = &self.caveat {
            if caveat.context.is_empty() {
                write!(f, "[{}]", caveat.name)?;
            } else {
                let json = serde_json::to_string(&caveat.context).map_err(|_| fmt::Error)?;
                write!(f, "[{}:{json}]", caveat.name)?;
            }
        }
        match self.expires_at {
            Some(at) => write!(f, "[expiration:{at}]"),
            None => Ok(()),
        }
    }
}

macro_rules! debug_as_display {
    ($($name:ident),*) => {
        $(impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        })*
    };
}
debug_as_display!(ObjectRef, SubjectRef, TupleKey, RelationTuple);

/// Parses `type:id` that starts at byte `at` of the whole text.
fn object_at(text: &str, at: usize) -> Result<ObjectRef, TupleTextError> {
    let Some((object_type, id)) = text.split_once(':') else {
        return Err(wrong(at + text.len(), format!("`{}` has no `:` after its type", shown(text)), OBJECT_HINT));
    };
    let id_at = at + object_type.len() + 1;
    Ok(ObjectRef {
        object_type: TypeName::new(object_type).map_err(named(at, OBJECT_HINT))?,
        id: ObjectId::new(id).map_err(named(id_at, OBJECT_HINT))?,
    })
}

fn subject_at(text: &str, at: usize) -> Result<SubjectRef, TupleTextError> {
    let (object, relation) = match text.split_once('#') {
        Some((object, relation)) => (object, Some(relation)),
        None => (text, None),
    };
    let relation_at = at + object.len() + 1;
    if let Some((subject_type, "*")) = object.split_once(':') {
        let subject_type = TypeName::new(subject_type).map_err(named(at, SUBJECT_HINT))?;
        return match relation {
            None | Some("...") => Ok(SubjectRef::Wildcard(subject_type)),
            Some(_) => Err(wrong(relation_at, "a wildcard takes no relation", SUBJECT_HINT)),
        };
    }
    let object = object_at(object, at).map_err(|error| TupleTextError { hint: SUBJECT_HINT, ..error })?;
    match relation {
        None | Some("...") => Ok(SubjectRef::Object(object)),
        Some(relation) => {
            let relation = RelationName::new(relation).map_err(named(relation_at, SUBJECT_HINT))?;
            Ok(SubjectRef::Userset(object, relation))
        }
    }
}

/// Parses `object#relation@subject` that starts at byte `at`.
fn key_at(text: &str, at: usize) -> Result<TupleKey, TupleTextError> {
    let Some((object, rest)) = text.split_once('#') else {
        return Err(wrong(at + text.len(), format!("`{}` has no `#relation`", shown(text)), TUPLE_HINT));
    };
    let relation_at = at + object.len() + 1;
    let Some((relation, subject)) = rest.split_once('@') else {
        return Err(wrong(at + text.len(), format!("`{}` has no `@subject`", shown(text)), TUPLE_HINT));
    };
    let subject_start = relation_at + relation.len() + 1;
    Ok(TupleKey {
        object: object_at(object, at)?,
        relation: RelationName::new(relation).map_err(named(relation_at, TUPLE_HINT))?,
        subject: subject_at(subject, subject_start)?,
    })
}

/// Parses `[caveat]`, `[caveat:{json}]` and `[expiration:RFC3339]`, which start at byte `at`.
fn traits_at(mut text: &str, mut at: usize) -> Result<(Option<TupleCaveat>, Option<Timestamp>), TupleTextError> {
    let mut caveat = None;
    let mut expires_at = None;
    // Bounded: each turn consumes at least the two brackets.
    while !text.is_empty() {
        let Some(body) = text.strip_prefix('[') else {
            return Err(wrong(at, format!("`{}` may not stand after the subject", shown(text)), TRAIT_HINT));
        };
        let used = if let Some(instant) = body.strip_prefix("expiration:") {
            let Some(end) = instant.find(']') else {
                return Err(wrong(at, "`[` without its `]`", TRAIT_HINT));
            };
            if expires_at.is_some() {
                return Err(wrong(at, "a second expiration", TRAIT_HINT));
            }
            let parsed = instant[..end].parse().map_err(|error: String| wrong(at + 12, error, TRAIT_HINT))?;
            expires_at = Some(parsed);
            "[expiration:".len() + end + 1
        } else {
            if caveat.is_some() || expires_at.is_some() {
                return Err(wrong(at, "a caveat stands once, and before the expiration", TRAIT_HINT));
            }
            let (found, used) = caveat_at(body, at)?;
            caveat = Some(found);
            used
        };
        text = &text[used..];
        at += used;
    }
    Ok((caveat, expires_at))
}

/// Parses what follows the `[` of a caveat; returns it and the bytes used, brackets included.
fn caveat_at(body: &str, at: usize) -> Result<(TupleCaveat, usize), TupleTextError> {
    let Some(name_len) = body.find([':', ']']) else {
        return Err(wrong(at, "`[` without its `]`", TRAIT_HINT));
    };
    let name = CaveatName::new(&body[..name_len]).map_err(named(at + 1, TRAIT_HINT))?;
    let rest = &body[name_len..];
    if rest.starts_with(']') {
        return Ok((TupleCaveat { name, context: Context::new() }, 1 + name_len + 1));
    }
    let json_at = at + 1 + name_len + 1;
    let mut values = serde_json::Deserializer::from_str(&rest[1..]).into_iter::<Context>();
    let context = match values.next() {
        Some(Ok(context)) => context,
        Some(Err(error)) => return Err(wrong(json_at, format!("the caveat's context: {error}"), TRAIT_HINT)),
        None => return Err(wrong(json_at, "the caveat's context is missing after `:`", TRAIT_HINT)),
    };
    let json_len = values.byte_offset();
    if !rest[1 + json_len..].starts_with(']') {
        return Err(wrong(json_at + json_len, "`]` expected after the caveat's context", TRAIT_HINT));
    }
    Ok((TupleCaveat { name, context }, 1 + name_len + 1 + json_len + 1))
}

/// At most 64 characters of what was given, for a message.
fn shown(text: &str) -> String {
    match text.char_indices().nth(64) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl FromStr for ObjectRef {
    type Err = TupleTextError;
    fn from_str(text: &str) -> Result<ObjectRef, TupleTextError> {
        object_at(text, 0)
    }
}

impl FromStr for SubjectRef {
    type Err = TupleTextError;
    fn from_str(text: &str) -> Result<SubjectRef, TupleTextError> {
        subject_at(text, 0)
    }
}

impl FromStr for TupleKey {
    type Err = TupleTextError;
    fn from_str(text: &str) -> Result<TupleKey, TupleTextError> {
        key_at(text, 0)
    }
}

impl FromStr for RelationTuple {
    type Err = TupleTextError;
    fn from_str(text: &str) -> Result<RelationTuple, TupleTextError> {
        let key_len = text.find('[').unwrap_or(text.len());
        let key = key_at(&text[..key_len], 0)?;
        let (caveat, expires_at) = traits_at(&text[key_len..], key_len)?;
        Ok(RelationTuple { key, caveat, expires_at })
    }
}

/// Records keep them as their text.
macro_rules! record_as_text {
    ($($name:ident),*) => {$(
        impl TryFrom<String> for $name {
            type Error = TupleTextError;
            fn try_from(text: String) -> Result<$name, TupleTextError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        }
    )*};
}

record_as_text!(ObjectRef, SubjectRef);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_may_hold_what_separates_elsewhere() {
        let tuple: RelationTuple = "doc:a:b@c#viewer@user:rita@acme.com:x#member".parse().unwrap();
        assert_eq!(tuple.key.object.id.as_str(), "a:b@c");
        assert_eq!(tuple.key.relation.as_str(), "viewer");
        assert_eq!(tuple.key.subject.to_string(), "user:rita@acme.com:x#member");
        let plain: SubjectRef = "user:tom#...".parse().unwrap();
        assert_eq!(plain.to_string(), "user:tom");
    }

    #[test]
    fn caveat_and_expiry_follow_the_subject() {
        let text = r#"doc:1#viewer@user:*[on_net:{"cidr":"10.0.0.0/8","x":["]"]}][expiration:2030-01-01T00:00:00Z]"#;
        let tuple: RelationTuple = text.parse().unwrap();
        assert_eq!(tuple.to_string(), text);
        let bare: RelationTuple = "doc:1#viewer@user:a[c]".parse().unwrap();
        assert_eq!(bare.caveat.unwrap().context.len(), 0);
    }

    #[test]
    fn errors_point_at_the_byte() {
        for (text, at) in [
            ("doc", 3),
            ("doc:1", 5),
            ("doc:1#viewer", 12),
            ("doc:1#viewer@user", 17),
            ("doc:1#vieWer@user:x", 9),
            ("doc:1#viewer@user:", 18),
            ("doc:*#viewer@user:x", 4),
            ("doc:1#viewer@user:*#member", 20),
            ("doc:1#viewer@user:x[", 19),
            ("doc:1#viewer@user:x]", 19),
            ("doc:1#viewer@user:x[c]y", 22),
            ("doc:1#viewer@user:x[expiration:soon]", 31),
            ("doc:1#viewer@user:x[c:{]", 22),
        ] {
            let error = text.parse::<RelationTuple>().unwrap_err();
            assert_eq!(error.at, at, "{text}: {error}");
        }
    }

    fn name() -> impl Strategy<Value = String> {
        "[a-z]([a-z0-9_]{0,6}[a-z0-9])?"
    }

    fn id() -> impl Strategy<Value = String> {
        r"[a-zA-Z0-9/_|\-=+.@:~%!,]{1,12}"
    }

    proptest! {
        #[test]
        fn parse_after_print_is_the_identity(
            object_type in name(), prefix in proptest::option::of(name()), object_id in id(), relation in name(),
            subject_type in name(), subject_id in id(), userset in proptest::option::of(name()), kind in 0..3u8,
            caveat in proptest::option::of((name(), proptest::option::of("[ -~é]{0,10}"))),
            seconds in proptest::option::of((-62_135_596_800i64..253_402_300_799, 0..1_000_000_000u32)),
        ) {
            let object_type = prefix.map_or(object_type.clone(), |prefix| format!("{prefix}/{object_type}"));
            let object = ObjectRef { object_type: TypeName::new(object_type).unwrap(), id: ObjectId::new(object_id).unwrap() };
            let subject_type = TypeName::new(subject_type).unwrap();
            let subject_object = ObjectRef { object_type: subject_type.clone(), id: ObjectId::new(subject_id).unwrap() };
            let subject = match (kind, userset) {
                (0, _) => SubjectRef::Wildcard(subject_type),
                (_, Some(relation)) => SubjectRef::Userset(subject_object, RelationName::new(relation).unwrap()),
                (_, None) => SubjectRef::Object(subject_object),
            };
            let tuple = RelationTuple {
                key: TupleKey { object, relation: RelationName::new(relation).unwrap(), subject },
                caveat: caveat.map(|(name, value)| TupleCaveat {
                    name: CaveatName::new(name).unwrap(),
                    context: value.map(|value| ("k".to_owned(), value.into())).into_iter().collect(),
                }),
                expires_at: seconds.map(|(seconds, nanos)| Timestamp::new(seconds, nanos).unwrap()),
            };
            // A caveat named `expiration` with a context would read as an expiry; such a tuple is never printed alone.
            prop_assume!(tuple.caveat.as_ref().is_none_or(|caveat| caveat.name.as_str() != "expiration"));
            prop_assert_eq!(tuple.to_string().parse::<RelationTuple>().unwrap(), tuple);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,60}") {
            let _ = text.parse::<RelationTuple>();
        }
    }
}
