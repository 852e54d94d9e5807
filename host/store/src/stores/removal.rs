//! Removing a store: hidden and fenced off at once, then its rows go page by page, its own one last. A process that is
//! killed in between leaves a store that nobody finds and that the next process goes on with.

use uuid::Uuid;
use wharf_domain::{OrganizationId, StoreId, Time};

use crate::{Conn, StoreError, dialect::statements, holds, values::At};

statements! {
    // An empty $2 is any organization.
    LIVE = ["select id from stores where id = $1 and removed_at is null and (organization_id = $2 or $2 = '')" lock_rows];
    // The token is exchanged for one that nobody has, for programs of before as well, which know no removal.
    HIDE = ["update stores set removed_at = $2, updated_at = $2, sync_token = $3, sync_token_sealed = null where id = $1"];
    // Whoever works on it holds the fence of a row that is gone: its writes are refused.
    FENCE_OFF = ["delete from sync_jobs where store_id = $1"];
    NEXT = ["select id, removed_at from stores where removed_at is not null and (removed_at, id) > ($1, $2)
        order by removed_at, id limit 1"];
    LOCK = ["select id from stores where id = $1 and removed_at is not null" lock_rows];
    // What another process is removing is left to it.
    LOGS = ["with picked as materialized (select id from sync_logs where store_id = $1 limit $2" skip_locked ")
        delete from sync_logs where id in (select id from picked where" few("picked.id") ")"];
    GONE = ["delete from stores where id = $1 and removed_at is not null
        and not exists (select 1 from sync_logs where store_id = $1)"];
}

/// Takes the row of a store that is not being removed for this transaction. Returns false if there is none, or if it is
/// another organization's.
pub async fn live(
    conn: &mut Conn,
    organization: Option<&OrganizationId>,
    store: StoreId,
) -> Result<bool, StoreError> {
    let organization = organization.map_or("", OrganizationId::as_str).to_owned();
    let query = conn.query(LIVE).bind(store.0).bind(organization);
    Ok(!query.ids().await?.is_empty())
}

/// Hides a store whose row this transaction has ([`live`]), ends its job and its holds. `nobodys` is a random id, which
/// takes the place of its token.
pub async fn hide(
    conn: &mut Conn,
    store: StoreId,
    nobodys: Uuid,
    now: Time,
) -> Result<(), StoreError> {
    let query = conn.query(HIDE).bind(store.0).time(now);
    query.bind(nobodys).run().await?;
    // Before the job: whoever puts jobs off takes the holds first, too.
    holds::forget(conn, store).await?;
    conn.query(FENCE_OFF).bind(store.0).run().await.map(drop)
}

/// The place of a walk over the stores that are being removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemovalCursor {
    removed_at: Time,
    /// The store.
    pub store: StoreId,
}

impl RemovalCursor {
    /// Before the first.
    pub const START: Self = Self {
        removed_at: Time::from_micros(0),
        store: StoreId(Uuid::nil()),
    };
}

/// The next store to remove, that which waits longest first.
pub async fn next(
    conn: &mut Conn,
    after: RemovalCursor,
) -> Result<Option<RemovalCursor>, StoreError> {
    let query = conn.query(NEXT).time(after.removed_at);
    let row: Option<(Uuid, At)> = query.bind(after.store.0).optional().await?;
    Ok(row.map(|(id, at)| RemovalCursor {
        removed_at: at.0,
        store: StoreId(id),
    }))
}

/// Removes up to `most` receipts of a store that is being removed; returns how many.
///
/// Call it in a transaction of its own.
pub async fn remove_logs(conn: &mut Conn, store: StoreId, most: i64) -> Result<u64, StoreError> {
    let query = conn.query(LOGS).bind(store.0).bind(most);
    query.run().await
}

/// Removes the row of a store that is being removed, if no receipt is left. Returns false if some are, or if the store is
/// gone already.
///
/// Call it in a transaction of its own.
pub async fn remove_store(conn: &mut Conn, store: StoreId) -> Result<bool, StoreError> {
    // Before all else, as everybody does: an import that was asked before the removal may be writing.
    if conn.query(LOCK).bind(store.0).ids().await?.is_empty() {
        return Ok(false);
    }
    holds::forget(conn, store).await?;
    // A request that came between the two may have queued a job.
    conn.query(FENCE_OFF).bind(store.0).run().await?;
    Ok(conn.query(GONE).bind(store.0).run().await? > 0)
}
