//! A schema's text as a tree: what was written, in its order, with its comments; no name is resolved yet.
//!
//! INVARIANT: the tree holds the whole grammar, as it was written. Printing it and parsing that
//! gives the same tree, places apart. Expressions nest no deeper than the limit, so walking them may recurse.

use std::ops::Range;

/// Where a node stands, in bytes.
///
/// All spans are equal: two trees are the same when they say the same, wherever they say it.
#[derive(Debug, Clone, Default)]
pub(super) struct Span(pub(super) Range<usize>);

impl PartialEq for Span {
    fn eq(&self, _: &Span) -> bool {
        true
    }
}

impl Eq for Span {}

/// A name as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) text: String,
    pub(super) span: Span,
}

/// A comment, with its markers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Comment {
    pub(super) text: String,
    /// An empty line stands before it.
    pub(super) blank_before: bool,
}

/// The comments of an item or a member.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Trivia {
    /// Above it, and those found within it where no node begins.
    pub(super) leading: Vec<Comment>,
    /// An empty line stands between those, or what comes before, and itself.
    pub(super) blank_before: bool,
    /// On the line where it ends.
    pub(super) trailing: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct File {
    pub(super) items: Vec<Item>,
    /// After the last item.
    pub(super) closing: Vec<Comment>,
    /// Something at the top could not be read, so that names may be missing.
    pub(super) is_incomplete: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) kind: ItemKind,
    pub(super) trivia: Trivia,
    /// From its first word to its last sign.
    pub(super) span: Span,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ItemKind {
    Use(Name),
    /// A path, without its quotes.
    Import(Name),
    Caveat(Caveat),
    Partial(Block),
    Definition(Block),
}

/// `caveat name(parameters) { body }`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caveat {
    pub(super) name: Name,
    pub(super) parameters: Vec<Parameter>,
    /// CEL, its common indentation removed.
    pub(super) body: String,
    /// Of the body as written, between the braces.
    pub(super) body_span: Span,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parameter {
    pub(super) comments: Vec<Comment>,
    pub(super) name: Name,
    pub(super) kind: ParameterType,
}

/// `int`, `list<int>`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ParameterType {
    pub(super) name: Name,
    pub(super) arguments: Vec<ParameterType>,
}

/// A definition or a partial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) name: Name,
    pub(super) members: Vec<Member>,
    /// After the last member.
    pub(super) closing: Vec<Comment>,
    /// Names of members that were begun but could not be read: using them is no further error.
    pub(super) broken: Vec<String>,
    /// A member whose name could not be read: any name may be missing.
    pub(super) is_incomplete: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) kind: MemberKind,
    pub(super) trivia: Trivia,
    pub(super) span: Span,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MemberKind {
    Relation {
        name: Name,
        word: RelationWord,
        subjects: Vec<Subject>,
    },
    Permission {
        name: Name,
        annotation: Option<Vec<Name>>,
        expr: Expr,
    },
    /// `...name`
    Splice {
        partial: Name,
    },
}

/// What a relation was declared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RelationWord {
    Relation,
    /// Under `use hierarchy`.
    Parent,
}

/// One form of subject that a relation takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) comments: Vec<Comment>,
    pub(super) subject_type: Name,
    pub(super) form: Form,
    pub(super) caveat: Option<Name>,
    /// Where `expiration` stands.
    pub(super) expiration: Option<Span>,
    pub(super) span: Span,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Form {
    /// `T`, also written `T#...`
    Object,
    Userset(Name),
    Wildcard,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expr {
    pub(super) comments: Vec<Comment>,
    pub(super) kind: ExprKind,
    pub(super) span: Span,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ExprKind {
    Nil,
    SelfSubject,
    Name(Name),
    Arrow {
        relation: Name,
        target: Name,
        sign: ArrowSign,
    },
    Paren(Box<Expr>),
    /// At least two operands, from left to right. An operand that is itself a chain was written without parentheses
    /// and binds tighter.
    Chain {
        operator: Operator,
        operands: Vec<Expr>,
    },
}

/// How an arrow was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ArrowSign {
    /// `a->b`
    Arrow,
    /// `a.any(b)`, which means the same
    Any,
    /// `a.all(b)`
    All,
}

/// From the loosest to the tightest, which is the language's own surprising order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Exclusion,
    Intersection,
    Union,
}

