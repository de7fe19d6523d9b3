//! The house's structure, checked by reading `src/`: arrows between floors point down, each file says what it is for,
//! and what a floor must not know does not occur in it.
//!
//! What always holds: comments, strings and characters are not read; only `#[cfg(test)]` items may panic. The rules
//! themselves are tested on planted texts, so that none of them can silently stop to bite.

use std::path::{Path, PathBuf};

/// Which floors a floor may use, besides itself. The table of house.md.
const FLOORS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("schema", &["model", "condition"]),
    ("condition", &["model"]),
    ("delegation", &["model"]),
    ("store", &["model"]),
    ("graph", &["store", "schema", "model"]),
    ("audit", &["store", "schema", "model"]),
    ("walk", &["graph", "schema", "condition", "model"]),
    ("engine", &["walk", "graph", "delegation", "schema", "condition", "store", "audit", "model"]),
    ("api", &["engine", "model"]),
    ("cli", ALL),
    // main.rs, lib.rs and other files beside them: the only place that wires.
    ("main", ALL),
];
const ALL: &[&str] =
    &["model", "schema", "condition", "delegation", "store", "graph", "audit", "walk", "engine", "api", "cli", "main"];
const BELOW_API: &[&str] = &["model", "schema", "condition", "delegation", "store", "graph", "audit", "walk", "engine"];

struct Ban {
    /// Tokens in a row; a name ending in `*` matches by its start.
    tokens: &'static [&'static str],
    /// `None`: on every floor.
    floors: Option<&'static [&'static str]>,
    /// Files in which it may stand.
    except: &'static [&'static str],
    /// Whether tests inside `src` may use it.
    in_tests: bool,
    instead: &'static str,
}

const EVERYWHERE: Ban = Ban { tokens: &[], floors: None, except: &[], in_tests: false, instead: "" };
const NOT_STORE: &[&str] =
    &["model", "schema", "condition", "delegation", "graph", "audit", "walk", "engine", "api", "cli", "main"];

const BANS: &[Ban] = &[
    Ban { tokens: &["tokio*"], floors: Some(BELOW_API), instead: "async stops at the door (`api`)", ..EVERYWHERE },
    Ban { tokens: &["tonic*"], floors: Some(BELOW_API), instead: "gRPC is `api`'s alone", ..EVERYWHERE },
    Ban { tokens: &["prost*"], floors: Some(BELOW_API), instead: "the types of `model`", ..EVERYWHERE },
    Ban { tokens: &["rocksdb"], floors: Some(NOT_STORE), instead: "the verbs of `store`", ..EVERYWHERE },
    Ban { tokens: &["serde_yaml"], in_tests: false, instead: "serde_saphyr", ..EVERYWHERE },
    Ban { tokens: &[".", "unwrap", "(", ")"], in_tests: true, instead: "`?`, or a match", ..EVERYWHERE },
    Ban {
        tokens: &[".", "expect", "("],
        in_tests: true,
        instead: "`?`, or a match (a parser's verb: `self.expect`)",
        ..EVERYWHERE
    },
    Ban { tokens: &["panic", "!"], in_tests: true, instead: "an error", ..EVERYWHERE },
    Ban { tokens: &["todo", "!"], instead: "the thing itself", ..EVERYWHERE },
    Ban { tokens: &["unimplemented", "!"], instead: "the thing itself", ..EVERYWHERE },
    Ban { tokens: &["dbg", "!"], instead: "tracing", ..EVERYWHERE },
    Ban {
        tokens: &["SystemTime", "::", "now"],
        except: &["engine/clock.rs", "model/time.rs"],
        instead: "the request's clock, read once",
        ..EVERYWHERE
    },
    Ban { tokens: &["unsafe"], instead: "safe code", ..EVERYWHERE },
];

#[derive(Clone, Debug, PartialEq)]
struct Token {
    text: String,
    line: usize,
    in_test: bool,
}

