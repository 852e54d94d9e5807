//! The sync engine: what it asks again, when, how it counts, and what it tells.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use wharf_tests::{
    Backend, Host, Ledger, LogLine, PATIENCE, Receiver, Shop, Site, eventually,
    model::is_recent_time, on_every_backend,
};

const EVENTS: [&str; 3] = ["sync.started", "sync.completed", "sync.failed"];

/// A store of `org-1`, and a receiver that hears of its runs.
async fn open(host: &Host) -> Result<(Shop, Receiver)> {
    let receiver = Receiver::start().await?;
    for event in EVENTS {
        let body = json!({"organizationId": "org-1", "event": event, "targetUrl": receiver.url()});
        assert_eq!(host.post("/webhooks/register", &body).await?.status, 200);
    }
    Ok((Shop::open(host, "org-1", "etsy").await?, receiver))
}

async fn log_of(ledger: &Ledger, receipt: &str) -> Result<Value> {
    let wait = ledger.seconds_between("updated_at", "next_retry_at");
    let columns =
        format!("status, attempt, {wait} as wait, cast(exhausted as integer) as exhausted");
    ledger
        .row(&format!(
            "select {columns} from sync_logs where receipt = '{receipt}'"
        ))
        .await
}

/// Waits until the store's job has nothing more to do, after so many runs.
async fn idle(ledger: &Ledger, runs: usize) -> Result<()> {
    let ended = "select count(*) from callback_outbox where event <> 'sync.started'";
    ledger
        .wait_for(&format!(
            "select state from sync_jobs where state = 'idle' and ({ended}) = {runs}"
        ))
        .await
        .map(drop)
}

/// Waits until so many lines of this message are written: they come behind what they tell of.
async fn wait_for_lines(host: &Host, message: &str, count: usize) -> Result<Vec<LogLine>> {
    let written = || async {
        let lines = lines(host, message);
        (lines.len() >= count).then_some(lines)
    };
    eventually(&format!("{count} lines {message}"), PATIENCE, written).await
}

fn lines(host: &Host, message: &str) -> Vec<LogLine> {
    host.log()
        .into_iter()
        .filter(|line| line.message() == message)
        .collect()
}

async fn a_run_asks_again_counts_and_tells(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let (shop, receiver) = open(&host).await?;
    let ledger = Ledger::open(host.site()).await?;
    for receipt in ["order-101", "order-102", "order-115"] {
        shop.import(&host, receipt).await?;
    }
    // The rate-limited one is not due yet.
    shop.request_sync(&host).await?;
    idle(&ledger, 1).await?;
    let completed = receiver.wait_for_event("sync.completed").await?.json();
    let expected = json!({"storeId": shop.store_id, "processedCount": 1, "successCount": 0, "failedCount": 1,
        "rateLimitedCount": 0});
    assert_eq!(completed["data"], expected);
    let status = shop.status(&host).await?;
    assert!(is_recent_time(&status["lastSyncAt"]), "{status}");
    assert_eq!(
        (&status["syncStatus"], &status["importedOrders"]),
        (&json!("partial"), &json!(1))
    );
    assert_eq!(status["rateLimitedCount"], 1);
    // A refused receipt is asked again once at the next run, then with backoff.
    let refused = log_of(&ledger, "order-102").await?;
    assert_eq!(
        (&refused["status"], &refused["attempt"]),
        (&json!("failed"), &json!(2))
    );
    assert!(
        (590.0..=600.0).contains(&refused["wait"].as_f64().unwrap_or_default()),
        "{refused}"
    );

    let ended = wait_for_lines(&host, "job_completed", 1).await?.remove(0);
    for (field, value) in expected.as_object().expect("an object") {
        assert_eq!(ended.field(field), value);
    }
    receiver.wait_for(2).await?;
    nothing_due_is_no_run(&host, &shop, &receiver, &ledger).await
}

async fn nothing_due_is_no_run(
    host: &Host,
    shop: &Shop,
    receiver: &Receiver,
    ledger: &Ledger,
) -> Result<()> {
    let before = shop.status(host).await?;
    for _ in 0..2 {
        assert_eq!(shop.request_sync(host).await?["queued"], true);
        ledger
            .wait_for("select state from sync_jobs where state = 'idle'")
            .await?;
    }
    assert_eq!(
        shop.status(host).await?,
        before,
        "not even the time of the last run changes"
    );
    assert_eq!(
        ledger
            .row("select count(*) as n from callback_outbox")
            .await?["n"],
        receiver.requests().len()
    );
    Ok(())
}

