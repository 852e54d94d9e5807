//! The rate at which somebody may do what makes work for others.

use std::time::Duration;

use crate::Time;

/// So many operations in a time, all of them at once if need be. It is kept as one time: until when what was done has
/// used it up (GCRA).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// The time that one operation uses up.
    interval: Duration,
    /// The time that a full budget has.
    window: Duration,
}

impl Budget {
    /// So many operations a minute; a rate of none counts as one.
    pub fn per_minute(rate: u32) -> Self {
        let window = Duration::from_secs(60);
        Self {
            interval: window / rate.max(1),
            window,
        }
    }

    /// So many operations a second, and `burst` of them at once; none of either counts as one.
    pub fn per_second(rate: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1) / rate.max(1);
        Self {
            interval,
            window: interval * burst.max(1),
        }
    }

    /// Spends one operation: until when the budget is used now.
    ///
    /// # Errors
    /// It is used up; how long to wait for the next operation.
    pub fn spend(self, spent_until: Time, now: Time) -> Result<Time, Duration> {
        // What lies further ahead was written by a clock that went wrong, and must not refuse for ever.
        let spent = spent_until.since(now).min(self.window) + self.interval;
        match spent.checked_sub(self.window) {
            // Exactly the window is the last operation that fits.
            Some(beyond) if !beyond.is_zero() => Err(beyond),
            _ => Ok(now + spent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Time = Time::from_micros(1_700_000_000_000_000);

    #[test]
    fn a_minutes_worth_goes_at_once_and_then_one_by_one() {
        let budget = Budget::per_minute(3);
        let mut until = Time::from_micros(0);
        for _ in 0..3 {
            until = budget.spend(until, NOW).expect("within the budget");
        }
        assert_eq!(budget.spend(until, NOW), Err(Duration::from_secs(20)));
        let later = NOW + Duration::from_secs(20);
        until = budget.spend(until, later).expect("one is free again");
        assert_eq!(budget.spend(until, later), Err(Duration::from_secs(20)));
    }

    #[test]
    fn a_burst_goes_at_once_and_then_the_rate() {
        let budget = Budget::per_second(100, 3);
        let mut until = NOW;
        for _ in 0..3 {
            until = budget.spend(until, NOW).expect("within the burst");
        }
        assert_eq!(budget.spend(until, NOW), Err(Duration::from_millis(10)));
        let later = NOW + Duration::from_millis(10);
        assert!(budget.spend(until, later).is_ok());
    }

    #[test]
    fn a_time_from_a_wrong_clock_refuses_for_no_longer_than_one_operation() {
        let ahead = NOW + Duration::from_secs(86_400);
        assert_eq!(
            Budget::per_minute(60).spend(ahead, NOW),
            Err(Duration::from_secs(1))
        );
    }

    proptest! {
        /// In no minute are there more than twice the rate: a full budget and what comes back meanwhile.
        #[test]
        fn no_minute_has_more_than_twice_the_rate(rate in 1u32..200, steps in proptest::collection::vec(0u64..2_000, 1..400)) {
            let budget = Budget::per_minute(rate);
            let (mut until, mut now, mut done) = (NOW, NOW, Vec::new());
            for step in steps {
                now = now + Duration::from_millis(step);
                if let Ok(next) = budget.spend(until, now) {
                    until = next;
                    done.push(now);
                }
            }
            for from in &done {
                let within = done.iter().filter(|at| *at >= from && at.since(*from) < budget.window);
                prop_assert!(within.count() <= 2 * rate as usize);
            }
        }
    }
}
