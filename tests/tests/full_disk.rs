//! A full disk under the embedded database: the host says so while it lasts, and goes on by itself when there is room.

use anyhow::{Result, ensure};
use wharf_tests::{Answer, Backend, Host, PATIENCE, Shop, Site, eventually};

/// Imports that meet the full disk, in every state that the writer can be left in.
const IMPORTS: usize = 5;

async fn wait_for_status(host: &Host, path: &str, status: u16) -> Result<()> {
    let what = format!("{path} answers {status}");
    eventually(&what, PATIENCE, async || {
        let answer = host.get(path).await.ok()?;
        (answer.status == status).then_some(())
    })
    .await
}

/// PostgreSQL keeps its files elsewhere; what is tried here is the driver of SQLite.
#[test]
fn a_full_disk_refuses_imports_until_there_is_room() -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(fill_and_free())
}

async fn fill_and_free() -> Result<()> {
    let site = Site::open(Backend::Embedded).await?;
    let host = site.host().survive_file_limits().start().await?;
    let shop = Shop::open(&host, "org", "etsy").await?;
    ensure!(shop.try_import(&host, "order-101").await?.status == 200);

    for round in 0..3 {
        // Imports under way when it fills, too: they fail in the middle of a transaction.
        let imports = |from: usize| (from..from + IMPORTS).map(|n| format!("order-{round}{n}-101"));
        let under_way = imports(0).map(|receipt| {
            let (host, shop) = (&host, &shop);
            async move { shop.try_import(host, &receipt).await }
        });
        host.limit_files(Some(0))?;
        let answers: Vec<Answer> = futures::future::try_join_all(under_way).await?;
        for answer in answers {
            ensure!(answer.status == 503, "{answer:?}");
        }
        for receipt in imports(IMPORTS) {
            let answer = shop.try_import(&host, &receipt).await?;
            ensure!(answer.status == 503, "{answer:?}");
        }
        wait_for_status(&host, "/readyz", 503).await?;
        let known = shop.try_import(&host, "order-101").await?;
        ensure!(known.status == 200, "what is stored is answered: {known:?}");

        host.limit_files(None)?;
        wait_for_status(&host, "/readyz", 200).await?;
        for receipt in imports(0).chain(imports(IMPORTS)) {
            let answer = shop.try_import(&host, &receipt).await?;
            ensure!(answer.status == 200, "{receipt}: {answer:?}");
        }
    }
    let imported = shop.status(&host).await?["importedOrders"].clone();
    ensure!(imported == 1 + 3 * 2 * IMPORTS, "{imported}");
    Ok(())
}
