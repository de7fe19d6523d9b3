//! Lists against the oracle: who is listed is exactly who would be allowed, with the same decision, at every page size
//! and while tuples change between the pages.
//!
//! What always holds: an object is in ListResources if and only if Check would not deny it; a reply of ListSubjects alone
//! decides about every subject of the type, as Check would; ListPermissions says what Check says. A conditional row names
//! the fields that Check names. A list ends in an error if and only if Check fails about one of those it could hold.
//! `PROCURA_LISTED` sets how many pairs are compared in random worlds, `PROCURA_SEED` replays.

use crate::agrees::Timed;
use crate::caveats::{Given, names_of};
use crate::engines::{TestEngine, question, refused, told, tuple};
use crate::oracle::{Body, M, O, Subject, T, Truth};
use crate::worlds::{Due, Fails, Instant, Rng, SECOND, START, World, context, decision, number, random_given, seed};
use crate::zed;
use procura::engine::{
    CheckOptions, Engine, Error, Kind, ListPermissions, ListResources, ListSubjects, ResourceRow, Situation, SubjectRow,
};
use procura::model::{
    Acting, Cancel, Consistency, Decision, Limits, Question, RelationName, RelationTuple, SubjectRef, TupleUpdate,
    TypeName, UpdateKind,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A list as one page after the other, each opened by the cursor of the one before; 0 is one reader for all.
pub fn resources(engine: &Engine, request: &ListResources, page_rows: usize) -> Result<Vec<ResourceRow>, Error> {
    let mut all = Vec::new();
    read_resources(engine, request, page_rows, &mut all).map(|()| all)
}

/// As `resources`, into `all`, where the rows before an error stay.
fn read_resources(
    engine: &Engine,
    request: &ListResources,
    page_rows: usize,
    all: &mut Vec<ResourceRow>,
) -> Result<(), Error> {
    let cancel = Cancel::default();
    loop {
        let cursor = all.last().map(|row| row.cursor.clone()).or_else(|| request.cursor.clone());
        let mut lister = engine.list_resources(ListResources { cursor, ..request.clone() }, &cancel)?;
        if page_rows == 0 {
            loop {
                let page = lister.next_page(3, &cancel)?;
                if page.is_empty() {
                    return Ok(());
                }
                all.extend(page);
            }
        }
        let page = lister.next_page(page_rows, &cancel)?;
        assert!(page.len() <= page_rows, "a page of {} rows, not {page_rows}", page.len());
        let Some(last) = page.last() else { return Ok(()) };
        assert!(all.iter().all(|row| row.cursor != last.cursor), "a page that does not go on: {page:?}");
        all.extend(page);
    }
}

/// As `resources`.
pub fn subjects(engine: &Engine, request: &ListSubjects, page_rows: usize) -> Result<Vec<SubjectRow>, Error> {
    let mut all = Vec::new();
    read_subjects(engine, request, page_rows, &mut all).map(|()| all)
}

fn read_subjects(
    engine: &Engine,
    request: &ListSubjects,
    page_rows: usize,
    all: &mut Vec<SubjectRow>,
) -> Result<(), Error> {
    let cancel = Cancel::default();
    loop {
        let cursor = all.last().map(|row| row.cursor.clone()).or_else(|| request.cursor.clone());
        let mut lister = engine.list_subjects(ListSubjects { cursor, ..request.clone() }, &cancel)?;
        if page_rows == 0 {
            loop {
                let page = lister.next_page(3, &cancel)?;
                if page.is_empty() {
                    return Ok(());
                }
                all.extend(page);
            }
        }
        let page = lister.next_page(page_rows, &cancel)?;
        assert!(page.len() <= page_rows, "a page of {} rows, not {page_rows}", page.len());
        let Some(last) = page.last() else { return Ok(()) };
        assert!(all.iter().all(|row| row.cursor != last.cursor), "a page that does not go on: {page:?}");
        all.extend(page);
    }
}

pub fn of_resources(object_type: &TypeName, permission: &RelationName, subject: SubjectRef) -> ListResources {
    ListResources {
        acting: Acting::default(),
        object_type: object_type.clone(),
        permission: permission.clone(),
        subject,
        within: None,
        situation: Situation::default(),
        cursor: None,
    }
}

pub fn of_subjects(
    question: &Question,
    subject_type: TypeName,
    subject_relation: Option<RelationName>,
) -> ListSubjects {
    ListSubjects {
        object: question.object.clone(),
        permission: question.permission.clone(),
        subject_type,
        subject_relation,
        with_relations: false,
        within: None,
        situation: Situation::default(),
        cursor: None,
    }
}

/// `type#permission@subject` as ListResources takes it.
pub fn resources_asked(text: &str) -> ListResources {
    let (object, subject) = text.split_once('@').expect("an `@`");
    let (object_type, permission) = object.split_once('#').expect("a `#`");
    let subject = question(&format!("x:x#x@{subject}")).subject;
    of_resources(&type_name(object_type), &relation(permission), subject)
}

/// `object#permission@type` as ListSubjects takes it.
pub fn subjects_asked(text: &str) -> ListSubjects {
    let (asked, subject_type) = text.split_once('@').expect("an `@`");
    let (subject_type, subject_relation) = match subject_type.split_once('#') {
        Some((subject_type, name)) => (subject_type, Some(relation(name))),
        None => (subject_type, None),
    };
    of_subjects(&question(&format!("{asked}@x:x")), type_name(subject_type), subject_relation)
}

/// Ids of all that are listed, sorted, each with its decision.
pub fn listed_resources(engine: &Engine, request: &ListResources) -> Result<Vec<(String, Decision)>, Error> {
    let rows = resources(engine, request, 0)?;
    let mut ids: Vec<_> = rows.into_iter().map(|row| (row.object.id.to_string(), row.decision)).collect();
    ids.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(ids)
}

/// As `listed_resources`; a wildcard is `*`.
pub fn listed_subjects(engine: &Engine, request: &ListSubjects) -> Result<Vec<(String, Decision)>, Error> {
    let rows = subjects(engine, request, 0)?;
    let id = |subject: &SubjectRef| match subject {
        SubjectRef::Object(object) | SubjectRef::Userset(object, _) => object.id.to_string(),
        SubjectRef::Wildcard(_) => "*".to_owned(),
    };
    let mut ids: Vec<_> = rows.iter().map(|row| (id(&row.subject), row.decision)).collect();
    ids.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(ids)
}

pub fn type_name(text: &str) -> TypeName {
    TypeName::new(text).expect("a type's name")
}

pub fn relation(text: &str) -> RelationName {
    RelationName::new(text).expect("a relation's name")
}

/// What lists are asked under: the oracle's facts and instant, and the situation in which the engine has the same.
pub struct Under<'a> {
    pub given: &'a Given,
    pub now: Instant,
    pub situation: Situation,
}

