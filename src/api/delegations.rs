//! `DelegationService`: delegations made, narrowed, revoked and shown; principals suspended and reinstated.

use super::convert_delegation;
use super::desk::{Desk, Lane};
use super::wire::{self, delegation_service_server::DelegationService};
use crate::engine::{
    ChangedDelegation, CreatedDelegation, DelegationRead, DelegationWarning, DelegationsPage, ImportedDelegations,
    RevokedAll, SuspendedPage, SuspensionChanged,
};
use std::sync::Arc;
use tonic::{Request, Response, Status};

pub(super) struct Delegations(pub(super) Arc<Desk>);

#[tonic::async_trait]
impl DelegationService for Delegations {
    async fn create_delegation(
        &self,
        request: Request<wire::CreateDelegationRequest>,
    ) -> Result<Response<wire::CreateDelegationResponse>, Status> {
        let limits = self.0.limits().clone();
        let created = self.0.run(Lane::Write, move |engine, cancel| {
            let asked = convert_delegation::creation(request.into_inner(), &limits)?;
            let CreatedDelegation { delegation, warnings, revision } = engine.create_delegation(asked, cancel)?;
            Ok(wire::CreateDelegationResponse {
                delegation: Some((&*delegation).into()),
                warnings: warnings.into_iter().map(to_warning).collect(),
                created_at: Some(engine.token(revision).into()),
            })
        });
        Ok(Response::new(created.await?))
    }

    async fn narrow_delegation(
        &self,
        request: Request<wire::NarrowDelegationRequest>,
    ) -> Result<Response<wire::NarrowDelegationResponse>, Status> {
        let limits = self.0.limits().clone();
        let narrowed = self.0.run(Lane::Write, move |engine, _| {
            let asked = convert_delegation::narrowing(request.into_inner(), &limits)?;
            let ChangedDelegation { delegation, revision } = engine.narrow_delegation(asked)?;
            Ok(wire::NarrowDelegationResponse {
                delegation: Some((&*delegation).into()),
                narrowed_at: Some(engine.token(revision).into()),
            })
        });
        Ok(Response::new(narrowed.await?))
    }

    async fn revoke_delegation(
        &self,
        request: Request<wire::RevokeDelegationRequest>,
    ) -> Result<Response<wire::RevokeDelegationResponse>, Status> {
        let limits = self.0.limits().clone();
        let revoked = self.0.run(Lane::Write, move |engine, _| {
            let asked = convert_delegation::revocation(request.into_inner(), &limits)?;
            let ChangedDelegation { delegation, revision } = engine.revoke_delegation(asked)?;
            Ok(wire::RevokeDelegationResponse {
                delegation: Some((&*delegation).into()),
                revoked_at: Some(engine.token(revision).into()),
            })
        });
        Ok(Response::new(revoked.await?))
    }

    async fn revoke_all_for(
        &self,
        request: Request<wire::RevokeAllForRequest>,
    ) -> Result<Response<wire::RevokeAllForResponse>, Status> {
        let limits = self.0.limits().clone();
        let revoked = self.0.run(Lane::Write, move |engine, _| {
            let asked = convert_delegation::revocation_of_all(request.into_inner(), &limits)?;
            let RevokedAll { count, revision } = engine.revoke_all_for(asked)?;
            Ok(wire::RevokeAllForResponse { revoked_count: count, revoked_at: Some(engine.token(revision).into()) })
        });
        Ok(Response::new(revoked.await?))
    }

    async fn get_delegation(
        &self,
        request: Request<wire::GetDelegationRequest>,
    ) -> Result<Response<wire::GetDelegationResponse>, Status> {
        let asked = convert_delegation::reading(request.into_inner())?;
        let read = self.0.run(Lane::Read, move |engine, cancel| {
            let DelegationRead { chain, dangling, revision, historical } = engine.get_delegation(asked, cancel)?;
            Ok(wire::GetDelegationResponse {
                chain: chain.iter().map(Into::into).collect(),
                dangling: dangling.iter().map(Into::into).collect(),
                read_at: Some(engine.token(revision).into()),
                historical,
            })
        });
        Ok(Response::new(read.await?))
    }

