//! Endpoints: secrets, rate limit, circuit, listing and the end.

use anyhow::{Context, Result};
use wharf_domain::{DeliveryState, EndpointId, EndpointSecret, EventKind, Health, Time};
use wharf_store::{
    StoreError,
    deliveries::{self, EndpointQueue},
    endpoints::{self, Endpoint, HealthUpdate},
    resend,
};
use wharf_tests::{Backend, on_every_backend};

use crate::{
    callbacks::{COMPLETED, claim, emit, fan_out, settle, settled},
    fixture::{Fixture, NOW, SECOND, key, organization_id, random},
};

pub(crate) const URL: &str = "http://127.0.0.1/a";
const NIL: uuid::Uuid = uuid::Uuid::nil();

async fn get(ledger: &Fixture, id: EndpointId) -> Result<Endpoint> {
    endpoints::get(&mut ledger.conn().await?, &organization_id("org"), id)
        .await?
        .context("the endpoint")
}

async fn change(
    ledger: &Fixture,
    id: EndpointId,
    change: impl FnOnce(&mut Endpoint),
) -> Result<()> {
    let mut tx = ledger.begin().await?;
    let mut endpoint = endpoints::lock(&mut tx, &organization_id("org"), id)
        .await?
        .context("the endpoint")?;
    let secrets = endpoint.secrets(&key())?;
    change(&mut endpoint);
    endpoints::save(
        &mut tx,
        &key(),
        &endpoint,
        Some(&secrets),
        [random(), random(), random()],
        NOW,
    )
    .await?;
    Ok(tx.commit().await?)
}

async fn queue(ledger: &Fixture, now: Time) -> Result<EndpointQueue> {
    let queues = deliveries::queues(&mut ledger.conn().await?, EndpointId(NIL), 10, now).await?;
    queues.into_iter().next().context("a queue")
}

async fn save_health(
    ledger: &Fixture,
    id: EndpointId,
    change: impl FnOnce(Health) -> Health,
) -> Result<()> {
    let mut tx = ledger.begin().await?;
    let locked = endpoints::lock_health(&mut tx, [id]).await?;
    let update = HealthUpdate {
        id,
        health: change(locked[0].health),
        last_error: Some("no\0".into()),
        disabled: None,
    };
    endpoints::save_health(&mut tx, &[update], NOW).await?;
    Ok(tx.commit().await?)
}

/// An endpoint with so many deliveries due.
pub(crate) async fn busy_endpoint(ledger: &Fixture, events: usize) -> Result<EndpointId> {
    let endpoint = ledger.endpoint("org", COMPLETED, URL).await?;
    for _ in 0..events {
        emit(ledger, "org").await?;
    }
    fan_out(ledger, &[endpoint]).await?;
    Ok(endpoint)
}