/// A decision, and what a conditional one lacks.
type Told = (Decision, Vec<String>);

/// What the lists must say of every (object, member, subject) of a world: the oracle's decision, with the fields that
/// Check names; `None` where Check fails, which it may only where the oracle's answer does.
struct Truths {
    answers: HashMap<(O, M, Subject), Option<Told>>,
    subjects: Vec<Subject>,
}

impl Truths {
    fn of(name: &str, engine: &Engine, world: &World, under: &Under) -> Truths {
        let subjects = world.subjects();
        let mut answers = HashMap::new();
        let mut conditional = Vec::new();
        for subject in &subjects {
            for (asked, due) in world.due(*subject, under.given, under.now) {
                if due.truth == Truth::Conditional {
                    conditional.push((asked, due));
                }
                answers.insert((asked.object, asked.member, *subject), Some((decision(due.truth), Vec::new())));
            }
        }
        let options = CheckOptions { situation: under.situation.clone(), ..CheckOptions::default() };
        for part in conditional.chunks(10_000) {
            let questions: Vec<Question> = part.iter().map(|(asked, _)| world.question(*asked)).collect();
            let bulk = engine.check_bulk(&questions, &options).unwrap_or_else(|error| panic!("{}", told(&error)));
            for ((asked, due), answer) in part.iter().zip(bulk.answers) {
                let shown = || format!("{name}: {:?}: {due:?} {answer:?}\n{}", world.question(*asked), world.told());
                let Due { truth: _, fails, least, most } = *due;
                let said = match &answer {
                    Ok(answer) => {
                        let names = names_of(answer.missing.iter().map(String::as_str));
                        assert!(names & !most == 0 && least & !names == 0 && fails != Fails::Always, "{}", shown());
                        assert_eq!(answer.decision, Decision::Conditional, "{}", shown());
                        Some((answer.decision, answer.missing.clone()))
                    }
                    Err(error) => {
                        assert!(error.reason == "CAVEAT_FAILED" && fails != Fails::Never, "{}", shown());
                        None
                    }
                };
                answers.insert((asked.object, asked.member, asked.subject), said);
            }
        }
        Truths { answers, subjects }
    }

    fn say(&self, o: O, m: M, subject: Subject) -> Option<Told> {
        self.answers[&(o, m, subject)].clone()
    }
}

/// How a list is asked for: at once, and by page sizes on a part.
#[derive(Clone, Copy)]
pub struct Pages {
    /// One list in so many is also read by every page size up to its length and one more.
    pub every: usize,
}

/// How much was compared.
#[derive(Default)]
pub struct Compared {
    /// (object, permission, subject)
    pub pairs: u64,
    /// Conditional rows and exclusions.
    pub conditional: u64,
    /// Lists that ended in an error, as they must.
    pub failed: u64,
}

/// Both lists and ListPermissions against the oracle, for all subjects given and for all objects.
pub fn lists_agree(
    name: &str,
    engine: &Engine,
    world: &World,
    asked: Vec<Subject>,
    under: &Under,
    pages: Pages,
) -> Compared {
    let truths = Truths::of(name, engine, world, under);
    let mut agree = Agree { name, engine, world, truths, under, pages, lists: 0, compared: Compared::default() };
    for subject in &asked {
        agree.resources(*subject);
        agree.permissions(*subject);
    }
    for o in 0..world.objects.len() {
        agree.subjects(o);
    }
    agree.compared
}

pub fn types(world: &World) -> impl Iterator<Item = (T, TypeName)> {
    world.schema.types.iter().enumerate().map(|(t, of)| (t, type_name(&of.name)))
}

pub fn members(world: &World, of: T) -> impl Iterator<Item = (M, RelationName)> {
    world.schema.types[of].members.iter().enumerate().map(|(m, member)| (m, relation(&member.name)))
}

/// Lists of one world under comparison.
struct Agree<'a> {
    name: &'a str,
    engine: &'a Engine,
    world: &'a World,
    truths: Truths,
    under: &'a Under<'a>,
    pages: Pages,
    lists: usize,
    compared: Compared,
}

