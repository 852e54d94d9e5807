use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;
use wharf_app::App;

use crate::error::ApiError;

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
/// Asks the database; 503 while that does not answer.
#[utoipa::path(get, path = "/readyz", tag = "Health", operation_id = "ready",
    responses((status = 200, description = "Its database answers", body = Health)))]
pub(super) async fn ready(State(app): State<App>) -> Result<Json<Health>, ApiError> {
    app.ready().await?;
    Ok(Json(Health { status: "ready" }))
}
