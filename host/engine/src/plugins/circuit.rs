//! A circuit, as pure rules: it opens after too many failures, lets nothing through for a while, then probes.

use std::time::{Duration, Instant};

pub(super) const MAX_FAULTS_IN_A_ROW: u32 = 5;
/// Calls within so many seconds count.
const WINDOW_SECONDS: u64 = 30;
pub(super) const WINDOW: Duration = Duration::from_secs(WINDOW_SECONDS);
/// Fewer calls within the window say nothing about a rate.
const MIN_CALLS_TO_JUDGE: u32 = 20;
const FIRST_PAUSE: Duration = Duration::from_secs(30);
const MAX_PAUSE: Duration = Duration::from_secs(10 * 60);

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

/// A circuit and the calls that decide it.
#[derive(Debug)]
pub(super) struct Circuit {
    began: Instant,
    probes: u32,
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

impl Circuit {
    /// A closed circuit that will probe with so many calls at a time.
    pub(super) fn new(began: Instant, probes: u32) -> Self {
        Self {
            began,
            probes,
            streak: 0,
            seconds: Default::default(),
            state: State::Closed,
        }
    }

    /// Returns the time for which it lets nothing through, if it is open.
    pub(super) fn open_for(&self, now: Instant) -> Option<Duration> {
        match self.state {
            State::Open { until, .. } => until.checked_duration_since(now).filter(|d| !d.is_zero()),
            _ => None,
        }
    }

    /// Returns the time after which a call may try again, if this one may not pass.
    pub(super) fn refuses(&self, now: Instant) -> Option<Duration> {
        match self.state {
            State::Closed => None,
            State::Open { .. } => self.open_for(now),
            // As many probes as may run are under way; their end decides.
            State::Probing {
                under_way, passed, ..
            } => (under_way + passed >= self.probes).then_some(Duration::from_secs(1)),
        }
    }

    /// Lets a call through that is not refused. It must be recorded.
    pub(super) fn admit(&mut self) {
        // The pause is over with the first call after it; no timer is needed.
        if let State::Open { pause, .. } = self.state {
            self.state = State::Probing {
                under_way: 0,
                passed: 0,
                pause,
            };
        }
        if let State::Probing { under_way, .. } = &mut self.state {
            *under_way += 1;
        }
    }

    /// Records the end of a call of which nothing is known.
    pub(super) fn end(&mut self) {
        if let State::Probing { under_way, .. } = &mut self.state {
            // Calls from before the pause may end now as well.
            *under_way = under_way.saturating_sub(1);
        }
    }

    /// Records a call that went well. Enough good probes close the circuit.
    pub(super) fn good(&mut self, now: Instant) {
        self.end();
        self.count(false, now);
        if let State::Probing { passed, .. } = &mut self.state {
            *passed += 1;
            if *passed >= self.probes {
                self.state = State::Closed;
                self.reset();
            }
        }
    }

    /// Records a failure. Returns whether it opens the circuit that was closed.
    pub(super) fn failed(&mut self, now: Instant) -> bool {
        let too_often = self.count_failure(now);
        match self.state {
            State::Closed if too_often => {
                self.open(now);
                true
            }
            State::Probing { .. } => {
                self.open(now);
                false
            }
            // A call that began before it opened says nothing new.
            _ => false,
        }
    }

    /// Records a failure that does not open the circuit by itself. Returns whether failures are too many.
    pub(super) fn count_failure(&mut self, now: Instant) -> bool {
        self.end();
        self.count(true, now);
        self.is_too_often(now)
    }

    /// Opens it: for the first pause, or for twice as long as before.
    pub(super) fn open(&mut self, now: Instant) {
        let pause = match self.state {
            State::Closed => FIRST_PAUSE,
            State::Open { pause, .. } => pause,
            State::Probing { pause, .. } => (pause * 2).min(MAX_PAUSE),
        };
        self.state = State::Open {
            until: now + pause,
            pause,
        };
        self.reset();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    pub(super) fn is_probing(&self) -> bool {
        matches!(self.state, State::Probing { .. })
    }

    /// Faults in a row; as many as open it where it is not closed.
    pub(super) fn streak(&self) -> u32 {
        if self.is_closed() {
            self.streak
        } else {
            MAX_FAULTS_IN_A_ROW
        }
    }

    fn reset(&mut self) {
        self.streak = 0;
        self.seconds = Default::default();
    }

    fn count(&mut self, failed: bool, now: Instant) {
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
        if failed {
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

    /// Returns the seconds since it began, from 1 on: an empty slot of the window has number 0.
    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_secs() + 1
    }
}
