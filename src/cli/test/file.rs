//! The form of a validation file, and where everything in it stands.
//!
//! SpiceDB's files are taken as they are: `schema` or `schemaFile`, `relationships`, `assertions`, `validation`.
//! INVARIANT: every key and every line is either understood or refused with its place; nothing is skipped.

use super::assertion::{self, Assertion};
use super::delegated::Delegated;
use super::expected::{ExpectedRelation, ExpectedSubject, PlacedSubject};
use super::scalar;
use super::world::Decided;
use crate::cli::input::{Wrong, is_item};
use crate::model::{DenyReason, ObjectRef, RelationName, RelationTuple, Timestamp, TupleKey};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{MessageFormatter, Spanned, UserMessageFormatter};
use std::collections::HashMap;
use std::fmt;

/// A validation file, understood.
#[derive(Debug)]
pub struct ValidationFile {
    /// The world's clock; `None` is the present.
    pub now: Option<Timestamp>,
    pub schema: SchemaSource,
    pub relationships: Vec<Placed<RelationTuple>>,
    /// Where `relationships` stands; 1 when it does not.
    pub relationships_line: usize,
    /// Who acts for whom, and who is suspended.
    pub delegated: Delegated,
    /// Assertions, in the order of the file.
    pub asked: Vec<Asked>,
    /// Expected relations, in the order of the file.
    pub expected: Vec<ExpectedRelation>,
}

impl ValidationFile {
    /// Whether it is judged by another time than the present.
    pub fn sets_time(&self) -> bool {
        self.now.is_some()
            || !self.delegated.delegations.is_empty()
            || self.asked.iter().any(|asked| asked.assertion.at.is_some())
    }
}

/// Where the schema comes from; `line` is that of the key's value.
#[derive(Debug)]
pub enum SchemaSource {
    Inline { text: String, line: usize },
    File { path: String, line: usize },
}

impl SchemaSource {
    /// 1-based.
    pub fn line(&self) -> usize {
        match self {
            SchemaSource::Inline { line, .. } | SchemaSource::File { line, .. } => *line,
        }
    }
}

/// A value and its place: the 1-based line, and the byte offset within it.
#[derive(Debug)]
pub struct Placed<T> {
    pub value: T,
    pub line: usize,
    pub at: usize,
}

/// A question and what must be answered.
#[derive(Debug, Clone)]
pub struct Asked {
    pub assertion: Assertion,
    pub expectation: Expectation,
    /// What must be named besides, if anything.
    pub named: Named,
    /// As written.
    pub text: String,
    /// 1-based.
    pub line: usize,
}

/// What an answer must name as the reason why it is no allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Named {
    pub reason: Option<DenyReason>,
    pub hop: Option<usize>,
}

impl Named {
    /// As a person reads it, behind what was expected.
    pub fn words(self) -> String {
        let reason = self.reason.map(|reason| format!(" {}", reason.as_str())).unwrap_or_default();
        format!("{reason}{}", self.hop.map(|hop| format!(" at hop {hop}")).unwrap_or_default())
    }
}

impl Asked {
    /// Whether an answer is as expected, and names what it must.
    pub fn met_by(&self, Decided { decision, denial }: &Decided) -> bool {
        let Named { reason, hop } = self.named;
        self.expectation.met_by(*decision)
            && (reason.is_none() || reason == denial.map(|denial| denial.reason))
            && (hop.is_none() || hop == denial.and_then(|denial| denial.hop))
    }
}

/// What must be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expectation {
    Allow,
    Deny,
    Conditional,
}

const KEYS: &[&str] = &[
    "schema",
    "schemaFile",
    "now",
    "relationships",
    "delegations",
    "suspended",
    "max_lifetime",
    "max_depth",
    "assertions",
    "validation",
];
const ASSERTIONS: &[(&str, Expectation)] = &[
    ("assertTrue", Expectation::Allow),
    ("assertCaveated", Expectation::Conditional),
    ("assertFalse", Expectation::Deny),
];

