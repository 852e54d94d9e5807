//! Where processes under measurement are at home: a database of PostgreSQL's, one of Redis's, a folder; and what is in
//! them before the measurement.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use sqlx::{
    AssertSqlSafe, Connection, Executor, FromRow, PgConnection, PgPool,
    postgres::{PgPoolOptions, PgRow},
};
use tempfile::TempDir;
use uuid::Uuid;
use wharf_domain::{
    AccessToken, Clock, Currency, EndpointId, EndpointSecret, EventKind, ExternalStoreId,
    MarketplaceName, OrganizationId, ShaperName, StoreId, StoreName, SyncToken, SystemClock,
    TargetUrl,
};
use wharf_queue::Doorbell;
use wharf_store::{
    Conn, EncryptionKey, Ledger, LedgerSettings,
    endpoints::{self, NewEndpoint},
    stores::{self, NewStore},
};

/// Known to the processes and to this program, which registers stores and endpoints past them.
const KEY: [u8; 32] = [7; 32];

/// A site. The server that it lies on ends with the run, so nothing is cleared away.
pub(crate) struct Site {
    dir: TempDir,
    /// The ledger.
    pub(crate) ledger: Ledger,
    /// For SQL of this program's own.
    sql: PgPool,
    /// Rings for its workers.
    pub(crate) doorbell: Doorbell,
    database_url: String,
    redis_url: String,
}

impl Site {
    /// Makes a migrated, empty database of this name.
    pub(crate) async fn open(name: &str) -> Result<Self> {
        let server_url = env::var("DATABASE_URL")
            .context("DATABASE_URL is not set: `cargo xtask bench` sets it")?;
        let redis_url =
            env::var("REDIS_URL").context("REDIS_URL is not set: `cargo xtask bench` sets it")?;
        let database = format!("wharf_bench_{name}_{}", Uuid::now_v7().simple());
        let mut server = PgConnection::connect(&server_url).await?;
        let create = AssertSqlSafe(format!("create database {database}"));
        server.execute(create).await?;
        server.close().await?;
        let database_url = on_database(&server_url, &database)?;
        let ledger = Ledger::open(&LedgerSettings {
            pool_size: 2,
            ..LedgerSettings::new(&database_url)
        })
        .await?;
        ledger.migrate().await?;
        let sql = PgPoolOptions::new()
            .max_connections(2)
            .after_connect(|conn, _| {
                Box::pin(async move {
                    // What this program asks is not to be counted. Fails where nothing counts, or without the right.
                    let _ = conn.execute("set pg_stat_statements.track = 'none'").await;
                    Ok(())
                })
            })
            .connect(&database_url)
            .await?;
        let doorbell = Doorbell::connect(&redis_url, wharf_queue::Settings::default())?;
        Ok(Self {
            dir: TempDir::new()?,
            ledger,
            sql,
            doorbell,
            database_url,
            redis_url,
        })
    }

    /// The folder.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The database's URL.
    pub(crate) fn database_url(&self) -> &str {
        &self.database_url
    }

    /// The settings of a `wharf` process here.
    pub(crate) fn settings(&self) -> impl Iterator<Item = (&'static str, String)> {
        [
            ("PORT", "0".to_owned()),
            ("DATABASE_URL", self.database_url.clone()),
            ("REDIS_URL", self.redis_url.clone()),
            (
                "WHARF_ENCRYPTION_KEY",
                KEY.iter().map(|byte| format!("{byte:02x}")).collect(),
            ),
            (
                "WHARF_DATA_DIR",
                self.dir().join("data").display().to_string(),
            ),
            ("WHARF_PLUGINS_DIR", plugins_dir().display().to_string()),
            ("WEBHOOK_ALLOW_NETWORKS", "127.0.0.0/8".to_owned()),
            ("MOCK_ETSY_USER", "etsy_user".to_owned()),
            ("MOCK_ETSY_PASS", "etsy_pass".to_owned()),
            ("LOG_FORMAT", "json".to_owned()),
            // Nobody balances load between the hosts of a benchmark.
            ("SHUTDOWN_DELAY", "0s".to_owned()),
        ]
        .into_iter()
    }

