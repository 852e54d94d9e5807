//! Deliveries, their attempts, and the second chance.

use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;
use utoipa::{ToSchema, openapi::Object};
use uuid::Uuid;
use wharf_app::{
    App, Delivery as AppDelivery, MAX_PER_PAGE, Page, PastAttempt, Redrive, Run, Scope,
};
use wharf_domain::{
    DeliveryId, DeliveryState, EndpointId, EventId, OrganizationId, RateLimit, Time,
};

use super::webhooks::Owner;
use crate::{
    body::JsonBody,
    error::{ApiError, Refusal},
    path::PathId,
    query::Query,
    request::request,
    values::{Number, names},
};

/// One event on its way to one endpoint.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Delivery {
    id: Uuid,
    event_id: Uuid,
    event: String,
    webhook_id: Uuid,
    #[schema(schema_with = delivery_states)]
    state: &'static str,
    /// How often it was sent.
    attempt: i64,
    /// When it is sent next; null when it is finished.
    #[schema(required, format = DateTime)]
    next_attempt_at: Option<String>,
    #[schema(required)]
    last_error: Option<String>,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
    attempts: Vec<Attempt>,
}

/// One attempt to send it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Attempt {
    attempt: i64,
    #[schema(format = DateTime)]
    started_at: String,
    /// How long the answer took, in milliseconds.
    latency_ms: f64,
    /// Null when no answer came.
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
            created_at: delivery.created_at.to_string(),
            updated_at: delivery.updated_at.to_string(),
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
pub(super) struct DeliveryPage {
    items: Vec<Delivery>,
    /// What to pass as `cursor` for the next page; null on the last.
    #[schema(required)]
    next_cursor: Option<Uuid>,
}

impl From<Page<AppDelivery>> for DeliveryPage {
    fn from(page: Page<AppDelivery>) -> Self {
        Self {
            items: page.items.into_iter().map(Delivery::from).collect(),
            next_cursor: page.next.map(|id| id.0),
        }
    }
}

/// How many deliveries a page has where the request says nothing.
const DEFAULT_LIMIT: usize = 50;
/// [`MAX_PER_PAGE`] as a bound of a field.
const MAX: i64 = MAX_PER_PAGE.cast_signed() as i64;

request! {
    /// A page of an endpoint's deliveries.
    pub(super) struct DeliveriesOfWebhook {
        /// Whose webhook it is.
        organization_id "organizationId": OrganizationId,
        /// Only those that stand so.
        state "state": Option<DeliveryState>,
        /// The `nextCursor` of the page before.
        cursor "cursor": Option<Uuid>,
        /// How many at most; 50 where it is left out.
        limit "limit": Option<Number<1, MAX>>,
    }
}

/// Deliveries of a webhook
///
/// Newest first. Pages do not shift while new deliveries arrive.
#[utoipa::path(get, path = "/webhooks/{id}/deliveries", tag = "Deliveries", operation_id = "deliveriesOfWebhook",
    params(("id" = Uuid, Path, description = "The webhook"), DeliveriesOfWebhook),
    responses(
        (status = 200, description = "A page of them", body = DeliveryPage),
        (status = 404, description = "`Webhook not found`", body = Refusal),
    ))]
pub(super) async fn of_webhook(
    State(app): State<App>,
    PathId(id): PathId<EndpointId>,
    Query(request): Query<DeliveriesOfWebhook>,
) -> Result<Json<DeliveryPage>, ApiError> {
    let DeliveriesOfWebhook {
        organization_id,
        state,
        cursor,
        limit,
    } = request;
    list(
        &app,
        &organization_id,
        Scope::Endpoint(id, state),
        cursor,
        limit,
    )
    .await
}

request! {
    /// A page of an event's deliveries.
    pub(super) struct DeliveriesOfEvent {
        /// Whose event it is.
        organization_id "organizationId": OrganizationId,
        /// The `nextCursor` of the page before.
        cursor "cursor": Option<Uuid>,
        /// How many at most; 50 where it is left out.
        limit "limit": Option<Number<1, MAX>>,
    }
}

