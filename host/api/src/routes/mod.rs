//! The routes, one file per noun.

mod deliveries;
mod health;
mod metrics;
mod mock;
mod orders;
mod plugins;
mod stores;
mod webhooks;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    routing::{get, post},
};

use crate::{ApiState, bearer::require_admin};

/// A component of the largest size (32 MiB), its grants and the form around them.
const MOST_UPLOAD: usize = 33 * 1024 * 1024;

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
        .route("/webhooks/{id}", get(webhooks::show).patch(webhooks::update).delete(webhooks::delete))
        .route("/webhooks/{id}/enable", post(webhooks::enable))
        .route("/webhooks/{id}/disable", post(webhooks::disable))
        .route("/webhooks/{id}/secret", get(webhooks::secret))
        .route("/webhooks/{id}/secret/rotate", post(webhooks::rotate))
        .route("/webhooks/{id}/test", post(webhooks::test))
        .route("/webhooks/{id}/deliveries", get(deliveries::of_webhook))
        .route("/webhooks/{id}/recover", post(deliveries::recover))
        .route("/events/{id}/deliveries", get(deliveries::of_event))
        .route("/deliveries/{id}", get(deliveries::show))
        .route("/deliveries/{id}/resend", post(deliveries::resend))
        .route("/dead-letters", get(deliveries::dead_letters))
        .route("/dead-letters/redrive", post(deliveries::redrive))
        .merge(health())
}

/// What tells how the process is.
pub(crate) fn health() -> Router<ApiState> {
    Router::new().route("/healthz", get(health::alive)).route("/readyz", get(health::ready))
}

/// What it counts.
pub(crate) fn metrics() -> Router<ApiState> {
    Router::new().route("/metrics", get(metrics::scrape))
}

/// The routes for operators, behind the admin token.
pub(crate) fn admin(state: ApiState) -> Router<ApiState> {
    Router::new()
        .route("/admin/plugins", get(plugins::list))
        .route("/admin/plugins/{plugin}", get(plugins::inspect).post(plugins::upload))
        .route("/admin/plugins/{plugin}/activate", post(plugins::activate))
        .route("/admin/plugins/{plugin}/rollback", post(plugins::rollback))
        .route("/admin/plugins/{plugin}/disable", post(plugins::disable))
        .route("/admin/plugins/{plugin}/enable", post(plugins::enable))
        .route("/admin/plugins/{plugin}/quarantine", post(plugins::quarantine))
        .route("/admin/plugins/{plugin}/release", post(plugins::release))
        .layer(DefaultBodyLimit::max(MOST_UPLOAD))
        .route_layer(middleware::from_fn_with_state(state, require_admin))
}
