//! The operations of the system and its workers: register, import, sync, callbacks, plugins.
//!
//! [`App`] has the operations of clients and operators, which the API and the command line share. The workers and
//! schedulers are actors of their own: each has a `step()`, one unit of work, and a `run()` that loops it.
//!
//! Promises: no network or plugin call inside a transaction; every step of a worker may run twice; nothing that was
//! answered with success is lost. Left out: HTTP serving (`wharf-api`) and settings (`wharf`).

mod access;
mod budgets;
mod callbacks;
mod entropy;
mod error;
mod holds;
mod idempotency;
mod import;
mod keys;
mod marketplace;
mod metrics;
mod moving;
mod operator;
mod plugins;
mod readiness;
mod receipts;
mod recovery;
mod removal;
mod settings;
mod store_care;
mod stores;
mod sync;
mod trace;
mod webhooks;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use wharf_domain::Clock;
use wharf_engine::Engine;
use wharf_failpoint as failpoint;
use wharf_queue::Doorbell;
use wharf_store::Ledger;

pub use access::{
    ApiKeyPage, ApiKeyRequest, Caller, KeyRefusal, MAX_KEYS_PER_PAGE, MAX_LIVE_KEYS,
    MAX_PORTAL_LIFE, NewKey, PortalRights, PortalToken, create_api_key, list_api_keys,
    revoke_api_key,
};
pub use budgets::OrganizationBudgets;
pub use callbacks::{CallbackScheduler, CallbackStep, CallbackWorker, Swept};
pub use entropy::random;
pub use error::AppError;
pub use holds::{Acting, HoldPage, StoreHolds};
pub use idempotency::{Beginning, Once};
pub use keys::{ResealProgress, Resealed, abandon_key, check_keys, reseal};
pub use marketplace::MockAnswer;
pub use metrics::{ConnectionClosed, Metrics, RequestLimit};
pub use moving::{CopyProgress, MoveError, copy};
pub use operator::{ObservedWebhook, WebhookFilter, WebhookState};
pub use plugins::{PluginAudit, PluginChange, PluginDetails, UploadedGrants};
pub use readiness::Unready;
pub use receipts::{
    ListCursor as LogCursor, LogHistory, LogQuery, LogRedrive, LogsRedriven, MAX_REDRIVEN,
    RedriveCursor as LogRedriveCursor,
};
pub use recovery::{
    AnswerStatus, LetterFilter, MAX_PER_PAGE, Page, Recovered, RecoveryCursor, Redrive, Redriven,
    Run, Skipped,
};
pub use removal::Removal;
pub use settings::{AppSettings, CallbackSettings, SyncSettings};
pub use store_care::{MAX_STORES_PER_PAGE, StoreDetail};
pub use stores::{RegisteredStore, StatusReport, StoreRegistration, SyncRequested};
pub use sync::{SyncPage, SyncScheduler, SyncStep, SyncWorker};
pub use trace::{TARGET as TRACES, TRACEPARENT, continue_from};
pub use webhooks::{
    Activity, Deletion, EndpointChange, MAX_OVERLAP, MAX_WEBHOOKS_PER_PAGE, RegisteredWebhook,
    SecretReport, TestSent, WebhookPage, WebhookRegistration,
};
pub use wharf_engine::{Digest, OperationError, PluginReport, Refusal, RevisionState};
pub use wharf_store::api_keys::ApiKey;
pub use wharf_store::endpoints::{Endpoint, Figures, ListCursor, MAX_DUE};
/// Deliveries as operators look at them.
pub use wharf_store::history::{Delivery, PastAttempt, Scope};
pub use wharf_store::holds::Hold;
pub use wharf_store::idempotency::KeyedRequest;
pub use wharf_store::letters::Letter;
/// Receipts as clients and operators look at them.
pub use wharf_store::logs::{
    Log, LogFilter, LogName, LogPage,
    attempts::{LogAttempt, MAX_ATTEMPTS},
};
/// Stores as their owners and operators look at them.
pub use wharf_store::stores::{
    detail,
    list::{Filter as StoreFilter, ListedStore, StorePage},
};
pub use wharf_store::transitions::PluginTransition;

/// The engine's reports on plugins, for those who show them.
pub mod plugin_reports {
    pub use wharf_engine::{
        AdapterManifest, Blame, Counters, Digest, FaultReport, HttpLimits, Inspection, Kind,
        Limits, Manifest, Pauses, PluginReport, PluginState, Refusal, RevisionReport,
        RevisionState, ShaperManifest, Stage,
    };
}

/// The parts that the operations work with.
pub struct Parts {
    /// The ledger.
    pub ledger: Ledger,
    /// The news that there is work.
    pub doorbell: Doorbell,
    /// The plugins.
    pub engine: Engine,
    /// The present time; in production the ledger's own (see [`Ledger::clock`]).
    pub clock: Arc<dyn Clock>,
    /// The settings.
    pub settings: AppSettings,
}

/// The work of a scheduler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scheduled {
    /// Stores looked at.
    pub scanned: u64,
    /// Jobs that are queued now and were not before.
    pub enqueued: u64,
}

/// The place of an actor that walks over rows page by page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// The next step goes on behind this page.
    Unfinished,
    /// This was the last page; the next step begins anew.
    Complete,
}

/// The operations. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Inner>);

struct Inner {
    ledger: Ledger,
    doorbell: Doorbell,
    engine: Engine,
    clock: Arc<dyn Clock>,
    settings: AppSettings,
    imports: import::Imports,
    holds: holds::Holds,
    sender: callbacks::Sender,
    metrics: Metrics,
    readiness: readiness::Readiness,
    access: access::Access,
}

impl App {
    /// Puts the parts together. Call it inside a tokio runtime: imports are committed by a task of their own.
    ///
    /// # Errors
    /// The HTTP client for webhooks cannot be built.
    pub fn new(parts: Parts) -> Result<Self, AppError> {
        let Parts {
            ledger,
            doorbell,
            engine,
            clock,
            settings,
        } = parts;
        let sender = callbacks::Sender::new(&settings.callbacks)?;
        // A task of its own: imports of many requests share its transactions.
        let imports = import::Imports::start(ledger.clone());
        let metrics = Metrics::new();
        let inner = Arc::new(Inner {
            ledger,
            doorbell,
            engine,
            clock,
            settings,
            imports,
            holds: holds::Holds::default(),
            sender,
            metrics,
            readiness: readiness::Readiness::default(),
            access: access::Access::default(),
        });
        metrics::gather(&inner);
        access::write_down(&inner);
        holds::keep_fresh(&inner);
        Ok(Self(inner))
    }

    /// Waits as long as between two looks for work, or until `stop` is cancelled.
    pub(crate) async fn pause(&self, stop: &CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(self.0.settings.poll) => {}
        }
    }

    /// The plugins.
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// The metrics of this process.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// The news that there is work.
    pub fn doorbell(&self) -> &Doorbell {
        &self.0.doorbell
    }
}
