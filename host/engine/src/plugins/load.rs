//! Loading: from bytes to a revision that can serve, verified, compiled, tried and described.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use wasmtime::component::{Component, InstancePre, Linker};
use wharf_domain::{Clock, SystemClock};

use super::cache::Cache;
use super::revision::{Counts, Revision};
use super::store::Stored;
use crate::contract::{
    bindings::{MarketplaceAdapterPre, PayloadShaperPre},
    digest::Digest,
    fault::Fault,
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
    network::Network,
    outbound::Outbound,
    runtime::Metering,
};

/// The way from bytes to revisions.
pub(crate) struct Loader {
    engine: wasmtime::Engine,
    linker: Linker<GuestState>,
    cache: Option<Arc<Cache>>,
    settings: EngineSettings,
    metering: Metering,
    /// One compilation at a time: large guests take up to 383 MB. A compilation that was given up keeps its place until
    /// it ends.
    compiling: Arc<Semaphore>,
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
            settings,
            metering,
            compiling: Arc::new(Semaphore::new(1)),
        }
    }

    /// Purges compiled code that nobody needs.
    pub(crate) fn purge_unused(&self) {
        if let Some(cache) = &self.cache {
            cache.purge_unused();
        }
    }

    /// Brings a revision to the point where it could be tried against the contract. Runs on the guests' runtime.
    pub(crate) async fn load(&self, plugin: &str, stored: &Stored) -> Result<Revision, Refusal> {
        // Cheap checks first: nothing is compiled that could not serve.
        let inspection = inspect(&stored.bytes)?;
        let kind = inspection.kind;
        let grants = stored
            .grants
            .as_deref()
            .map_or_else(|| Ok(Grants::default()), Grants::parse)?;
        let component = self
            .compile(stored.component(), stored.bytes.clone())
            .await?;
        // The limits are granted from the start: describing itself is a call like any other.
        let callable = Callable {
            guest: self.link(kind, &component)?,
            identity: Arc::new(Identity {
                plugin: plugin.into(),
                digest: stored.digest(),
                kind,
            }),
            config: Arc::new(grants.config.clone()),
            limits: grants.limits(self.settings.limits(kind)),
            // On trial it reaches nobody: its manifest is not known yet.
            outbound: Outbound::Closed,
            metering: self.metering,
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
            callable: self.granted(callable, &manifest, &grants)?,
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
        grants.check_secrets(&wishes.credentials)?;
        let mut config = grants.config.clone();
        // It reads only the keys that it declared, whatever else is in the file.
        config.retain(|key, _| wishes.config_keys.contains(key));
        let outbound = callable.limits.http.map_or(Outbound::Closed, |limits| {
            Outbound::Live(Arc::new(Network::new(
                wishes,
                grants,
                limits,
                self.settings.resolver.clone(),
            )))
        });
        Ok(Callable {
            config: Arc::new(config),
            outbound,
            ..callable
        })
    }

    async fn compile(&self, digest: Digest, bytes: Arc<[u8]>) -> Result<Component, Refusal> {
        let refuse = |cause: String, fix: &str| Refusal::new(Stage::Compile, cause, fix);
        let limit = self.settings.compile_limit;
        // Waiting is outside of the time limit: it is not this component's fault, and the others end within their own.
        let place = self
            .compiling
            .clone()
            .acquire_owned()
            .await
            .expect("nobody closes the semaphore");
        let (engine, cache) = (self.engine.clone(), self.cache.clone());
        // Compiling takes a processor for seconds and cannot be interrupted.
        let compile = tokio::task::spawn_blocking(move || {
            let _place = place;
            cached(&engine, cache.as_deref(), digest, &bytes)
        });
        match tokio::time::timeout(limit, compile).await {
            Ok(Ok(Ok(component))) => Ok(component),
            Ok(Ok(Err(error))) => Err(refuse(
                for_people(&format!("{error:#}")),
                "build it again for wasm32-wasip2",
            )),
            Ok(Err(panic)) => Err(refuse(
                format!("the compiler failed: {panic}"),
                "report the component as a bug",
            )),
            Err(_) => {
                let cause = format!("compiling it took longer than {} s", limit.as_secs_f32());
                Err(refuse(
                    cause,
                    "build it smaller, or have the operator raise PLUGIN_COMPILE_LIMIT",
                ))
            }
        }
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

fn cached(
    engine: &wasmtime::Engine,
    cache: Option<&Cache>,
    digest: Digest,
    bytes: &[u8],
) -> wasmtime::Result<Component> {
    if let Some(component) = cache.and_then(|cache| cache.load(engine, digest)) {
        return Ok(component);
    }
    let component = Component::from_binary(engine, bytes)?;
    if let Some(cache) = cache {
        cache.store(engine, digest, &component);
    }
    Ok(component)
}

fn tried(stage: Stage, fault: &Fault) -> Refusal {
    let fix = match (stage, fault) {
        (_, Fault::OutOfCpu | Fault::OutOfTime) => "do less when it starts and describes itself",
        (_, Fault::OutOfMemory) => "need less memory at the start, or have the operator grant more",
        (Stage::Describe, Fault::ContractBroken(_)) => "correct the manifest that describe returns",
        _ => "make describe return the same manifest each time, without failing",
    };
    Refusal::new(stage, fault.to_string(), fix)
}
