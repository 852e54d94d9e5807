//! Redriving: receipts that did not succeed are asked about once more, one of them or all that a filter fits.
//!
//! Page by page, each a transaction of its own, and over as many requests as it takes. Each request tells where it stopped.
//! From there on the next one meets none of the receipts that it has done, and what is imported meanwhile lies before both.

use std::time::Duration;

use tracing::info;
use wharf_domain::{LogId, LogStatus, OrganizationId, StoreId, Time};
use wharf_store::{
    jobs,
    logs::{self, LogCursor, LogFilter, ToRedrive},
};

use super::{ListCursor, RedriveCursor};
use crate::{App, AppError, Once, Run, budgets::Budgeted, failpoint};

/// Receipts of one transaction: it locks their stores, and the embedded database has one writer, for which imports wait.
const MAX_PER_TRANSACTION: usize = 100;
/// Receipts of one request.
pub const MAX_REDRIVEN: usize = 10_000;
/// Pages of one request: as many as these receipts fill, and a million receipts looked at where the filter fits hardly any.
const MAX_PAGES: usize = MAX_REDRIVEN / MAX_PER_TRANSACTION;
/// No page begins later than this: whoever asked waits for the answer.
const MAX_TIME: Duration = Duration::from_secs(10);

/// Receipts to redrive, and how.
#[derive(Clone, Debug)]
pub struct LogRedrive {
    /// This one.
    pub log: Option<LogId>,
    /// Otherwise all that it fits. Where it names no status, what the marketplace put off keeps its time.
    pub filter: LogFilter,
    /// Spread over time, so many a minute; `None` for all at once.
    pub per_minute: Option<i64>,
    /// The most of them in this request; at most [`MAX_REDRIVEN`].
    pub limit: usize,
    /// The place where an earlier request stopped.
    pub from: Option<RedriveCursor>,
    /// Rehearsed or done.
    pub run: Run,
}

/// Receipts that were redriven, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogsRedriven {
    /// Their number.
    pub logs: usize,
    /// The place where the next request goes on; `None`: all is done, or counted.
    pub next: Option<RedriveCursor>,
}

/// The times at which what is redriven falls due.
struct Pace {
    due_at: Time,
    interval: Duration,
}

impl Pace {
    fn new(how: &LogRedrive, now: Time) -> Self {
        let rate = how
            .per_minute
            .map(|rate| u32::try_from(rate.max(1)).unwrap_or(u32::MAX));
        Self {
            // Never in the past: whoever comes back late would have all that the gap holds asked at once.
            due_at: how.from.map_or(now, |from| from.due_at.max(now)),
            interval: rate.map_or(Duration::ZERO, |rate| Duration::from_secs(60) / rate),
        }
    }

    fn next(&mut self) -> Time {
        let at = self.due_at;
        self.due_at = at + self.interval;
        at
    }
}

impl App {
    /// Redrives receipts: those of one store of `client`, or any, where an operator asks.
    ///
    /// # Errors
    /// There is no such receipt or store, or the client asked for it too often.
    pub async fn redrive_logs(
        &self,
        client: Option<&OrganizationId>,
        mut how: LogRedrive,
        once: &Once<LogsRedriven>,
    ) -> Result<LogsRedriven, AppError> {
        self.check_store(&how.filter).await?;
        if let Some(client) = client {
            self.spend(client, Budgeted::Recover).await?;
        }
        if let Some(id) = how.log {
            return self.redrive_one(id, &how, once).await;
        }
        how.filter.unlimited = how.filter.status.is_none();
        let redriven = match how.run {
            // There are none to look for.
            _ if how.filter.status == Some(LogStatus::Success) => LogsRedriven::default(),
            Run::Dry => self.count_redrivable(&how).await?,
            Run::Real => self.redrive_some(&how).await?,
        };
        // A crash before it loses nothing: the pages are committed, and the request may be repeated.
        let mut conn = self.0.ledger.write().await?;
        once.record(&mut conn, &redriven).await?;
        Ok(redriven)
    }

