//! The attempts of a receipt: each time that its marketplace was asked, with the answer.
//!
//! A receipt that succeeds at its first attempt, as nearly all do, has none of its own: its log tells when, by which
//! revision and for which request. So an import that goes well writes no further row. All others are written in the
//! transaction that writes the log, in one statement for all of them.

use wharf_domain::{AnswerKind, LogId, LogState, LogStatus, RequestId, Time};

use super::row::Log;
use crate::{Conn, StoreError, dialect::statements, rows::Rows, values::At};

statements! {
    // A repeat of what was written already changes nothing.
    INSERT = ["insert into sync_log_attempts (log_id, attempt, at, outcome, error, plugin_digest, request_id)
        select log_id, attempt, at, outcome, error, plugin_digest, request_id
        from" rows(r, log_id uuid, attempt int, at time, outcome text, error text, plugin_digest text, request_id text)
        "where true on conflict (log_id, attempt) do nothing"];
    TRIM = ["delete from sync_log_attempts where (log_id, attempt) in (select log_id, attempt
        from" rows(r, log_id uuid, attempt int) ")"];
    OF_LOG = ["select attempt, at, outcome, error, plugin_digest, request_id from sync_log_attempts
        where log_id = $1 order by attempt desc limit $2"];
    PURGE = ["with picked as materialized (select log_id, attempt from sync_log_attempts
            where at < $1 order by at limit $2" skip_locked ")
        delete from sync_log_attempts where (log_id, attempt) in (select log_id, attempt from picked
            where" few("picked.attempt") ")"];
    // Of each digest the plugin that last had it.
    PLUGINS = ["select r.digest, (select t.plugin from plugin_transitions t where t.digest = r.digest
            order by t.id desc limit 1) as plugin
        from" rows(r, digest text)];
}

/// The latest so many attempts of a receipt are kept, whatever its number of attempts: one that is rate-limited for ever is
/// asked every hour.
pub const MAX_ATTEMPTS: i64 = 20;

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogAttempt {
    /// Its number, from 1.
    pub number: i64,
    /// The time when it was made.
    pub at: Time,
    /// The answer.
    pub outcome: AnswerKind,
    /// The reason why it did not succeed, for people.
    pub error: Option<String>,
    /// SHA-256 of the plugin that was asked, if one could be.
    pub plugin_digest: Option<String>,
    /// The request of the import or of the sync run.
    pub request_id: Option<String>,
}

/// Attempts to be written.
pub(super) struct NewAttempts {
    rows: Rows,
    outdated: Rows,
}

impl NewAttempts {
    pub(super) fn new(conn: &Conn) -> Self {
        Self {
            rows: Rows::new(conn),
            outdated: Rows::new(conn),
        }
    }

    /// Adds the answer that made this state. Nothing, where nobody was asked.
    pub(super) fn push(
        &mut self,
        log: LogId,
        state: &LogState,
        digest: Option<&str>,
        request: Option<&RequestId>,
        at: Time,
    ) {
        if state.answer == AnswerKind::PutOff {
            return;
        }
        self.rows
            .push()
            .uuid("log_id", log.0)
            .int("attempt", state.attempt)
            .time("at", at)
            .text("outcome", state.answer.as_str())
            .text("error", state.last_error.as_deref())
            .text("plugin_digest", digest)
            .text("request_id", request.map(RequestId::as_str));
        // One comes, one goes: they are numbered without gaps.
        if state.attempt > MAX_ATTEMPTS {
            self.outdated
                .push()
                .uuid("log_id", log.0)
                .int("attempt", state.attempt - MAX_ATTEMPTS);
        }
    }

    pub(super) async fn write(self, conn: &mut Conn) -> Result<(), StoreError> {
        if !self.rows.is_empty() {
            conn.query(INSERT).rows(&self.rows).run().await?;
        }
        if !self.outdated.is_empty() {
            conn.query(TRIM).rows(&self.outdated).run().await?;
        }
        Ok(())
    }
}

/// The attempts of a receipt that are known, the first made first: the latest [`MAX_ATTEMPTS`], as far as retention keeps
/// them. Those of before this table was there are not.
pub async fn of_log(conn: &mut Conn, log: &Log) -> Result<Vec<LogAttempt>, StoreError> {
    #[derive(FromRow)]
    struct Row {
        attempt: i64,
        at: At,
        outcome: String,
        error: Option<String>,
        plugin_digest: Option<String>,
        request_id: Option<String>,
    }
    let query = conn.query(OF_LOG).bind(log.id.0).bind(MAX_ATTEMPTS);
    let rows: Vec<Row> = query.all().await?;
    let mut attempts = Vec::with_capacity(rows.len() + 1);
    // What was written since the log was read is for the next look: it would not fit the log.
    for row in rows.into_iter().filter(|row| row.attempt <= log.attempt) {
        let outcome = AnswerKind::parse(&row.outcome)
            .ok_or_else(|| StoreError::unreadable("sync_log_attempts.outcome", &row.outcome))?;
        attempts.push(LogAttempt {
            number: row.attempt,
            at: row.at.0,
            outcome,
            error: row.error,
            plugin_digest: row.plugin_digest,
            request_id: row.request_id,
        });
    }
    attempts.reverse();
    if attempts.last().is_none_or(|last| last.number < log.attempt) {
        attempts.extend(told_by_the_log(log));
    }
    Ok(attempts)
}

/// The attempt that succeeded, where it has no row of its own. Nothing changes a log after that.
fn told_by_the_log(log: &Log) -> Option<LogAttempt> {
    (log.status == LogStatus::Success && log.attempt > 0).then(|| LogAttempt {
        number: log.attempt,
        // An import makes its log at that time; a sync run changes one.
        at: if log.sync_request_id.is_none() {
            log.created_at
        } else {
            log.updated_at
        },
        outcome: AnswerKind::Success,
        error: None,
        plugin_digest: log.plugin_digest.clone(),
        request_id: log.sync_request_id.clone().or(log.request_id.clone()),
    })
}

/// The names of the plugins that these revisions are of, as far as the audit knows them.
pub async fn plugins(
    conn: &mut Conn,
    digests: impl IntoIterator<Item = &str>,
) -> Result<Vec<(String, String)>, StoreError> {
    #[derive(FromRow)]
    struct Row {
        digest: String,
        plugin: Option<String>,
    }
    let mut rows = Rows::new(conn);
    for digest in digests {
        rows.push().text("digest", digest);
    }
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<Row> = conn.query(PLUGINS).rows(&rows).all().await?;
    let named = rows.into_iter();
    Ok(named
        .filter_map(|row| Some((row.digest, row.plugin?)))
        .collect())
}

/// Removes attempts that were made before `before`, at most `most`. Returns how many.
pub async fn purge(conn: &mut Conn, before: Time, most: i64) -> Result<u64, StoreError> {
    conn.query(PURGE).time(before).bind(most).run().await
}
