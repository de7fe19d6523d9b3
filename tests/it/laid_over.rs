//! Contextual tuples, laid over the state for one request.
//!
//! What always holds: over some stored tuples and the rest for given, every question has the answer it has where all are
//! stored, also where another value is stored under the same key; and nothing of it is left. Ids that only the request
//! names stand last in a list. Which fields a conditional answer names is held to the oracle's bounds; in a knot of
//! conditions it may hang on the order of internal numbers, which is another here. `PROCURA_LAID_OVER` sets how many batches of worlds are split, `PROCURA_SEED` replays.

use crate::agrees::Timed;
use crate::caveats::Given;
use crate::engines::{TestEngine, question, read, refused, told, tuple};
use crate::lists::{
    Pages, Under, lists_agree, members, of_resources, of_subjects, resources, resources_asked, subjects,
    subjects_asked, types,
};
use crate::oracle::{Subject, Tuple};
use crate::worlds::{Instant, Mark, Rng, SECOND, START, World, context, number, random_given, seed};
use procura::engine::{
    Answer, CheckOptions, Engine, Error, Kind, ListPermissions, ListResources, ListSubjects, PermissionRow,
    ResourceRow, Situation, SubjectRow,
};
use procura::model::{
    Acting, Cancel, Decision, Question, RelationTuple, Step, SubjectRef, TupleFilter, TupleUpdate, UpdateKind,
};
use std::collections::{BTreeMap, BTreeSet};

/// What was said: the decision with what a conditional one lacks, or the reason of an error.
type Said = Result<(Decision, Vec<String>), &'static str>;

fn said(answer: &Result<Answer, Error>) -> Said {
    match answer {
        Ok(answer) => Ok((answer.decision, answer.missing.clone())),
        Err(error) => Err(error.reason),
    }
}

fn decided(said: &Said) -> Result<Decision, &'static str> {
    said.as_ref().map(|(decision, _)| *decision).map_err(|reason| *reason)
}

/// A world in two parts: what is stored, and what a request brings along.
struct Split {
    whole: World,
    stored: World,
    laid: Vec<RelationTuple>,
    /// Tuples that are stored with another value than the request's.
    overridden: u64,
}

impl Split {
    /// From few to nearly all tuples are brought along, a hundred at most.
    fn random(rng: &mut Rng, whole: World) -> Split {
        let mut split = Split { stored: whole.clone(), whole, laid: Vec::new(), overridden: 0 };
        let share = *rng.pick(&[10, 50, 95, 95]);
        let mut all: Vec<(Tuple, Mark)> = split.whole.tuples.clone().into_iter().collect();
        rng.shuffle(&mut all);
        for (tuple, mark) in all {
            if split.laid.len() == 100 || !rng.chance(share) {
                continue;
            }
            split.laid.push(split.whole.relation_tuple(&tuple, &mark));
            if rng.chance(40) {
                let other = split.whole.remarked(rng, tuple);
                split.overridden += u64::from(other != mark);
                split.stored.tuples.insert(tuple, other);
            } else {
                split.stored.tuples.remove(&tuple);
            }
        }
        split
    }

    /// The objects that a stored tuple names.
    fn named(&self) -> BTreeSet<String> {
        let both = |tuple: RelationTuple| {
            let subject = match tuple.key.subject {
                SubjectRef::Object(subject) | SubjectRef::Userset(subject, _) => Some(subject.to_string()),
                SubjectRef::Wildcard(_) => None,
            };
            subject.into_iter().chain([tuple.key.object.to_string()])
        };
        self.stored.relation_tuples().flat_map(both).collect()
    }
}

/// One world asked of two engines: of one where all is stored, and of one where some is laid over the rest.
struct Compared<'a> {
    name: &'a str,
    split: &'a Split,
    /// The objects that a stored tuple names.
    named: BTreeSet<String>,
    whole: &'a Engine,
    parted: &'a Engine,
    plain: Situation,
    now: Instant,
    pairs: u64,
    conditional: u64,
    failed: u64,
    last: u64,
    /// Answers that name other fields than where all is stored.
    told_apart: u64,
}

