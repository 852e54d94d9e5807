//! Webhook endpoints: registering, reading, changing and trying them, and their secrets.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;
use wharf_domain::{
    DeliveryId, EndpointId, EndpointSecret, Event, EventId, EventKind, Health, OrganizationId,
    Secrets, ShaperName, StoreId, TargetUrl, Time,
};
use wharf_egress::Guard;
use wharf_queue::Queue;
use wharf_store::{
    endpoints::{self, Endpoint},
    outbox::{self, Extra, NewDelivery},
    resend,
};

use crate::{
    App, AppError,
    budgets::Budgeted,
    callbacks::Unshaped,
    entropy::{new_id, random},
    trace,
};

/// `POST /webhooks/register`, parsed.
#[derive(Clone, Debug)]
pub struct WebhookRegistration {
    /// Whose endpoint it is.
    pub organization_id: OrganizationId,
    /// What it wants to know.
    pub event: EventKind,
    /// Where it is.
    pub target_url: TargetUrl,
    /// In which shape; `None` is the original service's payload.
    pub shaper: Option<ShaperName>,
    /// Whether to sign by a key pair (`v1a`) too.
    pub asymmetric: bool,
}

/// An endpoint that was asked for.
#[derive(Clone, Debug)]
pub struct RegisteredWebhook {
    /// The endpoint as it stands.
    pub endpoint: Endpoint,
    /// `whsec_...`: only if this registration created the endpoint.
    pub secret: Option<String>,
}

/// Whether an endpoint is to be sent anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It is; what went wrong before is forgotten.
    Enabled,
    /// It is not, for this reason. What was on its way becomes dead letters.
    Disabled(String),
}

/// What is to change about an endpoint; `None` stays as it is.
#[derive(Clone, Debug, Default)]
pub struct EndpointChange {
    /// Where it is.
    pub target_url: Option<TargetUrl>,
    /// In which shape, from the next event on.
    pub shaper: Option<ShaperName>,
    /// Whether it is sent anything.
    pub activity: Option<Activity>,
    /// Whether to sign by a key pair (`v1a`) too.
    pub asymmetric: Option<bool>,
    /// At most so many deliveries a minute; 0 for no limit.
    pub rate_per_minute: Option<i64>,
}

/// The secrets of an endpoint.
#[derive(Clone)]
pub struct SecretReport {
    /// The current one, `whsec_...`.
    pub secret: String,
    /// What `v1a` signatures are verified with, `whpk_...`; `None` where none are made.
    pub public_key: Option<String>,
    /// Until when each of those that it replaced still signs too.
    pub overlaps: Vec<Time>,
}

/// An event that was made to try an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TestSent {
    /// The event.
    pub event_id: EventId,
    /// Its delivery.
    pub delivery_id: DeliveryId,
}

/// The name of test events. Nobody can register for it.
const TEST_EVENT: &str = "webhook.test";
/// How long a replaced secret still signs at most.
pub const MAX_OVERLAP: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Deliveries of a deleted endpoint that go in one transaction.
const DELETED_AT_ONCE: i64 = 500;

impl App {
    /// Registers an endpoint; one with the same organization, event and URL is answered as it stands.
    pub async fn register_webhook(
        &self,
        registration: WebhookRegistration,
    ) -> Result<RegisteredWebhook, AppError> {
        self.check_target(&registration.target_url)?;
        let now = self.0.clock.now();
        let secret = EndpointSecret::from_random(random());
        let new = endpoints::NewEndpoint {
            id: EndpointId(new_id(now)),
            organization_id: &registration.organization_id,
            event: registration.event,
            target_url: &registration.target_url,
            shaper: &registration.shaper.unwrap_or_else(ShaperName::standard),
            asymmetric: registration.asymmetric,
            secret: &secret,
            nonce: random(),
        };
        let mut conn = self.0.ledger.write().await?;
        let endpoint =
            endpoints::register(&mut conn, &self.0.settings.encryption_key, &new, now).await?;
        let created = endpoint.id == new.id;
        Ok(RegisteredWebhook {
            secret: created.then(|| secret.expose()),
            endpoint,
        })
    }

