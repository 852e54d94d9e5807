//! The callback scheduler: rings for what is due, and purges what was finished long ago.

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use wharf_domain::Time;
use wharf_queue::Queue;
use wharf_store::{deliveries, outbox};

use super::retention;
use crate::{App, AppError, failpoint};

/// Due rows are counted up to here: the scheduler only asks whether there are any, people how many about.
const MAX_COUNTED: i64 = 1_000;

/// Rings while anything is due, and purges. Any number may run.
pub struct CallbackScheduler {
    app: App,
    last_purge: Option<Time>,
}

/// The work of one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Events and deliveries that are due, each counted up to a thousand. It rang if there were any.
    pub due: u64,
    /// Events that were purged.
    pub purged: u64,
}

impl CallbackScheduler {
    /// A scheduler that purges in its first step.
    pub fn new(app: &App) -> Self {
        Self {
            app: app.clone(),
            last_purge: None,
        }
    }

    /// Rings if anything is due; once a minute, purges.
    pub async fn step(&mut self) -> Result<Swept, AppError> {
        // First: a purge that fails must not keep due work waiting.
        let due = self.ring_if_due().await?;
        let purged = self.purge_if_time().await?;
        Ok(Swept { due, purged })
    }

    /// Steps every second. Returns when `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(self.app.0.settings.poll);
        // A purge may take longer than a tick; there is no point in catching up.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            if let Err(error) = self.step().await {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "callback scheduling failed; trying again"
                );
            }
        }
    }

    async fn ring_if_due(&self) -> Result<u64, AppError> {
        failpoint::pass("callback.sweep.before");
        let now = self.app.0.clock.now();
        let mut conn = self.app.0.ledger.read().await?;
        let events = outbox::count_due(&mut conn, MAX_COUNTED, now).await?;
        let due = events + deliveries::count_due(&mut conn, MAX_COUNTED, now).await?;
        if due > 0 {
            // One ring, however much is due: whoever hears it works until nothing is left.
            self.app.0.doorbell.ring(Queue::Callback, "due");
        }
        failpoint::pass("callback.sweep.after");
        Ok(u64::try_from(due).unwrap_or(0))
    }

    async fn purge_if_time(&mut self) -> Result<u64, AppError> {
        let now = self.app.0.clock.now();
        let is_time = self
            .last_purge
            .is_none_or(|last| now.since(last) >= retention::INTERVAL);
        if !is_time {
            return Ok(0);
        }
        // Noted first: a purge that fails is tried again in a minute, not with every step.
        self.last_purge = Some(now);
        retention::purge(&self.app).await
    }
}
