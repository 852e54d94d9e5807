//! Fanning out: due events become messages and deliveries, page by page of their endpoints, several events in one
//! transaction. An event that failed before is tried alone, so that it takes nobody down with it.

use std::collections::BTreeSet;

use futures::{StreamExt, stream};
use tracing::{Instrument, warn};
use wharf_domain::{Backoff, DeliveryId, EndpointId, EventId, Time};
use wharf_store::{
    StoreError,
    endpoints::{self, Listening, ListeningPage},
    outbox::{self, Claimed, FanOut, NewDelivery, Next, Place},
};

use super::{MAX_BATCH, shape::Unshaped};
use crate::{App, entropy::new_id, failpoint, trace};

/// An event on which shapers failed this often becomes a dead letter for the endpoints that want the shape.
const MAX_SHAPER_FAULTS: i64 = 5;
/// Events of a batch that are shaped at a time. A batch must not take all the room that plugins have.
const MAX_SHAPINGS: usize = 8;
/// Deliveries that one transaction makes, of all its events together: some ten milliseconds of a database, which
/// SQLite's other writers wait for.
const MAX_DELIVERIES: usize = 500;
/// Events that are tried alone at a time: each holds a connection for as long as the database takes to refuse it.
const MAX_ALONE: usize = 4;

/// Fans out a page of each of a batch of due events. Returns how many there were.
pub(super) async fn batch(app: &App) -> Result<usize, StoreError> {
    let now = app.0.clock.now();
    let claimed = claim(app, now).await?;
    let events = claimed.len();
    let (together, alone): (Vec<_>, Vec<_>) = claimed
        .into_iter()
        .partition(|claimed| claimed.attempt <= 1);
    // First: these came with nothing said against them.
    try_together(app, together, now).await?;
    let mut tries = stream::iter(alone)
        .map(|claimed| try_together(app, vec![claimed], now))
        .buffer_unordered(MAX_ALONE);
    let mut result = Ok(events);
    while let Some(tried) = tries.next().await {
        // All are tried: each is leased to us, whatever became of the others.
        result = result.and_then(|events| tried.map(|()| events));
    }
    result
}

async fn claim(app: &App, now: Time) -> Result<Vec<Claimed>, StoreError> {
    let limit = i64::try_from(MAX_BATCH).unwrap_or(i64::MAX);
    let mut conn = app.0.ledger.write().await?;
    outbox::claim(&mut conn, app.0.settings.lease, limit, now).await
}

/// Fans events out in one transaction; if it fails, puts each of them off.
async fn try_together(app: &App, events: Vec<Claimed>, now: Time) -> Result<(), StoreError> {
    if events.is_empty() {
        return Ok(());
    }
    match fan_out(app, &events, now).await {
        Ok(()) => Ok(()),
        Err(error) => postpone(app, &events, &error, now).await,
    }
}

async fn postpone(
    app: &App,
    events: &[Claimed],
    error: &StoreError,
    now: Time,
) -> Result<(), StoreError> {
    let later = |claimed: &Claimed| now + Backoff::FAN_OUT.after(claimed.attempt);
    let put_off: Vec<_> = events.iter().map(|one| (one, later(one))).collect();
    for claimed in events {
        let cause = error as &dyn std::error::Error;
        warn!(
            outboxId = %claimed.event.id, attempt = claimed.attempt, error = cause,
            "event cannot be fanned out; it is tried alone later"
        );
    }
    let mut conn = app.0.ledger.write().await?;
    outbox::postpone(&mut conn, &put_off, &error.to_string(), now).await
}