/// Names and signs of a Rust source, without comments, strings, characters and lifetimes. `::` is one token.
fn tokens(source: &str) -> Vec<Token> {
    let bytes = source.as_bytes();
    let (mut found, mut at, mut line) = (Vec::new(), 0, 1);
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
    // Bounded: every turn moves on by at least one byte.
    while at < bytes.len() {
        let start = at;
        let rest = &source[at..];
        if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("/*") {
            let mut depth = 0;
            loop {
                if source[at..].starts_with("/*") {
                    depth += 1;
                    at += 2;
                } else if source[at..].starts_with("*/") {
                    depth -= 1;
                    at += 2;
                } else {
                    at += source[at..].chars().next().map_or(1, char::len_utf8);
                }
                if depth == 0 || at >= bytes.len() {
                    break;
                }
            }
        } else if let Some(end) = raw_string_end(rest) {
            at += end;
        } else if rest.starts_with('"') || rest.starts_with("b\"") || rest.starts_with("c\"") {
            at += if rest.starts_with('"') { 1 } else { 2 };
            while at < bytes.len() && bytes[at] != b'"' {
                at += if bytes[at] == b'\\' { 2 } else { 1 };
            }
            at += 1;
        } else if rest.starts_with('\'') {
            at += character_or_lifetime(rest);
        } else if is_name(bytes[at]) {
            while at < bytes.len() && is_name(bytes[at]) {
                at += 1;
            }
            found.push(Token { text: source[start..at].to_owned(), line, in_test: false });
        } else {
            at += if rest.starts_with("::") { 2 } else { 1 };
            if !bytes[start].is_ascii_whitespace() {
                found.push(Token { text: source[start..at].to_owned(), line, in_test: false });
            }
        }
        at = at.min(bytes.len());
        line += source[start..at].matches('\n').count();
    }
    mark_tests(&mut found);
    found
}

/// The length of a raw string at the start of `rest`.
fn raw_string_end(rest: &str) -> Option<usize> {
    let prefix = ["r", "br", "cr"].into_iter().find(|prefix| {
        let after = rest.strip_prefix(*prefix).map(|after| after.trim_start_matches('#'));
        after.is_some_and(|after| after.starts_with('"'))
    })?;
    let hashes = rest[prefix.len()..].bytes().take_while(|byte| *byte == b'#').count();
    let open = prefix.len() + hashes + 1;
    let close = format!("\"{}", "#".repeat(hashes));
    Some(rest[open..].find(&close).map_or(rest.len(), |at| open + at + close.len()))
}

/// The length of `'x'`, `'\n'`, `'\u{e9}'`, or of the quote alone that starts a lifetime.
fn character_or_lifetime(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => {
            // Past the escaped character, which may itself be a quote.
            let from = chars.next().map_or(rest.len(), |(at, c)| at + c.len_utf8());
            rest[from..].find('\'').map_or(rest.len(), |at| from + at + 1)
        }
        Some((_, _)) => match chars.next() {
            Some((at, '\'')) => at + 1,
            Some(_) | None => 1,
        },
        None => 1,
    }
}

/// Marks the item that follows `#[cfg(test)]` or `#[test]`: to its closing brace, or to its `;`.
fn mark_tests(tokens: &mut [Token]) {
    let is = |tokens: &[Token], at: usize, due: &[&str]| {
        due.iter().enumerate().all(|(n, text)| tokens.get(at + n).is_some_and(|token| token.text == *text))
    };
    // A file that is a test as a whole.
    if is(tokens, 0, &["#", "!", "[", "cfg", "(", "test", ")", "]"]) {
        tokens.iter_mut().for_each(|token| token.in_test = true);
    }
    let mut at = 0;
    while at < tokens.len() {
        let starts =
            is(tokens, at, &["#", "[", "cfg", "(", "test", ")", "]"]) || is(tokens, at, &["#", "[", "test", "]"]);
        if !starts {
            at += 1;
            continue;
        }
        let (mut braces, mut others) = (0_i32, 0_i32);
        while at < tokens.len() {
            tokens[at].in_test = true;
            match tokens[at].text.as_str() {
                "{" => braces += 1,
                "}" => braces -= 1,
                "(" | "[" => others += 1,
                ")" | "]" => others -= 1,
                _ => {}
            }
            let ends = match tokens[at].text.as_str() {
                "}" => braces <= 0,
                ";" => braces == 0 && others == 0,
                _ => false,
            };
            at += 1;
            if ends {
                break;
            }
        }
    }
}

