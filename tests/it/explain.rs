//! Explain against Check, the oracle and what really happens: the decision is Check's, every value in the tree is what
//! Check says there, every tuple of a proof stands, and every near miss, once written, allows.
//!
//! What always holds: what is not shown is said not to be; no single tuple that names the subject, or renews what has ended,
//! and would allow is missing, unless the search says that it was ended. `PROCURA_EXPLAINED` sets how many questions are explained in random worlds, `PROCURA_SEED`
//! replays.

use crate::agrees::Timed;
use crate::caveats::{Given, Outcome};
use crate::engines::{TestEngine, question, refused, told, tuple, update, write_request};
use crate::oracle::{Body, Flip, Form, Row, Subject, Truth, Tuple};
use crate::worlds::{Asked, Mark, Rng, START, World, context, decision, number, random_given, seed};
use procura::engine::{Answer, CheckOptions, Engine, Explain, Explained, Kind, Situation};
use procura::model::{
    Acting, Cancel, Decision, ExplainPart, ExplainStep, Limits, MemberOf, NearMissKind, Question, RelationTuple,
    SubjectRef, TupleUpdate, UpdateKind,
};
use std::collections::BTreeSet;

fn explain(engine: &Engine, question: &Question, situation: &Situation) -> Explained {
    let request = Explain { acting: Acting::default(), question: question.clone(), situation: situation.clone() };
    engine.explain(&request, &Cancel::default()).unwrap_or_else(|error| panic!("{question:?}: {}", told(&error)))
}

fn explained(engine: &Engine, asked: &str) -> Explained {
    explain(engine, &question(asked), &Situation::default())
}

/// One step as a line.
fn line(step: &ExplainStep) -> String {
    let ExplainStep { depth, value, failed, subtracted, part } = step;
    let text = match part {
        ExplainPart::Member(member) => member.to_string(),
        ExplainPart::Repeated(member) => format!("again {member}"),
        ExplainPart::Operator(operator) => operator.as_str().to_owned(),
        ExplainPart::Arrow(arrow) => arrow.to_string(),
        ExplainPart::Tuple { tuple, missing, failed } => match (missing.as_slice(), failed) {
            ([], None) => tuple.to_string(),
            (missing, failed) => format!("{tuple} lacks {missing:?} fails {failed:?}"),
        },
        ExplainPart::Ended(tuple) => format!("ended {tuple}"),
        ExplainPart::Unnamed { admitted: true, .. } => "unnamed".to_owned(),
        ExplainPart::Unnamed { admitted: false, .. } => "not admitted".to_owned(),
        ExplainPart::Empty => "empty".to_owned(),
        ExplainPart::Userset(subject) => format!("{subject} is itself"),
        ExplainPart::Itself(object) => format!("self {object}"),
        ExplainPart::Nil => "nil".to_owned(),
        ExplainPart::Excluded(member) => format!("excluded {member}"),
        ExplainPart::More { tuples } => format!("{tuples} more"),
        ExplainPart::Cut => "cut".to_owned(),
    };
    let minus = if *subtracted { "- " } else { "" };
    let value = value.map_or(String::new(), |value| format!(" {}", value.as_str()));
    let failed = failed.as_ref().map_or(String::new(), |why| format!(" FAILS: {why}"));
    format!("{}{minus}{text}{value}{failed}", "  ".repeat(*depth as usize))
}

fn tree(found: &Explained) -> String {
    found.steps.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn near(found: &Explained) -> Vec<String> {
    let sign = |kind| match kind {
        NearMissKind::Add => '+',
        NearMissKind::Remove => '-',
    };
    found.near_misses.iter().map(|near| format!("{} {}", sign(near.kind), near.tuple)).collect()
}

/// The tree and the near misses of a question.
#[track_caller]
fn check(engine: &Engine, asked: &str, due: &str, due_near: &[&str]) {
    let found = explained(engine, asked);
    assert_eq!(tree(&found), due.trim_matches('\n'), "{asked}");
    assert_eq!(near(&found), due_near, "{asked}");
    assert!(!found.truncated && !found.near_misses_cut, "{asked}");
}

// ---- random worlds ----

/// One question of a world, explained.
struct Case<'a> {
    engine: &'a Timed,
    world: &'a World,
    given: &'a Given,
    rows: &'a [Row],
    asked: Asked,
    question: Question,
    found: Explained,
}

