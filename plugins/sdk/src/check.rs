//! Checking what a marketplace said before the host does.

use crate::adapter::{Fault, Order};

impl Order {
    /// The order itself, if the contract allows it. The host counts a broken order against the plugin; an adapter that
    /// checks first lays it where it belongs, at the marketplace's door.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] naming what is wrong.
    pub fn checked(self) -> Result<Self, Fault> {
        let wrong = |what: &str, value: &str| {
            let shown: String = value.chars().take(40).collect();
            Err(Fault::Unavailable(format!(
                "the marketplace's answer makes no sense: {what} {shown:?}"
            )))
        };
        if self.id.contains('\0') || !(1..=255).contains(&self.id.chars().count()) {
            wrong("the order's id", &self.id)
        } else if !is_amount(&self.amount) {
            wrong("the amount", &self.amount)
        } else if self.currency.len() != 3 || !self.currency.bytes().all(|b| b.is_ascii_uppercase())
        {
            wrong("the currency", &self.currency)
        } else if !is_time(&self.imported_at) {
            wrong("the time", &self.imported_at)
        } else {
            Ok(self)
        }
    }
}

fn digits(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

/// At most 15 digits before the point and 6 after.
fn is_amount(text: &str) -> bool {
    let (whole, places) = text.split_once('.').unwrap_or((text, "0"));
    digits(whole, 15) && digits(places, 6)
}

/// RFC 3339, of a year in which orders were made.
fn is_time(text: &str) -> bool {
    let Some((date, time)) = text.split_once(['T', 't', ' ']) else {
        return false;
    };
    let Some(zone) = time.find(['Z', 'z', '+', '-']) else {
        return false;
    };
    let (time, zone) = time.split_at(zone);
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    is_date(date)
        && numbers(time, ':', [23, 59, 59]).is_some()
        && digits(fraction, 9)
        && is_zone(zone)
}

fn is_date(text: &str) -> bool {
    let Some((year, rest)) = text.split_once('-') else {
        return false;
    };
    let Some([month, day]) = numbers(rest, '-', [12, 31]) else {
        return false;
    };
    // Far from 1970 and from 9999, so that no offset leads out of what a host can store.
    let Some(year) = year
        .parse::<u32>()
        .ok()
        .filter(|n| year.len() == 4 && (1971..9999).contains(n))
    else {
        return false;
    };
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    month >= 1 && (1..=days).contains(&day)
}

fn is_zone(text: &str) -> bool {
    matches!(text, "Z" | "z")
        || text
            .get(1..)
            .is_some_and(|offset| numbers(offset, ':', [23, 59]).is_some())
}

/// As many two-digit numbers as there are limits, none above its limit.
fn numbers<const N: usize>(text: &str, separator: char, limits: [u32; N]) -> Option<[u32; N]> {
    let mut parts = text.split(separator);
    let mut found = [0; N];
    for (number, limit) in found.iter_mut().zip(limits) {
        *number = parts
            .next()
            .filter(|part| part.len() == 2 && digits(part, 2))?
            .parse()
            .ok()?;
        if *number > limit {
            return None;
        }
    }
    parts.next().is_none().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> Order {
        Order {
            id: "o-1".into(),
            amount: "99.99".into(),
            currency: "EUR".into(),
            imported_at: "2024-01-01T12:00:00.000Z".into(),
        }
    }

    #[test]
    fn good_orders_pass() {
        assert!(order().checked().is_ok());
        for time in [
            "2024-02-29T23:59:59Z",
            "2024-01-01T12:00:00+02:00",
            "2024-12-31 00:00:00.123456789-11:30",
        ] {
            assert!(is_time(time), "{time}");
        }
        for amount in ["0", "0.000001", "123456789012345.5"] {
            assert!(is_amount(amount), "{amount}");
        }
    }

    #[test]
    fn nonsense_is_the_marketplaces_fault() {
        let refused = |order: Order| matches!(order.checked(), Err(Fault::Unavailable(_)));
        for id in ["", "a\0b", &"x".repeat(256)] {
            assert!(
                refused(Order {
                    id: id.into(),
                    ..order()
                }),
                "{id:?}"
            );
        }
        for amount in [
            "",
            "-1",
            "1e3",
            "1.",
            ".5",
            "1.1234567",
            "1234567890123456",
            "NaN",
            "1,5",
            "+1",
        ] {
            assert!(
                refused(Order {
                    amount: amount.into(),
                    ..order()
                }),
                "{amount}"
            );
        }
        for currency in ["", "EU", "eur", "EURO", "E1R", "ÄÖ"] {
            assert!(
                refused(Order {
                    currency: currency.into(),
                    ..order()
                }),
                "{currency}"
            );
        }
        for time in [
            "",
            "yesterday",
            "2024-01-01",
            "2024-01-01T12:00:00",
            "2024-13-01T12:00:00Z",
            "2023-02-29T12:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T12:00Z",
            "2024-01-01T12:00:00.Z",
            "2024-01-01T12:00:00+0200",
            "0001-01-01T12:00:00Z",
            "+2024-01-01T12:00:00Z",
            "2024-1-1T12:00:00Z",
            "2024-01-01T12:00:00é",
            "2024-01-01T12:00:00Zé",
        ] {
            assert!(
                refused(Order {
                    imported_at: time.into(),
                    ..order()
                }),
                "{time}"
            );
        }
    }
}
