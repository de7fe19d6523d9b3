//! More documents than fit in memory, with ids that follow no order, all asked about alike: what is asked next is never near.

use super::draw::{Draw, Seed};
use super::{Asked, Each, Grant, Listing, World};
use std::io;

/// Documents for each user and folder.
const PER_USER: u64 = 10;
const PER_FOLDER: u64 = 50;
/// Beyond so many documents, who may see which is not counted through for a list.
const LISTED_MAX: u64 = 20_000;

const SCHEMA: &str = "definition user {}

definition folder {
  relation viewer: user

  permission view = viewer
}

definition document {
  relation parent: folder

  relation viewer: user

  permission view = viewer + parent->view
}
";

/// So many documents.
pub struct Large {
    documents: u64,
    seed: Seed,
}

impl Large {
    pub fn new(documents: u64, seed: Seed) -> Large {
        Large { documents, seed }
    }

    fn users(&self) -> u64 {
        self.documents / PER_USER + 10
    }

    fn folders(&self) -> u64 {
        self.documents / PER_FOLDER + 1
    }

    /// Ids are numbers mixed up, and no two are the same: the mixing can be undone.
    fn document(&self, number: u64) -> String {
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        format!("document:{:016x}", mixed ^ (mixed >> 32))
    }

    fn folder(&self, document: u64) -> u64 {
        self.seed.below("folder", document, self.folders())
    }

    fn viewer(&self, document: u64) -> u64 {
        self.seed.below("viewer", document, self.users())
    }

    fn folder_viewer(&self, folder: u64) -> u64 {
        self.seed.below("folder's viewer", folder, self.users())
    }

    fn views(&self, user: u64, document: u64) -> bool {
        self.viewer(document) == user || self.folder_viewer(self.folder(document)) == user
    }
}

impl World for Large {
    fn schema(&self) -> &'static str {
        SCHEMA
    }

    fn tuples(&self, each: Each<'_>) -> io::Result<()> {
        for folder in 0..self.folders() {
            each(format_args!("folder:f{folder}#viewer@user:u{}", self.folder_viewer(folder)))?;
        }
        for number in 0..self.documents {
            let document = self.document(number);
            each(format_args!("{document}#parent@folder:f{}", self.folder(number)))?;
            each(format_args!("{document}#viewer@user:u{}", self.viewer(number)))?;
        }
        Ok(())
    }

    fn ask(&self, draw: &mut Draw, _part: Option<usize>) -> Asked {
        let document = draw.below(self.documents);
        let user = match draw.below(4) {
            0 => self.viewer(document),
            1 => self.folder_viewer(self.folder(document)),
            _ => draw.below(self.users()),
        };
        Asked::of(self.document(document), "view", format!("user:u{user}"), self.views(user, document))
    }

    fn list(&self, draw: &mut Draw, _part: Option<usize>) -> Listing {
        let user = draw.below(self.users());
        let has = |document: &u64| self.views(user, *document);
        let expected = (self.documents <= LISTED_MAX)
            .then(|| (0..self.documents).filter(has).map(|document| self.document(document)).collect());
        Listing { object_type: "document", permission: "view", subject: format!("user:u{user}"), via: None, expected }
    }

    /// Of the folder that a document lies in.
    fn grant(&self, number: u64) -> Grant {
        let document = self.seed.below("granted", number, self.documents);
        let user = format!("user:fresh{number}");
        Grant {
            tuple: format!("folder:f{}#viewer@{user}", self.folder(document)),
            asked: Asked::of(self.document(document), "view", user, true),
        }
    }
}
