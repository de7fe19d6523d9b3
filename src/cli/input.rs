//! What a person typed or a file holds, one item per line, and where it stood: every wrong one is pointed at.

use super::exit::Failure;
use crate::model::{Question, RelationTuple, TupleKey, TupleTextError};
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
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

impl Parsed for Question {
    const HINT: &'static str =
        "a question is `type:id#permission@type:id`; an argument without `#` is taken for a file of questions";
    fn parsed(text: &str) -> Result<Question, TupleTextError> {
        let TupleKey { object, relation, subject } = text.parse()?;
        Ok(Question { object, permission: relation, subject })
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

    #[test]
    fn what_is_not_utf8_says_where() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bad");
        std::fs::write(&path, b"ab\ncd\xff").unwrap();
        let Failure::Said(complaint) = read_file(&path).unwrap_err() else { panic!("nothing was said") };
        assert!(complaint.message.contains("line 2 is not UTF-8"), "{}", complaint.message);
    }
}
