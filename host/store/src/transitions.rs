//! The audit of plugins: what happened to which revision, when, why and by whom. Rows are added,
//! and purged when they are old (`AUDIT_RETENTION`).

use uuid::Uuid;
use wharf_domain::Time;

use crate::{Conn, StoreError, dialect::statements, rows::Rows, values::At};

statements! {
    // A row that was stored already, by an attempt whose answer was lost, stays as it is.
    RECORD = ["insert into plugin_transitions (id, at, plugin, digest, from_state, to_state, reason, actor)
        select id, at, plugin, digest, from_state, to_state, reason, actor
        from" rows(r, id uuid, at time, plugin text, digest text, from_state text, to_state text, reason text,
            actor text)
        "where true on conflict (id) do nothing returning id"];
    // By id, which sorts by time, too, and is the index.
    NEWEST = ["select id, at, plugin, digest, from_state, to_state, reason, actor from plugin_transitions
        where plugin = $1 order by id desc limit $2"];
    PURGE = ["with picked as materialized (select id from plugin_transitions
            where at < $1 order by at limit $2" skip_locked ")
        delete from plugin_transitions where id in (select id from picked where" few("picked.id") ")"];
    LATEST = ["select at from plugin_transitions order by at desc limit 1"];
}

/// One step in the record of a plugin's revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginTransition {
    /// A UUID v7: steps sort by it.
    pub id: Uuid,
    /// The time of it.
    pub at: Time,
    /// The plugin.
    pub plugin: String,
    /// The revision, as hexadecimal digits; `None` if it could not even be read.
    pub digest: Option<String>,
    /// The revision's state before; `None` if it is new.
    pub from: Option<String>,
    /// Its state now.
    pub to: String,
    /// The reason, for people.
    pub reason: String,
    /// The person or program that did it.
    pub actor: String,
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    at: At,
    plugin: String,
    digest: Option<String>,
    from_state: Option<String>,
    to_state: String,
    reason: String,
    actor: String,
}

impl From<Row> for PluginTransition {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            at: row.at.0,
            plugin: row.plugin,
            digest: row.digest,
            from: row.from_state,
            to: row.to_state,
            reason: row.reason,
            actor: row.actor,
        }
    }
}

/// Adds steps to the audit, and returns the ids of those that were not there before. Safe to repeat.
pub async fn record(
    conn: &mut Conn,
    transitions: &[PluginTransition],
) -> Result<Vec<Uuid>, StoreError> {
    let mut rows = Rows::new(conn);
    for step in transitions {
        rows.push()
            .uuid("id", step.id)
            .time("at", step.at)
            .text("plugin", step.plugin.as_str())
            .text("digest", step.digest.as_deref())
            .text("from_state", step.from.as_deref())
            .text("to_state", step.to.as_str())
            .text("reason", step.reason.as_str())
            .text("actor", step.actor.as_str());
    }
    conn.query(RECORD).rows(&rows).ids().await
}

/// A plugin's newest steps, the newest first.
pub async fn newest(
    conn: &mut Conn,
    plugin: &str,
    most: i64,
) -> Result<Vec<PluginTransition>, StoreError> {
    let rows: Vec<Row> = conn.query(NEWEST).bind(plugin).bind(most).all().await?;
    Ok(rows.into_iter().map(PluginTransition::from).collect())
}

/// Removes up to `max` of the oldest steps that were made before `before`. Returns how many.
pub async fn purge(conn: &mut Conn, before: Time, max: i64) -> Result<u64, StoreError> {
    conn.query(PURGE).time(before).bind(max).run().await
}

/// Reads when the latest step was made.
pub async fn latest(conn: &mut Conn) -> Result<Option<Time>, StoreError> {
    let latest: Option<(At,)> = conn.query(LATEST).optional().await?;
    Ok(latest.map(|(at,)| at.0))
}
