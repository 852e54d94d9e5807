//! Figures that are read when somebody scrapes: the queues from the database, the connections from the pools.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use metrics::Gauge;
use tokio::sync::Mutex;
use wharf_domain::Time;
use wharf_store::queues::{self, Backlog, Backlogs};

use super::{GATHER_EVERY, catalogue, registry::Registry};
use crate::{App, Inner};

/// Figures of the queues are read anew after this long, however often anybody asks.
const FRESH: Duration = Duration::from_secs(1);
/// A scrape must not wait longer for the database: most of them give up after 10 s.
const PATIENCE: Duration = Duration::from_secs(2);

/// The last reading of the queues and its time; `None` in it if the database did not answer.
#[derive(Default)]
pub(super) struct Readings(Mutex<Option<(Instant, Option<Backlogs>)>>);

/// The gauges of one queue.
pub(super) struct QueueGauges {
    depth: Gauge,
    oldest: Gauge,
}

impl QueueGauges {
    pub(super) fn new(registry: &Registry, queue: &str) -> Self {
        Self {
            depth: registry.gauge(&catalogue::QUEUE_DEPTH, &[("lane", queue)]),
            oldest: registry.gauge(&catalogue::QUEUE_OLDEST, &[("lane", queue)]),
        }
    }

    /// Unknown figures are NaN: that is no number, so that no alert takes it for an empty queue.
    fn set(&self, backlog: Option<Backlog>, now: Time) {
        let Some(Backlog { depth, oldest }) = backlog else {
            self.depth.set(f64::NAN);
            return self.oldest.set(f64::NAN);
        };
        #[expect(clippy::cast_precision_loss, reason = "counted up to ten thousand")]
        self.depth.set(depth as f64);
        self.oldest
            .set(oldest.map_or(0.0, |since| now.since(since).as_secs_f64()));
    }
}

impl App {
    /// The figures of this process in Prometheus' text format, version 0.0.4.
    pub async fn scrape(&self) -> String {
        let metrics = &self.0.metrics;
        let backlogs = self.backlogs().await;
        metrics
            .database_up
            .set(if backlogs.is_some() { 1.0 } else { 0.0 });
        let now = self.0.clock.now();
        let by_queue = backlogs.map(|all| [all.sync, all.events, all.deliveries]);
        for (at, queue) in metrics.queues.iter().enumerate() {
            queue.set(by_queue.map(|all| all[at]), now);
        }
        // Unknown is no number, as above.
        #[expect(clippy::cast_precision_loss, reason = "counted up to ten thousand")]
        let waiting = backlogs.map_or(f64::NAN, |all| all.waiting as f64);
        metrics.events_waiting.set(waiting);
        #[expect(clippy::cast_precision_loss, reason = "counted up to some hundred")]
        metrics
            .plugins_loading
            .set(self.0.engine.loading().len() as f64);
        for figures in self.0.ledger.pools() {
            let pool = ("pool", figures.pool);
            for (state, number) in [("used", figures.used), ("idle", figures.idle)] {
                let connections = metrics
                    .registry
                    .gauge(&catalogue::DATABASE_CONNECTIONS, &[pool, ("state", state)]);
                connections.set(f64::from(number));
            }
            metrics
                .registry
                .gauge(&catalogue::DATABASE_CONNECTIONS_MAX, &[pool])
                .set(f64::from(figures.most));
        }
        metrics.registry.text()
    }

    /// Reads the queues at most once a second. Scrapes that come meanwhile wait for that reading.
    async fn backlogs(&self) -> Option<Backlogs> {
        // Held over the reading, so that many scrapers make one query.
        let mut last = self.0.metrics.readings.0.lock().await;
        if let Some((read_at, backlogs)) = *last
            && read_at.elapsed() < FRESH
        {
            return backlogs;
        }
        let reading = async {
            let mut conn = self.0.ledger.read().await?;
            queues::backlogs(&mut conn, self.0.clock.now()).await
        };
        let backlogs = match tokio::time::timeout(PATIENCE, reading).await {
            Ok(Ok(backlogs)) => Some(backlogs),
            Ok(Err(error)) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the queues cannot be looked at"
                );
                None
            }
            Err(_) => {
                tracing::warn!("the queues cannot be looked at within {PATIENCE:?}");
                None
            }
        };
        // A failure is kept as well: a database that is away is asked once a second, whoever scrapes.
        *last = Some((Instant::now(), backlogs));
        backlogs
    }
}

/// Sums up histograms for as long as the host lives, also where nobody scrapes.
pub(crate) fn gather(host: &Arc<Inner>) {
    // Weak: this task must not keep a host alive that everybody else has dropped.
    let host = Arc::downgrade(host);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(GATHER_EVERY).await;
            let Some(host) = host.upgrade() else { return };
            host.metrics.registry.gather();
        }
    });
}
