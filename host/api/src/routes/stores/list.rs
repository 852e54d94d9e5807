//! The list of an organization's stores, in pages.

use axum::{Json, extract::State};
use uuid::Uuid;
use wharf_app::{App, MAX_STORES_PER_PAGE, StoreFilter};
use wharf_domain::{ExternalStoreId, MarketplaceName, OrganizationId, StoreId, SyncStatus};

use super::view::StorePage;
use crate::{error::ApiError, query::Query, request::request, values::Number};

/// Page size if the request names none.
const DEFAULT_LIMIT: usize = 50;
pub(super) type PageLimit = Number<1, { MAX_STORES_PER_PAGE.cast_signed() as i64 }>;

request! {
    /// A page of an organization's stores.
    pub(in crate::routes) struct ListStores {
        /// The organization. Stores of others are not listed.
        organization_id "organizationId": OrganizationId,
        /// Only stores at this marketplace.
        marketplace "marketplace": Option<MarketplaceName>,
        /// Only the store with exactly this id there.
        external_store_id "externalStoreId": Option<ExternalStoreId>,
        /// Only stores with this status.
        sync_status "syncStatus": Option<SyncStatus>,
        /// Only stores that are held, by whomever, or that are not.
        held "held": Option<bool>,
        /// `nextCursor` of the previous page.
        cursor "cursor": Option<Uuid>,
        /// Page size; 50 by default.
        limit "limit": Option<PageLimit>,
    }
}

/// List stores
///
/// An organization's stores, newest first. Pages do not shift while new stores come. A page looks at five thousand stores at
/// most and may hold fewer than its size, or none: follow `nextCursor` to the end.
#[utoipa::path(get, path = "/stores", tag = "Stores", operation_id = "listStores",
    security(("key" = ["stores:read"])),
    params(ListStores),
    responses((status = 200, description = "A page of stores", body = StorePage)))]
pub(in crate::routes) async fn list(
    State(app): State<App>,
    Query(request): Query<ListStores>,
) -> Result<Json<StorePage>, ApiError> {
    let filter = StoreFilter {
        organization: Some(request.organization_id),
        marketplace: request.marketplace,
        external_store_id: request.external_store_id,
        sync_status: request.sync_status,
        is_held: request.held,
    };
    page(&app, &filter, (request.cursor, request.limit)).await
}

pub(super) async fn page(
    app: &App,
    filter: &StoreFilter,
    (cursor, limit): (Option<Uuid>, Option<PageLimit>),
) -> Result<Json<StorePage>, ApiError> {
    let limit = limit
        .and_then(|limit| usize::try_from(limit.0).ok())
        .unwrap_or(DEFAULT_LIMIT);
    let page = app.stores(filter, cursor.map(StoreId), limit).await?;
    Ok(Json(page.into()))
}
