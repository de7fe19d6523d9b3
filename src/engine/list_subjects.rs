//! ListSubjects: the subjects of a type that have a permission on an object, in the order of their creation
//! (`list_order`), with a cursor after each. `type:*` stands first, with whom it leaves out.
//!
//! INVARIANT: who is a member is decided by the reply alone, as Check would decide it: a subject listed by itself has the
//! decision of its row; one that is excluded from `type:*` has the decision that stands there; everybody else of the type
//! has the decision of `type:*`, or is denied where there is none. Each is asked about with the one definition; nobody
//! whom no row names can differ from anybody else whom no row names, so one of them is asked for all. Within a subtree the
//! same holds of those who are in it. Too much work, or too many exclusions, is an error, never a short list.

use super::check::decided;
use super::cursor::CursorSeal;
use super::list_order::{self, ListOrder};
use super::resolve::{Resolver, Transient, refused};
use super::schemas::InForce;
use super::situation::{Situation, Standing};
use super::{Engine, Error, Kind};
use crate::graph::{SubjectKey, View};
use crate::model::{
    Cancel, Context, Decision, Membership, ObjectNum, ObjectRef, RelationName, Revision, SubjectKind, SubjectRef,
    Suspension, TypeName, TypeNum,
};
use crate::schema::Side;
use crate::store::{Snapshot, Store};
use crate::walk::{
    self, Asked, Asker, Beneath, Budget, Mentioned, Node, SubjectForm, naming_relations, subjects_mentioned,
};
use hashbrown::HashMap;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What is listed.
#[derive(Debug, Clone)]
pub struct ListSubjects {
    pub object: ObjectRef,
    /// A permission or relation of the object's definition.
    pub permission: RelationName,
    pub subject_type: TypeName,
    /// Usersets of this relation or permission instead of plain objects.
    pub subject_relation: Option<RelationName>,
    /// Whether to name the relations whose tuples name each subject.
    pub with_relations: bool,
    /// Only subjects whose object is this one or beneath it, by `parent` relations. `type:*` stands for those of them whom
    /// no row names.
    pub within: Option<ObjectRef>,
    pub situation: Situation,
    /// From a row of an earlier list of the same: resumes after it, at a revision not older than its own.
    pub cursor: Option<String>,
}

/// One subject, or `type:*`, and the cursor that resumes after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectRow {
    pub subject: SubjectRef,
    /// Never a deny.
    pub decision: Decision,
    /// Context fields that could still decide a conditional answer.
    pub missing_fields: Vec<String>,
    /// Of `type:*`: whose answer is less than its own.
    pub exclusions: Vec<ExcludedSubject>,
    /// The relations whose tuples name the subject and so lead to the answer, if they were wanted: none where it is a
    /// member only by being the userset itself.
    pub relations: Vec<(ObjectRef, RelationName)>,
    pub cursor: String,
}

/// Someone whom `type:*` leaves out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExcludedSubject {
    pub subject: SubjectRef,
    /// A deny, or conditional beside an allowed `type:*`.
    pub decision: Decision,
    /// Context fields that could still decide a conditional answer.
    pub missing_fields: Vec<String>,
}

/// Lists on at the revision it was opened at. Its work is bounded as a whole, as one question's is.
pub struct SubjectLister {
    store: Arc<Store>,
    in_force: Arc<InForce>,
    view: View,
    historical: bool,
    root: Node,
    of: TypeNum,
    form: SubjectForm,
    subject_type: TypeName,
    subject_relation: Option<RelationName>,
    with_relations: bool,
    /// Narrows who is asked about, and decides nothing.
    within: Option<Beneath>,
    context: Context,
    transient: Transient,
    /// Of the type, who is denied whatever it was given.
    suspended: BTreeSet<ObjectNum>,
    budget: Budget,
    exclusions_max: usize,
    /// The answer to everybody whom no row names.
    everybody: Membership,
    /// Whether `type:*` is still to be listed.
    wildcard_is_next: bool,
    /// Those that could differ, in the list's order, each with its answer once it is known; and which of them is next.
    mentioned: Vec<(Mentioned, Option<Membership>)>,
    /// Of conditional answers: the context fields that could still decide them.
    missing: HashMap<ObjectNum, Vec<String>>,
    next: usize,
    order: ListOrder,
    seal: CursorSeal,
}

/// Where a list stopped: behind `type:*`, which stands first, or behind a subject.
const POSITION_BYTES: usize = 1 + list_order::POSITION_BYTES;
const AT_WILDCARD: u8 = 0;
const AT_SUBJECT: u8 = 1;

