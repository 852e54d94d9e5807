//! Dead letters as whoever looks through them needs them: in the order of their ids, which is that in which they were
//! made, a page at a time. The partial indexes over what failed lead to them, however much was delivered well.

use uuid::Uuid;
use wharf_domain::{DeliveryId, EndpointId, EventId, OrganizationId, Time};

use crate::{
    Conn, StoreError,
    dialect::{Sql, statements},
    values::At,
};

statements! {
    OLDEST = [picked_letters!("", "asc") letters!() few("picked.id") "order by picked.id"];
    NEWEST = [picked_letters!("", "desc") letters!() few("picked.id") "order by picked.id desc"];
    OLDEST_OF_ORGANIZATION = [picked_letters!(" and d.organization_id = $4", "asc") letters!() few("picked.id")
        "order by picked.id"];
    NEWEST_OF_ORGANIZATION = [picked_letters!(" and d.organization_id = $4", "desc") letters!() few("picked.id")
        "order by picked.id desc"];
    OLDEST_OF_ENDPOINT = [picked_letters!(" and d.endpoint_id = $4", "asc") letters!() few("picked.id")
        "order by picked.id"];
    NEWEST_OF_ENDPOINT = [picked_letters!(" and d.endpoint_id = $4", "desc") letters!() few("picked.id")
        "order by picked.id desc"];
}

/// Whose dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Of {
    /// Everybody's.
    All,
    /// One organization's.
    Organization(OrganizationId),
    /// One endpoint's. Whether it belongs to who asks is the caller's to check.
    Endpoint(EndpointId),
}

/// The order of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The first made first.
    Oldest,
    /// The last made first.
    Newest,
}

/// A part of the dead letters by their ids, both ends left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Between {
    /// Those behind this one.
    pub after: Uuid,
    /// Those before this one.
    pub before: Uuid,
}

/// A delivery that failed for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Its id.
    pub id: DeliveryId,
    /// The organization that it belongs to.
    pub organization_id: OrganizationId,
    /// The endpoint that it goes to.
    pub endpoint_id: EndpointId,
    /// The endpoint is sent deliveries.
    pub endpoint_is_active: bool,
    /// The event.
    pub event_id: EventId,
    /// The kind of event.
    pub event: String,
    /// There is something to send: its shaper made a body, and that is still stored.
    pub has_body: bool,
    /// The number of times it was sent.
    pub attempts_made: i64,
    /// The status of the last answer; `None` where none came.
    pub http_status: Option<i64>,
    /// The last error.
    pub last_error: Option<String>,
    /// The time when it was made.
    pub created_at: Time,
    /// The time when it failed.
    pub failed_at: Time,
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    outbox_id: Uuid,
    endpoint_id: Uuid,
    organization_id: String,
    attempt: i64,
    last_error: Option<String>,
    created_at: At,
    updated_at: At,
    event: String,
    is_active: bool,
    http_status: Option<i64>,
    has_body: bool,
}

impl From<Row> for Letter {
    fn from(row: Row) -> Self {
        Self {
            id: DeliveryId(row.id),
            organization_id: OrganizationId::from_stored(row.organization_id),
            endpoint_id: EndpointId(row.endpoint_id),
            endpoint_is_active: row.is_active,
            event_id: EventId(row.outbox_id),
            event: row.event,
            has_body: row.has_body,
            attempts_made: row.attempt,
            http_status: row.http_status,
            last_error: row.last_error,
            created_at: row.created_at.0,
            failed_at: row.updated_at.0,
        }
    }
}

/// Up to `most` dead letters.
pub async fn page(
    conn: &mut Conn,
    of: &Of,
    between: Between,
    order: Order,
    most: i64,
) -> Result<Vec<Letter>, StoreError> {
    let query = conn.query(statement(of, order));
    let query = query.bind(between.after).bind(between.before).bind(most);
    let query = match of {
        Of::All => query,
        Of::Organization(organization) => query.bind(organization.as_str()),
        Of::Endpoint(endpoint) => query.bind(endpoint.0),
    };
    let rows: Vec<Row> = query.all().await?;
    Ok(rows.into_iter().map(Letter::from).collect())
}

const fn statement(of: &Of, order: Order) -> Sql {
    match (of, order) {
        (Of::All, Order::Oldest) => OLDEST,
        (Of::All, Order::Newest) => NEWEST,
        (Of::Organization(_), Order::Oldest) => OLDEST_OF_ORGANIZATION,
        (Of::Organization(_), Order::Newest) => NEWEST_OF_ORGANIZATION,
        (Of::Endpoint(_), Order::Oldest) => OLDEST_OF_ENDPOINT,
        (Of::Endpoint(_), Order::Newest) => NEWEST_OF_ENDPOINT,
    }
}
