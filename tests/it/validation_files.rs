//! `procura test` on files that set the time, through the real binary: in process, and on servers that may and may not.

use crate::cli::{Server, code, procura, stderr, stdout};
use std::path::Path;
use std::process::Output;

const WORLD: &str = r#"now: 2027-01-01T00:00:00Z
schema: |-
  use expiration
  definition user {}
  definition doc {
    relation viewer: user with expiration
    permission view = viewer
  }
relationships: |-
  doc:1#viewer@user:rita[expiration:2026-06-01T00:00:00Z]
  doc:1#viewer@user:dana[expiration:2027-06-01T00:00:00Z]
assertions:
  assertTrue:
    - doc:1#view@user:dana
    - doc:1#view@user:dana at 2027-05-31T23:59:59.999999999Z
    # before the file's own time
    - doc:1#view@user:rita at 2026-05-31T23:59:59Z
  assertFalse:
    - doc:1#view@user:rita
    - doc:1#view@user:rita at 2026-06-01T00:00:00Z
    - doc:1#view@user:dana at 2027-06-01T00:00:00Z
validation:
  doc:1#view: ["[user:dana] is <doc:1#viewer>"]
"#;

fn tested(world: &str, place: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("world.yaml");
    std::fs::write(&path, world).expect("written");
    procura().arg("test").args(place).arg(Path::new(&path)).output().expect("the binary runs")
}

#[test]
fn a_file_is_judged_by_its_own_time_everywhere() {
    let server = Server::start_with(&["--test-clock"]);
    for place in [&[] as &[&str], &["--server", "spawn"], &["--server", server.address()]] {
        let output = tested(WORLD, place);
        assert_eq!(code(&output), 0, "{place:?}: {}{}", stdout(&output), stderr(&output));
        assert!(stdout(&output).contains("6 assertions, 1 expected subject"), "{}", stdout(&output));
    }
    // A later time has another answer, in assertions as in what is expected.
    let later = WORLD.replacen("now: 2027-01-01", "now: 2028-01-01", 1);
    for place in [&[] as &[&str], &["--server", "spawn"]] {
        let said = stdout(&tested(&later, place));
        assert!(said.contains("world.yaml:14: doc:1#view@user:dana\n    expected ALLOW, got DENY"), "{said}");
        assert!(said.contains("`user:dana` was expected and does not have it"), "{said}");
    }
}

#[test]
fn a_server_whose_time_nobody_sets_is_refused_before_anything_is_written() {
    let server = Server::start();
    let place = ["--server", server.address()];
    let only_at = WORLD.replacen("now: 2027-01-01T00:00:00Z\n", "", 1);
    for world in [WORLD, &only_at] {
        let output = tested(world, &place);
        assert_eq!(code(&output), 4, "{}", stdout(&output));
        assert!(stderr(&output).contains("--test-clock"), "{}", stderr(&output));
    }
    // It is still empty, and takes a file that leaves the time to it.
    let present = "schema: |-\n  definition user {}\n  definition doc {\n    relation viewer: user\n  }\n\
                   relationships: doc:1#viewer@user:rita\nassertions:\n  assertTrue: [\"doc:1#viewer@user:rita\"]\n";
    let output = tested(present, &place);
    assert_eq!(code(&output), 0, "{}{}", stdout(&output), stderr(&output));
}
