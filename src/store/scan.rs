//! A filter turned into key ranges and a test, so that reading by filter touches as few rows as its parts allow.

use super::error::Error;
use super::keys::{ROW_KEY_BYTES, RowKey};
use super::names::Names;
use super::snapshot::Direction;
use crate::model::{MemberNum, ObjectNum, SubjectFilter, SubjectIdFilter, SubjectKind, SubjectRelationFilter};
use crate::model::{TupleFilter, TypeNum};
use hashbrown::HashMap;
use std::sync::Arc;

/// What a filter means over rows. Ranges are ascending and disjoint.
#[derive(Debug)]
pub struct RowScan {
    pub direction: Direction,
    pub prefixes: Vec<Vec<u8>>,
    /// `None`: any relation.
    relations: Option<Vec<MemberNum>>,
    object: Option<ObjectNum>,
    subject: Option<SubjectTest>,
    within: Option<(TypeNum, ObjectNum)>,
    /// Of each relation, the objects that are meant, ascending. `None`: any.
    objects: Option<HashMap<MemberNum, Arc<[ObjectNum]>>>,
}

/// The subtree that a filter names, with the way to judge it that touches less. What a subtree is takes a walk, so a
/// scan alone does not judge it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Within {
    /// The filter names an object or a subject: the objects of its rows are asked for their ancestors.
    Ancestors((TypeNum, ObjectNum)),
    /// It names neither: what is in the subtree is looked up first.
    Subtree((TypeNum, ObjectNum)),
}

/// Whether a row is meant, and if not, where to look on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    Yes,
    No,
    /// Nor is any before the end of this object's rows.
    NotUpTo([u8; ROW_KEY_BYTES]),
    /// Nor is any other of its relation.
    NoMore,
}

#[derive(Debug)]
struct SubjectTest {
    members: Vec<MemberNum>,
    /// Whether `type:*` may match, and whether anything else may.
    wildcard: bool,
    others: bool,
    object: Option<ObjectNum>,
}

impl RowScan {
    /// Resolves a filter's names and ids; `None` when it can match nothing, because no tuple ever used one of them.
    pub fn new(
        filter: &TupleFilter,
        names: &Names,
        number: impl Fn(TypeNum, &str) -> Result<Option<ObjectNum>, Error>,
    ) -> Result<Option<RowScan>, Error> {
        let Some(relations) = relations_of(filter, names) else { return Ok(None) };
        let mut object = None;
        if let (Some(object_type), Some(id)) = (&filter.object_type, &filter.object_id) {
            let Some(of) = names.type_number(object_type.as_str()) else { return Ok(None) };
            let Some(found) = number(of, id.as_str())? else { return Ok(None) };
            object = Some(found);
        }
        let subject = match &filter.subject {
            Some(subject) => {
                let Some(test) = SubjectTest::new(subject, names, &number)? else { return Ok(None) };
                Some(test)
            }
            None => None,
        };
        let mut within = None;
        if let Some(root) = &filter.within {
            let Some(of) = names.type_number(root.object_type.as_str()) else { return Ok(None) };
            // A root that no tuple mentions has none beneath it either.
            let Some(found) = number(of, root.id.as_str())? else { return Ok(None) };
            within = Some((of, found));
        }
        let (direction, prefixes) = (Direction::Forward, Vec::new());
        let mut scan = RowScan { direction, prefixes, relations, object, subject, within, objects: None };
        scan.choose_ranges();
        Ok(Some(scan))
    }

    /// Prefers the subject's side only when a subject is named and no object is: its posting list is then shorter.
    fn choose_ranges(&mut self) {
        let by_subject = self.subject.as_ref().and_then(SubjectTest::postings);
        match (by_subject, self.object, &self.relations) {
            (Some(prefixes), None, _) => {
                self.direction = Direction::Reverse;
                self.prefixes = prefixes;
            }
            (_, object, Some(relations)) => {
                self.prefixes = relations.iter().map(|relation| forward_prefix(*relation, object)).collect();
            }
            (_, _, None) => self.prefixes = vec![Vec::new()],
        }
        self.prefixes.sort_unstable();
    }

    /// The subtree that rows are to be in, which `matches` does not judge.
    #[must_use]
    pub fn within(&self) -> Option<Within> {
        let named = self.object.is_some() || self.direction == Direction::Reverse;
        self.within.map(|root| if named { Within::Ancestors(root) } else { Within::Subtree(root) })
    }

    /// The relations of a type that are meant.
    #[must_use]
    pub fn relations_of(&self, of: TypeNum, names: &Names) -> Vec<MemberNum> {
        let meant = |relation: &MemberNum| {
            self.relations.as_ref().is_none_or(|relations| relations.binary_search(relation).is_ok())
        };
        names.members_of(of).into_iter().filter(meant).collect()
    }

