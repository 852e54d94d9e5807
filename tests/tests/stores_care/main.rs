//! Care for stores over the API: lists, holds that every process keeps within two seconds, and removal that any process
//! finishes.

mod holds;
mod removal;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use wharf_tests::{ADMIN_TOKEN, Answer, Backend, Host, Ledger, Shop, Site, on_every_backend};

async fn admin(host: &Host, method: &str, path: &str, body: Option<Value>) -> Result<Answer> {
    let request = host.request(method, path).bearer_auth(ADMIN_TOKEN);
    Answer::to(match body {
        Some(body) => request.json(&body),
        None => request,
    })
    .await
}

async fn act(host: &Host, shop: &Shop, what: &str, organization: &str) -> Result<Answer> {
    let path = format!("/stores/{}/{what}", shop.store_id);
    host.post(&path, &json!({"organizationId": organization}))
        .await
}

async fn shown(host: &Host, shop: &Shop) -> Result<Value> {
    let answer = host
        .get(&format!("/stores/{}?organizationId=org-1", shop.store_id))
        .await?;
    ensure!(answer.status == 200, "{}", answer.text);
    Ok(answer.json())
}

async fn stores_are_listed_and_shown(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let shop = Shop::open(&host, "org-1", "etsy").await?;
    let other = Shop::open(&host, "org-1", "shopify").await?;
    let foreign = Shop::open(&host, "org-2", "etsy").await?;
    shop.import(&host, "order-101").await?;
    shop.import(&host, "order-102").await?;
    let ids = |answer: &Answer| -> Vec<String> {
        let items = answer.get("items");
        let ids = items.as_array().into_iter().flatten();
        ids.map(|store| store["id"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    let first = host.get("/stores?organizationId=org-1&limit=1").await?;
    assert_eq!(ids(&first), [other.store_id.as_str()], "the newest first");
    let next = first.get("nextCursor");
    let next = next.as_str().context("a cursor")?;
    let rest = format!("/stores?organizationId=org-1&limit=1&cursor={next}");
    assert_eq!(ids(&host.get(&rest).await?), [shop.store_id.as_str()]);
    for (query, expected) in [
        ("organizationId=org-1&marketplace=etsy", 1),
        ("organizationId=org-1&syncStatus=partial", 1),
        ("organizationId=org-1&syncStatus=pending", 1),
        ("organizationId=org-1&externalStoreId=ext-100", 2),
        ("organizationId=org-1&externalStoreId=ext", 0),
        ("organizationId=org-1&held=true", 0),
        ("organizationId=nobody", 0),
    ] {
        let answer = host.get(&format!("/stores?{query}")).await?;
        assert_eq!(ids(&answer).len(), expected, "{query}: {}", answer.text);
    }
    assert_eq!(host.get("/stores").await?.status, 400);
    let all = admin(&host, "GET", "/admin/stores?externalStoreId=ext-100", None).await?;
    assert_eq!(ids(&all).len(), 3, "{}", all.text);
    assert_eq!(host.get("/admin/stores").await?.status, 401);

    let store = shown(&host, &shop).await?;
    assert_eq!(store["receipts"], json!({"number": 2, "isAtLeast": false}));
    assert_eq!(
        (&store["importedOrders"], &store["open"]["failed"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(store["faults"][0]["receipt"], "order-102");
    let path = format!("/stores/{}?organizationId=org-1", foreign.store_id);
    assert_eq!(host.get(&path).await?.status, 404);
    let path = format!("/admin/stores/{}", foreign.store_id);
    let foreign_shown = admin(&host, "GET", &path, None).await?;
    assert_eq!(foreign_shown.get("organizationId"), "org-2");
    // Neither token is told to anybody.
    for text in [all.text, foreign_shown.text, store.to_string()] {
        for secret in [&shop.sync_token, &foreign.sync_token, "token-abc"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
    Ok(())
}
/// Puts so many receipts of this status into a store, past the host.
async fn fill(ledger: &Ledger, shop: &Shop, receipts: u32, status: &str) -> Result<()> {
    let (id, random) = (ledger.id(&shop.store_id), ledger.random_id());
    let at = ledger.time(0);
    ledger
        .execute(&format!(
            "insert into sync_logs (id, store_id, receipt, status, created_at, updated_at)
            with recursive series (n) as (select 1 union all select n + 1 from series where n < {receipts})
            select {random}, {id}, 'filled-' || n, '{status}', {at}, {at} from series"
        ))
        .await
        .map(drop)
}

/// Tokens of a release before stand in the clear until the keys are resealed; nobody notices but readers of the database.
async fn tokens_are_hidden_while_the_host_works(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let mut host = site.host().start().await?;
    let shop = Shop::open(&host, "org-1", "etsy").await?;
    let ledger = Ledger::open(&site).await?;
    let rows = async || -> Result<String> {
        let rows = ledger.rows("select * from stores").await?;
        Ok(Value::from(rows).to_string())
    };
    let is_told = |rows: &str| rows.contains(&shop.sync_token);
    ensure!(!is_told(&rows().await?), "a new database tells no token");
    ensure!(host.stop().await?.success());
    let token = ledger.id(&shop.sync_token);
    for change in [
        format!("update stores set sync_token = {token}, sync_token_sealed = null"),
        "delete from _sqlx_migrations where version = 1000015".to_owned(),
    ] {
        assert_eq!(ledger.execute(&change).await?, 1);
    }
    let host = site.host().start().await?;
    assert_eq!(shop.import(&host, "order-101").await?["success"], true);
    ensure!(is_told(&rows().await?));
    let keys = async |what: &str| -> Result<Value> {
        let (status, printed) = site.host().command(&["keys", what, "--json"]).run().await?;
        ensure!(status.success(), "{printed}");
        Ok(serde_json::from_str(&printed)?)
    };
    assert_eq!(keys("status").await?["tokensInClear"], 1);
    assert_eq!(keys("reseal").await?["resealedRows"], 1);
    assert_eq!(keys("reseal").await?["resealedRows"], 0);
    ensure!(!is_told(&rows().await?), "hidden now");
    assert_eq!(shop.import(&host, "order-101").await?["success"], true);
    assert_eq!(shop.import(&host, "order-103").await?["success"], true);
    assert_eq!(Shop::open(&host, "org-1", "etsy").await?, shop);
    shop.status(&host).await?;
    let digest = ledger.row("select sync_token from stores").await?;
    let stolen = Shop {
        sync_token: digest["sync_token"].as_str().context("an id")?.to_owned(),
        ..shop
    };
    assert_eq!(stolen.try_import(&host, "order-101").await?.status, 404);
    Ok(())
}

/// `wharf store`, as operators type it.
async fn operators_care_for_stores(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let shop = Shop::open(&host, "org-1", "etsy").await?;
    shop.import(&host, "order-102").await?;
    let wharf = async |words: &[&str]| {
        let command = host.site().host().command(&[&["store"], words].concat());
        command.env("BASE_URL", host.base_url()).run().await
    };
    let id = shop.store_id.as_str();
    for (words, said) in [
        (&["list", "--organization", "org-1"][..], id),
        (
            &["list", "--marketplace", "etsy", "--status", "failed"],
            "ext-100",
        ),
        (&["list", "--held", "true"], "ORGANIZATION"),
        (&["show", id], "order-102"),
        (
            &["hold", "--marketplace", "etsy", "--reason", "it is down"],
            "marketplace etsy is held",
        ),
        (&["show", id], "it is down"),
        (&["holds"], "it is down"),
        (
            &["resume", "--marketplace", "etsy"],
            "is not held by an operator any more",
        ),
        (&["hold", id], "is held since"),
        (&["resume", id], "is not held by an operator any more"),
        (&["resume", id], "was not held by an operator"),
    ] {
        let (status, printed) = wharf(words).await?;
        ensure!(
            status.success() && printed.contains(said),
            "{words:?}: {printed}"
        );
        ensure!(!printed.contains(&shop.sync_token), "{printed}");
    }
    let (status, printed) = wharf(&["list", "--json", "--external-id", "ext-100"]).await?;
    ensure!(status.success(), "{printed}");
    let listed: Value = serde_json::from_str(&printed)?;
    assert_eq!(listed["items"][0]["id"], id);
    let (status, printed) = wharf(&["remove", id]).await?;
    ensure!(!status.success() && printed.contains("--yes"), "{printed}");
    assert_eq!(
        shop.status(&host).await?["syncStatus"],
        "failed",
        "it is there"
    );
    let (status, printed) = wharf(&["remove", id, "--yes"]).await?;
    ensure!(
        status.success() && printed.contains("1 receipts"),
        "{printed}"
    );
    let (status, printed) = wharf(&["show", id]).await?;
    ensure!(
        !status.success() && printed.contains("Store not found"),
        "{printed}"
    );
    Ok(())
}

on_every_backend!(
    operators_care_for_stores,
    stores_are_listed_and_shown,
    tokens_are_hidden_while_the_host_works,
);
