//! Purging: finished events leave the hot tables with their messages, deliveries and attempts, so that the tables stay
//! as small as the work in hand. Logs stay: they make imports idempotent.

use std::time::Duration;

use tracing::info;
use wharf_store::{budgets, outbox};

use crate::{App, AppError};

/// Time between two looks for old events.
pub(super) const INTERVAL: Duration = Duration::from_secs(60);
/// Events per transaction: each takes its messages, deliveries and attempts with it, and nobody should wait for it.
const MAX_BATCH: i64 = 500;
/// Batches per look. Two million events a day leave faster than they come, and the scheduler is soon back at its work.
const MAX_BATCHES: usize = 20;

/// Removes events that were finished longer ago than the retention, oldest first, and budgets that are whole again.
/// Returns how many events there were.
pub(super) async fn purge(app: &App) -> Result<u64, AppError> {
    let now = app.0.clock.now();
    budgets::purge(&mut app.0.ledger.write().await?, now).await?;
    let Some(retention) = app.0.settings.callbacks.retention else {
        return Ok(0);
    };
    let before = now - retention;
    let mut purged = 0;
    for _ in 0..MAX_BATCHES {
        let mut conn = app.0.ledger.write().await?;
        let removed = outbox::purge(&mut conn, before, MAX_BATCH).await?;
        purged += removed;
        // A batch that is not full was the last.
        if removed < MAX_BATCH.unsigned_abs() {
            break;
        }
    }
    if purged > 0 {
        info!(events = purged, "finished events were purged");
    }
    Ok(purged)
}
