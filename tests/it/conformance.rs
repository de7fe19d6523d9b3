//! Worlds written by others: SpiceDB's validation files and scenarios re-modelled from published advisories.
//!
//! They are read from `PROCURA_CONFORMANCE` (default: `../shared/conformance` beside the checkout) and never copied;
//! where they are absent the tests say so loudly and pass. What needs a feature of later is decided by the engine's own
//! refusal (`not supported yet`), counted and printed.

use crate::agrees::Timed;
use crate::engines::{TestEngine, question, refused, schema_request, told, tuple, update, write_request};
use crate::lists::{listed_resources, listed_subjects, resources_asked, subjects_asked};
use crate::worlds::{Rng, SECOND, World, number, seed};
use crate::zed;
use procura::engine::{CheckOptions, Error, Kind, ListResources, ListSubjects, Situation};
use procura::model::{
    Consistency, ConsistencyToken, Context, Decision, Question, RelationTuple, SubjectRef, Timestamp, UpdateKind,
};
use serde_json::Value;
use std::path::PathBuf;

fn folder() -> Option<PathBuf> {
    let default = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/conformance");
    let folder = std::env::var_os("PROCURA_CONFORMANCE").map_or_else(default, PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    println!("**** NOT RUN: no conformance worlds at {}; set PROCURA_CONFORMANCE ****", folder.display());
    None
}

fn yaml(path: &std::path::Path) -> Value {
    let text = std::fs::read_to_string(path).expect("a readable file");
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Whether a schema was refused for using what comes later.
fn is_for_later(error: &Error) -> bool {
    error.diagnostics.iter().any(|diagnostic| diagnostic.is_error && diagnostic.message.contains("not supported yet"))
        || error.message.contains("not supported yet")
}

fn lines(text: &Value) -> Vec<String> {
    let kept = |line: &&str| !line.is_empty() && !line.starts_with("//");
    text.as_str().unwrap_or("").lines().map(str::trim).filter(kept).map(str::to_owned).collect()
}

fn items<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}

/// `question` or `question with {context}`
fn assertion(text: &str) -> (Question, Context) {
    match text.split_once(" with ") {
        Some((asked, json)) => (question(asked), serde_json::from_str(json).expect("a context")),
        None => (question(text), Context::new()),
    }
}

/// Engine = oracle on every (object, member, subject) over the objects named; how many were compared.
fn agrees_with_the_oracle(
    name: &str,
    engine: &TestEngine,
    schema: &str,
    tuples: &[RelationTuple],
    asked: &[Question],
) -> Option<usize> {
    // It reads no conditions of others; those worlds have their own assertions only.
    let schema = match zed::read(schema) {
        Ok(schema) => schema,
        Err(_) if schema.contains("caveat ") || schema.contains("use expiration") => return None,
        Err(error) => panic!("{name}: the oracle cannot read the schema: {error}"),
    };
    let named: Vec<SubjectRef> =
        asked.iter().flat_map(|one| [SubjectRef::Object(one.object.clone()), one.subject.clone()]).collect();
    let world = World::from_tuples(schema, tuples, &named).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut compared = 0;
    for subject in world.subjects() {
        let answers = world.answers(subject);
        let questions: Vec<Question> = answers.iter().map(|(asked, _)| world.question(*asked)).collect();
        for part in 0..questions.len().div_ceil(5_000) {
            let range = part * 5_000..questions.len().min((part + 1) * 5_000);
            let bulk = engine.check_bulk(&questions[range.clone()], &CheckOptions::default()).expect("a bulk answer");
            for (at, answer) in range.zip(bulk.answers) {
                let said = answer.unwrap_or_else(|error| panic!("{name}: {:?}: {}", questions[at], told(&error)));
                assert_eq!(
                    said.decision,
                    answers[at].1,
                    "{name}: {:?}: engine, then oracle\n{}",
                    questions[at],
                    world.told()
                );
                compared += 1;
            }
        }
    }
    Some(compared)
}

fn spicedb_files(folder: &std::path::Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder.join("spicedb"))
        .expect("the folder spicedb")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    paths.sort();
    paths
}

