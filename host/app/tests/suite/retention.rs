//! Events that were finished long ago are purged; what makes imports idempotent is not.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use wharf_domain::EventKind;
use wharf_tests::{Backend, Receiver, on_every_backend};

use crate::host::{InProcess, organization};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const MINUTE: Duration = Duration::from_secs(60);

/// Rows of events with what belongs to them, and logs.
pub(crate) async fn rows(host: &InProcess) -> Result<serde_json::Value> {
    let rows = "select (select count(*) from callback_outbox) + (select count(*) from callback_messages)
        + (select count(*) from callback_deliveries) + (select count(*) from callback_attempts) as events,
        (select count(*) from sync_logs) as logs";
    host.ledger.row(rows).await
}

/// A host with one finished import and one finished event.
pub(crate) async fn finish_one(host: &mut InProcess) -> Result<()> {
    let receiver = Receiver::start().await?;
    let hook = host.endpoint(EventKind::SyncFailed, receiver.url()).await?;
    let store = host.store(&organization()).await?;
    host.import(store, "order-101").await?;
    host.app.test_webhook(&organization(), hook.id).await?;
    host.drain().await?;
    assert_eq!(receiver.requests().len(), 1);
    Ok(())
}

async fn finished_events_are_purged_and_logs_are_not(backend: Backend) -> Result<()> {
    let mut host = InProcess::open(backend).await?;
    finish_one(&mut host).await?;
    host.after(30 * DAY - MINUTE).await?;
    assert_eq!(rows(&host).await?, json!({"events": 4, "logs": 1}));
    host.after(2 * MINUTE).await?;
    assert_eq!(rows(&host).await?, json!({"events": 0, "logs": 1}));
    Ok(())
}

async fn nothing_is_purged_without_a_retention(backend: Backend) -> Result<()> {
    let mut host =
        InProcess::open_with(backend, |settings| settings.callbacks.retention = None).await?;
    finish_one(&mut host).await?;
    host.after(3_650 * DAY).await?;
    assert_eq!(rows(&host).await?, json!({"events": 4, "logs": 1}));
    Ok(())
}

/// Steps of plugins in the audit.
async fn steps(host: &InProcess) -> Result<i64> {
    host.ledger
        .number("select count(*) from plugin_transitions")
        .await
}

async fn old_steps_of_plugins_are_purged_and_counted(backend: Backend) -> Result<()> {
    let mut host = InProcess::open(backend).await?;
    // The beginning of these tests' time.
    let (at, id) = match backend {
        Backend::Postgres => ("timestamptz '2026-01-01 00:00:00Z'", "gen_random_uuid()"),
        Backend::Embedded => ("1767225600000000", "randomblob(16)"),
    };
    host.ledger
        .execute(&format!(
            "insert into plugin_transitions (id, at, plugin, to_state, reason, actor)
             values ({id}, {at}, 'etsy', 'active', 'it may serve', 'test')"
        ))
        .await?;
    // The first look, from which the cut-off goes on.
    host.drain().await?;
    host.after(399 * DAY).await?;
    assert_eq!(steps(&host).await?, 1);
    host.after(2 * DAY).await?;
    assert_eq!(steps(&host).await?, 0);
    let counted = r#"wharf_purged_rows_total{what="plugin_transitions"} 1"#;
    let figures = host.app.scrape().await;
    assert!(figures.contains(counted), "{figures}");
    Ok(())
}

on_every_backend!(
    old_steps_of_plugins_are_purged_and_counted,
    finished_events_are_purged_and_logs_are_not,
    nothing_is_purged_without_a_retention,
);
