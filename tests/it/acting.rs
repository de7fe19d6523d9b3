//! Acting for another, against the oracle: what a chain allows is the least of what its delegations cover and everybody in
//! it may do, worked out the naive way over random worlds with random delegations, at the instants where they begin and end.
//!
//! What always holds: nobody does for another what it may not do itself, or the root may not, or its delegator may not by
//! the delegation above. The decision, the reason and the hop are the oracle's, alone, in a batch, in lists and explained.
//! `PROCURA_CHAINS` sets how many chains are tried, `PROCURA_SEED` replays.

use crate::agrees::Timed;
use crate::caveats::{Caveat, Condition, Given, Value};
use crate::engines::told;
use crate::filters::filter_agrees;
use crate::oracle::{Body, Flip, Form, M, O, Subject, T, Truth};
use crate::worlds::{
    Asked, Due, Fails, Instant, Rng, SECOND, START, World, context, decision, number, random_given, seed, timestamp,
};
use procura::engine::{
    Answer, AskedItem, CheckOptions, CreateDelegation, DelegationEnd, Explain, FilterResources, ListPermissions,
    ListResources, Metadata, NarrowDelegation, ReinstatePrincipal, RevokeDelegation, Situation, SuspendPrincipal,
};
use procura::model::{
    Acting, AskedPermissions, Cancel, CaveatName, Decision, DelegationId, Denial, DenyReason, Mandate, PermissionName,
    Question, RelationName, TupleCaveat, TupleUpdate, TypeName, UpdateKind,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};

const WORLDS_PER_BATCH: u64 = 12;
const DELEGATIONS_PER_WORLD: usize = 16;
/// At which delegations begin and end, and questions are asked: there, and one nanosecond beside.
const INSTANTS: [Instant; 8] = [
    START,
    START + 1,
    START + 10 * SECOND - 1,
    START + 10 * SECOND,
    START + 10 * SECOND + 1,
    START + 20 * SECOND,
    START + 30 * SECOND - 1,
    START + 30 * SECOND,
];

/// A part of a scope, in the oracle's terms.
#[derive(Clone, Debug)]
struct Item {
    pairs: BTreeSet<(T, M)>,
    within: Vec<O>,
    condition: Option<Condition>,
    asked: AskedPermissions,
}

/// A delegation, in the oracle's terms.
#[derive(Clone, Debug)]
struct Held {
    id: DelegationId,
    parent: Option<usize>,
    from: O,
    to: Subject,
    clauses: Vec<Vec<Item>>,
    begins: Instant,
    ends: Instant,
    revoked: bool,
}

/// A world, and who acts for whom in it.
struct Deputies {
    world: World,
    delegations: Vec<Held>,
    suspended: BTreeSet<O>,
    /// What each object may do itself at the start, given nothing, so that delegations are mostly of something.
    may: Vec<BTreeSet<(O, M)>>,
}

/// What is due: a decision, or an error, or either; and what is named.
#[derive(Debug, PartialEq, Eq)]
struct DueEffect {
    truth: Truth,
    fails: Fails,
    denial: Option<Denial>,
    /// How far it got.
    passed: (usize, usize),
}

/// What each principal may do itself, looked up once.
struct Owns<'a> {
    world: &'a World,
    request: &'a Given,
    now: Instant,
    known: HashMap<Subject, HashMap<(O, M), Due>>,
}

impl Owns<'_> {
    fn of(&mut self, subject: Subject, (object, member): (O, M)) -> Due {
        let known = self.known.entry(subject).or_insert_with(|| {
            let due = self.world.due(subject, self.request, self.now);
            due.into_iter().map(|(Asked { object, member, .. }, due)| ((object, member), due)).collect()
        });
        known[&(object, member)]
    }
}

fn certain(truth: Truth) -> (Truth, Fails) {
    (truth, Fails::Never)
}

impl Deputies {
    fn chain(&self, mut at: usize) -> Vec<usize> {
        let mut chain = vec![at];
        while let Some(parent) = self.delegations[at].parent {
            chain.push(parent);
            at = parent;
        }
        chain.reverse();
        chain
    }

    fn parents(&self, object: O) -> impl Iterator<Item = O> {
        let of = self.world.objects[object].of;
        self.world.tuples.keys().filter_map(move |tuple| match tuple.subject {
            Subject::Object(parent)
                if tuple.object == object && self.world.schema.parents.contains(&(of, tuple.relation)) =>
            {
                Some(parent)
            }
            _ => None,
        })
    }

    /// The object and all above it.
    fn ancestors(&self, object: O) -> BTreeSet<O> {
        let mut found = BTreeSet::from([object]);
        loop {
            let further: BTreeSet<O> = found.iter().flat_map(|object| self.parents(*object)).collect();
            let before = found.len();
            found.extend(further);
            if found.len() == before {
                return found;
            }
        }
    }

