//! ListResources, ListSubjects and ListPermissions of `PermissionService`.
//!
//! INVARIANT: no thread is held while a slow caller reads: the list goes to one and comes back for each page. When the
//! caller is gone, or its time is over, the page that is being worked on is cancelled.

use super::convert::{self, Place};
use super::convert_acting::{self, to_chain, to_denial};
use super::desk::{Desk, Lane};
use super::door::Deadline;
use super::limits::{PAGE_ROWS, STREAM_ROWS};
use super::status::{Failure, HINT};
use super::stream::{Told, told, within};
use super::wire;
use crate::engine::{
    BlastRadius, DelegateLister, DelegateRow, ExcludedSubject, ListDelegates, ListPermissions, ListResources,
    ListSubjects, PermissionRow, PermissionsListed, RadiusLister, ReachedRow, ResourceLister, ResourceRow,
    SubjectLister, SubjectRow,
};
use crate::model::{Cancel, ObjectRef, RelationName};
use prost::Message;
use std::sync::Arc;
use tokio::sync::mpsc;
use tonic::{Code, Request};

/// Both lists as one thing to page through.
trait Pages: Send + Sized + 'static {
    type Message: Message + Send + 'static;

    /// Up to `rows_max` further rows; none at the end.
    fn page(&mut self, rows_max: usize, cancel: &Cancel) -> Result<Vec<Self::Message>, Failure>;
}

impl Pages for ResourceLister {
    type Message = wire::ListResourcesResponse;

    fn page(&mut self, rows_max: usize, cancel: &Cancel) -> Result<Vec<Self::Message>, Failure> {
        let to_message = |ResourceRow { object, decision, missing_fields, denial, chain, cursor }| {
            let (reason, hop) = to_denial(denial);
            wire::ListResourcesResponse {
                listed_at: None,
                historical: false,
                row: Some(wire::ResourceRow {
                    object: Some((&object).into()),
                    decision: wire::Decision::from(decision).into(),
                    missing_context: missing_fields,
                    cursor,
                    reason,
                    hop,
                    chain: to_chain(chain),
                }),
            }
        };
        Ok(self.next_page(rows_max, cancel)?.into_iter().map(to_message).collect())
    }
}

impl Pages for SubjectLister {
    type Message = wire::ListSubjectsResponse;

    fn page(&mut self, rows_max: usize, cancel: &Cancel) -> Result<Vec<Self::Message>, Failure> {
        let to_message = |SubjectRow { subject, decision, missing_fields, exclusions, relations, cursor }| {
            let to_member = |(object, member): (ObjectRef, RelationName)| wire::WitnessMember {
                object: Some((&object).into()),
                member: member.to_string(),
            };
            wire::ListSubjectsResponse {
                listed_at: None,
                historical: false,
                row: Some(wire::SubjectRow {
                    subject: Some((&subject).into()),
                    decision: wire::Decision::from(decision).into(),
                    missing_context: missing_fields,
                    exclusions: exclusions.into_iter().map(to_exclusion).collect(),
                    relations: relations.into_iter().map(to_member).collect(),
                    cursor,
                    chain: Vec::new(),
                }),
            }
        };
        Ok(self.next_page(rows_max, cancel)?.into_iter().map(to_message).collect())
    }
}

impl Pages for DelegateLister {
    type Message = wire::ListSubjectsResponse;

    fn page(&mut self, rows_max: usize, cancel: &Cancel) -> Result<Vec<Self::Message>, Failure> {
        let to_message =
            |DelegateRow { subject, chain, decision, missing, exclusions, cursor }| wire::ListSubjectsResponse {
                listed_at: None,
                historical: false,
                row: Some(wire::SubjectRow {
                    subject: Some((&subject).into()),
                    decision: wire::Decision::from(decision).into(),
                    missing_context: missing,
                    exclusions: exclusions.into_iter().map(to_exclusion).collect(),
                    relations: Vec::new(),
                    cursor,
                    chain: to_chain(chain),
                }),
            };
        Ok(self.next_page(rows_max, cancel)?.into_iter().map(to_message).collect())
    }
}

impl Pages for RadiusLister {
    type Message = wire::BlastRadiusResponse;

    fn page(&mut self, rows_max: usize, cancel: &Cancel) -> Result<Vec<Self::Message>, Failure> {
        let to_message = |ReachedRow { chain, permission, object, decision, missing }| wire::BlastRadiusResponse {
            listed_at: None,
            suspended: false,
            row: Some(wire::ReachedRow {
                chain: to_chain(chain),
                permission: permission.to_string(),
                object: Some((&object).into()),
                decision: wire::Decision::from(decision).into(),
                missing_context: missing,
            }),
        };
        Ok(self.next_page(rows_max, cancel)?.into_iter().map(to_message).collect())
    }
}

