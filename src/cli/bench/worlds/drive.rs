//! A drive: documents in folders in folders, each owned by somebody, some shared with people, groups and departments.

use super::draw::{Draw, Seed};
use super::{Asked, Each, Grant, Listing, World};
use std::io;

/// Documents for each folder, user and group.
const PER_FOLDER: u64 = 20;
const PER_USER: u64 = 100;
const PER_GROUP: u64 = 1_000;
/// Folders right beneath each folder; as many have none above them.
const FANOUT: u64 = 8;
/// Beyond so many documents, who may see which is not counted through for a list.
const LISTED_MAX: u64 = 20_000;

const SCHEMA: &str = "use hierarchy

definition user {}

definition group {
  relation member: user | group#member
}

definition folder {
  parent parent: folder

  relation owner: user

  relation viewer: user | group#member

  permission edit = owner + parent->edit

  permission view = viewer + edit + parent->view
}

definition document {
  parent parent: folder

  relation owner: user

  relation viewer: user | user:* | group#member

  permission edit = owner + parent->edit

  permission view = viewer + edit + parent->view
}
";

/// So many documents.
pub struct Drive {
    documents: u64,
    seed: Seed,
}

impl Drive {
    pub fn new(documents: u64, seed: Seed) -> Drive {
        Drive { documents, seed }
    }

    fn folders(&self) -> u64 {
        self.documents / PER_FOLDER + FANOUT + 1
    }

    fn users(&self) -> u64 {
        self.documents / PER_USER + 20
    }

    fn groups(&self) -> u64 {
        self.documents / PER_GROUP + 4
    }

    fn departments(&self) -> u64 {
        self.groups() / 4 + 1
    }

    fn folder(&self, document: u64) -> u64 {
        self.seed.below("folder", document, self.folders())
    }

    /// The folder of a document and all above it.
    fn folders_of(&self, document: u64) -> impl Iterator<Item = u64> {
        std::iter::successors(Some(self.folder(document)), |folder| above(*folder))
    }

    fn owner(&self, document: u64) -> u64 {
        self.seed.below("owner", document, self.users())
    }

    fn viewer(&self, document: u64) -> Option<u64> {
        let seed = self.seed;
        seed.one_in("shared", document, 5).then(|| seed.below("viewer", document, self.users()))
    }

    fn group(&self, document: u64) -> Option<u64> {
        let seed = self.seed;
        seed.one_in("in a group", document, 20).then(|| seed.below("group", document, self.groups()))
    }

    fn is_public(&self, document: u64) -> bool {
        self.seed.one_in("public", document, 1_000)
    }

    fn folder_owner(&self, folder: u64) -> Option<u64> {
        let seed = self.seed;
        (above(folder).is_some() && seed.one_in("owned", folder, 3))
            .then(|| seed.below("folder's owner", folder, self.users()))
    }

    fn folder_group(&self, folder: u64) -> Option<u64> {
        let seed = self.seed;
        (above(folder).is_some() && seed.one_in("for a group", folder, 3))
            .then(|| seed.below("folder's group", folder, self.groups()))
    }

    fn folder_department(&self, folder: u64) -> Option<u64> {
        let seed = self.seed;
        (above(folder).is_some() && seed.one_in("for a department", folder, 40))
            .then(|| seed.below("folder's department", folder, self.departments()))
    }

    /// The first, and a second that may be the same.
    fn groups_of(&self, user: u64) -> [u64; 2] {
        [user % self.groups(), self.seed.below("second group", user, self.groups())]
    }

    fn is_in(&self, user: u64, group: u64) -> bool {
        self.groups_of(user).contains(&group)
    }

    fn is_in_department(&self, user: u64, department: u64) -> bool {
        self.groups_of(user).iter().any(|group| group % self.departments() == department)
    }

    fn edits(&self, user: u64, document: u64) -> bool {
        self.owner(document) == user || self.folders_of(document).any(|one| self.folder_owner(one) == Some(user))
    }

    fn views(&self, user: u64, document: u64) -> bool {
        self.edits(user, document)
            || self.is_public(document)
            || self.viewer(document) == Some(user)
            || self.group(document).is_some_and(|group| self.is_in(user, group))
            || self.folders_of(document).any(|folder| {
                self.folder_group(folder).is_some_and(|group| self.is_in(user, group))
                    || self.folder_department(folder).is_some_and(|one| self.is_in_department(user, one))
            })
    }
}

