//! Logs: receipts count once and settle once.

use std::time::Duration;

use anyhow::Result;
use futures::future::try_join_all;
use wharf_domain::{Answer, ImportResult, LogStatus, Receipt, RequestId, SyncStatus, next_state};
use wharf_store::{
    logs::{self, SettledLog},
    stores::{self, Cursor},
};
use wharf_tests::{Backend, on_every_backend};

use crate::fixture::{Fixture, NOW, SECOND, accepted, judged};

/// The request of a sync run.
pub(crate) fn run() -> RequestId {
    RequestId::from_stored("run-1".into())
}

/// Many writers, the same receipts of the same stores in different orders: every receipt counts once, everybody is
/// told the same, nobody deadlocks.
async fn imports_count_once_under_contention(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let mut registered = Vec::new();
    for n in 0..5 {
        registered.push(ledger.register("org", &format!("shop-{n}")).await?);
    }
    let writers = (0..16).map(|writer| {
        let (ledger, registered) = (&ledger, &registered);
        async move {
            let mut batch = Vec::new();
            for receipt in 0..20 {
                for (store, _) in registered {
                    let answer = if receipt % 2 == 0 {
                        accepted()
                    } else {
                        Answer::RateLimited(None)
                    };
                    batch.push(judged(*store, &format!("r-{receipt}"), answer, NOW));
                }
            }
            if writer % 2 == 1 {
                batch.reverse();
            }
            let mut results = ledger.record(&batch).await?;
            if writer % 2 == 1 {
                results.reverse();
            }
            anyhow::Ok(results)
        }
    });
    let results = try_join_all(writers).await?;
    assert!(results.iter().all(|result| result == &results[0]));
    for (_, token) in &registered {
        let report = stores::report(&mut ledger.conn().await?, *token)
            .await?
            .expect("a report");
        assert_eq!(
            (report.imported_orders, report.rate_limited_count),
            (10, 10)
        );
        assert_eq!(report.sync_status, SyncStatus::Partial);
    }
    assert_eq!(ledger.number("select count(*) from sync_logs").await?, 100);
    Ok(())
}

async fn the_first_result_stands(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let (store, token) = ledger.register("org", "shop").await?;
    let first = ledger
        .record(&[judged(store, "r", accepted(), NOW)])
        .await?;
    let ImportResult::Imported(order) = &first[0] else {
        panic!("{first:?}")
    };
    assert_eq!(
        (order.amount.to_string(), order.imported_at),
        ("99.90".to_owned(), NOW)
    );
    // In one batch with another receipt, twice in the same batch, with another answer: the first one stands.
    let refused = || judged(store, "r", Answer::Refused("no".into()), NOW);
    let again = ledger
        .record(&[refused(), judged(store, "s", accepted(), NOW), refused()])
        .await?;
    assert_eq!((&again[0], &again[2]), (&first[0], &first[0]));
    let (_, known) = logs::look_up(&mut ledger.conn().await?, token, &Receipt::parse("r")?)
        .await?
        .expect("a store");
    assert_eq!(known.as_ref(), Some(&first[0]));
    Ok(())
}

async fn due_logs_come_oldest_first_and_settle_once(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let (store, token) = ledger.register("org", "shop").await?;
    let at = |seconds: u32| NOW + SECOND * seconds;
    ledger
        .record(&[
            judged(store, "late", Answer::Refused("no".into()), at(2)),
            judged(store, "early", Answer::Refused("no".into()), at(1)),
            judged(store, "done", accepted(), at(1)),
            judged(store, "limited", Answer::RateLimited(None), at(1)),
        ])
        .await?;
    let mut conn = ledger.conn().await?;
    let due = logs::due(&mut conn, store, at(10), 10).await?;
    assert_eq!(
        due.iter()
            .map(|log| log.receipt.as_str())
            .collect::<Vec<_>>(),
        ["early", "late"]
    );
    assert_eq!(logs::due(&mut conn, store, at(1), 10).await?.len(), 1);
    assert!(
        logs::has_due(&mut conn, store, at(10)).await?
            && !logs::has_due(&mut conn, store, NOW).await?
    );
    drop(conn);

    let settled = |answer: Answer| SettledLog {
        state: next_state(due[0].before(), answer, at(20)),
        log: due[0].clone(),
        plugin_digest: Some("d2".into()),
    };
    let mut tx = ledger.begin().await?;
    let status = logs::settle(&mut tx, store, &[settled(accepted())], &run(), at(20))
        .await?
        .status;
    tx.commit().await?;
    assert_eq!(status, SyncStatus::Partial);
    // The same chunk once more, as after a crash between commit and answer, with another verdict: nothing changes.
    let mut tx = ledger.begin().await?;
    logs::settle(
        &mut tx,
        store,
        &[settled(Answer::RateLimited(None))],
        &run(),
        at(21),
    )
    .await?;
    tx.commit().await?;
    let report = stores::report(&mut ledger.conn().await?, token)
        .await?
        .expect("a report");
    assert_eq!((report.imported_orders, report.rate_limited_count), (2, 1));
    assert_eq!(report.last_sync_at, Some(at(21)));
    Ok(())
}

