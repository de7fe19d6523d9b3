//! From tokens to a tree: CEL's grammar by recursive descent.
//!
//! INVARIANT: only a bracket recurses, and brackets are counted: at [`super::DEPTH_MAX`] the parser stops with an
//! error, so hostile text cannot reach the end of the stack. Everything of one precedence is read in a loop.

#![expect(clippy::wildcard_enum_match_arm, reason = "a token that is not named is a mistake in the source")]

use super::ast::{BinaryOp, Expr, ExprKind, Link, LinkKind, Literal, Span};
use super::lexer::Token;
use super::{CompileError, DEPTH_MAX, lexer};

/// Words CEL keeps for itself: none can name a variable or a function.
pub(super) const RESERVED: [&str; 21] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "package",
    "namespace",
    "null",
    "return",
    "true",
    "var",
    "void",
    "while",
];

/// The tree of a source of at most [`super::SOURCE_BYTES_MAX`]; the first mistake otherwise.
pub(super) fn parse(source: &str) -> Result<Expr, CompileError> {
    let mut parser = Parser { tokens: lexer::tokens(source)?, at: 0, depth: 0 };
    if parser.peek() == &Token::End {
        let hint = "a caveat's body is a CEL expression that is true or false, such as `level >= 3`";
        return Err(CompileError::at(parser.span(), "the expression is empty", Some(hint)));
    }
    let expr = parser.expression()?;
    match parser.peek() {
        Token::End => Ok(expr),
        other => {
            let message = format!("expected an operator or the end of the expression, found {}", other.describe());
            Err(CompileError::at(parser.span(), message, None))
        }
    }
}

struct Parser {
    /// The last is `End`.
    tokens: Vec<(Token, Span)>,
    at: usize,
    depth: usize,
}

const NOTHING: (Token, Span) = (Token::End, Span { start: 0, end: 0 });

impl Parser {
    fn current(&self) -> &(Token, Span) {
        self.tokens.get(self.at).or(self.tokens.last()).unwrap_or(&NOTHING)
    }

    fn peek(&self) -> &Token {
        &self.current().0
    }

    fn span(&self) -> Span {
        self.current().1
    }

    fn advance(&mut self) -> (Token, Span) {
        let taken = self.current().clone();
        self.at += 1;
        taken
    }

    fn is(&self, sign: &str) -> bool {
        matches!(self.peek(), Token::Sign(found) if *found == sign)
    }

    fn eat(&mut self, sign: &str) -> bool {
        let found = self.is(sign);
        if found {
            self.at += 1;
        }
        found
    }

    fn sign(&mut self, sign: &str) -> Result<Span, CompileError> {
        if self.is(sign) {
            return Ok(self.advance().1);
        }
        let message = format!("expected `{sign}`, found {}", self.peek().describe());
        Err(CompileError::at(self.span(), message, None))
    }

    /// Reads what stands inside a bracket that opened at `opened`.
    fn nested<T>(
        &mut self,
        opened: Span,
        read: impl FnOnce(&mut Parser) -> Result<T, CompileError>,
    ) -> Result<T, CompileError> {
        if self.depth >= DEPTH_MAX {
            let message = format!("brackets are nested more than {DEPTH_MAX} deep");
            let hint = "write the condition with fewer brackets, or as several caveats";
            return Err(CompileError::at(opened, message, Some(hint)));
        }
        self.depth += 1;
        let inside = read(self);
        self.depth -= 1;
        inside
    }

    /// `or [? or : or ? or : … or]`
    fn expression(&mut self) -> Result<Expr, CompileError> {
        let mut last = self.or()?;
        let mut arms = Vec::new();
        while self.eat("?") {
            let value = self.or()?;
            if self.is("?") {
                let hint = "put the inner `? :` in parentheses";
                return Err(CompileError::at(self.span(), "expected `:`, found `?`", Some(hint)));
            }
            self.sign(":")?;
            arms.push((last, value));
            last = self.or()?;
        }
        let Some((first, _)) = arms.first() else { return Ok(last) };
        let span = first.span.to(last.span);
        Ok(Expr { span, kind: ExprKind::Conditional(arms, Box::new(last)) })
    }

    fn or(&mut self) -> Result<Expr, CompileError> {
        let first = self.and()?;
        if !self.is("||") {
            return Ok(first);
        }
        let mut operands = vec![first];
        while self.eat("||") {
            operands.push(self.and()?);
        }
        Ok(Expr { span: whole(&operands), kind: ExprKind::Or(operands) })
    }

