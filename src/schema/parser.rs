//! A schema's text → its tree, with everything that is wrong in it.
//!
//! Hand-written descent. One error is told of a statement, then reading goes on at the next, so that all errors of a
//! file are told at once and none follows from another.
//! INVARIANT: time is linear in the text, and recursion is bounded by `expression_depth_max`.

use super::ast::{
    ArrowSign, Block, Caveat, Comment, Expr, ExprKind, File, Form, Item, ItemKind, Member, MemberKind, Name, Operator,
    Parameter, ParameterType, RelationWord, Span, Subject, Trivia,
};
use super::diagnostic::{Diagnostic, Suggester, quoted};
use super::lexer::{Lexer, RawComment, Token, TokenKind};
use crate::model::Limits;
use std::ops::Range;

/// Words that are never names.
const KEYWORDS: [&str; 6] = ["definition", "caveat", "relation", "permission", "nil", "with"];
/// The flags of `use`.
const FLAGS: [&str; 6] = ["expiration", "self", "partial", "import", "typechecking", "hierarchy"];
/// Parameter types nested in one another: `list<list<…>>`. CEL values themselves nest no deeper than this.
const PARAMETER_DEPTH_MAX: usize = 16;

/// The tree of a text, as far as it could be read, and what is wrong with it.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) file: File,
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// Reads a whole text.
pub(super) fn parse(text: &str, limits: &Limits) -> Parsed {
    parse_under(text, limits, Flags::default())
}

/// Reads a whole text in which some flags are in use from the start.
pub(super) fn parse_under(text: &str, limits: &Limits, uses: Flags) -> Parsed {
    let mut lexer = Lexer::new(text);
    let current = lexer.next_token();
    let mut parser = Parser {
        text,
        lexer,
        current,
        previous: TokenKind::Semicolon,
        previous_end: 0,
        parens: 0,
        parens_max: limits.expression_depth_max,
        uses,
        inner_comments: Vec::new(),
        suggester: Suggester::new(),
        diagnostics: Vec::new(),
    };
    let file = parser.file();
    let mut diagnostics = parser.diagnostics;
    diagnostics.append(&mut parser.lexer.diagnostics);
    Parsed { file, diagnostics }
}

/// The error is already told.
struct Told;

/// Which flags are in use, and so which words are words.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Flags {
    expiration: bool,
    self_subject: bool,
    partial: bool,
    import: bool,
    typechecking: bool,
    hierarchy: bool,
}

impl Flags {
    /// Takes a flag by its name; an unknown one changes nothing.
    pub(super) fn set(&mut self, flag: &str) {
        match flag {
            "expiration" => self.expiration = true,
            "self" => self.self_subject = true,
            "partial" => self.partial = true,
            "import" => self.import = true,
            "typechecking" => self.typechecking = true,
            "hierarchy" => self.hierarchy = true,
            _ => {}
        }
    }

    /// The names of those in use, in the order of `FLAGS`.
    pub(super) fn names(self) -> impl Iterator<Item = &'static str> {
        let Flags { expiration, self_subject, partial, import, typechecking, hierarchy } = self;
        let in_use = [expiration, self_subject, partial, import, typechecking, hierarchy];
        FLAGS.into_iter().zip(in_use).filter(|(_, in_use)| *in_use).map(|(flag, _)| flag)
    }
}

struct Parser<'t> {
    text: &'t str,
    lexer: Lexer<'t>,
    current: Token,
    previous: TokenKind,
    previous_end: usize,
    /// Open parentheses.
    parens: usize,
    parens_max: usize,
    uses: Flags,
    /// Comments of the statement being read that stand where no node begins.
    inner_comments: Vec<Comment>,
    suggester: Suggester,
    diagnostics: Vec<Diagnostic>,
}

// --- tokens -----------------------------------------------------------------------------------------------------