impl Agree<'_> {
    fn told(&self, what: &str, request: &dyn std::fmt::Debug) -> String {
        format!("{}: {what}: {request:?} at {}\n{}", self.name, self.under.now, self.world.told())
    }

    /// Whether a list may end in this error, where one was due; what it said before is compared by the caller.
    fn failed(&mut self, due: bool, error: &Error, request: &dyn std::fmt::Debug) {
        assert!(due && error.reason == "CAVEAT_FAILED", "{}", self.told(&told(error), request));
        self.compared.failed += 1;
    }

    /// Whether this list is also read by pages.
    fn by_pages(&mut self) -> bool {
        self.lists += 1;
        self.lists.is_multiple_of(self.pages.every)
    }

    fn resources(&mut self, subject: Subject) {
        for (t, object_type) in types(self.world) {
            for (m, permission) in members(self.world, t) {
                let objects = (0..self.world.objects.len()).filter(|o| self.world.objects[*o].of == t);
                let all: BTreeMap<String, Option<Told>> =
                    objects.map(|o| (self.world.objects[o].id.clone(), self.truths.say(o, m, subject))).collect();
                let fails = all.values().any(Option::is_none);
                let request = ListResources {
                    situation: self.under.situation.clone(),
                    ..of_resources(&object_type, &permission, self.world.subject_ref(subject))
                };
                let mut rows = Vec::new();
                let by_pages = self.by_pages();
                match read_resources(self.engine, &request, 0, &mut rows) {
                    Ok(()) => {
                        assert!(!fails, "{}", self.told("a list without what cannot be told", &request));
                        if by_pages {
                            for page_rows in 1..=rows.len() + 1 {
                                let paged = resources(self.engine, &request, page_rows).expect("a list");
                                assert_eq!(paged, rows, "{}", self.told(&format!("by pages of {page_rows}"), &request));
                            }
                        }
                    }
                    Err(error) => {
                        self.failed(fails, &error, &request);
                        rows.clear();
                        let error = read_resources(self.engine, &request, 1, &mut rows).expect_err("it failed before");
                        self.failed(fails, &error, &request);
                    }
                }
                let mut found: BTreeMap<String, Option<Told>> = BTreeMap::new();
                for row in rows {
                    self.compared.conditional += u64::from(row.decision == Decision::Conditional);
                    let said = Some((row.decision, row.missing_fields));
                    let twice = found.insert(row.object.id.to_string(), said);
                    assert!(twice.is_none(), "{}", self.told("an object twice", &request));
                }
                let is_due = |said: &Option<Told>| !said.as_ref().is_some_and(|(said, _)| *said == Decision::Deny);
                // Before an error stand only some rows, each of them right.
                let due: BTreeMap<String, Option<Told>> =
                    all.into_iter().filter(|(id, said)| is_due(said) && (!fails || found.contains_key(id))).collect();
                assert_eq!(found, due, "{}", self.told("listed, then what is due", &request));
                self.compared.pairs += due.len().max(1) as u64;
            }
        }
    }

    fn permissions(&mut self, subject: Subject) {
        for (o, object) in self.world.objects.iter().enumerate() {
            let request = ListPermissions {
                acting: Acting::default(),
                object: self.world.object_ref(o),
                subject: self.world.subject_ref(subject),
                situation: self.under.situation.clone(),
            };
            let due: Option<Vec<(String, bool, Told)>> = self.world.schema.types[object.of]
                .members
                .iter()
                .enumerate()
                .map(|(m, member)| {
                    let is_relation = matches!(member.body, Body::Relation(_));
                    Some((member.name.clone(), is_relation, self.truths.say(o, m, subject)?))
                })
                .collect();
            let listed = match self.engine.list_permissions(&request, &Cancel::default()) {
                Ok(listed) => listed,
                Err(error) => {
                    self.failed(due.is_none(), &error, &request);
                    continue;
                }
            };
            let found: Vec<(String, bool, Told)> = listed
                .rows
                .into_iter()
                .map(|row| (row.name.to_string(), row.is_relation, (row.decision, row.missing_fields)))
                .collect();
            assert_eq!(Some(&found), due.as_ref(), "{}", self.told("listed, then what is due", &request));
            self.compared.pairs += found.len() as u64;
        }
    }

    fn subjects(&mut self, o: O) {
        let world = self.world;
        for (m, permission) in members(world, world.objects[o].of) {
            let asked =
                Question { object: world.object_ref(o), permission, subject: SubjectRef::Object(world.object_ref(o)) };
            for (t, subject_type) in types(world) {
                let usersets = members(world, t).map(|(of, name)| Some((of, name)));
                for form in std::iter::once(None).chain(usersets) {
                    let request = ListSubjects {
                        situation: self.under.situation.clone(),
                        ..of_subjects(&asked, subject_type.clone(), form.clone().map(|(_, name)| name))
                    };
                    let meant = self.truths.subjects.iter().copied().filter(|subject| match (subject, &form) {
                        (Subject::Object(s), None) => world.objects[*s].of == t,
                        (Subject::Userset(s, of), Some((wanted, _))) => world.objects[*s].of == t && of == wanted,
                        (Subject::Object(_) | Subject::Userset(..) | Subject::Wildcard(_), _) => false,
                    });
                    let all: Vec<(SubjectRef, Option<Told>)> =
                        meant.map(|subject| (world.subject_ref(subject), self.truths.say(o, m, subject))).collect();
                    self.subjects_of_form(&request, all);
                }
            }
        }
    }

    fn subjects_of_form(&mut self, request: &ListSubjects, all: Vec<(SubjectRef, Option<Told>)>) {
        let fails = all.iter().any(|(_, due)| due.is_none());
        let mut rows = Vec::new();
        let by_pages = self.by_pages();
        match read_subjects(self.engine, request, 0, &mut rows) {
            Ok(()) => {
                assert!(!fails, "{}", self.told("a list without what cannot be told", request));
                if by_pages {
                    for page_rows in 1..=rows.len() + 1 {
                        let paged = subjects(self.engine, request, page_rows).expect("a list");
                        assert_eq!(paged, rows, "{}", self.told(&format!("by pages of {page_rows}"), request));
                    }
                }
            }
            Err(error) => {
                self.failed(fails, &error, request);
                rows.clear();
                let error = read_subjects(self.engine, request, 1, &mut rows).expect_err("it failed before");
                self.failed(fails, &error, request);
            }
        }
        let is_conditional = |decision: Decision| u64::from(decision == Decision::Conditional);
        self.compared.conditional += rows.iter().map(|row| is_conditional(row.decision)).sum::<u64>();
        let reply = Reply::new(&rows);
        for (who, due) in all {
            // Before an error stand only some rows, each of them right; who has none is not spoken of.
            if fails && reply.wildcard.is_none() && !reply.listed.contains_key(&who) {
                continue;
            }
            let told = || self.told(&format!("about {who}, said, then due, in {rows:?}"), request);
            assert_eq!(Some(reply.decides(&who)), due, "{}", told());
            self.compared.pairs += 1;
        }
        let of_usersets = request.subject_relation.is_some();
        assert!(!of_usersets || reply.wildcard.is_none(), "{}", self.told("a wildcard among usersets", request));
    }
}

