//! The processor time of one call.
//!
//! A guest is interrupted at every tick, and what it used since it was resumed is read from clocks, because ticks come
//! late on a busy machine. Its time is spent when it has been running, or ready to run, for as long as it may; so a
//! guest that spins ends when it should, however many others want the processor. But one that is never let run must not
//! be blamed: by its thread's own clock it must have used half of it. Most calls end before their first tick and are
//! never measured.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::runtime::TICK;

/// The meter of one call, shared by the future that resumes it and the callback that interrupts it.
#[derive(Clone, Default)]
pub(crate) struct ProcessorTime(Arc<Mutex<Used>>);

#[derive(Default)]
struct Used {
    total: Clocks,
    resumed_at: Clocks,
    /// Set while it waits for its thread after an interruption. Otherwise it waits for the host, which costs it
    /// nothing.
    is_ready: bool,
}

/// Time that passed, and the thread's share of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Clocks {
    passed: Duration,
    of_thread: Duration,
}

impl Clocks {
    fn now() -> Self {
        Self {
            passed: read(ClockId::Monotonic),
            of_thread: read(ClockId::ThreadCPUTime),
        }
    }
}

fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

impl ProcessorTime {
    /// Notes that the call goes on, on this thread.
    pub(crate) fn resume(&self) {
        let mut used = self.used();
        // Not interrupted yet: reading two clocks would cost a short call more than its work.
        if used.total.passed.is_zero() {
            return;
        }
        let now = Clocks::now();
        // Waiting for a thread counts from the interruption on, waiting for the host does not.
        let passed = if std::mem::take(&mut used.is_ready) {
            used.resumed_at.passed
        } else {
            now.passed
        };
        used.resumed_at = Clocks { passed, ..now };
    }

    /// Notes an interruption on this thread and tells if the time is used up. All before the first tick counts as one
    /// tick.
    pub(crate) fn is_spent(&self, max: Duration) -> bool {
        let Used {
            total,
            resumed_at,
            is_ready,
        } = &mut *self.used();
        let now = Clocks::now();
        if total.passed.is_zero() {
            *total = Clocks {
                passed: TICK,
                of_thread: TICK,
            };
        } else {
            total.passed += now.passed.saturating_sub(resumed_at.passed);
            total.of_thread += now.of_thread.saturating_sub(resumed_at.of_thread);
        }
        (*resumed_at, *is_ready) = (now, true);
        // Half: a guest that is never let run must not be blamed for a busy machine.
        total.passed >= max && total.of_thread >= max / 2
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_millis(60);

    fn begun() -> ProcessorTime {
        let time = ProcessorTime::default();
        time.resume();
        assert!(!time.is_spent(MAX), "the first tick is one tick");
        time.resume();
        time
    }

    #[test]
    fn a_call_that_is_not_let_run_is_not_to_blame() {
        let time = begun();
        std::thread::sleep(2 * MAX);
        assert!(!time.is_spent(MAX));
    }

    #[test]
    fn waiting_for_its_turn_counts_and_waiting_for_the_host_does_not() {
        let (waits_for_its_turn, waits_for_the_host) = (begun(), begun());
        assert!(!waits_for_its_turn.is_spent(MAX));
        std::thread::sleep(2 * MAX);
        for time in [&waits_for_its_turn, &waits_for_the_host] {
            time.resume();
            assert!(!time.is_spent(MAX), "neither has used the processor");
        }
        assert!(waits_for_its_turn.used().total.passed >= 2 * MAX);
        assert!(waits_for_the_host.used().total.passed < 2 * MAX);
    }

    #[test]
    fn a_call_that_spins_has_spent_its_time() {
        let time = begun();
        let began = Clocks::now();
        while read(ClockId::ThreadCPUTime) - began.of_thread < MAX {}
        assert!(time.is_spent(MAX));
        assert!(
            ProcessorTime::default().is_spent(TICK / 10),
            "a limit below a tick is a tick"
        );
    }
}
