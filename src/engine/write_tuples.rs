//! WriteTuples, DeleteTuples and DeleteSubtree: bounded, no tuple twice, each one the schema in force has a place for; then the
//! committer judges what only it can know.

use super::resolve::{judge_filter, refused};
use super::schemas::{InForce, no_schema};
use super::{Engine, Error, Kind};
use crate::model::{ObjectRef, Precondition, Revision, TupleFilter, TupleUpdate, UpdateKind};
use crate::schema::Side;
use crate::store::{self, Beyond, Change, Commit, Committed, Tally};
use hashbrown::HashSet;
use std::sync::Arc;

/// A durable write of single tuples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    pub revision: Revision,
    /// Tuples that were not there.
    pub created: u64,
    /// Tuples that were there and are written again.
    pub replaced: u64,
    /// Tuples that were there and are no longer.
    pub deleted: u64,
}

/// What a caller says about a write, as JSON: it travels in the changelog.
pub type Metadata = serde_json::Map<String, serde_json::Value>;

/// Changes of single tuples, all or none.
#[derive(Debug, Clone, Default)]
pub struct WriteTuples {
    /// 1 to `updates_max`, no key twice.
    pub updates: Vec<TupleUpdate>,
    /// Judged inside the commit.
    pub preconditions: Vec<Precondition>,
    pub metadata: Metadata,
}

/// Removal of all tuples that match, or none.
#[derive(Debug, Clone, Default)]
pub struct DeleteTuples {
    /// At least one part must be given.
    pub filter: TupleFilter,
    /// Judged inside the commit.
    pub preconditions: Vec<Precondition>,
    pub metadata: Metadata,
    /// Judges and counts at the newest published state, and removes nothing.
    pub dry_run: bool,
    /// Removes at most so many, 1 to `delete_tuples_max`, and leaves the others: call again while there are `more`. Of a
    /// subtree the deepest go first, so what is left is still in it; and of one with more than `subtree_objects_max`
    /// objects a part goes. `None`: all, or none if more than `delete_tuples_max` match.
    pub limit: Option<usize>,
}

/// Removal of the tuples of an object and of every object beneath it by `parent` relations. Tuples of other objects in
/// which these are subjects stay.
#[derive(Debug, Clone)]
pub struct DeleteSubtree {
    /// An object of a type without `parent` relations towards it is a subtree by itself.
    pub root: ObjectRef,
    /// Judged inside the commit.
    pub preconditions: Vec<Precondition>,
    pub metadata: Metadata,
    /// As of [`DeleteTuples`].
    pub dry_run: bool,
    /// As of [`DeleteTuples`].
    pub limit: Option<usize>,
}

/// What a removal came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deleted {
    /// Of the removal; of the state it was judged at, for a dry run.
    pub revision: Revision,
    /// Tuples removed, or that would be.
    pub count: u64,
    /// Whether a `limit` left some that match.
    pub more: bool,
}

/// How often a write is judged again because the schema changed under it.
const SCHEMA_RETRIES: usize = 8;

/// A write within its bounds.
struct Writing {
    updates: Arc<[TupleUpdate]>,
    preconditions: Vec<Precondition>,
    metadata: Box<[u8]>,
}

impl Writing {
    /// What the committer is asked for, if the schema has a place for every tuple.
    fn commit(&self, engine: &Engine, in_force: &InForce) -> Result<Commit, Error> {
        let Writing { updates, preconditions, metadata } = self;
        for (index, update) in updates.iter().enumerate() {
            judge_update(in_force, update, index)?;
        }
        engine.judge_preconditions(in_force, preconditions)?;
        Ok(Commit {
            schema_revision: in_force.revision,
            parents: in_force.parents.clone(),
            preconditions: preconditions.clone(),
            precondition_rows_max: engine.limits.precondition_rows_max,
            change: Change::Tuples(updates.clone()),
            metadata: metadata.clone(),
            only_judge: false,
        })
    }
}

impl Written {
    fn of(committed: Committed) -> Written {
        let Tally { created, replaced, removed } = committed.tally;
        Written { revision: committed.revision, created, replaced, deleted: removed }
    }
}

impl Engine {
    /// Writes; when it returns, every later read sees it and no crash loses it. Nothing is written on any error.
    pub fn write_tuples(&self, request: WriteTuples) -> Result<Revision, Error> {
        Ok(self.write_tuples_counted(request)?.revision)
    }

    /// As [`Engine::write_tuples`], with what it came to.
    pub fn write_tuples_counted(&self, request: WriteTuples) -> Result<Written, Error> {
        let writing = self.bounded(request)?;
        let committed = self.commit(|in_force| writing.commit(self, in_force));
        committed.map(Written::of).map_err(|error| placed(error, &writing.updates))
    }

