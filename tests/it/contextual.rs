//! Tuples that count for one request alone, and lists where answers hang on conditions.
//!
//! What always holds: a request over some stored tuples and the rest for given answers as if all were stored, and
//! leaves nothing behind; and every list says what Check says, on three-valued worlds too. That Check is right is shown
//! against the oracle elsewhere.

use crate::engines::{TestEngine, question, refused, told, tuple, write_request};
use crate::worlds::{Rng, World, context, number, random_given, seed};
use procura::engine::{
    CheckOptions, Engine, Error, Kind, ListPermissions, ListResources, ListSubjects, ResourceRow, Situation, SubjectRow,
};
use procura::model::{
    Acting, Cancel, Context, Decision, ObjectRef, Question, RelationName, RelationTuple, SubjectRef, TypeName,
    UpdateKind,
};
use std::collections::{BTreeMap, BTreeSet};

/// What was said of a question: the decision with the fields it hangs on, or why there is none.
type Said = Result<(Decision, Vec<String>), String>;

/// Every question of a world with Check's answer under a situation.
fn checked(engine: &Engine, questions: &[Question], situation: &Situation) -> BTreeMap<String, Said> {
    let options = CheckOptions { situation: situation.clone(), ..CheckOptions::default() };
    let bulk = engine.check_bulk(questions, &options).unwrap_or_else(|error| panic!("{}", told(&error)));
    let said = |answer: Result<procura::engine::Answer, Error>| match answer {
        Ok(answer) => Ok((answer.decision, answer.missing)),
        Err(error) => Err(error.reason.to_owned()),
    };
    questions.iter().map(text).zip(bulk.answers.into_iter().map(said)).collect()
}

fn text(question: &Question) -> String {
    format!("{}#{}@{}", question.object, question.permission, question.subject)
}

fn resources(engine: &Engine, request: &ListResources, page_rows: usize) -> Result<Vec<ResourceRow>, Error> {
    let cancel = Cancel::default();
    let mut request = request.clone();
    let mut all: Vec<ResourceRow> = Vec::new();
    // Bounded: each page goes on behind the one before.
    loop {
        let page = engine.list_resources(request.clone(), &cancel)?.next_page(page_rows, &cancel)?;
        let Some(last) = page.last() else { return Ok(all) };
        request.cursor = Some(last.cursor.clone());
        all.extend(page);
    }
}

fn subjects(engine: &Engine, request: &ListSubjects, page_rows: usize) -> Result<Vec<SubjectRow>, Error> {
    let cancel = Cancel::default();
    let mut request = request.clone();
    let mut all: Vec<SubjectRow> = Vec::new();
    // Bounded: each page goes on behind the one before.
    loop {
        let page = engine.list_subjects(request.clone(), &cancel)?.next_page(page_rows, &cancel)?;
        let Some(last) = page.last() else { return Ok(all) };
        request.cursor = Some(last.cursor.clone());
        all.extend(page);
    }
}

/// Groups questions by what one list answers.
fn grouped<K: Ord>(questions: &[Question], key: impl Fn(&Question) -> Option<K>) -> BTreeMap<K, Vec<&Question>> {
    let mut groups: BTreeMap<K, Vec<&Question>> = BTreeMap::new();
    for question in questions {
        if let Some(key) = key(question) {
            groups.entry(key).or_default().push(question);
        }
    }
    groups
}

