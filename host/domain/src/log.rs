//! Sync logs: what an answer of a marketplace makes of a receipt, and what the client is told.

use std::time::Duration;

use crate::{Amount, Backoff, Currency, Time};

/// The status of one receipt's import.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogStatus {
    /// The marketplace could not be asked yet.
    Pending,
    /// The marketplace confirmed the order. Final.
    Success,
    /// The marketplace knows no such receipt.
    Failed,
    /// The marketplace asked us to come back later.
    RateLimited,
}

impl LogStatus {
    /// The name in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::RateLimited => "rate_limited",
        }
    }

    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Pending,
        Self::Success,
        Self::Failed,
        Self::RateLimited,
    ];

    /// Reads the name; `None` if it is none of ours.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == name)
    }
}

/// An order that a marketplace confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The marketplace's own id of the order.
    pub id: String,
    /// The exact amount.
    pub amount: Amount,
    /// The order's currency.
    pub currency: Currency,
    /// The time of the import, as the adapter tells it.
    pub imported_at: Time,
}

/// The answer of a marketplace about a receipt, or the lack of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It stands for this order.
    Accepted(Order),
    /// It stands for nothing; the reason is for people.
    Refused(String),
    /// Come back later, after this long if the marketplace said so.
    RateLimited(Option<Duration>),
    /// The marketplace could not be asked (down, adapter trapped or too slow); the reason is for people.
    Unavailable(String),
    /// The same, and the marketplace said for how long at least (503 with `Retry-After`).
    Busy(String, Duration),
    /// The adapter failed on this receipt by its own fault; the reason is for people.
    Faulted(String),
    /// The adapter is out of service (none installed, quarantined, overloaded) or its marketplace is: nobody was asked.
    Deferred {
        /// The reason, for people.
        reason: String,
        /// To be asked after this long at the earliest.
        wait: Duration,
    },
}

impl Answer {
    /// Returns true if nobody was asked.
    pub const fn is_put_off(&self) -> bool {
        matches!(self, Self::Deferred { .. })
    }

    /// The kind of answer that it is.
    pub const fn kind(&self) -> AnswerKind {
        match self {
            Self::Accepted(_) => AnswerKind::Success,
            Self::Refused(_) => AnswerKind::Refused,
            Self::RateLimited(_) => AnswerKind::RateLimited,
            Self::Unavailable(_) | Self::Busy(..) => AnswerKind::Unavailable,
            Self::Faulted(_) => AnswerKind::PluginFailed,
            Self::Deferred { .. } => AnswerKind::PutOff,
        }
    }
}

/// The kind of an answer, as the history of a receipt tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AnswerKind {
    /// It stands for an order.
    Success,
    /// It stands for nothing.
    Refused,
    /// Come back later.
    RateLimited,
    /// The marketplace could not be asked.
    Unavailable,
    /// The adapter failed on this receipt.
    PluginFailed,
    /// Nobody was asked, so it is no attempt.
    PutOff,
}

impl AnswerKind {
    /// The kinds of attempts.
    pub const ATTEMPTS: [Self; 5] = [
        Self::Success,
        Self::Refused,
        Self::RateLimited,
        Self::Unavailable,
        Self::PluginFailed,
    ];

    /// The name in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Refused => "refused",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::PluginFailed => "plugin_failed",
            Self::PutOff => "put_off",
        }
    }

    /// Reads the name; `None` if it is none of an attempt's.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ATTEMPTS
            .into_iter()
            .find(|kind| kind.as_str() == name)
    }
}

/// The part of a log that an answer decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogState {
    /// The kind of answer that made it.
    pub answer: AnswerKind,
    /// The status of the import.
    pub status: LogStatus,
    /// The number of times the marketplace was asked.
    pub attempt: i64,
    /// The time to ask again; `None` is at once, unless the log is finished.
    pub next_retry_at: Option<Time>,
    /// It rests: refused so often, or the adapter failed on it so often.
    pub exhausted: bool,
    /// Faults of the adapter on this receipt since it last got an answer.
    pub plugin_faults: i64,
    /// Times that the marketplace refused it.
    pub refusals: i64,
    /// The confirmed order, exactly when the status is success.
    pub order: Option<Order>,
    /// The reason why it did not succeed, for people.
    pub last_error: Option<String>,
}

/// A receipt that was refused this often rests.
pub const MAX_REFUSALS: i64 = 10;

/// A receipt on which its adapter failed this often rests until another revision of the adapter serves.
pub const MAX_PLUGIN_FAULTS: i64 = 5;

/// The wait of a log whose adapter was out of service.
const DEFERRED_FOR: Duration = Duration::from_secs(30);

/// The part of a log that the next answer builds on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Before {
    /// Its status.
    pub status: LogStatus,
    /// The number of times the marketplace was asked.
    pub attempt: i64,
    /// Faults of the adapter on this receipt since it last got an answer.
    pub plugin_faults: i64,
    /// Times that the marketplace refused it.
    pub refusals: i64,
}

