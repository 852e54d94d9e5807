//! Deliveries, their attempts, and the second chance.

use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;
use wharf_app::{App, Delivery, MOST_PER_PAGE, Page, PastAttempt, Redrive, Run, Scope};
use wharf_domain::{DeliveryId, DeliveryState, EndpointId, EventId, Invalid, OrganizationId, Pace, Time};

use super::webhooks::organization;
use crate::{body::JsonBody, error::ApiError, fields::Fields, path::PathId, query::Query};

/// One event on its way to one endpoint.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown {
    id: Uuid,
    event_id: Uuid,
    event: String,
    webhook_id: Uuid,
    state: &'static str,
    /// How often it was sent.
    attempt: i64,
    /// When it is sent next; null when it is finished.
    next_attempt_at: Option<String>,
    last_error: Option<String>,
    created_at: String,
    updated_at: String,
    attempts: Vec<ShownAttempt>,
}

/// One attempt to send it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownAttempt {
    attempt: i64,
    started_at: String,
    /// How long the answer took, in milliseconds.
    latency_ms: f64,
    /// Null when no answer came.
    http_status: Option<i64>,
    error: Option<String>,
    /// The first bytes of the answer: 256 characters in lists, 16 KiB for one delivery.
    response: Option<String>,
}

impl From<Delivery> for Shown {
    fn from(delivery: Delivery) -> Self {
        Self {
            id: delivery.id.0,
            event_id: delivery.event_id.0,
            event: delivery.event,
            webhook_id: delivery.endpoint_id.0,
            state: delivery.state.as_str(),
            attempt: delivery.attempts_made,
            next_attempt_at: delivery.due_at.map(|at| at.to_string()),
            last_error: delivery.last_error,
            created_at: delivery.created_at.to_string(),
            updated_at: delivery.updated_at.to_string(),
            attempts: delivery.attempts.into_iter().map(ShownAttempt::from).collect(),
        }
    }
}

impl From<PastAttempt> for ShownAttempt {
    fn from(attempt: PastAttempt) -> Self {
        // A latency has far fewer digits than a float keeps.
        #[allow(clippy::cast_precision_loss)]
        let latency_ms = attempt.latency_us as f64 / 1_000.0;
        Self {
            attempt: attempt.number,
            started_at: attempt.started_at.to_string(),
            latency_ms,
            http_status: attempt.http_status,
            error: attempt.error,
            response: attempt.response,
        }
    }
}

/// A page of deliveries.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ShownPage {
    items: Vec<Shown>,
    /// What to pass as `cursor` for the next page; null on the last.
    next_cursor: Option<Uuid>,
}

impl From<Page<Delivery>> for ShownPage {
    fn from(page: Page<Delivery>) -> Self {
        Self { items: page.items.into_iter().map(Shown::from).collect(), next_cursor: page.next.map(|id| id.0) }
    }
}

/// Which page a request asks for.
struct PageRequest {
    organization: OrganizationId,
    before: Option<DeliveryId>,
    limit: usize,
}

const DEFAULT_LIMIT: usize = 50;

fn page_request(fields: &mut Fields) -> Option<PageRequest> {
    let organization = fields.required("organizationId", OrganizationId::parse);
    let cursor = fields.optional("cursor", uuid);
    let limit = fields.optional_number("limit", 1..=i64::try_from(MOST_PER_PAGE).unwrap_or(i64::MAX));
    let (organization, cursor, limit) = (organization?, cursor?, limit?);
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(DEFAULT_LIMIT);
    Some(PageRequest { organization, before: cursor.map(DeliveryId), limit })
}

fn uuid(text: &str) -> Result<Uuid, Invalid> {
    text.parse().map_err(|_| Invalid("must be a UUID".into()))
}

/// A time. Nothing of ours is older than 1970.
fn time(text: &str) -> Result<Time, Invalid> {
    let time = Time::parse(text).ok_or_else(|| Invalid("must be a time as RFC 3339 has it".into()));
    time.map(|time| time.max(Time::from_micros(0)))
}

fn delivery_state(text: &str) -> Result<DeliveryState, Invalid> {
    DeliveryState::parse(text).ok_or_else(|| Invalid("must be one of pending, success, failed".into()))
}

/// `GET /webhooks/{id}/deliveries?organizationId=&state=&cursor=&limit=`: newest first.
pub(super) async fn of_webhook(
    State(app): State<App>,
    PathId(id): PathId<EndpointId>,
    Query(mut fields): Query,
) -> Result<Json<ShownPage>, ApiError> {
    let page = page_request(&mut fields);
    let state = fields.optional("state", delivery_state);
    let (Some(page), Some(state)) = (page, state) else { return Err(fields.refusal()) };
    list(&app, page, Scope::Endpoint(id, state)).await
}