/// Step 3 of the original's manual test for Task 4: moving `next_retry_at` by SQL makes a log due.
async fn a_retry_time_moved_by_hand_counts(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let (store, _) = ledger.register("org", "shop").await?;
    ledger
        .record(&[judged(store, "RL15", Answer::RateLimited(None), NOW)])
        .await?;
    let mut conn = ledger.conn().await?;
    assert!(!logs::has_due(&mut conn, store, NOW).await?);
    let past = match backend {
        Backend::Postgres => "timestamptz '2020-01-01'",
        Backend::Embedded => "0",
    };
    ledger
        .sql
        .execute(&format!(
            "update sync_logs set next_retry_at = {past} where receipt = 'RL15'"
        ))
        .await?;
    let due = logs::due(&mut conn, store, NOW, 10).await?;
    assert_eq!((due[0].status, due[0].attempt), (LogStatus::RateLimited, 1));
    // A log put in by hand with nothing but store and receipt is due since its creation.
    let id = match backend {
        Backend::Postgres => format!("'{store}'"),
        Backend::Embedded => format!("x'{}'", store.0.simple()),
    };
    ledger
        .sql
        .execute(&format!(
            "insert into sync_logs (store_id, receipt) values ({id}, 'by-hand')"
        ))
        .await?;
    assert_eq!(
        logs::due(
            &mut conn,
            store,
            NOW + Duration::from_secs(86_400 * 365 * 100),
            10
        )
        .await?
        .len(),
        2
    );
    Ok(())
}

async fn what_a_plugin_said_may_hold_nul(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let (store, _) = ledger.register("org", "shop").await?;
    let results = ledger
        .record(&[judged(store, "r", Answer::Refused("a\0b".into()), NOW)])
        .await?;
    assert_eq!(results, [ImportResult::InvalidReceipt]);
    Ok(())
}

/// A marketplace that was asked moves the time that clients see, and does not keep the scheduler from the store.
async fn an_import_is_a_sync_to_clients_alone(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let (store, token) = ledger.register("org", "shop").await?;
    let last = async || -> Result<_> {
        let report = stores::report(&mut ledger.conn().await?, token).await?;
        Ok(report.expect("a report").last_sync_at)
    };
    let deferred = Answer::Deferred {
        reason: "out".into(),
        wait: Duration::ZERO,
    };
    ledger.record(&[judged(store, "a", deferred, NOW)]).await?;
    assert_eq!(last().await?, None, "nobody was asked");
    let answers = [
        accepted(),
        Answer::Refused("no".into()),
        Answer::RateLimited(None),
        Answer::Unavailable("down".into()),
    ];
    for (number, answer) in (1..).zip(answers) {
        let at = NOW + SECOND * number;
        let log = judged(store, &format!("r-{number}"), answer, at);
        ledger.record(&[log]).await?;
        assert_eq!(last().await?, Some(at));
    }
    let mut conn = ledger.conn().await?;
    let now = NOW + SECOND * 60;
    let page = stores::page(&mut conn, Cursor::START, now, NOW, 10).await?;
    assert_eq!(page.due, [store]);
    Ok(())
}

/// With new credentials, all that failed before is tried again, also what rests; what is limited or done is not.
async fn what_failed_is_retried_page_by_page(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let (store, _) = ledger.register("org", "shop").await?;
    let (other, _) = ledger.register("org", "other").await?;
    let refused = |store, receipt| judged(store, receipt, Answer::Refused("no".into()), NOW);
    let mut rests = refused(store, "rests");
    (rests.state.exhausted, rests.state.next_retry_at) = (true, None);
    let down = Answer::Unavailable("unauthorized".into());
    let logs = [
        rests,
        refused(store, "refused"),
        judged(store, "down", down, NOW),
        judged(store, "limited", Answer::RateLimited(None), NOW),
        judged(store, "done", accepted(), NOW),
        refused(other, "another's"),
    ];
    ledger.record(&logs).await?;
    let mut conn = ledger.conn().await?;
    let changed = NOW + SECOND;
    let mut retried = Vec::new();
    for _ in 0..3 {
        retried.push(logs::retry_failed(&mut conn, store, changed, 2, changed).await?);
    }
    assert_eq!(retried, [2, 1, 0]);
    let due = logs::due(&mut conn, store, changed, 10).await?;
    let mut due: Vec<_> = due
        .iter()
        .map(|log| (log.receipt.as_str(), log.refusals))
        .collect();
    due.sort_unstable();
    assert_eq!(due, [("down", 0), ("refused", 0), ("rests", 0)]);
    Ok(())
}

on_every_backend!(
    an_import_is_a_sync_to_clients_alone,
    what_failed_is_retried_page_by_page,
    imports_count_once_under_contention,
    the_first_result_stands,
    due_logs_come_oldest_first_and_settle_once,
    a_retry_time_moved_by_hand_counts,
    what_a_plugin_said_may_hold_nul,
);
