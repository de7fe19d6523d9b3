//! ListSubjects through live delegations: who may do something on an object for whom, and by which delegation.
//!
//! INVARIANT: a row stands there if and only if Check would not deny its subject by its delegation, with the same decision.
//! Directly and through delegations are two lists, never one.

use super::acting::{Authority, Keep, delegate_has, refuse_exact};
use super::check::decided;
use super::cursor::CursorSeal;
use super::effect::{Here, Judged};
use super::list_subjects::suspended_of;
use super::resolve::{Resolver, refused};
use super::situation::{Situation, Standing};
use super::{Engine, Error, ExcludedSubject};
use crate::model::{
    Acting, Cancel, ChainLink, Decision, Delegation, DelegationState, Limits, Membership, ObjectId, ObjectNum,
    ObjectRef, RelationName, Revision, SubjectKind, SubjectRef, TypeName, TypeNum,
};
use crate::schema::Side;
use crate::store::{DelegationsBy, Store};
use crate::walk::{Budget, Node, SubjectForm, ancestors, subjects_mentioned};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

/// What is listed.
#[derive(Debug, Clone)]
pub struct ListDelegates {
    pub object: ObjectRef,
    /// A permission or relation of the object's definition.
    pub permission: RelationName,
    /// Whoever acts is a plain object.
    pub subject_type: TypeName,
    pub situation: Situation,
    /// From a row of an earlier list of the same: resumes after it, at a revision not older than its own. Not together with
    /// contextual tuples.
    pub cursor: Option<String>,
}

/// Who may act, and by which chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelegateRow {
    /// An object; or `type:*`, where the delegation was given to a userset that everybody of the type is in.
    pub subject: SubjectRef,
    /// Root first, never empty.
    pub chain: Vec<ChainLink>,
    /// What Check says: never a deny.
    pub decision: Decision,
    /// Context fields that could still decide a conditional answer.
    pub missing: Vec<String>,
    /// Of `type:*`: whose answer is less than its own.
    pub exclusions: Vec<ExcludedSubject>,
    pub cursor: String,
}

/// Lists on at the revision it was opened at. The work for each delegation is bounded as one question's is.
pub struct DelegateLister {
    store: Arc<Store>,
    limits: Limits,
    standing: Standing,
    asked: ListDelegates,
    node: Node,
    /// Those that cover what is asked, by number; and the rows of the first that are not listed yet.
    ahead: BTreeMap<u64, Arc<Delegation>>,
    rows: std::vec::IntoIter<DelegateRow>,
    /// Of the delegation a cursor stood within: whoever stands up to this place was listed.
    after: Option<(u64, u32)>,
    seal: CursorSeal,
}

/// A position: the delegation's number, and the subject's number and one, or 0 for `type:*`, which stands first.
const POSITION_BYTES: usize = 12;
const AT_WILDCARD: u32 = 0;
/// Records read at a time.
const RECORDS: usize = 256;

impl Engine {
    /// Opens the list. Acting for another is judged at the newest revision.
    pub fn list_delegates(&self, request: ListDelegates, cancel: &Cancel) -> Result<DelegateLister, Error> {
        let situation = &request.situation;
        refuse_exact(situation)?;
        if request.cursor.is_some() && !situation.contextual_tuples.is_empty() {
            let message = "a list through delegations goes on only without contextual tuples";
            return Err(Error::invalid("cursor", "", message));
        }
        let standing = self.stand(situation, cancel)?;
        let Standing { in_force, view, transient, .. } = &standing;
        let mut budget = Budget::new(&self.limits, cancel.clone());
        let mut resolver = Resolver::again(&self.store, in_force, transient);
        let node = resolver.asked_node(&request.object, &request.permission)?;
        let known = in_force.schema.resolve_type(Side::Subject, &request.subject_type);
        known.map_err(|refusal| refused(&refusal, "subject_type"))?;
        let ListDelegates { object, permission, subject_type, situation: _, cursor } = &request;
        let scope = format!("delegates {object}#{permission}@{subject_type}{}", situation.scope());
        let seal = CursorSeal::new(self.token(standing.revision()), &scope);
        let after = match cursor {
            None => None,
            Some(text) => {
                let [a, b, c, d, e, f, g, h, place @ ..]: [u8; POSITION_BYTES] =
                    seal.open(text, standing.revision())?;
                Some((u64::from_be_bytes([a, b, c, d, e, f, g, h]), u32::from_be_bytes(place)))
            }
        };
        let mut above = Vec::new();
        let start = (in_force.names.member(node.member)?.of, node.object);
        let walked = ancestors(&in_force.plan, view, start, &mut budget, |of, object| {
            above.push((of, object));
            ControlFlow::Continue(())
        })?;
        debug_assert!(walked.is_continue());
        let mut ahead = BTreeMap::new();
        for (of, number) in above {
            let object_type = in_force.names.type_name(of)?.clone();
            let anchor = ObjectRef { object_type, id: resolver.id(of, number)? };
            let mut from = 0;
            // Bounded: each page goes on after the one before, and each record costs edges.
            loop {
                let page = view.snapshot().delegations_by(DelegationsBy::Anchor(&anchor), from, RECORDS)?;
                budget.spend(1 + page.len() as u64)?;
                let Some(last) = page.last() else { break };
                from = last.number;
                let live = page.into_iter().filter(|delegation| delegation.state(view.now()) == DelegationState::Live);
                ahead.extend(live.map(|delegation| (delegation.number, delegation)));
            }
        }
        if let Some((number, _)) = after {
            ahead.retain(|other, _| *other >= number);
        }
        Ok(DelegateLister {
            store: self.store.clone(),
            limits: self.limits.clone(),
            standing,
            asked: request,
            node,
            ahead,
            rows: Vec::new().into_iter(),
            after,
            seal,
        })
    }
}

