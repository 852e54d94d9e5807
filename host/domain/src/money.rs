//! Amounts and currencies.

use std::fmt;

use rust_decimal::Decimal;

use crate::Invalid;

/// An exact amount of money. Never a float: what the marketplace said is what is stored and shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount(Decimal);

impl Amount {
    /// Reads a decimal such as `99.99`: at most 15 digits before the point and 6 after, no sign, no exponent.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let (whole, places) = text.split_once('.').unwrap_or((text, "0"));
        // By bytes: `is_numeric` would take digits of other scripts, and the parser alone takes signs and any length.
        let digits = |part: &str, most: usize| {
            (1..=most).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit())
        };
        if !digits(whole, 15) || !digits(places, 6) {
            return Err(Invalid("must be a decimal such as 99.99".into()));
        }
        text.parse()
            .map(Self)
            .map_err(|_| Invalid("must be a decimal such as 99.99".into()))
    }

    /// The amount as the store keeps it.
    pub const fn decimal(self) -> Decimal {
        self.0
    }

    /// An amount that was parsed before it was stored.
    pub const fn from_decimal(decimal: Decimal) -> Self {
        Self(decimal)
    }
}

/// Plain decimal digits, which are also a valid JSON number.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An ISO 4217 style code: three ASCII letters, kept in upper case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    /// Reads three ASCII letters of either case.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        match <[u8; 3]>::try_from(text.as_bytes()) {
            Ok(code) if code.iter().all(u8::is_ascii_alphabetic) => {
                Ok(Self(code.map(|b| b.to_ascii_uppercase())))
            }
            _ => Err(Invalid("must be three letters such as USD".into())),
        }
    }

    /// The code, three upper-case letters.
    pub fn as_str(&self) -> &str {
        // `parse` lets ASCII through alone. XXX is what ISO 4217 calls no currency.
        std::str::from_utf8(&self.0).unwrap_or("XXX")
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts_are_plain_decimals() {
        for good in ["0", "99.99", "10.00", "123456789012345.654321"] {
            assert_eq!(
                Amount::parse(good).map(|a| a.to_string()).as_deref(),
                Ok(good)
            );
        }
        for bad in [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "+1",
            "1e3",
            "1,5",
            " 1",
            "1.1234567",
            "1234567890123456",
            "٣",
            "NaN",
        ] {
            assert!(Amount::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn currencies_are_three_letters_in_upper_case() {
        assert_eq!(
            Currency::parse("eUr").map(|c| c.to_string()).as_deref(),
            Ok("EUR")
        );
        for bad in ["", "EU", "EURO", "E1R", "ÄÖ", "E R"] {
            assert!(Currency::parse(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn an_amount_is_shown_as_it_was_written(whole in 0u64..=999_999_999_999_999, cents in 0u32..=99) {
            let text = format!("{whole}.{cents:02}");
            prop_assert_eq!(Amount::parse(&text).map(|a| a.to_string()), Ok(text));
        }
    }
}
