//! Receipts and their attempts as clients and operators see them.

use serde::{Serialize, Serializer};
use utoipa::{ToSchema, openapi::Object};
use uuid::Uuid;
use wharf_app::{Log as AppLog, LogAttempt, LogCursor, LogHistory, LogPage as AppLogPage};
use wharf_domain::{Amount, AnswerKind, LogStatus, Time};

use crate::{routes::orders::exact_number, values::names};

/// A receipt of a store, and what became of it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::routes) struct Log {
    id: Uuid,
    store_id: Uuid,
    organization_id: String,
    marketplace: String,
    receipt: String,
    #[schema(schema_with = log_statuses)]
    status: &'static str,
    /// Number of times that the marketplace was asked.
    attempt: i64,
    /// It was refused, or its plugin failed, too often: it is not asked again until it is redriven.
    exhausted: bool,
    /// When the marketplace is asked again; null if it is not.
    #[schema(required, format = DateTime)]
    next_attempt_at: Option<String>,
    #[schema(required)]
    order_id: Option<String>,
    #[serde(serialize_with = "exact_or_null")]
    #[schema(required, value_type = Option<f64>)]
    amount: Option<Amount>,
    #[schema(required)]
    currency: Option<String>,
    #[schema(required, format = DateTime)]
    imported_at: Option<String>,
    /// The reason why it did not succeed.
    #[schema(required)]
    last_error: Option<String>,
    /// Refusals by the marketplace since it was imported or redriven; the tenth exhausts it.
    refusals: i64,
    /// Faults of its plugin since there was an answer; the fifth exhausts it.
    plugin_faults: i64,
    /// SHA-256 of the plugin that answered last.
    #[schema(required)]
    plugin_digest: Option<String>,
    /// The request that imported it (`X-Request-Id`).
    #[schema(required)]
    request_id: Option<String>,
    /// The request, or the id, of the sync run that asked last.
    #[schema(required)]
    sync_request_id: Option<String>,
    /// The receipt under which the store has the same order already.
    #[schema(required)]
    duplicate_of: Option<Uuid>,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
}

fn log_statuses() -> Object {
    let about = "`pending`: the marketplace could not be asked yet. `success`: it stands for an order. `failed`: the \
        marketplace does not know it. `rate_limited`: the marketplace said to come back later.";
    names(about, LogStatus::ALL.map(LogStatus::as_str))
}

fn exact_or_null<S: Serializer>(amount: &Option<Amount>, serializer: S) -> Result<S::Ok, S::Error> {
    match amount {
        Some(amount) => exact_number(amount, serializer),
        None => serializer.serialize_none(),
    }
}

fn time(at: Option<Time>) -> Option<String> {
    at.map(|at| at.to_string())
}

impl From<AppLog> for Log {
    fn from(log: AppLog) -> Self {
        Self {
            id: log.id.0,
            store_id: log.store_id.0,
            organization_id: log.organization_id.to_string(),
            marketplace: log.marketplace.to_string(),
            receipt: log.receipt.as_str().to_owned(),
            status: log.status.as_str(),
            attempt: log.attempt,
            exhausted: log.exhausted,
            next_attempt_at: time(log.due_at),
            order_id: log.order_id,
            amount: log.amount,
            currency: log.currency.map(|currency| currency.to_string()),
            imported_at: time(log.imported_at),
            last_error: log.last_error,
            refusals: log.refusals,
            plugin_faults: log.plugin_faults,
            plugin_digest: log.plugin_digest,
            request_id: log.request_id,
            sync_request_id: log.sync_request_id,
            duplicate_of: log.duplicate_of.map(|id| id.0),
            created_at: log.created_at.to_string(),
            updated_at: log.updated_at.to_string(),
        }
    }
}

/// A page of receipts.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::routes) struct LogPage {
    items: Vec<Log>,
    /// Cursor of the next page; null on the last. A page may hold fewer receipts than its limit, or none, and still have a
    /// next one: a filter looks at 10,000 receipts at a time, a search without a store at 1,000 stores.
    #[schema(required)]
    next_cursor: Option<String>,
}

impl From<AppLogPage> for LogPage {
    fn from(page: AppLogPage) -> Self {
        Self {
            items: page.logs.into_iter().map(Log::from).collect(),
            next_cursor: page.next.map(|next| LogCursor::from(next).to_string()),
        }
    }
}

/// A receipt with its attempts.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::routes) struct LogDetail {
    #[serde(flatten)]
    log: Log,
    /// The latest 20 attempts to ask the marketplace, in the order in which they were made, as far as the host's retention
    /// keeps them.
    #[schema(max_items = 20)]
    attempts: Vec<Attempt>,
}

/// One time that the marketplace was asked.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Attempt {
    /// Its number, from 1.
    attempt: i64,
    #[schema(format = DateTime)]
    at: String,
    #[schema(schema_with = outcomes)]
    outcome: &'static str,
    #[schema(required)]
    error: Option<String>,
    /// The plugin that was asked, if the host knows its revision.
    #[schema(required)]
    plugin: Option<String>,
    /// SHA-256 of its revision.
    #[schema(required)]
    plugin_digest: Option<String>,
    /// The request of the import, or the request or id of the sync run.
    #[schema(required)]
    request_id: Option<String>,
}

fn outcomes() -> Object {
    let about = "`success`: it stands for an order. `refused`: the marketplace does not know it. `rate_limited`: it said \
        to come back later. `unavailable`: it could not be asked. `plugin_failed`: its plugin failed on this receipt.";
    names(about, AnswerKind::ATTEMPTS.map(AnswerKind::as_str))
}

impl From<LogHistory> for LogDetail {
    fn from(history: LogHistory) -> Self {
        let attempt = |(attempt, plugin): (LogAttempt, Option<String>)| Attempt {
            attempt: attempt.number,
            at: attempt.at.to_string(),
            outcome: attempt.outcome.as_str(),
            error: attempt.error,
            plugin,
            plugin_digest: attempt.plugin_digest,
            request_id: attempt.request_id,
        };
        Self {
            log: history.log.into(),
            attempts: history.attempts.into_iter().map(attempt).collect(),
        }
    }
}
