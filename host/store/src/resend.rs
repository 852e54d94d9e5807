//! A second chance for deliveries: one that somebody asks for, dead letters (`letters` finds them), and events that an
//! endpoint missed. And the way out: the deliveries of an endpoint that is deleted.
//!
//! Each function is one page of work for a transaction of its own; the caller goes from page to page.

use uuid::Uuid;
use wharf_domain::{
    DeliveryId, EndpointId, Event, EventId, OrganizationId, ShaperName, StoreId, Time,
};

use crate::{
    Conn, StoreError,
    deliveries::{aggregate, event_rows, lock_events},
    dialect::statements,
    rows::Rows,
    values::{At, JsonText},
};

statements! {
    REVIVE = ["update callback_deliveries set state = 'pending', due_at = r.due_at, schedule_base = attempt,
            updated_at = r.at from" rows(r, id uuid, due_at time, at time)
        "where callback_deliveries.id = r.id and state = 'failed' returning callback_deliveries.id"];
    // One that a worker holds is due once that attempt is settled. Its `updated_at` is the claim's.
    RESEND = ["update callback_deliveries set state = 'pending', resend_requested = (claimed_by is not null),
            due_at = case when claimed_by is null then $3 else due_at end,
            updated_at = case when claimed_by is null then $3 else updated_at end,
            schedule_base = case when claimed_by is null then attempt else schedule_base end
        where id = $1 and organization_id = $2 and exists (select 1 from callback_messages m
            where m.outbox_id = callback_deliveries.outbox_id and m.shaper = callback_deliveries.shaper)"];
    // Its shaper refused the event or failed on it, so nothing was stored that could be sent.
    UNSHAPED = ["select o.id, o.store_id, o.event, o.payload, o.created_at, d.shaper from callback_deliveries d
        join callback_outbox o on o.id = d.outbox_id
        where d.id = $1 and d.organization_id = $2 and d.state = 'failed' and not exists (select 1 from callback_messages m
            where m.outbox_id = d.outbox_id and m.shaper = d.shaper)"];
    // Only what was fanned out: an event that still waits will find the endpoint by itself.
    MISSED = ["select o.id, o.store_id, o.event, o.payload, o.created_at from callback_outbox o
        where o.organization_id = $1 and o.event = $2 and (o.created_at, o.id) > (" time("$3") ", $4)
            and o.due_at is null and not exists
            (select 1 from callback_deliveries d where d.outbox_id = o.id and d.endpoint_id = $5)
        order by o.created_at, o.id limit $6"];
    COUNT_MISSED = ["select count(*) as number from (select 1 as one from callback_outbox o
        where o.organization_id = $1 and o.event = $2 and o.created_at >= $3 and o.due_at is null and not exists
            (select 1 from callback_deliveries d where d.outbox_id = o.id and d.endpoint_id = $4) limit $5) o"];
    // Without a lock: deleting twice deletes once, and the caller comes back until there is none.
    OF_ENDPOINT = ["select id, outbox_id from callback_deliveries where endpoint_id = $1 order by id limit $2"];
    DELETE = ["delete from callback_deliveries where id in (select id from" rows(r, id uuid) ")"];
}

#[derive(FromRow)]
struct Pair {
    id: Uuid,
    outbox_id: Uuid,
}

/// Nobody is told a larger number: counting reads every row.
pub const MAX_COUNTED: i64 = 100_000;

/// Makes dead letters pending again, each due at its time, with the whole retry schedule before it. Returns how many
/// still were dead.
pub async fn revive(
    conn: &mut Conn,
    letters: &[(DeliveryId, EventId, Time)],
    now: Time,
) -> Result<usize, StoreError> {
    let events = event_rows(conn, letters.iter().map(|(_, event, _)| *event));
    let mut rows = Rows::new(conn);
    for (delivery, _, due_at) in letters {
        rows.push()
            .uuid("id", delivery.0)
            .time("due_at", *due_at)
            .time("at", now);
    }
    // Events before deliveries, as everywhere.
    lock_events(conn, &events).await?;
    let revived = conn.query(REVIVE).rows(&rows).ids().await?;
    aggregate(conn, &events).await?;
    Ok(revived.len())
}

/// The event of a dead delivery that has no body, and the shaper that should have made one.
pub async fn unshaped(
    conn: &mut Conn,
    organization: &OrganizationId,
    delivery: DeliveryId,
) -> Result<Option<(Event, ShaperName)>, StoreError> {
    #[derive(FromRow)]
    struct Row {
        #[sqlx(flatten)]
        event: EventRow,
        shaper: String,
    }
    let query = conn.query(UNSHAPED).bind(delivery.0);
    let row: Option<Row> = query.bind(organization.as_str()).optional().await?;
    Ok(row.map(|row| {
        let shaper = ShaperName::from_stored(row.shaper);
        (row.event.of(organization), shaper)
    }))
}

#[derive(FromRow)]
struct EventRow {
    id: Uuid,
    store_id: Uuid,
    event: String,
    payload: JsonText,
    created_at: At,
}

impl EventRow {
    fn of(self, organization: &OrganizationId) -> Event {
        Event {
            id: EventId(self.id),
            kind: self.event,
            at: self.created_at.0,
            organization_id: organization.clone(),
            store_id: StoreId(self.store_id),
            data: self.payload.0,
        }
    }
}

/// Makes one delivery due now, whatever became of it, with the whole retry schedule before it. One that is being sent
/// right now is due as soon as that attempt is settled. One that has no body (see [`unshaped`]) is left alone. Returns
/// false for that one.
pub async fn resend(
    conn: &mut Conn,
    organization: &OrganizationId,
    delivery: DeliveryId,
    event: EventId,
    now: Time,
) -> Result<bool, StoreError> {
    let events = event_rows(conn, [event]);
    lock_events(conn, &events).await?;
    let changed = conn
        .query(RESEND)
        .bind(delivery.0)
        .bind(organization.as_str())
        .time(now)
        .run()
        .await?;
    aggregate(conn, &events).await?;
    Ok(changed > 0)
}

/// The place of a walk over an organization's events: behind this one.
#[derive(Clone, Copy, Debug)]
pub struct EventCursor {
    created_at: Time,
    id: EventId,
}

impl EventCursor {
    /// The place as two values, to be read by [`from_parts`](Self::from_parts).
    pub const fn parts(self) -> (Time, Uuid) {
        (self.created_at, self.id.0)
    }

    /// The place that has these [`parts`](Self::parts).
    pub const fn from_parts(created_at: Time, id: Uuid) -> Self {
        Self {
            created_at,
            id: EventId(id),
        }
    }

    /// Before every event that happened at `since` or later.
    pub const fn at(since: Time) -> Self {
        Self {
            created_at: since,
            id: EventId(Uuid::nil()),
        }
    }

    /// Behind this event.
    pub const fn behind(event: &Event) -> Self {
        Self {
            created_at: event.at,
            id: event.id,
        }
    }
}

/// The events that an endpoint missed: of this organization and kind, fanned out, with no delivery to it.
#[derive(Clone, Copy, Debug)]
pub struct Missed<'a> {
    /// The organization.
    pub organization: &'a OrganizationId,
    /// The kind of event.
    pub event: &'a str,
    /// The endpoint that missed them.
    pub endpoint: EndpointId,
}

/// Counts those that happened at `since` or later, up to [`MAX_COUNTED`].
pub async fn count_missed(
    conn: &mut Conn,
    which: Missed<'_>,
    since: Time,
) -> Result<i64, StoreError> {
    let query = conn
        .query(COUNT_MISSED)
        .bind(which.organization.as_str())
        .bind(which.event)
        .time(since);
    let query = query.bind(which.endpoint.0);
    query.bind(MAX_COUNTED).number().await
}

/// A page of them, the oldest first.
pub async fn missed(
    conn: &mut Conn,
    which: Missed<'_>,
    after: EventCursor,
    most: i64,
) -> Result<Vec<Event>, StoreError> {
    let query = conn
        .query(MISSED)
        .bind(which.organization.as_str())
        .bind(which.event);
    let query = query
        .time(after.created_at)
        .bind(after.id.0)
        .bind(which.endpoint.0)
        .bind(most);
    let rows: Vec<EventRow> = query.all().await?;
    let events = rows.into_iter().map(|row| row.of(which.organization));
    Ok(events.collect())
}

/// Deletes up to `most` deliveries of an endpoint that is to be deleted. Returns how many; fewer than `most`: all.
pub async fn delete_some(
    conn: &mut Conn,
    endpoint: EndpointId,
    most: i64,
) -> Result<usize, StoreError> {
    let found: Vec<Pair> = conn
        .query(OF_ENDPOINT)
        .bind(endpoint.0)
        .bind(most)
        .all()
        .await?;
    let events = event_rows(conn, found.iter().map(|pair| EventId(pair.outbox_id)));
    let mut rows = Rows::new(conn);
    for pair in &found {
        rows.push().uuid("id", pair.id);
    }
    // Not by a cascade: the events must be summed up without these deliveries, and one statement would hold them all.
    if !found.is_empty() {
        lock_events(conn, &events).await?;
        conn.query(DELETE).rows(&rows).run().await?;
        aggregate(conn, &events).await?;
    }
    Ok(found.len())
}
