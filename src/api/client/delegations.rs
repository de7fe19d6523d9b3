//! Delegations and suspensions over the wire.

use super::{At, Client, ClientError, notes, reply_bytes_max};
use crate::api::wire::delegation_service_client::DelegationServiceClient;
use crate::api::{convert, convert_delegation, wire};
use crate::engine::{AskedItem, DelegationEnd, DelegationSeen, Metadata};
use crate::model::{
    Delegation, DelegationId, DelegationState, ObjectRef, Precondition, SubjectRef, Suspension, Timestamp,
};
use std::time::Duration;
use tonic::transport::Channel;

/// What is to be delegated, by whom, to whom, for how long.
#[derive(Clone, Debug)]
pub struct NewDelegation {
    pub delegator: ObjectRef,
    pub delegate: SubjectRef,
    pub items: Vec<AskedItem>,
    /// The delegation by which the delegator itself acts for another.
    pub parent: Option<DelegationId>,
    pub not_before: Option<Timestamp>,
    pub end: DelegationEnd,
    pub redelegate: u32,
    pub purpose: String,
    /// Whether what is over-broad is refused rather than warned of.
    pub strict: bool,
    pub idempotency_key: Option<String>,
    pub preconditions: Vec<Precondition>,
    pub metadata: Metadata,
    /// Only for a server with `--test-clock`.
    pub clock: Option<Timestamp>,
}

impl NewDelegation {
    /// Of these items until that end, and nothing else said.
    #[must_use]
    pub fn of(delegator: ObjectRef, delegate: SubjectRef, items: Vec<AskedItem>, end: DelegationEnd) -> NewDelegation {
        NewDelegation {
            delegator,
            delegate,
            items,
            parent: None,
            not_before: None,
            end,
            redelegate: 0,
            purpose: String::new(),
            strict: false,
            idempotency_key: None,
            preconditions: Vec::new(),
            metadata: Metadata::new(),
            clock: None,
        }
    }
}

/// A delegation that is made.
#[derive(Clone, Debug, PartialEq)]
pub struct DelegationCreated {
    pub delegation: Delegation,
    pub warnings: Vec<WarningSaid>,
    pub token: String,
}

/// A warning, as the server worded it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarningSaid {
    /// `WIDER_THAN_PARENT` and its like.
    pub kind: String,
    pub field: String,
    pub message: String,
    pub hint: String,
}

/// What is said with a change beside what it changes.
#[derive(Clone, Debug, Default)]
pub struct Saying {
    /// Of a revocation or suspension; kept with it.
    pub reason: String,
    pub preconditions: Vec<Precondition>,
    pub metadata: Metadata,
}

/// A delegation as it is after a change.
#[derive(Clone, Debug, PartialEq)]
pub struct DelegationChanged {
    pub delegation: Delegation,
    pub token: String,
}

/// A change that may have changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuspensionChanged {
    /// Whether it was otherwise before.
    pub changed: bool,
    pub token: String,
}

/// What an import came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelegationsImported {
    pub created: u64,
    /// There already, just so.
    pub unchanged: u64,
    pub token: String,
}

/// A delegation with all above it.
#[derive(Clone, Debug, PartialEq)]
pub struct DelegationRead {
    /// Root first; the last is the one asked for.
    pub chain: Vec<DelegationSeen>,
    /// Its anchors that no live tuple mentions.
    pub dangling: Vec<ObjectRef>,
    pub token: String,
    pub historical: bool,
}

/// Which delegations: those that match all that is given.
#[derive(Clone, Debug, Default)]
pub struct DelegationsOf {
    pub root: Option<ObjectRef>,
    /// As written: a group is not its members.
    pub delegate: Option<SubjectRef>,
    pub delegator: Option<ObjectRef>,
    pub anchor: Option<ObjectRef>,
    /// Right under it.
    pub parent: Option<DelegationId>,
    pub state: Option<DelegationState>,
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    pub rows: Vec<T>,
    /// Where the next page begins; `None` at the end.
    pub next_cursor: Option<String>,
    pub token: String,
}

