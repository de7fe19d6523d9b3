//! Acting for another on the wire: for whom a question is asked, and what an answer says of the chain.

use super::convert::{self, Place, Refusal};
use super::wire;
use crate::model::{Acting, ChainLink, Denial, DenyReason, Mandate};

/// For whom a question is asked. A message that names neither a delegation nor a root is refused, never read as "for
/// itself".
pub(super) fn acting(message: Option<wire::Acting>) -> Result<Acting, Refusal> {
    use wire::acting::Mandate as Given;
    let Some(wire::Acting { mandate, expect_root, presented_actors }) = message else { return Ok(Acting::default()) };
    let place = convert::field("acting");
    let mandate = match mandate {
        None => return Err(place.invalid("", "give `delegation` or `on_behalf_of`, or leave `acting` out".to_owned())),
        Some(Given::Delegation(id)) => {
            Mandate::Delegation(id.parse().map_err(|why: String| place.field("delegation").invalid(&id, why))?)
        }
        Some(Given::OnBehalfOf(root)) => Mandate::OnBehalfOf(convert::object(place.field("on_behalf_of"), Some(root))?),
    };
    let presented = place.field("presented_actors");
    Ok(Acting {
        mandate,
        expect_root: match expect_root {
            None => None,
            Some(root) => Some(convert::object(place.field("expect_root"), Some(root))?),
        },
        presented_actors: presented_actors
            .into_iter()
            .enumerate()
            .map(|(at, actor)| convert::object(presented.item(at), Some(actor)))
            .collect::<Result<_, _>>()?,
    })
}

/// As a request carries it; nothing for a subject that asks for itself.
pub(super) fn to_acting(acting: &Acting) -> Option<wire::Acting> {
    use wire::acting::Mandate as Given;
    let Acting { mandate, expect_root, presented_actors } = acting;
    let mandate = match mandate {
        Mandate::Own if expect_root.is_none() && presented_actors.is_empty() => return None,
        // Refused by the server, who says why.
        Mandate::Own => None,
        Mandate::Delegation(id) => Some(Given::Delegation(id.to_string())),
        Mandate::OnBehalfOf(root) => Some(Given::OnBehalfOf(root.into())),
    };
    Some(wire::Acting {
        mandate,
        expect_root: expect_root.as_ref().map(Into::into),
        presented_actors: presented_actors.iter().map(Into::into).collect(),
    })
}

/// The reason and the hop of an answer.
pub(super) fn to_denial(denial: Option<Denial>) -> (i32, Option<u32>) {
    match denial {
        None => (wire::DenyReason::Unspecified.into(), None),
        Some(Denial { reason, hop }) => {
            (wire::DenyReason::from(reason).into(), hop.and_then(|hop| u32::try_from(hop).ok()))
        }
    }
}

/// What a reply says of why it is no allow.
pub(super) fn denial(place: Place<'_>, (reason, hop): (i32, Option<u32>)) -> Result<Option<Denial>, Refusal> {
    let reason = self::reason(place.field("reason"), reason)?;
    Ok(reason.map(|reason| Denial { reason, hop: hop.and_then(|hop| usize::try_from(hop).ok()) }))
}

/// The chain of an answer.
pub(super) fn to_chain(chain: Vec<ChainLink>) -> Vec<wire::ChainLink> {
    let to_link = |ChainLink { delegation, delegator, delegate }| wire::ChainLink {
        delegation: delegation.to_string(),
        delegator: Some((&delegator).into()),
        delegate: Some((&delegate).into()),
    };
    chain.into_iter().map(to_link).collect()
}

/// The chain of a reply.
pub(super) fn chain(place: Place<'_>, links: Vec<wire::ChainLink>) -> Result<Vec<ChainLink>, Refusal> {
    let link = |(at, wire::ChainLink { delegation, delegator, delegate }): (usize, wire::ChainLink)| {
        let place = place.item(at);
        Ok(ChainLink {
            delegator: convert::object(place.field("delegator"), delegator)?,
            delegate: convert::subject(place.field("delegate"), delegate)?,
            delegation: {
                let field = place.field("delegation");
                delegation.parse().map_err(|why: String| field.invalid(&delegation, why))?
            },
        })
    };
    links.into_iter().enumerate().map(link).collect()
}

impl From<DenyReason> for wire::DenyReason {
    fn from(reason: DenyReason) -> wire::DenyReason {
        match reason {
            DenyReason::NoDelegation => wire::DenyReason::NoDelegation,
            DenyReason::RootMismatch => wire::DenyReason::RootMismatch,
            DenyReason::ChainMismatch => wire::DenyReason::ChainMismatch,
            DenyReason::NotTheDelegate => wire::DenyReason::NotTheDelegate,
            DenyReason::LinkBroken => wire::DenyReason::LinkBroken,
            DenyReason::Suspended => wire::DenyReason::Suspended,
            DenyReason::DelegationRevoked => wire::DenyReason::DelegationRevoked,
            DenyReason::DelegationNotYetValid => wire::DenyReason::DelegationNotYetValid,
            DenyReason::DelegationExpired => wire::DenyReason::DelegationExpired,
            DenyReason::OutOfScope => wire::DenyReason::OutOfScope,
            DenyReason::ConditionFalse => wire::DenyReason::ConditionFalse,
            DenyReason::ActorLacksPermission => wire::DenyReason::ActorLacksPermission,
            DenyReason::RootLacksPermission => wire::DenyReason::RootLacksPermission,
            DenyReason::IntermediateLacksPermission => wire::DenyReason::IntermediateLacksPermission,
            DenyReason::ContextMissing => wire::DenyReason::ContextMissing,
        }
    }
}

/// The reason in a reply; `None` when it names none.
pub(super) fn reason(place: Place<'_>, given: i32) -> Result<Option<DenyReason>, Refusal> {
    if given == i32::from(wire::DenyReason::Unspecified) {
        return Ok(None);
    }
    let found = DenyReason::ALL.into_iter().find(|reason| i32::from(wire::DenyReason::from(*reason)) == given);
    found.map(Some).ok_or_else(|| convert::unknown_enum(place, given))
}
