//! Settings of the engine.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use wharf_egress::{Resolver, SystemResolver};

use super::{inspect::Kind, limits::Limits};

/// The engine's folders and limits.
#[derive(Clone)]
pub struct EngineSettings {
    /// The watched folder of `*.wasm` files; `None` is an engine that is loaded by hand.
    pub plugins_dir: Option<PathBuf>,
    /// The folder of compiled code and the revision store; `None` keeps nothing.
    pub state_dir: Option<PathBuf>,
    /// Calls that run at the same time, of all plugins together. A plugin gets 16 of them, or half if that is less.
    pub max_in_flight: usize,
    /// Threads that guests run on. They are the engine's own, so that no guest can hold up the host.
    pub guest_threads: usize,
    /// Limits of an adapter's call.
    pub adapter_limits: Limits,
    /// Limits of a shaper's call.
    pub shaper_limits: Limits,
    /// Time that one component may take to compile.
    pub compile_limit: Duration,
    /// The resolver of the names that plugins ask for.
    pub resolver: Arc<dyn Resolver>,
}

impl fmt::Debug for EngineSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineSettings")
            .field("plugins_dir", &self.plugins_dir)
            .field("state_dir", &self.state_dir)
            .field("max_in_flight", &self.max_in_flight)
            .field("guest_threads", &self.guest_threads)
            .finish_non_exhaustive()
    }
}

impl EngineSettings {
    /// Returns settings with a watched folder and a state folder, defaults for the rest.
    pub fn new(plugins_dir: impl Into<PathBuf>, state_dir: impl Into<PathBuf>) -> Self {
        Self {
            plugins_dir: Some(plugins_dir.into()),
            state_dir: Some(state_dir.into()),
            ..Self::in_memory()
        }
    }

    /// Returns settings without folders: plugins come from `Engine::load` alone.
    pub fn in_memory() -> Self {
        Self {
            plugins_dir: None,
            state_dir: None,
            // Each reserves an instance in the pool.
            max_in_flight: 64,
            // More threads than processors would only make guests interrupt each other.
            guest_threads: std::thread::available_parallelism().map_or(2, Into::into),
            adapter_limits: Limits::ADAPTER,
            shaper_limits: Limits::SHAPER,
            // A Python component takes a debug build half a minute.
            compile_limit: Duration::from_secs(60),
            resolver: Arc::new(SystemResolver),
        }
    }

    /// Returns the default limits of a kind of plugin.
    pub(crate) const fn limits(&self, kind: Kind) -> Limits {
        match kind {
            Kind::Adapter => self.adapter_limits,
            Kind::Shaper => self.shaper_limits,
        }
    }
}
