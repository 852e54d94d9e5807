//! Settling deliveries: attempts, new states and the events' sums, in one transaction behind the fence.

use std::{collections::BTreeMap, time::Duration};

use wharf_domain::{DeliveryId, DeliveryState, EventId, Time};

use super::Fence;
use crate::{Conn, StoreError, dialect::statements, rows::Rows};

statements! {
    // Two workers that settle deliveries of one event wait for each other here, so that the later one counts both.
    LOCK_EVENTS = ["select id from callback_outbox where id in (select id from" rows(r, id uuid) ") order by id" lock_rows];
    // 'pending' beside the fence: a worker that settles twice finds the first answer standing.
    // A resend that was asked for meanwhile is due now, whatever came of this attempt.
    SETTLE = ["update callback_deliveries set attempt = r.attempt, claimed_by = null, last_error = r.last_error,
            updated_at = r.at, resend_requested = false,
            state = case when resend_requested then 'pending' else r.state end,
            due_at = case when resend_requested then r.at else r.due_at end,
            schedule_base = case when resend_requested then r.attempt else schedule_base end
        from" rows(r, id uuid, fence int, state text, attempt int, due_at time, last_error text, at time)
        "where callback_deliveries.id = r.id and callback_deliveries.fence = r.fence
            and callback_deliveries.state = 'pending' returning callback_deliveries.id"];
    // The same attempt once more, after a commit whose answer was lost, is the same row.
    ATTEMPTS = ["insert into callback_attempts (delivery_id, attempt, started_at, latency_us, http_status, error, response)
        select delivery_id, attempt, started_at, latency_us, http_status, error, response
        from" rows(r, delivery_id uuid, attempt int, started_at time, latency_us int, http_status int, error text,
            response text)
        "where true on conflict (delivery_id, attempt) do nothing"];
    // Deliveries of one event that end well before its last one leave the row as it is (`only_ended`): only the last
    // one, and one that failed, have something to tell.
    AGGREGATE = ["update callback_outbox set
            status = " event_state!("callback_outbox.due_at", "a.pending", "a.failed") ",
            attempt = a.attempt, next_retry_at = a.next_retry_at, updated_at = a.updated_at,
            last_error = case when callback_outbox.due_at is null then a.last_error
                else coalesce(a.last_error, callback_outbox.last_error) end
        from (select r.id, r.only_ended, sum(case when d.state = 'pending' then 1 else 0 end) as pending,
                sum(case when d.state = 'failed' then 1 else 0 end) as failed, max(d.attempt) as attempt,
                min(d.due_at) as next_retry_at, max(d.last_error) as last_error, max(d.updated_at) as updated_at
            from" rows(r, id uuid, only_ended int) "join callback_deliveries d on d.outbox_id = r.id
            group by r.id, r.only_ended) a
        where callback_outbox.id = a.id and (a.only_ended = 0 or a.pending = 0)"];
    // An event without deliveries is in no group of the statement above; by the same rule it is a success.
    UNWANTED = ["update callback_outbox set status = 'success', next_retry_at = null
        where status = 'pending' and due_at is null and id in (select id from" rows(r, id uuid) ")
            and not exists (select 1 from callback_deliveries d where d.outbox_id = callback_outbox.id)"];
}

/// One attempt to send, for the attempts log.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The time it was sent.
    pub started_at: Time,
    /// The time that the answer took.
    pub latency: Duration,
    /// The answer's status; `None` when none came.
    pub http_status: Option<u16>,
    /// The error, for people.
    pub error: Option<String>,
    /// The first bytes of the answer.
    pub response: Option<String>,
}

/// A delivery after an attempt.
#[derive(Clone, Debug)]
pub struct SettledDelivery {
    /// The claim.
    pub fence: Fence,
    /// The event.
    pub event_id: EventId,
    /// The number of times it was sent, this one included.
    pub attempt_number: i64,
    /// Its state now.
    pub state: DeliveryState,
    /// The time to send again, exactly when it is pending.
    pub due_at: Option<Time>,
    /// The attempt.
    pub attempt: Attempt,
}

/// Writes attempts, new states and the events' sums where the fence still holds, and returns the deliveries that it
/// holds for; of the others nothing is written.
///
/// Call it in a transaction of its own.
pub async fn settle(
    conn: &mut Conn,
    settled: &[SettledDelivery],
    now: Time,
) -> Result<Vec<DeliveryId>, StoreError> {
    let events = events_of(conn, settled);
    // Events before deliveries: every transaction locks in this order, so that two never wait for each other.
    lock_events(conn, &events).await?;
    let held = write_states(conn, settled, now).await?;
    let still_held = settled.iter().filter(|one| held.contains(&one.fence.id));
    let attempts = still_held.map(|one| (one.fence.id, one.attempt_number, &one.attempt));
    write_attempts(conn, attempts).await?;
    // Without `UNWANTED`: whoever deletes deliveries sums their events up at once.
    conn.query(AGGREGATE).rows(&events).run().await?;
    Ok(held)
}

/// The events, each once, with whether all of theirs here ended well.
fn events_of(conn: &Conn, settled: &[SettledDelivery]) -> Rows {
    let mut events = BTreeMap::new();
    for one in settled {
        let ended_well = one.state == DeliveryState::Success;
        *events.entry(one.event_id).or_insert(true) &= ended_well;
    }
    let mut rows = Rows::new(conn);
    for (event, only_ended) in events {
        push_event(&mut rows, event, i64::from(only_ended));
    }
    rows
}

fn push_event(rows: &mut Rows, event: EventId, only_ended: i64) {
    rows.push()
        .uuid("id", event.0)
        .int("only_ended", only_ended);
}

async fn write_states(
    conn: &mut Conn,
    settled: &[SettledDelivery],
    now: Time,
) -> Result<Vec<DeliveryId>, StoreError> {
    let mut rows = Rows::new(conn);
    for one in settled {
        rows.push()
            .uuid("id", one.fence.id.0)
            .int("fence", one.fence.number)
            .text("state", one.state.as_str())
            .int("attempt", one.attempt_number)
            .time("due_at", one.due_at)
            .text("last_error", one.attempt.error.as_deref())
            .time("at", now);
    }
    let held = conn.query(SETTLE).rows(&rows).ids().await?;
    Ok(held.into_iter().map(DeliveryId).collect())
}

/// Writes attempts, each with its delivery and its number.
pub(super) async fn write_attempts<'a>(
    conn: &mut Conn,
    attempts: impl Iterator<Item = (DeliveryId, i64, &'a Attempt)>,
) -> Result<(), StoreError> {
    let mut rows = Rows::new(conn);
    for (delivery, number, attempt) in attempts {
        let latency_us = i64::try_from(attempt.latency.as_micros()).unwrap_or(i64::MAX);
        rows.push()
            .uuid("delivery_id", delivery.0)
            .int("attempt", number)
            .time("started_at", attempt.started_at)
            .int("latency_us", latency_us)
            .int("http_status", attempt.http_status.map(i64::from))
            .text("error", attempt.error.as_deref())
            .text("response", attempt.response.as_deref());
    }
    if rows.is_empty() {
        return Ok(());
    }
    conn.query(ATTEMPTS).rows(&rows).run().await.map(drop)
}

/// The rows of events for [`lock_events`] and [`aggregate`].
pub(crate) fn event_rows(conn: &Conn, events: impl IntoIterator<Item = EventId>) -> Rows {
    let mut rows = Rows::new(conn);
    for event in events {
        push_event(&mut rows, event, 0);
    }
    rows
}

/// Holds events until the transaction ends. Whoever changes deliveries of an event does this first, and [`aggregate`]
/// last.
pub(crate) async fn lock_events(conn: &mut Conn, events: &Rows) -> Result<(), StoreError> {
    conn.query(LOCK_EVENTS).rows(events).run().await.map(drop)
}

/// Brings the rows of events up to date with their deliveries. One that has none left is done.
pub(crate) async fn aggregate(conn: &mut Conn, events: &Rows) -> Result<(), StoreError> {
    conn.query(AGGREGATE).rows(events).run().await?;
    conn.query(UNWANTED).rows(events).run().await.map(drop)
}
