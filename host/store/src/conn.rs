//! A connection to either database, in or out of a transaction.

use sqlx::{
    Connection, PgConnection, Postgres, Sqlite, SqliteConnection, Transaction, pool::PoolConnection,
};

use crate::{Backend, StoreError};

/// A connection, in or out of a transaction.
pub struct Conn(pub(crate) Link);

pub(crate) enum Link {
    Postgres(PoolConnection<Postgres>),
    PostgresTx(Transaction<'static, Postgres>),
    Sqlite(PoolConnection<Sqlite>),
    SqliteTx(Transaction<'static, Sqlite>),
}

/// The driver's connection, whatever holds it.
pub(crate) enum Raw<'c> {
    Postgres(&'c mut PgConnection),
    Sqlite(&'c mut SqliteConnection),
}

impl Conn {
    pub(crate) fn raw(&mut self) -> Raw<'_> {
        match &mut self.0 {
            Link::Postgres(conn) => Raw::Postgres(conn),
            Link::PostgresTx(tx) => Raw::Postgres(tx),
            Link::Sqlite(conn) => Raw::Sqlite(conn),
            Link::SqliteTx(tx) => Raw::Sqlite(tx),
        }
    }

    /// The database that this is a connection to.
    pub fn backend(&self) -> Backend {
        match &self.0 {
            Link::Postgres(_) | Link::PostgresTx(_) => Backend::Postgres,
            Link::Sqlite(_) | Link::SqliteTx(_) => Backend::Sqlite,
        }
    }

    /// Asks the database for a sign of life.
    pub async fn ping(&mut self) -> Result<(), StoreError> {
        match self.raw() {
            Raw::Postgres(conn) => conn.ping().await?,
            Raw::Sqlite(conn) => conn.ping().await?,
        }
        Ok(())
    }
}

/// A transaction. Dropped without [`commit`](Tx::commit), it is rolled back.
pub struct Tx(pub(crate) Conn);

impl Tx {
    /// Makes everything durable, or nothing.
    pub async fn commit(self) -> Result<(), StoreError> {
        match self.0.0 {
            Link::PostgresTx(tx) => tx.commit().await?,
            Link::SqliteTx(tx) => tx.commit().await?,
            // `Ledger::begin` makes the only `Tx`, over a transaction.
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
