//! The database: its pools, its schema, and the ways to a connection.

use std::{
    fs::OpenOptions,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    ConnectOptions, Connection, Database, Executor, Postgres, Sqlite,
    postgres::PgConnectOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteLockingMode, SqliteSynchronous},
};
use tracing::log::LevelFilter;

use crate::{
    Conn, StoreError, Tx,
    conn::Link,
    connect, large_indexes, migrations,
    pool::{Bounds, Lifetime, Pool, Pooled},
};

/// Our transactions wait for nothing but the database. One that is idle for longer belongs to a process that is paused
/// or cut off, and holds rows that others need: the server ends it, and the process learns of it at its next statement.
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(5);

/// The wait for a file that nobody else may have open: commands have it for moments, hosts for ever.
const ALONE_WITHIN: Duration = Duration::from_millis(500);

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
    /// The server ends a statement that takes longer (PostgreSQL). Migrations have no limit.
    pub statement_timeout: Duration,
    /// The wait for the server to answer at the start (PostgreSQL); none asks it once.
    pub start_wait: Duration,
    /// The role of this process, as PostgreSQL shows it in `application_name`: `wharf <activity>`.
    pub activity: String,
}

impl LedgerSettings {
    /// The defaults for this URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            pool_size: 16,
            acquire_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            start_wait: Duration::ZERO,
            activity: String::new(),
        }
    }

    /// The path of SQLite's file; `None` for a database in memory or PostgreSQL's.
    pub fn sqlite_path(&self) -> Option<PathBuf> {
        if self.is_postgres() {
            return None;
        }
        let path = self.url.strip_prefix("sqlite:").unwrap_or(&self.url);
        (path != ":memory:").then(|| PathBuf::from(path.strip_prefix("//").unwrap_or(path)))
    }

    /// The database's place for people, without a password; two different databases have different ones.
    ///
    /// # Errors
    /// If the URL is none.
    pub fn place(&self) -> Result<String, StoreError> {
        if self.is_postgres() {
            let options = self.url.parse::<PgConnectOptions>()?;
            return Ok(connect::Place(&options).to_string());
        }
        let path = self.sqlite_path().unwrap_or_else(|| ":memory:".into());
        // The name that leads to it from everywhere; one that does not exist has no other.
        let path = std::path::absolute(&path).unwrap_or(path);
        Ok(format!("SQLite in {}", path.display()))
    }

    fn is_postgres(&self) -> bool {
        self.url.starts_with("postgres:") || self.url.starts_with("postgresql:")
    }

    fn bounds(&self, size: u32) -> Bounds {
        Bounds {
            size: size as usize,
            acquire_timeout: self.acquire_timeout,
            lifetime: Lifetime::Limited,
        }
    }
}

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Ledger(Pools);

#[derive(Clone)]
enum Pools {
    Postgres(Pool<Postgres>),
    /// SQLite has one writer at a time anyway: a pool of one makes writers queue here, in order, not in its busy loop.
    Sqlite {
        writer: Pool<Sqlite>,
        readers: Pool<Sqlite>,
    },
}

impl Ledger {
    /// Opens the database; makes the file if it is SQLite's and missing. Does not touch the schema.
    pub async fn open(settings: &LedgerSettings) -> Result<Self, StoreError> {
        if settings.is_postgres() {
            Self::open_postgres(settings).await
        } else {
            Self::open_sqlite(settings).await
        }
    }

    async fn open_postgres(settings: &LedgerSettings) -> Result<Self, StoreError> {
        let options = settings.url.parse::<PgConnectOptions>()?;
        // A name in the URL tells installations apart that share a server.
        let name = options.get_application_name().unwrap_or("wharf");
        let name = format!("{name} {}", settings.activity);
        let options = options
            .application_name(name.trim_end())
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
        connect::reach(&options, settings.start_wait).await?;
        let bounds = settings.bounds(settings.pool_size);
        Ok(Self(Pools::Postgres(Pool::open(options, bounds).await?)))
    }

    async fn open_sqlite(settings: &LedgerSettings) -> Result<Self, StoreError> {
        let Some(path) = settings.sqlite_path() else {
            return Self::open_in_memory(settings).await;
        };
        // A command of another process may be writing: it is waited for as for a connection.
        let options = sqlite_file(&path).busy_timeout(settings.acquire_timeout);
        make_private(options.get_filename())?;
        // The writer first: readers must find what it makes of the file.
        let writer = Pool::open(options.clone(), settings.bounds(1)).await?;
        let readers =
            Pool::open(options.read_only(true), settings.bounds(settings.pool_size)).await?;
        Ok(Self(Pools::Sqlite { writer, readers }))
    }

