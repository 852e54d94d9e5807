//! `/admin/stores`: the stores of all organizations, for operators.

use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use uuid::Uuid;
use wharf_app::{Acting, App, Caller, StoreFilter};
use wharf_domain::{ExternalStoreId, MarketplaceName, OrganizationId, StoreId, SyncStatus};

use super::{
    hold::Reason,
    list::{PageLimit, page},
    remove::removed,
    view::{StoreDetail, StoreHolds, StorePage, StoreRemoval},
};
use crate::{
    body::JsonBody,
    error::{ApiError, Refusal},
    path::PathId,
    query::Query,
    request::request,
    routes::plugins::target::{ActorHeader, actor},
};

request! {
    /// A page of stores.
    pub(in crate::routes) struct ListAllStores {
        /// Only stores of this organization.
        organization_id "organizationId": Option<OrganizationId>,
        /// Only stores at this marketplace.
        marketplace "marketplace": Option<MarketplaceName>,
        /// Only stores with exactly this id there.
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

/// List stores of all organizations
///
/// Newest first. A page looks at five thousand stores at most and may hold fewer than its size, or none: follow `nextCursor`
/// to the end.
#[utoipa::path(get, path = "/admin/stores", tag = "Admin", operation_id = "listAllStores",
    security(("key" = ["operator"])),
    params(ListAllStores),
    responses(
        (status = 200, description = "A page of stores", body = StorePage),
        (status = 404, description = "`Admin API disabled`: the host has no token", body = Refusal),
    ))]
pub(in crate::routes) async fn list(
    State(app): State<App>,
    Query(request): Query<ListAllStores>,
) -> Result<Json<StorePage>, ApiError> {
    let filter = StoreFilter {
        organization: request.organization_id,
        marketplace: request.marketplace,
        external_store_id: request.external_store_id,
        sync_status: request.sync_status,
        is_held: request.held,
    };
    page(&app, &filter, (request.cursor, request.limit)).await
}

/// Read any store
#[utoipa::path(get, path = "/admin/stores/{id}", tag = "Admin", operation_id = "showAnyStore",
    security(("key" = ["operator"])),
    params(("id" = Uuid, Path, description = "The store")),
    responses(
        (status = 200, description = "The store", body = StoreDetail),
        (status = 404, description = "`Store not found`, or `Admin API disabled`", body = Refusal),
    ))]
pub(in crate::routes) async fn show(
    State(app): State<App>,
    PathId(id): PathId<StoreId>,
) -> Result<Json<StoreDetail>, ApiError> {
    Ok(Json(app.store_detail(None, id).await?.into()))
}

request! {
    /// A store to hold.
    pub(in crate::routes) struct HoldAnyStore {
        /// The reason, for people.
        reason "reason": Option<Reason>,
    }
}

/// Hold any store
///
/// As its organization may, but with a hold of the operator's, which the organization does not end.
#[utoipa::path(post, path = "/admin/stores/{id}/hold", tag = "Admin", operation_id = "holdAnyStore",
    security(("key" = ["operator"])),
    params(("id" = Uuid, Path, description = "The store"), ActorHeader),
    request_body = HoldAnyStore,
    responses(
        (status = 200, description = "Everything that holds it", body = StoreHolds),
        (status = 404, description = "`Store not found`, or `Admin API disabled`", body = Refusal),
        (status = 409, description = "`Too many holds`: a host may have 10,000", body = Refusal),
    ))]
pub(in crate::routes) async fn hold(
    State(app): State<App>,
    PathId(id): PathId<StoreId>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    JsonBody(request): JsonBody<HoldAnyStore>,
) -> Result<Json<StoreHolds>, ApiError> {
    let actor = actor(&caller, &headers);
    let reason = request.reason.as_ref().map(|reason| reason.0.as_str());
    let held = app.hold_store(Acting::Operator(&actor), id, reason).await?;
    Ok(Json(held.into()))
}

/// Resume any store
///
/// Ends the operator's hold of it. One by its organization stays.
#[utoipa::path(post, path = "/admin/stores/{id}/resume", tag = "Admin", operation_id = "resumeAnyStore",
    security(("key" = ["operator"])),
    params(("id" = Uuid, Path, description = "The store"), ActorHeader),
    responses(
        (status = 200, description = "What still holds it", body = StoreHolds),
        (status = 404, description = "`Store not found`, or `Admin API disabled`", body = Refusal),
    ))]
pub(in crate::routes) async fn resume(
    State(app): State<App>,
    PathId(id): PathId<StoreId>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Json<StoreHolds>, ApiError> {
    let actor = actor(&caller, &headers);
    let held = app.resume_store(Acting::Operator(&actor), id).await?;
    Ok(Json(held.into()))
}

request! {
    /// A store to remove.
    pub(in crate::routes) struct RemoveAnyStore {
        /// True to count only what would go.
        dry_run "dryRun": Option<bool>,
    }
}

/// Remove any store
///
/// As its organization may.
#[utoipa::path(delete, path = "/admin/stores/{id}", tag = "Admin", operation_id = "removeAnyStore",
    security(("key" = ["operator"])),
    params(("id" = Uuid, Path, description = "The store"), RemoveAnyStore, ActorHeader),
    responses(
        (status = 200, description = "A rehearsal: what would go", body = StoreRemoval),
        (status = 202, description = "It is removed, and its receipts are going", body = StoreRemoval),
        (status = 404, description = "`Store not found`, or `Admin API disabled`", body = Refusal),
    ))]
pub(in crate::routes) async fn remove(
    State(app): State<App>,
    PathId(id): PathId<StoreId>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Query(request): Query<RemoveAnyStore>,
) -> Result<(StatusCode, Json<StoreRemoval>), ApiError> {
    let actor = actor(&caller, &headers);
    removed(&app, Acting::Operator(&actor), id, request.dry_run).await
}
