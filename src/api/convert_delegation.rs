//! Wire ↔ model of delegations and suspensions, under the same rules as `convert`.

use super::convert::{
    Place, Refusal, field, instant, json_object, metadata, not_empty, object, preconditions, relation_name, subject,
    timestamp, to_caveat, to_struct, to_timestamp, tuple_caveat, type_name, unknown_enum,
};
use super::{convert, wire};
use crate::engine::{
    AskedItem, CreateDelegation, DelegationEnd, DelegationSeen, GetDelegation, ImportDelegations, ListDelegations,
    ListSuspended, Metadata, NarrowDelegation, ReinstatePrincipal, RevokeAllFor, RevokeDelegation, SuspendPrincipal,
    WatchChange,
};
use crate::model::{
    AskedPermissions, Clause, Delegation, DelegationChange, DelegationId, DelegationState, Limits, PermissionName,
    RelationName, Revoked, ScopeItem, Suspension, TypeName,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

// ---- requests ----

pub(super) fn creation(message: wire::CreateDelegationRequest, limits: &Limits) -> Result<CreateDelegation, Refusal> {
    use wire::create_delegation_request::End;
    let wire::CreateDelegationRequest {
        delegator,
        delegate,
        items: asked,
        parent,
        not_before,
        end,
        redelegate,
        purpose,
        strict,
        idempotency_key,
        preconditions: due,
        metadata: notes,
        clock,
    } = message;
    let end = match end {
        Some(End::ExpiresAt(at)) => DelegationEnd::At(timestamp(field("expires_at"), at)?),
        Some(End::ExpiresAfter(after)) => DelegationEnd::After(duration(field("expires_after"), after)?),
        None => {
            let hint = "give `expires_at` or `expires_after`: no delegation is for ever";
            return Err(field("end").missing().with_hint(hint));
        }
    };
    Ok(CreateDelegation {
        delegator: object(field("delegator"), delegator)?,
        delegate: subject(field("delegate"), delegate)?,
        items: items(asked)?,
        parent: parent.map(|text| id(field("parent"), &text)).transpose()?,
        not_before: instant(field("not_before"), not_before)?,
        end,
        redelegate,
        purpose,
        // Callers are not authenticated.
        issued_by: String::new(),
        metadata: metadata(notes, limits)?,
        strict,
        idempotency_key: not_empty("idempotency_key", idempotency_key)?.map(String::into_bytes),
        preconditions: preconditions(due, limits)?,
        clock: instant(field("clock"), clock)?,
    })
}

fn duration(place: Place<'_>, message: prost_types::Duration) -> Result<Duration, Refusal> {
    let prost_types::Duration { seconds, nanos } = message;
    let (whole, rest) = (u64::try_from(seconds).ok(), u32::try_from(nanos).ok());
    match (whole, rest.filter(|nanos| *nanos < 1_000_000_000)) {
        (Some(seconds), Some(nanos)) => Ok(Duration::new(seconds, nanos)),
        (None, _) | (_, None) => Err(place.invalid(format!("{seconds} s, {nanos} ns"), "not a time of 0 s or more")),
    }
}

fn items(messages: Vec<wire::DelegationItem>) -> Result<Vec<AskedItem>, Refusal> {
    let place = field("items");
    messages.into_iter().enumerate().map(|(index, message)| item(place.item(index), message)).collect()
}

fn item(place: Place<'_>, message: wire::DelegationItem) -> Result<AskedItem, Refusal> {
    use wire::delegation_item::Permissions;
    let wire::DelegationItem { permissions, within, caveat } = message;
    let permissions_at = place.field("permissions");
    let permissions = match permissions {
        Some(Permissions::All(true)) => AskedPermissions::All,
        Some(Permissions::All(false)) => {
            return Err(place.field("all").invalid("false", "only `true` may be given"));
        }
        Some(Permissions::Named(wire::PermissionNames { names })) => {
            let names = names.into_iter().enumerate();
            let name = |(at, text): (usize, String)| permission_name(permissions_at.item(at), &text);
            AskedPermissions::Named(names.map(name).collect::<Result<_, _>>()?)
        }
        None => return Err(permissions_at.missing().with_hint("give `named`, or `all`")),
    };
    let within_at = place.field("within");
    let within = within.into_iter().enumerate();
    Ok(AskedItem {
        permissions,
        within: within.map(|(at, one)| object(within_at.item(at), Some(one))).collect::<Result<_, _>>()?,
        caveat: caveat.map(|caveat| tuple_caveat(place.field("caveat"), caveat)).transpose()?,
    })
}

fn permission_name(place: Place<'_>, text: &str) -> Result<PermissionName, Refusal> {
    text.parse().map_err(|error: crate::model::NameError| place.invalid(text, error))
}

pub(super) fn id(place: Place<'_>, text: &str) -> Result<DelegationId, Refusal> {
    text.parse().map_err(|error: String| place.invalid(text, error))
}

pub(super) fn narrowing(message: wire::NarrowDelegationRequest, limits: &Limits) -> Result<NarrowDelegation, Refusal> {
    let wire::NarrowDelegationRequest { id: which, items: asked, expires_at, preconditions: due, metadata: notes } =
        message;
    Ok(NarrowDelegation {
        id: id(field("id"), &which)?,
        items: items(asked)?,
        expires_at: instant(field("expires_at"), expires_at)?,
        preconditions: preconditions(due, limits)?,
        metadata: metadata(notes, limits)?,
    })
}

pub(super) fn revocation(message: wire::RevokeDelegationRequest, limits: &Limits) -> Result<RevokeDelegation, Refusal> {
    let wire::RevokeDelegationRequest { id: which, reason, preconditions: due, metadata: notes } = message;
    Ok(RevokeDelegation {
        id: id(field("id"), &which)?,
        reason,
        preconditions: preconditions(due, limits)?,
        metadata: metadata(notes, limits)?,
    })
}

pub(super) fn revocation_of_all(message: wire::RevokeAllForRequest, limits: &Limits) -> Result<RevokeAllFor, Refusal> {
    let wire::RevokeAllForRequest { principal, reason, preconditions: due, metadata: notes } = message;
    Ok(RevokeAllFor {
        principal: subject(field("principal"), principal)?,
        reason,
        preconditions: preconditions(due, limits)?,
        metadata: metadata(notes, limits)?,
    })
}

pub(super) fn reading(message: wire::GetDelegationRequest) -> Result<GetDelegation, Refusal> {
    let wire::GetDelegationRequest { consistency, id: which, clock } = message;
    Ok(GetDelegation {
        id: id(field("id"), &which)?,
        consistency: convert::consistency(consistency)?,
        clock: instant(field("clock"), clock)?,
    })
}

pub(super) fn listing(message: wire::ListDelegationsRequest) -> Result<ListDelegations, Refusal> {
    let wire::ListDelegationsRequest {
        consistency,
        root,
        delegate,
        delegator,
        anchor,
        parent,
        state: which,
        page_size,
        cursor,
        clock,
    } = message;
    Ok(ListDelegations {
        root: root.map(|one| object(field("root"), Some(one))).transpose()?,
        delegate: delegate.map(|one| subject(field("delegate"), Some(one))).transpose()?,
        delegator: delegator.map(|one| object(field("delegator"), Some(one))).transpose()?,
        anchor: anchor.map(|one| object(field("anchor"), Some(one))).transpose()?,
        parent: parent.map(|text| id(field("parent"), &text)).transpose()?,
        state: which.map(|given| state(field("state"), given)).transpose()?,
        page_size: page_size.map(|size| size as usize),
        cursor: not_empty("cursor", cursor)?,
        consistency: convert::consistency(consistency)?,
        clock: instant(field("clock"), clock)?,
    })
}

pub(super) fn importing(
    message: wire::ImportDelegationsRequest,
    limits: &Limits,
) -> Result<ImportDelegations, Refusal> {
    let wire::ImportDelegationsRequest { delegations, metadata: notes } = message;
    let place = field("delegations");
    let records = delegations.into_iter().enumerate();
    Ok(ImportDelegations {
        records: records.map(|(at, one)| delegation(place.item(at), Some(one))).collect::<Result<_, _>>()?,
        metadata: metadata(notes, limits)?,
    })
}

pub(super) fn suspending(message: wire::SuspendPrincipalRequest, limits: &Limits) -> Result<SuspendPrincipal, Refusal> {
    let wire::SuspendPrincipalRequest { principal, reason, preconditions: due, metadata: notes } = message;
    Ok(SuspendPrincipal {
        principal: object(field("principal"), principal)?,
        reason,
        preconditions: preconditions(due, limits)?,
        metadata: metadata(notes, limits)?,
    })
}

pub(super) fn reinstating(
    message: wire::ReinstatePrincipalRequest,
    limits: &Limits,
) -> Result<ReinstatePrincipal, Refusal> {
    let wire::ReinstatePrincipalRequest { principal, preconditions: due, metadata: notes } = message;
    Ok(ReinstatePrincipal {
        principal: object(field("principal"), principal)?,
        preconditions: preconditions(due, limits)?,
        metadata: metadata(notes, limits)?,
    })
}

pub(super) fn listing_suspended(message: wire::ListSuspendedRequest) -> Result<ListSuspended, Refusal> {
    let wire::ListSuspendedRequest { consistency, page_size, cursor } = message;
    Ok(ListSuspended {
        page_size: page_size.map(|size| size as usize),
        cursor: not_empty("cursor", cursor)?,
        consistency: convert::consistency(consistency)?,
    })
}

// ---- model → wire ----

impl From<&Delegation> for wire::Delegation {
    fn from(record: &Delegation) -> wire::Delegation {
        let Delegation {
            id,
            number,
            parent,
            root,
            delegator,
            delegate,
            clauses,
            created_at,
            not_before,
            expires_at,
            redelegate,
            depth,
            revoked,
            purpose,
            issued_by,
            metadata,
            version,
        } = record;
        wire::Delegation {
            id: id.to_string(),
            number: *number,
            parent: parent.map(|id| id.to_string()),
            root: Some(root.into()),
            delegator: Some(delegator.into()),
            delegate: Some(delegate.into()),
            clauses: clauses.iter().map(to_clause).collect(),
            created_at: Some(to_timestamp(*created_at)),
            not_before: Some(to_timestamp(*not_before)),
            expires_at: Some(to_timestamp(*expires_at)),
            redelegate: *redelegate,
            depth: *depth,
            revoked: revoked.as_ref().map(|Revoked { at, reason }| wire::DelegationRevocation {
                at: Some(to_timestamp(*at)),
                reason: reason.clone(),
            }),
            purpose: purpose.clone(),
            issued_by: issued_by.clone(),
            metadata: (!metadata.is_empty()).then(|| to_struct(metadata)),
            version: *version,
        }
    }
}

fn to_clause(Clause { items }: &Clause) -> wire::DelegationClause {
    wire::DelegationClause { items: items.iter().map(to_frozen).collect() }
}

fn to_frozen(item: &ScopeItem) -> wire::FrozenItem {
    let ScopeItem { asked, frozen, within, caveat } = item;
    let asked = AskedItem { permissions: asked.clone(), within: within.clone(), caveat: caveat.clone() };
    let to_pair =
        |(of, name): &(TypeName, RelationName)| wire::SchemaPair { definition: of.to_string(), name: name.to_string() };
    wire::FrozenItem { asked: Some((&asked).into()), frozen: frozen.iter().map(to_pair).collect() }
}

impl From<&AskedItem> for wire::DelegationItem {
    fn from(item: &AskedItem) -> wire::DelegationItem {
        use wire::delegation_item::Permissions;
        let AskedItem { permissions, within, caveat } = item;
        let permissions = match permissions {
            AskedPermissions::All => Permissions::All(true),
            AskedPermissions::Named(names) => {
                Permissions::Named(wire::PermissionNames { names: names.iter().map(ToString::to_string).collect() })
            }
        };
        wire::DelegationItem {
            permissions: Some(permissions),
            within: within.iter().map(Into::into).collect(),
            caveat: caveat.as_ref().map(to_caveat),
        }
    }
}

impl From<&Suspension> for wire::Suspension {
    fn from(suspension: &Suspension) -> wire::Suspension {
        let Suspension { principal, since, reason } = suspension;
        wire::Suspension {
            principal: Some(principal.into()),
            since: Some(to_timestamp(*since)),
            reason: reason.clone(),
        }
    }
}

impl From<&DelegationSeen> for wire::DelegationSeen {
    fn from(seen: &DelegationSeen) -> wire::DelegationSeen {
        let DelegationSeen { delegation, state } = seen;
        wire::DelegationSeen { delegation: Some((&**delegation).into()), state: to_state(*state).into() }
    }
}

pub(super) fn to_state(state: DelegationState) -> wire::DelegationState {
    match state {
        DelegationState::Live => wire::DelegationState::Live,
        DelegationState::NotYetValid => wire::DelegationState::NotYetValid,
        DelegationState::Expired => wire::DelegationState::Expired,
        DelegationState::Revoked => wire::DelegationState::Revoked,
    }
}

pub(super) fn to_change(change: DelegationChange) -> wire::delegation_change::Kind {
    use wire::delegation_change::Kind;
    match change {
        DelegationChange::Created => Kind::Created,
        DelegationChange::Narrowed => Kind::Narrowed,
        DelegationChange::Revoked => Kind::Revoked,
    }
}

// ---- replies, as the client reads them ----

/// The record of a reply.
pub(super) fn delegation(place: Place<'_>, message: Option<wire::Delegation>) -> Result<Delegation, Refusal> {
    let wire::Delegation {
        id: which,
        number,
        parent,
        root,
        delegator,
        delegate,
        clauses,
        created_at,
        not_before,
        expires_at,
        redelegate,
        depth,
        revoked,
        purpose,
        issued_by,
        metadata: notes,
        version,
    } = message.ok_or_else(|| place.missing())?;
    let clauses_at = place.field("clauses");
    let notes_at = place.field("metadata");
    Ok(Delegation {
        id: id(place.field("id"), &which)?,
        number,
        parent: parent.map(|text| id(place.field("parent"), &text)).transpose()?,
        root: object(place.field("root"), root)?,
        delegator: object(place.field("delegator"), delegator)?,
        delegate: subject(place.field("delegate"), delegate)?,
        clauses: clauses.into_iter().map(|one| clause(clauses_at, one)).collect::<Result<_, _>>()?,
        created_at: present(place.field("created_at"), created_at)?,
        not_before: present(place.field("not_before"), not_before)?,
        expires_at: present(place.field("expires_at"), expires_at)?,
        redelegate,
        depth,
        revoked: match revoked {
            None => None,
            Some(wire::DelegationRevocation { at, reason }) => {
                Some(Revoked { at: present(place.field("revoked"), at)?, reason })
            }
        },
        purpose,
        issued_by,
        metadata: match notes {
            Some(values) => json_object(notes_at, values, 1)?,
            None => Metadata::new(),
        },
        version,
    })
}

fn present(place: Place<'_>, message: Option<prost_types::Timestamp>) -> Result<crate::model::Timestamp, Refusal> {
    timestamp(place, message.ok_or_else(|| place.missing())?)
}

fn clause(place: Place<'_>, message: wire::DelegationClause) -> Result<Clause, Refusal> {
    let wire::DelegationClause { items } = message;
    let place = place.field("items");
    let items = items.into_iter().enumerate();
    Ok(Clause { items: items.map(|(at, one)| frozen_item(place.item(at), one)).collect::<Result<_, _>>()? })
}

fn frozen_item(place: Place<'_>, message: wire::FrozenItem) -> Result<ScopeItem, Refusal> {
    let wire::FrozenItem { asked, frozen } = message;
    let AskedItem { permissions, within, caveat } = item(place, asked.ok_or_else(|| place.missing())?)?;
    let pair = |wire::SchemaPair { definition, name }| {
        let place = place.field("frozen");
        Ok((type_name(place.field("definition"), definition)?, relation_name(place.field("name"), name)?))
    };
    let frozen = frozen.into_iter().map(pair).collect::<Result<BTreeSet<_>, Refusal>>()?;
    Ok(ScopeItem { asked: permissions, frozen, within, caveat })
}

/// The state of a reply or request.
pub(super) fn state(place: Place<'_>, given: i32) -> Result<DelegationState, Refusal> {
    match wire::DelegationState::try_from(given) {
        Ok(wire::DelegationState::Live) => Ok(DelegationState::Live),
        Ok(wire::DelegationState::NotYetValid) => Ok(DelegationState::NotYetValid),
        Ok(wire::DelegationState::Expired) => Ok(DelegationState::Expired),
        Ok(wire::DelegationState::Revoked) => Ok(DelegationState::Revoked),
        Ok(wire::DelegationState::Unspecified) => Err(place.missing()),
        Err(_) => Err(unknown_enum(place, given)),
    }
}

/// A record of a reply with its state.
pub(super) fn seen(place: Place<'_>, message: wire::DelegationSeen) -> Result<DelegationSeen, Refusal> {
    let wire::DelegationSeen { delegation: record, state: given } = message;
    let record = delegation(place.field("delegation"), record)?;
    Ok(DelegationSeen { delegation: Arc::new(record), state: state(place.field("state"), given)? })
}

pub(super) fn suspension(place: Place<'_>, message: wire::Suspension) -> Result<Suspension, Refusal> {
    let wire::Suspension { principal, since, reason } = message;
    Ok(Suspension {
        principal: object(place.field("principal"), principal)?,
        since: present(place.field("since"), since)?,
        reason,
    })
}

/// A change that a Watch told.
pub(super) fn changed(place: Place<'_>, message: wire::DelegationChange) -> Result<WatchChange, Refusal> {
    use wire::delegation_change::Kind;
    let wire::DelegationChange { kind, delegation: record } = message;
    let change = match Kind::try_from(kind) {
        Ok(Kind::Created) => DelegationChange::Created,
        Ok(Kind::Narrowed) => DelegationChange::Narrowed,
        Ok(Kind::Revoked) => DelegationChange::Revoked,
        Ok(Kind::Unspecified) => return Err(place.field("kind").missing()),
        Err(_) => return Err(unknown_enum(place.field("kind"), kind)),
    };
    let record = Arc::new(delegation(place.field("delegation"), record)?);
    Ok(WatchChange::Delegation { record, change })
}
