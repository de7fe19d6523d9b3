//! ReplaceSubjects: exactly these subjects in one relation of one object, in one commit.

use super::resolve::refused;
use super::{Engine, Error, Kind, Metadata};
use crate::model::{
    ObjectRef, Precondition, RelationName, RelationTuple, Revision, SubjectRef, Timestamp, TupleCaveat, TupleKey,
};
use crate::store::{Change, Commit, Tally};
use hashbrown::HashSet;

/// Who is to stand in a relation of an object.
#[derive(Debug, Clone)]
pub struct ReplaceSubjects {
    pub object: ObjectRef,
    pub relation: RelationName,
    /// 0 to `updates_max`, no subject twice.
    pub subjects: Vec<TupleSubject>,
    /// Judged inside the commit.
    pub preconditions: Vec<Precondition>,
    pub metadata: Metadata,
}

/// A tuple without its object and relation.
#[derive(Debug, Clone, PartialEq)]
pub struct TupleSubject {
    pub subject: SubjectRef,
    pub caveat: Option<TupleCaveat>,
    pub expires_at: Option<Timestamp>,
}

/// What a replacement came to, in subjects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replaced {
    pub revision: Revision,
    /// Were not there.
    pub added: u64,
    /// Were there with another caveat or expiry.
    pub replaced: u64,
    /// Were there and are not wanted.
    pub removed: u64,
    /// Were there exactly so: nothing is written for them.
    pub unchanged: u64,
}

impl Engine {
    /// Leaves exactly these subjects. Changes at most `updates_max` tuples; nothing is written on any error.
    pub fn replace_subjects(&self, request: ReplaceSubjects) -> Result<Replaced, Error> {
        let ReplaceSubjects { object, relation, subjects, preconditions, metadata } = request;
        let most = self.limits.updates_max;
        if subjects.len() > most {
            let message = format!("{} subjects; one call takes at most {most}", subjects.len());
            let error = Error::new(Kind::ResourceExhausted, "TOO_MANY_UPDATES", message);
            return Err(error.with_fact("field", "subjects").with_fact("limit", most.to_string()));
        }
        let mut seen = HashSet::with_capacity(subjects.len());
        for (index, TupleSubject { subject, .. }) in subjects.iter().enumerate() {
            if !seen.insert(subject) {
                let message = format!("subjects[{index}]: `{subject}` stands in this call already");
                let error = Error::new(Kind::InvalidArgument, "DUPLICATE_UPDATE", message);
                return Err(error.with_fact("field", format!("subjects[{index}]")));
            }
        }
        drop(seen);
        let wanted = subjects.len() as u64;
        let tuples: Vec<RelationTuple> = subjects
            .into_iter()
            .map(|TupleSubject { subject, caveat, expires_at }| {
                let key = TupleKey { object: object.clone(), relation: relation.clone(), subject };
                RelationTuple { key, caveat, expires_at }
            })
            .collect();
        let metadata = self.metadata(&metadata)?;
        let committed = self.commit(|in_force| {
            let schema = &in_force.schema;
            schema.resolve_relation(&object.object_type, &relation).map_err(|refusal| refused(&refusal, "relation"))?;
            for (index, tuple) in tuples.iter().enumerate() {
                schema.admits(tuple).map_err(|refusal| refused(&refusal, format!("subjects[{index}]")))?;
            }
            self.judge_preconditions(in_force, &preconditions)?;
            Ok(Commit {
                schema_revision: in_force.revision,
                parents: in_force.parents.clone(),
                preconditions: preconditions.clone(),
                precondition_rows_max: self.limits.precondition_rows_max,
                change: Change::ReplaceSubjects {
                    object: object.clone(),
                    relation: relation.clone(),
                    tuples: tuples.clone(),
                    limit: most,
                },
                metadata: metadata.clone(),
                only_judge: false,
            })
        })?;
        let Tally { created, replaced, removed } = committed.tally;
        let unchanged = wanted.saturating_sub(created + replaced);
        Ok(Replaced { revision: committed.revision, added: created, replaced, removed, unchanged })
    }
}