    /// Confines a scan that names neither object nor subject to these objects of each type, which are ascending.
    pub fn confine(&mut self, objects: HashMap<TypeNum, Vec<ObjectNum>>, names: &Names) {
        let mut meant = HashMap::new();
        for (of, objects) in objects {
            let objects: Arc<[ObjectNum]> = objects.into();
            for relation in self.relations_of(of, names) {
                meant.insert(relation, Arc::clone(&objects));
            }
        }
        self.prefixes = meant.keys().map(|relation| forward_prefix(*relation, None)).collect();
        self.prefixes.sort_unstable();
        self.objects = Some(meant);
    }

    /// Whether a row is meant; if its object is not, where the next row that may be begins.
    #[must_use]
    pub fn fit(&self, key: &RowKey) -> Fit {
        if let Some(objects) = &self.objects {
            let objects = objects.get(&key.relation).map(AsRef::as_ref).unwrap_or_default();
            let next = objects.partition_point(|object| *object < key.object);
            match objects.get(next) {
                None => return Fit::NoMore,
                Some(next) if *next != key.object => {
                    // The next is greater than another, so there is one before it.
                    let mut last = [u8::MAX; ROW_KEY_BYTES];
                    last[0..4].copy_from_slice(&key.relation.0.to_be_bytes());
                    last[4..8].copy_from_slice(&next.0.saturating_sub(1).to_be_bytes());
                    return Fit::NotUpTo(last);
                }
                Some(_) => {}
            }
        }
        if self.matches(key) { Fit::Yes } else { Fit::No }
    }

    /// Whether a row is meant, save for the subtree it is to be in.
    #[must_use]
    pub fn matches(&self, key: &RowKey) -> bool {
        self.relations.as_ref().is_none_or(|relations| relations.binary_search(&key.relation).is_ok())
            && self.object.is_none_or(|object| object == key.object)
            && self.subject.as_ref().is_none_or(|subject| subject.matches(key))
    }
}

/// The prefix of `fwd` under which a relation's rows stand, of one object or of all.
#[must_use]
pub fn forward_prefix(relation: MemberNum, object: Option<ObjectNum>) -> Vec<u8> {
    let mut prefix = relation.0.to_be_bytes().to_vec();
    if let Some(object) = object {
        prefix.extend_from_slice(&object.0.to_be_bytes());
    }
    prefix
}

/// Ascending numbers of the relations meant: `None` if none can be, `Some(None)` if all are.
#[expect(clippy::option_option, reason = "three answers: nothing, everything, these")]
fn relations_of(filter: &TupleFilter, names: &Names) -> Option<Option<Vec<MemberNum>>> {
    let types: Vec<TypeNum> = match &filter.object_type {
        Some(object_type) => vec![names.type_number(object_type.as_str())?],
        None if filter.relation.is_none() => return Some(None),
        None => (0..names.type_count()).filter_map(|at| u32::try_from(at).ok()).map(TypeNum).collect(),
    };
    let mut relations: Vec<MemberNum> = match &filter.relation {
        Some(relation) => types.iter().filter_map(|of| names.member_number(*of, relation.as_str())).collect(),
        None => types.iter().flat_map(|of| names.members_of(*of)).collect(),
    };
    relations.sort_unstable();
    (!relations.is_empty()).then_some(Some(relations))
}

impl SubjectTest {
    fn new(
        filter: &SubjectFilter,
        names: &Names,
        number: &impl Fn(TypeNum, &str) -> Result<Option<ObjectNum>, Error>,
    ) -> Result<Option<SubjectTest>, Error> {
        let Some(of) = names.type_number(filter.subject_type.as_str()) else { return Ok(None) };
        let itself = names.itself(of);
        let members = match &filter.relation {
            SubjectRelationFilter::Any => names.members_of(of),
            SubjectRelationFilter::Plain => itself.into_iter().collect(),
            SubjectRelationFilter::Relation(name) => names.member_number(of, name.as_str()).into_iter().collect(),
        };
        if members.is_empty() {
            return Ok(None);
        }
        let test = match &filter.id {
            None => SubjectTest { members, wildcard: true, others: true, object: None },
            Some(SubjectIdFilter::Wildcard) => SubjectTest { members, wildcard: true, others: false, object: None },
            Some(SubjectIdFilter::Id(id)) => {
                let Some(found) = number(of, id.as_str())? else { return Ok(None) };
                SubjectTest { members, wildcard: false, others: true, object: Some(found) }
            }
        };
        Ok(Some(test))
    }

    /// Prefixes of `rev` when the subject is one object, or the wildcard.
    fn postings(&self) -> Option<Vec<Vec<u8>>> {
        let number = match (self.object, self.others) {
            (Some(object), _) => object,
            (None, false) => ObjectNum(0),
            (None, true) => return None,
        };
        Some(self.members.iter().map(|member| forward_prefix(*member, Some(number))).collect())
    }

    fn matches(&self, key: &RowKey) -> bool {
        let subject = &key.subject;
        let of_kind = if subject.kind == SubjectKind::Wildcard { self.wildcard } else { self.others };
        of_kind
            && self.members.binary_search(&subject.member).is_ok()
            && self.object.is_none_or(|object| object == subject.object)
    }
}
