//! Waiting for a condition.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// Limit of a wait for something that takes well under a second. A machine on which others compile has needed more than
/// 20 s; waiting longer costs a test that passes nothing.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again and again until the answer is `Some`, and returns it.
///
/// # Errors
/// If the time is over. The message names the condition.
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
        #[allow(
            clippy::disallowed_methods,
            reason = "the one place that sleeps between looks"
        )]
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Lets a fault last this long: a stall or an outage whose length is the subject of the test.
#[allow(clippy::disallowed_methods, reason = "no condition ends an outage")]
pub async fn fault_lasts(time: Duration) {
    tokio::time::sleep(time).await;
}
