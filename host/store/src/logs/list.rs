//! Receipts as clients and operators look at them: in pages, the newest first.
//!
//! What a page costs does not depend on how many logs there are. It looks at no more than [`MAX_LOOKED_AT`] of them, along an
//! index; where a filter fits so few that the page is not full by then, the next one goes on behind those. Without a store
//! only what is no success is listed, by two partial indexes: successes are nearly all of ten million.

use uuid::Uuid;
use wharf_domain::{LogStatus, MarketplaceName, OrganizationId, StoreId, Time};

use super::row::{Log, read};
use crate::{Conn, StoreError, dialect::statements, query::Query, values::At};

statements! {
    // $1 and $2 are the borders of what is looked at; the literals are those of the partial indexes. The filter stands outside,
    // behind a limit: whatever PostgreSQL thinks of the filter, it goes along the index first.
    UNFINISHED = [logs!() "(select" log_columns!() "from sync_logs l where l.status <> 'success' and l.attempt >= 0
            and l.id < $1 and l.id >= $2 order by l.id desc limit $12) l where" filtered_logs!() "order by l.id desc limit $11"];
    EXHAUSTED = [logs!() "(select" log_columns!() "from sync_logs l where l.exhausted <> (1 = 0) and l.id < $1 and l.id >= $2
            order by l.id desc limit $12) l where" filtered_logs!() "order by l.id desc limit $11"];
    UNFINISHED_OF_STORE = [logs!() "(select" log_columns!() "from sync_logs l where l.store_id = $13 and l.status <> 'success'
            and l.id < $1 and l.id >= $2
            order by l.id desc limit $12) l where" filtered_logs!() "order by l.id desc limit $11"];
    OF_STORE = [logs!() "(select" log_columns!() "from sync_logs l where l.store_id = $13
            and (l.created_at, l.id) < (" time("$14") ", $1) and (l.created_at, l.id) >= (" time("$15") ", $2)
            order by l.created_at desc, l.id desc limit $12) l where" filtered_logs!()
        "order by l.created_at desc, l.id desc limit $11"];
    // The last one that is looked at, and the one behind it, if there is one.
    BORDER_UNFINISHED = ["select id from sync_logs where status <> 'success' and attempt >= 0 and id < $1
        order by id desc limit 2 offset $2"];
    BORDER_EXHAUSTED = ["select id from sync_logs where exhausted <> (1 = 0) and id < $1
        order by id desc limit 2 offset $2"];
    BORDER_UNFINISHED_OF_STORE = ["select id from sync_logs where store_id = $3 and status <> 'success' and id < $1
        order by id desc limit 2 offset $2"];
    BORDER_OF_STORE = ["select created_at, id from sync_logs where store_id = $3 and (created_at, id) < (" time("$4") ", $1)
        order by created_at desc, id desc limit 2 offset $2"];
    COUNT_UNFINISHED = ["select count(*) as number from (select" log_columns!() "from sync_logs l
            where l.status <> 'success' and l.attempt >= 0 and l.id < $1 and l.id >= $2 order by l.id desc limit $11) l where" filtered_logs!()];
    COUNT_EXHAUSTED = ["select count(*) as number from (select" log_columns!() "from sync_logs l
            where l.exhausted <> (1 = 0) and l.id < $1 and l.id >= $2 order by l.id desc limit $11) l where" filtered_logs!()];
    COUNT_UNFINISHED_OF_STORE = ["select count(*) as number from (select" log_columns!() "from sync_logs l
            where l.store_id = $12 and l.status <> 'success' and l.id < $1 and l.id >= $2 order by l.id desc limit $11) l
        where" filtered_logs!()];
}

/// The logs that one page looks at.
pub const MAX_LOOKED_AT: i64 = 10_000;
/// The logs that one count looks at.
pub const MAX_COUNTED_AT: i64 = 100_000;
/// Behind everything: the year 2286.
const LAST: Time = Time::from_micros(9_999_999_999_999_999);

/// The logs to show or to redrive. What is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFilter {
    /// Of this organization.
    pub organization: Option<OrganizationId>,
    /// Of stores at this marketplace.
    pub marketplace: Option<MarketplaceName>,
    /// Of this store.
    pub store: Option<StoreId>,
    /// With this status.
    pub status: Option<LogStatus>,
    /// That rest, or do not.
    pub exhausted: Option<bool>,
    /// With exactly this error.
    pub error: Option<String>,
    /// Imported at this time or later.
    pub since: Option<Time>,
    /// Imported before this time.
    pub until: Option<Time>,
    /// Not those that their marketplace put off.
    pub unlimited: bool,
}

/// A place in a list: behind this log, or behind this store of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogCursor {
    /// The time when it was made.
    pub at: Time,
    /// Its id.
    pub id: Uuid,
}

impl LogCursor {
    /// Before the newest log.
    pub const NEWEST: Self = Self {
        at: LAST,
        id: Uuid::max(),
    };
    /// Before the oldest store.
    pub const OLDEST: Self = Self {
        at: Time::from_micros(0),
        id: Uuid::nil(),
    };
}

/// A page of logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPage {
    /// The logs on it, the newest first.
    pub logs: Vec<Log>,
    /// The place where the next page begins; `None` on the last.
    pub next: Option<LogCursor>,
}

/// The index that a list goes along.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Along {
    /// What is no success yet, of all stores or of one.
    Unfinished(Option<StoreId>),
    /// What rests, of all stores.
    Exhausted,
    /// All logs of one store.
    Store(StoreId),
}

