//! Watch: the changelog after a point in the write order, as changes that a caller understands.
//!
//! INVARIANT: it reads at a published snapshot, so nothing is told that could be lost. Revisions come in order, each
//! whole before the next is begun; a token is given only for a revision that was told whole. Nothing waits here: a caller
//! that is told `caught_up` listens (`Engine::listen`) and asks again.

use super::asked_scope::json_bytes;
use super::{Engine, Error, Kind, Metadata};
use crate::model::{
    ConsistencyToken, Delegation, DelegationChange, ObjectRef, RelationName, Revision, SubjectRef, Suspension,
    Timestamp, TupleUpdate, TypeName, UpdateKind,
};
use crate::schema;
use crate::store::{self, LogEntry, LogPosition, Names, RowKey, RowValue, Store};
use std::ops::ControlFlow;
use std::sync::Arc;

/// What is to be watched, and from where.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    pub from: WatchFrom,
    /// Tuples of these object types only; of all when empty. Changes of the schema, of delegations and of suspensions are
    /// told in any case.
    pub object_types: Vec<TypeName>,
    /// Tuples of these relations only; of all when empty.
    pub relations: Vec<RelationName>,
    /// Changes of these kinds only; of all when empty.
    pub kinds: Vec<WatchKind>,
}

/// What kinds of change there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WatchKind {
    /// As far as the other filters let them through.
    Tuples,
    Schemas,
    Delegations,
    Suspensions,
}

/// Where a Watch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WatchFrom {
    /// With what is published after the newest revision.
    #[default]
    Now,
    /// With the first change there ever was.
    Start,
    /// Right after this revision.
    After(ConsistencyToken),
}

/// Changes of one revision, or a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchPart {
    /// In order of commit. None: a checkpoint.
    pub writes: Vec<WatchWrite>,
    /// Everything up to and including this revision was told. `None` when more of the same revision follows.
    pub through: Option<Revision>,
}

/// What one request wrote, as far as the filters let it through.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchWrite {
    /// The clock reading of the commit.
    pub at: Timestamp,
    pub metadata: Metadata,
    pub changes: Vec<WatchChange>,
    /// Whether this goes on with the last write of the part before.
    pub continues: bool,
}

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub enum WatchChange {
    /// Create when none was live under its key, Touch when one was replaced, Delete with the tuple that was there.
    Tuple(TupleUpdate),
    /// Another schema is in force.
    Schema {
        text: String,
        /// SHA-256 of the text, in hex.
        digest: String,
    },
    /// A delegation was made, narrowed or revoked: its record after it.
    Delegation { record: Arc<Delegation>, change: DelegationChange },
    /// A principal is suspended from here.
    Suspended(Suspension),
    /// A principal is suspended no more.
    Reinstated { principal: ObjectRef },
}

/// What was read at once.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchPage {
    pub parts: Vec<WatchPart>,
    /// Whether all that was published is told.
    pub caught_up: bool,
}

/// Reads on from where it stands.
pub struct Watcher {
    store: Arc<Store>,
    filter: Filter,
    position: LogPosition,
    /// The last revision that is behind `position` as a whole.
    through: Revision,
    /// The last revision a token was given for.
    told: Revision,
    /// Whether parts of the revision at `position` were told.
    in_parts: bool,
    /// The request whose entries are being read.
    request: Option<Request>,
}

struct Filter {
    object_types: Vec<TypeName>,
    relations: Vec<RelationName>,
    kinds: Vec<WatchKind>,
}

struct Request {
    at: Timestamp,
    metadata: Metadata,
    metadata_bytes: usize,
    /// Whether a change of it was told in an earlier part.
    told: bool,
}

/// Most changes in one part, and about how many bytes: a part fits a message well, even with a schema of 1 MiB.
const PART_CHANGES: usize = 1_000;
const PART_BYTES: usize = 1 << 20;
/// Most entries read at once, and about how many bytes of parts: bounds the memory of a reader that catches up.
const PAGE_ENTRIES: usize = 20_000;
const PAGE_BYTES: usize = 4 << 20;
/// What a change weighs beside its ids and context.
const CHANGE_BYTES: usize = 128;

