//! Purging: what nobody works with any more leaves the tables, so that they stay as small as the work in hand. Logs stay: they
//! make imports idempotent. `host/store/src/tables/register.rs` says of each table what keeps it from growing without end.

use std::time::Duration;

use tracing::info;
use wharf_domain::Time;
use wharf_store::{Conn, StoreError, budgets, idempotency, logs::attempts, outbox, transitions};

use crate::{App, AppError, idempotency::keys_too_old};

/// Time between two looks for what is old.
const INTERVAL: Duration = Duration::from_secs(60);
/// Events per transaction: each takes its messages with it, and nobody should wait for it.
const MAX_EVENTS: i64 = 500;
/// Deliveries per transaction, each with its attempts. One event may have a thousand.
const MAX_DELIVERIES: i64 = 2_000;
/// Rows per transaction of a table whose rows take nothing with them.
const MAX_ROWS: i64 = 1_000;
/// Batches per look and kind. Two million events a day leave faster than they come, and the scheduler is soon back at its work.
const MAX_BATCHES: usize = 20;
/// The factor by which the cut-off may outrun time. A clock that was set a day ahead is believed after an hour; one
/// that is put right within a minute has purged nothing that was not due within 24.
const MAX_CATCH_UP: u32 = 24;
/// The time after the last finished event up to which a clock is believed at once when the process starts.
const MAX_AHEAD: Duration = Duration::from_secs(60 * 60);

/// The purge of what is old.
#[derive(Default)]
pub(super) struct Retention {
    events: Age,
    audit: Age,
    /// The time of its last look, by [`Clock::elapsed`](wharf_domain::Clock::elapsed).
    last_look: Option<Duration>,
}

/// The border of a purge: what was finished before may go.
#[derive(Default)]
struct Age(Option<Cutoff>);

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
        // Also where events are kept for ever: these rows say nothing any more, by a rule that no setting changes.
        let now = app.0.clock.now();
        in_batches(app, Old::Limits(now)).await?;
        in_batches(app, Old::Keys(keys_too_old(now))).await?;
        self.purge_audit(app).await?;
        self.purge_events(app).await
    }

    async fn purge_events(&mut self, app: &App) -> Result<u64, AppError> {
        let Some(retention) = app.0.settings.callbacks.retention else {
            return Ok(0);
        };
        let newest = outbox::newest_finished(&mut app.0.ledger.read().await?).await?;
        let before = self.events.cutoff(app, newest, retention);
        // What receipts tell of their attempts goes with the events of that time.
        in_batches(app, Old::Attempts(before)).await?;
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
        told(app, "events", events);
        Ok(events)
    }

    async fn purge_audit(&mut self, app: &App) -> Result<(), AppError> {
        let Some(retention) = app.0.settings.audit_retention else {
            return Ok(());
        };
        let newest = transitions::latest(&mut app.0.ledger.read().await?).await?;
        let before = self.audit.cutoff(app, newest, retention);
        in_batches(app, Old::Steps(before)).await
    }
}

impl Age {
    /// The clock decides, but it may be wrong, and what is purged does not come back: the cut-off goes by time that
    /// nobody can set, and by the `newest` of what the database holds when the process starts.
    fn cutoff(&mut self, app: &App, newest: Option<Time>, retention: Duration) -> Time {
        let (now, elapsed) = (app.0.clock.now(), app.0.clock.elapsed());
        let latest = match self.0 {
            Some(last) => last.at + elapsed.saturating_sub(last.elapsed) * MAX_CATCH_UP,
            None => newest.map_or(now, |newest| newest + MAX_AHEAD) - retention,
        };
        // The earlier of the two: a clock that was set back purges less, one that was set ahead waits.
        let at = latest.min(now - retention);
        self.0 = Some(Cutoff { at, elapsed });
        at
    }
}

/// Rows that take nothing with them, and the border of their purge.
#[derive(Clone, Copy)]
enum Old {
    /// A budget that is whole again says nothing.
    Limits(Time),
    /// A day after a request its answer is not repeated any more.
    Keys(Time),
    /// Steps of plugins.
    Steps(Time),
    /// Attempts about receipts.
    Attempts(Time),
}

impl Old {
    fn what(self) -> &'static str {
        match self {
            Self::Limits(_) => "organization_limits",
            Self::Keys(_) => "idempotency_keys",
            Self::Steps(_) => "plugin_transitions",
            Self::Attempts(_) => "sync_log_attempts",
        }
    }

    async fn purge(self, conn: &mut Conn) -> Result<u64, StoreError> {
        match self {
            Self::Limits(before) => budgets::purge(conn, before, MAX_ROWS).await,
            Self::Keys(before) => idempotency::purge(conn, before, MAX_ROWS).await,
            Self::Steps(before) => transitions::purge(conn, before, MAX_ROWS).await,
            Self::Attempts(before) => attempts::purge(conn, before, MAX_ROWS).await,
        }
    }
}

/// Purges until a batch, which is a transaction, is not full; at most so many.
async fn in_batches(app: &App, old: Old) -> Result<(), AppError> {
    let mut rows = 0;
    for _ in 0..MAX_BATCHES {
        let purged = old.purge(&mut app.0.ledger.write().await?).await?;
        rows += purged;
        if purged < MAX_ROWS.unsigned_abs() {
            break;
        }
    }
    told(app, old.what(), rows);
    Ok(())
}

fn told(app: &App, what: &str, rows: u64) {
    app.0.metrics.purged(what, rows);
    if rows > 0 {
        info!(what, rows, "old rows were purged");
    }
}