async fn fan_out(app: &App, claimed: &[Claimed], now: Time) -> Result<(), StoreError> {
    let pages = pages(app, claimed).await?;
    let shaped = stored_shapes(app, claimed).await?;
    let shaped = &shaped;
    let shapings = claimed.iter().cloned().zip(pages);
    let shapings = shapings.map(|(claimed, page)| async move {
        let span = trace::fan_out(&claimed);
        shape_for(app, claimed, page, shaped, now)
            .instrument(span)
            .await
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
    Ok(())
}

/// Endpoints of one event that get their deliveries now.
struct Page {
    endpoints: Vec<Listening>,
    is_last: bool,
}

impl Page {
    /// Empty where the endpoint is disabled or gone.
    fn of_one(alone: &[Listening], id: EndpointId) -> Self {
        Self {
            endpoints: alone.iter().filter(|one| one.id == id).cloned().collect(),
            is_last: true,
        }
    }
}

/// The next page of each event's endpoints, together no more than [`MAX_DELIVERIES`].
async fn pages(app: &App, claimed: &[Claimed]) -> Result<Vec<Page>, StoreError> {
    let wanted: Vec<ListeningPage<'_>> = claimed.iter().map(page_of).collect();
    // A batch mostly repeats a few organizations and kinds, so each page is asked for once.
    let distinct: BTreeSet<_> = wanted.iter().copied().collect();
    let distinct: Vec<_> = distinct.into_iter().collect();
    let mut conn = app.0.ledger.read().await?;
    let found = endpoints::listening(&mut conn, &distinct, MAX_DELIVERIES).await?;
    let only = claimed.iter().filter_map(|claimed| claimed.only);
    let only: Vec<EndpointId> = only.map(|only| only.endpoint).collect();
    let alone = match only.is_empty() {
        true => Vec::new(),
        false => endpoints::active(&mut conn, only).await?,
    };
    let found_for = |page| {
        distinct
            .binary_search(page)
            .map_or(&[][..], |at| &found[at])
    };
    let numbers: Vec<usize> = wanted.iter().map(|page| found_for(page).len()).collect();
    let pages = wanted.iter().zip(divide(&numbers)).map(|(page, share)| {
        let found = found_for(page);
        Page {
            endpoints: found[..share].to_vec(),
            // A full page may have been the last: then the next is empty.
            is_last: share == found.len() && found.len() < MAX_DELIVERIES,
        }
    });
    let pages = claimed.iter().zip(pages);
    Ok(pages
        .map(|(claimed, page)| match claimed.only {
            Some(only) => Page::of_one(&alone, only.endpoint),
            None => page,
        })
        .collect())
}

fn page_of(claimed: &Claimed) -> ListeningPage<'_> {
    ListeningPage {
        organization: claimed.event.organization_id.as_str(),
        event: &claimed.event.kind,
        after: claimed.place.after,
    }
}

/// Divides [`MAX_DELIVERIES`] between events that want so many. Whoever wants little gets all of it: one large
/// organization takes no more than what the others leave.
fn divide(wanted: &[usize]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by_key(|event| wanted[*event]);
    let (mut shares, mut left) = (vec![0; wanted.len()], MAX_DELIVERIES);
    for (served, event) in order.into_iter().enumerate() {
        shares[event] = wanted[event].min(left / (wanted.len() - served));
        left -= shares[event];
    }
    shares
}

/// The shapes that earlier pages and tries of these events have stored. Events at their first page have nothing.
async fn stored_shapes(
    app: &App,
    claimed: &[Claimed],
) -> Result<BTreeSet<(EventId, String)>, StoreError> {
    let is_first = |claimed: &Claimed| claimed.attempt <= 1 && claimed.place == Place::default();
    let begun: Vec<EventId> = claimed
        .iter()
        .filter(|claimed| !is_first(claimed))
        .map(|claimed| claimed.event.id)
        .collect();
    if begun.is_empty() {
        return Ok(BTreeSet::new());
    }
    let shaped = outbox::shaped(&mut app.0.ledger.read().await?, begun).await?;
    Ok(shaped.into_iter().collect())
}

/// Shapes an event once per shaper that the endpoints of the page want. Endpoints whose shaper is out of service get
/// their delivery when it is back; the others do not wait for it.
async fn shape_for(
    app: &App,
    claimed: Claimed,
    page: Page,
    shaped: &BTreeSet<(EventId, String)>,
    now: Time,
) -> FanOut {
    let (mut deferred, mut shaper_faults) = (claimed.place.deferred.clone(), claimed.shaper_faults);
    let (mut messages, mut deliveries) = (Vec::new(), Vec::new());
    // What an earlier page of this walk found missing is missing still.
    let mut waits_for: BTreeSet<String> = match (&deferred, &claimed.waits_for) {
        (Some(_), Some(names)) => names.split(',').map(str::to_owned).collect(),
        _ => BTreeSet::new(),
    };
    let shapers: BTreeSet<&str> = page.endpoints.iter().map(|e| e.shaper.as_str()).collect();
    for shaper in shapers {
        let dead = if shaped.contains(&(claimed.event.id, shaper.to_owned())) {
            None
        } else {
            match app.shape(shaper, &claimed.event).await {
                Ok(message) => {
                    messages.push(message);
                    None
                }
                Err(Unshaped::Refused(why)) => Some(why),
                // It may be the event's own, so it is not tried for ever.
                Err(Unshaped::Faulted(why)) if shaper_faults + 1 >= MAX_SHAPER_FAULTS => {
                    shaper_faults += 1;
                    warn!(outboxId = %claimed.event.id, shaper, why, "the shaper fails on an event");
                    // Without the plugin's words: clients read it, and a trap names what is inside.
                    Some(format!(
                        "the plugin {shaper} failed {shaper_faults} times on this event"
                    ))
                }
                Err(Unshaped::Faulted(why)) => {
                    warn!(outboxId = %claimed.event.id, shaper, why, "the shaper failed on an event");
                    (shaper_faults, deferred) = (shaper_faults + 1, Some(why));
                    waits_for.insert(shaper.to_owned());
                    continue;
                }
                Err(Unshaped::OutOfService(why)) => {
                    warn!(outboxId = %claimed.event.id, shaper, why, "event cannot be shaped now");
                    deferred = Some(why);
                    waits_for.insert(shaper.to_owned());
                    continue;
                }
            }
        };
        let theirs = page.endpoints.iter().filter(|e| e.shaper == shaper);
        deliveries.extend(theirs.map(|endpoint| {
            NewDelivery {
                id: claimed
                    .only
                    .map_or_else(|| DeliveryId(new_id(now)), |only| only.delivery),
                endpoint_id: endpoint.id,
                shaper: shaper.into(),
                dead: dead.clone(),
            }
        }));
    }
    // While plugins are being loaded, what is missing is soon there: the waits do not grow.
    let tries = if app.is_loading() { 1 } else { claimed.attempt };
    let next = next(
        &claimed,
        &page,
        deferred,
        now + Backoff::FAN_OUT.after(tries),
    );
    let waits_for: Vec<String> = waits_for.into_iter().collect();
    FanOut {
        claimed,
        messages,
        deliveries,
        shaper_faults,
        waits_for: (!waits_for.is_empty()).then(|| waits_for.join(",")),
        next,
    }
}

fn next(claimed: &Claimed, page: &Page, deferred: Option<String>, later: Time) -> Next {
    match deferred {
        deferred if !page.is_last => Next::Page(Place {
            after: page
                .endpoints
                .last()
                .map_or(claimed.place.after, |last| Some(last.id)),
            deferred,
        }),
        Some(why) => Next::Again(later, why),
        None => Next::Done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_wants_little_gets_all_of_it() {
        for (wanted, shares) in [
            (vec![], vec![]),
            (vec![3, 0, 2], vec![3, 0, 2]),
            (vec![500], vec![500]),
            (vec![500, 1, 500], vec![249, 1, 250]),
            (vec![500, 500], vec![250, 250]),
        ] {
            assert_eq!(divide(&wanted), shares, "{wanted:?}");
        }
        let mut crowd = vec![500; MAX_BATCH];
        crowd[7] = 5;
        let shares = divide(&crowd);
        assert_eq!(shares[7], 5);
        assert!(shares.iter().sum::<usize>() <= MAX_DELIVERIES);
        assert!(shares.iter().all(|share| *share > 0), "all go on");
    }
}
