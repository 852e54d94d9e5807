//! Forgetting: finished events leave the hot tables, with their messages, deliveries and attempts, so that the tables stay
//! as small as the work in hand. Logs stay: they are what makes imports idempotent.

use std::time::Duration;

use tracing::info;
use wharf_store::outbox;

use crate::{App, AppError};

/// How often old events are looked for.
pub(crate) const INTERVAL: Duration = Duration::from_secs(60);
/// Events per transaction: each takes its messages, deliveries and attempts with it, and nobody should wait for it.
const BATCH: i64 = 500;
/// Batches per look. Two million events a day leave faster than they come, and the scheduler is soon back at its work.
const BATCHES: usize = 20;

impl App {
    /// Removes events that were finished longer ago than the retention, oldest first; answers how many.
    pub async fn forget_finished(&self) -> Result<u64, AppError> {
        let Some(retention) = self.0.settings.callbacks.retention else {
            return Ok(0);
        };
        let before = self.0.clock.now() - retention;
        let mut forgotten = 0;
        for _ in 0..BATCHES {
            let removed = outbox::forget(&mut self.0.ledger.write().await?, before, BATCH).await?;
            forgotten += removed;
            if removed < BATCH.unsigned_abs() {
                break;
            }
        }
        if forgotten > 0 {
            info!(events = forgotten, "finished events were forgotten");
        }
        Ok(forgotten)
    }
}
