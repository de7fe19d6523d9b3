//! What a person typed or a file holds, one item per line, and where it stood: every wrong one is pointed at.

use super::exit::Failure;
use crate::engine::TupleSubject;
use crate::model::{Context, Limits, ObjectId, Question, RelationTuple, TupleKey, TupleTextError};
use crate::schema::{Composed, Loader, Placed, Source as SchemaSource, compose};
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Wrong lines shown of one input; the rest are counted.
const SHOWN_MAX: usize = 20;

/// Where text came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Arguments,
    Stdin,
    File(PathBuf),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Arguments => f.write_str("argument"),
            Source::Stdin => f.write_str("<stdin>"),
            Source::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// One item and its place.
#[derive(Clone, Debug)]
pub struct Item<T> {
    pub value: T,
    pub source: Source,
    /// 1-based: the line of a file, or which argument.
    pub line: usize,
}

/// A place in a text that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// As a person finds it: a path, `<stdin>` or `argument`.
    pub source: String,
    /// 1-based.
    pub line: usize,
    /// The whole line, without its end.
    pub text: String,
    /// Byte offset into `text`, at most its length.
    pub at: usize,
    pub message: String,
    pub hint: Option<String>,
}

impl Wrong {
    /// 1-based, in characters.
    pub fn column(&self) -> usize {
        self.text.get(..self.at).map_or(1, |before| before.chars().count() + 1)
    }

    /// `file:line:column`, the line, a caret under the place, and the hint.
    pub fn rendered(&self) -> String {
        // A caret wants whole characters; and one past the end still points at the line's end.
        let rest = self.text.get(self.at..);
        let start = rest.map_or(0, |_| self.at);
        let end = start + rest.and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
        let snippet = Snippet::source(self.text.as_str())
            .line_start(self.line)
            .path(self.source.as_str())
            .annotation(AnnotationKind::Primary.span(start..end));
        let mut group = Level::ERROR.primary_title(self.message.as_str()).element(snippet);
        if let Some(hint) = &self.hint {
            // A hint may quote what was typed, and `message` does not neutralise control characters itself.
            group = group.element(Level::HELP.message(annotate_snippets::normalize_untrusted_str(hint)));
        }
        Renderer::styled().render(&[group])
    }
}

/// The failure for a list of wrong places: all are shown, up to a bound.
pub fn refuse(wrongs: &[Wrong]) -> Failure {
    let pointed = wrongs.iter().take(SHOWN_MAX).map(Wrong::rendered).collect();
    let more = wrongs.len().saturating_sub(SHOWN_MAX);
    let shown = if more > 0 { format!(" ({more} not shown)") } else { String::new() };
    let noun = if wrongs.len() == 1 { "item is" } else { "items are" };
    Failure::usage(format!("{} {noun} not well formed{shown}; nothing was sent", wrongs.len())).with_pointed(pointed)
}

/// Reads the texts named: an argument that holds no `#` is a file, `-` is standard input, anything else is the text
/// itself. Tuples and questions always hold a `#`.
pub fn read_items<T: Parsed>(arguments: &[String], file: Option<&Path>) -> Result<Vec<Item<T>>, Failure> {
    let mut items = Vec::new();
    let mut wrongs = Vec::new();
    for (index, argument) in arguments.iter().enumerate() {
        if argument == "-" {
            lines_of(&Source::Stdin, &read_stdin()?, &mut items, &mut wrongs);
        } else if argument.contains('#') {
            line_of(&Source::Arguments, index + 1, argument, &mut items, &mut wrongs);
        } else {
            file_of::<T>(Path::new(argument), &mut items, &mut wrongs)?;
        }
    }
    if let Some(path) = file {
        if path == Path::new("-") {
            lines_of(&Source::Stdin, &read_stdin()?, &mut items, &mut wrongs);
        } else {
            file_of::<T>(path, &mut items, &mut wrongs)?;
        }
    }
    if wrongs.is_empty() { Ok(items) } else { Err(refuse(&wrongs)) }
}

/// Reads the texts given, each one item, and then those of a file; `-` is standard input.
pub fn read_texts<T: Parsed>(texts: &[String], file: Option<&Path>) -> Result<Vec<Item<T>>, Failure> {
    let mut items = Vec::new();
    let mut wrongs = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        line_of(&Source::Arguments, index + 1, text, &mut items, &mut wrongs);
    }
    match file {
        None => {}
        Some(path) if path == Path::new("-") => lines_of(&Source::Stdin, &read_stdin()?, &mut items, &mut wrongs),
        Some(path) => file_of::<T>(path, &mut items, &mut wrongs)?,
    }
    if wrongs.is_empty() { Ok(items) } else { Err(refuse(&wrongs)) }
}

