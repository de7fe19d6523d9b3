//! The command line as a person or a script meets it: the real binary, its output and its exit codes.

use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

pub fn procura() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_procura"));
    command.env_remove("PROCURA_SERVER").env("NO_COLOR", "1").env("PROCURA_LOG", "warn");
    command
}

pub fn run<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Output {
    procura().args(arguments).output().expect("the binary runs")
}

pub fn code(output: &Output) -> i32 {
    output.status.code().expect("it ended by itself")
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

pub fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn examples(extension: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema-examples");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("schema-examples")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    files
}

/// A server of the real binary on a free port; ended when dropped.
pub struct Server {
    child: Child,
    address: String,
    _data: tempfile::TempDir,
}

impl Server {
    pub fn start() -> Server {
        Server::start_with(&[])
    }

    pub fn start_with(more: &[&str]) -> Server {
        let data = tempfile::tempdir().expect("a folder");
        let mut child = procura()
            .args(["--json", "serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data.path())
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("the ready line");
        let ready: Value = serde_json::from_str(&line).expect("JSON");
        let address = ready["address"].as_str().expect("an address").to_owned();
        Server { child, address, _data: data }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn ask<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Output {
        procura().env("PROCURA_SERVER", &self.address).args(arguments).output().expect("the binary runs")
    }

    pub fn ask_with_stdin(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = procura()
            .env("PROCURA_SERVER", format!("http://{}", self.address))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads");
        child.wait_with_output().expect("it ends")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn all_examples_pass_and_are_counted() {
    let files = examples("yaml");
    assert!(files.len() >= 7, "{files:?}");
    let output = procura().arg("test").args(&files).output().expect("the binary runs");
    assert_eq!(code(&output), 0, "{}{}", stdout(&output), stderr(&output));
    let last = stdout(&output).lines().last().map(str::to_owned);
    assert_eq!(last, Some(format!("{} passed, 0 failed", files.len())));
}

#[test]
fn the_examples_pass_over_grpc_too() {
    let output =
        procura().args(["test", "--server", "spawn"]).args(examples("yaml")).output().expect("the binary runs");
    assert_eq!(code(&output), 0, "{}{}", stdout(&output), stderr(&output));
}

#[test]
fn every_example_schema_has_no_findings_and_is_in_canonical_form() {
    let checked = procura().args(["schema", "check", "--deny-warnings"]).args(examples("zed")).output().expect("runs");
    assert_eq!(code(&checked), 0, "{}", stdout(&checked));
    let formatted = procura().args(["schema", "fmt", "--check"]).args(examples("zed")).output().expect("runs");
    assert_eq!(code(&formatted), 0, "{}", stdout(&formatted));
}

#[test]
fn a_broken_assertion_names_its_line_and_its_path() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("world.yaml");
    let schema = "definition user {}\n  definition doc {\n    relation viewer: user\n    permission view = viewer\n  }";
    let asserted = "  assertTrue:\n    - doc:1#view@user:rita\n  assertFalse:\n    - doc:1#view@user:rita\n";
    let world = format!("schema: |-\n  {schema}\nrelationships: |-\n  doc:1#viewer@user:rita\nassertions:\n{asserted}");
    std::fs::write(&path, world).expect("written");
    let output = procura().arg("test").arg(&path).output().expect("the binary runs");
    assert_eq!(code(&output), 1);
    let text = stdout(&output);
    assert!(text.contains("world.yaml:13: doc:1#view@user:rita"), "{text}");
    assert!(text.contains("expected DENY, got ALLOW, because"), "{text}");
    assert!(text.contains("      doc:1#view, because\n"), "{text}");
    assert!(text.contains("doc:1#viewer@user:rita\n"), "{text}");
    assert!(text.ends_with("0 passed, 1 failed\n"), "{text}");

    let output = procura().args(["--json", "test"]).arg(&path).output().expect("the binary runs");
    assert_eq!(code(&output), 1);
    let lines = json_lines(&stdout(&output));
    assert_eq!(lines[0]["failures"][0]["line"], 13);
    assert_eq!(lines[1], serde_json::json!({"passed": 0, "failed": 1}));
}

#[test]
fn a_schema_inside_a_validation_file_is_pointed_at_where_it_stands() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("world.yaml");
    std::fs::write(&path, "schema: |-\n  definition user {}\n  definition doc {\n    permission view = viwer\n  }\n")
        .expect("written");
    let output = procura().arg("test").arg(&path).output().expect("the binary runs");
    assert_eq!(code(&output), 1);
    assert!(stdout(&output).contains("world.yaml:4:23"), "{}", stdout(&output));
}

#[test]
fn a_schema_error_has_a_caret_under_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("schema.zed");
    std::fs::write(
        &path,
        "definition user {}\n\ndefinition doc {\n\trelation viewer: user\n\tpermission view = viwer\n}\n",
    )
    .expect("written");
    let output = procura().args(["schema", "check"]).arg(&path).output().expect("the binary runs");
    assert_eq!(code(&output), 1);
    let text = stdout(&output);
    assert!(text.contains("schema.zed:5:20") && text.contains('^') && text.contains("viewer"), "{text}");

    let output = procura().args(["--json", "schema", "check"]).arg(&path).output().expect("the binary runs");
    let lines = json_lines(&stdout(&output));
    assert_eq!(lines[0]["line"], 5);
    assert_eq!(lines[0]["severity"], "error");
}

/// A schema over two files, and a world that is loaded from it.
fn imported(folder: &Path, user: &str) -> (PathBuf, PathBuf) {
    let (schema, world) = (folder.join("root.zed"), folder.join("world.yaml"));
    std::fs::create_dir_all(folder.join("parts")).expect("a folder");
    let root = "use import\n\nimport \"parts/user.zed\"\n\ndefinition doc {\n  relation viewer: user\n}\n";
    let tests = "schemaFile: root.zed\nrelationships: |-\n  doc:1#viewer@user:rita\nassertions:\n  assertTrue:\n    \
                 - \"doc:1#viewer@user:rita\"\n    - \"user:rita#me@user:rita\"\n";
    for (path, text) in [(&schema, root), (&world, tests), (&folder.join("parts/user.zed"), user)] {
        std::fs::write(path, text).expect("written");
    }
    (schema, world)
}

#[test]
fn a_schema_over_several_files_is_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let (schema, world) = imported(folder.path(), "use self\n\ndefinition user {\n  permission me = self\n}\n");
    let checked = procura().args(["schema", "check"]).arg(&schema).output().expect("runs");
    assert_eq!(code(&checked), 0, "{}", stdout(&checked));
    let tested = procura().arg("test").arg(&world).output().expect("runs");
    assert_eq!(code(&tested), 0, "{}{}", stdout(&tested), stderr(&tested));
    let added = procura().args(["schema", "diff"]).args([&folder.path().join("parts/user.zed"), &schema]).output();
    assert_eq!(stdout(&added.expect("runs")), "added definition doc\n");
    // Formatting leaves each file its own.
    let formatted = procura().args(["schema", "fmt", "--check"]).arg(&schema).output().expect("runs");
    assert_eq!(code(&formatted), 0, "{}", stdout(&formatted));
}

#[test]
fn a_schema_with_errors_is_not_rewritten() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    let sound = file("sound.zed", "definition   user {}\n");
    for (broken, place) in [
        ("definition   user {}\ndefinition doc { permission view = viwer }\n", "broken.zed:2:36"),
        ("definition   user {", "broken.zed:1:19"),
    ] {
        let path = file("broken.zed", broken);
        let output = procura().args(["schema", "fmt"]).args([&sound, &path]).output().expect("runs");
        assert_eq!(code(&output), 2, "{}", stderr(&output));
        assert!(stderr(&output).contains(place), "{}", stderr(&output));
        assert_eq!(std::fs::read_to_string(&path).expect("the file"), broken);
        // Nor is the one before it.
        assert_eq!(std::fs::read_to_string(&sound).expect("the file"), "definition   user {}\n");
    }
    // A part is no schema by itself, and is one with the file that imports it.
    let root = file("root.zed", "use import\n\nimport \"part.zed\"\n\ndefinition   user {}\n");
    let part = file("part.zed", "definition   doc { relation viewer: user }\n");
    let alone = procura().args(["schema", "fmt"]).arg(&part).output().expect("runs");
    assert_eq!(code(&alone), 2, "{}", stderr(&alone));
    assert!(stderr(&alone).contains("together with the one that imports it"), "{}", stderr(&alone));
    let together = procura().args(["schema", "fmt"]).args([&root, &part]).output().expect("runs");
    assert_eq!(code(&together), 0, "{}", stderr(&together));
    assert!(std::fs::read_to_string(&part).expect("the file").starts_with("definition doc {\n"));
}

#[test]
fn an_error_in_an_imported_file_names_that_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let (schema, world) = imported(folder.path(), "definition user {\n  permission me = nobody\n}\n");
    let checked = procura().args(["schema", "check"]).arg(&schema).output().expect("runs");
    assert_eq!(code(&checked), 1);
    assert!(stdout(&checked).contains("parts/user.zed:2:19"), "{}", stdout(&checked));
    let tested = procura().arg("test").arg(&world).output().expect("runs");
    assert_eq!(code(&tested), 1);
    assert!(stdout(&tested).contains("parts/user.zed:2:19"), "{}", stdout(&tested));
    let (schema, world) = imported(folder.path(), "definition user {");
    for arguments in
        [vec!["schema".as_ref(), "check".as_ref(), schema.as_os_str()], vec!["test".as_ref(), world.as_os_str()]]
    {
        let output = procura().args(arguments).output().expect("runs");
        assert_eq!(code(&output), 1);
        assert!(stdout(&output).contains("parts/user.zed:1:17"), "{}", stdout(&output));
    }
}

