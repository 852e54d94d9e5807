//! The callback worker: fans out, claims and starts sends. It never waits for a receiver.

use futures::FutureExt;
use tokio::{
    task::JoinSet,
    time::{Interval, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, warn};
use wharf_domain::StepWatch;
use wharf_queue::{Listener, Queue};
use wharf_store::deliveries::Claimed;

use super::{
    claim::EndpointWalk,
    fan_out,
    in_flight::InFlight,
    send::Made,
    settle::{Ended, Report, Settler},
};
use crate::{App, AppError, Walk, trace};

/// Makes and sends deliveries. Any number may run, in any number of processes.
pub struct CallbackWorker {
    app: App,
    listener: Listener,
    endpoints: EndpointWalk,
    in_flight: InFlight,
    sends: JoinSet<()>,
    settler: Settler,
    renewals: Interval,
    steps: StepWatch,
}

/// The work of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallbackStep {
    /// Events that were fanned out.
    pub fanned_out: usize,
    /// Sends that were started.
    pub started: usize,
    /// The place in the walk over the endpoints that have something due.
    pub walk: Walk,
}

impl CallbackStep {
    /// True when the next step would find as little, unless news comes or a send ends.
    pub fn is_idle(self) -> bool {
        self.fanned_out == 0 && self.started == 0 && self.walk == Walk::Complete
    }
}

impl CallbackWorker {
    /// A worker with nothing in flight. Call it inside a tokio runtime: settling is a task of its own.
    pub fn new(app: &App) -> Self {
        let mut renewals = tokio::time::interval(app.0.settings.lease / 3);
        renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            app: app.clone(),
            // Listens before the first look: what is committed in between rings.
            listener: app.0.doorbell.listener(Queue::Callback),
            endpoints: EndpointWalk::new(),
            in_flight: InFlight::new(&app.0.settings.callbacks),
            sends: JoinSet::new(),
            settler: Settler::start(app),
            renewals,
            steps: StepWatch::new(&*app.0.clock),
        }
    }

    /// Fans out a batch of events and starts a batch of sends. Does not wait for them.
    pub async fn step(&mut self) -> Result<CallbackStep, AppError> {
        self.collect().await;
        let fair_share = self.in_flight.fair_share();
        // At the same time: what is fanned out now is claimed in the next step.
        let (fanned_out, claimed) = tokio::join!(
            fan_out::batch(&self.app),
            self.endpoints.claim(&self.app, fair_share)
        );
        let (claimed, walk) = claimed?;
        let started = claimed.len();
        // Before an error of fanning out is told: what was claimed is leased to us and must be sent.
        for delivery in claimed {
            self.start(delivery);
        }
        Ok(CallbackStep {
            fanned_out: fanned_out?,
            started,
            walk,
        })
    }

    /// Steps for ever, and waits for news where there is nothing to do. When `stop` is cancelled it claims nothing
    /// more, sees the sends in flight to their end, settles them and returns.
    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            match self.step().await {
                Ok(step) if step.is_idle() => self.wait(&stop).await,
                Ok(_) => {}
                Err(error) => {
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "deliveries cannot be claimed; trying again"
                    );
                    self.app.pause(&stop).await;
                }
            }
        }
        // The sends report before they end, so the settler has everything when it is closed.
        while self.sends.join_next().await.is_some() {}
        self.settler.close().await;
    }

    /// Waits until nothing is in flight: every send has ended and is settled.
    pub async fn finish(&mut self) {
        while !self.in_flight.is_empty() {
            let Some(ended) = self.settler.settled().await else {
                return;
            };
            self.in_flight.end(&ended);
        }
    }

    /// Takes note of what ended, and renews leases when it is time.
    async fn collect(&mut self) {
        while let Some(ended) = self.settler.settled().now_or_never().flatten() {
            self.in_flight.end(&ended);
        }
        while self.sends.try_join_next().is_some() {}
        // A busy worker does not wait, so its renewals are looked at here too.
        // After a step of the clock forward, leases of ours would have ended, and the next claim would send once more.
        let is_time = self.renewals.tick().now_or_never().is_some();
        if self.steps.look(&*self.app.0.clock).is_some() || is_time {
            self.in_flight.renew_leases(&self.app).await;
        }
    }

    async fn wait(&mut self, stop: &CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            Some(ended) = self.settler.settled() => self.in_flight.end(&ended),
            // Sends may take longer than a lease, also while nothing new is due.
            _ = self.renewals.tick() => self.in_flight.renew_leases(&self.app).await,
            _ = self.listener.wait(self.app.0.settings.poll) => {}
        }
    }

    fn start(&mut self, claimed: Claimed) {
        self.in_flight.begin(&claimed);
        let (app, reports) = (self.app.clone(), self.settler.reports());
        self.sends.spawn(async move {
            let ended = send(&app, claimed).await;
            // Fails only when the settler is gone; then the lease ends.
            let _ = reports.send(ended).await;
        });
    }
}

async fn send(app: &App, claimed: Claimed) -> Ended {
    let (key, now) = (&app.0.settings.encryption_key, app.0.clock.now());
    let span = trace::delivery(&claimed);
    let sending = app.0.sender.send(&claimed, key, now);
    match sending.instrument(span.clone()).await {
        Ok(Made {
            outcome,
            attempt,
            cause,
        }) => {
            trace::delivered(&span, &attempt);
            Ended::Sent(Report {
                claimed,
                outcome,
                attempt,
                cause,
            })
        }
        Err(why) => Ended::NotSent(claimed, why),
    }
}
