use axum::{Json, extract::State};
use serde_json::{Value, json};
use wharf_app::App;

use crate::error::ApiError;

/// `GET /healthz`: the process answers.
pub(super) async fn alive() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// `GET /readyz`: the database answers too; 503 if not.
pub(super) async fn ready(State(app): State<App>) -> Result<Json<Value>, ApiError> {
    app.ready().await?;
    Ok(Json(json!({"status": "ready"})))
}
