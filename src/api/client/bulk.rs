//! ReplaceSubjects, ImportTuples and ExportTuples.

use super::{At, Client, ClientError, notes};
use crate::api::{convert, wire};
use crate::engine::{ImportMode, Metadata, TupleSubject};
use crate::model::{ObjectRef, Precondition, RelationName, RelationTuple, TupleFilter};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Batches sent before the first of them is acknowledged: the server converts one while it commits another.
const BATCHES_IN_FLIGHT: usize = 4;

/// A durable replacement, in subjects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectsReplaced {
    pub token: String,
    pub added: u64,
    /// With another caveat or expiry than before.
    pub replaced: u64,
    pub removed: u64,
    pub unchanged: u64,
}

/// One batch of an import is durable, and so is every one before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportAck {
    /// Counted from 0.
    pub batch: u64,
    pub token: String,
    pub created: u64,
    pub replaced: u64,
}

impl Client {
    /// Leaves exactly these subjects in the object's relation; none at all when none is given.
    ///
    /// # Errors
    /// As [`Client::write_tuples`].
    pub fn replace_subjects(
        &self,
        object: &ObjectRef,
        relation: &RelationName,
        subjects: &[TupleSubject],
        preconditions: &[Precondition],
        metadata: &Metadata,
    ) -> Result<SubjectsReplaced, ClientError> {
        let request = wire::ReplaceSubjectsRequest {
            object: Some(object.into()),
            relation: relation.to_string(),
            subjects: subjects.iter().map(Into::into).collect(),
            remove_all: subjects.is_empty(),
            preconditions: preconditions.iter().map(Into::into).collect(),
            metadata: notes(metadata),
        };
        let mut service = self.tuples();
        let wire::ReplaceSubjectsResponse { written_at, added_count, replaced_count, removed_count, unchanged_count } =
            self.call(async { service.replace_subjects(request).await })?;
        Ok(SubjectsReplaced {
            token: convert::token_text(convert::field("written_at"), written_at)?,
            added: added_count,
            replaced: replaced_count,
            removed: removed_count,
            unchanged: unchanged_count,
        })
    }

    /// Imports the batches that `next` gives until it gives none, in order, a few ahead of their acknowledgements. Each
    /// is all or nothing; every acknowledgement is told. Calls do not nest: neither function may make another on its thread.
    ///
    /// # Errors
    /// As [`Client::check`]. The first batch without an acknowledgement is the one refused, named by the fact `batch`;
    /// after a lost connection it and those behind it may have been written.
    pub fn import_tuples(
        &self,
        mode: ImportMode,
        metadata: &Metadata,
        next: &mut dyn FnMut() -> Option<Vec<RelationTuple>>,
        acknowledged: &mut dyn FnMut(ImportAck),
    ) -> Result<(), ClientError> {
        use wire::import_start::Mode;
        use wire::import_tuples_request::Part;
        let mode = match mode {
            ImportMode::Touch => Mode::Touch,
            ImportMode::Create => Mode::Create,
        };
        let start = Part::Start(wire::ImportStart { mode: mode.into(), metadata: notes(metadata) });
        let message = |part| wire::ImportTuplesRequest { part: Some(part) };
        // There is always a place for what may be in flight.
        let (sender, requests) = mpsc::channel(1 + BATCHES_IN_FLIGHT);
        let mut service = self.tuples();
        self.block_on(async {
            let closed = || ClientError::reply("the import's own queue closed".to_owned());
            sender.send(message(start)).await.map_err(|_| closed())?;
            let replies = service.import_tuples(ReceiverStream::new(requests)).await;
            let mut replies = replies.map_err(|status| self.failed(&status))?.into_inner();
            let mut sender = Some(sender);
            let mut in_flight = 0;
            // Ends with the last acknowledgement; each turn is one of them.
            loop {
                while in_flight < BATCHES_IN_FLIGHT
                    && let Some(open) = &sender
                {
                    let Some(tuples) = next() else {
                        sender = None;
                        break;
                    };
                    let batch = Part::Batch(wire::ImportBatch { tuples: tuples.iter().map(Into::into).collect() });
                    // A stream that ended says why below.
                    let _ = open.send(message(batch)).await;
                    in_flight += 1;
                    // The connection moves only when we wait: let it take the batch before the next is made.
                    tokio::task::yield_now().await;
                }
                let reply = replies.message().await.map_err(|status| self.failed(&status))?;
                let Some(wire::ImportTuplesResponse { batch, written_at, created_count, replaced_count }) = reply
                else {
                    break;
                };
                in_flight = in_flight.saturating_sub(1);
                acknowledged(ImportAck {
                    batch,
                    token: convert::token_text(convert::field("written_at"), written_at)?,
                    created: created_count,
                    replaced: replaced_count,
                });
            }
            if in_flight > 0 || sender.is_some() {
                return Err(ClientError::reply("the import ended before its last batch was acknowledged".to_owned()));
            }
            Ok(())
        })
    }

    /// Exports the tuples that match, in batches and all at one revision, whose token is returned. `each` is given the
    /// token, the tuples and the cursor that resumes after them, and says whether to go on.
    ///
    /// # Errors
    /// As [`Client::check`]; what was given before the error is right, and the last cursor resumes after it.
    pub fn export_tuples(
        &self,
        filter: &TupleFilter,
        at: &At,
        cursor: Option<String>,
        each: &mut dyn FnMut(&str, Vec<RelationTuple>, String) -> bool,
    ) -> Result<String, ClientError> {
        let request = wire::ExportTuplesRequest { consistency: at.to_wire(), filter: Some(filter.into()), cursor };
        let mut service = self.tuples();
        self.block_on(async {
            let replies = service.export_tuples(request).await.map_err(|status| self.failed(&status))?;
            let mut replies = replies.into_inner();
            let mut token = None;
            while let Some(message) = replies.message().await.map_err(|status| self.failed(&status))? {
                let wire::ExportTuplesResponse { exported_at, tuples, cursor } = message;
                if exported_at.is_some() {
                    token = exported_at;
                }
                let named = || convert::token_text(convert::field("exported_at"), token.clone());
                let place = convert::field("tuples");
                let tuples: Vec<RelationTuple> =
                    tuples.into_iter().map(|tuple| convert::tuple(place, Some(tuple))).collect::<Result<_, _>>()?;
                // The first message has the token only.
                if !tuples.is_empty() && !each(&named()?, tuples, cursor) {
                    break;
                }
            }
            Ok(convert::token_text(convert::field("exported_at"), token)?)
        })
    }
}
