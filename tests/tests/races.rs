//! Many at once on the same thing, over several processes: exact counts.

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use serde_json::{Value, json};
use wharf_tests::{Backend, Ledger, Shop, Site};

const CLIENTS: usize = 32;

#[test]
fn clients_import_the_same_receipts() -> Result<()> {
    wharf_tests::run(async {
        const RECEIPTS: usize = 24;
        let site = Site::open(Backend::Postgres).await?;
        let hosts = try_join_all((0..2).map(|_| site.host().role("api").start())).await?;
        let shop = Shop::open(&hosts[0], "org", "etsy").await?;
        let imports = (0..CLIENTS).map(|client| {
            let (shop, host) = (&shop, &hosts[client % hosts.len()]);
            async move {
                let mut answers = Vec::new();
                for number in 0..RECEIPTS {
                    // Every third is refused, every third rate-limited.
                    answers.push(
                        shop.import(
                            host,
                            &format!("r-{number}-{}", ["01", "02", "15"][number % 3]),
                        )
                        .await?,
                    );
                }
                anyhow::Ok(answers)
            }
        });
        let answers: Vec<Vec<Value>> = try_join_all(imports).await?;
        assert!(
            answers.iter().all(|answer| answer == &answers[0]),
            "one receipt, one result"
        );
        for host in &hosts {
            let status = shop.status(host).await?;
            assert_eq!(status["importedOrders"], RECEIPTS / 3, "{status}");
            assert_eq!(status["rateLimitedCount"], RECEIPTS / 3, "{status}");
        }
        let ledger = Ledger::open(&site).await?;
        let logs = ledger
            .row("select count(*) as logs, sum(attempt) as asked from sync_logs")
            .await?;
        assert_eq!(logs, json!({"logs": RECEIPTS, "asked": RECEIPTS}));
        Ok(())
    })
}

#[test]
fn clients_register_the_same_store() -> Result<()> {
    wharf_tests::run(async {
        let site = Site::open(Backend::Postgres).await?;
        let hosts = try_join_all((0..2).map(|_| site.host().role("api").start())).await?;
        let endpoint = json!({"organizationId": "org", "event": "sync.failed", "targetUrl": "http://127.0.0.1:9/"});
        let registrations = (0..CLIENTS).map(|client| {
            let (host, endpoint) = (&hosts[client % hosts.len()], &endpoint);
            async move {
                let answer = host.post("/webhooks/register", endpoint).await?;
                ensure!(answer.status == 200, "{} {}", answer.status, answer.text);
                let told_the_secret = answer.get("secret").is_string();
                Ok((
                    Shop::open(host, "org", "etsy").await?,
                    answer.get("id"),
                    told_the_secret,
                ))
            }
        });
        let registered = try_join_all(registrations).await?;
        assert!(
            registered
                .iter()
                .all(|(shop, id, _)| (shop, id) == (&registered[0].0, &registered[0].1))
        );
        assert_eq!(
            registered.iter().filter(|(_, _, told)| *told).count(),
            1,
            "the secret is shown once"
        );
        let ledger = Ledger::open(&site).await?;
        let counts = "select (select count(*) from stores) as stores, (select count(*) from webhook_endpoints) as hooks";
        assert_eq!(ledger.row(counts).await?, json!({"stores": 1, "hooks": 1}));
        Ok(())
    })
}

#[test]
fn schedulers_and_workers_share_one_store() -> Result<()> {
    wharf_tests::run(async {
        const LOGS: usize = 1_500;
        let site = Site::open(Backend::Postgres).await?;
        let api = site.host().role("api").start().await?;
        let shop = Shop::open(&api, "org", "etsy").await?;
        let ledger = Ledger::open(&site).await?;
        let fill = format!(
            "insert into sync_logs (store_id, receipt, created_at) select {}, 'r-' || n || '-01',
                {} from generate_series(1, {LOGS}) n",
            ledger.id(&shop.store_id),
            ledger.time(-60)
        );
        ledger.execute(&fill).await?;
        let crews = (0..8).map(|_| {
            let crew = site.host().role("sync-scheduler").role("sync-worker");
            crew.env("SYNC_CHUNK_SIZE", "20")
                .env("DATABASE_POOL", "4")
                .start()
        });
        let mut crews = try_join_all(crews).await?;
        ledger
            .wait_for("select * from stores where imported_orders >= 1500")
            .await?;
        ledger
            .wait_for("select * from sync_jobs where state = 'idle'")
            .await?;
        let asked =
            "select count(*) as logs, min(attempt) as least, max(attempt) as most from sync_logs";
        assert_eq!(
            ledger.row(asked).await?,
            json!({"logs": LOGS, "least": 1, "most": 1}),
            "each was asked about once"
        );
        assert_eq!(shop.status(&api).await?["importedOrders"], LOGS);
        let events = ledger
            .rows("select event, payload from callback_outbox")
            .await?;
        let began = events
            .iter()
            .filter(|row| row["event"] == "sync.started")
            .count();
        let ended: Vec<u64> = events
            .iter()
            .filter(|row| row["event"] == "sync.completed")
            .map(|row| {
                row["payload"]["processedCount"]
                    .as_u64()
                    .unwrap_or_default()
            })
            .collect();
        assert_eq!(
            (began, ended.iter().sum::<u64>()),
            (ended.len(), LOGS as u64),
            "{ended:?}"
        );
        println!("{LOGS} logs in {began} runs by 8 workers: {ended:?}");
        let took_part = crews
            .iter()
            .filter(|crew| crew.logged().contains("sync_store_batch"))
            .count();
        println!("{took_part} of 8 workers took part");
        for crew in &mut crews {
            ensure!(crew.stop().await?.success());
        }
        Ok(())
    })
}
