//! Webhook endpoints: register, list, read, change and delete them.

pub(super) mod activity;
pub(super) mod list;
pub(super) mod secret;
pub(super) mod test;

use axum::{
    Extension, Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;
use wharf_app::{Activity, App, Caller, Deletion, Endpoint, EndpointChange, WebhookRegistration};
use wharf_domain::{
    EndpointId, EventKind, KeyScope, OrganizationId, RateLimit, ShaperName, TargetUrl, Time,
};

use crate::{
    body::JsonBody,
    error::{ApiError, Refusal},
    path::PathId,
    query::Query,
    request::request,
    values::Number,
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
    /// The reason why it is not active.
    #[schema(required)]
    disabled_reason: Option<String>,
    shaper: String,
    /// Also signs deliveries by a key pair (v1a).
    asymmetric: bool,
    /// Limit of deliveries per minute; null for none.
    #[schema(required)]
    rate_per_minute: Option<i64>,
    health: WebhookHealth,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
    /// Events that wait for its shaper, which is out of service; counted up to 10,000, and only where one webhook is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0)]
    waiting_events: Option<i64>,
    /// Only in the answer that created the endpoint, and for a key with `webhooks:secrets`.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

/// The health of an endpoint since its last success.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct WebhookHealth {
    consecutive_failures: i64,
    #[schema(required, format = DateTime)]
    failing_since: Option<String>,
    /// Nothing is sent until then. Afterwards one delivery at a time is sent, until one succeeds.
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
            waiting_events: None,
            // Whoever may read the endpoint later is not shown it by the way; `/secret` is asked for on purpose.
            secret: None,
        }
    }
}

request! {
    /// An endpoint for an event.
    pub(super) struct RegisterWebhook {
        /// The organization whose stores it is told about.
        organization_id "organizationId": OrganizationId,
        /// The event that it receives.
        event "event": EventKind,
        /// An absolute http or https URL without credentials. Addresses that are not public are refused.
        target_url "targetUrl": TargetUrl,
        /// The plugin that shapes its payloads.
        shaper "shaper": Option<ShaperName>,
        /// Also signs deliveries by a key pair (v1a).
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
/// Idempotent on organization, event and URL: repeating it returns the same endpoint, made active. Only the answer that
/// created the endpoint has its secret.
#[utoipa::path(post, path = "/webhooks/register", tag = "Webhooks", operation_id = "registerWebhook",
    security(("key" = ["webhooks:write"])),
    request_body = RegisterWebhook,
    responses(
        (status = 200, description = "The endpoint", body = Webhook),
        (status = 409, description = "`Too many webhooks`: the organization has as many as it may have", body = Refusal),
    ))]
pub(super) async fn register(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    JsonBody(request): JsonBody<RegisterWebhook>,
) -> Result<Json<Webhook>, ApiError> {
    let registered = app.register_webhook(request.into()).await?;
    Ok(Json(Webhook {
        // Not to whoever may not read secrets: they would have it by registering.
        secret: registered
            .secret
            .filter(|_| caller.may(KeyScope::WebhooksSecrets)),
        ..registered.endpoint.into()
    }))
}

request! {
    /// The organization of a request.
    pub(super) struct Owner {
        /// The organization. Webhooks of others are not found.
        organization_id "organizationId": OrganizationId,
    }
}

/// Read a webhook
#[utoipa::path(get, path = "/webhooks/{id}", tag = "Webhooks", operation_id = "showWebhook",
    security(("key" = ["webhooks:read"])),
    params(("id" = Uuid, Path, description = "The webhook"), Owner),
    responses(
        (status = 200, description = "The endpoint and its health", body = Webhook),
        (status = 404, description = "`Webhook not found`", body = Refusal),
    ))]
pub(super) async fn show(
    State(app): State<App>,
    PathId(id): PathId<EndpointId>,
    Query(owner): Query<Owner>,
) -> Result<Json<Webhook>, ApiError> {
    let webhook = app.webhook(&owner.organization_id, id).await?;
    let waiting_events = Some(app.waiting_events(&webhook).await?);
    Ok(Json(Webhook {
        waiting_events,
        ..webhook.into()
    }))
}

request! {
    /// Changes of a webhook. Fields that are left out stay as they are.
    pub(super) struct UpdateWebhook {
        /// The organization that owns the webhook.
        organization_id "organizationId": OrganizationId,
        /// Its new URL.
        target_url "targetUrl": Option<TargetUrl>,
        /// The plugin that shapes its payloads.
        shaper "shaper": Option<ShaperName>,
        /// Enables or disables deliveries to it.
        is_active "isActive": Option<bool>,
        /// Also signs deliveries by a key pair (v1a).
        asymmetric "asymmetric": Option<bool>,
        /// Limit of deliveries per minute; 0 removes it.
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
    security(("key" = ["webhooks:write"])),
    params(("id" = Uuid, Path, description = "The webhook")),
    request_body = UpdateWebhook,
    responses(
        (status = 200, description = "The endpoint as it is now", body = Webhook),
        (status = 404, description = "`Webhook not found`", body = Refusal),
        (status = 409, description = "`Webhook exists`: another one has this event and URL; `Secret is unreadable`: rotate it before it gets another URL", body = Refusal),
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
/// Deletes its deliveries too. A webhook with a great many takes several requests.
#[utoipa::path(delete, path = "/webhooks/{id}", tag = "Webhooks", operation_id = "deleteWebhook",
    security(("key" = ["webhooks:write"])),
    params(("id" = Uuid, Path, description = "The webhook"), Owner),
    responses(
        (status = 202, description = "It is disabled and has deliveries left: repeat the request", body = Unfinished),
        (status = 204, description = "It is deleted"),
        (status = 404, description = "`Webhook not found`", body = Refusal),
    ))]
pub(super) async fn delete(
    State(app): State<App>,
    PathId(id): PathId<EndpointId>,
    Query(owner): Query<Owner>,
) -> Result<Response, ApiError> {
    let unfinished = Json(Unfinished::YES);
    Ok(
        match app.delete_webhook(&owner.organization_id, id).await? {
            Deletion::Complete => StatusCode::NO_CONTENT.into_response(),
            Deletion::Unfinished => (StatusCode::ACCEPTED, unfinished).into_response(),
        },
    )
}

/// Work that is too much for one request.
#[derive(Serialize, ToSchema)]
pub(super) struct Unfinished {
    /// The request is to be repeated.
    more: bool,
}

impl Unfinished {
    pub(super) const YES: Self = Self { more: true };
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{fields::Fields, request::FromFields};

    fn parse(value: Value) -> Result<WebhookRegistration, Vec<String>> {
        RegisterWebhook::from_fields(Fields::of(value))
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
