//! The server's clock: injected, read once a request, and never going back.

use crate::model::Timestamp;
use std::sync::{Arc, Mutex, PoisonError};

/// Where the time comes from.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_system(std::time::SystemTime::now())
    }
}

/// max(now, last reading, time of the last commit): what has expired once stays expired.
pub(super) struct SteadyClock {
    inner: Arc<dyn Clock>,
    last: Mutex<Timestamp>,
}

impl SteadyClock {
    pub(super) fn new(inner: Arc<dyn Clock>) -> SteadyClock {
        SteadyClock { inner, last: Mutex::new(Timestamp::MIN) }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.not_before(self.inner.now())
    }

    /// Later readings are not before `at`.
    pub(super) fn not_before(&self, at: Timestamp) -> Timestamp {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = at.max(*last);
        *last
    }
}
