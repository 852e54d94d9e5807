//! Writing logs: each order counts once for a store, whatever receipts it has.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;
use wharf_domain::{LogState, LogStatus, Order, StoreId, Time};

use crate::{
    Conn, StoreError,
    dialect::{Sql, statements},
    rows::Rows,
    stores::Change,
};

statements! {
    // What a client is told of a duplicate is its original's.
    COPY_ORDERS = ["update sync_logs set amount = f.amount, currency = f.currency, imported_at = f.imported_at
        from sync_logs f where f.id = sync_logs.duplicate_of and sync_logs.id in
            (select id from" rows(r, id uuid) ")"];
}

/// A log that was written.
#[derive(FromRow)]
struct Written {
    id: Uuid,
    /// The log that its order is counted with.
    duplicate_of: Option<Uuid>,
}

/// The logs that were written, by their ids; true for duplicates.
pub(super) type WrittenLogs = HashMap<Uuid, bool>;

/// Divides logs into rounds in which no store has one order twice: a statement does not see what it writes itself, so
/// the second of two waits for the round after the first. One round, but for marketplaces that give an order many names.
pub(super) fn rounds<'l, T>(
    logs: &'l [T],
    order: impl Fn(&'l T) -> Option<(StoreId, &'l Order)>,
) -> Vec<Vec<&'l T>> {
    let mut seen = HashMap::<(StoreId, &str), usize>::new();
    let mut rounds: Vec<Vec<&T>> = Vec::new();
    for log in logs {
        let round = order(log).map_or(0, |(store, order)| {
            let before = seen.entry((store, &order.id)).or_default();
            *before += 1;
            *before - 1
        });
        if round == rounds.len() {
            rounds.push(Vec::new());
        }
        rounds[round].push(log);
    }
    rounds
}

pub(super) async fn copy_orders(conn: &mut Conn, written: &WrittenLogs) -> Result<(), StoreError> {
    let mut rows = Rows::new(conn);
    for (id, _) in written.iter().filter(|(_, is_duplicate)| **is_duplicate) {
        rows.push().uuid("id", *id);
    }
    if !rows.is_empty() {
        conn.query(COPY_ORDERS).rows(&rows).run().await?;
    }
    Ok(())
}

pub(super) async fn written(
    conn: &mut Conn,
    statement: Sql,
    rows: &Rows,
) -> Result<WrittenLogs, StoreError> {
    let written: Vec<Written> = conn.query(statement).rows(rows).all().await?;
    let written = written.into_iter();
    Ok(written
        .map(|log| (log.id, log.duplicate_of.is_some()))
        .collect())
}

pub(super) fn state_columns(rows: &mut Rows, state: &LogState, plugin_digest: Option<&str>) {
    let order = state.order.as_ref();
    rows.text("status", state.status.as_str())
        .int("attempt", state.attempt)
        .time("next_retry_at", state.next_retry_at)
        .int("exhausted", i64::from(state.exhausted))
        .text("order_id", order.map(|order| order.id.as_str()))
        .money("amount", order.map(|order| order.amount))
        .text("currency", order.map(|order| order.currency.as_str()))
        .time("imported_at", order.map(|order| order.imported_at))
        .text("last_error", state.last_error.as_deref())
        .text("plugin_digest", plugin_digest)
        .int("plugin_faults", state.plugin_faults)
        .int("refusals", state.refusals);
}

/// A log whose status changed.
pub(super) struct Moved {
    pub(super) store: StoreId,
    pub(super) before: LogStatus,
    pub(super) after: LogStatus,
    /// Its order is counted with another log.
    pub(super) is_duplicate: bool,
    /// The time when the marketplace was asked, if it was.
    pub(super) asked_at: Option<Time>,
}

/// Sums up what happened by store.
pub(super) fn changes(logs: impl Iterator<Item = Moved>) -> Vec<(StoreId, Change)> {
    let mut changes = BTreeMap::<StoreId, Change>::new();
    for log in logs {
        let change = changes.entry(log.store).or_default();
        let is = |status: LogStatus, wanted| i64::from(status == wanted);
        // An order counts once, under whatever receipt it came first.
        let imported = i64::from(!log.is_duplicate) * is(log.after, LogStatus::Success);
        change.imported += imported - is(log.before, LogStatus::Success);
        change.rate_limited +=
            is(log.after, LogStatus::RateLimited) - is(log.before, LogStatus::RateLimited);
        change.asked_at = change.asked_at.max(log.asked_at);
    }
    changes.into_iter().collect()
}
