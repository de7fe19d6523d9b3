//! The order of writing is never visible in an answer: over the same tuples every question is answered alike, in whatever
//! order, and in however many calls, they were written.
//!
//! What always holds: decision, missing fields and failure are a function of schema, tuples and question. The worlds are
//! three-valued, full of cycles, and some of their caveats fail. `PROCURA_ORDERS` sets how many batches of worlds are
//! tried, `PROCURA_SEED` replays.

use crate::engines::{TestEngine, question, told};
use crate::worlds::{Rng, World, context, number, random_given, seed};
use procura::engine::{Answer, CheckOptions, Error, Situation};
use procura::model::{Decision, Question, RelationTuple, SubjectRef};

/// Worlds that share two engines, each under a prefix of its own.
const WORLDS_PER_BATCH: usize = 40;

type Said = Result<(Decision, Vec<String>), String>;

fn said(answer: Result<Answer, Error>) -> Said {
    match answer {
        Ok(answer) => Ok((answer.decision, answer.missing)),
        Err(error) => Err(error.reason.to_owned()),
    }
}

fn checked(engine: &TestEngine, questions: &[Question], situation: &Situation) -> Vec<Said> {
    let options = CheckOptions { situation: situation.clone(), ..CheckOptions::default() };
    let mut all = Vec::with_capacity(questions.len());
    for part in questions.chunks(5_000) {
        let bulk = engine.check_bulk(part, &options).unwrap_or_else(|error| panic!("{}", told(&error)));
        all.extend(bulk.answers.into_iter().map(said));
    }
    all
}

#[test]
fn answers_do_not_hang_on_the_order_of_writing() {
    let seed = seed("answers_do_not_hang_on_the_order_of_writing");
    let (mut compared, mut conditional, mut failed) = (0, 0, 0);
    for part in 0..number("PROCURA_ORDERS", 4) {
        let mut rng = Rng::part(seed, part);
        let worlds: Vec<World> = (0..WORLDS_PER_BATCH).map(|n| World::entangled(&mut rng, &format!("w{n}"))).collect();
        let schema: String = worlds.iter().map(|world| world.schema.print_body()).collect();
        let schema = format!("use self\n{schema}");
        let (first, second) = (TestEngine::with_schema(&schema), TestEngine::with_schema(&schema));
        let mut tuples: Vec<RelationTuple> = worlds.iter().flat_map(World::relation_tuples).collect();
        first.touch_parsed(tuples.iter().cloned());
        rng.shuffle(&mut tuples);
        for some in tuples.chunks(tuples.len().div_ceil(3).max(1)) {
            second.touch_parsed(some.iter().cloned());
        }
        for _ in 0..2 {
            let given = random_given(&mut rng);
            let situation = Situation { context: context(&given), ..Situation::default() };
            for (n, world) in worlds.iter().enumerate() {
                let questions: Vec<Question> = world
                    .some_subjects(&mut rng, 8)
                    .into_iter()
                    .flat_map(|subject| world.asked(subject).collect::<Vec<_>>())
                    .map(|asked| world.question(asked))
                    .filter(|one| !matches!(one.subject, SubjectRef::Wildcard(_)))
                    .collect();
                let before = checked(&first, &questions, &situation);
                let after = checked(&second, &questions, &situation);
                for ((question, before), after) in questions.iter().zip(before).zip(after) {
                    assert_eq!(
                        before,
                        after,
                        "seed {seed} part {part} world {n}: {question:?} under {given:?}\n{}",
                        world.told()
                    );
                    compared += 1;
                    conditional += u64::from(matches!(before, Ok((Decision::Conditional, _))));
                    failed += u64::from(before.is_err());
                }
            }
        }
    }
    println!("{compared} answers alike in two orders, {conditional} of them conditional, {failed} failed");
    assert!(compared > 10_000 && conditional > 500 && failed > 50);
}

/// A failing condition on the way back to a group adds nothing to it, whichever way round the walk goes.
#[test]
fn a_failing_condition_that_is_never_needed_fails_nothing() {
    let schema = "
        caveat divides(by int) { 10 / by > 1 }
        caveat flag(on bool) { on }
        caveat level(need int, have int) { have >= need }
        definition user {}
        definition group { relation member: user | user with flag | user with level | group#member | group#member with divides }
        definition doc {
          relation viewer: user with flag | user with level | group#member
          relation banned: user with flag | user with divides
          permission view = viewer - banned
        }";
    let mut texts = vec![
        "group:a#member@user:rita[flag]",
        "group:a#member@group:b#member",
        r#"group:b#member@group:a#member[divides:{"by":0}]"#,
        "group:c#member@group:a#member",
        "group:c#member@group:b#member",
        // What stands on both sides does not decide by itself; then all that is reached is told.
        "doc:both#viewer@user:rita[flag]",
        "doc:both#banned@user:rita[flag]",
        "doc:kept#viewer@user:rita[flag]",
        r#"doc:kept#banned@user:rita[divides:{"by":0}]"#,
    ];
    // More distinct conditions than are tried each way.
    let many: Vec<String> = (0..9).map(|n| format!(r#"group:m{n}#member@user:rita[level:{{"need":{n}}}]"#)).collect();
    let into: Vec<String> = (0..9).map(|n| format!("doc:many#viewer@group:m{n}#member")).collect();
    texts.extend(many.iter().chain(&into).map(String::as_str));
    let on = || Ok((Decision::Conditional, vec!["on".to_owned()]));
    let failed = || Err("CAVEAT_FAILED".to_owned());
    let mut rng = Rng::new(5);
    for _ in 0..6 {
        let engine = TestEngine::with_schema(schema);
        engine.touch(texts.iter().copied());
        for (asked, due) in [
            ("group:a#member@user:rita", on()),
            ("group:b#member@user:rita", failed()),
            ("group:c#member@user:rita", on()),
            ("doc:both#view@user:rita", on()),
            ("doc:kept#view@user:rita", failed()),
            ("doc:many#view@user:rita", Ok((Decision::Conditional, vec!["have".to_owned()]))),
        ] {
            let options = CheckOptions::default();
            assert_eq!(said(engine.check(&question(asked), &options).map(|found| found.answer)), due, "{asked}");
        }
        rng.shuffle(&mut texts);
    }
}
