//! Holds: what no marketplace is asked for until somebody ends it. The table is the truth; each process keeps a copy of
//! it and looks, several times a second, at the one row that tells of changes.

use uuid::Uuid;
use wharf_domain::{Held, HoldSide, HoldTarget, MarketplaceName, OrganizationId, StoreId, Time};

use crate::{
    Conn, StoreError,
    dialect::statements,
    rows::{Rows, without_nul},
    values::At,
};

statements! {
    CHANGES = ["select number from hold_changes where id = 1"];
    LOCK_CHANGES = ["select number from hold_changes where id = 1" lock_rows];
    RAISE = ["update hold_changes set number = number + 1 where id = 1"];
    NAMES = ["select what, name, store_id from holds limit $1"];
    // An empty $3 is every kind.
    PAGE = [hold_columns!() "where id < $1 and (what = $3 or $3 = '') order by id desc limit $2"];
    ONE = [hold_columns!() "where what = $1 and name = $2 and side = $3"];
    // Of a store: its own, its organization's and its marketplace's, at most two of each.
    OF_STORE = [hold_columns!() "where store_id = $1 or (what = 'organization' and name = $2)
        or (what = 'marketplace' and name = $3) order by id"];
    COUNT = ["select count(*) as number from holds"];
    COUNT_OF_OWNER = ["select count(*) as number from holds where owner = $1"];
    PLACE = ["insert into holds (id, what, name, side, store_id, reason, placed_by, since, owner)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9)"];
    END = ["delete from holds where what = $1 and name = $2 and side = $3"];
    OF_REMOVED = ["delete from holds where store_id = $1"];
    // Of the jobs that are longest due, those of held stores. Not behind them: what is due there comes closer as these go.
    PUT_OFF = ["with picked as materialized (select d.store_id from
            (select store_id, due_at from sync_jobs where due_at <= $1 order by due_at limit $3) d
            join stores s on s.id = d.store_id where" is_held!("s") ")
        update sync_jobs set due_at = $2, held_at = $1
        where due_at <= $1 and store_id in (select store_id from picked where" few("picked.store_id") ")"];
    // Jobs that were put off, by store, and whether they still are to be.
    MARKED = ["select d.store_id," is_held!("s") "as is_held from
            (select store_id from sync_jobs where held_at is not null and store_id > $1 order by store_id limit $2) d
            join stores s on s.id = d.store_id order by d.store_id"];
    // A running one is left alone: a program of before, which knows no holds, claimed it.
    WAKE = ["update sync_jobs set held_at = null, due_at = case when state = 'queued' then r.at else sync_jobs.due_at end
        from" rows(r, store_id uuid, at time) "where sync_jobs.store_id = r.store_id and held_at is not null"];
}

/// Holds that there may be. Every process keeps them all in memory, and reads them all after each change.
pub const MAX_HOLDS: i64 = 10_000;
/// Of these, holds that one organization may place.
pub const MAX_HOLDS_OF_ORGANIZATION: i64 = 1_000;
/// Jobs that are put off, or woken, in one transaction.
pub const MAX_JOBS: i64 = 500;

/// A hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Its id.
    pub id: Uuid,
    /// `store`, `organization` or `marketplace`.
    pub what: String,
    /// The store's id, the organization or the marketplace.
    pub name: String,
    /// Whose hold it is.
    pub side: HoldSide,
    /// The reason, for people.
    pub reason: Option<String>,
    /// Who placed it, for people.
    pub placed_by: String,
    /// The time when it was placed.
    pub since: Time,
}

/// A hold to place.
#[derive(Clone, Debug)]
pub struct NewHold<'a> {
    /// The id that it gets.
    pub id: Uuid,
    /// What is held.
    pub target: &'a HoldTarget,
    /// Whose hold it is: of an organization, with its name, or the operator's.
    pub owner: Option<&'a OrganizationId>,
    /// The reason, for people.
    pub reason: Option<&'a str>,
    /// Who places it, for people.
    pub placed_by: &'a str,
}

impl NewHold<'_> {
    const fn side(&self) -> HoldSide {
        match self.owner {
            Some(_) => HoldSide::Organization,
            None => HoldSide::Operator,
        }
    }
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    what: String,
    name: String,
    side: String,
    reason: Option<String>,
    placed_by: String,
    since: At,
}

impl From<Row> for Hold {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            what: row.what,
            name: row.name,
            // The table checks the names.
            side: HoldSide::parse(&row.side).unwrap_or(HoldSide::Operator),
            reason: row.reason,
            placed_by: row.placed_by,
            since: row.since.0,
        }
    }
}

/// The number that rises with every change.
pub async fn changes(conn: &mut Conn) -> Result<i64, StoreError> {
    conn.query(CHANGES).number().await
}

/// Everything that is held, with the number of changes of which this is true. The number is read first: a change that
/// comes between the two is met again.
pub async fn held(conn: &mut Conn) -> Result<(i64, Held), StoreError> {
    let changes = changes(conn).await?;
    let rows: Vec<(String, String, Option<Uuid>)> = conn.query(NAMES).bind(MAX_HOLDS).all().await?;
    let mut held = Held::default();
    for (what, name, store) in rows {
        held.add(match (what.as_str(), store) {
            (_, Some(id)) => HoldTarget::Store(StoreId(id)),
            ("organization", None) => HoldTarget::Organization(OrganizationId::from_stored(name)),
            _ => HoldTarget::Marketplace(MarketplaceName::from_stored(name)),
        });
    }
    Ok((changes, held))
}

