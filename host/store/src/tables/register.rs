//! Every table: what keeps it from growing without end, and whether it is exported. A new table needs an entry here.

use super::{catalogue::Known, exported};

/// What keeps a table small, or why it may grow.
#[derive(Clone, Copy, Debug)]
enum Growth {
    /// It has no more rows than what it describes.
    Bounded,
    /// Rows leave when they are old: with `wharf_purged_rows_total{what}`.
    Purged(&'static str),
    /// Rows stay, for this reason.
    Kept(&'static str),
}
use Growth::{Bounded, Kept, Purged};

/// Tables that have a row as soon as their migration was applied. A copy puts the source's in its place.
pub(crate) const SEEDED: &[&str] = &["hold_changes"];

/// What is purged, as the metric names it.
pub const PURGED: &[&str] = &[
    "events",
    "idempotency_keys",
    "organization_limits",
    "plugin_transitions",
    "sync_log_attempts",
];

/// The tables that are not exported, with the reason. Those that are have their columns in `exported`.
const NOT_EXPORTED: &[(&str, &str)] = &[
    ("api_keys", "they are made anew elsewhere"),
    (
        "callback_messages",
        "what is sent is made of the event's payload",
    ),
    ("hold_changes", "the host's"),
    ("holds", "the host's care, and in force only there"),
    (
        "idempotency_keys",
        "answers that are repeated for a day; they may hold secrets",
    ),
    ("key_canaries", "the host's"),
    ("marketplaces", "the host's"),
    ("organization_limits", "they say nothing after a minute"),
    ("plugin_transitions", "the host's"),
    (
        "sync_jobs",
        "work in hand; what came of it stands with the receipts",
    ),
    (
        "sync_log_attempts",
        "what came of them stands with the receipts",
    ),
];

const GROWTH: &[(&str, Growth)] = &[
    // Each organization has a bounded number; those that ended make room (`api_keys::purge`).
    ("api_keys", Bounded),
    ("callback_attempts", Purged("events")),
    ("callback_deliveries", Purged("events")),
    ("callback_messages", Purged("events")),
    ("callback_outbox", Purged("events")),
    ("hold_changes", Bounded),
    // Organizations have a bounded number, operators one for each thing that there is; they leave when they end.
    ("holds", Bounded),
    ("idempotency_keys", Purged("idempotency_keys")),
    ("key_canaries", Bounded),
    ("marketplaces", Bounded),
    ("organization_limits", Purged("organization_limits")),
    ("plugin_transitions", Purged("plugin_transitions")),
    ("stores", Bounded),
    ("sync_jobs", Bounded),
    ("sync_log_attempts", Purged("sync_log_attempts")),
    ("sync_logs", Kept("they make imports idempotent")),
    ("webhook_endpoints", Bounded),
];

/// Tells what the register says otherwise than the database.
pub(super) fn check(tables: &[Known]) -> Result<(), Vec<String>> {
    let mut wrong = Vec::new();
    for (name, _) in GROWTH {
        if tables.iter().all(|known| known.table.name != *name) {
            wrong.push(format!("there is no table {name}"));
        }
    }
    for known in tables {
        let name = &known.table.name;
        let growth: Vec<&Growth> = GROWTH
            .iter()
            .filter(|(of, _)| of == name)
            .map(|(_, growth)| growth)
            .collect();
        match growth[..] {
            // An empty reason is none.
            [Bounded] => {}
            [Purged(what)] if PURGED.contains(what) => {}
            [Kept(why)] if !why.is_empty() => {}
            _ => wrong.push(format!(
                "{name}: say in `register.rs` what keeps it from growing without end"
            )),
        }
        let withheld = NOT_EXPORTED
            .iter()
            .filter(|(of, why)| of == name && !why.is_empty())
            .count();
        let exported = exported::all().filter(|of| of.table == name);
        let exported: Vec<_> = exported.collect();
        if withheld + exported.len() != 1 {
            wrong.push(format!(
                "{name}: say in `register.rs` or `exported.rs` whether it is exported"
            ));
        }
        for of in exported {
            wrong.extend(of.check(known));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}