async fn a_store_without_a_success_ends_failed(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let (shop, receiver) = open(&host).await?;
    shop.import(&host, "order-102").await?;
    shop.request_sync(&host).await?;
    let failed = receiver.wait_for_event("sync.failed").await?.json();
    let data = json!({"storeId": shop.store_id, "processedCount": 1, "successCount": 0, "failedCount": 1, "rateLimitedCount": 0});
    assert_eq!(failed["data"], data);
    assert_eq!(shop.status(&host).await?["syncStatus"], "failed");
    assert!(
        receiver
            .requests()
            .iter()
            .all(|request| request.json()["event"] != "sync.completed")
    );
    Ok(())
}

/// Logs that were put in by hand are worked on in chunks, oldest first, at most ten in one run.
async fn a_long_run_is_cut_into_chunks(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let host = site.host().env("SYNC_CHUNK_SIZE", "10").start().await?;
    let (shop, receiver) = open(&host).await?;
    let ledger = Ledger::open(&site).await?;
    let row = |n: i64| {
        format!(
            "({}, '{n}-a{}', {})",
            ledger.id(&shop.store_id),
            n % 2,
            ledger.time(n - 1_000)
        )
    };
    let rows: Vec<_> = (0..105).map(row).collect();
    ledger
        .execute(&format!(
            "insert into sync_logs (store_id, receipt, created_at) values {}",
            rows.join(", ")
        ))
        .await?;
    shop.request_sync(&host).await?;
    let told = receiver.wait_for(4).await?;
    let told: Vec<_> = told
        .iter()
        .map(|request| request.json())
        .filter(|body| body["event"] == "sync.completed")
        .collect();
    let data = |processed: u32, success: u32, failed: u32| {
        json!({"storeId": shop.store_id, "processedCount": processed, "successCount": success, "failedCount": failed,
            "rateLimitedCount": 0})
    };
    assert_eq!(told[0]["data"], data(100, 50, 50));
    assert_eq!(
        told[1]["data"],
        data(55, 2, 53),
        "the rest, and what was refused a moment ago"
    );
    let batches = wait_for_lines(&host, "sync_store_batch", 16).await?;
    let sizes: Vec<_> = batches
        .iter()
        .filter_map(|line| line.field("processedCount").as_u64())
        .collect();
    assert_eq!(
        sizes,
        [
            10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 5
        ]
    );
    assert_eq!(wait_for_lines(&host, "job_completed", 2).await?.len(), 2);
    let status = shop.status(&host).await?;
    assert_eq!(
        (&status["importedOrders"], &status["syncStatus"]),
        (&json!(52), &json!("partial"))
    );
    Ok(())
}

/// The scheduler finds stores by itself: those with something due, and none twice at a time.
async fn the_scheduler_finds_what_is_due(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let host = site.host().role("api").start().await?;
    let ledger = Ledger::open(&site).await?;
    let mut shops = Vec::new();
    for (organization, receipt) in [
        ("due", "order-102"),
        ("limited", "order-115"),
        ("done", "order-101"),
    ] {
        let shop = Shop::open(&host, organization, "etsy").await?;
        shop.import(&host, receipt).await?;
        shops.push(shop);
    }
    let schedule = async || -> Result<Value> {
        let (status, printed) = site
            .host()
            .command(&["scheduler", "sync", "--once"])
            .run()
            .await?;
        assert!(status.success(), "{printed}");
        let logged = printed
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let pass = logged
            .rev()
            .find(|line| line["message"] == "scheduler_run")
            .unwrap_or_default();
        Ok(json!([pass["scannedStores"], pass["enqueuedJobs"]]))
    };
    assert_eq!(schedule().await?, json!([3, 1]));
    assert_eq!(schedule().await?[1], 0, "it is queued already");
    let jobs = "select j.state, s.organization_id from sync_jobs j join stores s on s.id = j.store_id where j.state <> 'idle'";
    assert_eq!(
        ledger.rows(jobs).await?,
        [json!({"state": "queued", "organization_id": "due"})]
    );
    let worker = site.host().command(&["worker", "sync"]).start().await?;
    let worked = || async { (lines(&worker, "job_completed").len() == 1).then_some(()) };
    eventually("one job", Duration::from_secs(20), worked).await?;
    assert_eq!(shops[0].status(&host).await?["syncStatus"], "failed");
    Ok(())
}

on_every_backend!(
    a_run_asks_again_counts_and_tells,
    a_store_without_a_success_ends_failed,
    a_long_run_is_cut_into_chunks,
    the_scheduler_finds_what_is_due,
);