/// Which page, of which state.
#[derive(Clone, Debug, Default)]
pub struct PageAt {
    pub at: At,
    /// 1 to 1,000; the server's own otherwise.
    pub size: Option<u32>,
    pub cursor: Option<String>,
    /// Only for a server with `--test-clock`.
    pub clock: Option<Timestamp>,
}

impl Client {
    /// Makes a delegation.
    ///
    /// # Errors
    /// As [`Client::write_tuples`]; a refusal by the law has its own reason, such as `NO_BUDGET`.
    pub fn create_delegation(&self, new: &NewDelegation) -> Result<DelegationCreated, ClientError> {
        use wire::create_delegation_request::End;
        let NewDelegation {
            delegator,
            delegate,
            items,
            parent,
            not_before,
            end,
            redelegate,
            purpose,
            strict,
            idempotency_key,
            preconditions,
            metadata,
            clock,
        } = new;
        let end = match end {
            DelegationEnd::At(at) => End::ExpiresAt(convert::to_timestamp(*at)),
            DelegationEnd::After(duration) => End::ExpiresAfter(to_duration(*duration)),
        };
        let request = wire::CreateDelegationRequest {
            delegator: Some(delegator.into()),
            delegate: Some(delegate.into()),
            items: items.iter().map(Into::into).collect(),
            parent: parent.map(|id| id.to_string()),
            not_before: not_before.map(convert::to_timestamp),
            end: Some(end),
            redelegate: *redelegate,
            purpose: purpose.clone(),
            strict: *strict,
            idempotency_key: idempotency_key.clone(),
            preconditions: preconditions.iter().map(Into::into).collect(),
            metadata: notes(metadata),
            clock: clock.map(convert::to_timestamp),
        };
        let mut service = self.delegations();
        let wire::CreateDelegationResponse { delegation, warnings, created_at } =
            self.call(async { service.create_delegation(request).await })?;
        let from_warning = |warning: wire::DelegationWarning| {
            let wire::DelegationWarning { kind, field, message, hint } = warning;
            WarningSaid { kind, field, message, hint }
        };
        Ok(DelegationCreated {
            delegation: convert_delegation::delegation(convert::field("delegation"), delegation)?,
            warnings: warnings.into_iter().map(from_warning).collect(),
            token: convert::token_text(convert::field("created_at"), created_at)?,
        })
    }

    /// Adds a clause of these items, if there are any, and perhaps an earlier end.
    ///
    /// # Errors
    /// As [`Client::create_delegation`]; NOT_FOUND when there is none of that id.
    pub fn narrow_delegation(
        &self,
        id: &DelegationId,
        items: &[AskedItem],
        expires_at: Option<Timestamp>,
        saying: &Saying,
    ) -> Result<DelegationChanged, ClientError> {
        let Saying { reason: _, preconditions, metadata } = saying;
        let request = wire::NarrowDelegationRequest {
            id: id.to_string(),
            items: items.iter().map(Into::into).collect(),
            expires_at: expires_at.map(convert::to_timestamp),
            preconditions: preconditions.iter().map(Into::into).collect(),
            metadata: notes(metadata),
        };
        let mut service = self.delegations();
        let wire::NarrowDelegationResponse { delegation, narrowed_at } =
            self.call(async { service.narrow_delegation(request).await })?;
        changed(delegation, "narrowed_at", narrowed_at)
    }

    /// Revokes a delegation, for ever.
    ///
    /// # Errors
    /// As [`Client::write_tuples`]; NOT_FOUND when there is none of that id.
    pub fn revoke_delegation(&self, id: &DelegationId, saying: &Saying) -> Result<DelegationChanged, ClientError> {
        let Saying { reason, preconditions, metadata } = saying;
        let request = wire::RevokeDelegationRequest {
            id: id.to_string(),
            reason: reason.clone(),
            preconditions: preconditions.iter().map(Into::into).collect(),
            metadata: notes(metadata),
        };
        let mut service = self.delegations();
        let wire::RevokeDelegationResponse { delegation, revoked_at } =
            self.call(async { service.revoke_delegation(request).await })?;
        changed(delegation, "revoked_at", revoked_at)
    }