impl<'t> Parser<'t> {
    fn word(&self) -> &'t str {
        self.text.get(self.current.span.clone()).unwrap_or_default()
    }

    fn is(&self, kind: TokenKind) -> bool {
        self.current.kind == kind
    }

    fn is_word(&self, word: &str) -> bool {
        self.is(TokenKind::Word) && self.word() == word
    }

    /// A newline ended the statement before the current token. Within parentheses none does: they say where it ends.
    fn is_ended_by_newline(&self) -> bool {
        self.parens == 0 && self.current.newline_before && self.previous.ends_statement()
    }

    /// The current token is of that kind and carries the statement on.
    fn continues(&self, kind: TokenKind) -> bool {
        self.is(kind) && !self.is_ended_by_newline()
    }

    fn continues_word(&self, word: &str) -> bool {
        self.is_word(word) && !self.is_ended_by_newline()
    }

    /// Goes on to the next token. Comments before the current one that nobody took belong to the statement.
    fn bump(&mut self) {
        let next = self.lexer.next_token();
        let passed = std::mem::replace(&mut self.current, next);
        self.previous = passed.kind;
        self.previous_end = passed.span.end;
        let comments = passed.comments.into_iter().map(|comment| Comment { text: comment.text, blank_before: false });
        self.inner_comments.extend(comments);
    }

    /// The comments before the current token, for a node within a statement.
    fn take_comments(&mut self) -> Vec<Comment> {
        let comments = std::mem::take(&mut self.current.comments);
        comments.into_iter().map(|comment| Comment { text: comment.text, blank_before: false }).collect()
    }

    /// The comments before the current token, for an item or member, or for the end of their list.
    fn take_leading(&mut self) -> (Vec<Comment>, bool) {
        let comments = std::mem::take(&mut self.current.comments);
        let keep = |comment: RawComment| Comment { text: comment.text, blank_before: comment.blank_before };
        (comments.into_iter().map(keep).collect(), self.current.blank_before)
    }

    /// The comments on the line that ended just now. Those that are followed by a node on that line are the node's.
    fn take_trailing(&mut self) -> Vec<String> {
        let comments = &mut self.current.comments;
        let count = comments.iter().position(|comment| comment.newline_before).unwrap_or(comments.len());
        let at_line_end = count < comments.len()
            || self.current.starts_line
            || matches!(self.current.kind, TokenKind::RightBrace | TokenKind::End);
        if !at_line_end {
            return Vec::new();
        }
        comments.drain(..count).map(|comment| comment.text).collect()
    }

    /// The comments of the statement that ended just now; `leading` and `blank_before` are what stood above it.
    fn trivia(&mut self, mut leading: Vec<Comment>, mut blank_before: bool) -> Trivia {
        if let Some(first) = self.inner_comments.first_mut() {
            // They are printed right above the statement, so the empty line is above them.
            first.blank_before = std::mem::take(&mut blank_before);
            leading.append(&mut self.inner_comments);
        }
        Trivia { leading, blank_before, trailing: self.take_trailing() }
    }

    fn span_from(&self, start: usize) -> Span {
        Span(start..self.previous_end.max(start))
    }

    fn expect(&mut self, kind: TokenKind, after: &str) -> Result<Range<usize>, Told> {
        if !self.is(kind) {
            return Err(self.unexpected(&format!("{} after {after}", kind.sign())));
        }
        let span = self.current.span.clone();
        self.bump();
        Ok(span)
    }

    /// A name; `what` says of what.
    fn expect_name(&mut self, what: &str) -> Result<Name, Told> {
        if !self.is(TokenKind::Word) {
            return Err(self.unexpected(what));
        }
        let text = self.word();
        if KEYWORDS.contains(&text) {
            let message = format!("expected {what}, found the keyword `{text}`");
            return Err(self.error("keyword-as-name", self.current.span.clone(), message));
        }
        let name = Name { text: text.to_owned(), span: Span(self.current.span.clone()) };
        self.bump();
        Ok(name)
    }

    /// `prefix/name`
    fn expect_path(&mut self, what: &str) -> Result<Name, Told> {
        let mut path = self.expect_name(what)?;
        while self.continues(TokenKind::Slash) {
            self.bump();
            let segment = self.expect_name("a name after `/`")?;
            path.text.push('/');
            path.text.push_str(&segment.text);
            path.span.0.end = segment.span.0.end;
        }
        Ok(path)
    }
}

// --- errors -----------------------------------------------------------------------------------------------------

