//! The append-only table of names: definitions, their members (with `...`), caveats; each with a number for ever.
//!
//! INVARIANT: a definition's first member is its `...`; numbers are dense from 0 in order of first appearance, and a
//! name that leaves the schema keeps its number.

use super::error::Error;
use super::keys::{numbered, read_u32};
use crate::model::{CaveatName, CaveatNum, MemberNum, RelationName, TypeName, TypeNum};
use hashbrown::HashMap;

/// One addition to the table, as the changelog holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NewName {
    Type {
        number: TypeNum,
        name: TypeName,
    },
    /// `name` is `None` for `...`.
    Member {
        number: MemberNum,
        of: TypeNum,
        name: Option<RelationName>,
    },
    Caveat {
        number: CaveatNum,
        name: CaveatName,
    },
}

/// All names known, both ways. Cloned and replaced whole when a schema adds to it.
#[derive(Clone, Default, Debug)]
pub struct Names {
    types: Vec<TypeEntry>,
    members: Vec<MemberEntry>,
    by_type: HashMap<TypeName, TypeNum, foldhash::fast::RandomState>,
    caveats: Vec<CaveatName>,
    by_caveat: HashMap<CaveatName, CaveatNum, foldhash::fast::RandomState>,
}

#[derive(Clone, Debug)]
struct TypeEntry {
    name: TypeName,
    members: HashMap<RelationName, MemberNum, foldhash::fast::RandomState>,
    itself: Option<MemberNum>,
}

/// A member's definition and name; `None` is `...`.
#[derive(Clone, Debug)]
pub struct MemberEntry {
    pub of: TypeNum,
    pub name: Option<RelationName>,
}

impl Names {
    /// The number of a definition.
    #[must_use]
    pub fn type_number(&self, name: &str) -> Option<TypeNum> {
        self.by_type.get(name).copied()
    }

    /// The number of a relation or permission.
    #[must_use]
    pub fn member_number(&self, of: TypeNum, name: &str) -> Option<MemberNum> {
        self.types.get(of.index())?.members.get(name).copied()
    }

    /// The number of the definition's `...`.
    #[must_use]
    pub fn itself(&self, of: TypeNum) -> Option<MemberNum> {
        self.types.get(of.index())?.itself
    }

    /// A definition's name.
    pub fn type_name(&self, number: TypeNum) -> Result<&TypeName, Error> {
        self.types
            .get(number.index())
            .map(|entry| &entry.name)
            .ok_or_else(|| Error::Corrupt(format!("no type has the number {}", number.0)))
    }

    /// A member's definition and name.
    pub fn member(&self, number: MemberNum) -> Result<&MemberEntry, Error> {
        self.members.get(number.index()).ok_or_else(|| Error::Corrupt(format!("no member has the number {}", number.0)))
    }

    /// The number of a caveat.
    #[must_use]
    pub fn caveat_number(&self, name: &str) -> Option<CaveatNum> {
        self.by_caveat.get(name).copied()
    }

    /// A caveat's name.
    pub fn caveat_name(&self, number: CaveatNum) -> Result<&CaveatName, Error> {
        self.caveats.get(number.index()).ok_or_else(|| Error::Corrupt(format!("no caveat has the number {}", number.0)))
    }

    /// Every member of a definition, `...` included, ascending.
    #[must_use]
    pub fn members_of(&self, of: TypeNum) -> Vec<MemberNum> {
        let Some(entry) = self.types.get(of.index()) else { return Vec::new() };
        let mut members: Vec<_> = entry.members.values().copied().chain(entry.itself).collect();
        members.sort_unstable();
        members
    }

    /// Whether any definition has a relation or permission of this name.
    #[must_use]
    pub fn has_member_named(&self, name: &str) -> bool {
        self.types.iter().any(|of| of.members.contains_key(name))
    }

    /// How many definitions there are.
    #[must_use]
    pub fn type_count(&self) -> usize {
        self.types.len()
    }

    /// How many members there are.
    #[must_use]
    pub fn member_count(&self) -> usize {
        self.members.len()
    }

    /// Takes one addition, which must have the next number of its kind.
    pub fn add(&mut self, new: &NewName) -> Result<(), Error> {
        let out_of_turn = || Error::Corrupt("a name's number is not the next".to_owned());
        match new {
            NewName::Type { number, name } => {
                if number.index() != self.types.len() {
                    return Err(out_of_turn());
                }
                self.types.push(TypeEntry { name: name.clone(), members: HashMap::default(), itself: None });
                self.by_type.insert(name.clone(), *number);
            }
            NewName::Member { number, of, name } => {
                if number.index() != self.members.len() {
                    return Err(out_of_turn());
                }
                let entry = self.types.get_mut(of.index()).ok_or_else(out_of_turn)?;
                match name {
                    Some(name) => {
                        entry.members.insert(name.clone(), *number);
                    }
                    None => entry.itself = Some(*number),
                }
                self.members.push(MemberEntry { of: *of, name: name.clone() });
            }
            NewName::Caveat { number, name } => {
                if number.index() != self.caveats.len() {
                    return Err(out_of_turn());
                }
                self.caveats.push(name.clone());
                self.by_caveat.insert(name.clone(), *number);
            }
        }
        Ok(())
    }

