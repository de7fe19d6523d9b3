//! Narrowing a delegation: a further clause, an earlier end, or both.
//!
//! INVARIANT: what a narrowed delegation allows, the original would, at any later state of the data: clauses are only
//! added, and in every clause some item must match. Its id in an old record so always means "at most this".

use super::Refusal;
use super::grant::{clause_of, refuse_bad_interval};
use crate::model::{Delegation, RefusalReason, ScopeItem, Timestamp};

/// What a delegation is to be narrowed to, beside what it says already.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Narrowing {
    /// Of the further clause, their permissions frozen; none when it stays as it is.
    pub items: Vec<ScopeItem>,
    /// `None`: the end stays.
    pub expires_at: Option<Timestamp>,
}

impl Narrowing {
    /// The record after it, or the refusal. What is revoked is not changed any more.
    pub fn judge(self, of: &Delegation) -> Result<Delegation, Refusal> {
        let mut record = of.clone();
        if of.revoked.is_some() {
            let message = format!("`{}` is revoked, which is final", of.id);
            return Err(Refusal::new(RefusalReason::ParentNotLive, "id", of.id, message));
        }
        if let Some(end) = self.expires_at {
            if end > of.expires_at {
                let message = format!("`{}` ends at {}; a narrowing only ends it earlier", of.id, of.expires_at);
                return Err(Refusal::new(RefusalReason::Widens, "expires_at", end, message)
                    .with_hint("make a new delegation to widen one"));
            }
            record.expires_at = end;
        }
        if self.items.is_empty() && record.expires_at == of.expires_at {
            let message = "nothing would be narrowed; give items, or an earlier end";
            return Err(Refusal::new(RefusalReason::EmptyScope, "items", "", message));
        }
        refuse_bad_interval(&record)?;
        if !self.items.is_empty() {
            record.clauses.push(clause_of(self.items)?);
        }
        record.version = of.version.saturating_add(1);
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{at, clause, first, item};
    use super::*;
    use crate::model::Revoked;

    fn narrowed(items: Vec<ScopeItem>, expires_at: Option<i64>) -> Result<Delegation, RefusalReason> {
        let of = first(1, "user:rita", "agent:bot", 1);
        Narrowing { items, expires_at: expires_at.map(at) }.judge(&of).map_err(|refusal| refusal.reason)
    }

    #[test]
    fn a_narrowing_adds_a_clause_or_an_earlier_end_and_changes_nothing_else() {
        let of = first(1, "user:rita", "agent:bot", 1);
        let read = || item(&["invoice#read"], &["invoice:10"]);
        let made = narrowed(vec![read()], Some(500)).unwrap();
        let due = Delegation {
            clauses: vec![of.clauses[0].clone(), clause([read()])],
            expires_at: at(500),
            version: 1,
            ..of.clone()
        };
        assert_eq!(made, due);
        assert_eq!(narrowed(vec![read()], None).unwrap().expires_at, of.expires_at);
        assert_eq!(narrowed(vec![], Some(999)).unwrap().clauses, of.clauses);
        assert_eq!(narrowed(vec![read()], Some(1_000)).unwrap().expires_at, of.expires_at);
    }

    #[test]
    fn a_later_end_widens_and_nothing_narrows_nothing() {
        let read = || item(&["invoice#read"], &["invoice:9"]);
        assert_eq!(narrowed(vec![], Some(1_001)), Err(RefusalReason::Widens));
        assert_eq!(narrowed(vec![read()], Some(1_001)), Err(RefusalReason::Widens));
        assert_eq!(narrowed(vec![], None), Err(RefusalReason::EmptyScope));
        assert_eq!(narrowed(vec![], Some(1_000)), Err(RefusalReason::EmptyScope));
        assert_eq!(narrowed(vec![], Some(0)), Err(RefusalReason::BadInterval));
        assert_eq!(narrowed(vec![read(), read()], None), Err(RefusalReason::DuplicateItem));
        assert_eq!(narrowed(vec![item(&["invoice#read"], &[])], None), Err(RefusalReason::EmptyScope));
    }

    #[test]
    fn what_is_revoked_stays_as_it_is() {
        let revoked = Some(Revoked { at: at(1), reason: String::new() });
        let of = Delegation { revoked, ..first(1, "user:rita", "agent:bot", 1) };
        let refused = Narrowing { items: Vec::new(), expires_at: Some(at(5)) }.judge(&of).unwrap_err();
        assert_eq!(refused.reason, RefusalReason::ParentNotLive);
    }
}
