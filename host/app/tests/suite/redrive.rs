//! Receipts that are redriven: what is asked about again, when, and how often. 2,000 of them; 100,000 by
//! `WHARF_TEST_LONG=1`.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use wharf_app::{AppError, LogFilter, LogQuery, LogRedrive, LogsRedriven, Run};
use wharf_domain::{AnswerKind, ImportResult, LogStatus, OrganizationId, Reach};
use wharf_tests::{Backend, on_every_backend};

use crate::host::{InProcess, organization};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const STORES: i64 = 10;

fn everything() -> LogRedrive {
    LogRedrive {
        log: None,
        filter: LogFilter::default(),
        per_minute: None,
        limit: usize::MAX,
        from: None,
        run: Run::Real,
    }
}

fn exhausted() -> LogRedrive {
    LogRedrive {
        filter: LogFilter {
            exhausted: Some(true),
            ..LogFilter::default()
        },
        ..everything()
    }
}

async fn redrive(host: &InProcess, how: LogRedrive) -> Result<LogsRedriven> {
    Ok(host
        .app
        .redrive_logs(None, how, &host.app.unkeyed())
        .await?)
}

async fn log_of(host: &InProcess, receipt: &str) -> Result<Value> {
    let columns = "status, attempt, refusals, cast(exhausted as integer) as exhausted";
    let log = format!("select {columns} from sync_logs where receipt = '{receipt}'");
    host.ledger.row(&log).await
}

async fn what_rests_is_asked_about_again(backend: Backend) -> Result<()> {
    let mut host = InProcess::open(backend).await?;
    let store = host.store(&organization()).await?;
    for receipt in ["order-101", "order-102", "order-115"] {
        host.import(store, receipt).await?;
    }
    host.drain().await?;
    for _ in 0..10 {
        host.after(61 * MINUTE).await?;
    }
    let rests = json!({"status": "failed", "attempt": 10, "refusals": 10, "exhausted": 1});
    assert_eq!(log_of(&host, "order-102").await?, rests);
    let status = host.app.sync_status(&Reach::Everything, store).await?;
    let limited = log_of(&host, "order-115").await?;

    let dry = LogRedrive {
        run: Run::Dry,
        ..everything()
    };
    let one = LogsRedriven {
        logs: 1,
        next: None,
    };
    assert_eq!(redrive(&host, dry).await?, one);
    assert_eq!(log_of(&host, "order-102").await?, rests, "a rehearsal");
    assert_eq!(redrive(&host, everything()).await?, one);
    assert_eq!(
        host.app.sync_status(&Reach::Everything, store).await?,
        status
    );
    host.drain().await?;
    let asked = json!({"status": "failed", "attempt": 11, "refusals": 1, "exhausted": 0});
    assert_eq!(log_of(&host, "order-102").await?, asked);
    assert_eq!(
        log_of(&host, "order-115").await?,
        limited,
        "it keeps its time"
    );
    assert_eq!(
        host.import(store, "order-102").await?,
        ImportResult::InvalidReceipt
    );

    let query = LogQuery {
        limit: 10,
        ..LogQuery::default()
    };
    let page = host.app.logs(query).await?;
    // They were imported in one millisecond, so any may be the newest.
    let named = |receipt| page.logs.iter().find(|log| log.receipt.as_str() == receipt);
    let (limited, refused) = named("order-115").zip(named("order-102")).context("both")?;
    assert_eq!(page.logs.len(), 2);
    let history = host.app.log(None, None, refused.id).await?;
    assert_eq!(history.attempts.len(), 11);
    let (last, _) = history.attempts.last().context("attempts")?;
    assert_eq!((last.number, last.outcome), (11, AnswerKind::Refused));

    // One by its id, whatever the marketplace said of it; a success never.
    let before = limited.attempt;
    let one_of = |id| LogRedrive {
        log: Some(id),
        ..everything()
    };
    assert_eq!(redrive(&host, one_of(limited.id)).await?, one);
    host.drain().await?;
    assert_eq!(log_of(&host, "order-115").await?["attempt"], before + 1);
    let done = host
        .app
        .logs(LogQuery {
            filter: LogFilter {
                store: Some(refused.store_id),
                status: Some(LogStatus::Success),
                ..LogFilter::default()
            },
            limit: 10,
            ..LogQuery::default()
        })
        .await?;
    let done = done.logs.first().context("the success")?;
    assert_eq!(
        redrive(&host, one_of(done.id)).await?,
        LogsRedriven::default()
    );
    let foreign = OrganizationId::from_stored("org-2".into());
    let foreign = host.app.log(Some(&foreign), None, done.id).await;
    assert!(matches!(foreign, Err(AppError::LogNotFound)));
    Ok(())
}

fn many() -> i64 {
    if std::env::var_os("WHARF_TEST_LONG").is_some() {
        100_000
    } else {
        2_000
    }
}

/// Receipts that rest, in several stores. Their marketplace accepts them by now.
async fn rest(host: &InProcess, backend: Backend) -> Result<()> {
    for number in 0..STORES {
        let owner = OrganizationId::from_stored(format!("org-{number}"));
        host.store(&owner).await?;
    }
    let (id, at) = match backend {
        Backend::Postgres => (
            "cast(lpad(to_hex(n), 32, '0') as uuid)",
            "timestamptz '2025-12-01' + n * interval '1 millisecond'",
        ),
        Backend::Embedded => ("unhex(printf('%032x', n))", "1764547200000000 + n * 1000"),
    };
    let statement = format!(
        "insert into sync_logs (id, store_id, receipt, status, attempt, refusals, exhausted, last_error, created_at,
            updated_at)
        select {id}, s.id, 'rests-' || n || '-01', 'failed', 10, 10, (1 = 1), 'unknown', {at}, {at}
        from (select id, row_number() over (order by id) - 1 as turn from stores) s
        join (with recursive numbers (n) as (select 1 union all select n + 1 from numbers where n < {many})
            select n from numbers) n on s.turn = n % {STORES}",
        many = many()
    );
    host.ledger.execute(&statement).await.map(drop)
}

