//! Random worlds: a schema, objects and tuples, aimed at trouble, all drawn from one seed.
//!
//! INVARIANT: a world's schema is legal: exclusions are stratified, arrows stand over relations without wildcards (of
//! their own or through other relations), `T#rel` of another definition has none, no permission is a pure alias of
//! itself. Equal seeds make equal worlds.

use crate::caveats::{Caveat, Condition, Given, Names, Outcome, Value};
use crate::oracle::{
    self, Admitted, Body, Expr, Flip, Form, M, Member, O, Object, Row, Schema, Subject, T, Truth, Tuple, Type,
};
use procura::model::{
    CaveatName, Context, Decision, ObjectId, ObjectRef, Question, RelationName, RelationTuple, SubjectRef, Timestamp,
    TupleCaveat, TupleUpdate, TypeName, UpdateKind,
};
use std::collections::{BTreeMap, BTreeSet};

/// splitmix64: small, seeded, and the same on every machine.
#[derive(Clone)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// A generator of its own for part `n` of a seed.
    pub fn part(seed: u64, n: u64) -> Rng {
        let mut rng = Rng(seed ^ n.wrapping_mul(0xd134_2543_de82_ef95));
        rng.next();
        rng
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0..n
    pub fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n.max(1) as u64).expect("below a usize")
    }

    /// low..=high
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn pick<'a, V>(&mut self, from: &'a [V]) -> &'a V {
        &from[self.below(from.len())]
    }

    pub fn shuffle<V>(&mut self, items: &mut [V]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// The seed of this run: `PROCURA_SEED=N` replays, `PROCURA_SEED=random` draws one. Always printed.
pub fn seed(test: &str) -> u64 {
    const DEFAULT: u64 = 20_261_125;
    let seed = match std::env::var("PROCURA_SEED") {
        Ok(text) if text == "random" => {
            let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970");
            Rng::new(since.as_nanos() as u64).next()
        }
        Ok(text) => text.parse().expect("PROCURA_SEED is a number or `random`"),
        Err(_) => DEFAULT,
    };
    println!("{test}: PROCURA_SEED={seed}");
    seed
}

/// A number from the environment, or its default.
pub fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not `{text}`")),
        Err(_) => default,
    }
}

/// A schema with objects and the tuples that stand now.
#[derive(Clone)]
pub struct World {
    pub schema: Schema,
    pub objects: Vec<Object>,
    /// By key; those that have ended too.
    pub tuples: BTreeMap<Tuple, Mark>,
    /// Conditions that its rows may have: few, so that every way they may turn out can be tried.
    pool: Vec<Condition>,
    /// The objects as the engine's model knows them, index for index.
    refs: Vec<ObjectRef>,
}

/// Nanoseconds since 1970.
pub type Instant = i64;

pub const SECOND: Instant = 1_000_000_000;
/// When the worlds begin.
pub const START: Instant = 1_000_000 * SECOND;
/// When tuples end, counted from the start: at the instants the tests ask at, and one nanosecond beside.
const ENDS: [Instant; 11] = [
    -5 * SECOND,
    0,
    1,
    10 * SECOND - 1,
    10 * SECOND,
    10 * SECOND + 1,
    20 * SECOND,
    25 * SECOND,
    30 * SECOND,
    30 * SECOND + 1,
    1_000 * SECOND,
];

pub fn timestamp(at: Instant) -> Timestamp {
    let nanos = u32::try_from(at.rem_euclid(SECOND)).expect("below a second");
    Timestamp::new(at.div_euclid(SECOND), nanos).expect("an instant")
}

/// A key's value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    pub condition: Option<Condition>,
    pub ends: Option<Instant>,
}

/// What the engine must say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    pub truth: Truth,
    pub fails: Fails,
    /// Parameters that a conditional answer must name: of conditions that decide it, whatever the others turn out to be
    /// in at least one way.
    pub least: Names,
    /// Parameters that it may name: the same; or, where no condition decides by itself, those that rows lack which can be
    /// reached at all.
    pub most: Names,
}

/// Whether a conditional answer is an error, because a condition that cannot be evaluated makes it so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fails {
    Never,
    /// No condition decides by itself; some that can be reached fail and some lack parameters.
    Perhaps,
    Always,
}

/// One question, in the oracle's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Asked {
    pub object: O,
    pub member: M,
    pub subject: Subject,
}

/// Ids that are each other's prefixes, or differ by what separates elsewhere.
const IDS: [&str; 12] = ["a", "ab", "a/b", "a:b", "a@b", "a|b", "b", "A", "a/b/c", "a.b", "1", "11"];
const UNKNOWN: &str = "unknown";
const TYPES: [&str; 4] = ["group", "folder", "doc", "org"];
const RELATIONS: [&str; 6] = ["member", "parent", "viewer", "banned", "owner", "part"];
const PERMISSIONS: [&str; 6] = ["view", "edit", "reach", "open", "active", "use"];

impl World {
    pub fn new(schema: Schema, objects: Vec<Object>, tuples: BTreeMap<Tuple, Mark>) -> World {
        let refs = objects
            .iter()
            .map(|object| ObjectRef {
                object_type: TypeName::new(schema.types[object.of].name.as_str()).expect("a type's name"),
                id: ObjectId::new(object.id.as_str()).expect("an id"),
            })
            .collect();
        World { schema, objects, tuples, pool: Vec::new(), refs }
    }

