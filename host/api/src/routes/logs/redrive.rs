//! Redriving receipts of one store.

use axum::{extract::State, http::StatusCode, response::Response};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;
use wharf_app::{App, AppError, LogFilter, LogRedrive, LogRedriveCursor, MAX_REDRIVEN, Run};
use wharf_domain::{LogId, LogStatus, OrganizationId, RateLimit, StoreId, SyncToken, Time};

use super::LastError;
use crate::{
    error::{ApiError, Refusal},
    once::{IdempotencyKey, Keyed},
    request::request,
    values::Number,
};

pub(super) type PerMinute = Number<1, { RateLimit::MAX_PER_MINUTE }>;

pub(super) type RedriveLimit = Number<1, { MAX_REDRIVEN.cast_signed() as i64 }>;

pub(super) fn redrive_limit(limit: Option<RedriveLimit>) -> usize {
    limit
        .and_then(|limit| usize::try_from(limit.0).ok())
        .unwrap_or(MAX_REDRIVEN)
}

pub(super) fn run_of(dry_run: bool) -> Run {
    if dry_run { Run::Dry } else { Run::Real }
}

request! {
    /// Receipts of a store to ask about again. The store is named by its id or its token.
    pub(in crate::routes) struct RedriveLogsOfStore {
        /// The organization that owns the store.
        organization_id "organizationId": OrganizationId,
        /// The store.
        store_id "storeId": Option<Uuid>,
        /// Its token, where the id is not given.
        sync_token "syncToken": Option<SyncToken>,
        /// Only this receipt, whatever the fields below say.
        log_id "logId": Option<Uuid>,
        /// Only receipts with this status. Without one, what is rate-limited keeps its time.
        status "status": Option<LogStatus>,
        /// Only those that are asked about no more, or only the others.
        exhausted "exhausted": Option<bool>,
        /// Only those whose `lastError` is this text.
        error "error": Option<LastError>,
        /// Only those imported at this time or later.
        since "since": Option<Time>,
        /// Only those imported before this time.
        until "until": Option<Time>,
        /// Receipts per minute; no limit by default.
        per_minute "perMinute": Option<PerMinute>,
        /// The most of them in one request; 10,000 by default. Ask about a few first, and go on once they are well.
        limit "limit": Option<RedriveLimit>,
        /// Only count them.
        dry_run "dryRun": Option<bool>,
        /// The `nextCursor` of an answer, to go on where it stopped.
        cursor "cursor": Option<LogRedriveCursor>,
    }
}

/// Receipts that are, or would be, asked about again.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::routes) struct LogsRedriven {
    #[schema(minimum = 0)]
    redriven: usize,
    /// True if they were only counted.
    dry_run: bool,
    /// There is more than one request does, or counts: the same again, with this as its `cursor`, goes on. Left out when all
    /// is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

pub(super) fn view_of(
    dry_run: bool,
) -> impl Fn(&wharf_app::LogsRedriven) -> LogsRedriven + Send + Sync + 'static {
    move |redriven| LogsRedriven {
        redriven: redriven.logs,
        dry_run,
        next_cursor: redriven.next.map(|next| next.to_string()),
    }
}

/// Redrive receipts of a store
///
/// What did not succeed is asked about again, with its refusals forgiven. A success never is. Safe to repeat: what was
/// redriven and asked about meanwhile is what it became.
#[utoipa::path(post, path = "/stores/logs/redrive", tag = "Stores", operation_id = "redriveLogsOfStore",
    security(("key" = ["stores:write"])),
    params(IdempotencyKey),
    request_body = RedriveLogsOfStore,
    responses(
        (status = 200, description = "How many", body = LogsRedriven),
        (status = 404, description = "`Store not found`: none was named, or the organization has no such store. \
            `Log not found`", body = Refusal),
        (status = 429, description = "`Too many requests`: the organization asked for it too often within a minute",
            body = Refusal, headers(("Retry-After" = i64, description = "Seconds"))),
    ))]
pub(in crate::routes) async fn redrive(
    State(app): State<App>,
    Keyed { request, key }: Keyed<RedriveLogsOfStore>,
) -> Result<Response, ApiError> {
    let dry_run = request.dry_run.unwrap_or(false);
    let organization = request.organization_id;
    let store = match (request.store_id, request.sync_token) {
        (Some(id), _) => StoreId(id),
        (None, Some(token)) => app.store_of_token(&organization, token).await?,
        (None, None) => return Err(AppError::StoreNotFound.into()),
    };
    let how = LogRedrive {
        log: request.log_id.map(LogId),
        filter: LogFilter {
            organization: Some(organization.clone()),
            store: Some(store),
            status: request.status,
            exhausted: request.exhausted,
            error: request.error.map(|error| error.0),
            since: request.since,
            until: request.until,
            ..LogFilter::default()
        },
        per_minute: request.per_minute.map(|rate| rate.0),
        limit: redrive_limit(request.limit),
        from: request.cursor,
        run: run_of(dry_run),
    };
    let (app, client) = (&app, &organization);
    let redrive = |once| async move { app.redrive_logs(Some(client), how, &once).await };
    key.once(app, client, StatusCode::OK, view_of(dry_run), redrive)
        .await
}