/// `GET /events/{id}/deliveries?organizationId=&cursor=&limit=`.
pub(super) async fn of_event(
    State(app): State<App>,
    PathId(id): PathId<EventId>,
    Query(mut fields): Query,
) -> Result<Json<ShownPage>, ApiError> {
    let Some(page) = page_request(&mut fields) else { return Err(fields.refusal()) };
    list(&app, page, Scope::Event(id)).await
}

/// `GET /dead-letters?organizationId=&webhookId=&cursor=&limit=`: what failed for good.
pub(super) async fn dead_letters(
    State(app): State<App>,
    Query(mut fields): Query,
) -> Result<Json<ShownPage>, ApiError> {
    let page = page_request(&mut fields);
    let webhook = fields.optional("webhookId", uuid);
    let (Some(page), Some(webhook)) = (page, webhook) else { return Err(fields.refusal()) };
    let of_webhook = |id| Scope::Endpoint(EndpointId(id), Some(DeliveryState::Failed));
    list(&app, page, webhook.map_or(Scope::DeadLetters, of_webhook)).await
}

async fn list(app: &App, page: PageRequest, scope: Scope) -> Result<Json<ShownPage>, ApiError> {
    Ok(Json(app.deliveries(&page.organization, scope, page.before, page.limit).await?.into()))
}

/// `GET /deliveries/{id}?organizationId=`.
pub(super) async fn show(
    State(app): State<App>,
    PathId(id): PathId<DeliveryId>,
    Query(fields): Query,
) -> Result<Json<Shown>, ApiError> {
    Ok(Json(app.delivery(&organization(fields)?, id).await?.into()))
}

/// `POST /deliveries/{id}/resend`: once more, now, with the same bytes.
pub(super) async fn resend(
    State(app): State<App>,
    PathId(id): PathId<DeliveryId>,
    JsonBody(fields): JsonBody,
) -> Result<(StatusCode, Json<Shown>), ApiError> {
    Ok((StatusCode::ACCEPTED, Json(app.resend(&organization(fields)?, id).await?.into())))
}

/// What `recover` and `redrive` ask for alike.
fn redrive_request(fields: &mut Fields) -> Option<(Option<Time>, Option<i64>, Run)> {
    let since = fields.optional("since", time);
    let per_minute = fields.optional_number("perMinute", 1..=Pace::MOST_PER_MINUTE);
    let dry_run = fields.optional_flag("dryRun");
    let run = if dry_run?.unwrap_or(false) { Run::Dry } else { Run::Real };
    Some((since?, per_minute?, run))
}

/// `POST /webhooks/{id}/recover`: what failed and what was missed since a time.
pub(super) async fn recover(
    State(app): State<App>,
    PathId(id): PathId<EndpointId>,
    JsonBody(mut fields): JsonBody,
) -> Result<Json<Value>, ApiError> {
    let organization = fields.required("organizationId", OrganizationId::parse);
    let since_given = fields.required("since", |text| Ok(text.to_owned()));
    let request = redrive_request(&mut fields);
    let (Some(organization), Some(_), Some((Some(since), per_minute, run))) = (organization, since_given, request)
    else {
        return Err(fields.refusal());
    };
    let recovered = app.recover(&organization, id, Redrive { since, per_minute, run }).await?;
    let is_dry = run == Run::Dry;
    Ok(Json(json!({"failed": recovered.failed, "missed": recovered.missed, "dryRun": is_dry})))
}

/// `POST /dead-letters/redrive`: those of every active webhook, or of one.
pub(super) async fn redrive(State(app): State<App>, JsonBody(mut fields): JsonBody) -> Result<Json<Value>, ApiError> {
    let organization = fields.required("organizationId", OrganizationId::parse);
    let webhook = fields.optional("webhookId", uuid);
    let request = redrive_request(&mut fields);
    let (Some(organization), Some(webhook), Some((since, per_minute, run))) = (organization, webhook, request) else {
        return Err(fields.refusal());
    };
    let since = since.unwrap_or(Time::from_micros(0));
    let redriven = app.redrive(&organization, webhook.map(EndpointId), Redrive { since, per_minute, run }).await?;
    Ok(Json(json!({"redriven": redriven, "dryRun": run == Run::Dry})))
}
