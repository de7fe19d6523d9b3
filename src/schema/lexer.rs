//! Words and signs of a schema's text, each with the comments before it.
//!
//! Made on demand, because a caveat's body is another language: the parser says where one begins, and takes it whole.
//! INVARIANT: every byte of the text is in a token, in a comment, in a body taken whole, or is white space.

use super::diagnostic::Diagnostic;
use crate::condition;
use std::ops::Range;

/// What a token is. Words are not sorted into keywords here: most are words only in their place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    Word,
    /// Quoted text, its quotes included.
    Text,
    LeftBrace,
    RightBrace,
    LeftParen,
    RightParen,
    LeftAngle,
    RightAngle,
    Pipe,
    Plus,
    Minus,
    Ampersand,
    Slash,
    Equals,
    Colon,
    Semicolon,
    Comma,
    Arrow,
    Hash,
    Dot,
    Ellipsis,
    Star,
    /// Not of the language. Already reported.
    Unknown,
    End,
}

impl TokenKind {
    /// The sign, as it is shown in errors.
    pub(super) fn sign(self) -> &'static str {
        match self {
            TokenKind::Word => "a name",
            TokenKind::Text => "a quoted path",
            TokenKind::LeftBrace => "`{`",
            TokenKind::RightBrace => "`}`",
            TokenKind::LeftParen => "`(`",
            TokenKind::RightParen => "`)`",
            TokenKind::LeftAngle => "`<`",
            TokenKind::RightAngle => "`>`",
            TokenKind::Pipe => "`|`",
            TokenKind::Plus => "`+`",
            TokenKind::Minus => "`-`",
            TokenKind::Ampersand => "`&`",
            TokenKind::Slash => "`/`",
            TokenKind::Equals => "`=`",
            TokenKind::Colon => "`:`",
            TokenKind::Semicolon => "`;`",
            TokenKind::Comma => "`,`",
            TokenKind::Arrow => "`->`",
            TokenKind::Hash => "`#`",
            TokenKind::Dot => "`.`",
            TokenKind::Ellipsis => "`...`",
            TokenKind::Star => "`*`",
            TokenKind::Unknown => "an unknown character",
            TokenKind::End => "the end of the schema",
        }
    }

    /// A newline after it ends a statement.
    pub(super) fn ends_statement(self) -> bool {
        matches!(
            self,
            TokenKind::Word
                | TokenKind::Text
                | TokenKind::RightBrace
                | TokenKind::RightParen
                | TokenKind::RightAngle
                | TokenKind::Star
                | TokenKind::Ellipsis
        )
    }
}

/// A comment as it stands in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawComment {
    /// With its markers, without white space at its end.
    pub(super) text: String,
    /// A newline stands between it and what comes before.
    pub(super) newline_before: bool,
    /// An empty line does.
    pub(super) blank_before: bool,
}

/// One token, and what stands between it and the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) span: Range<usize>,
    pub(super) comments: Vec<RawComment>,
    /// A newline stands between it and the token before; those within a block comment do not count.
    pub(super) newline_before: bool,
    /// An empty line stands right before it, after its comments.
    pub(super) blank_before: bool,
    /// A newline stands between its last comment, or the token before, and itself.
    pub(super) starts_line: bool,
}

/// Reads tokens off a text.
#[derive(Debug)]
pub(super) struct Lexer<'t> {
    text: &'t str,
    at: usize,
    pub(super) diagnostics: Vec<Diagnostic>,
}

