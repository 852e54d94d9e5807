//! Checking what a marketplace said before the host does.

use crate::{
    adapter::{Fault, Order},
    rfc3339,
};

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

/// RFC 3339, and not before 1970: earlier times are mistakes, such as a zero date.
fn is_time(text: &str) -> bool {
    rfc3339::micros(text).is_some_and(|micros| micros >= 0)
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
            "2024-12-31T00:00:00.1234567890-11:30",
            "2016-12-31T23:59:60Z",
            "9999-12-31T23:59:59Z",
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
            "2024-12-31 00:00:00Z",
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
