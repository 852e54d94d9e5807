//! Deliveries: one event on its way to one endpoint. Claimed in turns between endpoints, sent with nothing held,
//! settled behind the fence.

use std::time::Duration;

use sqlx::FromRow;
use uuid::Uuid;
use wharf_domain::{DeliveryId, DeliveryState, EndpointId, EventId, RateLimit, Secrets, Time};

use crate::{
    Conn, EncryptionKey, Sealed, StoreError,
    dialect::statements,
    endpoints::SealedSecrets,
    rows::Rows,
    values::{At, JsonText},
};

statements! {
    /// Walks the index from one endpoint with unfinished deliveries to the next, without touching what lies between.
    ENDPOINT_QUEUES = ["with recursive endpoint_queues (endpoint_id, n) as (
            select (select d.endpoint_id from callback_deliveries d
                    where d.due_at is not null and d.endpoint_id > $1 order by d.endpoint_id limit 1), cast(1 as bigint)
            union all
            select (select d.endpoint_id from callback_deliveries d
                    where d.due_at is not null and d.endpoint_id > endpoint_queues.endpoint_id order by d.endpoint_id limit 1), n + 1
            from endpoint_queues where endpoint_queues.endpoint_id is not null and n < $3)
        select endpoint_queues.endpoint_id, e.organization_id, e.pauses, e.rate_per_minute, e.paced_until,
            (e.paused_until is null or e.paused_until <= $2)
                and coalesce((select d.due_at from callback_deliveries d where d.endpoint_id = endpoint_queues.endpoint_id
                    and d.due_at is not null order by d.due_at limit 1) <= $2, 1 = 0) as due
        from endpoint_queues join webhook_endpoints e on e.id = endpoint_queues.endpoint_id order by endpoint_queues.endpoint_id"];
    /// Endpoints with a pace are held while their deliveries are claimed, so that all workers together keep to it.
    RATE_LIMITED = ["select id, rate_per_minute, paced_until from webhook_endpoints
        where rate_per_minute is not null and id in (select id from" rows(r, id uuid) ") order by id" lock_rows];
    SET_RATE_LIMITED = ["update webhook_endpoints set paced_until = r.until from" rows(r, id uuid, until time)
        "where webhook_endpoints.id = r.id"];
    CLAIM = ["update callback_deliveries set fence = fence + 1, due_at = $3, claimed_by = $4, updated_at = $2
        where id in (select id from callback_deliveries where endpoint_id = $1 and due_at <= $2
            order by due_at, id limit $5" skip_locked ")
        returning id"];
    LOAD = ["select d.id, d.fence, d.attempt, d.schedule_base, d.outbox_id, d.endpoint_id, d.organization_id, o.event,
            o.store_id, o.created_at, o.traceparent, m.content_type, m.headers, m.body, e.target_url, e.is_active,
            e.failures, e.secret, e.retired_secrets, e.identity, e.signs_v1a
        from" rows(r, id uuid) "join callback_deliveries d on d.id = r.id
        join callback_outbox o on o.id = d.outbox_id
        join callback_messages m on m.outbox_id = d.outbox_id and m.shaper = d.shaper
        join webhook_endpoints e on e.id = d.endpoint_id"];
    /// Not once it is settled: then `due_at` is its next attempt and no lease.
    RENEW = ["update callback_deliveries set due_at = r.due_at from" rows(r, id uuid, fence int, due_at time)
        "where callback_deliveries.id = r.id and callback_deliveries.fence = r.fence
            and callback_deliveries.claimed_by is not null returning callback_deliveries.id"];
    /// Two workers that settle deliveries of one event wait for each other here, so that the later one counts both.
    LOCK_EVENTS = ["select id from callback_outbox where id in (select id from" rows(r, id uuid) ") order by id" lock_rows];
    SETTLE = ["update callback_deliveries set state = r.state, attempt = r.attempt, due_at = r.due_at, claimed_by = null,
            last_error = r.last_error, updated_at = r.at
        from" rows(r, id uuid, fence int, state text, attempt int, due_at time, last_error text, at time)
        "where callback_deliveries.id = r.id and callback_deliveries.fence = r.fence
            and callback_deliveries.state = 'pending' returning callback_deliveries.id"];
    ATTEMPTS = ["insert into callback_attempts (delivery_id, attempt, started_at, latency_us, http_status, error, response)
        select delivery_id, attempt, started_at, latency_us, http_status, error, response
        from" rows(r, delivery_id uuid, attempt int, started_at time, latency_us int, http_status int, error text,
            response text)
        "where true on conflict (delivery_id, attempt) do nothing"];
    AGGREGATE = ["update callback_outbox set
            status = case when a.pending > 0 or callback_outbox.due_at is not null then 'pending' when a.failed > 0 then 'failed' else 'success' end,
            attempt = a.attempt, next_retry_at = a.next_retry_at, updated_at = a.updated_at,
            last_error = case when callback_outbox.due_at is null then a.last_error
                else coalesce(a.last_error, callback_outbox.last_error) end
        from (select d.outbox_id, sum(case when d.state = 'pending' then 1 else 0 end) as pending,
                sum(case when d.state = 'failed' then 1 else 0 end) as failed, max(d.attempt) as attempt,
                min(d.due_at) as next_retry_at, max(d.last_error) as last_error, max(d.updated_at) as updated_at
            from callback_deliveries d where d.outbox_id in (select id from" rows(r, id uuid) ")
            group by d.outbox_id) a
        where callback_outbox.id = a.outbox_id"];
    UNWANTED = ["update callback_outbox set status = 'success', next_retry_at = null
        where status = 'pending' and due_at is null and id in (select id from" rows(r, id uuid) ")
            and not exists (select 1 from callback_deliveries d where d.outbox_id = callback_outbox.id)"];
    GIVE_BACK = ["update callback_deliveries set due_at = r.due_at, claimed_by = null
        from" rows(r, id uuid, fence int, due_at time)
        "where callback_deliveries.id = r.id and callback_deliveries.fence = r.fence
            and callback_deliveries.claimed_by is not null returning callback_deliveries.id"];
    COUNT_DUE = ["select count(*) as number from
        (select 1 from callback_deliveries where due_at <= $1 limit $2) d"];
}

/// An endpoint with unfinished deliveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointQueue {
    /// The endpoint.
    pub endpoint_id: EndpointId,
    /// Whose it is.
    pub organization_id: String,
    /// How many of its deliveries may begin at most: none where nothing is due, the circuit is open or the pace is
    /// used up.
    pub ready: usize,
    /// Its circuit was opened: one delivery at a time probes.
    pub probing: bool,
}

/// Up to `most` endpoints with unfinished deliveries after `after`, in the order of ids. Fewer: it was the last page,
/// go on from the beginning (`EndpointId(Uuid::nil())`).
pub async fn endpoint_queues(
    conn: &mut Conn,
    after: EndpointId,
    most: i64,
    now: Time,
) -> Result<Vec<EndpointQueue>, StoreError> {
    #[derive(FromRow)]
    struct Row {
        endpoint_id: Uuid,
        organization_id: String,
        pauses: i64,
        rate_per_minute: Option<i64>,
        paced_until: Option<At>,
        due: bool,
    }
    let ready = |row: &Row| match row.rate_per_minute {
        _ if !row.due => 0,
        Some(rate) => allowed(rate, row.paced_until, now).try_into().unwrap_or(0),
        None => usize::MAX,
    };
    let rows: Vec<Row> = conn
        .query(ENDPOINT_QUEUES)
        .bind(after.0)
        .time(now)
        .bind(most)
        .all()
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| EndpointQueue {
            endpoint_id: EndpointId(row.endpoint_id),
            ready: ready(&row),
            probing: row.pauses > 0,
            organization_id: row.organization_id,
        })
        .collect())
}

fn allowed(rate_per_minute: i64, paced_until: Option<At>, now: Time) -> i64 {
    RateLimit::per_minute(rate_per_minute).allowed(paced_until.map(|at| at.0), now)
}

/// The right to send one delivery, until the lease ends or somebody claims it after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fence {
    /// The delivery.
    pub id: DeliveryId,
    /// The number of the claim.
    pub number: i64,
}

/// A claimed delivery with everything that sending needs.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// What settling must name.
    pub fence: Fence,
    /// How often it was sent before.
    pub attempts_before: i64,
    /// How many of these the retry schedule does not count, because somebody asked for the delivery once more.
    pub schedule_base: i64,
    /// The event, which receivers drop duplicates by.
    pub event_id: EventId,
    /// What happened.
    pub event: String,
    /// When it happened.
    pub happened_at: Time,
    /// The W3C traceparent of its cause.
    pub traceparent: Option<String>,
    /// About which store.
    pub store_id: wharf_domain::StoreId,
    /// Whose event it is.
    pub organization_id: String,
    /// Where to.
    pub endpoint_id: EndpointId,
    /// Its URL.
    pub target_url: String,
    /// Whether the endpoint still wants anything.
    pub endpoint_is_active: bool,
    /// Whether its last attempts failed.
    pub endpoint_is_failing: bool,
    /// The content type of the body.
    pub content_type: String,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// The bytes to send.
    pub body: Vec<u8>,
    identity: String,
    asymmetric: bool,
    secret: Sealed,
    retired_secrets: Option<Sealed>,
}

impl Claimed {
    /// The secrets to sign with.
    pub fn secrets(&self, key: &EncryptionKey) -> Result<Secrets, StoreError> {
        SealedSecrets {
            endpoint_id: self.endpoint_id,
            identity: &self.identity,
            current: &self.secret,
            retired: self.retired_secrets.as_ref(),
            asymmetric: self.asymmetric,
        }
        .open(key)
    }
}

#[derive(FromRow)]
struct IdRow {
    id: Uuid,
}

/// Claims up to `take` due deliveries of each endpoint for `worker`, until `now + lease`. An endpoint's pace may make it
/// fewer.
///
/// Call it in a transaction of its own.
pub async fn claim(
    conn: &mut Conn,
    endpoint_queues: &[(EndpointId, i64)],
    worker: &str,
    lease: Duration,
    now: Time,
) -> Result<Vec<Claimed>, StoreError> {
    let rate_limited = rate_limited(conn, endpoint_queues).await?;
    let (mut claimed, mut used) = (Rows::new(conn), Rows::new(conn));
    for (endpoint, take) in endpoint_queues {
        let rate_limited = rate_limited.iter().find(|row| row.id == endpoint.0);
        let take = rate_limited.map_or(*take, |row| {
            allowed(row.rate_per_minute, row.paced_until, now).min(*take)
        });
        let query = conn
            .query(CLAIM)
            .bind(endpoint.0)
            .time(now)
            .time(now + lease)
            .bind(worker)
            .bind(take);
        let ids: Vec<IdRow> = query.all().await?;
        if let Some(row) = rate_limited {
            let taken = i64::try_from(ids.len()).unwrap_or(i64::MAX);
            let until = RateLimit::per_minute(row.rate_per_minute).after(
                row.paced_until.map(|at| at.0),
                taken,
                now,
            );
            used.push().uuid("id", row.id).time("until", until);
        }
        for row in ids {
            claimed.push().uuid("id", row.id);
        }
    }
    if !used.is_empty() {
        conn.query(SET_RATE_LIMITED).rows(&used).run().await?;
    }
    load(conn, &claimed).await
}

#[derive(FromRow)]
struct RateLimitRow {
    id: Uuid,
    rate_per_minute: i64,
    paced_until: Option<At>,
}

async fn rate_limited(
    conn: &mut Conn,
    endpoint_queues: &[(EndpointId, i64)],
) -> Result<Vec<RateLimitRow>, StoreError> {
    let mut rows = Rows::new(conn);
    for (endpoint, _) in endpoint_queues {
        rows.push().uuid("id", endpoint.0);
    }
    conn.query(RATE_LIMITED).rows(&rows).all().await
}

async fn load(conn: &mut Conn, claimed: &Rows) -> Result<Vec<Claimed>, StoreError> {
    #[derive(FromRow)]
    struct Row {
        id: Uuid,
        fence: i64,
        attempt: i64,
        schedule_base: i64,
        outbox_id: Uuid,
        endpoint_id: Uuid,
        organization_id: String,
        event: String,
        store_id: Uuid,
        created_at: At,
        traceparent: Option<String>,
        content_type: String,
        headers: JsonText,
        body: Vec<u8>,
        target_url: String,
        is_active: bool,
        failures: i64,
        secret: Vec<u8>,
        retired_secrets: Option<Vec<u8>>,
        identity: String,
        signs_v1a: bool,
    }
    let rows: Vec<Row> = conn.query(LOAD).rows(claimed).all().await?;
    rows.into_iter()
        .map(|row| {
            Ok(Claimed {
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
                store_id: wharf_domain::StoreId(row.store_id),
                organization_id: row.organization_id,
                endpoint_id: EndpointId(row.endpoint_id),
                target_url: row.target_url,
                endpoint_is_active: row.is_active,
                endpoint_is_failing: row.failures > 0,
                content_type: row.content_type,
                headers: serde_json::from_str(&row.headers.0)
                    .map_err(|why| StoreError::unreadable("callback_messages.headers", why))?,
                body: row.body,
                identity: row.identity,
                asymmetric: row.signs_v1a,
                secret: Sealed(row.secret),
                retired_secrets: row.retired_secrets.map(Sealed),
            })
        })
        .collect()
}

fn fence_rows(conn: &Conn, fences: &[Fence], due_at: Time) -> Rows {
    let mut rows = Rows::new(conn);
    for fence in fences {
        rows.push()
            .uuid("id", fence.id.0)
            .int("fence", fence.number)
            .time("due_at", due_at);
    }
    rows
}

/// Prolongs leases; answers those that still hold.
pub async fn renew(
    conn: &mut Conn,
    fences: &[Fence],
    until: Time,
) -> Result<Vec<DeliveryId>, StoreError> {
    let rows = fence_rows(conn, fences, until);
    let held: Vec<IdRow> = conn.query(RENEW).rows(&rows).all().await?;
    Ok(held.into_iter().map(|row| DeliveryId(row.id)).collect())
}

/// Gives deliveries back that were not sent, to be claimed from `due_at` on.
pub async fn give_back(conn: &mut Conn, fences: &[Fence], due_at: Time) -> Result<(), StoreError> {
    let rows = fence_rows(conn, fences, due_at);
    conn.query(GIVE_BACK).rows(&rows).run().await.map(drop)
}

/// What one attempt did, for the attempts log.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// When it was sent.
    pub started_at: Time,
    /// How long the answer took.
    pub latency: Duration,
    /// The answer's status; `None` when none came.
    pub http_status: Option<u16>,
    /// What went wrong, for people.
    pub error: Option<String>,
    /// The first bytes of the answer.
    pub response: Option<String>,
}

/// A delivery after an attempt.
#[derive(Clone, Debug)]
pub struct SettledDelivery {
    /// The claim.
    pub fence: Fence,
    /// The event.
    pub event_id: EventId,
    /// How often it was sent, this time included.
    pub attempt_number: i64,
    /// Where it stands now.
    pub state: DeliveryState,
    /// When to send again, exactly when it is pending.
    pub due_at: Option<Time>,
    /// The attempt.
    pub attempt: Attempt,
}

/// Writes attempts, new states and the events' aggregates, where the fence still holds. Answers those it holds for;
/// of the others nothing is written.
///
/// Call it in a transaction of its own.
pub async fn settle(
    conn: &mut Conn,
    settled: &[SettledDelivery],
    now: Time,
) -> Result<Vec<DeliveryId>, StoreError> {
    let mut events = Rows::new(conn);
    let mut rows = Rows::new(conn);
    for one in settled {
        events.push().uuid("id", one.event_id.0);
        rows.push()
            .uuid("id", one.fence.id.0)
            .int("fence", one.fence.number)
            .text("state", one.state.as_str())
            .int("attempt", one.attempt_number)
            .time("due_at", one.due_at)
            .text("last_error", one.attempt.error.as_deref())
            .time("at", now);
    }
    lock_events(conn, &events).await?;
    let held: Vec<IdRow> = conn.query(SETTLE).rows(&rows).all().await?;
    let held: Vec<DeliveryId> = held.into_iter().map(|row| DeliveryId(row.id)).collect();
    let mut rows = Rows::new(conn);
    for one in settled.iter().filter(|one| held.contains(&one.fence.id)) {
        let latency_us = i64::try_from(one.attempt.latency.as_micros()).unwrap_or(i64::MAX);
        rows.push()
            .uuid("delivery_id", one.fence.id.0)
            .int("attempt", one.attempt_number)
            .time("started_at", one.attempt.started_at)
            .int("latency_us", latency_us)
            .int("http_status", one.attempt.http_status.map(i64::from))
            .text("error", one.attempt.error.as_deref())
            .text("response", one.attempt.response.as_deref());
    }
    conn.query(ATTEMPTS).rows(&rows).run().await?;
    conn.query(AGGREGATE).rows(&events).run().await?;
    Ok(held)
}

/// Holds events until the transaction ends. Whoever changes deliveries of an event does this first, and [`aggregate`]
/// last.
pub(crate) async fn lock_events(conn: &mut Conn, events: &Rows) -> Result<(), StoreError> {
    conn.query(LOCK_EVENTS).rows(events).run().await.map(drop)
}

/// Brings the rows of events up to date with their deliveries. One that has none left is done.
pub(crate) async fn aggregate(conn: &mut Conn, events: &Rows) -> Result<(), StoreError> {
    conn.query(AGGREGATE).rows(events).run().await?;
    conn.query(UNWANTED).rows(events).run().await.map(drop)
}

/// How many deliveries are due, counting no further than `most`.
pub async fn count_due(conn: &mut Conn, most: i64, now: Time) -> Result<i64, StoreError> {
    #[derive(FromRow)]
    struct Row {
        number: i64,
    }
    Ok(conn
        .query(COUNT_DUE)
        .time(now)
        .bind(most)
        .one::<Row>()
        .await?
        .number)
}
