//! `/admin/operator-webhooks`: webhooks that tell the operator of the host's own events. They are webhooks like all
//! others, of an owner that no client can name.

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;
use wharf_app::{
    Activity, App, Deletion, Endpoint, EndpointChange, MAX_WEBHOOKS_PER_PAGE, SecretReport,
    TestSent, WebhookRegistration,
};
use wharf_domain::{EndpointId, OrganizationId, ShaperName, TargetUrl, Time};

use crate::{
    body::JsonBody,
    error::{ApiError, Refusal},
    once::{IdempotencyKey, Key, Keyed},
    path::PathId,
    request::request,
    routes::webhooks::{
        Unfinished,
        secret::{DEFAULT_OVERLAP, MAX_OVERLAP_SECONDS, WebhookSecret},
        test::SentTest,
    },
    values::{Number, OperatorEvent, operator_events},
};

/// A webhook of the operator's own.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::routes) struct OperatorWebhook {
    id: Uuid,
    #[schema(schema_with = operator_events)]
    event: String,
    target_url: String,
    is_active: bool,
    /// The reason why it is not active.
    #[schema(required)]
    disabled_reason: Option<String>,
    shaper: String,
    /// Also signs deliveries by a key pair (v1a).
    asymmetric: bool,
    consecutive_failures: i64,
    #[schema(required, format = DateTime)]
    failing_since: Option<String>,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
    /// Only in the answer that created the webhook.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl From<Endpoint> for OperatorWebhook {
    fn from(endpoint: Endpoint) -> Self {
        let time = |at: Option<Time>| at.map(|at| at.to_string());
        Self {
            id: endpoint.id.0,
            event: endpoint.event,
            target_url: endpoint.target_url,
            is_active: endpoint.is_active,
            disabled_reason: endpoint.disabled_reason,
            shaper: endpoint.shaper.to_string(),
            asymmetric: endpoint.asymmetric,
            consecutive_failures: endpoint.health.failures,
            failing_since: time(endpoint.health.failing_since),
            created_at: endpoint.created_at.to_string(),
            updated_at: endpoint.updated_at.to_string(),
            secret: None,
        }
    }
}

request! {
    /// A webhook for the operator's own events.
    pub(in crate::routes) struct AddOperatorWebhook {
        /// The event that it receives.
        event "event": OperatorEvent,
        /// An absolute http or https URL without credentials. The rule for addresses is that of all webhooks.
        target_url "targetUrl": TargetUrl,
        /// The plugin that shapes its payloads.
        shaper "shaper": Option<ShaperName>,
        /// Also signs deliveries by a key pair (v1a).
        asymmetric "asymmetric": Option<bool>,
    }
}

/// Add an operator's webhook
///
/// Idempotent on event and URL: repeating it returns the same webhook, made active. Only the answer that created it has
/// its secret.
#[utoipa::path(post, path = "/admin/operator-webhooks", tag = "Admin", operation_id = "addOperatorWebhook",
    security(("key" = ["operator"])),
    request_body = AddOperatorWebhook,
    responses(
        (status = 200, description = "The webhook", body = OperatorWebhook),
        (status = 404, description = "`Admin API disabled`: the host has no token", body = Refusal),
        (status = 409, description = "`Too many webhooks`: the operator has as many as an organization may have",
            body = Refusal),
    ))]
pub(in crate::routes) async fn add(
    State(app): State<App>,
    JsonBody(request): JsonBody<AddOperatorWebhook>,
) -> Result<Json<OperatorWebhook>, ApiError> {
    let OperatorEvent(event) = request.event;
    let registration = WebhookRegistration {
        organization_id: OrganizationId::operator(),
        event,
        target_url: request.target_url,
        shaper: request.shaper,
        asymmetric: request.asymmetric.unwrap_or(false),
    };
    let registered = app.register_webhook(registration).await?;
    Ok(Json(OperatorWebhook {
        secret: registered.secret,
        ..registered.endpoint.into()
    }))
}

/// The operator's webhooks.
#[derive(Serialize, ToSchema)]
pub(in crate::routes) struct OperatorWebhooks {
    /// The first 1,000, ordered by event, then URL.
    #[schema(max_items = 1_000)]
    items: Vec<OperatorWebhook>,
}

/// List the operator's webhooks
#[utoipa::path(get, path = "/admin/operator-webhooks", tag = "Admin", operation_id = "operatorWebhooks",
    security(("key" = ["operator"])),
    responses(
        (status = 200, description = "All of them", body = OperatorWebhooks),
        (status = 404, description = "`Admin API disabled`: the host has no token", body = Refusal),
    ))]
pub(in crate::routes) async fn list(
    State(app): State<App>,
) -> Result<Json<OperatorWebhooks>, ApiError> {
    let operator = OrganizationId::operator();
    let page = app.webhooks(&operator, None, MAX_WEBHOOKS_PER_PAGE).await?;
    let items = page.webhooks.into_iter().map(OperatorWebhook::from);
    Ok(Json(OperatorWebhooks {
        items: items.collect(),
    }))
}

/// Read an operator's webhook
#[utoipa::path(get, path = "/admin/operator-webhooks/{id}", tag = "Admin", operation_id = "showOperatorWebhook",
    security(("key" = ["operator"])),
    params(("id" = Uuid, Path, description = "The webhook")),
    responses(
        (status = 200, description = "The webhook", body = OperatorWebhook),
        (status = 404, description = "`Webhook not found`; `Admin API disabled`", body = Refusal),
    ))]
