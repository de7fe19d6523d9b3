//! Expected relations: the `validation` block of a file, as SpiceDB's means it.
//!
//! `object#permission` has exactly the subjects that stand below it, of every type: plain objects, usersets, and `type:*`
//! with those it excludes. A subject counts when a tuple names it on a branch that holds (or when `type:*` does not cover
//! it), and `is <object#relation>/<…>` are the relations of those tuples. `[...]` marks what hangs on a condition.

use crate::engine::{ExcludedSubject, SubjectRow};
use crate::model::{Decision, ObjectRef, RelationName, SubjectRef};
use std::collections::{BTreeMap, BTreeSet};

/// All that is expected of one `object#permission`.
#[derive(Debug)]
pub struct ExpectedRelation {
    pub object: ObjectRef,
    pub permission: RelationName,
    /// 1-based, of the key.
    pub line: usize,
    pub subjects: Vec<PlacedSubject>,
}

/// An expected subject and where it stands.
#[derive(Debug)]
pub struct PlacedSubject {
    pub expected: ExpectedSubject,
    /// As written.
    pub text: String,
    /// 1-based.
    pub line: usize,
}

/// `[subject[...] - {excluded, excluded[...]}] is <object#relation>/<…>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedSubject {
    pub subject: SubjectRef,
    pub conditional: bool,
    /// Those excluded from a wildcard, each with whether that hangs on a condition.
    pub excluded: BTreeMap<SubjectRef, bool>,
    /// `None` where nothing was said.
    pub relations: Option<BTreeSet<String>>,
}

/// An expectation that does not hold: where, and what is wrong.
#[derive(Debug, PartialEq, Eq)]
pub struct Mismatch {
    pub line: usize,
    pub text: String,
    pub message: String,
}

/// What a list found, as it would be expected; `None` for what no tuple names.
pub fn found(rows: Vec<SubjectRow>) -> Vec<ExpectedSubject> {
    let has_wildcard = rows.iter().find(|row| matches!(row.subject, SubjectRef::Wildcard(_)));
    let of_everybody = has_wildcard.map(|row| row.decision);
    rows.into_iter().filter_map(|row| one_found(row, of_everybody)).collect()
}

fn one_found(row: SubjectRow, of_everybody: Option<Decision>) -> Option<ExpectedSubject> {
    let SubjectRow { subject, decision, missing_fields: _, exclusions, relations, cursor: _ } = row;
    let beyond_everybody = match (&subject, of_everybody, decision) {
        // A userset that no tuple names has the permission by being itself.
        (SubjectRef::Userset(..), _, _) => false,
        (SubjectRef::Wildcard(_), _, _) => true,
        (SubjectRef::Object(_), Some(Decision::Conditional), Decision::Allow) => true,
        (SubjectRef::Object(_), None | Some(Decision::Deny), _) => true,
        (SubjectRef::Object(_), Some(Decision::Allow | Decision::Conditional), _) => false,
    };
    if relations.is_empty() && !beyond_everybody {
        return None;
    }
    let excluded = |ExcludedSubject { subject, decision, missing_fields: _ }| (subject, is_conditional(decision));
    Some(ExpectedSubject {
        subject,
        conditional: is_conditional(decision),
        excluded: exclusions.into_iter().map(excluded).collect(),
        relations: Some(relations.iter().map(|(object, name)| format!("{object}#{name}")).collect()),
    })
}

fn is_conditional(decision: Decision) -> bool {
    match decision {
        Decision::Conditional => true,
        Decision::Allow | Decision::Deny => false,
    }
}

impl ExpectedRelation {
    /// `object#permission`.
    pub fn key(&self) -> String {
        format!("{}#{}", self.object, self.permission)
    }