    /// As [`Engine::write_tuples_counted`], for who must not wait: `hear` is told once, on the writing thread or on this one.
    /// It must be quick, and neither block nor panic. A write that [may have to begin anew](Error::is_to_begin_anew) is to be
    /// made in earnest.
    pub fn write_tuples_then(&self, request: WriteTuples, hear: impl FnOnce(Result<Written, Error>) + Send + 'static) {
        if !self.schemas.has_newest(&self.store.published()) {
            return hear(Err(store::Error::SchemaChanged.into()));
        }
        let begun = self.bounded(request).and_then(|writing| {
            let commit = writing.commit(self, &*self.in_force()?)?;
            Ok((writing, commit))
        });
        let (writing, commit) = match begun {
            Ok(begun) => begun,
            Err(error) => return hear(Err(error)),
        };
        let Writing { updates, preconditions, metadata: _ } = writing;
        self.store.commit_then(
            commit,
            Box::new(move |outcome| {
                let committed = outcome.map_err(|error| unmet_or(error, &preconditions));
                hear(committed.map(Written::of).map_err(|error| placed(error, &updates)));
            }),
        );
    }

    fn bounded(&self, request: WriteTuples) -> Result<Writing, Error> {
        let WriteTuples { updates, preconditions, metadata } = request;
        let most = self.limits.updates_max;
        if updates.is_empty() {
            return Err(Error::invalid("updates", "", "there is nothing to write"));
        }
        if updates.len() > most {
            let message = format!("{} updates; one call takes at most {most}", updates.len());
            let error = Error::new(Kind::ResourceExhausted, "TOO_MANY_UPDATES", message);
            return Err(error.with_fact("field", "updates").with_fact("limit", most.to_string()));
        }
        let mut seen = HashSet::with_capacity(updates.len());
        for (index, update) in updates.iter().enumerate() {
            if !seen.insert(&update.tuple.key) {
                let message = format!("updates[{index}]: `{}` stands in this call already", update.tuple.key);
                let error = Error::new(Kind::InvalidArgument, "DUPLICATE_UPDATE", message);
                return Err(error
                    .with_fact("field", format!("updates[{index}].tuple"))
                    .with_fact("value", update.tuple.key.to_string()));
            }
        }
        drop(seen);
        Ok(Writing { updates: updates.into(), preconditions, metadata: self.metadata(&metadata)? })
    }

    /// Removes every live tuple that matches, in one revision. An empty filter is refused: it would match all.
    pub fn delete_tuples(&self, request: DeleteTuples) -> Result<Deleted, Error> {
        if request.filter == TupleFilter::default() {
            let message = "an empty filter would remove every tuple; give at least one part";
            return Err(Error::invalid("filter", "", message));
        }
        self.delete(&request, |in_force| judge_filter(in_force, &request.filter, "filter"))
    }

    /// Removes the tuples of an object and of all beneath it, in one revision, at which they are exactly what is beneath
    /// it: an object that is moved in or out meanwhile is removed or left as a whole.
    pub fn delete_subtree(&self, request: DeleteSubtree) -> Result<Deleted, Error> {
        let DeleteSubtree { root, preconditions, metadata, dry_run, limit } = request;
        let of = root.object_type.clone();
        let filter = TupleFilter { within: Some(root), ..TupleFilter::default() };
        self.delete(&DeleteTuples { filter, preconditions, metadata, dry_run, limit }, |in_force| {
            let known = in_force.schema.resolve_type(Side::Object, &of);
            known.map_err(|refusal| refused(&refusal, "root.type")).map(drop)
        })
    }

    fn delete(
        &self,
        request: &DeleteTuples,
        judge_names: impl Fn(&InForce) -> Result<(), Error>,
    ) -> Result<Deleted, Error> {
        let most = self.limits.delete_tuples_max;
        if let Some(limit) = request.limit.filter(|limit| *limit == 0 || *limit > most) {
            let message = format!("not between 1 and {most}");
            return Err(Error::invalid("limit", &limit.to_string(), message));
        }
        let metadata = self.metadata(&request.metadata)?;
        let committed = self.commit(|in_force| {
            judge_names(in_force)?;
            self.judge_preconditions(in_force, &request.preconditions)?;
            let beyond = if request.limit.is_some() { Beyond::Left } else { Beyond::Refused };
            let limit = request.limit.unwrap_or(most);
            Ok(Commit {
                schema_revision: in_force.revision,
                parents: in_force.parents.clone(),
                preconditions: request.preconditions.clone(),
                precondition_rows_max: self.limits.precondition_rows_max,
                change: Change::DeleteMatching { filter: request.filter.clone(), limit, beyond },
                metadata: metadata.clone(),
                only_judge: request.dry_run,
            })
        })?;
        Ok(Deleted { revision: committed.revision, count: committed.changed, more: committed.more })
    }

