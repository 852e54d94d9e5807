//! A chunk of a run: asks marketplaces with no transaction open, then writes everything in one.

use std::time::Duration;

use futures::{StreamExt, stream};
use tracing::info;
use wharf_domain::{
    Event, EventId, EventKind, LogStatus, StoreId, SyncCounts, SyncStatus, Time, next_state,
};
use wharf_queue::Queue;
use wharf_store::{
    StoreError, Tx,
    jobs::{self, Fence, Run},
    logs::{self, DueLog, SettledLog},
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
    pub(super) run: Run,
}

impl Chunk<'_> {
    /// The present time, but after the run's beginning, so that a refused receipt waits for the next run.
    fn now(&self) -> Time {
        let earliest = self.run.started_at + Duration::from_micros(1);
        self.app.0.clock.now().max(earliest)
    }

    /// Asks about the logs, several at a time, and begins with none after `cut`.
    pub(super) async fn ask_until(
        &self,
        cut: impl Future<Output = ()>,
        due: Vec<DueLog>,
    ) -> Vec<SettledLog> {
        let now = self.now();
        let asks = due.into_iter().map(|log| async move {
            let (answer, plugin_digest) = self.app.ask(self.store, &log.receipt, now).await;
            let state = next_state(log.before(), answer, now);
            SettledLog {
                log,
                state,
                plugin_digest,
            }
        });
        stream::iter(asks)
            // Those that were begun go on to their end, or a slow marketplace would never get anywhere.
            .take_until(cut)
            // In any order: each answer is written to its own row.
            .buffer_unordered(self.app.0.settings.sync.asks)
            .collect()
            .await
    }

    /// One transaction: logs, counters, status and the run's sums, which it returns.
    pub(super) async fn write(&self, answers: &[SettledLog]) -> Result<SyncCounts, StoreError> {
        let counts = count(answers);
        let mut tx = self.app.0.ledger.begin().await?;
        let (_, sums) = self
            .write_answers(&mut tx, answers, counts, self.now())
            .await?;
        commit(tx).await?;
        self.tell(counts);
        Ok(sums)
    }

    /// The same, with the run's event and the end of the job.
    pub(super) async fn write_last(&self, answers: &[SettledLog]) -> Result<Ended, StoreError> {
        let (now, counts) = (self.now(), count(answers));
        let mut tx = self.app.0.ledger.begin().await?;
        let (status, sums) = self.write_answers(&mut tx, answers, counts, now).await?;
        let end = if status == SyncStatus::Failed {
            EventKind::SyncFailed
        } else {
            EventKind::SyncCompleted
        };
        let told = event(self.store, end, &run_data(self.store, sums), now);
        outbox::emit(&mut tx, &told, trace::traceparent().as_deref()).await?;
        // In the transaction that ends the job, so that nothing due is left behind an idle one.
        let more = logs::has_due(&mut tx, self.store.id, self.run.started_at).await?;
        let again = jobs::finish(&mut tx, self.fence, more, now).await?;
        if again {
            failpoint::pass("requeue.before");
        }
        commit(tx).await?;
        if again {
            failpoint::pass("requeue.after");
        }
        self.tell(counts);
        self.app.0.metrics.sync_run(end);
        log_counts("job_completed", self.store.id, sums);
        // After the commit: whoever hears it finds the event.
        self.app.0.doorbell.ring(Queue::Callback, "events");
        Ok(Ended::finished(again))
    }

    async fn write_answers(
        &self,
        tx: &mut Tx,
        answers: &[SettledLog],
        counts: SyncCounts,
        now: Time,
    ) -> Result<(SyncStatus, SyncCounts), StoreError> {
        let lease_until = now + self.app.0.settings.lease;
        // First: it locks the store's row and the fence, in the order in which everybody takes them.
        let sums = jobs::hold(tx, self.fence, counts, lease_until, now).await?;
        let status = logs::settle(tx, self.store.id, answers, now).await?;
        Ok((status, sums))
    }

    fn tell(&self, counts: SyncCounts) {
        log_counts("sync_store_batch", self.store.id, counts);
        self.app.0.metrics.sync_chunk(counts);
    }
}

async fn commit(tx: Tx) -> Result<(), StoreError> {
    failpoint::pass("sync.commit.before");
    tx.commit().await?;
    failpoint::pass("sync.commit.after");
    Ok(())
}

/// An event about a store.
pub(super) fn event(store: &Store, kind: EventKind, data: &serde_json::Value, at: Time) -> Event {
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
