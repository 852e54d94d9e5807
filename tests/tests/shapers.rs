//! The shape of a webhook is its endpoint's choice: each gets the same event in its own.

use anyhow::{Context, Result};
use serde_json::json;
use wharf_tests::{Backend, Host, Ledger, PATIENCE, Receiver, Site, eventually, on_every_backend};

async fn endpoints_choose_their_shaper(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let shapers = ["standard", "cloudevents", "slack"];
    let mut receivers = Vec::new();
    for shaper in shapers {
        let receiver = Receiver::start().await?;
        let hook = json!({"organizationId": "org-1", "event": "sync.completed", "targetUrl": receiver.url(), "shaper": shaper});
        assert_eq!(
            host.post("/webhooks/register", &hook).await?.get("shaper"),
            shaper
        );
        receivers.push(receiver);
    }

    let ledger = Ledger::open(host.site()).await?;
    let id = ledger
        .put_event(
            "org-1",
            "sync.completed",
            r#"{"processedCount":3,"successCount":1}"#,
        )
        .await?;
    let mut received = Vec::new();
    for receiver in &receivers {
        received.push(receiver.wait_for(1).await?.remove(0));
    }
    let [standard, cloudevent, slack] = &received[..] else {
        panic!("three webhooks")
    };
    assert_eq!(
        (standard.header("content-type"), &standard.json()["eventId"]),
        ("application/json", &json!(id))
    );
    assert_eq!(
        cloudevent.header("content-type"),
        "application/cloudevents+json; charset=utf-8"
    );
    let event = cloudevent.json();
    assert_eq!(
        (&event["specversion"], &event["id"], &event["type"]),
        (&json!("1.0"), &json!(id), &json!("wharf.sync.completed"))
    );
    assert_eq!(event["data"]["processedCount"], 3);
    assert!(
        slack.json()["text"].is_string() && slack.json()["blocks"].is_array(),
        "{}",
        slack.json()
    );
    for webhook in &received {
        assert_eq!(webhook.header("x-event-id"), id);
        assert!(
            webhook.header("webhook-signature").starts_with("v1,"),
            "signed, whatever its shape"
        );
    }
    Ok(())
}

/// An endpoint may wait for a shaper that is swapped meanwhile; its webhook names the revision that shaped it.
async fn a_shaper_is_swapped_like_any_plugin(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let host = site.host().start().await?;
    let receiver = Receiver::start().await?;
    let hook = json!({"organizationId": "org-1", "event": "sync.failed", "targetUrl": receiver.url(), "shaper": "slack"});
    assert_eq!(host.post("/webhooks/register", &hook).await?.status, 200);
    let ledger = Ledger::open(&site).await?;
    let component = [
        std::fs::read(wharf_tests::built_plugin("slack"))?,
        vec![0, 3, 1, b'n', 1],
    ]
    .concat();
    let mut digests = Vec::new();
    for number in 1..=2 {
        let id = ledger.put_event("org-1", "sync.failed", "{}").await?;
        receiver.wait_for(number).await?;
        let shaped = format!(
            "select plugin_digest from callback_messages where outbox_id = {}",
            ledger.id(&id)
        );
        digests.push(ledger.wait_for(&shaped).await?["plugin_digest"].clone());
        assert_eq!(
            host.admin().push("slack", &component, None).await?.status,
            200
        );
    }
    let serving = host.admin().plugin("slack").await?;
    assert!(
        digests[0] != digests[1] && digests[1] == serving["digest"],
        "{digests:?}"
    );
    Ok(())
}

/// What waits is told of: at the event, at the webhook, at a test, and in the metrics. A test arrives no sooner.
async fn an_event_that_waits_for_a_shaper_is_shown(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let (waiting, served) = (Receiver::start().await?, Receiver::start().await?);
    let register = async |receiver: &Receiver, shaper: &str| {
        let hook = json!({"organizationId": "org-1", "event": "sync.completed", "targetUrl": receiver.url(), "shaper": shaper});
        let id = host.post("/webhooks/register", &hook).await?.get("id");
        id.as_str().map(str::to_owned).context("an id")
    };
    let hook = register(&waiting, "slack").await?;
    let other = register(&served, "standard").await?;
    host.admin().change("slack", "disable", json!({})).await?;
    let ledger = Ledger::open(host.site()).await?;
    let id = ledger.put_event("org-1", "sync.completed", "{}").await?;
    served.wait_for(1).await?;
    let owner = json!({"organizationId": "org-1"});
    let test = host.post(&format!("/webhooks/{hook}/test"), &owner).await?;
    assert_eq!(test.status, 202, "{}", test.text);
    let delivery = test.get("deliveryId");
    let delivery = delivery.as_str().context("an id")?;

    let shown = async |path: &str| {
        let path = format!("{path}?organizationId=org-1");
        host.get(&path).await.ok().map(|answer| answer.json())
    };
    let look = || async {
        let event = shown(&format!("/events/{id}/deliveries")).await?;
        let test = shown(&format!("/deliveries/{delivery}")).await?;
        let of_hook = shown(&format!("/webhooks/{hook}")).await?;
        let waits = event["waitingForShaper"] == "slack"
            && event["items"].as_array().map(Vec::len) == Some(1)
            && (&test["state"], &test["waitingForShaper"]) == (&json!("pending"), &json!("slack"))
            && of_hook["waitingEvents"] == 1;
        waits.then_some(())
    };
    eventually("it is shown as waiting", PATIENCE, look).await?;
    assert_eq!(
        shown(&format!("/webhooks/{other}")).await.context("it")?["waitingEvents"],
        0
    );
    let metrics = host.get("/metrics").await?.text;
    assert!(
        metrics.contains("wharf_events_waiting_for_shaper 2"),
        "{metrics}"
    );
    assert!(
        waiting.requests().is_empty(),
        "a test goes the way of events"
    );

    host.admin().change("slack", "enable", json!({})).await?;
    waiting.wait_for(2).await?;
    let done = || async {
        let event = shown(&format!("/events/{id}/deliveries")).await?;
        let test = shown(&format!("/deliveries/{delivery}")).await?;
        let of_hook = shown(&format!("/webhooks/{hook}")).await?;
        let done = event["waitingForShaper"].is_null()
            && test["state"] == "success"
            && test["waitingForShaper"].is_null()
            && of_hook["waitingEvents"] == 0;
        done.then_some(())
    };
    eventually("nothing waits any more", PATIENCE, done).await?;
    assert_eq!(served.requests().len(), 1, "the others got it once");
    Ok(())
}

on_every_backend!(
    an_event_that_waits_for_a_shaper_is_shown,
    endpoints_choose_their_shaper,
    a_shaper_is_swapped_like_any_plugin
);
