//! What the system does: register, import, sync, callbacks, plugins. The API, the workers and the command line are
//! three doors to the same operations, and this is where the operations live.
//!
//! Promises: no network or plugin call inside a transaction; every step of a worker may run twice; nothing that was
//! answered with success is lost. Left out: HTTP serving (`wharf-api`) and settings (`wharf`).

mod answer;
mod callbacks;
mod egress;
mod entropy;
mod error;
mod import;
mod marketplace;
mod mending;
mod metrics;
mod plugins;
mod retention;
mod send;
mod settings;
mod stores;
mod sync;
mod threads;
mod trace;
mod turns;
mod webhooks;

use std::sync::Arc;

use wharf_domain::Clock;
use wharf_engine::Engine;
use wharf_failpoint as failpoint;
use wharf_queue::Doorbell;
use wharf_store::Ledger;

pub use error::AppError;
pub use marketplace::MockAnswer;
pub use mending::{MAX_PER_PAGE, Page, Recovered, Redrive, Run};
pub use metrics::Metrics;
pub use plugins::{PluginChange, PluginDetails, UploadedGrants};
pub use settings::{AppSettings, CallbackSettings, SyncSettings};
pub use stores::{RegisteredStore, StatusReport, StoreRegistration, SyncRequested};
pub use trace::{TARGET as TRACES, TRACEPARENT, continue_from};
pub use webhooks::{
    Activity, Endpoint, EndpointChange, MAX_OVERLAP, SecretReport, TestSent, WebhookRegistration,
};
pub use wharf_engine::{Digest, OperationError, PluginReport, Refusal, RevisionState};
/// Deliveries as operators look at them.
pub use wharf_store::history::{Delivery, PastAttempt, Scope};
pub use wharf_store::transitions::PluginTransition;

/// What the operations work with.
pub struct Parts {
    /// The ledger.
    pub ledger: Ledger,
    /// The news that there is work.
    pub doorbell: Doorbell,
    /// The plugins.
    pub engine: Engine,
    /// The present time; in production the ledger's own (see [`Ledger::clock`]).
    pub clock: Arc<dyn Clock>,
    /// How to work.
    pub settings: AppSettings,
}

/// What one pass of a scheduler did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scheduled {
    /// Stores looked at, or due events and deliveries found.
    pub scanned: u64,
    /// Jobs that are queued now and were not before, or pieces of news rung out.
    pub enqueued: u64,
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
    sender: send::Sender,
    metrics: Metrics,
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
        let sender = send::Sender::new(&settings.callbacks)?;
        let imports = import::Imports::start(ledger.clone());
        let metrics = Metrics::new();
        let inner = Arc::new(Inner {
            ledger,
            doorbell,
            engine,
            clock,
            settings,
            imports,
            sender,
            metrics,
        });
        metrics::gather(&inner);
        Ok(Self(inner))
    }

    /// Whether the database answers. Redis is never a reason to be unready: without it workers poll.
    pub async fn ready(&self) -> Result<(), AppError> {
        Ok(self.0.ledger.read().await?.ping().await?)
    }

    /// The plugins.
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// What this process counts and times.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// The news that there is work.
    pub fn doorbell(&self) -> &Doorbell {
        &self.0.doorbell
    }
}