fn file_of<T: Parsed>(path: &Path, items: &mut Vec<Item<T>>, wrongs: &mut Vec<Wrong>) -> Result<(), Failure> {
    let text = read_file(path).map_err(|failure| failure.with_hint(T::HINT))?;
    lines_of(&Source::File(path.to_owned()), &text, items, wrongs);
    Ok(())
}

/// One item per line; blank lines and lines that start with `//` are not items.
fn lines_of<T: Parsed>(source: &Source, text: &str, items: &mut Vec<Item<T>>, wrongs: &mut Vec<Wrong>) {
    for (index, line) in text.lines().enumerate() {
        if is_item(line) {
            line_of(source, index + 1, line, items, wrongs);
        }
    }
}

/// Whether a line of a file holds an item, rather than nothing or a comment.
pub fn is_item(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && !line.starts_with("//")
}

fn line_of<T: Parsed>(source: &Source, line: usize, text: &str, items: &mut Vec<Item<T>>, wrongs: &mut Vec<Wrong>) {
    match T::parsed(text.trim()) {
        Ok(value) => items.push(Item { value, source: source.clone(), line }),
        Err(error) => {
            let indent = text.len() - text.trim_start().len();
            wrongs.push(Wrong {
                source: source.to_string(),
                line,
                text: text.trim_end().to_owned(),
                at: (indent + error.at).min(text.trim_end().len()),
                message: error.message,
                hint: Some(error.hint.to_owned()),
            });
        }
    }
}

/// What an item may be.
pub trait Parsed: Sized {
    /// What to say where a file could not be opened that was perhaps meant to be an item.
    const HINT: &'static str;
    /// Parses one item without space around it.
    fn parsed(text: &str) -> Result<Self, TupleTextError>;
}

impl Parsed for RelationTuple {
    const HINT: &'static str =
        "a tuple is `type:id#relation@type:id`; an argument without `#` is taken for a file of tuples";
    fn parsed(text: &str) -> Result<RelationTuple, TupleTextError> {
        text.parse()
    }
}

impl Parsed for TupleSubject {
    const HINT: &'static str = "a file of subjects has one a line";
    fn parsed(text: &str) -> Result<TupleSubject, TupleTextError> {
        // The law of a tuple's text is the law of its subject and what follows.
        const BEFORE: &str = "x:x#x@";
        let tuple: RelationTuple = format!("{BEFORE}{text}").parse().map_err(|error: TupleTextError| TupleTextError {
            at: error.at.saturating_sub(BEFORE.len()),
            hint: "a subject is `type:id`, `type:id#relation` or `type:*`, then optionally `[caveat]` and `[expiration:…]`",
            ..error
        })?;
        let RelationTuple { key: TupleKey { object: _, relation: _, subject }, caveat, expires_at } = tuple;
        Ok(TupleSubject { subject, caveat, expires_at })
    }
}

impl Parsed for Question {
    const HINT: &'static str =
        "a question is `type:id#permission@type:id`; an argument without `#` is taken for a file of questions";
    fn parsed(text: &str) -> Result<Question, TupleTextError> {
        let TupleKey { object, relation, subject } = text.parse()?;
        Ok(Question { object, permission: relation, subject })
    }
}

impl Parsed for ObjectId {
    const HINT: &'static str = "a file of ids has one a line";
    fn parsed(text: &str) -> Result<ObjectId, TupleTextError> {
        let hint = "an id is what stands behind `type:`";
        ObjectId::new(text).map_err(|error| TupleTextError { at: error.at(), message: error.to_string(), hint })
    }
}

/// Refuses a list in which two tuples have the same key: which of them was meant is not ours to guess.
pub fn refuse_repeated(items: &[Item<RelationTuple>]) -> Result<(), Failure> {
    let mut seen: HashMap<&TupleKey, &Item<RelationTuple>> = HashMap::with_capacity(items.len());
    let mut wrongs = Vec::new();
    for item in items {
        if let Some(first) = seen.insert(&item.value.key, item) {
            wrongs.push(Wrong {
                source: item.source.to_string(),
                line: item.line,
                text: item.value.to_string(),
                at: 0,
                message: format!("the same tuple stands at {}:{} already", first.source, first.line),
                hint: Some("a write changes each tuple at most once: object, relation and subject name it".to_owned()),
            });
        }
    }
    if wrongs.is_empty() { Ok(()) } else { Err(refuse(&wrongs)) }
}

