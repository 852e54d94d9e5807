//! Backups of SQLite while hosts work on it. PostgreSQL has programs of its own for that.

use std::{path::Path, time::Duration};

use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tracing::log::LevelFilter;

use crate::{KeyId, StoreError, ledger::sqlite_file};

/// A host's own writes take milliseconds; only migrations and commands hold the file for longer.
const BUSY: Duration = Duration::from_secs(30);

/// A backup that was read from end to end.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The keys that values in it are sealed with, as far as the database knows.
    pub keys: Vec<KeyId>,
}

/// Writes the whole database, as it is at this moment, into a file that is empty or missing. Others read and write
/// meanwhile; what they write makes the write-ahead log longer until this is over.
///
/// # Errors
/// If there is no such database, or it cannot be read, or the file cannot be written.
pub async fn write(database: &Path, file: &Path) -> Result<(), StoreError> {
    let options = sqlite_file(database)
        .create_if_missing(false)
        .busy_timeout(BUSY)
        // It takes as long as the disk takes.
        .log_slow_statements(LevelFilter::Off, Duration::ZERO);
    let mut conn = SqliteConnection::connect_with(&options).await?;
    // One read transaction: no half of anything is in it.
    let written = sqlx::query("vacuum into $1")
        .bind(file.to_string_lossy().into_owned())
        .execute(&mut conn)
        .await;
    conn.close().await?;
    written?;
    Ok(())
}

/// Reads a backup from end to end, and changes nothing beside it either.
///
/// # Errors
/// [`StoreError::Unreadable`] if a page or an index of it is damaged, or a row refers to one that is not there.
pub async fn check(file: &Path) -> Result<Checked, StoreError> {
    let damaged = |why: String| StoreError::unreadable("the backup", why);
    // Nobody else knows the file: without locks, and without a log beside it.
    let options = SqliteConnectOptions::new()
        .filename(file)
        .read_only(true)
        .immutable(true)
        .log_slow_statements(LevelFilter::Off, Duration::ZERO);
    let mut conn = SqliteConnection::connect_with(&options).await?;
    let said: String = sqlx::query_scalar("pragma integrity_check(1)")
        .fetch_one(&mut conn)
        .await?;
    if said != "ok" {
        return Err(damaged(said));
    }
    let orphan: Option<(String,)> =
        sqlx::query_as("select \"table\" from pragma_foreign_key_check limit 1")
            .fetch_optional(&mut conn)
            .await?;
    if let Some((table,)) = orphan {
        return Err(damaged(format!(
            "a row of {table} refers to one that is not there"
        )));
    }
    // A database of an old release has no such table.
    let keys: Vec<(Vec<u8>,)> =
        sqlx::query_as("select key_id from key_canaries order by created_at, key_id")
            .fetch_all(&mut conn)
            .await
            .unwrap_or_default();
    conn.close().await?;
    let keys = keys
        .into_iter()
        .filter_map(|(id,)| id.try_into().ok().map(KeyId));
    Ok(Checked {
        keys: keys.collect(),
    })
}