impl Before {
    /// A receipt that nobody was asked about yet.
    pub const NEW: Self = Self {
        status: LogStatus::Pending,
        attempt: 0,
        plugin_faults: 0,
        refusals: 0,
    };
}

/// Returns the state that an answer gives to a log.
///
/// A first refusal is asked again at the next run (`next_retry_at` = now), later ones after the backoff, and after
/// [`MAX_REFUSALS`] of them it rests. A receipt on which the adapter fails rests after [`MAX_PLUGIN_FAULTS`] faults.
/// Rate limits and outages are retried for ever: they say nothing about the order.
pub fn next_state(before: Before, answer: Answer, now: Time) -> LogState {
    let (status_before, attempts, kind) = (before.status, before.attempt, answer.kind());
    let attempt = attempts + 1;
    // An answer about the receipt clears the adapter's faults; without one they are put back.
    let retry = |status, attempt, wait: Duration, error: String| LogState {
        answer: kind,
        status,
        attempt,
        next_retry_at: Some(now + wait),
        exhausted: false,
        plugin_faults: 0,
        refusals: before.refusals,
        order: None,
        last_error: Some(error),
    };
    // A log that was refused or limited before stays so: an outage is no news about the receipt.
    let outage = |reason, wait| LogState {
        plugin_faults: before.plugin_faults,
        ..retry(
            status_before,
            attempt,
            Backoff::LOG.after(attempt).max(wait),
            reason,
        )
    };
    match answer {
        Answer::Accepted(order) => LogState {
            answer: kind,
            status: LogStatus::Success,
            attempt,
            next_retry_at: None,
            exhausted: false,
            plugin_faults: 0,
            refusals: before.refusals,
            order: Some(order),
            last_error: None,
        },
        // The marketplace says no for the tenth time: asking on would cost it and us a call a run, for ever.
        Answer::Refused(reason) if before.refusals + 1 >= MAX_REFUSALS => LogState {
            next_retry_at: None,
            exhausted: true,
            refusals: before.refusals + 1,
            ..retry(LogStatus::Failed, attempt, Duration::ZERO, reason)
        },
        Answer::Refused(reason) => {
            // A first refusal is asked about at the next run, as in the original; only repeated ones wait.
            let wait = if status_before == LogStatus::Failed {
                Backoff::LOG.after(attempt)
            } else {
                Duration::ZERO
            };
            LogState {
                refusals: before.refusals + 1,
                ..retry(LogStatus::Failed, attempt, wait, reason)
            }
        }
        // The longer of both: a marketplace that asks for a second must not be asked sixty times a minute.
        Answer::RateLimited(asked) => {
            let wait = Backoff::LOG.after(attempt).max(asked.unwrap_or_default());
            retry(LogStatus::RateLimited, attempt, wait, "rate_limited".into())
        }
        Answer::Unavailable(reason) => outage(reason, Duration::ZERO),
        Answer::Busy(reason, wait) => outage(reason, wait),
        Answer::Faulted(reason) => faulted(before, reason, now),
        // Nobody was asked, so no attempt is counted.
        Answer::Deferred { reason, wait } => LogState {
            plugin_faults: before.plugin_faults,
            ..retry(status_before, attempts, wait.max(DEFERRED_FOR), reason)
        },
    }
}

/// The adapter failed on this receipt. It may be the receipt's own, so it is not asked about for ever.
fn faulted(before: Before, reason: String, now: Time) -> LogState {
    let (attempt, plugin_faults) = (before.attempt + 1, before.plugin_faults + 1);
    let rests = plugin_faults >= MAX_PLUGIN_FAULTS;
    let (status, last_error) = if rests {
        let often = format!("the plugin failed {plugin_faults} times on this receipt: {reason}");
        (LogStatus::Failed, often)
    } else {
        (before.status, reason)
    };
    LogState {
        answer: AnswerKind::PluginFailed,
        status,
        attempt,
        next_retry_at: (!rests).then(|| now + Backoff::LOG.after(attempt)),
        exhausted: rests,
        plugin_faults,
        refusals: before.refusals,
        order: None,
        last_error: Some(last_error),
    }
}

/// The answer to a client about an import, now and whenever it asks again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportResult {
    /// `{success: true, ...}`.
    Imported(Order),
    /// `{success: false, error: "invalid_receipt"}`.
    InvalidReceipt,
    /// `{success: false, error: "rate_limited"}`.
    RateLimited,
    /// `{success: false, error: "marketplace_unavailable"}`.
    Unavailable,
}

/// Returns the answer to the client that a stored log stands for.
pub fn import_result(status: LogStatus, order: Option<Order>) -> ImportResult {
    match (status, order) {
        (LogStatus::Success, Some(order)) => ImportResult::Imported(order),
        (LogStatus::Failed, _) => ImportResult::InvalidReceipt,
        (LogStatus::RateLimited, _) => ImportResult::RateLimited,
        // A success without an order is a row changed by hand.
        (LogStatus::Pending | LogStatus::Success, _) => ImportResult::Unavailable,
    }
}

#[cfg(test)]
mod tests;
