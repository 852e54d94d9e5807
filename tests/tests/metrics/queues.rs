//! The queues' depth and age, leases, and a database that does not answer.

use std::sync::Arc;

use anyhow::{Context, Result};
use axum::{Router, http::StatusCode};
use tokio::{net::TcpListener, sync::Semaphore};
use wharf_tests::{
    Backend, Ledger, PATIENCE, Proxy, Receiver, Scrape, Shop, Site, eventually, on_every_backend,
};

use super::{endpoint, start, until};

/// The queues are told by their depth and the age of what waits longest, whoever is asked.
async fn queues_have_depth_and_age(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let host = site.host().role("api").start().await?;
    let ledger = Ledger::open(&site).await?;
    let receiver = Receiver::start().await?;
    endpoint(&host, "org-1", receiver.url()).await?;
    let shop = Shop::open(&host, "org-1", "etsy").await?;
    shop.request_sync(&host).await?;
    let mut events = Vec::new();
    for _ in 0..3 {
        events.push(ledger.put_event("org-1", "sync.completed", "{}").await?);
    }
    let hour_ago = ledger.time(-3600);
    ledger
        .execute(&format!(
            "update callback_outbox set due_at = {hour_ago} where id = {}",
            ledger.id(&events[0])
        ))
        .await?;
    let scrape = until(
        host.base_url(),
        "wharf_queue_depth",
        &[("lane", "fan_out")],
        3.0,
    )
    .await?;
    let age = |scrape: &Scrape, lane| scrape.value("wharf_queue_oldest_seconds", &[("lane", lane)]);
    assert_eq!(scrape.value("wharf_queue_depth", &[("lane", "sync")]), 1.0);
    assert_eq!(
        scrape.value("wharf_queue_depth", &[("lane", "deliveries")]),
        0.0
    );
    assert!(
        (3600.0..3700.0).contains(&age(&scrape, "fan_out")),
        "{}",
        age(&scrape, "fan_out")
    );
    assert!(
        (0.0..60.0).contains(&age(&scrape, "sync")),
        "{}",
        age(&scrape, "sync")
    );
    assert_eq!(age(&scrape, "deliveries"), 0.0);

    // Deliveries that are due, and one that waits for its next attempt.
    let endpoint = ledger.row("select id from webhook_endpoints").await?;
    let endpoint = endpoint["id"].as_str().context("an id")?;
    for (event, due) in events.iter().zip([-600, -60, 600]) {
        let (id, due) = (ledger.id(event), ledger.time(due));
        let endpoint = ledger.id(endpoint);
        ledger
            .execute(&format!(
                "insert into callback_deliveries (id, outbox_id, endpoint_id, organization_id, shaper, due_at)
                 values ({id}, {id}, {endpoint}, 'org-1', 'standard', {due})"
            ))
            .await?;
    }
    let scrape = until(
        host.base_url(),
        "wharf_queue_depth",
        &[("lane", "deliveries")],
        2.0,
    )
    .await?;
    assert!(
        (600.0..700.0).contains(&age(&scrape, "deliveries")),
        "{}",
        age(&scrape, "deliveries")
    );
    Ok(())
}

/// A receiver that answers 200 as soon as it has permits, and counts who waits.
async fn held_receiver() -> Result<(String, Arc<Semaphore>, Arc<Semaphore>)> {
    let (permits, arrived) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", listener.local_addr()?);
    let (wait, tell) = (permits.clone(), arrived.clone());
    let router = Router::new().fallback(async move || {
        tell.add_permits(1);
        match wait.acquire().await {
            Ok(permit) => {
                permit.forget();
                StatusCode::OK
            }
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok((url, permits, arrived))
}

async fn leases_are_counted_and_stale_writes_refused(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let host = start(&site, &[("LEASE", "1s")]).await?;
    let (url, permits, arrived) = held_receiver().await?;
    endpoint(&host, "org-1", &url).await?;
    let ledger = Ledger::open(&site).await?;
    ledger.put_event("org-1", "sync.completed", "{}").await?;
    arrived.acquire().await?.forget();
    let deliveries: &[(&str, &str)] = &[("lane", "deliveries")];
    let renewed = || async {
        let scrape = host.scrape().await.ok()?;
        (scrape.value("wharf_leases_renewed_total", deliveries) >= 1.0).then_some(scrape)
    };
    let scrape = eventually("a lease is renewed", PATIENCE, renewed).await?;
    assert_eq!(scrape.value("wharf_leases_lost_total", deliveries), 0.0);
    // Somebody else takes the delivery over.
    ledger
        .execute("update callback_deliveries set fence = fence + 1")
        .await?;
    let lost = || async {
        let scrape = host.scrape().await.ok()?;
        (scrape.value("wharf_leases_lost_total", deliveries) >= 1.0).then_some(())
    };
    eventually("the lease is lost", PATIENCE, lost).await?;
    permits.add_permits(1);
    let scrape = until(
        host.base_url(),
        "wharf_stale_writes_refused_total",
        deliveries,
        1.0,
    )
    .await?;
    assert_eq!(
        scrape.value("wharf_deliveries_total", &[("outcome", "delivered")]),
        0.0
    );
    // The lease ends, and the delivery is made once more.
    permits.add_permits(1);
    let scrape = until(
        host.base_url(),
        "wharf_deliveries_total",
        &[("outcome", "delivered")],
        1.0,
    )
    .await?;
    assert_eq!(
        scrape.value("wharf_delivery_attempts_total", &[("outcome", "accepted")]),
        2.0
    );
    assert_eq!(
        scrape.value("wharf_stale_writes_refused_total", deliveries),
        1.0
    );
    Ok(())
}

on_every_backend!(
    queues_have_depth_and_age,
    leases_are_counted_and_stale_writes_refused,
);

/// A database that does not answer takes the figures of the queues along, and nothing else.
#[test]
fn without_its_database_a_host_still_tells_the_rest() -> Result<()> {
    wharf_tests::run(async {
        let site = Site::open(Backend::Postgres).await?;
        let proxy = Proxy::to(site.database().url()).await?;
        let host = start(&site, &[("DATABASE_URL", proxy.url())]).await?;
        let shop = Shop::open(&host, "org-1", "etsy").await?;
        shop.import(&host, "order-101").await?;
        assert_eq!(host.scrape().await?.value("wharf_database_up", &[]), 1.0);
        proxy.stall();
        let scrape = until(host.base_url(), "wharf_database_up", &[], 0.0).await?;
        assert!(
            scrape
                .value("wharf_queue_depth", &[("lane", "sync")])
                .is_nan(),
            "unknown is not empty"
        );
        assert_eq!(
            scrape.value("wharf_imports_total", &[("outcome", "imported")]),
            1.0
        );
        proxy.open();
        until(host.base_url(), "wharf_database_up", &[], 1.0).await?;
        Ok(())
    })
}
