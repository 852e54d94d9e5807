//! The contract's rules, written a second time and differently, to hold the host's against.

use std::time::{Duration, SystemTime};

use serde_json::Value;

/// The mock marketplaces' verdict on a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stands for an order.
    Imported,
    /// It stands for nothing.
    Refused,
    /// Come back later.
    RateLimited,
}

impl Verdict {
    /// By the contract's receipt rules.
    pub fn of(receipt: &str) -> Self {
        let digits: Vec<Option<usize>> = receipt
            .chars()
            .rev()
            .map(|c| "0123456789".find(c))
            .collect();
        match digits[..] {
            [Some(last), Some(before), ..] if [0, 6, 12, 18].contains(&(last + before)) => {
                Self::RateLimited
            }
            [Some(1 | 3 | 5 | 7 | 9), ..] => Self::Imported,
            _ => Self::Refused,
        }
    }

    /// The `error` of an import that this came of; `null` for success.
    pub fn error(self) -> Value {
        match self {
            Self::Imported => Value::Null,
            Self::Refused => "invalid_receipt".into(),
            Self::RateLimited => "rate_limited".into(),
        }
    }
}

/// `syncStatus` of a store that imported receipts with these verdicts, in this order: the contract's sentences.
pub fn sync_status(verdicts: &[Verdict]) -> &'static str {
    let recent = &verdicts[verdicts.len().saturating_sub(20)..];
    let any = |wanted| recent.contains(&wanted);
    let (good, bad) = (
        any(Verdict::Imported),
        any(Verdict::Refused) || any(Verdict::RateLimited),
    );
    match (recent.last(), good, bad) {
        (None, ..) => "pending",
        (Some(Verdict::Imported), _, false) => "success",
        (_, true, true) => "partial",
        (Some(Verdict::Refused), false, _) => "failed",
        _ => "partial",
    }
}

/// Returns true for a time as the API writes it, such as `2024-01-01T12:00:00.000Z`, of the last minute.
pub fn is_recent_time(value: &Value) -> bool {
    let text = value.as_str().unwrap_or_default();
    let shape: String = text
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    let Ok(time) = text.parse::<jiff::Timestamp>() else {
        return false;
    };
    let age = SystemTime::now()
        .duration_since(time.into())
        .unwrap_or_default();
    shape == "0000-00-00T00:00:00.000Z" && age < Duration::from_secs(60)
}

#[cfg(test)]
mod tests {
    use super::{Verdict, sync_status};

    #[test]
    fn the_seeds_examples_hold() {
        for (receipt, verdict) in [
            ("test1", Verdict::Imported),
            ("test2", Verdict::Refused),
            ("test24", Verdict::RateLimited),
            ("RL15", Verdict::RateLimited),
            ("order-101", Verdict::Imported),
            ("order-102", Verdict::Refused),
            ("order-115", Verdict::RateLimited),
        ] {
            assert_eq!(Verdict::of(receipt), verdict, "{receipt}");
        }
        assert_eq!(sync_status(&[]), "pending");
        assert_eq!(
            sync_status(&[Verdict::Imported, Verdict::Refused]),
            "partial"
        );
        assert_eq!(sync_status(&[Verdict::RateLimited]), "partial");
        assert_eq!(
            sync_status(&[Verdict::RateLimited, Verdict::Refused]),
            "failed"
        );
    }
}
