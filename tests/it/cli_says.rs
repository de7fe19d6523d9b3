//! What the command line says, to people and to programs: notes, hints, errors, and where a list was cut.

use crate::cli::{Server, code, json_lines, run, stderr, stdout};
use serde_json::{Value, json};

const SCHEMA: &str = "\
use hierarchy
use expiration

caveat on_net(ip ipaddress, cidr string) { ip.in_cidr(cidr) }
definition user {}
definition folder {
  parent up: folder
  relation viewer: user
}
definition doc {
  relation viewer: user | user with on_net | user with expiration
  relation banned: user
  permission view = viewer - banned
  permission share = banned
}
";

fn world(tuples: &[&str]) -> Server {
    let server = Server::start();
    let written = server.ask_with_stdin(&["schema", "write", "-"], SCHEMA);
    assert_eq!(code(&written), 0, "{}", stderr(&written));
    let written = server.ask_with_stdin(&["tuple", "write", "-"], &tuples.join("\n"));
    assert_eq!(code(&written), 0, "{}", stderr(&written));
    server
}

fn error(text: &str) -> Value {
    json_lines(text)[0]["error"].clone()
}

#[test]
fn wrong_arguments_are_json_where_json_is_asked_for() {
    for (arguments, message) in [
        (vec!["--json", "check", "--explian", "doc:1#view@user:rita"], "unexpected argument '--explian' found"),
        (vec!["list", "resources", "--limit", "zwölf", "--json"], "invalid value 'zwölf' for '--limit <N>'"),
        (vec!["tuple", "--json"], "requires a subcommand"),
        (vec!["--json", "check", "dök:1#view@user:rita"], "not well formed"),
        (vec!["--json", "check", "dök"], "`dök`"),
        (vec!["--json", "check", "doc:1#view@user:rita", "--context", "{\"ä\": ü}"], "`--context {\"ä\": ü}`"),
        (vec!["--json", "check", "doc:1#view@user:rita", "--contextual-tuple", "bad"], "not well formed"),
    ] {
        let output = run(arguments.iter().copied());
        assert_eq!((code(&output), stdout(&output).as_str()), (2, ""), "{arguments:?}");
        let said = error(&stderr(&output));
        assert_eq!(said["exit"], 2);
        assert!(said["message"].as_str().expect("text").contains(message), "{said}");
    }
    // For people it is as ever; and help is no error.
    assert!(stderr(&run(["check", "--explian"])).starts_with("error: unexpected argument"));
    assert!(stdout(&run(["--json", "check", "--help"])).contains("Usage: procura check"));
    let bad = run(["check", "doc:1#view@user:rita", "--contextual-tuple", "bad"]);
    assert!(stderr(&bad).contains("argument:1:4") && stderr(&bad).contains("a tuple is `type:id"), "{}", stderr(&bad));
}

#[test]
fn a_list_that_was_cut_says_where_to_go_on() {
    let server = world(&["doc:1#viewer@user:rita", "doc:2#viewer@user:rita", "doc:3#viewer@user:rita"]);
    for asked in [
        vec!["list", "resources", "doc#view@user:rita"],
        vec!["tuple", "read", "--object-type", "doc"],
        vec!["tuple", "read", "--object", "doc"],
    ] {
        let ask = |more: &[&str]| {
            let output = server.ask(asked.iter().chain(more).copied());
            assert_eq!(code(&output), 0, "{}", stderr(&output));
            (stdout(&output), stderr(&output))
        };
        let cut = json_lines(&ask(&["--limit", "2", "--json"]).0);
        assert_eq!((cut.len(), &cut[2]["more"], &cut[2]["cursor"]), (3, &json!(true), &cut[1]["cursor"]), "{cut:?}");
        let cursor = cut[2]["cursor"].as_str().expect("a cursor");
        assert_eq!(json_lines(&ask(&["--limit", "2", "--json", "--cursor", cursor]).0).len(), 1);
        // All of it is there: nothing was cut.
        assert_eq!(json_lines(&ask(&["--limit", "3", "--json"]).0).len(), 3);
        assert!(ask(&["--limit", "2"]).1.contains("go on with --cursor"));
        assert_eq!(ask(&["--limit", "3"]).1, "");
    }
}

