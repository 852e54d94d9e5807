//! The settings: each one field with its flag, its environment variable, its default and its help. clap checks what
//! stands alone. Secrets have no flags (see [`Secret`]); [`Settings::check`] checks them, and what goes together.

mod clients;
mod database;
mod error;
mod help;
mod listen;
mod parse;

use std::{path::PathBuf, time::Duration};

use clap::{Args, value_parser};
use wharf_domain::{AddressPolicy, RetrySchedule};

pub(crate) use self::{
    clients::AtMost,
    database::{DatabaseArgs, Deployment, Migrate, check_url as check_database_url},
    error::{SettingError, WrongSettings},
    help::{admin_token_help, database_help, encryption_key_help, service_help},
    listen::{Addresses, ListenArgs},
    parse::{host, overlap},
};
use crate::{
    key::KeyArgs,
    secret::{self, Secret},
};

/// Folders of this machine.
#[derive(Args, Clone, Debug)]
pub(crate) struct DataArgs {
    /// The folder of the embedded database, its key file and compiled plugins
    #[arg(
        long,
        env = "WHARF_DATA_DIR",
        value_name = "WHARF_DATA_DIR",
        default_value = ".wharf"
    )]
    pub(crate) data_dir: PathBuf,
}

/// The plugins and their sandbox.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Plugins")]
pub(crate) struct PluginsArgs {
    /// The watched folder of `*.wasm` files
    #[arg(
        long,
        env = "WHARF_PLUGINS_DIR",
        value_name = "WHARF_PLUGINS_DIR",
        default_value = "plugins"
    )]
    pub(crate) plugins_dir: PathBuf,
    /// Plugin calls at a time, over all plugins
    #[arg(long, env = "PLUGIN_MAX_IN_FLIGHT", value_name = "PLUGIN_MAX_IN_FLIGHT", default_value = "64",
          value_parser = parse::number::<1_000>)]
    pub(crate) plugin_max_in_flight: usize,
    /// Threads for plugin calls that are not over at once [default: one for each processor]
    #[arg(long, env = "PLUGIN_THREADS", value_name = "PLUGIN_THREADS", value_parser = parse::number::<256>)]
    pub(crate) plugin_threads: Option<usize>,
    /// Memory of all plugin calls together, such as 512MiB or 2GiB [default: half of what this process may use]
    #[arg(long, env = "PLUGIN_MEMORY_TOTAL", value_name = "PLUGIN_MEMORY_TOTAL", value_parser = parse::bytes)]
    pub(crate) plugin_memory_total: Option<u64>,
    #[command(flatten)]
    pub(crate) secrets: PluginSecretsArgs,
    #[command(flatten)]
    pub(crate) compiling: CompileArgs,
}

/// The secrets that grants may name.
#[derive(Args, Clone, Debug)]
pub(crate) struct PluginSecretsArgs {
    /// The folder of the secret files that grants may name. Variables that they may name begin with WHARF_PLUGIN_
    #[arg(
        long,
        env = "PLUGIN_SECRETS_DIR",
        value_name = "PLUGIN_SECRETS_DIR",
        default_value = "plugin-secrets"
    )]
    pub(crate) plugin_secrets_dir: PathBuf,
}

/// Compiling and trying plugins.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct CompileArgs {
    /// Time limit of compiling one plugin
    #[arg(long, env = "PLUGIN_COMPILE_LIMIT", value_name = "PLUGIN_COMPILE_LIMIT", default_value = "60s",
          value_parser = parse::duration)]
    pub(crate) plugin_compile_limit: Duration,
    /// Memory that compiling one plugin may take
    #[arg(long, env = "PLUGIN_COMPILE_MEMORY", value_name = "PLUGIN_COMPILE_MEMORY", default_value = "768MiB",
          value_parser = parse::bytes)]
    pub(crate) plugin_compile_memory: u64,
    /// Time limit of all contract checks and vectors of one plugin together
    #[arg(long, env = "PLUGIN_CONFORMANCE_LIMIT", value_name = "PLUGIN_CONFORMANCE_LIMIT", default_value = "30s",
          value_parser = parse::duration)]
    pub(crate) plugin_conformance_limit: Duration,
}

/// The sync engine.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Sync")]
pub(crate) struct SyncArgs {
    /// Logs per transaction of a sync run
    #[arg(long, env = "SYNC_CHUNK_SIZE", value_name = "SYNC_CHUNK_SIZE", default_value = "100",
          value_parser = value_parser!(u32).range(1..=1_000))]
    pub(crate) sync_chunk_size: u32,
    /// Stores that a sync worker works on at a time
    #[arg(long, env = "SYNC_CONCURRENCY", value_name = "SYNC_CONCURRENCY", default_value = "4",
          value_parser = parse::number::<1_000>)]
    pub(crate) sync_concurrency: usize,
    /// Time after which a silent worker loses its work to others
    #[arg(long, env = "LEASE", value_name = "LEASE", default_value = "30s", value_parser = parse::lease)]
    pub(crate) lease: Duration,
}