    /// What must be added so that these definitions, members and caveats have numbers, in the order they get them.
    pub fn missing(
        &self,
        wanted: &[(TypeName, Vec<RelationName>)],
        caveats: &[CaveatName],
    ) -> Result<Vec<NewName>, Error> {
        let next = |length: usize| {
            u32::try_from(length).map_err(|_| Error::NumbersUsedUp { object_type: "definition".to_owned() })
        };
        let mut new = Vec::new();
        let (mut types, mut members) = (self.types.len(), self.members.len());
        for (name, wanted_members) in wanted {
            let known = self.type_number(name.as_str());
            let of = match known {
                Some(of) => of,
                None => {
                    let of = TypeNum(next(types)?);
                    types += 1;
                    new.push(NewName::Type { number: of, name: name.clone() });
                    new.push(NewName::Member { number: MemberNum(next(members)?), of, name: None });
                    members += 1;
                    of
                }
            };
            for member in wanted_members {
                if known.and_then(|of| self.member_number(of, member.as_str())).is_none() {
                    new.push(NewName::Member { number: MemberNum(next(members)?), of, name: Some(member.clone()) });
                    members += 1;
                }
            }
        }
        let unknown = caveats.iter().filter(|name| self.caveat_number(name.as_str()).is_none());
        for (n, name) in unknown.enumerate() {
            new.push(NewName::Caveat { number: CaveatNum(next(self.caveats.len() + n)?), name: name.clone() });
        }
        Ok(new)
    }
}

const TYPE: u8 = b't';
const MEMBER: u8 = b'm';
const CAVEAT: u8 = b'c';
/// What a member's `...` is written as; no relation can be called so.
const ITSELF: &str = "...";

impl NewName {
    /// Its key in `meta` (after the table's own prefix) and its value there.
    #[must_use]
    pub fn encode(&self) -> (Vec<u8>, Vec<u8>) {
        match self {
            NewName::Type { number, name } => {
                let mut key = vec![TYPE];
                key.extend_from_slice(&number.0.to_be_bytes());
                (key, name.as_str().as_bytes().to_vec())
            }
            NewName::Member { number, of, name } => {
                let mut key = vec![MEMBER];
                key.extend_from_slice(&number.0.to_be_bytes());
                let name = name.as_ref().map_or(ITSELF, RelationName::as_str);
                (key, numbered(of.0, name.as_bytes()))
            }
            NewName::Caveat { number, name } => {
                let mut key = vec![CAVEAT];
                key.extend_from_slice(&number.0.to_be_bytes());
                (key, name.as_str().as_bytes().to_vec())
            }
        }
    }

    /// Reads what `encode` wrote.
    pub fn decode(key: &[u8], value: &[u8]) -> Result<NewName, Error> {
        let corrupt = || Error::Corrupt("an entry of the name table".to_owned());
        let number = read_u32(key, 1)?;
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| corrupt());
        match key.first() {
            Some(&TYPE) => {
                let name = TypeName::new(text(value)?).map_err(|_| corrupt())?;
                Ok(NewName::Type { number: TypeNum(number), name })
            }
            Some(&MEMBER) => {
                let of = TypeNum(read_u32(value, 0)?);
                let name = text(value.get(4..).ok_or_else(corrupt)?)?;
                let name = if name == ITSELF { None } else { Some(RelationName::new(name).map_err(|_| corrupt())?) };
                Ok(NewName::Member { number: MemberNum(number), of, name })
            }
            Some(&CAVEAT) => {
                let name = CaveatName::new(text(value)?).map_err(|_| corrupt())?;
                Ok(NewName::Caveat { number: CaveatNum(number), name })
            }
            Some(_) | None => Err(corrupt()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_given_once_and_survive_bytes() {
        let wanted = |text: &str| -> Vec<(TypeName, Vec<RelationName>)> {
            text.split(';')
                .map(|part| {
                    let mut words = part.split(' ');
                    let name = TypeName::new(words.next().unwrap()).unwrap();
                    (name, words.map(|word| RelationName::new(word).unwrap()).collect())
                })
                .collect()
        };
        let mut names = Names::default();
        let caveats = [CaveatName::new("on_call").unwrap()];
        let first = names.missing(&wanted("user;doc viewer view"), &caveats).unwrap();
        assert_eq!(first.len(), 7);
        for new in &first {
            let (key, value) = new.encode();
            assert_eq!(&NewName::decode(&key, &value).unwrap(), new);
            names.add(new).unwrap();
        }
        assert!(names.missing(&wanted("doc view viewer;user"), &caveats).unwrap().is_empty());
        let more = names.missing(&wanted("doc edit view"), &[]).unwrap();
        assert_eq!(
            more,
            [NewName::Member { number: MemberNum(4), of: TypeNum(1), name: RelationName::new("edit").ok() }]
        );
        assert!(names.add(&first[0]).is_err(), "a number is not given twice");
    }
}
