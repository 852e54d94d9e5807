//! Deliveries and attempts as their owner sees them.

use serde::Serialize;
use utoipa::{ToSchema, openapi::Object};
use uuid::Uuid;
use wharf_app::{Delivery as AppDelivery, Page, PastAttempt};
use wharf_domain::DeliveryState;

use crate::values::names;

/// One event on its way to one endpoint.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::routes) struct Delivery {
    id: Uuid,
    event_id: Uuid,
    event: String,
    webhook_id: Uuid,
    #[schema(schema_with = delivery_states)]
    state: &'static str,
    /// Number of attempts made.
    attempt: i64,
    /// Time of the next attempt; null when it is finished.
    #[schema(required, format = DateTime)]
    next_attempt_at: Option<String>,
    #[schema(required)]
    last_error: Option<String>,
    /// The shaper that its event waits for: it is out of service, and the delivery is made once it is back.
    #[schema(required)]
    waiting_for_shaper: Option<String>,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
    /// The request that caused the event (`X-Request-Id`): of a sync that was asked for, else an id of the run. It is in
    /// the log, in traces and with the store's receipts, too.
    #[schema(required)]
    request_id: Option<String>,
    /// The last 100 attempts, in the order in which they were made.
    #[schema(max_items = 100)]
    attempts: Vec<Attempt>,
}

/// One attempt to send it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Attempt {
    attempt: i64,
    #[schema(format = DateTime)]
    started_at: String,
    /// Time until the answer, in milliseconds.
    latency_ms: f64,
    /// Null if no answer came.
    #[schema(required)]
    http_status: Option<i64>,
    #[schema(required)]
    error: Option<String>,
    /// The first bytes of the answer: 256 characters in lists, 16 KiB for one delivery.
    #[schema(required)]
    response: Option<String>,
}

fn delivery_states() -> Object {
    let about = "`pending`: to be sent. `success`: accepted by the receiver. `failed`: given up, a dead letter.";
    names(about, DeliveryState::ALL.map(DeliveryState::as_str))
}

impl From<AppDelivery> for Delivery {
    fn from(delivery: AppDelivery) -> Self {
        Self {
            id: delivery.id.0,
            event_id: delivery.event_id.0,
            event: delivery.event,
            webhook_id: delivery.endpoint_id.0,
            state: delivery.state.as_str(),
            attempt: delivery.attempts_made,
            next_attempt_at: delivery.due_at.map(|at| at.to_string()),
            last_error: delivery.last_error,
            waiting_for_shaper: delivery.waits_for,
            created_at: delivery.created_at.to_string(),
            updated_at: delivery.updated_at.to_string(),
            request_id: delivery.request_id,
            attempts: delivery.attempts.into_iter().map(Attempt::from).collect(),
        }
    }
}

impl From<PastAttempt> for Attempt {
    fn from(attempt: PastAttempt) -> Self {
        // A latency has far fewer digits than a float keeps.
        #[allow(clippy::cast_precision_loss)]
        let latency_ms = attempt.latency_us as f64 / 1_000.0;
        Self {
            attempt: attempt.number,
            started_at: attempt.started_at.to_string(),
            latency_ms,
            http_status: attempt.http_status,
            error: attempt.error,
            response: attempt.response,
        }
    }
}

/// A page of deliveries.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::routes) struct DeliveryPage {
    items: Vec<Delivery>,
    /// The `cursor` of the next page; null on the last.
    #[schema(required)]
    next_cursor: Option<Uuid>,
    /// The shapers, divided by commas, that an event waits for before its other deliveries are made. Only of an event.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_for_shaper: Option<String>,
}

impl DeliveryPage {
    /// The same page of an event that waits for these shapers.
    pub(super) fn waiting_for(self, shapers: Option<String>) -> Self {
        Self {
            waiting_for_shaper: shapers,
            ..self
        }
    }
}

impl From<Page<AppDelivery>> for DeliveryPage {
    fn from(page: Page<AppDelivery>) -> Self {
        Self {
            items: page.items.into_iter().map(Delivery::from).collect(),
            next_cursor: page.next.map(|id| id.0),
            waiting_for_shaper: None,
        }
    }
}
