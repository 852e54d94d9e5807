//! The callback scheduler: rings for what is due, and purges what was finished long ago.

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use wharf_domain::{Step, StepWatch};
use wharf_queue::Queue;
use wharf_store::{deliveries, outbox, rebase};

use super::retention::Retention;
use crate::{App, AppError, failpoint};

/// Due rows are counted up to here: the scheduler only asks whether there are any, people how many about.
const MAX_COUNTED: i64 = 1_000;

/// Rings while anything is due, and purges. Any number may run.
pub struct CallbackScheduler {
    app: App,
    retention: Retention,
    steps: Option<StepWatch>,
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
            retention: Retention::default(),
            steps: None,
        }
    }

    /// Rings if anything is due; once a minute, purges.
    pub async fn step(&mut self) -> Result<Swept, AppError> {
        self.rebase_if_set_back().await?;
        // Before the purge: one that fails must not keep due work waiting.
        let due = self.ring_if_due().await?;
        let purged = self.retention.purge_if_time(&self.app).await?;
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

    /// After a step of the clock back, and at the start, which may have come after one: leases and work that was due at
    /// once would lie in the future for as long as the step.
    async fn rebase_if_set_back(&mut self) -> Result<(), AppError> {
        let app = &self.app.0;
        let mut steps = self.steps;
        let step = match &mut steps {
            Some(steps) => steps.look(&*app.clock),
            None => Some(Step::Back),
        };
        if let Some(step) = step {
            if steps.is_some() {
                warn!(?step, "the clock was set");
            }
            let mut conn = app.ledger.write().await?;
            let rows = rebase::rebase(&mut conn, app.settings.lease, app.clock.now()).await?;
            if rows > 0 {
                warn!(rows, "what lay in the future is due now");
            }
        }
        // Last: a step whose rows could not be written is met again.
        self.steps = Some(steps.unwrap_or_else(|| StepWatch::new(&*app.clock)));
        Ok(())
    }
}
