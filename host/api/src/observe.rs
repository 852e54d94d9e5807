//! Request ids, the access log and the span of each request.

use std::time::Instant;

use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderMap, HeaderName, HeaderValue},
    response::Response,
};
use tracing::{Instrument, Span, field::Empty};
use uuid::Uuid;
use wharf_app::{TRACEPARENT, TRACES, continue_from};
use wharf_domain::RequestId;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Gives every request an id and one line in the log. Never the query: it may hold a sync token.
pub(crate) async fn observe<F: Future<Output = Response>>(
    mut request: Request,
    answer: impl FnOnce(Request) -> F,
) -> Response {
    let started = Instant::now();
    let id = request_id(request.headers());
    let span = tracing::info_span!(
        "request",
        request_id = %id,
        method = %request.method(),
        path = request.uri().path(),
    );
    let traced = traced(&request, &id);
    // For the handlers that leave it with what they store.
    request.extensions_mut().insert(id.clone());
    let mut response = answer(request)
        .instrument(traced.clone())
        .instrument(span.clone())
        .await;
    traced.record("http.response.status_code", response.status().as_u16());
    // By OpenTelemetry's conventions a client's mistake is no error of the server.
    if response.status().is_server_error() {
        traced.record("otel.status_code", "ERROR");
    }
    let latency_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    span.in_scope(|| tracing::info!(status = response.status().as_u16(), latency_us, "answered"));
    // Replaces what a handler may have set: the log and the client must name the same request.
    let id = HeaderValue::from_str(id.as_str()).expect("harmless characters alone");
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// The request's span in the traces: by the template of its route, and in the client's own trace if it brings one.
fn traced(request: &Request, id: &RequestId) -> Span {
    let method = request.method().as_str();
    // The template, never the path, which a client may fill with anything.
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("(none)", MatchedPath::as_str);
    let span = tracing::info_span!(
        target: TRACES, "request", otel.name = %format_args!("{method} {route}"), otel.kind = "server",
        http.request.method = method, http.route = route, http.response.status_code = Empty, otel.status_code = Empty,
        request.id = %id
    );
    continue_from(
        &span,
        request
            .headers()
            .get(TRACEPARENT)
            // A header that is no trace's begins a trace of its own; it is no reason to refuse.
            .and_then(|value| value.to_str().ok()),
    );
    span
}

/// The client's own id if it is harmless in a log, else a new one.
fn request_id(headers: &HeaderMap) -> RequestId {
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    given
        .and_then(RequestId::parse)
        .unwrap_or_else(|| Uuid::now_v7().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harmless_ids_are_kept_and_others_replaced() {
        let given = |id: &[u8]| {
            let value = HeaderValue::from_bytes(id).expect("a header value");
            request_id(&HeaderMap::from_iter([(REQUEST_ID, value)]))
        };
        assert_eq!(
            given(b"Root=1-67891233-abcdef").as_str(),
            "Root=1-67891233-abcdef"
        );
        for id in [&b""[..], b"a b", b"\xff", b"\""] {
            let made = given(id);
            assert!(Uuid::try_parse(made.as_str()).is_ok(), "{made}");
        }
    }
}
