//! Deliveries and their attempts: list, read and send them again.

pub(super) mod redrive;
mod view;

use axum::{Json, extract::State, http::StatusCode, response::Response};
use uuid::Uuid;
use wharf_app::{App, MAX_PER_PAGE, Scope};
use wharf_domain::{DeliveryId, DeliveryState, EndpointId, EventId, OrganizationId};

use self::view::{Delivery, DeliveryPage};
use super::webhooks::Owner;
use crate::{
    error::{ApiError, Refusal},
    once::{IdempotencyKey, Keyed},
    path::PathId,
    query::Query,
    request::request,
    values::Number,
};

/// Page size if the request names none.
const DEFAULT_LIMIT: usize = 50;
type PageLimit = Number<1, { MAX_PER_PAGE.cast_signed() as i64 }>;

request! {
    /// A page of an endpoint's deliveries.
    pub(super) struct DeliveriesOfWebhook {
        /// The organization that owns the webhook.
        organization_id "organizationId": OrganizationId,
        /// Only deliveries in this state.
        state "state": Option<DeliveryState>,
        /// `nextCursor` of the previous page.
        cursor "cursor": Option<Uuid>,
        /// Page size; 50 by default.
        limit "limit": Option<PageLimit>,
    }
}

/// Deliveries of a webhook
///
/// Newest first. Pages do not shift while new deliveries arrive.
#[utoipa::path(get, path = "/webhooks/{id}/deliveries", tag = "Deliveries", operation_id = "deliveriesOfWebhook",
    security(("key" = ["deliveries:read"])),
    params(("id" = Uuid, Path, description = "The webhook"), DeliveriesOfWebhook),
    responses(
        (status = 200, description = "A page of deliveries", body = DeliveryPage),
        (status = 404, description = "`Webhook not found`", body = Refusal),
    ))]
pub(super) async fn of_webhook(
    State(app): State<App>,
    PathId(id): PathId<EndpointId>,
    Query(request): Query<DeliveriesOfWebhook>,
) -> Result<Json<DeliveryPage>, ApiError> {
    let scope = Scope::Endpoint(id, request.state);
    let page = (request.cursor, request.limit);
    list(&app, &request.organization_id, scope, page).await
}

request! {
    /// A page of an event's deliveries.
    pub(super) struct DeliveriesOfEvent {
        /// The organization that owns the event.
        organization_id "organizationId": OrganizationId,
        /// `nextCursor` of the previous page.
        cursor "cursor": Option<Uuid>,
        /// Page size; 50 by default.
        limit "limit": Option<PageLimit>,
    }
}

/// Deliveries of an event
///
/// One for each endpoint. An unknown event, or another organization's, has none.
#[utoipa::path(get, path = "/events/{id}/deliveries", tag = "Deliveries", operation_id = "deliveriesOfEvent",
    security(("key" = ["deliveries:read"])),
    params(("id" = Uuid, Path, description = "The event"), DeliveriesOfEvent),
    responses(
        (status = 200, description = "A page of deliveries", body = DeliveryPage),
        (status = 404, description = "`Not found`: the id is no UUID", body = Refusal),
    ))]
pub(super) async fn of_event(
    State(app): State<App>,
    PathId(id): PathId<EventId>,
    Query(request): Query<DeliveriesOfEvent>,
) -> Result<Json<DeliveryPage>, ApiError> {
    let organization = &request.organization_id;
    // Before the page: what is made meanwhile is on it.
    let shapers = app.event_waits_for(organization, id).await?;
    let page = (request.cursor, request.limit);
    let Json(page) = list(&app, organization, Scope::Event(id), page).await?;
    Ok(Json(page.waiting_for(shapers)))
}

request! {
    /// A page of dead letters.
    pub(super) struct DeadLetters {
        /// The organization that owns them.
        organization_id "organizationId": OrganizationId,
        /// Only deliveries to this webhook.
        webhook_id "webhookId": Option<Uuid>,
        /// `nextCursor` of the previous page.
        cursor "cursor": Option<Uuid>,
        /// Page size; 50 by default.
        limit "limit": Option<PageLimit>,
    }
}

/// Dead letters
///
/// Deliveries that failed for good, newest first.
#[utoipa::path(get, path = "/dead-letters", tag = "Deliveries", operation_id = "listDeadLetters",
    security(("key" = ["deliveries:read"])),
    params(DeadLetters),
    responses(
        (status = 200, description = "A page of deliveries", body = DeliveryPage),
        (status = 404, description = "`Webhook not found`", body = Refusal),
    ))]
pub(super) async fn dead_letters(
    State(app): State<App>,
    Query(request): Query<DeadLetters>,
) -> Result<Json<DeliveryPage>, ApiError> {
    let of_webhook = |id| Scope::Endpoint(EndpointId(id), Some(DeliveryState::Failed));
    let scope = request.webhook_id.map_or(Scope::DeadLetters, of_webhook);
    let page = (request.cursor, request.limit);
    list(&app, &request.organization_id, scope, page).await
}

async fn list(
    app: &App,
    organization: &OrganizationId,
    scope: Scope,
    (cursor, limit): (Option<Uuid>, Option<PageLimit>),
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
/// Includes up to 16 KiB of each answer.
#[utoipa::path(get, path = "/deliveries/{id}", tag = "Deliveries", operation_id = "showDelivery",
    security(("key" = ["deliveries:read"])),
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
/// Immediately, with the same bytes and a full retry schedule. One that is being sent is sent once more after that.
#[utoipa::path(post, path = "/deliveries/{id}/resend", tag = "Deliveries", operation_id = "resendDelivery",
    security(("key" = ["deliveries:write"]), ("key" = ["portal:care"])),
    params(("id" = Uuid, Path, description = "The delivery"), IdempotencyKey),
    request_body = Owner,
    responses(
        (status = 202, description = "It is being sent", body = Delivery),
        (status = 404, description = "`Delivery not found`", body = Refusal),
        (status = 409, description = "`Webhook is disabled`: enable it first. `Nothing to send`: the shaper refused \
            the event", body = Refusal),
        (status = 429, description = "`Too many requests`: the organization asked for it too often within a minute",
            body = Refusal, headers(("Retry-After" = i64, description = "Seconds"))),
    ))]
pub(super) async fn resend(
    State(app): State<App>,
    PathId(id): PathId<DeliveryId>,
    Keyed { request, key }: Keyed<Owner>,
) -> Result<Response, ApiError> {
    let (app, organization) = (&app, &request.organization_id);
    let view = |delivery: &wharf_app::Delivery| Delivery::from(delivery.clone());
    let resend = |once| async move { app.resend(organization, id, &once).await };
    key.once(app, organization, StatusCode::ACCEPTED, view, resend)
        .await
}
