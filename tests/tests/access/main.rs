//! Who may do what: keys with scopes, one organization each. `matrix` tries every route of the document with every scope;
//! `life` follows keys and tokens; this file has the doors.

mod life;
mod matrix;
mod people;
mod routes;

use anyhow::{Result, ensure};
use serde_json::json;
use wharf_tests::{ADMIN_TOKEN, Backend, PATIENCE, Shop, Site, eventually, on_every_backend};

use self::{
    life::{
        a_key_has_a_life, keys_outlive_the_hosts_key, portal_tokens_care_for_one_organization,
        revocation_reaches_other_processes, the_first_key_is_made_on_the_database,
    },
    matrix::every_route_asks_for_its_scope,
    people::{Person, ask, create_key, start},
};

/// What a key may not read is not in the answer of what it may do.
async fn secrets_have_a_scope_of_their_own(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let host = start(&site).await?;
    let webhook = |number: u32| {
        let url = format!("http://127.0.0.1:9/{number}");
        json!({"event": "sync.failed", "targetUrl": url})
    };
    let writes = create_key(&host, Some("org"), "webhooks:write").await?;
    let answer = ask(
        &host,
        "POST",
        "/webhooks/register",
        Some(&writes.key),
        Some(&webhook(1)),
    )
    .await?;
    ensure!(
        answer.status == 200 && answer.get("secret").is_null(),
        "{}",
        answer.text
    );
    assert_eq!(answer.get("organizationId"), "org", "it was filled in");
    let both = create_key(&host, Some("org"), "webhooks:write webhooks:secrets").await?;
    let answer = ask(
        &host,
        "POST",
        "/webhooks/register",
        Some(&both.key),
        Some(&webhook(2)),
    )
    .await?;
    ensure!(answer.get("secret").is_string(), "{}", answer.text);
    Ok(())
}

/// With `off` clients are as free as ever; what makes keys or changes plugins asks all the same.
async fn nobody_is_asked_where_it_is_off(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let host = site.host().role("api").start().await?;
    Shop::open(&host, "org", "etsy").await?;
    let key = create_key(&host, Some("org"), "keys:*").await?;
    for path in [
        "/webhooks?organizationId=org",
        "/webhooks?organizationId=other",
    ] {
        assert_eq!(host.get(path).await?.status, 200);
        // A key that is sent all the same changes nothing.
        assert_eq!(
            ask(&host, "GET", path, Some(&key.key), None).await?.status,
            200
        );
    }
    for path in ["/admin/keys", "/admin/plugins"] {
        assert_eq!(host.get(path).await?.status, 401);
        assert_eq!(
            ask(&host, "GET", path, Some(&key.key), None).await?.status,
            403
        );
        assert_eq!(
            ask(&host, "GET", path, Some(ADMIN_TOKEN), None)
                .await?
                .status,
            200
        );
    }
    let rights = json!({"organizationId": "org", "rights": "read"});
    assert_eq!(host.post("/portal-tokens", &rights).await?.status, 401);
    Ok(())
}

/// Beyond loopback a host starts only once it is told whom to let in.
async fn an_open_door_is_a_decision(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let open = || site.host().env("HOST", "0.0.0.0");
    let undecided = open()
        .start()
        .await
        .expect_err("nobody decided")
        .to_string();
    for word in ["API_AUTH", "`required`", "`off`"] {
        assert!(undecided.contains(word), "{undecided}");
    }
    // A process that serves nobody need not decide.
    let mut worker = open().role("sync-worker").start().await?;
    ensure!(worker.stop().await?.success());
    let off = open().env("API_AUTH", "off").start().await?;
    let warned = off
        .log()
        .iter()
        .any(|line| line.message().starts_with("API_AUTH is off"));
    assert!(warned, "{}", off.logged());
    let required = open().env("API_AUTH", "required").start().await?;
    assert!(!required.logged().contains("API_AUTH is off"));
    let path = "/webhooks?organizationId=org";
    let nobody = ask(&required, "GET", path, None, None).await?;
    assert_eq!(nobody.status, 401);
    Ok(())
}

/// The audit of plugins names the key.
async fn the_audit_names_the_key(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let host = start(&site).await?;
    let key: Person = create_key(&host, None, "plugins:*").await?;
    let disabled = ask(
        &host,
        "POST",
        "/admin/plugins/etsy/disable",
        Some(&key.key),
        Some(&json!({})),
    )
    .await?;
    ensure!(disabled.status == 200, "{}", disabled.text);
    let told = || async {
        let plugin = ask(&host, "GET", "/admin/plugins/etsy", Some(&key.key), None)
            .await
            .ok()?
            .json();
        let actor = plugin["transitions"][0]["actor"].as_str()?.to_owned();
        actor.contains(&key.id).then_some(())
    };
    eventually("the audit names the key", PATIENCE, told).await
}

on_every_backend!(
    the_first_key_is_made_on_the_database,
    revocation_reaches_other_processes,
    a_key_has_a_life,
    keys_outlive_the_hosts_key,
    portal_tokens_care_for_one_organization,
    secrets_have_a_scope_of_their_own,
    nobody_is_asked_where_it_is_off,
    an_open_door_is_a_decision,
    the_audit_names_the_key,
    every_route_asks_for_its_scope,
);
