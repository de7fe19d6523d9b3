//! From text to tokens: CEL's literals, names and signs, each with its place.
//!
//! Escapes are resolved here; a token carries the value that was meant. White space and `//` comments are dropped.

use super::CompileError;
use super::ast::Span;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Name(String),
    /// The digits' value; a sign before it is the parser's, so that the smallest `int` can be written.
    Int(u64),
    Uint(u64),
    Double(f64),
    String(String),
    Bytes(Vec<u8>),
    Sign(&'static str),
    End,
}

impl Token {
    /// As a person would name it.
    pub fn describe(&self) -> String {
        match self {
            Token::Name(name) => format!("`{name}`"),
            Token::Int(_) | Token::Uint(_) | Token::Double(_) => "a number".to_owned(),
            Token::String(_) => "a string".to_owned(),
            Token::Bytes(_) => "bytes".to_owned(),
            Token::Sign(sign) => format!("`{sign}`"),
            Token::End => "the end".to_owned(),
        }
    }
}

/// Longest first, so that `<=` is not read as `<` and `=`.
const SIGNS: [&str; 26] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "+", "-", "*", "/", "%", "?", ":", "(", ")", "[", "]", "{", "}",
    ",", ".", "=", "&",
];

/// All tokens in order, the last one [`Token::End`].
pub(super) fn tokens(source: &str) -> Result<Vec<(Token, Span)>, CompileError> {
    let mut lexer = Lexer { source, at: 0 };
    let mut tokens = Vec::new();
    // Ends: every round but the last takes at least one byte.
    loop {
        lexer.skip_blank();
        let start = lexer.at;
        let token = lexer.token()?;
        let span = lexer.span_from(start);
        let last = token == Token::End;
        tokens.push((token, span));
        if last {
            return Ok(tokens);
        }
    }
}

/// The bytes before the `}` that closes a body whose `{` stands right before `text`. Braces in strings and comments are
/// none; what is no token is skipped, since the mistake is told when the body is compiled.
pub(super) fn body_bytes(text: &str) -> Option<usize> {
    let mut lexer = Lexer { source: text, at: 0 };
    let mut open = 0_usize;
    // Ends: every round takes at least one byte or returns.
    loop {
        lexer.skip_blank();
        let start = lexer.at;
        match lexer.token() {
            Ok(Token::Sign("{")) => open += 1,
            Ok(Token::Sign("}")) => match open.checked_sub(1) {
                Some(left) => open = left,
                None => return Some(start),
            },
            Ok(Token::End) => return None,
            Err(_) if lexer.at == start => {
                lexer.take();
            }
            Ok(_) | Err(_) => {}
        }
    }
}

