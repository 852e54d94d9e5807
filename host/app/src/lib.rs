//! What the system does: register, import, sync, callbacks, plugins. The API, the workers and the command line are
//! three doors to the same operations, and this is where the operations live.
//!
//! (Interface first; the bodies follow.)

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use wharf_domain::{
    AccessToken, Amount, Currency, EndpointId, EventKind, ExternalStoreId, ImportResult, MarketplaceName,
    OrganizationId, Receipt, ShaperName, StoreId, StoreName, SyncStatus, SyncToken, TargetUrl, Time,
};

/// Why an operation could not be done.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// No store has this sync token. 404 `Store not found`.
    #[error("Store not found")]
    StoreNotFound,
    /// The database cannot be reached or is overloaded: nothing is known to be stored, the request is safe to repeat.
    /// 503 with `Retry-After: 1`.
    #[error("the database is not available")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A defect of ours. 500.
    #[error("internal error")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// `POST /stores/register`, parsed.
#[derive(Clone)]
pub struct StoreRegistration {
    pub organization_id: OrganizationId,
    pub marketplace: MarketplaceName,
    pub external_store_id: ExternalStoreId,
    pub store_name: StoreName,
    pub access_token: AccessToken,
    pub currency: Currency,
}

/// The two ids of a registered store.
pub struct RegisteredStore {
    pub store_id: StoreId,
    pub sync_token: SyncToken,
}

/// `GET /stores/sync-status`.
pub struct StatusReport {
    pub last_sync_at: Option<Time>,
    pub imported_orders: i64,
    pub sync_status: SyncStatus,
    pub rate_limited_count: i64,
}

/// `POST /stores/sync` (202): a run of the store is queued.
pub struct SyncRequested {
    pub store_id: StoreId,
    /// False when a job of this store was queued or running already (it will run again then).
    pub newly_queued: bool,
}

/// `POST /webhooks/register`, parsed.
pub struct WebhookRegistration {
    pub organization_id: OrganizationId,
    pub event: EventKind,
    pub target_url: TargetUrl,
    /// `shaper` in the body, optional; default `standard`.
    pub shaper: Option<ShaperName>,
}

/// A webhook endpoint as its owner sees it.
pub struct Endpoint {
    pub id: EndpointId,
    pub organization_id: OrganizationId,
    pub event: EventKind,
    pub target_url: TargetUrl,
    pub is_active: bool,
    pub shaper: ShaperName,
    /// `whsec_...`: only in the answer that created the endpoint.
    pub secret: Option<String>,
}

/// The mock marketplace's answer, straight from the adapter.
pub enum MockAnswer {
    /// 200 `{status:true, ...}`.
    Accepted { order_id: String, amount: Amount, currency: Currency, imported_at: Time },
    /// 200 `{status:false}`.
    Rejected,
    /// 429 `{"error":"rate_limited"}` with `Retry-After` in seconds.
    RateLimited { retry_after: Duration },
    /// 503 `{"error":"marketplace_unavailable"}`.
    Unavailable,
}

/// What one pass of a scheduler did.
pub struct Scheduled {
    /// `scannedStores` or due outbox rows.
    pub scanned: u64,
    /// `enqueuedJobs`.
    pub enqueued: u64,
}

/// The operations. Cheap to clone.
#[derive(Clone)]
pub struct App {}

impl App {
    pub async fn register_store(&self, _registration: StoreRegistration) -> Result<RegisteredStore, AppError> { unimplemented!() }
    pub async fn import(&self, _token: SyncToken, _receipt: Receipt) -> Result<ImportResult, AppError> { unimplemented!() }
    pub async fn sync_status(&self, _token: SyncToken) -> Result<StatusReport, AppError> { unimplemented!() }
    pub async fn request_sync(&self, _token: SyncToken) -> Result<SyncRequested, AppError> { unimplemented!() }
    pub async fn register_webhook(&self, _registration: WebhookRegistration) -> Result<Endpoint, AppError> { unimplemented!() }
    pub async fn webhooks(&self, _organization: &OrganizationId) -> Result<Vec<Endpoint>, AppError> { unimplemented!() }
    /// Whether an adapter serves this marketplace.
    pub fn serves(&self, _marketplace: &str) -> bool { unimplemented!() }
    pub async fn mock_validate(&self, _marketplace: &str, _receipt: &Receipt, _currency: Currency) -> Result<MockAnswer, AppError> { unimplemented!() }
    /// Whether the database answers (and, where configured, Redis: reported but never a reason to be unready).
    pub async fn ready(&self) -> Result<(), AppError> { unimplemented!() }

    /// One pass of the sync scheduler.
    pub async fn schedule_syncs(&self) -> Result<Scheduled, AppError> { unimplemented!() }
    /// One pass of the callback scheduler.
    pub async fn schedule_callbacks(&self) -> Result<Scheduled, AppError> { unimplemented!() }
    /// Runs until cancelled: finishes what is in flight, gives back leases, returns.
    pub async fn run_sync_scheduler(&self, _stop: CancellationToken) { unimplemented!() }
    /// As above.
    pub async fn run_callback_scheduler(&self, _stop: CancellationToken) { unimplemented!() }
    /// As above.
    pub async fn run_sync_worker(&self, _stop: CancellationToken) { unimplemented!() }
    /// As above.
    pub async fn run_callback_worker(&self, _stop: CancellationToken) { unimplemented!() }
}
