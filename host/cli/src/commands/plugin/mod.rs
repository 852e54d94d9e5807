//! `wharf plugin`: commands of authors on files, and of operators on a running host.

mod author;
mod dev;
mod inspect;
mod list;
mod new;
mod operate;
mod question;
mod record;
mod remote;
mod run;
mod trace;

use clap::{Args, Subcommand};

use crate::{logging::Level, output::Format, settings::admin_token_help};

/// `wharf plugin`.
#[derive(Args)]
#[command(after_help = concat!("\
Authors work on files:       new, dev, check, run, record, bench, inspect FILE, pack
Operators ask a host (--url): list, inspect NAME, push, activate, rollback, disable, enable, quarantine, release

Exit codes: 0 done, and a checked plugin passed; 1 not; 2 called wrongly.

A secret is set in the environment, never by a flag, or read from the file that <NAME>_FILE names:", admin_token_help!()))]
pub(crate) struct PluginArgs {
    #[command(subcommand)]
    command: PluginCommand,
}

#[derive(Subcommand)]
enum PluginCommand {
    /// Start a plugin in Rust: a folder that builds and passes at once
    New(new::NewArgs),
    /// Run the contract checks and a plugin's own vectors, as a host does before it serves
    Check(author::CheckArgs),
    /// Build, check and push a plugin whenever its files change
    Dev(dev::DevArgs),
    /// Ask a plugin one question
    Run(run::RunArgs),
    /// Write a vector from a real call of an adapter
    Record(record::RecordArgs),
    /// Measure what a call costs, against its limits
    Bench(author::BenchArgs),
    /// Show what a plugin is: a file, or one on a host with its revisions, faults and audit
    Inspect(inspect::InspectArgs),
    /// Put version, licence and vectors into a component, ready to ship
    Pack(author::PackArgs),
    /// List the plugins of a folder, or of a host
    List(list::ListArgs),
    /// Send a component to a host; it serves once it has passed
    Push(operate::PushArgs),
    /// Let a kept revision serve
    #[command(after_help = "Example:\n  wharf plugin activate corner 4f0c2d91")]
    Activate(operate::RevisionArgs),
    /// Go back to the revision that served before
    #[command(after_help = "Example:\n  wharf plugin rollback corner")]
    Rollback(operate::NamedArgs),
    /// Disable a plugin; its work waits
    #[command(
        after_help = "Example:\n  wharf plugin disable corner --reason 'the shop moves house'"
    )]
    Disable(operate::DisableArgs),
    /// Enable a plugin again
    #[command(after_help = "Example:\n  wharf plugin enable corner")]
    Enable(operate::NamedArgs),
    /// Quarantine a revision; the one before takes over
    #[command(
        after_help = "Example:\n  wharf plugin quarantine corner 4f0c2d91 --reason 'it charges twice'"
    )]
    Quarantine(operate::QuarantineArgs),
    /// Release a revision from quarantine
    #[command(after_help = "Example:\n  wharf plugin release corner 4f0c2d91")]
    Release(operate::RevisionArgs),
}

impl PluginArgs {
    /// An author who runs a plugin wants to read what it logs.
    pub(crate) fn default_level(&self) -> Level {
        if matches!(
            self.command,
            PluginCommand::Run(_) | PluginCommand::Record(_)
        ) {
            Level::Info
        } else {
            Level::Warn
        }
    }
}

/// Does what the subcommand says.
pub(crate) async fn run(args: PluginArgs, format: Format) -> anyhow::Result<()> {
    match args.command {
        PluginCommand::New(args) => new::run(&args),
        PluginCommand::Check(args) => author::check(args, format).await,
        PluginCommand::Dev(args) => dev::run(args, format).await,
        PluginCommand::Run(args) => run::run(args, format).await,
        PluginCommand::Record(args) => record::run(args, format).await,
        PluginCommand::Bench(args) => author::bench(args, format).await,
        PluginCommand::Inspect(args) => inspect::run(args, format).await,
        PluginCommand::Pack(args) => author::pack(&args),
        PluginCommand::List(args) => list::run(args, format).await,
        PluginCommand::Push(args) => operate::push(args, format).await,
        PluginCommand::Activate(args) => operate::activate(args, format).await,
        PluginCommand::Rollback(args) => operate::rollback(args, format).await,
        PluginCommand::Disable(args) => operate::disable(args, format).await,
        PluginCommand::Enable(args) => operate::enable(args, format).await,
        PluginCommand::Quarantine(args) => operate::quarantine(args, format).await,
        PluginCommand::Release(args) => operate::release(args, format).await,
    }
}
