use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use wharf_app::App;

/// `GET /metrics`: the figures of this process, as Prometheus scrapes them.
pub(super) async fn scrape(State(app): State<App>) -> Response {
    const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, TEXT_FORMAT)], app.scrape().await).into_response()
}
