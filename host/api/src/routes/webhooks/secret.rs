//! Signing secrets of webhook endpoints: read and replace them.

use std::time::Duration;

use axum::{Json, extract::State, http::StatusCode, response::Response};
use serde::Serialize;
use utoipa::ToSchema;
use wharf_app::{App, MAX_OVERLAP, SecretReport};
use wharf_domain::{EndpointId, OrganizationId, Time};

use super::Owner;
use crate::{
    error::{ApiError, Refusal},
    once::{IdempotencyKey, Keyed},
    path::PathId,
    query::Query,
    request::request,
    values::Number,
};

/// The keys that sign a webhook's deliveries.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::routes) struct WebhookSecret {
    /// The secret of signature v1.
    #[schema(pattern = "^whsec_")]
    secret: String,
    /// The public key of signature v1a; null if the endpoint has none.
    #[schema(required)]
    public_key: Option<String>,
    /// End of each overlap during which a replaced secret signs too.
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
    security(("key" = ["webhooks:secrets"])),
    params(("id" = Uuid, Path, description = "The webhook"), Owner),
    responses(
        (status = 200, description = "The secret", body = WebhookSecret),
        (status = 404, description = "`Webhook not found`", body = Refusal),
        (status = 409, description = "`Secret is unreadable`: rotate it first", body = Refusal),
    ))]
pub(in crate::routes) async fn show(
    State(app): State<App>,
    PathId(id): PathId<EndpointId>,
    Query(owner): Query<Owner>,
) -> Result<Json<WebhookSecret>, ApiError> {
    Ok(Json(
        app.webhook_secret(&owner.organization_id, id).await?.into(),
    ))
}

/// Overlap if the request names none.
pub(in crate::routes) const DEFAULT_OVERLAP: Duration = Duration::from_secs(24 * 60 * 60);
/// [`MAX_OVERLAP`] as a bound of a field.
pub(in crate::routes) const MAX_OVERLAP_SECONDS: i64 = MAX_OVERLAP.as_secs().cast_signed();

request! {
    /// A secret to replace.
    pub(in crate::routes) struct RotateSecret {
        /// The organization that owns the webhook.
        organization_id "organizationId": OrganizationId,
        /// Time during which the old secret signs beside the new one; a day by default.
        overlap_seconds "overlapSeconds": Option<Number<0, MAX_OVERLAP_SECONDS>>,
    }
}

/// Replace a webhook's secret
///
/// During the overlap every delivery is signed by both secrets.
#[utoipa::path(post, path = "/webhooks/{id}/secret/rotate", tag = "Webhooks", operation_id = "rotateWebhookSecret",
    security(("key" = ["webhooks:secrets"]), ("key" = ["portal:care"])),
    params(("id" = Uuid, Path, description = "The webhook"), IdempotencyKey),
    request_body = RotateSecret,
    responses(
        (status = 200, description = "The new secret", body = WebhookSecret),
        (status = 404, description = "`Webhook not found`", body = Refusal),
        (status = 409, description = "`Too many secrets`: four old ones still sign; rotate with an overlap of 0, or \
            later", body = Refusal),
    ))]
pub(in crate::routes) async fn rotate(
    State(app): State<App>,
    PathId(id): PathId<EndpointId>,
    Keyed { request, key }: Keyed<RotateSecret>,
) -> Result<Response, ApiError> {
    let overlap = request
        .overlap_seconds
        .map(|seconds| Duration::from_secs(seconds.0.unsigned_abs()));
    let overlap = overlap.unwrap_or(DEFAULT_OVERLAP);
    let (app, organization) = (&app, &request.organization_id);
    let view = |report: &SecretReport| WebhookSecret::from(report.clone());
    let rotate = |once| async move {
        app.rotate_webhook_secret(organization, id, overlap, &once)
            .await
    };
    key.once(app, organization, StatusCode::OK, view, rotate)
        .await
}
