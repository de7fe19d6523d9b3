//! The data of the benches, from a fixed seed: deep folders, wide groups, and the questions asked of them.
//!
//! What always holds: each case has many questions over many objects, so that no single key stays hot by accident, and
//! every question has the one decision its case says.

#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a bench that cannot go on fails by panicking")]

use procura::model::{Decision, ObjectId, Question, RelationTuple, SubjectRef};

pub const SEED: u64 = 20_261_125;
pub const DEPTHS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
pub const WIDTHS: [usize; 4] = [10, 100, 1_000, 10_000];
/// Chains of each depth.
const CHAINS: usize = 64;
const QUESTIONS: usize = 256;

pub const SCHEMA: &str = "definition user {}

definition group {
  relation member: user
}

definition folder {
  relation parent: folder
  relation viewer: user
  permission view = viewer + parent->view
}

definition doc {
  relation viewer: user | group#member
  permission view = viewer
}
";

/// Questions that all have the same decision, and where they stand in the table.
pub struct Case {
    pub group: &'static str,
    pub size: usize,
    pub decision: Decision,
    pub questions: Vec<Question>,
}

/// xorshift64*: small, seeded, the same everywhere.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }
}

fn tuple(text: &str) -> RelationTuple {
    text.parse().expect("a tuple")
}

fn question(text: &str) -> Question {
    let key = tuple(text).key;
    Question { object: key.object, permission: key.relation, subject: key.subject }
}

/// All tuples of all cases.
pub fn tuples() -> Vec<RelationTuple> {
    let mut texts = Vec::new();
    for depth in DEPTHS {
        for chain in 0..CHAINS {
            let name = format!("d{depth}c{chain}");
            texts.extend((0..depth).map(|level| format!("folder:{name}l{level}#parent@folder:{name}l{}", level + 1)));
            texts.push(format!("folder:{name}l{depth}#viewer@user:rita{chain}"));
            // Every level has viewers of its own, who are not the one asked about.
            texts.extend((0..depth).map(|level| format!("folder:{name}l{level}#viewer@user:local{level}")));
        }
    }
    for width in WIDTHS {
        texts.push(format!("doc:members{width}#viewer@group:wide{width}#member"));
        texts.extend((0..width).map(|n| format!("group:wide{width}#member@user:m{n}")));
        texts.extend((0..width).map(|n| format!("doc:groups{width}#viewer@group:w{width}g{n}#member")));
        texts.push(format!("group:w{width}g{}#member@user:rita", width - 1));
    }
    texts.iter().map(|text| tuple(text)).collect()
}

/// Deep: the grant stands at the root, or nowhere. Members: one group of so many. Groups: so many on one object.
pub fn cases() -> Vec<Case> {
    let mut rng = Rng(SEED);
    let mut cases = Vec::new();
    for decision in [Decision::Allow, Decision::Deny] {
        let allowed = decision == Decision::Allow;
        for depth in DEPTHS {
            let questions = (0..QUESTIONS)
                .map(|_| {
                    let chain = rng.below(CHAINS);
                    let user = if allowed { format!("rita{chain}") } else { format!("rita{}", (chain + 1) % CHAINS) };
                    question(&format!("folder:d{depth}c{chain}l0#view@user:{user}"))
                })
                .collect();
            cases.push(Case { group: "deep", size: depth, decision, questions });
        }
        for width in WIDTHS {
            let questions = (0..QUESTIONS)
                .map(|_| {
                    let user = if allowed { format!("m{}", rng.below(width)) } else { "rita0".to_owned() };
                    question(&format!("doc:members{width}#view@user:{user}"))
                })
                .collect();
            cases.push(Case { group: "wide members", size: width, decision, questions });
            let user = if allowed { "rita" } else { "rita0" };
            let questions = vec![question(&format!("doc:groups{width}#view@user:{user}"))];
            cases.push(Case { group: "wide groups", size: width, decision, questions });
        }
    }
    cases
}

/// A thousand questions of every depth and decision, for one call.
pub fn batch() -> Vec<Question> {
    let mut rng = Rng(SEED + 1);
    (0..1_000)
        .map(|_| {
            let (depth, chain) = (DEPTHS[rng.below(DEPTHS.len())], rng.below(CHAINS));
            question(&format!("folder:d{depth}c{chain}l0#view@user:rita{}", rng.below(2) * chain))
        })
        .collect()
}

/// A thousand folders of every depth and level, and whoever is allowed on some.
pub fn filter() -> (SubjectRef, Vec<ObjectId>) {
    let mut rng = Rng(SEED + 2);
    let folder = |_| {
        let (depth, chain) = (DEPTHS[rng.below(DEPTHS.len())], rng.below(CHAINS));
        ObjectId::new(format!("d{depth}c{chain}l{}", rng.below(depth + 1))).expect("an id")
    };
    ("user:rita0".parse().expect("a subject"), (0..1_000).map(folder).collect())
}
