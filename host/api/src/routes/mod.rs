//! The routes, one file per noun.

mod health;
mod mock;
mod orders;
mod stores;
mod webhooks;

use axum::{
    Router,
    routing::{get, post},
};

use crate::ApiState;

/// Every route of the API.
pub(crate) fn all() -> Router<ApiState> {
    Router::new()
        .route("/mock/{marketplace}/validate", post(mock::validate))
        .route("/stores/register", post(stores::register))
        .route("/stores/sync-status", get(stores::sync_status))
        .route("/stores/sync", post(stores::sync))
        .route("/orders/import", post(orders::import))
        .route("/webhooks/register", post(webhooks::register))
        .route("/webhooks", get(webhooks::list))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
}
