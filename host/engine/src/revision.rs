use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::task::TaskTracker;
use wharf_domain::{Clock, SystemClock, Time};

use crate::bindings::{MarketplaceAdapterPre, PayloadShaperPre};
use crate::guest::{GuestState, Identity};
use crate::outbound::Outbound;
use crate::report::{Counters, FaultReport};
use crate::sandbox::Metering;
use crate::{Blame, Digest, Fault, Inspection, Limits, Manifest};

/// Faults that are remembered for operators.
const LAST_FAULTS: usize = 20;

/// A component that was compiled and linked: what a fresh instance is made from.
#[derive(Clone)]
pub(crate) enum Guest {
    Adapter(MarketplaceAdapterPre<GuestState>),
    Shaper(PayloadShaperPre<GuestState>),
}

impl Guest {
    pub(crate) fn engine(&self) -> &wasmtime::Engine {
        match self {
            Self::Adapter(pre) => pre.engine(),
            Self::Shaper(pre) => pre.engine(),
        }
    }
}

/// A component that can be called: compiled code, identity, configuration, network and limits.
#[derive(Clone)]
pub(crate) struct Callable {
    pub(crate) guest: Guest,
    pub(crate) identity: Arc<Identity>,
    pub(crate) config: Arc<BTreeMap<String, String>>,
    pub(crate) limits: Limits,
    pub(crate) outbound: Outbound,
    pub(crate) metering: Metering,
}

impl Callable {
    pub(crate) fn state(&self) -> GuestState {
        GuestState::new(
            self.identity.clone(),
            self.config.clone(),
            &self.limits,
            self.outbound.clone(),
        )
    }
}

/// One revision of a plugin, ready to serve.
pub(crate) struct Revision {
    pub(crate) callable: Callable,
    pub(crate) manifest: Manifest,
    pub(crate) inspection: Inspection,
    pub(crate) size: usize,
    /// The text of its grants.
    pub(crate) grants: Option<Arc<str>>,
    pub(crate) loaded_at: Time,
    /// The calls that run: the revision has drained when there are none left.
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

/// How calls of a revision ended in this process.
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
        counter.fetch_add(1, Ordering::Relaxed);
        let mut last = self
            .last_faults
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        last.truncate(LAST_FAULTS - 1);
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
