//! The health of endpoints: locked, decided about in `wharf-domain`, saved.

use uuid::Uuid;
use wharf_domain::{EndpointId, Health, OrganizationId, Time};

use crate::{Conn, StoreError, dialect::statements, rows::Rows, values::At};

statements! {
    // In the order of ids, so that two workers never wait for each other crosswise.
    LOCK_HEALTH = ["select id, generation, failures, failing_since, pauses, paused_until from webhook_endpoints
        where is_active and id in (select id from" rows(r, id uuid) ") order by id" lock_rows];
    GENERATIONS = ["select id, generation from webhook_endpoints where id in (select id from" rows(r, id uuid) ")"];
    // `updated_at` is the owner's: it moves when an endpoint is disabled, not with each failure.
    SAVE_HEALTH = ["update webhook_endpoints set failures = r.failures, failing_since = r.failing_since,
            pauses = r.pauses, paused_until = r.paused_until, last_error = r.last_error,
            is_active = (r.reason is null), disabled_reason = r.reason,
            updated_at = case when r.reason is null then webhook_endpoints.updated_at else r.at end
        from" rows(r, id uuid, failures int, failing_since time, pauses int, paused_until time, last_error text,
            reason text, at time)
        "where webhook_endpoints.id = r.id"];
    RECEIVERS = ["select id, organization_id, event, target_url from webhook_endpoints
        where id in (select id from" rows(r, id uuid) ") order by organization_id, id"];
}

/// The columns that hold an endpoint's health.
#[derive(FromRow)]
pub(super) struct HealthRow {
    failures: i64,
    failing_since: Option<At>,
    pauses: i64,
    paused_until: Option<At>,
}

impl From<HealthRow> for Health {
    fn from(row: HealthRow) -> Self {
        Self {
            failures: row.failures,
            failing_since: row.failing_since.map(|at| at.0),
            pauses: row.pauses,
            paused_until: row.paused_until.map(|at| at.0),
        }
    }
}

/// An active endpoint, held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockedHealth {
    /// The endpoint.
    pub id: EndpointId,
    /// Its generation. Attempts that were made under another say nothing of it.
    pub generation: i64,
    /// Its health.
    pub health: Health,
}

/// Reads the health of those of these endpoints that are active and holds them until the transaction ends.
pub async fn lock_health(
    conn: &mut Conn,
    ids: impl IntoIterator<Item = EndpointId>,
) -> Result<Vec<LockedHealth>, StoreError> {
    #[derive(FromRow)]
    struct Row {
        id: Uuid,
        generation: i64,
        #[sqlx(flatten)]
        health: HealthRow,
    }
    let mut asked = Rows::new(conn);
    for id in ids {
        asked.push().uuid("id", id.0);
    }
    let rows: Vec<Row> = conn.query(LOCK_HEALTH).rows(&asked).all().await?;
    Ok(rows
        .into_iter()
        .map(|row| LockedHealth {
            id: EndpointId(row.id),
            generation: row.generation,
            health: row.health.into(),
        })
        .collect())
}

/// Returns the present generations of those of these endpoints that are there.
pub async fn generations(
    conn: &mut Conn,
    ids: impl IntoIterator<Item = EndpointId>,
) -> Result<Vec<(EndpointId, i64)>, StoreError> {
    let mut asked = Rows::new(conn);
    for id in ids {
        asked.push().uuid("id", id.0);
    }
    let rows: Vec<(Uuid, i64)> = conn.query(GENERATIONS).rows(&asked).all().await?;
    let rows = rows
        .into_iter()
        .map(|(id, number)| (EndpointId(id), number));
    Ok(rows.collect())
}

/// The health that an endpoint has from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthUpdate {
    /// The endpoint.
    pub id: EndpointId,
    /// Its health.
    pub health: Health,
    /// What the last failed attempt met, for operators; `None` since one succeeded.
    pub last_error: Option<String>,
    /// The reason why it is disabled; `None` leaves it active.
    pub disabled: Option<String>,
}

/// Writes the health of active endpoints. Call it in the transaction that [locked](lock_health) them.
pub async fn save_health(
    conn: &mut Conn,
    updates: &[HealthUpdate],
    now: Time,
) -> Result<(), StoreError> {
    if updates.is_empty() {
        return Ok(());
    }
    let mut rows = Rows::new(conn);
    for HealthUpdate {
        id,
        health,
        last_error,
        disabled,
    } in updates
    {
        rows.push()
            .uuid("id", id.0)
            .int("failures", health.failures)
            .time("failing_since", health.failing_since)
            .int("pauses", health.pauses)
            .time("paused_until", health.paused_until)
            .text("last_error", last_error.as_deref())
            .text("reason", disabled.as_deref())
            .time("at", now);
    }
    conn.query(SAVE_HEALTH).rows(&rows).run().await.map(drop)
}

/// Who is told what by an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointReceiver {
    /// The endpoint.
    pub id: EndpointId,
    /// The organization that it belongs to.
    pub organization_id: OrganizationId,
    /// The kind of event.
    pub event: String,
    /// Its URL.
    pub target_url: String,
}

/// The receivers of those of these endpoints that are there, sorted by organization.
pub async fn receivers(
    conn: &mut Conn,
    ids: impl IntoIterator<Item = EndpointId>,
) -> Result<Vec<EndpointReceiver>, StoreError> {
    let mut asked = Rows::new(conn);
    for id in ids {
        asked.push().uuid("id", id.0);
    }
    let rows: Vec<(Uuid, String, String, String)> =
        conn.query(RECEIVERS).rows(&asked).all().await?;
    let receiver = |(id, organization_id, event, target_url)| EndpointReceiver {
        id: EndpointId(id),
        organization_id: OrganizationId::from_stored(organization_id),
        event,
        target_url,
    };
    Ok(rows.into_iter().map(receiver).collect())
}
