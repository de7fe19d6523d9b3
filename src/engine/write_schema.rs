//! WriteSchema and ReadSchema. A schema replaces the whole one before it, atomically, with a revision; it is refused
//! when live tuples would become impossible.

use super::schemas::{does_not_compile, no_schema, parents_of};
use super::{Engine, Error, Kind, Metadata, SchemaDiagnostic};
use crate::model::{Consistency, RelationName, Revision, SubjectKind, TupleKey, TypeName};
use crate::schema::{self, AllowedSubject, Compiled, Member, Schema, SubjectForm};
use std::sync::Arc;

use crate::store::{self, Change, Commit, Form, NewSchema};

/// A schema to be put in force.
#[derive(Debug, Clone, Default)]
pub struct WriteSchema {
    pub text: String,
    /// Digest of the schema that is to be replaced: refused if another is in force. Empty means "none yet".
    pub expected_digest: Option<String>,
    /// Judges and reports, and writes nothing.
    pub dry_run: bool,
    pub metadata: Metadata,
}

/// What a schema write came to, or would come to.
#[derive(Debug, Clone)]
pub struct SchemaWritten {
    /// Of the write; of the state it was judged at, for a dry run.
    pub revision: Revision,
    /// SHA-256 of the text, in hex.
    pub digest: String,
    /// One line each.
    pub changes: Vec<String>,
    /// Live tuples that would become impossible. Only a dry run returns any; a write is refused for them.
    pub impact: Vec<Impact>,
    pub warnings: Vec<SchemaDiagnostic>,
}

/// Live tuples in a form that the new schema lacks.
#[derive(Debug, Clone, PartialEq)]
pub struct Impact {
    /// `type#relation`
    pub relation: String,
    /// `user`, `group#member` or `user:*`
    pub form: String,
    pub count: u64,
    pub sample: Option<TupleKey>,
}

/// The schema in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaRead {
    /// As it was written, byte for byte.
    pub text: String,
    /// SHA-256 of the text, in hex.
    pub digest: String,
    /// The revision it was read at.
    pub revision: Revision,
}

/// How often a schema is judged again because another was written meanwhile.
const RETRIES: usize = 8;

impl Engine {
    /// Compiles, judges against the tuples, and puts in force. `SCHEMA_INVALID` carries everything that is wrong.
    pub fn write_schema(&self, request: WriteSchema) -> Result<SchemaWritten, Error> {
        let diagnosed = |diagnostics: &[schema::Diagnostic]| -> Vec<SchemaDiagnostic> {
            diagnostics.iter().map(|diagnostic| SchemaDiagnostic::of(diagnostic, &request.text)).collect()
        };
        // A forgotten field must not take the schema away.
        if request.text.is_empty() {
            return Err(Error::invalid("schema", "", "there is no schema in the request"));
        }
        let compiled = schema::compile(&request.text, &self.limits)
            .map_err(|diagnostics| does_not_compile(diagnosed(&diagnostics)))?;
        let metadata = self.metadata(&request.metadata)?;
        let warnings = diagnosed(&compiled.warnings);
        for _ in 0..RETRIES {
            match self.replace_schema(&request, &compiled, &warnings, metadata.clone()) {
                Err(Replacing::Changed) => {}
                Err(Replacing::Refused(error)) => return Err(error),
                Ok(written) => return Ok(written),
            }
        }
        Err(store::Error::SchemaChanged.into())
    }