/// The floor of a file, by its path below `src/`; `None` for a folder that is not in the plan.
fn floor_of(path: &str) -> Option<&'static str> {
    let first = path.split('/').next().unwrap_or_default();
    let name = if path.contains('/') { first } else { "main" };
    FLOORS.iter().map(|(floor, _)| *floor).find(|floor| *floor == name)
}

/// What follows a path's root: every first name of `crate::name`, `crate::{a, b::c}` or `super::…` out of the floor.
fn names_at(tokens: &[Token], at: usize) -> Vec<&Token> {
    let mut names = Vec::new();
    match tokens.get(at) {
        Some(token) if token.text == "{" => {
            let (mut depth, mut fresh) = (0, true);
            for token in &tokens[at..] {
                match token.text.as_str() {
                    "{" => depth += 1,
                    "}" => depth -= 1,
                    "," if depth == 1 => fresh = true,
                    _ if depth == 1 && fresh => {
                        names.push(token);
                        fresh = false;
                    }
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
            }
        }
        Some(token) => names.push(token),
        None => {}
    }
    names
}

/// Everything wrong with one file.
fn faults(path: &str, source: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let Some(floor) = floor_of(path) else {
        return vec![format!("src/{path}: no floor of the plan has this folder")];
    };
    let may_use = FLOORS.iter().find(|(name, _)| *name == floor).map_or(ALL, |(_, may_use)| may_use);
    if !source.lines().next().is_some_and(|line| line.starts_with("//!") && line.len() > 4) {
        faults.push(format!("src/{path}:1: the first line says with `//!` what the file is for"));
    }
    let tokens = tokens(source);
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    // A module's own depth: `engine/check.rs` is crate::engine::check, `engine/mod.rs` is crate::engine.
    let depth = path.split('/').count() - usize::from(path.ends_with("/mod.rs"));
    for at in 0..tokens.len() {
        if text(at) == "crate" && text(at + 1) == "::" {
            arrows(path, floor, may_use, &names_at(&tokens, at + 2), &mut faults);
        }
        if text(at) == "super" && (at == 0 || text(at - 1) != "::") {
            let mut steps = 1;
            while text(at + 2 * steps) == "super" {
                steps += 1;
            }
            // One more in a test's own module.
            if floor != "main" && steps >= depth + usize::from(tokens[at].in_test) {
                arrows(path, floor, may_use, &names_at(&tokens, at + 2 * steps), &mut faults);
            }
        }
        for ban in BANS {
            let here = ban.floors.is_none_or(|floors| floors.contains(&floor)) && !ban.except.contains(&path);
            let stands = ban.tokens.iter().enumerate().all(|(n, due)| match due.strip_suffix('*') {
                Some(start) => text(at + n) == start || text(at + n).starts_with(&format!("{start}_")),
                None => text(at + n) == *due,
            });
            let is_parsers_verb = ban.tokens.len() > 1 && ban.tokens[1] == "expect" && at > 0 && text(at - 1) == "self";
            if here && stands && !is_parsers_verb && !(ban.in_tests && tokens[at].in_test) {
                let what = ban.tokens.concat();
                faults
                    .push(format!("src/{path}:{}: `{what}` may not stand here; take {}", tokens[at].line, ban.instead));
            }
        }
    }
    faults
}

fn arrows(path: &str, floor: &str, may_use: &[&str], names: &[&Token], faults: &mut Vec<String>) {
    for name in names {
        let other = name.text.as_str();
        if FLOORS.iter().any(|(known, _)| *known == other) {
            if other != floor && !may_use.contains(&other) {
                faults.push(format!("src/{path}:{}: `{floor}` may not use `{other}`: arrows point down", name.line));
            }
        } else if floor != "main" && floor != "cli" && other != "self" {
            // A re-export of lib.rs, a glob, or a file beside main.rs: nothing below may lean on what is on top.
            faults.push(format!("src/{path}:{}: `crate::{other}` is on no floor", name.line));
        }
    }
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_arrow_points_down_and_nothing_banned_stands() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&src, &mut paths);
    assert!(paths.len() > 10, "only {} files", paths.len());
    let mut all = Vec::new();
    for path in &paths {
        let below = path.strip_prefix(&src).expect("below src").to_string_lossy().replace('\\', "/");
        all.extend(faults(&below, &std::fs::read_to_string(path).expect("a source")));
    }
    assert!(all.is_empty(), "{} faults:\n{}", all.len(), all.join("\n"));
}