impl Parser<'_> {
    fn error(&mut self, name: &'static str, span: Range<usize>, message: impl Into<String>) -> Told {
        self.diagnostics.push(Diagnostic::error(name, span, message));
        Told
    }

    fn error_with_hint(
        &mut self,
        name: &'static str,
        span: Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Told {
        self.diagnostics.push(Diagnostic::error(name, span, message).with_hint(hint));
        Told
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "any other token, also one added later, is treated alike")]
    fn found(&self) -> String {
        match self.current.kind {
            TokenKind::Word => quoted(self.word()),
            kind => kind.sign().to_owned(),
        }
    }

    /// Something else should stand here.
    fn unexpected(&mut self, expected: &str) -> Told {
        let span = self.current.span.clone();
        if self.is(TokenKind::Unknown) {
            return Told; // the lexer told of it
        }
        let is_operator = matches!(
            self.current.kind,
            TokenKind::Plus
                | TokenKind::Minus
                | TokenKind::Ampersand
                | TokenKind::Pipe
                | TokenKind::Arrow
                | TokenKind::Dot
                | TokenKind::Slash
                | TokenKind::Hash
        );
        let message = format!("expected {expected}, found {}", self.found());
        if is_operator && self.is_ended_by_newline() {
            let hint = format!(
                "a newline ends a statement: to carry it on, put {} at the end of the line before",
                self.current.kind.sign()
            );
            return self.error_with_hint("syntax", span, message, hint);
        }
        self.error("syntax", span, message)
    }

    /// A word is used whose flag is not.
    fn needs_use(&mut self, flag: &str, span: Range<usize>, message: String) {
        self.error_with_hint("missing-use", span, message, format!("add `use {flag}` at the top of the schema"));
    }

    /// Skips to where the next member may begin.
    #[expect(clippy::wildcard_enum_match_arm, reason = "any other token, also one added later, is treated alike")]
    fn recover_in_block(&mut self) {
        self.parens = 0;
        let mut braces = 0_usize;
        // Bounded: every turn takes a token.
        loop {
            match self.current.kind {
                TokenKind::End => return,
                TokenKind::LeftBrace => braces += 1,
                TokenKind::RightBrace if braces == 0 => return,
                TokenKind::RightBrace => braces -= 1,
                TokenKind::Semicolon if braces == 0 => return,
                TokenKind::Ellipsis if braces == 0 && self.current.starts_line => return,
                TokenKind::Word if matches!(self.word(), "definition" | "caveat") => return,
                TokenKind::Word if braces == 0 && self.begins_member() => return,
                _ => {}
            }
            self.bump();
        }
    }

    fn begins_member(&self) -> bool {
        match self.word() {
            "relation" | "permission" => true,
            "parent" => self.uses.hierarchy && self.current.newline_before,
            _ => false,
        }
    }

    /// Skips to where the next item may begin. Whether there was a body on the way, which may have been a definition's.
    #[expect(clippy::wildcard_enum_match_arm, reason = "any other token, also one added later, is treated alike")]
    fn recover_in_file(&mut self) -> bool {
        self.parens = 0;
        let mut braces = 0_usize;
        let mut has_body = false;
        // Bounded: every turn takes a token.
        loop {
            match self.current.kind {
                TokenKind::End => return has_body,
                TokenKind::LeftBrace => {
                    braces += 1;
                    has_body = true;
                }
                TokenKind::RightBrace => braces = braces.saturating_sub(1),
                TokenKind::Word => match self.word() {
                    "definition" | "caveat" => return has_body,
                    "use" | "partial" | "import" if braces == 0 && self.current.newline_before => return has_body,
                    _ => {}
                },
                _ => {}
            }
            self.bump();
        }
    }
}

// --- items ------------------------------------------------------------------------------------------------------

