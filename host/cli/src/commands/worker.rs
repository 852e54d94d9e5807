//! `wharf worker`: one kind of worker as a process of its own.

use clap::{Args, ValueEnum};

use super::serve::{Role, serve_roles};
use crate::settings::{Settings, database_help, encryption_key_help, service_help};

/// `wharf worker`.
#[derive(Args)]
#[command(after_help = concat!("\
Examples:
  wharf worker sync        asks marketplaces again about logs that are due
  wharf worker callback    sends webhooks", database_help!(), encryption_key_help!(),
  service_help!()))]
pub(crate) struct WorkerArgs {
    /// Which worker
    kind: Kind,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Sync,
    Callback,
}

/// Works until a signal comes.
pub(crate) async fn run(args: WorkerArgs) -> anyhow::Result<()> {
    let role = match args.kind {
        Kind::Sync => Role::SyncWorker,
        Kind::Callback => Role::CallbackWorker,
    };
    serve_roles(&[role], &args.settings).await
}
