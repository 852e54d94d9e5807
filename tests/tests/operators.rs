//! What the owner of a webhook and the operator of a host can see and mend.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use wharf_tests::{Answer, Backend, Host, Ledger, Receiver, Request, on_every_backend};

const ORG: &str = "organizationId=org-1";

/// A registered webhook: its id and its secret.
struct Hook {
    id: String,
    secret: String,
}

impl Hook {
    async fn register(host: &Host, event: &str, url: &str) -> Result<Self> {
        let answer = host
            .post(
                "/webhooks/register",
                &json!({"organizationId": "org-1", "event": event, "targetUrl": url}),
            )
            .await?;
        let text = |name| {
            answer
                .get(name)
                .as_str()
                .map(str::to_owned)
                .with_context(|| answer.text.clone())
        };
        Ok(Self {
            id: text("id")?,
            secret: text("secret")?,
        })
    }

    async fn get(&self, host: &Host) -> Result<Answer> {
        host.get(&format!("/webhooks/{}?{ORG}", self.id)).await
    }

    /// Asks for something, in the name of the organization.
    async fn post(&self, host: &Host, action: &str, mut body: Value) -> Result<Answer> {
        body["organizationId"] = json!("org-1");
        host.post(&format!("/webhooks/{}/{action}", self.id), &body)
            .await
    }

    async fn deliveries(&self, host: &Host, query: &str) -> Result<Value> {
        Ok(host
            .get(&format!("/webhooks/{}/deliveries?{ORG}{query}", self.id))
            .await?
            .json())
    }
}

async fn send(host: &Host, method: &str, path: &str, body: &Value) -> Result<Answer> {
    let method = method.parse()?;
    Answer::to(
        host.client()
            .request(method, format!("{}{path}", host.base_url()))
            .json(body),
    )
    .await
}

fn verifies(request: &Request, secret: &str) -> bool {
    let reader = standardwebhooks::Webhook::new(secret).expect("a secret");
    reader.verify(&request.body, &request.headers).is_ok()
}

/// Makes what waits for its next attempt due.
async fn hurry(ledger: &Ledger) -> Result<()> {
    let due = format!(
        "update callback_deliveries set due_at = {} where state = 'pending'",
        ledger.time(-60)
    );
    ledger.execute(&due).await.map(drop)
}

