//! Errors that all routes share: each is JSON and reveals nothing internal.

use anyhow::{Context, Result};
use reqwest::{Body, RequestBuilder};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wharf_tests::{Answer, Backend, Host, Shop, on_every_backend};

const GETS: [&str; 4] = ["/stores/sync-status", "/webhooks", "/healthz", "/readyz"];
const POSTS: [&str; 5] = [
    "/stores/register",
    "/stores/sync",
    "/orders/import",
    "/webhooks/register",
    "/mock/etsy/validate",
];
const MIB: usize = 1024 * 1024;

/// A request with the mock's credentials, which the other routes ignore.
fn post(host: &Host, path: &str) -> RequestBuilder {
    host.request("POST", path)
        .basic_auth("etsy_user", Some("etsy_pass"))
}

fn json_post(host: &Host, path: &str, body: impl Into<Body>) -> RequestBuilder {
    post(host, path)
        .header("content-type", "application/json")
        .body(body)
}

/// Sends a request that must be refused so.
async fn refused(request: RequestBuilder, status: u16, error: &str) -> Result<Answer> {
    let what = format!("{request:?}");
    let answer = Answer::to(request).await.with_context(|| what.clone())?;
    assert_eq!(
        (answer.status, answer.get("error")),
        (status, json!(error)),
        "{what}: {}",
        answer.text
    );
    assert_eq!(answer.header("content-type"), "application/json");
    assert!(!answer.header("x-request-id").is_empty());
    let body = answer.json();
    let members = body.as_object().expect("an object");
    assert!(
        members
            .keys()
            .all(|name| ["error", "message", "details"].contains(&name.as_str())),
        "{body}"
    );
    let inside = [
        "sql", "wharf", "serde", "::", "/src/", "panicked", "line ", "column", "thread", "stores.",
        "insert",
    ];
    assert!(
        inside
            .iter()
            .all(|word| !answer.text.to_lowercase().contains(word)),
        "{body}"
    );
    Ok(answer)
}

/// The host is as well as before: it serves, and nothing that clients did was a defect of ours.
async fn serves_on(host: &Host) -> Result<()> {
    let shop = Shop::open(host, "org-after", "etsy").await?;
    assert_eq!(shop.import(host, "order-101").await?["success"], true);
    let log = host.log();
    let defects = log.iter().filter(|line| line.field("level") == "ERROR");
    let defects: Vec<_> = defects.collect();
    assert!(defects.is_empty(), "{defects:?}");
    Ok(())
}

async fn malformed_bodies_are_refused_everywhere(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let nested = |open: &str, close: &str, depth: usize| {
        format!("{}1{}", open.repeat(depth), close.repeat(depth))
    };
    let malformed: Vec<Vec<u8>> = vec![
        b" ".to_vec(),
        b"{".to_vec(),
        b"}".to_vec(),
        b"{}{}".to_vec(),
        b"{\"receipt\":}".to_vec(),
        b"{\"receipt\" \"1\"}".to_vec(),
        b"{'receipt':'1'}".to_vec(),
        b"{receipt:1}".to_vec(),
        b"{\"receipt\":\"1\",}".to_vec(),
        b"{\"receipt\":NaN}".to_vec(),
        b"{\"receipt\":01}".to_vec(),
        b"{\"receipt\":1e999}".to_vec(),
        b"{\"receipt\":\"\n\"}".to_vec(),
        b"{\"receipt\":\"\\x\"}".to_vec(),
        b"{\"receipt\":\"\\ud800\"}".to_vec(),
        b"{\"receipt\":\"\\udc00\\ud800\"}".to_vec(),
        b"{\"receipt\":\"\xff\"}".to_vec(),
        b"{\"receipt\":\"\xed\xa0\x80\"}".to_vec(),
        b"{\"receipt\":\"\xc0\xaf\"}".to_vec(),
        b"{\"\xff\":\"1\"}".to_vec(),
        b"\xef\xbb\xbf{}".to_vec(),
        b"\xff\xfe{\0}\0".to_vec(),
        b"\0".to_vec(),
        b"[]".to_vec(),
        b"[{\"receipt\":\"1\"}]".to_vec(),
        b"\"receipt\"".to_vec(),
        b"null".to_vec(),
        b"true".to_vec(),
        b"-1.5e3".to_vec(),
        b"receipt=1".to_vec(),
        b"<receipt>1</receipt>".to_vec(),
        nested("[", "]", 100_000).into_bytes(),
        nested("{\"a\":", "}", 100_000).into_bytes(),
        format!("{{\"receipt\":{}}}", nested("[", "]", 10_000)).into_bytes(),
        format!("{{\"receipt\":{}", "[".repeat(900_000)).into_bytes(),
    ];
    for path in POSTS {
        for body in &malformed {
            let answer = refused(
                json_post(&host, path, body.clone()),
                400,
                "Validation error",
            )
            .await?;
            assert!(
                answer.get("message").is_string(),
                "it says what is wrong: {}",
                answer.text
            );
        }
    }
    serves_on(&host).await
}

