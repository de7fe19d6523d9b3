//! The items of a scope as a request names them, judged with the schema and frozen under it.
//!
//! INVARIANT: what comes out names only what the schema in force has, and holds what was meant by it under that schema.

use super::resolve::refused;
use super::schemas::InForce;
use super::{Engine, Error, Kind};
use crate::delegation;
use crate::model::{
    AskedPermissions, Delegation, ObjectRef, RefusalReason, ScopeItem, SubjectRef, TupleCaveat, TypeName,
};
use crate::schema::{Refusal, Side, Unfrozen};

/// One item of a scope as it is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct AskedItem {
    pub permissions: AskedPermissions,
    /// The anchors.
    pub within: Vec<ObjectRef>,
    pub caveat: Option<TupleCaveat>,
}

impl Engine {
    /// Whether there is not too much of it.
    pub(super) fn bound_items(&self, items: &[AskedItem]) -> Result<(), Error> {
        let limits = &self.limits;
        bounded("items", items.len(), "delegation_items_max", limits.delegation_items_max, "items")?;
        for (index, AskedItem { permissions, within, caveat: _ }) in items.iter().enumerate() {
            let most = limits.delegation_anchors_max;
            bounded(&format!("items[{index}].within"), within.len(), "delegation_anchors_max", most, "objects")?;
            if let AskedPermissions::Named(names) = permissions {
                let (field, most) = (format!("items[{index}].permissions"), limits.delegation_permissions_max);
                bounded(&field, names.len(), "delegation_permissions_max", most, "names")?;
            }
        }
        Ok(())
    }

    /// Whether a text that travels with a record is short enough.
    pub(super) fn bound_text(&self, field: &'static str, text: &str) -> Result<(), Error> {
        bounded(field, text.len(), "purpose_bytes_max", self.limits.purpose_bytes_max, "bytes")
    }

    /// Whether a record is small enough to travel.
    pub(super) fn bound_record(&self, record: &Delegation) -> Result<(), Error> {
        bounded("items", json_bytes(record), "delegation_bytes_max", self.limits.delegation_bytes_max, "bytes as JSON")
            .map_err(|error| error.with_hint("name fewer permissions or objects, or make several delegations"))
    }
}

/// How large a record is as JSON.
pub(super) fn json_bytes(record: &Delegation) -> usize {
    // A record is always JSON; what is not would be refused by the store.
    serde_json::to_vec(record).map_or(0, |bytes| bytes.len())
}

/// Whether a field holds at most so much.
pub(super) fn bounded(
    field: &str,
    found: usize,
    limit: &'static str,
    most: usize,
    unit: &'static str,
) -> Result<(), Error> {
    if found <= most {
        return Ok(());
    }
    let message = format!("`{field}` holds {found} {unit}; at most {most} are allowed");
    Err(Error::new(Kind::ResourceExhausted, "LIMIT_EXCEEDED", message)
        .with_fact("field", field)
        .with_fact("limit", limit)
        .with_fact("max", most.to_string()))
}

/// Whether the schema knows a principal, whose field is named. A userset's relation is a name as one of a scope is.
pub(super) fn judge_principal(in_force: &InForce, principal: &SubjectRef, field: &str) -> Result<(), Error> {
    in_force.schema.resolve_subject(principal).map_err(|refusal| match refusal {
        Refusal::UnknownRelation { .. } => {
            let (field, hint) = (format!("{field}.relation"), refusal.hint());
            let value = match principal {
                SubjectRef::Userset(_, relation) => relation.to_string(),
                SubjectRef::Object(_) | SubjectRef::Wildcard(_) => principal.to_string(),
            };
            refusal_of(RefusalReason::UnknownPermission, &field, &value, &refusal.to_string()).hint_if(hint)
        }
        Refusal::UnknownType { .. }
        | Refusal::NotARelation { .. }
        | Refusal::SubjectNotAllowed { .. }
        | Refusal::UnknownCaveat { .. }
        | Refusal::ContextNotAllowed { .. }
        | Refusal::NotAPermission { .. } => refused(&refusal, format!("{field}.object.type")),
    })
}

