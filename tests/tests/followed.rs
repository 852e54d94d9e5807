//! One order can be followed: the id of the request that imported it, and of the one that synchronised its store, is on
//! its rows, in the log, and with the webhooks that tell of it. Traces: see `traces.rs`.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use wharf_tests::{Answer, Backend, Host, Ledger, LogLine, Receiver, Shop, on_every_backend};

async fn post(host: &Host, path: &str, body: &Value, id: &str) -> Result<Answer> {
    let request = host.request("POST", path).header("x-request-id", id);
    let answer = Answer::to(request.json(body)).await?;
    assert_eq!(answer.header("x-request-id"), id);
    Ok(answer)
}

/// Lines of this message that name this id, in themselves or in a span around them.
fn lines(host: &Host, message: &str, field: &str, id: &str) -> usize {
    let names = |line: &LogLine| {
        line.json
            .to_string()
            .contains(&format!("\"{field}\":\"{id}\""))
    };
    let lines = host.log().into_iter();
    lines
        .filter(|line| line.message() == message && names(line))
        .count()
}

async fn an_order_is_found_by_its_requests(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let ledger = Ledger::open(host.site()).await?;
    let receiver = Receiver::start().await?;
    let shop = Shop::open(&host, "org-1", "etsy").await?;
    let hook =
        json!({"organizationId": "org-1", "event": "sync.failed", "targetUrl": receiver.url()});
    let hook = host.post("/webhooks/register", &hook).await?.get("id");

    let import = json!({"syncToken": shop.sync_token, "receipt": "order-102"});
    post(&host, "/orders/import", &import, "import-1").await?;
    // Another client is told what is stored; the row keeps the request that made it.
    post(&host, "/orders/import", &import, "import-2").await?;
    let sync = json!({"syncToken": shop.sync_token});
    post(&host, "/stores/sync", &sync, "sync-1").await?;
    receiver.wait_for_event("sync.failed").await?;
    let row = "select request_id, sync_request_id from sync_logs where sync_request_id is not null";
    let expected = json!({"request_id": "import-1", "sync_request_id": "sync-1"});
    assert_eq!(ledger.wait_for(row).await?, expected);
    for message in ["sync_store_batch", "job_completed"] {
        assert!(
            lines(&host, message, "request_id", "sync-1") > 0,
            "{message}: {}",
            host.logged()
        );
    }
    assert_eq!(lines(&host, "answered", "request_id", "import-1"), 1);

    let page = format!(
        "/webhooks/{}/deliveries?organizationId=org-1",
        hook.as_str().context("an id")?
    );
    let told = "select id from callback_deliveries where state = 'success'";
    ledger.wait_for(told).await?;
    let delivery = host.get(&page).await?.get("items")[0].take();
    assert_eq!(
        (
            &delivery["requestId"],
            &delivery["attempts"][0]["httpStatus"]
        ),
        (&json!("sync-1"), &json!(200)),
        "{delivery}"
    );
    assert!(lines(&host, "callback_delivery", "request_id", "sync-1") > 0);

    // Where nobody asked, everything that belongs to the run has one id all the same.
    let due = format!("update sync_logs set next_retry_at = {}", ledger.time(-1));
    ledger.execute(&due).await?;
    let unasked = "update sync_jobs set state = 'queued', due_at = (select created_at from stores)";
    ledger.execute(unasked).await?;
    let row = "select sync_request_id as id from sync_logs where sync_request_id <> 'sync-1'";
    let run = ledger.wait_for(row).await?["id"].take();
    let events = format!(
        "select count(*) as n from callback_outbox where request_id = '{}' having count(*) = 2",
        run.as_str().context("an id")?
    );
    ledger.wait_for(&events).await?;
    Ok(())
}

on_every_backend!(an_order_is_found_by_its_requests);
