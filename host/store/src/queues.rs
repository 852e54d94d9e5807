//! How much work waits, and for how long: read for operators, from the partial indexes of due work and never further
//! than a limit, so that looking costs the same beside ten million finished rows.

use sqlx::FromRow;
use wharf_domain::Time;

use crate::{
    Conn, StoreError,
    dialect::{Sql, statements},
    values::At,
};

/// Work that nobody holds a lease on is counted up to here.
pub const DEPTH_COUNTED: i64 = 10_000;
/// Endpoints whose oldest due delivery is looked at.
pub const ENDPOINTS_LOOKED_AT: i64 = 1_000;

statements! {
    SYNC = ["select (select count(*) from (select 1 from sync_jobs where due_at <= $1 limit $2) d) as depth,
        (select due_at from sync_jobs where due_at <= $1 order by due_at limit 1) as oldest"];
    EVENTS = ["select (select count(*) from (select 1 from callback_outbox where due_at <= $1 limit $2) d) as depth,
        (select due_at from callback_outbox where due_at <= $1 order by due_at limit 1) as oldest"];
    /// The index leads with the endpoint. So it is walked from one endpoint with unfinished deliveries to the next, and
    /// what of theirs waits for a later attempt is not touched.
    DELIVERIES = ["with recursive endpoint_queues (endpoint_id, n) as (
            select (select d.endpoint_id from callback_deliveries d
                    where d.due_at is not null order by d.endpoint_id limit 1), cast(1 as bigint)
            union all
            select (select d.endpoint_id from callback_deliveries d
                    where d.due_at is not null and d.endpoint_id > endpoint_queues.endpoint_id order by d.endpoint_id limit 1), n + 1
            from endpoint_queues where endpoint_queues.endpoint_id is not null and n < $3)
        select (select count(*) from (select 1 from endpoint_queues join callback_deliveries d on d.endpoint_id = endpoint_queues.endpoint_id
                where d.due_at <= $1 limit $2) due) as depth,
            (select min(first.due_at) from (select (select d.due_at from callback_deliveries d
                    where d.endpoint_id = endpoint_queues.endpoint_id and d.due_at <= $1 order by d.due_at limit 1) as due_at
                from endpoint_queues) first) as oldest"];
}

/// Work that is due and that nobody holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// How many, counted no further than [`DEPTH_COUNTED`].
    pub depth: i64,
    /// Since when the oldest is due; `None` if nothing is.
    pub oldest: Option<Time>,
}

/// What waits in each queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlogs {
    /// Stores to be synchronised.
    pub sync: Backlog,
    /// Events to be fanned out.
    pub events: Backlog,
    /// Deliveries to be sent. The oldest is that of the first [`ENDPOINTS_LOOKED_AT`] endpoints that have any.
    pub deliveries: Backlog,
}

/// Reads what is due now and waits.
pub async fn backlogs(conn: &mut Conn, now: Time) -> Result<Backlogs, StoreError> {
    Ok(Backlogs {
        sync: backlog(conn, SYNC, None, now).await?,
        events: backlog(conn, EVENTS, None, now).await?,
        deliveries: backlog(conn, DELIVERIES, Some(ENDPOINTS_LOOKED_AT), now).await?,
    })
}

async fn backlog(
    conn: &mut Conn,
    statement: Sql,
    endpoint_queues: Option<i64>,
    now: Time,
) -> Result<Backlog, StoreError> {
    #[derive(FromRow)]
    struct Row {
        depth: i64,
        oldest: Option<At>,
    }
    let query = conn.query(statement).time(now).bind(DEPTH_COUNTED);
    let query = match endpoint_queues {
        Some(most) => query.bind(most),
        None => query,
    };
    let row: Row = query.one().await?;
    Ok(Backlog {
        depth: row.depth,
        oldest: row.oldest.map(|at| at.0),
    })
}
