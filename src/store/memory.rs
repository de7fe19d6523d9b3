//! How many bytes may be held in memory of what the store has on disk. Whoever holds some takes them from here first, and
//! does without when there are none left: every answer is the same, only slower.

use std::sync::atomic::{AtomicU64, Ordering};

/// The bytes that may be held, and those that are.
#[derive(Debug)]
pub struct Memory {
    bytes_max: u64,
    held: AtomicU64,
}

impl Memory {
    /// As many bytes as this.
    #[must_use]
    pub fn of(bytes_max: u64) -> Memory {
        Memory { bytes_max, held: AtomicU64::new(0) }
    }

    /// Takes bytes, if there are as many left.
    #[must_use]
    pub fn take(&self, bytes: u64) -> bool {
        let taken = self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
            held.checked_add(bytes).filter(|held| *held <= self.bytes_max)
        });
        taken.is_ok()
    }

    /// Takes bytes that are held already, whether there are as many left or not; whoever looks makes room.
    pub fn grow(&self, bytes: u64) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives bytes back.
    pub fn give_back(&self, bytes: u64) {
        let _ = self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| Some(held.saturating_sub(bytes)));
    }

    /// Bytes held.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Bytes that may be held.
    #[must_use]
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Whether more is held than may be.
    #[must_use]
    pub fn is_exceeded(&self) -> bool {
        self.held() > self.bytes_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_taken_than_there_is() {
        let memory = Memory::of(100);
        assert!(memory.take(60) && !memory.take(41) && memory.take(40));
        assert_eq!((memory.held(), memory.is_exceeded()), (100, false));
        memory.grow(1);
        assert!(memory.is_exceeded());
        memory.give_back(61);
        assert!(memory.take(60) && !memory.take(1));
        assert!(!Memory::of(0).take(1) && Memory::of(0).take(0));
    }
}
