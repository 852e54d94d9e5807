//! Rules that hold for every route, tested on routes that need no database.

use axum::{
    Json,
    body::{Body, to_bytes},
    http::{Request, header},
    routing::{get, post},
};
use proptest::prelude::*;
use serde_json::{Value, json};
use tower::ServiceExt;
use wharf_domain::{Receipt, SyncToken};

use super::*;
use crate::{body::JsonBody, query::Query, request::request};

request! {
    /// An answer that repeats the receipt.
    struct Echo {
        /// Itself.
        receipt "receipt": Receipt,
    }
}

request! {
    /// A token.
    struct Token {
        /// Itself.
        sync_token "syncToken": SyncToken,
    }
}

async fn echo(JsonBody(request): JsonBody<Echo>) -> Json<Value> {
    Json(json!({"receipt": request.receipt.as_str()}))
}

async fn token(Query(request): Query<Token>) -> String {
    request.sync_token.0.to_string()
}

async fn panics() -> StatusCode {
    panic!("the password is 1234")
}

fn router() -> Router {
    let routes = Router::new()
        .route("/echo", post(echo))
        .route("/token", get(token))
        .route("/panics", get(panics))
        .route("/hangs", get(std::future::pending::<()>))
        .layer(axum::Extension(wharf_app::Caller::anyone()));
    let short = Duration::from_millis(50);
    let settings = ApiSettings {
        request_timeout: short,
        answer_timeout: short * 2,
        ..ApiSettings::default()
    };
    let frame = Frame::new(&settings, None);
    with_refusals(routes).layer(middleware::from_fn_with_state(frame, frame::whole))
}

/// Status, headers and JSON of an answer; `null` for an empty body.
async fn answer(request: Request<Body>) -> (u16, axum::http::HeaderMap, Value) {
    let response = router()
        .oneshot(request)
        .await
        .expect("the router never fails");
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.expect("a body");
    let value = if bytes.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&bytes).expect("JSON")
    };
    (parts.status.as_u16(), parts.headers, value)
}

async fn get_answer(method: &str, uri: &str) -> (u16, axum::http::HeaderMap, Value) {
    answer(
        Request::builder()
            .method(method)
            .uri(uri)
            .body(Body::empty())
            .expect("a request"),
    )
    .await
}

async fn posted(content_type: Option<&str>, body: impl Into<Body>) -> (u16, Value) {
    let mut request = Request::post("/echo");
    if let Some(content_type) = content_type {
        request = request.header(header::CONTENT_TYPE, content_type);
    }
    let (status, _, value) = answer(request.body(body.into()).expect("a request")).await;
    (status, value)
}

const JSON: Option<&str> = Some("application/json");

#[tokio::test]
async fn bodies_are_checked_before_they_are_read() {
    let good = r#"{"receipt":"order-1","other":[1,{}]}"#;
    assert_eq!(
        posted(JSON, good).await,
        (200, json!({"receipt": "order-1"}))
    );
    assert_eq!(
        posted(Some("application/vnd.api+json; charset=utf-8"), good)
            .await
            .0,
        200
    );
    let unsupported = json!({"error": "Unsupported media type", "message": "use application/json"});
    assert_eq!(
        posted(Some("text/plain"), good).await,
        (415, unsupported.clone())
    );
    assert_eq!(posted(None, good).await, (415, unsupported));
    let packed = Request::post("/echo")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONTENT_ENCODING, "gzip");
    let (status, headers, body) = answer(packed.body(good.into()).expect("a request")).await;
    assert_eq!(
        (status, &headers[header::ACCEPT_ENCODING]),
        (415, &"identity".parse().expect("a value"))
    );
    assert_eq!(body["message"], "send the body without a content coding");
    let malformed = json!({"error": "Validation error", "message": "the body is not valid JSON"});
    assert_eq!(posted(JSON, "{").await, (400, malformed));
    let no_object =
        json!({"error": "Validation error", "message": "the body must be a JSON object"});
    assert_eq!(posted(JSON, "[]").await, (400, no_object));
    let missing = json!({"error": "Validation error", "details": [{"path": "receipt", "message": "is required"}]});
    assert_eq!(posted(None, "").await, (400, missing));
}

