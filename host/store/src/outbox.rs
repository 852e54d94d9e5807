//! The outbox: one row an event, stored in the transaction of what caused it. Fanning out turns an event into one
//! delivery per endpoint, shaped once per shaper.

use std::time::Duration;

use sqlx::FromRow;
use uuid::Uuid;
use wharf_domain::{DeliveryId, DeliveryState, EndpointId, Event, EventId, OrganizationId, StoreId, Time};

use crate::{
    Conn, StoreError,
    db::{Rows, without_nul},
    deliveries::{aggregate, lock_events},
    dialect::{Sql, statements},
    values::{At, JsonText},
};

statements! {
    EMIT = ["insert into callback_outbox (id, organization_id, store_id, event, payload, due_at, created_at, updated_at)
        values ($1, $2, $3, $4, $5, $6, $6, $6)"];
    /// An event whose delivery is stored with it.
    EMIT_DELIVERED = ["insert into callback_outbox (id, organization_id, store_id, event, payload, due_at, created_at,
            updated_at)
        values ($1, $2, $3, $4, $5, null, $6, $6)"];
    CLAIM = ["update callback_outbox set fence = fence + 1, due_at = $2, fan_out_attempt = fan_out_attempt + 1
        where id in (select id from callback_outbox where due_at <= $1 order by due_at limit $3" skip_locked ")
        returning id, fence, fan_out_attempt, organization_id, store_id, event, payload, created_at"];
    /// Only the worker that still holds the fence may fan out.
    FANNED_OUT = ["update callback_outbox set due_at = null, status = r.status, last_error = r.last_error, updated_at = r.at
        from" rows(r, id uuid, fence int, status text, last_error text, at time)
        "where callback_outbox.id = r.id and callback_outbox.fence = r.fence and callback_outbox.due_at is not null
        returning callback_outbox.id"];
    INSERT_MESSAGE = ["insert into callback_messages (outbox_id, shaper, plugin_digest, content_type, headers, body)
        values ($1, $2, $3, $4, $5, $6) on conflict (outbox_id, shaper) do nothing"];
    INSERT_DELIVERIES = ["insert into callback_deliveries (id, outbox_id, endpoint_id, organization_id, shaper, state,
            due_at, last_error, created_at, updated_at)
        select id, outbox_id, endpoint_id, organization_id, shaper, state, due_at, last_error, at, at
        from" rows(r, id uuid, outbox_id uuid, endpoint_id uuid, organization_id text, shaper text, state text,
            due_at time, last_error text, at time)
        "where true on conflict (outbox_id, endpoint_id) do nothing"];
    POSTPONE = ["update callback_outbox set due_at = $3, last_error = $4 where id = $1 and fence = $2 and due_at is not null"];
    COUNT_DUE = ["select count(*) as number from
        (select 1 from callback_outbox where due_at <= $1 limit $2) d"];
}

/// Stores an event. In the transaction of its cause.
pub async fn emit(conn: &mut Conn, event: &Event) -> Result<(), StoreError> {
    insert(conn, EMIT, event).await
}

/// Stores an event that is for one endpoint alone, in the transaction that [delivers](deliver) it.
pub async fn emit_delivered(conn: &mut Conn, event: &Event) -> Result<(), StoreError> {
    insert(conn, EMIT_DELIVERED, event).await
}

async fn insert(conn: &mut Conn, statement: Sql, event: &Event) -> Result<(), StoreError> {
    conn.query(statement)
        .bind(event.id.0)
        .bind(event.organization_id.as_str())
        .bind(event.store_id.0)
        .bind(event.kind.as_str())
        .bind(JsonText(event.data.clone()))
        .time(event.at)
        .run()
        .await
        .map(drop)
}

/// An event that has no deliveries yet, leased to this worker.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The event.
    pub event: Event,
    /// What fanning out must name.
    pub fence: i64,
    /// How often it was tried, this time included.
    pub attempt: i64,
}

/// Claims up to `limit` events that are to be fanned out, oldest first.
pub async fn claim(conn: &mut Conn, lease: Duration, limit: i64, now: Time) -> Result<Vec<Claimed>, StoreError> {
    #[derive(FromRow)]
    struct Row {
        id: Uuid,
        fence: i64,
        fan_out_attempt: i64,
        organization_id: String,
        store_id: Uuid,
        event: String,
        payload: JsonText,
        created_at: At,
    }
    let rows: Vec<Row> = conn.query(CLAIM).time(now).time(now + lease).bind(limit).all().await?;
    Ok(rows
        .into_iter()
        .map(|row| Claimed {
            fence: row.fence,
            attempt: row.fan_out_attempt,
            event: Event {
                id: EventId(row.id),
                kind: row.event,
                at: row.created_at.0,
                organization_id: OrganizationId::from_stored(row.organization_id),
                store_id: StoreId(row.store_id),
                data: row.payload.0,
            },
        })
        .collect())
}

/// A body, shaped once for an event.
#[derive(Clone, Debug)]
pub struct Message {
    /// By which shaper.
    pub shaper: String,
    /// SHA-256 of the plugin that shaped it.
    pub plugin_digest: String,
    /// Its content type.
    pub content_type: String,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// The bytes that every attempt sends.
    pub body: Vec<u8>,
}

/// A delivery to make.
#[derive(Clone, Debug)]
pub struct NewDelivery {
    /// Its id.
    pub id: DeliveryId,
    /// Where to.
    pub endpoint_id: EndpointId,
    /// In which shape.
    pub shaper: String,
    /// Why it can never be sent (its shaper refused the event); `None` for one that can.
    pub dead: Option<String>,
}

/// An event with everything that fanning out makes of it.
pub struct FanOut {
    /// The claimed event.
    pub claimed: Claimed,
    /// One message per shaper.
    pub messages: Vec<Message>,
    /// One delivery per endpoint.
    pub deliveries: Vec<NewDelivery>,
}

/// Stores messages and deliveries of those events whose fence still holds; answers how many those are.
///
/// Call it in a transaction of its own.
pub async fn fan_out(conn: &mut Conn, events: &[FanOut], now: Time) -> Result<usize, StoreError> {
    #[derive(FromRow)]
    struct Row {
        id: Uuid,
    }
    let mut rows = Rows::new(conn);
    for FanOut { claimed, deliveries, .. } in events {
        let dead = deliveries.iter().filter_map(|delivery| delivery.dead.as_deref()).next_back();
        let state = match dead {
            _ if deliveries.iter().any(|delivery| delivery.dead.is_none()) => DeliveryState::Pending,
            Some(_) => DeliveryState::Failed,
            None => DeliveryState::Success,
        };
        rows.push()
            .uuid("id", claimed.event.id.0)
            .int("fence", claimed.fence)
            .text("status", state.as_str())
            .text("last_error", dead)
            .time("at", now);
    }
    let ours: Vec<Row> = conn.query(FANNED_OUT).rows(&rows).all().await?;
    let ours: Vec<&FanOut> =
        events.iter().filter(|event| ours.iter().any(|row| row.id == event.claimed.event.id.0)).collect();
    for FanOut { claimed, messages, .. } in &ours {
        for message in messages {
            insert_message(conn, claimed.event.id, message).await?;
        }
    }
    let mut rows = Rows::new(conn);
    for (event, delivery) in ours.iter().flat_map(|e| e.deliveries.iter().map(move |d| (&e.claimed.event, d))) {
        push_delivery(&mut rows, event.id, &event.organization_id, delivery, now, now);
    }
    if !rows.is_empty() {
        conn.query(INSERT_DELIVERIES).rows(&rows).run().await?;
    }
    Ok(ours.len())
}

fn push_delivery(
    rows: &mut Rows,
    event: EventId,
    organization: &OrganizationId,
    delivery: &NewDelivery,
    due_at: Time,
    now: Time,
) {
    let state = if delivery.dead.is_some() { DeliveryState::Failed } else { DeliveryState::Pending };
    rows.push()
        .uuid("id", delivery.id.0)
        .uuid("outbox_id", event.0)
        .uuid("endpoint_id", delivery.endpoint_id.0)
        .text("organization_id", organization.as_str())
        .text("shaper", delivery.shaper.as_str())
        .text("state", state.as_str())
        .time("due_at", delivery.dead.is_none().then_some(due_at))
        .text("last_error", delivery.dead.as_deref())
        .time("at", now);
}

/// One more delivery of an event that was fanned out before, or never was for anybody.
pub struct Extra {
    /// The event.
    pub event_id: EventId,
    /// Whose it is.
    pub organization_id: OrganizationId,
    /// Its body in this shape; one that was stored before stays. `None` with a delivery that is dead.
    pub message: Option<Message>,
    /// The delivery. Nothing happens where its endpoint has one already.
    pub delivery: NewDelivery,
    /// When to send it.
    pub due_at: Time,
}

/// Stores deliveries of stored events.
///
/// Call it in a transaction of its own.
pub async fn deliver(conn: &mut Conn, extras: &[Extra], now: Time) -> Result<(), StoreError> {
    let (mut events, mut rows) = (Rows::new(conn), Rows::new(conn));
    for extra in extras {
        events.push().uuid("id", extra.event_id.0);
        push_delivery(&mut rows, extra.event_id, &extra.organization_id, &extra.delivery, extra.due_at, now);
    }
    lock_events(conn, &events).await?;
    for extra in extras {
        if let Some(message) = &extra.message {
            insert_message(conn, extra.event_id, message).await?;
        }
    }
    conn.query(INSERT_DELIVERIES).rows(&rows).run().await?;
    aggregate(conn, &events).await
}

async fn insert_message(conn: &mut Conn, event: EventId, message: &Message) -> Result<(), StoreError> {
    let headers = serde_json::to_string(&message.headers).unwrap_or_else(|_| "[]".into());
    conn.query(INSERT_MESSAGE)
        .bind(event.0)
        .bind(message.shaper.as_str())
        .bind(message.plugin_digest.as_str())
        .bind(message.content_type.as_str())
        .bind(JsonText(headers))
        .bind(message.body.as_slice())
        .run()
        .await
        .map(drop)
}

/// Puts off an event that cannot be shaped now.
pub async fn postpone(conn: &mut Conn, claimed: &Claimed, until: Time, why: &str) -> Result<(), StoreError> {
    let query = conn.query(POSTPONE).bind(claimed.event.id.0).bind(claimed.fence).time(until).bind(without_nul(why));
    query.run().await.map(drop)
}

/// How many events wait to be fanned out, counting no further than `most`.
pub async fn count_due(conn: &mut Conn, most: i64, now: Time) -> Result<i64, StoreError> {
    #[derive(FromRow)]
    struct Row {
        number: i64,
    }
    Ok(conn.query(COUNT_DUE).time(now).bind(most).one::<Row>().await?.number)
}
