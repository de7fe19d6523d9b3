//! A condition as it is evaluated: names resolved to places, functions known, constants built.
//!
//! INVARIANT: as deep as the tree it came from, which the parser bounds; every `Parameter` and `Local` is in range.

use super::ast::{BinaryOp, Span};
use super::calendar::{Part, Zone};
use super::pattern::Pattern;
use super::value::Value;
use std::net::IpAddr;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Node {
    pub span: Span,
    pub op: Op,
}

#[derive(Debug)]
pub(super) enum Op {
    Literal(Value),
    /// The index of a declared parameter.
    Parameter(usize),
    /// The index of a comprehension's variable, counted from the outermost.
    Local(usize),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
    And(Vec<Node>),
    Or(Vec<Node>),
    Conditional(Vec<(Node, Node)>, Box<Node>),
    Not {
        operand: Box<Node>,
        twice: bool,
    },
    Negate {
        operand: Box<Node>,
        twice: bool,
    },
    Chain(Box<Node>, Vec<(BinaryOp, Node)>),
    Path(Box<Node>, Vec<Link>),
    /// `has(map.key)`
    Has(Box<Node>, Arc<str>),
    Call(Function, Vec<Node>),
}

#[derive(Debug)]
pub(super) struct Link {
    /// From the path's start to this link's end.
    pub span: Span,
    pub op: LinkOp,
}

#[derive(Debug)]
pub(super) enum LinkOp {
    Select(Arc<str>),
    Index(Node),
    Call(Function, Vec<Node>),
    Fold(Fold),
}

/// A macro over the elements of a list or the keys of a map.
#[derive(Debug)]
pub(super) struct Fold {
    pub kind: FoldKind,
    /// What must hold of an element; for `map` of two arguments there is nothing to hold.
    pub predicate: Option<Box<Node>>,
    /// What `map` makes of an element.
    pub transform: Option<Box<Node>>,
    /// The parameters its body reads: they may matter when the elements are not known.
    pub parameters: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FoldKind {
    All,
    Exists,
    ExistsOne,
    Map,
    Filter,
}

/// A function; a method's receiver is its first argument.
#[derive(Debug, Clone)]
pub(super) enum Function {
    Size,
    Contains,
    StartsWith,
    EndsWith,
    /// With a pattern that is computed.
    Matches,
    /// With a pattern that stands in the source.
    MatchesPattern(Arc<Pattern>),
    ToBool,
    ToInt,
    ToUint,
    ToDouble,
    ToString,
    ToBytes,
    ToDuration,
    ToTimestamp,
    TypeOf,
    /// `dyn(e)`: forgets the type.
    Same,
    /// In UTC, or in the zone that is computed.
    Part(Part),
    /// In a zone that stands in the source.
    PartIn(Part, Arc<Zone>),
    InCidr,
    InNetwork(Network),
    IsSubtreeOf,
}

impl Function {
    pub fn name(&self) -> &'static str {
        match self {
            Function::Size => "size",
            Function::Contains => "contains",
            Function::StartsWith => "startsWith",
            Function::EndsWith => "endsWith",
            Function::Matches | Function::MatchesPattern(_) => "matches",
            Function::ToBool => "bool",
            Function::ToInt => "int",
            Function::ToUint => "uint",
            Function::ToDouble => "double",
            Function::ToString => "string",
            Function::ToBytes => "bytes",
            Function::ToDuration => "duration",
            Function::ToTimestamp => "timestamp",
            Function::TypeOf => "type",
            Function::Same => "dyn",
            Function::Part(part) | Function::PartIn(part, _) => part.function(),
            Function::InCidr | Function::InNetwork(_) => "in_cidr",
            Function::IsSubtreeOf => "isSubtreeOf",
        }
    }
}

/// `address/bits`: a block of addresses of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    /// Bits of the address beyond the prefix may be set, and are ignored, as in Go's `netip`.
    pub fn parse(text: &str) -> Option<Network> {
        let (address, bits) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let digits_only = !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit());
        let padded = bits.len() > 1 && bits.starts_with('0');
        let bits: u32 = bits.parse().ok().filter(|_| digits_only && !padded)?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        (bits <= width).then_some(Network { address, bits })
    }

    /// An address of the other family is never inside, not even one that maps into it.
    pub fn contains(self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => prefix_same(u128::from(a.to_bits() ^ b.to_bits()) << 96, self.bits),
            (IpAddr::V6(a), IpAddr::V6(b)) => prefix_same(a.to_bits() ^ b.to_bits(), self.bits),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

fn prefix_same(difference: u128, bits: u32) -> bool {
    difference.leading_zeros() >= bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_their_own_family_only() {
        for (network, address, inside) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.1.2.3/8", "10.9.9.9", true),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("1.2.3.4/32", "1.2.3.5", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "10.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.0.0.1", false),
            ("::1/128", "::1", true),
        ] {
            assert_eq!(
                Network::parse(network).unwrap().contains(address.parse().unwrap()),
                inside,
                "{network} {address}"
            );
        }
        for bad in
            ["", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/+8", "10.0.0.0/08", "10.0.0/8", "::/129", "::/", "10.0.0.0/8 "]
        {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
    }
}
