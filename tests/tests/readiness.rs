//! Readiness: answered in time whatever the database does, and taken back before a stop.

use anyhow::Result;
use serde_json::json;
use wharf_tests::{
    Answer, Backend, Host, Ledger, PATIENCE, Proxy, Shop, Signal, Site, eventually,
    on_every_backend,
};

async fn a_host_that_is_about_to_stop_serves_on(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let mut host = site.host().env("SHUTDOWN_DELAY", "10m").start().await?;
    let shop = Shop::open(&host, "org-1", "etsy").await?;
    assert_eq!(host.get("/readyz").await?.status, 200);
    host.signal(Signal::TERM)?;
    let unready = || async {
        let answer = host.get("/readyz").await.ok()?;
        (answer.status == 503).then_some(answer)
    };
    let unready = eventually("it is not ready", PATIENCE, unready).await?;
    assert_eq!(unready.get("message"), "stopping");
    assert_eq!(host.get("/healthz").await?.status, 200);
    assert_eq!(shop.import(&host, "order-101").await?["success"], true);
    host.signal(Signal::TERM)?;
    assert_eq!(host.wait().await?.code(), Some(130), "a second signal");
    Ok(())
}

/// With no time-out of the host's own left, an answer within this time comes from the limit on readiness alone.
async fn readiness(host: &Host) -> Result<Answer> {
    Answer::to(host.request("GET", "/readyz").timeout(PATIENCE)).await
}

async fn readiness_is_answered_whatever_the_database_does(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let wire = match backend {
        Backend::Postgres => Some(Proxy::to(site.database().url()).await?),
        Backend::Embedded => None,
    };
    let mut builder = site
        .host()
        .env("DATABASE_ACQUIRE_TIMEOUT", "10m")
        .env("DATABASE_STATEMENT_TIMEOUT", "10m");
    if let Some(wire) = &wire {
        builder = builder.env("DATABASE_URL", wire.url());
    }
    let host = builder.start().await?;
    assert_eq!(readiness(&host).await?.status, 200);
    let ledger = Ledger::open(&site).await?;
    let held = match &wire {
        Some(wire) => {
            wire.stall();
            None
        }
        // Another process writes for a long time.
        None => Some(ledger.hold_the_writer().await?),
    };
    for _ in 0..3 {
        let answer = readiness(&host).await?;
        assert_eq!(
            (answer.status, answer.get("message")),
            (503, json!("the database does not answer"))
        );
    }
    assert_eq!(host.get("/healthz").await?.status, 200);
    drop(held);
    if let Some(wire) = &wire {
        wire.open();
    }
    let ready = || async {
        let answer = readiness(&host).await.ok()?;
        (answer.status == 200).then_some(())
    };
    eventually("it is ready again", PATIENCE, ready).await
}

async fn a_database_that_takes_no_writes_is_not_ready(backend: Backend) -> Result<()> {
    if backend == Backend::Embedded {
        // SQLite's own is above: its only writer is not to be had.
        return Ok(());
    }
    let site = Site::open(backend).await?;
    let host = site.host().start().await?;
    let ledger = Ledger::open(&site).await?;
    ledger.make_read_only().await?;
    site.database().terminate_connections().await?;
    let unready = || async {
        let answer = host.get("/readyz").await.ok()?;
        (answer.get("message") == "the database cannot be read and written").then_some(())
    };
    eventually("it is not ready", PATIENCE, unready).await
}

on_every_backend!(
    a_host_that_is_about_to_stop_serves_on,
    readiness_is_answered_whatever_the_database_does,
    a_database_that_takes_no_writes_is_not_ready,
);