    /// Commits what `judge` makes of the schema in force, again if another schema is in force by then.
    pub(super) fn commit(&self, judge: impl Fn(&InForce) -> Result<Commit, Error>) -> Result<Committed, Error> {
        for _ in 0..SCHEMA_RETRIES {
            let commit = judge(&*self.in_force()?)?;
            match self.commit_once(commit) {
                Err(error) if error.is_to_begin_anew() => {}
                result => return result,
            }
        }
        Err(store::Error::SchemaChanged.into())
    }

    /// Commits, or says which precondition does not hold.
    pub(super) fn commit_once(&self, commit: Commit) -> Result<Committed, Error> {
        let preconditions = commit.preconditions.clone();
        self.store.commit(commit).map_err(|error| unmet_or(error, &preconditions))
    }

    fn in_force(&self) -> Result<Arc<InForce>, Error> {
        self.schemas.of(&self.store, &self.store.published(), &self.limits)?.ok_or_else(no_schema)
    }

    /// The metadata as bytes, within its limit.
    pub(super) fn metadata(&self, metadata: &Metadata) -> Result<Box<[u8]>, Error> {
        if metadata.is_empty() {
            return Ok(Box::default());
        }
        let bytes = serde_json::to_vec(metadata)
            .map_err(|error| Error::invalid("metadata", "", format!("not JSON: {error}")))?;
        let most = self.limits.metadata_bytes_max;
        if bytes.len() > most {
            let message = format!("{} bytes as JSON; at most {most} are allowed", bytes.len());
            return Err(Error::invalid("metadata", "", message).with_fact("limit", most.to_string()));
        }
        Ok(bytes.into_boxed_slice())
    }

    pub(super) fn judge_preconditions(&self, in_force: &InForce, preconditions: &[Precondition]) -> Result<(), Error> {
        let most = self.limits.preconditions_max;
        if preconditions.len() > most {
            let message = format!("{} preconditions; one call takes at most {most}", preconditions.len());
            let error = Error::new(Kind::ResourceExhausted, "TOO_MANY_PRECONDITIONS", message);
            return Err(error.with_fact("field", "preconditions").with_fact("limit", most.to_string()));
        }
        for (index, precondition) in preconditions.iter().enumerate() {
            let (Precondition::MustMatch(filter) | Precondition::MustNotMatch(filter)) = precondition;
            let field = format!("preconditions[{index}].filter");
            if *filter == TupleFilter::default() {
                return Err(Error::invalid(field, "", "an empty filter says nothing; give at least one part"));
            }
            judge_filter(in_force, filter, &field)?;
        }
        Ok(())
    }
}

/// The store's error, as one about the precondition if it is that.
fn unmet_or(error: store::Error, preconditions: &[Precondition]) -> Error {
    if let store::Error::PreconditionFailed { index } = error {
        unmet(index, preconditions.get(index))
    } else {
        error.into()
    }
}

/// The precondition that does not hold, by what it asks for.
fn unmet(index: usize, precondition: Option<&Precondition>) -> Error {
    let error = Error::from(store::Error::PreconditionFailed { index });
    let (filter, said) = match precondition {
        Some(Precondition::MustMatch(filter)) => (filter, "must match a live tuple, and none does"),
        Some(Precondition::MustNotMatch(filter)) => (filter, "must match no live tuple, and one does"),
        None => return error,
    };
    error
        .with_message(format!("preconditions[{index}] does not hold: `{filter}` {said}"))
        .with_fact("value", filter.to_string())
}

/// Names the update of a tuple that is there already, or that would close a cycle.
fn placed(error: Error, updates: &[TupleUpdate]) -> Error {
    if !matches!(error.reason, "TUPLE_EXISTS" | "PARENT_CYCLE") {
        return error;
    }
    let tuple = error.facts.iter().find(|(name, _)| *name == "tuple").map(|(_, tuple)| tuple);
    match updates.iter().position(|update| tuple.is_some_and(|tuple| *tuple == update.tuple.key.to_string())) {
        Some(index) => error.with_fact("field", format!("updates[{index}].tuple")),
        None => error,
    }
}

/// May this tuple exist under the schema? A removal only needs its names to be known.
fn judge_update(in_force: &InForce, update: &TupleUpdate, index: usize) -> Result<(), Error> {
    let field = || format!("updates[{index}].tuple");
    match update.kind {
        UpdateKind::Create | UpdateKind::Touch => {
            in_force.schema.admits(&update.tuple).map_err(|refusal| refused(&refusal, field()))
        }
        UpdateKind::Delete => {
            let key = &update.tuple.key;
            let schema = &in_force.schema;
            schema
                .resolve_relation(&key.object.object_type, &key.relation)
                .map_err(|refusal| refused(&refusal, field()))?;
            schema.resolve_subject(&key.subject).map_err(|refusal| refused(&refusal, field()))
        }
    }
}
