//! The errors of the ledger, by what a caller can do about them.

/// A failure of the ledger.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, is shutting down or has no connection free. Nothing is known to be stored;
    /// every operation is safe to repeat.
    #[error("the database is not available: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// Another transaction was in the way (deadlock, serialization). Nothing was stored; repeat at once.
    #[error("another transaction was in the way: {0}")]
    Conflict(#[source] sqlx::Error),
    /// Another row has the same key.
    #[error("another row has this key: {0}")]
    Taken(#[source] sqlx::Error),
    /// Somebody else has taken over this leased work: the caller's results are refused and it must stop.
    #[error("the lease was lost to another worker")]
    FenceLost,
    /// A stored value cannot be read: wrong encryption key or a row changed by hand.
    #[error("{what} cannot be read: {why}")]
    Unreadable {
        /// The value.
        what: &'static str,
        /// The mistake in it.
        why: String,
    },
    /// The migrations could not be applied.
    #[error("the migrations failed: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// A defect of ours or of the schema.
    #[error("the database refused: {0}")]
    Defect(#[source] sqlx::Error),
}

impl StoreError {
    pub(crate) fn unreadable(what: &'static str, why: impl ToString) -> Self {
        Self::Unreadable {
            what,
            why: why.to_string(),
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        match &error {
            E::Io(_)
            | E::Tls(_)
            | E::PoolTimedOut
            | E::PoolClosed
            | E::WorkerCrashed
            | E::Protocol(_) => Self::Unavailable(error),
            E::Database(refusal) if refusal.is_unique_violation() => Self::Taken(error),
            E::Database(refusal) => match refusal.code().as_deref() {
                // PostgreSQL: serialization failure, deadlock. SQLite: busy (5), locked (6) and their extended codes.
                Some("40001" | "40P01" | "5" | "6" | "261" | "262" | "517") => {
                    Self::Conflict(error)
                }
                // PostgreSQL: connection trouble, too many connections, shutdown, read-only standby, a transaction that
                // was idle for too long, query cancelled by the statement timeout. SQLite: cannot open (14), disk full (13), input/output (10).
                Some(code)
                    if code.starts_with("08")
                        || code.starts_with("53")
                        || code.starts_with("57")
                        || matches!(code, "25006" | "25P03" | "14" | "13" | "10") =>
                {
                    Self::Unavailable(error)
                }
                _ => Self::Defect(error),
            },
            _ => Self::Defect(error),
        }
    }
}
