//! Receipts that are asked about again: when, how often, and who finds them.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use wharf_app::PluginChange;
use wharf_domain::{EventKind, ImportResult, OrganizationId};
use wharf_tests::{Backend, Receiver, on_every_backend};

use crate::host::{InProcess, organization};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

async fn log_of(host: &InProcess, receipt: &str) -> Result<Value> {
    let columns = "status, attempt, cast(exhausted as integer) as exhausted";
    let log = format!("select {columns} from sync_logs where receipt = '{receipt}'");
    host.ledger.row(&log).await
}

fn counts(request: &Value) -> [&Value; 3] {
    ["processedCount", "failedCount", "rateLimitedCount"].map(|name| &request["data"][name])
}

async fn a_rate_limited_receipt_is_asked_again_after_its_backoff(backend: Backend) -> Result<()> {
    let mut host = InProcess::open(backend).await?;
    let store = host.store(&organization()).await?;
    assert_eq!(
        host.import(store, "order-115").await?,
        ImportResult::RateLimited
    );
    for (asked, minutes) in [(1, 5), (2, 10), (3, 20), (4, 40), (5, 60), (6, 60)] {
        let log = |attempt| json!({"status": "rate_limited", "attempt": attempt, "exhausted": 0});
        host.after(minutes * MINUTE - SECOND).await?;
        assert_eq!(log_of(&host, "order-115").await?, log(asked), "too early");
        host.after(2 * SECOND).await?;
        assert_eq!(log_of(&host, "order-115").await?, log(asked + 1));
    }
    Ok(())
}

/// Rate limits are asked about for ever, refusals rest after the tenth; every run tells what it did.
async fn a_refused_receipt_rests_after_ten_attempts(backend: Backend) -> Result<()> {
    let mut host = InProcess::open(backend).await?;
    let receiver = Receiver::start().await?;
    let store = host.store(&organization()).await?;
    host.endpoint(EventKind::SyncCompleted, receiver.url())
        .await?;
    for receipt in ["order-101", "order-102", "order-115"] {
        host.import(store, receipt).await?;
    }
    // At once: a first refusal is asked again at the next run.
    host.drain().await?;
    for _ in 2..=11 {
        host.after(61 * MINUTE).await?;
    }
    let resting = json!({"status": "failed", "attempt": 10, "exhausted": 1});
    assert_eq!(log_of(&host, "order-102").await?, resting);
    let limited = json!({"status": "rate_limited", "attempt": 11, "exhausted": 0});
    assert_eq!(log_of(&host, "order-115").await?, limited);

    let told: Vec<Value> = receiver.requests().iter().map(|told| told.json()).collect();
    assert_eq!(told.len(), 11);
    assert_eq!(counts(&told[0]), [1, 1, 0].map(Value::from).each_ref());
    assert_eq!(counts(&told[1]), [2, 1, 1].map(Value::from).each_ref());
    assert_eq!(counts(&told[10]), [1, 0, 1].map(Value::from).each_ref());
    assert!(matches!(
        host.import(store, "order-101").await?,
        ImportResult::Imported(_)
    ));
    assert_eq!(
        host.import(store, "order-102").await?,
        ImportResult::InvalidReceipt,
        "clients are told as ever"
    );
    Ok(())
}

async fn the_scheduler_finds_what_is_due(backend: Backend) -> Result<()> {
    let mut host = InProcess::open(backend).await?;
    let store = async |host: &InProcess, name: &str| {
        host.store(&OrganizationId::from_stored(name.into())).await
    };
    let rests = store(&host, "rests").await?;
    host.import(rests, "order-102").await?;
    host.drain().await?;
    host.import(rests, "order-104").await?;
    for (name, receipt) in [
        ("due", "order-102"),
        ("limited", "order-115"),
        ("done", "order-101"),
    ] {
        let store = store(&host, name).await?;
        host.import(store, receipt).await?;
    }
    let stopped = CancellationToken::new();
    stopped.cancel();
    let pass = host.sync_scheduler.pass(&stopped).await?;
    assert_eq!((pass.scanned, pass.enqueued), (0, 0), "it is to stop");
    let pass = host.sync_scheduler.pass(&CancellationToken::new()).await?;
    assert_eq!((pass.scanned, pass.enqueued), (4, 1), "one is due");
    let pass = host.sync_scheduler.pass(&CancellationToken::new()).await?;
    assert_eq!((pass.scanned, pass.enqueued), (4, 0), "it is queued");
    host.clock.advance(61 * SECOND);
    let pass = host.sync_scheduler.pass(&CancellationToken::new()).await?;
    assert_eq!(pass.enqueued, 1, "a minute after its run a store is due");
    host.clock.advance(4 * MINUTE);
    let pass = host.sync_scheduler.pass(&CancellationToken::new()).await?;
    assert_eq!(pass.enqueued, 1, "the rate limit is over");
    host.drain().await?;
    let ended = "select count(*) as n from callback_outbox where event <> 'sync.started'";
    assert_eq!(host.ledger.row(ended).await?["n"], 4);
    Ok(())
}

