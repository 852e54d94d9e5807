//! The routes, one file per noun.

mod deliveries;
mod health;
mod holds;
mod keys;
mod logs;
mod metrics;
mod mock;
mod operator;
mod orders;
mod plugins;
mod stores;
mod webhooks;

use axum::extract::DefaultBodyLimit;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::ApiState;

/// A component of the largest size (32 MiB), its grants and the form around them.
const MAX_UPLOAD: usize = 33 * 1024 * 1024;

/// Every route of the API, each with its description.
pub(crate) fn all() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(stores::register))
        .routes(routes!(stores::sync_status))
        .routes(routes!(stores::sync))
        .routes(routes!(stores::list::list))
        .routes(routes!(stores::show::show, stores::remove::remove))
        .routes(routes!(stores::hold::hold))
        .routes(routes!(stores::hold::resume))
        .routes(routes!(logs::of_store))
        .routes(routes!(logs::show))
        .routes(routes!(logs::redrive::redrive))
        .routes(routes!(orders::import))
        .routes(routes!(webhooks::register))
        .routes(routes!(webhooks::list::list))
        .routes(routes!(webhooks::show, webhooks::update, webhooks::delete))
        .routes(routes!(webhooks::activity::enable))
        .routes(routes!(webhooks::activity::disable))
        .routes(routes!(webhooks::secret::show))
        .routes(routes!(webhooks::secret::rotate))
        .routes(routes!(webhooks::test::send))
        .routes(routes!(deliveries::of_webhook))
        .routes(routes!(deliveries::redrive::recover))
        .routes(routes!(deliveries::of_event))
        .routes(routes!(deliveries::show))
        .routes(routes!(deliveries::resend))
        .routes(routes!(deliveries::dead_letters))
        .routes(routes!(deliveries::redrive::redrive))
        .routes(routes!(keys::portal::create))
        .routes(routes!(mock::validate))
        .merge(health())
}

/// Liveness and readiness.
pub(crate) fn health() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(health::alive))
        .routes(routes!(health::ready))
}

/// The metrics of the process.
pub(crate) fn metrics() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(metrics::scrape))
}

/// The routes for operators.
pub(crate) fn admin() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(keys::create, keys::list))
        .routes(routes!(keys::revoke))
        .routes(routes!(plugins::list))
        .routes(routes!(plugins::inspect, plugins::upload))
        .routes(routes!(plugins::activate))
        .routes(routes!(plugins::rollback))
        .routes(routes!(plugins::disable))
        .routes(routes!(plugins::enable))
        .routes(routes!(plugins::quarantine))
        .routes(routes!(plugins::release))
        .routes(routes!(stores::admin::list))
        .routes(routes!(stores::admin::show, stores::admin::remove))
        .routes(routes!(stores::admin::hold))
        .routes(routes!(stores::admin::resume))
        .routes(routes!(holds::list, holds::place))
        .routes(routes!(holds::end))
        .routes(routes!(operator::webhooks::list))
        .routes(routes!(operator::letters::list))
        .routes(routes!(operator::letters::redrive))
        .routes(routes!(operator::receivers::list, operator::receivers::add))
        .routes(routes!(
            operator::receivers::show,
            operator::receivers::remove
        ))
        .routes(routes!(operator::receivers::enable))
        .routes(routes!(operator::receivers::test))
        .routes(routes!(operator::receivers::rotate))
        .routes(routes!(logs::admin::list))
        .routes(routes!(logs::admin::show))
        .routes(routes!(logs::admin::redrive))
        // axum's default of 2 MB is too little for a component. JSON bodies keep `body.rs`' own limit.
        .layer(DefaultBodyLimit::max(MAX_UPLOAD))
}
