//! Removal: at once for everybody, and finished by whichever process lives.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use wharf_tests::{Answer, Backend, Ledger, PATIENCE, Shop, Site, eventually, on_every_backend};

use super::{act, fill, shown};

/// Every table with a store's id in it, but for the outbox: events are promises, and stay.
async fn rows_of(ledger: &Ledger, backend: Backend, shop: &Shop) -> Result<Vec<(String, i64)>> {
    let tables = match backend {
        Backend::Postgres => {
            "select table_name as name from information_schema.columns
             where table_schema = current_schema() and column_name = 'store_id'"
        }
        Backend::Embedded => {
            "select m.name as name from sqlite_schema m join pragma_table_info(m.name) c
             where m.type = 'table' and c.name = 'store_id'"
        }
    };
    let id = ledger.id(&shop.store_id);
    let mut found = vec![(
        "stores".to_owned(),
        ledger
            .number(&format!("select count(*) from stores where id = {id}"))
            .await?,
    )];
    for table in ledger.rows(tables).await? {
        let table = table["name"].as_str().context("a name")?.to_owned();
        if table != "callback_outbox" {
            let count = format!("select count(*) from {table} where store_id = {id}");
            found.push((table, ledger.number(&count).await?));
        }
    }
    Ok(found)
}

/// The process that removes a store is killed at each place where it can be, and another finishes.
async fn a_removal_is_finished_by_whoever_lives(backend: Backend) -> Result<()> {
    for (failpoint, left) in [
        ("removal.hide.after:1", 2_500),
        ("removal.page.before:2", 1_500),
        ("removal.page.after:2", 500),
        ("removal.store.before:1", 0),
    ] {
        removal_survives(backend, failpoint, left)
            .await
            .context(failpoint)?;
    }
    Ok(())
}

async fn removal_survives(backend: Backend, failpoint: &str, left: i64) -> Result<()> {
    let site = Site::open(backend).await?;
    let mut host = site
        .host()
        .env("WHARF_FAILPOINT", failpoint)
        .start()
        .await?;
    let shop = Shop::open(&host, "org-1", "etsy").await?;
    let bystander = Shop::open(&host, "org-2", "etsy").await?;
    let ledger = Ledger::open(&site).await?;
    let imported = bystander.import(&host, "order-101").await?;
    fill(&ledger, &shop, 2_500, "success").await?;
    shop.request_sync(&host).await?;
    act(&host, &shop, "hold", "org-1").await?;
    let path = format!("/stores/{}?organizationId=org-1", shop.store_id);
    let remove = |path: String| Answer::to(host.request("DELETE", &path));
    let rehearsed = remove(format!("{path}&dryRun=true")).await?;
    assert_eq!(
        (rehearsed.status, rehearsed.get("dryRun")),
        (200, json!(true))
    );
    assert_eq!(rehearsed.get("receipts")["number"], 2_500);
    assert_eq!(
        shop.try_import(&host, "filled-1").await?.status,
        200,
        "nothing was removed"
    );
    let foreign = format!("/stores/{}?organizationId=org-2", shop.store_id);
    assert_eq!(remove(foreign).await?.status, 404);
    // It may die before it answers.
    if let Ok(answer) = remove(path.clone()).await {
        assert_eq!(answer.status, 202, "{}", answer.text);
    }
    let status = host.wait().await?;
    ensure!(!status.success(), "it was killed");
    let there = ledger
        .number(&format!(
            "select count(*) from sync_logs where store_id = {}",
            ledger.id(&shop.store_id)
        ))
        .await?;
    ensure!(there <= left, "{there} receipts are left");

    let host = site.host().start().await?;
    // From the first moment on nobody finds it, however many of its rows are left.
    for (answer, what) in [
        (shop.try_import(&host, "filled-1").await?, "import"),
        (
            host.post("/stores/sync", &json!({"syncToken": shop.sync_token}))
                .await?,
            "sync",
        ),
        (host.get(&path).await?, "show"),
        (act(&host, &shop, "hold", "org-1").await?, "hold"),
    ] {
        assert_eq!(answer.status, 404, "{what}: {}", answer.text);
    }
    assert_eq!(
        host.get("/stores?organizationId=org-1").await?.get("items"),
        json!([])
    );
    let gone = || async {
        let rows = rows_of(&ledger, backend, &shop).await.ok()?;
        rows.iter().all(|(_, number)| *number == 0).then_some(())
    };
    eventually("nothing of it is left", PATIENCE, gone).await?;
    assert_eq!(bystander.import(&host, "order-101").await?, imported);
    let new = Shop::open(&host, "org-1", "etsy").await?;
    ensure!(new.store_id != shop.store_id && new.sync_token != shop.sync_token);
    assert_eq!(shown(&host, &new).await?["receipts"]["number"], 0);
    Ok(())
}

/// While its rows go, the key of a store is taken.
async fn a_store_that_is_being_removed_is_not_registered(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    // No scheduler: its rows stay.
    let host = site.host().role("api").start().await;
    let host = match backend {
        Backend::Postgres => host?,
        // One process has all roles; the scheduler is kept busy by the row of another store's removal.
        Backend::Embedded => return Ok(()),
    };
    let shop = Shop::open(&host, "org-1", "etsy").await?;
    let path = format!("/stores/{}?organizationId=org-1", shop.store_id);
    let removed = Answer::to(host.request("DELETE", &path)).await?;
    assert_eq!(removed.status, 202, "{}", removed.text);
    let again = host
        .post("/stores/register", &Shop::registration("org-1", "etsy"))
        .await?;
    assert_eq!(
        (
            again.status,
            again.get("error"),
            again.header("retry-after")
        ),
        (409, json!("Store is being removed"), "1")
    );
    let _scheduler = site.host().start().await?;
    let registered = || async { Shop::open(&host, "org-1", "etsy").await.ok() };
    let new = eventually("it is registered anew", PATIENCE, registered).await?;
    ensure!(new.store_id != shop.store_id);
    Ok(())
}

on_every_backend!(
    a_removal_is_finished_by_whoever_lives,
    a_store_that_is_being_removed_is_not_registered,
);
