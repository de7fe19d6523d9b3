//! Reading the chain of a delegation, root first.

use super::{Error, Kind};
use crate::delegation::Chain;
use crate::model::DelegationId;
use crate::store::Snapshot;

/// Most links that are followed; no version has ever let a chain grow longer.
const LINKS_MAX: usize = 64;

/// The chain that ends in a delegation; `None` when there is no delegation of this id. Records that are no chain are a
/// fault, not an answer.
pub(super) fn chain_of(snapshot: &Snapshot, id: &DelegationId) -> Result<Option<Chain>, Error> {
    let corrupt = |detail: String| Error::new(Kind::DataLoss, "CORRUPT", "stored data is damaged").with_detail(detail);
    let Some(last) = snapshot.delegation(id)? else { return Ok(None) };
    let mut parent = last.parent;
    let mut links = vec![last];
    while let Some(id) = parent {
        if links.len() >= LINKS_MAX {
            return Err(corrupt(format!("the chain above {id} has no end")));
        }
        let link = snapshot.delegation(&id)?.ok_or_else(|| corrupt(format!("{id} is a parent and not there")))?;
        parent = link.parent;
        links.push(link);
    }
    links.reverse();
    Chain::verify(links).map(Some).map_err(|broken| corrupt(format!("the chain of {id}: {broken}")))
}
