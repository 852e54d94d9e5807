//! Loops: webhooks that come back to the host, and organizations that ask for webhooks again and again.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use wharf_tests::{
    ADMIN_TOKEN, Answer, Backend, Host, Ledger, PATIENCE, Receiver, Site, eventually,
    on_every_backend,
};

const OWNER: &str = "org-1";

async fn register(host: &Host, organization: &str, url: &str) -> Result<String> {
    let hook = json!({"organizationId": organization, "event": "sync.completed", "targetUrl": url});
    let answer = host.post("/webhooks/register", &hook).await?;
    Ok(answer.get("id").as_str().context("an id")?.to_owned())
}

async fn post(host: &Host, path: &str, organization: &str) -> Result<Answer> {
    host.post(path, &json!({"organizationId": organization}))
        .await
}

async fn signed_requests_are_refused_on_every_route(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let document = host.get("/openapi.json").await?.json();
    let mut tried = 0;
    for (path, operations) in document["paths"].as_object().context("paths")? {
        let path = path
            .replace("{id}", "0190a5e4-7b1c-7def-8abc-0123456789ab")
            .replace("{marketplace}", "etsy")
            .replace("{plugin}", "etsy");
        for method in operations.as_object().context("operations")?.keys() {
            for header in ["webhook-signature", "x-webhook-signature"] {
                let request = host
                    .request(&method.to_uppercase(), &path)
                    .bearer_auth(ADMIN_TOKEN)
                    .header(header, "v1,AAAA");
                let request = match method.as_str() {
                    "get" => request,
                    _ => request.json(&json!({"organizationId": OWNER})),
                };
                let answer = Answer::to(request).await?;
                assert_eq!(
                    (answer.status, answer.get("error")),
                    (403, json!("Webhook refused")),
                    "{method} {path}"
                );
                assert!(!answer.header("x-request-id").is_empty());
                tried += 1;
            }
        }
    }
    assert!(tried > 50, "{tried}");
    let answer = Answer::to(
        host.request("GET", "/nowhere")
            .header("webhook-signature", "v1,A"),
    );
    assert_eq!(answer.await?.status, 403);
    // An id alone is no signature: clients may have events of their own.
    let answer = Answer::to(host.request("GET", "/healthz").header("x-event-id", "1"));
    assert_eq!(answer.await?.status, 200);
    Ok(())
}

/// A webhook that points at our own test route makes one event for each request of its owner's, and no more.
async fn a_webhook_to_ourselves_does_not_breed(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let host = site.host().env("WEBHOOK_RETRY", "1s").start().await?;
    let id = register(&host, OWNER, "http://127.0.0.1:9/").await?;
    let url = format!("{}/webhooks/{id}/test", host.base_url());
    let change = json!({"organizationId": OWNER, "targetUrl": url});
    let changed = host
        .request("PATCH", &format!("/webhooks/{id}"))
        .json(&change);
    assert_eq!(Answer::to(changed).await?.status, 200);
    for _ in 0..3 {
        let sent = post(&host, &format!("/webhooks/{id}/test"), OWNER).await?;
        assert_eq!(sent.status, 202, "{}", sent.text);
    }
    let ledger = Ledger::open(&site).await?;
    let dead = "select count(*) as dead from callback_deliveries where state = 'failed' having count(*) >= 3";
    ledger.wait_for(dead).await?;
    let events = ledger
        .row("select count(*) as number from callback_outbox")
        .await?;
    assert_eq!(events["number"], 3);
    let answered = ledger
        .rows("select distinct http_status from callback_attempts")
        .await?;
    assert_eq!(answered, [json!({"http_status": 403})]);
    Ok(())
}

/// How many of so many requests are accepted; the others must be refused with a time to come back.
async fn accepted(hosts: &[&Host], path: &str, organization: &str, of: usize) -> Result<usize> {
    let mut accepted = 0;
    for at in 0..of {
        let answer = post(hosts[at % hosts.len()], path, organization).await?;
        if answer.status == 429 {
            assert_eq!(answer.get("error"), "Too many requests");
            let wait: u64 = answer.header("retry-after").parse()?;
            assert!((1..=60).contains(&wait), "{wait}");
        } else {
            assert!(answer.status < 300, "{path}: {}", answer.text);
            accepted += 1;
        }
    }
    Ok(accepted)
}

/// The budgets hold over all processes, over restarts, and for each organization by itself.
async fn organizations_have_budgets(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let receiver = Receiver::start().await?;
    let builder = || {
        // One comes back within a minute: no machine is so slow that the test meets it.
        let host = site.host().env("WEBHOOK_TESTS_PER_MINUTE", "1");
        host.env("WEBHOOK_RESENDS_PER_MINUTE", "2")
            .env("WEBHOOK_RECOVERIES_PER_MINUTE", "2")
    };
    let mut one = builder().start().await?;
    let other = match backend {
        Backend::Postgres => Some(builder().start().await?),
        Backend::Embedded => None,
    };
    let ids = [
        register(&one, OWNER, receiver.url()).await?,
        register(&one, "org-2", receiver.url()).await?,
    ];
    let test = |at: usize| format!("/webhooks/{}/test", ids[at]);
    let hosts: Vec<&Host> = std::iter::once(&one).chain(&other).collect();
    assert_eq!(accepted(&hosts, &test(0), OWNER, 8).await?, 1);
    assert_eq!(accepted(&hosts, &test(1), "org-2", 1).await?, 1);

    let ledger = Ledger::open(&site).await?;
    let own = format!(
        "select id from callback_deliveries where organization_id = '{OWNER}' and state = 'success'"
    );
    let delivered = || async { ledger.rows(&own).await.ok()?.first().cloned() };
    let delivered: Value = eventually("a test has arrived", PATIENCE, delivered).await?;
    let delivery = delivered["id"].as_str().context("an id")?;
    let resend = format!("/deliveries/{delivery}/resend");
    assert_eq!(accepted(&hosts, &resend, OWNER, 5).await?, 2);

    let recover = format!("/webhooks/{}/recover", ids[0]);
    let since = json!({"organizationId": OWNER, "since": "2026-01-01T00:00:00Z"});
    assert_eq!(one.post(&recover, &since).await?.status, 200);
    let redriven = one.post("/dead-letters/redrive", &since).await?;
    assert_eq!(redriven.status, 200, "{}", redriven.text);
    for path in [recover.as_str(), "/dead-letters/redrive"] {
        assert_eq!(one.post(path, &since).await?.status, 429, "{path}");
    }

    one.stop().await?;
    let again = builder().start().await?;
    assert_eq!(accepted(&[&again], &test(0), OWNER, 2).await?, 0);
    Ok(())
}

on_every_backend!(
    signed_requests_are_refused_on_every_route,
    a_webhook_to_ourselves_does_not_breed,
    organizations_have_budgets,
);