    fn and(&mut self) -> Result<Expr, CompileError> {
        let first = self.chain(0)?;
        if !self.is("&&") {
            return Ok(first);
        }
        let mut operands = vec![first];
        while self.eat("&&") {
            operands.push(self.chain(0)?);
        }
        Ok(Expr { span: whole(&operands), kind: ExprKind::And(operands) })
    }

    /// Relations (0), sums (1), products (2): each a chain of the next, the last of signed operands.
    fn chain(&mut self, level: usize) -> Result<Expr, CompileError> {
        let first = self.operand(level)?;
        let mut rest = Vec::new();
        while let Some(op) = self.operator(level) {
            self.at += 1;
            rest.push((op, self.operand(level)?));
        }
        let Some((_, last)) = rest.last() else { return Ok(first) };
        let span = first.span.to(last.span);
        Ok(Expr { span, kind: ExprKind::Chain(Box::new(first), rest) })
    }

    fn operand(&mut self, level: usize) -> Result<Expr, CompileError> {
        if level >= 2 { self.signed() } else { self.chain(level + 1) }
    }

    fn operator(&self, level: usize) -> Option<BinaryOp> {
        let op = match self.peek() {
            Token::Sign("==") => (0, BinaryOp::Equal),
            Token::Sign("!=") => (0, BinaryOp::NotEqual),
            Token::Sign("<") => (0, BinaryOp::Less),
            Token::Sign("<=") => (0, BinaryOp::LessOrEqual),
            Token::Sign(">") => (0, BinaryOp::Greater),
            Token::Sign(">=") => (0, BinaryOp::GreaterOrEqual),
            Token::Name(word) if word == "in" => (0, BinaryOp::In),
            Token::Sign("+") => (1, BinaryOp::Add),
            Token::Sign("-") => (1, BinaryOp::Subtract),
            Token::Sign("*") => (2, BinaryOp::Multiply),
            Token::Sign("/") => (2, BinaryOp::Divide),
            Token::Sign("%") => (2, BinaryOp::Remainder),
            _ => return None,
        };
        (op.0 == level).then_some(op.1)
    }

    /// `!…e`, `-…e` or `e`. A minus right before a number belongs to the number.
    fn signed(&mut self) -> Result<Expr, CompileError> {
        let start = self.span();
        if self.is("!") {
            let mut count = 0_usize;
            while self.eat("!") {
                count += 1;
            }
            let operand = Box::new(self.path()?);
            let span = start.to(operand.span);
            return Ok(Expr { span, kind: ExprKind::Not { operand, twice: count.is_multiple_of(2) } });
        }
        if !self.is("-") {
            return self.path();
        }
        let mut count = 0_usize;
        while self.eat("-") {
            count += 1;
        }
        let number = match self.peek() {
            Token::Int(magnitude) => {
                let value = 0_i64.checked_sub_unsigned(*magnitude);
                Some(Literal::Int(value.ok_or_else(|| out_of_range(self.span()))?))
            }
            Token::Double(value) => Some(Literal::Double(-value)),
            _ => None,
        };
        let operand = match number {
            Some(literal) => {
                count -= 1;
                let span = start.to(self.advance().1);
                self.links(Expr { span, kind: ExprKind::Literal(literal) })?
            }
            None => self.path()?,
        };
        if count == 0 {
            return Ok(operand);
        }
        let span = start.to(operand.span);
        Ok(Expr { span, kind: ExprKind::Negate { operand: Box::new(operand), twice: count.is_multiple_of(2) } })
    }

    fn path(&mut self) -> Result<Expr, CompileError> {
        let first = self.primary()?;
        self.links(first)
    }

    fn links(&mut self, first: Expr) -> Result<Expr, CompileError> {
        let mut links = Vec::new();
        loop {
            let start = self.span();
            if self.eat(".") {
                if self.is("?") {
                    let span = start.to(self.span());
                    let hint = "ask first: `has(map.key) && …`";
                    return Err(CompileError::at(span, "optional fields are not part of caveats", Some(hint)));
                }
                let (token, name_span) = self.advance();
                let Token::Name(name) = token else {
                    let message = format!("expected a field or a function after `.`, found {}", token.describe());
                    return Err(CompileError::at(name_span, message, None));
                };
                let kind = if self.is("(") {
                    LinkKind::Call { name, name_span, arguments: self.arguments()? }
                } else {
                    LinkKind::Select(name)
                };
                links.push(Link { span: start.to(self.last_span()), kind });
            } else if self.eat("[") {
                let index = self.nested(start, Parser::expression)?;
                let end = self.sign("]")?;
                links.push(Link { span: start.to(end), kind: LinkKind::Index(index) });
            } else {
                break;
            }
        }
        let Some(last) = links.last() else { return Ok(first) };
        let span = first.span.to(last.span);
        Ok(Expr { span, kind: ExprKind::Path(Box::new(first), links) })
    }

