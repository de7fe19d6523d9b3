//! Chains of delegations: somebody delegates to an agent, that to another, up to eight times. Some chains lack a link's
//! role, the root's own right, or a scope that is wide enough.

use super::draw::{Draw, Seed};
use super::{Asked, Deputy, Each, Grant, Listing, World};
use std::io;

const LENGTHS: [u64; 4] = [1, 2, 4, 8];
/// Of each chain's workspace.
const PROJECTS: u64 = 4;
const PERMISSIONS: [&str; 2] = ["view", "edit"];

const SCHEMA: &str = "use hierarchy

definition user {}

definition agent {}

definition workspace {
  relation owner: user

  relation worker: agent

  permission view = owner + worker

  permission edit = owner + worker
}

definition project {
  parent workspace: workspace

  permission view = workspace->view

  permission edit = workspace->edit
}
";

/// So many chains of each length.
pub struct Delegated {
    chains: u64,
    seed: Seed,
}

/// What is the matter with a chain.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flaw {
    Nothing,
    /// Whoever stands at the root owns nothing.
    Root,
    /// This agent has no role.
    Role(u64),
    /// This delegation covers the first project only.
    Scope(u64),
    /// This delegation is for viewing only.
    Permission(u64),
}

/// A chain: its length and its number.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Chain(u64, u64);

impl Chain {
    fn workspace(self) -> String {
        format!("workspace:n{}c{}", self.0, self.1)
    }

    fn project(self, project: u64) -> String {
        format!("project:n{}c{}p{project}", self.0, self.1)
    }

    fn root(self) -> String {
        format!("user:n{}c{}", self.0, self.1)
    }

    fn agent(self, link: u64) -> String {
        format!("agent:n{}c{}a{link}", self.0, self.1)
    }

    fn delegation(self, link: u64) -> String {
        format!("n{}c{}d{link}", self.0, self.1)
    }
}

impl Delegated {
    pub fn new(chains: u64, seed: Seed) -> Delegated {
        Delegated { chains, seed }
    }

    fn all(&self) -> impl Iterator<Item = Chain> {
        LENGTHS.into_iter().flat_map(|length| (0..self.chains).map(move |number| Chain(length, number)))
    }

    fn flaw(&self, Chain(length, number): Chain) -> Flaw {
        let link = 1 + self.seed.below("link", number * 16 + length, length);
        match number % 7 {
            1 => Flaw::Scope(link),
            3 => Flaw::Root,
            5 => Flaw::Role(link),
            6 => Flaw::Permission(link),
            _ => Flaw::Nothing,
        }
    }

    /// By the whole chain, every actor and every scope of it.
    fn may_by(&self, chain: Chain, permission: usize, project: u64) -> bool {
        match self.flaw(chain) {
            Flaw::Nothing => true,
            Flaw::Root | Flaw::Role(_) => false,
            Flaw::Scope(_) => project == 0,
            Flaw::Permission(_) => permission == 0,
        }
    }

    fn chain(&self, draw: &mut Draw, part: Option<usize>) -> Chain {
        let any = draw.below(LENGTHS.len() as u64) as usize;
        let length = part.filter(|part| *part > 0).map_or(any, |part| part - 1);
        Chain(LENGTHS.get(length).copied().unwrap_or(1), draw.below(self.chains))
    }
}

impl World for Delegated {
    fn schema(&self) -> &'static str {
        SCHEMA
    }

    fn tuples(&self, each: Each<'_>) -> io::Result<()> {
        for chain in self.all() {
            let (workspace, flaw) = (chain.workspace(), self.flaw(chain));
            for project in 0..PROJECTS {
                each(format_args!("{}#workspace@{workspace}", chain.project(project)))?;
            }
            if flaw != Flaw::Root {
                each(format_args!("{workspace}#owner@{}", chain.root()))?;
            }
            for link in (1..=chain.0).filter(|link| flaw != Flaw::Role(*link)) {
                each(format_args!("{workspace}#worker@{}", chain.agent(link)))?;
            }
        }
        Ok(())
    }

    fn deputies(&self) -> Vec<Deputy> {
        let links = |chain: Chain| (1..=chain.0).map(move |link| (chain, link));
        let deputy = |(chain, link): (Chain, u64)| {
            let flaw = self.flaw(chain);
            let within = if flaw == Flaw::Scope(link) { chain.project(0) } else { chain.workspace() };
            let permissions = if flaw == Flaw::Permission(link) { vec!["view"] } else { PERMISSIONS.to_vec() };
            Deputy {
                name: chain.delegation(link),
                parent: (link > 1).then(|| chain.delegation(link - 1)),
                from: if link > 1 { chain.agent(link - 1) } else { chain.root() },
                to: chain.agent(link),
                permissions,
                within,
                redelegate: u32::try_from(chain.0 - link).unwrap_or(0),
            }
        };
        self.all().flat_map(links).map(deputy).collect()
    }

    /// Without a delegation, and by chains of each length.
    fn parts(&self) -> Vec<String> {
        std::iter::once("plain".to_owned()).chain(LENGTHS.iter().map(|length| format!("chain-{length}"))).collect()
    }

    fn ask(&self, draw: &mut Draw, part: Option<usize>) -> Asked {
        let chain = self.chain(draw, part);
        let (last, project) = (chain.0, draw.below(PROJECTS));
        let permission = draw.below(PERMISSIONS.len() as u64) as usize;
        let name = PERMISSIONS.get(permission).copied().unwrap_or("view");
        let object = chain.project(project);
        if part == Some(0) || (part.is_none() && draw.one_in(8)) {
            let allowed = self.flaw(chain) != Flaw::Role(last);
            return Asked::of(object, name, chain.agent(last), allowed);
        }
        // Now and then somebody holds what was given to another.
        let stranger = Chain(chain.0, (chain.1 + 1) % self.chains.max(1));
        let caller = if draw.one_in(16) { stranger } else { chain };
        let allowed = caller == chain && self.may_by(chain, permission, project);
        Asked { via: Some(chain.delegation(last)), ..Asked::of(object, name, caller.agent(last), allowed) }
    }

    fn list(&self, draw: &mut Draw, part: Option<usize>) -> Listing {
        let chain = self.chain(draw, part);
        let is_own = part == Some(0);
        let has = |project: &u64| {
            if is_own { self.flaw(chain) != Flaw::Role(chain.0) } else { self.may_by(chain, 1, *project) }
        };
        let expected = (0..PROJECTS).filter(has).map(|project| chain.project(project)).collect();
        Listing {
            object_type: "project",
            permission: "edit",
            subject: chain.agent(chain.0),
            via: (!is_own).then(|| chain.delegation(chain.0)),
            expected: Some(expected),
        }
    }

    /// A role of an agent's own.
    fn grant(&self, number: u64) -> Grant {
        let chain = Chain(8, number % self.chains.max(1));
        let agent = format!("agent:fresh{number}");
        Grant {
            tuple: format!("{}#worker@{agent}", chain.workspace()),
            asked: Asked::of(chain.project(number % PROJECTS), "view", agent, true),
        }
    }
}
