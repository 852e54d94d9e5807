//! The database: its pools, its schema, and the ways to a connection.

use std::{path::PathBuf, time::Duration};

use sqlx::{
    ConnectOptions, Connection, Database, PgPool, SqlitePool,
    pool::PoolOptions,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tracing::log::LevelFilter;

use crate::{Conn, StoreError, Tx, conn::Link, migrations};

/// Our transactions wait for nothing but the database. One that is idle for longer belongs to a process that is paused
/// or cut off, and holds rows that others need: the server ends it, and the process learns of it at its next statement.
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(5);

/// A kind of database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backend {
    /// Production: any number of processes.
    Postgres,
    /// The embedded default: one machine, one file.
    Sqlite,
}

/// The way to the database, and how long to wait for it.
#[derive(Clone)]
pub struct LedgerSettings {
    /// `postgres://...`; or `sqlite:PATH` or a path for SQLite, `sqlite::memory:` for none at all.
    pub url: String,
    /// Most connections at a time (PostgreSQL), most readers at a time (SQLite).
    pub pool_size: u32,
    /// The wait for a free connection before an operation answers unavailable.
    pub acquire_timeout: Duration,
    /// The server ends a statement that takes longer (PostgreSQL).
    pub statement_timeout: Duration,
}

impl LedgerSettings {
    /// The defaults for this URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            pool_size: 16,
            acquire_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
        }
    }
}

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Ledger(Pools);

#[derive(Clone)]
enum Pools {
    Postgres(PgPool),
    /// SQLite has one writer at a time anyway: a pool of one makes writers queue here, in order, not in its busy loop.
    Sqlite {
        writer: SqlitePool,
        readers: SqlitePool,
    },
}

impl Ledger {
    /// Opens the database; makes the file if it is SQLite's and missing. Does not touch the schema.
    pub async fn open(settings: &LedgerSettings) -> Result<Self, StoreError> {
        if settings.url.starts_with("postgres:") || settings.url.starts_with("postgresql:") {
            Self::open_postgres(settings).await
        } else {
            Self::open_sqlite(settings).await
        }
    }

    async fn open_postgres(settings: &LedgerSettings) -> Result<Self, StoreError> {
        let options = settings
            .url
            .parse::<PgConnectOptions>()?
            .application_name("wharf")
            .options([
                ("statement_timeout", settings.statement_timeout.as_millis()),
                (
                    "idle_in_transaction_session_timeout",
                    IDLE_IN_TRANSACTION.as_millis(),
                ),
            ])
            // No statement of ours should take a second: one that does is missing an index.
            .log_slow_statements(LevelFilter::Warn, Duration::from_secs(1))
            .log_statements(LevelFilter::Trace);
        let pool = whole(PgPoolOptions::new())
            .max_connections(settings.pool_size)
            .acquire_timeout(settings.acquire_timeout)
            .connect_with(options)
            .await?;
        Ok(Self(Pools::Postgres(pool)))
    }

    async fn open_sqlite(settings: &LedgerSettings) -> Result<Self, StoreError> {
        let path = settings
            .url
            .strip_prefix("sqlite:")
            .unwrap_or(&settings.url);
        if path == ":memory:" {
            return Self::open_in_memory(settings).await;
        }
        // A command of another process may be writing: it is waited for as for a connection.
        let options = sqlite_file(path).busy_timeout(settings.acquire_timeout);
        // The writer first: it makes the file, which readers must find.
        let writer = whole(sqlite_pool(settings, 1))
            .connect_with(options.clone())
            .await?;
        let readers = sqlite_pool(settings, settings.pool_size)
            .connect_with(options.read_only(true))
            .await?;
        Ok(Self(Pools::Sqlite { writer, readers }))
    }

