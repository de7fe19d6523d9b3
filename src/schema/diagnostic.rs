//! What is wrong, or doubtful, in a schema's text: where it stands, what it is, and what would put it right.
//!
//! INVARIANT: a span is a byte range of the text the diagnostic was made from, and its ends are on character bounds.

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};
use std::collections::HashSet;
use std::ops::Range;

/// Most diagnostics told of one text. Beyond it, one more says how many were left out.
const DIAGNOSTICS_MAX: usize = 1_000;
/// Longest source line shown whole, in bytes; of a longer one only the surroundings are.
const LINE_BYTES_MAX: usize = 240;
/// Names compared for "did you mean", over one text: a file of nothing but unknown names must not cost a square.
const COMPARISONS_MAX: usize = 300_000;

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The schema cannot be used.
    Error,
    /// It can, but probably does not mean what was meant. Silenced by `// procura-ignore: NAME` on the node.
    Warning,
}

/// One thing to say about a schema's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    /// Stable, in kebab case: `unknown-relation`. For a warning, the name that silences it.
    pub name: &'static str,
    /// Lower-case, no full stop, the user's text in backticks.
    pub message: String,
    /// A likely fix, where there is one.
    pub hint: Option<String>,
    /// Bytes of the text.
    pub span: Range<usize>,
}

/// Whether a rendered diagnostic carries ANSI colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    Plain,
    Ansi,
}

impl Diagnostic {
    /// Something that makes the schema unusable.
    #[must_use]
    pub fn error(name: &'static str, span: Range<usize>, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Error, name, message: message.into(), hint: None, span }
    }

    /// Something that is probably not what was meant.
    #[must_use]
    pub fn warning(name: &'static str, span: Range<usize>, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, name, message: message.into(), hint: None, span }
    }

    /// The same, with a likely fix.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Diagnostic {
        Diagnostic { hint: Some(hint.into()), ..self }
    }

    /// The same, with a likely fix where one was found.
    #[must_use]
    pub fn with_hint_if(self, hint: Option<String>) -> Diagnostic {
        Diagnostic { hint: hint.or(self.hint), ..self }
    }

    /// Line and column where it begins; see [`line_column`].
    #[must_use]
    pub fn line_column(&self, text: &str) -> (u32, u32) {
        line_column(text, self.span.start)
    }

    /// The diagnostic as a person reads it: message, `file:line:column`, the source line with a caret, and the hint.
    /// `text` is the one it was made from; `file` is only shown. Ends without a newline.
    #[must_use]
    pub fn render(&self, file: &str, text: &str, colour: Colour) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let renderer = match colour {
            Colour::Plain => Renderer::plain(),
            Colour::Ansi => Renderer::styled(),
        };
        let (line, column) = self.line_column(text);
        let window = window(text, &self.span);
        // Only the line in question is handed over: rendering must not cost the whole text for each diagnostic.
        let snippet = Snippet::source(window.shown)
            .line_start(line as usize)
            .annotation(AnnotationKind::Primary.span(window.span));
        let group = level.primary_title(self.message.as_str()).id(self.name);
        let mut group = if window.is_cut {
            // The renderer would count the column from the cut.
            let origin = Origin::path(file).line(line as usize).char_column(column as usize);
            group.element(origin).element(snippet)
        } else {
            group.element(snippet.path(file))
        };
        if let Some(hint) = &self.hint {
            // The hint may quote the user's text, and `message` does not neutralise control characters itself.
            group = group.element(Level::HELP.message(annotate_snippets::normalize_untrusted_str(hint)));
        }
        renderer.render(&[group])
    }
}

/// The part of one line that is shown, and the span within it.
struct Window {
    shown: String,
    span: Range<usize>,
    is_cut: bool,
}

/// The line where the span begins, cut around it when it is very long.
fn window(text: &str, span: &Range<usize>) -> Window {
    let start = floor_char(text, span.start);
    let line_start = text.get(..start).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1);
    let line_end = text.get(start..).and_then(|after| after.find('\n')).map_or(text.len(), |length| start + length);
    let end = floor_char(text, span.end.clamp(start, line_end));
    if line_end - line_start <= LINE_BYTES_MAX {
        let shown = text.get(line_start..line_end).unwrap_or_default().to_owned();
        return Window { shown, span: start - line_start..end - line_start, is_cut: false };
    }
    let from = floor_char(text, start.saturating_sub(LINE_BYTES_MAX / 2).max(line_start));
    let to = floor_char(text, (start + LINE_BYTES_MAX / 2).min(line_end));
    let shown = text.get(from..to).unwrap_or_default().to_owned();
    Window { shown, span: start - from..end.min(to) - from, is_cut: true }
}

