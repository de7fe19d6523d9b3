//! The worlds: a schema, tuples, questions, and what must be answered to each.
//!
//! What always holds: a world is a function of its seed and its scale, and nothing of it is held in memory. Which folder a
//! document lies in is drawn from the seed and the document's number whenever that is asked, so a world of any size
//! costs none to make. What is expected is computed from the same draws by a few lines written for that one schema,
//! which know nothing of the engine. No world gives the same tuple twice.

pub mod draw;
mod deep;
mod groups;
mod github;
mod drive;
mod saas;
mod delegated;
mod boolean;
mod roles;
mod cyclic;
mod large;

use crate::model::Decision;
use clap::ValueEnum;
use draw::{Draw, Seed};
use std::fmt;
use std::io;
use std::str::FromStr;

/// Takes one line. The first error ends what gives them.
pub type Each<'a> = &'a mut dyn FnMut(fmt::Arguments<'_>) -> io::Result<()>;

/// A world at a scale.
pub trait World: Send + Sync {
    /// The schema, as `procura schema write` takes it.
    fn schema(&self) -> &'static str;

    /// All tuples in their text form, each once, in the same order each time.
    ///
    /// # Errors
    /// The first that `each` gives.
    fn tuples(&self, each: Each<'_>) -> io::Result<()>;

    /// All delegations, parents before their children.
    fn deputies(&self) -> Vec<Deputy> {
        Vec::new()
    }

    /// The kinds of question that can be asked alone.
    fn parts(&self) -> Vec<String> {
        Vec::new()
    }

    /// A question, of this kind alone or of any.
    fn ask(&self, draw: &mut Draw, part: Option<usize>) -> Asked;

    /// A list, of this kind alone or of any.
    fn list(&self, draw: &mut Draw, part: Option<usize>) -> Listing;

    /// A tuple that the world does not have, and the question that hangs on it alone. No other answer hangs on it.
    fn grant(&self, number: u64) -> Grant;
}

/// A question, and what must be answered to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// `type:id`.
    pub object: String,
    pub permission: &'static str,
    /// `type:id`.
    pub subject: String,
    /// The delegation by which the subject asks.
    pub via: Option<String>,
    /// A JSON object.
    pub context: Option<String>,
    pub expected: Decision,
}

/// A list of objects, and all that must stand in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    pub object_type: &'static str,
    pub permission: &'static str,
    pub subject: String,
    pub via: Option<String>,
    /// `type:id`, in any order. `None` where the world is too large to tell.
    pub expected: Option<Vec<String>>,
}

/// A tuple, and what it allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub tuple: String,
    /// Allowed with the tuple, denied without.
    pub asked: Asked,
}

/// A delegation to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deputy {
    pub name: String,
    pub parent: Option<String>,
    pub from: String,
    pub to: String,
    pub permissions: Vec<&'static str>,
    pub within: String,
    pub redelegate: u32,
}

impl Asked {
    fn of(object: String, permission: &'static str, subject: String, allowed: bool) -> Asked {
        let expected = if allowed { Decision::Allow } else { Decision::Deny };
        Asked { object, permission, subject, via: None, context: None, expected }
    }
}

/// `object permission subject [via NAME] [context] = allow|deny|conditional`.
impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Asked { object, permission, subject, via, context, expected } = self;
        write!(f, "{object} {permission} {subject}")?;
        if let Some(via) = via {
            write!(f, " via {via}")?;
        }
        if let Some(context) = context {
            write!(f, " {context}")?;
        }
        write!(f, " = {}", expected.as_str().to_ascii_lowercase())
    }
}

impl Deputy {
    /// One line of JSON.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let Deputy { name, parent, from, to, permissions, within, redelegate } = self;
        serde_json::json!({
            "name": name, "parent": parent, "from": from, "to": to, "permissions": permissions, "within": [within],
            "redelegate": redelegate,
        })
    }
}

/// Which world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WorldName {
    /// Folders in folders, 1 to 64 deep, the grant at the top
    Deep,
    /// Groups of up to so many members, objects with so many groups, groups in groups
    Groups,
    /// Organisations, nested teams, repositories
    Github,
    /// Documents in folders in folders, shared with people and groups
    Drive,
    /// Tenants with workspaces, projects and groups, and who is suspended
    Saas,
    /// Chains of 1 to 8 delegations, some of them broken
    Delegated,
    /// Intersections, exclusions, caveats with and without context
    Boolean,
    /// Four recursive permissions over one parent
    Roles,
    /// Groups that contain each other in rings
    Cyclic,
    /// So many documents that they do not fit in memory, asked about evenly
    Large,
}

/// What a world's scale counts, and what `small`, `medium` and `full` are of it.
pub struct Sizes {
    pub unit: &'static str,
    pub small: u64,
    pub medium: u64,
    pub full: u64,
}

impl WorldName {
    /// What the scale is of.
    #[must_use]
    pub fn sizes(self) -> Sizes {
        let (unit, small, medium, full) = match self {
            WorldName::Deep => ("chains of each depth", 8, 500, 20_000),
            WorldName::Groups => ("members of the widest group", 1_000, 10_000, 1_000_000),
            WorldName::Github => ("repositories", 200, 20_000, 1_000_000),
            WorldName::Drive => ("documents", 2_000, 500_000, 10_000_000),
            WorldName::Saas => ("tenants", 20, 10_000, 100_000),
            WorldName::Delegated => ("chains of each length", 7, 210, 7_000),
            WorldName::Boolean => ("documents", 200, 20_000, 1_000_000),
            WorldName::Roles => ("folders", 200, 20_000, 1_000_000),
            WorldName::Cyclic => ("rings", 30, 2_000, 100_000),
            WorldName::Large => ("documents", 2_000, 1_000_000, 100_000_000),
        };
        Sizes { unit, small, medium, full }
    }

