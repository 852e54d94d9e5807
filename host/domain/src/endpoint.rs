//! The health of an endpoint: its circuit, when it is disabled, and its rate limit.

use std::{fmt, time::Duration};

use crate::{Backoff, SendOutcome, Time};

/// So many failures in a row open the circuit. More than one delivery of the default schedule can gather.
const MAX_FAILURES: i64 = 10;

/// An endpoint's failures since an attempt last succeeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Attempts that failed.
    pub failures: i64,
    /// The time of the first of them.
    pub failing_since: Option<Time>,
    /// The number of times the circuit was opened.
    pub pauses: i64,
    /// The time until which nothing is sent. After that one delivery at a time probes, until one succeeds.
    pub paused_until: Option<Time>,
}

impl Health {
    /// After a batch of attempts. One success is enough to be well again.
    #[must_use]
    pub fn after(self, succeeded: bool, failed: i64, now: Time) -> Self {
        // Attempts of one batch have no order: a single success proves that the receiver can take deliveries.
        if succeeded {
            return Self::default();
        }
        let failures = self.failures + failed;
        let failing_since = self.failing_since.or((failed > 0).then_some(now));
        // What was in flight when the circuit opened tells nothing new.
        let open = self.paused_until.is_some_and(|until| now < until);
        if failed == 0 || failures < MAX_FAILURES || open {
            return Self {
                failures,
                failing_since,
                ..self
            };
        }
        let pauses = self.pauses + 1;
        Self {
            failures,
            failing_since,
            pauses,
            paused_until: Some(now + Backoff::CIRCUIT.after(pauses)),
        }
    }

    /// Tells whether nothing but failures came for so long that the endpoint is to be disabled.
    pub fn is_beyond_hope(self, limit: Duration, now: Time) -> bool {
        // Both: a long time alone may hold two failures of an endpoint that seldom gets anything.
        self.failures >= MAX_FAILURES
            && self
                .failing_since
                .is_some_and(|since| now.since(since) >= limit)
    }
}

/// The attempts of one batch at one endpoint, summed up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchOutcome {
    succeeded: bool,
    failed: i64,
    gone: bool,
    was_failing: bool,
}

impl BatchOutcome {
    /// Adds one attempt. `was_failing`: the endpoint's attempts failed before this one.
    pub fn add(&mut self, outcome: SendOutcome, was_failing: bool) {
        self.was_failing |= was_failing;
        match outcome {
            SendOutcome::Accepted => self.succeeded = true,
            // An address that is forbidden is the fault of the endpoint that names it.
            SendOutcome::Failed { .. } | SendOutcome::Hopeless => self.failed += 1,
            SendOutcome::Gone => self.gone = true,
        }
    }

    /// Tells whether the batch can change the endpoint's health: one that does well and did before stays as it is.
    pub const fn may_change_health(self) -> bool {
        self.failed > 0 || self.gone || self.was_failing
    }
}

/// The reason why an endpoint is disabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisableReason {
    /// The receiver answered 410.
    Gone,
    /// Nothing but failures for too long.
    NeverSucceeds {
        /// The time when the first attempt failed.
        since: Time,
        /// Attempts that failed since.
        failures: i64,
    },
}

/// The words that the endpoint's owner reads.
impl fmt::Display for DisableReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("the receiver answered 410 Gone"),
            Self::NeverSucceeds { since, failures } => write!(
                f,
                "no attempt has succeeded since {since}: {failures} failed"
            ),
        }
    }
}

/// Returns the health of an active endpoint after a batch of attempts, and why it is to be disabled, if it is. `limit`
/// is how long nothing may succeed.
pub fn update_health(
    was: Health,
    batch: BatchOutcome,
    limit: Duration,
    now: Time,
) -> (Health, Option<DisableReason>) {
    let health = was.after(batch.succeeded, batch.failed, now);
    let reason = match health.failing_since {
        // 410 is the receiver's wish and needs no patience.
        _ if batch.gone => Some(DisableReason::Gone),
        Some(since) if health.is_beyond_hope(limit, now) => Some(DisableReason::NeverSucceeds {
            since,
            failures: health.failures,
        }),
        _ => None,
    };
    (health, reason)
}

/// The rate limit of an endpoint: deliveries per minute, in bursts of two seconds' worth and one, because workers look
/// about once a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    interval: Duration,
    burst: Duration,
}

impl RateLimit {
    /// The most that may be asked for.
    pub const MAX_PER_MINUTE: i64 = 600_000;

    /// A rate limit of so many a minute; less than one counts as one.
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

