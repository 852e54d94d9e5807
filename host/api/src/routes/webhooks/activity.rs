//! Webhook endpoints enabled and disabled by their owner.

use axum::{Json, extract::State};
use wharf_app::{Activity, App, EndpointChange};
use wharf_domain::{EndpointId, OrganizationId};

use super::{BY_ITS_OWNER, Owner, Webhook};
use crate::{
    body::JsonBody,
    error::{ApiError, Refusal},
    path::PathId,
    request::request,
    values::Note,
};

/// Enable a webhook
///
/// Resets its health. Events that it missed can be sent by `recover`.
#[utoipa::path(post, path = "/webhooks/{id}/enable", tag = "Webhooks", operation_id = "enableWebhook",
    security(("key" = ["webhooks:write"]), ("key" = ["portal:care"])),
    params(("id" = Uuid, Path, description = "The webhook")),
    request_body = Owner,
    responses(
        (status = 200, description = "The endpoint as it is now", body = Webhook),
        (status = 404, description = "`Webhook not found`", body = Refusal),
    ))]
pub(in crate::routes) async fn enable(
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
    /// A webhook to disable.
    pub(in crate::routes) struct DisableWebhook {
        /// The organization that owns the webhook.
        organization_id "organizationId": OrganizationId,
        /// Shown as `disabledReason`.
        reason "reason": Option<Note<255>>,
    }
}

/// Disable a webhook
///
/// Its pending deliveries become dead letters. Events that happen meanwhile are not delivered.
#[utoipa::path(post, path = "/webhooks/{id}/disable", tag = "Webhooks", operation_id = "disableWebhook",
    security(("key" = ["webhooks:write"])),
    params(("id" = Uuid, Path, description = "The webhook")),
    request_body = DisableWebhook,
    responses(
        (status = 200, description = "The endpoint as it is now", body = Webhook),
        (status = 404, description = "`Webhook not found`", body = Refusal),
    ))]
pub(in crate::routes) async fn disable(
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
