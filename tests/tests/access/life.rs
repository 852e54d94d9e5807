//! The life of keys and tokens: made, used, ended, revoked; across processes, a rotation and an outage.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use wharf_tests::{ADMIN_TOKEN, Answer, Backend, Host, Ledger, PATIENCE, Proxy, Site, eventually};

use super::people::{ask, create_key, made_up, start};

/// Within this long a revoked key is refused everywhere.
const REVOKED_WITHIN: Duration = Duration::from_secs(30);

/// `wharf key ...`, and what it printed as JSON.
async fn wharf_key(site: &Arc<Site>, words: &[&str]) -> Result<Value> {
    let words = [&["key"], words, &["--json"]].concat();
    let (status, printed) = site.host().command(&words).run().await?;
    ensure!(status.success(), "{words:?}: {printed}");
    // What it logs comes behind.
    let (json, _) = printed.split_once("\n}").context(printed.clone())?;
    Ok(serde_json::from_str(&format!("{json}\n}}"))?)
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().with_context(|| value.to_string())
}

async fn status_with(host: &Host, key: &str) -> Result<Answer> {
    ask(host, "GET", "/webhooks", Some(key), None).await
}

/// The first key is made before there is a host, an admin token or any other key. Later ones are made by it.
pub(crate) async fn the_first_key_is_made_on_the_database(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let first = wharf_key(
        &site,
        &[
            "create",
            "--operator",
            "--name",
            "first",
            "--scopes",
            "operator keys:*",
        ],
    )
    .await?;
    let key = text(&first["key"])?;
    let host = site
        .host()
        .env("API_AUTH", "required")
        .without_env("WHARF_ADMIN_TOKEN")
        .role("api")
        .start()
        .await?;
    let made = json!({"organizationId": "org", "name": "shop", "scopes": "webhooks:read"});
    let made = ask(&host, "POST", "/admin/keys", Some(key), Some(&made)).await?;
    ensure!(made.status == 201, "{}", made.text);
    let theirs = made.get("key");
    assert_eq!(status_with(&host, text(&theirs)?).await?.status, 200);
    assert_eq!(
        text(&made.get("madeBy"))?,
        format!("key first {}", text(&first["id"])?)
    );
    let (status, printed) = site.host().command(&["key", "list"]).run().await?;
    ensure!(
        status.success() && printed.contains("shop") && printed.contains("(operator)"),
        "{printed}"
    );
    for secret in [key, text(&theirs)?] {
        assert!(!printed.contains(secret) && !host.logged().contains(secret));
    }
    let (refused, why) = site
        .host()
        .command(&[
            "key", "create", "--org", "o", "--name", "x", "--scopes", "operator",
        ])
        .run()
        .await?;
    ensure!(
        !refused.success() && why.contains("reaches all of them"),
        "{why}"
    );
    Ok(())
}

/// Revoked by one process, a key is refused by another within 30 seconds; and the table tells.
pub(crate) async fn revocation_reaches_other_processes(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let host = start(&site).await?;
    let made = wharf_key(
        &site,
        &[
            "create",
            "--org",
            "org",
            "--name",
            "shop",
            "--scopes",
            "webhooks:read",
        ],
    )
    .await?;
    let (key, id) = (text(&made["key"])?, text(&made["id"])?);
    assert_eq!(status_with(&host, key).await?.status, 200);
    // While it is warm in the host's memory, by another process.
    for _ in 0..2 {
        wharf_key(&site, &["revoke", id]).await?;
    }
    let refused = || async {
        let answer = status_with(&host, key).await.ok()?;
        (answer.status == 401).then_some(answer)
    };
    let refused = eventually("the key is refused", REVOKED_WITHIN, refused).await?;
    assert_eq!(refused.get("message"), "the key was revoked");
    // And at once by the process that is asked to.
    let second = create_key(&host, Some("org"), "webhooks:read").await?;
    assert_eq!(status_with(&host, &second.key).await?.status, 200);
    let path = format!("/admin/keys/{}", second.id);
    for _ in 0..2 {
        let revoked = ask(&host, "DELETE", &path, Some(ADMIN_TOKEN), None).await?;
        assert_eq!(revoked.status, 204);
    }
    assert_eq!(status_with(&host, &second.key).await?.status, 401);
    let unknown = "/admin/keys/0190a5e4-7b1c-7def-8abc-0123456789ab";
    assert_eq!(
        ask(&host, "DELETE", unknown, Some(ADMIN_TOKEN), None)
            .await?
            .status,
        404
    );
    Ok(())
}