impl DelegateLister {
    /// The revision that is asked.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.standing.revision()
    }

    /// Up to `rows_max` further rows; none at the end.
    pub fn next_page(&mut self, rows_max: usize, cancel: &Cancel) -> Result<Vec<DelegateRow>, Error> {
        let mut page = Vec::new();
        // Bounded: each turn lists a row, or ends a delegation.
        while page.len() < rows_max {
            if let Some(row) = self.rows.next() {
                page.push(row);
                continue;
            }
            let Some((_, delegation)) = self.ahead.pop_first() else { break };
            self.rows = self.rows_of(&delegation, cancel)?.into_iter();
        }
        Ok(page)
    }

    /// Everybody of the type who may act by one delegation: `type:*` first, then by number.
    fn rows_of(&self, delegation: &Delegation, cancel: &Cancel) -> Result<Vec<DelegateRow>, Error> {
        let mut budget = Budget::new(&self.limits, cancel.clone());
        let Standing { in_force, transient, .. } = &self.standing;
        let mut resolver = Resolver::again(&self.store, in_force, transient);
        let mut rows: Vec<DelegateRow> = Vec::new();
        match &delegation.delegate {
            SubjectRef::Wildcard(_) => {}
            SubjectRef::Object(object) if object.object_type != self.asked.subject_type => {}
            SubjectRef::Object(object) => {
                rows.extend(self.row(object, delegation, &mut budget)?);
            }
            SubjectRef::Userset(group, relation) => {
                let Some(group) = resolver.known_node(group, relation)? else { return Ok(rows) };
                let stranger = self.stranger()?;
                let everybody = self.row(&stranger, delegation, &mut budget)?;
                let mut named = self.mentioned(group, &mut resolver, &mut budget)?;
                let asking = (&stranger, &delegation.delegate);
                let context = &self.asked.situation.context;
                let holds_everybody = delegate_has(&self.standing, &mut resolver, asking, context, &mut budget)?;
                if holds_everybody.membership != Membership::Not {
                    // Then whoever has the permission may differ from everybody else, and whoever is suspended.
                    named.extend(self.mentioned(self.node, &mut resolver, &mut budget)?);
                    named.extend(self.suspended(&mut resolver, &mut budget)?);
                }
                let mut exclusions = Vec::new();
                for object in named.into_values() {
                    let row = self.row(&object, delegation, &mut budget)?;
                    let worth = |row: &Option<DelegateRow>| row.as_ref().map(|row| (row.decision, row.missing.clone()));
                    match (&everybody, &row) {
                        (Some(_), _) if worth(&row) == worth(&everybody) => continue,
                        (Some(all), _) if rank(row.as_ref()) < rank(Some(all)) => {
                            let (decision, missing) = worth(&row).unwrap_or((Decision::Deny, Vec::new()));
                            let subject = SubjectRef::Object(object.clone());
                            exclusions.push(ExcludedSubject { subject, decision, missing_fields: missing });
                        }
                        (Some(_) | None, _) => {}
                    }
                    rows.extend(row);
                }
                if let Some(mut row) = everybody {
                    row.subject = SubjectRef::Wildcard(self.asked.subject_type.clone());
                    row.exclusions = exclusions;
                    rows.insert(0, row);
                }
            }
        }
        let after = self.after.filter(|(number, _)| *number == delegation.number).map(|(_, place)| place);
        let mut ahead = Vec::with_capacity(rows.len());
        for mut row in rows {
            let place = match &row.subject {
                SubjectRef::Object(object) => {
                    let number = resolver.known_principal(object)?.map_or(u32::MAX, |key| key.object.0);
                    number.saturating_add(1)
                }
                SubjectRef::Userset(..) | SubjectRef::Wildcard(_) => AT_WILDCARD,
            };
            if after.is_none_or(|after| place > after) {
                let position = [delegation.number.to_be_bytes().as_slice(), &place.to_be_bytes()].concat();
                row.cursor = self.seal.close(self.revision(), &position);
                ahead.push(row);
            }
        }
        Ok(ahead)
    }

    /// One that no tuple names stands for everybody else.
    fn stranger(&self) -> Result<ObjectRef, Error> {
        let drawn = super::create_delegation::drawn()?.to_string();
        let id = ObjectId::new(&drawn).map_err(|error| Error::invalid_name("subject_type", &drawn, &error))?;
        Ok(ObjectRef { object_type: self.asked.subject_type.clone(), id })
    }

    /// Those of the type who are suspended, by number.
    fn suspended(&self, resolver: &mut Resolver<'_>, budget: &mut Budget) -> Result<BTreeMap<u32, ObjectRef>, Error> {
        let (of, _) = resolver.itself(&self.asked.subject_type)?;
        let numbers = suspended_of(&self.standing.newest, &self.asked.subject_type, resolver, budget)?;
        self.named(of, numbers, resolver)
    }

    /// The plain objects of the type on which an answer about a node could hang, by number.
    fn mentioned(
        &self,
        node: Node,
        resolver: &mut Resolver<'_>,
        budget: &mut Budget,
    ) -> Result<BTreeMap<u32, ObjectRef>, Error> {
        let Standing { in_force, view, .. } = &self.standing;
        let (of, member) = resolver.itself(&self.asked.subject_type)?;
        let form = SubjectForm { kind: SubjectKind::Plain, member };
        let found: BTreeSet<_> =
            subjects_mentioned(&in_force.plan, view, node, form, budget)?.into_iter().map(|one| one.object).collect();
        self.named(of, found, resolver)
    }

    fn named(
        &self,
        of: TypeNum,
        numbers: BTreeSet<ObjectNum>,
        resolver: &Resolver<'_>,
    ) -> Result<BTreeMap<u32, ObjectRef>, Error> {
        let object = |number: ObjectNum| {
            let id = resolver.id(of, number)?;
            Ok((number.0, ObjectRef { object_type: self.asked.subject_type.clone(), id }))
        };
        numbers.into_iter().map(object).collect()
    }

    /// The row of one principal by one delegation; none where it is denied.
    fn row(
        &self,
        object: &ObjectRef,
        delegation: &Delegation,
        budget: &mut Budget,
    ) -> Result<Option<DelegateRow>, Error> {
        let Standing { in_force, view, transient, .. } = &self.standing;
        let context = &self.asked.situation.context;
        let mut resolver = Resolver::again(&self.store, in_force, transient);
        let (subject, acting) = (SubjectRef::Object(object.clone()), Acting::via(delegation.id));
        let keeping = (context, Keep::Nothing);
        let mut authority = Authority::of(&self.standing, &mut resolver, (&subject, &acting), keeping, budget)?;
        let node = resolver.asked_node(&self.asked.object, &self.asked.permission)?;
        let here = Here { in_force, view, resolver: &resolver, context };
        let Judged { membership, missing, by, .. } = authority.judge(here, node, budget, false)?;
        Ok((membership != Membership::Not).then(|| DelegateRow {
            subject,
            chain: authority.shown(by),
            decision: decided(membership),
            missing,
            exclusions: Vec::new(),
            cursor: String::new(),
        }))
    }
}

fn rank(row: Option<&DelegateRow>) -> u8 {
    match row.map(|row| row.decision) {
        None | Some(Decision::Deny) => 0,
        Some(Decision::Conditional) => 1,
        Some(Decision::Allow) => 2,
    }
}