    /// The world at a scale.
    #[must_use]
    pub fn at(self, scale: u64, seed: u64) -> Box<dyn World> {
        let seed = Seed(seed);
        match self {
            WorldName::Deep => Box::new(deep::Deep::new(scale)),
            WorldName::Groups => Box::new(groups::Groups::new(scale)),
            WorldName::Github => Box::new(github::Github::new(scale, seed)),
            WorldName::Drive => Box::new(drive::Drive::new(scale, seed)),
            WorldName::Saas => Box::new(saas::Saas::new(scale, seed)),
            WorldName::Delegated => Box::new(delegated::Delegated::new(scale, seed)),
            WorldName::Boolean => Box::new(boolean::Boolean::new(scale, seed)),
            WorldName::Roles => Box::new(roles::Roles::new(scale, seed)),
            WorldName::Cyclic => Box::new(cyclic::Cyclic::new(scale)),
            WorldName::Large => Box::new(large::Large::new(scale, seed)),
        }
    }

    /// As on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            WorldName::Deep => "deep",
            WorldName::Groups => "groups",
            WorldName::Github => "github",
            WorldName::Drive => "drive",
            WorldName::Saas => "saas",
            WorldName::Delegated => "delegated",
            WorldName::Boolean => "boolean",
            WorldName::Roles => "roles",
            WorldName::Cyclic => "cyclic",
            WorldName::Large => "large",
        }
    }
}

/// How large a world is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    Small,
    Medium,
    Full,
    Of(u64),
}

impl Scale {
    /// In the world's own unit.
    #[must_use]
    pub fn of(self, world: WorldName) -> u64 {
        let Sizes { unit: _, small, medium, full } = world.sizes();
        match self {
            Scale::Small => small,
            Scale::Medium => medium,
            Scale::Full => full,
            Scale::Of(count) => count,
        }
    }
}

/// The largest scale: ids stay short, and numbers far from overflow.
const SCALE_MAX: u64 = 10_000_000_000;

impl FromStr for Scale {
    type Err = String;

    fn from_str(text: &str) -> Result<Scale, String> {
        match text {
            "small" => return Ok(Scale::Small),
            "medium" => return Ok(Scale::Medium),
            "full" => return Ok(Scale::Full),
            _ => {}
        }
        let (digits, factor) = match (text.strip_suffix(['k', 'K']), text.strip_suffix(['m', 'M'])) {
            (Some(digits), _) => (digits, 1_000),
            (None, Some(digits)) => (digits, 1_000_000),
            (None, None) => (text, 1),
        };
        let count = digits.replace('_', "").parse::<u64>().ok().and_then(|count| count.checked_mul(factor));
        count
            .filter(|count| (1..=SCALE_MAX).contains(count))
            .map(Scale::Of)
            .ok_or_else(|| "a scale is `small`, `medium`, `full` or a number such as 500, 20k or 10M".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RelationTuple;
    use std::collections::HashSet;

    fn all() -> impl Iterator<Item = WorldName> {
        WorldName::value_variants().iter().copied()
    }

    fn keys(world: &dyn World) -> HashSet<String> {
        let mut keys = HashSet::new();
        world
            .tuples(&mut |line| {
                let tuple: RelationTuple = line.to_string().parse().unwrap();
                assert!(keys.insert(tuple.key.to_string()), "{line} stands twice");
                Ok(())
            })
            .unwrap();
        keys
    }

    #[test]
    fn no_world_gives_a_tuple_twice() {
        for name in all() {
            for scale in [1, 2, 3, 7, 60, Scale::Small.of(name)] {
                let world = name.at(scale, 7);
                let keys = keys(&*world);
                for number in 0..4 {
                    let grant = world.grant(number);
                    assert!(!keys.contains(&grant.tuple), "{name:?} has {}", grant.tuple);
                }
            }
        }
    }

    /// The expectations are worth something: each world has both answers, and whoever asks is no stranger.
    #[test]
    fn questions_are_answered_both_ways() {
        for name in all() {
            let world = name.at(Scale::Small.of(name), 7);
            let mut draw = Draw::new(3);
            let mut count = [0; 3];
            for _ in 0..1_000 {
                match world.ask(&mut draw, None).expected {
                    Decision::Allow => count[0] += 1,
                    Decision::Deny => count[1] += 1,
                    Decision::Conditional => count[2] += 1,
                }
            }
            assert!(count[0] > 100 && count[1] > 100, "{name:?}: {count:?}");
            assert_eq!(count[2] > 0, name == WorldName::Boolean, "{name:?}: {count:?}");
        }
    }

    #[test]
    fn a_scale_is_a_word_or_a_number() {
        for (text, scale) in [("small", Scale::Small), ("500", Scale::Of(500)), ("10M", Scale::Of(10_000_000))] {
            assert_eq!(text.parse(), Ok(scale));
        }
        assert_eq!("20k".parse(), Ok(Scale::Of(20_000)));
        for wrong in ["", "0", "-1", "k", "1.5", "99999999999999999999", "20000000M", "large"] {
            assert!(wrong.parse::<Scale>().is_err(), "{wrong}");
        }
    }
}
