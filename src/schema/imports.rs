//! A schema over several files → one text, and back: which file a line of it came from.
//!
//! An imported file's definitions, caveats and partials stand before those of the file that imports it, each file once
//! however often it is imported. A flag used in one file is used in all: the text that comes out has them all at its top.
//! INVARIANT: no text of a file changes its line or its column on the way; a file without imports stays as it is, byte
//! for byte. How many files are read, and how many bytes, is bounded before they are.

use super::ast::{self, File, ItemKind};
use super::compile::{Compiled, compile_with};
use super::diagnostic::{Colour, Diagnostic, in_order, line_column, quoted};
use super::parser::{Flags, parse_under};
use super::types::Schema;
use crate::model::Limits;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// A text and what a person knows it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// A path, or `<stdin>`; only shown.
    pub name: String,
    pub text: String,
}

/// Where imported files come from. An `Err` says why not: lower-case, no full stop, the user's text in backticks.
pub trait Loader {
    /// The identity of the file that `path` names in an `import` of the file `from`: the same for the same file,
    /// however it is named. A path that leads where nothing may be imported from is refused.
    fn resolve(&mut self, from: &str, path: &str) -> Result<String, String>;
    /// The file itself. A text of more than `bytes_max` bytes is refused, and not held in memory.
    fn read(&mut self, identity: &str, bytes_max: usize) -> Result<Source, String>;
}

/// A diagnostic and the file that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    pub source: Arc<Source>,
    /// Its span is of that file's text.
    pub diagnostic: Diagnostic,
}

impl Placed {
    /// See [`Diagnostic::render`].
    #[must_use]
    pub fn render(&self, colour: Colour) -> String {
        self.diagnostic.render(&self.source.name, &self.source.text, colour)
    }

    /// Line and column in the file; see [`line_column`].
    #[must_use]
    pub fn line_column(&self) -> (u32, u32) {
        self.diagnostic.line_column(&self.source.text)
    }
}

/// One text made of several files.
#[derive(Debug, Clone)]
pub struct Composed {
    text: String,
    /// In the order of their first lines.
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
struct Part {
    source: Arc<Source>,
    /// Its first line in the text, and what line of the file that is; both counted from 0.
    line: usize,
    file_line: usize,
}

/// Reads a file and everything it imports. `identity` is the file's own, by which the loader resolves its imports.
///
/// # Errors
/// A file that cannot be read or found, a cycle of imports, more files or bytes than the limits allow, and, of a schema
/// over several files, what is wrong with the grammar of each. All that was found, each with its file.
///
/// ```
/// use procura::{model::Limits, schema::{Loader, Source, compose}};
/// struct Files;
/// impl Loader for Files {
///     fn resolve(&mut self, _: &str, path: &str) -> Result<String, String> {
///         Ok(path.to_owned())
///     }
///     fn read(&mut self, identity: &str, _: usize) -> Result<Source, String> {
///         Ok(Source { name: identity.to_owned(), text: "definition user {}\n".to_owned() })
///     }
/// }
/// let text = "use import\nimport \"user.zed\"\ndefinition doc {\n  relation viewer: user\n}\n".to_owned();
/// let composed = compose("doc.zed", Source { name: "doc.zed".to_owned(), text }, &mut Files, &Limits::default()).unwrap();
/// assert_eq!(composed.text(), "definition user {}\n\ndefinition doc {\n  relation viewer: user\n}\n");
/// ```
pub fn compose(
    identity: &str,
    root: Source,
    loader: &mut dyn Loader,
    limits: &Limits,
) -> Result<Composed, Vec<Placed>> {
    let root = Arc::new(root);
    // One that is too long is left to `compile`, which says so.
    let imports_any = root.text.len() <= limits.schema_bytes_max
        && parse_under(&root.text, limits, Flags::default()).file.items.iter().any(is_import);
    if !imports_any {
        return Ok(Composed { text: root.text.clone(), parts: vec![Part { source: root, line: 0, file_line: 0 }] });
    }
    let mut reading = Reading {
        loader,
        limits,
        states: HashMap::new(),
        way: Vec::new(),
        files: Vec::new(),
        flags: Flags::default(),
        bytes: root.text.len(),
        found: Vec::new(),
    };
    reading.file(identity.to_owned(), root);
    let Reading { files, flags, mut found, .. } = reading;
    // What a flag of one file makes of another is known only now.
    let mut parsed = Vec::with_capacity(files.len());
    for source in files {
        let file = parse_under(&source.text, limits, flags);
        found.extend(file.diagnostics.into_iter().map(|diagnostic| Placed { source: Arc::clone(&source), diagnostic }));
        parsed.push((source, file.file));
    }
    if !found.is_empty() {
        return Err(by_file(found));
    }
    Ok(joined(&parsed, flags))
}

fn is_import(item: &ast::Item) -> bool {
    matches!(item.kind, ItemKind::Import(_))
}

/// Each file's in its order, the files in the order they were met.
fn by_file(found: Vec<Placed>) -> Vec<Placed> {
    let mut files: Vec<(Arc<Source>, Vec<Diagnostic>)> = Vec::new();
    for Placed { source, diagnostic } in found {
        match files.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &source)) {
            Some((_, diagnostics)) => diagnostics.push(diagnostic),
            None => files.push((source, vec![diagnostic])),
        }
    }
    let placed = files.into_iter().flat_map(|(source, diagnostics)| {
        in_order(diagnostics).into_iter().map(move |diagnostic| Placed { source: Arc::clone(&source), diagnostic })
    });
    placed.collect()
}

