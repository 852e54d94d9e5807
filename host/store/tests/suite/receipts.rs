//! Receipts: listed and found.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result};
use wharf_domain::{
    Answer, LogId, LogStatus, MAX_REFUSALS, MarketplaceName, Receipt, StoreId, Time,
};
use wharf_store::logs::{self, LogCursor, LogFilter, LogName, NewLog};
use wharf_tests::{Backend, on_every_backend};

use crate::fixture::{Fixture, NOW, accepted, judged, organization_id};

pub(crate) fn refused(store: StoreId, receipt: &str, at: Time) -> NewLog {
    judged(store, receipt, Answer::Refused("unknown".into()), at)
}

pub(crate) fn resting(store: StoreId, receipt: &str, at: Time) -> NewLog {
    let mut log = refused(store, receipt, at);
    log.state.exhausted = true;
    log.state.next_retry_at = None;
    log.state.refusals = MAX_REFUSALS;
    log
}

/// All that a filter fits, page by page.
async fn all(ledger: &Fixture, filter: &LogFilter, most: usize) -> Result<Vec<String>> {
    let mut conn = ledger.conn().await?;
    let (mut found, mut before) = (Vec::new(), LogCursor::NEWEST);
    for _ in 0..100 {
        let page = logs::page(&mut conn, filter, false, before, most).await?;
        assert!(page.logs.len() <= most);
        let names = page.logs.iter().map(|log| log.receipt.as_str().to_owned());
        found.extend(names);
        match page.next {
            Some(next) => before = next,
            None => return Ok(found),
        }
    }
    anyhow::bail!("pages without end")
}

async fn receipts_are_listed_newest_first(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let (one, _) = ledger.register("org-a", "shop").await?;
    let (two, _) = ledger.register("org-b", "shop").await?;
    let at = |minute: u32| NOW + Duration::from_secs(60) * minute;
    let mut logs = vec![
        judged(one, "done", accepted(), at(1)),
        refused(one, "refused", at(2)),
        resting(one, "rests", at(3)),
        judged(one, "limited", Answer::RateLimited(None), at(4)),
        refused(two, "theirs", at(5)),
        resting(two, "theirs-rests", at(6)),
    ];
    // Ids of the time of their import: the fixture's are all of one.
    for (number, log) in (1u8..).zip(&mut logs) {
        log.id = LogId(wharf_domain::uuid_v7(log.at, [number; 10]));
    }
    ledger.record(&logs).await?;
    let of = |store| LogFilter {
        store: Some(store),
        ..LogFilter::default()
    };
    let everything = LogFilter::default;
    let failed = Some(LogStatus::Failed);
    let cases: Vec<(LogFilter, &[&str])> = vec![
        (of(one), &["limited", "rests", "refused", "done"]),
        (
            everything(),
            &["theirs-rests", "theirs", "limited", "rests", "refused"],
        ),
        (
            LogFilter {
                status: failed,
                ..of(one)
            },
            &["rests", "refused"],
        ),
        (
            LogFilter {
                status: Some(LogStatus::Success),
                ..of(one)
            },
            &["done"],
        ),
        (
            LogFilter {
                exhausted: Some(true),
                ..everything()
            },
            &["theirs-rests", "rests"],
        ),
        (
            LogFilter {
                exhausted: Some(false),
                status: failed,
                ..everything()
            },
            &["theirs", "refused"],
        ),
        (
            LogFilter {
                exhausted: Some(true),
                organization: Some(organization_id("org-a")),
                ..everything()
            },
            &["rests"],
        ),
        (
            LogFilter {
                marketplace: Some(MarketplaceName::parse("shopify")?),
                ..everything()
            },
            &[],
        ),
        (
            LogFilter {
                error: Some("rate_limited".into()),
                ..everything()
            },
            &["limited"],
        ),
        (
            LogFilter {
                since: Some(at(3)),
                until: Some(at(5)),
                ..everything()
            },
            &["limited", "rests"],
        ),
        (
            LogFilter {
                unlimited: true,
                ..of(one)
            },
            &["rests", "refused", "done"],
        ),
    ];
    for (filter, expected) in cases {
        for most in [1, 2, 10] {
            assert_eq!(all(&ledger, &filter, most).await?, expected, "{filter:?}");
        }
    }
    let mut conn = ledger.conn().await?;
    let page = logs::page(&mut conn, &of(two), false, LogCursor::NEWEST, 1).await?;
    let log = page.logs.first().context("a log")?;
    assert_eq!(
        (log.organization_id.as_str(), log.marketplace.as_str()),
        ("org-b", "etsy")
    );
    assert_eq!(
        (log.exhausted, log.due_at, log.refusals),
        (true, None, MAX_REFUSALS)
    );
    Ok(())
}

