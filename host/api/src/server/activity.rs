//! The activity of a connection, and how long it may go on so.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::ServerSettings;

/// In a shutdown, how long a request's body may pause before its connection is closed.
// Well below SHUTDOWN_GRACE (25 s by default), so that half requests never use it up.
const MAX_STALL: Duration = Duration::from_secs(3);

/// Kept by a connection's socket and exchanges, read by its keeper and by whoever needs its place.
pub(super) struct Activity(Mutex<State>);

struct State {
    /// The time since when there is no exchange; from the start, if there has been none.
    idle_since: Instant,
    has_served: bool,
    is_http2: bool,
    /// The time at which the first byte came of a head that is not complete.
    head_since: Option<Instant>,
    /// The time since when the client has not taken all that is to be written.
    blocked_since: Option<Instant>,
    // More than one with HTTP/2 alone, where up to `MAX_STREAMS` requests share a connection.
    exchanges: BTreeMap<u64, Phase>,
    next: u64,
}

/// The stage of a request and its answer.
#[derive(Clone, Copy)]
enum Phase {
    /// The body is on its way; its last bytes came then.
    Receiving(Instant),
    /// The request is complete. How long this may take is the router's to say.
    Handling,
    /// The answer is on its way since then.
    Answering(Instant),
}

/// The reason why a limit closes a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// No complete head came.
    Silent,
    /// No further request came.
    Idle,
    /// The client does not take its answer.
    Slow,
}

impl Activity {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(State {
            idle_since: now,
            has_served: false,
            is_http2: false,
            head_since: None,
            blocked_since: None,
            exchanges: BTreeMap::new(),
            next: 0,
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Times and flags are right after every assignment: a panic elsewhere makes none of them wrong.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes came.
    pub(super) fn heard(&self, bytes: &[u8]) {
        let mut state = self.state();
        // No method of HTTP/1 begins so. Between requests HTTP/2 sends frames that begin no head.
        state.is_http2 |= !state.has_served && bytes.starts_with(b"PRI");
        if state.exchanges.is_empty() && !state.is_http2 {
            state.head_since.get_or_insert_with(Instant::now);
        }
    }

    /// A write ended, with everything taken or not.
    pub(super) fn wrote(&self, everything: bool) {
        let mut state = self.state();
        if everything {
            state.blocked_since = None;
        } else {
            // The first time counts: a client that takes a byte now and then must not win time by it.
            state.blocked_since.get_or_insert_with(Instant::now);
        }
    }

    /// A request's head is complete.
    pub(super) fn begin(self: &Arc<Self>, has_body: bool) -> Exchange {
        let mut state = self.state();
        let id = state.next;
        state.next += 1;
        // Only a connection's first bytes can be HTTP/2's preface; a later body may begin with the same letters.
        state.has_served = true;
        state.head_since = None;
        let phase = if has_body {
            Phase::Receiving(Instant::now())
        } else {
            Phase::Handling
        };
        state.exchanges.insert(id, phase);
        Exchange {
            activity: self.clone(),
            id,
        }
    }

    /// The time since when there is no exchange and nothing to be written; `None` while there is.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let state = self.state();
        let is_idle = state.exchanges.is_empty() && state.blocked_since.is_none();
        is_idle.then_some(state.idle_since)
    }

    /// The limit that is overdue at this time, or when the next one will be; `None` while the router has the word.
    pub(super) fn judge(
        &self,
        settings: &ServerSettings,
        now: Instant,
    ) -> Result<Option<Instant>, Overdue> {
        let limits = self.state().limits(settings);
        let overdue = limits.iter().find(|(deadline, _)| *deadline <= now);
        match overdue {
            Some((_, why)) => Err(*why),
            None => Ok(limits.into_iter().map(|(deadline, _)| deadline).min()),
        }
    }

    /// Returns true if nothing is lost by closing the connection in a shutdown: no request is in work and no answer
    /// on its way, or what there is of requests stands still half sent.
    pub(super) fn may_close(&self, now: Instant) -> bool {
        let state = self.state();
        let stalled = |phase: &Phase| match phase {
            // By the last byte, not the first: a slow upload that goes on may finish.
            Phase::Receiving(last) => now.saturating_duration_since(*last) >= MAX_STALL,
            Phase::Handling | Phase::Answering(_) => false,
        };
        state.blocked_since.is_none() && state.exchanges.values().all(stalled)
    }
}

impl State {
    fn limits(&self, settings: &ServerSettings) -> Vec<(Instant, Overdue)> {
        let idle = settings.idle_timeout();
        // A body that comes too slowly is answered 408 by `body.rs`, a slow handler 503 by the router: both are
        // better than a connection that breaks off, so neither has a limit here.
        let answering = self.exchanges.values().filter_map(|phase| match phase {
            Phase::Answering(since) => Some(*since),
            Phase::Receiving(_) | Phase::Handling => None,
        });
        // `blocked_since` is counted beside the answers: pings and refusals of HTTP/2 belong to no exchange.
        let slowest = answering.chain(self.blocked_since).min();
        let mut limits: Vec<_> = slowest
            .map(|since| (since + idle, Overdue::Slow))
            .into_iter()
            .collect();
        if self.exchanges.is_empty() {
            limits.push(if self.has_served {
                (self.idle_since + idle, Overdue::Idle)
            } else {
                // A new connection has to say something soon: only who has asked once may keep one for the next time.
                (self.idle_since + settings.request_timeout, Overdue::Silent)
            });
            let head = self.head_since;
            limits.extend(head.map(|since| (since + settings.request_timeout, Overdue::Silent)));
        }
        limits
    }
}

/// A request and its answer. It ends when this is dropped.
pub(super) struct Exchange {
    activity: Arc<Activity>,
    id: u64,
}

impl Exchange {
    /// The way to tell how the request's body arrives.
    pub(super) fn arrival(&self) -> Arrival {
        Arrival {
            activity: self.activity.clone(),
            id: self.id,
        }
    }

    /// The answer is on its way from now on.
    pub(super) fn answering(&self) {
        self.activity
            .set(self.id, |_| Phase::Answering(Instant::now()));
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let mut state = self.activity.state();
        // Also when the client has left: hyper drops the answer then, wherever it is.
        state.exchanges.remove(&self.id);
        if state.exchanges.is_empty() {
            state.idle_since = Instant::now();
        }
    }
}

/// The arrival of a request's body.
pub(super) struct Arrival {
    activity: Arc<Activity>,
    id: u64,
}

impl Arrival {
    /// Some of it came, or the end of it.
    pub(super) fn came(&self, is_end: bool) {
        self.activity.set(self.id, |phase| match phase {
            Phase::Receiving(_) if is_end => Phase::Handling,
            Phase::Receiving(_) => Phase::Receiving(Instant::now()),
            // An answer may be on its way before its request is read to the end; it is not set back.
            later => later,
        });
    }
}

impl Activity {
    fn set(&self, id: u64, change: impl FnOnce(Phase) -> Phase) {
        // A request's body may outlive its exchange, which ended with the answer.
        if let Some(phase) = self.state().exchanges.get_mut(&id) {
            *phase = change(*phase);
        }
    }
}