    fn scope(&self, delegation: &Held, (object, member): (O, M), request: &Given) -> (Truth, Fails, DenyReason) {
        let above = self.ancestors(object);
        let pair = (self.world.objects[object].of, member);
        let mut least = certain(Truth::Allow);
        let mut denied = None;
        for clause in &delegation.clauses {
            let matching: Vec<&Item> = clause
                .iter()
                .filter(|item| item.pairs.contains(&pair) && item.within.iter().any(|anchor| above.contains(anchor)))
                .collect();
            if matching.is_empty() {
                return (Truth::Deny, Fails::Never, DenyReason::OutOfScope);
            }
            let mut most = certain(Truth::Deny);
            for item in matching {
                let worth = match &item.condition {
                    None => certain(Truth::Allow),
                    Some(condition) => match condition.evaluate(request, Flip::None) {
                        crate::caveats::Outcome::Failed => (Truth::Conditional, Fails::Always),
                        outcome => certain(outcome.worth(Flip::None)),
                    },
                };
                most = if worth.0 == Truth::Allow || most.0 == Truth::Allow {
                    certain(Truth::Allow)
                } else {
                    (most.0.max(worth.0), if worth.1 == Fails::Always { worth.1 } else { most.1 })
                };
            }
            if most.0 == Truth::Deny {
                denied = denied.or(Some(DenyReason::ConditionFalse));
            }
            least = (least.0.min(most.0), if most.1 == Fails::Always { most.1 } else { least.1 });
        }
        match denied {
            Some(reason) => (Truth::Deny, Fails::Never, reason),
            None => (least.0, least.1, DenyReason::ConditionFalse),
        }
    }

    fn link(&self, actor: O, delegate: Subject, owns: &mut Owns<'_>) -> (Truth, Fails) {
        match delegate {
            Subject::Object(object) => certain(if object == actor { Truth::Allow } else { Truth::Deny }),
            Subject::Userset(group, relation) => {
                let due = owns.of(Subject::Object(actor), (group, relation));
                (due.truth, due.fails)
            }
            Subject::Wildcard(_) => panic!("nobody delegates to everybody"),
        }
    }

    /// What a chain allows its caller, test by test.
    fn effect(&self, chain: &[usize], caller: O, asked: (O, M), owns: &mut Owns<'_>) -> DueEffect {
        let n = chain.len();
        let mut actors: Vec<O> = chain.iter().map(|at| self.delegations[*at].from).collect();
        actors.push(caller);
        let mut tests: Vec<(Truth, Fails, DenyReason, usize, usize)> = Vec::new();
        for (before, at) in chain.iter().enumerate() {
            let (hop, delegation) = (before + 1, &self.delegations[*at]);
            let (truth, fails) = self.link(actors[hop], delegation.to, owns);
            let reason = if hop == n { DenyReason::NotTheDelegate } else { DenyReason::LinkBroken };
            tests.push((truth, fails, reason, hop, 0));
            let state = if delegation.revoked {
                Some(DenyReason::DelegationRevoked)
            } else if owns.now < delegation.begins {
                Some(DenyReason::DelegationNotYetValid)
            } else if owns.now >= delegation.ends {
                Some(DenyReason::DelegationExpired)
            } else {
                None
            };
            let (truth, reason) = match state {
                None => (Truth::Allow, DenyReason::DelegationExpired),
                Some(reason) => (Truth::Deny, reason),
            };
            tests.push((truth, Fails::Never, reason, hop, 0));
            let (truth, fails, reason) = self.scope(delegation, asked, owns.request);
            tests.push((truth, fails, reason, hop, 0));
        }
        let order: Vec<usize> = [n, 0].into_iter().chain(1..n).collect();
        for hop in &order {
            let is_suspended = self.suspended.contains(&actors[*hop]);
            let truth = if is_suspended { Truth::Deny } else { Truth::Allow };
            tests.push((truth, Fails::Never, DenyReason::Suspended, *hop, 1));
        }
        for hop in &order {
            let due = owns.of(Subject::Object(actors[*hop]), asked);
            let reason = match *hop {
                hop if hop == n => DenyReason::ActorLacksPermission,
                0 => DenyReason::RootLacksPermission,
                _ => DenyReason::IntermediateLacksPermission,
            };
            tests.push((due.truth, due.fails, reason, *hop, 2));
        }
        if let Some(at) = tests.iter().position(|test| test.0 == Truth::Deny) {
            let (_, _, reason, hop, stage) = tests[at];
            let denial = Some(Denial { reason, hop: Some(hop) });
            // What the chain is expected to be comes first of all.
            return DueEffect { truth: Truth::Deny, fails: Fails::Never, denial, passed: (stage, at + 1) };
        }
        let truth = tests.iter().map(|test| test.0).min().unwrap();
        let fails = if tests.iter().any(|test| test.1 == Fails::Always) {
            Fails::Always
        } else if tests.iter().any(|test| test.1 == Fails::Perhaps) {
            Fails::Perhaps
        } else {
            Fails::Never
        };
        let open = tests.iter().find(|test| test.0 == Truth::Conditional && test.1 == Fails::Never);
        let denial = open.map(|test| Denial { reason: DenyReason::ContextMissing, hop: Some(test.3) });
        DueEffect { truth, fails, denial, passed: (usize::MAX, 0) }
    }

    /// The most that any chain of a root allows, as far as it lives and was given to the caller.
    fn on_behalf_of(&self, root: O, caller: O, asked: (O, M), owns: &mut Owns<'_>) -> DueEffect {
        let mut most: Option<DueEffect> = None;
        let mut fails = Fails::Never;
        for (at, delegation) in self.delegations.iter().enumerate() {
            let chain = self.chain(at);
            let lives = !delegation.revoked && delegation.begins <= owns.now && owns.now < delegation.ends;
            if self.delegations[chain[0]].from != root || !lives {
                continue;
            }
            if self.link(caller, delegation.to, owns).0 == Truth::Deny {
                continue;
            }
            let effect = self.effect(&chain, caller, asked, owns);
            if effect.truth == Truth::Allow {
                return effect;
            }
            fails = match (fails, effect.fails) {
                (Fails::Always, _) | (_, Fails::Always) => Fails::Always,
                (Fails::Perhaps, _) | (_, Fails::Perhaps) => Fails::Perhaps,
                (Fails::Never, Fails::Never) => Fails::Never,
            };
            if most.as_ref().is_none_or(|most| (effect.truth, effect.passed) > (most.truth, most.passed)) {
                most = Some(effect);
            }
        }
        let none = Some(Denial { reason: DenyReason::NoDelegation, hop: None });
        let most = most.unwrap_or(DueEffect { truth: Truth::Deny, fails, denial: none, passed: (0, 0) });
        DueEffect { fails, ..most }
    }
}

