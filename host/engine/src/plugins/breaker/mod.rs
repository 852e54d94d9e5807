//! The circuit breaker of a revision, as pure rules: time comes in as a parameter.
//!
//! A caller is an organization, or one account of it at a marketplace. Five faults in a row on different inputs, or
//! half of at least twenty calls within thirty seconds, open the circuit of the caller alone. It opens for everybody
//! when the faults come from two organizations at least and more than half of the callers of these seconds meet them.
//! An open circuit lets nothing through for thirty seconds, then probes; bad probes double the wait, up to ten minutes.
//! The owner of the breaker rolls a revision back that trips while it is young. One organization alone gets it rolled back
//! only where it is the only one that calls the plugin.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

mod both;

pub(crate) use both::{Breakers, ForBoth, Refused};

use super::circuit::{Circuit, MAX_FAULTS_IN_A_ROW, WINDOW};

/// Callers that are remembered: about half a megabyte.
const MAX_CALLERS: usize = 1_024;
/// Inputs that are remembered for a fault that they met.
const MAX_KNOWN_INPUTS: usize = 1_024;
/// Faults in a row of one caller that count for opening the circuit for everybody: one alone must not do it.
const MAX_FAULTS_OF_CALLER: u32 = 3;
/// A revision is young for this long, and until it has answered `YOUNG_CALLS`.
const YOUNG_FOR: Duration = Duration::from_secs(15 * 60);
const YOUNG_CALLS: u64 = 500;

/// The party that a breaker watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watched {
    /// The plugin. Three probes; an input that met a fault decides nothing any more.
    Plugin,
    /// The marketplace behind it. One probe, and any input, for the input is not to blame.
    Upstream,
}

impl Watched {
    /// The name in logs.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Plugin => "plugin",
            Self::Upstream => "upstream",
        }
    }

    const fn probes(self) -> u32 {
        match self {
            Self::Plugin => 3,
            Self::Upstream => 1,
        }
    }

    const fn refused(self, pause: Duration) -> Refused {
        Refused {
            watched: self,
            pause,
        }
    }
}

/// The outcome of a call, as far as it tells about who is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It did what it should, or somebody else did not.
    Good,
    /// It failed by its own fault.
    Fault,
    /// Nothing is known: it was given up, or the host could not run it.
    Nothing,
}

/// The origin of a call, in hashes: who asks, and about what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    organization: u64,
    caller: u64,
    input: u64,
}

impl Origin {
    /// `account` tells the callers of one organization apart; empty where the organization is the caller.
    pub(crate) fn new(organization: &str, account: &str, input: &str) -> Self {
        Self {
            // Hashes, because clients choose the names: what is remembered stays small however long they are.
            organization: hash(organization),
            caller: hash((organization, account)),
            input: hash((organization, account, input)),
        }
    }
}

fn hash(what: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// A call that was let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Its outcome decides.
    Counted,
    /// Its input met a fault before. It is neither a probe nor another fault.
    Known,
}

/// A circuit was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tripped {
    /// Set if the revision was activated so recently that it is to blame.
    pub(crate) young: bool,
    /// Set if it opened for everybody.
    pub(crate) for_everybody: bool,
}

/// The breaker of one revision since it was activated.
#[derive(Debug)]
pub(crate) struct Breaker {
    watched: Watched,
    activated: Instant,
    calls: u64,
    everybody: Circuit,
    callers: HashMap<u64, Caller>,
    known_inputs: VecDeque<u64>,
    /// Two organizations that called this revision, or one before it.
    users: [Option<u64>; 2],
}

#[derive(Debug)]
struct Caller {
    organization: u64,
    last_call: Instant,
    circuit: Circuit,
}

impl Breaker {
    pub(crate) fn new(watched: Watched, activated: Instant) -> Self {
        Self {
            watched,
            activated,
            calls: 0,
            everybody: Circuit::new(activated, watched.probes()),
            callers: HashMap::new(),
            known_inputs: VecDeque::new(),
            users: [None; 2],
        }
    }

    /// Returns the breaker of the revision that takes this one's place: it knows of the same callers, and of no faults.
    pub(crate) fn successor(&self, activated: Instant) -> Self {
        Self {
            users: self.users,
            ..Self::new(self.watched, activated)
        }
    }

    /// Returns the time after which this call may try again, if it may not pass now.
    fn refuses(&self, origin: Origin, now: Instant) -> Option<Duration> {
        let own = self.callers.get(&origin.caller).map(|c| &c.circuit);
        if self.is_known(origin) {
            // Not with what tripped it, while it is open; afterwards it may run beside the probes.
            return self
                .everybody
                .open_for(now)
                .or_else(|| own.and_then(|own| own.open_for(now)));
        }
        self.everybody
            .refuses(now)
            .or_else(|| own.and_then(|own| own.refuses(now)))
    }

    /// Lets a call through that is not refused. It must be recorded.
    fn let_through(&mut self, origin: Origin, now: Instant) -> Pass {
        if self.is_known(origin) {
            return Pass::Known;
        }
        self.everybody.admit();
        self.caller(origin, now).circuit.admit();
        Pass::Counted
    }

