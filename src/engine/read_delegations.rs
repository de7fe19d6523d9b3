//! GetDelegation and ListDelegations: the records, and what has become of each by now.
//!
//! INVARIANT: a page goes on where the last one stopped, in the order of creation; one that had to look at too many that
//! do not match is short and says where to go on, never short and looking whole.

use super::asked_scope::json_bytes;
use super::chains::chain_of;
use super::cursor::CursorSeal;
use super::narrow_delegation::not_found;
use super::resolve::Resolver;
use super::situation::{Situation, Standing};
use super::{Engine, Error};
use crate::delegation::Chain;
use crate::graph::SubjectKey;
use crate::model::{
    Cancel, Consistency, Delegation, DelegationId, DelegationState, ObjectRef, Revision, SubjectKind, SubjectRef,
    Timestamp,
};
use crate::schema::MemberPlan;
use crate::store::{DelegationsBy, Snapshot};
use std::sync::Arc;

/// Which delegation to read.
#[derive(Debug, Clone)]
pub struct GetDelegation {
    pub id: DelegationId,
    pub consistency: Consistency,
    /// The time, instead of the clock's. Refused unless the engine has a test clock.
    pub clock: Option<Timestamp>,
}

/// A delegation, and what has become of it by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct DelegationSeen {
    pub delegation: Arc<Delegation>,
    pub state: DelegationState,
}

/// A delegation with all above it.
#[derive(Debug, Clone)]
pub struct DelegationRead {
    /// Root first; the last is the one asked for.
    pub chain: Vec<DelegationSeen>,
    /// Its anchors that no live tuple mentions: nothing is at or beneath them now.
    pub dangling: Vec<ObjectRef>,
    pub revision: Revision,
    /// Asked for by an exact token, and not the newest revision.
    pub historical: bool,
}

/// Which delegations to list: those that match all that is given.
#[derive(Debug, Clone, Default)]
pub struct ListDelegations {
    /// Whose chain begins at it.
    pub root: Option<ObjectRef>,
    /// Given to it, as written: a group is not its members.
    pub delegate: Option<SubjectRef>,
    pub delegator: Option<ObjectRef>,
    /// With exactly this object among the anchors.
    pub anchor: Option<ObjectRef>,
    /// Made right under it.
    pub parent: Option<DelegationId>,
    pub state: Option<DelegationState>,
    /// 1 to `page_delegations_max`; `None`: that.
    pub page_size: Option<usize>,
    /// From an earlier page: resumes after it, at a revision not older than its own.
    pub cursor: Option<String>,
    pub consistency: Consistency,
    /// The time, instead of the clock's. Refused unless the engine has a test clock.
    pub clock: Option<Timestamp>,
}

/// One page of delegations, in the order of creation.
#[derive(Debug, Clone)]
pub struct DelegationsPage {
    pub delegations: Vec<DelegationSeen>,
    /// Where the next page begins; `None` at the end.
    pub next_cursor: Option<String>,
    pub revision: Revision,
}

/// Records read at once, and about how many bytes of them make a page full.
const RECORDS: usize = 256;
const PAGE_BYTES: usize = 4 << 20;

impl Engine {
    /// A delegation with the whole chain above it. `DELEGATION_NOT_FOUND` when there is none of that id.
    pub fn get_delegation(&self, request: GetDelegation, cancel: &Cancel) -> Result<DelegationRead, Error> {
        let GetDelegation { id, consistency, clock } = request;
        let standing = self.stand(&Situation { consistency, clock, ..Situation::default() }, cancel)?;
        let (snapshot, now) = (standing.view.snapshot(), standing.view.now());
        let chain = chain_of(snapshot, &id)?.ok_or_else(|| not_found(id))?;
        let mut dangling = Vec::new();
        for anchor in Chain::last(&chain).anchors() {
            if !self.is_mentioned(&standing, anchor)? {
                dangling.push(anchor.clone());
            }
        }
        let chain = chain.delegations().map(|delegation| seen(Arc::new(delegation.clone()), now)).collect();
        Ok(DelegationRead { chain, dangling, revision: standing.revision(), historical: standing.historical })
    }

