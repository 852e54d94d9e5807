//! Stores: lookup by token, the counters and the status that reading never has to compute.

pub mod detail;
pub mod list;
pub mod removal;
pub mod token;

use sha2::{Digest, Sha256};
use uuid::Uuid;
use wharf_domain::{
    AccessToken, Currency, ExternalStoreId, LogStatus, MarketplaceName, OrganizationId, StoreId,
    SyncStatus, SyncToken, Time, sync_status,
};

use crate::{
    Conn, KeyRing, Sealed, StoreError,
    dialect::{Sql, statements},
    rows::Rows,
    values::At,
};

pub use crate::registration::{NewStore, Registered, register};

/// Every statement about stores, by module.
pub(crate) const MODULES: [&[(&str, Sql)]; 5] =
    [ALL, list::ALL, detail::ALL, removal::ALL, token::ALL];

statements! {
    // Not where they changed once more meanwhile.
    CREDENTIALS_TRIED = ["update stores set credentials_changed_at = null where id = $1 and credentials_changed_at = $2"];
    BY_TOKEN = ["select" store_columns!("stores") "from stores where" has_token!("stores", "$1", "$2")];
    BY_ID = ["select" store_columns!("stores") "from stores where id = $1 and removed_at is null"];
    REPORT = ["select organization_id, last_sync_at, imported_orders, sync_status, rate_limited_count
        from stores where" has_token!("stores", "$1", "$2")];
    // Writers of one store queue here, in the order of ids, so that they can never wait for each other in a circle.
    // One that is being removed is not among them.
    LOCK = ["select id from stores where id in (select id from" rows(r, id uuid) ") and removed_at is null
        order by id" lock_rows];
    // 20 is `wharf_domain::RECENT_LOGS`. `string_agg`, because SQLite has no arrays.
    // The statuses of each store's latest logs, newest first: `success,failed,...`; null if it has none.
    RECENT = ["select r.id, (select string_agg(l.status, ',' order by l.created_at desc, l.id desc)
            from (select status, created_at, id from sync_logs
                  where store_id = r.id order by created_at desc, id desc limit 20) l) as statuses
        from" rows(r, id uuid)];
    // Counters are added to, not set: nobody needs to read them first.
    APPLY = ["update stores set imported_orders = stores.imported_orders + r.imported,
            rate_limited_count = stores.rate_limited_count + r.rate_limited, sync_status = r.sync_status,
            last_sync_at = coalesce(r.last_sync_at, stores.last_sync_at),
            last_run_at = coalesce(r.last_run_at, stores.last_run_at), updated_at = r.updated_at
        from" rows(r, id uuid, imported int, rate_limited int, sync_status text, last_sync_at time, last_run_at time,
            updated_at time)
        "where stores.id = r.id"];
    // A page of stores by (created_at, id), each with whether the sync engine has something to do there. Not by
    // `exists`, which PostgreSQL may turn into a hash of all due logs. A run in the future ($3 is now) was before the
    // clock was set back, and is no reason to rest.
    PAGE = ["select s.id, s.created_at, (s.last_run_at is null or s.last_run_at <= $4 or s.last_run_at > $3)
            and coalesce((select l.due_at from sync_logs l where l.store_id = s.id and l.due_at is not null
                order by l.due_at limit 1) <= $3, 1 = 0) as due
        from stores s where (s.created_at, s.id) > ($1, $2) and s.removed_at is null order by s.created_at, s.id limit $5"];
}

/// A seller's store, as imports and the sync engine need it.
#[derive(Clone, Debug)]
pub struct Store {
    /// Its id.
    pub id: StoreId,
    /// The organization that it belongs to.
    pub organization_id: OrganizationId,
    /// Its marketplace.
    pub marketplace: MarketplaceName,
    /// Its id there.
    pub external_store_id: ExternalStoreId,
    /// Its currency.
    pub currency: Currency,
    /// The time when its credentials changed, as long as not all that failed before was made due again.
    pub credentials_changed_at: Option<Time>,
    identity: String,
    access_token: Sealed,
}

pub(crate) const TOKEN_PLACE: &str = "stores.access_token";

impl Store {
    /// The store's access token at its marketplace. Only for the border of the sandbox.
    pub fn access_token(&self, keys: &KeyRing) -> Result<AccessToken, StoreError> {
        let token = keys.open(TOKEN_PLACE, &self.identity, &self.access_token)?;
        let token =
            std::str::from_utf8(&token).map_err(|why| StoreError::unreadable(TOKEN_PLACE, why))?;
        AccessToken::parse(token).map_err(|why| StoreError::unreadable(TOKEN_PLACE, why))
    }
}

/// SHA-256, in hex, of texts that are told apart by their lengths.
pub(crate) fn digest_of(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        // Without the length ("ab", "c") and ("a", "bc") would be one store.
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Notes that all that failed before the credentials changed, at `changed_at`, is due again.
pub async fn credentials_tried(
    conn: &mut Conn,
    store: StoreId,
    changed_at: Time,
) -> Result<(), StoreError> {
    let query = conn.query(CREDENTIALS_TRIED).bind(store.0).time(changed_at);
    query.run().await.map(drop)
}

#[derive(FromRow)]
pub(crate) struct StoreRow {
    id: Uuid,
    identity: String,
    organization_id: String,
    marketplace: String,
    external_store_id: String,
    access_token: Vec<u8>,
    currency: String,
    credentials_changed_at: Option<At>,
}

impl TryFrom<StoreRow> for Store {
    type Error = StoreError;
    fn try_from(row: StoreRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: StoreId(row.id),
            organization_id: OrganizationId::from_stored(row.organization_id),
            marketplace: MarketplaceName::from_stored(row.marketplace),
            external_store_id: ExternalStoreId::from_stored(row.external_store_id),
            currency: Currency::parse(&row.currency)
                .map_err(|why| StoreError::unreadable("stores.currency", why))?,
            credentials_changed_at: row.credentials_changed_at.map(|at| at.0),
            identity: row.identity,
            access_token: Sealed(row.access_token),
        })
    }
}

/// The store with this token.
pub async fn by_token(conn: &mut Conn, token: SyncToken) -> Result<Option<Store>, StoreError> {
    let query = conn.query(BY_TOKEN).bind(token::digest(token));
    let row: Option<StoreRow> = query.bind(token.0).optional().await?;
    row.map(Store::try_from).transpose()
}

/// The store with this id.
pub async fn by_id(conn: &mut Conn, id: StoreId) -> Result<Option<Store>, StoreError> {
    let row: Option<StoreRow> = conn.query(BY_ID).bind(id.0).optional().await?;
    row.map(Store::try_from).transpose()
}

/// The answer of `GET /stores/sync-status`, read from one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The organization that the store belongs to.
    pub organization_id: OrganizationId,
    /// The time when its marketplace was last asked, by the sync engine or by an import.
    pub last_sync_at: Option<Time>,
    /// Logs with status success.
    pub imported_orders: i64,
    /// By the status rule.
    pub sync_status: SyncStatus,
    /// Logs with status rate_limited.
    pub rate_limited_count: i64,
}

