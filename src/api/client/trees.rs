//! The client's Explain and Expand.

use super::{Client, ClientError, Under, notes};
use crate::api::convert::{self, Place};
use crate::api::convert_acting::{self, to_acting};
use crate::api::trees;
use crate::api::wire;
use crate::engine::ExplainedChain;
use crate::model::{
    Acting, ChainLink, Decision, Denial, ExpandStep, ExplainStep, NearMiss, ObjectRef, Question, RelationName,
    Timestamp,
};

/// An answer and its reasons.
#[derive(Clone, Debug, PartialEq)]
pub struct Explained {
    pub decision: Decision,
    /// The revision the answer is exact at.
    pub token: String,
    /// Whether a newer revision existed.
    pub historical: bool,
    /// Of a conditional decision: the context fields that could still decide it.
    pub missing: Vec<String>,
    /// Time alone does not change the decision before it.
    pub valid_until: Option<Timestamp>,
    /// The proof of an allow; or what was tried.
    pub steps: Vec<ExplainStep>,
    /// Parts of the tree are cut.
    pub truncated: bool,
    /// Tuples each of which alone would make it an allow, nearest first.
    pub near_misses: Vec<NearMiss>,
    /// There may be more of them.
    pub near_misses_cut: bool,
    /// Why it is no allow: of a suspended subject, and of a question asked for another.
    pub denial: Option<Denial>,
    /// The chain by which the answer was found, root first, when asked for another.
    pub chain: Vec<ChainLink>,
    /// When asked for another: every chain that counts, with every test of it.
    pub chains: Vec<ExplainedChain>,
}

/// What a permission is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Expanded {
    pub steps: Vec<ExpandStep>,
    /// The revision it is exact at.
    pub token: String,
    /// Whether a newer revision existed.
    pub historical: bool,
}

impl Client {
    /// Why is the answer to a question what it is?
    ///
    /// # Errors
    /// As [`Client::check_under`].
    pub fn explain(&self, question: &Question, acting: &Acting, under: &Under) -> Result<Explained, ClientError> {
        let Question { object, permission, subject } = question;
        let request = wire::ExplainRequest {
            consistency: under.at.to_wire(),
            object: Some(object.into()),
            permission: permission.to_string(),
            subject: Some(subject.into()),
            context: notes(&under.context),
            contextual_tuples: under.wire_tuples(),
            acting: to_acting(acting),
            clock: under.clock.map(convert::to_timestamp),
        };
        let mut service = self.permissions();
        let wire::ExplainResponse {
            decision,
            explained_at,
            historical,
            missing_context,
            valid_until,
            steps,
            truncated,
            near_misses,
            near_misses_cut,
            reason,
            hop,
            chain,
            chains,
        } = self.call(async { service.explain(request).await })?;
        Ok(Explained {
            decision: convert::decision(convert::field("decision"), decision)?,
            token: convert::token_text(convert::field("explained_at"), explained_at)?,
            historical,
            missing: missing_context,
            valid_until: convert::instant(convert::field("valid_until"), valid_until)?,
            steps: trees::each("steps", steps, trees::explain_step)?,
            truncated,
            near_misses: trees::each("near_misses", near_misses, trees::near_miss)?,
            near_misses_cut,
            denial: convert_acting::denial(Place::Message, (reason, hop))?,
            chain: convert_acting::chain(convert::field("chain"), chain)?,
            chains: trees::each("chains", chains, trees::explained_chain)?,
        })
    }

    /// What is a permission made of on an object? `levels` of objects are shown; 0 leaves it to the server. The context of
    /// `under` is not sent: no caveat is judged.
    ///
    /// # Errors
    /// As [`Client::check`]; `EXPANSION_TOO_LARGE` where there are more steps than one expansion may have.
    pub fn expand(
        &self,
        object: &ObjectRef,
        permission: &RelationName,
        levels: u32,
        under: &Under,
    ) -> Result<Expanded, ClientError> {
        let request = wire::ExpandRequest {
            consistency: under.at.to_wire(),
            object: Some(object.into()),
            permission: permission.to_string(),
            depth: levels,
            contextual_tuples: under.wire_tuples(),
            clock: under.clock.map(convert::to_timestamp),
        };
        let mut service = self.permissions();
        let wire::ExpandResponse { expanded_at, historical, steps } =
            self.call(async { service.expand(request).await })?;
        Ok(Expanded {
            steps: trees::each("steps", steps, trees::expand_step)?,
            token: convert::token_text(convert::field("expanded_at"), expanded_at)?,
            historical,
        })
    }
}
