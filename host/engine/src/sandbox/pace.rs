//! How quickly the calls of one revision end, which decides about the thread on which the next one begins.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Time for which a call that took long keeps those after it off their callers' threads. Whoever spins holds a caller
/// up for a tick once in this time; a revision that seldom takes long pays for more hops the longer it is.
const LATELY: Duration = Duration::from_secs(10);

/// When a call last took long.
#[derive(Debug)]
pub(crate) struct Pace {
    start: Instant,
    /// Microseconds since the start; 0 is never.
    long_at: AtomicU64,
}

impl Pace {
    pub(crate) const fn new(start: Instant) -> Self {
        Self {
            start,
            long_at: AtomicU64::new(0),
        }
    }

    /// Notes that a call takes long.
    pub(super) fn note_long(&self, now: Instant) {
        // Relaxed: the time protects no other data.
        self.long_at
            .store(self.micros(now).max(1), Ordering::Relaxed);
    }

    /// Tells if a call took long lately.
    pub(crate) fn was_long_lately(&self, now: Instant) -> bool {
        let long_at = self.long_at.load(Ordering::Relaxed);
        let lately = u64::try_from(LATELY.as_micros()).unwrap_or(u64::MAX);
        long_at > 0 && self.micros(now).saturating_sub(long_at) < lately
    }

    fn micros(&self, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.start).as_micros();
        u64::try_from(passed).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_took_long_is_remembered_for_a_while() {
        let start = Instant::now();
        let pace = Pace::new(start);
        assert!(!pace.was_long_lately(start));
        // Also at the very start, where the time is 0.
        for long_at in [start, start + Duration::from_secs(60)] {
            pace.note_long(long_at);
            let second = Duration::from_secs(1);
            assert!(pace.was_long_lately(long_at));
            assert!(pace.was_long_lately(long_at + LATELY - second));
            assert!(!pace.was_long_lately(long_at + LATELY + second));
        }
    }
}