/// The report of the store with this token.
pub async fn report(conn: &mut Conn, token: SyncToken) -> Result<Option<Report>, StoreError> {
    #[derive(FromRow)]
    struct Row {
        organization_id: String,
        last_sync_at: Option<At>,
        imported_orders: i64,
        sync_status: String,
        rate_limited_count: i64,
    }
    let row: Option<Row> = conn
        .query(REPORT)
        .bind(token::digest(token))
        .bind(token.0)
        .optional()
        .await?;
    row.map(|row| {
        Ok(Report {
            organization_id: OrganizationId::from_stored(row.organization_id),
            last_sync_at: row.last_sync_at.map(|at| at.0),
            imported_orders: row.imported_orders,
            sync_status: SyncStatus::parse(&row.sync_status)
                .ok_or_else(|| StoreError::unreadable("stores.sync_status", &row.sync_status))?,
            rate_limited_count: row.rate_limited_count,
        })
    })
    .transpose()
}

/// The change that one transaction makes to a store's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Logs that became success.
    pub imported: i64,
    /// Logs that became rate_limited, less those that ceased to be.
    pub rate_limited: i64,
    /// The time when the marketplace was asked, if it was.
    pub asked_at: Option<Time>,
    /// The time of the sync run, if it was one.
    pub run_at: Option<Time>,
}

