//! Deliveries to one endpoint alone: test events, and events that it missed.

use std::sync::Arc;

use uuid::Uuid;
use wharf_domain::{
    DeliveryId, EndpointId, Event, EventId, OrganizationId, ShaperName, StoreId, Time,
};
use wharf_queue::Queue;
use wharf_store::outbox::{self, Extra, NewDelivery, Only};

use crate::{App, AppError, Once, budgets::Budgeted, callbacks::Unshaped, entropy::new_id, trace};

/// The name of test events. Nobody can register for it.
const TEST_EVENT: &str = "webhook.test";

/// An event that was made to try an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TestSent {
    /// The event.
    pub event_id: EventId,
    /// Its delivery.
    pub delivery_id: DeliveryId,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct ShaperOutOfService(String);

impl App {
    /// Sends an event named `webhook.test` to this endpoint alone. The request has no key: it is a new one each time.
    pub async fn test_webhook(
        &self,
        organization: &OrganizationId,
        id: EndpointId,
    ) -> Result<TestSent, AppError> {
        self.test_webhook_once(organization, id, &self.unkeyed())
            .await
    }

    /// The same, for a request that may have a key.
    pub async fn test_webhook_once(
        &self,
        organization: &OrganizationId,
        id: EndpointId,
        once: &Once<TestSent>,
    ) -> Result<TestSent, AppError> {
        let endpoint = self.webhook(organization, id).await?;
        if !endpoint.is_active {
            return Err(AppError::EndpointDisabled);
        }
        self.spend(organization, Budgeted::Test).await?;
        let now = self.0.clock.now();
        // A new event each time: whoever repeats the request sends a second one, and pays for it.
        let event = test_event(organization, id, now);
        let sent = TestSent {
            event_id: event.id,
            delivery_id: DeliveryId(new_id(now)),
        };
        let only = Only {
            endpoint: id,
            delivery: sent.delivery_id,
        };
        let mut tx = self.0.ledger.begin().await?;
        // Through the outbox, as every event: a test must not arrive where real events wait.
        let traceparent = trace::traceparent();
        let cause = outbox::Cause {
            traceparent: traceparent.as_deref(),
            request_id: None,
        };
        outbox::emit_to(&mut tx, &event, cause, only).await?;
        once.record(&mut tx, &sent).await?;
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
            Err(Unshaped::Faulted(why) | Unshaped::OutOfService(why)) => {
                // Unlike fanning out, nobody would try again: the caller is told instead.
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

fn test_event(organization: &OrganizationId, endpoint: EndpointId, now: Time) -> Event {
    Event {
        id: EventId(new_id(now)),
        kind: TEST_EVENT.into(),
        at: now,
        organization_id: organization.clone(),
        // It is about no store, but receivers expect the field.
        store_id: StoreId(Uuid::nil()),
        data: serde_json::json!({"endpointId": endpoint.to_string(), "test": true}).to_string(),
    }
}