/// The nearest character bound at or before `offset`.
fn floor_char(text: &str, offset: usize) -> usize {
    let mut at = offset.min(text.len());
    // Bounded: a character has at most four bytes, and 0 is a bound.
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Line and column of a byte offset, both counted from 1, columns in characters. An offset beyond the end is the end.
#[must_use]
pub fn line_column(text: &str, offset: usize) -> (u32, u32) {
    let before = text.get(..floor_char(text, offset)).unwrap_or_default();
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}

/// In the text's order, each thing said once, and no more than can be read.
pub(super) fn in_order(mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut seen = HashSet::new();
    diagnostics.retain(|found| seen.insert((found.span.start, found.span.end, found.name, found.message.clone())));
    diagnostics.sort_by_key(|found| (found.span.start, found.span.end));
    let left_out = diagnostics.len().saturating_sub(DIAGNOSTICS_MAX);
    if left_out > 0 {
        diagnostics.truncate(DIAGNOSTICS_MAX);
        if let Some(last) = diagnostics.last().cloned() {
            let message = format!("{left_out} more were found further on and left out");
            diagnostics.push(Diagnostic { name: "too-many", message, hint: None, ..last });
        }
    }
    diagnostics
}

/// Finds the name that was probably meant. Work over its whole life is bounded.
#[derive(Debug)]
pub(super) struct Suggester {
    comparisons_left: usize,
}

impl Suggester {
    pub(super) fn new() -> Suggester {
        Suggester { comparisons_left: COMPARISONS_MAX }
    }

    /// The closest candidate, when it is close enough to be meant.
    pub(super) fn closest<'c>(&mut self, name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
        let mut best: Option<(usize, &'c str)> = None;
        let distance_max = match name.len() {
            0..=2 => 1,
            3..=5 => 2,
            _ => 3,
        };
        for candidate in candidates {
            self.comparisons_left = self.comparisons_left.checked_sub(1)?;
            // Names this long come only from garbage; the distance costs the product of the lengths.
            if candidate.len().abs_diff(name.len()) > distance_max || name.len() > 128 {
                continue;
            }
            let distance = strsim::osa_distance(name, candidate);
            let nearer = best.is_none_or(|(least, _)| distance < least);
            // A name as long as the distance shares nothing with the other.
            if nearer && distance <= distance_max && distance < name.len().max(candidate.len()) {
                best = Some((distance, candidate));
            }
        }
        best.map(|(_, candidate)| candidate)
    }

    /// The same as a hint.
    pub(super) fn hint<'c>(&mut self, name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<String> {
        self.closest(name, candidates).map(|meant| format!("did you mean `{meant}`?"))
    }
}

/// The user's text, short enough to be quoted.
pub(super) fn quoted(text: &str) -> String {
    const SHOWN_CHARS: usize = 80;
    let mut shown: String = text.chars().take(SHOWN_CHARS).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("`{shown}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one_in_characters() {
        let text = "ab\nçd\n";
        for (offset, expected) in [(0, (1, 1)), (2, (1, 3)), (3, (2, 1)), (4, (2, 1)), (5, (2, 2)), (99, (3, 1))] {
            assert_eq!(line_column(text, offset), expected, "{offset}");
        }
    }

    #[test]
    fn rendering_shows_place_caret_and_hint() {
        let text = "definition doc {\n  permission view = viwer\n}\n";
        let at = text.find("viwer").unwrap();
        let found = Diagnostic::error("unknown-relation", at..at + 5, "unknown relation `viwer`")
            .with_hint("did you mean `viewer`?");
        let shown = found.render("doc.zed", text, Colour::Plain);
        for part in ["error[unknown-relation]", "doc.zed:2:21", "permission view = viwer", "^^^^^", "help: did you"] {
            assert!(shown.contains(part), "{part} in\n{shown}");
        }
        assert!(!shown.contains('\u{1b}'));
        assert!(found.render("doc.zed", text, Colour::Ansi).contains('\u{1b}'));
    }

    #[test]
    fn rendering_survives_any_span_and_any_line() {
        let long = format!("{}é{}", "x".repeat(100_000), "y".repeat(100_000));
        for text in ["", "\n", "é", "a\r\nb", long.as_str()] {
            for start in [0, 1, 2, 99_999, 100_000, 100_001, 200_002, usize::MAX] {
                let found = Diagnostic::error("e", start..start.saturating_add(3), "m");
                let shown = found.render("f", text, Colour::Plain);
                let (line, column) = found.line_column(text);
                assert!(shown.contains("error[e]: m") && shown.len() < 2_000, "{shown}");
                assert!(shown.contains(&format!("--> f:{line}:{column}")), "{text:?} {start} {line}:{column}\n{shown}");
            }
        }
    }

    #[test]
    fn suggestions_are_near_or_absent() {
        let mut suggester = Suggester::new();
        let names = ["viewer", "editor", "owner", "a"];
        for (given, meant) in [("viwer", Some("viewer")), ("vieewr", Some("viewer")), ("zzz", None), ("b", None)] {
            assert_eq!(suggester.closest(given, names), meant, "{given}");
        }
    }
}
