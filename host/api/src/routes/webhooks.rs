use std::time::Duration;

use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;
use wharf_app::{
    Activity, App, Endpoint, EndpointChange, MAX_OVERLAP, SecretReport, WebhookRegistration,
};
use wharf_domain::{EndpointId, EventKind, OrganizationId, RateLimit, ShaperName, TargetUrl, Time};

use crate::{
    body::JsonBody,
    error::{ApiError, Refusal},
    path::PathId,
    query::Query,
    request::request,
    values::{Note, Number},
};

/// A webhook endpoint as its owner sees it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Webhook {
    id: Uuid,
    organization_id: String,
    event: String,
    target_url: String,
    is_active: bool,
    /// Why it is not active.
    #[schema(required)]
    disabled_reason: Option<String>,
    shaper: String,
    /// Whether deliveries are signed by a key pair (v1a) too.
    asymmetric: bool,
    /// At most so many deliveries a minute; null for no limit.
    #[schema(required)]
    rate_per_minute: Option<i64>,
    health: WebhookHealth,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
    /// Only where the endpoint has just been made.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

/// How an endpoint has been doing since an attempt last succeeded.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct WebhookHealth {
    consecutive_failures: i64,
    #[schema(required, format = DateTime)]
    failing_since: Option<String>,
    /// Nothing is sent until then; afterwards one delivery at a time, until one succeeds.
    #[schema(required, format = DateTime)]
    paused_until: Option<String>,
}

impl From<Endpoint> for Webhook {
    fn from(endpoint: Endpoint) -> Self {
        let time = |at: Option<Time>| at.map(|at| at.to_string());
        Self {
            id: endpoint.id.0,
            organization_id: endpoint.organization_id.to_string(),
            event: endpoint.event,
            target_url: endpoint.target_url,
            is_active: endpoint.is_active,
            disabled_reason: endpoint.disabled_reason,
            shaper: endpoint.shaper.to_string(),
            asymmetric: endpoint.asymmetric,
            rate_per_minute: endpoint.rate_per_minute,
            health: WebhookHealth {
                consecutive_failures: endpoint.health.failures,
                failing_since: time(endpoint.health.failing_since),
                paused_until: time(endpoint.health.paused_until),
            },
            created_at: endpoint.created_at.to_string(),
            updated_at: endpoint.updated_at.to_string(),
            secret: endpoint.secret,
        }
    }
}

request! {
    /// An endpoint for an event.
    pub(super) struct RegisterWebhook {
        /// Whose stores it is to hear of.
        organization_id "organizationId": OrganizationId,
        /// What it is to hear.
        event "event": EventKind,
        /// Where it is: an absolute http or https URL without credentials. Addresses that are not public are refused.
        target_url "targetUrl": TargetUrl,
        /// The plugin that shapes its payloads.
        shaper "shaper": Option<ShaperName>,
        /// Whether deliveries are signed by a key pair (v1a) too.
        asymmetric "asymmetric": Option<bool>,
    }
}

impl From<RegisterWebhook> for WebhookRegistration {
    fn from(request: RegisterWebhook) -> Self {
        let RegisterWebhook {
            organization_id,
            event,
            target_url,
            shaper,
            asymmetric,
        } = request;
        Self {
            organization_id,
            event,
            target_url,
            shaper,
            asymmetric: asymmetric.unwrap_or(false),
        }
    }
}

/// Register a webhook
///
/// Idempotent on organization, event and URL: the same again answers the same endpoint, made active. The secret is in
/// the answer that made the endpoint, and in no later one.
#[utoipa::path(post, path = "/webhooks/register", tag = "Webhooks", operation_id = "registerWebhook",
    request_body = RegisterWebhook,
    responses((status = 200, description = "The endpoint", body = Webhook)))]
pub(super) async fn register(
    State(app): State<App>,
    JsonBody(request): JsonBody<RegisterWebhook>,
) -> Result<Json<Webhook>, ApiError> {
    Ok(Json(app.register_webhook(request.into()).await?.into()))
}

