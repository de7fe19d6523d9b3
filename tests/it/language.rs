//! What the schema language means once tuples stand under it: `self`, forms with an expiration, partials, parents.

use crate::engines::{TestEngine, question, refused, schema_request, told};
use procura::engine::{CheckOptions, Kind, WriteSchema};
use procura::model::UpdateKind;

#[test]
fn self_is_the_plain_object_itself() {
    let engine = TestEngine::with_schema(
        "use self
         definition user { permission me = self; permission other = everybody - self; relation everybody: user:* }
         definition team { relation member: user; permission me = self; permission all = member + self }
         definition doc { relation author: user; relation team: team; permission view = author->me + team->all }",
    );
    engine.touch([
        "doc:1#author@user:rita",
        "doc:1#team@team:t",
        "team:t#member@user:dana",
        "user:rita#everybody@user:*",
    ]);
    for (asked, allowed) in [
        ("user:rita#me@user:rita", true),
        ("user:rita#me@user:dana", false),
        // The same id of another type is another object, and so is the first of each type.
        ("user:t#me@team:t", false),
        ("user:rita#me@team:t", false),
        ("team:t#me@team:t", true),
        ("team:t#me@team:t#member", false),
        ("team:t#me@team:t#...", true),
        // Nobody ever mentioned them.
        ("user:new#me@user:new", true),
        ("user:new#me@user:newer", false),
        // Itself, a userset always is; that is not what `self` says.
        ("team:t#me@team:t#me", true),
        ("team:t#all@team:t", true),
        ("team:t#all@team:u", false),
        ("team:t#all@team:t#me", false),
        ("user:rita#other@user:dana", true),
        ("user:rita#other@user:rita", false),
        ("doc:1#view@user:rita", true),
        ("doc:1#view@user:dana", true),
        ("doc:1#view@team:t", true),
        ("doc:1#view@user:tom", false),
    ] {
        if allowed {
            engine.assert_allows(asked);
        } else {
            engine.assert_denies(asked);
        }
    }
    // A path is told even where nothing but itself leads there.
    let options = CheckOptions { explain: true, ..CheckOptions::default() };
    engine.check(&question("user:new#me@user:new"), &options).unwrap_or_else(|error| panic!("{}", told(&error)));
}

#[test]
fn a_form_with_an_expiration_is_a_form_of_its_own() {
    let text = "use expiration
        definition user {}
        definition doc { relation guest: user with expiration | user:*; relation both: user | user with expiration }";
    let engine = TestEngine::with_schema(text);
    let ends = "[expiration:2999-01-01T00:00:00Z]";
    let kinds = [Kind::FailedPrecondition];
    for (tuple, form) in [
        ("doc:1#guest@user:rita".to_owned(), "`user`"),
        (format!("doc:1#guest@user:*{ends}"), "`user:* with expiration`"),
    ] {
        let error = refused(engine.try_update(UpdateKind::Touch, &tuple), &kinds);
        assert_eq!(error.reason, "SUBJECT_NOT_ALLOWED");
        assert!(error.message.contains(form), "{}", error.message);
        assert_eq!(error.hint.as_deref(), Some("it takes `user with expiration`, `user:*`"));
    }
    engine.touch([
        format!("doc:1#guest@user:rita{ends}"),
        "doc:1#guest@user:dana[expiration:2001-01-01T00:00:00Z]".to_owned(),
        "doc:1#both@user:rita".to_owned(),
        format!("doc:1#both@user:dana{ends}"),
    ]);
    engine.assert_allows("doc:1#guest@user:rita");
    engine.assert_denies("doc:1#guest@user:dana");
    // Only the form that goes stands against the change, with a tuple of it.
    let narrower = text.replace("both: user | user with expiration", "both: user");
    let dry = WriteSchema { dry_run: true, ..schema_request(&narrower) };
    let impact = engine.write_schema(dry).unwrap().impact;
    assert_eq!(impact.len(), 1, "{impact:?}");
    assert_eq!((impact[0].form.as_str(), impact[0].count), ("user with expiration", 1));
    assert_eq!(impact[0].sample.as_ref().map(ToString::to_string).as_deref(), Some("doc:1#both@user:dana"));
    refused(engine.try_schema(&narrower), &kinds);
    engine.try_update(UpdateKind::Delete, "doc:1#both@user:dana").unwrap();
    engine.schema(&narrower);
    engine.assert_allows("doc:1#both@user:rita");
}

#[test]
fn a_caveat_that_does_not_fit_is_refused_by_name() {
    let engine = TestEngine::with_schema(
        "caveat at_work(hour int) { hour > 8 }
         caveat other(city string) { city == 'Rome' }
         definition user {}
         definition doc { relation guest: user with at_work }",
    );
    for (tuple, reason) in [
        ("doc:1#guest@user:rita[at_wrk]", "UNKNOWN_CAVEAT"),
        ("doc:1#guest@user:rita", "SUBJECT_NOT_ALLOWED"),
        ("doc:1#guest@user:rita[other]", "SUBJECT_NOT_ALLOWED"),
        ("doc:1#guest@user:rita[at_work:{\"our\": 9}]", "CAVEAT_CONTEXT_NOT_ALLOWED"),
        ("doc:1#guest@user:rita[at_work:{\"hour\": true}]", "CAVEAT_CONTEXT_NOT_ALLOWED"),
    ] {
        let error = refused(engine.try_update(UpdateKind::Touch, tuple), &[Kind::FailedPrecondition]);
        assert_eq!(error.reason, reason, "{tuple}: {}", told(&error));
    }
}

#[test]
fn partials_and_parents_answer_like_what_they_stand_for() {
    let engine = TestEngine::with_schema(
        "use partial
         use hierarchy
         use typechecking
         definition user {}
         partial viewed { relation viewer: user; permission view: user = viewer + above->view }
         definition folder { parent above: folder; ...viewed }
         definition doc { parent above: folder; ...viewed }",
    );
    engine.touch(["folder:top#viewer@user:rita", "folder:in#above@folder:top", "doc:1#above@folder:in"]);
    engine.assert_allows("doc:1#view@user:rita");
    engine.assert_denies("doc:1#view@user:dana");
    engine.assert_verified();
}

#[test]
fn a_server_reads_no_files() {
    let engine = TestEngine::new();
    let text = "use import\nimport \"/etc/passwd\"\ndefinition user {}";
    let error = refused(engine.try_schema(text), &[Kind::InvalidArgument]);
    assert_eq!((error.diagnostics.len(), error.diagnostics[0].line), (1, 2), "{}", told(&error));
}