    /// Registers stores 1 to `count` of the marketplace `etsy`, ten of them to an organization.
    pub(crate) async fn register_stores(&self, count: usize) -> Result<()> {
        let mut tx = self.ledger.begin().await?;
        for number in 1..=count {
            let new = NewStore {
                id: store_id(number),
                sync_token: sync_token(number),
                organization_id: &organization(number % 10),
                marketplace: &MarketplaceName::parse("etsy")?,
                external_store_id: &ExternalStoreId::parse(&format!("store-{number}"))?,
                store_name: &StoreName::parse("A store")?,
                access_token: &AccessToken::parse("token")?,
                currency: Currency::parse("USD")?,
                nonce: [3; 24],
                token_nonce: [4; 24],
            };
            stores::register(
                &mut tx,
                &EncryptionKey::new(KEY).into(),
                &new,
                SystemClock.now(),
            )
            .await?;
        }
        Ok(tx.commit().await?)
    }

    /// Registers an endpoint of an organization for `sync.completed`.
    pub(crate) async fn register_endpoint(
        &self,
        organization: &OrganizationId,
        url: &str,
    ) -> Result<()> {
        let now = SystemClock.now();
        let new = NewEndpoint {
            id: EndpointId(Uuid::now_v7()),
            organization_id: organization,
            event: EventKind::SyncCompleted,
            target_url: &TargetUrl::parse(url)?,
            shaper: &ShaperName::standard(),
            asymmetric: false,
            secret: &EndpointSecret::from_random([9; 32]),
            nonce: [3; 24],
        };
        endpoints::register(
            &mut self.conn().await?,
            &EncryptionKey::new(KEY).into(),
            &new,
            now,
        )
        .await?;
        Ok(())
    }

    /// Runs SQL of this program's own.
    pub(crate) async fn run(&self, sql: &str) -> Result<()> {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&self.sql).await?;
        Ok(())
    }

    /// The number that such SQL answers.
    pub(crate) async fn number(&self, sql: &str) -> Result<i64> {
        let number = sqlx::query_scalar(AssertSqlSafe(sql));
        Ok(number.fetch_one(&self.sql).await?)
    }

    /// The rows that such SQL answers.
    pub(crate) async fn rows<T>(&self, sql: &str) -> Result<Vec<T>>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let rows = sqlx::query_as(AssertSqlSafe(sql));
        Ok(rows.fetch_all(&self.sql).await?)
    }

    /// A connection past the processes.
    pub(crate) async fn conn(&self) -> Result<Conn> {
        Ok(self.ledger.write().await?)
    }
}

/// The organization with this number.
pub(crate) fn organization(number: usize) -> OrganizationId {
    OrganizationId::from_stored(format!("org-{number}"))
}

/// The id of the store with this number, in decimal digits: SQL and pgbench make it from the number too.
pub(crate) fn store_id(number: usize) -> StoreId {
    StoreId(numbered(STORE_ID, number))
}

/// The sync token of the store with this number.
pub(crate) fn sync_token(number: usize) -> SyncToken {
    SyncToken(numbered(SYNC_TOKEN, number))
}

/// The beginning of stores' ids; twelve digits follow.
pub(crate) const STORE_ID: &str = "00000000-0000-7000-8000-";
/// The beginning of sync tokens.
pub(crate) const SYNC_TOKEN: &str = "00000000-0000-4000-8000-";

fn numbered(beginning: &str, number: usize) -> Uuid {
    format!("{beginning}{number:012}")
        .parse()
        .expect("a UUID's digits")
}

/// The plugins of this repository.
pub(crate) fn plugins_dir() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../plugins"))
}

/// A hostile guest of the tests, compiled.
pub(crate) fn guest(package: &str) -> PathBuf {
    let target = plugins_dir().with_file_name("target");
    target
        .join("wasm32-wasip2/plugin")
        .join(format!("{}.wasm", package.replace('-', "_")))
}

/// The URL with another database in its path.
fn on_database(url: &str, database: &str) -> Result<String> {
    let authority = url.find("://").context("DATABASE_URL is not a URL")? + 3;
    let path = url[authority..]
        .find(['/', '?'])
        .map_or(url.len(), |at| authority + at);
    let query = url[path..].find('?').map_or("", |at| &url[path + at..]);
    Ok(format!("{}/{database}{query}", &url[..path]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_get_another_database() {
        for (url, expected) in [
            ("postgres://u@h:1/postgres", "postgres://u@h:1/x"),
            (
                "postgres://u@h:1/postgres?sslmode=disable",
                "postgres://u@h:1/x?sslmode=disable",
            ),
            ("postgres://h", "postgres://h/x"),
        ] {
            assert_eq!(on_database(url, "x").expect("a URL"), expected);
        }
    }
}
