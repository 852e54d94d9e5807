//! A statement with its values, and the rows that it returns.

use sqlx::{
    Arguments, FromRow,
    error::BoxDynError,
    postgres::{PgArguments, PgRow},
    sqlite::{SqliteArguments, SqliteRow},
};
use uuid::Uuid;
use wharf_domain::Time;

use crate::{
    Backend, Conn, StoreError,
    conn::Raw,
    dialect::Sql,
    rows::Rows,
    values::{At, Bind},
};

impl Conn {
    pub(crate) fn query(&mut self, sql: Sql) -> Query<'_> {
        let args = match self.backend() {
            Backend::Postgres => Args::Postgres(PgArguments::default()),
            Backend::Sqlite => Args::Sqlite(SqliteArguments::default()),
        };
        Query {
            conn: self,
            sql,
            args,
            failed: None,
        }
    }
}

/// The values of a statement, in the form that its database's driver takes.
pub(crate) enum Args {
    Postgres(PgArguments),
    Sqlite(SqliteArguments),
}

/// Texts as the values of a statement that is made while the program runs.
pub(crate) fn args(backend: Backend, texts: Vec<String>) -> Result<Args, StoreError> {
    let failed = |error| StoreError::Defect(sqlx::Error::Encode(error));
    match backend {
        Backend::Postgres => {
            let mut args = PgArguments::default();
            texts
                .into_iter()
                .try_for_each(|text| args.add(text))
                .map_err(failed)?;
            Ok(Args::Postgres(args))
        }
        Backend::Sqlite => {
            let mut args = SqliteArguments::default();
            texts
                .into_iter()
                .try_for_each(|text| args.add(text))
                .map_err(failed)?;
            Ok(Args::Sqlite(args))
        }
    }
}

/// A statement with its values, about to run.
pub(crate) struct Query<'c> {
    conn: &'c mut Conn,
    sql: Sql,
    args: Args,
    failed: Option<BoxDynError>,
}

/// A row type that can be read from both databases (`#[derive(FromRow)]` is generic over the row).
pub(crate) trait Row:
    for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> + Send + Unpin
{
}
impl<T: for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> + Send + Unpin> Row for T {}

impl<'c> Query<'c> {
    /// The next value, `$1`, `$2` and so on.
    pub(crate) fn bind<'t>(mut self, value: impl Bind<'t>) -> Self {
        let added = match &mut self.args {
            Args::Postgres(args) => args.add(value),
            Args::Sqlite(args) => args.add(value),
        };
        // Kept until the statement runs, so that binding stays a chain without `?`.
        self.failed = self.failed.or(added.err());
        self
    }

    pub(crate) fn time(self, at: Time) -> Self {
        self.bind(At(at))
    }

    pub(crate) fn rows(self, rows: &Rows) -> Self {
        let text = rows.to_json();
        self.bind(text)
    }

    fn ready(self) -> Result<(&'c mut Conn, Sql, Args), StoreError> {
        match self.failed {
            Some(error) => Err(StoreError::Defect(sqlx::Error::Encode(error))),
            None => Ok((self.conn, self.sql, self.args)),
        }
    }

    /// Every row.
    pub(crate) async fn all<T: Row>(self) -> Result<Vec<T>, StoreError> {
        let (conn, sql, args) = self.ready()?;
        let result = match (conn.ask(), args) {
            (Raw::Postgres(conn), Args::Postgres(args)) => {
                sqlx::query_as_with(sql.postgres, args)
                    .fetch_all(conn)
                    .await
            }
            (Raw::Sqlite(conn), Args::Sqlite(args)) => {
                sqlx::query_as_with(sql.sqlite, args).fetch_all(conn).await
            }
            _ => unreachable!("arguments are made for the connection's backend"),
        };
        conn.answered(result)
    }

    /// The only row, if there is one.
    pub(crate) async fn optional<T: Row>(self) -> Result<Option<T>, StoreError> {
        Ok(self.all().await?.pop())
    }

    /// The only row.
    pub(crate) async fn one<T: Row>(self) -> Result<T, StoreError> {
        self.optional()
            .await?
            .ok_or(StoreError::Defect(sqlx::Error::RowNotFound))
    }

    /// The ids that it returns, one a row.
    pub(crate) async fn ids(self) -> Result<Vec<Uuid>, StoreError> {
        let rows: Vec<(Uuid,)> = self.all().await?;
        Ok(rows.into_iter().map(|(id,)| id).collect())
    }

    /// The only number of the only row.
    pub(crate) async fn number(self) -> Result<i64, StoreError> {
        let (number,) = self.one().await?;
        Ok(number)
    }

    /// Runs it and returns how many rows it touched.
    pub(crate) async fn run(self) -> Result<u64, StoreError> {
        let (conn, sql, args) = self.ready()?;
        let result = match (conn.ask(), args) {
            (Raw::Postgres(conn), Args::Postgres(args)) => sqlx::query_with(sql.postgres, args)
                .execute(conn)
                .await
                .map(|done| done.rows_affected()),
            (Raw::Sqlite(conn), Args::Sqlite(args)) => sqlx::query_with(sql.sqlite, args)
                .execute(conn)
                .await
                .map(|done| done.rows_affected()),
            _ => unreachable!("arguments are made for the connection's backend"),
        };
        conn.answered(result)
    }
}