/// What a reply of ListSubjects says about anybody, by the rule its documentation gives and nothing else.
struct Reply {
    listed: HashMap<SubjectRef, Told>,
    excluded: HashMap<SubjectRef, Told>,
    wildcard: Option<Told>,
}

impl Reply {
    fn new(rows: &[SubjectRow]) -> Reply {
        let mut reply = Reply { listed: HashMap::new(), excluded: HashMap::new(), wildcard: None };
        for (n, row) in rows.iter().enumerate() {
            assert_ne!(row.decision, Decision::Deny, "a denied row");
            let said = (row.decision, row.missing_fields.clone());
            if let SubjectRef::Wildcard(_) = row.subject {
                assert_eq!(n, 0, "the wildcard stands first");
                reply.wildcard = Some(said);
                for one in &row.exclusions {
                    let said = (one.decision, one.missing_fields.clone());
                    let twice = reply.excluded.insert(one.subject.clone(), said);
                    assert!(twice.is_none(), "excluded twice: {}", one.subject);
                }
            } else {
                assert!(row.exclusions.is_empty(), "only a wildcard excludes");
                let twice = reply.listed.insert(row.subject.clone(), said);
                assert!(twice.is_none(), "listed twice: {}", row.subject);
            }
        }
        reply
    }

    fn decides(&self, subject: &SubjectRef) -> Told {
        let of_all = || match subject {
            SubjectRef::Object(_) => self.wildcard.clone(),
            SubjectRef::Userset(..) | SubjectRef::Wildcard(_) => None,
        };
        let found = self.listed.get(subject).or_else(|| self.excluded.get(subject)).cloned();
        found.or_else(of_all).unwrap_or((Decision::Deny, Vec::new()))
    }
}

/// Three-valued worlds whose tuples end, each at an instant of its own and under a context of its own.
#[test]
fn lists_agree_with_the_oracle() {
    let seed = seed("lists_agree_with_the_oracle");
    let wanted = number("PROCURA_LISTED", 400_000);
    let (mut compared, mut worlds_run, mut batch) = (Compared::default(), 0, 0);
    // Bounded: each batch compares something.
    while compared.pairs < wanted {
        let mut rng = Rng::part(seed, batch);
        let draw = |n| World::random(&mut rng, &format!("w{n}")).with_strangers();
        let worlds: Vec<World> = (0..10).map(draw).collect();
        let schema: String = worlds.iter().map(|world| world.schema.print_body()).collect();
        let engine = Timed::with_schema(&format!("use expiration\nuse self\n{schema}"));
        let touch = |tuple| TupleUpdate { kind: UpdateKind::Touch, tuple };
        let mut updates: Vec<TupleUpdate> = worlds.iter().flat_map(World::relation_tuples).map(touch).collect();
        rng.shuffle(&mut updates);
        engine.update(updates);
        for (n, world) in worlds.iter().enumerate() {
            let name = format!("seed {seed} batch {batch} world {n}");
            let given = random_given(&mut rng);
            // At the instants something ends at, in order: a clock does not go back.
            let now = START + [0, 10, 20, 30][n * 4 / worlds.len()] * SECOND;
            engine.set(now);
            let situation = Situation { context: context(&given), ..Situation::default() };
            let asked = world.some_subjects(&mut rng, 20);
            let under = Under { given: &given, now, situation };
            let Compared { pairs, conditional, failed } =
                lists_agree(&name, &engine, world, asked, &under, Pages { every: 7 });
            compared.pairs += pairs;
            compared.conditional += conditional;
            compared.failed += failed;
            worlds_run += 1;
        }
        batch += 1;
    }
    let Compared { pairs, conditional, failed } = compared;
    println!("lists: {pairs} pairs as the oracle's, in {worlds_run} random worlds");
    println!("lists: {conditional} conditional rows, {failed} lists that ended in an error");
    assert!(conditional * 200 > pairs && failed > 0, "the worlds decide everything");
}

