//! The marketplaces that some plugin serves or has served. A process knows its own plugins alone, so this is kept here.

use wharf_domain::{MarketplaceName, Time};

use crate::{Conn, StoreError, dialect::statements, rows::Rows};

statements! {
    REMEMBER = ["insert into marketplaces (name, first_served_at) select name, at from" rows(r, name text, at time)
        "where true on conflict (name) do nothing"];
    IS_KNOWN = ["select count(*) as number from marketplaces where name = $1"];
}

/// Remembers that these are served. Safe to repeat.
pub async fn remember(
    conn: &mut Conn,
    names: impl IntoIterator<Item = &str>,
    now: Time,
) -> Result<(), StoreError> {
    let mut rows = Rows::new(conn);
    for name in names {
        rows.push().text("name", name).time("at", now);
    }
    conn.query(REMEMBER).rows(&rows).run().await.map(drop)
}

/// Tells if a plugin serves this one or has served it.
pub async fn is_known(conn: &mut Conn, name: &MarketplaceName) -> Result<bool, StoreError> {
    Ok(conn.query(IS_KNOWN).bind(name.as_str()).number().await? > 0)
}
