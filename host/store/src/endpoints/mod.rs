//! Webhook endpoints: who wants to be told what, where, in which shape, signed with which secrets, at which rate, and
//! how they have been doing.

mod health;
mod listening;
mod overview;
mod secrets;

use uuid::Uuid;
use wharf_domain::{
    EndpointId, EndpointSecret, EventKind, Health, OrganizationId, Secrets, ShaperName, TargetUrl,
    Time,
};

use self::health::HealthRow;
use crate::{
    Conn, KeyRing, StoreError, budgets,
    dialect::{Sql, statements},
    rows::without_nul,
    stores::digest_of,
    values::At,
};

pub(crate) use self::secrets::{RETIRED, SECRET, SealedRow, SealedSecrets};
pub use self::{
    health::{
        EndpointReceiver, HealthUpdate, LockedHealth, generations, lock_health, receivers,
        save_health,
    },
    listening::{Listening, ListeningPage, active, listening},
    overview::{Among, Figures, MAX_DUE, figures, overview},
};

statements! {
    // `do update` of nothing, because `do nothing` returns nothing.
    REGISTER = ["insert into webhook_endpoints (id, identity, organization_id, event, target_url, shaper, secret,
            created_at, updated_at, signs_v1a) values ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9)
        on conflict (identity) do update set identity = excluded.identity
        returning" endpoint_columns!()];
    LIST = ["select" endpoint_columns!() "from webhook_endpoints
        where organization_id = $1 and (" bytewise("event") "," bytewise("target_url") ") > ($2, $3)
        order by" bytewise("event") "," bytewise("target_url") "limit $4"];
    REGISTERED = ["select" endpoint_columns!() "from webhook_endpoints where identity = $1"];
    // No further than a limit: an organization of an older version may have any number.
    COUNT = ["select count(*) as number from
        (select 1 from webhook_endpoints where organization_id = $1 limit $2) e"];
    ONE = ["select" endpoint_columns!() "from webhook_endpoints where id = $1 and organization_id = $2"];
    LOCK = ["select" endpoint_columns!() "from webhook_endpoints where id = $1 and organization_id = $2" lock_rows];
    // `paced_until` starts anew: what an old rate used up says nothing about a new one.
    SAVE = ["update webhook_endpoints set identity = $2, target_url = $3, shaper = $4, is_active = $5,
            disabled_reason = $6, secret = $7, retired_secrets = $8, rate_per_minute = $9, paced_until = null,
            last_error = case when $10 = 0 then null else last_error end, failures = $10, failing_since = $11, pauses = $12, paused_until = $13, updated_at = $14, signs_v1a = $15,
            signing_root = $16, generation = $17
        where id = $1"];
    DELETE = ["delete from webhook_endpoints where id = $1 and organization_id = $2"];
}

/// Every statement about endpoints, by module.
pub(crate) const MODULES: [&[(&str, Sql)]; 4] = [ALL, health::ALL, listening::ALL, overview::ALL];

/// An endpoint to register.
pub struct NewEndpoint<'a> {
    /// The id that it gets if it is new.
    pub id: EndpointId,
    /// The organization that it belongs to.
    pub organization_id: &'a OrganizationId,
    /// The kind of event that it wants.
    pub event: EventKind,
    /// Its URL.
    pub target_url: &'a TargetUrl,
    /// The shaper of its payload.
    pub shaper: &'a ShaperName,
    /// Its deliveries are signed by a key pair (`v1a`) too.
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
    /// The organization that it belongs to.
    pub organization_id: OrganizationId,
    /// The kind of event that it wants.
    pub event: String,
    /// Its URL.
    pub target_url: String,
    /// The shaper of its payload.
    pub shaper: ShaperName,
    /// It is sent deliveries.
    pub is_active: bool,
    /// The reason why it is not.
    pub disabled_reason: Option<String>,
    /// Its deliveries are signed by a key pair (`v1a`) too.
    pub asymmetric: bool,
    /// At most so many deliveries a minute.
    pub rate_per_minute: Option<i64>,
    /// Its health.
    pub health: Health,
    /// The time when it was registered.
    pub created_at: Time,
    /// The time of its last change.
    pub updated_at: Time,
    generation: i64,
    identity: String,
    sealed: SealedSecrets,
}

impl Endpoint {
    /// The secrets that its deliveries are signed with.
    pub fn secrets(&self, keys: &KeyRing) -> Result<Secrets, StoreError> {
        self.sealed
            .open(keys, self.id, &self.identity, self.asymmetric)
    }

    /// Begins healthy, and a new generation: attempts that were made before say nothing of the endpoint any more.
    pub fn begin_anew(&mut self) {
        self.health = Health::default();
        self.generation += 1;
    }

    /// Sends it events again.
    pub fn enable(&mut self) {
        (self.is_active, self.disabled_reason) = (true, None);
        // Or the first failure from now on would find it failing since long ago and disable it again.
        self.begin_anew();
    }

    /// New secrets, sealed. A root that cannot be opened is given up: the new one is derived from the key that seals
    /// the new secret.
    fn reseal(
        &self,
        keys: &KeyRing,
        identity: &str,
        secrets: &Secrets,
        [for_current, for_retired, for_root]: [[u8; 24]; 3],
    ) -> SealedSecrets {
        let current = secrets.current().expose();
        let retired = secrets.expose_retired();
        SealedSecrets {
            current: keys.seal(SECRET, identity, current.as_bytes(), for_current),
            retired: retired.map(|text| keys.seal(RETIRED, identity, text.as_bytes(), for_retired)),
            root: self.sealed.kept_root(keys, self.id, for_root),
        }
    }
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
    #[sqlx(flatten)]
    sealed: SealedRow,
    identity: String,
    signs_v1a: bool,
    rate_per_minute: Option<i64>,
    generation: i64,
    #[sqlx(flatten)]
    health: HealthRow,
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
            health: row.health.into(),
            created_at: row.created_at.0,
            updated_at: row.updated_at.0,
            generation: row.generation,
            identity: row.identity,
            sealed: row.sealed.into(),
        }
    }
}

