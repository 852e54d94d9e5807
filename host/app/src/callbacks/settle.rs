//! Settling: what came of sends is written in batches, behind the fence.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tracing::{info, warn};
use wharf_domain::{DeliveryId, DeliveryState, NotSent, SendOutcome, Settled, Time, settle};
use wharf_queue::Queue;
use wharf_store::{
    StoreError,
    deliveries::{self, Attempt, Claimed, SettledDelivery},
};

use super::{MAX_BATCH, give_back::GiveBack, health};
use crate::{App, failpoint};

/// Pause before attempts are settled again that the database did not take.
const RESETTLE: Duration = Duration::from_millis(100);
/// Reports that wait for the settler. Beyond it sends wait to report, and with them their places.
const MAX_REPORTS: usize = 4 * MAX_BATCH;

/// The end of a claimed delivery.
pub(super) enum Ended {
    /// The receiver was asked.
    Sent(Report),
    /// The host itself could not ask.
    NotSent(Claimed, NotSent),
}

/// An attempt that ended.
pub(super) struct Report {
    pub(super) claimed: Claimed,
    pub(super) outcome: SendOutcome,
    pub(super) attempt: Attempt,
    /// The error in the operator's words, where clients are told less.
    pub(super) cause: Option<String>,
}

/// The way to the task that settles: reports go in, deliveries that are not in flight any more come out.
pub(super) struct Settler {
    reports: mpsc::Sender<Ended>,
    settled: mpsc::UnboundedReceiver<Claimed>,
}

impl Settler {
    /// Starts the task. It settles everything that has gathered at a time.
    pub(super) fn start(app: &App) -> Self {
        let (reports, mut inbox) = mpsc::channel::<Ended>(MAX_REPORTS);
        // No bound is needed: it holds at most what is in flight.
        let (ended, settled) = mpsc::unbounded_channel();
        let app = app.clone();
        tokio::spawn(async move {
            // While one batch commits the next one gathers, so that slow disks make batches larger.
            let mut batch = Vec::with_capacity(MAX_BATCH);
            let mut give_back = GiveBack::default();
            while inbox.recv_many(&mut batch, MAX_BATCH).await > 0 {
                let (mut reports, not_sent) = sorted(&mut batch);
                give_back.give_back(&app, &not_sent).await;
                settle_batch(&app, &mut reports).await;
                let reported = reports.into_iter().map(|report| report.claimed);
                for claimed in reported.chain(not_sent.into_iter().map(|(claimed, _)| claimed)) {
                    // Fails only while the worker is being dropped.
                    let _ = ended.send(claimed);
                }
            }
        });
        Self { reports, settled }
    }

    /// The way in, for a send.
    pub(super) fn reports(&self) -> mpsc::Sender<Ended> {
        self.reports.clone()
    }

    /// The next delivery that was settled, or given up. Safe to cancel.
    pub(super) async fn settled(&mut self) -> Option<Claimed> {
        self.settled.recv().await
    }

    /// Settles what was reported. No send may be left.
    pub(super) async fn close(mut self) {
        drop(self.reports);
        while self.settled.recv().await.is_some() {}
    }
}

fn sorted(batch: &mut Vec<Ended>) -> (Vec<Report>, Vec<(Claimed, NotSent)>) {
    let (mut reports, mut not_sent) = (Vec::new(), Vec::new());
    for ended in batch.drain(..) {
        match ended {
            Ended::Sent(report) => reports.push(report),
            Ended::NotSent(claimed, why) => not_sent.push((claimed, why)),
        }
    }
    (reports, not_sent)
}

async fn settle_batch(app: &App, reports: &mut [Report]) {
    if reports.is_empty() {
        return;
    }
    if let Err(error) = health::forgive_former_urls(app, reports).await {
        let error = &error as &dyn std::error::Error;
        warn!(
            error,
            "endpoints cannot be looked at; \"gone\" counts as it was said"
        );
    }
    let reports = &*reports;
    let now = app.0.clock.now();
    let settled: Vec<SettledDelivery> = reports
        .iter()
        .map(|report| decide(app, report, now))
        .collect();
    let Some(held) = write_patiently(app, reports, &settled, now).await else {
        return;
    };
    for (report, settled) in reports.iter().zip(&settled) {
        tell(app, report, settled, held.contains(&settled.fence.id), now);
    }
    info!(
        deliveries = settled.len(),
        settled = held.len(),
        "callback_job_completed"
    );
}