async fn types_and_sizes_of_bodies_are_checked_everywhere(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    for path in POSTS {
        let nothing_right = if path.starts_with("/mock") {
            "receipt is required"
        } else {
            "Validation error"
        };
        for content_type in [
            "application/json",
            "APPLICATION/JSON;charset=UTF-8",
            "application/vnd.api+json",
        ] {
            refused(
                post(&host, path)
                    .header("content-type", content_type)
                    .body("{}"),
                400,
                nothing_right,
            )
            .await?;
        }
        refused(post(&host, path), 400, nothing_right).await?;
        refused(post(&host, path).body("{}"), 415, "Unsupported media type").await?;
        for content_type in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "json",
            "text/json2",
            "",
            "\u{fc}",
        ] {
            let request = post(&host, path)
                .header("content-type", content_type.as_bytes())
                .body("{}");
            refused(request, 415, "Unsupported media type").await?;
        }
        let padded = |size: usize| format!("{{{}}}", " ".repeat(size - 2));
        refused(json_post(&host, path, padded(MIB)), 400, nothing_right).await?;
        for size in [MIB + 1, 2_000_000, 5 * MIB] {
            refused(
                json_post(&host, path, padded(size)),
                413,
                "Payload too large",
            )
            .await?;
        }
        // Without a length ahead.
        let chunks = vec![b' '; 64 * 1024];
        let endless =
            futures::stream::iter((0..32).map(move |_| Ok::<_, std::io::Error>(chunks.clone())));
        refused(
            json_post(&host, path, Body::wrap_stream(endless)),
            413,
            "Payload too large",
        )
        .await?;
        let large = || post(&host, path).body(vec![b'x'; 2_000_000]);
        refused(
            large().header("content-type", "text/plain"),
            415,
            "Unsupported media type",
        )
        .await?;
    }
    // A refusal that needs no body arrives although the client is still sending one.
    for (method, path, status, error) in [
        ("POST", "/nowhere", 404, "Not found"),
        ("POST", "/webhooks", 405, "Method not allowed"),
        ("PUT", "/orders/import", 405, "Method not allowed"),
        ("POST", "/mock/ebay/validate", 400, "Invalid marketplace"),
        ("POST", "/mock/shopify/validate", 401, "Unauthorized"),
    ] {
        refused(
            host.request(method, path).body(vec![b'x'; 2_000_000]),
            status,
            error,
        )
        .await?;
    }
    serves_on(&host).await
}

async fn unknown_routes_and_methods_are_refused(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let unknown = [
        "/",
        "/store",
        "/stores/",
        "/stores/register/",
        "/Stores/register",
        "/orders",
        "/mock",
        "/webhook",
    ];
    let odd = [
        "/%00",
        "/%ff",
        "/%2e%2e/etc/passwd",
        "/..;/healthz",
        "/healthz%2f",
        "/stores//register",
        "/ü",
    ];
    for path in unknown.into_iter().chain(odd) {
        for method in ["GET", "POST", "DELETE", "BREW"] {
            refused(host.request(method, path), 404, "Not found").await?;
        }
    }
    for (paths, right) in [(&GETS[..], "GET"), (&POSTS, "POST")] {
        for path in paths {
            for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"] {
                if method != right {
                    let answer =
                        refused(host.request(method, path), 405, "Method not allowed").await?;
                    assert!(
                        answer.header("allow").contains(right),
                        "{:?}",
                        answer.headers
                    );
                }
            }
            let asked = Answer::to(host.request("OPTIONS", path)).await?;
            assert_eq!(
                (asked.status, asked.header("allow").contains(right)),
                (204, true),
                "{path}"
            );
        }
    }
    for path in ["/healthz", "/readyz"] {
        let head = Answer::to(host.request("HEAD", path)).await?;
        assert_eq!((head.status, head.text.as_str()), (200, ""));
    }
    serves_on(&host).await
}