/// Deliveries of an event
///
/// One for each endpoint that it went to. An event that is not known, or another organization's, has none.
#[utoipa::path(get, path = "/events/{id}/deliveries", tag = "Deliveries", operation_id = "deliveriesOfEvent",
    params(("id" = Uuid, Path, description = "The event"), DeliveriesOfEvent),
    responses(
        (status = 200, description = "A page of them", body = DeliveryPage),
        (status = 404, description = "`Not found`: the id is no UUID", body = Refusal),
    ))]
pub(super) async fn of_event(
    State(app): State<App>,
    PathId(id): PathId<EventId>,
    Query(request): Query<DeliveriesOfEvent>,
) -> Result<Json<DeliveryPage>, ApiError> {
    let DeliveriesOfEvent {
        organization_id,
        cursor,
        limit,
    } = request;
    list(&app, &organization_id, Scope::Event(id), cursor, limit).await
}

request! {
    /// A page of dead letters.
    pub(super) struct DeadLetters {
        /// Whose they are.
        organization_id "organizationId": OrganizationId,
        /// Only those of this webhook.
        webhook_id "webhookId": Option<Uuid>,
        /// The `nextCursor` of the page before.
        cursor "cursor": Option<Uuid>,
        /// How many at most; 50 where it is left out.
        limit "limit": Option<Number<1, MAX>>,
    }
}

/// Dead letters
///
/// Deliveries that failed for good, newest first.
#[utoipa::path(get, path = "/dead-letters", tag = "Deliveries", operation_id = "listDeadLetters",
    params(DeadLetters),
    responses(
        (status = 200, description = "A page of them", body = DeliveryPage),
        (status = 404, description = "`Webhook not found`", body = Refusal),
    ))]
pub(super) async fn dead_letters(
    State(app): State<App>,
    Query(request): Query<DeadLetters>,
) -> Result<Json<DeliveryPage>, ApiError> {
    let DeadLetters {
        organization_id,
        webhook_id,
        cursor,
        limit,
    } = request;
    let of_webhook = |id| Scope::Endpoint(EndpointId(id), Some(DeliveryState::Failed));
    list(
        &app,
        &organization_id,
        webhook_id.map_or(Scope::DeadLetters, of_webhook),
        cursor,
        limit,
    )
    .await
}

async fn list(
    app: &App,
    organization: &OrganizationId,
    scope: Scope,
    cursor: Option<Uuid>,
    limit: Option<Number<1, MAX>>,
) -> Result<Json<DeliveryPage>, ApiError> {
    let limit = limit
        .and_then(|limit| usize::try_from(limit.0).ok())
        .unwrap_or(DEFAULT_LIMIT);
    Ok(Json(
        app.deliveries(organization, scope, cursor.map(DeliveryId), limit)
            .await?
            .into(),
    ))
}

/// Read a delivery
///
/// With up to 16 KiB of each answer.
#[utoipa::path(get, path = "/deliveries/{id}", tag = "Deliveries", operation_id = "showDelivery",
    params(("id" = Uuid, Path, description = "The delivery"), Owner),
    responses(
        (status = 200, description = "The delivery and its attempts", body = Delivery),
        (status = 404, description = "`Delivery not found`", body = Refusal),
    ))]
pub(super) async fn show(
    State(app): State<App>,
    PathId(id): PathId<DeliveryId>,
    Query(owner): Query<Owner>,
) -> Result<Json<Delivery>, ApiError> {
    Ok(Json(app.delivery(&owner.organization_id, id).await?.into()))
}

/// Send a delivery again
///
/// Now, with the same bytes and the whole schedule of retries before it.
#[utoipa::path(post, path = "/deliveries/{id}/resend", tag = "Deliveries", operation_id = "resendDelivery",
    params(("id" = Uuid, Path, description = "The delivery")),
    request_body = Owner,
    responses(
        (status = 202, description = "It is on its way", body = Delivery),
        (status = 404, description = "`Delivery not found`", body = Refusal),
        (status = 409, description = "`Webhook is disabled`: enable it first. `Nothing to send`: the shaper refused \
            the event", body = Refusal),
    ))]
pub(super) async fn resend(
    State(app): State<App>,
    PathId(id): PathId<DeliveryId>,
    JsonBody(owner): JsonBody<Owner>,
) -> Result<(StatusCode, Json<Delivery>), ApiError> {
    Ok((
        StatusCode::ACCEPTED,
        Json(app.resend(&owner.organization_id, id).await?.into()),
    ))
}