    /// Returns how many deliveries may begin now. `until` is the last answer of [`after`](Self::after).
    pub fn allowed(self, until: Option<Time>, now: Time) -> i64 {
        let spent = until.unwrap_or(now).since(now);
        // What lies further ahead was written by a clock that went wrong, and must not refuse for as long.
        const WRONG: Duration = Duration::from_secs(120);
        let spent = if spent > self.burst + WRONG {
            Duration::ZERO
        } else {
            spent
        };
        let left = self.burst.saturating_sub(spent).as_micros() / self.interval.as_micros().max(1);
        i64::try_from(left).unwrap_or(i64::MAX)
    }

    /// Returns until when the rate limit is used up after so many begin now.
    pub fn after(self, until: Option<Time>, taken: i64, now: Time) -> Time {
        let taken = u32::try_from(taken.max(0)).unwrap_or(u32::MAX);
        // From now at the earliest: what was not used is not saved up beyond the burst.
        until.map_or(now, |until| until.max(now)) + self.interval.saturating_mul(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Time = Time::from_micros(1_700_000_000_000_000);
    const HOUR: Duration = Duration::from_secs(3600);
    const FIRST_PAUSE: Duration = Duration::from_secs(30);
    const MAX_PAUSE: Duration = Duration::from_secs(300);
    const FAILED: SendOutcome = SendOutcome::Failed { retry_after: None };

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

    fn batch(outcomes: &[SendOutcome]) -> BatchOutcome {
        let mut batch = BatchOutcome::default();
        outcomes
            .iter()
            .for_each(|outcome| batch.add(*outcome, false));
        batch
    }

    #[test]
    fn a_batch_disables_by_410_or_by_failures_for_too_long() {
        let sick = Health::default().after(false, 20, NOW);
        let late = NOW + HOUR;
        let (health, reason) = update_health(sick, batch(&[FAILED, FAILED]), HOUR, late);
        let since_then = DisableReason::NeverSucceeds {
            since: NOW,
            failures: 22,
        };
        assert_eq!((health.failures, reason), (22, Some(since_then)));
        let well = update_health(sick, batch(&[FAILED, SendOutcome::Accepted]), HOUR, late);
        assert_eq!(well, (Health::default(), None));
        let gone = batch(&[SendOutcome::Accepted, SendOutcome::Gone]);
        let (_, reason) = update_health(Health::default(), gone, HOUR, NOW);
        assert_eq!(reason, Some(DisableReason::Gone));
        let hopeless = batch(&[SendOutcome::Hopeless]);
        let (health, reason) = update_health(Health::default(), hopeless, HOUR, NOW);
        assert_eq!((health.failures, reason), (1, None));
    }

    #[test]
    fn a_success_of_an_endpoint_that_did_well_changes_nothing() {
        let mut batch = BatchOutcome::default();
        batch.add(SendOutcome::Accepted, false);
        assert!(!batch.may_change_health());
        batch.add(SendOutcome::Accepted, true);
        assert!(batch.may_change_health());
        for outcome in [FAILED, SendOutcome::Gone, SendOutcome::Hopeless] {
            let mut batch = BatchOutcome::default();
            batch.add(outcome, false);
            assert!(batch.may_change_health(), "{outcome:?}");
        }
    }

    proptest! {
        /// Whenever a worker comes by, in no window of a minute does more begin than the rate and one burst.
        #[test]
        fn the_rate_limit_is_kept(rate in 1i64..5_000, waits in proptest::collection::vec(0u64..3_000_000, 1..80)) {
            let limit = RateLimit::per_minute(rate);
            let (mut until, mut at, mut begun) = (None, NOW, Vec::new());
            for wait in waits {
                at = at + Duration::from_micros(wait);
                let taken = limit.allowed(until, at);
                until = Some(limit.after(until, taken, at));
                begun.push((at, taken));
            }
            for (index, (start, _)) in begun.iter().enumerate() {
                let minute = begun[index..].iter().take_while(|(at, _)| at.since(*start) < Duration::from_secs(60));
                let sum: i64 = minute.map(|(_, taken)| taken).sum();
                let burst = i64::try_from(limit.burst.as_micros() / limit.interval.as_micros()).expect("small");
                prop_assert!(sum <= rate + burst, "{sum} in a minute at {rate}");
            }
        }

        /// A worker that comes by each second wastes nothing.
        #[test]
        fn the_rate_limit_is_reached(rate in 1i64..5_000) {
            let limit = RateLimit::per_minute(rate);
            let (mut until, mut sum) = (None, 0);
            for second in 0..600 {
                let at = NOW + Duration::from_secs(second);
                let taken = limit.allowed(until, at);
                until = Some(limit.after(until, taken, at));
                sum += taken;
            }
            prop_assert!(sum >= rate * 10 - rate / 30 - 1, "{sum} in ten minutes at {rate}");
        }
    }
}
