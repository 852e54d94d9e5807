//! Clocks: time is a parameter of every rule, and this is where it comes from.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::Time;

/// A source of the present time. The program uses [`SystemClock`]; tests use [`FixedClock`].
pub trait Clock: Send + Sync {
    /// The present time. It may be set, forward or back, at any moment.
    fn now(&self) -> Time;

    /// The time that has passed since some moment of this process. Nobody can set it.
    fn elapsed(&self) -> Duration;
}

/// The machine's wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place that reads the clock"
    )]
    fn now(&self) -> Time {
        Time::from_micros(jiff::Timestamp::now().as_microsecond())
    }

    fn elapsed(&self) -> Duration {
        static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
        ORIGIN.elapsed()
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct FixedClock {
    now: AtomicI64,
    elapsed: AtomicI64,
}

impl FixedClock {
    /// A clock that shows `at`.
    pub fn at(at: Time) -> Self {
        Self {
            now: AtomicI64::new(at.as_micros()),
            elapsed: AtomicI64::new(0),
        }
    }

    /// Sets the clock to `at`, as an operator or a time server does: no time passes.
    pub fn set(&self, at: Time) {
        self.now.store(at.as_micros(), Ordering::SeqCst);
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.elapsed.fetch_add(by, Ordering::SeqCst);
        self.now.fetch_add(by, Ordering::SeqCst);
    }
}

impl Clock for FixedClock {
    fn now(&self) -> Time {
        Time::from_micros(self.now.load(Ordering::SeqCst))
    }

    fn elapsed(&self) -> Duration {
        Duration::from_micros(self.elapsed.load(Ordering::SeqCst).unsigned_abs())
    }
}

/// A step of the clock: it was set, by more than [`StepWatch::TOLERANCE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It shows a later time than has passed.
    Forward,
    /// It shows an earlier one.
    Back,
}

/// Tells a step of a clock from the passing of time.
#[derive(Clone, Copy, Debug)]
pub struct StepWatch {
    now: Time,
    elapsed: Duration,
}

impl StepWatch {
    /// Time servers correct less than this by slewing, and no lease is as short.
    pub const TOLERANCE: Duration = Duration::from_secs(5);

    /// Watches from this moment on.
    pub fn new(clock: &dyn Clock) -> Self {
        Self {
            now: clock.now(),
            elapsed: clock.elapsed(),
        }
    }

    /// The step since the last look, if there was one.
    pub fn look(&mut self, clock: &dyn Clock) -> Option<Step> {
        // A pause between its two readings looks like a step. That is harmless: leases are
        // renewed, or a rebase finds nothing to do.
        let seen = Self::new(clock);
        let expected = self.now + seen.elapsed.saturating_sub(self.elapsed);
        // Also after a step, so that each is told once.
        *self = seen;
        if seen.now.since(expected) > Self::TOLERANCE {
            Some(Step::Forward)
        } else if expected.since(seen.now) > Self::TOLERANCE {
            Some(Step::Back)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_step_is_told_from_the_passing_of_time_and_told_once() {
        let clock = FixedClock::at(Time::from_micros(1_700_000_000_000_000));
        let mut watch = StepWatch::new(&clock);
        clock.advance(24 * HOUR);
        assert_eq!(watch.look(&clock), None);
        clock.set(clock.now() + SECOND);
        assert_eq!(watch.look(&clock), None, "slewed");
        clock.set(clock.now() + HOUR);
        assert_eq!(watch.look(&clock), Some(Step::Forward));
        assert_eq!(watch.look(&clock), None);
        clock.set(clock.now() - HOUR);
        clock.advance(HOUR / 2);
        assert_eq!(watch.look(&clock), Some(Step::Back));
        assert_eq!(watch.look(&clock), None);
    }
}