    /// A world whose definitions all start with `prefix/`, so that many fit into one schema.
    pub fn random(rng: &mut Rng, prefix: &str) -> World {
        let pool = random_pool(rng);
        let schema = random_schema(rng, prefix, &pool);
        let mut objects = Vec::new();
        for (of, t) in schema.types.iter().enumerate() {
            let mut ids = IDS;
            rng.shuffle(&mut ids);
            let count = if t.members.is_empty() { rng.between(2, 4) } else { rng.between(1, 4) };
            objects.extend(ids.iter().take(count).map(|id| Object { of, id: (*id).to_owned() }));
            if t.members.is_empty() || rng.chance(30) {
                objects.push(Object { of, id: UNKNOWN.to_owned() });
            }
        }
        let mut world = World::new(schema, objects, BTreeMap::new());
        world.pool = pool;
        // From nearly empty to so dense that cycles are the rule.
        let rows: usize = world.relations().len();
        let count = rows * rng.between(4, 22) / 2;
        for _ in 0..count {
            if let Some((tuple, mark)) = world.random_tuple(rng) {
                world.tuples.insert(tuple, mark);
            }
        }
        if rng.chance(75) {
            world.let_one_stand_everywhere(rng);
        }
        world
    }

    /// One user on nearly every relation that takes users, so that both sides of an operator have something to say.
    fn let_one_stand_everywhere(&mut self, rng: &mut Rng) {
        for (object, relation) in self.relations() {
            let tuple = Tuple { object, relation, subject: Subject::Object(0) };
            if rng.chance(70) && !self.forms_for(tuple).is_empty() {
                let mark = self.remarked(rng, tuple);
                self.tuples.insert(tuple, mark);
            }
        }
    }

    /// A world in which nothing ends, for tests under the machine's clock.
    pub fn lasting(rng: &mut Rng, prefix: &str) -> World {
        let mut world = World::random(rng, prefix);
        for member in world.schema.types.iter_mut().flat_map(|t| &mut t.members) {
            if let Body::Relation(forms) = &mut member.body {
                let mut lasting: Vec<Admitted> = Vec::new();
                for form in forms.drain(..).map(|form| Admitted { expires: false, ..form }) {
                    if !lasting.contains(&form) {
                        lasting.push(form);
                    }
                }
                *forms = lasting;
            }
        }
        world.tuples.values_mut().for_each(|mark| mark.ends = None);
        world
    }

    /// A lasting world in which, without a context, one condition fails and another lacks a parameter.
    pub fn entangled(rng: &mut Rng, prefix: &str) -> World {
        // Bounded by chance alone: about one world in eight is such.
        loop {
            let world = World::lasting(rng, prefix);
            let said = |condition: &Condition| condition.evaluate(&Given::new(), Flip::None);
            let stand = || world.tuples.values().filter_map(|mark| mark.condition.as_ref()).map(said);
            let fails = stand().any(|outcome| outcome == Outcome::Failed);
            if fails && stand().any(|outcome| matches!(outcome, Outcome::Missing(_))) {
                return world;
            }
        }
    }

    /// A world in which nothing ends and nothing hangs on a condition.
    pub fn plain(rng: &mut Rng, prefix: &str) -> World {
        let mut world = World::lasting(rng, prefix);
        for member in world.schema.types.iter_mut().flat_map(|t| &mut t.members) {
            if let Body::Relation(forms) = &mut member.body {
                let mut plain: Vec<Admitted> = Vec::new();
                for form in forms.drain(..).map(|form| Admitted::plain(form.form)) {
                    if !plain.contains(&form) {
                        plain.push(form);
                    }
                }
                *forms = plain;
            }
        }
        world.tuples.values_mut().for_each(|mark| mark.condition = None);
        world.pool.clear();
        world
    }

    /// The same with an object of every type that no tuple mentions: what is so for it is so for everybody else.
    pub fn with_strangers(self) -> World {
        let World { schema, mut objects, tuples, pool, refs: _ } = self;
        for of in 0..schema.types.len() {
            let stranger = Object { of, id: UNKNOWN.to_owned() };
            if !objects.contains(&stranger) {
                objects.push(stranger);
            }
        }
        World { pool, ..World::new(schema, objects, tuples) }
    }

    /// Tuples between existing objects read from text, with the world built around them; one unknown id a type.
    pub fn from_tuples(schema: Schema, tuples: &[RelationTuple], subjects: &[SubjectRef]) -> Result<World, String> {
        let mut objects: Vec<Object> = Vec::new();
        let named = |schema: &Schema, name: &TypeName| {
            schema.types.iter().position(|t| t.name == name.as_str()).ok_or(format!("no definition `{name}`"))
        };
        for of in 0..schema.types.len() {
            objects.push(Object { of, id: UNKNOWN.to_owned() });
        }
        let mut index = |schema: &Schema, object: &ObjectRef| -> Result<O, String> {
            let object = Object { of: named(schema, &object.object_type)?, id: object.id.as_str().to_owned() };
            Ok(objects.iter().position(|known| *known == object).unwrap_or_else(|| {
                objects.push(object);
                objects.len() - 1
            }))
        };
        let member = |schema: &Schema, object: &ObjectRef, name: &RelationName| {
            let of = named(schema, &object.object_type)?;
            schema.types[of].member(name.as_str()).ok_or(format!("no member `{name}` on `{object}`"))
        };
        let mut stand = BTreeMap::new();
        let mut subject = |schema: &Schema, subject: &SubjectRef| -> Result<Subject, String> {
            Ok(match subject {
                SubjectRef::Object(object) => Subject::Object(index(schema, object)?),
                SubjectRef::Userset(object, name) => {
                    Subject::Userset(index(schema, object)?, member(schema, object, name)?)
                }
                SubjectRef::Wildcard(name) => Subject::Wildcard(named(schema, name)?),
            })
        };
        for asked in subjects {
            subject(&schema, asked)?;
        }
        for RelationTuple { key, .. } in tuples {
            let Subject::Object(object) = subject(&schema, &SubjectRef::Object(key.object.clone()))? else {
                return Err("an object stands at the left".to_owned());
            };
            let relation = member(&schema, &key.object, &key.relation)?;
            stand.insert(Tuple { object, relation, subject: subject(&schema, &key.subject)? }, Mark::default());
        }
        Ok(World::new(schema, objects, stand))
    }

