//! ListResources: the objects of a type on which a subject has a permission, in the order of their creation
//! (`list_order`), with a cursor after each.
//!
//! INVARIANT: an object is listed if and only if Check would not deny it at the same revision and clock reading, and with
//! the same decision: the walk gathers whoever could be meant, and each is asked about with the one definition. Too much
//! work is an error, never a short list.

use super::acting::{self, Authority, Keep, judge_acting};
use super::check::decided;
use super::cursor::CursorSeal;
use super::effect::{Here, Judged};
use super::list_order::ListOrder;
use super::resolve::{Resolver, Transient};
use super::schemas::InForce;
use super::situation::{Situation, Standing};
use super::{Engine, Error, refuse_cancelled};
use crate::graph::View;
use crate::model::{
    Acting, Cancel, ChainLink, ConsistencyToken, Context, Decision, Denial, Limits, MemberNum, Membership, ObjectNum,
    ObjectRef, RelationName, Revision, SubjectRef, TypeName, TypeNum,
};
use crate::store::Store;
use crate::walk::{Beneath, Budget, Node, Reached, resources_reached};
use std::sync::Arc;

/// What is listed.
#[derive(Debug, Clone)]
pub struct ListResources {
    pub object_type: TypeName,
    /// A permission or relation of the type.
    pub permission: RelationName,
    /// Never a wildcard.
    pub subject: SubjectRef,
    /// For whom the subject asks.
    pub acting: Acting,
    /// Only this object and those beneath it, by `parent` relations.
    pub within: Option<ObjectRef>,
    pub situation: Situation,
    /// From a row of an earlier list of the same: resumes after it, at a revision not older than its own.
    pub cursor: Option<String>,
}

/// One object, and the cursor that resumes after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceRow {
    pub object: ObjectRef,
    /// What Check says: never a deny.
    pub decision: Decision,
    /// Context fields that could still decide a conditional answer.
    pub missing_fields: Vec<String>,
    /// Why it is no allow, when the subject acts for another.
    pub denial: Option<Denial>,
    /// The chain by which it was found, root first, when the subject acts for another.
    pub chain: Vec<ChainLink>,
    pub cursor: String,
}

/// Lists on at the revision it was opened at. Its work is bounded as a whole, as one question's is.
pub struct ResourceLister {
    store: Arc<Store>,
    in_force: Arc<InForce>,
    view: View,
    historical: bool,
    of: TypeNum,
    target: MemberNum,
    transient: Transient,
    authority: Authority,
    context: Context,
    budget: Budget,
    /// Narrows who is asked about, and decides nothing.
    within: Option<Beneath>,
    /// Those that could be meant, in the list's order, and which of them is next.
    ahead: Ahead,
    seal: CursorSeal,
}

impl Engine {
    /// Opens a list. The cursor of another list, another database or a later revision is refused; so is a wildcard as
    /// the subject.
    pub fn list_resources(&self, request: ListResources, cancel: &Cancel) -> Result<ResourceLister, Error> {
        judge_acting(&request.acting, &request.situation)?;
        refuse_cancelled(cancel)?;
        let standing = self.stand(&request.situation, cancel)?;
        ResourceLister::open((&self.store, &self.limits), &standing, request, cancel)
    }
}

/// What is still to be asked about.
struct Ahead {
    reached: Reached,
    /// Ids of the request that were reached, which stand behind all others: the last first.
    behind: Vec<ObjectNum>,
    /// The one that is asked about, until it was.
    asked: Option<ObjectNum>,
    /// Why nobody can say what comes next: a list that was broken off is never a short one.
    broken: Option<Error>,
    order: ListOrder,
}

