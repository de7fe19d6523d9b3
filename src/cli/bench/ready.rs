//! A world's texts as what is asked: parsed once, before anything is measured.

use super::worlds::{Asked, Deputy, Listing};
use crate::engine::AskedItem;
use crate::model::{
    Acting, AskedPermissions, Context, Decision, DelegationId, ObjectRef, Question, RelationName, RelationTuple,
    SubjectRef, TypeName,
};
use std::collections::{HashMap, HashSet};
use std::str::FromStr;

/// The delegations that were made, by the world's own names.
pub type Ids = HashMap<String, DelegationId>;

/// A question with its circumstances, and what must be answered.
#[derive(Clone, Debug)]
pub struct Ready {
    pub question: Question,
    pub context: Context,
    pub acting: Acting,
    pub expected: Decision,
}

/// A list with its circumstances, and what must stand in it.
#[derive(Clone, Debug)]
pub struct ReadyList {
    pub object_type: TypeName,
    pub permission: RelationName,
    pub subject: SubjectRef,
    pub acting: Acting,
    pub expected: Option<HashSet<ObjectRef>>,
}

/// A text of a world as a value. A world gives none that is not one, which its tests see to.
///
/// # Errors
/// The text, and what is wrong with it.
pub fn parsed<T: FromStr>(text: &str) -> Result<T, String>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| format!("`{text}`: {error}"))
}

fn acting(via: Option<&str>, ids: &Ids) -> Result<Acting, String> {
    match via {
        None => Ok(Acting::default()),
        Some(name) => {
            let id = ids.get(name).ok_or_else(|| format!("there is no delegation `{name}`"))?;
            Ok(Acting::via(*id))
        }
    }
}

impl Asked {
    /// Ready to be asked.
    ///
    /// # Errors
    /// A text that is wrong, or a delegation that was not made.
    pub fn ready(&self, ids: &Ids) -> Result<Ready, String> {
        let Asked { object, permission, subject, via, context, expected } = self;
        let question = Question { object: parsed(object)?, permission: parsed(permission)?, subject: parsed(subject)? };
        let context = match context {
            None => Context::new(),
            Some(text) => serde_json::from_str(text).map_err(|error| format!("`{text}`: {error}"))?,
        };
        Ok(Ready { question, context, acting: acting(via.as_deref(), ids)?, expected: *expected })
    }
}

impl Listing {
    /// Ready to be asked.
    ///
    /// # Errors
    /// As [`Asked::ready`].
    pub fn ready(&self, ids: &Ids) -> Result<ReadyList, String> {
        let Listing { object_type, permission, subject, via, expected } = self;
        let objects = |all: &Vec<String>| all.iter().map(|object| parsed(object)).collect::<Result<_, String>>();
        Ok(ReadyList {
            object_type: parsed(object_type)?,
            permission: parsed(permission)?,
            subject: parsed(subject)?,
            acting: acting(via.as_deref(), ids)?,
            expected: expected.as_ref().map(objects).transpose()?,
        })
    }
}

/// Whoever delegates, to whom, and what.
#[derive(Clone, Debug)]
pub struct ReadyDeputy {
    pub parent: Option<DelegationId>,
    pub from: ObjectRef,
    pub to: SubjectRef,
    pub item: AskedItem,
}

impl Deputy {
    /// Ready to be made.
    ///
    /// # Errors
    /// As [`Asked::ready`].
    pub fn ready(&self, ids: &Ids) -> Result<ReadyDeputy, String> {
        let Deputy { name: _, parent, from, to, permissions, within, redelegate: _ } = self;
        let parent = parent.as_deref().map(|name| {
            let id = ids.get(name).copied();
            id.ok_or_else(|| format!("there is no delegation `{name}`"))
        });
        let names = permissions.iter().map(|name| parsed(name)).collect::<Result<_, String>>()?;
        let item =
            AskedItem { permissions: AskedPermissions::Named(names), within: vec![parsed(within)?], caveat: None };
        Ok(ReadyDeputy { parent: parent.transpose()?, from: parsed(from)?, to: parsed(to)?, item })
    }
}

/// A line of tuples as a tuple.
///
/// # Errors
/// As [`parsed`].
pub fn tuple(text: &str) -> Result<RelationTuple, String> {
    parsed(text)
}
