use std::collections::BTreeMap;
use std::sync::Arc;

use wharf_domain::Time;

use crate::bindings::{MarketplaceAdapterPre, PayloadShaperPre};
use crate::guest::{GuestState, Identity};
use crate::{Digest, Inspection, Limits, Manifest};

/// A component that was compiled and linked: what a fresh instance is made from.
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

/// A component that can be called: compiled code, identity, configuration and limits.
pub(crate) struct Callable {
    pub(crate) guest: Guest,
    pub(crate) identity: Arc<Identity>,
    pub(crate) config: Arc<BTreeMap<String, String>>,
    pub(crate) limits: Limits,
}

impl Callable {
    pub(crate) fn state(&self) -> GuestState {
        GuestState::new(self.identity.clone(), self.config.clone(), &self.limits)
    }
}

/// One revision of a plugin, ready to serve.
pub(crate) struct Revision {
    pub(crate) callable: Callable,
    pub(crate) manifest: Manifest,
    pub(crate) inspection: Inspection,
    pub(crate) size: usize,
    pub(crate) loaded_at: Time,
}

impl Revision {
    pub(crate) fn digest(&self) -> Digest {
        self.callable.identity.digest
    }

    pub(crate) fn plugin(&self) -> &str {
        &self.callable.identity.plugin
    }
}