    fn check_target(&self, url: &TargetUrl) -> Result<(), AppError> {
        let guard = Guard::for_webhooks(self.0.settings.callbacks.addresses.clone());
        guard
            .check_target(url.url())
            .map_err(|why| AppError::TargetForbidden(why.to_string()))
    }

    /// The organization's endpoints, ordered by event, then URL.
    pub async fn webhooks(&self, organization: &OrganizationId) -> Result<Vec<Endpoint>, AppError> {
        let mut conn = self.0.ledger.read().await?;
        Ok(endpoints::list(&mut conn, organization).await?)
    }

    /// One endpoint.
    pub async fn webhook(
        &self,
        organization: &OrganizationId,
        id: EndpointId,
    ) -> Result<Endpoint, AppError> {
        let mut conn = self.0.ledger.read().await?;
        endpoints::get(&mut conn, organization, id)
            .await?
            .ok_or(AppError::EndpointNotFound)
    }

    /// Changes an endpoint. What is on its way to it goes to the new URL, with the body that it has.
    pub async fn update_webhook(
        &self,
        organization: &OrganizationId,
        id: EndpointId,
        change: EndpointChange,
    ) -> Result<Endpoint, AppError> {
        if let Some(url) = &change.target_url {
            self.check_target(url)?;
        }
        self.change(organization, id, |endpoint, _| {
            if let Some(url) = change.target_url {
                endpoint.target_url = url.as_str().to_owned();
            }
            if let Some(shaper) = change.shaper {
                endpoint.shaper = shaper;
            }
            if let Some(asymmetric) = change.asymmetric {
                endpoint.asymmetric = asymmetric;
            }
            if let Some(rate) = change.rate_per_minute {
                endpoint.rate_per_minute = (rate > 0).then_some(rate);
            }
            match change.activity {
                Some(Activity::Enabled) => {
                    (endpoint.is_active, endpoint.disabled_reason) = (true, None);
                    endpoint.health = Health::default();
                }
                Some(Activity::Disabled(reason)) => {
                    (endpoint.is_active, endpoint.disabled_reason) = (false, Some(reason));
                }
                None => {}
            }
        })
        .await
        .map(|(endpoint, _)| endpoint)
    }

    /// Reads an endpoint, changes it and writes it, with nobody in between.
    async fn change(
        &self,
        organization: &OrganizationId,
        id: EndpointId,
        change: impl FnOnce(&mut Endpoint, &mut Secrets) + Send,
    ) -> Result<(Endpoint, Secrets), AppError> {
        let (now, key) = (self.0.clock.now(), &self.0.settings.encryption_key);
        let mut tx = self.0.ledger.begin().await?;
        let found = endpoints::lock(&mut tx, organization, id).await?;
        let mut endpoint = found.ok_or(AppError::EndpointNotFound)?;
        let mut secrets = endpoint.secrets(key)?;
        change(&mut endpoint, &mut secrets);
        endpoint.updated_at = now;
        endpoints::save(&mut tx, key, &endpoint, &secrets, [random(), random()], now).await?;
        tx.commit().await?;
        Ok((endpoint, secrets))
    }

    /// Deletes an endpoint and its deliveries. Events that go to others as well are not touched.
    pub async fn delete_webhook(
        &self,
        organization: &OrganizationId,
        id: EndpointId,
    ) -> Result<(), AppError> {
        let disabled = Activity::Disabled("it is being deleted".into());
        let change = EndpointChange {
            activity: Some(disabled),
            ..EndpointChange::default()
        };
        self.update_webhook(organization, id, change).await?;
        loop {
            let mut tx = self.0.ledger.begin().await?;
            let deleted = resend::delete_some(&mut tx, id, DELETED_AT_ONCE).await?;
            let was_last = i64::try_from(deleted).is_ok_and(|deleted| deleted < DELETED_AT_ONCE);
            if was_last {
                endpoints::delete(&mut tx, organization, id).await?;
            }
            tx.commit().await?;
            if was_last {
                tracing::info!(endpointId = %id, "webhook_deleted");
                return Ok(());
            }
        }
    }