impl ResourceLister {
    /// Opens a list where a request stands.
    pub(super) fn open(
        (store, limits): (&Arc<Store>, &Limits),
        standing: &Standing,
        request: ListResources,
        cancel: &Cancel,
    ) -> Result<ResourceLister, Error> {
        let ListResources { object_type, permission, subject, acting, within, situation, cursor } = request;
        let mut budget = Budget::new(limits, cancel.clone());
        let mut resolver = Resolver::again(store, &standing.in_force, &standing.transient);
        let (of, target) = resolver.asked_member(&object_type, "object_type", &permission, "permission")?;
        let keeping = (&situation.context, Keep::Answers);
        let authority = Authority::of(standing, &mut resolver, (&subject, &acting), keeping, &mut budget)?;
        let revision = standing.revision();
        let mut scope = format!("resources {object_type}#{permission}@{subject}");
        let within = match &within {
            None => None,
            Some(root) => {
                scope.push_str(&format!(" within {root}"));
                Some(Beneath::of(resolver.object(root, "within.type")?))
            }
        };
        scope.push_str(&acting::scope(&acting));
        scope.push_str(&situation.scope());
        let seal = CursorSeal::new(
            ConsistencyToken { database: store.database(), incarnation: store.incarnation(), revision },
            &scope,
        );
        let after = cursor.as_ref().map(|text| seal.open(text, revision)).transpose()?;
        let order = ListOrder::new(&resolver, standing.view.snapshot(), of, after)?;
        let transient = resolver.into_transient();
        let Standing { in_force, view, newest: _, historical, transient: _ } = standing;
        let (in_force, view) = (in_force.clone(), view.clone());
        // Whatever it may do for another, it may do itself.
        let caller = authority.caller;
        let reached = resources_reached(&in_force.plan, &view, target, caller, order.passed(), &mut budget)?;
        Ok(ResourceLister {
            store: store.clone(),
            in_force,
            view,
            historical: *historical,
            of,
            target,
            transient,
            authority,
            context: situation.context,
            budget,
            within,
            ahead: Ahead { reached, behind: Vec::new(), asked: None, broken: None, order },
            seal,
        })
    }

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
    pub fn next_page(&mut self, rows_max: usize, cancel: &Cancel) -> Result<Vec<ResourceRow>, Error> {
        self.budget.on_behalf_of(cancel.clone());
        let resolver = Resolver::again(&self.store, &self.in_force, &self.transient);
        let object_type = self.in_force.names.type_name(self.of)?;
        let mut page = Vec::new();
        while page.len() < rows_max
            && let Some(number) = self.ahead.next(&self.view, &mut self.budget)?
        {
            if let Some(within) = &mut self.within
                && !within.has(&self.in_force.plan, &self.view, (self.of, number), &mut self.budget)?
            {
                self.ahead.asked = None;
                continue;
            }
            let node = Node { member: self.target, object: number };
            let (in_force, view, context) = (&*self.in_force, &self.view, &self.context);
            let here = Here { in_force, view, resolver: &resolver, context };
            let Judged { membership, missing, denial, by, valid_until: _, trail: _ } =
                self.authority.judge(here, node, &mut self.budget, false)?;
            self.ahead.asked = None;
            if membership == Membership::Not {
                continue;
            }
            page.push(ResourceRow {
                object: ObjectRef { object_type: object_type.clone(), id: resolver.id(self.of, number)? },
                decision: decided(membership),
                missing_fields: missing,
                denial,
                chain: self.authority.shown(by),
                cursor: self.seal.close(self.view.snapshot().revision(), &self.ahead.order.position(number)),
            });
        }
        Ok(page)
    }
}

impl Ahead {
    /// The next to be asked about, in the order of the list; it stays so until it was.
    fn next(&mut self, view: &View, budget: &mut Budget) -> Result<Option<ObjectNum>, Error> {
        let Ahead { reached, behind, asked, broken, order } = self;
        if let Some(error) = broken {
            return Err(error.clone());
        }
        if asked.is_some() {
            return Ok(*asked);
        }
        // Bounded: each object is reached once, and costs an edge.
        while let Some(number) = reached.next(view, budget).map_err(|error| broken.insert(error.into()).clone())? {
            if !order.is_ahead(number) {
                continue;
            }
            if order.is_by_number(number) {
                *asked = Some(number);
                return Ok(*asked);
            }
            let place = behind.partition_point(|other| order.place(*other) > order.place(number));
            behind.insert(place, number);
        }
        *asked = behind.pop();
        Ok(*asked)
    }
}
