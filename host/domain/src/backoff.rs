//! The waits before something is tried again, each of them here and nowhere else.

use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A wait that doubles with each failure, up to a longest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    max: Duration,
}

impl Backoff {
    /// A log that the marketplace refused, put off or could not be asked about. The original's numbers:
    /// `min(5 min * 2^(attempt-1), 60 min)`.
    pub const LOG: Self = Self::new(MINUTE.saturating_mul(5), MINUTE.saturating_mul(60));
    /// A sync job that failed.
    pub const SYNC_JOB: Self = Self::new(SECOND.saturating_mul(5), MINUTE.saturating_mul(5));
    /// An event whose shaper was out of service.
    pub const FAN_OUT: Self = Self::new(SECOND, MINUTE);
    /// A delivery that the host itself could not send.
    pub const NOT_SENT: Self = Self::new(SECOND, MINUTE);
    /// An endpoint whose circuit is open.
    pub const CIRCUIT: Self = Self::new(SECOND.saturating_mul(30), MINUTE.saturating_mul(5));

    const fn new(first: Duration, max: Duration) -> Self {
        Self { first, max }
    }

    /// Returns the wait after failure number `failures`, 1 and up; less counts as 1.
    pub fn after(self, failures: i64) -> Duration {
        // 2^16 of the shortest first wait is beyond every longest one, and of the longest it does not overflow.
        let doublings = u32::try_from(failures.clamp(1, 17) - 1).unwrap_or(0);
        (self.first * 2u32.pow(doublings)).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        for (backoff, seconds) in [
            (Backoff::LOG, [300, 600, 1200, 2400, 3600, 3600]),
            (Backoff::SYNC_JOB, [5, 10, 20, 40, 80, 160]),
            (Backoff::FAN_OUT, [1, 2, 4, 8, 16, 32]),
            (Backoff::CIRCUIT, [30, 60, 120, 240, 300, 300]),
        ] {
            let waits = [1, 2, 3, 4, 5, 6].map(|failures| backoff.after(failures).as_secs());
            assert_eq!(waits, seconds, "{backoff:?}");
            assert_eq!(backoff.after(i64::MIN), backoff.first);
            assert_eq!(backoff.after(i64::MAX), backoff.max);
        }
    }
}
