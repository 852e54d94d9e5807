//! Events and deliveries: emit, fan out, claim, tick, renew, settle, by live and by stale workers.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use proptest::prelude::*;
use wharf_domain::{DeliveryId, DeliveryState, EndpointId, EventId, StoreId, Time};
use wharf_store::{
    deliveries::{self, Attempt, SettledDelivery},
    outbox,
};
use wharf_tests::Backend;

use super::run_cases;
use crate::{
    callbacks::{COMPLETED, event, fan_out_of},
    fixture::{Fixture, LEASE, NOW},
};

const RETRY: Duration = Duration::from_secs(60);

/// One thing that happens. A claim is chosen among all that were ever made, so most are stale.
#[derive(Clone, Copy, Debug)]
enum Step {
    Emit,
    ClaimEvents(i64),
    FanOut(usize),
    Claim(i64, i64),
    Tick(u64),
    Renew(usize),
    Settle(usize, DeliveryState),
}

fn steps() -> impl Strategy<Value = Step> {
    let states = prop_oneof![
        Just(DeliveryState::Success),
        Just(DeliveryState::Pending),
        Just(DeliveryState::Failed)
    ];
    prop_oneof![
        Just(Step::Emit),
        (1..4_i64).prop_map(Step::ClaimEvents),
        any::<usize>().prop_map(Step::FanOut),
        (0..3_i64, 0..3_i64).prop_map(|(first, second)| Step::Claim(first, second)),
        prop_oneof![Just(1), Just(10), Just(30), Just(61)].prop_map(Step::Tick),
        any::<usize>().prop_map(Step::Renew),
        (any::<usize>(), states).prop_map(|(claim, state)| Step::Settle(claim, state)),
    ]
}

#[derive(Clone, Debug)]
struct Delivery {
    event: EventId,
    endpoint: EndpointId,
    state: DeliveryState,
    attempt: i64,
    due_at: Option<Time>,
    fence: i64,
    /// Claimed and not settled since.
    in_flight: bool,
}

#[derive(Clone, Debug)]
struct Outgoing {
    due_at: Option<Time>,
    fence: i64,
}

#[derive(Default)]
struct Model {
    events: BTreeMap<EventId, Outgoing>,
    event_claims: Vec<outbox::Claimed>,
    deliveries: BTreeMap<DeliveryId, Delivery>,
    claims: Vec<deliveries::Claimed>,
    attempts: i64,
}

fn chosen<T: Clone>(all: &[T], choice: usize) -> Option<T> {
    all.get(choice.checked_rem(all.len())?).cloned()
}

impl Model {
    fn events_claimed(
        &mut self,
        claimed: Vec<outbox::Claimed>,
        limit: i64,
        now: Time,
    ) -> Result<()> {
        let due = self
            .events
            .values()
            .filter(|event| event.due_at.is_some_and(|at| at <= now))
            .count();
        ensure!(
            claimed.len() == due.min(usize::try_from(limit)?),
            "{claimed:?} of {due} due"
        );
        for claim in claimed {
            let event = self
                .events
                .get_mut(&claim.event.id)
                .context("an unknown event")?;
            ensure!(
                event.due_at.is_some_and(|at| at <= now),
                "not due: {claim:?}"
            );
            (event.fence, event.due_at) = (event.fence + 1, Some(now + LEASE));
            ensure!(claim.fence == event.fence, "{claim:?} of {event:?}");
            self.event_claims.push(claim);
        }
        Ok(())
    }