    /// Everything in which what was found is not what is expected.
    pub fn compare(&self, found: &[ExpectedSubject]) -> Vec<Mismatch> {
        let found: BTreeMap<&SubjectRef, &ExpectedSubject> = found.iter().map(|one| (&one.subject, one)).collect();
        let mut mismatches = Vec::new();
        let mut expected = BTreeSet::new();
        for PlacedSubject { expected: wanted, text, line } in &self.subjects {
            expected.insert(&wanted.subject);
            let mut wrong = |message: String| {
                let text = format!("{} {text}", self.key());
                mismatches.push(Mismatch { line: *line, text, message });
            };
            let Some(one) = found.get(&wanted.subject) else {
                wrong(format!("`{}` was expected and does not have it", wanted.subject));
                continue;
            };
            if one.conditional != wanted.conditional {
                let (wanted, got) = (condition(wanted.conditional), condition(one.conditional));
                wrong(format!("expected {wanted}, got {got}"));
            }
            if one.excluded != wanted.excluded {
                let (wanted, got) = (set(&wanted.excluded), set(&one.excluded));
                wrong(format!("expected without {{{wanted}}}, got without {{{got}}}"));
            }
            if let (Some(wanted), Some(got)) = (&wanted.relations, &one.relations)
                && wanted != got
            {
                wrong(format!("expected by {}, got by {}", paths(wanted), paths(got)));
            }
        }
        for one in found.values().filter(|one| !expected.contains(&one.subject)) {
            let message = format!("`{one}` has it and was not expected");
            mismatches.push(Mismatch { line: self.line, text: self.key(), message });
        }
        mismatches
    }
}

fn condition(conditional: bool) -> &'static str {
    if conditional { "CONDITIONAL" } else { "ALLOW" }
}

fn set(excluded: &BTreeMap<SubjectRef, bool>) -> String {
    let one = |(subject, conditional): (&SubjectRef, &bool)| marked(subject, *conditional);
    excluded.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn marked(subject: &SubjectRef, conditional: bool) -> String {
    if conditional { format!("{subject}[...]") } else { subject.to_string() }
}

fn paths(relations: &BTreeSet<String>) -> String {
    if relations.is_empty() {
        return "none".to_owned();
    }
    relations.iter().map(|relation| format!("<{relation}>")).collect::<Vec<_>>().join("/")
}

/// As it stands in a file.
impl std::fmt::Display for ExpectedSubject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{}", marked(&self.subject, self.conditional))?;
        if !self.excluded.is_empty() {
            write!(f, " - {{{}}}", set(&self.excluded))?;
        }
        f.write_str("]")?;
        match &self.relations {
            Some(relations) if !relations.is_empty() => write!(f, " is {}", paths(relations)),
            Some(_) | None => Ok(()),
        }
    }
}

impl ExpectedSubject {
    /// Reads one line. An error has its byte offset.
    pub fn parse(text: &str) -> Result<ExpectedSubject, (usize, String)> {
        let Some(body) = text.strip_prefix('[') else {
            return Err((0, "an expected subject stands in `[` and `]`".to_owned()));
        };
        // A subject may end in `[...]`, so the bracket that closes is the one before ` is ` or the last.
        let (inside, relations) = match body.split_once("] is ") {
            Some((inside, relations)) => (inside, Some(relations)),
            None => match body.strip_suffix(']') {
                Some(inside) => (inside, None),
                None => return Err((text.len(), "`[` without its `]`, or no ` is <…>` behind it".to_owned())),
            },
        };
        let relations = relations.map(|relations| relations_in(relations, text.len() - relations.len())).transpose()?;
        let (named, list) = match inside.split_once(" - {") {
            Some((named, list)) => match list.strip_suffix('}') {
                Some(list) => (named, Some(list)),
                None => return Err((1 + inside.len(), "`{` without its `}`".to_owned())),
            },
            None => (inside, None),
        };
        let (subject, conditional) = subject_in(named, 1)?;
        let mut excluded = BTreeMap::new();
        if let Some(list) = list {
            if !matches!(subject, SubjectRef::Wildcard(_)) {
                return Err((1 + named.len(), "only a `type:*` has exclusions".to_owned()));
            }
            let mut at = 1 + named.len() + " - {".len();
            for part in list.split(", ") {
                let (one, conditional) = subject_in(part, at)?;
                excluded.insert(one, conditional);
                at += part.len() + ", ".len();
            }
        }
        Ok(ExpectedSubject { subject, conditional, excluded, relations })
    }
}

