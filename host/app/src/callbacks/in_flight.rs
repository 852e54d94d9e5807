//! Deliveries that this worker is sending: their places in the fair share and their leases.

use std::collections::HashMap;

use tracing::warn;
use wharf_domain::DeliveryId;
use wharf_store::{
    StoreError,
    deliveries::{self, Claimed, Fence},
};

use super::fair_share::FairShare;
use crate::{App, CallbackSettings, failpoint, metrics::Leased};

/// Deliveries between their claim and their settling.
pub(super) struct InFlight {
    fair_share: FairShare,
    leases: HashMap<DeliveryId, Fence>,
}

impl InFlight {
    pub(super) fn new(settings: &CallbackSettings) -> Self {
        Self {
            fair_share: FairShare::new(settings.concurrency, settings.per_endpoint),
            leases: HashMap::new(),
        }
    }

    pub(super) fn fair_share(&self) -> &FairShare {
        &self.fair_share
    }

    pub(super) fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    pub(super) fn begin(&mut self, claimed: &Claimed) {
        self.fair_share
            .begin(claimed.endpoint_id, &claimed.organization_id);
        self.leases.insert(claimed.fence.id, claimed.fence);
    }

    pub(super) fn end(&mut self, claimed: &Claimed) {
        self.fair_share
            .end(claimed.endpoint_id, &claimed.organization_id);
        self.leases.remove(&claimed.fence.id);
    }

    /// Prolongs every lease. One that is lost needs no action: settling behind it is refused.
    pub(super) async fn renew_leases(&self, app: &App) {
        let fences: Vec<Fence> = self.leases.values().copied().collect();
        if fences.is_empty() {
            return;
        }
        failpoint::pass("callback.renewal.before");
        match renew(app, &fences).await {
            Ok((kept, lost)) => {
                app.0.metrics.leases(Leased::Deliveries, kept, lost);
                if lost > 0 {
                    warn!(lost, "leases were lost");
                }
                failpoint::pass("callback.renewal.after");
            }
            Err(error) => warn!(
                error = &error as &dyn std::error::Error,
                "leases could not be renewed"
            ),
        }
    }
}

/// Returns how many leases were prolonged, and how many are lost. What was settled meanwhile is neither.
async fn renew(app: &App, fences: &[Fence]) -> Result<(usize, usize), StoreError> {
    // All at once: one statement, however many sends are in flight.
    let until = app.0.clock.now() + app.0.settings.lease;
    let mut conn = app.0.ledger.write().await?;
    let kept = deliveries::renew(&mut conn, fences, until).await?.len();
    let lost = match fences.len() - kept {
        0 => 0,
        // Most of these were settled while the worker was looking elsewhere.
        _ => deliveries::taken_over(&mut conn, fences).await?.len(),
    };
    Ok((kept, lost))
}
