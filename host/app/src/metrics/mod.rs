//! Metrics for operators. `catalogue.rs` has every metric with its meaning, `registry.rs` keeps the figures.
//!
//! Promises: no label holds an id, a URL or anything else that clients choose; plugins' names are bounded. Handles are
//! made once, so that counting costs an atomic addition and timing a push. Left out: serving the text, which the API
//! does.

mod catalogue;
mod connections;
mod holds;
mod outcome;
mod registry;
mod scrape;
mod sync;

use std::{sync::OnceLock, time::Duration};

use metrics::{Counter, Gauge, Histogram};
use wharf_domain::{DeliveryState, Held, ImportResult, NotSent, SendOutcome, Time};
use wharf_store::{
    deliveries::{Attempt, Claimed},
    outbox::{FanOut, Next},
};

pub use self::connections::{ConnectionClosed, RequestLimit};
pub(crate) use self::{outcome::call_outcome, scrape::gather};
use self::{
    registry::{ByName, Counters, Registry},
    scrape::{QueueGauges, Readings},
};
use crate::AppError;

/// Plugins with series of their own; a host has a handful.
const MAX_PLUGINS: usize = 64;
/// Routes, of which the program has some forty.
const MAX_ROUTES: usize = 128;
/// Stands for a name that no plugin serves, and for a path that is no route.
const NONE: &str = "(none)";
/// Time between two sums of the histograms: their raw values pile up in memory until then.
const GATHER_EVERY: Duration = Duration::from_secs(5);

const METHODS: [&str; 8] = [
    "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "other",
];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

const IMPORTS: &[&str] = &[
    "imported",
    "invalid_receipt",
    "rate_limited",
    "marketplace_unavailable",
    "repeated",
    "store_not_found",
    "on_hold",
    "error",
];
const SYNC_JOBS: &[&str] = &[
    "finished",
    "requeued",
    "yielded",
    "held",
    "locked",
    "stopped",
    "interrupted",
    "failed",
    "taken_over",
];
const CALLS: &[&str] = &[
    "answered",
    "refused",
    "plugin_fault",
    "upstream_fault",
    "host_fault",
    "overloaded",
    "out_of_service",
    "upstream_paused",
    "not_found",
];
const EXHAUSTED: &[&str] = &["refused", "plugin_failed"];
const NOT_SENT: &[&str] = &[
    NotSent::ALL[0].as_str(),
    NotSent::ALL[1].as_str(),
    NotSent::ALL[2].as_str(),
    NotSent::ALL[3].as_str(),
    NotSent::ALL[4].as_str(),
];
const ATTEMPTS: &[&str] = &["accepted", "rejected", "gone", "no_answer", "not_sent"];

/// Work that is claimed and leased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leased {
    Sync,
    FanOut,
    Deliveries,
}

impl Leased {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::FanOut => "fan_out",
            Self::Deliveries => "deliveries",
        }
    }
}

/// The figures of this process.
pub struct Metrics {
    registry: Registry,
    http: ByName<Route>,
    connections: connections::Connections,
    imports: Counters,
    import_duration: Histogram,
    sync_jobs: Counters,
    sync_job_duration: Histogram,
    sync_runs: Counters,
    sync_receipts: Counters,
    exhausted: Counters,
    plugins: ByName<Plugin>,
    plugins_loading: Gauge,
    events: Counters,
    deliveries: Counters,
    delivery_attempts: Counters,
    delivery_attempt_duration: Histogram,
    delivery_retries: Counter,
    deliveries_not_sent: Counters,
    delivery_lag: Histogram,
    dead_letters: Counters,
    leases_renewed: Counters,
    leases_lost: Counters,
    stale_writes: Counters,
    purged: Counters,
    queues: [QueueGauges; 3],
    events_waiting: Gauge,
    holds: holds::HoldGauges,
    database_up: Gauge,
    readings: Readings,
}

struct Plugin {
    calls: Counters,
    duration: Histogram,
}

