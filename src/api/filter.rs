//! FilterResources of `PermissionService`: ids in, answers out in columns.

use super::convert;
use super::convert_acting;
use super::desk::{Desk, Lane};
use super::permissions::fitting;
use super::status::Failure;
use super::wire;
use crate::engine::{FilterResources, Filtered};

/// What to do where the errors, or the fields that answers hang on, are too long.
const FEWER: &str = "filter fewer ids at once";

pub(super) async fn resources(
    desk: &Desk,
    request: wire::FilterResourcesRequest,
) -> Result<wire::FilterResourcesResponse, Failure> {
    let limits = desk.limits().clone();
    let filtered = desk.run(Lane::Read, move |engine, cancel| {
        let wire::FilterResourcesRequest {
            consistency,
            object_type,
            permission,
            subject,
            ids,
            context,
            contextual_tuples,
            acting,
            clock,
        } = request;
        let count = ids.len();
        let (ids, refused) = convert::filter_ids(ids, &limits)?;
        let asked = FilterResources {
            object_type: convert::type_name(convert::field("object_type"), object_type)?,
            permission: convert::relation_name(convert::field("permission"), permission)?,
            subject: convert::subject(convert::field("subject"), subject)?,
            acting: convert_acting::acting(acting)?,
            ids,
            situation: convert::situation(consistency, context, contextual_tuples, clock, &limits)?,
        };
        let Filtered { decisions: found, missing, errors: failed, revision, historical } =
            engine.filter_resources(&asked, cancel)?;
        let mut refused = refused.into_iter().peekable();
        let mut decisions = Vec::with_capacity(count);
        let mut errors = Vec::new();
        // Where the ids that were asked about stood among all that were given.
        let mut places = Vec::with_capacity(found.len());
        for decision in found {
            while let Some((at, refusal)) = refused.next_if(|(at, _)| *at == decisions.len()) {
                decisions.push(wire::Decision::Unspecified.into());
                errors.push(error(at, refusal.into())?);
            }
            places.push(decisions.len());
            let decision = decision.map_or(wire::Decision::Unspecified, wire::Decision::from);
            decisions.push(decision.into());
        }
        for (at, refusal) in refused {
            decisions.push(wire::Decision::Unspecified.into());
            errors.push(error(at, refusal.into())?);
        }
        let place = |at: usize| places.get(at).copied().ok_or_else(|| Failure::internal("an answer to no id"));
        for (at, failure) in failed {
            errors.push(error(place(at)?, failure.into())?);
        }
        errors.sort_unstable_by_key(|error| error.index);
        let conditional =
            |(at, missing_context)| Ok(wire::FilterConditional { index: index(place(at)?)?, missing_context });
        let reply = wire::FilterResourcesResponse {
            checked_at: Some(engine.token(revision).into()),
            historical,
            decisions,
            conditionals: missing.into_iter().map(conditional).collect::<Result<_, Failure>>()?,
            errors,
        };
        fitting(reply, limits.message_bytes_max, FEWER)
    });
    filtered.await
}

fn error(at: usize, failure: Failure) -> Result<wire::FilterError, Failure> {
    Ok(wire::FilterError { index: index(at)?, error: Some(failure.into_proto()) })
}

fn index(at: usize) -> Result<u32, Failure> {
    u32::try_from(at).map_err(|_| Failure::internal("more ids than an index can tell"))
}
