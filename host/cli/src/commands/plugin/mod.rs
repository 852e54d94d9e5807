//! `wharf plugin`: for authors, over files; for operators, over a running host.

mod author;
mod inspect;
mod list;
mod new;
mod operate;
mod remote;
mod run;

use clap::{Args, Subcommand};

use crate::{logging::Level, output::Format};

/// `wharf plugin`.
#[derive(Args)]
#[command(after_help = "\
Authors work on files:       new, check, run, bench, inspect FILE, pack
Operators ask a host (--url): list, inspect NAME, push, activate, rollback, disable, enable, quarantine, release

Exit codes: 0 done, and a checked plugin passed; 1 not; 2 called wrongly.")]
pub(crate) struct PluginArgs {
    #[command(subcommand)]
    command: PluginCommand,
}

#[derive(Subcommand)]
enum PluginCommand {
    /// Start a plugin in Rust: a folder that builds and passes at once
    New(new::NewArgs),
    /// Try a plugin against the contract's laws and its own vectors, as a host does before it serves
    Check(author::CheckArgs),
    /// Ask a plugin one question
    Run(run::RunArgs),
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
    Activate(operate::ActivateArgs),
    /// Go back to the revision that served before
    Rollback(operate::RollbackArgs),
    /// Switch a plugin off; its work waits
    Disable(operate::DisableArgs),
    /// Switch a plugin on again
    Enable(operate::EnableArgs),
    /// Put a revision aside; the one before takes over
    Quarantine(operate::QuarantineArgs),
    /// Let a revision out of quarantine
    Release(operate::ReleaseArgs),
}

impl PluginArgs {
    /// An author who runs a plugin wants to read what it logs.
    pub(crate) fn default_level(&self) -> Level {
        if matches!(self.command, PluginCommand::Run(_)) {
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
        PluginCommand::Run(args) => run::run(args, format).await,
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
