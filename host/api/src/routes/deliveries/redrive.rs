//! Recovery after an outage: failed and missed deliveries sent again, of one endpoint or as dead letters.

use axum::{extract::State, http::StatusCode, response::Response};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;
use wharf_app::{App, RecoveryCursor, Redrive, Run};
use wharf_domain::{EndpointId, OrganizationId, RateLimit, Time};

use crate::{
    error::{ApiError, Refusal},
    once::{IdempotencyKey, Keyed},
    path::PathId,
    request::request,
    values::Number,
};

pub(in crate::routes) type PerMinute = Number<1, { RateLimit::MAX_PER_MINUTE }>;

pub(in crate::routes) fn redrive_of(
    since: Time,
    per_minute: Option<PerMinute>,
    from: Option<RecoveryCursor>,
    dry_run: bool,
) -> Redrive {
    Redrive {
        since,
        from,
        per_minute: per_minute.map(|rate| rate.0),
        run: if dry_run { Run::Dry } else { Run::Real },
    }
}

request! {
    /// Deliveries to send again after an outage.
    pub(in crate::routes) struct Recover {
        /// The organization that owns the webhook.
        organization_id "organizationId": OrganizationId,
        /// Start of the outage.
        since "since": Time,
        /// Deliveries per minute; no limit by default.
        per_minute "perMinute": Option<PerMinute>,
        /// Only count them.
        dry_run "dryRun": Option<bool>,
        /// The `nextCursor` of an answer, to go on where it stopped.
        cursor "cursor": Option<RecoveryCursor>,
    }
}

/// Dead letters that cannot be sent, by the reason.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Skipped {
    /// Nothing is stored that could be sent: the shaper refused the event or failed on it, or the body is gone. `resend`
    /// asks the shaper once more.
    #[schema(minimum = 0)]
    no_body: i64,
    /// The webhook is disabled: enable it first.
    #[schema(minimum = 0)]
    webhook_disabled: i64,
}

impl From<wharf_app::Skipped> for Skipped {
    fn from(skipped: wharf_app::Skipped) -> Self {
        Self {
            no_body: skipped.no_body,
            webhook_disabled: skipped.endpoint_disabled,
        }
    }
}

/// Numbers of deliveries that are, or would be, sent again.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::routes) struct Recovered {
    /// Dead letters.
    #[schema(minimum = 0)]
    failed: i64,
    /// Events that happened while the endpoint was disabled.
    #[schema(minimum = 0)]
    missed: i64,
    skipped: Skipped,
    /// True if they were only counted.
    dry_run: bool,
    /// There is more than one request does: the same again, with this as its `cursor`, goes on. Left out when all is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Recover a webhook
///
/// Sends the deliveries that failed and the events that were missed since a time.
#[utoipa::path(post, path = "/webhooks/{id}/recover", tag = "Deliveries", operation_id = "recoverWebhook",
    security(("key" = ["deliveries:write"]), ("key" = ["portal:care"])),
    params(("id" = Uuid, Path, description = "The webhook"), IdempotencyKey),
    request_body = Recover,
    responses(
        (status = 200, description = "How many", body = Recovered),
        (status = 404, description = "`Webhook not found`", body = Refusal),
        (status = 409, description = "`Webhook is disabled`: enable it first", body = Refusal),
        (status = 429, description = "`Too many requests`: the organization asked for it too often within a minute",
            body = Refusal, headers(("Retry-After" = i64, description = "Seconds"))),
    ))]
pub(in crate::routes) async fn recover(
    State(app): State<App>,
    PathId(id): PathId<EndpointId>,
    Keyed { request, key }: Keyed<Recover>,
) -> Result<Response, ApiError> {
    let dry_run = request.dry_run.unwrap_or(false);
    let redrive = redrive_of(request.since, request.per_minute, request.cursor, dry_run);
    let (app, organization) = (&app, &request.organization_id);
    let view = move |recovered: &wharf_app::Recovered| Recovered {
        failed: recovered.failed,
        missed: recovered.missed,
        skipped: recovered.skipped.into(),
        dry_run,
        next_cursor: recovered.next.map(|next| next.to_string()),
    };
    let recover = |once| async move { app.recover(organization, id, redrive, &once).await };
    key.once(app, organization, StatusCode::OK, view, recover)
        .await
}

request! {
    /// Dead letters to send again.
    pub(in crate::routes) struct RedriveDeadLetters {
        /// The organization that owns them.
        organization_id "organizationId": OrganizationId,
        /// Only dead letters of this webhook; by default of every active one.
        webhook_id "webhookId": Option<Uuid>,
        /// Only dead letters since then.
        since "since": Option<Time>,
        /// Deliveries per minute; no limit by default.
        per_minute "perMinute": Option<PerMinute>,
        /// Only count them.
        dry_run "dryRun": Option<bool>,
        /// The `nextCursor` of an answer, to go on where it stopped.
        cursor "cursor": Option<RecoveryCursor>,
    }
}

/// Dead letters that are, or would be, sent again.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::routes) struct Redriven {
    #[schema(minimum = 0)]
    redriven: i64,
    skipped: Skipped,
    /// True if they were only counted.
    dry_run: bool,
    /// There is more than one request does: the same again, with this as its `cursor`, goes on. Left out when all is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

impl Redriven {
    pub(in crate::routes) fn new(redriven: wharf_app::Redriven, dry_run: bool) -> Self {
        Self {
            redriven: redriven.letters,
            skipped: redriven.skipped.into(),
            dry_run,
            next_cursor: redriven.next.map(|next| next.to_string()),
        }
    }
}

/// Send dead letters again
#[utoipa::path(post, path = "/dead-letters/redrive", tag = "Deliveries", operation_id = "redriveDeadLetters",
    security(("key" = ["deliveries:write"]), ("key" = ["portal:care"])),
    params(IdempotencyKey),
    request_body = RedriveDeadLetters,
    responses(
        (status = 200, description = "How many", body = Redriven),
        (status = 404, description = "`Webhook not found`", body = Refusal),
        (status = 409, description = "`Webhook is disabled`: enable it first", body = Refusal),
        (status = 429, description = "`Too many requests`: the organization asked for it too often within a minute",
            body = Refusal, headers(("Retry-After" = i64, description = "Seconds"))),
    ))]
pub(in crate::routes) async fn redrive(
    State(app): State<App>,
    Keyed { request, key }: Keyed<RedriveDeadLetters>,
) -> Result<Response, ApiError> {
    let dry_run = request.dry_run.unwrap_or(false);
    // All dead letters: what retention has purged is gone anyway.
    let since = request.since.unwrap_or(Time::from_micros(0));
    let redrive = redrive_of(since, request.per_minute, request.cursor, dry_run);
    let webhook = request.webhook_id.map(EndpointId);
    let (app, organization) = (&app, &request.organization_id);
    let view = move |redriven: &wharf_app::Redriven| Redriven::new(*redriven, dry_run);
    let redrive = |once| async move { app.redrive(organization, webhook, redrive, &once).await };
    key.once(app, organization, StatusCode::OK, view, redrive)
        .await
}