#[test]
fn a_tuple_file_is_pointed_at_before_anything_is_sent() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tuples.txt");
    std::fs::write(&path, "// people\n\ndoc:1#viewer@user:rita\n  doc:1#Viewer@user:dana\n").expect("written");
    // No server is there: the file is judged first.
    let output =
        procura().args(["tuple", "write", "--server", "127.0.0.1:1", "--file"]).arg(&path).output().expect("runs");
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    let text = stderr(&output);
    assert!(
        text.contains("tuples.txt:4:9") && text.contains("  doc:1#Viewer@user:dana") && text.contains('^'),
        "{text}"
    );
}

#[test]
fn a_server_that_is_not_there_is_its_own_exit_code() {
    // Bound and closed again: nobody listens there now.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    drop(listener);
    let output = run(["check", "doc:1#view@user:rita", "--server", &address]);
    assert_eq!(code(&output), 5, "{}", stderr(&output));
    assert!(stderr(&output).contains(&address), "{}", stderr(&output));
    assert_eq!(stdout(&output), "");
    let output = run(["check", "doc:1#view@user:rita", "--server", "https://127.0.0.1:50051"]);
    assert_eq!(code(&output), 2);
}

#[test]
fn others_are_not_served_by_accident() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let output = procura().args(["serve", "--listen", "0.0.0.0:0", "--data"]).arg(&data).output().expect("runs");
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("--insecure"), "{}", stderr(&output));
    assert!(!data.exists());
}

