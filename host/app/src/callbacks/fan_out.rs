//! Fanning out: due events become messages and deliveries, a batch of events in one transaction.

use std::collections::BTreeSet;

use futures::{StreamExt, stream};
use tracing::{Instrument, warn};
use wharf_domain::{Backoff, DeliveryId, Time};
use wharf_store::{
    StoreError,
    endpoints::{self, Listening},
    outbox::{self, Claimed, FanOut, NewDelivery},
};

use super::{MAX_BATCH, shape::Unshaped};
use crate::{App, entropy::new_id, failpoint, trace};

/// Events of a batch that are shaped at a time. A batch must not take all the room that plugins have.
const MAX_SHAPINGS: usize = 8;

/// Fans out a batch of due events. Returns how many there were.
pub(super) async fn batch(app: &App) -> Result<usize, StoreError> {
    let now = app.0.clock.now();
    let claimed = claim(app, now).await?;
    if claimed.is_empty() {
        return Ok(0);
    }
    let listening = listening(app, &claimed).await?;
    let listening = &listening;
    let shapings = claimed.into_iter().map(|claimed| async move {
        let wanted = endpoints_of(&claimed, listening);
        let span = trace::fan_out(&claimed);
        shape_for(app, claimed, &wanted, now).instrument(span).await
    });
    let events: Vec<FanOut> = stream::iter(shapings)
        .buffer_unordered(MAX_SHAPINGS)
        .collect()
        .await;
    // Begun after the shaping: no transaction is open during calls of plugins.
    let mut tx = app.0.ledger.begin().await?;
    let written = outbox::fan_out(&mut tx, &events, now).await?;
    failpoint::pass("fanout.commit.before");
    tx.commit().await?;
    failpoint::pass("fanout.commit.after");
    app.0.metrics.fanned_out(&events, written);
    Ok(events.len())
}

async fn claim(app: &App, now: Time) -> Result<Vec<Claimed>, StoreError> {
    let limit = i64::try_from(MAX_BATCH).unwrap_or(i64::MAX);
    let mut conn = app.0.ledger.write().await?;
    outbox::claim(&mut conn, app.0.settings.lease, limit, now).await
}

/// The endpoints that want any of these events.
async fn listening(app: &App, claimed: &[Claimed]) -> Result<Vec<Listening>, StoreError> {
    // A batch mostly repeats a few organizations and kinds, so each pair is asked for once.
    let wanted: BTreeSet<(&str, &str)> = claimed
        .iter()
        .map(|c| (c.event.organization_id.as_str(), c.event.kind.as_str()))
        .collect();
    let wanted: Vec<_> = wanted.into_iter().collect();
    endpoints::listening(&mut app.0.ledger.read().await?, &wanted).await
}

fn endpoints_of<'l>(claimed: &Claimed, listening: &'l [Listening]) -> Vec<&'l Listening> {
    let (organization, kind) = (claimed.event.organization_id.as_str(), &claimed.event.kind);
    listening
        .iter()
        .filter(|l| l.organization_id == organization && &l.event == kind)
        .collect()
}

/// Shapes an event once per shaper that its endpoints want. Endpoints whose shaper is out of service get their delivery
/// when it is back; the others do not wait for it.
async fn shape_for(app: &App, claimed: Claimed, endpoints: &[&Listening], now: Time) -> FanOut {
    let (mut messages, mut deliveries, mut again) = (Vec::new(), Vec::new(), None);
    let shapers: BTreeSet<&str> = endpoints.iter().map(|e| e.shaper.as_str()).collect();
    for shaper in shapers {
        let dead = match app.shape(shaper, &claimed.event).await {
            Ok(message) => {
                messages.push(message);
                None
            }
            Err(Unshaped::Refused(why)) => Some(why),
            Err(Unshaped::OutOfService(why)) => {
                warn!(outboxId = %claimed.event.id, shaper, why, "event cannot be shaped now");
                again = Some((now + Backoff::FAN_OUT.after(claimed.attempt), why));
                continue;
            }
        };
        let theirs = endpoints.iter().filter(|e| e.shaper == shaper);
        deliveries.extend(theirs.map(|endpoint| NewDelivery {
            id: DeliveryId(new_id(now)),
            endpoint_id: endpoint.id,
            shaper: shaper.into(),
            dead: dead.clone(),
        }));
    }
    FanOut {
        claimed,
        messages,
        deliveries,
        again,
    }
}
