//! What a sync run found out about due logs.

use wharf_domain::{LogId, LogState, RequestId, StoreId, SyncStatus, Time};

use super::{
    DueLog,
    attempts::NewAttempts,
    written::{Moved, WrittenLogs, changes, copy_orders, rounds, state_columns, written},
};
use crate::{
    Conn, StoreError,
    dialect::statements,
    rows::Rows,
    stores::{self, Change},
};

statements! {
    // Only where the log still is what the worker saw: whatever happened in between is kept, such as a redrive.
    SETTLE = ["update sync_logs set status = r.status, attempt = r.attempt, next_retry_at = r.next_retry_at,
            exhausted = r.exhausted = 1, order_id = r.order_id, amount = r.amount, currency = r.currency,
            imported_at = r.imported_at, last_error = r.last_error,
            plugin_digest = coalesce(r.plugin_digest, sync_logs.plugin_digest), plugin_faults = r.plugin_faults,
            refusals = r.refusals, sync_request_id = coalesce(r.request_id, sync_logs.sync_request_id),
            updated_at = r.updated_at, duplicate_of =" original!("sync_logs.store_id")
        "from" rows(r, id uuid, was text, was_attempt int, was_faults int, was_refusals int, status text, attempt int, next_retry_at time, exhausted int,
            order_id text, amount money, currency text, imported_at time, last_error text, plugin_digest text,
            plugin_faults int, refusals int, request_id text, updated_at time)
        "where sync_logs.id = r.id and sync_logs.status = r.was and sync_logs.attempt = r.was_attempt
            and sync_logs.plugin_faults = r.was_faults and sync_logs.refusals = r.was_refusals
        returning sync_logs.id, sync_logs.duplicate_of"];
    // With the literals of the partial index. What was written since $2 met the new credentials.
    RETRY_FAILED = ["with picked as materialized (select id from sync_logs
            where store_id = $1 and status <> 'success' and status <> 'rate_limited' and updated_at < $2
            order by id limit $4)
        update sync_logs set exhausted = (1 = 0), plugin_faults = 0, refusals = 0, next_retry_at = $3, updated_at = $3
        where id in (select id from picked)"];
}

/// A due log and what came of asking.
#[derive(Clone, Debug)]
pub struct SettledLog {
    /// The log as the worker saw it.
    pub log: DueLog,
    /// The state that it gets.
    pub state: LogState,
    /// SHA-256 of the plugin that judged it, if one could.
    pub plugin_digest: Option<String>,
}

/// What a chunk of a sync run wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The store's new status.
    pub status: SyncStatus,
    /// The logs that rest from now on.
    pub exhausted: Vec<LogId>,
}

/// Writes what a chunk of a sync run found out about one store, with counters and status. The caller holds the job's fence in the same transaction (see [`jobs::hold`](crate::jobs::hold)).
pub async fn settle(
    conn: &mut Conn,
    store: StoreId,
    logs: &[SettledLog],
    request: &RequestId,
    now: Time,
) -> Result<Settled, StoreError> {
    let written = write_settled(conn, store, logs, Some(request), now).await?;
    let moved = logs.iter().filter_map(|settled| {
        Some(Moved {
            store,
            before: settled.log.status,
            after: settled.state.status,
            is_duplicate: *written.get(&settled.log.id.0)?,
            asked_at: None,
        })
    });
    let change = changes(moved).pop().map(|(_, change)| change);
    // Also where no log changed: the run looked at the store, so its times move.
    let change = Change {
        asked_at: Some(now),
        run_at: Some(now),
        ..change.unwrap_or_default()
    };
    let statuses = stores::apply_changes(conn, &[(store, change)], now).await?;
    let resting = logs
        .iter()
        .filter(|settled| settled.state.exhausted && written.contains_key(&settled.log.id.0));
    Ok(Settled {
        status: statuses
            .first()
            .map_or(SyncStatus::Pending, |(_, status)| *status),
        exhausted: resting.map(|settled| settled.log.id).collect(),
    })
}

/// Writes that logs were put off: nobody was asked about them, so nothing else of their store changes.
pub async fn put_off(
    conn: &mut Conn,
    store: StoreId,
    logs: &[SettledLog],
    now: Time,
) -> Result<(), StoreError> {
    write_settled(conn, store, logs, None, now).await.map(drop)
}

async fn write_settled(
    conn: &mut Conn,
    store: StoreId,
    logs: &[SettledLog],
    request: Option<&RequestId>,
    now: Time,
) -> Result<WrittenLogs, StoreError> {
    let mut all = WrittenLogs::new();
    for round in rounds(logs, |log| Some((store, log.state.order.as_ref()?))) {
        let mut rows = Rows::new(conn);
        for settled in round {
            rows.push()
                .uuid("id", settled.log.id.0)
                .text("was", settled.log.status.as_str())
                .int("was_attempt", settled.log.attempt)
                .int("was_faults", settled.log.plugin_faults)
                .int("was_refusals", settled.log.refusals)
                .text("request_id", request.map(RequestId::as_str))
                .time("updated_at", now);
            state_columns(&mut rows, &settled.state, settled.plugin_digest.as_deref());
        }
        all.extend(written(conn, SETTLE, &rows).await?);
    }
    copy_orders(conn, &all).await?;
    let mut attempts = NewAttempts::new(conn);
    for settled in logs.iter().filter(|log| all.contains_key(&log.log.id.0)) {
        let digest = settled.plugin_digest.as_deref();
        attempts.push(settled.log.id, &settled.state, digest, request, now);
    }
    attempts.write(conn).await?;
    Ok(all)
}

/// Makes up to `limit` logs of the store due that failed before `changed_at`, when its credentials changed. Returns how
/// many there were; what was rate-limited keeps its time.
pub async fn retry_failed(
    conn: &mut Conn,
    store: StoreId,
    changed_at: Time,
    limit: i64,
    now: Time,
) -> Result<u64, StoreError> {
    let query = conn.query(RETRY_FAILED).bind(store.0).time(changed_at);
    query.time(now).bind(limit).run().await
}