    fn replace_schema(
        &self,
        request: &WriteSchema,
        compiled: &Compiled,
        warnings: &[SchemaDiagnostic],
        metadata: Box<[u8]>,
    ) -> Result<SchemaWritten, Replacing> {
        let snapshot = self.store.published();
        let before = self.schemas.of(&self.store, &snapshot, &self.limits)?;
        let old = before.as_ref().map(|before| &before.schema);
        if let Some(expected) = &request.expected_digest {
            let found = old.map_or("", Schema::digest);
            if found != expected {
                let message = "another schema is in force than the one expected";
                let error = Error::new(Kind::FailedPrecondition, "SCHEMA_DIGEST_MISMATCH", message)
                    .with_fact("expected", expected.chars().take(64).collect::<String>())
                    .with_fact("found", found)
                    .with_hint("read the schema again, merge, and write with its digest");
                return Err(Replacing::Refused(error));
            }
        }
        let changes = schema::diff(old, &compiled.schema).iter().map(ToString::to_string).collect();
        let commit = Commit {
            schema_revision: snapshot.schema_revision(),
            parents: Arc::default(),
            preconditions: Vec::new(),
            precondition_rows_max: self.limits.precondition_rows_max,
            change: Change::Schema(new_schema(old, &compiled.schema)),
            metadata,
            only_judge: request.dry_run,
        };
        let (revision, impact) = match self.store.commit(commit) {
            Ok(committed) => (committed.revision, Vec::new()),
            Err(store::Error::SchemaChanged) => return Err(Replacing::Changed),
            Err(store::Error::TuplesInTheWay(forms)) if request.dry_run => {
                let impact = forms.into_iter().map(|form| Impact {
                    relation: form.relation,
                    form: form.form,
                    count: form.count,
                    sample: form.sample,
                });
                (snapshot.revision(), impact.collect())
            }
            Err(error) => return Err(Replacing::Refused(error.into())),
        };
        Ok(SchemaWritten {
            revision,
            digest: compiled.schema.digest().to_owned(),
            changes,
            impact,
            warnings: warnings.to_vec(),
        })
    }

    /// The schema in force; `NO_SCHEMA` before the first.
    pub fn read_schema(&self, consistency: Consistency) -> Result<SchemaRead, Error> {
        let pinned = self.pin(&consistency)?;
        let in_force = self.schemas.of(&self.store, &pinned.snapshot, &self.limits)?.ok_or_else(no_schema)?;
        Ok(SchemaRead {
            text: in_force.schema.text().to_owned(),
            digest: in_force.schema.digest().to_owned(),
            revision: pinned.snapshot.revision(),
        })
    }
}

enum Replacing {
    /// Another schema was written meanwhile.
    Changed,
    Refused(Error),
}

impl From<Error> for Replacing {
    fn from(error: Error) -> Replacing {
        Replacing::Refused(error)
    }
}

fn new_schema(old: Option<&Schema>, new: &Schema) -> NewSchema {
    let names = new
        .definitions()
        .iter()
        .map(|definition| {
            let members = definition.members.iter().map(Member::name).cloned().collect();
            (definition.name.clone(), members)
        })
        .collect();
    let removed = old.map(|old| schema::removed_forms(old, new)).unwrap_or_default();
    let must_be_empty = removed
        .into_iter()
        .map(|(object_type, relation, subject)| {
            let (kind, subject_relation) = match subject.form.clone() {
                SubjectForm::Object => (SubjectKind::Plain, None),
                SubjectForm::Wildcard => (SubjectKind::Wildcard, None),
                SubjectForm::Userset(relation) => (SubjectKind::Userset, Some(relation)),
            };
            let AllowedSubject { subject_type, form: _, caveat, expires } = subject;
            Form { object_type, relation, kind, subject_type, subject_relation, caveat, expires }
        })
        .collect();
    let was_parent = |of: &TypeName, name: &RelationName| {
        old.into_iter().flat_map(parents_of).any(|(old_of, old_name)| old_of == of && old_name == name)
    };
    // All of them if any is new: a cycle may run through old and new ones.
    let mut new_parents: Vec<_> = parents_of(new).map(|(of, name)| (of.clone(), name.clone())).collect();
    if new_parents.iter().all(|(of, name)| was_parent(of, name)) {
        new_parents.clear();
    }
    let caveats = new.caveats().iter().map(|caveat| caveat.name.clone()).collect();
    NewSchema { text: new.text().to_owned(), names, caveats, must_be_empty, new_parents }
}
