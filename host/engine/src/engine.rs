use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;
use wharf_domain::{Answer, Event};

use crate::breaker::{Breaker, Outcome, Tripped};
use crate::cache::Cache;
use crate::convert::{Message, ValidateRequest, for_people};
use crate::gate::Gate;
use crate::life::Source;
use crate::load::Loader;
use crate::registry::{Registry, Serving, Snapshot};
use crate::sandbox::{self, Metering, Threads};
use crate::shelf::{Shelf, Stored, lives_dir};
use crate::watch::{self, Watched};
use crate::{
    Blame, Called, Digest, EngineError, EngineSettings, Fault, OperationError, PluginReport,
    Refusal, Stage, Transition,
};

/// The sandbox and every plugin in it. A clone is the same engine; the last one to be dropped ends its threads.
#[derive(Clone)]
pub struct Engine {
    registry: Arc<Registry>,
    host_gate: Arc<Gate>,
    transitions: Arc<Mutex<Option<UnboundedReceiver<Transition>>>>,
    threads: Arc<Threads>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("marketplaces", &self.marketplaces())
            .field("shapers", &self.shapers())
            .finish()
    }
}

impl Engine {
    /// Builds the sandbox, loads every plugin of the folder and begins to watch it. Blocks until the folder was read
    /// once; may be called inside a runtime or outside.
    ///
    /// # Errors
    /// Only if the sandbox itself cannot be built or the state folder cannot be written. A missing folder or a bad
    /// plugin is reported by [`folder_problem`](Self::folder_problem) and [`plugins`](Self::plugins).
    pub fn start(settings: EngineSettings) -> Result<Self, EngineError> {
        Self::build(settings, Metering::Time)
    }

    pub(crate) fn build(settings: EngineSettings, metering: Metering) -> Result<Self, EngineError> {
        let runtime = sandbox::engine(&settings, metering).map_err(EngineError::Sandbox)?;
        let linker = sandbox::linker(&runtime).map_err(EngineError::Sandbox)?;
        let state_dir = settings.state_dir.as_deref();
        let unusable = |source| EngineError::State {
            path: state_dir
                .map(|dir| dir.display().to_string())
                .unwrap_or_default(),
            source,
        };
        let cache = state_dir.map(Cache::open).transpose().map_err(unusable)?;
        let shelf = Shelf::open(state_dir).map_err(unusable)?;
        let threads = Threads::start(runtime.clone(), settings.guest_threads)?;
        let loader = Loader::new(runtime, linker, cache, settings.clone(), metering);
        let (told, transitions) = mpsc::unbounded_channel();
        let engine = Self {
            registry: Arc::new(Registry::new(loader, shelf, told, settings.max_in_flight)),
            host_gate: Arc::new(Gate::of_host(settings.max_in_flight)),
            transitions: Arc::new(Mutex::new(Some(transitions))),
            threads: Arc::new(threads),
        };
        let watched = Watched {
            plugins: settings.plugins_dir,
            lives: settings.state_dir.as_deref().map(lives_dir),
        };
        let (ready, is_ready) = oneshot::channel();
        engine
            .threads
            .handle()
            .spawn(watch::follow(engine.registry.clone(), watched, ready));
        wait(is_ready);
        Ok(engine)
    }