/// The webhook sender.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Webhooks")]
pub(crate) struct WebhookArgs {
    #[arg(skip = Secret::of_environment("WEBHOOK_SECRET"))]
    pub(crate) webhook_secret: Secret,
    /// Retry schedule of webhooks: `seed` (1m,5m), `standard` (10 attempts over 75 h) or waits such as `1m,5m,1h`
    #[arg(long, env = "WEBHOOK_RETRY", value_name = "WEBHOOK_RETRY", default_value = "seed",
          value_parser = parse::retry_schedule)]
    pub(crate) webhook_retry: RetrySchedule,
    /// Private networks that webhooks may go to, or `none` [default: 127.0.0.0/8,::1/128; none with PostgreSQL, and where HOST is no loopback address]
    #[arg(long, env = "WEBHOOK_ALLOW_NETWORKS", value_name = "WEBHOOK_ALLOW_NETWORKS", value_parser = parse::networks)]
    webhook_allow_networks: Option<AddressPolicy>,
    /// Clients beyond this machine reach the API, and name the addresses that webhooks go to.
    #[arg(skip)]
    pub(crate) is_open: bool,
    /// Time limit of one webhook, its answer included
    #[arg(long, env = "WEBHOOK_TIMEOUT", value_name = "WEBHOOK_TIMEOUT", default_value = "15s",
          value_parser = parse::duration)]
    pub(crate) webhook_timeout: Duration,
    /// A webhook that has only failed for this long is disabled
    #[arg(long, env = "WEBHOOK_DISABLE_AFTER", value_name = "WEBHOOK_DISABLE_AFTER", default_value = "120h",
          value_parser = parse::long_duration)]
    pub(crate) webhook_disable_after: Duration,
    /// Webhooks that one organization may have
    #[arg(long, env = "WEBHOOK_MAX_ENDPOINTS", value_name = "WEBHOOK_MAX_ENDPOINTS", default_value = "1000",
          value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub(crate) webhook_max_endpoints: u32,
    /// Test events that one organization may ask for in a minute
    #[arg(long, env = "WEBHOOK_TESTS_PER_MINUTE", value_name = "WEBHOOK_TESTS_PER_MINUTE", default_value = "60",
          value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub(crate) webhook_tests_per_minute: u32,
    /// Deliveries that one organization may ask for once more in a minute, one by one
    #[arg(long, env = "WEBHOOK_RESENDS_PER_MINUTE", value_name = "WEBHOOK_RESENDS_PER_MINUTE", default_value = "600",
          value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub(crate) webhook_resends_per_minute: u32,
    /// Recoveries and redrives of dead letters that one organization may ask for in a minute
    #[arg(long, env = "WEBHOOK_RECOVERIES_PER_MINUTE", value_name = "WEBHOOK_RECOVERIES_PER_MINUTE", default_value = "60",
          value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub(crate) webhook_recoveries_per_minute: u32,
    /// Webhooks that a callback worker sends at a time
    #[arg(long, env = "CALLBACK_CONCURRENCY", value_name = "CALLBACK_CONCURRENCY", default_value = "256",
          value_parser = parse::number::<10_000>)]
    pub(crate) callback_concurrency: usize,
}

/// The ages at which what nobody works with any more is deleted.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Retention")]
pub(crate) struct RetentionArgs {
    /// Age at which finished events are deleted with their deliveries and attempts: days such as `30d`, a duration, or `off`
    #[arg(long, env = "RETENTION", value_name = "RETENTION", default_value = "30d", value_parser = parse::retention)]
    pub(crate) retention: Retention,
    /// Age at which steps of plugins are deleted from the audit: days, a duration, or `off`
    #[arg(long, env = "AUDIT_RETENTION", value_name = "AUDIT_RETENTION", default_value = "400d", value_parser = parse::retention)]
    pub(crate) audit_retention: Retention,
}

/// An age at which rows are deleted; `None` keeps them for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retention(pub(crate) Option<Duration>);

/// Everything that a host needs to work, apart from where it listens.
#[derive(Args, Clone, Debug)]
pub(crate) struct Settings {
    #[command(flatten)]
    pub(crate) data: DataArgs,
    #[arg(skip = Secret::of_environment("REDIS_URL"))]
    pub(crate) redis_url: Secret,
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    /// Time that work in flight has after a signal to stop
    #[arg(long, env = "SHUTDOWN_GRACE", value_name = "SHUTDOWN_GRACE", default_value = "25s",
          value_parser = parse::duration)]
    pub(crate) shutdown_grace: Duration,
    /// The address and port of /metrics, /healthz and /readyz, such as localhost:9464; every role may have one. Default:
    /// none, and the API answers them at its own
    #[arg(long, env = "METRICS_ADDR", value_name = "METRICS_ADDR", value_parser = parse::addresses)]
    pub(crate) metrics_addr: Option<Addresses>,
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    #[command(flatten)]
    pub(crate) plugins: PluginsArgs,
    #[command(flatten)]
    pub(crate) sync: SyncArgs,
    #[command(flatten)]
    pub(crate) webhooks: WebhookArgs,
    #[command(flatten)]
    pub(crate) retention: RetentionArgs,
}

impl Settings {
    /// Tells what clap could not judge: secrets that are wrong, or missing where another setting makes them necessary.
    pub(crate) fn check(&self, wrong: &mut Vec<SettingError>) {
        self.database.check(wrong);
        wrong.extend(self.redis_url.check(parse::redis_url).err());
        wrong.extend(self.keys.check(&self.database).err());
        wrong.extend(
            self.webhooks
                .webhook_secret
                .check(secret::long_enough)
                .err(),
        );
    }

    /// Returns the addresses that webhooks may go to.
    pub(crate) fn address_policy(&self) -> AddressPolicy {
        match (
            &self.webhooks.webhook_allow_networks,
            self.database.deployment(),
        ) {
            // Also an empty list, `none`: it closes even the loopback of the embedded default.
            (Some(policy), _) => policy.clone(),
            // For the receiver on the same machine that every first try begins with.
            (None, Deployment::Embedded) if !self.webhooks.is_open => {
                AddressPolicy::with_loopback()
            }
            // Endpoints are strangers' choice here: they must not reach neighbours or a cloud's metadata service.
            (None, _) => AddressPolicy::default(),
        }
    }
}

#[cfg(test)]
mod tests;
