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
/// - `few("picked.id")`: always true. PostgreSQL does not know how many rows come as JSON, guesses a hundred, and reads a
///   table of some thousand rows to find them. It takes this condition for one that hardly a row meets, and then looks
///   up each by its key, however large the table is and whatever is known of it. `rows` has it inside.
/// - `with_most_due`: the table `picked (id)` of due deliveries of each endpoint in `$1` (`endpoint_id`, `most`), no more
///   than its `most`, longest due at `$2` first. SQLite has no lateral join, so it walks from one to the next.
/// - `time("$4")`: a time where PostgreSQL cannot infer that it is one.
/// - `skip_locked`: leave rows alone that another worker is claiming. SQLite has one writer at a time.
/// - `keep_endpoints`: let nobody delete the webhook endpoints that a `select` found until the transaction ends.
/// - `piece!(...)`: a named piece of SQL that several statements share, from `pieces.rs`.
/// - `bytewise("name")`: a text compared byte by byte, whatever the database's collation is.
/// - `count_tables("name")`: 1 if there is a table of this name, else 0.
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
        $crate::dialect::postgres!([$($done)* " (select * from json_to_recordset(cast($1 as json)) as ", stringify!($alias), "(",
            stringify!($first), " ", $crate::dialect::postgres_type!($first_type),
            $(", ", stringify!($column), " ", $crate::dialect::postgres_type!($type),)* ") where ",
            stringify!($first), " = least(", stringify!($first), ", ", stringify!($first), ")) as ", stringify!($alias), " ",] $($rest)*)
    };
    ([$($done:tt)*] few($column:literal) $($rest:tt)*) => {
        $crate::dialect::postgres!([$($done)* " ", $column, " = least(", $column, ", ", $column, ") ",] $($rest)*)
    };
    ([$($done:tt)*] with_most_due $($rest:tt)*) => {
        // Materialized: PostgreSQL may run a plain subquery again for each row, and then claims more than the limit.
        $crate::dialect::postgres!([$($done)*] "with picked as materialized (select due.id from"
            rows(r, endpoint_id uuid, most int) "cross join lateral (select d.id from callback_deliveries d
                where d.endpoint_id = r.endpoint_id and d.due_at <= $2 order by d.due_at, d.id limit r.most" skip_locked
            ") due)" $($rest)*)
    };
    ([$($done:tt)*] time($value:literal) $($rest:tt)*) => {
        $crate::dialect::postgres!([$($done)* " cast(", $value, " as timestamptz) ",] $($rest)*)
    };
    ([$($done:tt)*] bytewise($column:literal) $($rest:tt)*) => {
        $crate::dialect::postgres!([$($done)* " ", $column, " collate \"C\" ",] $($rest)*)
    };
    ([$($done:tt)*] count_tables($name:literal) $($rest:tt)*) => {
        // Where unqualified names are looked for, as in every other statement.
        $crate::dialect::postgres!([$($done)* " select num_nonnulls(to_regclass('", $name, "'))::bigint ",] $($rest)*)
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
    ([$($done:tt)*] few($column:literal) $($rest:tt)*) => {
        // SQLite always looks up each.
        $crate::dialect::sqlite!([$($done)* " true ",] $($rest)*)
    };
    ([$($done:tt)*] with_most_due $($rest:tt)*) => {
        $crate::dialect::sqlite!([$($done)*] "with recursive walk (endpoint_id, most, due_at, id, number) as (
                select r.endpoint_id, r.most, -1, x'', 0 from" rows(r, endpoint_id uuid, most int) "
                union all
                select w.endpoint_id, w.most, d.due_at, d.id, w.number + 1
                from walk w join callback_deliveries d on d.id = (select x.id from callback_deliveries x
                    where x.endpoint_id = w.endpoint_id and x.due_at <= $2 and (x.due_at, x.id) > (w.due_at, w.id)
                    order by x.due_at, x.id limit 1)
                where w.number < w.most),
            picked as materialized (select id from walk where number > 0)" $($rest)*)
    };
    ([$($done:tt)*] time($value:literal) $($rest:tt)*) => {
        // Times are integers here, and need no cast.
        $crate::dialect::sqlite!([$($done)* " ", $value, " ",] $($rest)*)
    };
    ([$($done:tt)*] bytewise($column:literal) $($rest:tt)*) => {
        // Byte by byte is how SQLite compares by itself.
        $crate::dialect::sqlite!([$($done)* " ", $column, " ",] $($rest)*)
    };
    ([$($done:tt)*] count_tables($name:literal) $($rest:tt)*) => {
        $crate::dialect::sqlite!([$($done)* " select count(*) from sqlite_schema where name = '", $name, "' ",] $($rest)*)
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
