//! The work that waits, and for how long: read for operators, from the partial indexes of due work and never further
//! than a limit, so that looking costs the same beside ten million finished rows.

use wharf_domain::Time;

use crate::{
    Conn, StoreError,
    dialect::{Sql, statements},
    values::At,
};

/// Work that nobody holds a lease on is counted up to here: each costs a read, and beyond it nobody needs the number.
pub const MAX_DEPTH: i64 = 10_000;
/// Endpoints whose oldest due delivery is looked at.
pub const MAX_ENDPOINTS: i64 = 1_000;

statements! {
    SYNC = ["select (select count(*) from (select 1 from sync_jobs where due_at <= $1 limit $2) d) as depth,
        (select due_at from sync_jobs where due_at <= $1 order by due_at limit 1) as oldest"];
    EVENTS = ["select (select count(*) from (select 1 from callback_outbox where due_at <= $1 limit $2) d) as depth,
        (select due_at from callback_outbox where due_at <= $1 order by due_at limit 1) as oldest"];
    WAITING = ["select count(*) as number from
        (select 1 from callback_outbox where waits_for is not null limit $1) w"];
    // The index leads with the endpoint. So it is walked from one endpoint with unfinished deliveries to the next, and
    // what of theirs waits for a later attempt is not touched.
    DELIVERIES = [with_waiting_endpoints!("", "$3")
        "select (select count(*) from (select 1 from waiting join callback_deliveries d on d.endpoint_id = waiting.endpoint_id
                where d.due_at <= $1 limit $2) due) as depth,
            (select min(first.due_at) from (select (select d.due_at from callback_deliveries d
                    where d.endpoint_id = waiting.endpoint_id and d.due_at <= $1 order by d.due_at limit 1) as due_at
                from waiting) first) as oldest"];
}

/// Work that is due and that nobody holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Its number, counted no further than [`MAX_DEPTH`].
    pub depth: i64,
    /// The time when the oldest became due; `None` if nothing is.
    pub oldest: Option<Time>,
}

/// The backlog of each queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlogs {
    /// Stores to be synchronised.
    pub sync: Backlog,
    /// Events to be fanned out.
    pub events: Backlog,
    /// Deliveries to be sent. The oldest is that of the first [`MAX_ENDPOINTS`] endpoints that have any.
    pub deliveries: Backlog,
    /// Events that wait for a shaper, counted no further than [`MAX_DEPTH`].
    pub waiting: i64,
}

#[derive(FromRow)]
struct Row {
    depth: i64,
    oldest: Option<At>,
}

impl From<Row> for Backlog {
    fn from(row: Row) -> Self {
        Self {
            depth: row.depth,
            oldest: row.oldest.map(|at| at.0),
        }
    }
}

/// Reads how much is due and waits.
pub async fn backlogs(conn: &mut Conn, now: Time) -> Result<Backlogs, StoreError> {
    // Without a transaction: nobody adds these figures up, so they may be of different moments.
    let deliveries = conn.query(DELIVERIES).time(now).bind(MAX_DEPTH);
    let deliveries: Row = deliveries.bind(MAX_ENDPOINTS).one().await?;
    Ok(Backlogs {
        sync: backlog(conn, SYNC, now).await?,
        events: backlog(conn, EVENTS, now).await?,
        deliveries: deliveries.into(),
        waiting: conn.query(WAITING).bind(MAX_DEPTH).number().await?,
    })
}

async fn backlog(conn: &mut Conn, statement: Sql, now: Time) -> Result<Backlog, StoreError> {
    let row: Row = conn
        .query(statement)
        .time(now)
        .bind(MAX_DEPTH)
        .one()
        .await?;
    Ok(row.into())
}
