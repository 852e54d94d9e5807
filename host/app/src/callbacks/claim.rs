//! Claiming due deliveries, page by page of the endpoints that have some.

use uuid::Uuid;
use wharf_domain::EndpointId;
use wharf_store::{
    StoreError,
    deliveries::{self, Claimed, EndpointQueue},
};

use super::{MAX_BATCH, fair_share::FairShare};
use crate::{App, Walk, failpoint};

/// Endpoints on one page of the walk.
const ENDPOINTS_PER_PAGE: i64 = 64;
/// Pages that one step looks at when none of their endpoints may be sent anything. There may be any number of such
/// pages, and leases must be renewed and ended sends collected between steps.
const MAX_PAGES_PER_STEP: usize = 8;

/// The walk over endpoints with unfinished deliveries, in the order of their ids. It goes round and round.
pub(super) struct EndpointWalk {
    after: EndpointId,
}

impl EndpointWalk {
    pub(super) const fn new() -> Self {
        Self {
            after: EndpointId(Uuid::nil()),
        }
    }

    /// Claims a batch from the next page that has something for us. [`Walk::Complete`] without a delivery: there is
    /// nothing up to the last endpoint, or no place free.
    pub(super) async fn claim(
        &mut self,
        app: &App,
        fair_share: &FairShare,
    ) -> Result<(Vec<Claimed>, Walk), StoreError> {
        // Saves the query: ended sends wake the worker when there is room again.
        if fair_share.free() == 0 {
            return Ok((Vec::new(), Walk::Complete));
        }
        for _ in 0..MAX_PAGES_PER_STEP {
            let (page, walk) = self.next_page(app).await?;
            let shares = fair_share.divide(&page, MAX_BATCH);
            if !shares.is_empty() {
                // Perhaps fewer than the shares: others may hold some by now, and claiming skips what is locked.
                return Ok((claim_shares(app, &shares).await?, walk));
            }
            if walk == Walk::Complete {
                return Ok((Vec::new(), walk));
            }
        }
        Ok((Vec::new(), Walk::Unfinished))
    }

    async fn next_page(&mut self, app: &App) -> Result<(Vec<EndpointQueue>, Walk), StoreError> {
        let mut conn = app.0.ledger.read().await?;
        let now = app.0.clock.now();
        let page = deliveries::queues(&mut conn, self.after, ENDPOINTS_PER_PAGE, now).await?;
        let is_full = i64::try_from(page.len()).is_ok_and(|found| found >= ENDPOINTS_PER_PAGE);
        let walk = match page.last() {
            Some(last) if is_full => {
                self.after = last.endpoint_id;
                Walk::Unfinished
            }
            _ => {
                // The next step begins anew with the first endpoint.
                *self = Self::new();
                Walk::Complete
            }
        };
        Ok((page, walk))
    }
}

async fn claim_shares(app: &App, shares: &[(EndpointId, i64)]) -> Result<Vec<Claimed>, StoreError> {
    let (worker, lease) = (&app.0.settings.worker_name, app.0.settings.lease);
    let mut tx = app.0.ledger.begin().await?;
    let claimed = deliveries::claim(&mut tx, shares, worker, lease, app.0.clock.now()).await?;
    failpoint::pass("callback.claim.before");
    tx.commit().await?;
    failpoint::pass("callback.claim.after");
    Ok(claimed)
}
