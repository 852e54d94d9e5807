//! Events become deliveries, which are claimed and settled behind the fence.

use std::time::Duration;

use anyhow::Result;
use wharf_domain::{
    DeliveryId, DeliveryState, EndpointId, Event, EventId, EventKind, StoreId, Time, event_state,
};
use wharf_store::{
    deliveries::{self, Attempt, Claimed, SettledDelivery},
    endpoints::{self, ListeningPage},
    outbox::{self, FanOut, Message, NewDelivery, Next},
};
use wharf_tests::{Backend, on_every_backend};

use crate::fixture::{Fixture, LEASE, NOW, SECOND, organization_id, random_v7};

pub(crate) const COMPLETED: EventKind = EventKind::SyncCompleted;

pub(crate) fn event(organization: &str, store_id: StoreId, at: Time) -> Event {
    Event {
        id: EventId(random_v7()),
        kind: COMPLETED.as_str().into(),
        at,
        organization_id: organization_id(organization),
        store_id,
        data: r#"{"z":1,"a":[]}"#.into(),
    }
}

pub(crate) async fn emit(ledger: &Fixture, organization: &str) -> Result<EventId> {
    let (store_id, _) = ledger.register(organization, "shop").await?;
    let event = event(organization, store_id, NOW);
    outbox::emit(&mut ledger.conn().await?, &event, outbox::Cause::default()).await?;
    Ok(event.id)
}

pub(crate) fn message() -> Message {
    Message {
        shaper: "standard".into(),
        plugin_digest: "d".into(),
        content_type: "application/json".into(),
        headers: vec![("x-shaped".into(), "yes".into())],
        body: b"{\"body\":\xff}".to_vec(),
    }
}

pub(crate) fn fan_out_of(claimed: &outbox::Claimed, endpoints: &[EndpointId]) -> FanOut {
    let new = |endpoint_id: &EndpointId| NewDelivery {
        id: DeliveryId(random_v7()),
        endpoint_id: *endpoint_id,
        shaper: "standard".into(),
        dead: None,
    };
    FanOut {
        claimed: claimed.clone(),
        messages: vec![message()],
        deliveries: endpoints.iter().map(new).collect(),
        shaper_faults: claimed.shaper_faults,
        waits_for: None,
        next: Next::Done,
    }
}

pub(crate) async fn fan_out(ledger: &Fixture, endpoints: &[EndpointId]) -> Result<usize> {
    let claimed = outbox::claim(&mut ledger.conn().await?, LEASE, 10, NOW).await?;
    let ready: Vec<FanOut> = claimed
        .iter()
        .map(|claimed| fan_out_of(claimed, endpoints))
        .collect();
    let mut tx = ledger.begin().await?;
    let done = outbox::fan_out(&mut tx, &ready, NOW).await?;
    tx.commit().await?;
    Ok(done)
}

pub(crate) async fn claim(
    ledger: &Fixture,
    shares: &[(EndpointId, i64)],
    now: Time,
) -> Result<Vec<Claimed>> {
    let mut tx = ledger.begin().await?;
    let claimed = deliveries::claim(&mut tx, shares, "w", LEASE, now).await?;
    tx.commit().await?;
    Ok(claimed)
}

pub(crate) fn settled(
    claimed: &Claimed,
    state: DeliveryState,
    due_at: Option<Time>,
) -> SettledDelivery {
    let failed = state != DeliveryState::Success;
    SettledDelivery {
        fence: claimed.fence,
        event_id: claimed.event_id,
        attempt_number: claimed.attempts_before + 1,
        state,
        due_at,
        attempt: Attempt {
            started_at: NOW,
            latency: Duration::from_millis(5),
            http_status: Some(if failed { 500 } else { 200 }),
            error: failed.then(|| "no\0".into()),
            response: Some("a\0b".into()),
        },
    }
}

pub(crate) async fn settle(
    ledger: &Fixture,
    settled: &[SettledDelivery],
) -> Result<Vec<DeliveryId>> {
    let mut tx = ledger.begin().await?;
    let held = deliveries::settle(&mut tx, settled, NOW).await?;
    tx.commit().await?;
    Ok(held)
}

