//! What operators mend with: the deliveries and their attempts, and a second chance for what failed or was missed.
//!
//! Long work goes page by page, each a transaction of its own. Broken off in the middle, it is safe to repeat: what was
//! given its chance is not given another by the same request.

use std::time::Duration;

use uuid::Uuid;
use wharf_domain::{DeliveryId, DeliveryState, EndpointId, OrganizationId, Time};
use wharf_queue::Queue;
use wharf_store::{
    history::{self, Delivery, Scope},
    outbox,
    resend::{self, DeadLetters, EventCursor, Missed},
};

use crate::{App, AppError, budgets::Budgeted};

/// The most deliveries that one page shows.
pub const MAX_PER_PAGE: usize = 100;
/// Rows of one transaction.
const PAGE: i64 = 500;
/// Events that are shaped and stored at a time.
const EVENTS: i64 = 64;

/// A page of a list.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// Where the next one begins; `None` on the last.
    pub next: Option<DeliveryId>,
}

/// Whether to do it or only to say what would be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// Count and change nothing.
    Dry,
    /// Do it.
    Real,
}

/// How to go about many deliveries.
#[derive(Clone, Copy, Debug)]
pub struct Redrive {
    /// What was made at this time or later.
    pub since: Time,
    /// Spread over time, so many a minute; `None` for all at once, as fast as the endpoints take them.
    pub per_minute: Option<i64>,
    /// Whether to do it.
    pub run: Run,
}

/// What was given a second chance, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Deliveries that had failed for good.
    pub failed: i64,
    /// Events that the endpoint had no delivery of, because it was disabled or not registered yet.
    pub missed: i64,
}

/// Due times one after the other.
struct Spread {
    next: Time,
    interval: Duration,
}

impl Spread {
    fn new(now: Time, per_minute: Option<i64>) -> Self {
        let per_minute = per_minute.map(|rate| u32::try_from(rate.max(1)).unwrap_or(u32::MAX));
        Self {
            next: now,
            interval: per_minute.map_or(Duration::ZERO, |rate| Duration::from_secs(60) / rate),
        }
    }

    fn next(&mut self) -> Time {
        let at = self.next;
        self.next = at + self.interval;
        at
    }
}

impl App {
    /// A page of deliveries, newest first. At most [`MAX_PER_PAGE`].
    pub async fn deliveries(
        &self,
        organization: &OrganizationId,
        scope: Scope,
        before: Option<DeliveryId>,
        limit: usize,
    ) -> Result<Page<Delivery>, AppError> {
        if let Scope::Endpoint(id, _) = scope {
            self.webhook(organization, id).await?;
        }
        let limit = limit.clamp(1, MAX_PER_PAGE);
        let one_more = i64::try_from(limit + 1).unwrap_or(i64::MAX);
        let mut conn = self.0.ledger.read().await?;
        let mut items = history::page(&mut conn, organization, scope, before, one_more).await?;
        let is_last = items.len() <= limit;
        items.truncate(limit);
        let next = if is_last {
            None
        } else {
            items.last().map(|delivery| delivery.id)
        };
        Ok(Page { items, next })
    }

    /// One delivery with all that is known of its attempts.
    pub async fn delivery(
        &self,
        organization: &OrganizationId,
        id: DeliveryId,
    ) -> Result<Delivery, AppError> {
        let mut conn = self.0.ledger.read().await?;
        history::get(&mut conn, organization, id)
            .await?
            .ok_or(AppError::DeliveryNotFound)
    }

    /// Sends a delivery now, whatever became of it, with the whole retry schedule before it. The bytes are the same.
    pub async fn resend(
        &self,
        organization: &OrganizationId,
        id: DeliveryId,
    ) -> Result<Delivery, AppError> {
        let delivery = self.delivery(organization, id).await?;
        if !self
            .webhook(organization, delivery.endpoint_id)
            .await?
            .is_active
        {
            return Err(AppError::EndpointDisabled);
        }
        self.spend(organization, Budgeted::Resend).await?;
        let mut tx = self.0.ledger.begin().await?;
        let is_due = resend::resend(
            &mut tx,
            organization,
            id,
            delivery.event_id,
            self.0.clock.now(),
        )
        .await?;
        tx.commit().await?;
        if !is_due && delivery.state != DeliveryState::Pending {
            return Err(AppError::NothingToSend);
        }
        self.0.doorbell.ring(Queue::Callback, "resend");
        self.delivery(organization, id).await
    }

