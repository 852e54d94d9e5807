//! A great many logs at once, set by set, for looking at plans and speed where the tables are large.

use wharf_domain::Time;

use crate::{Conn, StoreError, dialect::Sql};

/// Logs number $1 to $2, over the stores of the organization $3 in turns. Of a hundred, 97 are finished, one is
/// exhausted, one was refused and one is rate-limited; of the last two kinds half are due at $4. They were made one
/// a millisecond, the last at $4.
const LOGS: Sql = Sql {
    postgres: "with owners as (select id, currency, row_number() over (order by id) - 1 as turn,
            count(*) over () as stores from stores where organization_id = $3)
        insert into sync_logs (id, store_id, receipt, status, attempt, next_retry_at, exhausted, order_id, amount, currency,
            imported_at, last_error, created_at, updated_at)
        select cast(lpad(to_hex(cast(extract(epoch from at) * 1000 as bigint)), 12, '0') || '7000a' || lpad(to_hex(n), 15, '0')
                as uuid), owners.id, 'fill-' || n,
            case when kind < 97 then 'success' when kind < 99 then 'failed' else 'rate_limited' end,
            case when kind = 97 then 10 else 1 end,
            case when kind < 98 then null when n % 200 < 100 then at else cast($4 as timestamptz) + interval '1 hour' end, kind = 97,
            case when kind < 97 then 'order-' || n end, case when kind < 97 then round(n % 100000 / 100.0, 2) end,
            case when kind < 97 then currency end, case when kind < 97 then at end,
            case when kind >= 97 then 'filled' end, at, at
        from (select n, (n * 7) % 100 as kind, cast($4 as timestamptz) - ($2 - n) * interval '1 millisecond' as at
              from generate_series(cast($1 as bigint), cast($2 as bigint)) n) numbers
        join owners on owners.turn = n % owners.stores
        on conflict (store_id, receipt) do nothing",
    sqlite: "with recursive owners as (select id, currency, row_number() over (order by id) - 1 as turn,
            count(*) over () as stores from stores where organization_id = $3),
        series (n) as (select $1 union all select n + 1 from series where n < $2)
        insert into sync_logs (id, store_id, receipt, status, attempt, next_retry_at, exhausted, order_id, amount, currency,
            imported_at, last_error, created_at, updated_at)
        select unhex(printf('%012x7000a%015x', at / 1000, n)), owners.id, 'fill-' || n,
            case when kind < 97 then 'success' when kind < 99 then 'failed' else 'rate_limited' end,
            case when kind = 97 then 10 else 1 end,
            case when kind < 98 then null when n % 200 < 100 then at else $4 + 3600000000 end, kind = 97,
            case when kind < 97 then 'order-' || n end,
            case when kind < 97 then printf('%d.%02d', n % 100000 / 100, n % 100) end,
            case when kind < 97 then currency end, case when kind < 97 then at end,
            case when kind >= 97 then 'filled' end, at, at
        from (select n, (n * 7) % 100 as kind, $4 - ($2 - n) * 1000 as at from series) numbers
        join owners on owners.turn = n % owners.stores
        where true on conflict (store_id, receipt) do nothing",
};

/// The counters and the status that those logs make, once they are all there.
const COUNT: Sql = Sql {
    postgres: "update stores set imported_orders = l.imported, rate_limited_count = l.limited, sync_status = 'partial'
        from (select store_id, count(*) filter (where status = 'success') as imported,
                count(*) filter (where status = 'rate_limited') as limited from sync_logs group by store_id) l
        where stores.id = l.store_id and organization_id = $1",
    sqlite: "update stores set imported_orders = l.imported, rate_limited_count = l.limited, sync_status = 'partial'
        from (select store_id, count(*) filter (where status = 'success') as imported,
                count(*) filter (where status = 'rate_limited') as limited from sync_logs group by store_id) l
        where stores.id = l.store_id and organization_id = $1",
};

/// The statements of this module that a test can prepare.
pub(crate) const ALL: &[(&str, Sql)] = &[
    ("wharf_store::fill::LOGS", LOGS),
    ("wharf_store::fill::COUNT", COUNT),
];

/// What a freshly filled database does not know yet: how its values are spread.
const ANALYZE: Sql = Sql {
    postgres: "vacuum analyze sync_logs",
    sqlite: "analyze",
};

/// Makes logs number `from` to `to` of the organization's stores, which must be there; those that exist stay. Answers
/// how many were made.
pub async fn logs(
    conn: &mut Conn,
    organization: &str,
    from: i64,
    to: i64,
    now: Time,
) -> Result<u64, StoreError> {
    conn.query(LOGS)
        .bind(from)
        .bind(to)
        .bind(organization)
        .time(now)
        .run()
        .await
}

/// Brings the stores' counters and the planner's statistics up to date. Outside of a transaction.
pub async fn finish(conn: &mut Conn, organization: &str) -> Result<(), StoreError> {
    conn.query(COUNT).bind(organization).run().await?;
    conn.query(ANALYZE).run().await.map(drop)
}
