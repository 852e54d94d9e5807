//! Request metrics, by the template of the route.

use std::time::Instant;

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::Response,
};
use wharf_app::App;

/// Counts and times every request. The label is the template of the route: a path itself may hold anything.
pub(crate) async fn measure(State(app): State<App>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    // Taken before `run`, which consumes the request. Unknown routes have none.
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let route = route.as_ref().map(MatchedPath::as_str);
    app.metrics().request(
        route,
        method.as_str(),
        response.status().as_u16(),
        began.elapsed(),
    );
    response
}
