//! The tables, columns and keys of a database, as it tells them itself: a new table cannot be forgotten.

use super::kind::Kind;
use crate::{Backend, Conn, StoreError, dialect::Sql};

/// The tables that are no data: the migration library's, and the place of an unfinished copy.
pub(super) const NO_DATA: [&str; 2] = ["_sqlx_migrations", "copy_progress"];

/// Generated columns are left out: the database makes them. In the order in which the columns were made.
const COLUMNS: Sql = Sql {
    postgres: "select cast(t.relname as text) as table_name, cast(a.attname as text) as name,
            format_type(a.atttypid, null) as type_name, coalesce((select k.place from pg_index i
                cross join lateral unnest(i.indkey) with ordinality k (number, place)
                where i.indrelid = t.oid and i.indisprimary and k.number = a.attnum), 0) as key_place
        from pg_class t join pg_attribute a on a.attrelid = t.oid
        where t.relnamespace = cast(current_schema() as regnamespace) and t.relkind in ('r', 'p')
            and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
        order by t.relname, a.attnum",
    sqlite: "select t.name as table_name, c.name as name, lower(c.type) as type_name, c.pk as key_place
        from sqlite_schema t join pragma_table_xinfo(t.name) c
        where t.type = 'table' and t.name not like 'sqlite\\_%' escape '\\' and c.hidden = 0
        order by t.name, c.cid",
};

const PARENTS: Sql = Sql {
    postgres: "select distinct cast(t.relname as text) as child, cast(p.relname as text) as parent
        from pg_constraint k join pg_class t on t.oid = k.conrelid join pg_class p on p.oid = k.confrelid
        where k.contype = 'f' and t.relnamespace = cast(current_schema() as regnamespace)",
    sqlite: "select distinct t.name as child, f.\"table\" as parent
        from sqlite_schema t join pragma_foreign_key_list(t.name) f where t.type = 'table'",
};

/// A column that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// The database's word for its type, in small letters.
    pub(crate) type_name: String,
}

/// A table.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) columns: Vec<Column>,
    /// The places of its primary key's columns among `columns`, in the key's order.
    pub(crate) key: Vec<usize>,
}

/// A table with the kinds of its columns, which only PostgreSQL knows.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) table: Table,
    pub(crate) kinds: Vec<Kind>,
}

#[derive(FromRow)]
struct ColumnRow {
    table_name: String,
    name: String,
    type_name: String,
    key_place: i64,
}

#[derive(FromRow)]
struct ParentRow {
    child: String,
    parent: String,
}

/// Reads the tables that hold data, those that others refer to first.
pub(crate) async fn read(conn: &mut Conn) -> Result<Vec<Table>, StoreError> {
    let rows: Vec<ColumnRow> = conn.query(COLUMNS).all().await?;
    let parents: Vec<ParentRow> = conn.query(PARENTS).all().await?;
    let rows = rows
        .iter()
        .filter(|row| !NO_DATA.contains(&&*row.table_name));
    let rows: Vec<&ColumnRow> = rows.collect();
    let tables = rows.chunk_by(|one, next| one.table_name == next.table_name);
    Ok(in_order(tables.map(table).collect(), &parents))
}

fn table(rows: &[&ColumnRow]) -> Table {
    let mut key: Vec<usize> = (0..rows.len())
        .filter(|at| rows[*at].key_place > 0)
        .collect();
    key.sort_by_key(|at| rows[*at].key_place);
    let column = |row: &&ColumnRow| Column {
        name: row.name.clone(),
        type_name: row.type_name.clone(),
    };
    Table {
        name: rows[0].table_name.clone(),
        columns: rows.iter().map(column).collect(),
        key,
    }
}

fn in_order(mut left: Vec<Table>, parents: &[ParentRow]) -> Vec<Table> {
    let mut done: Vec<Table> = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let waits = |table: &Table| {
            let mut of = parents.iter().filter(|row| row.child == table.name);
            // One that refers to itself has no better place.
            of.any(|row| {
                row.parent != table.name && left.iter().any(|other| other.name == row.parent)
            })
        };
        let next = left.iter().position(|table| !waits(table));
        // In a circle of references there is no order; the database refuses the row, and says which.
        done.push(left.remove(next.unwrap_or(0)));
    }
    done
}

/// The tables of both databases with the kinds of their columns, those that others refer to first.
///
/// # Errors
/// If one has what the other has not, or a type that is not known.
pub(crate) fn agree(postgres: &[Table], sqlite: &[Table]) -> Result<Vec<Known>, StoreError> {
    let wrong = |why: String| StoreError::unreadable("the schema", why);
    if let Some(table) = sqlite
        .iter()
        .find(|one| postgres.iter().all(|other| other.name != one.name))
    {
        return Err(wrong(format!("PostgreSQL has no table {}", table.name)));
    }
    let known = |table: &Table| {
        let other = sqlite.iter().find(|other| other.name == table.name);
        let other = other.ok_or_else(|| wrong(format!("SQLite has no table {}", table.name)))?;
        let kinds = table.columns.iter().map(|column| {
            let kind = Kind::of_postgres(&column.type_name);
            let there = other.columns.iter().find(|there| there.name == column.name);
            kind.filter(|kind| there.is_some_and(|there| there.type_name == kind.in_sqlite()))
                .ok_or_else(|| {
                    let (table, column, name) = (&table.name, &column.name, &column.type_name);
                    wrong(format!(
                        "{table}.{column} is {name} in PostgreSQL and {there:?} in SQLite"
                    ))
                })
        });
        let kinds = kinds.collect::<Result<Vec<Kind>, StoreError>>()?;
        if other.columns.len() != kinds.len() || other.key_names() != table.key_names() {
            return Err(wrong(format!(
                "{} has other columns or keys in SQLite",
                table.name
            )));
        }
        Ok(Known {
            table: table.clone(),
            kinds,
        })
    };
    postgres.iter().map(known).collect()
}

impl Table {
    /// The columns of its primary key.
    pub(crate) fn key_names(&self) -> Vec<&str> {
        self.key.iter().map(|at| &*self.columns[*at].name).collect()
    }
}

impl Known {
    /// SQL that reads its columns as texts, in their order.
    pub(crate) fn read(&self, backend: Backend) -> Vec<String> {
        let columns = self.table.columns.iter().zip(&self.kinds);
        columns
            .map(|(column, kind)| kind.read(backend, &quoted(&column.name)))
            .collect()
    }

    /// The columns of its key with their kinds.
    pub(crate) fn key(&self) -> Vec<(String, Kind)> {
        let key = self.table.key.iter();
        key.map(|at| (quoted(&self.table.columns[*at].name), self.kinds[*at]))
            .collect()
    }
}

/// A name as SQL takes it, whatever is in it.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