struct Route {
    name: Box<str>,
    requests: [[OnceLock<Counter>; CLASSES.len()]; METHODS.len()],
    duration: Histogram,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        use catalogue as c;
        let registry = Registry::new();
        registry
            .gauge(&c::BUILD_INFO, &[("version", env!("CARGO_PKG_VERSION"))])
            .set(1.0);
        Self {
            connections: connections::Connections::new(&registry),
            http: ByName::new(MAX_ROUTES),
            imports: registry.counters(&c::IMPORTS, "outcome", IMPORTS),
            import_duration: registry.histogram(&c::IMPORT_DURATION, &[]),
            sync_jobs: registry.counters(&c::SYNC_JOBS, "outcome", SYNC_JOBS),
            sync_job_duration: registry.histogram(&c::SYNC_JOB_DURATION, &[]),
            sync_runs: registry.counters(&c::SYNC_RUNS, "outcome", &["completed", "failed"]),
            sync_receipts: registry.counters(
                &c::SYNC_RECEIPTS,
                "outcome",
                &["success", "failed", "rate_limited"],
            ),
            exhausted: registry.counters(&c::RECEIPTS_EXHAUSTED, "reason", EXHAUSTED),
            plugins: ByName::new(MAX_PLUGINS),
            plugins_loading: registry.gauge(&c::PLUGINS_LOADING, &[]),
            events: registry.counters(&c::EVENTS, "outcome", &["fanned_out", "put_off"]),
            deliveries: registry.counters(
                &c::DELIVERIES,
                "outcome",
                &["delivered", "retry", "dead"],
            ),
            delivery_attempts: registry.counters(&c::DELIVERY_ATTEMPTS, "outcome", ATTEMPTS),
            delivery_attempt_duration: registry.histogram(&c::DELIVERY_ATTEMPT_DURATION, &[]),
            delivery_retries: registry.counter(&c::DELIVERY_RETRIES, &[]),
            deliveries_not_sent: registry.counters(&c::DELIVERIES_NOT_SENT, "reason", NOT_SENT),
            delivery_lag: registry.histogram(&c::DELIVERY_LAG, &[]),
            dead_letters: registry.counters(
                &c::DEAD_LETTERS,
                "reason",
                &["exhausted", "gone", "not_sent", "unshaped"],
            ),
            leases_renewed: registry.counters(&c::LEASES_RENEWED, "lane", &["sync", "deliveries"]),
            leases_lost: registry.counters(&c::LEASES_LOST, "lane", &["sync", "deliveries"]),
            stale_writes: registry.counters(
                &c::STALE_WRITES,
                "lane",
                &["sync", "fan_out", "deliveries"],
            ),
            purged: registry.counters(&c::PURGED, "what", wharf_store::PURGED),
            queues: [Leased::Sync, Leased::FanOut, Leased::Deliveries]
                .map(|leased| QueueGauges::new(&registry, leased.as_str())),
            events_waiting: registry.gauge(&c::EVENTS_WAITING, &[]),
            holds: holds::HoldGauges::new(&registry),
            database_up: registry.gauge(&c::DATABASE_UP, &[]),
            readings: Readings::default(),
            registry,
        }
    }

    /// A request was answered. `route` is the template, such as `/admin/plugins/{plugin}`; `None` if the path is no
    /// route.
    pub fn request(&self, route: Option<&str>, method: &str, status: u16, took: Duration) {
        let route = self.http.of(route.unwrap_or(NONE), |name| Route {
            name: name.into(),
            // Counters of a route are made when they are first needed: most are never.
            requests: Default::default(),
            duration: self
                .registry
                .histogram(&catalogue::HTTP_DURATION, &[("route", name)]),
        });
        route.duration.record(took);
        // Clients choose the method: unknown ones share the last label, so that series stay bounded.
        let method_at = METHODS
            .iter()
            .position(|known| *known == method)
            .unwrap_or(METHODS.len() - 1);
        // A status below 100 does not exist, but an index must never be out of bounds.
        let class_at = usize::from(status / 100).clamp(1, CLASSES.len()) - 1;
        let requests = route.requests[method_at][class_at].get_or_init(|| {
            let labels = [
                ("route", &*route.name),
                ("method", METHODS[method_at]),
                ("status", CLASSES[class_at]),
            ];
            self.registry.counter(&catalogue::HTTP_REQUESTS, &labels)
        });
        requests.increment(1);
    }

    /// An import was answered; `asked` is how long it took where the marketplace was asked.
    pub(crate) fn import(&self, answer: &Result<ImportResult, AppError>, asked: Option<Duration>) {
        self.imports.count(match (answer, asked) {
            (Ok(_), None) => "repeated",
            (Ok(ImportResult::Imported(_)), _) => "imported",
            (Ok(ImportResult::InvalidReceipt), _) => "invalid_receipt",
            (Ok(ImportResult::RateLimited), _) => "rate_limited",
            (Ok(ImportResult::Unavailable), _) => "marketplace_unavailable",
            (Err(AppError::StoreNotFound), _) => "store_not_found",
            (Err(AppError::StoreHeld), _) => "on_hold",
            (Err(_), _) => "error",
        });
        if let Some(took) = asked {
            self.import_duration.record(took);
        }
    }

    /// A call of a plugin ended.
    pub(crate) fn plugin_call(&self, plugin: Option<&str>, outcome: &'static str, took: Duration) {
        let plugin = self.plugins.of(plugin.unwrap_or(NONE), |name| Plugin {
            calls: self.registry.counters_with(
                &catalogue::PLUGIN_CALLS,
                &[("plugin", name)],
                "outcome",
                CALLS,
            ),
            duration: self
                .registry
                .histogram(&catalogue::PLUGIN_CALL_DURATION, &[("plugin", name)]),
        });
        plugin.calls.count(outcome);
        plugin.duration.record(took);
    }

    /// A batch of events was passed over; `written` of them were still ours.
    pub(crate) fn fanned_out(&self, events: &[FanOut], written: usize) {
        let number = |is: fn(&Next) -> bool| events.iter().filter(|event| is(&event.next)).count();
        let put_off = number(|next| matches!(next, Next::Again(..)));
        let done = number(|next| *next == Next::Done);
        let unshaped = events
            .iter()
            .flat_map(|event| &event.deliveries)
            .filter(|delivery| delivery.dead.is_some());
        self.events.add("put_off", put_off as u64);
        self.events.add("fanned_out", done as u64);
        self.unshaped(unshaped.count());
        self.stale_writes(Leased::FanOut, events.len() - written);
    }

    /// Shapers refused events: these deliveries are dead from the start.
    pub(crate) fn unshaped(&self, deliveries: usize) {
        self.dead_letters.add("unshaped", deliveries as u64);
    }

    /// An attempt was settled at this time, or refused if somebody else has taken the delivery over (`held` is false).
    pub(crate) fn delivery(
        &self,
        claimed: &Claimed,
        outcome: SendOutcome,
        attempt: &Attempt,
        state: DeliveryState,
        held: bool,
        now: Time,
    ) {
        self.delivery_attempts
            .count(match (outcome, attempt.http_status) {
                (SendOutcome::Accepted, _) => "accepted",
                (SendOutcome::Gone, _) => "gone",
                (SendOutcome::Hopeless, _) => "not_sent",
                (SendOutcome::Failed { .. }, Some(_)) => "rejected",
                (SendOutcome::Failed { .. }, None) => "no_answer",
            });
        self.delivery_attempt_duration.record(attempt.latency);
        self.delivery_retries
            .increment(u64::from(claimed.attempts_before > 0));
        match state {
            // Refused: whoever took it over counts what becomes of it.
            _ if !held => self.stale_writes(Leased::Deliveries, 1),
            DeliveryState::Pending => self.deliveries.count("retry"),
            DeliveryState::Success => {
                self.deliveries.count("delivered");
                self.delivery_lag.record(now.since(claimed.happened_at));
            }
            DeliveryState::Failed => {
                self.deliveries.count("dead");
                self.dead_letters.count(match outcome {
                    SendOutcome::Gone => "gone",
                    SendOutcome::Hopeless => "not_sent",
                    SendOutcome::Accepted | SendOutcome::Failed { .. } => "exhausted",
                });
            }
        }
    }

    /// A delivery was given back because the host itself could not send it.
    pub(crate) fn not_sent(&self, why: NotSent) {
        self.deliveries_not_sent.count(why.as_str());
    }

    /// Leases were to be prolonged.
    pub(crate) fn leases(&self, leased: Leased, renewed: usize, lost: usize) {
        self.leases_renewed.add(leased.as_str(), renewed as u64);
        self.leases_lost.add(leased.as_str(), lost as u64);
    }

    /// Holds have changed.
    pub(crate) fn holds(&self, held: &Held) {
        self.holds.set(held);
    }

    /// Rows of one kind were deleted because they were old.
    pub(crate) fn purged(&self, what: &str, rows: u64) {
        self.purged.add(what, rows);
    }

    /// Results were not written because the fence had risen.
    pub(crate) fn stale_writes(&self, leased: Leased, number: usize) {
        self.stale_writes.add(leased.as_str(), number as u64);
    }
}