request! {
    /// Whose request it is.
    pub(super) struct Owner {
        /// Whose webhooks these are. Those of others are not found.
        organization_id "organizationId": OrganizationId,
    }
}

/// List webhooks
///
/// An organization's, ordered by event, then URL.
#[utoipa::path(get, path = "/webhooks", tag = "Webhooks", operation_id = "listWebhooks",
    params(Owner),
    responses((status = 200, description = "All of them", body = [Webhook])))]
pub(super) async fn list(
    State(app): State<App>,
    Query(owner): Query<Owner>,
) -> Result<Json<Vec<Webhook>>, ApiError> {
    Ok(Json(
        app.webhooks(&owner.organization_id)
            .await?
            .into_iter()
            .map(Webhook::from)
            .collect(),
    ))
}

/// Read a webhook
#[utoipa::path(get, path = "/webhooks/{id}", tag = "Webhooks", operation_id = "showWebhook",
    params(("id" = Uuid, Path, description = "The webhook"), Owner),
    responses(
        (status = 200, description = "The endpoint and how it has been doing", body = Webhook),
        (status = 404, description = "`Webhook not found`", body = Refusal),
    ))]
pub(super) async fn show(
    State(app): State<App>,
    PathId(id): PathId<EndpointId>,
    Query(owner): Query<Owner>,
) -> Result<Json<Webhook>, ApiError> {
    Ok(Json(app.webhook(&owner.organization_id, id).await?.into()))
}

request! {
    /// What is to change; what is not named stays as it is.
    pub(super) struct UpdateWebhook {
        /// Whose webhook it is.
        organization_id "organizationId": OrganizationId,
        /// Where it is from now on.
        target_url "targetUrl": Option<TargetUrl>,
        /// The plugin that shapes its payloads from now on.
        shaper "shaper": Option<ShaperName>,
        /// Whether it is sent to.
        is_active "isActive": Option<bool>,
        /// Whether deliveries are signed by a key pair (v1a) too.
        asymmetric "asymmetric": Option<bool>,
        /// At most so many deliveries a minute; 0 is no limit.
        rate_per_minute "ratePerMinute": Option<Number<0, { RateLimit::MAX_PER_MINUTE }>>,
    }
}

const BY_ITS_OWNER: &str = "by its owner";

impl UpdateWebhook {
    fn change(self) -> (OrganizationId, EndpointChange) {
        let Self {
            organization_id,
            target_url,
            shaper,
            is_active,
            asymmetric,
            rate_per_minute,
        } = self;
        let disabled = || Activity::Disabled(BY_ITS_OWNER.into());
        let activity = is_active.map(|is| if is { Activity::Enabled } else { disabled() });
        let rate_per_minute = rate_per_minute.map(|rate| rate.0);
        (
            organization_id,
            EndpointChange {
                target_url,
                shaper,
                activity,
                asymmetric,
                rate_per_minute,
            },
        )
    }
}

/// Change a webhook
#[utoipa::path(patch, path = "/webhooks/{id}", tag = "Webhooks", operation_id = "updateWebhook",
    params(("id" = Uuid, Path, description = "The webhook")),
    request_body = UpdateWebhook,
    responses(
        (status = 200, description = "The endpoint as it is now", body = Webhook),
        (status = 404, description = "`Webhook not found`", body = Refusal),
        (status = 409, description = "`Webhook exists`: another one has this event and URL", body = Refusal),
    ))]
pub(super) async fn update(
    State(app): State<App>,
    PathId(id): PathId<EndpointId>,
    JsonBody(request): JsonBody<UpdateWebhook>,
) -> Result<Json<Webhook>, ApiError> {
    let (organization, change) = request.change();
    Ok(Json(
        app.update_webhook(&organization, id, change).await?.into(),
    ))
}

/// Delete a webhook
///
/// With its deliveries.
#[utoipa::path(delete, path = "/webhooks/{id}", tag = "Webhooks", operation_id = "deleteWebhook",
    params(("id" = Uuid, Path, description = "The webhook"), Owner),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "`Webhook not found`", body = Refusal),
    ))]
