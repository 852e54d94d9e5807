use std::future::Future;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;
use wharf_domain::{Answer, Event};

use crate::cache::Cache;
use crate::convert::{Message, ValidateRequest};
use crate::gate::Gate;
use crate::load::Loader;
use crate::registry::{Registry, Serving, Snapshot};
use crate::sandbox::{self, Metering, Threads};
use crate::{Called, Digest, EngineError, EngineSettings, Fault, PluginReport, Refusal, watch};

/// The sandbox and every plugin in it. A clone is the same engine; the last one to be dropped ends its threads.
#[derive(Clone)]
pub struct Engine {
    registry: Arc<Registry>,
    host_gate: Arc<Gate>,
    threads: Arc<Threads>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("marketplaces", &self.marketplaces()).field("shapers", &self.shapers()).finish()
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
        let runtime = sandbox::engine(&settings, Metering::Epochs).map_err(EngineError::Sandbox)?;
        let linker = sandbox::linker(&runtime).map_err(EngineError::Sandbox)?;
        let cache = settings.state_dir.as_deref().map(|dir| {
            Cache::open(dir).map_err(|source| EngineError::State { path: dir.display().to_string(), source })
        });
        let threads = Threads::start(runtime.clone(), settings.guest_threads)?;
        let loader = Loader::new(runtime, linker, cache.transpose()?, settings.clone());
        let engine = Self {
            registry: Arc::new(Registry::new(loader, &settings)),
            host_gate: Arc::new(Gate::of_host(settings.max_in_flight)),
            threads: Arc::new(threads),
        };
        if let Some(dir) = settings.plugins_dir {
            let (ready, is_ready) = oneshot::channel();
            engine.threads.handle().spawn(watch::follow(engine.registry.clone(), dir, ready));
            wait(is_ready);
        }
        Ok(engine)
    }

    /// Loads a component as the newest revision of the plugin `name` and lets it serve.
    ///
    /// # Errors
    /// Why it may not serve; what served before goes on.
    pub async fn load(&self, name: &str, bytes: impl Into<Arc<[u8]>>) -> Result<Digest, Refusal> {
        let (registry, name, bytes) = (self.registry.clone(), name.to_owned(), bytes.into());
        let task = self.threads.handle().spawn(async move { registry.offer(&name, bytes).await });
        task.await.expect("loading does not panic, and the runtime lives as long as the engine")
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
        self.now().reports.clone()
    }

    /// Why the plugins folder cannot be read, if it cannot.
    pub fn folder_problem(&self) -> Option<String> {
        self.now().folder_problem.clone()
    }

    /// Asks the marketplace's adapter to judge a receipt. Dropping the future ends the call.
    pub async fn validate(&self, marketplace: &str, request: ValidateRequest) -> Called<Answer> {
        let serving = self.now().adapters.get(marketplace).cloned();
        self.call(serving, async move |serving| serving.revision.callable.validate(&request).await).await
    }

    /// Asks a shaper for a webhook's message. Dropping the future ends the call.
    pub async fn shape(&self, shaper: &str, event: &Event) -> Called<Message> {
        let serving = self.now().shapers.get(shaper).cloned();
        let event = event.clone();
        self.call(serving, async move |serving| serving.revision.callable.shape(&event).await).await
    }

    fn now(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.registry.now.load()
    }

    async fn call<T, F, W>(&self, serving: Option<Arc<Serving>>, work: W) -> Called<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Fault>> + Send,
        W: FnOnce(Arc<Serving>) -> F + Send + 'static,
    {
        let Some(serving) = serving else { return Called { digest: None, result: Err(Fault::NotFound) } };
        let digest = serving.revision.digest();
        let host_gate = self.host_gate.clone();
        let task = self.threads.handle().spawn(async move {
            let _of_plugin = serving.gate.enter().await?;
            let _of_host = host_gate.enter().await?;
            work(serving.clone()).await
        });
        let result = AbortOnDropHandle::new(task).await.unwrap_or_else(|error| {
            let what = if error.is_panic() { "a host function panicked" } else { "it is shutting down" };
            Err(Fault::Host(what.into()))
        });
        let asked = !matches!(result, Err(Fault::Overloaded));
        Called { digest: asked.then_some(digest), result }
    }
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