impl Parser<'_> {
    fn file(&mut self) -> File {
        let mut file = File::default();
        let mut has_definition = false;
        // Bounded: every turn takes a token, or ends it.
        loop {
            while self.is(TokenKind::Semicolon) {
                self.bump();
            }
            let (mut leading, blank_before) = self.take_leading();
            leading.splice(0..0, self.inner_comments.drain(..));
            if self.is(TokenKind::End) {
                file.closing = leading;
                if let Some(first) = file.closing.first_mut() {
                    first.blank_before = !file.items.is_empty();
                }
                return file;
            }
            let start = self.current.span.start;
            let Ok(kind) = self.item(has_definition, &mut file.is_incomplete) else {
                file.is_incomplete |= self.recover_in_file();
                self.inner_comments.splice(0..0, leading);
                continue;
            };
            let span = self.span_from(start);
            has_definition |= !matches!(kind, ItemKind::Use(_) | ItemKind::Import(_));
            let mut trivia = self.trivia(leading, blank_before);
            set_blank_before(&mut trivia, file.items.last().is_some_and(|last| !is_same_list(&last.kind, &kind)));
            file.items.push(Item { kind, trivia, span });
        }
    }

    fn item(&mut self, has_definition: bool, is_incomplete: &mut bool) -> Result<ItemKind, Told> {
        let word = if self.is(TokenKind::Word) { self.word() } else { "" };
        let meant = match word {
            "use" | "definition" | "caveat" | "partial" | "import" => word,
            _ => self.misspelt_item()?,
        };
        let span = self.current.span.clone();
        match meant {
            "use" => {
                self.bump();
                self.use_flag(span, has_definition)
            }
            "import" => {
                if !self.uses.import {
                    self.needs_use("import", span, "`import` is a word only under `use import`".to_owned());
                }
                self.bump();
                let at = self.current.span.clone();
                self.expect(TokenKind::Text, "`import`")?;
                let inner = at.start + 1..at.end.saturating_sub(1);
                let text = self.text.get(inner.clone()).unwrap_or_default().to_owned();
                Ok(ItemKind::Import(Name { text, span: Span(inner) }))
            }
            "caveat" => {
                self.bump();
                self.caveat().inspect_err(|_| *is_incomplete = true).map(ItemKind::Caveat)
            }
            "partial" => {
                if !self.uses.partial {
                    self.needs_use("partial", span, "`partial` is a word only under `use partial`".to_owned());
                }
                self.bump();
                self.block("partial").inspect_err(|_| *is_incomplete = true).map(ItemKind::Partial)
            }
            _ => {
                self.bump();
                self.block("definition").inspect_err(|_| *is_incomplete = true).map(ItemKind::Definition)
            }
        }
    }

    /// Reads on as what was probably meant, so that the names within are known.
    fn misspelt_item(&mut self) -> Result<&'static str, Told> {
        let span = self.current.span.clone();
        let expected = "expected `definition`, `caveat` or `use`";
        if self.is(TokenKind::Unknown) {
            return Err(Told);
        }
        let message = format!("{expected}, found {}", self.found());
        let word = if self.is(TokenKind::Word) { self.word() } else { "" };
        let meant = match word {
            "relation" | "permission" => {
                let hint = "relations and permissions stand within a `definition`";
                return Err(self.error_with_hint("syntax", span, message, hint));
            }
            "" => None,
            _ => self.suggester.closest(word, ["definition", "caveat"]),
        };
        let Some(meant) = meant else {
            return Err(self.error("syntax", span, message));
        };
        let _: Told = self.error_with_hint("syntax", span, message, format!("did you mean `{meant}`?"));
        Ok(meant)
    }

    fn use_flag(&mut self, word: Range<usize>, has_definition: bool) -> Result<ItemKind, Told> {
        let flag = self.expect_name("a flag after `use`")?;
        let span = word.start..flag.span.0.end;
        if has_definition {
            let message = format!("`use {}` comes after a definition", flag.text);
            let hint = "flags stand at the top of the schema, before all definitions";
            let _: Told = self.error_with_hint("use-too-late", span, message, hint);
        }
        self.uses.set(&flag.text);
        if !FLAGS.contains(&flag.text.as_str()) {
            let hint = match self.suggester.hint(&flag.text, FLAGS) {
                Some(hint) => hint,
                None => format!("flags are {}", FLAGS.map(|flag| format!("`{flag}`")).join(", ")),
            };
            let message = format!("unknown flag {}", quoted(&flag.text));
            let _: Told = self.error_with_hint("unknown-flag", flag.span.0.clone(), message, hint);
        }
        Ok(ItemKind::Use(flag))
    }

    fn caveat(&mut self) -> Result<Caveat, Told> {
        let name = self.expect_path("the caveat's name")?;
        self.expect(TokenKind::LeftParen, "the caveat's name")?;
        self.parens += 1;
        let mut parameters = Vec::new();
        while !self.is(TokenKind::RightParen) {
            let comments = self.take_comments();
            // Any identifier of CEL will do, also one that is a keyword here.
            if !self.is(TokenKind::Word) {
                return Err(self.unexpected("a parameter's name"));
            }
            let name = Name { text: self.word().to_owned(), span: Span(self.current.span.clone()) };
            self.bump();
            let kind = self.parameter_type(0)?;
            parameters.push(Parameter { comments, name, kind });
            if !self.is(TokenKind::Comma) {
                break;
            }
            self.bump();
        }
        self.expect(TokenKind::RightParen, "the parameters")?;
        self.parens = 0;
        if !self.is(TokenKind::LeftBrace) {
            return Err(self.unexpected("`{` after the parameters"));
        }
        let open = self.current.span.clone();
        let Some(body_span) = self.lexer.take_body(open.end) else {
            let message = format!("the body of caveat {} is not closed", quoted(&name.text));
            let told = self.error_with_hint("unclosed-brace", open, message, "end it with `}`");
            self.bump();
            return Err(told);
        };
        self.bump();
        self.previous = TokenKind::RightBrace;
        self.previous_end = body_span.end + 1;
        let body = unindented(self.text.get(body_span.clone()).unwrap_or_default());
        if body.is_empty() {
            let message = format!("caveat {} has no expression", quoted(&name.text));
            let _: Told = self.error("empty-caveat", open.start..body_span.end + 1, message);
        }
        Ok(Caveat { name, parameters, body, body_span: Span(body_span) })
    }

    fn parameter_type(&mut self, depth: usize) -> Result<ParameterType, Told> {
        if depth > PARAMETER_DEPTH_MAX {
            let message = format!("types nest more than {PARAMETER_DEPTH_MAX} levels deep");
            return Err(self.error("too-deep", self.current.span.clone(), message));
        }
        let name = self.expect_name("the parameter's type")?;
        let mut arguments = Vec::new();
        if self.is(TokenKind::LeftAngle) {
            self.bump();
            arguments.push(self.parameter_type(depth + 1)?);
            while self.is(TokenKind::Comma) {
                self.bump();
                arguments.push(self.parameter_type(depth + 1)?);
            }
            self.expect(TokenKind::RightAngle, "the type")?;
        }
        Ok(ParameterType { name, arguments })
    }
}

