//! All tables at once: the register, copies into a database of the other kind, backups.

use anyhow::{Context, Result, bail, ensure};
use wharf_domain::{Answer, EventKind};
use wharf_store::{
    Ledger, LedgerSettings, SchemaError, backup,
    copy::{self, Copy, CopyError},
};
use wharf_tests::{Backend, on_every_backend};

use crate::fixture::{Fixture, NOW, accepted, judged};

/// Two organizations with stores, receipts, webhooks, events, deliveries and attempts; texts, times and numbers that conversions
/// may lose something of. More rows than a page has.
pub(crate) async fn fill(ledger: &Fixture, backend: Backend) -> Result<()> {
    for organization in ["org", "other"] {
        let (store, _) = ledger
            .register(organization, "ext \u{fffd}\"'\\ ü 漢")
            .await?;
        let mut logs: Vec<_> = (0..150)
            .map(|number| judged(store, &format!("order-{number}"), accepted(), NOW))
            .collect();
        logs.push(judged(store, "RL1", Answer::RateLimited(None), NOW));
        ledger.record(&logs).await?;
        ledger
            .endpoint(
                organization,
                EventKind::SyncFailed,
                "http://127.0.0.1/?a=1&b=\u{fc}",
            )
            .await?;
    }
    let (id, bytes, early) = match backend {
        Backend::Postgres => (
            "cast(lpad(to_hex(n), 32, '0') as uuid)",
            "'\\x00ff5c27'",
            "timestamptz 'epoch' - interval '0.000001 seconds'",
        ),
        Backend::Embedded => ("unhex(printf('%032x', n))", "x'00ff5c27'", "-1"),
    };
    let late = match backend {
        Backend::Postgres => "timestamptz '9999-12-31 23:59:59.999999Z'",
        Backend::Embedded => "253402300799999999",
    };
    let numbers = "(with recursive s (n) as (select 1 union all select n + 1 from s where n < 300) select n from s) s";
    for statement in [
        format!(
            "insert into callback_outbox (id, organization_id, store_id, event, payload, status, due_at, next_retry_at)
             select {id}, case when n % 3 = 0 then 'other' else 'org' end, {id}, 'sync.failed',
                '{{\"b\": 1.10,\n \"a\": \"\\u00fc\"}}', 'success', {early}, {late} from {numbers}"
        ),
        format!(
            "insert into callback_messages (outbox_id, shaper, plugin_digest, content_type, headers, body)
             select id, 'standard', '', '', '[]', {bytes} from callback_outbox"
        ),
        "insert into callback_deliveries (id, outbox_id, endpoint_id, organization_id, shaper, state, due_at)
         select o.id, o.id, e.id, o.organization_id, 'standard', 'success', null
         from callback_outbox o join webhook_endpoints e on e.organization_id = o.organization_id"
            .into(),
        "insert into callback_attempts (delivery_id, attempt, started_at, latency_us, response)
         select d.id, a.n, d.created_at, 1500 * a.n, 'line one
line two' from callback_deliveries d cross join (select 1 as n union all select 2) a"
            .into(),
        "update sync_logs set amount = 0.10 where receipt = 'order-7'".into(),
        "update sync_logs set amount = 12345678901234567.89 where receipt = 'order-8' and 1 = 0".into(),
    ] {
        ledger.sql.execute(&statement).await?;
    }
    Ok(())
}

fn other(backend: Backend) -> Backend {
    match backend {
        Backend::Postgres => Backend::Embedded,
        Backend::Embedded => Backend::Postgres,
    }
}

/// Copies at most so many batches; true if all was copied.
async fn copy_batches(
    source: &Ledger,
    target: &Ledger,
    most: usize,
) -> Result<(Copy, bool), CopyError> {
    let mut copy = Copy::begin(source, target, "here").await?;
    for _ in 0..most {
        let Some(batch) = copy.read().await? else {
            return Ok((copy, true));
        };
        let mut tx = copy.begin_batch().await?;
        batch.write(&mut tx).await?;
        tx.commit().await?;
        copy.reached(batch);
    }
    Ok((copy, false))
}