/// Every list over these questions says what `due` says; how many answers were compared.
fn lists_say_the_same(
    name: &str,
    engine: &Engine,
    questions: &[Question],
    due: &BTreeMap<String, Said>,
    situation: &Situation,
    rng: &mut Rng,
) -> u64 {
    let mut compared = 0;
    let fails = |group: &[&Question]| group.iter().any(|one| due[&text(one)].is_err());
    let by_resource =
        |one: &Question| Some((one.object.object_type.clone(), one.permission.clone(), one.subject.clone()));
    for ((object_type, permission, subject), group) in grouped(questions, by_resource) {
        let request = ListResources {
            acting: Acting::default(),
            object_type,
            permission,
            subject,
            within: None,
            situation: situation.clone(),
            cursor: None,
        };
        let rows = match resources(engine, &request, rng.between(1, 9)) {
            Ok(rows) => rows,
            Err(error) => {
                assert!(fails(&group), "{name}: {}: {request:?}", told(&error));
                continue;
            }
        };
        let found: BTreeMap<ObjectRef, (Decision, Vec<String>)> =
            rows.iter().map(|row| (row.object.clone(), (row.decision, row.missing_fields.clone()))).collect();
        assert_eq!(found.len(), rows.len(), "{name}: an object twice: {request:?}");
        for one in group {
            let said = found.get(&one.object).cloned().unwrap_or((Decision::Deny, Vec::new()));
            match &due[&text(one)] {
                Ok(due) => assert_eq!(said, *due, "{name}: {} in {request:?}", text(one)),
                Err(_) => panic!("{name}: a list that should have failed: {} in {request:?}", text(one)),
            }
            compared += 1;
        }
    }
    let by_subject = |one: &Question| match &one.subject {
        SubjectRef::Object(subject) => {
            Some((one.object.clone(), one.permission.clone(), subject.object_type.clone(), None))
        }
        SubjectRef::Userset(subject, relation) => {
            Some((one.object.clone(), one.permission.clone(), subject.object_type.clone(), Some(relation.clone())))
        }
        SubjectRef::Wildcard(_) => None,
    };
    for ((object, permission, subject_type, subject_relation), group) in grouped(questions, by_subject) {
        let request = ListSubjects {
            object,
            permission,
            subject_type,
            subject_relation,
            with_relations: false,
            within: None,
            situation: situation.clone(),
            cursor: None,
        };
        let rows = match subjects(engine, &request, rng.between(1, 9)) {
            Ok(rows) => rows,
            Err(error) => {
                // Another subject of the type, whom this world does not ask about, may be the one that fails.
                assert!(fails(&group) || error.reason == "CAVEAT_FAILED", "{name}: {}: {request:?}", told(&error));
                continue;
            }
        };
        for one in group {
            let said = said_of(&rows, &one.subject);
            if let Ok(due) = &due[&text(one)] {
                assert_eq!(said, *due, "{name}: {} in {request:?}\n{rows:?}", text(one));
            } else {
                panic!("{name}: a list that should have failed: {} in {request:?}", text(one));
            }
            compared += 1;
        }
    }
    let by_object = |one: &Question| Some((one.object.clone(), one.subject.clone()));
    for ((object, subject), group) in grouped(questions, by_object) {
        let request = ListPermissions { acting: Acting::default(), object, subject, situation: situation.clone() };
        let rows = match engine.list_permissions(&request, &Cancel::default()) {
            Ok(listed) => listed.rows,
            Err(error) => {
                assert!(fails(&group), "{name}: {}: {request:?}", told(&error));
                continue;
            }
        };
        for one in group {
            let row = rows.iter().find(|row| row.name == one.permission).expect("every permission has its row");
            match &due[&text(one)] {
                Ok(due) => assert_eq!((row.decision, row.missing_fields.clone()), *due, "{name}: {}", text(one)),
                Err(_) => panic!("{name}: a list that should have failed: {}", text(one)),
            }
            compared += 1;
        }
    }
    compared
}

/// What the rows say of one subject, as the reply's contract reads.
fn said_of(rows: &[SubjectRow], subject: &SubjectRef) -> (Decision, Vec<String>) {
    if let Some(row) = rows.iter().find(|row| row.subject == *subject) {
        return (row.decision, row.missing_fields.clone());
    }
    let wildcard = rows.iter().find(|row| matches!(row.subject, SubjectRef::Wildcard(_)));
    match (wildcard, subject) {
        (Some(row), SubjectRef::Object(_)) => match row.exclusions.iter().find(|one| one.subject == *subject) {
            Some(excluded) => (excluded.decision, excluded.missing_fields.clone()),
            None => (row.decision, row.missing_fields.clone()),
        },
        (_, SubjectRef::Object(_) | SubjectRef::Userset(..) | SubjectRef::Wildcard(_)) => (Decision::Deny, Vec::new()),
    }
}