async fn unknown_fields_and_moderate_depth_are_ignored(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let mut registration = Shop::registration("org-1", "etsy");
    let depth = 100;
    registration["deep"] =
        serde_json::from_str::<Value>(&format!("{}1{}", "[".repeat(depth), "]".repeat(depth)))?;
    registration["__proto__"] = json!({"storeName": "x"});
    registration[""] = json!(null);
    registration["\u{0}"] = json!(["\u{0}"]);
    for n in 0..10_000 {
        registration[format!("field {n}")] = json!(n);
    }
    let shop = Shop::register(&host, &registration).await?;
    assert_eq!(shop, Shop::open(&host, "org-1", "etsy").await?);
    // Which of two members of one name is meant is unknown, as in a query; libraries differ.
    let twice = format!(
        r#"{{"syncToken":"x","receipt":"2","receipt":"1","syncToken":"{}"}}"#,
        shop.sync_token
    );
    let answer = host.post_bytes("/orders/import", twice).await?;
    let wrong = |path| json!({"path": path, "message": "must be given once"});
    assert_eq!(
        (answer.status, answer.get("details")),
        (400, json!([wrong("syncToken"), wrong("receipt")]))
    );
    serves_on(&host).await
}

async fn a_compressed_body_is_refused(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    for path in POSTS {
        // Readable, but not what the header says: the header is believed.
        let packed = json_post(&host, path, "{}").header("content-encoding", "gzip");
        let answer = refused(packed, 415, "Unsupported media type").await?;
        assert_eq!(answer.header("accept-encoding"), "identity", "{path}");
    }
    Ok(())
}

/// The times of RFC 3339, section 5.6, and no others.
async fn times_are_read_by_the_standard(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let redrive = async |since: &str| {
        let body = json!({"organizationId": "org-1", "since": since, "dryRun": true});
        host.post("/dead-letters/redrive", &body).await
    };
    for good in [
        "2026-01-01T00:00:00Z",
        "2026-01-01t00:00:00z",
        "2026-12-31T23:59:60Z",
        "2026-01-01T00:00:00.1234567890Z",
        "2026-01-01T00:00:00-00:00",
        "0000-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "9999-12-31T23:59:59-23:59",
    ] {
        let answer = redrive(good).await?;
        assert_eq!(answer.status, 200, "{good}: {}", answer.text);
    }
    for bad in [
        "2026-01-01T00Z",
        "2026-01-01 00:00:00Z",
        "20260101T000000Z",
        "2026-01-01T00:00:00,5Z",
        "2026-01-01T00:00:00+25:00",
        "2026-01-01T00:00:00+02:00[Nowhere/None]",
        "+002026-01-01T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "2026-06-15T23:59:60Z",
    ] {
        assert_eq!(redrive(bad).await?.status, 400, "{bad}");
    }
    Ok(())
}

async fn broken_connections_and_requests_harm_nobody(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let address = host.base_url().trim_start_matches("http://").to_owned();
    let head =
        "POST /orders/import HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    for request in [
        "GARBAGE\r\n\r\n".to_owned(),
        "GET /healthz HTTP/9.9\r\n\r\n".into(),
        "GET /healthz HTTP/1.1\r\nno colon\r\n\r\n".into(),
        format!("{head}content-length: -1\r\n\r\n"),
        format!("{head}content-length: 2\r\ncontent-length: 3\r\n\r\n{{}}"),
        format!("{head}transfer-encoding: chunked\r\n\r\nnonsense\r\n"),
        format!(
            "GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n",
            "x".repeat(100_000)
        ),
        format!(
            "GET /healthz HTTP/1.1\r\nhost: localhost\r\nbig: {}\r\n\r\n",
            "x".repeat(1_000_000)
        ),
    ] {
        let mut connection = TcpStream::connect(&address).await?;
        // A host that has heard enough may close before all is written.
        let _ = connection.write_all(request.as_bytes()).await;
        let _ = connection.shutdown().await;
        let mut answer = Vec::new();
        let _ = connection.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{request:.60} was answered {answer:.200}"
        );
    }
    for half in [
        head.to_owned(),
        format!("{head}content-length: 100\r\n\r\n{{\"syncToken\":"),
    ] {
        let mut connection = TcpStream::connect(&address).await?;
        connection.write_all(half.as_bytes()).await?;
    }
    serves_on(&host).await
}

on_every_backend!(
    a_compressed_body_is_refused,
    times_are_read_by_the_standard,
    malformed_bodies_are_refused_everywhere,
    types_and_sizes_of_bodies_are_checked_everywhere,
    unknown_routes_and_methods_are_refused,
    unknown_fields_and_moderate_depth_are_ignored,
    broken_connections_and_requests_harm_nobody,
);