#[test]
fn every_table_and_column_is_registered() -> Result<()> {
    wharf_tests::run(async {
        let postgres = Fixture::open(Backend::Postgres).await?;
        let sqlite = Fixture::open(Backend::Embedded).await?;
        wharf_store::check_register(&postgres, &sqlite).await?;
        for (sql, said) in [
            ("create table forgotten (id blob primary key)", "forgotten"),
            ("alter table stores add column colour text", "stores"),
        ] {
            for table in ["drop table if exists forgotten"] {
                sqlite.sql.execute(table).await?;
            }
            sqlite.sql.execute(sql).await?;
            let refused = wharf_store::check_register(&postgres, &sqlite).await;
            let refused = refused.err().context("it was not missed")?.to_string();
            assert!(refused.contains(said), "{refused}");
        }
        postgres
            .sql
            .execute("alter table stores add column colour text")
            .await?;
        sqlite.sql.execute("drop table if exists forgotten").await?;
        let refused = wharf_store::check_register(&postgres, &sqlite).await;
        let refused = refused
            .err()
            .context("a column that is not named")?
            .to_string();
        assert!(refused.contains("stores.colour"), "{refused}");
        Ok(())
    })
}

async fn a_copy_holds_the_same_and_goes_on_where_it_was_stopped(backend: Backend) -> Result<()> {
    let source = Fixture::open(backend).await?;
    fill(&source, backend).await?;
    let target = Fixture::open(other(backend)).await?;
    // Stopped again and again, each time after two batches.
    let mut stops = 0;
    let copy = loop {
        let (copy, is_done) = copy_batches(&source, &target, 2).await?;
        if is_done {
            break copy;
        }
        stops += 1;
        let refused = target.check_schema().await;
        assert!(
            matches!(&refused, Err(SchemaError::Unfinished(name)) if name == "here"),
            "{refused:?}"
        );
        let other = Copy::begin(&source, &target, "elsewhere").await.err();
        assert!(
            matches!(other, Some(CopyError::OtherSource(_))),
            "{other:?}"
        );
    };
    assert!(stops > 3, "it was stopped {stops} times");
    assert!(copy.resumed > 1_000, "{} rows", copy.resumed);
    let compared = copy.compare(|_| ()).await?;
    for table in &compared {
        assert!(table.is_same, "{table:?}");
    }
    let rows = |name: &str| {
        compared
            .iter()
            .find(|table| table.table == name)
            .map(|table| table.copied)
    };
    assert_eq!(rows("sync_logs"), Some(302));
    assert_eq!(rows("callback_attempts"), Some(600));
    copy.finish().await?;
    target.check_schema().await?;
    // The sums say the same of both; here the values say it, in words that both databases have.
    let select = "select status, order_id, receipt, currency, cast(amount as text) as amount, last_error from sync_logs
        order by receipt, id";
    assert_eq!(
        source.sql.rows(select).await?,
        target.sql.rows(select).await?
    );
    let select = "select cast(payload as text) as payload, status, organization_id from callback_outbox order by id";
    let payloads = target.sql.rows(select).await?;
    assert_eq!(source.sql.rows(select).await?, payloads);
    assert!(
        payloads[0]["payload"]
            .as_str()
            .is_some_and(|text| text.contains("1.10,\n")),
        "{:?}",
        payloads[0]
    );
    // What is there is found, and another copy into it is refused.
    let again = Copy::begin(&source, &target, "here").await.err();
    assert!(matches!(again, Some(CopyError::NotEmpty(_))), "{again:?}");
    let same = Copy::begin(&source, &source, "here").await.err();
    assert!(matches!(same, Some(CopyError::SameKind)), "{same:?}");
    Ok(())
}

async fn a_copy_that_differs_is_told(backend: Backend) -> Result<()> {
    let source = Fixture::open(backend).await?;
    fill(&source, backend).await?;
    let target = Fixture::open(other(backend)).await?;
    let (copy, is_done) = copy_batches(&source, &target, usize::MAX).await?;
    assert!(is_done);
    for (statement, table) in [
        (
            "update sync_logs set last_error = '' where receipt = 'order-3'",
            "sync_logs",
        ),
        (
            "update callback_attempts set latency_us = 1501 where latency_us = 1500",
            "callback_attempts",
        ),
        (
            "delete from callback_messages where shaper = 'standard'",
            "callback_messages",
        ),
    ] {
        target.sql.execute(statement).await?;
        let compared = copy.compare(|_| ()).await?;
        let found = compared.iter().find(|compared| compared.table == table);
        assert!(
            found.is_some_and(|compared| !compared.is_same),
            "{statement}"
        );
    }
    Ok(())
}