impl Operator {
    pub(super) fn sign(self) -> &'static str {
        match self {
            Operator::Exclusion => "-",
            Operator::Intersection => "&",
            Operator::Union => "+",
        }
    }
}

impl Expr {
    /// Itself, or what stands within its parentheses.
    pub(super) fn bare(&self) -> &Expr {
        let mut bare = self;
        // Bounded by the depth of the expression.
        while let ExprKind::Paren(inner) = &bare.kind {
            bare = inner;
        }
        bare
    }

    /// A comment stands somewhere within.
    pub(super) fn has_comments(&self) -> bool {
        let within = match &self.kind {
            ExprKind::Nil | ExprKind::SelfSubject | ExprKind::Name(_) | ExprKind::Arrow { .. } => false,
            ExprKind::Paren(inner) => inner.has_comments(),
            ExprKind::Chain { operands, .. } => operands.iter().any(Expr::has_comments),
        };
        within || !self.comments.is_empty()
    }
}

impl Trivia {
    /// The comment right above, its markers removed; one paragraph, up to the next empty line.
    pub(super) fn doc(&self) -> String {
        if self.blank_before {
            return String::new();
        }
        let start = self.leading.iter().rposition(|comment| comment.blank_before).unwrap_or(0);
        let lines: Vec<String> =
            self.leading.iter().skip(start).map(|comment| without_markers(&comment.text)).collect();
        lines.join("\n")
    }

    /// The warnings that a comment above asks not to hear.
    pub(super) fn ignored(&self) -> impl Iterator<Item = &str> {
        self.leading.iter().flat_map(|comment| {
            let text = comment.text.trim_start_matches(['/', '*']).trim_end_matches(['/', '*']).trim();
            let names = ["procura-ignore:", "spicedb-ignore-warning:"].iter().find_map(|word| text.strip_prefix(word));
            names.unwrap_or_default().split([',', ' ', '\t']).filter(|name| !name.is_empty())
        })
    }
}

fn without_markers(comment: &str) -> String {
    if let Some(line) = comment.strip_prefix("//") {
        let line = line.trim_start_matches('/');
        return line.strip_prefix(' ').unwrap_or(line).to_owned();
    }
    let inner = comment.strip_prefix("/*").unwrap_or(comment);
    let inner = inner.strip_suffix("*/").unwrap_or(inner).trim_start_matches('*');
    let lines = inner.lines().map(|line| line.trim().trim_start_matches('*').trim());
    lines.collect::<Vec<&str>>().join("\n").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comment(text: &str, blank_before: bool) -> Comment {
        Comment { text: text.to_owned(), blank_before }
    }

    #[test]
    fn a_doc_is_the_paragraph_right_above() {
        let leading =
            vec![comment("// Licence", false), comment("// One.", true), comment("/* Two\n * three */", false)];
        let mut trivia = Trivia { leading, blank_before: false, trailing: Vec::new() };
        assert_eq!(trivia.doc(), "One.\nTwo\nthree");
        trivia.blank_before = true;
        assert_eq!(trivia.doc(), "");
    }

    #[test]
    fn ignored_names() {
        let leading = vec![
            comment("// procura-ignore: a, b", false),
            comment("// spicedb-ignore-warning: c", false),
            comment("/* procura-ignore: d */", false),
            comment("// see procura-ignore: e", false),
        ];
        let trivia = Trivia { leading, ..Trivia::default() };
        assert_eq!(trivia.ignored().collect::<Vec<_>>(), ["a", "b", "c", "d"]);
    }
}
