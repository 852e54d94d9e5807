//! The engine: the sandbox, its plugins, and the operations on them.

mod call;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::sync::{oneshot, watch};

use crate::contract::{
    digest::Digest,
    fault::{EngineError, OperationError},
    refusal::{Refusal, Stage},
    report::PluginReport,
    settings::{Compiler, EngineSettings},
    state::{ROLLED_BACK, Transition},
    text::for_people,
};
use crate::plugins::{
    cache::Cache,
    gate::Gates,
    load::Loader,
    registry::Registry,
    snapshot::{Serving, Snapshot},
    store::{RevisionStore, Stored, records_dir},
    watch::{self as folders, Watched},
};
use crate::sandbox::{
    runtime::{self, Metering},
    threads::Threads,
};

/// Time that the start waits for revisions that were compiled before. Twenty-four take 0.3 s.
const MAX_START: Duration = Duration::from_secs(2);
/// Time after which a host counts as started though plugins are still being loaded.
const MAX_STARTING: Duration = Duration::from_secs(30);

/// The sandbox and every plugin in it. A clone is the same engine; the last one to be dropped ends its threads.
#[derive(Clone)]
pub struct Engine {
    registry: Arc<Registry>,
    gates: Arc<Gates>,
    transitions: Arc<Mutex<Option<UnboundedReceiver<Transition>>>>,
    loaded: watch::Receiver<bool>,
    started: Instant,
    pub(crate) compiler: Compiler,
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
    /// Builds the sandbox, loads the plugins that were compiled before, and begins to read and watch the folder. Blocks
    /// for two seconds at most; may be called inside a runtime or outside. [`loaded`](Self::loaded) waits for the rest.
    ///
    /// # Errors
    /// Only if the sandbox itself cannot be built or the state folder cannot be written. A missing folder or a bad
    /// plugin is reported by [`folder_problem`](Self::folder_problem) and [`plugins`](Self::plugins).
    pub fn start(settings: EngineSettings) -> Result<Self, EngineError> {
        Self::build(settings, Metering::Time)
    }

    /// Builds the sandbox with a unit of cost.
    pub(crate) fn build(settings: EngineSettings, metering: Metering) -> Result<Self, EngineError> {
        let wasmtime = runtime::engine(&settings, metering).map_err(EngineError::Sandbox)?;
        let linker = runtime::linker(&wasmtime).map_err(EngineError::Sandbox)?;
        let state_dir = settings.state_dir.as_deref();
        let unusable = |source| EngineError::State {
            path: state_dir
                .map(|dir| dir.display().to_string())
                .unwrap_or_default(),
            source,
        };
        let cache = state_dir.map(Cache::open).transpose().map_err(unusable)?;
        let store = RevisionStore::open(state_dir).map_err(unusable)?;
        // After the state folder: an engine that cannot start must leave no threads behind.
        let threads = Threads::start(wasmtime.clone(), settings.guest_threads)?;
        let loader = Loader::new(wasmtime, linker, cache, settings.clone(), metering);
        // Unbounded: transitions are rare, and a slow audit must not hold up a rollback.
        let (told, transitions) = mpsc::unbounded_channel();
        let (is_loaded, loaded) = watch::channel(false);
        let engine = Self {
            registry: Arc::new(Registry::new(loader, store, told)),
            gates: Arc::new(Gates::new(settings.max_in_flight)),
            transitions: Arc::new(Mutex::new(Some(transitions))),
            loaded,
            started: Instant::now(),
            compiler: settings.compiler.clone(),
            threads: Arc::new(threads),
        };
        let watched = Watched {
            plugins: settings.plugins_dir,
            records: settings.state_dir.as_deref().map(records_dir),
        };
        let (served, is_served) = oneshot::channel();
        engine.threads.spawn(folders::follow(
            engine.registry.clone(),
            watched,
            served,
            is_loaded,
        ));
        wait(is_served);
        Ok(engine)
    }

    /// Waits until everything that the folders held at the start was read, compiled and tried.
    pub async fn loaded(&self) {
        // An error means that the engine ended, and then nothing more is loaded.
        let _ = self.loaded.clone().wait_for(|loaded| *loaded).await;
    }

    /// Tells if the plugins that were there at the start are still being loaded, for 30 s at most: a host that loads on
    /// after that is not kept out of service for it.
    pub fn is_starting(&self) -> bool {
        !*self.loaded.borrow() && self.started.elapsed() < MAX_STARTING
    }