// --- reading ----------------------------------------------------------------------------------------------------

struct Reading<'a> {
    loader: &'a mut dyn Loader,
    limits: &'a Limits,
    /// By identity: still open is a cycle, done is a file that is there already.
    states: HashMap<String, State>,
    /// The names of the files that are open.
    way: Vec<(String, String)>,
    /// Those that are done, each after what it imports.
    files: Vec<Arc<Source>>,
    flags: Flags,
    /// Of all files read.
    bytes: usize,
    found: Vec<Placed>,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Open,
    Done,
}

impl Reading<'_> {
    /// Recursion is bounded by `imports_max`: a file is entered once.
    fn file(&mut self, identity: String, source: Arc<Source>) {
        self.states.insert(identity.clone(), State::Open);
        self.way.push((identity.clone(), source.name.clone()));
        let parsed = parse_under(&source.text, self.limits, Flags::default());
        for item in &parsed.file.items {
            match &item.kind {
                ItemKind::Use(flag) => self.flags.set(&flag.text),
                ItemKind::Import(path) => {
                    if let Err((message, hint)) = self.import(&identity, path) {
                        let diagnostic = Diagnostic::error("import", path.span.0.clone(), message).with_hint_if(hint);
                        self.found.push(Placed { source: Arc::clone(&source), diagnostic });
                    }
                }
                ItemKind::Caveat(_) | ItemKind::Partial(_) | ItemKind::Definition(_) => {}
            }
        }
        self.way.pop();
        self.states.insert(identity, State::Done);
        self.files.push(source);
    }

    fn import(&mut self, from: &str, path: &ast::Name) -> Result<(), (String, Option<String>)> {
        let identity = self.loader.resolve(from, &path.text).map_err(|message| (message, None))?;
        match self.states.get(&identity) {
            Some(State::Done) => return Ok(()),
            Some(State::Open) => {
                let from = self.way.iter().position(|(open, _)| *open == identity).unwrap_or(0);
                let steps = self.way.iter().skip(from).map(|(_, name)| name.clone()).collect();
                return Err((format!("a file imports itself: {}", super::cycles::shown(steps)), None));
            }
            None => {}
        }
        let files_max = self.limits.imports_max;
        if self.states.len() > files_max {
            let message = format!("the schema imports more than {files_max} files");
            return Err((message, None));
        }
        let bytes_max = self.limits.schema_bytes_max;
        let source = self.loader.read(&identity, bytes_max.saturating_sub(self.bytes)).map_err(|message| {
            let hint = format!("a schema with all it imports has at most {bytes_max} bytes");
            (message, Some(hint).filter(|_| self.bytes > bytes_max / 2))
        })?;
        self.bytes = self.bytes.saturating_add(source.text.len());
        if self.bytes > bytes_max {
            let message = format!("with {}, the schema is more than {bytes_max} bytes long", quoted(&path.text));
            return Err((message, None));
        }
        self.file(identity, Arc::new(source));
        Ok(())
    }
}

