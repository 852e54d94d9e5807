//! Purging events that were finished long ago.

use wharf_domain::Time;

use crate::{Conn, StoreError, dialect::statements, values::At};

statements! {
    // With their attempts. An event may have a thousand deliveries: a batch is bounded by these, not by events alone.
    PURGE_DELIVERIES = ["with oldest as materialized (select id from callback_outbox
            where status <> 'pending' and updated_at < $1 order by updated_at limit $2),
        picked as materialized (select d.id from callback_deliveries d
            where d.outbox_id in (select id from oldest where" few("oldest.id") ") limit $3" skip_locked ")
        delete from callback_deliveries where id in (select id from picked where" few("picked.id") ")"];
    // With its messages, once its deliveries are gone. What another process is removing is left to it.
    PURGE = ["with picked as materialized (select id from callback_outbox
            where status <> 'pending' and updated_at < $1 order by updated_at limit $2" skip_locked ")
        delete from callback_outbox where id in (select id from picked where" few("picked.id") ")
            and not exists (select 1 from callback_deliveries d where d.outbox_id = callback_outbox.id)"];
    NEWEST_FINISHED = ["select updated_at from callback_outbox where status <> 'pending' order by updated_at desc limit 1"];
}

/// Rows that a batch of a purge removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Events, with their messages.
    pub events: u64,
    /// Deliveries, with their attempts.
    pub deliveries: u64,
}

/// Removes deliveries, at most `max_deliveries`, of the `max_events` oldest events that were finished before `before`,
/// and those of the events that have none left.
///
/// Call it in a transaction of its own.
pub async fn purge(
    conn: &mut Conn,
    before: Time,
    max_events: i64,
    max_deliveries: i64,
) -> Result<Purged, StoreError> {
    let oldest = conn.query(PURGE_DELIVERIES).time(before).bind(max_events);
    let deliveries = oldest.bind(max_deliveries).run().await?;
    let events = conn
        .query(PURGE)
        .time(before)
        .bind(max_events)
        .run()
        .await?;
    Ok(Purged { events, deliveries })
}

/// Reads when the latest event was finished, of those that are still stored.
pub async fn newest_finished(conn: &mut Conn) -> Result<Option<Time>, StoreError> {
    let newest: Option<(At,)> = conn.query(NEWEST_FINISHED).optional().await?;
    Ok(newest.map(|(at,)| at.0))
}
