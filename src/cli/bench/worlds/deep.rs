//! Chains of folders, 1 to 64 deep. Whoever may view the top may view all beneath; every level has a viewer of its own.

use super::draw::Draw;
use super::{Asked, Each, Grant, Listing, World};
use std::io;

const DEPTHS: [u64; 7] = [1, 2, 4, 8, 16, 32, 64];

const SCHEMA: &str = "definition user {}

definition folder {
  relation parent: folder

  relation viewer: user

  permission view = viewer + parent->view
}
";

/// So many chains of each depth.
pub struct Deep {
    chains: u64,
}

/// Who may be asked about.
#[derive(Clone, Copy)]
enum Who {
    /// Views the top of this chain, and nothing else.
    Owner { depth: u64, chain: u64 },
    /// Views the folders of this level, in every chain that goes deeper.
    Local(u64),
}

impl Who {
    fn name(self) -> String {
        match self {
            Who::Owner { depth, chain } => format!("user:d{depth}c{chain}"),
            Who::Local(level) => format!("user:l{level}"),
        }
    }

    /// Whether it views this level of a chain: 0 is the deepest folder, `depth` the top.
    fn views(self, depth: u64, chain: u64, level: u64) -> bool {
        match self {
            Who::Owner { depth: of, chain: own } => (of, own) == (depth, chain),
            Who::Local(from) => from >= level && from < depth,
        }
    }
}

fn folder(depth: u64, chain: u64, level: u64) -> String {
    format!("folder:d{depth}c{chain}l{level}")
}

impl Deep {
    pub fn new(chains: u64) -> Deep {
        Deep { chains }
    }

    fn depth(&self, draw: &mut Draw, part: Option<usize>) -> u64 {
        let any = draw.below(DEPTHS.len() as u64) as usize;
        DEPTHS.get(part.unwrap_or(any)).copied().unwrap_or(1)
    }
}

impl World for Deep {
    fn schema(&self) -> &'static str {
        SCHEMA
    }

    fn tuples(&self, each: Each<'_>) -> io::Result<()> {
        for depth in DEPTHS {
            for chain in 0..self.chains {
                for level in 0..depth {
                    let below = folder(depth, chain, level);
                    each(format_args!("{below}#parent@{}", folder(depth, chain, level + 1)))?;
                    each(format_args!("{below}#viewer@{}", Who::Local(level).name()))?;
                }
                let owner = Who::Owner { depth, chain }.name();
                each(format_args!("{}#viewer@{owner}", folder(depth, chain, depth)))?;
            }
        }
        Ok(())
    }

    fn parts(&self) -> Vec<String> {
        DEPTHS.iter().map(u64::to_string).collect()
    }

    /// At the bottom; where any depth may be asked, at any level too.
    fn ask(&self, draw: &mut Draw, part: Option<usize>) -> Asked {
        let depth = self.depth(draw, part);
        let chain = draw.below(self.chains);
        let level = if part.is_none() && draw.one_in(4) { draw.below(depth + 1) } else { 0 };
        let who = match (part, draw.below(8)) {
            (_, 0..=3) => Who::Owner { depth, chain },
            (None, 4) => Who::Local(draw.below(depth + 1)),
            (_, _) => Who::Owner { depth, chain: (chain + 1 + draw.below(3)) % self.chains.saturating_add(3) },
        };
        Asked::of(folder(depth, chain, level), "view", who.name(), who.views(depth, chain, level))
    }

    fn list(&self, draw: &mut Draw, part: Option<usize>) -> Listing {
        let depth = self.depth(draw, part);
        let chain = draw.below(self.chains);
        let expected = (0..=depth).map(|level| folder(depth, chain, level)).collect();
        Listing {
            object_type: "folder",
            permission: "view",
            subject: Who::Owner { depth, chain }.name(),
            via: None,
            expected: Some(expected),
        }
    }

    /// At the top of a chain of 64, asked about at its bottom.
    fn grant(&self, number: u64) -> Grant {
        let chain = number % self.chains.max(1);
        let user = format!("user:fresh{number}");
        Grant {
            tuple: format!("{}#viewer@{user}", folder(64, chain, 64)),
            asked: Asked::of(folder(64, chain, 0), "view", user, true),
        }
    }
}
