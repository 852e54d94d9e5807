//! Calls of serving plugins: gates, breaker, counts, and one task on the guests' threads.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio_util::task::AbortOnDropHandle;
use wharf_domain::{Answer, Event};

use super::Engine;
use crate::contract::{
    convert::{Message, ValidateRequest},
    fault::{Blame, Called, Fault},
};
use crate::plugins::{
    breaker::{Breaker, Outcome, Tripped},
    snapshot::Serving,
};

impl Engine {
    /// Asks the marketplace's adapter to judge a receipt. Dropping the future ends the call.
    pub async fn validate(&self, marketplace: &str, request: ValidateRequest) -> Called<Answer> {
        let serving = self.now().adapters.get(marketplace).cloned();
        self.call(serving, async move |serving| {
            serving.revision.callable.validate(&request).await
        })
        .await
    }

    /// Asks a shaper for a webhook's message. Dropping the future ends the call.
    pub async fn shape(&self, shaper: &str, event: &Event) -> Called<Message> {
        let serving = self.now().shapers.get(shaper).cloned();
        let event = event.clone();
        self.call(serving, async move |serving| {
            serving.revision.callable.shape(&event).await
        })
        .await
    }

    /// Returns the fault of a name that nobody serves, or nobody yet.
    fn nobody(&self) -> Fault {
        if self.now().loading.is_empty() {
            Fault::NotFound
        } else {
            Fault::OutOfService("plugins are still being loaded".into())
        }
    }

    async fn call<T, F, W>(&self, serving: Option<Arc<Serving>>, work: W) -> Called<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Fault>> + Send,
        W: FnOnce(Arc<Serving>) -> F + Send + 'static,
    {
        // Nothing is waited for where nothing serves: the import is deferred at once.
        let Some(serving) = serving else {
            return Called {
                plugin: None,
                digest: None,
                result: Err(self.nobody()),
            };
        };
        let plugin = Some(serving.revision.callable.identity.plugin.clone());
        if let Some(reason) = &serving.out {
            return Called {
                plugin,
                digest: None,
                result: Err(Fault::OutOfService(reason.clone())),
            };
        }
        let digest = serving.revision.digest();
        let (host_gate, registry) = (self.host_gate.clone(), self.registry.clone());
        let calls = serving.revision.calls.clone();
        let task = self.threads.handle().spawn(calls.track_future(async move {
            // The plugin's gate first: whoever waits for the host must not be many.
            let _of_plugin = serving.gate.enter().await?;
            // Both permits are held until the call has ended.
            let _of_host = host_gate.enter().await?;
            // After the gates: a probe that waits in a queue would keep the breaker half open.
            let admitted = Admitted::begin(&serving)?;
            let result = work(serving.clone()).await;
            // Counted before the breaker decides, so that reports show the fault that tripped it.
            serving.revision.counts.count(result.as_ref().err());
            if let Some(Tripped { young: true }) = admitted.end(result.as_ref().err()) {
                let reason = result.as_ref().err().map_or_else(String::new, |fault| {
                    format!("too many faults, such as: {fault}")
                });
                let revision = serving.revision.clone();
                // A task of its own: the answer must not wait for a rollback.
                tokio::spawn(async move {
                    registry
                        .tripped(revision.plugin(), revision.digest(), &reason)
                        .await
                });
            }
            result
        }));
        // A caller that gives up ends the guest with it.
        let result = AbortOnDropHandle::new(task).await.unwrap_or_else(|error| {
            let what = if error.is_panic() {
                "a host function panicked"
            } else {
                "it is shutting down"
            };
            Err(Fault::Host(what.into()))
        });
        // These two are decided before the guest is asked, so no revision answers for them.
        let asked = !matches!(result, Err(Fault::Overloaded | Fault::OutOfService(_)));
        Called {
            plugin,
            digest: asked.then_some(digest),
            result,
        }
    }
}

/// A call that the breaker let through. Dropped without an end, it records that nothing is known.
struct Admitted<'a> {
    breaker: &'a Mutex<Breaker>,
    outcome: Outcome,
}

impl<'a> Admitted<'a> {
    fn begin(serving: &'a Serving) -> Result<Self, Fault> {
        let breaker = &*serving.breaker;
        let admitted = locked(breaker).admit(Instant::now());
        admitted.map_err(|pause| {
            Fault::OutOfService(format!(
                // At least one second: a client that reads 0 would come back at once.
                "pausing for {} s after too many faults",
                pause.as_secs().max(1)
            ))
        })?;
        Ok(Self {
            breaker,
            outcome: Outcome::Nothing,
        })
    }

    fn end(mut self, fault: Option<&Fault>) -> Option<Tripped> {
        self.outcome = match fault.map(Fault::blame) {
            None | Some(Blame::Upstream) => Outcome::Good,
            Some(Blame::Plugin) => Outcome::Fault,
            // The host's own failures say nothing about the plugin.
            Some(Blame::Host) => Outcome::Nothing,
        };
        // Recorded here, so dropping it must not record it again.
        let this = std::mem::ManuallyDrop::new(self);
        locked(this.breaker).record(this.outcome, Instant::now())
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        locked(self.breaker).record(self.outcome, Instant::now());
    }
}

fn locked(breaker: &Mutex<Breaker>) -> MutexGuard<'_, Breaker> {
    breaker.lock().unwrap_or_else(PoisonError::into_inner)
}
