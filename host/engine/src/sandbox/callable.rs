//! A component that can be called.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::guest::{GuestState, Identity};
use super::limiter::MemoryTotal;
use super::log_rate::LogRate;
use super::outbound::Outbound;
use super::pace::Pace;
use super::runtime::Metering;
use super::threads::Begin;
use crate::contract::bindings::{MarketplaceAdapterPre, PayloadShaperPre};
use crate::contract::limits::Limits;

/// A compiled and linked component, from which fresh instances are made.
#[derive(Clone)]
pub(crate) enum Guest {
    Adapter(MarketplaceAdapterPre<GuestState>),
    Shaper(PayloadShaperPre<GuestState>),
}

impl Guest {
    pub(super) fn engine(&self) -> &wasmtime::Engine {
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
    /// The memory of all guests of the host.
    pub(crate) memory: Arc<MemoryTotal>,
    /// The rate of the plugin's log.
    pub(crate) log: Arc<LogRate>,
    /// How quickly its calls end.
    pub(crate) pace: Arc<Pace>,
}

impl Callable {
    /// Returns the thread on which a call is to begin.
    pub(crate) fn begin(&self, now: Instant) -> Begin {
        if self.outbound.reaches_anybody() || self.pace.was_long_lately(now) {
            Begin::Apart
        } else {
            Begin::Here
        }
    }
}
