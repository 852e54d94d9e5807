//! The seam between the two databases: connections, transactions and queries. Beside `dialect.rs` this is the only
//! place that knows which database it talks to.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use sqlx::{
    Arguments, AssertSqlSafe, ConnectOptions, Connection, FromRow, PgConnection, PgPool, Postgres,
    Sqlite, SqliteConnection, SqlitePool, Transaction,
    error::BoxDynError,
    migrate::Migrator,
    pool::PoolConnection,
    postgres::{PgArguments, PgConnectOptions, PgPoolOptions, PgRow},
    sqlite::{
        SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow,
        SqliteSynchronous,
    },
};
use tracing::log::LevelFilter;
use wharf_domain::{Clock, SystemClock, Time};

use crate::{
    StoreError,
    dialect::Sql,
    rows::Rows,
    values::{At, Bind},
};

static POSTGRES_MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/postgres");
static SQLITE_MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/sqlite");

/// Our transactions wait for nothing but the database. One that is idle for longer belongs to a process that is paused
/// or cut off, and holds rows that others need: the server ends it, and the process learns of it at its next statement.
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(5);

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backend {
    /// Production: any number of processes.
    Postgres,
    /// The embedded default: one machine, one file.
    Sqlite,
}

/// How to reach the database and how patient to be with it.
#[derive(Clone)]
pub struct LedgerSettings {
    /// `postgres://...`; or `sqlite:PATH` or a path for SQLite, `sqlite::memory:` for none at all.
    pub url: String,
    /// Most connections at a time (PostgreSQL), most readers at a time (SQLite).
    pub pool_size: u32,
    /// How long an operation waits for a free connection before it answers unavailable.
    pub acquire_timeout: Duration,
    /// The server ends a statement that takes longer (PostgreSQL).
    pub statement_timeout: Duration,
}

impl LedgerSettings {
    /// Sane defaults for this URL.
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
            .log_slow_statements(LevelFilter::Warn, Duration::from_secs(1))
            .log_statements(LevelFilter::Trace);
        let pool = PgPoolOptions::new()
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
        let in_memory = path == ":memory:";
        let mut options = SqliteConnectOptions::new()
            .filename(PathBuf::from(path.strip_prefix("//").unwrap_or(path)))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A commit is on the disk before it is answered.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(settings.acquire_timeout)
            .foreign_keys(true)
            .log_slow_statements(LevelFilter::Warn, Duration::from_secs(1))
            .log_statements(LevelFilter::Trace);
        if in_memory {
            options = SqliteConnectOptions::new()
                .in_memory(true)
                .foreign_keys(true);
        }
        let pool = |connections| {
            let pool = SqlitePoolOptions::new()
                .acquire_timeout(settings.acquire_timeout)
                .max_connections(connections);
            // An in-memory database lives and dies with its only connection.
            if in_memory {
                pool.min_connections(1)
                    .idle_timeout(None)
                    .max_lifetime(None)
            } else {
                pool
            }
        };
        let writer = pool(1).connect_with(options.clone()).await?;
        let readers = if in_memory {
            writer.clone()
        } else {
            pool(settings.pool_size)
                .connect_with(options.read_only(true))
                .await?
        };
        Ok(Self(Pools::Sqlite { writer, readers }))
    }

    /// Brings the schema up to date. Safe to run from many processes at once.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        match &self.0 {
            Pools::Postgres(pool) => POSTGRES_MIGRATIONS.run(pool).await?,
            Pools::Sqlite { writer, .. } => SQLITE_MIGRATIONS.run(writer).await?,
        }
        Ok(())
    }

    /// The schema as SQL: every migration in order.
    pub fn schema(backend: Backend) -> String {
        let migrations = match backend {
            Backend::Postgres => &POSTGRES_MIGRATIONS,
            Backend::Sqlite => &SQLITE_MIGRATIONS,
        };
        migrations
            .iter()
            .map(|migration| migration.sql.as_str())
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// Which database this is.
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

    /// Runs one statement's worth of work outside a transaction of its own.
    pub async fn write(&self) -> Result<Conn, StoreError> {
        Ok(match &self.0 {
            Pools::Postgres(pool) => Conn(Link::Postgres(pool.acquire().await?)),
            Pools::Sqlite { writer, .. } => Conn(Link::Sqlite(writer.acquire().await?)),
        })
    }

    /// How the connections are used at this moment, by pool: `shared` of PostgreSQL, `writer` and `readers` of SQLite.
    pub fn pools(&self) -> Vec<PoolFigures> {
        fn figures<DB: sqlx::Database>(pool: &'static str, of: &sqlx::Pool<DB>) -> PoolFigures {
            let (open, idle) = (of.size(), u32::try_from(of.num_idle()).unwrap_or(u32::MAX));
            PoolFigures {
                pool,
                used: open.saturating_sub(idle),
                idle,
                most: of.options().get_max_connections(),
            }
        }
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
                readers.close().await;
                writer.close().await;
            }
        }
    }

    /// The clock that leases and due times are kept by: the database server's, as this process sees it, so that
    /// processes whose own clocks disagree still agree. SQLite is on this machine and uses its clock.
    ///
    /// Call it inside a tokio runtime: the clock is set anew every minute, for as long as somebody holds it.
    pub async fn clock(&self) -> Result<Arc<dyn Clock>, StoreError> {
        let Pools::Postgres(_) = &self.0 else {
            return Ok(Arc::new(SystemClock));
        };
        let clock = Arc::new(ServerClock {
            ahead_micros: AtomicI64::new(self.ahead_micros().await?),
        });
        let (ledger, watched) = (self.clone(), Arc::downgrade(&clock));
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SET_CLOCK_EVERY).await;
                let Some(clock) = watched.upgrade() else {
                    return;
                };
                // A server that does not answer now is asked again; the clock goes on meanwhile.
                if let Ok(ahead) = ledger.ahead_micros().await {
                    clock.ahead_micros.store(ahead, Ordering::Relaxed);
                }
            }
        });
        Ok(clock)
    }

    /// How far the server's clock is ahead of ours, by the quickest of three questions.
    async fn ahead_micros(&self) -> Result<i64, StoreError> {
        let mut conn = self.read().await?;
        let (mut ahead, mut quickest) = (0, Duration::MAX);
        for _ in 0..3 {
            let before = SystemClock.now();
            let there = conn.server_time().await?;
            let took = SystemClock.now().since(before);
            if took < quickest {
                quickest = took;
                ahead = there.as_micros() - (before + took / 2).as_micros();
            }
        }
        Ok(ahead)
    }
}

