//! Webhook endpoints: who wants to be told what, where, in which shape, signed with which secrets, at which pace, and
//! how it has been doing.

use sqlx::FromRow;
use uuid::Uuid;
use wharf_domain::{
    EndpointId, EndpointSecret, EventKind, Health, OrganizationId, Secrets, ShaperName,
    SigningRoot, TargetUrl, Time,
};

use crate::{
    Conn, EncryptionKey, Sealed, StoreError,
    dialect::statements,
    rows::{Rows, without_nul},
    stores::digest_of,
    values::At,
};

statements! {
    /// `do update` of nothing, because `do nothing` returns nothing.
    REGISTER = ["insert into webhook_endpoints (id, identity, organization_id, event, target_url, shaper, secret,
            created_at, updated_at, signs_v1a) values ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9)
        on conflict (identity) do update set identity = excluded.identity
        returning id, organization_id, event, target_url, shaper, is_active, disabled_reason, secret, retired_secrets,
            identity, signs_v1a, rate_per_minute, failures, failing_since, pauses, paused_until, created_at, updated_at"];
    LIST = ["select id, organization_id, event, target_url, shaper, is_active, disabled_reason, secret, retired_secrets,
            identity, signs_v1a, rate_per_minute, failures, failing_since, pauses, paused_until, created_at, updated_at
        from webhook_endpoints where organization_id = $1"];
    ONE = ["select id, organization_id, event, target_url, shaper, is_active, disabled_reason, secret, retired_secrets,
            identity, signs_v1a, rate_per_minute, failures, failing_since, pauses, paused_until, created_at, updated_at
        from webhook_endpoints where id = $1 and organization_id = $2"];
    LOCK = ["select id from webhook_endpoints where id = $1 and organization_id = $2" lock_rows];
    SAVE = ["update webhook_endpoints set identity = $2, target_url = $3, shaper = $4, is_active = $5,
            disabled_reason = $6, secret = $7, retired_secrets = $8, rate_per_minute = $9, paced_until = null,
            failures = $10, failing_since = $11, pauses = $12, paused_until = $13, updated_at = $14, signs_v1a = $15
        where id = $1"];
    DELETE = ["delete from webhook_endpoints where id = $1 and organization_id = $2"];
    /// The active endpoints of each wanted (organization, event).
    LISTENING = ["select e.id, e.organization_id, e.event, e.shaper from webhook_endpoints e
        join" rows(r, organization_id text, event text)
        "on r.organization_id = e.organization_id and r.event = e.event where e.is_active order by e.id"];
    /// In the order of ids, so that two workers never wait for each other crosswise.
    HEALTH = ["select id, failures, failing_since, pauses, paused_until from webhook_endpoints
        where is_active and id in (select id from" rows(r, id uuid) ") order by id" lock_rows];
    SET_HEALTH = ["update webhook_endpoints set failures = r.failures, failing_since = r.failing_since,
            pauses = r.pauses, paused_until = r.paused_until, is_active = (r.reason is null), disabled_reason = r.reason,
            updated_at = case when r.reason is null then webhook_endpoints.updated_at else r.at end
        from" rows(r, id uuid, failures int, failing_since time, pauses int, paused_until time, reason text, at time)
        "where webhook_endpoints.id = r.id"];
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
    /// Whether its deliveries are signed by a key pair too.
    pub asymmetric: bool,
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
    /// Why it is not.
    pub disabled_reason: Option<String>,
    /// Whether its deliveries are signed by a key pair too.
    pub asymmetric: bool,
    /// At most so many deliveries a minute.
    pub rate_per_minute: Option<i64>,
    /// How it has been doing.
    pub health: Health,
    /// When it was registered.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
    identity: String,
    secret: Sealed,
    retired_secrets: Option<Sealed>,
}

const SECRET: &str = "webhook_endpoints.secret";
const RETIRED: &str = "webhook_endpoints.retired_secrets";

impl Endpoint {
    /// The secrets that its deliveries are signed with.
    pub fn secrets(&self, key: &EncryptionKey) -> Result<Secrets, StoreError> {
        SealedSecrets {
            endpoint_id: self.id,
            identity: &self.identity,
            current: &self.secret,
            retired: self.retired_secrets.as_ref(),
            asymmetric: self.asymmetric,
        }
        .open(key)
    }
}

/// An endpoint's secrets as they are stored.
pub(crate) struct SealedSecrets<'a> {
    pub(crate) endpoint_id: EndpointId,
    pub(crate) identity: &'a str,
    pub(crate) current: &'a Sealed,
    pub(crate) retired: Option<&'a Sealed>,
    pub(crate) asymmetric: bool,
}

impl SealedSecrets<'_> {
    pub(crate) fn open(&self, key: &EncryptionKey) -> Result<Secrets, StoreError> {
        let open = |place, sealed| {
            let text = key.open(place, self.identity, sealed)?;
            String::from_utf8(text).map_err(|why| StoreError::unreadable(place, why.utf8_error()))
        };
        let current = EndpointSecret::parse(&open(SECRET, self.current)?);
        let mut secrets = Secrets::new(current.map_err(|why| StoreError::unreadable(SECRET, why))?);
        if let Some(retired) = self.retired {
            let text = open(RETIRED, retired)?;
            secrets = secrets
                .with_retired(&text)
                .map_err(|why| StoreError::unreadable(RETIRED, why))?;
        }
        if self.asymmetric {
            secrets = secrets.with_root(signing_root(key, self.endpoint_id));
        }
        Ok(secrets)
    }
}

/// What the endpoint's `v1a` keys are made from.
fn signing_root(key: &EncryptionKey, endpoint: EndpointId) -> SigningRoot {
    SigningRoot::new(key.derive("webhook_endpoints.v1a", &endpoint.to_string()))
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    organization_id: String,
    event: String,
    target_url: String,
    shaper: String,
    is_active: bool,
    disabled_reason: Option<String>,
    secret: Vec<u8>,
    retired_secrets: Option<Vec<u8>>,
    identity: String,
    signs_v1a: bool,
    rate_per_minute: Option<i64>,
    failures: i64,
    failing_since: Option<At>,
    pauses: i64,
    paused_until: Option<At>,
    created_at: At,
    updated_at: At,
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
            disabled_reason: row.disabled_reason,
            asymmetric: row.signs_v1a,
            rate_per_minute: row.rate_per_minute,
            health: health(
                row.failures,
                row.failing_since,
                row.pauses,
                row.paused_until,
            ),
            created_at: row.created_at.0,
            updated_at: row.updated_at.0,
            identity: row.identity,
            secret: Sealed(row.secret),
            retired_secrets: row.retired_secrets.map(Sealed),
        }
    }
}

