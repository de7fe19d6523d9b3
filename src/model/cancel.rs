//! A question nobody waits for any more: set by whoever asked, read by the walk.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Shared between who asked and who works. Once set it stays set.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Nobody waits for the answer any more.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether work may stop.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
