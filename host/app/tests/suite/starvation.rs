//! Tenants whose receipts hurt a plugin, and marketplaces that are slow: neither is anybody else's trouble.
#![allow(clippy::disallowed_methods, reason = "test code")]

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use wharf_app::{SyncStep, UploadedGrants, WebhookRegistration};
use wharf_domain::{
    EventKind, ImportResult, MAX_PLUGIN_FAULTS, OrganizationId, Reach, ShaperName, SyncToken,
    TargetUrl,
};
use wharf_tests::{Backend, guest, on_every_backend};

use crate::host::{InProcess, request_id};

const HOUR: Duration = Duration::from_secs(60 * 60);

fn organization(name: &str) -> OrganizationId {
    OrganizationId::from_stored(name.into())
}

async fn open(backend: Backend) -> Result<InProcess> {
    InProcess::open_beside(backend, &[("hostile", &guest("hostile-adapter"))], |_| {}).await
}

async fn store(host: &InProcess, name: &str) -> Result<SyncToken> {
    host.store_at("hostile", &organization(name)).await
}

async fn log_of(host: &InProcess, receipt: &str) -> Result<Value> {
    let columns = "status, attempt, cast(exhausted as integer) as exhausted, plugin_faults";
    let log = format!("select {columns} from sync_logs where receipt = '{receipt}'");
    host.ledger.row(&log).await
}

/// Forty poisoned receipts of one tenant; another is served all the time.
async fn poison_stays_with_its_tenant(backend: Backend) -> Result<()> {
    let host = open(backend).await?;
    let (a, b) = (store(&host, "a").await?, store(&host, "b").await?);
    for number in 0..40 {
        let poisoned = host.import(a, &format!("amount:{number}e2")).await?;
        assert_eq!(poisoned, ImportResult::Unavailable);
        let good = host.import(b, &format!("good-{number}")).await?;
        assert!(
            matches!(good, ImportResult::Imported(_)),
            "after {number} poisoned receipts"
        );
    }
    let asked = "select count(*) as n from sync_logs where attempt > 0 and status = 'pending'";
    assert_eq!(host.ledger.number(asked).await?, 5, "the rest is put off");
    Ok(())
}

/// A receipt that the plugin fails on is asked about five times, then rests until another revision serves.
async fn a_poisoned_receipt_comes_to_rest(backend: Backend) -> Result<()> {
    let mut host = open(backend).await?;
    let shop = store(&host, "a").await?;
    host.import(shop, "amount:1e2").await?;
    for _ in 0..2 * MAX_PLUGIN_FAULTS {
        host.after(2 * HOUR).await?;
    }
    let rests = json!({"status": "failed", "attempt": MAX_PLUGIN_FAULTS, "exhausted": 1,
        "plugin_faults": MAX_PLUGIN_FAULTS});
    assert_eq!(log_of(&host, "amount:1e2").await?, rests);
    let why = "select last_error from sync_logs";
    let why = host.ledger.row(why).await?["last_error"].to_string();
    assert!(why.contains("failed 5 times"), "{why}");
    let again = host.import(shop, "amount:1e2").await?;
    assert_eq!(again, ImportResult::InvalidReceipt);
    host.drain().await?;
    assert_eq!(log_of(&host, "amount:1e2").await?, rests, "it rests");

    // The same code under another digest: a custom section says nothing to the machine.
    let mut better = std::fs::read(guest("hostile-adapter")).context("the guest")?;
    better.extend_from_slice(&[0, 3, 1, b'n', 1]);
    let uploaded =
        host.app
            .upload_plugin("hostile", better.into(), UploadedGrants::AsBefore, "tests");
    uploaded.await?;
    host.after(2 * HOUR).await?;
    let tried = json!({"status": "failed", "attempt": MAX_PLUGIN_FAULTS + 1, "exhausted": 0,
        "plugin_faults": 1});
    assert_eq!(log_of(&host, "amount:1e2").await?, tried);
    Ok(())
}

/// A marketplace that keeps failing for one account is not asked for it; others are.
async fn an_upstream_that_keeps_failing_is_left_alone(backend: Backend) -> Result<()> {
    let host = open(backend).await?;
    let (a, b) = (store(&host, "a").await?, store(&host, "b").await?);
    for number in 0..5 {
        let down = host.import(a, &format!("unavailable:{number}")).await?;
        assert_eq!(down, ImportResult::Unavailable);
    }
    let paused = host.import(a, "good-a").await?;
    assert_eq!(paused, ImportResult::Unavailable);
    let deferred = json!({"status": "pending", "attempt": 0, "exhausted": 0, "plugin_faults": 0});
    assert_eq!(log_of(&host, "good-a").await?, deferred, "nobody was asked");
    let other = host.import(b, "good-b").await?;
    assert!(matches!(other, ImportResult::Imported(_)));
    let report = host.app.plugin_report("hostile").context("a report")?;
    assert_eq!(
        (report.pauses.accounts, report.pauses.organizations),
        (1, 0)
    );
    Ok(())
}

