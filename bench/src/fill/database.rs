//! The statements that fill, for both databases.

use anyhow::Result;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};
use wharf_domain::Time;

/// No statement may take longer. PostgreSQL keeps it.
const MAX_STATEMENT: &str = "20s";

/// Logs number $1 to $2, over the stores of the organization $3 one after the other. Of a hundred, 97 are finished, one is
/// exhausted, one was refused and one is rate-limited; of the last two kinds half are due at $4 (microseconds). They were
/// made one a millisecond, the last at $4.
// Turns are equal columns of both sides: any other condition is compared for every log with every store.
const POSTGRES_LOGS: &str =
    "with owners as (select id, currency, row_number() over (order by id) - 1 as turn from stores where organization_id = $3),
    numbers as (select n, n % (select count(*) from owners) as turn, (n * 7) % 100 as kind,
            timestamptz 'epoch' + ($4 - ($2 - n) * 1000) * interval '1 microsecond' as at
        from generate_series(cast($1 as bigint), cast($2 as bigint)) n)
    insert into sync_logs (id, store_id, receipt, status, attempt, next_retry_at, exhausted, order_id, amount, currency,
        imported_at, last_error, created_at, updated_at)
    select cast(lpad(to_hex(cast(extract(epoch from at) * 1000 as bigint)), 12, '0') || '7000a' || lpad(to_hex(n), 15, '0')
            as uuid), owners.id, 'fill-' || n,
        case when kind < 97 then 'success' when kind < 99 then 'failed' else 'rate_limited' end,
        case when kind = 97 then 10 else 1 end,
        case when kind < 98 then null when n % 200 < 100 then at
            else timestamptz 'epoch' + $4 * interval '1 microsecond' + interval '1 hour' end,
        kind = 97, case when kind < 97 then 'order-' || n end, case when kind < 97 then round(n % 100000 / 100.0, 2) end,
        case when kind < 97 then currency end, case when kind < 97 then at end,
        case when kind >= 97 then 'filled' end, at, at
    from numbers join owners on owners.turn = numbers.turn
    on conflict (store_id, receipt) do nothing";

const SQLITE_LOGS: &str =
    "with recursive owners as (select id, currency, row_number() over (order by id) - 1 as turn
        from stores where organization_id = $3),
    series (n) as (select $1 union all select n + 1 from series where n < $2),
    numbers as (select n, n % (select count(*) from owners) as turn, (n * 7) % 100 as kind, $4 - ($2 - n) * 1000 as at from series)
    insert into sync_logs (id, store_id, receipt, status, attempt, next_retry_at, exhausted, order_id, amount, currency,
        imported_at, last_error, created_at, updated_at)
    select unhex(printf('%012x7000a%015x', at / 1000, n)), owners.id, 'fill-' || n,
        case when kind < 97 then 'success' when kind < 99 then 'failed' else 'rate_limited' end,
        case when kind = 97 then 10 else 1 end,
        case when kind < 98 then null when n % 200 < 100 then at else $4 + 3600000000 end,
        kind = 97, case when kind < 97 then 'order-' || n end,
        case when kind < 97 then printf('%d.%02d', n % 100000 / 100, n % 100) end,
        case when kind < 97 then currency end, case when kind < 97 then at end,
        case when kind >= 97 then 'filled' end, at, at
    from numbers join owners on owners.turn = numbers.turn
    where true on conflict (store_id, receipt) do nothing";

/// The counters and the status that the logs of $3 stores after the first $2 make.
// Subqueries for each store: a join lets PostgreSQL read the logs of all stores for every page of them.
const COUNT: &str = "with page as (select id from stores where organization_id = $1 order by id limit $3 offset $2),
    sums as (select page.id,
            (select count(*) from sync_logs l where l.store_id = page.id and l.status = 'success') as imported,
            (select count(*) from sync_logs l where l.store_id = page.id and l.status = 'rate_limited') as limited
        from page)
    update stores set imported_orders = sums.imported, rate_limited_count = sums.limited, sync_status = 'partial'
    from sums where stores.id = sums.id";

/// A connection past the store's own, which has no statements for this.
pub(super) enum Database {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

impl Database {
    pub(super) async fn connect(url: &str) -> Result<Self> {
        if !url.starts_with("postgres") {
            let path = url.strip_prefix("sqlite:").unwrap_or(url);
            return Ok(Self::Sqlite(SqliteConnection::connect(path).await?));
        }
        let mut conn = PgConnection::connect(url).await?;
        let limit = format!("set statement_timeout = '{MAX_STATEMENT}'");
        conn.execute(AssertSqlSafe(limit)).await?;
        // Of a table that has just been filled the planner knows nothing yet.
        conn.execute("analyze stores").await?;
        Ok(Self::Postgres(conn))
    }

    /// Makes logs number `from` to `to`; those that exist stay. Returns how many were made.
    pub(super) async fn insert_logs(
        &mut self,
        organization: &str,
        from: i64,
        to: i64,
        now: Time,
    ) -> Result<u64> {
        macro_rules! insert {
            ($sql:expr, $conn:expr) => {{
                let query = sqlx::query($sql).bind(from).bind(to).bind(organization);
                query.bind(now.as_micros()).execute($conn).await?
            }};
        }
        Ok(match self {
            Self::Postgres(conn) => insert!(POSTGRES_LOGS, conn).rows_affected(),
            Self::Sqlite(conn) => insert!(SQLITE_LOGS, conn).rows_affected(),
        })
    }

    /// Brings the counters of `page` stores up to date, after the first `offset`. Returns how many there were.
    pub(super) async fn count(
        &mut self,
        organization: &str,
        offset: i64,
        page: i64,
    ) -> Result<u64> {
        macro_rules! count {
            ($conn:expr) => {{
                let query = sqlx::query(COUNT).bind(organization).bind(offset);
                query.bind(page).execute($conn).await?.rows_affected()
            }};
        }
        Ok(match self {
            Self::Postgres(conn) => count!(conn),
            Self::Sqlite(conn) => count!(conn),
        })
    }

    /// Tells the planner how the values are spread, and PostgreSQL which pages hold nothing but finished rows.
    pub(super) async fn vacuum(&mut self) -> Result<()> {
        match self {
            Self::Postgres(conn) => {
                // It holds nobody up, and takes as long as the table is large.
                conn.execute("set statement_timeout = 0").await?;
                conn.execute("vacuum analyze sync_logs").await?;
                let limit = format!("set statement_timeout = '{MAX_STATEMENT}'");
                conn.execute(AssertSqlSafe(limit)).await?;
            }
            Self::Sqlite(conn) => {
                conn.execute("analyze").await?;
            }
        }
        Ok(())
    }
}