/// Connections of one pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolFigures {
    /// Its name.
    pub pool: &'static str,
    /// At work.
    pub used: u32,
    /// Open and free.
    pub idle: u32,
    /// How many may be open.
    pub most: u32,
}

const SET_CLOCK_EVERY: Duration = Duration::from_secs(60);

/// The machine's clock, moved by how far the database server's was ahead when we last asked.
struct ServerClock {
    ahead_micros: AtomicI64,
}

impl Clock for ServerClock {
    fn now(&self) -> Time {
        Time::from_micros(SystemClock.now().as_micros() + self.ahead_micros.load(Ordering::Relaxed))
    }
}

/// A connection, in or out of a transaction.
pub struct Conn(Link);

enum Link {
    Postgres(PoolConnection<Postgres>),
    PostgresTx(Transaction<'static, Postgres>),
    Sqlite(PoolConnection<Sqlite>),
    SqliteTx(Transaction<'static, Sqlite>),
}

enum Raw<'c> {
    Postgres(&'c mut PgConnection),
    Sqlite(&'c mut SqliteConnection),
}

impl Conn {
    fn raw(&mut self) -> Raw<'_> {
        match &mut self.0 {
            Link::Postgres(conn) => Raw::Postgres(conn),
            Link::PostgresTx(tx) => Raw::Postgres(tx),
            Link::Sqlite(conn) => Raw::Sqlite(conn),
            Link::SqliteTx(tx) => Raw::Sqlite(tx),
        }
    }

    /// Which database this is.
    pub fn backend(&self) -> Backend {
        match &self.0 {
            Link::Postgres(_) | Link::PostgresTx(_) => Backend::Postgres,
            Link::Sqlite(_) | Link::SqliteTx(_) => Backend::Sqlite,
        }
    }

    /// Whether the database answers.
    pub async fn ping(&mut self) -> Result<(), StoreError> {
        match self.raw() {
            Raw::Postgres(conn) => conn.ping().await?,
            Raw::Sqlite(conn) => conn.ping().await?,
        }
        Ok(())
    }

    /// Prepares a statement without running it.
    pub async fn prepare(&mut self, sql: Sql) -> Result<(), StoreError> {
        use sqlx::{Executor, SqlSafeStr};
        match self.raw() {
            Raw::Postgres(conn) => drop(conn.prepare(sql.postgres.into_sql_str()).await?),
            Raw::Sqlite(conn) => drop(conn.prepare(sql.sqlite.into_sql_str()).await?),
        }
        Ok(())
    }

    async fn server_time(&mut self) -> Result<Time, StoreError> {
        #[derive(FromRow)]
        struct Row {
            at: At,
        }
        const NOW: Sql = Sql {
            postgres: "select clock_timestamp() as at",
            sqlite: "select cast(unixepoch('subsec') * 1000000 as integer) as at",
        };
        Ok(self.query(NOW).one::<Row>().await?.at.0)
    }

    /// Runs SQL that a test or a benchmark wrote. Never with text from outside.
    pub async fn run_raw(&mut self, sql: &str) -> Result<u64, StoreError> {
        Ok(match self.raw() {
            Raw::Postgres(conn) => sqlx::raw_sql(AssertSqlSafe(sql))
                .execute(conn)
                .await?
                .rows_affected(),
            Raw::Sqlite(conn) => sqlx::raw_sql(AssertSqlSafe(sql))
                .execute(conn)
                .await?
                .rows_affected(),
        })
    }

    /// The number that such SQL answers.
    pub async fn number_raw(&mut self, sql: &str) -> Result<i64, StoreError> {
        Ok(match self.raw() {
            Raw::Postgres(conn) => {
                sqlx::query_scalar(AssertSqlSafe(sql))
                    .fetch_one(conn)
                    .await?
            }
            Raw::Sqlite(conn) => {
                sqlx::query_scalar(AssertSqlSafe(sql))
                    .fetch_one(conn)
                    .await?
            }
        })
    }

    pub(crate) fn query(&mut self, sql: Sql) -> Query<'_> {
        let args = match self.backend() {
            Backend::Postgres => Args::Postgres(PgArguments::default()),
            Backend::Sqlite => Args::Sqlite(SqliteArguments::default()),
        };
        Query {
            conn: self,
            sql,
            args,
            failed: None,
        }
    }
}

/// A transaction. Dropped without [`commit`](Tx::commit), it is rolled back.
pub struct Tx(Conn);

impl Tx {
    /// Makes everything durable, or nothing.
    pub async fn commit(self) -> Result<(), StoreError> {
        match self.0.0 {
            Link::PostgresTx(tx) => tx.commit().await?,
            Link::SqliteTx(tx) => tx.commit().await?,
            Link::Postgres(_) | Link::Sqlite(_) => {}
        }
        Ok(())
    }
}

impl std::ops::Deref for Tx {
    type Target = Conn;
    fn deref(&self) -> &Conn {
        &self.0
    }
}

impl std::ops::DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut Conn {
        &mut self.0
    }
}