async fn two_copies_into_one_database_do_not_mix(backend: Backend) -> Result<()> {
    let source = Fixture::open(backend).await?;
    fill(&source, backend).await?;
    let target = Fixture::open(other(backend)).await?;
    let mut one = Copy::begin(&source, &target, "here").await?;
    let mut two = Copy::begin(&source, &target, "here").await?;
    let (ours, theirs) = (
        one.read().await?.context("rows")?,
        two.read().await?.context("rows")?,
    );
    let mut tx = one.begin_batch().await?;
    ours.write(&mut tx).await?;
    tx.commit().await?;
    let mut tx = two.begin_batch().await?;
    let refused = theirs.write(&mut tx).await;
    assert!(matches!(refused, Err(CopyError::Overtaken)), "{refused:?}");
    Ok(())
}

#[test]
fn a_file_that_a_host_has_open_is_not_copied() -> Result<()> {
    wharf_tests::run(async {
        let held = Fixture::open(Backend::Embedded).await?;
        let refused = copy::open(&LedgerSettings::new(held.url()), false)
            .await
            .err();
        assert!(
            matches!(refused, Some(CopyError::InUse { .. })),
            "{refused:?}"
        );
        // And one that is being copied is not opened by a host.
        let folder = tempfile::tempdir()?;
        let url = format!("sqlite:{}", folder.path().join("alone.db").display());
        let alone = copy::open(&LedgerSettings::new(&url), true).await?;
        alone.migrate().await?;
        ensure!(
            Ledger::open(&LedgerSettings::new(&url)).await.is_err(),
            "two have it"
        );
        alone.close().await;
        Ledger::open(&LedgerSettings::new(&url))
            .await?
            .check_schema()
            .await?;
        Ok(())
    })
}

#[test]
fn a_server_that_a_host_works_on_is_not_copied() -> Result<()> {
    wharf_tests::run(async {
        let source = Fixture::open(Backend::Postgres).await?;
        let target = Fixture::open(Backend::Embedded).await?;
        let host = Ledger::open(&LedgerSettings {
            activity: "sync-worker callback-worker".into(),
            ..LedgerSettings::new(source.url())
        })
        .await?;
        let refused = Copy::begin(&source, &target, "here").await.err();
        let Some(CopyError::InUse { who, .. }) = refused else {
            bail!("{refused:?}");
        };
        assert_eq!(who, "wharf sync-worker callback-worker");
        host.close().await;
        Ok(())
    })
}

on_every_backend!(
    a_copy_holds_the_same_and_goes_on_where_it_was_stopped,
    a_copy_that_differs_is_told,
    two_copies_into_one_database_do_not_mix,
);

#[test]
fn a_backup_is_whole_and_a_damaged_one_is_told() -> Result<()> {
    wharf_tests::run(async {
        let ledger = Fixture::open(Backend::Embedded).await?;
        fill(&ledger, Backend::Embedded).await?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("backup.db");
        let database = LedgerSettings::new(ledger.url())
            .sqlite_path()
            .context("a path")?;
        backup::write(&database, &file).await?;
        backup::check(&file).await?;
        let names: Vec<_> = std::fs::read_dir(folder.path())?.collect();
        assert_eq!(names.len(), 1, "nothing lies beside it: {names:?}");
        let copy = wharf_tests::Ledger::connect(&format!("sqlite:{}", file.display())).await?;
        assert_eq!(copy.number("select count(*) from sync_logs").await?, 302);
        ensure!(
            backup::write(&database, &file).await.is_err(),
            "a file was overwritten"
        );
        let missing = folder.path().join("missing.db");
        ensure!(
            backup::write(&missing, &folder.path().join("none.db"))
                .await
                .is_err(),
            "there is none"
        );
        ensure!(!missing.exists(), "it was made");
        // A page in the middle is lost.
        let mut bytes = std::fs::read(&file)?;
        let middle = bytes.len() / 2 / 4096 * 4096;
        bytes[middle..middle + 4096].fill(0xa5);
        let damaged = folder.path().join("damaged.db");
        std::fs::write(&damaged, bytes)?;
        ensure!(
            backup::check(&damaged).await.is_err(),
            "the damage was not found"
        );
        Ok(())
    })
}