    /// Whether it is an object that no tuple ever mentions, or a userset of one.
    pub fn is_stranger(&self, subject: Subject) -> bool {
        match subject {
            Subject::Object(o) | Subject::Userset(o, _) => self.objects[o].id == UNKNOWN,
            Subject::Wildcard(_) => false,
        }
    }

    /// Every (object, relation) that tuples may stand on; unknown objects have none.
    fn relations(&self) -> Vec<(O, M)> {
        let mut found = Vec::new();
        for (o, object) in self.objects.iter().enumerate() {
            for (m, member) in self.schema.types[object.of].members.iter().enumerate() {
                if matches!(member.body, Body::Relation(_)) && object.id != UNKNOWN {
                    found.push((o, m));
                }
            }
        }
        found
    }

    /// A tuple the schema admits, on objects that are not unknown.
    pub fn random_tuple(&self, rng: &mut Rng) -> Option<(Tuple, Mark)> {
        let relations = self.relations();
        if relations.is_empty() {
            return None;
        }
        let (object, relation) = *rng.pick(&relations);
        let Body::Relation(forms) = &self.schema.types[self.objects[object].of].members[relation].body else {
            return None;
        };
        let admitted = *rng.pick(forms);
        let form = admitted.form;
        let (Form::Object(of) | Form::Userset(of, _) | Form::Wildcard(of)) = form;
        let known: Vec<O> =
            (0..self.objects.len()).filter(|o| self.objects[*o].of == of && self.objects[*o].id != UNKNOWN).collect();
        let subject = match form {
            Form::Object(_) => Subject::Object(*rng.pick(&known)),
            Form::Userset(_, m) => Subject::Userset(*rng.pick(&known), m),
            // Rarer than drawn: one wildcard makes many questions dull.
            Form::Wildcard(_) if rng.chance(40) => return None,
            Form::Wildcard(of) => Subject::Wildcard(of),
        };
        Some((Tuple { object, relation, subject }, self.random_mark(rng, admitted)))
    }

    fn random_mark(&self, rng: &mut Rng, admitted: Admitted) -> Mark {
        let condition = admitted.caveat.map(|caveat| {
            let of: Vec<&Condition> = self.pool.iter().filter(|condition| condition.caveat == caveat).collect();
            (*rng.pick(&of)).clone()
        });
        Mark { condition, ends: admitted.expires.then(|| START + *rng.pick(&ENDS)) }
    }

    /// A value for a key that may stand.
    pub fn remarked(&self, rng: &mut Rng, tuple: Tuple) -> Mark {
        let forms = self.forms_for(tuple);
        let admitted = *rng.pick(&forms);
        self.random_mark(rng, admitted)
    }

    /// The forms under which a relation takes a tuple's subject.
    fn forms_for(&self, tuple: Tuple) -> Vec<Admitted> {
        let Body::Relation(forms) = &self.schema.types[self.objects[tuple.object].of].members[tuple.relation].body
        else {
            panic!("a tuple stands on a relation");
        };
        let takes = |form: &&Admitted| match (form.form, tuple.subject) {
            (Form::Object(of), Subject::Object(o)) => self.objects[o].of == of,
            (Form::Userset(of, on), Subject::Userset(o, m)) => self.objects[o].of == of && on == m,
            (Form::Wildcard(of), Subject::Wildcard(t)) => of == t,
            _ => false,
        };
        forms.iter().filter(takes).copied().collect()
    }

    /// Changes a few tuples, at an instant. No key is named twice; deletes also name missing ones; what has ended is
    /// sometimes created again.
    pub fn random_changes(&mut self, rng: &mut Rng, now: Instant) -> Vec<TupleUpdate> {
        let (mut touched, mut deleted) = (BTreeMap::new(), BTreeSet::new());
        for _ in 0..rng.between(1, 12) {
            let standing: Vec<Tuple> = self.tuples.keys().copied().collect();
            if rng.chance(50) && !standing.is_empty() {
                let tuple = *rng.pick(&standing);
                if rng.chance(40) {
                    touched.insert(tuple, self.remarked(rng, tuple));
                } else {
                    deleted.insert(tuple);
                }
            } else if let Some((tuple, mark)) = self.random_tuple(rng) {
                if rng.chance(85) {
                    touched.insert(tuple, mark);
                } else {
                    deleted.insert(tuple);
                }
            }
        }
        touched.retain(|tuple, _| !deleted.contains(tuple));
        let mut updates = Vec::new();
        for tuple in deleted {
            let plain = self.relation_tuple(&tuple, &Mark::default());
            updates.push(TupleUpdate { kind: UpdateKind::Delete, tuple: plain });
            self.tuples.remove(&tuple);
        }
        for (tuple, mark) in touched {
            let stands = self.tuples.get(&tuple).is_some_and(|there| there.ends.is_none_or(|end| end > now));
            let kind = if !stands && rng.chance(40) { UpdateKind::Create } else { UpdateKind::Touch };
            updates.push(TupleUpdate { kind, tuple: self.relation_tuple(&tuple, &mark) });
            self.tuples.insert(tuple, mark);
        }
        updates
    }

    /// The tuples that are live at an instant, and what each is worth under a request's context.
    pub fn rows(&self, request: &Given, now: Instant, flip: Flip) -> Vec<Row> {
        self.live(now, flip).map(|(tuple, mark)| (*tuple, worth(mark, request, flip))).collect()
    }

    fn live(&self, now: Instant, flip: Flip) -> impl Iterator<Item = (&Tuple, &Mark)> {
        self.tuples.iter().filter(move |(_, mark)| match mark.ends {
            Some(end) if flip == Flip::EndIsInclusive => end >= now,
            Some(end) => end > now || flip == Flip::EndIsIgnored,
            None => true,
        })
    }

