//! `/metrics`: exact counts, bounded labels, in every process.

mod counts;
mod queues;

use std::sync::Arc;

use anyhow::{Result, ensure};
use serde_json::json;
use wharf_tests::{
    Answer, Backend, Host, Ledger, PATIENCE, Receiver, Scrape, Shop, Site, client, eventually,
    on_every_backend,
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

on_every_backend!(labels_stay_bounded, every_process_is_scrapable);
