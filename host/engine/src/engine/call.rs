//! Calls of serving plugins: gates, breakers, counts, and one task on the guests' threads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::task::AbortOnDropHandle;
use wharf_domain::{Answer, Event, OrganizationId};

use super::Engine;
use crate::contract::{
    convert::{Message, ValidateRequest},
    fault::{Blame, Called, Fault},
    inspect::Kind,
};
use crate::plugins::{
    breaker::{Origin, Outcome, Pass, Tripped, Watched},
    gate::Gate,
    registry::Registry,
    snapshot::Serving,
};

/// The origin of a call, as each of the breakers sees it, and whom it is for.
struct Caller {
    organization: Arc<str>,
    of_plugin: Origin,
    of_upstream: Origin,
}

impl Engine {
    /// Asks the marketplace's adapter to judge a receipt of this organization. Dropping the future ends the call.
    pub async fn validate(
        &self,
        marketplace: &str,
        organization: &OrganizationId,
        request: ValidateRequest,
    ) -> Called<Answer> {
        let serving = self.now().adapters.get(marketplace).cloned();
        let (organization, account) = (organization.as_str(), request.external_store_id.as_str());
        let caller = Caller {
            organization: organization.into(),
            of_plugin: Origin::new(organization, "", request.receipt.as_str()),
            of_upstream: Origin::new(organization, account, ""),
        };
        self.call(serving, caller, of_upstream, async move |serving| {
            serving.revision.callable.validate(&request).await
        })
        .await
    }

    /// Asks a shaper for a webhook's message. Dropping the future ends the call.
    pub async fn shape(&self, shaper: &str, event: &Event) -> Called<Message> {
        let serving = self.now().shapers.get(shaper).cloned();
        let event = event.clone();
        let organization = event.organization_id.as_str();
        let caller = Caller {
            organization: organization.into(),
            of_plugin: Origin::new(organization, "", &event.id.to_string()),
            of_upstream: Origin::new(organization, "", ""),
        };
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
        caller: Caller,
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
        // Before the gate: waiting for the end of a pause must cost nobody a place.
        if let Err(fault) = may_call(&serving, &caller) {
            return Called {
                plugin,
                digest: None,
                result: Err(fault),
            };
        }
        let digest = serving.revision.digest();
        // Not the engine itself: its last clone must not end on its own threads.
        let (registry, (gate, plugins)) = (self.registry.clone(), self.gate_of(&serving));
        let calls = serving.revision.calls.clone();
        let task = self.threads.handle().spawn(calls.track_future(async move {
            // Held until the call has ended.
            let name = &serving.revision.callable.identity.plugin;
            let _permit = gate.enter(name, &caller.organization, plugins).await?;
            // After the gate: a probe that waits in a queue would keep the breaker half open.
            let of_plugin = Admitted::begin(&serving, Watched::Plugin, caller.of_plugin)?;
            let of_upstream = Admitted::begin(&serving, Watched::Upstream, caller.of_upstream)?;
            let result = work(serving.clone()).await;
            let fault = result.as_ref().err();
            // Counted before the breaker decides, so that reports show the fault that tripped it.
            serving.revision.counts.count(fault);
            of_upstream.end(upstream(&result));
            if of_plugin.end(of_plugin_itself(fault)) {
                roll_back(registry, &serving, fault);
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
        // Decided before the guest is asked, so no revision answers for it.
        let asked = !result.as_ref().is_err_and(Fault::is_unasked);
        Called {
            plugin,
            digest: asked.then_some(digest),
            result,
        }
    }

    /// The gate for this plugin, and the number of plugins that share it.
    fn gate_of(&self, serving: &Serving) -> (Gate, usize) {
        let now = self.now();
        match serving.revision.manifest.kind() {
            Kind::Adapter => (self.gates.adapters.clone(), now.adapters.len()),
            Kind::Shaper => (self.gates.shapers.clone(), now.shapers.len()),
        }
    }
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
        Ok(Answer::Unavailable(_)) | Err(Fault::UpstreamTooSlow) => Outcome::Fault,
        Ok(_) => Outcome::Good,
        Err(_) => Outcome::Nothing,
    }
}

fn may_call(serving: &Serving, caller: &Caller) -> Result<(), Fault> {
    if let Some(reason) = &serving.out {
        return Err(Fault::OutOfService(reason.clone()));
    }
    let now = Instant::now();
    for (watched, origin) in [
        (Watched::Plugin, caller.of_plugin),
        (Watched::Upstream, caller.of_upstream),
    ] {
        if let Some(pause) = serving.breakers.of(watched).refuses(origin, now) {
            return Err(paused(watched, pause));
        }
    }
    Ok(())
}

fn paused(watched: Watched, pause: Duration) -> Fault {
    match watched {
        Watched::Plugin => Fault::OutOfService(format!(
            // At least one second: a client that reads 0 would come back at once.
            "pausing for {} s after too many faults",
            pause.as_secs().max(1)
        )),
        Watched::Upstream => Fault::UpstreamPaused(pause),
    }
}

/// A call that a breaker let through. Dropped without an end, it records that nothing is known.
struct Admitted<'a> {
    serving: &'a Serving,
    watched: Watched,
    origin: Origin,
    pass: Pass,
    ended: bool,
}

impl<'a> Admitted<'a> {
    fn begin(serving: &'a Serving, watched: Watched, origin: Origin) -> Result<Self, Fault> {
        let mut breaker = serving.breakers.of(watched);
        let admitted = breaker.admit(origin, Instant::now());
        Ok(Self {
            serving,
            watched,
            origin,
            pass: admitted.map_err(|pause| paused(watched, pause))?,
            ended: false,
        })
    }

    /// Returns whether the revision is to blame and should be rolled back.
    fn end(mut self, outcome: Outcome) -> bool {
        self.ended = true;
        let Some(tripped) = self.record(outcome) else {
            return false;
        };
        let Tripped {
            young,
            for_everybody,
        } = tripped;
        let (plugin, watched) = (self.serving.revision.plugin(), self.watched.as_str());
        tracing::warn!(plugin, watched, for_everybody, "circuit_opened");
        young
    }

    fn record(&self, outcome: Outcome) -> Option<Tripped> {
        let mut breaker = self.serving.breakers.of(self.watched);
        breaker.record(self.origin, self.pass, outcome, Instant::now())
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.record(Outcome::Nothing);
        }
    }
}
