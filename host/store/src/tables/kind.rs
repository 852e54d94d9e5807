//! The kinds of columns, and the text that a value of each is in both databases: an id or bytes in hexadecimal digits, a time
//! in microseconds since 1970, a truth as 0 or 1, everything else as it is written.

use crate::Backend;

/// A kind of column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Uuid,
    Bytes,
    Text,
    Int,
    Truth,
    Time,
    Money,
    Json,
}

impl Kind {
    /// The kind of a PostgreSQL column of this type; `None` for a type that no table of ours has.
    pub(super) fn of_postgres(name: &str) -> Option<Self> {
        Some(match name {
            "uuid" => Self::Uuid,
            "bytea" => Self::Bytes,
            "text" => Self::Text,
            "bigint" => Self::Int,
            "boolean" => Self::Truth,
            "timestamp with time zone" => Self::Time,
            "numeric" => Self::Money,
            "json" => Self::Json,
            _ => return None,
        })
    }

    /// The type that SQLite's column has.
    pub(super) fn in_sqlite(self) -> &'static str {
        match self {
            Self::Uuid | Self::Bytes => "blob",
            Self::Int | Self::Truth | Self::Time => "integer",
            Self::Text | Self::Money | Self::Json => "text",
        }
    }

    /// SQL that reads a column as text.
    pub(crate) fn read(self, backend: Backend, column: &str) -> String {
        match (backend, self) {
            (Backend::Postgres, Self::Uuid) => format!("replace(cast({column} as text), '-', '')"),
            (Backend::Postgres, Self::Bytes) => format!("encode({column}, 'hex')"),
            // As `numeric`: a float would lose the last digits.
            (Backend::Postgres, Self::Time) => {
                format!("cast(cast(extract(epoch from {column}) * 1000000 as bigint) as text)")
            }
            (Backend::Postgres, Self::Truth) => format!("cast(cast({column} as int) as text)"),
            (Backend::Postgres, Self::Text) => column.to_owned(),
            (Backend::Postgres, Self::Int | Self::Money | Self::Json) => {
                format!("cast({column} as text)")
            }
            // `hex` of null is an empty text.
            (Backend::Sqlite, Self::Uuid | Self::Bytes) => {
                format!("case when {column} is not null then lower(hex({column})) end")
            }
            (Backend::Sqlite, Self::Int | Self::Truth | Self::Time) => {
                format!("cast({column} as text)")
            }
            (Backend::Sqlite, Self::Text | Self::Money | Self::Json) => column.to_owned(),
        }
    }

    /// SQL that makes a column's value of such a text.
    pub(crate) fn write(self, backend: Backend, text: &str) -> String {
        match (backend, self) {
            (Backend::Postgres, Self::Uuid) => format!("cast({text} as uuid)"),
            (Backend::Postgres, Self::Bytes) => format!("decode({text}, 'hex')"),
            // Seconds and the rest apart: an interval is multiplied by a float, which is exact for both.
            (Backend::Postgres, Self::Time) => format!(
                "timestamptz 'epoch' + (cast({text} as bigint) / 1000000) * interval '1 second'
                    + (cast({text} as bigint) % 1000000) * interval '1 microsecond'"
            ),
            (Backend::Postgres, Self::Truth) => format!("cast({text} as int) = 1"),
            (Backend::Postgres, Self::Int) => format!("cast({text} as bigint)"),
            (Backend::Postgres, Self::Money) => format!("cast({text} as numeric)"),
            (Backend::Postgres, Self::Json) => format!("cast({text} as json)"),
            (Backend::Sqlite, Self::Uuid | Self::Bytes) => format!("unhex({text})"),
            (Backend::Sqlite, Self::Int | Self::Truth | Self::Time) => {
                format!("cast({text} as integer)")
            }
            (_, Self::Text) | (Backend::Sqlite, Self::Money | Self::Json) => text.to_owned(),
        }
    }
}
