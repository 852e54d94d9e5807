//! Test events for one webhook endpoint.

use axum::{extract::State, http::StatusCode, response::Response};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;
use wharf_app::{App, TestSent};
use wharf_domain::EndpointId;

use super::Owner;
use crate::{
    error::{ApiError, Refusal},
    once::{IdempotencyKey, Keyed},
    path::PathId,
};

/// A test event that is being sent.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::routes) struct SentTest {
    event_id: Uuid,
    delivery_id: Uuid,
}

impl From<TestSent> for SentTest {
    fn from(sent: TestSent) -> Self {
        Self {
            event_id: sent.event_id.0,
            delivery_id: sent.delivery_id.0,
        }
    }
}

/// Test a webhook
///
/// Sends an event named `webhook.test` to this endpoint alone.
#[utoipa::path(post, path = "/webhooks/{id}/test", tag = "Webhooks", operation_id = "testWebhook",
    security(("key" = ["webhooks:write"])),
    params(("id" = Uuid, Path, description = "The webhook"), IdempotencyKey),
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
    Keyed { request, key }: Keyed<Owner>,
) -> Result<Response, ApiError> {
    let (app, organization) = (&app, &request.organization_id);
    let view = |sent: &TestSent| SentTest::from(*sent);
    let send = |once| async move { app.test_webhook_once(organization, id, &once).await };
    key.once(app, organization, StatusCode::ACCEPTED, view, send)
        .await
}
