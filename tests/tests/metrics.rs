//! What operators see at `/metrics`: exact counts, bounded labels, in every process.

use std::{collections::BTreeMap, fs, sync::Arc};

use anyhow::{Context, Result, ensure};
use axum::{Router, http::StatusCode};
use serde_json::json;
use tokio::{net::TcpListener, sync::Semaphore};
use wharf_tests::{
    Answer, Backend, Host, Ledger, PATIENCE, Proxy, Receiver, Scrape, Shop, Site, client,
    eventually, on_every_backend, repository,
};

/// No scheduler of syncs: the tests say when one runs.
const ROLES: [&str; 4] = [
    "api",
    "sync-worker",
    "callback-worker",
    "callback-scheduler",
];

async fn start(site: &Arc<Site>, settings: &[(&str, &str)]) -> Result<Host> {
    let host = ROLES
        .into_iter()
        .fold(site.host(), |host, role| host.role(role));
    settings
        .iter()
        .fold(host, |host, (name, value)| host.env(name, value))
        .start()
        .await
}

async fn endpoint(host: &Host, organization: &str, url: &str) -> Result<()> {
    let body = json!({"organizationId": organization, "event": "sync.completed", "targetUrl": url});
    let answer = host.post("/webhooks/register", &body).await?;
    ensure!(answer.status == 200, "{}", answer.text);
    Ok(())
}

/// Scrapes until a series has this value.
async fn until(base: &str, name: &str, labels: &[(&str, &str)], value: f64) -> Result<Scrape> {
    let look = || async {
        Scrape::from(base)
            .await
            .ok()
            .filter(|scrape| scrape.value(name, labels) == value)
    };
    match eventually(&format!("{name} {labels:?} is {value}"), PATIENCE, look).await {
        Ok(scrape) => Ok(scrape),
        Err(error) => {
            Err(error.context(format!("{:#?}", Scrape::from(base).await?.series_of(name))))
        }
    }
}

/// All series of a metric with one label, by its value; those that are 0 left out.
fn by(scrape: &Scrape, name: &str, label: &str) -> BTreeMap<String, f64> {
    let series = scrape
        .series_of(name)
        .into_iter()
        .filter(|(_, value)| *value != 0.0);
    series
        .map(|(labels, value)| (labels[label].clone(), value))
        .collect()
}