/// The key that tells endpoints apart, which their secrets are bound to.
fn identity_of(organization: &str, event: &str, target_url: &str) -> String {
    digest_of(&[organization, event, target_url])
}

/// Registers an endpoint; one with the same organization, event and URL stays as it is and is answered.
pub async fn register(
    conn: &mut Conn,
    keys: &KeyRing,
    new: &NewEndpoint<'_>,
    now: Time,
) -> Result<Endpoint, StoreError> {
    let identity = identity_of(
        new.organization_id.as_str(),
        new.event.as_str(),
        new.target_url.as_str(),
    );
    // Sealed also where the endpoint exists: the database alone knows, and one statement decides.
    let secret = keys.seal(SECRET, &identity, new.secret.expose().as_bytes(), new.nonce);
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

/// The endpoint that [registering](register) this one would find.
pub async fn registered(
    conn: &mut Conn,
    new: &NewEndpoint<'_>,
) -> Result<Option<Endpoint>, StoreError> {
    let identity = identity_of(
        new.organization_id.as_str(),
        new.event.as_str(),
        new.target_url.as_str(),
    );
    let row: Option<Row> = conn.query(REGISTERED).bind(identity).optional().await?;
    Ok(row.map(Endpoint::from))
}

/// True if the organization has fewer than `max` endpoints. Nobody else who asks so adds one until the transaction
/// ends.
pub async fn has_room(
    conn: &mut Conn,
    organization: &OrganizationId,
    max: i64,
    now: Time,
) -> Result<bool, StoreError> {
    // Counting locks nothing: two who count at the same time would both find the last place free.
    budgets::lock(conn, organization, "webhooks", now).await?;
    let query = conn.query(COUNT).bind(organization.as_str()).bind(max);
    Ok(query.number().await? < max)
}

/// The place of an endpoint in an organization's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListCursor {
    /// Its event.
    pub event: String,
    /// Its URL.
    pub target_url: String,
}

/// Up to `max` of the organization's endpoints behind `after` by event, then URL, compared byte by byte.
pub async fn list(
    conn: &mut Conn,
    organization: &OrganizationId,
    after: Option<&ListCursor>,
    max: i64,
) -> Result<Vec<Endpoint>, StoreError> {
    // No name is empty, so this is before the first.
    let (event, target_url) = after.map_or(("", ""), |after| (&after.event, &after.target_url));
    let query = conn.query(LIST).bind(organization.as_str()).bind(event);
    let rows: Vec<Row> = query.bind(target_url).bind(max).all().await?;
    Ok(rows.into_iter().map(Endpoint::from).collect())
}

/// One endpoint, if the organization has it.
pub async fn get(
    conn: &mut Conn,
    organization: &OrganizationId,
    id: EndpointId,
) -> Result<Option<Endpoint>, StoreError> {
    read(conn, ONE, organization, id).await
}

/// The same, held until the transaction ends, to be changed and [saved](save).
pub async fn lock(
    conn: &mut Conn,
    organization: &OrganizationId,
    id: EndpointId,
) -> Result<Option<Endpoint>, StoreError> {
    read(conn, LOCK, organization, id).await
}

async fn read(
    conn: &mut Conn,
    statement: Sql,
    organization: &OrganizationId,
    id: EndpointId,
) -> Result<Option<Endpoint>, StoreError> {
    let query = conn.query(statement).bind(id.0).bind(organization.as_str());
    let row: Option<Row> = query.optional().await?;
    Ok(row.map(Endpoint::from))
}

/// Writes a changed endpoint. Its secrets are bound to its URL and therefore encrypted anew; each nonce is random and
/// used once. Without secrets those that are stored stay, which is right only where the URL is unchanged.
/// [`StoreError::Taken`] if another one has its organization, event and URL.
///
/// Call it in the transaction that [locked](lock) it.
pub async fn save(
    conn: &mut Conn,
    keys: &KeyRing,
    endpoint: &Endpoint,
    secrets: Option<&Secrets>,
    nonces: [[u8; 24]; 3],
    now: Time,
) -> Result<(), StoreError> {
    let identity = identity_of(
        endpoint.organization_id.as_str(),
        &endpoint.event,
        &endpoint.target_url,
    );
    let sealed = match secrets {
        Some(secrets) => endpoint.reseal(keys, &identity, secrets, nonces),
        None => endpoint.sealed.clone(),
    };
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
        .bind(sealed.current.0)
        .bind(sealed.retired.map(|sealed| sealed.0))
        .bind(endpoint.rate_per_minute)
        .bind(failures)
        .bind(failing_since.map(At))
        .bind(pauses)
        .bind(paused_until.map(At))
        .time(now)
        .bind(endpoint.asymmetric)
        .bind(sealed.root.map(|sealed| sealed.0))
        .bind(endpoint.generation)
        .run()
        .await
        .map(drop)
}

/// Deletes an endpoint with what deliveries it has left, and returns whether there was one.
pub async fn delete(
    conn: &mut Conn,
    organization: &OrganizationId,
    id: EndpointId,
) -> Result<bool, StoreError> {
    let query = conn.query(DELETE).bind(id.0).bind(organization.as_str());
    Ok(query.run().await? > 0)
}
