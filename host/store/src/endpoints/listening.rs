//! The endpoints that an event goes to.

use uuid::Uuid;
use wharf_domain::EndpointId;

use crate::{Conn, StoreError, dialect::statements, rows::Rows};

statements! {
    // Of each wanted page the active endpoints, up to the last that it may hold ($2 = that many less one), or all ($3 =
    // the largest id). Not by `limit`: SQLite has no lateral join, which could limit each page in a single statement.
    // Materialized: PostgreSQL would look the last one up again for each endpoint that it joins.
    LISTENING = ["with p as materialized (select r.page, r.organization_id, r.event, r.place, coalesce(
                (select x.id from webhook_endpoints x
                where x.organization_id = r.organization_id and x.event = r.event and x.is_active and x.id > r.place
                order by x.id limit 1 offset $2), $3) as last
            from" rows(r, page int, organization_id text, event text, place uuid) ")
        select p.page, e.id, e.shaper from p join webhook_endpoints e
            on e.organization_id = p.organization_id and e.event = p.event and e.id > p.place and e.id <= p.last
        where e.is_active order by p.page, e.id"];
    ACTIVE = ["select id, shaper from webhook_endpoints where is_active and id in (select id from" rows(r, id uuid) ")"];
}

/// An active endpoint that wants to know of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// The endpoint.
    pub id: EndpointId,
    /// The shaper of its payload.
    pub shaper: String,
}

/// A page of an organization's active endpoints that want to know of a kind of event, in the order of their ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListeningPage<'a> {
    /// The organization.
    pub organization: &'a str,
    /// The kind of event.
    pub event: &'a str,
    /// Those behind this one.
    pub after: Option<EndpointId>,
}

/// Those of these endpoints that are active, whatever they listen to.
pub async fn active(
    conn: &mut Conn,
    ids: impl IntoIterator<Item = EndpointId>,
) -> Result<Vec<Listening>, StoreError> {
    let mut asked = Rows::new(conn);
    for id in ids {
        asked.push().uuid("id", id.0);
    }
    let rows: Vec<(Uuid, String)> = conn.query(ACTIVE).rows(&asked).all().await?;
    let listening = |(id, shaper)| Listening {
        id: EndpointId(id),
        shaper,
    };
    Ok(rows.into_iter().map(listening).collect())
}

/// The endpoints on each of these pages, at most `most` on each.
pub async fn listening(
    conn: &mut Conn,
    wanted: &[ListeningPage<'_>],
    most: usize,
) -> Result<Vec<Vec<Listening>>, StoreError> {
    #[derive(FromRow)]
    struct Row {
        page: i64,
        id: Uuid,
        shaper: String,
    }
    let mut rows = Rows::new(conn);
    for (page, wanted) in (0..).zip(wanted) {
        rows.push()
            .int("page", page)
            .text("organization_id", wanted.organization)
            .text("event", wanted.event)
            .uuid("place", wanted.after.map_or(Uuid::nil(), |id| id.0));
    }
    let last = i64::try_from(most.saturating_sub(1)).unwrap_or(i64::MAX);
    let query = conn.query(LISTENING).rows(&rows).bind(last);
    let rows: Vec<Row> = query.bind(Uuid::max()).all().await?;
    let mut pages = vec![Vec::new(); wanted.len()];
    for row in rows {
        // The numbers are those given above.
        if let Some(page) = usize::try_from(row.page)
            .ok()
            .and_then(|n| pages.get_mut(n))
        {
            page.push(Listening {
                id: EndpointId(row.id),
                shaper: row.shaper,
            });
        }
    }
    Ok(pages)
}
