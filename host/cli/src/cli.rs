//! The command line: commands and global flags.

use clap::{Args, Parser, Subcommand};

use crate::{
    commands::{
        api_key, backup, compile_plugin, copy, dead_letters, delivery, export, flow, keys, migrate,
        mock_webhook, openapi, operator_webhook, plugin, receipt, scheduler, schema, serve, store,
        webhook, worker,
    },
    logging::{Level, LoggingArgs, Style},
    output::Format,
    process::ProcessArgs,
    settings::SettingError,
    traces,
};

/// Sync marketplace orders through sandboxed plugins and notify webhooks.
#[derive(Parser)]
#[command(name = "wharf", version, propagate_version = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// Options of the log.
    #[command(flatten)]
    pub(crate) logging: LoggingArgs,
    /// Options of the process.
    #[command(flatten)]
    pub(crate) process: ProcessArgs,
    #[command(flatten)]
    data: DataArgs,
    /// The command.
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Args)]
struct DataArgs {
    /// Print results as JSON, for programs.
    #[arg(long, global = true)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  wharf serve                      API, workers and schedulers in one process, on an embedded database
  wharf serve --role api           only the API, with DATABASE_URL and REDIS_URL naming the shared servers
  wharf mock-webhook --port 4000   a receiver to point webhooks at
  wharf flow                       a store, three orders and three webhooks, step by step

Every setting is an environment variable and, but for secrets, a flag; an empty variable counts as unset.";

/// The commands.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run the service: all roles in one process, or the named ones.
    // Boxed, as others below: the many settings would make every command as large.
    Serve(Box<serve::ServeArgs>),
    /// Run one kind of worker.
    Worker(Box<worker::WorkerArgs>),
    /// Queue work that is due: once, or in a loop.
    Scheduler(Box<scheduler::SchedulerArgs>),
    /// Bring the database's schema up to date.
    Migrate(migrate::MigrateArgs),
    /// Make, list and revoke the keys of clients and operators.
    Key(api_key::ApiKeyArgs),
    /// Look after the keys that secrets are encrypted with.
    Keys(keys::KeysArgs),
    /// Write the data of an organization as lines of JSON.
    Export(Box<export::ExportArgs>),
    /// Copy the embedded database into a file, while a host works on it.
    Backup(Box<backup::BackupArgs>),
    /// Move to another database: copy everything into it.
    Copy(Box<copy::CopyArgs>),
    /// Print the database's schema as SQL.
    Schema(schema::SchemaArgs),
    /// Print the API's description in OpenAPI 3.1.
    #[command(name = "openapi")]
    OpenApi(openapi::OpenApiArgs),
    /// Receive webhooks and show them.
    MockWebhook(mock_webhook::MockWebhookArgs),
    /// Walk through the API of a running host: a store, its orders, its webhooks.
    Flow(flow::FlowArgs),
    /// List, hold and remove the stores of a running host.
    Store(Box<store::StoreArgs>),
    /// Operate the webhooks of a running host.
    Webhook(webhook::WebhookArgs),
    /// List deliveries to webhooks and send them again.
    Delivery(delivery::DeliveryArgs),
    /// List dead letters and send them again.
    DeadLetters(Box<dead_letters::DeadLettersArgs>),
    /// Tell the operator of the host's own events by webhooks.
    OperatorWebhook(operator_webhook::OperatorWebhookArgs),
    /// Find receipts over all stores and ask about them again.
    Receipt(Box<receipt::ReceiptArgs>),
    /// Write, check and run plugins; swap them on a running host.
    Plugin(Box<plugin::PluginArgs>),
    /// Compile one component, as a host's child.
    // Hidden: it reads a component and writes machine code, which is of use to its parent alone.
    #[command(hide = true)]
    CompilePlugin(compile_plugin::CompilePluginArgs),
}

impl Cli {
    /// Tells what is wrong with the settings of the command, as far as clap could not judge it.
    pub(crate) fn check(&self, wrong: &mut Vec<SettingError>) {
        self.command.check(wrong);
        if self.command.is_service() {
            wrong.extend(traces::check().err());
        }
    }