impl Along {
    /// The shortest index that has all that the filter asks for.
    fn of(filter: &LogFilter, unfinished: bool) -> Self {
        let rests = filter.exhausted == Some(true);
        let fails = filter
            .status
            .is_some_and(|status| status != LogStatus::Success);
        match filter.store {
            None if rests => Self::Exhausted,
            Some(store) if !unfinished && !rests && !fails => Self::Store(store),
            store => Self::Unfinished(store),
        }
    }

    /// The last log that may be looked at behind `before`; `None` where no more than `most` are left.
    async fn border(
        self,
        conn: &mut Conn,
        before: LogCursor,
        most: i64,
    ) -> Result<Option<LogCursor>, StoreError> {
        let skipped = most - 1;
        let query = match self {
            Self::Store(store) => {
                let query = conn.query(BORDER_OF_STORE).bind(before.id).bind(skipped);
                let query = query.bind(store.0).time(before.at);
                let border: Vec<(At, Uuid)> = query.all().await?;
                let [(at, id), _] = border[..] else {
                    return Ok(None);
                };
                return Ok(Some(LogCursor { at: at.0, id }));
            }
            Self::Unfinished(None) => conn.query(BORDER_UNFINISHED).bind(before.id).bind(skipped),
            Self::Exhausted => conn.query(BORDER_EXHAUSTED).bind(before.id).bind(skipped),
            Self::Unfinished(Some(store)) => {
                let query = conn.query(BORDER_UNFINISHED_OF_STORE);
                query.bind(before.id).bind(skipped).bind(store.0)
            }
        };
        // By the id alone, so that the index has all that is read: their order is that of the ids.
        Ok(match query.ids().await?[..] {
            [id, _] => Some(LogCursor { at: before.at, id }),
            _ => None,
        })
    }
}

impl LogFilter {
    /// Tells if every log along the index is wanted, so that a page is full at once.
    fn takes_all(&self, along: Along) -> bool {
        let all = Self {
            store: self.store,
            exhausted: self.exhausted.filter(|_| along == Along::Exhausted),
            ..Self::default()
        };
        *self == all
    }

    fn bind<'c>(&'c self, query: Query<'c>) -> Query<'c> {
        query
            .bind(self.status.map_or("", LogStatus::as_str))
            .bind(self.exhausted.map_or(-1i64, i64::from))
            .bind(self.error.as_deref().unwrap_or_default())
            .bind(i64::from(self.unlimited))
            .time(self.since.unwrap_or(LogCursor::OLDEST.at))
            .time(self.until.unwrap_or(LAST))
            .bind(
                self.organization
                    .as_ref()
                    .map_or("", OrganizationId::as_str),
            )
            .bind(
                self.marketplace
                    .as_ref()
                    .map_or("", MarketplaceName::as_str),
            )
    }
}

/// Up to `most` logs behind `before`, the newest first. Without a store, and with `unfinished`, only what is no success.
pub async fn page(
    conn: &mut Conn,
    filter: &LogFilter,
    unfinished: bool,
    before: LogCursor,
    most: usize,
) -> Result<LogPage, StoreError> {
    let along = Along::of(filter, unfinished);
    // One more than the page shows tells whether there is a next one.
    let one_more = i64::try_from(most + 1).unwrap_or(i64::MAX);
    let (border, looked_at) = if filter.takes_all(along) {
        (None, one_more)
    } else {
        let border = along.border(conn, before, MAX_LOOKED_AT).await?;
        (border, MAX_LOOKED_AT)
    };
    let last = border.unwrap_or(LogCursor::OLDEST);
    let (statement, store) = match along {
        Along::Unfinished(None) => (UNFINISHED, None),
        Along::Exhausted => (EXHAUSTED, None),
        Along::Unfinished(Some(store)) => (UNFINISHED_OF_STORE, Some(store)),
        Along::Store(store) => (OF_STORE, Some(store)),
    };
    let query = conn.query(statement).bind(before.id).bind(last.id);
    let mut query = filter.bind(query).bind(one_more).bind(looked_at);
    if let Some(store) = store {
        query = query.bind(store.0);
    }
    if matches!(along, Along::Store(_)) {
        query = query.time(before.at).time(last.at);
    }
    let mut logs = read(query).await?;
    let next = if logs.len() > most {
        logs.truncate(most);
        logs.last().map(Log::cursor)
    } else {
        border
    };
    Ok(LogPage { logs, next })
}

/// Counts logs behind `before` that are no success, among the next [`MAX_COUNTED_AT`]. Returns where the next count begins,
/// unless that were all.
pub async fn count(
    conn: &mut Conn,
    filter: &LogFilter,
    before: LogCursor,
) -> Result<(i64, Option<LogCursor>), StoreError> {
    let along = Along::of(filter, true);
    let border = along.border(conn, before, MAX_COUNTED_AT).await?;
    let last = border.unwrap_or(LogCursor::OLDEST);
    let (statement, store) = match along {
        Along::Exhausted => (COUNT_EXHAUSTED, None),
        Along::Unfinished(None) => (COUNT_UNFINISHED, None),
        Along::Unfinished(Some(store)) | Along::Store(store) => {
            (COUNT_UNFINISHED_OF_STORE, Some(store))
        }
    };
    let query = conn.query(statement).bind(before.id).bind(last.id);
    let mut query = filter.bind(query).bind(MAX_COUNTED_AT);
    if let Some(store) = store {
        query = query.bind(store.0);
    }
    Ok((query.number().await?, border))
}
