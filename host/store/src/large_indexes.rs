//! Indexes that migrations add to tables that may be large already, on PostgreSQL: built beforehand and concurrently, so
//! that imports go on meanwhile. Their migration has `create index if not exists`, which then finds them; on an empty
//! database, and on SQLite, it makes them itself.
//!
//! Not by a migration without a transaction: the processes that wait for the migration library's lock hold a snapshot,
//! which a concurrent build would wait for in turn. Here they ask again and hold nothing in between.

use std::time::Duration;

use sqlx::{Executor, PgConnection, Row};

/// The table, the index, and the statement that builds it.
type LargeIndex = (&'static str, &'static str, &'static str);

const ALL: [LargeIndex; 2] = [
    (
        "sync_logs",
        "sync_logs_unfinished_by_id",
        "create index concurrently sync_logs_unfinished_by_id on sync_logs (id) where status <> 'success' and attempt >= 0",
    ),
    (
        "sync_logs",
        "sync_logs_exhausted",
        "create index concurrently sync_logs_exhausted on sync_logs (id) where exhausted",
    ),
];

/// Any number that nothing else takes for an advisory lock: "wharf ix" in ASCII.
const LOCK: &str = "8604234232058898808";
/// Time between two tries for the lock.
const PAUSE: Duration = Duration::from_secs(1);

/// Builds what is missing. One process does, the others wait.
pub(crate) async fn build(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    if missing(conn).await?.is_empty() {
        return Ok(());
    }
    while !is(conn, &format!("select pg_try_advisory_lock({LOCK})")).await? {
        tokio::time::sleep(PAUSE).await;
    }
    // Looked at again: whoever had the lock may have built them. It is given back with the session, if not before.
    for (_, index, statement) in missing(conn).await? {
        // A build that broke off leaves an index that nobody reads and everybody writes.
        let left: &str = &format!("drop index concurrently if exists {index}");
        conn.execute(sqlx::AssertSqlSafe(left)).await?;
        tracing::info!(index, "an index is being built; work goes on meanwhile");
        conn.execute(statement).await?;
    }
    is(conn, &format!("select pg_advisory_unlock({LOCK})"))
        .await
        .map(drop)
}

/// Those of tables that hold something. Not of empty ones: another process may be in the middle of its migrations there.
async fn missing(conn: &mut PgConnection) -> Result<Vec<LargeIndex>, sqlx::Error> {
    let mut missing = Vec::new();
    for one in ALL {
        let (table, index, _) = one;
        let wanted = format!(
            "select coalesce(pg_relation_size(to_regclass('{table}')), 0) > 0 and not exists (select 1 from pg_index
                where indexrelid = to_regclass('{index}') and indisvalid)"
        );
        if is(conn, &wanted).await? {
            missing.push(one);
        }
    }
    Ok(missing)
}

async fn is(conn: &mut PgConnection, question: &str) -> Result<bool, sqlx::Error> {
    let row = conn.fetch_one(sqlx::AssertSqlSafe(question)).await?;
    row.try_get(0)
}