// --- members ----------------------------------------------------------------------------------------------------

impl Parser<'_> {
    /// The name and the body in braces of a definition or partial.
    fn block(&mut self, word: &str) -> Result<Block, Told> {
        let name = self.expect_path(&format!("the {word}'s name"))?;
        let open = self.expect(TokenKind::LeftBrace, &format!("the {word}'s name"))?;
        let outer_comments = std::mem::take(&mut self.inner_comments);
        let mut block =
            Block { name, members: Vec::new(), closing: Vec::new(), broken: Vec::new(), is_incomplete: false };
        // Bounded: every turn takes a token, or ends it.
        loop {
            while self.is(TokenKind::Semicolon) {
                self.bump();
            }
            let (mut leading, blank_before) = self.take_leading();
            leading.splice(0..0, self.inner_comments.drain(..));
            let is_closed = self.is(TokenKind::RightBrace);
            if is_closed || self.is(TokenKind::End) || self.is_word("definition") || self.is_word("caveat") {
                if !is_closed {
                    // Placed at its opening: where it should have been closed is anybody's guess.
                    let message = format!("{word} {} is not closed", quoted(&block.name.text));
                    let hint = format!("end it with `}}` before {}", self.found());
                    let _: Told = self.error_with_hint("unclosed-brace", open, message, hint);
                }
                block.closing = leading;
                if let Some(first) = block.closing.first_mut() {
                    first.blank_before &= !block.members.is_empty();
                }
                break;
            }
            let start = self.current.span.start;
            match self.member(&mut block) {
                Ok(kind) => {
                    let span = self.span_from(start);
                    self.end_of_statement();
                    let mut trivia = self.trivia(leading, blank_before);
                    if block.members.is_empty() {
                        set_blank_before(&mut trivia, false);
                    }
                    block.members.push(Member { kind, trivia, span });
                }
                Err(Told) => {
                    self.recover_in_block();
                    self.inner_comments.splice(0..0, leading);
                }
            }
        }
        self.inner_comments = outer_comments;
        if self.is(TokenKind::RightBrace) {
            self.bump();
        }
        Ok(block)
    }

    fn member(&mut self, block: &mut Block) -> Result<MemberKind, Told> {
        if self.is(TokenKind::Ellipsis) {
            let span = self.current.span.clone();
            if !self.uses.partial {
                self.needs_use("partial", span, "`...name` is understood only under `use partial`".to_owned());
            }
            self.bump();
            let partial = self.expect_path("the partial's name").inspect_err(|_| block.is_incomplete = true)?;
            return Ok(MemberKind::Splice { partial });
        }
        let word = if self.is(TokenKind::Word) { self.word() } else { "" };
        let meant = match word {
            "relation" | "permission" | "parent" => word,
            _ => self.misspelt_member(block)?,
        };
        let span = self.current.span.clone();
        self.bump();
        if meant == "parent" && !self.uses.hierarchy {
            let message = "`parent` begins a statement only under `use hierarchy`".to_owned();
            self.needs_use("hierarchy", span, message);
        }
        let name = match self.expect_name(&format!("the {meant}'s name")) {
            Ok(name) => name,
            Err(told) => {
                block.is_incomplete = true;
                // A keyword in the place of a name begins no statement.
                if self.is(TokenKind::Word) && !self.current.newline_before {
                    self.bump();
                }
                return Err(told);
            }
        };
        if name.text == "self" && self.uses.self_subject {
            let message = "`self` is a keyword under `use self`".to_owned();
            block.broken.push(name.text);
            return Err(self.error("keyword-as-name", name.span.0, message));
        }
        let text = name.text.clone();
        let kind = match meant {
            "permission" => self.permission(name),
            "parent" => self.relation(name, RelationWord::Parent),
            _ => self.relation(name, RelationWord::Relation),
        };
        kind.inspect_err(|_| block.broken.push(text))
    }

    /// Reads on as what was probably meant, so that its name is known.
    fn misspelt_member(&mut self, block: &mut Block) -> Result<&'static str, Told> {
        let expected = "`relation`, `permission` or `}`";
        if !self.is(TokenKind::Word) {
            block.is_incomplete = true;
            return Err(self.unexpected(expected));
        }
        let word = self.word();
        let Some(meant) = self.suggester.closest(word, ["relation", "permission"]) else {
            block.is_incomplete = true;
            return Err(self.unexpected(expected));
        };
        let message = format!("expected {expected}, found {}", self.found());
        let span = self.current.span.clone();
        let _: Told = self.error_with_hint("syntax", span, message, format!("did you mean `{meant}`?"));
        Ok(meant)
    }

    /// A newline, a `;` or the closing brace.
    fn end_of_statement(&mut self) {
        if self.is(TokenKind::Semicolon) {
            self.bump();
            return;
        }
        if self.is_ended_by_newline() || matches!(self.current.kind, TokenKind::RightBrace | TokenKind::End) {
            let is_operator = matches!(
                self.current.kind,
                TokenKind::Plus | TokenKind::Minus | TokenKind::Ampersand | TokenKind::Pipe | TokenKind::Arrow
            );
            if is_operator || (self.current.kind == TokenKind::Word && self.word() == "with") {
                let _: Told = self.unexpected("a new statement");
                self.recover_in_block();
            }
            return;
        }
        let begins_member = self.is(TokenKind::Word) && matches!(self.word(), "relation" | "permission");
        let _: Told = self.unexpected("a newline or `;` after the statement");
        if !begins_member {
            self.recover_in_block();
        }
    }

    fn relation(&mut self, name: Name, word: RelationWord) -> Result<MemberKind, Told> {
        self.expect(TokenKind::Colon, "the relation's name")?;
        let mut subjects = vec![self.subject()?];
        while self.continues(TokenKind::Pipe) {
            self.bump();
            subjects.push(self.subject()?);
        }
        Ok(MemberKind::Relation { name, word, subjects })
    }

    fn subject(&mut self) -> Result<Subject, Told> {
        let comments = self.take_comments();
        let start = self.current.span.start;
        let subject_type = self.expect_path("a type of subject")?;
        let form = if self.continues(TokenKind::Colon) {
            self.bump();
            self.expect(TokenKind::Star, "`:`")?;
            Form::Wildcard
        } else if self.continues(TokenKind::Hash) {
            self.bump();
            if self.is(TokenKind::Ellipsis) {
                self.bump();
                Form::Object
            } else {
                Form::Userset(self.expect_name("a relation or permission after `#`")?)
            }
        } else {
            Form::Object
        };
        let mut caveat = None;
        let mut expiration = None;
        if self.continues_word("with") {
            self.bump();
            if self.uses.expiration && self.is_word("expiration") {
                expiration = Some(Span(self.current.span.clone()));
                self.bump();
            } else {
                caveat = Some(self.expect_path("a caveat after `with`")?);
                if self.continues_word("and") {
                    self.bump();
                    let at = self.current.span.clone();
                    if !self.is_word("expiration") {
                        return Err(self.unexpected("`expiration` after `and`"));
                    }
                    if !self.uses.expiration {
                        let message = "`expiration` is a word only under `use expiration`".to_owned();
                        self.needs_use("expiration", at.clone(), message);
                    }
                    expiration = Some(Span(at));
                    self.bump();
                }
            }
        }
        let span = self.span_from(start);
        Ok(Subject { comments, subject_type, form, caveat, expiration, span })
    }

    fn permission(&mut self, name: Name) -> Result<MemberKind, Told> {
        let mut annotation = None;
        if self.is(TokenKind::Colon) {
            let colon = self.current.span.clone();
            self.bump();
            let mut types = vec![self.expect_path("a type of subject")?];
            while self.continues(TokenKind::Pipe) {
                self.bump();
                types.push(self.expect_path("a type of subject")?);
            }
            if !self.uses.typechecking {
                let span = colon.start..self.previous_end;
                let message = "a permission's types are understood only under `use typechecking`".to_owned();
                self.needs_use("typechecking", span, message);
            }
            annotation = Some(types);
        }
        let after = if annotation.is_some() { "the permission's types" } else { "the permission's name" };
        self.expect(TokenKind::Equals, after)?;
        let expr = self.chain(Operator::Exclusion)?;
        Ok(MemberKind::Permission { name, annotation, expr })
    }
}

