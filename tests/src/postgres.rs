//! A PostgreSQL database for one test.

use std::env;

use anyhow::{Context, Result};
use sqlx::{Connection, Executor, PgConnection, PgPool, postgres::PgPoolOptions};
use uuid::Uuid;

/// An empty database, dropped with this value, together with whoever is still connected to it.
#[derive(Debug)]
pub struct Database {
    url: String,
    name: String,
}

impl Database {
    /// Creates it on the server that `WHARF_TEST_DATABASE_URL` names.
    ///
    /// # Errors
    /// If no server is named, it does not answer, or it lets us create nothing.
    pub async fn create() -> Result<Self> {
        let name = format!("wharf_test_{}", Uuid::new_v4().simple());
        administer(format!("create database {name}")).await?;
        Ok(Self {
            url: url_of(&name)?,
            name,
        })
    }

    /// Its URL, for `DATABASE_URL`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its name on the server.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A small pool for looking into it past the host.
    ///
    /// # Errors
    /// If the server does not answer.
    pub async fn pool(&self) -> Result<PgPool> {
        Ok(PgPoolOptions::new()
            .max_connections(4)
            .connect(&self.url)
            .await?)
    }

    /// Ends every connection to it, as a restart of the server would.
    ///
    /// # Errors
    /// If the server does not answer.
    pub async fn terminate_connections(&self) -> Result<()> {
        administer(format!(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{}'",
            self.name
        ))
        .await
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let statement = format!("drop database if exists {} with (force)", self.name);
        // A thread of its own: this may run inside a runtime, which must not be blocked on from within.
        let dropped = std::thread::spawn(|| {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?
                .block_on(administer(statement))
        });
        if !matches!(dropped.join(), Ok(Ok(()))) {
            eprintln!("the test database {} could not be dropped", self.name);
        }
    }
}

fn server_url() -> Result<String> {
    env::var("WHARF_TEST_DATABASE_URL")
        .context("WHARF_TEST_DATABASE_URL is not set: run the tests by `cargo xtask test`, which starts PostgreSQL")
}

/// The server's URL with another database in its path. Parameters stay.
fn url_of(database: &str) -> Result<String> {
    let mut url =
        reqwest::Url::parse(&server_url()?).context("WHARF_TEST_DATABASE_URL is not a URL")?;
    url.set_path(database);
    Ok(url.into())
}

/// Runs one statement on the server's own database.
async fn administer(statement: String) -> Result<()> {
    crate::standard_tls();
    let mut connection = PgConnection::connect(&server_url()?)
        .await
        .context("the tests' PostgreSQL does not answer")?;
    // Made of constants and of names that this module generates.
    connection.execute(sqlx::AssertSqlSafe(statement)).await?;
    Ok(connection.close().await?)
}

#[cfg(test)]
mod tests {
    use super::Database;

    #[test]
    fn databases_are_separate_and_go_with_their_value() {
        crate::run(async {
            let (one, two) = (
                Database::create().await.expect("a database"),
                Database::create().await.expect("another"),
            );
            let pool = one.pool().await.expect("a pool");
            sqlx::query("create table t (x integer)")
                .execute(&pool)
                .await
                .expect("a table");
            let other = two.pool().await.expect("a pool");
            assert!(
                sqlx::query("select x from t")
                    .execute(&other)
                    .await
                    .is_err()
            );
            let name = one.name().to_owned();
            drop(one);
            let count: i64 =
                sqlx::query_scalar("select count(*) from pg_database where datname = $1")
                    .bind(name)
                    .fetch_one(&other)
                    .await
                    .expect("a count");
            assert_eq!(count, 0, "dropped, also while a pool is open");
        })
    }
}
