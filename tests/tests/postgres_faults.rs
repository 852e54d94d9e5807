//! A PostgreSQL that ends connections, is out of reach, stalls, or has no connection left: nothing is lost, and clients
//! are told 503 with Retry-After, which is safe to repeat. The load's own clients check both (`Traffic`).

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::{StreamExt, future::try_join_all, stream::FuturesUnordered};
use tokio::time::interval;
use wharf_tests::{
    Answer, Backend, Host, HostBuilder, PATIENCE, Proxy, Shop, Site, Traffic, eventually,
    fault_lasts,
};

const CLIENTS: usize = 4;

fn patient(host: HostBuilder) -> HostBuilder {
    host.env("LEASE", "1s")
        .env("WEBHOOK_RETRY", "1s,1s,1s,1s,1s,1s,1s,1s,1s,1s")
        .env("DATABASE_ACQUIRE_TIMEOUT", "1s")
        .env("LOG_LEVEL", "warn,wharf=info,wharf_app=info")
}

#[test]
fn connections_end_again_and_again() -> Result<()> {
    wharf_tests::run(async {
        let site = Site::open(Backend::Postgres).await?;
        let one = patient(site.host()).start().await?;
        let two = patient(site.host()).start().await?;
        let traffic = Traffic::open(&one, fastrand::u64(..)).await?;
        traffic.ask(&[one.base_url(), two.base_url()]);
        let load = traffic.start(CLIENTS);
        let mut pace = interval(Duration::from_millis(100));
        for _ in 0..50 {
            pace.tick().await;
            site.database().terminate_connections().await?;
        }
        let over = Instant::now();
        traffic.goes_on(40).await?;
        traffic.settle_down(load).await?;
        println!("all work was done {:?} after the last time", over.elapsed());
        let account = traffic.audit().await?;
        println!("all connections ended 50 times: {account}");
        ensure!(
            account.troubles.1 == 0,
            "an API process broke a client's connection"
        );
        Ok(())
    })
}

#[test]
fn the_database_stalls_and_is_out_of_reach() -> Result<()> {
    wharf_tests::run(async {
        let site = Site::open(Backend::Postgres).await?;
        let wire = Proxy::to(site.database().url()).await?;
        let host = patient(site.host())
            .env("DATABASE_URL", wire.url())
            .start()
            .await?;
        let traffic = Traffic::open(&host, fastrand::u64(..)).await?;
        let load = traffic.start(CLIENTS);
        let shop = &traffic.shops()[0];

        wire.stall();
        fault_lasts(Duration::from_secs(2)).await;
        wire.open();
        let stalled = back_after(&host, shop, "stall-01").await?;

        wire.cut();
        let unready = || async {
            host.get("/readyz")
                .await
                .ok()
                .filter(|answer| answer.status == 503)
        };
        eventually("the host is not ready", PATIENCE, unready).await?;
        let refused = shop.try_import(&host, "cut-01").await?;
        assert_eq!(
            (refused.status, refused.header("retry-after")),
            (503, "1"),
            "{}",
            refused.text
        );
        fault_lasts(Duration::from_secs(3)).await;
        wire.open();
        let cut = back_after(&host, shop, "cut-01").await?;
        traffic.goes_on(40).await?;
        traffic.settle_down(load).await?;
        println!(
            "back {stalled:?} after a stall of 2 s, {cut:?} after 3 s out of reach: {}",
            traffic.audit().await?
        );
        Ok(())
    })
}

/// Measures the time until an import is answered with 200.
async fn back_after(host: &Host, shop: &Shop, receipt: &str) -> Result<Duration> {
    let over = Instant::now();
    let imported = || async {
        shop.try_import(host, receipt)
            .await
            .ok()
            .filter(|answer| answer.status == 200)
    };
    eventually("imports work again", PATIENCE, imported).await?;
    Ok(over.elapsed())
}

async fn import(shop: &Shop, host: &Host, number: usize) -> Result<Answer> {
    shop.try_import(host, &format!("r-{number}-01")).await
}

#[test]
fn no_connection_is_left() -> Result<()> {
    wharf_tests::run(async {
        let site = Site::open(Backend::Postgres).await?;
        let small = site
            .host()
            .env("DATABASE_POOL", "2")
            .env("DATABASE_ACQUIRE_TIMEOUT", "300ms");
        let host = small.start().await?;
        let shop = Shop::open(&host, "org", "etsy").await?;
        let pool = site.database().pool().await?;
        let mut holding = pool.begin().await?;
        sqlx::query("select id from stores order by id for no key update")
            .execute(&mut *holding)
            .await?;
        // Registering again writes the row that is held: two of these use up the pool.
        let registration = Shop::registration("org", "etsy");
        let stuck = async {
            try_join_all((0..4).map(|_| host.post("/stores/register", &registration))).await
        };
        let imports = async {
            let mut imports: FuturesUnordered<_> =
                (0..32).map(|n| import(&shop, &host, n)).collect();
            let (mut holding, mut refused) = (Some(holding), 0);
            while let Some(answer) = imports.next().await {
                let answer = answer?;
                if answer.status == 503 && answer.header("retry-after") == "1" {
                    refused += 1;
                    if let Some(transaction) = holding.take() {
                        transaction.rollback().await?;
                    }
                } else {
                    ensure!(answer.status == 200, "{} {}", answer.status, answer.text);
                }
            }
            anyhow::Ok(refused)
        };
        let (stuck, refused) = tokio::join!(stuck, imports);
        println!("{} of 32 imports were told to come back", refused?);
        for answer in stuck? {
            ensure!(
                answer.status == 200 || answer.status == 503,
                "{} {}",
                answer.status,
                answer.text
            );
        }
        for n in 0..32 {
            ensure!(import(&shop, &host, n).await?.get("success") == true);
        }
        assert_eq!(
            shop.status(&host).await?["importedOrders"],
            32,
            "repeating was safe"
        );
        Ok(())
    })
}