/// The oracle is held to the same assertions, by itself: where both are wrong alike, agreement means nothing.
#[test]
fn the_oracle_passes_the_worlds_of_spicedb() {
    let Some(folder) = folder() else { return };
    let (mut read, mut asserted) = (0, 0);
    for path in spicedb_files(&folder) {
        let file = yaml(&path);
        let Ok(schema) = zed::read(text(&file, "schema").expect("a schema")) else { continue };
        let tuples: Vec<RelationTuple> = lines(&file["relationships"]).iter().map(|line| tuple(line)).collect();
        let expected = [("assertTrue", Decision::Allow), ("assertFalse", Decision::Deny)].map(|(key, decision)| {
            let assertions = items(&file["assertions"], key).iter();
            assertions.map(|assertion| (question(assertion.as_str().expect("text")), decision)).collect::<Vec<_>>()
        });
        let expected = expected.concat();
        let named: Vec<SubjectRef> = expected
            .iter()
            .flat_map(|(one, _)| [SubjectRef::Object(one.object.clone()), one.subject.clone()])
            .collect();
        let world = World::from_tuples(schema, &tuples, &named).expect("a world");
        let answers: Vec<_> = world.subjects().into_iter().flat_map(|subject| world.answers(subject)).collect();
        for (asked, decision) in &expected {
            let said = answers.iter().find(|(one, _)| world.question(*one) == *asked).expect("an answer").1;
            assert_eq!(said, *decision, "{}: {asked:?}", path.display());
            asserted += 1;
        }
        read += 1;
    }
    println!("the oracle alone: {read} worlds of spicedb, {asserted} assertions");
    assert!(read >= 15, "the oracle reads only {read}");
}

#[test]
fn worlds_of_spicedb_answer_alike() {
    let Some(folder) = folder() else { return };
    let paths = spicedb_files(&folder);
    let (mut run, mut later, mut asserted, mut compared, mut alone) = (0, Vec::new(), 0, 0, Vec::new());
    for path in &paths {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let file = yaml(path);
        let schema = text(&file, "schema").unwrap_or_else(|| panic!("{name} has no schema"));
        let engine = TestEngine::new();
        if let Err(error) = engine.try_schema(schema) {
            assert!(is_for_later(&error), "{name}: {}", told(&error));
            later.push(name);
            continue;
        }
        let tuples: Vec<RelationTuple> = lines(&file["relationships"]).iter().map(|line| tuple(line)).collect();
        engine.touch_parsed(tuples.iter().cloned());
        let mut asked = Vec::new();
        for (key, expected) in [
            ("assertTrue", Decision::Allow),
            ("assertCaveated", Decision::Conditional),
            ("assertFalse", Decision::Deny),
        ] {
            for line in items(&file["assertions"], key) {
                let line = line.as_str().unwrap_or_else(|| panic!("{name}: an assertion is a line of text"));
                let (one, context) = assertion(line);
                let options = CheckOptions {
                    situation: Situation { context, ..Situation::default() },
                    ..CheckOptions::default()
                };
                let alone = engine.check(&one, &options).map(|found| found.answer);
                let bulk = engine.check_bulk(std::slice::from_ref(&one), &options).expect("a bulk answer").answers;
                for answer in bulk.into_iter().chain([alone]) {
                    let answer = answer.unwrap_or_else(|error| panic!("{name}: {line}: {}", told(&error)));
                    assert_eq!(answer.decision, expected, "{name}: {line}");
                    assert_eq!(answer.missing.is_empty(), expected != Decision::Conditional, "{name}: {line}");
                }
                asked.push(one);
                asserted += 1;
            }
        }
        match agrees_with_the_oracle(&name, &engine, schema, &tuples, &asked) {
            Some(answers) => compared += answers,
            None => alone.push(name),
        }
        run += 1;
    }
    println!("spicedb: {run} of {} worlds run, {asserted} assertions, {compared} answers as the oracle's", paths.len());
    println!("spicedb: {} by their assertions alone: {}", alone.len(), alone.join(", "));
    println!("spicedb: {} left for later (not supported yet): {}", later.len(), later.join(", "));
    let least = number("PROCURA_CONFORMANCE_LEAST", 36);
    assert!(run >= least, "only {run} ran");
}

