//! Calls of serving plugins: gates, breakers, counts, and the thread on which a call begins.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tokio_util::task::task_tracker::TaskTrackerToken;
use wharf_domain::{Answer, Event, OrganizationId};

use super::Engine;
use crate::contract::{
    convert::{GuestEvent, Message, ValidateRequest},
    fault::{Blame, Called, Fault},
};
use crate::plugins::{
    breaker::{ForBoth, Origin, Outcome, Pass, Refused, Tripped, Watched},
    gate::{Gate, Permit},
    registry::Registry,
    snapshot::Serving,
};
use crate::sandbox::threads::Begin;

/// Whom a call is for, its origin as each of the breakers sees it, and where it finds a place.
struct Caller<'a> {
    organization: &'a str,
    origins: ForBoth<Origin>,
    gate: &'a Gate,
    /// Plugins that share the gate.
    plugins: usize,
}

impl Engine {
    /// Asks the marketplace's adapter to judge a receipt of this organization. Dropping the future ends the call.
    pub async fn validate(
        &self,
        marketplace: &str,
        organization: &OrganizationId,
        request: ValidateRequest,
    ) -> Called<Answer> {
        let (serving, plugins) = find(&self.now().adapters, marketplace);
        let (organization, account) = (organization.as_str(), request.external_store_id.as_str());
        let caller = Caller {
            organization,
            origins: ForBoth {
                plugin: Origin::new(organization, "", request.receipt.as_str()),
                upstream: Origin::new(organization, account, ""),
            },
            gate: &self.gates.adapters,
            plugins,
        };
        self.call(serving, caller, of_upstream, async move |serving| {
            serving.revision.callable.validate(&request).await
        })
        .await
    }

