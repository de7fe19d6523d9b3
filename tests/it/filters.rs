//! FilterResources: of each id it says what Check says, alone, over contextual tuples and for another.
//!
//! What always holds: an answer does not depend on which other ids stand in the request, in which order and how often, nor
//! on how many of them no tuple mentions. `PROCURA_FILTERS` sets how many batches of worlds are asked, `PROCURA_SEED`
//! replays.

use crate::agrees::Timed;
use crate::caveats::Given;
use crate::engines::{Held, TestEngine, refused, told};
use crate::lists::{members, relation, type_name, types};
use crate::oracle::Subject;
use crate::worlds::{Rng, SECOND, START, World, context, number, random_given, seed};
use procura::engine::{
    AskedItem, CheckOptions, CreateDelegation, DelegationEnd, Engine, Error, FilterResources, Filtered, Kind, Metadata,
    Situation,
};
use procura::model::{
    ACTING_CHAINS_MAX, Acting, AskedPermissions, Cancel, Consistency, Decision, Limits, ObjectId, ObjectRef,
    PermissionName, Question, RelationTuple, SubjectRef, TupleUpdate, UpdateKind,
};

/// What was compared.
#[derive(Debug, Default)]
pub struct Tally {
    pub ids: u64,
    pub allowed: u64,
    pub conditional: u64,
    pub failed: u64,
}

impl Tally {
    pub fn add(&mut self, more: &Tally) {
        let Tally { ids, allowed, conditional, failed } = more;
        self.ids += ids;
        self.allowed += allowed;
        self.conditional += conditional;
        self.failed += failed;
    }
}

/// What was said of one id.
type Said = Result<(Decision, Vec<String>), &'static str>;

fn id(text: &str) -> ObjectId {
    ObjectId::new(text).expect("an id")
}

/// The columns, row by row; and that they are as long as they must be.
fn rows(filtered: &Filtered) -> Vec<Said> {
    let Filtered { decisions, missing, errors, revision: _, historical: _ } = filtered;
    let said = |(at, decision): (usize, &Option<Decision>)| {
        let fields = missing.iter().find(|(index, _)| *index == at).map(|(_, fields)| fields.clone());
        let error = errors.iter().find(|(index, _)| *index == at).map(|(_, error)| error.reason);
        match decision {
            Some(decision) => {
                assert_eq!(error, None, "a decision and an error");
                assert_eq!(fields.is_some(), *decision == Decision::Conditional, "fields of a conditional one alone");
                Ok((*decision, fields.unwrap_or_default()))
            }
            None => {
                assert_eq!(fields, None, "fields of no decision");
                Err(error.expect("an error where there is no decision"))
            }
        }
    };
    assert!(missing.is_sorted_by(|(one, _), (next, _)| one < next), "in order");
    assert!(errors.is_sorted_by(|(one, _), (next, _)| one < next), "in order");
    decisions.iter().enumerate().map(said).collect()
}

fn filter(engine: &Engine, request: &FilterResources) -> Vec<Said> {
    rows(&engine.filter_resources(request, &Cancel::default()).unwrap_or_else(|error| panic!("{}", told(&error))))
}

/// Asks about the ids given, about some that nothing mentions and about some again, in any order; each must have the
/// answer of a Check by itself.
pub fn filter_agrees(engine: &Engine, rng: &mut Rng, request: &FilterResources, tally: &mut Tally) {
    let mut ids = request.ids.clone();
    ids.extend((0..rng.between(0, 4)).map(|n| id(&format!("nothing/{n}"))));
    if let SubjectRef::Object(object) | SubjectRef::Userset(object, _) = &request.subject {
        ids.push(object.id.clone());
    }
    let again: Vec<ObjectId> = (0..3).map(|_| rng.pick(&ids).clone()).collect();
    ids.extend(again);
    rng.shuffle(&mut ids);
    let request = FilterResources { ids, ..request.clone() };
    let found = filter(engine, &request);
    assert_eq!(found.len(), request.ids.len(), "one answer an id");
    for (id, found) in request.ids.iter().zip(found) {
        let question = Question {
            object: ObjectRef { object_type: request.object_type.clone(), id: id.clone() },
            permission: request.permission.clone(),
            subject: request.subject.clone(),
        };
        let (situation, acting) = (request.situation.clone(), request.acting.clone());
        let options = CheckOptions { situation, acting, ..CheckOptions::default() };
        let due: Said = match engine.check(&question, &options) {
            Ok(checked) => Ok((checked.answer.decision, checked.answer.missing)),
            Err(error) => Err(error.reason),
        };
        assert_eq!(found, due, "{id} among others, then alone: {request:?}");
        tally.ids += 1;
        match due {
            Ok((Decision::Allow, _)) => tally.allowed += 1,
            Ok((Decision::Conditional, _)) => tally.conditional += 1,
            Ok((Decision::Deny, _)) => {}
            Err(_) => tally.failed += 1,
        }
    }
}

