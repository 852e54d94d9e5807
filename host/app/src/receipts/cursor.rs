//! Places in lists of receipts, as texts that clients hand back.

use std::fmt;

use uuid::Uuid;
use wharf_domain::Time;
use wharf_store::logs::LogCursor;

/// The year 2286, in sixteen digits: what clients hand back must not lead beyond what databases can hold.
const MAX_TIME: Time = Time::from_micros(9_999_999_999_999_999);

/// The place where a list goes on: a time and an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListCursor(LogCursor);

impl From<ListCursor> for LogCursor {
    fn from(cursor: ListCursor) -> Self {
        cursor.0
    }
}

impl From<LogCursor> for ListCursor {
    fn from(cursor: LogCursor) -> Self {
        Self(cursor)
    }
}

impl ListCursor {
    /// Reads the text of a cursor; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (at, id) = text.split_once('.')?;
        let cursor = Self(LogCursor {
            at: time(at)?,
            id: id.parse::<Uuid>().ok()?,
        });
        // In no other form: what is asked for again is what was given out.
        (cursor.to_string() == text).then_some(cursor)
    }
}

impl fmt::Display for ListCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0.at.as_micros(), self.0.id)
    }
}

fn time(text: &str) -> Option<Time> {
    let time = text.parse().ok().map(Time::from_micros)?;
    (Time::from_micros(0)..=MAX_TIME)
        .contains(&time)
        .then_some(time)
}

/// The place where a redrive goes on that was too long for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedriveCursor {
    /// The time when what comes next is due, so that the rate holds over all requests together.
    pub(super) due_at: Time,
    pub(super) place: ListCursor,
}

impl RedriveCursor {
    /// Reads the text of a cursor; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (due_at, place) = text.split_once('.')?;
        let cursor = Self {
            due_at: time(due_at)?,
            place: ListCursor::parse(place)?,
        };
        (cursor.to_string() == text).then_some(cursor)
    }
}

impl fmt::Display for RedriveCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.due_at.as_micros(), self.place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_come_back_as_they_went() {
        let at = Time::from_micros(5);
        let id = Uuid::from_u128(7);
        let list = ListCursor(LogCursor { at, id });
        assert_eq!(ListCursor::parse(&list.to_string()), Some(list));
        let redrive = RedriveCursor {
            due_at: Time::from_micros(9),
            place: list,
        };
        assert_eq!(RedriveCursor::parse(&redrive.to_string()), Some(redrive));
        let id = "00000000-0000-0000-0000-000000000007";
        for wrong in [
            String::new(),
            "5".into(),
            format!("05.{id}"),
            format!("-5.{id}"),
            format!("99999999999999999.{id}"),
            format!("5.{}", id.replace('-', "")),
        ] {
            assert_eq!(ListCursor::parse(&wrong), None, "{wrong}");
            let wrong = format!("9.{wrong}");
            assert_eq!(RedriveCursor::parse(&wrong), None, "{wrong}");
        }
    }
}
