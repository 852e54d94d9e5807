//! API keys. Their secrets are not kept: only an HMAC of each, made with a subkey of the host's key.

use uuid::Uuid;
use wharf_domain::{ApiKeyId, KeyScopes, OrganizationId, Time};

use crate::{
    Conn, KeyRing, StoreError, budgets, dialect::statements, key_ring::MacCheck, rows::Rows,
    values::At,
};

statements! {
    INSERT = ["insert into api_keys (id, organization_id, name, scopes, mac, made_by, created_at, expires_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8)"];
    ONE = ["select id, organization_id, name, scopes, mac, made_by, created_at, expires_at, last_used_at, revoked_at
        from api_keys where id = $1"];
    // Newest first, by id, which sorts by time.
    LIST = ["select id, organization_id, name, scopes, mac, made_by, created_at, expires_at, last_used_at, revoked_at
        from api_keys where id < $1 order by id desc limit $2"];
    LIST_OF = ["select id, organization_id, name, scopes, mac, made_by, created_at, expires_at, last_used_at, revoked_at
        from api_keys where coalesce(organization_id, '') = $3 and id < $1 order by id desc limit $2"];
    COUNT_LIVE = ["select count(*) as number from (select 1 from api_keys where coalesce(organization_id, '') = $1
        and revoked_at is null and (expires_at is null or expires_at > $2) limit $3) k"];
    // The first time stays: a repeat says nothing new.
    REVOKE = ["update api_keys set revoked_at = coalesce(revoked_at, $2) where id = $1"];
    PURGE = ["delete from api_keys where id in (select id from api_keys where coalesce(organization_id, '') = $1
        and coalesce(revoked_at, expires_at) <= $2 order by id limit $3)"];
    // In the order of ids, as everybody locks them, so that no two processes wait for each other in a circle.
    LOCK = ["select id from api_keys where id in (select id from" rows(r, id uuid) ") order by id" lock_rows];
    USED = ["update api_keys set last_used_at = r.at from" rows(r, id uuid, at time)
        "where api_keys.id = r.id and (api_keys.last_used_at is null or api_keys.last_used_at < r.at)"];
    REPLACE_MACS = ["update api_keys set mac = r.mac from" rows(r, id uuid, stored bytes, mac bytes)
        "where api_keys.id = r.id and api_keys.mac = r.stored"];
}

/// A key as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// The organization that it is of; `None` for an operator's.
    pub organization_id: Option<OrganizationId>,
    /// Its name for people.
    pub name: String,
    /// What it may be used for.
    pub scopes: KeyScopes,
    /// Who made it.
    pub made_by: String,
    /// When it was made.
    pub created_at: Time,
    /// When it ends; `None`: when it is revoked.
    pub expires_at: Option<Time>,
    /// When it was last used, to the minute, some seconds late.
    pub last_used_at: Option<Time>,
    /// When it was revoked.
    pub revoked_at: Option<Time>,
    mac: Vec<u8>,
}

/// A key to be stored.
#[derive(Clone, Debug)]
pub struct NewApiKey<'a> {
    /// Its id.
    pub id: ApiKeyId,
    /// The organization that it is of; `None` for an operator's.
    pub organization_id: Option<&'a OrganizationId>,
    /// Its name for people.
    pub name: &'a str,
    /// What it may be used for.
    pub scopes: KeyScopes,
    /// Who makes it.
    pub made_by: &'a str,
    /// When it ends.
    pub expires_at: Option<Time>,
}

/// The end of holding a secret against a stored key.
#[derive(Debug, PartialEq, Eq)]
pub enum Held {
    /// It is the key's.
    Right {
        /// The key's HMAC with the first key of the ring, where it was made with another one.
        renewed: Option<RenewedMac>,
    },
    /// It is another one.
    Wrong,
    /// The HMAC was made with a host's key that is not in the ring.
    Unknown,
}

/// An HMAC made anew, to take the place of the one that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenewedMac {
    stored: Vec<u8>,
    mac: Vec<u8>,
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    organization_id: Option<String>,
    name: String,
    scopes: String,
    mac: Vec<u8>,
    made_by: String,
    created_at: At,
    expires_at: Option<At>,
    last_used_at: Option<At>,
    revoked_at: Option<At>,
}

impl From<Row> for ApiKey {
    fn from(row: Row) -> Self {
        let time = |at: Option<At>| at.map(|at| at.0);
        Self {
            id: ApiKeyId(row.id),
            organization_id: row.organization_id.map(OrganizationId::from_stored),
            name: row.name,
            scopes: KeyScopes::from_stored(&row.scopes),
            made_by: row.made_by,
            created_at: row.created_at.0,
            expires_at: time(row.expires_at),
            last_used_at: time(row.last_used_at),
            revoked_at: time(row.revoked_at),
            mac: row.mac,
        }
    }
}