fn of_world(world: &World, subject: Subject, situation: &Situation) -> Vec<FilterResources> {
    let of_type = |(t, object_type)| {
        let objects = world.objects.iter().filter(move |object| object.of == t);
        let ids: Vec<ObjectId> = objects.map(|object| id(&object.id)).collect();
        members(world, t).map(move |(_, permission)| FilterResources {
            object_type: Clone::clone(&object_type),
            permission,
            subject: world.subject_ref(subject),
            acting: Acting::default(),
            ids: ids.clone(),
            situation: situation.clone(),
        })
    };
    types(world).flat_map(of_type).collect()
}

#[test]
fn each_id_is_answered_as_alone() {
    let seed = seed("each_id_is_answered_as_alone");
    let mut tally = Tally::default();
    for batch in 0..number("PROCURA_FILTERS", 8) {
        let mut rng = Rng::part(seed, batch);
        let worlds: Vec<World> = (0..8).map(|n| World::random(&mut rng, &format!("w{n}")).with_strangers()).collect();
        let schema: String = worlds.iter().map(|world| world.schema.print_body()).collect();
        let engine = Timed::with_schema(&format!("use expiration\nuse self\n{schema}"));
        // Of some tuples it is the request that brings them along.
        let mut laid: Vec<Vec<RelationTuple>> = Vec::new();
        for world in &worlds {
            let mut tuples: Vec<RelationTuple> = world.relation_tuples().collect();
            rng.shuffle(&mut tuples);
            let stored = tuples.split_off((tuples.len() / 4).min(40));
            engine.update(stored.into_iter().map(|tuple| TupleUpdate { kind: UpdateKind::Touch, tuple }).collect());
            laid.push(tuples);
        }
        for (world, laid) in worlds.iter().zip(laid) {
            engine.set(START + [0, 10, 20, 30][rng.below(4)] * SECOND);
            let given: Given = random_given(&mut rng);
            let bare = Situation { context: context(&given), ..Situation::default() };
            let under = Situation { contextual_tuples: laid, ..bare.clone() };
            for subject in world.some_subjects(&mut rng, 6) {
                for situation in [&bare, &under] {
                    for request in of_world(world, subject, situation) {
                        filter_agrees(&engine, &mut rng, &request, &mut tally);
                    }
                }
            }
        }
    }
    println!("filters: {tally:?}");
    assert!(tally.allowed > 1_000 && tally.conditional > 100 && tally.failed > 20, "too little is shown: {tally:?}");
}

const SCHEMA: &str = "use self
caveat level(have int, need int) { have >= need }
definition user { permission me = self }
definition group { relation member: user }
definition doc {
  relation viewer: user | user:* | user with level | group#member
  relation banned: user
  permission view = viewer - banned
}";

fn asked(permission: &str, subject: &str, ids: &[&str]) -> FilterResources {
    FilterResources {
        object_type: type_name("doc"),
        permission: relation(permission),
        subject: subject.parse().expect("a subject"),
        acting: Acting::default(),
        ids: ids.iter().map(|text| id(text)).collect(),
        situation: Situation::default(),
    }
}

fn world() -> TestEngine {
    let engine = TestEngine::with_schema(SCHEMA);
    engine.touch([
        "doc:a#viewer@user:rita",
        "doc:b#viewer@group:eng#member",
        "group:eng#member@user:rita",
        "doc:c#viewer@user:*",
        "doc:c#banned@user:rita",
        r#"doc:d#viewer@user:rita[level:{"need":3}]"#,
    ]);
    engine
}

const ALLOW: Said = Ok((Decision::Allow, Vec::new()));
const DENY: Said = Ok((Decision::Deny, Vec::new()));

