//! Deliveries: their states, the retry schedule, and the decision after each attempt.

use std::time::Duration;

use crate::Time;

/// The state of one delivery, which is one event on its way to one endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeliveryState {
    /// To be sent, now or at its next attempt.
    Pending,
    /// Accepted by the receiver. Final.
    Success,
    /// Given up: a dead letter, until somebody re-drives it.
    Failed,
}

impl DeliveryState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pending, Self::Success, Self::Failed];

    /// The name in the API and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Success => "success",
            Self::Failed => "failed",
        }
    }

    /// Reads the name; `None` if it is none of ours.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == name)
    }
}

/// The outcome of one attempt to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendOutcome {
    /// Any 2xx.
    Accepted,
    /// Anything else that may pass: an error status, a broken connection, a timeout. With the receiver's `Retry-After`.
    Failed {
        /// The wait that the receiver asked for, from a 429 or 503; at most [`crate::retry_after::MAX`].
        retry_after: Option<Duration>,
    },
    /// 410: the receiver wants no more of this; the endpoint is disabled.
    Gone,
    /// Trying again cannot help (the address is forbidden, the event cannot be shaped).
    Hopeless,
}

/// The reason why the host itself could not send a delivery, or not hear the answer. This is no attempt, and the delivery
/// is given back as if it had not been claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotSent {
    /// The process or the machine has no file descriptor left.
    NoDescriptors,
    /// The machine has no memory left.
    NoMemory,
    /// The machine has no local address or port to connect from.
    NoAddress,
    /// The endpoint's secret cannot be read with this host's key.
    UnreadableSecret,
    /// The host's own threads were too busy to hear the answer in time.
    Starved,
}

impl NotSent {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::NoDescriptors,
        Self::NoMemory,
        Self::NoAddress,
        Self::UnreadableSecret,
        Self::Starved,
    ];

    /// The name in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoDescriptors => "no_descriptors",
            Self::NoMemory => "no_memory",
            Self::NoAddress => "no_address",
            Self::UnreadableSecret => "unreadable_secret",
            Self::Starved => "starved",
        }
    }
}

/// The times at which failed deliveries are sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetrySchedule {
    /// The wait after the first failure, the second, and so on; one more failure than there are waits is the end.
    pub waits: Vec<Duration>,
    /// Up to this share of a wait is added at random, in percent, so that receivers are not hit in step.
    pub jitter_percent: u32,
}

impl RetrySchedule {
    /// The original's: after 1 minute, after 5; the third failure is the end. No jitter.
    pub fn seed() -> Self {
        Self {
            waits: [60, 300].map(Duration::from_secs).to_vec(),
            jitter_percent: 0,
        }
    }

    /// Ten attempts over about 75 hours with 20 % jitter.
    pub fn standard() -> Self {
        const MINUTE: u64 = 60;
        const HOUR: u64 = 60 * MINUTE;
        // The schedule that Standard Webhooks recommends.
        let waits = [
            5,
            5 * MINUTE,
            30 * MINUTE,
            2 * HOUR,
            5 * HOUR,
            10 * HOUR,
            14 * HOUR,
            20 * HOUR,
            24 * HOUR,
        ];
        Self {
            waits: waits.map(Duration::from_secs).to_vec(),
            jitter_percent: 20,
        }
    }

    /// The wait after failure number `failures` (1 and up); `None` when that failure is the end.
    fn wait(&self, failures: i64, jitter: f64) -> Option<Duration> {
        let wait = *self.waits.get(usize::try_from(failures.max(1) - 1).ok()?)?;
        // `mul_f64` panics at a negative number, and the random one comes from outside.
        Some(wait + wait.mul_f64(jitter.clamp(0.0, 1.0) * f64::from(self.jitter_percent) / 100.0))
    }
}

/// The fate of a delivery after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The receiver has it.
    Done,
    /// Send it again then.
    RetryAt(Time),
    /// A dead letter.
    Dead,
}

/// The one place that decides between retry and give-up. `attempt` counts this attempt too (1 and up); `jitter` is a
/// random number between 0 and 1.
pub fn settle(
    attempt: i64,
    outcome: SendOutcome,
    schedule: &RetrySchedule,
    now: Time,
    jitter: f64,
) -> Settled {
    match outcome {
        SendOutcome::Accepted => Settled::Done,
        // Another attempt would get the same answer.
        SendOutcome::Gone | SendOutcome::Hopeless => Settled::Dead,
        // A receiver can ask for more patience than the schedule has, and never for less.
        SendOutcome::Failed { retry_after } => schedule
            .wait(attempt, jitter)
            .map_or(Settled::Dead, |wait| {
                Settled::RetryAt(now + wait.max(retry_after.unwrap_or_default()))
            }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Time = Time::from_micros(1_700_000_000_000_000);
    const FAILED: SendOutcome = SendOutcome::Failed { retry_after: None };

    #[test]
    fn the_seed_schedule_tries_three_times() {
        let settled = |attempt| settle(attempt, FAILED, &RetrySchedule::seed(), NOW, 0.9);
        assert_eq!(settled(1), Settled::RetryAt(NOW + Duration::from_secs(60)));
        assert_eq!(settled(2), Settled::RetryAt(NOW + Duration::from_secs(300)));
        assert_eq!(settled(3), Settled::Dead);
        assert_eq!(settled(4), Settled::Dead);
    }

    #[test]
    fn the_standard_schedule_tries_ten_times_over_75_hours() {
        let schedule = RetrySchedule::standard();
        assert_eq!(schedule.waits.len() + 1, 10);
        let hours = schedule.waits.iter().sum::<Duration>().as_secs() / 3600;
        assert!((75..=76).contains(&hours), "{hours}");
    }

    #[test]
    fn a_receiver_may_ask_for_a_longer_wait() {
        let after = |seconds| {
            let outcome = SendOutcome::Failed {
                retry_after: Some(Duration::from_secs(seconds)),
            };
            settle(1, outcome, &RetrySchedule::seed(), NOW, 0.0)
        };
        assert_eq!(after(10), Settled::RetryAt(NOW + Duration::from_secs(60)));
        assert_eq!(after(600), Settled::RetryAt(NOW + Duration::from_secs(600)));
    }

    #[test]
    fn gone_and_hopeless_end_at_once() {
        for outcome in [SendOutcome::Gone, SendOutcome::Hopeless] {
            assert_eq!(
                settle(1, outcome, &RetrySchedule::standard(), NOW, 0.5),
                Settled::Dead
            );
        }
    }

    proptest! {
        /// Independent model: waits lie between the schedule's number and that number plus jitter, and the number of
        /// attempts is the schedule's length plus one.
        #[test]
        fn retries_keep_to_the_schedule(waits in proptest::collection::vec(0u64..100_000, 0..12),
                                        jitter_percent in 0u32..=100, jitter in 0.0f64..=1.0) {
            let schedule = RetrySchedule { waits: waits.iter().copied().map(Duration::from_secs).collect(), jitter_percent };
            for attempt in 1..=waits.len() + 2 {
                let settled = settle(i64::try_from(attempt).expect("small"), FAILED, &schedule, NOW, jitter);
                match waits.get(attempt - 1) {
                    None => prop_assert_eq!(settled, Settled::Dead),
                    Some(wait) => {
                        let Settled::RetryAt(at) = settled else { panic!("gave up early") };
                        let waited = at.since(NOW).as_secs_f64();
                        let most = *wait as f64 * (1.0 + f64::from(jitter_percent) / 100.0);
                        prop_assert!(waited >= *wait as f64 - 0.001 && waited <= most + 0.001);
                    }
                }
            }
        }
    }
}
