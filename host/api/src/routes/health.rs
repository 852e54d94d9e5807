//! Liveness and readiness.

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;
use wharf_app::App;

use crate::{Draining, error::ApiError};

/// The state of the process.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    #[schema(example = "ok")]
    status: &'static str,
}

/// Liveness
///
/// Asks nothing else: restarting a process does not help it to reach its database.
#[utoipa::path(get, path = "/healthz", tag = "Health", operation_id = "alive",
    security(()),
    responses((status = 200, description = "The process is alive", body = Health)))]
pub(super) async fn alive() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Readiness
///
/// Reads and tries to write its database; 503 within a second while that cannot be done, while the plugins that were there
/// at its start are being loaded (30 s at most), and from the moment on at which it was told to stop. `message` says why.
#[utoipa::path(get, path = "/readyz", tag = "Health", operation_id = "ready",
    security(()),
    responses((status = 200, description = "Its database can be read and written", body = Health)))]
pub(super) async fn ready(
    State(app): State<App>,
    State(Draining(draining)): State<Draining>,
) -> Result<Json<Health>, ApiError> {
    // The database need not be asked: load balancers are to leave, whatever its state.
    if draining.is_cancelled() {
        return Err(ApiError::Stopping);
    }
    app.ready().await.map_err(ApiError::Unready)?;
    Ok(Json(Health { status: "ready" }))
}
