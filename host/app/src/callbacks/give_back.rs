//! Giving back deliveries that the host itself could not send: no attempt, no failure of the receiver's.

use std::time::{Duration, Instant};

use tracing::warn;
use wharf_domain::{Backoff, NotSent, Time};
use wharf_store::{
    StoreError,
    deliveries::{self, Claimed, Fence},
};

use super::host_fault::given_back;
use crate::App;

/// Time between two warnings: what keeps one delivery from being sent keeps thousands.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// Gives deliveries back, and tells of it now and then.
#[derive(Default)]
pub(super) struct GiveBack {
    warned: Option<Instant>,
    untold: usize,
}

impl GiveBack {
    /// Gives these back. Where the database does not take it, their leases end.
    pub(super) async fn give_back(&mut self, app: &App, not_sent: &[(Claimed, NotSent)]) {
        let Some((_, why)) = not_sent.last() else {
            return;
        };
        for (_, why) in not_sent {
            app.0.metrics.not_sent(*why);
        }
        // Swallowed: the leases end by themselves, and then another worker claims the deliveries.
        if let Err(error) = write(app, not_sent, app.0.clock.now()).await {
            let error = &error as &dyn std::error::Error;
            warn!(error, "deliveries not given back; leases will end");
        }
        self.untold += not_sent.len();
        if self.warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            warn!(
                deliveries = self.untold,
                reason = why.as_str(),
                "webhooks cannot be sent by this host and were given back"
            );
            (self.warned, self.untold) = (Some(Instant::now()), 0);
        }
    }
}

async fn write(app: &App, not_sent: &[(Claimed, NotSent)], now: Time) -> Result<(), StoreError> {
    let due_at = |claimed: &Claimed| now + Backoff::NOT_SENT.after(1 + given_back(claimed));
    let given: Vec<(Fence, Time)> = not_sent
        .iter()
        .map(|(claimed, _)| (claimed.fence, due_at(claimed)))
        .collect();
    let mut conn = app.0.ledger.write().await?;
    deliveries::give_back(&mut conn, &given).await
}