/// What the HMAC is over besides the secret: a secret is good for its own row alone.
fn message(id: ApiKeyId, secret: &[u8]) -> Vec<u8> {
    [id.0.as_bytes(), secret].concat()
}

impl ApiKey {
    /// Holds a secret against this key, in a time that tells nothing of either.
    pub fn hold(&self, keys: &KeyRing, secret: &[u8; 32]) -> Held {
        let message = message(self.id, secret);
        match keys.check_mac(&self.mac, &message) {
            MacCheck::ByFirst => Held::Right { renewed: None },
            MacCheck::ByOther => Held::Right {
                renewed: Some(RenewedMac {
                    stored: self.mac.clone(),
                    mac: keys.mac(&message),
                }),
            },
            MacCheck::Different => Held::Wrong,
            MacCheck::UnknownKey => Held::Unknown,
        }
    }
}

fn owner(organization: Option<&OrganizationId>) -> &str {
    organization.map_or("", OrganizationId::as_str)
}

/// Stores a key.
///
/// Call it in a transaction that holds the canary of the ring's first key.
pub async fn add(
    conn: &mut Conn,
    keys: &KeyRing,
    new: &NewApiKey<'_>,
    secret: &[u8; 32],
    now: Time,
) -> Result<(), StoreError> {
    let query = conn.query(INSERT).bind(new.id.0);
    let query = query.bind(new.organization_id.map(OrganizationId::as_str));
    let query = query.bind(new.name).bind(new.scopes.to_string());
    let query = query.bind(keys.mac(&message(new.id, secret)));
    let query = query.bind(new.made_by).time(now);
    query.bind(new.expires_at.map(At)).run().await.map(drop)
}

/// The key with this id.
pub async fn get(conn: &mut Conn, id: ApiKeyId) -> Result<Option<ApiKey>, StoreError> {
    let row: Option<Row> = conn.query(ONE).bind(id.0).optional().await?;
    Ok(row.map(ApiKey::from))
}

/// Whose keys are to be listed.
#[derive(Clone, Copy, Debug)]
pub enum Whose<'a> {
    /// All.
    Everybody,
    /// One organization's.
    Organization(&'a OrganizationId),
}

/// Up to `max` keys that were made before the one with the id `before`, the newest first; revoked ones too.
pub async fn list(
    conn: &mut Conn,
    whose: Whose<'_>,
    before: Option<ApiKeyId>,
    max: i64,
) -> Result<Vec<ApiKey>, StoreError> {
    let before = before.map_or(Uuid::max(), |id| id.0);
    let rows: Vec<Row> = match whose {
        Whose::Everybody => conn.query(LIST).bind(before).bind(max).all().await?,
        Whose::Organization(organization) => {
            let query = conn.query(LIST_OF).bind(before).bind(max);
            query.bind(organization.as_str()).all().await?
        }
    };
    Ok(rows.into_iter().map(ApiKey::from).collect())
}

/// True if the organization, or the operator, has fewer than `max` keys that can be used. Nobody else who asks so adds one
/// until the transaction ends.
pub async fn has_room(
    conn: &mut Conn,
    organization: Option<&OrganizationId>,
    max: i64,
    now: Time,
) -> Result<bool, StoreError> {
    budgets::lock_named(conn, owner(organization), "keys", now).await?;
    let query = conn.query(COUNT_LIVE).bind(owner(organization));
    Ok(query.time(now).bind(max).number().await? < max)
}

/// Removes up to `max` keys of the organization, or of the operator, that ended at `too_old` or before.
pub async fn purge(
    conn: &mut Conn,
    organization: Option<&OrganizationId>,
    too_old: Time,
    max: i64,
) -> Result<u64, StoreError> {
    let query = conn.query(PURGE).bind(owner(organization));
    query.time(too_old).bind(max).run().await
}

/// Revokes a key, if it is not yet. Returns false if there is none.
pub async fn revoke(conn: &mut Conn, id: ApiKeyId, now: Time) -> Result<bool, StoreError> {
    Ok(conn.query(REVOKE).bind(id.0).time(now).run().await? > 0)
}

/// Notes when keys were used, and puts in what was made anew. The rows are held until the transaction ends.
pub async fn note_use(
    conn: &mut Conn,
    used: &[(ApiKeyId, Time, Option<RenewedMac>)],
) -> Result<(), StoreError> {
    let (mut times, mut macs) = (Rows::new(conn), Rows::new(conn));
    for (id, at, renewed) in used {
        times.push().uuid("id", id.0).time("at", *at);
        if let Some(renewed) = renewed {
            let row = macs.push().uuid("id", id.0);
            row.bytes("stored", &renewed.stored)
                .bytes("mac", &renewed.mac);
        }
    }
    conn.query(LOCK).rows(&times).run().await?;
    conn.query(USED).rows(&times).run().await?;
    if !macs.is_empty() {
        conn.query(REPLACE_MACS).rows(&macs).run().await?;
    }
    Ok(())
}
