//! Times as RFC 3339 has them (section 5.6), exactly. The host compiles this same file, so both read one grammar.

/// Microseconds since 1970-01-01T00:00:00Z of a `date-time`; what is finer is cut. `None` if the text is none.
///
/// A leap second is read as the second after it.
pub(crate) fn micros(text: &str) -> Option<i64> {
    let (head, rest) = text
        .as_bytes()
        .split_at_checked("2026-01-31T12:00:00".len())?;
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    // A lower-case `t` is as good; a blank is a habit of others.
    if !marks
        .iter()
        .all(|(at, mark)| head[*at].to_ascii_uppercase() == *mark)
    {
        return None;
    }
    let (year, month, day) = (
        number(&head[..4])?,
        number(&head[5..7])?,
        number(&head[8..10])?,
    );
    let (hour, minute) = (number(&head[11..13])?, number(&head[14..16])?);
    let second = number(&head[17..])?;
    let (fraction, zone) = fraction(rest)?;
    let east = minutes_east(zone)?;
    if !(1..=12).contains(&month) || !(1..=days_of(year, month)).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let minutes = (days(year, month, day) * 24 + hour) * 60 + minute - east;
    let seconds = minutes * 60 + second;
    // A month ends in UTC, so the local date is its last day or the first of the next.
    let ends_a_month = [days(year, month, 1), days(year, month + 1, 1)].map(|day| day * 86_400);
    if second == 60 && !ends_a_month.contains(&seconds) {
        return None;
    }
    Some(seconds * 1_000_000 + fraction)
}

/// The number of these digits, if they are digits alone.
fn number(digits: &[u8]) -> Option<i64> {
    let add = |sum: i64, digit: &u8| {
        digit
            .is_ascii_digit()
            .then(|| sum * 10 + i64::from(digit - b'0'))
    };
    digits.iter().try_fold(0, add)
}

/// Reads `time-secfrac` if there is one: microseconds, and what follows.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let Some((b'.', digits)) = text.split_first() else {
        return Some((0, text));
    };
    // Any number of digits, but at least one.
    let length = digits.iter().take_while(|b| b.is_ascii_digit()).count();
    let (digits, rest) = digits.split_at(length);
    let mut micros = [b'0'; 6];
    let kept = length.min(micros.len());
    micros[..kept].copy_from_slice(&digits[..kept]);
    (length > 0).then_some((number(&micros)?, rest))
}

/// Reads `time-offset`.
fn minutes_east(zone: &[u8]) -> Option<i64> {
    match zone {
        b"Z" | b"z" => Some(0),
        [sign @ (b'+' | b'-'), offset @ ..] if offset.len() == 5 && offset[2] == b':' => {
            let (hours, minutes) = (number(&offset[..2])?, number(&offset[3..])?);
            let east = hours * 60 + minutes;
            let valid = hours <= 23 && minutes <= 59;
            valid.then_some(if *sign == b'-' { -east } else { east })
        }
        _ => None,
    }
}

fn days_of(year: i64, month: i64) -> i64 {
    days(year, month + 1, 1) - days(year, month, 1)
}

/// Days from 1970-01-01 to a date in the Gregorian calendar. The month after December is the next January.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years are counted from March, so that a leap day is the last day of its year.
    let (months, leap_years) = (month + 9, year + (month + 9) / 12 - 1);
    // Of months from March on, 153 days to each five of them.
    let day_of_year = (153 * (months % 12) + 2) / 5 + day - 1;
    let leap_days =
        leap_years.div_euclid(4) - leap_years.div_euclid(100) + leap_years.div_euclid(400);
    // From 0000-03-01 to 1970-01-01.
    leap_years * 365 + leap_days + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::micros;

    #[test]
    fn takes_what_the_grammar_has() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01t00:00:00z", 0),
            ("1970-01-01T00:00:00-00:00", 0),
            ("1970-01-01T23:59:00+23:59", 0),
            ("1969-12-31T23:59:59.5Z", -500_000),
            ("2000-02-29T12:00:00Z", 951_825_600_000_000),
            ("2026-01-01T00:00:00.1234567890Z", 1_767_225_600_123_456),
            ("2026-01-01T02:00:00.5+02:00", 1_767_225_600_500_000),
            ("2026-12-31T23:59:60Z", 1_798_761_600_000_000),
            ("2027-01-01T00:59:60.25+01:00", 1_798_761_600_250_000),
            ("2026-06-30T18:59:60-05:00", 1_782_864_000_000_000),
            ("0000-01-01T00:00:00Z", -62_167_219_200_000_000),
            ("9999-12-31T23:59:59Z", 253_402_300_799_000_000),
        ] {
            assert_eq!(micros(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn takes_nothing_else() {
        for text in [
            "",
            "yesterday",
            "2026-01-01",
            "12:00",
            "2026-01-01T00Z",
            "2026-01-01T00:00Z",
            "20260101T000000Z",
            "2026-01-01 00:00:00Z",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00,5Z",
            "2026-01-01T00:00:00+0200",
            "2026-01-01T00:00:00+02",
            "2026-01-01T00:00:00+24:00",
            "2026-01-01T00:00:00+02:60",
            "2026-01-01T00:00:00+02:00[Nowhere/None]",
            "2026-01-01T00:00:00Z ",
            " 2026-01-01T00:00:00Z",
            "+002026-01-01T00:00:00Z",
            "-026-01-01T00:00:00Z",
            "2026-1-1T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-01-32T00:00:00Z",
            "2026-04-31T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "2026-01-01T00:00:61Z",
            // No month ends there.
            "2026-01-15T23:59:60Z",
            "2026-12-31T23:58:60Z",
            "2026-12-31T23:59:60+01:00",
            "2026-01-01T00:00:00é",
            "２026-01-01T00:00:00Z",
        ] {
            assert_eq!(micros(text), None, "{text}");
        }
    }
}