    async fn redrive_one(
        &self,
        id: LogId,
        how: &LogRedrive,
        once: &Once<LogsRedriven>,
    ) -> Result<LogsRedriven, AppError> {
        let (organization, store) = (how.filter.organization.as_ref(), how.filter.store);
        let log = self.log_of(organization, store, id).await?;
        let mut redriven = LogsRedriven {
            logs: usize::from(log.status != LogStatus::Success),
            next: None,
        };
        let now = self.0.clock.now();
        let mut tx = self.0.ledger.begin().await?;
        let due = ToRedrive {
            id,
            store: log.store_id,
            due_at: now,
        };
        if how.run == Run::Real {
            let any = LogFilter::default();
            let done = logs::redrive(&mut tx, &[due], &any, now).await?;
            redriven.logs = done.len();
            if !done.is_empty() {
                jobs::enqueue(&mut tx, [log.store_id], now).await?;
            }
        }
        once.record(&mut tx, &redriven).await?;
        tx.commit().await?;
        if how.run == Run::Real && redriven.logs > 0 {
            self.ring_for(log.store_id);
        }
        Ok(redriven)
    }

    async fn count_redrivable(&self, how: &LogRedrive) -> Result<LogsRedriven, AppError> {
        let before = how.from.map_or(LogCursor::NEWEST, |from| from.place.into());
        let mut conn = self.0.ledger.read().await?;
        let (logs, next) = logs::count(&mut conn, &how.filter, before).await?;
        let now = self.0.clock.now();
        Ok(LogsRedriven {
            logs: usize::try_from(logs).unwrap_or_default(),
            next: next.map(|place| RedriveCursor {
                due_at: now,
                place: place.into(),
            }),
        })
    }

    /// As many as one request may.
    async fn redrive_some(&self, how: &LogRedrive) -> Result<LogsRedriven, AppError> {
        let clock = &self.0.clock;
        let until = clock.elapsed() + MAX_TIME;
        let mut pace = Pace::new(how, clock.now());
        let mut place = how.from.map(|from| from.place);
        let mut redriven = LogsRedriven::default();
        let mut left = how.limit.clamp(1, MAX_REDRIVEN);
        for _ in 0..MAX_PAGES {
            let before = place.map_or(LogCursor::NEWEST, LogCursor::from);
            let mut conn = self.0.ledger.read().await?;
            let most = left.min(MAX_PER_TRANSACTION);
            let page = logs::page(&mut conn, &how.filter, true, before, most).await?;
            drop(conn);
            let due: Vec<ToRedrive> = page
                .logs
                .iter()
                .map(|log| ToRedrive {
                    id: log.id,
                    store: log.store_id,
                    due_at: pace.next(),
                })
                .collect();
            redriven.logs += self.redrive_page(&due, &how.filter).await?;
            left -= due.len();
            place = page.next.map(ListCursor::from);
            if place.is_none() || left == 0 || clock.elapsed() >= until {
                break;
            }
        }
        redriven.next = place.map(|place| RedriveCursor {
            due_at: pace.due_at,
            place,
        });
        info!(receipts = redriven.logs, "receipts_redriven");
        Ok(redriven)
    }

    /// One transaction: the receipts, and the jobs of the stores that have some due at once. The scheduler finds what falls
    /// due later.
    async fn redrive_page(&self, due: &[ToRedrive], filter: &LogFilter) -> Result<usize, AppError> {
        if due.is_empty() {
            return Ok(0);
        }
        let now = self.0.clock.now();
        let mut tx = self.0.ledger.begin().await?;
        let redriven = logs::redrive(&mut tx, due, filter, now).await?;
        let mut stores: Vec<StoreId> = due
            .iter()
            .filter(|log| log.due_at <= now && redriven.contains(&log.id))
            .map(|log| log.store)
            .collect();
        // In one order, as everybody takes jobs, and each once: a statement meets a row but once.
        stores.sort_unstable();
        stores.dedup();
        if !stores.is_empty() {
            jobs::enqueue(&mut tx, stores.iter().copied(), now).await?;
        }
        failpoint::pass("redrive.commit.before");
        tx.commit().await?;
        failpoint::pass("redrive.commit.after");
        stores.into_iter().for_each(|store| self.ring_for(store));
        Ok(redriven.len())
    }
}