/// The items with their permissions frozen, each name known to the schema.
pub(super) fn freeze(in_force: &InForce, items: &[AskedItem]) -> Result<Vec<ScopeItem>, Error> {
    items.iter().enumerate().map(|(index, item)| freeze_item(in_force, item, &format!("items[{index}]"))).collect()
}

fn freeze_item(in_force: &InForce, item: &AskedItem, field: &str) -> Result<ScopeItem, Error> {
    let AskedItem { permissions, within, caveat } = item;
    let schema = &in_force.schema;
    for (index, anchor) in within.iter().enumerate() {
        let known = schema.resolve_type(Side::Object, &anchor.object_type);
        known.map_err(|refusal| refused(&refusal, format!("{field}.within[{index}].type")))?;
    }
    if let Some(stored) = caveat {
        let field = format!("{field}.caveat");
        let caveat = schema.resolve_caveat(&stored.name).map_err(|refusal| refused(&refusal, &*field))?;
        let not_allowed = |error| Refusal::ContextNotAllowed { caveat: caveat.name.clone(), error };
        let fits = caveat.compiled.judge_stored(&stored.context).map_err(not_allowed);
        fits.map_err(|refusal| refused(&refusal, format!("{field}.context")))?;
    }
    let mut tops: Vec<&TypeName> = within.iter().map(|anchor| &anchor.object_type).collect();
    tops.sort_unstable();
    tops.dedup();
    // Without an anchor there is nothing to freeze for; the law refuses it, and says why.
    let frozen = if tops.is_empty() {
        Default::default()
    } else {
        schema.frozen(permissions, &tops).map_err(|unfrozen| not_frozen(&unfrozen, field))?
    };
    Ok(ScopeItem { asked: permissions.clone(), frozen, within: within.clone(), caveat: caveat.clone() })
}

fn not_frozen(unfrozen: &Unfrozen, field: &str) -> Error {
    let named = |at: &usize| format!("{field}.permissions[{at}]");
    let (reason, field, value) = match unfrozen {
        Unfrozen::UnknownType { at, refusal } => {
            let field = at.as_ref().map_or_else(|| format!("{field}.within"), named);
            return refused(refusal, field);
        }
        Unfrozen::UnknownPermission { at, name, meant: _ } => (RefusalReason::UnknownPermission, named(at), name),
        Unfrozen::Elsewhere { at, name, of: _ } => (RefusalReason::EmptyScope, named(at), name),
    };
    refusal_of(reason, &field, &value.to_string(), &unfrozen.to_string()).hint_if(unfrozen.hint())
}

/// A refusal by the law, as an error.
pub(super) fn refused_by_law(refusal: &delegation::Refusal) -> Error {
    let delegation::Refusal { reason, field, value, message, hint } = refusal;
    refusal_of(*reason, field, value, message).hint_if(hint.map(str::to_owned))
}

/// One of the closed list, about a field.
pub(super) fn refusal_of(reason: RefusalReason, field: &str, value: &str, message: &str) -> Error {
    let kind = match reason {
        // Whatever the state is, such a request is refused.
        RefusalReason::BadInterval
        | RefusalReason::BeyondMaxLifetime
        | RefusalReason::EmptyScope
        | RefusalReason::DuplicateItem => Kind::InvalidArgument,
        RefusalReason::Cycle
        | RefusalReason::TooDeep
        | RefusalReason::NoBudget
        | RefusalReason::NotDelegateOfParent
        | RefusalReason::ParentNotLive
        | RefusalReason::UnknownType
        | RefusalReason::UnknownPermission
        | RefusalReason::Widens
        | RefusalReason::OverBroad => Kind::FailedPrecondition,
    };
    Error::new(kind, reason.as_str(), format!("{field}: {message}")).with_fact("field", field).with_fact("value", value)
}
