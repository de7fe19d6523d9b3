//! Instants: seconds and nanoseconds in UTC, of the years 1 to 9999, written as RFC 3339.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;
use time::format_description::well_known::Rfc3339;

/// A point in time, with nanoseconds, of the years 1 to 9999 in UTC. Ordered; printed and parsed as RFC 3339.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp {
    seconds: i64,
    nanos: u32,
}

/// 0001-01-01T00:00:00Z in seconds since 1970.
const SECONDS_MIN: i64 = -62_135_596_800;
/// 9999-12-31T23:59:59Z in seconds since 1970.
const SECONDS_MAX: i64 = 253_402_300_799;

impl Timestamp {
    /// The latest instant there is: the end of the year 9999.
    pub const MAX: Timestamp = Timestamp { seconds: SECONDS_MAX, nanos: 999_999_999 };
    /// The earliest instant there is: the start of the year 1.
    pub const MIN: Timestamp = Timestamp { seconds: SECONDS_MIN, nanos: 0 };

    /// From seconds since 1970 and nanoseconds (0 to 999,999,999); `None` outside the years 1 to 9999.
    #[must_use]
    pub fn new(seconds: i64, nanos: u32) -> Option<Timestamp> {
        let in_range = (SECONDS_MIN..=SECONDS_MAX).contains(&seconds) && nanos < 1_000_000_000;
        in_range.then_some(Timestamp { seconds, nanos })
    }

    /// Whole seconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn seconds(self) -> i64 {
        self.seconds
    }

    /// Nanoseconds within the second.
    #[must_use]
    pub fn nanos(self) -> u32 {
        self.nanos
    }

    /// How long it is from `earlier` to here; nothing if that is later.
    #[must_use]
    pub fn since(self, earlier: Timestamp) -> Duration {
        let Ok(seconds) = u64::try_from(self.seconds - earlier.seconds) else { return Duration::ZERO };
        Duration::new(seconds, self.nanos).saturating_sub(Duration::new(0, earlier.nanos))
    }

    /// The instant so much later, at most the last there is.
    #[must_use]
    pub fn plus(self, by: Duration) -> Timestamp {
        let nanos = u64::from(self.nanos) + u64::from(by.subsec_nanos());
        let (carried, nanos) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
        let seconds = i64::try_from(by.as_secs().saturating_add(carried)).unwrap_or(i64::MAX);
        let nanos = u32::try_from(nanos).unwrap_or(0);
        Timestamp::new(self.seconds.saturating_add(seconds), nanos).unwrap_or(Timestamp::MAX)
    }

    /// The clock of the machine, clamped to the years 1 to 9999.
    #[must_use]
    pub fn from_system(now: std::time::SystemTime) -> Timestamp {
        match now.duration_since(std::time::UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_secs())
                .ok()
                .and_then(|seconds| Timestamp::new(seconds, since.subsec_nanos()))
                .unwrap_or(Timestamp::MAX),
            Err(_) => Timestamp { seconds: 0, nanos: 0 },
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instant = time::OffsetDateTime::from_unix_timestamp(self.seconds)
            .and_then(|whole| whole.replace_nanosecond(self.nanos))
            .map_err(|_| fmt::Error)?;
        f.write_str(&instant.format(&Rfc3339).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Timestamp {
    type Err = String;

    fn from_str(text: &str) -> Result<Timestamp, String> {
        let wrong =
            || format!("`{text}` is not an RFC 3339 instant of the years 1 to 9999, such as 2030-01-01T00:00:00Z");
        let instant = time::OffsetDateTime::parse(text, &Rfc3339).map_err(|_| wrong())?;
        Timestamp::new(instant.unix_timestamp(), instant.nanosecond()).ok_or_else(wrong)
    }
}

impl TryFrom<String> for Timestamp {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Timestamp> for String {
    fn from(at: Timestamp) -> String {
        at.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_between_two_instants_is_never_less_than_nothing() {
        let at = |seconds, nanos| Timestamp::new(seconds, nanos).unwrap();
        assert_eq!(at(10, 5).since(at(8, 9)), Duration::new(1, 999_999_996));
        assert_eq!(at(10, 5).since(at(10, 5)), Duration::ZERO);
        assert_eq!(at(10, 5).since(at(10, 6)), Duration::ZERO);
        assert_eq!(at(10, 5).since(at(11, 0)), Duration::ZERO);
        assert_eq!(Timestamp::MAX.since(Timestamp::MIN).as_secs(), 315_537_897_599);
    }

    #[test]
    fn a_later_instant_is_so_much_later_or_the_last() {
        let at = |seconds, nanos| Timestamp::new(seconds, nanos).unwrap();
        assert_eq!(at(8, 999_999_999).plus(Duration::new(1, 1)), at(10, 0));
        assert_eq!(at(8, 5).plus(Duration::ZERO), at(8, 5));
        assert_eq!(at(-1, 5).plus(Duration::new(1, 0)), at(0, 5));
        for long in [Duration::MAX, Duration::from_secs(u64::MAX), Duration::from_secs(1 << 62)] {
            assert_eq!(at(8, 5).plus(long), Timestamp::MAX);
        }
    }

    #[test]
    fn instants_survive_text() {
        for text in
            ["2030-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z", "1969-12-31T23:59:59.5Z"]
        {
            assert_eq!(text.parse::<Timestamp>().unwrap().to_string(), text);
        }
        assert_eq!("2030-01-01T02:00:00+02:00".parse::<Timestamp>().unwrap().to_string(), "2030-01-01T00:00:00Z");
        for bad in ["", "now", "2030-01-01", "2030-13-01T00:00:00Z", "-0001-01-01T00:00:00Z", "10000-01-01T00:00:00Z"] {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad}");
        }
    }
}
