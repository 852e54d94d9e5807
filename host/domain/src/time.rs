//! Instants, exact to the microsecond.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use jiff::{SignedDuration, civil::DateTime};

use crate::rfc3339;

/// An instant, exact to the microsecond: the finest unit that PostgreSQL and SQLite both keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(i64);

/// The beginning of the year 0000 and the end of 9999.
const FIRST_MICROS: i64 = -62_167_219_200_000_000;
const LAST_MICROS: i64 = 253_402_300_799_999_999;

impl Time {
    /// Microseconds since 1970-01-01T00:00:00Z.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970-01-01T00:00:00Z, as webhook timestamps want them.
    pub const fn as_seconds(self) -> i64 {
        // `/` would round towards 1970, and before it that is up.
        self.0.div_euclid(1_000_000)
    }

    /// The same as the standard library has it; 1970 for what is earlier.
    pub fn to_system(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(self.0).unwrap_or(0))
    }

    /// Reads RFC 3339, cutting what is finer than a microsecond. `None` if the text is not RFC 3339.
    pub fn parse(text: &str) -> Option<Self> {
        // Offsets lead out of the four digits of a year, and then the time could not be shown.
        rfc3339::micros(text).map(|micros| Self(micros.clamp(FIRST_MICROS, LAST_MICROS)))
    }

    /// RFC 3339 in UTC with all six digits: text that reads as the same instant.
    pub fn to_exact_text(self) -> String {
        self.civil()
            .map_or_else(|| self.to_string(), |at| format!("{at:.6}Z"))
    }

    /// Date and time of day in UTC; `None` outside the years -9999 to 9999.
    fn civil(self) -> Option<DateTime> {
        let epoch = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
        epoch.checked_add(SignedDuration::from_micros(self.0)).ok()
    }

    /// Returns the time from `earlier` to this; zero if it is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl std::ops::Add<Duration> for Time {
    type Output = Self;
    fn add(self, by: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)),
        )
    }
}

impl std::ops::Sub<Duration> for Time {
    type Output = Self;
    fn sub(self, by: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)),
        )
    }
}

/// RFC 3339 in UTC with milliseconds, `2024-01-01T12:00:00.000Z`: the one form that clients and plugins see.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.civil() {
            Some(at) => write!(f, "{at:.3}Z"),
            // An error here would make `to_string` panic.
            None => write!(f, "{}us", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_milliseconds_always() {
        for (text, shown) in [
            ("2024-01-01T12:00:00Z", "2024-01-01T12:00:00.000Z"),
            ("2024-01-01T12:00:00.1239999Z", "2024-01-01T12:00:00.123Z"),
            ("2024-01-01T14:00:00.5+02:00", "2024-01-01T12:00:00.500Z"),
            ("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59.500Z"),
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59.000Z"),
            ("9999-12-31T23:59:59-12:00", "9999-12-31T23:59:59.999Z"),
            ("0000-01-01T00:00:00+12:00", "0000-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(
                Time::parse(text).map(|t| t.to_string()).as_deref(),
                Some(shown)
            );
        }
        for text in ["", "2024-01-01", "12:00", "2024-13-01T00:00:00Z"] {
            assert_eq!(Time::parse(text), None, "{text}");
        }
    }

    #[test]
    fn exact_text_is_the_same_instant() {
        for micros in [0, -1, 1_767_225_600_123_456, FIRST_MICROS, LAST_MICROS] {
            let at = Time::from_micros(micros);
            assert_eq!(Time::parse(&at.to_exact_text()), Some(at), "{micros}");
        }
    }

    #[test]
    fn since_never_goes_below_zero() {
        let (early, late) = (Time::from_micros(1), Time::from_micros(5));
        assert_eq!(late.since(early), Duration::from_micros(4));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(early + Duration::from_micros(4), late);
        assert_eq!(late - Duration::from_micros(4), early);
    }
}
