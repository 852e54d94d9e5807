//! Endpoints of an organization that has its share: walked past in bounded steps, with nobody behind them waiting.

use std::time::Duration;

use anyhow::Result;
use tokio::net::TcpListener;
use wharf_app::{CallbackStep, Walk};
use wharf_domain::{EventKind, OrganizationId};
use wharf_tests::{Backend, Receiver, on_every_backend};

use crate::host::{InProcess, organization};

/// More than a step walks past (8 pages of 64), and then some.
const ENDPOINTS: usize = 600;

async fn a_step_walks_past_so_many_endpoints(backend: Backend) -> Result<()> {
    // One send for each of two organizations.
    let few = |settings: &mut wharf_app::AppSettings| settings.callbacks.concurrency = 2;
    let mut host = InProcess::open_with(backend, few).await?;
    // It takes connections, because the system does, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    for number in 0..ENDPOINTS {
        let url = format!("http://{}/{number}", silent.local_addr()?);
        host.endpoint(EventKind::SyncFailed, &url).await?;
    }
    let store = host.store(&organization()).await?;
    host.import(store, "order-102").await?;
    host.synchronise().await?;

    // Ids begin with the time: this endpoint is the last of the walk.
    host.clock.advance(Duration::from_secs(1));
    let receiver = Receiver::start().await?;
    let quiet = OrganizationId::parse("quiet")?;
    let hook = host
        .endpoint_of(&quiet, EventKind::SyncFailed, receiver.url())
        .await?;
    let step = host.callback_worker.step().await?;
    assert_eq!(step.fanned_out, 2, "sync.started and sync.failed");
    host.app.test_webhook(&quiet, hook.id).await?;

    let mut steps = Vec::new();
    while steps.len() < 3 {
        steps.push(host.callback_worker.step().await?);
    }
    let step = |fanned_out, started, walk| CallbackStep {
        fanned_out,
        started,
        walk,
    };
    let expected = [
        // The second page of the event's endpoints, and the test.
        step(2, 1, Walk::Unfinished),
        step(0, 0, Walk::Unfinished),
        step(0, 1, Walk::Complete),
    ];
    assert_eq!(steps, expected);
    receiver.wait_for(1).await?;
    Ok(())
}

on_every_backend!(a_step_walks_past_so_many_endpoints);
