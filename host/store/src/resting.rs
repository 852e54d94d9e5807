//! Receipts that rest because their adapter failed on them too often. Another revision of it gets another try.

use uuid::Uuid;
use wharf_domain::{LogId, Time};

use crate::{Conn, StoreError, dialect::statements, rows::Rows};

statements! {
    PAGE = ["select l.id, s.marketplace, l.plugin_digest from sync_logs l join stores s on s.id = l.store_id
        where l.exhausted and l.plugin_faults > 0 and l.id > $1 order by l.id limit $2"];
    // The status stays until there is an answer, so no counter changes.
    WAKE = ["update sync_logs set exhausted = (1 = 0), plugin_faults = 0, next_retry_at = r.due_at, updated_at = r.at
        from" rows(r, id uuid, due_at time, at time)
        "where sync_logs.id = r.id and sync_logs.exhausted and sync_logs.plugin_faults > 0"];
}

/// A receipt that rests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resting {
    /// Its log.
    pub id: LogId,
    /// The marketplace whose adapter failed on it.
    pub marketplace: String,
    /// SHA-256 of the revision that failed last, if it is known.
    pub plugin_digest: Option<String>,
}

/// A page of them, in the order of their ids.
pub async fn page(conn: &mut Conn, after: LogId, limit: i64) -> Result<Vec<Resting>, StoreError> {
    #[derive(FromRow)]
    struct Row {
        id: Uuid,
        marketplace: String,
        plugin_digest: Option<String>,
    }
    let rows: Vec<Row> = conn.query(PAGE).bind(after.0).bind(limit).all().await?;
    let resting = rows.into_iter().map(|row| Resting {
        id: LogId(row.id),
        marketplace: row.marketplace,
        plugin_digest: row.plugin_digest,
    });
    Ok(resting.collect())
}

/// Makes receipts that rest due again, each at its time. Returns how many still rested.
pub async fn wake(
    conn: &mut Conn,
    logs: impl IntoIterator<Item = (LogId, Time)>,
    now: Time,
) -> Result<u64, StoreError> {
    let mut rows = Rows::new(conn);
    for (log, due_at) in logs {
        rows.push()
            .uuid("id", log.0)
            .time("due_at", due_at)
            .time("at", now);
    }
    conn.query(WAKE).rows(&rows).run().await
}
