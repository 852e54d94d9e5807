use std::time::Duration;

use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;
use wharf_app::{Activity, App, Endpoint, EndpointChange, LONGEST_OVERLAP, SecretReport, WebhookRegistration};
use wharf_domain::{EndpointId, EventKind, Invalid, OrganizationId, Pace, ShaperName, TargetUrl, Time};

use crate::{
    body::JsonBody,
    error::ApiError,
    fields::{Fields, note},
    path::PathId,
    query::Query,
};

/// A webhook endpoint as its owner sees it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown {
    id: Uuid,
    organization_id: String,
    event: String,
    target_url: String,
    is_active: bool,
    /// Why it is not active.
    disabled_reason: Option<String>,
    shaper: String,
    /// Whether deliveries are signed by a key pair (v1a) too.
    asymmetric: bool,
    /// At most so many deliveries a minute; null for no limit.
    rate_per_minute: Option<i64>,
    health: ShownHealth,
    created_at: String,
    updated_at: String,
    /// Only where the endpoint has just been made.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

/// How an endpoint has been doing since an attempt last succeeded.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownHealth {
    consecutive_failures: i64,
    failing_since: Option<String>,
    /// Nothing is sent until then; afterwards one delivery at a time, until one succeeds.
    paused_until: Option<String>,
}

