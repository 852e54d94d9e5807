//! One order can be followed: the id of the request that imported it, and of the one that synchronised its store, is on
//! its rows, in the log, and with the webhooks that tell of it. Traces: see `traces.rs`.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use wharf_tests::{
    Answer, Backend, Host, Ledger, LogLine, PATIENCE, Receiver, Shop, eventually, on_every_backend,
};

async fn post(host: &Host, path: &str, body: &Value, id: &str) -> Result<Answer> {
    let request = host.request("POST", path).header("x-request-id", id);
    let answer = Answer::to(request.json(body)).await?;
    assert_eq!(answer.header("x-request-id"), id);
    Ok(answer)
}

/// Waits for a line of this message that names this id, in itself or in a span around it.
async fn logged(host: &Host, message: &str, id: &str) -> Result<()> {
    let named = format!("\"request_id\":\"{id}\"");
    let names =
        |line: &LogLine| line.message() == message && line.json.to_string().contains(&named);
    let line = || async { host.log().iter().any(names).then_some(()) };
    eventually(&format!("{message} of {id}"), PATIENCE, line).await
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
        logged(&host, message, "sync-1").await?;
    }
    logged(&host, "answered", "import-1").await?;

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
    logged(&host, "callback_delivery", "sync-1").await?;

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
