//! The schema and the way to the database: newer schemas, migrations that wait, names of processes.

use std::time::Duration;

use anyhow::{Result, bail};
use wharf_store::{Ledger, LedgerSettings, SchemaError, StoreError};
use wharf_tests::{Backend, Database, PATIENCE, eventually, on_every_backend};

use crate::fixture::Fixture;

/// Writes down that a newer program applied a migration of its own.
async fn apply_newer(ledger: &Fixture, description: &str) -> Result<()> {
    let row = format!(
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
         values (9999, '{description}', true, '', 1)"
    );
    ledger
        .sql
        .execute("delete from _sqlx_migrations where version = 9999")
        .await?;
    ledger.sql.execute(&row).await?;
    Ok(())
}

async fn a_newer_schema_fits_while_it_only_adds(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    ledger.check_schema().await?;
    apply_newer(&ledger, "something new").await?;
    ledger.check_schema().await?;
    // What this program lacks itself is applied all the same.
    ledger.migrate().await?;
    apply_newer(&ledger, "contract 9998 take the token away").await?;
    let refusal = ledger.check_schema().await;
    assert!(
        matches!(refusal, Err(SchemaError::TooNew { version: 9999, .. })),
        "{refusal:?}"
    );
    Ok(())
}

async fn a_schema_that_is_behind_is_told(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    ledger
        .sql
        .execute("delete from _sqlx_migrations where version = 9")
        .await?;
    let refusal = ledger.check_schema().await;
    assert!(
        matches!(refusal, Err(SchemaError::Behind(9))),
        "{refusal:?}"
    );
    ledger.sql.execute("drop table _sqlx_migrations").await?;
    let refusal = ledger.check_schema().await;
    assert!(
        matches!(refusal, Err(SchemaError::Behind(1))),
        "{refusal:?}"
    );
    Ok(())
}

on_every_backend!(
    a_newer_schema_fits_while_it_only_adds,
    a_schema_that_is_behind_is_told
);

/// A process that migrates while another does waits for it, longer than a statement may take.
#[test]
fn migrations_have_no_time_limit() -> Result<()> {
    const LIMIT: Duration = Duration::from_millis(50);
    wharf_tests::run(async {
        let database = Database::create().await?;
        let pool = database.pool().await?;
        let ledger = Ledger::open(&LedgerSettings {
            statement_timeout: LIMIT,
            activity: "migrate".into(),
            ..LedgerSettings::new(database.url())
        })
        .await?;
        ledger.migrate().await?;
        let mut holding = pool.begin().await?;
        sqlx::query("lock table _sqlx_migrations in access exclusive mode")
            .execute(&mut *holding)
            .await?;
        let waits = "select 1 from pg_stat_activity where application_name = 'wharf migrate'
            and wait_event_type = 'Lock' and clock_timestamp() - query_start > interval '100 ms'";
        let waiting = || async {
            let found = sqlx::query(waits).fetch_optional(&pool).await;
            found.ok().flatten()
        };
        let migrating = ledger.migrate();
        tokio::pin!(migrating);
        tokio::select! {
            ended = &mut migrating => bail!("it did not wait: {ended:?}"),
            waited = eventually("a migration that waits", PATIENCE, waiting) => drop(waited?),
        }
        holding.rollback().await?;
        Ok(migrating.await?)
    })
}

/// The connection that migrated, which has no limit, is not given back to others.
#[test]
fn a_limit_holds_again_after_a_migration() -> Result<()> {
    wharf_tests::run(async {
        let database = Database::create().await?;
        let ledger = Ledger::open(&LedgerSettings {
            pool_size: 1,
            statement_timeout: Duration::from_millis(1_234),
            ..LedgerSettings::new(database.url())
        })
        .await?;
        ledger.migrate().await?;
        let mut conn = ledger.read().await?;
        conn.ping().await?;
        let open = "select count(*) from pg_stat_activity where datname = current_database()
            and application_name = 'wharf'";
        let pool = database.pool().await?;
        let connections = || async {
            let count: i64 = sqlx::query_scalar(open).fetch_one(&pool).await.ok()?;
            (count == 1).then_some(())
        };
        // Only the one that was opened after the migration.
        eventually("the migration's connection ends", PATIENCE, connections).await
    })
}

#[test]
fn what_waiting_does_not_mend_is_told_at_once() -> Result<()> {
    wharf_tests::run(async {
        let database = Database::create().await?;
        let url = database.url().replace(database.name(), "not_there");
        let settings = LedgerSettings {
            // Waited for, it would take longer than anybody looks on.
            start_wait: PATIENCE * 10,
            ..LedgerSettings::new(url)
        };
        let opened = Ledger::open(&settings).await;
        let Err(StoreError::Unreachable { place, why }) = opened else {
            bail!("there is no such database");
        };
        assert!(place.contains("database not_there"), "{place}");
        assert!(why.contains("does not exist"), "{why}");
        Ok(())
    })
}

#[test]
fn a_server_that_comes_later_is_waited_for() -> Result<()> {
    wharf_tests::run(async {
        let database = Database::create().await?;
        let wire = wharf_tests::Proxy::to(database.url()).await?;
        wire.cut();
        let settings = LedgerSettings {
            start_wait: PATIENCE,
            ..LedgerSettings::new(wire.url())
        };
        let opening = Ledger::open(&settings);
        tokio::pin!(opening);
        // Long enough for the first attempt to fail.
        tokio::select! {
            opened = &mut opening => bail!("nothing was there: {:?}", opened.err()),
            () = wharf_tests::fault_lasts(Duration::from_millis(200)) => wire.open(),
        }
        Ok(opening.await?.migrate().await?)
    })
}
