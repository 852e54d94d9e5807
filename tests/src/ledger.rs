//! Looking into a site's database past its hosts, in one way for both backends.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};
use sqlx::{
    AssertSqlSafe, Column, Executor, Row, SqlSafeStr, SqlStr, TypeInfo, ValueRef,
    postgres::{PgPool, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteRow},
};
use uuid::Uuid;

use crate::{Backend, PATIENCE, Site, eventually};

/// A site's database. Statements are the same for both backends as far as SQL allows; ids and times, which it does not
/// allow, are made by [`id`](Self::id), [`time`](Self::time) and [`seconds`](Self::seconds).
#[derive(Clone, Debug)]
pub struct Ledger(Pool);

#[derive(Clone, Debug)]
enum Pool {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

impl Ledger {
    /// Opens the database of a site. On the embedded backend a host must have made it.
    ///
    /// # Errors
    /// If it is not there.
    pub async fn open(site: &Site) -> Result<Self> {
        if site.backend() == Backend::Postgres {
            return Self::connect(site.database().url()).await;
        }
        let path = site.data_dir().join("wharf.db");
        Self::connect(&format!("sqlite:{}", path.display())).await
    }

    /// Opens a database by its URL: `postgres://...` or `sqlite:PATH`.
    ///
    /// # Errors
    /// If it is not there.
    pub async fn connect(url: &str) -> Result<Self> {
        let Some(path) = url.strip_prefix("sqlite:") else {
            let pool = PgPoolOptions::new().max_connections(4).connect(url).await?;
            return Ok(Self(Pool::Postgres(pool)));
        };
        let options = SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(PATIENCE);
        let pool = SqlitePoolOptions::new()
            .max_connections(2)
            .connect_with(options)
            .await;
        Ok(Self(Pool::Sqlite(pool.context("the embedded database")?)))
    }

    /// Closes every connection: SQLite's hold a lock on the file, also at rest.
    pub async fn close(&self) {
        match &self.0 {
            Pool::Postgres(pool) => pool.close().await,
            Pool::Sqlite(pool) => pool.close().await,
        }
    }

    /// The rows of a query, each a JSON object by column. Ids are texts with hyphens.
    ///
    /// # Errors
    /// If the database refuses it.
    pub async fn rows(&self, select: &str) -> Result<Vec<Value>> {
        match &self.0 {
            Pool::Postgres(pool) => {
                let statement = trusted(format!("select to_json(r)::text from ({select}) r"));
                let texts: Vec<String> = sqlx::query_scalar(statement)
                    .fetch_all(pool)
                    .await
                    .context(select.to_owned())?;
                texts
                    .iter()
                    .map(|text| Ok(serde_json::from_str(text)?))
                    .collect()
            }
            Pool::Sqlite(pool) => {
                let rows = sqlx::query(trusted(select.to_owned()))
                    .fetch_all(pool)
                    .await
                    .context(select.to_owned())?;
                rows.iter().map(object).collect()
            }
        }
    }

    /// The only row of a query.
    ///
    /// # Errors
    /// If there are more or none.
    pub async fn row(&self, select: &str) -> Result<Value> {
        match <[Value; 1]>::try_from(self.rows(select).await?) {
            Ok([row]) => Ok(row),
            Err(rows) => bail!("not one row but {}: {select}", rows.len()),
        }
    }

    /// The number that a query answers.
    ///
    /// # Errors
    /// If it answers something else.
    pub async fn number(&self, select: &str) -> Result<i64> {
        let text = trusted(select.to_owned());
        let number = match &self.0 {
            Pool::Postgres(pool) => sqlx::query_scalar(text).fetch_one(pool).await,
            Pool::Sqlite(pool) => sqlx::query_scalar(text).fetch_one(pool).await,
        };
        number.with_context(|| select.to_owned())
    }

    /// Prepares a statement without running it.
    ///
    /// # Errors
    /// If the database refuses it.
    pub async fn prepare(&self, statement: &'static str) -> Result<()> {
        match &self.0 {
            Pool::Postgres(pool) => drop(pool.prepare(statement.into_sql_str()).await?),
            Pool::Sqlite(pool) => drop(pool.prepare(statement.into_sql_str()).await?),
        }
        Ok(())
    }

    /// Waits until a query has exactly one row, and returns it.
    ///
    /// # Errors
    /// If that does not happen.
    pub async fn wait_for(&self, select: &str) -> Result<Value> {
        eventually(select, PATIENCE, || async { self.row(select).await.ok() }).await
    }

    /// Writes down that a process with other plugins serves this marketplace.
    ///
    /// # Errors
    /// If the database refuses it.
    pub async fn served_elsewhere(&self, marketplace: &str) -> Result<()> {
        let at = self.time(0);
        let served = format!("insert into marketplaces values ('{marketplace}', {at})");
        self.execute(&served).await.map(drop)
    }