    /// Plain objects of every type (unknown ids too) and every userset over them.
    pub fn subjects(&self) -> Vec<Subject> {
        let mut found = Vec::new();
        for (o, object) in self.objects.iter().enumerate() {
            found.push(Subject::Object(o));
            found.extend((0..self.schema.types[object.of].members.len()).map(|m| Subject::Userset(o, m)));
        }
        found
    }

    /// At most `subjects_max` of the subjects: those of types without members always, the others drawn.
    pub fn some_subjects(&self, rng: &mut Rng, subjects_max: usize) -> Vec<Subject> {
        let is_user = |subject: &Subject| match subject {
            Subject::Object(o) => self.schema.types[self.objects[*o].of].members.is_empty(),
            Subject::Userset(..) | Subject::Wildcard(_) => false,
        };
        let (mut chosen, mut others): (Vec<_>, Vec<_>) = self.subjects().into_iter().partition(is_user);
        rng.shuffle(&mut others);
        // Those that stand on a tuple first: the rest mostly meets nothing.
        let standing: BTreeSet<Subject> = self.tuples.keys().map(|tuple| tuple.subject).collect();
        others.sort_by_key(|subject| !standing.contains(subject) && subject_is_even(subject));
        others.truncate(subjects_max.saturating_sub(chosen.len()));
        chosen.append(&mut others);
        chosen
    }

    /// The oracle's answer to every (object, member) for one subject, of a world without conditions.
    pub fn answers(&self, subject: Subject) -> Vec<(Asked, Decision)> {
        let held = self.held(&self.rows(&Given::new(), START, Flip::None), subject);
        self.asked(subject).map(|asked| (asked, decision(held[asked.object][asked.member]))).collect()
    }

    pub fn held(&self, rows: &[Row], subject: Subject) -> Vec<Vec<Truth>> {
        oracle::evaluate(&self.schema, &self.objects, rows, subject, Flip::None)
    }

    pub fn asked(&self, subject: Subject) -> impl Iterator<Item = Asked> {
        let members = |object: O| 0..self.schema.types[self.objects[object].of].members.len();
        (0..self.objects.len())
            .flat_map(move |object| members(object).map(move |member| Asked { object, member, subject }))
    }

    /// What the engine must say to every (object, member) for one subject.
    ///
    /// Conditions that are not known are one variable for each distinct (caveat, stored values): every way they may
    /// turn out is tried, and a variable decides a question where turning it alone changes the answer.
    pub fn due(&self, subject: Subject, request: &Given, now: Instant) -> Vec<(Asked, Due)> {
        let rows = self.rows(request, now, Flip::None);
        let held = self.held(&rows, subject);
        let mut unknown: Vec<(&Condition, Outcome)> = Vec::new();
        let variable: Vec<Option<usize>> = self
            .live(now, Flip::None)
            .map(|(_, mark)| {
                let condition = mark.condition.as_ref()?;
                let outcome = condition.evaluate(request, Flip::None);
                if outcome.worth(Flip::None) != Truth::Conditional {
                    return None;
                }
                let known = unknown.iter().position(|(there, _)| *there == condition);
                Some(known.unwrap_or_else(|| {
                    unknown.push((condition, outcome));
                    unknown.len() - 1
                }))
            })
            .collect();
        assert!(unknown.len() <= 8, "a world has few conditions");
        let is_conditional = held.iter().flatten().any(|truth| *truth == Truth::Conditional);
        let ways: Vec<Vec<Vec<Truth>>> = (0..if is_conditional { 1 << unknown.len() } else { 0 })
            .map(|way: usize| {
                let turned = |((tuple, worth), variable): (&Row, &Option<usize>)| {
                    let turned = variable.map(|n| if way & (1 << n) == 0 { Truth::Deny } else { Truth::Allow });
                    (*tuple, turned.unwrap_or(*worth))
                };
                self.held(&rows.iter().zip(&variable).map(turned).collect::<Vec<Row>>(), subject)
            })
            .collect();
        let lacked = |n: usize| match unknown[n].1 {
            Outcome::Missing(names) => Some(names),
            Outcome::Failed => None,
            Outcome::Holds | Outcome::Not => panic!("it is known"),
        };
        let reached = self.reached(&rows, &variable);
        self.asked(subject)
            .map(|asked| {
                let truth = held[asked.object][asked.member];
                if truth != Truth::Conditional {
                    return (asked, Due { truth, fails: Fails::Never, least: 0, most: 0 });
                }
                let at = |way: usize| ways[way][asked.object][asked.member];
                let decides = |n: usize| (0..ways.len()).any(|way| at(way) != at(way ^ (1 << n)));
                let deciding: Vec<usize> = (0..unknown.len()).filter(|n| decides(*n)).collect();
                let names = |of: &[usize]| of.iter().filter_map(|n| lacked(*n)).fold(0, |names, more| names | more);
                let fails = |of: &[usize]| of.iter().any(|n| lacked(*n).is_none());
                if !deciding.is_empty() {
                    let (names, fails) = (names(&deciding), fails(&deciding));
                    let fails = if fails { Fails::Always } else { Fails::Never };
                    return (asked, Due { truth, fails, least: names, most: names });
                }
                let near: Vec<usize> = (0..unknown.len()).filter(|n| reached[asked.object] & (1 << n) != 0).collect();
                let (least, most) = (0, names(&near));
                let fails = match (fails(&near), most != 0) {
                    (false, _) => Fails::Never,
                    (true, false) => Fails::Always,
                    (true, true) => Fails::Perhaps,
                };
                (asked, Due { truth, fails, least, most })
            })
            .collect()
    }

    /// For each object, the variables of rows that can be reached from it, as bits.
    fn reached(&self, rows: &[Row], variable: &[Option<usize>]) -> Vec<u16> {
        let mut reached = vec![0; self.objects.len()];
        loop {
            let before = reached.clone();
            for ((tuple, _), variable) in rows.iter().zip(variable) {
                let beyond = match tuple.subject {
                    Subject::Object(o) | Subject::Userset(o, _) => reached[o],
                    Subject::Wildcard(_) => 0,
                };
                reached[tuple.object] |= beyond | variable.map_or(0, |n| 1 << n);
            }
            if reached == before {
                return reached;
            }
        }
    }