    async fn list_delegations(
        &self,
        request: Request<wire::ListDelegationsRequest>,
    ) -> Result<Response<wire::ListDelegationsResponse>, Status> {
        let asked = convert_delegation::listing(request.into_inner())?;
        let listed = self.0.run(Lane::Read, move |engine, cancel| {
            let DelegationsPage { delegations, next_cursor, revision } = engine.list_delegations(asked, cancel)?;
            Ok(wire::ListDelegationsResponse {
                delegations: delegations.iter().map(Into::into).collect(),
                next_cursor: next_cursor.unwrap_or_default(),
                read_at: Some(engine.token(revision).into()),
            })
        });
        Ok(Response::new(listed.await?))
    }

    async fn import_delegations(
        &self,
        request: Request<wire::ImportDelegationsRequest>,
    ) -> Result<Response<wire::ImportDelegationsResponse>, Status> {
        let limits = self.0.limits().clone();
        let imported = self.0.run(Lane::Write, move |engine, _| {
            let given = convert_delegation::importing(request.into_inner(), &limits)?;
            let ImportedDelegations { created, unchanged, revision } = engine.import_delegations(given)?;
            Ok(wire::ImportDelegationsResponse {
                created_count: created,
                unchanged_count: unchanged,
                imported_at: Some(engine.token(revision).into()),
            })
        });
        Ok(Response::new(imported.await?))
    }

    async fn suspend_principal(
        &self,
        request: Request<wire::SuspendPrincipalRequest>,
    ) -> Result<Response<wire::SuspendPrincipalResponse>, Status> {
        let limits = self.0.limits().clone();
        let suspended = self.0.run(Lane::Write, move |engine, _| {
            let asked = convert_delegation::suspending(request.into_inner(), &limits)?;
            let SuspensionChanged { changed, revision } = engine.suspend_principal(asked)?;
            Ok(wire::SuspendPrincipalResponse { changed, suspended_at: Some(engine.token(revision).into()) })
        });
        Ok(Response::new(suspended.await?))
    }

    async fn reinstate_principal(
        &self,
        request: Request<wire::ReinstatePrincipalRequest>,
    ) -> Result<Response<wire::ReinstatePrincipalResponse>, Status> {
        let limits = self.0.limits().clone();
        let reinstated = self.0.run(Lane::Write, move |engine, _| {
            let asked = convert_delegation::reinstating(request.into_inner(), &limits)?;
            let SuspensionChanged { changed, revision } = engine.reinstate_principal(asked)?;
            Ok(wire::ReinstatePrincipalResponse { changed, reinstated_at: Some(engine.token(revision).into()) })
        });
        Ok(Response::new(reinstated.await?))
    }

    async fn list_suspended(
        &self,
        request: Request<wire::ListSuspendedRequest>,
    ) -> Result<Response<wire::ListSuspendedResponse>, Status> {
        let asked = convert_delegation::listing_suspended(request.into_inner())?;
        let listed = self.0.run(Lane::Read, move |engine, _| {
            let SuspendedPage { suspensions, next_cursor, revision } = engine.list_suspended(asked)?;
            Ok(wire::ListSuspendedResponse {
                suspensions: suspensions.iter().map(Into::into).collect(),
                next_cursor: next_cursor.unwrap_or_default(),
                read_at: Some(engine.token(revision).into()),
            })
        });
        Ok(Response::new(listed.await?))
    }
}

fn to_warning(warning: DelegationWarning) -> wire::DelegationWarning {
    let DelegationWarning { kind, field, message, hint } = warning;
    wire::DelegationWarning { kind: kind.as_str().to_owned(), field, message, hint: hint.to_owned() }
}
