//! `PermissionService`: Check and CheckBulk; what filters is in `filter`, what lists in `lists`, what has a tree in `trees`.

use super::convert::{self, Place, PlacedItem, Refusal};
use super::convert_acting::{self, to_chain, to_denial};
use super::desk::{Desk, Lane};
use super::filter;
use super::lists;
use super::status::{Failure, HINT};
use super::stream::Told;
use super::trees;
use super::wire::{self, permission_service_server::PermissionService};
use crate::engine::{Answer, BulkAnswer, CheckAnswer, CheckOptions, Engine};
use crate::model::{Cancel, Question};
use prost::Message;
use std::sync::Arc;
use tonic::{Code, Request, Response, Status};

pub(super) struct Permissions(pub(super) Arc<Desk>);

#[tonic::async_trait]
impl PermissionService for Permissions {
    async fn check(&self, request: Request<wire::CheckRequest>) -> Result<Response<wire::CheckResponse>, Status> {
        let wire::CheckRequest {
            consistency,
            object,
            permission,
            subject,
            explain,
            context,
            contextual_tuples,
            acting,
            clock,
        } = request.into_inner();
        let question = convert::question(Place::Message, object, permission, subject)?;
        let situation = convert::situation(consistency, context, contextual_tuples, clock, self.0.limits())?;
        let acting = convert_acting::acting(acting)?;
        let mut options = CheckOptions { situation, acting, explain, cancel: Cancel::default() };
        let at_once = self.0.at_once(|engine| {
            let answered = engine.check_at_once(&question, &options)?;
            Some(answered.map_err(Failure::from).and_then(|answer| to_reply(engine, answer)))
        });
        if let Some(answered) = at_once {
            return Ok(Response::new(answered?));
        }
        let answered = self.0.run(Lane::Read, move |engine, cancel| {
            options.cancel = cancel.clone();
            to_reply(engine, engine.check(&question, &options)?)
        });
        Ok(Response::new(answered.await?))
    }

    async fn check_bulk(
        &self,
        request: Request<wire::CheckBulkRequest>,
    ) -> Result<Response<wire::CheckBulkResponse>, Status> {
        let limits = self.0.limits().clone();
        let answered = self.0.run(Lane::Read, move |engine, cancel| {
            let wire::CheckBulkRequest { consistency, items, explain, context, contextual_tuples, acting, clock } =
                request.into_inner();
            let situation = convert::situation(consistency, context, contextual_tuples, clock, &limits)?;
            let acting = convert_acting::acting(acting)?;
            let options = CheckOptions { situation, acting, explain, cancel: cancel.clone() };
            let mut questions: Vec<Question> = Vec::with_capacity(items.len());
            let take = |(id, question): PlacedItem| match question {
                Ok(question) => {
                    questions.push(question);
                    (id, None)
                }
                Err(refusal) => (id, Some(refusal)),
            };
            let items: Vec<(String, Option<Refusal>)> = convert::items(items, &limits)?.into_iter().map(take).collect();
            let BulkAnswer { answers, revision, historical } = engine.check_bulk(&questions, &options)?;
            let mut answers = answers.into_iter();
            let mut results = Vec::with_capacity(items.len());
            for (index, (id, refusal)) in items.into_iter().enumerate() {
                let answer = match refusal {
                    None => match answers.next() {
                        Some(answer) => answer.map_err(|error| Failure::from(error).within(&format!("items[{index}]"))),
                        None => {
                            return Err(Failure::internal("the engine gave fewer answers than it was asked questions"));
                        }
                    },
                    Some(refusal) => Err(refusal.into()),
                };
                results.push(wire::CheckBulkResult { id, result: Some(result(answer)) });
            }
            let checked_at = Some(engine.token(revision).into());
            fitting(wire::CheckBulkResponse { checked_at, historical, results }, limits.message_bytes_max, FEWER)
        });
        Ok(Response::new(answered.await?))
    }

