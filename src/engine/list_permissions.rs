//! ListPermissions: what may this subject do here? Every relation and permission of the object's definition, in the
//! schema's order, each with what Check says of it, all at one revision.

use super::acting::{Authority, Keep, judge_acting};
use super::check::decided;
use super::effect::{Here, Judged};
use super::resolve::{Resolver, refused};
use super::situation::{Situation, Standing};
use super::{Engine, Error};
use crate::model::{Acting, Cancel, ChainLink, Decision, Denial, ObjectRef, RelationName, Revision, SubjectRef};
use crate::schema::{Member, Side};
use crate::walk::Budget;

/// What is listed.
#[derive(Debug, Clone)]
pub struct ListPermissions {
    pub object: ObjectRef,
    /// Never a wildcard.
    pub subject: SubjectRef,
    /// For whom the subject asks.
    pub acting: Acting,
    pub situation: Situation,
}

/// One relation or permission, and what Check says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PermissionRow {
    pub name: RelationName,
    /// A relation, which tuples are written to, rather than a permission.
    pub is_relation: bool,
    pub decision: Decision,
    /// Context fields that could still decide a conditional answer.
    pub missing_fields: Vec<String>,
    /// Why it is no allow: of a suspended subject, and when it acts for another.
    pub denial: Option<Denial>,
    /// The chain by which it was found, root first, when the subject acts for another.
    pub chain: Vec<ChainLink>,
}

/// All of a definition, and the revision it holds at.
#[derive(Debug, Clone)]
pub struct PermissionsListed {
    pub rows: Vec<PermissionRow>,
    pub revision: Revision,
    /// Asked for by an exact token, and not the newest revision.
    pub historical: bool,
}

impl Engine {
    /// Lists them. The work is bounded as a whole, as one question's is.
    pub fn list_permissions(&self, request: &ListPermissions, cancel: &Cancel) -> Result<PermissionsListed, Error> {
        let ListPermissions { object, subject, acting, situation } = request;
        judge_acting(acting, situation)?;
        let standing = self.stand(situation, cancel)?;
        let Standing { in_force, view, newest: _, historical, transient } = &standing;
        let (revision, context) = (standing.revision(), &situation.context);
        let mut resolver = Resolver::again(&self.store, in_force, transient);
        let definition = in_force
            .schema
            .resolve_type(Side::Object, &object.object_type)
            .map_err(|refusal| refused(&refusal, "object.type"))?;
        let mut budget = Budget::new(&self.limits, cancel.clone());
        let keeping = (context, Keep::Answers);
        let mut authority = Authority::of(&standing, &mut resolver, (subject, acting), keeping, &mut budget)?;
        let mut rows = Vec::with_capacity(definition.members.len());
        for member in &definition.members {
            let node = resolver.asked_node(object, member.name())?;
            let here = Here { in_force, view, resolver: &resolver, context };
            let Judged { membership, missing, denial, by, valid_until: _, trail: _ } =
                authority.judge(here, node, &mut budget, false)?;
            let is_relation = match member {
                Member::Relation(_) => true,
                Member::Permission(_) => false,
            };
            rows.push(PermissionRow {
                name: member.name().clone(),
                is_relation,
                decision: decided(membership),
                missing_fields: missing,
                denial,
                chain: authority.shown(by),
            });
        }
        Ok(PermissionsListed { rows, revision, historical: *historical })
    }
}