    /// Every instant after `now` at which a tuple ends.
    pub fn ends_after(&self, now: Instant) -> BTreeSet<Instant> {
        self.tuples.values().filter_map(|mark| mark.ends).filter(|end| *end > now).collect()
    }

    pub fn question(&self, asked: Asked) -> Question {
        let subject = self.subject_ref(asked.subject);
        Question {
            object: self.refs[asked.object].clone(),
            permission: self.member_name(asked.object, asked.member),
            subject,
        }
    }

    pub fn relation_tuple(&self, tuple: &Tuple, mark: &Mark) -> RelationTuple {
        let relation = self.member_name(tuple.object, tuple.relation);
        let caveat = mark.condition.as_ref().map(|condition| TupleCaveat {
            name: CaveatName::new(self.schema.caveat_name(condition.caveat)).expect("a caveat's name"),
            context: context(&condition.stored),
        });
        let plain = RelationTuple::plain(self.refs[tuple.object].clone(), relation, self.subject_ref(tuple.subject));
        RelationTuple { caveat, expires_at: mark.ends.map(timestamp), ..plain }
    }

    pub fn relation_tuples(&self) -> impl Iterator<Item = RelationTuple> {
        self.tuples.iter().map(|(tuple, mark)| self.relation_tuple(tuple, mark))
    }

    /// Those that have not ended at an instant.
    pub fn live_tuples(&self, now: Instant) -> impl Iterator<Item = RelationTuple> {
        self.live(now, Flip::None).map(|(tuple, mark)| self.relation_tuple(tuple, mark))
    }

    pub fn object_ref(&self, object: O) -> ObjectRef {
        self.refs[object].clone()
    }

    pub fn subject_ref(&self, subject: Subject) -> SubjectRef {
        match subject {
            Subject::Object(o) => SubjectRef::Object(self.refs[o].clone()),
            Subject::Userset(o, m) => SubjectRef::Userset(self.refs[o].clone(), self.member_name(o, m)),
            Subject::Wildcard(t) => {
                SubjectRef::Wildcard(TypeName::new(self.schema.types[t].name.as_str()).expect("a type's name"))
            }
        }
    }

    fn member_name(&self, o: O, m: M) -> RelationName {
        let name = self.schema.types[self.objects[o].of].members[m].name.as_str();
        RelationName::new(name).expect("a member's name")
    }

    /// Schema and tuples as text: what a failing test prints.
    pub fn told(&self) -> String {
        let tuples: Vec<String> = self.relation_tuples().map(|tuple| tuple.to_string()).collect();
        format!("{}\n{}", self.schema.print(), tuples.join("\n"))
    }
}

fn worth(mark: &Mark, request: &Given, flip: Flip) -> Truth {
    mark.condition.as_ref().map_or(Truth::Allow, |condition| condition.evaluate(request, flip).worth(flip))
}

/// A context as the engine takes it.
pub fn context(given: &Given) -> Context {
    let json = |value: &Value| match value {
        Value::Int(int) => serde_json::Value::from(*int),
        Value::Bool(bool) => serde_json::Value::from(*bool),
        Value::Text(text) => serde_json::Value::from(*text),
        Value::List(items) => serde_json::Value::from(items.clone()),
    };
    given.iter().map(|(name, value)| ((*name).to_owned(), json(value))).collect()
}

pub fn decision(truth: Truth) -> Decision {
    match truth {
        Truth::Deny => Decision::Deny,
        Truth::Conditional => Decision::Conditional,
        Truth::Allow => Decision::Allow,
    }
}

/// Half of all subjects, by no other reason.
fn subject_is_even(subject: &Subject) -> bool {
    match subject {
        Subject::Object(o) => o % 2 == 0,
        Subject::Userset(o, m) => (o + m) % 2 == 0,
        Subject::Wildcard(_) => true,
    }
}

/// A value of a parameter's type.
fn random_value(rng: &mut Rng, parameter: &str) -> Value {
    match parameter {
        "have" | "need" => Value::Int(rng.below(6) as i64),
        "on" => Value::Bool(rng.chance(60)),
        "by" => Value::Int(*rng.pick(&[0, 0, 1, 3, 20])),
        "who" => Value::Text(rng.pick::<&str>(&["a", "b", "c"])),
        "allowed" => Value::List(rng.pick(&[vec!["a"], vec!["a", "b"], vec!["b", "c"], vec![]]).clone()),
        other => panic!("{other} is no parameter"),
    }
}

/// What a request brings along: some of the parameters, seldom of the wrong type.
pub fn random_given(rng: &mut Rng) -> Given {
    let most = *rng.pick(&[0, 25, 50, 75]);
    let mut given = Given::new();
    for parameter in crate::caveats::PARAMETERS {
        if rng.chance(most) {
            let value = match parameter {
                "have" | "on" if rng.chance(6) => Value::Text("3x"),
                _ => random_value(rng, parameter),
            };
            given.insert(parameter, value);
        }
    }
    given
}

/// No conditions, or up to five.
fn random_pool(rng: &mut Rng) -> Vec<Condition> {
    let mut pool = Vec::new();
    if rng.chance(85) {
        for _ in 0..rng.between(1, 5) {
            let caveat = *rng.pick(&Caveat::ALL);
            let stored = caveat.parameters().iter().filter_map(|parameter| {
                let value = random_value(rng, parameter);
                rng.chance(30).then_some((*parameter, value))
            });
            let condition = Condition { caveat, stored: stored.collect() };
            if !pool.contains(&condition) {
                pool.push(condition);
            }
        }
    }
    pool
}

