//! The walk of a recovery: first over dead letters, then over missed events, as far as one request may go.

use std::{fmt, time::Duration};

use uuid::Uuid;
use wharf_domain::{Clock, DeliveryId, Event, Time};
use wharf_store::resend::EventCursor;

use super::Redrive;

/// Transactions of one request that give dead letters a second chance, 10,000 letters in all.
const MAX_LETTER_PAGES: usize = 100;
/// Reads of one request that look for dead letters, 100,000 letters in all.
const MAX_LOOKS: usize = 100;
/// Pages of missed events of one request, 640 events in all. Each costs a call of a plugin.
const MAX_EVENT_PAGES: usize = 10;
/// No page begins later than this: whoever asked waits for the answer.
const MAX_TIME: Duration = Duration::from_secs(10);
/// The year 2286, in sixteen digits: what clients hand back must not lead beyond what databases can hold.
const MAX_CURSOR: Time = Time::from_micros(9_999_999_999_999_999);

/// The place where a recovery goes on that was too long for one request. It is also a text that clients hand back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveryCursor {
    place: Place,
    /// The time when what comes next is due, so that the rate holds over all requests together.
    due_at: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Behind this dead letter. Letters go by id, so that one that dies again meanwhile is not met twice.
    Letters(Uuid),
    /// Behind the event of this time and id.
    Events(Time, Uuid),
}

impl RecoveryCursor {
    /// True while there may be dead letters left.
    pub(super) fn is_at_letters(self) -> bool {
        matches!(self.place, Place::Letters(_))
    }

    /// Reads the text of a cursor; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let mut time = || parts.next()?.parse().ok().map(Time::from_micros);
        let (due_at, happened_at) = (time()?, time());
        let id = parts.next()?.parse().ok()?;
        let place = match happened_at {
            Some(at) => Place::Events(at, id),
            None => Place::Letters(id),
        };
        let cursor = Self { place, due_at };
        let times = Time::from_micros(0)..=MAX_CURSOR;
        let is_in_time =
            times.contains(&due_at) && happened_at.is_none_or(|at| times.contains(&at));
        // In no other form: what is asked for again is what was given out.
        (is_in_time && cursor.to_string() == text).then_some(cursor)
    }
}

impl fmt::Display for RecoveryCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let due_at = self.due_at.as_micros();
        match self.place {
            Place::Letters(id) => write!(f, "{due_at}.letters.{id}"),
            Place::Events(at, id) => write!(f, "{due_at}.{}.{id}", at.as_micros()),
        }
    }
}

/// The walk of one request.
pub(super) struct RecoveryWalk {
    since: Time,
    place: Option<Place>,
    due_at: Time,
    interval: Duration,
    pages: usize,
    looks: usize,
    until: Duration,
}

impl RecoveryWalk {
    pub(super) fn new(how: Redrive, clock: &dyn Clock) -> Self {
        let per_minute = how
            .per_minute
            .map(|rate| u32::try_from(rate.max(1)).unwrap_or(u32::MAX));
        let now = clock.now();
        Self {
            since: how.since,
            place: Some(
                how.from
                    .map_or(Place::Letters(Uuid::nil()), |from| from.place),
            ),
            // Never in the past: whoever comes back late would have all that the gap holds sent at once.
            due_at: how.from.map_or(now, |from| from.due_at.max(now)),
            // Not rounded to milliseconds: at 600,000 a minute two follow within 100 us.
            interval: per_minute.map_or(Duration::ZERO, |rate| Duration::from_secs(60) / rate),
            pages: 0,
            looks: 0,
            until: clock.elapsed() + MAX_TIME,
        }
    }

    /// The place of the next page of letters; `None` if there is none, or this request has done enough.
    pub(super) fn letters(&mut self, clock: &dyn Clock) -> Option<DeliveryId> {
        let Some(Place::Letters(after)) = self.place else {
            return None;
        };
        let has_room = self.looks < MAX_LOOKS && clock.elapsed() < self.until;
        self.looks += usize::from(has_room);
        has_room.then_some(DeliveryId(after))
    }

    /// True if some of the letters at this place may be given their chance by this request.
    pub(super) fn may_revive(&mut self, clock: &dyn Clock) -> bool {
        let has_room = self.has_room(MAX_LETTER_PAGES, clock);
        if !has_room {
            // Nor is there a reason to look for more.
            self.looks = MAX_LOOKS;
        }
        has_room
    }

    /// True while there may be dead letters left.
    pub(super) fn is_at_letters(&self) -> bool {
        matches!(self.place, Some(Place::Letters(_)))
    }

    /// Goes on behind the last letter of a page; none was found: the letters are through.
    pub(super) fn passed_letters(&mut self, last: Option<DeliveryId>) {
        self.place = Some(match last {
            Some(last) => Place::Letters(last.0),
            None => {
                // Events have a bound of their own, because they cost more than letters.
                self.pages = 0;
                let (at, id) = EventCursor::at(self.since).parts();
                Place::Events(at, id)
            }
        });
    }

    /// The place of the next page of missed events; `None` if there is none, or this request has done enough.
    pub(super) fn missed(&mut self, clock: &dyn Clock) -> Option<EventCursor> {
        let Some(Place::Events(at, id)) = self.place else {
            return None;
        };
        self.has_room(MAX_EVENT_PAGES, clock)
            .then_some(EventCursor::from_parts(at, id))
    }

    /// Goes on behind the last event of a page; none was found: the walk is complete.
    pub(super) fn passed_events(&mut self, last: Option<&Event>) {
        self.place = last.map(|last| {
            let (at, id) = EventCursor::behind(last).parts();
            Place::Events(at, id)
        });
    }

    /// The time when the next delivery is due.
    pub(super) fn next_due(&mut self) -> Time {
        let at = self.due_at;
        self.due_at = at + self.interval;
        at
    }

    /// The place where the next request goes on.
    pub(super) fn next(&self) -> Option<RecoveryCursor> {
        let due_at = self.due_at;
        self.place.map(|place| RecoveryCursor { place, due_at })
    }

    fn has_room(&mut self, max_pages: usize, clock: &dyn Clock) -> bool {
        let has_room = self.pages < max_pages && clock.elapsed() < self.until;
        self.pages += usize::from(has_room);
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_went() {
        let id = Uuid::from_u128(7);
        let due_at = Time::from_micros(5);
        for place in [Place::Letters(id), Place::Events(Time::from_micros(3), id)] {
            let cursor = RecoveryCursor { place, due_at };
            assert_eq!(RecoveryCursor::parse(&cursor.to_string()), Some(cursor));
        }
        for wrong in [
            "",
            "5",
            "5.3",
            "x.3.0",
            "05.3.00000000-0000-0000-0000-000000000007",
            "5.letters.z",
        ] {
            assert_eq!(RecoveryCursor::parse(wrong), None, "{wrong}");
        }
    }
}
