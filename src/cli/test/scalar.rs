//! Where a byte of a YAML scalar stands in its file: plain, quoted with escapes, or a block, on one line or several.
//!
//! White space is what the forms fold, so only the rest is counted. INVARIANT: a place is told only where every
//! character up to it is the scalar's own; anything else is no place at all.

/// The 1-based line, and the byte within it, of `offset` in `text`; `start` is where the scalar begins in `lines`.
pub fn place(lines: &[&str], start: (usize, usize), text: &str, offset: usize) -> Option<(usize, usize)> {
    let (line, at) = start;
    let first = lines.get(line.checked_sub(1)?)?.get(at..)?;
    let (form, skip) = match first.chars().next()? {
        '"' => (Form::Escaped, at + 1),
        '\'' => (Form::Quoted, at + 1),
        // The header of a block fills its line.
        '|' | '>' => (Form::Plain, at + first.len()),
        _ => (Form::Plain, at),
    };
    let mut written = Written { lines, line, at: skip, form };
    let mut behind = (line, skip);
    for wanted in text.get(..offset)?.chars().filter(|character| !character.is_whitespace()) {
        let (_, end, found) = written.next()?;
        if found != wanted {
            return None;
        }
        behind = end;
    }
    // What is missing at the end is missing right behind the last that is there.
    match text.get(offset..)?.chars().find(|character| !character.is_whitespace()) {
        None => Some(behind),
        Some(wanted) => written.next().filter(|(_, _, found)| *found == wanted).map(|(begin, _, _)| begin),
    }
}

#[derive(Clone, Copy)]
enum Form {
    /// Without quotes, or a block: every character stands for itself.
    Plain,
    /// In single quotes, which stand twice where one is meant.
    Quoted,
    /// In double quotes, with escapes.
    Escaped,
}

/// The characters of a scalar as they are written, white space left out.
struct Written<'a> {
    lines: &'a [&'a str],
    /// 1-based.
    line: usize,
    at: usize,
    form: Form,
}

type Spot = (usize, usize);

impl Written<'_> {
    /// The next character: where it begins, where it ends, and what it stands for.
    fn next(&mut self) -> Option<(Spot, Spot, char)> {
        // Bounded: each turn takes a character or a line.
        loop {
            let rest = self.lines.get(self.line.checked_sub(1)?)?.get(self.at..)?;
            let Some(first) = rest.chars().next() else {
                (self.line, self.at) = (self.line + 1, 0);
                continue;
            };
            let (bytes, stands_for) = match (self.form, first) {
                (Form::Escaped, '\\') => escape(rest),
                (Form::Escaped, '"') => return None,
                (Form::Quoted, '\'') => (rest.starts_with("''").then_some(2)?, Some('\'')),
                (Form::Plain | Form::Quoted | Form::Escaped, other) => (other.len_utf8(), Some(other)),
            };
            let begin = (self.line, self.at);
            self.at += bytes;
            if let Some(character) = stands_for.filter(|character| !character.is_whitespace()) {
                return Some((begin, (self.line, self.at), character));
            }
        }
    }
}

/// The bytes of an escape, and what it stands for; nothing where a line goes on.
fn escape(text: &str) -> (usize, Option<char>) {
    let Some(kind) = text.chars().nth(1) else { return (text.len(), None) };
    let digits = match kind {
        'x' => 2,
        'u' => 4,
        'U' => 8,
        'n' | 'r' | 't' | '\t' | ' ' | 'N' | '_' | 'L' | 'P' | 'v' | 'f' => return (2, Some(' ')),
        '0' => return (2, Some('\0')),
        'a' => return (2, Some('\u{7}')),
        'b' => return (2, Some('\u{8}')),
        'e' => return (2, Some('\u{1b}')),
        other => return (1 + other.len_utf8(), Some(other)),
    };
    let code = text.get(2..2 + digits).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    (2 + digits, code.and_then(char::from_u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The file has the scalar behind `- `; `^` in the text is the offset that is asked for.
    #[track_caller]
    fn stands(file: &str, marked: &str, line: usize, at: usize) {
        let lines: Vec<&str> = file.lines().collect();
        let offset = marked.find('^').unwrap();
        let text = marked.replacen('^', "", 1);
        let read: Vec<String> = serde_saphyr::from_str(file).unwrap();
        assert_eq!(read[0].trim(), text);
        assert_eq!(place(&lines, (1, 2), &text, offset), Some((line, at)));
    }

    #[test]
    fn every_form_of_a_scalar_has_its_places() {
        stands("- a with b\n", "a ^with b", 1, 4);
        stands("- a with\n", "a with^", 1, 8);
        stands("- 'it''s with b'\n", "it's ^with b", 1, 9);
        stands("- \"a {\\\"x\\\": y}\"\n", "a {\"x\": ^y}", 1, 13);
        stands("- \"a \\x41 \\u00e4 b\"\n", "a A ä ^b", 1, 17);
        stands("- \"a \\\n    b\"\n", "a ^b", 2, 4);
        stands("- a\n  with\n\n  b\n", "a with\n^b", 4, 2);
        stands("- >-\n  a\n  with b\n", "a with ^b", 3, 7);
        stands("- |2-\n  a\n    with b\n", "a\n  ^with b", 3, 4);
        stands("- ä b\n", "ä ^b", 1, 5);
    }

    #[test]
    fn what_is_not_there_has_no_place() {
        assert_eq!(place(&["- a"], (1, 2), "b", 1), None);
        assert_eq!(place(&["- *b"], (1, 2), "a with", 2), None);
        assert_eq!(place(&["- 'a'"], (1, 2), "ab", 1), None);
        assert_eq!(place(&["- a"], (1, 9), "a", 0), None);
        assert_eq!(place(&["- a"], (7, 0), "a", 0), None);
        assert_eq!(place(&[], (0, 0), "a", 0), None);
    }
}