// --- joining ----------------------------------------------------------------------------------------------------

fn joined(files: &[(Arc<Source>, File)], flags: Flags) -> Composed {
    let mut text = String::new();
    for flag in flags.names().filter(|flag| *flag != "import") {
        text.push_str("use ");
        text.push_str(flag);
        text.push('\n');
    }
    let mut parts = Vec::with_capacity(files.len());
    for (source, file) in files {
        let without = without_uses(&source.text, file);
        let blank = without.split('\n').take_while(|line| line.trim().is_empty()).count();
        let kept: Vec<&str> = without.split('\n').skip(blank).collect();
        let Some(last) = kept.iter().rposition(|line| !line.trim().is_empty()) else {
            continue; // nothing but flags and imports
        };
        if !text.is_empty() {
            text.push('\n');
        }
        let line = text.matches('\n').count();
        parts.push(Part { source: Arc::clone(source), line, file_line: blank });
        for kept in kept.iter().take(last + 1) {
            text.push_str(kept);
            text.push('\n');
        }
    }
    Composed { text, parts }
}

/// The text with `use` and `import` made blank, and what is said of them on their line. Nothing else moves: a line that
/// held nothing else is emptied, and within another they become spaces.
fn without_uses(text: &str, file: &File) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for item in &file.items {
        if !matches!(item.kind, ItemKind::Use(_) | ItemKind::Import(_)) {
            continue;
        }
        let mut end = item.span.0.end;
        let rest = text.get(end..).unwrap_or_default();
        let line = rest.lines().next().unwrap_or_default();
        // A comment behind it would become the next definition's.
        if line.trim_start().starts_with("//") {
            end += line.len();
        }
        for byte in bytes.get_mut(item.span.0.start..end).into_iter().flatten() {
            if !matches!(*byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
    }
    // Whole characters were replaced, so this is text still.
    let blanked = String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned());
    let emptied = |line: &str| if line.trim().is_empty() { String::new() } else { line.to_owned() };
    blanked.split('\n').map(emptied).collect::<Vec<_>>().join("\n")
}

impl Composed {
    /// The one text, to be compiled or sent to a server. A root that imports nothing is that text, byte for byte.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The files it is made of, as they are.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        self.parts.iter().map(|part| &*part.source)
    }

    /// Compiles the text; what is told of it is placed in the files.
    pub fn compile(&self, limits: &Limits) -> Result<(Schema, Vec<Placed>), Vec<Placed>> {
        let placed = |found: Vec<Diagnostic>| found.into_iter().map(|found| self.placed(found)).collect();
        let line = |offset: usize| {
            let line = line_column(&self.text, offset).0;
            if self.parts.len() < 2 {
                return format!("line {line}");
            }
            let (source, line) = self.line(line);
            format!("line {line} of `{}`", source.map_or("", |source| &source.name))
        };
        match compile_with(&self.text, limits, &line) {
            Ok(Compiled { schema, warnings }) => Ok((schema, placed(warnings))),
            Err(errors) => Err(placed(errors)),
        }
    }

    /// The file that a line of the text came from, and its line there; both counted from 1. `None` only of a text
    /// without files.
    #[must_use]
    pub fn line(&self, line: u32) -> (Option<&Arc<Source>>, u32) {
        let line = (line as usize).saturating_sub(1);
        let part = self.parts.iter().rfind(|part| part.line <= line).or(self.parts.first());
        let Some(part) = part else {
            return (None, 1);
        };
        let file_line = part.file_line + line.saturating_sub(part.line);
        (Some(&part.source), u32::try_from(file_line + 1).unwrap_or(u32::MAX))
    }

    /// A diagnostic of the text, in the file it is about.
    fn placed(&self, diagnostic: Diagnostic) -> Placed {
        let start = self.offset(diagnostic.span.start);
        let Some((part, at)) = start else {
            let source = Arc::new(Source { name: String::new(), text: self.text.clone() });
            return Placed { source, diagnostic };
        };
        let end = match self.offset(diagnostic.span.end) {
            Some((other, end)) if Arc::ptr_eq(&other.source, &part.source) => end.max(at),
            Some(_) | None => at,
        };
        Placed { source: Arc::clone(&part.source), diagnostic: Diagnostic { span: at..end, ..diagnostic } }
    }

    /// Where a byte of the text stands in its file.
    fn offset(&self, offset: usize) -> Option<(&Part, usize)> {
        let before = self.text.get(..offset.min(self.text.len())).unwrap_or(&self.text);
        let line = before.matches('\n').count();
        let column = before.len() - before.rfind('\n').map_or(0, |newline| newline + 1);
        let part = self.parts.iter().rfind(|part| part.line <= line).or(self.parts.first())?;
        let file_line = part.file_line + line.saturating_sub(part.line);
        let Range { start, end } = line_range(&part.source.text, file_line);
        Some((part, (start + column).min(end)))
    }
}

