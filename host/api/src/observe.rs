use std::time::Instant;

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue},
    middleware::Next,
    response::Response,
};
use tracing::Instrument;
use uuid::Uuid;

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
    let mut response = next.run(request).instrument(span.clone()).await;
    let latency_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    span.in_scope(|| tracing::info!(status = response.status().as_u16(), latency_us, "answered"));
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// The client's own id if it is harmless in a log, else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    const LONGEST: usize = 128;
    let harmless = |id: &&HeaderValue| {
        (1..=LONGEST).contains(&id.len())
            && id.as_bytes().iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(byte))
    };
    headers.get(REQUEST_ID).filter(harmless).cloned().unwrap_or_else(|| {
        HeaderValue::from_str(&Uuid::now_v7().to_string()).expect("a UUID is made of hexadecimal digits and hyphens")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(id: &[u8]) -> HeaderValue {
        request_id(&HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_bytes(id).expect("a header value"))]))
    }

    #[test]
    fn harmless_ids_are_kept_and_others_replaced() {
        for id in ["a", "0190a5e4-7b1c-7def-8abc-0123456789ab", "Root=1-67891233-abcdef"] {
            assert_eq!(given(id.as_bytes()), id);
        }
        for id in [&b""[..], b"a b", b"a\tb", b"\xff", b"\"", "x".repeat(129).as_bytes()] {
            let made = given(id);
            assert!(Uuid::try_parse_ascii(made.as_bytes()).is_ok(), "{made:?}");
        }
    }
}