    /// Returns the plugins that are being read, compiled or tried, sorted. What one of them serves is not known yet.
    pub fn loading(&self) -> Vec<String> {
        self.now().loading.iter().cloned().collect()
    }

    /// Returns every transition since the start, the very first included. There is one listener: the second caller gets
    /// `None`.
    pub fn transitions(&self) -> Option<UnboundedReceiver<Transition>> {
        self.transitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            // Taken away: two listeners would each get a part of the audit.
            .take()
    }

    /// Loads a component without grants as the newest revision of the plugin `name` and lets it serve.
    ///
    /// # Errors
    /// If it may not serve; what served before goes on.
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
    /// If it may not serve; what served before goes on.
    pub async fn upload(
        &self,
        plugin: &str,
        bytes: impl Into<Arc<[u8]>>,
        grants: Option<&str>,
        actor: &str,
    ) -> Result<Digest, OperationError> {
        let stored = Stored::new(bytes, grants);
        let (plugin, actor) = (plugin.to_owned(), actor.to_owned());
        self.on_registry(async move |registry| registry.offer(&plugin, stored, &actor).await)
            .await
    }

    /// Goes back to the revision that served before, within 50 ms; calls that run end on the one that they began with.
    ///
    /// # Errors
    /// If there is no such plugin or nothing to go back to.
    pub async fn rollback(&self, plugin: &str, actor: &str) -> Result<Digest, OperationError> {
        let (plugin, actor) = (plugin.to_owned(), actor.to_owned());
        self.on_registry(async move |registry| {
            registry.roll_back(&plugin, ROLLED_BACK, &actor).await
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

    /// Disables a plugin; its calls are deferred.
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

    /// Enables a plugin again.
    ///
    /// # Errors
    /// If there is no such plugin.
    pub async fn enable(&self, plugin: &str, actor: &str) -> Result<(), OperationError> {
        let (plugin, actor) = (plugin.to_owned(), actor.to_owned());
        self.on_registry(async move |registry| registry.enable(&plugin, &actor))
            .await
    }

    /// Quarantines a revision. If it serves, the one before takes over; if there is none, calls are deferred.
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

    /// Releases a revision from quarantine. It serves when it is activated, or at once if nothing else does.
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

    /// Tells if an adapter serves this marketplace.
    pub fn serves(&self, marketplace: &str) -> bool {
        self.now().adapters.contains_key(marketplace)
    }

    /// Returns the marketplaces that are served, sorted.
    pub fn marketplaces(&self) -> Vec<String> {
        self.now().adapters.keys().cloned().collect()
    }

    /// Returns the revisions that serve the marketplaces, as SHA-256.
    pub fn adapter_digests(&self) -> BTreeMap<String, String> {
        let now = self.now();
        let digest = |serving: &Serving| serving.revision.digest().to_string();
        let serving = now
            .adapters
            .iter()
            // Who is out of service answers nothing: receipts that rest would be woken for no use.
            .filter(|(_, serving)| serving.out.is_none());
        serving
            .map(|(name, serving)| (name.clone(), digest(serving)))
            .collect()
    }

    /// Returns the shapers, sorted.
    pub fn shapers(&self) -> Vec<String> {
        self.now().shapers.keys().cloned().collect()
    }

    /// Returns every plugin that was found, refused ones too, sorted by name.
    pub fn plugins(&self) -> Vec<PluginReport> {
        self.now().reports()
    }

    /// Returns the reason why the plugins folder cannot be read, if it cannot.
    pub fn folder_problem(&self) -> Option<String> {
        self.now().folder_problem.clone()
    }

    /// Returns what serves now.
    pub(crate) fn now(&self) -> arc_swap::Guard<Arc<Snapshot>> {
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
        let task = self.threads.spawn(async move { change(registry).await });
        task.await
            // Changes run on the engine's threads, so a caller that goes away does not stop them half way.
            .expect("changes do not panic, and the runtime lives as long as the engine")
    }
}

/// Blocks this thread, but not for long. Works inside a runtime too, where its own way of waiting would panic.
fn wait(done: oneshot::Receiver<()>) {
    let (sender, receiver) = std::sync::mpsc::channel();
    // `blocking_recv` panics on a runtime's thread, so it waits on one of its own. Not joined: that would wait for it.
    std::thread::spawn(move || sender.send(done.blocking_recv()));
    // An error means that the time is over or the runtime ended. What is not loaded by now is loaded behind.
    let _ = receiver.recv_timeout(MAX_START);
}