async fn an_owner_looks_after_a_webhook(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let receiver = Receiver::start().await?;
    let hook = Hook::register(&host, "sync.completed", receiver.url()).await?;
    let other = Hook::register(&host, "sync.completed", "http://127.0.0.1:4000/other").await?;
    let shown = hook.get(&host).await?.json();
    assert_eq!(
        (&shown["targetUrl"], &shown["isActive"]),
        (&json!(receiver.url()), &json!(true))
    );
    assert_eq!(
        (&shown["ratePerMinute"], &shown["disabledReason"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(
        shown["health"],
        json!({"consecutiveFailures": 0, "failingSince": null, "pausedUntil": null})
    );

    // Nobody else's, and none at all.
    for path in ["0190a5e4-7b1c-7def-8abc-0123456789ab", "nonsense", &hook.id] {
        let stranger = host
            .get(&format!("/webhooks/{path}?organizationId=org-2"))
            .await?;
        assert_eq!(stranger.status, 404, "{}", stranger.text);
    }
    assert_eq!(
        host.get(&format!("/webhooks/{}", hook.id)).await?.status,
        400,
        "whose it is must be said"
    );

    let path = format!("/webhooks/{}", hook.id);
    let moved = format!("{}/moved", receiver.url());
    let change = json!({"organizationId": "org-1", "targetUrl": moved, "ratePerMinute": 600, "shaper": "standard"});
    let changed = send(&host, "PATCH", &path, &change).await?.json();
    assert_eq!(
        (&changed["targetUrl"], &changed["ratePerMinute"]),
        (&json!(moved), &json!(600))
    );
    let taken = json!({"organizationId": "org-1", "targetUrl": "http://127.0.0.1:4000/other"});
    assert_eq!(send(&host, "PATCH", &path, &taken).await?.status, 409);
    for (wrong, field) in [
        (json!({"targetUrl": "ftp://a"}), "targetUrl"),
        (json!({"targetUrl": "http://10.0.0.1/"}), "targetUrl"),
        (json!({"ratePerMinute": -1}), "ratePerMinute"),
        (json!({"ratePerMinute": "many"}), "ratePerMinute"),
        (json!({"isActive": "perhaps"}), "isActive"),
        (json!({"shaper": ""}), "shaper"),
    ] {
        let mut body = wrong;
        body["organizationId"] = json!("org-1");
        let refused = send(&host, "PATCH", &path, &body).await?;
        assert_eq!(
            (refused.status, &refused.json()["details"][0]["path"]),
            (400, &json!(field)),
            "{}",
            refused.text
        );
    }
    let unlimited = json!({"organizationId": "org-1", "ratePerMinute": 0});
    assert_eq!(
        send(&host, "PATCH", &path, &unlimited)
            .await?
            .get("ratePerMinute"),
        Value::Null
    );

    let disabled = hook
        .post(&host, "disable", json!({"reason": "under repair"}))
        .await?
        .json();
    assert_eq!(
        (&disabled["isActive"], &disabled["disabledReason"]),
        (&json!(false), &json!("under repair"))
    );
    assert_eq!(hook.post(&host, "test", json!({})).await?.status, 409);
    let enabled = hook.post(&host, "enable", json!({})).await?.json();
    assert_eq!(
        (&enabled["isActive"], &enabled["disabledReason"]),
        (&json!(true), &Value::Null)
    );

    assert_eq!(
        host.get(&format!("{path}/secret?{ORG}"))
            .await?
            .get("secret"),
        hook.secret
    );
    assert_eq!(
        hook.post(&host, "secret/rotate", json!({"overlapSeconds": 604_801}))
            .await?
            .status,
        400
    );
    let rotated = hook.post(&host, "secret/rotate", json!({})).await?.json();
    let new = rotated["secret"].as_str().context("a secret")?;
    assert!(
        new != hook.secret
            && rotated["previousSecretsUntil"]
                .as_array()
                .is_some_and(|ends| ends.len() == 1)
    );

    let sent = hook.post(&host, "test", json!({})).await?;
    assert_eq!(sent.status, 202, "{}", sent.text);
    let request = receiver.wait_for_event("webhook.test").await?;
    assert_eq!(
        (request.uri.path(), &request.json()["eventId"]),
        ("/webhook/moved", &sent.get("eventId"))
    );
    assert!(
        verifies(&request, new) && verifies(&request, &hook.secret),
        "both within the overlap"
    );
    let at_once = hook
        .post(&host, "secret/rotate", json!({"overlapSeconds": 0}))
        .await?
        .json();
    assert_eq!(
        at_once["previousSecretsUntil"].as_array().map(Vec::len),
        Some(1),
        "the first overlap goes on"
    );

    let removed = send(&host, "DELETE", &format!("{path}?{ORG}"), &Value::Null).await?;
    assert_eq!((removed.status, removed.text.as_str()), (204, ""));
    assert_eq!(hook.get(&host).await?.status, 404);
    assert_eq!(hook.post(&host, "test", json!({})).await?.status, 404);
    assert_eq!(
        send(&host, "DELETE", &format!("{path}?{ORG}"), &Value::Null)
            .await?
            .status,
        404
    );
    assert_eq!(other.get(&host).await?.status, 200);
    assert_eq!(receiver.requests().len(), 1);
    Ok(())
}

async fn what_failed_is_seen_and_sent_again(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let ledger = Ledger::open(host.site()).await?;
    let receiver = Receiver::start().await?;
    let hook = Hook::register(&host, "sync.completed", receiver.url()).await?;
    receiver.answer_with(|_| {
        (
            axum::http::StatusCode::INTERNAL_SERVER_ERROR,
            "it is broken",
        )
    });
    let first = ledger.put_event("org-1", "sync.completed", "{}").await?;
    let second = ledger.put_event("org-1", "sync.completed", "{}").await?;
    for attempts in 1..=3 {
        let tried = format!(
            "select count(*) as n from callback_deliveries where attempt = {attempts} having count(*) = 2"
        );
        ledger.wait_for(&tried).await?;
        hurry(&ledger).await?;
    }
    let dead = host
        .get(&format!("/dead-letters?{ORG}&limit=1"))
        .await?
        .json();
    assert_eq!(dead["items"].as_array().map(Vec::len), Some(1));
    let cursor = dead["nextCursor"].as_str().context("a second page")?;
    let rest = host
        .get(&format!(
            "/dead-letters?{ORG}&webhookId={}&cursor={cursor}",
            hook.id
        ))
        .await?
        .json();
    assert_eq!(
        (rest["items"].as_array().map(Vec::len), &rest["nextCursor"]),
        (Some(1), &Value::Null)
    );
    assert_ne!(dead["items"][0]["id"], rest["items"][0]["id"]);
    let of_event = host
        .get(&format!("/events/{first}/deliveries?{ORG}"))
        .await?
        .json();
    let delivery = &of_event["items"][0];
    assert_eq!(
        (&delivery["state"], &delivery["attempt"]),
        (&json!("failed"), &json!(3))
    );
    assert!(
        delivery["lastError"]
            .as_str()
            .is_some_and(|error| error.contains("500")),
        "{delivery}"
    );
    let attempts = delivery["attempts"].as_array().context("attempts")?;
    let seen = attempts.iter().all(|attempt| {
        attempt["httpStatus"] == 500
            && attempt["response"] == "it is broken"
            && attempt["latencyMs"]
                .as_f64()
                .is_some_and(|latency| latency > 0.0)
    });
    assert!(attempts.len() == 3 && seen, "{delivery}");
    assert_eq!(
        hook.deliveries(&host, "&state=success").await?["items"],
        json!([])
    );
    assert_eq!(
        hook.deliveries(&host, "&state=odd").await?["error"],
        "Validation error"
    );

    let dry = json!({"organizationId": "org-1", "dryRun": true});
    assert_eq!(
        host.post("/dead-letters/redrive", &dry).await?.json(),
        json!({"redriven": 2, "dryRun": true})
    );
    let id = delivery["id"].as_str().context("an id")?;
    let asked = host
        .post(
            &format!("/deliveries/{id}/resend"),
            &json!({"organizationId": "org-1"}),
        )
        .await?;
    assert_eq!(
        (asked.status, asked.get("state")),
        (202, json!("pending")),
        "{}",
        asked.text
    );
    let shown = format!(
        "select attempt from callback_deliveries where attempt = 4 and outbox_id = {}",
        ledger.id(&first)
    );
    ledger
        .wait_for(&format!(
            "{shown} and state = 'pending' and claimed_by is null"
        ))
        .await?;
    hurry(&ledger).await?;

    receiver.answer_status(204);
    let redriven = json!({"organizationId": "org-1", "webhookId": hook.id, "perMinute": 6_000});
    assert_eq!(
        host.post("/dead-letters/redrive", &redriven).await?.json(),
        json!({"redriven": 1, "dryRun": false})
    );
    for event in [&first, &second] {
        let done = format!(
            "select status from callback_outbox where status = 'success' and id = {}",
            ledger.id(event)
        );
        ledger.wait_for(&done).await?;
        let requests: Vec<_> = receiver
            .requests()
            .into_iter()
            .filter(|r| r.header("x-event-id") == event)
            .collect();
        assert!(
            requests.len() >= 4
                && requests
                    .iter()
                    .all(|request| request.body == requests[0].body)
        );
        assert!(
            requests
                .iter()
                .all(|request| verifies(request, &hook.secret))
        );
    }
    let before = receiver.requests().len();
    host.post(
        &format!("/deliveries/{id}/resend"),
        &json!({"organizationId": "org-1"}),
    )
    .await?;
    receiver.wait_for(before + 1).await?;
    let wrong = host
        .post(
            &format!("/deliveries/{id}/resend"),
            &json!({"organizationId": "org-2"}),
        )
        .await?;
    assert_eq!(
        (wrong.status, wrong.get("error")),
        (404, json!("Delivery not found"))
    );
    Ok(())
}

async fn what_was_missed_is_recovered_once(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let ledger = Ledger::open(host.site()).await?;
    let receiver = Receiver::start().await?;
    let hook = Hook::register(&host, "sync.completed", receiver.url()).await?;
    hook.post(&host, "disable", json!({})).await?;
    for _ in 0..3 {
        ledger.put_event("org-1", "sync.completed", "{}").await?;
    }
    ledger.put_event("org-1", "sync.failed", "{}").await?;
    ledger.wait_for("select count(*) as n from callback_outbox where status = 'success' having count(*) = 4").await?;
    let since = json!({"since": "2020-01-01T00:00:00Z", "dryRun": true});
    assert_eq!(
        hook.post(&host, "recover", since.clone()).await?.status,
        409,
        "it is disabled"
    );
    hook.post(&host, "enable", json!({})).await?;
    let dry = hook.post(&host, "recover", since).await?.json();
    assert_eq!(dry, json!({"failed": 0, "missed": 3, "dryRun": true}));
    let late = hook
        .post(&host, "recover", json!({"since": "2999-01-01T00:00:00Z"}))
        .await?
        .json();
    assert_eq!(late, json!({"failed": 0, "missed": 0, "dryRun": false}));
    for (wrong, field) in [
        (json!({}), "since"),
        (json!({"since": "yesterday"}), "since"),
    ] {
        let refused = hook.post(&host, "recover", wrong).await?;
        assert_eq!(
            (refused.status, &refused.json()["details"][0]["path"]),
            (400, &json!(field)),
            "{}",
            refused.text
        );
    }
    let real = json!({"since": "2020-01-01T00:00:00Z", "perMinute": 6_000});
    assert_eq!(
        hook.post(&host, "recover", real.clone()).await?.json(),
        json!({"failed": 0, "missed": 3, "dryRun": false})
    );
    assert_eq!(
        hook.post(&host, "recover", real).await?.json()["missed"],
        0,
        "nothing is missing any more"
    );
    let requests = receiver.wait_for(3).await?;
    let ids: std::collections::BTreeSet<_> = requests
        .iter()
        .map(|request| request.header("x-event-id"))
        .collect();
    assert_eq!(ids.len(), 3);
    ledger
        .wait_for("select count(*) as n from callback_deliveries where state = 'success' having count(*) = 3")
        .await?;
    assert_eq!(receiver.requests().len(), 3);
    Ok(())
}

async fn a_pace_is_kept(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let ledger = Ledger::open(host.site()).await?;
    let receiver = Receiver::start().await?;
    let hook = Hook::register(&host, "sync.completed", receiver.url()).await?;
    let pace = json!({"organizationId": "org-1", "ratePerMinute": 120});
    assert_eq!(
        send(&host, "PATCH", &format!("/webhooks/{}", hook.id), &pace)
            .await?
            .status,
        200
    );
    for _ in 0..10 {
        ledger.put_event("org-1", "sync.completed", "{}").await?;
    }
    let requests = receiver.wait_for(8).await?;
    let took = requests[7].at - requests[0].at;
    assert!(
        took.as_secs_f64() > 1.0,
        "a burst of five, then two a second: {took:?}"
    );
    Ok(())
}

on_every_backend!(
    an_owner_looks_after_a_webhook,
    what_failed_is_seen_and_sent_again,
    what_was_missed_is_recovered_once,
    a_pace_is_kept,
);
