//! ComputablePermissions and DependentRelations: who leans on whom in the schema at a revision.

use super::resolve::refused;
use super::schemas::no_schema;
use super::{Engine, Error};
use crate::model::{Consistency, RelationName, Revision, TypeName};
use crate::schema::{MemberRef, Refusal};

/// What is asked of a schema.
#[derive(Debug, Clone)]
pub struct ReflectSchema {
    pub question: Reflection,
    pub consistency: Consistency,
}

/// In which direction is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reflection {
    /// The permissions whose answer a change of any of these, at least one, can change.
    ComputablePermissions(Vec<(TypeName, RelationName)>),
    /// The relations and permissions that a permission is made of.
    DependentRelations(TypeName, RelationName),
}

/// What the schema says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reflected {
    /// In source order, without what was asked about.
    pub members: Vec<MemberRef>,
    pub revision: Revision,
}

impl Engine {
    /// Answers from the schema alone: no tuple is looked at.
    pub fn reflect_schema(&self, request: ReflectSchema) -> Result<Reflected, Error> {
        let pinned = self.pin(&request.consistency)?;
        let in_force = self.schemas.of(&self.store, &pinned.snapshot, &self.limits)?.ok_or_else(no_schema)?;
        let schema = &in_force.schema;
        let members = match &request.question {
            Reflection::ComputablePermissions(relations) => {
                if relations.is_empty() {
                    return Err(Error::invalid("relations", "", "name at least one relation"));
                }
                let known = schema.computable_permissions(relations);
                known.map_err(|found| {
                    let (index, refusal) = *found;
                    refused(&refusal, part(&format!("relations[{index}]"), &refusal))
                })?
            }
            Reflection::DependentRelations(of, permission) => {
                let known = schema.dependent_relations(of, permission);
                known.map_err(|refusal| refused(&refusal, part("permission", &refusal)))?
            }
        };
        Ok(Reflected { members, revision: pinned.snapshot.revision() })
    }
}

/// Which part of a member's name is refused.
fn part(place: &str, refusal: &Refusal) -> String {
    let is_type = matches!(refusal, Refusal::UnknownType { .. });
    format!("{place}.{}", if is_type { "definition" } else { "name" })
}
