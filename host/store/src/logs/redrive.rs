//! Redriving: what did not succeed is asked about once more, with all of its refusals and faults forgiven.

use uuid::Uuid;
use wharf_domain::{LogId, LogStatus, StoreId, Time};

use super::list::LogFilter;
use crate::{Conn, StoreError, dialect::statements, rows::Rows, stores};

statements! {
    // What the log must be is asked again: a sync run, or another redrive, may have been quicker. Its status stays until there
    // is an answer, so no counter changes.
    REDRIVE = ["update sync_logs set exhausted = (1 = 0), plugin_faults = 0, refusals = 0, next_retry_at = r.due_at,
            updated_at = r.at
        from" rows(r, id uuid, due_at time, at time)
        "where sync_logs.id = r.id and sync_logs.status <> 'success' and"
            log_is!("sync_logs", "$2", "$3", "$4", "$5")
            "and exists (select 1 from stores s where s.id = sync_logs.store_id and s.removed_at is null)
        returning sync_logs.id"];
}

/// A log to redrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToRedrive {
    /// The log.
    pub id: LogId,
    /// Its store.
    pub store: StoreId,
    /// When it is to be asked about.
    pub due_at: Time,
}

/// Makes logs due, each at its time, that still are what the filter asks for and no success, and whose store is not being
/// removed. Returns which.
///
/// Call it in a transaction of its own.
pub async fn redrive(
    conn: &mut Conn,
    logs: &[ToRedrive],
    filter: &LogFilter,
    now: Time,
) -> Result<Vec<LogId>, StoreError> {
    // Stores before logs, as in every transaction that writes logs.
    let mut owners: Vec<StoreId> = logs.iter().map(|log| log.store).collect();
    owners.sort_unstable();
    owners.dedup();
    match stores::lock(conn, owners.into_iter()).await {
        // The others are locked, and what belongs to this one is left alone.
        Ok(()) | Err(StoreError::StoreRemoved) => {}
        Err(error) => return Err(error),
    }
    let mut rows = Rows::new(conn);
    for log in logs {
        rows.push()
            .uuid("id", log.id.0)
            .time("due_at", log.due_at)
            .time("at", now);
    }
    let query = conn
        .query(REDRIVE)
        .rows(&rows)
        .bind(filter.status.map_or("", LogStatus::as_str))
        .bind(filter.exhausted.map_or(-1i64, i64::from))
        .bind(filter.error.as_deref().unwrap_or_default())
        .bind(i64::from(filter.unlimited));
    let redriven: Vec<Uuid> = query.ids().await?;
    Ok(redriven.into_iter().map(LogId).collect())
}
