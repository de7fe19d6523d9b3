//! The client's lists.
//!
//! INVARIANT: a row whose decision this build does not understand, or that a list never has, is an error.

use super::{Client, ClientError, STREAM_TIME, Under, notes};
use crate::api::convert::{self, Place};
use crate::api::convert_acting::{self, to_acting};
use crate::api::wire;
use crate::engine::{DelegateRow, ExcludedSubject, PermissionRow, ReachedRow, ResourceRow, SubjectRow};
use crate::model::{Acting, Decision, ObjectRef, RelationName, SubjectRef, TypeName};

/// Which part of a list, asked under what.
#[derive(Clone, Debug, Default)]
pub struct ListPage {
    pub under: Under,
    /// Of the last row of an earlier list of the same.
    pub cursor: Option<String>,
    /// 1 to 10,000 rows; `None` is all.
    pub limit: Option<u64>,
}

/// What was listed, besides its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The revision the list is exact at.
    pub token: String,
    /// Whether a newer revision existed.
    pub historical: bool,
}

/// Which objects are listed for a subject.
#[derive(Clone, Debug)]
pub struct ResourcesOf {
    pub object_type: TypeName,
    pub permission: RelationName,
    pub subject: SubjectRef,
    /// For whom the subject asks.
    pub acting: Acting,
    /// Only this object and those beneath it, by `parent` relations.
    pub within: Option<ObjectRef>,
}

/// Which subjects of an object are listed.
#[derive(Clone, Debug)]
pub struct SubjectsOf {
    pub object: ObjectRef,
    pub permission: RelationName,
    pub subject_type: TypeName,
    /// Usersets of this relation or permission instead of plain objects.
    pub subject_relation: Option<RelationName>,
    /// Whether to name the relations whose tuples name each subject.
    pub with_relations: bool,
    /// Only subjects whose object is this one or beneath it, by `parent` relations.
    pub within: Option<ObjectRef>,
}

impl Client {
    /// The objects of a type on which the subject has the permission, in the order of their creation. `each` is given
    /// every row and says whether to go on.
    ///
    /// # Errors
    /// As [`Client::check`]; rows given before the error are right, and the last cursor resumes after them.
    pub fn list_resources(
        &self,
        asked: &ResourcesOf,
        page: ListPage,
        each: &mut dyn FnMut(ResourceRow) -> bool,
    ) -> Result<Listed, ClientError> {
        let request = resources_request(asked, page)?;
        let mut service = self.permissions();
        let mut head = None;
        self.read(service.list_resources(request), &mut |message| {
            let wire::ListResourcesResponse { listed_at, historical, row } = message;
            if listed_at.is_some() {
                head = Some((listed_at, historical));
            }
            row.map_or(Ok(true), |row| Ok(each(resource_row(row)?)))
        })?;
        listed(head)
    }

    /// The subjects that have a permission on an object, in the order of their creation; `type:*` first.
    ///
    /// # Errors
    /// As [`Client::list_resources`].
    pub fn list_subjects(
        &self,
        asked: &SubjectsOf,
        page: ListPage,
        each: &mut dyn FnMut(SubjectRow) -> bool,
    ) -> Result<Listed, ClientError> {
        let SubjectsOf { object, permission, subject_type, subject_relation, with_relations, within } = asked;
        let ListPage { under, cursor, limit } = page;
        let mut request = tonic::Request::new(wire::ListSubjectsRequest {
            consistency: under.at.to_wire(),
            object: Some(object.into()),
            permission: permission.to_string(),
            subject_type: subject_type.to_string(),
            subject_relation: subject_relation.as_ref().map(RelationName::to_string).unwrap_or_default(),
            cursor,
            limit: wire_limit(limit)?,
            with_relations: *with_relations,
            context: notes(&under.context),
            contextual_tuples: under.wire_tuples(),
            clock: under.clock.map(convert::to_timestamp),
            within: within.as_ref().map(Into::into),
            through_delegations: false,
        });
        request.set_timeout(STREAM_TIME);
        let mut service = self.permissions();
        let mut head = None;
        self.read(service.list_subjects(request), &mut |message| {
            let wire::ListSubjectsResponse { listed_at, historical, row } = message;
            if listed_at.is_some() {
                head = Some((listed_at, historical));
            }
            row.map_or(Ok(true), |row| Ok(each(subject_row(row)?)))
        })?;
        listed(head)
    }

