//! A log as clients and operators see it.

use uuid::Uuid;
use wharf_domain::{
    Amount, Currency, LogId, LogStatus, MarketplaceName, OrganizationId, Receipt, StoreId, Time,
};

use super::{list::LogCursor, parse_status};
use crate::{
    Conn, StoreError,
    dialect::statements,
    query::Query,
    values::{At, Money},
};

statements! {
    ONE = [logs!() "sync_logs l where l.id = $1"];
}

/// A log as clients and operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Its id.
    pub id: LogId,
    /// Its store.
    pub store_id: StoreId,
    /// The organization that owns the store.
    pub organization_id: OrganizationId,
    /// The store's marketplace.
    pub marketplace: MarketplaceName,
    /// The receipt.
    pub receipt: Receipt,
    /// Its status.
    pub status: LogStatus,
    /// The number of times the marketplace was asked.
    pub attempt: i64,
    /// When it is to be asked again; `None` where it is not.
    pub due_at: Option<Time>,
    /// It rests.
    pub exhausted: bool,
    /// The marketplace's id of the order.
    pub order_id: Option<String>,
    /// The order's amount.
    pub amount: Option<Amount>,
    /// The order's currency.
    pub currency: Option<Currency>,
    /// The time of the import, as the adapter told it.
    pub imported_at: Option<Time>,
    /// The reason why it did not succeed, for people.
    pub last_error: Option<String>,
    /// SHA-256 of the plugin that gave the latest answer.
    pub plugin_digest: Option<String>,
    /// Faults of the adapter on this receipt since it last got an answer.
    pub plugin_faults: i64,
    /// Times that the marketplace refused it, since it was last redriven.
    pub refusals: i64,
    /// The request that imported it.
    pub request_id: Option<String>,
    /// The request of the sync run that last asked about it.
    pub sync_request_id: Option<String>,
    /// The log that has the same order under another receipt.
    pub duplicate_of: Option<LogId>,
    /// The time when it was imported.
    pub created_at: Time,
    /// The time of its last change.
    pub updated_at: Time,
}

impl Log {
    /// The place behind it.
    pub const fn cursor(&self) -> LogCursor {
        LogCursor {
            at: self.created_at,
            id: self.id.0,
        }
    }
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    store_id: Uuid,
    organization_id: String,
    marketplace: String,
    receipt: String,
    status: String,
    attempt: i64,
    due_at: Option<At>,
    exhausted: bool,
    order_id: Option<String>,
    amount: Option<Money>,
    currency: Option<String>,
    imported_at: Option<At>,
    last_error: Option<String>,
    plugin_digest: Option<String>,
    plugin_faults: i64,
    refusals: i64,
    request_id: Option<String>,
    sync_request_id: Option<String>,
    duplicate_of: Option<Uuid>,
    created_at: At,
    updated_at: At,
}

impl TryFrom<Row> for Log {
    type Error = StoreError;
    fn try_from(row: Row) -> Result<Self, StoreError> {
        let currency = row.currency.as_deref().map(Currency::parse);
        Ok(Self {
            id: LogId(row.id),
            store_id: StoreId(row.store_id),
            organization_id: OrganizationId::from_stored(row.organization_id),
            marketplace: MarketplaceName::from_stored(row.marketplace),
            receipt: Receipt::from_stored(row.receipt),
            status: parse_status(&row.status)?,
            attempt: row.attempt,
            due_at: row.due_at.map(|at| at.0),
            exhausted: row.exhausted,
            order_id: row.order_id,
            amount: row.amount.map(|amount| amount.0),
            currency: currency
                .transpose()
                .map_err(|why| StoreError::unreadable("sync_logs.currency", why))?,
            imported_at: row.imported_at.map(|at| at.0),
            last_error: row.last_error,
            plugin_digest: row.plugin_digest,
            plugin_faults: row.plugin_faults,
            refusals: row.refusals,
            request_id: row.request_id,
            sync_request_id: row.sync_request_id,
            duplicate_of: row.duplicate_of.map(LogId),
            created_at: row.created_at.0,
            updated_at: row.updated_at.0,
        })
    }
}

/// One log.
pub async fn get(conn: &mut Conn, id: LogId) -> Result<Option<Log>, StoreError> {
    Ok(read(conn.query(ONE).bind(id.0)).await?.pop())
}

/// The logs that a statement finds by the columns of `logs!`.
pub(super) async fn read(query: Query<'_>) -> Result<Vec<Log>, StoreError> {
    let rows: Vec<Row> = query.all().await?;
    rows.into_iter().map(Log::try_from).collect()
}
