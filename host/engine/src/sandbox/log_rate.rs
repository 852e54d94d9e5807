//! The rate of one plugin's log lines, over all its calls.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Lines of one plugin that are logged a second, in the long run.
const LINES_PER_SECOND: f64 = 100.0;
/// Bytes of them.
const BYTES_PER_SECOND: f64 = 64.0 * 1024.0;
/// Seconds of silence that can be made up for: one call may log 64 KiB at once, and a start or a fault is told in
/// bursts.
const BURST_SECONDS: f64 = 5.0;
/// The interval at which the host tells how much it dropped.
const TELL: Duration = Duration::from_secs(1);

/// A token bucket of lines and bytes. There is one per plugin, for all its revisions.
pub(crate) struct LogRate {
    plugin: Arc<str>,
    state: Mutex<State>,
}

struct State {
    lines: f64,
    bytes: f64,
    filled: Instant,
    dropped: Dropped,
}

/// The lines and bytes that were dropped and not told of yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Dropped {
    lines: u64,
    bytes: u64,
}

impl LogRate {
    /// Makes a full bucket.
    pub(crate) fn new(plugin: &str, now: Instant) -> Self {
        Self {
            plugin: plugin.into(),
            state: Mutex::new(State {
                lines: LINES_PER_SECOND * BURST_SECONDS,
                bytes: BYTES_PER_SECOND * BURST_SECONDS,
                filled: now,
                dropped: Dropped::default(),
            }),
        }
    }

    /// Takes a line of this length from the bucket, if it is in there.
    pub(super) fn admit(&self, bytes: usize, now: Instant) -> bool {
        let mut state = self.state();
        let passed = now.saturating_duration_since(state.filled).as_secs_f64();
        state.filled = now;
        let fill = |has: f64, rate: f64| (has + passed * rate).min(rate * BURST_SECONDS);
        (state.lines, state.bytes) = (
            fill(state.lines, LINES_PER_SECOND),
            fill(state.bytes, BYTES_PER_SECOND),
        );
        let bytes = bytes as f64;
        let admitted = state.lines >= 1.0 && state.bytes >= bytes;
        // Neither is taken where one is short: a long line that is dropped leaves room for short ones.
        if admitted {
            state.lines -= 1.0;
            state.bytes -= bytes;
        }
        admitted
    }

    /// Counts what was dropped. It is told a second later, together with what is dropped until then. Runs inside the
    /// guests' runtime.
    pub(super) fn dropped(self: &Arc<Self>, lines: u64, bytes: u64) {
        let mut state = self.state();
        let is_first = state.dropped == Dropped::default();
        state.dropped.lines += lines;
        state.dropped.bytes += bytes;
        drop(state);
        // One task at a time, however many lines are dropped: a guest must not spawn tasks by logging.
        if is_first {
            let rate = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(TELL).await;
                rate.tell();
            });
        }
    }

    fn tell(&self) {
        let Dropped { lines, bytes } = std::mem::take(&mut self.state().dropped);
        let plugin = &self.plugin;
        tracing::warn!(target: "plugin", %plugin, lines, bytes, "log over the limit dropped");
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(rate: &LogRate, bytes: usize, now: Instant) -> usize {
        (0..10_000).take_while(|_| rate.admit(bytes, now)).count()
    }

    #[test]
    fn lines_and_bytes_have_a_rate_and_a_burst() {
        let start = Instant::now();
        let rate = LogRate::new("chatty", start);
        assert_eq!(admitted(&rate, 1, start), 500);
        let later = start + Duration::from_secs(1);
        assert_eq!(admitted(&rate, 1, later), 100);
        let much_later = start + Duration::from_secs(3_600);
        assert_eq!(admitted(&rate, 4_096, much_later), 80);
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_lines_are_told_once_a_second() {
        let rate = Arc::new(LogRate::new("chatty", Instant::now()));
        (0..1_000).for_each(|_| rate.dropped(1, 10));
        let (lines, bytes) = (1_000, 10_000);
        assert_eq!(rate.state().dropped, Dropped { lines, bytes });
        tokio::time::sleep(2 * TELL).await;
        assert_eq!(rate.state().dropped, Dropped::default());
    }
}
