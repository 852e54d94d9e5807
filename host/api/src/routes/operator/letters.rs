//! `/admin/dead-letters`: dead letters of all organizations, looked through and sent again.

use axum::{Json, extract::State, http::StatusCode, response::Response};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;
use wharf_app::{AnswerStatus, App, Letter, LetterFilter, RecoveryCursor};
use wharf_domain::{DeliveryId, EndpointId, OrganizationId, Time};

use super::{PageLimit, shown, size};
use crate::{
    error::{ApiError, Refusal},
    once::{IdempotencyKey, Keyed},
    query::Query,
    request::request,
    routes::deliveries::redrive::{PerMinute, Redriven, redrive_of},
    values::Note,
};

/// A delivery that failed for good, as the operator sees it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeadLetter {
    id: Uuid,
    /// Its owner; null for the operator's own.
    #[schema(required)]
    organization_id: Option<String>,
    webhook_id: Uuid,
    /// A disabled webhook's letters are not sent again.
    webhook_is_active: bool,
    event_id: Uuid,
    event: String,
    /// False if nothing is stored that could be sent: its shaper refused the event or failed on it.
    has_body: bool,
    /// Number of attempts made.
    attempt: i64,
    /// The last answer's status; null if none came.
    #[schema(required)]
    http_status: Option<i64>,
    #[schema(required)]
    last_error: Option<String>,
    #[schema(format = DateTime)]
    created_at: String,
    /// Time at which it was given up.
    #[schema(format = DateTime)]
    failed_at: String,
}

impl From<Letter> for DeadLetter {
    fn from(letter: Letter) -> Self {
        Self {
            id: letter.id.0,
            organization_id: shown(&letter.organization_id),
            webhook_id: letter.endpoint_id.0,
            webhook_is_active: letter.endpoint_is_active,
            event_id: letter.event_id.0,
            event: letter.event,
            has_body: letter.has_body,
            attempt: letter.attempts_made,
            http_status: letter.http_status,
            last_error: letter.last_error,
            created_at: letter.created_at.to_string(),
            failed_at: letter.failed_at.to_string(),
        }
    }
}

/// A page of dead letters.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::routes) struct DeadLetterPage {
    items: Vec<DeadLetter>,
    /// The `cursor` of the next page; null on the last. With a filter, a page may have less than `limit` and still not be
    /// the last: a request looks at 20,000 dead letters at most.
    #[schema(required)]
    next_cursor: Option<Uuid>,
}

request! {
    /// A page of all organizations' dead letters.
    pub(in crate::routes) struct AllDeadLetters {
        /// Only of this organization.
        organization_id "organizationId": Option<OrganizationId>,
        /// Only of this webhook.
        webhook_id "webhookId": Option<Uuid>,
        /// Only of this event's kind.
        event "event": Option<Note<255>>,
        /// Only with this last answer: a status, a class such as `5xx`, or `none` where no answer came.
        status "status": Option<AnswerStatus>,
        /// Only with these words in `lastError`.
        error "error": Option<Note<255>>,
        /// Only those made then or later.
        since "since": Option<Time>,
        /// Only those made before.
        until "until": Option<Time>,
        /// `nextCursor` of the previous page.
        cursor "cursor": Option<Uuid>,
        /// Page size; 50 by default.
        limit "limit": Option<PageLimit>,
    }
}

/// List all dead letters
///
/// Of all organizations and of the operator, newest first.
#[utoipa::path(get, path = "/admin/dead-letters", tag = "Admin", operation_id = "allDeadLetters",
    security(("key" = ["operator"])),
    params(AllDeadLetters),
    responses(
        (status = 200, description = "A page of dead letters", body = DeadLetterPage),
        (status = 404, description = "`Admin API disabled`: the host has no token", body = Refusal),
    ))]
pub(in crate::routes) async fn list(
    State(app): State<App>,
    Query(request): Query<AllDeadLetters>,
) -> Result<Json<DeadLetterPage>, ApiError> {
    let filter = LetterFilter {
        organization: request.organization_id,
        endpoint: request.webhook_id.map(EndpointId),
        event: request.event.map(|event| event.0),
        status: request.status,
        error: request.error.map(|error| error.0),
        since: request.since.unwrap_or(FIRST),
        until: request.until,
    };
    let before = request.cursor.map(DeliveryId);
    let page = app
        .dead_letters(&filter, before, size(request.limit))
        .await?;
    Ok(Json(DeadLetterPage {
        items: page.items.into_iter().map(DeadLetter::from).collect(),
        next_cursor: page.next.map(|next| next.0),
    }))
}

/// What retention has purged is gone anyway.
const FIRST: Time = Time::from_micros(0);

request! {
    /// Dead letters of any organization to send again. Without a filter, all.
    pub(in crate::routes) struct RedriveAll {
        /// Only of this organization.
        organization_id "organizationId": Option<OrganizationId>,
        /// Only of this webhook.
        webhook_id "webhookId": Option<Uuid>,
        /// Only of this event's kind.
        event "event": Option<Note<255>>,
        /// Only with this last answer: a status, a class such as `5xx`, or `none` where no answer came.
        status "status": Option<AnswerStatus>,
        /// Only with these words in `lastError`.
        error "error": Option<Note<255>>,
        /// Only those made then or later.
        since "since": Option<Time>,
        /// Only those made before.
        until "until": Option<Time>,
        /// Deliveries per minute; no limit by default.
        per_minute "perMinute": Option<PerMinute>,
        /// Only count them.
        dry_run "dryRun": Option<bool>,
        /// The `nextCursor` of an answer, to go on where it stopped.
        cursor "cursor": Option<RecoveryCursor>,
    }
}

impl RedriveAll {
    fn filter(&self) -> LetterFilter {
        LetterFilter {
            organization: self.organization_id.clone(),
            endpoint: self.webhook_id.map(EndpointId),
            event: self.event.as_ref().map(|event| event.0.clone()),
            status: self.status,
            error: self.error.as_ref().map(|error| error.0.clone()),
            since: self.since.unwrap_or(FIRST),
            until: self.until,
        }
    }
}

/// Send dead letters of all organizations again
///
/// A request sends 10,000 at most; the first made first.
#[utoipa::path(post, path = "/admin/dead-letters/redrive", tag = "Admin", operation_id = "redriveAllDeadLetters",
    security(("key" = ["operator"])),
    params(IdempotencyKey),
    request_body = RedriveAll,
    responses(
        (status = 200, description = "How many", body = Redriven),
        (status = 404, description = "`Admin API disabled`: the host has no token", body = Refusal),
        (status = 429, description = "`Too many requests`: too many of the operator's keys are kept", body = Refusal,
            headers(("Retry-After" = i64, description = "Seconds"))),
    ))]
pub(in crate::routes) async fn redrive(
    State(app): State<App>,
    Keyed { request, key }: Keyed<RedriveAll>,
) -> Result<Response, ApiError> {
    let (filter, dry_run) = (request.filter(), request.dry_run.unwrap_or(false));
    let how = redrive_of(filter.since, request.per_minute, request.cursor, dry_run);
    let (app, operator) = (&app, OrganizationId::operator());
    let view = move |redriven: &wharf_app::Redriven| Redriven::new(*redriven, dry_run);
    let redrive = |once| async move { app.redrive_letters(&filter, how, &once).await };
    key.once(app, &operator, StatusCode::OK, view, redrive)
        .await
}
