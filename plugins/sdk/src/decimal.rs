//! Exact decimals out of JSON numbers: no float is made on the way.

/// Digits before the point, and after it, of an amount in the contract.
const MAX_WHOLE: i64 = 15;
const MAX_PLACES: i64 = 6;

/// A JSON number, as it is written, as the plain decimal that the contract wants: `1.0E7` is `10000000` and `12.5000000` is
/// `12.5`. One that is plain already keeps its digits: `12.50` is `12.50`.
///
/// `None` for what is no JSON number, is negative, or needs more than 15 digits before the point or 6 after it.
///
/// ```
/// use wharf_plugin_sdk::decimal;
///
/// assert_eq!(decimal::plain("1.0E7").as_deref(), Some("10000000"));
/// assert_eq!(decimal::plain("0.1234567"), None);
/// ```
pub fn plain(number: &str) -> Option<String> {
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (number, None),
    };
    let (whole, places) = match mantissa.split_once('.') {
        Some((whole, places)) => (whole, Some(places)),
        None => (mantissa, None),
    };
    // RFC 8259, section 6: no needless zeros in front, and a digit on each side of a point.
    let is_number = is_digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && places.is_none_or(is_digits);
    if !is_number {
        return None;
    }
    let places = places.unwrap_or_default();
    let (before, after) = (whole.len() as i64, places.len() as i64);
    if exponent.is_none() && before <= MAX_WHOLE && after <= MAX_PLACES {
        return Some(number.to_owned());
    }
    let digits = format!("{whole}{places}");
    let significant = digits.trim_start_matches('0');
    let leading = (digits.len() - significant.len()) as i64;
    let shift = exponent.map_or(Some(Some(0)), shift)?;
    if significant.is_empty() {
        return Some("0".into());
    }
    moved(significant.trim_end_matches('0'), before - leading + shift?)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// The value of an exponent; inside, `None` for one that no amount has. Outside, `None` for what is no exponent.
fn shift(exponent: &str) -> Option<Option<i64>> {
    let (negative, digits) = match exponent.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, exponent.strip_prefix('+').unwrap_or(exponent)),
    };
    if !is_digits(digits) {
        return None;
    }
    let value = digits.parse::<i32>().ok().map(i64::from);
    Some(value.map(|value| if negative { -value } else { value }))
}

/// Digits, the first and the last of them not 0, with the point after so many of them.
fn moved(digits: &str, point: i64) -> Option<String> {
    let places = (digits.len() as i64 - point).max(0);
    // Before any zeros are written: an exponent may ask for two thousand million of them.
    if point > MAX_WHOLE || places > MAX_PLACES {
        return None;
    }
    let zeros = |count: i64| "0".repeat(usize::try_from(count).unwrap_or_default());
    let at = usize::try_from(point).unwrap_or_default().min(digits.len());
    let (whole, after) = digits.split_at(at);
    let whole = match whole {
        "" => "0".to_owned(),
        whole => format!("{whole}{}", zeros(point - digits.len() as i64)),
    };
    Some(match after {
        "" => whole,
        after => format!("{whole}.{}{after}", zeros(-point)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_plain_decimals() {
        for (number, decimal) in [
            ("12.50", "12.50"),
            ("0.0", "0.0"),
            ("10000000", "10000000"),
            ("1.0E7", "10000000"),
            ("12.5e0", "12.5"),
            ("12.5000000", "12.5"),
            ("100.0000000", "100"),
            ("1e+3", "1000"),
            ("1234.5E-2", "12.345"),
            ("1E-6", "0.000001"),
            ("0.0000010e0", "0.000001"),
            ("1.5e14", "150000000000000"),
            ("0e99999999999", "0"),
            ("0.00000000", "0"),
            ("1000000000000000e-3", "1000000000000"),
        ] {
            assert_eq!(plain(number).as_deref(), Some(decimal), "{number}");
        }
    }

    #[test]
    fn what_is_no_amount_is_none() {
        for number in [
            "",
            "-1",
            "+1",
            "01",
            "1.",
            ".5",
            "1e",
            "1e+",
            "e5",
            "1.e5",
            "NaN",
            "1,5",
            "\"1\"",
            "1 ",
            "null",
            "1e5e5",
            "0x10",
            "1e15",
            "1e-7",
            "0.1234567",
            "1000000000000000",
            "1e99999999999",
            "1e2000000000",
            "1e-2000000000",
        ] {
            assert_eq!(plain(number), None, "{number}");
        }
    }
}
