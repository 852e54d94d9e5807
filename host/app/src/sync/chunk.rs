//! A chunk of a run: asks marketplaces with no transaction open, then writes everything in one.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::OnceCell;
use tracing::{Instrument, Span, info, info_span, warn};
use wharf_domain::{
    Event, EventId, EventKind, LogId, LogStatus, RequestId, RunId, StoreId, SyncCounts, SyncStatus,
    Time, next_state,
};
use wharf_queue::Queue;
use wharf_store::{
    StoreError, Tx,
    jobs::{self, Fence, Run},
    logs::{self, DueLog, Settled, SettledLog},
    outbox,
    stores::Store,
};

use super::job::Ended;
use crate::{App, entropy::new_id, failpoint, trace};

/// The parts that every chunk of a run works with.
pub(super) struct Chunk<'a> {
    pub(super) app: &'a App,
    pub(super) store: &'a Store,
    pub(super) fence: Fence,
    pub(super) started_at: Time,
    /// The run, once somebody was asked.
    pub(super) run: OnceCell<Run>,
    pub(super) log_span: &'a Span,
    /// More failed before the store's credentials changed than this claim made due.
    pub(super) more_to_retry: bool,
}

/// A due log with its answer.
pub(super) struct Asked {
    settled: SettledLog,
    /// Nobody was asked.
    is_put_off: bool,
}