async fn an_endpoint_moves_with_its_secrets(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let id = ledger.endpoint("org", COMPLETED, URL).await?;
    let other = ledger
        .endpoint("org", COMPLETED, "http://127.0.0.1/b")
        .await?;
    let new = EndpointSecret::from_random([8; 32]);
    let mut tx = ledger.begin().await?;
    let mut endpoint = endpoints::lock(&mut tx, &organization_id("org"), id)
        .await?
        .context("the endpoint")?;
    let secrets = endpoint
        .secrets(&key())?
        .rotated(new.clone(), NOW + SECOND, NOW)
        .expect("the first");
    endpoint.target_url = "http://127.0.0.1/c".into();
    endpoint.rate_per_minute = Some(60);
    endpoint.is_active = false;
    endpoint.disabled_reason = Some("because\0".into());
    endpoints::save(
        &mut tx,
        &key(),
        &endpoint,
        Some(&secrets),
        [random(), random(), random()],
        NOW + SECOND,
    )
    .await?;
    tx.commit().await?;

    let moved = get(&ledger, id).await?;
    assert_eq!(
        (moved.target_url.as_str(), moved.rate_per_minute),
        ("http://127.0.0.1/c", Some(60))
    );
    assert_eq!(
        (moved.is_active, moved.disabled_reason.as_deref()),
        (false, Some("because\u{fffd}"))
    );
    assert_eq!((moved.created_at, moved.updated_at), (NOW, NOW + SECOND));
    let secrets = moved.secrets(&key())?;
    assert_eq!(secrets.current().expose(), new.expose());
    assert_eq!(secrets.overlaps(NOW).collect::<Vec<_>>(), [NOW + SECOND]);

    let mut tx = ledger.begin().await?;
    let mut endpoint = endpoints::lock(&mut tx, &organization_id("org"), other)
        .await?
        .context("the other")?;
    endpoint.target_url = "http://127.0.0.1/c".into();
    let secrets = endpoint.secrets(&key())?;
    let saved = endpoints::save(
        &mut tx,
        &key(),
        &endpoint,
        Some(&secrets),
        [random(), random(), random()],
        NOW,
    )
    .await;
    assert!(matches!(saved, Err(StoreError::Taken(_))), "{saved:?}");
    drop(tx);
    assert_ne!(
        ledger.endpoint("org", COMPLETED, URL).await?,
        id,
        "the old URL is free again"
    );
    assert!(
        endpoints::get(&mut ledger.conn().await?, &organization_id("another"), id)
            .await?
            .is_none()
    );
    Ok(())
}

async fn a_rate_limit_holds_for_all_workers(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let id = busy_endpoint(&ledger, 8).await?;
    change(&ledger, id, |endpoint| endpoint.rate_per_minute = Some(60)).await?;
    assert_eq!(
        queue(&ledger, NOW).await?.ready,
        3,
        "a burst of two seconds and one"
    );
    assert_eq!(claim(&ledger, &[(id, 8)], NOW).await?.len(), 3);
    assert!(
        claim(&ledger, &[(id, 8)], NOW).await?.is_empty(),
        "another worker's share is used up as well"
    );
    assert_eq!(queue(&ledger, NOW).await?.ready, 0);
    assert_eq!(claim(&ledger, &[(id, 8)], NOW + SECOND).await?.len(), 1);
    change(&ledger, id, |endpoint| endpoint.rate_per_minute = None).await?;
    assert_eq!(claim(&ledger, &[(id, 8)], NOW + SECOND).await?.len(), 4);
    Ok(())
}

async fn an_open_circuit_closes_the_queue(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let id = busy_endpoint(&ledger, 1).await?;
    let sick = Health {
        failures: 12,
        failing_since: Some(NOW),
        pauses: 2,
        paused_until: Some(NOW + SECOND),
    };
    save_health(&ledger, id, |_| sick).await?;
    assert_eq!(get(&ledger, id).await?.health, sick);
    let shut = queue(&ledger, NOW).await?;
    assert_eq!((shut.ready, shut.probing), (0, true));
    let probing = queue(&ledger, NOW + SECOND).await?;
    assert!(probing.ready > 0 && probing.probing);
    assert!(claim(&ledger, &[(id, 1)], NOW + SECOND).await?[0].endpoint_is_failing);
    save_health(&ledger, id, |was| {
        assert_eq!(was, sick);
        was.after(true, 0, NOW)
    })
    .await?;
    assert_eq!(get(&ledger, id).await?.health, Health::default());
    Ok(())
}

