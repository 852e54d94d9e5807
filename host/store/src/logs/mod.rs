//! Sync logs: one row a receipt. Imports add them, sync runs move them on.

pub mod attempts;
mod list;
mod redrive;
mod row;
mod search;
mod settle;
mod written;

use std::collections::BTreeMap;

use uuid::Uuid;
use wharf_domain::{
    AnswerKind, Before, Currency, ImportResult, LogId, LogState, LogStatus, Order, Receipt,
    RequestId, StoreId, SyncToken, Time, import_result,
};

use crate::{
    Conn, StoreError,
    dialect::{Sql, statements},
    rows::Rows,
    stores::{self, Store, StoreRow},
    values::{At, Money},
};

use self::attempts::NewAttempts;
use self::written::{Moved, WrittenLogs, changes, copy_orders, rounds, state_columns, written};

pub use self::list::{LogCursor, LogFilter, LogPage, MAX_COUNTED_AT, MAX_LOOKED_AT, count, page};
pub use self::redrive::{ToRedrive, redrive};
pub use self::row::{Log, get};
pub use self::search::{LogName, MAX_SEARCHED, find, search};
pub use self::settle::{Settled, SettledLog, put_off, retry_failed, settle};

/// Every statement about logs, by module.
pub(crate) const MODULES: [&[(&str, Sql)]; 8] = [
    ALL,
    attempts::ALL,
    list::ALL,
    redrive::ALL,
    row::ALL,
    search::ALL,
    settle::ALL,
    written::ALL,
];

