//! FilterResources, as the client asks it.
//!
//! INVARIANT: each id has exactly a decision that this build understands, or an error; a reply of which that is not so is
//! an error as a whole.

use super::{Client, ClientError, Under, notes};
use crate::api::convert::{self, Place};
use crate::api::convert_acting::to_acting;
use crate::api::wire;
use crate::model::{Acting, Decision, ObjectId, RelationName, SubjectRef, TypeName};

/// What is asked of each id.
#[derive(Clone, Debug)]
pub struct FilterOf {
    pub object_type: TypeName,
    pub permission: RelationName,
    pub subject: SubjectRef,
    /// For whom the subject asks.
    pub acting: Acting,
}

/// What Check says of each id, all at one revision.
#[derive(Clone, Debug)]
pub struct Filtered {
    /// The one revision all answers are exact at.
    pub token: String,
    /// Whether a newer revision existed.
    pub historical: bool,
    /// In the order of the ids and as many; `None` where `errors` says why there is none.
    pub decisions: Vec<Option<Decision>>,
    /// Of each conditional decision, in order: its place among the ids, and the context fields that could still decide it.
    pub missing: Vec<(usize, Vec<String>)>,
    /// In order: the place among the ids, and why it has no decision.
    pub errors: Vec<(usize, ClientError)>,
}

impl Client {
    /// On which of these objects does the subject have the permission? At most 100,000 ids: more are refused by the
    /// server, not split here.
    ///
    /// # Errors
    /// As [`Client::check`]; what is wrong with one id stands in its place.
    pub fn filter_resources(&self, asked: &FilterOf, ids: &[ObjectId], under: &Under) -> Result<Filtered, ClientError> {
        let request = filter_request(asked, ids, under);
        let mut service = self.permissions();
        let reply = self.call(async { service.filter_resources(request).await })?;
        filtered(reply, ids.len())
    }
}

pub(super) fn filter_request(asked: &FilterOf, ids: &[ObjectId], under: &Under) -> wire::FilterResourcesRequest {
    let FilterOf { object_type, permission, subject, acting } = asked;
    wire::FilterResourcesRequest {
        consistency: under.at.to_wire(),
        object_type: object_type.to_string(),
        permission: permission.to_string(),
        subject: Some(subject.into()),
        ids: ids.iter().map(|id| id.as_str().to_owned()).collect(),
        context: notes(&under.context),
        contextual_tuples: under.wire_tuples(),
        acting: to_acting(acting),
        clock: under.clock.map(convert::to_timestamp),
    }
}

/// What was answered to so many ids.
pub(super) fn filtered(reply: wire::FilterResourcesResponse, count: usize) -> Result<Filtered, ClientError> {
    let wire::FilterResourcesResponse { checked_at, historical, decisions, conditionals, errors } = reply;
    if decisions.len() != count {
        let message = format!("{} answers came to {} ids", decisions.len(), count);
        return Err(ClientError::reply(message));
    }
    let errors: Vec<(usize, ClientError)> = errors.into_iter().map(failed).collect::<Result<_, _>>()?;
    let missing: Vec<(usize, Vec<String>)> = conditionals.into_iter().map(conditional).collect::<Result<_, _>>()?;
    let decisions = decided(decisions)?;
    let without = |wanted: Option<Decision>| {
        let places = decisions.iter().enumerate();
        places.filter(move |(_, decision)| **decision == wanted).map(|(at, _)| at)
    };
    let explained = errors.iter().map(|(at, _)| *at).eq(without(None))
        && missing.iter().map(|(at, _)| *at).eq(without(Some(Decision::Conditional)));
    if !explained {
        return Err(ClientError::reply("errors or missing fields came to other ids than lack an answer".to_owned()));
    }
    let token = convert::token_text(convert::field("checked_at"), checked_at)?;
    Ok(Filtered { token, historical, decisions, missing, errors })
}

fn decided(decisions: Vec<i32>) -> Result<Vec<Option<Decision>>, ClientError> {
    let place = convert::field("decisions");
    let one = |(at, given): (usize, i32)| -> Result<Option<Decision>, ClientError> {
        if given == i32::from(wire::Decision::Unspecified) {
            return Ok(None);
        }
        Ok(Some(convert::decision(place.item(at), given)?))
    };
    decisions.into_iter().enumerate().map(one).collect()
}

fn failed(message: wire::FilterError) -> Result<(usize, ClientError), ClientError> {
    let wire::FilterError { index, error } = message;
    let error = error.ok_or_else(|| convert::field("errors").field("error").missing())?;
    Ok((place_of(convert::field("errors"), index)?, ClientError::from_proto(&error)))
}

fn conditional(message: wire::FilterConditional) -> Result<(usize, Vec<String>), ClientError> {
    let wire::FilterConditional { index, missing_context } = message;
    Ok((place_of(convert::field("conditionals"), index)?, missing_context))
}

fn place_of(place: Place<'_>, index: u32) -> Result<usize, ClientError> {
    usize::try_from(index).map_err(|error| place.field("index").invalid(index.to_string(), error).into())
}
