//! The outbox: one row an event, stored in the transaction of what caused it. Fanning out turns an event into one
//! delivery per endpoint, shaped once per shaper.

mod fan_out;
mod purge;

use std::time::Duration;

use uuid::Uuid;
use wharf_domain::{
    DeliveryId, DeliveryState, EndpointId, Event, EventId, OrganizationId, RequestId, StoreId, Time,
};

use crate::{
    Conn, StoreError,
    deliveries::{aggregate, event_rows, lock_events},
    dialect::{Sql, statements},
    query::Query,
    rows::Rows,
    values::{At, JsonText},
};

pub use self::{
    fan_out::{FanOut, Next, fan_out, postpone, shaped},
    purge::{Purged, newest_finished, purge},
};

/// Every statement about the outbox, by module.
pub(crate) const MODULES: [&[(&str, Sql)]; 3] = [ALL, fan_out::ALL, purge::ALL];

statements! {
    EMIT = ["insert into callback_outbox (id, organization_id, store_id, event, payload, due_at, created_at, updated_at,
            traceparent, request_id)
        values ($1, $2, $3, $4, $5, $6, $6, $6, $7, $8)"];
    // An event for one endpoint alone.
    EMIT_TO = ["insert into callback_outbox (id, organization_id, store_id, event, payload, due_at, created_at, updated_at,
            traceparent, request_id, only_endpoint, only_delivery)
        values ($1, $2, $3, $4, $5, $6, $6, $6, $7, $8, $9, $10)"];
    // Materialized: PostgreSQL may run a plain subquery again for each row, and then claims more than the limit.
    CLAIM = ["with picked as materialized (
            select id from callback_outbox where due_at <= $1 order by due_at limit $3" skip_locked ")
        update callback_outbox set fence = fence + 1, due_at = $2, fan_out_attempt = fan_out_attempt + 1
        where id in (select id from picked where" few("picked.id") ")
        returning id, fence, fan_out_attempt, fan_out_after, fan_out_deferred, shaper_faults, organization_id, store_id, event,
            payload, created_at, traceparent, request_id, only_endpoint, only_delivery, waits_for"];
    // What was shaped first stays: every attempt of an event sends the same bytes.
    INSERT_MESSAGES = ["insert into callback_messages (outbox_id, shaper, plugin_digest, content_type, headers, body)
        select outbox_id, shaper, plugin_digest, content_type, headers, body
        from" rows(r, outbox_id uuid, shaper text, plugin_digest text, content_type text, headers json, body bytes)
        "where true on conflict (outbox_id, shaper) do nothing"];
    // Not for an endpoint that was deleted meanwhile: one of those would refuse the whole batch.
    INSERT_DELIVERIES = ["insert into callback_deliveries (id, outbox_id, endpoint_id, organization_id, shaper, state,
            due_at, last_error, created_at, updated_at)
        select r.id, r.outbox_id, r.endpoint_id, r.organization_id, r.shaper, r.state, r.due_at, r.last_error, r.at, r.at
        from" rows(r, id uuid, outbox_id uuid, endpoint_id uuid, organization_id text, shaper text, state text,
            due_at time, last_error text, at time)
        "join webhook_endpoints on webhook_endpoints.id = r.endpoint_id where true" keep_endpoints
        " on conflict (outbox_id, endpoint_id) do nothing"];
    // Counts no further than a limit: a scheduler asks whether there is work, not how much.
    COUNT_DUE = ["select count(*) as number from
        (select 1 from callback_outbox where due_at <= $1 limit $2) d"];
}

/// The cause of an event, by which people find the one from the other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cause<'c> {
    /// Its W3C traceparent, where traces are collected.
    pub traceparent: Option<&'c str>,
    /// Its request.
    pub request_id: Option<&'c RequestId>,
}

/// Stores an event. In the transaction of its cause.
pub async fn emit(conn: &mut Conn, event: &Event, cause: Cause<'_>) -> Result<(), StoreError> {
    let query = with_event(conn.query(EMIT), event, cause);
    query.run().await.map(drop)
}

/// The one endpoint that an event is for, and the id that its delivery gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Only {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// The delivery.
    pub delivery: DeliveryId,
}

/// Stores an event that is for one endpoint alone. It goes the way of all others.
pub async fn emit_to(
    conn: &mut Conn,
    event: &Event,
    cause: Cause<'_>,
    only: Only,
) -> Result<(), StoreError> {
    let query = with_event(conn.query(EMIT_TO), event, cause);
    let query = query.bind(only.endpoint.0).bind(only.delivery.0);
    query.run().await.map(drop)
}

fn with_event<'c>(query: Query<'c>, event: &Event, cause: Cause<'_>) -> Query<'c> {
    query
        .bind(event.id.0)
        .bind(event.organization_id.as_str())
        .bind(event.store_id.0)
        .bind(event.kind.as_str())
        .bind(JsonText(event.data.clone()))
        .time(event.at)
        .bind(cause.traceparent)
        .bind(cause.request_id.map(RequestId::as_str))
}

/// The place of an event in the walk over its endpoints, which goes by their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The last endpoint that was passed; `None` before the first.
    pub after: Option<EndpointId>,
    /// The reason why endpoints before it were left out: a shaper that they want is out of service.
    pub deferred: Option<String>,
}