pub(in crate::routes) async fn show(
    State(app): State<App>,
    PathId(id): PathId<EndpointId>,
) -> Result<Json<OperatorWebhook>, ApiError> {
    let webhook = app.webhook(&OrganizationId::operator(), id).await?;
    Ok(Json(webhook.into()))
}

/// Remove an operator's webhook
///
/// Deletes its deliveries too. A webhook with a great many takes several requests.
#[utoipa::path(delete, path = "/admin/operator-webhooks/{id}", tag = "Admin", operation_id = "removeOperatorWebhook",
    security(("key" = ["operator"])),
    params(("id" = Uuid, Path, description = "The webhook")),
    responses(
        (status = 202, description = "It is disabled and has deliveries left: repeat the request", body = Unfinished),
        (status = 204, description = "It is removed"),
        (status = 404, description = "`Webhook not found`; `Admin API disabled`", body = Refusal),
    ))]
pub(in crate::routes) async fn remove(
    State(app): State<App>,
    PathId(id): PathId<EndpointId>,
) -> Result<Response, ApiError> {
    let deletion = app.delete_webhook(&OrganizationId::operator(), id).await?;
    Ok(match deletion {
        Deletion::Complete => StatusCode::NO_CONTENT.into_response(),
        Deletion::Unfinished => (StatusCode::ACCEPTED, Json(Unfinished::YES)).into_response(),
    })
}

/// Enable an operator's webhook
///
/// Resets its health.
#[utoipa::path(post, path = "/admin/operator-webhooks/{id}/enable", tag = "Admin",
    operation_id = "enableOperatorWebhook",
    security(("key" = ["operator"])),
    params(("id" = Uuid, Path, description = "The webhook")),
    responses(
        (status = 200, description = "The webhook as it is now", body = OperatorWebhook),
        (status = 404, description = "`Webhook not found`; `Admin API disabled`", body = Refusal),
    ))]
pub(in crate::routes) async fn enable(
    State(app): State<App>,
    PathId(id): PathId<EndpointId>,
) -> Result<Json<OperatorWebhook>, ApiError> {
    let change = EndpointChange {
        activity: Some(Activity::Enabled),
        ..EndpointChange::default()
    };
    let operator = OrganizationId::operator();
    Ok(Json(
        app.update_webhook(&operator, id, change).await?.into(),
    ))
}

/// Test an operator's webhook
///
/// Sends an event named `webhook.test` to it alone.
#[utoipa::path(post, path = "/admin/operator-webhooks/{id}/test", tag = "Admin", operation_id = "testOperatorWebhook",
    security(("key" = ["operator"])),
    params(("id" = Uuid, Path, description = "The webhook"), IdempotencyKey),
    responses(
        (status = 202, description = "It is being sent", body = SentTest),
        (status = 404, description = "`Webhook not found`; `Admin API disabled`", body = Refusal),
        (status = 409, description = "`Webhook is disabled`: enable it first", body = Refusal),
        (status = 429, description = "`Too many requests`: it was asked for too often within a minute", body = Refusal,
            headers(("Retry-After" = i64, description = "Seconds"))),
    ))]
pub(in crate::routes) async fn test(
    State(app): State<App>,
    PathId(id): PathId<EndpointId>,
    key: Key,
) -> Result<Response, ApiError> {
    let (app, operator) = (&app, &OrganizationId::operator());
    let send = |once| async move { app.test_webhook_once(operator, id, &once).await };
    let view = |sent: &TestSent| SentTest::from(*sent);
    key.once(app, operator, StatusCode::ACCEPTED, view, send)
        .await
}

request! {
    /// A secret of an operator's webhook to replace.
    pub(in crate::routes) struct RotateOperatorSecret {
        /// Time during which the old secret signs beside the new one; a day by default.
        overlap_seconds "overlapSeconds": Option<Number<0, MAX_OVERLAP_SECONDS>>,
    }
}

/// Replace an operator's webhook's secret
///
/// During the overlap every delivery is signed by both secrets.
#[utoipa::path(post, path = "/admin/operator-webhooks/{id}/secret/rotate", tag = "Admin",
    operation_id = "rotateOperatorWebhookSecret",
    security(("key" = ["operator"])),
    params(("id" = Uuid, Path, description = "The webhook"), IdempotencyKey),
    request_body = RotateOperatorSecret,
    responses(
        (status = 200, description = "The new secret", body = WebhookSecret),
        (status = 404, description = "`Webhook not found`; `Admin API disabled`", body = Refusal),
        (status = 409, description = "`Too many secrets`: four old ones still sign; rotate with an overlap of 0, or \
            later", body = Refusal),
        (status = 429, description = "`Too many requests`: too many of the operator's keys are kept", body = Refusal,
            headers(("Retry-After" = i64, description = "Seconds"))),
    ))]
pub(in crate::routes) async fn rotate(
    State(app): State<App>,
    PathId(id): PathId<EndpointId>,
    Keyed { request, key }: Keyed<RotateOperatorSecret>,
) -> Result<Response, ApiError> {
    let overlap = request.overlap_seconds.map_or(DEFAULT_OVERLAP, |seconds| {
        Duration::from_secs(seconds.0.unsigned_abs())
    });
    let (app, operator) = (&app, &OrganizationId::operator());
    let view = |report: &SecretReport| WebhookSecret::from(report.clone());
    let rotate = |once| async move {
        app.rotate_webhook_secret(operator, id, overlap, &once)
            .await
    };
    key.once(app, operator, StatusCode::OK, view, rotate).await
}
