//! Failed and missed deliveries: seen, sent again, recovered.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use wharf_tests::{Backend, Host, Ledger, Receiver, on_every_backend};

use super::{Hook, ORG, hurry, verifies};

fn none_skipped() -> Value {
    json!({"noBody": 0, "webhookDisabled": 0})
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
        json!({"redriven": 2, "skipped": none_skipped(), "dryRun": true})
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
        json!({"redriven": 1, "skipped": none_skipped(), "dryRun": false})
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
    let expected = |missed: i64, dry_run: bool| json!({"failed": 0, "missed": missed, "skipped": none_skipped(), "dryRun": dry_run});
    assert_eq!(dry, expected(3, true));
    let late = hook
        .post(&host, "recover", json!({"since": "2999-01-01T00:00:00Z"}))
        .await?
        .json();
    assert_eq!(late, expected(0, false));
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
        expected(3, false)
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

on_every_backend!(
    what_failed_is_seen_and_sent_again,
    what_was_missed_is_recovered_once,
);
