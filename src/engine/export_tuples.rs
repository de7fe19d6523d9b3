//! ExportTuples: what ReadTuples reads, in batches with one cursor each, so that a whole database goes out quickly.

use super::{Engine, Error, ReadTuples, TupleReader};
use crate::model::{Cancel, Consistency, RelationTuple, Revision, TupleFilter};

/// What is to be exported.
#[derive(Debug, Clone, Default)]
pub struct ExportTuples {
    /// The empty filter exports everything.
    pub filter: TupleFilter,
    pub consistency: Consistency,
    /// From a batch of an earlier export with the same filter: resumes after it, at a revision not older than its own.
    pub cursor: Option<String>,
}

/// Tuples, and the cursor that resumes after the last.
#[derive(Debug, Clone, PartialEq)]
pub struct ExportBatch {
    pub tuples: Vec<RelationTuple>,
    pub cursor: String,
}

/// Exports on at the revision it was opened at, whose snapshot it holds.
pub struct TupleExporter(TupleReader);

impl Engine {
    /// Opens an export. The cursor of another filter, another database or a later revision is refused.
    pub fn export_tuples(&self, request: ExportTuples, cancel: &Cancel) -> Result<TupleExporter, Error> {
        let ExportTuples { filter, consistency, cursor } = request;
        Ok(TupleExporter(self.read_tuples(ReadTuples { filter, consistency, cursor }, cancel)?))
    }
}

impl TupleExporter {
    /// The revision that is exported.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.0.revision()
    }

    /// Up to `rows_max` further tuples; `None` at the end.
    pub fn next_batch(&mut self, rows_max: usize, cancel: &Cancel) -> Result<Option<ExportBatch>, Error> {
        let rows = self.0.next_rows(rows_max, cancel)?;
        let Some((_, last)) = rows.last() else { return Ok(None) };
        let cursor = self.0.cursor(*last);
        Ok(Some(ExportBatch { tuples: rows.into_iter().map(|(tuple, _)| tuple).collect(), cursor }))
    }
}
