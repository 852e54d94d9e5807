//! Every metric: its name, its type and what it says. docs/observability.md lists the same; a test compares them.

/// The way in which a metric is counted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Only rises, from 0 at the start of the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// The number of values up to each of these bounds.
    Histogram(&'static [f64]),
}

/// One metric.
#[derive(Debug)]
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
}

macro_rules! catalogue {
    ($($constant:ident = $kind:expr, $name:literal, $help:literal;)*) => {
        $(pub(super) const $constant: Metric = Metric { name: $name, kind: $kind, help: $help };)*
        /// All of them.
        pub(super) const ALL: &[Metric] = &[$($constant),*];
    };
}

/// Waiting times of clients and receivers, in seconds.
const WAITS: Kind = Kind::Histogram(&[
    0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
]);
/// A call of a plugin: 10 µs where it only computes, 30 s at the most.
const CALLS: Kind = Kind::Histogram(&[
    0.000_025, 0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 10.0, 30.0,
]);
/// Times from an event to its acceptance: at once, or after the last retry, days later.
const LAGS: Kind = Kind::Histogram(&[
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 21_600.0, 86_400.0,
]);

catalogue! {
    BUILD_INFO = Kind::Gauge, "wharf_build_info",
        "Always 1; tells the version that runs";

    HTTP_REQUESTS = Kind::Counter, "wharf_http_requests_total",
        "Requests answered, by the template of the route, the method and the class of the status";
    HTTP_DURATION = WAITS, "wharf_http_request_duration_seconds",
        "Time from a request's head to its answer, by the template of the route";

    HTTP_CONNECTIONS = Kind::Gauge, "wharf_http_connections",
        "Open connections of the API's clients";
    HTTP_CONNECTIONS_CLOSED = Kind::Counter, "wharf_http_connections_closed_total",
        "Connections of the API's clients that were closed by a limit, by which";
    HTTP_REQUESTS_LIMITED = Kind::Counter, "wharf_http_requests_limited_total",
        "Requests that were refused by a limit of one client, by which";

    IMPORTS = Kind::Counter, "wharf_imports_total",
        "Answers to imports; repeated: the stored result of an earlier import";
    IMPORT_DURATION = WAITS, "wharf_import_duration_seconds",
        "Time of an import that asked its marketplace, until it was stored";

    SYNC_JOBS = Kind::Counter, "wharf_sync_jobs_total",
        "Claims of a store's sync job, by how they ended";
    SYNC_JOB_DURATION = WAITS, "wharf_sync_job_duration_seconds",
        "Time from a job's claim to its end";
    SYNC_RUNS = Kind::Counter, "wharf_sync_runs_total",
        "Sync runs brought to their end, as their last event tells it";
    SYNC_RECEIPTS = Kind::Counter, "wharf_sync_receipts_total",
        "Receipts that sync runs asked about again, by the answer";
    RECEIPTS_EXHAUSTED = Kind::Counter, "wharf_receipts_exhausted_total",
        "Receipts that rest because they were refused, or failed their plugin, too often";

    PLUGIN_CALLS = Kind::Counter, "wharf_plugin_calls_total",
        "Calls of a plugin, by how they ended";
    PLUGIN_CALL_DURATION = CALLS, "wharf_plugin_call_duration_seconds",
        "Time of a call, waiting for a free place included";

    PLUGINS_LOADING = Kind::Gauge, "wharf_plugins_loading",
        "Plugins that are being read, compiled or tried";

    EVENTS = Kind::Counter, "wharf_events_total",
        "Passes over events to make their deliveries; put_off: a shaper was out of service";
    DELIVERIES = Kind::Counter, "wharf_deliveries_total",
        "Settled attempts, by what became of the delivery";
    DELIVERY_ATTEMPTS = Kind::Counter, "wharf_delivery_attempts_total",
        "Attempts to send a webhook, by what the receiver did";
    DELIVERY_ATTEMPT_DURATION = WAITS, "wharf_delivery_attempt_duration_seconds",
        "Time of one attempt, the answer's body included";
    DELIVERY_RETRIES = Kind::Counter, "wharf_delivery_retries_total",
        "Attempts that were not a delivery's first";
    DELIVERIES_NOT_SENT = Kind::Counter, "wharf_deliveries_not_sent_total",
        "Deliveries given back because this host itself could not send them, by the reason; no attempts";
    DELIVERY_LAG = LAGS, "wharf_delivery_lag_seconds",
        "Time from an event to its acceptance by a receiver";
    DEAD_LETTERS = Kind::Counter, "wharf_dead_letters_total",
        "Deliveries given up, by the reason";

    LEASES_RENEWED = Kind::Counter, "wharf_leases_renewed_total",
        "Leases on claimed work that were prolonged";
    LEASES_LOST = Kind::Counter, "wharf_leases_lost_total",
        "Leases that had ended when they were to be prolonged; others do the work again";
    STALE_WRITES = Kind::Counter, "wharf_stale_writes_refused_total",
        "Results not written because another worker had taken the work over";

    PURGED = Kind::Counter, "wharf_purged_rows_total",
        "Rows that were deleted because they were old; events: without their messages, deliveries and attempts";

    QUEUE_DEPTH = Kind::Gauge, "wharf_queue_depth",
        "Work that is due and held by nobody, counted up to 10000; the same from every process";
    QUEUE_OLDEST = Kind::Gauge, "wharf_queue_oldest_seconds",
        "For how long the oldest of it is due; 0 if nothing is; the same from every process";

    EVENTS_WAITING = Kind::Gauge, "wharf_events_waiting_for_shaper",
        "Events that wait for a shaper that is out of service, counted up to 10000; the same from every process";

    HOLDS = Kind::Gauge, "wharf_holds",
        "What is held by anybody, by kind, as this process knows it: no marketplace is asked for it";

    DATABASE_UP = Kind::Gauge, "wharf_database_up",
        "1 if the database told this process the figures of the queues within 2 s, else 0";
    DATABASE_CONNECTIONS = Kind::Gauge, "wharf_database_connections",
        "Open connections of this process, by pool and use";
    DATABASE_CONNECTIONS_MAX = Kind::Gauge, "wharf_database_connections_max",
        "Connections that this process may open, by pool";
}
