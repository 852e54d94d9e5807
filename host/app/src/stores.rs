//! Registering stores, reading their status, asking for a run.

use wharf_domain::{
    AccessToken, Currency, ExternalStoreId, MarketplaceName, OrganizationId, Reach, RequestId,
    StoreId, StoreName, SyncStatus, SyncToken, Time,
};
use wharf_store::{StoreError, canary, jobs, marketplaces, stores};

use crate::{
    App, AppError,
    entropy::{new_id, new_token, random},
};

/// `POST /stores/register`, parsed.
#[derive(Clone)]
pub struct StoreRegistration {
    /// The owner.
    pub organization_id: OrganizationId,
    /// The marketplace where it sells.
    pub marketplace: MarketplaceName,
    /// Its id there.
    pub external_store_id: ExternalStoreId,
    /// Its name for people.
    pub store_name: StoreName,
    /// Its token there.
    pub access_token: AccessToken,
    /// Its currency.
    pub currency: Currency,
}

/// The two ids of a registered store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegisteredStore {
    /// Its id.
    pub store_id: StoreId,
    /// The token that clients name it by.
    pub sync_token: SyncToken,
}

/// `GET /stores/sync-status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusReport {
    /// The time when its marketplace was last asked, by the sync engine or by an import.
    pub last_sync_at: Option<Time>,
    /// Receipts that became orders.
    pub imported_orders: i64,
    /// By the status rule.
    pub sync_status: SyncStatus,
    /// Receipts that the marketplace put off.
    pub rate_limited_count: i64,
}

/// `POST /stores/sync`: a run of the store is queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncRequested {
    /// The store.
    pub store_id: StoreId,
    /// False when its job was queued or running already; a running one runs once more.
    pub newly_queued: bool,
}

impl App {
    /// Registers a store; one with the same organization, marketplace and external id is updated and keeps its ids. With
    /// another access token its failed work is due at once.
    ///
    /// # Errors
    /// No plugin serves the marketplace, nor ever did; or it may still be being loaded. Or the store is being removed.
    pub async fn register_store(
        &self,
        registration: StoreRegistration,
    ) -> Result<RegisteredStore, AppError> {
        self.check_known(&registration.marketplace).await?;
        let now = self.0.clock.now();
        let new = stores::NewStore {
            // Drawn in any case: a store that is known already keeps its own.
            id: StoreId(new_id(now)),
            sync_token: SyncToken(new_token()),
            organization_id: &registration.organization_id,
            marketplace: &registration.marketplace,
            external_store_id: &registration.external_store_id,
            store_name: &registration.store_name,
            access_token: &registration.access_token,
            currency: registration.currency,
            nonce: random(),
            token_nonce: random(),
        };
        let key = &self.0.settings.encryption_key;
        let mut tx = self.0.ledger.begin().await?;
        canary::hold(&mut tx, key, random(), now).await?;
        // Where there is a store, other processes know its marketplace, whatever the audit has written down.
        marketplaces::remember(&mut tx, [new.marketplace.as_str()], now).await?;
        let store = match stores::register(&mut tx, key, &new, now).await {
            Err(StoreError::StoreRemoved) => return Err(AppError::StoreBeingRemoved),
            registered => registered?,
        };
        if store.has_new_credentials {
            jobs::enqueue(&mut tx, [store.id], now).await?;
        }
        tx.commit().await?;
        if store.has_new_credentials {
            self.ring_for(store.id);
        }
        Ok(RegisteredStore {
            store_id: store.id,
            sync_token: store.sync_token,
        })
    }

    /// Refuses a marketplace that no process serves or has served: nobody would ever work for its stores.
    async fn check_known(&self, marketplace: &MarketplaceName) -> Result<(), AppError> {
        if self.serves(marketplace.as_str()) {
            return Ok(());
        }
        // Another process may have its plugin, or this one may have had it before.
        let mut conn = self.0.ledger.read().await?;
        if marketplaces::is_known(&mut conn, marketplace).await? {
            Ok(())
        } else if self.is_loading() {
            Err(AppError::PluginsLoading)
        } else {
            Err(AppError::UnknownMarketplace)
        }
    }

    /// The status of a store's imports. Reads one row, however long the store's log is.
    pub async fn sync_status(
        &self,
        reach: &Reach,
        token: SyncToken,
    ) -> Result<StatusReport, AppError> {
        let mut conn = self.0.ledger.read().await?;
        let report = stores::report(&mut conn, token)
            .await?
            .filter(|report| reach.covers(&report.organization_id))
            .ok_or(AppError::StoreNotFound)?;
        Ok(StatusReport {
            last_sync_at: report.last_sync_at,
            imported_orders: report.imported_orders,
            sync_status: report.sync_status,
            rate_limited_count: report.rate_limited_count,
        })
    }

    /// Queues a run of the store now, without waiting for the scheduler.
    pub async fn request_sync(
        &self,
        reach: &Reach,
        token: SyncToken,
        request: &RequestId,
    ) -> Result<SyncRequested, AppError> {
        let mut tx = self.0.ledger.begin().await?;
        let store = stores::by_token(&mut tx, token)
            .await?
            .filter(|store| reach.covers(&store.organization_id))
            .ok_or(AppError::StoreNotFound)?;
        let queued = jobs::enqueue(&mut tx, [store.id], self.0.clock.now()).await?;
        jobs::note_request(&mut tx, store.id, request).await?;
        tx.commit().await?;
        // Rung even if it was queued already: the earlier ring may be lost.
        self.ring_for(store.id);
        Ok(SyncRequested {
            store_id: store.id,
            newly_queued: !queued.is_empty(),
        })
    }
}
