use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use serde::Serialize;
use utoipa::ToSchema;

use wharf_egress::{Resolver, SystemResolver};

use crate::Kind;

const MIB: usize = 1024 * 1024;
const KIB: usize = 1024;

/// What one call of a plugin may use. Every limit is enforced, and a call that meets one fails with its typed fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Limits {
    /// Time on a processor, looked at every 10 ms.
    #[serde(rename = "cpu_ms", serialize_with = "millis")]
    #[schema(value_type = u64)]
    pub cpu: Duration,
    /// Time from start to end, waiting included.
    #[serde(rename = "wall_ms", serialize_with = "millis")]
    #[schema(value_type = u64)]
    pub wall: Duration,
    /// All linear memories and tables together.
    pub memory_bytes: usize,
    /// What the host hands in.
    pub input_bytes: usize,
    /// What the guest hands out, in one return value or one call of a host function.
    pub output_bytes: usize,
    /// Log lines and standard error together; the rest is counted and dropped.
    pub log_bytes: usize,
    /// Outbound HTTP; `None` is none at all.
    #[schema(required)]
    pub http: Option<HttpLimits>,
}

/// What one call may do over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct HttpLimits {
    /// How many requests.
    pub requests: u32,
    /// The bytes of one body, either way.
    pub body_bytes: usize,
    /// How long one exchange may take.
    #[serde(rename = "timeout_ms", serialize_with = "millis")]
    #[schema(value_type = u64)]
    pub timeout: Duration,
}

/// As in the grants, where these limits are set.
fn millis<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

impl Limits {
    /// The defaults of a marketplace adapter.
    pub const ADAPTER: Self = Self {
        cpu: Duration::from_millis(500),
        wall: Duration::from_secs(30),
        memory_bytes: 64 * MIB,
        input_bytes: MIB,
        output_bytes: 8 * MIB,
        log_bytes: 64 * KIB,
        http: Some(HttpLimits {
            requests: 16,
            body_bytes: 8 * MIB,
            timeout: Duration::from_secs(10),
        }),
    };

    /// The defaults of a payload shaper.
    pub const SHAPER: Self = Self {
        cpu: Duration::from_millis(50),
        wall: Duration::from_millis(250),
        memory_bytes: 32 * MIB,
        input_bytes: MIB,
        output_bytes: MIB,
        log_bytes: 16 * KIB,
        http: None,
    };
}

/// Where the engine finds things and how much it may use.
#[derive(Clone)]
pub struct EngineSettings {
    /// The watched folder of `*.wasm` files; `None` is an engine that is loaded by hand.
    pub plugins_dir: Option<PathBuf>,
    /// Where compiled code and the life of revisions are kept; `None` keeps nothing.
    pub state_dir: Option<PathBuf>,
    /// Calls that run at the same time, of all plugins together. A plugin gets 16 of them, or half if that is less.
    pub max_in_flight: usize,
    /// Threads that guests run on. They are the engine's own, so that no guest can hold up the host.
    pub guest_threads: usize,
    /// What a call of an adapter may use.
    pub adapter_limits: Limits,
    /// What a call of a shaper may use.
    pub shaper_limits: Limits,
    /// How long one component may take to compile.
    pub compile_limit: Duration,
    /// Where the names that plugins ask for become addresses.
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
    /// A watched folder and a place for state, defaults for the rest.
    pub fn new(plugins_dir: impl Into<PathBuf>, state_dir: impl Into<PathBuf>) -> Self {
        Self {
            plugins_dir: Some(plugins_dir.into()),
            state_dir: Some(state_dir.into()),
            ..Self::in_memory()
        }
    }

    /// No folder and no state: plugins come from [`Engine::load`](crate::Engine::load) alone.
    pub fn in_memory() -> Self {
        Self {
            plugins_dir: None,
            state_dir: None,
            max_in_flight: 64,
            guest_threads: std::thread::available_parallelism().map_or(2, Into::into),
            adapter_limits: Limits::ADAPTER,
            shaper_limits: Limits::SHAPER,
            compile_limit: Duration::from_secs(60),
            resolver: Arc::new(SystemResolver),
        }
    }

    pub(crate) const fn limits(&self, kind: Kind) -> Limits {
        match kind {
            Kind::Adapter => self.adapter_limits,
            Kind::Shaper => self.shaper_limits,
        }
    }
}
