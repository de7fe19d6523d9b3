//! CreateDelegation: bounded, every name one that the schema knows, within the law; then the committer judges whether what
//! was read is still so.
//!
//! INVARIANT: an idempotency key answers with what was made under it, before anything else is judged. Whoever delegates
//! more than it has is told, and no check is spared by that: what counts is the intersection at each use.

use super::acting::delegate_has;
use super::asked_scope::{AskedItem, bounded, freeze, judge_principal, refusal_of, refused_by_law};
use super::chains::chain_of;
use super::resolve::{Resolver, refused};
use super::situation::{Situation, Standing};
use super::{DelegationWarning, Engine, Error, Kind, Metadata};
use crate::delegation::{Chain, Grant, GrantLimits, Parent};
use crate::model::{
    AskedPermissions, Cancel, Delegation, DelegationId, Membership, ObjectRef, Precondition, RefusalReason, Revision,
    SubjectFilter, SubjectIdFilter, SubjectRef, SubjectRelationFilter, Timestamp, TupleFilter,
};
use crate::schema::Side;
use crate::store::{self, Change, Commit, Idempotency, Idempotent, NewDelegation};
use crate::walk::Budget;
use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// What is to be delegated, by whom, to whom, for how long.
#[derive(Debug, Clone)]
pub struct CreateDelegation {
    pub delegator: ObjectRef,
    /// An object, or a userset whose members may act. Never a wildcard.
    pub delegate: SubjectRef,
    /// At least one, none twice.
    pub items: Vec<AskedItem>,
    /// The delegation by which the delegator itself acts for another. `None`: it delegates what is its own.
    pub parent: Option<DelegationId>,
    /// `None`: from now on.
    pub not_before: Option<Timestamp>,
    pub end: DelegationEnd,
    /// How many further delegations may follow one another below it.
    pub redelegate: u32,
    /// Why, in the issuer's words; kept with the record.
    pub purpose: String,
    /// The authenticated caller; empty where callers are not authenticated.
    pub issued_by: String,
    /// Kept with the record and with the commit.
    pub metadata: Metadata,
    /// Whether what is wider than the parent, or than what the delegator has, is refused rather than warned of.
    pub strict: bool,
    /// Under the same key the same request returns the same delegation for 24 hours, and another is refused.
    pub idempotency_key: Option<Vec<u8>>,
    /// Judged inside the commit.
    pub preconditions: Vec<Precondition>,
    /// The time, instead of the clock's. Refused unless the engine has a test clock.
    pub clock: Option<Timestamp>,
}

/// When a delegation is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DelegationEnd {
    /// From this instant on.
    At(Timestamp),
    /// So long after it is made, or after it begins if that is later.
    After(Duration),
}

/// A delegation that is made.
#[derive(Debug, Clone)]
pub struct CreatedDelegation {
    pub delegation: Arc<Delegation>,
    /// What its issuer probably did not mean, by the state now.
    pub warnings: Vec<DelegationWarning>,
    /// Of the commit; of the state in which it was found, when its key had been used already.
    pub revision: Revision,
}

/// How often a request is judged again because what it was judged by changed under it.
const DELEGATION_RETRIES: usize = 8;
/// The most that may be allowed of a chain's depth.
const DEPTH_MAX: u32 = 16;

impl DelegationEnd {
    /// The instant meant, of a delegation that is made at `created_at`.
    pub(super) fn of(self, not_before: Timestamp, created_at: Timestamp) -> Timestamp {
        match self {
            DelegationEnd::At(at) => at,
            DelegationEnd::After(duration) => not_before.max(created_at).plus(duration),
        }
    }

    /// The request's field.
    pub(super) fn field(self) -> &'static str {
        match self {
            DelegationEnd::At(_) => "expires_at",
            DelegationEnd::After(_) => "expires_after",
        }
    }
}

impl Engine {
    /// Makes a delegation. When it returns, every later question sees it and no crash loses it. Nothing is written on any
    /// error. A refusal by the law has one of the reasons of `RefusalReason`.
    pub fn create_delegation(&self, request: CreateDelegation, cancel: &Cancel) -> Result<CreatedDelegation, Error> {
        self.bound_items(&request.items)?;
        self.bound_text("purpose", &request.purpose)?;
        let metadata = self.metadata(&request.metadata)?;
        if let SubjectRef::Wildcard(_) = &request.delegate {
            let message =
                "a wildcard is everybody, to whom nothing can be delegated; name an object, or a group's members";
            return Err(Error::invalid("delegate", &request.delegate.to_string(), message));
        }
        let idempotency = match &request.idempotency_key {
            None => None,
            Some(key) => {
                if key.is_empty() {
                    return Err(Error::invalid("idempotency_key", "", "empty").with_hint("leave it out instead"));
                }
                let most = self.limits.idempotency_key_bytes_max;
                bounded("idempotency_key", key.len(), "idempotency_key_bytes_max", most, "bytes")?;
                Some(Idempotency { key: key.as_slice().into(), digest: request.digest() })
            }
        };
        again(|| self.judge_and_create(&request, idempotency.as_ref(), &metadata, cancel))
    }

