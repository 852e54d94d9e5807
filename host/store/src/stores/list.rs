//! Stores as their owners and operators list them: in pages, newest first, in a stable order.

use uuid::Uuid;
use wharf_domain::{ExternalStoreId, MarketplaceName, OrganizationId, StoreId, SyncStatus, Time};

use crate::{
    Conn, StoreError,
    dialect::{Sql, statements},
    values::At,
};

statements! {
    // Each walks one index by id, at most $2 entries of it, and shows up to $3 of those that meet the rest of the filter:
    // so a page has a price, however rare what is looked for. Empty texts are every value; $8 is -1 for held or not. A range
    // of one value and not `=`: of an organization with most of the stores PostgreSQL would think that it is as quick to
    // walk over all, and for the next organization it is not.
    ALL_STORES = [listed_columns!() "(select" listed_inner!() "from stores where id < $1 order by id desc limit $2) s"
        listed_filter!()];
    OF_ORGANIZATION = [listed_columns!() "(select" listed_inner!() "from stores
            where (organization_id, id) < ($4, $1) and organization_id >= $4
            order by organization_id desc, id desc limit $2) s" listed_filter!()];
    OF_MARKETPLACE = [listed_columns!() "(select" listed_inner!() "from stores
            where (marketplace, id) < ($5, $1) and marketplace >= $5
            order by marketplace desc, id desc limit $2) s" listed_filter!()];
    OF_EXTERNAL_ID = [listed_columns!() "(select" listed_inner!() "from stores
            where (external_store_id, id) < ($6, $1) and external_store_id >= $6
            order by external_store_id desc, id desc limit $2) s" listed_filter!()];
    // The last entry of the same walk, if it went as far as it may.
    END_OF_ALL = ["select id from stores where id < $1 order by id desc limit 1 offset $2"];
    END_OF_ORGANIZATION = ["select id from stores where (organization_id, id) < ($3, $1) and organization_id >= $3
        order by organization_id desc, id desc limit 1 offset $2"];
    END_OF_MARKETPLACE = ["select id from stores where (marketplace, id) < ($3, $1) and marketplace >= $3
        order by marketplace desc, id desc limit 1 offset $2"];
    END_OF_EXTERNAL_ID = ["select id from stores where (external_store_id, id) < ($3, $1) and external_store_id >= $3
        order by external_store_id desc, id desc limit 1 offset $2"];
    ONE = [listed_columns!() "stores s where s.id = $1 and s.removed_at is null and (s.organization_id = $2 or $2 = '')"];
}

/// Entries of an index that one page looks at. Five thousand take some milliseconds; what lies behind them is for the
/// next page.
pub const MAX_LOOKED_AT: i64 = 5_000;

/// The stores to list. What is `None` is any.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only this organization's.
    pub organization: Option<OrganizationId>,
    /// Only at this marketplace.
    pub marketplace: Option<MarketplaceName>,
    /// Only with exactly this id there. Not with a part of it or of the name: no index finds those among millions.
    pub external_store_id: Option<ExternalStoreId>,
    /// Only with this status.
    pub sync_status: Option<SyncStatus>,
    /// Only those that are held, or are not.
    pub is_held: Option<bool>,
}

/// A store as its owner sees it. No token is in it.
#[derive(Clone, Debug)]
pub struct ListedStore {
    /// Its id.
    pub id: StoreId,
    /// The organization that it belongs to.
    pub organization_id: String,
    /// Its marketplace.
    pub marketplace: String,
    /// Its id there.
    pub external_store_id: String,
    /// Its name for people.
    pub store_name: String,
    /// Its currency.
    pub currency: String,
    /// By the status rule.
    pub sync_status: SyncStatus,
    /// The time when its marketplace was last asked.
    pub last_sync_at: Option<Time>,
    /// Receipts that became orders.
    pub imported_orders: i64,
    /// Receipts that the marketplace put off.
    pub rate_limited_count: i64,
    /// True while its marketplace is asked nothing for it, whoever holds it.
    pub is_held: bool,
    /// The time when it was registered.
    pub created_at: Time,
    /// The time of its last change.
    pub updated_at: Time,
}

/// A page of stores.
#[derive(Clone, Debug)]
pub struct StorePage {
    /// The stores on it; fewer than asked for, or none, where few meet the filter.
    pub stores: Vec<ListedStore>,
    /// The place where the next page begins; `None` on the last.
    pub next: Option<StoreId>,
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    organization_id: String,
    marketplace: String,
    external_store_id: String,
    store_name: String,
    currency: String,
    sync_status: String,
    last_sync_at: Option<At>,
    imported_orders: i64,
    rate_limited_count: i64,
    is_held: bool,
    created_at: At,
    updated_at: At,
}

impl TryFrom<Row> for ListedStore {
    type Error = StoreError;
    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: StoreId(row.id),
            organization_id: row.organization_id,
            marketplace: row.marketplace,
            external_store_id: row.external_store_id,
            store_name: row.store_name,
            currency: row.currency,
            sync_status: SyncStatus::parse(&row.sync_status)
                .ok_or_else(|| StoreError::unreadable("stores.sync_status", &row.sync_status))?,
            last_sync_at: row.last_sync_at.map(|at| at.0),
            imported_orders: row.imported_orders,
            rate_limited_count: row.rate_limited_count,
            is_held: row.is_held,
            created_at: row.created_at.0,
            updated_at: row.updated_at.0,
        })
    }
}

