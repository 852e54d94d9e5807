//! Finding a log by its receipt, or by the marketplace's id of its order.

use uuid::Uuid;
use wharf_domain::{MarketplaceName, OrganizationId, Receipt, StoreId};

use super::{
    list::{LogCursor, LogFilter, LogPage},
    row::{Log, read},
};
use crate::{
    Conn, StoreError,
    dialect::{Sql, statements},
    rows::Rows,
    values::At,
};

statements! {
    // By the indexes of (store, receipt) and (store, order). A receipt that is a duplicate has its order counted elsewhere.
    BY_RECEIPT = [logs!() "sync_logs l join" rows(r, store_id uuid) "on l.store_id = r.store_id where l.receipt = $2"];
    BY_ORDER = [logs!() "sync_logs l join" rows(r, store_id uuid) "on l.store_id = r.store_id
        where l.order_id = $2 and l.duplicate_of is null"];
    STORES = ["select id, created_at, organization_id, marketplace from stores where (created_at, id) > ($1, $2)
        order by created_at, id limit $3"];
}

/// The stores in which one search looks for a receipt or an order, by two index entries each.
pub const MAX_SEARCHED: i64 = 1_000;

/// The name that a log is looked for by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogName {
    /// Its receipt.
    Receipt(Receipt),
    /// The marketplace's id of its order.
    Order(String),
}

impl LogName {
    fn statement(&self) -> (Sql, &str) {
        match self {
            Self::Receipt(receipt) => (BY_RECEIPT, receipt.as_str()),
            Self::Order(order) => (BY_ORDER, order),
        }
    }
}

/// The log of this name in one store, if there is one.
pub async fn find(
    conn: &mut Conn,
    store: StoreId,
    name: &LogName,
) -> Result<Option<Log>, StoreError> {
    Ok(find_in(conn, [store], name).await?.pop())
}

async fn find_in(
    conn: &mut Conn,
    stores: impl IntoIterator<Item = StoreId>,
    name: &LogName,
) -> Result<Vec<Log>, StoreError> {
    let mut rows = Rows::new(conn);
    for store in stores {
        rows.push().uuid("store_id", store.0);
    }
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let (statement, name) = name.statement();
    read(conn.query(statement).rows(&rows).bind(name)).await
}

/// The logs of this name in the next [`MAX_SEARCHED`] stores behind `after`, the oldest store first. Of a filter the
/// organization and the marketplace count.
pub async fn search(
    conn: &mut Conn,
    filter: &LogFilter,
    name: &LogName,
    after: LogCursor,
) -> Result<LogPage, StoreError> {
    #[derive(FromRow)]
    struct Row {
        id: Uuid,
        created_at: At,
        organization_id: String,
        marketplace: String,
    }
    let query = conn.query(STORES).time(after.at).bind(after.id);
    let stores: Vec<Row> = query.bind(MAX_SEARCHED).all().await?;
    let is_last = (stores.len() as u64) < MAX_SEARCHED.unsigned_abs();
    let next = stores.last().filter(|_| !is_last).map(|store| LogCursor {
        at: store.created_at.0,
        id: store.id,
    });
    let wanted = stores.into_iter().filter(|store| {
        let organization = filter.organization.as_ref().map(OrganizationId::as_str);
        let marketplace = filter.marketplace.as_ref().map(MarketplaceName::as_str);
        organization.is_none_or(|wanted| wanted == store.organization_id)
            && marketplace.is_none_or(|wanted| wanted == store.marketplace)
    });
    let logs = find_in(conn, wanted.map(|store| StoreId(store.id)), name).await?;
    Ok(LogPage { logs, next })
}
