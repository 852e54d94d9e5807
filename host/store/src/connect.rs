//! The first connection to PostgreSQL: asked for until the server answers, with its place named where it does not.

use std::{fmt, io, time::Duration};

use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tokio::time::{Instant, sleep, timeout};

use crate::StoreError;

/// Time that one attempt may take. Some routers drop what is sent to a host that is not there, and nothing comes back.
const MAX_ATTEMPT: Duration = Duration::from_secs(5);
/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(500);

/// The place of a database, without the password.
pub(crate) struct Place<'a>(pub(crate) &'a PgConnectOptions);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (options, user) = (self.0, self.0.get_username());
        match options.get_socket() {
            Some(folder) => write!(f, "PostgreSQL in {}", folder.display())?,
            None => write!(
                f,
                "PostgreSQL at {}:{}",
                options.get_host(),
                options.get_port()
            )?,
        }
        // libpq's default: the database is called as the user.
        let database = options.get_database().unwrap_or(user);
        write!(f, ", database {database}, user {user}")
    }
}

/// Waits until the server takes a connection, at most so long beyond the first attempt.
///
/// # Errors
/// [`StoreError::Unreachable`] when the time is over, or at once where waiting does not help.
pub(crate) async fn reach(options: &PgConnectOptions, wait: Duration) -> Result<(), StoreError> {
    let deadline = Instant::now() + wait;
    let mut told = String::new();
    loop {
        let Err(error) = attempt(options).await else {
            return Ok(());
        };
        let why = error.to_string();
        if !may_pass(&error) || Instant::now() + PAUSE > deadline {
            let place = Place(options).to_string();
            return Err(StoreError::Unreachable { place, why });
        }
        // Once for each cause, not twice a second.
        if why != told {
            tracing::warn!(place = %Place(options), error = %why, ?wait, "the database does not answer yet");
            told = why;
        }
        sleep(PAUSE).await;
    }
}

async fn attempt(options: &PgConnectOptions) -> Result<(), sqlx::Error> {
    let connected = timeout(MAX_ATTEMPT, PgConnection::connect_with(options)).await;
    let connection = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    // It has answered: how it takes the farewell is of no interest.
    let _ = connection.close().await;
    Ok(())
}

/// Tells if the same attempt may succeed later: a server that is not there, starts, stops or is full.
fn may_pass(error: &sqlx::Error) -> bool {
    match error {
        // A certificate that is refused comes as invalid data.
        sqlx::Error::Io(error) => error.kind() != io::ErrorKind::InvalidData,
        // A proxy that has no server behind it yet closes in the middle of the greeting.
        sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(refusal) => {
            let code = refusal.code().unwrap_or_default();
            ["53", "57"].iter().any(|class| code.starts_with(class))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_told_without_the_password() {
        for (url, place) in [
            (
                "postgres://u:hidden@db.internal:5433/wharf",
                "PostgreSQL at db.internal:5433, database wharf, user u",
            ),
            (
                "postgres://u:hidden@localhost/wharf?host=/run/postgresql",
                "PostgreSQL in /run/postgresql, database wharf, user u",
            ),
        ] {
            let options = url.parse().expect("a URL");
            assert_eq!(Place(&options).to_string(), place);
        }
    }
}
