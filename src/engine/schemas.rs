//! The schema in force at a snapshot, compiled once and kept.

use super::{Error, Kind, SchemaDiagnostic};
use crate::model::{CaveatNum, Limits, MemberNum, RelationName, Revision, TypeName, TypeNum};
use crate::schema::{Member, Numbers, Plan, Schema, compile};
use crate::store::{Names, Snapshot, Store};
use arc_swap::ArcSwapOption;
use dashmap::DashMap;
use foldhash::fast::RandomState;
use std::sync::Arc;

/// A schema and its plan.
#[derive(Debug)]
pub(super) struct InForce {
    pub(super) revision: Revision,
    pub(super) schema: Schema,
    pub(super) plan: Plan,
    pub(super) names: Arc<Names>,
    /// Numbers of its `parent` relations.
    pub(super) parents: Arc<[MemberNum]>,
}

/// Compiled schemas by the revision that wrote them.
pub(super) struct Schemas {
    unfolds: bool,
    newest: ArcSwapOption<InForce>,
    all: DashMap<Revision, Arc<InForce>, RandomState>,
}

/// Schemas kept: the newest, and those before it for questions at a past snapshot.
const KEPT_MAX: usize = 9;

impl Numbers for Names {
    fn type_number(&self, name: &str) -> Option<TypeNum> {
        Names::type_number(self, name)
    }
    fn member_number(&self, of: TypeNum, name: &str) -> Option<MemberNum> {
        Names::member_number(self, of, name)
    }
    fn itself(&self, of: TypeNum) -> Option<MemberNum> {
        Names::itself(self, of)
    }
    fn caveat_number(&self, name: &str) -> Option<CaveatNum> {
        Names::caveat_number(self, name)
    }
}

impl Schemas {
    /// None compiled yet; whether their permissions are unfolded.
    pub(super) fn new(unfolds: bool) -> Schemas {
        Schemas { unfolds, newest: ArcSwapOption::empty(), all: DashMap::default() }
    }

    /// Whether the schema of a snapshot, or that there is none, is known without compiling anything.
    pub(super) fn has_newest(&self, snapshot: &Snapshot) -> bool {
        let revision = snapshot.schema_revision();
        revision == Revision(0) || self.newest.load().as_ref().is_some_and(|newest| newest.revision == revision)
    }

    /// The schema in force at a snapshot; `None` before the first.
    pub(super) fn of(
        &self,
        store: &Store,
        snapshot: &Snapshot,
        limits: &Limits,
    ) -> Result<Option<Arc<InForce>>, Error> {
        let revision = snapshot.schema_revision();
        if revision == Revision(0) {
            return Ok(None);
        }
        if let Some(newest) = self.newest.load_full().filter(|newest| newest.revision == revision) {
            return Ok(Some(newest));
        }
        // Whoever else wants it meanwhile waits for the one compilation.
        let found = self.all.entry(revision).or_try_insert_with(|| self.compile(store, snapshot, limits))?.clone();
        if self.newest.load().as_ref().is_none_or(|newest| newest.revision < revision) {
            self.newest.store(Some(found.clone()));
        }
        while self.all.len() > KEPT_MAX
            && let Some(oldest) = self.all.iter().map(|schema| *schema.key()).min()
        {
            self.all.remove(&oldest);
        }
        Ok(Some(found))
    }

    fn compile(&self, store: &Store, snapshot: &Snapshot, limits: &Limits) -> Result<Arc<InForce>, Error> {
        let damaged = || Error::new(Kind::DataLoss, "CORRUPT", "stored data is damaged");
        let text = snapshot.schema_text()?.ok_or_else(damaged)?;
        let names = store.names();
        let compiled =
            compile(&text, limits).map_err(|_| damaged().with_detail("the stored schema does not compile"))?;
        let plan = Plan::new(&compiled.schema, &*names).map_err(|error| damaged().with_detail(error.to_string()))?;
        let plan = if self.unfolds { plan } else { plan.as_written() };
        let parents = parents_of(&compiled.schema)
            .filter_map(|(of, name)| names.member_number(names.type_number(of.as_str())?, name.as_str()))
            .collect();
        let revision = snapshot.schema_revision();
        Ok(Arc::new(InForce { revision, schema: compiled.schema, plan, names, parents }))
    }
}

/// The `parent` relations of a schema.
pub(super) fn parents_of(schema: &Schema) -> impl Iterator<Item = (&TypeName, &RelationName)> {
    schema.definitions().iter().flat_map(|definition| {
        definition.members.iter().filter_map(move |member| match member {
            Member::Relation(relation) if relation.is_parent => Some((&definition.name, &relation.name)),
            Member::Relation(_) | Member::Permission(_) => None,
        })
    })
}

/// The error for asking before there is a schema.
pub(super) fn no_schema() -> Error {
    Error::new(Kind::FailedPrecondition, "NO_SCHEMA", "no schema has been written yet")
        .with_hint("write one first: procura schema write FILE")
}

/// The error for a schema that does not compile, with everything that is wrong with it.
pub(super) fn does_not_compile(diagnostics: Vec<SchemaDiagnostic>) -> Error {
    let count = diagnostics.iter().filter(|diagnostic| diagnostic.is_error).count();
    let first = diagnostics.iter().find(|diagnostic| diagnostic.is_error);
    let first = first.map(|first| format!("line {}, column {}: {}", first.line, first.column, first.message));
    let errors = if count == 1 { "error" } else { "errors" };
    let message = format!("the schema has {count} {errors}; {}", first.unwrap_or_default());
    Error::new(Kind::InvalidArgument, "SCHEMA_INVALID", message)
        .with_fact("field", "schema")
        .with_diagnostics(diagnostics)
}
