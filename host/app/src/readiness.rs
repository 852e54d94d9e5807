//! Readiness: whether the database can be read and written, answered in time whatever it does.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::task::AbortHandle;
use wharf_domain::Time;
use wharf_store::{Ledger, StoreError};

use crate::App;

/// Time that the question waits for the database: who asks gives it a second.
const MAX_WAIT: Duration = Duration::from_millis(800);
/// Time that a check may go on behind that. A database that was frozen is asked anew after it.
const MAX_CHECK: Duration = Duration::from_secs(10);

/// The reason why the process cannot work.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unready {
    /// The database did not answer in time, or no connection was free.
    #[error("the database does not answer")]
    Unanswered,
    /// The database answered that it cannot be read or written.
    #[error("the database cannot be read and written")]
    Failed(#[source] Arc<StoreError>),
    /// The plugins that were there at the start are still being loaded.
    #[error("plugins are still being loaded")]
    Loading,
}

type Answer = Shared<BoxFuture<'static, Result<(), Unready>>>;

/// The check that runs at the moment. There is one at a time, however many ask: a frozen database costs one connection.
#[derive(Default)]
pub(crate) struct Readiness(Mutex<Option<(AbortHandle, Answer)>>);

impl Readiness {
    fn check(&self, ledger: &Ledger, now: Time) -> Answer {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // One that has ended tells of the past, so only one that still runs is shared.
        if let Some((_, answer)) = running.as_ref().filter(|(check, _)| !check.is_finished()) {
            return answer.clone();
        }
        let ledger = ledger.clone();
        // A task of its own: broken off in the middle of a statement, it would leave its connection in a bad state.
        let check = tokio::spawn(async move {
            tokio::time::timeout(MAX_CHECK, read_and_write(&ledger, now))
                .await
                .map_err(|_| Unready::Unanswered)?
                .map_err(|error| Unready::Failed(Arc::new(error)))
        });
        let handle = check.abort_handle();
        let answer = async move { check.await.unwrap_or(Err(Unready::Unanswered)) };
        let answer = answer.boxed().shared();
        *running = Some((handle, answer.clone()));
        answer
    }
}

async fn read_and_write(ledger: &Ledger, now: Time) -> Result<(), StoreError> {
    // A read alone proves too little: a full disk or a standby still answers it.
    ledger.read().await?.ping().await?;
    ledger.try_write(now).await
}

impl App {
    /// Tells if the database can be read and written, within a second. Redis is never a reason to be unready: without
    /// it workers poll.
    pub async fn ready(&self) -> Result<(), Unready> {
        // A rollout must not move traffic from hosts whose plugins serve to one that still compiles them. The engine
        // bounds this: one plugin that loads for ever keeps no host out of service.
        if self.0.engine.is_starting() {
            return Err(Unready::Loading);
        }
        let check = self.0.readiness.check(&self.0.ledger, self.0.clock.now());
        // Ends only this wait: the check runs on, for whoever asks next.
        tokio::time::timeout(MAX_WAIT, check)
            .await
            .unwrap_or(Err(Unready::Unanswered))
    }
}