#[test]
fn the_columns_are_in_the_order_of_the_ids() {
    let engine = world();
    let hangs: Said = Ok((Decision::Conditional, vec!["have".to_owned()]));
    let found = filter(&engine, &asked("view", "user:rita", &["d", "none", "a", "c", "b", "a", "d"]));
    assert_eq!(found, [hangs.clone(), DENY, ALLOW, DENY, ALLOW, ALLOW, hangs]);
    assert_eq!(filter(&engine, &asked("view", "user:rita", &[])), []);
    let other = refused(
        engine.filter_resources(&asked("view", "user:*", &["a"]), &Cancel::default()),
        &[Kind::InvalidArgument],
    );
    assert_eq!(other.facts[0].1, "subject.object.id");
    refused(
        engine.filter_resources(&asked("fly", "user:rita", &["a"]), &Cancel::default()),
        &[Kind::FailedPrecondition],
    );
}

/// All that no tuple mentions have one answer, but for who asks and whom the request names.
#[test]
fn ids_that_nothing_mentions_are_answered_without_a_bound() {
    let engine = world();
    let many: Vec<String> = (0..50_000).map(|n| format!("x{n}")).collect();
    let mut ids: Vec<&str> = many.iter().map(String::as_str).collect();
    ids.extend(["zoe", "rita", "a"]);
    let users = FilterResources { object_type: type_name("user"), ..asked("me", "user:zoe", &ids) };
    let found = filter(&engine, &users);
    assert!(found[..50_000].iter().all(|said| *said == DENY));
    assert_eq!(found[50_000..], [ALLOW, DENY, DENY]);
    // A userset is its own member, also where it has none.
    let own = FilterResources { object_type: type_name("group"), ..asked("member", "group:x7#member", &ids) };
    let found = filter(&engine, &own);
    assert!(found.iter().zip(&ids).all(|(said, id)| *said == if *id == "x7" { ALLOW } else { DENY }));
    let laid = vec!["doc:x9#viewer@user:zoe".parse().expect("a tuple")];
    let situation = Situation { contextual_tuples: laid, ..Situation::default() };
    let found = filter(&engine, &FilterResources { situation, ..asked("view", "user:zoe", &ids) });
    assert!(found.iter().zip(&ids).all(|(said, id)| *said == if *id == "x9" { ALLOW } else { DENY }));
}