    /// The span of the token taken last.
    fn last_span(&self) -> Span {
        self.tokens.get(self.at.saturating_sub(1)).map_or(NOTHING.1, |token| token.1)
    }

    fn arguments(&mut self) -> Result<Vec<Expr>, CompileError> {
        let opened = self.sign("(")?;
        let mut arguments = Vec::new();
        if self.eat(")") {
            return Ok(arguments);
        }
        loop {
            arguments.push(self.nested(opened, Parser::expression)?);
            if !self.eat(",") {
                self.sign(")")?;
                return Ok(arguments);
            }
        }
    }

    fn primary(&mut self) -> Result<Expr, CompileError> {
        let (token, span) = self.advance();
        let kind = match token {
            Token::Int(magnitude) => {
                ExprKind::Literal(Literal::Int(i64::try_from(magnitude).map_err(|_| out_of_range(span))?))
            }
            Token::Uint(value) => ExprKind::Literal(Literal::Uint(value)),
            Token::Double(value) => ExprKind::Literal(Literal::Double(value)),
            Token::String(text) => ExprKind::Literal(Literal::String(text)),
            Token::Bytes(bytes) => ExprKind::Literal(Literal::Bytes(bytes)),
            // A leading dot asks for the outermost name; caveats have no other.
            Token::Sign(".") => match self.advance() {
                (Token::Name(name), name_span) => return self.named(name, name_span),
                (other, at) => {
                    return Err(CompileError::at(at, format!("expected a name, found {}", other.describe()), None));
                }
            },
            Token::Name(name) => return self.named(name, span),
            Token::Sign("(") => {
                let inside = self.nested(span, Parser::expression)?;
                let end = self.sign(")")?;
                return Ok(Expr { span: span.to(end), kind: inside.kind });
            }
            Token::Sign("[") => {
                let items = self.items("]", span, Parser::expression)?;
                return Ok(Expr { span: span.to(self.last_span()), kind: ExprKind::List(items) });
            }
            Token::Sign("{") => {
                let entries = self.items("}", span, |parser| {
                    let key = parser.expression()?;
                    parser.sign(":")?;
                    Ok((key, parser.expression()?))
                })?;
                return Ok(Expr { span: span.to(self.last_span()), kind: ExprKind::Map(entries) });
            }
            Token::Sign(_) | Token::End => {
                let message = format!("expected a value, found {}", token.describe());
                return Err(CompileError::at(span, message, None));
            }
        };
        Ok(Expr { span, kind })
    }

    /// Comma-separated items up to `closing`; one comma may stand at the end.
    fn items<T>(
        &mut self,
        closing: &str,
        opened: Span,
        read: impl Fn(&mut Parser) -> Result<T, CompileError>,
    ) -> Result<Vec<T>, CompileError> {
        let mut items = Vec::new();
        while !self.eat(closing) {
            items.push(self.nested(opened, &read)?);
            if !self.eat(",") {
                self.sign(closing)?;
                break;
            }
        }
        Ok(items)
    }

    fn named(&mut self, name: String, span: Span) -> Result<Expr, CompileError> {
        let kind = match name.as_str() {
            "true" => ExprKind::Literal(Literal::Bool(true)),
            "false" => ExprKind::Literal(Literal::Bool(false)),
            "null" => ExprKind::Literal(Literal::Null),
            word if RESERVED.contains(&word) => {
                return Err(CompileError::at(span, format!("`{word}` is a reserved word"), None));
            }
            _ if self.is("(") => ExprKind::Call { arguments: self.arguments()?, name, name_span: span },
            _ if self.is("{") => {
                return Err(CompileError::at(span, format!("`{name}` is no message type: caveats have none"), None));
            }
            _ => ExprKind::Name(name),
        };
        Ok(Expr { span: span.to(self.last_span()), kind })
    }
}

fn whole(operands: &[Expr]) -> Span {
    match (operands.first(), operands.last()) {
        (Some(first), Some(last)) => first.span.to(last.span),
        _ => NOTHING.1,
    }
}

fn out_of_range(span: Span) -> CompileError {
    CompileError::at(
        span,
        "the number is out of range: an int has 64 bits",
        Some("a larger unsigned number ends in `u`"),
    )
}