    /// An in-memory database lives and dies with its only connection.
    async fn open_in_memory(settings: &LedgerSettings) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new().in_memory(true);
        let writer = sqlite_pool(settings, 1)
            .min_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options.foreign_keys(true))
            .await?;
        let readers = writer.clone();
        Ok(Self(Pools::Sqlite { writer, readers }))
    }

    /// Brings the schema up to date. Safe to run from many processes at once.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        match &self.0 {
            Pools::Postgres(pool) => migrations::migrator(Backend::Postgres).run(pool).await?,
            Pools::Sqlite { writer, .. } => {
                migrations::migrator(Backend::Sqlite).run(writer).await?
            }
        }
        Ok(())
    }

    /// The schema as SQL: every migration in order.
    pub fn schema(backend: Backend) -> String {
        migrations::schema(backend)
    }

    /// The kind of database that this is.
    pub fn backend(&self) -> Backend {
        match &self.0 {
            Pools::Postgres(_) => Backend::Postgres,
            Pools::Sqlite { .. } => Backend::Sqlite,
        }
    }

    /// A connection for reading.
    pub async fn read(&self) -> Result<Conn, StoreError> {
        Ok(match &self.0 {
            Pools::Postgres(pool) => Conn(Link::Postgres(pool.acquire().await?)),
            Pools::Sqlite { readers, .. } => Conn(Link::Sqlite(readers.acquire().await?)),
        })
    }

    /// Begins a writing transaction. SQLite's takes the write lock at once: a deferred one fails when two meet.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        Ok(Tx(match &self.0 {
            Pools::Postgres(pool) => Conn(Link::PostgresTx(pool.begin().await?)),
            Pools::Sqlite { writer, .. } => {
                Conn(Link::SqliteTx(writer.begin_with("begin immediate").await?))
            }
        }))
    }

    /// A connection for writing single statements, each a transaction of its own.
    pub async fn write(&self) -> Result<Conn, StoreError> {
        Ok(match &self.0 {
            Pools::Postgres(pool) => Conn(Link::Postgres(pool.acquire().await?)),
            Pools::Sqlite { writer, .. } => Conn(Link::Sqlite(writer.acquire().await?)),
        })
    }

    /// The connections in use at this moment, by pool: `shared` of PostgreSQL, `writer` and `readers` of SQLite.
    pub fn pools(&self) -> Vec<PoolFigures> {
        match &self.0 {
            Pools::Postgres(pool) => vec![figures("shared", pool)],
            Pools::Sqlite { writer, readers } => {
                vec![figures("writer", writer), figures("readers", readers)]
            }
        }
    }

    /// Closes every connection; waits for those in use.
    pub async fn close(&self) {
        match &self.0 {
            Pools::Postgres(pool) => pool.close().await,
            Pools::Sqlite { writer, readers } => {
                // The writer last: the last to close merges the write-ahead log into the file, which readers cannot.
                readers.close().await;
                writer.close().await;
            }
        }
    }
}

/// Gives connections up that a failed commit or rollback left in a transaction: SQLite ends the transaction by itself
/// when the disk is full, the driver does not learn of it, and every later `begin` would be refused.
fn whole<DB: Database>(options: PoolOptions<DB>) -> PoolOptions<DB> {
    // Asked when it is taken: the pool has seen the rollback through by then.
    options.before_acquire(|conn, _| Box::pin(async move { Ok(!conn.is_in_transaction()) }))
}

fn sqlite_pool(settings: &LedgerSettings, connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .acquire_timeout(settings.acquire_timeout)
        .max_connections(connections)
}

fn sqlite_file(path: &str) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(PathBuf::from(path.strip_prefix("//").unwrap_or(path)))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // A commit is on the disk before it is answered.
        .synchronous(SqliteSynchronous::Full)
        // SQLite's default is off, for each connection.
        .foreign_keys(true)
        .log_slow_statements(LevelFilter::Warn, Duration::from_secs(1))
        .log_statements(LevelFilter::Trace)
}

fn figures<DB: sqlx::Database>(pool: &'static str, of: &sqlx::Pool<DB>) -> PoolFigures {
    let (open, idle) = (of.size(), u32::try_from(of.num_idle()).unwrap_or(u32::MAX));
    PoolFigures {
        pool,
        used: open.saturating_sub(idle),
        idle,
        most: of.options().get_max_connections(),
    }
}

/// The connections of one pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolFigures {
    /// Its name.
    pub pool: &'static str,
    /// At work.
    pub used: u32,
    /// Open and free.
    pub idle: u32,
    /// The most that may be open.
    pub most: u32,
}