/// A random world whose relations to plain objects are mostly places in a hierarchy.
fn random_world(rng: &mut Rng, prefix: &str) -> World {
    let mut world = World::random(rng, prefix);
    let mut parents = BTreeSet::new();
    for (of, t) in world.schema.types.iter().enumerate() {
        for (m, member) in t.members.iter().enumerate() {
            if let Body::Relation(forms) = &member.body
                && forms.iter().all(|form| matches!(form.form, Form::Object(_)))
                && rng.chance(80)
            {
                parents.insert((of, m));
            }
        }
    }
    for (of, m) in &parents {
        if let Body::Relation(forms) = &mut world.schema.types[*of].members[*m].body {
            let mut plain = Vec::new();
            for form in forms.drain(..) {
                let form = crate::oracle::Admitted::plain(form.form);
                if !plain.contains(&form) {
                    plain.push(form);
                }
            }
            *forms = plain;
        }
    }
    let of: Vec<T> = world.objects.iter().map(|object| object.of).collect();
    // Acyclic: parents come before their children.
    world.tuples.retain(|tuple, mark| {
        if !parents.contains(&(of[tuple.object], tuple.relation)) {
            return true;
        }
        *mark = crate::worlds::Mark::default();
        matches!(tuple.subject, Subject::Object(parent) if parent < tuple.object)
    });
    world.schema.parents = parents;
    world
}

