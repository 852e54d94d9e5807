//! Webhooks: registering, and what a delivery looks like.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;
use wharf_tests::{
    Answer, Backend, Host, Ledger, Receiver, Request, Shop, Site, model::is_recent_time,
    on_every_backend,
};

async fn register(host: &Host, organization: &str, event: &str, url: &str) -> Result<Answer> {
    let body = json!({"organizationId": organization, "event": event, "targetUrl": url});
    host.post("/webhooks/register", &body).await
}

/// Registers an endpoint that must be accepted: its secret.
async fn endpoint(host: &Host, event: &str, url: &str) -> Result<String> {
    let answer = register(host, "org-1", event, url).await?;
    answer
        .get("secret")
        .as_str()
        .map(str::to_owned)
        .with_context(|| answer.text)
}

async fn endpoints_are_registered_once_and_listed_in_order(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let list = async |organization: &str| {
        host.get(&format!("/webhooks?organizationId={organization}"))
            .await
    };
    assert_eq!(list("org-1").await?.json(), json!([]));
    let urls = [
        "http://127.0.0.1:4000/webhook",
        "https://example.com/Z?a=b#c",
        "HTTP://EXAMPLE.com",
        "http://[::1]:1/",
    ];
    let mut expected = Vec::new();
    for event in ["sync.started", "sync.completed", "sync.failed"] {
        for url in urls {
            let first = register(&host, "org-1", event, url).await?;
            let mut body = first.json();
            assert_eq!(first.status, 200, "{}", first.text);
            let id: Uuid = body["id"].as_str().context("an id")?.parse()?;
            assert_eq!(id.get_version_num(), 7);
            assert!(
                body["secret"]
                    .as_str()
                    .is_some_and(|secret| secret.starts_with("whsec_"))
            );
            let shown = json!({"organizationId": "org-1", "event": event, "targetUrl": url, "isActive": true});
            for (name, value) in shown.as_object().expect("an object") {
                assert_eq!(&body[name], value);
            }
            body.as_object_mut().expect("an object").remove("secret");
            assert_eq!(
                register(&host, "org-1", event, url).await?.json(),
                body,
                "the same, its secret kept"
            );
            expected.push((event, url, body));
        }
    }
    expected.sort_by_key(|(event, url, _)| (*event, *url));
    let listed = list("org-1").await?.json();
    assert_eq!(
        listed,
        expected
            .into_iter()
            .map(|(.., body)| body)
            .collect::<Value>()
    );
    assert_eq!(
        list("org-2").await?.json(),
        json!([]),
        "each organization has its own"
    );
    assert!(
        register(&host, "org-2", "sync.failed", urls[0])
            .await?
            .get("secret")
            .is_string()
    );
    assert_eq!(
        list("org-2").await?.json().as_array().map(Vec::len),
        Some(1)
    );
    let many = futures::future::try_join_all(
        (0..32).map(|_| register(&host, "org-3", "sync.failed", urls[0])),
    )
    .await?;
    let ids: BTreeSet<_> = many
        .iter()
        .map(|answer| answer.get("id").to_string())
        .collect();
    assert_eq!(
        (
            ids.len(),
            many.iter()
                .filter(|answer| answer.get("secret").is_string())
                .count()
        ),
        (1, 1)
    );
    wrong_registrations_are_refused(&host).await
}

