//! Importing an order: look it up, else ask the adapter once and store the answer.
//!
//! Simultaneous imports of one receipt in this process share one call and one answer. Imports of different receipts
//! share transactions: whatever has gathered while the last one was committing goes into the next, so that a disk
//! that takes a millisecond for a commit does not limit us to a thousand imports a second.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{FutureExt, future::BoxFuture, future::Shared};
use tokio::sync::{mpsc, oneshot};
use tracing::Instrument;
use wharf_domain::{
    Before, ImportResult, LogId, Reach, Receipt, RequestId, StoreId, SyncToken, Time, next_state,
};
use wharf_store::{
    Ledger, StoreError,
    logs::{self, NewLog},
    stores::Store,
};

use crate::{App, AppError, entropy::new_id, failpoint, trace};

type Flight = Shared<BoxFuture<'static, Result<ImportResult, AppError>>>;
type Key = (StoreId, Receipt);

/// Imports under way in this process.
pub(crate) struct Imports {
    flights: Mutex<HashMap<Key, Flight>>,
    commits: mpsc::Sender<Commit>,
}

struct Commit {
    log: NewLog,
    answer: oneshot::Sender<Result<ImportResult, AppError>>,
}

/// Imports in one transaction: more would only make the first wait for the last.
const MAX_BATCH: usize = 128;
/// Tries of a batch that meets other transactions in its way.
const MAX_TRIES: u32 = 5;

impl Imports {
    pub(crate) fn start(ledger: Ledger) -> Self {
        let (commits, inbox) = mpsc::channel(4 * MAX_BATCH);
        tokio::spawn(commit_batches(ledger, inbox));
        Self {
            flights: Mutex::default(),
            commits,
        }
    }

    /// Joins the flight of this key, or starts one.
    fn join(
        &self,
        key: &Key,
        start: impl FnOnce() -> BoxFuture<'static, Result<ImportResult, AppError>>,
    ) -> Flight {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        flights
            .entry(key.clone())
            // The lock is held over starting, so that two imports never start two flights.
            .or_insert_with(|| start().shared())
            .clone()
    }

    async fn commit(&self, log: NewLog) -> Result<ImportResult, AppError> {
        let (answer, answered) = oneshot::channel();
        // Waits where the committer is behind: imports slow down instead of piling up.
        let sent = self.commits.send(Commit { log, answer }).await;
        sent.map_err(|_| AppError::internal(CommitterGone))?;
        answered
            .await
            .map_err(|_| AppError::internal(CommitterGone))?
    }
}

/// Takes the flight of an import away when its task ends, however it ends.
struct Landing<'t> {
    app: &'t App,
    key: &'t Key,
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        let flights = &self.app.0.imports.flights;
        flights
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(self.key);
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the task that commits imports has ended")]
struct CommitterGone;

impl App {
    /// Imports an order. Idempotent on (store, receipt): the first result is stored and answered ever after.
    pub async fn import(
        &self,
        reach: &Reach,
        token: SyncToken,
        receipt: Receipt,
        request: RequestId,
    ) -> Result<ImportResult, AppError> {
        let began = Instant::now();
        let (answer, asked) = match self.look_up(reach, token, &receipt).await {
            Ok((_, Some(known))) => (Ok(known), None),
            Ok((store, None)) => match self.holds(&store).await {
                Ok(true) => (Err(AppError::StoreHeld), None),
                Ok(false) => {
                    let imported = self.import_new(store, receipt, request).await;
                    (imported, Some(began.elapsed()))
                }
                Err(error) => (Err(error.into()), None),
            },
            Err(error) => (Err(error), None),
        };
        self.0.metrics.import(&answer, asked);
        answer
    }

    async fn look_up(
        &self,
        reach: &Reach,
        token: SyncToken,
        receipt: &Receipt,
    ) -> Result<(Store, Option<ImportResult>), AppError> {
        let looked_up = logs::look_up(&mut self.0.ledger.read().await?, token, receipt).await?;
        looked_up
            // The token alone does not open a store to another organization's key.
            .filter(|(store, _)| reach.covers(&store.organization_id))
            .ok_or(AppError::StoreNotFound)
    }

