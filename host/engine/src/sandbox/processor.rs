//! The processor time of one call.
//!
//! A guest is interrupted at every tick, and what it used since it was resumed is read from clocks, because ticks come
//! late on a busy machine. Its time is spent when it has been running, or ready to run, for as long as it may; so a
//! guest that spins ends when it should, however many others want the processor. But one that is never let run must not
//! be blamed: by its thread's own clock it must have used half of it. Most calls end before their first tick and are
//! never measured.

use std::cell::Cell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::threads::TICK;

/// Processor time of a call that is called long. A tick meets short calls too: theirs is a hundredth of it.
const LONG: Duration = Duration::from_millis(2);
/// The age at which a thread's clock is read anew for the beginning of a call. Reading it costs a short call as much as
/// its gate and its breakers.
const MAX_CLOCK_AGE: Duration = Duration::from_millis(1);

/// The meter of one call, shared by the future that resumes it and the callback that interrupts it.
#[derive(Clone)]
pub(crate) struct ProcessorTime(Arc<Mutex<Used>>);

struct Used {
    total: Spent,
    since: Clocks,
    turn: Turn,
    is_long: bool,
}

/// Time that passed, and the thread's share of it.
#[derive(Clone, Copy, Default)]
struct Spent {
    passed: Duration,
    of_thread: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Running,
    /// It waits for its thread after an interruption, which counts.
    Ready,
    /// It waits for the host, which costs it nothing.
    Waiting,
}

#[derive(Clone, Copy)]
struct Clocks {
    at: Instant,
    of_thread: Duration,
}

impl Clocks {
    fn now() -> Self {
        Self {
            at: Instant::now(),
            of_thread: thread_clock(),
        }
    }

    fn since(self, earlier: Self) -> Spent {
        Spent {
            passed: self.at.saturating_duration_since(earlier.at),
            of_thread: self.of_thread.saturating_sub(earlier.of_thread),
        }
    }
}

fn thread_clock() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// This thread's clock as it was a millisecond ago, or later.
fn recent_thread_clock(now: Instant) -> Duration {
    thread_local! {
        static LAST: Cell<Option<Clocks>> = const { Cell::new(None) };
    }
    let recent = |last: &Clocks| now.saturating_duration_since(last.at) < MAX_CLOCK_AGE;
    let clocks = LAST.get().filter(recent).unwrap_or_else(|| Clocks {
        at: now,
        of_thread: thread_clock(),
    });
    LAST.set(Some(clocks));
    clocks.of_thread
}

impl ProcessorTime {
    /// The meter of a call that begins now, on this thread.
    pub(crate) fn begin(now: Instant) -> Self {
        Self(Arc::new(Mutex::new(Used {
            total: Spent::default(),
            since: Clocks {
                at: now,
                of_thread: recent_thread_clock(now),
            },
            turn: Turn::Running,
            is_long: false,
        })))
    }

    /// Notes that the call goes on, on this thread.
    pub(crate) fn resume(&self) {
        let mut used = self.used();
        match std::mem::replace(&mut used.turn, Turn::Running) {
            Turn::Running => {}
            // Waiting for a thread counts from the interruption on. The thread may be another one.
            Turn::Ready => used.since.of_thread = thread_clock(),
            Turn::Waiting => used.since = Clocks::now(),
        }
    }

    /// Notes an interruption on this thread and tells if the time is used up. All before the first tick counts as one
    /// tick at least.
    pub(crate) fn is_spent(&self, max: Duration) -> bool {
        let used = &mut *self.used();
        let is_first = used.total.passed.is_zero();
        used.count();
        used.turn = Turn::Ready;
        if is_first {
            used.total.passed = used.total.passed.max(TICK);
            used.total.of_thread = used.total.of_thread.max(TICK);
        }
        // Half: a guest that is never let run must not be blamed for a busy machine.
        used.total.passed >= max && used.total.of_thread >= max / 2
    }

    /// Notes how far the call came, and tells if it takes long: it waits for the host, or used far more than a short
    /// one.
    pub(crate) fn takes_long<T>(&self, polled: &Poll<T>) -> bool {
        let used = &mut *self.used();
        match (polled, used.turn) {
            (Poll::Pending, Turn::Running) => {
                used.count();
                used.turn = Turn::Waiting;
                used.is_long = true;
            }
            (Poll::Pending, Turn::Ready | Turn::Waiting) => {}
            // Not interrupted: reading two clocks would cost a short call more than its gate.
            (Poll::Ready(_), _) if used.total.passed.is_zero() => {}
            (Poll::Ready(_), _) => used.count(),
        }
        used.is_long
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Used {
    fn count(&mut self) {
        let now = Clocks::now();
        let spent = now.since(self.since);
        self.since = now;
        self.total.passed += spent.passed;
        self.total.of_thread += spent.of_thread;
        self.is_long |= spent.of_thread >= LONG;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_millis(60);

    fn fresh() -> ProcessorTime {
        ProcessorTime::begin(Instant::now())
    }

    fn begun() -> ProcessorTime {
        let time = fresh();
        time.resume();
        assert!(!time.is_spent(MAX), "the first tick is one tick");
        time.resume();
        time
    }

    fn spin(for_how_long: Duration) {
        let began = thread_clock();
        while thread_clock() - began < for_how_long {}
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
        assert!(waits_for_the_host.takes_long::<()>(&Poll::Pending));
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
        spin(MAX);
        assert!(time.is_spent(MAX));
        assert!(
            fresh().is_spent(TICK / 10),
            "a limit below a tick is a tick"
        );
    }

    #[test]
    fn what_is_used_on_several_threads_and_between_waits_adds_up() {
        let time = fresh();
        // Neither interrupted nor at its end: it only waits, after a part of its time.
        spin(MAX / 2);
        assert!(time.takes_long::<()>(&Poll::Pending));
        let elsewhere = time.clone();
        let spent = std::thread::spawn(move || {
            elsewhere.resume();
            spin(MAX / 2);
            elsewhere.is_spent(MAX)
        });
        assert!(spent.join().expect("no panic"));
    }

    #[test]
    fn a_short_call_that_a_tick_meets_does_not_take_long() {
        let met = begun();
        assert!(!met.takes_long(&Poll::Ready(())));
        let untouched = fresh();
        untouched.resume();
        assert!(!untouched.takes_long(&Poll::Ready(())));
        let spins = begun();
        spin(LONG);
        assert!(!spins.is_spent(MAX));
        assert!(spins.takes_long::<()>(&Poll::Pending));
    }
}
