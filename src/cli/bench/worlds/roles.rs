//! Four permissions that all climb the same parent: whoever climbs once for each, at each level, is soon lost.

use super::draw::{Draw, Seed};
use super::{Asked, Each, Grant, Listing, World};
use std::io;

/// Beyond so many folders, who may do what is not counted through for a list.
const LISTED_MAX: u64 = 20_000;

/// From the weakest: each includes those before it.
const PERMISSIONS: [&str; 4] = ["view", "edit", "administer", "own"];
const RELATIONS: [&str; 4] = ["viewer", "editor", "admin", "owner"];

const SCHEMA: &str = "definition user {}

definition folder {
  relation parent: folder

  relation owner: user

  relation admin: user

  relation editor: user

  relation viewer: user

  permission own = owner + parent->own

  permission administer = admin + own + parent->administer

  permission edit = editor + administer + parent->edit

  permission view = viewer + edit + parent->view
}
";

/// So many folders, two right beneath each.
pub struct Roles {
    folders: u64,
    seed: Seed,
}

/// A folder and all above it, up to number 1.
fn upwards(folder: u64) -> impl Iterator<Item = u64> {
    std::iter::successors(Some(folder), |folder| (*folder > 1).then(|| folder / 2))
}

impl Roles {
    pub fn new(folders: u64, seed: Seed) -> Roles {
        Roles { folders, seed }
    }

    fn users(&self) -> u64 {
        self.folders / 10 + 10
    }

    /// The role that a folder gives, and to whom.
    fn given(&self, folder: u64) -> Option<(u64, u64)> {
        let (seed, roles) = (self.seed, RELATIONS.len() as u64);
        seed.one_in("gives", folder, 2)
            .then(|| (seed.below("role", folder, roles), seed.below("user", folder, self.users())))
    }

    fn may(&self, user: u64, permission: u64, folder: u64) -> bool {
        upwards(folder).any(|one| self.given(one).is_some_and(|(role, whose)| whose == user && role >= permission))
    }
}

impl World for Roles {
    fn schema(&self) -> &'static str {
        SCHEMA
    }

    fn tuples(&self, each: Each<'_>) -> io::Result<()> {
        for folder in 1..=self.folders {
            if folder > 1 {
                each(format_args!("folder:f{folder}#parent@folder:f{}", folder / 2))?;
            }
            if let Some((role, user)) = self.given(folder) {
                let relation = RELATIONS.get(role as usize).copied().unwrap_or("viewer");
                each(format_args!("folder:f{folder}#{relation}@user:u{user}"))?;
            }
        }
        Ok(())
    }

    fn parts(&self) -> Vec<String> {
        PERMISSIONS.map(str::to_owned).to_vec()
    }

    fn ask(&self, draw: &mut Draw, part: Option<usize>) -> Asked {
        let permission = part.map_or_else(|| draw.below(PERMISSIONS.len() as u64), |part| part as u64);
        let folder = 1 + draw.below(self.folders);
        let given: Vec<u64> = upwards(folder).filter_map(|one| self.given(one)).map(|(_, user)| user).collect();
        let user = match given.get(draw.below(given.len() as u64) as usize) {
            Some(user) if !draw.one_in(4) => *user,
            Some(_) | None => draw.below(self.users()),
        };
        let name = PERMISSIONS.get(permission as usize).copied().unwrap_or("view");
        let allowed = self.may(user, permission, folder);
        Asked::of(format!("folder:f{folder}"), name, format!("user:u{user}"), allowed)
    }

    fn list(&self, draw: &mut Draw, part: Option<usize>) -> Listing {
        let permission = part.map_or_else(|| draw.below(PERMISSIONS.len() as u64), |part| part as u64);
        let user = draw.below(self.users());
        let has = |folder: &u64| self.may(user, permission, *folder);
        let expected = (self.folders <= LISTED_MAX)
            .then(|| (1..=self.folders).filter(has).map(|folder| format!("folder:f{folder}")).collect());
        Listing {
            object_type: "folder",
            permission: PERMISSIONS.get(permission as usize).copied().unwrap_or("view"),
            subject: format!("user:u{user}"),
            via: None,
            expected,
        }
    }

    /// An owner of the topmost folder, who may therefore view the deepest.
    fn grant(&self, number: u64) -> Grant {
        let user = format!("user:fresh{number}");
        Grant {
            tuple: format!("folder:f1#owner@{user}"),
            asked: Asked::of(format!("folder:f{}", self.folders), "view", user, true),
        }
    }
}