/// The worlds that newcomers read, with all their objects.
#[test]
fn lists_agree_on_the_schema_examples() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schema-examples");
    let mut compared = 0;
    for entry in std::fs::read_dir(&folder).expect("schema-examples") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a file");
        let file: serde_json::Value = serde_saphyr::from_str(&text).expect("YAML");
        let schema = file["schemaFile"].as_str().expect("a schema file");
        let schema = std::fs::read_to_string(folder.join(schema)).expect("a schema");
        let lines = file["relationships"].as_str().expect("relationships").lines().map(str::trim);
        let tuples: Vec<RelationTuple> =
            lines.filter(|line| !line.is_empty() && !line.starts_with("//")).map(tuple).collect();
        let engine = TestEngine::with_schema(&schema);
        engine.touch_parsed(tuples.iter().cloned());
        let Ok(read) = zed::read(&schema) else { continue };
        let world = World::from_tuples(read, &tuples, &[]).expect("a world");
        let name = path.display().to_string();
        let under = Under { given: &Given::new(), now: START, situation: Situation::default() };
        compared += lists_agree(&name, &engine, &world, world.subjects(), &under, Pages { every: 5 }).pairs;
    }
    println!("lists: {compared} pairs as the oracle's, in the schema examples");
    assert!(compared > 10_000);
}

/// Tuples change between the pages. Who has the same answer at every revision on the way is listed once, or never.
#[test]
fn writes_between_pages_neither_miss_nor_repeat_what_did_not_change() {
    let seed = seed("writes_between_pages_neither_miss_nor_repeat_what_did_not_change");
    let (mut lists, mut unchanged, mut changed) = (0, 0, 0);
    for n in 0..80 {
        let mut rng = Rng::part(seed, n);
        let mut world = World::plain(&mut rng, "w");
        let engine = TestEngine::with_schema(&world.schema.print());
        engine.touch_parsed(world.relation_tuples());
        for _ in 0..12 {
            let subject = *rng.pick(&world.some_subjects(&mut rng.clone(), 12));
            // A list of several pages, where there is one.
            let mut counts: BTreeMap<(T, M), usize> = BTreeMap::new();
            for (asked, decision) in world.answers(subject) {
                if decision != Decision::Deny {
                    *counts.entry((world.objects[asked.object].of, asked.member)).or_default() += 1;
                }
            }
            counts.retain(|_, count| *count > 1);
            let long: Vec<(T, M)> = counts.into_keys().collect();
            if long.is_empty() {
                continue;
            }
            let (t, m) = *rng.pick(&long);
            let object_type = type_name(&world.schema.types[t].name);
            let permission = relation(&world.schema.types[t].members[m].name);
            let mut request = of_resources(&object_type, &permission, world.subject_ref(subject));
            let page_rows = rng.between(1, 2);
            let mut always: BTreeMap<String, BTreeSet<&'static str>> = BTreeMap::new();
            let mut listed: Vec<String> = Vec::new();
            // Bounded: each page has rows, of which each stands behind the one before.
            loop {
                for (asked, decision) in world.answers(subject) {
                    if world.objects[asked.object].of == t && asked.member == m {
                        always.entry(world.objects[asked.object].id.clone()).or_default().insert(decision.as_str());
                    }
                }
                let mut lister = engine.list_resources(request.clone(), &Cancel::default()).expect("a list");
                let page = lister.next_page(page_rows, &Cancel::default()).expect("a page");
                let Some(last) = page.last() else { break };
                let repeated = page.iter().find(|row| listed.contains(&row.object.id.to_string()));
                assert!(repeated.is_none(), "seed {seed} part {n}: {repeated:?} again, of {request:?}");
                request.cursor = Some(last.cursor.clone());
                listed.extend(page.iter().map(|row| row.object.id.to_string()));
                engine.update(world.random_changes(&mut rng, START));
            }
            let once: BTreeSet<&String> = listed.iter().collect();
            assert_eq!(once.len(), listed.len(), "seed {seed} part {n}: repeated: {listed:?} of {request:?}");
            for (id, decisions) in always {
                if decisions.len() > 1 {
                    changed += 1;
                    continue;
                }
                unchanged += 1;
                let due = !decisions.contains("DENY");
                assert_eq!(once.contains(&id), due, "seed {seed} part {n}: `{id}` of {request:?}\n{listed:?}");
            }
            lists += 1;
        }
    }
    println!("{lists} lists while tuples changed: {unchanged} objects unchanged, {changed} changed on the way");
    assert!(changed > 50 && unchanged > 500);
}

