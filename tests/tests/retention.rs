//! `RETENTION` says when finished events are purged. Logs, which make imports idempotent, stay.

use anyhow::{Result, ensure};
use serde_json::json;
use wharf_tests::{Backend, Host, Ledger, Receiver, Shop, on_every_backend};

async fn old_events_are_purged_and_logs_are_not(backend: Backend) -> Result<()> {
    let mut host = Host::start(backend).await?;
    let receiver = Receiver::start().await?;
    let endpoint =
        json!({"organizationId": "org", "event": "sync.failed", "targetUrl": receiver.url()});
    host.post("/webhooks/register", &endpoint).await?;
    let shop = Shop::open(&host, "org", "etsy").await?;
    shop.import(&host, "r-02").await?;
    shop.request_sync(&host).await?;
    let ledger = Ledger::open(host.site()).await?;
    ledger
        .wait_for(
            "select * from callback_outbox where event = 'sync.failed' and status = 'success'",
        )
        .await?;
    ledger
        .wait_for(
            "select * from callback_outbox where event = 'sync.started' and status = 'success'",
        )
        .await?;
    ensure!(host.stop().await?.success());

    let rows = "select (select count(*) from callback_outbox) + (select count(*) from callback_messages)
        + (select count(*) from callback_deliveries) + (select count(*) from callback_attempts) as events,
        (select count(*) from sync_logs) as logs";
    for (retention, left) in [("off", 5), ("1d", 5), ("1ms", 0)] {
        let pass = host
            .site()
            .host()
            .command(&["scheduler", "callback"])
            .env("RETENTION", retention);
        let (status, printed) = pass.run().await?;
        ensure!(status.success(), "{printed}");
        assert_eq!(
            ledger.row(rows).await?,
            json!({"events": left, "logs": 1}),
            "RETENTION={retention}"
        );
    }
    Ok(())
}

on_every_backend!(old_events_are_purged_and_logs_are_not);
