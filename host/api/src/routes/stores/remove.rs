//! Removing a store by the organization that owns it.

use axum::{Extension, Json, extract::State, http::StatusCode};
use wharf_app::{Acting, App, Caller, Run};
use wharf_domain::{OrganizationId, StoreId};

use super::view::StoreRemoval;
use crate::{
    error::{ApiError, Refusal},
    path::PathId,
    query::Query,
    request::request,
};

request! {
    /// A store to remove.
    pub(in crate::routes) struct RemoveStore {
        /// The organization. Stores of others are not found.
        organization_id "organizationId": OrganizationId,
        /// True to count only what would go.
        dry_run "dryRun": Option<bool>,
    }
}

/// Remove a store
///
/// At once nobody finds it any more: its `syncToken` is unknown and its syncs stop. Its receipts go in the background, and
/// until they are gone it cannot be registered again; after that it is a new store. Events that it has told of before are
/// delivered.
#[utoipa::path(delete, path = "/stores/{id}", tag = "Stores", operation_id = "removeStore",
    security(("key" = ["stores:write"])),
    params(("id" = Uuid, Path, description = "The store"), RemoveStore),
    responses(
        (status = 200, description = "A rehearsal: what would go", body = StoreRemoval),
        (status = 202, description = "It is removed, and its receipts are going", body = StoreRemoval),
        (status = 404, description = "`Store not found`", body = Refusal),
    ))]
pub(in crate::routes) async fn remove(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    PathId(id): PathId<StoreId>,
    Query(request): Query<RemoveStore>,
) -> Result<(StatusCode, Json<StoreRemoval>), ApiError> {
    let by = Acting::Organization(&request.organization_id, caller.actor());
    removed(&app, by, id, request.dry_run).await
}

pub(super) async fn removed(
    app: &App,
    by: Acting<'_>,
    id: StoreId,
    dry_run: Option<bool>,
) -> Result<(StatusCode, Json<StoreRemoval>), ApiError> {
    let (run, status) = match dry_run {
        Some(true) => (Run::Dry, StatusCode::OK),
        Some(false) | None => (Run::Real, StatusCode::ACCEPTED),
    };
    let removal = app.remove_store(by, id, run).await?;
    let removal = StoreRemoval::new(removal, run == Run::Dry);
    Ok((status, Json(removal)))
}
