//! At which revision? Newest by default; a token that is foreign, damaged or from the future is refused, never ignored.

use super::{Engine, Error, Kind};
use crate::model::{Consistency, ConsistencyToken};
use crate::store::Snapshot;
use std::sync::Arc;

/// The state a request is answered at.
pub(super) struct Pinned {
    pub(super) snapshot: Arc<Snapshot>,
    /// The newest one, which it mostly is itself.
    pub(super) newest: Arc<Snapshot>,
    /// Asked for by an exact token, and not the newest.
    pub(super) historical: bool,
}

impl Engine {
    /// Takes the state a request asks for, once.
    pub(super) fn pin(&self, consistency: &Consistency) -> Result<Pinned, Error> {
        let newest = self.store.published();
        match consistency {
            Consistency::Newest => Ok(Pinned { snapshot: newest.clone(), newest, historical: false }),
            Consistency::AtLeastAsFresh(token) => {
                self.judge_token(token, &newest, "consistency")?;
                Ok(Pinned { snapshot: newest.clone(), newest, historical: false })
            }
            Consistency::AtExactSnapshot(token) => {
                self.judge_token(token, &newest, "consistency")?;
                if token.revision == newest.revision() {
                    return Ok(Pinned { snapshot: newest.clone(), newest, historical: false });
                }
                let snapshot = self.store.at(token.revision).ok_or_else(|| {
                    Error::new(Kind::OutOfRange, "SNAPSHOT_GONE", "the token's revision is no longer kept exact")
                        .with_hint("ask for the newest, or at_least_as_fresh")
                })?;
                Ok(Pinned { snapshot, newest, historical: true })
            }
        }
    }

    /// Refuses a token of another database, of another incarnation, or of the future.
    pub(super) fn judge_token(
        &self,
        token: &ConsistencyToken,
        newest: &Snapshot,
        field: &'static str,
    ) -> Result<(), Error> {
        if token.database != self.store.database() {
            let message = "the consistency token is of another database";
            return Err(Error::new(Kind::InvalidArgument, "TOKEN_FOREIGN", message).with_fact("field", field));
        }
        if token.incarnation != self.store.incarnation() {
            let message = "the consistency token is from before this database was restored";
            return Err(Error::new(Kind::InvalidArgument, "TOKEN_FOREIGN", message).with_fact("field", field));
        }
        if token.revision > newest.revision() {
            let message = "the consistency token is ahead of this database";
            return Err(Error::new(Kind::OutOfRange, "TOKEN_AHEAD", message).with_fact("field", field));
        }
        Ok(())
    }
}