fn health(
    failures: i64,
    failing_since: Option<At>,
    pauses: i64,
    paused_until: Option<At>,
) -> Health {
    let time = |at: Option<At>| at.map(|at| at.0);
    Health {
        failures,
        failing_since: time(failing_since),
        pauses,
        paused_until: time(paused_until),
    }
}

/// What tells endpoints apart, and what their secrets are bound to.
fn identity_of(organization: &str, event: &str, target_url: &str) -> String {
    digest_of(&[organization, event, target_url])
}

/// Registers an endpoint; one with the same organization, event and URL stays as it is and is answered.
pub async fn register(
    conn: &mut Conn,
    key: &EncryptionKey,
    new: &NewEndpoint<'_>,
    now: Time,
) -> Result<Endpoint, StoreError> {
    let identity = identity_of(
        new.organization_id.as_str(),
        new.event.as_str(),
        new.target_url.as_str(),
    );
    let secret = key.seal(SECRET, &identity, new.secret.expose().as_bytes(), new.nonce);
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
        .bind(new.asymmetric)
        .one()
        .await?;
    Ok(row.into())
}

/// The organization's endpoints by event, then URL, compared byte by byte whatever the database's collation is.
pub async fn list(
    conn: &mut Conn,
    organization: &OrganizationId,
) -> Result<Vec<Endpoint>, StoreError> {
    let rows: Vec<Row> = conn.query(LIST).bind(organization.as_str()).all().await?;
    let mut endpoints: Vec<Endpoint> = rows.into_iter().map(Endpoint::from).collect();
    endpoints.sort_by(|a, b| (&a.event, &a.target_url).cmp(&(&b.event, &b.target_url)));
    Ok(endpoints)
}

/// One endpoint, if the organization has it.
pub async fn get(
    conn: &mut Conn,
    organization: &OrganizationId,
    id: EndpointId,
) -> Result<Option<Endpoint>, StoreError> {
    let row: Option<Row> = conn
        .query(ONE)
        .bind(id.0)
        .bind(organization.as_str())
        .optional()
        .await?;
    Ok(row.map(Endpoint::from))
}

