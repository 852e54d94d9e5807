use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What shells answer for a program that was interrupted.
const INTERRUPTED: i32 = 130;

/// A token that is cancelled by SIGTERM or SIGINT (Ctrl-C). A second signal ends the process at once.
///
/// # Errors
/// If the system does not hand over its signals.
pub(crate) fn on_signal() -> anyhow::Result<CancellationToken> {
    let terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be listened for")?;
    let interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be listened for")?;
    let stop = CancellationToken::new();
    tokio::spawn(follow(terminate, interrupt, stop.clone()));
    Ok(stop)
}

async fn follow(mut terminate: Signal, mut interrupt: Signal, stop: CancellationToken) {
    next(&mut terminate, &mut interrupt).await;
    tracing::info!("stopping: what is in flight is finished first");
    stop.cancel();
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