/// A page looks at so many receipts and no more, however few of them are wanted.
async fn a_page_has_an_end(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let (store, _) = ledger.register("org", "shop").await?;
    let mut rare = refused(store, "rare", NOW);
    // Older than all that `many_unfinished` makes.
    rare.id = LogId(uuid::Uuid::from_u128(1));
    ledger.record(&[rare]).await?;
    let many = logs::MAX_LOOKED_AT + 50;
    many_unfinished(&ledger, backend, many).await?;
    let filter = LogFilter {
        status: Some(LogStatus::Failed),
        ..LogFilter::default()
    };
    for store in [None, Some(store)] {
        let filter = LogFilter {
            store,
            ..filter.clone()
        };
        let mut conn = ledger.conn().await?;
        let first = logs::page(&mut conn, &filter, false, LogCursor::NEWEST, 10).await?;
        assert!(first.logs.is_empty(), "{first:?}");
        let next = first.next.context("there is more")?;
        let second = logs::page(&mut conn, &filter, false, next, 10).await?;
        assert_eq!((second.logs.len(), second.next), (1, None));
        let (number, next) = logs::count(&mut conn, &filter, LogCursor::NEWEST).await?;
        assert_eq!((number, next), (1, None));
    }
    let everything = all(&ledger, &LogFilter::default(), 1_000).await?;
    let distinct: BTreeSet<_> = everything.iter().collect();
    let expected = usize::try_from(many)? + 1;
    assert_eq!((everything.len(), distinct.len()), (expected, expected));
    Ok(())
}

/// Rate-limited receipts of the only store, put in by hand.
async fn many_unfinished(ledger: &Fixture, backend: Backend, many: i64) -> Result<()> {
    let (id, at) = match backend {
        Backend::Postgres => (
            "cast(lpad(to_hex(n + 1), 32, '0') as uuid)",
            "timestamptz 'epoch' + n * interval '1 second'",
        ),
        Backend::Embedded => ("unhex(printf('%032x', n + 1))", "n * 1000000"),
    };
    let statement = format!(
        "insert into sync_logs (id, store_id, receipt, status, attempt, next_retry_at, created_at, updated_at)
        select {id}, s.id, 'many-' || n, 'rate_limited', 1, {at}, {at}, {at} from stores s, (with recursive numbers (n) as
            (select 1 union all select n + 1 from numbers where n < {many}) select n from numbers) n"
    );
    ledger.sql.execute(&statement).await.map(drop)
}

async fn receipts_are_found_by_their_names(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let (one, _) = ledger.register("org-a", "shop").await?;
    let (two, _) = ledger.register("org-b", "shop").await?;
    ledger
        .record(&[
            judged(one, "r-1", accepted(), NOW),
            judged(two, "r-1", accepted(), NOW),
            refused(two, "r-2", NOW),
        ])
        .await?;
    let mut conn = ledger.conn().await?;
    let receipt = LogName::Receipt(Receipt::parse("r-1")?);
    let order = LogName::Order("order-of-r-1".into());
    for name in [&receipt, &order] {
        let found = logs::find(&mut conn, one, name).await?.context("a log")?;
        assert_eq!((found.store_id, found.receipt.as_str()), (one, "r-1"));
        let everywhere =
            logs::search(&mut conn, &LogFilter::default(), name, LogCursor::OLDEST).await?;
        let stores: BTreeSet<_> = everywhere.logs.iter().map(|log| log.store_id).collect();
        assert_eq!(
            (stores, everywhere.next),
            (BTreeSet::from([one, two]), None)
        );
        let theirs = LogFilter {
            organization: Some(organization_id("org-b")),
            ..LogFilter::default()
        };
        let theirs = logs::search(&mut conn, &theirs, name, LogCursor::OLDEST).await?;
        let stores: Vec<_> = theirs.logs.iter().map(|log| log.store_id).collect();
        assert_eq!(stores, [two]);
    }
    let unknown = LogName::Order("nothing".into());
    assert_eq!(logs::find(&mut conn, one, &unknown).await?, None);
    Ok(())
}

/// On a table that may be large PostgreSQL builds indexes beside the work, by one process of many, and again if it broke off.
async fn large_indexes_are_built_once_more(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    if backend == Backend::Embedded {
        return Ok(());
    }
    // An empty table is left to its migration.
    ledger.register("org", "shop").await?;
    let one = "insert into sync_logs (store_id, receipt) select id, 'order-1' from stores";
    ledger.sql.execute(one).await?;
    ledger.sql.execute("drop index sync_logs_exhausted").await?;
    let broken_off = "update pg_index set indisvalid = false
        where indexrelid = to_regclass('sync_logs_unfinished_by_id')";
    ledger.sql.execute(broken_off).await?;
    let migrations = (0..4).map(|_| ledger.migrate());
    futures::future::try_join_all(migrations).await?;
    let valid = "select count(*) from pg_index where indisvalid and indexrelid in
        (to_regclass('sync_logs_unfinished_by_id'), to_regclass('sync_logs_exhausted'))";
    assert_eq!(ledger.number(valid).await?, 2);
    Ok(())
}

on_every_backend!(
    receipts_are_listed_newest_first,
    a_page_has_an_end,
    receipts_are_found_by_their_names,
    large_indexes_are_built_once_more,
);
