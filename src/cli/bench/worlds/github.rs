//! Organisations with owners, members and teams in teams; repositories that teams and people may read, write, administer.

use super::draw::{Draw, Seed};
use super::{Asked, Each, Grant, Listing, World};
use std::io;

/// Of each organisation.
const REPOSITORIES: u64 = 50;
const TEAMS: u64 = 7;
const USERS: u64 = 40;

const SCHEMA: &str = "definition user {}

definition team {
  relation member: user | team#member
}

definition organization {
  relation owner: user

  relation member: user

  permission own = owner
}

definition repository {
  relation organization: organization

  relation reader: user | user:* | team#member

  relation writer: user | team#member

  relation administrator: user | team#member

  permission administer = administrator + organization->own

  permission push = writer + administer

  permission pull = reader + push
}
";

const PERMISSIONS: [&str; 3] = ["pull", "push", "administer"];

/// So many repositories.
pub struct Github {
    repositories: u64,
    seed: Seed,
}

/// User `number` of an organisation.
#[derive(Clone, Copy, PartialEq, Eq)]
struct User {
    organization: u64,
    number: u64,
}

impl User {
    fn name(self) -> String {
        format!("user:o{}u{}", self.organization, self.number)
    }

    /// Is in the team: the one it was put in, or one that contains that.
    fn is_in(self, organization: u64, team: u64) -> bool {
        self.organization == organization && upwards(self.number % TEAMS).any(|one| one == team)
    }
}

/// A team and those it is in: team 0 contains 1 and 2, team 1 contains 3 and 4.
fn upwards(team: u64) -> impl Iterator<Item = u64> {
    std::iter::successors(Some(team), |team| (*team > 0).then(|| (team - 1) / 2))
}

impl Github {
    pub fn new(repositories: u64, seed: Seed) -> Github {
        Github { repositories, seed }
    }

    fn organizations(&self) -> u64 {
        self.repositories.div_ceil(REPOSITORIES)
    }

    fn organization(&self, repository: u64) -> u64 {
        repository / REPOSITORIES
    }

    fn is_public(&self, repository: u64) -> bool {
        self.seed.one_in("public", repository, 10)
    }

    fn team(&self, role: &str, repository: u64) -> u64 {
        self.seed.below(role, repository, TEAMS)
    }

    /// Somebody from any organisation.
    fn outsider(&self, repository: u64) -> User {
        let organization = self.seed.below("outside", repository, self.organizations());
        User { organization, number: self.seed.below("outsider", repository, USERS) }
    }

    fn administrator(&self, repository: u64) -> User {
        let number = self.seed.below("administrator", repository, USERS);
        User { organization: self.organization(repository), number }
    }

    fn may(&self, user: User, permission: usize, repository: u64) -> bool {
        let home = self.organization(repository);
        let is_owner = user == User { organization: home, number: 0 };
        let administers = is_owner || user == self.administrator(repository);
        let pushes = administers || user.is_in(home, self.team("writer", repository));
        let reads = self.is_public(repository) || user.is_in(home, self.team("reader", repository));
        match permission {
            0 => pushes || reads || user == self.outsider(repository),
            1 => pushes,
            _ => administers,
        }
    }
}

impl World for Github {
    fn schema(&self) -> &'static str {
        SCHEMA
    }

    fn tuples(&self, each: Each<'_>) -> io::Result<()> {
        for organization in 0..self.organizations() {
            each(format_args!("organization:o{organization}#owner@user:o{organization}u0"))?;
            for number in 0..USERS {
                let user = User { organization, number }.name();
                each(format_args!("organization:o{organization}#member@{user}"))?;
                each(format_args!("team:o{organization}t{}#member@{user}", number % TEAMS))?;
            }
            for team in 1..TEAMS {
                let above = (team - 1) / 2;
                each(format_args!("team:o{organization}t{above}#member@team:o{organization}t{team}#member"))?;
            }
        }
        for repository in 0..self.repositories {
            let home = self.organization(repository);
            each(format_args!("repository:r{repository}#organization@organization:o{home}"))?;
            let (reader, writer) = (self.team("reader", repository), self.team("writer", repository));
            each(format_args!("repository:r{repository}#reader@team:o{home}t{reader}#member"))?;
            each(format_args!("repository:r{repository}#reader@{}", self.outsider(repository).name()))?;
            each(format_args!("repository:r{repository}#writer@team:o{home}t{writer}#member"))?;
            each(format_args!("repository:r{repository}#administrator@{}", self.administrator(repository).name()))?;
            if self.is_public(repository) {
                each(format_args!("repository:r{repository}#reader@user:*"))?;
            }
        }
        Ok(())
    }

    fn parts(&self) -> Vec<String> {
        PERMISSIONS.map(str::to_owned).to_vec()
    }

    fn ask(&self, draw: &mut Draw, part: Option<usize>) -> Asked {
        let permission = part.unwrap_or(draw.below(PERMISSIONS.len() as u64) as usize);
        let repository = draw.below(self.repositories);
        let home = self.organization(repository);
        let user = match draw.below(8) {
            0 => self.administrator(repository),
            1 => self.outsider(repository),
            2 => User { organization: draw.below(self.organizations()), number: draw.below(USERS) },
            3 => User { organization: home, number: 0 },
            _ => User { organization: home, number: draw.below(USERS) },
        };
        let name = PERMISSIONS.get(permission).copied().unwrap_or("pull");
        let allowed = self.may(user, permission, repository);
        Asked::of(format!("repository:r{repository}"), name, user.name(), allowed)
    }

    /// What somebody may push to lies in their own organisation.
    fn list(&self, draw: &mut Draw, _part: Option<usize>) -> Listing {
        let user = User { organization: draw.below(self.organizations()), number: draw.below(USERS) };
        let first = user.organization * REPOSITORIES;
        let own = first..(first + REPOSITORIES).min(self.repositories);
        let pushed = own.filter(|repository| self.may(user, 1, *repository));
        let expected = pushed.map(|repository| format!("repository:r{repository}")).collect();
        Listing {
            object_type: "repository",
            permission: "push",
            subject: user.name(),
            via: None,
            expected: Some(expected),
        }
    }

    /// Into a team at the bottom of the tree, whose repositories the topmost may read.
    fn grant(&self, number: u64) -> Grant {
        let repository = number % self.repositories.max(1);
        let home = self.organization(repository);
        let (team, user) = (self.team("writer", repository), format!("user:fresh{number}"));
        Grant {
            tuple: format!("team:o{home}t{team}#member@{user}"),
            asked: Asked::of(format!("repository:r{repository}"), "push", user, true),
        }
    }
}