/// The same of subjects, on three-valued worlds. Whoever `type:*` answers for has no row, and it stands on the first page
/// only: where everybody's answer changed on the way, nothing is due.
#[test]
fn writes_between_pages_neither_miss_nor_repeat_subjects_that_did_not_change() {
    let seed = seed("writes_between_pages_neither_miss_nor_repeat_subjects_that_did_not_change");
    let (mut lists, mut unchanged, mut changed, mut covered) = (0, 0, 0, 0);
    for n in 0..120 {
        let mut rng = Rng::part(seed, n);
        let mut world = World::lasting(&mut rng, "w").with_strangers();
        let engine = TestEngine::with_schema(&world.schema.print());
        engine.touch_parsed(world.relation_tuples());
        let given = random_given(&mut rng);
        'lists: for _ in 0..60 {
            let asked = *rng.pick(&world.asked(Subject::Object(0)).collect::<Vec<_>>());
            let t = rng.below(world.schema.types.len());
            // Plain subjects half of the time.
            let form = members(&world, t).nth(rng.below(world.schema.types[t].members.len() * 2));
            let of_form = |o: O| form.as_ref().map_or(Subject::Object(o), |(m, _)| Subject::Userset(o, *m));
            let objects = (0..world.objects.len()).filter(|o| world.objects[*o].of == t);
            let meant: Vec<Subject> = objects.map(of_form).collect();
            let stranger = meant.iter().copied().find(|subject| world.is_stranger(*subject)).expect("one of each type");
            let dues = |world: &World| -> Vec<Due> {
                let of = |subject: &Subject| {
                    let all = world.due(*subject, &given, START);
                    all.into_iter().find(|(one, _)| (one.object, one.member) == (asked.object, asked.member))
                };
                meant.iter().map(|subject| of(subject).expect("every member of every object").1).collect()
            };
            // A list of several pages.
            if dues(&world).iter().filter(|due| due.truth > Truth::Deny).count() < 3 {
                continue;
            }
            let mut request = ListSubjects {
                situation: Situation { context: context(&given), ..Situation::default() },
                ..of_subjects(
                    &world.question(asked),
                    types(&world).nth(t).expect("a type").1,
                    form.map(|(_, name)| name),
                )
            };
            let page_rows = rng.between(1, 2);
            let mut always: HashMap<Subject, BTreeSet<&'static str>> = HashMap::new();
            let mut listed: Vec<SubjectRow> = Vec::new();
            // Bounded: each page has rows, of which each stands behind the one before.
            loop {
                let dues = dues(&world);
                for (subject, due) in meant.iter().zip(&dues) {
                    always.entry(*subject).or_default().insert(decision(due.truth).as_str());
                }
                let cancel = Cancel::default();
                let opened = engine.list_subjects(request.clone(), &cancel);
                let page = match opened.and_then(|mut lister| lister.next_page(page_rows, &cancel)) {
                    Ok(page) => page,
                    Err(error) => {
                        let fails = dues.iter().any(|due| due.fails != Fails::Never);
                        assert!(fails && error.reason == "CAVEAT_FAILED", "seed {seed} part {n}: {}", told(&error));
                        continue 'lists;
                    }
                };
                let Some(last) = page.last() else { break };
                request.cursor = Some(last.cursor.clone());
                listed.extend(page);
                engine.update(world.random_changes(&mut rng, START));
            }
            // Which refuses whoever is listed twice.
            let reply = Reply::new(&listed);
            lists += 1;
            if always[&stranger].len() > 1 {
                changed += 1;
                continue;
            }
            for (subject, decisions) in always {
                if decisions.len() > 1 {
                    changed += 1;
                    continue;
                }
                let who = world.subject_ref(subject);
                covered += u64::from(reply.wildcard.is_some() && !reply.listed.contains_key(&who));
                unchanged += 1;
                let said = reply.decides(&who).0.as_str();
                assert!(
                    decisions.contains(said),
                    "seed {seed} part {n}: `{who}`: {said}, not {decisions:?} of {request:?}"
                );
            }
        }
    }
    println!(
        "{lists} lists while tuples changed: {unchanged} subjects unchanged, {covered} of them by a wildcard; {changed} changed"
    );
    assert!(changed > 50 && unchanged > 500 && covered > 20);
}

const SCHEMA: &str = "definition user {}
definition group {
  relation member: user | group#member
}
definition folder {
  relation parent: folder
  relation viewer: user | group#member
  permission view = viewer + parent->view
}
definition doc {
  relation folder: folder
  relation viewer: user | user:* | group#member
  relation banned: user
  permission view = (viewer + folder->view) - banned
  permission both = viewer & folder->view
}";

fn small() -> TestEngine {
    let engine = TestEngine::with_schema(SCHEMA);
    engine.touch([
        "doc:z#viewer@user:ann",
        "doc:a#viewer@group:g#member",
        "group:g#member@group:h#member",
        "group:h#member@user:ann",
        "folder:root#viewer@user:ann",
        "folder:sub#parent@folder:root",
        "doc:m#folder@folder:sub",
        "doc:b#viewer@user:*",
        "doc:b#banned@user:ann",
        "doc:c#viewer@user:*",
        "doc:c#banned@user:bob",
        "doc:c#viewer@user:eve",
    ]);
    engine
}

#[test]
fn a_list_stands_in_the_order_of_creation() {
    let engine = small();
    let rows = resources(&engine, &resources_asked("doc#view@user:ann"), 1).expect("a list");
    let ids: Vec<&str> = rows.iter().map(|row| row.object.id.as_str()).collect();
    assert_eq!(ids, ["z", "a", "m", "c"]);
    let rows = subjects(&engine, &subjects_asked("doc:c#view@user"), 1).expect("a list");
    let said: Vec<String> = rows.iter().map(|row| row.subject.to_string()).collect();
    assert_eq!(said, ["user:*", "user:eve"]);
    let excluded: Vec<String> = rows[0].exclusions.iter().map(|one| one.subject.to_string()).collect();
    assert_eq!(excluded, ["user:bob"]);
}

#[test]
fn the_unknown_are_answered_for_by_wildcards_and_by_themselves() {
    let engine = small();
    let ids = |text: &str| -> Vec<String> {
        listed_resources(&engine, &resources_asked(text)).expect("a list").into_iter().map(|(id, _)| id).collect()
    };
    assert_eq!(ids("doc#view@user:stranger"), ["b", "c"]);
    assert_eq!(ids("group#member@group:nowhere#member"), ["nowhere"]);
    assert_eq!(ids("doc#view@group:nowhere#member"), Vec::<String>::new());
    assert_eq!(ids("doc#view@group:h#member"), ["a"]);
    let said = listed_subjects(&engine, &subjects_asked("group:nowhere#member@group#member")).expect("a list");
    assert_eq!(said, [("nowhere".to_owned(), Decision::Allow)]);
    assert!(listed_subjects(&engine, &subjects_asked("group:nowhere#member@user")).expect("a list").is_empty());
}

