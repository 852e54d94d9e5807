//! Request metrics, by the template of the route.

use std::time::Instant;

use axum::{
    extract::{MatchedPath, Request},
    response::Response,
};
use wharf_app::App;

/// Counts and times every request. The label is the template of the route: a path itself may hold anything.
pub(crate) async fn measure<F: Future<Output = Response>>(
    app: Option<&App>,
    request: Request,
    answer: impl FnOnce(Request) -> F,
) -> Response {
    let Some(app) = app else {
        return answer(request).await;
    };
    let began = Instant::now();
    let method = request.method().clone();
    // Taken before the answer, which consumes the request. Unknown routes have none.
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = answer(request).await;
    let route = route.as_ref().map(MatchedPath::as_str);
    let status = response.status().as_u16();
    let metrics = app.metrics();
    metrics.request(route, method.as_str(), status, began.elapsed());
    response
}