type PerMinute = Number<1, { RateLimit::MAX_PER_MINUTE }>;

fn run(dry_run: Option<bool>) -> Run {
    if dry_run.unwrap_or(false) {
        Run::Dry
    } else {
        Run::Real
    }
}

request! {
    /// What is to be sent again after an outage.
    pub(super) struct Recover {
        /// Whose webhook it is.
        organization_id "organizationId": OrganizationId,
        /// When the outage began.
        since "since": Time,
        /// At most so many a minute; at once where it is left out.
        per_minute "perMinute": Option<PerMinute>,
        /// Only count.
        dry_run "dryRun": Option<bool>,
    }
}

/// What is, or would be, sent again.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Recovered {
    /// Dead letters.
    #[schema(minimum = 0)]
    failed: i64,
    /// Events that happened while the endpoint was disabled.
    #[schema(minimum = 0)]
    missed: i64,
    /// Whether they were only counted.
    dry_run: bool,
}

/// Recover a webhook
///
/// Sends what failed and what was missed since a time.
#[utoipa::path(post, path = "/webhooks/{id}/recover", tag = "Deliveries", operation_id = "recoverWebhook",
    params(("id" = Uuid, Path, description = "The webhook")),
    request_body = Recover,
    responses(
        (status = 200, description = "How many", body = Recovered),
        (status = 404, description = "`Webhook not found`", body = Refusal),
        (status = 409, description = "`Webhook is disabled`: enable it first", body = Refusal),
    ))]
pub(super) async fn recover(
    State(app): State<App>,
    PathId(id): PathId<EndpointId>,
    JsonBody(request): JsonBody<Recover>,
) -> Result<Json<Recovered>, ApiError> {
    let Recover {
        organization_id,
        since,
        per_minute,
        dry_run,
    } = request;
    let redrive = Redrive {
        since,
        per_minute: per_minute.map(|rate| rate.0),
        run: run(dry_run),
    };
    let recovered = app.recover(&organization_id, id, redrive).await?;
    let (failed, missed) = (recovered.failed, recovered.missed);
    Ok(Json(Recovered {
        failed,
        missed,
        dry_run: dry_run.unwrap_or(false),
    }))
}

request! {
    /// Which dead letters are to be sent again.
    pub(super) struct RedriveDeadLetters {
        /// Whose they are.
        organization_id "organizationId": OrganizationId,
        /// Only those of this webhook; of every active one where it is left out.
        webhook_id "webhookId": Option<Uuid>,
        /// Only those since then.
        since "since": Option<Time>,
        /// At most so many a minute; at once where it is left out.
        per_minute "perMinute": Option<PerMinute>,
        /// Only count.
        dry_run "dryRun": Option<bool>,
    }
}

/// Dead letters that are, or would be, sent again.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Redriven {
    #[schema(minimum = 0)]
    redriven: i64,
    /// Whether they were only counted.
    dry_run: bool,
}

/// Send dead letters again
#[utoipa::path(post, path = "/dead-letters/redrive", tag = "Deliveries", operation_id = "redriveDeadLetters",
    request_body = RedriveDeadLetters,
    responses(
        (status = 200, description = "How many", body = Redriven),
        (status = 404, description = "`Webhook not found`", body = Refusal),
        (status = 409, description = "`Webhook is disabled`: enable it first", body = Refusal),
    ))]
pub(super) async fn redrive(
    State(app): State<App>,
    JsonBody(request): JsonBody<RedriveDeadLetters>,
) -> Result<Json<Redriven>, ApiError> {
    let RedriveDeadLetters {
        organization_id,
        webhook_id,
        since,
        per_minute,
        dry_run,
    } = request;
    let since = since.unwrap_or(Time::from_micros(0));
    let redrive = Redrive {
        since,
        per_minute: per_minute.map(|rate| rate.0),
        run: run(dry_run),
    };
    let redriven = app
        .redrive(&organization_id, webhook_id.map(EndpointId), redrive)
        .await?;
    Ok(Json(Redriven {
        redriven,
        dry_run: dry_run.unwrap_or(false),
    }))
}
