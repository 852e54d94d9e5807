//! Rows that are mostly finished, as many as make a scan of a table dear.

use anyhow::Result;
use wharf_tests::Backend;

use crate::fixture::{Fixture, NOW};

const STORES: i64 = 50;
/// Tables of which a hundred lookups, PostgreSQL's guess, look dearer than reading all of it.
pub(super) const MIDDLING: u32 = 5_000;

const SET: i64 = 100_000;

pub(super) async fn fill_tables(ledger: &Fixture, backend: Backend) -> Result<()> {
    let logs = if std::env::var_os("WHARF_TEST_LONG").is_some() {
        10_000_000
    } else {
        200_000
    };
    for number in 0..STORES {
        ledger.register("fill", &format!("shop-{number}")).await?;
    }
    for from in (1..=logs).step_by(usize::try_from(SET)?) {
        let statement = finished_logs(backend, from, from + SET - 1);
        ledger.sql.execute(&statement).await?;
    }
    for statement in settled_work(backend, 20_000, MIDDLING) {
        ledger.sql.execute(&statement).await?;
    }
    let attempts = "insert into sync_log_attempts (log_id, attempt, at, outcome)
        select id, attempt, created_at, status from sync_logs where status <> 'success'";
    ledger.sql.execute(attempts).await?;
    for table in [
        "sync_logs",
        "sync_log_attempts",
        "sync_jobs",
        "callback_outbox",
        "callback_deliveries",
        "webhook_endpoints",
        "stores",
    ] {
        let vacuum = if backend == Backend::Postgres {
            "vacuum analyze"
        } else {
            "analyze"
        };
        ledger.sql.execute(&format!("{vacuum} {table}")).await?;
    }
    Ok(())
}

/// Logs of all stores in turns, one a millisecond up to the time of the test: of a hundred, 97 are successes, one is due
/// and two are due later.
fn finished_logs(backend: Backend, from: i64, to: i64) -> String {
    let numbers = format!(
        "with recursive series (n) as (select {from} union all select n + 1 from series where n < {to}),
        owners as (select id, row_number() over (order by id) - 1 as turn from stores where organization_id = 'fill')"
    );
    let (id, at, later) = match backend {
        Backend::Postgres => (
            "cast(lpad(to_hex(n), 32, '0') as uuid)".to_owned(),
            format!(
                "timestamptz 'epoch' + ({} + n) * interval '1 millisecond'",
                NOW.as_micros() / 1_000 - 10_000_000
            ),
            "interval '1 day'",
        ),
        Backend::Embedded => (
            "unhex(printf('%032x', n))".to_owned(),
            format!("({} + n) * 1000", NOW.as_micros() / 1_000 - 10_000_000),
            "86400000000",
        ),
    };
    format!(
        "{numbers} insert into sync_logs (id, store_id, receipt, status, order_id, attempt, next_retry_at, created_at, updated_at)
        select {id}, owners.id, 'fill-' || n, case when n % 100 < 97 then 'success' else 'rate_limited' end,
            case when n % 100 < 97 then 'order-' || n end, 1,
            case when n % 100 < 97 then null when n % 100 = 97 then {at} else {at} + {later} end, {at}, {at}
        from series join owners on owners.turn = n % {STORES}"
    )
}

/// Jobs, events and deliveries, so many `rows` of each: for each that is due or failed, many that ended well. Of a
/// hundred endpoints one is disabled and one fails.
pub(super) fn settled_work(backend: Backend, rows: u32, endpoints: u32) -> [String; 5] {
    let (series, id, at) = match backend {
        Backend::Postgres => (
            format!("generate_series(1, {rows}) n"),
            "cast(lpad(to_hex(n), 32, '0') as uuid)",
            "timestamptz 'epoch' + n * interval '1 second'",
        ),
        Backend::Embedded => (
            format!(
                "(with recursive s(n) as (select 1 union all select n + 1 from s where n < {rows}) select n from s) numbers"
            ),
            "unhex(printf('%032x', n))",
            "n * 1000000",
        ),
    };
    let bytes = if backend == Backend::Postgres {
        "convert_to('s', 'UTF8')"
    } else {
        "x'00'"
    };
    let due = format!("case when n % 400 = 0 then {at} end");
    let status = "case when n % 400 = 0 then 'pending' else 'success' end";
    [
        format!(
            "insert into stores (id, identity, organization_id, marketplace, external_store_id, store_name, access_token,
                currency, sync_token) select {id}, 's' || n, 'many', 'etsy', 's' || n, '', {bytes}, 'USD', {id} from {series}"
        ),
        format!(
            "insert into sync_jobs (store_id, state, due_at)
             select {id}, case when n % 400 = 0 then 'queued' else 'idle' end, {due} from {series}"
        ),
        format!(
            "insert into callback_outbox (id, organization_id, store_id, event, status, due_at, updated_at)
             select {id}, 'fill', {id}, 'sync.completed', {status}, {due}, {at} from {series}"
        ),
        format!(
            "insert into webhook_endpoints (id, identity, organization_id, event, target_url, secret, is_active, failing_since)
             select {id}, 'e' || n, 'fill-' || n, 'sync.completed', 'http://127.0.0.1/', {bytes}, n % 100 <> 1,
                case when n % 100 = 2 then {at} end from {series} where n <= {endpoints}"
        ),
        format!(
            "insert into callback_deliveries (id, outbox_id, endpoint_id, organization_id, shaper, state, due_at)
             select {id}, {id}, {endpoint}, 'fill-' || (n % 97), 'standard',
                case when n % 400 = 0 then 'pending' when n % 39 = 20 then 'failed' else 'success' end, {due} from {series}",
            endpoint = id.replace("(n)", "(1 + n % 500)").replace(", n)", ", 1 + n % 500)")
        ),
    ]
}
