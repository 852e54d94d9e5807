//! Open connections to one database, handed out one by one.
//!
//! sqlx's own pool asks the server for a sign of life whenever a connection is taken and whenever one comes back: two of
//! the three round trips of a short read. Here only those are asked that were idle for a while, or came back in the
//! middle of something.

use std::time::Duration;

use deadpool::{
    Runtime,
    managed::{self, Manager, Metrics, PoolError, QueueMode, RecycleError, RecycleResult},
};
use sqlx::{Connection, Database, Executor};
use tokio::{runtime::Handle, time::timeout};

/// A connection that was used within this time is taken for alive. The first statement after it may fail where the
/// server has just been restarted, as any statement may that is under way at that moment.
const FRESH: Duration = Duration::from_secs(1);
/// A connection is closed at this age: what a server's session gathers in memory goes with it.
const MAX_AGE: Duration = Duration::from_secs(30 * 60);
/// Connections that nobody needed for this time are closed.
const MAX_IDLE: Duration = Duration::from_secs(10 * 60);
/// Interval at which idle ones are looked for.
const IDLE_TICK: Duration = Duration::from_secs(60);
/// The longest pause between two tries to reach a server that is starting.
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// Time for a connection to get over what was broken off. Longer and it is closed, which ends it as well.
const RECOVERY: Duration = Duration::from_secs(5);

/// A connection that goes back to its pool when it is dropped.
pub(crate) type Pooled<DB> = managed::Object<Connector<DB>>;

type Options<DB> = <<DB as Database>::Connection as Connection>::Options;

/// The bounds of a pool.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    /// Most connections at a time.
    pub(crate) size: usize,
    /// The wait for one, the time to make one included.
    pub(crate) acquire_timeout: Duration,
    /// How long its connections last.
    pub(crate) lifetime: Lifetime,
}

/// How long connections last.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// Until they are old, or idle for long, or broken.
    Limited,
    /// As long as the pool: the database is in the connection's memory.
    Forever,
}

/// The maker of a pool's connections.
pub(crate) struct Connector<DB: Database> {
    options: Options<DB>,
    lifetime: Lifetime,
}

/// What a connection was doing when it was dropped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unfinished {
    /// Nothing: it goes straight back.
    Nothing,
    /// A statement, whose answer is still to come; or the connection broke.
    Statement,
    /// A transaction.
    Transaction,
}

impl<DB: Database> Manager for Connector<DB> {
    type Type = DB::Connection;
    type Error = sqlx::Error;

    async fn create(&self) -> Result<DB::Connection, sqlx::Error> {
        let mut pause = Duration::from_millis(10);
        // Ended by the time limit of whoever waits for the connection.
        loop {
            match DB::Connection::connect_with(&self.options).await {
                Err(error) if is_starting(&error) => tokio::time::sleep(pause).await,
                result => return result,
            }
            pause = MAX_PAUSE.min(pause * 2);
        }
    }

    async fn recycle(
        &self,
        conn: &mut DB::Connection,
        metrics: &Metrics,
    ) -> RecycleResult<sqlx::Error> {
        if self.lifetime == Lifetime::Forever {
            return Ok(());
        }
        if metrics.age() > MAX_AGE {
            return Err(RecycleError::message("it is old"));
        }
        if metrics.last_used() > FRESH {
            conn.ping().await?;
        }
        Ok(())
    }
}

/// Returns true for what a server answers that is about to be there.
fn is_starting(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        sqlx::Error::Database(error) => error.is_transient_in_connect_phase(),
        _ => false,
    }
}

/// Open connections. Cheap to clone.
pub(crate) struct Pool<DB: Database> {
    inner: managed::Pool<Connector<DB>>,
    bounds: Bounds,
}

// Not derived: that would ask for `DB: Clone`.
impl<DB: Database> Clone for Pool<DB> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            bounds: self.bounds,
        }
    }
}

