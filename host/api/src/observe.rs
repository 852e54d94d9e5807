//! Request ids, the access log and the span of each request.

use std::time::Instant;

use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderMap, HeaderName, HeaderValue},
    middleware::Next,
    response::Response,
};
use tracing::{Instrument, Span, field::Empty};
use uuid::Uuid;
use wharf_app::{TRACEPARENT, TRACES, continue_from};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Gives every request an id and one line in the log. Never the query: it may hold a sync token.
pub(crate) async fn observe(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(request.headers());
    let span = tracing::info_span!(
        "request",
        request_id = id.to_str().unwrap_or_default(),
        method = %request.method(),
        path = request.uri().path(),
    );
    let traced = traced(&request);
    let mut response = next
        .run(request)
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
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// The request's span in the traces: by the template of its route, and in the client's own trace if it brings one.
fn traced(request: &Request) -> Span {
    let method = request.method().as_str();
    // The template, never the path, which a client may fill with anything.
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("(none)", MatchedPath::as_str);
    let span = tracing::info_span!(
        target: TRACES, "request", otel.name = %format_args!("{method} {route}"), otel.kind = "server",
        http.request.method = method, http.route = route, http.response.status_code = Empty, otel.status_code = Empty
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
fn request_id(headers: &HeaderMap) -> HeaderValue {
    // Every line of the log about this request repeats it.
    const MAX: usize = 128;
    let harmless = |id: &&HeaderValue| {
        (1..=MAX).contains(&id.len())
            // No blank, quote or escape: a client must not be able to forge lines of the log.
            && id
                .as_bytes()
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(byte))
    };
    headers
        .get(REQUEST_ID)
        .filter(harmless)
        .cloned()
        .unwrap_or_else(|| {
            HeaderValue::from_str(&Uuid::now_v7().to_string())
                .expect("a UUID is made of hexadecimal digits and hyphens")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(id: &[u8]) -> HeaderValue {
        request_id(&HeaderMap::from_iter([(
            REQUEST_ID,
            HeaderValue::from_bytes(id).expect("a header value"),
        )]))
    }

    #[test]
    fn harmless_ids_are_kept_and_others_replaced() {
        for id in [
            "a",
            "0190a5e4-7b1c-7def-8abc-0123456789ab",
            "Root=1-67891233-abcdef",
        ] {
            assert_eq!(given(id.as_bytes()), id);
        }
        for id in [
            &b""[..],
            b"a b",
            b"a\tb",
            b"\xff",
            b"\"",
            "x".repeat(129).as_bytes(),
        ] {
            let made = given(id);
            assert!(Uuid::try_parse_ascii(made.as_bytes()).is_ok(), "{made:?}");
        }
    }
}