    fn judge_and_create(
        &self,
        request: &CreateDelegation,
        idempotency: Option<&Idempotency>,
        metadata: &[u8],
        cancel: &Cancel,
    ) -> Result<CreatedDelegation, Error> {
        let standing = self.stand(&Situation { clock: request.clock, ..Situation::default() }, cancel)?;
        let Standing { in_force, view, newest: _, historical: _, transient: _ } = &standing;
        if let Some(record) = self.made_before(&standing, idempotency)? {
            let chain = record.parent.map(|id| chain_of(view.snapshot(), &id)).transpose()?.flatten();
            let warnings = self.warnings(&standing, request, &record, chain.as_ref(), cancel)?;
            return Ok(CreatedDelegation { delegation: record, warnings, revision: standing.revision() });
        }
        let delegator_type = in_force.schema.resolve_type(Side::Subject, &request.delegator.object_type);
        delegator_type.map_err(|refusal| refused(&refusal, "delegator.type"))?;
        judge_principal(in_force, &request.delegate, "delegate")?;
        let items = freeze(in_force, &request.items)?;
        self.judge_preconditions(in_force, &request.preconditions)?;
        let now = view.now();
        let not_before = request.not_before.unwrap_or(now);
        let grant = Grant {
            id: drawn()?,
            delegator: request.delegator.clone(),
            delegate: request.delegate.clone(),
            items,
            not_before,
            expires_at: request.end.of(not_before, now),
            redelegate: request.redelegate,
            purpose: request.purpose.clone(),
            issued_by: request.issued_by.clone(),
            metadata: request.metadata.clone(),
        };
        let chain = request.parent.map(|id| self.parent_chain(&standing, id)).transpose()?;
        let parent = match &chain {
            None => None,
            Some(chain) => {
                let membership = self.membership(&standing, &request.delegator, &chain.last().delegate, cancel)?;
                Some(Parent { chain, membership })
            }
        };
        let record = grant.judge(parent, now, self.grant_limits()).map_err(|mut refusal| {
            if refusal.field == "expires_at" {
                request.end.field().clone_into(&mut refusal.field);
            }
            refused_by_law(&refusal)
        })?;
        self.bound_record(&record)?;
        let warnings = self.warnings(&standing, request, &record, chain.as_ref(), cancel)?;
        if request.strict {
            refuse_over_broad(&warnings)?;
        }
        let read = chain.iter().flat_map(Chain::delegations).map(|link| (link.id, link.version)).collect();
        let new = NewDelegation { record, chain: read, idempotency: idempotency.cloned(), clock: request.clock };
        let committed = self.commit_once(Commit {
            schema_revision: in_force.revision,
            parents: in_force.parents.clone(),
            preconditions: request.preconditions.clone(),
            precondition_rows_max: self.limits.precondition_rows_max,
            change: Change::CreateDelegation(Box::new(new)),
            metadata: metadata.into(),
            only_judge: false,
        })?;
        let delegation = committed.delegation.ok_or_else(without_record)?;
        Ok(CreatedDelegation { delegation, warnings, revision: committed.revision })
    }

    /// What was made under the request's key, as long as that holds.
    fn made_before(
        &self,
        standing: &Standing,
        idempotency: Option<&Idempotency>,
    ) -> Result<Option<Arc<Delegation>>, Error> {
        let (snapshot, now) = (standing.view.snapshot(), standing.view.now());
        let Some(Idempotency { key, digest }) = idempotency else { return Ok(None) };
        let Some(before) = snapshot.idempotent(key)?.filter(|before| Idempotent::holds(before, now)) else {
            return Ok(None);
        };
        if before.digest != *digest {
            return Err(store::Error::IdempotencyKeyUsed.into());
        }
        let record = snapshot.delegation_by_number(before.number)?;
        record.map(Some).ok_or_else(|| store::Error::Corrupt("a key whose delegation is missing".to_owned()).into())
    }

    fn parent_chain(&self, standing: &Standing, id: DelegationId) -> Result<Chain, Error> {
        let chain = chain_of(standing.view.snapshot(), &id)?;
        chain.ok_or_else(|| Error::from(store::Error::NoDelegation(id)).with_fact("field", "parent"))
    }

    /// Whether somebody is a delegation's delegate, or in it, now.
    fn membership(
        &self,
        standing: &Standing,
        who: &ObjectRef,
        delegate: &SubjectRef,
        cancel: &Cancel,
    ) -> Result<Membership, Error> {
        let mut resolver = Resolver::again(&self.store, &standing.in_force, &standing.transient);
        let mut budget = Budget::new(&self.limits, cancel.clone());
        let found = delegate_has(standing, &mut resolver, (who, delegate), &Metadata::new(), &mut budget)?;
        found.fault.map_or(Ok(found.membership), Err)
    }

