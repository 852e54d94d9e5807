//! Callbacks: events become deliveries, deliveries are sent, attempts are settled.
//!
//! One loop claims and starts; sends run beside it, each with nothing held but its lease; what they report is settled
//! in batches behind the fence. The loop never waits for a receiver.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt, stream};
use tokio::{sync::mpsc, task::JoinSet, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, warn};
use uuid::Uuid;
use wharf_domain::{
    DeliveryId, DeliveryState, EndpointId, Event, Health, SendOutcome, Settled, Time, settle,
};
use wharf_engine::Fault;
use wharf_queue::Queue;
use wharf_store::{
    StoreError, Tx,
    deliveries::{self, Attempt, Claimed, Fence, SettledDelivery},
    endpoints::{self, Listening},
    outbox::{self, FanOut, Message, NewDelivery},
};

use crate::{
    App, AppError, Scheduled, entropy::new_id, failpoint, metrics::Leased, retention, trace,
    turns::Turns,
};

/// Rows of one claim or one settling: beyond it a transaction grows longer and not more efficient.
const BATCH: usize = 64;
/// Events of a batch that are shaped at a time.
const SHAPINGS: usize = 8;
/// Endpoints looked at per claim.
const ENDPOINT_QUEUES: i64 = 64;
/// How soon an event is shaped again whose shaper was out of service; doubled up to the longest.
const FIRST_RESHAPE: Duration = Duration::from_secs(1);
const MAX_RESHAPE: Duration = Duration::from_secs(60);

/// Pause before attempts are settled again that the database did not take.
const RESETTLE: Duration = Duration::from_millis(100);

/// A send that ended.
struct Report {
    claimed: Claimed,
    outcome: SendOutcome,
    attempt: Attempt,
}

/// Why an event has no body.
pub(crate) enum Unshaped {
    /// The shaper will never take it.
    Refused(String),
    /// The shaper cannot be asked now.
    OutOfService(String),
}

/// What the worker's loop remembers.
struct Desk {
    turns: Turns,
    /// Where the walk over the endpoints stands.
    after: EndpointId,
    /// Leases to prolong.
    held: HashMap<DeliveryId, Fence>,
}

impl App {
    /// One pass of the callback scheduler: rings if anything is due.
    pub async fn schedule_callbacks(&self) -> Result<Scheduled, AppError> {
        const MAX: i64 = 1_000;
        failpoint::pass("callback.sweep.before");
        let now = self.0.clock.now();
        let mut conn = self.0.ledger.read().await?;
        let events = outbox::count_due(&mut conn, MAX, now).await?;
        let due = events + deliveries::count_due(&mut conn, MAX, now).await?;
        if due > 0 {
            self.0.doorbell.ring(Queue::Callback, "due");
        }
        failpoint::pass("callback.sweep.after");
        Ok(Scheduled {
            scanned: u64::try_from(due).unwrap_or(0),
            enqueued: u64::from(due > 0),
        })
    }

