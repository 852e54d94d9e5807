//! An organization with a mountain of webhooks to dead receivers, and another one whose events must not wait for it.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use serde_json::json;
use tokio::net::TcpListener;
use wharf_tests::{Backend, Host, Ledger, Receiver, Shop, Site};

/// Due deliveries of the noisy one: half to a receiver that never answers, half to a port where nobody listens.
const MOUNTAIN: usize = 100_000;
const SHOPS: usize = 8;
const ROUNDS: usize = 8;
/// The aim is a second; a debug build on a busy machine gets more.
const P99: Duration = Duration::from_secs(3);

/// A receiver that takes connections and says nothing.
async fn silent() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", listener.local_addr()?);
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            kept.push(connection);
        }
    });
    Ok(url)
}

/// An address where nobody listens.
async fn closed() -> Result<String> {
    Ok(format!(
        "http://{}/",
        TcpListener::bind("127.0.0.1:0").await?.local_addr()?
    ))
}

async fn register(host: &Host, organization: &str, event: &str, url: &str) -> Result<String> {
    let endpoint = json!({"organizationId": organization, "event": event, "targetUrl": url});
    let answer = host.post("/webhooks/register", &endpoint).await?;
    answer
        .get("id")
        .as_str()
        .map(str::to_owned)
        .with_context(|| answer.text.clone())
}

/// Piles up due deliveries to an endpoint, set by set.
async fn pile_up(ledger: &Ledger, endpoint: &str, from: usize, to: usize) -> Result<()> {
    let id = |kind: &str| {
        format!("cast('{kind}0000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0') as uuid)")
    };
    let series = format!("generate_series({from}, {}) n", to - 1);
    let event = id("a");
    let rows = [
        format!(
            "insert into callback_outbox (id, organization_id, store_id, event, due_at)
             select {event}, 'noisy', {event}, 'sync.completed', null from {series}"
        ),
        format!(
            "insert into callback_messages (outbox_id, shaper, plugin_digest, content_type, headers, body)
             select {event}, 'standard', '', 'application/json', '[]', convert_to('{{}}', 'UTF8') from {series}"
        ),
        format!(
            "insert into callback_deliveries (id, outbox_id, endpoint_id, organization_id, shaper, due_at)
             select {}, {event}, '{endpoint}', 'noisy', 'standard', now() - interval '1 hour' from {series}",
            id("d")
        ),
    ];
    for statement in rows {
        ledger.execute(&statement).await?;
    }
    Ok(())
}

#[test]
fn a_quiet_organization_is_served_beside_a_noisy_one() -> Result<()> {
    wharf_tests::run(async {
        let site = Site::open(Backend::Postgres).await?;
        let api = site.host().role("api").role("sync-worker").start().await?;
        let ledger = Ledger::open(&site).await?;
        let halves = [
            (silent().await?, 0, MOUNTAIN / 2),
            (closed().await?, MOUNTAIN / 2, MOUNTAIN),
        ];
        for (url, from, to) in &halves {
            let endpoint = register(&api, "noisy", "sync.completed", url).await?;
            pile_up(&ledger, &endpoint, *from, *to).await?;
        }
        ledger.execute("analyze").await?;
        let receiver = Receiver::start().await?;
        for event in ["sync.started", "sync.failed"] {
            register(&api, "quiet", event, receiver.url()).await?;
        }
        let sender = site
            .host()
            .role("callback-worker")
            .role("callback-scheduler")
            .env("WEBHOOK_TIMEOUT", "1s");
        let sender = sender.start().await?;
        sender.logged_message("callback_delivery").await?;

        let shops = try_join_all((0..SHOPS).map(|number| {
            let mut registration = Shop::registration("quiet", "etsy");
            registration["externalStoreId"] = json!(format!("store-{number}"));
            let api = &api;
            async move { Shop::register(api, &registration).await }
        }));
        let shops = shops.await?;
        let mut delays = Vec::new();
        for round in 1..=ROUNDS {
            for shop in &shops {
                shop.import(&api, &format!("r-{round}-02")).await?;
                shop.request_sync(&api).await?;
            }
            receiver.wait_for(round * SHOPS * 2).await?;
        }
        let offset = SystemTime::now();
        let now = std::time::Instant::now();
        for request in receiver.requests() {
            let arrived = offset - now.duration_since(request.at);
            delays.push(
                arrived
                    .duration_since(told_at(&request.json())?)
                    .unwrap_or_default(),
            );
        }
        delays.sort();
        let p99 = delays[delays.len() * 99 / 100];
        let tried = ledger
            .row("select count(*) as number from callback_attempts")
            .await?;
        println!(
            "beside {MOUNTAIN} due deliveries to the dead ({} attempts made): {} events, median {:?}, p99 {p99:?}, most {:?}",
            tried["number"],
            delays.len(),
            delays[delays.len() / 2],
            delays[delays.len() - 1]
        );
        ensure!(p99 < P99, "p99 {p99:?}");
        let left = "select count(*) as number from callback_deliveries where organization_id = 'noisy' and state = 'pending'";
        ensure!(
            ledger.row(left).await?["number"] != 0,
            "the mountain was gone before the end"
        );
        Ok(())
    })
}

/// The event's own timestamp.
fn told_at(payload: &serde_json::Value) -> Result<SystemTime> {
    let text = payload["timestamp"].as_str().context("a timestamp")?;
    let at: jiff::Timestamp = text.parse()?;
    Ok(SystemTime::from(at))
}