/// The whole of a file, which must be UTF-8. A leading byte order mark is dropped.
pub fn read_file(path: &Path) -> Result<String, Failure> {
    let bytes = std::fs::read(path).map_err(|error| Failure::file(path, &error))?;
    text_of(bytes, &path.display().to_string())
}

/// The whole of standard input.
pub fn read_stdin() -> Result<String, Failure> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes).map_err(|error| Failure::file(Path::new("<stdin>"), &error))?;
    text_of(bytes, "<stdin>")
}

// --- contexts ---------------------------------------------------------------------------------------------------

/// A context as JSON, in which no object has a key twice: which of the two was meant is not ours to guess.
pub struct Strict(pub Context);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Strict, D::Error> {
        match AnyValue::deserialize(deserializer)?.0 {
            Value::Object(fields) => Ok(Strict(fields)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                Err(de::Error::custom("a context is an object, in `{` and `}`"))
            }
        }
    }
}

/// Any JSON value, read under the same law.
struct AnyValue(Value);

impl<'de> Deserialize<'de> for AnyValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<AnyValue, D::Error> {
        deserializer.deserialize_any(AnyVisitor).map(AnyValue)
    }
}

struct AnyVisitor;

/// Recursion is bounded by the parser of JSON.
impl<'de> Visitor<'de> for AnyVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(AnyValue(item)) = access.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut fields = Context::new();
        while let Some(key) = access.next_key::<String>()? {
            if fields.contains_key(&key) {
                return Err(de::Error::custom(format!("the key `{key}` stands twice")));
            }
            let AnyValue(value) = access.next_value()?;
            fields.insert(key, value);
        }
        Ok(Value::Object(fields))
    }
}

/// What a parser of JSON says, without its own account of the place.
pub fn json_fault(error: &serde_json::Error) -> String {
    let said = error.to_string();
    said.rsplit_once(" at line ").map_or(said.as_str(), |(said, _)| said).to_owned()
}

// --- schemas ----------------------------------------------------------------------------------------------------

/// A schema and all it imports as one text; `-` is standard input, which imports nothing.
pub fn read_schema(path: &Path) -> Result<Result<Composed, Vec<Placed>>, Failure> {
    let limits = Limits::default();
    if path == Path::new("-") {
        let root = SchemaSource { name: "<stdin>".to_owned(), text: read_stdin()? };
        return Ok(compose("", root, &mut NoFiles, &limits));
    }
    let root = SchemaSource { name: path.display().to_string(), text: read_file(path)? };
    let canonical = path.canonicalize().map_err(|error| Failure::file(path, &error))?;
    let folder = canonical.parent().unwrap_or(&canonical).to_owned();
    let shown = path.parent().unwrap_or(Path::new("")).to_owned();
    let identity = canonical.to_string_lossy().into_owned();
    Ok(compose(&identity, root, &mut Folder { folder, shown }, &limits))
}

struct NoFiles;

impl Loader for NoFiles {
    fn resolve(&mut self, _: &str, path: &str) -> Result<String, String> {
        Err(format!("`{path}` is relative to a file, and standard input is none"))
    }

    fn read(&mut self, _: &str, _: usize) -> Result<SchemaSource, String> {
        Err("standard input imports nothing".to_owned())
    }
}

/// Files within the folder of the schema that is read. An identity is a canonical path, so that a symbolic link is the
/// file it leads to, and leads nowhere else.
struct Folder {
    /// Canonical.
    folder: PathBuf,
    /// The same as a person named it.
    shown: PathBuf,
}

impl Loader for Folder {
    fn resolve(&mut self, from: &str, path: &str) -> Result<String, String> {
        let beside = Path::new(from).parent().unwrap_or(Path::new(""));
        if Path::new(path).is_absolute() {
            return Err(format!("`{path}` is absolute: a path is relative to the file that imports it"));
        }
        let found = beside.join(path).canonicalize().map_err(|error| format!("cannot read `{path}`: {error}"))?;
        if !found.starts_with(&self.folder) {
            let folder = if self.shown.as_os_str().is_empty() { Path::new(".") } else { &self.shown };
            return Err(format!("`{path}` is outside of `{}`, the schema's folder", folder.display()));
        }
        found.to_str().map(str::to_owned).ok_or_else(|| format!("`{path}` leads to a path that is not UTF-8"))
    }