/// Places a hold and returns it, or the one that stands already; `None` where there are as many as there may be.
///
/// Call it in a transaction. For a hold of a store the store's row is locked before ([`live`](crate::stores::removal::live)).
pub async fn place(
    conn: &mut Conn,
    new: &NewHold<'_>,
    now: Time,
) -> Result<Option<Hold>, StoreError> {
    // Behind the lock nobody else counts or adds.
    conn.query(LOCK_CHANGES).number().await?;
    let (what, name, side) = (new.target.kind(), new.target.name(), new.side());
    if let Some(hold) = one(conn, what, &name, side).await? {
        return Ok(Some(hold));
    }
    let of_owner = match new.owner {
        Some(owner) => {
            let query = conn.query(COUNT_OF_OWNER).bind(owner.as_str());
            query.number().await?
        }
        None => 0,
    };
    if of_owner >= MAX_HOLDS_OF_ORGANIZATION || conn.query(COUNT).number().await? >= MAX_HOLDS {
        return Ok(None);
    }
    let store = match new.target {
        HoldTarget::Store(id) => Some(id.0),
        HoldTarget::Organization(_) | HoldTarget::Marketplace(_) => None,
    };
    conn.query(PLACE)
        .bind(new.id)
        .bind(what)
        .bind(name.clone())
        .bind(side.as_str())
        .bind(store)
        .bind(new.reason.map(without_nul))
        .bind(without_nul(new.placed_by))
        .time(now)
        .bind(new.owner.map(OrganizationId::as_str))
        .run()
        .await?;
    conn.query(RAISE).run().await?;
    one(conn, what, &name, side).await
}

async fn one(
    conn: &mut Conn,
    what: &str,
    name: &str,
    side: HoldSide,
) -> Result<Option<Hold>, StoreError> {
    let query = conn.query(ONE).bind(what.to_owned()).bind(name.to_owned());
    let row: Option<Row> = query.bind(side.as_str()).optional().await?;
    Ok(row.map(Hold::from))
}

/// Ends a hold of this side. Returns false if there was none.
///
/// Call it in a transaction.
pub async fn end(conn: &mut Conn, target: &HoldTarget, side: HoldSide) -> Result<bool, StoreError> {
    conn.query(LOCK_CHANGES).number().await?;
    let query = conn.query(END).bind(target.kind()).bind(target.name());
    let ended = query.bind(side.as_str()).run().await? > 0;
    if ended {
        conn.query(RAISE).run().await?;
    }
    Ok(ended)
}

/// Ends every hold of a store that is being removed. In the transaction that removes it, which holds its row.
pub(crate) async fn forget(conn: &mut Conn, store: StoreId) -> Result<(), StoreError> {
    conn.query(LOCK_CHANGES).number().await?;
    if conn.query(OF_REMOVED).bind(store.0).run().await? > 0 {
        conn.query(RAISE).run().await?;
    }
    Ok(())
}

/// Up to `most` holds that were placed before `before`, newest first; of one kind, or all.
pub async fn page(
    conn: &mut Conn,
    what: Option<&str>,
    before: Option<Uuid>,
    most: i64,
) -> Result<Vec<Hold>, StoreError> {
    let query = conn.query(PAGE).bind(before.unwrap_or(Uuid::max()));
    let query = query.bind(most).bind(what.unwrap_or_default().to_owned());
    let rows: Vec<Row> = query.all().await?;
    Ok(rows.into_iter().map(Hold::from).collect())
}

/// The holds by which a store is held, oldest first.
pub async fn of_store(
    conn: &mut Conn,
    store: StoreId,
    organization: &str,
    marketplace: &str,
) -> Result<Vec<Hold>, StoreError> {
    let query = conn.query(OF_STORE).bind(store.0);
    let query = query.bind(organization.to_owned());
    let rows: Vec<Row> = query.bind(marketplace.to_owned()).all().await?;
    Ok(rows.into_iter().map(Hold::from).collect())
}

/// Puts the jobs of held stores off until `until`, of the [`MAX_JOBS`] that are longest due. Nothing else of them changes:
/// no claim, no attempt. Returns how many there were.
///
/// Call it in a transaction of its own: whoever ends a hold waits for it, and wakes what it put off.
pub async fn put_off(conn: &mut Conn, until: Time, now: Time) -> Result<u64, StoreError> {
    conn.query(LOCK_CHANGES).number().await?;
    let query = conn.query(PUT_OFF).time(now).time(until);
    query.bind(MAX_JOBS).run().await
}

/// A step of a walk over the jobs that were put off.
#[derive(Clone, Debug)]
pub struct Woken {
    /// Stores whose jobs are due again.
    pub stores: Vec<StoreId>,
    /// The place to go on from; `None` after the last.
    pub next: Option<StoreId>,
}

/// Makes due what was put off and is not held any more: [`MAX_JOBS`] jobs after `after` are looked at.
///
/// Call it in a transaction of its own.
pub async fn wake(conn: &mut Conn, after: StoreId, now: Time) -> Result<Woken, StoreError> {
    conn.query(LOCK_CHANGES).number().await?;
    let query = conn.query(MARKED).bind(after.0).bind(MAX_JOBS);
    let marked: Vec<(Uuid, bool)> = query.all().await?;
    let last = marked.last().map(|(store, _)| StoreId(*store));
    let is_last = (marked.len() as u64) < MAX_JOBS.unsigned_abs();
    let free = marked.into_iter().filter(|(_, is_held)| !is_held);
    let stores: Vec<StoreId> = free.map(|(store, _)| StoreId(store)).collect();
    if !stores.is_empty() {
        let mut rows = Rows::new(conn);
        for store in &stores {
            rows.push().uuid("store_id", store.0).time("at", now);
        }
        conn.query(WAKE).rows(&rows).run().await?;
    }
    Ok(Woken {
        stores,
        next: last.filter(|_| !is_last),
    })
}