    fn claimed(
        &mut self,
        claimed: Vec<deliveries::Claimed>,
        shares: &[(EndpointId, i64)],
        now: Time,
    ) -> Result<()> {
        let mut expected = Vec::new();
        for (endpoint, take) in shares {
            let mut due: Vec<_> = self
                .deliveries
                .iter()
                .filter(|(_, delivery)| delivery.endpoint == *endpoint)
                .filter_map(|(id, delivery)| Some((delivery.due_at.filter(|at| *at <= now)?, *id)))
                .collect();
            due.sort();
            expected.extend(
                due.into_iter()
                    .take(usize::try_from(*take)?)
                    .map(|(_, id)| id),
            );
        }
        let mut taken: Vec<_> = claimed.iter().map(|claim| claim.fence.id).collect();
        taken.sort();
        expected.sort();
        ensure!(taken == expected, "{taken:?} instead of {expected:?}");
        for claim in claimed {
            let delivery = self
                .deliveries
                .get_mut(&claim.fence.id)
                .context("an unknown delivery")?;
            if delivery.in_flight {
                // The attempt of whoever held it before is shown as one that was not heard of again.
                delivery.attempt += 1;
                self.attempts += 1;
            }
            (delivery.fence, delivery.due_at, delivery.in_flight) =
                (delivery.fence + 1, Some(now + LEASE), true);
            ensure!(
                claim.fence.number == delivery.fence,
                "{claim:?} of {delivery:?}"
            );
            ensure!(
                claim.attempts_before == delivery.attempt,
                "{claim:?} of {delivery:?}"
            );
            self.claims.push(claim);
        }
        Ok(())
    }

    /// The delivery of a claim, if the claim still holds it.
    fn held(&mut self, claim: &deliveries::Claimed) -> Option<&mut Delivery> {
        let delivery = self.deliveries.get_mut(&claim.fence.id)?;
        (delivery.fence == claim.fence.number && delivery.in_flight).then_some(delivery)
    }

    /// How many events stand at each status.
    fn statuses(&self) -> [i64; 3] {
        let mut counts = [0; 3];
        for (id, event) in &self.events {
            let is_any = |state| {
                self.deliveries
                    .values()
                    .any(|d| d.event == *id && d.state == state)
            };
            let at = match () {
                () if event.due_at.is_some() || is_any(DeliveryState::Pending) => 0,
                () if is_any(DeliveryState::Failed) => 2,
                () => 1,
            };
            counts[at] += 1;
        }
        counts
    }
}

struct Scene<'a> {
    ledger: &'a Fixture,
    store: StoreId,
    endpoints: [EndpointId; 2],
    model: Model,
    now: Time,
}

