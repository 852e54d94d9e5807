//! The run of a job: chunk after chunk, the first of which tells `sync.started` and the last of which ends the job.

use tokio::sync::OnceCell;
use wharf_domain::Time;
use wharf_store::{
    StoreError,
    logs::{self, DueLog},
    stores::{self, Store},
};

use super::{
    chunk::Chunk,
    job::{Ended, Job},
};

/// Logs that one claim makes due because the store's credentials changed: as many as a run works on by default.
const MAX_RETRIED: i64 = 1_000;

impl Job {
    /// Asks about what was due when the run began, at most so many chunks of it.
    ///
    /// The run begins with the first answer. Where the adapter is out of service for all that is due, nobody is asked,
    /// and there is no run to tell of.
    pub(super) async fn run(&self) -> Result<Ended, StoreError> {
        let Some(store) = self.store().await? else {
            // The store is gone, and its job with it.
            return Ok(Ended::Finished);
        };
        if self.app.holds(&store).await? {
            return Ok(Ended::Held);
        }
        let more_to_retry = self.retry_failed(&store).await?;
        let run = &self.claimed.run;
        let started_at = run
            .as_ref()
            .map_or_else(|| self.app.0.clock.now(), |run| run.started_at);
        let chunk = Chunk {
            app: &self.app,
            store: &store,
            fence: self.claimed.fence,
            started_at,
            run: OnceCell::new_with(run.clone()),
            log_span: &self.span,
            more_to_retry,
        };
        chunk.tell_request();
        // Due at the beginning of the run, and not now: a receipt is asked about once per run.
        let (mut due, mut more) = self.due(&store, started_at).await?;
        let mut processed = run.as_ref().map_or(0, |run| run.counts.processed);
        loop {
            let wanted = due.len();
            let asked = tokio::select! {
                asked = chunk.ask_until(self.cut(&store), due) => asked?,
                // Answers that are not written are asked for again; that is safe, and quicker than waiting.
                () = self.stop.cancelled() => return Ok(Ended::Stopped),
            };
            let is_cut = asked.len() < wanted;
            processed += i64::try_from(asked.len()).unwrap_or(i64::MAX);
            // A run has an end, also where more falls due all the time: then the next one begins.
            let is_last = (!more && !is_cut) || processed >= self.max_per_run();
            match chunk.run.get() {
                Some(run) if is_last => return chunk.write_last(run, &asked).await,
                Some(run) => chunk.write(run, &asked).await?,
                None if is_last => return chunk.end_without_run(&asked).await,
                None => chunk.put_off(&asked).await?,
            }
            if self.app.holds(&store).await? {
                return Ok(Ended::Held);
            }
            // The place is taken by another; the store goes to the back of the queue, in the middle of its run.
            if self.place.is_given_back() {
                return Ok(Ended::Yielded);
            }
            (due, more) = self.due(&store, started_at).await?;
        }
    }

    /// Waits until no further receipt is to be asked about: the job's time is over, or its store is held.
    async fn cut(&self, store: &Store) {
        tokio::select! {
            () = self.place.given_back() => {}
            () = self.app.until_held(store) => {}
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

    /// Makes due what failed before the store's credentials changed, a page of it. Returns whether there is more.
    async fn retry_failed(&self, store: &Store) -> Result<bool, StoreError> {
        let Some(changed_at) = store.credentials_changed_at else {
            return Ok(false);
        };
        // Not before the change, or the same logs would be found again.
        let now = self.app.0.clock.now().max(changed_at);
        let mut conn = self.app.0.ledger.write().await?;
        let retried = logs::retry_failed(&mut conn, store.id, changed_at, MAX_RETRIED, now).await?;
        let more = retried >= MAX_RETRIED.unsigned_abs();
        if !more {
            stores::credentials_tried(&mut conn, store.id, changed_at).await?;
        }
        Ok(more)
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
