//! A revision that was loaded, with the counts of its calls.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::task::TaskTracker;
use wharf_domain::{Clock, SystemClock, Time};

use crate::contract::{
    digest::Digest,
    fault::{Blame, Fault},
    inspect::Inspection,
    manifest::Manifest,
    report::{Counters, FaultReport},
};
use crate::sandbox::callable::Callable;

/// Faults that are kept for operators.
const MAX_LAST_FAULTS: usize = 20;

/// One revision of a plugin, ready to serve.
pub(crate) struct Revision {
    pub(crate) callable: Callable,
    pub(crate) manifest: Manifest,
    pub(crate) inspection: Inspection,
    pub(crate) size: usize,
    /// The text of its grants.
    pub(crate) grants: Option<Arc<str>>,
    pub(crate) loaded_at: Time,
    /// Running calls. The revision has drained when there are none left.
    pub(crate) calls: TaskTracker,
    pub(crate) counts: Counts,
}

impl Revision {
    pub(crate) fn digest(&self) -> Digest {
        self.callable.identity.digest
    }

    pub(crate) fn plugin(&self) -> &str {
        &self.callable.identity.plugin
    }
}

/// Ended calls of a revision in this process.
#[derive(Default)]
pub(crate) struct Counts {
    answered: AtomicU64,
    plugin_faults: AtomicU64,
    upstream_faults: AtomicU64,
    host_faults: AtomicU64,
    last_faults: Mutex<VecDeque<FaultReport>>,
}

impl Counts {
    pub(crate) fn count(&self, fault: Option<&Fault>) {
        let Some(fault) = fault else {
            self.answered.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let counter = match fault.blame() {
            Blame::Plugin => &self.plugin_faults,
            Blame::Upstream => &self.upstream_faults,
            Blame::Host => &self.host_faults,
        };
        // Figures for people: no order between them is promised.
        counter.fetch_add(1, Ordering::Relaxed);
        let mut last = self
            .last_faults
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Before the push, so that the list never grows beyond its limit.
        last.truncate(MAX_LAST_FAULTS - 1);
        last.push_front(FaultReport {
            at: SystemClock.now(),
            blame: fault.blame(),
            fault: fault.to_string(),
        });
    }

    pub(crate) fn report(&self) -> Counters {
        Counters {
            answered: self.answered.load(Ordering::Relaxed),
            plugin_faults: self.plugin_faults.load(Ordering::Relaxed),
            upstream_faults: self.upstream_faults.load(Ordering::Relaxed),
            host_faults: self.host_faults.load(Ordering::Relaxed),
            last_faults: self
                .last_faults
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .iter()
                .cloned()
                .collect(),
        }
    }
}