impl Case<'_> {
    #[track_caller]
    fn wrong(&self, what: &str) -> ! {
        let Case { world, question, found, given, .. } = self;
        let near = near(found);
        panic!("{what}\n{}\n{question:?} under {given:?}\n{}\n{near:?}", world.told(), tree(found));
    }

    fn situation(&self) -> Situation {
        Situation { context: context(self.given), ..Situation::default() }
    }

    fn checked(&self, question: &Question) -> Option<Answer> {
        let options = CheckOptions { situation: self.situation(), ..CheckOptions::default() };
        match self.engine.check(question, &options) {
            Ok(found) => Some(found.answer),
            Err(error) if error.reason == "CAVEAT_FAILED" => None,
            Err(error) => self.wrong(&told(&error)),
        }
    }

    /// The answer is Check's, and so is every value in the tree.
    fn says_what_check_says(&self) {
        let Explained { decision, missing, valid_until, steps, .. } = &self.found;
        let Some(answer) = self.checked(&self.question) else { self.wrong("Check fails and Explain does not") };
        if (answer.decision, &answer.missing, answer.valid_until) != (*decision, missing, *valid_until) {
            self.wrong("Check says something else");
        }
        // Only the number of steps cuts: a small world costs little to explain.
        let is_full = steps.len() >= Limits::default().explain_steps_max;
        if self.found.truncated && !is_full {
            self.wrong("cut though there is room");
        }
        let mut depth = 0;
        for (at, step) in steps.iter().enumerate() {
            if at == 0 && step.depth != 0 || at > 0 && !(1..=depth + 1).contains(&step.depth) {
                self.wrong("a step that stands below nothing");
            }
            depth = step.depth;
            let is_right = match &step.part {
                ExplainPart::Member(member) | ExplainPart::Repeated(member) => self.is_said(member, step),
                ExplainPart::Tuple { tuple, failed, .. } => self.is_worth(tuple, step.value, failed.is_some()),
                ExplainPart::Ended(tuple) => self.has_ended(tuple) && step.value == Some(Decision::Deny),
                ExplainPart::Operator(_) | ExplainPart::Arrow(_) => step.value.is_some() != step.failed.is_some(),
                ExplainPart::Unnamed { .. }
                | ExplainPart::Empty
                | ExplainPart::Userset(_)
                | ExplainPart::Itself(_)
                | ExplainPart::Nil
                | ExplainPart::Excluded(_) => step.value.is_some(),
                ExplainPart::More { .. } | ExplainPart::Cut => step.value.is_none(),
            };
            if !is_right {
                self.wrong(&format!("`{}` is not so", line(step)));
            }
        }
    }

    fn is_said(&self, member: &MemberOf, step: &ExplainStep) -> bool {
        let MemberOf { object, member } = member.clone();
        let asked = Question { object, permission: member, subject: self.question.subject.clone() };
        // Where Check of the part fails, it has no value, and says why.
        let due = self.checked(&asked).map(|answer| answer.decision);
        step.value == due && step.failed.is_some() == due.is_none()
    }

    /// The tuple stands as it is shown, and its caveat says what is said of it.
    fn is_worth(&self, shown: &RelationTuple, value: Option<Decision>, failed: bool) -> bool {
        self.rows.iter().any(|(tuple, worth)| {
            self.world.tuples.get(tuple).is_some_and(|mark| {
                let outcome = mark.condition.as_ref().map(|condition| condition.evaluate(self.given, Flip::None));
                let fails = outcome == Some(Outcome::Failed);
                let due = if fails { None } else { Some(decision(*worth)) };
                self.world.relation_tuple(tuple, mark) == *shown && value == due && failed == fails
            })
        })
    }

    /// The tuple is there as it is shown, and no more.
    fn has_ended(&self, shown: &RelationTuple) -> bool {
        self.world.tuples.iter().any(|(tuple, mark)| {
            self.world.relation_tuple(tuple, mark) == *shown && mark.ends.is_some_and(|end| end <= START)
        })
    }

    /// Of an allow every step of the proof holds, and something ends it.
    fn proves(&self) {
        let holds = |step: &ExplainStep| match step.part {
            ExplainPart::Excluded(_) => step.value == Some(Decision::Deny),
            _ => step.value == Some(Decision::Allow),
        };
        if !self.found.steps.iter().all(holds) || !self.found.near_misses.is_empty() {
            self.wrong("a proof of something else");
        }
    }

    /// Written for real, each of them allows; and what stood there is put back.
    fn near_misses_allow(&self) -> [u64; 2] {
        let mut removals = 0;
        for near in &self.found.near_misses {
            let stood = self.world.tuples.iter().find_map(|(tuple, mark)| {
                let stood = self.world.relation_tuple(tuple, mark);
                (stood.key == near.tuple.key).then_some(stood)
            });
            let (kind, back) = match near.kind {
                NearMissKind::Add => (UpdateKind::Touch, stood),
                NearMissKind::Remove if stood.as_ref() != Some(&near.tuple) => self.wrong("it is not there"),
                NearMissKind::Remove => {
                    removals += 1;
                    (UpdateKind::Delete, stood)
                }
            };
            let written =
                self.engine.write_tuples(write_request(vec![TupleUpdate { kind, tuple: near.tuple.clone() }]));
            if let Err(error) = written {
                self.wrong(&format!("{} cannot be written: {}", near.tuple, told(&error)));
            }
            if self.checked(&self.question).map(|answer| answer.decision) != Some(Decision::Allow) {
                self.wrong(&format!("{:?} {} does not allow", near.kind, near.tuple));
            }
            let back = match back {
                Some(tuple) => TupleUpdate { kind: UpdateKind::Touch, tuple },
                None => TupleUpdate { kind: UpdateKind::Delete, tuple: near.tuple.clone() },
            };
            self.engine.update(vec![back]);
        }
        [self.found.near_misses.len() as u64 - removals, removals]
    }

    /// No tuple that names the subject, or renews what has ended, and would allow is missing, as the oracle sees it. Others
    /// that are told are places beneath an arrow; that they allow is tried elsewhere.
    fn no_near_miss_is_missing(&self, kind: NearMissKind, helpful: &[(Tuple, Vec<Vec<Truth>>)]) {
        let Asked { object, member, .. } = self.asked;
        let key = |tuple: &Tuple| self.world.relation_tuple(tuple, &Mark::default()).key.to_string();
        let allows = |held: &Vec<Vec<Truth>>| held[object][member] == Truth::Allow;
        let due: BTreeSet<String> =
            helpful.iter().filter(|(_, held)| allows(held)).map(|(tuple, _)| key(tuple)).collect();
        let of_kind = self.found.near_misses.iter().filter(|near| near.kind == kind);
        let told: BTreeSet<String> = of_kind.map(|near| near.tuple.key.to_string()).collect();
        let is_whole = self.found.near_misses_cut || due.is_subset(&told);
        let is_place = |tuple: &RelationTuple| {
            matches!(tuple.key.subject, SubjectRef::Object(_)) && tuple.key.subject != self.question.subject
        };
        let mut beside = self.found.near_misses.iter().filter(|near| !due.contains(&near.tuple.key.to_string()));
        let is_right =
            is_whole && beside.all(|near| near.kind != kind || kind == NearMissKind::Add && is_place(&near.tuple));
        if !is_right {
            self.wrong(&format!("{kind:?} {due:?} would allow, told are {told:?}"));
        }
    }
}

