//! Reading the chain of a delegation, root first.

use super::{Error, Kind};
use crate::delegation::Chain;
use crate::graph::{Reach, View};
use crate::model::{Delegation, DelegationId};
use crate::store::{self, Snapshot};
use std::sync::Arc;

/// Most links that are followed; no version has ever let a chain grow longer.
const LINKS_MAX: usize = 64;

/// The chain that ends in a delegation; `None` when there is no delegation of this id. Records that are no chain are a
/// fault, not an answer.
pub(super) fn chain_of(snapshot: &Snapshot, id: &DelegationId) -> Result<Option<Chain>, Error> {
    chain_by(id, |id| snapshot.delegation(id))
}

/// The same, going no further for a record than the view does for a row.
pub(super) fn chain_in(view: &View, id: &DelegationId) -> Result<Option<Chain>, Error> {
    let snapshot = view.snapshot();
    match view.reach() {
        Reach::Store => chain_of(snapshot, id),
        Reach::Memory => chain_by(id, |id| snapshot.delegation_at_hand(id).map(Some).ok_or(store::Error::NotInMemory)),
    }
}

fn chain_by(
    id: &DelegationId,
    read: impl Fn(&DelegationId) -> Result<Option<Arc<Delegation>>, store::Error>,
) -> Result<Option<Chain>, Error> {
    let corrupt = |detail: String| Error::new(Kind::DataLoss, "CORRUPT", "stored data is damaged").with_detail(detail);
    let Some(last) = read(id)? else { return Ok(None) };
    let mut parent = last.parent;
    let mut links = vec![last];
    while let Some(id) = parent {
        if links.len() >= LINKS_MAX {
            return Err(corrupt(format!("the chain above {id} has no end")));
        }
        let link = read(&id)?.ok_or_else(|| corrupt(format!("{id} is a parent and not there")))?;
        parent = link.parent;
        links.push(link);
    }
    links.reverse();
    Chain::verify(links).map(Some).map_err(|broken| corrupt(format!("the chain of {id}: {broken}")))
}