    /// The endpoint's secrets.
    pub async fn webhook_secret(
        &self,
        organization: &OrganizationId,
        id: EndpointId,
    ) -> Result<SecretReport, AppError> {
        let endpoint = self.webhook(organization, id).await?;
        tracing::info!(endpointId = %id, "webhook_secret_shown");
        Ok(self.secret_report(&endpoint.secrets(&self.0.settings.encryption_key)?))
    }

    fn secret_report(&self, secrets: &Secrets) -> SecretReport {
        let overlaps = secrets.overlaps(self.0.clock.now()).collect();
        SecretReport {
            secret: secrets.current().expose(),
            public_key: secrets.public_key(),
            overlaps,
        }
    }

    /// Gives the endpoint a new secret. The old one signs too for `overlap`, at most [`MAX_OVERLAP`].
    pub async fn rotate_webhook_secret(
        &self,
        organization: &OrganizationId,
        id: EndpointId,
        overlap: Duration,
    ) -> Result<SecretReport, AppError> {
        let now = self.0.clock.now();
        let until = now + overlap.min(MAX_OVERLAP);
        let new = EndpointSecret::from_random(random());
        let rotate = |_: &mut Endpoint, secrets: &mut Secrets| {
            *secrets = secrets.clone().rotated(new, until, now);
        };
        let (_, secrets) = self.change(organization, id, rotate).await?;
        tracing::info!(endpointId = %id, "webhook_secret_rotated");
        Ok(self.secret_report(&secrets))
    }

    /// Sends an event named `webhook.test` to this endpoint alone.
    pub async fn test_webhook(
        &self,
        organization: &OrganizationId,
        id: EndpointId,
    ) -> Result<TestSent, AppError> {
        let endpoint = self.webhook(organization, id).await?;
        if !endpoint.is_active {
            return Err(AppError::EndpointDisabled);
        }
        self.spend(organization, Budgeted::Test).await?;
        let now = self.0.clock.now();
        let event = Event {
            id: EventId(new_id(now)),
            kind: TEST_EVENT.into(),
            at: now,
            organization_id: organization.clone(),
            store_id: StoreId(Uuid::nil()),
            data: serde_json::json!({"endpointId": id.to_string(), "test": true}).to_string(),
        };
        let extra = self
            .extra_delivery(&event, id, &endpoint.shaper, now)
            .await?;
        let sent = TestSent {
            event_id: event.id,
            delivery_id: extra.delivery.id,
        };
        let mut tx = self.0.ledger.begin().await?;
        outbox::emit_delivered(&mut tx, &event, trace::traceparent().as_deref()).await?;
        outbox::deliver(&mut tx, &[extra], now).await?;
        tx.commit().await?;
        self.0.doorbell.ring(Queue::Callback, "test");
        Ok(sent)
    }

    /// A delivery of an event to one endpoint, shaped.
    pub(crate) async fn extra_delivery(
        &self,
        event: &Event,
        endpoint_id: EndpointId,
        shaper: &ShaperName,
        due_at: Time,
    ) -> Result<Extra, AppError> {
        let (message, dead) = match self.shape(shaper.as_str(), event).await {
            Ok(message) => (Some(message), None),
            Err(Unshaped::Refused(why)) => {
                self.0.metrics.unshaped(1);
                (None, Some(why))
            }
            Err(Unshaped::OutOfService(why)) => {
                return Err(AppError::Unavailable(Arc::new(ShaperOutOfService(why))));
            }
        };
        let id = DeliveryId(new_id(self.0.clock.now()));
        let delivery = NewDelivery {
            id,
            endpoint_id,
            shaper: shaper.as_str().to_owned(),
            dead,
        };
        Ok(Extra {
            event_id: event.id,
            organization_id: event.organization_id.clone(),
            message,
            delivery,
            due_at,
        })
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct ShaperOutOfService(String);
