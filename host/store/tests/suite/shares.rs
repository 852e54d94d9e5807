//! Claims by the shares of endpoints, and events that their last delivery sums up.

use anyhow::Result;
use wharf_domain::{DeliveryState, EndpointId};
use wharf_store::deliveries::Claimed;
use wharf_tests::{Backend, on_every_backend};

use crate::{
    callbacks::{COMPLETED, claim, emit, fan_out, settle, settled},
    fixture::{Fixture, NOW, SECOND},
};

async fn two_endpoints(ledger: &Fixture) -> Result<[EndpointId; 2]> {
    Ok([
        ledger
            .endpoint("org", COMPLETED, "http://127.0.0.1/a")
            .await?,
        ledger
            .endpoint("org", COMPLETED, "http://127.0.0.1/b")
            .await?,
    ])
}

/// A delivery that ends well before the event's last one writes nothing into the event's row.
async fn the_last_delivery_sums_the_event_up(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let endpoints = two_endpoints(&ledger).await?;
    emit(&ledger, "org").await?;
    fan_out(&ledger, &endpoints).await?;
    let claimed = claim(&ledger, &endpoints.map(|id| (id, 5)), NOW).await?;
    let ended = |claimed| settled(claimed, DeliveryState::Success, None);
    for (one, status, attempt) in [(&claimed[0], "pending", 0), (&claimed[1], "success", 1)] {
        settle(&ledger, &[ended(one)]).await?;
        let row = format!(
            "select count(*) from callback_outbox where status = '{status}' and attempt = {attempt}"
        );
        assert_eq!(ledger.number(&row).await?, 1, "{status}");
    }
    Ok(())
}

/// One claim takes from each endpoint what its share says, the longest due first.
async fn a_claim_keeps_to_the_share_of_each_endpoint(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let endpoints = two_endpoints(&ledger).await?;
    for _ in 0..5 {
        emit(&ledger, "org").await?;
    }
    assert_eq!(fan_out(&ledger, &endpoints).await?, 5);
    let first = claim(&ledger, &[(endpoints[0], 5)], NOW).await?;
    assert_eq!(first.len(), 5);
    let due_at = |number| Some(NOW + SECOND * number);
    let retries: Vec<_> = (1..)
        .zip(&first)
        .map(|(number, one)| settled(one, DeliveryState::Pending, due_at(number)))
        .collect();
    settle(&ledger, &retries).await?;

    let shares = [(endpoints[0], 2), (endpoints[1], 3)];
    let later = NOW + SECOND * 60;
    let of = |claimed: &[Claimed], endpoint| {
        let theirs = claimed.iter().filter(|one| one.endpoint_id == endpoint);
        let mut ids: Vec<_> = theirs.map(|one| one.fence.id).collect();
        ids.sort();
        ids
    };
    for (number, left) in [(0, 3), (2, 2), (4, 0)] {
        let claimed = claim(&ledger, &shares, later).await?;
        let end = (number + 2).min(first.len());
        let mut oldest: Vec<_> = first[number..end].iter().map(|one| one.fence.id).collect();
        oldest.sort();
        assert_eq!(of(&claimed, endpoints[0]), oldest);
        assert_eq!(of(&claimed, endpoints[1]).len(), left);
    }
    Ok(())
}

on_every_backend!(
    the_last_delivery_sums_the_event_up,
    a_claim_keeps_to_the_share_of_each_endpoint,
);
