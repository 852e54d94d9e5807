//! The wiring of a host: the only place that makes its parts from settings.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::Context;
use wharf_app::{App, AppSettings, CallbackSettings, OrganizationBudgets, Parts, SyncSettings};
use wharf_engine::{Compiler, Engine, EngineSettings};
use wharf_queue::Doorbell;
use wharf_store::{KeyRing, Ledger, LedgerSettings};

use crate::{
    modes,
    settings::{CompileArgs, DataArgs, DatabaseArgs, Deployment, PluginsArgs, Settings},
};

/// The parts of a running host.
pub(crate) struct Host {
    pub(crate) app: App,
    pub(crate) ledger: Ledger,
    pub(crate) doorbell: Doorbell,
}

/// The care that a process takes of the schema at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Schema {
    /// It is brought up to date where it is not.
    Migrated,
    /// It must be up to date.
    Checked,
}

/// Opens everything that the operations need. Settings must have been checked. The keys are held against the database
/// before anything is started.
///
/// # Errors
/// If the database cannot be opened, was sealed with other keys, has a schema that does not fit, or the data folder cannot
/// be written to.
pub(crate) async fn open(
    settings: &Settings,
    schema: Schema,
    activity: &str,
) -> anyhow::Result<Host> {
    // With PostgreSQL too: compiled plugins lie in it.
    modes::make_data_folder(&settings.data.data_dir)?;
    let ledger = open_ledger(&settings.data, &settings.database, activity).await?;
    // Before the keys, which are held against rows of a table.
    match schema {
        Schema::Migrated => migrate(&ledger).await?,
        Schema::Checked => ledger.check_schema().await?,
    }
    let keys = settings.keys.open(&settings.data, &ledger).await?;
    let doorbell = doorbell(settings)?;
    let engine = Engine::start(engine_settings(&settings.data, &settings.plugins))?;
    // Not awaited: the host listens first, and a plugin that is not there yet only defers its calls.
    tokio::spawn(tell_when_loaded(engine.clone()));
    // The database's clock: leases are compared between processes on different machines.
    let clock = ledger
        .clock()
        .await
        .context("DATABASE_URL: the database does not tell the time")?;
    let parts = Parts {
        ledger: ledger.clone(),
        doorbell: doorbell.clone(),
        engine,
        clock,
        settings: app_settings(settings, keys),
    };
    Ok(Host {
        app: App::new(parts)?,
        ledger,
        doorbell,
    })
}

/// Nothing waits for it but people and tests.
async fn tell_when_loaded(engine: Engine) {
    engine.loaded().await;
    let (marketplaces, shapers) = (engine.marketplaces(), engine.shapers());
    tracing::info!(?marketplaces, ?shapers, "the plugins are loaded");
}

impl Host {
    /// Closes what is open; waits a little for statements that run.
    pub(crate) async fn close(self) {
        const MAX: Duration = Duration::from_secs(2);
        // SHUTDOWN_GRACE is over by now, and supervisors kill what takes long.
        if tokio::time::timeout(MAX, self.ledger.close())
            .await
            .is_err()
        {
            tracing::warn!("a statement still runs; the database ends it");
        }
    }
}

/// Brings the schema up to date. Where it is, nothing is changed or asked for that takes more than reading.
///
/// # Errors
/// If it is another program's, or cannot be changed.
pub(crate) async fn migrate(ledger: &Ledger) -> anyhow::Result<()> {
    match ledger.check_schema().await {
        Err(error) if error.is_behind() => {
            let migrated = ledger.migrate().await;
            migrated.context("the schema cannot be brought up to date")?;
            // For what it could not see before: that the database is whole.
            Ok(ledger.check_schema().await?)
        }
        checked => Ok(checked?),
    }
}

/// Opens the database and leaves its schema alone. PostgreSQL lists the process under its `activity`.
///
/// # Errors
/// If it cannot be reached.
pub(crate) async fn open_ledger(
    data: &DataArgs,
    database: &DatabaseArgs,
    activity: &str,
) -> anyhow::Result<Ledger> {
    // Commands on a shared database leave nothing on the machine that they are run on.
    if database.deployment() == Deployment::Embedded {
        modes::make_data_folder(&data.data_dir)?;
    }
    let settings = ledger_settings(database, database.url(&data.data_dir), activity);
    Ledger::open(&settings)
        .await
        .context("DATABASE_URL: the database cannot be opened")
}

