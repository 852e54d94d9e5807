//! Stores: which marketplaces they may have, new credentials, and work that waits for a plugin.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use wharf_app::{AppError, PluginAudit, PluginChange, StoreRegistration};
use wharf_domain::{
    AccessToken, Currency, ExternalStoreId, ImportResult, MarketplaceName, Reach, StoreName,
    SyncStatus, SyncToken,
};
use wharf_tests::{Backend, on_every_backend};

use crate::host::{InProcess, organization};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn registration(marketplace: &str, token: &str) -> Result<StoreRegistration> {
    Ok(StoreRegistration {
        organization_id: organization(),
        marketplace: MarketplaceName::parse(marketplace)?,
        external_store_id: ExternalStoreId::parse("ext-100")?,
        store_name: StoreName::parse("My Store")?,
        access_token: AccessToken::parse(token)?,
        currency: Currency::parse("USD")?,
    })
}

async fn register(host: &InProcess, token: &str) -> Result<SyncToken> {
    let store = host.app.register_store(registration("etsy", token)?);
    Ok(store.await?.sync_token)
}

async fn log_of(host: &InProcess, receipt: &str) -> Result<Value> {
    let columns = "status, attempt, refusals, cast(exhausted as integer) as exhausted";
    let log = format!("select {columns} from sync_logs where receipt = '{receipt}'");
    host.ledger.row(&log).await
}

async fn events(host: &InProcess) -> Result<i64> {
    host.ledger
        .number("select count(*) from callback_outbox")
        .await
}

async fn a_marketplace_is_known_once_it_is_served(backend: Backend) -> Result<()> {
    let host = InProcess::open(backend).await?;
    let refused = host.app.register_store(registration("gone", "t")?).await;
    assert!(matches!(refused, Err(AppError::UnknownMarketplace)));
    // The audit of whatever process has its plugin writes it down.
    let stop = CancellationToken::new();
    let audit = tokio::spawn(PluginAudit::new(&host.app).run(stop.clone()));
    let known = "select name from marketplaces where name = 'etsy'";
    host.ledger.wait_for(known).await?;
    stop.cancel();
    audit.await?;
    host.ledger
        .execute("update marketplaces set name = 'gone' where name = 'etsy'")
        .await?;
    host.app.register_store(registration("gone", "t")?).await?;
    Ok(())
}

async fn new_credentials_are_tried_at_once(backend: Backend) -> Result<()> {
    let mut host = InProcess::open(backend).await?;
    let store = register(&host, "one").await?;
    for receipt in ["order-102", "order-115", "order-101"] {
        host.import(store, receipt).await?;
    }
    host.drain().await?;
    let rests = "update sync_logs set exhausted = (1 = 1), next_retry_at = null, refusals = 10
        where receipt = 'order-102'";
    host.ledger.execute(rests).await?;
    let tried = async |host: &mut InProcess| -> Result<Value> {
        // No pass of the scheduler: the registration queues the job.
        host.clock.advance(Duration::from_micros(1));
        host.sync_worker.step().await?;
        host.sync_worker.finish().await;
        log_of(host, "order-102").await
    };
    register(&host, "one").await?;
    let before = json!({"status": "failed", "attempt": 2, "refusals": 10, "exhausted": 1});
    assert_eq!(
        tried(&mut host).await?,
        before,
        "the same token changes nothing"
    );
    register(&host, "two").await?;
    let after = json!({"status": "failed", "attempt": 3, "refusals": 1, "exhausted": 0});
    assert_eq!(tried(&mut host).await?, after);
    let limited = log_of(&host, "order-115").await?;
    assert_eq!(limited["attempt"], 1, "a rate limit stays one");
    assert_eq!(tried(&mut host).await?, after, "once");
    Ok(())
}

/// Nine outages and one refusal are one refusal.
async fn refusals_alone_bury_a_receipt(backend: Backend) -> Result<()> {
    let mut host = InProcess::open(backend).await?;
    let store = register(&host, "t").await?;
    host.import(store, "order-102").await?;
    let outages = "update sync_logs set attempt = 9 where receipt = 'order-102'";
    host.ledger.execute(outages).await?;
    host.drain().await?;
    let refused = json!({"status": "failed", "attempt": 10, "refusals": 2, "exhausted": 0});
    assert_eq!(log_of(&host, "order-102").await?, refused);
    Ok(())
}

/// While the plugin is out there is no run, no event, and nothing that says that the store was synchronised.
async fn work_that_is_put_off_tells_nothing(backend: Backend) -> Result<()> {
    let mut host = InProcess::open(backend).await?;
    let store = register(&host, "t").await?;
    host.import(store, "order-102").await?;
    host.drain().await?;
    let (told, before) = (
        events(&host).await?,
        host.app.sync_status(&Reach::Everything, store).await?,
    );
    assert_eq!((told, before.sync_status), (2, SyncStatus::Failed));
    let out = PluginChange::Disable {
        reason: "for now".into(),
    };
    host.app.change_plugin("etsy", out, "tests").await?;
    let answer = host.import(store, "order-101").await?;
    assert_eq!(answer, ImportResult::Unavailable);
    let put_off = host.app.sync_status(&Reach::Everything, store).await?;
    for _ in 0..20 {
        host.after(MINUTE).await?;
    }
    assert_eq!(events(&host).await?, told);
    assert_eq!(
        host.app.sync_status(&Reach::Everything, store).await?,
        put_off
    );
    assert_eq!(
        put_off.last_sync_at, before.last_sync_at,
        "nobody was asked"
    );
    let asked = json!({"status": "failed", "attempt": 2, "refusals": 2, "exhausted": 0});
    assert_eq!(log_of(&host, "order-102").await?, asked);

    let on = PluginChange::Enable;
    host.app.change_plugin("etsy", on, "tests").await?;
    host.after(MINUTE + SECOND).await?;
    assert_eq!(events(&host).await?, told + 2);
    assert_eq!(log_of(&host, "order-101").await?["status"], "success");
    let sums = "select payload from callback_outbox where event = 'sync.completed'";
    let sums = host.ledger.row(sums).await?["payload"].to_string();
    let sums = sums.replace('\\', "");
    assert!(sums.contains(r#""processedCount":2"#), "{sums}");
    Ok(())
}

on_every_backend!(
    a_marketplace_is_known_once_it_is_served,
    new_credentials_are_tried_at_once,
    refusals_alone_bury_a_receipt,
    work_that_is_put_off_tells_nothing,
);
