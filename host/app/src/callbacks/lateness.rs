//! The lateness of the sending threads: a time-out tells of a receiver only if the host was there to hear the answer.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Time between two ticks: short beside any time-out, long beside the work of a tick.
pub(super) const PERIOD: Duration = Duration::from_millis(50);

/// The time by which a periodic tick came too late, in sum.
pub(super) struct Lateness(Mutex<State>);

struct State {
    ticked: Instant,
    sum: Duration,
}

impl Lateness {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(State {
            ticked: now,
            sum: Duration::ZERO,
        }))
    }

    /// A tick, [`PERIOD`] after the last one or later.
    pub(super) fn tick(&self, now: Instant) {
        let sum = self.sum(now);
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State { ticked: now, sum };
    }

    /// The sum until now, a tick that is overdue included.
    pub(super) fn sum(&self, now: Instant) -> Duration {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = now.saturating_duration_since(state.ticked);
        state.sum + since.saturating_sub(PERIOD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_comes_after_its_time_is_late() {
        let begin = Instant::now();
        let after = |periods: u32| begin + periods * PERIOD;
        let lateness = Lateness::new(begin);
        lateness.tick(after(1));
        assert_eq!(lateness.sum(after(2)), Duration::ZERO);
        assert_eq!(lateness.sum(after(5)), 3 * PERIOD, "overdue");
        lateness.tick(after(5));
        assert_eq!(lateness.sum(after(6)), 3 * PERIOD);
        lateness.tick(after(6));
        assert_eq!(lateness.sum(after(8)), 4 * PERIOD);
    }
}
