//! `ServerService`: what this server is.

use super::desk::{Desk, Lane};
use super::wire::{self, server_service_server::ServerService};
use crate::engine::Info;
use crate::model::Limit;
use std::sync::Arc;
use tonic::{Request, Response, Status};

pub(super) struct Servers(pub(super) Arc<Desk>);

#[tonic::async_trait]
impl ServerService for Servers {
    async fn server_info(
        &self,
        request: Request<wire::ServerInfoRequest>,
    ) -> Result<Response<wire::ServerInfoResponse>, Status> {
        let wire::ServerInfoRequest {} = request.into_inner();
        let told = self.0.run(Lane::Read, |engine, _| {
            let Info { version, revision, schema_digest, database, limits, writes_stopped } = engine.info()?;
            Ok(wire::ServerInfoResponse {
                version: version.to_owned(),
                revision: Some(engine.token(revision).into()),
                schema_digest,
                limits: limits.entries().into_iter().map(to_limit).collect(),
                database,
                writes_stopped,
            })
        });
        Ok(Response::new(told.await?))
    }
}

fn to_limit((limit, value): (&Limit, u64)) -> wire::Limit {
    let Limit { name, default: _, unit, reason } = limit;
    wire::Limit { name: (*name).to_owned(), value, unit: (*unit).to_owned(), reason: (*reason).to_owned() }
}
