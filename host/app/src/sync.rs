//! The sync engine: the scheduler finds stores with due logs and queues their jobs; the worker claims jobs, asks the
//! marketplaces again and writes what they said.
//!
//! A job goes: claim (fence, lease) -> lock -> `sync.started` -> chunks -> `sync.completed` or `sync.failed` -> idle.
//! Each chunk is one transaction behind the fence; the run's sums stand in the ledger, so a run that a crash
//! interrupted goes on where its last commit ended and is told of once.

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use tokio::{task::JoinSet, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info, info_span, warn};
use wharf_domain::{
    Event, EventId, EventKind, LogStatus, RunId, StoreId, SyncCounts, SyncStatus, Time, next_state,
};
use wharf_queue::{Acquired, Guard, Queue};
use wharf_store::{
    StoreError,
    jobs::{self, Claimed, Fence, GiveBack, Run},
    logs::{self, DueLog, SettledLog},
    outbox,
    stores::{self, Cursor, Store},
};

use crate::{
    App, AppError, Scheduled, entropy::new_id, failpoint, metrics::Leased, stores::job_id, trace,
};

/// Stores per page of the scheduler's walk.
const PAGE: i64 = 500;
/// Due jobs that one sweep rings for.
const SWEEP: i64 = 64;
/// How long a job waits that found its store locked, or the database not available.
const BUSY_WAIT: Duration = Duration::from_secs(1);
const FIRST_RETRY: Duration = Duration::from_secs(5);
const MAX_RETRY: Duration = Duration::from_secs(5 * 60);

/// How working on a job ended.
enum Ended {
    /// Written to its end. Whether the job is queued again.
    Finished { again: bool },
    /// The worker is shutting down; the rest is for another.
    Stopped,
}

impl App {
    /// One pass of the scheduler over all stores.
    ///
    /// The original looked at stores whose status is pending, failed or partial. A store can read success and still
    /// have an older log to ask about again, so due logs decide here.
    pub async fn schedule_syncs(&self) -> Result<Scheduled, AppError> {
        let now = self.0.clock.now();
        let mut scheduled = Scheduled::default();
        let mut cursor = Cursor::START;
        loop {
            let mut conn = self.0.ledger.write().await?;
            let page = stores::page(
                &mut conn,
                cursor,
                now,
                now - self.0.settings.sync.rest,
                PAGE,
            )
            .await?;
            scheduled.scanned += page.scanned as u64;
            if !page.due.is_empty() {
                let queued = jobs::enqueue(&mut conn, page.due, now).await?;
                scheduled.enqueued += queued.len() as u64;
                queued.into_iter().for_each(|store| self.ring_for(store));
            }
            if page.scanned < usize::try_from(PAGE).unwrap_or(usize::MAX) {
                break;
            }
            cursor = page.next;
        }
        info!(
            scannedStores = scheduled.scanned,
            enqueuedJobs = scheduled.enqueued,
            "scheduler_run"
        );
        Ok(scheduled)
    }

