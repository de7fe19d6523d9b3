//! Documents whose editors must be approved, cleared by a caveat, members of every organisation, and not banned.

use super::draw::{Draw, Seed};
use super::{Asked, Each, Grant, Listing, World};
use crate::model::Decision;
use std::cmp::{max, min};
use std::io;

/// Documents of a division, which has people and organisations of its own.
const DIVISION: u64 = 50;
const USERS: u64 = 8;
const ORGS: u64 = 4;
/// Of each document.
const EDITORS: u64 = 3;
/// How high a clearance may be needed.
const LEVELS: u64 = 5;
/// Beyond so many documents, who may do what is not counted through for a list.
const LISTED_MAX: u64 = 20_000;
const PERMISSIONS: [&str; 2] = ["edit", "publish"];

const SCHEMA: &str = "caveat cleared(level int, needed int) {
  level >= needed
}

definition user {}

definition org {
  relation member: user

  relation banned: user
}

definition document {
  relation org: org

  relation editor: user | user with cleared

  relation approved: user | user:*

  relation banned: user

  permission edit = (editor & approved) - banned

  permission publish = (edit & org.all(member)) - org->banned
}
";

/// Kleene's three values: no, unknown, yes. `min` is and, `max` is or.
const NO: u8 = 0;
const UNKNOWN: u8 = 1;
const YES: u8 = 2;

fn yes(is_so: bool) -> u8 {
    if is_so { YES } else { NO }
}

fn but_not(value: u8, taken: u8) -> u8 {
    min(value, YES - taken)
}

/// So many documents.
pub struct Boolean {
    documents: u64,
    seed: Seed,
}

impl Boolean {
    pub fn new(documents: u64, seed: Seed) -> Boolean {
        Boolean { documents, seed }
    }

    fn divisions(&self) -> u64 {
        self.documents.div_ceil(DIVISION)
    }

    fn somebody(&self, draw: &mut Draw) -> u64 {
        draw.below(self.divisions() * USERS)
    }

    /// They stand next to each other in the division, so none is drawn twice.
    fn editor(&self, document: u64, place: u64) -> u64 {
        document / DIVISION * USERS + (self.seed.below("editor", document, USERS) + place) % USERS
    }

    /// What clearance this editor needs, if any.
    fn needed(&self, document: u64, place: u64) -> Option<u64> {
        let row = document * EDITORS + place;
        self.seed.one_in("cleared", row, 2).then(|| 1 + self.seed.below("needed", row, LEVELS))
    }

    fn all_approved(&self, document: u64) -> bool {
        self.seed.one_in("all approved", document, 3)
    }

    /// The first editor, of some.
    fn bans_first(&self, document: u64) -> bool {
        self.seed.one_in("bans", document, 4)
    }

    /// One of the division, or it and the next.
    fn orgs_of(&self, document: u64) -> Vec<u64> {
        let org = self.seed.below("org", document, ORGS);
        let second = self.seed.one_in("second org", document, 3).then(|| (org + 1) % ORGS);
        std::iter::once(org).chain(second).map(|org| document / DIVISION * ORGS + org).collect()
    }

    /// Of those of its division: of all but one, or of all.
    fn is_member(&self, user: u64, org: u64) -> bool {
        user / USERS == org / ORGS && org % ORGS != self.seed.below("outside", user, ORGS + 2)
    }

    fn is_banned(&self, user: u64, org: u64) -> bool {
        user / USERS == org / ORGS && org % ORGS == user % ORGS && self.seed.one_in("banned", user, 10)
    }

    fn edits(&self, user: u64, document: u64, level: Option<u64>) -> u8 {
        let mut editor = NO;
        for place in (0..EDITORS).filter(|place| self.editor(document, *place) == user) {
            let value = match (self.needed(document, place), level) {
                (None, _) => YES,
                (Some(_), None) => UNKNOWN,
                (Some(needed), Some(level)) => yes(level >= needed),
            };
            editor = max(editor, value);
        }
        let approved =
            self.all_approved(document) || user == self.editor(document, 0) || user == self.editor(document, 1);
        let banned = self.bans_first(document) && user == self.editor(document, 0);
        but_not(min(editor, yes(approved)), yes(banned))
    }

