//! Requests that their clients named by a key: each is carried out once, and its answer is kept to be given again. One
//! row a key, the same for all processes.

use wharf_domain::{OrganizationId, Time};

use crate::{Conn, KeyRing, Sealed, StoreError, dialect::statements, stores::digest_of};

statements! {
    // A row that is too old counts as none. One whose holder is gone is taken over, for the same content alone.
    BEGIN = ["insert into idempotency_keys (identity, organization_id, content, fence, held_until, created_at)
            values ($1, $2, $3, 1, $4, $5)
        on conflict (identity) do update set content = excluded.content, fence = idempotency_keys.fence + 1,
            held_until = excluded.held_until, created_at = excluded.created_at, answer = null
            where idempotency_keys.created_at <= $6 or (idempotency_keys.answer is null
                and idempotency_keys.held_until <= excluded.created_at and idempotency_keys.content = excluded.content)
        returning fence"];
    READ = ["select content, answer from idempotency_keys where identity = $1 and created_at > $2"];
    COUNT = ["select count(*) as number from
        (select 1 from idempotency_keys where organization_id = $1 limit $2) k"];
    // The fence: whoever was thought to be gone must not answer for whoever came after.
    FINISH = ["update idempotency_keys set answer = $3, held_until = null
        where identity = $1 and fence = $2 and answer is null"];
    RELEASE = ["delete from idempotency_keys where identity = $1 and fence = $2 and answer is null"];
    PURGE = ["with picked as materialized (select identity from idempotency_keys
            where created_at <= $1 order by created_at limit $2" skip_locked ")
        delete from idempotency_keys where identity in (select identity from picked)"];
}

/// The column that answers are kept in, which they are bound to. They may hold secrets.
const ANSWER: &str = "idempotency_keys.answer";

/// A request that its client named.
#[derive(Clone, Debug)]
pub struct KeyedRequest {
    /// The organization that it is for.
    pub organization_id: OrganizationId,
    /// Route, organization and key, as one digest.
    identity: String,
    /// All that the request says, as one digest.
    content: String,
}

impl KeyedRequest {
    /// A request to this route under this key, which says `content`.
    pub fn new(organization_id: OrganizationId, route: &str, key: &str, content: &str) -> Self {
        Self {
            identity: digest_of(&[route, organization_id.as_str(), key]),
            content: digest_of(&[content]),
            organization_id,
        }
    }
}

/// The right to carry a request out, until its holder is thought to be gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    identity: String,
    fence: i64,
}

/// The end of an attempt to begin a request.
#[derive(Debug)]
pub enum Begun {
    /// Nobody has begun it: it is ours.
    Ours(Claim),
    /// It was carried out, with this answer.
    Answered(Answer),
    /// Somebody is carrying it out.
    InWork,
    /// The key was used for another request.
    Reused,
}

/// An answer as it is stored.
#[derive(Debug)]
pub struct Answer {
    identity: String,
    sealed: Sealed,
}

impl Answer {
    /// The answer's bytes.
    ///
    /// # Errors
    /// [`StoreError::Unreadable`] if the key that it was sealed with has left.
    pub fn open(&self, keys: &KeyRing) -> Result<Vec<u8>, StoreError> {
        keys.open(ANSWER, &self.identity, &self.sealed)
    }
}

/// Begins a request, unless it was begun before. `held_until`: its holder is gone by then. Rows that were made at
/// `too_old` or before count as none.
pub async fn begin(
    conn: &mut Conn,
    request: &KeyedRequest,
    held_until: Time,
    too_old: Time,
    now: Time,
) -> Result<Begun, StoreError> {
    let query = conn.query(BEGIN).bind(request.identity.as_str());
    let query = query.bind(request.organization_id.as_str());
    let query = query.bind(request.content.as_str()).time(held_until);
    let ours: Option<(i64,)> = query.time(now).time(too_old).optional().await?;
    if let Some((fence,)) = ours {
        let identity = request.identity.clone();
        return Ok(Begun::Ours(Claim { identity, fence }));
    }
    // Gone between the two statements: it was given up just now, and may be begun at the next try.
    Ok(known(conn, request, too_old)
        .await?
        .unwrap_or(Begun::InWork))
}

/// Returns how far a request is that was begun before; `None` if it was not.
pub async fn known(
    conn: &mut Conn,
    request: &KeyedRequest,
    too_old: Time,
) -> Result<Option<Begun>, StoreError> {
    let query = conn.query(READ).bind(request.identity.as_str());
    let row: Option<(String, Option<Vec<u8>>)> = query.time(too_old).optional().await?;
    Ok(row.map(|(content, answer)| match answer {
        _ if content != request.content => Begun::Reused,
        None => Begun::InWork,
        Some(sealed) => Begun::Answered(Answer {
            identity: request.identity.clone(),
            sealed: Sealed(sealed),
        }),
    }))
}

/// Counts the organization's keys, no further than `max`.
pub async fn count(
    conn: &mut Conn,
    organization: &OrganizationId,
    max: i64,
) -> Result<i64, StoreError> {
    let query = conn.query(COUNT).bind(organization.as_str());
    query.bind(max).number().await
}

/// Keeps the answer of a request, in the transaction that carries it out. Returns false if somebody else has taken the
/// request over: then the transaction must not be committed.
pub async fn finish(
    conn: &mut Conn,
    keys: &KeyRing,
    claim: &Claim,
    answer: &[u8],
    nonce: [u8; 24],
) -> Result<bool, StoreError> {
    let sealed = keys.seal(ANSWER, &claim.identity, answer, nonce);
    let query = conn.query(FINISH).bind(claim.identity.as_str());
    Ok(query.bind(claim.fence).bind(sealed.0).run().await? > 0)
}

/// Gives a request up that was not carried out, so that it may be begun anew at once.
pub async fn release(conn: &mut Conn, claim: &Claim) -> Result<(), StoreError> {
    let query = conn.query(RELEASE).bind(claim.identity.as_str());
    query.bind(claim.fence).run().await.map(drop)
}

/// Removes up to `max` keys that were made at `too_old` or before. Returns how many.
pub async fn purge(conn: &mut Conn, too_old: Time, max: i64) -> Result<u64, StoreError> {
    conn.query(PURGE).time(too_old).bind(max).run().await
}
