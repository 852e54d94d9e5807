//! A Redis database for one test.

use std::env;

use anyhow::{Context, Result, ensure};
use redis::{Client, aio::MultiplexedConnection};

/// Counts databases handed out, in database 0, which no test gets.
const COUNTER: &str = "wharf-tests:databases";

/// A numbered database, empty at first. The numbers go round, so a server for tests has many (`cargo xtask test` starts
/// it with 512): two tests would share one only if as many ran at the same time.
#[derive(Clone, Debug)]
pub struct RedisDatabase {
    url: String,
}

impl RedisDatabase {
    /// Takes the next number on the server that `WHARF_TEST_REDIS_URL` names and empties that database.
    ///
    /// # Errors
    /// If no server is named, it does not answer, or it has one database only.
    pub async fn create() -> Result<Self> {
        let mut server = connect(&server_url()?).await?;
        let (_, count): (String, u64) = redis::cmd("CONFIG")
            .arg("GET")
            .arg("databases")
            .query_async(&mut server)
            .await?;
        ensure!(
            count > 1,
            "the tests' Redis has one database only: start it with --databases 512"
        );
        let turn: u64 = redis::cmd("INCR")
            .arg(COUNTER)
            .query_async(&mut server)
            .await?;
        let mut url =
            reqwest::Url::parse(&server_url()?).context("WHARF_TEST_REDIS_URL is not a URL")?;
        url.set_path(&format!("/{}", 1 + turn % (count - 1)));
        let database = Self { url: url.into() };
        let () = redis::cmd("FLUSHDB")
            .query_async(&mut database.connect().await?)
            .await?;
        Ok(database)
    }

    /// Its URL, for `REDIS_URL`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A connection for looking into it past the host.
    ///
    /// # Errors
    /// If the server does not answer.
    pub async fn connect(&self) -> Result<MultiplexedConnection> {
        connect(&self.url).await
    }
}

fn server_url() -> Result<String> {
    env::var("WHARF_TEST_REDIS_URL").context(
        "WHARF_TEST_REDIS_URL is not set: run the tests by `cargo xtask test`, which starts Redis",
    )
}

async fn connect(url: &str) -> Result<MultiplexedConnection> {
    Client::open(url)?
        .get_multiplexed_async_connection()
        .await
        .context("the tests' Redis does not answer")
}

#[cfg(test)]
mod tests {
    use redis::AsyncCommands;

    use super::RedisDatabase;

    #[test]
    fn databases_are_separate() {
        crate::run(async {
            let one = RedisDatabase::create().await.expect("a database");
            let two = RedisDatabase::create().await.expect("another");
            let () = one
                .connect()
                .await
                .expect("connected")
                .set("key", 1)
                .await
                .expect("set");
            let there: bool = two
                .connect()
                .await
                .expect("connected")
                .exists("key")
                .await
                .expect("asked");
            assert!(!there);
        })
    }
}