/// The form with a caveat or an end, often, and sometimes beside itself with another or none.
fn with_traits(rng: &mut Rng, forms: Vec<Form>, pool: &[Condition]) -> Vec<Admitted> {
    let mut found = Vec::new();
    let add = |found: &mut Vec<Admitted>, admitted: Admitted| {
        if !found.contains(&admitted) {
            found.push(admitted);
        }
    };
    let ending = *rng.pick(&[0, 0, 40]);
    for form in forms {
        let caveat = |rng: &mut Rng, percent| (!pool.is_empty() && rng.chance(percent)).then(|| rng.pick(pool).caveat);
        let first = Admitted { form, caveat: caveat(rng, 60), expires: rng.chance(ending) };
        add(&mut found, first);
        if rng.chance(35) {
            let second = Admitted { form, caveat: caveat(rng, 60), expires: rng.chance(ending) };
            add(&mut found, second);
        }
    }
    found
}

/// Type 0 is `user`, without members; 1 to 4 others refer to one another and to themselves.
fn random_schema(rng: &mut Rng, prefix: &str, pool: &[Condition]) -> Schema {
    let mut names = TYPES;
    rng.shuffle(&mut names);
    let others = rng.between(1, TYPES.len());
    let mut types = vec![Type { name: format!("{prefix}/user"), members: Vec::new() }];
    for name in names.iter().take(others) {
        let (mut relations, mut permissions) = (RELATIONS, PERMISSIONS);
        rng.shuffle(&mut relations);
        rng.shuffle(&mut permissions);
        let relations = relations.iter().take(rng.between(1, 3)).map(|n| (*n, Body::Relation(Vec::new())));
        let permissions = permissions.iter().take(rng.between(1, 4)).map(|n| (*n, Body::Permission(Expr::Nil)));
        let members = relations.chain(permissions).map(|(name, body)| Member { name: name.to_owned(), body }).collect();
        types.push(Type { name: format!("{prefix}/{name}"), members });
    }
    let mut schema = Schema { types, prefix: prefix.to_owned(), ..Schema::default() };
    for t in 1..schema.types.len() {
        for m in 0..schema.types[t].members.len() {
            if let Body::Relation(_) = schema.types[t].members[m].body {
                // A relation of plain subjects may be subtracted anywhere.
                let leaf = schema.types[t].members[m].name == "banned" || rng.chance(20);
                let mut forms = if leaf { leaf_forms(rng) } else { random_forms(rng, &schema, t) };
                // Places, not people, mostly: a user among an arrow's rows ends every `.all`.
                let is_place = matches!(schema.types[t].members[m].name.as_str(), "parent" | "part");
                if is_place && rng.chance(65) {
                    forms = vec![Form::Object(t)];
                    if rng.chance(40) {
                        forms.push(Form::Object(rng.between(1, schema.types.len() - 1)));
                    }
                    forms.dedup();
                }
                schema.types[t].members[m].body = Body::Relation(with_traits(rng, forms, pool));
            }
        }
    }
    drop_illegal_forms(&mut schema);
    for t in 1..schema.types.len() {
        for m in 0..schema.types[t].members.len() {
            if let Body::Permission(_) = schema.types[t].members[m].body {
                let mut expr = random_expr(rng, &schema, t, 3);
                // A pure alias only points at an earlier member, so that none is its own.
                if matches!(expr, Expr::Member(on) if on >= m) {
                    expr = Expr::Union(vec![expr, Expr::Member(0)]);
                }
                schema.types[t].members[m].body = Body::Permission(expr);
            }
        }
    }
    stratify(rng, &mut schema);
    schema
}

fn leaf_forms(rng: &mut Rng) -> Vec<Form> {
    match rng.below(4) {
        0 => vec![Form::Object(0), Form::Wildcard(0)],
        _ => vec![Form::Object(0)],
    }
}

fn random_forms(rng: &mut Rng, schema: &Schema, t: T) -> Vec<Form> {
    let mut forms: Vec<Form> = Vec::new();
    for _ in 0..rng.between(1, 4) {
        // Its own type often: recursive folders, mutual groups.
        let of = if rng.chance(45) { t } else { rng.below(schema.types.len()) };
        let members = schema.types[of].members.len();
        let form = match rng.below(10) {
            0..=3 => Form::Object(0),
            4 => Form::Wildcard(if rng.chance(50) { 0 } else { of }),
            5 => Form::Object(of),
            // Relations stand first: half of the usersets are groups, the others permissions.
            6 | 7 if members > 0 => Form::Userset(of, 0),
            _ if members > 0 => Form::Userset(of, rng.below(members)),
            _ => Form::Object(of),
        };
        if !forms.contains(&form) {
            forms.push(form);
        }
    }
    forms
}

/// Whether a relation allows a wildcard, itself or through relations it names.
fn allows_wildcard(schema: &Schema) -> Vec<Vec<bool>> {
    let mut allows: Vec<Vec<bool>> = schema.types.iter().map(|t| vec![false; t.members.len()]).collect();
    loop {
        let before = allows.clone();
        for (t, of) in schema.types.iter().enumerate() {
            for (m, member) in of.members.iter().enumerate() {
                if let Body::Relation(forms) = &member.body {
                    allows[t][m] = forms.iter().any(|form| match form.form {
                        Form::Object(_) => false,
                        Form::Userset(of, on) => before[of][on],
                        Form::Wildcard(_) => true,
                    });
                }
            }
        }
        if allows == before {
            return allows;
        }
    }
}

/// `T#rel` of another definition may not be a relation that allows a wildcard.
fn drop_illegal_forms(schema: &mut Schema) {
    loop {
        let allows = allows_wildcard(schema);
        let mut dropped = false;
        for (t, of) in schema.types.iter_mut().enumerate() {
            for member in &mut of.members {
                if let Body::Relation(forms) = &mut member.body {
                    let before = forms.len();
                    forms
                        .retain(|form| !matches!(form.form, Form::Userset(other, m) if other != t && allows[other][m]));
                    dropped |= forms.len() != before;
                    if forms.is_empty() {
                        forms.push(Admitted::plain(Form::Object(0)));
                    }
                }
            }
        }
        if !dropped {
            return;
        }
    }
}