/// The bytes of a line counted from 0, without its end.
fn line_range(text: &str, line: usize) -> Range<usize> {
    let start = match line.checked_sub(1) {
        None => 0,
        Some(before) => text.match_indices('\n').nth(before).map_or(text.len(), |(at, _)| at + 1),
    };
    let end = text.get(start..).and_then(|rest| rest.find('\n')).map_or(text.len(), |length| start + length);
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Files by name; every path is a name.
    struct Files {
        texts: BTreeMap<&'static str, String>,
        read: Vec<String>,
    }

    impl Loader for Files {
        fn resolve(&mut self, _: &str, path: &str) -> Result<String, String> {
            let name = path.trim_start_matches("./");
            if self.texts.contains_key(name) { Ok(name.to_owned()) } else { Err(format!("no file `{path}`")) }
        }

        fn read(&mut self, identity: &str, bytes_max: usize) -> Result<Source, String> {
            self.read.push(identity.to_owned());
            match self.texts.get(identity) {
                Some(text) if text.len() <= bytes_max => {
                    Ok(Source { name: format!("in/{identity}"), text: text.clone() })
                }
                Some(_) | None => Err(format!("`{identity}` is too long")),
            }
        }
    }

    fn over(texts: &[(&'static str, &str)], limits: &Limits) -> (Result<Composed, Vec<Placed>>, Vec<String>) {
        let texts: BTreeMap<&str, String> = texts.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
        let root = Source { name: "in/root".to_owned(), text: texts["root"].clone() };
        let mut files = Files { texts, read: Vec::new() };
        let composed = compose("root", root, &mut files, limits);
        (composed, files.read)
    }

    /// What is told of a schema over several files, whether of reading or of compiling it.
    fn told(texts: &[(&'static str, &str)], limits: &Limits) -> Vec<String> {
        let found = match over(texts, limits).0 {
            Ok(composed) => composed.compile(limits).err().unwrap_or_default(),
            Err(found) => found,
        };
        let told = found.iter().map(|placed| {
            let (line, column) = placed.line_column();
            let hint = placed.diagnostic.hint.as_ref().map(|hint| format!(" / {hint}")).unwrap_or_default();
            format!("{}:{line}:{column} {}{hint}", placed.source.name, placed.diagnostic.message)
        });
        told.collect()
    }

    #[test]
    fn each_file_comes_once_and_before_those_that_import_it() {
        let texts = [
            ("root", "use import\nimport 'a'\nimport './b'\ndefinition r {}"),
            ("a", "use import\nuse self\nimport 'c'\ndefinition a {}\n\n"),
            ("b", "use import use expiration import 'c'\nimport 'a'; definition b { relation x: c with expiration }"),
            ("c", "\n\n// A thing.\ndefinition c { permission p = self }"),
        ];
        let (composed, read) = over(&texts, &Limits::default());
        let composed = composed.unwrap();
        let expected = "use expiration\nuse self\n\n// A thing.\ndefinition c { permission p = self }\n\n\
                        definition a {}\n\n          ; definition b { relation x: c with expiration }\n\ndefinition r {}\n";
        assert_eq!(composed.text(), expected);
        assert_eq!(read, ["a", "c", "b"]);
        let (schema, _) = composed.compile(&Limits::default()).unwrap();
        assert_eq!(schema.definition("c").unwrap().doc, "A thing.");
        assert_eq!(schema.text(), composed.text());
        let (source, line) = composed.line(5);
        assert_eq!((source.unwrap().name.as_str(), line), ("in/c", 4));
    }

    #[test]
    fn a_root_without_imports_is_its_own_text() {
        let text = "use self\nuse import\r\n\n\ndefinition u { permission p = self }  ";
        let (composed, read) = over(&[("root", text)], &Limits::default());
        assert_eq!((composed.unwrap().text(), read.len()), (text, 0));
        assert_eq!(
            told(&[("root", "definition u {\n relation r: x }")], &Limits::default()),
            ["in/root:2:14 unknown type `x`"]
        );
    }

    #[test]
    fn what_is_said_of_a_node_stays_with_it() {
        let texts = [
            ("root", "// Licence\nuse import // on\n// The people.\nimport 'a' // them\ndefinition r {}\n// end"),
            ("a", "definition a {} // a"),
        ];
        let (schema, _) = over(&texts, &Limits::default()).0.unwrap().compile(&Limits::default()).unwrap();
        assert_eq!(schema.definition("r").unwrap().doc, "");
        assert!(schema.text().contains("// Licence") && !schema.text().contains("// them"), "{}", schema.text());
    }

    #[test]
    fn what_is_wrong_is_told_in_its_file() {
        let texts = [
            ("root", "use import\nimport 'a'\ndefinition u {}\ndefinition d {\n  relation r: usr\n}\ndefinition a {}"),
            ("a", "\n\n\ndefinition a {\n  relation x: u | $\n  relation r: nobody\n}\ncaveat c(a int) {\n a > b }"),
        ];
        let found = told(&texts, &Limits::default());
        assert_eq!(found, ["in/a:5:19 `$` has no meaning here"], "grammar first");
        let texts = [texts[0], ("a", "\n\n\ndefinition a {\n  relation r: nobody\n}\ncaveat c(a int) {\n a > b }")];
        let found = told(&texts, &Limits::default());
        let expected = [
            "in/a:5:15 unknown type `nobody`",
            "in/a:8:6 unknown parameter `b`",
            "in/root:5:15 unknown type `usr` / did you mean `u`?",
            "in/root:7:12 `a` is declared twice / the first is on line 4 of `in/a`",
        ];
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}\n{expected}");
        }
        assert_eq!(found.len(), expected.len(), "{found:#?}");
    }

    #[test]
    fn imports_end() {
        let cycle = [
            ("root", "use import\nimport 'a'"),
            ("a", "use import\nimport 'b'\nimport 'none'"),
            ("b", "use import\nimport 'root'\nimport 'b'"),
        ];
        let found = told(&cycle, &Limits::default());
        let expected = [
            "in/b:2:9 a file imports itself: `in/root` → `in/a` → `in/b` → `in/root`",
            "in/b:3:9 a file imports itself: `in/b` → `in/b`",
            "in/a:3:9 no file `none`",
        ];
        assert_eq!(found, expected);
        let many = [
            ("root", "use import\nimport 'a'\nimport 'a'\nimport 'b'\nimport 'c'"),
            ("a", "definition a {}"),
            ("b", "definition b {}"),
            ("c", "definition c {}"),
        ];
        let limits = |imports_max, schema_bytes_max| Limits { imports_max, schema_bytes_max, ..Limits::default() };
        assert_eq!(told(&many, &limits(3, 1_000)), [""; 0]);
        assert_eq!(told(&many, &limits(2, 1_000)), ["in/root:5:9 the schema imports more than 2 files"]);
        let found = told(&many, &limits(3, 98));
        assert_eq!(found, ["in/root:5:9 `c` is too long / a schema with all it imports has at most 98 bytes"]);
        // Not even looked at beyond.
        let (_, read) = over(&many, &limits(1, 1_000));
        assert_eq!(read, ["a"]);
        assert!(told(&[("root", &"x".repeat(100))], &limits(1, 99))[0].contains("100 bytes long"));
    }

    #[test]
    fn words_of_a_flag_are_words_in_every_file() {
        let texts = [("root", "use import\nuse self\nimport 'a'"), ("a", "definition a { relation self: a }")];
        assert_eq!(told(&texts, &Limits::default()), ["in/a:1:25 `self` is a keyword under `use self`"]);
        // `import` itself needs its flag somewhere.
        let texts = [("root", "import 'a'"), ("a", "definition a {}")];
        assert_eq!(told(&texts, &Limits::default()).len(), 1);
    }
}
