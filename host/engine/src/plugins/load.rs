//! Loading: from bytes to a revision that can serve, verified, compiled, tried and described.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::task::TaskTracker;
use wasmtime::component::{Component, InstancePre, Linker};
use wharf_domain::{Clock, SystemClock};

use super::cache::{Cache, trusted_component};
use super::compile::CompileQueue;
use super::revision::{Counts, Revision};
use super::store::Stored;
use crate::contract::{
    bindings::{MarketplaceAdapterPre, PayloadShaperPre},
    digest::Digest,
    fault::{Blame, Fault},
    grants::Grants,
    inspect::{Kind, inspect},
    manifest::Manifest,
    refusal::{Refusal, Stage},
    settings::EngineSettings,
    text::for_people,
};
use crate::sandbox::{
    callable::{Callable, Guest},
    guest::{GuestState, Identity},
    limiter::MemoryTotal,
    log_rate::LogRate,
    network::Network,
    outbound::Outbound,
    pace::Pace,
    runtime::Metering,
};

/// The demand on the secrets that grants name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Secrets {
    /// They must be readable now: the revision is to ask its marketplace.
    Readable,
    /// They are not read: the revision is only checked, and reaches nobody.
    Unread,
}

/// The way from bytes to revisions.
pub(crate) struct Loader {
    engine: wasmtime::Engine,
    linker: Linker<GuestState>,
    cache: Option<Arc<Cache>>,
    settings: EngineSettings,
    metering: Metering,
    compiling: CompileQueue,
    memory: Arc<MemoryTotal>,
    /// One for each plugin's name, whatever becomes of its revisions.
    logs: Mutex<BTreeMap<String, Arc<LogRate>>>,
}

impl Loader {
    pub(crate) fn new(
        engine: wasmtime::Engine,
        linker: Linker<GuestState>,
        cache: Option<Cache>,
        settings: EngineSettings,
        metering: Metering,
    ) -> Self {
        Self {
            engine,
            linker,
            cache: cache.map(Arc::new),
            compiling: CompileQueue::new(settings.clone(), metering),
            memory: Arc::new(MemoryTotal::new(settings.memory_total_bytes)),
            logs: Mutex::default(),
            settings,
            metering,
        }
    }

    /// Tells if a revision can be loaded without a compiler.
    pub(crate) fn is_compiled(&self, stored: &Stored) -> bool {
        self.cache
            .as_ref()
            .is_some_and(|cache| cache.holds(&self.engine, stored.component()))
    }

    /// Tells if a component's code is there within a time. What is compiled until then is kept, so nothing is tried where
    /// there is no cache.
    pub(crate) async fn compiles_within(&self, stored: &Stored, time: Duration) -> bool {
        // What is refused is refused quickly. It is not compiled here either.
        if self.cache.is_none() || inspect(&stored.bytes).is_err() {
            return true;
        }
        let compiled = self.component(stored.component(), stored.bytes.clone());
        tokio::time::timeout(time, compiled).await.is_ok()
    }

    /// Returns the refusals of memory to any guest so far, because all together have the most.
    pub(crate) fn memory_refusals(&self) -> u64 {
        self.memory.refusals()
    }

    /// Returns the time that all contract checks of one component may take.
    pub(crate) fn conformance_limit(&self) -> Duration {
        self.settings.conformance_limit
    }

    fn log_of(&self, plugin: &str) -> Arc<LogRate> {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        let log = logs
            .entry(plugin.to_owned())
            .or_insert_with(|| Arc::new(LogRate::new(plugin, Instant::now())));
        log.clone()
    }

    /// Purges compiled code that nobody needs.
    pub(crate) fn purge_unused(&self) {
        if let Some(cache) = &self.cache {
            cache.purge_unused();
        }
    }

    /// Brings a revision to the point where it could be tried against the contract. Runs on the guests' runtime.
    pub(crate) async fn load(
        &self,
        plugin: &str,
        stored: &Stored,
        secrets: Secrets,
    ) -> Result<Revision, Refusal> {
        // Cheap checks first: nothing is compiled that could not serve.
        let inspection = inspect(&stored.bytes)?;
        let kind = inspection.kind;
        let grants = stored
            .grants
            .as_deref()
            .map_or_else(|| Ok(Grants::default()), Grants::parse)?;
        let component = self
            .component(stored.component(), stored.bytes.clone())
            .await?;
        // The limits are granted from the start: describing itself is a call like any other.
        let callable = Callable {
            guest: self.link(kind, &component)?,
            identity: Arc::new(Identity {
                plugin: plugin.into(),
                digest: stored.digest(),
                kind,
                case: None,
            }),
            config: Arc::new(grants.config.clone()),
            limits: grants.limits(self.settings.limits(kind)),
            // On trial it reaches nobody: its manifest is not known yet.
            outbound: Outbound::Closed,
            metering: self.metering,
            memory: self.memory.clone(),
            log: self.log_of(plugin),
            pace: Arc::new(Pace::new(Instant::now())),
        };
        callable
            .instantiate()
            .await
            .map_err(|fault| tried(Stage::Instantiate, &fault))?;
        let manifest = callable
            .describe()
            .await
            .map_err(|fault| tried(Stage::Describe, &fault))?;
        Ok(Revision {
            callable: self.granted(callable, &manifest, &grants, secrets)?,
            manifest,
            inspection,
            size: stored.bytes.len(),
            grants: stored.grants.clone(),
            loaded_at: SystemClock.now(),
            calls: TaskTracker::new(),
            counts: Counts::default(),
        })
    }