fn random_expr(rng: &mut Rng, schema: &Schema, t: T, depth: usize) -> Expr {
    let of = &schema.types[t];
    let part = |rng: &mut Rng| random_expr(rng, schema, t, depth - 1);
    if depth > 0 && rng.chance(if depth == 3 { 85 } else { 45 }) {
        return match rng.below(10) {
            0..=3 => {
                let count = rng.between(2, 3);
                Expr::Union((0..count).map(|_| part(rng)).collect())
            }
            4 | 5 => Expr::Intersection(vec![part(rng), part(rng)]),
            _ => {
                let plain = |member: &Member| match &member.body {
                    Body::Relation(forms) => forms.iter().all(|form| !matches!(form.form, Form::Userset(..))),
                    Body::Permission(_) => false,
                };
                let plain: Vec<M> = (0..of.members.len()).filter(|m| plain(&of.members[*m])).collect();
                let below = !plain.is_empty() && rng.chance(50);
                let sub = if below { Expr::Member(*rng.pick(&plain)) } else { part(rng) };
                Expr::Exclusion(Box::new(part(rng)), Box::new(sub))
            }
        };
    }
    let allows = allows_wildcard(schema);
    let arrows: Vec<M> =
        (0..of.members.len()).filter(|m| matches!(of.members[*m].body, Body::Relation(_)) && !allows[t][*m]).collect();
    if !arrows.is_empty() && rng.chance(45) {
        let relation = *rng.pick(&arrows);
        let Body::Relation(forms) = &of.members[relation].body else { return Expr::Nil };
        // A member of some subject type mostly; near misses are names that only other types have.
        let mut targets: Vec<&str> = Vec::new();
        for form in forms {
            let (Form::Object(of) | Form::Userset(of, _) | Form::Wildcard(of)) = form.form;
            targets.extend(schema.types[of].members.iter().map(|member| member.name.as_str()));
        }
        if targets.is_empty() || rng.chance(10) {
            targets.extend(of.members.iter().map(|member| member.name.as_str()));
        }
        let target = (*rng.pick(&targets)).to_owned();
        return if rng.chance(45) { Expr::All(relation, target) } else { Expr::Any(relation, target) };
    }
    if rng.chance(4) {
        return Expr::Itself;
    }
    if rng.chance(3) { Expr::Nil } else { Expr::Member(rng.below(of.members.len())) }
}

/// Softens every exclusion to an intersection, then restores one permission after the other where no cycle comes to
/// pass through a subtraction: what is left cannot be more.
fn stratify(rng: &mut Rng, schema: &mut Schema) {
    let drawn = schema.clone();
    let mut places: Vec<(T, M)> = Vec::new();
    for (t, of) in schema.types.iter_mut().enumerate() {
        for (m, member) in of.members.iter_mut().enumerate() {
            if let Body::Permission(expr) = &mut member.body {
                soften(expr);
                places.push((t, m));
            }
        }
    }
    rng.shuffle(&mut places);
    for (t, m) in places {
        let drawn = drawn.types[t].members[m].body.clone();
        let softened = std::mem::replace(&mut schema.types[t].members[m].body, drawn);
        if schema.strata(true).is_none() {
            schema.types[t].members[m].body = softened;
        }
    }
}

fn soften(expr: &mut Expr) {
    match expr {
        Expr::Nil | Expr::Itself | Expr::Member(_) | Expr::Any(..) | Expr::All(..) => {}
        Expr::Union(parts) | Expr::Intersection(parts) => parts.iter_mut().for_each(soften),
        Expr::Exclusion(base, sub) => {
            soften(base);
            soften(sub);
            let (base, sub) = (std::mem::replace(&mut **base, Expr::Nil), std::mem::replace(&mut **sub, Expr::Nil));
            *expr = Expr::Intersection(vec![base, sub]);
        }
    }
}

/// How much trouble the worlds make: shares of the answers, and how often each planted mistake would show.
#[derive(Default)]
pub struct Trouble {
    pub allowed: u64,
    pub conditional: u64,
    /// Conditional, and certainly an error.
    pub failed: u64,
    pub asked: u64,
    /// For each mistake of [`Flip::MISTAKES`]: answers changed, worlds in which any changed.
    pub changed: [(u64, u64); Flip::MISTAKES.len()],
    pub worlds: u64,
    /// The same for a memo that keeps interim answers.
    pub naive_memo: (u64, u64),
}

impl Trouble {
    pub fn measure(&mut self, world: &World, subjects: &[Subject], request: &Given, now: Instant) {
        self.worlds += 1;
        let tuples = world.rows(request, now, Flip::None);
        let held = |flip: Flip, subject: Subject| -> Vec<Truth> {
            let tuples = world.rows(request, now, flip);
            oracle::evaluate(&world.schema, &world.objects, &tuples, subject, flip).concat()
        };
        let mut by_memo = 0;
        let mut changed_here = [0; Flip::MISTAKES.len()];
        for subject in subjects {
            let right = held(Flip::None, *subject);
            self.asked += right.len() as u64;
            self.allowed += right.iter().filter(|truth| **truth == Truth::Allow).count() as u64;
            for (_, due) in world.due(*subject, request, now) {
                self.failed += u64::from(due.fails == Fails::Always);
                self.conditional += u64::from(due.truth == Truth::Conditional && due.fails != Fails::Always);
            }
            let places = (0..world.objects.len())
                .flat_map(|o| (0..world.schema.types[world.objects[o].of].members.len()).map(move |m| (o, m)));
            by_memo += places
                .zip(&right)
                .filter(|(at, right)| {
                    oracle::with_naive_memo(&world.schema, &world.objects, &tuples, *subject, *at) != **right
                })
                .count() as u64;
            for (n, flip) in Flip::MISTAKES.into_iter().enumerate() {
                let wrong = held(flip, *subject);
                changed_here[n] += right.iter().zip(&wrong).filter(|(right, wrong)| right != wrong).count() as u64;
            }
        }
        self.naive_memo.0 += by_memo;
        self.naive_memo.1 += u64::from(by_memo > 0);
        for (n, changed) in changed_here.into_iter().enumerate() {
            self.changed[n].0 += changed;
            self.changed[n].1 += u64::from(changed > 0);
        }
    }

