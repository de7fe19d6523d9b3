//! SuspendPrincipal, ReinstatePrincipal and ListSuspended: the kill switch. One write, and the principal is denied as root,
//! link and caller, alone and delegated, until it is reinstated.

use super::cursor::CursorSeal;
use super::resolve::refused;
use super::{Engine, Error, Metadata};
use crate::model::{Consistency, ObjectRef, Precondition, Revision, Suspension};
use crate::schema::Side;
use crate::store::Change;

/// Whom to suspend.
#[derive(Debug, Clone)]
pub struct SuspendPrincipal {
    /// Suspending a group does not touch its members.
    pub principal: ObjectRef,
    /// Why, in the words of whoever suspends it; kept with the suspension.
    pub reason: String,
    /// Judged inside the commit.
    pub preconditions: Vec<Precondition>,
    pub metadata: Metadata,
}

/// Whose suspension to end.
#[derive(Debug, Clone)]
pub struct ReinstatePrincipal {
    pub principal: ObjectRef,
    /// Judged inside the commit.
    pub preconditions: Vec<Precondition>,
    pub metadata: Metadata,
}

/// What a suspension or its end came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SuspensionChanged {
    /// Whether it was otherwise before.
    pub changed: bool,
    pub revision: Revision,
}

/// Who is suspended.
#[derive(Debug, Clone, Default)]
pub struct ListSuspended {
    /// 1 to `page_delegations_max`; `None`: that.
    pub page_size: Option<usize>,
    /// From an earlier page: resumes after it, at a revision not older than its own.
    pub cursor: Option<String>,
    pub consistency: Consistency,
}

/// One page of suspensions, in the order of the principals' text.
#[derive(Debug, Clone)]
pub struct SuspendedPage {
    pub suspensions: Vec<Suspension>,
    /// Where the next page begins; `None` at the end.
    pub next_cursor: Option<String>,
    pub revision: Revision,
}

impl Engine {
    /// Suspends a principal. Again, it changes nothing: the first time and reason stand.
    pub fn suspend_principal(&self, request: SuspendPrincipal) -> Result<SuspensionChanged, Error> {
        let SuspendPrincipal { principal, reason, preconditions, metadata } = request;
        self.bound_text("reason", &reason)?;
        let metadata = self.metadata(&metadata)?;
        let committed = self.commit(|in_force| {
            let known = in_force.schema.resolve_type(Side::Subject, &principal.object_type);
            known.map_err(|refusal| refused(&refusal, "principal.type"))?;
            let change = Change::Suspend { principal: principal.clone(), reason: reason.clone() };
            self.commit_of(in_force, &preconditions, &metadata, change)
        })?;
        Ok(SuspensionChanged { changed: committed.changed > 0, revision: committed.revision })
    }

    /// Ends a suspension. Who is not suspended stays so.
    pub fn reinstate_principal(&self, request: ReinstatePrincipal) -> Result<SuspensionChanged, Error> {
        let ReinstatePrincipal { principal, preconditions, metadata } = request;
        self.judge_ever_known(&principal.object_type, "principal.type")?;
        let metadata = self.metadata(&metadata)?;
        let committed = self.commit(|in_force| {
            self.commit_of(in_force, &preconditions, &metadata, Change::Reinstate { principal: principal.clone() })
        })?;
        Ok(SuspensionChanged { changed: committed.changed > 0, revision: committed.revision })
    }

    /// Who is suspended, since when and why.
    pub fn list_suspended(&self, request: ListSuspended) -> Result<SuspendedPage, Error> {
        let ListSuspended { page_size, cursor, consistency } = request;
        let size = self.page_size(page_size)?;
        let snapshot = self.pin(&consistency)?.snapshot;
        let revision = snapshot.revision();
        let seal = CursorSeal::new(self.token(revision), "suspended");
        let after = match &cursor {
            None => None,
            Some(text) => Some(seal.open_text(text, revision)?),
        };
        let mut suspensions = snapshot.suspensions(after.as_ref(), size + 1)?;
        let more = suspensions.len() > size;
        suspensions.truncate(size);
        let last = suspensions.last().filter(|_| more);
        let next_cursor = last.map(|last| seal.close(revision, last.principal.to_string().as_bytes()));
        Ok(SuspendedPage { suspensions, next_cursor, revision })
    }

    /// How many rows a page may have.
    pub(super) fn page_size(&self, asked: Option<usize>) -> Result<usize, Error> {
        let most = self.limits.page_delegations_max;
        match asked {
            None => Ok(most),
            Some(size) if (1..=most).contains(&size) => Ok(size),
            Some(size) => Err(Error::invalid("page_size", &size.to_string(), format!("not between 1 and {most}"))),
        }
    }
}