    /// Schedules every interval, and every second rings again for jobs that are due and not taken: news may be lost,
    /// work may not. Any number of schedulers may run. Returns when `stop` is cancelled.
    pub async fn run_sync_scheduler(&self, stop: CancellationToken) {
        let mut passes = tokio::time::interval(self.0.settings.sync.interval);
        let mut sweeps = tokio::time::interval(self.0.settings.poll);
        passes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let done = tokio::select! {
                () = stop.cancelled() => return,
                _ = passes.tick() => self.schedule_syncs().await.map(drop),
                _ = sweeps.tick() => self.sweep_syncs().await,
            };
            if let Err(error) = done {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "scheduler_run failed; trying again"
                );
            }
        }
    }

    async fn sweep_syncs(&self) -> Result<(), AppError> {
        failpoint::pass("sync.sweep.before");
        let mut conn = self.0.ledger.read().await?;
        let due = jobs::due(&mut conn, SWEEP, self.0.clock.now()).await?;
        due.into_iter().for_each(|store| self.ring_for(store));
        failpoint::pass("sync.sweep.after");
        Ok(())
    }

    pub(crate) fn ring_for(&self, store: StoreId) {
        failpoint::pass("ring.before");
        self.0.doorbell.ring(Queue::SyncStore, &job_id(store));
        failpoint::pass("ring.after");
    }

    /// Works on due jobs, several at a time. When `stop` is cancelled, jobs in progress give back their leases; then
    /// it returns.
    pub async fn run_sync_worker(&self, stop: CancellationToken) {
        let mut listener = self.0.doorbell.listener(Queue::SyncStore);
        let mut jobs = JoinSet::new();
        while !stop.is_cancelled() {
            while jobs.try_join_next().is_some() {}
            let free = self.0.settings.sync.concurrency.saturating_sub(jobs.len());
            let claimed = if free == 0 {
                Ok(Vec::new())
            } else {
                self.claim_jobs(free).await
            };
            let idle = match claimed {
                Ok(claimed) => {
                    let idle = claimed.is_empty();
                    for job in claimed {
                        let span = info_span!("sync_job", storeId = %job.fence.store_id, fence = job.fence.number);
                        jobs.spawn(self.clone().work(job, stop.clone()).instrument(span));
                    }
                    idle
                }
                Err(error) => {
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "jobs cannot be claimed; trying again"
                    );
                    tokio::select! { () = stop.cancelled() => {} () = tokio::time::sleep(self.0.settings.poll) => {} }
                    continue;
                }
            };
            if idle {
                tokio::select! {
                    () = stop.cancelled() => {}
                    Some(_) = jobs.join_next(), if free == 0 => {}
                    _ = listener.wait(self.0.settings.poll), if free > 0 => {}
                }
            }
        }
        while jobs.join_next().await.is_some() {}
    }

    async fn claim_jobs(&self, most: usize) -> Result<Vec<Claimed>, AppError> {
        let mut conn = self.0.ledger.write().await?;
        let settings = &self.0.settings;
        let limit = i64::try_from(most).unwrap_or(i64::MAX);
        failpoint::pass("sync.claim.before");
        let claimed = jobs::claim(
            &mut conn,
            &settings.worker_name,
            settings.lease,
            limit,
            self.0.clock.now(),
        )
        .await?;
        if !claimed.is_empty() {
            failpoint::pass("sync.claim.after");
        }
        Ok(claimed)
    }

    async fn work(self, job: Claimed, stop: CancellationToken) {
        let (span, began) = (trace::sync_job(&job), Instant::now());
        let outcome = self.work_on(job, stop).instrument(span.clone()).await;
        span.record("outcome", outcome);
        self.0.metrics.sync_job(outcome, began.elapsed());
    }

    /// Answers how it ended, as the metrics name it.
    async fn work_on(&self, job: Claimed, stop: CancellationToken) -> &'static str {
        failpoint::pass("lock.get.before");
        let lock = match self
            .0
            .doorbell
            .lock()
            .acquire(job.fence.store_id, self.0.settings.lease)
            .await
        {
            Acquired::Held(guard) => Some(guard),
            Acquired::Busy => {
                debug!("the store is locked by another worker");
                self.hand_back(job.fence, GiveBack::Shutdown, BUSY_WAIT)
                    .await;
                return "locked";
            }
            Acquired::Unavailable(error) => {
                debug!(%error, "no lock; the fence alone keeps the store safe");
                None
            }
        };
        failpoint::pass("lock.get.after");
        let ended = tokio::select! {
            ended = self.run(&job, &stop) => ended,
            lost = self.keep_lease(job.fence, lock.as_ref()) => Err(lost),
        };
        let outcome = match ended {
            Ok(Ended::Finished { again: true }) => {
                self.ring_for(job.fence.store_id);
                "requeued"
            }
            Ok(Ended::Finished { again: false }) => "finished",
            Ok(Ended::Stopped) => {
                self.hand_back(job.fence, GiveBack::Shutdown, Duration::ZERO)
                    .await;
                "stopped"
            }
            Err(StoreError::FenceLost) => {
                warn!("stale_write_refused: another worker has taken this job over");
                self.0.metrics.stale_writes(Leased::Sync, 1);
                "taken_over"
            }
            // The database's trouble is not the job's: it goes on as soon as the database does.
            Err(error @ (StoreError::Unavailable(_) | StoreError::Conflict(_))) => {
                warn!(error = &error as &dyn std::error::Error, "job_interrupted");
                self.hand_back(job.fence, GiveBack::Shutdown, BUSY_WAIT)
                    .await;
                "interrupted"
            }
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "job_failed");
                let wait = (FIRST_RETRY
                    * 2u32.pow(u32::try_from(job.attempt.clamp(1, 10) - 1).unwrap_or(0)))
                .min(MAX_RETRY);
                self.hand_back(job.fence, GiveBack::Failed(&error.to_string()), wait)
                    .await;
                "failed"
            }
        };
        if let Some(guard) = lock {
            failpoint::pass("lock.release.before");
            let _ = guard.release().await;
            failpoint::pass("lock.release.after");
        }
        outcome
    }

    /// Prolongs lease and lock until the job ends; returns only when the lease is lost.
    async fn keep_lease(&self, fence: Fence, lock: Option<&Guard>) -> StoreError {
        let lease = self.0.settings.lease;
        loop {
            tokio::time::sleep(lease / 3).await;
            failpoint::pass("sync.renewal.before");
            if let Some(lock) = lock {
                let _ = lock.extend(lease).await;
            }
            let renewed = async {
                let mut conn = self.0.ledger.write().await?;
                jobs::renew(&mut conn, fence, self.0.clock.now() + lease).await
            };
            match renewed.await {
                Ok(()) => {
                    self.0.metrics.leases(Leased::Sync, 1, 0);
                    failpoint::pass("sync.renewal.after");
                }
                Err(StoreError::FenceLost) => {
                    self.0.metrics.leases(Leased::Sync, 0, 1);
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

    async fn hand_back(&self, fence: Fence, why: GiveBack<'_>, wait: Duration) {
        let now = self.0.clock.now();
        let given = async {
            let mut conn = self.0.ledger.write().await?;
            jobs::give_back(&mut conn, fence, why, now + wait, now).await
        };
        if let Err(error) = given.await {
            warn!(
                error = &error as &dyn std::error::Error,
                "the job could not be given back; its lease will end"
            );
        }
    }

    async fn run(&self, job: &Claimed, stop: &CancellationToken) -> Result<Ended, StoreError> {
        let settings = &self.0.settings.sync;
        let Some(store) = self.store_of(job.fence).await? else {
            return Ok(Ended::Finished { again: false });
        };
        let started_at = job
            .run
            .map_or_else(|| self.0.clock.now(), |run| run.started_at);
        let (mut due, mut more) = self.due(&store, started_at).await?;
        if due.is_empty() && job.run.is_none() {
            let again = jobs::finish(
                &mut self.0.ledger.write().await?,
                job.fence,
                false,
                started_at,
            )
            .await?;
            return Ok(Ended::Finished { again });
        }
        let run = match job.run {
            Some(run) => run,
            None => self.start_run(&store, job.fence, started_at).await?,
        };
        for chunk in 1.. {
            let answers = tokio::select! {
                answers = self.ask_all(&store, run, due) => answers,
                () = stop.cancelled() => return Ok(Ended::Stopped),
            };
            let last = !more || chunk == settings.chunks_per_job;
            if let Some(again) = self
                .write_chunk(&store, job.fence, run, &answers, last)
                .await?
            {
                return Ok(Ended::Finished { again });
            }
            (due, more) = self.due(&store, run.started_at).await?;
        }
        unreachable!("the last chunk of a job returns")
    }

    async fn store_of(&self, fence: Fence) -> Result<Option<Store>, StoreError> {
        stores::by_id(&mut self.0.ledger.read().await?, fence.store_id).await
    }

    /// A chunk of the logs that were due at `until`, and whether there are more.
    async fn due(&self, store: &Store, until: Time) -> Result<(Vec<DueLog>, bool), StoreError> {
        let chunk_size = self.0.settings.sync.chunk_size;
        let mut due = logs::due(
            &mut self.0.ledger.read().await?,
            store.id,
            until,
            chunk_size + 1,
        )
        .await?;
        let chunk_size = usize::try_from(chunk_size).unwrap_or(usize::MAX);
        let more = due.len() > chunk_size;
        due.truncate(chunk_size);
        Ok((due, more))
    }

    async fn start_run(&self, store: &Store, fence: Fence, now: Time) -> Result<Run, StoreError> {
        let run = Run {
            id: RunId(new_id(now)),
            started_at: now,
            counts: SyncCounts::default(),
        };
        let data = serde_json::json!({ "storeId": store.id.to_string() });
        let mut tx = self.0.ledger.begin().await?;
        jobs::start_run(&mut tx, fence, run.id, now).await?;
        outbox::emit(
            &mut tx,
            &event(store, EventKind::SyncStarted, &data, now),
            trace::traceparent().as_deref(),
        )
        .await?;
        failpoint::pass("sync.start.before");
        tx.commit().await?;
        failpoint::pass("sync.start.after");
        self.0.doorbell.ring(Queue::Callback, "events");
        Ok(run)
    }

    /// Asks about every log, several at a time, with no transaction open.
    async fn ask_all(&self, store: &Store, run: Run, due: Vec<DueLog>) -> Vec<SettledLog> {
        // Results are dated after the run's beginning, so that a refused receipt waits for the next run.
        let now = self
            .0
            .clock
            .now()
            .max(run.started_at + Duration::from_micros(1));
        let asks = due.into_iter().map(|log| async move {
            let (answer, plugin_digest) = self.ask(store, &log.receipt, now).await;
            let state = next_state(Some((log.status, log.attempt)), answer, now);
            SettledLog {
                log,
                state,
                plugin_digest,
            }
        });
        stream::iter(asks)
            .buffer_unordered(self.0.settings.sync.asks)
            .collect()
            .await
    }

    /// One transaction: logs, counters, status, the run's sums; with the last chunk the run's event and its end too.
    /// Answers, at the end, whether the job is queued again.
    async fn write_chunk(
        &self,
        store: &Store,
        fence: Fence,
        run: Run,
        answers: &[SettledLog],
        last: bool,
    ) -> Result<Option<bool>, StoreError> {
        let now = self
            .0
            .clock
            .now()
            .max(run.started_at + Duration::from_micros(1));
        let chunk = count(answers);
        let mut tx = self.0.ledger.begin().await?;
        let sums = jobs::hold(&mut tx, fence, chunk, now + self.0.settings.lease, now).await?;
        let status = logs::settle(&mut tx, store.id, answers, now).await?;
        let end = if status == SyncStatus::Failed {
            EventKind::SyncFailed
        } else {
            EventKind::SyncCompleted
        };
        let again = if last {
            outbox::emit(
                &mut tx,
                &event(store, end, &run_data(store, sums), now),
                trace::traceparent().as_deref(),
            )
            .await?;
            let more = logs::has_due(&mut tx, store.id, run.started_at).await?;
            Some(jobs::finish(&mut tx, fence, more, now).await?)
        } else {
            None
        };
        if again == Some(true) {
            failpoint::pass("requeue.before");
        }
        failpoint::pass("sync.commit.before");
        tx.commit().await?;
        failpoint::pass("sync.commit.after");
        if again == Some(true) {
            failpoint::pass("requeue.after");
        }
        log_counts("sync_store_batch", store.id, chunk);
        self.0.metrics.sync_chunk(chunk);
        if last {
            self.0.metrics.sync_run(end);
            log_counts("job_completed", store.id, sums);
            self.0.doorbell.ring(Queue::Callback, "events");
        }
        Ok(again)
    }
}

fn event(store: &Store, kind: EventKind, data: &serde_json::Value, at: Time) -> Event {
    Event {
        id: EventId(new_id(at)),
        kind: kind.as_str().to_owned(),
        at,
        organization_id: store.organization_id.clone(),
        store_id: store.id,
        data: data.to_string(),
    }
}

fn run_data(store: &Store, sums: SyncCounts) -> serde_json::Value {
    serde_json::json!({
        "storeId": store.id.to_string(),
        "processedCount": sums.processed,
        "successCount": sums.success,
        "failedCount": sums.failed,
        "rateLimitedCount": sums.rate_limited,
    })
}

fn count(answers: &[SettledLog]) -> SyncCounts {
    let mut counts = SyncCounts::default();
    for SettledLog { state, .. } in answers {
        counts.processed += 1;
        match state.status {
            LogStatus::Success => counts.success += 1,
            LogStatus::RateLimited => counts.rate_limited += 1,
            LogStatus::Failed | LogStatus::Pending => counts.failed += 1,
        }
    }
    counts
}

fn log_counts(message: &'static str, store: StoreId, counts: SyncCounts) {
    let SyncCounts {
        processed,
        success,
        failed,
        rate_limited,
    } = counts;
    info!(
        storeId = %store, processedCount = processed, successCount = success, failedCount = failed,
        rateLimitedCount = rate_limited, "{message}"
    );
}
