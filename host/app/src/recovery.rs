//! Recovery: operators look at deliveries and their attempts, and give a second chance to what failed or was missed.
//!
//! Long work goes page by page, each a transaction of its own, and over as many requests as it takes (`walk.rs`).
//! Broken off in the middle, it is safe to repeat: what was given its chance is not given another by the same request.

mod letters;
mod walk;

use wharf_domain::{DeliveryId, EndpointId, Event, EventId, OrganizationId, Time};
use wharf_queue::Queue;
use wharf_store::{
    endpoints::Endpoint,
    history::{self, Delivery, Scope},
    outbox,
    resend::{self, Missed},
};

use self::walk::RecoveryWalk;
pub use self::{
    letters::{AnswerStatus, LetterFilter, Skipped},
    walk::RecoveryCursor,
};
use crate::{App, AppError, Once, budgets::Budgeted};

/// The most deliveries on one page.
pub const MAX_PER_PAGE: usize = 100;
/// Events that are shaped and stored at a time. Each costs a call of a plugin.
const MAX_EVENTS: i64 = 64;

/// A page of a list whose places are ids.
#[derive(Clone, Debug)]
pub struct Page<T, Id = DeliveryId> {
    /// The items on it.
    pub items: Vec<T>,
    /// The place where the next page begins; `None` on the last.
    pub next: Option<Id>,
}

/// A rehearsal or the real thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// Counts and changes nothing.
    Dry,
    /// Does it.
    Real,
}

/// The way to send many deliveries again.
#[derive(Clone, Copy, Debug)]
pub struct Redrive {
    /// Only what was made at this time or later.
    pub since: Time,
    /// Spread over time, so many a minute; `None` for all at once, as fast as the endpoints take them.
    pub per_minute: Option<i64>,
    /// The place where an earlier request stopped.
    pub from: Option<RecoveryCursor>,
    /// Rehearsed or done.
    pub run: Run,
}

/// The deliveries that were given a second chance, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Deliveries that had failed for good.
    pub failed: i64,
    /// Events that the endpoint had no delivery of, because it was disabled or not registered yet.
    pub missed: i64,
    /// Deliveries that had failed for good and cannot be sent.
    pub skipped: Skipped,
    /// The place where the next request goes on; `None`: all is done.
    pub next: Option<RecoveryCursor>,
}

