//! `wharf scheduler`: one pass of a scheduler, or a process that goes on.

use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use wharf_app::{CallbackScheduler, Scheduled, Swept, SyncScheduler};

use super::serve::{Role, activity, serve_roles};
use crate::{
    output::{self, Format},
    settings::{Settings, database_help, encryption_key_help, service_help},
    wiring::{self, Schema},
};

/// `wharf scheduler`.
#[derive(Args)]
#[command(after_help = concat!("\
Examples:
  wharf scheduler sync               one pass over the stores
  wharf scheduler callback --loop    again and again, until a signal comes", database_help!(), encryption_key_help!(),
  service_help!()))]
pub(crate) struct SchedulerArgs {
    /// Which scheduler
    kind: Kind,
    #[command(flatten)]
    repeat: Repeat,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Sync,
    Callback,
}

#[derive(Args)]
#[group(multiple = false)]
struct Repeat {
    /// One pass (the default)
    #[arg(long)]
    once: bool,
    /// Pass after pass
    #[arg(long = "loop")]
    again: bool,
}

/// The time that a single pass waits for its news to leave.
const MAX_FLUSH: Duration = Duration::from_secs(2);

/// Looks once or until a signal comes.
pub(crate) async fn run(args: SchedulerArgs, format: Format) -> anyhow::Result<()> {
    let role = match args.kind {
        Kind::Sync => Role::SyncScheduler,
        Kind::Callback => Role::CallbackScheduler,
    };
    if args.repeat.again {
        return serve_roles(&[role], &args.settings).await;
    }
    let host = wiring::open(&args.settings, Schema::Checked, &activity(&[role])).await?;
    let passed = match args.kind {
        Kind::Sync => {
            SyncScheduler::new(&host.app)
                .pass(&CancellationToken::new())
                .await?
        }
        Kind::Callback => {
            let Swept { due, .. } = CallbackScheduler::new(&host.app).step().await?;
            Scheduled {
                scanned: due,
                // One ring wakes the workers, however many are due.
                enqueued: u64::from(due > 0),
            }
        }
    };
    // The rings go out in the background, and the process ends right after this.
    host.doorbell.flush(MAX_FLUSH).await;
    host.close().await;
    if format == Format::Json {
        output::json(&json!({"scannedStores": passed.scanned, "enqueuedJobs": passed.enqueued}))?;
    }
    Ok(())
}