#[test]
fn a_deny_is_explained_by_what_takes_it_away() {
    let server = Server::start();
    let schema = "definition user {}\ndefinition doc {\n  relation viewer: user\n  relation banned: user\n  \
                  relation late: user\n  permission view = viewer - banned\n  \
                  permission read = viewer - (banned + late)\n}\n";
    assert_eq!(code(&server.ask_with_stdin(&["schema", "write", "-"], schema)), 0);
    let written = server.ask([
        "tuple",
        "write",
        "doc:1#viewer@user:rita",
        "doc:1#viewer@user:tom",
        "doc:1#banned@user:tom",
        "doc:1#banned@user:dana",
        "doc:1#viewer@user:late",
        "doc:1#late@user:late",
    ]);
    assert_eq!(code(&written), 0, "{}", stderr(&written));
    let because = |question: &str, how: &str| {
        let output = server.ask(["check", question, how]);
        assert_eq!(code(&output), 1, "{}", stderr(&output));
        stdout(&output).lines().skip(1).map(|line| line.trim().to_owned()).collect::<Vec<_>>()
    };
    for how in ["--explain", "--explain=line"] {
        let tom = because("doc:1#view@user:tom", how);
        assert_eq!(tom, ["because doc:1#banned takes it away: doc:1#banned@user:tom"]);
        let late = because("doc:1#read@user:late", how);
        assert_eq!(late, ["because doc:1#late takes it away: doc:1#late@user:late"]);
        // Where nothing would give it, nothing takes it away.
        assert_eq!(because("doc:1#view@user:dana", how), ["because no path allows it"]);
        assert_eq!(because("doc:1#view@user:vera", how), ["because no path allows it"]);
    }
    let both = server.ask(["--json", "check", "--explain", "doc:1#view@user:rita", "doc:1#view@user:tom"]);
    let lines = json_lines(&stdout(&both));
    assert_eq!(lines[0]["taken_away"], Value::Null);
    let expected = serde_json::json!([{"by": "doc:1#banned", "tuples": ["doc:1#banned@user:tom"]}]);
    assert_eq!(lines[1]["taken_away"], expected);
}

