//! Purging: finished events leave the hot tables with their messages, deliveries and attempts, so that the tables stay
//! as small as the work in hand. Logs stay: they make imports idempotent.

use std::time::Duration;

use tracing::info;
use wharf_domain::Time;
use wharf_store::{budgets, outbox};

use crate::{App, AppError};

/// Time between two looks for old events.
const INTERVAL: Duration = Duration::from_secs(60);
/// Events per transaction: each takes its messages with it, and nobody should wait for it.
const MAX_EVENTS: i64 = 500;
/// Deliveries per transaction, each with its attempts. One event may have a thousand.
const MAX_DELIVERIES: i64 = 2_000;
/// Batches per look. Two million events a day leave faster than they come, and the scheduler is soon back at its work.
const MAX_BATCHES: usize = 20;
/// The factor by which the cut-off may outrun time. A clock that was set a day ahead is believed after an hour; one
/// that is put right within a minute has purged nothing that was not due within 24.
const MAX_CATCH_UP: u32 = 24;
/// The time after the last finished event up to which a clock is believed at once when the process starts.
const MAX_AHEAD: Duration = Duration::from_secs(60 * 60);

/// The purge of what was finished long ago.
#[derive(Default)]
pub(super) struct Retention {
    last: Option<Cutoff>,
    /// The time of its last look, by [`Clock::elapsed`](wharf_domain::Clock::elapsed).
    last_look: Option<Duration>,
}

/// The border of the purge: events that were finished before `at` may go.
#[derive(Clone, Copy)]
struct Cutoff {
    at: Time,
    /// The time when that was so, by [`Clock::elapsed`](wharf_domain::Clock::elapsed).
    elapsed: Duration,
}

impl Retention {
    /// Purges if a minute has passed since the last time. Returns how many events were purged.
    pub(super) async fn purge_if_time(&mut self, app: &App) -> Result<u64, AppError> {
        let elapsed = app.0.clock.elapsed();
        let has_passed = |last| elapsed.saturating_sub(last) >= INTERVAL;
        if !self.last_look.is_none_or(has_passed) {
            return Ok(0);
        }
        // Noted first: a purge that fails is tried again in a minute, not with every step.
        self.last_look = Some(elapsed);
        // Also where events are kept for ever: a budget that is whole again says nothing, and its row is of no use.
        budgets::purge(&mut app.0.ledger.write().await?, app.0.clock.now()).await?;
        app.purge_keys().await?;
        let Some(retention) = app.0.settings.callbacks.retention else {
            return Ok(0);
        };
        let before = self.cutoff(app, retention).await?;
        purge(app, before).await
    }

    /// The clock decides, but it may be wrong, and what is purged does not come back: the cut-off goes by time that
    /// nobody can set, and by what the database holds when the process starts.
    async fn cutoff(&mut self, app: &App, retention: Duration) -> Result<Time, AppError> {
        let (now, elapsed) = (app.0.clock.now(), app.0.clock.elapsed());
        let latest = match self.last {
            Some(last) => last.at + elapsed.saturating_sub(last.elapsed) * MAX_CATCH_UP,
            None => {
                let newest = outbox::newest_finished(&mut app.0.ledger.read().await?).await?;
                newest.map_or(now, |newest| newest + MAX_AHEAD) - retention
            }
        };
        // The earlier of the two: a clock that was set back purges less, one that was set ahead waits.
        let at = latest.min(now - retention);
        self.last = Some(Cutoff { at, elapsed });
        Ok(at)
    }
}

async fn purge(app: &App, before: Time) -> Result<u64, AppError> {
    let mut events = 0;
    for _ in 0..MAX_BATCHES {
        let mut tx = app.0.ledger.begin().await?;
        let purged = outbox::purge(&mut tx, before, MAX_EVENTS, MAX_DELIVERIES).await?;
        tx.commit().await?;
        events += purged.events;
        // A batch that is not full was the last.
        if purged.events < MAX_EVENTS.unsigned_abs()
            && purged.deliveries < MAX_DELIVERIES.unsigned_abs()
        {
            break;
        }
    }
    if events > 0 {
        info!(events, "finished events were purged");
    }
    Ok(events)
}
