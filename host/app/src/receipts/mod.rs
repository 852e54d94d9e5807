//! Receipts as clients and operators look after them: lists, the history of one, and redriving (`redrive.rs`).
//!
//! A client names its organization and one of its stores; an operator may leave both out.

mod cursor;
mod redrive;

use wharf_domain::{LogId, LogStatus, OrganizationId, StoreId, SyncToken};
use wharf_store::{
    logs::{
        self, Log, LogCursor, LogFilter, LogName, LogPage,
        attempts::{self, LogAttempt},
    },
    stores::{self, Store},
};

pub use self::cursor::{ListCursor, RedriveCursor};
pub use self::redrive::{LogRedrive, LogsRedriven, MAX_REDRIVEN};
use crate::{App, AppError, recovery::MAX_PER_PAGE};

/// A list of receipts that was asked for.
#[derive(Clone, Debug, Default)]
pub struct LogQuery {
    /// Which.
    pub filter: LogFilter,
    /// The one that has this receipt or order; of the filter only organization, marketplace and store count then.
    pub name: Option<LogName>,
    /// Where the previous page ended.
    pub from: Option<ListCursor>,
    /// The most of them; at most [`MAX_PER_PAGE`].
    pub limit: usize,
}

/// A receipt with its attempts.
#[derive(Clone, Debug)]
pub struct LogHistory {
    /// The receipt.
    pub log: Log,
    /// Its latest attempts, the first made first, each with the name of the plugin that was asked, if it is known.
    pub attempts: Vec<(LogAttempt, Option<String>)>,
}

impl App {
    /// A page of receipts, the newest first. Without a store only those that are no success.
    ///
    /// # Errors
    /// The organization has no such store.
    pub async fn logs(&self, query: LogQuery) -> Result<LogPage, AppError> {
        let LogQuery {
            filter,
            name,
            from,
            limit,
        } = query;
        self.check_store(&filter).await?;
        let limit = limit.clamp(1, MAX_PER_PAGE);
        let from = from.map(LogCursor::from);
        let mut conn = self.0.ledger.read().await?;
        Ok(match (name, filter.store) {
            // Of all stores only what is no success is listed.
            (None, None) if filter.status == Some(LogStatus::Success) => LogPage {
                logs: Vec::new(),
                next: None,
            },
            (None, _) => {
                let before = from.unwrap_or(LogCursor::NEWEST);
                logs::page(&mut conn, &filter, false, before, limit).await?
            }
            (Some(name), Some(store)) => {
                let found = logs::find(&mut conn, store, &name).await?;
                LogPage {
                    logs: found.into_iter().collect(),
                    next: None,
                }
            }
            (Some(name), None) => {
                let after = from.unwrap_or(LogCursor::OLDEST);
                logs::search(&mut conn, &filter, &name, after).await?
            }
        })
    }

    /// One receipt with its attempts: of this store of this organization, where they are given.
    ///
    /// # Errors
    /// There is no such store or receipt.
    pub async fn log(
        &self,
        organization: Option<&OrganizationId>,
        store: Option<StoreId>,
        id: LogId,
    ) -> Result<LogHistory, AppError> {
        let of_store = LogFilter {
            organization: organization.cloned(),
            store,
            ..LogFilter::default()
        };
        self.check_store(&of_store).await?;
        let log = self.log_of(organization, store, id).await?;
        let mut conn = self.0.ledger.read().await?;
        let attempts = attempts::of_log(&mut conn, &log).await?;
        let digests = attempts
            .iter()
            .filter_map(|attempt| attempt.plugin_digest.as_deref());
        let plugins = attempts::plugins(&mut conn, digests).await?;
        let named = |attempt: LogAttempt| {
            let plugin = plugins
                .iter()
                .find(|(digest, _)| Some(digest) == attempt.plugin_digest.as_ref());
            let plugin = plugin.map(|(_, plugin)| plugin.clone());
            (attempt, plugin)
        };
        Ok(LogHistory {
            attempts: attempts.into_iter().map(named).collect(),
            log,
        })
    }

    async fn log_of(
        &self,
        organization: Option<&OrganizationId>,
        store: Option<StoreId>,
        id: LogId,
    ) -> Result<Log, AppError> {
        let log = logs::get(&mut self.0.ledger.read().await?, id).await?;
        // Another's is told as one that is not there.
        let theirs = |log: &Log| {
            organization.is_none_or(|organization| log.organization_id == *organization)
                && store.is_none_or(|store| log.store_id == store)
        };
        log.filter(theirs).ok_or(AppError::LogNotFound)
    }

    /// Refuses a store that is not there, or not the organization's.
    async fn check_store(&self, filter: &LogFilter) -> Result<(), AppError> {
        let Some(id) = filter.store else {
            return Ok(());
        };
        let store = stores::by_id(&mut self.0.ledger.read().await?, id).await?;
        let theirs = |store: &Store| {
            let organization = filter.organization.as_ref();
            organization.is_none_or(|organization| store.organization_id == *organization)
        };
        match store.filter(theirs) {
            Some(_) => Ok(()),
            None => Err(AppError::StoreNotFound),
        }
    }

    /// The organization's store that has this token.
    ///
    /// # Errors
    /// It has none.
    pub async fn store_of_token(
        &self,
        organization: &OrganizationId,
        token: SyncToken,
    ) -> Result<StoreId, AppError> {
        let store = stores::by_token(&mut self.0.ledger.read().await?, token).await?;
        store
            .filter(|store| store.organization_id == *organization)
            .map(|store| store.id)
            .ok_or(AppError::StoreNotFound)
    }
}
