//! The sync worker: claims due jobs and works on several at a time.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, field::Empty, info_span, warn};
use wharf_domain::{Parties, StoreId};
use wharf_queue::{Listener, Queue};
use wharf_store::jobs::{self, Claimed};

use super::{
    held,
    job::Job,
    places::{Place, Places},
};
use crate::{App, AppError, failpoint};

/// Tries of a claim where other workers take what was chosen.
const MAX_CLAIMS: usize = 3;

/// Works on due sync jobs. Any number may run, in any number of processes.
pub struct SyncWorker {
    app: App,
    listener: Listener,
    jobs: JoinSet<()>,
    places: Arc<Places>,
    stop: CancellationToken,
}

/// The work of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncStep {
    /// Claimed so many jobs and began to work on them.
    Started(usize),
    /// Claimed nothing, because as many jobs as allowed are in progress.
    Full,
    /// Found nothing due.
    Idle,
}

impl SyncWorker {
    /// A worker with no job in progress.
    pub fn new(app: &App) -> Self {
        Self {
            app: app.clone(),
            // Listens before the first look: work that is queued in between rings.
            listener: app.0.doorbell.listener(Queue::SyncStore),
            jobs: JoinSet::new(),
            places: Places::new(app.0.settings.sync.concurrency),
            stop: CancellationToken::new(),
        }
    }

    /// Claims as many due jobs as there is room for and starts them. Does not wait for them.
    pub async fn step(&mut self) -> Result<SyncStep, AppError> {
        // Ended jobs stay in the set until they are taken out.
        while self.jobs.try_join_next().is_some() {}
        if self.places.free() == 0 {
            return Ok(SyncStep::Full);
        }
        for _ in 0..MAX_CLAIMS {
            let chosen = choose(&self.app, &self.places).await?;
            if chosen.is_empty() {
                break;
            }
            let claimed = claim(&self.app, chosen.iter().map(|(store, _)| *store)).await?;
            let started = claimed.len();
            for job in claimed {
                let parties = chosen.iter().find(|(id, _)| *id == job.fence.store_id);
                let (_, parties) = parties.expect("only what was chosen is claimed");
                self.start(job, self.places.take(parties.clone()));
            }
            if started > 0 {
                return Ok(SyncStep::Started(started));
            }
            // Other workers were quicker with all of these.
        }
        Ok(SyncStep::Idle)
    }

    /// Steps for ever, and waits for news where there is nothing to do. When `stop` is cancelled, jobs in progress give
    /// back their leases; then it returns.
    pub async fn run(mut self, stop: CancellationToken) {
        // Jobs in progress look at it between two chunks.
        self.stop = stop.clone();
        while !stop.is_cancelled() {
            match self.step().await {
                // At once again: more may be due, and there may be room for it.
                Ok(SyncStep::Started(_)) => {}
                Ok(SyncStep::Full | SyncStep::Idle) => self.wait(&stop).await,
                Err(error) => {
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "jobs cannot be claimed; trying again"
                    );
                    self.app.pause(&stop).await;
                }
            }
        }
        self.finish().await;
    }

    /// Waits until no job is in progress.
    pub async fn finish(&mut self) {
        while self.jobs.join_next().await.is_some() {}
    }

    async fn wait(&mut self, stop: &CancellationToken) {
        let free = self.places.free();
        // News is left to others while all places are taken: whoever hears it should be able to act on it.
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.places.freed(), if free == 0 => {}
            _ = self.listener.wait(self.app.0.settings.poll), if free > 0 => {}
        }
    }

    fn start(&mut self, claimed: Claimed, place: Place) {
        let fence = claimed.fence;
        let span = info_span!(
            "sync_job", storeId = %fence.store_id, fence = fence.number, request_id = Empty
        );
        let job = Job::new(&self.app, claimed, place, &self.stop, span.clone());
        self.jobs.spawn(job.work().instrument(span));
    }
}

/// Due jobs for the free places, by fair shares.
async fn choose(app: &App, places: &Places) -> Result<Vec<(StoreId, Parties)>, AppError> {
    let limit = i64::try_from(places.free()).unwrap_or(i64::MAX);
    let held = app.held().await?;
    let mut waiting = waiting(app, limit).await?;
    if waiting.iter().any(|job| held::is_held(&held, job)) {
        held::put_off(app).await?;
        waiting = self::waiting(app, limit).await?;
    }
    // What came meanwhile.
    waiting.retain(|job| !held::is_held(&held, job));
    let parties: Vec<Parties> = waiting.iter().map(|(_, parties)| parties.clone()).collect();
    let chosen = places.choose(&parties).into_iter();
    Ok(chosen.map(|index| waiting[index].clone()).collect())
}

async fn waiting(app: &App, limit: i64) -> Result<Vec<(StoreId, Parties)>, AppError> {
    let mut conn = app.0.ledger.read().await?;
    Ok(jobs::waiting(&mut conn, limit, app.0.clock.now()).await?)
}

async fn claim(app: &App, stores: impl Iterator<Item = StoreId>) -> Result<Vec<Claimed>, AppError> {
    let app = &app.0;
    let mut conn = app.ledger.write().await?;
    failpoint::pass("sync.claim.before");
    let (worker, lease) = (&app.settings.worker_name, app.settings.lease);
    let claimed = jobs::claim(&mut conn, worker, lease, stores, app.clock.now()).await?;
    if !claimed.is_empty() {
        // Only with a job in hand: a crash after an empty claim would prove nothing.
        failpoint::pass("sync.claim.after");
    }
    Ok(claimed)
}