fn random_condition(rng: &mut Rng) -> Option<Condition> {
    if rng.chance(70) {
        return None;
    }
    let stored = |pairs: &[(&'static str, Value)]| Given::from_iter(pairs.iter().cloned());
    Some(match rng.below(4) {
        0 => Condition { caveat: Caveat::Flag, stored: Given::new() },
        1 => Condition { caveat: Caveat::Level, stored: stored(&[("need", Value::Int(3))]) },
        2 => Condition { caveat: Caveat::Flag, stored: stored(&[("on", Value::Bool(rng.chance(50)))]) },
        _ => Condition { caveat: Caveat::Divides, stored: Given::new() },
    })
}

impl Deputies {
    fn type_name(&self, of: T) -> TypeName {
        TypeName::new(self.world.schema.types[of].name.as_str()).unwrap()
    }

    fn member_name(&self, (of, m): (T, M)) -> RelationName {
        RelationName::new(self.world.schema.types[of].members[m].name.as_str()).unwrap()
    }

    /// The type, and all that can lie beneath it.
    fn beneath(&self, anchors: &[O]) -> BTreeSet<T> {
        let mut found: BTreeSet<T> = anchors.iter().map(|anchor| self.world.objects[*anchor].of).collect();
        loop {
            let before = found.len();
            for (of, m) in &self.world.schema.parents {
                let Body::Relation(forms) = &self.world.schema.types[*of].members[*m].body else { continue };
                if forms.iter().any(|form| matches!(form.form, Form::Object(above) if found.contains(&above))) {
                    found.insert(*of);
                }
            }
            if found.len() == before {
                return found;
            }
        }
    }

    /// An item that covers something that all of these may do, if there is anything.
    fn likely_item(&self, rng: &mut Rng, who: &[O]) -> Option<Item> {
        let mut common = self.may[*who.first()?].clone();
        common.retain(|asked| who.iter().all(|one| self.may[*one].contains(asked)));
        let common: Vec<(O, M)> = common.into_iter().collect();
        if common.is_empty() {
            return None;
        }
        let (object, member) = *rng.pick(&common);
        let above: Vec<O> = self.ancestors(object).into_iter().collect();
        let within = vec![*rng.pick(&above)];
        let of = self.world.objects[object].of;
        let is_permission = matches!(self.world.schema.types[of].members[member].body, Body::Permission(_));
        let condition = random_condition(rng);
        if is_permission && rng.chance(40) {
            let types = self.beneath(&within);
            let members = types
                .iter()
                .flat_map(|of| (0..self.world.schema.types[*of].members.len()).map(move |m| (*of, m)))
                .filter(|(of, m)| matches!(self.world.schema.types[*of].members[*m].body, Body::Permission(_)));
            return Some(Item { pairs: members.collect(), within, condition, asked: AskedPermissions::All });
        }
        let name = PermissionName { object_type: Some(self.type_name(of)), name: self.member_name((of, member)) };
        let pairs = BTreeSet::from([(of, member)]);
        Some(Item { pairs, within, condition, asked: AskedPermissions::Named(vec![name]) })
    }

    fn random_item(&self, rng: &mut Rng) -> Item {
        let objects: Vec<O> = (0..self.world.objects.len()).collect();
        // Mostly what others are beneath.
        let above: Vec<O> = objects
            .iter()
            .flat_map(|object| self.ancestors(*object).into_iter().filter(move |above| above != object))
            .collect();
        let anchor =
            |rng: &mut Rng| if above.is_empty() || rng.chance(30) { *rng.pick(&objects) } else { *rng.pick(&above) };
        let mut within: Vec<O> = (0..rng.between(1, 3)).map(|_| anchor(rng)).collect();
        within.sort_unstable();
        within.dedup();
        let types = self.beneath(&within);
        let members: Vec<(T, M)> = types
            .iter()
            .flat_map(|of| (0..self.world.schema.types[*of].members.len()).map(move |m| (*of, m)))
            .collect();
        let is_permission =
            |(of, m): &(T, M)| matches!(self.world.schema.types[*of].members[*m].body, Body::Permission(_));
        let permissions: BTreeSet<(T, M)> = members.iter().copied().filter(is_permission).collect();
        if members.is_empty() || (rng.chance(45) && !permissions.is_empty()) {
            return Item { pairs: permissions, within, condition: random_condition(rng), asked: AskedPermissions::All };
        }
        let mut pairs = BTreeSet::new();
        let mut names = BTreeSet::new();
        for _ in 0..rng.between(1, 4) {
            let (of, m) = *rng.pick(&members);
            let name = self.member_name((of, m));
            if rng.chance(40) {
                pairs.insert((of, m));
                names.insert(PermissionName { object_type: Some(self.type_name(of)), name });
            } else {
                pairs.extend(members.iter().copied().filter(|pair| self.member_name(*pair) == name));
                names.insert(PermissionName { object_type: None, name });
            }
        }
        let asked = AskedPermissions::Named(names.into_iter().collect());
        Item { pairs, within, condition: random_condition(rng), asked }
    }

    fn to_engine(&self, item: &Item) -> AskedItem {
        AskedItem {
            permissions: item.asked.clone(),
            within: item.within.iter().map(|object| self.world.object_ref(*object)).collect(),
            caveat: item.condition.as_ref().map(|condition| TupleCaveat {
                name: CaveatName::new(self.world.schema.caveat_name(condition.caveat)).unwrap(),
                context: context(&condition.stored),
            }),
        }
    }

    /// Makes one more, if the engine takes it.
    fn delegate(&mut self, rng: &mut Rng, engine: &Timed) {
        let objects: Vec<O> = (0..self.world.objects.len()).collect();
        let held: Vec<usize> = (0..self.delegations.len()).collect();
        let parent = (!held.is_empty() && rng.chance(70)).then(|| {
            // The deeper of two, so that some chains become long.
            let (one, other) = (*rng.pick(&held), *rng.pick(&held));
            if self.chain(one).len() >= self.chain(other).len() { one } else { other }
        });
        let able: Vec<O> = objects.iter().copied().filter(|object| !self.may[*object].is_empty()).collect();
        let somebody = |rng: &mut Rng| {
            if able.is_empty() || rng.chance(15) { *rng.pick(&objects) } else { *rng.pick(&able) }
        };
        let from = match parent.map(|at| self.delegations[at].to) {
            Some(Subject::Object(object)) => object,
            _ => somebody(rng),
        };
        let usersets: Vec<Subject> =
            self.world.subjects().into_iter().filter(|subject| matches!(subject, Subject::Userset(..))).collect();
        let to =
            if rng.chance(20) && !usersets.is_empty() { *rng.pick(&usersets) } else { Subject::Object(somebody(rng)) };
        let who: Vec<O> = match to {
            Subject::Object(to) => vec![from, to],
            _ => vec![from],
        };
        let mut items: Vec<Item> = match parent {
            // Often what the parent covers, so that long chains still allow something.
            Some(at) if rng.chance(60) => self.delegations[at].clauses[0].clone(),
            _ => (0..rng.between(0, 2)).map(|_| self.random_item(rng)).collect(),
        };
        if rng.chance(80) || items.is_empty() {
            let item = self.likely_item(rng, &who).unwrap_or_else(|| self.random_item(rng));
            items.push(item);
        }
        let begins = if rng.chance(70) { START } else { *rng.pick(&INSTANTS) };
        let ends = if rng.chance(50) { START + 1_000 * SECOND } else { *rng.pick(&INSTANTS) };
        let request = CreateDelegation {
            delegator: self.world.object_ref(from),
            delegate: self.world.subject_ref(to),
            items: items.iter().map(|item| self.to_engine(item)).collect(),
            parent: parent.map(|at| self.delegations[at].id),
            not_before: Some(timestamp(begins)),
            end: DelegationEnd::At(timestamp(ends)),
            redelegate: u32::try_from(rng.between(1, 5)).unwrap(),
            purpose: String::new(),
            issued_by: String::new(),
            metadata: Metadata::new(),
            strict: false,
            idempotency_key: None,
            preconditions: Vec::new(),
            clock: None,
        };
        let Ok(made) = engine.create_delegation(request, &Cancel::default()) else { return };
        let ends = parent.map_or(ends, |at| ends.min(self.delegations[at].ends));
        let id = made.delegation.id;
        self.delegations.push(Held { id, parent, from, to, clauses: vec![items], begins, ends, revoked: false });
    }

    fn narrow(&mut self, rng: &mut Rng, engine: &Timed, at: usize) {
        let items: Vec<Item> = if rng.chance(50) {
            vec![self.random_item(rng)]
        } else {
            let first = &self.delegations[at].clauses[0];
            vec![rng.pick(first).clone()]
        };
        let request = NarrowDelegation {
            id: self.delegations[at].id,
            items: items.iter().map(|item| self.to_engine(item)).collect(),
            expires_at: None,
            preconditions: Vec::new(),
            metadata: Metadata::new(),
        };
        if engine.narrow_delegation(request).is_ok() {
            self.delegations[at].clauses.push(items);
        }
    }

    fn revoke(&mut self, engine: &Timed, at: usize) {
        let request = RevokeDelegation {
            id: self.delegations[at].id,
            reason: String::new(),
            preconditions: Vec::new(),
            metadata: Metadata::new(),
        };
        engine.revoke_delegation(request).unwrap_or_else(|error| panic!("{}", told(&error)));
        self.delegations[at].revoked = true;
    }

    fn suspend(&mut self, engine: &Timed, object: O) {
        let principal = self.world.object_ref(object);
        let request =
            SuspendPrincipal { principal, reason: String::new(), preconditions: Vec::new(), metadata: Metadata::new() };
        engine.suspend_principal(request).unwrap_or_else(|error| panic!("{}", told(&error)));
        self.suspended.insert(object);
    }

    fn reinstate(&mut self, engine: &Timed, object: O) {
        let principal = self.world.object_ref(object);
        let request = ReinstatePrincipal { principal, preconditions: Vec::new(), metadata: Metadata::new() };
        engine.reinstate_principal(request).unwrap_or_else(|error| panic!("{}", told(&error)));
        self.suspended.remove(&object);
    }

    fn question(&self, (object, member): (O, M), caller: O) -> Question {
        self.world.question(Asked { object, member, subject: Subject::Object(caller) })
    }
}

/// What was tried, and how it came out.
#[derive(Default, Debug)]
struct Tally {
    chains: u64,
    by_depth: BTreeMap<usize, u64>,
    asked: u64,
    allowed: u64,
    conditional: u64,
    failed: u64,
    listed: u64,
    filtered: crate::filters::Tally,
    reasons: BTreeMap<&'static str, u64>,
}

/// One question of a world.
#[derive(Clone, Debug)]
struct Ask {
    mandate: Mandate,
    caller: O,
    asked: (O, M),
}

fn situation(request: &Given, now: Instant) -> Situation {
    Situation { context: context(request), clock: Some(timestamp(now)), ..Situation::default() }
}

fn options(acting: &Mandate, request: &Given, now: Instant) -> CheckOptions {
    let situation = situation(request, now);
    let acting = Acting { mandate: acting.clone(), ..Acting::default() };
    CheckOptions { situation, acting, ..CheckOptions::default() }
}

/// The engine's answer must be what is due.
fn compare(due: &DueEffect, found: &Result<Answer, procura::engine::Error>, told_of: impl Fn() -> String) {
    let answer = match found {
        Ok(answer) => answer,
        Err(error) => {
            assert_eq!(error.reason, "CAVEAT_FAILED", "{}: {}", told_of(), told(error));
            assert_ne!(due.fails, Fails::Never, "{}: {due:?} and it failed: {}", told_of(), told(error));
            return;
        }
    };
    assert_ne!(due.fails, Fails::Always, "{}: it had to fail, and {:?}", told_of(), answer.decision);
    assert_eq!(answer.decision, decision(due.truth), "{}: {due:?}, and {answer:?}", told_of());
    if due.fails == Fails::Never {
        assert_eq!(answer.denial, due.denial, "{}: {due:?}, and {answer:?}", told_of());
    }
}

/// What each object may do itself at the start.
fn learn(deputies: &mut Deputies) {
    let world = &deputies.world;
    let rows = world.rows(&Given::new(), START, Flip::None);
    let may = (0..world.objects.len()).map(|who| {
        let held = world.held(&rows, Subject::Object(who));
        let asked = world.asked(Subject::Object(who)).filter(|one| held[one.object][one.member] == Truth::Allow);
        asked.map(|one| (one.object, one.member)).collect()
    });
    deputies.may = may.collect();
}

fn run_world(deputies: &mut Deputies, rng: &mut Rng, engine: &Timed, tally: &mut Tally) {
    let objects: Vec<O> = (0..deputies.world.objects.len()).collect();
    learn(deputies);
    for object in &objects {
        if rng.chance(4) {
            deputies.suspend(engine, *object);
        }
    }
    for _ in 0..DELEGATIONS_PER_WORLD {
        deputies.delegate(rng, engine);
    }
    for at in 0..deputies.delegations.len() {
        if rng.chance(15) {
            deputies.narrow(rng, engine, at);
        }
        if rng.chance(6) {
            deputies.revoke(engine, at);
        }
    }
    tally.chains += deputies.delegations.len() as u64;
    for at in 0..deputies.delegations.len() {
        *tally.by_depth.entry(deputies.chain(at).len()).or_default() += 1;
    }
    for _ in 0..2 {
        let now = *rng.pick(&INSTANTS);
        let request = random_given(rng);
        ask_all(deputies, rng, engine, (now, &request), tally);
    }
    // The next check sees it, whatever it is.
    for at in 0..deputies.delegations.len() {
        if rng.chance(30) {
            deputies.revoke(engine, at);
        }
    }
    for object in &objects {
        if deputies.suspended.contains(object) && rng.chance(50) {
            deputies.reinstate(engine, *object);
        } else if rng.chance(10) {
            deputies.suspend(engine, *object);
        }
    }
    let request = random_given(rng);
    ask_all(deputies, rng, engine, (START, &request), tally);
}

fn ask_all(deputies: &Deputies, rng: &mut Rng, engine: &Timed, (now, request): (Instant, &Given), tally: &mut Tally) {
    let world = &deputies.world;
    let objects: Vec<O> = (0..world.objects.len()).collect();
    let everything: Vec<(O, M)> = objects
        .iter()
        .flat_map(|object| (0..world.schema.types[world.objects[*object].of].members.len()).map(|m| (*object, m)))
        .collect();
    if everything.is_empty() {
        return;
    }
    let mut owns = Owns { world, request, now, known: HashMap::new() };
    let mut asks: Vec<(Ask, DueEffect)> = Vec::new();
    for (at, delegation) in deputies.delegations.iter().enumerate() {
        let chain = deputies.chain(at);
        let mut callers = vec![*rng.pick(&objects)];
        match delegation.to {
            Subject::Object(object) => callers.push(object),
            _ => callers.extend((0..2).map(|_| *rng.pick(&objects))),
        }
        for caller in callers {
            // Half of them where it is likely to allow something.
            let effects: Vec<((O, M), DueEffect)> =
                everything.iter().map(|asked| (*asked, deputies.effect(&chain, caller, *asked, &mut owns))).collect();
            let those = |keep: &dyn Fn(&DueEffect) -> bool| -> Vec<(O, M)> {
                effects.iter().filter(|(_, due)| keep(due)).map(|(asked, _)| *asked).collect()
            };
            let likely = those(&|due| due.passed.0 > 0);
            let held = those(&|due| due.truth != Truth::Deny);
            for n in 0..8 {
                let from = match n % 4 {
                    0 | 1 if !held.is_empty() => &held,
                    2 if !likely.is_empty() => &likely,
                    _ => &everything,
                };
                let asked = *rng.pick(from);
                let due = deputies.effect(&chain, caller, asked, &mut owns);
                asks.push((Ask { mandate: Mandate::Delegation(delegation.id), caller, asked }, due));
                let root = deputies.delegations[chain[0]].from;
                let due = deputies.on_behalf_of(root, caller, asked, &mut owns);
                asks.push((Ask { mandate: Mandate::OnBehalfOf(world.object_ref(root)), caller, asked }, due));
            }
        }
    }
    let mut batches: BTreeMap<String, Vec<&(Ask, DueEffect)>> = BTreeMap::new();
    for asked in &asks {
        let (ask, due) = asked;
        let question = deputies.question(ask.asked, ask.caller);
        let told_of = || format!("{:?} {:?} at {now}, given {request:?}", ask.mandate, question);
        let found = engine.check(&question, &options(&ask.mandate, request, now)).map(|found| found.answer);
        compare(due, &found, told_of);
        tally.asked += 1;
        match &found {
            Err(_) => tally.failed += 1,
            Ok(answer) => {
                match answer.decision {
                    Decision::Allow => tally.allowed += 1,
                    Decision::Conditional => tally.conditional += 1,
                    Decision::Deny => {}
                }
                if let Some(denial) = answer.denial {
                    *tally.reasons.entry(denial.reason.as_str()).or_default() += 1;
                }
            }
        }
        if let Ok(answer) = &found {
            no_more_than_its_parts(deputies, engine, ask, answer.decision, (now, request));
            if rng.chance(5) {
                explained(engine, &question, (ask, due), (now, request));
            }
        }
        batches.entry(format!("{:?}", ask.mandate)).or_default().push(asked);
    }
    for batch in batches.values() {
        let questions: Vec<Question> = batch.iter().map(|(ask, _)| deputies.question(ask.asked, ask.caller)).collect();
        let bulk = engine.check_bulk(&questions, &options(&batch[0].0.mandate, request, now)).expect("a batch");
        for ((ask, due), found) in batch.iter().zip(&bulk.answers) {
            compare(due, found, || format!("in a batch, {ask:?} at {now}"));
        }
    }
    for (ask, _) in &asks {
        if rng.chance(4) {
            lists(deputies, engine, rng, (ask, request), &mut owns, tally);
        }
    }
}

/// Whoever acts for another may do no more than itself, than the root, and than its delegator by the delegation above.
fn no_more_than_its_parts(
    deputies: &Deputies,
    engine: &Timed,
    ask: &Ask,
    found: Decision,
    (now, request): (Instant, &Given),
) {
    let rank = |decision| match decision {
        Decision::Deny => 0,
        Decision::Conditional => 1,
        Decision::Allow => 2,
    };
    if found == Decision::Deny {
        return;
    }
    let at_least = |caller: O, mandate: Mandate| {
        let question = deputies.question(ask.asked, caller);
        if let Ok(part) = engine.check(&question, &options(&mandate, request, now)) {
            let part = part.answer.decision;
            assert!(rank(found) <= rank(part), "{ask:?} is {found:?}, and {caller} by {mandate:?} only {part:?}");
        }
    };
    at_least(ask.caller, Mandate::Own);
    let root = match &ask.mandate {
        Mandate::Own => return,
        Mandate::OnBehalfOf(root) => (0..deputies.world.objects.len()).find(|o| deputies.world.object_ref(*o) == *root),
        Mandate::Delegation(id) => {
            let at = deputies.delegations.iter().position(|delegation| delegation.id == *id).unwrap();
            let delegation = &deputies.delegations[at];
            if let Some(parent) = delegation.parent {
                at_least(delegation.from, Mandate::Delegation(deputies.delegations[parent].id));
            }
            Some(deputies.delegations[deputies.chain(at)[0]].from)
        }
    };
    at_least(root.expect("a root"), Mandate::Own);
}

/// Explained, it is the same, and the tests shown are those it follows from.
fn explained(engine: &Timed, question: &Question, (ask, due): (&Ask, &DueEffect), (now, request): (Instant, &Given)) {
    let CheckOptions { situation, acting, .. } = options(&ask.mandate, request, now);
    let request = Explain { question: question.clone(), acting, situation };
    let Ok(explained) = engine.explain(&request, &Cancel::default()) else {
        assert_ne!(due.fails, Fails::Never, "{ask:?} could not be explained");
        return;
    };
    assert_eq!(explained.decision, decision(due.truth), "{ask:?}");
    if due.fails == Fails::Never {
        assert_eq!(explained.denial, due.denial, "{ask:?}");
    }
    for chain in explained.chains.iter().filter(|chain| chain.links == explained.chain) {
        assert_eq!(chain.decision, explained.decision, "{ask:?}: {chain:?}");
        if chain.tests.iter().all(|test| test.failed.is_none()) {
            assert_eq!(chain.denial, explained.denial, "{ask:?}: {chain:?}");
        }
    }
}

/// ListResources, FilterResources and ListPermissions say of each what Check says.
fn lists(
    deputies: &Deputies,
    engine: &Timed,
    rng: &mut Rng,
    (ask, request): (&Ask, &Given),
    owns: &mut Owns<'_>,
    tally: &mut Tally,
) {
    let world = &deputies.world;
    let due = |asked: (O, M), owns: &mut Owns<'_>| match &ask.mandate {
        Mandate::Delegation(id) => {
            let at = deputies.delegations.iter().position(|delegation| delegation.id == *id).unwrap();
            deputies.effect(&deputies.chain(at), ask.caller, asked, owns)
        }
        Mandate::OnBehalfOf(root) => {
            let root = (0..world.objects.len()).find(|o| world.object_ref(*o) == *root).unwrap();
            deputies.on_behalf_of(root, ask.caller, asked, owns)
        }
        Mandate::Own => panic!("it acts for somebody"),
    };
    let (object, member) = ask.asked;
    let of = world.objects[object].of;
    let acting = Acting { mandate: ask.mandate.clone(), ..Acting::default() };
    let situation = situation(request, owns.now);
    let subject = world.subject_ref(Subject::Object(ask.caller));
    let alike: Vec<O> = (0..world.objects.len()).filter(|other| world.objects[*other].of == of).collect();
    let each: Vec<(O, DueEffect)> = alike.iter().map(|other| (*other, due((*other, member), owns))).collect();
    let listed = ListResources {
        object_type: deputies.type_name(of),
        permission: deputies.member_name((of, member)),
        subject: subject.clone(),
        acting: acting.clone(),
        within: None,
        situation: situation.clone(),
        cursor: None,
    };
    match crate::lists::resources(engine, &listed, 2) {
        Ok(rows) => {
            let found: BTreeMap<String, (Decision, Option<Denial>)> =
                rows.into_iter().map(|row| (row.object.to_string(), (row.decision, row.denial))).collect();
            for (other, due) in &each {
                let name = world.object_ref(*other).to_string();
                let row = found.get(&name);
                let decided = row.map_or(Decision::Deny, |(decision, _)| *decision);
                assert_ne!(due.fails, Fails::Always, "{ask:?} lists {name}, of which a caveat fails");
                assert_eq!(decided, decision(due.truth), "{ask:?} lists {name}: {due:?}");
                if let (Some((_, denial)), Fails::Never) = (row, due.fails) {
                    assert_eq!(*denial, due.denial, "{ask:?} lists {name}");
                }
            }
        }
        Err(error) => {
            assert_eq!(error.reason, "CAVEAT_FAILED", "{ask:?}: {}", told(&error));
            assert!(each.iter().any(|(_, due)| due.fails != Fails::Never), "{ask:?}: {}", told(&error));
        }
    }
    let ids = alike.iter().map(|other| world.object_ref(*other).id).collect();
    let (object_type, permission) = (listed.object_type.clone(), listed.permission.clone());
    let filter = FilterResources {
        object_type,
        permission,
        subject: subject.clone(),
        acting: acting.clone(),
        ids,
        situation: situation.clone(),
    };
    filter_agrees(engine, rng, &filter, &mut tally.filtered);
    let permissions = ListPermissions { object: world.object_ref(object), subject, acting, situation };
    let members = world.schema.types[of].members.len();
    let each: Vec<DueEffect> = (0..members).map(|m| due((object, m), owns)).collect();
    match engine.list_permissions(&permissions, &Cancel::default()) {
        Ok(found) => {
            for (row, due) in found.rows.iter().zip(&each) {
                assert_eq!(row.decision, decision(due.truth), "{ask:?} {row:?}: {due:?}");
                if due.fails == Fails::Never {
                    assert_eq!(row.denial, due.denial, "{ask:?} {row:?}");
                }
            }
        }
        Err(error) => assert!(each.iter().any(|due| due.fails != Fails::Never), "{ask:?}: {}", told(&error)),
    }
    tally.listed += 1;
}

#[test]
fn what_a_chain_allows_is_what_all_of_it_allows() {
    let seed = seed("what_a_chain_allows_is_what_all_of_it_allows");
    let wanted = number("PROCURA_CHAINS", 10_000);
    let next = std::sync::atomic::AtomicU64::new(0);
    let tried = std::sync::atomic::AtomicU64::new(0);
    let work = || {
        let mut tally = Tally::default();
        // Bounded: every batch tries some chains.
        while tried.load(std::sync::atomic::Ordering::Relaxed) < wanted {
            let before = tally.chains;
            run_batch(seed, next.fetch_add(1, std::sync::atomic::Ordering::Relaxed), &mut tally);
            tried.fetch_add(tally.chains - before, std::sync::atomic::Ordering::Relaxed);
        }
        tally
    };
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        running.into_iter().map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    let mut all = Tally::default();
    for tally in tallies {
        all.chains += tally.chains;
        all.asked += tally.asked;
        all.allowed += tally.allowed;
        all.conditional += tally.conditional;
        all.failed += tally.failed;
        all.listed += tally.listed;
        all.filtered.add(&tally.filtered);
        for (depth, count) in tally.by_depth {
            *all.by_depth.entry(depth).or_default() += count;
        }
        for (reason, count) in tally.reasons {
            *all.reasons.entry(reason).or_default() += count;
        }
    }
    println!("{all:?}");
    assert!(all.chains >= wanted);
    assert!(all.allowed * 50 > all.asked, "too little is allowed to say anything: {all:?}");
}

fn run_batch(seed: u64, number: u64, tally: &mut Tally) {
    let mut rng = Rng::part(seed, number);
    let mut worlds: Vec<Deputies> = (0..WORLDS_PER_BATCH)
        .map(|n| Deputies {
            world: random_world(&mut rng, &format!("w{n}")),
            delegations: Vec::new(),
            suspended: BTreeSet::new(),
            may: Vec::new(),
        })
        .collect();
    let mut text = "use expiration\nuse self\nuse hierarchy\n".to_owned();
    for Deputies { world, .. } in &worlds {
        text.push_str(&world.schema.print_body());
        // Conditions of scopes are of the schema too, whether a relation takes them or not.
        for caveat in [Caveat::Flag, Caveat::Level, Caveat::Divides] {
            let name = world.schema.caveat_name(caveat);
            if !text.contains(&format!("caveat {name}(")) {
                text.push_str(&format!("caveat {name}{}\n", caveat.body()));
            }
        }
    }
    let engine = Timed::with_schema(&text);
    for Deputies { world, .. } in &worlds {
        let updates = world.relation_tuples().map(|tuple| TupleUpdate { kind: UpdateKind::Touch, tuple }).collect();
        engine.update(updates);
    }
    for deputies in &mut worlds {
        run_world(deputies, &mut rng, &engine, tally);
    }
}

/// Whatever becomes of the data, and however it is narrowed.
#[test]
fn a_narrowed_delegation_never_allows_what_the_original_would_not() {
    let seed = seed("a_narrowed_delegation_never_allows_what_the_original_would_not");
    let (mut compared, mut less) = (0_u64, 0_u64);
    for part in 0..number("PROCURA_NARROWED", 30) {
        let mut rng = Rng::part(seed, part);
        let mut deputies = Deputies {
            world: random_world(&mut rng, "w"),
            delegations: Vec::new(),
            suspended: BTreeSet::new(),
            may: Vec::new(),
        };
        let mut text = deputies.world.schema.print();
        for caveat in [Caveat::Flag, Caveat::Level, Caveat::Divides] {
            let name = deputies.world.schema.caveat_name(caveat);
            if !text.contains(&format!("caveat {name}(")) {
                text.push_str(&format!("caveat {name}{}\n", caveat.body()));
            }
        }
        let engine = Timed::with_schema(&text);
        let tuples = deputies.world.relation_tuples();
        engine.update(tuples.map(|tuple| TupleUpdate { kind: UpdateKind::Touch, tuple }).collect());
        learn(&mut deputies);
        // Each twice, the second of them narrowed.
        for _ in 0..6 {
            let before = deputies.delegations.len();
            let again = rng.next();
            deputies.delegate(&mut Rng::new(again), &engine);
            if deputies.delegations.len() == before {
                continue;
            }
            // The same draw would take the first for a parent: what is made is made by hand.
            let first = deputies.delegations[before].clone();
            let request = CreateDelegation {
                delegator: deputies.world.object_ref(first.from),
                delegate: deputies.world.subject_ref(first.to),
                items: first.clauses[0].iter().map(|item| deputies.to_engine(item)).collect(),
                parent: first.parent.map(|at| deputies.delegations[at].id),
                not_before: Some(timestamp(first.begins)),
                end: DelegationEnd::At(timestamp(first.ends)),
                redelegate: 0,
                purpose: String::new(),
                issued_by: String::new(),
                metadata: Metadata::new(),
                strict: false,
                idempotency_key: None,
                preconditions: Vec::new(),
                clock: None,
            };
            let made = engine.create_delegation(request, &Cancel::default()).expect("the same is taken again");
            deputies.delegations.push(Held { id: made.delegation.id, ..first });
            for _ in 0..rng.between(1, 2) {
                deputies.narrow(&mut rng, &engine, before + 1);
            }
            let (original, narrowed) = (deputies.delegations[before].id, deputies.delegations[before + 1].id);
            for _ in 0..3 {
                for update in deputies.world.random_changes(&mut rng, START) {
                    // Some would close a cycle of parents, and are refused.
                    let _ = engine.write_tuples(crate::engines::write_request(vec![update]));
                }
                let request = random_given(&mut rng);
                let callers: Vec<O> = match deputies.delegations[before].to {
                    Subject::Object(object) => vec![object],
                    _ => (0..deputies.world.objects.len()).collect(),
                };
                for caller in callers {
                    let asked: Vec<Asked> = deputies.world.asked(Subject::Object(caller)).collect();
                    for Asked { object, member, .. } in asked {
                        let question = deputies.question((object, member), caller);
                        let ask = |id| engine.check(&question, &options(&Mandate::Delegation(id), &request, START));
                        let (Ok(wide), Ok(narrow)) = (ask(original), ask(narrowed)) else { continue };
                        let (wide, narrow) = (wide.answer.decision, narrow.answer.decision);
                        compared += 1;
                        less += u64::from(narrow != wide);
                        let is_within = match narrow {
                            Decision::Deny => true,
                            Decision::Conditional => wide != Decision::Deny,
                            Decision::Allow => wide == Decision::Allow,
                        };
                        assert!(is_within, "part {part}: {question:?} is {narrow:?} narrowed, and {wide:?} before");
                    }
                }
            }
        }
    }
    println!("{compared} answers compared, {less} of them narrowed");
    assert!(less > 0, "nothing was narrowed");
}
