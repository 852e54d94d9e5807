//! Sets of rows as parameters.

use std::borrow::Cow;

use serde_json::Value;
use uuid::Uuid;
use wharf_domain::{Amount, Time};

use crate::{Backend, Conn};

/// A set of rows as one parameter: a JSON array of objects that the statement reads as a table (`rows(...)`).
pub(crate) struct Rows {
    backend: Backend,
    /// Written as it is filled: a tree of all values would cost several allocations for each.
    json: Vec<u8>,
}

impl Rows {
    pub(crate) fn new(conn: &Conn) -> Self {
        Self {
            backend: conn.backend(),
            json: Vec::new(),
        }
    }

    /// Begins the next row; the column functions below fill it.
    pub(crate) fn push(&mut self) -> &mut Self {
        self.json
            .extend_from_slice(if self.is_empty() { b"[{" } else { b"},{" });
        self
    }

    fn set(&mut self, column: &str, value: Value) -> &mut Self {
        if self.json.last() != Some(&b'{') {
            self.json.push(b',');
        }
        // Texts and plain values always serialize, and a vector takes everything.
        let _ = serde_json::to_writer(&mut self.json, column);
        self.json.push(b':');
        let _ = serde_json::to_writer(&mut self.json, &value);
        self
    }

    pub(crate) fn uuid(&mut self, column: &str, id: impl Into<Option<Uuid>>) -> &mut Self {
        // Without hyphens: SQLite's `unhex` takes none, and PostgreSQL reads both forms.
        let text = id.into().map(|id| id.simple().to_string());
        self.set(column, text.into())
    }

    pub(crate) fn text<'t>(&mut self, column: &str, text: impl Into<Option<&'t str>>) -> &mut Self {
        self.set(column, text.into().map(without_nul).into())
    }

    pub(crate) fn int(&mut self, column: &str, number: impl Into<Option<i64>>) -> &mut Self {
        self.set(column, number.into().into())
    }

    pub(crate) fn time(&mut self, column: &str, at: impl Into<Option<Time>>) -> &mut Self {
        let value = match (at.into(), self.backend) {
            (None, _) => Value::Null,
            (Some(at), Backend::Sqlite) => at.as_micros().into(),
            // With all six digits: less would move a time that is compared with itself later.
            (Some(at), Backend::Postgres) => at.to_exact_text().into(),
        };
        self.set(column, value)
    }

    pub(crate) fn json(&mut self, column: &str, value: Value) -> &mut Self {
        self.set(column, value)
    }

    pub(crate) fn bytes(&mut self, column: &str, bytes: &[u8]) -> &mut Self {
        let mut text = String::with_capacity(2 + 2 * bytes.len());
        // The cast from JSON's text to `bytea` reads hex after this mark; SQLite has `unhex`.
        if self.backend == Backend::Postgres {
            text.push_str("\\x");
        }
        for byte in bytes {
            text.extend(
                [byte >> 4, byte & 15]
                    .map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)])),
            );
        }
        self.set(column, text.into())
    }

    pub(crate) fn money(&mut self, column: &str, amount: Option<Amount>) -> &mut Self {
        // As text: a JSON number would pass through a float.
        self.set(column, amount.map(|amount| amount.to_string()).into())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.json.is_empty()
    }

    pub(crate) fn to_json(&self) -> String {
        let ends = if self.is_empty() { "[]" } else { "}]" };
        // What serde_json writes is UTF-8.
        let rows = str::from_utf8(&self.json).unwrap_or_default();
        [rows, ends].concat()
    }
}

/// PostgreSQL keeps no NUL in a text, and what a marketplace, a plugin or a receiver said may hold one.
pub(crate) fn without_nul(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        text.replace('\0', "\u{fffd}").into()
    } else {
        text.into()
    }
}