/// An event that does not have all its deliveries yet, leased to this worker.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The event.
    pub event: Event,
    /// The fence, which fanning out must name.
    pub fence: i64,
    /// The number of tries, this one included. Pages that were written do not count.
    pub attempt: i64,
    /// The place where the walk over its endpoints goes on.
    pub place: Place,
    /// Faults of shapers on this event.
    pub shaper_faults: i64,
    /// The W3C traceparent of its cause.
    pub traceparent: Option<String>,
    /// The request of its cause.
    pub request_id: Option<String>,
    /// The one endpoint that it is for; `None` for everybody who listens.
    pub only: Option<Only>,
    /// The shapers that it waits for.
    pub waits_for: Option<String>,
}

/// Claims up to `limit` events that are to be fanned out, oldest first.
pub async fn claim(
    conn: &mut Conn,
    lease: Duration,
    limit: i64,
    now: Time,
) -> Result<Vec<Claimed>, StoreError> {
    #[derive(FromRow)]
    struct Row {
        id: Uuid,
        fence: i64,
        fan_out_attempt: i64,
        shaper_faults: i64,
        fan_out_after: Option<Uuid>,
        fan_out_deferred: Option<String>,
        organization_id: String,
        store_id: Uuid,
        event: String,
        payload: JsonText,
        created_at: At,
        traceparent: Option<String>,
        request_id: Option<String>,
        only_endpoint: Option<Uuid>,
        only_delivery: Option<Uuid>,
        waits_for: Option<String>,
    }
    let rows: Vec<Row> = conn
        .query(CLAIM)
        .time(now)
        .time(now + lease)
        .bind(limit)
        .all()
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| Claimed {
            fence: row.fence,
            attempt: row.fan_out_attempt,
            shaper_faults: row.shaper_faults,
            place: Place {
                after: row.fan_out_after.map(EndpointId),
                deferred: row.fan_out_deferred,
            },
            traceparent: row.traceparent,
            request_id: row.request_id,
            only: row
                .only_endpoint
                .zip(row.only_delivery)
                .map(|(endpoint, delivery)| Only {
                    endpoint: EndpointId(endpoint),
                    delivery: DeliveryId(delivery),
                }),
            waits_for: row.waits_for,
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
    /// The shaper that made it.
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
    /// The endpoint that it goes to.
    pub endpoint_id: EndpointId,
    /// The shaper of its payload.
    pub shaper: String,
    /// The reason why it can never be sent (its shaper refused the event); `None` for one that can.
    pub dead: Option<String>,
}

impl NewDelivery {
    const fn state(&self) -> DeliveryState {
        match self.dead {
            Some(_) => DeliveryState::Failed,
            None => DeliveryState::Pending,
        }
    }
}

fn push_message(rows: &mut Rows, event: EventId, message: &Message) {
    rows.push()
        .uuid("outbox_id", event.0)
        .text("shaper", message.shaper.as_str())
        .text("plugin_digest", message.plugin_digest.as_str())
        .text("content_type", message.content_type.as_str())
        .json("headers", serde_json::json!(message.headers))
        .bytes("body", &message.body);
}

async fn insert_messages(conn: &mut Conn, rows: &Rows) -> Result<(), StoreError> {
    if rows.is_empty() {
        Ok(())
    } else {
        conn.query(INSERT_MESSAGES).rows(rows).run().await.map(drop)
    }
}

fn push_delivery(
    rows: &mut Rows,
    event: EventId,
    organization: &OrganizationId,
    delivery: &NewDelivery,
    due_at: Time,
    now: Time,
) {
    rows.push()
        .uuid("id", delivery.id.0)
        .uuid("outbox_id", event.0)
        .uuid("endpoint_id", delivery.endpoint_id.0)
        .text("organization_id", organization.as_str())
        .text("shaper", delivery.shaper.as_str())
        .text("state", delivery.state().as_str())
        .time("due_at", delivery.dead.is_none().then_some(due_at))
        .text("last_error", delivery.dead.as_deref())
        .time("at", now);
}

/// One more delivery of an event that was fanned out before, or never was for anybody.
pub struct Extra {
    /// The event.
    pub event_id: EventId,
    /// The organization that it belongs to.
    pub organization_id: OrganizationId,
    /// Its body in this shape; one that was stored before stays. `None` with a delivery that is dead.
    pub message: Option<Message>,
    /// The delivery. Nothing happens where its endpoint has one already.
    pub delivery: NewDelivery,
    /// The time to send it.
    pub due_at: Time,
}

/// Stores deliveries of stored events.
///
/// Call it in a transaction of its own.
pub async fn deliver(conn: &mut Conn, extras: &[Extra], now: Time) -> Result<(), StoreError> {
    let events = event_rows(conn, extras.iter().map(|extra| extra.event_id));
    let (mut messages, mut rows) = (Rows::new(conn), Rows::new(conn));
    for extra in extras {
        if let Some(message) = &extra.message {
            push_message(&mut messages, extra.event_id, message);
        }
        push_delivery(
            &mut rows,
            extra.event_id,
            &extra.organization_id,
            &extra.delivery,
            extra.due_at,
            now,
        );
    }
    // Events before deliveries, as everywhere.
    lock_events(conn, &events).await?;
    insert_messages(conn, &messages).await?;
    conn.query(INSERT_DELIVERIES).rows(&rows).run().await?;
    aggregate(conn, &events).await
}

/// Counts the events that wait to be fanned out, no further than `max`.
pub async fn count_due(conn: &mut Conn, max: i64, now: Time) -> Result<i64, StoreError> {
    conn.query(COUNT_DUE).time(now).bind(max).number().await
}