/// What an assertion of a scenario may expect.
fn holds(expect: &str, or_error: bool, said: &Result<Decision, Error>) -> bool {
    let is_client_error = |error: &Error| match error.kind {
        Kind::InvalidArgument | Kind::FailedPrecondition | Kind::AlreadyExists | Kind::NotFound | Kind::OutOfRange => {
            true
        }
        Kind::ResourceExhausted | Kind::Cancelled | Kind::Unavailable | Kind::Internal | Kind::DataLoss => false,
    };
    match (expect, said) {
        (_, Err(error)) if matches!(error.kind, Kind::Internal | Kind::DataLoss) => false,
        ("allow", Ok(Decision::Allow)) | ("deny" | "not_allow", Ok(Decision::Deny)) => true,
        ("conditional", Ok(Decision::Conditional)) | ("not_allow", Err(_)) => true,
        ("error", Err(error)) => is_client_error(error),
        ("allow" | "deny", Err(error)) => or_error && (is_client_error(error) || error.kind == Kind::ResourceExhausted),
        ("allow" | "deny" | "conditional" | "not_allow" | "error", Ok(_)) | ("conditional", Err(_)) => false,
        (other, _) => panic!("`{other}` is no expectation"),
    }
}

#[derive(Default)]
struct Tally {
    run: usize,
    later: Vec<String>,
    checks: usize,
    lists: usize,
    compared: usize,
}

struct Scenario<'a> {
    id: &'a str,
    body: &'a Value,
}

#[test]
fn advisories_of_others_do_not_happen_here() {
    let Some(folder) = folder() else { return };
    let mut rng = Rng::new(seed("advisories_of_others_do_not_happen_here"));
    let file = yaml(&folder.join("advisories/scenarios.yaml"));
    let mut tally = Tally::default();
    let scenarios = items(&file, "scenarios");
    for body in scenarios {
        let scenario = Scenario { id: text(body, "id").expect("an id"), body };
        if body.get("steps").is_some() {
            scenario.run_steps(&mut tally);
        } else {
            scenario.run(&mut tally, &mut rng);
        }
    }
    println!(
        "advisories: {} of {} scenarios run in 4 modes, {} checks, {} answers as the oracle's",
        tally.run,
        scenarios.len(),
        tally.checks,
        tally.compared
    );
    println!("advisories: {} list assertions held", tally.lists);
    assert!(tally.lists > 0, "no list assertion ran");
    println!("advisories: {} scenarios left for later: {}", tally.later.len(), tally.later.join(", "));
    let least = number("PROCURA_ADVISORIES_LEAST", 26);
    assert!(tally.run as u64 >= least, "only {} ran", tally.run);
}