/// Parses the text of a file; `name` is what a person calls it. All that is wrong is returned together.
pub fn parse(name: &str, text: &str) -> Result<ValidationFile, Vec<Wrong>> {
    let mut reader = Reader { name, lines: text.lines().collect(), wrongs: Vec::new() };
    let root: Spanned<Node> = match serde_saphyr::from_str(text) {
        Ok(root) => root,
        Err(error) => {
            let (line, column) =
                error.location().map_or((1, 1), |location| (location.line() as usize, location.column() as usize));
            let error = UserMessageFormatter.format_message(error.without_snippet());
            reader.wrong_at_column(line, column, format!("not YAML we can read: {error}"), None);
            return Err(reader.wrongs);
        }
    };
    let file = reader.file(&root);
    match file {
        Some(file) if reader.wrongs.is_empty() => Ok(file),
        Some(_) | None => Err(reader.wrongs),
    }
}

/// Where each line of a block of text stands in the file around it: its 1-based line, and by how many bytes it is
/// shifted there. Block scalars lose their indent, folded ones their line ends, so lines are found by their content,
/// in order, from `line` on; one that is not found takes the place of the one before.
pub fn places(file: &str, line: usize, block: &str) -> Vec<(usize, isize)> {
    let lines: Vec<&str> = file.lines().collect();
    let mut cursor = Cursor { line };
    let mut last = (line, 0);
    block
        .lines()
        .map(|text| {
            let wanted = text.trim();
            if let Some((line, at)) = cursor.find(&lines, wanted) {
                let indent = text.len() - text.trim_start().len();
                last = (line, at as isize - indent as isize);
            }
            last
        })
        .collect()
}

/// Finds the lines of a block one after the other.
struct Cursor {
    /// 1-based: the line to look at next.
    line: usize,
}

impl Cursor {
    /// The next line that is `wanted` (space around aside), or else holds it; and where in it. A comment may quote a
    /// tuple, so the whole line is looked for first.
    fn find(&mut self, lines: &[&str], wanted: &str) -> Option<(usize, usize)> {
        if wanted.is_empty() {
            return None;
        }
        let from = self.line.saturating_sub(1);
        let ahead = || lines.iter().enumerate().skip(from);
        let (index, text) = ahead()
            .find(|(_, text)| text.trim() == wanted)
            .or_else(|| ahead().find(|(_, text)| text.contains(wanted)))?;
        self.line = index + 2;
        Some((index + 1, text.find(wanted)?))
    }
}

/// Any YAML value, with the places of what it holds.
#[derive(Debug)]
pub(super) enum Node {
    Null,
    Text(String),
    List(Vec<Spanned<Node>>),
    Map(Vec<(Spanned<String>, Spanned<Node>)>),
    Bool(bool),
    Number(serde_json::Number),
    /// A number that JSON has none for: nothing of ours.
    Other(&'static str),
}

impl Node {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Node::Null => "nothing",
            Node::Text(_) => "text",
            Node::List(_) => "a list",
            Node::Map(_) => "a mapping",
            Node::Bool(_) => "a boolean",
            Node::Number(_) => "a number",
            Node::Other(kind) => kind,
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Node, E> {
        Ok(Node::Number(number.into()))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Node, E> {
        Ok(Node::Number(number.into()))
    }

    fn visit_i128<E: de::Error>(self, _: i128) -> Result<Node, E> {
        Ok(Node::Other("a number"))
    }

    fn visit_u128<E: de::Error>(self, _: u128) -> Result<Node, E> {
        Ok(Node::Other("a number"))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Node, E> {
        Ok(serde_json::Number::from_f64(number).map_or(Node::Other("a number"), Node::Number))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Node::Map(map))
    }
}

pub(super) fn line_of<T>(spanned: &Spanned<T>) -> usize {
    (spanned.referenced.line() as usize).max(1)
}

/// Turns nodes into a file, and keeps what is wrong.
pub(super) struct Reader<'a> {
    name: &'a str,
    lines: Vec<&'a str>,
    pub(super) wrongs: Vec<Wrong>,
}

impl<'a> Reader<'a> {
    fn line_text(&self, line: usize) -> &'a str {
        self.lines.get(line.saturating_sub(1)).copied().unwrap_or("")
    }

    pub(super) fn wrong(&mut self, line: usize, at: usize, message: impl Into<String>, hint: Option<String>) {
        let text = self.line_text(line).trim_end();
        self.wrongs.push(Wrong {
            source: self.name.to_owned(),
            line,
            text: text.to_owned(),
            at: at.min(text.len()),
            message: message.into(),
            hint,
        });
    }

