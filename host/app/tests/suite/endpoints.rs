//! Endpoints that only fail: spared at first, given up after 120 hours.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::Semaphore};
use wharf_app::{Endpoint, EndpointChange};
use wharf_domain::{EndpointId, EventKind, Health, TargetUrl};
use wharf_tests::{Backend, RawServer, Receiver, on_every_backend, read_request};

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

/// A receiver whose answers wait until the test lets them go.
pub(crate) async fn gated(answer: &'static [u8]) -> Result<(RawServer, Arc<Semaphore>)> {
    let gate = Arc::new(Semaphore::new(0));
    let opened = gate.clone();
    let serve = move |mut stream: TcpStream| {
        let opened = opened.clone();
        async move {
            read_request(&mut stream).await?;
            opened.acquire().await.expect("never closed").forget();
            stream.write_all(answer).await
        }
    };
    Ok((RawServer::start("127.0.0.1", serve).await?, gate))
}

/// Steps until a send has begun.
pub(crate) async fn start_a_send(host: &mut InProcess) -> Result<()> {
    while host.callback_worker.step().await?.started == 0 {}
    Ok(())
}

async fn move_to(host: &InProcess, id: EndpointId, url: &str) -> Result<()> {
    let change = EndpointChange {
        target_url: Some(TargetUrl::parse(url)?),
        ..EndpointChange::default()
    };
    host.app.update_webhook(&organization(), id, change).await?;
    Ok(())
}

async fn a_former_url_says_nothing_of_the_new_one(backend: Backend) -> Result<()> {
    let mut host = InProcess::open(backend).await?;
    let gone = b"HTTP/1.1 410 Gone\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let (former, gate) = gated(gone).await?;
    let url = format!("http://{}/", former.address());
    let hook = host.endpoint(EventKind::SyncCompleted, &url).await?;
    host.app.test_webhook(&organization(), hook.id).await?;
    start_a_send(&mut host).await?;
    let receiver = Receiver::start().await?;
    move_to(&host, hook.id, receiver.url()).await?;
    gate.add_permits(1);
    host.callback_worker.finish().await;
    let moved = endpoint(&host, hook.id).await?;
    assert!(moved.is_active, "{:?}", moved.disabled_reason);
    assert_eq!(moved.health, Health::default());
    host.after(MINUTE).await?;
    assert_eq!(
        receiver.requests().len(),
        1,
        "the new one gets what the former refused"
    );
    Ok(())
}

async fn a_new_url_begins_healthy(backend: Backend) -> Result<()> {
    let mut host = InProcess::open(backend).await?;
    let former = Receiver::start().await?;
    former.answer_status(503);
    let hook = host
        .endpoint(EventKind::SyncCompleted, former.url())
        .await?;
    for _ in 0..12 {
        host.app.test_webhook(&organization(), hook.id).await?;
    }
    host.drain().await?;
    assert!(
        endpoint(&host, hook.id)
            .await?
            .health
            .paused_until
            .is_some()
    );
    let receiver = Receiver::start().await?;
    move_to(&host, hook.id, receiver.url()).await?;
    assert_eq!(endpoint(&host, hook.id).await?.health, Health::default());
    host.app.test_webhook(&organization(), hook.id).await?;
    host.drain().await?;
    assert_eq!(receiver.requests().len(), 1, "no pause of the former one");
    Ok(())
}

on_every_backend!(
    a_former_url_says_nothing_of_the_new_one,
    a_new_url_begins_healthy,
    a_receiver_that_only_fails_is_spared_and_given_up,
    one_success_closes_the_circuit,
);