/// What the oracle says of everything, for each tuple that may name the subject (or else everybody), or that has ended, were
/// it there.
fn with_one_more(world: &World, rows: &[Row], given: &Given, subject: Subject) -> Vec<(Tuple, Vec<Vec<Truth>>)> {
    let mut all = Vec::new();
    for (object, place) in world.objects.iter().enumerate() {
        for (relation, member) in world.schema.types[place.of].members.iter().enumerate() {
            let Body::Relation(forms) = &member.body else { continue };
            let takes = |form: &Form| match (*form, subject) {
                (Form::Object(of), Subject::Object(o)) => world.objects[o].of == of,
                (Form::Userset(of, on), Subject::Userset(o, m)) => world.objects[o].of == of && on == m,
                _ => false,
            };
            let everybody = |form: &Form| match (*form, subject) {
                (Form::Wildcard(of), Subject::Object(o)) if world.objects[o].of == of => Some(Subject::Wildcard(of)),
                _ => None,
            };
            let mut plain = forms.iter().filter(|admitted| admitted.caveat.is_none()).map(|admitted| admitted.form);
            let named = if plain.clone().any(|form| takes(&form)) {
                Some(subject)
            } else {
                plain.find_map(|form| everybody(&form))
            };
            if let Some(named) = named {
                let tuple = Tuple { object, relation, subject: named };
                let mut more: Vec<Row> = rows.iter().filter(|(there, _)| *there != tuple).copied().collect();
                more.push((tuple, Truth::Allow));
                all.push((tuple, world.held(&more, subject)));
            }
        }
    }
    for (tuple, mark) in world.tuples.iter().filter(|(_, mark)| mark.ends.is_some_and(|end| end <= START)) {
        // Everybody is let in only where the subject itself may not be.
        let narrower = Tuple { subject, ..*tuple };
        if matches!(tuple.subject, Subject::Wildcard(_)) && all.iter().any(|(there, _)| *there == narrower) {
            continue;
        }
        let condition = mark.condition.as_ref();
        let worth = condition.map_or(Truth::Allow, |condition| condition.evaluate(given, Flip::None).worth(Flip::None));
        let more: Vec<Row> = rows.iter().copied().chain([(*tuple, worth)]).collect();
        all.push((*tuple, world.held(&more, subject)));
    }
    all
}

/// The same for each tuple that names the subject or everybody, were it not there.
fn with_one_less(world: &World, rows: &[Row], subject: Subject) -> Vec<(Tuple, Vec<Vec<Truth>>)> {
    let names = |named: Subject| match (named, subject) {
        (Subject::Wildcard(of), Subject::Object(o)) => world.objects[o].of == of,
        _ => named == subject,
    };
    let without = |gone: Tuple| {
        let less: Vec<Row> = rows.iter().filter(|(there, _)| *there != gone).copied().collect();
        world.held(&less, subject)
    };
    rows.iter().filter(|(tuple, _)| names(tuple.subject)).map(|(tuple, _)| (*tuple, without(*tuple))).collect()
}

#[test]
fn what_is_explained_is_so_in_every_world() {
    let seed = seed("what_is_explained_is_so_in_every_world");
    let wanted = number("PROCURA_EXPLAINED", 16_000);
    let (mut asked_in_all, mut cut, mut conditional, mut failed) = (0, 0, 0, 0);
    let mut nearby = [0, 0];
    let mut n = 0;
    // Bounded: each round explains something.
    while asked_in_all < wanted {
        let mut rng = Rng::part(seed, n);
        n += 1;
        let worlds: Vec<World> = (0..10).map(|w| World::random(&mut rng, &format!("w{w}"))).collect();
        let schema: String = worlds.iter().map(|world| world.schema.print_body()).collect();
        let engine = Timed::with_schema(&format!("use expiration\nuse self\n{schema}"));
        let touch = |tuple| TupleUpdate { kind: UpdateKind::Touch, tuple };
        engine.update(worlds.iter().flat_map(World::relation_tuples).map(touch).collect());
        for world in &worlds {
            for subject in world.some_subjects(&mut rng, 4) {
                let given = random_given(&mut rng);
                let rows = world.rows(&given, START, Flip::None);
                let (more, less) = (with_one_more(world, &rows, &given, subject), with_one_less(world, &rows, subject));
                let mut all: Vec<Asked> = world.asked(subject).collect();
                rng.shuffle(&mut all);
                for asked in all.into_iter().take(20) {
                    let question = world.question(asked);
                    let situation = Situation { context: context(&given), ..Situation::default() };
                    let request = Explain { acting: Acting::default(), question: question.clone(), situation };
                    let found = match engine.explain(&request, &Cancel::default()) {
                        Ok(found) => found,
                        Err(error) if error.reason == "CAVEAT_FAILED" => {
                            failed += 1;
                            continue;
                        }
                        Err(error) => panic!("{}", told(&error)),
                    };
                    let case = Case { engine: &engine, world, given: &given, rows: &rows, asked, question, found };
                    case.says_what_check_says();
                    match case.found.decision {
                        Decision::Allow => case.proves(),
                        Decision::Deny | Decision::Conditional => {
                            case.no_near_miss_is_missing(NearMissKind::Add, &more);
                            case.no_near_miss_is_missing(NearMissKind::Remove, &less);
                            let found = case.near_misses_allow();
                            nearby = [nearby[0] + found[0], nearby[1] + found[1]];
                        }
                    }
                    asked_in_all += 1;
                    cut += u64::from(case.found.near_misses_cut);
                    conditional += u64::from(case.found.decision == Decision::Conditional);
                }
            }
        }
    }
    println!(
        "{asked_in_all} explained, {conditional} conditional, {failed} fail; {nearby:?} tuples more and less, {cut} cut"
    );
    assert!(nearby[0] > wanted / 20 && nearby[1] > wanted / 500 && conditional > wanted / 50);
}