    fn wrong_at_column(&mut self, line: usize, column: usize, message: String, hint: Option<String>) {
        let text = self.line_text(line);
        let at = text.char_indices().nth(column.saturating_sub(1)).map_or(text.len(), |(at, _)| at);
        self.wrong(line, at, message, hint);
    }

    pub(super) fn wrong_node<T>(&mut self, node: &Spanned<T>, message: impl Into<String>, hint: Option<String>) {
        self.wrong_at_column(line_of(node), node.referenced.column() as usize, message.into(), hint);
    }

    fn file(&mut self, root: &Spanned<Node>) -> Option<ValidationFile> {
        let Node::Map(entries) = &root.value else {
            let message = format!("a validation file is a mapping, this is {}", root.value.kind());
            self.wrong_node(root, message, Some(format!("its keys are {}", KEYS.join(", "))));
            return None;
        };
        let mut schemas = Vec::new();
        let mut file_parts = (Vec::new(), 1, Vec::new(), Vec::new());
        let mut now = None;
        let mut delegated = Delegated::default();
        for (key, value) in entries {
            match key.value.as_str() {
                "schema" => schemas.extend(
                    self.text(key, value)
                        .map(|text| (key, SchemaSource::Inline { text: text.to_owned(), line: line_of(value) })),
                ),
                "schemaFile" => schemas.extend(
                    self.text(key, value)
                        .map(|path| (key, SchemaSource::File { path: path.to_owned(), line: line_of(value) })),
                ),
                "now" => now = self.instant(key, value),
                "relationships" => {
                    file_parts.0 = self.relationships(key, value);
                    file_parts.1 = line_of(key);
                }
                "assertions" => self.assertions(value, &mut file_parts.2),
                "validation" => file_parts.3 = self.validation(value),
                "delegations" => delegated.delegations = self.delegations(value),
                "suspended" => delegated.suspended = self.suspended(value),
                "max_lifetime" => delegated.lifetime_max = self.lifetime(key, value),
                "max_depth" => delegated.depth_max = self.depth(key, value),
                other => {
                    let message = format!("`{other}` is no key of a validation file");
                    self.wrong_node(key, message, near(other, KEYS));
                }
            }
        }
        let (relationships, relationships_line, asked, expected) = file_parts;
        let mut schemas = schemas.into_iter();
        let Some((_, schema)) = schemas.next() else {
            if self.wrongs.is_empty() {
                self.wrong(1, 0, "neither `schema` nor `schemaFile`", Some("a world needs a schema".to_owned()));
            }
            return None;
        };
        if let Some((key, _)) = schemas.next() {
            self.wrong_node(key, "a second schema", Some("give `schema` or `schemaFile`".to_owned()));
        }
        Some(ValidationFile { now, schema, relationships, relationships_line, delegated, asked, expected })
    }

