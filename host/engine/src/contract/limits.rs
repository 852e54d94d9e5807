//! Limits of one call, their defaults, and the most that an operator can grant.

use std::time::Duration;

use serde::Serialize;

const MIB: usize = 1024 * 1024;
const KIB: usize = 1024;

/// Bytes of memory that an operator can grant. The pool reserves address space for as much per memory.
pub(crate) const MAX_MEMORY_BYTES: usize = 512 * MIB;
/// Time that an operator can grant a call.
pub(crate) const MAX_WALL: Duration = Duration::from_secs(5 * 60);
/// Bytes that an operator can grant an answer, a log or a body.
pub(crate) const MAX_OUTPUT_BYTES: usize = 64 * MIB;
/// Requests that an operator can grant a call.
pub(crate) const MAX_HTTP_REQUESTS: u32 = 10_000;

/// The limits of one call of a plugin. A call that meets one fails with its typed fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Time on a processor, looked at every 10 ms.
    #[serde(rename = "cpu_ms", serialize_with = "millis")]
    pub cpu: Duration,
    /// Time from start to end, waiting included.
    #[serde(rename = "wall_ms", serialize_with = "millis")]
    pub wall: Duration,
    /// All linear memories and tables together.
    pub memory_bytes: usize,
    /// Input from the host.
    pub input_bytes: usize,
    /// Output of the guest, in one return value or one call of a host function.
    pub output_bytes: usize,
    /// Log lines and standard error together; the rest is counted and dropped.
    pub log_bytes: usize,
    /// Outbound HTTP; `None` allows none.
    pub http: Option<HttpLimits>,
}

/// The limits of one call's HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct HttpLimits {
    /// Requests.
    pub requests: u32,
    /// Bytes of one body, either way.
    pub body_bytes: usize,
    /// Time of one exchange.
    #[serde(rename = "timeout_ms", serialize_with = "millis")]
    pub timeout: Duration,
}

/// Writes a time in milliseconds, as in the grants, where these limits are set.
fn millis<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

impl Limits {
    /// Defaults of a marketplace adapter.
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

    /// Defaults of a payload shaper.
    pub const SHAPER: Self = Self {
        // A shaper only rewrites text, and the fan-out of events waits for it.
        cpu: Duration::from_millis(50),
        wall: Duration::from_millis(250),
        memory_bytes: 32 * MIB,
        input_bytes: MIB,
        output_bytes: MIB,
        log_bytes: 16 * KIB,
        // The contract gives shapers no network at all.
        http: None,
    };
}