    fn read(&mut self, identity: &str, bytes_max: usize) -> Result<SchemaSource, String> {
        let path = Path::new(identity);
        let shown = self.shown.join(path.strip_prefix(&self.folder).unwrap_or(path)).display().to_string();
        let failed = |error: std::io::Error| format!("cannot read `{shown}`: {error}");
        // A pipe or a device would be waited for when it is opened.
        if !std::fs::metadata(path).map_err(failed)?.is_file() {
            return Err(format!("`{shown}` is no file"));
        }
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(bytes_max as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() > bytes_max {
            return Err(format!("`{shown}` is too long: {bytes_max} bytes are left of the schema's limit"));
        }
        let text = text_of(bytes, &shown).map_err(|failure| match failure {
            Failure::Said(complaint) => complaint.message,
            Failure::ReaderGone => format!("cannot read `{shown}`"),
        })?;
        Ok(SchemaSource { name: shown, text })
    }
}

fn text_of(bytes: Vec<u8>, name: &str) -> Result<String, Failure> {
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_owned)),
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let line = error.as_bytes().iter().take(valid).filter(|byte| **byte == b'\n').count() + 1;
            Err(Failure::usage(format!("`{name}`: line {line} is not UTF-8 (byte {valid} of the file)")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Failure;

    fn pointed(failure: Failure) -> Vec<String> {
        match failure {
            Failure::Said(complaint) => {
                complaint.pointed.iter().map(|block| anstream::adapter::strip_str(block).to_string()).collect()
            }
            Failure::ReaderGone => panic!("nothing was said"),
        }
    }

    #[test]
    fn a_file_of_tuples_may_breathe() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tuples.txt");
        std::fs::write(&path, "\u{feff}// people\n\n  doc:1#viewer@user:rita  \r\ndoc:2#viewer@user:dana\n").unwrap();
        let items = read_items::<RelationTuple>(&[], Some(&path)).unwrap();
        let lines: Vec<(usize, String)> = items.iter().map(|item| (item.line, item.value.to_string())).collect();
        assert_eq!(lines, [(3, "doc:1#viewer@user:rita".to_owned()), (4, "doc:2#viewer@user:dana".to_owned())]);
        // An argument without `#` is a path.
        let by_argument = read_items::<RelationTuple>(&[path.display().to_string()], None).unwrap();
        assert_eq!(by_argument.len(), 2);
    }

    #[test]
    fn every_wrong_line_is_pointed_at() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tuples.txt");
        std::fs::write(&path, "doc:1#viewer@user:rita\n  doc:1#Viewer@user:rita\ndoc:1#viewer\n").unwrap();
        let failure = read_items::<RelationTuple>(&[], Some(&path)).unwrap_err();
        let blocks = pointed(failure);
        assert_eq!(blocks.len(), 2);
        assert!(blocks[0].contains("tuples.txt:2:9"), "{}", blocks[0]);
        assert!(blocks[0].contains("  doc:1#Viewer@user:rita") && blocks[0].contains('^'), "{}", blocks[0]);
        assert!(blocks[1].contains("tuples.txt:3:13"), "{}", blocks[1]);
    }

    #[test]
    fn a_question_in_an_argument_is_pointed_at_too() {
        let failure = read_items::<Question>(&["doc:1#view@user".to_owned()], None).unwrap_err();
        assert!(pointed(failure)[0].contains("argument:1:16"));
        assert!(read_items::<Question>(&["doc:1#view@user:rita#...".to_owned()], None).is_ok());
    }

    #[test]
    fn a_repeated_tuple_names_the_first() {
        let item = |line, text: &str| Item { value: text.parse().unwrap(), source: Source::Stdin, line };
        let items = [item(1, "doc:1#viewer@user:rita"), item(4, "doc:1#viewer@user:rita[c]")];
        let blocks = pointed(refuse_repeated(&items).unwrap_err());
        assert!(blocks[0].contains("<stdin>:1 already"), "{}", blocks[0]);
        assert!(refuse_repeated(&items[..1]).is_ok());
    }

    /// Each file's text by its path below one folder; compiles the first. What is wrong, as `file:line:column message`.
    fn schema_over(files: &[(&str, &str)]) -> Result<String, Vec<String>> {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("in");
        std::fs::write(outer.path().join("outside.zed"), "definition user {}").unwrap();
        for (path, text) in files {
            let path = folder.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            match text.strip_prefix("-> ") {
                Some(target) => std::os::unix::fs::symlink(target, path).unwrap(),
                None => std::fs::write(path, text).unwrap(),
            }
        }
        let told = |found: Vec<Placed>| {
            let told = found.iter().map(|placed| {
                let name = Path::new(&placed.source.name);
                let name = name.strip_prefix(&folder).unwrap_or(name).display().to_string();
                let (line, column) = placed.line_column();
                let shown = folder.display().to_string();
                let message = placed.diagnostic.message.replace(&format!("{shown}/"), "").replace(&shown, "FOLDER");
                format!("{name}:{line}:{column} {message}")
            });
            told.collect::<Vec<_>>()
        };
        let composed = read_schema(&folder.join(files[0].0)).unwrap().map_err(told)?;
        composed.compile(&Limits::default()).map_err(told)?;
        Ok(composed.text().to_owned())
    }

    #[test]
    fn imports_are_relative_to_their_file() {
        let text = schema_over(&[
            ("root.zed", "use import\nuse self\n\nimport \"parts/doc.zed\" // all of it\n// Last.\ndefinition x {}\n"),
            (
                "parts/doc.zed",
                "use import\nimport './user.zed'\nimport '../group.zed'\n\ndefinition doc {\n  relation r: user | group#member\n}",
            ),
            ("parts/user.zed", "// A person.\ndefinition user {}"),
            ("group.zed", "use import\nimport \"link.zed\"\ndefinition group { relation member: user }"),
            ("link.zed", "-> parts/user.zed"),
        ]);
        let text = text.unwrap();
        let expected = "use self\n\n// A person.\ndefinition user {}\n\ndefinition group { relation member: user }\n\n\
                        definition doc {\n  relation r: user | group#member\n}\n\n// Last.\ndefinition x {}\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn nothing_is_imported_from_outside() {
        let importing = |path: &str| format!("use import\nimport \"{path}\"\n");
        for (path, expected) in [
            ("../outside.zed", "root.zed:2:9 `../outside.zed` is outside of `FOLDER`, the schema's folder"),
            ("link.zed", "root.zed:2:9 `link.zed` is outside of `FOLDER`, the schema's folder"),
            ("way/outside.zed", "root.zed:2:9 `way/outside.zed` is outside of `FOLDER`, the schema's folder"),
            ("/etc/passwd", "root.zed:2:9 `/etc/passwd` is absolute: a path is relative to the file that imports it"),
            ("none.zed", "root.zed:2:9 cannot read `none.zed`: No such file or directory (os error 2)"),
            ("parts", "root.zed:2:9 `parts` is no file"),
            ("bytes", "root.zed:2:9 `bytes`: line 1 is not UTF-8 (byte 1 of the file)"),
        ] {
            let root = importing(path);
            let files =
                [("root.zed", root.as_str()), ("link.zed", "-> ../outside.zed"), ("way", "-> .."), ("parts/x", "")];
            let found = if path == "bytes" {
                let folder = tempfile::tempdir().unwrap();
                std::fs::write(folder.path().join("root.zed"), &root).unwrap();
                std::fs::write(folder.path().join("bytes"), b"a\xff").unwrap();
                let found = read_schema(&folder.path().join("root.zed")).unwrap().unwrap_err();
                let message = found[0].diagnostic.message.replace(&format!("{}/", folder.path().display()), "");
                vec![format!("root.zed:2:9 {message}")]
            } else {
                schema_over(&files).unwrap_err()
            };
            assert_eq!(found, [expected], "{path}");
        }
    }

    #[test]
    fn a_context_has_no_key_twice() {
        let read = |text: &str| {
            serde_json::from_str::<Strict>(text).map(|Strict(fields)| fields).map_err(|error| json_fault(&error))
        };
        let text = r#"{"a":null,"b":[true,-1,18446744073709551615,1.5,"c"],"d":{"a":{}}}"#;
        assert_eq!(read(text).unwrap(), serde_json::from_str::<Context>(text).unwrap());
        assert_eq!(read(r#"{"a": 1, "a": 1}"#).unwrap_err(), "the key `a` stands twice");
        assert_eq!(read(r#"{"x": [{"a": 1, "\u0061": 2}]}"#).unwrap_err(), "the key `a` stands twice");
        assert_eq!(read("[1]").unwrap_err(), "a context is an object, in `{` and `}`");
        assert_eq!(read(r#"{"a": 1"#).unwrap_err(), "EOF while parsing an object");
    }

    #[test]
    fn what_is_not_utf8_says_where() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bad");
        std::fs::write(&path, b"ab\ncd\xff").unwrap();
        let Failure::Said(complaint) = read_file(&path).unwrap_err() else { panic!("nothing was said") };
        assert!(complaint.message.contains("line 2 is not UTF-8"), "{}", complaint.message);
    }
}