impl Engine {
    /// Opens a Watch. A foreign token is refused, one of the future too, and names that no schema ever had.
    pub fn watch(&self, request: Watch) -> Result<Watcher, Error> {
        let Watch { from, object_types, relations, kinds } = request;
        let newest = self.store.published();
        let through = match from {
            WatchFrom::Now => newest.revision(),
            WatchFrom::Start => Revision(0),
            WatchFrom::After(token) => {
                self.judge_token(&token, &newest, "after")?;
                token.revision
            }
        };
        judge_names(&self.store.names(), &object_types, &relations)?;
        Ok(Watcher {
            store: self.store.clone(),
            filter: Filter { object_types, relations, kinds },
            position: LogPosition::after(through),
            through,
            told: through,
            in_parts: false,
            request: None,
        })
    }
}

/// A misspelt name would match nothing for ever, and nobody would notice.
fn judge_names(names: &Names, object_types: &[TypeName], relations: &[RelationName]) -> Result<(), Error> {
    let mut types = Vec::new();
    for (index, name) in object_types.iter().enumerate() {
        types.push(names.type_number(name.as_str()).ok_or_else(|| {
            let message = format!("object_types[{index}]: no schema ever had a type `{name}`");
            Error::new(Kind::FailedPrecondition, "UNKNOWN_TYPE", message)
                .with_fact("field", format!("object_types[{index}]"))
        })?);
    }
    for (index, name) in relations.iter().enumerate() {
        let known = if types.is_empty() {
            names.has_member_named(name.as_str())
        } else {
            types.iter().any(|of| names.member_number(*of, name.as_str()).is_some())
        };
        if !known {
            let message = format!("relations[{index}]: no schema ever had a relation `{name}` on these types");
            return Err(Error::new(Kind::FailedPrecondition, "UNKNOWN_RELATION", message)
                .with_fact("field", format!("relations[{index}]")));
        }
    }
    Ok(())
}

impl Filter {
    fn wants(&self, kind: WatchKind) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&kind)
    }

    fn lets_through(&self, names: &Names, key: &RowKey) -> Result<bool, store::Error> {
        if self.object_types.is_empty() && self.relations.is_empty() {
            return Ok(true);
        }
        let relation = names.member(key.relation)?;
        let of_type = self.object_types.is_empty() || self.object_types.contains(names.type_name(relation.of)?);
        let named = relation.name.as_ref().is_some_and(|name| self.relations.contains(name));
        Ok(of_type && (self.relations.is_empty() || named))
    }
}

/// A page in the making.
#[derive(Default)]
struct Building {
    parts: Vec<WatchPart>,
    writes: Vec<WatchWrite>,
    changes: usize,
    bytes: usize,
    entries: usize,
    bytes_before: usize,
}

impl Building {
    fn push(&mut self, request: &mut Option<Request>, change: WatchChange, bytes: usize) -> Result<(), store::Error> {
        let request =
            request.as_mut().ok_or_else(|| store::Error::Corrupt("a change that no request made".to_owned()))?;
        // A write is opened once a part; only its first part does not go on with another.
        if self.changes == 0 || !request.told {
            self.bytes += request.metadata_bytes;
            self.writes.push(WatchWrite {
                at: request.at,
                metadata: request.metadata.clone(),
                changes: Vec::new(),
                continues: request.told,
            });
            request.told = true;
        }
        if let Some(write) = self.writes.last_mut() {
            write.changes.push(change);
        }
        self.changes += 1;
        self.bytes += bytes;
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.changes >= PART_CHANGES || self.bytes >= PART_BYTES
    }