impl Scene<'_> {
    async fn apply(&mut self, step: Step) -> Result<()> {
        let Self { ledger, now, .. } = *self;
        match step {
            Step::Emit => {
                let event = event("org", self.store, now);
                outbox::emit(&mut ledger.conn().await?, &event, outbox::Cause::default()).await?;
                self.model.events.insert(
                    event.id,
                    Outgoing {
                        due_at: Some(now),
                        fence: 0,
                    },
                );
            }
            Step::ClaimEvents(limit) => {
                let claimed = outbox::claim(&mut ledger.conn().await?, LEASE, limit, now).await?;
                self.model.events_claimed(claimed, limit, now)?;
            }
            Step::FanOut(choice) => self.fan_out(choice).await?,
            Step::Claim(first, second) => {
                let shares = [(self.endpoints[0], first), (self.endpoints[1], second)];
                let mut tx = ledger.begin().await?;
                let claimed = deliveries::claim(&mut tx, &shares, "w", LEASE, now).await?;
                tx.commit().await?;
                self.model.claimed(claimed, &shares, now)?;
            }
            Step::Tick(seconds) => self.now = now + Duration::from_secs(seconds),
            Step::Renew(choice) => {
                let Some(claim) = chosen(&self.model.claims, choice) else {
                    return Ok(());
                };
                let kept =
                    deliveries::renew(&mut ledger.conn().await?, &[claim.fence], now + LEASE)
                        .await?;
                let held = self.model.held(&claim);
                ensure!(
                    kept.len() == usize::from(held.is_some()),
                    "{kept:?} of {held:?}"
                );
                held.into_iter()
                    .for_each(|delivery| delivery.due_at = Some(now + LEASE));
            }
            Step::Settle(choice, state) => self.settle(choice, state).await?,
        }
        Ok(())
    }

    async fn fan_out(&mut self, choice: usize) -> Result<()> {
        let Some(claimed) = chosen(&self.model.event_claims, choice) else {
            return Ok(());
        };
        let ready = fan_out_of(&claimed, &self.endpoints);
        let mut tx = self.ledger.begin().await?;
        let done = outbox::fan_out(&mut tx, std::slice::from_ref(&ready), self.now).await?;
        tx.commit().await?;
        let event = self
            .model
            .events
            .get_mut(&claimed.event.id)
            .context("an unknown event")?;
        let holds = event.fence == claimed.fence && event.due_at.is_some();
        ensure!(done == usize::from(holds), "{done} of {event:?}");
        if holds {
            event.due_at = None;
            for new in ready.deliveries {
                let delivery = Delivery {
                    event: claimed.event.id,
                    endpoint: new.endpoint_id,
                    state: DeliveryState::Pending,
                    attempt: 0,
                    due_at: Some(self.now),
                    fence: 0,
                    in_flight: false,
                };
                self.model.deliveries.insert(new.id, delivery);
            }
        }
        Ok(())
    }

    async fn settle(&mut self, choice: usize, state: DeliveryState) -> Result<()> {
        // A live worker settles each claim once; a stale one may try at any time.
        let in_flight = |model: &mut Model, claim: &deliveries::Claimed| {
            let newest = model
                .deliveries
                .get(&claim.fence.id)
                .map(|delivery| delivery.fence);
            model.held(claim).is_some() || newest != Some(claim.fence.number)
        };
        let Some(claim) = chosen(&self.model.claims, choice) else {
            return Ok(());
        };
        if !in_flight(&mut self.model, &claim) {
            return Ok(());
        }
        let due_at = (state == DeliveryState::Pending).then_some(self.now + RETRY);
        let settled = SettledDelivery {
            fence: claim.fence,
            event_id: claim.event_id,
            attempt_number: claim.attempts_before + 1,
            state,
            due_at,
            attempt: Attempt {
                started_at: self.now,
                latency: Duration::from_millis(5),
                http_status: Some(200),
                error: None,
                response: None,
            },
        };
        let mut tx = self.ledger.begin().await?;
        let kept = deliveries::settle(&mut tx, &[settled], self.now).await?;
        tx.commit().await?;
        let held = self.model.held(&claim);
        ensure!(
            kept.len() == usize::from(held.is_some()),
            "{kept:?} of {held:?}"
        );
        if let Some(delivery) = held {
            (delivery.state, delivery.due_at, delivery.in_flight) = (state, due_at, false);
            delivery.attempt += 1;
            self.model.attempts += 1;
        }
        Ok(())
    }

    async fn compare(&self) -> Result<()> {
        for (status, expected) in ["pending", "success", "failed"]
            .into_iter()
            .zip(self.model.statuses())
        {
            let sql = format!("select count(*) from callback_outbox where status = '{status}'");
            let stored = self.ledger.number(&sql).await?;
            ensure!(
                stored == expected,
                "{stored} events are {status} instead of {expected}"
            );
        }
        let stored = self
            .ledger
            .number("select count(*) from callback_attempts")
            .await?;
        ensure!(
            stored == self.model.attempts,
            "{stored} attempts instead of {}",
            self.model.attempts
        );
        let due = self
            .model
            .deliveries
            .values()
            .filter(|d| d.due_at.is_some_and(|at| at <= self.now))
            .count();
        let stored = deliveries::count_due(&mut self.ledger.conn().await?, 1_000, self.now).await?;
        ensure!(
            stored == i64::try_from(due)?,
            "{stored} deliveries are due instead of {due}"
        );
        Ok(())
    }
}

pub(super) async fn deliveries_follow_the_model(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let (store, _) = ledger.register("org", "shop").await?;
    let endpoints = [
        ledger
            .endpoint("org", COMPLETED, "http://127.0.0.1/a")
            .await?,
        ledger
            .endpoint("org", COMPLETED, "http://127.0.0.1/b")
            .await?,
    ];
    run_cases(steps(), async |steps| {
        ledger.sql.execute("delete from callback_outbox").await?;
        let mut scene = Scene {
            ledger: &ledger,
            store,
            endpoints,
            model: Model::default(),
            now: NOW,
        };
        for step in steps {
            scene
                .apply(step)
                .await
                .with_context(|| format!("{step:?}"))?;
            scene
                .compare()
                .await
                .with_context(|| format!("after {step:?}"))?;
        }
        Ok(())
    })
}