#[test]
fn a_deletion_that_stopped_at_its_limit_says_so() {
    let server = world(&["doc:1#viewer@user:rita", "doc:2#viewer@user:rita", "doc:3#viewer@user:rita"]);
    for more in [true, false] {
        let deleted = server.ask(["--json", "tuple", "delete", "--object", "doc", "--limit", "2"]);
        assert_eq!(json_lines(&stdout(&deleted))[0]["more"], more);
    }
}

#[test]
fn what_was_deleted_is_told_from_what_was_not_there() {
    let server = world(&["doc:1#viewer@user:rita", "doc:2#viewer@user:rita"]);
    let written = server.ask(["--json", "tuple", "write", "doc:1#viewer@user:rita", "doc:3#viewer@user:rita"]);
    let written = &json_lines(&stdout(&written))[0];
    assert_eq!((&written["written"], &written["created"], &written["replaced"]), (&json!(2), &json!(1), &json!(1)));
    let deleted = server.ask(["tuple", "delete", "doc:1#viewer@user:rita", "doc:9#viewer@user:rita"]);
    assert!(stdout(&deleted).starts_with("deleted 1 tuple; 1 was not there\ntoken "), "{}", stdout(&deleted));
    let deleted = server.ask(["--json", "tuple", "delete", "doc:2#viewer@user:rita", "doc:3#viewer@user:rita"]);
    let deleted = &json_lines(&stdout(&deleted))[0];
    assert_eq!((&deleted["deleted"], &deleted["absent"]), (&json!(2), &json!(0)));
}

#[test]
fn a_precondition_that_does_not_hold_is_named() {
    let server = world(&["doc:1#viewer@user:rita"]);
    let unmet = |arguments: &[&str], said: &str| {
        let output = server.ask(arguments.iter().copied());
        assert_eq!(code(&output), 4, "{}", stdout(&output));
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
    };
    let (there, absent) = ("doc:1#viewer@user:rita", "doc:1#viewer@user:tom");
    let write = ["tuple", "write", "doc:2#viewer@user:rita"];
    unmet(
        &[&write[..], &["--must-match", there, "--must-match", absent]].concat(),
        "preconditions[1] does not hold: `doc:1#viewer@user:tom` must match a live tuple, and none does",
    );
    unmet(
        &["tuple", "delete", "--object", "doc", "--must-not-match", there],
        "preconditions[0] does not hold: `doc:1#viewer@user:rita` must match no live tuple, and one does",
    );
    unmet(&["tuple", "replace", "doc:2#viewer", "user:tom", "--must-match", absent], "`doc:1#viewer@user:tom`");
    assert_eq!(code(&run(["tuple", "write", "a:1#b@c:1", "--must-match", "bad"])), 2);
}