    /// The value of a key that must be text; nothing where it is null.
    pub(super) fn text<'n>(&mut self, key: &Spanned<String>, value: &'n Spanned<Node>) -> Option<&'n str> {
        match &value.value {
            Node::Text(text) => Some(text),
            Node::Null => None,
            Node::List(_) | Node::Map(_) | Node::Bool(_) | Node::Number(_) | Node::Other(_) => {
                let message = format!("`{}` must be text, this is {}", key.value, value.value.kind());
                self.wrong_node(value, message, None);
                None
            }
        }
    }

    pub(super) fn instant(&mut self, key: &Spanned<String>, value: &Spanned<Node>) -> Option<Timestamp> {
        let text = self.text(key, value)?.trim();
        match text.parse() {
            Ok(instant) => Some(instant),
            Err(message) => {
                self.wrong_node::<Node>(
                    value,
                    message,
                    Some("the world's clock, such as 2027-01-01T00:00:00Z".to_owned()),
                );
                None
            }
        }
    }

    fn relationships(&mut self, key: &Spanned<String>, value: &Spanned<Node>) -> Vec<Placed<RelationTuple>> {
        let Some(block) = self.text(key, value) else { return Vec::new() };
        let mut cursor = Cursor { line: line_of(key) };
        let mut tuples = Vec::new();
        let mut seen: HashMap<TupleKey, usize> = HashMap::new();
        let mut line = line_of(key);
        for text in block.lines().filter(|line| is_item(line)).map(str::trim) {
            let found = cursor.find(&self.lines, text);
            let at = found.map_or(0, |(_, at)| at);
            line = found.map_or(line, |(line, _)| line);
            match text.parse::<RelationTuple>() {
                Err(error) => {
                    self.wrong(line, at + error.at, error.message, Some(error.hint.to_owned()));
                }
                Ok(tuple) => {
                    if let Some(first) = seen.insert(tuple.key.clone(), line) {
                        let hint =
                            Some("object, relation and subject name a tuple; caveat and expiry do not".to_owned());
                        self.wrong(line, at, format!("the same tuple stands in line {first} already"), hint);
                    }
                    tuples.push(Placed { value: tuple, line, at });
                }
            }
        }
        tuples
    }

    fn assertions(&mut self, value: &Spanned<Node>, asked: &mut Vec<Asked>) {
        let Some(kinds) = self.map_or_nothing("assertions", value) else { return };
        for (key, items) in kinds {
            let known = ASSERTIONS.iter().find(|(name, _)| *name == key.value);
            let Some((_, expectation)) = known else {
                let names: Vec<&str> = ASSERTIONS.iter().map(|(name, _)| *name).collect();
                let message = format!("`{}` is no kind of assertion", key.value);
                self.wrong_node(key, message, near(&key.value, &names));
                continue;
            };
            let Some(items) = self.list_or_nothing(&key.value, items) else { continue };
            for item in items {
                let Some((checked, named)) = self.checked(item) else { continue };
                let Node::Text(text) = &checked.value else { continue };
                let text = text.trim();
                if let Some(assertion) = self.assertion(checked, text) {
                    asked.push(Asked {
                        assertion,
                        expectation: *expectation,
                        named,
                        text: text.to_owned(),
                        line: line_of(item),
                    });
                }
            }
        }
    }

    /// One assertion's text, and what its answer must name; a mapping has both.
    fn checked<'n>(&mut self, item: &'n Spanned<Node>) -> Option<(&'n Spanned<Node>, Named)> {
        let entries = match &item.value {
            Node::Text(_) => return Some((item, Named::default())),
            Node::Map(entries) => entries,
            Node::Null | Node::List(_) | Node::Bool(_) | Node::Number(_) | Node::Other(_) => {
                let message = format!("an assertion is text, this is {}", item.value.kind());
                self.wrong_node(item, message, Some("such as `document:plan#view@user:rita`".to_owned()));
                return None;
            }
        };
        let (mut checked, mut named) = (None, Named::default());
        for (key, value) in entries {
            match key.value.as_str() {
                "check" => checked = self.text(key, value).map(|_| value),
                "reason" => {
                    let text = self.text(key, value)?.trim();
                    named.reason = DenyReason::ALL.into_iter().find(|reason| reason.as_str() == text);
                    if named.reason.is_none() {
                        let known: Vec<&str> = DenyReason::ALL.iter().map(|reason| reason.as_str()).collect();
                        self.wrong_node(value, format!("`{text}` is no reason"), near(text, &known));
                    }
                }
                "hop" => named.hop = self.count(key, value),
                other => {
                    let message = format!("`{other}` is no key of an assertion");
                    self.wrong_node(key, message, near(other, &["check", "reason", "hop"]));
                }
            }
        }
        if checked.is_none() {
            self.wrong_node(item, "an assertion without `check`", Some("give the question as `check`".to_owned()));
        }
        Some((checked?, named))
    }

    fn assertion(&mut self, item: &Spanned<Node>, text: &str) -> Option<Assertion> {
        match assertion::parse(text) {
            Ok(assertion) => Some(assertion),
            Err((offset, message, hint)) => {
                let (line, at) = self.place(item, text, offset);
                self.wrong(line, at, message, Some(hint.to_owned()));
                None
            }
        }
    }

    /// The line, and the byte within it, where a byte of a scalar's text stands, whatever form the scalar has.
    pub(super) fn place<T>(&self, node: &Spanned<T>, text: &str, offset: usize) -> (usize, usize) {
        let (line, column) = (line_of(node), (node.referenced.column() as usize).saturating_sub(1));
        let first = self.line_text(line);
        let at = first.char_indices().nth(column).map_or(first.len(), |(at, _)| at);
        scalar::place(&self.lines, (line, at), text, offset).unwrap_or((line, at))
    }

    /// Expected relations. A key, and a subject below it, may stand once.
    fn validation(&mut self, value: &Spanned<Node>) -> Vec<ExpectedRelation> {
        let mut expected: Vec<ExpectedRelation> = Vec::new();
        let Some(relations) = self.map_or_nothing("validation", value) else { return expected };
        for (key, items) in relations {
            let Some((object, permission)) = self.expected_relation(key) else { continue };
            if expected.iter().any(|one| one.object == object && one.permission == permission) {
                self.wrong_node(key, format!("`{}` stands here twice", key.value.trim()), None);
                continue;
            }
            let mut relation = ExpectedRelation { object, permission, line: line_of(key), subjects: Vec::new() };
            for item in self.list_or_nothing(&key.value, items).unwrap_or_default() {
                self.expected_subject(item, &mut relation.subjects);
            }
            expected.push(relation);
        }
        expected
    }

    fn expected_subject(&mut self, item: &Spanned<Node>, subjects: &mut Vec<PlacedSubject>) {
        let Node::Text(text) = &item.value else {
            let message = format!("an expected subject is text, this is {}", item.value.kind());
            return self.wrong_node(item, message, expected_hint());
        };
        let text = text.trim();
        match ExpectedSubject::parse(text) {
            Err((at, message)) => {
                let (line, at) = self.place(item, text, at);
                self.wrong(line, at, message, expected_hint());
            }
            Ok(expected) if subjects.iter().any(|one| one.expected.subject == expected.subject) => {
                self.wrong_node(item, format!("`{}` is expected twice", expected.subject), None);
            }
            Ok(expected) => {
                subjects.push(PlacedSubject { expected, text: text.to_owned(), line: line_of(item) });
            }
        }
    }

    fn expected_relation(&mut self, key: &Spanned<String>) -> Option<(ObjectRef, RelationName)> {
        let text = key.value.trim();
        let hint = Some("an expected relation is `object#permission`, such as `document:plan#view`".to_owned());
        let Some((object, permission)) = text.split_once('#') else {
            let (line, at) = self.place(key, text, text.len());
            self.wrong(line, at, format!("`{text}` has no `#permission`"), hint);
            return None;
        };
        let permission_at = object.len() + 1;
        match (object.parse::<ObjectRef>(), RelationName::new(permission)) {
            (Ok(object), Ok(permission)) => Some((object, permission)),
            (Err(error), _) => {
                let (line, at) = self.place(key, text, error.at);
                self.wrong(line, at, error.message, hint);
                None
            }
            (Ok(_), Err(error)) => {
                let (line, at) = self.place(key, text, permission_at + error.at());
                self.wrong(line, at, error.to_string(), hint);
                None
            }
        }
    }

    pub(super) fn map_or_nothing<'n>(
        &mut self,
        what: &str,
        node: &'n Spanned<Node>,
    ) -> Option<&'n [(Spanned<String>, Spanned<Node>)]> {
        match &node.value {
            Node::Map(entries) => Some(entries),
            Node::Null => None,
            // SpiceDB's files write an empty block in either form.
            Node::List(items) if items.is_empty() => None,
            Node::List(_) | Node::Text(_) | Node::Bool(_) | Node::Number(_) | Node::Other(_) => {
                self.wrong_node(node, format!("`{what}` must be a mapping, this is {}", node.value.kind()), None);
                None
            }
        }
    }

    pub(super) fn list_or_nothing<'n>(&mut self, what: &str, node: &'n Spanned<Node>) -> Option<&'n [Spanned<Node>]> {
        match &node.value {
            Node::List(items) => Some(items),
            Node::Null => None,
            Node::Map(entries) if entries.is_empty() => None,
            Node::Map(_) | Node::Text(_) | Node::Bool(_) | Node::Number(_) | Node::Other(_) => {
                self.wrong_node(node, format!("`{what}` must be a list, this is {}", node.value.kind()), None);
                None
            }
        }
    }
}