    pub fn told(&self) -> String {
        let share = |part: u64, whole: u64| 100.0 * part as f64 / whole.max(1) as f64;
        let allow = share(self.allowed, self.asked);
        let (conditional, failed) = (share(self.conditional, self.asked), share(self.failed, self.asked));
        let mut text = format!(
            "{} answers in {} worlds: {allow:.1} % allow, {:.1} % deny, {conditional:.1} % conditional, {failed:.1} % error",
            self.asked,
            self.worlds,
            100.0 - allow - conditional - failed
        );
        let mistakes = Flip::MISTAKES.iter().map(|flip| format!("{flip:?}")).chain(["NaiveMemo".to_owned()]);
        for (flip, (answers, worlds)) in mistakes.zip(self.changed.into_iter().chain([self.naive_memo])) {
            let (answers, worlds) = (share(answers, self.asked), share(worlds, self.worlds));
            text.push_str(&format!("\n  {flip}: changes {answers:.2} % of answers, shows in {worlds:.0} % of worlds"));
        }
        text
    }
}

/// The worlds themselves are tested: if they made no trouble, agreement would mean little.
#[test]
fn the_worlds_make_trouble() {
    let seed = seed("the_worlds_make_trouble");
    let mut trouble = Trouble::default();
    for n in 0..300 {
        let mut rng = Rng::part(seed, n);
        let world = World::random(&mut rng, "w");
        let subjects = world.some_subjects(&mut rng, 12);
        let given = random_given(&mut rng);
        let now = START + *rng.pick(&[0, 10 * SECOND, 30 * SECOND]);
        trouble.measure(&world, &subjects, &given, now);
    }
    println!("{}", trouble.told());
    let allow = trouble.allowed as f64 / trouble.asked as f64;
    assert!((0.08..0.9).contains(&allow), "one-sided answers: {}", trouble.told());
    let uncertain = |part: u64| part as f64 / trouble.asked as f64;
    assert!(uncertain(trouble.conditional) > 0.02 && uncertain(trouble.failed) > 0.002, "{}", trouble.told());
    assert!(trouble.naive_memo.1 > 0, "a naive memo would pass: {}", trouble.told());
    for (flip, (_, worlds)) in Flip::MISTAKES.iter().zip(trouble.changed) {
        assert!(worlds * 100 >= trouble.worlds, "{flip:?} shows in too few worlds: {}", trouble.told());
    }
}

#[test]
fn equal_seeds_make_equal_worlds() {
    let draw = || World::random(&mut Rng::part(7, 3), "w").told();
    assert_eq!(draw(), draw());
}

/// What the oracle says is checked by hand once, on the rules that are easily got wrong.
#[test]
fn the_oracle_by_hand() {
    let schema = crate::zed::read(
        "definition user {}
         definition group { relation member: user | group#member permission active = member - member }
         definition org { relation admin: user | user:* }
         definition doc {
           relation viewer: user | user:* | group#member
           relation banned: user
           relation home: group | org | group#member
           permission view = viewer - banned
           permission any_admin = home->admin
           permission all_member = home.all(member)
           permission both = viewer & banned
         }",
    )
    .unwrap();
    let tuples: Vec<RelationTuple> = [
        "group:g#member@group:h#member",
        "group:h#member@group:g#member",
        "group:h#member@user:rita",
        "doc:1#viewer@group:g#member",
        "doc:1#banned@user:tom",
        "doc:2#viewer@user:*",
        "doc:2#banned@user:rita",
        "doc:1#home@group:g",
        "doc:2#home@group:g#member",
        "doc:2#home@org:acme",
        "org:acme#admin@user:dana",
    ]
    .iter()
    .map(|text| text.parse().unwrap())
    .collect();
    let world = World::from_tuples(schema, &tuples, &[]).unwrap();
    for (asked, expected) in [
        ("group:g#member@user:rita", Decision::Allow),
        ("group:g#member@user:dana", Decision::Deny),
        ("group:g#member@group:g#member", Decision::Allow),
        ("group:g#active@group:g#active", Decision::Allow),
        ("group:g#active@user:rita", Decision::Deny),
        ("group:unknown#member@group:unknown#member", Decision::Allow),
        ("doc:1#view@user:rita", Decision::Allow),
        ("doc:1#view@group:h#member", Decision::Allow),
        ("doc:1#view@group:h", Decision::Deny),
        ("doc:2#view@user:unknown", Decision::Allow),
        ("doc:2#view@user:rita", Decision::Deny),
        ("doc:2#viewer@group:g#member", Decision::Deny),
        ("doc:2#viewer@group:g", Decision::Deny),
        ("doc:2#any_admin@user:dana", Decision::Allow),
        ("doc:1#any_admin@user:dana", Decision::Deny),
        ("doc:1#all_member@user:rita", Decision::Allow),
        ("doc:2#all_member@user:rita", Decision::Deny),
        ("doc:unknown#all_member@user:rita", Decision::Deny),
        ("doc:2#both@user:rita", Decision::Allow),
        ("doc:1#both@user:tom", Decision::Deny),
    ] {
        let question = crate::engines::question(asked);
        let subject = world.subjects().into_iter().find(|s| world.subject_ref(*s) == question.subject).unwrap();
        let said = world.answers(subject).into_iter().find(|(asked, _)| world.question(*asked) == question).unwrap().1;
        assert_eq!(said, expected, "{asked}");
    }
}