impl Engine {
    /// Opens a list. The cursor of another list, another database or a later revision is refused.
    pub fn list_subjects(&self, request: ListSubjects, cancel: &Cancel) -> Result<SubjectLister, Error> {
        let ListSubjects {
            object,
            permission,
            subject_type,
            subject_relation,
            with_relations,
            within,
            situation,
            cursor,
        } = request;
        let Standing { in_force, view, newest, historical, transient } = self.stand(&situation, cancel)?;
        let mut budget = Budget::new(&self.limits, cancel.clone());
        let revision = view.snapshot().revision();
        let mut resolver = Resolver::again(&self.store, &in_force, &transient);
        let root = resolver.asked_node(&object, &permission)?;
        in_force
            .schema
            .resolve_type(Side::Subject, &subject_type)
            .map_err(|refusal| refused(&refusal, "subject_type"))?;
        let (of, form) = match &subject_relation {
            None => {
                let (of, member) = resolver.itself(&subject_type)?;
                (of, SubjectForm { kind: SubjectKind::Plain, member })
            }
            Some(relation) => {
                let (of, member) =
                    resolver.asked_member(&subject_type, "subject_type", relation, "subject_relation")?;
                (of, SubjectForm { kind: SubjectKind::Userset, member })
            }
        };
        let suspended = match form.kind {
            SubjectKind::Plain => suspended_of(&newest, &subject_type, &mut resolver, &mut budget)?,
            SubjectKind::Userset | SubjectKind::Wildcard => BTreeSet::new(),
        };
        let relation = subject_relation.as_ref().map_or("...", RelationName::as_str);
        let mut scope = format!("subjects {object}#{permission}@{subject_type}#{relation}");
        let within = match &within {
            None => None,
            Some(root) => {
                scope.push_str(&format!(" within {root}"));
                Some(Beneath::of(resolver.object(root, "within.type")?))
            }
        };
        scope.push_str(&situation.scope());
        let seal = CursorSeal::new(self.token(revision), &scope);
        let position = match &cursor {
            None => None,
            Some(text) => Some(seal.open::<POSITION_BYTES>(text, revision)?),
        };
        let after = position.filter(|[at, ..]| *at == AT_SUBJECT).map(|[_, place @ ..]| place);
        let order = ListOrder::new(&resolver, view.snapshot(), of, after)?;
        let transient = resolver.into_transient();
        let mut mentioned = subjects_mentioned(&in_force.plan, &view, root, form, &mut budget)?;
        // They differ from everybody else, though no row names them.
        let named: BTreeSet<ObjectNum> = mentioned.iter().map(|one| one.object).collect();
        mentioned.extend(suspended.difference(&named).map(|object| Mentioned { object: *object, grants: false }));
        mentioned.retain(|one| order.is_ahead(one.object));
        mentioned.sort_unstable_by_key(|one| order.place(one.object));
        let mut lister = SubjectLister {
            store: self.store.clone(),
            in_force,
            view,
            historical,
            root,
            of,
            form,
            subject_type,
            subject_relation,
            with_relations,
            within,
            context: situation.context,
            transient,
            suspended,
            budget,
            exclusions_max: self.limits.exclusions_max,
            everybody: Membership::Not,
            wildcard_is_next: position.is_none(),
            mentioned: mentioned.into_iter().map(|one| (one, None)).collect(),
            missing: HashMap::new(),
            next: 0,
            order,
            seal,
        };
        if form.kind == SubjectKind::Plain {
            lister.everybody = lister.ask(ObjectNum::ANYBODY_ELSE)?;
        }
        Ok(lister)
    }
}

