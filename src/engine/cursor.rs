//! Cursors: where a list or a read stopped, for whoever goes on later, at a revision not older.
//!
//! ```text
//! base64url of: version u8 · revision u64 · position · check 8 bytes
//! ```
//! The check covers the database and what was asked, so that a cursor of another is refused. It is no secret: a cursor
//! shows nothing that a caller who may ask could not ask.

use super::{Error, Kind};
use crate::model::{ConsistencyToken, ObjectRef, Revision};
use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 1 + 8;
const CHECK_BYTES: usize = 8;

/// Closes and opens the cursors of one question over one database.
pub(super) struct CursorSeal {
    /// Over the database and what was asked. A list closes a cursor a row, and what was asked may be long.
    begun: Context,
}

impl CursorSeal {
    /// `scope` is what was asked, as text that differs where the question does.
    pub(super) fn new(token: ConsistencyToken, scope: &str) -> CursorSeal {
        let mut begun = Context::new(&SHA256);
        begun.update(&token.database);
        begun.update(&token.incarnation.to_be_bytes());
        begun.update(&(scope.len() as u64).to_be_bytes());
        begun.update(scope.as_bytes());
        CursorSeal { begun }
    }

    fn check(&self, payload: &[u8]) -> [u8; CHECK_BYTES] {
        let mut hash = self.begun.clone();
        hash.update(payload);
        let mut check = [0; CHECK_BYTES];
        check.copy_from_slice(hash.finish().as_ref().get(..CHECK_BYTES).unwrap_or(&[0; CHECK_BYTES]));
        check
    }

    /// The cursor that resumes after `position`.
    pub(super) fn close(&self, revision: Revision, position: &[u8]) -> String {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + position.len() + CHECK_BYTES);
        bytes.push(VERSION);
        bytes.extend_from_slice(&revision.0.to_be_bytes());
        bytes.extend_from_slice(position);
        let check = self.check(&bytes);
        bytes.extend_from_slice(&check);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The position in a cursor. Refused: one that was changed, of another question or database, or of a revision
    /// later than `newest`, the one that is read.
    pub(super) fn open<const N: usize>(&self, text: &str, newest: Revision) -> Result<[u8; N], Error> {
        self.opened(text, newest, |position| position.try_into().ok())
    }

    /// As `open`, of a position that is an object's text.
    pub(super) fn open_text(&self, text: &str, newest: Revision) -> Result<ObjectRef, Error> {
        self.opened(text, newest, |position| std::str::from_utf8(position).ok()?.parse().ok())
    }

    fn opened<T>(&self, text: &str, newest: Revision, read: impl FnOnce(&[u8]) -> Option<T>) -> Result<T, Error> {
        let foreign = || {
            Error::invalid("cursor", text, "not a cursor of this question and database")
                .with_hint("give the cursor of a row that the same question returned")
        };
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| foreign())?;
        let (payload, check) = bytes.split_last_chunk::<CHECK_BYTES>().ok_or_else(foreign)?;
        let (head, position) = payload.split_first_chunk::<HEAD_BYTES>().ok_or_else(foreign)?;
        let position = read(position).ok_or_else(foreign)?;
        let [version, revision @ ..] = *head;
        if version != VERSION || self.check(payload) != *check {
            return Err(foreign());
        }
        if Revision(u64::from_be_bytes(revision)) > newest {
            let message = "the cursor is from a later revision than the one asked for";
            return Err(Error::new(Kind::OutOfRange, "CURSOR_AHEAD", message).with_fact("field", "cursor"));
        }
        Ok(position)
    }
}