fn above(folder: u64) -> Option<u64> {
    (folder >= FANOUT).then(|| folder / FANOUT - 1)
}

impl World for Drive {
    fn schema(&self) -> &'static str {
        SCHEMA
    }

    fn tuples(&self, each: Each<'_>) -> io::Result<()> {
        for group in 0..self.groups() {
            each(format_args!("group:d{}#member@group:g{group}#member", group % self.departments()))?;
        }
        for user in 0..self.users() {
            let [first, second] = self.groups_of(user);
            each(format_args!("group:g{first}#member@user:u{user}"))?;
            if second != first {
                each(format_args!("group:g{second}#member@user:u{user}"))?;
            }
        }
        for folder in 0..self.folders() {
            if let Some(above) = above(folder) {
                each(format_args!("folder:f{folder}#parent@folder:f{above}"))?;
            }
            if let Some(owner) = self.folder_owner(folder) {
                each(format_args!("folder:f{folder}#owner@user:u{owner}"))?;
            }
            if let Some(group) = self.folder_group(folder) {
                each(format_args!("folder:f{folder}#viewer@group:g{group}#member"))?;
            }
            if let Some(department) = self.folder_department(folder) {
                each(format_args!("folder:f{folder}#viewer@group:d{department}#member"))?;
            }
        }
        for document in 0..self.documents {
            each(format_args!("document:x{document}#parent@folder:f{}", self.folder(document)))?;
            each(format_args!("document:x{document}#owner@user:u{}", self.owner(document)))?;
            if let Some(viewer) = self.viewer(document) {
                each(format_args!("document:x{document}#viewer@user:u{viewer}"))?;
            }
            if let Some(group) = self.group(document) {
                each(format_args!("document:x{document}#viewer@group:g{group}#member"))?;
            }
            if self.is_public(document) {
                each(format_args!("document:x{document}#viewer@user:*"))?;
            }
        }
        Ok(())
    }

    fn parts(&self) -> Vec<String> {
        vec!["view".to_owned(), "edit".to_owned()]
    }

    fn ask(&self, draw: &mut Draw, part: Option<usize>) -> Asked {
        let document = draw.below(self.documents);
        let somebody = draw.below(self.users());
        let groups = self.folders_of(document).filter_map(|folder| self.folder_group(folder));
        let user = match draw.below(8) {
            0 => self.owner(document),
            1 => self.viewer(document).unwrap_or(somebody),
            2 => self.folders_of(document).find_map(|folder| self.folder_owner(folder)).unwrap_or(somebody),
            // The user whose number is a group's is in it.
            3 | 4 => groups.last().filter(|group| *group < self.users()).unwrap_or(somebody),
            _ => somebody,
        };
        let is_edit = part.map_or(draw.one_in(3), |part| part == 1);
        let (permission, allowed) =
            if is_edit { ("edit", self.edits(user, document)) } else { ("view", self.views(user, document)) };
        Asked::of(format!("document:x{document}"), permission, format!("user:u{user}"), allowed)
    }

    fn list(&self, draw: &mut Draw, part: Option<usize>) -> Listing {
        let user = draw.below(self.users());
        let is_view = part.map_or(draw.one_in(3), |part| part == 0);
        let has = |document: &u64| if is_view { self.views(user, *document) } else { self.edits(user, *document) };
        let name = |document: u64| format!("document:x{document}");
        let expected = (self.documents <= LISTED_MAX).then(|| (0..self.documents).filter(has).map(name).collect());
        let permission = if is_view { "view" } else { "edit" };
        Listing { object_type: "document", permission, subject: format!("user:u{user}"), via: None, expected }
    }

    /// On a folder above a document, as far up as there is one.
    fn grant(&self, number: u64) -> Grant {
        let document = self.seed.below("granted", number, self.documents);
        let top = self.folders_of(document).last().unwrap_or(0);
        let user = format!("user:fresh{number}");
        // Nobody new may view a public document for the first time.
        let (relation, permission) = if self.is_public(document) { ("owner", "edit") } else { ("viewer", "view") };
        Grant {
            tuple: format!("folder:f{top}#{relation}@{user}"),
            asked: Asked::of(format!("document:x{document}"), permission, user, true),
        }
    }
}
