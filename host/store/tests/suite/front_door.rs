//! Deliveries that are given back, and what organizations have used of their budgets.

use anyhow::Result;
use wharf_store::{budgets, deliveries};
use wharf_tests::{Backend, on_every_backend};

use crate::{
    callbacks::{COMPLETED, claim, emit, fan_out},
    fixture::{Fixture, LEASE, NOW, SECOND, organization_id},
};

/// What was not sent is due again at its time, as if it had not been claimed; a fence that is lost gives nothing back.
async fn a_delivery_that_was_not_sent_is_given_back(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let endpoint = ledger
        .endpoint("org", COMPLETED, "http://127.0.0.1/a")
        .await?;
    emit(&ledger, "org").await?;
    fan_out(&ledger, &[endpoint]).await?;
    let shares = [(endpoint, 5)];
    let first = claim(&ledger, &shares, NOW).await?;
    let again_at = NOW + SECOND;
    let give_back = async |fence, at| {
        deliveries::give_back(&mut ledger.conn().await?, &[(fence, at)]).await?;
        anyhow::Ok(())
    };
    give_back(first[0].fence, again_at).await?;
    assert!(claim(&ledger, &shares, NOW).await?.is_empty(), "not yet");
    let second = claim(&ledger, &shares, again_at).await?;
    assert_eq!(second.len(), 1);
    assert_eq!(second[0].attempts_before, 0);
    assert_eq!(second[0].fence.number, first[0].fence.number + 1);
    // The first claim's fence is lost: the lease of the second stays.
    give_back(first[0].fence, NOW).await?;
    assert!(claim(&ledger, &shares, again_at).await?.is_empty());
    let attempts = "select count(*) from callback_attempts";
    assert_eq!(ledger.number(attempts).await?, 0);
    assert_eq!(claim(&ledger, &shares, again_at + LEASE).await?.len(), 1);
    Ok(())
}

async fn budgets_are_kept_by_organization_and_operation(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let (one, other) = (organization_id("one"), organization_id("other"));
    let until = NOW + SECOND * 5;
    let mut tx = ledger.begin().await?;
    assert_eq!(budgets::lock(&mut tx, &one, "test", NOW).await?, NOW);
    budgets::spend(&mut tx, &one, "test", until).await?;
    tx.commit().await?;
    let later = NOW + SECOND;
    let mut tx = ledger.begin().await?;
    assert_eq!(budgets::lock(&mut tx, &one, "test", later).await?, until);
    for (organization, operation) in [(&one, "resend"), (&other, "test")] {
        let spent = budgets::lock(&mut tx, organization, operation, later).await?;
        assert_eq!(spent, later, "{operation}");
    }
    tx.commit().await?;
    let mut conn = ledger.conn().await?;
    assert_eq!(budgets::purge(&mut conn, later + SECOND, 2).await?, 2);
    assert_eq!(budgets::purge(&mut conn, until + SECOND, 2).await?, 1);
    Ok(())
}

async fn a_write_is_tried_and_leaves_one_row(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    for now in [NOW, NOW + SECOND] {
        ledger.try_write(now).await?;
    }
    let rows = "select count(*) from organization_limits";
    assert_eq!(ledger.number(rows).await?, 1);
    let purged = budgets::purge(&mut ledger.conn().await?, NOW + SECOND * 2, 10).await?;
    assert_eq!(purged, 1, "like any other");
    // The writer is free again.
    ledger.begin().await?.commit().await?;
    Ok(())
}

on_every_backend!(
    a_delivery_that_was_not_sent_is_given_back,
    budgets_are_kept_by_organization_and_operation,
    a_write_is_tried_and_leaves_one_row,
);