#[test]
fn a_session_from_schema_to_answer() {
    let server = Server::start();
    let saas = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema-examples/saas.zed");
    let saas = saas.to_str().expect("UTF-8");

    let before = server.ask(["check", "project:alpha#edit@user:rita"]);
    assert_eq!(code(&before), 4, "no schema yet: {}", stderr(&before));
    let written = server.ask(["schema", "write", saas]);
    assert_eq!(code(&written), 0, "{}", stderr(&written));
    let read = server.ask(["schema", "read"]);
    assert_eq!(stdout(&read), std::fs::read_to_string(saas).expect("the file"));
    let same = server.ask(["--json", "schema", "diff", saas]);
    assert_eq!((code(&same), stdout(&same).as_str()), (0, ""));

    let tuples =
        "// acme\norg:acme#admin@user:rita\nworkspace:lab#org@org:acme\n\nproject:alpha#workspace@workspace:lab\n";
    let written = server.ask_with_stdin(&["--json", "tuple", "write", "-"], tuples);
    assert_eq!(code(&written), 0, "{}", stderr(&written));
    let written = &json_lines(&stdout(&written))[0];
    assert_eq!(written["written"], 3);
    let token = written["token"].as_str().expect("a token");

    let allowed = server.ask(["check", "project:alpha#edit@user:rita", "--explain", "--at-least-as-fresh", token]);
    assert_eq!(code(&allowed), 0, "{}", stderr(&allowed));
    let text = stdout(&allowed);
    assert!(text.starts_with("ALLOW project:alpha#edit@user:rita\n"), "{text}");
    for tuple in ["project:alpha#workspace@workspace:lab", "workspace:lab#org@org:acme", "org:acme#admin@user:rita"] {
        assert!(text.contains(tuple), "{text}");
    }
    let line = stdout(&server.ask(["check", "project:alpha#edit@user:rita", "--explain=line"]));
    assert!(line.contains("because project:alpha#workspace@workspace:lab → workspace:lab#org@org:acme"), "{line}");

    let denied = server.ask(["--json", "check", "project:alpha#edit@user:dana"]);
    assert_eq!(code(&denied), 1);
    assert_eq!(json_lines(&stdout(&denied))[0]["decision"], "DENY");
    let both = server.ask(["--json", "check", "project:alpha#edit@user:rita", "project:alpha#edit@user:dana"]);
    assert_eq!(code(&both), 1);
    let both: Vec<Value> = json_lines(&stdout(&both)).iter().map(|line| line["decision"].clone()).collect();
    assert_eq!(both, ["ALLOW", "DENY"]);
    let unknown = server.ask(["check", "project:alpha#fly@user:rita"]);
    assert_eq!(code(&unknown), 4, "{}", stderr(&unknown));

    let again = server.ask(["tuple", "write", "--create", "org:acme#admin@user:rita"]);
    assert_eq!(code(&again), 4);
    assert!(stderr(&again).contains("ALREADY_EXISTS"), "{}", stderr(&again));
    let listed = stdout(&server.ask(["tuple", "read", "--object", "org"]));
    assert_eq!(listed, "org:acme#admin@user:rita\n");
    let nothing = server.ask(["tuple", "delete"]);
    assert_eq!(code(&nothing), 2);
    let deleted = server.ask(["--json", "tuple", "delete", "--subject", "user:rita"]);
    assert_eq!(json_lines(&stdout(&deleted))[0]["deleted"], 1);
    assert_eq!(code(&server.ask(["check", "project:alpha#edit@user:rita"])), 1);

    let info = server.ask(["--json", "info"]);
    let info = &json_lines(&stdout(&info))[0];
    assert!(info["limits"]["updates_max"]["value"].is_u64(), "{info}");
}
