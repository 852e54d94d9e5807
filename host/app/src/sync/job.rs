//! One claimed job: its lock, its lease, and what becomes of it.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, debug, warn};
use wharf_domain::Backoff;
use wharf_queue::{Acquired, Guard};
use wharf_store::{
    StoreError,
    jobs::{self, Claimed, Fence, GiveBack},
};

use super::places::Place;
use crate::{App, failpoint, metrics::Leased, trace};

/// The wait of a job that found its store locked, or the database not available.
const BUSY_WAIT: Duration = Duration::from_secs(1);

/// A job that this worker claimed.
pub(super) struct Job {
    pub(super) app: App,
    pub(super) claimed: Claimed,
    pub(super) place: Place,
    pub(super) stop: CancellationToken,
    /// The span of its lines in the log.
    pub(super) span: Span,
}

/// The end of working on a job.
pub(super) enum Ended {
    /// Written to its end.
    Finished,
    /// Written to its end, and queued again because more is due.
    Requeued,
    /// Its time is over, and what was asked is written; it is queued behind others.
    Yielded,
    /// The store is held, and what was asked before is written.
    Held,
    /// The worker is shutting down; the rest is for another.
    Stopped,
}

/// The end of a claim, as metrics and traces name it.
type Outcome = &'static str;

impl Job {
    pub(super) fn new(
        app: &App,
        claimed: Claimed,
        place: Place,
        stop: &CancellationToken,
        span: Span,
    ) -> Self {
        Self {
            app: app.clone(),
            claimed,
            place,
            stop: stop.clone(),
            span,
        }
    }

    /// Works on the job to its end, whatever that is.
    pub(super) async fn work(self) {
        let (span, began) = (trace::sync_job(&self.claimed), Instant::now());
        let outcome = self.run_locked().instrument(span.clone()).await;
        span.record("outcome", outcome);
        self.app.0.metrics.sync_job(outcome, began.elapsed());
    }

    async fn run_locked(&self) -> Outcome {
        failpoint::pass("lock.get.before");
        let (store, lease) = (self.claimed.fence.store_id, self.app.0.settings.lease);
        let lock = match self.app.0.doorbell.lock().acquire(store, lease).await {
            Acquired::Held(guard) => Some(guard),
            Acquired::Busy => {
                // Its lease has ended, so we could claim the job, but it still works on the store.
                debug!("the store is locked by another worker");
                self.give_back(GiveBack::Unfinished, BUSY_WAIT).await;
                return "locked";
            }
            Acquired::Unavailable(error) => {
                debug!(%error, "no lock; the fence alone keeps the store safe");
                None
            }
        };
        failpoint::pass("lock.get.after");
        // Losing the lease drops the run, in the middle of a call of a plugin if need be.
        let ended = tokio::select! {
            ended = self.run() => ended,
            never = self.keep_place() => match never {},
            lost = self.keep_lease(lock.as_ref()) => Err(lost),
        };
        let outcome = self.conclude(ended).await;
        if let Some(guard) = lock {
            failpoint::pass("lock.release.before");
            // A lock that is not released ends with its time to live.
            let _ = guard.release().await;
            failpoint::pass("lock.release.after");
        }
        outcome
    }

    /// Prolongs lease and lock until the job ends. Returns only when the lease is lost.
    async fn keep_lease(&self, lock: Option<&Guard>) -> StoreError {
        let (fence, lease) = (self.claimed.fence, self.app.0.settings.lease);
        loop {
            // A third: two renewals may fail before the lease ends.
            tokio::time::sleep(lease / 3).await;
            failpoint::pass("sync.renewal.before");
            if let Some(lock) = lock {
                // A lost lock only costs others a wasted attempt; the fence decides.
                let _ = lock.extend(lease).await;
            }
            match self.renew(fence, lease).await {
                Ok(()) => {
                    self.app.0.metrics.leases(Leased::Sync, 1, 0);
                    failpoint::pass("sync.renewal.after");
                }
                Err(StoreError::FenceLost) => {
                    self.app.0.metrics.leases(Leased::Sync, 0, 1);
                    return StoreError::FenceLost;
                }
                // The next commit decides: it is refused if the lease ran out and somebody else took over.
                Err(error) => warn!(
                    error = &error as &dyn std::error::Error,
                    "the lease could not be renewed"
                ),
            }
        }
    }

    /// Gives the place back when its time is over, though the job may go on: it waits for answers that are late.
    async fn keep_place(&self) -> Infallible {
        tokio::time::sleep(self.app.0.settings.sync.slice).await;
        self.place.give_back();
        std::future::pending().await
    }

    async fn renew(&self, fence: Fence, lease: Duration) -> Result<(), StoreError> {
        let mut conn = self.app.0.ledger.write().await?;
        jobs::renew(&mut conn, fence, self.app.0.clock.now() + lease).await
    }

    async fn conclude(&self, ended: Result<Ended, StoreError>) -> Outcome {
        match ended {
            Ok(Ended::Finished) => "finished",
            Ok(Ended::Requeued) => {
                // A fresh ring: the store goes to the back of the queue, behind those that wait.
                self.app.ring_for(self.claimed.fence.store_id);
                "requeued"
            }
            Ok(Ended::Yielded) => {
                self.give_back(GiveBack::Unfinished, Duration::ZERO).await;
                self.app.ring_for(self.claimed.fence.store_id);
                "yielded"
            }
            Ok(Ended::Held) => {
                // Due at once: the next look puts it off, if it is held still.
                self.give_back(GiveBack::Unfinished, Duration::ZERO).await;
                "held"
            }
            Ok(Ended::Stopped) => {
                self.give_back(GiveBack::Unfinished, Duration::ZERO).await;
                "stopped"
            }
            Err(StoreError::FenceLost) => {
                // Nothing to give back: the job belongs to whoever claimed it.
                warn!("stale_write_refused: another worker has taken this job over");
                self.app.0.metrics.stale_writes(Leased::Sync, 1);
                "taken_over"
            }
            // The database's trouble is not the job's: it goes on as soon as the database does.
            Err(error @ (StoreError::Unavailable(_) | StoreError::Conflict(_))) => {
                warn!(error = &error as &dyn std::error::Error, "job_interrupted");
                self.give_back(GiveBack::Unfinished, BUSY_WAIT).await;
                "interrupted"
            }
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "job_failed");
                let why = error.to_string();
                let wait = Backoff::SYNC_JOB.after(self.claimed.attempt);
                self.give_back(GiveBack::Failed(&why), wait).await;
                "failed"
            }
        }
    }

    async fn give_back(&self, why: GiveBack<'_>, wait: Duration) {
        let (fence, now) = (self.claimed.fence, self.app.0.clock.now());
        let given = async {
            let mut conn = self.app.0.ledger.write().await?;
            jobs::give_back(&mut conn, fence, why, now + wait, now).await
        };
        if let Err(error) = given.await {
            warn!(
                error = &error as &dyn std::error::Error,
                "the job could not be given back; its lease will end"
            );
        }
    }
}