pub(super) async fn delete(
    State(app): State<App>,
    PathId(id): PathId<EndpointId>,
    Query(owner): Query<Owner>,
) -> Result<StatusCode, ApiError> {
    app.delete_webhook(&owner.organization_id, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Enable a webhook
///
/// What went wrong before is forgotten. What was missed meanwhile comes by `recover`.
#[utoipa::path(post, path = "/webhooks/{id}/enable", tag = "Webhooks", operation_id = "enableWebhook",
    params(("id" = Uuid, Path, description = "The webhook")),
    request_body = Owner,
    responses(
        (status = 200, description = "The endpoint as it is now", body = Webhook),
        (status = 404, description = "`Webhook not found`", body = Refusal),
    ))]
pub(super) async fn enable(
    State(app): State<App>,
    PathId(id): PathId<EndpointId>,
    JsonBody(owner): JsonBody<Owner>,
) -> Result<Json<Webhook>, ApiError> {
    let change = EndpointChange {
        activity: Some(Activity::Enabled),
        ..EndpointChange::default()
    };
    Ok(Json(
        app.update_webhook(&owner.organization_id, id, change)
            .await?
            .into(),
    ))
}

request! {
    /// Why a webhook is to be disabled.
    pub(super) struct DisableWebhook {
        /// Whose webhook it is.
        organization_id "organizationId": OrganizationId,
        /// Shown as `disabledReason`.
        reason "reason": Option<Note<255>>,
    }
}

/// Disable a webhook
///
/// What is on its way to it becomes dead letters; what happens meanwhile is not delivered.
#[utoipa::path(post, path = "/webhooks/{id}/disable", tag = "Webhooks", operation_id = "disableWebhook",
    params(("id" = Uuid, Path, description = "The webhook")),
    request_body = DisableWebhook,
    responses(
        (status = 200, description = "The endpoint as it is now", body = Webhook),
        (status = 404, description = "`Webhook not found`", body = Refusal),
    ))]
pub(super) async fn disable(
    State(app): State<App>,
    PathId(id): PathId<EndpointId>,
    JsonBody(request): JsonBody<DisableWebhook>,
) -> Result<Json<Webhook>, ApiError> {
    let activity = Activity::Disabled(
        request
            .reason
            .map_or_else(|| BY_ITS_OWNER.into(), |reason| reason.0),
    );
    let change = EndpointChange {
        activity: Some(activity),
        ..EndpointChange::default()
    };
    Ok(Json(
        app.update_webhook(&request.organization_id, id, change)
            .await?
            .into(),
    ))
}

/// What signs a webhook's deliveries.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct WebhookSecret {
    /// Of the signature v1.
    #[schema(pattern = "^whsec_")]
    secret: String,
    /// Of the signature v1a; null where the endpoint has none.
    #[schema(required)]
    public_key: Option<String>,
    /// Until when each of the replaced secrets signs too.
    #[schema(inline, value_type = Vec<String>, format = DateTime)]
    previous_secrets_until: Vec<String>,
}

impl From<SecretReport> for WebhookSecret {
    fn from(report: SecretReport) -> Self {
        let previous_secrets_until = report.overlaps.iter().map(Time::to_string).collect();
        Self {
            secret: report.secret,
            public_key: report.public_key,
            previous_secrets_until,
        }
    }
}

/// Read a webhook's secret
#[utoipa::path(get, path = "/webhooks/{id}/secret", tag = "Webhooks", operation_id = "webhookSecret",
    params(("id" = Uuid, Path, description = "The webhook"), Owner),
    responses(
        (status = 200, description = "The secret", body = WebhookSecret),
        (status = 404, description = "`Webhook not found`", body = Refusal),
    ))]
