//! Orders that a marketplace knows by several receipts.

use anyhow::Result;
use futures::future::try_join_all;
use wharf_domain::{Amount, Answer, Order, Receipt, StoreId, SyncStatus, SyncToken};
use wharf_store::{
    logs::{self, NewLog, SettledLog},
    stores,
};
use wharf_tests::{Backend, on_every_backend};

use crate::{
    fixture::{Fixture, NOW, SECOND, accepted, judged},
    logs::run,
};

/// A receipt that the marketplace takes for this order, at this price.
fn receipt_of(store: StoreId, receipt: &str, order: &str, amount: &str) -> NewLog {
    let mut log = judged(store, receipt, accepted(), NOW);
    let judged = log.state.order.take().expect("an order");
    log.state.order = Some(Order {
        id: order.into(),
        amount: Amount::parse(amount).expect("an amount"),
        ..judged
    });
    log
}

/// Tells the store's counter, and how many logs have their order from another.
async fn orders_of(ledger: &Fixture, token: SyncToken) -> Result<(i64, i64)> {
    let report = stores::report(&mut ledger.conn().await?, token).await?;
    let duplicates = "select count(*) from sync_logs where duplicate_of is not null";
    let imported = report.expect("a report").imported_orders;
    Ok((imported, ledger.number(duplicates).await?))
}

/// A marketplace that knows one order by several receipts: the first is told of, and counts, whoever comes at once.
async fn an_order_of_two_receipts_is_one_order(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let (store, token) = ledger.register("org", "shop").await?;
    let (other, other_token) = ledger.register("org", "other").await?;
    let first = ledger
        .record(&[receipt_of(store, "3000000001", "o-1", "10.00")])
        .await?;
    // In the same batch: one more of that order, one of another store, and a new order three times.
    let batch = [
        receipt_of(store, "03000000001", "o-1", "99.00"),
        receipt_of(other, "3000000001", "o-1", "20.00"),
        receipt_of(store, "2", "o-2", "2.00"),
        receipt_of(store, "02", "o-2", "3.00"),
        receipt_of(store, "002", "o-2", "4.00"),
    ];
    let results = ledger.record(&batch).await?;
    assert_eq!(results[0], first[0], "told of as the first");
    assert_ne!(results[1], first[0], "another store's is another");
    assert_eq!((&results[3], &results[4]), (&results[2], &results[2]));
    assert_eq!(orders_of(&ledger, token).await?, (2, 3));
    assert_eq!(orders_of(&ledger, other_token).await?.0, 1);
    let receipt = Receipt::parse("03000000001")?;
    let again = logs::look_up(&mut ledger.conn().await?, token, &receipt).await?;
    assert_eq!(again.expect("a store").1.as_ref(), Some(&first[0]));

    let rivals = try_join_all((0..16).map(|n| {
        let (ledger, receipt) = (&ledger, format!("r-{n}"));
        async move {
            let log = receipt_of(store, &receipt, "o-3", &format!("{n}.00"));
            ledger.record(&[log]).await
        }
    }))
    .await?;
    assert!(rivals.iter().all(|rival| rival == &rivals[0]), "{rivals:?}");
    assert_eq!(orders_of(&ledger, token).await?, (3, 18));
    Ok(())
}

/// The same where a sync run finds it out, for a receipt that was rate-limited and for two of one chunk.
async fn a_run_counts_an_order_once(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let (store, token) = ledger.register("org", "shop").await?;
    let limited = |receipt| judged(store, receipt, Answer::RateLimited(None), NOW);
    let logs = [
        receipt_of(store, "a", "o-1", "1.00"),
        limited("b"),
        limited("c"),
        limited("d"),
    ];
    ledger.record(&logs).await?;
    let later = NOW + SECOND * 3_600;
    let due = logs::due(&mut ledger.conn().await?, store, later, 10).await?;
    let settled: Vec<SettledLog> = due
        .into_iter()
        .zip(["o-1", "o-2", "o-2"])
        .map(|(log, order)| SettledLog {
            state: receipt_of(store, "x", order, "7.00").state,
            log,
            plugin_digest: None,
        })
        .collect();
    let mut tx = ledger.begin().await?;
    let status = logs::settle(&mut tx, store, &settled, &run(), later)
        .await?
        .status;
    tx.commit().await?;
    assert_eq!(status, SyncStatus::Success);
    assert_eq!(orders_of(&ledger, token).await?, (2, 2));
    let report = stores::report(&mut ledger.conn().await?, token).await?;
    assert_eq!(report.expect("a report").rate_limited_count, 0);
    let told = "select count(*) from sync_logs where receipt <> 'a' and sync_request_id = 'run-1'
        and amount is not null";
    assert_eq!(ledger.number(told).await?, 3);
    Ok(())
}

on_every_backend!(
    an_order_of_two_receipts_is_one_order,
    a_run_counts_an_order_once,
);
