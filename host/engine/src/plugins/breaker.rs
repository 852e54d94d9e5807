//! The circuit breaker of a revision, as pure rules: time comes in as a parameter.
//!
//! Five faults in a row, or half of at least twenty calls within thirty seconds, trip it. It then lets nothing through
//! for thirty seconds, probes with three calls, and closes if they go well; else it waits twice as long, up to ten
//! minutes. The caller rolls a revision back that trips while it is young.

use std::time::{Duration, Instant};

const MAX_FAULTS_IN_A_ROW: u32 = 5;
const WINDOW_SECONDS: u64 = 30;
/// Fewer calls within the window say nothing about a rate.
const MIN_CALLS_TO_JUDGE: u32 = 20;
const FIRST_PAUSE: Duration = Duration::from_secs(30);
const MAX_PAUSE: Duration = Duration::from_secs(10 * 60);
const PROBES: u32 = 3;
/// A revision is young for this long, and until it has answered `YOUNG_CALLS`.
const YOUNG_FOR: Duration = Duration::from_secs(15 * 60);
const YOUNG_CALLS: u64 = 500;

/// The outcome of a call, as far as it tells about the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It did what it should, or somebody upstream did not.
    Good,
    /// It failed by its own fault.
    Fault,
    /// Nothing is known: it was given up, or the host could not run it.
    Nothing,
}

/// The plugin failed too often just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tripped {
    /// Set if it was activated so recently that its revision is to blame.
    pub(crate) young: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open {
        until: Instant,
        pause: Duration,
    },
    Probing {
        under_way: u32,
        passed: u32,
        pause: Duration,
    },
}

/// The breaker of one revision since it was activated.
#[derive(Debug)]
pub(crate) struct Breaker {
    activated: Instant,
    calls: u64,
    streak: u32,
    seconds: [Second; WINDOW_SECONDS as usize],
    state: State,
}

#[derive(Clone, Copy, Debug, Default)]
struct Second {
    number: u64,
    calls: u32,
    faults: u32,
}

impl Breaker {
    pub(crate) fn new(activated: Instant) -> Self {
        Self {
            activated,
            calls: 0,
            streak: 0,
            seconds: Default::default(),
            state: State::Closed,
        }
    }

    /// Lets a call through, or returns the time for which it lets none through. A call that was let through must be
    /// recorded.
    pub(crate) fn admit(&mut self, now: Instant) -> Result<(), Duration> {
        // The pause is over with the first call after it; no timer is needed.
        if let State::Open { until, pause } = self.state {
            if now < until {
                return Err(until - now);
            }
            self.state = State::Probing {
                under_way: 0,
                passed: 0,
                pause,
            };
        }
        if let State::Probing {
            under_way, passed, ..
        } = &mut self.state
        {
            if *under_way + *passed >= PROBES {
                // As many probes as may run are under way; their end decides.
                return Err(Duration::from_secs(1));
            }
            *under_way += 1;
        }
        Ok(())
    }

    /// Records the end of a call.
    pub(crate) fn record(&mut self, outcome: Outcome, now: Instant) -> Option<Tripped> {
        if let State::Probing { under_way, .. } = &mut self.state {
            // Calls from before the pause may end now as well.
            *under_way = under_way.saturating_sub(1);
        }
        if outcome == Outcome::Nothing {
            return None;
        }
        self.calls += 1;
        self.count(outcome, now);
        match (self.state, outcome) {
            (State::Probing { pause, .. }, Outcome::Fault) => {
                self.open(now, (pause * 2).min(MAX_PAUSE))
            }
            (
                State::Probing {
                    under_way,
                    passed,
                    pause,
                },
                _,
            ) => {
                let passed = passed + 1;
                self.state = State::Probing {
                    under_way,
                    passed,
                    pause,
                };
                if passed >= PROBES {
                    self.state = State::Closed;
                    self.reset();
                }
                None
            }
            (State::Closed, Outcome::Fault) if self.is_too_often(now) => {
                self.open(now, FIRST_PAUSE)
            }
            // A call that began before it opened says nothing new.
            _ => None,
        }
    }

    /// Returns the time for which it lets nothing through, if it is open.
    pub(crate) fn closed_for(&self, now: Instant) -> Option<Duration> {
        match self.state {
            State::Open { until, .. } => Some(until.saturating_duration_since(now)),
            _ => None,
        }
    }

    fn open(&mut self, now: Instant, pause: Duration) -> Option<Tripped> {
        // A bad probe opens it again, which says nothing new about the revision.
        let first = self.state == State::Closed;
        self.state = State::Open {
            until: now + pause,
            pause,
        };
        self.reset();
        let young =
            now.saturating_duration_since(self.activated) < YOUNG_FOR || self.calls < YOUNG_CALLS;
        Some(Tripped {
            young: first && young,
        })
    }