// ---- shapes ----

const WORLD: &str = "use self
use expiration
caveat on_net(ip ipaddress, cidr string) { ip.in_cidr(cidr) }
caveat divides(by int) { 10 / by > 1 }
definition user { permission me = self }
definition group { relation member: user | group#member }
definition folder {
  relation parent: folder
  relation viewer: user | user:* | group#member
  permission view = viewer + parent->view
  permission every = parent.all(viewer)
}
definition doc {
  relation folder: folder | user
  relation owner: user
  relation cleared: user
  relation brief: user with expiration
  relation net: user with on_net | user with divides
  relation banned: user | user:* | group#member
  permission either = owner + brief
  permission both = owner & cleared
  permission view = owner - banned
  permission deep = (owner + cleared) - (banned - cleared)
  permission up = folder->view
  permission selves = folder->me
  permission none = nil
}";

#[test]
fn each_operator_shows_what_decides() {
    let engine = TestEngine::with_schema(WORLD);
    engine.touch(["doc:1#owner@user:rita", "doc:1#banned@group:g#member", "group:g#member@user:rita"]);
    check(
        &engine,
        "doc:1#both@user:rita",
        "
doc:1#both DENY
  intersection DENY
    doc:1#cleared DENY
      unnamed DENY
    doc:1#owner ALLOW",
        &["+ doc:1#cleared@user:rita"],
    );
    check(
        &engine,
        "doc:1#view@user:rita",
        "
doc:1#view DENY
  exclusion DENY
    doc:1#owner ALLOW
      doc:1#owner@user:rita ALLOW
    - doc:1#banned ALLOW
      doc:1#banned@group:g#member ALLOW
      group:g#member ALLOW
        group:g#member@user:rita ALLOW",
        &["- group:g#member@user:rita"],
    );
    // Within a subtraction of a subtraction adding helps again.
    let found = explained(&engine, "doc:1#deep@user:rita");
    assert_eq!(found.decision, Decision::Deny);
    assert_eq!(near(&found), ["+ doc:1#cleared@user:rita", "- group:g#member@user:rita"]);
    check(&engine, "doc:1#both@user:dana", BOTH_LACK, &[]);
    check(&engine, "doc:1#none@user:dana", "doc:1#none DENY\n  nil DENY", &[]);
}

const BOTH_LACK: &str = "
doc:1#both DENY
  intersection DENY
    doc:1#owner DENY
      unnamed DENY
    doc:1#cleared DENY
      unnamed DENY";

#[test]
fn arrows_show_each_object_and_what_it_lacks() {
    let engine = TestEngine::with_schema(WORLD);
    engine.touch([
        "doc:1#folder@folder:a",
        "doc:1#folder@user:zoe",
        "folder:c#parent@folder:a",
        "folder:c#parent@folder:b",
        "folder:b#viewer@user:*",
        "folder:b#viewer@group:g#member",
    ]);
    check(
        &engine,
        "doc:1#up@user:dana",
        "
doc:1#up DENY
  folder->view DENY
    doc:1#folder@user:zoe ALLOW
      nil DENY
    doc:1#folder@folder:a ALLOW
      folder:a#view DENY
        union DENY
          folder:a#viewer DENY
            unnamed DENY
          parent->view DENY
            empty DENY",
        &[
            "+ folder:a#viewer@user:dana",
            "+ doc:1#folder@folder:c",
            "+ doc:1#folder@folder:b",
            "+ folder:a#parent@folder:c",
            "+ folder:a#parent@folder:b",
        ],
    );
    check(
        &engine,
        "folder:c#every@user:dana",
        "
folder:c#every DENY
  parent.all(viewer) DENY
    folder:c#parent@folder:a ALLOW
      folder:a#viewer DENY
        unnamed DENY
    folder:c#parent@folder:b ALLOW
      folder:b#viewer ALLOW",
        &["+ folder:a#viewer@user:dana"],
    );
    // A wildcard is nobody's userset, and `self` only the object.
    check(
        &engine,
        "folder:b#viewer@group:h#member",
        "
folder:b#viewer DENY
  unnamed DENY
  folder:b#viewer@group:g#member ALLOW
    group:g#member DENY
      unnamed DENY",
        &["+ folder:b#viewer@group:h#member", "+ group:g#member@group:h#member"],
    );
    check(
        &engine,
        "doc:1#selves@user:dana",
        "
doc:1#selves DENY
  folder->me DENY
    doc:1#folder@user:zoe ALLOW
      user:zoe#me DENY
        self user:zoe DENY
    doc:1#folder@folder:a ALLOW
      nil DENY",
        &["+ doc:1#folder@user:dana"],
    );
    check(&engine, "doc:1#owner@group:g#member", "doc:1#owner DENY\n  not admitted DENY", &[]);
    // A wildcard that takes away is a tuple like another.
    engine.touch(["doc:2#owner@user:dana", "doc:2#banned@user:*"]);
    assert_eq!(near(&explained(&engine, "doc:2#view@user:dana")), ["- doc:2#banned@user:*"]);
}

#[test]
fn conditions_and_ends_are_told_with_their_tuples() {
    let engine = TestEngine::with_schema(WORLD);
    engine.touch([
        r#"doc:1#net@user:rita[on_net:{"cidr":"10.0.0.0/8"}]"#,
        r#"doc:1#net@user:tom[divides:{"by":0}]"#,
        "doc:1#brief@user:ann[expiration:2999-01-01T00:00:00Z]",
        "doc:1#brief@user:old[expiration:2001-01-01T00:00:00Z]",
        "doc:1#owner@user:tom",
    ]);
    let conditional = explained(&engine, "doc:1#net@user:rita");
    assert_eq!((conditional.decision, conditional.missing.join(",")), (Decision::Conditional, "ip".to_owned()));
    assert_eq!(
        tree(&conditional),
        "doc:1#net CONDITIONAL\n  doc:1#net@user:rita[on_net:{\"cidr\":\"10.0.0.0/8\"}] lacks [\"ip\"] fails None CONDITIONAL"
    );
    // The relation takes no tuple without a caveat, so none is proposed.
    assert!(conditional.near_misses.is_empty() && !conditional.near_misses_cut);
    let under =
        |json: &str| Situation { context: serde_json::from_str(json).expect("a context"), ..Situation::default() };
    let denied = explain(&engine, &question("doc:1#net@user:rita"), &under(r#"{"ip":"11.0.0.1"}"#));
    assert_eq!(tree(&denied), "doc:1#net DENY\n  doc:1#net@user:rita[on_net:{\"cidr\":\"10.0.0.0/8\"}] DENY");
    let allowed = explain(&engine, &question("doc:1#net@user:rita"), &under(r#"{"ip":"10.0.0.1"}"#));
    assert_eq!(tree(&allowed), "doc:1#net ALLOW\n  doc:1#net@user:rita[on_net:{\"cidr\":\"10.0.0.0/8\"}] ALLOW");
    // Where only a failing caveat could decide, the question fails, as Check's does.
    let request = Explain {
        acting: Acting::default(),
        question: question("doc:1#net@user:tom"),
        situation: Situation::default(),
    };
    let error = refused(engine.explain(&request, &Cancel::default()), &[Kind::FailedPrecondition]);
    assert_eq!(error.reason, "CAVEAT_FAILED");
    let ends = explained(&engine, "doc:1#either@user:ann");
    assert_eq!(ends.valid_until.map(|end| end.to_string()).as_deref(), Some("2999-01-01T00:00:00Z"));
    assert!(tree(&ends).contains("doc:1#brief@user:ann[expiration:2999-01-01T00:00:00Z] ALLOW"), "{}", tree(&ends));
    // What has ended is not there; and a tuple that must have an end is proposed with one.
    let ended = explained(&engine, "doc:1#brief@user:old");
    let shown = "doc:1#brief DENY\n  unnamed DENY\n  ended doc:1#brief@user:old[expiration:2001-01-01T00:00:00Z] DENY";
    assert_eq!(tree(&ended), shown);
    let proposed = &near(&ended)[0];
    assert!(proposed.starts_with("+ doc:1#brief@user:old[expiration:"), "{proposed}");
    engine.touch([proposed.trim_start_matches("+ ")]);
    engine.assert_allows("doc:1#brief@user:old");
}

#[test]
fn a_failing_caveat_beside_what_decides_is_told() {
    let engine = TestEngine::with_schema(
        "caveat divides(by int) { 10 / by > 1 } definition user {}
        definition doc { relation a: user; relation n: user with divides; permission p = a & n }",
    );
    engine.touch([r#"doc:1#n@user:rita[divides:{"by":0}]"#]);
    let found = explained(&engine, "doc:1#p@user:rita");
    assert_eq!(found.decision, Decision::Deny);
    assert_eq!(
        tree(&found),
        "doc:1#p DENY\n  intersection DENY\n    doc:1#a DENY\n      unnamed DENY\n    doc:1#n FAILS: \
         the caveat `divides` of `doc:1#n@user:rita` cannot be evaluated: division by zero in `10 / by`"
    );
    // With the tuple the question would fail, which is no allow.
    assert!(found.near_misses.is_empty());
}

#[test]
fn cycles_end_and_each_member_is_opened_once() {
    let engine = TestEngine::with_schema(WORLD);
    engine.touch([
        "folder:a#parent@folder:b",
        "folder:b#parent@folder:a",
        "folder:a#viewer@group:g#member",
        "group:g#member@group:g#member",
    ]);
    check(
        &engine,
        "folder:a#view@user:dana",
        "
folder:a#view DENY
  union DENY
    folder:a#viewer DENY
      unnamed DENY
      folder:a#viewer@group:g#member ALLOW
        group:g#member DENY
          unnamed DENY
          group:g#member@group:g#member ALLOW
            again group:g#member DENY
    parent->view DENY
      folder:a#parent@folder:b ALLOW
        folder:b#view DENY
          union DENY
            folder:b#viewer DENY
              unnamed DENY
            parent->view DENY
              folder:b#parent@folder:a ALLOW
                again folder:a#view DENY",
        &["+ folder:a#viewer@user:dana", "+ group:g#member@user:dana", "+ folder:b#viewer@user:dana"],
    );
    // A member is shown by a proof that ends, however the allowed ones lean on each other.
    engine.touch(["folder:b#viewer@user:rita"]);
    let found = explained(&engine, "folder:a#view@user:rita");
    let leaves = found.steps.iter().filter(|step| matches!(step.part, ExplainPart::Repeated(_)));
    assert_eq!((found.decision, leaves.count()), (Decision::Allow, 0));
    check(&engine, "group:g#member@group:g#member", "group:g#member is itself ALLOW", &[]);
}

#[test]
fn a_wide_relation_shows_ten_and_counts_the_others() {
    const WIDTH: usize = 10_000;
    let engine = TestEngine::with_schema(WORLD);
    engine.touch((0..WIDTH).map(|n| format!("folder:w#viewer@group:g{n}#member")));
    engine.touch((0..WIDTH).map(|n| format!("folder:w#viewer@user:u{n}")));
    let found = explained(&engine, "folder:w#view@user:dana");
    assert_eq!((found.decision, found.truncated, found.near_misses_cut), (Decision::Deny, false, true));
    let told = tree(&found);
    assert_eq!(told.matches("folder:w#viewer@group:").count(), 10, "{told}");
    assert!(told.contains(&format!("{} more", WIDTH - 10)), "{told}");
    assert_eq!(found.near_misses.len(), 10);
    assert_eq!(near(&found)[0], "+ folder:w#viewer@user:dana");
    // The one that takes away is shown alone among the thousands, and what could still decide before what does not.
    let engine = TestEngine::with_schema(
        "caveat c(x bool) { x } definition user {}
        definition group { relation member: user | user with c }
        definition doc { relation viewer: group#member; permission view = viewer }",
    );
    engine.touch((0..WIDTH).map(|n| format!("doc:w#viewer@group:g{n}#member")));
    engine.touch([format!("group:g{}#member@user:dana[c]", WIDTH - 1)]);
    let found = explained(&engine, "doc:w#view@user:dana");
    let last = WIDTH - 1;
    assert_eq!(found.decision, Decision::Conditional);
    let first = format!("    doc:w#viewer@group:g{last}#member ALLOW\n      group:g{last}#member CONDITIONAL");
    assert!(tree(&found).contains(&format!("doc:w#viewer CONDITIONAL\n{first}")), "{}", tree(&found));
}

#[test]
fn a_deep_hierarchy_is_explained_on_a_small_stack() {
    const DEPTH: usize = 5_000;
    let engine = TestEngine::with_schema(WORLD);
    engine.touch((0..DEPTH).map(|n| format!("folder:f{n}#parent@folder:f{}", n + 1)));
    engine.touch([format!("folder:f{DEPTH}#viewer@user:rita")]);
    let explain_both = || {
        let denied = explained(&engine, "folder:f0#view@user:dana");
        assert_eq!((denied.decision, denied.truncated), (Decision::Deny, true));
        assert!((400..=1_000).contains(&denied.steps.len()), "{}", denied.steps.len());
        assert!(denied.steps.iter().any(|step| step.part == ExplainPart::Cut));
        assert_eq!((denied.near_misses.len(), denied.near_misses_cut), (10, true));
        assert_eq!(near(&denied)[9], "+ folder:f9#viewer@user:dana");
        // A proof of 15,000 steps is cut and says so; a shorter one ends with what grants.
        let allowed = explained(&engine, "folder:f0#view@user:rita");
        assert_eq!((allowed.decision, allowed.truncated), (Decision::Allow, true));
        let near_the_end = format!("folder:f{}#view@user:rita", DEPTH - 2_000);
        let allowed = explained(&engine, &near_the_end);
        assert!(!allowed.truncated);
        assert!(tree(&allowed).ends_with(&format!("folder:f{DEPTH}#viewer@user:rita ALLOW")));
    };
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().stack_size(2 << 20);
        let thread = builder.spawn_scoped(scope, explain_both).expect("a thread");
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// What Check need not ask is asked for the tree. In a knot in which conditional answers are forgotten again and again a
/// part of an expression was begun anew each time, until the budget was spent.
#[test]
fn parts_that_lean_on_a_conditional_knot_are_worked_out_once() {
    let engine = TestEngine::with_schema(
        "use self
        caveat level(have int, need int) { have >= need }
        definition user {}
        definition folder {
          relation part: folder with level
          relation banned: user with level
          permission use = part->part & part->reach
          permission view = part->edit + (banned->view + part->part + (part.all(banned) + view + banned))
          permission edit = (((self - banned) + (part.all(banned) & use)) + ((part->reach & part->use) + part +
            (use + reach + part->use))) + banned
          permission reach = (((part.all(view) & part.all(reach)) + part.all(edit) + part->use)) - part
        }",
    );
    let parts = ["a@a", "a@b", "a@c", "b@a", "b@c", "c@d", "c@b", "d@c", "d@d", "d@b"];
    engine.touch(parts.map(|pair| {
        let (of, part) = pair.split_once('@').expect("a pair");
        format!("folder:{of}#part@folder:{part}[level]")
    }));
    engine.touch(["a", "b", "d", "c"].map(|folder| format!("folder:{folder}#banned@user:dana[level]")));
    for (folder, permission) in ["a", "b", "c", "d"].into_iter().flat_map(|f| [(f, "use"), (f, "reach"), (f, "view")]) {
        let found = explained(&engine, &format!("folder:{folder}#{permission}@user:dana"));
        let is_full = found.steps.len() >= Limits::default().explain_steps_max;
        assert!(!found.truncated || is_full, "folder:{folder}#{permission}\n{}", tree(&found));
    }
}

// ---- near misses ----

const NEAR: &str = "use expiration
use hierarchy
caveat on(flag bool) { flag }
definition user {}
definition group { relation member: user | group#member }
definition folder {
  relation viewer: user | group#member | user with expiration | group#member with on and expiration
  relation open: user:* | user with on
  relation parent: folder
  permission view = viewer + parent->view
}
definition doc {
  relation parent: folder | folder with expiration
  parent place: folder
  relation viewer: user | user:*
  relation link: user:*
  permission view = viewer + parent->view
  permission placed = place->view
  permission linked = link
  permission every = parent.all(view)
}";

#[test]
fn near_misses_are_the_narrowest_that_help() {
    let engine = TestEngine::with_schema(NEAR);
    engine.touch(["doc:1#viewer@user:tom", "folder:a#viewer@group:g#member", "group:g#member@group:h#member"]);
    let near_of = |asked: &str| near(&explained(&engine, asked));
    // The subject itself, and never everybody, where it may be named.
    assert_eq!(near_of("doc:1#viewer@user:rita"), ["+ doc:1#viewer@user:rita"]);
    assert_eq!(near_of("doc:1#linked@user:rita"), ["+ doc:1#link@user:*"]);
    // It may be named with a caveat only, so what can be written as it is told is for everybody.
    assert_eq!(near_of("folder:a#open@user:rita"), ["+ folder:a#open@user:*"]);
    // A userset is not everybody.
    assert!(near_of("doc:1#linked@group:g#member").is_empty());
    // Membership of a group that stands there, and of a group in it.
    let groups = ["+ folder:a#viewer@user:rita", "+ group:g#member@user:rita", "+ group:h#member@user:rita"];
    assert_eq!(near_of("folder:a#view@user:rita"), groups);
}

#[test]
fn a_place_that_the_subject_reaches_already_is_a_near_miss() {
    let engine = TestEngine::with_schema(NEAR);
    engine.touch([
        "group:g#member@user:rita",
        "folder:team#viewer@group:g#member",
        "folder:sub#parent@folder:team",
        "folder:other#viewer@user:tom",
        "folder:deep#viewer@user:rita",
        "folder:far#viewer@user:rita",
        "doc:2#parent@folder:other",
    ]);
    let near_of = |asked: &str| near(&explained(&engine, asked));
    let found = near_of("doc:1#view@user:rita");
    let [own, places @ ..] = &found[..] else { panic!("none") };
    assert_eq!(own, "+ doc:1#viewer@user:rita");
    // A few of the four are enough, and each lets her in.
    assert_eq!(places.len(), 3);
    for place in places {
        let folder = place.strip_prefix("+ doc:1#parent@folder:").unwrap_or_else(|| panic!("{place}"));
        assert!(["team", "sub", "deep", "far"].contains(&folder), "{place}");
    }
    // What names her comes first, here and beneath the arrow.
    let found = near_of("doc:2#view@user:rita");
    assert_eq!(found[..2], ["+ doc:2#viewer@user:rita", "+ folder:other#viewer@user:rita"]);
    assert!(found[2..5].iter().all(|near| near.starts_with("+ doc:2#parent@folder:")), "{found:?}");
    assert!(found[5..].iter().all(|near| near.starts_with("+ folder:other#parent@folder:")), "{found:?}");
    assert_eq!(found.len(), 8);
    // Where every place must let her in, one more is of no use, but where there is none, the first is.
    let found = near_of("doc:2#every@user:rita");
    assert_eq!((&*found[0], found.len()), ("+ folder:other#viewer@user:rita", 4));
    assert!(found[1..].iter().all(|near| near.starts_with("+ folder:other#parent@folder:")), "{found:?}");
    assert_eq!(near_of("doc:1#every@user:rita").len(), 3);
    // Nobody is moved in the hierarchy; and who reaches nothing has no place.
    assert!(near_of("doc:1#placed@user:rita").is_empty());
    assert_eq!(near_of("doc:1#view@user:zoe"), ["+ doc:1#viewer@user:zoe"]);
}

#[test]
fn what_has_ended_is_shown_and_renewed_where_that_allows() {
    let engine = TestEngine::with_schema(NEAR);
    let ended = "[expiration:2001-01-01T00:00:00Z]";
    engine.touch([
        "group:g#member@user:rita".to_owned(),
        format!("folder:a#viewer@group:g#member[on]{ended}"),
        format!("folder:a#viewer@group:none#member[on]{ended}"),
        format!("folder:b#viewer@user:rita{ended}"),
        format!("doc:1#parent@folder:c{ended}"),
        "folder:c#viewer@user:rita".to_owned(),
    ]);
    let under = |json: &str| Situation { context: serde_json::from_str(json).unwrap(), ..Situation::default() };
    let found = explain(&engine, &question("folder:a#viewer@user:rita"), &under(r#"{"flag":true}"#));
    let due = "
folder:a#viewer DENY
  unnamed DENY
  ended folder:a#viewer@group:g#member[on][expiration:2001-01-01T00:00:00Z] DENY
  ended folder:a#viewer@group:none#member[on][expiration:2001-01-01T00:00:00Z] DENY";
    assert_eq!(tree(&found), due.trim_matches('\n'));
    let found = near(&found);
    let [own, renewed] = &found[..] else { panic!("{found:?}") };
    assert_eq!(own, "+ folder:a#viewer@user:rita");
    assert!(renewed.starts_with("+ folder:a#viewer@group:g#member[on][expiration:20"), "{renewed}");
    // With its caveat false, or not known, a renewal would not allow.
    for context in [r#"{"flag":false}"#, "{}"] {
        let found = explain(&engine, &question("folder:a#viewer@user:rita"), &under(context));
        assert_eq!(near(&found), ["+ folder:a#viewer@user:rita"], "{context}");
    }
    // Her own is renewed for an hour rather than written for ever.
    let found = near(&explained(&engine, "folder:b#viewer@user:rita"));
    let [own] = &found[..] else { panic!("{found:?}") };
    assert!(own.starts_with("+ folder:b#viewer@user:rita[expiration:20"), "{own}");
    // So is a place that she had.
    let found = explained(&engine, "doc:1#every@user:rita");
    let shown = "
doc:1#every DENY
  parent.all(view) DENY
    empty DENY
    ended doc:1#parent@folder:c[expiration:2001-01-01T00:00:00Z] DENY";
    assert_eq!(tree(&found), shown.trim_matches('\n'));
    assert!(near(&found)[0].starts_with("+ doc:1#parent@folder:c[expiration:20"), "{:?}", near(&found));
    engine.touch([near(&found)[0].trim_start_matches("+ ")]);
    engine.assert_allows("doc:1#every@user:rita");
}

// ---- bounds ----

#[test]
fn what_is_spent_cuts_the_reasons_and_never_the_decision() {
    let limits = |edges_max| Limits { edges_max, ..Limits::default() };
    let mut engine = TestEngine::with_schema(WORLD);
    engine.touch((0..1_000).map(|n| format!("folder:w#viewer@group:g{n}#member")));
    // So that the groups may lead on, and each must be looked at.
    engine.touch(["group:aside#member@user:dana", "group:g0#member@group:other#member"]);
    let asked = question("folder:w#view@user:dana");
    let cost = engine.check(&asked, &CheckOptions::default()).expect("an answer").answer.edges;
    engine.reopen_with(limits(cost));
    let found = explain(&engine, &asked, &Situation::default());
    assert_eq!((found.decision, found.truncated, found.near_misses_cut), (Decision::Deny, true, true));
    assert!(found.steps.iter().any(|step| step.part == ExplainPart::Cut));
    engine.reopen_with(limits(cost - 1));
    let request = Explain { acting: Acting::default(), question: asked, situation: Situation::default() };
    let error = refused(engine.explain(&request, &Cancel::default()), &[Kind::ResourceExhausted]);
    assert_eq!(error.reason, "EDGES_SPENT");
    let cancel = Cancel::default();
    cancel.set();
    engine.reopen_with(limits(1_000_000));
    refused(engine.explain(&request, &cancel), &[Kind::Cancelled]);
}

#[test]
fn steps_and_tries_have_limits_of_their_own() {
    let limits = Limits {
        explain_steps_max: 6,
        explain_rows_max: 2,
        near_misses_max: 3,
        proof_steps_max: 3,
        ..Limits::default()
    };
    let engine = TestEngine::with_limits(limits);
    engine.schema(WORLD);
    engine.touch((0..5).map(|n| format!("folder:w#viewer@group:g{n}#member")));
    engine.touch(["group:g0#member@user:rita"]);
    let found = explained(&engine, "folder:w#viewer@user:dana");
    assert_eq!(
        tree(&found),
        "folder:w#viewer DENY\n  unnamed DENY\n  folder:w#viewer@group:g0#member ALLOW\n    group:g0#member DENY\n      \
         cut\n  folder:w#viewer@group:g1#member ALLOW\n    group:g1#member DENY\n      cut\n  cut"
    );
    assert!(found.truncated);
    assert_eq!(near(&found).len(), 3);
    assert!(found.near_misses_cut);
    let found = explained(&engine, "folder:w#view@user:rita");
    assert_eq!(found.steps.last().map(|step| step.part.clone()), Some(ExplainPart::Cut));
    assert_eq!((found.decision, found.steps.len(), found.truncated), (Decision::Allow, 4, true));
    // All that was tried in vain counts.
    let limits = Limits { near_misses_tried_max: 3, ..Limits::default() };
    let engine = TestEngine::with_limits(limits);
    engine.schema(WORLD);
    engine.touch((0..5).map(|n| format!("folder:w#viewer@group:g{n}#member")));
    engine.touch(["doc:1#folder@folder:w", "doc:1#owner@user:dana", "doc:1#banned@user:dana"]);
    let engine_cut = explained(&engine, "folder:w#view@user:dana");
    assert_eq!((near(&engine_cut).len(), engine_cut.near_misses_cut), (3, true));
}

// ---- under a situation ----

#[test]
fn contextual_tuples_are_shown_and_not_proposed_again() {
    let engine = TestEngine::with_schema(WORLD);
    engine.touch(["doc:1#owner@user:rita"]);
    let situation = Situation {
        contextual_tuples: vec![tuple("doc:1#banned@user:rita"), tuple("doc:1#folder@folder:new")],
        ..Situation::default()
    };
    let found = explain(&engine, &question("doc:1#view@user:rita"), &situation);
    assert!(tree(&found).contains("doc:1#banned@user:rita ALLOW"), "{}", tree(&found));
    // It is not stored: nothing that could be deleted would help.
    assert!(found.near_misses.is_empty(), "{:?}", near(&found));
    let found = explain(&engine, &question("doc:1#up@user:rita"), &situation);
    assert_eq!(near(&found), ["+ folder:new#viewer@user:rita"]);
    // One that the request lays over the key counts, whatever were written there.
    let laid = Situation {
        contextual_tuples: vec![tuple(r#"doc:1#net@user:rita[on_net:{"cidr":"10.0.0.0/8"}]"#)],
        context: serde_json::from_str(r#"{"ip":"11.0.0.1"}"#).expect("a context"),
        ..Situation::default()
    };
    let engine = TestEngine::with_schema(&WORLD.replace("user with on_net |", "user | user with on_net |"));
    let found = explain(&engine, &question("doc:1#net@user:rita"), &laid);
    assert_eq!((found.decision, near(&found).len()), (Decision::Deny, 0));
    let stored = Situation { contextual_tuples: Vec::new(), ..laid };
    engine.touch([r#"doc:1#net@user:rita[on_net:{"cidr":"10.0.0.0/8"}]"#]);
    let found = explain(&engine, &question("doc:1#net@user:rita"), &stored);
    // Written without its caveat it would allow, in the place of the one that stands.
    assert_eq!(near(&found), ["+ doc:1#net@user:rita"]);
}

#[test]
fn the_past_is_explained_as_it_was() {
    let engine = TestEngine::with_schema(WORLD);
    engine.touch(["doc:1#owner@user:rita"]);
    let then = engine.token_now();
    engine.update(vec![update(UpdateKind::Delete, "doc:1#owner@user:rita")]);
    let past = Situation::at(procura::model::Consistency::AtExactSnapshot(then));
    let found = explain(&engine, &question("doc:1#owner@user:rita"), &past);
    assert_eq!((found.decision, found.historical, found.revision), (Decision::Allow, true, then.revision));
    let found = explained(&engine, "doc:1#owner@user:rita");
    assert_eq!((found.decision, found.historical), (Decision::Deny, false));
}

#[test]
fn a_place_in_the_hierarchy_is_never_proposed() {
    let engine = TestEngine::with_schema(
        "use hierarchy
        definition folder { parent up: folder; permission above = up + up->above }",
    );
    engine.touch(["folder:a#up@folder:b"]);
    let found = explained(&engine, "folder:b#above@folder:a");
    assert_eq!((found.decision, near(&found).len()), (Decision::Deny, 0));
}