    /// What bounds every delegation.
    pub(super) fn grant_limits(&self) -> GrantLimits {
        GrantLimits {
            depth_max: self.limits.delegation_depth_max.min(DEPTH_MAX),
            lifetime_max: Some(Duration::from_secs(self.limits.delegation_lifetime_max_s)),
        }
    }
}

/// Judges a request again while what it was judged by changes under it; at last the reason why it could not be.
pub(super) fn again<T>(judge: impl Fn() -> Result<T, Error>) -> Result<T, Error> {
    let mut judged = judge();
    for _ in 1..DELEGATION_RETRIES {
        match &judged {
            Err(error) if matches!(error.reason, "SCHEMA_CHANGED" | "DELEGATION_CHANGED") => judged = judge(),
            Ok(_) | Err(_) => break,
        }
    }
    judged
}

/// A new id.
pub(super) fn drawn() -> Result<DelegationId, Error> {
    let mut bytes = [0; 16];
    let filled = aws_lc_rs::rand::fill(&mut bytes);
    filled.map_err(|_| Error::from(store::Error::Storage("no random numbers to be had".to_owned())))?;
    Ok(DelegationId(bytes))
}

/// A commit about one delegation that returned none: no version does.
pub(super) fn without_record() -> Error {
    Error::new(Kind::Internal, "INTERNAL", "an internal error").with_detail("a commit without its delegation")
}

fn refuse_over_broad(warnings: &[DelegationWarning]) -> Result<(), Error> {
    let broad: Vec<&DelegationWarning> = warnings.iter().filter(|warning| warning.kind.is_over_broad()).collect();
    let Some(first) = broad.first() else { return Ok(()) };
    let others = match broad.len() {
        1 => String::new(),
        count => format!("; and {} more", count - 1),
    };
    let message = format!("{}{others}", first.message);
    Err(refusal_of(RefusalReason::OverBroad, &first.field, first.kind.as_str(), &message)
        .with_hint("ask for less, or without `strict`, which warns and leaves it to each use"))
}

impl CreateDelegation {
    /// SHA-256 of the request as it came, but for its key and its clock.
    fn digest(&self) -> [u8; 32] {
        let CreateDelegation {
            delegator,
            delegate,
            items,
            parent,
            not_before,
            end,
            redelegate,
            purpose,
            issued_by,
            metadata,
            strict,
            idempotency_key: _,
            preconditions,
            clock: _,
        } = self;
        let items: Vec<Value> = items.iter().map(item_json).collect();
        let end = match end {
            DelegationEnd::At(at) => json!({"at": at.to_string()}),
            DelegationEnd::After(duration) => json!({"after": [duration.as_secs(), duration.subsec_nanos()]}),
        };
        let preconditions: Vec<Value> = preconditions.iter().map(precondition_json).collect();
        // Keys of objects are sorted, so the same request is always the same text.
        let text = json!({
            "delegator": delegator.to_string(),
            "delegate": delegate.to_string(),
            "items": items,
            "parent": parent.map(|id| id.to_string()),
            "not_before": not_before.map(|at| at.to_string()),
            "end": end,
            "redelegate": redelegate,
            "purpose": purpose,
            "issued_by": issued_by,
            "metadata": metadata,
            "strict": strict,
            "preconditions": preconditions,
        });
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, text.to_string().as_bytes()).as_ref());
        bytes
    }
}

fn item_json(item: &AskedItem) -> Value {
    let AskedItem { permissions, within, caveat } = item;
    let permissions = match permissions {
        AskedPermissions::All => Value::Null,
        AskedPermissions::Named(names) => names.iter().map(ToString::to_string).collect(),
    };
    let within: Vec<String> = within.iter().map(ToString::to_string).collect();
    let caveat = caveat.as_ref().map(|caveat| json!([caveat.name.as_str(), caveat.context]));
    json!([permissions, within, caveat])
}

fn precondition_json(precondition: &Precondition) -> Value {
    let (must_match, filter) = match precondition {
        Precondition::MustMatch(filter) => (true, filter),
        Precondition::MustNotMatch(filter) => (false, filter),
    };
    let TupleFilter { object_type, object_id, relation, subject, within } = filter;
    let subject = subject.as_ref().map(|SubjectFilter { subject_type, id, relation }| {
        let id = id.as_ref().map(|id| match id {
            SubjectIdFilter::Id(id) => id.as_str(),
            SubjectIdFilter::Wildcard => "*",
        });
        let relation = match relation {
            SubjectRelationFilter::Any => None,
            SubjectRelationFilter::Plain => Some("..."),
            SubjectRelationFilter::Relation(relation) => Some(relation.as_str()),
        };
        json!([subject_type.as_str(), id, relation])
    });
    json!([
        must_match,
        object_type.as_ref().map(|name| name.as_str()),
        object_id.as_ref().map(|id| id.as_str()),
        relation.as_ref().map(|name| name.as_str()),
        subject,
        within.as_ref().map(ToString::to_string),
    ])
}
