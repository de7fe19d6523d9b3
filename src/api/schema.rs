//! `SchemaService`: WriteSchema, ReadSchema, ComputablePermissions and DependentRelations.

use super::convert;
use super::desk::{Desk, Lane};
use super::wire::{self, schema_service_server::SchemaService};
use crate::engine::{Impact, ReflectSchema, Reflected, Reflection, SchemaRead, SchemaWritten, WriteSchema};
use std::sync::Arc;
use tonic::{Request, Response, Status};

pub(super) struct Schemas(pub(super) Arc<Desk>);

#[tonic::async_trait]
impl SchemaService for Schemas {
    async fn write_schema(
        &self,
        request: Request<wire::WriteSchemaRequest>,
    ) -> Result<Response<wire::WriteSchemaResponse>, Status> {
        let limits = self.0.limits().clone();
        let written = self.0.run(Lane::Write, move |engine, _| {
            let wire::WriteSchemaRequest { schema, expected_digest, dry_run, metadata } = request.into_inner();
            let written = engine.write_schema(WriteSchema {
                text: convert::schema_text(schema, &limits)?,
                expected_digest: convert::not_empty("expected_digest", expected_digest)?,
                dry_run,
                metadata: convert::metadata(metadata, &limits)?,
            })?;
            let SchemaWritten { revision, digest, changes, impact, warnings } = written;
            Ok(wire::WriteSchemaResponse {
                written_at: Some(engine.token(revision).into()),
                digest,
                changes,
                impact: impact.into_iter().map(to_impact).collect(),
                warnings: warnings.iter().map(Into::into).collect(),
            })
        });
        Ok(Response::new(written.await?))
    }

    async fn read_schema(
        &self,
        request: Request<wire::ReadSchemaRequest>,
    ) -> Result<Response<wire::ReadSchemaResponse>, Status> {
        let wire::ReadSchemaRequest { consistency } = request.into_inner();
        let consistency = convert::consistency(consistency)?;
        let read = self.0.run(Lane::Read, move |engine, _| {
            let SchemaRead { text, digest, revision } = engine.read_schema(consistency)?;
            Ok(wire::ReadSchemaResponse { schema: text, digest, read_at: Some(engine.token(revision).into()) })
        });
        Ok(Response::new(read.await?))
    }

    async fn computable_permissions(
        &self,
        request: Request<wire::ComputablePermissionsRequest>,
    ) -> Result<Response<wire::ComputablePermissionsResponse>, Status> {
        let wire::ComputablePermissionsRequest { consistency, relations } = request.into_inner();
        let question = Reflection::ComputablePermissions(convert::schema_members(relations)?);
        let asked = ReflectSchema { question, consistency: convert::consistency(consistency)? };
        let reflected = self.0.run(Lane::Read, move |engine, _| {
            let Reflected { members, revision } = engine.reflect_schema(asked)?;
            let permissions = members.into_iter().map(Into::into).collect();
            Ok(wire::ComputablePermissionsResponse { permissions, read_at: Some(engine.token(revision).into()) })
        });
        Ok(Response::new(reflected.await?))
    }

    async fn dependent_relations(
        &self,
        request: Request<wire::DependentRelationsRequest>,
    ) -> Result<Response<wire::DependentRelationsResponse>, Status> {
        let wire::DependentRelationsRequest { consistency, permission } = request.into_inner();
        let (definition, name) = convert::schema_member(convert::field("permission"), permission)?;
        let question = Reflection::DependentRelations(definition, name);
        let asked = ReflectSchema { question, consistency: convert::consistency(consistency)? };
        let reflected = self.0.run(Lane::Read, move |engine, _| {
            let Reflected { members, revision } = engine.reflect_schema(asked)?;
            let members = members.into_iter().map(Into::into).collect();
            Ok(wire::DependentRelationsResponse { members, read_at: Some(engine.token(revision).into()) })
        });
        Ok(Response::new(reflected.await?))
    }
}

fn to_impact(impact: Impact) -> wire::SchemaImpact {
    let Impact { relation, form, count, sample } = impact;
    wire::SchemaImpact { relation, form, count, sample: sample.as_ref().map(Into::into) }
}