impl Compared<'_> {
    fn told(&self, what: &dyn std::fmt::Debug) -> String {
        let laid: Vec<String> = self.split.laid.iter().map(ToString::to_string).collect();
        let (world, laid) = (self.split.whole.told(), laid.join("\n"));
        format!("{}: {what:?} under {:?}\n{world}\n\nlaid over:\n{laid}", self.name, self.plain.context)
    }

    /// The request's tuples, in another order each time.
    fn laid(&self, rng: &mut Rng) -> Situation {
        let mut contextual_tuples = self.split.laid.clone();
        rng.shuffle(&mut contextual_tuples);
        Situation { contextual_tuples, ..self.plain.clone() }
    }

    /// Alone and in bulk.
    fn checks(&mut self, rng: &mut Rng, asked: &[Subject]) {
        let world = &self.split.whole;
        let all = asked.iter().flat_map(|subject| world.asked(*subject));
        let questions: Vec<Question> = all.map(|asked| world.question(asked)).collect();
        let ask = |engine: &Engine, situation: Situation| {
            let options = CheckOptions { situation, ..CheckOptions::default() };
            engine.check_bulk(&questions, &options).unwrap_or_else(|error| panic!("{}", told(&error))).answers
        };
        let (due, found) = (ask(self.whole, self.plain.clone()), ask(self.parted, self.laid(rng)));
        let live: BTreeSet<String> = world.live_tuples(self.now).map(|tuple| tuple.key.to_string()).collect();
        for (n, question) in questions.iter().enumerate() {
            let (due, found) = (said(&due[n]), said(&found[n]));
            assert_eq!(decided(&found), decided(&due), "{}", self.told(question));
            self.told_apart += u64::from(found != due);
            self.conditional += u64::from(matches!(due, Ok((Decision::Conditional, _))));
            if rng.chance(4) {
                let options = CheckOptions { situation: self.laid(rng), explain: true, ..CheckOptions::default() };
                let alone = self.parted.check(question, &options).map(|found| found.answer);
                assert_eq!(said(&alone), found, "{}", self.told(question));
                let steps = alone.ok().and_then(|answer| answer.witness).map_or(Vec::new(), |witness| witness.steps);
                for step in steps {
                    let holds = match &step {
                        Step::Tuple { tuple, .. } => live.contains(&tuple.key.to_string()),
                        Step::Member { .. } | Step::Itself { .. } | Step::Excluded { .. } => true,
                    };
                    assert!(holds, "{step:?}: {}", self.told(question));
                }
            }
        }
        self.pairs += questions.len() as u64;
    }

    /// Both rows, or the reason why both have none.
    fn both<R>(
        &mut self,
        due: Result<R, Error>,
        found: Result<R, Error>,
        what: &dyn std::fmt::Debug,
    ) -> Option<(R, R)> {
        match (due, found) {
            (Ok(due), Ok(found)) => Some((due, found)),
            (Err(due), Err(found)) => {
                assert_eq!(found.reason, due.reason, "{}", self.told(what));
                self.failed += 1;
                None
            }
            (Ok(_), Err(found)) => panic!("{}: {}", told(&found), self.told(what)),
            (Err(due), Ok(_)) => panic!("not refused as where all is stored: {}: {}", told(&due), self.told(what)),
        }
    }

    fn resources(&mut self, rng: &mut Rng, subject: Subject) {
        for (t, object_type) in types(&self.split.whole) {
            for (_, permission) in members(&self.split.whole, t) {
                let asked = of_resources(&object_type, &permission, self.split.whole.subject_ref(subject));
                let request = ListResources { situation: self.laid(rng), ..asked.clone() };
                let due = resources(self.whole, &ListResources { situation: self.plain.clone(), ..asked }, 0);
                let found = resources(self.parted, &request, 0);
                let Some((due, found)) = self.both(due, found, &request) else { continue };
                let decisions = |rows: &[ResourceRow]| -> BTreeMap<String, Decision> {
                    rows.iter().map(|row| (row.object.to_string(), row.decision)).collect()
                };
                assert_eq!(decisions(&found), decisions(&due), "{}", self.told(&request));
                self.pairs += found.len() as u64;
                let stored: Vec<bool> = found.iter().map(|row| self.named.contains(&row.object.to_string())).collect();
                assert!(stored.is_sorted_by(|one, next| one >= next), "not last: {found:?} {}", self.told(&request));
                self.last += stored.iter().filter(|is_stored| !**is_stored).count() as u64;
                if rng.chance(10) {
                    for page_rows in 1..=found.len() + 1 {
                        let request = ListResources { situation: self.laid(rng), ..request.clone() };
                        let paged = resources(self.parted, &request, page_rows).expect("a list");
                        assert_eq!(paged, found, "by pages of {page_rows}: {}", self.told(&request));
                    }
                }
            }
        }
    }

    fn permissions(&mut self, rng: &mut Rng, subject: Subject) {
        for o in 0..self.split.whole.objects.len() {
            let (object, subject) = (self.split.whole.object_ref(o), self.split.whole.subject_ref(subject));
            let of = |situation| ListPermissions {
                acting: Acting::default(),
                object: object.clone(),
                subject: subject.clone(),
                situation,
            };
            let request = of(self.laid(rng));
            let list = |engine: &Engine, request| engine.list_permissions(request, &Cancel::default());
            let (due, found) = (list(self.whole, &of(self.plain.clone())), list(self.parted, &request));
            let Some((due, found)) = self.both(due, found, &request) else { continue };
            let decisions = |rows: &[PermissionRow]| -> Vec<(String, bool, Decision)> {
                rows.iter().map(|row| (row.name.to_string(), row.is_relation, row.decision)).collect()
            };
            assert_eq!(decisions(&found.rows), decisions(&due.rows), "{}", self.told(&request));
            self.pairs += found.rows.len() as u64;
        }
    }

    fn subjects(&mut self, rng: &mut Rng, subject: Subject) {
        let all: Vec<Question> =
            self.split.whole.asked(subject).map(|asked| self.split.whole.question(asked)).collect();
        for asked in all {
            for (t, subject_type) in types(&self.split.whole) {
                let form =
                    members(&self.split.whole, t).nth(rng.below(2 * self.split.whole.schema.types[t].members.len()));
                let asked = ListSubjects {
                    with_relations: rng.chance(50),
                    ..of_subjects(&asked, subject_type, form.map(|(_, name)| name))
                };
                let request = ListSubjects { situation: self.laid(rng), ..asked.clone() };
                let due = subjects(self.whole, &ListSubjects { situation: self.plain.clone(), ..asked }, 0);
                let found = subjects(self.parted, &request, 0);
                let Some((due, found)) = self.both(due, found, &request) else { continue };
                assert_eq!(sorted(&found), sorted(&due), "{}", self.told(&request));
                self.pairs += found.len() as u64;
                if rng.chance(4) {
                    for page_rows in 1..=found.len() + 1 {
                        let request = ListSubjects { situation: self.laid(rng), ..request.clone() };
                        let paged = subjects(self.parted, &request, page_rows).expect("a list");
                        assert_eq!(paged, found, "by pages of {page_rows}: {}", self.told(&request));
                    }
                }
            }
        }
    }
}

