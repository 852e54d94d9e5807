use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;
use wharf_app::App;

use crate::{Draining, error::ApiError};

/// How the process is.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    #[schema(example = "ok")]
    status: &'static str,
}

/// Does the process live?
///
/// Asks nothing else: a process that lives and cannot reach its database is not to be restarted.
#[utoipa::path(get, path = "/healthz", tag = "Health", operation_id = "alive",
    responses((status = 200, description = "It lives", body = Health)))]
pub(super) async fn alive() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Can it work?
///
/// Reads and tries to write its database; 503 within a second while that cannot be done, and from the moment on at which
/// it was told to stop. `message` says why.
#[utoipa::path(get, path = "/readyz", tag = "Health", operation_id = "ready",
    responses((status = 200, description = "Its database can be read and written", body = Health)))]
pub(super) async fn ready(
    State(app): State<App>,
    State(Draining(draining)): State<Draining>,
) -> Result<Json<Health>, ApiError> {
    if draining.is_cancelled() {
        return Err(ApiError::Stopping);
    }
    app.ready().await.map_err(ApiError::Unready)?;
    Ok(Json(Health { status: "ready" }))
}
