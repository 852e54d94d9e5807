//! Signals: the first one stops the process in two steps, a second one at once.

use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The code that shells report for a program that was interrupted.
const INTERRUPTED: i32 = 130;

/// The two steps of a stop.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shutdown {
    /// Cancelled by the signal: the process serves on, and tells load balancers that it wants no new work.
    pub(crate) draining: CancellationToken,
    /// Cancelled after the delay: what is in flight is finished and nothing more is begun.
    pub(crate) stop: CancellationToken,
}

/// Follows SIGTERM and SIGINT (Ctrl-C), with `delay` between the two steps. A second signal ends the process at once.
///
/// # Errors
/// If the system does not hand over its signals.
pub(crate) fn on_signal(delay: Duration) -> anyhow::Result<Shutdown> {
    let terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be listened for")?;
    let interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be listened for")?;
    let shutdown = Shutdown::default();
    tokio::spawn(follow(terminate, interrupt, delay, shutdown.clone()));
    Ok(shutdown)
}

async fn follow(
    mut terminate: Signal,
    mut interrupt: Signal,
    delay: Duration,
    Shutdown { draining, stop }: Shutdown,
) {
    next(&mut terminate, &mut interrupt).await;
    draining.cancel();
    tokio::spawn(async move {
        if !delay.is_zero() {
            tracing::info!(?delay, "draining: not ready any more, and serving on");
            tokio::time::sleep(delay).await;
        }
        tracing::info!("stopping: what is in flight is finished first");
        stop.cancel();
    });
    next(&mut terminate, &mut interrupt).await;
    tracing::warn!("stopped at once by a second signal");
    std::process::exit(INTERRUPTED);
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
