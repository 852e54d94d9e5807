//! Holding and resuming a store by the organization that owns it.

use axum::{Extension, Json, extract::State};
use wharf_app::{Acting, App, Caller};
use wharf_domain::{OrganizationId, StoreId};

use super::{show::StoreOwner, view::StoreHolds};
use crate::{
    body::JsonBody,
    error::{ApiError, Refusal},
    path::PathId,
    request::request,
    values::Note,
};

/// The reason of a hold.
pub(in crate::routes) type Reason = Note<1_000>;

request! {
    /// A store to hold.
    pub(in crate::routes) struct HoldStore {
        /// The organization. Stores of others are not found.
        organization_id "organizationId": OrganizationId,
        /// The reason, for people.
        reason "reason": Option<Reason>,
    }
}

/// Hold a store
///
/// Its marketplace is asked nothing for it, by any process within two seconds, until it is resumed: syncs wait, and imports
/// of receipts that are not known yet are refused. Repeating it changes nothing; the first reason stays.
#[utoipa::path(post, path = "/stores/{id}/hold", tag = "Stores", operation_id = "holdStore",
    security(("key" = ["stores:write"])),
    params(("id" = Uuid, Path, description = "The store")),
    request_body = HoldStore,
    responses(
        (status = 200, description = "Everything that holds it", body = StoreHolds),
        (status = 404, description = "`Store not found`", body = Refusal),
        (status = 409, description = "`Too many holds`: an organization may have 1,000", body = Refusal),
    ))]
pub(in crate::routes) async fn hold(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    PathId(id): PathId<StoreId>,
    JsonBody(request): JsonBody<HoldStore>,
) -> Result<Json<StoreHolds>, ApiError> {
    let by = Acting::Organization(&request.organization_id, caller.actor());
    let reason = request.reason.as_ref().map(|reason| reason.0.as_str());
    Ok(Json(app.hold_store(by, id, reason).await?.into()))
}

/// Resume a store
///
/// Ends the organization's own hold; what waited is due at once. A hold by an operator stays. Repeating it changes nothing.
#[utoipa::path(post, path = "/stores/{id}/resume", tag = "Stores", operation_id = "resumeStore",
    security(("key" = ["stores:write"])),
    params(("id" = Uuid, Path, description = "The store")),
    request_body = StoreOwner,
    responses(
        (status = 200, description = "What still holds it", body = StoreHolds),
        (status = 404, description = "`Store not found`", body = Refusal),
    ))]
pub(in crate::routes) async fn resume(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    PathId(id): PathId<StoreId>,
    JsonBody(owner): JsonBody<StoreOwner>,
) -> Result<Json<StoreHolds>, ApiError> {
    let by = Acting::Organization(&owner.organization_id, caller.actor());
    Ok(Json(app.resume_store(by, id).await?.into()))
}