    fn publishes(&self, user: u64, document: u64, level: Option<u64>) -> u8 {
        let orgs = self.orgs_of(document);
        let member = orgs.iter().all(|org| self.is_member(user, *org));
        let banned = orgs.iter().any(|org| self.is_banned(user, *org));
        but_not(min(self.edits(user, document, level), yes(member)), yes(banned))
    }

    fn may(&self, user: u64, permission: usize, document: u64, level: Option<u64>) -> Decision {
        let value = match permission {
            0 => self.edits(user, document, level),
            _ => self.publishes(user, document, level),
        };
        match value {
            NO => Decision::Deny,
            UNKNOWN => Decision::Conditional,
            _ => Decision::Allow,
        }
    }
}

impl World for Boolean {
    fn schema(&self) -> &'static str {
        SCHEMA
    }

    fn tuples(&self, each: Each<'_>) -> io::Result<()> {
        for user in 0..self.divisions() * USERS {
            for org in (0..ORGS).map(|org| user / USERS * ORGS + org) {
                if self.is_member(user, org) {
                    each(format_args!("org:o{org}#member@user:u{user}"))?;
                }
                if self.is_banned(user, org) {
                    each(format_args!("org:o{org}#banned@user:u{user}"))?;
                }
            }
        }
        for document in 0..self.documents {
            for org in self.orgs_of(document) {
                each(format_args!("document:x{document}#org@org:o{org}"))?;
            }
            for place in 0..EDITORS {
                let editor = self.editor(document, place);
                match self.needed(document, place) {
                    None => each(format_args!("document:x{document}#editor@user:u{editor}"))?,
                    Some(needed) => each(format_args!(
                        "document:x{document}#editor@user:u{editor}[cleared:{{\"needed\":{needed}}}]"
                    ))?,
                }
            }
            if self.all_approved(document) {
                each(format_args!("document:x{document}#approved@user:*"))?;
            } else {
                for place in 0..2 {
                    each(format_args!("document:x{document}#approved@user:u{}", self.editor(document, place)))?;
                }
            }
            if self.bans_first(document) {
                each(format_args!("document:x{document}#banned@user:u{}", self.editor(document, 0)))?;
            }
        }
        Ok(())
    }

    fn parts(&self) -> Vec<String> {
        PERMISSIONS.map(str::to_owned).to_vec()
    }

    fn ask(&self, draw: &mut Draw, part: Option<usize>) -> Asked {
        let permission = part.unwrap_or(draw.below(PERMISSIONS.len() as u64) as usize);
        let document = draw.below(self.documents);
        let user = if draw.one_in(5) { self.somebody(draw) } else { self.editor(document, draw.below(EDITORS)) };
        let level = (!draw.one_in(3)).then(|| draw.below(LEVELS + 2));
        Asked {
            object: format!("document:x{document}"),
            permission: PERMISSIONS.get(permission).copied().unwrap_or("edit"),
            subject: format!("user:u{user}"),
            via: None,
            context: level.map(|level| format!("{{\"level\":{level}}}")),
            expected: self.may(user, permission, document, level),
        }
    }

    /// Nothing is given, so some of it hangs on the clearance.
    fn list(&self, draw: &mut Draw, part: Option<usize>) -> Listing {
        let permission = part.unwrap_or(draw.below(PERMISSIONS.len() as u64) as usize);
        let user = self.somebody(draw);
        let has = |document: &u64| self.may(user, permission, *document, None) != Decision::Deny;
        let name = |document: u64| format!("document:x{document}");
        let expected = (self.documents <= LISTED_MAX).then(|| (0..self.documents).filter(has).map(name).collect());
        Listing {
            object_type: "document",
            permission: PERMISSIONS.get(permission).copied().unwrap_or("edit"),
            subject: format!("user:u{user}"),
            via: None,
            expected,
        }
    }

    /// An editor of a document for which all are approved.
    fn grant(&self, number: u64) -> Grant {
        let from = number % self.documents.max(1);
        let all = (from..self.documents).chain(0..from);
        let found = { all }.find(|document| self.all_approved(*document));
        let user = format!("user:fresh{number}");
        match found {
            Some(document) => Grant {
                tuple: format!("document:x{document}#editor@{user}"),
                asked: Asked::of(format!("document:x{document}"), "edit", user, true),
            },
            None => Grant {
                tuple: format!("org:o0#member@{user}"),
                asked: Asked::of("org:o0".to_owned(), "member", user, true),
            },
        }
    }
}
