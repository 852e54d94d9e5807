//! `Retry-After` (RFC 9110, section 10.2.3), read alike by the SDK and by the host, which includes this file.

use std::time::{Duration, SystemTime};

/// Longer waits count as this long, whatever a server says.
pub const MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Returns the wait that a value of `Retry-After` asks for, at most [`MAX`]; `None` if it is neither a number of
/// seconds nor a date in one of the three forms that every recipient must read (RFC 9110, section 5.6.7).
///
/// A fraction of a second, as Shopify sends it (`2.0`), is rounded up. `now` gives the time that a date is read
/// against; where it is unknown, a date says nothing.
pub fn parse(value: &str, now: impl FnOnce() -> Option<SystemTime>) -> Option<Duration> {
    let value = value.trim_matches([' ', '\t']);
    if value.starts_with(|first: char| first.is_ascii_digit()) {
        return seconds(value);
    }
    let until = date(value)?;
    // A date that has passed asks for no wait.
    Some(until.duration_since(now()?).unwrap_or_default().min(MAX))
}

/// Reads a date in any of the standard's three forms.
pub fn date(value: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(value).ok()
}

fn seconds(value: &str) -> Option<Duration> {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, "0"));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) {
        return None;
    }
    // Only too many digits are left to fail, and those are more than the limit.
    let whole: u64 = whole.parse().unwrap_or(u64::MAX);
    let up = u64::from(fraction.bytes().any(|digit| digit != b'0'));
    Some(Duration::from_secs(whole.saturating_add(up)).min(MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_the_standard_is_read_and_nothing_else() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").expect("a date");
        let day = MAX.as_secs();
        for (value, seconds) in [
            ("0", Some(0)),
            ("120", Some(120)),
            (" 7\t", Some(7)),
            ("007", Some(7)),
            ("2.0", Some(2)),
            ("1.001", Some(2)),
            ("86401", Some(day)),
            ("9999999999999999999999999", Some(day)),
            ("9999999999999999999999999.5", Some(day)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sunday, 06-Nov-94 08:50:37 GMT", Some(60)),
            ("Sun Nov  6 08:50:37 1994", Some(60)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(day)),
            ("Sun, 06 Nov 1994 08:49:36 GMT", Some(0)),
            ("", None),
            ("+600", None),
            ("-5", None),
            ("1e3", None),
            ("2.", None),
            (".5", None),
            ("2.0.0", None),
            ("1 2", None),
            ("0x10", None),
            ("٣", None),
            ("soon", None),
            ("1994-11-06T08:50:37Z", None),
            ("Sun, 06 Nov 1994 08:50:37", None),
        ] {
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(parse(value, || Some(now)), expected, "{value:?}");
        }
        assert_eq!(parse("Sun, 06 Nov 1994 08:50:37 GMT", || None), None);
        assert_eq!(parse("7", || None), Some(Duration::from_secs(7)));
    }
}