struct Lexer<'s> {
    source: &'s str,
    at: usize,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        self.source.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> String {
        let text: String = self.rest().chars().take_while(|c| wanted(*c)).collect();
        self.at += text.len();
        text
    }

    fn span_from(&self, start: usize) -> Span {
        Span { start: start as u32, end: self.at as u32 }
    }

    fn error(&self, start: usize, message: impl Into<String>, hint: Option<&str>) -> CompileError {
        CompileError::at(self.span_from(start), message, hint)
    }

    fn skip_blank(&mut self) {
        loop {
            self.take_while(|c| matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{c}'));
            if !self.rest().starts_with("//") {
                return;
            }
            self.take_while(|c| c != '\n');
        }
    }

    fn token(&mut self) -> Result<Token, CompileError> {
        let start = self.at;
        let Some(first) = self.peek() else { return Ok(Token::End) };
        let mut after = self.rest().chars().skip(1);
        let second = after.next();
        if first.is_ascii_digit() || (first == '.' && second.is_some_and(|c| c.is_ascii_digit())) {
            return self.number();
        }
        if let Some((raw, bytes, prefix)) = string_prefix(self.rest()) {
            self.at += prefix;
            return self.string(start, raw, bytes);
        }
        if first == '_' || first.is_ascii_alphabetic() {
            return Ok(Token::Name(self.take_while(|c| c == '_' || c.is_ascii_alphanumeric())));
        }
        if let Some(sign) = SIGNS.iter().find(|sign| self.rest().starts_with(**sign)) {
            self.at += sign.len();
            return match *sign {
                "=" => Err(self.error(start, "`=` is not an operator", Some("equality is written `==`"))),
                "&" => Err(self.error(start, "`&` is not an operator", Some("conjunction is written `&&`"))),
                _ => Ok(Token::Sign(sign)),
            };
        }
        self.take();
        let hint = (first == '|').then_some("disjunction is written `||`");
        Err(self.error(start, format!("unexpected character `{}`", first.escape_debug()), hint))
    }

    fn number(&mut self) -> Result<Token, CompileError> {
        let start = self.at;
        if self.rest().starts_with("0x") || self.rest().starts_with("0X") {
            self.at += 2;
            let digits = self.take_while(|c| c.is_ascii_hexdigit());
            return self.whole(start, &digits, 16);
        }
        let mut text = self.take_while(|c| c.is_ascii_digit());
        let mut is_double = false;
        let mut ahead = self.rest().chars();
        if ahead.next() == Some('.') && ahead.next().is_some_and(|c| c.is_ascii_digit()) {
            is_double = true;
            self.at += 1;
            text.push('.');
            text.push_str(&self.take_while(|c| c.is_ascii_digit()));
        }
        if let Some(exponent) = exponent(self.rest()) {
            is_double = true;
            text.push_str(exponent);
            self.at += exponent.len();
        }
        if !is_double {
            return self.whole(start, &text, 10);
        }
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Token::Double(value)),
            Ok(_) | Err(_) => Err(self.error(start, "the number is out of the range of a double", None)),
        }
    }

    fn whole(&mut self, start: usize, digits: &str, radix: u32) -> Result<Token, CompileError> {
        let unsigned = matches!(self.peek(), Some('u' | 'U'));
        if unsigned {
            self.at += 1;
        }
        if digits.is_empty() {
            return Err(self.error(start, "a number is missing after `0x`", None));
        }
        match u64::from_str_radix(digits, radix) {
            Ok(value) if unsigned => Ok(Token::Uint(value)),
            Ok(value) => Ok(Token::Int(value)),
            Err(_) => Err(self.error(start, "the number is out of range: an int has 64 bits", None)),
        }
    }

    fn string(&mut self, start: usize, raw: bool, bytes: bool) -> Result<Token, CompileError> {
        let Some(quote) = self.take() else {
            return Err(self.error(start, "the string does not end", None));
        };
        let triple = {
            let mut ahead = self.rest().chars();
            ahead.next() == Some(quote) && ahead.next() == Some(quote)
        };
        let closing: String = std::iter::repeat_n(quote, if triple { 3 } else { 1 }).collect();
        if triple {
            self.at += 2;
        }
        let mut text = String::new();
        let mut binary = Vec::new();
        // Ends: every round takes a character or returns.
        loop {
            if self.rest().starts_with(&closing) {
                self.at += closing.len();
                return Ok(if bytes { Token::Bytes(binary) } else { Token::String(text) });
            }
            let place = self.at;
            let piece = match self.take() {
                None => {
                    return Err(self.error(
                        start,
                        "the string does not end",
                        Some("close it with the quote it began with"),
                    ));
                }
                Some('\n' | '\r') if !triple => {
                    self.at = place;
                    let hint = "a string of several lines stands in three quotes";
                    return Err(self.error(start, "the string does not end on its line", Some(hint)));
                }
                Some('\\') if !raw => self.escape(place, bytes)?,
                Some(other) => Piece::Char(other),
            };
            match piece {
                Piece::Char(c) => {
                    text.push(c);
                    binary.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
                Piece::Byte(byte) => binary.push(byte),
            }
        }
    }

    /// What a backslash at `place` stands for; the backslash is taken already.
    fn escape(&mut self, place: usize, bytes: bool) -> Result<Piece, CompileError> {
        let piece = match self.take() {
            Some('a') => Piece::Char('\u{7}'),
            Some('b') => Piece::Char('\u{8}'),
            Some('f') => Piece::Char('\u{c}'),
            Some('n') => Piece::Char('\n'),
            Some('r') => Piece::Char('\r'),
            Some('t') => Piece::Char('\t'),
            Some('v') => Piece::Char('\u{b}'),
            Some(same @ ('\\' | '?' | '"' | '\'' | '`')) => Piece::Char(same),
            Some('x' | 'X') => self.code(place, 2, 16, bytes)?,
            Some('u') if !bytes => self.code(place, 4, 16, false)?,
            Some('U') if !bytes => self.code(place, 8, 16, false)?,
            Some('0'..='3') => {
                self.at -= 1;
                self.code(place, 3, 8, bytes)?
            }
            Some(_) | None => {
                let hint = "a backslash itself is written `\\\\`, or the string begins with `r`";
                return Err(self.error(place, "unknown escape", Some(hint)));
            }
        };
        Ok(piece)
    }

    fn code(&mut self, place: usize, digits: usize, radix: u32, byte: bool) -> Result<Piece, CompileError> {
        let text: String = self.rest().chars().take(digits).take_while(|c| c.is_digit(radix)).collect();
        self.at += text.len();
        let code = u32::from_str_radix(&text, radix).ok().filter(|_| text.len() == digits);
        let piece = match code {
            Some(code) if byte => u8::try_from(code).ok().map(Piece::Byte),
            Some(code) => char::from_u32(code).map(Piece::Char),
            None => None,
        };
        piece.ok_or_else(|| self.error(place, "the escape is not a character", None))
    }
}

enum Piece {
    Char(char),
    Byte(u8),
}

/// Whether a string begins here: (raw, bytes, length of the letters before its quote).
fn string_prefix(text: &str) -> Option<(bool, bool, usize)> {
    let letters: String = text.chars().take(3).take_while(|c| !matches!(c, '"' | '\'')).collect();
    if !text.get(letters.len()..).is_some_and(|rest| rest.starts_with(['"', '\''])) {
        return None;
    }
    match letters.to_ascii_lowercase().as_str() {
        "" => Some((false, false, 0)),
        "r" => Some((true, false, 1)),
        "b" => Some((false, true, 1)),
        "br" => Some((true, true, 2)),
        _ => None,
    }
}

/// `e` or `E`, an optional sign, digits; the text of it, where it stands at the start.
fn exponent(text: &str) -> Option<&str> {
    let after = text.strip_prefix(['e', 'E'])?;
    let unsigned = after.strip_prefix(['+', '-']).unwrap_or(after);
    let digits = unsigned.chars().take_while(char::is_ascii_digit).count();
    if digits == 0 {
        return None;
    }
    text.get(..text.len() - unsigned.len() + digits)
}
