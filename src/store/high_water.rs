//! The high-water mark: a small file beside the database that remembers how far it once was.
//!
//! Even the strictest recovery of a write-ahead log cannot tell a log that ends early from one whose end was lost. The
//! mark can: a database that does not hold the marked revision, with the marked hash, is refused. The mark is written
//! each 100 ms and at close, so what it does not cover is the last 100 ms before a crash.
//!
//! ```text
//! revision u64 · seal 32 bytes · SHA-256 of both, first 8 bytes
//! ```

use super::error::Error;
use super::keys::read_u64;
use crate::model::Revision;
use aws_lc_rs::digest::{SHA256, digest};
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::Path;

const FILE: &str = "high-water";
const FILE_NEW: &str = "high-water.new";
const BYTES: usize = 8 + 32 + 8;

/// How far the database was, and the hash of its changelog there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HighWater {
    pub revision: Revision,
    pub seal: [u8; 32],
}

impl HighWater {
    /// The mark in the folder; `None` in one that never had any.
    pub fn read(folder: &Path) -> Result<Option<HighWater>, Error> {
        let bytes = match fs::read(folder.join(FILE)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let corrupt = || Error::Corrupt(format!("the file `{FILE}`"));
        let bytes: [u8; BYTES] = bytes.try_into().map_err(|_| corrupt())?;
        let (payload, check) = bytes.split_at(40);
        if digest(&SHA256, payload).as_ref().get(..8) != Some(check) {
            return Err(corrupt());
        }
        let seal = payload.last_chunk::<32>().ok_or_else(corrupt)?;
        Ok(Some(HighWater { revision: Revision(read_u64(payload, 0)?), seal: *seal }))
    }

    /// Replaces the mark, synced: written beside, then renamed, so that a crash leaves the old or the new one.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        let mut bytes = self.revision.0.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.seal);
        let check = digest(&SHA256, &bytes);
        bytes.extend_from_slice(check.as_ref().get(..8).unwrap_or_default());
        let mut file = File::create(folder.join(FILE_NEW))?;
        file.write_all(&bytes)?;
        file.sync_data()?;
        fs::rename(folder.join(FILE_NEW), folder.join(FILE))?;
        File::open(folder)?.sync_all()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_survives_and_damage_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(HighWater::read(folder.path()).unwrap(), None);
        let mark = HighWater { revision: Revision(7), seal: [9; 32] };
        mark.write(folder.path()).unwrap();
        assert_eq!(HighWater::read(folder.path()).unwrap(), Some(mark));
        let mut bytes = fs::read(folder.path().join(FILE)).unwrap();
        bytes[3] ^= 1;
        fs::write(folder.path().join(FILE), bytes).unwrap();
        assert!(HighWater::read(folder.path()).is_err());
    }
}