async fn an_event_becomes_one_delivery_per_endpoint(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let mut endpoints = [
        ledger
            .endpoint("org", COMPLETED, "http://127.0.0.1/a")
            .await?,
        ledger
            .endpoint("org", COMPLETED, "http://127.0.0.1/b")
            .await?,
    ];
    endpoints.sort();
    ledger
        .endpoint("org", EventKind::SyncStarted, "http://127.0.0.1/a")
        .await?;
    ledger
        .endpoint("other", COMPLETED, "http://127.0.0.1/a")
        .await?;
    let first = ListeningPage {
        organization: "org",
        event: "sync.completed",
        after: None,
    };
    let behind = |after| ListeningPage {
        after: Some(after),
        ..first
    };
    let wanted = [first, behind(endpoints[0]), behind(endpoints[1])];
    for (most, expected) in [
        (5, [&endpoints[..], &endpoints[1..], &[]]),
        (1, [&endpoints[..1], &endpoints[1..], &[]]),
    ] {
        let pages = endpoints::listening(&mut ledger.conn().await?, &wanted, most).await?;
        let ids = |page: Vec<endpoints::Listening>| page.into_iter().map(|one| one.id).collect();
        let pages: Vec<Vec<EndpointId>> = pages.into_iter().map(ids).collect();
        assert_eq!(pages, expected, "{most} on a page");
    }

    let event = emit(&ledger, "org").await?;
    assert_eq!(fan_out(&ledger, &endpoints).await?, 1);
    assert_eq!(
        fan_out(&ledger, &endpoints).await?,
        0,
        "it is fanned out once"
    );
    let queues = deliveries::queues(
        &mut ledger.conn().await?,
        EndpointId(uuid::Uuid::nil()),
        10,
        NOW,
    )
    .await?;
    assert!(
        queues
            .iter()
            .all(|queue| queue.ready > 0 && queue.organization_id == "org")
    );
    assert_eq!(
        queues
            .iter()
            .map(|queue| queue.endpoint_id)
            .collect::<Vec<_>>(),
        endpoints
    );
    let after = deliveries::queues(&mut ledger.conn().await?, endpoints[0], 10, NOW).await?;
    assert_eq!(after.len(), 1);

    let claimed = claim(&ledger, &endpoints.map(|id| (id, 5)), NOW).await?;
    assert_eq!(claimed.len(), 2);
    let one = &claimed[0];
    assert_eq!(
        (one.event_id, one.attempts_before, one.event.as_str()),
        (event, 0, "sync.completed")
    );
    assert_eq!(one.body, b"{\"body\":\xff}");
    assert_eq!(one.headers, [("x-shaped".to_owned(), "yes".to_owned())]);
    assert!(
        claim(&ledger, &endpoints.map(|id| (id, 5)), NOW)
            .await?
            .is_empty(),
        "leased"
    );
    Ok(())
}

/// A failing endpoint never makes another receive twice, and the event's row is the sum of its deliveries.
async fn the_event_aggregates_its_deliveries(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let mut endpoints = [
        ledger
            .endpoint("org", COMPLETED, "http://127.0.0.1/a")
            .await?,
        ledger
            .endpoint("org", COMPLETED, "http://127.0.0.1/b")
            .await?,
    ];
    endpoints.sort();
    emit(&ledger, "org").await?;
    fan_out(&ledger, &endpoints).await?;
    let shares = endpoints.map(|id| (id, 5));
    let claimed = claim(&ledger, &shares, NOW).await?;
    let retry = NOW + SECOND * 60;
    let held = settle(
        &ledger,
        &[
            settled(&claimed[0], DeliveryState::Success, None),
            settled(&claimed[1], DeliveryState::Pending, Some(retry)),
        ],
    )
    .await?;
    assert_eq!(held.len(), 2);
    let pending = "select count(*) from callback_outbox where status = 'pending' and attempt = 1
        and next_retry_at is not null and last_error is not null";
    assert_eq!(ledger.number(pending).await?, 1);

    let again = claim(&ledger, &shares, retry).await?;
    assert_eq!(again.len(), 1, "only the one that failed");
    assert_eq!(
        (again[0].fence.id, again[0].attempts_before),
        (claimed[1].fence.id, 1)
    );
    settle(&ledger, &[settled(&again[0], DeliveryState::Failed, None)]).await?;
    let failed = "select count(*) from callback_outbox where status = 'failed' and attempt = 2 and next_retry_at is null";
    assert_eq!(ledger.number(failed).await?, 1);
    assert_eq!(
        ledger
            .number("select count(*) from callback_attempts")
            .await?,
        3
    );
    Ok(())
}