#[test]
fn what_is_taken_for_given_answers_as_if_it_were_stored() {
    let seed = seed("what_is_taken_for_given_answers_as_if_it_were_stored");
    let (mut lists, mut over, mut conditional) = (0, 0, 0);
    for part in 0..number("PROCURA_CONTEXTUAL_WORLDS", 40) {
        let name = format!("seed {seed} part {part}");
        let mut rng = Rng::part(seed, part);
        let world = World::lasting(&mut rng, "w");
        let questions: Vec<Question> = world
            .some_subjects(&mut rng, 8)
            .into_iter()
            .flat_map(|subject| world.asked(subject).collect::<Vec<_>>())
            .map(|asked| world.question(asked))
            .filter(|one| !matches!(one.subject, SubjectRef::Wildcard(_)))
            .collect();
        let whole = TestEngine::with_schema(&world.schema.print());
        whole.touch_parsed(world.relation_tuples());

        // Some are stored, some for given, and of those some are stored with another value.
        let (mut stored, mut given): (Vec<RelationTuple>, Vec<RelationTuple>) = (Vec::new(), Vec::new());
        for tuple in world.relation_tuples() {
            if given.len() < 100 && rng.chance(50) { given.push(tuple) } else { stored.push(tuple) }
        }
        rng.shuffle(&mut given);
        let split = TestEngine::with_schema(&world.schema.print());
        split.touch_parsed(stored.iter().cloned());
        for tuple in &given {
            let other = RelationTuple { caveat: None, ..tuple.clone() };
            if rng.chance(30) && tuple.caveat.is_some() {
                // Not every relation takes it without its condition.
                let update = procura::model::TupleUpdate { kind: UpdateKind::Touch, tuple: other };
                let _ = split.write_tuples(write_request(vec![update]));
            }
        }
        let before = split.everything();
        let alone = checked(&split, &questions, &Situation::default());

        for _ in 0..2 {
            let context: Context = context(&random_given(&mut rng));
            let plain = Situation { context: context.clone(), ..Situation::default() };
            let due = checked(&whole, &questions, &plain);
            conditional += due.values().filter(|said| matches!(said, Ok((Decision::Conditional, _)))).count();
            lists += lists_say_the_same(&format!("{name}, stored"), &whole, &questions, &due, &plain, &mut rng);
            let situation = Situation { contextual_tuples: given.clone(), ..plain };
            assert_eq!(checked(&split, &questions, &situation), due, "{name}\n{}", world.told());
            over += lists_say_the_same(&format!("{name}, given"), &split, &questions, &due, &situation, &mut rng);
        }
        // Nothing of it is left.
        assert_eq!(split.everything(), before, "{name}");
        assert_eq!(checked(&split, &questions, &Situation::default()), alone, "{name}");
        split.assert_verified();
    }
    println!("lists as Check: {lists} answers over stored tuples, {over} over given ones; {conditional} conditional");
    assert!(lists > 5_000 && over > 5_000 && conditional > 100);
}

const SCHEMA: &str = "use expiration
definition user {}
definition doc {
  relation viewer: user | user:* | user with expiration
  relation banned: user
  permission view = viewer - banned
}";

fn under(tuples: &[&str]) -> Situation {
    Situation { contextual_tuples: tuples.iter().map(|text| tuple(text)).collect(), ..Situation::default() }
}

fn docs(situation: Situation, cursor: Option<String>) -> ListResources {
    ListResources {
        acting: Acting::default(),
        object_type: TypeName::new("doc").unwrap(),
        permission: RelationName::new("view").unwrap(),
        subject: "user:rita".parse().unwrap(),
        within: None,
        situation,
        cursor,
    }
}

#[test]
fn a_cursor_is_of_what_was_given_whatever_its_order() {
    let engine = TestEngine::with_schema(SCHEMA);
    engine.touch(["doc:a#viewer@user:rita", "doc:z#viewer@user:rita"]);
    let given = ["doc:new2#viewer@user:rita", "doc:new1#viewer@user:rita", "doc:z#banned@user:rita"];
    let ids = |rows: &[ResourceRow]| rows.iter().map(|row| row.object.id.to_string()).collect::<Vec<_>>();
    let all = resources(&engine, &docs(under(&given), None), 10).unwrap();
    assert_eq!(ids(&all), ["a", "new1", "new2"]);
    let mut turned = given;
    turned.reverse();
    for (at, row) in all.iter().enumerate() {
        let rest = resources(&engine, &docs(under(&turned), Some(row.cursor.clone())), 1).unwrap();
        assert_eq!(ids(&rest), ids(&all[at + 1..]));
    }
    for other in [&given[..2], &[]] {
        refused(resources(&engine, &docs(under(other), Some(all[0].cursor.clone())), 1), &[Kind::InvalidArgument]);
    }
    // One of them is written between two pages: the others keep their places.
    engine.touch(["doc:new1#viewer@user:dana"]);
    let rest = resources(&engine, &docs(under(&given), Some(all[1].cursor.clone())), 1).unwrap();
    assert_eq!(ids(&rest), ["new2"]);
}

