//! What a check costs, in instructions: the same on a busy machine as on a quiet one.
//!
//! One test asks under callgrind, in a process of its own and counted only while it asks, and compares with what is pinned
//! here. Where valgrind is not there it says so. After a change that is meant, `PROCURA_COUNT=1` prints what to pin.

use crate::engines::{Held, TestEngine, question};
use procura::engine::CheckOptions;
use procura::model::{Decision, Limits, Question};
use std::process::Command;

/// Instructions of one check in process, resolving its names included, by the depth of the hierarchy.
const PINNED: [(usize, u64); 3] = [(1, 8_800), (8, 11_700), (32, 21_600)];
/// More than this many percent beyond what is pinned is a step back.
const PERCENT: u64 = 20;
/// Checks that are counted together.
const TIMES: u64 = 200;
/// Set in the process that is counted.
const DEPTH: &str = "PROCURA_COUNTED_DEPTH";

#[test]
fn a_check_takes_no_more_instructions_than_pinned() {
    if std::env::var_os(DEPTH).is_some() {
        return;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!("SKIPPED: valgrind is not installed, so instructions are not counted (apt-get install valgrind)");
        return;
    }
    let counted = PINNED.map(|(depth, _)| (depth, count(depth)));
    if std::env::var_os("PROCURA_COUNT").is_some() {
        println!("const PINNED: [(usize, u64); {}] = {counted:?};", counted.len());
    }
    println!("instructions a check, by depth: {counted:?}");
    for ((depth, count), (_, pinned)) in counted.into_iter().zip(PINNED) {
        assert!(
            count <= pinned * (100 + PERCENT) / 100,
            "{count} instructions a check at depth {depth}; {pinned} are pinned"
        );
    }
}

/// Instructions of one check, by a process that makes many.
fn count(depth: usize) -> u64 {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("callgrind.out");
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*checks_that_are_counted*"])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(std::env::current_exe().expect("this binary"))
        .args(["--exact", "instructions::what_is_counted", "--nocapture", "--test-threads=1"])
        .env(DEPTH, depth.to_string())
        .output()
        .expect("valgrind runs");
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{said}\n{}", String::from_utf8_lossy(&run.stdout));
    let text = std::fs::read_to_string(&file).expect("what callgrind wrote");
    let total = text.lines().find_map(|line| line.strip_prefix("summary: ").or_else(|| line.strip_prefix("totals: ")));
    let total: u64 = total.and_then(|total| total.trim().parse().ok()).expect("a total");
    assert!(total > 0, "nothing was counted");
    total / TIMES
}

/// Run by the other: asks of a document in the deepest of so many folders.
#[test]
fn what_is_counted() {
    let Some(depth) = std::env::var(DEPTH).ok().and_then(|depth| depth.parse::<usize>().ok()) else { return };
    let engine = TestEngine::holding(Held::All, Limits::default());
    engine.schema(
        "definition user {}
         definition folder { relation parent: folder; relation viewer: user; permission view = viewer + parent->view }
         definition doc { relation parent: folder; relation viewer: user; permission view = viewer + parent->view }",
    );
    engine.touch((1..depth).map(|n| format!("folder:f{n}#parent@folder:f{}", n + 1)));
    engine.touch([format!("folder:f{depth}#viewer@user:rita"), "doc:1#parent@folder:f1".to_owned()]);
    // One that could be found anywhere: she views something, and not this.
    engine.touch(["folder:other#viewer@user:dana"]);
    let asked = [question("doc:1#view@user:rita"), question("doc:1#view@user:dana")];
    engine.assert_allows("doc:1#view@user:rita");
    engine.assert_denies("doc:1#view@user:dana");
    checks_that_are_counted(&engine, &asked, TIMES / 2);
}

#[inline(never)]
fn checks_that_are_counted(engine: &TestEngine, asked: &[Question; 2], times: u64) {
    let options = CheckOptions::default();
    for _ in 0..times {
        let decided =
            asked.each_ref().map(|question| engine.check(question, &options).expect("an answer").answer.decision);
        assert_eq!(decided, [Decision::Allow, Decision::Deny]);
    }
}