    /// Opens SQLite's file with one connection that locks it: nobody else can read or write it until it is closed. With
    /// `make` it may be missing.
    pub(crate) async fn open_alone(
        settings: &LedgerSettings,
        make: bool,
    ) -> Result<Self, StoreError> {
        let path = settings.sqlite_path().unwrap_or_default();
        if make {
            make_private(&path)?;
        }
        // In WAL mode every connection holds a lock on the file for as long as it is open, at rest too; this one asks for
        // the whole file. Not waited for: a host does not go away by itself.
        let options = sqlite_file(&path)
            .create_if_missing(false)
            .locking_mode(SqliteLockingMode::Exclusive)
            // Large pages are read while others are written: that is no sign of a missing index.
            .log_slow_statements(LevelFilter::Off, Duration::ZERO)
            .busy_timeout(ALONE_WITHIN);
        let bounds = Bounds {
            lifetime: Lifetime::Forever,
            ..settings.bounds(1)
        };
        let writer = Pool::open(options, bounds).await?;
        let readers = writer.clone();
        Ok(Self(Pools::Sqlite { writer, readers }))
    }

    /// An in-memory database lives and dies with its only connection.
    async fn open_in_memory(settings: &LedgerSettings) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new().in_memory(true);
        let bounds = Bounds {
            lifetime: Lifetime::Forever,
            ..settings.bounds(1)
        };
        let writer = Pool::open(options.foreign_keys(true), bounds).await?;
        let readers = writer.clone();
        Ok(Self(Pools::Sqlite { writer, readers }))
    }

    /// Applies the migrations that the schema lacks, however long they take. Safe to run from many processes at once: one
    /// migrates, the others wait.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        match &self.0 {
            Pools::Postgres(pool) => {
                // Not given back: it keeps no time limit.
                let mut conn = Pooled::take(pool.get().await?);
                conn.execute("set statement_timeout = 0").await?;
                large_indexes::build(&mut conn).await?;
                migrations::migrator(Backend::Postgres)
                    .run(&mut conn)
                    .await?;
                conn.close().await?;
            }
            Pools::Sqlite { writer, .. } => {
                let mut conn = writer.get().await?;
                migrations::migrator(Backend::Sqlite)
                    .run(&mut *conn)
                    .await?;
            }
        }
        // Where no store is, no program of before needs to find one.
        let mut conn = self.write().await?;
        crate::stores::token::hide_in_new(&mut conn).await?;
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
        Ok(Conn::new(match &self.0 {
            Pools::Postgres(pool) => Link::Postgres(pool.get().await?),
            Pools::Sqlite { readers, .. } => Link::Sqlite(readers.get().await?),
        }))
    }

    /// Begins a writing transaction.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        Tx::begin(self.write().await?).await
    }

    /// A connection for writing single statements, each a transaction of its own.
    pub async fn write(&self) -> Result<Conn, StoreError> {
        Ok(Conn::new(match &self.0 {
            Pools::Postgres(pool) => Link::Postgres(pool.get().await?),
            Pools::Sqlite { writer, .. } => Link::Sqlite(writer.get().await?),
        }))
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

/// The way to a file, with what every connection to it needs.
pub(crate) fn sqlite_file(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // A commit is on the disk before it is answered.
        .synchronous(SqliteSynchronous::Full)
        // SQLite's default is off, for each connection.
        .foreign_keys(true)
        .log_slow_statements(LevelFilter::Warn, Duration::from_secs(1))
        .log_statements(LevelFilter::Trace)
}

/// Makes the file for its owner alone, before SQLite makes it for everybody; journals take its mode. One that is there keeps
/// its mode, which somebody chose.
#[allow(
    clippy::disallowed_methods,
    reason = "once at the start, before anything is served"
)]
fn make_private(path: &Path) -> Result<(), StoreError> {
    let mut private = OpenOptions::new();
    private.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut private, 0o600);
    match private.open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(StoreError::Unavailable(error.into()))
        }
        _ => Ok(()),
    }
}

fn figures<DB: Database>(pool: &'static str, of: &Pool<DB>) -> PoolFigures {
    let (open, idle) = of.open_and_free();
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    PoolFigures {
        pool,
        used: number(open.saturating_sub(idle)),
        idle: number(idle),
        most: number(of.size()),
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