/// The SQL of the sum states the same rule as `wharf_domain::event_state`.
async fn the_sum_follows_the_rule(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let endpoints = [
        ledger
            .endpoint("org", COMPLETED, "http://127.0.0.1/a")
            .await?,
        ledger
            .endpoint("org", COMPLETED, "http://127.0.0.1/b")
            .await?,
    ];
    let later = NOW + SECOND * 60;
    for next in [Next::Done, Next::Again(later, "later".to_owned())] {
        for first in DeliveryState::ALL {
            for second in DeliveryState::ALL {
                let event = emit(&ledger, "org").await?;
                let mut tx = ledger.begin().await?;
                let claimed = outbox::claim(&mut tx, LEASE, 1, NOW).await?;
                let fan_out = FanOut {
                    next: next.clone(),
                    ..fan_out_of(&claimed[0], &endpoints)
                };
                outbox::fan_out(&mut tx, &[fan_out], NOW).await?;
                tx.commit().await?;
                let claimed = claim(&ledger, &endpoints.map(|id| (id, 1)), NOW).await?;
                let states = claimed.iter().zip([first, second]);
                let states = states.map(|(claimed, state)| {
                    let due_at = (state == DeliveryState::Pending).then_some(later);
                    settled(claimed, state, due_at)
                });
                let states: Vec<_> = states.collect();
                settle(&ledger, &states).await?;
                let due_at = (next != Next::Done).then_some(later);
                let expected = event_state(due_at, [first, second]).as_str();
                let stored = format!(
                    "select count(*) from callback_outbox where id = {} and status = '{expected}'",
                    ledger.sql.id(&event.to_string())
                );
                let case = format!("{due_at:?} {first:?} {second:?}");
                assert_eq!(ledger.number(&stored).await?, 1, "{case}: {expected}");
            }
        }
    }
    Ok(())
}

async fn a_row_put_in_by_hand_is_an_event_like_any_other(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let (store, _) = ledger.register("org", "shop").await?;
    let id = match backend {
        Backend::Postgres => format!("'{store}'"),
        Backend::Embedded => format!("x'{}'", store.0.simple()),
    };
    let mut conn = ledger.conn().await?;
    let row = format!("('org', {id}, 'sync.completed', '{{\"receipt\":\"R5\"}}')");
    let insert = format!(
        "insert into callback_outbox (organization_id, store_id, event, payload) values {row}"
    );
    ledger.sql.execute(&insert).await?;
    let far = NOW + Duration::from_secs(86_400 * 365 * 100);
    let claimed = outbox::claim(&mut conn, LEASE, 10, far).await?;
    assert_eq!(claimed[0].event.data, r#"{"receipt":"R5"}"#);
    let later = FanOut {
        next: Next::Again(far + SECOND, "later\0".into()),
        ..fan_out_of(&claimed[0], &[])
    };
    outbox::fan_out(&mut conn, &[later], far).await?;
    assert!(outbox::claim(&mut conn, LEASE, 10, far).await?.is_empty());
    assert_eq!(
        outbox::claim(&mut conn, LEASE, 10, far + SECOND).await?[0].attempt,
        2
    );
    Ok(())
}

async fn an_event_that_nobody_wants_is_done(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    emit(&ledger, "org").await?;
    assert_eq!(fan_out(&ledger, &[]).await?, 1);
    assert_eq!(
        ledger
            .number("select count(*) from callback_outbox where status = 'success'")
            .await?,
        1
    );
    Ok(())
}

on_every_backend!(
    an_event_becomes_one_delivery_per_endpoint,
    the_event_aggregates_its_deliveries,
    the_sum_follows_the_rule,
    a_row_put_in_by_hand_is_an_event_like_any_other,
    an_event_that_nobody_wants_is_done,
);