impl<DB: Database> Pool<DB> {
    /// Opens a pool with its first connection, which shows that there is a database.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) async fn open(options: Options<DB>, bounds: Bounds) -> Result<Self, sqlx::Error> {
        let lifetime = bounds.lifetime;
        let inner = managed::Pool::builder(Connector { options, lifetime })
            .max_size(bounds.size)
            // The one that was used last first: the others can become idle and be closed.
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            // Half: where a connection hangs, there is time left for making another.
            .recycle_timeout(Some(bounds.acquire_timeout / 2))
            .build()
            .expect("it has a runtime for its time limit");
        let pool = Self { inner, bounds };
        drop(pool.get().await?);
        if lifetime == Lifetime::Limited {
            tokio::spawn(close_idle(pool.inner.weak()));
        }
        Ok(pool)
    }

    /// Takes a connection, a new one if all are in use and there may be more.
    pub(crate) async fn get(&self) -> Result<Pooled<DB>, sqlx::Error> {
        match timeout(self.bounds.acquire_timeout, self.inner.get()).await {
            Ok(Ok(conn)) => Ok(conn),
            Ok(Err(PoolError::Backend(error))) => Err(error),
            Ok(Err(PoolError::Closed)) => Err(sqlx::Error::PoolClosed),
            Ok(Err(_)) | Err(_) => Err(sqlx::Error::PoolTimedOut),
        }
    }

    /// Returns how many connections are open, and how many of them are free.
    pub(crate) fn open_and_free(&self) -> (usize, usize) {
        let status = self.inner.status();
        (status.size, status.available)
    }

    /// The most connections at a time.
    pub(crate) fn size(&self) -> usize {
        self.bounds.size
    }

    /// Closes every connection; waits for those in use, but not longer than for one that was broken off.
    pub(crate) async fn close(&self) {
        let all = async {
            loop {
                for conn in self.inner.retain(|_, _| false).removed {
                    // What it says is of no use to anybody any more.
                    let _ = conn.close().await;
                }
                if self.inner.status().size == 0 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let _ = timeout(RECOVERY, all).await;
        self.inner.close();
    }
}

async fn close_idle<DB: Database>(pool: managed::WeakPool<Connector<DB>>) {
    loop {
        tokio::time::sleep(IDLE_TICK).await;
        let Some(pool) = pool.upgrade() else { return };
        let removed = pool
            .retain(|_, metrics| metrics.last_used() < MAX_IDLE)
            .removed;
        for conn in removed {
            let _ = conn.close().await;
        }
    }
}

/// Gives a connection back that was dropped in the middle of something, once that is over; closes it if it does not end.
pub(crate) fn recover<DB>(conn: Pooled<DB>, unfinished: Unfinished)
where
    DB: Database,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    // Without a runtime the process is ending, and the connection with it.
    let Ok(runtime) = Handle::try_current() else {
        return drop(managed::Object::take(conn));
    };
    let lifetime = managed::Object::pool(&conn).map(|pool| pool.manager().lifetime);
    let limit = match lifetime {
        // A database in memory would be closed with its connection.
        Some(Lifetime::Forever) => Duration::MAX,
        Some(Lifetime::Limited) | None => RECOVERY,
    };
    // A task: locks must not wait until somebody takes the connection again.
    runtime.spawn(async move {
        let mut conn = conn;
        let ended = timeout(limit, end::<DB>(&mut conn, unfinished)).await;
        if !matches!(ended, Ok(Ok(()))) {
            let _ = managed::Object::take(conn).close_hard().await;
        }
    });
}

async fn end<DB>(conn: &mut DB::Connection, unfinished: Unfinished) -> Result<(), sqlx::Error>
where
    DB: Database,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    if unfinished == Unfinished::Transaction {
        // SQLite may have ended it by itself, on a full disk for one. Then this fails, and the connection is given up.
        (&mut *conn).execute("rollback").await?;
    }
    conn.ping().await
}
