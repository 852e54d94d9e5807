//! JSON bodies: content type, size, time and syntax are checked before the fields.

use std::time::Duration;

use axum::{
    body::{BodyDataStream, HttpBody},
    extract::{FromRequest, Request},
    http::{HeaderMap, header},
};
use futures::StreamExt;
use serde_json::error::Category;

use crate::{error::ApiError, fields::Fields, request::FromFields, tenancy::caller};

/// Limit of a body, in bytes.
const MAX_BYTES: usize = 1024 * 1024;

/// Time that a client has to send its body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestTimeout(pub(crate) Duration);

/// A request from the JSON object in the body: checks coding and content type (415), size (413), time (408) and syntax and fields (400), in
/// this order.
///
/// An empty body counts as an empty object, so that the answer names the fields that are missing.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<S: Sync, T: FromFields> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let caller = caller(request.extensions())?;
        let fields = parse(&in_time(request).await?)?;
        T::from_fields(fields.of_caller(&caller)?).map(Self)
    }
}

/// Reads a body whose content type is JSON's.
pub(crate) async fn in_time(request: Request) -> Result<Vec<u8>, ApiError> {
    let most = request
        .extensions()
        .get::<RequestTimeout>()
        // Only the address for metrics has no such layer, and no route there reads a body.
        .map_or(Duration::MAX, |timeout| timeout.0);
    // Over the whole body, so that a byte now and then does not keep a handler waiting for ever.
    let read = tokio::time::timeout(most, read(request)).await;
    read.map_err(|_| ApiError::RequestTimedOut)?
}

async fn read(request: Request) -> Result<Vec<u8>, ApiError> {
    let (parts, body) = request.into_parts();
    // Judged before the body is read: what would be refused anyway costs no memory.
    refuse_encoded(&parts.headers)?;
    let (is_json, is_empty) = (is_json(&parts.headers), body.is_end_stream());
    if is_json || is_empty {
        collect(body.into_data_stream()).await
    } else {
        Err(ApiError::UnsupportedMediaType)
    }
}

/// Refuses a compressed body (RFC 9110, 8.4): no route takes one, and unpacked it may be of any size.
pub(crate) fn refuse_encoded(headers: &HeaderMap) -> Result<(), ApiError> {
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
    // `identity` is reserved for Accept-Encoding, but it says nothing else than its absence.
    if codings.all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        Ok(())
    } else {
        Err(ApiError::UnsupportedCoding)
    }
}

async fn collect(mut chunks: BodyDataStream) -> Result<Vec<u8>, ApiError> {
    // Not sized by `content-length`: memory is given for what came, not for what was announced.
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| ApiError::Malformed("the body ended early"))?;
        // Counted as it comes: a stated length may be missing or a lie.
        if bytes.len() + chunk.len() > MAX_BYTES {
            return Err(ApiError::BodyTooLarge);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// `application/json` or a `+json` type, with any parameters.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(value)) = headers
        .get(header::CONTENT_TYPE)
        .map(|value| value.to_str())
    else {
        return false;
    };
    let essence = value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    match essence.split_once('/') {
        Some(("application", "json")) => true,
        Some((kind, subtype)) => {
            !kind.is_empty()
                && subtype
                    .strip_suffix("+json")
                    .is_some_and(|name| !name.is_empty())
        }
        None => false,
    }
}

/// Reads the fields of a body.
pub(crate) fn parse(bytes: &[u8]) -> Result<Fields, ApiError> {
    if bytes.is_empty() {
        // Routes whose fields are all optional can be called without a body.
        return Ok(Fields::default());
    }
    serde_json::from_slice(bytes).map_err(|error| {
        ApiError::Malformed(match error.classify() {
            Category::Data => "the body must be a JSON object",
            Category::Io | Category::Syntax | Category::Eof => "the body is not valid JSON",
        })
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn json_has_several_content_types() {
        let json = |value: &str| {
            let value = HeaderValue::from_str(value).expect("a header value");
            is_json(&HeaderMap::from_iter([(header::CONTENT_TYPE, value)]))
        };
        for good in [
            "application/json",
            "Application/JSON ; charset=utf-8",
            "application/problem+json",
            "a/b+json",
        ] {
            assert!(json(good), "{good}");
        }
        for bad in [
            "",
            "text/plain",
            "application/jsonp",
            "application/+json",
            "json",
            "text/plain, application/json",
        ] {
            assert!(!json(bad), "{bad}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }

    #[test]
    fn a_body_comes_as_it_is() {
        let refused = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::CONTENT_ENCODING, HeaderValue::from_static(value));
            }
            refuse_encoded(&headers).is_err()
        };
        assert!(!refused(&[]) && !refused(&["identity"]) && !refused(&["Identity"]));
        for codings in [
            &["gzip"][..],
            &["identity", "br"],
            &["gzip, identity"],
            &[""],
        ] {
            assert!(refused(codings), "{codings:?}");
        }
    }

    #[test]
    fn what_is_no_object_is_malformed() {
        let deep = format!("{}1{}", "{\"a\":".repeat(10_000), "}".repeat(10_000));
        for bad in [
            "[]",
            "\"text\"",
            "5",
            "null",
            "{",
            "{\"a\":}",
            "{\"a\":1}x",
            " ",
            "\u{feff}{}",
            "{\"a\":\"\\ud800\"}",
            "{\"a\":1e999}",
            "{'a':1}",
            "NaN",
            &deep,
        ] {
            assert!(
                matches!(parse(bad.as_bytes()), Err(ApiError::Malformed(_))),
                "{bad:.40}"
            );
        }
        assert!(matches!(
            parse(b"{\"a\":\"\xff\"}"),
            Err(ApiError::Malformed(_))
        ));
        assert!(parse(b"").is_ok() && parse(b" {} ").is_ok());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(matches!(parse(&bytes), Ok(_) | Err(ApiError::Malformed(_))));
        }
    }
}
