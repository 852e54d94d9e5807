//! The facts of a revision as the API shows them: manifest, inspection and limits.

use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;
use wharf_app::plugin_reports as engine;

use super::view::Kind;

/// A plugin's description of itself.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Manifest {
    /// Of a marketplace adapter.
    Adapter(AdapterManifest),
    /// Of a payload shaper.
    Shaper(ShaperManifest),
}

/// An adapter's description of itself.
#[derive(Serialize, ToSchema)]
pub(super) struct AdapterManifest {
    /// The marketplace that it serves.
    marketplace: String,
    /// The name for people.
    display_name: String,
    /// Its own semantic version.
    version: String,
    /// Origins that it wants to reach.
    wanted_origins: Vec<String>,
    /// Configuration keys that it reads.
    config_keys: Vec<String>,
    /// Credentials that the host is to add to its requests.
    credentials: Vec<String>,
}

/// A shaper's description of itself.
#[derive(Serialize, ToSchema)]
pub(super) struct ShaperManifest {
    /// The name that endpoints choose it by.
    name: String,
    /// The name for people.
    display_name: String,
    /// Its own semantic version.
    version: String,
}

impl From<engine::Manifest> for Manifest {
    fn from(manifest: engine::Manifest) -> Self {
        match manifest {
            engine::Manifest::Adapter(engine::AdapterManifest {
                marketplace,
                display_name,
                version,
                wanted_origins,
                config_keys,
                credentials,
            }) => Self::Adapter(AdapterManifest {
                marketplace,
                display_name,
                version,
                wanted_origins,
                config_keys,
                credentials,
            }),
            engine::Manifest::Shaper(engine::ShaperManifest {
                name,
                display_name,
                version,
            }) => Self::Shaper(ShaperManifest {
                name,
                display_name,
                version,
            }),
        }
    }
}

/// The facts that a component's own names tell.
#[derive(Serialize, ToSchema)]
pub(super) struct Inspection {
    /// Its world.
    kind: Kind,
    /// The contract version that it was built against.
    contract: String,
    /// Its imports, in its order.
    imports: Vec<String>,
    /// Its exports, in its order.
    exports: Vec<String>,
}

impl From<engine::Inspection> for Inspection {
    fn from(inspection: engine::Inspection) -> Self {
        let engine::Inspection {
            kind,
            contract,
            imports,
            exports,
        } = inspection;
        Self {
            kind: kind.into(),
            contract,
            imports,
            exports,
        }
    }
}

/// The limits of one call of a plugin. A call that meets one fails with its typed fault.
#[derive(Serialize, ToSchema)]
pub(super) struct Limits {
    /// Time on a processor, looked at every 10 ms.
    cpu_ms: u64,
    /// Time from start to end, waiting included.
    wall_ms: u64,
    /// All linear memories and tables together.
    memory_bytes: usize,
    /// Input from the host.
    input_bytes: usize,
    /// Output of the guest, in one return value or one call of a host function.
    output_bytes: usize,
    /// Log lines and standard error together; the rest is counted and dropped.
    log_bytes: usize,
    /// Outbound HTTP; null allows none.
    #[schema(required)]
    http: Option<HttpLimits>,
}

impl From<engine::Limits> for Limits {
    fn from(limits: engine::Limits) -> Self {
        let engine::Limits {
            cpu,
            wall,
            memory_bytes,
            input_bytes,
            output_bytes,
            log_bytes,
            http,
        } = limits;
        Self {
            cpu_ms: millis(cpu),
            wall_ms: millis(wall),
            memory_bytes,
            input_bytes,
            output_bytes,
            log_bytes,
            http: http.map(HttpLimits::from),
        }
    }
}

/// The limits of one call's HTTP.
#[derive(Serialize, ToSchema)]
pub(super) struct HttpLimits {
    /// Requests.
    requests: u32,
    /// Bytes of one body, either way.
    body_bytes: usize,
    /// Time of one exchange.
    timeout_ms: u64,
}

impl From<engine::HttpLimits> for HttpLimits {
    fn from(limits: engine::HttpLimits) -> Self {
        let engine::HttpLimits {
            requests,
            body_bytes,
            timeout,
        } = limits;
        Self {
            requests,
            body_bytes,
            timeout_ms: millis(timeout),
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