enum Args {
    Postgres(PgArguments),
    Sqlite(SqliteArguments),
}

/// A statement with its values, about to run.
pub(crate) struct Query<'c> {
    conn: &'c mut Conn,
    sql: Sql,
    args: Args,
    failed: Option<BoxDynError>,
}

/// A row type that can be read from both databases (`#[derive(FromRow)]` is generic over the row).
pub(crate) trait Row:
    for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> + Send + Unpin
{
}
impl<T: for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> + Send + Unpin> Row for T {}

impl<'c> Query<'c> {
    /// The next value, `$1`, `$2` and so on.
    pub(crate) fn bind<'t>(mut self, value: impl Bind<'t>) -> Self {
        let added = match &mut self.args {
            Args::Postgres(args) => args.add(value),
            Args::Sqlite(args) => args.add(value),
        };
        self.failed = self.failed.or(added.err());
        self
    }

    pub(crate) fn time(self, at: Time) -> Self {
        self.bind(At(at))
    }

    pub(crate) fn rows(self, rows: &Rows) -> Self {
        let text = rows.to_json();
        self.bind(text)
    }

    fn ready(self) -> Result<(Raw<'c>, Sql, Args), StoreError> {
        match self.failed {
            Some(error) => Err(StoreError::Defect(sqlx::Error::Encode(error))),
            None => Ok((self.conn.raw(), self.sql, self.args)),
        }
    }

    /// Every row.
    pub(crate) async fn all<T: Row>(self) -> Result<Vec<T>, StoreError> {
        Ok(match self.ready()? {
            (Raw::Postgres(conn), sql, Args::Postgres(args)) => {
                sqlx::query_as_with(sql.postgres, args)
                    .fetch_all(conn)
                    .await?
            }
            (Raw::Sqlite(conn), sql, Args::Sqlite(args)) => {
                sqlx::query_as_with(sql.sqlite, args)
                    .fetch_all(conn)
                    .await?
            }
            _ => unreachable!("arguments are made for the connection's backend"),
        })
    }

    /// The only row, if there is one.
    pub(crate) async fn optional<T: Row>(self) -> Result<Option<T>, StoreError> {
        Ok(self.all().await?.pop())
    }

    /// The only row.
    pub(crate) async fn one<T: Row>(self) -> Result<T, StoreError> {
        self.optional()
            .await?
            .ok_or(StoreError::Defect(sqlx::Error::RowNotFound))
    }

    /// Runs it; how many rows it touched.
    pub(crate) async fn run(self) -> Result<u64, StoreError> {
        Ok(match self.ready()? {
            (Raw::Postgres(conn), sql, Args::Postgres(args)) => {
                sqlx::query_with(sql.postgres, args)
                    .execute(conn)
                    .await?
                    .rows_affected()
            }
            (Raw::Sqlite(conn), sql, Args::Sqlite(args)) => sqlx::query_with(sql.sqlite, args)
                .execute(conn)
                .await?
                .rows_affected(),
            _ => unreachable!("arguments are made for the connection's backend"),
        })
    }
}