statements! {
    // `where true`, here and elsewhere: without it SQLite takes `on conflict` for a join's `on`.
    INSERT = ["insert into sync_logs (id, store_id, receipt, status, attempt, next_retry_at, exhausted, order_id, amount,
            currency, imported_at, last_error, plugin_digest, plugin_faults, refusals, request_id, created_at, updated_at,
            duplicate_of)
        select id, store_id, receipt, status, attempt, next_retry_at, exhausted = 1, order_id, amount, currency,
            imported_at, last_error, plugin_digest, plugin_faults, refusals, request_id, created_at, created_at,"
            original!("r.store_id")
        "from" rows(r, id uuid, store_id uuid, receipt text, status text, attempt int, next_retry_at time, exhausted int,
            order_id text, amount money, currency text, imported_at time, last_error text, plugin_digest text,
            plugin_faults int, refusals int, request_id text, created_at time)
        "where true on conflict (store_id, receipt) do nothing returning id, duplicate_of"];
    // The store of a token, with the log of one of its receipts if there is one.
    LOOK_UP = ["select" store_columns!("s") ", l.status, l.order_id, l.amount, l.currency as order_currency, l.imported_at
        from stores s left join sync_logs l on l.store_id = s.id and l.receipt = $2
        where" has_token!("s", "$1", "$3")];
    FIND_ALL = ["select l.store_id, l.receipt, l.status, l.order_id, l.amount, l.currency as order_currency, l.imported_at
        from" rows(r, store_id uuid, receipt text)
        "join sync_logs l on l.store_id = r.store_id and l.receipt = r.receipt"];
    DUE = ["select id, receipt, status, attempt, plugin_faults, refusals, request_id from sync_logs
        where store_id = $1 and due_at <= $2 order by due_at, id limit $3"];
    // `limit 1` inside: counting all due logs of a store would read them all.
    HAS_DUE = ["select count(*) as number from (select 1 from sync_logs where store_id = $1 and due_at <= $2 limit 1) d"];
}

/// A receipt that was judged and is to be stored.
#[derive(Clone, Debug)]
pub struct NewLog {
    /// Its id, if it is new.
    pub id: LogId,
    /// The store that the receipt belongs to.
    pub store_id: StoreId,
    /// The receipt.
    pub receipt: Receipt,
    /// The state that the answer made of it.
    pub state: LogState,
    /// SHA-256 of the plugin that judged it, if one could.
    pub plugin_digest: Option<String>,
    /// The request that asked for it.
    pub request_id: Option<RequestId>,
    /// The time when it was judged.
    pub at: Time,
}

/// Stores judged receipts, any number of stores mixed, with counters and statuses. A receipt that was there before
/// stays as it was. Returns what each receipt's log tells the client, in the order of `new`.
///
/// Call it in a transaction of its own.
pub async fn record(
    conn: &mut Conn,
    new: &[NewLog],
    now: Time,
) -> Result<Vec<ImportResult>, StoreError> {
    // Stores before logs, as in every transaction that writes logs: two of them never wait for each other in a circle.
    let stores: BTreeMap<StoreId, ()> = new.iter().map(|log| (log.store_id, ())).collect();
    stores::lock(conn, stores.keys().copied()).await?;
    let mut inserted = WrittenLogs::new();
    for round in rounds(new, |log| Some((log.store_id, log.state.order.as_ref()?))) {
        inserted.extend(insert(conn, &round).await?);
    }
    copy_orders(conn, &inserted).await?;
    write_attempts(conn, new, &inserted).await?;
    let changes = changes(new.iter().filter_map(|log| {
        let is_duplicate = *inserted.get(&log.id.0)?;
        Some(Moved {
            store: log.store_id,
            // A log that was not there counted for nothing, as a pending one does.
            before: LogStatus::Pending,
            after: log.state.status,
            is_duplicate,
            asked_at: (log.state.attempt > 0).then_some(log.at),
        })
    }));
    if !changes.is_empty() {
        stores::apply_changes(conn, &changes, now).await?;
    }
    // The usual case saves a read: everything was new, so what was judged is what is stored.
    if inserted.len() == new.len() && !inserted.values().any(|is_duplicate| *is_duplicate) {
        return Ok(new
            .iter()
            .map(|log| import_result(log.state.status, log.state.order.clone()))
            .collect());
    }
    // A statement of its own: it sees what the winner committed while this transaction waited.
    let found = find_all(conn, new).await?;
    new.iter()
        .map(|log| {
            let key = (log.store_id.0, log.receipt.as_str());
            let row = found
                .iter()
                .find(|row| (row.store_id, row.receipt.as_str()) == key);
            let result = row
                .map(|row| row.result.clone().result())
                .transpose()?
                .flatten();
            result.ok_or_else(|| StoreError::unreadable("sync_logs", "a row vanished"))
        })
        .collect()
}

/// The attempts of new logs that did not succeed; the others' logs tell of theirs.
async fn write_attempts(
    conn: &mut Conn,
    new: &[NewLog],
    inserted: &WrittenLogs,
) -> Result<(), StoreError> {
    let mut attempts = NewAttempts::new(conn);
    let failed = new
        .iter()
        .filter(|log| log.state.answer != AnswerKind::Success && inserted.contains_key(&log.id.0));
    for log in failed {
        let (digest, request) = (log.plugin_digest.as_deref(), log.request_id.as_ref());
        attempts.push(log.id, &log.state, digest, request, log.at);
    }
    attempts.write(conn).await
}

async fn insert(conn: &mut Conn, new: &[&NewLog]) -> Result<WrittenLogs, StoreError> {
    let mut rows = Rows::new(conn);
    for log in new {
        rows.push()
            .uuid("id", log.id.0)
            .uuid("store_id", log.store_id.0)
            .text("receipt", log.receipt.as_str())
            .text("request_id", log.request_id.as_ref().map(RequestId::as_str))
            .time("created_at", log.at);
        state_columns(&mut rows, &log.state, log.plugin_digest.as_deref());
    }
    written(conn, INSERT, &rows).await
}

/// The columns of a log that decide what the client is told; all null where there is no log.
#[derive(Clone, FromRow)]
struct ResultRow {
    status: Option<String>,
    order_id: Option<String>,
    amount: Option<Money>,
    order_currency: Option<String>,
    imported_at: Option<At>,
}

impl ResultRow {
    fn result(self) -> Result<Option<ImportResult>, StoreError> {
        let Some(status) = self.status else {
            return Ok(None);
        };
        let order = match (
            self.order_id,
            self.amount,
            self.order_currency,
            self.imported_at,
        ) {
            (Some(id), Some(Money(amount)), Some(currency), Some(At(imported_at))) => {
                let currency = Currency::parse(&currency)
                    .map_err(|why| StoreError::unreadable("sync_logs.currency", why))?;
                Some(Order {
                    id,
                    amount,
                    currency,
                    imported_at,
                })
            }
            _ => None,
        };
        Ok(Some(import_result(parse_status(&status)?, order)))
    }
}

fn parse_status(name: &str) -> Result<LogStatus, StoreError> {
    LogStatus::parse(name).ok_or_else(|| StoreError::unreadable("sync_logs.status", name))
}

#[derive(Clone, FromRow)]
struct FoundRow {
    store_id: Uuid,
    receipt: String,
    #[sqlx(flatten)]
    result: ResultRow,
}

async fn find_all(conn: &mut Conn, new: &[NewLog]) -> Result<Vec<FoundRow>, StoreError> {
    let mut rows = Rows::new(conn);
    for log in new {
        rows.push()
            .uuid("store_id", log.store_id.0)
            .text("receipt", log.receipt.as_str());
    }
    conn.query(FIND_ALL).rows(&rows).all().await
}

/// The store with this token, and what the log of this receipt tells the client if there is one.
pub async fn look_up(
    conn: &mut Conn,
    token: SyncToken,
    receipt: &Receipt,
) -> Result<Option<(Store, Option<ImportResult>)>, StoreError> {
    #[derive(FromRow)]
    struct Row {
        #[sqlx(flatten)]
        store: StoreRow,
        #[sqlx(flatten)]
        log: ResultRow,
    }
    let row: Option<Row> = conn
        .query(LOOK_UP)
        .bind(stores::token::digest(token))
        .bind(receipt.as_str())
        .bind(token.0)
        .optional()
        .await?;
    row.map(|row| Ok((row.store.try_into()?, row.log.result()?)))
        .transpose()
}

/// A log that the sync engine should ask about again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueLog {
    /// The log.
    pub id: LogId,
    /// Its receipt.
    pub receipt: Receipt,
    /// Its status.
    pub status: LogStatus,
    /// The number of times the marketplace was asked.
    pub attempt: i64,
    /// Faults of the adapter on this receipt since it last got an answer.
    pub plugin_faults: i64,
    /// Times that the marketplace refused it.
    pub refusals: i64,
    /// The request that imported it.
    pub request_id: Option<String>,
}