    /// Returns the format of results.
    pub(crate) fn format(&self) -> Format {
        if self.data.json {
            Format::Json
        } else {
            Format::Text
        }
    }
}

impl Command {
    /// Services tell what they do; commands that print a result keep quiet beside it.
    pub(crate) fn default_level(&self) -> Level {
        match self {
            Self::Serve(_)
            | Self::Worker(_)
            | Self::Scheduler(_)
            | Self::Migrate(_)
            | Self::MockWebhook(_) => Level::Info,
            Self::Schema(_)
            | Self::Key(_)
            | Self::Keys(_)
            | Self::Export(_)
            | Self::Backup(_)
            | Self::Copy(_)
            | Self::OpenApi(_)
            | Self::Flow(_)
            | Self::Store(_)
            | Self::Webhook(_)
            | Self::Delivery(_)
            | Self::DeadLetters(_)
            | Self::OperatorWebhook(_)
            | Self::Receipt(_)
            | Self::CompilePlugin(_) => Level::Warn,
            Self::Plugin(args) => args.default_level(),
        }
    }

    /// Tells what clap could not judge.
    fn check(&self, wrong: &mut Vec<SettingError>) {
        match self {
            Self::Serve(args) => args.check(wrong),
            Self::Worker(args) => args.settings.check(wrong),
            Self::Scheduler(args) => args.settings.check(wrong),
            Self::Migrate(args) => args.check(wrong),
            Self::Key(args) => args.check(wrong),
            Self::Keys(args) => args.check(wrong),
            Self::Export(args) => args.check(wrong),
            Self::Backup(args) => args.check(wrong),
            Self::Copy(args) => args.check(wrong),
            Self::Schema(args) => args.check(wrong),
            Self::MockWebhook(args) => args.check(wrong),
            Self::Flow(args) => wrong.extend(args.check().err()),
            // Those of a host's client check their token when they ask.
            Self::OpenApi(_)
            | Self::Store(_)
            | Self::Webhook(_)
            | Self::Delivery(_)
            | Self::DeadLetters(_)
            | Self::OperatorWebhook(_)
            | Self::Receipt(_)
            | Self::Plugin(_)
            | Self::CompilePlugin(_) => {}
        }
    }

    /// True for commands that run until a signal comes; their work may be traced.
    pub(crate) fn is_service(&self) -> bool {
        matches!(self, Self::Serve(_) | Self::Worker(_) | Self::Scheduler(_))
    }

    /// Does it.
    pub(crate) async fn run(self, format: Format, style: Style) -> anyhow::Result<()> {
        match self {
            Self::Serve(args) => serve::run(*args, style).await,
            Self::Worker(args) => worker::run(*args).await,
            Self::Scheduler(args) => scheduler::run(*args, format).await,
            Self::Migrate(args) => migrate::run(args).await,
            Self::Key(args) => api_key::run(args, format).await,
            Self::Keys(args) => keys::run(args, format).await,
            Self::Export(args) => export::run(*args).await,
            Self::Backup(args) => backup::run(*args, format).await,
            Self::Copy(args) => copy::run(*args, format).await,
            Self::Schema(args) => schema::run(&args),
            Self::OpenApi(_) => {
                openapi::run();
                Ok(())
            }
            Self::MockWebhook(args) => mock_webhook::run(args, style).await,
            Self::Flow(args) => flow::run(args, format).await,
            Self::Store(args) => store::run(*args, format).await,
            Self::Webhook(args) => webhook::run(args, format).await,
            Self::Delivery(args) => delivery::run(args, format).await,
            Self::DeadLetters(args) => dead_letters::run(*args, format).await,
            Self::OperatorWebhook(args) => operator_webhook::run(args, format).await,
            Self::Receipt(args) => receipt::run(*args, format).await,
            Self::Plugin(args) => plugin::run(*args, format).await,
            Self::CompilePlugin(args) => compile_plugin::run(&args),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