// --- expressions ------------------------------------------------------------------------------------------------

impl Parser<'_> {
    /// Operands joined by one operator, each of the next tighter one. Recursion: two levels here, then parentheses.
    fn chain(&mut self, operator: Operator) -> Result<Expr, Told> {
        let start = self.current.span.start;
        let first = self.operand(operator)?;
        let sign = match operator {
            Operator::Exclusion => TokenKind::Minus,
            Operator::Intersection => TokenKind::Ampersand,
            Operator::Union => TokenKind::Plus,
        };
        if !self.continues(sign) {
            return Ok(first);
        }
        let mut operands = vec![first];
        while self.continues(sign) {
            self.bump();
            operands.push(self.operand(operator)?);
        }
        let span = self.span_from(start);
        Ok(Expr { comments: Vec::new(), kind: ExprKind::Chain { operator, operands }, span })
    }

    fn operand(&mut self, operator: Operator) -> Result<Expr, Told> {
        match operator {
            Operator::Exclusion => self.chain(Operator::Intersection),
            Operator::Intersection => self.chain(Operator::Union),
            Operator::Union => self.primary(),
        }
    }

    fn primary(&mut self) -> Result<Expr, Told> {
        let comments = self.take_comments();
        let start = self.current.span.start;
        if self.is(TokenKind::LeftParen) {
            let expr = self.parenthesised(start)?;
            return Ok(Expr { comments, ..expr });
        }
        if self.is_word("nil") || (self.uses.self_subject && self.is_word("self")) {
            let kind = if self.is_word("nil") { ExprKind::Nil } else { ExprKind::SelfSubject };
            self.bump();
            return Ok(Expr { comments, kind, span: self.span_from(start) });
        }
        let relation = self.expect_name("a relation or permission")?;
        let kind = if self.continues(TokenKind::Arrow) {
            self.bump();
            let target = self.expect_name("a relation or permission after `->`")?;
            ExprKind::Arrow { relation, target, sign: ArrowSign::Arrow }
        } else if self.continues(TokenKind::Dot) {
            self.bump();
            let sign = match self.word() {
                "any" => ArrowSign::Any,
                "all" => ArrowSign::All,
                _ => return Err(self.unexpected("`any` or `all` after `.`")),
            };
            self.bump();
            self.expect(TokenKind::LeftParen, "`any` or `all`")?;
            let target = self.expect_name("a relation or permission")?;
            self.expect(TokenKind::RightParen, "the name")?;
            ExprKind::Arrow { relation, target, sign }
        } else {
            ExprKind::Name(relation)
        };
        let is_arrow = matches!(kind, ExprKind::Arrow { .. });
        if is_arrow && (self.continues(TokenKind::Arrow) || self.continues(TokenKind::Dot)) {
            let span = start..self.current.span.end;
            let hint = "give the first arrow's type a permission that has the second, and point to that";
            return Err(self.error_with_hint("chained-arrow", span, "arrows cannot be chained", hint));
        }
        Ok(Expr { comments, kind, span: self.span_from(start) })
    }

    fn parenthesised(&mut self, start: usize) -> Result<Expr, Told> {
        if self.parens >= self.parens_max {
            let message = format!("expressions nest more than {} levels deep", self.parens_max);
            let hint = "give the inner part a name of its own, as a permission";
            return Err(self.error_with_hint("too-deep", self.current.span.clone(), message, hint));
        }
        self.bump();
        self.parens += 1;
        let inner = self.chain(Operator::Exclusion)?;
        self.expect(TokenKind::RightParen, "the expression")?;
        self.parens -= 1;
        if self.continues(TokenKind::Arrow) || self.continues(TokenKind::Dot) {
            let span = start..self.current.span.end;
            let message = "the left side of an arrow is one relation, not an expression";
            return Err(self.error("arrow-on-expression", span, message));
        }
        Ok(Expr { comments: Vec::new(), kind: ExprKind::Paren(Box::new(inner)), span: self.span_from(start) })
    }
}

