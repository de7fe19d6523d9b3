//! A condition as it was written: its tree before names and types are known.
//!
//! INVARIANT: operators of one precedence are one flat node, and so are the links of a path (`a.b[c].d()`), the arms of
//! `a ? b : c ? d : e` and repeated signs. Only brackets nest, so the tree's depth, and with it the stack of everything
//! that walks it, is bounded by [`super::DEPTH_MAX`].

/// A piece of the source, in bytes. The source is at most [`super::SOURCE_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    /// From here to the end of `last`.
    pub fn to(self, last: Span) -> Span {
        Span { start: self.start, end: last.end }
    }

    pub fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

#[derive(Debug)]
pub(super) struct Expr {
    pub span: Span,
    pub kind: ExprKind,
}

#[derive(Debug)]
pub(super) enum ExprKind {
    Literal(Literal),
    Name(String),
    List(Vec<Expr>),
    Map(Vec<(Expr, Expr)>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    /// `condition ? value : condition ? value : otherwise`
    Conditional(Vec<(Expr, Expr)>, Box<Expr>),
    /// `!e`; twice when an even number of signs was written: it still asks for a bool.
    Not {
        operand: Box<Expr>,
        twice: bool,
    },
    /// `-e`; twice when an even number of signs was written.
    Negate {
        operand: Box<Expr>,
        twice: bool,
    },
    /// `first op e op e …`, from left to right, all of one precedence.
    Chain(Box<Expr>, Vec<(BinaryOp, Expr)>),
    /// `first.name`, `first[e]`, `first.name(e, …)`, from left to right.
    Path(Box<Expr>, Vec<Link>),
    /// `name(e, …)`
    Call {
        name: String,
        name_span: Span,
        arguments: Vec<Expr>,
    },
}

#[derive(Debug)]
pub(super) struct Link {
    /// From the dot or bracket to the end of the link.
    pub span: Span,
    pub kind: LinkKind,
}

#[derive(Debug)]
pub(super) enum LinkKind {
    Select(String),
    Index(Expr),
    Call { name: String, name_span: Span, arguments: Vec<Expr> },
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(String),
    Bytes(Vec<u8>),
}

/// An operator between two operands that evaluates both. (`&&` and `||` do not, and have nodes of their own.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BinaryOp {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl BinaryOp {
    pub fn sign(self) -> &'static str {
        match self {
            BinaryOp::Equal => "==",
            BinaryOp::NotEqual => "!=",
            BinaryOp::Less => "<",
            BinaryOp::LessOrEqual => "<=",
            BinaryOp::Greater => ">",
            BinaryOp::GreaterOrEqual => ">=",
            BinaryOp::In => "in",
            BinaryOp::Add => "+",
            BinaryOp::Subtract => "-",
            BinaryOp::Multiply => "*",
            BinaryOp::Divide => "/",
            BinaryOp::Remainder => "%",
        }
    }
}
