//! Groups: one group of so many members, one document with so many groups, and a tree of groups in groups.

use super::draw::Draw;
use super::{Asked, Each, Grant, Listing, World};
use std::io;

/// Groups right beneath each group of the tree.
const FANOUT: u64 = 4;

const PARTS: [&str; 3] = ["members", "groups", "nested"];

const SCHEMA: &str = "definition user {}

definition group {
  relation member: user | group#member
}

definition document {
  relation viewer: user | group#member

  permission view = viewer
}
";

/// The widest has so many, and so many groups are in the tree.
pub struct Groups {
    most: u64,
}

impl Groups {
    pub fn new(most: u64) -> Groups {
        Groups { most }
    }

    /// 10, 100, 1,000 and so on, and the widest itself.
    fn widths(&self) -> Vec<u64> {
        let mut widths = Vec::new();
        let mut width = 10;
        while width < self.most {
            widths.push(width);
            width *= 10;
        }
        widths.push(self.most);
        widths
    }

    fn width(&self, draw: &mut Draw) -> u64 {
        let widths = self.widths();
        widths.get(draw.below(widths.len() as u64) as usize).copied().unwrap_or(self.most)
    }
}

/// The group that this one of the tree is in.
fn above(group: u64) -> Option<u64> {
    (group > 0).then(|| (group - 1) / FANOUT)
}

/// A group of the tree and all it is in.
fn upwards(group: u64) -> impl Iterator<Item = u64> {
    std::iter::successors(Some(group), |group| above(*group))
}

impl World for Groups {
    fn schema(&self) -> &'static str {
        SCHEMA
    }

    fn tuples(&self, each: Each<'_>) -> io::Result<()> {
        for width in self.widths() {
            each(format_args!("document:members{width}#viewer@group:wide{width}#member"))?;
            for member in 0..width {
                each(format_args!("group:wide{width}#member@user:w{width}m{member}"))?;
                each(format_args!("document:groups{width}#viewer@group:w{width}g{member}#member"))?;
                each(format_args!("group:w{width}g{member}#member@user:w{width}g{member}"))?;
            }
        }
        for group in 0..self.most {
            each(format_args!("document:tree{group}#viewer@group:tree{group}#member"))?;
            each(format_args!("group:tree{group}#member@user:tree{group}"))?;
            if let Some(above) = above(group) {
                each(format_args!("group:tree{above}#member@group:tree{group}#member"))?;
            }
        }
        Ok(())
    }

    fn parts(&self) -> Vec<String> {
        PARTS.map(str::to_owned).to_vec()
    }

    fn ask(&self, draw: &mut Draw, part: Option<usize>) -> Asked {
        let kind = part.unwrap_or(draw.below(PARTS.len() as u64) as usize);
        if kind == 2 {
            let member = draw.below(self.most);
            let asked = match draw.below(2) {
                0 => {
                    let above: Vec<u64> = upwards(member).collect();
                    above.get(draw.below(above.len() as u64) as usize).copied().unwrap_or(member)
                }
                _ => draw.below(self.most),
            };
            let allowed = upwards(member).any(|group| group == asked);
            return Asked::of(format!("document:tree{asked}"), "view", format!("user:tree{member}"), allowed);
        }
        let (width, other) = (self.width(draw), self.width(draw));
        let (object, letter) = if kind == 0 { ("members", 'm') } else { ("groups", 'g') };
        // Of the other half some come from the other documents.
        let of = if draw.one_in(2) { width } else { other };
        let number = draw.below(of + of / 2 + 1);
        let allowed = of == width && number < width;
        Asked::of(format!("document:{object}{width}"), "view", format!("user:w{of}{letter}{number}"), allowed)
    }

    fn list(&self, draw: &mut Draw, part: Option<usize>) -> Listing {
        let kind = part.unwrap_or(draw.below(PARTS.len() as u64) as usize);
        let width = self.width(draw);
        let (subject, expected) = match kind {
            0 => (format!("user:w{width}m{}", draw.below(width)), vec![format!("document:members{width}")]),
            1 => (format!("user:w{width}g{}", draw.below(width)), vec![format!("document:groups{width}")]),
            _ => {
                let member = draw.below(self.most);
                (format!("user:tree{member}"), upwards(member).map(|group| format!("document:tree{group}")).collect())
            }
        };
        Listing { object_type: "document", permission: "view", subject, via: None, expected: Some(expected) }
    }

    /// Into the group that was added last to the tree, asked about at the top.
    fn grant(&self, number: u64) -> Grant {
        let user = format!("user:fresh{number}");
        Grant {
            tuple: format!("group:tree{}#member@{user}", self.most.saturating_sub(1)),
            asked: Asked::of("document:tree0".to_owned(), "view", user, true),
        }
    }
}