    /// Opens to the plugin what it asks for and was granted.
    fn granted(
        &self,
        callable: Callable,
        manifest: &Manifest,
        grants: &Grants,
        secrets: Secrets,
    ) -> Result<Callable, Refusal> {
        // Everything or nothing: half of its wishes would make it fail in the middle of an order.
        let missing = grants.missing(manifest);
        if !missing.is_empty() {
            let cause = format!("it asks for {}", missing.join(", "));
            let fix = "if you trust it, grant it in the plugin's .toml file, or push it again with --grants";
            return Err(Refusal::new(Stage::Approve, cause, fix));
        }
        let Manifest::Adapter(wishes) = manifest else {
            return Ok(callable);
        };
        let secrets_dir = self.settings.secrets_dir.as_deref();
        if secrets == Secrets::Readable {
            grants.check_secrets(&wishes.credentials, secrets_dir)?;
        }
        let mut config = grants.config.clone();
        // It reads only the keys that it declared, whatever else is in the file.
        config.retain(|key, _| wishes.config_keys.contains(key));
        let outbound = callable.limits.http.map_or(Outbound::Closed, |limits| {
            Outbound::Live(Arc::new(Network::new(
                wishes,
                grants,
                limits,
                self.settings.secrets_dir.clone(),
                self.settings.resolver.clone(),
            )))
        });
        Ok(Callable {
            config: Arc::new(config),
            outbound,
            ..callable
        })
    }

    /// Loads the component from the cache, or compiles and keeps it.
    async fn component(&self, digest: Digest, bytes: Arc<[u8]>) -> Result<Component, Refusal> {
        let (engine, cache) = (self.engine.clone(), self.cache.clone());
        let cached = on_disk(move || cache?.load(&engine, digest)).await?;
        if let Some(component) = cached {
            return Ok(component);
        }
        let code = self.compiling.compile(&self.engine, bytes).await?;
        let (engine, cache) = (self.engine.clone(), self.cache.clone());
        let loaded = on_disk(move || {
            let component = trusted_component(&engine, &code)?;
            if let Some(cache) = cache {
                cache.store(&engine, digest, &code);
            }
            Ok(component)
        });
        loaded.await?.map_err(|error: wasmtime::Error| {
            let cause = for_people(&format!("its code cannot be loaded: {error:#}"));
            Refusal::new(Stage::Compile, cause, "restart the host with one program")
        })
    }

    fn link(&self, kind: Kind, component: &Component) -> Result<Guest, Refusal> {
        let refuse = |error: wasmtime::Error| {
            let cause = for_people(&format!("{error:#}"));
            Refusal::new(
                Stage::Verify,
                cause,
                "build it against the unchanged wit/0.1.0",
            )
        };
        let pre: InstancePre<GuestState> =
            self.linker.instantiate_pre(component).map_err(refuse)?;
        match kind {
            Kind::Adapter => MarketplaceAdapterPre::new(pre).map(Guest::Adapter),
            Kind::Shaper => PayloadShaperPre::new(pre).map(Guest::Shaper),
        }
        .map_err(refuse)
    }
}

/// Runs work that reads or writes large files apart from the guests.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|panic| {
        let cause = format!("loading it failed: {panic}");
        Refusal::new(Stage::Compile, cause, "report the component as a bug")
    })
}

fn tried(stage: Stage, fault: &Fault) -> Refusal {
    let fix = match (stage, fault) {
        (_, Fault::OutOfCpu | Fault::OutOfTime) => "do less when it starts and describes itself",
        (_, Fault::OutOfMemory) => "need less memory at the start, or have the operator grant more",
        (Stage::Describe, Fault::ContractBroken(_)) => "correct the manifest that describe returns",
        _ => "make describe return the same manifest each time, without failing",
    };
    let refusal = Refusal::new(stage, fault.to_string(), fix);
    // A host without memory refuses nobody for good.
    if fault.blame() == Blame::Host {
        refusal.passing()
    } else {
        refusal
    }
}
