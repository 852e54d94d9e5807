//! The figures of clients' connections, and of what the limits of one client refuse.

use metrics::Gauge;

use super::{
    Metrics, catalogue,
    registry::{Counters, Registry},
};

/// The reason why a client's connection was closed by a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionClosed {
    /// No complete request came.
    Silent,
    /// No further request came.
    Idle,
    /// The client did not take its answer.
    Slow,
    /// It was idle, and its place was needed.
    Evicted,
    /// There was no place for it.
    Refused,
}

impl ConnectionClosed {
    const ALL: [&str; 5] = [
        Self::Silent.as_str(),
        Self::Idle.as_str(),
        Self::Slow.as_str(),
        Self::Evicted.as_str(),
        Self::Refused.as_str(),
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Idle => "idle",
            Self::Slow => "slow",
            Self::Evicted => "evicted",
            Self::Refused => "refused",
        }
    }
}

/// The limit of one client by which a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestLimit {
    /// Requests a second.
    Rate,
    /// Requests at a time.
    Concurrency,
}

impl RequestLimit {
    const ALL: [&str; 2] = [Self::Rate.as_str(), Self::Concurrency.as_str()];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Concurrency => "concurrency",
        }
    }
}

/// The figures.
pub(super) struct Connections {
    open: Gauge,
    closed: Counters,
    limited: Counters,
}

impl Connections {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            open: registry.gauge(&catalogue::HTTP_CONNECTIONS, &[]),
            closed: registry.counters(
                &catalogue::HTTP_CONNECTIONS_CLOSED,
                "reason",
                &ConnectionClosed::ALL,
            ),
            limited: registry.counters(
                &catalogue::HTTP_REQUESTS_LIMITED,
                "reason",
                &RequestLimit::ALL,
            ),
        }
    }
}

impl Metrics {
    /// So many connections of clients are open now.
    pub fn connections_open(&self, number: usize) {
        self.connections.open.set(number as f64);
    }

    /// Connections were closed by a limit.
    pub fn connections_closed(&self, why: ConnectionClosed, number: usize) {
        self.connections.closed.add(why.as_str(), number as u64);
    }

    /// A request was refused by a limit of its client.
    pub fn request_limited(&self, limit: RequestLimit) {
        self.connections.limited.count(limit.as_str());
    }
}
