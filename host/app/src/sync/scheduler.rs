//! The sync scheduler: finds stores with due logs and queues their jobs.

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use wharf_store::{
    jobs,
    stores::{self, Cursor},
};

use super::{held::ResumeWalk, resting::RestingWalk};
use crate::{App, AppError, Scheduled, Walk, failpoint, removal::RemovalWalk};

/// Stores looked at per step. More would hold a connection for longer and save nothing.
const MAX_STORES_PER_STEP: i64 = 500;
/// Due jobs that one sweep rings for. Each ring wakes a worker, which then claims as many as it has room for.
const MAX_RINGS_PER_SWEEP: i64 = 64;
/// Transactions of one sweep that remove stores. A store of a million receipts is gone after some minutes.
const MAX_REMOVALS_PER_SWEEP: usize = 10;

/// Queues jobs for stores with due logs. Any number may run.
pub struct SyncScheduler {
    app: App,
    /// The place in the walk over the stores.
    cursor: Cursor,
    resting: RestingWalk,
    resumed: ResumeWalk,
    removal: RemovalWalk,
}

/// The work of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncPage {
    /// Stores looked at, and jobs that are queued now and were not before.
    pub scheduled: Scheduled,
    /// The place in the walk over the stores.
    pub walk: Walk,
}

impl SyncScheduler {
    /// A scheduler that begins with the oldest store.
    pub fn new(app: &App) -> Self {
        Self {
            app: app.clone(),
            cursor: Cursor::START,
            resting: RestingWalk::default(),
            resumed: ResumeWalk::default(),
            removal: RemovalWalk::default(),
        }
    }

    /// Wakes what rests for want of a better plugin, then looks at one page of stores and queues the jobs of those that
    /// have something due.
    ///
    /// The original looked at stores whose status is pending, failed or partial. A store can read success and still
    /// have an older log to ask about again, so due logs decide here.
    pub async fn step(&mut self) -> Result<SyncPage, AppError> {
        self.resting.step(&self.app).await?;
        self.resumed.step(&self.app).await?;
        let app = &self.app.0;
        let now = app.clock.now();
        // The rest keeps a store with many refused receipts from running in every pass.
        let rested = now - app.settings.sync.rest;
        let mut conn = app.ledger.write().await?;
        let page = stores::page(&mut conn, self.cursor, now, rested, MAX_STORES_PER_STEP).await?;
        let mut scheduled = Scheduled {
            scanned: page.scanned as u64,
            enqueued: 0,
        };
        if !page.due.is_empty() {
            // A job that is queued already is left alone; a running one is marked to run again.
            let queued = jobs::enqueue(&mut conn, page.due, now).await?;
            scheduled.enqueued = queued.len() as u64;
            queued
                .into_iter()
                .for_each(|store| self.app.ring_for(store));
        }
        let is_last = scheduled.scanned < MAX_STORES_PER_STEP.unsigned_abs();
        let (cursor, walk) = if is_last {
            (Cursor::START, Walk::Complete)
        } else {
            // By (created_at, id): stores that are registered meanwhile come at the end.
            (page.next, Walk::Unfinished)
        };
        self.cursor = cursor;
        Ok(SyncPage { scheduled, walk })
    }

    /// Steps until the walk over the stores is complete, or `stop` is cancelled.
    pub async fn pass(&mut self, stop: &CancellationToken) -> Result<Scheduled, AppError> {
        let mut sum = Scheduled::default();
        // Looked at before each page: a walk over a million stores takes minutes.
        while !stop.is_cancelled() {
            let page = self.step().await?;
            sum.scanned += page.scheduled.scanned;
            sum.enqueued += page.scheduled.enqueued;
            if page.walk == Walk::Complete {
                break;
            }
        }
        info!(
            scannedStores = sum.scanned,
            enqueuedJobs = sum.enqueued,
            "scheduler_run"
        );
        Ok(sum)
    }

    /// Makes a pass every interval and a sweep every second. Returns when `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut passes = tokio::time::interval(self.app.0.settings.sync.interval);
        let mut sweeps = tokio::time::interval(self.app.0.settings.poll);
        // After a slow pass the next one comes an interval later, not at once.
        passes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let done = tokio::select! {
                () = stop.cancelled() => return,
                _ = passes.tick() => self.pass(&stop).await.map(drop),
                _ = sweeps.tick() => self.sweep().await,
            };
            if let Err(error) = done {
                // A walk that broke off begins again with the oldest store.
                self.cursor = Cursor::START;
                warn!(
                    error = &error as &dyn std::error::Error,
                    "scheduler_run failed; trying again"
                );
            }
        }
    }

    /// Rings again for jobs that are due and not taken: news may be lost, work may not.
    async fn sweep(&mut self) -> Result<(), AppError> {
        self.resting.step(&self.app).await?;
        failpoint::pass("sync.sweep.before");
        let mut conn = self.app.0.ledger.read().await?;
        // The longest due first, so that none is passed over for ever.
        let due = jobs::due(&mut conn, MAX_RINGS_PER_SWEEP, self.app.0.clock.now()).await?;
        due.into_iter().for_each(|store| self.app.ring_for(store));
        failpoint::pass("sync.sweep.after");
        drop(conn);
        self.resumed.step(&self.app).await?;
        // Last: what fails here keeps nothing else waiting.
        for _ in 0..MAX_REMOVALS_PER_SWEEP {
            if !self.removal.step(&self.app).await? {
                break;
            }
        }
        Ok(())
    }
}