/// Rows without their order, cursors and fields, which hang on internal numbers; so without those that are told from a
/// conditional wildcard by their fields alone.
fn sorted(rows: &[SubjectRow]) -> Vec<String> {
    let hangs = rows
        .first()
        .is_some_and(|row| matches!(row.subject, SubjectRef::Wildcard(_)) && row.decision == Decision::Conditional);
    let told = |row: &SubjectRow| {
        let SubjectRow { subject, decision, missing_fields: _, exclusions, relations, cursor: _ } = row;
        let is_wildcard = matches!(subject, SubjectRef::Wildcard(_));
        let mut excluded: Vec<String> =
            exclusions.iter().map(|one| format!("{} {:?}", one.subject, one.decision)).collect();
        let mut relations: Vec<String> = relations.iter().map(|(object, name)| format!("{object}#{name}")).collect();
        excluded.sort();
        relations.sort();
        let apart = !hangs || is_wildcard || *decision != Decision::Conditional;
        apart.then(|| format!("{subject} {decision:?} without {excluded:?} by {relations:?}"))
    };
    let mut rows: Vec<String> = rows.iter().filter_map(told).collect();
    rows.sort();
    rows
}

#[test]
fn over_some_stored_tuples_it_is_as_if_all_were_stored() {
    let seed = seed("over_some_stored_tuples_it_is_as_if_all_were_stored");
    let (mut worlds_run, mut pairs, mut conditional, mut failed, mut overridden, mut last) = (0, 0, 0, 0, 0, 0);
    let mut told_apart = 0;
    for batch in 0..number("PROCURA_LAID_OVER", 8) {
        let mut rng = Rng::part(seed, batch);
        let mut draw = |n| {
            let world = World::random(&mut rng, &format!("w{n}")).with_strangers();
            Split::random(&mut rng, world)
        };
        let splits: Vec<Split> = (0..8).map(&mut draw).collect();
        let schema: String = splits.iter().map(|split| split.whole.schema.print_body()).collect();
        let with = |world: fn(&Split) -> &World, rng: &mut Rng| {
            let engine = Timed::with_schema(&format!("use expiration\nuse self\n{schema}"));
            let touch = |tuple| TupleUpdate { kind: UpdateKind::Touch, tuple };
            let tuples = splits.iter().flat_map(|split| world(split).relation_tuples());
            let mut updates: Vec<TupleUpdate> = tuples.map(touch).collect();
            rng.shuffle(&mut updates);
            engine.update(updates);
            engine
        };
        let (whole, parted) = (with(|split| &split.whole, &mut rng), with(|split| &split.stored, &mut rng));
        let before = parted.info().expect("what it is");
        for (n, split) in splits.iter().enumerate() {
            let name = format!("seed {seed} batch {batch} world {n}");
            let now = START + [0, 10, 20, 30][n / 2] * SECOND;
            whole.set(now);
            parted.set(now);
            let given: Given = random_given(&mut rng);
            let plain = Situation { context: context(&given), ..Situation::default() };
            let (whole, parted): (&Engine, &Engine) = (&whole, &parted);
            let (under, split) = (Under { given: &given, now, situation: plain.clone() }, split);
            let mut compared = Compared {
                name: &name,
                split,
                named: split.named(),
                whole,
                parted,
                plain,
                now,
                pairs: 0,
                conditional: 0,
                failed: 0,
                last: 0,
                told_apart: 0,
            };
            let asked = split.whole.some_subjects(&mut rng, 16);
            compared.checks(&mut rng, &asked);
            for subject in &asked[..asked.len().min(5)] {
                compared.resources(&mut rng, *subject);
                compared.permissions(&mut rng, *subject);
            }
            compared.subjects(&mut rng, asked[0]);
            pairs += compared.pairs;
            conditional += compared.conditional;
            failed += compared.failed;
            last += compared.last;
            told_apart += compared.told_apart;
            overridden += split.overridden;
            let asked = vec![asked[0], *rng.pick(&asked)];
            let laid = Under { given: &given, now, situation: compared.laid(&mut rng) };
            lists_agree(&name, parted, &split.whole, asked.clone(), &laid, Pages { every: 50 });
            // Whoever does not bring them along has what is stored, and only that.
            lists_agree(&name, parted, &split.stored, asked, &under, Pages { every: 1_000 });
            worlds_run += 1;
        }
        assert_eq!(parted.info().expect("what it is"), before, "seed {seed} batch {batch}");
        let stored = read(&parted, TupleFilter::default()).into_iter().collect::<BTreeSet<String>>();
        let live = splits.iter().flat_map(|split| split.stored.live_tuples(START + 30 * SECOND));
        assert_eq!(stored, live.map(|tuple| tuple.to_string()).collect(), "seed {seed} batch {batch}");
        let scratch = tempfile::tempdir().expect("a temporary folder");
        parted.verify(scratch.path()).unwrap_or_else(|error| panic!("{}", told(&error)));
    }
    println!(
        "laid over: {pairs} answers as if stored, in {worlds_run} worlds; {conditional} conditional, {failed} errors"
    );
    println!("laid over: {told_apart} conditional answers name other fields than where all is stored");
    println!("laid over: {overridden} tuples stored with another value, {last} rows of ids that only a request names");
    assert!(conditional > 200 && failed > 20 && overridden > 50 && last > 40, "the worlds show too little");
    assert!(told_apart * 20 <= conditional, "knots of conditions are rarer");
}