/// A token that no key opens is the host's fault: nobody is asked without it, and the receipt loses no attempt.
async fn an_unreadable_token_defers_the_call(backend: Backend) -> Result<()> {
    let mut host = InProcess::open(backend).await?;
    let store = host.store(&organization()).await?;
    let kept = match backend {
        Backend::Embedded => {
            "update stores set access_token = x'00', store_name = hex(access_token)"
        }
        Backend::Postgres => {
            "update stores set access_token = '\\x00', store_name = encode(access_token, 'hex')"
        }
    };
    host.ledger.execute(kept).await?;
    host.import(store, "order-101").await?;
    host.after(10 * MINUTE).await?;
    let waiting =
        "select status, attempt, exhausted from sync_logs where next_retry_at is not null";
    let log = host.ledger.row(waiting).await?;
    assert_eq!(log["attempt"], 0, "{log}");
    let restored = match backend {
        Backend::Embedded => "update stores set access_token = unhex(store_name)",
        Backend::Postgres => "update stores set access_token = decode(store_name, 'hex')",
    };
    host.ledger.execute(restored).await?;
    host.after(10 * MINUTE).await?;
    let log = host
        .ledger
        .row("select status, attempt from sync_logs")
        .await?;
    assert_eq!(log, json!({"status": "success", "attempt": 1}));
    Ok(())
}

/// Work for a plugin that is out burns no attempt, and goes on by itself when the plugin is back.
async fn deferred_work_resumes_by_itself(backend: Backend) -> Result<()> {
    const PLUGINS: [&str; 2] = ["etsy", "standard-payload"];
    let mut host = InProcess::open(backend).await?;
    let receiver = Receiver::start().await?;
    let store = host.store(&organization()).await?;
    host.endpoint(EventKind::SyncCompleted, receiver.url())
        .await?;
    for plugin in PLUGINS {
        let out = PluginChange::Disable {
            reason: "for now".into(),
        };
        host.app.change_plugin(plugin, out, "tests").await?;
    }
    let receipts = ["order-101", "order-103", "order-105"];
    for receipt in receipts {
        let answer = host.import(store, receipt).await?;
        assert_eq!(answer, ImportResult::Unavailable);
    }
    let deferred = json!({"status": "pending", "attempt": 0, "exhausted": 0});
    assert_eq!(log_of(&host, "order-101").await?, deferred);

    host.app
        .change_plugin("etsy", PluginChange::Enable, "tests")
        .await?;
    host.after(31 * SECOND).await?;
    let imported = json!({"status": "success", "attempt": 1, "exhausted": 0});
    for receipt in receipts {
        assert_eq!(log_of(&host, receipt).await?, imported);
    }
    let waiting = "select count(*) as n from callback_outbox
        where event = 'sync.completed' and status = 'pending' and last_error like '%for now%'";
    assert_eq!(host.ledger.row(waiting).await?["n"], 1);
    assert!(receiver.requests().is_empty(), "its shaper is out");

    host.app
        .change_plugin("standard-payload", PluginChange::Enable, "tests")
        .await?;
    host.after(2 * SECOND).await?;
    let told = receiver.requests();
    assert_eq!(told.len(), 1, "told once");
    assert_eq!(told[0].json()["data"]["successCount"], receipts.len());
    Ok(())
}

on_every_backend!(
    a_rate_limited_receipt_is_asked_again_after_its_backoff,
    a_refused_receipt_rests_after_ten_attempts,
    the_scheduler_finds_what_is_due,
    an_unreadable_token_defers_the_call,
    deferred_work_resumes_by_itself,
);