fn to_exclusion(ExcludedSubject { subject, decision, missing_fields }: ExcludedSubject) -> wire::ExcludedSubject {
    wire::ExcludedSubject {
        subject: Some((&subject).into()),
        decision: wire::Decision::from(decision).into(),
        missing_context: missing_fields,
    }
}

pub(super) async fn blast_radius(
    desk: &Arc<Desk>,
    request: Request<wire::BlastRadiusRequest>,
) -> Result<Told<wire::BlastRadiusResponse>, Failure> {
    let deadline = deadline(&request)?;
    let wire::BlastRadiusRequest { consistency, principal, context, contextual_tuples, clock } = request.into_inner();
    let asked = BlastRadius {
        principal: convert::object(convert::field("principal"), principal)?,
        situation: convert::situation(consistency, context, contextual_tuples, clock, desk.limits())?,
    };
    let opened = desk.run(Lane::Read, move |engine, cancel| {
        let lister = engine.blast_radius(asked, cancel)?;
        let listed_at = Some(engine.token(lister.revision()).into());
        let suspended = lister.is_suspended();
        Ok((lister, wire::BlastRadiusResponse { listed_at, suspended, row: None }))
    });
    let (lister, first) = opened.await?;
    Ok(listing(desk, deadline, first, lister, None))
}

pub(super) async fn resources(
    desk: &Arc<Desk>,
    request: Request<wire::ListResourcesRequest>,
) -> Result<Told<wire::ListResourcesResponse>, Failure> {
    let deadline = deadline(&request)?;
    let wire::ListResourcesRequest {
        consistency,
        object_type,
        permission,
        subject,
        cursor,
        limit,
        within,
        context,
        contextual_tuples,
        acting,
        clock,
    } = request.into_inner();
    let limit = convert::row_limit(limit, desk.limits())?;
    let asked = ListResources {
        object_type: convert::type_name(convert::field("object_type"), object_type)?,
        permission: convert::relation_name(convert::field("permission"), permission)?,
        subject: convert::subject(convert::field("subject"), subject)?,
        acting: convert_acting::acting(acting)?,
        within: within.map(|root| convert::object(convert::field("within"), Some(root))).transpose()?,
        situation: convert::situation(consistency, context, contextual_tuples, clock, desk.limits())?,
        cursor: convert::not_empty("cursor", cursor)?,
    };
    let opened = desk.run(Lane::Read, move |engine, cancel| {
        let lister = engine.list_resources(asked, cancel)?;
        let first = wire::ListResourcesResponse {
            listed_at: Some(engine.token(lister.revision()).into()),
            historical: lister.historical(),
            row: None,
        };
        Ok((lister, first))
    });
    let (lister, first) = opened.await?;
    Ok(listing(desk, deadline, first, lister, limit))
}

pub(super) async fn subjects(
    desk: &Arc<Desk>,
    request: Request<wire::ListSubjectsRequest>,
) -> Result<Told<wire::ListSubjectsResponse>, Failure> {
    let deadline = deadline(&request)?;
    let wire::ListSubjectsRequest {
        consistency,
        object,
        permission,
        subject_type,
        subject_relation,
        cursor,
        limit,
        with_relations,
        context,
        contextual_tuples,
        clock,
        within,
        through_delegations,
    } = request.into_inner();
    let limit = convert::row_limit(limit, desk.limits())?;
    let asked = ListSubjects {
        object: convert::object(Place::Field(&Place::Message, "object"), object)?,
        permission: convert::relation_name(convert::field("permission"), permission)?,
        subject_type: convert::type_name(convert::field("subject_type"), subject_type)?,
        subject_relation: convert::optional_relation(convert::field("subject_relation"), subject_relation)?,
        with_relations,
        within: within.map(|root| convert::object(convert::field("within"), Some(root))).transpose()?,
        situation: convert::situation(consistency, context, contextual_tuples, clock, desk.limits())?,
        cursor: convert::not_empty("cursor", cursor)?,
    };
    if through_delegations {
        let asked = delegates(asked)?;
        let opened = desk.run(Lane::Read, move |engine, cancel| {
            let lister = engine.list_delegates(asked, cancel)?;
            let listed_at = Some(engine.token(lister.revision()).into());
            Ok((lister, wire::ListSubjectsResponse { listed_at, historical: false, row: None }))
        });
        let (lister, first) = opened.await?;
        return Ok(listing(desk, deadline, first, lister, limit));
    }
    let opened = desk.run(Lane::Read, move |engine, cancel| {
        let lister = engine.list_subjects(asked, cancel)?;
        let first = wire::ListSubjectsResponse {
            listed_at: Some(engine.token(lister.revision()).into()),
            historical: lister.historical(),
            row: None,
        };
        Ok((lister, first))
    });
    let (lister, first) = opened.await?;
    Ok(listing(desk, deadline, first, lister, limit))
}