    /// Every relation and permission of the object's definition, with its decision.
    ///
    /// # Errors
    /// As [`Client::check`].
    pub fn list_permissions(
        &self,
        object: &ObjectRef,
        subject: &SubjectRef,
        acting: &Acting,
        under: &Under,
    ) -> Result<(Vec<PermissionRow>, Listed), ClientError> {
        let request = wire::ListPermissionsRequest {
            consistency: under.at.to_wire(),
            object: Some(object.into()),
            subject: Some(subject.into()),
            context: notes(&under.context),
            contextual_tuples: under.wire_tuples(),
            acting: to_acting(acting),
            clock: under.clock.map(convert::to_timestamp),
        };
        let mut service = self.permissions();
        let wire::ListPermissionsResponse { listed_at, historical, rows } =
            self.call(async { service.list_permissions(request).await })?;
        let from_row = |row: wire::PermissionRow| {
            let wire::PermissionRow { name, is_relation, decision, missing_context, reason, hop, chain } = row;
            Ok::<_, ClientError>(PermissionRow {
                name: convert::relation_name(convert::field("name"), name)?,
                is_relation,
                decision: convert::decision(convert::field("decision"), decision)?,
                missing_fields: missing_context,
                denial: convert_acting::denial(Place::Message, (reason, hop))?,
                chain: convert_acting::chain(convert::field("chain"), chain)?,
            })
        };
        let rows = rows.into_iter().map(from_row).collect::<Result<_, _>>()?;
        Ok((rows, listed(Some((listed_at, historical)))?))
    }
}

impl Client {
    /// Reads a stream to its end, or until `each` says to stop.
    fn read<M>(
        &self,
        opened: impl Future<Output = Result<tonic::Response<tonic::Streaming<M>>, tonic::Status>>,
        each: &mut dyn FnMut(M) -> Result<bool, ClientError>,
    ) -> Result<(), ClientError> {
        self.block_on(async {
            let mut stream = opened.await.map_err(|status| self.failed(&status))?.into_inner();
            while let Some(message) = stream.message().await.map_err(|status| self.failed(&status))? {
                if !each(message)? {
                    break;
                }
            }
            Ok(())
        })
    }
}

pub(super) fn resources_request(
    asked: &ResourcesOf,
    page: ListPage,
) -> Result<tonic::Request<wire::ListResourcesRequest>, ClientError> {
    let ResourcesOf { object_type, permission, subject, acting, within } = asked;
    let ListPage { under, cursor, limit } = page;
    let mut request = tonic::Request::new(wire::ListResourcesRequest {
        consistency: under.at.to_wire(),
        object_type: object_type.to_string(),
        permission: permission.to_string(),
        subject: Some(subject.into()),
        cursor,
        limit: wire_limit(limit)?,
        context: notes(&under.context),
        contextual_tuples: under.wire_tuples(),
        clock: under.clock.map(convert::to_timestamp),
        within: within.as_ref().map(Into::into),
        acting: to_acting(acting),
    });
    request.set_timeout(STREAM_TIME);
    Ok(request)
}

fn excluded(one: wire::ExcludedSubject) -> Result<ExcludedSubject, ClientError> {
    let wire::ExcludedSubject { subject, decision, missing_context } = one;
    Ok(ExcludedSubject {
        subject: convert::subject(convert::field("exclusions"), subject)?,
        decision: convert::decision(convert::field("exclusions"), decision)?,
        missing_fields: missing_context,
    })
}

fn delegate_row(row: wire::SubjectRow) -> Result<DelegateRow, ClientError> {
    let wire::SubjectRow { subject, decision, missing_context, exclusions, relations: _, cursor, chain } = row;
    Ok(DelegateRow {
        subject: convert::subject(convert::field("subject"), subject)?,
        chain: convert_acting::chain(convert::field("chain"), chain)?,
        decision: granting(convert::field("decision"), decision)?,
        missing: missing_context,
        exclusions: exclusions.into_iter().map(excluded).collect::<Result<_, _>>()?,
        cursor,
    })
}

impl Client {
    /// Who may do something on an object by a delegation, and by which; by delegation, in the order of creation.
    ///
    /// # Errors
    /// As [`Client::list_resources`].
    pub fn list_delegates(
        &self,
        (object, permission, subject_type): (&ObjectRef, &RelationName, &TypeName),
        page: ListPage,
        each: &mut dyn FnMut(DelegateRow) -> bool,
    ) -> Result<Listed, ClientError> {
        let ListPage { under, cursor, limit } = page;
        let mut request = tonic::Request::new(wire::ListSubjectsRequest {
            consistency: under.at.to_wire(),
            object: Some(object.into()),
            permission: permission.to_string(),
            subject_type: subject_type.to_string(),
            subject_relation: String::new(),
            cursor,
            limit: wire_limit(limit)?,
            with_relations: false,
            context: notes(&under.context),
            contextual_tuples: under.wire_tuples(),
            clock: under.clock.map(convert::to_timestamp),
            within: None,
            through_delegations: true,
        });
        request.set_timeout(STREAM_TIME);
        let mut service = self.permissions();
        let mut head = None;
        self.read(service.list_subjects(request), &mut |message| {
            let wire::ListSubjectsResponse { listed_at, historical, row } = message;
            if listed_at.is_some() {
                head = Some((listed_at, historical));
            }
            row.map_or(Ok(true), |row| Ok(each(delegate_row(row)?)))
        })?;
        listed(head)
    }
}