    fn finish_part(&mut self, through: Option<Revision>) {
        self.parts.push(WatchPart { writes: std::mem::take(&mut self.writes), through });
        self.bytes_before += self.bytes;
        (self.changes, self.bytes) = (0, 0);
    }

    fn page_is_full(&self) -> bool {
        self.entries >= PAGE_ENTRIES || self.bytes_before >= PAGE_BYTES
    }
}

impl Watcher {
    /// The last revision told whole: a token of it resumes here.
    #[must_use]
    pub fn told(&self) -> Revision {
        self.told
    }

    /// The next changes: bounded in number and bytes, none when all is told.
    pub fn next_page(&mut self) -> Result<WatchPage, Error> {
        let snapshot = self.store.published();
        let end = LogPosition::after(snapshot.revision());
        if self.position == end {
            return Ok(WatchPage { parts: Vec::new(), caught_up: true });
        }
        // Taken after the snapshot, so every name of its changelog is among them.
        let names = self.store.names();
        let mut page = Building::default();
        let store = self.store.clone();
        let (filter, request) = (&self.filter, &mut self.request);
        let (in_parts, through, told) = (&mut self.in_parts, &mut self.through, &mut self.told);
        let tuple = |key: &RowKey, value: &RowValue, kind| -> Result<Option<(TupleUpdate, usize)>, store::Error> {
            if !filter.wants(WatchKind::Tuples) || !filter.lets_through(&names, key)? {
                return Ok(None);
            }
            let tuple = store.tuple(key, value)?;
            let context = value.caveat.as_ref().map_or(0, |caveat| caveat.context.len());
            let bytes = CHANGE_BYTES + tuple.key.object.id.as_str().len() + subject_bytes(&tuple.key.subject) + context;
            Ok(Some((TupleUpdate { kind, tuple }, bytes)))
        };
        self.position = snapshot.log(self.position, |revision, entry| {
            page.entries += 1;
            let changed = match entry {
                None => {
                    *through = revision;
                    *request = None;
                    if page.changes > 0 || *in_parts {
                        page.finish_part(Some(revision));
                        *told = revision;
                        *in_parts = false;
                    }
                    None
                }
                Some(LogEntry::Mark { at, metadata }) => {
                    *request = Some(Request::new(at, &metadata)?);
                    None
                }
                Some(LogEntry::Put { key, value, created }) => {
                    tuple(&key, &value, if created { UpdateKind::Create } else { UpdateKind::Touch })?
                        .map(|(update, bytes)| (WatchChange::Tuple(update), bytes))
                }
                // A tuple that was collected tells by its end that nobody deleted it.
                Some(LogEntry::Remove { key, value } | LogEntry::Expire { key, value }) => {
                    tuple(&key, &value, UpdateKind::Delete)?.map(|(update, bytes)| (WatchChange::Tuple(update), bytes))
                }
                Some(LogEntry::Schema { text }) => {
                    let (digest, bytes) = (schema::digest(&text), text.len());
                    filter.wants(WatchKind::Schemas).then_some((WatchChange::Schema { text, digest }, bytes))
                }
                Some(LogEntry::Delegation { record, change, idempotency: _ }) => {
                    let bytes = CHANGE_BYTES + json_bytes(&record);
                    let told = WatchChange::Delegation { record, change };
                    filter.wants(WatchKind::Delegations).then_some((told, bytes))
                }
                Some(LogEntry::Suspended(suspension)) => {
                    let bytes = CHANGE_BYTES + suspension.reason.len();
                    filter.wants(WatchKind::Suspensions).then_some((WatchChange::Suspended(suspension), bytes))
                }
                Some(LogEntry::Reinstated { principal }) => {
                    let told = WatchChange::Reinstated { principal };
                    filter.wants(WatchKind::Suspensions).then_some((told, CHANGE_BYTES))
                }
                // Numbers are the store's own affair.
                Some(LogEntry::Id { .. } | LogEntry::Name(_)) => None,
            };
            if let Some((change, bytes)) = changed {
                page.push(request, change, bytes)?;
            }
            let done = page.page_is_full();
            if page.is_full() || (done && page.changes > 0) {
                page.finish_part(None);
                *in_parts = true;
            }
            Ok(if done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        let mut parts = page.parts;
        // Revisions in which nothing matched: the reader's token moves on. Never between the parts of one.
        if self.through > self.told && !self.in_parts {
            self.told = self.through;
            parts.push(WatchPart { writes: Vec::new(), through: Some(self.through) });
        }
        Ok(WatchPage { parts, caught_up: self.position == end })
    }
}

impl Request {
    fn new(at: Timestamp, metadata: &[u8]) -> Result<Request, store::Error> {
        let corrupt = |_| store::Error::Corrupt("metadata in the changelog".to_owned());
        let values =
            if metadata.is_empty() { Metadata::new() } else { serde_json::from_slice(metadata).map_err(corrupt)? };
        Ok(Request { at, metadata: values, metadata_bytes: metadata.len(), told: false })
    }
}

fn subject_bytes(subject: &SubjectRef) -> usize {
    match subject {
        SubjectRef::Object(object) | SubjectRef::Userset(object, _) => object.id.as_str().len(),
        SubjectRef::Wildcard(_) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Options;
    use super::*;
    use crate::store::{Change, Commit, NewDelegation};

    #[test]
    fn changes_of_delegations_and_suspensions_are_told_whatever_the_filter() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::open(Options::at(folder.path())).unwrap();
        let commit = |change| {
            let commit = Commit {
                schema_revision: Revision(0),
                preconditions: Vec::new(),
                precondition_rows_max: 0,
                change,
                parents: Arc::default(),
                metadata: (*br#"{"why": "test"}"#).into(),
                only_judge: false,
            };
            engine.store.commit(commit).unwrap()
        };
        let mut watcher = engine.watch(Watch::default()).unwrap();
        watcher.filter.object_types = vec![TypeName::new("doc").unwrap()];
        let record = serde_json::from_value(serde_json::json!({
            "id": "dlg_00000000000000000000000000000001", "number": 0, "parent": null, "root": "user:rita",
            "delegator": "user:rita", "delegate": "agent:bot", "clauses": [],
            "created_at": "2030-01-01T00:00:00Z", "not_before": "2030-01-01T00:00:00Z",
            "expires_at": "2030-01-02T00:00:00Z", "redelegate": 0, "depth": 1, "revoked": null,
            "purpose": "", "issued_by": "", "metadata": {}, "version": 0,
        }));
        let record: Delegation = record.unwrap();
        let (id, principal) = (record.id, record.root.clone());
        let new = NewDelegation { record, chain: Vec::new(), idempotency: None, clock: None };
        let created = commit(Change::CreateDelegation(Box::new(new))).delegation.unwrap();
        let revoked = commit(Change::RevokeDelegation { id, reason: String::new() }).delegation.unwrap();
        commit(Change::Suspend { principal: principal.clone(), reason: "why".to_owned() });
        commit(Change::Reinstate { principal: principal.clone() });
        let page = watcher.next_page().unwrap();
        let writes: Vec<WatchWrite> = page.parts.into_iter().flat_map(|part| part.writes).collect();
        assert!(writes.iter().all(|write| write.metadata["why"] == "test"));
        let changes: Vec<WatchChange> = writes.into_iter().flat_map(|write| write.changes).collect();
        assert!(
            matches!(&changes[2], WatchChange::Suspended(told) if told.principal == principal && told.reason == "why")
        );
        let [told_created, told_revoked, _, told_reinstated] = changes.try_into().unwrap();
        assert_eq!(told_created, WatchChange::Delegation { record: created, change: DelegationChange::Created });
        assert_eq!(told_revoked, WatchChange::Delegation { record: revoked, change: DelegationChange::Revoked });
        assert_eq!(told_reinstated, WatchChange::Reinstated { principal });
    }
}