    /// Records the end of a call.
    fn record(
        &mut self,
        origin: Origin,
        pass: Pass,
        outcome: Outcome,
        now: Instant,
    ) -> Option<Tripped> {
        if pass == Pass::Known {
            if outcome == Outcome::Good {
                self.known_inputs.retain(|input| *input != origin.input);
            }
            return None;
        }
        match outcome {
            Outcome::Nothing => {
                // Frees the place of a probe, or probes that tell nothing would keep the circuit open for ever.
                self.everybody.end();
                self.caller(origin, now).circuit.end();
                None
            }
            Outcome::Good => {
                self.calls += 1;
                self.everybody.good(now);
                self.caller(origin, now).circuit.good(now);
                self.note_user(origin.organization);
                None
            }
            Outcome::Fault => {
                self.calls += 1;
                self.remember(origin);
                self.note_user(origin.organization);
                self.fault(origin, now)
            }
        }
    }

    /// Returns the time for which it lets nobody through, if it is open.
    pub(crate) fn closed_for(&self, now: Instant) -> Option<Duration> {
        self.everybody.open_for(now)
    }

    /// Counts the callers for which alone it is open.
    pub(crate) fn paused_callers(&self, now: Instant) -> usize {
        let paused = |caller: &&Caller| caller.circuit.open_for(now).is_some();
        self.callers.values().filter(paused).count()
    }

    fn fault(&mut self, origin: Origin, now: Instant) -> Option<Tripped> {
        let probing = self.everybody.is_probing();
        let own = self.caller(origin, now);
        let own_opened = own.circuit.failed(now);
        let own_closed = own.circuit.is_closed();
        let too_often = self.everybody.count_failure(now);
        if probing {
            // A bad probe of one caller is its own matter until a second organization's is bad, too.
            if own_closed {
                self.caller(origin, now).circuit.open(now);
            }
            if self.is_widespread(now) {
                self.everybody.open(now);
            }
            return None;
        }
        let widespread = too_often && self.everybody.is_closed() && self.is_widespread(now);
        if widespread {
            self.everybody.open(now);
        }
        // Where nobody else calls it, one organization's faults are all that can be known of the revision.
        let blamed = widespread || !self.serves_others(origin.organization);
        (widespread || own_opened).then(|| Tripped {
            young: blamed && self.is_young(now),
            for_everybody: widespread,
        })
    }

    fn is_young(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.activated) < YOUNG_FOR || self.calls < YOUNG_CALLS
    }

    /// Tells if more than half of the present callers meet faults, from two organizations at least.
    fn is_widespread(&self, now: Instant) -> bool {
        let present = |caller: &&Caller| now.saturating_duration_since(caller.last_call) < WINDOW;
        let (mut callers, mut failing, mut faults) = (0, 0, 0);
        let (mut first, mut several) = (None, false);
        for caller in self.callers.values().filter(present) {
            callers += 1;
            let streak = caller.circuit.streak();
            if streak == 0 {
                continue;
            }
            failing += 1;
            faults += streak.min(MAX_FAULTS_OF_CALLER);
            several |= *first.get_or_insert(caller.organization) != caller.organization;
        }
        several && failing * 2 > callers && faults >= MAX_FAULTS_IN_A_ROW
    }

    fn caller(&mut self, origin: Origin, now: Instant) -> &mut Caller {
        if self.callers.len() >= MAX_CALLERS && !self.callers.contains_key(&origin.caller) {
            self.forget_callers();
        }
        let probes = self.watched.probes();
        let caller = self.callers.entry(origin.caller).or_insert_with(|| Caller {
            organization: origin.organization,
            last_call: now,
            circuit: Circuit::new(now, probes),
        });
        caller.last_call = now;
        caller
    }

    /// Forgets those without faults first, and all if these are not enough.
    fn forget_callers(&mut self) {
        self.callers.retain(|_, caller| caller.circuit.streak() > 0);
        if self.callers.len() > MAX_CALLERS / 2 {
            // A circuit that is forgotten is closed: the caller's next faults open it again.
            self.callers.clear();
        }
    }

    fn is_known(&self, origin: Origin) -> bool {
        self.known_inputs.contains(&origin.input)
    }

    fn remember(&mut self, origin: Origin) {
        if self.watched == Watched::Upstream || self.is_known(origin) {
            return;
        }
        // The oldest goes. If it still meets a fault, that fault counts once more, and it is known again.
        self.known_inputs.truncate(MAX_KNOWN_INPUTS - 1);
        self.known_inputs.push_front(origin.input);
    }

    fn note_user(&mut self, organization: u64) {
        if !self.users.contains(&Some(organization))
            && let Some(free) = self.users.iter_mut().find(|known| known.is_none())
        {
            *free = Some(organization);
        }
    }

    /// Tells if another organization calls the plugin.
    fn serves_others(&self, organization: u64) -> bool {
        let mut users = self.users.iter().flatten();
        users.any(|other| *other != organization)
    }
}

#[cfg(test)]
mod tests;
