//! The endpoints that an event goes to.

use sqlx::FromRow;
use uuid::Uuid;
use wharf_domain::EndpointId;

use crate::{Conn, StoreError, dialect::statements, rows::Rows};

statements! {
    // The active endpoints of each wanted (organization, event).
    LISTENING = ["select e.id, e.organization_id, e.event, e.shaper from webhook_endpoints e
        join" rows(r, organization_id text, event text)
        "on r.organization_id = e.organization_id and r.event = e.event where e.is_active order by e.id"];
}

/// An active endpoint that wants to know of an event.
#[derive(Clone, Debug)]
pub struct Listening {
    /// The endpoint.
    pub id: EndpointId,
    /// The organization that it belongs to.
    pub organization_id: String,
    /// The event.
    pub event: String,
    /// The shaper of its payload.
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
