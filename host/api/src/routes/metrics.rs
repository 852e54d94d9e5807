//! `GET /metrics`, for Prometheus.

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use wharf_app::App;

/// Metrics of this process
///
/// In the text format of Prometheus. Not served here when `METRICS_ADDR` gives them an address of their own.
#[utoipa::path(get, path = "/metrics", tag = "Health", operation_id = "metrics",
    security(()),
    responses((status = 200, description = "The metrics", body = String, content_type = "text/plain")))]
pub(super) async fn scrape(State(app): State<App>) -> Response {
    // The version is the format's, by which scrapers choose their parser.
    const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, TEXT_FORMAT)], app.scrape().await).into_response()
}