impl Scenario<'_> {
    fn is_true(&self, key: &str) -> bool {
        self.body.get(key).and_then(Value::as_bool).unwrap_or(false)
    }

    fn may(&self, outcome: &str) -> bool {
        items(self.body, "one_of").iter().any(|one| one.as_str() == Some(outcome)) || self.is_true(outcome)
    }

    fn tuples(&self) -> Vec<String> {
        let mut all = lines(&self.body["relationships"]);
        for one in items(self.body, "generate") {
            all.extend(generated(one, "relationship"));
        }
        all
    }

    /// What it asserts: checks and lists.
    fn asserted(&self) -> (Vec<&Value>, Vec<&Value>) {
        let (mut checks, mut lists) = (Vec::new(), Vec::new());
        for assertion in items(self.body, "assertions") {
            if assertion.get("check").is_some() {
                checks.push(assertion);
            } else if assertion.get("lookup_resources").is_some() || assertion.get("lookup_subjects").is_some() {
                lists.push(assertion);
            } else {
                panic!("{}: {assertion} is not understood", self.id);
            }
        }
        (checks, lists)
    }

    /// What a list must be: exactly those allowed, and exactly those that hang on context.
    fn judge_lists(&self, engine: &procura::engine::Engine, lists: &[&Value], tally: &mut Tally) {
        for assertion in lists {
            let said = match (text(assertion, "lookup_resources"), text(assertion, "lookup_subjects")) {
                (Some(asked), _) => {
                    let asked = ListResources { situation: given(assertion), ..resources_asked(asked) };
                    listed_resources(engine, &asked)
                }
                (None, Some(asked)) => {
                    let asked = ListSubjects { situation: given(assertion), ..subjects_asked(asked) };
                    listed_subjects(engine, &asked)
                }
                (None, None) => panic!("{}: {assertion} is no list", self.id),
            };
            tally.lists += 1;
            let listed = match said {
                Ok(listed) => listed,
                Err(error) => {
                    let or_error = assertion.get("or_error").and_then(Value::as_bool).unwrap_or(false);
                    assert!(or_error && error.kind == Kind::ResourceExhausted, "{}: {}", self.id, told(&error));
                    continue;
                }
            };
            for (key, decision) in [("expect", Decision::Allow), ("expect_conditional", Decision::Conditional)] {
                let mut due: Vec<&str> = items(assertion, key).iter().map(|id| id.as_str().expect("an id")).collect();
                due.sort_unstable();
                let found: Vec<&str> =
                    listed.iter().filter(|(_, said)| *said == decision).map(|(id, _)| id.as_str()).collect();
                assert_eq!(found, due, "{}: {assertion}: {key}", self.id);
            }
        }
    }

    fn run(&self, tally: &mut Tally, rng: &mut Rng) {
        let schema = text(self.body, "schema").unwrap_or_else(|| panic!("{} has no schema", self.id));
        let mut engine = TestEngine::new();
        let written = engine.write_schema(schema_request(schema));
        match &written {
            Err(error) if is_for_later(error) => return tally.later.push(self.id.to_owned()),
            Err(error) => {
                assert!(self.may("schema_rejected"), "{}: {}", self.id, told(error));
                assert!(!error.diagnostics.is_empty(), "{}: a refused schema says where", self.id);
                tally.run += 1;
                return;
            }
            Ok(_) => assert!(!self.is_true("schema_rejected"), "{}: the schema should be refused", self.id),
        }
        let tuples = self.tuples();
        if self.may("write_rejected") {
            let updates = tuples.iter().map(|text| update(UpdateKind::Touch, text)).collect();
            if engine.write_tuples(write_request(updates)).is_err() {
                tally.run += 1;
                return;
            }
            assert!(!self.is_true("write_rejected"), "{}: the write should be refused", self.id);
        }
        let token = engine.token(engine.touch(&tuples));
        let (checks, lists) = self.asserted();

        // 1: a fresh engine, in order, also as one batch. 2: nothing warm. 3: warm from the other end. 4: eight race.
        let repeat = self.body.get("repeat").and_then(Value::as_u64).unwrap_or(1);
        for _ in 0..repeat {
            self.ask(&engine, &checks, token, tally);
        }
        self.ask_in_bulk(&engine, &checks, tally);
        self.judge_lists(&engine, &lists, tally);
        engine.reopen();
        self.judge_lists(&engine, &lists, tally);
        self.ask(&engine, &checks, token, tally);
        let reversed: Vec<&Value> = checks.iter().rev().copied().collect();
        self.ask(&engine, &reversed, token, tally);
        self.ask(&engine, &checks, token, tally);
        std::thread::scope(|scope| {
            let racing: Vec<_> = (0..8)
                .map(|_| {
                    let (mut shuffled, lists, engine) = (checks.clone(), &lists, &engine);
                    rng.shuffle(&mut shuffled);
                    scope.spawn(move || {
                        let mut tally = Tally::default();
                        for _ in 0..10 {
                            self.ask(engine, &shuffled, token, &mut tally);
                        }
                        self.judge_lists(engine, lists, &mut tally);
                        (tally.checks, tally.lists)
                    })
                })
                .collect();
            for racer in racing {
                let (checks, lists) = racer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                tally.checks += checks;
                tally.lists += lists;
            }
        });
        if !self.is_true("skip_list_agreement") {
            let tuples: Vec<RelationTuple> = tuples.iter().map(|text| tuple(text)).collect();
            let asked: Vec<Question> =
                checks.iter().map(|check| question(text(check, "check").expect("a question"))).collect();
            tally.compared += agrees_with_the_oracle(self.id, &engine, schema, &tuples, &asked).unwrap_or(0);
        }
        tally.run += 1;
    }

    fn ask(&self, engine: &TestEngine, checks: &[&Value], token: ConsistencyToken, tally: &mut Tally) {
        let ms_max = self.body.get("max_ms").and_then(Value::as_u64);
        for check in checks {
            let asked = text(check, "check").expect("a question");
            for consistency in [Consistency::Newest, Consistency::AtLeastAsFresh(token)] {
                let began = std::time::Instant::now();
                let options =
                    CheckOptions { situation: Situation { consistency, ..given(check) }, ..CheckOptions::default() };
                self.judge(check, &engine.check(&question(asked), &options).map(|found| found.answer.decision));
                let took = began.elapsed().as_millis();
                assert!(ms_max.is_none_or(|max| took <= u128::from(max)), "{}: {asked} took {took} ms", self.id);
                tally.checks += 1;
            }
        }
    }

    fn ask_in_bulk(&self, engine: &TestEngine, checks: &[&Value], tally: &mut Tally) {
        // One call has one context.
        let mut rest = checks.to_vec();
        while let Some(first) = rest.first().copied() {
            let situation = given(first);
            let (alike, others): (Vec<&Value>, Vec<&Value>) =
                rest.into_iter().partition(|check| told_of(check) == told_of(first));
            rest = others;
            let questions: Vec<Question> =
                alike.iter().map(|check| question(text(check, "check").expect("a question"))).collect();
            let options = CheckOptions { situation, ..CheckOptions::default() };
            let bulk = engine.check_bulk(&questions, &options).unwrap_or_else(|error| panic!("{}", told(&error)));
            for (check, answer) in alike.iter().zip(bulk.answers) {
                self.judge(check, &answer.map(|answer| answer.decision));
                tally.checks += 1;
            }
        }
    }

    fn judge(&self, check: &Value, said: &Result<Decision, Error>) {
        let expect = text(check, "expect").expect("an expectation");
        let or_error = check.get("or_error").and_then(Value::as_bool).unwrap_or(false);
        let shown = match said {
            Ok(decision) => decision.as_str().to_owned(),
            Err(error) => told(error),
        };
        assert!(holds(expect, or_error, said), "{}: {check}\nsaid: {shown}", self.id);
    }

    /// A story in which time passes.
    fn run_over_time(&self, tally: &mut Tally) {
        let engine = Timed::with_schema(text(self.body, "schema").expect("a schema"));
        let mut tokens = std::collections::HashMap::new();
        for step in items(self.body, "steps") {
            if let Some(now) = text(step, "set_clock") {
                let now: Timestamp = now.parse().expect("an instant");
                engine.set(now.seconds() * SECOND);
            } else if step.get("write").is_some() {
                let lines = items(step, "write").iter().map(|text| text.as_str().expect("a tuple"));
                engine.update(lines.map(|text| update(UpdateKind::Touch, text)).collect());
                if let Some(name) = text(step, "save_token") {
                    tokens.insert(name, engine.token_now());
                }
            } else if let Some(asked) = text(step, "check") {
                let fresh = step.get("consistency").and_then(|consistency| text(consistency, "at_least_as_fresh"));
                let consistency = fresh.map_or(Consistency::Newest, |name| Consistency::AtLeastAsFresh(tokens[name]));
                let options = CheckOptions { situation: Situation::at(consistency), ..CheckOptions::default() };
                for _ in 0..step.get("times").and_then(Value::as_u64).unwrap_or(1) {
                    self.judge(step, &engine.check(&question(asked), &options).map(|found| found.answer.decision));
                    tally.checks += 1;
                }
            } else {
                assert!(step.get("lookup_resources").is_some(), "{}: {step} is not understood", self.id);
                self.judge_lists(&engine, &[step], tally);
            }
        }
        tally.run += 1;
    }

    /// A scenario that is a story; it happens once, in order.
    fn run_steps(&self, tally: &mut Tally) {
        if items(self.body, "steps").iter().any(|step| step.get("set_clock").is_some()) {
            return self.run_over_time(tally);
        }
        let engine = TestEngine::new();
        if let Some(schema) = text(self.body, "schema")
            && let Err(error) = engine.try_schema(schema)
        {
            assert!(is_for_later(&error), "{}: {}", self.id, told(&error));
            return tally.later.push(self.id.to_owned());
        }
        for step in items(self.body, "steps") {
            if let Some(schema) = text(step, "write_schema") {
                match engine.try_schema(schema) {
                    Ok(_) => {}
                    Err(error) if is_for_later(&error) => return tally.later.push(self.id.to_owned()),
                    Err(error) => {
                        let stops =
                            step.get("outcomes").and_then(|outcomes| text(outcomes, "rejected")) == Some("stop");
                        assert!(stops, "{}: {}", self.id, told(&error));
                        // Refused, so what was allowed before still stands.
                        refused(Err::<(), _>(error), &[Kind::FailedPrecondition]);
                        break;
                    }
                }
            } else if step.get("write").is_some() {
                engine.touch(items(step, "write").iter().map(|text| text.as_str().expect("a tuple")));
            } else if step.get("write_generated").is_some() {
                let tuples = generated(step, "write_generated");
                let before = engine.everything().len();
                let updates = tuples.iter().map(|text| update(UpdateKind::Touch, text)).collect();
                let due = match engine.write_tuples(write_request(updates)) {
                    Ok(_) => before + tuples.len(),
                    Err(_) => before,
                };
                assert_eq!(engine.everything().len(), due, "{}: all or an error", self.id);
            } else if let Some(asked) = text(step, "check") {
                self.judge(step, &engine.decide(asked));
                tally.checks += 1;
            } else {
                return tally.later.push(self.id.to_owned());
            }
        }
        tally.run += 1;
    }
}