fn counts<const N: usize>(expected: [(&str, f64); N]) -> BTreeMap<String, f64> {
    expected
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// Imports of every outcome, one sync run, and deliveries that end in every way.
async fn work(host: &Host) -> Result<Vec<Receiver>> {
    let mut receivers = Vec::new();
    for status in [200, 500, 410] {
        let receiver = Receiver::start().await?;
        receiver.answer_status(status);
        endpoint(host, "org-1", receiver.url()).await?;
        receivers.push(receiver);
    }
    endpoint(host, "org-1", "http://127.0.0.1:1/nobody-listens").await?;
    let shop = Shop::open(host, "org-1", "etsy").await?;
    for receipt in ["order-101", "order-101", "order-102", "order-106"] {
        shop.import(host, receipt).await?;
    }
    let unknown =
        json!({"syncToken": "00000000-0000-4000-8000-000000000000", "receipt": "order-101"});
    ensure!(
        host.post("/orders/import", &unknown).await?.status == 404,
        "no such store"
    );
    shop.request_sync(host).await?;
    Ok(receivers)
}

async fn counts_are_exact(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let host = start(&site, &[("WEBHOOK_RETRY", "200ms")]).await?;
    let _receivers = work(&host).await?;
    ensure!(
        host.get("/no/such/path?token=secret").await?.status == 404,
        "no route"
    );
    ensure!(
        Answer::to(host.request("BREW", "/stores/register"))
            .await?
            .status
            == 405,
        "no method"
    );
    until(
        host.base_url(),
        "wharf_deliveries_total",
        &[("outcome", "dead")],
        3.0,
    )
    .await?;
    let scrape = until(
        host.base_url(),
        "wharf_sync_jobs_total",
        &[("outcome", "finished")],
        1.0,
    )
    .await?;

    let imports = [
        ("imported", 1.0),
        ("invalid_receipt", 1.0),
        ("rate_limited", 1.0),
        ("repeated", 1.0),
        ("store_not_found", 1.0),
    ];
    assert_eq!(
        by(&scrape, "wharf_imports_total", "outcome"),
        counts(imports)
    );
    assert_eq!(
        scrape.value("wharf_import_duration_seconds_count", &[]),
        3.0
    );
    assert_eq!(
        by(&scrape, "wharf_sync_runs_total", "outcome"),
        counts([("completed", 1.0)])
    );
    assert_eq!(
        by(&scrape, "wharf_sync_receipts_total", "outcome"),
        counts([("failed", 1.0)])
    );
    assert_eq!(
        by(&scrape, "wharf_sync_jobs_total", "outcome"),
        counts([("finished", 1.0)])
    );
    let call = |plugin| {
        scrape.value(
            "wharf_plugin_calls_total",
            &[("plugin", plugin), ("outcome", "answered")],
        )
    };
    assert_eq!(
        (call("etsy"), call("standard-payload")),
        (4.0, 1.0),
        "three imports and a sync; one event"
    );
    assert_eq!(
        scrape.value(
            "wharf_plugin_call_duration_seconds_count",
            &[("plugin", "etsy")]
        ),
        4.0
    );
    assert_eq!(
        by(&scrape, "wharf_events_total", "outcome"),
        counts([("fanned_out", 2.0)])
    );
    let became = [("delivered", 1.0), ("retry", 2.0), ("dead", 3.0)];
    assert_eq!(
        by(&scrape, "wharf_deliveries_total", "outcome"),
        counts(became)
    );
    let attempts = [
        ("accepted", 1.0),
        ("rejected", 2.0),
        ("gone", 1.0),
        ("no_answer", 2.0),
    ];
    assert_eq!(
        by(&scrape, "wharf_delivery_attempts_total", "outcome"),
        counts(attempts)
    );
    assert_eq!(
        scrape.value("wharf_delivery_attempt_duration_seconds_count", &[]),
        6.0
    );
    assert_eq!(scrape.value("wharf_delivery_retries_total", &[]), 2.0);
    assert_eq!(
        by(&scrape, "wharf_dead_letters_total", "reason"),
        counts([("exhausted", 2.0), ("gone", 1.0)])
    );

    let request = |route, method, status| {
        scrape.value(
            "wharf_http_requests_total",
            &[("route", route), ("method", method), ("status", status)],
        )
    };
    assert_eq!(request("/orders/import", "POST", "2xx"), 4.0);
    assert_eq!(request("/orders/import", "POST", "4xx"), 1.0);
    assert_eq!(request("/webhooks/register", "POST", "2xx"), 4.0);
    assert_eq!(request("/stores/register", "other", "4xx"), 1.0);
    assert_eq!(request("(none)", "GET", "4xx"), 1.0);
    assert_eq!(
        scrape.value(
            "wharf_http_request_duration_seconds_count",
            &[("route", "/orders/import")]
        ),
        5.0
    );

    assert_eq!(scrape.value("wharf_database_up", &[]), 1.0);
    for lane in ["sync", "fan_out", "deliveries"] {
        let at = &[("lane", lane)];
        until(host.base_url(), "wharf_queue_depth", at, 0.0).await?;
        assert_eq!(scrape.value("wharf_stale_writes_refused_total", at), 0.0);
    }
    let pools = by(&scrape, "wharf_database_connections_max", "pool");
    let expected = match backend {
        Backend::Embedded => counts([("writer", 1.0), ("readers", 16.0)]),
        Backend::Postgres => counts([("shared", 16.0)]),
    };
    assert_eq!(pools, expected);
    let open: f64 = scrape
        .series_of("wharf_database_connections")
        .iter()
        .map(|(_, number)| number)
        .sum();
    assert!((1.0..=17.0).contains(&open), "{open}");
    the_documentation_lists(&scrape)
}

/// docs/observability.md has a row for every metric: name, type, labels and the very help text; and none besides.
fn the_documentation_lists(scrape: &Scrape) -> Result<()> {
    let text = fs::read_to_string(repository().join("docs/observability.md"))?;
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| `wharf_"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    let mut listed = BTreeMap::new();
    for row in &rows {
        let [name, kind, labels, help] = row[..] else {
            anyhow::bail!("not four columns: {row:?}")
        };
        let labels: Vec<&str> = labels
            .split(", ")
            .map(|label| label.trim_matches('`'))
            .collect();
        listed.insert(name.trim_matches('`'), (kind, labels, help));
    }
    let names: Vec<&str> = scrape.families.keys().map(String::as_str).collect();
    assert_eq!(listed.keys().copied().collect::<Vec<_>>(), names);
    for (name, family) in &scrape.families {
        let (kind, labels, help) = &listed[name.as_str()];
        assert_eq!(
            (*kind, *help),
            (family.kind.as_str(), family.help.as_str()),
            "{name}"
        );
        let sample = if family.kind == "histogram" {
            format!("{name}_count")
        } else {
            name.clone()
        };
        for (its, _) in scrape.series_of(&sample) {
            let its: Vec<&str> = its.keys().map(String::as_str).collect();
            let mut expected = labels.clone();
            expected.retain(|label| !label.is_empty());
            expected.sort_unstable();
            assert_eq!(its, expected, "{name}");
        }
    }
    Ok(())
}