async fn a_deleted_endpoint_leaves_no_event_behind(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let id = busy_endpoint(&ledger, 3).await?;
    let other = ledger
        .endpoint("org", COMPLETED, "http://127.0.0.1/b")
        .await?;
    emit(&ledger, "org").await?;
    fan_out(&ledger, &[id, other]).await?;
    let claimed = claim(&ledger, &[(id, 1)], NOW).await?;
    for expected in [2, 2, 0] {
        let mut tx = ledger.begin().await?;
        assert_eq!(resend::delete_some(&mut tx, id, 2).await?, expected);
        tx.commit().await?;
    }
    assert!(endpoints::delete(&mut ledger.conn().await?, &organization_id("org"), id).await?);
    assert!(!endpoints::delete(&mut ledger.conn().await?, &organization_id("org"), id).await?);
    assert_eq!(
        ledger
            .number("select count(*) from callback_outbox where status = 'success'")
            .await?,
        3
    );
    assert_eq!(
        ledger
            .number("select count(*) from callback_outbox where status = 'pending'")
            .await?,
        1
    );
    let late = settle(
        &ledger,
        &[settled(&claimed[0], DeliveryState::Success, None)],
    )
    .await?;
    assert!(late.is_empty(), "an answer that comes after the end");

    // Deleted between the look at who listens and the fan-out: the others' deliveries are made all the same.
    emit(&ledger, "org").await?;
    assert_eq!(fan_out(&ledger, &[id, other]).await?, 1);
    emit(&ledger, "org").await?;
    assert_eq!(fan_out(&ledger, &[id]).await?, 1);
    assert_eq!(
        ledger
            .number("select count(*) from callback_outbox where status = 'success'")
            .await?,
        4
    );
    assert_eq!(
        ledger
            .number("select count(*) from callback_outbox where status = 'pending'")
            .await?,
        2
    );
    Ok(())
}

async fn endpoints_are_listed_in_order_and_disabled(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    for url in [
        "http://b.example/",
        "http://a.example/",
        "http://B.example/",
    ] {
        ledger.endpoint("org", COMPLETED, url).await?;
        ledger.endpoint("org", EventKind::SyncStarted, url).await?;
    }
    let mut conn = ledger.conn().await?;
    let organization = organization_id("org");
    let listed = endpoints::list(&mut conn, &organization, None, 100).await?;
    let shown: Vec<_> = listed
        .iter()
        .map(|e| format!("{} {}", e.event, e.target_url))
        .collect();
    let mut sorted = shown.clone();
    sorted.sort();
    assert_eq!((shown.len(), &shown), (6, &sorted));
    let cursor = |endpoint: &endpoints::Endpoint| endpoints::ListCursor {
        event: endpoint.event.clone(),
        target_url: endpoint.target_url.clone(),
    };
    let mut paged = endpoints::list(&mut conn, &organization, None, 2).await?;
    for _ in 0..3 {
        let after = paged.last().map(cursor);
        paged.extend(endpoints::list(&mut conn, &organization, after.as_ref(), 2).await?);
    }
    let ids =
        |endpoints: &[endpoints::Endpoint]| endpoints.iter().map(|e| e.id).collect::<Vec<_>>();
    assert_eq!(ids(&paged), ids(&listed), "page by page");
    let first = listed[0].id;
    let locked = endpoints::lock_health(&mut conn, [first]).await?;
    let gone = HealthUpdate {
        id: first,
        health: locked[0].health,
        last_error: None,
        disabled: Some("gone".to_owned()),
    };
    endpoints::save_health(&mut conn, &[gone], NOW).await?;
    let disabled = endpoints::get(&mut conn, &organization_id("org"), first).await?;
    let disabled = disabled.context("the endpoint")?;
    assert_eq!(
        (disabled.is_active, disabled.disabled_reason.as_deref()),
        (false, Some("gone"))
    );
    assert!(
        endpoints::lock_health(&mut conn, [first]).await?.is_empty(),
        "it is disabled already"
    );
    let page = endpoints::ListeningPage {
        organization: "org",
        event: COMPLETED.as_str(),
        after: None,
    };
    let listening = endpoints::listening(&mut conn, &[page], 10).await?;
    assert_eq!(listening[0].len(), 2);
    Ok(())
}

on_every_backend!(
    an_endpoint_moves_with_its_secrets,
    a_rate_limit_holds_for_all_workers,
    an_open_circuit_closes_the_queue,
    a_deleted_endpoint_leaves_no_event_behind,
    endpoints_are_listed_in_order_and_disabled,
);