/// Every test file has its head too.
#[test]
fn every_test_and_bench_says_what_it_is_for() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    sources(&root.join("tests"), &mut paths);
    sources(&root.join("benches"), &mut paths);
    for path in paths {
        let source = std::fs::read_to_string(&path).expect("a source");
        assert!(
            source.starts_with("//! ") && source.lines().next().is_some_and(|line| line.len() > 12),
            "{}",
            path.display()
        );
    }
}

const HEAD: &str = "//! What it is for.\n";

#[track_caller]
fn caught(path: &str, body: &str, says: &str) {
    let found = faults(path, &format!("{HEAD}{body}"));
    assert!(found.iter().any(|fault| fault.contains(says)), "`{body}` in {path} is not caught: {found:?}");
}

#[track_caller]
fn passes(path: &str, body: &str) {
    let found = faults(path, &format!("{HEAD}{body}"));
    assert!(found.is_empty(), "`{body}` in {path}: {found:?}");
}

#[test]
fn planted_arrows_are_caught() {
    for (path, body, says) in [
        ("model/name.rs", "use crate::schema::Schema;", "`model` may not use `schema`"),
        ("schema/compile.rs", "use crate::store;", "`schema` may not use `store`"),
        ("schema/compile.rs", "use crate::{model::X, walk::{check, memo}};", "`schema` may not use `walk`"),
        ("condition/mod.rs", "use crate::schema::Schema;", "`condition` may not use `schema`"),
        ("store/keys.rs", "fn f(x: &crate::graph::Graph) {}", "`store` may not use `graph`"),
        ("store/keys.rs", "use crate::delegation::Scope;", "`store` may not use `delegation`"),
        ("graph/mod.rs", "use crate::audit::Log;", "`graph` may not use `audit`"),
        ("audit/mod.rs", "use crate::graph::Graph;", "`audit` may not use `graph`"),
        ("walk/check.rs", "use crate::delegation::Chain;", "`walk` may not use `delegation`"),
        ("walk/check.rs", "use crate::store::Snapshot;", "`walk` may not use `store`"),
        ("walk/check.rs", "use super::super::engine::Engine;", "`walk` may not use `engine`"),
        ("walk/mod.rs", "use super::engine::Engine;", "`walk` may not use `engine`"),
        ("engine/check.rs", "use crate::api::Client;", "`engine` may not use `api`"),
        ("api/permissions.rs", "use crate::walk::check;", "`api` may not use `walk`"),
        ("api/client/mod.rs", "use crate::schema::Schema;", "`api` may not use `schema`"),
        ("api/x.rs", "#[cfg(test)]\nmod tests { use crate::store::Store; }", "`api` may not use `store`"),
        ("api/x.rs", "use crate::cli::run;", "`api` may not use `cli`"),
        ("engine/x.rs", "use crate::config::Config;", "is on no floor"),
        ("store/x.rs", "use crate::Engine;", "is on no floor"),
        ("store/x.rs", "use crate::*;", "is on no floor"),
        ("helpers/mod.rs", "", "no floor of the plan"),
    ] {
        caught(path, body, says);
    }
    for (path, body) in [
        (
            "schema/compile.rs",
            "use crate::model::{TypeName, RelationName};\nuse crate::condition::Caveat;\nuse super::ast;",
        ),
        ("schema/parse/expr.rs", "use super::super::ast::Node;\nuse crate::schema::ast;"),
        ("model/tests.rs", "use super::*;"),
        ("model/name.rs", "#[cfg(test)]\nmod tests { use super::*; use super::super::time::Timestamp; }"),
        ("engine/check.rs", "use crate::{walk, graph, delegation, schema, condition, store, audit, model};"),
        ("api/convert.rs", "use crate::engine::Engine; use crate::model::Question;"),
        ("cli/serve.rs", "use crate::engine::Engine; use crate::api::serve; use crate::schema::print;"),
        ("main.rs", "use procura::engine::Engine; mod cli; use crate::cli::run;"),
        (
            "walk/check.rs",
            "// crate::delegation\n/* crate::store /* nested */ crate::api */ const S: &str = \"crate::api\";",
        ),
    ] {
        passes(path, body);
    }
}