/// The same of those who act by a delegation, who are plain objects, wherever they are.
fn delegates(asked: ListSubjects) -> Result<ListDelegates, Failure> {
    let ListSubjects { object, permission, subject_type, subject_relation, with_relations, within, situation, cursor } =
        asked;
    let not_with = |field: &'static str, value: String| {
        Err(convert::field(field).invalid(value, "means nothing together with `through_delegations`").into())
    };
    if let Some(relation) = subject_relation {
        return not_with("subject_relation", relation.to_string());
    }
    if let Some(root) = within {
        return not_with("within", root.to_string());
    }
    if with_relations {
        return not_with("with_relations", "true".to_owned());
    }
    Ok(ListDelegates { object, permission, subject_type, situation, cursor })
}

pub(super) async fn permissions(
    desk: &Desk,
    request: wire::ListPermissionsRequest,
) -> Result<wire::ListPermissionsResponse, Failure> {
    let wire::ListPermissionsRequest { consistency, object, subject, context, contextual_tuples, acting, clock } =
        request;
    let asked = ListPermissions {
        object: convert::object(convert::field("object"), object)?,
        subject: convert::subject(convert::field("subject"), subject)?,
        acting: convert_acting::acting(acting)?,
        situation: convert::situation(consistency, context, contextual_tuples, clock, desk.limits())?,
    };
    let listed = desk.run(Lane::Read, move |engine, cancel| {
        let PermissionsListed { rows, revision, historical } = engine.list_permissions(&asked, cancel)?;
        let to_row = |PermissionRow { name, is_relation, decision, missing_fields, denial, chain }| {
            let (reason, hop) = to_denial(denial);
            wire::PermissionRow {
                name: name.to_string(),
                is_relation,
                decision: wire::Decision::from(decision).into(),
                missing_context: missing_fields,
                reason,
                hop,
                chain: to_chain(chain),
            }
        };
        Ok(wire::ListPermissionsResponse {
            listed_at: Some(engine.token(revision).into()),
            historical,
            rows: rows.into_iter().map(to_row).collect(),
        })
    });
    listed.await
}

fn deadline<T>(request: &Request<T>) -> Result<tokio::time::Instant, Failure> {
    let deadline = request.extensions().get::<Deadline>().map(|deadline| deadline.0);
    deadline.ok_or_else(|| Failure::internal("a request without a deadline"))
}

fn listing<L: Pages>(
    desk: &Arc<Desk>,
    deadline: tokio::time::Instant,
    first: L::Message,
    lister: L,
    limit: Option<usize>,
) -> Told<L::Message> {
    let desk = Arc::clone(desk);
    told(STREAM_ROWS, |rows| {
        within(Some(deadline), async move {
            if rows.send(first).await.is_err() {
                return Ok(());
            }
            send_rows(&desk, lister, limit, &rows).await
        })
    })
}

/// Sends all rows, or as many as asked for; stops when the caller is gone, in the middle of a page too: a page may take
/// long where few of many candidates are members.
async fn send_rows<L: Pages>(
    desk: &Desk,
    mut lister: L,
    limit: Option<usize>,
    rows: &mpsc::Sender<L::Message>,
) -> Result<(), Failure> {
    let bytes_max = desk.limits().message_bytes_max;
    let mut left = limit.unwrap_or(usize::MAX);
    // Bounded: each page has rows, or is the last.
    while left > 0 {
        let count = left.min(PAGE_ROWS);
        let working = desk.run(Lane::Read, move |_, cancel| {
            let page = lister.page(count, cancel)?;
            Ok((lister, page))
        });
        let (back, page) = tokio::select! {
            done = working => done?,
            () = rows.closed() => return Ok(()),
        };
        lister = back;
        if page.is_empty() {
            return Ok(());
        }
        for message in page.into_iter().take(left) {
            left -= 1;
            if rows.send(fitting(message, bytes_max)?).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Said here and not by the encoder, which would name neither the reason nor the way out.
fn fitting<M: Message>(message: M, bytes_max: usize) -> Result<M, Failure> {
    let bytes = message.encoded_len();
    if bytes <= bytes_max {
        return Ok(message);
    }
    let said = format!("a row would have {bytes} bytes; at most {bytes_max} are allowed");
    Err(Failure::new(Code::ResourceExhausted, "LIMIT_EXCEEDED", said)
        .with_fact("limit", "message_bytes_max")
        .with_fact("max", bytes_max.to_string())
        .with_fact(HINT, "the wildcard has too many exclusions; ask Check about single subjects"))
}