/// A key's use is written down; its end ends it; and there are only so many.
pub(crate) async fn a_key_has_a_life(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let host = start(&site).await?;
    let key = create_key(&host, Some("org"), "webhooks:read").await?;
    for _ in 0..3 {
        assert_eq!(status_with(&host, &key.key).await?.status, 200);
    }
    let used = || async {
        let list = ask(
            &host,
            "GET",
            "/admin/keys?organizationId=org",
            Some(ADMIN_TOKEN),
            None,
        );
        let list = list.await.ok()?.json();
        let at = list["keys"][0]["lastUsedAt"].as_str()?.to_owned();
        at.ends_with(":00.000Z").then_some(at)
    };
    eventually("its use is written down, to the minute", PATIENCE, used).await?;
    let ledger = Ledger::open(&site).await?;
    let id = ledger.id(&key.id);
    let past = ledger.time(-60);
    ledger
        .execute(&format!(
            "update api_keys set expires_at = {past} where id = {id}"
        ))
        .await?;
    let expired = || async {
        let answer = status_with(&host, &key.key).await.ok()?;
        (answer.status == 401).then(|| answer.get("message"))
    };
    let said = eventually("it has expired", REVOKED_WITHIN, expired).await?;
    assert_eq!(said, "the key has expired");
    for number in 0..100 {
        create_key(&host, Some("many"), "stores:read")
            .await
            .with_context(|| number.to_string())?;
    }
    let more = json!({"organizationId": "many", "name": "x", "scopes": "stores:read"});
    let more = ask(&host, "POST", "/admin/keys", Some(ADMIN_TOKEN), Some(&more)).await?;
    assert_eq!(
        (more.status, more.get("error")),
        (409, json!("Too many keys"))
    );
    // Page by page, each key once.
    let (mut ids, mut cursor) = (BTreeSet::new(), String::new());
    loop {
        let path = format!("/admin/keys?organizationId=many&limit=30{cursor}");
        let page = ask(&host, "GET", &path, Some(ADMIN_TOKEN), None)
            .await?
            .json();
        for key in page["keys"].as_array().context("keys")? {
            ensure!(ids.insert(text(&key["id"])?.to_owned()), "twice");
        }
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(ids.len(), 100);
    Ok(())
}

/// Another host's key comes in and the old one leaves: API keys that are used meanwhile go on.
pub(crate) async fn keys_outlive_the_hosts_key(backend: Backend) -> Result<()> {
    const OLD: &str = "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a";
    const NEW: &str = "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b";
    let site = Site::open(backend).await?;
    let with = |ring: &str| {
        let host = site.host().role("api").env("API_AUTH", "required");
        host.env("WHARF_ENCRYPTION_KEY", ring)
    };
    let mut host = with(OLD).start().await?;
    let [used, idle] = [
        create_key(&host, Some("org"), "webhooks:read").await?,
        create_key(&host, Some("org"), "webhooks:read").await?,
    ];
    ensure!(host.stop().await?.success());
    let both = format!("{NEW},{OLD}");
    let mut host = with(&both).start().await?;
    assert_eq!(status_with(&host, &used.key).await?.status, 200);
    let status = || async {
        let command = site.host().env("WHARF_ENCRYPTION_KEY", &both);
        let (_, printed) = command
            .command(&["keys", "status", "--json"])
            .run()
            .await
            .ok()?;
        let printed: Value = serde_json::from_str(&printed).ok()?;
        let count = |at: usize| printed["keys"][at]["values"]["apiKeys"].as_u64();
        (count(0) == Some(1) && count(1) == Some(1)).then_some(())
    };
    eventually("the used one moves to the new key", PATIENCE, status).await?;
    ensure!(host.stop().await?.success());
    let reseal = with(&both)
        .command(&["keys", "reseal", "--json"])
        .run()
        .await?;
    ensure!(reseal.0.success(), "{}", reseal.1);
    let host = with(NEW).start().await?;
    assert_eq!(status_with(&host, &used.key).await?.status, 200);
    assert_eq!(status_with(&host, &idle.key).await?.status, 401);
    host.logged_message("an API key was made with a host's key that is not given")
        .await?;
    Ok(())
}

/// A token is for one organization and for its rights, and ends with the key that made it.
pub(crate) async fn portal_tokens_care_for_one_organization(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let host = start(&site).await?;
    let maker = create_key(&host, Some("mine"), "keys:*").await?;
    let token = async |body: Value| -> Result<Answer> {
        ask(
            &host,
            "POST",
            "/portal-tokens",
            Some(&maker.key),
            Some(&body),
        )
        .await
    };
    let made = token(json!({"rights": "care", "expiresInSeconds": 3600})).await?;
    ensure!(made.status == 201, "{}", made.text);
    let care = made.get("token");
    let care = text(&care)?;
    assert!(care.starts_with("wharf_portal_"));
    assert_eq!(status_with(&host, care).await?.status, 200);
    for wrong in [
        json!({"rights": "all"}),
        json!({"rights": "read", "expiresInSeconds": 3601}),
    ] {
        assert_eq!(token(wrong).await?.status, 400);
    }
    let other = json!({"rights": "read", "organizationId": "theirs"});
    assert_eq!(
        token(other).await?.status,
        403,
        "its maker reaches no other"
    );
    // Another organization's name in the token is another signature.
    let theirs = care.replacen(&hex("mine"), &hex("your"), 1);
    assert_eq!(status_with(&host, &theirs).await?.status, 401);
    let short = token(json!({"rights": "read", "expiresInSeconds": 1}))
        .await?
        .get("token");
    let expired = || async {
        let answer = status_with(&host, text(&short).ok()?).await.ok()?;
        (answer.status == 401 && answer.get("message") == "the key has expired").then_some(())
    };
    eventually("a token ends", PATIENCE, expired).await?;
    let path = format!("/admin/keys/{}", maker.id);
    ask(&host, "DELETE", &path, Some(ADMIN_TOKEN), None).await?;
    let ended = || async {
        let answer = status_with(&host, care).await.ok()?;
        (answer.status == 401).then_some(())
    };
    eventually("a token ends with its maker", REVOKED_WITHIN, ended).await
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// Keys that this process read go on while the database is away, for their time; after that it says so.
#[test]
fn a_database_that_is_away_is_no_reason_to_refuse_a_key() -> Result<()> {
    wharf_tests::run(async {
        let site = Site::open(Backend::Postgres).await?;
        let proxy = Proxy::to(site.database().url()).await?;
        let host = site
            .host()
            .role("api")
            .env("API_AUTH", "required")
            .env("DATABASE_URL", proxy.url())
            .env("DATABASE_ACQUIRE_TIMEOUT", "1s")
            .start()
            .await?;
        // The list of plugins needs no database, but for the key.
        let plugins = async |key: &str| ask(&host, "GET", "/admin/plugins", Some(key), None).await;
        let [known, unseen] = [
            create_key(&host, None, "plugins:*").await?,
            create_key(&host, None, "plugins:*").await?,
        ];
        assert_eq!(plugins(&known.key).await?.status, 200);
        proxy.cut();
        assert_eq!(
            plugins(&known.key).await?.status,
            200,
            "it was read just now"
        );
        let away = plugins(&unseen.key).await?;
        assert_eq!((away.status, away.header("retry-after")), (503, "1"));
        let forgotten = || async {
            let answer = plugins(&known.key).await.ok()?;
            (answer.status == 503).then_some(())
        };
        eventually("what was read is too old", REVOKED_WITHIN, forgotten).await?;
        let made_up = made_up("op");
        assert_eq!(
            plugins(&made_up.replace('a', "b")).await?.status,
            401,
            "a typing error needs nobody"
        );
        proxy.open();
        let back = || async {
            let answer = plugins(&known.key).await.ok()?;
            (answer.status == 200).then_some(())
        };
        eventually("the database is back", PATIENCE, back).await
    })
}
