//! The errors of the ledger, by what a caller can do about them.

use sqlx::{error::DatabaseError, sqlite::SqliteError};

/// A failure of the ledger.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, is shutting down or has no connection free. Nothing is known to be stored;
    /// every operation is safe to repeat.
    #[error("the database is not available: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// PostgreSQL does not take a first connection.
    #[error("{place}: {why}")]
    Unreachable {
        /// The place where it was asked, without a password.
        place: String,
        /// The refusal, or that there was no answer.
        why: String,
    },
    /// Another transaction was in the way (deadlock, serialization). Nothing was stored; repeat at once.
    #[error("another transaction was in the way: {0}")]
    Conflict(#[source] sqlx::Error),
    /// Another row has the same key.
    #[error("another row has this key: {0}")]
    Taken(#[source] sqlx::Error),
    /// Somebody else has taken over this leased work: the caller's results are refused and it must stop.
    #[error("the lease was lost to another worker")]
    FenceLost,
    /// The store is being removed: nothing is written for it any more.
    #[error("the store is being removed")]
    StoreRemoved,
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
            E::Database(refusal) => match class_of(refusal.as_ref()) {
                Class::Conflict => Self::Conflict(error),
                Class::Unavailable => Self::Unavailable(error),
                Class::Defect => Self::Defect(error),
            },
            _ => Self::Defect(error),
        }
    }
}

/// The meaning of a database's own refusal for us.
enum Class {
    Conflict,
    Unavailable,
    Defect,
}

fn class_of(refusal: &dyn DatabaseError) -> Class {
    let code = refusal.code().unwrap_or_default();
    if refusal.try_downcast_ref::<SqliteError>().is_some() {
        // The low byte is the kind of error; the rest tells more about it (https://sqlite.org/rescode.html).
        return match code.parse::<u32>().map(|code| code & 0xff) {
            // Busy, locked.
            Ok(5 | 6) => Class::Conflict,
            // Read-only, input/output, disk full, cannot open.
            Ok(8 | 10 | 13 | 14) => Class::Unavailable,
            _ => Class::Defect,
        };
    }
    match code.as_ref() {
        // Serialization failure, deadlock.
        "40001" | "40P01" => Class::Conflict,
        // A read-only standby, a transaction that was idle for too long.
        "25006" | "25P03" => Class::Unavailable,
        // Connection trouble; too many connections, disk full; shutdown, query cancelled by the statement timeout.
        _ if ["08", "53", "57"]
            .iter()
            .any(|class| code.starts_with(class)) =>
        {
            Class::Unavailable
        }
        _ => Class::Defect,
    }
}
