//! The health of endpoints: ten failures in a row pause one, one success ends that, failing for too long disables it.

use std::collections::BTreeMap;

use wharf_domain::{BatchOutcome, EndpointId, Time, update_health};
use wharf_store::{
    StoreError, Tx,
    endpoints::{self, HealthUpdate},
};

use super::settle::Report;
use crate::App;

/// Updates the health of the endpoints that a batch tells something new of. Returns those that it disabled, and why.
pub(super) async fn update(
    app: &App,
    tx: &mut Tx,
    reports: &[Report],
    now: Time,
) -> Result<Vec<(EndpointId, String)>, StoreError> {
    let outcomes = outcomes(reports);
    if outcomes.is_empty() {
        return Ok(Vec::new());
    }
    let limit = app.0.settings.callbacks.disable_after;
    // Read under the lock: two workers that settle failures of one endpoint must both be counted.
    let locked = endpoints::lock_health(tx, outcomes.keys().copied()).await?;
    let updates = locked.into_iter().filter_map(|(id, was)| {
        let (health, reason) = update_health(was, outcomes[&id], limit, now);
        (health != was || reason.is_some()).then(|| HealthUpdate {
            id,
            health,
            disabled: reason.map(|reason| reason.to_string()),
        })
    });
    let updates: Vec<HealthUpdate> = updates.collect();
    endpoints::save_health(tx, &updates, now).await?;
    let disabled = |update: HealthUpdate| Some((update.id, update.disabled?));
    Ok(updates.into_iter().filter_map(disabled).collect())
}

/// By endpoint, those that are active and whose health may change.
fn outcomes(reports: &[Report]) -> BTreeMap<EndpointId, BatchOutcome> {
    let mut outcomes = BTreeMap::<EndpointId, BatchOutcome>::new();
    // Attempts at a disabled endpoint are refused by us and say nothing of it.
    let active = reports.iter().filter(|r| r.claimed.endpoint_is_active);
    for Report {
        claimed, outcome, ..
    } in active
    {
        let batch = outcomes.entry(claimed.endpoint_id).or_default();
        batch.add(*outcome, claimed.endpoint_is_failing);
    }
    // An endpoint that does well and did before needs no write.
    outcomes.retain(|_, batch| batch.may_change_health());
    outcomes
}
