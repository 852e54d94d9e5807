//! Webhooks: registering, and what a delivery looks like.

mod registration;

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

/// Checks what every webhook has: its body's six fields, and headers that its receiver can check.
fn check(request: &Request, secret: &str) -> Value {
    let body = request.json();
    let members = body.as_object().expect("an object");
    let mut names: Vec<_> = members.keys().map(String::as_str).collect();
    // Whether serde_json keeps the order depends on what else is built.
    names.sort_unstable();
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

on_every_backend!(deliveries_look_as_documented);