/// The same, held until the transaction ends, to be changed and [saved](save).
pub async fn lock(
    conn: &mut Conn,
    organization: &OrganizationId,
    id: EndpointId,
) -> Result<Option<Endpoint>, StoreError> {
    #[derive(FromRow)]
    struct Locked {
        #[allow(dead_code, reason = "the row is asked for to be held")]
        id: Uuid,
    }
    let locked: Option<Locked> = conn
        .query(LOCK)
        .bind(id.0)
        .bind(organization.as_str())
        .optional()
        .await?;
    if locked.is_some() {
        get(conn, organization, id).await
    } else {
        Ok(None)
    }
}

/// Writes a changed endpoint with its secrets, which are bound to its URL and therefore encrypted anew; each nonce is
/// random and used once. [`StoreError::Taken`] if another one has its organization, event and URL.
///
/// Call it in the transaction that [locked](lock) it.
pub async fn save(
    conn: &mut Conn,
    key: &EncryptionKey,
    endpoint: &Endpoint,
    secrets: &Secrets,
    nonces: [[u8; 24]; 2],
    now: Time,
) -> Result<(), StoreError> {
    let identity = identity_of(
        endpoint.organization_id.as_str(),
        &endpoint.event,
        &endpoint.target_url,
    );
    let current = key.seal(
        SECRET,
        &identity,
        secrets.current().expose().as_bytes(),
        nonces[0],
    );
    let retired = secrets
        .expose_retired()
        .map(|text| key.seal(RETIRED, &identity, text.as_bytes(), nonces[1]));
    let Health {
        failures,
        failing_since,
        pauses,
        paused_until,
    } = endpoint.health;
    conn.query(SAVE)
        .bind(endpoint.id.0)
        .bind(identity)
        .bind(endpoint.target_url.as_str())
        .bind(endpoint.shaper.as_str())
        .bind(endpoint.is_active)
        .bind(endpoint.disabled_reason.as_deref().map(without_nul))
        .bind(current.0)
        .bind(retired.map(|sealed| sealed.0))
        .bind(endpoint.rate_per_minute)
        .bind(failures)
        .bind(failing_since.map(At))
        .bind(pauses)
        .bind(paused_until.map(At))
        .time(now)
        .bind(endpoint.asymmetric)
        .run()
        .await
        .map(drop)
}

/// Deletes an endpoint with what deliveries it has left. Answers whether there was one.
pub async fn delete(
    conn: &mut Conn,
    organization: &OrganizationId,
    id: EndpointId,
) -> Result<bool, StoreError> {
    Ok(conn
        .query(DELETE)
        .bind(id.0)
        .bind(organization.as_str())
        .run()
        .await?
        > 0)
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
pub async fn listening(
    conn: &mut Conn,
    wanted: &[(&str, &str)],
) -> Result<Vec<Listening>, StoreError> {
    #[derive(FromRow)]
    struct Row {
        id: Uuid,
        organization_id: String,
        event: String,
        shaper: String,
    }
    let mut pairs = Rows::new(conn);
    for (organization, event) in wanted {
        pairs
            .push()
            .text("organization_id", *organization)
            .text("event", *event);
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

/// Looks after the health of active endpoints: `judge` is told each one's and answers the new one, with a reason if
/// the endpoint is to be disabled. Returns those that were.
///
/// Call it in a transaction of its own.
pub async fn nurse(
    conn: &mut Conn,
    ids: impl IntoIterator<Item = EndpointId>,
    judge: impl Fn(EndpointId, Health) -> (Health, Option<String>),
    now: Time,
) -> Result<Vec<(EndpointId, String)>, StoreError> {
    #[derive(FromRow)]
    struct Row {
        id: Uuid,
        failures: i64,
        failing_since: Option<At>,
        pauses: i64,
        paused_until: Option<At>,
    }
    let mut asked = Rows::new(conn);
    for id in ids {
        asked.push().uuid("id", id.0);
    }
    let rows: Vec<Row> = conn.query(HEALTH).rows(&asked).all().await?;
    let (mut changed, mut disabled) = (Rows::new(conn), Vec::new());
    for row in rows {
        let was = health(
            row.failures,
            row.failing_since,
            row.pauses,
            row.paused_until,
        );
        let (is, reason) = judge(EndpointId(row.id), was);
        if is == was && reason.is_none() {
            continue;
        }
        changed
            .push()
            .uuid("id", row.id)
            .int("failures", is.failures)
            .time("failing_since", is.failing_since)
            .int("pauses", is.pauses)
            .time("paused_until", is.paused_until)
            .text("reason", reason.as_deref())
            .time("at", now);
        disabled.extend(reason.map(|reason| (EndpointId(row.id), reason)));
    }
    if !changed.is_empty() {
        conn.query(SET_HEALTH).rows(&changed).run().await?;
    }
    Ok(disabled)
}
