//! Stores as their owners and operators look at them: lists, and everything about one.

use wharf_domain::{OrganizationId, StoreId};
use wharf_store::{
    holds::{self, Hold},
    stores::{
        detail::{self, Detail},
        list::{self, Filter, ListedStore, StorePage},
    },
};

use crate::{App, AppError};

/// The most stores on one page of a list.
pub const MAX_STORES_PER_PAGE: usize = 100;

/// One store with what is known of it.
#[derive(Clone, Debug)]
pub struct StoreDetail {
    /// The store.
    pub store: ListedStore,
    /// The holds by which it is held.
    pub holds: Vec<Hold>,
    /// Its receipts, job, runs and faults.
    pub detail: Detail,
}

impl App {
    /// A page of stores, newest first. At most [`MAX_STORES_PER_PAGE`]; fewer, and yet not the last, where few of many
    /// meet the filter.
    pub async fn stores(
        &self,
        filter: &Filter,
        before: Option<StoreId>,
        limit: usize,
    ) -> Result<StorePage, AppError> {
        let limit = limit.clamp(1, MAX_STORES_PER_PAGE);
        let mut conn = self.0.ledger.read().await?;
        Ok(list::page(&mut conn, filter, before, limit).await?)
    }

    /// One store, if it is this organization's; of any where none is named.
    pub async fn store_detail(
        &self,
        organization: Option<&OrganizationId>,
        id: StoreId,
    ) -> Result<StoreDetail, AppError> {
        let mut conn = self.0.ledger.read().await?;
        let store = list::one(&mut conn, organization, id).await?;
        let store = store.ok_or(AppError::StoreNotFound)?;
        let (owner, marketplace) = (&store.organization_id, &store.marketplace);
        let holds = holds::of_store(&mut conn, id, owner, marketplace).await?;
        let owner = OrganizationId::from_stored(owner.clone());
        let detail = detail::detail(&mut conn, &owner, id, self.0.clock.now()).await?;
        Ok(StoreDetail {
            store,
            holds,
            detail,
        })
    }
}
