//! The canonical form of a schema's text.
//!
//! INVARIANT: printing a tree and parsing that gives the same tree; printing that gives the same text. No comment is
//! lost.

use super::ast::{
    ArrowSign, Block, Caveat, Comment, Expr, ExprKind, File, Form, Item, ItemKind, Member, MemberKind, ParameterType,
    RelationWord, Subject, Trivia,
};
use super::diagnostic::{Diagnostic, in_order};
use super::parser::parse;
use crate::model::Limits;

/// One level of indentation.
const INDENT: &str = "  ";
/// A statement longer than this is broken after its `|` or its outermost operators.
const LINE_CHARS_MAX: usize = 100;

/// The canonical form of a schema's text. The errors are those of its grammar only: names may be unknown.
///
/// ```
/// let tidy = procura::schema::format("definition  doc{relation viewer:user|user:* }").unwrap();
/// assert_eq!(tidy, "definition doc {\n  relation viewer: user | user:*\n}\n");
/// ```
pub fn format(text: &str) -> Result<String, Vec<Diagnostic>> {
    let parsed = parse(text, &Limits::default());
    if parsed.diagnostics.is_empty() { Ok(print(&parsed.file)) } else { Err(in_order(parsed.diagnostics)) }
}

/// A tree as text. Ends with a newline, unless it is empty.
pub(super) fn print(file: &File) -> String {
    let mut printer = Printer { out: String::new() };
    for item in &file.items {
        printer.item(item);
    }
    printer.comments(&file.closing, 0);
    printer.out
}

struct Printer {
    out: String,
}

impl Printer {
    fn word(&mut self, text: &str) {
        self.out.push_str(text);
    }

    /// A new line at a level of indentation; nothing is left at the end of the one before.
    fn line(&mut self, level: usize) {
        let kept = self.out.trim_end_matches(' ').len();
        self.out.truncate(kept);
        self.out.push('\n');
        self.indent(level);
    }

    fn indent(&mut self, level: usize) {
        for _ in 0..level {
            self.out.push_str(INDENT);
        }
    }

    /// Each on a line of its own.
    fn comments(&mut self, comments: &[Comment], level: usize) {
        for comment in comments {
            if comment.blank_before {
                self.out.push('\n');
            }
            self.indent(level);
            self.word(&comment.text);
            self.out.push('\n');
        }
    }

    fn leading(&mut self, trivia: &Trivia, level: usize) {
        self.comments(&trivia.leading, level);
        if trivia.blank_before {
            self.out.push('\n');
        }
        self.indent(level);
    }

    fn trailing(&mut self, trivia: &Trivia) {
        for comment in &trivia.trailing {
            self.out.push(' ');
            self.word(comment);
        }
        self.out.push('\n');
    }

    fn item(&mut self, item: &Item) {
        self.leading(&item.trivia, 0);
        match &item.kind {
            ItemKind::Use(flag) => {
                self.word("use ");
                self.word(&flag.text);
            }
            ItemKind::Import(path) => {
                let quote = if path.text.contains('"') { "'" } else { "\"" };
                self.word("import ");
                self.word(quote);
                self.word(&path.text);
                self.word(quote);
            }
            ItemKind::Caveat(caveat) => self.caveat(caveat),
            ItemKind::Partial(block) => {
                self.word("partial ");
                self.block(block);
            }
            ItemKind::Definition(block) => {
                self.word("definition ");
                self.block(block);
            }
        }
        self.trailing(&item.trivia);
    }

    fn caveat(&mut self, caveat: &Caveat) {
        self.word("caveat ");
        self.word(&caveat.name.text);
        self.word("(");
        let is_broken = caveat.parameters.iter().any(|parameter| !parameter.comments.is_empty());
        for (index, parameter) in caveat.parameters.iter().enumerate() {
            if index > 0 {
                self.word(", ");
            }
            if is_broken {
                self.inner_comments(&parameter.comments, 1);
                self.line(1);
            }
            self.word(&parameter.name.text);
            self.word(" ");
            self.parameter_type(&parameter.kind);
        }
        if is_broken {
            self.line(0);
        }
        self.word(") {");
        // A body with strings of several lines is kept as it is, so only its first line is placed.
        let is_verbatim = caveat.body.contains("'''") || caveat.body.contains("\"\"\"");
        if is_verbatim {
            self.line(1);
            self.word(&caveat.body);
        } else {
            for line in caveat.body.lines() {
                self.line(if line.is_empty() { 0 } else { 1 });
                self.word(line);
            }
        }
        self.out.push_str("\n}");
    }