/// The hostile adapter under another name: its stamp is written over the place that it keeps for one.
fn slow_marketplace(folder: &Path, name: &str) -> Result<PathBuf> {
    const MARK: &[u8] = b"wharf-stamp:";
    let mut component = std::fs::read(guest("hostile-adapter")).context("the guest")?;
    let mark = component.windows(MARK.len()).position(|at| at == MARK);
    let at = mark.context("a place for a stamp")? + MARK.len();
    let stamp = format!("describe name:{name}");
    component[at..at + stamp.len()].copy_from_slice(stamp.as_bytes());
    let file = folder.join(format!("{name}.wasm"));
    std::fs::write(&file, component)?;
    Ok(file)
}

/// Two marketplaces that never answer have more stores than there are places; a healthy store's run does not wait.
async fn slow_marketplaces_do_not_hold_up_a_healthy_store(backend: Backend) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (one, two) = (
        slow_marketplace(folder.path(), "slow1")?,
        slow_marketplace(folder.path(), "slow2")?,
    );
    let slow = [("slow1", one.as_path()), ("slow2", two.as_path())];
    let mut host = InProcess::open_beside(backend, &slow, |settings| {
        settings.sync.concurrency = 2;
        settings.sync.slice = Duration::from_millis(20);
    })
    .await?;
    for number in 0..4 {
        let (marketplace, name) = (slow[number % 2].0, format!("slow-{number}"));
        host.store_at(marketplace, &organization(&name)).await?;
    }
    // By SQL: importing them would wait for each.
    let backlog = format!(
        "insert into sync_logs (id, store_id, receipt, created_at) select {}, s.id, 'sleep:' || n.n, {}
         from stores s, (select 1 as n union select 2 union select 3) n",
        host.ledger.random_id(),
        // SQL dates it by the day of the test, not by the test's clock.
        host.ledger.time(-20 * 365 * 24 * 60 * 60)
    );
    host.ledger.execute(&backlog).await?;
    let queued = host.sync_scheduler.pass(&CancellationToken::new()).await?;
    assert_eq!(queued.enqueued, 4);
    assert_eq!(host.sync_worker.step().await?, SyncStep::Started(2));

    let healthy = host.store(&organization("healthy")).await?;
    host.import(healthy, "order-102").await?;
    host.app
        .request_sync(&Reach::Everything, healthy, &request_id())
        .await?;
    let synced = async {
        while log_of(&host, "order-102").await?["attempt"] != 2 {
            host.sync_worker.step().await?;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        anyhow::Ok(())
    };
    // A call may take 30 s: before that, no place would come free by itself.
    tokio::time::timeout(Duration::from_secs(20), synced)
        .await
        .context("the healthy store waited")?
}

/// An event on which its shaper fails five times is a dead letter that says so, and nothing is tried any more.
async fn a_poisoned_event_becomes_a_dead_letter(backend: Backend) -> Result<()> {
    let shaper = [("hostile-shaper", &*guest("hostile-shaper"))];
    let mut host = InProcess::open_beside(backend, &shaper, |_| {}).await?;
    let registration = WebhookRegistration {
        organization_id: organization("trap"),
        event: EventKind::SyncFailed,
        target_url: TargetUrl::parse("http://127.0.0.1:9/")?,
        shaper: Some(ShaperName::parse("hostile")?),
        asymmetric: false,
    };
    host.app.register_webhook(registration).await?;
    host.ledger.put_event("trap", "sync.failed", "{}").await?;
    // SQL dates it by the day of the test, not by the test's clock, which must not pass retention.
    let due = host.ledger.time(-20 * 365 * 24 * 60 * 60);
    let due = format!("update callback_outbox set due_at = {due}");
    host.ledger.execute(&due).await?;
    for _ in 0..8 {
        host.after(HOUR).await?;
    }
    let event = "select status, due_at, shaper_faults from callback_outbox";
    let dead = json!({"status": "failed", "due_at": null, "shaper_faults": 5});
    assert_eq!(host.ledger.row(event).await?, dead);
    let delivery = "select state, attempt, last_error from callback_deliveries";
    let delivery = host.ledger.row(delivery).await?;
    assert_eq!(
        (&delivery["state"], &delivery["attempt"]),
        (&json!("failed"), &json!(0))
    );
    let why = delivery["last_error"].to_string();
    assert!(why.contains("failed 5 times on this event"), "{why}");
    Ok(())
}

on_every_backend!(
    a_poisoned_event_becomes_a_dead_letter,
    slow_marketplaces_do_not_hold_up_a_healthy_store,
    poison_stays_with_its_tenant,
    a_poisoned_receipt_comes_to_rest,
    an_upstream_that_keeps_failing_is_left_alone,
);