#[test]
fn the_relations_that_name_a_subject_are_those_that_count() {
    let engine = TestEngine::with_schema(
        "definition user {}
        definition group { relation member: user }
        definition doc {
          relation viewer: user | user:* | group#member
          relation editor: user
          relation owner: user
          relation banned: user
          permission both = (viewer & editor) + owner
          permission view = (viewer + owner) - banned
        }",
    );
    engine.touch([
        "doc:1#viewer@user:ann",
        "doc:1#editor@user:ann",
        "doc:1#viewer@user:bob",
        "doc:1#owner@user:bob",
        "doc:1#editor@user:eve",
        "doc:1#viewer@group:g#member",
        "group:g#member@user:kim",
        "doc:1#viewer@user:*",
        "doc:1#banned@user:eve",
    ]);
    let named = |text: &str| -> Vec<String> {
        let request = ListSubjects { with_relations: true, ..subjects_asked(text) };
        let rows = subjects(&engine, &request, 2).expect("a list");
        let one = |row: &SubjectRow| {
            let mut by: Vec<String> = row.relations.iter().map(|(object, name)| format!("{object}#{name}")).collect();
            by.sort();
            format!("{} by {}", row.subject, by.join(" "))
        };
        rows.iter().map(one).collect()
    };
    // Bob is viewer too, but no editor by himself: that branch does not hold for him.
    let both = ["user:ann by doc:1#editor doc:1#viewer", "user:bob by doc:1#owner", "user:eve by doc:1#editor"];
    assert_eq!(named("doc:1#both@user"), both);
    let view = [
        "user:* by doc:1#viewer",
        "user:ann by doc:1#viewer",
        "user:bob by doc:1#owner doc:1#viewer",
        "user:kim by group:g#member",
    ];
    assert_eq!(named("doc:1#view@user"), view);
    assert_eq!(named("doc:1#view@group#member"), ["group:g#member by doc:1#viewer"]);
    // By being itself only: no tuple names it.
    assert_eq!(named("group:g#member@group#member"), ["group:g#member by "]);
}

#[test]
fn cursors_of_other_lists_are_refused() {
    let engine = small();
    let request = resources_asked("doc#view@user:ann");
    let rows = resources(&engine, &request, 0).expect("a list");
    let cursor = rows[0].cursor.clone();
    let open = |request: ListResources| engine.list_resources(request, &Cancel::default()).map(drop);
    let with = |text: &str, cursor: &str| ListResources { cursor: Some(cursor.to_owned()), ..resources_asked(text) };
    assert!(open(with("doc#view@user:ann", &cursor)).is_ok());
    for other in ["doc#view@user:bob", "doc#viewer@user:ann", "folder#view@user:ann"] {
        let error = refused(open(with(other, &cursor)), &[Kind::InvalidArgument]);
        assert!(error.facts.iter().any(|(key, value)| *key == "field" && value == "cursor"), "{}", told(&error));
    }
    for at in 0..cursor.len() {
        let mut changed: Vec<char> = cursor.chars().collect();
        changed[at] = if changed[at] == 'A' { 'B' } else { 'A' };
        let changed: String = changed.into_iter().collect();
        if open(with("doc#view@user:ann", &changed)).is_ok() {
            // Bits of the last character that no byte has.
            assert_eq!(at, cursor.len() - 1);
        }
    }
    for wrong in ["", "x", "%%%", &"A".repeat(10_000)] {
        refused(open(with("doc#view@user:ann", wrong)), &[Kind::InvalidArgument]);
    }
    let of_subjects = subjects(&engine, &subjects_asked("doc:c#view@user"), 0).expect("a list");
    refused(open(with("doc#view@user:ann", &of_subjects[0].cursor)), &[Kind::InvalidArgument]);
    // A later cursor at an earlier state: what it has seen is not there yet.
    let before = engine.token_now();
    engine.touch(["doc:later#viewer@user:ann"]);
    let later = resources(&engine, &request, 0).expect("a list")[0].cursor.clone();
    let asked = ListResources {
        situation: Situation::at(Consistency::AtExactSnapshot(before)),
        ..with("doc#view@user:ann", &later)
    };
    refused(open(asked), &[Kind::OutOfRange]);
    // The other way round it resumes at the newest.
    let rest = resources(&engine, &with("doc#view@user:ann", &cursor), 0).expect("a list");
    let ids: Vec<&str> = rest.iter().map(|row| row.object.id.as_str()).collect();
    assert_eq!(ids, ["a", "m", "c", "later"]);
}

#[test]
fn what_cannot_be_listed_is_an_error_never_a_short_list() {
    let engine = small();
    let cancel = Cancel::default();
    let resources_of = |text: &str| engine.list_resources(resources_asked(text), &cancel).map(drop);
    let subjects_of = |text: &str| engine.list_subjects(subjects_asked(text), &cancel).map(drop);
    refused(resources_of("doc#view@user:*"), &[Kind::InvalidArgument]);
    for text in ["nope#view@user:a", "doc#nope@user:a", "doc#view@nope:a", "doc#view@group:a#nope"] {
        refused(resources_of(text), &[Kind::FailedPrecondition]);
    }
    for text in ["nope:a#view@user", "doc:a#nope@user", "doc:a#view@nope", "doc:a#view@group#nope"] {
        refused(subjects_of(text), &[Kind::FailedPrecondition]);
    }
    // Less work than the list needs, wherever it ends.
    let mut engine = small();
    let full = listed_resources(&engine, &resources_asked("doc#view@user:ann")).expect("a list");
    let everybody = listed_subjects(&engine, &subjects_asked("doc:c#view@user")).expect("a list");
    for edges_max in 0..60 {
        engine.reopen_with(Limits { edges_max, ..Limits::default() });
        match listed_resources(&engine, &resources_asked("doc#view@user:ann")) {
            Ok(listed) => assert_eq!(listed, full),
            Err(error) => assert_eq!(error.kind, Kind::ResourceExhausted, "{}", told(&error)),
        }
        match listed_subjects(&engine, &subjects_asked("doc:c#view@user")) {
            Ok(listed) => assert_eq!(listed, everybody),
            Err(error) => assert_eq!(error.kind, Kind::ResourceExhausted, "{}", told(&error)),
        }
    }
    engine.reopen_with(Limits { exclusions_max: 0, ..Limits::default() });
    let error = refused(listed_subjects(&engine, &subjects_asked("doc:c#view@user")), &[Kind::ResourceExhausted]);
    assert_eq!(error.reason, "TOO_MANY_EXCLUSIONS");
}

