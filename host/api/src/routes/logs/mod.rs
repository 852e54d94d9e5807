//! Receipts of a store, for the organization that owns it: list, find, and read them with their attempts.

pub(super) mod admin;
pub(super) mod redrive;
mod values;
mod view;

use axum::{Json, extract::State};
use wharf_app::{App, LogCursor, LogFilter, LogName, LogQuery, MAX_PER_PAGE};
use wharf_domain::{LogId, LogStatus, OrganizationId, Receipt, StoreId, Time};

use self::view::{LogDetail, LogPage};
use super::webhooks::Owner;
use crate::{
    error::{ApiError, Refusal},
    path::{PathId, PathIds},
    query::Query,
    request::request,
    values::{Note, Number},
};

/// Page size if the request names none.
const DEFAULT_LIMIT: usize = 50;
type PageLimit = Number<1, { MAX_PER_PAGE.cast_signed() as i64 }>;
/// Marketplaces' ids of orders are shorter, and so is what is kept of an error.
type OrderId = Note<1_000>;
type LastError = Note<2_000>;

request! {
    /// A page of a store's receipts.
    pub(super) struct LogsOfStore {
        /// The organization that owns the store.
        organization_id "organizationId": OrganizationId,
        /// Only receipts with this status.
        status "status": Option<LogStatus>,
        /// Only those that are asked about no more, or only the others.
        exhausted "exhausted": Option<bool>,
        /// Only those whose `lastError` is this text.
        error "error": Option<LastError>,
        /// Only those imported at this time or later.
        since "since": Option<Time>,
        /// Only those imported before this time.
        until "until": Option<Time>,
        /// The one with this receipt, whatever the other fields say.
        receipt "receipt": Option<Receipt>,
        /// The one whose order has this id at the marketplace, whatever the fields above say. Of receipts that stand for one order, the first.
        order_id "orderId": Option<OrderId>,
        /// `nextCursor` of the previous page.
        cursor "cursor": Option<LogCursor>,
        /// Page size; 50 by default.
        limit "limit": Option<PageLimit>,
    }
}

/// The receipt before the order: it is the store's own name for it.
fn name_of(receipt: Option<Receipt>, order: Option<OrderId>) -> Option<LogName> {
    let order = order.map(|order| LogName::Order(order.0));
    receipt.map(LogName::Receipt).or(order)
}

fn limit_of(limit: Option<PageLimit>) -> usize {
    limit
        .and_then(|limit| usize::try_from(limit.0).ok())
        .unwrap_or(DEFAULT_LIMIT)
}

/// Receipts of a store
///
/// Newest first. Pages do not shift while new receipts arrive.
#[utoipa::path(get, path = "/stores/{id}/logs", tag = "Stores", operation_id = "logsOfStore",
    security(("key" = ["stores:read"])),
    params(("id" = Uuid, Path, description = "The store"), LogsOfStore),
    responses(
        (status = 200, description = "A page of receipts", body = LogPage),
        (status = 404, description = "`Store not found`", body = Refusal),
    ))]
pub(super) async fn of_store(
    State(app): State<App>,
    PathId(store): PathId<StoreId>,
    Query(request): Query<LogsOfStore>,
) -> Result<Json<LogPage>, ApiError> {
    let query = LogQuery {
        filter: LogFilter {
            organization: Some(request.organization_id),
            store: Some(store),
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

/// Read a receipt
///
/// With its attempts: when, with which outcome, by which plugin and for which request.
#[utoipa::path(get, path = "/stores/{id}/logs/{logId}", tag = "Stores", operation_id = "showLogOfStore",
    security(("key" = ["stores:read"])),
    params(
        ("id" = Uuid, Path, description = "The store"),
        ("logId" = Uuid, Path, description = "The receipt's `id`"),
        Owner,
    ),
    responses(
        (status = 200, description = "The receipt and its attempts", body = LogDetail),
        (status = 404, description = "`Store not found`, `Log not found`", body = Refusal),
    ))]
pub(super) async fn show(
    State(app): State<App>,
    PathIds(store, log): PathIds<StoreId, LogId>,
    Query(owner): Query<Owner>,
) -> Result<Json<LogDetail>, ApiError> {
    let history = app
        .log(Some(&owner.organization_id), Some(store), log)
        .await?;
    Ok(Json(history.into()))
}
