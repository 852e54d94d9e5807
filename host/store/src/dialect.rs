//! The differences between the two databases, as named pairs. Everything else is one text.

/// One statement, in the words of each database.
#[derive(Clone, Copy, Debug)]
pub struct Sql {
    /// For PostgreSQL.
    pub postgres: &'static str,
    /// For SQLite.
    pub sqlite: &'static str,
}

/// Declares a module's statements as constants, and `ALL` of them with their names.
///
/// A statement is put together from literals and these pieces:
/// - `rows(alias, column type, ...)`: the parameter `$1`, a JSON array of objects, as a table. Types: `uuid`, `text`,
///   `int`, `time`, `money`, `json`, `bytes`. See [`Rows`](crate::rows::Rows).
/// - `time("$4")`: a time where PostgreSQL cannot infer that it is one.
/// - `skip_locked`: leave rows alone that another worker is claiming. SQLite has one writer at a time.
/// - `keep_endpoints`: let nobody delete the webhook endpoints that a `select` found until the transaction ends.
/// - `piece!(...)`: a named piece of SQL that several statements share, from `pieces.rs`.
/// - `bytewise("name")`: a text compared byte by byte, whatever the database's collation is.
/// - `lock_rows`: hold rows until the transaction ends. `for no key update` because a foreign key's share
///   lock would deadlock with `for update`.
macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = [$($piece:tt)*];)*) => {
        $($(#[$doc])* pub(crate) const $name: $crate::dialect::Sql = $crate::dialect::Sql {
            postgres: $crate::dialect::postgres!([] $($piece)*),
            sqlite: $crate::dialect::sqlite!([] $($piece)*),
        };)*
        /// The statements of this module.
        pub(crate) const ALL: &[(&str, $crate::dialect::Sql)] =
            &[$((concat!(module_path!(), "::", stringify!($name)), $name)),*];
    };
}

// Both macros take one piece after the other and keep what is done in the brackets: `concat!`
// takes literals alone, so no constant can hold a part.
macro_rules! postgres {
    ([$($done:tt)*]) => { concat!($($done)*) };
    ([$($done:tt)*] rows($alias:ident, $first:ident $first_type:ident $(, $column:ident $type:ident)*) $($rest:tt)*) => {
        // `json`, not `jsonb`, which orders keys anew: a value is stored as it was written.
        $crate::dialect::postgres!([$($done)* " json_to_recordset(cast($1 as json)) as ", stringify!($alias), "(",
            stringify!($first), " ", $crate::dialect::postgres_type!($first_type),
            $(", ", stringify!($column), " ", $crate::dialect::postgres_type!($type),)* ") ",] $($rest)*)
    };
    ([$($done:tt)*] time($value:literal) $($rest:tt)*) => {
        $crate::dialect::postgres!([$($done)* " cast(", $value, " as timestamptz) ",] $($rest)*)
    };
    ([$($done:tt)*] bytewise($column:literal) $($rest:tt)*) => {
        $crate::dialect::postgres!([$($done)* " ", $column, " collate \"C\" ",] $($rest)*)
    };
    ([$($done:tt)*] skip_locked $($rest:tt)*) => {
        $crate::dialect::postgres!([$($done)* " for no key update skip locked ",] $($rest)*)
    };
    ([$($done:tt)*] lock_rows $($rest:tt)*) => {
        $crate::dialect::postgres!([$($done)* " for no key update ",] $($rest)*)
    };
    ([$($done:tt)*] keep_endpoints $($rest:tt)*) => {
        $crate::dialect::postgres!([$($done)* " for key share of webhook_endpoints ",] $($rest)*)
    };
    ([$($done:tt)*] $piece:ident!($($arguments:tt)*) $($rest:tt)*) => {
        $crate::dialect::postgres!([$($done)* " ", $crate::pieces::$piece!($($arguments)*), " ",] $($rest)*)
    };
    ([$($done:tt)*] $text:literal $($rest:tt)*) => { $crate::dialect::postgres!([$($done)* $text,] $($rest)*) };
}

macro_rules! postgres_type {
    (uuid) => {
        "uuid"
    };
    (text) => {
        "text"
    };
    (int) => {
        "bigint"
    };
    (time) => {
        "timestamptz"
    };
    (money) => {
        "numeric"
    };
    (json) => {
        "json"
    };
    (bytes) => {
        "bytea"
    };
}

macro_rules! sqlite {
    ([$($done:tt)*]) => { concat!($($done)*) };
    ([$($done:tt)*] rows($alias:ident, $first:ident $first_type:ident $(, $column:ident $type:ident)*) $($rest:tt)*) => {
        $crate::dialect::sqlite!([$($done)* " (select ",
            $crate::dialect::sqlite_column!($first $first_type),
            $(", ", $crate::dialect::sqlite_column!($column $type),)*
            " from json_each($1)) as ", stringify!($alias), " ",] $($rest)*)
    };
    ([$($done:tt)*] time($value:literal) $($rest:tt)*) => {
        // Times are integers here, and need no cast.
        $crate::dialect::sqlite!([$($done)* " ", $value, " ",] $($rest)*)
    };
    ([$($done:tt)*] bytewise($column:literal) $($rest:tt)*) => {
        // Byte by byte is how SQLite compares by itself.
        $crate::dialect::sqlite!([$($done)* " ", $column, " ",] $($rest)*)
    };
    ([$($done:tt)*] skip_locked $($rest:tt)*) => { $crate::dialect::sqlite!([$($done)*] $($rest)*) };
    ([$($done:tt)*] lock_rows $($rest:tt)*) => { $crate::dialect::sqlite!([$($done)*] $($rest)*) };
    ([$($done:tt)*] keep_endpoints $($rest:tt)*) => { $crate::dialect::sqlite!([$($done)*] $($rest)*) };
    ([$($done:tt)*] $piece:ident!($($arguments:tt)*) $($rest:tt)*) => {
        $crate::dialect::sqlite!([$($done)* " ", $crate::pieces::$piece!($($arguments)*), " ",] $($rest)*)
    };
    ([$($done:tt)*] $text:literal $($rest:tt)*) => { $crate::dialect::sqlite!([$($done)* $text,] $($rest)*) };
}

macro_rules! sqlite_column {
    ($column:ident uuid) => {
        concat!(
            "unhex(value->>'",
            stringify!($column),
            "') as ",
            stringify!($column)
        )
    };
    ($column:ident bytes) => {
        concat!(
            "unhex(value->>'",
            stringify!($column),
            "') as ",
            stringify!($column)
        )
    };
    ($column:ident $type:ident) => {
        concat!(
            "value->>'",
            stringify!($column),
            "' as ",
            stringify!($column)
        )
    };
}

pub(crate) use {postgres, postgres_type, sqlite, sqlite_column, statements};