#[test]
fn a_list_nobody_waits_for_stops() {
    let engine = TestEngine::with_schema(SCHEMA);
    engine.touch((0..2_000).map(|n| format!("doc:{n}#viewer@user:ann")));
    let cancel = Cancel::default();
    let mut lister = engine.list_resources(resources_asked("doc#view@user:ann"), &cancel).expect("a list");
    assert_eq!(lister.next_page(2, &cancel).expect("a page").len(), 2);
    cancel.set();
    let error = lister.next_page(2_000, &cancel).expect_err("nobody waits");
    assert_eq!(error.kind, Kind::Cancelled);
    assert_eq!(
        engine.list_resources(resources_asked("doc#view@user:ann"), &cancel).err().map(|e| e.kind),
        Some(Kind::Cancelled)
    );
}

/// What a tuple's own condition does to a list: a conditional row names what it lacks, a wildcard's too.
#[test]
fn conditional_rows_name_what_they_lack() {
    let engine = TestEngine::with_schema(
        "use self
        caveat level(have int, need int) { have >= need }
        caveat on(flag bool) { flag }
        caveat other(word string) { word == \"x\" }
        definition user { permission me = self }
        definition doc {
          relation viewer: user | user with level | user:* with on
          relation banned: user with on | user with other
          permission view = viewer - banned
        }",
    );
    engine.touch([
        "doc:a#viewer@user:rita",
        r#"doc:b#viewer@user:rita[level:{"need":3}]"#,
        r#"doc:c#viewer@user:rita[level:{"need":3,"have":1}]"#,
        "doc:d#viewer@user:dana",
        "doc:d#viewer@user:*[on]",
        r#"doc:e#viewer@user:tom"#,
        "doc:e#banned@user:tom[on]",
        r#"doc:f#viewer@user:*[on:{"flag":true}]"#,
        r#"doc:f#banned@user:tom[on:{"flag":true}]"#,
        "doc:g#viewer@user:*[on]",
        "doc:g#banned@user:kim[other]",
        "doc:g#banned@user:lea[on]",
    ]);
    let request = |subject: &str| {
        let asked = question(&format!("doc:x#view@{subject}"));
        of_resources(&asked.object.object_type, &asked.permission, asked.subject)
    };
    let resources = |subject: &str| -> Vec<String> {
        let mut lister = engine.list_resources(request(subject), &Cancel::default()).expect("a list");
        let page = lister.next_page(100, &Cancel::default()).expect("a page");
        let told = |row: &procura::engine::ResourceRow| {
            format!("{} {} {}", row.object.id, row.decision.as_str(), row.missing_fields.join(","))
        };
        page.iter().map(told).collect()
    };
    assert_eq!(
        resources("user:rita"),
        ["a ALLOW ", "b CONDITIONAL have", "d CONDITIONAL flag", "f ALLOW ", "g CONDITIONAL flag"]
    );
    assert_eq!(resources("user:tom"), ["d CONDITIONAL flag", "e CONDITIONAL flag", "g CONDITIONAL flag"]);
    assert_eq!(resources("user:stranger"), ["d CONDITIONAL flag", "f ALLOW ", "g CONDITIONAL flag"]);
    assert_eq!(resources("user:kim")[2], "g CONDITIONAL flag,word");
    let subjects = |object: &str, permission: &str| -> Vec<String> {
        let asked = question(&format!("{object}#{permission}@user:x"));
        let request = procura::engine::ListSubjects {
            object: asked.object,
            permission: asked.permission,
            subject_type: "user".parse().expect("a type"),
            subject_relation: None,
            with_relations: false,
            within: None,
            situation: Situation::default(),
            cursor: None,
        };
        let mut lister = engine.list_subjects(request, &Cancel::default()).expect("a list");
        let page = lister.next_page(100, &Cancel::default()).expect("a page");
        let told = |row: &procura::engine::SubjectRow| {
            let excluded: Vec<String> = row.exclusions.iter().map(|out| out.subject.to_string()).collect();
            let (missing, out) = (row.missing_fields.join(","), excluded.join(","));
            format!("{} {} {missing} -{out}", row.subject, row.decision.as_str())
        };
        page.iter().map(told).collect()
    };
    assert_eq!(subjects("doc:b", "view"), ["user:rita CONDITIONAL have -"]);
    assert_eq!(subjects("doc:d", "view"), ["user:* CONDITIONAL flag -", "user:dana ALLOW  -"]);
    assert_eq!(subjects("doc:e", "view"), ["user:tom CONDITIONAL flag -"]);
    assert_eq!(subjects("doc:f", "view"), ["user:* ALLOW  -user:tom"]);
    // Kim hangs on more than everybody does, and lea on the same.
    assert_eq!(subjects("doc:g", "view"), ["user:* CONDITIONAL flag -", "user:kim CONDITIONAL flag,word -"]);
    assert_eq!(subjects("user:rita", "me"), ["user:rita ALLOW  -"]);
}
