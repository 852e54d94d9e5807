//! How an endpoint is spared: its circuit, the end of patience, and its pace.

use std::time::Duration;

use crate::Time;

/// So many failures in a row open the circuit. More than one delivery of the default schedule can gather.
const PATIENCE: i64 = 10;
/// How long the circuit stays open at first; doubled each time that a probe fails, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
const MAX_PAUSE: Duration = Duration::from_secs(5 * 60);

/// How an endpoint has been doing since an attempt last succeeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Attempts that failed.
    pub failures: i64,
    /// When the first of them did.
    pub failing_since: Option<Time>,
    /// How often the circuit was opened.
    pub pauses: i64,
    /// Until when nothing is sent. After that one delivery at a time probes, until one succeeds.
    pub paused_until: Option<Time>,
}

impl Health {
    /// After a batch of attempts. One success is enough to be well again.
    #[must_use]
    pub fn after(self, succeeded: bool, failed: i64, now: Time) -> Self {
        if succeeded {
            return Self::default();
        }
        let failures = self.failures + failed;
        let failing_since = self.failing_since.or((failed > 0).then_some(now));
        // What was in flight when the circuit opened tells nothing new.
        let open = self.paused_until.is_some_and(|until| now < until);
        if failed == 0 || failures < PATIENCE || open {
            return Self {
                failures,
                failing_since,
                ..self
            };
        }
        let doublings = u32::try_from(self.pauses.clamp(0, 10)).unwrap_or(0);
        let pause = (FIRST_PAUSE * 2u32.pow(doublings)).min(MAX_PAUSE);
        Self {
            failures,
            failing_since,
            pauses: self.pauses + 1,
            paused_until: Some(now + pause),
        }
    }

    /// Whether nothing but failures came for so long that the endpoint is to be disabled.
    pub fn is_beyond_hope(self, limit: Duration, now: Time) -> bool {
        self.failures >= PATIENCE
            && self
                .failing_since
                .is_some_and(|since| now.since(since) >= limit)
    }
}

/// The pace of an endpoint: deliveries per minute, in bursts of two seconds' worth and one, because workers look about
/// once a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    interval: Duration,
    burst: Duration,
}

impl RateLimit {
    /// The most that may be asked for.
    pub const MAX_PER_MINUTE: i64 = 600_000;

    /// A pace from its rate; a rate below one counts as one.
    pub fn per_minute(rate: i64) -> Self {
        const BURST: Duration = Duration::from_secs(2);
        let rate = u32::try_from(rate.clamp(1, Self::MAX_PER_MINUTE)).unwrap_or(1);
        let interval = Duration::from_secs(60) / rate;
        // One more than the burst's worth: a worker that comes by a little late must not lose the fraction.
        Self {
            interval,
            burst: BURST + interval,
        }
    }

    /// How long after one delivery the next may begin.
    pub const fn interval(self) -> Duration {
        self.interval
    }

    /// How many may begin now. `until` is what [`after`](Self::after) said last.
    pub fn allowed(self, until: Option<Time>, now: Time) -> i64 {
        let spent = until.unwrap_or(now).since(now);
        let left = self.burst.saturating_sub(spent).as_micros() / self.interval.as_micros().max(1);
        i64::try_from(left).unwrap_or(i64::MAX)
    }

    /// Until when the pace is used up after so many begin now.
    pub fn after(self, until: Option<Time>, taken: i64, now: Time) -> Time {
        let taken = u32::try_from(taken.max(0)).unwrap_or(u32::MAX);
        until.map_or(now, |until| until.max(now)) + self.interval.saturating_mul(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Time = Time::from_micros(1_700_000_000_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn the_circuit_opens_doubles_and_closes() {
        let well = Health::default();
        let failing = well.after(false, 9, NOW);
        assert_eq!(
            (
                failing.failures,
                failing.failing_since,
                failing.paused_until
            ),
            (9, Some(NOW), None)
        );
        let open = failing.after(false, 5, NOW);
        assert_eq!(
            (open.pauses, open.paused_until),
            (1, Some(NOW + FIRST_PAUSE))
        );
        let late = open.after(false, 3, NOW + Duration::from_secs(1));
        assert_eq!(
            (late.failures, late.pauses, late.paused_until),
            (17, 1, open.paused_until),
            "in flight before"
        );
        let probed = late.after(false, 1, NOW + FIRST_PAUSE);
        assert_eq!(
            (probed.pauses, probed.paused_until),
            (2, Some(NOW + FIRST_PAUSE * 3))
        );
        let mut at = NOW;
        let worst = (0..100).fold(probed, |health, _| {
            at = health.paused_until.expect("open");
            health.after(false, 1, at)
        });
        assert_eq!(worst.paused_until, Some(at + MAX_PAUSE));
        assert_eq!(worst.after(true, 3, NOW), well);
        assert_eq!(well.after(false, 0, NOW), well);
    }

    #[test]
    fn hope_ends_after_failures_alone_for_long_enough() {
        let failing = Health::default().after(false, 20, NOW);
        assert!(!failing.is_beyond_hope(HOUR, NOW + HOUR - Duration::from_micros(1)));
        assert!(failing.is_beyond_hope(HOUR, NOW + HOUR));
        let rare = Health::default().after(false, 2, NOW);
        assert!(
            !rare.is_beyond_hope(HOUR, NOW + HOUR * 9),
            "two failures are no proof"
        );
    }

    proptest! {
        /// Whenever a worker comes by, in no window of a minute does more begin than the rate and one burst.
        #[test]
        fn the_pace_is_kept(rate in 1i64..5_000, waits in proptest::collection::vec(0u64..3_000_000, 1..80)) {
            let pace = RateLimit::per_minute(rate);
            let (mut until, mut at, mut begun) = (None, NOW, Vec::new());
            for wait in waits {
                at = at + Duration::from_micros(wait);
                let taken = pace.allowed(until, at);
                until = Some(pace.after(until, taken, at));
                begun.push((at, taken));
            }
            for (index, (start, _)) in begun.iter().enumerate() {
                let minute = begun[index..].iter().take_while(|(at, _)| at.since(*start) < Duration::from_secs(60));
                let sum: i64 = minute.map(|(_, taken)| taken).sum();
                let burst = i64::try_from(pace.burst.as_micros() / pace.interval.as_micros()).expect("small");
                prop_assert!(sum <= rate + burst, "{sum} in a minute at {rate}");
            }
        }

        /// A worker that comes by each second wastes nothing.
        #[test]
        fn the_pace_is_reached(rate in 1i64..5_000) {
            let pace = RateLimit::per_minute(rate);
            let (mut until, mut sum) = (None, 0);
            for second in 0..600 {
                let at = NOW + Duration::from_secs(second);
                let taken = pace.allowed(until, at);
                until = Some(pace.after(until, taken, at));
                sum += taken;
            }
            prop_assert!(sum >= rate * 10 - rate / 30 - 1, "{sum} in ten minutes at {rate}");
        }
    }
}