    async fn filter_resources(
        &self,
        request: Request<wire::FilterResourcesRequest>,
    ) -> Result<Response<wire::FilterResourcesResponse>, Status> {
        Ok(Response::new(filter::resources(&self.0, request.into_inner()).await?))
    }

    type ListResourcesStream = Told<wire::ListResourcesResponse>;

    async fn list_resources(
        &self,
        request: Request<wire::ListResourcesRequest>,
    ) -> Result<Response<Self::ListResourcesStream>, Status> {
        Ok(Response::new(lists::resources(&self.0, request).await?))
    }

    type ListSubjectsStream = Told<wire::ListSubjectsResponse>;

    async fn list_subjects(
        &self,
        request: Request<wire::ListSubjectsRequest>,
    ) -> Result<Response<Self::ListSubjectsStream>, Status> {
        Ok(Response::new(lists::subjects(&self.0, request).await?))
    }

    type BlastRadiusStream = Told<wire::BlastRadiusResponse>;

    async fn blast_radius(
        &self,
        request: Request<wire::BlastRadiusRequest>,
    ) -> Result<Response<Self::BlastRadiusStream>, Status> {
        Ok(Response::new(lists::blast_radius(&self.0, request).await?))
    }

    async fn list_permissions(
        &self,
        request: Request<wire::ListPermissionsRequest>,
    ) -> Result<Response<wire::ListPermissionsResponse>, Status> {
        Ok(Response::new(lists::permissions(&self.0, request.into_inner()).await?))
    }

    async fn explain(&self, request: Request<wire::ExplainRequest>) -> Result<Response<wire::ExplainResponse>, Status> {
        Ok(Response::new(trees::explain(&self.0, request.into_inner()).await?))
    }

    async fn expand(&self, request: Request<wire::ExpandRequest>) -> Result<Response<wire::ExpandResponse>, Status> {
        Ok(Response::new(trees::expand(&self.0, request.into_inner()).await?))
    }
}

fn to_reply(engine: &Engine, answer: CheckAnswer) -> Result<wire::CheckResponse, Failure> {
    let CheckAnswer { answer, revision, historical } = answer;
    let Answer { decision, witness, missing, valid_until, denial, chain, edges: _ } = answer;
    let (reason, hop) = to_denial(denial);
    let reply = wire::CheckResponse {
        decision: wire::Decision::from(decision).into(),
        checked_at: Some(engine.token(revision).into()),
        historical,
        witness: convert::to_steps(witness),
        missing_context: missing,
        valid_until: valid_until.map(convert::to_timestamp),
        reason,
        hop,
        chain: to_chain(chain),
    };
    fitting(reply, engine.limits().message_bytes_max, FEWER)
}

fn result(answer: Result<Answer, Failure>) -> wire::check_bulk_result::Result {
    use wire::check_bulk_result::Result as Said;
    match answer {
        Ok(Answer { decision, witness, missing, valid_until, denial, chain, edges: _ }) => {
            let (reason, hop) = to_denial(denial);
            Said::Answer(wire::CheckBulkAnswer {
                decision: wire::Decision::from(decision).into(),
                witness: convert::to_steps(witness),
                missing_context: missing,
                valid_until: valid_until.map(convert::to_timestamp),
                reason,
                hop,
                chain: to_chain(chain),
            })
        }
        Err(failure) => Said::Error(failure.into_proto()),
    }
}

/// What to do where answers with their paths are too long.
const FEWER: &str = "ask fewer questions at once, or without `explain`";

/// Said here and not by the encoder, which would name neither the reason nor the way out.
pub(super) fn fitting<M: Message>(reply: M, bytes_max: usize, hint: &str) -> Result<M, Failure> {
    let bytes = reply.encoded_len();
    if bytes <= bytes_max {
        return Ok(reply);
    }
    let message = format!("the reply would have {bytes} bytes; at most {bytes_max} are allowed");
    Err(Failure::new(Code::ResourceExhausted, "LIMIT_EXCEEDED", message)
        .with_fact("limit", "message_bytes_max")
        .with_fact("max", bytes_max.to_string())
        .with_fact(HINT, hint))
}
