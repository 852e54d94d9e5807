//! Test events for one webhook endpoint.

use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;
use wharf_app::App;
use wharf_domain::EndpointId;

use super::Owner;
use crate::{
    body::JsonBody,
    error::{ApiError, Refusal},
    path::PathId,
};

/// A test event that is being sent.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::routes) struct SentTest {
    event_id: Uuid,
    delivery_id: Uuid,
}

/// Test a webhook
///
/// Sends an event named `webhook.test` to this endpoint alone.
#[utoipa::path(post, path = "/webhooks/{id}/test", tag = "Webhooks", operation_id = "testWebhook",
    params(("id" = Uuid, Path, description = "The webhook")),
    request_body = Owner,
    responses(
        (status = 202, description = "It is being sent", body = SentTest),
        (status = 404, description = "`Webhook not found`", body = Refusal),
        (status = 409, description = "`Webhook is disabled`: enable it first", body = Refusal),
        (status = 429, description = "`Too many requests`: the organization asked for it too often within a minute",
            body = Refusal, headers(("Retry-After" = i64, description = "Seconds"))),
    ))]
pub(in crate::routes) async fn send(
    State(app): State<App>,
    PathId(id): PathId<EndpointId>,
    JsonBody(owner): JsonBody<Owner>,
) -> Result<(StatusCode, Json<SentTest>), ApiError> {
    let sent = app.test_webhook(&owner.organization_id, id).await?;
    Ok((
        StatusCode::ACCEPTED,
        Json(SentTest {
            event_id: sent.event_id.0,
            delivery_id: sent.delivery_id.0,
        }),
    ))
}
