//! Rings of groups, each of which contains the next. Every ring contains two others, and some contain the one they are in.

use super::draw::Draw;
use super::{Asked, Each, Grant, Listing, World};
use std::collections::BTreeSet;
use std::io;

/// Beyond so many rings, who may see what is not counted through for a list.
const LISTED_MAX: u64 = 2_000;

const SCHEMA: &str = "definition user {}

definition group {
  relation member: user | group#member
}

definition document {
  relation viewer: group#member

  permission view = viewer
}
";

/// So many rings.
pub struct Cyclic {
    rings: u64,
}

/// How many groups a ring has, and as many users.
fn size(ring: u64) -> u64 {
    2 + ring % 7
}

fn above(ring: u64) -> Option<u64> {
    (ring > 0).then(|| (ring - 1) / 2)
}

/// Whether it contains the ring that contains it.
fn closes(ring: u64) -> bool {
    ring % 16 == 7
}

impl Cyclic {
    pub fn new(rings: u64) -> Cyclic {
        Cyclic { rings }
    }

    /// The rings that contain a ring, itself included: whoever is in it is in them.
    fn containing(&self, ring: u64) -> BTreeSet<u64> {
        let mut found = BTreeSet::from([ring]);
        let mut open = vec![ring];
        // Ends: each ring is opened once.
        while let Some(ring) = open.pop() {
            let closing = (2 * ring + 1..=2 * ring + 2).filter(|below| *below < self.rings && closes(*below));
            for next in above(ring).into_iter().chain(closing) {
                if found.insert(next) {
                    open.push(next);
                }
            }
        }
        found
    }
}

impl World for Cyclic {
    fn schema(&self) -> &'static str {
        SCHEMA
    }

    fn tuples(&self, each: Each<'_>) -> io::Result<()> {
        for ring in 0..self.rings {
            let size = size(ring);
            for place in 0..size {
                each(format_args!("group:r{ring}g{place}#member@group:r{ring}g{}#member", (place + 1) % size))?;
                each(format_args!("group:r{ring}g{place}#member@user:r{ring}u{place}"))?;
            }
            if let Some(above) = above(ring) {
                each(format_args!("group:r{above}g0#member@group:r{ring}g0#member"))?;
                if closes(ring) {
                    each(format_args!("group:r{ring}g1#member@group:r{above}g1#member"))?;
                }
            }
            each(format_args!("document:r{ring}#viewer@group:r{ring}g{}#member", size - 1))?;
        }
        Ok(())
    }

    fn ask(&self, draw: &mut Draw, _part: Option<usize>) -> Asked {
        let member = draw.below(self.rings);
        let containing = self.containing(member);
        let ring = match draw.below(2) {
            0 => containing.iter().nth(draw.below(containing.len() as u64) as usize).copied().unwrap_or(member),
            _ => draw.below(self.rings),
        };
        let user = format!("user:r{member}u{}", draw.below(size(member)));
        Asked::of(format!("document:r{ring}"), "view", user, containing.contains(&ring))
    }

    fn list(&self, draw: &mut Draw, _part: Option<usize>) -> Listing {
        let member = draw.below(self.rings);
        let expected = (self.rings <= LISTED_MAX)
            .then(|| self.containing(member).iter().map(|ring| format!("document:r{ring}")).collect());
        Listing {
            object_type: "document",
            permission: "view",
            subject: format!("user:r{member}u{}", draw.below(size(member))),
            via: None,
            expected,
        }
    }

    /// Into the last ring, asked about at the document of the first.
    fn grant(&self, number: u64) -> Grant {
        let user = format!("user:fresh{number}");
        Grant {
            tuple: format!("group:r{}g1#member@{user}", self.rings.saturating_sub(1)),
            asked: Asked::of("document:r0".to_owned(), "view", user, true),
        }
    }
}
