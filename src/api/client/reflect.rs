//! What leans on what in the server's schema.

use super::{At, Client, ClientError};
use crate::api::convert::{self, Place};
use crate::api::wire;
use crate::engine::MemberRef;
use crate::model::{RelationName, TypeName};

/// What the schema says, in its own order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reflected {
    pub members: Vec<MemberRef>,
    pub token: String,
}

impl Client {
    /// The permissions whose answer a change of any of these relations can change.
    ///
    /// # Errors
    /// As [`Client::check`]; FAILED_PRECONDITION for a name that the schema lacks.
    pub fn computable_permissions(
        &self,
        relations: &[(TypeName, RelationName)],
        at: &At,
    ) -> Result<Reflected, ClientError> {
        let relations = relations.iter().map(to_name).collect();
        let request = wire::ComputablePermissionsRequest { consistency: at.to_wire(), relations };
        let mut service = self.schemas();
        let wire::ComputablePermissionsResponse { permissions, read_at } =
            self.call(async { service.computable_permissions(request).await })?;
        reflected(convert::field("permissions"), permissions, read_at)
    }

    /// The relations and permissions that a permission is made of.
    ///
    /// # Errors
    /// As [`Client::computable_permissions`]; also for a relation, which is made of none.
    pub fn dependent_relations(
        &self,
        permission: &(TypeName, RelationName),
        at: &At,
    ) -> Result<Reflected, ClientError> {
        let permission = Some(to_name(permission));
        let request = wire::DependentRelationsRequest { consistency: at.to_wire(), permission };
        let mut service = self.schemas();
        let wire::DependentRelationsResponse { members, read_at } =
            self.call(async { service.dependent_relations(request).await })?;
        reflected(convert::field("members"), members, read_at)
    }
}

fn to_name((definition, name): &(TypeName, RelationName)) -> wire::SchemaMemberName {
    wire::SchemaMemberName { definition: definition.to_string(), name: name.to_string() }
}

fn reflected(
    place: Place<'_>,
    members: Vec<wire::SchemaMember>,
    read_at: Option<wire::ConsistencyToken>,
) -> Result<Reflected, ClientError> {
    let members = members.into_iter().map(|member| convert::member_ref(place, member)).collect::<Result<_, _>>()?;
    Ok(Reflected { members, token: convert::token_text(convert::field("read_at"), read_at)? })
}
