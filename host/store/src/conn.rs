//! A connection to either database, in or out of a transaction.

use sqlx::{Connection, Executor, PgConnection, Postgres, Sqlite, SqliteConnection};

use crate::{
    Backend, StoreError,
    pool::{Pooled, Unfinished, recover},
};

/// A connection, in or out of a transaction.
pub struct Conn {
    /// `None` only while it is dropped.
    link: Option<Link>,
    unfinished: Unfinished,
}

pub(crate) enum Link {
    Postgres(Pooled<Postgres>),
    Sqlite(Pooled<Sqlite>),
}

/// The driver's connection.
pub(crate) enum Raw<'c> {
    Postgres(&'c mut PgConnection),
    Sqlite(&'c mut SqliteConnection),
}

impl Conn {
    pub(crate) fn new(link: Link) -> Self {
        Self {
            link: Some(link),
            unfinished: Unfinished::Nothing,
        }
    }

    /// The driver's connection, for one statement. Hand its result to [`answered`](Self::answered).
    pub(crate) fn ask(&mut self) -> Raw<'_> {
        // Set first: the statement's future may be dropped at any point.
        if self.unfinished == Unfinished::Nothing {
            self.unfinished = Unfinished::Statement;
        }
        match self.link.as_mut().expect("it is not being dropped") {
            Link::Postgres(conn) => Raw::Postgres(conn),
            Link::Sqlite(conn) => Raw::Sqlite(conn),
        }
    }

    /// A statement ended so.
    pub(crate) fn answered<T>(&mut self, result: Result<T, sqlx::Error>) -> Result<T, StoreError> {
        // After any other error it is not known what the server has still to say.
        let is_whole = matches!(result, Ok(_) | Err(sqlx::Error::Database(_)));
        if is_whole && self.unfinished == Unfinished::Statement {
            self.unfinished = Unfinished::Nothing;
        }
        Ok(result?)
    }

    async fn execute(&mut self, sql: &'static str) -> Result<(), StoreError> {
        let result = match self.ask() {
            Raw::Postgres(conn) => conn.execute(sql).await.map(|_| ()),
            Raw::Sqlite(conn) => conn.execute(sql).await.map(|_| ()),
        };
        self.answered(result)
    }

    /// The database that this is a connection to.
    pub fn backend(&self) -> Backend {
        match self.link.as_ref().expect("it is not being dropped") {
            Link::Postgres(_) => Backend::Postgres,
            Link::Sqlite(_) => Backend::Sqlite,
        }
    }

    /// Asks the database for a sign of life.
    pub async fn ping(&mut self) -> Result<(), StoreError> {
        let result = match self.ask() {
            Raw::Postgres(conn) => conn.ping().await,
            Raw::Sqlite(conn) => conn.ping().await,
        };
        self.answered(result)
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        // Dropping the link itself gives it back.
        if self.unfinished == Unfinished::Nothing {
            return;
        }
        match self.link.take() {
            Some(Link::Postgres(conn)) => recover(conn, self.unfinished),
            Some(Link::Sqlite(conn)) => recover(conn, self.unfinished),
            None => {}
        }
    }
}

/// A transaction. Dropped without [`commit`](Tx::commit), it is rolled back.
pub struct Tx(Conn);

impl Tx {
    /// Begins a transaction that writes. SQLite's takes the write lock at once: a deferred one fails when two meet.
    pub(crate) async fn begin(mut conn: Conn) -> Result<Self, StoreError> {
        let begin = match conn.backend() {
            Backend::Postgres => "begin",
            Backend::Sqlite => "begin immediate",
        };
        // Before it is asked for: a begin that is broken off may have begun.
        conn.unfinished = Unfinished::Transaction;
        conn.execute(begin).await?;
        Ok(Self(conn))
    }

    /// Makes everything durable, or nothing.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        self.0.execute("commit").await?;
        self.0.unfinished = Unfinished::Nothing;
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