/// What one call cannot share.
fn told_of(check: &Value) -> (Option<&Value>, Option<&Value>) {
    (check.get("context"), check.get("contextual"))
}

/// What a check or list is asked under.
fn given(assertion: &Value) -> Situation {
    Situation {
        context: assertion.get("context").and_then(Value::as_object).cloned().unwrap_or_default(),
        contextual_tuples: lines(assertion.get("contextual").unwrap_or(&Value::Null))
            .iter()
            .map(|t| tuple(t))
            .collect(),
        ..Situation::default()
    }
}

/// `{i}` and `{i+1}` over from..to.
fn generated(one: &Value, key: &str) -> Vec<String> {
    let pattern = text(one, key).expect("a pattern");
    let bound = |key: &str| one.get(key).and_then(Value::as_u64).unwrap_or_else(|| panic!("{one} has no `{key}`"));
    (bound("from")..bound("to"))
        .map(|i| pattern.replace("{i+1}", &(i + 1).to_string()).replace("{i}", &i.to_string()))
        .collect()
}

#[test]
fn patterns_and_expectations_are_read_right() {
    let one = serde_json::json!({"relationship": "g:{i}#m@g:{i+1}#m", "from": 8, "to": 10});
    assert_eq!(generated(&one, "relationship"), ["g:8#m@g:9#m", "g:9#m@g:10#m"]);
    assert!(holds("deny", false, &Ok(Decision::Deny)) && !holds("deny", false, &Ok(Decision::Allow)));
    assert!(!holds("allow", true, &Ok(Decision::Deny)) && !holds("not_allow", false, &Ok(Decision::Allow)));
    assert!(!holds("not_allow", false, &Ok(Decision::Conditional)) && !holds("error", false, &Ok(Decision::Deny)));
}