    /// Gives dead letters a second chance: those of the organization's active endpoints, or of one endpoint. Answers
    /// how many.
    pub async fn redrive(
        &self,
        organization: &OrganizationId,
        endpoint: Option<EndpointId>,
        how: Redrive,
    ) -> Result<i64, AppError> {
        if let Some(id) = endpoint {
            self.active_endpoint(organization, id).await?;
        }
        self.spend(organization, Budgeted::Recover).await?;
        let which = DeadLetters {
            organization,
            endpoint,
            since: how.since,
        };
        if how.run == Run::Dry {
            return Ok(resend::count_dead(&mut self.0.ledger.read().await?, which).await?);
        }
        self.revive_all(which, &mut Spread::new(self.0.clock.now(), how.per_minute))
            .await
    }

    /// Gives an endpoint what it should have received: its dead letters, and the events that it missed.
    pub async fn recover(
        &self,
        organization: &OrganizationId,
        endpoint: EndpointId,
        how: Redrive,
    ) -> Result<Recovered, AppError> {
        let found = self.active_endpoint(organization, endpoint).await?;
        self.spend(organization, Budgeted::Recover).await?;
        let letters = DeadLetters {
            organization,
            endpoint: Some(endpoint),
            since: how.since,
        };
        let missed = Missed {
            organization,
            event: &found.event,
            endpoint,
        };
        if how.run == Run::Dry {
            let mut conn = self.0.ledger.read().await?;
            let failed = resend::count_dead(&mut conn, letters).await?;
            return Ok(Recovered {
                failed,
                missed: resend::count_missed(&mut conn, missed, how.since).await?,
            });
        }
        let mut spread = Spread::new(self.0.clock.now(), how.per_minute);
        let failed = self.revive_all(letters, &mut spread).await?;
        let mut recovered = Recovered { failed, missed: 0 };
        let mut cursor = EventCursor::at(how.since);
        loop {
            let events =
                resend::missed(&mut self.0.ledger.read().await?, missed, cursor, EVENTS).await?;
            let Some(last) = events.last() else { break };
            cursor = EventCursor::behind(last);
            let mut extras = Vec::with_capacity(events.len());
            for event in &events {
                extras.push(
                    self.extra_delivery(event, endpoint, &found.shaper, spread.next())
                        .await?,
                );
            }
            let mut tx = self.0.ledger.begin().await?;
            outbox::deliver(&mut tx, &extras, self.0.clock.now()).await?;
            tx.commit().await?;
            self.0.doorbell.ring(Queue::Callback, "recover");
            recovered.missed += i64::try_from(extras.len()).unwrap_or(i64::MAX);
        }
        tracing::info!(endpointId = %endpoint, failed, missed = recovered.missed, "webhook_recovered");
        Ok(recovered)
    }

    async fn active_endpoint(
        &self,
        organization: &OrganizationId,
        id: EndpointId,
    ) -> Result<wharf_store::endpoints::Endpoint, AppError> {
        let endpoint = self.webhook(organization, id).await?;
        if endpoint.is_active {
            Ok(endpoint)
        } else {
            Err(AppError::EndpointDisabled)
        }
    }

    /// Walks by id, so that a letter that dies again meanwhile is not met twice.
    async fn revive_all(
        &self,
        which: DeadLetters<'_>,
        spread: &mut Spread,
    ) -> Result<i64, AppError> {
        let mut after = DeliveryId(Uuid::nil());
        let mut revived = 0;
        loop {
            let letters =
                resend::dead(&mut self.0.ledger.read().await?, which, after, PAGE).await?;
            let Some((last, _)) = letters.last() else {
                break;
            };
            after = *last;
            let letters: Vec<_> = letters
                .into_iter()
                .map(|(id, event)| (id, event, spread.next()))
                .collect();
            let mut tx = self.0.ledger.begin().await?;
            let still_dead = resend::revive(&mut tx, &letters, self.0.clock.now()).await?;
            tx.commit().await?;
            self.0.doorbell.ring(Queue::Callback, "redrive");
            revived += i64::try_from(still_dead).unwrap_or(i64::MAX);
        }
        tracing::info!(organizationId = %which.organization, revived, "dead_letters_redriven");
        Ok(revived)
    }
}