    async fn import_new(
        &self,
        store: Store,
        receipt: Receipt,
        request: RequestId,
    ) -> Result<ImportResult, AppError> {
        let key = (store.id, receipt);
        let app = self.clone();
        // A task of its own: a client that hangs up takes nobody else's import down, nor leaves a flight behind.
        let flight = self.0.imports.join(&key, || {
            let key = key.clone();
            let span = trace::import(store.id, &request);
            let import = async move {
                // Dropped after the commit, when whoever comes finds the stored result; and also by a panic.
                let landing = Landing {
                    app: &app,
                    key: &key,
                };
                let receipt = &landing.key.1;
                landing.app.ask_and_store(&store, receipt, request).await
            };
            let task = tokio::spawn(import.instrument(span).in_current_span());
            task.map(|joined| joined.unwrap_or_else(|panic| Err(AppError::internal(panic))))
                .boxed()
        });
        flight.await
    }

    async fn ask_and_store(
        &self,
        store: &Store,
        receipt: &Receipt,
        request: RequestId,
    ) -> Result<ImportResult, AppError> {
        let now = self.0.clock.now();
        let (answer, plugin_digest) = self.ask(store, receipt, Some(request.clone()), now).await;
        let log = NewLog {
            id: LogId(new_id(now)),
            store_id: store.id,
            receipt: receipt.clone(),
            state: next_state(Before::NEW, answer, now),
            plugin_digest,
            request_id: Some(request),
            at: now,
        };
        self.0.imports.commit(log).instrument(trace::commit()).await
    }
}

async fn commit_batches(ledger: Ledger, mut inbox: mpsc::Receiver<Commit>) {
    let mut batch = Vec::with_capacity(MAX_BATCH);
    while inbox.recv_many(&mut batch, MAX_BATCH).await > 0 {
        let logs: Vec<NewLog> = batch.iter().map(|commit| commit.log.clone()).collect();
        match record(&ledger, &logs).await {
            Ok(results) => answer(batch.drain(..), results.into_iter().map(Ok)),
            // Trying each alone against a database that is away would only multiply the waiting.
            Err(error) if batch.len() == 1 || matches!(error, StoreError::Unavailable(_)) => {
                let error = AppError::from(error);
                let errors: Vec<_> = batch.iter().map(|_| Err(error.clone())).collect();
                answer(batch.drain(..), errors.into_iter());
            }
            // One import that the database refuses must not fail the others: each for itself, then.
            Err(_) => {
                for commit in batch.drain(..) {
                    let result = record(&ledger, std::slice::from_ref(&commit.log)).await;
                    answer(
                        std::iter::once(commit),
                        std::iter::once(result.map_err(AppError::from).and_then(only)),
                    );
                }
            }
        }
    }
}

fn only(results: Vec<ImportResult>) -> Result<ImportResult, AppError> {
    results
        .into_iter()
        .next()
        .ok_or_else(|| AppError::internal(CommitterGone))
}

fn answer(
    commits: impl Iterator<Item = Commit>,
    results: impl Iterator<Item = Result<ImportResult, AppError>>,
) {
    for (commit, result) in commits.zip(results) {
        // Nobody may be listening any more; the import is stored all the same.
        let _ = commit.answer.send(result);
    }
}

async fn record(ledger: &Ledger, logs: &[NewLog]) -> Result<Vec<ImportResult>, StoreError> {
    // The newest of the batch: counters and statuses must not go back in time.
    let now = logs
        .iter()
        .map(|log| log.at)
        .max()
        .unwrap_or(Time::from_micros(0));
    let mut tries = 0;
    loop {
        tries += 1;
        match try_record(ledger, logs, now).await {
            // Two processes that lock the same stores; the loser is rolled back and may repeat.
            Err(StoreError::Conflict(_)) if tries < MAX_TRIES => {
                tokio::time::sleep(Duration::from_millis(5) * tries).await;
            }
            done => return done,
        }
    }
}

async fn try_record(
    ledger: &Ledger,
    new: &[NewLog],
    now: Time,
) -> Result<Vec<ImportResult>, StoreError> {
    let mut tx = ledger.begin().await?;
    let results = logs::record(&mut tx, new, now).await?;
    failpoint::pass("import.commit.before");
    tx.commit().await?;
    failpoint::pass("import.commit.after");
    Ok(results)
}
