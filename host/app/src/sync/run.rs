//! The run of a job: `sync.started`, then chunk after chunk, the last of which ends the job.

use wharf_domain::{EventKind, RunId, SyncCounts, Time};
use wharf_queue::Queue;
use wharf_store::{
    StoreError,
    jobs::{self, Run},
    logs::{self, DueLog},
    outbox,
    stores::{self, Store},
};

use super::{
    chunk::{Chunk, event},
    job::{Ended, Job},
};
use crate::{entropy::new_id, failpoint, trace};

impl Job {
    /// Asks about what was due when the run began, at most so many chunks of it.
    pub(super) async fn run(&self) -> Result<Ended, StoreError> {
        let Some(store) = self.store().await? else {
            // The store is gone, and its job with it.
            return Ok(Ended::Finished);
        };
        let started_at = self
            .claimed
            .run
            .map_or_else(|| self.app.0.clock.now(), |run| run.started_at);
        // Due at the beginning of the run, and not now: a receipt is asked about once per run.
        let (mut due, mut more) = self.due(&store, started_at).await?;
        if due.is_empty() && self.claimed.run.is_none() {
            return self.end_without_run(started_at).await;
        }
        let run = match self.claimed.run {
            Some(run) => run,
            None => self.start_run(&store, started_at).await?,
        };
        let chunk = Chunk {
            app: &self.app,
            store: &store,
            fence: self.claimed.fence,
            run,
        };
        let mut processed = run.counts.processed;
        loop {
            let wanted = due.len();
            let answers = tokio::select! {
                answers = chunk.ask_until(self.place.given_back(), due) => answers,
                // Answers that are not written are asked for again; that is safe, and quicker than waiting.
                () = self.stop.cancelled() => return Ok(Ended::Stopped),
            };
            let is_cut = answers.len() < wanted;
            processed += i64::try_from(answers.len()).unwrap_or(i64::MAX);
            // A run has an end, also where more falls due all the time: then the next one begins.
            if (!more && !is_cut) || processed >= self.max_per_run() {
                return chunk.write_last(&answers).await;
            }
            chunk.write(&answers).await?;
            // The place is taken by another; the store goes to the back of the queue, in the middle of its run.
            if self.place.is_given_back() {
                return Ok(Ended::Yielded);
            }
            (due, more) = self.due(&store, run.started_at).await?;
        }
    }

    fn max_per_run(&self) -> i64 {
        let settings = &self.app.0.settings.sync;
        settings.chunk_size * settings.chunks_per_run
    }

    async fn store(&self) -> Result<Option<Store>, StoreError> {
        let mut conn = self.app.0.ledger.read().await?;
        stores::by_id(&mut conn, self.claimed.fence.store_id).await
    }

    /// A chunk of the logs that were due at `until`, and whether there are more.
    async fn due(&self, store: &Store, until: Time) -> Result<(Vec<DueLog>, bool), StoreError> {
        let chunk_size = self.app.0.settings.sync.chunk_size;
        let mut conn = self.app.0.ledger.read().await?;
        // One more than a chunk tells whether there are more.
        let mut due = logs::due(&mut conn, store.id, until, chunk_size + 1).await?;
        let chunk_size = usize::try_from(chunk_size).unwrap_or(usize::MAX);
        let more = due.len() > chunk_size;
        due.truncate(chunk_size);
        Ok((due, more))
    }

    /// Nothing was due: no run, and no event.
    async fn end_without_run(&self, now: Time) -> Result<Ended, StoreError> {
        let mut conn = self.app.0.ledger.write().await?;
        let again = jobs::finish(&mut conn, self.claimed.fence, false, now).await?;
        Ok(Ended::finished(again))
    }

    async fn start_run(&self, store: &Store, now: Time) -> Result<Run, StoreError> {
        let run = Run {
            id: RunId(new_id(now)),
            started_at: now,
            counts: SyncCounts::default(),
        };
        let data = serde_json::json!({ "storeId": store.id.to_string() });
        let started = event(store, EventKind::SyncStarted, &data, now);
        let mut tx = self.app.0.ledger.begin().await?;
        // The run and the event that tells of it stand or fall together: a crash tells of no run twice.
        jobs::start_run(&mut tx, self.claimed.fence, run.id, now).await?;
        outbox::emit(&mut tx, &started, trace::traceparent().as_deref()).await?;
        failpoint::pass("sync.start.before");
        tx.commit().await?;
        failpoint::pass("sync.start.after");
        self.app.0.doorbell.ring(Queue::Callback, "events");
        Ok(run)
    }
}

impl Ended {
    /// The end of a job that is queued again (`true`) or idle.
    pub(super) fn finished(again: bool) -> Self {
        if again {
            Self::Requeued
        } else {
            Self::Finished
        }
    }
}