#[test]
fn permissions_are_shown_by_their_decision() {
    let server = world(&[r#"doc:1#viewer@user:rita[on_net:{"cidr":"10.0.0.0/8"}]"#, "doc:1#banned@user:tom"]);
    let shown = |subject: &str, more: &[&str]| {
        let output = server.ask(["--json", "list", "permissions", "doc:1", subject].iter().chain(more).copied());
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        let names: Vec<String> =
            json_lines(&stdout(&output)).iter().map(|row| row["name"].as_str().expect("a name").to_owned()).collect();
        names.join(" ")
    };
    assert_eq!(shown("user:rita", &[]), "viewer banned view share");
    let row = server.ask(["--json", "list", "permissions", "doc:1", "user:rita"]);
    assert_eq!(json_lines(&stdout(&row))[0]["missing_context"], json!(["ip"]));
    let row = server.ask(["--json", "list", "resources", "doc", "view", "user:rita"]);
    assert_eq!(json_lines(&stdout(&row))[0]["missing_context"], json!(["ip"]));
    assert_eq!(shown("user:rita", &["--allowed"]), "");
    assert_eq!(shown("user:rita", &["--conditional"]), "viewer view");
    assert_eq!(shown("user:tom", &["--allowed"]), "banned share");
    assert_eq!(shown("user:tom", &["--conditional"]), "");
    assert_eq!(shown("user:tom", &["--allowed", "--conditional"]), "banned share");
}

#[test]
fn a_path_shows_caveats_and_ends() {
    let server = world(&[
        r#"doc:1#viewer@user:rita[on_net:{"cidr":"10.0.0.0/8"}]"#,
        "doc:1#viewer@user:dana[expiration:2030-01-01T00:00:00Z]",
    ]);
    let line = |question: &str| {
        stdout(&server.ask(["check", question, "--explain=line", "--context", r#"{"ip":"10.1.1.1"}"#]))
    };
    let (rita, dana) = (line("doc:1#view@user:rita"), line("doc:1#view@user:dana"));
    assert!(rita.contains(r#"because doc:1#viewer@user:rita[on_net:{"cidr":"10.0.0.0/8"}]"#), "{rita}");
    assert!(dana.contains("because doc:1#viewer@user:dana[expiration:2030-01-01T00:00:00Z]"), "{dana}");
}

#[test]
fn a_test_that_fails_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("world.yaml");
    std::fs::write(folder.path().join("schema.zed"), SCHEMA).expect("written");
    let tuples = "  doc:1#viewer@user:rita[on_net:{\"cidr\":\"10.0.0.0/8\"}]\n  doc:1#viewer@user:tom\n  doc:1#banned@user:tom\n";
    let assertions = "assertions:\n  assertTrue:\n    - doc:1#view@user:rita\n    - doc:1#view@user:tom\n    \
                      - doc:1#veiw@user:tom\n  assertFalse:\n    - 'doc:1#view@user:rita with {\"ip\": \"10.1.1.1\"}'\n";
    std::fs::write(&path, format!("schemaFile: schema.zed\nrelationships: |-\n{tuples}{assertions}")).expect("written");
    for place in [&[] as &[&str], &["--server", "spawn"]] {
        let arguments: Vec<&str> = ["test", path.to_str().expect("UTF-8")].iter().chain(place).copied().collect();
        let output = run(arguments.iter().copied());
        assert_eq!(code(&output), 1);
        let said = stdout(&output);
        for expected in [
            "expected ALLOW, got CONDITIONAL (needs ip)",
            "expected ALLOW, got DENY\n      because doc:1#banned takes it away: doc:1#banned@user:tom\n",
            "[UNKNOWN_RELATION]",
            "doc:1#viewer@user:rita[on_net:{\"cidr\":\"10.0.0.0/8\"}]\n",
        ] {
            assert!(said.contains(expected), "{expected}: {said}");
        }
        let output = run(arguments.iter().copied().chain(["--json"]));
        let failures = json_lines(&stdout(&output))[0]["failures"].clone();
        assert_eq!(failures[0]["missing_context"], json!(["ip"]));
        assert_eq!(failures[1]["taken_away"][0]["by"], "doc:1#banned");
        assert_eq!(failures[2]["reason"], "UNKNOWN_RELATION");
    }
}

/// An id stands in the list only if it is allowed; what is open or fails is told beside it.
#[test]
fn a_filter_prints_what_is_allowed_and_tells_the_rest_beside_it() {
    let server = world(&[
        "doc:b#viewer@user:rita",
        "doc:a#viewer@user:rita",
        r#"doc:c#viewer@user:rita[on_net:{"cidr":"10.0.0.0/8"}]"#,
        "doc:d#viewer@user:dana",
    ]);
    let output = server.ask(["filter", "doc", "view", "user:rita", "d", "a", "c", "none", "b"]);
    assert_eq!((code(&output), stdout(&output).as_str()), (0, "a\nb\n"), "{}", stderr(&output));
    assert_eq!(stderr(&output), "1 of 5 ids hang on context that was not given: --context with ip\n");
    let piped = server.ask_with_stdin(&["filter", "doc", "view", "user:rita", "-"], "b\n\n// a comment\n d \na\n");
    assert_eq!((code(&piped), stdout(&piped).as_str()), (0, "b\na\n"), "{}", stderr(&piped));
    let json = server.ask(["--json", "filter", "doc", "view", "user:rita", "c", "a", "d"]);
    let columns = &json_lines(&stdout(&json))[0];
    assert_eq!(columns["ids"], json!(["c", "a", "d"]));
    assert_eq!(columns["decisions"], json!(["CONDITIONAL", "ALLOW", "DENY"]));
    assert_eq!(columns["missing_context"], json!([{"index": 0, "fields": ["ip"]}]));
    assert_eq!(columns["errors"], json!([]));
    let failing = ["filter", "doc", "view", "user:rita", "a", "c", "--context", r#"{"ip": "much"}"#];
    let failed = server.ask(failing);
    assert_eq!((code(&failed), stdout(&failed).as_str()), (4, "a\n"), "{}", stderr(&failed));
    assert!(stderr(&failed).contains("ERROR c: ") && stderr(&failed).contains("CAVEAT_FAILED]"), "{}", stderr(&failed));
    let failed = server.ask(std::iter::once("--json").chain(failing));
    let columns = &json_lines(&stdout(&failed))[0];
    assert_eq!(columns["decisions"], json!(["ALLOW", null]));
    assert_eq!(
        (&columns["errors"][0]["index"], &columns["errors"][0]["error"]["reason"]),
        (&1.into(), &"CAVEAT_FAILED".into())
    );
    let wrong = server.ask(["filter", "doc", "view", "user:rita", "a", "b c"]);
    assert_eq!((code(&wrong), stdout(&wrong).as_str()), (2, ""));
    assert!(stderr(&wrong).contains("argument:2:2"), "{}", stderr(&wrong));
}

#[test]
fn what_would_do_nothing_is_noted() {
    let server = world(&["doc:1#viewer@user:rita", "folder:a#up@folder:b", "folder:a#viewer@user:rita"]);
    let noted = |arguments: &[&str]| {
        let output = server.ask(arguments.iter().copied());
        stderr(&output)
    };
    let of_doc = noted(&["list", "resources", "doc", "view", "user:rita", "--within", "folder:b"]);
    assert!(of_doc.contains("`doc` has no `parent` in the schema, so none of it lies within `folder:b`"), "{of_doc}");
    for asked in [
        &["list", "resources", "doc", "view", "user:rita", "--within", "doc:1"][..],
        &["tuple", "read", "--within", "doc:1"],
        &["tuple", "export", "--within", "doc:1"],
        &["tuple", "delete", "--dry-run", "--within", "doc:1"],
    ] {
        let said = noted(asked);
        assert!(said.contains("no `parent` of the schema leads to `doc`"), "{asked:?}: {said}");
    }
    for asked in [
        &["list", "resources", "folder", "viewer", "user:rita", "--within", "folder:b"][..],
        &["tuple", "read", "--within", "folder:b"],
        &["--json", "tuple", "read", "--within", "doc:1"],
        &["check", "doc:1#view@user:rita", "--context", r#"{"ip":"10.1.1.1"}"#],
    ] {
        assert_eq!(noted(asked), "", "{asked:?}");
    }
    let said = noted(&["check", "doc:1#view@user:rita", "--context", r#"{"cird":"10.0.0.0/8","x":1}"#]);
    assert!(said.contains("has a parameter `cird`, so its value is ignored; did you mean `cidr`?"), "{said}");
    assert!(said.contains("has a parameter `x`, so its value is ignored\n"), "{said}");
}

#[test]
fn a_likely_fix_is_told_in_bulk_and_in_an_import() {
    let server = world(&["doc:1#viewer@user:rita"]);
    let output = server.ask(["check", "doc:1#view@user:rita", "doc:1#veiw@user:rita"]);
    assert_eq!(code(&output), 4);
    assert!(stdout(&output).contains("hint: did you mean `view`?"), "{}", stdout(&output));
    let output = server.ask(["--json", "check", "doc:1#view@user:rita", "doc:1#veiw@user:rita"]);
    assert_eq!(json_lines(&stdout(&output))[1]["error"]["hint"], "did you mean `view`?");
    let output = server.ask_with_stdin(&["tuple", "import", "-"], "doc:1#viewer@user:a\ndoc:1#viewr@user:b\n");
    let said = stderr(&output);
    assert!(said.contains("did you mean `viewer`?; when that is mended, go on with --offset 0"), "{said}");
}

#[test]
fn a_stored_context_that_cannot_be_used_is_refused_with_its_line() {
    let server = world(&["doc:1#viewer@user:rita"]);
    let junk = r#"doc:1#viewer@user:tom[on_net:{"cidr":"junk"}]"#;
    let output = server.ask(["tuple", "write", "doc:2#viewer@user:tom", junk]);
    assert_eq!(code(&output), 4);
    let said = stderr(&output);
    assert!(said.contains("updates[1].tuple") && said.contains("`address/bits`"), "{said}");
    assert!(said.contains("FAILED_PRECONDITION"), "{said}");
}