impl Client {
    /// All that a principal can reach now, by each authority; and whether it is suspended, so that it is nothing. `each` is
    /// given every row and says whether to go on.
    ///
    /// # Errors
    /// As [`Client::list_resources`].
    pub fn blast_radius(
        &self,
        principal: &ObjectRef,
        under: &Under,
        each: &mut dyn FnMut(ReachedRow) -> bool,
    ) -> Result<(Listed, bool), ClientError> {
        let mut request = tonic::Request::new(wire::BlastRadiusRequest {
            consistency: under.at.to_wire(),
            principal: Some(principal.into()),
            context: notes(&under.context),
            contextual_tuples: under.wire_tuples(),
            clock: under.clock.map(convert::to_timestamp),
        });
        request.set_timeout(STREAM_TIME);
        let mut service = self.permissions();
        let (mut head, mut is_suspended) = (None, false);
        self.read(service.blast_radius(request), &mut |message| {
            let wire::BlastRadiusResponse { listed_at, row, suspended } = message;
            is_suspended |= suspended;
            if listed_at.is_some() {
                head = Some((listed_at, false));
            }
            row.map_or(Ok(true), |row| Ok(each(reached_row(row)?)))
        })?;
        Ok((listed(head)?, is_suspended))
    }
}

fn reached_row(row: wire::ReachedRow) -> Result<ReachedRow, ClientError> {
    let wire::ReachedRow { chain, permission, object, decision, missing_context } = row;
    Ok(ReachedRow {
        chain: convert_acting::chain(convert::field("chain"), chain)?,
        permission: convert::relation_name(convert::field("permission"), permission)?,
        object: convert::object(convert::field("object"), object)?,
        decision: granting(convert::field("decision"), decision)?,
        missing: missing_context,
    })
}

fn listed(head: Option<(Option<wire::ConsistencyToken>, bool)>) -> Result<Listed, ClientError> {
    let (token, historical) = head.unwrap_or_default();
    Ok(Listed { token: convert::token_text(convert::field("listed_at"), token)?, historical })
}

pub(super) fn wire_limit(limit: Option<u64>) -> Result<Option<u32>, ClientError> {
    limit.map(|rows| u32::try_from(rows).map_err(|_| ClientError::beyond("limit", rows))).transpose()
}

/// A row's decision. A list has no deny.
fn granting(place: Place<'_>, given: i32) -> Result<Decision, ClientError> {
    match convert::decision(place, given)? {
        Decision::Deny => Err(ClientError::reply("a list came back with a denied row".to_owned())),
        decision @ (Decision::Allow | Decision::Conditional) => Ok(decision),
    }
}

pub(super) fn resource_row(row: wire::ResourceRow) -> Result<ResourceRow, ClientError> {
    let wire::ResourceRow { object, decision, missing_context, cursor, reason, hop, chain } = row;
    Ok(ResourceRow {
        object: convert::object(convert::field("object"), object)?,
        decision: granting(convert::field("decision"), decision)?,
        missing_fields: missing_context,
        denial: convert_acting::denial(Place::Message, (reason, hop))?,
        chain: convert_acting::chain(convert::field("chain"), chain)?,
        cursor,
    })
}

fn subject_row(row: wire::SubjectRow) -> Result<SubjectRow, ClientError> {
    let wire::SubjectRow { subject, decision, missing_context, exclusions, relations, cursor, chain } = row;
    if !chain.is_empty() {
        return Err(ClientError::reply("a row through a delegation came in a list without".to_owned()));
    }
    let member = |one| Ok::<_, ClientError>(convert::member(convert::field("relations"), one)?);
    Ok(SubjectRow {
        subject: convert::subject(convert::field("subject"), subject)?,
        decision: granting(convert::field("decision"), decision)?,
        missing_fields: missing_context,
        exclusions: exclusions.into_iter().map(excluded).collect::<Result<_, _>>()?,
        relations: relations.into_iter().map(member).collect::<Result<_, _>>()?,
        cursor,
    })
}
