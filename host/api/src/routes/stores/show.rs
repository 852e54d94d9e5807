//! One store with what is known of it.

use axum::{Json, extract::State};
use wharf_app::App;
use wharf_domain::{OrganizationId, StoreId};

use super::view::StoreDetail;
use crate::{
    error::{ApiError, Refusal},
    path::PathId,
    query::Query,
    request::request,
};

request! {
    /// The organization of a store.
    pub(in crate::routes) struct StoreOwner {
        /// The organization. Stores of others are not found.
        organization_id "organizationId": OrganizationId,
    }
}

/// Read a store
///
/// Its counts, job, latest runs and faults. Costs the same however long its log is: what is not kept as a number is counted
/// up to 10,000.
#[utoipa::path(get, path = "/stores/{id}", tag = "Stores", operation_id = "showStore",
    security(("key" = ["stores:read"])),
    params(("id" = Uuid, Path, description = "The store"), StoreOwner),
    responses(
        (status = 200, description = "The store", body = StoreDetail),
        (status = 404, description = "`Store not found`", body = Refusal),
    ))]
pub(in crate::routes) async fn show(
    State(app): State<App>,
    PathId(id): PathId<StoreId>,
    Query(owner): Query<StoreOwner>,
) -> Result<Json<StoreDetail>, ApiError> {
    let store = app.store_detail(Some(&owner.organization_id), id).await?;
    Ok(Json(store.into()))
}
