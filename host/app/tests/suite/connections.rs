//! Connections to receivers: kept for the next webhook, however many endpoints share a receiver.

use anyhow::{Result, ensure};
use tokio::io::AsyncWriteExt;
use wharf_domain::{EventKind, OrganizationId};
use wharf_tests::{Backend, RawServer, on_every_backend, read_request};

use crate::host::InProcess;

/// Two, because one gets no more than half of the places.
const ORGANIZATIONS: [&str; 2] = ["one", "other"];
const ENDPOINTS_EACH: usize = 2;
const EVENTS_EACH: usize = 200;

async fn a_receiver_of_many_endpoints_keeps_its_connections(backend: Backend) -> Result<()> {
    // As many at a time as all endpoints together may have.
    let mut host = InProcess::open_with(backend, |settings| {
        settings.callbacks.concurrency = 16;
        settings.callbacks.per_endpoint = 4;
    })
    .await?;
    let receiver = RawServer::start("127.0.0.1", |mut stream| async move {
        loop {
            read_request(&mut stream).await?;
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            stream.write_all(answer).await?;
        }
    })
    .await?;
    for organization in ORGANIZATIONS {
        for number in 0..ENDPOINTS_EACH {
            let url = format!("http://{}/{organization}/{number}", receiver.address());
            let organization = OrganizationId::parse(organization)?;
            host.endpoint_of(&organization, EventKind::SyncFailed, &url)
                .await?;
        }
        for _ in 0..EVENTS_EACH {
            host.ledger
                .put_event(organization, "sync.failed", "{}")
                .await?;
        }
    }
    // SQL dates them by the day of the test, not by the test's clock.
    let due = host.ledger.time(-20 * 365 * 24 * 60 * 60);
    let due = format!("update callback_outbox set due_at = {due}");
    host.ledger.execute(&due).await?;
    host.drain().await?;

    let sent = "select count(*) from callback_attempts where http_status = 200";
    let sent = usize::try_from(host.ledger.number(sent).await?)?;
    assert_eq!(sent, ORGANIZATIONS.len() * ENDPOINTS_EACH * EVENTS_EACH);
    let connections = receiver.connections();
    ensure!(
        connections <= sent / 20,
        "{connections} connections for {sent} deliveries"
    );
    Ok(())
}

on_every_backend!(a_receiver_of_many_endpoints_keeps_its_connections);