/// The dead letters that were given a second chance, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Redriven {
    /// Their number.
    pub letters: i64,
    /// Those that cannot be sent.
    pub skipped: Skipped,
    /// The place where the next request goes on; `None`: all is done.
    pub next: Option<RecoveryCursor>,
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
        // One more than the page shows tells whether there is a next one.
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

    /// The shapers that an event waits for, divided by commas.
    pub async fn event_waits_for(
        &self,
        organization: &OrganizationId,
        event: EventId,
    ) -> Result<Option<String>, AppError> {
        let mut conn = self.0.ledger.read().await?;
        Ok(history::waits_for(&mut conn, organization, event).await?)
    }

    /// The number of an endpoint's events that wait for its shaper.
    pub async fn waiting_events(&self, endpoint: &Endpoint) -> Result<i64, AppError> {
        let Endpoint {
            organization_id,
            event,
            shaper,
            ..
        } = endpoint;
        let mut conn = self.0.ledger.read().await?;
        Ok(history::waiting(&mut conn, organization_id, event, shaper).await?)
    }

    /// One delivery with its attempts.
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
    /// One that is being sent is sent once more after that.
    pub async fn resend(
        &self,
        organization: &OrganizationId,
        id: DeliveryId,
        once: &Once<Delivery>,
    ) -> Result<Delivery, AppError> {
        let delivery = self.delivery(organization, id).await?;
        if !self
            .webhook(organization, delivery.endpoint_id)
            .await?
            .is_active
        {
            return Err(AppError::EndpointDisabled);
        }
        // After the checks, which cost little, and before the shaper, which costs a call.
        self.spend(organization, Budgeted::Resend).await?;
        self.shape_again(organization, &delivery).await?;
        let mut tx = self.0.ledger.begin().await?;
        let is_due = resend::resend(
            &mut tx,
            organization,
            id,
            delivery.event_id,
            self.0.clock.now(),
        )
        .await?;
        if !is_due {
            return Err(AppError::NothingToSend);
        }
        let resent = history::get(&mut tx, organization, id).await?;
        let resent = resent.ok_or(AppError::DeliveryNotFound)?;
        once.record(&mut tx, &resent).await?;
        tx.commit().await?;
        self.0.doorbell.ring(Queue::Callback, "resend");
        Ok(resent)
    }

    /// Stores a body for a dead delivery whose shaper failed on the event, if the shaper makes one now.
    async fn shape_again(
        &self,
        organization: &OrganizationId,
        delivery: &Delivery,
    ) -> Result<(), AppError> {
        let mut conn = self.0.ledger.read().await?;
        let unshaped = resend::unshaped(&mut conn, organization, delivery.id).await?;
        // Shaping calls a plugin, which may take long: no connection is held meanwhile.
        drop(conn);
        let Some((event, shaper)) = unshaped else {
            return Ok(());
        };
        let (endpoint, now) = (delivery.endpoint_id, self.0.clock.now());
        let extra = self.extra_delivery(&event, endpoint, &shaper, now).await?;
        let mut tx = self.0.ledger.begin().await?;
        // The delivery is there already: this adds its body.
        outbox::deliver(&mut tx, &[extra], now).await?;
        Ok(tx.commit().await?)
    }

    /// Gives dead letters a second chance: those of the organization's active endpoints, or of one endpoint. As many as
    /// one request may.
    pub async fn redrive(
        &self,
        organization: &OrganizationId,
        endpoint: Option<EndpointId>,
        how: Redrive,
        once: &Once<Redriven>,
    ) -> Result<Redriven, AppError> {
        if let Some(id) = endpoint {
            self.active_endpoint(organization, id).await?;
        }
        self.spend(organization, Budgeted::Recover).await?;
        let filter = LetterFilter {
            organization: Some(organization.clone()),
            endpoint,
            ..LetterFilter::since(how.since)
        };
        self.redrive_letters(&filter, how, once).await
    }

    /// Gives dead letters a second chance, whoever's they are. For the operator: no organization's budget pays.
    pub async fn redrive_letters(
        &self,
        filter: &LetterFilter,
        how: Redrive,
        once: &Once<Redriven>,
    ) -> Result<Redriven, AppError> {
        let mut walk = RecoveryWalk::new(how, &*self.0.clock);
        let tally = self.through_letters(filter, how.run, &mut walk).await?;
        let organization = filter.organization.as_ref();
        tracing::info!(
            organizationId = organization.map(tracing::field::display),
            revived = tally.letters,
            noBody = tally.skipped.no_body,
            endpointDisabled = tally.skipped.endpoint_disabled,
            dryRun = how.run == Run::Dry,
            "dead_letters_redriven"
        );
        let redriven = Redriven {
            letters: tally.letters,
            skipped: tally.skipped,
            // Without missed events, the walk ends with the letters.
            next: walk.next().filter(|next| next.is_at_letters()),
        };
        // What was given its chance is no dead letter when the request is repeated.
        once.keep(&redriven).await?;
        Ok(redriven)
    }

    /// Gives an endpoint what it should have received: its dead letters, and the events that it missed. As many as one
    /// request may.
    pub async fn recover(
        &self,
        organization: &OrganizationId,
        endpoint: EndpointId,
        how: Redrive,
        once: &Once<Recovered>,
    ) -> Result<Recovered, AppError> {
        let found = self.active_endpoint(organization, endpoint).await?;
        self.spend(organization, Budgeted::Recover).await?;
        let letters = LetterFilter {
            organization: Some(organization.clone()),
            endpoint: Some(endpoint),
            ..LetterFilter::since(how.since)
        };
        let missed = Missed {
            organization,
            event: &found.event,
            endpoint,
        };
        let mut walk = RecoveryWalk::new(how, &*self.0.clock);
        let tally = self.through_letters(&letters, how.run, &mut walk).await?;
        let (missed, next) = match how.run {
            Run::Dry if walk.is_at_letters() => (0, walk.next()),
            Run::Dry => (self.count_missed(missed, how.since).await?, None),
            Run::Real => {
                let missed = self.deliver_missed(&found, missed, &mut walk).await?;
                (missed, walk.next())
            }
        };
        let failed = tally.letters;
        tracing::info!(endpointId = %endpoint, failed, missed, dryRun = how.run == Run::Dry, "webhook_recovered");
        let recovered = Recovered {
            failed,
            missed,
            skipped: tally.skipped,
            next,
        };
        once.keep(&recovered).await?;
        Ok(recovered)
    }

    async fn count_missed(&self, missed: Missed<'_>, since: Time) -> Result<i64, AppError> {
        let mut conn = self.0.ledger.read().await?;
        Ok(resend::count_missed(&mut conn, missed, since).await?)
    }

    /// Makes deliveries of the events that an endpoint missed. Returns how many.
    async fn deliver_missed(
        &self,
        endpoint: &Endpoint,
        missed: Missed<'_>,
        walk: &mut RecoveryWalk,
    ) -> Result<i64, AppError> {
        let mut delivered = 0;
        while let Some(cursor) = walk.missed(&*self.0.clock) {
            let mut conn = self.0.ledger.read().await?;
            let events = resend::missed(&mut conn, missed, cursor, MAX_EVENTS).await?;
            // Shaping calls a plugin, which may take long: no connection is held meanwhile.
            drop(conn);
            if !events.is_empty() {
                self.deliver_to(endpoint, &events, walk).await?;
                delivered += i64::try_from(events.len()).unwrap_or(i64::MAX);
            }
            walk.passed_events(events.last());
        }
        Ok(delivered)
    }

    async fn deliver_to(
        &self,
        endpoint: &Endpoint,
        events: &[Event],
        walk: &mut RecoveryWalk,
    ) -> Result<(), AppError> {
        let mut extras = Vec::with_capacity(events.len());
        for event in events {
            let due_at = walk.next_due();
            extras.push(
                self.extra_delivery(event, endpoint.id, &endpoint.shaper, due_at)
                    .await?,
            );
        }
        let mut tx = self.0.ledger.begin().await?;
        outbox::deliver(&mut tx, &extras, self.0.clock.now()).await?;
        tx.commit().await?;
        self.0.doorbell.ring(Queue::Callback, "recover");
        Ok(())
    }

    async fn active_endpoint(
        &self,
        organization: &OrganizationId,
        id: EndpointId,
    ) -> Result<Endpoint, AppError> {
        let endpoint = self.webhook(organization, id).await?;
        if endpoint.is_active {
            Ok(endpoint)
        } else {
            Err(AppError::EndpointDisabled)
        }
    }
}