impl From<Endpoint> for Shown {
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
            health: ShownHealth {
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

/// `POST /webhooks/register`: idempotent on organization, event and URL.
pub(super) async fn register(State(app): State<App>, JsonBody(fields): JsonBody) -> Result<Json<Shown>, ApiError> {
    Ok(Json(app.register_webhook(registration(fields)?).await?.into()))
}

fn registration(mut fields: Fields) -> Result<WebhookRegistration, ApiError> {
    let organization_id = fields.required("organizationId", OrganizationId::parse);
    let event = fields.required("event", event_kind);
    let target_url = fields.required("targetUrl", TargetUrl::parse);
    let shaper = fields.optional("shaper", ShaperName::parse);
    let asymmetric = fields.optional_flag("asymmetric");
    match (organization_id, event, target_url, shaper, asymmetric) {
        (Some(organization_id), Some(event), Some(target_url), Some(shaper), Some(asymmetric)) => {
            let asymmetric = asymmetric.unwrap_or(false);
            Ok(WebhookRegistration { organization_id, event, target_url, shaper, asymmetric })
        }
        _ => Err(fields.refusal()),
    }
}

fn event_kind(text: &str) -> Result<EventKind, Invalid> {
    let names = || EventKind::ALL.map(EventKind::as_str).join(", ");
    EventKind::parse(text).ok_or_else(|| Invalid(format!("must be one of {}", names())))
}

/// `GET /webhooks?organizationId=`: ordered by event, then URL.
pub(super) async fn list(State(app): State<App>, Query(mut fields): Query) -> Result<Json<Vec<Shown>>, ApiError> {
    let organization = fields.required("organizationId", OrganizationId::parse);
    let Some(organization) = organization else { return Err(fields.refusal()) };
    Ok(Json(app.webhooks(&organization).await?.into_iter().map(Shown::from).collect()))
}

/// Whose request it is, where nothing else is asked for.
pub(super) fn organization(mut fields: Fields) -> Result<OrganizationId, ApiError> {
    fields.required("organizationId", OrganizationId::parse).ok_or_else(|| fields.refusal())
}

/// `GET /webhooks/{id}?organizationId=`.
pub(super) async fn show(
    State(app): State<App>,
    PathId(id): PathId<EndpointId>,
    Query(fields): Query,
) -> Result<Json<Shown>, ApiError> {
    Ok(Json(app.webhook(&organization(fields)?, id).await?.into()))
}

/// `PATCH /webhooks/{id}`: what is not named stays as it is.
pub(super) async fn update(
    State(app): State<App>,
    PathId(id): PathId<EndpointId>,
    JsonBody(fields): JsonBody,
) -> Result<Json<Shown>, ApiError> {
    let (organization, change) = change(fields)?;
    Ok(Json(app.update_webhook(&organization, id, change).await?.into()))
}

const BY_ITS_OWNER: &str = "by its owner";

fn change(mut fields: Fields) -> Result<(OrganizationId, EndpointChange), ApiError> {
    let organization = fields.required("organizationId", OrganizationId::parse);
    let target_url = fields.optional("targetUrl", TargetUrl::parse);
    let shaper = fields.optional("shaper", ShaperName::parse);
    let is_active = fields.optional_flag("isActive");
    let asymmetric = fields.optional_flag("asymmetric");
    let rate_per_minute = fields.optional_number("ratePerMinute", 0..=Pace::MOST_PER_MINUTE);
    match (organization, target_url, shaper, is_active, asymmetric, rate_per_minute) {
        (
            Some(organization),
            Some(target_url),
            Some(shaper),
            Some(is_active),
            Some(asymmetric),
            Some(rate_per_minute),
        ) => {
            let disabled = || Activity::Disabled(BY_ITS_OWNER.into());
            let activity = is_active.map(|is| if is { Activity::Enabled } else { disabled() });
            Ok((organization, EndpointChange { target_url, shaper, activity, asymmetric, rate_per_minute }))
        }
        _ => Err(fields.refusal()),
    }
}

/// `DELETE /webhooks/{id}?organizationId=`: with its deliveries.
pub(super) async fn delete(
    State(app): State<App>,
    PathId(id): PathId<EndpointId>,
    Query(fields): Query,
) -> Result<StatusCode, ApiError> {
    app.delete_webhook(&organization(fields)?, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /webhooks/{id}/enable`: what went wrong before is forgotten.
pub(super) async fn enable(
    State(app): State<App>,
    PathId(id): PathId<EndpointId>,
    JsonBody(fields): JsonBody,
) -> Result<Json<Shown>, ApiError> {
    let change = EndpointChange { activity: Some(Activity::Enabled), ..EndpointChange::default() };
    Ok(Json(app.update_webhook(&organization(fields)?, id, change).await?.into()))
}

/// `POST /webhooks/{id}/disable`: with a reason, if the owner gives one.
pub(super) async fn disable(
    State(app): State<App>,
    PathId(id): PathId<EndpointId>,
    JsonBody(mut fields): JsonBody,
) -> Result<Json<Shown>, ApiError> {
    let organization = fields.required("organizationId", OrganizationId::parse);
    let reason = fields.optional("reason", note);
    let (Some(organization), Some(reason)) = (organization, reason) else { return Err(fields.refusal()) };
    let activity = Activity::Disabled(reason.unwrap_or_else(|| BY_ITS_OWNER.into()));
    let change = EndpointChange { activity: Some(activity), ..EndpointChange::default() };
    Ok(Json(app.update_webhook(&organization, id, change).await?.into()))
}

fn shown_secret(report: SecretReport) -> Json<Value> {
    let overlaps: Vec<_> = report.overlaps.iter().map(Time::to_string).collect();
    Json(json!({"secret": report.secret, "publicKey": report.public_key, "previousSecretsUntil": overlaps}))
}

/// `GET /webhooks/{id}/secret?organizationId=`.
pub(super) async fn secret(
    State(app): State<App>,
    PathId(id): PathId<EndpointId>,
    Query(fields): Query,
) -> Result<Json<Value>, ApiError> {
    Ok(shown_secret(app.webhook_secret(&organization(fields)?, id).await?))
}

/// How long a replaced secret still signs where the request says nothing.
const DEFAULT_OVERLAP: Duration = Duration::from_secs(24 * 60 * 60);

/// `POST /webhooks/{id}/secret/rotate`: the old secret signs too for `overlapSeconds`, by default a day.
pub(super) async fn rotate(
    State(app): State<App>,
    PathId(id): PathId<EndpointId>,
    JsonBody(mut fields): JsonBody,
) -> Result<Json<Value>, ApiError> {
    let longest = i64::try_from(LONGEST_OVERLAP.as_secs()).unwrap_or(i64::MAX);
    let organization = fields.required("organizationId", OrganizationId::parse);
    let overlap = fields.optional_number("overlapSeconds", 0..=longest);
    let (Some(organization), Some(overlap)) = (organization, overlap) else { return Err(fields.refusal()) };
    let overlap = overlap.map_or(DEFAULT_OVERLAP, |seconds| Duration::from_secs(seconds.unsigned_abs()));
    Ok(shown_secret(app.rotate_webhook_secret(&organization, id, overlap).await?))
}

/// `POST /webhooks/{id}/test`: an event named `webhook.test` goes to this endpoint alone.
pub(super) async fn test(
    State(app): State<App>,
    PathId(id): PathId<EndpointId>,
    JsonBody(fields): JsonBody,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let sent = app.test_webhook(&organization(fields)?, id).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({"eventId": sent.event_id.0, "deliveryId": sent.delivery_id.0}))))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parse(value: Value) -> Result<WebhookRegistration, Vec<String>> {
        let Value::Object(object) = value else { panic!("not an object") };
        registration(Fields::from_object(object)).map_err(|error| {
            let ApiError::Validation(details) = error else { panic!("another refusal") };
            details.into_iter().map(|detail| format!("{} {}", detail.path, detail.message)).collect()
        })
    }

    #[test]
    fn events_and_urls_are_checked_together() {
        let url = "http://127.0.0.1:4000/webhook";
        for event in ["sync.started", "sync.completed", "sync.failed"] {
            let parsed = parse(json!({"organizationId": "o", "event": event, "targetUrl": url}));
            assert_eq!(parsed.ok().map(|webhook| webhook.event.as_str()), Some(event));
        }
        let refused = parse(json!({"organizationId": "o", "event": "sync", "targetUrl": "ftp://a", "shaper": 5}));
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