impl<'t> Lexer<'t> {
    pub(super) fn new(text: &'t str) -> Lexer<'t> {
        // Editors on some systems put a byte order mark first; it says nothing.
        let at = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        Lexer { text, at, diagnostics: Vec::new() }
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// The next token; at the end, `End` for ever.
    pub(super) fn next_token(&mut self) -> Token {
        let mut comments = Vec::new();
        let mut newline_before = false;
        // Newlines since the last comment, or since the token before.
        let mut newlines = 0_usize;
        // Bounded: every turn takes at least one byte.
        loop {
            let rest = self.rest();
            if rest.starts_with("\r\n") {
                self.at += 2;
                newlines += 1;
            } else if rest.starts_with(['\n', '\r']) {
                self.at += 1;
                newlines += 1;
            } else if rest.starts_with([' ', '\t']) {
                self.at += 1;
            } else if rest.starts_with("//") || rest.starts_with("/*") {
                let text = self.comment(rest);
                comments.push(RawComment { text, newline_before: newlines > 0, blank_before: newlines > 1 });
                newlines = 0;
            } else {
                break;
            }
            newline_before |= newlines > 0;
        }
        let start = self.at;
        let kind = self.kind();
        Token {
            kind,
            span: start..self.at,
            comments,
            newline_before,
            blank_before: newlines > 1,
            starts_line: newlines > 0,
        }
    }

    /// Takes the comment that `rest` begins with.
    fn comment(&mut self, rest: &'t str) -> String {
        if rest.starts_with("//") {
            let length = rest.find(['\n', '\r']).unwrap_or(rest.len());
            self.at += length;
            return rest.get(..length).unwrap_or_default().trim_end().to_owned();
        }
        if let Some(inner) = rest.get(2..).and_then(|inner| inner.find("*/")) {
            self.at += inner + 4;
            return rest.get(..inner + 4).unwrap_or_default().to_owned();
        }
        let error = Diagnostic::error("unclosed-comment", self.at..self.at + 2, "this comment is not closed");
        self.diagnostics.push(error.with_hint("end it with `*/`"));
        self.at = self.text.len();
        format!("{} */", rest.trim_end())
    }

    fn kind(&mut self) -> TokenKind {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return TokenKind::End;
        };
        let (kind, length) = match first {
            '{' => (TokenKind::LeftBrace, 1),
            '}' => (TokenKind::RightBrace, 1),
            '(' => (TokenKind::LeftParen, 1),
            ')' => (TokenKind::RightParen, 1),
            '<' => (TokenKind::LeftAngle, 1),
            '>' => (TokenKind::RightAngle, 1),
            '|' => (TokenKind::Pipe, 1),
            '+' => (TokenKind::Plus, 1),
            '&' => (TokenKind::Ampersand, 1),
            '/' => (TokenKind::Slash, 1),
            '=' => (TokenKind::Equals, 1),
            ':' => (TokenKind::Colon, 1),
            ';' => (TokenKind::Semicolon, 1),
            ',' => (TokenKind::Comma, 1),
            '#' => (TokenKind::Hash, 1),
            '*' => (TokenKind::Star, 1),
            '-' if rest.starts_with("->") => (TokenKind::Arrow, 2),
            '-' => (TokenKind::Minus, 1),
            '.' if rest.starts_with("...") => (TokenKind::Ellipsis, 3),
            '.' => (TokenKind::Dot, 1),
            '"' | '\'' => return self.quoted(rest, first),
            _ if is_word_char(first) => (TokenKind::Word, rest.find(|c: char| !is_word_char(c)).unwrap_or(rest.len())),
            _ => return self.unknown(rest),
        };
        self.at += length;
        kind
    }

    fn quoted(&mut self, rest: &str, quote: char) -> TokenKind {
        let line = rest.get(..rest.find(['\n', '\r']).unwrap_or(rest.len())).unwrap_or_default();
        let start = self.at;
        if let Some(inner) = line.get(1..).and_then(|inner| inner.find(quote)) {
            self.at += inner + 2;
            return TokenKind::Text;
        }
        self.at += line.len();
        let error = Diagnostic::error("unclosed-quote", start..start + 1, "this quote is not closed on its line");
        self.diagnostics.push(error);
        TokenKind::Unknown
    }

    /// Takes all characters that are not of the language, so that a run of them is one error.
    fn unknown(&mut self, rest: &str) -> TokenKind {
        let start = self.at;
        let is_known = |c: char| is_word_char(c) || c.is_ascii_whitespace() || "{}()<>|+&/=:;,#*-.\"'".contains(c);
        self.at += rest.find(is_known).unwrap_or(rest.len());
        let found: String = rest.chars().take(1).flat_map(char::escape_default).collect();
        let shown = rest.chars().next().filter(|c| !c.is_control() && !c.is_whitespace());
        let message = match shown {
            Some(shown) => format!("`{shown}` has no meaning here"),
            None => format!("the character {found} has no meaning here"),
        };
        self.diagnostics.push(Diagnostic::error("unknown-character", start..self.at, message));
        TokenKind::Unknown
    }

    /// Takes a caveat's body, which begins right at `from` (after its `{`), up to its closing `}`, which is taken too.
    /// `None` when it is not closed; then nothing is left to read.
    ///
    /// Where it closes is CEL's to say: braces within its quotes and comments do not count.
    pub(super) fn take_body(&mut self, from: usize) -> Option<Range<usize>> {
        let length = self.text.get(from..).and_then(condition::body_bytes);
        self.at = length.map_or(self.text.len(), |length| from + length + 1);
        length.map(|length| from..from + length)
    }
}

/// Letters of any script are words, so that a name in another script is reported as one bad name.
fn is_word_char(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(TokenKind, &str)]) {
        let mut lexer = Lexer::new(text);
        let mut found = Vec::new();
        loop {
            let token = lexer.next_token();
            if token.kind == TokenKind::End {
                break;
            }
            found.push((token.kind, text.get(token.span).unwrap()));
        }
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn signs_and_words() {
        use TokenKind::*;
        check("a->b - c", &[(Word, "a"), (Arrow, "->"), (Word, "b"), (Minus, "-"), (Word, "c")]);
        check("...x.all", &[(Ellipsis, "..."), (Word, "x"), (Dot, "."), (Word, "all")]);
        check("a/b#...", &[(Word, "a"), (Slash, "/"), (Word, "b"), (Hash, "#"), (Ellipsis, "...")]);
        check("u:*// x", &[(Word, "u"), (Colon, ":"), (Star, "*")]);
        check("'a b' \"c'", &[(Text, "'a b'"), (Unknown, "\"c'")]);
        check("é$$%a", &[(Word, "é"), (Unknown, "$$%"), (Word, "a")]);
        check("\u{feff}a", &[(Word, "a")]);
    }

    #[test]
    fn comments_know_their_lines() {
        let mut lexer = Lexer::new("a // one  \n\n/* two\n */ /* three */ b");
        lexer.next_token();
        let token = lexer.next_token();
        let seen: Vec<(&str, bool, bool)> =
            token.comments.iter().map(|c| (c.text.as_str(), c.newline_before, c.blank_before)).collect();
        let expected = [("// one", false, false), ("/* two\n */", true, true), ("/* three */", false, false)];
        assert_eq!(seen, expected);
        assert!(token.newline_before && !token.starts_line && !token.blank_before);
        // A newline within a block comment does not count, as in the language we read.
        let mut lexer = Lexer::new("a /* \n\n */ b");
        lexer.next_token();
        assert!(!lexer.next_token().newline_before);
    }

    #[test]
    fn bodies_end_at_their_own_brace() {
        for (text, body) in [
            ("x } y", Some("x ")),
            ("{}{a} } y", Some("{}{a} ")),
            ("'}' + \"}\\\"}\" }", Some("'}' + \"}\\\"}\" ")),
            ("r'\\' }", Some("r'\\' ")),
            ("'''}'\n}''' }", Some("'''}'\n}''' ")),
            ("a // }\n }", Some("a // }\n ")),
            ("'not closed\n }", Some("'not closed\n ")),
            ("{ }", None),
            ("", None),
            ("'\\", None),
        ] {
            let mut lexer = Lexer::new(text);
            let found = lexer.take_body(0).map(|span| text.get(span).unwrap());
            assert_eq!(found, body, "{text}");
        }
    }
}