/// A delegation may be within an object that nothing mentions: of such ids, that one alone is in its scope. Nobody has
/// anything on it, and still Check tells it from the others where too many delegations cover it.
#[test]
fn of_ids_that_nothing_mentions_a_scope_tells_one_from_another() {
    let engine = TestEngine::with_schema(
        "use self
definition user {}
definition agent { permission me = self }
definition group { relation member: agent | group#member }",
    );
    engine.touch(["group:g#member@agent:other"]);
    let group = |name: &str| ObjectRef { object_type: type_name("group"), id: id(name) };
    let rita: ObjectRef = "user:rita".parse().expect("an object");
    for _ in 0..ACTING_CHAINS_MAX + 1 {
        let name = PermissionName { object_type: None, name: relation("member") };
        let permissions = AskedPermissions::Named(vec![name]);
        let create = CreateDelegation {
            delegator: rita.clone(),
            delegate: SubjectRef::Object("agent:bot".parse().expect("an object")),
            items: vec![AskedItem { permissions, within: vec![group("x1")], caveat: None }],
            parent: None,
            not_before: None,
            end: DelegationEnd::After(std::time::Duration::from_secs(60)),
            redelegate: 0,
            purpose: String::new(),
            issued_by: String::new(),
            metadata: Metadata::new(),
            strict: false,
            idempotency_key: None,
            preconditions: Vec::new(),
            clock: None,
        };
        engine.create_delegation(create, &Cancel::default()).unwrap_or_else(|error| panic!("{}", told(&error)));
    }
    let request = FilterResources {
        object_type: type_name("group"),
        acting: Acting::on_behalf_of(rita),
        ..asked("member", "agent:bot", &["x0", "x1", "x2", "g", "x1", "x3"])
    };
    let covered: Said = Err("TOO_MANY_DELEGATIONS");
    assert_eq!(filter(&engine, &request), [DENY, covered.clone(), DENY, DENY, covered, DENY]);
    filter_agrees(&engine, &mut Rng::new(7), &request, &mut Tally::default());
}

#[test]
fn what_is_kept_between_ids_is_bounded_and_changes_nothing() {
    // Each id needs the wide group anew once what was found is forgotten, which a small budget makes happen often.
    let engine = TestEngine::holding(Held::AsWritten, Limits { edges_max: 60, ..Limits::default() });
    engine.write_schema(crate::engines::schema_request(SCHEMA)).unwrap_or_else(|error| panic!("{}", told(&error)));
    let names: Vec<String> = (0..200).map(|n| format!("d{n}")).collect();
    for (n, name) in names.iter().enumerate() {
        let groups = (0..10).map(|g| format!("doc:{name}#viewer@group:g{}#member", (n + g) % 17));
        engine.touch(groups.chain([format!("group:g{}#member@user:rita", n % 3)]));
    }
    engine.touch((0..70).map(|g| format!("doc:d5#viewer@group:h{g}#member")));
    let ids: Vec<&str> = names.iter().map(String::as_str).collect();
    let found = filter(&engine, &asked("view", "user:rita", &ids));
    let (mut allowed, mut denied, mut spent) = (0, 0, 0);
    for (name, found) in names.iter().zip(found) {
        match found {
            Ok((decision, _)) => {
                allowed += u64::from(decision == Decision::Allow);
                denied += u64::from(decision == Decision::Deny);
                assert_eq!(engine.decide(&format!("doc:{name}#view@user:rita")).ok(), Some(decision), "{name}");
            }
            // Whoever asks for it alone has it no better.
            Err(reason) => {
                assert_eq!(reason, "EDGES_SPENT", "{name}");
                spent += 1;
            }
        }
    }
    assert!(allowed > 50 && denied > 20 && spent == 1, "{allowed} {denied} {spent}");
}

#[test]
fn one_revision_and_a_bound_of_its_own() {
    let engine = TestEngine::with_limits(Limits { filter_ids_max: 3, ..Limits::default() });
    engine.write_schema(crate::engines::schema_request(SCHEMA)).unwrap_or_else(|error| panic!("{}", told(&error)));
    engine.touch(["doc:a#viewer@user:rita"]);
    let then = engine.token_now();
    engine.touch(["doc:b#viewer@user:rita"]);
    let ask = |ids: &[&str], consistency: Consistency| {
        let request = FilterResources { situation: Situation::at(consistency), ..asked("view", "user:rita", ids) };
        engine.filter_resources(&request, &Cancel::default())
    };
    let old = ask(&["a", "b", "c"], Consistency::AtExactSnapshot(then)).expect("it is kept");
    assert_eq!((rows(&old), old.historical, old.revision), (vec![ALLOW, DENY, DENY], true, then.revision));
    let new = ask(&["a", "b", "c"], Consistency::Newest).expect("answers");
    assert_eq!((rows(&new), new.historical), (vec![ALLOW, ALLOW, DENY], false));
    let error = refused(ask(&["a", "b", "c", "d"], Consistency::Newest), &[Kind::ResourceExhausted]);
    assert_eq!((error.reason, error.facts[1].1.as_str()), ("TOO_MANY_ITEMS", "3"));
    let gone = Cancel::default();
    gone.set();
    let gave_up: Result<Filtered, Error> = engine.filter_resources(&asked("view", "user:rita", &["a"]), &gone);
    assert_eq!(refused(gave_up, &[Kind::Cancelled]).reason, "CANCELLED");
}

/// What a batch shares from question to question is never an id that only one of them names.
#[test]
fn in_a_batch_no_unknown_id_is_taken_for_another() {
    let engine = world();
    let texts = [
        ("user:rita#me@user:zoe", Decision::Deny),
        ("user:yan#me@user:zoe", Decision::Deny),
        ("user:zoe#me@user:zoe", Decision::Allow),
        ("user:zoe#me@user:yan", Decision::Deny),
        ("user:yan#me@user:yan", Decision::Allow),
        ("doc:b#view@user:rita", Decision::Allow),
        ("doc:c#view@user:rita", Decision::Deny),
        ("doc:c#view@user:zoe", Decision::Allow),
        ("doc:c#banned@user:zoe", Decision::Deny),
        ("doc:c#banned@user:rita", Decision::Allow),
        ("group:eng#member@user:rita", Decision::Allow),
    ];
    let laid = ["group:eng#member@user:new".parse().expect("a tuple")];
    for contextual_tuples in [Vec::new(), laid.to_vec()] {
        let questions: Vec<Question> = texts.iter().map(|(text, _)| crate::engines::question(text)).collect();
        let situation = Situation { contextual_tuples, ..Situation::default() };
        let options = CheckOptions { situation, ..CheckOptions::default() };
        let bulk = engine.check_bulk(&questions, &options).unwrap_or_else(|error| panic!("{}", told(&error)));
        for ((text, due), answer) in texts.iter().zip(bulk.answers) {
            assert_eq!(answer.map(|answer| answer.decision).map_err(|error| told(&error)), Ok(*due), "{text}");
        }
    }
}
