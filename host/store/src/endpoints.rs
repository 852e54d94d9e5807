//! Webhook endpoints: who wants to be told what, where, in which shape, signed with which secret.

use sqlx::FromRow;
use uuid::Uuid;
use wharf_domain::{EndpointId, EndpointSecret, EventKind, OrganizationId, ShaperName, TargetUrl, Time};

use crate::{Conn, EncryptionKey, Sealed, StoreError, dialect::statements, rows::Rows, stores::digest_of};

statements! {
    /// `do update` of nothing, because `do nothing` returns nothing.
    REGISTER = ["insert into webhook_endpoints (id, identity, organization_id, event, target_url, shaper, secret,
            created_at, updated_at) values ($1, $2, $3, $4, $5, $6, $7, $8, $8)
        on conflict (identity) do update set identity = excluded.identity
        returning id, organization_id, event, target_url, shaper, is_active, secret, identity"];
    LIST = ["select id, organization_id, event, target_url, shaper, is_active, secret, identity from webhook_endpoints
        where organization_id = $1"];
    /// The active endpoints of each wanted (organization, event).
    LISTENING = ["select e.id, e.organization_id, e.event, e.shaper from webhook_endpoints e
        join" rows(r, organization_id text, event text)
        "on r.organization_id = e.organization_id and r.event = e.event where e.is_active order by e.id"];
    DISABLE = ["update webhook_endpoints set is_active = (1 = 0), disabled_reason = $2, updated_at = $3
        where id = $1 and is_active"];
}

/// An endpoint to register.
pub struct NewEndpoint<'a> {
    /// The id that it gets if it is new.
    pub id: EndpointId,
    /// Whose it is.
    pub organization_id: &'a OrganizationId,
    /// What it wants to know.
    pub event: EventKind,
    /// Where it is.
    pub target_url: &'a TargetUrl,
    /// In which shape it wants to know.
    pub shaper: &'a ShaperName,
    /// The signing secret that it gets if it is new.
    pub secret: &'a EndpointSecret,
    /// Random bytes for the encryption, used once.
    pub nonce: [u8; 24],
}

/// A registered endpoint.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// Whose it is.
    pub organization_id: OrganizationId,
    /// What it wants to know.
    pub event: String,
    /// Where it is.
    pub target_url: String,
    /// In which shape it wants to know.
    pub shaper: ShaperName,
    /// Whether it is sent anything.
    pub is_active: bool,
    identity: String,
    secret: Sealed,
}

pub(crate) const SECRET_PLACE: &str = "webhook_endpoints.secret";

impl Endpoint {
    /// The secret that its deliveries are signed with.
    pub fn secret(&self, key: &EncryptionKey) -> Result<EndpointSecret, StoreError> {
        open_secret(key, &self.identity, &self.secret)
    }
}

pub(crate) fn open_secret(key: &EncryptionKey, identity: &str, sealed: &Sealed) -> Result<EndpointSecret, StoreError> {
    let text = key.open(SECRET_PLACE, identity, sealed)?;
    let text = std::str::from_utf8(&text).map_err(|why| StoreError::unreadable(SECRET_PLACE, why))?;
    EndpointSecret::parse(text).map_err(|why| StoreError::unreadable(SECRET_PLACE, why))
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    organization_id: String,
    event: String,
    target_url: String,
    shaper: String,
    is_active: bool,
    secret: Vec<u8>,
    identity: String,
}

impl From<Row> for Endpoint {
    fn from(row: Row) -> Self {
        Self {
            id: EndpointId(row.id),
            organization_id: OrganizationId::from_stored(row.organization_id),
            event: row.event,
            target_url: row.target_url,
            shaper: ShaperName::from_stored(row.shaper),
            is_active: row.is_active,
            identity: row.identity,
            secret: Sealed(row.secret),
        }
    }
}

/// Registers an endpoint; one with the same organization, event and URL stays as it is and is answered.
pub async fn register(
    conn: &mut Conn,
    key: &EncryptionKey,
    new: &NewEndpoint<'_>,
    now: Time,
) -> Result<Endpoint, StoreError> {
    let identity = digest_of(&[new.organization_id.as_str(), new.event.as_str(), new.target_url.as_str()]);
    let secret = key.seal(SECRET_PLACE, &identity, new.secret.expose().as_bytes(), new.nonce);
    let row: Row = conn
        .query(REGISTER)
        .bind(new.id.0)
        .bind(identity)
        .bind(new.organization_id.as_str())
        .bind(new.event.as_str())
        .bind(new.target_url.as_str())
        .bind(new.shaper.as_str())
        .bind(secret.0)
        .time(now)
        .one()
        .await?;
    Ok(row.into())
}

/// The organization's endpoints by event, then URL, compared byte by byte whatever the database's collation is.
pub async fn list(conn: &mut Conn, organization: &OrganizationId) -> Result<Vec<Endpoint>, StoreError> {
    let rows: Vec<Row> = conn.query(LIST).bind(organization.as_str()).all().await?;
    let mut endpoints: Vec<Endpoint> = rows.into_iter().map(Endpoint::from).collect();
    endpoints.sort_by(|a, b| (&a.event, &a.target_url).cmp(&(&b.event, &b.target_url)));
    Ok(endpoints)
}

/// An active endpoint that wants to know of an event.
#[derive(Clone, Debug)]
pub struct Listening {
    /// The endpoint.
    pub id: EndpointId,
    /// Whose it is.
    pub organization_id: String,
    /// The event.
    pub event: String,
    /// In which shape.
    pub shaper: String,
}

/// The active endpoints of these (organization, event) pairs, each pair given once.
pub async fn listening(conn: &mut Conn, wanted: &[(&str, &str)]) -> Result<Vec<Listening>, StoreError> {
    #[derive(FromRow)]
    struct Row {
        id: Uuid,
        organization_id: String,
        event: String,
        shaper: String,
    }
    let mut pairs = Rows::new(conn);
    for (organization, event) in wanted {
        pairs.push().text("organization_id", *organization).text("event", *event);
    }
    let rows: Vec<Row> = conn.query(LISTENING).rows(&pairs).all().await?;
    Ok(rows
        .into_iter()
        .map(|row| Listening {
            id: EndpointId(row.id),
            organization_id: row.organization_id,
            event: row.event,
            shaper: row.shaper,
        })
        .collect())
}

/// Stops sending to an endpoint. Answers whether it was active.
pub async fn disable(conn: &mut Conn, id: EndpointId, reason: &str, now: Time) -> Result<bool, StoreError> {
    Ok(conn.query(DISABLE).bind(id.0).bind(reason).time(now).run().await? > 0)
}