impl DueLog {
    /// The part of it that the next answer builds on.
    pub const fn before(&self) -> Before {
        Before {
            status: self.status,
            attempt: self.attempt,
            plugin_faults: self.plugin_faults,
            refusals: self.refusals,
        }
    }
}

/// The store's logs that were due at `until`, longest due first.
pub async fn due(
    conn: &mut Conn,
    store: StoreId,
    until: Time,
    limit: i64,
) -> Result<Vec<DueLog>, StoreError> {
    #[derive(FromRow)]
    struct Row {
        id: Uuid,
        receipt: String,
        status: String,
        attempt: i64,
        plugin_faults: i64,
        refusals: i64,
        request_id: Option<String>,
    }
    let rows: Vec<Row> = conn
        .query(DUE)
        .bind(store.0)
        .time(until)
        .bind(limit)
        .all()
        .await?;
    rows.into_iter()
        .map(|row| {
            Ok(DueLog {
                id: LogId(row.id),
                receipt: Receipt::from_stored(row.receipt),
                status: parse_status(&row.status)?,
                attempt: row.attempt,
                plugin_faults: row.plugin_faults,
                refusals: row.refusals,
                request_id: row.request_id,
            })
        })
        .collect()
}

/// Tells whether the store has any log that was due at `until`.
pub async fn has_due(conn: &mut Conn, store: StoreId, until: Time) -> Result<bool, StoreError> {
    let query = conn.query(HAS_DUE).bind(store.0).time(until);
    Ok(query.number().await? > 0)
}
