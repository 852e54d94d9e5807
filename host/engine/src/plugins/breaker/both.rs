//! The two breakers of a revision behind one lock: the plugin's and that of the marketplace behind it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Breaker, Origin, Outcome, Pass, Tripped, Watched};

/// The breakers of a revision.
pub(crate) struct Breakers(Mutex<Both>);

/// What each of them is told or says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ForBoth<T> {
    pub(crate) plugin: T,
    pub(crate) upstream: T,
}

pub(crate) type Both = ForBoth<Breaker>;

/// A call that may not pass: whom it would have met, and the time after which it may try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) watched: Watched,
    pub(crate) pause: Duration,
}

impl Breakers {
    pub(crate) fn new(activated: Instant) -> Self {
        let watch = |watched| Breaker::new(watched, activated);
        Self(Mutex::new(ForBoth {
            plugin: watch(Watched::Plugin),
            upstream: watch(Watched::Upstream),
        }))
    }

    /// Returns the breakers of the revision that takes this one's place.
    pub(crate) fn successor(&self, activated: Instant) -> Self {
        let both = self.lock();
        Self(Mutex::new(ForBoth {
            plugin: both.plugin.successor(activated),
            upstream: both.upstream.successor(activated),
        }))
    }

    /// Both, locked for a moment: a call asks one lock when it begins, and one when it ends.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Both> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Both {
    /// Says who would not let this call pass now.
    pub(crate) fn refuses(&self, origins: ForBoth<Origin>, now: Instant) -> Option<Refused> {
        let plugin = self.plugin.refuses(origins.plugin, now);
        let plugin = plugin.map(|pause| Watched::Plugin.refused(pause));
        plugin.or_else(|| {
            let upstream = self.upstream.refuses(origins.upstream, now);
            upstream.map(|pause| Watched::Upstream.refused(pause))
        })
    }

    /// Lets a call through, or says who does not. A call that was let through must be recorded.
    pub(crate) fn admit(
        &mut self,
        origins: ForBoth<Origin>,
        now: Instant,
    ) -> Result<ForBoth<Pass>, Refused> {
        // Both are asked before either counts the call.
        match self.refuses(origins, now) {
            Some(refused) => Err(refused),
            None => Ok(ForBoth {
                plugin: self.plugin.let_through(origins.plugin, now),
                upstream: self.upstream.let_through(origins.upstream, now),
            }),
        }
    }

    /// Records the end of a call.
    pub(crate) fn record(
        &mut self,
        origins: ForBoth<Origin>,
        passes: ForBoth<Pass>,
        outcomes: ForBoth<Outcome>,
        now: Instant,
    ) -> ForBoth<Option<Tripped>> {
        let (plugin, upstream) = (&mut self.plugin, &mut self.upstream);
        ForBoth {
            plugin: plugin.record(origins.plugin, passes.plugin, outcomes.plugin, now),
            upstream: upstream.record(origins.upstream, passes.upstream, outcomes.upstream, now),
        }
    }
}
