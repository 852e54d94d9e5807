use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use wharf_app::App;

/// What does this process count?
///
/// Its figures in the text format of Prometheus. Not here where they have an address of their own (`METRICS_ADDR`).
#[utoipa::path(get, path = "/metrics", tag = "Health", operation_id = "metrics",
    responses((status = 200, description = "The figures", body = String, content_type = "text/plain")))]
pub(super) async fn scrape(State(app): State<App>) -> Response {
    const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, TEXT_FORMAT)], app.scrape().await).into_response()
}
