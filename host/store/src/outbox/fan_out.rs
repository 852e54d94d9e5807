//! Fanning events out, page by page of their endpoints, behind the fence.

use uuid::Uuid;
use wharf_domain::{DeliveryState, EventId, Time, event_state};

use super::{
    Claimed, INSERT_DELIVERIES, Message, NewDelivery, Place, insert_messages, push_delivery,
    push_message,
};
use crate::{
    Conn, StoreError,
    deliveries::{aggregate, event_rows},
    dialect::statements,
    rows::Rows,
};

statements! {
    // Only the worker that still holds the fence may fan out.
    FANNED_OUT = ["update callback_outbox set due_at = r.due_at, status = r.status, last_error = r.last_error,
            fan_out_after = r.place, fan_out_deferred = r.deferred, fan_out_attempt = r.attempt,
            shaper_faults = r.shaper_faults, waits_for = r.waits_for, updated_at = r.at
        from" rows(r, id uuid, fence int, due_at time, status text, last_error text, place uuid, deferred text, attempt int,
            shaper_faults int, waits_for text, at time)
        "where callback_outbox.id = r.id and callback_outbox.fence = r.fence and callback_outbox.due_at is not null
        returning callback_outbox.id"];
    // The place stays, and so does what was written up to it.
    POSTPONE = ["update callback_outbox set due_at = r.due_at, last_error = r.last_error, updated_at = r.at
        from" rows(r, id uuid, fence int, due_at time, last_error text, at time)
        "where callback_outbox.id = r.id and callback_outbox.fence = r.fence and callback_outbox.due_at is not null"];
    SHAPED = ["select outbox_id, shaper from callback_messages where outbox_id in (select id from" rows(r, id uuid) ")"];
}

/// The next thing to do about an event after a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: every endpoint has its delivery.
    Done,
    /// The next page, behind this place.
    Page(Place),
    /// The walk begins anew at this time, for the endpoints that were left out for this reason. The others do not wait.
    Again(Time, String),
}

/// An event with everything that one page of fanning out makes of it.
pub struct FanOut {
    /// The claimed event.
    pub claimed: Claimed,
    /// One message per shaper, of those that are not [stored](shaped) yet.
    pub messages: Vec<Message>,
    /// One delivery per endpoint of the page.
    pub deliveries: Vec<NewDelivery>,
    /// Faults of shapers on this event, these included.
    pub shaper_faults: i64,
    /// The shapers that it waits for, divided by commas.
    pub waits_for: Option<String>,
    /// The next thing to do.
    pub next: Next,
}

impl FanOut {
    fn due_at(&self, now: Time) -> Option<Time> {
        match &self.next {
            Next::Done => None,
            // Behind what is due already: a long walk takes its turns with other events.
            Next::Page(_) => Some(now),
            Next::Again(at, _) => Some(*at),
        }
    }

    fn state(&self, now: Time) -> DeliveryState {
        event_state(
            self.due_at(now),
            self.deliveries.iter().map(NewDelivery::state),
        )
    }

    /// The event's error: why it waits, or why the last of its dead deliveries is dead.
    fn error(&self) -> Option<&str> {
        let waits = match &self.next {
            Next::Done => None,
            Next::Page(place) => place.deferred.as_deref(),
            Next::Again(_, why) => Some(why.as_str()),
        };
        let mut dead = self.deliveries.iter().filter_map(|new| new.dead.as_deref());
        waits.or_else(|| dead.next_back())
    }

    fn place(&self) -> Place {
        match &self.next {
            Next::Page(place) => place.clone(),
            Next::Done | Next::Again(..) => Place::default(),
        }
    }

    /// A page that was written takes back the try that it was.
    fn attempt(&self) -> i64 {
        let taken_back = matches!(self.next, Next::Page(_));
        self.claimed.attempt - i64::from(taken_back)
    }

    /// Deliveries of earlier tries and pages may be finished already: no settling will come to sum the event up.
    fn is_last_of_many(&self) -> bool {
        let is_first = self.claimed.attempt <= 1 && self.claimed.place == Place::default();
        !is_first && !matches!(self.next, Next::Page(_))
    }
}

/// Stores messages and deliveries of those events whose fence still holds, and returns their number.
///
/// Call it in a transaction of its own.
pub async fn fan_out(conn: &mut Conn, events: &[FanOut], now: Time) -> Result<usize, StoreError> {
    // The fence first: it locks the events, and what follows is written for those alone that are still ours.
    let held = write_states(conn, events, now).await?;
    let ours: Vec<&FanOut> = events
        .iter()
        .filter(|event| held.contains(&event.claimed.event.id.0))
        .collect();
    let (mut messages, mut rows, mut new) = (Rows::new(conn), Rows::new(conn), 0);
    for fan_out in &ours {
        let event = &fan_out.claimed.event;
        for message in &fan_out.messages {
            push_message(&mut messages, event.id, message);
        }
        for delivery in &fan_out.deliveries {
            let organization = &event.organization_id;
            push_delivery(&mut rows, event.id, organization, delivery, now, now);
            new += 1;
        }
    }
    insert_messages(conn, &messages).await?;
    let skipped = new > 0 && conn.query(INSERT_DELIVERIES).rows(&rows).run().await? < new;
    // An endpoint may be gone: then, too, no settling will come.
    let unsure = ours
        .iter()
        .filter(|event| skipped || event.is_last_of_many());
    let unsure = event_rows(conn, unsure.map(|event| event.claimed.event.id));
    if !unsure.is_empty() {
        aggregate(conn, &unsure).await?;
    }
    Ok(ours.len())
}

/// Writes the events' states and returns the ids of those whose fence holds.
async fn write_states(
    conn: &mut Conn,
    events: &[FanOut],
    now: Time,
) -> Result<Vec<Uuid>, StoreError> {
    let mut rows = Rows::new(conn);
    for fan_out in events {
        let place = fan_out.place();
        rows.push()
            .uuid("id", fan_out.claimed.event.id.0)
            .int("fence", fan_out.claimed.fence)
            .time("due_at", fan_out.due_at(now))
            .text("status", fan_out.state(now).as_str())
            .text("last_error", fan_out.error())
            .uuid("place", place.after.map(|id| id.0))
            .text("deferred", place.deferred.as_deref())
            .int("attempt", fan_out.attempt())
            .int("shaper_faults", fan_out.shaper_faults)
            .text("waits_for", fan_out.waits_for.as_deref())
            .time("at", now);
    }
    conn.query(FANNED_OUT).rows(&rows).ids().await
}

/// Puts events off that could not be fanned out, each to its time, where the fence still holds.
pub async fn postpone(
    conn: &mut Conn,
    events: &[(&Claimed, Time)],
    why: &str,
    now: Time,
) -> Result<(), StoreError> {
    let mut rows = Rows::new(conn);
    for (claimed, due_at) in events {
        rows.push()
            .uuid("id", claimed.event.id.0)
            .int("fence", claimed.fence)
            .time("due_at", *due_at)
            .text("last_error", why)
            .time("at", now);
    }
    conn.query(POSTPONE).rows(&rows).run().await.map(drop)
}

/// The shapers whose messages of these events are stored.
pub async fn shaped(
    conn: &mut Conn,
    events: impl IntoIterator<Item = EventId>,
) -> Result<Vec<(EventId, String)>, StoreError> {
    let mut ids = Rows::new(conn);
    for event in events {
        ids.push().uuid("id", event.0);
    }
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<(Uuid, String)> = conn.query(SHAPED).rows(&ids).all().await?;
    Ok(rows
        .into_iter()
        .map(|(event, shaper)| (EventId(event), shaper))
        .collect())
}