    /// Every transition since the start, the very first included. There is one listener: the second caller gets `None`.
    pub fn transitions(&self) -> Option<UnboundedReceiver<Transition>> {
        self.transitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Loads a component without grants as the newest revision of the plugin `name` and lets it serve.
    ///
    /// # Errors
    /// Why it may not serve; what served before goes on.
    pub async fn load(&self, name: &str, bytes: impl Into<Arc<[u8]>>) -> Result<Digest, Refusal> {
        self.upload(name, bytes, None, "caller")
            .await
            .map_err(|error| match error {
                OperationError::Refused(refusal) => refusal,
                error => Refusal::new(
                    Stage::Activate,
                    error.to_string(),
                    "make the state folder writable",
                ),
            })
    }

    /// Takes a component and the text of its grants through every stage and lets it serve. It stays until another
    /// revision takes its place or, if the plugin is in the folder as well, its file is removed.
    ///
    /// # Errors
    /// Why it may not serve; what served before goes on.
    pub async fn upload(
        &self,
        plugin: &str,
        bytes: impl Into<Arc<[u8]>>,
        grants: Option<&str>,
        actor: &str,
    ) -> Result<Digest, OperationError> {
        let stored = Stored {
            bytes: bytes.into(),
            grants: grants.map(Into::into),
        };
        let (plugin, actor) = (plugin.to_owned(), actor.to_owned());
        self.on_registry(async move |registry| {
            registry
                .offer(&plugin, stored, Source::Upload, &actor)
                .await
        })
        .await
    }

    /// Goes back to the revision that served before, within 50 ms; calls that run end on the one that they began with.
    ///
    /// # Errors
    /// If there is no such plugin or nothing to go back to.
    pub async fn rollback(&self, plugin: &str, actor: &str) -> Result<Digest, OperationError> {
        let (plugin, actor) = (plugin.to_owned(), actor.to_owned());
        self.on_registry(async move |registry| {
            registry.roll_back(&plugin, "rolled back", &actor).await
        })
        .await
    }

    /// Lets a retained revision serve.
    ///
    /// # Errors
    /// If it is not retained or quarantined.
    pub async fn activate(
        &self,
        plugin: &str,
        digest: Digest,
        actor: &str,
    ) -> Result<(), OperationError> {
        let (plugin, actor) = (plugin.to_owned(), actor.to_owned());
        self.on_registry(async move |registry| {
            registry
                .activate(&plugin, digest, "activated", &actor)
                .await
        })
        .await
    }

    /// Switches a plugin off; its calls are deferred.
    ///
    /// # Errors
    /// If there is no such plugin.
    pub async fn disable(
        &self,
        plugin: &str,
        reason: &str,
        actor: &str,
    ) -> Result<(), OperationError> {
        let (plugin, reason, actor) = (plugin.to_owned(), for_people(reason), actor.to_owned());
        self.on_registry(async move |registry| registry.disable(&plugin, &reason, &actor))
            .await
    }

    /// Switches a plugin on again.
    ///
    /// # Errors
    /// If there is no such plugin.
    pub async fn enable(&self, plugin: &str, actor: &str) -> Result<(), OperationError> {
        let (plugin, actor) = (plugin.to_owned(), actor.to_owned());
        self.on_registry(async move |registry| registry.enable(&plugin, &actor))
            .await
    }

    /// Puts a revision aside. If it serves, the one before takes over; if there is none, calls are deferred.
    ///
    /// # Errors
    /// If there is no such plugin or revision.
    pub async fn quarantine(
        &self,
        plugin: &str,
        digest: Digest,
        reason: &str,
        actor: &str,
    ) -> Result<(), OperationError> {
        let (plugin, reason, actor) = (plugin.to_owned(), for_people(reason), actor.to_owned());
        self.on_registry(async move |registry| {
            registry.quarantine(&plugin, digest, &reason, &actor).await
        })
        .await
    }

    /// Takes a revision out of quarantine. It serves when it is asked to, or at once if nothing else does.
    ///
    /// # Errors
    /// If it is not quarantined.
    pub async fn release(
        &self,
        plugin: &str,
        digest: Digest,
        actor: &str,
    ) -> Result<(), OperationError> {
        let (plugin, actor) = (plugin.to_owned(), actor.to_owned());
        self.on_registry(async move |registry| registry.release(&plugin, digest, &actor))
            .await
    }

    /// Whether an adapter serves this marketplace.
    pub fn serves(&self, marketplace: &str) -> bool {
        self.now().adapters.contains_key(marketplace)
    }

    /// The marketplaces that are served, sorted.
    pub fn marketplaces(&self) -> Vec<String> {
        self.now().adapters.keys().cloned().collect()
    }

    /// The shapers that are there, sorted.
    pub fn shapers(&self) -> Vec<String> {
        self.now().shapers.keys().cloned().collect()
    }

    /// Every plugin that was found, those that were refused included, sorted by name.
    pub fn plugins(&self) -> Vec<PluginReport> {
        self.now().reports()
    }

    /// Why the plugins folder cannot be read, if it cannot.
    pub fn folder_problem(&self) -> Option<String> {
        self.now().folder_problem.clone()
    }

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

    fn now(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.registry.now.load()
    }

    /// Runs a change on the engine's own threads, so that it is carried out whatever becomes of the caller.
    pub(crate) async fn on_registry<T, F>(
        &self,
        change: impl FnOnce(Arc<Registry>) -> F + Send + 'static,
    ) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + Send,
    {
        let registry = self.registry.clone();
        let task = self
            .threads
            .handle()
            .spawn(async move { change(registry).await });
        task.await
            .expect("changes do not panic, and the runtime lives as long as the engine")
    }

    async fn call<T, F, W>(&self, serving: Option<Arc<Serving>>, work: W) -> Called<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Fault>> + Send,
        W: FnOnce(Arc<Serving>) -> F + Send + 'static,
    {
        let Some(serving) = serving else {
            return Called {
                plugin: None,
                digest: None,
                result: Err(Fault::NotFound),
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
            let _of_plugin = serving.gate.enter().await?;
            let _of_host = host_gate.enter().await?;
            let watched = Watch::begin(&serving)?;
            let result = work(serving.clone()).await;
            serving.revision.counts.count(result.as_ref().err());
            if let Some(Tripped { young: true }) = watched.end(result.as_ref().err()) {
                let reason = result.as_ref().err().map_or_else(String::new, |fault| {
                    format!("too many faults, such as: {fault}")
                });
                let revision = serving.revision.clone();
                tokio::spawn(async move {
                    registry
                        .tripped(revision.plugin(), revision.digest(), &reason)
                        .await
                });
            }
            result
        }));
        let result = AbortOnDropHandle::new(task).await.unwrap_or_else(|error| {
            let what = if error.is_panic() {
                "a host function panicked"
            } else {
                "it is shutting down"
            };
            Err(Fault::Host(what.into()))
        });
        let asked = !matches!(result, Err(Fault::Overloaded | Fault::OutOfService(_)));
        Called {
            plugin,
            digest: asked.then_some(digest),
            result,
        }
    }
}

/// A call that the breaker let through. Dropped without an end, it tells that nothing is known.
struct Watch<'a> {
    breaker: &'a Mutex<Breaker>,
    outcome: Outcome,
}

impl<'a> Watch<'a> {
    fn begin(serving: &'a Serving) -> Result<Self, Fault> {
        let breaker = &*serving.breaker;
        let admitted = locked(breaker).admit(Instant::now());
        admitted.map_err(|pause| {
            Fault::OutOfService(format!(
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
            Some(Blame::Host) => Outcome::Nothing,
        };
        let this = std::mem::ManuallyDrop::new(self);
        locked(this.breaker).record(this.outcome, Instant::now())
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        locked(self.breaker).record(self.outcome, Instant::now());
    }
}

fn locked(breaker: &Mutex<Breaker>) -> MutexGuard<'_, Breaker> {
    breaker.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Blocks this thread, also inside a runtime, where its own way of waiting would panic.
fn wait(done: oneshot::Receiver<()>) {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || sender.send(done.blocking_recv()));
        // An error means that the runtime ended, and then there is nothing to wait for.
        let _ = receiver.recv();
    });
}
