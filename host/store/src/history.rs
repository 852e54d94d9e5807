//! Deliveries and their attempts as operators look at them: in pages, newest first, in a stable order.

use uuid::Uuid;
use wharf_domain::{
    DeliveryId, DeliveryState, EndpointId, EventId, OrganizationId, ShaperName, Time,
};

use crate::{Conn, StoreError, dialect::statements, rows::Rows, values::At};

statements! {
    // An empty $3 is every state. Pages go by id, not by offset: rows that come meanwhile do not shift them.
    OF_ENDPOINT = [deliveries_with_events!()
        "where d.organization_id = $1 and d.id < $2 and (d.state = $3 or $3 = '') and d.endpoint_id = $5
        order by d.id desc limit $4"];
    OF_EVENT = [deliveries_with_events!()
        "where d.organization_id = $1 and d.id < $2 and (d.state = $3 or $3 = '') and d.outbox_id = $5
        order by d.id desc limit $4"];
    // The state is a literal, or the partial indexes over dead letters do not fit.
    DEAD = [deliveries_with_events!()
        "where d.organization_id = $1 and d.id < $2 and d.state = 'failed' order by d.id desc limit $3"];
    DEAD_OF_ENDPOINT = [deliveries_with_events!()
        "where d.organization_id = $1 and d.id < $2 and d.state = 'failed' and d.endpoint_id = $4
        order by d.id desc limit $3"];
    ONE = [deliveries_with_events!()
        "where d.organization_id = $1 and d.id = $2"];
    // An event for one endpoint alone that is not fanned out yet: its client was told the id of its delivery.
    NOT_MADE = ["select o.only_delivery as id, o.id as outbox_id, o.only_endpoint as endpoint_id, o.event, o.status as state,
            o.attempt, o.due_at, cast(null as text) as last_error, o.created_at, o.updated_at, o.request_id,
            o.waits_for
        from callback_outbox o where o.organization_id = $1 and o.only_delivery = $2 and o.due_at is not null"];
    WAITS_FOR = ["select waits_for from callback_outbox where organization_id = $1 and id = $2 and waits_for is not null"];
    // $3 between commas: it must be one of the names, and no part of one.
    WAITING = ["select count(*) as number from (select 1 from callback_outbox where organization_id = $1 and event = $2
            and waits_for is not null and replace(',' || waits_for || ',', $3, '') <> ',' || waits_for || ',' limit $4) w"];
    // The cast because PostgreSQL's `substr` counts in 32 bits.
    ATTEMPTS = ["select a.delivery_id, a.attempt, a.started_at, a.latency_us, a.http_status, a.error,
            substr(a.response, 1, cast($2 as integer)) as response
        from" rows(r, id uuid) "join callback_deliveries d on d.id = r.id
            join callback_attempts a on a.delivery_id = d.id and a.attempt > d.attempt - $3
        order by a.delivery_id, a.attempt"];
}

/// The deliveries to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One endpoint's, in every state or in one.
    Endpoint(EndpointId, Option<DeliveryState>),
    /// One event's.
    Event(EventId),
    /// The dead letters of all endpoints.
    DeadLetters,
}

/// A delivery as operators see it.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// The event.
    pub event_id: EventId,
    /// The kind of event.
    pub event: String,
    /// The endpoint that it goes to.
    pub endpoint_id: EndpointId,
    /// Its state.
    pub state: DeliveryState,
    /// The number of times it was sent.
    pub attempts_made: i64,
    /// The time when it is sent next, or when the lease of the worker that is sending it ends. Exactly when it is
    /// pending.
    pub due_at: Option<Time>,
    /// The last error.
    pub last_error: Option<String>,
    /// The shaper that its event waits for.
    pub waits_for: Option<String>,
    /// The time when it was made.
    pub created_at: Time,
    /// The time of its last change.
    pub updated_at: Time,
    /// The request that caused the event.
    pub request_id: Option<String>,
    /// The last [`MAX_SHOWN_ATTEMPTS`] of its attempts, in the order in which they were made.
    pub attempts: Vec<PastAttempt>,
}

/// One attempt to send a delivery.
#[derive(Clone, Debug)]
pub struct PastAttempt {
    /// Its number, from 1.
    pub number: i64,
    /// The time when it began.
    pub started_at: Time,
    /// The time that the answer took, in microseconds.
    pub latency_us: i64,
    /// The answer's status; `None` when none came.
    pub http_status: Option<i64>,
    /// The error.
    pub error: Option<String>,
    /// The first bytes of the answer.
    pub response: Option<String>,
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    outbox_id: Uuid,
    endpoint_id: Uuid,
    event: String,
    state: String,
    attempt: i64,
    due_at: Option<At>,
    last_error: Option<String>,
    created_at: At,
    updated_at: At,
    request_id: Option<String>,
    #[sqlx(default)]
    waits_for: Option<String>,
}

impl From<Row> for Delivery {
    fn from(row: Row) -> Self {
        Self {
            id: DeliveryId(row.id),
            event_id: EventId(row.outbox_id),
            event: row.event,
            endpoint_id: EndpointId(row.endpoint_id),
            // The table checks the names.
            state: DeliveryState::parse(&row.state).unwrap_or(DeliveryState::Pending),
            attempts_made: row.attempt,
            due_at: row.due_at.map(|at| at.0),
            last_error: row.last_error,
            waits_for: row.waits_for,
            created_at: row.created_at.0,
            updated_at: row.updated_at.0,
            request_id: row.request_id,
            attempts: Vec::new(),
        }
    }
}

/// Of a delivery's attempts the last ones are shown. One that is sent again and again has any number.
pub const MAX_SHOWN_ATTEMPTS: i64 = 100;
/// Of an answer, a list shows so many characters.
const SHOWN_IN_LISTS: i64 = 256;
/// All that is kept of an answer.
const EVERYTHING: i64 = i32::MAX as i64;

/// Up to `most` deliveries that are older than `before`, newest first.
pub async fn page(
    conn: &mut Conn,
    organization: &OrganizationId,
    scope: Scope,
    before: Option<DeliveryId>,
    most: i64,
) -> Result<Vec<Delivery>, StoreError> {
    // Ids are UUIDs of version 7: their order is that of creation, and the largest id is behind them all.
    let before = before.map_or(Uuid::max(), |id| id.0);
    let name = |state: Option<DeliveryState>| state.map_or("", DeliveryState::as_str);
    let rows: Vec<Row> = match scope {
        Scope::Endpoint(id, Some(DeliveryState::Failed)) => {
            conn.query(DEAD_OF_ENDPOINT)
                .bind(organization.as_str())
                .bind(before)
                .bind(most)
                .bind(id.0)
                .all()
                .await?
        }
        Scope::Endpoint(id, state) => {
            conn.query(OF_ENDPOINT)
                .bind(organization.as_str())
                .bind(before)
                .bind(name(state))
                .bind(most)
                .bind(id.0)
                .all()
                .await?
        }
        Scope::Event(id) => {
            conn.query(OF_EVENT)
                .bind(organization.as_str())
                .bind(before)
                .bind("")
                .bind(most)
                .bind(id.0)
                .all()
                .await?
        }
        Scope::DeadLetters => {
            conn.query(DEAD)
                .bind(organization.as_str())
                .bind(before)
                .bind(most)
                .all()
                .await?
        }
    };
    with_attempts(conn, rows, SHOWN_IN_LISTS).await
}

/// One delivery, if the organization has it, with all that is known of its attempts.
pub async fn get(
    conn: &mut Conn,
    organization: &OrganizationId,
    id: DeliveryId,
) -> Result<Option<Delivery>, StoreError> {
    let mut rows: Vec<Row> = Vec::new();
    // In this order: between the two it may be made, and then it has left the other.
    for statement in [NOT_MADE, ONE] {
        let query = conn.query(statement).bind(organization.as_str());
        rows.extend(query.bind(id.0).all::<Row>().await?);
    }
    Ok(with_attempts(conn, rows, EVERYTHING).await?.pop())
}

/// The shapers that one event waits for, divided by commas.
pub async fn waits_for(
    conn: &mut Conn,
    organization: &OrganizationId,
    event: EventId,
) -> Result<Option<String>, StoreError> {
    let query = conn.query(WAITS_FOR).bind(organization.as_str());
    let row: Option<(String,)> = query.bind(event.0).optional().await?;
    Ok(row.map(|(names,)| names))
}

/// Events of a kind that wait for a shaper are counted up to here.
pub const MAX_WAITING: i64 = 10_000;

/// Counts the organization's events of a kind that wait for this shaper, up to [`MAX_WAITING`].
pub async fn waiting(
    conn: &mut Conn,
    organization: &OrganizationId,
    event: &str,
    shaper: &ShaperName,
) -> Result<i64, StoreError> {
    let query = conn.query(WAITING).bind(organization.as_str()).bind(event);
    let query = query.bind(format!(",{},", shaper.as_str()));
    query.bind(MAX_WAITING).number().await
}

async fn with_attempts(
    conn: &mut Conn,
    rows: Vec<Row>,
    shown: i64,
) -> Result<Vec<Delivery>, StoreError> {
    #[derive(FromRow)]
    struct Attempt {
        delivery_id: Uuid,
        attempt: i64,
        started_at: At,
        latency_us: i64,
        http_status: Option<i64>,
        error: Option<String>,
        response: Option<String>,
    }
    let mut ids = Rows::new(conn);
    for row in &rows {
        ids.push().uuid("id", row.id);
    }
    let query = conn.query(ATTEMPTS).rows(&ids).bind(shown);
    let attempts: Vec<Attempt> = query.bind(MAX_SHOWN_ATTEMPTS).all().await?;
    let mut deliveries: Vec<Delivery> = rows.into_iter().map(Delivery::from).collect();
    for delivery in &mut deliveries {
        let theirs = attempts
            .iter()
            .filter(|attempt| attempt.delivery_id == delivery.id.0);
        // What was settled since the delivery was read is for the next look: it would not fit its state.
        let theirs = theirs.filter(|attempt| attempt.attempt <= delivery.attempts_made);
        delivery.attempts = theirs
            .map(|attempt| PastAttempt {
                number: attempt.attempt,
                started_at: attempt.started_at.0,
                latency_us: attempt.latency_us,
                http_status: attempt.http_status,
                error: attempt.error.clone(),
                response: attempt.response.clone(),
            })
            .collect();
    }
    Ok(deliveries)
}
