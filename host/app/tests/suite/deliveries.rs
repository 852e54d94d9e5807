//! Deliveries that fail: sent again by the schedule, each endpoint for itself, until they are dead letters.

use std::time::Duration;

use anyhow::Result;
use axum::{http::StatusCode, response::IntoResponse};
use serde_json::{Value, json};
use wharf_app::Deletion;
use wharf_domain::EventKind;
use wharf_tests::{Backend, Receiver, on_every_backend};

use crate::host::{InProcess, organization};

const ACCEPTED: [u16; 10] = [200, 201, 202, 203, 204, 205, 206, 226, 250, 299];
const REFUSED: [u16; 17] = [
    300, 301, 302, 303, 304, 307, 308, 400, 401, 404, 409, 418, 429, 500, 502, 503, 599,
];

/// A receiver that answers with this status, and with a location that nobody may follow.
async fn receiver(status: u16, location: &str) -> Result<Receiver> {
    let receiver = Receiver::start().await?;
    let (status, location) = (StatusCode::from_u16(status)?, location.to_owned());
    receiver.answer_with(move |_| (status, [("location", location.clone())], "no").into_response());
    Ok(receiver)
}

async fn receivers(host: &InProcess, statuses: &[u16], location: &str) -> Result<Vec<Receiver>> {
    let mut receivers = Vec::new();
    for status in statuses {
        let receiver = receiver(*status, location).await?;
        host.endpoint(EventKind::SyncFailed, receiver.url()).await?;
        receivers.push(receiver);
    }
    Ok(receivers)
}

async fn outbox(host: &InProcess) -> Result<Value> {
    let event = "select status, attempt, last_error is null as is_well from callback_outbox where event = 'sync.failed'";
    host.ledger.row(event).await
}

async fn every_endpoint_has_its_own_outcome(backend: Backend) -> Result<()> {
    let mut host = InProcess::open(backend).await?;
    let trap = Receiver::start().await?;
    let accepting = receivers(&host, &ACCEPTED, trap.url()).await?;
    let refusing = receivers(&host, &REFUSED, trap.url()).await?;
    host.endpoint(EventKind::SyncFailed, "http://127.0.0.1:1/nobody-listens")
        .await?;
    let store = host.store(&organization()).await?;
    host.import(store, "order-102").await?;
    host.drain().await?;
    for (attempt, wait_s) in [(1, 60), (2, 300)] {
        host.after(Duration::from_secs(wait_s - 1)).await?;
        assert!(
            refusing
                .iter()
                .all(|receiver| receiver.requests().len() == attempt),
            "attempt {attempt} is the last for {wait_s} s"
        );
        let event = outbox(&host).await?;
        assert_eq!(
            (&event["status"], &event["attempt"]),
            (&json!("pending"), &json!(attempt))
        );
        host.after(Duration::from_secs(1)).await?;
    }
    let event = outbox(&host).await?;
    assert_eq!(
        (&event["status"], &event["attempt"]),
        (&json!("failed"), &json!(3))
    );
    // Not later: ten minutes after its refusal the receipt is asked again, and makes an event of its own.
    host.after(Duration::from_secs(120)).await?;
    for (status, receiver) in ACCEPTED.iter().zip(&accepting) {
        let requests = receiver.requests().len();
        assert_eq!(
            requests, 1,
            "{status} accepts: the others' retries are not its"
        );
    }
    for (status, receiver) in REFUSED.iter().zip(&refusing) {
        let requests = receiver.requests();
        assert_eq!(requests.len(), 3, "{status} is a failure");
        for request in &requests {
            assert_eq!(
                request.body, requests[0].body,
                "retries send the same bytes"
            );
            assert_eq!(
                request.header("x-event-id"),
                requests[0].header("x-event-id")
            );
            assert_eq!(
                request.header("x-webhook-signature"),
                "",
                "no secret is set"
            );
        }
    }
    assert!(trap.requests().is_empty(), "no redirect is followed");
    let failing = REFUSED.len() + 1;
    let expected = [
        json!({"state": "failed", "n": failing, "attempts": 3}),
        json!({"state": "success", "n": ACCEPTED.len(), "attempts": 1}),
    ];
    let states = "select state, count(*) as n, min(attempt) as attempts from callback_deliveries
        group by state order by state";
    assert_eq!(host.ledger.rows(states).await?, expected);
    let attempts = host
        .ledger
        .row("select count(*) as n from callback_attempts")
        .await?;
    assert_eq!(attempts["n"], 3 * failing + ACCEPTED.len());
    Ok(())
}

async fn a_delivery_shows_its_last_attempts(backend: Backend) -> Result<()> {
    let mut host = InProcess::open(backend).await?;
    let hook = host
        .endpoint(EventKind::SyncFailed, "http://127.0.0.1:1/")
        .await?;
    let sent = host.app.test_webhook(&organization(), hook.id).await?;
    host.drain().await?;
    let many = "insert into callback_attempts (delivery_id, attempt, started_at, latency_us)
        with recursive n (n) as (select 2 union all select n + 1 from n where n < 250)
        select delivery_id, n, started_at, 1 from callback_attempts, n";
    host.ledger.execute(many).await?;
    host.ledger
        .execute("update callback_deliveries set attempt = 250")
        .await?;
    let delivery = host.app.delivery(&organization(), sent.delivery_id).await?;
    let numbers: Vec<_> = delivery.attempts.iter().map(|one| one.number).collect();
    assert_eq!(numbers, (151..=250).collect::<Vec<_>>());
    Ok(())
}

async fn an_endpoint_with_many_deliveries_is_deleted_by_several_requests(
    backend: Backend,
) -> Result<()> {
    const MANY: usize = 10_300;
    let host = InProcess::open(backend).await?;
    let hook = host
        .endpoint(EventKind::SyncFailed, "http://127.0.0.1:1/")
        .await?;
    let id = match backend {
        Backend::Embedded => "randomblob(16)",
        Backend::Postgres => "gen_random_uuid()",
    };
    let events = format!(
        "insert into callback_outbox (id, organization_id, store_id, event, status, due_at)
        select {id}, 'org-1', {id}, 'sync.failed', 'failed', null from (with recursive s (n) as
            (select 1 union all select n + 1 from s where n < {MANY}) select n from s) s"
    );
    let deliveries = format!(
        "insert into callback_deliveries (id, outbox_id, endpoint_id, organization_id, shaper, state)
        select {id}, o.id, e.id, 'org-1', 'standard', 'failed' from callback_outbox o, webhook_endpoints e"
    );
    for statement in [events, deliveries] {
        host.ledger.execute(&statement).await?;
    }
    let first = host.app.delete_webhook(&organization(), hook.id).await?;
    assert_eq!(first, Deletion::Unfinished);
    let kept = host.app.webhook(&organization(), hook.id).await?;
    assert!(!kept.is_active, "nothing more is sent to it");
    let left = "select count(*) from callback_deliveries";
    assert_eq!(host.ledger.number(left).await?, 300);
    let second = host.app.delete_webhook(&organization(), hook.id).await?;
    assert_eq!(second, Deletion::Complete);
    assert!(host.app.webhook(&organization(), hook.id).await.is_err());
    assert_eq!(host.ledger.number(left).await?, 0);
    Ok(())
}

on_every_backend!(
    every_endpoint_has_its_own_outcome,
    a_delivery_shows_its_last_attempts,
    an_endpoint_with_many_deliveries_is_deleted_by_several_requests,
);
