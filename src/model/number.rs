//! The numbers that stand for names and ids inside the engine: 32 bits each, given once and never reused.
//!
//! They come from append-only tables in the store, never from the order of a schema, so that a key written under one
//! schema means the same under the next.

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u32);

        impl $name {
            /// As an index into a dense table.
            #[must_use]
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
    };
}

number! {
    /// A definition.
    TypeNum
}
number! {
    /// A member of a definition: (definition, relation or permission), or (definition, `...`), which stands for the
    /// plain object and, in a wildcard's key, for all of the type.
    MemberNum
}
number! {
    /// A caveat.
    CaveatNum
}
number! {
    /// An object within its type, dense from 0 in order of creation.
    ObjectNum
}

impl ObjectNum {
    /// From here on upwards numbers are never given to an id that is kept. A request gives them to ids that no tuple
    /// mentions, which so have no rows, and forgets them with its answer.
    pub const TRANSIENT_FIRST: u32 = u32::MAX - 4_095;
    /// Stands for every id of its type that is neither kept nor named in the request: none of them has a row, so the
    /// answer about one is the answer about all.
    pub const ANYBODY_ELSE: ObjectNum = ObjectNum(u32::MAX);
}

/// Which form a tuple's subject has. The order is the order in the keys: a check scans the first two and does one
/// `Get` for the third, so an object with a million direct users costs one `Get`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum SubjectKind {
    /// `type:id#relation`
    Userset = 0,
    /// `type:*`
    Wildcard = 1,
    /// `type:id`
    Plain = 2,
}

impl SubjectKind {
    /// The kind a key's byte stands for; `None` for a byte no key holds.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<SubjectKind> {
        match byte {
            0 => Some(SubjectKind::Userset),
            1 => Some(SubjectKind::Wildcard),
            2 => Some(SubjectKind::Plain),
            _ => None,
        }
    }
}
