//! A delivery that is taken over from a worker that is gone, or only slow.

use anyhow::Result;
use wharf_domain::DeliveryState;
use wharf_store::{deliveries, history};
use wharf_tests::{Backend, on_every_backend};

use crate::{
    callbacks::{COMPLETED, claim, emit, fan_out, settle, settled},
    fixture::{Fixture, LEASE, NOW, organization_id},
};

async fn a_stale_sender_settles_nothing(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let endpoint = ledger
        .endpoint("org", COMPLETED, "http://127.0.0.1/a")
        .await?;
    emit(&ledger, "org").await?;
    fan_out(&ledger, &[endpoint]).await?;
    let stale = claim(&ledger, &[(endpoint, 1)], NOW).await?.remove(0);
    let taken = claim(&ledger, &[(endpoint, 1)], NOW + LEASE)
        .await?
        .remove(0);
    assert_eq!(taken.fence.id, stale.fence.id);
    assert!(
        settle(&ledger, &[settled(&stale, DeliveryState::Failed, None)])
            .await?
            .is_empty()
    );
    assert_eq!(
        ledger
            .number(
                "select count(*) from callback_attempts where attempt = 1 and http_status is null"
            )
            .await?,
        1,
        "the attempt that was not heard of again"
    );
    assert_eq!(
        (taken.attempts_before, taken.schedule_base),
        (1, 1),
        "it is none of the schedule's"
    );
    let mut conn = ledger.conn().await?;
    assert!(
        deliveries::renew(&mut conn, &[stale.fence], NOW)
            .await?
            .is_empty()
    );
    let taken_over = deliveries::taken_over(&mut conn, &[stale.fence, taken.fence]).await?;
    assert_eq!(taken_over, [stale.fence.id]);
    // SQLite has one connection that writes.
    drop(conn);
    assert!(
        claim(&ledger, &[(endpoint, 1)], NOW + LEASE)
            .await?
            .is_empty(),
        "still the other's"
    );
    assert_eq!(
        settle(&ledger, &[settled(&taken, DeliveryState::Success, None)]).await?,
        [taken.fence.id]
    );
    let mut conn = ledger.conn().await?;
    assert!(
        deliveries::taken_over(&mut conn, &[taken.fence])
            .await?
            .is_empty(),
        "settled is not lost"
    );
    let org = organization_id("org");
    let shown = history::get(&mut conn, &org, taken.fence.id).await?;
    let attempts = shown.map(|shown| shown.attempts).unwrap_or_default();
    let times: Vec<_> = attempts
        .iter()
        .map(|one| (one.number, one.started_at))
        .collect();
    assert_eq!(times, [(1, NOW), (2, NOW)]);
    let lease_us = i64::try_from(LEASE.as_micros())?;
    assert_eq!(attempts[0].latency_us, lease_us, "until it was taken over");
    let told = attempts[0].error.clone().unwrap_or_default();
    assert!(told.contains("not heard of again"), "{told}");
    let done = "select count(*) from callback_outbox where status = 'success'";
    assert_eq!(ledger.number(done).await?, 1);
    Ok(())
}

on_every_backend!(a_stale_sender_settles_nothing);