impl SubjectLister {
    /// The revision that is asked.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.view.snapshot().revision()
    }

    /// Asked for by an exact token, and not the newest revision.
    #[must_use]
    pub fn historical(&self) -> bool {
        self.historical
    }

    /// Up to `rows_max` further rows; none at the end.
    pub fn next_page(&mut self, rows_max: usize, cancel: &Cancel) -> Result<Vec<SubjectRow>, Error> {
        self.budget.on_behalf_of(cancel.clone());
        let mut page = Vec::new();
        if std::mem::take(&mut self.wildcard_is_next) && self.everybody != Membership::Not {
            page.push(self.wildcard()?);
        }
        while page.len() < rows_max
            && let Some((one, _)) = self.mentioned.get(self.next).copied()
        {
            if !self.is_within(one.object)? {
                self.next += 1;
                continue;
            }
            let membership = self.answer(self.next)?;
            self.next += 1;
            // Whoever no tuple grants anything is one of everybody, unless the answer differs, or what it hangs on.
            let of_everybody = membership == self.everybody
                && self.missing.get(&one.object) == self.missing.get(&ObjectNum::ANYBODY_ELSE);
            if membership == Membership::Not || (of_everybody && !one.grants) {
                continue;
            }
            let mut position = [AT_SUBJECT; POSITION_BYTES];
            position[1..].copy_from_slice(&self.order.position(one.object));
            page.push(SubjectRow {
                subject: self.subject(one.object)?,
                decision: decided(membership),
                missing_fields: self.missing_fields(one.object),
                exclusions: Vec::new(),
                relations: self.relations(self.key(one.object), self.key(one.object))?,
                cursor: self.seal.close(self.revision(), &position),
            });
        }
        Ok(page)
    }

    fn wildcard(&mut self) -> Result<SubjectRow, Error> {
        let mut exclusions = Vec::new();
        for at in 0..self.mentioned.len() {
            let Some((one, _)) = self.mentioned.get(at).copied() else { break };
            if !self.is_within(one.object)? {
                continue;
            }
            let membership = self.answer(at)?;
            if membership >= self.everybody {
                continue;
            }
            if exclusions.len() >= self.exclusions_max {
                let message = format!("more than {} subjects are excluded from the wildcard", self.exclusions_max);
                return Err(Error::new(Kind::ResourceExhausted, "TOO_MANY_EXCLUSIONS", message)
                    .with_fact("limit", "exclusions_max")
                    .with_fact("max", self.exclusions_max.to_string())
                    .with_hint("ask Check about single subjects"));
            }
            let (subject, decision) = (self.subject(one.object)?, decided(membership));
            exclusions.push(ExcludedSubject { subject, decision, missing_fields: self.missing_fields(one.object) });
        }
        let named = SubjectKey { kind: SubjectKind::Wildcard, member: self.form.member, object: ObjectNum(0) };
        Ok(SubjectRow {
            subject: SubjectRef::Wildcard(self.subject_type.clone()),
            decision: decided(self.everybody),
            missing_fields: self.missing_fields(ObjectNum::ANYBODY_ELSE),
            exclusions,
            relations: self.relations(named, self.key(ObjectNum::ANYBODY_ELSE))?,
            cursor: self.seal.close(self.revision(), &[AT_WILDCARD; POSITION_BYTES]),
        })
    }

    fn missing_fields(&self, object: ObjectNum) -> Vec<String> {
        self.missing.get(&object).cloned().unwrap_or_default()
    }

    fn key(&self, object: ObjectNum) -> SubjectKey {
        SubjectKey { kind: self.form.kind, member: self.form.member, object }
    }

    fn is_within(&mut self, object: ObjectNum) -> Result<bool, Error> {
        match &mut self.within {
            None => Ok(true),
            Some(within) => Ok(within.has(&self.in_force.plan, &self.view, (self.of, object), &mut self.budget)?),
        }
    }

    /// The answer to one of those mentioned, asked for once.
    fn answer(&mut self, at: usize) -> Result<Membership, Error> {
        match self.mentioned.get(at).copied() {
            None => Ok(Membership::Not),
            Some((_, Some(membership))) => Ok(membership),
            Some((one, None)) => {
                let membership = self.ask(one.object)?;
                if let Some((_, known)) = self.mentioned.get_mut(at) {
                    *known = Some(membership);
                }
                Ok(membership)
            }
        }
    }

    fn ask(&mut self, object: ObjectNum) -> Result<Membership, Error> {
        if self.suspended.contains(&object) {
            return Ok(Membership::Not);
        }
        let asked = Asked { node: self.root, subject: self.key(object) };
        let found = walk::check(&self.in_force.plan, &self.view, asked, &self.context, &mut self.budget, false)
            .map_err(|error| Resolver::again(&self.store, &self.in_force, &self.transient).told(error))?;
        if found.membership == Membership::Conditional {
            self.missing.insert(object, found.missing);
        }
        Ok(found.membership)
    }

    fn subject(&self, number: ObjectNum) -> Result<SubjectRef, Error> {
        let resolver = Resolver::again(&self.store, &self.in_force, &self.transient);
        let object = ObjectRef { object_type: self.subject_type.clone(), id: resolver.id(self.of, number)? };
        Ok(match &self.subject_relation {
            None => SubjectRef::Object(object),
            Some(relation) => SubjectRef::Userset(object, relation.clone()),
        })
    }

    /// The relations whose tuples name `named`, for the answer to `asked`.
    fn relations(&mut self, named: SubjectKey, asked: SubjectKey) -> Result<Vec<(ObjectRef, RelationName)>, Error> {
        if !self.with_relations {
            return Ok(Vec::new());
        }
        let mut asker = Asker::new(asked, self.context.clone());
        let (plan, view) = (&self.in_force.plan, &self.view);
        let nodes = naming_relations(plan, view, self.root, named, &mut asker, &mut self.budget)?;
        let resolver = Resolver::again(&self.store, &self.in_force, &self.transient);
        nodes.into_iter().map(|node| resolver.node(node)).collect()
    }
}

/// The suspended principals of a type, by their numbers.
pub(super) fn suspended_of(
    newest: &Snapshot,
    of: &TypeName,
    resolver: &mut Resolver<'_>,
    budget: &mut Budget,
) -> Result<BTreeSet<ObjectNum>, Error> {
    const PAGE: usize = 1_024;
    let mut suspended = BTreeSet::new();
    if !newest.any_suspensions() {
        return Ok(suspended);
    }
    let mut after = None;
    // Bounded: each page goes on after the one before, and each suspension costs an edge.
    loop {
        let page = newest.suspensions(after.as_ref(), PAGE)?;
        budget.spend(1 + page.len() as u64)?;
        for Suspension { principal, .. } in &page {
            if principal.object_type == *of
                && let Some(key) = resolver.known_principal(principal)?
            {
                suspended.insert(key.object);
            }
        }
        match page.into_iter().last() {
            None => return Ok(suspended),
            Some(last) => after = Some(last.principal),
        }
    }
}
