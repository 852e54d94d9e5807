//! The endpoints of all organizations, as the operator looks through them: page by page, in the order of their ids.

use uuid::Uuid;
use wharf_domain::{EndpointId, OrganizationId, Time};

use super::{Endpoint, Row};
use crate::{
    Conn, StoreError,
    dialect::{Sql, statements},
    rows::Rows,
};

statements! {
    EVERY = ["select" endpoint_columns!() "from webhook_endpoints where id > $1 order by id limit $2"];
    // The conditions are those of the partial indexes, word by word.
    FAILING = ["select" endpoint_columns!() "from webhook_endpoints
        where is_active and failing_since is not null and id > $1 order by id limit $2"];
    DISABLED = ["select" endpoint_columns!() "from webhook_endpoints where not is_active and id > $1 order by id limit $2"];
    OF_ORGANIZATION = ["select" endpoint_columns!() "from webhook_endpoints
        where organization_id = $3 and id > $1 order by id limit $2"];
    // Ordered, although it only counts: without it PostgreSQL reads a table of some thousand rows as a whole.
    FIGURES = ["select e.id, e.last_error, (select count(*) from (select 1 as one from callback_deliveries d
                where d.endpoint_id = e.id and d.due_at <= " time("$2") "
                order by d.due_at, d.id limit $3) d) as due
        from" rows(r, id uuid) "join webhook_endpoints e on e.id = r.id"];
}

/// The endpoints to look through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Among {
    /// Every one.
    All,
    /// Active ones that have failed since an attempt last succeeded, also those whose circuit is open.
    Failing,
    /// Those that are sent nothing.
    Disabled,
    /// One organization's.
    Organization(OrganizationId),
}

/// Up to `most` endpoints behind this one.
pub async fn overview(
    conn: &mut Conn,
    among: &Among,
    after: EndpointId,
    most: i64,
) -> Result<Vec<Endpoint>, StoreError> {
    let statement: Sql = match among {
        Among::All => EVERY,
        Among::Failing => FAILING,
        Among::Disabled => DISABLED,
        Among::Organization(_) => OF_ORGANIZATION,
    };
    let query = conn.query(statement).bind(after.0).bind(most);
    let query = match among {
        Among::Organization(organization) => query.bind(organization.as_str()),
        Among::All | Among::Failing | Among::Disabled => query,
    };
    let rows: Vec<Row> = query.all().await?;
    Ok(rows.into_iter().map(Endpoint::from).collect())
}

/// Due deliveries of an endpoint are counted up to here: a dead receiver may have any number.
pub const MAX_DUE: i64 = 1_000;

/// What an operator is told of an endpoint besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// The endpoint.
    pub id: EndpointId,
    /// What its last failed attempt met, in the operator's words; `None` since one succeeded.
    pub last_error: Option<String>,
    /// Deliveries that wait to be sent now, up to [`MAX_DUE`].
    pub due: i64,
}

/// The figures of those of these endpoints that are there.
pub async fn figures(
    conn: &mut Conn,
    ids: impl IntoIterator<Item = EndpointId>,
    now: Time,
) -> Result<Vec<Figures>, StoreError> {
    let mut asked = Rows::new(conn);
    for id in ids {
        asked.push().uuid("id", id.0);
    }
    let query = conn.query(FIGURES).rows(&asked).time(now).bind(MAX_DUE);
    let rows: Vec<(Uuid, Option<String>, i64)> = query.all().await?;
    let figures = |(id, last_error, due)| Figures {
        id: EndpointId(id),
        last_error,
        due,
    };
    Ok(rows.into_iter().map(figures).collect())
}
