//! The health of endpoints: ten failures in a row pause one, one success ends that, failing for too long disables it.

use std::collections::BTreeMap;

use wharf_domain::{EndpointId, Health, SendOutcome, Time};
use wharf_store::{StoreError, Tx, endpoints};

use super::settle::Report;
use crate::App;

/// What a batch says of one endpoint.
#[derive(Default)]
struct Showing {
    succeeded: bool,
    failed: i64,
    gone: bool,
    was_failing: bool,
}

impl Showing {
    /// An endpoint that does well and did before needs no write.
    fn is_news(&self) -> bool {
        self.failed > 0 || self.gone || self.was_failing
    }
}

/// Updates the health of the endpoints that a batch tells something new of. Returns those that it disabled, and why.
pub(super) async fn update(
    app: &App,
    tx: &mut Tx,
    reports: &[Report],
    now: Time,
) -> Result<Vec<(EndpointId, String)>, StoreError> {
    let showings = showings(reports);
    if showings.is_empty() {
        return Ok(Vec::new());
    }
    let limit = app.0.settings.callbacks.disable_after;
    let judge = |id, was: Health| {
        let showing = &showings[&id];
        let is = was.after(showing.succeeded, showing.failed, now);
        let reason = match is.failing_since {
            _ if showing.gone => Some("the receiver answered 410 Gone".to_owned()),
            Some(since) if is.is_beyond_hope(limit, now) => Some(format!(
                "no attempt has succeeded since {since}: {} failed",
                is.failures
            )),
            _ => None,
        };
        (is, reason)
    };
    endpoints::nurse(tx, showings.keys().copied(), judge, now).await
}

/// By endpoint, those that are active and whose health may change.
fn showings(reports: &[Report]) -> BTreeMap<EndpointId, Showing> {
    let mut showings = BTreeMap::<EndpointId, Showing>::new();
    let active = reports.iter().filter(|r| r.claimed.endpoint_is_active);
    for Report {
        claimed, outcome, ..
    } in active
    {
        let showing = showings.entry(claimed.endpoint_id).or_default();
        showing.was_failing |= claimed.endpoint_is_failing;
        match outcome {
            SendOutcome::Accepted => showing.succeeded = true,
            SendOutcome::Failed { .. } | SendOutcome::Hopeless => showing.failed += 1,
            SendOutcome::Gone => showing.gone = true,
        }
    }
    showings.retain(|_, showing| showing.is_news());
    showings
}