fn expected_hint() -> Option<String> {
    Some(
        "such as `[user:rita] is <document:plan#viewer>`, `[user:rita[...]] is …` or `[user:* - {user:tom}] is …`"
            .to_owned(),
    )
}

pub(super) fn near(given: &str, known: &[&str]) -> Option<String> {
    let nearest = known.iter().min_by_key(|name| strsim::damerau_levenshtein(given, name))?;
    if strsim::damerau_levenshtein(given, nearest) <= 3 {
        return Some(format!("did you mean `{nearest}`?"));
    }
    Some(format!("known are {}", known.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrongs(text: &str) -> Vec<(usize, usize, String)> {
        let wrongs = parse("world.yaml", text).unwrap_err();
        wrongs.iter().map(|wrong| (wrong.line, wrong.column(), wrong.message.clone())).collect()
    }

    const WORLD: &str = r#"---
schema: |-
  definition user {}
  definition doc {
    relation viewer: user
  }
relationships: |-
  // people; not doc:1#viewer@user:rita

    doc:1#viewer@user:rita
  doc:2#viewer@user:dana#...
assertions:
  assertTrue:
    - "doc:1#viewer@user:rita"
    - doc:2#viewer@user:dana#...
  assertFalse:
    - 'doc:1#viewer@user:dana'
  assertCaveated: []
validation: null
"#;

    #[test]
    fn everything_has_its_place() {
        let file = parse("world.yaml", WORLD).unwrap();
        let tuples: Vec<(usize, usize, String)> =
            file.relationships.iter().map(|placed| (placed.line, placed.at, placed.value.to_string())).collect();
        let expected = [(10, 4, "doc:1#viewer@user:rita".to_owned()), (11, 2, "doc:2#viewer@user:dana".to_owned())];
        assert_eq!(tuples, expected);
        let asked: Vec<(usize, Expectation)> = file.asked.iter().map(|asked| (asked.line, asked.expectation)).collect();
        assert_eq!(asked, [(14, Expectation::Allow), (15, Expectation::Allow), (17, Expectation::Deny)]);
        let SchemaSource::Inline { text, line } = &file.schema else { panic!("not inline") };
        let places = places(WORLD, *line, text);
        assert_eq!(places.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [3, 4, 5, 6]);
        assert_eq!(places[2].1, 2);
    }

    #[test]
    fn folded_relationships_keep_their_lines() {
        let text = "schema: \"\"\nrelationships: >-\n  doc:1#viewer@user:rita\n\n  doc:1#viewer@user:dana\n";
        let file = parse("w", text).unwrap();
        assert_eq!(file.relationships.iter().map(|placed| placed.line).collect::<Vec<_>>(), [3, 5]);
    }

    #[test]
    fn absent_null_and_empty_blocks_are_fine() {
        for tail in [
            "",
            "relationships: \"\"\n",
            "assertions: null\nvalidation: {}\n",
            "assertions:\n  assertTrue:\nvalidation:\n",
            "assertions: []\n",
        ] {
            let file = parse("w", &format!("schema: \"definition user {{}}\"\n{tail}")).unwrap();
            assert!(file.asked.is_empty() && file.relationships.is_empty(), "{tail}");
        }
    }

    #[test]
    fn an_assertion_may_name_its_reason() {
        let head = "schema: \"\"\nassertions:\n  assertFalse:\n";
        let file = parse(
            "w",
            &format!("{head}    - {{check: 'doc:1#view@agent:bot via d1', reason: OUT_OF_SCOPE, hop: 1}}\n"),
        )
        .unwrap();
        let [asked] = file.asked.as_slice() else { panic!("one assertion") };
        assert_eq!(asked.named, Named { reason: Some(DenyReason::OutOfScope), hop: Some(1) });
        assert_eq!(asked.assertion.via.as_deref(), Some("d1"));
        for (item, what) in [
            ("{check: 'doc:1#view@user:x', reason: BORED}", "is no reason"),
            ("{check: 'doc:1#view@user:x', hops: 1}", "no key of an assertion"),
            ("{check: 'doc:1#view@user:x', hop: one}", "must be a number"),
            ("{reason: SUSPENDED}", "without `check`"),
        ] {
            let found = wrongs(&format!("{head}    - {item}\n"));
            assert!(found.len() == 1 && found[0].2.contains(what), "{item}: {found:?}");
        }
    }

    #[test]
    fn a_world_has_a_clock() {
        let now = |text: &str| parse("w", &format!("schema: \"\"\nnow: {text}\n")).map(|file| file.now);
        assert_eq!(now("2027-01-01T00:00:00Z").unwrap().unwrap().to_string(), "2027-01-01T00:00:00Z");
        assert_eq!(now("").unwrap(), None);
        let found = wrongs("schema: \"\"\nnow: noon\n");
        assert_eq!((found[0].0, found[0].1), (2, 6));
        assert!(found[0].2.contains("RFC 3339"), "{found:?}");
    }

    #[test]
    fn an_assertion_is_pointed_into_whatever_its_form() {
        let head = "schema: \"\"\nassertions:\n  assertTrue:\n";
        for (item, line, column) in [
            ("    - doc:1#view@user:tom at noon\n", 4, 30),
            ("    - 'doc:1#view@user:tom with {\"x\": \"it''s\"} at noon'\n", 4, 51),
            ("    - \"doc:1#view@user:tom with {\\\"x\\\": y}\"\n", 4, 41),
            ("    - >-\n      doc:1#view@user:tom\n      with {\"x\": y}\n", 6, 18),
            ("    - |-\n      doc:1#view@user:tom with {\n      \"x\": y}\n", 6, 12),
            ("    - doc:1#view@user:tom with {\n", 4, 33),
        ] {
            let found = wrongs(&format!("{head}{item}"));
            assert_eq!(
                found.iter().map(|(line, column, _)| (*line, *column)).collect::<Vec<_>>(),
                [(line, column)],
                "{item}"
            );
        }
    }

    #[test]
    fn all_that_is_wrong_is_named_at_once() {
        let relationships = "relationships: |\n  doc:1#viewer\n  doc:1#viewer@user:a\n  doc:1#viewer@user:a\n";
        let assertions = "assertions:\n  assertTrue:\n    - doc:1#view\n    - 7\n  assertMaybe: []\n";
        let text = format!("schema: \"\"\nrelationship: x\n{relationships}{assertions}");
        let found = wrongs(&text);
        let lines: Vec<usize> = found.iter().map(|(line, _, _)| *line).collect();
        assert_eq!(lines, [2, 4, 6, 9, 10, 11], "{found:?}");
        assert!(found[2].2.contains("line 5 already"));
        assert_eq!(found[1].1, 15);
    }

    #[test]
    fn what_is_no_world_is_refused() {
        assert_eq!(wrongs("- a\n")[0].0, 1);
        assert_eq!(wrongs("")[0].0, 1);
        assert!(wrongs("relationships: \"\"\n")[0].2.contains("neither"));
        assert!(wrongs("schema: a\nschemaFile: b\n")[0].2.contains("second schema"));
        assert!(wrongs("schema: [a]\n")[0].2.contains("must be text"));
        assert_eq!(wrongs("schema: a\nschema: b\n")[0].0, 2);
        assert_eq!(wrongs("schema: \"\n")[0].0, 1);
        // What the parser of YAML says is for a person, not for whoever wrote a program with it.
        assert_eq!(wrongs("schema: a\n~: b\n"), [(2, 1, "not YAML we can read: null is not allowed here".to_owned())]);
        let twice = "not YAML we can read: duplicate mapping key `now` is not allowed here";
        assert_eq!(wrongs("now: a\nnow: b\n"), [(2, 1, twice.to_owned())]);
    }

    #[test]
    fn a_validation_block_is_what_is_expected() {
        let text = "schema: \"\"\nvalidation:\n  doc:1#view:\n    - \"[user:tom] is <doc:1#viewer>\"\n\
                    \x20   - \"[user:* - {user:x}] is <doc:1#viewer>\"\n  doc:2#view: []\n";
        let file = parse("w", text).unwrap();
        let expected: Vec<(usize, String, usize)> =
            file.expected.iter().map(|one| (one.line, one.key(), one.subjects.len())).collect();
        assert_eq!(expected, [(3, "doc:1#view".to_owned(), 2), (6, "doc:2#view".to_owned(), 0)]);
        assert_eq!(file.expected[0].subjects[1].line, 5);
        assert_eq!(wrongs("schema: \"\"\nvalidation:\n  doc:1: []\n")[0].0, 3);
        let twice = "schema: \"\"\nvalidation:\n  doc:1#view: ['[user:a]', '[user:a]']\n";
        assert!(wrongs(twice)[0].2.contains("twice"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,40}", yaml in "[-a-z:#@{}\\[\\]| \\n\"'>*&]{0,60}") {
            let _ = parse("w", &text);
            let _ = parse("w", &yaml);
            let file = format!("schema: ''\nrelationships: |\n  {text}\nassertions:\n  assertTrue: [{text}]\n");
            let _ = parse("w", &file);
        }
    }
}