#[test]
fn planted_names_are_caught() {
    for (path, body, says) in [
        ("engine/x.rs", "use tokio::sync::Notify;", "`tokio*`"),
        ("store/x.rs", "fn f() -> tokio_stream::Iter {}", "`tokio*`"),
        ("walk/x.rs", "fn f(x: tonic::Status) {}", "`tonic*`"),
        ("model/x.rs", "use prost_types::Struct;", "`prost*`"),
        ("engine/x.rs", "use rocksdb::DB;", "`rocksdb`"),
        ("cli/x.rs", "use rocksdb::DB;", "`rocksdb`"),
        ("cli/test.rs", "use serde_yaml::Value;", "`serde_yaml`"),
        ("store/x.rs", "fn f() { g().unwrap(); }", "`.unwrap()`"),
        ("store/x.rs", "fn f() { g() .\n expect (\"x\"); }", "`.expect(`"),
        ("store/x.rs", "fn f() { self.x.expect(\"x\"); }", "`.expect(`"),
        ("api/x.rs", "fn f() { panic!(\"x\") }", "`panic!`"),
        ("api/x.rs", "fn f() { todo!() }", "`todo!`"),
        ("api/x.rs", "#[cfg(test)] mod tests { fn f() { unimplemented!() } }", "`unimplemented!`"),
        ("main.rs", "fn f() { dbg!(1); }", "`dbg!`"),
        ("walk/x.rs", "let now = std::time::SystemTime::now();", "`SystemTime::now`"),
        ("engine/check.rs", "let now = SystemTime::now();", "`SystemTime::now`"),
        ("store/x.rs", "unsafe { f() }", "`unsafe`"),
        (
            "store/x.rs",
            "#[cfg(test)]\nmod tests { fn f() { g().unwrap() } }\nfn h() { g().unwrap() }",
            ":4: `.unwrap()`",
        ),
        ("store/x.rs", "#[cfg(test)]\nuse x;\nfn h() { g().unwrap() }", "`.unwrap()`"),
        ("store/x.rs", "const Q: char = '\"'; fn h() { g().unwrap() } const P: char = '\"';", "`.unwrap()`"),
        ("store/x.rs", "const Q: char = '\\''; fn h<'a>() { g().unwrap() }", "`.unwrap()`"),
        ("store/x.rs", "const R: &str = r#\"a\"b\"#; fn h() { g().unwrap() }", "`.unwrap()`"),
    ] {
        caught(path, body, says);
    }
    for (path, body) in [
        ("api/x.rs", "use tokio::sync::Notify; use tonic::Status; use prost::Message;"),
        ("store/x.rs", "use rocksdb::DB;"),
        ("store/x.rs", "fn f() { g().unwrap_or_default(); h().expect_err(1); }"),
        ("store/x.rs", "#[expect(clippy::indexing_slicing, reason = \"x\")] fn f() {}"),
        ("schema/parser.rs", "fn f() { self.expect(Kind::Brace)?; }"),
        ("schema/x.rs", "#![cfg(test)]\nuse x;\nfn f() { panic!(); g().unwrap() }"),
        ("store/x.rs", "#[cfg(test)]\nmod tests {\n #[test] fn f() { g().unwrap(); panic!(\"}\") }\n}"),
        ("store/x.rs", "#[test]\nfn f() { g().expect(\"x\"); }"),
        ("engine/clock.rs", "fn now() { SystemTime::now() }"),
        ("model/time.rs", "fn now() { SystemTime::now() }"),
        ("store/x.rs", "#![forbid(unsafe_code)] // unsafe { }\nconst S: &str = \"unsafe panic!() \\\" .unwrap()\";"),
        (
            "store/x.rs",
            "const S: &str = r##\"unsafe \"# .unwrap()\"##; const B: &[u8] = b\"unsafe\"; fn f<'unsafety>() {}",
        ),
    ] {
        passes(path, body);
    }
    assert!(!faults("store/x.rs", "use std::io;\n").is_empty(), "a file without a head");
    assert!(!faults("store/x.rs", "").is_empty(), "an empty file");
}
