//! Removing a store. At once nobody finds it any more; its rows go in small transactions by whichever process runs the sync
//! scheduler, and one that is killed half-way is followed by the next.
//!
//! Events that the store has told of before stay: they are promises, and are delivered and forgotten like all others.

use wharf_domain::{OrganizationId, StoreId};
use wharf_store::stores::{
    detail::{self, Count},
    list,
    removal::{self, RemovalCursor},
};

use crate::{Acting, App, AppError, Run, entropy::new_token, failpoint};

/// Receipts of one transaction. An import of another store waits no longer than for a chunk of a sync run.
const MAX_LOGS: i64 = 1_000;

/// What goes with a store, or would.
#[derive(Clone, Debug)]
pub struct Removal {
    /// The store.
    pub store: list::ListedStore,
    /// Its receipts.
    pub receipts: Count,
    /// Its events that are not delivered yet, of the organization's newest thousand. They stay.
    pub pending_events: i64,
}

impl App {
    /// Removes a store, or counts what would go with it. Returns the counts of the time before.
    ///
    /// # Errors
    /// Whoever acts has no such store.
    pub async fn remove_store(
        &self,
        by: Acting<'_>,
        id: StoreId,
        run: Run,
    ) -> Result<Removal, AppError> {
        let mut conn = self.0.ledger.read().await?;
        let store = list::one(&mut conn, by.organization(), id).await?;
        let store = store.ok_or(AppError::StoreNotFound)?;
        let owner = OrganizationId::from_stored(store.organization_id.clone());
        let removal = Removal {
            receipts: detail::receipts(&mut conn, id).await?,
            pending_events: detail::pending_events(&mut conn, &owner, id).await?,
            store,
        };
        drop(conn);
        if run == Run::Real {
            self.hide(by, id).await?;
        }
        Ok(removal)
    }

    async fn hide(&self, by: Acting<'_>, id: StoreId) -> Result<(), AppError> {
        let now = self.0.clock.now();
        let mut tx = self.0.ledger.begin().await?;
        if !removal::live(&mut tx, by.organization(), id).await? {
            return Err(AppError::StoreNotFound);
        }
        removal::hide(&mut tx, id, new_token(), now).await?;
        failpoint::pass("removal.hide.before");
        tx.commit().await?;
        failpoint::pass("removal.hide.after");
        tracing::info!(storeId = %id, by = by.name(), "store_removal_begun");
        // Its holds are gone.
        self.look_at_once().await;
        Ok(())
    }
}

/// A walk over the stores that are being removed. Any number may go on at a time.
pub(crate) struct RemovalWalk(RemovalCursor);

impl Default for RemovalWalk {
    fn default() -> Self {
        Self(RemovalCursor::START)
    }
}

impl RemovalWalk {
    /// Removes a page of receipts, or a store that has none left. Returns false if there was nothing to do.
    pub(crate) async fn step(&mut self, app: &App) -> Result<bool, AppError> {
        let ledger = &app.0.ledger;
        let next = removal::next(&mut ledger.read().await?, self.0).await?;
        let Some(next) = next else {
            // Begun anew: one that failed, or came meanwhile, is met again.
            self.0 = RemovalCursor::START;
            return Ok(false);
        };
        // Passed by if this fails: one store that cannot be removed must not keep the others.
        let before = std::mem::replace(&mut self.0, next);
        let mut tx = ledger.begin().await?;
        let logs = removal::remove_logs(&mut tx, next.store, MAX_LOGS).await?;
        failpoint::pass("removal.page.before");
        tx.commit().await?;
        failpoint::pass("removal.page.after");
        if logs >= MAX_LOGS.unsigned_abs() {
            // The same store again.
            self.0 = before;
            return Ok(true);
        }
        let mut tx = ledger.begin().await?;
        let gone = removal::remove_store(&mut tx, next.store).await?;
        failpoint::pass("removal.store.before");
        tx.commit().await?;
        failpoint::pass("removal.store.after");
        if gone {
            tracing::info!(storeId = %next.store, "store_removed");
        }
        Ok(true)
    }
}