async fn wrong_registrations_are_refused(host: &Host) -> Result<()> {
    let url = "http://127.0.0.1:4000/webhook";
    let longest = format!("{url}?{}", "x".repeat(2_047 - url.len()));
    assert_eq!(
        register(host, "org-9", "sync.failed", &longest)
            .await?
            .status,
        200
    );
    let refused = |answer: &Answer, paths: &[&str]| {
        assert_eq!(
            (answer.status, answer.get("error")),
            (400, json!("Validation error")),
            "{}",
            answer.text
        );
        let details = answer.get("details");
        let found: Vec<_> = details
            .as_array()
            .into_iter()
            .flatten()
            .map(|detail| detail["path"].clone())
            .collect();
        assert_eq!(found, paths, "{}", answer.text);
    };
    for event in [
        "",
        "sync",
        "sync.",
        "sync.started ",
        "SYNC.STARTED",
        "order.created",
        "*",
        "sync.\u{0}failed",
    ] {
        refused(&register(host, "org-9", event, url).await?, &["event"]);
    }
    for target in [
        "",
        "/webhook",
        "example.com/webhook",
        "//example.com",
        "ftp://example.com",
        "javascript:alert(1)",
        "mailto:a@b.c",
        "file:///etc/passwd",
        "ws://example.com",
        "http:example.com",
        "http:/example.com",
        "http://",
        "http:///path",
        "https://?a",
        "http://#a",
        "http://user@example.com",
        "http://user:pass@example.com",
        "http://:pass@example.com",
        "http://@example.com",
        "http://exa mple.com",
        " http://example.com",
        "http://example.com ",
        "http://example.com/a b",
        "http://example.com/\n",
        "http://example.com/\ta",
        "http://a\u{0}b.com",
        "http://example.com:99999",
        "http://[::1",
        "http:\\\\example.com",
        "http://example.com\\@evil.com",
        "http://exa%mple.com",
        "\u{a0}http://example.com",
        &format!("{longest}x"),
    ] {
        refused(
            &register(host, "org-9", "sync.failed", target).await?,
            &["targetUrl"],
        );
    }
    for (body, paths) in [
        (json!({}), &["organizationId", "event", "targetUrl"][..]),
        (
            json!({"organizationId": 1, "event": ["sync.failed"], "targetUrl": null}),
            &["organizationId", "event", "targetUrl"],
        ),
        (
            json!({"organizationId": "\u{0}", "event": "sync.failed", "targetUrl": url}),
            &["organizationId"],
        ),
        (
            json!({"organizationId": "x".repeat(256), "event": "sync.failed", "targetUrl": url}),
            &["organizationId"],
        ),
    ] {
        refused(&host.post("/webhooks/register", &body).await?, paths);
    }
    for query in [
        "",
        "?",
        "?organizationId",
        "?organizationId=",
        "?organizationid=a",
        "?organizationId=%00",
        "?organizationId=%FF",
        "?organizationId=a&organizationId=a",
        &format!("?organizationId={}", "x".repeat(256)),
    ] {
        refused(
            &host.get(&format!("/webhooks{query}")).await?,
            &["organizationId"],
        );
    }
    let odd = "org \"ü\" + & = %";
    assert_eq!(register(host, odd, "sync.failed", url).await?.status, 200);
    let listed = host
        .get("/webhooks?organizationId=org+%22%C3%BC%22%20%2B%20%26%20%3D%20%25")
        .await?
        .json();
    assert_eq!(listed[0]["organizationId"], odd);
    Ok(())
}

/// The original service's signature by the definition of HMAC (RFC 2104).
fn seed_signature(secret: &[u8], body: &[u8]) -> String {
    let mut key = [0; 64];
    key[..secret.len()].copy_from_slice(secret);
    let hash = |pad: u8, parts: &[u8]| {
        Sha256::new()
            .chain_update(key.map(|byte| byte ^ pad))
            .chain_update(parts)
            .finalize()
    };
    let digest = hash(0x5c, &hash(0x36, body));
    format!(
        "sha256={}",
        digest
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    )
}

