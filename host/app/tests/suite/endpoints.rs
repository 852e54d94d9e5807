//! Endpoints that only fail: spared at first, given up after 120 hours.

use std::time::Duration;

use anyhow::Result;
use wharf_app::Endpoint;
use wharf_domain::{EndpointId, EventKind};
use wharf_tests::{Backend, Receiver, on_every_backend};

use crate::host::{InProcess, organization};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

async fn endpoint(host: &InProcess, id: EndpointId) -> Result<Endpoint> {
    Ok(host.app.webhook(&organization(), id).await?)
}

async fn a_receiver_that_only_fails_is_spared_and_given_up(backend: Backend) -> Result<()> {
    let mut host = InProcess::open(backend).await?;
    let receiver = Receiver::start().await?;
    receiver.answer_status(503);
    let hook = host
        .endpoint(EventKind::SyncCompleted, receiver.url())
        .await?;
    for _ in 0..12 {
        host.app.test_webhook(&organization(), hook.id).await?;
    }
    host.drain().await?;
    let health = endpoint(&host, hook.id).await?.health;
    assert_eq!(health.failures, 12);
    assert!(health.paused_until.is_some(), "the circuit is open");

    // The pause is over and all twelve are due: one probes, the others stay. Nobody else waits for them.
    let neighbour = Receiver::start().await?;
    let other = host
        .endpoint(EventKind::SyncCompleted, neighbour.url())
        .await?;
    host.app.test_webhook(&organization(), other.id).await?;
    host.after(MINUTE).await?;
    assert_eq!(receiver.requests().len(), 13);
    assert_eq!(neighbour.requests().len(), 1);
    host.after(119 * HOUR).await?;
    assert_eq!(receiver.requests().len(), 14);
    assert!(endpoint(&host, hook.id).await?.is_active, "not yet");

    host.after(HOUR).await?;
    assert_eq!(receiver.requests().len(), 15);
    let disabled = endpoint(&host, hook.id).await?;
    assert!(!disabled.is_active);
    let reason = disabled.disabled_reason.unwrap_or_default();
    assert_eq!(
        reason,
        "no attempt has succeeded since 2026-01-01T00:00:00.000Z: 15 failed"
    );
    assert!(endpoint(&host, other.id).await?.is_active);
    Ok(())
}

async fn one_success_closes_the_circuit(backend: Backend) -> Result<()> {
    let mut host = InProcess::open(backend).await?;
    let receiver = Receiver::start().await?;
    receiver.answer_status(503);
    let hook = host
        .endpoint(EventKind::SyncCompleted, receiver.url())
        .await?;
    for _ in 0..12 {
        host.app.test_webhook(&organization(), hook.id).await?;
    }
    host.drain().await?;
    receiver.answer_status(204);
    host.after(MINUTE).await?;
    assert_eq!(
        receiver.requests().len(),
        24,
        "one probes, then all are sent"
    );
    let health = endpoint(&host, hook.id).await?.health;
    assert_eq!((health.failures, health.paused_until), (0, None));
    Ok(())
}

on_every_backend!(
    a_receiver_that_only_fails_is_spared_and_given_up,
    one_success_closes_the_circuit,
);