fn decide(app: &App, report: &Report, now: Time) -> SettledDelivery {
    let attempt_number = report.claimed.attempts_before + 1;
    // A delivery that was sent again on request has its whole schedule before it.
    let counted = attempt_number - report.claimed.schedule_base;
    let schedule = &app.0.settings.callbacks.schedule;
    let settled = settle(
        counted,
        report.outcome,
        schedule,
        now,
        crate::entropy::fraction(),
    );
    let (state, due_at) = match settled {
        Settled::Done => (DeliveryState::Success, None),
        Settled::RetryAt(at) => (DeliveryState::Pending, Some(at)),
        Settled::Dead => (DeliveryState::Failed, None),
    };
    SettledDelivery {
        fence: report.claimed.fence,
        event_id: report.claimed.event_id,
        attempt_number,
        state,
        due_at,
        attempt: report.attempt.clone(),
    }
}

/// The answers are in our hands: they are kept until the database takes them, or the leases end and the deliveries are
/// sent once more (`None`).
async fn write_patiently(
    app: &App,
    reports: &[Report],
    settled: &[SettledDelivery],
    now: Time,
) -> Option<Vec<DeliveryId>> {
    let began = Instant::now();
    loop {
        match write(app, reports, settled, now).await {
            Ok(held) => return Some(held),
            Err(error) if began.elapsed() < app.0.settings.lease => {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "attempts could not be settled; trying again"
                );
                // After the lease others may send it, so keeping the answer longer would be of no use.
                tokio::time::sleep(RESETTLE).await;
            }
            Err(error) => {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "attempts not settled; leases will end"
                );
                return None;
            }
        }
    }
}

/// Returns the deliveries whose fence still held.
async fn write(
    app: &App,
    reports: &[Report],
    settled: &[SettledDelivery],
    now: Time,
) -> Result<Vec<DeliveryId>, StoreError> {
    let mut tx = app.0.ledger.begin().await?;
    let held = deliveries::settle(&mut tx, settled, now).await?;
    // In the same transaction: a crash must not count an attempt without its effect on the endpoint.
    let health = health::update(app, &mut tx, reports, now).await?;
    failpoint::pass("settle.commit.before");
    tx.commit().await?;
    failpoint::pass("settle.commit.after");
    // Told after the commit, so that the log names nothing that was rolled back.
    for (endpoint, reason) in health.disabled {
        warn!(endpointId = %endpoint, reason, "webhook_disabled");
    }
    if health.told > 0 {
        app.0.doorbell.ring(Queue::Callback, "endpoint.disabled");
    }
    Ok(held)
}

/// Logs an attempt with the original's fields, and counts it.
fn tell(app: &App, report: &Report, settled: &SettledDelivery, held: bool, now: Time) {
    let Report {
        claimed,
        outcome,
        attempt,
        cause: _,
    } = report;
    if !held {
        warn!(deliveryId = %claimed.fence.id, "stale_write_refused: another worker has taken this delivery over");
    }
    let accepted = settled.state == DeliveryState::Success;
    info!(
        event = claimed.event, outboxId = %claimed.event_id, organizationId = claimed.organization_id,
        storeId = %claimed.store_id, endpointId = %claimed.endpoint_id, request_id = claimed.request_id,
        attempt = settled.attempt_number,
        endpointCount = 1, successCount = u8::from(accepted), failCount = u8::from(!accepted),
        nextRetryAt = settled.due_at.map(tracing::field::display), status = attempt.http_status,
        latencyMs = attempt.latency.as_millis(), error = attempt.error, "callback_delivery"
    );
    let metrics = &app.0.metrics;
    metrics.delivery(claimed, *outcome, attempt, settled.state, held, now);
}
