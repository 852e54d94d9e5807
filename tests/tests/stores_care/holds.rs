//! Holds: kept by every process within two seconds, and what waited goes on.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use wharf_tests::{
    Backend, Host, Ledger, PATIENCE, Shop, Signal, Site, eventually, on_every_backend,
};

use super::{act, admin, fill, shown};

/// What the contract allows: a hold is seen by every process within this.
const SEEN_WITHIN: Duration = Duration::from_secs(2);

/// Waits until an import of a new receipt is answered so; returns how long it took.
async fn until_import(host: &Host, shop: &Shop, status: u16) -> Result<Duration> {
    let began = Instant::now();
    let answered = || async {
        let receipt = format!("order-{}", began.elapsed().as_micros());
        let answer = shop.try_import(host, &receipt).await.ok()?;
        (answer.status == status).then_some(())
    };
    eventually(
        &format!("an import is answered {status}"),
        PATIENCE,
        answered,
    )
    .await?;
    Ok(began.elapsed())
}

async fn a_held_store_is_asked_nothing(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let host = site.host().start().await?;
    // The embedded database belongs to one process.
    let second = match backend {
        Backend::Postgres => Some(site.host().role("api").start().await?),
        Backend::Embedded => None,
    };
    let elsewhere = second.as_ref().unwrap_or(&host);
    let shop = Shop::open(&host, "org-1", "etsy").await?;
    let free = Shop::open(&host, "org-1", "shopify").await?;
    let ledger = Ledger::open(&site).await?;
    let imported = shop.import(&host, "order-101").await?;
    shop.import(&host, "order-102").await?;
    let before = shop.status(&host).await?;

    let held = act(&host, &shop, "hold", "org-1").await?;
    assert_eq!((held.status, held.get("isHeld")), (200, json!(true)));
    let began = Instant::now();
    let here = shop.try_import(&host, "order-now").await?;
    assert_eq!(
        (here.status, here.get("error")),
        (409, json!("Store on hold"))
    );
    until_import(elsewhere, &shop, 409).await?;
    ensure!(began.elapsed() < SEEN_WITHIN, "{:?}", began.elapsed());
    assert_eq!(
        shop.import(elsewhere, "order-101").await?,
        imported,
        "what is known is answered"
    );
    assert_eq!(free.import(elsewhere, "order-101").await?["success"], true);
    shop.request_sync(elsewhere).await?;
    let put_off =
        "select cast(attempt as text) as attempt, cast(fence as text) as fence from sync_jobs
        where held_at is not null and state = 'queued'";
    let job = ledger.wait_for(put_off).await?;
    assert_eq!(job["attempt"], "0", "no attempt is burnt");
    let events = "select count(*) from callback_outbox";
    assert_eq!(ledger.number(events).await?, 0, "no run is told of");
    assert_eq!(shop.status(&host).await?, before);
    assert_eq!(shown(&host, &shop).await?["isHeld"], true);
    let metrics = host.get("/metrics").await?.text;
    ensure!(
        metrics.contains(r#"wharf_holds{what="store"} 1"#),
        "{metrics}"
    );

    // An operator's hold is his to end, and so is the organization's.
    let marketplace = json!({"what": "marketplace", "name": "etsy", "reason": "it is down"});
    assert_eq!(
        admin(&host, "POST", "/admin/holds", Some(marketplace.clone()))
            .await?
            .status,
        200
    );
    let resumed = act(&host, &shop, "resume", "org-1").await?;
    assert_eq!(resumed.get("isHeld"), true);
    assert_eq!(resumed.get("holds")[0]["reason"], "it is down");
    assert_eq!(shop.try_import(&host, "order-now").await?.status, 409);
    assert_eq!(act(&host, &shop, "hold", "stranger").await?.status, 404);
    let ended = admin(
        &host,
        "POST",
        "/admin/holds/resume",
        Some(marketplace.clone()),
    )
    .await?;
    assert_eq!((ended.status, ended.get("ended")), (200, json!(true)));
    let again = admin(&host, "POST", "/admin/holds/resume", Some(marketplace)).await?;
    assert_eq!((again.status, again.get("ended")), (200, json!(false)));
    let began = Instant::now();
    until_import(elsewhere, &shop, 200).await?;
    ensure!(began.elapsed() < SEEN_WITHIN, "{:?}", began.elapsed());
    // What waited runs now, and not when it would have been looked at again.
    let ended = "select event from callback_outbox where event <> 'sync.started'";
    ledger.wait_for(ended).await?;
    Ok(())
}

/// What is wrong with a hold is said, and an organization may be held before it has any store.
async fn refusals_of_holds_are_clear(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    for (body, path) in [
        (json!({"what": "planet", "name": "mars"}), "what"),
        (json!({"what": "marketplace", "name": "No Name"}), "name"),
        (json!({"what": "organization"}), "name"),
    ] {
        let answer = admin(&host, "POST", "/admin/holds", Some(body)).await?;
        assert_eq!(
            (answer.status, answer.get("error")),
            (400, json!("Validation error"))
        );
        assert_eq!(answer.get("details")[0]["path"], path, "{}", answer.text);
    }
    let no_id = json!({"what": "store", "name": "no-id"});
    assert_eq!(
        admin(&host, "POST", "/admin/holds", Some(no_id))
            .await?
            .status,
        404
    );
    let unknown = json!({"what": "store", "name": "0190a5e4-7b1c-7def-8abc-0123456789ab"});
    assert_eq!(
        admin(&host, "POST", "/admin/holds", Some(unknown))
            .await?
            .status,
        404
    );
    let organization = json!({"what": "organization", "name": "org-1"});
    let placed = admin(&host, "POST", "/admin/holds", Some(organization)).await?;
    let listed = admin(&host, "GET", "/admin/holds?what=organization", None).await?;
    assert_eq!(listed.get("items")[0], placed.json());
    assert_eq!(placed.get("side"), "operator");
    let shop = Shop::open(&host, "org-1", "etsy").await?;
    assert_eq!(shop.try_import(&host, "order-1").await?.status, 409);
    Ok(())
}

/// Whoever ends a hold is killed before it wakes what waited. It does not wait for ten minutes all the same.
async fn what_waited_wakes_without_whoever_resumed_it(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let failpoint = ("WHARF_FAILPOINT", "resume.commit.after:1");
    let mut host = site.host().env(failpoint.0, failpoint.1).start().await?;
    let shop = Shop::open(&host, "org-1", "etsy").await?;
    let ledger = Ledger::open(&site).await?;
    shop.import(&host, "order-102").await?;
    act(&host, &shop, "hold", "org-1").await?;
    shop.request_sync(&host).await?;
    let put_off = "select state from sync_jobs where held_at is not null";
    ledger.wait_for(put_off).await?;
    ensure!(
        act(&host, &shop, "resume", "org-1").await.is_err(),
        "it was killed"
    );
    host.wait().await?;
    assert_eq!(ledger.number("select count(*) from holds").await?, 0);
    ledger.wait_for(put_off).await?;
    let _next = site.host().start().await?;
    let ended = "select event from callback_outbox where event <> 'sync.started'";
    ledger.wait_for(ended).await?;
    Ok(())
}

/// A hold comes in the middle of a run: what was asked is written, nothing more is asked, and the same run goes on later. By
/// a worker that slept longer than it may believe its copy of the holds.
#[test]
fn a_run_stops_where_it_is() -> Result<()> {
    wharf_tests::run(async {
        const SLEEPS: Duration = Duration::from_secs(6);
        let site = Site::open(Backend::Postgres).await?;
        let api = site.host().role("api").start().await?;
        let shop = Shop::open(&api, "org-1", "etsy").await?;
        let ledger = Ledger::open(&site).await?;
        fill(&ledger, &shop, 5, "pending").await?;
        let worker = site.host().role("sync-worker").env("SYNC_CHUNK_SIZE", "1");
        let worker = worker
            .env("WHARF_FAILPOINT", "sync.commit.after:1:stop")
            .spawn()?;
        shop.request_sync(&api).await?;
        let job = |wanted: &str| {
            format!(
                "select cast(processed as text) as processed from sync_jobs where run_id is not null and {wanted}"
            )
        };
        ledger.wait_for(&job("processed = 1")).await?;
        let slept = Instant::now();
        act(&api, &shop, "hold", "org-1").await?;
        let is_old = || async { (slept.elapsed() > SLEEPS).then_some(()) };
        eventually("its copy is old", PATIENCE, is_old).await?;
        worker.signal(Signal::CONT)?;
        let put_off = ledger.wait_for(&job("held_at is not null")).await?;
        assert_eq!(put_off["processed"], "1");
        let held = shown(&api, &shop).await?;
        assert_eq!(held["job"]["run"]["processedCount"], 1, "{held}");
        assert_eq!(held["job"]["attempt"], 0);
        act(&api, &shop, "resume", "org-1").await?;
        ledger
            .wait_for("select state from sync_jobs where state = 'idle'")
            .await?;
        let started = "select count(*) from callback_outbox where event = 'sync.started'";
        assert_eq!(ledger.number(started).await?, 1, "one run");
        let ended = shown(&api, &shop).await?;
        assert_eq!(ended["runs"][0]["processedCount"], 5, "{ended}");
        Ok(())
    })
}

on_every_backend!(
    a_held_store_is_asked_nothing,
    refusals_of_holds_are_clear,
    what_waited_wakes_without_whoever_resumed_it,
);