    /// Recursion is bounded by the parser's bound on types within types.
    fn parameter_type(&mut self, kind: &ParameterType) {
        self.word(&kind.name.text);
        if kind.arguments.is_empty() {
            return;
        }
        for (index, argument) in kind.arguments.iter().enumerate() {
            self.word(if index == 0 { "<" } else { ", " });
            self.parameter_type(argument);
        }
        self.word(">");
    }

    fn block(&mut self, block: &Block) {
        self.word(&block.name.text);
        if block.members.is_empty() && block.closing.is_empty() {
            self.word(" {}");
            return;
        }
        self.word(" {\n");
        for member in &block.members {
            self.member(member);
        }
        self.comments(&block.closing, 1);
        self.word("}");
    }

    fn member(&mut self, member: &Member) {
        self.leading(&member.trivia, 1);
        match &member.kind {
            MemberKind::Relation { name, word, subjects } => {
                self.word(match word {
                    RelationWord::Relation => "relation ",
                    RelationWord::Parent => "parent ",
                });
                self.word(&name.text);
                self.word(": ");
                self.subjects(subjects);
            }
            MemberKind::Permission { name, annotation, expr } => {
                self.word("permission ");
                self.word(&name.text);
                for (index, subject_type) in annotation.iter().flatten().enumerate() {
                    self.word(if index == 0 { ": " } else { " | " });
                    self.word(&subject_type.text);
                }
                self.word(" = ");
                self.statement_expr(expr);
            }
            MemberKind::Splice { partial } => {
                self.word("...");
                self.word(&partial.text);
            }
        }
        self.trailing(&member.trivia);
    }

    /// What was printed since `start` is on one line that is too long.
    fn is_too_long(&self, start: usize) -> bool {
        let line_start = self.out.get(..start).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1);
        self.out.get(line_start..).unwrap_or_default().chars().count() > LINE_CHARS_MAX
    }

    fn subjects(&mut self, subjects: &[Subject]) {
        let start = self.out.len();
        if subjects.iter().all(|subject| subject.comments.is_empty()) {
            for (index, subject) in subjects.iter().enumerate() {
                self.word(if index == 0 { "" } else { " | " });
                self.subject(subject);
            }
            if !self.is_too_long(start) {
                return;
            }
            self.out.truncate(start);
        }
        for (index, subject) in subjects.iter().enumerate() {
            self.word(if index == 0 { "" } else { " |" });
            self.inner_comments(&subject.comments, 2);
            self.line(2);
            self.subject(subject);
        }
    }

    /// Comments within a statement, each on a line of its own.
    fn inner_comments(&mut self, comments: &[Comment], level: usize) {
        for comment in comments {
            self.line(level);
            self.word(&comment.text);
        }
    }

    fn subject(&mut self, subject: &Subject) {
        self.word(&subject.subject_type.text);
        match &subject.form {
            Form::Object => {}
            Form::Userset(relation) => {
                self.word("#");
                self.word(&relation.text);
            }
            Form::Wildcard => self.word(":*"),
        }
        match (&subject.caveat, &subject.expiration) {
            (None, None) => {}
            (None, Some(_)) => self.word(" with expiration"),
            (Some(caveat), None) => {
                self.word(" with ");
                self.word(&caveat.text);
            }
            (Some(caveat), Some(_)) => {
                self.word(" with ");
                self.word(&caveat.text);
                self.word(" and expiration");
            }
        }
    }

    /// On one line where it fits and holds no comment; else each operand of the outermost operator on its own.
    fn statement_expr(&mut self, expr: &Expr) {
        let start = self.out.len();
        if !expr.has_comments() {
            self.expr(expr);
            if !self.is_too_long(start) {
                return;
            }
            self.out.truncate(start);
        }
        match &expr.kind {
            ExprKind::Chain { operator, operands } => {
                for (index, operand) in operands.iter().enumerate() {
                    if index > 0 {
                        self.word(" ");
                        self.word(operator.sign());
                    }
                    self.line(2);
                    self.expr(operand);
                }
            }
            ExprKind::Nil | ExprKind::SelfSubject | ExprKind::Name(_) | ExprKind::Arrow { .. } | ExprKind::Paren(_) => {
                self.expr(expr)
            }
        }
    }

    /// Recursion is bounded by the parser's bound on parentheses.
    fn expr(&mut self, expr: &Expr) {
        if !expr.comments.is_empty() {
            // The first takes the line that was begun for the operand, if one was.
            let is_fresh = self.out.ends_with("\n    ");
            for (index, comment) in expr.comments.iter().enumerate() {
                if index > 0 || !is_fresh {
                    self.line(2);
                }
                self.word(&comment.text);
            }
            self.line(2);
        }
        match &expr.kind {
            ExprKind::Nil => self.word("nil"),
            ExprKind::SelfSubject => self.word("self"),
            ExprKind::Name(name) => self.word(&name.text),
            ExprKind::Arrow { relation, target, sign } => {
                self.word(&relation.text);
                let (open, close) = match sign {
                    ArrowSign::Arrow => ("->", ""),
                    ArrowSign::Any => (".any(", ")"),
                    ArrowSign::All => (".all(", ")"),
                };
                self.word(open);
                self.word(&target.text);
                self.word(close);
            }
            ExprKind::Paren(inner) => {
                self.word("(");
                self.expr(inner);
                self.word(")");
            }
            ExprKind::Chain { operator, operands } => {
                for (index, operand) in operands.iter().enumerate() {
                    if index > 0 {
                        self.word(" ");
                        self.word(operator.sign());
                        self.word(" ");
                    }
                    self.expr(operand);
                }
            }
        }
    }
}