async fn count(host: &InProcess, condition: &str) -> Result<i64> {
    let number = format!("select count(*) from sync_logs where {condition}");
    host.ledger.number(&number).await
}

/// Stopped after half, asked about meanwhile, and gone on with: each is redriven once, at one pace, and asked about once.
async fn a_redrive_that_stops_half_way_goes_on(backend: Backend) -> Result<()> {
    const PER_MINUTE: i64 = 60_000;
    let mut host = InProcess::open(backend).await?;
    rest(&host, backend).await?;
    let (total, half) = (usize::try_from(many())?, many() / 2);
    let dry = LogRedrive {
        run: Run::Dry,
        ..exhausted()
    };
    let counted = redrive(&host, dry).await?;
    assert_eq!((counted.logs, counted.next), (total, None));
    // Whatever is asked about is counted, so that twice would show.
    let mut how = LogRedrive {
        per_minute: Some(PER_MINUTE),
        // Several requests for each half: the pace is one over all of them.
        limit: usize::try_from(half / 2)?.min(5_000),
        ..exhausted()
    };
    let (mut done, mut requests) = (0, 0);
    let mut go_on = async |host: &InProcess, until: i64| -> Result<()> {
        while done < until {
            let redriven = redrive(host, how.clone()).await?;
            done += i64::try_from(redriven.logs)?;
            how.from = redriven.next;
            requests += 1;
            assert!(
                how.from.is_some() || done == many(),
                "{done} after {requests}"
            );
        }
        assert_eq!(done, until);
        Ok(())
    };
    go_on(&host, half).await?;
    let is_due = "exhausted = (1 = 0)";
    assert_eq!(count(&host, is_due).await?, half);
    let times =
        "select count(distinct next_retry_at) from sync_logs where next_retry_at is not null";
    assert_eq!(host.ledger.number(times).await?, half, "a time for each");
    let soon = "select count(*) from sync_jobs where state = 'queued'";
    assert!(host.ledger.number(soon).await? >= 1, "some are due at once");
    // Long enough for all that was redriven.
    let wait = MINUTE * u32::try_from(half / PER_MINUTE + 2)?;
    host.after(wait).await?;
    assert_eq!(count(&host, "status = 'success'").await?, half);

    go_on(&host, many()).await?;
    assert_eq!(
        count(&host, "exhausted = (1 = 1)").await?,
        0,
        "none is lost"
    );
    for _ in 0..10 {
        host.after(wait).await?;
    }
    let once = "status = 'success' and attempt = 11";
    assert_eq!(
        count(&host, once).await?,
        many(),
        "none is asked about twice"
    );
    let wrong = "select count(*) from stores s where s.imported_orders <> (select count(distinct order_id) from sync_logs l
        where l.store_id = s.id)";
    assert_eq!(host.ledger.number(wrong).await?, 0);
    Ok(())
}

/// Whoever asked is gone in the middle, without the cursor: what was committed is not done again.
async fn a_redrive_that_breaks_off_is_safe_to_repeat(backend: Backend) -> Result<()> {
    let mut host = InProcess::open(backend).await?;
    rest(&host, backend).await?;
    let broken_off = tokio::time::timeout(Duration::from_millis(30), redrive(&host, exhausted()));
    let before = match broken_off.await {
        Ok(redriven) => redriven?.logs,
        Err(_) => usize::try_from(count(&host, "exhausted = (1 = 0)").await?)?,
    };
    host.drain().await?;
    let mut after = 0;
    let mut how = exhausted();
    loop {
        let redriven = redrive(&host, how.clone()).await?;
        after += redriven.logs;
        how.from = redriven.next;
        if how.from.is_none() {
            break;
        }
    }
    assert_eq!(before + after, usize::try_from(many())?, "{before} before");
    for _ in 0..10 {
        host.after(2 * MINUTE).await?;
    }
    assert_eq!(
        count(&host, "status = 'success' and attempt = 11").await?,
        many()
    );
    Ok(())
}

/// What receipts tell of attempts goes with the events of that time; the receipts stay.
async fn attempts_are_purged_and_receipts_are_not(backend: Backend) -> Result<()> {
    let mut host = InProcess::open(backend).await?;
    let store = host.store(&organization()).await?;
    host.import(store, "order-102").await?;
    for _ in 0..12 {
        host.after(61 * MINUTE).await?;
    }
    let attempts = "select count(*) from sync_log_attempts";
    assert_eq!(host.ledger.number(attempts).await?, 10);
    for _ in 0..31 {
        host.after(DAY).await?;
    }
    assert_eq!(host.ledger.number(attempts).await?, 0);
    assert_eq!(count(&host, "exhausted = (1 = 1)").await?, 1);
    Ok(())
}

on_every_backend!(
    what_rests_is_asked_about_again,
    a_redrive_that_stops_half_way_goes_on,
    a_redrive_that_breaks_off_is_safe_to_repeat,
    attempts_are_purged_and_receipts_are_not,
);
