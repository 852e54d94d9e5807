//! `/admin/logs`: receipts of all stores, for operators.

use axum::{Json, extract::State, http::StatusCode, response::Response};
use uuid::Uuid;
use wharf_app::{App, LogCursor, LogFilter, LogQuery, LogRedrive, LogRedriveCursor};
use wharf_domain::{LogId, LogStatus, MarketplaceName, OrganizationId, Receipt, StoreId, Time};

use super::{
    LastError, OrderId, PageLimit, limit_of, name_of,
    redrive::{LogsRedriven, PerMinute, RedriveLimit, redrive_limit, run_of, view_of},
    view::{LogDetail, LogPage},
};
use crate::{
    error::{ApiError, Refusal},
    once::{IdempotencyKey, Keyed},
    path::PathId,
    query::Query,
    request::request,
};

request! {
    /// A page of receipts. Without a store only of those that are no success.
    pub(in crate::routes) struct Logs {
        /// Only receipts of this organization.
        organization_id "organizationId": Option<OrganizationId>,
        /// Only those of this store.
        store_id "storeId": Option<Uuid>,
        /// Only those of stores at this marketplace.
        marketplace "marketplace": Option<MarketplaceName>,
        /// Only those with this status. Successes are listed by store.
        status "status": Option<LogStatus>,
        /// Only those that are asked about no more, or only the others.
        exhausted "exhausted": Option<bool>,
        /// Only those whose `lastError` is this text.
        error "error": Option<LastError>,
        /// Only those imported at this time or later.
        since "since": Option<Time>,
        /// Only those imported before this time.
        until "until": Option<Time>,
        /// Those with this receipt. Of the other fields organization, store and marketplace count.
        receipt "receipt": Option<Receipt>,
        /// Those whose order has this id at the marketplace, in the same way.
        order_id "orderId": Option<OrderId>,
        /// `nextCursor` of the previous page.
        cursor "cursor": Option<LogCursor>,
        /// Page size; 50 by default. A search by receipt or order answers all that it finds in 1,000 stores.
        limit "limit": Option<PageLimit>,
    }
}

/// Receipts of all stores
///
/// Newest first; a search by receipt or order goes through the stores, the oldest first.
#[utoipa::path(get, path = "/admin/logs", tag = "Admin", operation_id = "listLogs",
    security(("key" = ["operator"])),
    params(Logs),
    responses(
        (status = 200, description = "A page of receipts", body = LogPage),
        (status = 404, description = "`Store not found`; `Admin API disabled`", body = Refusal),
    ))]
pub(in crate::routes) async fn list(
    State(app): State<App>,
    Query(request): Query<Logs>,
) -> Result<Json<LogPage>, ApiError> {
    let query = LogQuery {
        filter: LogFilter {
            organization: request.organization_id,
            marketplace: request.marketplace,
            store: request.store_id.map(StoreId),
            status: request.status,
            exhausted: request.exhausted,
            error: request.error.map(|error| error.0),
            since: request.since,
            until: request.until,
            ..LogFilter::default()
        },
        name: name_of(request.receipt, request.order_id),
        from: request.cursor,
        limit: limit_of(request.limit),
    };
    Ok(Json(app.logs(query).await?.into()))
}

/// Read a receipt of any store
///
/// With its attempts: when, with which outcome, by which plugin and for which request.
#[utoipa::path(get, path = "/admin/logs/{id}", tag = "Admin", operation_id = "showLog",
    security(("key" = ["operator"])),
    params(("id" = Uuid, Path, description = "The receipt's `id`")),
    responses(
        (status = 200, description = "The receipt and its attempts", body = LogDetail),
        (status = 404, description = "`Log not found`; `Admin API disabled`", body = Refusal),
    ))]
pub(in crate::routes) async fn show(
    State(app): State<App>,
    PathId(log): PathId<LogId>,
) -> Result<Json<LogDetail>, ApiError> {
    Ok(Json(app.log(None, None, log).await?.into()))
}

request! {
    /// Receipts of any stores to ask about again.
    pub(in crate::routes) struct RedriveLogs {
        /// Only this receipt; of the other fields organization and store count then.
        log_id "logId": Option<Uuid>,
        /// Only receipts of this organization.
        organization_id "organizationId": Option<OrganizationId>,
        /// Only those of this store.
        store_id "storeId": Option<Uuid>,
        /// Only those of stores at this marketplace.
        marketplace "marketplace": Option<MarketplaceName>,
        /// Only those with this status. Without one, what is rate-limited keeps its time.
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

/// Redrive receipts of all stores
///
/// What did not succeed is asked about again, with its refusals forgiven. A success never is. Safe to repeat: what was
/// redriven and asked about meanwhile is what it became.
#[utoipa::path(post, path = "/admin/logs/redrive", tag = "Admin", operation_id = "redriveLogs",
    security(("key" = ["operator"])),
    params(IdempotencyKey),
    request_body = RedriveLogs,
    responses(
        (status = 200, description = "How many", body = LogsRedriven),
        (status = 404, description = "`Store not found`, `Log not found`; `Admin API disabled`", body = Refusal),
    ))]
pub(in crate::routes) async fn redrive(
    State(app): State<App>,
    Keyed { request, key }: Keyed<RedriveLogs>,
) -> Result<Response, ApiError> {
    let dry_run = request.dry_run.unwrap_or(false);
    let how = LogRedrive {
        log: request.log_id.map(LogId),
        filter: LogFilter {
            organization: request.organization_id,
            marketplace: request.marketplace,
            store: request.store_id.map(StoreId),
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
    let app = &app;
    let redrive = |once| async move { app.redrive_logs(None, how, &once).await };
    // Keys of operators are apart from those of all organizations: none has this name.
    let operator = OrganizationId::from_stored(String::new());
    key.once(app, &operator, StatusCode::OK, view_of(dry_run), redrive)
        .await
}
