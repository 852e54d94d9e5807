//! A webhook through its life: read, changed, disabled, its secret rotated, deleted.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use wharf_tests::{Backend, Host, Receiver, on_every_backend};

use super::{Hook, ORG, send, verifies};

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

on_every_backend!(an_owner_looks_after_a_webhook);
