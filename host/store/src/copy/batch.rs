//! Rows on their way into the target.

use serde_json::{Map, Value};

use super::{ADVANCE, CopyError};
use crate::{
    Backend, Conn, StoreError,
    tables::{
        catalogue::{Known, quoted},
        page::Texts,
    },
};

/// Rows of one table.
pub struct Batch {
    pub(super) known: Known,
    /// The place that they come after, and that of the last one.
    pub(super) before: Option<String>,
    pub(super) reached: String,
    /// The texts of the key, and then of all columns.
    pub(super) rows: Vec<Texts>,
}

impl Batch {
    /// The table's name.
    pub fn table(&self) -> &str {
        &self.known.table.name
    }

    /// The number of rows.
    pub fn rows(&self) -> u64 {
        self.rows.len() as u64
    }

    /// Puts the rows into the target, with the place that is reached by it.
    ///
    /// # Errors
    /// [`CopyError::Overtaken`] if another copy went on from the same place; [`CopyError::Table`] if the target refuses a row.
    pub async fn write(&self, conn: &mut Conn) -> Result<(), CopyError> {
        let (statement, rows) = (insert(conn.backend(), &self.known), self.to_json());
        let refused = |why| CopyError::Table {
            table: self.table().to_owned(),
            why,
        };
        let number = i64::try_from(self.rows.len()).unwrap_or(i64::MAX);
        let advanced = conn
            .query(ADVANCE)
            .bind(self.table())
            .bind(self.before.as_deref());
        // First: it waits for another copy's transaction, and then knows.
        if advanced
            .bind(self.reached.as_str())
            .bind(number)
            .run()
            .await?
            == 0
        {
            return Err(CopyError::Overtaken);
        }
        conn.run_made(statement, vec![rows]).await.map_err(refused)
    }

    /// One parameter for all rows: an array of objects, without what is null.
    fn to_json(&self) -> String {
        let key = self.known.table.key.len();
        let object = |row: &Texts| {
            let columns = row[key..].iter().enumerate();
            let given = columns.filter_map(|(at, text)| Some((name(at), text.clone()?.into())));
            Value::Object(given.collect::<Map<String, Value>>())
        };
        Value::Array(self.rows.iter().map(object).collect()).to_string()
    }
}

/// The name of a column in the parameter: not its own, which may be anything.
fn name(at: usize) -> String {
    format!("c{at}")
}

/// The statement that puts rows in.
pub(super) fn insert(backend: Backend, known: &Known) -> String {
    let (table, columns) = (quoted(&known.table.name), &known.table.columns);
    let names: Vec<String> = columns.iter().map(|column| quoted(&column.name)).collect();
    let values = known
        .kinds
        .iter()
        .enumerate()
        .map(|(at, kind)| match backend {
            Backend::Postgres => kind.write(backend, &format!("r.{}", name(at))),
            Backend::Sqlite => kind.write(backend, &format!("(value->>'{}')", name(at))),
        });
    let values: Vec<String> = values.collect();
    let from = match backend {
        Backend::Postgres => {
            let texts: Vec<String> = (0..columns.len())
                .map(|at| format!("{} text", name(at)))
                .collect();
            format!(
                "json_to_recordset(cast($1 as json)) as r ({})",
                texts.join(", ")
            )
        }
        Backend::Sqlite => "json_each($1)".to_owned(),
    };
    format!(
        "insert into {table} ({}) select {} from {from}",
        names.join(", "),
        values.join(", ")
    )
}

/// A place as it is kept.
pub(super) fn text(place: &[String]) -> String {
    Value::from(place.to_vec()).to_string()
}

/// A place that was kept.
pub(super) fn place(text: &str) -> Result<Vec<String>, StoreError> {
    serde_json::from_str(text)
        .map_err(|error| StoreError::unreadable("copy_progress.after_key", error))
}
