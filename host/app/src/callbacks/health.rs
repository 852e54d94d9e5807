//! The health of endpoints: ten failures in a row pause one, one success ends that, failing for too long disables it.

use std::collections::{BTreeMap, BTreeSet};

use wharf_domain::{BatchOutcome, EndpointId, SendOutcome, Time, update_health};
use wharf_store::{
    StoreError, Tx,
    endpoints::{self, HealthUpdate},
};

use super::settle::Report;
use crate::{App, operator};

/// Characters of an error that are kept with its endpoint.
const MAX_ERROR: usize = 500;

/// What a batch has done to the health of endpoints.
#[derive(Default)]
pub(super) struct HealthChange {
    /// Those that it disabled, and why.
    pub(super) disabled: Vec<(EndpointId, String)>,
    /// Events that tell the operator so.
    pub(super) told: usize,
}

/// Updates the health of the endpoints that a batch tells something new of.
pub(super) async fn update(
    app: &App,
    tx: &mut Tx,
    reports: &[Report],
    now: Time,
) -> Result<HealthChange, StoreError> {
    let outcomes = outcomes(reports);
    if outcomes.is_empty() {
        return Ok(HealthChange::default());
    }
    let limit = app.0.settings.callbacks.disable_after;
    // Read under the lock: two workers that settle failures of one endpoint must both be counted.
    let ids: BTreeSet<EndpointId> = outcomes.keys().map(|(id, _)| *id).collect();
    let locked = endpoints::lock_health(tx, ids).await?;
    let updates = locked.into_iter().filter_map(|locked| {
        // None of this generation: they tell of a URL that the endpoint has left, or of a time before it was enabled.
        let batch = *outcomes.get(&(locked.id, locked.generation))?;
        let was = locked.health;
        let (health, reason) = update_health(was, batch, limit, now);
        (health != was || reason.is_some()).then(|| HealthUpdate {
            id: locked.id,
            health,
            last_error: last_error(reports, locked.id)
                .filter(|_| health.failing_since.is_some() || reason.is_some()),
            disabled: reason.map(|reason| reason.to_string()),
        })
    });
    let updates: Vec<HealthUpdate> = updates.collect();
    endpoints::save_health(tx, &updates, now).await?;
    let told = operator::tell_of_disabled(tx, &updates, now).await?;
    let disabled = |update: HealthUpdate| Some((update.id, update.disabled?));
    let disabled = updates.into_iter().filter_map(disabled).collect();
    Ok(HealthChange { disabled, told })
}

/// What the last of an endpoint's failed attempts met, in the operator's words.
fn last_error(reports: &[Report], endpoint: EndpointId) -> Option<String> {
    let theirs = reports.iter().filter(|r| r.claimed.endpoint_id == endpoint);
    let mut errors = theirs.filter_map(|report| {
        let error = report.cause.as_ref().or(report.attempt.error.as_ref())?;
        Some(error.chars().take(MAX_ERROR).collect())
    });
    errors.next_back()
}

/// By endpoint and generation, those that are active and whose health may change.
fn outcomes(reports: &[Report]) -> BTreeMap<(EndpointId, i64), BatchOutcome> {
    let mut outcomes = BTreeMap::<_, BatchOutcome>::new();
    // Attempts at a disabled endpoint are refused by us and say nothing of it.
    let active = reports.iter().filter(|r| r.claimed.endpoint_is_active);
    for Report {
        claimed, outcome, ..
    } in active
    {
        let sent_under = (claimed.endpoint_id, claimed.endpoint_generation);
        let batch = outcomes.entry(sent_under).or_default();
        batch.add(*outcome, claimed.endpoint_is_failing);
    }
    // An endpoint that does well and did before needs no write.
    outcomes.retain(|_, batch| batch.may_change_health());
    outcomes
}

/// Turns "gone" into a failure where the endpoint has another URL by now: its new receiver gets the delivery.
pub(super) async fn forgive_former_urls(
    app: &App,
    reports: &mut [Report],
) -> Result<(), StoreError> {
    let is_gone = |report: &Report| report.outcome == SendOutcome::Gone;
    let ids: BTreeSet<EndpointId> = reports
        .iter()
        .filter(|report| is_gone(report))
        .map(|report| report.claimed.endpoint_id)
        .collect();
    // Few receivers say so, and the others pay nothing for it.
    if ids.is_empty() {
        return Ok(());
    }
    let present = endpoints::generations(&mut app.0.ledger.read().await?, ids).await?;
    let is_present = |report: &Report| {
        let claimed = &report.claimed;
        present.contains(&(claimed.endpoint_id, claimed.endpoint_generation))
    };
    for report in reports {
        if is_gone(report) && !is_present(report) {
            report.outcome = SendOutcome::Failed { retry_after: None };
        }
    }
    Ok(())
}
