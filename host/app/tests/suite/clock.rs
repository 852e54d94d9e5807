//! Clocks that are set in the middle of the work, by a day, forward and back.

use std::{sync::atomic::Ordering, time::Duration};

use anyhow::Result;
use serde_json::json;
use tokio::net::TcpListener;
use wharf_app::CallbackScheduler;
use wharf_domain::{Clock, EventKind, ImportResult, Reach, Time};
use wharf_tests::{Backend, Receiver, on_every_backend};

use crate::{
    endpoints::start_a_send,
    host::{InProcess, organization, request_id},
    retention::{finish_one, rows},
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

async fn a_step_forward_purges_nothing_that_is_fresh(backend: Backend) -> Result<()> {
    let retention = Some(2 * HOUR);
    let mut host =
        InProcess::open_with(backend, |settings| settings.callbacks.retention = retention).await?;
    finish_one(&mut host).await?;
    let kept = json!({"events": 4, "logs": 1});
    host.clock.set(host.clock.now() + DAY);
    host.drain().await?;
    host.after(2 * MINUTE).await?;
    assert_eq!(rows(&host).await?, kept, "two minutes have passed");
    // A process that starts now has never seen another clock.
    let mut restarted = CallbackScheduler::new(&host.app);
    assert_eq!(restarted.step().await?.purged, 0);
    assert_eq!(rows(&host).await?, kept);
    // The clock was right, then, and the host had been asleep: after some time it is believed.
    host.after(3 * HOUR).await?;
    assert_eq!(rows(&host).await?, json!({"events": 0, "logs": 1}));
    Ok(())
}

async fn a_step_back_keeps_no_work_waiting(backend: Backend) -> Result<()> {
    let mut host = InProcess::open(backend).await?;
    let receiver = Receiver::start().await?;
    let hook = host.endpoint(EventKind::SyncFailed, receiver.url()).await?;
    let store = host.store(&organization()).await?;
    // The scheduler knows the clock as it was.
    host.drain().await?;
    // A delivery whose worker is gone, an event and a job that nobody has taken.
    host.app.test_webhook(&organization(), hook.id).await?;
    // Fanned out, and not sent.
    host.callback_worker.step().await?;
    let lease = time(backend, host.clock.now() + MINUTE / 2);
    let leased = format!(
        "update callback_deliveries set claimed_by = 'gone', fence = fence + 1, due_at = {lease}"
    );
    assert_eq!(host.ledger.execute(&leased).await?, 1);
    host.import(store, "order-102").await?;
    host.synchronise().await?;
    host.import(store, "order-104").await?;
    host.app
        .request_sync(&Reach::Everything, store, &request_id())
        .await?;

    host.clock.set(host.clock.now() - DAY);
    host.drain().await?;
    assert_eq!(receiver.requests().len(), 2, "both runs are told of");
    host.after(MINUTE / 2 + Duration::from_secs(1)).await?;
    assert_eq!(receiver.requests().len(), 3, "the lease has ended");
    Ok(())
}

async fn a_step_forward_sends_nothing_twice(backend: Backend) -> Result<()> {
    let mut host = InProcess::open(backend).await?;
    // It takes connections, because the system does, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", silent.local_addr()?);
    let hook = host.endpoint(EventKind::SyncFailed, &url).await?;
    host.app.test_webhook(&organization(), hook.id).await?;
    start_a_send(&mut host).await?;
    host.clock.set(host.clock.now() + DAY);
    assert_eq!(host.callback_worker.step().await?.started, 0, "in flight");
    Ok(())
}

/// Not of clocks, but by one: the task of an import that panics leaves nothing behind that others would join.
async fn an_import_that_panicked_can_be_repeated(backend: Backend) -> Result<()> {
    let host = InProcess::open(backend).await?;
    let store = host.store(&organization()).await?;
    host.panic_next.store(true, Ordering::SeqCst);
    assert!(host.import(store, "order-101").await.is_err());
    let again = host.import(store, "order-101").await?;
    assert!(matches!(again, ImportResult::Imported(_)), "{again:?}");
    Ok(())
}

fn time(backend: Backend, at: Time) -> String {
    match backend {
        Backend::Embedded => at.as_micros().to_string(),
        Backend::Postgres => format!("timestamptz '{at}'"),
    }
}

on_every_backend!(
    a_step_forward_purges_nothing_that_is_fresh,
    a_step_back_keeps_no_work_waiting,
    a_step_forward_sends_nothing_twice,
    an_import_that_panicked_can_be_repeated,
);