#[tokio::test]
async fn a_megabyte_is_the_limit() {
    let padded = |size: usize| {
        format!(
            "{{\"receipt\":\"r\"{}}}",
            " ".repeat(size - "{\"receipt\":\"r\"}".len())
        )
    };
    assert_eq!(posted(JSON, padded(1024 * 1024)).await.0, 200);
    let too_large = json!({"error": "Payload too large", "message": "at most 1 MiB"});
    assert_eq!(
        posted(JSON, padded(1024 * 1024 + 1)).await,
        (413, too_large.clone())
    );
    let endless = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 64 * 1024]));
    assert_eq!(
        posted(JSON, Body::from_stream(endless)).await,
        (413, too_large)
    );
}

#[tokio::test]
async fn a_body_that_never_comes_times_out() {
    let body = Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>());
    assert_eq!(
        posted(JSON, body).await,
        (408, json!({"error": "Request timeout"}))
    );
}

#[tokio::test]
async fn unknown_routes_and_methods_answer_json() {
    let (status, _, body) = get_answer("GET", "/nowhere?syncToken=x").await;
    assert_eq!((status, body), (404, json!({"error": "Not found"})));
    let (status, headers, body) = get_answer("DELETE", "/echo").await;
    assert_eq!(
        (status, body),
        (405, json!({"error": "Method not allowed"}))
    );
    assert_eq!(headers[header::ALLOW], "POST");
    let (status, headers, body) = get_answer("OPTIONS", "/token").await;
    assert_eq!((status, body), (204, Value::Null));
    assert_eq!(headers[header::ALLOW], "GET,HEAD");
    let (status, _, body) = get_answer(
        "HEAD",
        "/token?syncToken=0190a5e4-7b1c-7def-8abc-0123456789ab",
    )
    .await;
    assert_eq!((status, body), (200, Value::Null));
}

#[tokio::test]
async fn sync_tokens_in_queries_are_checked() {
    let token = "syncToken=0190a5e4-7b1c-7def-8abc-0123456789ab";
    for (query, message) in [
        (String::new(), "is required"),
        ("syncToken=".into(), "must be a UUID"),
        ("syncToken=%00".into(), "must be a UUID"),
        (format!("{token}&{token}"), "must be given once"),
    ] {
        let (status, _, body) = get_answer("GET", &format!("/token?{query}")).await;
        let expected = json!({"error": "Validation error", "details": [{"path": "syncToken", "message": message}]});
        assert_eq!((status, body), (400, expected), "{query}");
    }
}

#[tokio::test]
async fn a_panic_and_an_endless_answer_end_in_json() {
    let (status, headers, body) = get_answer("GET", "/panics").await;
    assert_eq!((status, body), (500, json!({"error": "Internal error"})));
    assert!(headers.contains_key("x-request-id"));
    let (status, headers, body) = get_answer("GET", "/hangs").await;
    assert_eq!(
        (status, body["error"].as_str()),
        (503, Some("Service unavailable"))
    );
    assert_eq!(headers[header::RETRY_AFTER], "1");
}

#[test]
fn every_route_declares_its_scope() {
    let routes = routes::all()
        .merge(routes::admin())
        .merge(routes::metrics());
    let declared = Declared::of(&openapi::complete(routes.into_openapi()));
    let undeclared = declared.undeclared();
    assert!(
        undeclared.is_empty(),
        "`security(...)` is missing at, or names no scope at: {undeclared:?}"
    );
}

#[tokio::test]
async fn request_ids_come_back() {
    let request = Request::get("/nowhere")
        .header("x-request-id", "abc-1")
        .body(Body::empty())
        .expect("a request");
    assert_eq!(answer(request).await.1["x-request-id"], "abc-1");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    /// Neither arbitrary bytes nor arbitrary JSON ever meet a defect.
    #[test]
    fn no_body_is_our_fault(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in ".{0,40}") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (status, _) = runtime.block_on(posted(JSON, bytes));
        prop_assert!(status == 400 || status == 200, "{status}");
        let (status, body) = runtime.block_on(posted(JSON, json!({"receipt": text}).to_string()));
        let fine = !text.is_empty() && !text.contains('\0');
        prop_assert_eq!(status, if fine { 200 } else { 400 });
        prop_assert!(!fine || body["receipt"] == text);
    }
}