/// After a hundred stores, endpoints and odd requests there is not one series more.
async fn labels_stay_bounded(backend: Backend) -> Result<()> {
    const MANY: usize = 100;
    let site = Site::open(backend).await?;
    let host = start(&site, &[]).await?;
    let receiver = Receiver::start().await?;
    let round = async |number: usize| -> Result<()> {
        let organization = format!("org-{number}");
        endpoint(
            &host,
            &organization,
            &format!("{}/{number}", receiver.url()),
        )
        .await?;
        let shop = Shop::open(&host, &organization, "etsy").await?;
        for receipt in ["order-101", "order-102"] {
            shop.import(&host, receipt).await?;
        }
        ensure!(
            host.get(&format!("/webhooks?organizationId={organization}"))
                .await?
                .status
                == 200,
            "listed"
        );
        ensure!(
            host.get(&format!("/nothing/{number}")).await?.status == 404,
            "no route"
        );
        ensure!(
            host.get(&format!("/admin/plugins/plugin-{number}"))
                .await?
                .status
                >= 400,
            "no token"
        );
        let mock = host.request("POST", &format!("/mock/market-{number}/validate"));
        ensure!(Answer::to(mock).await?.status >= 400, "no such marketplace");
        let odd = Answer::to(host.request(&format!("ODD{number}"), "/healthz")).await?;
        ensure!(odd.status == 405, "no method");
        shop.request_sync(&host).await.map(drop)
    };
    // The second scrape counts the first.
    host.scrape().await?;
    round(0).await?;
    let delivered: &[(&str, &str)] = &[("outcome", "delivered")];
    let before = until(host.base_url(), "wharf_deliveries_total", delivered, 1.0).await?;
    for number in 1..=MANY {
        round(number).await?;
    }
    let after = until(
        host.base_url(),
        "wharf_deliveries_total",
        delivered,
        1.0 + MANY as f64,
    )
    .await?;
    assert_eq!(after.series(), before.series());
    assert_eq!(
        after.value("wharf_imports_total", &[("outcome", "imported")]),
        1.0 + MANY as f64
    );
    Ok(())
}

/// Workers and schedulers have no API, and are scraped and checked all the same.
async fn every_process_is_scrapable(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let set = |host: wharf_tests::HostBuilder| host.env("METRICS_ADDR", "127.0.0.1:0");
    let api = set(site.host().role("api")).start().await?;
    assert_eq!(
        api.get("/metrics").await?.status,
        404,
        "it has an address of its own"
    );
    assert_eq!(api.get("/healthz").await?.status, 200);
    let shop = Shop::open(&api, "org-1", "etsy").await?;
    shop.import(&api, "order-102").await?;
    let told = Scrape::from(&api.metrics_url().await?).await?;
    assert_eq!(
        told.value("wharf_imports_total", &[("outcome", "invalid_receipt")]),
        1.0
    );
    let ledger = Ledger::open(&site).await?;
    if backend == Backend::Embedded {
        // One process at a time has an embedded database.
        drop(api);
    }
    let mut workers = vec![site.host().role("callback-scheduler")];
    if backend == Backend::Postgres {
        let commands: [&[&str]; 3] = [
            &["worker", "sync"],
            &["worker", "callback"],
            &["scheduler", "sync", "--loop"],
        ];
        workers.extend(commands.map(|command| site.host().command(command)));
    }
    ledger.put_event("org-1", "sync.completed", "{}").await?;
    for builder in workers {
        let mut worker = set(builder).start().await?;
        let url = worker.metrics_url().await?;
        for (path, status) in [
            ("/healthz", 200),
            ("/readyz", 200),
            ("/stores/sync-status", 404),
            ("/", 404),
        ] {
            let answer = Answer::to(client().get(format!("{url}{path}"))).await?;
            assert_eq!(answer.status, status, "{path} {}", answer.text);
        }
        let scrape = Scrape::from(&url).await?;
        assert_eq!(scrape.value("wharf_database_up", &[]), 1.0);
        assert_eq!(
            scrape.value("wharf_imports_total", &[("outcome", "invalid_receipt")]),
            0.0,
            "another's"
        );
        let lines = worker.log();
        assert!(
            lines.iter().all(|line| line.message() != "answered"),
            "scrapes are not logged"
        );
        assert!(worker.stop().await?.success(), "{}", worker.logged());
    }
    Ok(())
}

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
    counts_are_exact,
    labels_stay_bounded,
    every_process_is_scrapable,
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
