//! Signals: the first one stops the process in two steps, a second one at once.

use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The code that shells report for a program that was interrupted.
// 128 and the number of SIGINT.
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
    // Listened for before the task begins: a signal in between would end the process the hard way.
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
    // In a task of its own, so that a second signal is heard during the delay.
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
    // Nothing is given back: the leases of what was in flight run out, and others take it over.
    std::process::exit(INTERRUPTED);
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        // Supervisors send the one, terminals the other; both mean the same here.
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