    /// Asks a shaper for a webhook's message. Dropping the future ends the call.
    pub async fn shape(&self, shaper: &str, event: &Event) -> Called<Message> {
        let (serving, plugins) = find(&self.now().shapers, shaper);
        let organization = event.organization_id.as_str();
        let caller = Caller {
            organization,
            origins: ForBoth {
                plugin: Origin::new(organization, "", &event.id.to_string()),
                upstream: Origin::new(organization, "", ""),
            },
            gate: &self.gates.shapers,
            plugins,
        };
        // The guest's own copy: the call may be moved and outlive this borrow.
        let event = GuestEvent::new(event);
        // A shaper has nobody behind it.
        let upstream = |_: &Result<Message, Fault>| Outcome::Nothing;
        self.call(serving, caller, upstream, async move |serving| {
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

    async fn call<T, F, W>(
        &self,
        serving: Option<Arc<Serving>>,
        caller: Caller<'_>,
        upstream: fn(&Result<T, Fault>) -> Outcome,
        work: W,
    ) -> Called<T>
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
        let digest = serving.revision.digest();
        let result = match self.admit(serving, caller).await {
            Ok(admitted) => self.run(admitted, upstream, work).await,
            Err(fault) => Err(fault),
        };
        // Decided before the guest is asked, so no revision answers for it.
        let asked = !result.as_ref().is_err_and(Fault::is_unasked);
        Called {
            plugin,
            digest: asked.then_some(digest),
            result,
        }
    }

    /// Finds a place for a call that the breakers let through.
    async fn admit(&self, serving: Arc<Serving>, caller: Caller<'_>) -> Result<Admitted, Fault> {
        if let Some(reason) = &serving.out {
            return Err(Fault::OutOfService(reason.clone()));
        }
        // From here on, so that a revision has not drained while calls of it wait.
        let call = serving.revision.calls.token();
        let name = &serving.revision.callable.identity.plugin;
        let (gate, plugins) = (caller.gate, caller.plugins);
        let permit = match gate.try_enter(name, caller.organization, plugins) {
            Some(permit) => permit,
            None => {
                // Before it waits: waiting for the end of a pause must cost nobody a place.
                if let Some(refused) = serving
                    .breakers
                    .lock()
                    .refuses(caller.origins, Instant::now())
                {
                    return Err(paused(refused));
                }
                let (gate, name) = (gate.clone(), name.clone());
                let organization = caller.organization.to_owned();
                let wait = async move { gate.enter(&name, &organization, plugins).await };
                self.threads.run(Begin::Apart, wait).await.flatten()?
            }
        };
        // With a place: a probe that waits in a queue would keep the breaker half open.
        let began = Instant::now();
        let passes = serving.breakers.lock().admit(caller.origins, began);
        Ok(Admitted {
            passes: passes.map_err(paused)?,
            serving,
            origins: caller.origins,
            began,
            ended: false,
            _permit: permit,
            _call: call,
        })
    }

    /// Runs a call: on this thread if it is likely to end soon.
    async fn run<T, F, W>(
        &self,
        admitted: Admitted,
        upstream: fn(&Result<T, Fault>) -> Outcome,
        work: W,
    ) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Fault>> + Send,
        W: FnOnce(Arc<Serving>) -> F + Send + 'static,
    {
        let begin = admitted.serving.revision.callable.begin(admitted.began);
        // Not the engine itself: its last clone must not end on its own threads.
        let registry = self.registry.clone();
        let call = async move {
            let result = work(admitted.serving.clone()).await;
            admitted.end(&registry, result.as_ref().err(), upstream(&result));
            result
        };
        self.threads.run(begin, call).await.flatten()
    }
}

/// What serves this name, and the number of those that serve.
fn find(serving: &BTreeMap<String, Arc<Serving>>, name: &str) -> (Option<Arc<Serving>>, usize) {
    (serving.get(name).cloned(), serving.len())
}

fn roll_back(registry: Arc<Registry>, serving: &Serving, fault: Option<&Fault>) {
    let why = fault.map_or_else(String::new, |fault| {
        format!("too many faults, such as: {fault}")
    });
    let revision = serving.revision.clone();
    // A task of its own: the answer must not wait for a rollback.
    tokio::spawn(async move {
        registry
            .tripped(revision.plugin(), revision.digest(), &why)
            .await
    });
}

/// The plugin's part in the outcome of a call.
fn of_plugin_itself(fault: Option<&Fault>) -> Outcome {
    match fault.map(Fault::blame) {
        None | Some(Blame::Upstream) => Outcome::Good,
        Some(Blame::Plugin) => Outcome::Fault,
        // The host's own failures say nothing about the plugin.
        Some(Blame::Host) => Outcome::Nothing,
    }
}

/// The marketplace's part.
fn of_upstream(result: &Result<Answer, Fault>) -> Outcome {
    match result {
        Ok(Answer::Unavailable(_) | Answer::Busy(..)) | Err(Fault::UpstreamTooSlow) => {
            Outcome::Fault
        }
        Ok(_) => Outcome::Good,
        Err(_) => Outcome::Nothing,
    }
}

fn paused(Refused { watched, pause }: Refused) -> Fault {
    match watched {
        Watched::Plugin => Fault::OutOfService(format!(
            // At least one second: a client that reads 0 would come back at once.
            "pausing for {} s after too many faults",
            pause.as_secs().max(1)
        )),
        Watched::Upstream => Fault::UpstreamPaused(pause),
    }
}

/// A call that has a place and was let through. Dropped without an end, it records that nothing is known.
struct Admitted {
    serving: Arc<Serving>,
    origins: ForBoth<Origin>,
    passes: ForBoth<Pass>,
    began: Instant,
    ended: bool,
    // Given back in this order, when all is recorded.
    _permit: Permit,
    _call: TaskTrackerToken,
}

impl Admitted {
    fn end(mut self, registry: &Arc<Registry>, fault: Option<&Fault>, upstream: Outcome) {
        self.ended = true;
        // Counted before the breaker decides, so that reports show the fault that tripped it.
        self.serving.revision.counts.count(fault);
        let tripped = self.record(ForBoth {
            plugin: of_plugin_itself(fault),
            upstream,
        });
        self.tell(Watched::Upstream, tripped.upstream);
        self.tell(Watched::Plugin, tripped.plugin);
        if tripped.plugin.is_some_and(|tripped| tripped.young) {
            roll_back(registry.clone(), &self.serving, fault);
        }
    }

    fn tell(&self, watched: Watched, tripped: Option<Tripped>) {
        let Some(Tripped { for_everybody, .. }) = tripped else {
            return;
        };
        let (plugin, watched) = (self.serving.revision.plugin(), watched.as_str());
        tracing::warn!(plugin, watched, for_everybody, "circuit_opened");
    }

    fn record(&self, outcomes: ForBoth<Outcome>) -> ForBoth<Option<Tripped>> {
        let mut breakers = self.serving.breakers.lock();
        breakers.record(self.origins, self.passes, outcomes, Instant::now())
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if !self.ended {
            self.record(ForBoth {
                plugin: Outcome::Nothing,
                upstream: Outcome::Nothing,
            });
        }
    }
}