/// How to open the database of this URL.
pub(crate) fn ledger_settings(
    database: &DatabaseArgs,
    url: String,
    activity: &str,
) -> LedgerSettings {
    LedgerSettings {
        url,
        pool_size: database.database_pool,
        acquire_timeout: database.database_acquire_timeout,
        statement_timeout: database.database_statement_timeout,
        start_wait: database.database_start_wait,
        activity: activity.to_owned(),
    }
}

/// The folder of plugins and what they may use.
pub(crate) fn engine_settings(data: &DataArgs, plugins: &PluginsArgs) -> EngineSettings {
    let defaults = EngineSettings::new(&plugins.plugins_dir, data.data_dir.join("engine"));
    let total = plugins
        .plugin_memory_total
        // More than the machine can address is no limit at all.
        .map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    EngineSettings {
        secrets_dir: Some(plugins.secrets.plugin_secrets_dir.clone()),
        max_in_flight: plugins.plugin_max_in_flight,
        guest_threads: plugins.plugin_threads.unwrap_or(defaults.guest_threads),
        memory_total_bytes: total.unwrap_or(defaults.memory_total_bytes),
        ..compiling(plugins.compiling, defaults)
    }
}

/// The limits of compiling and trying, for hosts and authors alike.
pub(crate) fn compiling(args: CompileArgs, defaults: EngineSettings) -> EngineSettings {
    EngineSettings {
        compiler: Compiler::Child(own_program()),
        compile_limit: args.plugin_compile_limit,
        compile_memory_bytes: args.plugin_compile_memory,
        conformance_limit: args.plugin_conformance_limit,
        ..defaults
    }
}

/// This program, which compiles as its own child. By a name that still leads to it after an upgrade has replaced the
/// file: code of another version would be of no use.
fn own_program() -> PathBuf {
    if cfg!(target_os = "linux") {
        return "/proc/self/exe".into();
    }
    // Without the path to itself it tries the name, which leads to it if it is installed.
    std::env::current_exe().unwrap_or_else(|_| "wharf".into())
}

fn app_settings(settings: &Settings, keys: KeyRing) -> AppSettings {
    let (sync, webhooks) = (&settings.sync, &settings.webhooks);
    let defaults = AppSettings::new(keys);
    AppSettings {
        worker_name: worker_name(),
        lease: sync.lease,
        sync: SyncSettings {
            chunk_size: sync.sync_chunk_size.into(),
            concurrency: sync.sync_concurrency,
            ..defaults.sync
        },
        callbacks: CallbackSettings {
            schedule: webhooks.webhook_retry.clone(),
            webhook_secret: webhooks.webhook_secret.value().cloned(),
            addresses: settings.address_policy(),
            max_endpoints: webhooks.webhook_max_endpoints.into(),
            timeout: webhooks.webhook_timeout,
            concurrency: webhooks.callback_concurrency,
            retention: settings.retention.retention.0,
            budgets: OrganizationBudgets {
                tests_per_minute: webhooks.webhook_tests_per_minute,
                resends_per_minute: webhooks.webhook_resends_per_minute,
                recoveries_per_minute: webhooks.webhook_recoveries_per_minute,
            },
            disable_after: webhooks.webhook_disable_after,
            ..defaults.callbacks
        },
        audit_retention: settings.retention.audit_retention.0,
        ..defaults
    }
}

/// Machine and process: tells operators who holds a lease.
#[allow(
    clippy::disallowed_methods,
    reason = "read once at the start; /proc does not hang"
)]
fn worker_name() -> String {
    // Linux only; elsewhere the process id has to do.
    let machine = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let machine = if machine.trim().is_empty() {
        "wharf"
    } else {
        machine.trim()
    };
    format!("{machine}-{}", std::process::id())
}

fn doorbell(settings: &Settings) -> anyhow::Result<Doorbell> {
    match settings.redis_url.expose() {
        // It need not answer yet: lost news costs a second, after which everybody looks anyway.
        Some(url) => Doorbell::connect(url, wharf_queue::Settings::default()).context("REDIS_URL"),
        None => Ok(Doorbell::in_process()),
    }
}