    fn reset(&mut self) {
        self.streak = 0;
        self.seconds = Default::default();
    }

    fn count(&mut self, outcome: Outcome, now: Instant) {
        let number = self.second(now);
        // A ring of seconds: memory does not grow with the calls.
        let second = &mut self.seconds[(number % WINDOW_SECONDS) as usize];
        // The slot still holds a second of the last round.
        if second.number != number {
            *second = Second {
                number,
                ..Second::default()
            };
        }
        second.calls += 1;
        if outcome == Outcome::Fault {
            second.faults += 1;
            self.streak += 1;
        } else {
            self.streak = 0;
        }
    }

    fn is_too_often(&self, now: Instant) -> bool {
        let oldest = self.second(now).saturating_sub(WINDOW_SECONDS - 1);
        let recent = self.seconds.iter().filter(|second| second.number >= oldest);
        let (calls, faults) = recent.fold((0, 0), |(calls, faults), s| {
            (calls + s.calls, faults + s.faults)
        });
        self.streak >= MAX_FAULTS_IN_A_ROW || (calls >= MIN_CALLS_TO_JUDGE && faults * 2 >= calls)
    }

    /// Returns the seconds since activation, from 1 on: an empty slot of the window has number 0.
    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.activated).as_secs() + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Outcome::{Fault, Good, Nothing};

    struct Clock {
        start: Instant,
        breaker: Breaker,
    }

    impl Clock {
        fn new() -> Self {
            let start = Instant::now();
            Self {
                start,
                breaker: Breaker::new(start),
            }
        }

        fn call(&mut self, second: u64, outcome: Outcome) -> Option<Tripped> {
            let now = self.start + Duration::from_secs(second);
            assert_eq!(self.breaker.admit(now), Ok(()), "at {second} s");
            self.breaker.record(outcome, now)
        }

        fn refused(&mut self, second: u64) -> bool {
            self.breaker
                .admit(self.start + Duration::from_secs(second))
                .is_err()
        }
    }

    #[test]
    fn five_faults_in_a_row_trip_it_and_four_do_not() {
        let mut clock = Clock::new();
        for outcome in [
            Fault, Fault, Fault, Fault, Good, Fault, Fault, Nothing, Fault, Fault,
        ] {
            assert_eq!(clock.call(0, outcome), None);
        }
        assert_eq!(clock.call(0, Fault), Some(Tripped { young: true }));
        assert!(clock.refused(29) && !clock.refused(30));
    }

    #[test]
    fn half_of_twenty_calls_within_thirty_seconds_trip_it() {
        let mut clock = Clock::new();
        for n in 0..19 {
            assert_eq!(
                clock.call(n, if n % 2 == 0 { Fault } else { Good }),
                None,
                "call {n}"
            );
        }
        assert_eq!(clock.call(20, Fault), Some(Tripped { young: true }));
    }

    #[test]
    fn slow_faults_fall_out_of_the_window() {
        let mut clock = Clock::new();
        for n in 0..200 {
            assert_eq!(
                clock.call(n * 2, if n % 2 == 0 { Fault } else { Good }),
                None,
                "call {n}"
            );
        }
    }

    #[test]
    fn three_good_probes_close_it_and_a_bad_one_doubles_the_pause() {
        let mut clock = Clock::new();
        let old = 20 * 60;
        for _ in 0..YOUNG_CALLS {
            clock.call(old, Good);
        }
        for _ in 0..4 {
            clock.call(old, Fault);
        }
        assert_eq!(
            clock.call(old, Fault),
            Some(Tripped { young: false }),
            "old enough to be trusted"
        );
        let mut now = old;
        for pause in [30, 60, 120, 240, 480, 600, 600] {
            assert!(clock.refused(now + pause - 1), "a pause of {pause} s");
            now += pause;
            assert_eq!(clock.call(now, Fault), Some(Tripped { young: false }));
        }
        now += 600;
        for _ in 0..PROBES {
            assert_eq!(clock.call(now, Good), None);
        }
        for _ in 0..4 {
            assert_eq!(clock.call(now, Fault), None, "it starts anew");
        }
    }

    #[test]
    fn no_more_probes_than_three_and_a_probe_that_says_nothing_is_repeated() {
        let mut clock = Clock::new();
        for _ in 0..5 {
            clock.call(0, Fault);
        }
        for _ in 0..PROBES {
            assert!(!clock.refused(30));
        }
        assert!(clock.refused(30), "three are under way");
        let now = clock.start + Duration::from_secs(30);
        assert_eq!(clock.breaker.record(Nothing, now), None);
        assert!(!clock.refused(30) && clock.refused(30));
    }
}
