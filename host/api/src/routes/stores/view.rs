//! Stores as their owners and operators see them. No token of any kind is in them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;
use wharf_app::{
    Hold as AppHold, ListedStore, Removal, StoreDetail as AppDetail, StoreHolds as AppHolds,
    StorePage as AppPage, detail,
};

use super::sync_statuses;

/// A store.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::routes) struct Store {
    id: Uuid,
    organization_id: String,
    marketplace: String,
    external_store_id: String,
    store_name: String,
    currency: String,
    #[schema(schema_with = sync_statuses)]
    sync_status: &'static str,
    /// When the marketplace was last asked, by an import or a sync; null before that.
    #[schema(required, format = DateTime)]
    last_sync_at: Option<String>,
    #[schema(minimum = 0)]
    imported_orders: i64,
    #[schema(minimum = 0)]
    rate_limited_count: i64,
    /// Its marketplace is asked nothing, because it, its organization or its marketplace is held.
    is_held: bool,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
}

impl From<ListedStore> for Store {
    fn from(store: ListedStore) -> Self {
        Self {
            id: store.id.0,
            organization_id: store.organization_id,
            marketplace: store.marketplace,
            external_store_id: store.external_store_id,
            store_name: store.store_name,
            currency: store.currency,
            sync_status: store.sync_status.as_str(),
            last_sync_at: store.last_sync_at.map(|at| at.to_string()),
            imported_orders: store.imported_orders,
            rate_limited_count: store.rate_limited_count,
            is_held: store.is_held,
            created_at: store.created_at.to_string(),
            updated_at: store.updated_at.to_string(),
        }
    }
}

/// A page of stores.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::routes) struct StorePage {
    /// May be fewer than asked for, or none, where few of many meet the filter: `nextCursor` tells whether there are more.
    items: Vec<Store>,
    /// The `cursor` of the next page; null on the last.
    #[schema(required)]
    next_cursor: Option<Uuid>,
}

impl From<AppPage> for StorePage {
    fn from(page: AppPage) -> Self {
        Self {
            items: page.stores.into_iter().map(Store::from).collect(),
            next_cursor: page.next.map(|id| id.0),
        }
    }
}

/// A hold. Nobody is asked for what is held.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::routes) struct Hold {
    id: Uuid,
    /// `store`, `organization` or `marketplace`.
    what: String,
    /// The store's id, the organization or the marketplace.
    name: String,
    /// `organization` or `operator`: each ends its own alone.
    side: &'static str,
    #[schema(required)]
    reason: Option<String>,
    /// Who placed it.
    placed_by: String,
    #[schema(format = DateTime)]
    since: String,
}

impl From<AppHold> for Hold {
    fn from(hold: AppHold) -> Self {
        Self {
            id: hold.id,
            what: hold.what,
            name: hold.name,
            side: hold.side.as_str(),
            reason: hold.reason,
            placed_by: hold.placed_by,
            since: hold.since.to_string(),
        }
    }
}

/// The holds of a store.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::routes) struct StoreHolds {
    store_id: Uuid,
    is_held: bool,
    /// Its own, its organization's and its marketplace's.
    holds: Vec<Hold>,
}

impl From<AppHolds> for StoreHolds {
    fn from(held: AppHolds) -> Self {
        Self {
            store_id: held.store_id.0,
            is_held: !held.holds.is_empty(),
            holds: held.holds.into_iter().map(Hold::from).collect(),
        }
    }
}

/// A number that is counted up to 10,000.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Counted {
    #[schema(minimum = 0)]
    number: i64,
    /// There may be more.
    is_at_least: bool,
}

impl From<detail::Count> for Counted {
    fn from(count: detail::Count) -> Self {
        Self {
            number: count.number,
            is_at_least: count.is_at_least,
        }
    }
}

/// The receipts that are not orders, by what they wait for.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct OpenReceipts {
    pending: i64,
    failed: i64,
    rate_limited: i64,
    /// Of these, the ones that nobody asks about again by itself.
    exhausted: i64,
    /// Ten thousand were counted; there may be more.
    is_at_least: bool,
}

/// The sync job of a store.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct StoreJob {
    /// `idle`, `queued` or `running`.
    state: String,
    /// When it runs, or when its lease ends; null if it is idle.
    #[schema(required, format = DateTime)]
    due_at: Option<String>,
    /// Since when it is put off because the store is held.
    #[schema(required, format = DateTime)]
    held_at: Option<String>,
    /// Claims since the last run that ended well.
    attempt: i64,
    #[schema(required)]
    last_error: Option<String>,
    /// The run in progress.
    #[schema(required)]
    run: Option<StoreRun>,
}