#[test]
fn too_many_are_refused_and_what_has_ended_hides_what_is_stored() {
    let engine = TestEngine::with_schema(SCHEMA);
    engine.touch(["doc:a#viewer@user:rita"]);
    let check = |situation: Situation| {
        let options = CheckOptions { situation, ..CheckOptions::default() };
        engine.check(&question("doc:a#view@user:rita"), &options).map(|found| found.answer.decision)
    };
    let many: BTreeSet<String> = (0..101).map(|n| format!("doc:{n}#viewer@user:rita")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(refused(check(under(&many)), &[Kind::ResourceExhausted]).reason, "LIMIT_EXCEEDED");
    assert_eq!(check(under(&many[..100])).unwrap(), Decision::Allow);
    let ended = "doc:a#viewer@user:rita[expiration:2001-01-01T00:00:00Z]";
    assert_eq!(check(under(&[ended])).unwrap(), Decision::Deny);
    assert_eq!(check(Situation::default()).unwrap(), Decision::Allow);
}

/// A stored value does not count beside the one given, where rows are scanned: usersets, and both arrows.
#[test]
fn what_is_given_takes_the_place_of_stored_rows_that_are_scanned() {
    let engine = TestEngine::with_schema(
        "use expiration
        definition user {}
        definition group { relation member: user }
        definition doc {
          relation viewer: group#member | group#member with expiration
          relation team: group | group with expiration
          permission any = team->member
          permission every = team.all(member)
        }",
    );
    engine.touch([
        "group:a#member@user:rita",
        "group:b#member@user:dana",
        "doc:1#viewer@group:a#member",
        "doc:1#team@group:a",
        "doc:2#viewer@group:a#member[expiration:2001-01-01T00:00:00Z]",
        "doc:2#team@group:a",
        "doc:2#team@group:b",
    ]);
    let ended = |key: &str| format!("{key}[expiration:2001-01-01T00:00:00Z]");
    let (viewer, team) = (ended("doc:1#viewer@group:a#member"), ended("doc:1#team@group:a"));
    let other_team = ended("doc:2#team@group:b");
    for (asked, given, stored, laid) in [
        ("doc:1#viewer@user:rita", viewer.as_str(), Decision::Allow, Decision::Deny),
        ("doc:1#any@user:rita", &team, Decision::Allow, Decision::Deny),
        ("doc:1#every@user:rita", &team, Decision::Allow, Decision::Deny),
        ("doc:2#viewer@user:rita", "doc:2#viewer@group:a#member", Decision::Deny, Decision::Allow),
        // Without dana's team, rita is in all that are left.
        ("doc:2#every@user:rita", &other_team, Decision::Deny, Decision::Allow),
    ] {
        let asked = question(asked);
        for (situation, due) in [(under(&[]), stored), (under(&[given]), laid), (under(&[]), stored)] {
            let options = CheckOptions { situation: situation.clone(), ..CheckOptions::default() };
            let found = engine.check(&asked, &options).map(|found| found.answer.decision);
            assert_eq!(found.unwrap(), due, "{} under {situation:?}", text(&asked));
            let request = ListSubjects {
                object: asked.object.clone(),
                permission: asked.permission.clone(),
                subject_type: TypeName::new("user").unwrap(),
                subject_relation: None,
                with_relations: false,
                within: None,
                situation,
                cursor: None,
            };
            let rows = subjects(&engine, &request, 1).unwrap();
            assert_eq!(said_of(&rows, &asked.subject).0, due, "{request:?}");
        }
    }
}

/// An engine in process refuses what the wire refuses: a context that is nested too deep, or too large.
#[test]
fn the_context_of_a_request_is_bounded_in_depth_and_size() {
    let engine = TestEngine::with_schema("definition user {}\ndefinition doc { relation viewer: user }");
    engine.touch(["doc:a#viewer@user:rita"]);
    let nested = |levels: usize, list: bool| {
        // The outermost object is the first level.
        let wrap = |inner: serde_json::Value| {
            if list { serde_json::json!([inner]) } else { serde_json::json!({ "k": inner }) }
        };
        (1..levels).fold(serde_json::json!(1), |inner, _| wrap(inner))
    };
    let check = |value: serde_json::Value| {
        let context = Context::from_iter([("k".to_owned(), value)]);
        let options =
            CheckOptions { situation: Situation { context, ..Situation::default() }, ..CheckOptions::default() };
        engine.check(&question("doc:a#viewer@user:rita"), &options)
    };
    for list in [false, true] {
        assert_eq!(check(nested(16, list)).expect("an answer").answer.decision, Decision::Allow);
        let error = refused(check(nested(17, list)), &[Kind::InvalidArgument]);
        assert!(error.facts.contains(&("limit", "context_depth_max".to_owned())), "{}", told(&error));
    }
    let error = refused(check("x".repeat(64 << 10).into()), &[Kind::InvalidArgument]);
    assert!(error.facts.contains(&("limit", "context_bytes_max".to_owned())), "{}", told(&error));
}
