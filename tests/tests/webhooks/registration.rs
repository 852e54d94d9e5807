//! Registering and listing endpoints, and what is refused.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use uuid::Uuid;
use wharf_tests::{Answer, Backend, Host, Site, on_every_backend};

use super::register;

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

/// As the description of the API says: registering it again makes it active.
async fn a_disabled_endpoint_is_enabled_by_registering_it_again(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let url = "http://127.0.0.1:1/hook";
    let first = register(&host, "org-1", "sync.failed", url).await?.json();
    let id = first["id"].as_str().context("an id")?;
    let owner = json!({"organizationId": "org-1"});
    let disabled = host
        .post(&format!("/webhooks/{id}/disable"), &owner)
        .await?;
    assert_eq!(disabled.get("isActive"), false, "{}", disabled.text);
    let again = register(&host, "org-1", "sync.failed", url).await?;
    assert_eq!(
        (again.status, again.get("id"), again.get("isActive")),
        (200, first["id"].clone(), json!(true)),
        "{}",
        again.text
    );
    assert_eq!(again.get("disabledReason"), Value::Null);
    assert_eq!(again.get("secret"), Value::Null, "it is not shown twice");
    let shown = host
        .get(&format!("/webhooks/{id}?organizationId=org-1"))
        .await?;
    assert_eq!(shown.get("isActive"), true, "{}", shown.text);
    Ok(())
}

/// Whoever reaches the API from elsewhere must not reach what listens on this machine alone.
#[test]
fn an_open_host_does_not_send_to_loopback_by_itself() -> Result<()> {
    wharf_tests::run(async {
        for (address, status) in [("127.0.0.1", 200), ("0.0.0.0", 400)] {
            let site = Site::open(Backend::Embedded).await?;
            let host = site
                .host()
                .env("HOST", address)
                .env("API_AUTH", "off")
                .without_env("WEBHOOK_ALLOW_NETWORKS")
                .start()
                .await?;
            let answer = register(&host, "org-1", "sync.failed", "http://127.0.0.1:1/").await?;
            assert_eq!(answer.status, status, "{address}: {}", answer.text);
        }
        Ok(())
    })
}

on_every_backend!(
    endpoints_are_registered_once_and_listed_in_order,
    a_disabled_endpoint_is_enabled_by_registering_it_again,
);