/// One expression on one line, without its comments.
pub(super) fn print_expr(expr: &Expr) -> String {
    let mut printer = Printer { out: String::new() };
    printer.expr(expr);
    printer.out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::compile;
    use proptest::prelude::*;

    /// Tidying gives `expected`, and tidying that changes nothing.
    fn check(text: &str, expected: &str) {
        let tidy = format(text).unwrap_or_else(|errors| panic!("{text}\n{errors:#?}"));
        assert_eq!(tidy, expected, "{text}");
        round_trip(text);
    }

    /// parse ∘ print is the identity on trees, and print ∘ parse on what was printed. No comment is lost.
    fn round_trip(text: &str) {
        let limits = Limits::default();
        let parsed = parse(text, &limits);
        if !parsed.diagnostics.is_empty() {
            return;
        }
        let printed = print(&parsed.file);
        let again = parse(&printed, &limits);
        assert_eq!(again.diagnostics, [], "{text:?}\n{printed}");
        assert_eq!(again.file, parsed.file, "{text:?}\n{printed:?}");
        assert_eq!(print(&again.file), printed, "{text:?}");
        let words = |text: &str| text.matches("note").count();
        assert_eq!(words(&printed), words(text), "{text:?}\n{printed:?}");
    }

    #[test]
    fn one_form() {
        check("", "");
        check("definition a{}definition b{ }", "definition a {}\n\ndefinition b {}\n");
        check(
            "use self use import import 'x' import 'y\"' definition a{relation b:a|a#b|a:*|a#...;permission c=nil}",
            "use self\nuse import\n\nimport \"x\"\nimport 'y\"'\n\ndefinition a {\n  relation b: a | a#b | a:* | a\n  \
             permission c = nil\n}\n",
        );
        check(
            "definition a/b { permission c = ((a)+b.any( d )-e->f) }",
            "definition a/b {\n  permission c = ((a) + b.any(d) - e->f)\n}\n",
        );
    }

    #[test]
    fn flags_caveats_and_partials_have_their_form() {
        check(
            "use expiration use self use partial use typechecking use hierarchy use import import \"./b.zed\"
             caveat c( a int,b list< map<any> > ){ a>1 &&\n     b == {'}': 1}\n  }
             partial p { relation x : user  with c  and expiration|user with expiration|user with d }
             definition a { ...p ; parent q:a; permission r:user|a=self+x }",
            r#"use expiration
use self
use partial
use typechecking
use hierarchy
use import

import "./b.zed"

caveat c(a int, b list<map<any>>) {
  a>1 &&
  b == {'}': 1}
}

partial p {
  relation x: user with c and expiration | user with expiration | user with d
}

definition a {
  ...p
  parent q: a
  permission r: user | a = self + x
}
"#,
        );
        // A string of several lines keeps its white space.
        check("caveat c(a string) { a == '''x\n      y''' }", "caveat c(a string) {\n  a == '''x\n      y'''\n}\n");
        check(
            "caveat c(a int) {\n\n\t\ta > 1 ||\n\n\t\t\ta < 0\n\t}",
            "caveat c(a int) {\n  a > 1 ||\n\n  \ta < 0\n}\n",
        );
    }

    #[test]
    fn comments_stay() {
        check(
            "// note 1


// note 2
/* note 3 */ definition a { // note 4
  // note 5
  relation b: a // note 6


  // note 7

  permission c = b + // note 8
    a->b /* note 9 */ // note 10
  // note 11
} // note 12
// note 13
",
            "// note 1

// note 2
/* note 3 */
definition a {
  // note 4
  // note 5
  relation b: a // note 6

  // note 7

  permission c =
    b +
    // note 8
    a->b /* note 9 */ // note 10
  // note 11
} // note 12

// note 13
",
        );
        check(
            "definition a { relation /* note 1 */ b: a /* note 2 */ | /* note 3 */ a#b\n/* note 4\n   note */ }",
            "definition a {
  /* note 1 */
  /* note 2 */
  relation b:
    a |
    /* note 3 */
    a#b
  /* note 4
   note */
}
",
        );
        check(
            "caveat a(/* note 1 */ b int, // note 2\n c int) { b > c // note 3\n }",
            "caveat a(\n  /* note 1 */\n  b int,\n  // note 2\n  c int\n) {\n  b > c // note 3\n}\n",
        );
        check(
            "definition a { permission b = // note 1\n( /* note 2 */ c & d) }",
            "definition a {\n  permission b =\n    // note 1\n    (\n    /* note 2 */\n    c & d)\n}\n",
        );
        check("definition a {\n\n// note\n}\n\n// note", "definition a {\n  // note\n}\n\n// note\n");
    }

    #[test]
    fn long_statements_are_broken() {
        let name = "n".repeat(30);
        check(
            &format!(
                "definition a {{ relation b: {name} | {name} | {name}
                 permission c = {name} + {name} + ({name} & b) }}"
            ),
            &format!(
                "definition a {{
  relation b:
    {name} |
    {name} |
    {name}
  permission c =
    {name} +
    {name} +
    ({name} & b)
}}
"
            ),
        );
    }

    #[test]
    fn errors_of_form_are_told() {
        assert_eq!(format("definition a {").unwrap_err()[0].name, "unclosed-brace");
        assert!(format("definition a { relation b: unknown }").is_ok());
    }

    /// Chooses a text of the grammar by the bytes it is given.
    struct Writer<'b> {
        bytes: std::slice::Iter<'b, u8>,
        out: String,
    }

    impl Writer<'_> {
        fn below(&mut self, bound: usize) -> usize {
            self.bytes.next().map_or(0, |byte| usize::from(*byte) % bound)
        }

        /// White space and comments, where a newline changes nothing.
        fn free(&mut self) {
            let gaps =
                ["", "", "", " ", "\n", "\n\n\n", " // note\n", "/* note */", "\n\n/* note\n note */\n", "\r\n\t"];
            let gap = gaps[self.below(gaps.len())];
            self.out.push_str(gap);
        }

        /// White space and comments within a line.
        fn inline(&mut self) {
            let gaps = ["", "", "", " ", "\t", " /* note */ ", "/* note\n */"];
            let gap = gaps[self.below(gaps.len())];
            self.out.push_str(gap);
        }

        fn word(&mut self, words: &[&str]) {
            let word = words[self.below(words.len())];
            self.out.push(' ');
            self.out.push_str(word);
        }

        fn sign(&mut self, sign: &str) {
            self.inline();
            self.out.push_str(sign);
            self.free();
        }

        fn end(&mut self) {
            let ends = ["\n", ";", " // note\n", "\n\n\n", " /* note */\n", "; // note\n", " /* note\n */ ;"];
            let end = ends[self.below(ends.len())];
            self.out.push_str(end);
            self.free();
        }

        fn file(&mut self) {
            self.free();
            for flag in ["expiration", "self", "partial", "import", "typechecking", "hierarchy"] {
                self.out.push_str("use ");
                self.out.push_str(flag);
                self.end();
            }
            for _ in 0..self.below(5) {
                match self.below(4) {
                    0 => self.caveat(),
                    1 => self.block("partial"),
                    2 => self.out.push_str("import './x.zed'"),
                    _ => self.block("definition"),
                }
                self.free();
            }
        }

        fn caveat(&mut self) {
            self.out.push_str("caveat a/b");
            self.sign("(");
            for index in 0..self.below(3) {
                if index > 0 {
                    self.sign(",");
                }
                self.free();
                self.word(&["a", "with", "any"]);
                self.word(&["int", "list<any>", "map< list<int> >"]);
            }
            self.out.push(')');
            let bodies =
                ["a", "a &&\n   b\n", "\n\n   a\n  // note }\n\tb\n", "'}' == r'\\'", "'''\n  }'''", "{'a': 1}['a']"];
            let body = bodies[self.below(bodies.len())];
            self.out.push_str("{ ");
            self.out.push_str(body);
            self.out.push_str(" }");
        }

        fn block(&mut self, word: &str) {
            self.out.push_str(word);
            self.word(&["user", "a/b", "doc"]);
            self.sign("{");
            for _ in 0..self.below(5) {
                match self.below(4) {
                    0 => self.out.push_str("...p"),
                    1 => self.permission(),
                    _ => self.relation(),
                }
                self.end();
            }
            self.out.push('}');
        }

        fn relation(&mut self) {
            let word = ["relation", "parent"][self.below(2)];
            self.out.push_str(word);
            self.word(&["viewer", "any", "parent"]);
            self.sign(":");
            for index in 0..=self.below(4) {
                if index > 0 {
                    self.sign("|");
                }
                self.word(&["user", "a/b", "user:*", "group#member", "user#...", "a_very_long_name_to_break_the_line"]);
                self.word(&["", "", "with c", "with expiration", "with a/c and expiration"]);
            }
        }

        fn permission(&mut self) {
            self.out.push_str("permission");
            self.word(&["view", "all", "expiration"]);
            if self.below(4) == 0 {
                self.sign(":");
                self.word(&["user", "user | a/b"]);
            }
            self.sign("=");
            self.expr(0);
        }

        fn expr(&mut self, depth: usize) {
            for index in 0..=self.below(3) {
                if index > 0 {
                    let sign = ["+", "&", "-"][self.below(3)];
                    self.sign(sign);
                }
                if depth < 5 && self.below(4) == 0 {
                    self.sign("(");
                    self.expr(depth + 1);
                    self.out.push(')');
                } else {
                    self.word(&["nil", "self", "viewer", "any", "a -> b", "parent.any( b )", "parent.all(any)"]);
                }
            }
        }
    }

    const SAMPLE: &str = "use expiration
