//! The queues of deliveries: one per endpoint that has unfinished ones.

use uuid::Uuid;
use wharf_domain::{EndpointId, RateLimit, Time};

use crate::{Conn, StoreError, dialect::statements, values::At};

statements! {
    // The walk ends with a row without endpoint, which the join drops.
    QUEUES = [with_waiting_endpoints!("and d.endpoint_id > $1", "$3")
        "select waiting.endpoint_id, e.organization_id, e.pauses, e.rate_per_minute, e.paced_until,
            (e.paused_until is null or e.paused_until <= $2)
                and coalesce((select d.due_at from callback_deliveries d where d.endpoint_id = waiting.endpoint_id
                    and d.due_at is not null order by d.due_at limit 1) <= $2, 1 = 0) as due
        from waiting join webhook_endpoints e on e.id = waiting.endpoint_id order by waiting.endpoint_id"];
    COUNT_DUE = ["select count(*) as number from
        (select 1 from callback_deliveries where due_at <= $1 limit $2) d"];
}

/// The queue of an endpoint with unfinished deliveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointQueue {
    /// The endpoint.
    pub endpoint_id: EndpointId,
    /// The organization that it belongs to.
    pub organization_id: String,
    /// The most deliveries that may begin: none where nothing is due, the circuit is open or the rate limit is used up.
    pub ready: usize,
    /// Its circuit was opened: one delivery at a time probes.
    pub probing: bool,
}

#[derive(FromRow)]
struct Row {
    endpoint_id: Uuid,
    organization_id: String,
    pauses: i64,
    rate_per_minute: Option<i64>,
    paced_until: Option<At>,
    due: bool,
}

impl Row {
    fn ready(&self, now: Time) -> usize {
        match self.rate_per_minute {
            // Also where the circuit is open: the statement says that nothing is due then.
            _ if !self.due => 0,
            Some(rate) => allowed(rate, self.paced_until, now).try_into().unwrap_or(0),
            None => usize::MAX,
        }
    }
}

/// Returns the queues of up to `max` endpoints after `after`, in the order of their ids. Fewer: it was the last page,
/// go on from the beginning (`EndpointId(Uuid::nil())`).
pub async fn queues(
    conn: &mut Conn,
    after: EndpointId,
    max: i64,
    now: Time,
) -> Result<Vec<EndpointQueue>, StoreError> {
    let query = conn.query(QUEUES).bind(after.0).time(now).bind(max);
    let rows: Vec<Row> = query.all().await?;
    Ok(rows
        .into_iter()
        .map(|row| EndpointQueue {
            endpoint_id: EndpointId(row.endpoint_id),
            ready: row.ready(now),
            probing: row.pauses > 0,
            organization_id: row.organization_id,
        })
        .collect())
}

/// The number of deliveries that a rate limit lets begin now.
pub(super) fn allowed(rate_per_minute: i64, used_until: Option<At>, now: Time) -> i64 {
    RateLimit::per_minute(rate_per_minute).allowed(used_until.map(|at| at.0), now)
}

/// Counts the deliveries that are due, no further than `max`.
pub async fn count_due(conn: &mut Conn, max: i64, now: Time) -> Result<i64, StoreError> {
    conn.query(COUNT_DUE).time(now).bind(max).number().await
}