    /// Whether a live tuple names the object, on either side.
    fn is_mentioned(&self, standing: &Standing, object: &ObjectRef) -> Result<bool, Error> {
        let Standing { in_force, view, newest: _, historical: _, transient } = standing;
        let schema = &in_force.schema;
        let Some(definition) = schema.definition(object.object_type.as_str()) else { return Ok(false) };
        let resolver = Resolver::again(&self.store, in_force, transient);
        let (of, itself) = resolver.itself(&object.object_type)?;
        let Some(number) = self.store.dictionary().number(of, object.id.as_str())? else { return Ok(false) };
        for relation in definition.members.iter().map(|member| member.name()) {
            let (_, member) = resolver.asked_member(&object.object_type, "type", relation, "relation")?;
            if !view.subjects(member, number, None, 1)?.0.is_empty() {
                return Ok(true);
            }
        }
        for definition in schema.definitions() {
            for name in definition.members.iter().map(|member| member.name()) {
                let (_, relation) = resolver.asked_member(&definition.name, "type", name, "relation")?;
                let Some(MemberPlan::Relation(plan)) = in_force.plan.member(relation) else { continue };
                for (kind, member) in plan.forms().iter().copied() {
                    let names_it = match kind {
                        SubjectKind::Plain => member == itself,
                        SubjectKind::Userset => in_force.plan.type_of(member) == Some(of),
                        SubjectKind::Wildcard => false,
                    };
                    let subject = SubjectKey { kind, member, object: number };
                    if names_it && !view.objects(subject, relation, None, 1)?.0.is_empty() {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }

    /// One page of the delegations that match. The cursor of another list, another database or a later revision is
    /// refused.
    pub fn list_delegations(&self, request: ListDelegations, cancel: &Cancel) -> Result<DelegationsPage, Error> {
        let size = self.page_size(request.page_size)?;
        let snapshot = self.pin(&request.consistency)?.snapshot;
        let now = self.now(request.clock)?;
        let revision = snapshot.revision();
        let seal = CursorSeal::new(self.token(revision), &request.scope());
        let mut after = match &request.cursor {
            None => 0,
            Some(text) => u64::from_be_bytes(seal.open(text, revision)?),
        };
        let mut page = DelegationsPage { delegations: Vec::new(), next_cursor: None, revision };
        let (mut looked_at, mut bytes) = (0, 0);
        // Bounded: each round goes on after the one before, and only so many are looked at.
        loop {
            super::refuse_cancelled(cancel)?;
            let records = request.read(&snapshot, after, RECORDS)?;
            let is_last = records.len() < RECORDS;
            for record in records {
                if page.delegations.len() >= size
                    || looked_at >= self.limits.delegations_looked_at_max
                    || bytes >= PAGE_BYTES
                {
                    page.next_cursor = Some(seal.close(revision, &after.to_be_bytes()));
                    return Ok(page);
                }
                looked_at += 1;
                after = record.number;
                if request.matches(&record, now) {
                    bytes += json_bytes(&record);
                    page.delegations.push(seen(record, now));
                }
            }
            if is_last {
                return Ok(page);
            }
        }
    }
}

fn seen(delegation: Arc<Delegation>, now: Timestamp) -> DelegationSeen {
    DelegationSeen { state: delegation.state(now), delegation }
}

impl ListDelegations {
    /// What a cursor must be resumed under.
    fn scope(&self) -> String {
        let ListDelegations {
            root,
            delegate,
            delegator,
            anchor,
            parent,
            state,
            page_size: _,
            cursor: _,
            consistency: _,
            clock: _,
        } = self;
        let state = state.map(DelegationState::as_str);
        let texts = [
            root.as_ref().map(ToString::to_string),
            delegate.as_ref().map(ToString::to_string),
            delegator.as_ref().map(ToString::to_string),
            anchor.as_ref().map(ToString::to_string),
            parent.as_ref().map(ToString::to_string),
            state.map(str::to_owned),
        ];
        let texts = texts.map(|text| text.unwrap_or_else(|| "-".to_owned()));
        format!("delegations {}", texts.join(" "))
    }

    /// The next of those that the narrowest index names. What hangs below one, or at one object, is few.
    fn read(&self, snapshot: &Snapshot, after: u64, max: usize) -> Result<Vec<Arc<Delegation>>, Error> {
        let by = if let Some(parent) = &self.parent {
            Some(DelegationsBy::Parent(parent))
        } else if let Some(anchor) = &self.anchor {
            Some(DelegationsBy::Anchor(anchor))
        } else if let Some(delegator) = &self.delegator {
            Some(DelegationsBy::Delegator(delegator))
        } else if let Some(root) = &self.root {
            Some(DelegationsBy::Root(root))
        } else {
            self.delegate.as_ref().map(DelegationsBy::Delegate)
        };
        Ok(match by {
            Some(by) => snapshot.delegations_by(by, after, max)?,
            None => snapshot.delegations(after, max)?,
        })
    }

    fn matches(&self, record: &Delegation, now: Timestamp) -> bool {
        let ListDelegations {
            root,
            delegate,
            delegator,
            anchor,
            parent,
            state,
            page_size: _,
            cursor: _,
            consistency: _,
            clock: _,
        } = self;
        root.as_ref().is_none_or(|root| record.root == *root)
            && delegate.as_ref().is_none_or(|delegate| record.delegate == *delegate)
            && delegator.as_ref().is_none_or(|delegator| record.delegator == *delegator)
            && anchor.as_ref().is_none_or(|anchor| record.anchors().contains(anchor))
            && parent.is_none_or(|parent| record.parent == Some(parent))
            && state.is_none_or(|state| record.state(now) == state)
    }
}
