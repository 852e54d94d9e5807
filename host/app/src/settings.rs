//! The settings of operations and workers.

use std::time::Duration;

use secrecy::SecretString;
use wharf_domain::{AddressPolicy, RetrySchedule};
use wharf_store::KeyRing;

use crate::OrganizationBudgets;

/// The settings of operations and workers. Every number has a default that suits one machine.
#[derive(Clone)]
pub struct AppSettings {
    /// Encrypts access tokens and signing secrets at rest.
    pub encryption_key: KeyRing,
    /// This process's name in the ledger.
    pub worker_name: String,
    /// The time that a claim lasts without renewal; after a crash, work is late by it.
    pub lease: Duration,
    /// Time between two looks for work that nobody rang for.
    pub poll: Duration,
    /// The sync engine.
    pub sync: SyncSettings,
    /// The webhooks.
    pub callbacks: CallbackSettings,
    /// Steps of plugins in the audit are purged after this long (`AUDIT_RETENTION`); `None`: never.
    pub audit_retention: Option<Duration>,
}

impl AppSettings {
    /// The defaults, with this key.
    pub fn new(encryption_key: KeyRing) -> Self {
        Self {
            encryption_key,
            worker_name: "wharf".into(),
            // Renewed every third of it, so its length costs nothing but the wait after a crash.
            lease: Duration::from_secs(30),
            // The wait where a ring was lost, or where there is no Redis at all.
            poll: Duration::from_secs(1),
            sync: SyncSettings::default(),
            callbacks: CallbackSettings::default(),
            // Longer than between two yearly reviews.
            audit_retention: Some(Duration::from_secs(400 * 24 * 60 * 60)),
        }
    }
}

/// The sync engine's numbers.
#[derive(Clone, Debug)]
pub struct SyncSettings {
    /// Logs per transaction (`SYNC_CHUNK_SIZE`).
    pub chunk_size: i64,
    /// Chunks of one run: what is left is for the next.
    pub chunks_per_run: i64,
    /// The time that a job has a place. A store with more to do goes to the back of the queue then.
    pub slice: Duration,
    /// Stores that one process works on at a time.
    pub concurrency: usize,
    /// Receipts of one chunk that are asked about at a time.
    pub asks: usize,
    /// Time between two walks of the scheduler over the stores.
    pub interval: Duration,
    /// A store is not scheduled again sooner than this after a run.
    pub rest: Duration,
}

impl Default for SyncSettings {
    fn default() -> Self {
        Self {
            chunk_size: 100,
            chunks_per_run: 10,
            // Bounds how long a quick store waits behind slow ones.
            slice: Duration::from_secs(2),
            concurrency: 4,
            asks: 8,
            interval: Duration::from_secs(30),
            // Longer than `interval`: a store with refused receipts sits out the next pass.
            rest: Duration::from_secs(60),
        }
    }
}

/// The webhooks' numbers.
#[derive(Clone)]
pub struct CallbackSettings {
    /// The waits before failed deliveries are sent again.
    pub schedule: RetrySchedule,
    /// The original service's secret (`WEBHOOK_SECRET`): adds `X-Webhook-Signature`.
    pub webhook_secret: Option<SecretString>,
    /// The addresses that may be sent to.
    pub addresses: AddressPolicy,
    /// For one attempt in all, the answer's body included.
    pub timeout: Duration,
    /// Deliveries that one process sends at a time.
    pub concurrency: usize,
    /// Of these, to one endpoint.
    pub per_endpoint: usize,
    /// Finished events are purged after this long, with their messages, deliveries and attempts; `None`: never.
    pub retention: Option<Duration>,
    /// The most endpoints of one organization.
    pub max_endpoints: i64,
    /// The operations that one organization may ask for.
    pub budgets: OrganizationBudgets,
    /// An endpoint is disabled when nothing but failures came from it for so long.
    pub disable_after: Duration,
}

impl Default for CallbackSettings {
    fn default() -> Self {
        Self {
            schedule: RetrySchedule::seed(),
            webhook_secret: None,
            addresses: AddressPolicy::default(),
            // The bound that docs/webhooks.md promises to receivers.
            timeout: Duration::from_secs(15),
            concurrency: 256,
            // One sixteenth of `concurrency`, so that one dead receiver leaves most places free.
            per_endpoint: 16,
            retention: Some(Duration::from_secs(30 * 24 * 60 * 60)),
            max_endpoints: 1_000,
            budgets: OrganizationBudgets::default(),
            // Five days: beyond the 75 hours of the standard schedule, so that a delivery has all its attempts.
            disable_after: Duration::from_secs(120 * 60 * 60),
        }
    }
}
