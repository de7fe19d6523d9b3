//! ListPermissions: what may this subject do here? Every relation and permission of the object's definition, in the
//! schema's order, each with what Check says of it, all at one revision.

use super::check::decided;
use super::resolve::{Resolver, refused};
use super::situation::{Situation, Standing};
use super::{Engine, Error};
use crate::model::{Cancel, Decision, ObjectRef, RelationName, Revision, SubjectRef};
use crate::schema::{Member, Side};
use crate::walk::{Asker, Budget};

/// What is listed.
#[derive(Debug, Clone)]
pub struct ListPermissions {
    pub object: ObjectRef,
    /// Never a wildcard.
    pub subject: SubjectRef,
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
        let ListPermissions { object, subject, situation } = request;
        let Standing { in_force, view, historical, transient } = self.stand(situation, cancel)?;
        let revision = view.snapshot().revision();
        let mut resolver = Resolver::again(&self.store, &in_force, &transient);
        let definition = in_force
            .schema
            .resolve_type(Side::Object, &object.object_type)
            .map_err(|refusal| refused(&refusal, "object.type"))?;
        let mut asker = Asker::new(resolver.asked_subject(subject)?, situation.context.clone());
        let mut budget = Budget::new(&self.limits, cancel.clone());
        let mut rows = Vec::with_capacity(definition.members.len());
        for member in &definition.members {
            let node = resolver.asked_node(object, member.name())?;
            let (membership, missing_fields) =
                asker.ask_why(&in_force.plan, &view, node, &mut budget).map_err(|error| resolver.told(error))?;
            let is_relation = match member {
                Member::Relation(_) => true,
                Member::Permission(_) => false,
            };
            rows.push(PermissionRow {
                name: member.name().clone(),
                is_relation,
                decision: decided(membership),
                missing_fields,
            });
        }
        Ok(PermissionsListed { rows, revision, historical })
    }
}
