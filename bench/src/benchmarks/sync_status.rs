//! The status of a store with many logs, beside that of one with few.

use anyhow::Result;

use super::{CLIENTS, shares};
use crate::{
    load::{self, Load},
    report::{Direction, Figure},
    rounds::{Pairs, Plan},
    site::{STORE_ID, Site, sync_token},
    wharf::Process,
};

const FEW: (usize, usize) = (1, 100);
const MANY: (usize, usize) = (2, 100_000);

pub(crate) async fn run(plan: &Plan) -> Result<Vec<Figure>> {
    let site = Site::open("status").await?;
    site.register_stores(2).await?;
    for (store, logs) in [FEW, MANY] {
        fill(&site, store, logs).await?;
    }
    site.run("analyze").await?;
    let wharf = Process::wharf(&site, &["serve", "--role", "api"]).await?;
    let mut pairs = Pairs::default();
    let mut note = String::new();
    for _ in 0..plan.rounds {
        let before = wharf.cpu()?;
        let many = ask(plan, &wharf, MANY).await?;
        note = shares(&many, wharf.cpu()? - before);
        pairs.push(many.rate, ask(plan, &wharf, FEW).await?.rate);
    }
    let direction = Direction::RatioAtLeast(0.9);
    Ok(vec![
        Figure::beside(
            "sync-status",
            &pairs,
            "requests/s",
            "with 100 logs",
            direction,
        )
        .with_note(note),
    ])
}

async fn fill(site: &Site, store: usize, logs: usize) -> Result<()> {
    site.run(&format!(
        "insert into sync_logs (store_id, receipt, status, attempt, order_id, amount, currency, imported_at)
         select '{STORE_ID}{store:012}', 'r-' || n, 'success', 1, 'order-' || n, 99.99, 'USD', now()
         from generate_series(1, {logs}) n;
         update stores set imported_orders = {logs}, sync_status = 'success' where id = '{STORE_ID}{store:012}'"
    ))
    .await
}

async fn ask(plan: &Plan, wharf: &Process, (store, logs): (usize, usize)) -> Result<Load> {
    let path = format!("/stores/sync-status?syncToken={}", sync_token(store).0);
    let expected = format!("\"importedOrders\":{logs},");
    load::drive(
        wharf.address()?,
        CLIENTS,
        plan.turn,
        (200, &expected),
        |request| load::get(request, &path),
    )
    .await
}
