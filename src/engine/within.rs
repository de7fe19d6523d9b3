//! What `within` of a filter or a list means at a snapshot: an object, and all beneath it by `parent` relations.
//!
//! INVARIANT: it narrows what is looked at and decides nothing about who may do what. Too large a subtree, or too many
//! ancestors, is an error, never a part of the answer.

use super::Error;
use super::schemas::InForce;
use crate::graph::View;
use crate::model::{Cancel, Limits, ObjectNum, TypeNum};
use crate::store::{RowKey, RowScan, Within};
use crate::walk::{Beneath, Budget, subtree};
use hashbrown::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Asks rows for the ancestors of their objects, as long as a read lasts; its work is bounded as one question's is.
pub(super) struct Climber {
    in_force: Arc<InForce>,
    view: View,
    beneath: Beneath,
    budget: Budget,
}

impl Climber {
    /// Goes on with what is left of its budget, on behalf of whoever waits now.
    pub(super) fn on_behalf_of(&mut self, cancel: Cancel) {
        self.budget.on_behalf_of(cancel);
    }

    /// Whether the row's object is in the subtree.
    pub(super) fn has(&mut self, row: &RowKey) -> Result<bool, Error> {
        let object = (self.in_force.names.member(row.relation)?.of, row.object);
        Ok(self.beneath.has(&self.in_force.plan, &self.view, object, &mut self.budget)?)
    }
}

/// Confines a scan to the subtree it names; what is returned must be asked about each row besides, if anything is.
pub(super) fn confine(
    scan: &mut RowScan,
    in_force: &Arc<InForce>,
    view: &View,
    limits: &Limits,
    cancel: &Cancel,
) -> Result<Option<Climber>, Error> {
    let mut budget = Budget::new(limits, cancel.clone());
    match scan.within() {
        None => Ok(None),
        Some(Within::Ancestors(root)) => {
            Ok(Some(Climber { in_force: in_force.clone(), view: view.clone(), beneath: Beneath::of(root), budget }))
        }
        Some(Within::Subtree(root)) => {
            let mut objects: HashMap<TypeNum, Vec<ObjectNum>> = HashMap::new();
            let walked = subtree(&in_force.plan, view, root, &mut budget, |of, object| {
                objects.entry(of).or_default().push(object);
                ControlFlow::Continue(())
            })?;
            debug_assert!(walked.is_continue());
            objects.values_mut().for_each(|objects| objects.sort_unstable());
            scan.confine(objects, &in_force.names);
            Ok(None)
        }
    }
}