    /// Revokes every delegation that names the principal as delegator or delegate; how many that were.
    ///
    /// # Errors
    /// As [`Client::write_tuples`].
    pub fn revoke_all_for(&self, principal: &SubjectRef, saying: &Saying) -> Result<(u64, String), ClientError> {
        let Saying { reason, preconditions, metadata } = saying;
        let request = wire::RevokeAllForRequest {
            principal: Some(principal.into()),
            reason: reason.clone(),
            preconditions: preconditions.iter().map(Into::into).collect(),
            metadata: notes(metadata),
        };
        let mut service = self.delegations();
        let wire::RevokeAllForResponse { revoked_count, revoked_at } =
            self.call(async { service.revoke_all_for(request).await })?;
        Ok((revoked_count, convert::token_text(convert::field("revoked_at"), revoked_at)?))
    }

    /// A delegation with the whole chain above it. `clock` is only for a server with `--test-clock`.
    ///
    /// # Errors
    /// As [`Client::check`]; NOT_FOUND when there is none of that id.
    pub fn get_delegation(
        &self,
        id: &DelegationId,
        at: &At,
        clock: Option<Timestamp>,
    ) -> Result<DelegationRead, ClientError> {
        let request = wire::GetDelegationRequest {
            consistency: at.to_wire(),
            id: id.to_string(),
            clock: clock.map(convert::to_timestamp),
        };
        let mut service = self.delegations();
        let wire::GetDelegationResponse { chain, dangling, read_at, historical } =
            self.call(async { service.get_delegation(request).await })?;
        let (chain_at, dangling_at) = (convert::field("chain"), convert::field("dangling"));
        let chain = chain.into_iter().map(|seen| convert_delegation::seen(chain_at, seen));
        let dangling = dangling.into_iter().map(|anchor| convert::object(dangling_at, Some(anchor)));
        Ok(DelegationRead {
            chain: chain.collect::<Result<_, _>>()?,
            dangling: dangling.collect::<Result<_, _>>()?,
            token: convert::token_text(convert::field("read_at"), read_at)?,
            historical,
        })
    }

    /// One page of the delegations that match, in the order of creation.
    ///
    /// # Errors
    /// As [`Client::check`].
    pub fn list_delegations(&self, of: &DelegationsOf, page: &PageAt) -> Result<Page<DelegationSeen>, ClientError> {
        let DelegationsOf { root, delegate, delegator, anchor, parent, state } = of;
        let PageAt { at, size, cursor, clock } = page;
        let request = wire::ListDelegationsRequest {
            consistency: at.to_wire(),
            root: root.as_ref().map(Into::into),
            delegate: delegate.as_ref().map(Into::into),
            delegator: delegator.as_ref().map(Into::into),
            anchor: anchor.as_ref().map(Into::into),
            parent: parent.map(|id| id.to_string()),
            state: state.map(|state| convert_delegation::to_state(state).into()),
            page_size: *size,
            cursor: cursor.clone(),
            clock: clock.map(convert::to_timestamp),
        };
        let mut service = self.delegations();
        let wire::ListDelegationsResponse { delegations, next_cursor, read_at } =
            self.call(async { service.list_delegations(request).await })?;
        let place = convert::field("delegations");
        let rows = delegations.into_iter().map(|seen| convert_delegation::seen(place, seen));
        Ok(Page {
            rows: rows.collect::<Result<_, _>>()?,
            next_cursor: Some(next_cursor).filter(|cursor| !cursor.is_empty()),
            token: convert::token_text(convert::field("read_at"), read_at)?,
        })
    }

