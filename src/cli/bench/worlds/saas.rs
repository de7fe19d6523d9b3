//! Tenants: each an organisation with workspaces, projects, a group of engineers, and some who are suspended.

use super::draw::{Draw, Seed};
use super::{Asked, Each, Grant, Listing, World};
use std::io;

/// Of each tenant.
const USERS: u64 = 20;
const ENGINEERS: u64 = 5;
const WORKSPACES: u64 = 3;
const PROJECTS: u64 = 15;

const SCHEMA: &str = "definition user {}

definition org {
  relation admin: user

  relation member: user

  permission manage = admin
}

definition group {
  relation member: user
}

definition workspace {
  relation org: org

  relation editor: user | group#member

  permission edit = editor + org->manage
}

definition project {
  relation workspace: workspace

  relation viewer: user

  relation suspended: user

  permission edit = workspace->edit - suspended

  permission view = (viewer + workspace->edit) - suspended
}
";

/// So many tenants.
pub struct Saas {
    tenants: u64,
    seed: Seed,
}

impl Saas {
    pub fn new(tenants: u64, seed: Seed) -> Saas {
        Saas { tenants, seed }
    }

    fn viewer(&self, tenant: u64, project: u64) -> u64 {
        self.seed.below("viewer", tenant * PROJECTS + project, USERS)
    }

    fn suspended(&self, tenant: u64, project: u64) -> Option<u64> {
        let project = tenant * PROJECTS + project;
        self.seed.one_in("suspends", project, 4).then(|| self.seed.below("suspended", project, USERS))
    }

    fn edits_workspace(&self, user: u64, workspace: u64) -> bool {
        user == 0 || user == lead(workspace) || (workspace == 0 && is_engineer(user))
    }

    /// Both tenants are named: whoever belongs to another may do nothing.
    fn may(&self, (of, user): (u64, u64), is_edit: bool, (tenant, project): (u64, u64)) -> bool {
        let edits = self.edits_workspace(user, project % WORKSPACES);
        let views = !is_edit && self.viewer(tenant, project) == user;
        of == tenant && (edits || views) && self.suspended(tenant, project) != Some(user)
    }
}

/// User 0 is the admin, 1 to 3 lead a workspace each.
fn lead(workspace: u64) -> u64 {
    workspace + 1
}

fn is_engineer(user: u64) -> bool {
    (WORKSPACES + 1..WORKSPACES + 1 + ENGINEERS).contains(&user)
}

impl World for Saas {
    fn schema(&self) -> &'static str {
        SCHEMA
    }

    fn tuples(&self, each: Each<'_>) -> io::Result<()> {
        for tenant in 0..self.tenants {
            each(format_args!("org:t{tenant}#admin@user:t{tenant}u0"))?;
            for user in 0..USERS {
                each(format_args!("org:t{tenant}#member@user:t{tenant}u{user}"))?;
                if is_engineer(user) {
                    each(format_args!("group:t{tenant}#member@user:t{tenant}u{user}"))?;
                }
            }
            each(format_args!("workspace:t{tenant}w0#editor@group:t{tenant}#member"))?;
            for workspace in 0..WORKSPACES {
                each(format_args!("workspace:t{tenant}w{workspace}#org@org:t{tenant}"))?;
                each(format_args!("workspace:t{tenant}w{workspace}#editor@user:t{tenant}u{}", lead(workspace)))?;
            }
            for project in 0..PROJECTS {
                let workspace = project % WORKSPACES;
                each(format_args!("project:t{tenant}p{project}#workspace@workspace:t{tenant}w{workspace}"))?;
                let viewer = self.viewer(tenant, project);
                each(format_args!("project:t{tenant}p{project}#viewer@user:t{tenant}u{viewer}"))?;
                if let Some(user) = self.suspended(tenant, project) {
                    each(format_args!("project:t{tenant}p{project}#suspended@user:t{tenant}u{user}"))?;
                }
            }
        }
        Ok(())
    }

    fn parts(&self) -> Vec<String> {
        vec!["view".to_owned(), "edit".to_owned()]
    }

    fn ask(&self, draw: &mut Draw, part: Option<usize>) -> Asked {
        let (tenant, project) = (draw.below(self.tenants), draw.below(PROJECTS));
        let of = if draw.one_in(8) { draw.below(self.tenants) } else { tenant };
        let user = match draw.below(4) {
            0 => draw.below(USERS),
            1 => self.viewer(tenant, project),
            2 => self.suspended(tenant, project).unwrap_or(lead(project % WORKSPACES)),
            _ => draw.below(WORKSPACES + 1 + ENGINEERS),
        };
        let is_edit = part.map_or(draw.one_in(2), |part| part == 1);
        let allowed = self.may((of, user), is_edit, (tenant, project));
        let permission = if is_edit { "edit" } else { "view" };
        Asked::of(format!("project:t{tenant}p{project}"), permission, format!("user:t{of}u{user}"), allowed)
    }

    fn list(&self, draw: &mut Draw, part: Option<usize>) -> Listing {
        let (tenant, user) = (draw.below(self.tenants), draw.below(USERS));
        let is_edit = part.map_or(draw.one_in(2), |part| part == 1);
        let projects = (0..PROJECTS).filter(|project| self.may((tenant, user), is_edit, (tenant, *project)));
        let expected = projects.map(|project| format!("project:t{tenant}p{project}")).collect();
        Listing {
            object_type: "project",
            permission: if is_edit { "edit" } else { "view" },
            subject: format!("user:t{tenant}u{user}"),
            via: None,
            expected: Some(expected),
        }
    }

    /// An admin of the organisation, asked about at a project.
    fn grant(&self, number: u64) -> Grant {
        let (tenant, user) = (number % self.tenants.max(1), format!("user:fresh{number}"));
        let project = number % PROJECTS;
        Grant {
            tuple: format!("org:t{tenant}#admin@{user}"),
            asked: Asked::of(format!("project:t{tenant}p{project}"), "edit", user, true),
        }
    }
}
