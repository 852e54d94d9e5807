//! Pages of any table: rows whose values are texts, in the order of a key, after a place in it. No page holds more than some
//! mebibytes, whatever the rows are; the last row may go beyond it.

use std::pin::pin;

use futures::TryStreamExt;
use sqlx::{AssertSqlSafe, Row};

use super::kind::Kind;
use crate::{
    Backend, Conn, StoreError,
    conn::Raw,
    query::{Args, args},
};

/// A row: the text of each column, or null.
pub(crate) type Texts = Vec<Option<String>>;

/// Rows of a page at first; then as many as the page before suggests.
const FIRST_ROWS: usize = 100;
/// A page is a parameter of a statement and a transaction that others may wait for.
const MAX_ROWS: usize = 2_000;
/// The largest page. A copy holds it three times: as texts, as a parameter, and in the driver.
const MAX_BYTES: usize = 4 << 20;

/// A walk over rows.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    pub(crate) table: String,
    /// SQL that reads each column as text (see [`Kind::read`]); those of the order first.
    pub(crate) columns: Vec<String>,
    /// What the rows must equal.
    pub(crate) equal: Vec<(String, Kind, String)>,
    /// SQL that must be true of the rows.
    condition: &'static str,
    /// The order: columns that an index has, unique together.
    pub(crate) order: Vec<(String, Kind)>,
    /// Rows that the next page may have.
    rows: usize,
    backend: Backend,
}

/// Rows of a walk.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) rows: Vec<Texts>,
    /// No row is behind these.
    pub(crate) is_last: bool,
}

impl Walk {
    /// A walk over a table of this database in this order, which is read before the other `columns`.
    pub(crate) fn new(
        backend: Backend,
        table: impl Into<String>,
        order: Vec<(String, Kind)>,
        columns: impl IntoIterator<Item = String>,
    ) -> Self {
        let keys = order
            .iter()
            .map(|(column, kind)| kind.read(backend, column));
        Self {
            table: table.into(),
            columns: keys.chain(columns).collect(),
            equal: Vec::new(),
            condition: "true",
            order,
            rows: FIRST_ROWS,
            backend,
        }
    }

    /// The same walk over those rows alone whose column has this text.
    pub(crate) fn only(mut self, column: impl Into<String>, kind: Kind, text: &str) -> Self {
        self.equal.push((column.into(), kind, text.to_owned()));
        self
    }

    /// The same walk over those rows alone of which this is true.
    pub(crate) fn only_where(mut self, condition: &'static str) -> Self {
        self.condition = condition;
        self
    }

    /// The columns of the order in a row of this walk.
    pub(crate) fn place(&self, row: &Texts) -> Vec<String> {
        // A key holds no null.
        let keys = row[..self.order.len()].iter();
        keys.map(|text| text.clone().unwrap_or_default()).collect()
    }

    /// The statement of a page, and its values.
    pub(crate) fn statement(&self, after: Option<&[String]>) -> (String, Vec<String>) {
        let mut values = Vec::new();
        let mut value = |kind: Kind, text: &str| {
            values.push(text.to_owned());
            kind.write(self.backend, &format!("${}", values.len()))
        };
        let mut conditions = vec![self.condition.to_owned()];
        for (column, kind, text) in &self.equal {
            conditions.push(format!("{column} = {}", value(*kind, text)));
        }
        let order: Vec<&str> = self.order.iter().map(|(column, _)| &**column).collect();
        if let Some(after) = after {
            // Where rows are joined, no index has the whole order; this says where to begin in that of its first column.
            let (first, kind) = &self.order[0];
            conditions.push(format!("{first} >= {}", value(*kind, &after[0])));
            let place = self.order.iter().zip(after);
            let place: Vec<String> = place.map(|((_, kind), text)| value(*kind, text)).collect();
            conditions.push(format!("({}) > ({})", order.join(", "), place.join(", ")));
        }
        let (columns, table, rows) = (self.columns.join(", "), &self.table, self.rows);
        let (condition, order) = (conditions.join(" and "), order.join(", "));
        let text = format!(
            "select {columns} from {table} where {condition} order by {order} limit {rows}"
        );
        (text, values)
    }

    /// Reads the page after this place, or the first.
    pub(crate) async fn page(
        &mut self,
        conn: &mut Conn,
        after: Option<&[String]>,
    ) -> Result<Page, StoreError> {
        let (text, values) = self.statement(after);
        let (rows, bytes) = conn.texts(text, values, MAX_BYTES).await?;
        // One that reached neither bound was cut by nothing.
        let is_last = rows.len() < self.rows && bytes < MAX_BYTES;
        // Half of what would fill a page: the next rows may be larger.
        let fit = (MAX_BYTES / 2) / (bytes / rows.len().max(1)).max(1);
        // Few different numbers: each is a statement of its own.
        self.rows = fit.clamp(1, MAX_ROWS).next_power_of_two().min(MAX_ROWS);
        Ok(Page { rows, is_last })
    }
}

impl Conn {
    /// Runs a statement that was made while the program runs.
    pub(crate) async fn run_made(
        &mut self,
        text: String,
        values: Vec<String>,
    ) -> Result<(), StoreError> {
        let args = args(self.backend(), values)?;
        let text = AssertSqlSafe(text);
        let ended = match (self.ask(), args) {
            (Raw::Postgres(conn), Args::Postgres(args)) => {
                sqlx::query_with(text, args).execute(conn).await.map(drop)
            }
            (Raw::Sqlite(conn), Args::Sqlite(args)) => {
                sqlx::query_with(text, args).execute(conn).await.map(drop)
            }
            _ => unreachable!("arguments are made for the connection's backend"),
        };
        self.answered(ended)
    }

    /// Rows of texts, until they have so many bytes together; the rest is not read.
    pub(crate) async fn texts(
        &mut self,
        text: String,
        values: Vec<String>,
        most_bytes: usize,
    ) -> Result<(Vec<Texts>, usize), StoreError> {
        let args = args(self.backend(), values)?;
        let text = AssertSqlSafe(text);
        let (mut rows, mut bytes) = (Vec::new(), 0);
        // The same for both drivers; their rows have no type in common.
        macro_rules! collect {
            ($stream:expr) => {{
                let mut stream = pin!($stream);
                loop {
                    match stream.try_next().await {
                        Ok(Some(row)) => {
                            let texts = (0..row.len()).map(|at| row.try_get(at));
                            let texts = texts.collect::<Result<Texts, sqlx::Error>>()?;
                            bytes += texts.iter().flatten().map(String::len).sum::<usize>();
                            rows.push(texts);
                        }
                        Ok(None) => break Ok(true),
                        Err(error) => break Err(error),
                    }
                    if bytes >= most_bytes {
                        break Ok(false);
                    }
                }
            }};
        }
        let ended: Result<bool, sqlx::Error> = match (self.ask(), args) {
            (Raw::Postgres(conn), Args::Postgres(args)) => {
                collect!(sqlx::query_with(text, args).fetch(conn))
            }
            (Raw::Sqlite(conn), Args::Sqlite(args)) => {
                collect!(sqlx::query_with(text, args).fetch(conn))
            }
            _ => unreachable!("arguments are made for the connection's backend"),
        };
        match ended {
            // Broken off: the driver passes over the rest before the next statement.
            Ok(false) => {}
            ended => {
                self.answered(ended)?;
            }
        }
        Ok((rows, bytes))
    }
}