/// `<object#relation>/<…>`.
fn relations_in(text: &str, start: usize) -> Result<BTreeSet<String>, (usize, String)> {
    let expected = || "`<object#relation>` expected after `is`".to_owned();
    let mut relations = BTreeSet::new();
    let mut at = start;
    // An id may hold `/`, so the parts are told apart by their brackets.
    for part in text.split(">/<") {
        let is_first = at == start;
        let bare = if is_first { part.strip_prefix('<').ok_or_else(|| (at, expected()))? } else { part };
        let is_last = at + part.len() == start + text.len();
        let bare = if is_last { bare.strip_suffix('>').ok_or_else(|| (at + part.len(), expected()))? } else { bare };
        let bare_at = at + usize::from(is_first);
        let (object, name) = bare.split_once('#').ok_or_else(|| (bare_at, expected()))?;
        let object: ObjectRef =
            object.parse().map_err(|error: crate::model::TupleTextError| (bare_at + error.at, error.message))?;
        let name = RelationName::new(name)
            .map_err(|error| (bare_at + bare.len() - name.len() + error.at(), error.to_string()))?;
        relations.insert(format!("{object}#{name}"));
        at += part.len() + ">/<".len();
    }
    Ok(relations)
}

/// A subject with or without `[...]` behind it, which says that a condition stands before it.
fn subject_in(text: &str, at: usize) -> Result<(SubjectRef, bool), (usize, String)> {
    let (subject, conditional) = match text.strip_suffix("[...]") {
        Some(subject) => (subject, true),
        None => (text, false),
    };
    let subject = subject.parse::<SubjectRef>().map_err(|error| (at + error.at, error.message))?;
    Ok((subject, conditional))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> ExpectedSubject {
        ExpectedSubject::parse(text).unwrap()
    }

    #[test]
    fn expected_subjects_read_as_they_print() {
        for text in [
            "[user:tom] is <doc:1#viewer>",
            "[user:tom[...]] is <doc:1#owner>/<doc:1#viewer>",
            "[group:g#member] is <doc:a/b#viewer>",
            "[user:* - {user:a, user:b[...]}] is <doc:1#viewer>",
            "[user:*[...] - {user:a}] is <doc:1#viewer>",
            "[user:tom]",
        ] {
            assert_eq!(parsed(text).to_string(), text);
        }
        assert_eq!(parsed("[user:tom#...] is <doc:1#b>/<doc:1#a>").to_string(), "[user:tom] is <doc:1#a>/<doc:1#b>");
        for bad in [
            "",
            "user:tom",
            "[user:tom",
            "[user:tom] is doc",
            "[user:tom] is <doc:1>",
            "[user:tom] is <doc:1#v>/",
            "[user:tom] is <doc:1#v>x",
            "[user:a - {user:b}] is <d:1#v>",
            "[user:* - {user:b] is <d:1#v>",
            "[] is <d:1#v>",
        ] {
            assert!(ExpectedSubject::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_way_to_differ_is_named() {
        let relation = |texts: &[&str]| ExpectedRelation {
            object: "doc:1".parse().unwrap(),
            permission: RelationName::new("view").unwrap(),
            line: 3,
            subjects: texts
                .iter()
                .enumerate()
                .map(|(n, text)| PlacedSubject { expected: parsed(text), text: (*text).to_owned(), line: 4 + n })
                .collect(),
        };
        let there: Vec<ExpectedSubject> =
            ["[user:tom] is <doc:1#viewer>", "[user:* - {user:a}] is <doc:1#viewer>"].map(parsed).into();
        let told = |texts: &[&str]| -> Vec<(usize, String)> {
            relation(texts).compare(&there).into_iter().map(|wrong| (wrong.line, wrong.message)).collect()
        };
        let all = "[user:* - {user:a}] is <doc:1#viewer>";
        assert!(told(&["[user:tom] is <doc:1#viewer>", all]).is_empty());
        assert!(told(&["[user:tom]", all]).is_empty());
        let is = |line, text: &str| vec![(line, text.to_owned())];
        assert_eq!(told(&["[user:tom[...]]", all]), is(4, "expected CONDITIONAL, got ALLOW"));
        let by = "expected by <doc:1#owner>, got by <doc:1#viewer>";
        assert_eq!(told(&["[user:tom] is <doc:1#owner>", all]), is(4, by));
        assert_eq!(told(&["[user:tom]", "[user:*]"]), is(5, "expected without {}, got without {user:a}"));
        let extra = "`[user:tom] is <doc:1#viewer>` has it and was not expected";
        assert_eq!(told(&[all]), is(3, extra));
        let missing = "`user:eve` was expected and does not have it";
        assert_eq!(told(&["[user:tom]", all, "[user:eve]"]), is(6, missing));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,40}", near in "[\\[\\]{}<>#:*/a., is-]{0,40}") {
            let _ = ExpectedSubject::parse(&text);
            let _ = ExpectedSubject::parse(&near);
        }
    }
}