const SCHEMA: &str = "use expiration
caveat level(have int, need int) { have >= need }
definition user {}
definition group { relation member: user | group#member }
definition doc {
  relation viewer: user | user:* | user with level | user with expiration | group#member
  relation banned: user
  permission view = viewer - banned
}";

fn under(laid: &[&str]) -> Situation {
    Situation { contextual_tuples: laid.iter().map(|text| tuple(text)).collect(), ..Situation::default() }
}

fn check(engine: &Engine, asked: &str, laid: &[&str]) -> Result<(Decision, Vec<String>), Error> {
    let options = CheckOptions { situation: under(laid), ..CheckOptions::default() };
    engine.check(&question(asked), &options).map(|found| (found.answer.decision, found.answer.missing))
}

fn docs(engine: &Engine, asked: &str, laid: &[&str]) -> Vec<String> {
    let request = ListResources { situation: under(laid), ..resources_asked(asked) };
    let rows = resources(engine, &request, 2).unwrap_or_else(|error| panic!("{}", told(&error)));
    rows.iter().map(|row| row.object.id.to_string()).collect()
}

fn users(engine: &Engine, asked: &str, laid: &[&str]) -> Vec<String> {
    let request = ListSubjects { situation: under(laid), ..subjects_asked(asked) };
    let rows = subjects(engine, &request, 2).unwrap_or_else(|error| panic!("{}", told(&error)));
    rows.iter().map(|row| row.subject.to_string()).collect()
}

#[test]
fn ids_that_only_a_request_names_are_answered_for() {
    let engine = TestEngine::with_schema(SCHEMA);
    engine.touch(["doc:a#viewer@group:g#member", "group:g#member@user:rita"]);
    let laid = ["doc:new#viewer@group:made#member", "group:made#member@group:g#member", "group:g#member@user:zoe"];
    let allow = (Decision::Allow, Vec::new());
    for asked in
        ["doc:new#view@user:rita", "doc:new#view@user:zoe", "doc:a#view@user:zoe", "doc:new#view@group:made#member"]
    {
        assert_eq!(check(&engine, asked, &laid).unwrap(), allow, "{asked}");
        assert_eq!(check(&engine, asked, &[]).unwrap().0, Decision::Deny, "{asked}");
    }
    assert_eq!(docs(&engine, "doc#view@user:zoe", &laid), ["a", "new"]);
    assert_eq!(users(&engine, "doc:new#view@user", &laid), ["user:rita", "user:zoe"]);
    assert_eq!(users(&engine, "doc:new#view@group#member", &laid), ["group:g#member", "group:made#member"]);
    // Two ids that neither the store nor the tuples know.
    assert_eq!(check(&engine, "doc:x#view@user:y", &laid).unwrap().0, Decision::Deny);
    let everybody = ["doc:new#viewer@user:*", "doc:new#banned@user:eve"];
    assert_eq!(check(&engine, "doc:new#view@user:y", &everybody).unwrap(), allow);
    assert_eq!(users(&engine, "doc:new#view@user", &everybody), ["user:*"]);
    assert_eq!(check(&engine, "doc:new#view@user:eve", &everybody).unwrap().0, Decision::Deny);
}

/// The value that the request brings along counts, whichever of the two is narrower.
#[test]
fn what_a_request_brings_along_hides_what_is_stored() {
    let engine = TestEngine::with_schema(SCHEMA);
    engine.touch(["doc:a#viewer@user:rita", r#"doc:b#viewer@user:rita[level:{"need":9,"have":1}]"#]);
    let ended = "doc:a#viewer@user:rita[expiration:2001-01-01T00:00:00Z]";
    let open = "doc:b#viewer@user:rita";
    let lacks = r#"doc:a#viewer@user:rita[level:{"need":3}]"#;
    let enough = r#"doc:b#viewer@user:rita[level:{"need":3,"have":4}]"#;
    for (laid, listed) in [
        (&[][..], &["a"][..]),
        (&[ended], &[]),
        (&[open], &["a", "b"]),
        (&[ended, open], &["b"]),
        (&[ended, enough], &["b"]),
        (&[lacks, enough], &["a", "b"]),
    ] {
        assert_eq!(docs(&engine, "doc#view@user:rita", laid), listed, "{laid:?}");
        for id in ["a", "b"] {
            let due = listed.contains(&id);
            let found = check(&engine, &format!("doc:{id}#view@user:rita"), laid).unwrap();
            assert_eq!(found.0 != Decision::Deny, due, "{id} {laid:?}");
            assert_eq!(
                found.1,
                if laid.contains(&lacks) && id == "a" { vec!["have"] } else { vec![] },
                "{id} {laid:?}"
            );
            let who: &[&str] = if due { &["user:rita"] } else { &[] };
            assert_eq!(users(&engine, &format!("doc:{id}#view@user"), laid), who, "{id} {laid:?}");
            let request = ListPermissions {
                acting: Acting::default(),
                object: question(&format!("doc:{id}#view@user:rita")).object,
                subject: question("doc:a#view@user:rita").subject,
                situation: under(laid),
            };
            let rows = engine.list_permissions(&request, &Cancel::default()).unwrap().rows;
            assert_eq!(rows[2].decision != Decision::Deny, due, "{id} {laid:?}");
        }
    }
}

/// Of a list of these, each is given a number by a write, after it was listed: none of the others is missed or repeated.
#[test]
fn writes_between_pages_do_not_move_what_only_a_request_names() {
    let engine = TestEngine::with_schema(SCHEMA);
    engine.touch(["doc:z#viewer@user:rita"]);
    let names = ["e", "b", "a", "d", "c"];
    let laid: Vec<String> = names.iter().map(|name| format!("doc:{name}#viewer@user:rita")).collect();
    let mut laid: Vec<&str> = laid.iter().map(String::as_str).collect();
    let mut request = ListResources { situation: under(&laid), ..resources_asked("doc#view@user:rita") };
    let mut listed = Vec::new();
    // Bounded: each page has a row, which stands behind the one before.
    loop {
        let page = engine.list_resources(request.clone(), &Cancel::default()).unwrap().next_page(1, &Cancel::default());
        let Some(row) = page.unwrap().pop() else { break };
        engine.touch([format!("doc:{}#banned@user:tom", row.object.id)]);
        listed.push(row.object.id.to_string());
        laid.reverse();
        request = ListResources { situation: under(&laid), cursor: Some(row.cursor), ..request };
    }
    assert_eq!(listed, ["z", "a", "b", "c", "d", "e"]);
    let of = subjects_asked("doc:z#view@user");
    let laid: Vec<String> = names.iter().map(|name| format!("doc:z#viewer@user:{name}")).collect();
    let laid: Vec<&str> = laid.iter().map(String::as_str).collect();
    let mut request = ListSubjects { situation: under(&laid), ..of };
    let mut listed = Vec::new();
    loop {
        let page = engine.list_subjects(request.clone(), &Cancel::default()).unwrap().next_page(1, &Cancel::default());
        let Some(row) = page.unwrap().pop() else { break };
        engine.touch([format!("doc:other#viewer@{}", row.subject)]);
        listed.push(row.subject.to_string());
        request.cursor = Some(row.cursor);
    }
    assert_eq!(listed, ["user:rita", "user:a", "user:b", "user:c", "user:d", "user:e"]);
}

/// A list by pages, with a write after each; who is listed, in order.
fn resources_beside_writes(
    engine: &TestEngine,
    mut request: ListResources,
    page_rows: usize,
    mut write: impl FnMut(),
) -> Vec<String> {
    let (cancel, mut listed) = (Cancel::default(), Vec::new());
    // Bounded: each page has rows, which stand behind those before.
    loop {
        let mut lister = engine.list_resources(request.clone(), &cancel).unwrap_or_else(|e| panic!("{}", told(&e)));
        let page = lister.next_page(page_rows, &cancel).unwrap_or_else(|e| panic!("{}", told(&e)));
        let Some(last) = page.last() else { return listed };
        request.cursor = Some(last.cursor.clone());
        listed.extend(page.iter().map(|row| row.object.id.to_string()));
        write();
    }
}

fn subjects_beside_writes(
    engine: &TestEngine,
    mut request: ListSubjects,
    page_rows: usize,
    mut write: impl FnMut(),
) -> Vec<String> {
    let (cancel, mut listed) = (Cancel::default(), Vec::new());
    // Bounded: each page has rows, which stand behind those before.
    loop {
        let mut lister = engine.list_subjects(request.clone(), &cancel).unwrap_or_else(|e| panic!("{}", told(&e)));
        let page = lister.next_page(page_rows, &cancel).unwrap_or_else(|e| panic!("{}", told(&e)));
        let Some(last) = page.last() else { return listed };
        request.cursor = Some(last.cursor.clone());
        listed.extend(page.iter().map(|row| row.subject.to_string()));
        write();
    }
}

/// Three documents that only the request names, and a write that gives the last one a number before its turn.
#[test]
fn an_id_that_gets_its_number_before_its_turn_is_listed_once() {
    let engine = TestEngine::with_schema(SCHEMA);
    let laid = ["doc:a#viewer@user:rita", "doc:b#viewer@user:rita", "doc:c#viewer@user:rita"];
    let request = ListResources { situation: under(&laid), ..resources_asked("doc#view@user:rita") };
    let mut writes = ["doc:c#banned@user:tom", "doc:a#banned@user:tom"].into_iter();
    let listed = resources_beside_writes(&engine, request, 1, || {
        engine.touch(writes.next());
    });
    assert_eq!(listed, ["a", "b", "c"]);
    let laid = ["doc:z#viewer@user:a", "doc:z#viewer@user:b", "doc:z#viewer@user:c"];
    let request = ListSubjects { situation: under(&laid), ..subjects_asked("doc:z#view@user") };
    let mut writes = ["doc:other#banned@user:c", "doc:other#banned@user:a"].into_iter();
    let listed = subjects_beside_writes(&engine, request, 1, || {
        engine.touch(writes.next());
    });
    assert_eq!(listed, ["user:a", "user:b", "user:c"]);
}

/// Who asks is listed too where an expression names the object itself, and no contextual tuple need name it.
#[test]
fn who_asks_is_listed_at_its_place_also_when_it_gets_its_number_meanwhile() {
    let schema = "use self\ndefinition user {\n  relation friend: user:* | user\n  permission near = friend + self\n}";
    for written in ["user:new#friend@user:x", "user:x#friend@user:new", "user:p#friend@user:x"] {
        let engine = TestEngine::with_schema(schema);
        let laid = ["user:p#friend@user:*", "user:q#friend@user:*"];
        let request = ListResources { situation: under(&laid), ..resources_asked("user#near@user:new") };
        let listed = resources_beside_writes(&engine, request, 1, || {
            engine.touch([written]);
        });
        assert_eq!(listed[..3], ["p", "q", "new"], "{written}");
    }
}

/// Whatever is written between the pages about ids that the request names: each of them is listed once, or never.
#[test]
fn random_writes_between_pages_neither_miss_nor_repeat_what_a_request_names() {
    let seed = seed("random_writes_between_pages_neither_miss_nor_repeat_what_a_request_names");
    let engine = TestEngine::with_schema(SCHEMA);
    let (mut numbered_late, mut paged) = (0, 0);
    for n in 0..number("PROCURA_LAID_PAGES", 300) {
        let mut rng = Rng::part(seed, n);
        // Ids of this round alone: nobody of another round is in its lists.
        let subjects = rng.chance(50);
        let id = |at: usize| format!("r{n}-{at}");
        let grant = |at: usize| match subjects {
            true => format!("doc:of{n}#viewer@user:{}", id(at)),
            false => format!("doc:{}#viewer@user:of{n}", id(at)),
        };
        let names = |at: usize| match subjects {
            true => format!("doc:elsewhere#banned@user:{}", id(at)),
            false => format!("doc:{}#banned@user:elsewhere", id(at)),
        };
        // Stored only, stored and given, given only, and unknown to both until they are written.
        let (stored, laid) = (rng.below(4), 2 + rng.below(6));
        let first_laid = stored - rng.below(stored + 1);
        let all = stored.max(first_laid + laid);
        engine.touch((0..stored).map(grant));
        engine.touch((0..all).filter(|_| rng.chance(25)).map(names));
        let situation = Situation {
            contextual_tuples: (first_laid..first_laid + laid).map(|at| tuple(&grant(at))).collect(),
            ..Situation::default()
        };
        let mut new = all;
        let page_rows = rng.between(1, 2);
        let mut write = || {
            for _ in 0..rng.below(3) {
                numbered_late += 1;
                engine.touch([names(rng.below(all))]);
            }
            if rng.chance(25) {
                engine.touch([grant(new)]);
                new += 1;
            }
            paged += 1;
        };
        let listed = if subjects {
            let request = ListSubjects { situation, ..subjects_asked(&format!("doc:of{n}#view@user")) };
            subjects_beside_writes(&engine, request, page_rows, &mut write)
        } else {
            let request = ListResources { situation, ..resources_asked(&format!("doc#view@user:of{n}")) };
            resources_beside_writes(&engine, request, page_rows, &mut write)
        };
        let once: BTreeSet<&str> = listed.iter().map(|id| id.trim_start_matches("user:")).collect();
        assert_eq!(once.len(), listed.len(), "seed {seed} part {n}: repeated: {listed:?}");
        for at in 0..all {
            assert!(once.contains(id(at).as_str()), "seed {seed} part {n}: {} of {all} is missing: {listed:?}", id(at));
        }
        // Whoever is granted something meanwhile may be listed or not.
        assert!(once.len() <= new, "seed {seed} part {n}: {listed:?}");
    }
    println!("laid over: {numbered_late} writes about ids of the request between {paged} pages");
    assert!(numbered_late > 300 && paged > 500);
}

#[test]
fn a_cursor_of_other_contextual_tuples_is_refused() {
    let engine = TestEngine::with_schema(SCHEMA);
    engine.touch(["doc:a#viewer@user:rita", "doc:b#viewer@user:rita", "doc:a#viewer@user:tom"]);
    let laid = ["doc:c#viewer@user:rita", r#"doc:a#viewer@user:zoe[level:{"need":3}]"#];
    let others: [&[&str]; 4] = [
        &[],
        &laid[..1],
        &["doc:c#viewer@user:rita", r#"doc:a#viewer@user:zoe[level:{"need":4}]"#],
        &["doc:c#viewer@user:rita", "doc:a#viewer@user:zoe"],
    ];
    let of = |laid: &[&str], cursor| ListResources {
        situation: under(laid),
        cursor,
        ..resources_asked("doc#view@user:rita")
    };
    let open = |request| engine.list_resources(request, &Cancel::default()).map(drop);
    let cursor = resources(&engine, &of(&laid, None), 0).unwrap()[0].cursor.clone();
    assert!(open(of(&[laid[1], laid[0]], Some(cursor.clone()))).is_ok());
    let subjects_of =
        |laid: &[&str], cursor| ListSubjects { situation: under(laid), cursor, ..subjects_asked("doc:a#view@user") };
    let open_subjects = |request| engine.list_subjects(request, &Cancel::default()).map(drop);
    let subject_cursor = subjects(&engine, &subjects_of(&laid, None), 0).unwrap()[0].cursor.clone();
    assert!(open_subjects(subjects_of(&[laid[1], laid[0]], Some(subject_cursor.clone()))).is_ok());
    for other in others {
        refused(open(of(other, Some(cursor.clone()))), &[Kind::InvalidArgument]);
        refused(open_subjects(subjects_of(other, Some(subject_cursor.clone()))), &[Kind::InvalidArgument]);
    }
}

/// Judged as a write would be, by every verb that takes them.
#[test]
fn tuples_that_could_not_be_written_cannot_be_laid_over() {
    let engine = TestEngine::with_schema(SCHEMA);
    engine.touch(["doc:a#viewer@user:rita"]);
    let everywhere = |laid: &[&str]| -> Vec<Result<(), Error>> {
        let (situation, cancel) = (under(laid), Cancel::default());
        let asked = question("doc:a#view@user:rita");
        let options = CheckOptions { situation: situation.clone(), ..CheckOptions::default() };
        let permissions = ListPermissions {
            acting: Acting::default(),
            object: asked.object.clone(),
            subject: asked.subject.clone(),
            situation: situation.clone(),
        };
        let of_resources = ListResources { situation: situation.clone(), ..resources_asked("doc#view@user:rita") };
        let of_subjects = ListSubjects { situation, ..subjects_asked("doc:a#view@user") };
        vec![
            engine.check(&asked, &options).map(drop),
            engine.check_bulk(&[asked], &options).map(drop),
            engine.list_resources(of_resources, &cancel).map(drop),
            engine.list_subjects(of_subjects, &cancel).map(drop),
            engine.list_permissions(&permissions, &cancel).map(drop),
        ]
    };
    let good = "doc:a#viewer@user:tom";
    for (wrong, kind, reason) in [
        (good, Kind::InvalidArgument, "DUPLICATE_TUPLE"),
        (r#"doc:a#viewer@user:tom[level:{"need":3}]"#, Kind::InvalidArgument, "DUPLICATE_TUPLE"),
        ("nope:a#viewer@user:tom", Kind::FailedPrecondition, "UNKNOWN_TYPE"),
        ("doc:a#viewer@nope:tom", Kind::FailedPrecondition, "UNKNOWN_TYPE"),
        ("doc:a#nope@user:tom", Kind::FailedPrecondition, "UNKNOWN_RELATION"),
        ("doc:a#view@user:tom", Kind::FailedPrecondition, "NOT_A_RELATION"),
        ("doc:a#banned@user:*", Kind::FailedPrecondition, "SUBJECT_NOT_ALLOWED"),
        ("doc:a#viewer@user:tim[nope]", Kind::FailedPrecondition, "UNKNOWN_CAVEAT"),
        (r#"doc:a#viewer@user:tim[level:{"other":1}]"#, Kind::FailedPrecondition, "CAVEAT_CONTEXT_NOT_ALLOWED"),
        ("doc:a#banned@user:tim[level]", Kind::FailedPrecondition, "SUBJECT_NOT_ALLOWED"),
        ("doc:a#banned@user:tim[expiration:2040-01-01T00:00:00Z]", Kind::FailedPrecondition, "SUBJECT_NOT_ALLOWED"),
    ] {
        for result in everywhere(&[good, wrong]) {
            let error = refused(result, &[kind]);
            assert_eq!(error.reason, reason, "{wrong}: {}", told(&error));
            let field = error.facts.iter().find(|(name, _)| *name == "field").map(|(_, field)| field.as_str());
            assert_eq!(field, Some("contextual_tuples[1]"), "{wrong}: {}", told(&error));
            assert!(error.message.starts_with("contextual_tuples[1]: "), "{wrong}: {}", told(&error));
        }
    }
    let many: Vec<String> = (0..101).map(|n| format!("doc:{n}#viewer@user:rita")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for result in everywhere(&many) {
        let error = refused(result, &[Kind::ResourceExhausted]);
        assert_eq!(error.reason, "LIMIT_EXCEEDED");
        assert!(error.facts.iter().any(|(name, value)| *name == "field" && value == "contextual_tuples"));
    }
    for result in everywhere(&many[..100]) {
        assert!(result.is_ok());
    }
}
