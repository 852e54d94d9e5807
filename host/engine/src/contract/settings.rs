//! Settings of the engine.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use wharf_egress::{Resolver, SystemResolver};

use super::{inspect::Kind, limits::Limits, machine};

/// Twice the 383 MB that JavaScript and Python components were measured to need.
pub const DEFAULT_COMPILE_MEMORY_BYTES: u64 = 768 * 1024 * 1024;

/// The place where components are compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compiler {
    /// A thread of this process: for tests and measurements. A component that compiles for ever does so to the end.
    InProcess,
    /// This program, started as `<program> compile-plugin`, which calls [`compile_plugin`](crate::compile_plugin). It
    /// is killed when its time is over.
    Child(PathBuf),
}

/// The engine's folders and limits.
#[derive(Clone)]
pub struct EngineSettings {
    /// The watched folder of `*.wasm` files; `None` is an engine that is loaded by hand.
    pub plugins_dir: Option<PathBuf>,
    /// The folder of compiled code and the revision store; `None` keeps nothing.
    pub state_dir: Option<PathBuf>,
    /// The folder of the secret files that grants may name; `None` lets them name none.
    pub secrets_dir: Option<PathBuf>,
    /// Calls that run at the same time, of all plugins together. A quarter is for shapers; the gate shares them out.
    pub max_in_flight: usize,
    /// Threads of the engine's own for calls that are not over within a tick, so that no guest holds up the host for
    /// longer.
    pub guest_threads: usize,
    /// Limits of an adapter's call.
    pub adapter_limits: Limits,
    /// Limits of a shaper's call.
    pub shaper_limits: Limits,
    /// The place where components are compiled.
    pub compiler: Compiler,
    /// Time that one component may take to compile.
    pub compile_limit: Duration,
    /// Memory that compiling one component may take, where a child does it.
    pub compile_memory_bytes: u64,
    /// Time that all contract checks and vectors of one component may take together.
    pub conformance_limit: Duration,
    /// Memory of all guests together. A call that would need more fails by the host's fault, not the plugin's.
    pub memory_total_bytes: usize,
    /// The resolver of the names that plugins ask for.
    pub resolver: Arc<dyn Resolver>,
}

impl fmt::Debug for EngineSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineSettings")
            .field("plugins_dir", &self.plugins_dir)
            .field("state_dir", &self.state_dir)
            .field("secrets_dir", &self.secrets_dir)
            .field("max_in_flight", &self.max_in_flight)
            .field("guest_threads", &self.guest_threads)
            .field("compiler", &self.compiler)
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
            secrets_dir: None,
            // Each reserves an instance in the pool.
            max_in_flight: 64,
            // More threads than processors would only make guests interrupt each other.
            guest_threads: std::thread::available_parallelism().map_or(2, Into::into),
            adapter_limits: Limits::ADAPTER,
            shaper_limits: Limits::SHAPER,
            // A Python component takes a debug build half a minute.
            compile_limit: Duration::from_secs(60),
            compiler: Compiler::InProcess,
            compile_memory_bytes: DEFAULT_COMPILE_MEMORY_BYTES,
            conformance_limit: Duration::from_secs(30),
            // The other half is for the host itself and for children that compile.
            memory_total_bytes: machine::memory_bytes() / 2,
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
