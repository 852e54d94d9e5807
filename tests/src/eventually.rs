//! Waiting for a condition.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// How long tests wait for what should take well under a second, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Asks again and again until the answer is `Some`, and returns it.
///
/// # Errors
/// When the time is over: the message names what was awaited.
pub async fn eventually<T, F>(what: &str, limit: Duration, mut look: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look().await {
            return Ok(found);
        }
        if Instant::now() > deadline {
            bail!("{what}: not within {limit:?}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