pub(super) async fn secret(
    State(app): State<App>,
    PathId(id): PathId<EndpointId>,
    Query(owner): Query<Owner>,
) -> Result<Json<WebhookSecret>, ApiError> {
    Ok(Json(
        app.webhook_secret(&owner.organization_id, id).await?.into(),
    ))
}

/// How long a replaced secret still signs where the request says nothing.
const DEFAULT_OVERLAP: Duration = Duration::from_secs(24 * 60 * 60);
/// [`MAX_OVERLAP`] as a bound of a field.
const MAX_OVERLAP_SECONDS: i64 = MAX_OVERLAP.as_secs().cast_signed();

request! {
    /// How a secret is to be replaced.
    pub(super) struct RotateSecret {
        /// Whose webhook it is.
        organization_id "organizationId": OrganizationId,
        /// How long the old secret signs beside the new one; a day where it is left out.
        overlap_seconds "overlapSeconds": Option<Number<0, MAX_OVERLAP_SECONDS>>,
    }
}

/// Replace a webhook's secret
///
/// Meanwhile every delivery is signed by both.
#[utoipa::path(post, path = "/webhooks/{id}/secret/rotate", tag = "Webhooks", operation_id = "rotateWebhookSecret",
    params(("id" = Uuid, Path, description = "The webhook")),
    request_body = RotateSecret,
    responses(
        (status = 200, description = "The new secret", body = WebhookSecret),
        (status = 404, description = "`Webhook not found`", body = Refusal),
    ))]
pub(super) async fn rotate(
    State(app): State<App>,
    PathId(id): PathId<EndpointId>,
    JsonBody(request): JsonBody<RotateSecret>,
) -> Result<Json<WebhookSecret>, ApiError> {
    let overlap = request
        .overlap_seconds
        .map(|seconds| Duration::from_secs(seconds.0.unsigned_abs()));
    let overlap = overlap.unwrap_or(DEFAULT_OVERLAP);
    Ok(Json(
        app.rotate_webhook_secret(&request.organization_id, id, overlap)
            .await?
            .into(),
    ))
}

/// A test event on its way.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SentTest {
    event_id: Uuid,
    delivery_id: Uuid,
}

/// Test a webhook
///
/// An event named `webhook.test` goes to this endpoint alone.
#[utoipa::path(post, path = "/webhooks/{id}/test", tag = "Webhooks", operation_id = "testWebhook",
    params(("id" = Uuid, Path, description = "The webhook")),
    request_body = Owner,
    responses(
        (status = 202, description = "It is on its way", body = SentTest),
        (status = 404, description = "`Webhook not found`", body = Refusal),
        (status = 409, description = "`Webhook is disabled`: enable it first", body = Refusal),
    ))]
pub(super) async fn test(
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{fields::Fields, request::FromFields};

    fn parse(value: Value) -> Result<WebhookRegistration, Vec<String>> {
        let Value::Object(object) = value else {
            panic!("not an object")
        };
        RegisterWebhook::from_fields(Fields::from_object(object))
            .map(WebhookRegistration::from)
            .map_err(|error| {
                let ApiError::Validation(details) = error else {
                    panic!("another refusal")
                };
                details
                    .into_iter()
                    .map(|detail| format!("{} {}", detail.path, detail.message))
                    .collect()
            })
    }

    #[test]
    fn events_and_urls_are_checked_together() {
        let url = "http://127.0.0.1:4000/webhook";
        for event in ["sync.started", "sync.completed", "sync.failed"] {
            let parsed = parse(json!({"organizationId": "o", "event": event, "targetUrl": url}));
            assert_eq!(
                parsed.ok().map(|webhook| webhook.event.as_str()),
                Some(event)
            );
        }
        let refused = parse(
            json!({"organizationId": "o", "event": "sync", "targetUrl": "ftp://a", "shaper": 5}),
        );
        assert_eq!(
            refused.expect_err("a refusal"),
            [
                "event must be one of sync.completed, sync.failed, sync.started",
                "targetUrl must be an absolute http or https URL",
                "shaper must be a string",
            ]
        );
    }
}