/// Takes the stores' rows for this transaction. Every transaction that changes logs takes them first. Each is named once.
///
/// # Errors
/// [`StoreError::StoreRemoved`] if one of them is being removed, or is gone.
pub(crate) async fn lock(
    conn: &mut Conn,
    stores: impl ExactSizeIterator<Item = StoreId>,
) -> Result<(), StoreError> {
    let number = stores.len();
    let rows = id_rows(conn, stores);
    let locked = conn.query(LOCK).rows(&rows).ids().await?;
    if locked.len() < number {
        return Err(StoreError::StoreRemoved);
    }
    Ok(())
}

fn id_rows(conn: &Conn, stores: impl Iterator<Item = StoreId>) -> Rows {
    let mut rows = Rows::new(conn);
    for store in stores {
        rows.push().uuid("id", store.0);
    }
    rows
}

/// Adds to the counters, recalculates the statuses and returns them. The stores are locked and their logs written.
pub(crate) async fn apply_changes(
    conn: &mut Conn,
    changes: &[(StoreId, Change)],
    now: Time,
) -> Result<Vec<(StoreId, SyncStatus)>, StoreError> {
    let statuses = statuses(conn, changes.iter().map(|(store, _)| *store)).await?;
    let mut rows = Rows::new(conn);
    for (store, status) in &statuses {
        let change = changes.iter().find(|(id, _)| id == store);
        let change = change.map(|(_, change)| *change).unwrap_or_default();
        rows.push()
            .uuid("id", store.0)
            .int("imported", change.imported)
            .int("rate_limited", change.rate_limited)
            .text("sync_status", status.as_str())
            .time("last_sync_at", change.asked_at)
            .time("last_run_at", change.run_at)
            .time("updated_at", now);
    }
    conn.query(APPLY).rows(&rows).run().await?;
    Ok(statuses)
}

/// Returns each store's status by the rule over its latest logs.
async fn statuses(
    conn: &mut Conn,
    stores: impl Iterator<Item = StoreId>,
) -> Result<Vec<(StoreId, SyncStatus)>, StoreError> {
    #[derive(FromRow)]
    struct Row {
        id: Uuid,
        statuses: Option<String>,
    }
    let ids = id_rows(conn, stores);
    let recent: Vec<Row> = conn.query(RECENT).rows(&ids).all().await?;
    // A store without logs has null here, which the rule makes pending.
    let status = |row: Row| {
        let names = row.statuses.iter().flat_map(|list| list.split(','));
        let logs: Option<Vec<_>> = names.map(LogStatus::parse).collect();
        let logs =
            logs.ok_or_else(|| StoreError::unreadable("sync_logs.status", "unknown status"))?;
        Ok((StoreId(row.id), sync_status(&logs)))
    };
    recent.into_iter().map(status).collect()
}

/// The place of the scheduler's walk over the stores.
#[derive(Clone, Copy, Debug)]
pub struct Cursor {
    created_at: Time,
    id: StoreId,
}

impl Cursor {
    /// Before the first store.
    pub const START: Self = Self {
        created_at: Time::from_micros(0),
        id: StoreId(Uuid::nil()),
    };
}

/// One step of that walk.
pub struct Page {
    /// Stores looked at; fewer than asked for: it was the last page.
    pub scanned: usize,
    /// Those with due logs that were not synchronised after `synced_before`.
    pub due: Vec<StoreId>,
    /// The place to go on from.
    pub next: Cursor,
}

/// The stores after `cursor`, and which of them the sync engine should visit.
pub async fn page(
    conn: &mut Conn,
    cursor: Cursor,
    now: Time,
    synced_before: Time,
    limit: i64,
) -> Result<Page, StoreError> {
    #[derive(FromRow)]
    struct Row {
        id: Uuid,
        created_at: At,
        due: bool,
    }
    let rows: Vec<Row> = conn
        .query(PAGE)
        .time(cursor.created_at)
        .bind(cursor.id.0)
        .time(now)
        .time(synced_before)
        .bind(limit)
        .all()
        .await?;
    let next = rows.last().map_or(cursor, |row| Cursor {
        created_at: row.created_at.0,
        id: StoreId(row.id),
    });
    let due = rows
        .iter()
        .filter(|row| row.due)
        .map(|row| StoreId(row.id))
        .collect();
    Ok(Page {
        scanned: rows.len(),
        due,
        next,
    })
}