impl Chunk<'_> {
    /// The present time, but after the run's beginning, so that a refused receipt waits for the next run.
    fn now(&self) -> Time {
        let earliest = self.started_at + Duration::from_micros(1);
        self.app.0.clock.now().max(earliest)
    }

    /// Asks about the logs, several at a time, and begins with none after `cut`.
    pub(super) async fn ask_until(
        &self,
        cut: impl Future<Output = ()>,
        due: Vec<DueLog>,
    ) -> Result<Vec<Asked>, StoreError> {
        let now = self.now();
        let asks = due.into_iter().map(|log| self.ask(log, now));
        stream::iter(asks)
            // Those that were begun go on to their end, or a slow marketplace would never get anywhere.
            .take_until(cut)
            // In any order: each answer is written to its own row.
            .buffer_unordered(self.app.0.settings.sync.asks)
            .try_collect()
            .await
    }

    async fn ask(&self, log: DueLog, now: Time) -> Result<Asked, StoreError> {
        // The request that imported the receipt, so that one order can be followed.
        let span = info_span!("ask", import_request_id = log.request_id);
        let request = log.request_id.clone().map(RequestId::from_stored);
        let ask = self.app.ask(self.store, &log.receipt, request, now);
        let (answer, plugin_digest) = ask.instrument(span).await;
        let is_put_off = answer.is_put_off();
        if !is_put_off {
            self.run.get_or_try_init(|| self.start_run()).await?;
        }
        let state = next_state(log.before(), answer, now);
        Ok(Asked {
            settled: SettledLog {
                log,
                state,
                plugin_digest,
            },
            is_put_off,
        })
    }

    async fn start_run(&self) -> Result<Run, StoreError> {
        let (store, at) = (self.store, self.started_at);
        let data = serde_json::json!({ "storeId": store.id.to_string() });
        let started = event(store, EventKind::SyncStarted, &data, at);
        let mut tx = self.app.0.ledger.begin().await?;
        // The run and the event that tells of it stand or fall together: a crash tells of no run twice.
        let run = jobs::start_run(&mut tx, self.fence, RunId(new_id(at)), at).await?;
        self.emit(&mut tx, &started, &run).await?;
        failpoint::pass("sync.start.before");
        tx.commit().await?;
        failpoint::pass("sync.start.after");
        self.app.0.doorbell.ring(Queue::Callback, "events");
        self.tell_request_of(&run);
        Ok(run)
    }

    /// Names the request of the run in its lines of the log and in its trace, if there is a run yet.
    pub(super) fn tell_request(&self) {
        if let Some(run) = self.run.get() {
            self.tell_request_of(run);
        }
    }

    fn tell_request_of(&self, run: &Run) {
        self.log_span
            .record("request_id", tracing::field::display(&run.request_id));
        trace::sync_run(&run.request_id);
    }

    async fn emit(&self, tx: &mut Tx, event: &Event, run: &Run) -> Result<(), StoreError> {
        let traceparent = trace::traceparent();
        let cause = outbox::Cause {
            traceparent: traceparent.as_deref(),
            request_id: Some(&run.request_id),
        };
        outbox::emit(tx, event, cause).await
    }

    /// One transaction: logs, counters, status and the run's sums.
    pub(super) async fn write(&self, run: &Run, asked: &[Asked]) -> Result<(), StoreError> {
        let (now, counts) = (self.now(), count(asked));
        let mut tx = self.app.0.ledger.begin().await?;
        let (settled, _) = self.write_answers(&mut tx, run, asked, counts, now).await?;
        commit(tx).await?;
        self.tell(counts);
        self.tell_exhausted(asked, &settled.exhausted);
        Ok(())
    }

    /// The same, with the run's event and the end of the job.
    pub(super) async fn write_last(&self, run: &Run, asked: &[Asked]) -> Result<Ended, StoreError> {
        let (now, counts) = (self.now(), count(asked));
        let mut tx = self.app.0.ledger.begin().await?;
        let (settled, sums) = self.write_answers(&mut tx, run, asked, counts, now).await?;
        let end = if settled.status == SyncStatus::Failed {
            EventKind::SyncFailed
        } else {
            EventKind::SyncCompleted
        };
        let told = event(self.store, end, &run_data(self.store, sums), now);
        self.emit(&mut tx, &told, run).await?;
        let again = self.finish(tx, now).await?;
        self.tell(counts);
        self.tell_exhausted(asked, &settled.exhausted);
        self.app.0.metrics.sync_run(end);
        log_counts("job_completed", self.store.id, sums);
        // After the commit: whoever hears it finds the event.
        self.app.0.doorbell.ring(Queue::Callback, "events");
        Ok(Ended::finished(again))
    }

    /// Ends a job about which nobody was asked: nothing was due, or all of it is put off.
    pub(super) async fn end_without_run(&self, asked: &[Asked]) -> Result<Ended, StoreError> {
        let now = self.now();
        let mut tx = self.app.0.ledger.begin().await?;
        self.write_put_off(&mut tx, asked, now).await?;
        let again = self.finish(tx, now).await?;
        Ok(Ended::finished(again))
    }

    /// Writes that all of a chunk is put off. Otherwise what is due behind it would never come up.
    pub(super) async fn put_off(&self, asked: &[Asked]) -> Result<(), StoreError> {
        let mut tx = self.app.0.ledger.begin().await?;
        self.write_put_off(&mut tx, asked, self.now()).await?;
        commit(tx).await
    }

    /// Ends the job in this transaction and commits it. Returns whether the job is queued again.
    async fn finish(&self, mut tx: Tx, now: Time) -> Result<bool, StoreError> {
        // In the transaction that ends the job, so that nothing due is left behind an idle one.
        let more =
            self.more_to_retry || logs::has_due(&mut tx, self.store.id, self.started_at).await?;
        let again = jobs::finish(&mut tx, self.fence, more, now).await?;
        if again {
            failpoint::pass("requeue.before");
        }
        commit(tx).await?;
        if again {
            failpoint::pass("requeue.after");
        }
        Ok(again)
    }

    async fn write_answers(
        &self,
        tx: &mut Tx,
        run: &Run,
        asked: &[Asked],
        counts: SyncCounts,
        now: Time,
    ) -> Result<(Settled, SyncCounts), StoreError> {
        let sums = self.hold(tx, counts, now).await?;
        let logs = settled(asked);
        let settled = logs::settle(tx, self.store.id, &logs, &run.request_id, now).await?;
        Ok((settled, sums))
    }

    async fn write_put_off(
        &self,
        tx: &mut Tx,
        asked: &[Asked],
        now: Time,
    ) -> Result<(), StoreError> {
        if asked.is_empty() {
            return Ok(());
        }
        self.hold(tx, SyncCounts::default(), now).await?;
        logs::put_off(tx, self.store.id, &settled(asked), now).await
    }

    /// First in a transaction: it locks the store's row and the fence, in the order in which everybody takes them.
    async fn hold(
        &self,
        tx: &mut Tx,
        counts: SyncCounts,
        now: Time,
    ) -> Result<SyncCounts, StoreError> {
        let lease_until = now + self.app.0.settings.lease;
        jobs::hold(tx, self.fence, counts, lease_until, now).await
    }

    fn tell(&self, counts: SyncCounts) {
        log_counts("sync_store_batch", self.store.id, counts);
        self.app.0.metrics.sync_chunk(counts);
    }

    /// Tells of the receipts that rest from now on, after the commit: each is told of once.
    fn tell_exhausted(&self, asked: &[Asked], exhausted: &[LogId]) {
        let logs = asked.iter().map(|asked| &asked.settled);
        for SettledLog {
            log,
            state,
            plugin_digest,
        } in logs.filter(|settled| exhausted.contains(&settled.log.id))
        {
            warn!(
                storeId = %self.store.id, logId = %log.id, receipt = log.receipt.as_str(), outcome = state.answer.as_str(),
                importRequestId = log.request_id, pluginDigest = plugin_digest, "receipt_exhausted"
            );
            self.app.0.metrics.exhausted(state.answer);
        }
    }
}

fn settled(asked: &[Asked]) -> Vec<SettledLog> {
    asked.iter().map(|asked| asked.settled.clone()).collect()
}

async fn commit(tx: Tx) -> Result<(), StoreError> {
    failpoint::pass("sync.commit.before");
    tx.commit().await?;
    failpoint::pass("sync.commit.after");
    Ok(())
}

/// An event about a store.
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

/// Counts what was asked about. What is put off was not.
fn count(asked: &[Asked]) -> SyncCounts {
    let mut counts = SyncCounts::default();
    for asked in asked.iter().filter(|asked| !asked.is_put_off) {
        counts.processed += 1;
        match asked.settled.state.status {
            LogStatus::Success => counts.success += 1,
            LogStatus::RateLimited => counts.rate_limited += 1,
            // Clients are told of three ends alone, and one that is pending again did not succeed.
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
