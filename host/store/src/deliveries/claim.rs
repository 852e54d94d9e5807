//! Claiming deliveries: fence + 1 and a lease, within the endpoints' rate limits.

use std::time::Duration;

use uuid::Uuid;
use wharf_domain::{DeliveryId, EndpointId, EventId, RateLimit, Secrets, StoreId, Time};

use super::{Attempt, Fence, queue::allowed, settle::write_attempts};
use crate::{
    Conn, KeyRing, StoreError,
    dialect::statements,
    endpoints::{SealedRow, SealedSecrets},
    rows::Rows,
    values::{At, JsonText},
};

statements! {
    // Endpoints with a rate limit are held while their deliveries are claimed, so that all workers together keep to it.
    LOCK_RATE_LIMITED = ["select id, rate_per_minute, paced_until from webhook_endpoints
        where rate_per_minute is not null and id in (select id from" rows(r, id uuid) ") order by id" lock_rows];
    SAVE_RATE_LIMITED = ["update webhook_endpoints set paced_until = r.until from" rows(r, id uuid, until time)
        "where webhook_endpoints.id = r.id"];
    // One that is still claimed was begun by a worker that is gone: that attempt has its number, and is none of the
    // schedule's. Its claim was the last to set `updated_at`.
    CLAIM = [with_most_due "update callback_deliveries set fence = fence + 1, due_at = $3, claimed_by = $4, updated_at = $2,
            lost_at = case when claimed_by is not null then updated_at end,
            attempt = case when claimed_by is null then attempt else attempt + 1 end,
            schedule_base = case when claimed_by is null then schedule_base else schedule_base + 1 end
        where id in (select id from picked)
        returning id"];
    // Plain joins lose nothing: what is pending has its message, and goes with event and endpoint.
    LOAD = ["select d.id, d.fence, d.attempt, d.schedule_base, d.lost_at, d.outbox_id, d.endpoint_id, d.organization_id, o.event,
            o.store_id, o.created_at, o.traceparent, o.request_id, m.content_type, m.headers, m.body, e.target_url, e.is_active,
            e.generation, e.failures, e.secret, e.retired_secrets, e.signing_root, e.identity, e.signs_v1a
        from" rows(r, id uuid) "join callback_deliveries d on d.id = r.id
        join callback_outbox o on o.id = d.outbox_id
        join callback_messages m on m.outbox_id = d.outbox_id and m.shaper = d.shaper
        join webhook_endpoints e on e.id = d.endpoint_id"];
}

/// The error of an attempt whose worker is gone. Its request may have been sent: receivers drop it by the event's id.
const NOT_HEARD_OF: &str =
    "the process that began this attempt was not heard of again; the receiver may have got it";

/// A claimed delivery with everything that sending needs.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The fence, which settling must name.
    pub fence: Fence,
    /// The number of attempts before, those included that were not heard of again.
    pub attempts_before: i64,
    /// Attempts that the retry schedule does not count, because somebody asked for the delivery once more.
    pub schedule_base: i64,
    /// The event, which receivers drop duplicates by.
    pub event_id: EventId,
    /// The kind of event.
    pub event: String,
    /// The time when it happened.
    pub happened_at: Time,
    /// The W3C traceparent of its cause.
    pub traceparent: Option<String>,
    /// The request that caused the event.
    pub request_id: Option<String>,
    /// The store that it is about.
    pub store_id: StoreId,
    /// The organization that the event belongs to.
    pub organization_id: String,
    /// The endpoint that it goes to.
    pub endpoint_id: EndpointId,
    /// Its URL.
    pub target_url: String,
    /// The endpoint is not disabled.
    pub endpoint_is_active: bool,
    /// The endpoint's generation: what comes of the attempt counts for this one alone.
    pub endpoint_generation: i64,
    /// The endpoint's last attempts failed.
    pub endpoint_is_failing: bool,
    /// The content type of the body.
    pub content_type: String,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// The bytes to send.
    pub body: Vec<u8>,
    identity: String,
    asymmetric: bool,
    sealed: SealedSecrets,
}

impl Claimed {
    /// The secrets to sign with.
    pub fn secrets(&self, keys: &KeyRing) -> Result<Secrets, StoreError> {
        let endpoint = self.endpoint_id;
        self.sealed
            .open(keys, endpoint, &self.identity, self.asymmetric)
    }
}

/// An endpoint with a rate limit, held.
#[derive(FromRow)]
struct RateLimited {
    id: Uuid,
    rate_per_minute: i64,
    paced_until: Option<At>,
}

impl RateLimited {
    fn allowed(&self, now: Time) -> i64 {
        allowed(self.rate_per_minute, self.paced_until, now)
    }

    fn used_until(&self, taken: usize, now: Time) -> Time {
        let taken = i64::try_from(taken).unwrap_or(i64::MAX);
        let limit = RateLimit::per_minute(self.rate_per_minute);
        limit.after(self.paced_until.map(|at| at.0), taken, now)
    }
}

/// Claims for `worker`, until `now + lease`, due deliveries of each endpoint: as many as its share says, or fewer where
/// its rate limit is used up.
///
/// Call it in a transaction of its own.
pub async fn claim(
    conn: &mut Conn,
    shares: &[(EndpointId, i64)],
    worker: &str,
    lease: Duration,
    now: Time,
) -> Result<Vec<Claimed>, StoreError> {
    // Settling holds deliveries and then endpoints, the other way round. No deadlock: claiming skips what is locked.
    let rate_limited = lock_rate_limited(conn, shares).await?;
    let mut rows = Rows::new(conn);
    for (endpoint, share) in shares {
        let limit = rate_limited.iter().find(|row| row.id == endpoint.0);
        let most = limit.map_or(*share, |limit| limit.allowed(now).min(*share));
        rows.push()
            .uuid("endpoint_id", endpoint.0)
            .int("most", most);
    }
    let query = conn.query(CLAIM).rows(&rows).time(now);
    let ids = query.time(now + lease).bind(worker).ids().await?;
    let claimed = load(conn, ids, now).await?;
    save_rate_limited(conn, &rate_limited, &claimed, now).await?;
    Ok(claimed)
}

async fn lock_rate_limited(
    conn: &mut Conn,
    shares: &[(EndpointId, i64)],
) -> Result<Vec<RateLimited>, StoreError> {
    let mut rows = Rows::new(conn);
    for (endpoint, _) in shares {
        rows.push().uuid("id", endpoint.0);
    }
    conn.query(LOCK_RATE_LIMITED).rows(&rows).all().await
}

/// Counts what was claimed against the endpoints' rate limits.
async fn save_rate_limited(
    conn: &mut Conn,
    rate_limited: &[RateLimited],
    claimed: &[Claimed],
    now: Time,
) -> Result<(), StoreError> {
    if rate_limited.is_empty() {
        return Ok(());
    }
    let mut rows = Rows::new(conn);
    for limit in rate_limited {
        let theirs = claimed.iter().filter(|one| one.endpoint_id.0 == limit.id);
        let until = limit.used_until(theirs.count(), now);
        rows.push().uuid("id", limit.id).time("until", until);
    }
    conn.query(SAVE_RATE_LIMITED)
        .rows(&rows)
        .run()
        .await
        .map(drop)
}

#[derive(FromRow)]
struct LoadedRow {
    id: Uuid,
    fence: i64,
    attempt: i64,
    schedule_base: i64,
    lost_at: Option<At>,
    outbox_id: Uuid,
    endpoint_id: Uuid,
    organization_id: String,
    event: String,
    store_id: Uuid,
    created_at: At,
    traceparent: Option<String>,
    request_id: Option<String>,
    content_type: String,
    headers: JsonText,
    body: Vec<u8>,
    target_url: String,
    is_active: bool,
    generation: i64,
    failures: i64,
    #[sqlx(flatten)]
    sealed: SealedRow,
    identity: String,
    signs_v1a: bool,
}

impl TryFrom<LoadedRow> for Claimed {
    type Error = StoreError;
    fn try_from(row: LoadedRow) -> Result<Self, StoreError> {
        Ok(Self {
            fence: Fence {
                id: DeliveryId(row.id),
                number: row.fence,
            },
            attempts_before: row.attempt,
            schedule_base: row.schedule_base,
            event_id: EventId(row.outbox_id),
            event: row.event,
            happened_at: row.created_at.0,
            traceparent: row.traceparent,
            request_id: row.request_id,
            store_id: StoreId(row.store_id),
            organization_id: row.organization_id,
            endpoint_id: EndpointId(row.endpoint_id),
            target_url: row.target_url,
            endpoint_is_active: row.is_active,
            endpoint_generation: row.generation,
            endpoint_is_failing: row.failures > 0,
            content_type: row.content_type,
            headers: serde_json::from_str(&row.headers.0)
                .map_err(|why| StoreError::unreadable("callback_messages.headers", why))?,
            body: row.body,
            identity: row.identity,
            asymmetric: row.signs_v1a,
            sealed: row.sealed.into(),
        })
    }
}

/// Bodies come after the claim, so that only what is ours is read.
async fn load(conn: &mut Conn, claimed: Vec<Uuid>, now: Time) -> Result<Vec<Claimed>, StoreError> {
    if claimed.is_empty() {
        return Ok(Vec::new());
    }
    let mut ids = Rows::new(conn);
    for id in claimed {
        ids.push().uuid("id", id);
    }
    let rows: Vec<LoadedRow> = conn.query(LOAD).rows(&ids).all().await?;
    write_lost(conn, &rows, now).await?;
    rows.into_iter().map(Claimed::try_from).collect()
}

/// Shows the attempts of workers that are gone, of those deliveries that were taken over from one.
async fn write_lost(conn: &mut Conn, rows: &[LoadedRow], now: Time) -> Result<(), StoreError> {
    let lost = rows.iter().filter_map(|row| Some((row, row.lost_at?.0)));
    let lost: Vec<_> = lost
        .map(|(row, began)| {
            let attempt = Attempt {
                started_at: began,
                latency: now.since(began),
                http_status: None,
                error: Some(NOT_HEARD_OF.into()),
                response: None,
            };
            (DeliveryId(row.id), row.attempt, attempt)
        })
        .collect();
    write_attempts(
        conn,
        lost.iter().map(|(id, number, one)| (*id, *number, one)),
    )
    .await
}