// --- form -------------------------------------------------------------------------------------------------------

/// Two flags, or two imports, stand together; between all other items there is an empty line.
fn is_same_list(a: &ItemKind, b: &ItemKind) -> bool {
    matches!((a, b), (ItemKind::Use(_), ItemKind::Use(_)) | (ItemKind::Import(_), ItemKind::Import(_)))
}

/// Sets whether an empty line stands above all of it.
fn set_blank_before(trivia: &mut Trivia, blank_before: bool) {
    match trivia.leading.first_mut() {
        Some(first) => first.blank_before = blank_before,
        None => trivia.blank_before = blank_before,
    }
}

/// A caveat's body without the indentation that all its lines share. Within a string of several lines white space has
/// a meaning, so a body that may hold one is only trimmed.
fn unindented(raw: &str) -> String {
    if raw.contains("'''") || raw.contains("\"\"\"") {
        return raw.trim().to_owned();
    }
    let trimmed = raw.trim_end();
    let mut lines: Vec<&str> = trimmed.lines().map(str::trim_end).collect();
    // What stands right after the brace has no indentation of its own.
    let after_brace = lines.first().copied().map(str::trim).filter(|line| !line.is_empty());
    match after_brace {
        Some(_) => drop(lines.remove(0)),
        None => {
            let blank = lines.iter().position(|line| !line.trim().is_empty()).unwrap_or(lines.len());
            drop(lines.drain(..blank));
        }
    }
    let indentation = |line: &&str| line.chars().take_while(|c| matches!(c, ' ' | '\t')).count();
    let shared = lines.iter().filter(|line| !line.is_empty()).map(indentation).min().unwrap_or(0);
    let rest = lines.iter().map(|line| line.get(shared..).unwrap_or_default());
    after_brace.into_iter().chain(rest).collect::<Vec<&str>>().join("\n")
}
