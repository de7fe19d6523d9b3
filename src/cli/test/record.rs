//! `--record`: writes the expected relations that hold now into a file, in place of its `validation` block.
//!
//! INVARIANT: nothing but the block changes, and a file that would not read back as it was is left as it is.

use super::expected::ExpectedSubject;
use super::file::{self, ValidationFile};
use std::io::Write;
use std::path::Path;

/// The text of the file with another block.
pub fn rewritten(text: &str, block: &[(String, Vec<ExpectedSubject>)]) -> Result<String, String> {
    let lines: Vec<&str> = text.lines().collect();
    let is_key = |line: &&str| line.strip_prefix("validation").is_some_and(|rest| rest.trim_start().starts_with(':'));
    let starts_anew = |line: &&str| {
        let first = line.chars().next();
        first.is_some_and(|first| !first.is_whitespace() && first != '#' && first != '-') || line.trim_end() == "..."
    };
    let (before, after) = match lines.iter().position(is_key) {
        None => (lines.as_slice(), &[][..]),
        Some(at) => {
            let end = lines.iter().skip(at + 1).position(starts_anew).map_or(lines.len(), |next| at + 1 + next);
            // Blank lines and comments before the next key are that key's.
            let own = |line: &&str| line.starts_with([' ', '\t', '-']) && !line.trim().is_empty();
            let end = (at + 1..end).rev().find(|index| lines.get(*index).is_some_and(own)).map_or(at + 1, |n| n + 1);
            (lines.get(..at).unwrap_or_default(), lines.get(end..).unwrap_or_default())
        }
    };
    let mut new: Vec<String> = before.iter().map(|line| (*line).to_owned()).collect();
    new.push(if block.is_empty() { "validation: {}".to_owned() } else { "validation:".to_owned() });
    for (key, subjects) in block {
        if subjects.is_empty() {
            new.push(format!("  \"{key}\": []"));
            continue;
        }
        new.push(format!("  \"{key}\":"));
        let mut subjects: Vec<String> = subjects.iter().map(ToString::to_string).collect();
        subjects.sort();
        new.extend(subjects.iter().map(|subject| format!("    - \"{subject}\"")));
    }
    new.extend(after.iter().map(|line| (*line).to_owned()));
    let mut new = new.join("\n");
    new.push('\n');
    reads_back(text, &new, block)?;
    Ok(new)
}

/// Whether all but the block means what it meant, and the block what was found.
fn reads_back(old: &str, new: &str, block: &[(String, Vec<ExpectedSubject>)]) -> Result<(), String> {
    let cannot = || "its `validation` block cannot be rewritten by itself: write it as a block of lines".to_owned();
    let old = file::parse("", old).map_err(|_| cannot())?;
    let new = file::parse("", new).map_err(|_| cannot())?;
    let same = others(&old) == others(&new);
    let relation = |one: &super::expected::ExpectedRelation| {
        let mut subjects: Vec<String> = one.subjects.iter().map(|placed| placed.expected.to_string()).collect();
        subjects.sort();
        (one.key(), subjects)
    };
    let written: Vec<_> = new.expected.iter().map(relation).collect();
    let meant: Vec<_> = block
        .iter()
        .map(|(key, subjects)| {
            let mut subjects: Vec<String> = subjects.iter().map(ToString::to_string).collect();
            subjects.sort();
            (key.clone(), subjects)
        })
        .collect();
    if same && written == meant { Ok(()) } else { Err(cannot()) }
}

/// What a file holds besides its expected relations, without places.
fn others(file: &ValidationFile) -> (String, Vec<String>, Vec<String>) {
    let schema = match &file.schema {
        file::SchemaSource::Inline { text, line: _ } => format!("schema {text}"),
        file::SchemaSource::File { path, line: _ } => format!("file {path}"),
    };
    let tuples = file.relationships.iter().map(|placed| placed.value.to_string()).collect();
    let asked = file.asked.iter().map(|asked| format!("{:?} {}", asked.expectation, asked.text)).collect();
    (schema, tuples, asked)
}

/// Replaces a file by its new text, all or nothing.
pub fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut fresh = tempfile::NamedTempFile::new_in(folder)?;
    fresh.write_all(text.as_bytes())?;
    fresh.as_file().set_permissions(std::fs::metadata(path)?.permissions())?;
    fresh.as_file().sync_all()?;
    fresh.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "schema: \"\"\nrelationships: |-\n  doc:1#viewer@user:tom\n";

    fn block() -> Vec<(String, Vec<ExpectedSubject>)> {
        let subjects = ["[user:tom] is <doc:1#viewer>", "[user:* - {user:a}] is <doc:1#viewer>"];
        let subjects = subjects.map(|text| ExpectedSubject::parse(text).unwrap()).into();
        vec![("doc:1#view".to_owned(), subjects), ("doc:2#view".to_owned(), Vec::new())]
    }

    const WRITTEN: &str = "validation:\n  \"doc:1#view\":\n    - \"[user:* - {user:a}] is <doc:1#viewer>\"\n\
        \x20   - \"[user:tom] is <doc:1#viewer>\"\n  \"doc:2#view\": []\n";

    #[test]
    fn only_the_block_is_replaced() {
        assert_eq!(rewritten(HEAD, &block()).unwrap(), format!("{HEAD}{WRITTEN}"));
        let tail = "\n# what must hold\nassertions:\n  assertTrue:\n    - doc:1#viewer@user:tom # why\n";
        for old in
            ["validation: null\n", "validation:\n", "validation:\n  doc:1#view:\n  - \"[user:x] is <doc:1#viewer>\"\n"]
        {
            let new = rewritten(&format!("{HEAD}{old}{tail}"), &block()).unwrap();
            assert_eq!(new, format!("{HEAD}{WRITTEN}{tail}"), "{old}");
            assert_eq!(rewritten(&new, &block()).unwrap(), new);
        }
        assert_eq!(rewritten(&format!("{HEAD}validation: {{}}\n"), &[]).unwrap(), format!("{HEAD}validation: {{}}\n"));
    }

    #[test]
    fn what_would_not_read_back_is_refused() {
        let flow = "{schema: \"\", validation: {doc:1#view: []}}\n";
        assert!(rewritten(flow, &block()).is_err());
    }
}