/// Up to `most` stores that were registered before `before`, newest first.
pub async fn page(
    conn: &mut Conn,
    filter: &Filter,
    before: Option<StoreId>,
    most: usize,
) -> Result<StorePage, StoreError> {
    // Ids are UUIDs of version 7: their order is that of registration, and the largest id is behind them all.
    let before = before.map_or(Uuid::max(), |id| id.0);
    let (statement, end_statement, key) = filter.walk();
    // One more than the page shows tells whether there is a next one.
    let one_more = i64::try_from(most + 1).unwrap_or(i64::MAX);
    let looked_at = if filter.is_met_by_all() {
        one_more
    } else {
        MAX_LOOKED_AT.max(one_more)
    };
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    let rows: Vec<Row> = conn
        .query(statement)
        .bind(before)
        .bind(looked_at)
        .bind(one_more)
        .bind(text(filter.organization.as_ref().map(|one| one.as_str())))
        .bind(text(filter.marketplace.as_ref().map(|one| one.as_str())))
        .bind(text(
            filter.external_store_id.as_ref().map(|one| one.as_str()),
        ))
        .bind(text(filter.sync_status.map(SyncStatus::as_str)))
        .bind(filter.is_held.map_or(-1, i64::from))
        .all()
        .await?;
    let mut stores: Vec<ListedStore> = rows
        .into_iter()
        .map(ListedStore::try_from)
        .collect::<Result<_, _>>()?;
    if stores.len() > most {
        stores.truncate(most);
        let next = stores.last().map(|store| store.id);
        return Ok(StorePage { stores, next });
    }
    let end = conn.query(end_statement).bind(before).bind(looked_at - 1);
    let end = match key {
        Some(key) => end.bind(key.to_owned()),
        None => end,
    };
    let next = end.ids().await?.pop().map(StoreId);
    Ok(StorePage { stores, next })
}

impl Filter {
    /// The walk that looks at the fewest stores, the statement for its end, and what it walks by.
    fn walk(&self) -> (Sql, Sql, Option<&str>) {
        if let Some(external) = &self.external_store_id {
            (OF_EXTERNAL_ID, END_OF_EXTERNAL_ID, Some(external.as_str()))
        } else if let Some(organization) = &self.organization {
            let key = Some(organization.as_str());
            (OF_ORGANIZATION, END_OF_ORGANIZATION, key)
        } else if let Some(marketplace) = &self.marketplace {
            (
                OF_MARKETPLACE,
                END_OF_MARKETPLACE,
                Some(marketplace.as_str()),
            )
        } else {
            (ALL_STORES, END_OF_ALL, None)
        }
    }

    /// True where every entry of the walk meets the filter, but for stores that are being removed.
    fn is_met_by_all(&self) -> bool {
        let texts = [
            self.organization.is_some(),
            self.marketplace.is_some(),
            self.external_store_id.is_some(),
        ];
        let given = texts.into_iter().filter(|is_given| *is_given).count();
        given <= 1 && self.sync_status.is_none() && self.is_held.is_none()
    }
}

/// One store, if it is the organization's; of any organization where none is named.
pub async fn one(
    conn: &mut Conn,
    organization: Option<&OrganizationId>,
    id: StoreId,
) -> Result<Option<ListedStore>, StoreError> {
    let query = conn.query(ONE).bind(id.0);
    let organization = organization.map_or("", OrganizationId::as_str).to_owned();
    let row: Option<Row> = query.bind(organization).optional().await?;
    row.map(ListedStore::try_from).transpose()
}
