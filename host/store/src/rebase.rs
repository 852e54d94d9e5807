//! The traces of a clock that was set back: leases, and work that was due at once, which now lie far in the future.
//! Retry schedules stay as they are, because nothing tells a wait of a day from one that became a day longer.

use std::time::Duration;

use wharf_domain::Time;

use crate::{
    Conn, StoreError,
    dialect::{Sql, statements},
};

statements! {
    // What was due when it was written was to be done at once. It is due now ($1), a lease ends at $2.
    DELIVERIES = ["with picked as materialized (select id from callback_deliveries where due_at > $2
            and (claimed_by is not null or due_at <= updated_at) limit $3" skip_locked ")
        update callback_deliveries
        set due_at = case when claimed_by is null then" time("$1") "else" time("$2") "end
        where id in (select id from picked where" few("picked.id") ")"];
    JOBS = ["with picked as materialized (select store_id from sync_jobs where due_at > $2
            and (state = 'running' or due_at <= updated_at or due_at > $3) limit $4" skip_locked ")
        update sync_jobs set due_at = case when state = 'queued' then" time("$1") "else" time("$2") "end
        where store_id in (select store_id from picked where" few("picked.store_id") ")"];
    // Logs that were never put off are due since they were made.
    LOGS = ["with picked as materialized (select id from sync_logs where due_at > $2
            and (next_retry_at is null or next_retry_at <= updated_at) limit $3" skip_locked ")
        update sync_logs set next_retry_at = $1 where id in (select id from picked where" few("picked.id") ")"];
    EVENTS = ["with picked as materialized (
            select id from callback_outbox where due_at > $2 limit $3" skip_locked ")
        update callback_outbox set due_at = $1 where id in (select id from picked where" few("picked.id") ")"];
    // Pauses of circuits and used-up rate limits are far shorter than $1.
    ENDPOINTS = ["with picked as materialized (select id from webhook_endpoints
            where paced_until > $1 or paused_until > $1 limit $2" skip_locked ")
        update webhook_endpoints set paced_until = null, paused_until = null
        where id in (select id from picked where" few("picked.id") ")"];
}

/// Rows of one statement: SQLite's other writers wait for it.
const MAX_ROWS: i64 = 500;
/// No wait of an event, a sync job or an endpoint is longer (see `wharf_domain::Backoff`).
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// Makes due now what was due at once, and lets leases end no later than `now + lease`. Returns how many rows there
/// were.
///
/// It finds nothing where no clock was set back. It may run at any time, and any number of times.
pub async fn rebase(conn: &mut Conn, lease: Duration, now: Time) -> Result<u64, StoreError> {
    let latest = now + LONGEST_WAIT;
    let mut rows = 0;
    rows += in_batches(conn, DELIVERIES, &[now, now + lease]).await?;
    rows += in_batches(conn, JOBS, &[now, now + lease, latest]).await?;
    rows += in_batches(conn, LOGS, &[now, now + lease]).await?;
    rows += in_batches(conn, EVENTS, &[now, now + lease.max(LONGEST_WAIT)]).await?;
    rows += in_batches(conn, ENDPOINTS, &[latest]).await?;
    Ok(rows)
}

async fn in_batches(conn: &mut Conn, statement: Sql, times: &[Time]) -> Result<u64, StoreError> {
    let mut rows = 0;
    loop {
        let mut query = conn.query(statement);
        for at in times {
            query = query.time(*at);
        }
        // What a batch moved is no longer found, so the batches end.
        let moved = query.bind(MAX_ROWS).run().await?;
        rows += moved;
        if moved < MAX_ROWS.unsigned_abs() {
            return Ok(rows);
        }
    }
}