    /// Takes delegations of another database as they are, a parent before what is below it: all, or none.
    ///
    /// # Errors
    /// As [`Client::write_tuples`]; ALREADY_EXISTS when another has the id of one.
    pub fn import_delegations(
        &self,
        delegations: &[Delegation],
        metadata: &Metadata,
    ) -> Result<DelegationsImported, ClientError> {
        let request = wire::ImportDelegationsRequest {
            delegations: delegations.iter().map(Into::into).collect(),
            metadata: notes(metadata),
        };
        let mut service = self.delegations();
        let wire::ImportDelegationsResponse { created_count, unchanged_count, imported_at } =
            self.call(async { service.import_delegations(request).await })?;
        Ok(DelegationsImported {
            created: created_count,
            unchanged: unchanged_count,
            token: convert::token_text(convert::field("imported_at"), imported_at)?,
        })
    }

    /// Denies a principal from now on, in whatever part.
    ///
    /// # Errors
    /// As [`Client::write_tuples`].
    pub fn suspend_principal(&self, principal: &ObjectRef, saying: &Saying) -> Result<SuspensionChanged, ClientError> {
        let Saying { reason, preconditions, metadata } = saying;
        let request = wire::SuspendPrincipalRequest {
            principal: Some(principal.into()),
            reason: reason.clone(),
            preconditions: preconditions.iter().map(Into::into).collect(),
            metadata: notes(metadata),
        };
        let mut service = self.delegations();
        let wire::SuspendPrincipalResponse { changed, suspended_at } =
            self.call(async { service.suspend_principal(request).await })?;
        Ok(SuspensionChanged { changed, token: convert::token_text(convert::field("suspended_at"), suspended_at)? })
    }

    /// Ends a suspension.
    ///
    /// # Errors
    /// As [`Client::write_tuples`].
    pub fn reinstate_principal(
        &self,
        principal: &ObjectRef,
        saying: &Saying,
    ) -> Result<SuspensionChanged, ClientError> {
        let Saying { reason: _, preconditions, metadata } = saying;
        let request = wire::ReinstatePrincipalRequest {
            principal: Some(principal.into()),
            preconditions: preconditions.iter().map(Into::into).collect(),
            metadata: notes(metadata),
        };
        let mut service = self.delegations();
        let wire::ReinstatePrincipalResponse { changed, reinstated_at } =
            self.call(async { service.reinstate_principal(request).await })?;
        Ok(SuspensionChanged { changed, token: convert::token_text(convert::field("reinstated_at"), reinstated_at)? })
    }

    /// One page of who is suspended, in the order of the principals' text. A clock changes nothing of it.
    ///
    /// # Errors
    /// As [`Client::check`].
    pub fn list_suspended(&self, page: &PageAt) -> Result<Page<Suspension>, ClientError> {
        let PageAt { at, size, cursor, clock: _ } = page;
        let request =
            wire::ListSuspendedRequest { consistency: at.to_wire(), page_size: *size, cursor: cursor.clone() };
        let mut service = self.delegations();
        let wire::ListSuspendedResponse { suspensions, next_cursor, read_at } =
            self.call(async { service.list_suspended(request).await })?;
        let place = convert::field("suspensions");
        let rows = suspensions.into_iter().map(|one| convert_delegation::suspension(place, one));
        Ok(Page {
            rows: rows.collect::<Result<_, _>>()?,
            next_cursor: Some(next_cursor).filter(|cursor| !cursor.is_empty()),
            token: convert::token_text(convert::field("read_at"), read_at)?,
        })
    }

    fn delegations(&self) -> DelegationServiceClient<Channel> {
        DelegationServiceClient::new(self.channel.clone()).max_decoding_message_size(reply_bytes_max())
    }
}

fn changed(
    delegation: Option<wire::Delegation>,
    field: &'static str,
    token: Option<wire::ConsistencyToken>,
) -> Result<DelegationChanged, ClientError> {
    Ok(DelegationChanged {
        delegation: convert_delegation::delegation(convert::field("delegation"), delegation)?,
        token: convert::token_text(convert::field(field), token)?,
    })
}

fn to_duration(duration: Duration) -> prost_types::Duration {
    // Longer than there is time is as long as there is; nanoseconds are below 1,000,000,000, so they fit.
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    prost_types::Duration { seconds, nanos: duration.subsec_nanos().cast_signed() }
}