/// What holds for every webhook: its body's six fields, and headers that its receiver can check.
fn check(request: &Request, secret: &str) -> Value {
    let body = request.json();
    let names: Vec<_> = body
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(
        names,
        [
            "data",
            "event",
            "eventId",
            "organizationId",
            "storeId",
            "timestamp"
        ],
        "{body}"
    );
    assert_eq!(
        (request.method.as_str(), request.uri.path()),
        ("POST", "/webhook")
    );
    assert_eq!(request.header("content-type"), "application/json");
    assert!(is_recent_time(&body["timestamp"]), "{body}");
    assert_eq!(
        (
            &json!(request.header("x-event-id")),
            request.header("webhook-id")
        ),
        (&body["eventId"], request.header("x-event-id"))
    );
    assert_eq!(
        request.header("x-webhook-signature"),
        seed_signature(b"the seed's secret", &request.body)
    );
    let reader = standardwebhooks::Webhook::new(secret).expect("a secret");
    reader
        .verify(&request.body, &request.headers)
        .expect("the reference library accepts it");
    reader
        .verify(b"{}", &request.headers)
        .expect_err("of this body alone");
    body
}

async fn deliveries_look_as_documented(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let host = site
        .host()
        .env("WEBHOOK_SECRET", "the seed's secret")
        .start()
        .await?;
    let receiver = Receiver::start().await?;
    let mut secrets = std::collections::BTreeMap::new();
    for event in ["sync.started", "sync.completed", "sync.failed"] {
        secrets.insert(event, endpoint(&host, event, receiver.url()).await?);
    }
    let shop = Shop::open(&host, "org-1", "etsy").await?;
    for receipt in ["order-102", "order-104"] {
        assert_eq!(
            shop.import(&host, receipt).await?["error"],
            "invalid_receipt"
        );
    }
    shop.request_sync(&host).await?;
    let failed = check(
        &receiver.wait_for_event("sync.failed").await?,
        &secrets["sync.failed"],
    );
    let counts = json!({"storeId": shop.store_id, "processedCount": 2, "successCount": 0, "failedCount": 2, "rateLimitedCount": 0});
    assert_eq!(failed["data"], counts);
    let started = check(
        &receiver.wait_for_event("sync.started").await?,
        &secrets["sync.started"],
    );
    assert_eq!(started["data"], json!({"storeId": shop.store_id}));
    for body in [&failed, &started] {
        assert_eq!(
            (&body["organizationId"], &body["storeId"]),
            (&json!("org-1"), &json!(shop.store_id))
        );
        let id: Uuid = body["eventId"].as_str().context("an id")?.parse()?;
        assert_eq!(id.get_version_num(), 7);
    }
    assert_ne!(failed["eventId"], started["eventId"]);

    // A row that somebody put in by plain SQL; its data goes out as it came in.
    let ledger = Ledger::open(&site).await?;
    let data = r#"{"z":1.10,"a":[12345678901234567890,"ü\u0000 'x'"],"b":{}}"#;
    let id = ledger.put_event("org-1", "sync.completed", data).await?;
    let request = receiver.wait_for_event("sync.completed").await?;
    assert_eq!(check(&request, &secrets["sync.completed"])["eventId"], id);
    let text = String::from_utf8(request.body.to_vec())?;
    assert!(
        text.starts_with(r#"{"eventId":"#) && text.ends_with(&format!(r#""data":{data}}}"#)),
        "{text}"
    );
    let row = format!(
        "select status, attempt from callback_outbox where id = {} and status <> 'pending'",
        ledger.id(&id)
    );
    assert_eq!(
        ledger.wait_for(&row).await?,
        json!({"status": "success", "attempt": 1})
    );

    // Nobody listens for these; they end at once and hold nothing up.
    for (organization, event) in [("org-2", "sync.completed"), ("org-1", "order.created")] {
        let id = ledger.put_event(organization, event, "{}").await?;
        let row = format!(
            "select attempt from callback_outbox where id = {} and status = 'success'",
            ledger.id(&id)
        );
        assert_eq!(ledger.wait_for(&row).await?, json!({"attempt": 0}));
    }
    assert_eq!(receiver.requests().len(), 3);
    Ok(())
}

on_every_backend!(
    endpoints_are_registered_once_and_listed_in_order,
    deliveries_look_as_documented,
);