use self

// People.
definition user {}

caveat c(a int) {
  a > 1
}

definition a/doc {
  // Who.
  relation viewer: user | group#member | user:* with c and expiration // note

  permission view = (viewer - nil) & owner->view + p.all(x) + self
}
definition group { relation member: user; permission m = member }
";

    const SOUP: &str = "definition relation permission caveat use partial import parent self with and expiration nil \
                        any all a b user hierarchy { } ( ) < > | + - & / = : ; , -> # . ... * // /* */ ' \" \
                        é \u{0} \u{feff}";

    fn soup() -> Vec<&'static str> {
        SOUP.split(' ').chain(["\n"]).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

        #[test]
        fn every_text_of_the_grammar_goes_round(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut writer = Writer { bytes: bytes.iter(), out: String::new() };
            writer.file();
            let parsed = parse(&writer.out, &Limits::default());
            prop_assert_eq!(parsed.diagnostics, [], "{:?}", writer.out);
            round_trip(&writer.out);
        }

        #[test]
        fn damaged_texts_go_round_or_are_told_of(
            damages in proptest::collection::vec((any::<prop::sample::Index>(), 0..6_usize, "[ -~\n\té]{0,3}"), 1..6)
        ) {
            let mut text = SAMPLE.to_owned();
            for (at, length, with) in damages {
                let at = at.index(text.len().max(1));
                let chars: Vec<char> = text.chars().collect();
                let (head, tail) = chars.split_at(at.min(chars.len()));
                text = head.iter().collect::<String>() + &with + &tail.iter().skip(length).collect::<String>();
            }
            let parsed = parse(&text, &Limits::default());
            if parsed.diagnostics.is_empty() && !text.contains("note") {
                round_trip(&text);
            }
            if let Err(errors) = compile(&text, &Limits::default()) {
                for error in errors {
                    let shown = error.render("a.zed", &text, crate::schema::Colour::Plain);
                    prop_assert!(text.get(error.span.clone()).is_some() && shown.contains("a.zed:"), "{:?}", error);
                }
            }
        }

        #[test]
        fn no_soup_of_words_is_too_much(
            words in proptest::collection::vec(prop::sample::select(soup()), 0..60),
            gap in prop::sample::select(&["", " "][..]),
        ) {
            let text = words.join(gap);
            round_trip_without_notes(&text);
            if let Err(errors) = compile(&text, &Limits::default()) {
                for error in errors {
                    prop_assert!(text.get(error.span.clone()).is_some(), "{:?}", error);
                    prop_assert!(!error.render("a.zed", &text, crate::schema::Colour::Ansi).is_empty());
                }
            }
        }
    }

    fn round_trip_without_notes(text: &str) {
        if !text.contains("note") {
            round_trip(text);
        }
    }
}