    /// Rings every second while anything is due, and forgets what was finished long ago. Any number may run. Returns
    /// when `stop` is cancelled.
    pub async fn run_callback_scheduler(&self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(self.0.settings.poll);
        let mut cleanings = tokio::time::interval(retention::INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        cleanings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let done = tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => self.schedule_callbacks().await.map(drop),
                _ = cleanings.tick() => self.forget_finished().await.map(drop),
            };
            if let Err(error) = done {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "callback scheduling failed; trying again"
                );
            }
        }
    }

    /// Sends what is due. When `stop` is cancelled it claims nothing more, sees the sends in flight to their end,
    /// settles them and returns.
    pub async fn run_callback_worker(&self, stop: CancellationToken) {
        let settings = &self.0.settings;
        let mut listener = self.0.doorbell.listener(Queue::Callback);
        let (settler, settled) = self.start_settler();
        let mut settled = settled;
        let mut sends = JoinSet::new();
        let mut renewals = tokio::time::interval(settings.lease / 3);
        renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut desk = Desk {
            turns: Turns::new(
                settings.callbacks.concurrency,
                settings.callbacks.per_endpoint,
            ),
            after: EndpointId(Uuid::nil()),
            held: HashMap::new(),
        };
        while !stop.is_cancelled() {
            let worked = match self.take_turn(&mut desk, &mut sends, &settler).await {
                Ok(worked) => worked,
                Err(error) => {
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "deliveries cannot be claimed; trying again"
                    );
                    tokio::select! { () = stop.cancelled() => {} () = tokio::time::sleep(settings.poll) => {} }
                    false
                }
            };
            while let Ok(ended) = settled.try_recv() {
                desk.end(ended);
            }
            while sends.try_join_next().is_some() {}
            if renewals.tick().now_or_never().is_some() {
                self.renew_leases(&desk).await;
            }
            if worked {
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                Some(ended) = settled.recv() => desk.end(ended),
                _ = renewals.tick() => self.renew_leases(&desk).await,
                _ = listener.wait(settings.poll) => {}
            }
        }
        while sends.join_next().await.is_some() {}
        drop(settler);
        while settled.recv().await.is_some() {}
    }

    /// Fans out a batch of events and starts a batch of sends. Answers whether there was anything to do.
    async fn take_turn(
        &self,
        desk: &mut Desk,
        sends: &mut JoinSet<()>,
        settler: &mpsc::Sender<Report>,
    ) -> Result<bool, StoreError> {
        // At the same time: what is fanned out now is claimed in the next turn.
        let (fanned_out, claimed) = tokio::join!(self.fan_out(), self.claim_deliveries(desk));
        let claimed = claimed?;
        let any_claimed = !claimed.is_empty();
        for delivery in claimed {
            desk.begin(&delivery);
            let (app, settler) = (self.clone(), settler.clone());
            sends.spawn(async move {
                let key = &app.0.settings.encryption_key;
                let span = trace::delivery(&delivery);
                let sending = app.0.sender.send(&delivery, key, app.0.clock.now());
                let (outcome, attempt) = sending.instrument(span.clone()).await;
                trace::delivered(&span, &attempt);
                // The settler outlives the sends.
                let _ = settler
                    .send(Report {
                        claimed: delivery,
                        outcome,
                        attempt,
                    })
                    .await;
            });
        }
        Ok(fanned_out? > 0 || any_claimed)
    }

    /// Turns due events into messages and deliveries: a batch of events in one transaction.
    async fn fan_out(&self) -> Result<usize, StoreError> {
        let now = self.0.clock.now();
        let limit = i64::try_from(BATCH).unwrap_or(i64::MAX);
        let claimed = outbox::claim(
            &mut self.0.ledger.write().await?,
            self.0.settings.lease,
            limit,
            now,
        )
        .await?;
        if claimed.is_empty() {
            return Ok(0);
        }
        let wanted: BTreeSet<(&str, &str)> = claimed
            .iter()
            .map(|c| (c.event.organization_id.as_str(), c.event.kind.as_str()))
            .collect();
        let wanted: Vec<_> = wanted.into_iter().collect();
        let listening = endpoints::listening(&mut self.0.ledger.read().await?, &wanted).await?;
        let mut events = Vec::new();
        let listening = &listening;
        let shapings = claimed.into_iter().map(|claimed| async move {
            let (organization, kind) =
                (claimed.event.organization_id.as_str(), &claimed.event.kind);
            let theirs = listening
                .iter()
                .filter(|l| l.organization_id == organization && &l.event == kind);
            let theirs: Vec<&Listening> = theirs.collect();
            let span = trace::fan_out(&claimed);
            self.shape_for(claimed, &theirs, now).instrument(span).await
        });
        let mut shapings = stream::iter(shapings).buffer_unordered(SHAPINGS);
        while let Some(event) = shapings.next().await {
            events.push(event);
        }
        let mut tx = self.0.ledger.begin().await?;
        let written = outbox::fan_out(&mut tx, &events, now).await?;
        failpoint::pass("fanout.commit.before");
        tx.commit().await?;
        failpoint::pass("fanout.commit.after");
        self.0.metrics.fanned_out(&events, written);
        Ok(events.len())
    }

    /// Shapes an event once per shaper that its endpoints want. Endpoints whose shaper is out of service get their
    /// delivery when it is back; the others do not wait for it.
    async fn shape_for(
        &self,
        claimed: outbox::Claimed,
        endpoints: &[&Listening],
        now: Time,
    ) -> FanOut {
        let event = &claimed.event;
        let (mut messages, mut deliveries, mut again) = (Vec::new(), Vec::new(), None);
        let shapers: BTreeSet<&str> = endpoints
            .iter()
            .map(|endpoint| endpoint.shaper.as_str())
            .collect();
        for shaper in shapers {
            let dead = match self.shape(shaper, event).await {
                Ok(message) => {
                    messages.push(message);
                    None
                }
                Err(Unshaped::Refused(why)) => Some(why),
                Err(Unshaped::OutOfService(why)) => {
                    let doublings = u32::try_from(claimed.attempt.clamp(1, 7) - 1).unwrap_or(0);
                    let wait = (FIRST_RESHAPE * 2u32.pow(doublings)).min(MAX_RESHAPE);
                    warn!(outboxId = %event.id, shaper, why, "event cannot be shaped now");
                    again = Some((now + wait, why));
                    continue;
                }
            };
            deliveries.extend(
                endpoints
                    .iter()
                    .filter(|endpoint| endpoint.shaper == shaper)
                    .map(|endpoint| NewDelivery {
                        id: DeliveryId(new_id(now)),
                        endpoint_id: endpoint.id,
                        shaper: shaper.into(),
                        dead: dead.clone(),
                    }),
            );
        }
        FanOut {
            claimed,
            messages,
            deliveries,
            again,
        }
    }

    /// The event's body as this shaper makes it.
    pub(crate) async fn shape(&self, shaper: &str, event: &Event) -> Result<Message, Unshaped> {
        let called = self
            .call_plugin("shape", self.0.engine.shape(shaper, event))
            .await;
        match called.result {
            Ok(message) => Ok(Message {
                shaper: shaper.to_owned(),
                plugin_digest: called
                    .digest
                    .map(|digest| digest.to_string())
                    .unwrap_or_default(),
                content_type: message.content_type,
                headers: message.headers,
                body: message.body,
            }),
            Err(Fault::Refused(why)) => Err(Unshaped::Refused(format!(
                "the shaper refused the event: {why}"
            ))),
            Err(fault) => Err(Unshaped::OutOfService(format!("shaper {shaper}: {fault}"))),
        }
    }

    async fn claim_deliveries(&self, desk: &mut Desk) -> Result<Vec<Claimed>, StoreError> {
        if desk.turns.free() == 0 {
            return Ok(Vec::new());
        }
        let now = self.0.clock.now();
        let endpoint_queues = deliveries::endpoint_queues(
            &mut self.0.ledger.read().await?,
            desk.after,
            ENDPOINT_QUEUES,
            now,
        )
        .await?;
        let last_page = i64::try_from(endpoint_queues.len()).unwrap_or(i64::MAX) < ENDPOINT_QUEUES;
        desk.after = match endpoint_queues.last() {
            Some(endpoint_queue) if !last_page => endpoint_queue.endpoint_id,
            _ => EndpointId(Uuid::nil()),
        };
        let shares = desk.turns.share(&endpoint_queues, BATCH);
        if shares.is_empty() {
            // Nothing here for us; the next page may have something, the loop's next round looks there.
            return if last_page {
                Ok(Vec::new())
            } else {
                Box::pin(self.claim_deliveries(desk)).await
            };
        }
        let settings = &self.0.settings;
        let mut tx = self.0.ledger.begin().await?;
        let claimed =
            deliveries::claim(&mut tx, &shares, &settings.worker_name, settings.lease, now).await?;
        failpoint::pass("callback.claim.before");
        tx.commit().await?;
        failpoint::pass("callback.claim.after");
        Ok(claimed)
    }

    async fn renew_leases(&self, desk: &Desk) {
        let fences: Vec<Fence> = desk.held.values().copied().collect();
        if fences.is_empty() {
            return;
        }
        failpoint::pass("callback.renewal.before");
        let until = self.0.clock.now() + self.0.settings.lease;
        let renewed =
            async { deliveries::renew(&mut self.0.ledger.write().await?, &fences, until).await };
        match renewed.await {
            Ok(kept) => {
                let lost = fences.len() - kept.len();
                self.0.metrics.leases(Leased::Deliveries, kept.len(), lost);
                if lost > 0 {
                    warn!(lost, "leases were lost");
                }
                failpoint::pass("callback.renewal.after");
            }
            Err(error) => warn!(
                error = &error as &dyn std::error::Error,
                "leases could not be renewed"
            ),
        }
    }

    /// Settles what the sends report, everything that has gathered at a time, and tells the loop which ended.
    fn start_settler(&self) -> (mpsc::Sender<Report>, mpsc::UnboundedReceiver<Claimed>) {
        let (reports, mut inbox) = mpsc::channel::<Report>(4 * BATCH);
        let (ended, done) = mpsc::unbounded_channel();
        let app = self.clone();
        tokio::spawn(async move {
            let mut batch = Vec::with_capacity(BATCH);
            while inbox.recv_many(&mut batch, BATCH).await > 0 {
                app.settle_batch(&batch).await;
                for report in batch.drain(..) {
                    let _ = ended.send(report.claimed);
                }
            }
        });
        (reports, done)
    }

    async fn settle_batch(&self, reports: &[Report]) {
        let now = self.0.clock.now();
        let settled: Vec<SettledDelivery> = reports
            .iter()
            .map(|report| self.settled(report, now))
            .collect();
        let began = Instant::now();
        let held = loop {
            match self.write_settled(reports, &settled, now).await {
                Ok(held) => break held,
                // The answers are in our hands: keep them until the database takes them, or the leases end and the
                // deliveries are sent once more.
                Err(error) if began.elapsed() < self.0.settings.lease => {
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "attempts could not be settled; trying again"
                    );
                    tokio::time::sleep(RESETTLE).await;
                }
                Err(error) => {
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "attempts not settled; leases will end"
                    );
                    return;
                }
            }
        };
        for (report, settled) in reports.iter().zip(&settled) {
            let held = held.contains(&settled.fence.id);
            log_delivery(report, settled, held);
            self.0.metrics.delivery(
                &report.claimed,
                report.outcome,
                &report.attempt,
                settled.state,
                held,
                now,
            );
        }
        info!(
            deliveries = settled.len(),
            settled = held.len(),
            "callback_job_completed"
        );
    }

    fn settled(&self, report: &Report, now: Time) -> SettledDelivery {
        let attempt_number = report.claimed.attempts_before + 1;
        let schedule = &self.0.settings.callbacks.schedule;
        let counted = attempt_number - report.claimed.schedule_base;
        let (state, due_at) = match settle(counted, report.outcome, schedule, now, fastrand::f64())
        {
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

    async fn write_settled(
        &self,
        reports: &[Report],
        settled: &[SettledDelivery],
        now: Time,
    ) -> Result<Vec<DeliveryId>, StoreError> {
        let mut tx = self.0.ledger.begin().await?;
        let held = deliveries::settle(&mut tx, settled, now).await?;
        let disabled = self.nurse_endpoints(&mut tx, reports, now).await?;
        failpoint::pass("settle.commit.before");
        tx.commit().await?;
        failpoint::pass("settle.commit.after");
        for (endpoint, reason) in disabled {
            warn!(endpointId = %endpoint, reason, "webhook_disabled");
        }
        Ok(held)
    }
}

/// What a batch says of one endpoint.
#[derive(Default)]
struct Showing {
    succeeded: bool,
    failed: i64,
    gone: bool,
    was_failing: bool,
}

impl App {
    /// Endpoints that do well and did before cost nothing here.
    async fn nurse_endpoints(
        &self,
        tx: &mut Tx,
        reports: &[Report],
        now: Time,
    ) -> Result<Vec<(EndpointId, String)>, StoreError> {
        let mut showings = BTreeMap::<EndpointId, Showing>::new();
        for Report {
            claimed, outcome, ..
        } in reports
            .iter()
            .filter(|report| report.claimed.endpoint_is_active)
        {
            let showing = showings.entry(claimed.endpoint_id).or_default();
            showing.was_failing |= claimed.endpoint_is_failing;
            match outcome {
                SendOutcome::Accepted => showing.succeeded = true,
                SendOutcome::Failed { .. } | SendOutcome::Hopeless => showing.failed += 1,
                SendOutcome::Gone => showing.gone = true,
            }
        }
        showings.retain(|_, showing| showing.failed > 0 || showing.gone || showing.was_failing);
        if showings.is_empty() {
            return Ok(Vec::new());
        }
        let limit = self.0.settings.callbacks.disable_after;
        let judge = |id, was: Health| {
            let showing = &showings[&id];
            let is = was.after(showing.succeeded, showing.failed, now);
            let reason = match is.failing_since {
                _ if showing.gone => Some("the receiver answered 410 Gone".to_owned()),
                Some(since) if is.is_beyond_hope(limit, now) => Some(format!(
                    "no attempt has succeeded since {since}: {} failed",
                    is.failures
                )),
                _ => None,
            };
            (is, reason)
        };
        endpoints::nurse(tx, showings.keys().copied(), judge, now).await
    }
}

impl Desk {
    fn begin(&mut self, claimed: &Claimed) {
        self.turns
            .begin(claimed.endpoint_id, &claimed.organization_id);
        self.held.insert(claimed.fence.id, claimed.fence);
    }

    fn end(&mut self, claimed: Claimed) {
        self.turns
            .end(claimed.endpoint_id, &claimed.organization_id);
        self.held.remove(&claimed.fence.id);
    }
}

/// The original's fields, for one attempt to one endpoint.
fn log_delivery(report: &Report, settled: &SettledDelivery, held: bool) {
    let Report {
        claimed, attempt, ..
    } = report;
    if !held {
        warn!(deliveryId = %claimed.fence.id, "stale_write_refused: another worker has taken this delivery over");
    }
    let accepted = settled.state == DeliveryState::Success;
    info!(
        event = claimed.event, outboxId = %claimed.event_id, organizationId = claimed.organization_id,
        storeId = %claimed.store_id, endpointId = %claimed.endpoint_id, attempt = settled.attempt_number,
        endpointCount = 1, successCount = u8::from(accepted), failCount = u8::from(!accepted),
        nextRetryAt = settled.due_at.map(tracing::field::display), status = attempt.http_status,
        latencyMs = attempt.latency.as_millis(), error = attempt.error, "callback_delivery"
    );
}