/// A run of a store's sync.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct StoreRun {
    /// `sync.completed` or `sync.failed`; null while it goes on.
    #[schema(required)]
    event: Option<String>,
    /// When it ended; of one that goes on, when it began.
    #[schema(format = DateTime)]
    at: String,
    /// The request that asked for it, if it is known.
    #[schema(required)]
    request_id: Option<String>,
    processed_count: i64,
    success_count: i64,
    failed_count: i64,
    rate_limited_count: i64,
}

/// The sums of a run, as its event tells them.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Sums {
    processed_count: i64,
    success_count: i64,
    failed_count: i64,
    rate_limited_count: i64,
}

impl From<detail::PastRun> for StoreRun {
    fn from(run: detail::PastRun) -> Self {
        // An event that was put in by hand may tell anything.
        let sums: Sums = serde_json::from_str(&run.payload).unwrap_or_default();
        Self {
            event: Some(run.event),
            at: run.ended_at.to_string(),
            request_id: run.request_id,
            processed_count: sums.processed_count,
            success_count: sums.success_count,
            failed_count: sums.failed_count,
            rate_limited_count: sums.rate_limited_count,
        }
    }
}

impl From<detail::Job> for StoreJob {
    fn from(job: detail::Job) -> Self {
        let run = job.run.map(|(began_at, sums)| StoreRun {
            event: None,
            at: began_at.to_string(),
            request_id: None,
            processed_count: sums.processed,
            success_count: sums.success,
            failed_count: sums.failed,
            rate_limited_count: sums.rate_limited,
        });
        Self {
            state: job.state,
            due_at: job.due_at.map(|at| at.to_string()),
            held_at: job.held_at.map(|at| at.to_string()),
            attempt: job.attempt,
            last_error: job.last_error,
            run,
        }
    }
}

/// A receipt with an error.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct StoreFault {
    receipt: String,
    status: String,
    is_exhausted: bool,
    /// Number of times that the marketplace was asked.
    attempt: i64,
    error: String,
    #[schema(format = DateTime)]
    at: String,
}

impl From<detail::Fault> for StoreFault {
    fn from(fault: detail::Fault) -> Self {
        Self {
            receipt: fault.receipt,
            status: fault.status,
            is_exhausted: fault.is_exhausted,
            attempt: fault.attempt,
            error: fault.error,
            at: fault.at.to_string(),
        }
    }
}

/// A store with what is known of it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::routes) struct StoreDetail {
    #[serde(flatten)]
    store: Store,
    holds: Vec<Hold>,
    /// All receipts.
    receipts: Counted,
    /// Those that are not orders.
    open: OpenReceipts,
    /// Those that are due now.
    due: Counted,
    /// Null if it never had one.
    #[schema(required)]
    job: Option<StoreJob>,
    /// The latest, newest first, of those that the organization's newest thousand events tell of.
    #[schema(max_items = 10)]
    runs: Vec<StoreRun>,
    /// Newest receipts with an error, newest first, of the newest thousand that are not orders.
    #[schema(max_items = 10)]
    faults: Vec<StoreFault>,
}

impl From<AppDetail> for StoreDetail {
    fn from(from: AppDetail) -> Self {
        let detail = from.detail;
        let open = detail.open;
        Self {
            store: from.store.into(),
            holds: from.holds.into_iter().map(Hold::from).collect(),
            receipts: detail.receipts.into(),
            open: OpenReceipts {
                pending: open.pending,
                failed: open.failed,
                rate_limited: open.rate_limited,
                exhausted: open.exhausted,
                is_at_least: open.is_at_least,
            },
            due: detail.due.into(),
            job: detail.job.map(StoreJob::from),
            runs: detail.runs.into_iter().map(StoreRun::from).collect(),
            faults: detail.faults.into_iter().map(StoreFault::from).collect(),
        }
    }
}

/// A store that is being removed, or would be.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::routes) struct StoreRemoval {
    store_id: Uuid,
    store_name: String,
    /// Nothing was removed.
    dry_run: bool,
    /// Its receipts, which go.
    receipts: Counted,
    imported_orders: i64,
    /// Its events that are not delivered yet, of the organization's newest thousand. They stay, and are delivered.
    pending_events: i64,
}

impl StoreRemoval {
    pub(super) fn new(removal: Removal, dry_run: bool) -> Self {
        Self {
            store_id: removal.store.id.0,
            store_name: removal.store.store_name,
            dry_run,
            receipts: removal.receipts.into(),
            imported_orders: removal.store.imported_orders,
            pending_events: removal.pending_events,
        }
    }
}