    /// Runs a statement and returns how many rows it changed.
    ///
    /// # Errors
    /// If the database refuses it.
    pub async fn execute(&self, statement: &str) -> Result<u64> {
        let text = trusted(statement.to_owned());
        let done = match &self.0 {
            Pool::Postgres(pool) => sqlx::query(text)
                .execute(pool)
                .await
                .map(|done| done.rows_affected()),
            Pool::Sqlite(pool) => sqlx::query(text)
                .execute(pool)
                .await
                .map(|done| done.rows_affected()),
        };
        done.with_context(|| statement.to_owned())
    }

    /// Keeps everybody else from writing until what this returns is dropped. For the embedded backend.
    ///
    /// # Errors
    /// If the database refuses it, or is PostgreSQL, which has as many writers as come.
    pub async fn hold_the_writer(&self) -> Result<sqlx::Transaction<'static, sqlx::Sqlite>> {
        match &self.0 {
            Pool::Postgres(_) => bail!("PostgreSQL has more than one writer"),
            Pool::Sqlite(pool) => Ok(pool.begin_with("begin immediate").await?),
        }
    }

    /// Makes new connections to a PostgreSQL database take no writes.
    ///
    /// # Errors
    /// If it refuses that.
    pub async fn make_read_only(&self) -> Result<()> {
        let name = self.row("select current_database() as name").await?;
        let name = name["name"].as_str().context("a name")?.to_owned();
        let statement = format!("alter database \"{name}\" set default_transaction_read_only = on");
        self.execute(&statement).await.map(drop)
    }

    /// Puts an event into the outbox by plain SQL, as a neighbour of the host might. Returns its id.
    ///
    /// # Errors
    /// If the database refuses it.
    pub async fn put_event(
        &self,
        organization: &str,
        event: &str,
        payload: &str,
    ) -> Result<String> {
        let id = Uuid::new_v4().to_string();
        let (key, text) = (self.id(&id), |text: &str| text.replace('\'', "''"));
        let statement = format!(
            "insert into callback_outbox (id, organization_id, store_id, event, payload) values ({key}, '{}', {key}, '{}', '{}')",
            text(organization),
            text(event),
            text(payload),
        );
        self.execute(&statement).await?;
        Ok(id)
    }

    /// An id as a literal.
    ///
    /// # Panics
    /// If it is no UUID.
    pub fn id(&self, id: &str) -> String {
        let id: Uuid = id.parse().expect("a UUID");
        match &self.0 {
            Pool::Postgres(_) => format!("'{id}'"),
            Pool::Sqlite(_) => format!("x'{}'", id.simple()),
        }
    }

    /// Another random id each time, as an expression.
    pub fn random_id(&self) -> &'static str {
        match &self.0 {
            Pool::Postgres(_) => "gen_random_uuid()",
            Pool::Sqlite(_) => "randomblob(16)",
        }
    }

    /// A time so many seconds from now, as an expression.
    pub fn time(&self, seconds_from_now: i64) -> String {
        match &self.0 {
            Pool::Postgres(_) => format!("now() + interval '{seconds_from_now} seconds'"),
            Pool::Sqlite(_) => {
                format!("cast((unixepoch('subsec') + {seconds_from_now}) * 1000000 as integer)")
            }
        }
    }

    /// The seconds from now to the time in a column, as an expression.
    pub fn seconds(&self, column: &str) -> String {
        match &self.0 {
            Pool::Postgres(_) => format!(
                "cast(extract(epoch from {column} - clock_timestamp()) as double precision)"
            ),
            Pool::Sqlite(_) => format!("({column} / 1000000.0 - unixepoch('subsec'))"),
        }
    }

    /// The seconds between the times in two columns, as an expression: the same however late it is looked at.
    pub fn seconds_between(&self, from: &str, to: &str) -> String {
        match &self.0 {
            Pool::Postgres(_) => {
                format!("cast(extract(epoch from {to} - {from}) as double precision)")
            }
            Pool::Sqlite(_) => format!("(({to} - {from}) / 1000000.0)"),
        }
    }
}

/// Statements are made of the tests' own constants and of ids that hosts made.
fn trusted(statement: String) -> SqlStr {
    AssertSqlSafe(statement).into_sql_str()
}

fn object(row: &SqliteRow) -> Result<Value> {
    let mut object = Map::new();
    for column in row.columns() {
        object.insert(column.name().to_owned(), value(row, column.ordinal())?);
    }
    Ok(object.into())
}

fn value(row: &SqliteRow, at: usize) -> Result<Value> {
    let raw = row.try_get_raw(at)?;
    if raw.is_null() {
        return Ok(Value::Null);
    }
    Ok(match raw.type_info().name() {
        "INTEGER" => row.try_get::<i64, _>(at)?.into(),
        "REAL" => row.try_get::<f64, _>(at)?.into(),
        "BLOB" => {
            let bytes: Vec<u8> = row.try_get(at)?;
            Uuid::from_slice(&bytes)
                .map_or_else(|_| format!("{bytes:02x?}"), |id| id.to_string())
                .into()
        }
        _ => row.try_get::<String, _>(at)?.into(),
    })
}
